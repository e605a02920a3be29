"""Perplexity with a sliding window, and the usual ways to average it.

    scores = perplexity.score(model, tokenizer, texts, window=64, stride=32)
    perplexity.of(scores), perplexity.bits_per_byte(scores)
"""

import math
from typing import NamedTuple

from ftkit.base.errors import UserError
from ftkit.data.encoding import document_start
from ftkit.model import loading


class Score(NamedTuple):
    """Score of one text: negative log-likelihood (nats) of each token, number of words and bytes.
    """

    nll: list[float]
    words: int
    bytes: int

    @property
    def total(self) -> float:
        return math.fsum(self.nll)


def score(model, tokenizer, texts: list[str], window: int | None = None,
          stride: int | None = None) -> list[Score]:
    """Score every token of every text once, in fp32.

    The first token is predicted from `encoding.document_start` (EOS if that is empty), so scores
    of different tokenizers cover the same text. window: tokens that the model sees at once,
    including the start token; by default its context. stride: tokens that the window moves. Each
    token is scored in the first window that reaches it, so after the beginning of a text it has at
    least window - stride tokens of context. The default, window - 1, is the cheapest: successive
    windows share one token. Raises UserError if the stride would skip tokens.
    """
    import torch

    window = window or loading.context(model)
    stride = stride or window - 1
    if not 1 <= stride < window:
        raise UserError(f"stride is {stride} and the window has {window} tokens; expected 1 to "
                        f"{window - 1}, since a larger stride would skip tokens")
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
    """Yield batches of windows (from, to); all windows of a text have the same length."""
    spans = [(0, min(window, length))]
    while spans[-1][1] < length:
        end = min(spans[-1][1] + stride, length)
        spans.append((end - window, end))
    for at in range(0, len(spans), batch):
        yield spans[at : at + batch]


def of(scores: list[Score]) -> float:
    """Perplexity by definition (Jelinek et al. 1977): exp of the mean loss over all tokens."""
    return math.exp(sum(s.total for s in scores) / sum(len(s.nll) for s in scores))


def mean_of_texts(scores: list[Score]) -> float:
    """Mean of the texts' perplexities, as Hugging Face's `evaluate` reports it."""
    return sum(math.exp(s.total / len(s.nll)) for s in scores) / len(scores)


def of_mean_losses(scores: list[Score]) -> float:
    """exp of the texts' average mean loss; short and long texts have equal weight."""
    return math.exp(sum(s.total / len(s.nll) for s in scores) / len(scores))


def bits_per_byte(scores: list[Score]) -> float:
    """Bits per byte of UTF-8 text, which can be compared across tokenizers."""
    return sum(s.total for s in scores) / sum(s.bytes for s in scores) / math.log(2)
