"""For teachers: a plan of a course and a page about a class.

    python notebooks/make_class.py plan --parts 6              a path in six parts, as a table
    python notebooks/make_class.py page class/ --out class.html    from progress.jsonl files

The plan divides a path of `ftkit/interview/course.jsonl` in its order, with as few minutes as can
be in its longest part. The page reads FOLDER/NAME/progress.jsonl or FOLDER/NAME.jsonl, and says of
each file that it cannot use why.
"""

from __future__ import annotations

import argparse
import collections
import html
import sys
from pathlib import Path

from ftkit.base import files, json_lines
from ftkit.base.errors import UserError
from ftkit.interview import bank, paths, progress
from ftkit.lessons import checks


def parts_of(name: str, parts: int) -> list[list[paths.Step]]:
    """The lessons of a path in consecutive parts. Raises UserError for more parts than lessons."""
    lessons = paths.lessons_of(name)
    if not 1 <= parts <= len(lessons):
        raise UserError(f"parts is {parts}; expected 1 to {len(lessons)}, the lessons of {name}")
    # longest[k][n]: the least possible longest part when n lessons make k parts, and the last cut
    longest = [{0: (0, 0)}]
    for _ in range(parts):
        before = longest[-1]
        longest.append({n: min((max(before[cut][0], _minutes(lessons[cut:n])), cut)
                               for cut in before if cut < n)
                        for n in range(1, len(lessons) + 1) if any(cut < n for cut in before)})
    found, end = [], len(lessons)
    for k in range(parts, 0, -1):
        cut = longest[k][end][1]
        found.insert(0, lessons[cut:end])
        end = cut
    return found


def _minutes(lessons: list[paths.Step]) -> int:
    return sum(step.minutes for step in lessons)


def plan(name: str, parts: int, called: str = "part") -> str:
    """The parts of a path as a Markdown table, with the interview cards of their lessons."""
    cards = collections.Counter(question.lesson for question in bank.everything())
    rows = [f"| {called} | lessons | minutes | cards |", "|---:|---|---:|---:|"]
    for number, lessons in enumerate(parts_of(name, parts), start=1):
        rows.append(f"| {number} | {', '.join(step.lesson for step in lessons)} | "
                    f"{_minutes(lessons)} | {sum(cards[step.lesson] for step in lessons)} |")
    return "\n".join(rows)


def read(folder: str | Path) -> tuple[dict[str, list[dict]], list[str]]:
    """Learner → entries, and a sentence for each file that is not, or not wholly, counted.

    Raises UserError for a folder without such files.
    """
    folder = files.at_home(folder)
    found = sorted(folder.rglob("*.jsonl"))
    if not found:
        raise UserError(f"{folder} has no progress files; expected NAME/progress.jsonl or "
                        "NAME.jsonl, one for each learner")
    learners, left_out = {}, []
    for path in found:
        lines = json_lines.parse(path.read_bytes())
        used = [entry for entry in lines if entry is not None and not progress.is_foreign(entry)]
        name = path.parent.name if path.stem == "progress" else path.stem
        if not used:
            left_out.append(f"{path.relative_to(folder)} holds nothing that this version of ftkit "
                            "wrote; expected the learner's progress.jsonl. It does not count.")
        elif name in learners:
            left_out.append(f"{path.relative_to(folder)} is a second file of {name}. It does not "
                            "count.")
        else:
            learners[name] = used
            if count := len(lines) - len(used):
                left_out.append(f"{path.relative_to(folder)}: {count} of {len(lines)} lines are "
                                "damaged or of another version of ftkit, and do not count.")
    return learners, left_out


def rows_of(learners: dict[str, list[dict]]) -> tuple[list[dict], list[dict]]:
    """Two tables: one row a learner, and one row an exercise that somebody has tried."""
    people, exercises = [], collections.defaultdict(lambda: collections.defaultdict(set))
    for name, entries in learners.items():
        lessons = progress.lessons_in(entries)
        guesses = sum(one.guesses for one in lessons)
        people.append({
            "learner": name, "lessons done": sum(one.done for one in lessons),
            "exercises solved": sum(len(one.solved) for one in lessons),
            "guesses right": f"{sum(one.right for one in lessons)} of {guesses}",
            "hints": sum(entry["kind"] == "hint" for entry in entries),
            "solutions shown": len({str(entry.get("name")) for entry in entries
                                    if entry["kind"] == "solution"}),
            "last": str(max(str(entry.get("time", "")) for entry in entries))[:10]})
        for entry in entries:
            exercise = str(entry.get("name"))
            kind = entry.get("state") if entry["kind"] == "check" else entry["kind"]
            if exercise in checks.EXERCISES and kind in ("solved", "wrong", "hint", "solution"):
                exercises[exercise][kind].add(name)
    tried = [{"exercise": exercise, "solved by": len(by["solved"]),
              "not yet": len(by["wrong"] - by["solved"]), "asked for a hint": len(by["hint"]),
              "saw the solution": len(by["solution"])} for exercise, by in exercises.items()]
    return people, sorted(tried, key=lambda row: (-row["not yet"], -row["saw the solution"]))


def page(folder: str | Path) -> str:
    """The page of a class, as HTML without scripts."""
    learners, left_out = read(folder)
    people, tried = rows_of(learners)
    return ('<!doctype html><html lang="en"><meta charset="utf-8"><title>Class</title><style>'
            "body{font:16px/1.5 system-ui,sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:"
            f"left}}</style><h1>Class</h1><p>{len(people)} learners.</p>{_table(people)}"
            f"<h2>Exercises, the hardest first</h2>{_table(tried)}"
            + "".join(f"<p>{html.escape(sentence)}</p>" for sentence in left_out) + "</html>\n")


def _table(rows: list[dict]) -> str:
    if not rows:
        return "<p>None yet.</p>"
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row.values())
                   + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def main(words: list[str] | None = None):
    parser = argparse.ArgumentParser(description="A plan of a course, or a page about a class.")
    commands = parser.add_subparsers(dest="command", required=True)
    planned = commands.add_parser("plan", help="a path in parts, as a Markdown table")
    planned.add_argument("--path", default="everything", help="of course.jsonl")
    planned.add_argument("--parts", type=int, default=6)
    planned.add_argument("--called", default="week", help="what a part is called")
    shown = commands.add_parser("page", help="a page from the progress files of a class")
    shown.add_argument("folder", type=Path)
    shown.add_argument("--out", type=Path, default=Path("class.html"))
    given = parser.parse_args(words)
    try:
        if given.command == "plan":
            print(plan(given.path, given.parts, given.called))
        else:
            given.out.write_text(page(given.folder), "utf-8")
            print(given.out)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
