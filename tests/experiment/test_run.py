"""Config says clearly what it refuses; the store loses nothing that was written."""

import json
import math

import pytest

from ftkit.base.config import Config
from ftkit.experiment import run, store

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("home")]


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("method", "lorra", "one of full, lora, qlora"),
        ("method", "lorra", "did you mean lora?"),
        ("learning_rate", -1, "a number above 0"),
        ("learning_rate", 0, "a number above 0"),
        ("learning_rate", "fast", "a number"),
        ("learning_rate", math.nan, "a number"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", 2.5, "whole number"),
        ("batch_size", True, "whole number"),
        ("batch_size", None, "whole number"),
        ("epochs", 0, "above 0"),
        ("packing", "maybe", "true or false"),
        ("lora_dropout", 1.0, "at most 0.99"),
        ("replay", 1.0, "at most 0.95"),
        ("precision", "fp8", "one of fp32"),
        ("target_modules", "", "text"),
        ("seed", 2**32, "at most 4294967295"),
    ],
)
def test_a_bad_value_is_named_with_what_is_accepted(field, value, words):
    with pytest.raises(ValueError) as error:
        Config(**{field: value})
    assert field in str(error.value) and words in str(error.value)


def test_an_unknown_field_names_the_nearest_one():
    with pytest.raises(ValueError, match="learning_rate"):
        Config().but(learn_rate=1)
    with pytest.raises(ValueError, match=r"did you mean learning_rate\?"):
        Config.from_string("lr=1e-3")
    with pytest.raises(ValueError) as error:
        Config.from_string("x" * 3000)
    assert len(str(error.value)) < 200


def test_a_config_survives_its_own_string():
    config = Config(method="lora", learning_rate=5e-3, packing=True, max_steps=7,
                    target_modules=["q_proj", "v_proj"], gradient_accumulation_steps=2)
    assert Config.from_string(str(config)) == config


def a_run(**fields) -> run.Run:
    made = run.Run(id=store.new_id(), config=Config(learning_rate=1e-3), model_name="tiny",
                   data={"name": "x", "rows": 3, "sha256": "0"}, total_steps=3, **fields)
    return made


def test_a_killed_run_is_read_back_with_its_rows_and_says_that_it_did_not_finish():
    written = a_run()
    writer = store.Writer(written)
    writer.row({"step": 1, "loss": 2.0})
    writer.row({"step": 2, "loss": math.nan})
    with open(writer.folder / "rows.jsonl", "a") as file:
        file.write('{"step": 3, "lo')  # what a kill in the middle of a write leaves
    found = store.load_run(written.id[:12])
    assert [r["step"] for r in found.rows] == [1, 2]
    assert math.isnan(found.rows[1]["loss"]) and found.stopped == "not finished"


def test_a_finished_run_comes_back_equal():
    written = a_run(before={"val_loss": 4.0}, after={"val_loss": 1.0}, seconds=2.0, tokens=10)
    writer = store.Writer(written)
    written.rows.append({"step": 1, "loss": 2.0})
    writer.row(written.rows[0])
    writer.finish()
    assert store.load_run(written.id) == written
    assert store.runs().loc[0, "val_loss after"] == 1.0


def test_the_json_of_a_run_has_no_nan():
    written = a_run(before={"val_loss": math.inf})
    assert "NaN" not in json.dumps(written.to_dict()) and "Inf" not in json.dumps(written.to_dict())


def test_an_unwritable_home_costs_a_sentence_and_not_the_run(tmp_path, monkeypatch, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FTKIT_HOME", str(blocked))
    written = a_run()
    writer = store.Writer(written)
    writer.row({"step": 1, "loss": 1.0})
    writer.finish()
    assert "not being stored" in capsys.readouterr().err and len(written.notes) == 1
