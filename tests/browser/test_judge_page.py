"""The judge of two models' answers in a real JupyterLab: by keyboard, read by axe-core, narrow."""

import pytest
from playwright.sync_api import expect

CELL = ("from ftkit.evaluate.pairwise import judge\n"
        "judge(['What is a lease?', 'Who pays?'],"
        " {'base': ['A contract.', 'The tenant <b>pays</b> $5 and $10.'],"
        " 'tuned': ['A lease is a contract of rent.', 'The owner.']})")


@pytest.fixture
def page(request, page_of):
    """The cell above as a notebook, run."""
    name = "judge_" + ("_".join(map(str, request.param.values())) or "light")
    opened = page_of(name, [CELL], **request.param)
    opened.run_cells(CELL)
    return opened


@pytest.mark.parametrize("page", [{}, {"dark": True}, {"width": 390, "height": 844}],
                         ids=["light", "dark", "narrow"], indirect=True)
def test_two_votes_and_an_undo_by_keyboard_alone(page):
    status = page.locator(".ftkit-judge-status")
    expect(status).to_contain_text("0 of 2 judged")
    page.page.keyboard.press("Escape")
    page.tab_to(".ftkit-judge-left")
    page.page.keyboard.press("Enter")
    expect(status).to_contain_text("1 of 2 judged")
    page.tab_to(".ftkit-judge-undo")
    page.page.keyboard.press("Enter")
    expect(status).to_contain_text("0 of 2 judged")
    assert not page.serious(".jp-OutputArea")
    for choice in ("tie", "right"):
        button = page.locator(f".ftkit-judge-{choice}")
        inside, area = button.bounding_box(), page.locator(".jp-OutputArea").first.bounding_box()
        assert inside["x"] + inside["width"] <= area["x"] + area["width"] + 1
        button.click()
    expect(status).to_contain_text("2 of 2 judged")
    expect(page.locator(".ftkit-judge-tie")).to_be_disabled()
    assert not page.serious(".jp-OutputArea")
