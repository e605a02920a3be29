"""Models: find and load one, make part of it trainable, save what was trained.

Every model is a plain transformers model, so peft, bitsandbytes, `generate` and
`save_pretrained` work on it as they do anywhere.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import urllib.parse
import urllib.request
import warnings
from pathlib import Path

from ftkit.base import machine, quiet
from ftkit.base.errors import UserError
from ftkit.data.jsonl import show
from ftkit.model import adapter_folder

# What `import peft`, `get_peft_model` and prefix tuning print on every CPU machine, though it asks
# for nothing that a user could or should do.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
warnings.filterwarnings("ignore", message="`past_key_values` is deprecated")
# The hub's retries, a line each; what came of them is told in one sentence.
logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)


def tiny_path() -> Path:
    """The folder of the embedded base model (FTKIT_TINY names another one while building it)."""
    return Path(os.environ.get("FTKIT_TINY") or machine.package() / "model" / "tiny")


def locate(name: str) -> str:
    """Folder or hub id of a model; ValueError in words when `name` can be neither.

    tiny: the embedded base. smollm2: a fetched copy. Else a folder with a config.json or a peft
    adapter, else a hub id such as `HuggingFaceTB/SmolLM2-135M`.
    """
    if not isinstance(name, str | os.PathLike):
        raise UserError(f"model is {type(name).__name__}; expected tiny, smollm2, a folder or a "
                        "hub id")
    name = str(name)
    if name == "tiny":
        return str(tiny_path())
    if name == "smollm2":
        from ftkit.model import download

        found = download.find("smollm2")
        if found is None:
            raise UserError("smollm2 is not on this machine yet; `ftkit fetch smollm2` gets it")
        download.mend(found)
        return str(found)
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file() or adapter_folder.is_adapter(folder):
        return str(folder)
    if folder.is_dir():
        raise UserError(f"the folder {name} holds no config.json; expected a folder written by "
                        "save_pretrained, or tiny, smollm2, or a hub id")
    if name.count("/") == 1 and not name.startswith(("/", ".", "~")):
        return name
    raise UserError(f"no model {name!r}; expected tiny, smollm2, a folder with a config.json, "
                    "or a hub id like HuggingFaceTB/SmolLM2-135M")


SMALL = 2e7  # parameters below which a model is of the tier tiny, and leaves cores unused


def tier(model) -> str:
    """The row of default learning rates for a loaded model: tiny, of a few million parameters,
    or other. It goes by size, so a tuned copy gets the rates of what it was tuned from."""
    return "tiny" if count(model)[1] < SMALL else "other"


def load(name: str = "tiny", quantize: bool = False, device: str | None = None):
    """Load a model in fp32 and its tokenizer, fresh: `model, tokenizer = load("tiny")`.

    `quantize` keeps the linear layers in NF4 with double quantization (QLoRA). The folder of an
    adapter gives a peft model on its base. Raises ValueError when the model cannot be found or
    read. Only safetensors, no code from the hub.
    """
    import torch

    where = locate(name)
    if adapter_folder.is_adapter(where):
        base, _ = load(adapter_folder.base_of(where), quantize, device)
        return adapter_folder.apply(base, where), load_tokenizer(name)
    device = device or machine.device()
    options = {"dtype": torch.float32, "use_safetensors": True}
    content = read_config(where)
    stored = bool(content.get("quantization_config"))  # quantized in its folder
    if quantize and not stored:
        options |= {"quantization_config": _nf4()}
    if quantize or stored:
        options |= {"device_map": {"": device}}
    try:
        with quiet.no_progress_bars() if name == "tiny" else contextlib.nullcontext():
            model = _model_class(content).from_pretrained(_on_disk(where), **options)
        model.name_or_path = where  # what an adapter will name as its base
        tokenizer = load_tokenizer(name)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot load {name!r}: {reason} (a gated model needs `hf auth login`; "
                        "offline, give a folder or tiny)") from None
    if not (quantize or stored):
        return model.to(device), tokenizer
    keep_training_layout(model)
    return model, tokenizer


def load_tokenizer(name: str):
    """The tokenizer of a model, without the model."""
    import transformers

    where = locate(name)
    if adapter_folder.is_adapter(where) and not (Path(where) / "tokenizer_config.json").is_file():
        return load_tokenizer(adapter_folder.base_of(where))
    if name == "tiny":  # the general class finds out the same by importing every model family
        return transformers.PreTrainedTokenizerFast.from_pretrained(where)
    return transformers.AutoTokenizer.from_pretrained(_on_disk(where))


def _on_disk(where: str) -> str:
    """The folder of a hub model in the hub's cache where the hub has no address, else `where`.

    Asked for a name without a network its client tries again for the better part of a minute.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if Path(where).exists() or urllib.request.getproxies():
        return where
    host = urllib.parse.urlparse(constants.ENDPOINT).hostname
    try:
        socket.getaddrinfo(host, 443)
        return where
    except OSError:
        pass
    try:
        return snapshot_download(where, local_files_only=True)
    except LocalEntryNotFoundError:
        raise UserError(f"cannot load {where!r}: it is not on this machine, and {host} cannot be "
                        "reached; without a network give a folder, smollm2 or tiny") from None


