"""A GGUF file answers like the adapter that it was made from, and garbage is named by its cause."""

import json
import re
import shutil

import gguf
import pytest

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.evaluate import parity
from ftkit.model import gguf_file, loading
from ftkit.model.export import export


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """template → folder of an adapter trained with it for a moment."""
    home = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("FTKIT_HOME", str(home))
    for template in (None, "alpaca"):
        ft.Experiment(data="translation", probes=(), template=template).run(
            method="lora", max_steps=30, eval_steps=99, precision="fp32", live=False,
            out=home / str(template))
    yield lambda template=None: home / str(template)
    patch.undo()


@pytest.fixture(scope="module")
def files(trained, tmp_path_factory):
    """(template, dtype) → folder of the exported file."""
    made = {}

    def folder(template=None, dtype="f16"):
        key = template, dtype
        if key not in made:
            made[key] = export(trained(template), tmp_path_factory.mktemp("out") / "gguf", dtype)
        return made[key]

    return folder


def questions():
    """Records whose question is one text, as in a chat."""
    return [{"instruction": f"{r['instruction']} {r['input']}", "output": r["output"]}
            for r in ft.records("translation", "test")[:20]]


def test_an_input_that_the_training_wrote_apart_is_named(trained, files):
    found = parity.compare(trained("alpaca"), files("alpaca"), ft.records("translation", "test"),
                           "transformers")["differences"]
    assert {one["cause"] for one in found} == {"template"} and "apart" in found[0]["why"]


@pytest.mark.parametrize("template", [None, "alpaca"])
def test_a_file_in_f16_gives_the_same_20_answers_in_transformers(trained, files, template):
    found = parity.compare(trained(template), files(template), questions(), "transformers")
    assert found == {"reader": "transformers", "prompts": 20, "same": 20, "differences": []}


@pytest.mark.parametrize("dtype", ["f16", "q8_0"])
@pytest.mark.parametrize("template", [None, "alpaca"])
def test_llama_cpp_gives_the_same_20_answers(trained, files, template, dtype):
    pytest.importorskip("llama_cpp")
    found = parity.compare(trained(template), files(template, dtype), questions(), "llama.cpp")
    assert {one["cause"] for one in found["differences"]} <= {"rounding"}
    assert found["same"] >= (20 if dtype == "f16" else 18), parity.text_of(found)


@pytest.mark.smollm2
def test_smollm2_differs_in_llama_cpp_at_near_ties_only(smollm2_home, monkeypatch, tmp_path):
    pytest.importorskip("llama_cpp")
    monkeypatch.setenv("FTKIT_HOME", str(smollm2_home))
    ft.Experiment("smollm2", data="contracts_task", probes=()).run(
        method="lora", max_steps=40, batch_size=4, eval_steps=99, live=False, out=tmp_path / "lora")
    out = export(tmp_path / "lora", tmp_path / "gguf", "f16")
    rows = ft.records("contracts_task", "test")
    found = parity.compare(tmp_path / "lora", out, rows)
    # Three adapters gave 19, 19 and 19 of 20: f16 moves logits by 0.1 to 0.2 %, ties by 0.001 turn.
    assert found["same"] >= 18, parity.text_of(found)
    assert {one["cause"] for one in found["differences"]} <= {"rounding"}


def changed(folder, tmp_path, field, value):
    """A copy of an exported file with another value in a field."""
    out = shutil.copytree(folder, tmp_path / "changed")
    reader = gguf.GGUFReader(out / gguf_file.FILE, "r+")
    reader.fields[f"tokenizer.ggml.{field}"].parts[-1][0] = value
    reader.data.flush()
    return out


