"""The drill in a notebook's widgets and in a terminal, and the cheat sheet."""

import json
import math
import os
import pty
import re
import select
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from helpers import ROOT, start

import ftkit as ft
from ftkit.interview import bank, cards, cheat_sheet, flashcards, formulas, terminal
from ftkit.interview.proofs import core, registry
from ftkit.interview.session import Session, parse_confidence
from ftkit.lessons import progress_log
from ftkit.lessons.notebooks import notebooks
from ftkit.notebook import widgets

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def nothing_fails(home):
    widgets.failures.clear()
    yield
    assert not widgets.failures


def key(drill, text):
    """What the page sends when this is typed, and Enter where the field waits for it."""
    if drill.phase in ("ask", "follow") and drill.session.kind != "choice":
        press_enter(drill)
    drill.key.value = text


def answer(drill, text):
    """Type an answer, and the same for each follow-up."""
    key(drill, text)
    while drill.phase == "follow":
        assert not drill.back.lines and drill.front.lines[0].startswith("Follow-up: ")
        key(drill, text)


def press_enter(drill):
    drill.key._handle_custom_msg({"event": "submit"}, [])


# ------------------------------------------------------------------------------- widgets


def test_ten_cards_with_the_line_of_keys_alone(home):
    drill = ft.drill(topic="LoRA, memory")
    for n in range(10):
        assert f"card {n + 1} of" in drill.head.lines[0]
        answer(drill, {"number": "12", "choice": "2", "recall": " x"}[drill.session.kind])
        assert drill.phase == "rate" and drill.session.card.back in drill.back.lines
        if drill.session.kind == "recall":
            assert not any(box.value for box in drill.ticks.boxes)
            key(drill, "a")
            key(drill, "1")  # the point that was ticked is not in what was typed
            assert "Where did you say 1, " in drill.comment.lines[0] and drill.phase == "rate"
            assert not drill.ticks.boxes[0].value and drill.session.suggested() == 1
        key(drill, "3")
        assert drill.key.value == "" and "good: back in" in drill.comment.lines[0]
    assert len(cards.Store().reviews()) == 10 and drill.phase == "over"


def test_a_unit_that_does_not_fit_is_reported_and_the_card_stays(home):
    drill = ft.drill(topic="memory")
    while drill.session.unit != "GB":
        drill.show.click()
        drill.rates[3].click()
    assert "Given: " in drill.number_prompt.lines[0]
    key(drill, "12 apples")
    assert drill.phase == "ask" and "the unit is 'apples'" in drill.comment.lines[0]


@pytest.mark.heavy
def test_the_proof_of_an_answer_runs_and_is_drawn(home):
    drill = ft.drill(topic="memory", level="mid")
    while drill.session.card.key != "states-7b":
        drill.show.click()
        drill.rates[3].click()
    drill.show.click()
    key(drill, "p")
    drill.proving.join(120)
    state, image, words, *_ = drill.proof.children[0].children
    assert state.lines == ["proved"] and "<img alt='" in image.value
    assert "107.8 == 107.8 GB" in words.lines[0]


def test_progress_and_calibration_are_drawn(home):
    drill = ft.drill(topic="loss")
    drill.sure.value = "90 %"
    answer(drill, "1")
    key(drill, "1")
    drill.chart.click()
    topics, calibration, words = drill.charts.children
    assert "<img alt='1 of " in topics.value and "<img alt='" in calibration.value
    assert words.lines[0].startswith("loss: 1 of ")


def test_text_of_a_learner_never_becomes_html(home):
    from ftkit.lessons import progress_log

    progress_log.add("score", question="<img src=x onerror=alert(1)>", guess="$a$", actual="b",
                 right=False)
    drill = ft.drill(topic="your misses")
    drill.show.click()
    for words in (drill.front, drill.back, drill.head):
        assert "<img" not in words.value
    assert "&lt;img" in drill.front.value


def test_drill_reports_a_wrong_level_or_number():
    for options, words in ((dict(level="boss"), "level is 'boss'"), (dict(new=-1), "new is -1"),
                           (dict(interview=True, minutes=0), "minutes is 0"),
                           (dict(interview=True, questions=0), "questions is 0")):
        with pytest.raises(ValueError, match=words):
            ft.drill(**options)


