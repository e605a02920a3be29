"""A report has claim, results, curves, settings and what is open; text from data stays text."""

import re

import pytest

import ftkit as ft
from ftkit.base.errors import UserError


@pytest.fixture(scope="module")
def runs():
    lab = ft.Experiment(data=ft.records("capital", "train")[:20], val=ft.records("capital", "test"))
    config = ft.Config(max_steps=2, batch_size=2, precision="fp32")
    return lab.sweep(config, learning_rate=[1e-4, 1e-3], seed=range(2))


def test_a_report_is_made_from_the_store_and_says_what_is_open(runs, tmp_path):
    report = ft.run_report([run.id for run in runs], claim="0.001 learns more")
    text = report.markdown
    for words in ("# Report", "**Claim.** 0.001 learns more", "4 runs of tiny",
                  "| before training |", "## Differences", "Only losses were",
                  "2 of 3 seeds: differences are not settled", "data:image/png;base64",
                  runs[0].id, "torch="):
        assert words in text, words
    assert text.count("- made with") == 1
    page = report.save(tmp_path / "report.html").read_text("utf-8")
    assert page.count("<table>") == 1 and '<img src="data:image/png;base64,' in page
    assert report.save(tmp_path / "report.md").read_text("utf-8") == text
    assert "## What is open" in repr(report)


def test_text_from_data_is_escaped(runs):
    report = ft.run_report(runs[0], title="<script>alert(1)</script>", claim="a | b <img src=x>")
    assert "<script>" not in report.html and "<img src=x" not in report.html
    assert "One configuration only" in report.markdown
    assert re.search(r"a \\\| b", report.markdown)


def test_a_report_of_nothing_or_into_another_kind_of_file_is_refused(runs, tmp_path):
    with pytest.raises(UserError, match="runs is empty; expected a Run, several, or ids"):
        ft.run_report([])
    with pytest.raises(UserError, match="expected a name that ends in .html or .md"):
        ft.run_report(runs).save(tmp_path / "report.pdf")
    with pytest.raises(UserError, match="names no run"):
        ft.run_report("no such run")
