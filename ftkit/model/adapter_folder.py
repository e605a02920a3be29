"""Folders with a peft adapter: find the base model, and apply the adapter to it.

    adapter_folder.base_of("my-adapter")   # "tiny", a folder or a hub id

The format is peft's: adapter_config.json and adapter_model.safetensors.
"""

import contextlib
from pathlib import Path
from typing import Any

from ftkit.base import machine, quiet
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.base.formatting import show
from ftkit.model import soundness
from ftkit.model.soundness import in_short

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"  # the hub id of smollm2


def is_adapter(folder: str | Path) -> bool:
    """Whether the folder has an adapter rather than a complete model."""
    folder = at_home(folder)
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: str | Path) -> str:
    """Find the base model of an adapter: tiny, smollm2, a folder or a hub id.

    A path that ends in tiny or smollm2 and does not exist here means that model. If any other base
    folder no longer exists, look beside the adapter. Raises UserError if the config has no base.
    """
    base = read_config(folder).get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise UserError(f"{_path(folder)} has no base_model_name_or_path; expected the folder or "
                        "hub id of the base model")
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
    """Return a name of a base model that also works on other machines: tiny or a hub id, or an
    absolute path if it has neither."""
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
    except (OSError, ValueError):  # the name is too long or has a zero byte
        return False


def read_config(folder: str | Path) -> dict:
    """Read adapter_config.json. Raises UserError if it is missing or not peft's."""
    content = soundness.read_json(_path(folder))
    if not isinstance(content.get("peft_type"), str):
        raise UserError(f"{_path(folder)} has no peft_type; expected the file that peft's "
                        "save_pretrained writes")
    return content


def weights_in(folder: str | Path) -> dict[str, soundness.Tensor]:
    """Map names to tensors of an adapter's file. Raises UserError if it is missing or damaged."""
    folder = at_home(folder)
    if not (folder / WEIGHTS).exists():
        pickled = (" (adapter_model.bin is a pickle, which can run code: convert it with a peft "
                   "you trust)") if (folder / "adapter_model.bin").is_file() else ""
        raise UserError(f"{folder} has no {WEIGHTS}{pickled}. {soundness.AGAIN}")
    tensors = soundness.header(folder / WEIGHTS)
    if not tensors:
        raise UserError(f"{folder / WEIGHTS} has no weights. {soundness.AGAIN}")
    return tensors


def replaced(folder: str | Path) -> list[str]:
    """Names of base weights that an adapter's file has whole and replaces, such as an enlarged
    embedding."""
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    prefix = PEFT_TYPE_TO_PREFIX_MAPPING.get(read_config(folder)["peft_type"], "prompt_")
    return [name.removeprefix("base_model.model.") for name in sorted(weights_in(folder))
            if prefix not in name and "prompt_" not in name]


def check(model, folder: str | Path):
    """Raise UserError, like `apply`, if an adapter does not fit `model`.

    `model` must be on the meta device and is changed. Only the weight file's header is read.
    """
    import peft
    import torch

    folder = at_home(folder)
    tensors = weights_in(folder)
    asked = _peft_config(folder)
    if asked.is_prompt_learning:  # peft initializes these from values, which meta tensors lack
        found = tensors.get("prompt_embeddings")
        if found is None or found.shape[:1] != (asked.num_virtual_tokens,):
            raise UserError(f"the adapter in {folder} does not fit its base model: expected "
                            f"prompt_embeddings for {asked.num_virtual_tokens!r} tokens in its "
                            f"file. {soundness.AGAIN}")
        return
    asked.inference_mode = False
    if hasattr(asked, "init_lora_weights"):  # the file's values replace the initial ones
        asked.init_lora_weights = True
    with _unfit(folder), torch.device("meta"):
        made = peft.get_peft_model(model, asked)
        expected = peft.get_peft_model_state_dict(made, save_embedding_layers=False)
    soundness.check_fit(expected, tensors, made.base_model.state_dict(), folder)


def _peft_config(folder: Path) -> Any:
    import peft

    kind, kinds = read_config(folder)["peft_type"], list(peft.PEFT_TYPE_TO_CONFIG_MAPPING)
    if kind not in kinds:
        raise UserError(f"{folder / CONFIG}: peft_type is {show(kind)}; expected one that this "
                        f"version of peft supports: {', '.join(kinds)}")
    with _unfit(folder):
        asked = peft.PeftConfig.from_pretrained(str(folder))
    if getattr(asked, "alora_invocation_tokens", None):
        raise UserError(f"the adapter in {folder} is an activated LoRA (it has "
                        "alora_invocation_tokens), which ftkit does not support. Load it with "
                        "peft.")
    return asked


@contextlib.contextmanager
def _unfit(folder: Path):
    """Turn whatever peft raises for a folder that it cannot use into a UserError."""
    try:
        with quiet.no_warnings():  # check_fit reports the same as errors
            yield
    except Exception as error:  # noqa: BLE001
        raise UserError(f"the adapter in {folder} does not fit its base model: {in_short(error)}. "
                        f"Check base_model_name_or_path in its {CONFIG}.") from None


def apply(model, folder: str | Path):
    """Apply an adapter to `model` (changed in place); returns a peft model in eval mode.

    Raises UserError if the adapter is incomplete, a pickle, or made for another model.
    """
    import peft

    folder = at_home(folder)
    tensors = weights_in(folder)
    _peft_config(folder)
    with _unfit(folder):
        made = peft.PeftModel.from_pretrained(model, str(folder)).eval()
        expected = peft.get_peft_model_state_dict(made, save_embedding_layers=False)
    soundness.check_fit(expected, tensors, made.base_model.state_dict(), folder)
    soundness.check_values(made, folder)
    return made


def _path(folder) -> Path:
    return at_home(folder) / CONFIG
