"""The learner's copy of the lessons: complete, up to date, and never overwritten."""

import errno
import json
import shutil
import subprocess

import pytest
from helpers import ROOT

from ftkit.base import machine
from ftkit.cli import jupyterlab, old_imports

pytestmark = pytest.mark.quick


@pytest.fixture
def lessons(tmp_path, monkeypatch):
    """A package with two lessons."""
    shipped = tmp_path / "package"
    shipped.mkdir()
    for name in ("00_start.ipynb", "01_next.ipynb"):
        (shipped / name).write_text(f'{{"lesson": "{name}"}}')
    (shipped / "build.py").write_text("not for learners")
    monkeypatch.setattr(machine, "share", lambda name: shipped)
    return shipped


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "mine" / "lessons"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_first_copy_has_every_lesson_and_nothing_else(lessons, folder):
    where, told = jupyterlab.copy_lessons(folder)
    assert where == folder and told["new"] == ["00_start.ipynb", "01_next.ipynb"]
    assert names(folder) == [jupyterlab.HASHES, "00_start.ipynb", "01_next.ipynb"]


def test_figures_are_copied_with_the_lessons_and_only_lessons_are_counted(lessons, folder):
    (lessons / "figures").mkdir()
    (lessons / "figures" / "00_idea.svg").write_text("<svg/>")
    (lessons / "reference").mkdir()
    (lessons / "reference" / "00_x.md").write_text("# usual values")
    where, told = jupyterlab.copy_lessons(folder)
    assert (folder / "figures" / "00_idea.svg").read_text() == "<svg/>"
    assert (folder / "reference" / "00_x.md").read_text() == "# usual values"
    assert "(2 new)" in jupyterlab.report(where, told)
    _, told = jupyterlab.copy_lessons(folder)
    assert len(told["same"]) == 4 and not told["new"] + told["updated"] + told["kept"]


