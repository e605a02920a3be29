"""A Config as text to use elsewhere: one line, a notebook cell, a script for TRL or transformers.

    to_script.trl(experiment, config)     # runs on its own: python train.py

The scripts do not use ftkit, and train the same objective on the same records in the same order
with the same schedule; the fields that have no counterpart there are named in their head.
"""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

from ftkit.base.config import Config
from ftkit.base.config_fields import counterparts, without_counterpart
from ftkit.base.formatting import clean
from ftkit.base.optimizers import OPTIMIZERS
from ftkit.data import file_formats, foreign, schema, templates
from ftkit.engine import loop
from ftkit.memory_use import preflight
from ftkit.model import loading
from ftkit.notebook import script_parts


def line(experiment, config: Config) -> str:
    """The short string that `Config.from_string` reads."""
    return str(config)


def cell(experiment, config: Config) -> str:
    """A notebook cell that makes the same run."""
    model, source = repr(experiment.model), _source(experiment)
    head = "import ftkit as ft\n\n"
    if not isinstance(experiment.model, str):
        model = "(model, tokenizer)"
        head += "model, tokenizer = ...  # the tuned model you started from\n"
    if source is None:
        head += "records = ...  # your list of records\n"
    probes = list(experiment.probes)
    return (f"{head}lab = ft.Experiment(model={model}, "
            f"data={'records' if source is None else repr(source)}"
            f"{'' if probes == ['general'] else f', probes={probes!r}'})\n"
            f"run = lab.run(ft.{config!r})\nrun\n")


def trl(experiment, config: Config) -> str:
    """A script with TRL's SFTTrainer."""
    return _script(experiment, config, "TRL", "SFTTrainer", "SFTConfig")


def transformers(experiment, config: Config) -> str:
    """A script with the Trainer of transformers."""
    return _script(experiment, config, "transformers", "Trainer", "TrainingArguments")


KINDS = {"Config string": line, "Python cell": cell, "TRL script": trl,
         "transformers script": transformers}


def _script(experiment, config: Config, library: str, trainer: str, arguments: str) -> str:
    """A script that makes the same run: its records in its order, its loss mask, its schedule.

    Rows that TRL packs are other rows in another order; the head of the script says so.
    """
    config = _as_run(experiment, config)
    packs = config.packing and trainer == "SFTTrainer"
    steps = loop.steps_in(config, len(experiment.train))
    asked = config if packs else config.but(max_steps=steps)
    values = {"output_dir": "tuned", **asked.training_arguments(), "report_to": "none",
              "logging_steps": 1, "save_strategy": "no"}
    for name in ("warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs"):
        values.pop(name, None)  # `rate` is the schedule
    if trainer == "SFTTrainer":
        values |= counterparts(config, "SFTConfig")
    if not packs:
        values.pop("num_train_epochs")
        values["train_sampling_strategy"] = "sequential"
    lines = [f"    {name}={value!r}," for name, value in values.items() if value is not None]
    adapter, adapter_class = _adapter(config)
    body = (
        _load_model(config)
        + (f"torch.manual_seed({config.seed})\nmodel = get_peft_model(model, {adapter})\n"
           if adapter else "")
        + _conversation(experiment) + _segments(experiment) + script_parts.ENCODE.format(
            labels="part" if config.loss_on == "all" else (
                "part if is_trained else [-100] * len(part)"),
            max_length=config.max_length)
        + _rate(config)
        + f'''

class SameSchedule({trainer}):
    def create_scheduler(self, num_training_steps, optimizer=None):
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, lambda step: fraction(step, num_training_steps))
        return self.lr_scheduler


with open(DATA, encoding="utf-8-sig") as file:
    records = [json.loads(line) for line in file if line.strip()]
'''
        + (script_parts.SPLIT if _is_split(experiment) else "")
        + "examples = [encode(record) for record in records]\n"
        + ("" if packs else script_parts.ORDER.format(
            seed=config.seed,
            count=f"{steps} * {config.batch_size * config.gradient_accumulation_steps}"))
        + f"arguments = {arguments}(\n" + "\n".join(lines)
        + "\n    use_cpu=not torch.cuda.is_available(),\n)\n"
        "trainer = SameSchedule(model, arguments, train_dataset=Dataset.from_list(examples),\n"
        "                       " + ("processing_class=tokenizer" if packs else
                                    "processing_class=tokenizer,\n                       "
                                    "data_collator=DataCollatorForSeq2Seq(tokenizer)")
        + ')\ntrainer.train()\ntrainer.save_model("tuned")\n')
    used = [name for name in ("json", "math", "random", "re") if re.search(rf"\b{name}\.", body)]
    return _head(experiment, config, library, trainer, arguments, adapter_class, used) + body


