"""The content of the bank: what public lists ask, how cards ask, and what texts may not say."""

import json
import math
import re
from pathlib import Path

import pytest

from ftkit.interview import bank, cards, number_answer
from ftkit.interview.session import Session

pytestmark = pytest.mark.quick

QUESTIONS = bank.everything()
LISTS = [json.loads(line)
         for line in Path(__file__).with_name("lists.jsonl").read_text("utf-8").splitlines()]
NAMES = sorted({entry["list"] for entry in LISTS})
MATH = {name: getattr(math, name) for name in ("ceil", "comb", "exp", "log", "log10", "sqrt")}


# ------------------------------------------------------------------------ public lists


@pytest.mark.parametrize("name", NAMES)
def test_the_bank_answers_what_a_public_list_asks(name):
    asked = [entry for entry in LISTS if entry["list"] == name]
    ids = {question.id for question in QUESTIONS}
    assert {card for entry in asked for card in entry["cards"]} <= ids
    assert sum(bool(entry["cards"]) for entry in asked) >= 0.95 * len(asked)


def test_the_eight_lists_are_written_down_with_their_sources():
    assert len(NAMES) == 8 and len(LISTS) >= 260
    assert all(entry["source"] and entry["question"] for entry in LISTS)


# ------------------------------------------------------------------------- number cards


def test_few_cards_ask_for_a_number():
    assert 25 <= sum(question.kind == "number" for question in QUESTIONS) <= 45


@pytest.mark.parametrize("id, typed", [
    ("nf4-bytes", "4"), ("nf4-bytes", "4.25"), ("nf4-bytes", "4.5"), ("warmup-share", "1219"),
    ("warmup-share", "1218"), ("corpus-perplexity", "7.39"), ("corpus-perplexity", "e^2"),
    ("gb-gib", "107.8"), ("gb-gib", "105.2"), ("states-7b", "100.4"), ("kv-cache", "2.0"),
    ("count-gqa", "4,194,304"), ("grpo-advantage", "1.73"), ("paired", "0.09"),
    ("pass-at-k", "1-0.7^5"), ("logits-memory", "7.83")])
def test_a_misconception_is_not_accepted_as_the_number(id, typed):
    asked = bank.find(id).number
    assert not number_answer.judge(typed, asked["answer"], asked["unit"], asked["within"])[0]


def test_what_a_number_card_tests_is_shown_with_the_answer_only(home):
    """Bytes of a state, the factor of an interval: known by whoever passes."""
    hidden = [q for q in QUESTIONS if q.number and q.number.get("known")]
    assert len(hidden) >= 14
    for question in hidden:
        for name in question.number["known"]:
            assert f"{name.replace('_', ' ')} = " not in number_answer.givens(question.number)
            assert f"{name.replace('_', ' ')} = " in number_answer.formula(question.number)


@pytest.mark.parametrize("question", [q for q in QUESTIONS if q.number], ids=lambda q: q.id)
def test_the_number_follows_from_what_the_card_gives(question):
    asked = question.number
    computed = eval(asked["formula"], {"__builtins__": {"range": range, "sum": sum},
                                       **MATH, **asked["givens"], **asked.get("known", {})})
    assert computed == pytest.approx(asked["answer"], rel=max(asked["within"] / 2, 1e-3))
    assert 0 < asked["within"] <= 0.05
    text = f"{question.answer} {question.short}".replace(",", "")
    said = [float(n) for n in re.findall(r"\d+(?:\.\d+)?", text)]
    assert any(abs(n - asked["answer"]) <= 0.03 * abs(asked["answer"]) for n in said)


def test_a_number_card_shows_everything_that_is_given(home):
    session = Session(topic="memory", new=500)
    while session.kind != "number":
        session.rate(4)
    prompt = session.number_prompt().replace(",", "")
    size = {"": 1, "million": 1e6, "billion": 1e9, "trillion": 1e12}
    read = [float(n) * size[word] for n, word in re.findall(
        r" = (\d+(?:\.\d+)?) ?(million|billion|trillion|)", prompt)]
    assert read == pytest.approx(list(session.number["givens"].values()), rel=1e-9)


# ------------------------------------------------------------------------- choice cards


def shown(question: bank.Question) -> list[str]:
    """The options of a choice card in the order in which a new session shows them."""
    session = Session.__new__(Session)
    session.deck = {question.id: cards.FlashCard(question.id, question.topic, question.level,
                                                 question.question, question.answer, question)}
    session.queue, session.done = [question.id], 0
    return session._shuffled_options()


FORMS = {
    "longest": len,
    "most words": lambda option: len(option.split()),
    "longest words": lambda option: len(option) / len(option.split()),
    "most digits": lambda option: sum(c.isdigit() for c in option),
    "most clauses": lambda option: len(re.findall(r"[,;:]", option)),
    "shortest": lambda option: -len(option),
}


def success(pick) -> float:
    """Fraction of choice cards that a rule answers right; ties are broken at random."""
    chosen = [question for question in QUESTIONS if question.choice]
    wins = 0.0
    for question in chosen:
        picked = pick(shown(question))
        wins += picked.count(question.choice["right"]) / len(picked)
    return wins / len(chosen)


@pytest.mark.parametrize("form", FORMS)
def test_a_choice_cannot_be_guessed_by_its_form(form):
    value = FORMS[form]
    assert success(lambda options: [o for o in options if value(o) == max(map(value, options))]
                   ) <= 0.35


@pytest.mark.parametrize("position", range(4))
def test_a_choice_cannot_be_guessed_by_its_position(position):
    assert success(lambda options: [options[position]]) <= 0.35


@pytest.mark.parametrize("question", [q for q in QUESTIONS if q.choice], ids=lambda q: q.id)
def test_a_choice_has_three_wrong_options_of_its_own_alike_in_length(question):
    options = [question.choice["right"], *(w["answer"] for w in question.choice["wrong"])]
    assert len(set(options)) == 4 and all(w["why"] for w in question.choice["wrong"])
    assert max(map(len, options)) <= 1.6 * min(map(len, options))


# -------------------------------------------------------------------------------- texts

TOY = re.compile(r"embedded model|\bin our runs\b|\bwe found\b|\btoy\b", re.I)


def texts(question: bank.Question) -> dict[str, str]:
    """What a learner reads of a question, by field."""
    return {"question": question.question, "answer": question.answer, "short": question.short,
            "measured_here": question.measured_here, "rubric": " ".join(question.rubric),
            "follow_ups": json.dumps(question.follow_ups), "wrong": json.dumps(question.wrong),
            "choice": json.dumps(question.choice), "number": json.dumps(question.number)}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_results_of_the_small_model_are_not_in_the_answer(question):
    for field, text in texts(question).items():
        assert field == "measured_here" or not TOY.search(text), field


@pytest.mark.parametrize("id", ["lora-forgets", "choose-strategy"])
def test_lora_and_forgetting_are_stated_alike(id):
    """Biderman et al.: learns less, forgets less; at equal loss it may vanish or reverse."""
    question = bank.find(id)
    text = f"{question.answer} {question.short}"
    assert "learns less and forgets less" in text and "may vanish or reverse" in text
    assert all(word in text for word in ("rank", "learning rate", "distance"))
    for source in ("2405.09673", "LoRA Without Regret"):
        assert any(source in cited for cited in question.sources)
