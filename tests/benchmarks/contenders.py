"""The contenders of bench.py. Each runs alone in a process, so that imports, caches and malloc
settings do not mix; what it measured is one JSON object on the last line of stdout.

    python tests/benchmarks/contenders.py '{"suite": "speed", "who": "ftkit bf16", ...}'
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

MODELS = {
    "tiny": {"data": "tasks", "batch_size": 16, "full": 1e-4, "lora": 5e-4},
    "smollm2": {"data": "handwritten", "batch_size": 8, "full": 2e-5, "lora": 2e-4},
}
MAX_LENGTH = 256


class Clock:
    """Wall and process CPU seconds at the end of every step, and the peak of memory since."""

    def __init__(self):
        self.cpu, self.wall = [time.process_time()], [time.perf_counter()]
        try:  # from now on the kernel counts the peak anew (Linux)
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass

    def step(self):
        self.cpu.append(time.process_time())
        self.wall.append(time.perf_counter())

    def result(self) -> dict:
        def steps(marks):
            return [b - a for a, b in zip(marks, marks[1:], strict=False)]

        return {"cpu": steps(self.cpu), "wall": steps(self.wall), "peak_bytes": peak()}


def peak() -> int:
    """Largest resident size of this process in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def examples(tokenizer, task) -> list[dict]:
    """The same records for everybody, as token ids and labels, shuffled once."""
    import random

    from ftkit.data import encoding, schema

    records = list(schema.records(MODELS[task["model"]]["data"]))
    random.Random(0).shuffle(records)
    return encoding.encode_all(
        records[: task["records"]], tokenizer, max_length=MAX_LENGTH).examples


def start(task):
    """(model to train, tokenizer, examples): the same weights for everybody."""
    import torch

    import ftkit as ft
    from ftkit.model import loading

    if task["threads"]:
        torch.set_num_threads(task["threads"])
    model, tokenizer = loading.load(task.get("folder") or task["model"])
    torch.manual_seed(1)  # LoRA's A
    model = loading.adapt(model, ft.Config(method=task["method"]))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    return model, tokenizer, examples(tokenizer, task)


def padded(batch, pad):
    """A batch as the usual collator makes it."""
    from ftkit.data import encoding

    return encoding.collate(batch, pad)


# Training: `who` is one of TRAINERS


def train_ftkit(task, precision):
    """The loop that `ftkit run` and `Experiment.run` use."""
    import ftkit as ft
    from ftkit.engine import loop

    model, _, rows = start(task)
    size = MODELS[task["model"]]["batch_size"]
    config = ft.Config(
        method=task["method"], learning_rate=MODELS[task["model"]][task["method"]],
        batch_size=size, lr_scheduler_type="constant", warmup_steps=0, precision=precision)
    order = iter([list(range(i, i + size)) for i in range(0, len(rows), size)])
    losses, clock = [], Clock()
    for row in loop.train(model, [[e] for e in rows], config, len(rows) // size, order=order):
        losses.append(row["loss"])
        clock.step()
    return losses, clock


def train_plain(task, precision):
    """The loop of the tutorials: padded batches, `model(labels=...)`, clip, AdamW."""
    import torch

    model, tokenizer, rows = start(task)
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        params, lr=MODELS[task["model"]][task["method"]], weight_decay=0.0)
    size = MODELS[task["model"]]["batch_size"]
    losses, clock = [], Clock()
    model.train()
    for i in range(0, len(rows), size):
        batch = padded(rows[i : i + size], tokenizer.pad_token_id)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        clock.step()
    return losses, clock