# ------------------------------------------------------------------- parts of the scripts


def _as_run(experiment, config: Config) -> Config:
    """With the defaults that a run would fill in: where a script leaves one out, the library takes
    its own, such as TRL's learning rate of 2e-5."""
    facts = preflight.ModelFacts.of(experiment.model)
    if facts is not None:
        return facts.resolve(config)
    return config.resolved("other", "fp32", max(512, config.max_length or 0))  # not here yet


def _source(experiment) -> str | None:
    """The sample's name or the file that the records came from; None for a list, or for a part of
    a file that the script could not take again."""
    train = experiment.train
    if train.path is None:
        return None
    if _is_split(experiment):
        count = len(train) + len(experiment.val)
    else:
        count = len(train)
        if train.name in schema.sample_names() and train.path == schema.sample_path(train.name):
            return train.name if count == _lines_of(train.path) else None
    return str(train.path) if count == _lines_of(train.path) else None


def _is_split(experiment) -> bool:
    """Whether the validation records are a tenth of the same file."""
    return (experiment.train.path is not None and experiment.train.path == experiment.val.path
            and experiment.train.name.endswith(" (train)"))


def _lines_of(path: Path) -> int:
    return sum(1 for _ in file_formats.rows(path))


def _data(experiment) -> tuple[str, str]:
    """(the JSONL file that the script reads, a comment where it has to be written first)."""
    source = _source(experiment)
    if source is None:
        return "train.jsonl", "# write your records there, one JSON object a line"
    path = schema.sample_path(source) if source in schema.sample_names() else Path(source)
    some = [row for _, row, _ in itertools.islice(file_formats.rows(path), 100)]
    if file_formats.is_plain_jsonl(path) and all(foreign.to_record(row) == row for row in some):
        return str(path.resolve()), ""
    new = f"{path.name.partition('.')[0]}-new.jsonl"
    return new, f"# made by: ftkit convert {shlex.quote(str(path.resolve()))} {new}"


def _head(experiment, config, library, trainer, arguments, adapter_class, used) -> str:
    """Comments, imports, model and data."""
    missing = without_counterpart(config, "TrainingArguments", arguments, "BitsAndBytesConfig",
                                  "from_pretrained", "peft", "records", adapter_class)
    if not OPTIMIZERS[config.optim].elsewhere:
        missing.append(f"optim={config.optim}")
    notes = (f"# Without a counterpart here, and left out: {', '.join(missing)}\n"
             if missing else "")
    if config.packing and trainer == "SFTTrainer":
        notes += "# TRL packs other rows in another order, so the batches differ from those here.\n"
        if config.neftune_noise_alpha is not None:
            notes += ("# Its noise is smaller: it divides by the length of packed rows, a run here "
                      "by that of records.\n")
    names = ["AutoModelForCausalLM", "AutoTokenizer", "DataCollatorForSeq2Seq"]
    names += ["BitsAndBytesConfig"] if config.method == "qlora" else []
    names += ["Trainer", "TrainingArguments"] if trainer == "Trainer" else []
    named = isinstance(experiment.model, str)
    model = loading.locate(experiment.model) if named else "tuned-model"
    data, comment = _data(experiment)
    imported = "".join(f"    {name},\n" for name in sorted(names))
    return (
        f"# Fine-tune {clean(experiment.model_name)} on {clean(experiment.train.name)} with "
        f"{library}, from the Config: {clean(config)}\n{notes}"
        + "".join(f"import {name}\n" for name in used)
        + "\nimport torch\nfrom datasets import Dataset\n"
        + (f"from peft import {adapter_class}, get_peft_model\n" if adapter_class else "")
        + f"from transformers import (\n{imported})\n"
        + (f"from trl import {arguments}, {trainer}\n" if trainer == "SFTTrainer" else "")
        + f"\nMODEL = {str(model)!r}"
        f"{_about_model(experiment, model)}\n"
        f"DATA = {data!r}{clean(comment) and '  ' + clean(comment)}\n\n")


