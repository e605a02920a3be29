"""The interactive chart in a bare page, without a kernel: what a reopened notebook shows."""

from types import SimpleNamespace

import pytest
from playwright.sync_api import expect

from ftkit.report import chart, plots, series
from ftkit.report.live import Live, final_picture

PAGE = """<!doctype html><html lang="en"><title>chart</title><body style="{style}"><main>
<h1>x</h1>{body}</main></body></html>"""


def a_run(steps=40, top=9.0, **config):
    rows = [{"step": n, "loss": top / n, "learning_rate": 1e-3 * n / steps} for n in
            range(1, steps + 1)]
    for row in rows[9::10]:
        row |= {"val_loss": 1.1 * row["loss"], "general_loss": 2.0 + row["step"] / 100}
    before = {"val_loss": top, "general_loss": 2.0}
    after = {key: rows[-1][key] for key in before}
    return SimpleNamespace(id="a", rows=rows, before=before, after=after, stopped=None,
                           config=SimpleNamespace(**config), model_name="tiny", data={})


@pytest.fixture
def shown(chromium, request):
    """A page with this figure; its chart."""
    def show(body, style="background:#fff;color:#111", width=700):
        context = chromium.new_context(viewport={"width": width, "height": 700})
        request.addfinalizer(context.close)
        page = context.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        request.addfinalizer(lambda: pytest.fail(str(errors)) if errors else None)
        page.set_content(PAGE.format(style=style, body=body))
        page.locator(".ftkit-chart svg[data-scale]").wait_for()
        return page

    return show


def html_of(picture):
    return picture._repr_mimebundle_()["text/html"]


def readings(page) -> dict:
    return {row.get_attribute("data-name"): row.locator("b").inner_text()
            for row in page.locator(".fc-row").all()}


def hover(page, part: float):
    box = page.locator(".ftkit-chart svg").bounding_box()
    left = box["x"] + 52
    page.mouse.move(left + part * (box["width"] - 62), box["y"] + 60)


def test_hover_shows_the_values_of_the_row_under_the_pointer(shown):
    run = a_run()
    page = shown(html_of(final_picture(run, "")))
    hover(page, 0.5)
    row = run.rows[19]
    assert page.locator(".fc-tip > b").inner_text() == "step 20"
    expected = {"loss": row["loss"], "val_loss": row["val_loss"],
                "general_loss": row["general_loss"], "learning rate": row["learning_rate"]}
    assert {k: float(v) for k, v in readings(page).items()} == pytest.approx(expected, rel=1e-3)
    assert page.locator("img").is_hidden(), "the static picture gives way to the chart"


def test_a_drag_zooms_shift_pans_and_a_double_click_shows_all_again(shown):
    page = shown(html_of(final_picture(a_run(), "")))

    def ticks():
        return [float(t) for t in page.locator("svg text[text-anchor=middle]").all_text_contents()
                if t != "✕"]

    whole = ticks()
    hover(page, 0.25)
    page.mouse.down()
    hover(page, 0.5)
    page.mouse.up()
    zoomed = ticks()
    assert min(whole) == 0 and 10 <= min(zoomed) and max(zoomed) <= 21
    page.keyboard.down("Shift")
    page.mouse.down()
    hover(page, 0.25)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert max(ticks()) > max(zoomed)
    page.locator("svg").dblclick(position={"x": 300, "y": 60})
    assert ticks() == whole


def test_the_legend_hides_a_curve_and_smoothing_keeps_the_measured_one_pale(shown):
    page = shown(html_of(final_picture(a_run(), "")))
    lines = page.locator("path[data-line]")
    assert lines.count() == 4
    button = page.get_by_role("button", name="general_loss")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    hover(page, 0.5)
    assert lines.count() == 3 and "general_loss" not in readings(page)
    curves = page.locator("svg path:not(.fc-mark)")
    before = curves.count()
    page.locator(".fc-smooth").fill("0.8")
    assert curves.count() == 2 * before
    hover(page, 0.5)
    assert float(readings(page)["loss"]) == pytest.approx(9 / 20), "hover reads what was measured"


@pytest.mark.parametrize("ratio, scale", [(10, "linear"), (25, "log")])
def test_the_axis_is_logarithmic_from_a_ratio_of_20_live_and_afterwards(shown, ratio, scale):
    live = Live(40, before={"val_loss": 9.0}, show=lambda _: None)
    rows = [{"step": n, "loss": 9.0 * ratio ** (-n / 40)} for n in range(1, 41)]
    for row in rows:
        live.add(row)
    run = SimpleNamespace(**vars(a_run()) | {"rows": rows, "before": {"val_loss": 9.0},
                                             "after": {}})
    for page in (shown(chart.page(live.spec())), shown(html_of(final_picture(run, "")))):
        expect(page.locator(".ftkit-chart svg")).to_have_attribute("data-scale", scale)
        page.locator(".fc-scale").select_option("linear")
        expect(page.locator(".ftkit-chart svg")).to_have_attribute("data-scale", "linear")


