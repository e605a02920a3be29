"""The interview clinic in a real JupyterLab, played with the keyboard alone."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

RATE = "rate 1 to 4, p proves it (u undo, s suspend)"


def hint(page, css) -> str:
    return page.locator(f"{css} input").get_attribute("placeholder")


def type_into(page, css, text):
    """Type, and wait until the kernel has taken it: the field is empty, the hint has changed."""
    before = hint(page, css)
    page.page.keyboard.type(text)
    expect(page.locator(f"{css} input")).to_have_value("")
    expect(page.locator(f"{css} input")).not_to_have_attribute("placeholder", before)


@pytest.mark.parametrize("dark", [False, True])
def test_ten_cards_a_proof_and_a_mock_interview_by_keys_alone(lesson, dark):
    page, theme = lesson("21_interview_clinic", dark=dark), "dark" if dark else "light"
    page.run_cells("ft.setup(", "ft.drill(level")
    card = ".ftkit-card-key"
    page.tab_to(card)
    head, proof = page.locator(".ftkit-card-head"), page.locator(".ftkit-proof-state")
    cards = 2 if dark else 10
    for n in range(1, cards + 1):
        expect(head).to_contain_text(f"card {n} of")
        expect(page.locator(f"{card} input")).not_to_have_attribute("placeholder", RATE)
        if n == 1:
            page.look_if_asked(f"ask-{theme}")
        if "then Enter" in hint(page, card):
            page.page.keyboard.type("12")
            page.page.keyboard.press("Enter")
        else:
            page.page.keyboard.type("2")
        expect(page.locator(f"{card} input")).to_have_attribute("placeholder", RATE)
        if n == 1:
            page.page.keyboard.type("p")
            expect(proof).to_have_text("proved", timeout=120_000)
            expect(page.locator(".ftkit-drill img").first).to_be_visible()
            page.look_if_asked(f"proved-{theme}")
        page.page.keyboard.type("3")
        expect(page.locator(".ftkit-card-said")).to_contain_text("good: back in")
    if not dark:
        expect(head).to_contain_text("10 cards done")

    page.run_cells("ft.drill(interview")
    talk = ".ftkit-talk-key"
    page.tab_to(talk)
    page.page.keyboard.type("g")
    page.page.keyboard.press("Enter")
    for asked in range(6):
        expect(page.locator(".ftkit-talk-head")).to_contain_text(f"question {asked + 1} of 6")
        expect(page.locator(f"{talk} input")).to_have_attribute(
            "placeholder", "answer aloud, then g and Enter")
        page.page.keyboard.type("g")
        page.page.keyboard.press("Enter")
        expect(page.locator(f"{talk} input")).to_have_attribute(
            "placeholder", "1, 2, ... tick; g continues")
        page.page.keyboard.type("1")
        expect(page.locator(".ftkit-talk input[type=checkbox]").first).to_be_checked()
        if asked == 0:
            page.look_if_asked(f"talk-{theme}")
        type_into(page, talk, "g")
        asking = page.locator(".ftkit-talk-question")
        while "Follow-up" in (question := asking.inner_text()):
            page.page.keyboard.type("y")
            expect(asking).not_to_have_text(question)
    expect(page.locator(f"{talk} input")).to_have_attribute("placeholder", "o opens the report")
    page.page.keyboard.type("o")
    report = page.page.frame_locator(".ftkit-talk-page iframe")
    expect(report.locator("h1")).to_contain_text("Mock interview")
    expect(report.locator("h2").first).to_contain_text("over 6 of 6 questions")
    page.locator(".ftkit-talk-page").scroll_into_view_if_needed()
    page.look_if_asked(f"report-{theme}")
    kept = Path(page.locator(".ftkit-talk-said").inner_text().removeprefix("Kept as ").strip())
    file = page.context.new_page()
    file.goto(kept.as_uri())
    expect(file.locator("h2").first).to_contain_text("over 6 of 6 questions")
