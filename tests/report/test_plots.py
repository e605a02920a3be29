"""Curves, scatter, tables, sentences and the live figure, on Runs made by hand."""

import base64
import io
import math
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from ftkit.base import formatting
from ftkit.base.run_end import End
from ftkit.report import chart, plots, run_chart, series
from ftkit.report import style as fig
from ftkit.report.live import Live, final_picture
from ftkit.report.table import table

pytestmark = pytest.mark.quick

NAN = math.nan


def make_run(rate=1e-3, seed=0, losses=(4.0, 2.0, 1.0), val=(2.0, 0.5, 0.6), before=(4.1, 0.86),
             general=1.1, stopped=None, end=None, **config):
    rows = [{"step": i, "epoch": i / 10, "loss": loss, "learning_rate": rate, "tokens": 100 * i,
             "seconds": 0.5 * i} for i, loss in enumerate(losses, 1)]
    for row, v in zip(rows, val, strict=False):
        row |= {"val_loss": v, "general_loss": general}
    config = SimpleNamespace(method="full", learning_rate=rate, seed=seed, **config)
    return SimpleNamespace(
        id=f"run-{rate}-{seed}", config=config, model_name="tiny", data={"name": "translation"},
        rows=rows, before=dict(zip(("val_loss", "general_loss"), before, strict=True)),
        after={"val_loss": val[-1], "general_loss": general} if rows else {}, stopped=stopped,
        end=end, seconds=2.0)


def texts(picture):
    return [text.get_text() for ax in picture.axes for text in ax.texts]


def pixels(png):
    from PIL import Image

    return Image.open(io.BytesIO(png)).convert("RGB")


# ------------------------------------------------------------------------------ summary


def test_the_sentence_says_what_fell_what_rose_and_where_it_was_best():
    assert series.summary(make_run()) == (
        "val_loss fell from 4.10 to 0.60 (best 0.50 at step 2); "
        "general_loss rose from 0.86 to 1.10; loss fell from 4.00 to 1.00.")


def test_a_diverged_run_says_when():
    run = make_run(losses=(4.0, 9.0, NAN), val=(5.0,), general=NAN,
                   end=End.DIVERGED, stopped="diverged at step 3: the loss is nan")
    text = series.summary(run)
    assert "loss rose from 4.00 to 9.00 and diverged at step 3" in text
    assert "general_loss stayed at 0.86 and diverged at step 1" in text
    assert text.count("the loss is nan") == 0


def test_a_stopped_run_and_an_empty_run_are_reported():
    run = make_run(stopped="interrupted after step 3 of 60")
    assert series.summary(run).endswith("; stopped: interrupted after step 3 of 60.")
    assert series.summary(make_run(losses=())) == (
        "no step was taken; val_loss was 4.10; general_loss was 0.86.")
    bare = SimpleNamespace(rows=[], before={}, after={}, stopped=None)
    assert series.summary(bare) == "no step was taken."


def test_the_curve_of_a_stopped_run_ends_in_what_was_measured_after_it():
    run = make_run(stopped="interrupted after step 3 of 60")
    run.after["val_loss"] = run.rows[-1].pop("val_loss")
    assert series.points(run, "val_loss") == [(0, 4.1), (1, 2.0), (2, 0.5), (3, 0.6)]
    assert "val_loss: 0.60" in texts(plots.curves(run, "val_loss"))
    run.stopped = None  # then nothing says when `after` was measured
    assert series.points(run, "val_loss")[-1] == (2, 0.5)


def test_null_of_a_stored_run_is_read_as_nan():
    run = make_run()
    run.after["general_loss"] = None
    assert "general_loss rose from 0.86 to 1.10 and diverged at step 3" in series.summary(run)


# ------------------------------------------------------------------------------- curves


def test_curves_default_to_every_loss_and_start_before_training():
    picture = plots.curves(make_run())
    (ax,) = picture.axes
    assert [len(line.get_xdata()) for line in ax.lines[:2]] == [3, 4]
    assert list(ax.lines[1].get_ydata()) == [4.1, 2.0, 0.5, 0.6]
    assert texts(picture) == ["loss: 1.00", "val_loss: 0.60", "general_loss: 1.10"]
    assert repr(picture) == series.summary(make_run())


