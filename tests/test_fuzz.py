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


def test_the_fuzzer_sees_a_crash_a_hang_and_a_file(monkeypatch):
    """Otherwise its silence would mean nothing."""
    monkeypatch.setattr(fuzz, "LIMIT", 1)

    def broken(folder):
        calls = []

        def read(raw):
            calls.append(raw)
            if len(calls) == 1:
                raise KeyError("x")
            if len(calls) == 2:
                while True:
                    pass
            if len(calls) == 3:
                raise ValueError("")
            open("left-behind", "w").close()

        return [b"seed"], read

    said = [what for _, what in fuzz.fuzz(broken, 4)]
    assert [w.split()[0] for w in said] == ["KeyError:", "TimeoutError:", "an", "files"]
