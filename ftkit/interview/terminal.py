"""`ftkit drill`: the cards, the mock interview and the proofs in a plain terminal."""

import sys
import time
from pathlib import Path

from ftkit.base import quiet
from ftkit.base.errors import UserError
from ftkit.base.progress_bar import Bar
from ftkit.interview import bank, cards, mock_terminal, progress, rubrics, session
from ftkit.interview.grader import Grader, connect
from ftkit.interview.typed_lines import Ask, read_line, say, say_as_is, tick

KEYS = "Keys: q ends, ? shows help, u takes the last rating back, s suspends the card."
HELP = ("Say the answer aloud or type it, then press Enter. Enter alone shows the answer and "
        "suggests the rating 1, again. After a typed answer the questions that may follow come, "
        "each with an answer after yours, then the key sentence and the rubric: type the numbers "
        "of the points that you said.",
        "Number cards take a unit (GB is not GiB); choice cards take the number of a choice.",
        "How sure are you? Type a percentage, or Enter for none. The end of the drill compares it "
        "with how often you were right; in a notebook, Progress of `ft.drill()` draws it.",
        f"Ratings: {cards.ALL_MEANINGS}. Enter takes the one in brackets.",
        "u takes the last rating back and asks the same card again.",
        "s suspends the card: it is not asked any more. `ftkit drill --suspended` lists such "
        "cards, `ftkit drill --resume CARD` brings one back.",
        "q, Ctrl-C or the end of the input (Ctrl-D) ends the drill. What you rated is kept.")


ENOUGH = 3  # answers with a confidence before their mean is printed


class _Quit(Exception):
    """The learner ended the drill."""


class _OtherCard(Exception):
    """The card being asked has changed: it was suspended, or a rating was undone."""


def drill(level=None, topic=None, new: int = 10, store: cards.Store | None = None,
          ask: Ask = read_line, minutes: float | None = None,
          own: str | Path | None = None, grader: Grader | None = None) -> session.Session:
    """Ask cards until none is due, the time is up, the input ends, or q is typed."""
    practice = session.Session(level, topic, new, store, minutes=minutes, own=own, grader=grader)
    say("Say or type your answer; Enter shows the right one.", KEYS)
    try:
        while True:
            while not practice.over:
                try:
                    _card(practice, ask)
                except _OtherCard:
                    pass
            if not practice.rated:
                break
            say("", practice.progress())
            try:
                if _typed(practice, ask, "Enter ends, u takes the last rating back> ") == "":
                    break
            except _OtherCard:
                pass
    except (_Quit, KeyboardInterrupt):  # Ctrl-C while a proof runs
        pass
    say("", f"{session.count_cards(practice.done)} done, {practice.right} of them known."
        + (f" {practice.progress().partition('. ')[2]}" if practice.over else ""))
    say(*progress.calibration("answers so far with a confidence", ENOUGH))
    return practice


def _card(practice: session.Session, ask: Ask):
    """Ask one card, show its back, and ask for the rating."""
    say("", practice.progress(), practice.card.front)
    say(*filter(None, [practice.number_prompt()]))
    say(*(f"  {i}  {option}" for i, option in enumerate(practice.options, 1)), hang=3)
    _answer(practice, ask)
    first, *more = practice.card.steps(practice.own)
    say("", *first, *practice.doubts())
    if practice.kind == "recall" and practice.question:
        practice.show_rubric()
        tick(practice.heard, lambda prompt: _typed(practice, ask, prompt))
    _rate(practice, ask, more)


def _typed(practice: session.Session, ask: Ask, prompt: str) -> str:
    """A typed line, after handling the keys of the drill (q, u, s, ?)."""
    while True:
        text = ask(prompt)
        word = "q" if text is None else text.lower()
        try:
            if text is None or word in ("q", "quit", "exit"):
                raise _Quit
            if word in ("u", "undo"):
                say(practice.undo())
                raise _OtherCard
            if word in ("s", "suspend"):
                key = practice.card.key
                say(f"{practice.suspend()}: `ftkit drill --resume {key}`")
                raise _OtherCard
        except UserError as error:
            say(f"{error}")
            continue
        if word not in ("?", "h", "help"):
            return text
        say(*HELP, hang=2)


def _answer(practice: session.Session, ask: Ask):
    """Ask until the card is answered or skipped by Enter."""
    what = {"number": "number", "choice": "number of a choice", "recall": "answer"}[practice.kind]
    prompt = f"{what} in {practice.unit}> " if practice.unit else f"{what}> "
    while text := _typed(practice, ask, prompt):
        if practice.kind == "recall":
            practice.recall(text, _sure(practice, ask))
            for follow in practice.question.follow_ups if practice.question else ():
                say(f"Follow-up: {follow['question']}")
                practice.recall(_typed(practice, ask, "your answer (Enter: none)> "))
                say(f"One answer: {follow['answer']}", hang=4)
            return
        try:
            practice.judge(text)
            right, comment = practice.answer(text, _sure(practice, ask))
        except UserError as error:
            say(f"{error}")
            continue
        say(f"{'✓' if right else '✗'} {comment}")
        return


