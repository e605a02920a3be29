"""Proofs about metrics, statistics, mixtures and preferences: counted or simulated, seeded."""

import itertools
import math
from collections.abc import Callable

import numpy
import sacrebleu
import torch
from torch.nn.functional import cross_entropy, logsigmoid

from ftkit.engine import loop
from ftkit.evaluate import metrics, perplexity
from ftkit.experiment import preference_losses
from ftkit.interview.proofs.loss import logits_with_loss, next_tokens
from ftkit.interview.proofs.registry import Evidence, proof, register


def rng(seed=0):
    return numpy.random.default_rng(seed)


# --------------------------------------------------------------------------- likelihood


DOCUMENTS = [perplexity.Score([4.0] * 10, 10, 10), perplexity.Score([2.0] * 990, 990, 990)]


@proof("arithmetic")
def corpus_ppl():
    whole = cross_entropy(torch.cat([logits_with_loss(loss, n) for loss, n in ((4, 10), (2, 990))]),
                          torch.zeros(1000, dtype=torch.long)).exp().item()
    if not math.isclose(whole, perplexity.of(DOCUMENTS), rel_tol=1e-3):
        return math.nan  # ftkit's own perplexity is another one
    return Evidence(whole, bars={"all tokens": whole,
                                 "mean of documents": perplexity.mean_of_texts(DOCUMENTS)})


# ------------------------------------------------------------------------------ metrics

PAIRS = [("-3", "3"), ("C++", "C")]
MORE_PAIRS = [*PAIRS, ("The Eiffel Tower.", "Eiffel Tower"), ("1,000", "1000")]
ANSWERS = ["the cat sat on the mat", "a dog", "he went to the market to buy some bread today"]
REFERENCES = ["the cat sat on the mat", "the dog barked loudly",
              "he went to the market to buy some milk today"]


def percent_equal(pairs, equal: Callable[[str, str], bool]) -> float:
    return 100 * sum(equal(answer, reference) for answer, reference in pairs) / len(pairs)


def squad_equal(answer: str, reference: str) -> bool:
    return metrics.squad_em(answer, [reference])


@proof("count")
def rouge_not():
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"])
    return scorer.score("the drug was safe for all patients",
                        "the drug was not safe for all patients")["rougeL"].fmeasure


def calibration_error(confidence, right, bins: int = 10) -> float:
    """Expected calibration error (Guo et al. 2017): the mean over confidence bins of the gap
    between mean confidence and accuracy, weighted by the number of answers in the bin."""
    confidence, right = numpy.asarray(confidence), numpy.asarray(right, float)
    bin_of = numpy.minimum((confidence * bins).astype(int), bins - 1)
    groups = [bin_of == i for i in range(bins)]
    return sum(abs((confidence[g] - right[g]).sum()) for g in groups) / len(right)


@proof("arithmetic")
def calibration_gap():
    """Three bins of unequal size, too sure in two of them and too modest in one."""
    bins = ((0.9, 100, 72), (0.5, 20, 16), (0.3, 80, 12))  # confidence, answers, right ones
    confidence = [sure for sure, n, _ in bins for _ in range(n)]
    right = [i < hits for _, n, hits in bins for i in range(n)]
    return 100 * calibration_error(confidence, right)


# --------------------------------------------------------------------------- statistics


@proof("simulation")
def power_items():
    n, generator = 3547, rng()
    a, b = (generator.binomial(n, p, 100_000) / n for p in (0.70, 0.73))
    spread = ((a * (1 - a) + b * (1 - b)) / n) ** 0.5
    return 100 * ((b - a) / spread > 1.96).mean()


@proof("simulation")
def spread_of_difference():
    a, b = rng().normal(size=(2, 200_000))
    return (a - b).std() / a.std()


@proof("simulation")
def gradient_noise():
    """Ratio of the gradient noise in batches of 16 to that in batches of 32."""
    draws = rng().normal(1.0, 3.0, (20_000, 32))
    return draws[:, :16].mean(1).std() / draws.mean(1).std()


