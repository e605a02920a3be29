"""Curves of a sweep against hand-made runs; comparison at equal learning, worked out by hand."""

import statistics

import pytest

import ftkit as ft
from ftkit.experiment.run import Run
from ftkit.lessons import pictures_of_runs
from ftkit.lessons.pictures_of_runs import Frontier


def condition(*points):
    return [Run(id=str(i), config=ft.Config(seed=i), model_name="tuned", data={},
                before={"new": 0.0, "old": 0.9}, after={"new": x, "old": y})
            for i, (x, y) in enumerate(points)]


@pytest.fixture
def front():
    front = Frontier(lambda model: {}, "new", "old", {"new": 0.0, "old": 0.9}, ("slow", "fast"))
    front.conditions = {
        "slow": condition((0.2, 0.9), (0.2, 0.7)), "fast": condition((0.8, 0.1), (1.0, 0.3)),
        "better": condition((0.55, 0.8), (0.2, 0.8)), "beyond": condition((1.0, 0.3), (0.1, 0.8))}
    return front


def test_gain_is_measured_at_equal_learning(front):
    # first seed: from (0.2, 0.9) to (0.8, 0.1), 0.4333 at 0.55; second: 0.7 at 0.2
    assert front.gain("better") == pytest.approx([0.8 - 0.9 + 0.8 * 0.35 / 0.6, 0.1])
    assert front.gain("beyond") == pytest.approx([0.2, 0.1])
    assert front.gain("slow", over=("slow",)) == [0, 0]
    front.conditions["better"].pop()
    with pytest.raises(ValueError, match="have 1 and 2 runs"):
        front.gain("better")


def test_an_unknown_condition_is_rejected_with_the_known_ones(front):
    with pytest.raises(ValueError, match="'lora'; expected one of slow, fast, better, beyond"):
        front.values("lora", "new")


def test_the_picture_joins_the_conditions_that_belong_together(front):
    line = front.picture().axes[0].lines[-1]
    assert list(line.get_xdata()) == pytest.approx([0.2, 0.9])
    assert list(line.get_ydata()) == pytest.approx([0.8, 0.2])
    joined, front.joined = len(front.picture().axes[0].lines), ()
    assert len(front.picture().axes[0].lines) == joined - 1
    assert "untouched model" in repr(front) and "before" in repr(front.table("new", "old"))


def test_runs_and_blends_become_conditions_with_one_number_for_each_seed(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path))
    records = ft.records("tasks")
    lab = ft.Experiment(data=records[:16], val=records[16:20], probes=())
    base, _ = ft.load("tiny")

    def measure(model):
        return {"weight": float(model.model.norm.weight[0])}

    front = Frontier(measure, "weight", "val_loss", measure(base))
    front.train(lab, {"full": ft.Config(max_steps=2, learning_rate=1e-2)}, seeds=(0, 1))
    front.blend(base, "full", shares=(0, 0.5, 1))
    start, ends = front.before["weight"], front.values("full", "weight")
    assert len(set(ends)) == 2 and start not in ends
    assert front.values("full, blend 0", "weight") == [start, start]
    assert front.values("full, blend 1", "weight") == ends
    assert front.values("full, blend 0.5", "weight") == pytest.approx(
        [(start + end) / 2 for end in ends])


def runs(**table):
    """method=[(rate, losses over seeds), ...]"""
    return [Run(id=f"{method}{rate}{seed}", model_name="tiny", data={}, before={"val_loss": 7.0},
                config=ft.Config(method=method, learning_rate=rate, seed=seed),
                after={"val_loss": loss, "general_loss": 2 * loss})
            for method, rates in table.items() for rate, losses in rates
            for seed, loss in enumerate(losses)]


SWEEP = runs(full=[(1e-2, [4.0, 6.0]), (1e-4, [3.0, 3.4]), (1e-3, [1.0, 1.2])],
             lora=[(1e-3, [3.0, 3.0]), (1e-2, [2.0, 0.5]), (1e-1, [float("nan"), 9.0])])


def test_each_method_is_a_line_of_means_in_order_of_the_rate():
    picture = pictures_of_runs.sweep_curves(SWEEP, "val_loss", "general_loss")
    line = picture.axes[0].lines[0]
    assert list(line.get_xdata()) == [1e-4, 1e-3, 1e-2]
    assert list(line.get_ydata()) == pytest.approx([3.2, 1.1, 5.0])
    assert picture.axes[0].get_xscale() == "log" and len(picture.axes) == 2
    assert "val_loss of full is lowest, 1.10, at learning_rate 0.001" in picture.text
    names = [text.get_text() for text in picture.axes[0].texts]
    assert "full" in names and "1.10" in names  # the value is at the ring, not at the line's end
    assert "general_loss of lora is 2.50, at learning_rate 0.01" in picture.text


def test_the_band_is_the_sample_standard_deviation():
    band = pictures_of_runs.sweep_curves(SWEEP).axes[0].collections[0]
    band = band.get_paths()[0].vertices[:, 1]
    assert max(band) == pytest.approx(5.0 + statistics.stdev([4.0, 6.0]))


def test_best_is_the_lowest_mean_and_a_diverged_rate_is_never_best():
    assert pictures_of_runs.best_values(SWEEP) == {"full": 1e-3, "lora": 1e-2}
    diverged = runs(full=[(1e-3, [float("nan")]), (1e-2, [5.0])])
    assert pictures_of_runs.best_values(diverged) == {"full": 1e-2}


def test_what_cannot_be_drawn_is_rejected():
    with pytest.raises(ValueError, match="no runs"):
        pictures_of_runs.sweep_curves([])
    with pytest.raises(ValueError, match="no 'bleu'; expected one of val_loss, general_loss"):
        pictures_of_runs.sweep_curves(SWEEP, "bleu")


def test_lines_that_are_not_runs_are_drawn_as_given():
    picture = pictures_of_runs.line_plot({"$x": [(1e-5, 6.5), (1e-1, 2.5)]}, x="learning rate",
                                     y="loss")
    assert list(picture.axes[0].lines[0].get_ydata()) == [6.5, 2.5]
    assert "goes from 6.50 to 2.50" in picture.text


def test_an_interval_is_drawn_beside_the_margin_with_what_it_says():
    picture = pictures_of_runs.interval_plot(
        {"$far": ([1.0, 1.0, 1.0], [3.9, 4.0, 4.1]), "wide": ([0.0, 0.0], [0.0, 1.0]),
         "near": ([1.0, 1.0, 1.0], [1.00, 1.01, 1.02])}, margin=0.1, x="b - a")
    zero, far, wide, near = picture.axes[0].lines
    assert list(far.get_xdata()) == pytest.approx([3 - 4.303 * 0.1 / 3 ** 0.5,
                                                   3 + 4.303 * 0.1 / 3 ** 0.5], abs=1e-4)
    assert [text.get_text() for text in picture.axes[0].texts] == [
        "higher", "undecided", "no relevant difference"]
    assert wide.get_linestyle() == "--" and {zero.get_linestyle(), near.get_linestyle()} == {
        ":", "-"}
    assert "$far: higher, 2.75 to 3.25" in picture.text
    with pytest.raises(ValueError, match="paired"):
        pictures_of_runs.interval_plot({"unequal": ([1.0, 2.0], [1.0])}, 0.1, "b - a")
