"""Each case can be told from its log, is mended by its repair and by no tempting one."""

import json

import pytest
from helpers import others_later

from ftkit.interview import cards, clinic
from ftkit.interview.clinic import FAULTS
from ftkit.lessons import progress_log
from ftkit.report import series

SETTINGS = [name for name in FAULTS if name in clinic.SETTINGS]
CODE = [name for name in FAULTS if name not in SETTINGS]


def rates(run):
    return [row["learning_rate"] for row in run.rows]


def fell(run):
    """The fraction of its first value by which val_loss fell."""
    points = series.points(run, "val_loss")
    return 1 - points[-1][1] / points[0][1]


def end_loss(run):
    return sum(row["loss"] for row in run.rows[-4:]) / 4


def rose(run, key):
    """How far a measure ends above its lowest value."""
    points = series.points(run, key)
    return points[-1][1] - min(y for _, y in points)


def learned(run):
    return 0.1 < run.after["last_loss"] < 1.5 and 0.4 < run.after["new_loss"] < 1.6


# Whether the sign of a fault is in the log of a run: of its own run and of no other.
SHOWS = {
    "rate_too_high": lambda run: end_loss(run) > 3
    and run.after.get("general_loss", 0) > run.before.get("general_loss", 0) + 1,
    "rate_too_low": lambda run: fell(run) < 0.3 and rates(run)[-1] < max(rates(run)) < 1e-4,
    "warmup_too_long": lambda run: len(run.rows) > 8 and rates(run)[-1] == max(rates(run)),
    "too_few_steps": lambda run: len(run.rows) <= 8,
    "trained_too_long": lambda run: rose(run, "val_loss") > 0.1 and end_loss(run) < 0.5,
    "nothing_replayed": lambda run: "tasks_loss" in run.after and rose(run, "tasks_loss") > 0.3,
    "wrong_labels": lambda run: len(run.rows) > 8 and fell(run) > 0.6
    and end_loss(run) > run.after["val_loss"] + 0.15,
    "optimizer_changed": lambda run: fell(run) < 0.3 and max(rates(run)) > 5e-4,
    "double_shift": lambda run: run.after["first_loss"] > 12,
    "all_masked": lambda run: run.after["label_share"] == 0,
    "mask_lost": lambda run: run.after["label_share"] > 0.99,
    "gradients_kept": lambda run: run.after["label_share"] > 0 and run.after["grad_norm"] > 15,
    "overlap": lambda run: 0 < run.after["val_loss"] < 0.8 * run.after["new_loss"],
    "padding_counted": lambda run: 0 < run.after["new_loss"] < 0.5 * run.after["last_loss"],
    "fresh_adapter": lambda run: learned(run) and run.after["exact_match"] < 0.1
    and run.after["stops"] > 0.7,
    "pad_is_eos": lambda run: learned(run) and run.after["stops"] < 0.7,
}
# Repairs that do not meet the target
TEMPTING = {
    "rate_too_high": ({"max_steps": 64}, {"warmup_steps": 8}),
    "rate_too_low": ({"max_steps": 64}, {"warmup_steps": 0}),
    "warmup_too_long": ({"learning_rate": 2e-3}, {"max_grad_norm": 0.0}, {"max_steps": 1}),
    "too_few_steps": ({"weight_decay": 0.1}, {"warmup_steps": 0}),
    "trained_too_long": ({"weight_decay": 0.1}, {"learning_rate": 2e-3}, {"records": "checked"}),
    "nothing_replayed": ({"max_steps": 48}, {"weight_decay": 0.1}),
    "wrong_labels": ({"max_steps": 64}, {"learning_rate": 2e-3}),
    "optimizer_changed": ({"warmup_steps": 0}, {"weight_decay": 0.1}),
} | {name: tuple({"what": stage} for stage in ("validation", "render", "tokenize")
                 if stage != FAULTS[name].stage)[:2] for name in CODE}

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
    assert [other for other in category if SHOWS[other](broken.run)] == [name], broken
    assert broken.misses(broken.broken), "a broken run must miss its target"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_right_repair_meets_the_target(name, seed, home, capsys):
    fault = FAULTS[name]
    right = fault.repair if name in SETTINGS else {"what": fault.stage}
    assert repaired(case(name, seed), right), capsys.readouterr().out


@pytest.mark.parametrize("name", others_later(FAULTS, now=(CODE[0], "warmup_too_long")))
def test_tempting_repairs_miss_the_target(name, home, capsys):
    broken = case(name)
    for changes in TEMPTING[name]:
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
    assert (wrong.in_log if name in CODE else "this case is one of settings") in card.back
    said = capsys.readouterr().out
    assert FAULTS[name].title in said and "✗" in said


def test_a_case_shows_log_curves_and_target_and_not_its_name(home):
    for name in ("warmup_too_long", "double_shift"):
        broken = case(name)
        shown = repr(broken) + broken._repr_html_() + broken.curves().text
        assert name not in shown and FAULTS[name].title not in shown
        assert "Target" in shown and "grad_norm" in shown
        assert broken.curves().png()[:4] == b"\x89PNG"


def test_unknown_names_stages_and_options_are_told(home, capsys):
    settings, code = case("warmup_too_long"), case("double_shift")
    with pytest.raises(ValueError, match="fits 'weather'.*warmup_too_long"):
        settings.name("weather")
    with pytest.raises(ValueError, match="Pass options, such as learning_rate"):
        settings.repair("collate")
    with pytest.raises(ValueError, match="no cause fits 'optimizer'.* or a stage: .*collate"):
        code.repair("optimizer")
    with pytest.raises(ValueError, match="nothing is changed"):
        settings.repair()
    with pytest.raises((TypeError, ValueError), match="learning_rat"):
        settings.repair(learning_rat=1e-3)
    with pytest.raises(ValueError, match="number is -1"):
        clinic.case(-1)
    assert not settings.name(...) and not code.repair(...)
    assert json.dumps(progress_log.entries()).count("clinic") == 0
