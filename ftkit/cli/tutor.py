"""Tools for the learner's own AI assistant, by the Model Context Protocol (`ftkit mcp`).

    Tutor().hint("merge_weight")

A tool returns no solution of an exercise before the learner has solved it or has opened it with
`ft.solution`, and the next hint only after a failed `ft.check`. No tool runs code that it is given.
"""

import functools
import json
import subprocess
import sys

from ftkit.base.errors import UserError
from ftkit.data import schema
from ftkit.experiment import store
from ftkit.lessons import glossary, hints, progress_log
from ftkit.lessons.notebooks import notebooks

STEPS, MINUTES = 200, 10  # limits of a run that an assistant starts
TOOLS = ("lessons", "lesson", "verdict", "hint", "solution", "term", "cards", "runs", "start_run")


class Tutor:
    """The tools. Each public method returns text, and raises UserError for a wrong request."""

    def lessons(self) -> str:
        """List the lessons: number and name."""
        return "\n".join(path.stem for path in notebooks().values())

    def lesson(self, number: str, part: str = "") -> str:
        """Text and code of a lesson, such as 02; `part`: only cells that contain these words."""
        number = str(number).strip().lower()
        path = notebooks().get(number.zfill(3 if number[-1:].isalpha() else 2))
        if path is None:
            raise UserError(f"lesson is {number!r}; expected one of\n{self.lessons()}")
        cells = ["".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"]]
        return "\n\n".join(cell for cell in cells if part.lower() in cell.lower())[:20_000]

    def verdict(self, exercise: str) -> str:
        """What `ft.check` last said about the learner's own solution of an exercise."""
        checks = _entries(exercise, "check")
        return (f"{checks[-1].get('state')}: {checks[-1].get('message', '')}" if checks else
                f"{exercise} was not checked yet; the learner runs ft.check in the lesson")

    def hint(self, exercise: str) -> str:
        """The next of three hints; only after the learner's check failed since the last hint."""
        seen, entries = hints.shown(exercise), _entries(exercise, "check", "hint")
        if not entries or entries[-1]["kind"] == "hint" or entries[-1].get("state") != "wrong":
            return (f"{seen} of {hints.HINTS} hints were shown. The next is given after a failed "
                    "ft.check; ask the learner for an attempt first.")
        if seen >= hints.HINTS:
            return f"All {hints.HINTS} hints were shown; ft.solution is the next step."
        progress_log.add("hint", name=exercise, number=seen + 1)
        return f"Hint {seen + 1} of {hints.HINTS}: {hints.read_all()[exercise].hints[seen]}"

    def solution(self, exercise: str) -> str:
        """The solution, once the learner has solved the exercise or opened it with ft.solution."""
        if _entries(exercise, "solution") or any(
                entry.get("state") == "solved" for entry in _entries(exercise, "check")):
            return hints.read_all()[exercise].code
        return "Not yet: the learner solves it first, or opens it with ft.solution."

    def term(self, name: str) -> str:
        """A term of the glossary."""
        return repr(glossary.glossary(name))

    def cards(self, topic: str, n: int = 5) -> str:
        """Interview questions of a topic with their answers."""
        from ftkit.interview import cards

        return "\n\n".join(f"{card.front}\n{card.back}"
                           for card in cards.deck(topic=topic)[:max(1, min(n, 20))])

    def runs(self, id: str = "") -> str:
        """The newest 20 stored runs, or one of them by its id."""
        found = [store.load_run(id)] if id else store.list_runs(20)
        return "\n\n".join(f"{run.id}: {run}" for run in found) or "no run is stored yet"

    def start_run(self, data: str = "translation", method: str = "lora", max_steps: int = 60,
                  learning_rate: float = 0.0) -> str:
        """Train the embedded model on a sample; at most 200 steps. learning_rate 0: the default."""
        if data not in schema.sample_names():
            raise UserError(f"data is {data!r}; expected one of {', '.join(schema.sample_names())}")
        rate = ["--learning-rate", str(learning_rate)] if learning_rate else []
        words = ["run", "--data", data, "--method", method, "--max-steps",
                 str(max(1, min(max_steps, STEPS))), *rate, "--quiet"]
        try:
            done = subprocess.run([sys.executable, "-m", "ftkit", *words], encoding="utf-8",
                                  capture_output=True, stdin=subprocess.DEVNULL,
                                  timeout=60 * MINUTES)
        except subprocess.TimeoutExpired:
            raise UserError(f"the run took over {MINUTES} minutes; take fewer steps") from None
        if done.returncode:
            raise UserError(done.stderr.strip()[-500:])
        return done.stdout


def _entries(exercise: str, *kinds: str) -> list[dict]:
    """The learner's entries about an exercise. Raises UserError if it does not exist."""
    if exercise not in hints.read_all():
        raise UserError(f"no exercise is called {exercise!r}; expected one of "
                        f"{hints.suggestions(exercise, hints.read_all())}")
    return [entry for entry in progress_log.entries()
            if entry.get("name") == exercise and entry.get("kind") in kinds]


def serve():
    """Answer an assistant over stdin and stdout until it leaves."""
    try:
        from mcp.server import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
    except ImportError:
        raise UserError("`ftkit mcp` needs the package mcp, version 2.3 or newer. Run "
                        "`pip install 'ftkit[mcp]'`.") from None
    def readable(tool):
        @functools.wraps(tool)
        def call(*args, **options):
            try:
                return tool(*args, **options)
            except UserError as error:
                raise ToolError(str(error)) from None
        return call

    server, tutor = MCPServer("ftkit", instructions=__doc__), Tutor()
    for name in TOOLS:
        server.add_tool(readable(getattr(tutor, name)))
    server.run("stdio")
