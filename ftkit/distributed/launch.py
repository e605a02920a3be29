"""Train on real ranks, N processes with sharded states on this machine, and measure the memory and
traffic of each; or export the run as a script for `torchrun` on any machines.

    two = launch.train(lab, config, ranks=2, zero=3)      # a RankRun: bytes, traffic, curve
    launch.train(lab, config, ranks=2, zero=(0, 1, 2, 3)) # stage → RankRun, one launch for all
    launch.export(lab, config, "my-run")                  # then: torchrun ... my-run/train.py

Each rank runs `train_script.py`, which is also the exported script and does not need ftkit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ftkit.base import files, free_memory, machine, ports
from ftkit.base.config import Config
from ftkit.base.config_fields import fields_of, given, without_effect
from ftkit.base.errors import UserError
from ftkit.base.formatting import gb, to_html
from ftkit.base.run_end import End
from ftkit.distributed import zero_simulator
from ftkit.experiment import export_folder, run
from ftkit.memory_use import formula
from ftkit.report.table import Table, table

SCRIPT = machine.package() / "distributed" / "train_script.py"
IMPORTS = 2e8  # private bytes of a process that has imported torch and transformers
# A rank ends with the process that started it, so that none is left behind.
_CHILD = """
import os, runpy, sys, threading, time
def watch(parent):
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
threading.Thread(target=watch, args=(int(sys.argv.pop(1)),), daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


# accelerate only starts the ranks; the script divides the states itself.
_ACCELERATE = """\
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
mixed_precision: 'no'
num_machines: 1
machine_rank: 0
num_processes: {ranks}
use_cpu: false
"""


class RankDied(RuntimeError):
    """A rank ended early, and the others were stopped."""


@dataclasses.dataclass
class RankRun:
    """One run on N ranks.

    `bytes[rank]`: bytes of the parameters (between forward and backward pass), of the gradients
    (before the update) and of the optimizer (after it). `traffic[rank]`: bytes of one step's
    collectives by kind. `.run`: the ranks' common curve as a Run. `.losses`: its losses.
    """

    zero: int
    ranks: int
    engine: str
    device: str
    parameters: dict
    bytes: list[dict]
    traffic: list[dict]
    run: run.Run = dataclasses.field(repr=False)

    @property
    def losses(self) -> list[float]:
        return [row["loss"] for row in self.run.rows]

    @property
    def sent(self) -> list[int]:
        """Bytes that each rank's collectives moved in one step, counted as in the ZeRO paper."""
        return [sum(kinds.values()) for kinds in self.traffic]

    @property
    def _size(self) -> int:
        return 2 if self.run.config.precision == "pure-bf16" else 4

    @property
    def _gathered(self) -> int:
        """Bytes per gathered parameter; FSDP2 gathers in bf16 if precision is bf16."""
        mixed = self.run.config.precision == "bf16" and "FSDP2" in self.engine
        return 2 if mixed else self._size

    def formula(self) -> dict:
        """Bytes per rank by part, from the ZeRO paper's formula. Unsharded parameters count in the
        precision in which they are gathered."""
        size = self._size
        return formula.zero_states(
            self.parameters["total"], self.ranks, self.zero,
            weights=size if self.zero == 3 else self._gathered, gradients=size,
            optimizer=2 * size, trainable=self.parameters["trainable"])

    def formula_moved(self) -> float:
        """Bytes that a rank moves in a step, from the paper's formula: gathered parameters and
        reduced gradients, each in its own precision."""
        trainable = self.parameters["trainable"]
        elements = zero_simulator.volume(self.parameters["total"], self.zero, trainable)
        return (elements - trainable) * self._gathered + trainable * self._size

    def to_dict(self) -> dict:
        """A dict for JSON: the fields of the Run, and the bytes and traffic of each rank."""
        return self.run.to_dict() | {
            "zero": self.zero, "ranks": self.ranks, "engine": self.engine, "device": self.device,
            "bytes_per_rank": self.bytes, "formula_bytes": self.formula(),
            "traffic_per_rank": self.traffic}

    def table(self) -> Table:
        """A table of each rank's measured bytes and the formula's."""
        rows = [{"rank": rank, **held, "sum": sum(held.values()), "moved in a step": sent}
                for rank, (held, sent) in enumerate(zip(self.bytes, self.sent, strict=True))]
        expected = {part: round(size) for part, size in self.formula().items()}
        return table([*rows, {"rank": "formula", **expected, "sum": sum(expected.values()),
                              "moved in a step": round(self.formula_moved())}])

    def _title(self) -> str:
        return (f"ZeRO-{self.zero} on {self.ranks} ranks ({self.device}): {self.engine}; "
                f"{len(self.run.rows)} steps, loss {self.losses[0]:.3f} → {self.losses[-1]:.3f}")

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.table()!r}"

    def _repr_html_(self) -> str:
        return f"<b>{to_html(self._title())}</b>{self.table()._repr_html_()}"


