"""What is installed is complete, works away from the clone, and is cheap to import."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from helpers import ROOT

HEAVY = {"transformers", "peft", "bitsandbytes", "matplotlib", "pandas", "ipywidgets", "IPython",
         "jupyterlab", "datasets"}


# --------------------------------------------------------------------------------- importing


def test_the_names_a_lesson_starts_with_load_no_heavy_module_but_torch():
    code = ("import sys, ftkit as ft; ft.setup; ft.records; ft.Config; ft.Experiment; ft.Run; "
            "ft.predict; ft.expect; ft.check; "
            "print(*sorted(name.partition('.')[0] for name in sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_every_public_name_exists_and_is_documented():
    import ftkit as ft

    assert len(ft.__all__) == len(set(ft.__all__)) <= 36
    for name in ft.__all__:
        assert getattr(ft, name).__doc__, name
    assert set(ft.__all__) <= set(dir(ft))


def test_a_name_that_does_not_exist_is_reported_with_those_that_do():
    import ftkit as ft

    with pytest.raises(AttributeError, match="has no attribute 'Konfig'; it has .*Config"):
        _ = ft.Konfig


def test_the_embedded_model_is_the_one_that_was_signed():
    tiny = ROOT / "ftkit" / "model" / "tiny"
    digest = hashlib.sha256((tiny / "model.safetensors").read_bytes()).hexdigest()
    assert (tiny / "SHA256").read_text().split()[0] == digest, (
        "a new model? (cd ftkit/model/tiny && sha256sum model.safetensors > SHA256)")
    assert (tiny / "model.safetensors").stat().st_size <= 15e6


# ------------------------------------------------------------------------------- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_model_data_and_lessons_and_nothing_else(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder, pattern in (("data_samples", "*.jsonl"), ("notebooks", "*.ipynb"),
                            ("data_samples/recorded", "*"),
                            ("notebooks/figures", "*.svg"), ("notebooks/reference", "*.md")):
        here = {f"ftkit/_share/{folder}/{path.name}" for path in (ROOT / folder).glob(pattern)}
        assert here <= inside, here - inside
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert f"ftkit/model/tiny/{name}" in inside
    assert "ftkit/_share/data_samples/README.md" in inside and "ftkit/cli/main.py" in inside
    strangers = {name for name in inside
                 if (not name.startswith("ftkit/") and ".dist-info/" not in name)
                 or "recipe" in name or "__pycache__" in name or "/src/" in name}
    assert not strangers
    assert wheel.stat().st_size < 40e6


def test_the_source_archive_builds_the_same_wheel(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path],
                   cwd=ROOT, capture_output=True, check=True)
    archive = next(tmp_path.glob("*.tar.gz"))
    subprocess.run(["tar", "xzf", archive, "-C", tmp_path], check=True)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
                   cwd=archive.with_name(archive.name.removesuffix(".tar.gz")),
                   capture_output=True, check=True)
    again = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert sorted(again) == sorted(zipfile.ZipFile(wheel).namelist())


# ------------------------------------------------------------------- away from the clone


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory, no_test_touches_the_home_of_the_user):
    """An environment with the wheel, an empty folder, and no clone in sight.

    What ftkit depends on is borrowed from the environment of the tests: a .pth file puts it on
    the path without what the clone's own installation does there.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target",
                    site, "--disable-pip-version-check", wheel], check=True)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    share = Path(sys.prefix) / "share" / "jupyter"
    env = os.environ | {"JUPYTERLAB_DIR": str(share / "lab"), "JUPYTER_PATH": str(share),
                        "FTKIT_HOME": str(folder / "home"), "PYTHONPATH": ""}
    env.pop("FTKIT_TINY", None)
    empty = folder / "empty"
    empty.mkdir()

    def call(*words, **options):
        options = {"cwd": empty, "env": env, "capture_output": True, "text": True} | options
        return subprocess.run([python, *map(str, words)], **options)

    call.folder, call.python, call.env = empty, python, env
    where = call("-c", "import ftkit; print(ftkit.__file__)").stdout.strip()
    assert where.startswith(str(site)), where
    return call


def test_the_installed_command_fine_tunes_with_no_clone_around(elsewhere):
    done = elsewhere("-m", "ftkit", "run", "--data", "translation", "--max-steps", "3",
                     "--json", timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["after"]["val_loss"] < found["before"]["val_loss"]
    assert not list(elsewhere.folder.iterdir())


def ask(address, path, token=None):
    header = {"Authorization": f"token {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(address + path, headers=header),
                                timeout=30) as answer:
        return answer.read().decode()


def test_lab_serves_the_lessons_behind_a_token_on_this_machine_only(elsewhere):
    server = subprocess.Popen(
        [elsewhere.python, "-m", "ftkit", "lab", "--no-browser"], cwd=elsewhere.folder,
        env=elsewhere.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while "Stop it" not in said:
            line = server.stdout.readline()
            assert line, said + server.stderr.read()
            said += line
        address, page, token = re.search(
            r"(http://127\.0\.0\.1:\d+)(/lab\S*)\?token=([0-9a-f]{32,})", said).groups()
        assert "started" in ask(address, "/api/status", token)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            ask(address, "/api/status")
        lessons = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
        served = json.loads(ask(address, "/api/contents", token))["content"]
        assert lessons and lessons <= {entry["name"] for entry in served}
        assert "<title>JupyterLab</title>" in ask(address, page, token)
        settings = ask(address, "/lab/api/settings/@jupyterlab/apputils-extension:notification",
                       token)
        assert '"fetchNews": {' in settings and '"default": "false"' in settings
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert server.returncode == 0


@pytest.mark.slow
def test_the_first_lesson_runs_where_it_was_copied(elsewhere):
    copied = elsewhere("-c", "from ftkit.cli import jupyterlab; "
                       "print(jupyterlab.copy_lessons('lessons')[0])")
    assert copied.returncode == 0, copied.stderr
    began = time.perf_counter()
    done = elsewhere(
        "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300",
        "-p", "no:python", "-p", "no:cacheprovider", *sorted(
            path.name for path in (elsewhere.folder / "lessons").glob("00*.ipynb")),
        cwd=elsewhere.folder / "lessons", timeout=900)
    assert done.returncode == 0, done.stdout
    print(f"lesson 00 took {time.perf_counter() - began:.0f} s")
