"""The what-if panel in a real JupyterLab: names, tooltips, chart, table, and a reload."""

import re

import pytest
from playwright.sync_api import expect

from ftkit.notebook.widgets import FIELDS

PATIENCE = 60_000  # milliseconds for what takes one second on a quiet machine
CELLS = ["import ftkit as ft",
         "panel = ft.what_if(data='capital', probes=('general',),"
         " config=ft.Config(max_steps=20, batch_size=4, eval_steps=5))\npanel",
         "run = await panel.result()"]
PLOT = ".ftkit-chart svg[data-scale]"


@pytest.fixture
def page(request, page_of):
    name = re.sub(r"\W", "_", request.node.name)[-40:]
    options = {"width": 1280, "height": 800} | getattr(request, "param", {})
    opened = page_of(name, CELLS, **options)
    opened.run_cells(*CELLS[:2])
    expect(opened.locator(".ftkit-forecast")).to_contain_text(
        re.compile("about|already run"), timeout=PATIENCE)
    opened.locator(".ftkit-what-if").evaluate("e => e.scrollIntoView()")
    return opened


def train(page):
    page.locator(".ftkit-start").click()
    expect(page.locator(".ftkit-status")).to_contain_text(
        re.compile("finished: 20 steps|already run"), timeout=PATIENCE)
    expect(page.locator(".ftkit-owner")).to_contain_text("Newest run", timeout=PATIENCE)


def in_kernel(page, expression: str) -> str:
    """The value of a Python expression, as text."""
    return page.page.evaluate("""async code => {
      const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
      let text = "";
      const request = kernel.requestExecute({code: `print(${code})`, store_history: false});
      request.onIOPub = m => { text += m.content.text ?? m.content.evalue ?? ""; };
      await request.done;
      return text.trim();
    }""", expression)


def point_at(page, part: float):
    box = page.locator(PLOT).bounding_box()
    page.page.mouse.move(box["x"] + 52 + part * (box["width"] - 62), box["y"] + 60)


def test_every_control_has_its_name_and_its_tip_in_the_page(page):
    expect(page.locator(".ftkit-seed .noUi-handle")).to_have_attribute("aria-label", "seed")
    found = page.page.evaluate("""names => names.map(name => {
      const box = document.querySelector(`.ftkit-${name}`);
      const part = box.querySelector('.noUi-handle, input, select, textarea');
      const label = box.closest('.ftkit-row').querySelector('.ftkit-label span[title]');
      return [name, label.title, box.title, part.getAttribute('aria-label'),
              part.getAttribute('aria-description')]})""", list(FIELDS))
    for name, *tips, label, described in found:
        tip = FIELDS[name].metadata["tip"]
        assert (tips, label, described) == ([tip, tip], name, tip), name
    for css in ("model", "data", "line", "preset", "knob", "copy", "filter", "prompts"):
        assert page.locator(f".ftkit-{css}").get_attribute("title"), css
    page.tab_to(".ftkit-learning_rate .noUi-handle")
    expect(page.locator(".ftkit-help")).to_contain_text("learning_rate: How far a step moves")
    page.page.keyboard.press("ArrowRight")
    expect(page.locator(".ftkit-line input")).to_have_value(re.compile("learning_rate=1e-06"))


def test_a_drop_down_keeps_the_focus_and_takes_the_arrow_keys(page):
    page.locator(".ftkit-preset select").focus()
    page.page.keyboard.press("ArrowDown")
    expect(page.locator(".ftkit-preset select")).to_be_focused()
    expect(page.locator(".ftkit-preset select")).to_have_css("outline-width", "3px")
    expect(page.locator(".ftkit-line input")).to_have_value(re.compile("learning_rate="))


