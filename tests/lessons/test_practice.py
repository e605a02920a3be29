"""The scripts of lessons and of their reference pages are built and take two steps, on the embedded
model. All run in one process that cannot reach the hub; practice.py says what is replaced."""

import json
import subprocess
import sys

import lesson_files
import practice
import pytest
from helpers import ROOT, others_later

LESSONS = [lesson_files.number_of(source) for source in lesson_files.SOURCES
           if lesson_files.script_of(source)]

OF_THE_HUB = 'from transformers import AutoConfig\nAutoConfig.from_pretrained("gpt2")\n'


@pytest.fixture(scope="module")
def results(request, tmp_path_factory):
    """Number of a lesson, or a file -> what practice.py says of its block."""
    bad = tmp_path_factory.mktemp("blocks") / "bad.py"
    bad.write_text(OF_THE_HUB, "utf-8")
    of_lessons = test_the_configuration_of_a_lesson_is_built_and_trains
    asked = [item.callspec.params["lesson"] for item in request.session.items
             if getattr(item, "function", None) is of_lessons]
    names = [str(bad), *asked]
    done = subprocess.run([sys.executable, practice.__file__, *names], cwd=ROOT, text=True,
                          capture_output=True, timeout=500)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {row["block"]: row for row in rows}
    assert len(found) == len(names), done.stderr[-2000:]
    return found | {"bad": found[str(bad)]}


@pytest.mark.parametrize("lesson", others_later(LESSONS, now=("02", "05", "20a")))
def test_the_configuration_of_a_lesson_is_built_and_trains(results, lesson):
    assert results[lesson]["error"] is None, results[lesson]["error"]


def test_a_block_that_fails_is_found(results):
    assert "offline mode" in results["bad"]["error"]
