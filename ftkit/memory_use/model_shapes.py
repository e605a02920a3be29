"""Shapes of known models and sizes of known GPUs, for predictions without weights.

    config = shape("meta-llama/Llama-2-7b")     a transformers config; also "llama-2-7b"
    GPUS["H100 80GB"].usable

`model_shapes.jsonl` has the sizes that each model's own config.json gives (Brown et al. 2020, table
2.1, for the GPT-3 of 175 billion parameters, written as a GPT-2, which it resembles).
"""

from __future__ import annotations

import difflib
import functools
import json
import math
import re
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from ftkit.base import json_lines, machine, quiet
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.model import loading, soundness

GIB = 2**30


class Gpu(NamedTuple):
    """gb: memory in the data sheet, in GB (10**9) or GiB, depending on the maker. mib: memory that
    the driver reports, in MiB (`nvidia-smi`; error correction may use a small part)."""

    gb: int
    mib: int

    @property
    def usable(self) -> int:
        """Bytes of tensors that fit on the card; inverse of `needed`."""
        return round((self.mib * 2**20 - CONTEXT) / (1 + SLACK))


# A CUDA context with cuBLAS takes 0.3 to 0.6 GiB, depending on card and driver. torch's caching
# allocator cuts blocks of 512 bytes out of segments of 2 MB, of 20 MB or, for tensors of 10 MB and
# more, of a multiple of 2 MB (docs.pytorch.org/docs/stable/notes/cuda.html, "Memory management"),
# and keeps freed blocks for later tensors. In nine runs on an A100 it took 5 to 30 % more than the
# tensors, with a median of 16 % (tests/benchmarks/published.json). It returns cached segments
# before it fails, so the memory that a run needs is closer to the minimum.
CONTEXT, SLACK, TYPICAL_SLACK = 512 * 2**20, 0.05, 0.16


def needed(peak: float) -> float:
    """Bytes that a GPU needs for tensors of `peak` bytes, including CUDA's context and the part
    that the allocator cannot use even if memory is short."""
    return CONTEXT + (1 + SLACK) * peak


def reserved(peak: float) -> float:
    """Bytes that `nvidia-smi` usually shows for tensors of `peak` bytes on a GPU with room."""
    return CONTEXT + (1 + TYPICAL_SLACK) * peak


# Data sheets: nvidia.com/en-us/data-center (T4, V100, A10, L4, A100, L40S, H100, H200, B200),
# /geforce (RTX), amd.com/en/products/accelerators (MI300X).
GPUS = {
    "T4 16GB": Gpu(16, 15360), "V100 16GB": Gpu(16, 16384), "V100 32GB": Gpu(32, 32768),
    "RTX 4090 24GB": Gpu(24, 24564), "A10 24GB": Gpu(24, 23028), "L4 24GB": Gpu(24, 23034),
    "RTX 3090 24GB": Gpu(24, 24576), "RTX 5090 32GB": Gpu(32, 32607),
    "A100 40GB": Gpu(40, 40960), "A6000 48GB": Gpu(48, 49140), "L40S 48GB": Gpu(48, 46068),
    "RTX 6000 Ada 48GB": Gpu(48, 49140), "RTX PRO 6000 96GB": Gpu(96, 97887),
    "GH200 96GB": Gpu(96, 97871), "A100 80GB": Gpu(80, 81920), "H100 80GB": Gpu(80, 81559),
    "H200 141GB": Gpu(141, 143771), "B200 192GB": Gpu(192, 183359),
    "MI300X 192GB": Gpu(192, 196592),
}


@functools.cache
def _rows() -> list[dict]:
    """List the known models: id, other names, and the sizes in config.json."""
    return json_lines.read(machine.package() / "memory_use" / "model_shapes.jsonl",
                           damaged="raise")


@functools.cache
def _by_name() -> dict[str, dict]:
    """Map every name of the known models, in lower case, to its row of the table."""
    found = {}
    for row in _rows():
        for name in (row["id"], *row["names"]):
            found[name.lower()] = row
            found[re.sub("-hf$", "", name.lower().rpartition("/")[2])] = row
    return found


def row_of(name: str) -> dict | None:
    """Return a known model's row: `config` (sizes in its config.json) and `parameters`; or None."""
    return _by_name().get(name.lower())


def parameters(model) -> int | None:
    """Number of parameters of a known model or of the weights in a folder; None if unknown."""
    if not isinstance(model, str):
        return None
    if row := row_of("smollm2-135m" if model == "smollm2" else model):
        return row["parameters"]
    folder = loading.tiny_path() if model == "tiny" else at_home(model)
    stored = loading.stored_shapes(folder) if folder.is_dir() else None
    return sum(map(math.prod, stored)) if stored else None


def names() -> list[str]:
    """The hub ids (or names) of the known models."""
    return [row["id"] for row in _rows()]


