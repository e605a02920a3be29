"""Export a tuned model for other programs, with the adapter merged and a model card.

    export("my-adapter", "my-model", dtype="bf16")

Base and update are added in fp32 and rounded once at the end. An update is small compared with its
weight, so rounding the base first, or adding in bf16, would lose part of it (lesson 10 measures how
much). A qlora adapter is added to its dequantized base.
"""

import json
import shutil
from pathlib import Path

from ftkit.base import files, formatting
from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.base.files import at_home, new_folder
from ftkit.base.formatting import to_markdown
from ftkit.data import schema
from ftkit.model import adapter_folder, gguf_file, loading, merge, soundness

RECIPE = "ftkit_run.json"  # written by `ftkit run --out` next to the weights
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "f16": "float16",
          "q8_0": "float32"}


def keep_recipe(run, folder: str | Path):
    """Write the run's facts and a model card next to its saved weights."""
    recipe = run.to_dict()
    Path(folder, RECIPE).write_text(json.dumps(recipe, indent=1), encoding="utf-8")
    Path(folder, "README.md").write_text(card(
        Path(folder), recipe, "the training's format", merged=False), encoding="utf-8")


def export(source: str | Path, out: str | Path, dtype: str = "fp32") -> Path:
    """Export `source` (a saved adapter or model) as a complete model in `out`; returns the folder.

    dtype: fp32, bf16 or fp16 for safetensors, f16 or q8_0 for GGUF with an Ollama Modelfile
    (`gguf_file`). `out` must be new or empty, and appears only when it is complete, with a model
    card. Raises UserError if the source cannot be merged.
    """
    import torch

    source, out = at_home(source), at_home(out)
    writes_gguf = dtype in gguf_file.TYPES
    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    new_folder(out)
    if not source.is_dir():
        raise UserError(f"there is no folder {source}; expected one written by `ftkit run --out` "
                        "or peft's save_pretrained")
    model, tokenizer, recipe = whole(source)
    kind = getattr(torch, DTYPES[dtype])
    soundness.check_values(model, f"{source}, merged")
    if kind == torch.float16:
        largest = max(p.detach().abs().max().item() for p in model.parameters())
        if largest > torch.finfo(kind).max:
            raise UserError(f"a weight is {largest:.3g}, above fp16's largest number "
                            f"{torch.finfo(kind).max:g}. Set dtype to bf16.")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        if writes_gguf:
            gguf_file.write(model, tokenizer, part, dtype, template_of(recipe))
        else:
            loading.save(model.to(kind), tokenizer, part)
        (part / "README.md").write_text(card(source, recipe, dtype), encoding="utf-8")
        if out.is_dir():
            out.rmdir()
        part.rename(out)
    except Exception as error:
        if (reason := files.why_not_written(error)) is None:
            raise
        raise UserError(f"{out} cannot be written ({reason}), so nothing was kept. Free some disk "
                        "space, or choose another folder.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def template_of(recipe: dict) -> str | None:
    """The template of the run of a recipe; None means that of the tokenizer."""
    fixed = recipe.get("data", {}).get("held_still")
    return fixed.get("template") if isinstance(fixed, dict) else None


def questions(source: str | Path, given: str):
    """Records to compare an export on, of the test split where there is one.

    given: a sample or a file. "auto" takes the sample that the run was trained on, or `tasks` if
    it was trained on other data.
    """
    name = given if given != "auto" else _recipe(at_home(source)).get("data", {}).get("name")
    if given == "auto" and name not in schema.sample_names():
        name = "tasks"
    try:
        return schema.records(name, "test")
    except UserError:  # a sample without a test split
        return schema.records(name)


def whole(source: Path) -> tuple:
    """Load the folder's model, merged in fp32, its tokenizer and its recipe ({} if unknown)."""
    recipe = _recipe(source)
    base_name, adapters = loading.with_adapters(str(source))
    if recipe.get("config", {}).get("method") != "qlora" or not adapters:
        model, tokenizer = loading.load(str(source), device="cpu")
        return merge.unwrap(model), tokenizer, recipe
    base, _ = loading.load(base_name, device="cpu")
    _as_quantized(base, base_name, recipe["config"])
    model = adapter_folder.apply(base, source)
    return merge.unwrap(model), loading.load_tokenizer(str(source)), recipe


def _as_quantized(model, name: str, config: dict):
    """Quantize and dequantize the weights of `model` in place, as qlora did for training.

    config: the run's Config as a dict.
    """
    import bitsandbytes as bnb
    import torch
    from peft.utils.integrations import dequantize_module_weight

    rounded, _ = loading.load(name, quantize=True,
                              quant_type=config.get("bnb_4bit_quant_type", "nf4"),
                              load_in_8bit=config.get("load_in_8bit", False))
    with torch.no_grad():
        for place, module in rounded.named_modules():
            if isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
                model.get_submodule(place).weight.copy_(dequantize_module_weight(module))


def _recipe(source: Path) -> dict:
    try:
        found = json.loads((source / RECIPE).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    parts = ("data", "config", "before", "after", "versions")
    is_whole = isinstance(found, dict) and all(isinstance(found.get(n, {}), dict) for n in parts)
    return found if is_whole else {}


def card(source: Path, recipe: dict, dtype: str, merged: bool = True) -> str:
    """Write the text of a Hugging Face model card: data, recipe and results. merged: whether the
    weights include their base, which an adapter's do not."""
    try:
        return _card(source, recipe, dtype, merged)
    except (AttributeError, TypeError, ValueError):  # the recipe file is damaged
        return _card(source, {}, dtype, merged)


def _card(source: Path, recipe: dict, dtype: str, merged: bool) -> str:
    from huggingface_hub import ModelCardData

    is_adapter = adapter_folder.is_adapter(source)
    base = adapter_folder.base_of(source) if is_adapter else str(recipe.get("model", "?"))
    # A local path is useless to others and may reveal private names.
    base = Path(base).name if Path(base).is_absolute() else base
    header = ModelCardData(
        base_model=base, tags=["ftkit"], pipeline_tag="text-generation",
        library_name="peft" if is_adapter and not merged else "transformers")
    lines = ["---", header.to_yaml(), "---", "", f"# {to_markdown(base)}, fine-tuned", ""]
    if not recipe:
        return "\n".join(lines + [
            f"Weights in {dtype}. There was no complete {RECIPE} next to the adapter, so its "
            "data, recipe and results are unknown.", ""])
    data, config = recipe.get("data", {}), recipe.get("config", {})
    defaults = Config().to_dict()
    asked = {k: v for k, v in config.items() if v != defaults.get(k) and v is not None}
    lines += [f"Weights in {dtype}; {recipe.get('trainable_parameters', 0):,} of "
              f"{recipe.get('total_parameters', 0):,} parameters were trained.", "",
              "## Data", "",
              f"- {to_markdown(data.get('name'))}: {data.get('rows', 0):,} records, "
              f"{recipe.get('supervised_tokens', 0):,} supervised tokens",
              f"- sha256 `{to_markdown(data.get('sha256'))}`", "",
              "## Recipe", "", "```",
              " ".join(f"{k}={v}" for k, v in asked.items()).replace("`", "'"), "```", "",
              f"{len(recipe.get('history', []))} steps in {recipe.get('seconds', 0):.0f} s"
              + (f"; {to_markdown(recipe['stopped'])}" if recipe.get("stopped") else "") + "; "
              + ", ".join(f"{to_markdown(k)} {to_markdown(v)}"
                          for k, v in recipe.get("versions", {}).items()) + ".", "",
              "## Results", "", "| measure | before | after |", "|---|---|---|"]
    before, after = recipe.get("before", {}), recipe.get("after", {})
    lines += [f"| {to_markdown(k)} | {formatting.cell(before.get(k))} | {formatting.cell(v)} |"
              for k, v in after.items()]
    lines += ["", "Losses are nats per token on held-out records. Nothing else was measured; test "
              "whether the model is right, safe and fair in your use.", ""]
    return "\n".join(lines)
