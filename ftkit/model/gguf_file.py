"""Write a model of the Llama family as GGUF, with an Ollama Modelfile, for `ftkit export`.

    write(model, tokenizer, folder, "q8_0", template=None)

Names of tensors and fields are those of llama.cpp's convert_hf_to_gguf.py. The file holds the
template of the training, so a program that follows it builds the prompts that were trained on.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

from ftkit.base.errors import UserError
from ftkit.data import encoding, templates

FILE = "model.gguf"
TYPES = {"f16": "F16", "q8_0": "Q8_0"}
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
SPLITTERS = {  # llama.cpp's name → the pre-tokenizer that it reproduces
    "gpt-2": [_BYTES], "smollm": [{"type": "Digits", "individual_digits": True}, _BYTES]}


def write(model, tokenizer, folder: Path, dtype: str, template: str | None):
    """Write `model.gguf` and `Modelfile` to a folder. dtype: f16 or q8_0; norms stay in fp32.

    template: that of the training. Raises UserError for a model or a tokenizer of another family.
    """
    import gguf

    config, asked = model.config, gguf.GGMLQuantizationType[TYPES[dtype]]
    rope = getattr(config, "rope_parameters", None) or {}
    if config.model_type != "llama" or rope.get("rope_type", "default") != "default":
        raise UserError(f"the model is of the type {config.model_type} with "
                        f"{rope.get('rope_type', 'default')} positions; GGUF is written for llama "
                        "with default positions: export safetensors and use llama.cpp's converter")
    vocabulary = _vocabulary(tokenizer, config.vocab_size)
    pieces = pieces_of(tokenizer, template)
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(folder / FILE, "llama")
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    for add, value in (
            (writer.add_context_length, config.max_position_embeddings),
            (writer.add_embedding_length, config.hidden_size),
            (writer.add_block_count, config.num_hidden_layers),
            (writer.add_feed_forward_length, config.intermediate_size),
            (writer.add_head_count, heads), (writer.add_head_count_kv, kv),
            (writer.add_key_length, dim), (writer.add_value_length, dim),
            (writer.add_rope_dimension_count, dim),
            (writer.add_rope_freq_base, rope.get("rope_theta", 10000.0)),
            (writer.add_layer_norm_rms_eps, config.rms_norm_eps),
            (writer.add_vocab_size, config.vocab_size),
            (writer.add_file_type, gguf.LlamaFileType[f"MOSTLY_{TYPES[dtype]}"]),
            (writer.add_quantization_version, gguf.GGML_QUANT_VERSION),
            (writer.add_chat_template, jinja(tokenizer, template, pieces))):
        add(value)
    for name, value in vocabulary.items():
        getattr(writer, f"add_{name}")(value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        theirs, values = names.get_name(name, (".weight", ".bias")), tensor.float().numpy()
        if theirs is None:
            raise UserError(f"the weight {name} has no name in GGUF; use llama.cpp's converter")
        for part, number in (("q_proj", heads), ("k_proj", kv)):
            if f".{part}." in name:  # llama.cpp rotates neighbors, transformers the two halves
                halves = values.reshape(number, 2, values.shape[0] // number // 2, -1)
                values = halves.swapaxes(1, 2).reshape(values.shape)
        kind = asked if values.ndim > 1 else gguf.GGMLQuantizationType.F32
        if kind.name == "Q8_0" and values.shape[-1] % 32:  # the size of its blocks
            kind = gguf.GGMLQuantizationType.F16
        writer.add_tensor(theirs, gguf.quants.quantize(values, kind), raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file,
                 writer.write_tensors_to_file, writer.close):
        step()
    (folder / "Modelfile").write_text(modelfile(tokenizer, pieces), encoding="utf-8")


def _vocabulary(tokenizer, size: int) -> dict:
    """The fields of a byte-level BPE tokenizer in GGUF. Raises UserError for another kind.

    add_bos_token is false, since the template writes BOS where the training had it.
    """
    import gguf

    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    before = facts["pre_tokenizer"] or {}
    splitters = [{k: v for k, v in one.items() if k != "trim_offsets"}
                 for one in before.get("pretokenizers", [before])]
    name = next((name for name, known in SPLITTERS.items() if known == splitters), None)
    if facts["model"]["type"] != "BPE" or facts["normalizer"] or name is None:
        raise UserError("the tokenizer is none that GGUF is written for (byte-level BPE as in "
                        "GPT-2 or SmolLM2); export safetensors and use llama.cpp's converter")
    tokens = [f"[PAD{i}]" for i in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for token, i in tokenizer.get_vocab().items():
        tokens[i], types[i] = token, gguf.TokenType.NORMAL
    for i, token in tokenizer.added_tokens_decoder.items():
        types[i] = gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED
    turn = templates.end_of_turn(tokenizer)
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id,
           "pad": tokenizer.pad_token_id, "unk": tokenizer.unk_token_id,
           "eot": tokenizer.convert_tokens_to_ids(turn) if turn else None}
    merges = [one if isinstance(one, str) else " ".join(one) for one in facts["model"]["merges"]]
    return {"tokenizer_model": "gpt2", "tokenizer_pre": name, "token_list": tokens,
            "token_types": types, "token_merges": merges, "add_bos_token": False} | {
                f"{kind}_token_id": i for kind, i in ids.items() if i is not None}


class Pieces(NamedTuple):
    """What a template writes around the texts of a chat: before the first question, before a
    system text, before the question after it, before a question after an answer, after a
    question, and the space between that and an answer."""

    first: str
    system: str
    after_system: str
    later: str
    answer: str
    gap: str

    def default_system(self) -> str:
        """The system text that the template adds to a chat without one; "" if it adds none."""
        text = self.first.removeprefix(self.system).removesuffix(self.after_system)
        return text if self.first == self.system + text + self.after_system else ""


def pieces_of(tokenizer, template: str | None) -> Pieces:
    """Take a template apart by rendering marked chats. Raises UserError if that fails."""
    def rendered(*roles):
        chat = [{"role": role, "content": f"{role}{i}"} for i, role in enumerate(roles)]
        answered = [*chat, {"role": "assistant", "content": "answer"}]
        ids = encoding.prompts([{"messages": answered}], tokenizer, template)[0]
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        parts = re.split("|".join(message["content"] for message in chat), text)
        return parts if len(parts) == len(chat) + 1 else [""]

    try:
        first, answer = rendered("user")
        begin, middle, later, end = rendered("user", "assistant", "user")
        system, after_system, last = rendered("system", "user")
        gap = middle.removeprefix(answer)
        if begin != first or {end, last} != {answer} or gap.strip(" ") or middle != answer + gap:
            raise ValueError
    except ValueError:
        raise UserError("the template of the training writes a turn differently in a longer chat, "
                        "so no Modelfile is right; train with another, such as alpaca") from None
    return Pieces(first, system, after_system, later, answer, gap)


def fields_of(file: Path) -> dict:
    """The tokenizer's fields of a GGUF file, without their prefix; no lists."""
    import gguf

    try:
        found = gguf.GGUFReader(file).fields
    except (ValueError, OSError) as error:
        raise UserError(f"{file} cannot be read as GGUF ({error}); export it again") from None
    return {re.sub(r"^tokenizer\.(ggml\.)?", "", name): field.contents()
            for name, field in found.items()
            if name.startswith("tokenizer") and len(field.types) == 1}


