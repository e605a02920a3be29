"""Make the logs of runs with a known cause, and of healthy ones: `python tests/logs/make_runs.py`.

The thirty logs with a cause are runs of the clinic's scenarios, the fifteen healthy ones of
baselines; every second one is held out: no rule was written while looking at it. The healthy ones
are without their probe: adapters trained on "tasks" do forget by 0.3 nats, which would be named.
"""

import json
from pathlib import Path
from random import Random

import ftkit as ft
from ftkit.interview import clinic

OUT = Path(__file__).with_name("made.jsonl")
KEYS = ("step", "loss", "val_loss", "learning_rate", "grad_norm", "general_loss", "tasks_loss")
TIMES = {"rate_too_high": 6, "rate_too_low": 5, "warmup_too_long": 5, "too_few_steps": 4,
         "trained_too_long": 5, "nothing_replayed": 5}
HEALTHY = [("translation", {"method": method, "seed": seed, "max_steps": 120})
           for method in ("full", "lora") for seed in (0, 1, 2)] + [
    ("tasks", {"method": method, "seed": seed, "max_steps": 150})
    for method in ("full", "lora") for seed in (0, 1, 2)] + [
    ("contracts_task", {"method": "lora", "seed": seed, "max_steps": 60, "replay": 0.4})
    for seed in (0, 1, 2)]


def columns(run, keys) -> dict:
    rows = [{"step": 0, **{k: v for k, v in run.before.items() if k in keys}}, *run.rows]
    return {key: [float(f"{row[key]:.4g}") if key in row else None for row in rows]
            for key in keys if any(key in row for row in rows)}


def cases():
    for cause, times in TIMES.items():
        setting = clinic.SETTINGS[cause]
        for seed in range(times):
            options = setting.broken | setting.draw(Random(f"{cause} {seed}"))
            records = options.pop("records", "checked")
            yield cause, seed, clinic.run_scenario(setting.scenario, records, seed, options)
    for number, (data, options) in enumerate(HEALTHY):
        lab = ft.Experiment(data=data, eval_records=48)
        yield "", number, lab.run(eval_steps=10, precision="fp32", live=False, **options)


if __name__ == "__main__":
    with open(OUT, "w", encoding="utf-8") as file:
        for cause, number, run in cases():
            case = {"cause": cause, "held_out": bool(number % 2), "settings": str(run.config),
                    "log": columns(run, KEYS if cause else KEYS[:5])}
            file.write(json.dumps(case) + "\n")
            file.flush()
