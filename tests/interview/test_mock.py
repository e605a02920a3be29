"""The mock interview: four rounds, written rubrics, clocks, and a report in any case."""

import dataclasses
import html
import math
import os
import pty
import re
import select
import shlex
import subprocess
import sys
from collections import Counter

import pytest
from helpers import ROOT, others_later, start

import ftkit as ft
from ftkit.cli import options
from ftkit.interview import (
    bank,
    cards,
    coding,
    interview_widget,
    listening,
    mock,
    mock_terminal,
    rubrics,
)
from ftkit.lessons import progress_log
from ftkit.notebook import widgets

pytestmark = pytest.mark.quick
DESIGNS = list(bank.prepared("design").values())
LINES = [*DESIGNS, *bank.prepared("story").values()]


@pytest.fixture(autouse=True)
def nothing_fails(home):
    widgets.failures.clear()
    yield
    assert not widgets.failures


def key(talk, text):
    talk.key.value = text


def shown_model(talk):
    """Answer the question and its follow-ups."""
    while talk.phase != "tick":
        key(talk, "g")


def typed(*lines):
    rest = iter(lines)
    return lambda prompt: next(rest, None)


# ------------------------------------------------------------------------------- content


def test_every_question_has_a_written_rubric_with_a_core_and_weights():
    known = {q.id for q in bank.everything()}
    assert rubrics.written().keys() <= known
    for question in bank.everything():
        assert question.rubric or question.id in rubrics.written(), question.id
        points = rubrics.points(question)
        assert len(points) >= 2 and points[0].weight == rubrics.CORE, question.id
        assert all(1 <= p.weight <= 3 and len(p.text) <= 130 for p in points)
        assert len({p.text for p in points}) == len(points)


def test_a_rubric_counts_the_core_more_than_a_refinement():
    points = rubrics.points(bank.find("states-7b"))
    assert [p.weight for p in points] == [3, 2, 2, 1]
    assert rubrics.score(points, {0}) == 3 / 8 and rubrics.score(points, {3}) == 1 / 8
    assert rubrics.score(points, set()) == 0 and rubrics.score(points, {0, 1, 2, 3}) == 1


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["id"])
def test_a_prepared_task_names_cards_and_lessons_that_exist(line):
    assert all(bank.find(card) for card in line["cards"]) and line["cards"]
    assert all(0 <= int(lesson[:2]) <= 22 for lesson in line["lessons"])
    words = sum(len(paragraph.split()) for paragraph in line["model"])
    if line["round"] == "design":
        assert 30 <= line["minutes"] <= 45 and len(line["points"]) >= 8
        assert 350 <= words <= 600 and len(line["arithmetic"]) >= 3
        assert len(line["facts"]) >= 5 and len(line["follow_ups"]) == 2
        assert line["twist"].endswith("What changes?") and "After the change" in line["model"][-1]
        assert any(text.startswith("After the change") for _, text in line["points"])
    else:
        assert line["round"] == "story" and 100 <= words and "invented" in line["model"][0]


@pytest.mark.parametrize("line", DESIGNS, ids=lambda line: line["id"])
def test_the_arithmetic_of_a_design_gives_the_numbers_in_its_text(line):
    text = " ".join(line["model"])
    for expression, words in line["arithmetic"]:
        assert words in text, words
        number = float(re.search(r"[\d,]+\.?\d*(?:e\d+)?", words)[0].replace(",", ""))
        value = eval(expression, {})
        assert math.isclose(value, number, rel_tol=0.03), (expression, value, words)


CHECKS = sorted({tuple(check) for line in DESIGNS for check in line["checks"]})


@pytest.mark.heavy
@pytest.mark.parametrize("command, gigabytes", others_later(CHECKS, now=CHECKS[:1]))
def test_ftkit_memory_gives_the_numbers_of_a_design(command, gigabytes):
    from ftkit.memory_use import footprint

    args = options.parse(shlex.split(command)[1:])
    found = footprint.memory(None, args.model, objective=args.objective or "sft", device="cuda",
                             **options.given(args))
    assert math.isclose(found.peak / 1e9, gigabytes, rel_tol=0.03)
    lines = [line for line in DESIGNS if [command, gigabytes] in line["checks"]]
    assert all(f"{gigabytes:.1f} GB" in " ".join(line["model"]) for line in lines)


