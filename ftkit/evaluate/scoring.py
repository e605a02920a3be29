"""Score a model: loss on supervised tokens, exact match of its answers, probes.

Losses are means over tokens, unlike `Trainer.evaluate`, which averages batch means. Exact match is
measured in the precision of the weights, since autocast to bf16 would flip near-ties.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence

from ftkit.data import encoding


def loss_on(model, examples: Sequence[dict]) -> float:
    """Mean loss (nats) over the supervised tokens of encoded examples; nan if there are none."""
    from ftkit.engine import packed_loss

    total, count = packed_loss.nll(model, examples)
    return float(total) / int(count) if count else math.nan


def answers(
    model, tokenizer, records: list[dict], template: str | None = None,
    max_new_tokens: int | None = None,
) -> list[str]:
    """Generate greedy answers to instruction or chat records.

    max_new_tokens: by default four more than the longest reference answer.
    """
    from ftkit.engine import generation

    if not len(records):
        return []
    prompts = encoding.prompts(records, tokenizer, template)
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
):
    """Fraction of records whose greedy answer equals the reference after `normal`.

    by: a field such as "task"; returns a dict with a fraction per value. nan without records.
    """
    given = answers(model, tokenizer, records, template=template)
    hits = [is_right(a, r) for a, r in zip(given, records, strict=True)]
    if by is None:
        return sum(hits) / len(hits) if hits else math.nan
    groups: dict[str, list[bool]] = {}
    for record, hit in zip(records, hits, strict=True):
        groups.setdefault(record[by], []).append(hit)
    return {name: sum(group) / len(group) for name, group in sorted(groups.items())}


def probe_scores(model, tokenizer, probes: list[dict], batch_size: int = 128) -> dict:
    """Fraction of probes per ability whose complete answer greedy decoding would produce.

    A probe is {"ability", "prompt", "answer"} in plain prose. The prompt is preceded by
    `encoding.document_start`.
    """
    import torch

    from ftkit.model.eval_mode import evaluating

    begin = encoding.document_start(tokenizer)
    hits: dict[str, list[bool]] = {}
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        for first in range(0, len(probes), batch_size):
            chunk = probes[first : first + batch_size]
            prompts, expected = (
                tokenizer([p[field] for p in chunk], add_special_tokens=False)["input_ids"]
                for field in ("prompt", "answer"))
            examples = [{"input_ids": begin + p + a, "labels": [-100] * len(begin + p) + a}
                        for p, a in zip(prompts, expected, strict=True)]
            batch = {k: v.to(device) for k, v in encoding.collate(examples, 0).items()}
            labels = batch.pop("labels")[:, 1:]
            # Count from the end, since virtual tokens may precede the input.
            best = model(**batch).logits[:, -labels.shape[1] - 1 : -1].argmax(-1)
            right = ((best == labels) | (labels == -100)).all(1).tolist()
            for probe, hit in zip(chunk, right, strict=True):
                hits.setdefault(probe["ability"], []).append(hit)
    return {ability: sum(h) / len(h) for ability, h in sorted(hits.items())}


def load_probes() -> list[dict]:
    """Load the probes of the embedded model, which test its knowledge from pretraining."""
    from ftkit.base import json_lines, machine

    return json_lines.read(machine.share("data_samples") / "probes.jsonl", damaged="raise")
