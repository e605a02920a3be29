"""What an answer says: the points of a rubric that are heard in it, and common misconceptions.

    heard = Heard(rubrics.points(question), "two bytes for weights, twelve for AdamW")
    heard.said; heard.tick({0, 2}); heard.challenged(); heard.defend(2, "12 bytes"); heard.score()

Words are compared without their endings. A point is heard where the answer has at least half of
its key terms. A typed answer supports a ticked point if it shares one of them.
"""

import re
from collections.abc import Iterable, Sequence

from ftkit.base.errors import UserError
from ftkit.interview.bank import Question
from ftkit.interview.rubrics import Point, score
from ftkit.lessons.words import terms

NEGATION = re.compile(r"\b(?:not?|never|nothing|none|cannot|without|neither|nor)\b|n't\b", re.I)


class Heard:
    """The points of a rubric that an answer covers: `said`, their indices from 0.

    At first those that are heard in `answer`; afterwards those that the candidate ticks.
    """

    def __init__(self, points: Sequence[Point], answer: str = ""):
        self.points, self.answer, self.added = points, answer, ""
        self.partly: set[int] = set()  # by a grader; counts half
        self.verdicts: list[str] = []  # what a grader says, in lines
        said = terms(answer)
        self.said = {i for i, point in enumerate(points)
                     if len(terms(point.text) & said) >= max(1, len(terms(point.text)) / 2)}

    def tick(self, said: Iterable[int]):
        """Tick these points. Raises UserError for a point that does not exist."""
        wanted = set(said)
        if bad := [i for i in wanted if i not in range(len(self.points))]:
            raise UserError(f"point {bad[0]!r} does not exist; there are {len(self.points)}")
        self.said, self.partly = wanted, self.partly - wanted

    def challenged(self) -> list[int]:
        """Ticked points of which a typed answer has no key term; none if it was said aloud."""
        text = terms(f"{self.answer} {self.added}")
        return [i for i in sorted(self.said)
                if self.answer and not terms(self.points[i].text) & text]

    def challenge(self, index: int) -> str:
        """The sentence that asks where the answer has this point."""
        return f"Where did you say {index + 1}, “{self.points[index].text}”?"

    def defend(self, index: int, words: str):
        """Keep a challenged point only if these words have a key term of it."""
        self.added += f" {words}"
        if not terms(words) & terms(self.points[index].text):
            self.said.discard(index)

    def score(self) -> float:
        """Weight of the ticked points, and half of that of partly said ones, as a fraction of the
        total."""
        return score(self.points, self.said) + score(self.points, self.partly) / 2


def misconceptions(question: Question, answer: str) -> list[str]:
    """Common mistakes of this card that a sentence of the answer seems to make, each with its
    correction."""
    right = terms(f"{question.short} {question.question}")
    sentences = re.split(r"(?<=[.;:!?])\s+", answer)
    return [f"Did you mean “{wrong['answer']}”? That is wrong: {wrong['why']}"
            for wrong in question.wrong if any(_makes(wrong["answer"], right, sentence)
                                               for sentence in sentences)]


def _makes(mistake: str, right: frozenset[str], sentence: str) -> bool:
    """Whether a sentence has most terms of a mistake, above all those the right answer lacks."""
    all_terms, said = terms(mistake), terms(sentence)
    own = all_terms - right or all_terms
    return (len(own & said) >= max(1, 0.7 * len(own))
            and len(all_terms & said) >= max(1, 0.7 * len(all_terms))
            and bool(NEGATION.search(mistake)) == bool(NEGATION.search(sentence)))


def parse_points(text: str, count: int) -> set[int]:
    """The indices (from 0) of the points in a line such as `1 3`, `1,3` or `1-3`; empty for none.

    Raises UserError for anything but numbers from 1 to `count`.
    """
    chosen: set[int] = set()
    for word in re.split(r"[,\s]+", re.sub(r"\s*-\s*", "-", text.strip())):
        first, _, last = word.partition("-")
        if word and not all(end.isdecimal() and 1 <= int(end) <= count
                            for end in (first, last or first)):
            raise UserError(f"{word!r} is not a point of the rubric; expected numbers from 1 to "
                            f"{count}, such as 1 3 or 1-3")
        chosen |= set(range(int(first) - 1, int(last or first))) if word else set()
    return chosen
