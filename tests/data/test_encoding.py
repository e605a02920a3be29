"""pytest tests/data/test_encoding.py: masks, templates, packing and the inspector.

The tokenizers are made here: one id a byte (so ids can be counted by hand), one id a word, and
one of the SentencePiece kind, which puts a mark before the text it is given.
"""

import bz2
import gzip
import html
import importlib.util
import json
import random
import re
from pathlib import Path

import foreign_data
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ftkit.data import audit, encoding, foreign, schema

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The same, with the assistant's part marked for transformers' own assistant mask.
CHATML_MARKED = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<|im_end|>"
    "{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_BOS = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "Assistant: {{ m['content'] | trim }}{{ eos_token }}"
    "{% else %}{{ m['role'] | capitalize }}: {{ m['content'] | trim }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
NO_END = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}" + (
    "{% if add_generation_prompt %}assistant:{% endif %}")
FORGETS_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDS_TWICE = (  # as Phi 3: the last turn has a token more
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}<s>{% endif %}"
)
OPENS_THOUGHT = CHATML.replace("<|im_start|>assistant\n{% endif %}",
                               "<|im_start|>assistant\n<think>{% endif %}")
DROPS_TEXT = "{% for m in messages %}{{ m['role'] }}{% for c in m['content'] %}{{ c['text'] }}" + (
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant{% endif %}")
ALTERNATES = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ m['content'] }}{{ eos_token }}{% endfor %}"
)
ONE = {"instruction": "Add.", "input": "2 3", "output": "5"}
TALK = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"},
                     {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Ciao"}]}
THINGS = [ONE, TALK, {"text": "Once upon a time."}, {"instruction": "Say hi.", "output": "hi"},
          {"instruction": "a", "input": "", "chosen": "good", "rejected": "bad"}]


def byte_tokenizer(template=None, merges=()):
    """Ids 0 to 255 are the bytes in the order of `ByteLevel.alphabet`; then the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    for a, b in merges:
        vocab[a + b] = len(vocab)
    made = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>",
        additional_special_tokens=["<|im_start|>"])
    tokenizer.chat_template = template
    return tokenizer


def word_tokenizer(words):
    vocab = {w: i for i, w in enumerate(["<bos>", "<eos>", "<unk>", *words])}
    made = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<bos>", eos_token="<eos>",
                                   unk_token="<unk>")


def mark_tokenizer(template=None):
    """As Llama 2: a ▁ for each space and before the text; BOS added; characters as ids."""
    letters = ["▁", *map(chr, range(32, 127)), "\n", "é", "▁A", "▁t"]
    vocab = {w: i for i, w in enumerate(["<unk>", "<s>", "</s>", *letters])}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "A"), ("▁", "t")], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>",
                                        unk_token="<unk>")
    tokenizer.chat_template = template
    return tokenizer


def supervised(example):
    return [i for i, label in zip(*example.values(), strict=True) if label != -100]


def text_of(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


# ---------------------------------------------------------------------------- counted by hand


def test_ids_and_labels_are_those_counted_by_hand():
    #               3      4   5     6    7         8
    words = ["Question:", "1", "+", "2", "Answer:", "3"]
    template = "Question: {instruction}\nAnswer: {output}"
    record = {"instruction": "1 + 2", "output": "3"}
    got = encoding.encode(record, word_tokenizer(words), template=template)
    #                      bos Question: 1  +  2  Answer: 3  eos
    assert got == {"input_ids": [0, 3, 4, 5, 6, 7, 8, 1],
                   "labels": [-100, -100, -100, -100, -100, -100, 8, 1]}
    assert encoding.prompt_ids(record, word_tokenizer(words), template) == [0, 3, 4, 5, 6, 7]
    everything = encoding.encode(record, word_tokenizer(words), template=template, loss_on="all")
    assert everything["labels"] == [-100, 3, 4, 5, 6, 7, 8, 1]
    text = encoding.encode({"text": "1 + 2"}, word_tokenizer(words))
    assert text == {"input_ids": [0, 4, 5, 6, 1], "labels": [-100, 4, 5, 6, 1]}


def test_a_chat_carries_loss_on_each_answer_and_its_end_counted_by_hand():
    tokenizer = byte_tokenizer(CHATML)
    got = encoding.encode(TALK, tokenizer)
    end, start = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])

    def by(text):  # a byte is one token
        return [tokenizer.convert_tokens_to_ids("Ċ" if c == "\n" else "Ġ" if c == " " else c)
                for c in text]

    no = [-100]
    parts = [  # text of each piece, and whether it carries loss
        ([start], 0), (by("system\nBe brief."), 0), ([end], 0), (by("\n"), 0),
        ([start], 0), (by("user\nHi"), 0), ([end], 0), (by("\n"), 0),
        ([start], 0), (by("assistant\n"), 0), (by("Yo"), 1), ([end], 1), (by("\n"), 0),
        ([start], 0), (by("user\nBye"), 0), ([end], 0), (by("\n"), 0),
        ([start], 0), (by("assistant\n"), 0), (by("Ciao"), 1), ([end], 1), (by("\n"), 0)]
    assert got["input_ids"] == [i for ids, _ in parts for i in ids]
    assert got["labels"] == [x for ids, loss in parts for x in (ids if loss else no * len(ids))]


def test_the_alpaca_prompts_are_those_of_stanford():
    tokenizer = byte_tokenizer()
    assert text_of(tokenizer, encoding.encode(ONE, tokenizer)["input_ids"]) == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
        "Add.\n\n### Input:\n2 3\n\n### Response:5<|im_end|>")
    assert text_of(tokenizer, encoding.encode({**ONE, "input": ""}, tokenizer)["input_ids"]) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nAdd.\n\n### Response:5<|im_end|>")


@pytest.mark.parametrize("template, with_input, without", [
    ("Q: {instruction} {input}\nA: {output}", "Q: Add. 2 3\nA:| 5<|im_end|>",
     "Q: Add.\nA:| 5<|im_end|>"),
    ("{instruction}\n\n{input}\n\n{output}\n##", "Add.\n\n2 3\n\n|5\n##<|im_end|>",
     "Add.\n\n|5\n##<|im_end|>"),
    ("{instruction} -> {output}", "Add.\n2 3 ->| 5<|im_end|>", "Add. ->| 5<|im_end|>"),
    ("plain", "Add.\n2 3\n|5<|im_end|>", "Add.\n|5<|im_end|>"),
])
def test_a_format_string_leaves_no_gap_for_an_empty_input_and_drops_none(template, with_input,
                                                                         without):
    tokenizer = byte_tokenizer()
    for record, wanted in ((ONE, with_input), (ONE | {"input": ""}, without)):
        example = encoding.encode(record, tokenizer, template=template)
        prompt = encoding.prompt_ids(record, tokenizer, template)
        assert text_of(tokenizer, prompt) == wanted.split("|")[0]
        assert text_of(tokenizer, supervised(example)) == wanted.split("|", 1)[1]


# ------------------------------------------------------------------------------- what must hold

TOKENIZERS = {
    "bytes": byte_tokenizer(),
    "chatml": byte_tokenizer(CHATML),
    "chatml, marked": byte_tokenizer(CHATML_MARKED),
    "merges over the boundary": byte_tokenizer(CHATML, [("Ċ", "Ċ"), ("Ġ", "Ġ"), (":", "Ġ")]),
    "bos": byte_tokenizer(WITH_BOS),
    "no end of turn": byte_tokenizer(NO_END),
    "marks": mark_tokenizer(),
    "marks, chat": mark_tokenizer(WITH_BOS),
}
TEMPLATES = [None, "alpaca", "plain", "U: {instruction} {input}\nA: {output}",
             "{instruction}{output}"]
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())


def nasty(rng):
    """Text with spaces and line ends where templates join it."""
    return "".join(rng.choices(["a", "A", "  ", " ", "\n", "\n\n", "é", ": ", "t", "."], k=6)) + "z"


@every_tokenizer
@pytest.mark.parametrize("template", TEMPLATES)
def test_what_comes_before_an_answer_is_what_the_model_is_asked_with(tokenizer, template):
    rng = random.Random(0)
    for _ in range(40):
        record = {"instruction": nasty(rng), "input": rng.choice(["", nasty(rng)]),
                  "output": nasty(rng)}
        talk = {"messages": [{"role": role, "content": nasty(rng)}
                             for role in ("user", "assistant", "user", "assistant")]}
        for thing in (record, talk):
            example, prompt = (
                encoding.encode(thing, tokenizer, template=template),
                encoding.prompt_ids(thing, tokenizer, template),
            )
            ids, labels = example["input_ids"], example["labels"]
            assert ids[: len(prompt)] == prompt
            assert labels[len(prompt)] == ids[len(prompt)]  # the first token of the answer
            assert thing is talk or set(labels[: len(prompt)]) <= {-100}
            assert all(label in (-100, i) for i, label in zip(ids, labels, strict=True))


@every_tokenizer
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("thing", THINGS)
def test_an_answer_is_its_text_and_one_end_token_that_carries_loss(thing, template, tokenizer):
    example = encoding.encode(thing, tokenizer, template=template)
    answers = [m["content"] for m in thing.get("messages", []) if m["role"] == "assistant"]
    answers = answers or [schema.response_of(thing)]
    carried = text_of(tokenizer, supervised(example))
    if "text" in thing and tokenizer.bos_token_id not in example["input_ids"]:
        carried = answers[0][0] + carried  # the very first token has nothing to be predicted from
    if tokenizer.chat_template == NO_END and template is None:  # only the last answer has an end
        carried = carried.replace("Yo", "Yo<|im_end|>")
    pieces = carried.split(tokenizer.eos_token)
    assert [piece.strip() for piece in pieces] == [*answers, ""]
    assert pieces[-1] == ""


@every_tokenizer
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("thing", THINGS)
def test_bos_stands_once_and_first_or_nowhere(thing, template, tokenizer):
    ids = encoding.encode(thing, tokenizer, template=template)["input_ids"]
    bos = tokenizer.bos_token_id
    uses = tokenizer("a")["input_ids"][0] == bos or "bos_token" in str(tokenizer.chat_template)
    assert ids.count(bos) == int(uses) and (ids[0] == bos) == uses


def test_a_plain_text_begins_as_the_documents_of_the_pretraining_did():
    """As SmolLM2-Instruct: its BOS begins a turn of a chat, <|endoftext|> a document."""
    tokenizer = byte_tokenizer(CHATML)
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>"})
    assert encoding.document_start(tokenizer) == []
    tokenizer.add_tokens(["<|endoftext|>"], special_tokens=True)
    start = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert encoding.document_start(tokenizer) == [start] != [tokenizer.bos_token_id]
    text = encoding.encode({"text": "Once"}, tokenizer)
    assert text["input_ids"][0] == start and text["labels"][:2] == [-100, text["input_ids"][1]]
    assert start not in encoding.encode(ONE, tokenizer)["input_ids"]
    assert encoding.document_start(byte_tokenizer(WITH_BOS)) == [
        byte_tokenizer(WITH_BOS).bos_token_id]
    assert encoding.document_start(word_tokenizer(["a"])) == [0]


@every_tokenizer
def test_chat_ids_are_those_of_apply_chat_template(tokenizer):
    if tokenizer.chat_template in (None, NO_END):  # NO_END gets an EOS that the template lacks
        pytest.skip("needs a chat template that ends turns")
    expected = tokenizer.apply_chat_template(TALK["messages"])["input_ids"]
    assert encoding.encode(TALK, tokenizer)["input_ids"] == expected
    turn = [{"role": "user", "content": "Add.\n2 3"}, {"role": "assistant", "content": "5"}]
    expected = tokenizer.apply_chat_template(turn)["input_ids"]
    assert encoding.encode(ONE, tokenizer)["input_ids"] == expected
    asked = tokenizer.apply_chat_template(turn[:1], add_generation_prompt=True)["input_ids"]
    assert encoding.prompt_ids(ONE, tokenizer) == asked


def test_an_answer_that_already_ends_in_eos_gets_no_second_one():
    tokenizer = byte_tokenizer()
    example = encoding.encode(ONE | {"output": "5<|im_end|>"}, tokenizer)
    assert example["input_ids"].count(tokenizer.eos_token_id) == 1


def test_a_turn_of_weight_0_is_not_trained_on():
    unweighted, *rest = TALK["messages"][1] | {"weight": 0}, *TALK["messages"][2:]
    talk = {"messages": [TALK["messages"][0], unweighted, *rest]}
    for template in (None, "plain"):
        tokenizer = byte_tokenizer(CHATML)
        example = encoding.encode(talk, tokenizer, template=template)
        assert text_of(tokenizer, supervised(example)) == "Ciao<|im_end|>"


def test_eos_ids_are_the_end_of_turn_and_what_the_model_names():
    tokenizer = byte_tokenizer(CHATML.replace("im_end", "im_start"))
    end, start = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])

    class model:
        class generation_config:
            eos_token_id = [7, end]

    assert encoding.eos_ids(tokenizer) == {end, start}
    assert encoding.eos_ids(tokenizer, model) == {end, start, 7}
    assert encoding.eos_ids(byte_tokenizer()) == {end}


def test_a_question_alone_is_enough_to_ask():
    tokenizer = byte_tokenizer(CHATML)
    asked = encoding.prompt_ids({"instruction": "Hi"}, tokenizer)
    assert asked == encoding.prompt_ids(
        {"messages": [{"role": "user", "content": "Hi"}]}, tokenizer
    )
    assert encoding.answer(ONE) == "5" and encoding.answer(TALK) == "Ciao"
    assert encoding.answer({"messages": TALK["messages"][:3]}) == ""


# ----------------------------------------------------------------------------- what is refused


def test_a_template_that_rewrites_earlier_turns_is_refused_not_guessed():
    tokenizer = byte_tokenizer(FORGETS_THINKING)
    rows = schema.Records([{"messages": TALK["messages"][:2]}, TALK], lines=[1, 4])
    with pytest.raises(
        schema.DataError, match=r"record 4: messages\[1\]: the chat template renders"
    ):
        encoding.encode_all(rows, tokenizer)
    alone = encoding.encode(rows[0], tokenizer)
    assert text_of(tokenizer, supervised(alone)) == "<think>\n\n</think>\n\nYo<|im_end|>"


@pytest.mark.parametrize("template, words", [
    (OPENS_THOUGHT, "generation prompt contains text that a finished conversation lacks"),
    (DROPS_TEXT, "leaves out the assistant's text")])
def test_a_template_that_no_mask_fits_is_refused_with_its_reason(template, words):
    with pytest.raises(schema.DataError, match=words):
        encoding.encode(ONE, byte_tokenizer(template))


def test_a_template_that_ends_the_last_turn_twice_still_marks_each_end():
    tokenizer = byte_tokenizer(ENDS_TWICE)
    carried = text_of(tokenizer, supervised(encoding.encode(TALK, tokenizer)))
    assert carried == "Yo<|im_end|>Ciao<|im_end|>\n<s>"


def test_a_conversation_that_the_template_rejects_is_reported_by_line(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [TALK, {"messages": [{"role": "system", "content": "c"}, *TALK["messages"]]}]
    path.write_text("\n\n".join(map(json.dumps, rows)))
    with pytest.raises(schema.DataError, match="a.jsonl line 3: the tokenizer's chat template "
                                             "rejects this conversation .'roles must alternate'"):
        encoding.encode_all(schema.records(path), byte_tokenizer(ALTERNATES))
    report = audit.check(path, tokenizer=byte_tokenizer(ALTERNATES))
    assert [e["row"] for e in report["errors"]] == [3]


@pytest.mark.parametrize("template, word", [
    ("chat", "no chat template"), ("llama", "expected chat, alpaca"), ("{instruction}", "output"),
    ("{output} {output}", "output"), ("{instruction} {output} {extra}", "extra"),
    ("{output", "not valid"), ("{output!r}", "output"), ("{instruction!r}{output}", "!r"),
    ("{instruction:>999999999}{output}", ":>999999999"), ("{output:>9}", "output"),
    ("{instruction:.1}{output}", "."), ("{instruction.upper}{output}", "."), ("{output}}", "."),
    ("{instruction[0]}{output}", "."), ("{0}{output}", "."), ("{}{output}", "."),
    ("{{output}}", "."),
])
def test_a_template_that_cannot_work_is_reported(template, word):
    with pytest.raises(ValueError, match=word):
        encoding.encode(ONE, byte_tokenizer(), template=template)


def test_options_that_do_not_exist_are_reported():
    for options in ({"loss_on": "prompt"}, {"on_long": "cut"}):
        with pytest.raises(ValueError, match="expected"):
            encoding.encode_all([ONE], byte_tokenizer(), **options)
    with pytest.raises(schema.DataError, match="record 1, field 'output'"):
        encoding.encode({"instruction": "Hi"}, byte_tokenizer())


def test_a_response_that_does_not_fit_is_an_error_with_its_line_or_skipped_and_counted(tmp_path):
    tokenizer, template = byte_tokenizer(), "{instruction}{output}"
    rows = [{"instruction": "i" * n, "output": "o" * m} for n, m in
            [(5, 4), (5, 5), (9, 1), (10, 1), (12, 2)]]
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n".join(map(json.dumps, rows)))
    records = schema.records(path)
    with pytest.raises(schema.DataError, match="a.jsonl line 7: the prompt has 10 tokens, so with "
                                             "max_length 10 no token of the response is left"):
        encoding.encode_all(records, tokenizer, 10, template=template)
    coded = encoding.encode_all(records, tokenizer, 10, template=template, on_long="skip")
    assert (len(coded.examples), coded.truncated, coded.skipped) == (3, 2, 2)
    assert [p.row for p in coded.problems] == [7, 9]
    whole = encoding.encode_all(records, tokenizer, template=template).examples
    assert coded.examples == [{k: v[:10] for k, v in e.items()} for e in whole[:3]]
    assert encoding.encode(rows[3], tokenizer, 10, template=template) is None
    bare = len(encoding.prompt_ids({"instruction": ""}, tokenizer))  # Alpaca's words around it
    report = audit.check(path, tokenizer=tokenizer, max_length=bare + 10)
    assert [e["row"] for e in report["errors"]] == [7, 9]
    assert [w["row"] for w in report["warnings"] if "cuts off its end" in w["problem"]] == [3, 5]


def test_check_counts_tokens_with_and_without_loss(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "Hi"}, '
                    '{"role": "assistant", "content": "Hello<|im_start|>"}]}\n')
    tokenizer = byte_tokenizer(CHATML)
    report = audit.check(path, tokenizer=tokenizer)
    ids = encoding.encode(schema.records(path)[0], tokenizer)["input_ids"]
    assert report["lengths"]["response_tokens"]["max"] == 18  # Hello, a token as text, the end
    assert report["lengths"]["prompt_tokens"]["max"] == len(ids) - 18
    assert "is encoded as text" in report["warnings"][0]["problem"]


# -------------------------------------------------------------------------- against TRL's masks


def trl_dataset(tokenizer, rows, tmp_path, **options):
    """input_ids and labels as TRL's SFTTrainer prepares them."""
    pytest.importorskip("trl", reason="TRL is in the extra `bench`")
    import datasets
    import transformers
    import trl

    config = transformers.LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1,
                                      num_attention_heads=1, intermediate_size=8)
    args = trl.SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[],
                         max_length=None, **options)
    trainer = trl.SFTTrainer(transformers.LlamaForCausalLM(config), args,
                             train_dataset=datasets.Dataset.from_list(rows),
                             processing_class=tokenizer)
    made = trainer.train_dataset
    return [{"input_ids": r["input_ids"], "labels": r["labels"]} for r in made]