def test_the_ring_stands_at_the_best_validation_step():
    (ax,) = plots.curves(make_run(), "val_loss").axes
    ring = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in ring] == [(2, 0.5)]


def test_several_runs_get_a_panel_for_each_key_and_lines_that_differ_without_color():
    picture = plots.curves([make_run(rate) for rate in (1e-4, 1e-3, 1e-2)])
    assert len(picture.axes) == 3
    looks = {(str(line.get_linestyle()), line.get_marker()) for line in picture.axes[0].lines}
    assert len(looks) == 3
    assert "learning_rate=0.0001: 1.00" in texts(picture)
    assert len({(str(fig.DASHES[i % 5]), fig.MARKERS[i % 6]) for i in range(30)}) == 30


def test_runs_that_differ_only_in_seed_are_one_line_with_a_band():
    runs = [make_run(seed=s, losses=(3.0 + s, 1.0 + s)) for s in range(3)]
    (ax,) = plots.curves(runs, "loss").axes
    assert plots.curves(runs, "loss").text == "loss ended at 2.00."  # no name of one of the seeds
    assert [list(line.get_ydata()) for line in ax.lines] == [[4.0, 2.0]]
    assert len(ax.collections) == 1
    band = ax.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (1.0, 5.0)  # the sample deviation of 0, 1, 2 is 1


def test_the_sentence_says_when_the_lowest_is_not_told_apart_from_the_highest():
    def text(by):
        ends = {(rate, seed): 0.6 + 0.1 * seed + by * (rate > 1)
                for rate in (1e-3, 2) for seed in range(3)}
        return plots.curves([make_run(*which, val=(2.0, 0.5, end)) for which, end in ends.items()],
                            "val_loss").text

    assert "a difference within the noise of the seeds" in text(0.05)
    assert "noise" not in text(1.0)


def test_a_diverged_run_is_marked_and_not_dropped():
    good, bad = make_run(), make_run(rate=10.0, losses=(4.0, 9.0, math.inf), val=(5.0,))
    picture = plots.curves([good, bad], "loss", "val_loss")
    assert texts(picture).count("learning_rate=10 diverged at step 3") == 2
    crosses = [line for line in picture.axes[0].lines if line.get_marker() == "X"]
    assert [(c.get_xdata()[0], c.get_ydata()[0]) for c in crosses] == [(2, 9.0)]
    assert "diverged: learning_rate=10" in repr(plots.curves(
        [good, make_run(rate=10.0, losses=(NAN,), val=(NAN,))], "val_loss"))


@pytest.mark.parametrize("losses", [(), (NAN,), (2.0,), (0.0, 0.0), (1e-9, 1e30), (3, None)])
def test_odd_runs_can_be_drawn(losses):
    picture = plots.curves(make_run(losses=losses, val=(NAN,), general=NAN))
    assert picture.png()[:4] == b"\x89PNG"
    bare = SimpleNamespace(rows=[], before={}, after={}, stopped=None)
    assert texts(plots.curves(bare)) == ["no steps yet"]


def test_a_wide_range_is_drawn_on_a_log_scale_and_a_narrow_one_is_not():
    assert plots.curves(make_run(losses=(100.0, 1.0)), "loss").axes[0].get_yscale() == "log"
    assert plots.curves(make_run(losses=(4.0, 1.0)), "loss").axes[0].get_yscale() == "linear"


def test_two_evaluations_are_joined_by_a_thin_dotted_line_only():
    two, three = (plots.curves(run, "val_loss").axes[0].lines[0]
                  for run in (make_run(losses=(4.0,), val=(2.0,)),
                              make_run(losses=(4.0, 2.0), val=(2.0, 1.0))))
    assert len(two.get_xdata()) == 2 and len(three.get_xdata()) == 3
    assert two.get_linewidth() < 1 < three.get_linewidth()
    assert two.get_linestyle() != three.get_linestyle() and two.get_marker() == "o"


