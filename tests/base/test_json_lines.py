"""The reader of ftkit's own JSON Lines files: damaged lines are skipped or raise, as asked."""

import pytest

from ftkit.base import json_lines

CONTENT = b'{"a": 1}\n\n  \r\n[2]\n{"b": "\xc3\xa9"}\r\n\xff\xfe\n' + b"[" * 100_000 + b'\n{"c": 3'


def test_blank_lines_do_not_count_and_damaged_ones_are_none_in_their_place():
    assert json_lines.parse(CONTENT) == [{"a": 1}, None, {"b": "é"}, None, None, None]
    assert json_lines.parse(b"") == []


def test_reading_skips_damaged_lines_or_raises(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(CONTENT)
    assert json_lines.read(path) == [{"a": 1}, {"b": "é"}]
    with pytest.raises(ValueError, match=r"log\.jsonl"):
        json_lines.read(path, damaged="raise")
    with pytest.raises(OSError):
        json_lines.read(tmp_path / "none.jsonl")
