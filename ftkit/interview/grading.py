"""Run the checks over a folder of learners' notebooks (`ftkit grade FOLDER`).

    grade("submitted")      plain files, or nbgrader's folders submitted/NAME/LESSON/FILE.ipynb

Of a notebook only imports, functions, classes and plain values are executed, and what it passes to
`ft.check`; its runs are not. Each notebook gets a process of its own, in an empty folder and home,
with limits on time and memory. That stops loops and mistakes, not an attack: grade files of
strangers in a container.
"""

import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from ftkit.base import files
from ftkit.base.errors import UserError
from ftkit.lessons import checks

SECONDS, PER_CHECK, GIGABYTES = 120, 20, 6  # of a notebook; of one check; of a notebook
KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


def grade(folder: str | Path, seconds: int = SECONDS) -> list[dict]:
    """One row a notebook: learner, file, what its exercises are (solved, wrong, unsolved), error.

    error: why the notebook could not be graded to its end, else "". Raises UserError for a folder
    without notebooks.
    """
    folder = files.at_home(folder)
    found = sorted(path for path in folder.rglob("*.ipynb")
                   if ".ipynb_checkpoints" not in path.parts)
    if not found:
        raise UserError(f"{folder} has no notebooks; expected files that end in .ipynb, in it or "
                        "in a folder for each learner")
    return [_row(folder, path, seconds) for path in found]


def _row(folder: Path, path: Path, seconds: int) -> dict:
    inside = path.relative_to(folder)
    parts = inside.parts[1:] if inside.parts[0] == "submitted" else inside.parts
    states, error = _in_process(path.resolve(), seconds)
    row = {"learner": parts[0] if len(parts) > 1 else path.stem, "file": str(inside)}
    return row | {state: [name for name, found in states.items() if found == state]
                  for state in ("solved", "wrong", "unsolved")} | {"error": error}


def _in_process(path: Path, seconds: int) -> tuple[dict[str, str], str]:
    """Exercise → state, and why the process ended before its end."""
    with tempfile.TemporaryDirectory(prefix="ftkit-grade-", ignore_cleanup_errors=True) as work:
        result = Path(work) / "result.json"
        home = {"FTKIT_HOME": f"{work}/home", "HOME": work}
        paths = os.pathsep.join(filter(None, sys.path))
        try:
            done = subprocess.run([sys.executable, "-m", __name__, str(path), str(result)],
                                  cwd=work, env=os.environ | home | {"PYTHONPATH": paths},
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            error = ""
            if done.returncode:
                error = "".join(last) or f"ended by signal {-done.returncode}"
        except subprocess.TimeoutExpired:
            error = f"took more than {seconds} s, and was ended"
        return json.loads(result.read_text("utf-8")) if result.exists() else {}, error


# ------------------------------------------------------------------- in the process of a notebook


def _limit():
    try:
        import resource
    except ImportError:  # not on Windows
        return
    for limit, size in ((resource.RLIMIT_DATA, GIGABYTES * 2**30),
                        (resource.RLIMIT_FSIZE, 100 * 2**20)):
        resource.setrlimit(limit, (size, size))


def _too_long(number, frame):
    raise TimeoutError(f"no result within {PER_CHECK} s")


def states_of(path: Path, write=lambda states: None) -> dict[str, str]:
    """Exercise → state of the notebook's last `ft.check`. write: called after each."""
    names: dict = {"__name__": "notebook"}
    states: dict[str, str] = {}
    alarm = getattr(signal, "alarm", lambda seconds: None)  # not on Windows
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _too_long)
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        for statement in _statements(cell):
            alarm(PER_CHECK)
            try:
                if isinstance(statement, tuple):
                    name, candidate = statement
                    value = eval(compile(ast.Expression(candidate), str(path), "eval"), names)
                    states[name] = checks.check(name, value).state
                else:
                    exec(compile(ast.Module([statement], []), str(path), "exec"), names)
            except Exception as error:  # noqa: BLE001  a learner's line may raise anything
                if isinstance(statement, tuple):
                    states[statement[0]] = "wrong"
                print(f"{type(error).__name__}: {error}")
            finally:
                alarm(0)
            write(states)
    return states


def _statements(cell: dict):
    """The definitions of a code cell, and (exercise, expression) for each `ft.check`."""
    try:
        body = ast.parse("".join(cell["source"])).body if cell["cell_type"] == "code" else []
    except SyntaxError:  # magics, or a cell that is not finished
        return
    for node in body:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "ft.check" and (
                len(call.args) == 2 and isinstance(call.args[0], ast.Constant)):
            yield str(call.args[0].value), call.args[1]
        elif isinstance(node, KEPT) or _is_plain(node):
            yield node


def _is_plain(node) -> bool:
    """Whether this assigns a literal, such as SEEDS = 5."""
    try:
        return isinstance(node, ast.Assign) and (ast.literal_eval(node.value), True)[1]
    except ValueError:
        return False


if __name__ == "__main__":
    _limit()
    states_of(Path(sys.argv[1]), lambda states: Path(sys.argv[2]).write_text(json.dumps(states)))