def win_rate(swapped: bool, pairs=200_000, bias=0.7) -> float:
    """Win rate of model A over its equal; the judge prefers the first answer 7 times in 10.

    swapped: each pair is also judged with A second, and two different verdicts are a tie.
    """
    first = rng().random(pairs) < bias  # A is shown first and wins
    if not swapped:
        return 100 * first.mean()
    second = rng(1).random(pairs) >= bias  # A is shown second and wins
    decided = first == second
    if not decided.any():
        return math.nan  # the two orders were not judged independently
    return 100 * (decided.mean() * first[decided].mean() + 0.5 * (1 - decided.mean()))


ITEM = ("A farmer has twelve sheep and buys three more every week until he owns thirty "
        "sheep in all; how many weeks does it take him")
PARAPHRASE = ("How many weeks pass before a farmer who starts with twelve sheep, adding three of "
              "them weekly, is the owner of thirty animals")


def grams(text: str, n=13) -> set:
    return set(metrics.ngrams([w.strip(",;.?").lower() for w in text.split()], n))


@proof("simulation")
def split_leak():
    """Percentage of the test records whose question is also in training, when records are split
    and when questions are split: 100 questions in four wordings each."""
    question_of = numpy.arange(400) // 4

    def leaked(in_test) -> float:
        return 100 * numpy.isin(question_of[in_test], question_of[~in_test]).mean()

    records, questions = rng().permutation(400)[:40], rng(1).permutation(100)[:10]
    return (leaked(numpy.isin(numpy.arange(400), records)),
            leaked(numpy.isin(question_of, questions)))


# ------------------------------------------------------------------------------ mixtures

SIZES = (1_000_000, 100_000, 5_000)


def draw_counts(weights, draws=1_105_000):
    """Number of times each set is drawn with these weights."""
    weights = numpy.asarray(weights, float)
    return rng().multinomial(draws, weights / weights.sum())


def percentages(counts):
    return 100 * counts / counts.sum()


@proof("simulation")
def mix_t2():
    percent = percentages(draw_counts([size**0.5 for size in SIZES]))
    return Evidence(percent[2], bars={
        f"{size:,} records": part for size, part in zip(SIZES, percent, strict=True)})


# --------------------------------------------------------------------------- preferences


def minimized(start, loss: Callable, steps: int, lr: float):
    """The tensor that minimizes `loss`, found by Adam."""
    x = torch.as_tensor(start).requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    return x.detach()


@proof("simulation")
def kl_k3():
    p, q = numpy.array([0.5, 0.3, 0.2]), numpy.array([0.2, 0.3, 0.5])
    exact = (p * numpy.log(p / q)).sum()
    drawn = rng().choice(3, 400_000, p=p)
    policy, reference = (torch.tensor(numpy.log(of))[drawn] for of in (p, q))
    values = preference_losses.k3(policy, reference)  # never negative, unlike k1
    return values.clamp(min=0).mean() / exact


@proof("simulation")
def kl_optimum():
    reference, reward = torch.full((5,), 0.2), torch.tensor([1.0, 0, 0, 0, 0])

    def loss(logits):
        policy = logits.softmax(0)
        return -(policy * reward).sum() + (policy * (policy / reference).log()).sum()

    return 100 * minimized(torch.zeros(5), loss, 300, 0.05).softmax(0)[0]


@proof("simulation")
def kl_direction():
    """Standard deviation of a bell curve fitted to two peaks, by reverse and by forward KL."""
    x = torch.linspace(-8, 8, 801)

    def bell(mean, spread):
        return (-0.5 * ((x - mean) / spread) ** 2).softmax(0) + 1e-12

    teacher = (bell(-2, 0.5) + bell(2, 0.5)) / 2

    def fitted_spread(reverse):
        def loss(mean_and_log_spread):
            student = bell(mean_and_log_spread[0], mean_and_log_spread[1].exp())
            p, q = (student, teacher) if reverse else (teacher, student)
            return (p * (p / q).log()).sum()

        return float(minimized([0.5, 0.0], loss, 400, 0.05)[1].exp())

    spreads = {"reverse KL": fitted_spread(True), "forward KL": fitted_spread(False)}
    return Evidence(*spreads.values(), bars=spreads)


@proof("simulation")
def elo_gap():
    def loss(gap):
        log_odds = gap * math.log(10) / 400
        return -(640 * logsigmoid(log_odds) + 360 * logsigmoid(-log_odds)).sum()

    return minimized([0.0], loss, 400, 1.0)