def train_hf(task, which, **options):
    """transformers' Trainer and TRL's SFTTrainer, with the same batches in the same order."""
    import transformers

    transformers.logging.set_verbosity_error()
    model, tokenizer, rows = start(task)
    losses, clock = [], None

    class Marks(transformers.TrainerCallback):
        def on_train_begin(self, *_, **__):
            nonlocal clock
            clock = Clock()

        def on_step_end(self, *_, **__):
            clock.step()

        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    size = MODELS[task["model"]]["batch_size"]
    common = {
        "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": size,
        "num_train_epochs": 1, "learning_rate": MODELS[task["model"]][task["method"]],
        "lr_scheduler_type": "constant", "weight_decay": 0.0, "report_to": [],
        "save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "logging_steps": 1,
        "train_sampling_strategy": "sequential",
    } | options
    if which == "trainer":
        for row in rows:
            row["attention_mask"] = [1] * len(row["input_ids"])
        trainer = transformers.Trainer(
            model=model, args=transformers.TrainingArguments(**common), train_dataset=rows,
            data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, padding=True),
            callbacks=[Marks()])
    else:
        import datasets
        from trl import SFTConfig, SFTTrainer

        datasets.disable_progress_bars()
        trainer = SFTTrainer(
            model=model, args=SFTConfig(max_length=MAX_LENGTH, **common)
            if "max_length" not in common else SFTConfig(**common),
            train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer,
            callbacks=[Marks()])
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return losses, clock


BEST = {"gradient_checkpointing": False, "bf16": True, "padding_free": True, "max_length": None}
TRAINERS = {
    "ftkit bf16": lambda task: train_ftkit(task, "bf16"),
    "ftkit fp32": lambda task: train_ftkit(task, "fp32"),
    "TRL defaults": lambda task: train_hf(task, "trl"),
    "TRL best": lambda task: train_hf(task, "trl", **BEST),
    "Trainer fp32": lambda task: train_hf(task, "trainer"),
    "plain fp32": lambda task: train_plain(task, "fp32"),
    "plain bf16": lambda task: train_plain(task, "bf16"),
}


def speed(task):
    losses, clock = TRAINERS[task["who"]](task)
    return {"losses": losses, **clock.result()}


def work(task):
    """What has to be done in a batch, whoever does it: tokens and useful floating-point
    operations of each step, per token 2 (forward) + 2 (backward to the input) + 2 (to the weight,
    if it is trained) for every weight of a linear layer, the head only where a label is predicted,
    attention only inside a sequence and below the diagonal. What several records begin with has to
    be done once."""
    import torch

    from ftkit.engine import packed_batch

    model, _, rows = start(task)
    base = model.get_base_model() if task["method"] == "lora" else model
    head = base.get_output_embeddings().weight.numel()
    linear = {"base": 0, "lora": 0}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not base.get_output_embeddings():
            linear["lora" if "lora_" in name else "base"] += module.weight.numel()
    config = base.config
    wide = config.num_attention_heads * config.head_dim * config.num_hidden_layers
    frozen = task["method"] == "lora"
    steps = []
    size = MODELS[task["model"]]["batch_size"]
    for i in range(0, len(rows), size):
        batch = rows[i : i + size]
        lengths = [len(e["input_ids"]) for e in batch]
        labeled = sum(label != -100 for e in batch for label in e["labels"][1:])
        once = len(set(packed_batch.pack_sequences([e["input_ids"] for e in batch]).row_index))
        flops = once * ((4 if frozen else 6) * linear["base"] + 6 * linear["lora"])
        flops += labeled * (4 if frozen else 6) * head
        flops += 3 * 2 * wide * sum(n * n for n in lengths)
        steps.append({"tokens": sum(lengths), "once": once, "labeled": labeled, "flops": flops,
                      "cells": max(lengths) * len(lengths)})
    return {"steps": steps}


def gemm(task):
    """Peak of one matrix product, GFLOP/s: the best of the shapes of a step."""
    import torch

    if task["threads"]:
        torch.set_num_threads(task["threads"])
    out = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        best = {"cpu": 0.0, "wall": 0.0}
        for m, k, n in ((736, 576, 1536), (736, 1536, 576), (1024, 1024, 1024), (288, 576, 49152)):
            a, b = torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype)
            for _ in range(12):
                cpu, wall = time.process_time(), time.perf_counter()
                a @ b.t()
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                best = {"cpu": max(best["cpu"], 2e-9 * m * k * n / cpu),
                        "wall": max(best["wall"], 2e-9 * m * k * n / wall)}
        out[name] = best
    return out


# Evaluation