@pytest.mark.parametrize("reader", ["transformers", "llama.cpp"])
@pytest.mark.parametrize("cause", ["template", "BOS twice", "EOS", "rounding", "Modelfile"])
def test_each_way_to_get_garbage_is_named(trained, files, tmp_path, cause, reader):
    if reader == "llama.cpp":
        pytest.importorskip("llama_cpp")
    model, tokenizer = ft.load(str(trained()))
    out = tmp_path / "gguf"
    if cause == "template":
        gguf_file.write(model.merge_and_unload(), tokenizer, out, "f16", "alpaca")
        (out / "Modelfile").unlink()
    elif cause == "BOS twice":
        out = changed(files(), tmp_path, "add_bos_token", True)
    elif cause == "EOS":
        out = changed(changed(files(), tmp_path, "eos_token_id", 9), tmp_path / "b", "eot_token_id",
                      9)
    elif cause == "Modelfile":
        out = shutil.copytree(files(), out)
        text = (out / "Modelfile").read_text().replace("User:", "Question:")
        (out / "Modelfile").write_text(text)
    else:
        model = model.merge_and_unload()
        for weight in model.parameters():  # four bits for each block of 32
            blocks = weight.data.view(-1, 32)
            scale = blocks.abs().amax(1, keepdim=True).clamp(1e-6) / 7
            weight.data = (blocks.div(scale).round() * scale).view(weight.shape)
        gguf_file.write(model, tokenizer, out, "f16", None)
    found = parity.compare(trained(), out, questions(), reader)["differences"]
    assert {one["cause"] for one in found} == {cause if cause != "Modelfile" else "template"}
    assert found[0]["prompt"] == (0 if cause == "Modelfile" else found[0]["prompt"])


def filled(text, messages):
    """The prompt that Ollama makes of our Go template."""
    quoted = [json.loads(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', text)]
    first, _, system, after, _, answer, gap, later = quoted
    before, out = first, ""
    for role, content in messages:
        if role == "system":
            out, before = out + system + content, after
        elif role == "user":
            out += before + content + answer
        else:
            out, before = out + gap + content, later
    return out


@pytest.mark.parametrize("template", [None, "alpaca"])
def test_the_modelfile_writes_the_prompts_of_the_training(files, template):
    from ftkit.data import encoding

    tokenizer = loading.load_tokenizer("tiny")
    lines = (files(template) / "Modelfile").read_text()
    chat = [("user", "Say hi."), ("assistant", "Hi."), ("user", "And bye?"), ("assistant", "x")]
    for talk in (chat, [("system", "Be short."), *chat]):
        ids = encoding.prompts([{"messages": [{"role": r, "content": c} for r, c in talk]}],
                               tokenizer, template)[0]
        body = lines.split('"""')[1]
        assert tokenizer(filled(body, talk[:-1]), add_special_tokens=False)["input_ids"] == ids
    assert 'PARAMETER stop "<|eos|>"' in lines and "SYSTEM" not in lines


def test_the_system_text_that_a_template_adds_is_in_the_modelfile():
    tokenizer = loading.load_tokenizer("tiny")
    tokenizer.chat_template = (
        "{% if messages[0]['role'] != 'system' %}<|bos|>system: Be kind.\n{% endif %}"
        "{% for m in messages %}{% if m['role'] == 'system' %}<|bos|>{% endif %}"
        "{{ m['role'] + ': ' + m['content'] }}{% if m['role'] == 'assistant' %}<|eos|>{% endif %}"
        "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}")
    pieces = gguf_file.pieces_of(tokenizer, None)
    assert pieces.default_system() == "Be kind."
    assert 'SYSTEM """Be kind."""' in gguf_file.modelfile(tokenizer, pieces)


def test_another_family_is_refused(tmp_path):
    model, tokenizer = ft.load("tiny")
    model.config.model_type = "gemma3"
    with pytest.raises(UserError, match="type gemma3"):
        gguf_file.write(model, tokenizer, tmp_path, "f16", None)


def test_the_command_exports_checks_and_names_the_cause(ftkit, trained, tmp_path):
    out = tmp_path / "gguf"
    status, text, _ = ftkit("export", trained(), out, "--check", "translation")
    assert status == 0 and "20 of 20 answers are the same" in text and "ollama create" in text
    changed(out, tmp_path / "b", "add_bos_token", True)
    status, text, _ = ftkit("export", trained(), tmp_path / "b" / "changed", "--check", "--json")
    assert status == 2
    (tmp_path / "b" / "changed").rename(tmp_path / "bad-gguf")
    status, text, _ = ftkit("export", trained(), tmp_path / "bad-gguf", "--check", "--json")
    assert status == 3 and json.loads(text)["check"]["differences"][0]["cause"] == "BOS twice"
    for words in (["x", "--dtype", "q8_0"], ["gguf", "--dtype", "bf16"], ["x", "--check"]):
        status, _, err = ftkit("export", trained(), tmp_path / words[0], *words[1:])
        assert status == 2 and "ends in gguf" in err
