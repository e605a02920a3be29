"""The clinic's cases: what is sent does not decide, one reading does, and true findings count."""

import functools
import json
import math
import re
from pathlib import Path

import pytest

from ftkit.interview import (
    cards,
    clinic,
    clinic_cases,
    clinic_round,
    clinic_terminal,
    clinic_widget,
)
from ftkit.interview.clinic_cases import CAUSES
from ftkit.lessons.bugs import pipeline, zoo
from ftkit.lessons.bugs.causes import find, one_diagnosis
from ftkit.notebook import widgets

FAST = ("oom_states", "oom_activations", "oom_logits", "rate_too_high_135m", "lora_rate_too_low",
        "lora_rate_too_high", "batch_without_rate")  # nothing is trained for them
PLAIN = ("sorted_data", "pure_fp16", "resume_without_state", "contaminated", "eval_cut",
         "other_tokenizer", "chosen_falls", "dead_groups", "reward_hacked")
SETTINGS = ("rate_too_high", "rate_too_low", "warmup_too_long", "too_few_steps",
            "trained_too_long", "nothing_replayed", "wrong_labels",
            "optimizer_changed")
BUGS = tuple(zoo.BUGS)


@pytest.fixture(autouse=True)
def nothing_fails(home):
    widgets.failures.clear()
    yield
    assert not widgets.failures


@functools.cache
def visit_of(name):
    """A visit that is only looked at; several tests look at one."""
    return clinic_round.Visit(name, 3)


def numbers(text):
    """The values of a reading such as `0.31 at step 1, 0.02 at step 9`."""
    return [float(value) for value in re.findall(r"(-?[\d.]+(?:e-?\d+)?) at step", text)]


def column(sent, key):
    return [row[key] for row in sent.log if key in row]


def test_there_are_at_least_thirty_causes_in_random_order():
    assert set(CAUSES) == {*FAST, *PLAIN, *SETTINGS, *BUGS} and len(CAUSES) >= 30
    orders = {clinic_cases.order(seed) for seed in range(5)}
    assert len(orders) == 5 and all(set(order) == set(CAUSES) for order in orders)
    for name, cause in CAUSES.items():
        assert cause.title and cause.sign and cause.remedy and 0 <= int(cause.lesson[:2]) <= 22
        assert cause.also.keys() <= CAUSES.keys(), name


# The first of each kind guards the code; the others are claims.
@pytest.mark.parametrize("name", [*FAST, "pure_fp16", "eval_cut", "pad_is_eos",
                                  *(pytest.param(name, marks=pytest.mark.slow)
                                    for name in CAUSES if name not in
                                    (*FAST, "pure_fp16", "eval_cut", "pad_is_eos"))])
def test_what_is_sent_shows_neither_the_name_nor_a_reading(name, monkeypatch):
    if name in BUGS:  # what is sent has the same form after two steps
        monkeypatch.setattr(pipeline, "STEPS", 2)
    elif name != "nothing_replayed":  # which starts from a run of the baseline that is kept
        monkeypatch.setattr(clinic, "BASELINE", clinic.BASELINE | {"max_steps": 4})
    visit = visit_of(name)
    sent, shown = visit.sent, "\n".join(visit.lines())
    assert name not in shown and CAUSES[name].title not in shown
    assert len(sent.records) == 2 and len(sent.answers) == 3 and sent.log and sent.config in shown
    assert len(sent.readings) >= 2
    assert not any(text in shown for text in sent.readings.values())
    assert sent.complaint in shown and sent.made in shown


@pytest.mark.parametrize("name", ["oom_states", "oom_logits", "pure_fp16"])
def test_no_log_is_met_twice(name):
    made = {str(clinic_cases.make(name, seed)) for seed in range(4)}
    assert len(made) >= 3 and str(clinic_cases.make(name, 1)) in made


# ------------------------------------------------------ the reading that decides does decide


@pytest.mark.parametrize("seed", range(12))
def test_out_of_memory_follows_from_the_parts_of_the_config(seed):
    largest = {"oom_states": ("AdamW's moments (8)", 80), "oom_activations": ("activations", 80),
               "oom_logits": ("logits", 24)}
    for name, (part, card) in largest.items():
        sent = clinic_cases.make(name, seed)
        *parts, total = re.findall(r"([^;]*?) ([\d.]+) GB", sent.readings["memory by part"])
        sizes = {key.strip(): float(size) for key, size in parts}
        assert float(total[1]) > card and sizes[part] == max(sizes.values()), sent.readings
        assert "arithmetic" in sent.made and "OutOfMemoryError" in sent.log[0]["event"]


