"""Proofs about metrics, statistics, mixtures and preferences: counted or simulated, seeded."""

from __future__ import annotations

import functools
import itertools
import math

from ftkit.evaluate import metrics
from ftkit.interview.proofs.core import Found, proof


def rng(seed=0):
    import numpy

    return numpy.random.default_rng(seed)


# --------------------------------------------------------------------------- likelihood


@proof("perplexity_2")
def _():
    import torch

    logits = torch.zeros(50, 1000)
    # The chosen token's logit for which minus its log-probability is 2.
    logits[:, 0] = math.log(999 / (math.e**2 - 1))
    loss = torch.nn.functional.cross_entropy(logits, torch.zeros(50, dtype=torch.long))
    return loss.exp()


@proof("bits_per_byte")
def _():
    tokens, bytes_each = 10_000, 4.2
    return sum(2.0 / math.log(2) for _ in range(tokens)) / (tokens * bytes_each)


@functools.cache
def documents():
    import torch

    return [torch.full((10,), 4.0), torch.full((990,), 2.0)]


@proof("corpus_ppl")
def _():
    import torch

    whole = torch.cat(documents()).mean().exp()
    return Found(float(whole), bars={"all tokens": float(whole), "mean of documents": float(
        sum(d.mean().exp() for d in documents()) / 2)})


@proof("mean_ppl")
def _():
    return sum(float(d.mean().exp()) for d in documents()) / 2


@proof("confidence_costs")
def _():
    import torch

    from ftkit.interview.proofs.lora import base

    logits, labels = base()[3][:, :-1].flatten(0, 1), base()[2]["labels"][:, 1:].flatten()
    loss = functools.partial(torch.nn.functional.cross_entropy, target=labels)
    return float(loss(3 * logits)), float(loss(logits))


# ------------------------------------------------------------------------------ metrics


PAIRS = (("-3", "3"), ("C++", "C"))


@proof("squad_joins")
def _():
    return 100 * sum(metrics.squad_em(a, [b]) for a, b in PAIRS) / len(PAIRS)


@proof("normalizer_matters")
def _():
    pairs = (*PAIRS, ("The Eiffel Tower.", "Eiffel Tower"), ("1,000", "1000"))
    return (100 * sum(metrics.squad_em(a, [b]) for a, b in pairs) / len(pairs),
            100 * sum(a == b for a, b in pairs) / len(pairs))


MADE = ["the cat sat on the mat", "a dog", "he went to the market to buy some bread today"]
WANTED = ["the cat sat on the mat", "the dog barked loudly",
          "he went to the market to buy some milk today"]


@proof("bleu_corpus")
def _():
    import sacrebleu

    return sacrebleu.corpus_bleu(MADE, [WANTED]).score


@proof("bleu_mean")
def _():
    import sacrebleu

    return sum(sacrebleu.sentence_bleu(m, [w]).score
               for m, w in zip(MADE, WANTED, strict=True)) / len(MADE)


@proof("rouge_not")
def _():
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"])
    return scorer.score("the drug was safe for all patients",
                        "the drug was not safe for all patients")["rougeL"].fmeasure


@proof("macro_f1")
def _():
    return metrics.macro_f1([0] * 100, [0] * 95 + [1] * 5)


@proof("calibration_gap")
def _():
    right = [True] * 72 + [False] * 28
    return 100 * abs(0.9 - sum(right) / len(right))


# --------------------------------------------------------------------------- statistics


@proof("half_width")
def _():
    means = rng().binomial(50, 0.7, 200_000) / 50
    return 100 * 1.96 * means.std()


@proof("power_items")
def _():
    n, draw = 3547, rng()
    a, b = (draw.binomial(n, p, 100_000) / n for p in (0.70, 0.73))
    spread = ((a * (1 - a) + b * (1 - b)) / n) ** 0.5
    return 100 * ((b - a) / spread > 1.96).mean()


@proof("sign_test")
def _():
    tails = [sum(coins) for coins in itertools.product((0, 1), repeat=14)]
    return 2 * sum(heads >= 10 for heads in tails) / len(tails)


@proof("pass_at_5")
def _():
    draws = list(itertools.combinations(range(10), 5))
    return sum(min(draw) < 3 for draw in draws) / len(draws)


@proof("spread_of_difference")
def _():
    a, b = rng().normal(size=(2, 200_000))
    return (a - b).std() / a.std()


@proof("gradient_noise")
def _():
    """Means of 16 and of 32 noisy gradients, as batches draw them."""
    draws = rng().normal(1.0, 3.0, (20_000, 32))
    return draws[:, :16].mean(1).std() / draws.mean(1).std()


def judged(swap: bool, pairs=200_000, bias=0.7) -> float:
    """Win rate of model A against its equal; the judge takes the first answer 7 times in 10."""
    import numpy

    first = rng().random(pairs) < bias  # A stands first
    if not swap:
        return 100 * first.mean()
    second = rng(1).random(pairs) >= bias  # the same pair with A second
    return 100 * numpy.where(first == second, first, 0.5).mean()


proof("judge_swapped")(lambda: judged(True))
proof("judge_fixed")(lambda: (judged(False), judged(True)))

ITEM = ("A farmer has twelve sheep and buys three more every week until he owns thirty "
        "sheep in all; how many weeks does it take him")
TOLD = ("How many weeks pass before a farmer who starts with twelve sheep, adding three of "
        "them weekly, is the owner of thirty animals")


def grams(text: str, n=13) -> set:
    words = [w.strip(",;.?").lower() for w in text.split()]
    return set(metrics.ngrams(words, n))


