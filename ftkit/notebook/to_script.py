"""A Config to use elsewhere: as a line, as a notebook cell, or as a folder with a script for TRL or
transformers that repeats the run.

    to_script.export(lab, config, "my-run", "TRL")     # then: python my-run/train.py

The script does not need ftkit. The folder holds token ids and the plan of the steps, so the run is
repeated with its records, loss mask, order and schedule, whatever template and packing it used.
"""

from pathlib import Path

from ftkit.base import files
from ftkit.base.config import Config
from ftkit.base.config_fields import without_counterpart
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean
from ftkit.base.optimizers import OPTIMIZERS
from ftkit.data import file_formats, schema
from ftkit.experiment import export_folder

# Where the folder has the fields of a Config: arguments of the script, token ids, adapter.
CARRIED = ("TrainingArguments", "BitsAndBytesConfig", "from_pretrained", "records", "peft",
           "LoraConfig", "IA3Config", "PromptTuningConfig", "PrefixTuningConfig")
LIBRARIES = {"TRL": ("SFTTrainer", "SFTConfig"), "transformers": ("Trainer", "TrainingArguments")}
SCRIPT = '''\
{head}
import json
from pathlib import Path

import torch
{imports}

def read(name):
    lines = (HERE / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def padded(batch):
    """One batch of token ids; labels are -100 where nothing is learned."""
    longest = max(len(row["input_ids"]) for row in batch)

    def filled(values, filler):
        return torch.tensor([row + [filler] * (longest - len(row)) for row in values])

    return {{"input_ids": filled([row["input_ids"] for row in batch], 0),
            "attention_mask": filled([[1] * len(row["input_ids"]) for row in batch], 0),
            "labels": filled([[-100, *row["labels"][1:]] for row in batch], -100)}}


class SameRun({trainer}):
    """Takes the batches of the run in their order, and its learning rates."""

    def get_train_dataloader(self):
        batches = [[rows[i] for i in batch] for step in steps for batch in step["batches"]]
        return torch.utils.data.DataLoader(batches, batch_size=None, collate_fn=padded)

    def create_scheduler(self, num_training_steps, optimizer=None):
        rates = [step["learning_rate"] / self.args.learning_rate for step in steps]
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, lambda step: rates[min(step, len(rates) - 1)])
        return self.lr_scheduler


HERE = Path(__file__).resolve().parent
rows, steps = read("data/train.jsonl"), read("steps.jsonl")
tokenizer = AutoTokenizer.from_pretrained({model})
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained({model}, dtype={dtype}{quantized})
{adapter}arguments = {arguments}(
{options}
    use_cpu=not torch.cuda.is_available(),
)
trainer = SameRun(model, arguments, train_dataset={dataset}, processing_class=tokenizer)
trainer.train()
trainer.save_model(str(HERE / "tuned"))
'''
QLORA = ''', quantization_config=BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="{quant_type}", bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16)'''
INT8 = ", quantization_config=BitsAndBytesConfig(load_in_8bit=True)"


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


def export(experiment, config: Config, folder: str | Path, library: str = "TRL") -> Path:
    """Write a folder whose `train.py` repeats the run of `config` without ftkit.

    library: "TRL" or "transformers". Fields that have no counterpart there are named in the head
    of the script. Raises UserError if the folder is in use or the library unknown.
    """
    if library not in LIBRARIES:
        raise UserError(f"library is {library!r}; expected TRL or transformers")
    folder = files.new_folder(folder)
    written = export_folder.write(experiment, config, folder, copy_model=True)
    text = script(experiment, written.config, library, written.steps, written.model)
    (folder / "train.py").write_text(text, "utf-8")
    return folder