def test_twelve_designs_ask_back_change_and_follow_up(home, capsys):
    assert len(DESIGNS) >= 12
    talk = mock.Talk(rounds="design", seed=0)
    fact = talk.task.facts[1]
    assert talk.clarify(fact.split(".")[0] + "?") == fact
    assert "Assume what is reasonable" in talk.clarify("xyzzy?")
    mock_terminal.run(talk, typed("xyzzy?", "", "My design", "", "now so", *["more"] * 2, "0", "y",
                                  "y", "n"))
    said = capsys.readouterr().out
    order = ["Clarify first", "Assume what", "Half time: 0:0", "And now: ", "Follow-up: ",
             "Model answer:", "Rubric:", "Report: "]
    assert [said.index(text) for text in order] == sorted(said.index(text) for text in order)
    kept = (talk.folder / "answers.md").read_text("utf-8")
    assert "I asked: xyzzy?\nMy design\nnow so\nmore" in kept
    assert said.count("has next to no word of this answer") == 1  # asked before it counts
    result = talk.results[0]
    assert result["score"] == pytest.approx(0.15) and result["shown"] == 0 and talk.on_word == 1
    assert talk.verdict().startswith("No hire at 0%") and "0% without what counts" in said


def test_a_design_in_the_notebook_answers_questions_and_changes(home):
    talk = interview_widget.Interview(rounds="design", seed=0)
    key(talk, "g")
    key(talk, "xyzzy?")
    assert "Assume what is reasonable" in talk.comment.lines[0]
    assert talk.answer.value == "I asked: xyzzy?"
    key(talk, "g")
    assert talk.prompt.lines[0].startswith("Half time: ") and talk.phase == "follow"
    shown_model(talk)


def test_interviews_are_compared_over_time(home):
    for share in (0, 1):
        talk = mock.Talk(questions=3, seed=share, topic="memory", rounds="concept")
        assert ("Interviews so far" in " ".join(talk.lines())) is False
        for task in talk.tasks:
            talk.score(range(share * len(task.points)))
    assert [past.score for past in mock.history()] == [0, 1]
    compared, = (line for line in talk.lines() if line.startswith("Interviews so far"))
    assert " 0%, this one 100%. Since then: memory 0% → 100%" in compared


def test_in_two_person_mode_only_the_other_person_sees_the_rubric(home, capsys):
    talk = mock.Talk(questions=1, seed=0, rounds="concept", partner=True)
    mock_terminal.run(talk, typed("my words", "", *[""] * len(talk.task.follow_ups), "1", "y", "y"))
    said = capsys.readouterr().out
    point = talk.tasks[0].points[0].text
    assert point not in said.partition("Your report")[0].partition("not said")[0]
    assert "Model answer" not in said and "Where did you say" not in said
    assert 0 < talk.results[0]["score"] < 1 and "Judged by: a second person" in said
    sheet = html.unescape((talk.folder / "for_your_interviewer.html").read_text("utf-8"))
    assert point in sheet and talk.tasks[0].follow_ups[0]["answer"] in sheet
    widget = ft.drill(interview=True, questions=1, rounds="concept", partner=True)
    assert "for_your_interviewer.html" in widget.prompt.lines[0]


# -------------------------------------------------------------------------------- coding


@pytest.mark.heavy  # the checks import torch
@pytest.mark.parametrize("name", coding.statements())
def test_a_coding_task_is_solved_by_its_solution_and_not_by_its_stub(name, tmp_path, capsys):
    task = coding.tasks()[name]
    assert f"def {name}(" in task.stub and "ft.check" not in task.stub and task.statement
    file = tmp_path / "solution.py"
    for code, state in ((task.solution, "solved"), (task.stub, "unsolved"),
                        ("def other(): ...", "wrong"), ("def broken(", "wrong"),
                        ("1 / 0", "wrong")):
        file.write_text(code)
        assert coding.judge(name, str(file))[0] == state, code


def test_code_that_is_not_python_is_told_at_once_with_its_line():
    solved, message = coding.run("pass_at_k", "def pass_at_k(n, c, k):\n    give 1\n", seconds=0)
    assert not solved and message.startswith("line 2 is not Python: ")
    assert message.endswith(": give 1")
    assert "is not Python" in coding.run("pass_at_k", "\0", seconds=0)[1]


@pytest.mark.heavy
def test_an_endless_loop_ends_with_the_time():
    solved, message = coding.run("pass_at_k", "while True: pass", seconds=1)
    assert not solved and "did not end within 1 seconds" in message
    with pytest.raises(ValueError, match="is not an exercise"):
        coding.run("nothing", "")