def test_panels_of_losses_have_scales_alike():
    wide, narrow = make_run(val=(0.02, 0.1), before=(4.0, 1.0)), make_run(general=1.1)
    both = plots.curves({"a": wide, "b": narrow}, "val_loss", "general_loss")
    assert [ax.get_yscale() for ax in both.axes] == ["log", "log"]
    both.figure.canvas.draw()
    assert all(any(label.get_text() for label in ax.get_yticklabels()) for ax in both.axes)
    plain = plots.curves({"a": narrow, "b": make_run(1e-4)}, "val_loss", "general_loss")
    assert [ax.get_yscale() for ax in plain.axes] == ["linear", "linear"]


@pytest.mark.parametrize("low", [0.002, 0.05, 1.0])
def test_the_name_of_an_axis_ends_inside_the_figure(low):
    picture = plots.curves(make_run(losses=(4.0, low * 2, low)), "loss", "val_loss")
    picture.figure.canvas.draw()
    for ax in picture.axes:
        assert ax.yaxis.label.get_window_extent().x0 >= 2


def test_names_of_lines_do_not_cover_each_other():
    from matplotlib.text import Text

    runs = {f"run number {i}": make_run(losses=(1.0, (0.5, 4.0)[i % 2] + i / 1000))
            for i in range(14)}
    picture = plots.curves(runs, "loss")
    picture.figure.canvas.draw()
    boxes = sorted((Text.get_window_extent(t) for t in picture.axes[0].texts),
                   key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 3 for low, high in zip(boxes, boxes[1:], strict=False))
    assert boxes[-1].y1 <= picture.axes[0].bbox.y1 + 12, "names stay beside the panel"
    assert all(0 <= b.x0 and b.x1 <= picture.figure.bbox.width for b in boxes)


def test_long_names_of_lines_end_inside_the_figure():
    from matplotlib.text import Text

    bad = make_run(losses=(4.0, NAN), val=(2.0,))
    made = run_chart.picture([run_chart.Drawn("A learning_rate=1e+09, max_steps=500", 0, [bad]),
                              run_chart.Drawn("short", 1, [make_run()])], "")
    made.png(dpi=100)
    names = [text for text in made.axes[0].texts if "diverged at step 2" in text.get_text()]
    assert names and all(Text.get_window_extent(t).x1 <= made.figure.bbox.x1 for t in names)
    assert any("short: 0.60" in text for text in texts(made))


@pytest.mark.parametrize("inches", [2.5, 6])
def test_the_numbers_of_a_log_axis_do_not_cover_each_other(inches):
    figure = fig.new_figure(inches, 2)
    with fig.style():
        ax = figure.add_axes((0.1, 0.3, 0.8, 0.6))
        fig.draw_seeds(ax, [[0.002, 0.0046], [0.05, 0.2]], [0, 1])
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.get_xticklabels() if text.get_text()]
    shown = sorted((b.x0, b.x1) for b in boxes if ax.bbox.x0 <= (b.x0 + b.x1) / 2 <= ax.bbox.x1)
    assert len(shown) >= 2
    assert all(left[1] < right[0] for left, right in zip(shown, shown[1:], strict=False))


def test_seeds_with_the_same_value_are_all_seen():
    with fig.style():
        ax = fig.new_figure(4, 2).add_subplot()
        fig.draw_seeds(ax, [[0.5, 0.5, 0.6, 0.5]], [0])
    dots = list(zip(*ax.lines[0].get_data(), strict=True))
    assert len(set(dots)) == 4 and (0.6, 0) in dots
    assert all(-0.5 < height < 0.5 for _, height in dots)


def test_other_axes_can_be_given():
    with fig.style():
        ax = fig.new_figure(4, 3).add_subplot()
    picture = plots.curves([make_run(1e-3), make_run(1e-2)], "loss", "val_loss", ax=ax, x="tokens")
    assert picture.axes == [ax] and ax.get_xlabel() == "training tokens"
    assert texts(picture)[0] == "learning_rate=0.001 loss: 1.00"