def evaluation(task):
    """Mean loss over labeled tokens; Trainer's is a mean of batch means and told apart."""
    import torch

    model, tokenizer, rows = start(task | {"method": "full"})
    model.eval()
    size = MODELS[task["model"]]["batch_size"]
    who, _, precision = task["who"].partition(" ")
    cast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    if who == "ftkit":
        from ftkit.evaluate import scoring

        with cast:
            scoring.loss_on(model, rows[:size])
        clock = Clock()
        with cast:
            loss = scoring.loss_on(model, rows)
    elif who == "plain":
        clock, total, count = Clock(), 0.0, 0
        for i in range(0, len(rows), size):
            batch = padded(rows[i : i + size], tokenizer.pad_token_id)
            n = int((batch["labels"][:, 1:] != -100).sum())
            with torch.no_grad(), cast:
                total += model(**batch).loss.item() * n
            count += n
        loss = total / count
    else:
        import transformers

        for row in rows:
            row["attention_mask"] = [1] * len(row["input_ids"])
        args = transformers.TrainingArguments(
            output_dir=tempfile.mkdtemp(), per_device_eval_batch_size=size, report_to=[],
            use_cpu=True, disable_tqdm=True, prediction_loss_only=True, bf16=precision == "bf16")
        trainer = transformers.Trainer(
            model=model, args=args, eval_dataset=rows,
            data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, padding=True))
        clock = Clock()
        loss = trainer.evaluate()["eval_loss"]
    clock.step()
    return {"loss": loss, **clock.result()}


def generation(task):
    """Greedy answers to the prompts of a test set."""
    import torch

    from ftkit.data import encoding, schema
    from ftkit.evaluate import scoring
    from ftkit.model import loading

    if task["threads"]:
        torch.set_num_threads(task["threads"])
    model, tokenizer = loading.load(task.get("folder") or task["model"])
    model.eval()
    records = schema.records(MODELS[task["model"]]["data"], "test")[: task["records"]]
    prompts = encoding.prompts(records, tokenizer)
    limit, eos = task["limit"], sorted(encoding.eos_ids(tokenizer, model))
    if task["who"] == "ftkit":
        from ftkit.engine.generation import generate

        generate(model, prompts[:2], 2, eos)
        clock = Clock()
        made = generate(model, prompts, limit, eos)
    else:
        order = list(range(len(prompts)))
        if "sorted" in task["who"]:
            order.sort(key=lambda i: len(prompts[i]))
        size = int(task["who"].split()[-1])
        made = [None] * len(prompts)
        model.generate(torch.tensor([prompts[0]]), max_new_tokens=2, do_sample=False)
        clock = Clock()
        for at in range(0, len(order), size):
            chosen = order[at : at + size]
            width = max(len(prompts[i]) for i in chosen)
            ids = torch.tensor([[0] * (width - len(prompts[i])) + prompts[i] for i in chosen])
            mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i])
                                 for i in chosen])
            out = model.generate(input_ids=ids, attention_mask=mask, do_sample=False,
                                 max_new_tokens=limit, eos_token_id=eos, pad_token_id=eos[0])
            for i, row in zip(chosen, out[:, width:].tolist(), strict=True):
                end = next((j + 1 for j, t in enumerate(row) if t in eos), len(row))
                made[i] = row[:end]
    clock.step()
    texts = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in made]
    pairs = zip(texts, records, strict=True)
    hits = [scoring.normal(t) == scoring.normal(encoding.answer(r)) for t, r in pairs]
    return {"made": made, "new_tokens": sum(map(len, made)), "exact_match": sum(hits) / len(hits),
            **clock.result()}


def prepare(task):
    """A `tiny` that knows the template, saved in task["folder"]: it ends its answers, and its loss
    is small enough to compare bf16 curves (untuned it is 8, and bf16 is off by 0.02)."""
    import ftkit as ft

    run = ft.Experiment(data="tasks", probes=()).run(max_steps=120, live=False)
    run.model.save_pretrained(task["folder"])
    run.tokenizer.save_pretrained(task["folder"])
    return {"val_loss": run.after["val_loss"]}


# Starting up


def startup(task):
    """From the start of the process to the end of the first step, eight records."""
    task = task | {"records": MODELS[task["model"]]["batch_size"], "method": "full"}
    losses, _ = TRAINERS[task["who"]](task)
    return {"finished": time.time(), "loss": losses[0]}


SUITES = {"speed": speed, "work": work, "gemm": gemm, "eval": evaluation, "generate": generation,
          "prepare": prepare, "startup": startup}

if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    found = SUITES[wanted["suite"]](wanted)
    print("\n" + json.dumps(found), flush=True)
