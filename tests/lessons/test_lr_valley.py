"""The U of a sweep: means and spreads against hand-made runs."""

import statistics

import pytest

import ftkit as ft
from ftkit.experiment.run import Run
from ftkit.lessons import lr_valley

pytestmark = pytest.mark.quick


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
    picture = lr_valley.valley(SWEEP, "val_loss", "general_loss")
    line = picture.axes[0].lines[0]
    assert list(line.get_xdata()) == [1e-4, 1e-3, 1e-2]
    assert list(line.get_ydata()) == pytest.approx([3.2, 1.1, 5.0])
    assert picture.axes[0].get_xscale() == "log" and len(picture.axes) == 2
    assert "val_loss of full is lowest, 1.10, at learning_rate 0.001" in picture.text
    assert "general_loss of lora is lowest, 2.50, at learning_rate 0.01" in picture.text


def test_the_band_is_the_sample_standard_deviation():
    band = lr_valley.valley(SWEEP).axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert max(band) == pytest.approx(5.0 + statistics.stdev([4.0, 6.0]))


def test_best_is_the_lowest_mean_and_a_diverged_rate_is_never_best():
    assert lr_valley.best(SWEEP) == {"full": 1e-3, "lora": 1e-2}
    assert lr_valley.best(runs(full=[(1e-3, [float("nan")]), (1e-2, [5.0])])) == {"full": 1e-2}


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(ValueError, match="no runs"):
        lr_valley.valley([])
    with pytest.raises(ValueError, match="no 'bleu'; measured were val_loss, general_loss"):
        lr_valley.valley(SWEEP, "bleu")


def test_lines_that_are_no_runs_are_drawn_as_given():
    picture = lr_valley.plain({"$x": [(1e-5, 6.5), (1e-1, 2.5)]}, x="learning rate", y="loss")
    assert list(picture.axes[0].lines[0].get_ydata()) == [6.5, 2.5]
    assert "goes from 6.50 to 2.50" in picture.text