def questions(n=40):
    rng = random.Random(5)
    return [{"instruction": f"Say {nasty(rng)}", "input": rng.choice(["", "now é😀"]),
             "output": "x" + nasty(rng)} for _ in range(n)]


def assert_same_as_trl(ours, theirs, tokenizer):
    """Equal ids and labels; TRL also puts loss on the template's line end after the last turn."""
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    for a, b in zip(ours, theirs, strict=True):
        assert a["input_ids"] == b["input_ids"]
        tail = len(newline) if a["input_ids"][-len(newline):] == newline else 0
        keep = len(a["labels"]) - tail
        assert a["labels"][:keep] == b["labels"][:keep]


def real_tokenizers():
    """The tokenizers of the embedded base and of SmolLM2, where they are on this machine."""
    from ftkit.model import loading

    for name in ("tiny", "smollm2"):
        try:
            yield loading.load_tokenizer(name)
        except (ValueError, OSError, ImportError):
            continue


def test_prompt_and_completion_masks_equal_trl(tmp_path):
    for tokenizer in (byte_tokenizer(CHATML), byte_tokenizer(WITH_BOS), *real_tokenizers()):
        rows = questions()
        if tokenizer.chat_template == WITH_BOS or "trim" in tokenizer.chat_template:
            rows = [{k: v.strip() for k, v in r.items()} for r in rows]
        theirs = trl_dataset(tokenizer, [
            {"prompt": [{"role": "user", "content": schema.prompt_of(r)}],
             "completion": [{"role": "assistant", "content": r["output"]}]} for r in rows],
            tmp_path)
        assert_same_as_trl(encoding.encode_all(rows, tokenizer).examples, theirs, tokenizer)


