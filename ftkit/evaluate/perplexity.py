"""Perplexity with its conditions: which tokens, in which context, averaged how.

    scores = perplexity.score(model, tokenizer, texts, window=64, stride=32)
    perplexity.of(scores), perplexity.bits_per_byte(scores)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ftkit.base.errors import UserError
from ftkit.data.encoding import document_start


class Score(NamedTuple):
    """One text: minus log probability (nats) of each scored token, and what the text measures."""

    nll: list[float]
    words: int
    bytes: int

    @property
    def total(self) -> float:
        return math.fsum(self.nll)


def score(model, tokenizer, texts: list[str], window: int | None = None,
          stride: int | None = None) -> list[Score]:
    """Score every token of every text once, in fp32.

    The first token is predicted from the start of a text (`encoding.document_start`; EOS where a
    tokenizer has none), so that no token goes unscored and scores of different tokenizers cover
    the same text. window: tokens the model sees
    at once, that start included; by default its context. stride: how far the window moves; each
    token is scored in the first window that reaches it, so with a stride of s it has at least
    window - s tokens before it, apart from the beginning of the text. Default: window - 1, which
    lets windows share one token only and is the cheapest. Raises UserError for a stride that
    would leave tokens out.
    """
    import torch

    from ftkit.model import loading

    window = window or loading.context(model)
    stride = stride or window - 1
    if not 1 <= stride < window:
        raise UserError(f"stride is {stride}; expected 1 to {window - 1} for a window of {window}"
                        ": a larger one leaves tokens out")
    start = document_start(tokenizer) or [tokenizer.eos_token_id]
    device = next(model.parameters()).device
    scores = []
    for text in texts:
        ids = start + tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        nll, done = [], 1
        for rows in _windows(len(ids), window, stride):
            batch = torch.tensor([ids[a:b] for a, b in rows], device=device)
            with torch.no_grad():
                log_p = model(batch).logits[:, :-1].float().log_softmax(-1)
            of_each = -log_p.gather(2, batch[:, 1:, None])[..., 0]
            for (a, b), line in zip(rows, of_each.tolist(), strict=True):
                nll += line[done - a - 1 :]
                done = b
        scores.append(Score(nll, len(text.split()), len(text.encode())))
    return scores


def _windows(length: int, window: int, stride: int, batch: int = 32):
    """(from, to) of the windows, several of equal length at a time."""
    spans = [(0, min(window, length))]
    while spans[-1][1] < length:
        end = min(spans[-1][1] + stride, length)
        spans.append((end - window, end))
    for at in range(0, len(spans), batch):
        yield spans[at : at + batch]


def of(scores: list[Score]) -> float:
    """exp of the mean over all tokens: the definition (Jelinek et al. 1977)."""
    return math.exp(sum(s.total for s in scores) / sum(len(s.nll) for s in scores))


def mean_of_texts(scores: list[Score]) -> float:
    """The mean of the perplexities of the texts: another number, as `evaluate` reports it."""
    return sum(math.exp(s.total / len(s.nll)) for s in scores) / len(scores)


def of_mean_losses(scores: list[Score]) -> float:
    """exp of the mean of the texts' mean losses: a short text counts as much as a long one."""
    return math.exp(sum(s.total / len(s.nll) for s in scores) / len(scores))


def bits_per_byte(scores: list[Score]) -> float:
    """Bits to encode one byte of UTF-8 text: compares models with different tokenizers."""
    return sum(s.total for s in scores) / sum(s.bytes for s in scores) / math.log(2)
