"""`ftkit drill --interview`: the mock interview in a plain terminal."""

from pathlib import Path

from ftkit.interview import coding
from ftkit.interview.grader import Grader
from ftkit.interview.mock import Talk, Task, format_clock
from ftkit.interview.typed_lines import Ask, more_is_waiting, read_line, say, tick

KEYS = "Keys at each prompt: ? help, t clock, s skip, l leave the round, q end with the report."
HELP = ("Answer aloud, or type: lines are kept until an empty one, in a file with your answers. "
        "Enter at once means that you said it.",
        "Follow-ups come next. Then the model answer is shown, and you tick the points of the "
        "rubric that you said; the number in brackets is the weight of a point. What you typed has "
        "to have a word of it.",
        "In the coding round, complete the function in the file that is named, and save it. Enter "
        "runs it, g gives up and shows a solution.",
        "t shows what the clock of the question has left. The clock does not cut you off.",
        "s skips the question. It is not counted, and the report names it.",
        "l leaves what is left of the round, q ends the interview. The report is shown in any "
        "case.")


class _Skip(Exception):
    """The candidate skips the question."""


class _LeaveRound(Exception):
    """The candidate leaves the round."""


class _Quit(Exception):
    """The candidate ends the interview."""


def interview(level=None, topic=None, minutes: float | None = None, questions: int = 6,
              rounds=None, ask: Ask = read_line, grader: Grader | None = None,
              partner: bool = False) -> Talk:
    """Run a mock interview until it is over or the input ends, and write its report."""
    return run(Talk(level, topic, minutes, questions, rounds=rounds, grader=grader,
                    partner=partner), ask)


def run(talk: Talk, ask: Ask) -> Talk:
    """Ask the questions of an interview, then print its report."""
    say(f"Mock interview: {talk.plan()}.", KEYS)
    if talk.partner:
        say(f"Give this page to the other person, and do not look: {talk.sheet()}")
    seen = ""
    try:
        while (task := talk.task) is not None:
            if task.round != seen:
                seen = task.round
                say("", f"== Round: {seen} ==")
            talk.start_question()
            say("", talk.clock_line(), task.prompt)
            try:
                if task.round == "coding":
                    _code(talk, task, ask)
                else:
                    _speak(talk, task, ask)
            except _Skip:
                talk.skip()
                say("skipped")
            except _LeaveRound:
                talk.leave_round(seen)
                say("round left")
    except (_Quit, KeyboardInterrupt):  # Ctrl-C while code runs
        pass
    if talk.task is None and len(talk.results) < len(talk.tasks):
        say("", "The time of the interview is over.")
    say("", *talk.lines())  # seen even if the file cannot be written
    say(f"Report: {talk.report()}")
    return talk


def _typed(talk: Talk, ask: Ask, prompt: str) -> str:
    """A typed line, after handling the keys (q, s, l, ?, t)."""
    while True:
        text = ask(prompt)
        word = "q" if text is None else text.lower()
        if text is None or word in ("q", "quit", "exit"):
            raise _Quit
        if word in ("s", "skip"):
            raise _Skip
        if word in ("l", "leave"):
            raise _LeaveRound
        if word in ("?", "help"):
            say(*HELP, hang=2)
        elif word == "t":
            say(talk.clock_line())
        else:
            return text


def _speak(talk: Talk, task: Task, ask: Ask):
    """Ask for a spoken or typed answer and the follow-ups, show the model answer, and score it."""
    lines: list[str] = []
    said: list[str] = []
    try:
        if task.facts:
            say("Clarify first: ask one question a line; an empty line begins your design.")
            while asked := _typed(talk, ask, "question> "):
                lines.append(f"I asked: {asked}")
                say(talk.clarify(asked), hang=2)
        while (line := _typed(talk, ask, "... " if lines else "answer (an empty line ends)> ")) or (
                lines and more_is_waiting()):
            lines.append(line)
        for turn in talk.turns(lambda: "\n".join([*lines, *said])):
            say("", turn)
            said.append(_typed(talk, ask, "answer (Enter: said aloud)> "))
    finally:
        typed = [*lines, *filter(None, said)]
        path = talk.keep("\n".join(typed)) if typed else None
    took = format_clock(talk.seconds_for_task())
    say(f"Your answer is kept in {path}; clock: {took}." if path else f"Clock: {took}.")
    if not talk.partner:
        say("", "Model answer:")
        for paragraph in task.model:
            say(paragraph.replace("**", ""), "")
        say(*talk.doubts())
    tick(talk.heard, lambda prompt: _typed(talk, ask, prompt), talk.partner)
    went_well: list[bool] = []
    try:
        answers = said[bool(task.twist):]
        for i, follow in enumerate(task.follow_ups):
            say("", f"Follow-up: {follow['question']}",
                *([] if talk.partner else [follow["answer"]]))
            well = _yes(talk, ask)
            if well and (why := talk.doubt(i, answers[i] if i < len(answers) else "")):
                say(why)
                if well := _yes(talk, ask):
                    talk.doubted.append(i)
            went_well.append(well)
    except _Skip:
        say("other follow-ups skipped")
    finally:  # what was ticked counts, also where the round is left in a follow-up
        talk.score(talk.heard.said, went_well)


def _yes(talk: Talk, ask: Ask) -> bool:
    while (text := _typed(talk, ask, "went well? y/n> ").lower()) not in ("y", "yes", "n", "no"):
        say("type y or n")
    return text.startswith("y")


def _code(talk: Talk, task: Task, ask: Ask):
    """Let the candidate write the function in a file; check it until it is solved or given up."""
    file = talk.code_file()
    say(f"Complete this function in your editor. {coding.IMPORTED}", f"  {file}", hang=2)
    say(*task.stub.rstrip().split("\n"), hang=4)
    solved = in_time = False
    while not solved:
        text = _typed(talk, ask, "Enter runs the file, g gives up> ").lower()
        if text in ("g", "give up"):
            break
        if text:
            say(f"Enter alone runs the file. Write your code in {file}, and save it.", hang=2)
            continue
        if (code := _read(file)) is None:
            continue
        in_time = talk.seconds_for_task() >= 0
        say("Your code runs; loading torch takes some seconds (Ctrl-C ends the interview) ...")
        solved, message = coding.run(task.id, code)
        say(message, f"Clock: {format_clock(talk.seconds_for_task())}.", hang=2)
    talk.keep(_read(file) or task.stub)
    say("", "A solution:")
    say(*task.model[0].split("\n"), hang=4)
    talk.score(({0} if solved else set()) | ({1} if solved and in_time else set()))
    if talk.task is not None:
        try:  # the clock of the next question waits until the solution is read
            _typed(talk, ask, "Enter continues> ")
        except (_Skip, _LeaveRound):
            pass


def _read(file: Path) -> str | None:
    """The candidate's code; None, after printing why, if the file cannot be read."""
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        say(f"{file} cannot be read ({why}); save your code there as UTF-8 text.", hang=2)
        return None