def test_text_prompt_and_completion_masks_equal_trl(tmp_path):
    tokenizer, rows = byte_tokenizer(), questions()
    theirs = trl_dataset(tokenizer, [
        {"prompt": text_of(tokenizer, encoding.prompt_ids(r, tokenizer, "alpaca")),
         "completion": r["output"]} for r in rows], tmp_path)
    ours = encoding.encode_all(rows, tokenizer, template="alpaca").examples
    assert ours == theirs


def test_assistant_masks_of_conversations_equal_trl(tmp_path):
    rng = random.Random(6)
    rows = [{"messages": [{"role": role, "content": "x" + nasty(rng)}
                          for _ in range(rng.randint(1, 4)) for role in ("user", "assistant")]}
            for _ in range(30)]
    tokenizer = byte_tokenizer(CHATML_MARKED)
    theirs = trl_dataset(tokenizer, rows, tmp_path, assistant_only_loss=True)
    assert encoding.encode_all(rows, tokenizer).examples == theirs


def test_files_of_other_tools_have_the_ids_and_labels_of_trl_on_the_record_written_beside_them(
        tmp_path):
    cases = [case for case in foreign_data.CASES if not case.is_refused
             and case.first.keys() <= {"instruction", "input", "output", "messages"}
             and not foreign.uses_tools(case.first)
             and not any("weight" in m for m in case.first.get("messages", ()))  # not of TRL
             and not (case.name.endswith(".parquet") and not importlib.util.find_spec("pyarrow"))]
    files = [case.write(tmp_path / str(i)) for i, case in enumerate(cases)]
    tokenizer = byte_tokenizer(CHATML_MARKED)
    theirs = trl_dataset(tokenizer, [{"messages": turns_of(case.first)} for case in cases],
                         tmp_path, assistant_only_loss=True)
    ours = encoding.encode_all([schema.records(file)[0] for file in files], tokenizer).examples
    assert len(cases) >= 45
    for case, a, b in zip(cases, ours, theirs, strict=True):
        assert a == b, case.name


