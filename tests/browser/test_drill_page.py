"""The cards in a real JupyterLab, answered with the keyboard alone."""

import re

import pytest
from playwright.sync_api import expect

RATE = re.compile(r"^rate 1 to 4.* \(u undo, s suspend, \? help\)$")


def hint(page, css) -> str:
    return page.locator(f"{css} input").get_attribute("placeholder")


def press(page, css, text):
    """Type a key, with Enter where the field waits for it."""
    page.page.keyboard.type(text)
    if "then Enter" in hint(page, css):
        page.page.keyboard.press("Enter")


def pass_follow_ups(page):
    """Enter passes the follow-ups of a typed answer, of which a card has two or three."""
    front = page.locator(".ftkit-card-front")
    expect(front).to_contain_text("Follow-up: ")
    while "Follow-up: " in (asked := front.inner_text()):
        page.page.keyboard.press("Enter")
        expect(front).not_to_have_text(asked)


@pytest.mark.parametrize("dark", [False, True])
def test_ten_cards_a_proof_undo_and_suspend_by_keys_alone(lesson, dark):
    page = lesson("21_interview_clinic", dark=dark)
    page.run_cells("ft.setup(", "ft.drill(level")
    card = ".ftkit-card-key"
    page.tab_to(card)
    head, proof = page.locator(".ftkit-card-head"), page.locator(".ftkit-proof-state")
    cards = 2 if dark else 10
    for n in range(1, cards + 1):
        expect(head).to_contain_text(f"card {n} of")
        expect(page.locator(f"{card} input")).not_to_have_attribute("placeholder", RATE)
        recall = hint(page, card).startswith("say it")
        press(page, card, "12" if "number" in hint(page, card) else "2")
        if recall:
            pass_follow_ups(page)
        expect(page.locator(f"{card} input")).to_have_attribute("placeholder", RATE)
        if n == 1:
            page.page.keyboard.type("p")
            expect(proof).to_have_text("proved", timeout=120_000)
            expect(page.locator(".ftkit-drill img").first).to_be_visible()
        page.page.keyboard.type("3")
        expect(page.locator(".ftkit-card-said")).to_contain_text("good: back in")
    if not dark:
        expect(head).to_contain_text("10 cards done")
    assert not page.serious(".ftkit-drill")
    said, front = page.locator(".ftkit-card-said"), page.locator(".ftkit-card-front")
    press(page, card, "u")
    expect(said).to_contain_text("undone: good. The same card again")
    expect(head).to_contain_text(f"card {cards} of")
    undone = front.inner_text()
    press(page, card, "s")
    expect(said).to_contain_text("suspended: ")
    expect(front).not_to_have_text(undone)
    assert not page.serious(".ftkit-drill")


def test_how_sure_is_said_by_keys_and_the_focus_returns(lesson):
    page = lesson("21_interview_clinic")
    page.run_cells("ft.setup(", "ft.drill(level")
    card, sure = ".ftkit-card-key", ".ftkit-card-sure"
    page.tab_to(card)
    focused = "css => !!document.activeElement.closest(css)"
    while not hint(page, card).startswith("say it"):  # another kind of card
        front = page.locator(".ftkit-card-front").inner_text()
        press(page, card, "s")
        expect(page.locator(".ftkit-card-front")).not_to_have_text(front)
    page.page.keyboard.type("two thin factors")
    page.page.keyboard.press("Tab")
    assert page.page.evaluate(focused, sure)
    page.page.keyboard.type("70")
    page.page.keyboard.press("Enter")
    pass_follow_ups(page)
    expect(page.locator(f"{card} input")).to_have_attribute("placeholder", RATE)
    expect(page.locator(".ftkit-card-back")).to_contain_text("Your answer: two thin factors")
    page.page.wait_for_function(focused, arg=card)
    page.tab_to(".ftkit-rate-3")
    page.page.keyboard.press("Enter")  # this button is hidden then
    expect(page.locator(".ftkit-card-said")).to_contain_text("good: back in")
    page.page.wait_for_function(focused, arg=card)


def test_a_card_is_rated_without_scrolling_and_its_answer_is_announced(lesson):
    page = lesson("21_interview_clinic", width=1280, height=800)
    page.run_cells("ft.setup(", "ft.drill(level")
    card = ".ftkit-card-key"
    page.tab_to(card)
    while not hint(page, card).startswith("say it"):  # another kind of card
        front = page.locator(".ftkit-card-front").inner_text()
        press(page, card, "s")
        expect(page.locator(".ftkit-card-front")).not_to_have_text(front)
    page.page.keyboard.press("Enter")
    expect(page.locator(f"{card} input")).to_have_attribute("placeholder", RATE)
    for name in ("front", "said", "back"):
        expect(page.locator(f".ftkit-card-{name}")).to_have_attribute("role", "status")
    shown = page.locator(".jp-Notebook .jp-WindowedPanel-outer").bounding_box()
    for rate in range(1, 5):
        box = page.locator(f".ftkit-rate-{rate}").bounding_box()
        assert shown["y"] < box["y"] < shown["y"] + shown["height"] - box["height"], rate


def test_a_choice_can_be_read_where_the_page_is_narrow(lesson):
    page = lesson("21_interview_clinic", width=390, height=844)
    page.command("application:toggle-left-area")
    page.run_cells("ft.setup(", "ft.drill(level")
    page.locator(".ftkit-card-key input").focus()
    for _ in range(60):  # the deck is drawn by the day: a choice may come late
        if hint(page, ".ftkit-card-key").startswith("1 to 4"):
            break
        front = page.locator(".ftkit-card-front").inner_text()
        press(page, ".ftkit-card-key", "s")
        expect(page.locator(".ftkit-card-front")).not_to_have_text(front)
    choices = page.locator(".ftkit-card-choice")
    expect(choices.first).to_be_visible()
    cut = ("found => found.map(e => e.scrollWidth > e.clientWidth"
           " || e.scrollHeight > e.clientHeight)")
    assert choices.evaluate_all(cut) == [False] * 4
