"""Text of others leaves the package through one function: no markup, no mathematics, no control
characters, whether it is shown on a page or in a terminal."""

import io
import json
import re
import unicodedata

import pytest

from ftkit.base import formatting
from ftkit.base.config import Config

pytestmark = pytest.mark.quick

HOSTILE = ["it costs $5 and then $10 more", r"\(\href{javascript:x}{y}\)", "$$x$$ \\[y\\]",
           "\x1b[2J\x1b]0;owned\x07\x1b[31mred\x1b[0m", "\u202egnp.exe\u202d", "a\u200bb\ufeffc",
           "\x00\x01\x7f\x9b31m", "<script>x</script>", "\" onload='x'", "\r\x08\x08hidden"]


def commands_nothing(text: str) -> bool:
    return not any(unicodedata.category(c)[0] == "C" and c not in "\n\t" for c in text)


def typeset(page: str) -> str:
    """What MathJax would read of a page: everything but elements that it is told to ignore."""
    return re.sub(r"<span class='mathjax_ignore tex2jax_ignore'>.*?</span>", "", page, flags=re.S)


def check(page: str):
    assert commands_nothing(page) and "<script" not in page
    shown = re.sub(r"<[^<>]*>", "", typeset(page))
    assert "$" not in shown and "\\" not in shown, shown


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_shown_literally_in_every_view(text):
    from ftkit.data import schema
    from ftkit.experiment.run import Run
    from ftkit.report.table import Table, table

    made = Run(id="x", config=Config(), model_name=text, data={"name": text}, notes=[text],
               before={"val_loss": 2.0}, after={"val_loss": 1.0}, stopped=text,
               rows=[{"step": 1, "loss": 1.0}])
    records = schema.Records([{"instruction": text, "output": text}], name=text)
    for view in (Table([{"prompt": text, text: 1}], text), made, records, table([made])):
        check(view._repr_html_())
        assert commands_nothing(repr(view))


def test_plain_text_and_white_space_stay_as_they_are():
    assert formatting.to_html("a  b\n\tc é 😀") == "a  b\n\tc é 😀"
    assert formatting.printable("two\nlines\t!") == "two\nlines\t!"
    assert formatting.to_html("5 < 6 & $7") == (
        "<span class='mathjax_ignore tex2jax_ignore'>5 &lt; 6 &amp; $7</span>")


@pytest.mark.heavy
def test_commands_that_read_data_and_cards_command_no_terminal(ftkit, home, tmp_path, monkeypatch):
    for i, text in enumerate(HOSTILE):
        data, cards = tmp_path / f"data{i}.jsonl", tmp_path / f"cards{i}.jsonl"
        seen = text.replace("\0", "")
        data.write_text(json.dumps({"instruction": text, "output": text, text: 1}) + "\n"
                        + json.dumps({"instruction": seen, "output": seen, seen: 1}) + "\n"
                        + json.dumps({"prompt": [text]}) + "\n")
        cards.write_text(json.dumps({"front": text, "back": text, "topic": text}))
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{seen}\n\n3\nq\n"))
        own = ("drill", "--cards", cards, "--topic")
        for words in (("check", data), ("check", data, "--against", data), ("convert", data, "x"),
                      (*own, "your cards"), (*own, seen), ("memory", "--model", seen),
                      ("export", seen, seen), ("drill", "--prove", seen),
                      ("run", "--resume", seen)):
            status, out, err = ftkit(*words)
            assert commands_nothing(out) and commands_nothing(err), (words, out, err)
            assert status in (0, 2), (words, err)


@pytest.mark.heavy
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_the_mask_view_shows_tokens_literally(text):
    from ftkit.data import encoding
    from ftkit.model import loading

    tokenizer, text = loading.load_tokenizer("tiny"), text.replace("\0", "")  # never accepted
    view = encoding.show_batch([encoding.encode({"instruction": text, "output": text}, tokenizer)],
                               tokenizer)
    check(view._repr_html_())
    assert commands_nothing(repr(view))


@pytest.mark.heavy
def test_a_stored_run_and_an_error_command_no_terminal(ftkit, home):
    from ftkit.experiment import store
    from ftkit.experiment.run import Run

    for i, text in enumerate(HOSTILE):
        made = Run(id=f"run-{i}", config=Config(), model_name=text, data={"name": text, "rows": 1},
                   notes=[text], before={"val_loss": 2.0}, after={"val_loss": 1.0},
                   rows=[{"step": 1, "loss": 1.0}], total_steps=1)
        writer = store.Writer(made)
        writer.finish()
        for words in (("runs", f"run-{i}"), ("runs",), ("runs", text.replace("\0", "")),
                      ("run", "--model", text.replace("\0", ""), "--max-steps", 1)):
            status, out, err = ftkit(*words)
            assert commands_nothing(out) and commands_nothing(err), (words, out, err)