def test_a_recorded_case_says_so_and_the_other_setting_is_better():
    for name in FAST[3:]:
        sent = clinic_cases.make(name, 0)
        other = float(sent.readings["the same task with another setting"].split()[-1])
        assert column(sent, "val_loss")[-1] > other and "SmolLM2" in sent.made
    lost = clinic_cases.make("rate_too_high_135m", 0).readings["facts completed"]
    before, after = map(int, re.findall(r"(\d+)%", lost))
    assert after < before / 2


def percent(text):
    return [int(value) / 100 for value in re.findall(r"(\d+)%", text)]


def shows_sorted_data(sent):
    """Only where the task changes does the loss jump; until then the task is learned."""
    losses = column(sent, "loss")
    last, at = re.findall(r"to (\d+)", sent.readings["task of each batch"]), {
        row["step"]: i for i, row in enumerate(sent.log)}
    first = [at[int(step) + 1] for step in last[:-1]]
    rises = {i: losses[i] - losses[i - 1] for i in range(1, len(losses))}
    jumps = [rises.pop(i) for i in first]
    assert min(jumps) > 0.5 and min(jumps) > max(rises.values())
    assert max(losses[i - 1] for i in (*first, len(losses))) < 4.5


def shows_pure_fp16(sent):
    losses = column(sent, "loss")
    assert math.isfinite(losses[0]) and all(map(math.isnan, losses[1:]))
    assert not sent.readings["weights after step 1"].startswith("0 ")


def shows_resume_without_state(sent):
    """The first step after loading is drawn from the saved weights; the next are worse."""
    losses = column(sent, "loss")
    assert max(losses[:5]) < 1 and max(losses[5:8]) > 2 * max(losses[:5])


def shows_contaminated(sent):
    fresh, = percent(sent.readings["exact match on records written this week"])
    assert sent.log[-1]["benchmark"] >= max(0.75, fresh + 0.3)


def shows_eval_cut(sent):
    whole, = percent(sent.readings["exact match with 24 new tokens"])
    assert sent.log[-1]["exact_match"] < 0.1 and whole > 0.4 and sent.log[-1]["val_loss"] < 1
    assert sent.readings["length of the answers"].endswith("; 0 ended by themselves")


def shows_other_tokenizer(sent):
    guessing = float(sent.readings["loss of guessing"].split()[-1])
    base = float(sent.readings["loss of the base on the same texts, encoded anew"])
    assert base < guessing < column(sent, "loss")[0]


def shows_chosen_falls(sent):
    """By 3 nats at each measurement, while the margin of the records in training rises."""
    began, *chosen = numbers(sent.readings["log-probability of the chosen answers"])
    rejected = numbers(sent.readings["log-probability of the rejected answers"])
    assert max(chosen) < began - 3 and rejected[-1] < rejected[0] - 3
    assert column(sent, "margin")[-1] > 0.5


def shows_dead_groups(sent):
    dead = numbers(sent.readings["groups with equal rewards"])
    assert sum(dead) / len(dead) > 0.9 and max(column(sent, "reward")) < 0.1


def shows_reward_hacked(sent):
    """At first most groups are alive, which is not so in `dead_groups`."""
    rewards = column(sent, "reward")
    assert sum(rewards[-3:]) / 3 > sum(rewards[:2]) / 2 + 0.3
    assert percent(sent.readings["exact match"])[-1] <= 0.1
    assert numbers(sent.readings["groups with equal rewards"])[0] < 0.9


@pytest.mark.parametrize(("name", "seed"), [
    ("pure_fp16", 3), ("eval_cut", 3),
    *(pytest.param(name, seed, marks=pytest.mark.slow) for name in PLAIN for seed in (3, 4, 5)
      if (name, seed) not in (("pure_fp16", 3), ("eval_cut", 3)))])
def test_the_reading_that_decides_shows_the_fault(name, seed):
    sent = visit_of(name).sent if seed == 3 and name != "chosen_falls" else clinic_cases.make(
        name, seed)
    globals()[f"shows_{name}"](sent)


# --------------------------------------------------------------------------- playing it


def test_a_true_finding_is_accepted_as_true_and_a_wrong_one_becomes_a_card():
    visit = clinic_round.Visit("batch_without_rate", 1)
    assert visit.judge("rate_too_low").text.startswith("○ True: for this number of steps")
    assert not visit.over
    assert CAUSES["double_bos"].sign in visit.judge("double_bos").text
    card, = cards.misses()
    assert CAUSES["double_bos"].title in card.back
    assert visit.judge("batch_without_rate") and visit.solved and visit.over
    assert cards.misses() == []


