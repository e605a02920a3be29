"""ft.progress: what is solved, how the guesses went, which cards are due, and what is next."""

from datetime import UTC, datetime, timedelta

import pytest

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.interview import cards
from ftkit.lessons import checks, progress_log


def solve(number: str):
    ft.progress()  # registers the checks
    for name, check in checks.EXERCISES.items():
        if check.__module__.endswith(f"lesson_{number}"):
            progress_log.add("check", name=name, state="solved")


def test_a_new_learner_begins_with_lesson_00(home):
    page = ft.progress()
    assert repr(page).startswith("0 of ") and "Next: lesson 00, start here." in repr(page)
    assert "cards due" not in repr(page) and not home.exists()
    assert page._repr_html_().count("<tr>") == 1 + len(page.lessons)


def test_what_is_done_is_counted(home):
    solve("00")
    progress_log.add("check", name="merge_weight", state="solved")
    for topic, question, right in (("02_lora", "a", True), ("02_lora", "a", False),
                                   ("02_lora", "b", False)):
        progress_log.add("score", question=question, topic=topic, right=right, confidence=0.8)
    cards.Store().add("states-7b", 1, datetime.now(UTC) - timedelta(days=9))
    text = repr(ft.progress())
    assert "1 of " in text.splitlines()[0]
    assert "2 guesses with a confidence: 80% sure on average, 50% right." in text
    assert "Next: lesson 01, full fine tuning." in text
    assert "Interview cards due: 1 (ft.drill())." in text
    two = repr(ft.progress("02"))
    assert two.startswith("Lesson 02, lora: 1 of ") and "(open: " in two
    assert "1 of 2 guesses right" in two and "Next: lesson 03" in two
    assert repr(ft.progress(2)) == two


def test_after_the_last_lesson_an_open_one_is_named_or_that_none_is(home):
    assert "Next: lesson 00, start here." in repr(ft.progress("22"))
    for lesson in ft.progress().lessons:
        if lesson.number != "22":
            solve(lesson.number)
    assert "Every other exercise is solved. Next: your own data" in repr(ft.progress("22"))


def test_lines_of_another_version_do_not_count_and_are_reported(home, capsys):
    solve("00")
    for lines in ({"name": ["merge_weight"]}, {"name": "an_exercise_of_2031"}):
        progress_log.add("check", state="solved", **lines)
    progress_log.add("placement", known=[["00"], {}])
    with open(home / "progress.jsonl", "a", encoding="utf-8") as file:
        file.write('{"version": 9}\n{"kind": 3}\n{cut off')
    assert repr(ft.progress()).startswith("1 of ")
    assert "4 of " in capsys.readouterr().err and not ft.progress("02").lessons[2].solved


def test_a_lesson_that_does_not_exist_is_a_user_error(home):
    with pytest.raises(UserError, match="no lesson is called 'x'; expected a number from 00 to 2"):
        ft.progress("x")
