"""What was appended is on the disk, and a line that a crash cut off swallows no other."""

import os

import pytest

from ftkit.base import append_log

pytestmark = pytest.mark.quick


def test_a_line_is_on_the_disk_before_append_returns(tmp_path, monkeypatch):
    path, synced = tmp_path / "log", []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    append_log.append(path, "one\n")
    append_log.append(path, "three\n")
    assert synced == [4, 10]


def test_a_line_after_one_that_was_cut_off_stands_alone(tmp_path):
    path = tmp_path / "log"
    path.write_text("one\ncut o")
    append_log.append(path, "two\n")
    assert path.read_text() == "one\ncut o\ntwo\n"