def test_wrong_arguments_name_what_is_accepted():
    with pytest.raises(ValueError, match="no run has 'los'; expected one of loss, val_loss"):
        plots.curves(make_run(), "los")
    with pytest.raises(ValueError, match="expected step, epoch, tokens or seconds"):
        plots.curves(make_run(), x="steps")
    with pytest.raises(ValueError, match="is not a Run"):
        plots.curves([1, 2])
    with pytest.raises(ValueError, match="no runs were given"):
        plots.curves([])


# -------------------------------------------------------------------- drawing in a page


def test_a_picture_is_a_png_with_its_sentence_as_text_and_alt():
    picture = plots.curves(make_run())
    page = picture._repr_mimebundle_()
    alt = re.search(r'alt="([^"]*)"', page["text/html"])[1]
    assert alt == picture.text == page["text/plain"]
    assert f"<div>{picture.text}</div>" in page["text/html"]
    width, least = re.search(r'width="(\d+)".*?min-width:(\d+)px', page["text/html"]).groups()
    assert int(least) >= 0.72 * int(width), "on a phone the words must stay legible"
    assert base64.b64decode(page["image/png"])[:4] == b"\x89PNG"


def test_a_command_in_a_sentence_is_code_and_plain_under_a_chart():
    picture = plots.curves(make_run())
    picture.text = "made by `make recorded x`"
    page = picture._repr_mimebundle_()["text/html"]
    assert "<div>made by <code>make recorded x</code></div>" in page
    assert '"text":"made by make recorded x"' in page


def test_a_picture_is_white_whatever_style_the_notebook_has():
    import matplotlib
    import matplotlib.style

    with matplotlib.style.context("dark_background"):
        image = pixels(plots.curves(make_run()).png())
        assert matplotlib.rcParams["axes.facecolor"] == "black"
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.convert("L").getextrema()[0] < 40, "the words must be dark"


def luminance(color):
    parts = [int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]  # WCAG 2.2


