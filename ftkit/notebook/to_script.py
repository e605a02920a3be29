"""A Config as text to use elsewhere: one line, a notebook cell, a script for TRL or transformers.

    to_script.trl(experiment, config)     # runs on its own: python train.py

The scripts do not use ftkit; the fields that have no counterpart there are named in their head.
"""

from __future__ import annotations

from pathlib import Path

from ftkit.base.config import Config
from ftkit.base.formatting import clean
from ftkit.data import schema
from ftkit.model import loading

NO_COUNTERPART = ("replay", "l2_sp", "kl_coef", "early_stopping_patience", "metric_for_best_model")


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
    arguments = {"max_length": config.max_length, "packing": config.packing}
    records = ""
    if experiment.train.kind != "text":
        arguments["completion_only_loss"] = config.loss_on == "response"
        records = "data = data.map(conversation, remove_columns=data.column_names)\n"
    adapter, adapter_class = _adapter(config)
    peft_config = f",\n                     peft_config={adapter}" if adapter else ""
    return (
        _head(experiment, config, "TRL", adapter_class, "AutoModelForCausalLM, AutoTokenizer",
              "from trl import SFTConfig, SFTTrainer\n")
        + _load_model(config) + "\n" + LOAD_DATA + records
        + f"arguments = SFTConfig(\n{_arguments(config, arguments)}\n)\n"
        "trainer = SFTTrainer(model, arguments, train_dataset=data, processing_class=tokenizer"
        f"{peft_config})\n" + TRAIN)


def transformers(experiment, config: Config) -> str:
    """A script with the Trainer of transformers; it computes the labels itself."""
    adapter, adapter_class = _adapter(config)
    text = experiment.train.kind == "text"
    labels = "list(ids)" if text or config.loss_on == "all" else "[-100] * start + ids[start:]"
    cut = f"[:{config.max_length}]"
    return (
        _head(experiment, config, "transformers", adapter and f"{adapter_class}, get_peft_model",
              "AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer,\n"
              "                          TrainingArguments", "", "packing")
        + _load_model(config) + (f"model = get_peft_model(model, {adapter})\n" if adapter else "")
        + "\n\ndef encode(record):\n" + (ENCODE_TEXT if text else ENCODE_CONVERSATION)
        + f"    labels = {labels}\n"
        f'    return {{"input_ids": ids{cut}, "labels": labels{cut}}}\n\n\n' + LOAD_DATA
        + "data = data.map(encode, remove_columns=data.column_names)\n"
        f"arguments = TrainingArguments(\n{_arguments(config, {})}\n)\n"
        "trainer = Trainer(model, arguments, train_dataset=data,\n"
        "                  data_collator=DataCollatorForSeq2Seq(tokenizer))\n" + TRAIN)


KINDS = {"Config string": line, "Python cell": cell, "TRL script": trl,
         "transformers script": transformers}


# ------------------------------------------------------------------- parts of the scripts

LOAD_DATA = 'data = load_dataset("json", data_files=DATA, split="train")\n'
TRAIN = 'trainer.train()\ntrainer.save_model("tuned")\n'
ENCODE_TEXT = '''\
    ids = tokenizer(record["text"])["input_ids"] + [tokenizer.eos_token_id]
'''
ENCODE_CONVERSATION = '''\
    turns = conversation(record)
    text = tokenizer.apply_chat_template(turns["prompt"] + turns["completion"], tokenize=False)
    prompt = tokenizer.apply_chat_template(turns["prompt"], tokenize=False,
                                           add_generation_prompt=True)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
'''
CONVERSATION = {"text": "", "chat": '''

def conversation(record):  # the loss is on the last answer
    turns = record["messages"]
    return {"prompt": turns[:-1], "completion": turns[-1:]}
''', "instruction": '''

def conversation(record):
    question = record["instruction"]
    if record.get("input"):
        question += "\\n" + record["input"]
    return {"prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": record["output"]}]}
'''}
QLORA = ''', quantization_config=BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16)'''


