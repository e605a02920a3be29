"""Is the folder of a model or of an adapter whole, and can ftkit train what is in it?

    check_model("my-model")                  config.json, the files of its weights, names and shapes
    check_fit(expected, tensors, ...)        the same of an adapter, which must fit its base
    check_values(model, where)               after loading: no weight is nan or infinite
    check_tokens(tokenizer, rows, where)     every token has a row in the embedding

Only headers of weights are read, so a model of any size is answered in about a second, before it
is loaded. Each check raises UserError, which names the file or the tensor and what to do next.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from ftkit.base import quiet
from ftkit.base.errors import UserError
from ftkit.data.jsonl import show

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
LONGEST_HEADER = 100_000_000  # bytes; the safetensors format allows no more
MOST_LAYERS, LARGEST_SIZE = 2000, 10**8  # a config with more was not meant
LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
SIZES = (*LAYERS, "hidden_size", "n_embd", "d_model", "num_attention_heads", "n_head",
         "vocab_size", "max_position_embeddings", "n_positions")
AGAIN = "get the file again from where the model came from"


class Tensor(NamedTuple):
    """A tensor in a safetensors file, as its header describes it."""

    dtype: str
    shape: tuple[int, ...]
    file: Path


# ------------------------------------------------------------------------------------- files


def read_json(path: Path) -> dict:
    """A JSON object that a save_pretrained has written; UserError for anything else."""
    _refuse_pipe(path)
    try:
        raw = path.read_bytes()
        _refuse_stand_in(path, raw)
        content = json.loads(raw)
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{_named(path)} cannot be read ({_reason(error)}); expected a JSON object "
                        "as save_pretrained writes it") from None
    if not isinstance(content, dict):
        raise UserError(f"{_named(path)} holds {show(content)}; expected a JSON object as "
                        "save_pretrained writes it")
    return content


def _refuse_pipe(path: Path):
    if path.is_fifo():  # reading would wait for somebody to write
        raise UserError(f"{_named(path)} is a pipe; {AGAIN}")


def header(path: Path) -> dict[str, Tensor]:
    """Name → tensor of a safetensors file, of which only the header is read; UserError for a file
    that is damaged, cut off, or something else."""
    _refuse_pipe(path)
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            start = file.read(min(size, 200))
            _refuse_stand_in(path, start)
            length = int.from_bytes(start[:8], "little")
            is_ours = 0 < length <= LONGEST_HEADER and start[8:9] in (b"", b"{", b"[")
            if is_ours:
                file.seek(8)
                start = file.read(length)
    except OSError as error:
        raise UserError(f"{_named(path)} cannot be read ({_reason(error)}); {AGAIN}") from None
    if not is_ours:
        raise UserError(f"{_named(path)} is not a safetensors file; {AGAIN}")
    if len(start) < length:
        raise UserError(f"{_named(path)} is cut off in its header ({size:,} bytes); {AGAIN}")
    try:
        entries = json.loads(start)
        entries.pop("__metadata__", None)
        tensors = {name: Tensor(entry["dtype"], tuple(map(int, entry["shape"])), path)
                   for name, entry in entries.items()}
        end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise UserError(f"{_named(path)} has a damaged header; {AGAIN}") from None
    if size < end:
        raise UserError(f"{_named(path)} is cut off: {size:,} of {end:,} bytes; {AGAIN}")
    if size > end:
        raise UserError(f"{_named(path)} has {size - end:,} bytes too many; {AGAIN}")
    return tensors


def tensors_in(folder: Path) -> dict[str, Tensor] | None:
    """Name → tensor of all that transformers loads from a folder, None where it holds no
    safetensors. UserError for a damaged file, and for an index that does not fit its files."""
    if os.path.lexists(folder / WEIGHTS):
        return header(folder / WEIGHTS)
    if not os.path.lexists(folder / INDEX):
        return None
    index = folder / INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(
            isinstance(name, str) for name in weight_map.values()):
        raise UserError(f"{_named(index)} has no weight_map of tensor → file; {AGAIN}")
    tensors = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise UserError(f"{_named(index)} names the file {show(name)}; expected a file of its "
                            "own folder")
        if not os.path.lexists(folder / name):
            raise UserError(f"{_named(folder / name)} is missing, which {INDEX} names; {AGAIN}")
        tensors |= header(folder / name)
    for name, file in weight_map.items():
        if name not in tensors or tensors[name].file.name != file:
            raise UserError(f"{_named(index)} says that {show(name, 100)} is in {file}, and it is "
                            f"not; {AGAIN}")
    return tensors


def _refuse_stand_in(path: Path, start: bytes):
    """UserError for what a download left in place of the file."""
    if not start:
        raise UserError(f"{_named(path)} is empty; {AGAIN}")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{_named(path)} is a Git LFS pointer, not the file itself; run "
                        "`git lfs pull` in its folder")
    if start.lstrip()[:1] == b"<":
        raise UserError(f"{_named(path)} is a web page, not the file itself; {AGAIN}")


def _reason(error: Exception) -> str:
    """Why a file could not be read, without its path."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _named(path: str | Path) -> str:
    """A path for a message: on one line, nothing unprintable."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


# ------------------------------------------------------------------------------------- models


def check_config(content: dict, where: str | Path):
    """UserError for the content of a config.json that describes no decoder of sane sizes."""
    from transformers import CONFIG_MAPPING

    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        own_code = "; a model with code of its own is not run" if "auto_map" in content else ""
        what = f"model_type is {show(kind)}, which is unknown to transformers" if kind else (
            "it has no model_type")
        raise UserError(f"{_named(where)} describes no model: {what}{own_code}; expected the "
                        "config.json that save_pretrained wrote")
    for name in ("text_config", "quantization_config", "rope_parameters", "rope_scaling"):
        if not isinstance(content.get(name), dict | None):
            raise UserError(f"{_named(where)}: {name} is {show(content[name])}; expected an "
                            "object, or leave it out")
    quantization = content.get("quantization_config") or {}
    method = quantization.get("quant_method") or next(
        (f"bitsandbytes_{bits}bit" for bits in (4, 8) if quantization.get(f"load_in_{bits}bit")),
        None)
    if quantization and not _can_read(method):
        raise UserError(f"{_named(where)}: quant_method is {show(method)}, which is unknown to "
                        "transformers; take a copy of the model that is not quantized")
    check_sizes(content, where)
    _check_is_decoder(content, kind, where)


def _can_read(method) -> bool:
    """Whether transformers knows this way of storing quantized weights."""
    from transformers.quantizers import auto

    known = getattr(auto, "AUTO_QUANTIZER_MAPPING", None)
    return isinstance(method, str) and (
        known is None or method in known or f"{method}_4bit" in known)


def check_sizes(content: dict, where: str | Path):
    """UserError for sizes of which even the shapes could not be made."""
    inner = content.get("text_config") or content
    for name, value in inner.items():
        if (name in SIZES and not isinstance(value, int | list)) or (isinstance(value, bool) and (
                name in SIZES)):
            raise UserError(f"{_named(where)}: {name} is {show(value)}; expected a whole number")
        if name == "sliding_window" and not isinstance(value, int | None):
            raise UserError(f"{_named(where)}: {name} is {show(value)}; expected a whole number "
                            "or null")
        if name in SIZES and isinstance(value, int) and value < 1:
            raise UserError(f"{_named(where)}: {name} is {value:,}; expected at least 1")
        most = MOST_LAYERS if name in LAYERS else LARGEST_SIZE
        if isinstance(value, int) and abs(value) > most:
            raise UserError(f"{_named(where)}: {name} is {_brief(value)}; expected at most "
                            f"{most:,}")


def _brief(value: int) -> str:
    return f"{value:,}" if abs(value) < 10**30 else f"a number of {len(str(value)):,} digits"


def _check_is_decoder(content: dict, kind: str, where):
    """UserError for encoders, encoder-decoders, and models with another head than one that predicts
    the next token: with transformers' class for decoders they would load, and train nonsense."""
    from transformers.models.auto import modeling_auto as auto

    wanted = "ftkit trains decoders, such as LlamaForCausalLM"
    if content.get("is_encoder_decoder") is True:
        raise UserError(f"{_named(where)} describes an encoder-decoder ({kind}); {wanted}")
    decoders = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    names = content.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    known = {n for value in decoders.values() for n in ([value] if isinstance(value, str)
                                                        else value)}
    if kind not in decoders or (isinstance(name, str) and name not in known
                                and not name.endswith("Model")):
        raise UserError(f"{_named(where)} describes {show(name or kind)}, which does not predict "
                        f"the next token; {wanted}")
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and content.get("is_decoder") is not True:
        raise UserError(f"{_named(where)} describes an encoder ({name or kind}), whose tokens see "
                        f"what follows them; {wanted} (a decoder of this kind has is_decoder true)")


