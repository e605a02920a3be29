"""The bank of questions: complete, in its form, and its numbers are the ones that are proved."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from helpers import ROOT

from ftkit.interview import bank
from ftkit.interview.proofs import core

pytestmark = pytest.mark.quick

ENTRIES = [json.loads(line)
           for line in Path(bank.__file__).with_name("bank.jsonl").read_text("utf-8").splitlines()]
OPTIONAL = {"measured_here", "number", "choice"}
SEVEN = ("full-or-peft", "lower-rate", "tuning-or-pretraining", "prevent-forgetting",
         "memory-bottleneck", "overfitting-signs", "lora-helps")


def problems(entry: dict) -> list[str]:
    """What is wrong with one line of the bank."""
    fields = {f.name for f in dataclasses.fields(bank.Question)}
    if not fields - OPTIONAL <= set(entry) <= fields:
        return [f"fields are {sorted(entry)}, expected {sorted(fields)}"]
    words = len(entry["answer"].split())
    rules = {
        "a text is empty": all(isinstance(entry[name], str) and entry[name].strip()
                               for name in ("id", "topic", "question", "answer", "short")),
        f"level is {entry['level']!r}": entry["level"] in bank.LEVELS,
        f"lesson is {entry['lesson']!r}": re.fullmatch(r"\d\d[a-d]?", entry["lesson"]),
        f"the answer has {words} words, expected 60 to 160": 60 <= words <= 160,
        "asks for a number and a choice": not {"number", "choice"} <= set(entry),
        "expected two follow-ups, two wrong answers and a source": (
            min(len(entry["follow_ups"]), len(entry["wrong"])) >= 2 and entry["sources"]),
        "a wrong answer needs its reason": all(
            set(wrong) == {"answer", "why"} for wrong in entry["wrong"]),
        "a follow-up needs its answer": all(
            set(follow) == {"question", "answer"} for follow in entry["follow_ups"]),
        "neither a proof nor a rubric of three points": (
            entry["proofs"] or len(entry["rubric"]) >= 3),
    }
    return [rule for rule, kept in rules.items() if not kept] + [
        f"{claim['proof']}: {claim}" for claim in entry["proofs"] if not is_a_claim(claim)]


def is_a_claim(claim) -> bool:
    if claim["op"] == "==":
        # Wider, and a number changed by a tenth could still pass.
        return claim["number"] != 0 and 0 < claim["within"] <= 0.045
    low, high = claim["ratio"]  # between positive sides below 1, between negative ones above
    return claim["op"] in ("<", ">") and "number" not in claim and 0 <= low < high and (
        high <= 0.95 or low > 2)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_each_question_is_in_its_form(entry):
    assert problems(entry) == []


def test_there_are_at_least_340_questions_with_ids_of_their_own():
    assert len(ENTRIES) >= 340
    assert len({e["id"] for e in ENTRIES}) == len({e["question"] for e in ENTRIES}) == len(ENTRIES)
    assert {e["level"] for e in ENTRIES} == set(bank.LEVELS)
    assert sum(bool(e["proofs"]) for e in ENTRIES) >= 195


def test_at_least_sixty_questions_on_rl_and_distillation_have_a_proof():
    topics = {"RLHF", "RL with verifiable rewards", "rollouts"}
    assert sum(bool(e["proofs"]) for e in ENTRIES
               if e["topic"] in topics or "distill" in e["id"]) >= 60


def test_the_seven_questions_of_the_design_come_first_with_conditions_and_proofs():
    first = bank.everything()[:7]
    assert tuple(q.id for q in first) == SEVEN
    for question in first:
        assert len(question.proofs) >= 2, question.id
        assert re.search(r"\b(if|when|until|usually|may|on condition|provided|with)\b",
                         question.answer), question.id


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_a_number_that_is_proved_stands_in_the_text(entry):
    """Else a card would teach one number and prove another; a ratio of 1 and 100 % may be written
    as words (the same, all)."""
    text = " ".join([entry["question"], entry["answer"], entry["short"],
                     entry.get("measured_here", "")])
    said = [float(n.replace(",", "").rstrip(".")) for n in re.findall(r"\d[\d,]*\.?\d*(?:e-?\d+)?",
                                                                      text)]
    words = {"half": 50, "third": 33.3, "half of it": 50}
    said += [number for word, number in words.items() if word in text]
    for claim in entry["proofs"]:
        if "number" in claim and claim["number"] not in (1.0, 100):
            near = [n for n in said if abs(n - claim["number"]) <= 0.011 * abs(claim["number"])]
            assert near, f"{claim['number']} is not in: {text}"


@pytest.mark.heavy  # proofs import torch
def test_every_proof_of_the_bank_exists_and_none_is_left_over():
    named = {claim["proof"] for e in ENTRIES for claim in e["proofs"]}
    assert named == set(core.load())


def test_lessons_that_are_named_exist():
    folder = ROOT / "notebooks" / "src"
    lessons = {path.name.partition("_")[0] for path in folder.glob("[0-9]*.py")}
    assert {e["lesson"] for e in ENTRIES} <= lessons


def test_questions_are_chosen_by_level_and_topic():
    chosen = bank.questions(level="mid, senior", topic=["lora"])
    assert chosen and {q.level for q in chosen} == {"mid", "senior"}
    assert {q.topic for q in chosen} == {"LoRA"}
    with pytest.raises(ValueError, match="topic is 'Lora2'; expected one of .*LoRA"):
        bank.questions(topic="Lora2")
    with pytest.raises(ValueError, match="level is 'boss'; expected one of junior, mid"):
        bank.questions(level="boss")
    with pytest.raises(ValueError, match="did you mean .*count-qv"):
        bank.find("count-vq")


def test_the_check_of_the_form_sees_each_fault():
    broken = ENTRIES[0] | {"level": "boss", "answer": "Yes.", "wrong": [], "proofs": [
        {"proof": "x", "op": "==", "number": 0, "within": 0.2, "says": "", "unit": ""}]}
    found = " | ".join(problems(broken))
    for word in ("level is 'boss'", "1 words", "two follow-ups", "'within': 0.2"):
        assert word in found
