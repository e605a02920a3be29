"""Blind judging: who is where is drawn, votes are kept, and position alone wins nothing."""

import html
import json

import pytest

from ftkit.evaluate import pairwise as module
from ftkit.evaluate.pairwise import judge

pytestmark = pytest.mark.quick

QUESTIONS = [f"question {i} <img src=x onerror=alert(1)>" for i in range(40)]
ANSWERS = {"base": [f"b{i}" for i in range(40)], "tuned": [f"t{i}" for i in range(40)]}


def test_a_judge_who_always_takes_the_left_gives_no_model_an_advantage():
    shares = []
    for seed in range(40):
        votes = judge(QUESTIONS, ANSWERS, seed=seed)
        while votes.at is not None:
            votes.vote("left")
        shares.append(votes.win_rate("tuned"))
    assert abs(sum(shares) / len(shares) - 0.5) < 0.04
    assert min(shares) < 0.5 < max(shares)


def test_a_vote_counts_for_the_model_that_stood_there():
    votes = judge(QUESTIONS, ANSWERS, seed=1)
    while (item := votes.at) is not None:
        votes.vote("left" if votes.sides(item)[0] == "tuned" else "right")
    assert votes.win_rate("tuned") == 1.0 and votes.win_rate("base") == 0.0
    assert "excludes a coin toss" in votes.summary()


def test_votes_are_in_the_file_at_once_and_are_taken_up_again(tmp_path):
    path = tmp_path / "votes.jsonl"
    votes = judge(QUESTIONS, ANSWERS, file=path)
    for choice in ("left", "tie", "right"):
        votes.vote(choice)
    with open(path, "a") as file:
        file.write('{"judge": "me", "item": 3\n[]\n{"judge": "me", "item": 99, "won": "tie"}\n')
    again = judge(QUESTIONS, ANSWERS, file=path)
    assert again.results == votes.results and len(again.results) == 3
    assert judge(QUESTIONS, ANSWERS, file=path, judge="you").results == {}
    assert json.loads(path.read_text().splitlines()[1])["won"] == "tie"


def test_a_file_that_cannot_be_written_loses_no_vote(tmp_path):
    votes = judge(QUESTIONS, ANSWERS, file=tmp_path / "no" / "votes.jsonl")
    votes.vote("tie")
    assert len(votes.results) == 1 and "could not be saved" in votes.warning


def test_every_button_of_the_panel_votes_and_shows_the_next_pair():
    votes = judge(QUESTIONS, ANSWERS, seed=3)
    question, columns, (tie, undo), status = (
        child if i != 2 else child.children for i, child in enumerate(votes.panel().children))
    (left, left_wins), (right, right_wins) = (column.children for column in columns.children)
    assert undo.disabled
    for choice, button in zip(module.CHOICES, (left_wins, tie, right_wins), strict=True):
        item = votes.at
        texts = [QUESTIONS[item], *(votes.answers[name][item] for name in votes.sides(item))]
        for box, text in zip((question, left, right), texts, strict=True):
            assert f">{html.escape(text)}</div>" in box.value
        button.click()
        names = votes.sides(item)
        assert votes.results[item] == {"left": names[0], "right": names[1], "tie": "tie"}[choice]
    assert ">3 of 40 judged" in status.value
    undo.click()
    assert ">2 of 40 judged" in status.value and votes.at == item
    while votes.at is not None:
        tie.click()
    assert tie.disabled and left_wins.disabled and not undo.disabled
    assert "tuned won" in status.value


def test_an_empty_answer_is_shown_as_such_under_its_name():
    panel = judge(["Why?"], {"base": [""], "tuned": ["So."]}).panel()
    texts = [box.value for column in panel.children[1].children for box in column.children[:1]]
    assert all("Answer on the" in text for text in texts)
    assert sum("(empty)" in text for text in texts) == 1


def test_an_undone_vote_stays_undone_after_a_restart(tmp_path):
    votes = judge(QUESTIONS, ANSWERS, file=tmp_path / "votes.jsonl")
    first = votes.at
    votes.vote("left")
    second = votes.at
    votes.vote("right")
    votes.undo()
    assert votes.at == second
    again = judge(QUESTIONS, ANSWERS, file=tmp_path / "votes.jsonl")
    assert list(again.results) == [first] and again.at == second
    again.undo()
    with pytest.raises(ValueError, match="no vote to undo"):
        again.undo()


def test_lists_that_do_not_match_are_reported():
    with pytest.raises(ValueError, match="'tuned' has 1 answers to 40 questions"):
        judge(QUESTIONS, ANSWERS | {"tuned": ["x"]})
    with pytest.raises(ValueError, match="expected two"):
        judge(QUESTIONS, {"one": ANSWERS["base"]})
    with pytest.raises(ValueError, match="left, tie or right"):
        judge(QUESTIONS, ANSWERS).vote("both")
