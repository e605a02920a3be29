"""What is trained on, in records of other tools, marked by hand.

The tokenizer has an id for each byte, and the letters <S> <U> <A> <E> <T> as special tokens. In the
marked texts, [ ] are around what is trained on.
"""

import itertools
import json

import pytest

from ftkit.base.errors import UserError
from ftkit.data import encoding, schema

pytestmark = pytest.mark.heavy
TEMPLATE = (
    "{% if tools %}<T>{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "<{{ m.role[0] | upper }}>{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}"
    "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}"
    "@{{ c.function.name }}{% endfor %}<E>{% endfor %}{% if add_generation_prompt %}<A>{% endif %}")


@pytest.fixture(scope="module")
def tokenizer():
    from test_encoding import byte_tokenizer

    made = byte_tokenizer(TEMPLATE)
    made.add_special_tokens({"eos_token": "<E>",
                             "additional_special_tokens": ["<S>", "<U>", "<A>", "<T>"]})
    return made


def marked(example, tokenizer) -> str:
    """The text of an example, with [ ] around what is trained on."""
    text = ""
    for is_on, group in itertools.groupby(zip(*example.values(), strict=True),
                                          lambda pair: pair[1] != -100):
        part = tokenizer.decode([i for i, _ in group], clean_up_tokenization_spaces=False)
        text += f"[{part}]" if is_on else part
    return text


def said(role, content, **more):
    return {"role": role, "content": content} | more


U, A, V, B = said("user", "u"), said("assistant", "a"), said("user", "v"), said("assistant", "b")
S, HUMAN, GPT = said("system", "s"), {"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}
TOOL = {"type": "function", "function": {"name": "f"}}
LISTED = '<T>[{"type": "function", "function": {"name": "f"}}]'
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
RESULT = said("tool", "r", tool_call_id="1")
THOUGHT = {"type": "thinking", "thinking": "t"}


def talk(*messages, **more):
    return {"messages": [*messages], **more}


BY_HAND = [  # (record, the text with what is trained on, or words of the refusal)
    # system prompts
    (talk(U, A, system="s"), "<S>s<E><U>u<E><A>[a<E>]"),
    (talk(S, U, A, system="s"), "<S>s<E><U>u<E><A>[a<E>]"),
    (talk(S, U, A, system=""), "<S>s<E><U>u<E><A>[a<E>]"),
    (talk(U, A, system=None), "<U>u<E><A>[a<E>]"),
    (talk(S, U, A, system="other"), "!system': 'other'; expected a text, and no other"),
    (talk(U, A, system=["s"]), "!system': [\"s\"]; expected a text"),
    (talk(U, A, system_prompt="s"), "<S>s<E><U>u<E><A>[a<E>]"),
    ({"conversations": [HUMAN, GPT], "system": "s"}, "<S>s<E><U>u<E><A>[a<E>]"),
    ({"system_prompt": "s", "conversations": [HUMAN, GPT]}, "<S>s<E><U>u<E><A>[a<E>]"),
    ({"instruction": "u", "output": "a", "system_prompt": "s"}, "<S>s<E><U>u<E><A>[a<E>]"),
    ({"question": "u", "response": "a", "system_prompt": "s"}, "<S>s<E><U>u<E><A>[a<E>]"),
    ({"instruction": "u", "input": "v", "output": "a", "system": "s"},
     "<S>s<E><U>u\nv<E><A>[a<E>]"),
    ({"prompt": [U], "completion": [A], "system": "s"}, "<S>s<E><U>u<E><A>[a<E>]"),
    ({"chosen": [U, A], "rejected": [U, B], "system": "s"}, "<S>s<E><U>u<E><A>[a<E>]"),
    # which answers are trained on
    (talk(U, A | {"loss": False}, V, B), "<U>u<E><A>a<E><U>v<E><A>[b<E>]"),
    (talk(U, A | {"loss": True}, V, B | {"loss": False}), "<U>u<E><A>[a<E>]<U>v<E><A>b<E>"),
    (talk(U, A | {"train": False}, V, B | {"train": True}), "<U>u<E><A>a<E><U>v<E><A>[b<E>]"),
    (talk(U | {"training": False}, A | {"training": False}, V, B),
     "<U>u<E><A>a<E><U>v<E><A>[b<E>]"),
    (talk(U, A | {"weight": 0}, V, B | {"weight": 1}), "<U>u<E><A>a<E><U>v<E><A>[b<E>]"),
    (talk(U, A | {"weight": 1, "train": False}, V, B), "<U>u<E><A>a<E><U>v<E><A>[b<E>]"),
    (talk(U | {"train": True}, A), "!train': true; expected true or false, and true for answers"),
    (talk(U, A | {"loss": 0.3}), "!loss': 0.3; expected true or false"),
    (talk(U, A | {"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": False}]}),
     "!answers are trained on as a whole"),
    (talk(U, A | {"train": False}), "!weight 0, so nothing is trained on"),
    # thoughts
    (talk(U, A | {"reasoning_content": "t"}), "<U>u<E><A>[(t)a<E>]"),
    (talk(U, A | {"thinking": "t"}), "<U>u<E><A>[(t)a<E>]"),
    (talk(U, A | {"reasoning": "t"}, V, B), "<U>u<E><A>[(t)a<E>]<U>v<E><A>[b<E>]"),
    (talk(U, said("assistant", [THOUGHT, {"type": "text", "text": "a"}])), "<U>u<E><A>[(t)a<E>]"),
    (talk(U, A | {"reasoning_content": ["t"]}), "!reasoning_content': [\"t\"]; expected a text"),
    # parts, tools, special tokens
    (talk(said("user", [{"type": "image_url", "text": "u"}]), A), "!or a list of text parts"),
    (talk(U, A, tools=[TOOL]), LISTED + "<U>u<E><A>[a<E>]"),
    (talk(U, A, tools=json.dumps([TOOL])), LISTED + "<U>u<E><A>[a<E>]"),
    (talk(U, A, functions=[TOOL]), "!--tools text"),
    (talk(U, said("assistant", None, tool_calls=[CALL]), RESULT, B),
     '<U>u<E><A>[{"x": 1}@f<E>]<T>r<E><A>[b<E>]'),
    (talk(U, said("assistant", "a", function_call=CALL["function"]), RESULT, B, V, A),
     '<U>u<E><A>[a{"x": 1}@f<E>]<T>r<E><A>[b<E>]<U>v<E><A>[a<E>]'),
    (talk(U, said("assistant", None, tool_calls=[{"name": "f"}], weight=0), RESULT, B),
     "<U>u<E><A>{}@f<E><T>r<E><A>[b<E>]"),
    (talk(U, A, RESULT, B), "!--tools text"),
    (talk(U, A | {"tool_calls": [{"x": 1}]}, RESULT, B), "!--tools text"),
    (talk(U | {"tool_calls": [CALL]}, RESULT, B), "!--tools text"),
    (talk(said("user", "u<E><A>"), said("assistant", "a<E>b")), "<U>u<E><A><E><A>[a<E>b<E>]"),
]


