"""Metrics against the words of the SQuAD rule, worked examples, and enumerations."""

import itertools
import math
import random
import re
import unicodedata

import pytest

from ftkit.evaluate import metrics

pytestmark = pytest.mark.quick

WORDS = ("the a an cat dog sat on mat, red. house! It's U.S. 3.5 -3 C++ $5 (big) un café "
         "Eiffel Tower tower; running").split()


def pairs(n, seed):
    """Answers that share much, little or nothing with their references; some are empty."""
    rng = random.Random(seed)
    for _ in range(n):
        reference = rng.choices(WORDS, k=rng.randint(1, 14))
        answer = [w for w in reference if rng.random() < 0.8]
        for _ in range(rng.randint(0, 4)):
            answer.insert(rng.randint(0, len(answer)), rng.choice(WORDS))
        yield " ".join(answer), " ".join(reference)


def test_bleu_sums_over_the_corpus_and_rouge_is_the_mean_of_the_answers():
    answers, references = ["the cat sat down", "a dog"], ["the cat sat", "the dog"]
    matches = (3 + 1) / 6, (2 + 0) / 4, 1 / 2, 1 / (2 * 1)  # the last order is smoothed
    assert metrics.bleu(answers, references) == pytest.approx(
        100 * math.prod(matches) ** (1 / 4))
    assert metrics.rouge(answers, references) == pytest.approx(
        {"rouge1": (6 / 7 + 1 / 2) / 2, "rouge2": (4 / 5 + 0) / 2, "rougeL": (6 / 7 + 1 / 2) / 2})


def squad_words(text):
    """The rule in the order of its words: lower, punctuation out, articles out, spaces."""
    kept = [c for c in text.lower() if not (ord(c) < 128 and not c.isalnum() and not c.isspace())]
    return [w for w in "".join(kept).split() if w not in ("a", "an", "the")]


def test_exact_match_and_f1_of_300_pairs_follow_the_squad_rule():
    seen = set()
    for answer, reference in pairs(300, 2):
        said, wanted = squad_words(answer), squad_words(reference)
        assert metrics.squad_em(answer, [reference]) == (said == wanted)
        left, common = list(wanted), 0
        for word in said:
            if word in left:
                left.remove(word)
                common += 1
        if common:
            p, r = common / len(said), common / len(wanted)
            f1 = 2 * p * r / (p + r)
        else:
            f1 = float(said == wanted)
        assert metrics.squad_f1(answer, [reference]) == pytest.approx(f1)
        seen.add(said == wanted)
    assert seen == {True, False}


@pytest.mark.parametrize("answer, reference, equal", [
    ("The Eiffel Tower.", "Eiffel Tower", True), ("1,000", "1000", True), ("$5", "5", True),
    ("5.0", "5", False), ("-3", "3", True), ("C++", "C", True), ("U.S.", "US", True)])
def test_what_the_squad_normalizer_makes_equal(answer, reference, equal):
    assert metrics.squad_em(answer, [reference]) is equal


def test_the_best_of_several_references_counts():
    assert metrics.squad_f1("big red dog", ["cat", "red dog"]) == pytest.approx(0.8)


def test_macro_f1_of_a_model_that_always_says_the_common_class():
    wanted = ["no"] * 95 + ["yes"] * 5
    assert metrics.accuracy(["no"] * 100, wanted) == 0.95
    assert metrics.macro_f1(["no"] * 100, wanted) == pytest.approx(190 / 195 / 2)


def test_kappa_of_a_worked_table():
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert metrics.kappa(a, b) == pytest.approx(0.4)  # 70 % seen, 50 % by chance
    assert metrics.kappa(a, a) == 1 and math.isnan(metrics.kappa(["yes"] * 4, ["yes"] * 4))


def test_mcnemar_equals_the_enumeration_of_all_signs():
    a, b = [1] * 7 + [0] * 2 + [1] * 5, [0] * 7 + [1] * 2 + [1] * 5
    worse = [sum(s) for s in itertools.product((0, 1), repeat=9)]
    p = sum(k <= 2 or k >= 7 for k in worse) / 2**9
    assert metrics.mcnemar(a, b) == pytest.approx(p)
    assert metrics.mcnemar(a, a) == 1.0


def test_seventy_against_seventy_three_needs_3550_items_each():
    assert metrics.items_needed(0.70, 0.73) == pytest.approx(3550, rel=0.01)


def test_the_bootstrap_covers_as_often_as_it_says():
    rng, hits = random.Random(0), 0
    for trial in range(200):
        sample = [float(rng.random() < 0.7) for _ in range(100)]
        low, high = metrics.bootstrap(sample, draws=300, seed=trial)
        hits += low <= 0.7 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_wilson_of_a_textbook_case():
    low, high = metrics.wilson(8, 10)
    assert (low, high) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))


def test_a_leak_is_found_and_a_paraphrase_is_not():
    train = ["In the old town of Arles there lived a painter who loved the yellow fields more "
             "than bread", "Name the capital of France."]
    test = ["He wrote: in the old town of Arles there lived a painter who loved the yellow fields",
            "A painter in Arles loved yellow fields more than he loved his bread, people say.",
            "name the capital of france", "Name the capital of Peru."]
    assert metrics.leaked(train, test) == [0, 2]
    assert metrics.leaked(train, test, n=4) == [0, 1, 2, 3]  # a small n cries wolf


def test_unicode_does_not_break_a_score():
    text = unicodedata.normalize("NFD", "café 中文 😀")
    assert metrics.squad_f1(text, [text]) == 1 and metrics.bleu([text], [text], "char") > 99
    assert re.search("caf", metrics.squad_normal(text))