# ---------------------------------------------------------------------------- the interview


def test_an_interview_has_four_rounds_and_each_question_a_clock():
    now = [0.0]
    talk = mock.Talk(questions=3, seed=0, clock=lambda: now[0])
    assert [task.round for task in talk.tasks] == [*["concept"] * 3, "coding", "design", "story"]
    assert "concept · question 1 of 6 · 3:00 left" == talk.clock_line()
    now[0] = 200
    assert talk.clock_line().endswith("0:20 over")
    talk.score(set())
    assert talk.clock_line().endswith("question 2 of 6 · 3:00 left")
    talk = mock.Talk(rounds="story, design", seed=0)
    assert {task.round for task in talk.tasks} == {"design", "story"}
    with pytest.raises(ValueError, match="round is 'poem'; expected one of concept, coding"):
        mock.Talk(rounds="poem")


def test_gaps_are_named_from_three_questions_on_and_weak_cards_are_due(home):
    talk = mock.Talk(topic="loss", questions=2, seed=0, rounds="concept")
    for _ in range(2):
        talk.score(set())
    assert talk.summary()["gaps"] == [] and "fewer than 3 questions" in " ".join(talk.lines())
    talk = mock.Talk(topic="memory", questions=4, seed=0, rounds="concept")
    for _ in range(3):
        talk.score(set())
    talk.score(range(len(talk.current().points)))
    told = talk.summary()
    assert told["gaps"] == ["memory"] and told["score"] == 0.25
    weak = [r["task"].id for r in talk.results[:3]]
    assert told["cards"] == weak and told["lessons"]
    assert set(weak) <= set(cards.Store().due())
    assert talk.results[3]["task"].id not in cards.Store().due()


def test_strengths_and_gaps_can_be_named_in_the_default_interview():
    named = 0
    for seed in range(500):
        talk = mock.Talk(seed=seed)
        topics = Counter(task.topic for task in talk.tasks if task.round == "concept")
        named += sum(count >= mock.ENOUGH for count in topics.values()) >= 2
        assert sum(topics.values()) == 6
    assert named >= 450


def test_the_verdict_has_its_reasons(home):
    talk = mock.Talk(questions=3, seed=0, topic="memory", rounds="concept")
    assert "No verdict: fewer than half" in " ".join(talk.lines())
    for task in talk.tasks:
        talk.score(range(len(task.points)))
    assert talk.verdict() == "Hire at 100%; strengths: memory."
    talk = mock.Talk(questions=3, seed=0, topic="memory", rounds="concept")
    for _ in talk.tasks:
        talk.score([])
    assert talk.verdict().startswith("No hire at 0%; weak rounds: concept; gaps: memory; not said:")
    assert talk.tasks[0].points[0].text in talk.verdict() in talk.lines()


def test_the_cards_of_a_weak_design_are_due_and_those_of_a_good_story_are_not(home):
    talk = mock.Talk(seed=0, rounds="design, story")
    design, story = talk.tasks
    talk.score(set())
    talk.score(range(len(story.points)))
    assert set(cards.Store().due()) == set(design.cards)
    assert "due now in the drill" in " ".join(talk.lines())


@pytest.mark.parametrize("minutes, rounds, expected, clocks", [
    (15, None, {"concept": 3, "story": 1}, 15),
    (30, None, {"concept": 4, "coding": 1, "story": 1}, 28),
    (5, None, {"concept": 1}, 3), (15, "design", {"design": 1}, 15), (90, None, None, None)])
def test_the_clocks_of_the_questions_fit_into_the_minutes(minutes, rounds, expected, clocks):
    for seed in range(20):
        talk = mock.Talk(minutes=minutes, seed=seed, rounds=rounds)
        count = Counter(task.round for task in talk.tasks)
        used = sum(task.minutes for task in talk.tasks)
        assert used <= minutes and f"add up to {used} of {minutes} minutes" in talk.plan()
        if expected:
            assert count.keys() == expected.keys() and ("no time for design" in talk.plan()) == (
                rounds is None)
            assert clocks - 3 <= used <= minutes
        else:
            assert count["concept"] == 6 and len(count) == 4


def test_few_questions_are_on_different_topics():
    for seed in range(50):
        for count in (2, 3, 5):
            talk = mock.Talk(questions=count, seed=seed, rounds="concept")
            assert len({task.topic for task in talk.tasks}) == count