def _about_model(experiment, model) -> str:
    """A comment behind the name of the model, where it is a folder."""
    if not isinstance(experiment.model, str):
        return "  # save_pretrained your tuned model there"
    return "  # a folder of this machine" if Path(model).is_absolute() else ""


def _load_model(config) -> str:
    base = config.precision if config.precision == "pure-bf16" else (
        "fp32" if config.method == "full" else config.base_dtype)
    dtype = {"pure-bf16": "torch.bfloat16", "bf16": "torch.bfloat16",
             "fp16": "torch.float16"}.get(base or "fp32", "torch.float32")
    quantized = "" if config.method != "qlora" else (
        script_parts.INT8 if config.load_in_8bit else
        script_parts.QLORA.format(quant_type=config.bnb_4bit_quant_type))
    return ("tokenizer = AutoTokenizer.from_pretrained(MODEL)\n"
            "if tokenizer.pad_token is None:\n    tokenizer.pad_token = tokenizer.eos_token\n"
            f"model = AutoModelForCausalLM.from_pretrained(MODEL, dtype={dtype}{quantized})\n")


def _conversation(experiment) -> str:
    """How a record becomes turns, and what its question is."""
    kind = experiment.train.kind
    text = script_parts.CONVERSATION.get(kind, script_parts.CONVERSATION["instruction"])
    return text + (script_parts.QUESTION if _is_split(experiment) and kind != "text" else "")


def _segments(experiment) -> str:
    """How a record becomes text, part by part."""
    if experiment.train.kind == "text":
        return script_parts.TEXT + script_parts.START
    template = templates.choose(experiment.load_tokenizer(), experiment.template)
    if template is None:
        return script_parts.CHAT
    with_input = templates.ALPACA_INPUT if template == templates.ALPACA else None
    return script_parts.FORMAT.format(template=template, with_input=with_input) + script_parts.START


def _rate(config) -> str:
    """The schedule; transformers' own would give the first step a learning rate of 0."""
    def steps(number):
        return f"math.ceil({number} * total)" if number < 1 else str(int(number))

    code = ('\n\ndef fraction(step, total):\n    """Of the highest learning rate; the first step '
            f'is step 0."""\n    warmup = {steps(config.warmup_steps)}\n    if step < warmup:\n'
            "        return (step + 1) / warmup\n")
    if config.lr_scheduler_type == "constant":
        return code + "    return 1.0\n"
    if config.lr_scheduler_type == "warmup_stable_decay":
        code += (f"    warmup = max(warmup, total - {steps(config.num_decay_steps)})\n"
                 "    if step < warmup:\n        return 1.0\n")
    code += "    progress = (step - warmup) / max(1, total - warmup)\n"
    return code + ("    return 1.0 - progress\n" if config.lr_scheduler_type == "linear" else
                   "    return 0.5 * (1.0 + math.cos(math.pi * progress))\n")


def _adapter(config) -> tuple[str, str]:
    """(the peft config as Python, its class); empty for full fine-tuning."""
    if config.method == "full":
        return "", ""
    if config.method in ("prompt_tuning", "prefix_tuning"):
        name = "PromptTuningConfig" if config.method == "prompt_tuning" else "PrefixTuningConfig"
        values = {"prompt_tuning_init": "SAMPLE_VOCAB"} if "Prompt" in name else {}
    elif config.method == "ia3":
        name, values = "IA3Config", {}
    elif config.method not in ("lora", "qlora"):
        raise NotImplementedError(f"no script is written for method {config.method!r}")
    else:
        targets, start = config.target_modules, config.init_lora_weights
        if targets != "all-linear":
            targets = [name.strip() for name in targets.split(",") if name.strip()]
        name = "LoraConfig"
        values = {"target_modules": targets,
                  "init_lora_weights": True if start == "default" else start}
    values = {"task_type": "CAUSAL_LM"} | counterparts(config, name) | values
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in values.items())})", name
