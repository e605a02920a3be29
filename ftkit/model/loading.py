"""Find and load a model, prepare it for training, and save the result.

Every model is a plain transformers model.
"""

import contextlib
import os
import socket
import urllib.parse
import urllib.request
from pathlib import Path

from ftkit.base import machine, quiet
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.base.formatting import show
from ftkit.model import adapter_folder, download, merge, peft_methods, soundness

quiet.mute_known_noise()
# From 5.25 on transformers replaces layers by kernels of the hub unless told not to. A run computes
# with torch's operations, with and without a network; USE_HUB_KERNELS, if set, is respected.
os.environ.setdefault("USE_HUB_KERNELS", "NO")


def tiny_path() -> Path:
    """Folder of the embedded base model. FTKIT_TINY overrides it while a new model is built."""
    return Path(os.environ.get("FTKIT_TINY") or machine.package() / "model" / "tiny")


def locate(name: str) -> str:
    """Folder or hub id of a model. Raises UserError if `name` is neither.

    tiny is the embedded base, smollm2 the fetched copy. Other names are a folder with a config.json
    or a peft adapter, or a hub id such as `HuggingFaceTB/SmolLM2-135M`.
    """
    if not isinstance(name, str | os.PathLike):
        raise UserError(f"model is a {type(name).__name__}; expected tiny, smollm2, a folder or a "
                        "hub id")
    name = str(name)
    if name == "tiny":
        return str(tiny_path())
    if name in ("smollm2", adapter_folder.SMOLLM2) and (fetched := download.find("smollm2")):
        return str(fetched)
    if name == "smollm2":
        place = machine.home() / "models" / "smollm2"
        raise UserError(f"the fetched smollm2 is damaged ({download.damage(place)}). Run `ftkit "
                        "fetch smollm2` to download it again." if place.is_dir() else
                        "smollm2 is not on this machine yet. Run `ftkit fetch smollm2` to download "
                        "it.")
    folder = at_home(name)
    try:
        if os.path.lexists(folder / "config.json") or adapter_folder.is_adapter(folder):
            return str(folder)
        is_folder = folder.is_dir()
    except (OSError, ValueError) as error:  # name too long, zero byte, no permission
        raise UserError(f"{show(name, 100)} cannot be read ({error}); expected tiny, smollm2, a "
                        "folder with a config.json, or a hub id") from None
    if is_folder:
        raise UserError(f"the folder {name} has no config.json; expected a folder written by "
                        "save_pretrained, or tiny, smollm2, or a hub id")
    if name.count("/") == 1 and not name.startswith(("/", ".", "~")):
        return name
    raise UserError(f"there is no model {name!r}; expected tiny, smollm2, a folder with a "
                    "config.json, or a hub id like HuggingFaceTB/SmolLM2-135M")


MOST_ADAPTERS = 8  # a longer chain of adapters must be a mistake


def with_adapters(name: str) -> tuple[str, list[str]]:
    """Resolve `name` to (folder or hub id of the base model, folders of the adapters on it).

    Adapters are in the order in which they were trained. Raises UserError like `locate`, or if
    adapters name each other as their base.
    """
    location, adapters = locate(name), []
    while adapter_folder.is_adapter(location):
        if os.path.realpath(location) in map(os.path.realpath, adapters):
            raise UserError(f"the adapter in {location} is its own base, through {len(adapters)} "
                            "folder(s). Set base_model_name_or_path in its "
                            f"{adapter_folder.CONFIG} to the model that it was trained on.")
        adapters.insert(0, location)
        if len(adapters) > MOST_ADAPTERS:
            raise UserError(f"the adapter in {location} is based on more than {MOST_ADAPTERS} "
                            "other adapters. Merge one into its base with `ftkit export`.")
        base = adapter_folder.base_of(location)
        try:
            location = locate(base)
        except UserError as error:
            raise UserError(f"the base named in {Path(location) / adapter_folder.CONFIG} cannot be "
                            f"found: {error}") from None
    return location, adapters


