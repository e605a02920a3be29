"""Every parser of outside input accepts or refuses in words; `make fuzz` tries 100,000 of each."""

import fuzz
import pytest


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", "/nowhere")  # put back after the fuzzer has set its own


@pytest.mark.parametrize("parser", fuzz.PARSERS, ids=lambda parser: parser.__name__)
def test_no_input_crashes_hangs_or_writes(parser):
    findings = fuzz.fuzz(parser, 1500, seed=1)
    assert not findings, findings[:3]
