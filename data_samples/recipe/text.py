"""Small tools for writing random sentences: templates with choices, people with pronouns."""

import re

from world import MEN, WOMEN

_CHOICE = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"\$(\^?)(\w+)")


def fill(rng, template, **slots):
    """A sentence from a template: `{x|y}` is a random choice (may nest), `$slot` a value,
    `$^slot` the value with a capital. The first letter of the result is a capital."""
    while "{" in template:
        template = _CHOICE.sub(lambda m: rng.choice(m[1].split("|")), template)
    text = _SLOT.sub(lambda m: capital(slots[m[2]]) if m[1] else slots[m[2]], template)
    return capital(text.strip())


def capital(text):
    return text[:1].upper() + text[1:]


def people(rng, count):
    """`count` different people: (name, she, her, her, girl, woman) or (name, he, him, his, ...)."""
    chosen = {}
    while len(chosen) < count:
        if rng.random() < 0.5:
            chosen.setdefault(rng.choice(WOMEN), ("she", "her", "her", "girl", "woman"))
        else:
            chosen.setdefault(rng.choice(MEN), ("he", "him", "his", "boy", "man"))
    return [(name, *words) for name, words in chosen.items()]


def cast(rng, count=2):
    """Slots for people: $A $B the names, $sa $oa $pa $ga $wa she/her/her/girl/woman of $A, ..."""
    slots = {}
    for letter, person in zip("abc", people(rng, count), strict=False):
        slots[letter.upper()] = person[0]
        for prefix, word in zip("sopgw", person[1:], strict=True):
            slots[prefix + letter] = word
    return slots


_ONSETS = "b br c d dr f fl g gr h j k l m n p pr r s st t tr v w z".split()
_VOWELS = "a e i o u ai ea oo".split()
_CODAS = ["", "", "n", "r", "l", "s", "t", "m", "nd", "rk"]


def invented_name(rng):
    """A name nobody has: it can be repeated only by copying it."""
    parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(2)]
    return capital("".join(parts))


def listing(words):
    """"a, b and c"."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
