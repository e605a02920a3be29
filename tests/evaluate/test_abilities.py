"""What a real LLM can lose: the files, the scores by log-likelihood, and checks of instructions."""

import collections

import pytest
import torch

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.evaluate import abilities, instructions


@pytest.fixture(scope="module")
def tiny():
    return ft.load("tiny")


def test_there_is_enough_of_everything_and_nothing_twice():
    english, facts, items, told = map(
        abilities.load, ("english", "knowledge", "multiple_choice", "instructions"))
    assert len({row["text"] for row in english}) == len(english) >= 300
    assert len({row["kind"] for row in english}) >= 20
    assert len({row["prompt"] for row in facts}) == len(facts) >= 300
    assert len({(row["question"], *row["choices"]) for row in items}) == len(items) >= 200
    assert len({row["prompt"] for row in told}) == len(told) >= 60


def test_a_part_is_spread_over_the_file():
    kinds = {row["kind"] for row in abilities.load("english", 100)}
    assert len(abilities.load("english", 100)) == 100 and len(kinds) >= 25
    assert abilities.load("knowledge", 10**6) == abilities.load("knowledge")


def test_the_right_choice_is_not_given_away_by_its_position_or_its_length():
    items = abilities.load("multiple_choice")
    places = collections.Counter(item["answer"] for item in items)
    assert all(0.18 <= places[i] / len(items) <= 0.32 for i in range(4))
    assert all(len(set(item["choices"])) == 4 for item in items)
    longest = sum(max(range(4), key=lambda i: len(item["choices"][i])) == item["answer"]
                  for item in items)
    assert longest / len(items) < 0.4


def test_no_demonstration_contains_an_answer():
    shown = abilities.DEMONSTRATION.lower()
    for fact in abilities.load("knowledge"):
        assert fact["prompt"].lower() not in shown
        assert f" {fact['answer'].strip().lower()}." not in shown, fact


@pytest.mark.parametrize("method", ["full", "lora", "prompt_tuning"])
def test_one_demonstration_for_all_facts_equals_one_before_each(tiny, method):
    from ftkit.evaluate import scoring
    from ftkit.model import loading

    tokenizer = tiny[1]
    model = loading.adapt(ft.load("tiny")[0], ft.Config(method=method))
    facts = abilities.load("knowledge", 90)  # more than a batch
    asked = [fact | {"prompt": abilities.DEMONSTRATION + fact["prompt"]} for fact in facts]
    assert abilities.knowledge(model, tokenizer, by="ability", limit=90) == scoring.probe_scores(
        model, tokenizer, asked)


def test_log_likelihoods_equal_those_of_transformers(tiny):
    model, tokenizer = tiny
    texts = [("The capital of Kenya is", " Nairobi"), ("A cow says", " moo moo"), ("One", " two")]
    pairs = [(tokenizer(a, add_special_tokens=False)["input_ids"],
              tokenizer(b, add_special_tokens=False)["input_ids"]) for a, b in texts]
    got = abilities.log_likelihoods(model, pairs, batch_tokens=10)
    for (context, more), score in zip(pairs, got, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([context + more])).logits[0].log_softmax(-1)
        want = sum(logits[len(context) - 1 + i, token].item() for i, token in enumerate(more))
        assert score == pytest.approx(want, abs=1e-4)


def test_each_way_to_score_a_choice(monkeypatch, tiny):
    """The long right choice loses by its sum and wins per byte; the letters are read alone."""
    item = {"question": "?", "choices": ["no", "yes, of course it is"], "answer": 1}
    given = iter([[-4.0, -9.0], [-1.0, -2.0]])
    monkeypatch.setattr(abilities, "log_likelihoods", lambda model, pairs: next(given))
    assert abilities.multiple_choice(*tiny, [item]) == {"acc": 0.0, "acc_norm": 1.0, "letters": 0.0}


FOLLOWED = {  # instruction → (arguments, answers that follow it, answers that do not)
    "length_constraints:number_words": (
        {"num_words": 4, "relation": "less than"}, ["one two three"], ["one two three four"]),
    "length_constraints:number_sentences": (
        {"num_sentences": 2, "relation": "at least"}, ["It rains. We stay.", "Why? No idea"],
        ["It costs 3.50 dollars.", "Yes."]),
    "length_constraints:number_paragraphs": (
        {"num_paragraphs": 2}, ["one\n***\ntwo"], ["one\n\ntwo", "a\n***\nb\n***\nc"]),
    "keywords:existence": ({"keywords": ["snow", "fire"]}, ["Fire melts snow."],
                           ["Snowfall and fire"]),
    "keywords:forbidden_words": ({"forbidden_words": ["cat"]}, ["A category of pets"],
                                 ["The Cat sleeps."]),
    "keywords:frequency": ({"keyword": "tree", "frequency": 2, "relation": "at least"},
                           ["A tree is a tree."], ["A tree and two trees"]),
    "detectable_format:number_bullet_lists": (
        {"num_bullets": 2}, ["* a\n* b", "Two:\n- a\n- b"], ["* a", "**a**\n**b**", "1. a\n2. b"]),
    "detectable_format:json_format": ({}, ['{"a": 1}', '```json\n["a"]\n```'],
                                      ['Here: {"a": 1}', "{a: 1}"]),
    "detectable_format:title": ({}, ["<<The Moon>>\nIt shines."], ["<The Moon>", "<< >>"]),
    "detectable_format:constrained_response": ({}, ["My answer is no."], ["No."]),
    "detectable_content:postscript": ({"postscript_marker": "P.S."}, ["Thanks.\nP.S. Call me."],
                                      ["Thanks. Call me."]),
    "change_case:english_lowercase": ({}, ["all small."], ["Not small."]),
    "change_case:english_capital": ({}, ["LOUD!"], ["Loud!"]),
    "startend:end_checker": ({"end_phrase": "That is all."}, ["It grows. That is all."],
                             ["That is all. It grows."]),
    "startend:quotation": ({}, ['"Snow is cold."'], ['Snow is "cold"', '"']),
    "punctuation:no_comma": ({}, ["No pause here."], ["Well, no."]),
}


@pytest.mark.parametrize("name", instructions.CHECKS)
def test_each_check_separates_an_answer_that_follows_from_one_that_does_not(name):
    arguments, right, wrong = FOLLOWED[name]
    item = {"instruction_id_list": [name], "kwargs": [arguments]}
    for answer in right:
        assert instructions.followed(answer, item) == [True], answer
    for answer in [*wrong, "", "  "]:
        assert instructions.followed(answer, item) == [False], answer


def test_every_shipped_instruction_has_a_check_with_the_right_arguments():
    for item in abilities.load("instructions"):
        assert len(instructions.followed("Something.", item)) == len(item["kwargs"])
    with pytest.raises(UserError, match="no_such"):
        instructions.followed("x", {"instruction_id_list": ["no_such"], "kwargs": [{}]})


@pytest.mark.smollm2
@pytest.mark.slow
def test_smollm2_knows_what_it_is_asked(smollm2_home, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(smollm2_home))
    model, tokenizer = ft.load("smollm2")
    assert abilities.english(model, tokenizer, limit=75) < 3.4  # perplexity 30, on all passages 26
    assert abilities.knowledge(model, tokenizer, limit=86) > 0.6
    accuracy = abilities.multiple_choice(
        model, tokenizer, abilities.load("multiple_choice", 50))
    assert accuracy["acc"] > 0.4 and accuracy["acc_norm"] > 0.4
