"""Lesson 15, task metrics."""

from __future__ import annotations

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_choices


@exercise("squad_normalizer")
def _(normalize):
    wanted = {"The Eiffel  Tower.": "eiffel tower", "C++": "c", "an apple, a day": "apple day",
              "theatre": "theatre", "5.0": "50"}
    for text, expected in wanted.items():
        made = normalize(text)
        if made == expected:
            continue
        if text == "theatre":
            return "'theatre' lost its beginning: only the whole word 'the' is an article"
        if made == text:
            return f"{text!r} stayed as it was; expected {expected!r}"
        if made != made.lower():
            return f"{text!r} gave {made!r}: capital letters are left"
        if "  " in made or made != made.strip():
            return f"{text!r} gave {made!r}: spaces are to be single, none at the ends"
        if set(made.split()) & {"the", "a", "an"}:
            return f"{text!r} gave {made!r}: articles are left"
        return f"{text!r} gave {made!r}; expected {expected!r}"


@exercise("paired_counts")
def _(disagreements):
    a, b = [True] * 5 + [False] * 5, [True] * 2 + [False] * 3 + [True] + [False] * 4
    made = disagreements(a, b)
    if not isinstance(made, (tuple, list)) or len(made) != 2:
        return f"{made!r}: expected two counts"
    if sorted(made) == [3, 5]:
        return "5 and 3 are the totals of the models; the test uses the items on which they differ"
    if sorted(made) == [2, 4]:
        return "2 and 4 are the items on which they agree; those say nothing about a difference"
    if sorted(made) != [1, 3]:
        return f"{tuple(made)}; expected only a right: 3, only b right: 1"


@exercise("metric_for_job")
def _(jobs):
    if message := check_choices(jobs, (
            "exact match", "macro F1", "sacrebleu", "perplexity", "people")):
        return message
    said = list(jobs.values())
    if said[0] in ("sacrebleu", "exact match"):
        return "a helpful answer has no one wording: overlap with a reference is blind to meaning"
    if said[1] != "macro F1":
        return "fraud, 1 in 200: a model that never says fraud is right in 99.5 %"
    if said[2] != "perplexity":
        return "continued pretraining has no questions and answers yet: measure the text itself"
    if said != ["people", "macro F1", "perplexity", "sacrebleu", "exact match"]:
        return f"you said {', '.join(said)}; ask: is there one right string?"
