"""Checks that a model or adapter folder is complete, and that ftkit can train what is in it.

    check_model("my-model")                  config.json, and the names and shapes of all weights
    check_fit(expected, tensors, ...)        an adapter's weights, against its base
    check_values(model, where)               a loaded model: no weight is nan or infinite
    check_tokens(tokenizer, rows, where)     every token has a row in the embedding

The first two read only the headers of weight files, so they take about a second for a model of
any size. Every check raises UserError with the file or tensor at fault and what to do next.
"""

import json
import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from ftkit.base import quiet
from ftkit.base.errors import UserError
from ftkit.base.formatting import printable_name, show

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
LIMITS = {  # config field → the largest value that is accepted
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers"), 2000),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "num_attention_heads", "n_head",
                     "vocab_size", "max_position_embeddings", "n_positions"), 10**8),
}
AGAIN = "Download the file again."


class Tensor(NamedTuple):
    """A tensor in a safetensors file, as its header describes it."""

    dtype: str
    shape: tuple[int, ...]
    file: Path


# ------------------------------------------------------------------------------------- files


def read_json(path: Path) -> dict:
    """Read the JSON object in a file. Raises UserError if there is none."""
    try:
        raw = path.read_bytes()
        _check_not_lfs_pointer(path, raw)
        content = json.loads(raw)
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{printable_name(path)} cannot be read ({_reason(error)}); expected a "
                        "JSON object as save_pretrained writes it") from None
    if not isinstance(content, dict):
        raise UserError(f"{printable_name(path)} contains {show(content)}; expected a JSON object "
                        "as save_pretrained writes it")
    return content


