"""A small recorded experiment for tests, in the form of the files in data_samples/recorded."""

from __future__ import annotations

import json

from ftkit.base.config import Config

CLAIM = {"left": "low", "op": "<", "right": "high", "measure": "english_loss",
         "text": "a low learning rate keeps more", "beside": ["val_loss"], "right_measure": None,
         "within": None}
ENDS = {"low": [3.30, 3.31, 3.32], "high": [3.60, 3.62, 3.64]}


def run(arm: str, seed: int, english: float, rate: float) -> dict:
    rows = [{"step": step, "epoch": 0.1 * step, "loss": 5.0 / step, "learning_rate": rate,
             "grad_norm": 1.0, "tokens": 100 * step, "seconds": float(step)}
            for step in (1, 2, 3)]
    rows[-1] |= {"val_loss": 1.5, "english_loss": english}
    return {"id": f"{arm}-{seed}", "model": "smollm2", "arm": arm, "seed": seed, "key": "",
            "config": Config(learning_rate=rate, seed=seed, max_steps=3).to_dict(),
            "history": rows, "before": {"val_loss": 4.9, "english_loss": 3.25},
            "after": {"val_loss": 1.5, "english_loss": english, "exact_match": 0.5},
            "data": {"name": "tasks", "rows": 10, "sha256": "0" * 64}, "total_steps": 3,
            "seconds": 3.0, "wall_seconds": 5.0, "made": "2026-11-26",
            "answers": [{"record": {"instruction": "a"}, "answer": "b"}]}


def content(ends=None, claim=None, name="sample") -> dict:
    ends = ENDS if ends is None else ends
    return {"name": name, "lesson": "01", "question": "What keeps more?",
            "claim": CLAIM | (claim or {}),
            "card": {"model": "SmolLM2-135M-Instruct", "weights": "rounded", "license": "MIT",
                     "made_by": f"make recorded {name}", "machine": {}, "versions": {}},
            "base": {"answers": [], "scores": {"english_loss": 3.25, "exact_match": 0.0}},
            "runs": [run(arm, seed, value, 1e-4 * (1 + place))
                     for place, (arm, values) in enumerate(ends.items())
                     for seed, value in enumerate(values)]}


def write(folder, **changes) -> None:
    made = content(**changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{made['name']}.json").write_text(json.dumps(made), "utf-8")