def load(name: str = "tiny", quantize: bool = False, device: str | None = None, dtype=None,
         quant_type: str = "nf4", load_in_8bit: bool = False):
    """Load a model and its tokenizer: `model, tokenizer = load("tiny")`.

    dtype: dtype of the weights, by default torch.float32. `quantize` stores linear layers in 4 bits
    with double quantization (QLoRA; quant_type is nf4 or fp4), or with load_in_8bit in int8 with an
    fp32 scale per row (LLM.int8()). For an adapter's folder, returns a peft model on its base. Only
    safetensors are read, and no code from the hub is run. Raises UserError if the model cannot be
    found or read, or its stored quantization is not the requested one.
    """
    location, adapters = with_adapters(name)
    asked = _quantization(dtype, quant_type, load_in_8bit) if quantize else None
    with quiet.LIBRARIES:
        model, tokenizer = _load_whole(location, asked, device, dtype)
        for i, folder in enumerate(adapters):
            model = adapter_folder.apply(merge.unwrap(model) if i else model, folder)
    if adapters:
        tokenizer = load_tokenizer(name)
    return model, tokenizer


def _load_whole(location: str, quantize, device: str | None, dtype):
    import torch
    import transformers

    device = device or machine.device()
    options = {"dtype": dtype or torch.float32, "use_safetensors": True,
               "trust_remote_code": False}
    is_folder, is_tiny = Path(location).is_dir(), location == str(tiny_path())
    content = soundness.check_model(location) if is_folder and not is_tiny else (
        read_config(location))
    stored = content.get("quantization_config") or {}
    if quantize and not stored:
        options |= {"quantization_config": quantize}
    elif quantize and quantize.load_in_8bit != bool(stored.get("load_in_8bit")):
        raise UserError(f"load_in_8bit is {quantize.load_in_8bit}, but the weights in {location} "
                        f"have {4 if quantize.load_in_8bit else 8} bits. Set load_in_8bit to "
                        f"{not quantize.load_in_8bit}, or choose a model in 16 or 32 bits.")
    if quantize or stored:
        options |= {"device_map": {"": device}}
    try:
        folder = _cached_if_offline(location)
        if not is_folder:  # a hub id, or the hub's cache
            with quiet.LIBRARIES:
                soundness.check_config(
                    transformers.PretrainedConfig.get_config_dict(folder)[0], location)
        model_class = soundness.model_class(content)
        small = is_folder and sum(  # it loads too quickly to need a progress bar
            path.stat().st_size for path in Path(location).glob("*.safetensors")) < 2**30
        with quiet.no_progress_bars() if small else contextlib.nullcontext():
            model, found = model_class.from_pretrained(
                folder, output_loading_info=True, **options)
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except OSError as error:
        raise UserError(f"cannot load {location!r}: {soundness.in_short(error)}. A gated model "
                        "needs `hf auth login`. Offline, pass a folder or tiny.") from None
    except Exception as error:  # noqa: BLE001  libraries may raise anything for a bad file
        raise UserError(f"cannot load {location!r}: {type(error).__name__}: "
                        f"{soundness.in_short(error)}. {soundness.AGAIN}") from error
    model.name_or_path = location  # an adapter's config will name this as its base
    if not is_tiny:
        if not (quantize or stored):  # quantized weights have additional tensors
            soundness.check_info(found, location)
        soundness.check_values(model, location)
    tokenizer = _tokenizer_in(folder, model.get_input_embeddings().weight.shape[0])
    if not (quantize or stored):
        return model.to(device), tokenizer
    keep_training_layout(model)
    return model, tokenizer


