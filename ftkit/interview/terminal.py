"""`ftkit drill`: the cards, the mock interview and the proofs in a plain terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ftkit.base.formatting import clean
from ftkit.interview import bank, cards, session
from ftkit.interview.mock import Talk


def say(*lines: str):
    for line in lines:
        print(" " * (len(line) - len(line.lstrip())) + clean(line), flush=True)


def asking(prompt: str) -> str | None:
    """A line from the terminal; None at its end."""
    print(prompt, end="", flush=True)  # input(prompt) may write it to stderr
    try:
        return input().strip()
    except EOFError:
        print()
        return None


def drill(level=None, topic=None, new: int = 10, store: cards.Store | None = None,
          ask: Callable[[str], str | None] = asking) -> session.Session:
    """Cards until none is due, the input ends, or q is typed."""
    now = session.Session(level, topic, new, store)
    say("A number answers or chooses, Enter shows the answer, q ends.")
    while now.card is not None:
        say("", now.progress(), now.card.front, *filter(None, [now.wanted()]))
        say(*(f"  {i}  {option}" for i, option in enumerate(now.options, 1)))
        unit = now.card.question.typed["unit"] if now.kind == "number" else ""
        if not _answered(now, f"{'number' + (' in ' + unit) * bool(unit) if unit else 'answer'}> ",
                         ask):
            break
        say("", *session.solution(now.card))
        if not _rated(now, ask):
            break
    say("", f"{now.done} cards done, {now.right} of them known."
        + ("" if now.card else " Nothing more is due: come back later."))
    return now


def _answered(now, prompt, ask) -> bool:
    while True:
        text = ask(prompt)
        if text is None or text.lower() in ("q", "quit"):
            return False
        if not text or now.kind == "recall":
            return True
        try:
            right, said = now.answer(text)
        except ValueError as error:
            say(f"{error}")
            continue
        say(f"{'✓' if right else '✗'} {said}")
        return True


def _rated(now, ask) -> bool:
    proofs = bool(now.card.question and now.card.question.proofs)
    suggested = now.suggested()
    words = "1 again  2 hard  3 good  4 easy" + "  p prove it" * proofs
    while True:
        text = ask(f"{words} [{suggested}]> ")
        if text is None or text.lower() in ("q", "quit"):
            return False
        if text.lower() == "p" and proofs:
            prove(now.card.question)
        elif text in ("", "1", "2", "3", "4"):
            say(now.rate(int(text or suggested)))
            return True
        else:
            say("expected 1, 2, 3 or 4" + ", p to prove the answer" * proofs + ", or q to end")


def prove(question: bank.Question) -> bool:
    """Run what proves the answer and print each claim; True if all hold."""
    from ftkit.interview.proofs import core

    if not question.proofs:
        say(f"{question.id} is a matter of judgment; it is scored by:",
            *(f"- {point}" for point in question.rubric))
        return True
    held = True
    for stated in question.proofs:
        began = time.perf_counter()
        claim = core.prove(stated)
        held &= claim.holds()
        say(f"{claim!r} ({time.perf_counter() - began:.1f} s)")
    return held


def interview(level=None, topic=None, minutes: float = 20, questions: int = 6,
              ask: Callable[[str], str | None] = asking) -> Talk:
    """The mock interview; ends early where the input ends. The report is written in any case."""
    talk = Talk(level, topic, minutes, questions)
    say(f"{len(talk.questions)} questions in {minutes:g} minutes. Answer aloud.")
    while (question := talk.question) is not None:
        say("", f"{talk.seconds_left() / 60:.0f} min left", question.question)
        if ask("Enter when you have answered> ") is None:
            break
        points = question.points()
        say(*(f"  {i}  {point}" for i, point in enumerate(points, 1)))
        said = ask("which of these did you say, e.g. 1 3> ")
        if said is None:
            break
        numbers = {int(w) - 1 for w in said.replace(",", " ").split() if w.isdigit()}
        well = []
        for follow in question.follow_ups:
            say(f"Follow-up: {follow['question']}")
            ask("Enter when you have answered> ")
            say(f"  {follow['answer']}")
            well.append((ask("went well? y/n> ") or "n").lower().startswith("y"))
        talk.score(numbers & set(range(len(points))), well)
    say("", *talk.lines(), f"Report: {talk.report()}")
    return talk


def main(args) -> int:
    """What `ftkit drill` was asked for; 0 done, 1 a proof that does not hold."""
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
