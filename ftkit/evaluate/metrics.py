"""Metrics that compare answers with references, and their uncertainty.

    metrics.squad_em("The Eiffel Tower.", ["Eiffel Tower"])        # True
    metrics.bleu(answers, references), metrics.rouge(answers, references)
    metrics.bootstrap(hits), metrics.mcnemar(hits_a, hits_b), metrics.items_needed(0.70, 0.73)
"""

import math
import random
import re
import string
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

# ------------------------------------------------------------------------ question answering


def squad_normal(text: str) -> str:
    """Normalize text as SQuAD's evaluation script does (Rajpurkar et al. 2016): lower case, no
    ASCII punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_em(answer: str, references: Sequence[str]) -> bool:
    """Whether the answer equals one of the references after `squad_normal`."""
    return any(squad_normal(answer) == squad_normal(r) for r in references)


def squad_f1(answer: str, references: Sequence[str]) -> float:
    """Word-level F1 (repeated words count), for the reference with the highest score."""
    def score(reference):
        words, expected = squad_normal(answer).split(), squad_normal(reference).split()
        if not words or not expected:
            return float(words == expected)
        return _f(sum((Counter(words) & Counter(expected)).values()), len(words), len(expected))

    return max(map(score, references))


# ------------------------------------------------------------------------- overlap of n-grams


def ngrams(words: Sequence, n: int) -> Counter:
    """Count each n-gram."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu(answers: Sequence[str], references: Sequence[str], tokenize: str = "13a") -> float:
    """Corpus BLEU, 0 to 100 (Papineni et al. 2002), with one reference per answer, by sacrebleu.

    n-gram matches are summed over the corpus before dividing, so this is not a mean of sentence
    scores. tokenize: a tokenizer of sacrebleu ("13a", "char", "none", ...). Orders without a match
    are smoothed by sacrebleu's default method ("exp").
    """
    import sacrebleu

    return sacrebleu.corpus_bleu(list(answers), [list(references)], tokenize=tokenize,
                                 force=True).score


def rouge(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Mean F-measure of ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), 0 to 1, by rouge-score.

    Words are runs of ASCII letters and digits in lower case, without stemming.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    scores = [scorer.score(r, a) for a, r in zip(answers, references, strict=True)]
    return {name: sum(score[name].fmeasure for score in scores) / max(1, len(scores))
            for name in scorer.rouge_types}


def _f(common: int, given: int, expected: int) -> float:
    """F-measure: the harmonic mean of common / given and common / expected."""
    return 2 * common / (given + expected) if common else 0.0


# -------------------------------------------------------------------------- classification


def accuracy(predictions: Sequence, labels: Sequence) -> float:
    """Fraction of predictions that equal their label."""
    return sum(a == b for a, b in zip(predictions, labels, strict=True)) / len(labels)


def macro_f1(predictions: Sequence, labels: Sequence) -> float:
    """Mean F1 over the classes; a class that is never predicted counts as 0."""
    scores = []
    for name in set(labels) | set(predictions):
        correct = sum(a == b == name for a, b in zip(predictions, labels, strict=True))
        scores.append(_f(correct, list(predictions).count(name), list(labels).count(name)))
    return sum(scores) / len(scores)


def kappa(a: Sequence, b: Sequence) -> float:
    """Cohen's kappa (1960), the agreement of two judges beyond chance: 1 is full agreement, 0 is
    chance, nan if both use one and the same label throughout."""
    n = len(a)
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    chance = sum(list(a).count(w) * list(b).count(w) for w in set(a)) / n**2
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan


# ------------------------------------------------------------------------------ statistics


def bootstrap(values: Sequence[float], level: float = 0.95, draws: int = 2000,
              seed: int = 0) -> tuple[float, float]:
    """Bootstrap percentile interval of the mean (Efron 1979)."""
    rng, n = random.Random(seed), len(values)
    means = sorted(sum(rng.choices(values, k=n)) / n for _ in range(draws))
    cut = int(draws * (1 - level) / 2)
    return means[cut], means[-cut - 1]


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact two-sided p value of McNemar's test (1947) for two models on the *same* items.

    Only items on which the models disagree affect the result.
    """
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    n, few = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, k) for k in range(few + 1)) / 2**n
    return min(1.0, 2 * tail)


def items_needed(p: float, q: float, power: float = 0.8, level: float = 0.05) -> int:
    """Sample size per model to distinguish the fractions p and q on *different* items.

    Two-sided test with this power and level (normal approximation, pooled variance).
    """
    z = NormalDist().inv_cdf
    mean = (p + q) / 2
    spread = (z(1 - level / 2) * math.sqrt(2 * mean * (1 - mean))
              + z(power) * math.sqrt(p * (1 - p) + q * (1 - q)))
    return math.ceil((spread / (p - q)) ** 2)


def wilson(wins: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's confidence interval of a fraction (1927); wins may include half points for ties."""
    z = NormalDist().inv_cdf(1 - (1 - level) / 2)
    share, wide = wins / n, z * z / n
    middle = (share + wide / 2) / (1 + wide)
    half = z * math.sqrt(share * (1 - share) / n + wide / (4 * n)) / (1 + wide)
    return middle - half, middle + half


# --------------------------------------------------------------------------- contamination


def leaked(train: Sequence[str], test: Sequence[str], n: int = 13) -> list[int]:
    """Indices of test texts that share n successive words with a training text.

    n = 13 as in the GPT-3 paper. Texts with fewer words are compared as a whole.
    """
    def words(text):
        return re.findall(r"\w+", text.lower())

    seen = {gram for text in train for gram in ngrams(words(text), n)}
    short = {tuple(words(text)) for text in train}
    return [i for i, text in enumerate(test)
            if (line := words(text)) and (tuple(line) in short if len(line) < n
                                          else any(g in seen for g in ngrams(line, n)))]
