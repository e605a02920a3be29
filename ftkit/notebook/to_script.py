"""A Config as text to take away: one line, a cell for a notebook, a script for TRL or transformers.

    script.trl(lab, config)     # runs by itself: python train.py

The scripts use no ftkit; what has no counterpart there is named in their first lines.
"""

from __future__ import annotations

from pathlib import Path

from ftkit.base.config import Config
from ftkit.base.formatting import clean
from ftkit.data import schema
from ftkit.model import loading

NOT_CARRIED = ("replay", "l2_sp", "early_stopping_patience", "metric_for_best_model")


def line(lab, config: Config) -> str:
    """The short string that `Config.from_string` reads back, and `ftkit run` as options."""
    return str(config)


def cell(lab, config: Config) -> str:
    """A notebook cell that makes the same run."""
    named = isinstance(lab.model, str)
    model = repr(lab.model) if named else "(model, tokenizer)"
    head = "" if named else "model, tokenizer = ...  # the tuned model you started from\n"
    source = _source(lab)
    if source is None:
        head += "records = ...  # your list of records\n"
    probes = "" if list(lab.probes) == ["general"] else f", probes={list(lab.probes)!r}"
    return (f"import ftkit as ft\n\n{head}lab = ft.Experiment(model={model}, "
            f"data={'records' if source is None else repr(source)}{probes})\n"
            f"run = lab.run(ft.{config!r})\nrun\n")


def trl(lab, config: Config) -> str:
    """A script with TRL's SFTTrainer."""
    arguments = {"output_dir": "tuned", **config.training_arguments(), "report_to": "none",
                 "logging_steps": 1, "save_strategy": "no", "max_length": config.max_length,
                 "packing": config.packing}
    if lab.train.kind != "text":
        arguments["completion_only_loss"] = config.loss_on == "response"
    adapter, named = _adapter(config)
    return "\n".join([
        *_head(lab, config, "TRL"), "import torch", "from datasets import load_dataset",
        *([f"from peft import {named}"] if named else []),
        f"from transformers import AutoModelForCausalLM, AutoTokenizer{_bits_import(config)}",
        "from trl import SFTConfig, SFTTrainer", "",
        *_where(lab), "", "", *_conversation(lab), "",
        *_load(config), "",
        'data = load_dataset("json", data_files=DATA, split="train")',
        *([] if lab.train.kind == "text" else
          ["data = data.map(conversation, remove_columns=data.column_names)"]),
        f"arguments = SFTConfig(\n{_lines(arguments)}\n)",
        "trainer = SFTTrainer(model, arguments, train_dataset=data, processing_class=tokenizer"
        + (f",\n                     peft_config={adapter})" if adapter else ")"),
        "trainer.train()", 'trainer.save_model("tuned")', ""])


def transformers(lab, config: Config) -> str:
    """A script with transformers' Trainer; the labels are made by hand."""
    arguments = {"output_dir": "tuned", **config.training_arguments(), "report_to": "none",
                 "logging_steps": 1, "save_strategy": "no"}
    adapter, named = _adapter(config)
    masked = config.loss_on == "response" and lab.train.kind != "text"
    if lab.train.kind == "text":
        encode = ['    ids = tokenizer(record["text"])["input_ids"] + [tokenizer.eos_token_id]',
                  "    start = 0"]
    else:
        encode = [
            "    turns = conversation(record)",
            '    text = tokenizer.apply_chat_template(turns["prompt"] + turns["completion"],',
            "                                         tokenize=False)",
            '    prompt = tokenizer.apply_chat_template(turns["prompt"], tokenize=False,',
            "                                           add_generation_prompt=True)",
            '    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])',
            '    ids = tokenizer(text, add_special_tokens=False)["input_ids"]']
    labels = "[-100] * start + ids[start:]" if masked else "list(ids)"
    return "\n".join([
        *_head(lab, config, "transformers", *(["packing"] if config.packing else [])),
        "import torch", "from datasets import load_dataset",
        *([f"from peft import {named}, get_peft_model"] if named else []),
        "from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq,",
        f"                          Trainer, TrainingArguments{_bits_import(config)})", "",
        *_where(lab), "", "", *_conversation(lab), "",
        *_load(config),
        *([f"model = get_peft_model(model, {adapter})"] if adapter else []), "", "",
        "def encode(record):", *encode,
        f"    labels = {labels}",
        f"    return {{\"input_ids\": ids[:{config.max_length}], "
        f"\"labels\": labels[:{config.max_length}]}}", "", "",
        'data = load_dataset("json", data_files=DATA, split="train")',
        "data = data.map(encode, remove_columns=data.column_names)",
        f"arguments = TrainingArguments(\n{_lines(arguments)}\n)",
        "trainer = Trainer(model, arguments, train_dataset=data,",
        "                  data_collator=DataCollatorForSeq2Seq(tokenizer))",
        "trainer.train()", 'trainer.save_model("tuned")', ""])


