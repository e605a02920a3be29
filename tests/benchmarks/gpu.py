"""What was measured on a GPU: `make gpu`, on any machine with one CUDA device.

    python tests/benchmarks/gpu.py tests|lessons|memory|speed [--dry]

Each part takes at most nine minutes once everything is installed, stands alone and adds what it
found to gpu.json; GPU.md is written from that. --dry takes the CPU in the card's place, with
models of a few thousand parameters, and writes to .cache: it shows that every line of a part
runs, its figures mean nothing.

    tests     the tests marked `gpu`
    lessons   lessons 00, 02, 09, 10 and 16 on the card
    memory    predicted against measured peaks: allocated and reserved, our step and Trainer's
    speed     tokens per second against Trainer, TRL, and Liger and Unsloth where they are installed
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

LESSONS = ("00_start_here", "02_lora", "09_where_the_memory_goes", "10_quantization_and_qlora",
           "16_catastrophic_forgetting")
PART_SECONDS = 540
CHILD_SECONDS = 200
METHODS = ("full", "lora", "qlora")
TRAINERS = ("ftkit", "TRL", "TRL without checkpointing", "Trainer", "TRL with Liger", "Unsloth")
NEEDS = {"TRL with Liger": "liger_kernel", "Unsloth": "unsloth"}


def device(dry: bool) -> str:
    """The device of a part; SystemExit where there is none and none was asked for."""
    import torch

    if dry:
        return "cpu"
    if not torch.cuda.is_available():
        sys.exit("gpu: torch sees no CUDA device here; --dry tries every part on the CPU")
    return "cuda"


# ------------------------------------------------------------------------- tests and lessons


def tests(dry: bool) -> list[dict]:
    """A row for each outcome of the tests marked gpu; dry: they are collected and skip."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider",
         str(HERE.parent / "test_gpu.py")],
        capture_output=True, text=True, cwd=ROOT, timeout=PART_SECONDS)
    return [{"what": "tests marked gpu", "exit status": done.returncode,
             "outcome": done.stdout.strip().splitlines()[-1]}]


def lessons(dry: bool) -> list[dict]:
    """Seconds of each lesson and whether all its cells ran; dry: the first one, few steps."""
    found = []
    for name in LESSONS[:1] if dry else LESSONS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as home:
            models = Path(os.environ.get("FTKIT_HOME", Path.home() / ".ftkit")) / "models"
            if models.exists():
                (Path(home) / "models").symlink_to(models)
            env = os.environ | {"FTKIT_HOME": home, "FTKIT_STRICT": "0",
                                "FTKIT_TIER": "smoke" if dry else "gpu"}
            done = subprocess.run(
                [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute",
                 "--ExecutePreprocessor.timeout=300", "--output-dir", home, "--output", "page",
                 str(ROOT / "notebooks" / f"{name}.ipynb")],
                env=env, cwd=ROOT, capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1:] or [""]
        found.append({"lesson": name, "seconds": round(time.perf_counter() - began),
                      "all cells ran": "yes" if done.returncode == 0 else last[0][:120]})
    return found


# ----------------------------------------------------------------------------------- memory


def memory_plan(dry: bool) -> list[tuple[str, dict, int]]:
    """(model, fields of Config, sequences): 40 configurations, one of them dry."""
    if dry:
        return [("tiny", {"method": "lora", "precision": "bf16"}, 1)]
    plan = [(model, {"method": method, "precision": precision,
                     "gradient_checkpointing": checkpointing}, sequences)
            for model, method, precision, checkpointing, sequences in itertools.product(
                ("smollm2", "1b"), METHODS, ("bf16", "fp16"), (False, True), (1, 4))]
    return [row for i, row in enumerate(plan) if i % 6 != 5]


def memory(dry: bool) -> list[dict]:
    return [child("peak", who=who, model=model, fields=fields, sequences=sequences, dry=dry)
            for model, fields, sequences in memory_plan(dry)
            for who in (("ftkit", "Trainer") if dry or sequences == 4 else ("ftkit",))]


def peak(who: str, model: str, fields: dict, sequences: int, dry: bool) -> dict:
    """Predicted and measured bytes of a training step, in a process of its own."""
    import torch

    from ftkit.base.config import Config
    from ftkit.memory_use import footprint, measure

    place = device(dry)
    source, lengths = folder_of(model, dry), [64 if dry else 512] * sequences
    config = Config(**fields)
    found = footprint.memory(config, source, lengths=lengths, device=place,
                             trainer="hf" if who == "Trainer" else "ftkit")
    row = {"trainer": who, "model": model, **fields, "sequences": sequences,
           "predicted": found.peak}
    if who == "ftkit":
        row["allocated"] = measure.step(source, config, lengths).peak
    else:
        train_hf(prepared(source, config, place), sequences, lengths[0], 2, place, {
            "bf16": config.precision == "bf16", "fp16": config.precision == "fp16",
            "gradient_checkpointing": config.gradient_checkpointing}, trl=False)
        row["allocated"] = torch.cuda.max_memory_allocated() if place == "cuda" else None
    if place == "cuda":
        row["reserved"] = torch.cuda.max_memory_reserved()
    if row["allocated"]:
        row["error"] = round(row["predicted"] / row["allocated"] - 1, 4)
    return row