def check(name: str) -> str:
    """Check a model without loading it; returns the folder or hub id of its base.

    Only the headers of weights are read, if there are any. Raises UserError if the folder is
    incomplete apart from weights.
    """
    location, adapters = with_adapters(name)
    if Path(location).is_dir() and location != str(tiny_path()):
        soundness.check_model(location, weights=False)
    for folder in adapters:
        if Path(location).is_dir():
            adapter_folder.check(soundness.without_memory(location), folder)
        else:
            adapter_folder.weights_in(folder)
    return location


def notes(name: str) -> list[str]:
    """List a sentence for each thing in the folders of a model that is easily overlooked."""
    location, adapters = with_adapters(name)
    found = []
    for folder in adapters:
        names = adapter_folder.replaced(folder)
        if names:
            found.append(f"the adapter in {folder} replaces weights of its base "
                         f"({len(names):,}, such as {show(names[0], 100)})")
    path = Path(location) / "config.json"
    twice = soundness.repeated_names(path) if path.is_file() else []
    return found + [f"{path} has {show(name, 40)} twice; the last value counts" for name in twice]


def load_tokenizer(name: str):
    """The tokenizer of a model. Raises UserError if it cannot be read."""
    location, adapters = with_adapters(name)
    rows = _rows(location)
    for folder in reversed(adapters):
        if (Path(folder) / "tokenizer_config.json").is_file():
            has_embedding = any("embed" in name or "wte" in name
                                for name in adapter_folder.weights_in(folder))
            return _tokenizer_in(folder, None if has_embedding else rows)
    return _tokenizer_in(_cached_if_offline(location), rows)


def _rows(location: str) -> int | None:
    """Number of embedding rows in config.json; None (not checked) for tiny and hub ids."""
    if not Path(location).is_dir() or location == str(tiny_path()):
        return None
    content = read_config(location)
    soundness.check_config(content, Path(location) / "config.json")
    return (content.get("text_config") or content).get("vocab_size")


def _tokenizer_in(folder: str, rows: int | None = None):
    """Load the tokenizer in a folder. rows: number of embedding rows; None skips this check."""
    import transformers

    if folder == str(tiny_path()):  # AutoTokenizer would import every model family
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    try:
        with quiet.LIBRARIES:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        soundness.check_tokens(tokenizer, rows, folder)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  libraries may raise anything for a bad file
        raise UserError(f"the tokenizer in {folder} cannot be read: {type(error).__name__}: "
                        f"{soundness.in_short(error)}. Copy tokenizer.json and "
                        "tokenizer_config.json from the original model.") from None
    return tokenizer


def _cached_if_offline(location: str) -> str:
    """Return `location` or, without a network, the model's folder in the hub's cache.

    The hub's own client would retry for most of a minute. Raises UserError if it is not cached.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if Path(location).exists() or urllib.request.getproxies():
        return location
    host = urllib.parse.urlparse(constants.ENDPOINT).hostname
    try:
        socket.getaddrinfo(host, 443)
        return location
    except OSError:
        pass
    try:
        return snapshot_download(location, local_files_only=True)
    except LocalEntryNotFoundError:
        raise UserError(f"cannot load {location!r}: it is not on this machine, and {host} cannot "
                        "be reached. Connect to the internet, or pass a folder, smollm2 or "
                        "tiny.") from None


def context(model_or_name) -> int:
    """Maximum number of tokens in the model's context; 2048 if its config does not say."""
    config = getattr(model_or_name, "config", None)
    if config is not None:
        return getattr(config, "max_position_embeddings", None) or 2048
    location, _ = with_adapters(model_or_name)
    length = read_config(location).get("max_position_embeddings", 2048)
    if not isinstance(length, int) or length < 1:
        raise UserError(f"{location}/config.json: max_position_embeddings is {show(length)}; "
                        "expected a number of tokens, at least 1")
    return length


def read_config(location: str | Path) -> dict:
    """Read config.json of a folder; {} for a hub id. Raises UserError if the file is damaged."""
    path = Path(location) / "config.json"
    return soundness.read_json(path) if os.path.lexists(path) else {}


