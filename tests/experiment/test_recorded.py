"""Recorded runs: read like live ones, without their models; and the program that makes them."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
from helpers import ROOT
from recorded_files import content, run, write

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.experiment import recorded

FILES = sorted((ROOT / "data_samples" / "recorded").glob("*.json"))
COMPLETE = 3  # seeds that a recorded arm of a claim has


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def maker(tmp_path, monkeypatch):
    """The program that makes recorded runs, with a folder of its own and nothing that trains."""
    monkeypatch.syspath_prepend(str(ROOT / "data_samples" / "recipe"))
    module = importlib.import_module("recorded")
    monkeypatch.setattr(module, "FOLDER", tmp_path / "recorded")
    monkeypatch.setattr(module, "base_scores", lambda name: {"answers": [], "scores": {}})
    yield module
    for name in ("recorded", "plans"):
        sys.modules.pop(name, None)


# ---------------------------------------------------------------------------------- reading


def test_recorded_runs_are_drawn_and_compared_like_live_ones(folder):
    write(folder)
    runs = ft.recorded("sample")
    assert list(runs.arms) == ["low", "high"] and runs.seeds == [0, 1, 2] and len(runs) == 6
    for picture in (ft.curves(runs), ft.scatter(runs, x="val_loss", y="english_loss")):
        assert "recorded on 2026-11-26, made by `make recorded sample`" in picture.text
    assert "recorded on 2026-11-26" in repr(ft.table(runs))
    assert "3.31 ± 0.01" in repr(ft.table(runs)) and "low" in repr(ft.table(runs))
    compared = ft.compare(runs.arms["low"], runs.arms["high"])
    assert compared.cause == "learning_rate" and compared.effects["english_loss"].clear
    assert "recorded on 2026-11-26" in compared.text


def test_a_recorded_run_keeps_answers_and_no_model(folder):
    write(folder)
    first = ft.recorded("sample")[0]
    assert first.answers and first.before["exact_match"] == 0.0
    with pytest.raises(UserError, match="no model"):
        first.model.generate()


def test_without_a_name_all_are_listed_and_a_wrong_name_gets_a_hint(folder):
    write(folder)
    assert ft.recorded().rows[0] | {"question": ""} == {
        "name": "sample", "lesson": "01", "arms": 2, "seeds": 3, "runs": 6, "minutes": 0,
        "recorded": "2026-11-26", "question": ""}
    with pytest.raises(UserError, match="did you mean sample"):
        ft.recorded("sampel")
    (folder / "sample.json").write_text('{"name": "sample"}', "utf-8")
    with pytest.raises(UserError, match=r"damaged .* make recorded sample"):
        ft.recorded("sample")


# ---------------------------------------------------------------------------- the shipped files


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_is_whole_and_small(path):
    stored = json.loads(path.read_text("utf-8"))
    runs = recorded.Recorded(stored)
    assert runs.card["versions"] and runs.card["machine"] and runs.card["license"]
    for one in stored["runs"]:
        assert len(one["history"]) <= 60 and one["made"] and one["wall_seconds"] >= 0
    assert path.stat().st_size < 1e6
    assert sum(file.stat().st_size for file in FILES) < 5e6


def test_the_change_of_exact_match_is_between_two_evaluations_of_one_run():
    """The end value of a recorded run is of other records, so it must not be in the difference."""
    changes = 0
    for path in FILES:
        for made in json.loads(path.read_text("utf-8"))["runs"]:
            if "exact_match_change" in made["after"]:
                rows = [row for row in made["history"] if "val_loss" in row]
                lowest = min(rows, key=lambda row: row["val_loss"])
                change = rows[-1]["exact_match"] - lowest["exact_match"]
                assert made["after"]["exact_match_change"] == pytest.approx(change, abs=1e-5)
                changes += 1
    assert changes


def test_the_card_is_that_of_the_files(maker, monkeypatch):
    monkeypatch.setattr(maker, "FOLDER", FILES[0].parent)
    assert (FILES[0].parent / "README.md").read_text("utf-8") == maker.card(), (
        "run: python data_samples/recipe/recorded.py --card")


# ------------------------------------------------------------------------------------- making


def test_the_cost_comes_first_and_an_interrupt_costs_one_run(maker, monkeypatch, capsys):
    def stub(name, arm, seed):
        if len(made) == 2 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        made.append((seed, arm))
        return run(arm, seed, 3.3, 1e-4)

    made, interrupted = [], []
    monkeypatch.setattr(maker, "make_run", stub)
    with pytest.raises(KeyboardInterrupt):
        maker.make("lr_valley")
    planned = maker.PLANS["lr_valley"].runs()
    said = capsys.readouterr().out.splitlines()
    assert f"0 of {len(planned)} runs made; the other {len(planned)} take about" in said[0]
    maker.make("lr_valley")
    assert f"2 of {len(planned)} runs made" in capsys.readouterr().out
    assert made == planned and maker.missing("lr_valley") == []
    assert "| lr_valley | 07 |" in (maker.FOLDER / "README.md").read_text("utf-8")


def test_every_plan_claims_something_about_arms_that_it_has(maker):
    assert len(maker.PLANS) >= 15
    for name, plan in maker.PLANS.items():
        claim = plan.claim
        for side in (claim.left, claim.right):
            start = side.removeprefix("best ") if isinstance(side, str) else None
            assert start is None or any(arm.startswith(start) for arm in plan.arms), (name, side)
        for arm, fields in plan.all_arms.items():
            maker.config_of(plan, arm, 0)
            assert "learning_rate" in fields or "evaluate" in fields, (name, arm)
        assert len(plan.seeds) >= COMPLETE


def test_no_passage_of_the_replay_is_measured(maker):
    from ftkit.evaluate import abilities

    measured = {row["text"] for row in abilities.load("english", maker.PASSAGES)}
    replayed = {row["text"] for row in maker.passages_not_measured()}
    assert not measured & replayed and len(replayed) > 200


def test_the_content_of_tests_has_the_fields_of_the_files():
    stored = json.loads(FILES[0].read_text("utf-8"))
    assert content().keys() == stored.keys()
    assert run("a", 0, 1.0, 1e-4).keys() <= stored["runs"][0].keys()
    assert content()["claim"].keys() == stored["claim"].keys()
