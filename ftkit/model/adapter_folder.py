"""Folders that hold a peft adapter: which base model it belongs to, and applying it to that base.

    adapter_folder.base_of("my-adapter")   # "tiny", a folder or a hub id

The format is peft's own, whoever wrote it: adapter_config.json and adapter_model.safetensors.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ftkit.base import quiet
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.data.jsonl import show
from ftkit.model import soundness
from ftkit.model.soundness import in_short

TYPES = {"bool": bool, "int": (int, float), "float": (int, float)}  # of fields of peft's configs
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"  # the name by which others find smollm2


def is_adapter(folder: str | Path) -> bool:
    """Whether the folder holds an adapter and no whole model."""
    folder = at_home(folder)
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: str | Path) -> str:
    """The model that the adapter was trained on: tiny, smollm2, a folder or a hub id.

    tiny and smollm2 are found by their names, also where an adapter has the path that they had on
    another machine; any other folder that is gone is looked for next to that of the adapter.
    UserError for a config that names no base.
    """
    base = read_config(folder).get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise UserError(f"{_path(folder)} does not say which model it belongs to "
                        "(base_model_name_or_path); write the folder or hub id there")
    path = at_home(base)
    if not _is_folder(path):
        if path.name in ("tiny", "smollm2"):
            return path.name
        beside = at_home(folder).absolute().parent / path.name
        if path.name and not _is_hub_id(base) and _is_folder(beside):
            return str(beside)
    return base


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith(("/", ".", "~"))


def portable(location: str) -> str:
    """The name of a base by which an adapter finds it on other machines too: tiny, a hub id, or
    for a folder that has no other name its absolute path."""
    from ftkit.base import machine

    path = at_home(location)
    if not location or not _is_folder(path):
        return location
    path = path.resolve()
    if path == (machine.package() / "model" / "tiny").resolve():
        return "tiny"
    if path == (machine.home() / "models" / "smollm2").resolve():
        return SMOLLM2
    in_cache = path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--")
    return path.parent.parent.name[len("models--"):].replace("--", "/") if in_cache else str(path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, a zero byte
        return False


def read_config(folder: str | Path) -> dict:
    """adapter_config.json as a dict; UserError if it is missing or not peft's."""
    content = soundness.read_json(_path(folder))
    if not isinstance(content.get("peft_type"), str):
        raise UserError(f"{_path(folder)} names no peft_type; expected what peft's save_pretrained "
                        "writes")
    return content


def weights_in(folder: str | Path) -> dict[str, soundness.Tensor]:
    """Name → tensor of an adapter, from the header of its file; UserError without a good one."""
    folder = at_home(folder)
    if not (folder / WEIGHTS).exists():
        pickled = (" (adapter_model.bin is a pickle, which can run code: convert it with a peft "
                   "you trust)") if (folder / "adapter_model.bin").is_file() else ""
        raise UserError(f"{folder} has no {WEIGHTS}{pickled}; {soundness.AGAIN}")
    tensors = soundness.header(folder / WEIGHTS)
    if not tensors:
        raise UserError(f"{folder / WEIGHTS} holds no weights; {soundness.AGAIN}")
    return tensors


def check(model, folder: str | Path):
    """UserError, as `apply` raises it, for an adapter that does not fit `model`, which is one
    without memory (device meta) and is changed; no weight is read but headers."""
    import peft
    import torch

    folder = at_home(folder)
    tensors = weights_in(folder)
    asked = _peft_config(folder)
    if asked.is_prompt_learning:  # peft starts these from values, which a model on meta lacks
        found = tensors.get("prompt_embeddings")
        if found is None or found.shape[:1] != (asked.num_virtual_tokens,):
            raise UserError(f"the adapter in {folder} does not fit its base model: its file lacks "
                            f"prompt_embeddings for {asked.num_virtual_tokens!r} tokens; "
                            f"{soundness.AGAIN}")
        return
    asked.inference_mode = False
    if hasattr(asked, "init_lora_weights"):  # the values are in the file
        asked.init_lora_weights = True
    try:
        with quiet.no_warnings(), torch.device("meta"):
            made = peft.get_peft_model(model, asked)
            expected = peft.get_peft_model_state_dict(made, save_embedding_layers=False)
    except Exception as error:  # noqa: BLE001  peft raises anything for a folder it cannot use
        raise _unfit(folder, error) from None
    soundness.check_fit(expected, tensors, made.base_model.state_dict(), folder)


def _peft_config(folder: Path) -> Any:
    """What peft reads of an adapter; UserError where it cannot."""
    import peft

    kind, kinds = read_config(folder)["peft_type"], list(peft.PEFT_TYPE_TO_CONFIG_MAPPING)
    if kind not in kinds:
        raise UserError(f"{folder / CONFIG}: peft_type is {show(kind)}, which this peft does not "
                        f"have; it has {', '.join(kinds)}")
    try:
        with quiet.no_warnings():
            asked = peft.PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # noqa: BLE001  peft raises anything for a folder it cannot use
        raise _unfit(folder, error) from None
    for field in dataclasses.fields(asked):  # peft takes any value for true, and writes none such
        kind, value = TYPES.get(str(field.type)), getattr(asked, field.name)
        if value is None and field.default is None:
            continue
        if kind and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise UserError(f"{folder / CONFIG}: {field.name} is {show(value)}; expected "
                            f"{field.type}, as peft's save_pretrained writes it")
    if getattr(asked, "alora_invocation_tokens", None):
        raise UserError(f"the adapter in {folder} is an activated LoRA, which acts only after its "
                        "alora_invocation_tokens; ftkit has no such LoRA, so load it with peft")
    return asked


def _unfit(folder: Path, error: Exception) -> UserError:
    return UserError(f"the adapter in {folder} does not fit its base model: {in_short(error)}")


def apply(model, folder: str | Path):
    """The peft model of `model` (changed in place) and the adapter in `folder`, for inference.

    Raises UserError for an adapter that is incomplete, is a pickle, or belongs to another model.
    """
    import peft

    folder = at_home(folder)
    tensors = weights_in(folder)
    _peft_config(folder)
    try:
        with quiet.no_warnings():  # the errors below replace them
            made = peft.PeftModel.from_pretrained(model, str(folder)).eval()
            expected = peft.get_peft_model_state_dict(made, save_embedding_layers=False)
    except Exception as error:  # noqa: BLE001  peft raises anything for a folder it cannot use
        raise _unfit(folder, error) from None
    soundness.check_fit(expected, tensors, made.base_model.state_dict(), folder)
    soundness.check_values(made, folder)
    return made


def _path(folder) -> Path:
    return at_home(folder) / CONFIG
