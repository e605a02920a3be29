"""Score a model: loss on supervised tokens, exact match of its answers, probes.

Losses are means over tokens, unlike `Trainer.evaluate`, which averages batch means. Exact match is
measured in the precision of the weights, since autocast to bf16 would flip near-ties.
"""

import copy
import math
import re
import string
from collections.abc import Sequence
from typing import Any

from ftkit.base import json_lines, machine, quiet
from ftkit.data import encoding
from ftkit.model.eval_mode import evaluating
from ftkit.model.peft_methods import is_virtual


def loss_on(model, examples: Sequence[dict]) -> float:
    """Mean loss (nats) over the supervised tokens of encoded examples; nan if there are none."""
    from ftkit.engine import packed_loss

    total, count = packed_loss.nll(model, examples)
    return float(total) / int(count) if count else math.nan


def answers(
    model, tokenizer, records: list[dict], template: str | None = None,
    max_new_tokens: int | None = None, shown: Sequence[int] = (),
) -> list[str]:
    """Generate greedy answers to instruction or chat records.

    max_new_tokens: by default four more than the longest reference answer. shown: token ids before
    each prompt, such as those of examples.
    """
    from ftkit.engine import generation

    if not len(records):
        return []
    prompts = [[*shown, *ids] for ids in encoding.prompts(records, tokenizer, template)]
    if max_new_tokens is None:
        references = [encoding.answer(record) for record in records]
        ids = tokenizer(references, add_special_tokens=False)["input_ids"]
        max_new_tokens = max(map(len, ids), default=8) + 4
    ends = sorted(encoding.eos_ids(tokenizer, model))
    outputs = generation.generate(model, prompts, max_new_tokens=max_new_tokens, eos_token_ids=ends)
    return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in outputs]


_PUNCTUATION = str.maketrans({c: " " for c in string.punctuation if c not in "'-"})


def normal(text: str) -> str:
    """Normalize text for exact match: lower case, no punctuation, single spaces."""
    return re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()


def is_right(answer: str, record: dict) -> bool:
    """Whether an answer equals the record's answer after `normal`."""
    return normal(answer) == normal(encoding.answer(record))


def exact_match(
    model, tokenizer, records: list[dict], template: str | None = None, by: str | None = None,
    shown: Sequence[int] = (),
):
    """Fraction of records whose greedy answer equals the reference after `normal`.

    by: a field such as "task"; returns a dict with a fraction per value. nan without records.
    shown: see `answers`.
    """
    given = answers(model, tokenizer, records, template=template, shown=shown)
    return fraction([is_right(a, r) for a, r in zip(given, records, strict=True)], records, by)


def fraction(hits: list[bool], records: list[dict], by: str | None = None) -> Any:
    """Fraction of hits; nan without records. by: a field; returns a dict with one per value."""
    if by is None:
        return sum(hits) / len(hits) if hits else math.nan
    groups: dict[str, list[bool]] = {}
    for record, hit in zip(records, hits, strict=True):
        groups.setdefault(record[by], []).append(hit)
    return {name: sum(group) / len(group) for name, group in sorted(groups.items())}


def completed(model, tokenizer, items: list[dict], shown: list[int]) -> list[bool]:
    """Whether greedy decoding would produce the complete answer of each item, {"prompt", "answer"}.

    shown: token ids before each prompt, whose keys and values are computed once.
    """
    import torch

    # Virtual tokens would precede the keys and values, so these cannot be reused.
    before = shown if is_virtual(model) else []
    device, hits = next(model.parameters()).device, []
    with quiet.no_advice(), evaluating(model), torch.no_grad():
        cache = None if before or not shown else model(
            input_ids=torch.tensor([shown], device=device), use_cache=True).past_key_values
        for first in range(0, len(items), 64):
            chunk = items[first : first + 64]
            prompts, expected = (
                tokenizer([item[field] for item in chunk], add_special_tokens=False)["input_ids"]
                for field in ("prompt", "answer"))
            batch = encoding.collate(
                [{"input_ids": before + p + a, "labels": [-100] * len(before + p) + a}
                 for p, a in zip(prompts, expected, strict=True)], 0)
            past = copy.deepcopy(cache)
            if past is not None:
                past.batch_repeat_interleave(len(chunk))
            labels = batch["labels"][:, 1:].to(device)
            logits = model(input_ids=batch["input_ids"].to(device), past_key_values=past).logits
            # Count from the end, since virtual tokens may precede the input.
            best = logits[:, -labels.shape[1] - 1 : -1].argmax(-1)
            hits += ((best == labels) | (labels == -100)).all(1).tolist()
    return hits


def probe_scores(model, tokenizer, probes: list[dict]) -> dict:
    """Fraction of probes per ability whose complete answer greedy decoding would produce.

    A probe is {"ability", "prompt", "answer"} in plain prose. The prompt is preceded by
    `encoding.document_start`.
    """
    hits = completed(model, tokenizer, probes, encoding.document_start(tokenizer))
    return fraction(hits, probes, "ability")


def load_probes() -> list[dict]:
    """Load the probes of the embedded model, which test its knowledge from pretraining."""
    return json_lines.read(machine.share("data_samples") / "probes.jsonl", damaged="raise")