# ------------------------------------------------------------------------------ terminal


@pytest.mark.heavy
def test_the_drill_works_in_a_plain_terminal(home):
    """Driven through a pseudo-terminal, as a person types."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ftkit", "drill", "--topic", "loss", "--new", "2"],
        cwd=ROOT,
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        env=os.environ | {"TERM": "dumb"},
    )
    os.close(slave)
    said = ""

    def until(words):
        nonlocal said
        end = time.monotonic() + 60
        while words not in said and time.monotonic() < end:
            if select.select([master], [], [], 1)[0]:
                said += os.read(master, 65536).decode()
        assert words in said, said
        before, said = said.split(words, 1)
        return before

    def type(text):
        os.write(master, f"{text}\n".encode())

    assert "What is instruction tuning, and how" in until("answer> ")
    type("1")
    until("how sure, in %?")
    type("70")
    for _ in range(2):
        until("your answer (Enter: none)> ")
        type("")
    until("which of these did you say")
    type("")
    until("4 easy  m more of the answer  p prove it")
    type("p")
    assert "✓" in until("4 easy  m more of the answer  p prove it")
    type("3")
    until("good: back in")
    until("> ")
    type("")
    until("which of these did you say")
    type("1")
    until("4 easy")
    type("4")
    until("u takes the last rating back> ")
    type("")
    until("2 cards done")
    assert process.wait(30) == 0 and process.stderr.read() == b""
    os.close(master)
    assert [r["rating"] for r in cards.Store().reviews()] == [3, 4]


def typed(*lines):
    """An `ask` that types these lines and keeps what it was asked."""
    rest = iter(lines)

    def ask(prompt):
        ask.prompts.append(prompt)
        return next(rest, None)

    ask.prompts = []
    return ask


def test_a_mistyped_rating_is_taken_back_and_the_same_card_is_asked_again(home, capsys):
    ask = typed("", "1-2", "4", "u", "an answer of words", "80 %", "", "", "0", "1", "q")
    practice = terminal.drill(topic="basics", ask=ask)
    said = capsys.readouterr().out
    first, again = re.findall(r"card 1 of \d+ .*\n(.*)", said)
    assert first == again and "undone: easy. The same card again" in said
    assert "Your answer: an answer of words" in said
    review, = practice.store.reviews()
    assert review["rating"] == 1 and practice.done == 1 and practice.right == 0
    entry, = progress_log.entries()
    assert entry["confidence"] == 0.8 and entry["right"] is False


def test_after_the_last_card_its_rating_can_be_taken_back(home, capsys):
    practice = terminal.drill(topic="statistics", new=1, ask=typed("", "4", "u", "", "2", ""))
    assert [r["rating"] for r in practice.store.reviews()] == [2]


def interrupted(prompt):
    raise KeyboardInterrupt  # Ctrl-C, also where a proof runs and nothing is asked


@pytest.mark.parametrize("ask", [interrupted, lambda prompt: None])
def test_ctrl_c_and_the_end_of_the_input_end_the_drill_with_its_summary(home, capsys, ask):
    terminal.drill(topic="basics", ask=ask)
    assert capsys.readouterr().out.endswith("0 cards done, 0 of them known.\n")


def test_wrong_answers_and_follow_ups_are_below_headings_that_say_what_they_are():
    for card in cards.deck():
        lines = card.solution("my own answer")
        assert lines[0] == "Your answer: my own answer"
        wrong = "The other choices:" if card.question.choice else "Often said, but wrong:"
        for mark, heading in (("✗", wrong), ("?", "Questions that may follow:")):
            first = next(i for i, line in enumerate(lines) if line[0] == mark)
            assert lines[first - 1] == heading


def test_the_end_compares_how_sure_one_was_with_how_often_one_was_right(home, capsys):
    for name, sure, right in (("a", 0.8, True), ("b", 0.6, False)):
        progress_log.add("score", question=name, right=right, confidence=sure, topic="basics")
    terminal.drill(topic="forgetting", ask=typed("q"))
    assert "on average" not in capsys.readouterr().out
    terminal.drill(topic="forgetting", ask=typed(
        "replay of old data, a lower learning rate, fewer steps", "100", "", "", "1-2", "3", "q"))
    assert "3 answers so far with a confidence: 80% sure on average, 67% right" in (
        capsys.readouterr().out)


def test_the_prompt_says_what_is_asked_for(home):
    kinds = {"recall": "answer> ", "choice": "number of a choice> ", "number": "number> "}
    for kind, prompt in kinds.items():
        key = next(q.id for q in bank.everything()
                   if q.kind == kind and not (q.number and q.number["unit"]))
        ask = typed("q")
        topic = bank.find(key).topic
        others = [card.key for card in cards.deck(topic=topic) if card.key != key]
        store = cards.Store()
        for other in others:
            store.suspend(other)
        terminal.drill(topic=topic, ask=ask)
        assert ask.prompts == [prompt]


def test_the_rounds_of_an_interview_are_not_taken_for_those_of_a_drill(ftkit, home):
    status, out, err = ftkit("drill", "--rounds", "story")
    assert status == 2 and out == "" and "Add --interview" in err


def test_a_suspended_card_is_listed_and_comes_back_when_asked_for(ftkit, home, capsys):
    practice = terminal.drill(topic="statistics", ask=typed("s", "q"))
    key, = practice.store.suspended()
    assert f"`ftkit drill --resume {key}`" in capsys.readouterr().out
    assert key not in practice.queue and key not in Session(topic="statistics").queue
    status, out, _ = ftkit("drill", "--suspended")
    assert status == 0 and key in out and bank.find(key).question in out
    assert ftkit("drill", "--resume", "nothing")[2].count(f"suspended: {key}") == 1
    assert ftkit("drill", "--resume", key)[0] == 0
    assert ftkit("drill", "--suspended")[1] == "No card is suspended.\n"
    assert key in Session(topic="statistics").queue


def test_the_first_screen_names_the_keys_and_help_explains_them(home, capsys):
    terminal.drill(topic="statistics", ask=typed("?", "help", "quit"))
    said = capsys.readouterr().out
    start_of = said.index("card 1 of")
    for words in ("q ends", "? shows help", "u takes", "s suspends"):
        assert words in said[:start_of]
    assert said.count("Ctrl-D") == 2 and "--resume" in said


def test_filters_without_a_card_say_what_exists(ftkit, home):
    status, out, err = ftkit("drill", "--topic", "statistics", "--level", "staff")
    assert status == 2 and out == "" and "no card is staff in statistics" in err
    for level in bank.LEVELS:
        if count := len(bank.questions(level, "statistics")):
            assert f"{count} {level}" in err
    assert "your misses are empty" in ftkit("drill", "--topic", "your misses")[2]
    assert "cards.jsonl" in ftkit("drill", "--topic", "your cards")[2]


def test_after_the_minutes_no_further_card_is_asked(home):
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    session = Session(minutes=10, now=lambda: now[0])
    assert "10 min left" in session.progress()
    now[0] += timedelta(minutes=9)
    session.rate(3)
    assert not session.over and "1 min left" in session.progress()
    now[0] += timedelta(minutes=2)
    session.rate(3)
    assert session.over and session.progress() == "2 cards done. The time is over."
    with pytest.raises(ValueError, match="minutes is 0"):
        Session(minutes=0)


@pytest.mark.parametrize("text, value", [("70", 0.7), ("70 %", 0.7), ("0.7", 0.7), ("", None),
                                         ("100", 1.0), ("1", 0.01)])
def test_a_confidence_is_a_percentage_or_a_fraction(text, value):
    assert parse_confidence(text) == value
    for wrong in ("very", "101", "-3"):
        with pytest.raises(ValueError, match="from 0 to 100"):
            parse_confidence(wrong)


def test_own_cards_are_asked_and_a_wrong_line_is_named(home, ftkit, tmp_path, capsys):
    home.mkdir()
    (home / "cards.jsonl").write_text('{"front": "Our <b>rate</b>?", "back": "2e-4"}\n\n'
                                      '{"front": "Two?", "back": "2", "topic": "work"}\n')
    assert [card.front for card in cards.deck(topic="work")] == ["Two?"]
    assert len(cards.deck(topic="your cards")) == 2
    assert "<b>rate" not in ft.drill(topic="your cards").front.value
    ask = typed("2e-4", "", "", "q")
    terminal.drill(topic="your cards", ask=ask)
    assert "2e-4" in capsys.readouterr().out and ask.prompts[2].endswith("4 easy [3]> ")
    for line, words in (("{", "line 1 is not a JSON object"), ('{"front": "a"}', "'back' is None"),
                        ('{"front": "", "back": "b"}', "'front' is ''"),
                        ('{"front": "a", "back": "b", "tags": 1}', "the field 'tags'"),
                        ('{"front": "a", "back": "b", "level": "boss"}', "'level' is 'boss'")):
        (tmp_path / "mine.jsonl").write_text(line)
        status, out, err = ftkit("drill", "--cards", tmp_path / "mine.jsonl")
        assert status == 2 and words in err and "mine.jsonl, line 1" in err
    assert "cannot be read" in ftkit("drill", "--cards", tmp_path / "none.jsonl")[2]


def test_an_own_card_with_the_id_of_a_card_of_the_bank_replaces_it(home, ftkit, tmp_path):
    home.mkdir()
    mine = home / "cards.jsonl"
    mine.write_text('{"id": "states-7b", "back": "My words."}\n')
    question = bank.find("states-7b")
    same = [card for card in cards.deck(topic=question.topic) if card.key == question.id]
    assert [(card.front, card.back) for card in same] == [(question.question, "My words.")]
    assert same[0].level == question.level and same[0].solution() == ["My words."]
    assert len(cards.deck()) == len(bank.everything())
    mine.write_text('{"id": "states-7c", "back": "My words."}\n')
    status, _, err = ftkit("drill")
    assert status == 2 and "line 1: no question is called 'states-7c'" in err
    assert "states-7b" in err


def test_enter_in_the_empty_field_shows_the_answer_of_the_widget(home):
    drill = ft.drill(topic="basics")
    press_enter(drill)
    drill.waiting.join(10)
    assert drill.phase == "rate" and drill.session.suggested() == 1
    key(drill, "9")
    assert drill.phase == "rate" and "not a rating" in drill.comment.lines[0]


def test_enter_before_what_was_typed_arrives_does_not_lose_it(home):
    drill = ft.drill(topic="statistics")
    while drill.session.kind != "number":
        drill.show.click()
        key(drill, "3")
    press_enter(drill)
    timer = drill.waiting
    drill.key.value = "not a number"
    timer.join(10)
    assert drill.phase == "ask" and "is not a number" in drill.comment.lines[0]


def test_a_half_typed_answer_waits_for_enter_while_one_says_how_sure(home):
    drill = ft.drill(topic="basics")
    drill.key.value = "it freezes W"  # what the page sends when the focus leaves the field
    assert drill.phase == "ask" and drill.key.value == "it freezes W"
    drill.sure.value = "90 %"
    press_enter(drill)
    drill.waiting.join(10)
    assert drill.phase == "follow"
    answer(drill, "and B")
    assert drill.phase == "rate"
    assert drill.back.lines[0] == "Your answer: it freezes W; and B; and B"
    assert drill.session.confidence == 0.9 and drill.key.value == ""


def test_a_wrong_confidence_is_reported_and_the_answer_stays(home):
    drill = ft.drill(topic="basics")
    drill.key.value = "it freezes W"
    drill.sure.value = "very"
    drill.sure._handle_custom_msg({"event": "submit"}, [])
    drill.waiting.join(10)
    assert drill.phase == "ask" and drill.key.value == "it freezes W"
    assert "'very' is not a confidence" in drill.comment.lines[0]


def test_enter_after_how_sure_shows_no_answer_before_one_is_given(home):
    drill = ft.drill(topic="basics")
    drill.sure.value = "70"
    drill.sure._handle_custom_msg({"event": "submit"}, [])
    drill.waiting.join(10)
    assert drill.phase == "ask" and drill.sure.value == "70" and not drill.back.lines


def test_a_half_typed_answer_does_not_stay_for_the_next_card(home):
    drill = ft.drill(topic="basics")
    front = drill.front.lines
    drill.key.value, drill.sure.value = "it freezes W", "70"
    drill.suspend.click()
    assert drill.front.lines != front and (drill.key.value, drill.sure.value) == ("", "")


def test_a_question_mark_explains_the_ratings_and_is_no_answer(home):
    drill = ft.drill(topic="basics")
    key(drill, "?")
    assert drill.phase == "ask" and any("4 could teach it" in line for line in drill.comment.lines)
    answer(drill, "foo bar")
    assert drill.phase == "rate" and drill.comment.lines == []
    key(drill, "?")
    assert drill.phase == "rate" and any("Rate 1" in line for line in drill.comment.lines)


def test_the_end_says_when_a_card_comes_back_and_enter_looks_for_it(home):
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]
    drill = flashcards.Drill(topic="basics", new=1, now=lambda: clock[0])
    front = drill.front.lines
    drill.show.click()
    drill.rates[0].click()
    assert drill.head.lines == ["1 card done. Nothing more is due; the next card returns in "
                                "1 min."]
    clock[0] += timedelta(minutes=2)
    press_enter(drill)
    drill.waiting.join(10)
    assert drill.phase == "ask" and drill.front.lines == front


def test_undo_suspend_and_bring_back_in_the_widget(home):
    drill = ft.drill(topic="statistics")
    front = drill.front.lines
    drill.show.click()
    key(drill, "4")
    assert drill.front.lines != front
    key(drill, "u")
    assert drill.front.lines == front and drill.phase == "ask"
    key(drill, "s")
    assert drill.front.lines != front and len(drill.session.suspended()) == 1
    drill.chart.click()
    row = drill.charts.children[-1]
    assert front[0] in row.children[1].lines[0]
    row.children[0].click()
    assert drill.session.suspended() == []


def test_every_line_of_a_drill_fits_into_80_columns(home):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ftkit", "drill", "--topic", "memory", "--new", "2"], cwd=ROOT,
        stdin=slave, stdout=slave, stderr=slave, env=os.environ | {"TERM": "dumb", "COLUMNS": "80"})
    os.close(slave)
    os.write(master, b"?\n\n\nm\nm\nm\n1\n\n\n1\n\n")
    said = b""
    while select.select([master], [], [], 60)[0]:
        try:
            said += os.read(master, 65536)
        except OSError:  # the other side is closed
            break
    assert process.wait(60) == 0 and b"2 cards done" in said
    lines = re.split(r"\r\n|> (?=[^\r])", said.decode())  # what was typed ahead ends no prompt
    assert max(len(line) for line in lines) < 80 and len(lines) > 40


def test_the_end_of_the_input_ends_the_drill(home):
    done = start("drill", input="")
    assert done.returncode == 0 and "0 cards done" in done.stdout and done.stderr == ""


@pytest.mark.heavy
def test_the_command_lists_proves_and_exports(ftkit, home, tmp_path):
    status, out, err = ftkit("drill", "--list", "--level", "staff")
    assert status == 0 and "refuse" in out and "junior" not in out
    status, out, _ = ftkit("drill", "--prove", "count-qv")
    assert status == 0 and "Proof 1 of 1 runs" in out[: out.index("✓ counted by peft")]
    status, out, _ = ftkit("drill", "--prove", "refuse")
    assert status == 0 and "a matter of judgment" in out
    assert ftkit("drill", "--export", tmp_path / "c.json")[0] == 0
    assert json.loads((tmp_path / "c.json").read_text("utf-8"))["cards"]
    for words, told in ((("--prove", "nothing"), "no question is called 'nothing'"),
                        (("--level", "boss"), "level is 'boss'"), (("--new", "x"), "--new is 'x'"),
                        (("--export", "c.apkg"), "ends in .csv or .json")):
        status, out, err = ftkit("drill", *words)
        assert status == 2 and told in err and out == ""


# --------------------------------------------------------------------------- cheat sheet


@pytest.mark.heavy
def test_the_numbers_of_the_cheat_sheet_are_computed(tmp_path, home):
    n = cheat_sheet.write(tmp_path / "sheet.html", topic="memory,statistics")
    page = (tmp_path / "sheet.html").read_text("utf-8")
    assert n == len(bank.questions(topic="memory,statistics")) and page.count("<p>") == n
    assert "107.8 GB" in page and "@media print" in page and "<script" not in page
    assert "2 · layers · kv heads" in page and "tokens = 4,096" in page
    longest = re.findall(r'alttext="([^"]*)"', page.partition("<div><p>")[2])
    assert longest and max(map(len, longest)) <= cheat_sheet.LONG  # of the columns
    assert page.count("<section") == 2 and "<mfrac>" in page and "lesson 09" in page


@pytest.mark.parametrize("formula, words, tex", [
    ("y = alpha / r * sqrt(d_in - (a - b))", False,
     r"y = \frac{\alpha \cdot \sqrt{d_{\text{in}} - \left(a - b\right)}}{r}"),
    ("a / (b * lam)", False, r"\frac{a}{b \cdot \lambda}"),
    ("kv_heads * 1e9 ** x", True, r"\text{kv heads} \cdot 10^{9^{\text{x}}}"),
    ("n * k ** (1 / T)", False, r"n \cdot k^{\frac{1}{T}}")])
def test_a_formula_is_set_as_tex(formula, words, tex):
    assert formulas.tex(formula, words) == tex


def test_a_formula_is_mathml_with_its_text_as_alternative():
    made = formulas.mathml("y = alpha / r * sqrt(x) ** 2")
    for part in ("<mfrac>", "<msqrt>", "<msup>", "&#x003B1;"):
        assert part in made
    assert 'alttext="y = alpha / r · sqrt(x) ^ 2"' in made
    for wrong in ("a +", "[a]", "sum(x for x in range(n))"):
        with pytest.raises(ValueError, match="cannot be shown as a formula"):
            formulas.mathml(wrong)


@pytest.mark.parametrize("line", formulas.everything(), ids=lambda line: line["title"])
def test_a_formula_of_the_sheet_has_a_topic_and_gives_its_example(line):
    assert line["topic"] in bank.topics() and line["lesson"] in notebooks()
    assert ElementTree.fromstring(formulas.mathml(line["formula"])).tag.endswith("math")
    if example := line.get("example"):
        right = line["formula"].split(" = ")[1]
        functions = vars(math) | {"ln": math.log, "C": math.comb}
        assert math.isclose(eval(right, functions, example), line["value"], rel_tol=5e-3,
                            abs_tol=1e-9)


@pytest.mark.heavy  # proofs import torch
def test_the_command_says_where_it_wrote_the_cheat_sheet(ftkit, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = ftkit("drill", "--cheat-sheet", "sheet.html", "--topic", "trade-offs")
    assert status == 0 and str(tmp_path / "sheet.html") in err


@pytest.mark.heavy  # proofs import torch
def test_a_cheat_sheet_that_cannot_be_written_is_refused_before_the_proofs(tmp_path, home,
                                                                           monkeypatch):
    monkeypatch.setattr(core, "prove", lambda stated: pytest.fail("proved first"))
    with pytest.raises(ValueError, match="is a folder. Choose a file"):
        cheat_sheet.write(tmp_path, topic="statistics")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        cheat_sheet.write(tmp_path / "file" / "sheet.html", topic="statistics")


@pytest.mark.heavy  # proofs import torch
def test_a_cheat_sheet_refuses_a_claim_that_does_not_hold(tmp_path, home, monkeypatch):
    monkeypatch.setitem(core.load(), "half_width", registry.Proof("half_width", lambda: 20.0))
    with pytest.raises(RuntimeError, match="'interval' does not hold here"):
        cheat_sheet.write(tmp_path / "sheet.html", topic="statistics")
    assert not (tmp_path / "sheet.html").exists()
