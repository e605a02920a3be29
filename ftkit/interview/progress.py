"""How far the learner is: `ft.progress()` for the course, `ft.progress("02")` for one lesson,
`ft.progress("ship")` for a path, `ft.progress("interview", days=14, minutes=45)` for a plan.

Everything is read from the learner's own logs: exercises and guesses from `progress.jsonl`, cards
that are due from `drill.jsonl`.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from ftkit.base import machine, messages
from ftkit.base.errors import UserError
from ftkit.base.formatting import to_html
from ftkit.interview import cards, paths, placement, study_plan
from ftkit.lessons import checks, predictions, progress_log
from ftkit.lessons.notebooks import notebooks, number_of


class Lesson(NamedTuple):
    """One lesson: its solved and open exercises, and how many scored guesses were right."""

    number: str
    name: str
    solved: tuple[str, ...]
    open: tuple[str, ...]
    guesses: int
    right: int

    @property
    def done(self) -> bool:
        return not self.open

    @property
    def begun(self) -> bool:
        return bool(self.solved or self.guesses)

    def line(self) -> str:
        """Solved and open exercises of this lesson in one sentence."""
        parts = [f"{len(self.solved)} of {len(self.solved) + len(self.open)} exercises solved"]
        if self.open:
            parts[0] += f" (open: {', '.join(self.open)})"
        if self.guesses:
            parts.append(f"{self.right} of {self.guesses} guesses right")
        return f"Lesson {self.number}, {self.name}: {'; '.join(parts)}."


class Progress:
    """The state of the course; displays itself as text or, in a notebook, as a table."""

    def __init__(self, lessons: list[Lesson], due: int, shown: str | None):
        self.lessons, self.due, self.shown = lessons, due, shown

    def next(self) -> Lesson | None:
        """The first lesson with an open exercise after the one shown, wrapping around; None if all
        are done."""
        shown = self.shown or ""
        after = [one for one in self.lessons if one.number > shown]
        before = [one for one in self.lessons if one.number < shown]
        return next((one for one in after + before if not one.done), None)

    def _lines(self) -> list[str]:
        following = self.next()
        last = [f"Next: lesson {following.number}, {following.name}."] if following else [
            "Every other exercise is solved. Next: your own data, in ft.what_if(data=...)."]
        if self.due:
            last.append(f"Interview cards due: {self.due} (ft.drill()).")
        if self.shown is not None:
            return [one.line() for one in self.lessons if one.number == self.shown] + last
        done = sum(one.done for one in self.lessons)
        first = [f"{done} of {len(self.lessons)} lessons have all their exercises solved.",
                 *calibration("guesses with a confidence")]
        return first + [one.line() for one in self.lessons if one.begun] + last + [self._paths()]

    def on_path(self, name: str) -> paths.View:
        """How far the learner is on a path. Raises UserError if it does not exist."""
        return paths.View(name, self._done(), self.due)

    def _done(self) -> set[str]:
        """The lessons of `paths` that are solved, or known by a placement."""
        done, solved = placement.known(), {e for one in self.lessons for e in one.solved}
        for step in paths.steps().values():
            parts = [one for one in self.lessons if one.number == step.lesson]
            if all(one.done for one in parts) and solved.issuperset(step.exercises):
                done.add(step.lesson)
        return done

    def _paths(self) -> str:
        done = self._done()
        left = ", ".join(f"{name} {paths.View(name, done, self.due).minutes}"
                         for name in paths.paths())
        return f'Minutes left on each path: {left}. ft.progress("tour") shows one.'

    def __repr__(self):
        return "\n".join(self._lines())

    def _repr_html_(self):
        if self.shown is not None:
            return "".join(f"<div>{to_html(line)}</div>" for line in self._lines())
        texts = [line for line in self._lines() if not line.startswith("Lesson ")]
        rows = "".join(
            f"<tr><td style='text-align:left'>{one.number} {to_html(one.name)}</td>"
            f"<td>{len(one.solved)} of {len(one.solved) + len(one.open)}</td>"
            f"<td>{f'{one.right} of {one.guesses}' if one.guesses else ''}</td></tr>"
            for one in self.lessons)
        return ("".join(f"<div>{to_html(text)}</div>" for text in texts)
                + "<table><thead><tr><th>lesson</th><th>exercises solved</th>"
                f"<th>guesses right</th></tr></thead><tbody>{rows}</tbody></table>")


def calibration(of: str, at_least: int = 1) -> list[str]:
    """Compare mean confidence and accuracy in one line; [] below `at_least` guesses."""
    rows = predictions.calibration_rows()
    count = sum(row["guesses"] for row in rows)
    if count < at_least:
        return []
    sure, right = (sum(row[key] * row["guesses"] for row in rows) / count
                   for key in ("sure", "right"))
    return [f"{count} {of}: {sure:.0%} sure on average, {right:.0%} right."]


def progress(lesson: str | int | None = None, days: int | None = None,
             minutes: int = 45) -> Progress | paths.View | study_plan.Plan:
    """Solved exercises, guesses and what to do next, for the course, for one lesson ("02") or for
    a path: "tour", "interview", "ship" or "everything".

    days, minutes: a study plan for that many days, with `minutes` a day, for a path (default:
    "interview"). Raises UserError for a lesson that does not exist, or days that cannot be planned.
    """
    names = _lessons()
    if days is not None and lesson is None:
        lesson = "interview"
    shown = None if lesson is None else str(lesson).zfill(2)
    if shown is not None and shown not in [*names, *paths.paths()]:
        raise UserError(f"no lesson is called {lesson!r}; expected a number from 00 to "
                        f"{max(names, default='00')}, or a path: {', '.join(paths.paths())}")
    store, now = cards.Store(), datetime.now(UTC)
    due = sum(card.due <= now for card in store.due().values())
    entries = progress_log.entries()
    if count := sum(map(is_foreign, entries)):
        messages.say_once(f"{count} of {len(entries)} lines of {machine.home() / 'progress.jsonl'} "
                          "are of another version of ftkit and do not count")
    found = Progress(lessons_in(entries, names), due, shown)
    if days is not None:
        return study_plan.Plan(found.on_path(str(shown)), store, days, minutes, now)
    return found.on_path(shown) if shown in paths.paths() else found


def _lessons() -> dict[str, str]:
    """Number of a lesson → its name, from the notebooks that travel with the package."""
    return {number: path.stem.partition("_")[2].replace("_", " ")
            for number, path in notebooks().items()}


def is_foreign(entry: dict) -> bool:
    """Whether this version cannot use the entry: no kind, or the check of an unknown exercise."""
    import ftkit.lessons.exercises  # noqa: F401  registers the checks of the lessons

    kind, name = entry.get("kind"), entry.get("name")
    return not isinstance(kind, str) or (kind == "check" and str(name) not in checks.EXERCISES)


def lessons_in(entries: list[dict], names: dict[str, str] | None = None) -> list[Lesson]:
    """The lessons as a learner's entries show them."""
    import ftkit.lessons.exercises  # noqa: F401  registers the checks of the lessons

    names = names or _lessons()
    solved = {str(entry.get("name")) for entry in entries
              if entry.get("kind") == "check" and entry.get("state") == "solved"}
    scored: dict[tuple[str, str], bool] = {}  # by lesson and question: the first result counts
    for entry in entries:
        if entry.get("kind") == "score" and isinstance(entry.get("right"), bool):
            lesson = number_of(str(entry.get("topic")))
            scored.setdefault((lesson, str(entry.get("question"))), entry["right"])
    exercises: dict[str, list[str]] = {number: [] for number in names}
    for name, check in checks.EXERCISES.items():
        if match := re.fullmatch(r"ftkit\.lessons\.exercises\.lesson_(\d\d\w?)", check.__module__):
            exercises.get(match[1], []).append(name)
    return [Lesson(number, name,
                   tuple(e for e in exercises[number] if e in solved),
                   tuple(e for e in exercises[number] if e not in solved),
                   sum(lesson == number for lesson, _ in scored),
                   sum(right for (lesson, _), right in scored.items() if lesson == number))
            for number, name in names.items()]
