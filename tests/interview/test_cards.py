"""Cards: scheduled as fsrs does, kept through kills, two processes and damage; typed numbers."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta

import fsrs
import pytest

from ftkit.interview import bank, cards, number_answer, paths, rubrics
from ftkit.interview.listening import Heard, misconceptions
from ftkit.interview.session import Session
from ftkit.lessons import predictions, progress_log

pytestmark = pytest.mark.quick

START = datetime(2026, 1, 1, 9, tzinfo=UTC)


@pytest.fixture
def store(home):
    return cards.Store()


# ------------------------------------------------------------------------------ scheduling


def test_scheduling_equals_what_fsrs_gives(store):
    rng, scheduler = random.Random(0), fsrs.Scheduler(enable_fuzzing=False)
    wanted, at = {}, START
    for _ in range(400):
        at += timedelta(hours=rng.expovariate(1 / 20))
        key, rating = rng.choice("abcdefgh"), rng.choice((1, 2, 3, 3, 4))
        store.add(key, rating, at)
        wanted[key], _ = scheduler.review_card(wanted.get(key, fsrs.Card(due=at)),
                                               fsrs.Rating(rating), review_datetime=at)
    made = store.due()
    assert made.keys() == wanted.keys()
    for key, card in wanted.items():
        for field in ("due", "stability", "difficulty", "state", "step", "last_review"):
            assert getattr(made[key], field) == getattr(card, field), (key, field)


def test_good_three_times_is_ten_minutes_two_days_and_eleven():
    reviews = [{"card": "a", "rating": 3, "at": START.isoformat()}]
    spans = []
    for _ in range(3):
        due = cards.replay(reviews)["a"].due
        spans.append(due - datetime.fromisoformat(reviews[-1]["at"]))
        reviews.append({"card": "a", "rating": 3, "at": due.isoformat()})
    assert spans == [timedelta(minutes=10), timedelta(days=2), timedelta(days=11)]


def test_due_cards_come_before_new_ones_and_new_ones_are_limited(store):
    first, second, third = (q.id for q in bank.everything()[:3])
    store.add(second, 4, START)
    store.add(third, 1, START)
    later = START + timedelta(days=60)
    session = Session(new=1, store=store, now=lambda: later)
    assert session.queue == [third, second, first]
    session.rate(3)
    assert session.card.key == second
    assert session.rate(4).startswith("easy: back in") and session.card.key == first
    session.rate(4)
    assert session.over and "Nothing more is due" in session.progress()


# ------------------------------------------------------------------- what may go wrong


WRITER = """
import sys
from ftkit.interview import cards
store, start = cards.Store(), int(sys.argv[1])
for i in range(start, start + 100_000):
    store.add(f"card-{i % 50}", 1 + i % 4, n=i)
    print(i, flush=True)   # acknowledged