# ------------------------------------------------------------------------------------ speed


def speed(dry: bool) -> list[dict]:
    rows = []
    cases = [("1b", "lora")] if dry else itertools.product(("smollm2", "1b"), METHODS)
    for model, method in cases:
        for who in TRAINERS:
            if (needed := NEEDS.get(who)) and importlib.util.find_spec(needed) is None:
                rows.append({"model": model, "method": method, "trainer": who,
                             "tokens per second": f"{needed} is not installed"})
            else:
                rows.append(child("pace", who=who, model=model, method=method, dry=dry))
    return rows


def pace(who: str, model: str, method: str, dry: bool) -> dict:
    """Tokens per second of the steps after the second, the loss of the last, and the peak."""
    import statistics

    import torch

    place = device(dry)
    size, length, steps = (2, 32, 4) if dry else (8, 512, 12)
    if who == "ftkit":
        losses, marks = train_ftkit(folder_of(model, dry), method, size, length, steps, place)
    elif who == "Unsloth":
        losses, marks = train_unsloth(folder_of(model, dry), method, size, length, steps)
    else:
        from ftkit.base.config import Config

        options = {} if who == "TRL" else {"gradient_checkpointing": False, "bf16": True}
        if who == "TRL with Liger":
            options["use_liger_kernel"] = True
        config = Config(method=method, precision="bf16")
        losses, marks = train_hf(prepared(folder_of(model, dry), config, place), size, length,
                                 steps, place, options, trl=who != "Trainer")
    seconds = statistics.median(b - a for a, b in itertools.pairwise(marks[2:]))
    row = {"model": model, "method": method, "trainer": who,
           "tokens per second": round(size * length / seconds), "last loss": round(losses[-1], 3)}
    if place == "cuda":
        row["allocated"] = torch.cuda.max_memory_allocated()
        row["reserved"] = torch.cuda.max_memory_reserved()
    return row


def examples(size: int, length: int, steps: int, vocabulary: int) -> list[dict]:
    """Random tokens, the same for everybody; every one has a label."""
    import random

    draw = random.Random(0)
    rows = [[draw.randrange(3, vocabulary) for _ in range(length)] for _ in range(size * steps)]
    return [{"input_ids": row, "labels": row} for row in rows]


def prepared(source: str, config, place: str):
    """A model with its adapter on the device, as ftkit trains it."""
    import torch

    from ftkit.model import loading

    model, _ = loading.load(source, quantize=config.method == "qlora", device=place,
                            dtype=loading.base_dtype(config))
    torch.manual_seed(1)  # LoRA's A
    return loading.trainable(model, config)


def now(place: str) -> float:
    """The clock, once the device has done what was asked of it."""
    import torch

    if place == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def train_ftkit(source, method, size, length, steps, place):
    from ftkit.base.config import Config
    from ftkit.engine import loop

    config = Config(method=method, precision="bf16", learning_rate=1e-5, batch_size=size,
                    lr_scheduler_type="constant", warmup_steps=0)
    model = prepared(source, config, place)
    rows = examples(size, length, steps, model.config.get_text_config().vocab_size)
    losses, marks = [], [now(place)]
    for row in loop.train(model, [[example] for example in rows], config, steps):
        losses.append(row["loss"])
        marks.append(now(place))
    return losses, marks


def train_hf(model, size, length, steps, place, options, trl: bool):
    """transformers' Trainer or TRL's SFTTrainer; options: fields of its arguments."""
    import datasets
    import transformers

    rows = examples(size, length, steps, model.config.get_text_config().vocab_size)
    losses, marks = [], [now(place)]

    class Marks(transformers.TrainerCallback):
        def on_step_end(self, *_, **__):
            marks.append(now(place))

        def on_log(self, args, state, control, logs=None, **_):
            losses.extend([float(logs["loss"])] if "loss" in logs else [])

    common = {"output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": size,
              "max_steps": steps, "learning_rate": 1e-5, "lr_scheduler_type": "constant",
              "report_to": [], "save_strategy": "no", "use_cpu": place == "cpu",
              "disable_tqdm": True, "logging_steps": 1} | options
    if trl:
        from trl import SFTConfig, SFTTrainer

        from ftkit.model import loading

        trainer = SFTTrainer(
            model=model, args=SFTConfig(max_length=length, **common), callbacks=[Marks()],
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=loading.load_tokenizer("tiny"))
    else:
        trainer = transformers.Trainer(
            model=model, args=transformers.TrainingArguments(**common), train_dataset=rows,
            data_collator=transformers.default_data_collator, callbacks=[Marks()])
    trainer.train()
    return losses, marks


