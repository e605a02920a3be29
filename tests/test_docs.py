"""What is written for people: links lead somewhere, and the container starts what exists."""

import re
import shlex
import subprocess
import sys

import pytest
from helpers import ROOT

from ftkit.cli import options

pytestmark = pytest.mark.quick

PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("data_samples/**/*.md"),
                                 *ROOT.glob("playground/*.md"),
                                 *ROOT.glob("docs/**/*.md"), *ROOT.glob("ftkit/*.md"),
                                 *ROOT.glob("notebooks/**/*.md"), *ROOT.glob("tests/**/*.md"),
                                 *ROOT.glob("notebooks/src/*.py")]
               if ".venv" not in path.parts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_a_file(page):
    text = page.read_text("utf-8")
    folder = page.parent.parent if page.parent.name == "src" else page.parent
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:|playground\.html$", target):  # `ftkit lab` copies that page
            assert (folder / target).exists(), f"{page.name}: {target}"


def test_a_readme_names_every_room():
    rooms = re.findall(r"^\| \[(\w+)/\]", (ROOT / "ftkit/README.md").read_text("utf-8"), re.M)
    assert {path.name for path in (ROOT / "ftkit").iterdir() if path.is_dir()} - {
        "__pycache__", "_share"} == set(rooms)


def test_the_commands_that_the_readme_shows_exist():
    text = (ROOT / "README.md").read_text("utf-8")
    shown = re.findall(r"^\$ ftkit (.+?)(?:  +#.*)?$", text, re.M)
    assert shown
    for line in shown:
        options.parser().parse_args(shlex.split(line))


def test_the_container_starts_a_command_that_exists():
    command = re.search(r"^CMD (\[.+\])$", (ROOT / "Dockerfile").read_text(), re.M)
    program, *words = eval(command[1])
    assert program == "ftkit"
    args = options.parser().parse_args(words)
    assert args.command == "lab" and args.ip == "0.0.0.0" and args.no_browser


def test_spelling():
    done = subprocess.run([sys.executable, "-m", "codespell_lib", "--toml", "pyproject.toml",
                           "README.md", "CONTRIBUTING.md", "data_samples/README.md", "docs",
                           "notebooks/src", "ftkit", "tests"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
