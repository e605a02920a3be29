"""Folders that hold a peft adapter: which base model it belongs to, and applying it to that base.

    adapter_folder.base_of("my-adapter")   # "tiny", a folder or a hub id

The format is peft's own, whoever wrote it: adapter_config.json and adapter_model.safetensors.
"""

from __future__ import annotations

import json
from pathlib import Path

from ftkit.base import quiet
from ftkit.base.errors import UserError
from ftkit.data.jsonl import show

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(folder: str | Path) -> bool:
    """Whether the folder holds an adapter and no whole model."""
    folder = Path(folder).expanduser()
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: str | Path) -> str:
    """The model that the adapter was trained on: tiny, smollm2, a folder or a hub id.

    An adapter of tiny or smollm2 names the folder that it had on its own machine, so these two are
    found by their names. UserError for a config that names no base.
    """
    base = read_config(folder).get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise UserError(f"{_path(folder)} does not say which model it belongs to "
                        "(base_model_name_or_path); write the folder or hub id there")
    path = Path(base).expanduser()
    if not _is_folder(path) and path.name in ("tiny", "smollm2"):
        return path.name
    return base


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, a zero byte
        return False


def read_config(folder: str | Path) -> dict:
    """adapter_config.json as a dict; UserError if it is missing or not peft's."""
    content = read_json(_path(folder))
    if not isinstance(content.get("peft_type"), str):
        raise UserError(f"{_path(folder)} names no peft_type; expected what peft's save_pretrained "
                        "writes")
    return content


def read_json(path: Path) -> dict:
    """A JSON object that a save_pretrained has written; UserError for anything else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); expected a JSON object as "
                        "save_pretrained writes it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {show(content)}; expected a JSON object as save_pretrained "
                        "writes it")
    return content


def apply(model, folder: str | Path):
    """The peft model of `model` (changed in place) and the adapter in `folder`, for inference.

    Raises UserError for an adapter that is incomplete, is a pickle, or belongs to another model.
    """
    import peft

    folder = Path(folder).expanduser()
    stored = read_config(folder)
    if not (folder / WEIGHTS).is_file():
        pickled = (" (adapter_model.bin is a pickle, which can run code: convert it with a peft "
                   "you trust)") if (folder / "adapter_model.bin").is_file() else ""
        raise UserError(f"{folder} has no {WEIGHTS}{pickled}")
    kinds = list(peft.PEFT_TYPE_TO_CONFIG_MAPPING)
    if stored["peft_type"] not in kinds:
        raise UserError(f"{folder / CONFIG}: peft_type is {show(stored['peft_type'])}, which this "
                        f"peft does not have; it has {', '.join(kinds)}")
    try:
        with quiet.no_warnings():  # the error below replaces them
            return peft.PeftModel.from_pretrained(model, str(folder)).eval()
    except Exception as error:  # noqa: BLE001  peft raises anything for a folder it cannot use
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the adapter in {folder} does not fit its base model: "
                        f"{show(reason, 200)}") from None


def _path(folder) -> Path:
    return Path(folder).expanduser() / CONFIG