@proof("paraphrase_grams")
def _():
    return 100 * len(grams(TOLD) - grams(ITEM)) / len(grams(TOLD))


@proof("copy_grams")
def _():
    copied = "Solve this: " + ITEM + "?"
    return len(grams(copied) & grams(ITEM)), len(grams(TOLD) & grams(ITEM))


@proof("split_leak")
def _():
    from ftkit.data import schema

    asked = [{"instruction": f"{how} question {q}", "output": str(q)}
             for q in range(100) for how in ("Answer", "Please answer", "Solve", "What is")]
    order = rng().permutation(len(asked))
    held, kept = order[:40], order[40:]
    kept_answers = {asked[i]["output"] for i in kept}
    at_random = 100 * sum(asked[i]["output"] in kept_answers for i in held) / len(held)
    groups = rng(1).permutation(100)[:10]
    train, test = schema.Records([r for r in asked if int(r["output"]) not in groups]), [
        r for r in asked if int(r["output"]) in groups]
    answers = {r["output"] for r in train}
    return at_random, 100 * sum(r["output"] in answers for r in test) / len(test)


# ------------------------------------------------------------------------------ mixtures

SIZES = (1_000_000, 100_000, 5_000)


def drawn(weights, draws=1_105_000):
    import numpy

    weights = numpy.asarray(weights, float)
    return rng().multinomial(draws, weights / weights.sum())


@proof("mix_t2")
def _():
    counts = drawn([size**0.5 for size in SIZES])
    return Found(100 * counts[2] / counts.sum(), bars={
        f"{size:,} records": 100 * c / counts.sum()
        for size, c in zip(SIZES, counts, strict=True)})


@proof("mix_epochs")
def _():
    return drawn([size**0.5 for size in SIZES])[2] / SIZES[2]


@proof("mix_cap")
def _():
    counts = drawn([min(size, 2**17) for size in SIZES])
    return 100 * counts[2] / counts.sum()


# --------------------------------------------------------------------------- preferences


@proof("dpo_margin")
def _():
    import torch

    return -torch.nn.functional.logsigmoid(torch.tensor(1.0))


@proof("grpo_advantage")
def _():
    import torch

    rewards = torch.tensor([1.0, 0, 0, 1, 0, 0, 0, 0])
    return ((rewards - rewards.mean()) / rewards.std(correction=0)).max()


@proof("dead_groups")
def _():
    right = rng().random((200_000, 8)) < 0.9
    return 100 * (right.all(1) | ~right.any(1)).mean()


@proof("kl_k3")
def _():
    import numpy

    p, q = numpy.array([0.5, 0.3, 0.2]), numpy.array([0.2, 0.3, 0.5])
    exact = (p * numpy.log(p / q)).sum()
    ratio = (q / p)[rng().choice(3, 400_000, p=p)]
    return (ratio - 1 - numpy.log(ratio)).mean() / exact


@proof("kl_optimum")
def _():
    import torch

    reference, reward = torch.full((5,), 0.2), torch.tensor([1.0, 0, 0, 0, 0])
    logits = torch.zeros(5, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(300):
        policy = logits.softmax(0)
        loss = -(policy * reward).sum() + (policy * (policy / reference).log()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return 100 * logits.softmax(0)[0].detach()


@proof("kl_direction")
def _():
    import torch

    at = torch.linspace(-8, 8, 801)

    def bell(mean, spread):
        return (-0.5 * ((at - mean) / spread) ** 2).softmax(0)

    teacher = (bell(-2, 0.5) + bell(2, 0.5)) / 2 + 1e-12

    def fitted(reverse):
        student = torch.tensor([0.5, 0.0], requires_grad=True)  # mean, logarithm of the spread
        optimizer = torch.optim.Adam([student], lr=0.05)
        for _ in range(400):
            made = bell(student[0], student[1].exp()) + 1e-12
            p, q = (made, teacher) if reverse else (teacher, made)
            optimizer.zero_grad()
            (p * (p / q).log()).sum().backward()
            optimizer.step()
        return float(student[1].detach().exp())

    spreads = {"reverse KL": fitted(True), "forward KL": fitted(False)}
    return Found(*spreads.values(), bars=spreads)


@proof("elo_gap")
def _():
    import torch

    gap = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([gap], lr=1.0)
    for _ in range(400):
        wins = torch.sigmoid(gap * math.log(10) / 400)
        loss = -(640 * wins.log() + 360 * (1 - wins).log()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return gap.detach()


# ------------------------------------------------------------------------------ debugging


@proof("nan_batch")
def _():
    import torch

    losses = [torch.nn.functional.cross_entropy(torch.randn(6, 9), torch.full((6,), -100))
              for _ in range(8)]
    return 100 * sum(bool(torch.isnan(loss)) for loss in losses) / len(losses)


@proof("zero_batch")
def _():
    import torch

    zeros = 0
    for _ in range(8):
        labels = torch.full((6,), -100)
        summed = torch.nn.functional.cross_entropy(torch.randn(6, 9), labels, reduction="sum")
        zeros += float(summed / max(1, int((labels != -100).sum()))) == 0.0
    return 100 * zeros / 8


@proof("l2sp_start")
def _():
    import torch

    start = torch.ones(10)
    weight = start.clone().requires_grad_(True)
    pull = torch.autograd.grad(0.05 * ((weight - start) ** 2).sum(), weight)[0]
    decay = torch.autograd.grad(0.05 * (weight**2).sum(), weight)[0]
    return float(pull.norm()), float(decay.norm())
