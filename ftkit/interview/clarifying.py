"""What an interviewer tells a candidate who asks a clarifying question about a design task.

    answer("Does it have to be fast?", prompt, facts, about)

A question is about the topics whose words it has; a fact is about those that its task
names. Without a fact the sentence of the task itself that is about the topic is repeated.
"""

import functools
import re
from collections.abc import Sequence

from ftkit.base import json_lines, machine
from ftkit.lessons.words import plain_terms

UNKNOWN = "I have no figure for that. Assume what is reasonable, and say what you assume."


@functools.cache
def known() -> dict[str, tuple[re.Pattern, float]]:
    """Topic → the words of questions about it (regular expressions in `topics.jsonl`), and the
    weight of one of them: less for words that occur in questions about other topics too."""
    lines = json_lines.read(machine.package() / "interview" / "topics.jsonl", damaged="raise")
    return {line["topic"]: (re.compile(rf"\b(?:{'|'.join(line['words'])})", re.I),
                            line.get("weight", 1.0)) for line in lines}


def topics(text: str) -> dict[str, float]:
    """Topics of a question, each with the weight of its words."""
    found = {topic: weight * len(words.findall(text)) for topic, (words, weight) in known().items()}
    return {topic: weight for topic, weight in found.items() if weight}


def best_fact(asked: str, facts: Sequence[str], about: Sequence[str]) -> int | None:
    """The index of the fact that answers a question; None if no fact does.

    about: of each fact, its topics. A topic counts twice where it is the fact's first one; words
    that question and fact share count half.
    """
    found, said = topics(asked), plain_terms(asked)
    scores = []
    for fact, own in zip(facts, about, strict=True):
        first, *others = own.split()
        scores.append(2 * found.get(first, 0) + sum(found.get(each, 0) for each in others)
                      + len(said & plain_terms(fact)) / 2)
    best = max(scores, default=0)
    return scores.index(best) if best >= 1 else None


def answer(asked: str, prompt: str, facts: Sequence[str], about: Sequence[str],
           chosen: int | None = None) -> str:
    """The reply to a question: a fact (`chosen` by a grader, if given), or a sentence of the task,
    or that one has to assume."""
    fact = best_fact(asked, facts, about) if chosen is None else chosen
    if fact is not None:
        return facts[fact]
    sentences = re.split(r"(?<=[.!?])\s+", prompt)
    shared = [len(topics(asked).keys() & topics(sentence).keys()) for sentence in sentences]
    return (f"As the task says: {sentences[shared.index(max(shared))]}" if max(shared) else UNKNOWN)
