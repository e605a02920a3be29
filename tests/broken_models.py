"""Folders of models and adapters that must be refused, each with words that the sentence must have.

    for case in CASES: case.make(good, adapter, folder); ...

Each is the embedded model with one thing wrong. `answers` names the commands that need not refuse
it: memory reads neither values nor tokenizers, and check reads the tokenizer alone.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
POINTER = (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d2"
           b"\nsize 9448152\n")
PAGE = b"<!DOCTYPE html>\n<html><body>Log in to download this file</body></html>\n"
Q = "model.layers.0.self_attn.q_proj.weight"


class Case(NamedTuple):
    """A folder with one thing wrong: `spoil(folder)` changes a good one; `words` are in the
    sentence."""

    name: str
    spoil: Callable[[Path], object]
    words: str
    answers: tuple[str, ...] = ("check",)
    of: str = "model"

    def make(self, good: dict[str, Path], folder: Path) -> Path:
        """The folder, made from the good one of its kind; what is not changed is linked."""
        shutil.copytree(good[self.of], folder, copy_function=os.link)
        self.spoil(folder)
        return folder


def write(path: Path, content: bytes | str):
    """A new file, since the one there is linked to the good folder."""
    path.unlink(missing_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def file(name: str, content) -> Callable[[Path], object]:
    """The file has this content, or what the function makes of its bytes."""
    def spoil(folder):
        write(folder / name, content((folder / name).read_bytes()) if callable(content)
              else content)

    return spoil


def gone(*names: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / name).unlink() for name in names]


def fields(name: str = CONFIG, **changes) -> Callable[[Path], object]:
    """A JSON file with other fields; ... removes one."""
    def spoil(folder):
        content = json.loads((folder / name).read_bytes()) | changes
        write(folder / name, json.dumps({k: v for k, v in content.items() if v is not ...}))

    return spoil


def tensors(change: Callable[[dict], object], name: str = WEIGHTS) -> Callable[[Path], object]:
    """`change` edits the dict of tensors in place, or returns another."""
    def spoil(folder):
        from safetensors.torch import load, save

        content = load((folder / name).read_bytes())
        write(folder / name, save(change(content) or content, {"format": "pt"}))

    return spoil


def header(content: bytes, length: int | None = None) -> Callable[[Path], object]:
    size = (len(content) if length is None else length).to_bytes(8, "little")
    return file(WEIGHTS, size + content + bytes(64))


def sharded(change=lambda index: index, shards=lambda folder: None) -> Callable[[Path], object]:
    """Two files and an index; `change` makes another index of it, `shards` spoils a file."""
    def spoil(folder):
        from safetensors.torch import load, save

        content = load((folder / WEIGHTS).read_bytes())
        (folder / WEIGHTS).unlink()
        names, files = sorted(content), ("model-00001-of-00002.safetensors",
                                         "model-00002-of-00002.safetensors")
        parts = [names[: len(names) // 2], names[len(names) // 2 :]]
        for part, name in zip(parts, files, strict=True):
            write(folder / name, save({n: content[n] for n in part}, {"format": "pt"}))
        index = {"metadata": {"total_size": 1}, "weight_map": {
            n: name for part, name in zip(parts, files, strict=True) for n in part}}
        made = change(index)
        write(folder / INDEX, made if isinstance(made, bytes) else json.dumps(made))
        shards(folder)

    return spoil


def mapped(**changes):
    return lambda index: index | {"weight_map": index["weight_map"] | changes}


def without(*names):
    def change(content):
        for name in names:
            del content[name]

    return change


def cast(kind: str, names=lambda name: True):
    def change(content):
        import torch

        return {n: (t * 10).to(getattr(torch, kind)) if names(n) else t
                for n, t in content.items()}

    return change


def filled(value: float, name: str = Q, count: int | None = 1):
    def change(content):
        content[name] = content[name].clone()
        content[name].view(-1)[:count] = value

    return change


def added(name: str, *shape: int):
    def change(content):
        import torch

        content[name] = torch.zeros(shape)

    return change


def replaced(path: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def spoil(folder):
        (folder / path).unlink()
        make(folder / path)

    return spoil


def longer_vocabulary(folder):
    content = json.loads((folder / "tokenizer.json").read_bytes())
    content["added_tokens"].append({"id": 3072, "content": "<extra>", "special": True,
                                    "single_word": False, "lstrip": False, "rstrip": False,
                                    "normalized": False})
    write(folder / "tokenizer.json", json.dumps(content))


def looped(folder):
    other = folder.with_name(folder.name + "-other")
    shutil.copytree(folder, other, copy_function=os.link)
    fields("adapter_config.json", base_model_name_or_path=str(other))(folder)
    fields("adapter_config.json", base_model_name_or_path=str(folder))(other)


def on_a_broken_base(folder):
    base = folder.with_name(folder.name + "-base")
    base.mkdir()
    write(base / CONFIG, "{")
    fields("adapter_config.json", base_model_name_or_path=str(base))(folder)


VALUES = ("memory", "check")  # what only reads the weights themselves
TOKENS = ("memory",)
NONE: tuple[str, ...] = ()
DEEP = b'{"a":' * 100_000

WEIGHT_FILES = [
    ("empty", file(WEIGHTS, b""), "model.safetensors is empty"),
    ("four_bytes", file(WEIGHTS, b"\x10\0\0\0"), "cut off in its header"),
    ("cut_in_header", file(WEIGHTS, lambda raw: raw[:500]), "cut off in its header"),
    ("half", file(WEIGHTS, lambda raw: raw[: len(raw) // 2]), "is cut off: .* of .* bytes"),
    ("a_byte_short", file(WEIGHTS, lambda raw: raw[:-1]), "is cut off"),
    ("a_byte_long", file(WEIGHTS, lambda raw: raw + b"x"), "1 bytes too many"),
    ("zeros", file(WEIGHTS, bytes(5000)), "not a safetensors file"),
    ("text", file(WEIGHTS, b"weights " * 99), "not a safetensors file"),
    ("page", file(WEIGHTS, PAGE), "is a web page"),
    ("pointer", file(WEIGHTS, POINTER), "Git LFS pointer.*git lfs pull"),
    ("pickle", file(WEIGHTS, b"\x80\x04\x95" + b"\x11" * 99), "not a safetensors file"),
    ("gzip", file(WEIGHTS, lambda raw: gzip.compress(raw[:9999], mtime=0)),
     "not a safetensors file"),
    ("header_too_long", header(b"{}", 10**12), "not a safetensors file"),
    ("header_not_json", header(b"{'a': 1}" + b" " * 8), "damaged header"),
    ("header_a_list", header(b"[]" + b" " * 6), "damaged header"),
    ("header_without_dtype", header(b'{"a":{"shape":[1],"data_offsets":[0,4]}}'), "damaged header"),
    ("offsets_in_words", header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":"no"}}'),
     "damaged header"),
    ("header_too_deep", header(DEEP), "damaged header"),
    ("a_pipe", replaced(WEIGHTS, os.mkfifo), "is a pipe"),
    ("a_folder", replaced(WEIGHTS, lambda path: path.mkdir()), "cannot be read"),
    ("dangling_link", replaced(WEIGHTS, lambda path: path.symlink_to("nowhere")),
     "cannot be read .No such file"),
    ("link_to_itself", replaced(WEIGHTS, lambda path: path.symlink_to(path)), "cannot be read"),
    ("all_renamed", tensors(lambda t: {f"foo.{n}": v for n, v in t.items()}), "lacks weights"),
    ("one_missing", tensors(without(Q)), "lacks weights: '.*q_proj"),
    ("embedding_missing", tensors(without("model.embed_tokens.weight")), "lacks weights"),
    ("norm_missing", tensors(without("model.norm.weight")), "lacks weights: 'model.norm"),
    ("no_tensor", tensors(lambda t: {"x": t["model.norm.weight"]}), "lacks weights.* more"),
    ("one_unexpected", tensors(added("foo", 2, 2)), "unexpected weights: 'foo'"),
    ("head_of_a_classifier", tensors(added("score.weight", 2, 192)), "unexpected .*score"),
    ("bias_too_many", tensors(added("model.layers.0.self_attn.q_proj.bias", 192)), "unexpected"),
    ("renamed_projection", tensors(lambda t: {n.replace("q_proj", "query"): v
                                              for n, v in t.items()}), "lacks weights: '.*q_proj"),
    ("layer_too_many", tensors(added("model.layers.7.self_attn.q_proj.weight", 192, 192)),
     "unexpected weights: 'model.layers.7"),
    ("layer_missing", fields(num_hidden_layers=2), "lacks weights: 'model.layers.1"),
    ("other_shape", tensors(added(Q, 3, 4)), "q_proj.weight' has shape .3, 4. in the file"),
    ("transposed", tensors(lambda t: {n: v.t().contiguous() if "up_proj" in n else v
                                      for n, v in t.items()}), "up_proj.* has shape"),
    ("vocabulary_larger", fields(vocab_size=4000), "embed_tokens.* has shape"),
    ("vocabulary_smaller", fields(vocab_size=100), "embed_tokens.* has shape"),
    ("hidden_other", fields(hidden_size=96), "has shape"),
    ("intermediate_other", fields(intermediate_size=511), "has shape"),
    ("heads_other", fields(num_attention_heads=6, num_key_value_heads=6), "has shape"),
    ("head_dim_other", fields(head_dim=32), "has shape"),
    ("vocabulary_huge", fields(vocab_size=10**8), "embed_tokens.* has shape"),
    ("untied_without_head", fields(tie_word_embeddings=False), "lacks weights: 'lm_head"),
    *((f"stored_{kind}", tensors(cast(kind)), f"is stored as {code}")
      for kind, code in (("int8", "I8"), ("int32", "I32"), ("bool", "BOOL"), ("uint8", "U8"),
                         ("float8_e4m3fn", "F8_E4M3"))),
    ("one_stored_int64", tensors(cast("int64", lambda n: n == Q)), "q_proj.* is stored as I64"),
]
INDEXES = [
    ("shard_missing", sharded(shards=gone("model-00002-of-00002.safetensors")),
     "model-00002-of-00002.safetensors is missing"),
    ("shard_cut", sharded(shards=file("model-00001-of-00002.safetensors", lambda raw: raw[:-9])),
     "model-00001-of-00002.safetensors is cut off"),
    ("shard_a_pointer", sharded(shards=file("model-00001-of-00002.safetensors", POINTER)),
     "model-00001-of-00002.safetensors is a Git LFS pointer"),
    ("shard_empty", sharded(shards=file("model-00002-of-00002.safetensors", b"")), "is empty"),
    ("index_not_json", sharded(lambda index: b"{"), "index.json cannot be read"),
    ("index_empty", sharded(lambda index: b""), "index.json is empty"),
    ("index_null", sharded(lambda index: None), "index.json holds null"),
    ("index_without_map", sharded(lambda index: {"metadata": {}}), "no weight_map"),
    ("map_a_list", sharded(lambda index: {"weight_map": list(index["weight_map"])}),
     "no weight_map"),
    ("map_to_numbers", sharded(mapped(**{Q: 7})), "no weight_map"),
    ("map_out_of_folder", sharded(mapped(**{Q: "../elsewhere.safetensors"})),
     "a file of its own folder"),
    ("map_to_other_shard", sharded(lambda index: {"weight_map": dict.fromkeys(
        index["weight_map"], "model-00001-of-00002.safetensors")}), "says that .* and it is not"),
    ("map_of_a_tensor_that_is_not_there", sharded(mapped(
        foo="model-00001-of-00002.safetensors")), "'foo' is in .* and it is not"),
]
CONFIGS = [
    ("config_missing", gone(CONFIG), "no config.json"),
    ("config_empty", file(CONFIG, b""), "config.json is empty"),
    ("config_not_json", file(CONFIG, b"{'model_type': 'llama'}"), "config.json cannot be read"),
    ("config_cut", file(CONFIG, lambda raw: raw[:200]), "config.json cannot be read"),
    ("config_null", file(CONFIG, b"null"), "config.json holds null"),
    ("config_list", file(CONFIG, b"[1]"), "config.json holds"),
    ("config_too_deep", file(CONFIG, DEEP), "nested too deeply"),
    ("config_binary", file(CONFIG, b"\xff\xfe\0\1" * 40), "config.json cannot be read"),
    ("config_page", file(CONFIG, PAGE), "config.json is a web page"),
    ("config_pointer", file(CONFIG, POINTER), "Git LFS pointer"),
    ("config_a_pipe", replaced(CONFIG, os.mkfifo), "is a pipe"),
    ("config_a_folder", replaced(CONFIG, lambda path: path.mkdir()), "cannot be read"),
    ("config_dangling", replaced(CONFIG, lambda path: path.symlink_to("nowhere")),
     "cannot be read"),
    ("many_digits", file(CONFIG, b'{"model_type": "llama", "hidden_size": ' + b"9" * 5000 + b"}"),
     "cannot be read"),
    ("type_missing", fields(model_type=...), "no model_type"),
    ("type_unknown", fields(model_type="unheard-of"), "'unheard-of', which is unknown"),
    ("type_a_number", fields(model_type=7), "7, which is unknown"),
    ("own_code", fields(model_type="mine", auto_map={"AutoModelForCausalLM": "x.Y"}),
     "code of its own is not run"),
    *((f"hidden_{name}", fields(hidden_size=value), f"hidden_size is {said}")
      for name, value, said in (("null", None, "null"), ("in_words", "big", "'big'"),
                                ("zero", 0, "0"), ("negative", -4, "-4"), ("half", 0.5, "0.5"),
                                ("true", True, "true"), ("huge", 10**12, "1,000,000,000,000"))),
    ("layers_a_billion", fields(num_hidden_layers=10**9), "num_hidden_layers is 1,000,000,000"),
    ("vocabulary_absurd", fields(vocab_size=10**15), "vocab_size is 1,000,000,000,000,000"),
    ("heads_zero", fields(num_attention_heads=0), "num_attention_heads is 0"),
    ("heads_do_not_divide", fields(num_attention_heads=5, num_key_value_heads=5, head_dim=...),
     "multiple|divisible|has shape"),
    ("kv_heads_do_not_divide", fields(num_key_value_heads=2), "multiple|divisible|has shape"),
    ("context_in_words", fields(max_position_embeddings="long"), "max_position_embeddings is"),
    ("window_in_words", fields(sliding_window="wide"), "sliding_window is 'wide'"),
    ("text_config_in_words", fields(text_config="x"), "text_config is 'x'"),
    ("quantization_in_words", fields(quantization_config="gptq"), "quantization_config is 'gptq'"),
    ("quantization_unknown", fields(quantization_config={"quant_method": "magic"}),
     "magic|quantiz"),
    ("quantization_gptq", fields(quantization_config={"quant_method": "gptq", "bits": 4}),
     "quantiz|gptq|cannot load"),
    ("activation_unknown", fields(hidden_act="magic"), "describes no model.*magic"),
    ("rope_unknown", fields(rope_parameters={"rope_type": "magic", "rope_theta": 1e4}),
     "describes no model"),
    ("rope_a_list", fields(rope_parameters=[1]), "rope_parameters is"),
    ("epsilon_in_words", fields(rms_norm_eps="small"), "rms_norm_eps|describes no model"),
    ("bert_masked", fields(model_type="bert", architectures=["BertForMaskedLM"]),
     "does not predict"),
    ("bert_head", fields(model_type="bert", architectures=["BertLMHeadModel"]), "an encoder"),
    ("bert_classifier", fields(model_type="bert", architectures=[
        "BertForSequenceClassification"]), "does not predict"),
    ("classifier", fields(architectures=["LlamaForSequenceClassification"]), "does not predict"),
    ("t5", fields(model_type="t5", architectures=["T5ForConditionalGeneration"]), "T5"),
    ("vit", fields(model_type="vit", architectures=["ViTForImageClassification"]), "ViT"),
    ("whisper", fields(model_type="whisper", is_encoder_decoder=True), "encoder-decoder"),
    ("encoder_decoder", fields(is_encoder_decoder=True), "encoder-decoder"),
]
# What shows only when a model is built, which is not needed for its tokenizer.
BUILT = ("_divide", "_gptq", "activation_unknown", "rope_unknown")
VALUES_WRONG = [
    ("a_nan", tensors(filled(float("nan"))), "1 of .* values of .*q_proj.* nan or infinite"),
    ("all_nan", tensors(filled(float("nan"), count=None)), "nan or infinite"),
    ("an_infinity", tensors(filled(float("inf"), "model.norm.weight")), "model.norm.* infinite"),
    ("minus_infinity", tensors(filled(float("-inf"), "model.embed_tokens.weight", 7)),
     "7 of .*embed_tokens"),
    ("no_weights", gone(WEIGHTS), "has no model.safetensors"),
    ("a_pickle_only", replaced(WEIGHTS, lambda path: write(
        path.with_name("pytorch_model.bin"), b"\x80\x04")), "is a pickle"),
    ("weights_of_another_name", lambda folder: (folder / WEIGHTS).rename(
        folder / "weights.safetensors"), "has no model.safetensors"),
]
TOKENIZERS = [
    ("tokenizer_missing", gone("tokenizer.json", "tokenizer_config.json"), "tokenizer"),
    ("tokenizer_json_missing", gone("tokenizer.json"), "tokenizer"),
    ("tokenizer_config_missing", gone("tokenizer_config.json"), "no eos_token"),
    ("tokenizer_empty_object", file("tokenizer.json", b"{}"), "tokenizer .* cannot be read"),
    ("tokenizer_null", file("tokenizer.json", b"null"), "tokenizer .* cannot be read"),
    ("tokenizer_empty", file("tokenizer.json", b""), "tokenizer .* cannot be read"),
    ("tokenizer_cut", file("tokenizer.json", lambda raw: raw[:1000]), "cannot be read"),
    ("tokenizer_binary", file("tokenizer.json", b"\xff\xfe\0" * 99), "cannot be read"),
    ("tokenizer_pointer", file("tokenizer.json", POINTER), "cannot be read"),
    ("tokenizer_config_not_json", file("tokenizer_config.json", b"{"), "cannot be read"),
    ("tokenizer_config_list", file("tokenizer_config.json", b"[]"), "cannot be read"),
    ("tokenizer_larger_than_embedding", longer_vocabulary, "'<extra>' of id 3,072 .* 3,072 rows"),
]
AC, AW = "adapter_config.json", "adapter_model.safetensors"
A_WEIGHT = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
ADAPTERS = [
    ("base_missing", fields(AC, base_model_name_or_path=...), "does not say which model"),
    ("base_a_number", fields(AC, base_model_name_or_path=7), "does not say which model"),
    ("base_gone", fields(AC, base_model_name_or_path="/nowhere/at/all"), "names a base"),
    ("base_no_name", fields(AC, base_model_name_or_path="no-such"), "no model 'no-such'"),
    ("its_own_base", lambda folder: fields(AC, base_model_name_or_path=str(folder))(folder),
     "names itself as its base"),
    ("two_in_a_circle", looped, "names itself as its base"),
    ("base_broken", on_a_broken_base, "config.json cannot be read"),
    ("other_base", fields(AC, base_model_name_or_path="BROTHER"), "does not fit its base"),
    ("rslora_in_words", fields(AC, use_rslora="yes"), "use_rslora is 'yes'; expected bool"),
    ("alpha_in_words", fields(AC, lora_alpha="16"), "lora_alpha|does not fit"),
    ("activated_lora", fields(AC, alora_invocation_tokens=[5, 6]), "activated LoRA"),
    ("adapter_config_not_json", file(AC, b"{"), "adapter_config.json cannot be read"),
    ("adapter_config_list", file(AC, b"[]"), "adapter_config.json holds"),
    ("adapter_config_pointer", file(AC, POINTER), "Git LFS pointer"),
    ("peft_type_missing", fields(AC, peft_type=...), "names no peft_type"),
    ("peft_type_unknown", fields(AC, peft_type="LORRA"), "it has .*LORA"),
    ("rank_other", fields(AC, r=5), "does not fit its base.*(shape|size)"),
    ("rank_in_words", fields(AC, r="many"), "r is 'many'; expected int"),
    ("rank_zero", fields(AC, r=0), "does not fit its base"),
    ("fits_nothing", fields(AC, target_modules=["no_such_layer"]), "does not fit its base"),
]
ADAPTER_WEIGHTS = [
    ("adapter_weights_missing", gone(AW), "has no adapter_model.safetensors"),
    ("adapter_a_pickle", lambda folder: (folder / AW).rename(folder / "adapter_model.bin"),
     "pickle"),
    ("adapter_empty", file(AW, b""), "adapter_model.safetensors is empty"),
    ("adapter_cut", file(AW, lambda raw: raw[: len(raw) // 2]), "is cut off"),
    ("adapter_pointer", file(AW, POINTER), "Git LFS pointer"),
    ("adapter_without_tensors", tensors(lambda t: t.clear(), AW), "holds no weights"),
    ("adapter_with_other_keys", tensors(lambda t: {f"x.{n}": v for n, v in t.items()}, AW),
     "the model does not have"),
    ("adapter_lacks_one", tensors(without(A_WEIGHT), AW), "lacks '.*q_proj.lora_A"),
    ("adapter_has_one_more", tensors(added("base_model.model.foo.lora_A.weight", 2, 2), AW),
     "foo.lora_A"),
    ("adapter_int8", tensors(cast("int8"), AW), "is stored as I8"),
]
CASES = [Case(*row) for row in WEIGHT_FILES + INDEXES]
CASES += [Case(*row, answers=("check",) if row[0].endswith(BUILT) else NONE) for row in CONFIGS]
CASES += [Case(*row, answers=VALUES) for row in VALUES_WRONG]
CASES += [Case(*row, answers=TOKENS) for row in TOKENIZERS]
CASES += [Case(*row, of="adapter") for row in ADAPTERS + ADAPTER_WEIGHTS]
CASES += [Case("adapter_nan", tensors(filled(float("nan"), A_WEIGHT), AW), "nan or infinite",
               VALUES, "adapter")]
