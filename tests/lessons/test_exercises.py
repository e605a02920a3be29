"""Every exercise has a solution that passes, and named wrong answers that are told apart.

A file `solutions_NN.py` has one dict, SOLUTIONS: exercise → {"right": candidate, "variants": [two
other right candidates], "wrong": {name of the mistake: (candidate, words of the message)}}. An
exercise with hints has two variants and at least five mistakes. A `functools.partial` is called to
get the candidate, so that runs are made only when their test runs.
"""

import functools
import importlib
import re
import types
from pathlib import Path

import pytest
from helpers import ROOT

import ftkit as ft
from ftkit.lessons import checks, exercises, hints

HERE = Path(__file__).parent
FILES = sorted(path.stem for path in HERE.glob("solutions_*.py"))
SOURCES = sorted((ROOT / "notebooks" / "src").glob("[0-9]*.py"))
ALL = {name: solution for file in FILES
       for name, solution in importlib.import_module(file).SOLUTIONS.items()}
RIGHT = [(name, i) for name in ALL for i in range(1 + len(ALL[name].get("variants", [])))]
WRONG = [(name, mistake) for name in ALL for mistake in ALL[name]["wrong"]]


def made(candidate):
    return candidate() if isinstance(candidate, functools.partial) else candidate


@pytest.mark.parametrize("name, i", RIGHT)
def test_solution_and_its_variants_pass(name, i, capsys):
    verdict = ft.check(name, made([ALL[name]["right"], *ALL[name].get("variants", [])][i]))
    assert verdict.state == "solved", verdict.text


@pytest.mark.parametrize("name, mistake", WRONG)
def test_for_a_wrong_answer_the_message_says_what_is_wrong(name, mistake, capsys):
    candidate, words = ALL[name]["wrong"][mistake]
    verdict = ft.check(name, made(candidate))
    assert verdict.state == "wrong", verdict.text
    assert words in verdict.text


@pytest.mark.parametrize("name", hints.read_all())
def test_an_exercise_with_hints_has_variants_and_five_mistakes(name):
    assert len(ALL[name].get("variants", [])) >= 2
    assert len(ALL[name]["wrong"]) >= 5


@pytest.mark.parametrize("name", ALL)
def test_wrong_answers_get_different_messages(name):
    words = [words for _, words in ALL[name]["wrong"].values()]
    assert len(words) >= 2 and len(set(words)) == len(words)


@pytest.mark.parametrize("name", ALL)
def test_nothing_filled_in_is_unsolved(name, capsys):
    assert ft.check(name, ...).state == "unsolved"
    if isinstance(ALL[name]["right"], types.FunctionType):
        assert ft.check(name, lambda *args, **options: ...).state == "unsolved"


def test_every_check_of_a_lesson_has_a_solution():
    asked = {name for path in SOURCES
             for name in re.findall(r"ft\.check\(\s*[\"'](\w+)", path.read_text("utf-8"))}
    registered = {n for n, f in checks.EXERCISES.items()
                  if f.__module__.startswith(exercises.__name__)}
    assert asked == registered == set(ALL)