def header(path: Path) -> dict[str, Tensor]:
    """Read a safetensors header: name → Tensor. Raises UserError if the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with open(path, "rb") as file:
            _check_not_lfs_pointer(path, file.read(100))
        with safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{printable_name(path)} is not a complete safetensors file "
                        f"({_reason(error)}). {AGAIN}") from None
    return {name: Tensor(part.get_dtype(), tuple(part.get_shape()), path)
            for name, part in slices.items()}


def tensors_in(folder: Path) -> dict[str, Tensor] | None:
    """Map names to all tensors that transformers loads from a folder; None without safetensors.

    Raises UserError if a file is damaged or missing.
    """
    if os.path.lexists(folder / WEIGHTS):
        return header(folder / WEIGHTS)
    index = folder / INDEX
    if not os.path.lexists(index):
        return None
    weight_map = read_json(index).get("weight_map")
    files = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not files or any(Path(str(name)).name != name for name in files):
        raise UserError(f"{printable_name(index)} has no valid weight_map (tensor → file in the "
                        f"same folder). {AGAIN}")
    tensors = {}
    for name in sorted(set(files)):
        tensors |= header(folder / name)
    return tensors


def _check_not_lfs_pointer(path: Path, start: bytes):
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{printable_name(path)} is a Git LFS pointer, not the file itself. Run "
                        "`git lfs pull` in its folder.")


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return text.removeprefix("Error while deserializing header: ")


def repeated_names(path: Path) -> list[str]:
    """Names that occur twice in one object of a JSON file, which is read with the last value."""
    repeated: list[str] = []

    def collect(pairs):
        names = [name for name, _ in pairs]
        repeated.extend(name for name in dict.fromkeys(names) if names.count(name) > 1)
    json.loads(path.read_bytes(), object_pairs_hook=collect)
    return repeated


# ------------------------------------------------------------------------------------- models


def check_config(content: dict, where: str | Path):
    """Raise UserError unless a config.json describes a decoder of plausible size."""
    from transformers import CONFIG_MAPPING

    kind, where = content.get("model_type"), printable_name(where)
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        own_code = "; ftkit does not run a model's own code" if "auto_map" in content else ""
        what = f"transformers does not know model_type {show(kind)}" if kind else (
            "it has no model_type")
        raise UserError(f"{where} does not describe a model: {what}{own_code}; expected the "
                        "config.json that save_pretrained writes")
    for name in ("text_config", "quantization_config"):
        if not isinstance(content.get(name), dict | None):
            raise UserError(f"{where}: {name} is {show(content[name])}; expected an object")
    _check_quantization(content.get("quantization_config") or {}, where)
    check_sizes(content, where)
    _check_settings(content, where)
    _check_is_decoder(content, kind, where)


def _check_quantization(config: dict, where: str):
    """Raise UserError if transformers does not know, and would ignore, a quantization method."""
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING as KNOWN

    method = config.get("quant_method") or next(
        (f"bitsandbytes_{bits}bit" for bits in (4, 8) if config.get(f"load_in_{bits}bit")), None)
    if config and not (isinstance(method, str) and {method, f"{method}_4bit"} & set(KNOWN)):
        raise UserError(f"{where}: quant_method is {show(method)}, which transformers does not "
                        "know. Use an unquantized copy of the model.")


def check_sizes(content: dict, where: str | Path):
    """Raise UserError if a size is so wrong that building the model would fail or fill memory."""
    for name, value in (content.get("text_config") or content).items():
        most = LIMITS.get(name)
        if most is None or isinstance(value, list):  # some models give a list, one per layer
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise UserError(f"{printable_name(where)}: {name} is {show(value)}; expected a whole "
                            f"number from 1 to {most:,}")


def _check_settings(content: dict, where: str):
    """Raise UserError for a setting that would run code of the hub, or fail only in training."""
    for name, value in content.items():
        expected = None
        if name.endswith("attn_implementation") and isinstance(value, str) and "/" in value:
            expected = "eager or sdpa, since ftkit does not run code from the hub"
        elif re.search("dropout|drop$", name) and isinstance(value, int | float) and (
                not isinstance(value, bool)):
            expected = None if 0 <= value < 1 else "a fraction from 0 to below 1"
        elif name in ("return_dict", "use_return_dict") and value is False:
            expected = "true"
        elif name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            ids = value if isinstance(value, list) else [value]
            expected = None if all(isinstance(i, int | None) for i in ids) else "a token's id"
        if expected:
            raise UserError(f"{where}: {name} is {show(value)}; expected {expected}")


def _check_is_decoder(content: dict, kind: str, where: str):
    """Raise UserError unless the model is a decoder with a head for next tokens.
    AutoModelForCausalLM would load many other models, and training would produce nonsense."""
    from transformers.models.auto import modeling_auto as auto

    wanted = "expected a decoder, such as LlamaForCausalLM"
    if content.get("is_encoder_decoder") is True:
        raise UserError(f"{where} describes an encoder-decoder ({kind}); {wanted}. Choose another "
                        "model.")
    decoders = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    name = _architecture(content)
    known = {n for value in decoders.values() for n in ([value] if isinstance(value, str)
                                                        else value)}
    if kind not in decoders or (isinstance(name, str) and name not in known
                                and not name.endswith("Model")):
        raise UserError(f"{where} describes {show(name or kind)}, which does not predict the next "
                        f"token; {wanted}")
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and content.get("is_decoder") is not True:
        raise UserError(f"{where} describes an encoder ({name or kind}), which reads text in both "
                        f"directions; {wanted} (a decoder of this type has is_decoder true)")


def _architecture(content: dict):
    names = content.get("architectures")
    return names[0] if isinstance(names, list) and names else None


def model_class(content: dict) -> Any:
    """Import the class named in config.json, else AutoModelForCausalLM, which takes longer."""
    import transformers

    name = _architecture(content)
    if isinstance(name, str) and name.endswith("ForCausalLM") and hasattr(transformers, name):
        return getattr(transformers, name)
    return transformers.AutoModelForCausalLM


_checked: dict = {}  # folder → names, sizes and times of its files when it last passed the check


def check_model(folder: str | Path, weights: bool = True) -> dict:
    """Check a model folder and return its config.json. Raises UserError if it is incomplete.

    weights: False accepts a folder without weights, whose shapes can still be computed.
    """
    folder = Path(folder)
    try:
        state = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir()
                       if f.is_file())
    except OSError as error:
        raise UserError(f"{printable_name(folder)} cannot be read ({_reason(error)})") from None
    content = read_json(folder / "config.json")
    if _checked.get(str(folder)) == state:
        return content
    check_config(content, folder / "config.json")
    if os.path.lexists(generation := folder / "generation_config.json"):
        _check_settings(read_json(generation), printable_name(generation))
    tensors = tensors_in(folder)
    if tensors is None:
        if not weights:
            return content
        pickled = (" (pytorch_model.bin is a pickle, which can run code: convert it to safetensors "
                   "with a program you trust)") if any(folder.glob("pytorch_model*.bin")) else ""
        raise UserError(f"{printable_name(folder)} has no {WEIGHTS}{pickled}. {AGAIN}")
    if not content.get("quantization_config"):  # bitsandbytes checks quantized weights itself
        _check_dtypes(tensors)
        _check_names(content, folder)
    _checked[str(folder)] = state
    return content


def _check_dtypes(tensors: dict[str, Tensor]):
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS and not name.endswith((".bias", ".masked_bias", "_ids")):
            raise UserError(f"{printable_name(tensor.file)}: {show(name, 100)} is stored as "
                            f"{tensor.dtype}; expected one of {', '.join(FLOATS)}, or a "
                            "quantization_config in config.json")


def without_memory(folder: str | Path):
    """Build the model of a folder's config.json on the meta device (shapes only)."""
    import torch
    import transformers

    with quiet.no_advice(), quiet.no_warnings(), torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def _check_names(content: dict, folder: Path):
    """Raise UserError unless the files have exactly the model's tensors with the right shapes, as
    transformers reports when it loads them onto the meta device."""
    try:
        with quiet.no_advice(), quiet.no_warnings():
            _, found = model_class(content).from_pretrained(
                folder, output_loading_info=True, ignore_mismatched_sizes=True,
                use_safetensors=True, trust_remote_code=False, device_map={"": "meta"},
                use_kernels=False)  # kernels know no meta device
    except Exception as error:  # noqa: BLE001  each architecture checks its config in its own way
        raise UserError(f"{printable_name(folder / 'config.json')} does not describe a model: "
                        f"{in_short(error)}; expected the config.json that save_pretrained "
                        "writes") from None
    check_info(found, folder)


