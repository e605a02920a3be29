"""What is heard in an answer: paraphrases, what is off the topic, copied words."""

import json
from pathlib import Path

import pytest

from ftkit.interview import agreement, bank, rubrics
from ftkit.interview.listening import Heard, astray, other_case

pytestmark = pytest.mark.quick
OWN_CASES = [json.loads(line) for line in Path(__file__).with_name(
    "own_cases.jsonl").read_text("utf-8").splitlines()]
DENIALS = [json.loads(line) for line in Path(__file__).with_name(
    "denials.jsonl").read_text("utf-8").splitlines()]
PARAPHRASES = [json.loads(line) for line in Path(__file__).with_name(
    "paraphrases.jsonl").read_text("utf-8").splitlines()]


def heard(card, text):
    question = bank.find(card)
    return Heard(rubrics.points(question), text, question.question,
                 f"{question.short} {question.answer}")


def challenged(card, text):
    """Fraction of all points of a card that are challenged after this text."""
    found = heard(card, text)
    found.tick(range(len(found.points)))
    return len(found.challenged()) / len(found.points)


def test_right_points_in_own_words_are_accepted():
    """The first 66 were written before the synonyms, the other 40 after the first ones."""
    assert len({line["card"] for line in PARAPHRASES}) >= 50 and len(PARAPHRASES) >= 100
    accepted, suggested = [], []
    for line in PARAPHRASES:
        found, index = heard(line["card"], line["said"]), line["point"] - 1
        suggested.append(index in found.said)
        found.tick({index})
        accepted.append(not found.challenged())
    for part in (slice(66), slice(66, None)):
        assert sum(accepted[part]) >= 0.9 * len(accepted[part])
    assert sum(suggested) >= 0.65 * len(suggested)


@pytest.mark.parametrize("card, point, text", [
    ("prevent-forgetting", 1, "mix old data back in"), ("states-7b", 1, "16 bytes"),
    ("states-7b", 3, "about 108 GB"),
    ("full-or-peft", 1, "start with LoRA everywhere, with its own lr"),
    ("disagree-on-tuning", 3, "a cheaper option is tried first")])
def test_points_that_a_candidate_was_not_credited_with_are_suggested(card, point, text):
    assert point - 1 in heard(card, text).said


def test_sentences_on_another_topic_are_challenged():
    shares = []
    for i, question in enumerate(bank.everything()):
        line = PARAPHRASES[(37 * i) % len(PARAPHRASES)]
        if bank.find(line["card"]).topic != question.topic:
            shares.append(challenged(question.id, line["said"]))
    assert len(shares) > 250 and sum(shares) / len(shares) >= 0.9


def test_a_whole_answer_to_another_question_is_challenged():
    every = bank.everything()
    shares = [challenged(question.id, every[(i + 101) % len(every)].answer)
              for i, question in enumerate(every)]
    assert sum(shares) / len(shares) >= 0.8


def test_no_right_answer_is_taken_for_one_to_another_question():
    """Model answers, and the labeled right and partly right ones."""
    own = [(question.question, text) for question in bank.everything()
           for text in (question.answer, question.short)]
    own += [(bank.find(one.card).question, one.answer) for one in agreement.labeled()
            if one.kind in ("right", "partly")]
    assert not [question for question, text in own if astray(text, question)]


def test_a_denied_point_is_not_heard_and_is_challenged_with_the_denial():
    """The first 40 were written before the patterns, which were then chosen on them; the others
    afterwards."""
    assert len(DENIALS) >= 50
    for part, least in ((slice(40), 0.9), (slice(40, None), 0.8)):
        caught = 0
        for line in DENIALS[part]:
            found, index = heard(line["card"], line["said"]), line["point"] - 1
            suggested = index in found.said
            found.tick({index})
            caught += not suggested and found.challenged() == [index]
        assert caught >= least * len(DENIALS[part])
    found = heard("dpo-start", "The loss at step 0 is not 0.693. Beta says how far it may move.")
    assert found.said == {2}
    assert found.challenge(1).startswith("“The loss at step 0 is not 0.693.” seems to deny 2")
    assert "these words deny it" in found.defend(1, "The loss at step 0 is not 0.693")
    assert found.defend(1, "it starts at 0.693") == "2 counts."


def test_right_answers_with_a_negation_are_seldom_taken_for_denials():
    paraphrased = [line for line in PARAPHRASES
                   if line["point"] - 1 in heard(line["card"], line["said"]).denied]
    assert len(paraphrased) <= 0.03 * len(PARAPHRASES)
    labeled = [(one.card, i) for one in agreement.labeled() if one.kind in ("right", "partly")
               for i in heard(one.card, one.answer).denied if one.verdicts[i] == "said"]
    assert len(labeled) <= 2
    assert not [q.id for q in bank.everything() if heard(q.id, q.answer).denied]


@pytest.mark.parametrize("round", ["design", "story"])
def test_an_answer_to_another_case_earns_no_point(round):
    cases = list(bank.prepared(round).values())
    for case in cases:
        points = tuple(rubrics.Point(*point) for point in case["points"])
        for other in cases:
            text = "\n".join(other["model"][: len(other["model"]) // 2 + 1])
            found = Heard(points, text, case["prompt"], "\n".join(case["model"]))
            assert found.other == ("" if other is case else other["prompt"])
            if other is not case:
                assert not found.said
                found.tick(range(len(points)))
                assert len(found.challenged()) == len(points)


def test_own_stories_and_short_designs_are_not_taken_for_other_cases():
    for line in OWN_CASES:
        case = bank.prepared(line["round"])[line["id"]]
        assert not other_case(line["said"], case["prompt"]), line["id"]


@pytest.mark.parametrize("text", ["foo bar", "I do not know", "ask me something else please",
                                  "The weather in Paris is nice in May", "yes", "hire me"])
def test_nonsense_is_challenged_at_each_card(text):
    shares = [challenged(question.id, text) for question in bank.everything()]
    assert sum(shares) / len(shares) >= 0.97


def test_wrong_answers_of_the_labeled_set_are_seldom_suggested():
    wrong = [one for one in agreement.labeled() if one.kind == "wrong"]
    right = [one for one in agreement.labeled() if one.kind == "right"]
    def share(answers):
        return sum(len(heard(one.card, one.answer).said) for one in answers) / sum(
            len(one.verdicts) for one in answers)
    assert share(wrong) <= 0.15 and share(right) >= 0.95


def test_the_question_repeated_is_no_answer():
    every = bank.everything()
    shares = [challenged(question.id, question.question) for question in every]
    points = sum(len(rubrics.points(question)) for question in every)
    suggested = sum(len(heard(question.id, question.question).said) for question in every)
    assert sum(shares) / len(shares) >= 0.65 and suggested <= 0.08 * points


def test_a_defense_says_what_becomes_of_the_point():
    found = heard("states-7b", "foo bar")
    found.tick({0, 1, 3})
    assert found.defend(0, "two for weights, and so on: 16 bytes") == "1 counts."
    assert "the words of the rubric" in found.defend(1, found.points[1].text)
    assert "little to do with" in found.defend(3, "because I say so")
    assert "nothing was typed" in found.defend(3, "")
    assert found.said == {0}
    found.insist(3)
    assert found.said == {0, 3} and found.challenged() == [3]
