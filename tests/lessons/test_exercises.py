"""Every exercise has a solution that passes, and named wrong answers that are told apart.

The right solution is the one that `ft.solution` shows. A file `solutions_NN.py` has one dict,
SOLUTIONS: exercise → {"variants": [two other right candidates], "wrong": {name of the mistake:
(candidate, words of the message)}}, with at least five mistakes. A `functools.partial` is called
to get the candidate, so that runs are made only when their test runs.
"""

import functools
import importlib
import re
from pathlib import Path

import pytest
from helpers import ROOT
from shown_solutions import SECTIONS, shown

import ftkit as ft
from ftkit.lessons import checks, exercises

HERE = Path(__file__).parent
FILES = sorted(path.stem for path in HERE.glob("solutions_*.py"))
SOURCES = sorted((ROOT / "notebooks" / "src").glob("[0-9]*.py"))
ALL = {name: solution for file in FILES
       for name, solution in importlib.import_module(file).SOLUTIONS.items()}
RIGHT = [(name, i) for name in ALL for i in range(1 + len(ALL[name]["variants"]))]
WRONG = [(name, mistake) for name in ALL for mistake in ALL[name]["wrong"]]


def made(candidate):
    return candidate() if isinstance(candidate, functools.partial) else candidate


@pytest.mark.parametrize("name, i", RIGHT)
def test_solution_and_its_variants_pass(name, i, capsys):
    candidates = [functools.partial(shown, name), *ALL[name]["variants"]]
    verdict = ft.check(name, made(candidates[i]))
    assert verdict.state == "solved", verdict.text


@pytest.mark.parametrize("name, mistake", WRONG)
def test_for_a_wrong_answer_the_message_says_what_is_wrong(name, mistake, capsys):
    candidate, words = ALL[name]["wrong"][mistake]
    verdict = ft.check(name, made(candidate))
    assert verdict.state == "wrong", verdict.text
    assert words in verdict.text


@pytest.mark.parametrize("name", SECTIONS)
def test_an_exercise_has_two_variants_and_five_mistakes_with_different_messages(name):
    words = [words for _, words in ALL[name]["wrong"].values()]
    assert len(ALL[name]["variants"]) >= 2
    assert len(words) >= 5 and len(set(words)) == len(words)


@pytest.mark.parametrize("name", ALL)
def test_nothing_filled_in_is_unsolved(name, capsys):
    assert ft.check(name, ...).state == "unsolved"
    if f"def {name}(" in SECTIONS[name].code:
        assert ft.check(name, lambda *args, **options: ...).state == "unsolved"


def test_every_check_of_a_lesson_has_a_solution():
    asked = {name for path in SOURCES
             for name in re.findall(r"ft\.check\(\s*[\"'](\w+)", path.read_text("utf-8"))}
    registered = {n for n, f in checks.EXERCISES.items()
                  if f.__module__.startswith(f"{exercises.__name__}.lesson_")}
    assert asked == registered == set(ALL) == set(SECTIONS)
