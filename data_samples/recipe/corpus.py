"""The pretraining corpus: plain English about a small world, mixed from generators.

Run `python corpus.py` to read some of it.
"""

import random

import copying
import domains
import facts
import lines
import prose

# (generator, weight): the weight is the share of documents (in parts)
MIX = [
    (prose.story, 17), (prose.diary, 2), (prose.letter, 2), (prose.place, 2),
    (prose.judged_review, 5), (prose.howto, 2), (prose.talk, 4), (prose.weather, 1),
    (facts.animal, 7), (facts.country, 6), (facts.opposite, 5), (facts.plurals, 4), (facts.past, 4),
    (facts.category, 4), (facts.color, 3), (facts.job, 3), (facts.tool, 3), (facts.material, 3),
    (facts.sequence, 2), (facts.arithmetic, 7), (facts.french, 11), (facts.quiz, 24),
    (copying.repeated_list, 5), (copying.word_game, 5), (copying.belongings, 6),
    (copying.reading, 12), (copying.form, 6), (copying.rewritten, 5), (copying.copied_line, 4),
    (copying.guests, 2),
    (domains.base_sample, 6),
]
# Later on, more of what needs looking back, and the questions before their texts.
LATE_MIX = MIX + [
    (copying.asked_owner, 9), (copying.asked_list, 9), (copying.asked_form, 4),
    (copying.helpers, 3),
    (copying.belongings, 3), (copying.repeated_list, 3), (facts.french, 5), (facts.arithmetic, 2),
]
# And at last, questions about a line of its own.
LAST_MIX = LATE_MIX + [(lines.asked_line, 20)]

# Documents of these could end right after an answer. They get a last sentence, so that the base
# never learned "an answer, and nothing more": that form is what fine-tuning teaches.
_OPEN_ENDED = {
    facts.arithmetic, facts.french, copying.repeated_list, copying.word_game, copying.form,
    copying.copied_line,
}
_CLOSINGS = [
    "That was all.", "And so it went on.", "Then they had a break.", "They did it once more.",
    "It was not hard.", "The page was full.", "That is how it goes.",
]


def document(rng, generator):
    text = generator(rng)
    return f"{text} {rng.choice(_CLOSINGS)}" if generator in _OPEN_ENDED else text


def documents(count, seed, mix=MIX):
    """`count` documents; the same seed and mix give the same documents."""
    rng = random.Random(f"corpus {seed}")
    generators, weights = zip(*mix, strict=True)
    return [document(rng, generator) for generator in rng.choices(generators, weights, k=count)]


if __name__ == "__main__":
    for text in documents(40, "shown"):
        print("-", text)