def test_a_figure_is_a_card_on_which_all_words_have_a_contrast_of_4_5():
    from PIL import Image

    for png in (plots.curves(make_run()).png(),):
        card = Image.open(io.BytesIO(png)).convert("RGBA")
        edges = [card.getpixel((x, y)) for x in (0, card.width - 1) for y in (0, card.height - 1)]
        assert {corner[3] for corner in edges} == {0}, "round corners, on any theme"
        assert card.getpixel((card.width // 2, 2)) == (255, 255, 255, 255)
    for color in (fig.QUIET, *map(fig.dark, fig.COLORS)):
        assert 1.05 / (luminance(color) + 0.05) >= 4.5, color


def test_text_from_data_is_neither_html_nor_maths():
    evil = r"<img src=x onerror=y> $\foo$ " + "\u202e\x1b[31m"
    run = make_run()
    run.model_name, run.stopped = evil, evil
    run.rows[-1][r"$\foo$ <img src=x>_loss"] = 1.0
    other = make_run(rate=1.0)
    for drawn in (plots.curves(run), plots.curves([run, other]), plots.scatter([run, other])):
        page = drawn._repr_mimebundle_()["text/html"]
        assert page.count("<img") == 1 and "<img src=x" not in page
        assert "\u202e" not in page and "\x1b" not in page
    frames = []
    Live(10, evil, show=frames.append).finish(run)
    for page in [table([run, other])._repr_html_(), frames[-1]["text/html"]]:
        assert "<img src=x" not in page


def test_neither_pyplot_nor_matplotlib_is_imported_before_a_figure_is_drawn():
    code = ("import sys; from ftkit.lessons import claims; from ftkit.report import plots; "
            "assert 'matplotlib' not in sys.modules\n"
            "from types import SimpleNamespace as S\n"
            "plots.curves(S(rows=[], before={}, after={}, stopped=None)).png()\n"
            "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
            "assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------- scatter and table


def test_scatter_groups_seeds_and_shows_the_untouched_model():
    runs = [make_run(rate, seed, val=(1.0 + seed,), general=rate * 1000)
            for rate in (1e-3, 2e-3) for seed in range(3)]
    picture = plots.scatter(runs)
    (ax,) = picture.axes
    assert texts(picture)[-3:] == ["learning_rate=0.001", "learning_rate=0.002", "untouched model"]
    star = [line for line in ax.lines if line.get_marker() == "*"]
    assert (star[0].get_xdata()[0], star[0].get_ydata()[0]) == (4.1, 0.86)
    bars = [c.lines[2][0].get_segments()[0] for c in ax.containers]
    assert bars[0][0][0] == 1.0 and bars[0][1][0] == 3.0  # mean 2, deviation 1
    assert repr(picture) == ("val_loss, general_loss of untouched model: 4.10, 0.86; "
                             "learning_rate=0.001: 2.00, 1.00; learning_rate=0.002: 2.00, 2.00.")
    alone = plots.scatter(runs, start=False)
    assert "untouched model" not in f"{alone.text} {texts(alone)}"


def test_names_in_a_scatter_are_beside_the_bars_of_deviation():
    from matplotlib.text import Text

    runs = [make_run(rate, seed, val=(val + 0.1 * seed,), general=general + 0.2 * seed)
            for rate, val, general in ((1e-3, 1.0, 1.0), (2e-3, 3.0, 2.0)) for seed in range(3)]
    picture = plots.scatter(runs)
    (ax,) = picture.axes
    picture.figure.canvas.draw()  # only then do the names stand in their places
    names = [Text.get_window_extent(t) for t in ax.texts  # that of an Annotation has its arrow
             if t.get_text().startswith("learning_rate=")]
    bars = [ax.transData.transform(segment) for c in ax.containers for lines in c.lines[2]
            for segment in lines.get_segments()]
    assert len(names) == 2 and len(bars) == 4
    assert not any(name.count_contains(np.linspace(*bar, 50)) for name in names for bar in bars)


def test_scatter_marks_diverged_runs_at_the_edge():
    picture = plots.scatter([make_run(), make_run(10.0, val=(NAN,), general=NAN)])
    assert "learning_rate=10 diverged" in texts(picture)
    assert "learning_rate=10: diverged" in repr(picture)


def test_the_frontier_connects_what_nothing_beats_in_both():
    runs = [make_run(rate, seed, val=(2.0, val + 0.1 * seed), general=general)
            for rate, val, general in ((1e-4, 1.5, 0.9), (1e-3, 0.5, 1.4), (1e-2, 0.9, 3.0))
            for seed in (0, 1)]
    picture = plots.scatter(runs)
    assert picture.text.endswith("On the frontier, beaten in both by no other run: "
                                 "learning_rate=0.001; learning_rate=0.0001.")
    line = next(line for line in picture.axes[0].lines if line.get_linestyle() == ":")
    assert list(line.get_xdata()) == pytest.approx([0.55, 1.55]) and "frontier" in texts(picture)
    for run in runs:  # a measure that is better when it is high
        run.after["exact_match"] = 0.9 if run.config.learning_rate == 1e-2 else 0.1
    assert "by no other run: learning_rate=0.001; learning_rate=0.01." in (
        plots.scatter(runs, "val_loss", "exact_match").text)
    best = plots.scatter(runs[:4], "val_loss", "val_loss")
    assert "frontier" not in best.text + " ".join(texts(best))
    assert "frontier" not in plots.scatter(runs, "learning_rate", "val_loss").text
    assert "frontier" not in " ".join(texts(plots.scatter(runs, frontier=False)))


def test_scores_are_drawn_on_a_linear_scale_and_losses_and_rates_may_be_logarithmic():
    runs = [make_run(rate) for rate in (1e-5, 1e-3, 1e-1)]
    for run, score in zip(runs, (0.001, 0.5, 0.9), strict=True):
        run.after |= {"exact match": score, "val_loss": 10 * score}
    scales = {(x, y): [getattr(plots.scatter(runs, x, y).axes[0], f"get_{axis}scale")()
                       for axis in "xy"]
              for x, y in (("exact match", "val_loss"), ("learning_rate", "exact match"))}
    assert scales == {("exact match", "val_loss"): ["linear", "log"],
                      ("learning_rate", "exact match"): ["log", "linear"]}


def test_many_points_get_no_arrows_that_would_hide_them():
    def arrows(count):
        drawn = plots.scatter([make_run(1e-3 * (i + 1)) for i in range(count)]).axes[0]
        return sum(bool(text.arrow_patch) and not text.get_text() for text in drawn.texts)

    assert arrows(fig.ARROWS) == fig.ARROWS and arrows(fig.ARROWS + 1) == 0


def test_scatter_takes_config_fields_and_a_label():
    runs = [make_run(rate, r=r) for rate, r in ((1e-4, 2), (1e-2, 4))]
    picture = plots.scatter(runs, x="learning_rate", y="val_loss", label="r")
    assert picture.axes[0].get_xscale() == "log" and texts(picture) == ["r=2", "r=4"]
    assert texts(plots.scatter(runs, label=lambda run: run.id))[-3:-1] == [
        "run-0.0001-0", "run-0.01-0"]
    with pytest.raises(ValueError, match="'acc'; expected one of val_loss, general_loss"):
        plots.scatter(runs, x="acc")


def test_a_table_of_runs_shows_mean_and_deviation_over_seeds():
    shown = table([make_run(seed=s, val=(1.0 + s,)) for s in range(3)])
    assert repr(shown).splitlines()[1].split() == [
        "run-0.001-0", "3", "2.00", "±", "1.00", "1.10", "±", "0.00"]
    assert "<td>2.00 ±&nbsp;1.00</td>" in shown._repr_html_()
    assert repr(table([{"task": "a", "score": 0.5}, {"task": "b", "n": 3}])) == (
        "task  score  n\na     0.50\nb            3")


def test_numbers_are_printed_in_about_three_digits():
    wanted = {4.1: "4.10", 123.456: "123.5", 12345.6: "12,346", 0.0123: "0.0123", 1e-05: "1e-05",
              1e9: "1e+09", 0.0: "0", NAN: "nan", -0.5: "-0.50", 1200: "1,200", True: "True"}
    assert {v: formatting.number(v) for v in wanted} == wanted


# --------------------------------------------------------------------------------- live


def test_outside_a_notebook_nothing_is_drawn():
    code = ("import sys; from ftkit.report.live import Live; live = Live(3)\n"
            "live({'step': 1, 'loss': 1.0}); live.finish(None)\n"
            "assert 'matplotlib' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_live_figure_shows_progress_and_leaves_a_picture(monkeypatch):
    monkeypatch.setattr(Live, "SHARE", 1e9)
    monkeypatch.setattr(Live, "HERTZ", 1e9)
    frames, run = [], make_run(losses=[4.0 / i for i in range(1, 21)])
    live = Live(total_steps=20, title="tiny on translation", show=frames.append)
    for row in run.rows:
        live(row)
    live.finish(run)
    assert len(frames) == 22  # the empty axes, one for each row, the final picture
    assert "step 20 of 20 · loss 0.20 · 10.0 s · 200 tokens/s" in frames[-2]["text/plain"]
    assert '<progress max="20" value="20">' in frames[-2]["text/html"]
    assert frames[-1]["text/plain"] == f"tiny on translation: {series.summary(run)}"
    assert "image/png" in frames[-1] and "<progress" not in frames[-1]["text/html"]
    names = {re.search("ftkit-chart-[^\"]+", f["text/html"])[0] for f in frames}
    assert len(names) == 1, "the page could not keep what the learner has zoomed and hidden"


def test_the_live_figure_takes_odd_rows(monkeypatch, capsys):
    monkeypatch.setattr(Live, "SHARE", 1e9)
    monkeypatch.setattr(Live, "HERTZ", 1e9)
    frames = []
    live = Live(None, before={"val_loss": 4.0}, show=frames.append)
    for step, loss in enumerate([NAN, 3.0, 1e6, None, math.inf] * 12, 1):
        live({"step": step, "loss": loss, "late_loss": 0.1} if step > 30 else
             {"step": step, "loss": loss, "learning_rate": NAN})
    live.finish(make_run(losses=()))
    assert capsys.readouterr().err == "" and len(frames) == 62


def test_drawing_costs_at_most_a_fiftieth_of_the_time(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "thread_time", lambda: clock[0])
    monkeypatch.setattr(time, "process_time", lambda: clock[0])

    def slow(_):
        clock[0] += 0.1
        shown.append(clock[0])

    shown = []
    live = Live(1000, show=slow)
    live._paint = lambda: live.show({})  # the clock below is not the real one
    start = clock[0]
    for step in range(1, 1001):
        clock[0] += 0.01
        live({"step": step, "loss": 1.0})
    drawing = 0.1 * (len(shown) - 1)
    assert drawing / (clock[0] - start) <= 0.02 + 0.1 / clock[0]  # the first row is drawn at once
    assert len(shown) >= 3
    shown.clear()
    quick = Live(1000, show=lambda _: shown.append(clock[0]))
    quick._paint = lambda: quick.show({})
    for step in range(1, 1001):
        clock[0] += 0.01
        quick({"step": step, "loss": 1.0})
    assert 165 <= len(shown) <= 202  # up to twenty a second, and the empty axes
    shown.clear()
    monkeypatch.setattr(time, "process_time", lambda: 0.0)  # it waits, as for a GPU
    waiting = Live(1000, show=slow)
    waiting._paint = lambda: waiting.show({})
    for step in range(1, 5001):
        clock[0] += 0.01
        waiting({"step": step, "loss": 1.0})
    assert 3 <= len(shown) <= 4  # 0.1 seconds in 20


def test_a_chart_is_used_again_and_keeps_nothing_of_the_run_before():
    old, other = make_run(losses=(900.0, 4.0, 1.0)), make_run(general=1.4)
    again = Live(show=lambda _: None, before=old.before)
    again({"step": 1, "loss": 900.0, "late_loss": 0.01})
    again.begin(3, other.before)
    fresh = Live(3, before=other.before, show=lambda _: None)
    for live in (again, fresh):
        live(other.rows[0])
    assert again.spec()["run"] != fresh.spec()["run"]
    assert again.spec() | {"run": 0} == fresh.spec() | {"run": 0}


def test_the_live_chart_and_the_final_one_have_the_same_points_colors_and_panels():
    run, shown = make_run(losses=[4.0 / i for i in range(1, 21)]), []
    live = Live(20, before=run.before, show=shown.append)
    for row in run.rows:
        live.add(row)
    growing, final = live.spec(), final_picture(run, "").chart
    assert growing["panels"] == final["panels"]

    def lines(spec):
        return {line["name"]: (line["points"], line["color"], line["dash"], line["best"])
                for line in spec["lines"]}

    assert lines(growing) == lines(final)


def test_sixteen_runs_of_a_chart_and_of_a_table_differ_in_color_and_mark_and_without_color():
    runs = [run_chart.Drawn(chart.mark(i), i, [make_run(losses=[4.0, 3.0, 2.0])])
            for i in range(16)]
    lines = [line for line in run_chart.spec(runs, "", training=False)["lines"]
             if line["panel"] == 0]
    assert len({(line["color"], line["mark"]) for line in lines}) == 16
    assert len({(line["mark"], line["dash"]) for line in lines}) == 16
    signs = list(chart.SIGNS.values())
    assert [signs[line["mark"]] for line in lines] == [line["name"] for line in lines]


def test_a_drawing_error_is_reported_once_and_never_reaches_the_training(capsys):
    def broken(_):
        raise RuntimeError("no canvas")

    live = Live(3, show=broken)
    for row in make_run().rows:
        live(row)
    live.finish(make_run())
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "RuntimeError: no canvas" in errors[0]


def test_rows_can_be_added_without_a_picture_each():
    shown = []
    live = Live(total_steps=10, show=shown.append)
    for step in range(1, 9):
        live.add({"step": step, "loss": 1.0})
    assert len(shown) == 1
    assert live.paint_if_due() and not live.paint_if_due()
    assert len(shown) == 2 and "step 8 of 10" in shown[-1]["text/plain"]