def test_forgetting_is_accepted_as_true_where_the_learning_rate_caused_it():
    visit = clinic_round.Visit("rate_too_high_135m", 1)
    assert visit.judge("catastrophic forgetting").text.startswith("○ True: it forgot")
    assert not visit.solved and visit.judge("a smaller rate").right


def test_guessing_causes_until_one_is_right_costs_points_and_reading_does_not():
    visit = clinic_round.Visit("oom_states", 1)
    visit.ask("1")
    assert "That cost 1 point; 3 of 4 are left." in visit.judge("double_bos").text
    assert "That cost" not in visit.judge("double_bos").text  # the same one again
    assert visit.judge("oom_states").text.endswith("3 of 4 points.") and visit.points == 3
    card, = cards.misses() or [None]
    assert card is None or "point" not in card.back


def test_a_true_finding_costs_nothing_and_who_gives_up_earns_nothing():
    visit = clinic_round.Visit("batch_without_rate", 1)
    assert "cost" not in visit.judge("rate_too_low").text
    assert visit.judge("batch_without_rate") and visit.points == 4
    visit = clinic_round.Visit("batch_without_rate", 1)
    visit.give_up()
    assert visit.points == 0
    visit.judge("batch_without_rate")
    assert visit.points == 0


def test_who_names_causes_at_random_earns_less_than_a_tenth():
    earned = 0
    for start in range(len(CAUSES)):
        visit = clinic_round.Visit("oom_states", 1)
        for name in [*CAUSES, *CAUSES][start : start + 5]:  # no points are left after 4
            if visit.judge(name).right:
                break
        earned += visit.points
    assert 0 < earned < 0.1 * clinic_round.POINTS * len(CAUSES)


def test_a_reading_has_to_be_asked_for_and_giving_up_reveals_the_cause():
    visit = clinic_round.Visit("oom_logits", 1)
    assert "logits" in visit.ask("1") and visit.asked == ["memory by part"]
    assert visit.ask("moment").startswith("moment: ")
    with pytest.raises(ValueError, match="there are 1 memory by part, 2 moment"):
        visit.ask("9")
    told = visit.give_up()
    assert CAUSES["oom_logits"].title in told and "What to do" in told and visit.over
    assert not visit.solved


@pytest.mark.parametrize("text, name", [("pad_is_eos", "pad_is_eos"), ("double bos", "double_bos"),
                                        ("memory by the logits", "oom_logits")])
def test_a_cause_is_found_by_its_name_or_by_words_of_its_title(text, name):
    assert find(text, CAUSES).name == name


PHRASES = [json.loads(line) for line in
           Path(__file__).with_name("phrases.jsonl").read_text("utf-8").splitlines()]


def understood(entry) -> bool:
    """Whether a phrase names its cause, or gets a question with at most four causes back."""
    try:
        return one_diagnosis(find(entry["phrase"], CAUSES).name, entry["cause"])
    except ValueError as error:
        asked = re.findall(r"\((\w+)\)[;.]", str(error))
        return entry["cause"] in asked and len(asked) <= 4


def test_causes_are_understood_in_plain_words():
    """The 23 of a review; 100 written before the phrases of the matcher, and 50 more by the same
    author that were never looked at while it was made (47 were understood then); 71 causes and
    remedies as typed by a candidate (56 were understood then), and 112 typed later in three lists,
    of which 93, 84 and 90 % were understood before their misses were mended."""
    of = {name: [understood(entry) for entry in PHRASES if entry["from"] == name]
          for name in ("review", "written first", "held out", "typed", "typed later")}
    assert [len(results) for results in of.values()] == [23, 100, 50, 71, 112]
    assert all(of["review"])
    assert sum(of["written first"] + of["held out"]) >= 0.95 * 150
    assert sum(of["typed"]) >= 0.95 * 71 and sum(of["typed later"]) >= 0.95 * 112
    assert sum(one_diagnosis(find(e["phrase"], CAUSES).name, e["cause"]) for e in PHRASES
               if named(e["phrase"])) >= 0.85 * len(PHRASES)


def named(text) -> bool:
    """Whether a text names a cause, right or wrong, instead of getting a question back."""
    try:
        return bool(find(text, CAUSES))
    except ValueError:
        return False


@pytest.mark.parametrize("text", [
    "the gpu is haunted", "bananas in the loss", "too much coffee", "the moon was too high",
    "mercury is in retrograde", "forgot my keys", "something with the data", "cosmic rays",
    "something is off with the loss", "the model is stupid", "change the seed", "just restart it",
    "buy a bigger gpu", "wrong", "training", "data", "loss", "model", "tokens are tokens",
    "reward my dog", "lower the volume", "train the interns longer", "high prices", "zero idea",
    "blah blah learning blah", "it needs love", "needs more vibes"])
