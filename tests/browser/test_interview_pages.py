"""The mock interview and the clinic in a real JupyterLab, by keyboard alone, read by axe-core."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from ftkit.interview import clinic_cases, clinic_widget, coding

FAST = {"oom_states", "oom_activations", "oom_logits", "rate_too_high_135m", "lora_rate_too_low",
        "lora_rate_too_high", "batch_without_rate"}  # nothing is trained for them
SEED = next(seed for seed in range(10_000) if set(clinic_cases.order(seed)[:2]) <= FAST)


@pytest.fixture
def cell_run(page_of):
    """`cell_run("name", code, dark)`: a notebook of one cell, run."""
    def run(name: str, code: str, dark: bool):
        page = page_of(name, [code], dark=dark)
        page.run_cells(code)
        return page

    return run


def press(page, css: str, text: str):
    """Type a key, and wait until the kernel has taken it: the field is empty again."""
    page.page.keyboard.type(text)
    expect(page.locator(f"{css} input")).to_have_value("")


def is_told(page, root: str, name: str, *regions: str):
    """A screen reader hears the form's name and each new text of its regions."""
    expect(page.locator(f"{root}[role=group]")).to_have_attribute("aria-label", name)
    for region in regions:
        expect(page.locator(f"{root}-{region}")).to_have_attribute("role", "status")
    expect(page.locator(f"{root}-key input")).to_have_attribute("aria-label", re.compile("key"))


@pytest.mark.parametrize("dark", [False, True])
def test_an_interview_with_a_coding_round_by_keys_alone(cell_run, dark):
    theme = "dark" if dark else "light"
    page = cell_run(f"talk_{theme}", "import ftkit as ft\n"
                    "ft.drill(interview=True, questions=1, rounds='concept, coding, story')", dark)
    key, asked = ".ftkit-talk-key", page.locator(".ftkit-talk-question")
    head, said = page.locator(".ftkit-talk-head"), page.locator(".ftkit-talk-said")

    def enter(text):
        page.page.keyboard.type(text)
        page.page.keyboard.press("Enter")

    page.tab_to(key)
    enter("g")
    expect(head).to_contain_text("concept · question 1 of 3")
    page.tab_to(".ftkit-talk-answer")
    page.page.keyboard.type("my own words")
    page.page.keyboard.press("Shift+Tab")
    enter("g")
    for _ in range(2):
        expect(asked).to_contain_text("Follow-up")
        question = asked.inner_text()
        enter("g")
        expect(asked).not_to_have_text(question)
    expect(page.locator(".ftkit-talk-model")).to_contain_text("Model answer")
    expect(said).to_contain_text("Your answer is kept in")
    # The hint comes last: from then on a key acts without Enter.
    expect(page.locator(f"{key} input")).to_have_attribute("placeholder", re.compile("tick"))
    page.page.keyboard.type("1")
    expect(page.locator(".ftkit-talk input[type=checkbox]").first).to_be_checked()
    is_told(page, ".ftkit-talk", "mock interview", "question", "said", "model")
    assert not page.serious(".ftkit-talk")
    press(page, key, "g")
    expect(said).to_contain_text("Where did you say 1")
    page.page.keyboard.type("1")
    expect(page.locator(".ftkit-talk input[type=checkbox]").first).to_be_checked()
    press(page, key, "g")
    expect(asked).to_contain_text("Follow-up")
    while "Follow-up" in (question := asked.inner_text()):
        page.page.keyboard.type("n")
        expect(asked).not_to_have_text(question)

    expect(head).to_contain_text("coding · question 2 of 3")
    name = page.locator(".ftkit-talk-answer textarea").input_value()
    name = name.partition("def ")[2].partition("(")[0]
    enter("g")
    expect(said).to_contain_text("not solved yet", timeout=120_000)
    page.tab_to(".ftkit-talk-answer")
    page.page.keyboard.press("Control+A")
    page.page.keyboard.insert_text(coding.tasks()[name].solution)
    page.page.keyboard.press("Shift+Tab")
    enter("g")
    expect(said).to_contain_text("✓", timeout=120_000)
    expect(page.locator(".ftkit-talk-code")).to_contain_text(f"def {name}")
    assert not page.serious(".ftkit-talk")
    press(page, key, "g")
    expect(head).to_contain_text("story · question 3 of 3")
    enter("l")
    expect(page.locator(f"{key} input")).to_have_attribute("placeholder", "o opens the report")
    page.page.keyboard.type("o")
    report = page.page.frame_locator(".ftkit-talk-page iframe")
    expect(report.locator("h1")).to_contain_text("Mock interview")
    expect(report.locator("h2").first).to_contain_text("over 2 of 3 questions, 1 skipped")
    assert not page.serious(".ftkit-talk")
    kept = Path(said.inner_text().removeprefix("Kept as ").strip())
    assert "my own words" in (kept.parent / "answers.md").read_text("utf-8")
    file = page.context.new_page()
    file.goto(kept.as_uri())
    expect(file.locator("h2").first).to_contain_text("over 2 of 3 questions")


@pytest.mark.parametrize("dark", [False, True])
def test_two_cases_of_the_clinic_by_keys_alone(cell_run, dark):
    theme = "dark" if dark else "light"
    page = cell_run(f"clinic_{theme}", "from ftkit.interview import clinic_widget"
                    f"\nclinic_widget.Clinic({SEED})", dark)
    key, said = ".ftkit-clinic-key", page.locator(".ftkit-clinic-said")

    def enter(text):
        page.page.keyboard.type(text)
        page.page.keyboard.press("Enter")

    page.tab_to(key)
    enter("n")
    # A new hint empties the field, so it comes before the case is made, which takes seconds.
    hint = page.locator(f"{key} input")
    expect(hint).to_have_attribute("placeholder", clinic_widget.HINT)
    enter("1")
    expect(page.locator(".ftkit-clinic-head")).to_have_text("Case 1", timeout=60_000)
    expect(page.locator(".ftkit-clinic-sent")).to_contain_text("Config: ")
    expect(said).to_contain_text(":")
    is_told(page, ".ftkit-clinic", "clinic", "head", "sent", "said")
    assert not page.serious(".ftkit-clinic")
    enter("double_bos")
    expect(said).to_contain_text("✗ Not")
    enter(clinic_cases.order(SEED)[0])
    expect(said).to_contain_text("✓ Yes")
    enter("n")
    expect(page.locator(".ftkit-clinic-head")).to_have_text("Case 2", timeout=60_000)
    enter("g")
    expect(said).to_contain_text("It was: ")
    assert not page.serious(".ftkit-clinic")


def test_the_cheat_sheet_prints_one_page_a_topic(chromium, tmp_path):
    from ftkit.interview import cheat_sheet

    topics = ("RLHF", "RL with verifiable rewards", "data")  # the longest ones
    cheat_sheet.write(tmp_path / "sheet.html", topic=topics)
    page = chromium.new_page()
    page.goto((tmp_path / "sheet.html").as_uri())
    printed = page.pdf(prefer_css_page_size=True)
    page.close()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == len(topics)
