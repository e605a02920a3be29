"""Clarifying questions of a design round, in plain words."""

import json
from collections import Counter
from pathlib import Path

import pytest

from ftkit.interview import bank, clarifying

pytestmark = pytest.mark.quick
ASKED = [json.loads(line) for line in Path(__file__).with_name(
    "clarifying.jsonl").read_text("utf-8").splitlines()]
DESIGNS = bank.prepared("design")


def test_plain_questions_get_the_fact_they_ask_for():
    assert Counter(line["case"] for line in ASKED) == dict.fromkeys(DESIGNS, 15)
    right = Counter()
    for line in ASKED:
        task = DESIGNS[line["case"]]
        found = clarifying.best_fact(line["asked"], task["facts"], task["about"])
        right[line["case"]] += found is not None and task["facts"][found].startswith(
            f"{line['fact']}: ")
    assert all(right[case] >= 13 for case in DESIGNS) and sum(right.values()) >= 0.9 * len(ASKED)


@pytest.mark.parametrize("id", DESIGNS)
def test_each_fact_has_topics_and_what_the_task_says_is_repeated(id):
    task = DESIGNS[id]
    assert len(task["about"]) == len(task["facts"]) >= 10
    topics = {topic for about in task["about"] for topic in about.split()}
    assert topics <= clarifying.known().keys()

    def told(asked):
        return clarifying.answer(asked, task["prompt"], task["facts"], task["about"])

    assert told("xyzzy?") == clarifying.UNKNOWN
