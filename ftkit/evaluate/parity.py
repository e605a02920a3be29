"""Compare the answers of a tuned model with those of its GGUF file, token by token.

    compare("my-adapter", "my-model-gguf", records("translation", "test"))

The file is read by llama.cpp where the package llama_cpp is installed, else by transformers. Its
prompts are built as a chat program does, from the file's own template, and both answer greedily.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ftkit.base import quiet
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.data import encoding, schema, templates
from ftkit.model import export, gguf_file

PROMPTS, NEW_TOKENS = 20, 24
ROUNDING = 0.5  # relative difference of logits; weights in wrong places gave 1.1 to 1.4


class LlamaCpp:
    """The file in llama.cpp, which adds BOS and stops as the file says."""

    name = "llama.cpp"

    def __init__(self, file: Path, context: int):
        import llama_cpp

        self._cpp, self._seen = llama_cpp, []
        exact = llama_cpp.GGML_TYPE_F32  # of keys and values; by default they are rounded to f16
        self._model: Any = llama_cpp.Llama(str(file), n_ctx=context, verbose=False, type_k=exact,
                                           type_v=exact)
        self._words = llama_cpp.llama_model_get_vocab(self._model.model)

    def encode(self, text: str) -> list[int]:
        return self._model.tokenize(text.encode(), add_bos=True, special=True)

    def ends(self, token: int) -> bool:
        return self._cpp.llama_vocab_is_eog(self._words, token)

    def logits(self, ids: list[int]):
        if not ids[:-1] or ids[:-1] != self._seen:
            self._model.reset()
            self._model.eval(ids[:-1])
        self._model.eval(ids[-1:])
        self._seen = list(ids)
        return np.ctypeslib.as_array(self._cpp.llama_get_logits(self._model.ctx),
                                     (self._model.n_vocab(),)).copy()


class Transformers:
    """A model in transformers. fields: those of a GGUF file, whose BOS and EOS are followed."""

    name = "transformers"

    def __init__(self, model, tokenizer, fields: dict | None = None):
        self._model, self._tokenizer, fields = model.eval(), tokenizer, fields or {}
        bos = fields.get("bos_token_id")
        self._before = [bos] if fields.get("add_bos_token") else []
        self._ends = {fields.get("eos_token_id"), fields.get("eot_token_id")} if fields else (
            encoding.eos_ids(tokenizer, model))

    def encode(self, text: str) -> list[int]:
        return self._before + self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def ends(self, token: int) -> bool:
        return token in self._ends

    def logits(self, ids: list[int]):
        import torch

        with torch.no_grad():
            return self._model(torch.tensor([ids])).logits[0, -1].float().numpy()


def compare(source: str | Path, folder: str | Path, records, reader: str | None = None) -> dict:
    """Compare the model in `source` with the GGUF file in `folder` on up to 20 records.

    reader: "llama.cpp" or "transformers" (default: llama.cpp if it is installed). Returns reader,
    prompts, same (number of equal answers) and differences: for each, prompt (from 1), token
    (from 1; 0: before the answer), ours, theirs, cause and why. Causes: template, BOS twice,
    tokenizer, EOS, rounding, weights.
    """
    import transformers

    folder = at_home(folder)
    file = folder / gguf_file.FILE
    if not file.is_file():
        raise UserError(f"{folder} has no {gguf_file.FILE}; expected a folder that `ftkit export "
                        "ADAPTER gguf` wrote")
    model, tokenizer, recipe = export.whole(at_home(source))
    template, fields = export.template_of(recipe), gguf_file.fields_of(file)
    ours = Transformers(model, tokenizer)
    if reader == "transformers" or (reader is None and not find_spec("llama_cpp")):
        names: dict = {"pretrained_model_name_or_path": str(folder), "gguf_file": file.name}
        with quiet.no_advice():
            theirs = Transformers(transformers.AutoModelForCausalLM.from_pretrained(**names),
                                  transformers.AutoTokenizer.from_pretrained(**names), fields)
    else:
        theirs = LlamaCpp(file, min(model.config.max_position_embeddings, 2048))
    records, found = list(records[:PROMPTS]), []
    written = folder / "Modelfile"
    pieces = gguf_file.pieces_of(tokenizer, template)
    if written.is_file() and written.read_text("utf-8") != gguf_file.modelfile(tokenizer, pieces):
        found.append(_difference(0, 0, cause="template", why="the Modelfile is not the one of the "
                                                             "training"))
    prompts = encoding.prompts(records, tokenizer, template)
    for number, (record, ids) in enumerate(zip(records, prompts, strict=True), 1):
        text = tokenizer.apply_chat_template(_chat(record), chat_template=fields["chat_template"],
                                             tokenize=False, add_generation_prompt=True)
        given = theirs.encode(text)
        apart = bool(record.get("input")) and templates.choose(tokenizer, template) is not None
        difference = _of_prompts(tokenizer, ids, given, apart) or _of_answers(
            tokenizer, ours, theirs, ids)
        found += [difference | {"prompt": number}] if difference else []
    wrong = {one["prompt"] for one in found} - {0}
    return {"reader": theirs.name, "prompts": len(records), "same": len(records) - len(wrong),
            "differences": found}


def _chat(record: dict) -> list[dict]:
    if "messages" in record:
        talk = [{k: m[k] for k in ("role", "content")} for m in record["messages"]]
        return talk[:-1] if talk[-1]["role"] == "assistant" else talk
    return [*(record.get("history") or ()), {"role": "user", "content": schema.question_of(record)}]


def _difference(prompt: int, token: int, ours="", theirs="", *, cause: str, why: str) -> dict:
    return {"prompt": prompt, "token": token, "ours": ours, "theirs": theirs, "cause": cause,
            "why": why}


def _of_prompts(tokenizer, ids: list[int], given: list[int], apart: bool) -> dict | None:
    if ids == given:
        return None
    texts = tokenizer.decode(ids), tokenizer.decode(given)
    if given[1:] == ids and given[:1] == [tokenizer.bos_token_id]:
        cause, why = "BOS twice", ("the file's add_bos_token puts BOS before a template that "
                                   "writes it, or that was trained without it")
    elif texts[0] == texts[1]:
        cause, why = "tokenizer", "the same text has other tokens; see tokenizer.ggml.pre"
    else:
        cause, why = "template", ("the training wrote the input of a record apart, which a chat "
                                  "cannot: train on questions that contain it" if apart else
                                  "the file's chat template is not the one of the training")
    return _difference(0, 0, *texts, cause=cause, why=why)


def _of_answers(tokenizer, ours, theirs, ids: list[int]) -> dict | None:
    """The first difference of two greedy answers to the same prompt."""
    ids = list(ids)
    for step in range(1, NEW_TOKENS + 1):
        a, b = ours.logits(ids), theirs.logits(ids)
        first, second = int(a.argmax()), int(b[:len(a)].argmax())
        words = tokenizer.decode([first]), tokenizer.decode([second])
        if first != second:
            off = float(np.linalg.norm(a - b[:len(a)]) / np.linalg.norm(a - a.mean()))
            near = (f"the logits differ by {off:.2%}, and ours prefers its token by "
                    f"{a[first] - a[second]:.2g}")
            cause = "rounding" if off < ROUNDING else "weights"
            return _difference(0, step, *words, cause=cause, why=near)
        if ours.ends(first) != theirs.ends(first):
            which = "goes on after" if ours.ends(first) else "stops at"
            return _difference(0, step, *words, cause="EOS", why=f"{theirs.name} {which} "
                               f"{words[0]!r}; see eos_token_id and eot_token_id of the file")
        if ours.ends(first):
            return None
        ids.append(first)
    return None


def text_of(result: dict) -> str:
    """The result of `compare` as text."""
    lines = [f"{result['same']} of {result['prompts']} answers are the same token by token "
             f"(transformers in fp32 against the GGUF file in {result['reader']})"]
    for one in result["differences"][:5]:
        where = f"prompt {one['prompt']}" + (f", token {one['token']}" if one["token"] else "")
        texts = f": {one['ours']!r} became {one['theirs']!r}" if one["ours"] else ""
        lines.append(f"{where if one['prompt'] else 'Modelfile'}{texts}; cause: {one['cause']} "
                     f"({one['why']})")
    return "\n".join(lines)