def test_by_keys_alone_the_focus_is_never_lost_and_what_changes_is_announced(page):
    press, told = page.page.keyboard.press, page.locator(".ftkit-told[role=status]")
    page.tab_to(".ftkit-start")
    place = "() => document.querySelector('.ftkit-prompts').getBoundingClientRect().top"
    before = page.page.evaluate(place)
    frames = page.locator(".ftkit-empty:visible")
    expect(frames).to_have_text(["The curves of your runs appear here.",
                                 "Your runs are listed here."])
    press("Enter")
    expect(page.locator(".ftkit-owner")).to_contain_text("Newest run", timeout=PATIENCE)
    assert page.page.evaluate(place) == before, "the page moves when the first run has ended"
    expect(frames).to_have_count(0)
    expect(told.filter(has_text=re.compile("finished: 20 steps|already run"))).to_have_count(1)

    page.tab_to(PLOT)
    press("+")
    expect(page.locator(".fc-spoken")).to_have_text(re.compile(r"^step [\d.]+ to [\d.]+$"))
    press("Shift+Tab")
    expect(page.locator(".fc-reset")).to_be_focused()
    press("Enter")  # which switches the button off
    expect(page.locator(PLOT)).to_be_focused()
    expect(page.locator(".fc-spoken")).to_have_text("all: step 0 to 20")

    page.tab_to(".ftkit-sort", "val_loss")
    press("Enter")  # the heads are drawn anew
    expect(page.locator(".ftkit-sort:focus")).to_have_text("val_loss ▲", timeout=PATIENCE)
    page.tab_to(".ftkit-choose input")
    press("Space")
    expect(told.filter(has_text="In the chart: the chosen run")).to_have_count(1, timeout=PATIENCE)
    expect(page.locator(".ftkit-choose input:checked")).to_be_focused()
    page.tab_to(".ftkit-delete")
    press("Enter")
    expect(told.filter(has_text="1 deleted; Restore")).to_have_count(1, timeout=PATIENCE)
    press("Tab")
    press("Enter")  # Restore is switched off then
    expect(page.locator(".ftkit-choose")).to_have_count(1, timeout=PATIENCE)
    expect(page.locator(".ftkit-use-values")).to_be_focused()


def test_stop_by_keys_leaves_the_focus_in_the_panel(page):
    page.tab_to(".ftkit-max_steps .noUi-handle")
    page.page.keyboard.press("End")
    expect(page.locator(".ftkit-line input")).to_have_value(re.compile("max_steps=1000"),
                                                            timeout=PATIENCE)
    page.locator(".ftkit-start").focus()
    page.page.keyboard.press("Enter")
    expect(page.locator(".ftkit-status")).to_contain_text(re.compile("step [1-9]"),
                                                          timeout=PATIENCE)
    page.tab_to(".ftkit-stop")
    page.page.keyboard.press("Enter")
    expect(page.locator(".ftkit-status")).to_contain_text("stopped manually", timeout=PATIENCE)
    expect(page.locator(".ftkit-start")).to_be_focused()


def test_one_step_then_another_learning_rate_and_the_rest_in_one_go(page):
    status, now = page.locator(".ftkit-status"), page.locator(".ftkit-set-rate")
    expect(now).to_be_hidden()
    page.locator(".ftkit-step").click()
    expect(status).to_contain_text("paused after step 1 of 20", timeout=PATIENCE)
    page.locator(".ftkit-step").click()
    expect(status).to_contain_text("paused after step 2 of 20", timeout=PATIENCE)
    page.locator(".ftkit-learning_rate .noUi-handle").press("ArrowRight")
    expect(now).to_have_text("Use 1e-06 from now on", timeout=PATIENCE)
    button, knob = (page.locator(css).bounding_box() for css in (
        ".ftkit-set-rate", ".ftkit-learning_rate"))
    assert abs(button["y"] - knob["y"]) < 60, "the button is next to its control"
    now.click()
    expect(now).to_be_hidden()
    page.locator(".ftkit-pause").click()  # continue
    expect(status).to_contain_text("finished: 20 steps", timeout=PATIENCE)
    expect(page.locator(".fc-change")).to_have_count(1, timeout=PATIENCE)
    expect(page.locator(".fc-change-name")).to_have_text(re.compile("^[A-Z]+: 1e-06$"))
    expect(page.locator(".ftkit-owner")).to_contain_text("after step 2", timeout=PATIENCE)
    rates = eval(in_kernel(page, "[r['learning_rate'] for r in panel.runs[-1].rows]"))
    assert max(rates[2:]) <= 1e-6 < min(rates[:2])


