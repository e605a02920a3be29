# ruff: noqa: E501  (templates are easier to read on one line)
"""Questions about a line of its own: its first word has no space in front, the answer has one.

To a byte-level tokenizer "near" at the start of a line and " near" inside of it are different tokens; a model has to
see both in order to copy the first word of a line.
"""

import copying
import facts
from text import fill
from world import MEN, WOMEN


def asked_line(rng):
    kind = rng.randrange(6)
    if kind < 3:
        words = copying.word_list(rng, 2, 6)
        line = ", ".join(words)
        question, answer = [
            ("{The first word of this list|Which word comes first|How does this list begin|The first word}", words[0]),
            ("{The last word of this list|Which word comes last|How does this list end|The last word}", words[-1]),
            ("{The list backwards|The words in reverse order|Now from the end to the start}", ", ".join(reversed(words))),
        ][kind]
    elif kind == 3:
        line, answer = facts.phrase(rng)
        question = "{The same in French|These words in French|How do you say this in French}"
    elif kind == 4:
        answer, line = facts.phrase(rng)
        question = "{The same in English|These words in English|How do you say this in English}"
    else:
        line = answer = ", ".join(copying.word_list(rng, 1, 4))
        question = "{The same line again|Copy this line|Read the line}"
    return fill(
        rng, question + "{:|?}\n$line\n{$A wrote|$A said|The answer was}: $answer. {That was right.|Good.|So it is.|Then "
        "they went home.}", line=line, answer=answer, A=rng.choice(WOMEN + MEN))