def test_bold_is_rendered_in_the_report_of_each_task(home):
    tasks = [mock._prepared(line) for line in LINES] + [mock._concept(q) for q in bank.everything()]
    for task in tasks:
        page = mock._section({"task": task, "score": 0.5, "seconds": 3, "answer": "",
                              "missed": []}) + mock._for_interviewer(task)
        assert "**" not in page, task.id


def test_a_full_screen_waits_for_enter_and_what_is_typed_there_is_kept():
    """80 by 24: no more than a screen of the text is printed before a key."""
    code = ("from ftkit.interview.typed_lines import say, read_line\n"
            "say(*(f'paragraph {i} ' + 'word ' * 30 for i in range(20)))\n"
            "print('GOT', read_line('> '))")
    process, master = start_in_pty(code)
    shown = ""
    for key in ("\n", "an answer\n"):
        shown = read_until(master, "-- Enter shows more --")
        assert shown.count("\n") <= 24 and shown.count("paragraph") >= 5
        os.write(master, key.encode())
    assert "GOT an answer" in read_until(master, "GOT an answer")
    process.wait(20)
    os.close(master)


def start_in_pty(code):
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=slave, stdout=slave,
                               stderr=slave, cwd=ROOT)
    os.close(slave)
    return process, master


def read_until(master, text):
    shown = ""
    while text not in shown:
        assert select.select([master], [], [], 30)[0], shown
        shown += os.read(master, 4096).decode()
    return shown


def test_the_clock_of_the_interview_ends_it():
    now = [0.0]
    talk = mock.Talk(minutes=1, questions=3, seed=0, rounds=mock.ROUNDS, clock=lambda: now[0])
    talk.score({0})
    now[0] = 61
    assert talk.task is None and talk.summary()["asked"] == 1
    with pytest.raises(ValueError, match="point 99"):
        talk.score({99})


@pytest.mark.parametrize("text", ["1 9 foo", "0", "1.5", "-1"])
def test_a_wrong_tick_is_told(text):
    with pytest.raises(ValueError, match="expected numbers from 1 to 4"):
        listening.parse_points(text, 4)
    for line, points in (("1, 3 4", {0, 2, 3}), ("", set()), ("1-3", {0, 1, 2}), ("2 - 3", {1, 2})):
        assert listening.parse_points(line, 4) == points


def test_a_whole_interview_in_the_terminal(home, capsys, monkeypatch):
    talk = mock_terminal.run(
        mock.Talk(level="junior", questions=1, rounds="concept, design, story", seed=0),
        typed("?", "t", "It goes on", "from weights.", "", "my words", "", "1 9", "1",
                  "no word of it", "", *"yyyy", "", "said", "", "", "", "", "1 2", "", "", *"nn",
                  "", "1 2"))
    said = capsys.readouterr().out
    assert said.count("Model answer:") == 3 and all(t.model[0].replace("**", "") in said
                                                    for t in talk.tasks)
    assert "'9' is not a point" in said and "concept · question 1 of 3 · " in said
    kept = (talk.folder / "answers.md").read_text("utf-8")
    assert "It goes on\nfrom weights.\nmy words" in kept and talk.tasks[0].prompt in kept
    assert "Where did you say 1, " in said
    assert said.index("Follow-up: ") < said.index("Model answer")
    assert talk.results[1]["score"] == 0 < talk.results[2]["score"]  # aloud: as ticked
    report = (talk.folder / "report.html").read_text("utf-8")
    assert "Your answer" in report and "Model answer" in report and "Cards to do" in said
    assert f"Report: {talk.folder / 'report.html'}" in said


@pytest.mark.parametrize("lines, asked, skipped", [
    ((), 0, 0), (("q",), 0, 0), (("s", "q"), 0, 1), (("l", "q"), 0, 2),
    (("", "", "", "1", "l", "q"), 1, 1), (("an answer", "q"), 0, 0)])
def test_an_interview_can_be_left_at_any_prompt_and_the_report_comes(home, capsys, lines, asked,
                                                                      skipped):
    talk = mock_terminal.interview(questions=2, rounds="concept, story", ask=typed(*lines))
    said = capsys.readouterr().out
    assert (talk.folder / "report.html").exists() and "Report: " in said
    assert len(talk.scored()) == asked and len(talk.results) == asked + skipped
    if "an answer" in lines:
        assert "an answer" in (talk.folder / "answers.md").read_text("utf-8")