class Sizes(SimpleNamespace):
    """The sizes in a config.json under uniform names: hidden_size, num_hidden_layers,
    num_attention_heads, vocab_size, max_position_embeddings, intermediate_size,
    num_local_experts, model_type."""

    def get_text_config(self) -> Sizes:
        return self


def sizes(content: dict) -> Sizes:
    """Read the sizes in a config.json; a missing size is 0, a missing number of layers 1."""
    inner = content.get("text_config") or content

    def size(*names):
        return next((inner[n] for n in names if isinstance(inner.get(n), int)), 0)

    return Sizes(
        hidden_size=size("hidden_size", "n_embd", "d_model"),
        num_hidden_layers=size("num_hidden_layers", "n_layer") or 1,
        num_attention_heads=size("num_attention_heads", "n_head"), vocab_size=size("vocab_size"),
        max_position_embeddings=size("max_position_embeddings", "n_positions"),
        intermediate_size=size("intermediate_size", "n_inner"),
        num_local_experts=size("num_local_experts"), model_type=str(content.get("model_type")))


def content(model) -> dict:
    """Return a model's config.json as a dict, with all its sizes.

    model: tiny, smollm2, a known hub id or its short name, a folder, a config.json, its content
    as a dict, or a transformers config. Raises UserError if it cannot be read.
    """
    if hasattr(model, "to_dict"):
        return model.to_dict()
    name = "the given config" if isinstance(model, dict) else str(model)
    found = model if isinstance(model, dict) else _content(name)
    soundness.check_sizes(found, name)
    known = sizes(found)
    if known.hidden_size and known.vocab_size and known.max_position_embeddings:
        return found
    return _from_dict(found, name).to_dict()  # with the defaults of its architecture


def shape(model):
    """Create the transformers config of a model, without weights; `model` as in `content`."""
    if hasattr(model, "to_dict"):
        return model
    return _from_dict(content(model), "the given config" if isinstance(model, dict) else str(model))


def _content(name: str) -> dict:
    if row := row_of("smollm2-135m" if name == "smollm2" else name):
        return row["config"]
    path = at_home(name)
    if path.is_file():
        return soundness.read_json(path)
    if name == "tiny" or path.is_dir():
        where = loading.check(name)  # an adapter has the shape of its base
        return loading.read_config(where) if Path(where).is_dir() else _content(where)
    return _cached(name)


def _from_dict(content: dict, name: str):
    from transformers import AutoConfig

    content = dict(content)
    kind = content.pop("model_type", None)
    try:
        return AutoConfig.for_model(kind, **_with_infinity(content))
    except Exception as error:  # noqa: BLE001  each architecture checks its sizes in its own way
        reason = f"model_type {kind!r} is unknown to transformers" if kind else (
            "it has no model_type")
        if not isinstance(error, KeyError | ValueError):
            reason = " ".join(str(error).split())
        raise UserError(f"{name} does not describe a model: {reason}; expected the config.json "
                        "that save_pretrained writes") from None


def _with_infinity(value):
    """Convert {"__float__": "Infinity"}, as transformers writes inf in config.json, to floats."""
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {key: _with_infinity(part) for key, part in value.items()}
    return [_with_infinity(part) for part in value] if isinstance(value, list) else value


def _from_hub(name: str) -> dict | None:
    """Download the config.json of a hub id; None if it is missing or the hub is unreachable."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        return None
    token = get_token()
    request = urllib.request.Request(
        f"{constants.ENDPOINT}/{name}/resolve/main/config.json",
        headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=4) as answer:
            content = json.loads(answer.read(2**20))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _cached(name: str) -> dict:
    """Read config.json of a hub id that is not in the table, from the cache or the hub."""
    from transformers import AutoConfig

    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        try:
            with quiet.LIBRARIES:
                return AutoConfig.from_pretrained(
                    name, local_files_only=True, trust_remote_code=False).to_dict()
        except (OSError, ValueError):
            pass
        if content := _from_hub(name):
            return content
    letters = _letters(name)
    names_of = _by_name()
    near = sorted((known_as for known_as in names_of if letters and letters in _letters(known_as)),
                  key=len)[:3] or difflib.get_close_matches(name.lower(), names_of, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    raise UserError(f"the shape of {name!r} is not known{hint} Pass tiny, smollm2, one of "
                    "the known models (`ftkit memory --models` lists them), a hub id where the "
                    "hub can be reached (a gated model needs `hf auth login`), a folder, a "
                    "config.json, or a number of parameters such as 7.5B.")


def _letters(name: str) -> str:
    """Normalize a name, so that llama3 and Llama-3 are equal."""
    return re.sub(r"[\W_]", "", name.lower())


def count_of(model) -> float | None:
    """Parse a number of parameters, such as 7.5e9, "7.5e9", "7.5B" or "350M"; else None."""
    if isinstance(model, int | float) and not isinstance(model, bool):
        return float(model) if 0 < model < 1e30 else None
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmbt]?)", str(model).lower())
    if not found:
        return None
    return count_of(float(found[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}[found[2]])
