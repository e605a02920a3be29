"""A study plan: each day has its minutes, lessons come in order, due and weak cards come first."""

from datetime import UTC, datetime, timedelta

import pytest
from test_progress import solve

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.interview import bank, cards, paths, study_plan


def spent(day) -> int:
    return day["cards"] + day["interview"] + sum(
        minutes for _, minutes in [*day["lessons"], day["practice"] or ("", 0)])


@pytest.mark.parametrize("days, minutes", [(1, 10), (7, 45), (14, 30), (30, 20), (30, 90)])
def test_each_day_has_its_minutes_and_each_lesson_all_of_its_own(days, minutes, home):
    plan = ft.progress("everything", days=days, minutes=minutes)
    assert len(plan.days) == days and all(spent(day) == minutes for day in plan.days)
    assert plan.days[-1]["interview"] and not plan.days[-1]["lessons"]
    order, given = [step.lesson for step in paths.lessons_of("everything")], {}
    for day in plan.days:
        for lesson, part in day["lessons"]:
            given[lesson] = given.get(lesson, 0) + part
    assert list(given) == order[:len(given)]
    whole = {lesson for lesson, part in given.items() if part == paths.steps()[lesson].minutes}
    assert whole | set(plan.left) == set(order) and not whole & set(plan.left)
    assert ("No time to finish lessons" in repr(plan)) == bool(plan.left)


def test_what_is_solved_due_and_missed_counts(home):
    solve("00")
    store, now = cards.Store(), datetime.now(UTC)
    topic = bank.everything()[0].topic
    for question in bank.questions(topic=topic)[:3]:
        store.add(question.id, 1, now - timedelta(days=9))
    known = next(q for q in bank.everything() if q.topic != topic)
    store.add(known.id, 4, now - timedelta(days=9))
    plan = ft.progress(days=14)
    assert plan.weak == [topic] and f"Weak so far: {topic} (" in repr(plan)
    assert plan.days[0]["due"] == 3 and "(3 due, 7 new)" in repr(plan)
    assert "00" not in {lesson for day in plan.days for lesson, _ in day["lessons"]}
    assert [i for i, day in enumerate(plan.days) if day["interview"]] == [6, 13]
    assert plan._repr_html_().count("<div>") == len(plan.lines())


@pytest.mark.parametrize("days, minutes, words", [
    (0, 45, "days is 0"), (366, 45, "days is 366"), (True, 45, "days is True"),
    (7, 5, "minutes is 5; expected a whole number from 10 to 600"), (7, 4.5, "minutes is 4.5")])
def test_a_plan_that_cannot_be_made_is_refused(days, minutes, words, home):
    with pytest.raises(UserError, match=words):
        ft.progress(days=days, minutes=minutes)
    with pytest.raises(UserError, match="path is '02'"):
        ft.progress("02", days=7)


def test_the_command_prints_the_plan(ftkit, home):
    status, out, _ = ftkit("drill", "--plan", "7", "--minutes", "45")
    assert status == 0 and out.startswith("7 days of 45 minutes, until ")
    assert "mock interview 30 min" in out.splitlines()[-1]


def test_few_answers_make_no_weak_topic():
    one, *_ = bank.everything()
    assert study_plan.weak_topics([{"card": one.id, "rating": 1}]) == []
    assert study_plan.weak_topics([{"card": "own", "rating": 1}] * 4) == []


def test_cards_of_earlier_days_come_back_and_each_week_has_its_rounds(home):
    plan = ft.progress(days=14, minutes=45)
    assert plan.days[0]["due"] == 0 < sum(day["due"] for day in plan.days[2:7])
    rounds = [day["practice"] and day["practice"][0] for day in plan.days]
    assert rounds[:7] == rounds[7:] == [None, None, "clinic", None, "design round", "story round",
                                        None]
    assert "`ftkit drill --clinic`" in repr(plan) and "story round 10 min" in repr(plan)


def test_a_failed_question_of_a_mock_interview_makes_its_topic_weak(home):
    one = bank.everything()[0]
    failed = {"kind": "interview", "question": one.id, "topic": one.topic, "score": 0.3}
    assert study_plan.weak_topics([], [failed]) == [one.topic]
    assert study_plan.weak_topics([], [failed, failed | {"score": 0.9}]) == []
