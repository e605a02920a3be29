"""Each case can be told from its log, is mended by its repair and by no tempting one."""

import json

import pytest
from helpers import others_later

from ftkit.interview import cards, clinic
from ftkit.interview.clinic import FAULTS
from ftkit.lessons import progress_log

SETTINGS = [name for name in FAULTS if FAULTS[name].scenario != "code"]
CODE = [name for name in FAULTS if FAULTS[name].scenario == "code"]

# One fault of a setting and one of code guard the code; the repairs of the others are claims.
NAMES = others_later(FAULTS, now=(SETTINGS[0], CODE[0]))
SEEDS = others_later(range(clinic.SEEDS), now=(0,))
# Of each scenario, and those of code that are soon seen; the signs of the others are claims too.
SEEN = others_later(FAULTS, now=(
    "rate_too_high", "warmup_too_long", "too_few_steps", "trained_too_long", "nothing_replayed",
    "double_shift", "all_masked", "overlap", "padding_counted", "fresh_adapter"))


def case(name, seed=0):
    """A case with this fault, by number, so that its seed is `seed`."""
    number = next(n for n in range(1000) if clinic.fault_of(n) == name and n % clinic.SEEDS == seed)
    return clinic.case(number)


def repaired(broken, changes):
    """The verdict on these changes; a run is evaluated at its end, where its target is."""
    once = {} if broken.category == "code" else {"eval_steps": 100}
    return broken.repair(**changes | once)


def test_there_are_at_least_twelve_and_each_stretch_of_cases_has_them_all():
    assert len(FAULTS) >= 12
    for turn in range(3):
        numbers = range(turn * len(FAULTS), (turn + 1) * len(FAULTS))
        assert {clinic.fault_of(n) for n in numbers} == set(FAULTS)
    assert len({clinic.fault_of(n * len(FAULTS)) for n in range(20)}) > 1


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_log_shows_this_fault_and_no_other_of_its_category(name, seed, home):
    broken = case(name, seed)
    category = SETTINGS if name in SETTINGS else CODE
    seen = [other for other in category if FAULTS[other].seen(broken.run)]
    assert seen == [name], broken
    assert broken.misses(broken.run), "a broken run must miss its target"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_right_repair_meets_the_target(name, seed, home, capsys):
    assert repaired(case(name, seed), FAULTS[name].right), capsys.readouterr().out


@pytest.mark.parametrize("name", others_later(FAULTS, now=CODE[:1]))
def test_tempting_repairs_miss_the_target(name, home, capsys):
    broken = case(name)
    assert len(FAULTS[name].wrong) >= 2
    for changes in FAULTS[name].wrong:
        assert not repaired(broken, changes), changes
    assert "misses the target" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["warmup_too_long", "double_shift"])
def test_only_the_right_name_is_taken_and_a_wrong_one_becomes_a_card(name, home, capsys):
    broken = case(name)
    for other in FAULTS:
        assert bool(broken.name(other)) == (other == name)
    card, = [c for c in cards.misses() if c.key == f"bug:clinic {broken.number}"]
    wrong = FAULTS[[other for other in FAULTS if other != name][-1]]  # the last wrong guess
    assert wrong.title in card.back
    assert wrong.sign in card.back or "this case is one of settings" in card.back
    said = capsys.readouterr().out
    assert FAULTS[name].title in said and "✗" in said


def test_a_case_shows_log_curves_and_target_and_not_its_name(home):
    for name in ("warmup_too_long", "double_shift"):
        broken = case(name)
        shown = repr(broken) + broken._repr_html_() + broken.curves().text
        assert name not in shown and FAULTS[name].title not in shown
        assert "Target" in shown and "grad_norm" in shown
        assert broken.curves().png()[:4] == b"\x89PNG"


def test_a_repair_of_one_step_misses_the_target(home, capsys):
    assert not repaired(case("warmup_too_long"), {"max_steps": 1})
    assert "misses the target: val_loss is" in capsys.readouterr().out


def test_unknown_names_stages_and_options_are_told(home, capsys):
    settings, code = case("warmup_too_long"), case("double_shift")
    with pytest.raises(ValueError, match="no cause is called 'warmup'; there is warmup_too_long"):
        settings.name("warmup")
    with pytest.raises(ValueError, match="give options such as learning_rate"):
        settings.repair("collate")
    with pytest.raises(ValueError, match="has no stage 'optimizer'"):
        code.repair("optimizer")
    with pytest.raises(ValueError, match="nothing is changed"):
        settings.repair()
    with pytest.raises((TypeError, ValueError), match="learning_rat"):
        settings.repair(learning_rat=1e-3)
    with pytest.raises(ValueError, match="number is -1"):
        clinic.case(-1)
    assert not settings.name(...) and not code.repair(...)
    assert json.dumps(progress_log.entries()).count("clinic") == 0