def test_keys_alone_read_zoom_and_leave(shown):
    run = a_run()
    page = shown(html_of(final_picture(run, "")))
    page.locator(".ftkit-chart svg").focus()
    for key in ("Home", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator(".fc-spoken")).to_contain_text("step 2: loss 4.5")
    page.keyboard.press("+")
    expect(page.locator(".fc-reset")).to_be_enabled()
    page.keyboard.press("0")
    expect(page.locator(".fc-reset")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(page.locator(".fc-tip")).to_be_hidden()
    summary = series.summary(run)
    assert summary in page.locator(".ftkit-chart svg").get_attribute("aria-label")
    expect(page.locator(".fc-text")).to_have_text(summary)


def test_seeds_are_a_band_and_several_measures_have_a_panel_each(shown):
    runs = [a_run(top=top, rate=rate, seed=seed) for rate in (1, 2)
            for seed, top in enumerate((9.0 * rate, 10.0 * rate, 11.0 * rate))]
    page = shown(html_of(plots.curves(runs, "val_loss", "general_loss")))
    assert page.locator("polygon.fc-band").count() >= 2
    hover(page, 0.5)
    assert readings(page)["rate=1 · val_loss (nats per token)"] == "0.55 ± 0.055"


def test_a_band_that_goes_below_zero_leaves_the_axis_logarithmic(shown):
    runs = [a_run(top=top, seed=seed) for seed, top in enumerate((1.0, 2.0, 90.0))]
    page = shown(html_of(plots.curves(runs, "val_loss")))
    expect(page.locator(".ftkit-chart svg")).to_have_attribute("data-scale", "log")
    box = page.locator("polygon.fc-band").evaluate("e => [e.getBBox().y, e.getBBox().height]")
    height = page.locator(".ftkit-chart svg").bounding_box()["height"]
    assert 0 <= box[0] and box[0] + box[1] <= height, "the band is in the picture"


def test_curves_are_told_apart_without_color(shown):
    runs = {f"run {n}": a_run(top=9.0 + n, rate=n) for n in range(6)}
    page = shown(html_of(plots.curves(runs, "val_loss")))
    looks = page.locator("path[data-line]").evaluate_all("""paths => paths.map(path => {
      const marks = [...path.parentElement.querySelectorAll('.fc-mark')]
        .filter(mark => mark.getAttribute('fill') === path.getAttribute('stroke'));
      return [path.getAttribute('stroke-dasharray'), marks[0].getAttribute('d')];
    })""")
    assert len({tuple(look) for look in looks}) == 6 and len({mark for _, mark in looks}) == 6
    marks = page.locator(".fc-key b").all_inner_texts()
    assert len(set(marks)) == 6 and all(marks)
    hover(page, 0.5)
    assert page.locator(".fc-row i").all_inner_texts() == marks


def test_no_curve_crosses_the_name_of_its_panel(shown):
    page = shown(html_of(final_picture(a_run(), "")))
    boxes = "found => found.map(e => e.getBoundingClientRect().toJSON())"
    names, curves = (page.locator(css).evaluate_all(boxes)
                     for css in (".fc-name", "path[data-line]"))
    assert len(names) == 3 and len(curves) == 4
    for name in names:
        assert not [c for c in curves if c["top"] < name["bottom"] and c["bottom"] > name["top"]
                    and c["left"] < name["right"] and c["right"] > name["left"]]


def test_a_narrow_chart_has_more_than_one_number_along_its_steps(shown):
    for steps in (20, 60, 100, 200):
        page = shown(html_of(final_picture(a_run(steps), "")), width=280)
        along = page.locator("svg text[text-anchor=middle]").all_text_contents()
        assert len(along) > 1, along


def test_no_half_step_is_numbered_however_far_it_is_zoomed(shown):
    page = shown(html_of(final_picture(a_run(), "")))
    page.locator("svg").focus()
    for _ in range(6):
        page.keyboard.press("+")
    along = page.locator("svg text[text-anchor=middle]").all_text_contents()
    assert along and all(float(text).is_integer() for text in along), along


@pytest.mark.parametrize("scrolled, moves", [(450, True), (1500, False)])
def test_a_live_chart_that_begins_half_above_the_window_is_scrolled_into_it(shown, scrolled, moves):
    bundles = []
    Live(20, show=bundles.append)
    page = shown(f"""<div class="jp-WindowedPanel-outer" style="height:500px;overflow:auto">
        <div style="height:2500px"><div style="height:300px"></div>
        <script>document.querySelector(".jp-WindowedPanel-outer").scrollTop = {scrolled}</script>
        {bundles[0]["text/html"]}</div></div>""")
    page.wait_for_timeout(200)
    panel = page.locator(".jp-WindowedPanel-outer")
    assert (panel.evaluate("e => e.scrollTop") == scrolled) is not moves
    seen = page.locator(".ftkit-chart").bounding_box()["y"] >= panel.bounding_box()["y"]
    assert seen is moves


def test_a_live_chart_that_is_drawn_anew_keeps_what_was_hidden_and_zoomed(shown):
    live = Live(40, show=lambda _: None)
    for row in a_run().rows[:20]:
        live.add(row)
    page = shown(f"<div id=cell>{chart.page(live.spec(), uid='x1')}</div>")
    page.get_by_role("button", name="general_loss").click()
    page.locator(".ftkit-chart svg").focus()
    page.keyboard.press("+")
    for row in a_run().rows[20:]:
        live.add(row)
    page.evaluate("""html => {
      const cell = document.getElementById("cell");
      cell.innerHTML = html;
      for (const old of cell.querySelectorAll("script")) {
        const fresh = document.createElement("script");
        fresh.textContent = old.textContent;
        old.replaceWith(fresh);
      }
    }""", chart.page(live.spec(), uid="x1"))
    expect(page.get_by_role("button", name="general_loss")).to_have_attribute(
        "aria-pressed", "false")
    expect(page.locator(".fc-reset")).to_be_enabled()
    assert page.evaluate("() => document.activeElement.tagName") == "svg"


@pytest.mark.parametrize("style", ["background:#fff;color:#111", "background:#111;color:#eee"],
                         ids=["light", "dark"])
def test_axe_finds_nothing_serious(shown, style):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = shown(html_of(final_picture(a_run(), "tiny on tasks")), style)
    hover(page, 0.4)
    found = axe.Axe().run(page)
    bad = [v["id"] for v in found.response["violations"] if v["impact"] in ("critical", "serious")]
    assert not bad, bad
