"""The cards in a real JupyterLab, answered with the keyboard alone."""

import pytest
from playwright.sync_api import expect

RATE = "rate 1 to 4, p proves it (u undo, s suspend)"


def hint(page, css) -> str:
    return page.locator(f"{css} input").get_attribute("placeholder")


def press(page, css, text):
    """Type a key, with Enter where the field waits for it."""
    page.page.keyboard.type(text)
    if "then Enter" in hint(page, css):
        page.page.keyboard.press("Enter")


@pytest.mark.parametrize("dark", [False, True])
def test_ten_cards_a_proof_undo_and_suspend_by_keys_alone(lesson, dark):
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
        press(page, card, "12" if "number" in hint(page, card) else "2")
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
