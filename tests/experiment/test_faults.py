"""A write that fails, and a kill before it, lose nothing that was finished and are said."""

import ast
import json
import os
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT

# Functions that write and that no scenario calls, each with where they are tried or why not.
ELSEWHERE = {
    "model/download.py": "needs a network: tests/model/test_download.py fills a disk",
    "distributed/train_script.py": "on each rank, into a temporary folder",
    "distributed/launch.py start": "the output of ranks, in a temporary folder",
    "distributed/launch.py train": "a temporary folder",
    "experiment/trackers.py": "TensorBoard and trackio write their own logs",
    "experiment/trainer_callback.py": "drawing is guarded by `Live.safely`",
    "experiment/cluster.py": "a worker stores nothing",
    "interview/coding.py": "code of a candidate, in a temporary folder",
    "interview/grading.py": "code of learners, in a temporary folder",
    "interview/cheat_sheet.py": "the proofs take minutes; written as `sheets` is",
    "evaluate/pairwise.py": "tests/evaluate/test_pairwise.py has the warning",
    "cli/main.py main": "opens the null device",
    "experiment/store.py discard": "removes a run that never began",
    "experiment/saving.py _save_elsewhere": "tests/experiment/test_resume.py takes --out away",
    "experiment/store.py _append": "its writes are counted, but only an open is seen here",
    "notebook/to_script.py export": "writes a script as `torchrun` does",
    "report/style.py": "pictures in memory, or where the caller says",
}
WRITES = {"write_text", "write_bytes", "mkdir", "makedirs", "rmdir", "unlink", "remove", "rename",
          "rmtree", "copytree", "copyfile", "copy2", "save_pretrained", "save_file", "savefig",
          "TemporaryFile", "TemporaryDirectory", "mkdtemp", "NamedTemporaryFile", "write_whole",
          "chmod", "truncate", "fsync"}


def is_write(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = getattr(getattr(call.func, "value", None), "id", "")
    texts = [str(n.value) for n in [*call.args, *(k.value for k in call.keywords)]
             if isinstance(n, ast.Constant)]
    return (name in WRITES - {"remove"} or (name == "remove" and owner == "os")
            or (name == "replace" and (owner == "os" or (len(call.args) == 1 and not call.keywords
                                                          and owner != "dataclasses")))
            or (name == "append" and owner == "append_log") or (name == "save" and owner in (
                "torch", "loading")) or (name == "copy" and owner == "shutil")
            or (name == "open" and any(set(text) <= set("wax+b") and text != "b"
                                       for text in texts if text)))


def writers() -> set[tuple[str, str]]:
    """(file, function) of every call in the package that writes to the disk."""
    found = set()

    def visit(node, file, function):
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.Call) and is_write(node):
            found.add((file, function))
        for child in ast.iter_child_nodes(node):
            visit(child, file, function)

    for path in sorted((ROOT / "ftkit").rglob("*.py")):
        visit(ast.parse(path.read_text("utf-8")), path.relative_to(ROOT / "ftkit").as_posix(), "")
    return found


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """Runs tests/faults.py and returns what it printed."""
    if not (sys.platform == "linux" and shutil.which("cc")):
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run(["cc", "-w", "-O2", "-shared", "-fPIC", ROOT / "tests" / "faults.c", "-o",
                    library, "-ldl"], check=True)

    def call(*words):
        done = subprocess.run([sys.executable, ROOT / "tests" / "faults.py", *map(str, words)],
                              env=os.environ | {"LD_PRELOAD": str(library)}, cwd=ROOT, text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return call


def test_a_sample_of_writes_that_fail_and_every_function_that_writes_is_tried(faults):
    made = faults(199)
    assert made["wrong"] == [] and made["counts"]["kill"]
    tried = {tuple(each) for each in made["wrote"]}
    new = {(file, function) for file, function in writers() - tried
           if not {file, f"{file} {function}"} & ELSEWHERE.keys()}
    assert not new, "give tests/faults.py a scenario in which these write"


@pytest.mark.seeds
@pytest.mark.timeout(7200)
def test_every_write_that_fails_and_every_kill_between_two_writes(faults):
    made = faults(1)
    print(made["counts"])
    assert made["wrong"] == []