def test_nonsense_with_words_of_the_field_names_no_cause(text):
    assert not named(text)


@pytest.mark.parametrize("text", [
    "the learning rate is not too high", "it's not overfitting", "no reward hacking here",
    "labels are correct", "the data is shuffled correctly", "the learning rate is fine",
    "it is not the learning rate"])
def test_what_a_candidate_rules_out_is_not_taken_for_a_diagnosis(text):
    with pytest.raises(ValueError, match="rules a cause out"):
        find(text, CAUSES)
    assert find(f"{text}, but prompt tokens are not masked", CAUSES).name == "mask_lost"


@pytest.mark.parametrize("text, name", [
    ("test questions were among the training examples", "contaminated"),
    ("stopped too early", "too_few_steps"), ("the run was stopped too early", "too_few_steps"),
    ("no early stopping", "trained_too_long"), ("it was stopped too late", "trained_too_long"),
    ("it should have been stopped earlier", "trained_too_long")])
def test_phrases_that_differ_by_one_word_name_their_own_cause(text, name):
    assert find(text, CAUSES).name == name


@pytest.mark.parametrize("text, said", [
    ("nothing is broken", "has one fault"), ("no bug", "has one fault"),
    ("the run is fine", "has one fault"), ("no gradient clipping", "no cause here")])
def test_what_no_case_has_gets_a_question_back(text, said):
    cases = clinic_round.Round(fast_round(1))
    visit = cases.visit()
    reply, = cases.reply(text)
    assert said in reply and reply.endswith(("?", ".")) and not visit.tries


def test_a_diagnosis_counts_in_each_run_that_it_is_true_of():
    visit = clinic_round.Visit("rate_too_high_135m", 1)
    assert visit.judge("the learning rate is too high").right and visit.solved


@pytest.mark.parametrize("text, why", [("learning rate", "Which do you mean by 'learning rate'"),
                                       ("foo bar", "no cause fits"), ("", "no cause fits"),
                                       ("my dog ate the gpu", "no cause fits"),
                                       ("aliens", "no cause fits 'aliens'")])
def test_what_names_no_cause_or_several_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        find(text, CAUSES)


def fast_round(count):
    """A seed whose first cases need no training."""
    return next(seed for seed in range(10_000)
                if set(clinic_cases.order(seed)[:count]) <= set(FAST))


def test_cases_are_played_in_the_terminal(capsys):
    seed = fast_round(2)
    first = clinic_cases.order(seed)[0]
    lines = iter(["?", "1", "c", "aliens", "double_bos", first, "g", "q"])
    visits = clinic_terminal.clinic(2, seed, lambda prompt: next(lines, None))
    said = capsys.readouterr().out
    assert visits[0].solved and visits[1].over and not visits[1].solved
    assert "Keys:" in said[: said.index("Case 1")]
    assert "2 of 2 cases closed, 1 of them named; 3 of 8 points" in " ".join(said.split())
    assert said.count("Each wrong cause that you name costs 1") == 2  # at the start and on ?
    assert all(cause.title in said for cause in CAUSES.values())


def interrupted(prompt):
    raise KeyboardInterrupt  # Ctrl-C, also while a case is made


@pytest.mark.parametrize("ask", [interrupted, lambda prompt: None])
def test_ctrl_c_and_the_end_of_the_input_end_the_clinic_with_its_summary(capsys, ask):
    visits = clinic_terminal.clinic(3, fast_round(1), ask)
    assert len(visits) == 1 and "0 of 3 cases closed" in capsys.readouterr().out


def test_cases_are_played_in_the_notebook_by_keys_alone():
    seed = fast_round(2)
    clinic = clinic_widget.Clinic(seed)
    assert "n and Enter" in clinic.key.placeholder

    def key(text):
        clinic.key.value = text

    key("n")
    assert clinic.head.lines == ["Case 1"] and clinic.visit.sent.config in clinic.sent.value
    key("1")
    assert clinic.comment.lines[0].startswith(f"{list(clinic.visit.sent.readings)[0]}: ")
    key("nonsense words")
    assert "no cause fits" in clinic.comment.lines[0]
    key(clinic_cases.order(seed)[0])
    assert clinic.comment.lines[0].startswith("✓ Yes: ") and clinic.visit.solved
    key("n")
    key("g")
    assert clinic.head.lines == ["Case 2"] and clinic.comment.lines[0].startswith("It was: ")