@pytest.mark.heavy  # the code runs in a process
def test_the_coding_round_runs_the_file_until_it_is_right(home, capsys):
    solution = {}

    def ask(prompt):
        file, = home.glob("interviews/*/*.py")
        solution["name"] = file.stem
        if "tried" in solution:
            file.write_text(coding.tasks()[file.stem].solution)
        solution["tried"] = True
        return ""

    talk = mock_terminal.interview(rounds="coding", ask=ask)
    said = capsys.readouterr().out
    assert "not solved yet" in said and "A solution:" in said
    assert [r["score"] for r in talk.results] == [1.0]
    assert progress_log.entries()[-1]["round"] == "coding"


def test_the_clock_of_a_question_waits_until_the_solution_before_it_is_read(home, capsys):
    asked = []

    def ask(prompt):
        asked.append(prompt)
        if prompt == "Enter continues> ":
            assert "A solution:" in capsys.readouterr().out
            seconds[0] += 120
        return {"Enter runs the file, g gives up> ": "g", "Enter continues> ": ""}.get(prompt)

    seconds = [0.0]
    talk = mock.Talk(rounds="coding, story", seed=0, clock=lambda: seconds[0])
    mock_terminal.run(talk, ask)
    assert asked[1] == "Enter continues> "
    assert f"question 2 of 2 · {talk.tasks[1].minutes}:00 left" in capsys.readouterr().out


def test_what_is_typed_instead_of_code_is_not_run_and_the_file_is_kept(home, capsys):
    def ask(prompt):
        files.extend(home.glob("interviews/*/*.py"))
        if len(lines) == 2:
            files[0].unlink()  # Enter then finds no file
        elif len(lines) == 1:
            files[0].write_text("my own code")
        return lines.pop(0)

    files, lines = [], ["def f(x):", "", "g"]
    talk = mock_terminal.interview(rounds="coding", ask=ask)
    said = capsys.readouterr().out
    assert "Enter alone runs the file" in said and "cannot be read" in said
    assert "Your code runs" not in said
    assert "my own code" in (talk.folder / "answers.md").read_text("utf-8")


def test_ctrl_c_ends_the_interview_with_its_report(home, capsys):
    def ask(prompt):
        raise KeyboardInterrupt  # also where code runs and nothing is asked

    talk = mock_terminal.interview(rounds="story", ask=ask)
    assert (talk.folder / "report.html").exists() and "Report: " in capsys.readouterr().out


@pytest.mark.heavy  # a process
def test_an_answer_of_several_paragraphs_can_be_pasted(home):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ftkit", "drill", "--interview", "--rounds", "story"], cwd=ROOT,
        stdin=slave, stdout=slave, stderr=slave, env=os.environ | {"TERM": "dumb"})
    os.close(slave)
    os.write(master, b"Goal and baseline.\n\nWhat failed.\n\n")
    said = b""
    while b"Rubric:" not in said and select.select([master], [], [], 60)[0]:
        said += os.read(master, 65536)
    os.write(master, b"q\n")
    while process.poll() is None and select.select([master], [], [], 60)[0]:
        try:
            os.read(master, 65536)
        except OSError:  # the other side is closed
            break
    assert process.wait(60) == 0
    os.close(master)
    kept, = home.glob("interviews/*/answers.md")
    assert "Goal and baseline.\n\nWhat failed." in kept.read_text("utf-8")


def test_the_end_of_the_input_still_writes_the_report(home):
    done = start("drill", "--interview", "--rounds", "story", input="")
    assert done.returncode == 0 and done.stderr == ""
    path = re.search(r"Report: (.*)", done.stdout)[1]
    assert "Mock interview" in open(path, encoding="utf-8").read()


# ------------------------------------------------------------------------------- notebook