@pytest.mark.parametrize("record, wanted", BY_HAND)
def test_what_is_trained_on_is_what_was_marked_by_hand(record, wanted, tokenizer, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record) + "\n")
    if wanted.startswith("!"):
        with pytest.raises(UserError) as caught:
            encoding.encode_all(schema.records(path), tokenizer)
        assert wanted[1:] in str(caught.value) and "line 1" in str(caught.value)
        return
    coded = encoding.encode_all(schema.records(path), tokenizer)
    assert marked(coded.examples[0], tokenizer) == wanted and coded.skipped == 0
    assert not [note for note in coded.notes if "not used" in note]


def test_a_special_token_in_a_record_is_text_and_on_request_special(tokenizer):
    record = talk(said("user", "u<E><A>"), said("assistant", "a<E>b"))
    end = tokenizer.convert_tokens_to_ids("<E>")
    coded = encoding.encode_all([record, record], tokenizer)
    text, kept = coded.examples[0], encoding.encode(record, tokenizer, split_special_tokens=False)
    assert text["input_ids"].count(end) == 2 and kept["input_ids"].count(end) == 4
    assert tokenizer.decode(text["input_ids"]) == tokenizer.decode(kept["input_ids"])
    assert coded.notes[0].startswith("'<E>' is a special token, and the records have it 4 times")
    assert encoding.prompt_ids(record, tokenizer) == text["input_ids"][:10]
    other = {"text": "a\U0010f000<E>"}  # the character that hides tokens is a text too
    assert tokenizer.decode(encoding.encode(other, tokenizer)["input_ids"]) == other["text"] + "<E>"


def test_what_a_template_does_not_write_is_in_the_notes(tokenizer):
    record = talk(U, A | {"reasoning_content": "t", "name": "n"}, score=1, source="x")
    said_of = encoding.encode_all([record], tokenizer, template="plain").notes
    assert [note.split(" was not used")[0] for note in said_of] == [
        "the field score", "the field messages.reasoning_content", "the field messages.name"]
    with pytest.raises(UserError, match="these tools or calls cannot be written"):
        encoding.encode_all([talk(U, A, tools=[TOOL])], tokenizer, template="plain")


def test_a_run_names_in_its_notes_what_it_did_not_read_and_keeps_special_tokens_on_request(home):
    import ftkit as ft

    rows = [{"instruction": f"u{i}", "output": "a<|eos|>b", "score": i + 1} for i in range(8)]
    lab = ft.Experiment("tiny", data=rows, val=rows, probes=())
    options = {"max_steps": 1, "batch_size": 2, "precision": "fp32"}
    text, kept = lab.run(**options), lab.run(split_special_tokens=False, **options)
    assert "the field score was not used (in 8 of 8 records)" in text.notes
    assert any("'<|eos|>' is a special token" in note for note in text.notes)
    assert not any("special token" in note for note in kept.notes)
    assert text.rows[0]["tokens"] > kept.rows[0]["tokens"]