def train(lab, config: Config | None = None, ranks: int = 2, zero: int | tuple = 3, *,
          engine: str = "torch", port: int | None = None, timeout: float = 600, **changes):
    """Train `config` on `ranks` processes on this machine, from the same initial weights and
    batches as `lab.run`. Each batch is divided among the ranks.

    zero: 0 (DDP), 1 (ZeroRedundancyOptimizer), 2 or 3 (FSDP2) returns a RankRun; several return a
    dict stage → RankRun. engine: "torch" or "deepspeed" (stages 1 to 3). Uses GPUs (nccl) if there
    is one per rank, else the CPU (gloo). port: where the ranks connect, by default a free one.
    timeout: seconds. Raises UserError if the request is not supported on ranks, and RankDied, with
    the rank's last output, if a rank fails. No process is left behind.
    """
    stages = zero if isinstance(zero, tuple | list) else (zero,)
    _accept(ranks, stages, engine)
    with tempfile.TemporaryDirectory(prefix="ftkit-ranks-") as folder:
        written = _write(lab, config, Path(folder), ranks, copy=False, **changes)
        config, about = written.config, written.about
        _fits(config, (written.trainable, written.total), ranks, stages)
        options = ["--zero", ",".join(map(str, stages)), "--engine", engine]
        start(folder, ranks, *options, port=port, timeout=timeout)
        runs = {stage: _read(Path(folder) / "result", stage, config, lab, about)
                for stage in stages}
    return runs if isinstance(zero, tuple | list) else runs[zero]


def export(lab, config: Config | None = None, folder: str | Path = "exported",
           ranks: int | None = None, **changes) -> Path:
    """Write a folder that trains an Experiment's `config` under torchrun, without ftkit.

    It contains train.py (plain torch: DDP, ZeroRedundancyOptimizer, FSDP2 or DeepSpeed), the model,
    the tokenized records, and a plan of batches and learning rates, so any number of ranks gives
    the curve of `lab.run(config)`. ranks: the script refuses any other number. accelerate.yaml is
    for `accelerate launch --config_file` instead of torchrun.
    Raises UserError if the folder is in use or the script does not support the Config.
    """
    folder = files.new_folder(folder)
    try:
        _write(lab, config, folder, ranks, copy=True, **changes)
        shutil.copy(SCRIPT, folder / "train.py")
        (folder / "accelerate.yaml").write_text(_ACCELERATE.format(ranks=ranks or 2), "utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _accept(ranks, stages, engine):
    if isinstance(ranks, bool) or not isinstance(ranks, int) or not 1 <= ranks <= 64:
        raise UserError(f"ranks is {ranks!r}; expected a whole number from 1 to 64 (2 or 4 on "
                        "this machine)")
    if not stages or any(stage not in (0, 1, 2, 3) for stage in stages):
        raise UserError(f"zero is {stages!r}; expected 0, 1, 2 or 3, or several of them")
    if engine not in ("torch", "deepspeed"):
        raise UserError(f"engine is {engine!r}; expected torch or deepspeed")
    if engine == "deepspeed":
        from importlib.util import find_spec

        if find_spec("deepspeed") is None:
            raise UserError("engine is deepspeed, but DeepSpeed is not installed. Run `pip install "
                            "ftkit[deepspeed]` (it needs a C++ compiler), or set engine to torch.")
        if 0 in stages:
            raise UserError("zero is 0 and engine is deepspeed, which supports 1, 2 and 3. For 0 "
                            "(plain DDP), set engine to torch.")


def _followed(config: Config) -> Config:
    """Return `config`. Raises UserError if the script would train differently from `lab.run`."""
    if config.method not in ("full", "lora", "ia3"):
        raise UserError(f"method is {config.method}; expected full, lora or ia3 for a run on "
                        "several ranks (quantized weights and virtual tokens are not sharded here)")
    if config.precision == "fp16":
        raise UserError("precision is fp16, but each rank would choose its own loss scale; "
                        "expected bf16 or fp32")
    known, idle = fields_of(type(config)), without_effect(config)
    for name in given(config):
        if not known[name].metadata["on_ranks"] and name not in idle:
            raise UserError(f"{name} is {getattr(config, name)!r}, which a run on several ranks "
                            f"does not support. Set it to {known[name].default!r}, or use one "
                            "process.")
    return config


def _write(lab, config, folder, ranks, copy, **changes) -> export_folder.Written:
    return export_folder.write(lab, _followed((config or Config()).but(**changes)), folder,
                               copy_model=copy, ranks=ranks)


def _fits(config, counts, ranks, stages):
    if machine.device() == "cuda":
        return
    trainable, total = counts
    states = max(sum(formula.states(total, trainable, config, ranks, stage).values())
                 for stage in stages)
    need = ranks * (IMPORTS + max(states, formula.FP32 * total))  # each loads the whole model first
    free = free_memory.available()
    if need > free:
        raise UserError(f"{ranks} ranks of this model need at least {gb(need)}, but {gb(free)} are "
                        "free. Use fewer ranks, a higher zero, or method lora.")


def _read(folder: Path, stage: int, config, lab, about) -> RankRun:
    files = sorted(folder.glob(f"zero{stage}-rank*.json"),
                   key=lambda path: int(path.stem.rpartition("rank")[2]))
    reports = [json.loads(path.read_text("utf-8")) for path in files]
    first = reports[0]
    first_run = run.Run(
        id=f"zero{stage}", config=config, model_name=lab.model_name, data=about,
        total_steps=len(first["rows"]), rows=first["rows"], before=first["before"],
        end=End.FINISHED,
        trainable_parameters=first["parameters"]["trainable"],
        total_parameters=first["parameters"]["total"], seconds=first["seconds"])
    first_run.after = {k: v for k, v in first_run.rows[-1].items() if k in first_run.before}
    return RankRun(stage, first["ranks"], first["engine"], first["device"], first["parameters"],
                   [report["bytes"] for report in reports],
                   [report["traffic"] for report in reports], first_run)


def start(folder: str | Path, ranks: int, *options: str, port: int | None = None,
          timeout: float = 600, script: Path = SCRIPT):
    """Run `script` in `ranks` local processes and wait for them.

    The processes get torchrun's environment (RANK, WORLD_SIZE, MASTER_PORT ...). All are stopped
    if a rank fails, on an interrupt or at the timeout. Raises UserError if `port` is in use.
    """
    meeting_port = port if port is not None else ports.free_port()
    if port is not None and not ports.is_free(port):
        raise UserError(f"port {port} is in use by another program. Choose another port, or leave "
                        "port out to use a free one.")
    with tempfile.TemporaryDirectory(prefix="ftkit-output-") as output_folder:
        files = [Path(output_folder) / f"rank{rank}.txt" for rank in range(ranks)]
        processes = []
        try:
            for rank in range(ranks):
                command = [sys.executable, "-c", _CHILD, str(os.getpid()), str(script), "--folder",
                           str(folder), "--ranks", str(ranks), *options]
                with files[rank].open("wb") as file:
                    processes.append(subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                        env=_environment(rank, ranks, meeting_port), start_new_session=True))
            _wait(processes, files, timeout)
        finally:
            _stop(processes)


