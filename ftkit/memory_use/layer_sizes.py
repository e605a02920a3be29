"""What the closed forms of memory need of a model, read from a table: no torch, no transformers.

    sizes = layer_sizes.of("llama-2-7b")      None where the model has to be built to count it
    sizes.counted(config)                     parameters that `config` trains, and all of them

The rows of `model_shapes.jsonl` have the number of parameters of each model and the shapes of its
linear layers, as transformers builds them; those of tiny are read from the header of its weights.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import NamedTuple

from ftkit.base.optimizers import OPTIMIZERS
from ftkit.memory_use import formula, model_shapes
from ftkit.model import loading, soundness


class Linear(NamedTuple):
    """Linear layers of one name, such as q_proj, and one shape; the head is not among them."""

    name: str
    rows: int
    columns: int
    count: int


class Sizes(SimpleNamespace):
    """The sizes in a config.json, under the names that `formula` reads: hidden_size,
    num_hidden_layers, num_attention_heads, vocab_size, max_position_embeddings."""

    def get_text_config(self) -> Sizes:
        return self


class KnownModel(NamedTuple):
    """A model whose layers are known: `shape` has its sizes."""

    name: str
    shape: Sizes
    parameters: int
    linear: tuple[Linear, ...]

    def counted(self, config) -> tuple[int, int, dict] | None:
        """Parameters that `config` trains, all parameters with an adapter's, and `facts` as
        `simulate.facts` (without the sizes of layers); None where peft has to be asked."""
        # These need the rows and columns of every tensor as it is stored.
        entry = OPTIMIZERS[config.optim]
        if entry.factored or entry.rest or config.load_in_8bit:
            return None
        if config.method == "full":
            return self.parameters, self.parameters, _facts(())
        adapted = self._targets(config.target_modules)
        if config.method not in ("lora", "qlora") or config.use_dora or not adapted or (
                config.init_lora_weights != "default"):
            return None
        trained = sum(one.count * config.r * (one.rows + one.columns) for one in adapted)
        packed = self.linear if config.method == "qlora" else ()
        return trained, self.parameters + trained, _facts(packed)

    def _targets(self, asked: str) -> list[Linear]:
        """The layers that get an adapter; none where a name is not that of a linear layer."""
        if asked == "all-linear":
            return list(self.linear)
        names = {name.strip() for name in asked.split(",") if name.strip()}
        known = {one.name for one in self.linear}
        return [one for one in self.linear if one.name in names] if names <= known else []


def of(model) -> KnownModel | None:
    """The KnownModel of tiny, smollm2 or a name of the table; None for anything else."""
    if not isinstance(model, str):
        return None
    row = _tiny() if model == "tiny" else model_shapes.row_of(
        "smollm2-135m" if model == "smollm2" else model)
    if row is None or "linear" not in row:
        return None
    return KnownModel(model, sizes(row["config"]), row["parameters"],
                      tuple(Linear(*one) for one in row["linear"]))


def sizes(content: dict) -> Sizes:
    """The sizes in the content of a config.json; 0, or 1 layer, for what it does not say."""
    inner = content.get("text_config") or content

    def size(*names):
        return next((inner[n] for n in names if isinstance(inner.get(n), int)), 0)

    return Sizes(
        hidden_size=size("hidden_size", "n_embd", "d_model"),
        num_hidden_layers=size("num_hidden_layers", "n_layer") or 1,
        num_attention_heads=size("num_attention_heads", "n_head"), vocab_size=size("vocab_size"),
        max_position_embeddings=size("max_position_embeddings", "n_positions"),
        model_type=str(content.get("model_type")))


def _tiny() -> dict:
    folder = loading.tiny_path()
    tensors = soundness.tensors_in(folder) or {}
    linear: dict[tuple, int] = {}
    for name, tensor in tensors.items():
        if name.endswith("_proj.weight"):
            key = (name.split(".")[-2], *tensor.shape)
            linear[key] = linear.get(key, 0) + 1
    return {"config": loading.read_config(folder),
            "parameters": sum(math.prod(tensor.shape) for tensor in tensors.values()),
            "linear": [(*key, count) for key, count in linear.items()]}


def _facts(packed) -> dict:
    """Of the layers that are kept in 4 bits; bytes as bitsandbytes lays out NF4 with double
    quantization, each layer by itself."""
    quantized = sum(one.count * one.rows * one.columns for one in packed)
    held = sum(one.count * formula.nf4_bytes(one.rows * one.columns) for one in packed)
    return {"quantized": quantized, "bits": 8 * held / quantized if quantized else None,
            "factored": 0, "hidden": 0}