def test_an_interview_by_keys_alone_ends_in_a_report(home):
    talk = ft.drill(interview=True, questions=2, level="senior", rounds="concept, story")
    key(talk, "g")
    for _ in range(2):
        task = talk.task
        talk.answer.value = "my own words"
        key(talk, "g")
        for follow in task.follow_ups:
            assert talk.prompt.lines == [f"Follow-up: {follow['question']}"]
            assert talk.phase == "follow" and not talk.model.lines
            key(talk, "g")
        assert task.model[0].replace("**", "") in talk.model.lines
        assert "kept in" in talk.comment.lines[0]
        key(talk, "1")
        key(talk, "2")
        assert [box.value for box in talk.ticks.boxes[:2]] == [True, True]
        talk.go.click()
        assert talk.phase == "tick" and "Where did you say 1, " in talk.comment.lines[0]
        key(talk, "1")  # in other words, but said
        talk.go.click()
        for follow in task.follow_ups:
            assert talk.ticks.children == () and talk.comment.lines == [follow["answer"]]
            key(talk, "y")
            assert talk.comment.lines[0] == follow["answer"]
            assert talk.comment.lines[1].startswith("Nothing was typed here.")
            key(talk, "y")
    key(talk, "?")
    assert "leaves what is left" in talk.comment.lines[1]
    key(talk, "s")
    assert talk.phase == "over" and talk.path.exists() and talk.over.is_set()
    assert "2 of 3 questions, 1 skipped" in talk.report.children[0].lines[0]
    key(talk, "o")
    assert "2 of 3 questions" in html.unescape(talk.report.children[1].value)
    assert "<iframe sandbox" in talk.report.children[1].value


@pytest.mark.heavy
def test_the_coding_round_in_the_notebook_runs_the_code(home):
    talk = ft.drill(interview=True, rounds="coding, story")
    key(talk, "g")
    assert talk.answer.value == talk.task.stub
    key(talk, "g")
    assert "not solved yet" in talk.comment.lines[0] and talk.phase == "code"
    talk.answer.value = talk.task.model[0]
    key(talk, "g")
    assert "✓" in talk.comment.lines[0] and talk.solution.code == talk.task.model[0]
    assert talk.talk.results[0]["score"] == 1.0
    key(talk, "g")
    key(talk, "q")
    assert "1 of 2 questions" in talk.report.children[0].lines[0]


def test_an_answer_typed_into_the_field_of_keys_is_moved_and_leaves_nothing_out(home):
    talk = ft.drill(interview=True, questions=1, rounds="concept, story")
    key(talk, "g")
    task = talk.task
    key(talk, "LoRA adds BA")
    key(talk, "skips weight gradients")
    assert talk.task is task and talk.answer.value == "LoRA adds BA\nskips weight gradients"
    assert "area below" in talk.comment.lines[0]
    assert not talk.key.continuous_update  # a letter acts with Enter only
    shown_model(talk)
    assert talk.talk.answer == talk.answer.value


def test_what_is_typed_into_the_field_of_keys_does_not_get_into_the_code(home):
    talk = ft.drill(interview=True, rounds="coding")
    key(talk, "g")
    key(talk, "how many users?")
    assert talk.answer.value == talk.task.stub and "takes keys only" in talk.comment.lines[0]


def test_the_own_answer_stays_in_sight_while_it_is_scored(home):
    talk = ft.drill(interview=True, questions=1, rounds="concept, story")
    key(talk, "g")
    talk.answer.value = "my own words"
    shown_model(talk)
    assert talk.answer.layout.display != "none" and talk.answer.disabled
    key(talk, "s")
    assert talk.phase == "ask" and talk.answer.value == "" and not talk.answer.disabled
    shown_model(talk)
    assert talk.answer.layout.display == "none"


def test_a_key_that_does_nothing_is_told(home):
    talk = ft.drill(interview=True, questions=1, rounds="concept")
    key(talk, "g")
    key(talk, "z")
    assert talk.comment.lines == ["'z' does nothing here: g answered, s skip, l leave, q end, ?, "
                                  "then Enter"]
    shown_model(talk)
    key(talk, "9")
    assert talk.comment.lines == [f"There is no point 9; there are {len(talk.ticks.boxes)}."]


def test_leaving_a_round_in_the_notebook_begins_the_next(home):
    talk = ft.drill(interview=True, questions=3, rounds="concept, story")
    key(talk, "g")
    key(talk, "l")
    assert talk.task.round == "story" and len(talk.talk.results) == 3
    talk.quit.click()
    assert talk.phase == "over" and "0 of 4 questions, 3 skipped" in (
        talk.report.children[0].lines[0])


def test_text_in_a_report_is_never_html(home):
    talk = mock.Talk(questions=1, seed=0, rounds="concept")
    talk.tasks[0] = dataclasses.replace(talk.tasks[0], prompt="<script>alert(1)</script>")
    talk.keep("<script>x</script>")
    talk.score(set(), [])
    page = talk.report().read_text("utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page