def _environment(rank, ranks, port) -> dict:
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, machine.cores() // ranks))
    quiet = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore",
             "TORCH_CPP_LOG_LEVEL": "ERROR", "TRANSFORMERS_VERBOSITY": "error"}
    if sys.platform == "linux":  # this also works if the machine's name cannot be resolved
        quiet["GLOO_SOCKET_IFNAME"] = "lo"
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return os.environ | quiet | {name: str(value) for name, value in variables.items()}


def _wait(processes, outputs, timeout):
    until = time.monotonic() + timeout
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):
            break
        if time.monotonic() > until:
            raise RankDied(f"the ranks did not finish in {timeout:g} s and were stopped. Set a "
                           "longer timeout, or fewer steps.")
        time.sleep(0.05)
    failed = [rank for rank, process in enumerate(processes) if process.poll()]
    if failed:
        time.sleep(0.2)  # its last output may still be in transit
        raise _died(failed, processes, outputs)


def _died(failed, processes, outputs) -> Exception:
    """Name the rank that failed first, with its last output; other ranks only lost the connection.
    """
    texts = {rank: outputs[rank].read_text("utf-8", "replace").strip() for rank in failed}
    lost = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    first = min(failed, key=lambda rank: (processes[rank].returncode >= 0,
                                          any(sign in texts[rank] for sign in lost), rank))
    code = processes[first].returncode
    last = texts[first].splitlines()[-1:] or ["it printed nothing"]
    if "EADDRINUSE" in texts[first] or "address already in use" in texts[first].lower():
        return UserError("another program took the port on which the ranks connect. Start the run "
                         "again.")
    if code == 2 and texts[first].startswith("train.py: "):
        return UserError(texts[first].removeprefix("train.py: "))
    how = f"ended with status {code}: {last[0]}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = f"was killed by {signal.Signals(-code).name}"
        if code == -getattr(signal, "SIGKILL", 9):
            how += ", by a user or because the machine ran out of memory"
    error = RankDied(f"rank {first} of {len(processes)} {how}; the other ranks were stopped")
    error.add_note("\n".join(texts[first].splitlines()[-40:]))
    return error


def _stop(processes):
    for process in processes:
        if process.poll() is None:
            process.terminate()
    until = time.monotonic() + 3
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
