"""Measure instruction following with checks that a program can evaluate, like IFEval.

    follows(model, tokenizer)        {"prompt_strict": 0.4, "instruction_strict": 0.5}

The instructions are in `data_samples/abilities/instructions.jsonl`, written for this project. The
checks, their arguments and the two scores have the names of IFEval (Zhou et al. 2023, arXiv
2311.07911): the fraction of prompts with all instructions followed, and of instructions followed.
"""

import json
import re

from ftkit.base.errors import UserError
from ftkit.evaluate.abilities import load
from ftkit.evaluate.scoring import answers

ANSWERS = ("my answer is yes.", "my answer is no.", "my answer is maybe.")


def follows(model, tokenizer, items: list[dict] | None = None, max_new_tokens: int = 200) -> dict:
    """Compute the fractions of prompts and of instructions that greedy answers follow."""
    items = load("instructions") if items is None else items
    records = [{"instruction": item["prompt"], "input": "", "output": "x"} for item in items]
    given = answers(model, tokenizer, records, max_new_tokens=max_new_tokens)
    results = [followed(answer, item) for answer, item in zip(given, items, strict=True)]
    every = [one for result in results for one in result]
    return {"prompt_strict": sum(map(all, results)) / len(results),
            "instruction_strict": sum(every) / len(every)}


def followed(answer: str, item: dict) -> list[bool]:
    """Check whether `answer` follows each instruction of an item; an empty answer follows none.

    Raises UserError if a check is unknown.
    """
    return [bool(answer.strip()) and _check(name)(answer, **options)
            for name, options in zip(item["instruction_id_list"], item["kwargs"], strict=True)]


def _check(name: str):
    if name not in CHECKS:
        raise UserError(f"there is no check {name!r}; expected one of {', '.join(sorted(CHECKS))}")
    return CHECKS[name]


def _compare(count: int, number: int, relation: str) -> bool:
    return count < number if relation == "less than" else count >= number


def _words(answer: str) -> int:
    return len(re.findall(r"\w+", answer))


def _sentences(answer: str) -> int:
    """Number of sentences; full stops in numbers and abbreviations such as P.S. do not count."""
    return len(re.findall(r"[^.!?]*[^\W\d_][^.!?]*(?:[.!?]+(?=\s|$|[\"')\]])|$)", answer.strip()))


def _count(word: str, answer: str) -> int:
    return len(re.findall(rf"\b{re.escape(word)}\b", answer, re.IGNORECASE))


def _is_json(answer: str) -> bool:
    """Whether the answer is only JSON, optionally in a Markdown fence, as in IFEval."""
    text = re.sub(r"^```(?:json)?\s*|\s*```$", "", answer.strip(), flags=re.IGNORECASE)
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _quoted(answer: str) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


CHECKS = {
    "length_constraints:number_words": lambda answer, num_words, relation: _compare(
        _words(answer), num_words, relation),
    "length_constraints:number_sentences": lambda answer, num_sentences, relation: _compare(
        _sentences(answer), num_sentences, relation),
    "length_constraints:number_paragraphs": lambda answer, num_paragraphs: len(
        [part for part in re.split(r"\s*\*\*\*\s*", answer) if part.strip()]) == num_paragraphs,
    "keywords:existence": lambda answer, keywords: all(_count(w, answer) for w in keywords),
    "keywords:forbidden_words": lambda answer, forbidden_words: not any(
        _count(w, answer) for w in forbidden_words),
    "keywords:frequency": lambda answer, keyword, frequency, relation: _compare(
        _count(keyword, answer), frequency, relation),
    "detectable_format:number_bullet_lists": lambda answer, num_bullets: len(
        re.findall(r"^\s*(?:\*(?!\*)|-)\s*\S", answer, re.MULTILINE)) == num_bullets,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": lambda answer: bool(re.search(r"<<[^\n<>]*\S[^\n<>]*>>", answer)),
    "detectable_format:constrained_response": lambda answer: any(
        one in answer.lower() for one in ANSWERS),
    "detectable_content:postscript": lambda answer, postscript_marker: bool(re.search(
        rf"^\s*{re.escape(postscript_marker)}", answer, re.IGNORECASE | re.MULTILINE)),
    "change_case:english_lowercase": str.islower,
    "change_case:english_capital": str.isupper,
    "startend:end_checker": lambda answer, end_phrase: answer.strip().strip('"').lower().endswith(
        end_phrase.lower()),
    "startend:quotation": _quoted,
    "punctuation:no_comma": lambda answer: "," not in answer,
}
