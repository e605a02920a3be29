"""Placement: on 30 scripted learners at most one lesson in ten is wrongly skipped."""

import random

import pytest

import ftkit as ft
from ftkit.interview import paths, placement
from ftkit.lessons import progress_log

SLIP, LUCK = 0.05, 0.05  # a learner who knows is wrong; one who does not is right


def right_answer(question):
    return str(question.answer).split()[0] if question.kind == "sentence" else str(question.answer)


def learner(number):
    """What the learner knows (with all that it needs), and the answers: some slips, some luck."""
    draw = random.Random(number)
    share, knows = number / 29, set()
    for step in paths.lessons_of("everything"):
        if draw.random() < share and all(set(n.split("|")) & knows for n in step.needs):
            knows.add(step.lesson)

    def answer(question):
        hit = draw.random() < (1 - SLIP if question.lesson in knows else LUCK)
        return right_answer(question) if hit else ""

    return knows, answer


def test_at_most_one_lesson_in_ten_is_wrongly_skipped_and_most_of_the_known_are():
    skipped = wrong = known = asked = 0
    tested = {question.lesson for question in placement.questions()}
    for number in range(30):
        knows, answer = learner(number)
        result = placement.place(answer)
        skipped += len(result.known)
        wrong += len(set(result.known) - knows)
        known += len(knows & tested)
        asked += len(result.asked)
    assert wrong <= 0.1 * skipped, (wrong, skipped)
    assert skipped - wrong >= 0.6 * known, (skipped, known)
    assert asked < 30 * 12


def test_there_are_15_questions_of_four_kinds_and_no_right_answer_by_saying_nothing():
    assert len(placement.questions()) == 15
    assert {q.kind for q in placement.questions()} == {"number", "curves", "mask", "sentence"}
    for question in placement.questions():
        assert question.lesson in paths.steps()
        assert placement.is_right(question, right_answer(question))
        for typed in ("", "7", "I do not know", "0 1 2 3 4 5 6", "x" * 10_000):
            assert not placement.is_right(question, typed), (question, typed)


@pytest.mark.parametrize("lesson, typed", [
    ("00", "1.386"), ("00", "ln 4"), ("01", "16 GB"), ("04", "4, 5, 6"), ("05", "to stop"),
    ("07", "3e-4"), ("08", "100"), ("16", "Replay"), ("15", "1/8")])
def test_answers_are_understood_as_people_type_them(lesson, typed):
    question = next(one for one in placement.questions() if one.lesson == lesson)
    assert placement.is_right(question, typed)


def test_a_path_leaves_out_what_the_placement_has_shown(home, monkeypatch):
    given = {"00": "1.386", "01": "16", "02": "1600"}
    texts = {one.question: given.get(one.lesson, "") for one in placement.questions()}
    monkeypatch.setattr("builtins.input", lambda text: texts[text.removesuffix("\n> ")])
    result = ft.placement()
    assert result.known == ["00", "01", "02"] and "may skip: 00, 01, 02." in repr(result)
    assert "3 of 6 done, 135 minutes left.\nNext: 04" in repr(ft.progress("ship"))
    progress_log.add("placement", known="damaged")
    progress_log.add("placement", known=["00", "no lesson"])
    assert placement.known() == {"00"}


def test_time_ends_the_questions(monkeypatch):
    assert placement.place(right_answer, minutes=0).asked == {}
    assert len(placement.place(right_answer).known) == 15