def test_an_error_is_next_to_its_control_and_goes_when_it_is_mended(page):
    error = page.locator(".ftkit-error").filter(has_text="✗")

    def is_below(css):
        expect(error).to_have_count(1, timeout=PATIENCE)
        top, field = error.bounding_box(), page.locator(css).bounding_box()
        assert 0 <= top["y"] - field["y"] - field["height"] < 60, css

    for css, wrong, right in ((".ftkit-data", "no such data", "capital"),
                              (".ftkit-line", "learning_rat=1", "max_steps=20"),
                              (".ftkit-target_modules", "no_such_module", "q_proj")):
        if css == ".ftkit-target_modules":
            page.locator(".ftkit-method select").select_option("lora")
            page.locator(".ftkit-groups").get_by_role("button", name="Method").click()
        field = page.locator(f"{css} input")
        for text in (wrong, right):
            field.fill(text)
            field.press("Enter")
            if text == wrong and css == ".ftkit-target_modules":
                page.locator(".ftkit-start").click()
            if text == wrong:
                is_below(css)
        expect(error).to_have_count(0, timeout=PATIENCE)


def test_records_and_their_mask_are_seen_before_the_run_and_answers_next_to_its_chart(page_of):
    cells = [CELLS[0], CELLS[1].replace("eval_steps=5", "eval_steps=5, seed=77")]
    page = page_of("preview", cells)  # a run that no other test stores
    page.run_cells(*cells)
    preview = page.locator(".ftkit-preview")
    expect(preview.locator("summary")).to_have_text(
        re.compile(r"^capital: \d+ records to train on, \d+ to validate$"), timeout=PATIENCE)
    expect(preview).to_contain_text("trained on")
    assert preview.locator("[title*='trained on']").count() > 2
    expect(preview.locator("[title*=masked]").first).to_be_visible()
    train(page)
    expect(preview.locator("[title*=masked]").first).to_be_hidden()  # folded
    expect(page.locator(".ftkit-answers tbody th[scope=row]")).to_have_count(3)
    chart, answers = (page.locator(css).bounding_box() for css in (PLOT, ".ftkit-answers"))
    assert answers["x"] + answers["width"] <= chart["x"], "left of it"


def test_a_prompt_is_asked_as_a_whole_however_fast_ask_follows(page):
    page.tab_to(".ftkit-prompts textarea")
    page.page.keyboard.type("The capital of Peru?")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    rows = page.locator(".ftkit-answers tbody th[scope=row]")  # before: of the stored run
    expect(rows).to_have_text(["The capital of Peru?"], timeout=PATIENCE)


def test_code_can_be_copied_by_a_button(page):
    page.locator(".ftkit-copy select").select_option("Python cell")
    page.locator(".ftkit-text .ftkit-copy-code").click()
    expect(page.locator(".ftkit-copy-code")).to_have_text(re.compile("Copied|Selected"))
    assert "max_steps=20" in page.page.evaluate("() => getSelection().toString()")


def test_controls_and_chart_fit_a_laptop_and_the_chart_shows_the_rows(page):
    train(page)
    page.locator(".ftkit-what-if").evaluate("e => e.scrollIntoView()")
    for css in (".ftkit-start", ".ftkit-status", ".ftkit-seed", PLOT):
        box = page.locator(css).bounding_box()
        assert 0 < box["y"] and box["y"] + box["height"] <= 775, f"{css} is not in the window"
    slider = page.locator(".ftkit-learning_rate .noUi-base").bounding_box()
    assert slider["width"] / len(FIELDS["learning_rate"].metadata["usual"]) >= 8, "pixels a stop"
    point_at(page, 0.5)
    shown = page.locator(".fc-row").evaluate_all(
        "rows => Object.fromEntries(rows.map(r => [r.dataset.name, +r.querySelector('b')"
        ".textContent]))")
    step = int(page.locator(".fc-tip > b").inner_text().removeprefix("step "))
    row = eval(in_kernel(page, f"panel.runs[-1].rows[{step - 1}]"))
    assert shown["training loss"] == pytest.approx(row["loss"], rel=1e-3)
    assert shown["A baseline · learning rate"] == pytest.approx(row["learning_rate"], rel=1e-3)