def model_class(content: dict) -> Any:
    """The model's own class where its config names one, which spares the import of the auto
    classes; otherwise AutoModelForCausalLM."""
    import transformers

    names = content.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if isinstance(name, str) and name.endswith("ForCausalLM") and hasattr(transformers, name):
        return getattr(transformers, name)
    return transformers.AutoModelForCausalLM


_checked: dict = {}  # folder → state of its files when it was last found whole


def check_model(folder: str | Path, weights: bool = True) -> dict:
    """The content of config.json of a folder that is whole; UserError for any other.

    weights: False accepts a folder without any, of which the shapes can still be determined.
    """
    folder = Path(folder)
    try:
        state = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir()
                       if f.is_file())
    except OSError as error:
        raise UserError(f"{_named(folder)} cannot be read ({_reason(error)})") from None
    content = read_json(folder / "config.json")
    if _checked.get(str(folder)) == state:
        return content
    check_config(content, folder / "config.json")
    tensors = tensors_in(folder)
    if tensors is None:
        if not weights:
            return content
        pickled = (" (pytorch_model.bin is a pickle, which can run code: convert it to safetensors "
                   "with a program you trust)") if any(folder.glob("pytorch_model*.bin")) else ""
        raise UserError(f"{_named(folder)} has no {WEIGHTS}{pickled}; {AGAIN}")
    if not content.get("quantization_config"):  # else bitsandbytes knows what belongs together
        _check_dtypes(tensors)
        _check_names(content, folder)
    _checked[str(folder)] = state
    return content


