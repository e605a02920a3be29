"""Measure abilities that fine-tuning may destroy: English, facts, multiple choice.

    english(model, tokenizer)            mean loss in nats on 300 passages of 33 kinds
    knowledge(model, tokenizer)          fraction of 342 facts completed correctly
    multiple_choice(model, tokenizer)    accuracy on 200 four-way items, scored in three ways

The texts and questions are in `data_samples/abilities`, written for this project. They are meant
for real models; the embedded model has `probes.jsonl`. `instructions.py` measures instruction
following.
"""

from ftkit.base import json_lines, machine
from ftkit.data.encoding import document_start
from ftkit.evaluate import scoring
from ftkit.model.eval_mode import evaluating

# Five other facts show the form of an answer; without them an instruction-tuned model comments on
# the sentence. None of their words is an answer to a question.
DEMONSTRATION = (
    "The capital of Sweden is Stockholm.\nThe opposite of wet is dry.\n"
    "A person who repairs pipes is called a plumber.\n"
    "The Second Punic War was fought between Rome and Carthage.\n"
    "Don Quixote was written by Miguel de Cervantes.\n")


def load(name: str, limit: int | None = None) -> list[dict]:
    """Load the rows of `data_samples/abilities/<name>.jsonl`.

    name: english, knowledge, multiple_choice or instructions. limit: return only this many rows,
    evenly spaced over the file.
    """
    path = machine.share("data_samples") / "abilities" / f"{name}.jsonl"
    rows = json_lines.read(path, damaged="raise")
    if limit is None or limit >= len(rows):
        return rows
    return [rows[i * len(rows) // limit] for i in range(limit)]


def english(model, tokenizer, by: str | None = None, limit: int | None = None):
    """Mean loss (nats per token) on the English passages; `by="kind"` returns a dict of means.

    The perplexity is `math.exp` of the mean.
    """
    passages = load("english", limit)
    start = document_start(tokenizer)
    ids = tokenizer([row["text"] for row in passages], add_special_tokens=False)["input_ids"]
    # Without a start token, the first token is not predicted.
    pairs = [(start, text) if start else (text[:1], text[1:]) for text in ids]
    scores = log_likelihoods(model, pairs)
    totals: dict[str, list[float]] = {}
    for row, (_, text), score in zip(passages, pairs, scores, strict=True):
        total = totals.setdefault(row["kind"] if by else "", [0.0, 0.0])
        total[0] -= score
        total[1] += len(text)
    means = {kind: loss / count for kind, (loss, count) in sorted(totals.items())}
    return means if by else means[""]


def knowledge(model, tokenizer, by: str | None = None, limit: int | None = None):
    """Fraction of facts whose complete answer greedy decoding would produce.

    Each fact is preceded by five facts that show the form. `by="ability"` returns a dict.
    """
    facts = load("knowledge", limit)
    shown = document_start(tokenizer) + tokenizer(
        DEMONSTRATION, add_special_tokens=False)["input_ids"]
    return scoring.fraction(scoring.completed(model, tokenizer, facts, shown), facts, by)


def multiple_choice(model, tokenizer, items: list[dict] | None = None) -> dict:
    """Accuracy on multiple-choice items by log-likelihood, scored in three usual ways.

    items: dicts with question, choices and answer (an index); by default the shipped ones. Result:
    acc: by the likelihood of each choice's text after the question. acc_norm: by the likelihood per
    byte, so that short choices have no advantage (both as in EleutherAI's lm-evaluation-harness).
    letters: all choices are listed as A to D, and the letters are compared (as in MMLU); small
    models are close to chance here. Ties go to the first choice.
    """
    items = load("multiple_choice") if items is None else items
    start = document_start(tokenizer)

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    texts, letters = [], []
    for item in items:
        question = f"Question: {item['question']}\n"
        texts += [(start + ids(f"{question}Answer:"), ids(f" {choice}"))
                  for choice in item["choices"]]
        listed = "".join(f"{letter}. {choice}\n" for letter, choice
                         in zip("ABCDEFGH", item["choices"], strict=False))
        letters += [(start + ids(f"{question}{listed}Answer:"), ids(f" {letter}"))
                    for letter in "ABCDEFGH"[: len(item["choices"])]]
    by_text = _per_item(log_likelihoods(model, texts), items)
    by_letter = _per_item(log_likelihoods(model, letters), items)
    per_byte = [[score / len(choice.encode()) for score, choice
                 in zip(scores, item["choices"], strict=True)]
                for scores, item in zip(by_text, items, strict=True)]
    return {name: _accuracy(scores, items) for name, scores in (
        ("acc", by_text), ("acc_norm", per_byte), ("letters", by_letter))}


def log_likelihoods(model, pairs: list[tuple[list[int], list[int]]], batch_tokens: int = 4096
                    ) -> list[float]:
    """Log-probability (nats) of each continuation, for pairs (context ids, continuation ids).

    A context must not be empty, since the first token has no prediction.
    """
    import torch

    from ftkit.engine import packed_batch, packed_loss
    from ftkit.engine.packed_attention import fast_path

    order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i])))
    device = next(model.parameters()).device
    scores, batch, size = [0.0] * len(pairs), [], 0
    with evaluating(model), fast_path(model), torch.no_grad():
        forward = packed_loss.Forward.of(model)
        for place, i in enumerate(order):
            batch.append(i)
            size += sum(map(len, pairs[i]))
            if size < batch_tokens and place < len(order) - 1:
                continue
            examples = [{"input_ids": context + more, "labels": [-100] * len(context) + more}
                        for context, more in (pairs[j] for j in batch)]
            losses = forward.token_losses(packed_batch.pack(examples, device))
            parts = losses.double().split([len(pairs[j][1]) for j in batch])
            for j, part in zip(batch, parts, strict=True):
                scores[j] = -float(part.sum())
            batch, size = [], 0
    return scores


def _per_item(scores: list[float], items: list[dict]) -> list[list[float]]:
    left = iter(scores)
    return [[next(left) for _ in item["choices"]] for item in items]


def _accuracy(scores: list[list[float]], items: list[dict]) -> float:
    return scoring.fraction([max(range(len(row)), key=row.__getitem__) == item["answer"]
                             for row, item in zip(scores, items, strict=True)], items)