def test_after_a_reload_with_a_living_kernel_everything_still_works(page):
    page.locator(".ftkit-max_steps .noUi-handle").press("End")
    page.locator(".ftkit-start").click()
    expect(page.locator(".ftkit-status")).to_contain_text(re.compile("step [1-9]"),
                                                          timeout=PATIENCE)
    page.save()
    page.open()
    expect(page.locator(".ftkit-status")).to_contain_text(re.compile("step [1-9]"),
                                                          timeout=PATIENCE)
    first = page.locator(".ftkit-status").inner_text()
    expect(page.locator(".ftkit-status")).not_to_have_text(first, timeout=PATIENCE)
    page.locator("path[data-line]").first.wait_for()
    for title, name in (("Data", "max_length"), ("Evaluation", "eval_steps"), ("Basics", "seed")):
        page.locator(".ftkit-groups").get_by_role("button", name=title).click()
        expect(page.locator(f".ftkit-{name}")).to_be_visible()
    page.locator(".ftkit-seed .noUi-handle").press("ArrowRight")
    expect(page.locator(".ftkit-line input")).to_have_value(re.compile("seed=1"),
                                                            timeout=PATIENCE)
    page.locator(".ftkit-stop").click()
    expect(page.locator(".ftkit-status")).to_contain_text("stopped manually", timeout=PATIENCE)
    page.locator(".ftkit-choose input").first.check()
    expect(page.locator(".ftkit-owner")).to_contain_text("In the chart: the chosen run",
                                                         timeout=PATIENCE)
    # the same cell again: nothing is lost
    page.run_cells(CELLS[1])
    expect(page.locator(".ftkit-status")).to_contain_text("their baseline and the controls were",
                                                          timeout=PATIENCE)
    assert in_kernel(page, "panel.config.seed, panel.runs[-1].stopped is not None") == "1 True"


def test_a_reopened_notebook_has_its_chart_without_a_kernel(page):
    page.run_cells(CELLS[2])
    below = page.locator(".jp-CodeCell").last.locator(PLOT)
    below.wait_for(timeout=PATIENCE)
    saved = page.save()["cells"][-1]["outputs"][0]["data"]
    assert saved["image/png"] and "val_loss fell" in "".join(saved["text/plain"])
    page.reopen()
    below.wait_for(timeout=PATIENCE)
    below.scroll_into_view_if_needed()
    box = below.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    expect(page.locator(".fc-row[data-name$=val_loss] b").last).to_have_text(re.compile(r"^0\.\d"))


@pytest.mark.parametrize("page", [{"dark": True}, {"width": 390, "height": 844}],
                         ids=["dark", "narrow"], indirect=True)
def test_table_answers_and_axe(page):
    train(page)
    page.locator(".ftkit-seed .noUi-handle").press("ArrowRight")
    expect(page.locator(".ftkit-line input")).to_have_value(re.compile("seed=1"),
                                                            timeout=PATIENCE)
    train(page)
    boxes = page.locator(".ftkit-choose input")
    expect(boxes).to_have_count(2)
    page.locator(".ftkit-ask").click()
    expect(page.locator(".ftkit-answers table")).to_be_visible(timeout=PATIENCE)
    boxes.first.check()
    boxes.last.check()
    expect(page.locator(".ftkit-owner")).to_contain_text("the 2 chosen runs", timeout=PATIENCE)
    own = ("found => found.filter(e => e.scrollWidth > e.clientWidth + 1)"
           ".map(e => [e.className, e.scrollWidth, e.clientWidth])")
    rows = page.locator(".ftkit-runs, .ftkit-runs *, .widget-gridbox:has(> .ftkit-sort)")
    assert not rows.evaluate_all(own), "a row or the heads scroll apart from the others"
    assert not page.serious(".ftkit-what-if")
