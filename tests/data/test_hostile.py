"""300 hostile cases over data, models and adapters, those of `test_template_limits` included.

Each is refused in a sentence, is in the notes, or changes nothing. None is silent, none ends in
another exception, none runs for ever.
"""

import itertools
import json
import math
import os
import shutil

import pytest

from ftkit.base.errors import UserError
from ftkit.data import encoding, schema

pytestmark = pytest.mark.heavy
U, A = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
PAIR = {"instruction": "u", "chosen": "a", "rejected": "b"}
ASKED = {"instruction": "u", "output": "a"}
ODD = [0, 7, 0.5, True, "x", "\ud800", [], ["x"], {}, {"a": 1}, [[]], [None]]
PLACES = {  # where an odd value stands; a field of another meaning has to be refused or noted
    "system": lambda v: {"messages": [U, A], "system": v},
    "system of a pair": lambda v: PAIR | {"system": v},
    "system of an instruction": lambda v: ASKED | {"system": v},
    "tools": lambda v: {"messages": [U, A], "tools": v},
    "functions": lambda v: {"messages": [U, A], "functions": v},
    "thought": lambda v: {"messages": [U, A | {"reasoning_content": v}]},
    "train": lambda v: {"messages": [U, A | {"train": v}]},
    "loss": lambda v: {"messages": [U, A | {"loss": v}]},
    "loss of a question": lambda v: {"messages": [U | {"loss": v}, A]},
    "weight": lambda v: {"messages": [U, A | {"weight": v}]},
    "train_detail": lambda v: {"messages": [U, A | {"train_detail": v}]},
    "calls": lambda v: {"messages": [U, A | {"tool_calls": v}]},
    "type of a part": lambda v: {"messages": [U, A | {"content": [{"type": v, "text": "a"}]}]},
    "field of a message": lambda v: {"messages": [U, A | {"images": v}]},
    "field of a record": lambda v: ASKED | {"images": v},
}
EMPTY = (0, [], "", {}, None, True)  # nothing is lost where such a value is not read
GOOD = json.dumps(ASKED)
FILES = {
    "two arrays": ("a.json", f"[{GOOD}][{GOOD}]"), "array, object": ("a.json", f"[{GOOD}]{GOOD}"),
    "array, word": ("a.json", f"[{GOOD}] end"), "array, comma": ("a.json", f"[{GOOD}],"),
    "array, bracket": ("a.json", f"[{GOOD}]]"), "open array": ("a.json", f"[{GOOD},"),
    "two wrapped": ("a.json", f'{{"data": [{GOOD}]}}{{"data": [{GOOD}]}}'),
    "wrapped twice": ("a.json", f'{{"data": [{GOOD}], "more": [{GOOD}]}}'),
    "name twice": ("a.json", f'{{"data": [{GOOD}], "data": [{GOOD}]}}'),
    "wrapped, array": ("a.json", f'{{"data": [{GOOD}]}}[{GOOD}]'),
    "object, array": ("a.json", f"{GOOD}[{GOOD}]"), "NaN": ("a.json", '[{"text": NaN}]'),
    "lines, array": ("a.jsonl", f"{GOOD}\n[{GOOD}]\n"), "two on a line": ("a.jsonl", GOOD * 2),
    **{f"{kind} {code}": (f"a.{kind}", GOOD.encode(code))
       for kind in ("json", "jsonl", "txt", "csv") for code in (
           "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")},
}
LETTERS = ["{output!r}", "{output!s}", "{output:>9}", "{output:>999999999}",
           "{instruction!a}{output}", "{instruction:.1}{output}",
           "{instruction.upper}{output}", "{instruction[0]}{output}",
           "{output}{output}", "{0}{output}", "{}{output}", "{{output}}", "{output", "{output}}"]


def outcome(read) -> str:
    """refused or noted; else "" for a record that was read without a word."""
    try:
        return "noted" if read().notes else ""
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return "refused"


@pytest.fixture(scope="module")
def tokenizer():
    from test_encoding import CHATML, byte_tokenizer

    return byte_tokenizer(CHATML)