def test_a_second_call_changes_nothing(lessons, folder):
    jupyterlab.copy_lessons(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    _, told = jupyterlab.copy_lessons(folder)
    assert len(told["same"]) == 2 and not told["new"] + told["updated"] + told["kept"]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_changed_lesson_is_kept_and_reported(lessons, folder):
    jupyterlab.copy_lessons(folder)
    (folder / "00_start.ipynb").write_text("my answers")
    for version in ("two", "three"):
        (lessons / "00_start.ipynb").write_text(version)
        where, told = jupyterlab.copy_lessons(folder)
        assert (folder / "00_start.ipynb").read_text() == "my answers"
        assert told["kept"] == ["00_start.ipynb"]
    report = jupyterlab.report(where, told)
    assert "00_start.ipynb" in report and "--fresh" in report


def test_an_untouched_lesson_is_brought_up_to_date(lessons, folder):
    jupyterlab.copy_lessons(folder)
    (lessons / "01_next.ipynb").write_text("a better lesson")
    _, told = jupyterlab.copy_lessons(folder)
    assert told["updated"] == ["01_next.ipynb"]
    assert (folder / "01_next.ipynb").read_text() == "a better lesson"


def test_a_file_of_the_same_name_that_we_never_handed_out_is_kept(lessons, folder):
    folder.mkdir(parents=True)
    (folder / "00_start.ipynb").write_text("somebody else's")
    jupyterlab.copy_lessons(folder)
    assert (folder / "00_start.ipynb").read_text() == "somebody else's"


def test_a_damaged_list_of_hashes_loses_no_work(lessons, folder):
    jupyterlab.copy_lessons(folder)
    (folder / jupyterlab.HASHES).write_text("{ not json")
    (folder / "00_start.ipynb").write_text("my answers")
    jupyterlab.copy_lessons(folder)
    assert (folder / "00_start.ipynb").read_text() == "my answers"
    assert json.loads((folder / jupyterlab.HASHES).read_text())


def old_lesson(*cells):
    return json.dumps({"cells": [{"cell_type": "code", "source": cell} for cell in cells]})


def test_a_changed_lesson_that_uses_what_is_gone_gets_the_new_one_next_to_it(lessons, folder):
    jupyterlab.copy_lessons(folder)
    mine = old_lesson("from ftkit.lessons.run_pictures import line_plot", "mine = (", "%time 1")
    (folder / "00_start.ipynb").write_text(mine)
    (folder / "01_next.ipynb").write_text(old_lesson("import ftkit as ft\nft.setup()"))
    for version in ("second", "third"):
        (lessons / "00_start.ipynb").write_text(version)
        report = jupyterlab.report(*jupyterlab.copy_lessons(folder))
        assert (folder / "00_start.new.ipynb").read_text() == version
    assert "00_start.ipynb uses ftkit.lessons.run_pictures.line_plot, which" in report
    assert "next to it: 00_start.new.ipynb" in report and "01_next.ipynb uses" not in report
    assert (folder / "00_start.ipynb").read_text() == mine
    (folder / "00_start.new.ipynb").write_text("my answers")
    (lessons / "00_start.ipynb").write_text("fourth")
    jupyterlab.copy_lessons(folder)
    assert (folder / "00_start.new.ipynb").read_text() == "my answers"


@pytest.mark.parametrize(("code", "missing"), [
    ("from ftkit.teaching import direction\nfrom ftkit.by_hand import nf4\nnf4.quantize", []),
    ("from ftkit.lessons.by_hand import nf4\nnf4.quantize; nf4.gone",
     ["ftkit.lessons.by_hand.nf4.gone"]),
    ("import ftkit as ft\nft.setup(); ft.gone()", ["ftkit.gone"]),
    ("import ftkit.data.schema, ftkit.data.gone", ["ftkit.data.gone"]),
    ("from ftkit.teaching import gone", ["ftkit.teaching.gone"]),
    ("import numpy.gone\nx.gone", []),
])
def test_names_that_are_gone_are_found_without_running_the_notebook(tmp_path, code, missing):
    notebook = tmp_path / "lesson.ipynb"
    notebook.write_text(old_lesson("raise SystemExit", code))
    assert old_imports.missing_names(notebook) == missing


def test_lessons_of_the_second_edition_that_cannot_run_are_found(tmp_path):
    second = subprocess.run(["git", "show", "a9d2f4c:notebooks/10_quantization_and_qlora.ipynb"],
                            cwd=ROOT, capture_output=True, text=True)
    if second.returncode:
        pytest.skip("not a clone with the history of the second edition")
    (tmp_path / "10.ipynb").write_text(second.stdout)
    missing = old_imports.missing_names(tmp_path / "10.ipynb")
    assert "ftkit.lessons.run_pictures.line_plot" in missing


def test_fresh_makes_a_new_folder_beside_each_time(lessons, folder):
    jupyterlab.copy_lessons(folder)
    (folder / "00_start.ipynb").write_text("my answers")
    made = [jupyterlab.copy_lessons(folder, fresh=True)[0].name for _ in range(2)]
    assert made == ["lessons-2", "lessons-3"]
    assert (folder.parent / "lessons-3" / "00_start.ipynb").read_text() != "my answers"


@pytest.mark.parametrize("existed", [True, False])
def test_a_full_disk_leaves_everything_as_it_was(lessons, folder, monkeypatch, existed):
    if existed:
        jupyterlab.copy_lessons(folder)
        (lessons / "00_start.ipynb").write_text("new one")
        (lessons / "01_next.ipynb").write_text("new two")
    before = {path.name: path.read_text() for path in folder.iterdir()} if existed else None
    copy, copied = shutil.copyfile, []

    def fills_up(source, target):
        if copied:
            raise OSError(errno.ENOSPC, "No space left on device")
        copied.append(copy(source, target))

    monkeypatch.setattr(shutil, "copyfile", fills_up)
    with pytest.raises(ValueError, match="the disk is full. Nothing of yours was changed"):
        jupyterlab.copy_lessons(folder)
    if existed:
        assert {path.name: path.read_text() for path in folder.iterdir()} == before
    else:
        assert not folder.exists() and not folder.parent.exists()


def test_a_file_in_place_of_the_folder_is_reported(lessons, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        jupyterlab.copy_lessons(tmp_path / "taken")


def test_the_lessons_of_the_clone_are_nobodys_copy(lessons):
    with pytest.raises(ValueError, match="the original lessons"):
        jupyterlab.copy_lessons(lessons)


def test_a_package_without_lessons_says_what_to_do(lessons, folder):
    for lesson in lessons.glob("*.ipynb"):
        lesson.unlink()
    with pytest.raises(ValueError, match="make notebooks"):
        jupyterlab.copy_lessons(folder)
    assert not folder.exists()


def test_a_port_that_is_taken_is_reported_before_anything_starts(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} is in use"):
            jupyterlab.serve(tmp_path, browser=False, port=port)
