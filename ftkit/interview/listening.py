"""What an answer says: the points of a rubric that are heard in it, and common misconceptions.

    heard = Heard(rubrics.points(question), "two bytes for weights, twelve for AdamW")
    heard.said; heard.tick({0, 2}); heard.challenged(); heard.defend(2, "12 bytes"); heard.score()

Words are compared without their endings, and words that mean the same thing (`synonyms.txt`) count
as one. The rarer a word is in the bank, the more it weighs. A point is heard where the answer has
enough of its words; a ticked point is challenged where it has next to none of them, and next to
none of the sentences of the model answer that explain the point. A clause that denies a point does
not count for it, unless the model answer denies the same. Where a long answer fits other cards
better than this one, a ticked point is challenged unless it is heard; where it fits another design
or story better, each ticked point is.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from typing import NamedTuple

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.interview import bank, rubrics
from ftkit.interview.bank import Question
from ftkit.interview.rubrics import Point, score
from ftkit.lessons.words import terms

NEGATION = re.compile(r"\b(?:not?|never|nothing|none|cannot|without|neither|nor)\b|n't\b", re.I)
SENTENCE = re.compile(r"(?<=[.;:!?])\s+|\n+")
# At a comma only where five words follow: "no rows, columns or masks" is one clause.
CLAUSE = re.compile(r"(?<=[.;:!?])\s+|\n+|(?<=,)\s+(?=(?:[^\s,]+\s+){4}[^\s,])"
                    r"|\s+(?=(?:but|while|whereas|because|since|although)\b)")
# Clauses such as "so that it does not" or "not too long" explain, and "not only" denies nothing.
# "not" denies its whole clause, "no" what follows it.
DENIAL = re.compile(r"^(?!(?:so|if|with|where|when|which|that)\b)(?!.*\bnot (?:only|just|too)\b)(?:"
                    r"(?=(.*(?:\b(?:not|never|cannot)\b|n't\b).*))"
                    r"|.*?(?=(\b(?:no|nothing|none|neither|nor)\b.*)))", re.I)

# Chosen by hand on the answers of `graded.jsonl` and `tests/interview/paraphrases.jsonl`, which
# therefore cannot say how well they do elsewhere. Weights are in nats, ln(cards / cards with it).
HEARD, PARTLY_HEARD, WITH = 0.45, 0.25, 5.0  # a fraction of a point's weight; less, with more words
SHARED, OF_MODEL = 0.15, 3.5  # below both a ticked point is challenged
IN_QUESTION = 0.4  # weight of a word that the question has too: to repeat it shows little
SYNONYM, AT_LEAST = 0.9, 0.7  # weight of another word for it, and its floor for a common one
MODEL_SYNONYM = 0.3  # the same for a word of the model answer
CLOSE = 0.03  # relative difference of two numbers that count as the same
EXPLAINS = 0.25  # fraction of a point that a sentence of the model answer has to share
OWN = 0.5  # fraction of a clause that a denial of the model answer has to share to be the same
CLEARLY = 1.3  # factor by which an answer fits another prepared case better
LONG, AWAY = 15, 10  # terms of an answer, and cards that fit it better, from which on it is astray


@functools.cache
def _synonyms() -> dict[frozenset[str], frozenset[int]]:
    """Terms of a word or phrase → the groups of words that mean the same."""
    lines = (machine.package() / "interview" / "synonyms.txt").read_text("utf-8").splitlines()
    groups: dict[frozenset[str], set[int]] = {}
    for i, line in enumerate(lines):
        for words in line.split(", "):
            groups.setdefault(terms(words), set()).add(i)
    groups.pop(frozenset(), None)
    return {words: frozenset(numbers) for words, numbers in groups.items()}


def _groups(said: frozenset[str]) -> frozenset[int]:
    """The groups that have a word or phrase among these terms."""
    return frozenset().union(*(ids for words, ids in _synonyms().items() if words <= said))


@functools.cache
def _cards() -> dict[str, frozenset[str]]:
    """Question → the terms of its card."""
    return {q.question: terms(" ".join([q.question, q.short, q.answer,
                                        *(p.text for p in rubrics.points(q))]))
            for q in bank.everything()}


@functools.cache
def _weights() -> tuple[dict[str, float], dict[int, float]]:
    """Term → weight, and group of synonyms → weight: the fewer cards have it, the more."""
    cards = _cards().values()

    def weigh(counts: Counter) -> dict:
        return {each: math.log((len(cards) + 1) / (n + 0.5)) for each, n in counts.items()}

    return (weigh(Counter(term for card in cards for term in card)),
            weigh(Counter(group for card in cards for group in _groups(card))))


def _weight(term: str) -> float:
    return _weights()[0].get(term, math.log(2 * (len(bank.everything()) + 1)))


@functools.cache
def _length(question: str) -> float:
    return math.hypot(*map(_weight, _cards()[question]))


def astray(answer: str, question: str) -> bool:
    """Whether a long answer fits at least `AWAY` other cards better than this question's, by the
    cosine of their terms; False for a question that is not in the bank."""
    said = terms(answer)
    if len(said) < LONG or question not in _cards():
        return False
    fits = {each: sum(_weight(term) ** 2 for term in said & card) / _length(each)
            for each, card in _cards().items()}
    return sum(fit > fits[question] for fit in fits.values()) >= AWAY


@functools.cache
def _cases() -> dict[str, dict[str, frozenset[str]]]:
    """Round → prompt of each of its prepared cases → the terms of the case."""
    return {name: {line["prompt"]: terms(" ".join([line["prompt"], *line["model"],
                                                   *(point[1] for point in line["points"])]))
                   for line in bank.prepared(name).values()} for name in ("design", "story")}


def other_case(answer: str, prompt: str) -> str:
    """The prompt of the prepared case of the same round that a long answer fits clearly better,
    by the terms that few of these cases have; empty if there is none."""
    cases = next((cases for cases in _cases().values() if prompt in cases), {})
    said = terms(answer)
    if not cases or len(said) < LONG:
        return ""
    counts = Counter(term for case in cases.values() for term in case)
    weights = {term: math.log((len(cases) + 1) / (n + 0.5)) for term, n in counts.items()}
    fits = {each: sum(weights[term] ** 2 for term in said & case)
            / math.hypot(*(weights[term] for term in case)) for each, case in cases.items()}
    best = max(fits, key=lambda each: fits[each])
    return best if fits[best] > CLEARLY * fits[prompt] else ""


class Words(NamedTuple):
    """The words of a point with their weights: its own, and those of the sentences of the model
    answer that explain it. by_group: term → its groups of synonyms."""

    own: dict[str, float]
    by_group: dict[str, frozenset[int]]
    model: dict[str, float]

    def shared(self, text: str) -> tuple[float, float]:
        """(fraction of the own weight, weight of all words) that a sentence of the text has."""
        return max((self._shared(terms(part)) for part in SENTENCE.split(text)),
                   default=(0.0, 0.0))

    def _shared(self, said: frozenset[str]) -> tuple[float, float]:
        groups, numbers = _groups(said), [float(term) for term in said if _is_number(term)]
        own = sum(self._hit(term, weight, said, groups, numbers)
                  for term, weight in self.own.items())
        return (own / (sum(self.own.values()) or 1),
                own + sum(weight if term in said else MODEL_SYNONYM * weight
                          for term, weight in self.model.items()
                          if term in said or self.by_group[term] & groups))

    def _hit(self, term: str, weight: float, said, groups, numbers) -> float:
        if term in said or (_is_number(term) and any(
                abs(float(term) - number) <= CLOSE * abs(float(term)) for number in numbers)):
            return weight
        return SYNONYM * max((max(min(weight, _weights()[1].get(group, weight)), AT_LEAST * weight)
                              for group in self.by_group[term] & groups), default=0.0)

    def heard_in(self, text: str) -> bool:
        """Whether a text says the point."""
        fraction, weight = self.shared(text)
        return fraction >= HEARD or (fraction >= PARTLY_HEARD and weight >= WITH)

    def named_in(self, text: str) -> bool:
        """Whether a text has enough words of the point to be taken for it."""
        fraction, weight = self.shared(text)
        return fraction >= SHARED or weight >= OF_MODEL


def _is_number(term: str) -> bool:
    return bool(re.fullmatch(r"\d+(?:\.\d+)?", term))


@functools.cache
def words_of(points: tuple[Point, ...], question: str, model: str) -> tuple[Words, ...]:
    """The words of each point of a rubric; a point that no sentence of the model answer explains,
    such as "A remedy", gets all of it."""
    asked = terms(question)

    def weighed(words: Iterable[str]) -> dict[str, float]:
        return {term: _weight(term) * (IN_QUESTION if term in asked else 1) for term in words}

    found = []
    for point in points:
        own = terms(point.text)
        found.append(Words(weighed(own), _by_group(own), {}))
    sentences = [part for part in SENTENCE.split(model) if part]
    explained: list[set[str]] = [set() for _ in points]
    for sentence in sentences:
        shares = [words.shared(sentence)[0] for words in found]
        for i, share in enumerate(shares):
            if share >= max(EXPLAINS, 0.8 * max(shares)):
                explained[i] |= terms(sentence)
    return tuple(words._replace(model=weighed(more := (own or terms(model)) - words.own.keys()),
                                by_group=words.by_group | _by_group(more))
                 for words, own in zip(found, explained, strict=True))


def _by_group(own: Set[str]) -> dict[str, frozenset[int]]:
    """Each of these terms → the groups of synonyms that it, or a phrase with it, is in."""
    phrases = [(words, ids) for words, ids in _synonyms().items() if words <= own]
    return {term: frozenset().union(*(ids for words, ids in phrases if term in words))
            for term in own}


def _is_denied(clause: str, model: str) -> bool:
    """Whether the model answer denies what a clause denies."""
    own = terms(clause)
    total = sum(map(_weight, own))
    return any(sum(map(_weight, own & terms(part))) >= OWN * total
               for part in CLAUSE.split(model) if NEGATION.search(part))


class Heard:
    """The points of a rubric that an answer covers: `said`, their indices from 0.

    At first those that are heard in `answer`; afterwards those that the candidate ticks. question,
    model: texts of the question and of its model answer.
    """

    def __init__(self, points: Sequence[Point], answer: str = "", question: str = "",
                 model: str = ""):
        self.points, self.answer, self.added, self.model = points, answer, "", model
        self.partly: set[int] = set()  # by a grader; counts half
        self.verdicts: list[str] = []  # what a grader says, in lines
        self.words = words_of(tuple(points), question, model)
        self.denied = {i: clauses for i in range(len(points))
                       if (clauses := self._denials(i, answer))}
        self.said = {i for i, words in enumerate(self.words)
                     if words.heard_in(self._without_denials(i, answer))}
        self.astray, self.other = astray(answer, question), other_case(answer, question)
        if self.other:
            self.said = set()

    def _denials(self, index: int, text: str) -> list[str]:
        """The clauses of a text that deny a point, although the model answer does not."""
        if NEGATION.search(self.points[index].text):
            return []
        return [clause for clause in CLAUSE.split(text) if (denial := DENIAL.search(clause))
                and self.words[index].heard_in(denial[1] or denial[2])
                and not _is_denied(clause, self.model)]

    def _without_denials(self, index: int, text: str) -> str:
        for clause in self._denials(index, text):
            text = text.replace(clause, "")
        return text

    def tick(self, said: Iterable[int]):
        """Tick these points. Raises UserError for a point that does not exist."""
        wanted = set(said)
        if bad := [i for i in wanted if i not in range(len(self.points))]:
            raise UserError(f"point {bad[0]!r} does not exist; there are {len(self.points)}")
        self.said, self.partly = wanted, self.partly - wanted

    def challenged(self) -> list[int]:
        """Ticked points of which a typed answer has next to no word, that it denies, or that are
        not heard in an answer to another question; all of an answer to another prepared case; none
        if it was said aloud."""
        def found(i: int) -> bool:
            if self.other:
                return False
            words, answer = self.words[i], self._without_denials(i, self.answer)
            strict = self.astray or i in self.denied
            return words.heard_in(answer) if strict else words.named_in(answer)

        return [i for i in sorted(self.said) if self.answer and not (
            found(i) or self.words[i].named_in(self.added))]

    def challenge(self, index: int) -> str:
        """The sentence that asks where the answer has this point."""
        point = f"{index + 1}, “{self.points[index].text}”"
        if index in self.denied:
            return f"“{self.denied[index][0]}” seems to deny {point}. Where did you say it?"
        return f"Where did you say {point}?"

    def defend(self, index: int, words: str) -> str:
        """Keep a challenged point only if these are words for it, and not the rubric's; returns
        what becomes of it and why."""
        number, text = index + 1, self.points[index].text
        copied = len(terms(words)) > 2 and terms(words) <= terms(text)
        denies = bool(words and self._denials(index, words))
        if words and not (copied or denies) and self.words[index].named_in(words):
            self.added += f" {words}."
            return f"{number} counts."
        self.said.discard(index)
        why = ("nothing was typed" if not words else
               "these are the words of the rubric, not yours" if copied else
               "these words deny it" if denies else
               f"these words have little to do with “{text}”")
        return f"{number} does not count: {why}."

    def insist(self, index: int):
        """Keep a challenged point on the candidate's word alone."""
        self.said.add(index)

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
