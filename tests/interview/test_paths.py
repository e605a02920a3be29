"""Paths: needs come first, the numbers are those of the lessons, what is done is not shown."""

import re

import pytest
from helpers import ROOT
from test_progress import solve

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.interview import paths
from ftkit.lessons import progress_log


@pytest.mark.parametrize("name", paths.paths())
def test_a_lesson_comes_after_what_it_needs(name):
    seen = set()
    for step in paths.lessons_of(name):
        assert all(seen & set(need.split("|")) for need in step.needs), step
        seen.add(step.lesson)
    assert set(paths.paths()[name].goals) <= seen


def test_the_paths_have_the_sizes_that_they_promise():
    minutes = {name: sum(step.minutes for step in paths.lessons_of(name))
               for name in paths.paths()}
    assert minutes["tour"] <= 120
    assert minutes["interview"] + 7 * 15 <= 7 * 45
    assert len(paths.lessons_of("ship")) == 6
    assert len(paths.lessons_of("everything")) == len(paths.steps()) - 1


def test_the_page_of_the_lessons_shows_the_minutes_of_each_path():
    page = (ROOT / "notebooks" / "README.md").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    for shown in (re.findall(r"^\| `(\w+)`.*\| ([\d,]+) \|$", page, re.M),
                  re.findall(r"`(\w+)`\s+\(([\d,]+)(?: minutes)?\)", readme)):
        assert {name: int(minutes.replace(",", "")) for name, minutes in shown} == {
            name: sum(step.minutes for step in paths.lessons_of(name)) for name in paths.paths()}


def test_the_file_says_what_the_lessons_say():
    for source in (ROOT / "notebooks" / "src").glob("[0-9]*.py"):
        lesson = source.name.partition("_")[0]
        step = paths.steps().get(lesson) or paths.steps()[lesson[:2]]
        needs = re.search(r"\*Needs (.*?)About[\s#]+(\d+)[\s#]+minutes", source.read_text("utf-8"),
                          re.S)
        if needs and len(lesson) == 2:
            linked = re.findall(r"\]\((\d\d)_", needs[1])
            assert sorted(linked) == sorted(n.partition("|")[0] for n in step.needs), lesson
            assert int(needs[2]) == step.minutes, lesson


def test_a_path_shows_what_is_next_and_leaves_out_what_is_done(home):
    assert repr(ft.progress("tour")).startswith("Path tour, ")
    assert "0 of 6 done, 270 minutes left.\nNext: 00, 45 minutes." in repr(ft.progress("ship"))
    solve("00")
    assert "1 of 6 done, 225 minutes left.\nNext: 01, 45 minutes." in repr(ft.progress("ship"))
    assert "Minutes left on each path: tour 110, interview 200, ship 225" in repr(ft.progress())
    for name in paths.steps()["tour"].exercises:
        progress_log.add("check", name=name, state="solved")
    tour = ft.progress("tour")
    assert "1 of 1 done, 0 minutes left." in repr(tour)
    assert "<div>Next: your own" in tour._repr_html_()


def test_a_week_before_an_interview_begins_each_day_with_cards(home):
    assert ("7 days of 45 minutes: first 15 minutes of cards (ft.drill(minutes=15), 0 due), then "
            "the next lesson.") in repr(ft.progress("interview"))


def test_a_path_that_does_not_exist_is_a_user_error(home):
    with pytest.raises(UserError, match="or a path: tour, interview, ship, everything"):
        ft.progress("fast")
    with pytest.raises(UserError, match="path is 'fast'; expected one of tour, interview"):
        paths.lessons_of("fast")