# ------------------------------------------------------------------------------ debugging

NOTHING_SUPERVISED = torch.full((6,), -100)


@proof("arithmetic")
def l2sp_start():
    """Gradients of ftkit's L2-SP and of weight decay (L2 toward zero) at the start of a run."""
    weight = torch.nn.Parameter(torch.ones(10))
    weight.grad = torch.zeros(10)
    loop.pull_back([weight], [weight.detach().clone()], 0.1)
    decay = torch.autograd.grad(0.05 * (weight**2).sum(), weight)[0]
    return weight.grad.norm(), decay.norm()


register(
    "arithmetic",
    perplexity_2=lambda: cross_entropy(logits_with_loss(2.0, 50),
                                       torch.zeros(50, dtype=torch.long)).exp(),
    bits_per_byte=lambda: perplexity.bits_per_byte(
        [perplexity.Score([2.0] * 10_000, words=1, bytes=42_000)]),
    mean_ppl=lambda: perplexity.mean_of_texts(DOCUMENTS),
    macro_f1=lambda: metrics.macro_f1([0] * 100, [0] * 95 + [1] * 5),
    grpo_advantage=lambda: preference_losses.advantages(
        torch.tensor([[1.0, 0, 0, 1, 0, 0, 0, 0]])).max(),
    # The chosen answer has gained 5 nats and the rejected one has lost 5; beta is 0.1.
    dpo_margin=lambda: preference_losses.sigmoid(
        torch.tensor([[-15.0], [-35.0]]), torch.tensor([[-20.0], [-30.0]]), 0.1)[0],
)

register(
    "simulation",
    majority_of_five=lambda: 100 * (rng().binomial(5, 0.6, 1_000_000) > 2).mean(),
    half_width=lambda: 100 * 1.96 * (rng().binomial(50, 0.7, 200_000) / 50).std(),
    judge_swapped=lambda: win_rate(True),
    judge_fixed=lambda: (win_rate(False), win_rate(True)),
    mix_epochs=lambda: draw_counts([size**0.5 for size in SIZES])[2] / SIZES[2],
    # Groups of eight answers, each right in nine of ten cases, that are all right or all wrong.
    dead_groups=lambda: 100 * numpy.isin((rng().random((200_000, 8)) < 0.9).mean(1), (0, 1)).mean(),
    mix_cap=lambda: percentages(draw_counts([min(size, 2**17) for size in SIZES]))[2],
)

register(
    "count",
    squad_joins=lambda: percent_equal(PAIRS, squad_equal),
    normalizer_matters=lambda: (percent_equal(MORE_PAIRS, squad_equal),
                                percent_equal(MORE_PAIRS, str.__eq__)),
    bleu_corpus=lambda: sacrebleu.corpus_bleu(ANSWERS, [REFERENCES]).score,
    bleu_mean=lambda: numpy.mean([sacrebleu.sentence_bleu(answer, [reference]).score for
                                  answer, reference in zip(ANSWERS, REFERENCES, strict=True)]),
    sign_test=lambda: 2 * numpy.mean([
        sum(coins) >= 10 for coins in itertools.product((0, 1), repeat=14)]),
    pass_at_5=lambda: numpy.mean([
        min(draw) < 3 for draw in itertools.combinations(range(10), 5)]),
    paraphrase_grams=lambda: 100 * len(grams(PARAPHRASE) - grams(ITEM)) / len(grams(PARAPHRASE)),
    copy_grams=lambda: (len(grams(f"Solve this: {ITEM}?") & grams(ITEM)),
                        len(grams(PARAPHRASE) & grams(ITEM))),
    nan_batch=lambda: 100 * cross_entropy(torch.randn(6, 9), NOTHING_SUPERVISED).isnan().float(),
    zero_batch=lambda: 100.0 * bool(
        cross_entropy(torch.randn(6, 9), NOTHING_SUPERVISED, reduction="sum")
        / (NOTHING_SUPERVISED != -100).sum().clamp(min=1) == 0),
)

register("run", confidence_costs=lambda: tuple(
    cross_entropy(factor * next_tokens()[0], next_tokens()[1]) for factor in (3, 1)))
