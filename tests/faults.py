"""Let every write to the disk fail, and kill the process before every write.

    LD_PRELOAD=faults.so python tests/faults.py EVERY [SCENARIO...]

The writes of each scenario are counted in a first pass, so a write that is new is tried as well.
EVERY: 1 tries each of them with ENOSPC, EIO, EACCES and a kill; 7 takes every seventh of these.
Prints JSON: the numbers, what went wrong, and the functions of ftkit that wrote.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import errno
import io
import json
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

KINDS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "kill": 0}
RUN = ("--probe", "none", "--max-steps", "2", "--save-steps", "1", "--method", "lora", "--r", "2",
       "--max-length", "32", "--batch-size", "2", "--eval-steps", "9", "--quiet")
STEPS = dict(method="lora", r=2, max_steps=3, max_length=32, batch_size=2, eval_steps=9)
FTKIT = str(Path(__file__).parent.parent / "ftkit")
LIBC = ctypes.CDLL(None)


def ftkit(*words) -> int:
    from ftkit.cli import main

    return main.main([str(word) for word in words])


def reported(work) -> int:
    """The status with which the command line would end."""
    from ftkit.cli import main

    try:
        work()
    except Exception as error:  # noqa: BLE001
        return main._report_error(error, argparse.Namespace())  # noqa: SLF001
    return 0


# -------------------------------------------------------------- scenarios: place → exit status


def run(place):
    return ftkit("run", "--data", place / "data.jsonl", "--out", place / "out", *RUN)


def interrupted(place):
    import ftkit as ft
    from ftkit.experiment import store

    def on_row(row):
        if row["step"] == 2:
            raise KeyboardInterrupt

    def work():
        made = ft.Experiment(data=str(place / "data.jsonl"), probes=()).run(
            **STEPS, save_steps=1, on_row=on_row)
        print(*made.notes, sep="\n")
        print(f"Stored as run {made.id}" if store.holds(made) else "")
    return reported(work)


def resume(place):
    return ftkit("run", "--resume", (place / "part").read_text(), "--out", place / "out", "--quiet")


def export(place):
    return ftkit("export", place / "adapter", place / "out")


def gguf(place):
    return ftkit("export", place / "adapter", place / "out-gguf")


def torchrun(place):
    return ftkit("run", "--data", place / "data.jsonl", "--torchrun", place / "out", *RUN[:4],
                 *RUN[6:])


def convert(place):
    return ftkit("convert", place / "data.jsonl", place / "out.jsonl")


def lab(place):
    from ftkit.base import machine
    from ftkit.cli import jupyterlab

    machine.share = lambda name: place / "shipped"
    return reported(lambda: print(jupyterlab.report(*jupyterlab.copy_lessons(place / "lessons"))))


def drill(place):
    from ftkit.interview import terminal
    from ftkit.lessons import progress_log

    progress_log.add("score", topic="01", question="q", right=True)
    return reported(lambda: terminal.drill(new=2, ask=typed("x", "3", "x", "3", "q")))


# What a prompt of the mock interview contains, and the reply; Enter to all others.
REPLIES = {"an empty line ends": "x", "y/n": "n", "g gives up": "g"}


def interview(place):
    from ftkit.interview import mock_terminal

    return reported(lambda: mock_terminal.interview(
        questions=1, rounds="concept,coding", ask=lambda prompt: next(
            (reply for part, reply in REPLIES.items() if part in prompt), "")))


def partner(place):
    from ftkit.interview.mock import Talk

    return reported(lambda: print(Talk(questions=1, rounds="concept", partner=True).sheet()))


def typed(*lines):
    left = list(lines)

    def ask(*_, **__):
        if not left:
            raise EOFError
        return left.pop(0)
    return ask


def sheets(place):
    return ftkit("drill", "--export", place / "cards.csv") or ftkit(
        "drill", "--export", place / "cards.json")


def page(place):
    return ftkit("runs", (place / "whole").read_text(), "--report", place / "page.md")


def memory(place):
    return ftkit("memory", "--model", "tiny", "--batch-size", "1", "--max-length", "16")


def panel(place):
    """What the panel does to the store, and the model of an older run that goes to the disk."""
    import torch

    from ftkit.experiment import annotations, shelf, store

    def work():
        id = store.ids()[0]
        annotations.change(id, name="best")
        store.delete([id])
        store.restore([id])
        shelf.Held(torch.nn.Linear(1, 1)).write()
        store.add(store.load_run(id))
    return reported(work)


SCENARIOS = {each.__name__: each for each in (
    run, interrupted, resume, export, gguf, torchrun, convert, lab, drill, interview, partner,
    sheets, page, memory, panel)}


# ------------------------------------------------------------------------------ one trial


def prepare(place: Path):
    """What a learner has: data, a finished and an interrupted run, an adapter, lessons."""
    import ftkit as ft
    from ftkit.base import machine
    from ftkit.lessons import progress_log

    (place / "data.jsonl").write_text("".join(json.dumps(
        {"instruction": f"Name {n}.", "input": "", "output": f"number {n}"}) + "\n"
        for n in range(8)))
    lab = ft.Experiment(data=str(place / "data.jsonl"), probes=())
    lab.run(**STEPS | {"max_steps": 2}, out=place / "adapter")

    def stop(row):
        if row["step"] == 2:
            raise KeyboardInterrupt
    part = lab.run(**STEPS, save_steps=0, on_row=stop)
    whole = lab.run(**STEPS)
    (place / "part").write_text(part.id), (place / "whole").write_text(whole.id)
    (place / "shipped").mkdir(), (place / "lessons").mkdir()
    for path in sorted(machine.share("notebooks").glob("*.ipynb"))[:3]:
        shutil.copy(path, place / "shipped")
    (place / "lessons" / path.name).write_text("{}")  # changed by the learner
    progress_log.add("check", name="lora_params", state="solved")


def forked(work, place: Path, under: Path | None = None, n: int = -1, error: int = 0):
    """Run `work(place)` in a fork that is killed or fails in its n-th write below `under`; returns
    (status, stdout, stderr). The status of a kill is -9, of an exception 99."""
    streams = [tempfile.TemporaryFile("w+") for _ in range(2)]
    child = os.fork()
    if child == 0:
        status = 99
        try:
            for number, stream in enumerate(streams, 1):
                os.dup2(stream.fileno(), number)
            sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(
                n, "wb", 0, closefd=False), write_through=True) for n in (1, 2))
            os.environ["FTKIT_HOME"] = str(place / "home")
            if under:
                LIBC.begin(str(under).encode(), n, error)
            status = work(place) or 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = []
    for stream in streams:
        stream.seek(0)
        texts.append(stream.read())
        stream.close()
    return status, *texts


def recorded(work):
    """`work`, after which the writes and the functions of ftkit that made them are printed."""
    seen = set()

    def hook(event, args):
        if event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod",
                     "shutil.rmtree", "shutil.copyfile") or (
                event == "open" and isinstance(args[2], int) and args[2] & (
                    os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            frame = sys._getframe()  # noqa: SLF001
            while frame := frame.f_back:
                code = frame.f_code
                if code.co_filename.startswith(FTKIT):
                    seen.add((code.co_filename.removeprefix(FTKIT + "/"), code.co_name))

    def both(place):
        sys.addaudithook(hook)
        status = work(place)
        calls = ctypes.cast(LIBC.calls, ctypes.CFUNCTYPE(ctypes.c_char_p))().decode()
        (place.parent / "recorded").write_text(json.dumps([calls.splitlines(), sorted(seen)]))
        return status
    return both


def look(place: Path):
    """What is in a home after a trial, as JSON: runs that continue end as if nothing had been."""
    from ftkit.base.errors import UserError
    from ftkit.experiment import checkpoints, store
    from ftkit.experiment.experiment import Experiment
    from ftkit.lessons import progress_log

    found = {}
    for kept in store.list_runs():
        losses, why = [row["loss"] for row in kept.rows], ""
        if not kept.is_finished:
            try:
                again = Experiment(**checkpoints.source_of(kept.id)).resume(kept.id, live=False)
                losses = [row["loss"] for row in again.rows]
            except UserError as error:
                why = str(error)
        found[kept.id] = [kept.is_finished, losses, why]
    json.dump([found, len(progress_log.entries())], sys.__stdout__)


def files(folder: Path) -> dict:
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()} if folder.exists() else {}


def problems(name, kind, place, status, out, err, good):
    """What is wrong after a trial. good: (status, losses of a whole run by steps, files of out)."""
    known = {(place / id).read_text() for id in ("part", "whole")}
    ended, text, trace = forked(look, place)
    if ended:
        yield "the home cannot be read: " + trace
        return
    runs, entries = json.loads(text)
    said = out + err
    if "Traceback" in said or status not in (0, 2, -9):
        yield f"status {status}"
    if status == 2 and "ftkit: " not in err:
        yield "no sentence"
    if not known <= runs.keys() or not entries:
        yield "something that was finished is lost"
    for id, (finished, losses, why) in runs.items():
        if losses != good[1].get(len(losses)) and not ("cannot be rebuilt" in why or (
                "not being stored" in said and "are damaged" in why)):
            yield f"run {id} has other losses: {losses} {why}"
        if f"Stored as run {id}" in out and name == "run" and not finished:
            yield "it says stored and is not"
    if "Stored as run" in out and out.split("Stored as run ")[1].split()[0] not in runs:
        yield "it says stored and is not there"
    yield from problems_outside(name, kind, place, status, set(good[2]))
    if name in ("run", "interrupted") and status == 0 and (
            "Stored as run" not in out and "not being stored" not in said):
        yield "not stored, without a word"


def problems_outside(name, kind, place, status, whole: set):
    """What is wrong outside of the home. whole: names of the files of a whole --out."""
    got = files(place / "out")
    if status == 0 and set(got) != whole:
        yield f"--out is not whole: {whole - set(got)}"
    if status == 2 and got:
        yield "parts are left in --out"
    if (place / "lessons" / max(os.listdir(place / "shipped"))).read_text() != "{}":
        yield "a lesson of the learner is overwritten"
    left = [path for path in place.rglob("*") if path.name.endswith((".part", ".unfinished"))
            or path.name.startswith(".new-")]
    if left and kind != "kill":
        yield f"left behind: {left}"
    if name in ("export", "lab", "convert", "drill") and kind == "kill":
        done = got or (place / "out.jsonl").exists()  # complete, so its place is taken
        again = forked(SCENARIOS[name], place)
        if again[0] != (2 if done and name in ("export", "convert") else 0):
            yield f"again: {again}"


def main(every: int, names: list[str]):
    import bitsandbytes  # noqa: F401  before the forks
    import peft  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import ftkit.cli.main  # noqa: F401
    import ftkit.experiment.training
    import ftkit.interview.mock_terminal  # noqa: F401

    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="ftkit-faults-"))
    first, place = root / "first", root / "place"
    first.mkdir()
    os.environ["FTKIT_HOME"] = str(first / "home")
    status, _, trace = forked(lambda at: prepare(at), first)
    assert status == 0, trace
    counts, wrong, wrote, number = collections.Counter(), [], set(), 0
    for name in names or SCENARIOS:
        def trial(work, n=-1, error=0, name=name):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(first, place)
            data = place / "home"  # the records are known by their content, sources by their path
            for source in data.rglob("source.json"):
                source.write_text(source.read_text().replace(str(first), str(place)))
            return forked(work, place, place, n, error)

        status, out, err = trial(recorded(SCENARIOS[name]))
        assert status == 0, (name, out, err)
        calls, functions = json.loads((root / "recorded").read_text())
        wrote |= {tuple(each) for each in functions}
        counts[f"writes of {name}"] = len(calls)
        got = files(place / "out")
        ended, text, trace = forked(look, place)
        losses = {len(each[1]): each[1] for each in json.loads(text)[0].values()}
        for n, call in enumerate(calls, 1):
            for kind, error in KINDS.items():
                number += 1
                if number % every:
                    continue
                status, out, err = trial(SCENARIOS[name], n, error)
                counts[kind] += 1
                counts[f"{kind}: status {status}"] += 1
                wrong += [[name, n, call, kind, what, err[-300:]] for what in problems(
                    name, kind, place, status, out, err, (0, losses, got))]
    shutil.rmtree(root, ignore_errors=True)
    print(json.dumps({"counts": counts, "wrong": wrong, "wrote": sorted(wrote)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