def _source(experiment) -> str | None:
    """The sample's name or the file that the records came from; None for a list."""
    train = experiment.train
    if train.name in schema.sample_names():
        return train.name
    return str(train.path) if train.path else None


def _head(experiment, config, library, peft_names, transformers_names, more_imports="",
          *no_counterpart) -> str:
    """Comment, imports, model and data, and how a record becomes a conversation."""
    missing = [name for name in (*NO_COUNTERPART, *no_counterpart) if name in config.differs()]
    missing_line = f"# Without a counterpart here, and left out: {', '.join(missing)}\n"
    if config.method == "qlora":
        transformers_names += ", BitsAndBytesConfig"
    if "\n" in transformers_names:
        transformers_names = f"({transformers_names})"
    source, named = _source(experiment), isinstance(experiment.model, str)
    path = schema.sample_path(source) if source in schema.sample_names() else source
    model = loading.locate(experiment.model) if named else "tuned-model"
    data = str(Path(path).resolve()) if path else "train.jsonl"
    conversation = CONVERSATION.get(experiment.train.kind, CONVERSATION["instruction"])
    return (
        f"# Fine-tune {clean(experiment.model_name)} on {clean(experiment.train.name)} with "
        f"{library}, from the Config: {clean(config)}\n{missing_line if missing else ''}"
        "import torch\nfrom datasets import load_dataset\n"
        + (f"from peft import {peft_names}\n" if peft_names else "")
        + f"from transformers import {transformers_names}\n{more_imports}\n"
        f"MODEL = {str(model)!r}"
        f"{'' if named else '  # save_pretrained your tuned model there'}\n"
        f"DATA = {data!r}{'' if path else '  # write your records there, one JSON object a line'}\n"
        f"{conversation}\n\n")


def _load_model(config) -> str:
    base = config.precision if config.precision == "pure-bf16" else (
        "fp32" if config.method == "full" else config.base_dtype)
    dtype = {"pure-bf16": "torch.bfloat16", "bf16": "torch.bfloat16",
             "fp16": "torch.float16"}.get(base or "fp32", "torch.float32")
    return ("tokenizer = AutoTokenizer.from_pretrained(MODEL)\n"
            "if tokenizer.pad_token is None:\n    tokenizer.pad_token = tokenizer.eos_token\n"
            f"model = AutoModelForCausalLM.from_pretrained(MODEL, dtype={dtype}"
            f"{QLORA if config.method == 'qlora' else ''})\n")


def _adapter(config) -> tuple[str, str]:
    """(the peft config as Python, its class); empty for full fine-tuning."""
    if config.method == "full":
        return "", ""
    if config.method in ("prompt_tuning", "prefix_tuning"):
        name = "PromptTuningConfig" if config.method == "prompt_tuning" else "PrefixTuningConfig"
        values = {"num_virtual_tokens": config.num_virtual_tokens}
    elif config.method == "ia3":
        name, values = "IA3Config", {}
    else:
        targets, start = config.target_modules, config.init_lora_weights
        if targets != "all-linear":
            targets = [name.strip() for name in targets.split(",") if name.strip()]
        name = "LoraConfig"
        values = {"target_modules": targets,
                  "init_lora_weights": True if start == "default" else start,
                  **{field: getattr(config, field) for field in
                     ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora")}}
    values = {"task_type": "CAUSAL_LM", **values}
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in values.items())})", name


def _arguments(config, more: dict) -> str:
    """The training arguments as lines of a call."""
    values = {"output_dir": "tuned", **config.training_arguments(), "report_to": "none",
              "logging_steps": 1, "save_strategy": "no", **more}
    lines = [f"    {name}={value!r}," for name, value in values.items() if value is not None]
    return "\n".join([*lines, "    use_cpu=not torch.cuda.is_available(),"])
