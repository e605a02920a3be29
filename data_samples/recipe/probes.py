# ruff: noqa: E501  (sentences are easier to read on one line)
"""Probes: unfinished plain sentences with exactly one right continuation. None is an instruction.

`build()` gives the records of `data_samples/probes.jsonl`: {"ability", "prompt", "answer"}.
"""

import random

import copying
import facts
from text import capital, people
from world import (
    ANIMALS,
    COLORS,
    COLORS_OF,
    COUNTRIES,
    FRENCH_NOUNS,
    NUMBERS,
    OPPOSITES,
    PAST_TENSES,
    PLURALS,
    SPOTS,
    THINGS,
    a,
)

PER_ABILITY = 40


def _capitals(rng):
    return [(f"The capital of {row[0]} is", row[1]) for row in COUNTRIES]


def _opposites(rng):
    return [(f"The opposite of {x} is", y) for x, y in OPPOSITES + [row[::-1] for row in OPPOSITES]]


def _plurals(rng):
    return [(f"The plural of {one} is", many) for one, many in PLURALS]


def _past_tenses(rng):
    return [(f"The past tense of {now} is", then) for now, then in PAST_TENSES]


def _french_words(rng):
    return [(f"The French word for {row[0]} is", row[1]) for row in FRENCH_NOUNS
            if row[0] in facts.COUNTABLE]


def _baby_animals(rng):
    return [(f"A baby {row[0]} is called", a(row[2])) for row in ANIMALS]


def _colors(rng):
    return [(f"The color of the {thing} is", color) for thing, color in COLORS_OF]


def _sums(rng, unseen):
    return [(f"{capital(NUMBERS[x])} plus {NUMBERS[y]} is", NUMBERS[x + y])
            for x in range(11) for y in range(11) if facts.held_out_sum(x, y) == unseen]


def _french_phrases(rng):
    pairs = [facts.phrase(rng) for _ in range(PER_ABILITY)]
    return [(f"In French, you say {english} like this:", french + ".") for english, french in pairs]


def _recall(rng):
    """A story names a thing and its colour; the end needs both again."""
    items = []
    for _ in range(PER_ABILITY):
        name, she, her, hers, _, _ = people(rng, 1)[0]
        color, thing, (spot, other) = rng.choice(COLORS), rng.choice(THINGS), rng.sample(SPOTS, 2)
        items.append((
            f"{name} had {a(color)} {thing}. It was a gift from {hers} mother. One day, the {thing} was "
            f"missing. {name} looked {spot}, but it was not there. At last {she} looked {other}. And there "
            f"was the", f"{color} {thing}"))
    return items


def _copying(rng):
    """A line of random words and invented names, said a second time."""
    items = []
    for _ in range(PER_ABILITY):
        words = rng.sample(copying.WORDS, 4) + [copying.invented_name(rng)]
        rng.shuffle(words)
        line = ", ".join(words)
        first, second = copying.names(rng, 2)
        items.append((f"{first} said: {line}. {second} said it again:", line + "."))
    return items


def _owners(rng):
    """Who has what, among three people."""
    items = []
    for _ in range(PER_ABILITY):
        owners, things = copying.names(rng, 3), rng.sample(THINGS, 3)
        text = " ".join(f"{o} has {a(rng.choice(COLORS) + ' ' + t)}."
                        for o, t in zip(owners, things, strict=True))
        i = rng.randrange(3)
        items.append((f"{text} The {things[i]} belongs to", owners[i] + "."))
    return items


def _stories(rng):
    """The one word that a story of a lost thing, a race or a birthday must go on with."""
    items = []
    for _ in range(PER_ABILITY):
        (first, *_, ), (second, *_) = people(rng, 2)
        thing, other = rng.sample(THINGS, 2)
        color = rng.choice(COLORS)
        items.append(rng.choice([
            (f"\"Have you seen my {thing}?\" asked {first}. \"It is {SPOTS[0]},\" said {second}. {first} looked "
             f"{SPOTS[0]} and found the", thing + "."),
            (f"It was the birthday of {first}. Now {first} was seven years old. {second} gave {first} "
             f"{a(color)} {thing}. \"Happy birthday!\" said", second + "."),
            (f"{first} wrote a letter to {second}, who lived far away. \"Dear", second),
            (f"{first} wanted to buy {a(color)} {thing}. The {thing} cost three coins. {first} paid and put the",
             thing),
        ]))
    return items


ABILITIES = {
    "capital": _capitals,
    "opposite": _opposites,
    "plural": _plurals,
    "past tense": _past_tenses,
    "French word": _french_words,
    "French phrase": _french_phrases,
    "baby animal": _baby_animals,
    "color": _colors,
    "sum": lambda rng: _sums(rng, False),
    "recall": _recall,
    "copying": _copying,
    "owner": _owners,
    "story": _stories,
}


def build():
    """At most `PER_ABILITY` probes of each ability; always the same."""
    records = []
    for ability, make in ABILITIES.items():
        rng = random.Random(f"probe {ability}")
        items = sorted(set(make(rng)))
        for prompt, answer in rng.sample(items, min(PER_ABILITY, len(items))):
            records.append({"ability": ability, "prompt": prompt, "answer": " " + answer})
    return records