@pytest.mark.parametrize("model", ["qwen2_5", "qwen3", "qwen3_instruct_2507", "lfm2_v2"])
def test_calls_have_the_ids_of_trl_and_its_labels_but_for_white_space(model, tmp_path):
    """In models' chat templates as TRL marks them; it also trains on line ends around a turn."""
    trl = pytest.importorskip("trl", reason="TRL is in the extra `bench`")
    marked = Path(trl.__file__).parent / "chat_templates" / f"{model}_training.jinja"
    if not marked.exists():
        pytest.skip("this TRL has no such template")
    tokenizer = byte_tokenizer(marked.read_text("utf-8"))
    talk, tools = foreign_data.CALLED["messages"], [foreign_data.TOOL]
    longer = [{"role": "system", "content": "Be brief."}, *talk, *talk]
    rows = list(schema.records([{"messages": talk, "tools": tools},
                                {"messages": talk, "tools": json.dumps(tools)},
                                {"messages": longer, "tools": tools}]))
    ours = encoding.encode_all(rows, tokenizer).examples
    theirs = trl_dataset(tokenizer, rows, tmp_path, assistant_only_loss=True)

    def trained(example):
        return tokenizer.decode([i for i in example["labels"] if i != encoding.NO_LOSS]).split()

    for a, b in zip(ours, theirs, strict=True):
        assert a["input_ids"] == b["input_ids"]
        assert "".join(trained(a)) == "".join(trained(b)) and "depth" in "".join(trained(a))