def train_unsloth(source, method, size, length, steps):
    from unsloth import FastLanguageModel  # first, as it asks for

    model, _ = FastLanguageModel.from_pretrained(
        source, max_seq_length=length, load_in_4bit=method == "qlora",
        full_finetuning=method == "full")
    if method != "full":
        model = FastLanguageModel.get_peft_model(
            model, r=8, lora_alpha=16, lora_dropout=0, bias="none",
            use_gradient_checkpointing="unsloth",
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                            "down_proj"])
    return train_hf(model, size, length, steps, "cuda", {"bf16": True}, trl=True)


# ------------------------------------------------------------------- models, children, report


def folder_of(model: str, dry: bool) -> str:
    """The name or folder of a model: `1b` is a Llama of 1.0 billion random weights in bf16."""
    import torch
    import transformers

    if model != "1b":
        return "tiny" if dry else model
    folder = ROOT / ".cache" / ("gpu-dry-model" if dry else "gpu-1b")
    if not (folder / "tokenizer.json").exists():
        from ftkit.model import loading

        tokenizer = loading.load_tokenizer("tiny" if dry else "smollm2")
        wide = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2} if dry else {
                "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                "num_attention_heads": 32, "num_key_value_heads": 8}
        torch.manual_seed(0)
        config = transformers.LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True,
                                          max_position_embeddings=4096, **wide)
        made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        made.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def child(function: str, **given) -> dict:
    """A row, measured in a process of its own; what failed becomes a row that says why."""
    words = [sys.executable, __file__, "--child", json.dumps({"function": function, **given})]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=CHILD_SECONDS)
        lines = done.stdout.strip().splitlines()
        if done.returncode == 0:
            return json.loads(lines[-1])
        why = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    except subprocess.TimeoutExpired:
        why = [f"stopped after {CHILD_SECONDS} s"]
    given.pop("dry")
    return {**given.pop("fields", {}), **given, "failed": why[0][:200]}


def save(part: str, rows: list[dict], seconds: float, dry: bool) -> Path:
    """Add a part to the JSON and write the page; returns the page."""
    from ftkit.base import files, machine

    folder = ROOT / ".cache" if dry else HERE
    folder.mkdir(exist_ok=True)
    path = folder / ("gpu-dry.json" if dry else "gpu.json")
    stored = json.loads(path.read_text("utf-8")) if path.exists() else {}
    about = machine.describe()
    stored[part] = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "dry": dry,
                    "device": about["name"] if dry else about["device"],
                    "versions": machine.versions(), "seconds": round(seconds), "rows": rows}
    files.write_whole(path, json.dumps(stored, indent=1) + "\n")
    page = folder / ("gpu-dry.md" if dry else "GPU.md")
    files.write_whole(page, written(stored))
    return page


def written(stored: dict) -> str:
    """The page of all parts that were run."""
    lines = ["# Measured on a GPU", "", "Made by `make gpu`, part by part; bytes are decimal.", ""]
    for part, found in stored.items():
        versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
        lines += [f"## {part}", ""]
        if found["dry"]:
            lines += ["**A dry run on a CPU with models of a few thousand parameters: the figures "
                      "mean nothing.**", ""]
        lines += [f"{found['device']}, {found['date']}, {found['seconds']} s; {versions}.", ""]
        keys = list(dict.fromkeys(key for row in found["rows"] for key in row))
        lines += ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
        lines += ["| " + " | ".join(cell(row.get(key)) for key in keys) + " |"
                  for row in found["rows"]]
        lines.append("")
    return "\n".join(lines)


def cell(value) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "/")


PARTS = {part.__name__: part for part in (tests, lessons, memory, speed)}


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        given = json.loads(sys.argv[2])
        row = {"peak": peak, "pace": pace}[given.pop("function")](**given)
        print("\n" + json.dumps(row))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--dry", action="store_true", help="on the CPU, to try every line")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.parts) - set(PARTS)):
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    device(asked.dry)
    for part in asked.parts or PARTS:
        began = time.perf_counter()
        print(f"{part}: at most {PART_SECONDS // 60} minutes", flush=True)
        rows = PARTS[part](asked.dry)
        page = save(part, rows, time.perf_counter() - began, asked.dry)
        for row in rows:
            print("  " + ", ".join(f"{k}: {cell(v)}" for k, v in row.items()), flush=True)
        print(f"{part}: {time.perf_counter() - began:.0f} s, {page}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