"""


@pytest.mark.heavy
def test_a_thousand_reviews_with_kills_at_random_points_lose_none(home):
    rng, acknowledged = random.Random(1), []
    start, kills = 0, 0
    while len(acknowledged) < 1000:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(start)], text=True,
                                  stdout=subprocess.PIPE, env=os.environ)
        seen = [int(writer.stdout.readline())]  # started
        time.sleep(rng.uniform(0.005, 0.06))
        writer.send_signal(signal.SIGKILL)
        seen += [int(line) for line in writer.stdout.read().split("\n")[:-1] if line]
        writer.wait()
        acknowledged += seen
        start, kills = max(seen) + 1000, kills + 1
    kept = {review["n"] for review in cards.Store().reviews()}
    assert set(acknowledged) <= kept
    assert kills >= 3


def test_a_write_torn_at_any_byte_costs_only_itself(store, capsys):
    for n in range(3):
        store.add("a", 3, START + timedelta(days=n))
    whole = store.path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last + 1, len(whole) - 1, 17):
        store.path.write_bytes(whole[:cut])
        store.add("b", 4, START + timedelta(days=9))
        kept = store.reviews()
        assert [r["card"] for r in kept] == ["a", "a", "b"]


def test_two_processes_at_once_corrupt_nothing(home):
    code = ("import sys; from ftkit.interview import cards; store = cards.Store()\n"
            "for i in range(150):\n"
            "    store.add(sys.argv[1], 3, n=i)\n"
            "    i % 40 or store.reviews()")
    both = [subprocess.Popen([sys.executable, "-c", code, name], stderr=subprocess.PIPE)
            for name in ("left", "right")]
    assert [one.communicate()[1] for one in both] == [b"", b""]
    kept = cards.Store().reviews()
    for name in ("left", "right"):
        assert [r["n"] for r in kept if r["card"] == name] == list(range(150))


@pytest.mark.parametrize("damage", [b"\x00" * 300, b'{"id": 1', b"[]\n", b"\xff\xfe\n",
                                    b'{"id":"x","at":"yesterday","card":"a","rating":3}\n',
                                    b'{"id":"x","at":"2026-01-01T00:00:00","card":"a","rating":3}',
                                    b'{"id":"x","at":"9999-12-31T23:59:59+00:00","card":"a",'
                                    b'"rating":3}'])
def test_damage_is_reported_once_and_left_alone_and_the_rest_counts(store, capsys, damage):
    store.add("a", 3, START)
    good = store.path.read_bytes()
    store.path.write_bytes(damage + b"\n" + good + damage)
    damaged = store.path.read_bytes()
    assert [r["card"] for r in store.reviews()] == ["a"]
    told = capsys.readouterr().err
    assert "could not be read" in told and str(store.path) in told
    assert store.path.read_bytes() == damaged
    store.add("b", 3, START + timedelta(days=1))
    assert [r["card"] for r in store.reviews()] == ["a", "b"]
    assert store.reviews() and capsys.readouterr().err == ""  # told once


def test_a_rating_that_is_not_one_is_reported(store):
    for bad in (0, 5, True, "3"):
        with pytest.raises(ValueError, match="expected 1 again, 2 hard, 3 good or 4 easy"):
            store.add("a", bad)
    assert not store.path.exists()


# ------------------------------------------------------------------- misses and export


def test_misses_of_the_lessons_become_cards(home):
    progress_log.add("check", name="lora_params", state="wrong", message="r=8: 3; expected 65,536")
    progress_log.add("check", name="fine", state="solved", message="solved")
    progress_log.add(
        "score", question="What does 10x do?", guess="rises", actual="falls", right=False
    )
    progress_log.add("score", question="And this?", guess="a", actual="a", right=True)
    progress_log.add("check", name="later", state="wrong", message="no")
    progress_log.add("check", name="later", state="solved", message="solved")
    progress_log.add("bug", case=7, guess="pad_is_eos", right=False)
    made = {flash.key: flash for flash in cards.misses()}
    assert set(made) == {"exercise:lora_params", "bug:7"} | {
        key for key in made if key.startswith("prediction:")}
    assert len(made) == 3
    assert "expected 65,536" in made["exercise:lora_params"].back
    assert cards.deck()[0].topic == "your misses" == cards.deck(topic="your misses")[0].topic
    session = Session()
    assert session.kind == "recall"
    with pytest.raises(ValueError, match="rate yourself"):
        session.answer("3")


def test_a_wrong_answer_in_the_drill_makes_no_second_card(home):
    session = Session()
    while session.kind != "number":
        session.rate(4)
    session.answer("1")
    assert cards.misses() == []


def test_export_to_anki_and_json(store, tmp_path):
    key = bank.everything()[0].id
    store.add(key, 3, START)
    progress_log.add("check", name="x", state="wrong", message="<img src=x onerror=alert(1)>, a")
    n = cards.export(tmp_path / "cards.csv")
    lines = (tmp_path / "cards.csv").read_text("utf-8").splitlines()
    assert lines[:3] == ["#separator:Comma", "#html:true", "#tags column:3"]
    rows = list(csv.reader(lines[3:]))
    assert len(rows) == n == len(bank.everything()) + 1 and all(len(row) == 3 for row in rows)
    assert rows[0][1].startswith("&lt;img")
    back = dict(row[:2] for row in rows)[bank.find("states-7b").question]
    assert all(f["question"] in back for f in bank.find("states-7b").follow_ups)
    cards.export(tmp_path / "cards.json")
    saved = json.loads((tmp_path / "cards.json").read_text("utf-8"))
    assert len(saved["cards"]) == n and saved["reviews"][0]["card"] == key
    with pytest.raises(ValueError, match="ends in .csv or .json"):
        cards.export(tmp_path / "cards.apkg")


# ---------------------------------------------------------------------- typed numbers


@pytest.mark.parametrize("text, right, unit, ok", [
    ("107.8", 107.8, "GB", True), ("107.8 GB", 107.8, "GB", True), ("100.4 GiB", 107.8, "GB", True),
    ("0.1078 TB", 107.8, "GB", True), ("107.8 GiB", 107.8, "GB", False), ("54", 107.8, "GB", False),
    ("4,194,304", 4194304, "parameters", True), ("4.19 million", 4194304, "parameters", True),
    ("4.2e6", 4194304, "parameters", True), ("75 %", 75, "%", True), ("75 percent", 75, "%", True),
    ("~0.693", 0.693, "nats", True), ("-0.693", 0.693, "nats", False),
    ("1 221", 1221, "steps", True), ("1221 steps", 1221, "steps", True), ("2 x", 2.0, "x", True),
    ("9 h", 9.0, "hours", True), ("2", 2.0, "", True), ("3/11", 27.3, "%", True),
    ("11 / 12", 0.917, "", True), ("3/11", 0.273, "", True), ("1/2 GB", 0.5, "GB", True),
    ("about 108 GB", 107.8, "GB", True), ("6.74*16", 107.8, "GB", True),
    ("ln 32000", 10.37, "", True),
    ("6.74 x 16 gigabytes", 107.8, "GB", True), ("0.9^8", 43, "%", True), ("0.43", 43, "%", False),
    ("16*7", 107.8, "GB", False), ("8*8192*64", 4194304, "parameters", True),
    ("±13", 12.7, "points", True), ("13 %", 12.7, "points", True), ("100 Elo", 100, "points", True),
    ("p=0.18", 0.18, "", True), ("9 GPU-hours", 9, "hours", True), ("e^2", 7.39, "", True),
    ("roughly sqrt(2)", 1.41, "", True), ("-(2)", -2, "", True), ("2**0.5", 1.41, "", True),
])
def test_typed_numbers_are_judged_with_their_units(text, right, unit, ok):
    assert number_answer.judge(text, right, unit, 0.03)[0] is ok


@pytest.mark.parametrize("text, words", [
    ("1,4", "write 1.4 with a point"), ("100,4", "write 100.4 with a point"),
    ("10**10**10", "is not a number"), ("(-8)^0.5", "is not a number"), ("2+", "is not a number"),
    ("__import__('os')", "is not a number"), ("(" * 150 + "1", "is not a number")])
def test_what_cannot_be_read_as_one_number_is_told(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        number_answer.judge(text, 1.4)


def test_for_a_wrong_number_the_reason_is_given_where_it_can_be_seen():
    assert "you mixed GB and GiB" in number_answer.judge("107.8 GiB", 107.8, "GB")[1]
    assert "twice" in number_answer.judge("215.6", 107.8, "GB")[1]
    assert number_answer.judge("1", 0.0622, "%")[1] == "you typed 1; the answer is 0.0622 %"
    for text, words in (("many", "is not a number; expected one like 4,194,304, 6.74.16"),
                        ("3 apples", "the unit is 'apples'"), ("3/0", "divides by 0")):
        with pytest.raises(ValueError, match=words):
            number_answer.judge(text, 3, "GB")


def test_every_number_card_accepts_its_own_number_and_one_within_its_tolerance():
    for question in bank.everything():
        if asked := question.number:
            for factor in (1, 1 - 0.9 * asked["within"], 1 + 0.9 * asked["within"]):
                text = f"{asked['answer'] * factor:.12g} {asked['unit']}"
                assert number_answer.judge(text, asked["answer"], asked["unit"],
                                           asked["within"])[0], text


def test_no_given_number_has_zeros_to_count():
    for question in bank.everything():
        if question.number:
            assert "000,000" not in number_answer.givens(question.number), question.id
    flops = {"givens": {"peak_flops": 312_000_000_000_000, "parameters": 6_738_415_616, "gpus": 8}}
    assert number_answer.givens(flops) == (
        "peak flops = 312 trillion, parameters = 6.738415616 billion, gpus = 8")


def test_a_percentage_is_a_plain_number():
    assert number_answer.judge("18 %", 0.18)[0] and not number_answer.judge("18", 0.18)[0]


@pytest.mark.parametrize("kind, typed, suggested", [
    ("recall", "", 1), ("recall", "x", 1), ("recall", "foo bar", 1), ("number", "", 1)])
def test_a_card_that_was_not_answered_suggests_again(home, kind, typed, suggested):
    session = Session(new=500)
    while session.kind != kind:
        session.rate(4)
    if kind == "recall" and typed:
        session.recall(typed, 0.99)
    assert session.suggested() == suggested
    assert session.card.solution(session.own)[0] == (
        f"Your answer: {typed}" if typed else f"In short: {session.question.short}")


def test_nonsense_is_never_suggested_as_good_and_every_tick_of_it_is_challenged():
    for question in bank.everything():
        heard = Heard(rubrics.points(question), "foo bar and so on and so forth")
        assert not heard.said, question.id
        heard.tick(range(len(heard.points)))
        assert heard.challenged() == list(range(len(heard.points))), question.id
        heard.defend(1, "because I say so")
        assert 0 in heard.said and 1 not in heard.said


def test_points_are_heard_in_the_model_answer_and_not_in_that_of_another_card():
    everything = bank.everything()
    own, other, total = 0, 0, 0
    for question, another in zip(everything, everything[97:] + everything[:97], strict=True):
        points = rubrics.points(question)
        own += len(Heard(points, f"{question.short} {question.answer}").said)
        other += len(Heard(points, another.answer).said)
        total += len(points)
    assert own >= 0.8 * total and other <= 0.12 * total


def test_misconceptions_of_a_card_are_found_in_what_was_typed_and_rarely_in_a_right_answer():
    wrong = [(q, w["answer"]) for q in bank.everything() for w in q.wrong]
    found = [any(text in said for said in misconceptions(q, f"Well. {text}")) for q, text in wrong]
    false = [bool(misconceptions(q, q.short)) for q in bank.everything()]
    assert sum(found) >= 0.97 * len(found) and sum(false) <= 0.02 * len(false)


def test_undo_takes_back_what_a_rating_told_the_calibration(home):
    session = Session(topic="basics", new=500)
    while session.kind != "recall":
        session.rate(4)
    session.recall(rubrics.points(session.question)[0].text, 0.9)
    session.heard.tick(range(len(session.heard.points)))
    session.rate(3)
    assert [row["right"] for row in predictions.calibration_rows()] == [1.0]
    session.undo()
    assert predictions.calibration_rows() == []
    session.recall("foo bar", 0.9)
    session.rate(3)
    assert [row["right"] for row in predictions.calibration_rows()] == [0.0]


def test_each_step_of_a_back_fits_on_a_screen_of_80_by_24(home):
    for card in cards.deck():
        points = [f"  1  [1] {p.text}" for p in rubrics.points(card.question)]
        first, *more = card.steps("an answer of some words")
        for step in ([*first, *points], *more):
            height = sum(len(textwrap.wrap(line, 77)) for line in step)
            assert height <= 23, (card.key, height, step)


def test_lessons_take_turns_so_that_no_part_of_the_course_fills_the_deck(home):
    deck = [card.question for card in cards.deck()]
    assert [one.id for one in deck[:7]] == [one.id for one in bank.everything()[:7]]  # the user's
    lessons = list(paths.steps().values())
    weight = sum(step.minutes for step in lessons if step.lesson.startswith("20")) / sum(
        step.minutes for step in lessons if step.lesson != "tour")
    for first in (50, 100, 150, 200):  # of all 347 cards, 41 % belong to lessons 20a to 20d
        part = sum(one.lesson.startswith("20") for one in deck[:first]) / first
        assert 0.8 * weight <= part <= 1.2 * weight, (first, part, weight)


def test_a_choice_has_one_right_answer_among_its_own_wrong_ones(home):
    session = Session(topic="debugging,LoRA", new=500)
    while session.kind != "choice":
        session.rate(4)
    choice = session.card.question.choice
    assert len(session.options) == len(set(session.options)) == 4
    assert session.options[session.correct] == choice["right"]
    wrong = choice["wrong"][0]
    right, said = session.answer(session.options.index(wrong["answer"]) + 1)
    assert not right and wrong["why"] in said and session.suggested() == 1
    assert session.card.solution(session.own)[0] == f"Your answer: {wrong['answer']}"
    with pytest.raises(ValueError, match="expected 1 to 4"):
        session.answer("5")
