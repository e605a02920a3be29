"""Lessons in a real JupyterLab: what nbval cannot see."""

import pytest


@pytest.mark.parametrize("name", ["00_start_here"])
def test_a_lesson_opens_with_all_its_cells(lesson, name):
    page = lesson(name)
    first = page.locator(".jp-Notebook .jp-MarkdownCell h1").first
    assert first.inner_text().startswith(name[:2])
