"""Words of free text, to be compared: key terms without their endings, and numbers.

    terms("The labels were shifted twice")        # frozenset({'label', 'shift', 'twice'})
"""

import functools
import re

COMMON = frozenset("""
a about after all also an and any are as at be because been before both but by can do does each for
from get gets had has have how if in into is it its itself just less make makes many may more most
much must need needs no not of on one only or other own same say says should so some such take takes
than that the their them then there these they thing this those to too two under until up use used
uses very was were what when where which while who why will with without would yes you your
""".split())
SHORT = frozenset("lr kl r b val".split())
# "no early stopping" and "stopped too early" are opposites; a negation is not a key term.
SAME = {re.compile(rf"\b(?:{short})\b"): long for short, long in {
    r"(?:no|not|without|missing|never) (?:early[ -]stop\w*|stop\w* early)": "latestop",
    r"should (?:have )?(?:been )?stop\w* earl\w+": "latestop",
    "stop\\w* (?:far |much |way )?(?:too )?late": "latestop",
    r"(?:add|use|with|needs?) early[ -]stop\w*|(?:so|then|to|should) stop earl\w+": "latestop",
    "lr|step ?size": "learning rate", "warm[ -]up": "warmup",
    "fine[ -]?tun(?:e|ed|ing)": "finetune", "eos|end[ -]of[ -](?:sequence|text)|end token": "eos",
    "grads?": "gradient", "val": "validation", "bos|beginning[ -]of[ -]sequence": "bos",
    "zero_grad|zero grad": "zero gradient",
    "float16|half[ -]precision|half": "fp16", "float32": "fp32", "vram|gpu": "memory",
    "optimi[sz]er": "optimizer", "adamw": "adam", "vocab": "vocabulary",
    "evals?|evaluat(?:e|es|ed|ing|ion)": "eval", "validat(?:e|ed|ing)": "validation",
    "max[_ ](?:seq[_ ])?length": "maxlength", "tokeni[sz]ed": "tokenizer",
    "max[_ ]new[_ ]tokens": "maxnew", "log[ -]?prob(?:abilitie)?s?": "logprob",
    "leak(?:age|ed|s)?": "leak", "pads?|padding": "pad", "overfit(?:s|ted|ting)?": "overfit",
    "labell?ed|annotat(?:ed|ion|ions|or|ors)": "label", "trunc(?:ated|ation)|chopped": "cut",
    "dataset": "data", "twice|double|two times|duplicated?": "twice", "shuffled?": "shuffle",
    "(?:too|so) (?:big|large|high|aggressive|huge|hot)": "toohigh",
    "(?:too|so) (?:small|low|tiny)": "toolow", "lower|smaller|reduced?|decreased?|down": "reduce",
    "higher|bigger|larger|raised?|increased?|bump(?:ed)?|(?:turn|crank|dial)(?:ed)? up": "raise",
    "learning rate up": "raise learning rate", "enough|sufficient(?:ly)?": "enough",
    "forg[eo]t(?:s|ting|ten)?": "forget", "micro[ -]batch(?:es)?": "microbatch"}.items()}


@functools.cache
def terms(text: str) -> frozenset[str]:
    """Key terms: words of three letters or more without their endings, and numbers."""
    text = text.lower().replace("'s", "")
    words = re.findall(r"\d[\d,]*(?:\.\d+)?|[a-z][a-z0-9]*", text)
    return frozenset(_stem(word) for word in words if word not in COMMON
                     and (len(word) > 2 or word[0].isdigit() or word in SHORT))


@functools.cache
def plain_terms(text: str) -> frozenset[str]:
    """Key terms of a text in which words that practitioners use for one thing are made one."""
    text = text.lower()
    for short, long in SAME.items():
        text = short.sub(long, text)
    return terms(text.replace("_", " "))


def _stem(word: str) -> str:
    if word[0].isdigit():
        return word.replace(",", "")
    stem = re.sub(r"(?:ations?|ions?|ing|ed|ers?|es|e|ly|s|y)$", "", word)
    return stem[:-1] if len(stem) > 4 and stem[-1] == stem[-2] else stem if len(stem) > 2 else word