def context(model_or_name) -> int:
    """Tokens the model can read at once; 2048 where its config does not say."""
    config = getattr(model_or_name, "config", None)
    if config is None:
        where = locate(model_or_name)
        if adapter_folder.is_adapter(where):
            return context(adapter_folder.base_of(where))
        length = read_config(where).get("max_position_embeddings", 2048)
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise UserError(f"{where}/config.json: max_position_embeddings is {show(length)}; "
                            "expected the number of tokens that the model can read")
        return length
    return getattr(config, "max_position_embeddings", None) or 2048


def read_config(where: str) -> dict:
    """config.json of a folder as a dict, {} for a hub id; ValueError in words for a broken one."""
    path = Path(where) / "config.json"
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); expected a JSON object as "
                        "save_pretrained writes it") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds {show(found)}; expected a JSON object as save_pretrained "
                        "writes it")
    return found


def stored_shapes(where: str | Path) -> list[tuple[int, ...]] | None:
    """The shape of each tensor in the safetensors files of a folder, of which only the headers are
    read; None without such files. A file that cannot be read counts as empty: loading it will say
    what is wrong."""
    from safetensors import SafetensorError, safe_open

    files = sorted(Path(where).glob("*.safetensors"))
    shapes = []
    for path in files:
        try:
            with safe_open(path, "np") as file:
                shapes += [tuple(file.get_slice(name).get_shape()) for name in file.keys()]
        except (OSError, SafetensorError):
            continue
    return shapes if files else None


def _model_class(content: dict):
    """The model's own class where its config names one, which spares the import of the auto
    classes; otherwise AutoModelForCausalLM."""
    import transformers

    names = content.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if isinstance(name, str) and name.endswith("ForCausalLM") and hasattr(transformers, name):
        return getattr(transformers, name)
    return transformers.AutoModelForCausalLM


def _nf4():
    import torch
    import transformers

    low = torch.cuda.is_available() or machine.bf16_is_fast()
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if low else torch.float32,
    )


def keep_training_layout(model):
    """Forbid bitsandbytes to repack 4-bit weights on bf16 CPUs.

    The first eval-mode forward there repacks the weights for a kernel that has no backward, and
    later training gradients silently lose the path through the frozen layers (bitsandbytes 0.50:
    cosine 0.16 with the true gradient after one `generate`).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def adapt(model, config):
    """Make the part of `model` trainable that `config.method` names; returns the model to train.

    full: every parameter. Anything else: a peft model around the frozen base, see `adapters`.
    """
    if config.method == "full":
        if getattr(model, "is_quantized", False):
            raise UserError("method is full, which trains every weight, and those of this model "
                            "are quantized; take lora, which trains beside them")
        return model.requires_grad_(True)
    from ftkit.model import peft_methods

    return peft_methods.wrap(model, config)


def trainable(model, config):
    """What the optimizer gets: the adapted model in the precision and with the checkpointing that
    `config` asks for."""
    model = adapt(model, config)
    if config.precision == "pure-bf16":
        import torch

        model = model.to(torch.bfloat16)
    if config.gradient_checkpointing:
        from ftkit.model.checkpointing import checkpoint

        checkpoint(model)
    return model


def count(model) -> tuple[int, int]:
    """Trainable and total parameters; a 4-bit weight counts its original elements."""
    trainable = total = 0
    for p in model.parameters():
        quantized = getattr(p, "quant_state", None)
        n = quantized.shape.numel() if quantized is not None else p.numel()
        total += n
        trainable += n if p.requires_grad else 0
    return trainable, total


def save(model, tokenizer, folder: str | Path) -> Path:
    """Write the adapter (peft) or the whole model with `save_pretrained`, and the tokenizer."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet.no_progress_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
