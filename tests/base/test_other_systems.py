"""What Windows and macOS do not have is not needed: each difference, on a faked platform."""

import importlib.util
import io
import json
import os
import re
import signal
import sys
import types

import pytest
from helpers import ROOT

pytestmark = pytest.mark.quick


@pytest.fixture
def windows(monkeypatch):
    """Modules and functions that CPython on Windows does not have."""
    for name in ("fcntl", "resource", "pwd", "grp", "termios"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("sched_getaffinity", "fork", "getuid", "killpg", "getloadavg"):
        monkeypatch.delattr(os, name, raising=False)
    for name in ("SIGKILL", "SIGHUP", "SIGUSR1"):
        monkeypatch.delattr(signal, name, raising=False)


def test_progress_is_kept_without_file_locks(windows, home):
    from ftkit.lessons import progress_log

    for number in range(3):
        progress_log.add("check", name="é→", number=number)
    assert [entry["number"] for entry in progress_log.entries()] == [0, 1, 2]
    assert progress_log.entries()[0]["name"] == "é→"


def test_free_memory_and_cores_are_known_without_ulimit_and_affinity(windows):
    from ftkit.base import free_memory, machine

    assert free_memory._left_by_ulimit() == [] and machine.cores() >= 1


def test_no_file_is_opened_in_the_encoding_of_the_system():
    """Windows still has others than UTF-8."""
    text_mode = re.compile(r"(?<![\w.])open\((?![^)]*(?:encoding|b[+\"']|devnull))[^)]*\)"
                           r"|\.(?:read|write)_text\(\s*\)")
    for path in sorted((ROOT / "ftkit").rglob("*.py")):
        found = [call for call in text_mode.findall(path.read_text("utf-8")) if "self" not in call]
        assert not found, (path, found)


def test_a_console_without_arrows_and_accents_gets_question_marks(monkeypatch, home):
    from ftkit.cli import main

    console = io.TextIOWrapper(io.BytesIO(), encoding="cp437", errors="strict")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    status = main.main(["check", str(ROOT / "data_samples" / "translation.test.jsonl")])
    console.flush()
    assert status == 0 and b"rows" in console.buffer.getvalue()


def install_cells() -> set[str]:
    notebooks = sorted((ROOT / "notebooks").glob("[0-9][0-9]*_*.ipynb"))
    cells = [json.loads(path.read_text("utf-8"))["cells"][1] for path in notebooks]
    assert len(cells) == 26 and all(cell["id"] == "install" for cell in cells)
    return {"".join(cell["source"]) for cell in cells}


def test_the_first_cell_of_a_lesson_installs_a_wheel_only_where_ftkit_is_not(monkeypatch):
    (code,) = install_cells()
    exec(code, {})  # ftkit is here: nothing happens, not even a look at IPython
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("FTKIT_WHEEL", raising=False)
    with pytest.raises(RuntimeError, match="FTKIT_WHEEL"):
        exec(code, {})
    monkeypatch.setenv("FTKIT_WHEEL", "/drive/ftkit-0.3.0-py3-none-any.whl")
    asked = []
    shell = types.SimpleNamespace(run_line_magic=lambda *words: asked.append(words))
    exec(code, {"get_ipython": lambda: shell})
    assert asked == [("pip", "install -q '/drive/ftkit-0.3.0-py3-none-any.whl'")]