def jinja(tokenizer, template: str | None, pieces: Pieces) -> str:
    """The template of the training in Jinja, for the field tokenizer.chat_template."""
    if templates.choose(tokenizer, template) is None:  # without the tags that mark answers
        return re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", tokenizer.chat_template)
    first, system, after, later, answer, gap = map(_quoted, pieces)
    return (
        f"{{% set at = namespace(before={first}) %}}{{% for m in messages %}}"
        f"{{% if m['role'] == 'system' %}}{{{{ {system} + m['content'] }}}}"
        f"{{% set at.before = {after} %}}{{% elif m['role'] == 'user' %}}"
        f"{{{{ at.before + m['content'] + {answer} }}}}{{% else %}}{{{{ {gap} + m['content'] }}}}"
        f"{{% set at.before = {later} %}}{{% endif %}}{{% endfor %}}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # also a string of Jinja and of Go


def modelfile(tokenizer, pieces: Pieces) -> str:
    """An Ollama Modelfile: the template of the training as a Go template, system text, stops."""
    first, system, after, later, answer, gap = map(_quoted, pieces)
    ends = tokenizer.convert_ids_to_tokens(sorted(encoding.eos_ids(tokenizer)))
    text = pieces.default_system()
    return "\n".join([
        f"FROM ./{FILE}",
        f'TEMPLATE """{{{{ $before := {first} }}}}{{{{ range .Messages }}}}'
        f'{{{{ if eq .Role "system" }}}}{{{{ {system} }}}}{{{{ .Content }}}}'
        f'{{{{ $before = {after} }}}}'
        f'{{{{ else if eq .Role "user" }}}}{{{{ $before }}}}{{{{ .Content }}}}{{{{ {answer} }}}}'
        f'{{{{ else }}}}{{{{ {gap} }}}}{{{{ .Content }}}}{{{{ $before = {later} }}}}{{{{ end }}}}'
        '{{ end }}"""',
        *([f'SYSTEM """{text}"""'] if text else []),
        *(f"PARAMETER stop {_quoted(end)}" for end in ends),
        "PARAMETER temperature 0", ""])
