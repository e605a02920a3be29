"""Try ftkit on this machine and print one line for docs/MACHINES.md: `python tests/try_machine.py`.

It runs what a new user runs: the doctor, a check of data, a fine-tune of the embedded model,
JupyterLab, and lesson 00 (with nbval where that is installed, else with nbconvert). Exit status 1
if something failed.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path

LESSON = "00_start_here.ipynb"


def module(*words, folder: str) -> str:
    """Run `python -m ...` and return what it prints."""
    env = os.environ | {"FTKIT_HOME": folder, "PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=env,
                          capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)
    if done.returncode:
        said = done.stdout[-300:] + done.stderr[-300:]
        raise RuntimeError(f"{' '.join(words)}: {said.strip()}")
    return done.stdout


def open_lab(folder: str):
    """Start JupyterLab on a copy of the lessons, and end it when it names its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ftkit", "lab", "lessons", "--no-browser"], cwd=folder,
        env=os.environ | {"FTKIT_HOME": folder, "PYTHONUTF8": "1"}, encoding="utf-8",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    timer = threading.Timer(180, process.kill)
    timer.start()
    try:
        said = []
        for line in process.stdout or ():
            said.append(line)
            if "http://" in line:
                return
        raise RuntimeError(f"ftkit lab: {''.join(said)[-300:]}")
    finally:
        timer.cancel()
        process.terminate()
        process.wait()


def run_lesson(folder: str):
    path = str(Path(folder) / "lessons" / LESSON)
    if find_spec("nbval"):
        module("pytest", "-q", "--nbval-lax", "-p", "no:cacheprovider", path, folder=folder)
    else:
        module("jupyter", "nbconvert", "--to", "notebook", "--execute", path, folder=folder)


def main() -> int:
    seen, result = {}, "works"
    with tempfile.TemporaryDirectory() as folder:
        try:
            seen = json.loads(module("ftkit", "run", "--data", "translation", "--max-steps", "60",
                                     "--json", "--quiet", folder=folder))
            if not seen["after"]["val_loss"] < seen["before"]["val_loss"]:
                result = "val_loss does not fall"
            module("ftkit", "check", "translation", folder=folder)
            json.loads(module("ftkit", "doctor", "--json", folder=folder))
            open_lab(folder)
            run_lesson(folder)
        except (RuntimeError, KeyError, ValueError) as error:
            result = f"fails: {' '.join(str(error).split())}"
    machine, versions = seen.get("machine", {}), seen.get("versions", {})
    print(f"| {platform.system()} {platform.release().split('-')[0]} {platform.machine()} | "
          f"{machine.get('name', '?')}, {machine.get('device', '?')} | "
          f"Python {platform.python_version()}, torch {versions.get('torch', '?')} | "
          f"{result} | {datetime.date.today()} |")
    return result != "works"


if __name__ == "__main__":
    sys.exit(main())