def in_containers(rows: list[dict]) -> dict[str, bytes]:
    """A file's name and bytes for each way in which tools write the same rows."""
    lines = "\n".join(json.dumps(row) for row in rows) + "\n"
    return {"rows.jsonl": lines.encode(),
            "windows.jsonl": b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode(),
            "array.json": json.dumps(rows, indent=2).encode(),
            "one_line.json": json.dumps(rows).encode(),
            "object.json": json.dumps({"version": 1, "data": rows}).encode(),
            "series.json": "\n".join(json.dumps(row, indent=1) for row in rows).encode(),
            "rows.jsonl.gz": gzip.compress(lines.encode()),
            "rows.jsonl.bz2": bz2.compress(lines.encode()),
            "rows.ndjson": lines.encode()}


def test_a_shape_has_the_ids_and_labels_of_trl_in_every_container(tmp_path):
    """At least 250 files: each JSON shape of another tool in each way of writing its rows."""
    tokenizer, files, wanted = byte_tokenizer(CHATML_MARKED), [], []
    for i, case in enumerate(foreign_data.CASES):
        if case.is_refused or callable(case.content) or foreign.uses_tools(
                case.first) or not case.first.keys() <= {
                "instruction", "input", "output", "messages"} or any(
                "weight" in m for m in case.first.get("messages", ())):
            continue
        try:
            rows = json.loads(b"[" + b",".join(case.content.splitlines()) + b"]")
        except ValueError:  # it is a container of its own
            continue
        rows = rows[0] if len(rows) == 1 and isinstance(rows[0], list) else rows
        if not all(isinstance(row, dict) and "data" not in row for row in rows):
            continue
        (tmp_path / str(i)).mkdir()
        for name, content in in_containers(rows).items():
            files.append(tmp_path / str(i) / name)
            files[-1].write_bytes(content)
            wanted.append(case)
    shapes = list({case.name: case for case in wanted}.values())
    theirs = dict(zip((case.name for case in shapes), trl_dataset(
        tokenizer, [{"messages": turns_of(case.first)} for case in shapes], tmp_path,
        assistant_only_loss=True), strict=True))
    ours = encoding.encode_all([schema.records(file)[0] for file in files], tokenizer).examples
    assert len(files) >= 250
    for file, case, mine in zip(files, wanted, ours, strict=True):
        assert mine == theirs[case.name], (file.name, case.name)


