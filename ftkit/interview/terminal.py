"""`ftkit drill`: the cards, the mock interview and the proofs in a plain terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Callable

from ftkit.base.errors import UserError
from ftkit.base.formatting import clean
from ftkit.interview import bank, cards, session
from ftkit.interview.mock import Talk

Ask = Callable[[str], str | None]  # prompt → the line that is typed; None at the end of the input


def say(*lines: str):
    """Print lines without control characters, their indent kept; in a terminal words wrap."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10**6
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        print(textwrap.fill(clean(line), max(20, width - 1), initial_indent=indent,
                            subsequent_indent=indent), flush=True)


def read_line(prompt: str) -> str | None:
    """A line from the terminal; None at the end of the input."""
    print(prompt, end="", flush=True)  # input(prompt) may write it to stderr
    try:
        return input().strip()
    except EOFError:
        print()
        return None


def drill(level=None, topic=None, new: int = 10, store: cards.Store | None = None,
          ask: Ask = read_line) -> session.Session:
    """Cards until none is due, the input ends, or q is typed."""
    practice = session.Session(level, topic, new, store)
    say("Say or type your answer; Enter shows the right one, q ends.")
    while not practice.over:
        say("", practice.progress(), practice.card.front)
        say(*filter(None, [practice.number_prompt()]))
        say(*(f"  {i}  {option}" for i, option in enumerate(practice.options, 1)))
        if not _answer(practice, ask):
            break
        say("", *practice.card.solution(practice.own))
        if not _rate(practice, ask):
            break
    say("", f"{practice.done} cards done, {practice.right} of them known."
        + (" Nothing more is due: try again later." if practice.over else ""))
    return practice


def _typed(ask: Ask, prompt: str) -> str | None:
    """What the user types; None for q and at the end of the input."""
    text = ask(prompt)
    return None if text is None or text.lower() in ("q", "quit") else text


def _answer(practice: session.Session, ask: Ask) -> bool:
    """Ask until the card is answered or skipped; False if the user ends the drill."""
    prompt = f"number in {practice.unit}> " if practice.unit else "answer> "
    while (text := _typed(ask, prompt)) is not None:
        if not text:
            return True
        if practice.kind == "recall":
            practice.own = text
            return True
        try:
            right, comment = practice.answer(text)
        except UserError as error:
            say(f"{error}")
            continue
        say(f"{'✓' if right else '✗'} {comment}")
        return True
    return False


def _rate(practice: session.Session, ask: Ask) -> bool:
    """Ask until the card is rated; False if the user ends the drill."""
    ratings = "  ".join(f"{rating} {name}" for rating, name in cards.RATINGS.items())
    hint, accepted = "", "1, 2, 3 or 4"
    if practice.proofs:
        hint, accepted = "  p prove it", "1, 2, 3 or 4, p to prove the answer"
    suggested = practice.suggested()
    while (text := _typed(ask, f"{ratings}{hint} [{suggested}]> ")) is not None:
        if text.lower() == "p" and practice.question and practice.proofs:
            prove(practice.question)
        elif text in ("", "1", "2", "3", "4"):
            say(practice.rate(int(text or suggested)))
            return True
        else:
            say(f"expected {accepted}, or q to end")
    return False


def prove(question: bank.Question) -> bool:
    """Run what proves the answer and print each claim; True if all hold."""
    from ftkit.interview.proofs import core

    if not question.proofs:
        say(f"{question.id} is a matter of judgment; it is scored by:",
            *(f"- {point}" for point in question.rubric))
        return True
    all_hold = True
    for stated in question.proofs:
        start = time.perf_counter()
        claim = core.prove(stated)
        all_hold &= claim.holds()
        say(f"{claim!r} ({time.perf_counter() - start:.1f} s)")
    return all_hold


def interview(level=None, topic=None, minutes: float = 20, questions: int = 6,
              ask: Ask = read_line) -> Talk:
    """The mock interview; ends early where the input ends. The report is written in any case."""
    talk = Talk(level, topic, minutes, questions)
    say(f"{len(talk.questions)} questions in {minutes:g} minutes. Answer aloud.")
    while (question := talk.question) is not None:
        say("", f"{talk.seconds_left() / 60:.0f} min left", question.question)
        if ask("Enter when you have answered> ") is None:
            break
        points = question.points()
        say(*(f"  {i}  {point}" for i, point in enumerate(points, 1)))
        text = ask("which of these did you say, e.g. 1 3> ")
        if text is None:
            break
        numbers = {int(word) - 1 for word in text.replace(",", " ").split() if word.isdigit()}
        went_well = []
        for follow in question.follow_ups:
            say(f"Follow-up: {follow['question']}")
            ask("Enter when you have answered> ")
            say(f"  {follow['answer']}")
            went_well.append((ask("went well? y/n> ") or "n").lower().startswith("y"))
        talk.score(numbers & set(range(len(points))), went_well)
    say("", *talk.lines(), f"Report: {talk.report()}")
    return talk


def main(args) -> int:
    """Run `ftkit drill` with its parsed options; exit status 0, or 1 if a proof does not hold."""
    from pathlib import Path

    if args.list:
        say(*(f"{q.id:26} {q.level:7} {q.topic:16} {q.question}"
              for q in bank.questions(args.level, args.topic)))
    elif args.prove:
        return 0 if prove(bank.find(args.prove)) else 1
    elif args.export:
        n = cards.export(args.export, args.level, args.topic)
        print(f"{n} cards in {args.export}", file=sys.stderr)
    elif args.cheat_sheet:
        from ftkit.interview import cheat_sheet

        n = cheat_sheet.write(Path(args.cheat_sheet), args.level, args.topic)
        print(f"{n} questions in {args.cheat_sheet}", file=sys.stderr)
    elif args.interview:
        interview(args.level, args.topic, args.minutes, args.questions)
    else:
        drill(args.level, args.topic, args.new)
    return 0
