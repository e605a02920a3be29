"""ftkit/README.md names files and rooms that exist."""

import re

from helpers import ROOT

PACKAGE = ROOT / "ftkit"
TEXT = (PACKAGE / "README.md").read_text("utf-8")


def test_every_file_that_the_reading_path_names_exists():
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 30
    assert [link for link in links if not (PACKAGE / link).exists()] == []


def test_every_room_is_in_its_table():
    rooms = {path.name for path in PACKAGE.iterdir()
             if (path / "__init__.py").exists()}
    assert set(re.findall(r"^\| \[(\w+)/\]", TEXT, re.M)) == rooms
