"""Perplexity against transformers' own loss, on ragged texts, windows, strides and padding."""

import math
import random

import pytest
import torch

import ftkit as ft
from ftkit.data import encoding
from ftkit.evaluate import perplexity


@pytest.fixture(scope="module")
def base():
    return ft.load("tiny")


def texts(n, seed=0):
    rng = random.Random(seed)
    rows = ft.records("general")
    return [" ".join(r["text"] for r in rng.sample(rows, rng.randint(1, 3)))[:rng.randint(5, 300)]
            for _ in range(n)]


def theirs(model, tokenizer, text):
    """(mean loss of transformers on the text after BOS, tokens)."""
    ids = torch.tensor([[tokenizer.bos_token_id]
                        + tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        return model(ids, labels=ids).loss.item(), ids.shape[1] - 1


def test_200_texts_score_as_transformers_loss(base):
    given = texts(200)
    ours = perplexity.score(*base, given)
    pairs = [theirs(*base, text) for text in given]
    for score, (loss, n) in zip(ours, pairs, strict=True):
        assert len(score.nll) == n and score.total / n == pytest.approx(loss, rel=1e-4, abs=1e-5)
    whole = math.exp(sum(loss * n for loss, n in pairs) / sum(n for _, n in pairs))
    assert perplexity.of(ours) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("window, stride", [(16, 15), (16, 8), (16, 1), (33, 7), (64, 20)])
def test_a_stride_scores_each_token_once_as_a_loop_over_tokens_does(base, window, stride):
    model, tokenizer = base
    text = " ".join(texts(3, seed=1))
    ids = [tokenizer.bos_token_id] + tokenizer(text, add_special_tokens=False)["input_ids"]
    ours = perplexity.score(model, tokenizer, [text], window, stride)[0].nll
    assert len(ours) == len(ids) - 1
    ends = list(range(min(window, len(ids)), len(ids), stride)) + [len(ids)]
    for t in random.Random(0).sample(range(1, len(ids)), 25):
        end = next(e for e in ends if e > t)
        seen = torch.tensor([ids[max(0, end - window):t]])
        with torch.no_grad():
            wanted = -model(seen).logits[0, -1].log_softmax(-1)[ids[t]].item()
        assert ours[t - 1] == pytest.approx(wanted, abs=1e-3)


def test_the_two_documents_of_the_interview_question():
    two = [perplexity.Score([4.0] * 10, 10, 40), perplexity.Score([2.0] * 990, 990, 4000)]
    assert perplexity.of(two) == pytest.approx(7.538, abs=1e-3)
    assert perplexity.mean_of_texts(two) == pytest.approx(30.99, abs=0.01)
    assert perplexity.of_mean_losses(two) == pytest.approx(20.09, abs=0.01)


def test_bits_per_byte_of_the_worked_case():
    one = perplexity.Score([2.00] * 10, 10, 42)
    other = perplexity.Score([2.00 * 3.2 / 4.2] * 10, 10, 32)
    assert perplexity.bits_per_byte([one]) == pytest.approx(0.687, abs=1e-3)
    assert perplexity.bits_per_byte([other]) == pytest.approx(perplexity.bits_per_byte([one]))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_batch_size_change_nothing(base, side):
    model, tokenizer = base
    examples = [ft.encode({"text": text}, tokenizer) for text in texts(8, seed=2)]
    batch = encoding.collate(examples, tokenizer.pad_token_id, side)
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        loss = model(**batch, position_ids=positions).loss.item()
    assert loss == pytest.approx(ft.loss_on(model, examples), rel=1e-4)


def test_a_stride_that_leaves_tokens_out_is_refused(base):
    with pytest.raises(ValueError, match="window has 16 tokens; expected 1 to 15"):
        perplexity.score(*base, ["x"], window=16, stride=16)
