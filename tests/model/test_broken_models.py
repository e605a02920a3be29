"""A model or adapter folder that is not complete is refused by every command, before training.

Each case is the embedded model, or an adapter on it, with one thing wrong.
"""

import json
import math
import os
import shutil

import peft
import pytest
import torch

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.experiment import store
from ftkit.memory_use import footprint
from ftkit.model import export, loading

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
AC, AW = "adapter_config.json", "adapter_model.safetensors"
POINTER = (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d2"
           b"\nsize 9448152\n")
Q = "model.layers.0.self_attn.q_proj.weight"
A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
SECOND = "model-00002-of-00002.safetensors"
RECORDS = [{"instruction": f"say {i}", "output": f"out {i}"} for i in range(24)]
SETTINGS = ft.Config(max_steps=1, method="lora", batch_size=4, max_length=64)


# ----------------------------------------------------------------- functions that spoil a folder


def write(path, content: bytes | str):
    """A new file, since the one there is linked to the good folder."""
    path.unlink(missing_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def file(name, content):
    """The file has this content, or what the function makes of its bytes; None removes it."""
    def spoil(folder):
        if content is None:
            (folder / name).unlink()
        else:
            write(folder / name, content((folder / name).read_bytes()) if callable(content)
                  else content)
    return spoil


def fields(name=CONFIG, **changes):
    """A JSON file with other fields; ... removes one."""
    def spoil(folder):
        content = json.loads((folder / name).read_bytes()) | changes
        write(folder / name, json.dumps({k: v for k, v in content.items() if v is not ...}))
    return spoil


def tensors(change, name=WEIGHTS):
    """`change` edits the dict of tensors in place, or returns another."""
    def spoil(folder):
        from safetensors.torch import load, save

        content = load((folder / name).read_bytes())
        write(folder / name, save(change(content) or content, {"format": "pt"}))
    return spoil


def sharded(change=lambda index: index, then=lambda folder: None):
    """Two files and an index; `change` makes another index of it, `then` spoils the folder."""
    def spoil(folder):
        from safetensors.torch import load, save

        content = load((folder / WEIGHTS).read_bytes())
        (folder / WEIGHTS).unlink()
        half, weight_map = len(content) // 2, {}
        for names, part in ((sorted(content)[:half], "model-00001-of-00002.safetensors"),
                            (sorted(content)[half:], SECOND)):
            write(folder / part, save({n: content[n] for n in names}, {"format": "pt"}))
            weight_map |= dict.fromkeys(names, part)
        made = change({"metadata": {"total_size": 1}, "weight_map": weight_map})
        write(folder / INDEX, made if isinstance(made, bytes) else json.dumps(made))
        then(folder)
    return spoil


def value(number, name, count=1):
    def change(content):
        content[name] = content[name].clone()
        content[name].view(-1)[:count] = number
    return change


def without(name):
    def change(content):
        del content[name]
    return change


def added(name, *shape):
    return lambda content: content | {name: torch.zeros(shape)}


def cast(kind):
    return lambda content: {n: (t * 10).to(kind) for n, t in content.items()}


def longer_vocabulary(folder):
    content = json.loads((folder / "tokenizer.json").read_bytes())
    content["added_tokens"].append({"id": 3072, "content": "<extra>", "special": True,
                                    "single_word": False, "lstrip": False, "rstrip": False,
                                    "normalized": False})
    write(folder / "tokenizer.json", json.dumps(content))


def two_in_a_circle(folder):
    other = folder.with_name(folder.name + "-other")
    shutil.copytree(folder, other, copy_function=os.link)
    fields(AC, base_model_name_or_path=str(other))(folder)
    fields(AC, base_model_name_or_path=str(folder))(other)


def on_a_broken_base(folder):
    base = folder.with_name(folder.name + "-base")
    base.mkdir()
    write(base / CONFIG, "{")
    fields(AC, base_model_name_or_path=str(base))(folder)


# (name, spoil, words of the message)
WEIGHT_FILES = [  # check reads no weights
    ("weights_empty", file(WEIGHTS, b""), "not a complete safetensors file .header too small"),
    ("weights_half", file(WEIGHTS, lambda raw: raw[: len(raw) // 2]), "not a complete safetensors"),
    ("a_byte_short", file(WEIGHTS, lambda raw: raw[:-1]), "not a complete safetensors"),
    ("a_byte_long", file(WEIGHTS, lambda raw: raw + b"x"), "not a complete safetensors"),
    ("page", file(WEIGHTS, b"<!DOCTYPE html>\n<html>Log in</html>\n"), "not a complete safetens"),
    ("pointer", file(WEIGHTS, POINTER), "Git LFS pointer.*git lfs pull"),
    ("header_too_deep", file(WEIGHTS, (600000).to_bytes(8, "little") + b'{"a":' * 100_000 +
                             b" " * 100_064), "not a complete safetensors"),
    ("dangling_link", lambda folder: [(folder / WEIGHTS).unlink(),
                                      (folder / WEIGHTS).symlink_to("nowhere")], "No such file"),
    ("one_missing", tensors(without(Q)), "lacks weights: '.*q_proj"),
    ("all_renamed", tensors(lambda t: {f"foo.{n}": v for n, v in t.items()}), "lacks weights"),
    ("one_unexpected", tensors(added("foo", 2, 2)), "unexpected weights: 'foo'"),
    ("layer_missing", fields(num_hidden_layers=2), "lacks weights: 'model.layers.1"),
    ("other_shape", tensors(added(Q, 3, 4)), "q_proj.weight' has shape .3, 4. in the file"),
    ("hidden_other", fields(hidden_size=96), "has shape"),
    ("untied_without_head", fields(tie_word_embeddings=False), "lacks weights: 'lm_head"),
    ("stored_int8", tensors(cast(torch.int8)), "is stored as I8"),
    ("stored_fp8", tensors(cast(torch.float8_e4m3fn)), "is stored as F8_E4M3"),
    ("shard_missing", sharded(then=file(SECOND, None)), f"{SECOND} is not .*No such file"),
    ("shard_a_pointer", sharded(then=file(SECOND, POINTER)), f"{SECOND} is a Git LFS pointer"),
    ("index_not_json", sharded(lambda index: b"{"), "index.json cannot be read"),
    ("index_without_map", sharded(lambda index: {"metadata": {}}), "no valid weight_map"),
    ("map_out_of_folder", sharded(lambda index: {"weight_map": index["weight_map"] | {
        Q: "../elsewhere.safetensors"}}), "no valid weight_map"),
]
CONFIGS = [
    ("config_missing", file(CONFIG, None), "no config.json"),
    ("config_cut", file(CONFIG, lambda raw: raw[:200]), "config.json cannot be read"),
    ("config_null", file(CONFIG, b"null"), "config.json contains null"),
    ("config_too_deep", file(CONFIG, b'{"a":' * 100_000), "nested too deeply"),
    ("config_pointer", file(CONFIG, POINTER), "Git LFS pointer"),
    ("type_missing", fields(model_type=...), "no model_type"),
    ("type_unknown", fields(model_type="unheard-of"), "does not know model_type 'unheard-of'"),
    ("own_code", fields(model_type="mine", auto_map={"AutoModelForCausalLM": "x.Y"}),
     "does not run a model's own code"),
    *((f"hidden_{value}", fields(hidden_size=value), f"hidden_size is {said}; expected a whole")
      for value, said in ((None, "null"), ("big", "'big'"), (0, "0"), (True, "true"))),
    ("layers_a_billion", fields(num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    ("text_config_in_words", fields(text_config="x"), "text_config is 'x'"),
    ("quantization_unknown", fields(quantization_config={"quant_method": "magic"}),
     "quant_method is 'magic', which transformers does not know"),
    ("bert_head", fields(model_type="bert", architectures=["BertLMHeadModel"]), "an encoder"),
    ("classifier", fields(architectures=["LlamaForSequenceClassification"]), "does not predict"),
    ("t5", fields(model_type="t5", architectures=["T5ForConditionalGeneration"]), "T5"),
    ("encoder_decoder", fields(is_encoder_decoder=True), "encoder-decoder"),
    ("dropout_of_2", fields(attention_dropout=2), "attention_dropout is 2; expected a fraction"),
    ("a_tuple_is_returned", fields(return_dict=False), "return_dict is false; expected true"),
    ("hub_kernel", fields(attn_implementation="someone/kernel"), "does not run code from the hub"),
    ("eos_a_text", fields(eos_token_id="</s>"), "eos_token_id is '</s>'; expected a token's id"),
    *((f"{name}_{value}", fields(**{name: value}), ".") for name, values in {
        "attention_dropout": (-1, 1, math.nan), "eos_token_id": (["x"],), "bos_token_id": ({},),
        "pad_token_id": ("x",), "_attn_implementation": ("a/b",), "hidden_size": (-1, 1.5, 10**12),
        "num_hidden_layers": (0, -1, True), "vocab_size": (0, -5, 10**12, "x"),
        "num_attention_heads": (0, -1, "x"), "max_position_embeddings": (0, -1, "x"),
        "model_type": (None, 3, "x"), "text_config": ([1],), "quantization_config": ("x", [1]),
    }.items() for value in values),
]
ONLY_BUILT = [  # found when the model is built, which check does not do
    ("heads_do_not_divide", fields(num_attention_heads=5, num_key_value_heads=5, head_dim=...),
     "multiple|divisible|has shape"),
    ("activation_unknown", fields(hidden_act="magic"), "does not describe a model.*magic"),
]
ONLY_LOADED = [  # found when values are read, which memory and check do not do
    ("a_nan", tensors(value(float("nan"), Q)), "1 of .* values of .*q_proj.* nan or infinite"),
    ("an_infinity", tensors(value(float("inf"), "model.norm.weight")), "model.norm.* infinite"),
    ("generation_eos_a_text", fields("generation_config.json", eos_token_id=["<|eos|>"]),
     "generation_config.json: eos_token_id is .*; expected a token's id"),
    ("no_weights", file(WEIGHTS, None), "has no model.safetensors"),
    ("a_pickle_only", lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
     "is a pickle"),
]
TOKENIZERS = [  # memory needs no tokenizer
    ("tokenizer_missing", file("tokenizer.json", None), "tokenizer"),
    ("tokenizer_config_missing", file("tokenizer_config.json", None), "no eos_token"),
    ("tokenizer_cut", file("tokenizer.json", lambda raw: raw[:1000]), "cannot be read"),
    ("tokenizer_too_large", longer_vocabulary, "'<extra>' the id 3,072, .* has 3,072 rows"),
]
ADAPTERS = [
    ("base_missing", fields(AC, base_model_name_or_path=...), "no base_model_name_or_path"),
    ("base_gone", fields(AC, base_model_name_or_path="/nowhere/at/all"), "base named in"),
    ("two_in_a_circle", two_in_a_circle, "is its own base"),
    ("base_broken", on_a_broken_base, "config.json cannot be read"),
    ("other_base", fields(AC, base_model_name_or_path="BROTHER"), "does not fit its base"),
    ("activated_lora", fields(AC, alora_invocation_tokens=[5, 6]), "activated LoRA"),
    ("adapter_config_not_json", file(AC, b"{"), "adapter_config.json cannot be read"),
    ("peft_type_missing", fields(AC, peft_type=...), "has no peft_type"),
    ("peft_type_unknown", fields(AC, peft_type="LORRA"), "supports:? .*LORA"),
    ("rank_other", fields(AC, r=5), "does not fit its base.*(shape|size)"),
    *((f"{name}_{value}", fields(AC, **{name: value}), ".") for name, values in {
        "r": (0, -1, "x"), "target_modules": ([], "x("),
        "base_model_name_or_path": (None, 3, "")}.items() for value in values),
    ("fits_nothing", fields(AC, target_modules=["no_such_layer"]), "does not fit its base"),
    ("adapter_a_pickle", lambda folder: (folder / AW).rename(folder / "adapter_model.bin"),
     "pickle"),
    ("adapter_cut", file(AW, lambda raw: raw[: len(raw) // 2]), "not a complete safetensors"),
    ("adapter_without_tensors", tensors(lambda t: t.clear(), AW), "has no weights"),
    ("adapter_with_other_keys", tensors(lambda t: {f"x.{n}": v for n, v in t.items()}, AW),
     "the model does not have"),
    ("adapter_lacks_one", tensors(without(A), AW), "lacks '.*q_proj.lora_A"),
    ("adapter_int8", tensors(cast(torch.int8), AW), "is stored as I8"),
]
ADAPTER_VALUES = [("adapter_nan", tensors(value(float("nan"), A), AW), "nan or infinite")]


def run(folder, out):
    ft.Experiment(model=str(folder), data=RECORDS, probes=()).run(SETTINGS)


def memory(folder, out):
    footprint.memory(SETTINGS, str(folder))


def check(folder, out):
    loading.load_tokenizer(str(folder))
    loading.context(str(folder))


COMMANDS = {"run": run, "memory": memory, "export": export.export, "check": check}
PARAMETERS = [
    pytest.param(kind, spoil, words, set(COMMANDS) - set(skipped), id=name)
    for kind, skipped, rows in (
        ("model", ("check",), WEIGHT_FILES + ONLY_BUILT), ("model", (), CONFIGS),
        ("model", ("memory", "check"), ONLY_LOADED), ("model", ("memory",), TOKENIZERS),
        ("adapter", ("check",), ADAPTERS), ("adapter", ("memory", "check"), ADAPTER_VALUES))
    for name, spoil, words in rows]


def cut_to_one_layer(folder):
    """The embedded model with its first layer only."""
    shutil.copytree(loading.tiny_path(), folder)
    fields(num_hidden_layers=1)(folder)
    tensors(lambda t: {n: v for n, v in t.items() if "layers." not in n or "layers.0." in n})(
        folder)
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Kind → a complete folder: a model of one layer, an adapter on it, a model of other shapes."""
    place = tmp_path_factory.mktemp("good")
    base = cut_to_one_layer(place / "model")
    model, tokenizer = ft.load(str(base))
    made = peft.get_peft_model(model, peft.LoraConfig(
        r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    loading.save(made, tokenizer, place / "adapter")
    brother = cut_to_one_layer(place / "brother")
    fields(head_dim=32)(brother)
    tensors(lambda t: {n: v[:96].contiguous() if n[-13] in "qkv" and "_proj" in n
                       else v[:, :96].contiguous() if "o_proj" in n else v
                       for n, v in t.items()})(brother)
    return {"model": base, "adapter": place / "adapter", "brother": brother}


def spoiled(good, kind, spoil, folder):
    """The folder, made from the good one of its kind; unchanged files are linked."""
    shutil.copytree(good[kind], folder, copy_function=os.link)
    spoil(folder)
    config = folder / AC
    if config.is_file() and b"BROTHER" in config.read_bytes():
        fields(AC, base_model_name_or_path=str(good["brother"]))(folder)
    return folder


@pytest.mark.parametrize("kind", ["model", "adapter", "brother"])
def test_the_folders_that_the_others_are_made_of_are_accepted(good, tmp_path, kind):
    for command in COMMANDS.values():
        command(good[kind], tmp_path / "out")


@pytest.mark.parametrize("kind, spoil, words, refusing", PARAMETERS)
def test_a_broken_folder_is_refused_by_each_command(good, tmp_path, home, kind, spoil, words,
                                                    refusing):
    folder = spoiled(good, kind, spoil, tmp_path / "folder")
    for name in sorted(refusing):
        with pytest.raises(UserError, match=words):
            COMMANDS[name](folder, tmp_path / "out")
    assert not store.ids() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["weights_half", "all_renamed", "bert_head", "two_in_a_circle"])
def test_the_command_line_says_it_in_one_sentence_and_exits_with_2(ftkit, good, tmp_path, name,
                                                                   home):
    kind, spoil, _, refusing = next(p.values for p in PARAMETERS if p.id == name)
    folder = spoiled(good, kind, spoil, tmp_path / "folder")
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    for line in (("run", "--model", folder, "--data", data, "--probe", "none", "--max-steps", 1),
                 ("memory", "--model", folder, "--method", "lora", "--max-length", 64),
                 ("export", folder, tmp_path / "out"), ("check", data, "--model", folder)):
        if line[0] not in refusing:
            continue
        status, out, err = ftkit(*line)
        assert status == 2 and out == "" and "Traceback" not in err
        assert err.startswith("ftkit: ") and str(folder) in err


def test_what_is_easily_overlooked_in_a_folder_is_in_the_notes(good, tmp_path, home):
    """An adapter that replaces a weight of its base, a name twice, a start worse than guessing."""
    norm = "base_model.model.model.norm.weight"
    width = json.loads((good["model"] / CONFIG).read_text())["hidden_size"]
    folder = spoiled(good, "adapter", tensors(lambda t: t | {norm: torch.zeros(width)}, AW),
                     tmp_path / "adapter")
    made = ft.Experiment(model=str(folder), data=RECORDS, probes=()).run(SETTINGS)
    assert any("replaces weights of its base (1, such as 'model.norm.weight')" in note
               for note in made.notes)
    assert any("no better than guessing among 3,072 tokens" in note
               and note.endswith("may not belong together") for note in made.notes)
    strange = [{"instruction": f"zq {i} xv", "output": f"kj{i}w ~"} for i in range(12)]
    made = ft.Experiment(model="tiny", data=strange).run(SETTINGS)
    assert any("the model itself is sound: the records" in note for note in made.notes)
    twice = spoiled(good, "model", file(CONFIG, lambda raw: raw.replace(
        b"{", b'{"rms_norm_eps": 1,', 1)), tmp_path / "twice")
    assert "has 'rms_norm_eps' twice; the last value counts" in loading.notes(str(twice))[0]
    assert not loading.notes(str(good["adapter"]))


def test_code_in_the_folder_of_a_tokenizer_is_not_run_even_if_a_terminal_says_yes(good, tmp_path):
    """On a terminal transformers would ask, and run the code after a `y`."""
    import pty
    import subprocess
    import sys

    code = f"open({str(tmp_path / 'RAN')!r}, 'w')\nclass T:\n    pass\n"
    folder = spoiled(good, "model", fields("tokenizer_config.json", auto_map={
        "AutoTokenizer": [None, "evil.T"]}, tokenizer_class="T"), tmp_path / "evil")
    write(folder / "evil.py", code)
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(RECORDS[0]) + "\n")
    ours, theirs = pty.openpty()
    os.write(ours, b"y\n" * 4)
    done = subprocess.run([sys.executable, "-m", "ftkit", "check", data, "--model", folder],
                          stdin=theirs, capture_output=True, text=True, timeout=120)
    assert not (tmp_path / "RAN").exists() and "[y/N]" not in done.stdout
    assert done.returncode == 2 and "tokenizer in" in done.stderr


def test_a_model_of_two_files_is_loaded(good, tmp_path):
    model, _ = ft.load(str(spoiled(good, "model", sharded(), tmp_path / "sharded")))
    whole, _ = ft.load(str(good["model"]))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(),
                                                 strict=True))


def test_weights_in_16_bits_are_loaded(good, tmp_path):
    half = tensors(lambda t: {n: v.bfloat16() for n, v in t.items()})
    folder = spoiled(good, "model", half, tmp_path / "half")
    assert next(ft.load(str(folder))[0].parameters()).dtype == torch.float32