def stored_shapes(location: str | Path) -> list[tuple[int, ...]] | None:
    """List the shapes of all tensors in a folder from the headers of its safetensors files.

    Returns None if there are no such files. Raises UserError if one is damaged.
    """
    tensors = soundness.tensors_in(Path(location))
    return None if tensors is None else [tensor.shape for tensor in tensors.values()]


def _quantization(dtype, quant_type: str, load_in_8bit: bool):
    import torch
    import transformers

    if load_in_8bit:
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    fast_bf16 = torch.cuda.is_available() or machine.bf16_is_fast()
    compute = torch.bfloat16 if fast_bf16 else torch.float32
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quant_type,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute if dtype in (None, torch.float32) else dtype,
    )


def keep_training_layout(model):
    """Keep bitsandbytes from repacking 4-bit weights on bf16 CPUs.

    On such CPUs the first forward pass in eval mode repacks the weights for a kernel without a
    backward pass, so later gradients silently skip the frozen layers (bitsandbytes 0.50: cosine
    0.16 with the true gradient after one `generate`).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def adapt(model, config):
    """Make `model` trainable by `config.method`, and return the model to train.

    For method full this is the model itself, otherwise a peft model (see `peft_methods`).
    """
    if config.method == "full":
        if getattr(model, "is_quantized", False):
            raise UserError("method is full, which trains every weight, but the weights of this "
                            "model are quantized. Set method to lora, which trains an adapter.")
        model.name_or_path = ""  # once trained, the weights are in no folder
        return model.requires_grad_(True)
    with quiet.LIBRARIES:
        return peft_methods.wrap(model, config)


def trainable(model, config):
    """Prepare a model for training with the method, precision and checkpointing of `config`."""
    if config.method != "full":
        cast_base(model, base_dtype(config))
    model = adapt(model, config)
    if config.precision == "pure-bf16":
        import torch

        model = model.to(torch.bfloat16)
    if config.gradient_checkpointing:
        from ftkit.model.checkpointing import checkpoint

        checkpoint(model)
    return model


def base_dtype(config):
    """The torch dtype of frozen weights: config.base_dtype, by default fp32.

    Adapters are always fp32, as peft creates them.
    """
    import torch

    return {None: torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16,
            "fp16": torch.float16}[config.base_dtype]


def cast_base(model, dtype):
    """Cast the weights of `model` to `dtype`, except quantized weights and buffers, as
    `from_pretrained(dtype=...)` does."""
    import torch

    for p in model.parameters():
        if p.is_floating_point() and p.dtype != dtype and getattr(p, "quant_state", None) is None:
            p.data = p.data.to(dtype)
    if dtype != torch.float32:
        model.config.dtype = dtype


def count(model) -> tuple[int, int]:
    """Count (trainable, total) parameters; of a 4-bit weight the elements before quantization."""
    trainable = total = 0
    for p in model.parameters():
        quantized = getattr(p, "quant_state", None)
        n = quantized.shape.numel() if quantized is not None else p.numel()
        total += n
        trainable += n if p.requires_grad else 0
    return trainable, total


def save(model, tokenizer, folder: str | Path) -> Path:
    """Save the model (for peft only the adapter) and the tokenizer with `save_pretrained`.

    An adapter's config names its base so that other machines find it (`adapter_folder.portable`).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for asked in getattr(model, "peft_config", {}).values():
        name = adapter_folder.portable(asked.base_model_name_or_path or "")
        asked.base_model_name_or_path = name
        # peft writes these into the adapter's model card.
        model.get_base_model().name_or_path = model.config._name_or_path = name  # noqa: SLF001
    # Our adapters never change the embedding; by default peft would query the hub to find out.
    options = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
    with quiet.no_progress_bars():
        model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # safetensors writes them for their owner only
        weights.chmod((folder / "tokenizer_config.json").stat().st_mode)
    return folder