@pytest.mark.parametrize("place, value", [*itertools.product(PLACES, ODD)])
def test_an_odd_value_is_refused_or_noted_unless_it_changes_nothing(place, value, tokenizer,
                                                                   tmp_path):
    path, record = tmp_path / "a.jsonl", PLACES[place](value)
    path.write_text(json.dumps(record) + "\n")
    found = outcome(lambda: encoding.encode_all(schema.records(path), tokenizer))
    if found or value in EMPTY or value is False:
        return
    text = tokenizer.decode(encoding.encode(schema.records(path)[0], tokenizer)["input_ids"])
    assert value == "x" and "x" in text, text  # it was used


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_which_a_part_would_be_lost_is_refused(name, tokenizer, tmp_path):
    file, content = FILES[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert outcome(lambda: encoding.encode_all(
        schema.records(tmp_path / file), tokenizer)) == "refused"


@pytest.mark.parametrize("template", LETTERS)
def test_a_format_string_that_changes_texts_is_refused(template, tokenizer):
    assert outcome(lambda: encoding.encode_all([ASKED], tokenizer, template=template)) == "refused"


# ----------------------------------------------------------------------------- models, adapters

CONFIG = [(name, value) for name, values in {
    "attention_dropout": (-1, 1, 2, math.nan), "return_dict": (False,),
    "eos_token_id": ("x", ["x"]),
    "bos_token_id": ({},), "pad_token_id": ("x",), "attn_implementation": ("a/b", "a/b:c"),
    "_attn_implementation": ("a/b",), "auto_map": ({"AutoModelForCausalLM": "x.Y"},),
    "hidden_size": (0, -1, 1.5, 10**12, "x", None), "num_hidden_layers": (0, -1, 10**9, True),
    "vocab_size": (0, -5, 10**12, "x"), "num_attention_heads": (0, -1, "x"),
    "max_position_embeddings": (0, -1, "x"), "model_type": (None, 3, "x", "bert"),
    "architectures": (["LlamaForSequenceClassification"], ["T5ForConditionalGeneration"]),
    "text_config": ("x", [1]),
    "quantization_config": ("x", {"quant_method": "x"}, [1]), "is_encoder_decoder": (True,),
}.items() for value in values]
ADAPTER = [(name, value) for name, values in {
    "r": (0, -1, 3, "x"), "lora_alpha": (math.nan, math.inf), "peft_type": (None, "x", 3),
    "target_modules": ([], ["x"], "x("), "base_model_name_or_path": (None, 3, "", "/x/y", "x"),
    "alora_invocation_tokens": ([1],),
}.items() for value in values]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The embedded model, and an adapter on it."""
    import peft

    from ftkit.model import loading

    place = tmp_path_factory.mktemp("good")
    model, tokenizer = loading.load("tiny")
    made = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"],
                                                      task_type="CAUSAL_LM"))
    loading.save(made, tokenizer, place / "adapter")
    shutil.copytree(loading.tiny_path(), place / "model")
    return place


@pytest.mark.parametrize("kind, name, value", [
    *(("model", *case) for case in CONFIG), *(("adapter", *case) for case in ADAPTER)])
def test_a_config_that_describes_another_model_is_refused(kind, name, value, folders, tmp_path):
    from ftkit.model import export, loading

    shutil.copytree(folders / kind, tmp_path / "x", copy_function=os.link)
    path = tmp_path / "x" / ("config.json" if kind == "model" else "adapter_config.json")
    content = json.loads(path.read_bytes()) | {name: value}
    path.unlink()
    path.write_text(json.dumps(content))
    try:
        if name == "auto_map":  # the model is one of transformers, so no code is needed
            loading.load(str(path.parent))
            return
        loading.check(str(path.parent))
        export.export(path.parent, tmp_path / "out")
    except UserError as error:
        assert str(error) and not (tmp_path / "out").exists()
    else:
        raise AssertionError(f"{name} {value} was accepted")


def test_there_are_three_hundred_cases():
    from test_template_limits import HOSTILE

    assert len(PLACES) * len(ODD) + len(FILES) + len(LETTERS) + len(CONFIG) + len(ADAPTER) + len(
        HOSTILE) >= 300