def _sure(practice: session.Session, ask: Ask) -> float | None:
    """The typed confidence, 0 to 1; None for an empty line."""
    while True:
        try:
            return session.parse_confidence(
                _typed(practice, ask, "how sure, in %? (Enter: no answer)> "))
        except UserError as error:
            say(f"{error}")


def _rate(practice: session.Session, ask: Ask, more: list[list[str]]):
    """Ask until the card is rated; m shows the next part of its back."""
    ratings = "  ".join(f"{rating} {name}" for rating, name in cards.RATINGS.items())
    suggested = practice.suggested()
    while True:
        keys = {"m": "more of the answer"} if more else {}
        keys |= {"p": "prove it"} if practice.proofs else {}
        hint = "".join(f"  {key} {what}" for key, what in keys.items())
        text = _typed(practice, ask, f"{ratings}{hint} [{suggested}]> ")
        if text.lower() == "p" and practice.question and practice.proofs:
            prove(practice.question)
        elif text.lower() == "m" and more:
            say("", *more.pop(0), hang=2)
        elif text in ("", "1", "2", "3", "4"):
            say(practice.rate(int(text or suggested)))
            return
        else:
            say(f"expected {', '.join(['1', '2', '3', '4', *keys])}; ? explains all keys")


def prove(question: bank.Question) -> bool:
    """Run the proofs of the answer and print each claim. Returns whether all hold."""
    if not question.proofs:
        say(f"{question.id} is a matter of judgment; it is scored by:",
            *(f"- {point.text}" for point in rubrics.points(question)))
        return True
    all_hold = True
    for i, stated in enumerate(question.proofs, 1):
        say(f"Proof {i} of {len(question.proofs)} runs; it may take half a minute ...")
        from ftkit.interview.proofs import core  # seconds, so after the word that it runs

        start = time.perf_counter()
        claim = core.prove(stated)
        all_hold &= claim.holds()
        say(f"{claim!r} ({time.perf_counter() - start:.1f} s)", hang=2)
    return all_hold


def list_questions(level=None, topic=None):
    """Print the questions, one a line: its id, the question, level and topic."""
    say(*(f"{q.id}: {q.question} ({q.level}, {q.topic})"
          for q in bank.questions(level, topic)), hang=4)


def list_suspended(store: cards.Store | None = None):
    """Print the suspended cards and how to bring one back."""
    fronts = {card.key: card.front for card in cards.deck()}
    suspended = (store or cards.Store()).suspended()
    say(*(f"{key}: {fronts.get(key, '(no such card any more)')}" for key in suspended), hang=4)
    say("`ftkit drill --resume CARD` brings one back." if suspended else "No card is suspended.")


def measure_grader(grader: Grader):
    """Print how far a grader agrees with the labeled answers."""
    from ftkit.interview import agreement

    bar = Bar("labeled answers")
    found = agreement.measure(grader, bar)
    bar.close()
    say_as_is("\n".join([f"Grader: {grader.name}", *found.lines()]))


def _grader(args) -> Grader | None:
    if args.grader is None and (args.agreement or args.grader_model):
        raise UserError("no grader is given. Add --grader with the address of its endpoint, such "
                        "as http://localhost:11434/v1.")
    return connect(args.grader, args.grader_model) if args.grader else None


def main(args) -> int:
    """Run `ftkit drill` with its parsed options; exit status 0, or 1 if a proof does not hold."""
    quiet.mute_known_noise()  # of libraries that a proof loads
    if args.rounds and not args.interview:
        raise UserError("--rounds is given, but it belongs to the mock interview. Add --interview.")
    grader = _grader(args)
    if grader and args.agreement:
        measure_grader(grader)
    elif args.list:
        list_questions(args.level, args.topic)
    elif args.prove:
        return 0 if prove(bank.find(args.prove)) else 1
    elif args.plan:
        print(progress.progress("interview", args.plan, args.minutes or 45))
    elif args.suspended:
        list_suspended()
    elif args.resume:
        session.resume(args.resume, cards.Store())
        say(f"{args.resume} is asked again when it is due.")
    elif args.export:
        n = cards.export(args.export, args.level, args.topic, own=args.cards)
        print(f"{n} cards in {Path(args.export).resolve()}", file=sys.stderr)
    elif args.cheat_sheet:
        from ftkit.interview import cheat_sheet

        n = cheat_sheet.write(Path(args.cheat_sheet), args.level, args.topic)
        print(f"{n} questions in {Path(args.cheat_sheet).resolve()}", file=sys.stderr)
    elif args.clinic:
        from ftkit.interview import clinic_terminal  # torch

        clinic_terminal.clinic()
    elif args.interview:
        mock_terminal.interview(args.level, args.topic, args.minutes, args.questions, args.rounds,
                                grader=grader, partner=args.partner)
    else:
        drill(args.level, args.topic, args.new, minutes=args.minutes, own=args.cards,
              grader=grader)
    return 0