def check_info(found: dict[str, Any], where: str | Path):
    """Raise UserError if transformers' loading info reports a weight that did not fit."""
    where = printable_name(where)
    advice = "The weights and config.json belong to different models, or the file is damaged."
    for name, stored, expected in sorted(found.get("mismatched_keys") or [], key=str):
        raise UserError(f"{where}: {show(name, 100)} has shape {tuple(stored)} in the file and "
                        f"{tuple(expected)} in config.json. {advice}")
    for kind, text in (("missing_keys", "lacks"), ("unexpected_keys", "has unexpected")):
        names = sorted(found.get(kind) or ())
        if names:
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            raise UserError(f"{where} {text} weights: {show(names[0], 100)}{more}. {advice}")


def check_values(model, where: str | Path):
    """Raise UserError if a weight of a loaded model is nan or infinite."""
    import torch

    for name, p in model.named_parameters():
        if p.is_floating_point() and not math.isfinite(p.detach().sum(dtype=torch.float32)):
            bad = int((~torch.isfinite(p)).sum())
            if bad:  # else the sum itself overflowed
                raise UserError(f"{printable_name(where)}: {bad:,} of {p.numel():,} values of "
                                f"{name} are nan or infinite. {AGAIN}")


def check_tokens(tokenizer, rows: int | None, where: str | Path):
    """Raise UserError if a tokenizer has no vocabulary or eos_token, or an id outside of the
    embedding's `rows` rows (None: not checked)."""
    ids, where = tokenizer.get_vocab(), printable_name(where)
    if len(ids) <= len(getattr(tokenizer, "added_tokens_encoder", {})):
        raise UserError(f"{where} has no tokenizer vocabulary. Copy tokenizer.json and "
                        "tokenizer_config.json from the original model.")
    if tokenizer.eos_token is None:
        raise UserError(f"{where}: the tokenizer has no eos_token, so the model could not learn to "
                        "end an answer. Copy tokenizer_config.json from the original model, or "
                        "name the token there.")
    name, last = max(ids.items(), key=lambda item: item[1])
    if isinstance(rows, int) and last >= rows:
        raise UserError(f"{where}: the tokenizer gives {show(name, 40)} the id {last:,}, but the "
                        f"model's embedding has {rows:,} rows. Use the tokenizer of this model, or "
                        "call model.resize_token_embeddings(len(tokenizer)) and save both.")


# ----------------------------------------------------------------------------------- adapters


def check_fit(expected: dict, tensors: dict[str, Tensor], base: dict, folder: str | Path):
    """Raise UserError unless an adapter's file has the tensors that its peft model expects.

    expected: name → tensor from `peft.get_peft_model_state_dict`. base: state dict of the base
    model; the file may also have some of these, such as an enlarged embedding.
    """
    fit = f"the adapter in {printable_name(folder)} does not fit its base model: "
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise UserError(f"{printable_name(tensor.file)}: {show(name, 100)} is stored as "
                            f"{tensor.dtype}; expected one of {', '.join(FLOATS)}")
        if name not in expected and name.removeprefix("base_model.") not in base:
            raise UserError(f"{fit}its file has {show(name, 100)}, which the model does not have. "
                            "Use the base that it was trained on.")
    for name, tensor in expected.items():
        if name not in tensors:
            raise UserError(f"{fit}its file lacks {show(name, 100)}. {AGAIN}")
        if tuple(tensor.shape) != tensors[name].shape:
            raise UserError(f"{fit}{show(name, 100)} has shape {tensors[name].shape}; expected "
                            f"{tuple(tensor.shape)}. Use the base that it was trained on.")


def in_short(error: Exception) -> str:
    """Shorten the message of a library's exception to one line."""
    return show(" ".join(str(error).split()) or type(error).__name__, 200)
