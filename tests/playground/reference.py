"""What torch, transformers and ftkit compute for the runs that the playground repeats.

`python tests/playground/reference.py FOLDER` writes reference.json and the gradients of each method
(safetensors), from which `check.mjs` judges the playground's engine.
"""

import json
import random
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import ftkit as ft
from ftkit.data import encoding
from ftkit.engine import loop
from ftkit.evaluate import scoring
from ftkit.experiment import inputs
from ftkit.model import cache, loading

RUNS = {
    "full": {"learning_rate": 2e-4}, "lora": {"method": "lora"}, "ia3": {"method": "ia3"},
    "lora of rank 5": {"method": "lora", "r": 5, "lora_alpha": 7, "seed": 3, "max_steps": 20,
                       "lr_scheduler_type": "warmup_stable_decay", "warmup_steps": 5},
    "full on the 31 tasks": {"data": "tasks", "weight_decay": 0.1, "loss_on": "all", "seed": 1,
                             "max_steps": 20, "lr_scheduler_type": "constant"},
    "lora with replay": {"method": "lora", "replay": 0.2, "lr_scheduler_type": "linear",
                         "batch_size": 8, "weight_decay": 0.05, "max_grad_norm": 0.3,
                         "max_steps": 20},
}
TEXTS = ["Hello, world! It's 1234.", "  two  spaces\n\nand\tlines ", "le château d'été",
         "🦊 fox 日本", "we'll CAN'T 12½ x<|eos|>y", "", "a" * 300, "naïve ﬁ ²³ Ⅷ"]


def untied_head(model):
    model.requires_grad_(False)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def head_rows(lab, tokenizer, config, total):
    """Rows of a run that trains the head only, by a plain torch loop."""
    model, _ = cache.fresh("tiny")
    prepared, model = lab.encode(tokenizer, config), untied_head(model)
    optimizer = torch.optim.AdamW([model.lm_head.weight], lr=config.learning_rate, weight_decay=0)
    order, rows = loop.shuffled(len(prepared.units), config.batch_size, config.seed), []
    for step in range(1, total + 1):
        batch = encoding.collate([e for i in next(order) for e in prepared.units[i]], 0)
        loss = model(**batch).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([model.lm_head.weight], config.max_grad_norm)
        optimizer.param_groups[0]["lr"] = config.learning_rate * loop.schedule(step, total, config)
        optimizer.step()
        optimizer.zero_grad()
        rows.append({"step": step, "loss": float(loss), "grad_norm": float(norm)})
        if step % max(1, total // 10) == 0 or step == total:
            rows[-1] |= {name: scoring.loss_on(model, examples)
                         for name, examples in prepared.evaluations.items()}
    return rows, model


def gradients(examples, method, **fields):
    """Loss and gradients by transformers; B is moved off zero, where the gradient of A is zero."""
    model, _ = cache.fresh("tiny")
    if method == "head":
        model = untied_head(model)
    else:
        config = ft.Config(method=method, **fields).resolved("tiny", "fp32", 512)
        torch.manual_seed(config.seed)
        model = loading.trainable(model, config)
    if method == "lora":
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data = torch.sin(torch.arange(weight.numel()).reshape(weight.shape)) * 0.01
    loss = model(**encoding.collate(examples, 0)).loss
    loss.backward()
    return float(loss), {name: p.grad.contiguous() for name, p in model.named_parameters()
                         if p.grad is not None}


STEPS = 100


def main(folder: Path):
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    model, tokenizer = cache.fresh("tiny")
    out: dict = {"runs": {}, "gradients": {}}
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    out["tokens"] = list(zip(TEXTS, ids, strict=True))
    out["decoded"] = tokenizer.batch_decode(ids, skip_special_tokens=True)
    drawn = random.Random("replay/3")
    torch.manual_seed(5)
    out["random"] = {
        "choices": drawn.choices(range(1000), k=9), "torch": torch.rand(700)[690:].tolist(),
        "sample": random.Random(0).sample(range(50), 16),
        "samples": random.Random(0).sample(range(416), 16)}
    labs = {}
    for name, fields in RUNS.items():
        data = fields.get("data", "translation")
        lab = labs.setdefault(data, ft.Experiment(data=data, eval_records=16))
        run = lab.run(ft.Config(precision="fp32"), live=False, **{"max_steps": STEPS} | {
            key: value for key, value in fields.items() if key != "data"})
        records = list(inputs.some(lab.val, 24))
        out["runs"][name] = {
            "config": run.config.to_dict() | {"data": data}, "before": run.before, "rows": run.rows,
            "trainable": run.trainable_parameters, "records": records,
            "answers": scoring.answers(run.model, tokenizer, records, max_new_tokens=16)}
    lab, config = labs["translation"], ft.Config(learning_rate=5e-3, max_steps=STEPS)
    config = config.resolved("tiny", "fp32", 512)
    rows, trained = head_rows(lab, tokenizer, config, STEPS)
    records = out["runs"]["full"]["records"]
    out["runs"]["head"] = out["runs"]["full"] | {
        "config": config.to_dict() | {"data": "translation", "method": "head"},
        "rows": rows, "trainable": trained.lm_head.weight.numel(),
        "answers": scoring.answers(trained, tokenizer, records, max_new_tokens=16)}
    units = lab.encode(tokenizer, config).units
    batch = [e for i in next(loop.shuffled(len(units), 16, 0)) for e in units[i]]
    for method in ("full", "lora", "ia3", "head"):
        loss, found = gradients(batch, method)
        out["gradients"][method] = loss
        save_file(found, folder / f"{method}.safetensors")
    pairs = [{"instruction": f"Add one to {i % 37}", "output": str(i % 37 + 1)} for i in range(60)]
    own = ft.Experiment(data=pairs, eval_records=16)
    run = own.run(ft.Config(method="lora", precision="fp32", max_steps=30), live=False)
    out["own"] = {"pairs": pairs, "rows": run.rows, "before": run.before}
    (folder / "reference.json").write_text(json.dumps(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
