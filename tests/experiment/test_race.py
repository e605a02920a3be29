"""The one-minute race: what an entry may say, which cheats are refused, ties, and one real run."""

import json

import pytest
from helpers import ROOT

from ftkit.base.errors import UserError
from ftkit.experiment import race
from ftkit.experiment.race import Entry, Result

ENTRIES = sorted((ROOT / "docs" / "race" / "entries").glob("*.json"))


def entry(tmp_path, name="mine.json", **fields):
    path = tmp_path / name
    path.write_text(json.dumps(fields))
    return path


@pytest.mark.parametrize("fields, words", [
    ({"data": "tasks.test.jsonl"}, "data is given; every entry tunes `tiny` on the training"),
    ({"stages": [{"val": "x"}]}, "val is given; every entry"),
    ({"exact_match": 1.0}, "exact_match is given; expected no results"),
    ({"stages": [{"replay_from": "tasks.test.jsonl"}]}, "replay_from is given; every entry"),
    ({"stages": [{"score": 0.99}]}, "score is given; expected no results"),
    ({"seed": 7}, "seed is 7; the race takes seeds that no entry was chosen with"),
    ({"tasks": ["../tasks.test"]}, "expected a list of addition, animal_baby"),
    ({"blend": 2}, "blend is 2; expected a number from 0"),
    ({"learning_rte": 1}, "learning_rate"),
    ({"stages": 3}, "expected a list of Configs"),
    ({"stages": [{}], "replay": 0.1}, "replay is given beside stages"),
])
def test_an_entry_that_cheats_or_is_wrong_is_refused_with_a_sentence(tmp_path, fields, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        race.read(entry(tmp_path, **fields))


def test_code_and_broken_json_are_refused(tmp_path):
    with pytest.raises(UserError, match="Code is not accepted, because it could read the test"):
        race.read(entry(tmp_path, "mine.py"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match="broken.json is not JSON"):
        race.read(tmp_path / "broken.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match="holds a list; expected one JSON object"):
        race.read(tmp_path / "list.json")


def test_an_entry_that_trains_longer_than_the_minute_is_refused(tmp_path, monkeypatch, home):
    monkeypatch.setattr(race, "SECONDS", 0.5)
    with pytest.raises(UserError, match="mine needs more than 0 processor seconds .* fewer steps"):
        race.run(race.read(entry(tmp_path, max_steps=100_000, batch_size=2)))


def test_an_entry_is_trained_in_stages_and_blended_and_repeats_its_numbers(tmp_path, monkeypatch,
                                                                          home):
    monkeypatch.setattr(race, "SEEDS", 1)
    short = {"max_steps": 2, "batch_size": 2}
    path = entry(tmp_path, stages=[short | {"tasks": ["capital"]}, short], blend=0.5)
    first, again = race.run(race.read(path)), race.run(race.read(path))
    assert (first.scores, first.rises) == (again.scores, again.rises)
    assert first.rises != [0.0] and max(first.seconds) < 60


def result(name, scores, rise=0.1):
    return Result(Entry(name, (), 1.0, ""), scores, [rise] * len(scores), [20.0] * len(scores))


def test_ties_share_a_place_and_too_much_forgetting_has_none():
    rows = race.standings([
        result("forgets", [0.99, 0.99, 0.98], rise=0.4), result("low", [0.70, 0.71, 0.70]),
        result("best", [0.90, 0.92, 0.91]), result("tied", [0.91, 0.90, 0.90])])
    assert [(row["entry"], row["place"]) for row in rows] == [
        ("best", 1), ("tied", 1), ("low", 3), ("forgets", "-")]
    assert rows[-1]["counts"] == "no: above 0.3"


def test_every_entry_of_the_table_is_valid_and_says_what_was_learned():
    table = (ROOT / "docs" / "race" / "README.md").read_text("utf-8")
    assert len(ENTRIES) >= 8
    for path in ENTRIES:
        assert race.read(path).learned
        assert f"[{path.stem}](entries/{path.name})" in table