KINDS = {"Config string": line, "Python cell": cell, "TRL script": trl,
         "transformers script": transformers}


# ---------------------------------------------------------------------------------- inside


def _source(lab):
    """The sample's name or the file that the records came from; None for a list."""
    if lab.train.name in schema.sample_names():
        return lab.train.name
    return str(lab.train.path) if lab.train.path else None


def _head(lab, config, library, *more) -> list[str]:
    changed = config.differs()
    left = [name for name in (*NOT_CARRIED, *more) if name in changed]
    lines = [f"# Fine-tune {clean(lab.model_name)} on {clean(lab.train.name)} with {library}, "
             f"asked for as: {clean(config)}"]
    if left:
        lines.append(f"# Without a counterpart here, and left out: {', '.join(left)}")
    return lines


def _where(lab) -> list[str]:
    source = _source(lab)
    path = schema.sample_path(source) if source in schema.sample_names() else source
    model = loading.locate(lab.model) if isinstance(lab.model, str) else "tuned-model"
    note = "" if path else "  # write your records there, one JSON object a line"
    mine = "" if isinstance(lab.model, str) else "  # save_pretrained your tuned model there"
    return [f"MODEL = {str(model)!r}{mine}",
            f"DATA = {(str(Path(path).resolve()) if path else 'train.jsonl')!r}{note}"]


def _conversation(lab) -> list[str]:
    if lab.train.kind == "text":
        return []
    if lab.train.kind == "chat":
        return ["def conversation(record):  # loss on the last answer",
                '    turns = record["messages"]',
                '    return {"prompt": turns[:-1], "completion": turns[-1:]}', ""]
    return ["def conversation(record):",
            '    question = record["instruction"]',
            '    if record.get("input"):',
            '        question += "\\n" + record["input"]',
            '    return {"prompt": [{"role": "user", "content": question}],',
            '            "completion": [{"role": "assistant", "content": record["output"]}]}', ""]


def _load(config) -> list[str]:
    kind = "torch.bfloat16" if config.precision == "pure-bf16" else "torch.float32"
    quantized = ""
    if config.method == "qlora":
        quantized = (", quantization_config=BitsAndBytesConfig(\n    load_in_4bit=True, "
                     'bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,\n    '
                     "bnb_4bit_compute_dtype=torch.bfloat16)")
    return ["tokenizer = AutoTokenizer.from_pretrained(MODEL)",
            "if tokenizer.pad_token is None:",
            "    tokenizer.pad_token = tokenizer.eos_token",
            f"model = AutoModelForCausalLM.from_pretrained(MODEL, dtype={kind}{quantized})"]


def _bits_import(config) -> str:
    return ", BitsAndBytesConfig" if config.method == "qlora" else ""


def _adapter(config) -> tuple[str, str]:
    """(the peft config as Python, its class); empty for full fine-tuning."""
    if config.method == "full":
        return "", ""
    task = {"task_type": "CAUSAL_LM"}
    if config.method in ("prompt_tuning", "prefix_tuning"):
        name = "PromptTuningConfig" if config.method == "prompt_tuning" else "PrefixTuningConfig"
        task |= {"num_virtual_tokens": config.num_virtual_tokens}
    elif config.method == "ia3":
        name = "IA3Config"
    else:
        name, targets = "LoraConfig", config.target_modules
        if targets != "all-linear":
            targets = [word.strip() for word in targets.split(",") if word.strip()]
        start = config.init_lora_weights
        task |= {"r": config.r, "lora_alpha": config.lora_alpha,
                 "lora_dropout": config.lora_dropout, "target_modules": targets,
                 "use_rslora": config.use_rslora, "use_dora": config.use_dora,
                 "init_lora_weights": True if start == "default" else start}
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in task.items())})", name


def _lines(arguments: dict) -> str:
    lines = [f"    {name}={value!r}," for name, value in arguments.items() if value is not None]
    return "\n".join([*lines, "    use_cpu=not torch.cuda.is_available(),"])
