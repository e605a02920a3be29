"""ftkit against TRL, Trainer and a plain loop: `python tests/benchmarks/bench.py all`.

Same model, data and batch order for everybody; every contender alone in a process, the processes
interleaved (A, B, A, B, ...), the best of the rounds counts step by step. Two clocks: process CPU
time with one thread, which other load hardly disturbs, and wall time with all cores, which needs
a quiet machine. Writes docs/measurements/RESULTS.md, and results.json next to this file. What is in
results.json is not measured again; --fresh starts anew.

    python tests/benchmarks/bench.py speed|eval|generate|startup|all [--quick] [--fresh]
                                     [--clock cpu|wall] [--model tiny|smollm2] [--rounds N]

--quick: one round, fewer steps and contenders, CPU clock only, kept apart in .cache; 4 minutes on
a quiet machine. SmolLM2 takes part if `ftkit fetch smollm2` has brought it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PAGES = Path(__file__).resolve().parents[2] / "docs" / "measurements"
sys.path.insert(0, str(HERE))
import report  # noqa: E402

WARM_UP = {"tiny": 2, "smollm2": 2}  # steps that pay for kernel builds and page faults
TRAINERS = ("ftkit bf16", "TRL defaults", "ftkit fp32", "plain bf16", "plain fp32", "TRL best",
            "Trainer fp32")  # --quick leaves out the last two
SUITES = ("speed", "eval", "generate", "startup")


class Store:
    """Results by task; written after each, so that an interrupted benchmark can go on."""

    def __init__(self, path: Path, fresh: bool):
        self.path = path
        self.results = {} if fresh or not path.exists() else json.loads(path.read_text("utf-8"))

    def get(self, task: dict):
        key = json.dumps(task, sort_keys=True)
        if key not in self.results:
            self.results[key] = run(task)
            self.path.write_text(json.dumps(self.results, indent=0), "utf-8")
        return self.results[key]


def say(text: str):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def run(task: dict) -> dict:
    """A contender in a process of its own."""
    began = time.time()
    words = [str(HERE / "contenders.py"), json.dumps(task)]
    if task["suite"] == "startup" and task["who"] == "ftkit run":
        return {"seconds": first_row(task)}
    env = os.environ | {"OMP_NUM_THREADS": str(task["threads"] or os.cpu_count())}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{task} failed:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    if task["suite"] == "startup":
        result = {"seconds": result["finished"] - began}
    say(f"{task['suite']} {task.get('model', '')} {task.get('method', '')} {task.get('who', '')} "
        f"{task.get('clock', '')}: {time.time() - began:.0f} s")
    return result


def first_row(task: dict) -> float:
    """Seconds from the start of `ftkit run` until its first step is on disk."""
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        words = ["-m", "ftkit", "run", "--data", "tasks", "--max-steps", "3", "--json"]
        process = subprocess.Popen([sys.executable, *words], env=os.environ | {"FTKIT_HOME": home},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None or not list(Path(home).glob("runs/*/rows.jsonl")):
            rows = list(Path(home).glob("runs/*/rows.jsonl"))
            if rows and rows[0].stat().st_size:
                break
            if process.poll() not in (None, 0):
                raise RuntimeError(process.stderr.read()[-2000:])
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        process.communicate()
        return seconds


def clocks(args) -> list[tuple[str, int]]:
    """(clock, threads); 0 threads are all."""
    both = [("cpu", 1), ("wall", 0)]
    return [c for c in both if args.clock in (None, c[0]) and not (args.quick and c[0] == "wall")]


def start_of(model: str) -> dict:
    """Where training and evaluation start: for tiny a copy that has been tuned a little, kept in
    .cache."""
    if model != "tiny":
        return {}
    folder = HERE.parent.parent / ".cache" / "bench-tiny"
    if not (folder / "model.safetensors").exists():
        run({"suite": "prepare", "folder": str(folder), "threads": 0})
    return {"folder": str(folder)}


def speed(store, args):
    out = []
    for model in args.models:
        steps = {"tiny": 12, "smollm2": 2} if not args.quick else {"tiny": 6, "smollm2": 1}
        records = (WARM_UP[model] + steps[model]) * {"tiny": 16, "smollm2": 8}[model]
        for clock, threads in clocks(args):
            trainers = TRAINERS[:-2] if args.quick else TRAINERS
            for method in ("full",) if args.quick and model == "smollm2" else ("full", "lora"):
                base = {"suite": "speed", "model": model, "method": method, "clock": clock,
                        "threads": threads, "records": records, **start_of(model)}
                rounds: dict[str, list] = {who: [] for who in trainers}
                for number in range(args.rounds or (1 if args.quick else 2)):
                    for who in trainers:
                        rounds[who].append(store.get(base | {"who": who, "round": number}))
                    peak = store.get({"suite": "gemm", "threads": threads, "round": number,
                                      "clock": clock})
                work = store.get(base | {"suite": "work", "clock": None})["steps"]
                out.append(report.speed_table(base, rounds, work, peak, WARM_UP[model]))
    return out


def evaluation(store, args):
    out = []
    for model in args.models:
        records = {"tiny": 640, "smollm2": 32} if not args.quick else {"tiny": 320, "smollm2": 16}
        for clock, threads in clocks(args):
            base = {"suite": "eval", "model": model, "clock": clock, "threads": threads,
                    "records": records[model], **start_of(model)}
            names = ["ftkit fp32", "Trainer fp32", "ftkit bf16", "plain fp32", "Trainer bf16"]
            names = names[: -1 if args.quick else None]
            rounds = {who: [] for who in names}
            for number in range(1 if args.quick else 2):
                for who in names:
                    rounds[who].append(store.get(base | {"who": who, "round": number}))
            out.append(report.eval_table(base, rounds))
    return out


def generation(store, args):
    out = []
    for model in args.models[: 1 if args.quick else None]:
        records = {"tiny": 160 if args.quick else 320, "smollm2": 30}
        for clock, threads in clocks(args):
            base = {"suite": "generate", "model": model, "clock": clock, "threads": threads,
                    "records": records[model], "limit": {"tiny": 18, "smollm2": 130}[model],
                    **start_of(model)}
            names = ["ftkit", "generate, batches of 32", "generate, sorted, batches of 128"]
            names = names[: -1 if args.quick else None]
            rounds = {who: [] for who in names}
            for number in range(1 if args.quick else 2):
                for who in names:
                    rounds[who].append(store.get(base | {"who": who, "round": number}))
            out.append(report.generate_table(base, rounds))
    return out


def startup(store, args):
    names = ("ftkit run", "ftkit bf16", "plain fp32", "Trainer fp32", "TRL defaults")
    times = {who: [] for who in names}
    for number in range(1 if args.quick else 3):
        for who in names:
            task = {"suite": "startup", "model": "tiny", "who": who, "threads": 0, "round": number}
            times[who].append(store.get(task)["seconds"])
    imports = {}
    for what in ("pass", "import torch", "import torch, ftkit",
                 "import transformers.models.llama.modeling_llama"):
        best = float("inf")
        for _ in range(1 if args.quick else 3):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", what], check=True, cwd=HERE.parent.parent)
            best = min(best, time.perf_counter() - began)
        imports[what] = best
    return [report.startup_table(times, imports)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=[*SUITES, "all"])
    parser.add_argument("--quick", action="store_true", help="a few minutes, not half an hour")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--clock", choices=["cpu", "wall"])
    parser.add_argument("--model", choices=list(WARM_UP))
    parser.add_argument("--rounds", type=int, help="of training (default 2, with --quick 1)")
    args = parser.parse_args()
    args.models = [args.model] if args.model else ["tiny", "smollm2"]
    if "smollm2" in args.models and not have_smollm2():
        say("SmolLM2 is not here (`ftkit fetch smollm2`): left out")
        args.models.remove("smollm2")
    place = HERE.parent.parent / ".cache" / "bench-quick" if args.quick else HERE
    place.mkdir(parents=True, exist_ok=True)
    store = Store(place / "results.json", args.fresh)
    suites = {"speed": speed, "eval": evaluation, "generate": generation, "startup": startup}
    chosen = SUITES if args.suite == "all" else [args.suite]
    tables = [table for suite in chosen for table in suites[suite](store, args)]
    text = report.page(tables)
    print(text)
    if args.suite == "all":
        ((place if args.quick else PAGES) / "RESULTS.md").write_text(text, "utf-8")
    return 1 if any(table.wrong for table in tables) else 0


def have_smollm2() -> bool:
    from ftkit.model import download

    return download.find("smollm2") is not None


if __name__ == "__main__":
    sys.exit(main())
