"""The coding round of the mock interview: exercises of the lessons, and tasks of interviews.

    task = task("merge_weight"); task.statement; task.stub; task.solution
    run(task.name, "def merge_weight(W, A, B, r, lora_alpha): ...")     # (solved, message)

A candidate's code runs in a process of its own, so that an endless loop ends with the time limit.
"""

import functools
import json
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

from ftkit.base.errors import UserError
from ftkit.interview import bank
from ftkit.lessons import checks, hints
from ftkit.lessons.exercises import interview
from ftkit.lessons.notebooks import notebooks

SECONDS = 120  # time limit for a candidate's code, importing torch included
GIVEN = "import math\n\nimport torch\n"  # imported before the candidate's code, as in a lesson
IMPORTED = "math and torch are imported."


class CodingTask(NamedTuple):
    """statement: the text of the exercise; stub: the function to write; lesson: its number."""

    name: str
    lesson: str
    statement: str
    stub: str
    solution: str


def statements() -> dict[str, str]:
    """Map each task to an interviewer's question; the stub's docstring gives the shapes."""
    return {name: line["prompt"] for name, line in bank.prepared("coding").items()} | {
        name: task.prompt for name, task in interview.tasks().items()}


def of_level(level: bank.Names = None) -> list[str]:
    """The tasks of these levels, by default all; exercises of the lessons are junior and mid."""
    levels = bank.names("level", level, bank.LEVELS)
    own = interview.tasks()
    return [name for name in statements() if (own[name].level if name in own else "mid") in levels
            or (name not in own and "junior" in levels)]


@functools.cache
def tasks() -> dict[str, CodingTask]:
    """Map the name of each coding task to the task. The stub of a lesson's exercise is read from
    its notebook; a task written for interviews has its own."""
    asked, solutions = statements(), hints.read_all()
    found = {name: CodingTask(name, "21", task.prompt, task.stub, solutions[name].code)
             for name, task in interview.tasks().items()}
    for number, path in notebooks().items():
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            source = "".join(cell["source"])
            for name in re.findall(r"ft\.check\(\s*[\"'](\w+)", source):
                if name in asked and cell["cell_type"] == "code":
                    stub = re.sub(r"\n+(\w+ = )?ft\.check\(.*", "\n", source, flags=re.DOTALL)
                    found[name] = CodingTask(name, number, asked[name], stub,
                                             solutions[name].code)
    return {name: found[name] for name in asked}


def run(name: str, code: str, seconds: float = SECONDS) -> tuple[bool, str]:
    """Run and check a candidate's code in a new process. Returns (solved, message).

    Raises UserError for an exercise that is not in the coding round.
    """
    if name not in statements():
        raise UserError(f"{name!r} is not an exercise of the coding round; expected one of "
                        f"{hints.suggestions(name, statements())}")
    if wrong := syntax_error(code):
        return False, wrong  # at once: the process would load torch first
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.py"
        file.write_text(code, encoding="utf-8")
        try:
            done = subprocess.run([sys.executable, "-m", "ftkit.interview.coding", name, str(file)],
                                  capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return False, f"it did not end within {seconds:g} seconds; is there an endless loop?"
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        state, message = json.loads(last)
    except ValueError:
        return False, (done.stderr.strip().splitlines() or ["the process ended early"])[-1]
    return state == "solved", message


def syntax_error(code: str) -> str:
    """The first syntax error of this code, with its line; empty if it has none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(code, "your code", "exec")
    except SyntaxError as error:
        line = (error.text or "").strip()
        return f"line {error.lineno} is not Python: {error.msg}" + (f": {line}" if line else "")
    except (ValueError, RecursionError, MemoryError) as error:  # a NUL; nested too deeply
        return f"this is not Python: {error}"
    return ""


def judge(name: str, file: str) -> tuple[str, str]:
    """(state, message) of the function `name` in a file, as `ft.check` gives them."""
    space: dict = {"__name__": "candidate"}
    try:
        exec(GIVEN, space)
        exec(compile(Path(file).read_text("utf-8"), file, "exec"), space)
    except Exception as error:  # noqa: BLE001  the candidate's code may raise anything
        return "wrong", f"running the file raised {type(error).__name__}: {error}"
    if name not in space:
        return "wrong", f"the file defines no {name}"
    verdict = checks.check(name, space[name])
    return verdict.state, verdict.text


if __name__ == "__main__":
    print(json.dumps(judge(*sys.argv[1:3])))
