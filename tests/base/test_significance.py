"""The test behind expect, compare and the guesses: how often it is wrong, and what it sees."""

import re

import numpy
import pytest

from ftkit.base import significance
from ftkit.lessons import claims

pytestmark = pytest.mark.quick
MANY = 4000  # experiments; the standard error of a rate of 5 % is 0.35 %


def experiments(*sizes, spread=1.0, shift=0.0, draw="standard_normal", count=MANY):
    """Pairs of lists: `a` is `shift` higher than `b`, whose values are `spread` times as wide."""
    rng = numpy.random.default_rng(sum(sizes))
    n, m = sizes
    a = getattr(rng, draw)(*((3,) if draw == "standard_t" else ()), size=(count, n)) + shift
    b = getattr(rng, draw)(*((3,) if draw == "standard_t" else ()), size=(count, m)) * spread
    return list(zip(a.tolist(), b.tolist(), strict=True))


def rate(pairs, claimed) -> float:
    return sum(map(bool, (claimed(a, b) for a, b in pairs))) / len(pairs)


def above(a, b, **options):
    return significance.difference(a, b, **options).above()


def test_students_quantiles_are_those_of_the_table():
    for tail, freedom, t in ((0.05, 1, 6.314), (0.05, 4, 2.132), (0.025, 1, 12.706),
                             (0.025, 4, 2.776), (0.025, 30, 2.042), (0.05, 1000, 1.646)):
        assert significance.t_quantile(tail, freedom) == pytest.approx(t, abs=6e-4)
        assert significance.t_tail(t, freedom) == pytest.approx(tail, rel=1e-3)
        assert significance.t_tail(-t, freedom) == pytest.approx(1 - tail, rel=1e-3)


def test_by_hand():
    found = significance.difference([1.0, 1.1, 0.9], [2.0, 2.1, 1.9])
    assert found.mean == pytest.approx(-1) and found.freedom == 4
    assert found.error == pytest.approx((2 * 0.01 / 3) ** 0.5)
    assert found.margin(0.025) == pytest.approx(2.776 * found.error, rel=1e-3)
    assert significance.difference([1.0, 1.1, 0.9], 0.5).freedom == 2  # an exact number
    assert significance.difference([1.0, 1.1], [2.0, 2.1, 1.9, 2.0]).freedom == 1
    assert significance.difference([1, 1], [2, 2]).below()  # without any spread
    assert not significance.difference([1], [2, 2, 2]).below()  # one seed has no known spread


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (5, 5), (3, 5), (2, 10), (3, 10), (3, 20)])
@pytest.mark.parametrize("spread", [0.3, 1, 10])
def test_a_direction_is_claimed_falsely_in_at_most_one_of_twenty(sizes, spread):
    pairs = experiments(*sizes, spread=spread)
    for sign in (1, -1):
        flipped = [([sign * x for x in a], [sign * x for x in b]) for a, b in pairs]
        assert rate(flipped, above) < 0.05 + 3 * 0.0035


@pytest.mark.parametrize("n", [3, 5])
def test_nor_with_heavy_tails_pairs_or_an_exact_number(n):
    assert rate(experiments(n, n, draw="standard_t"), above) < 0.05 + 3 * 0.0035
    pairs = experiments(n, n)
    assert rate(pairs, lambda a, b: above(a, b, paired=True)) < 0.05 + 3 * 0.0035
    assert rate(pairs, lambda a, b: above(a, 0.0)) < 0.05 + 3 * 0.0035


@pytest.mark.parametrize("n", [3, 5])
def test_equality_is_claimed_falsely_in_at_most_one_of_twenty(n):
    for shift, sd in ((1.0, 1.0), (1.0, 0.2), (1.0, 0.05)):  # the true difference is the margin
        pairs = [([x * sd + shift for x in a], [y * sd for y in b])
                 for a, b in experiments(n, n)]
        claimed = rate(pairs, lambda a, b: significance.difference(a, b).within(1.0))
        assert claimed < 0.05 + 3 * 0.0035
    close = [([x * 0.05 for x in a], [y * 0.05 for y in b]) for a, b in experiments(n, n)]
    assert rate(close, lambda a, b: significance.difference(a, b).within(1.0)) > 0.99


def test_the_docstring_of_expect_gives_the_power_that_is_measured():
    given = {int(n): int(percent) / 100 for percent, n in re.findall(
        r"(\d+) % with (\d)", claims.expect.__doc__.partition("; paired ")[0])}
    paired = {int(n): int(percent) / 100 for percent, n in re.findall(
        r"(\d+) % (?:with|and) (\d)", claims.expect.__doc__.partition("; paired ")[2])}
    assert set(given) == {2, 3, 5} and paired
    for n, power in given.items():
        assert rate(experiments(n, n, shift=2.0), above) == pytest.approx(power, abs=0.025)
    for n, power in paired.items():
        assert rate(experiments(n, n, shift=2.0), lambda a, b: above(a, 0.0)) == pytest.approx(
            power, abs=0.025)