def _check_dtypes(tensors: dict[str, Tensor]):
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS and not name.endswith((".bias", ".masked_bias", "_ids")):
            raise UserError(f"{_named(tensor.file)}: {show(name, 100)} is stored as {tensor.dtype};"
                            f" expected one of {', '.join(FLOATS)}, or a quantization_config in "
                            "config.json that says how to read it")


def without_memory(folder: str | Path):
    """The model that config.json of a folder describes, on the device meta."""
    import torch
    import transformers

    with quiet.no_advice(), quiet.no_warnings(), torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(folder)
        return transformers.AutoModelForCausalLM.from_config(config)


def _check_names(content: dict, folder: Path):
    """Every tensor of the model is in the files, of its shape, and none is left over: what
    transformers says when it loads them into a model without memory."""
    try:
        with quiet.no_advice(), quiet.no_warnings():
            _, found = model_class(content).from_pretrained(
                folder, output_loading_info=True, ignore_mismatched_sizes=True,
                use_safetensors=True, device_map={"": "meta"})
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  each architecture checks its config in its own way
        raise UserError(f"{_named(folder / 'config.json')} describes no model: "
                        f"{in_short(error)}; expected the config.json that save_pretrained "
                        "wrote") from None
    check_info(found, folder)


def check_info(found: dict[str, Any], where: str | Path):
    """UserError where transformers' loading info reports a weight that did not fit."""
    advice = "weights and config.json belong to different models, or the file is damaged"
    for name, stored, expected in sorted(found.get("mismatched_keys") or [], key=str):
        raise UserError(f"{_named(where)}: {show(name, 100)} has shape {tuple(stored)} in the file "
                        f"and {tuple(expected)} by config.json; {advice}")
    for kind, text in (("missing_keys", "lacks"), ("unexpected_keys", "has unexpected")):
        names = sorted(found.get(kind) or ())
        if names:
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            raise UserError(f"{_named(where)} {text} weights: {show(names[0], 100)}{more}; "
                            f"{advice}")


def check_values(model, where: str | Path):
    """UserError where a weight of a loaded model is nan or infinite."""
    import torch

    for name, p in model.named_parameters():
        if p.is_floating_point() and not math.isfinite(p.detach().sum(dtype=torch.float32)):
            bad = int((~torch.isfinite(p)).sum())
            if bad:
                raise UserError(f"{_named(where)}: {bad:,} of {p.numel():,} values of {name} are "
                                f"nan or infinite; {AGAIN}")


def check_tokens(tokenizer, rows: int | None, where: str | Path):
    """UserError for a tokenizer without tokens, or with more than the embedding has `rows`."""
    ids = tokenizer.get_vocab()
    if len(ids) <= len(getattr(tokenizer, "added_tokens_encoder", {})):
        raise UserError(f"{_named(where)} holds no vocabulary of a tokenizer; copy tokenizer.json "
                        "and tokenizer_config.json from where the model came from")
    if tokenizer.eos_token is None:
        raise UserError(f"{_named(where)}: the tokenizer has no eos_token, so the end of an answer "
                        "could not be learned; copy tokenizer_config.json from where the model "
                        "came from, or name the token there")
    name, last = max(ids.items(), key=lambda item: item[1])
    if isinstance(rows, int) and last >= rows:
        raise UserError(f"{_named(where)}: the tokenizer has the token {show(name, 40)} of id "
                        f"{last:,} and the embedding of the model has {rows:,} rows; take the "
                        "tokenizer of this model, or model.resize_token_embeddings(len(tokenizer)) "
                        "and save both")


# ----------------------------------------------------------------------------------- adapters


def check_fit(expected: dict, tensors: dict[str, Tensor], base: dict, folder: str | Path):
    """UserError unless the file of an adapter has the tensors that its peft model expects.

    expected: name → tensor as `peft.get_peft_model_state_dict`. base: those of the model itself,
    of which a file may have some, such as an embedding that was made larger.
    """
    fit = f"the adapter in {_named(folder)} does not fit its base model: "
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise UserError(f"{_named(tensor.file)}: {show(name, 100)} is stored as {tensor.dtype};"
                            f" expected one of {', '.join(FLOATS)}")
        if name not in expected and name.removeprefix("base_model.") not in base:
            raise UserError(f"{fit}its file has {show(name, 100)}, which the model does not "
                            "have; give it the base that it was trained on")
    for name, tensor in expected.items():
        if name not in tensors:
            raise UserError(f"{fit}its file lacks {show(name, 100)}; {AGAIN}")
        if tuple(tensor.shape) != tensors[name].shape:
            raise UserError(f"{fit}{show(name, 100)} has shape {tensors[name].shape} and "
                            f"{tuple(tensor.shape)} would fit; give it the base that it was "
                            "trained on")


def in_short(error: Exception) -> str:
    """What an exception of a library says, short and on one line."""
    return show(" ".join(str(error).split()) or type(error).__name__, 200)