def script(experiment, config: Config, library: str, steps: int, model: str = "model") -> str:
    """The text of `train.py`. config: resolved. model: a path, a hub id, or "model" in the folder.
    """
    trainer, arguments = LIBRARIES[library]
    options = {"output_dir": "checkpoints", **config.but(max_steps=steps).training_arguments(),
               "logging_steps": 1, "save_strategy": "no", "report_to": "none"}
    for name in ("num_train_epochs", "warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs"):
        options.pop(name, None)  # SameRun has the schedule
    if library == "TRL":  # the rows are tokenized, cut and packed
        options |= {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}
    base = config.precision if config.precision == "pure-bf16" else (
        "fp32" if config.method == "full" else config.base_dtype)
    dtype = {"pure-bf16": "bfloat16", "bf16": "bfloat16", "fp16": "float16"}.get(base or "fp32")
    quantized = "" if config.method != "qlora" else (
        INT8 if config.load_in_8bit else QLORA.format(quant_type=config.bnb_4bit_quant_type))
    return SCRIPT.format(
        head=_head(experiment, config, library), imports=_imports(config, library),
        trainer=trainer, model='HERE / "model"' if model == "model" else repr(model),
        dtype=f"torch.{dtype or 'float32'}", quantized=quantized, arguments=arguments,
        adapter=_load_adapter(config),
        options="\n".join(f"    {name}={value!r}," for name, value in options.items()),
        dataset="Dataset.from_list(rows)" if library == "TRL" else "rows")


def _head(experiment, config: Config, library: str) -> str:
    lines = [f"Fine-tune {clean(experiment.model_name)} on {clean(experiment.train.name)} with "
             f"{library}, from the Config: {clean(config)}"]
    missing = without_counterpart(config, *CARRIED)
    if not OPTIMIZERS[config.optim].elsewhere:
        missing.append(f"optim={config.optim}")
    if missing:
        lines.append(f"Left out, because {library} has no counterpart: {', '.join(missing)}")
    if config.packing:
        lines.append("Packed rows are padded here: the losses are the same, the memory is not.")
        if config.neftune_noise_alpha is not None:
            lines.append("The noise of NEFTune is scaled by the length of a padded row.")
    return "\n".join(f"# {text}" for text in lines)


def _load_adapter(config: Config) -> str:
    if config.method == "full":
        return ""
    if "tuning" not in config.method:
        return 'model = PeftModel.from_pretrained(model, HERE / "adapter", is_trainable=True)\n'
    # peft does not load virtual tokens as trainable.
    return ('model = PeftModel.from_pretrained(model, HERE / "adapter")\n'
            "for name, weight in model.named_parameters():\n"
            '    weight.requires_grad_("prompt_encoder" in name)\n'
            "model.active_peft_config.inference_mode = False\n")


def _imports(config: Config, library: str) -> str:
    names = ["AutoModelForCausalLM", "AutoTokenizer"]
    names += ["BitsAndBytesConfig"] if config.method == "qlora" else []
    names += LIBRARIES["transformers"] if library == "transformers" else []
    lines = ["from datasets import Dataset"] if library == "TRL" else []
    lines += ["from peft import PeftModel"] if config.method != "full" else []
    lines += [f"from transformers import {', '.join(names)}"]
    lines += ["from trl import SFTConfig, SFTTrainer"] if library == "TRL" else []
    return "\n".join([*lines, ""])


def _source(experiment) -> str | None:
    """The name of the sample or file with exactly these records; None for a list or a part of a
    file."""
    train = experiment.train
    if train.path is None:
        return None
    if train.path == experiment.val.path and train.name.endswith(" (train)"):  # ftkit split it
        count = len(train) + len(experiment.val)
    else:
        count = len(train)
        if train.name in schema.sample_names() and train.path == schema.sample_path(train.name):
            return train.name if count == _lines_of(train.path) else None
    return str(train.path) if count == _lines_of(train.path) else None


def _lines_of(path: Path) -> int:
    return sum(1 for _ in file_formats.rows(path))


# What can be copied without a folder.
TEXTS = {"Config string": lambda experiment, config: str(config), "Python cell": cell}