def turns_of(record) -> list[dict]:
    if "messages" in record:
        return record["messages"]
    asked = record["instruction"] + ("\n\n" + record["input"] if record.get("input") else "")
    return [{"role": "user", "content": asked},
            {"role": "assistant", "content": record["output"]}]


# ---------------------------------------------------------------- batches, packed rows, blocks


def examples_of(lengths):
    return [{"input_ids": [n] * n, "labels": [-100] + [n] * (n - 1)} for n in lengths]


def test_collate_pads_with_no_attention_and_no_loss():
    a, b = examples_of([2, 3])
    right = encoding.collate([a, b], pad_token_id=9)
    assert right["input_ids"].tolist() == [[2, 2, 9], [3, 3, 3]]
    assert right["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert right["labels"].tolist() == [[-100, 2, -100], [-100, 3, 3]]
    left = encoding.collate([a, b], 9, padding_side="left")
    assert left["input_ids"].tolist()[0] == [9, 2, 2]
    assert left["attention_mask"].tolist()[0] == [0, 1, 1]
    assert left["labels"].tolist()[0] == [-100, -100, 2]


def test_packed_rows_hold_every_example_once_and_none_is_too_long():
    rng = random.Random(0)
    for limit in (1, 7, 64, 200):
        examples = examples_of([rng.randint(1, limit) for _ in range(500)])
        rows = encoding.pack(examples, limit)
        packed = [e for row in rows for e in row]
        assert sorted(map(id, packed)) == sorted(map(id, examples))
        assert max(sum(len(e["input_ids"]) for e in row) for row in rows) <= limit


def test_packing_needs_as_few_rows_as_trl(tmp_path):
    trl_data = pytest.importorskip("trl.data_utils")
    import datasets

    rng = random.Random(1)
    examples = examples_of([min(128, int(rng.expovariate(1 / 40)) + 1) for _ in range(2000)])
    theirs = trl_data.pack_dataset(datasets.Dataset.from_list(examples), 128, "bfd")
    assert len(encoding.pack(examples, 128)) <= len(theirs)


def test_an_example_longer_than_a_row_is_reported():
    with pytest.raises(ValueError, match="has 11 tokens, but max_length is 10"):
        encoding.pack(examples_of([3, 11]), 10)


# ------------------------------------------------------------------------- the mask inspector


def test_the_inspector_marks_exactly_the_tokens_with_loss():
    tokenizer = byte_tokenizer("{{ bos_token }}{{ messages[0]['content'] }}>"
                               "{% if messages | length > 1 %}{{ messages[1]['content'] }}"
                               "{{ eos_token }}{% endif %}")
    view = encoding.show_batch([encoding.encode({"instruction": "ab", "output": "c"}, tokenizer)],
                             tokenizer)
    assert repr(view).splitlines()[0].startswith("1 example, 6 tokens, 2 trained on (33%)")
    assert repr(view).endswith("\n<s>ab>[c][<|im_end|>]")
    drawn = view._repr_html_()
    spans = re.findall(r'<span title="id (\d+), ([a-z ]+)" style="([^"]*)">([^<]*)</span>', drawn)
    assert [html.unescape(text) for *_, text in spans] == ["<s>", "a", "b", ">", "c", "<|im_end|>"]
    assert [title == "trained on" for _, title, *_ in spans] == [False] * 4 + [True] * 2
    for _, title, style, text in spans:  # told apart without color: a line under it, a frame
        assert ("border-bottom" in style) == (title == "trained on")
        assert ("dotted" in style) == text.startswith("&lt;")


def test_the_inspector_runs_nothing_that_is_in_the_data():
    evil = "<script>alert(1)</script>\"'&"
    tokenizer = word_tokenizer([evil, "</div>"])
    view = encoding.show_batch([{"instruction": evil, "output": "</div>"}], tokenizer)
    drawn = view._repr_html_()
    assert "<script" not in drawn and "&lt;script&gt;" in drawn
    assert drawn.count("</div>") == drawn.count("<div")


def test_the_inspector_shows_a_label_that_is_not_its_token():
    tokenizer = byte_tokenizer()
    ids = tokenizer("abc")["input_ids"]
    drawn = encoding.show_batch([{"input_ids": ids, "labels": [*ids[1:], -100]}], tokenizer)
    assert "but label" in drawn._repr_html_() and "a≠b" in drawn._repr_html_()


def test_the_inspector_takes_ids_that_are_no_tokens_and_bytes_of_a_character():
    tokenizer = byte_tokenizer()
    ids = [*tokenizer("😀")["input_ids"], 10**6, -1]
    view = encoding.show_batch([{"input_ids": ids, "labels": ids}], tokenizer)
    assert "[id 1000000]" in repr(view) and "\ufffd" not in repr(view) and view._repr_html_()


# ------------------------------------------------------------------------- large data


def test_many_records_are_encoded_when_asked_for_and_as_they_would_be_all_at_once(
        monkeypatch):
    tokenizer = byte_tokenizer()
    rows = schema.records("tasks")[:300]
    options = {"max_length": 110, "template": "plain", "on_long": "skip"}
    whole = encoding.encode_all(rows, tokenizer, **options)
    monkeypatch.setattr(encoding, "MANY", 100)
    monkeypatch.setattr(encoding, "CHUNK", 70)
    lazy = encoding.encode_all(rows, tokenizer, **options)
    assert isinstance(lazy.examples, encoding.Lazy) and list(lazy.examples) == whole.examples
    assert lazy.truncated == whole.truncated > 0
    assert list(encoding.Units(lazy.examples)) == [[e] for e in whole.examples]
    packed = encoding.Units(encoding.joined(lazy.examples, whole.examples[:5]), 110)
    assert list(packed) == encoding.pack(whole.examples + whole.examples[:5], 110)


def test_a_large_file_reports_the_same_problems_as_a_small_one(monkeypatch, tmp_path):
    tokenizer = byte_tokenizer()
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join(json.dumps({"instruction": "word " * (i % 9), "output": "x"})
                              for i in range(1, 200) if i % 9))
    with pytest.raises(schema.DataError) as small:
        encoding.encode_all(schema.records(path), tokenizer, 30, template="plain")
    monkeypatch.setattr(encoding, "MANY", 100)
    monkeypatch.setattr(encoding, "CHUNK", 17)
    with pytest.raises(schema.DataError) as large:
        encoding.encode_all(schema.records(path), tokenizer, 30, template="plain")
    assert large.value.problems == small.value.problems and len(small.value.problems) > 20


def test_a_large_set_shows_how_far_it_is_read_and_a_small_one_does_not(monkeypatch, capsys):
    records, tokenizer = schema.records("translation")[:40], byte_tokenizer()
    encoding.encode_all(records, tokenizer, template="plain")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(encoding, "MANY", 3)
    monkeypatch.setattr(encoding, "CHUNK", 1)
    encoding.encode_all(records, tokenizer, template="plain")
    assert "encoding the records" in capsys.readouterr().err
