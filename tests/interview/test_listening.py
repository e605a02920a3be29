"""What is heard in an answer: paraphrases, what is off the topic, copied words."""

import json
from pathlib import Path

import pytest

from ftkit.interview import agreement, bank, rubrics
from ftkit.interview.listening import Heard, astray

pytestmark = pytest.mark.quick
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
