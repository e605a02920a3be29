"""The frontier: comparison at equal learning, against numbers worked out by hand."""

import pytest

import ftkit as ft
from ftkit.experiment.run import Run
from ftkit.lessons.frontier import Frontier, along


def arm(*points):
    return [Run(id=str(i), config=ft.Config(seed=i), model_name="tuned", data={},
                before={"new": 0.0, "old": 0.9}, after={"new": x, "old": y})
            for i, (x, y) in enumerate(points)]


@pytest.fixture
def front():
    front = Frontier(lambda model: {}, "new", "old", {"new": 0.0, "old": 0.9}, ("slow", "fast"))
    front.arms = {"slow": arm((0.2, 0.9), (0.2, 0.7)), "fast": arm((0.8, 0.1), (1.0, 0.3)),
                  "better": arm((0.55, 0.8), (0.2, 0.8)), "beyond": arm((1.0, 0.3), (0.1, 0.8))}
    return front


def test_the_line_between_two_points_is_straight_and_its_ends_are_held():
    line = [(0.0, 1.0), (0.5, 0.8), (1.0, 0.0)]
    wanted = {-1: 1.0, 0: 1.0, 0.25: 0.9, 0.5: 0.8, 0.75: 0.4, 1: 0.0, 2: 0.0}
    assert {x: along(line, x) for x in wanted} == pytest.approx(wanted)
    assert along([(0.3, 0.7)], 0.9) == 0.7
    assert along([(0.5, 0.2), (0.5, 0.6)], 0.5) in (0.2, 0.6)


def test_gain_is_measured_at_equal_learning(front):
    # means: slow (0.2, 0.8), fast (0.9, 0.2); half way, at 0.55, the line is at 0.5
    assert front.gain("better") == pytest.approx([0.3, 0.0])
    assert front.gain("beyond") == pytest.approx([0.1, 0.0])
    assert front.gain("slow", over=("slow",)) == pytest.approx([0.1, -0.1])


def test_an_arm_that_is_not_there_is_told_with_those_that_are(front):
    with pytest.raises(ValueError, match="no arm 'lora'; there is slow, fast, better, beyond"):
        front.values("lora", "new")


def test_the_picture_joins_the_arms_that_belong_together(front):
    line = front.picture().axes[0].lines[-1]
    assert list(line.get_xdata()) == pytest.approx([0.2, 0.9])
    assert list(line.get_ydata()) == pytest.approx([0.8, 0.2])
    joined, front.joined = len(front.picture().axes[0].lines), ()
    assert len(front.picture().axes[0].lines) == joined - 1
    assert "untouched model" in repr(front) and "before" in repr(front.table("new", "old"))


def test_runs_and_blends_become_arms_with_one_number_for_each_seed(tmp_path, monkeypatch):
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
