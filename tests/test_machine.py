"""The machine says where files are and what it chose, each with its reason."""

import os
import random
import shutil
import subprocess
import sys

import pytest
import torch

from ftkit import machine


def test_home_is_not_created_by_asking_for_it(home):
    assert machine.home() == home and not home.exists()


def test_without_ftkit_home_it_is_in_the_home_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv("FTKIT_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.home() == tmp_path / ".ftkit"


def test_share_finds_the_sample_data_in_a_clone():
    assert (machine.share("data_samples") / "translation.train.jsonl").is_file()


def test_setup_with_the_same_seed_gives_the_same_random_numbers():
    drawn = []
    for _ in range(2):
        machine.setup(seed=3)
        drawn.append((random.random(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]
    machine.setup(seed=4)
    assert torch.rand(1).item() != drawn[0][1]


def test_setup_gives_a_reason_for_each_choice():
    found = machine.setup()
    assert [what for what, *_ in found.lines] == [
        "device", "precision", "threads", "tier", "memory", "seed"]
    assert all(value and reason for _, value, reason in found.lines)
    assert "\n" not in repr(found) and repr(found).startswith("Machine(device ")


def test_a_machine_draws_itself_with_markup_escaped():
    drawn = machine.Machine((("device", "<b>", "a & b"),))._repr_html_()
    assert "&lt;b&gt;" in drawn and "a &amp; b" in drawn


def test_the_tier_can_be_chosen_and_a_wrong_one_is_told(monkeypatch):
    monkeypatch.setenv("FTKIT_TIER", "smoke")
    assert machine.tier() == "smoke"
    monkeypatch.setenv("FTKIT_TIER", "tpu")
    with pytest.raises(ValueError, match="FTKIT_TIER is 'tpu'; expected one of smoke, cpu, gpu"):
        machine.tier()


def test_free_memory_is_what_the_system_says():
    if not shutil.which("free") or torch.cuda.is_available():
        pytest.skip("compared with Linux's `free`, for the memory of the CPU")
    told = subprocess.run(["free", "-b"], capture_output=True, text=True, check=True).stdout
    available = int(told.splitlines()[1].split()[-1])
    assert machine.free_memory() == pytest.approx(available, rel=0.1)


def test_a_description_names_what_a_result_depends_on():
    about = machine.describe()
    assert about["device"] in ("cpu", "cuda") and about["cores"] >= 1
    assert machine.versions()["torch"] == torch.__version__
    assert machine.versions()["ftkit"]


@pytest.mark.parametrize("given, kept", [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "active"),
                                         ({"GOMP_SPINCOUNT": "9"}, "None")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given, kept):
    code = ("import os; from ftkit import machine; machine.share_cores(); "
            "print(os.environ.get('OMP_WAIT_POLICY'))")
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=env | given)
    assert done.stdout.split() == [kept]


def test_asking_for_paths_loads_nothing_heavy():
    code = ("import sys; from ftkit import machine; machine.home(); machine.share('notebooks'); "
            "print('torch' in sys.modules, 'numpy' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_model_that_was_not_fetched_is_told_with_how_to_get_it(home, capsys, monkeypatch):
    assert machine.has("smollm2") is False
    assert "`ftkit fetch smollm2`" in capsys.readouterr().out
    monkeypatch.setenv("FTKIT_REAL", "1")
    with pytest.raises(FileNotFoundError, match="FTKIT_REAL=1 .*`ftkit fetch smollm2`"):
        machine.has("smollm2")
    monkeypatch.delenv("FTKIT_REAL")
    (home / "models" / "smollm2").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (home / "models" / "smollm2" / name).touch()
    assert machine.has("smollm2") is True and capsys.readouterr().out == ""
    monkeypatch.setenv("FTKIT_REAL", "0")
    assert machine.has("smollm2") is False
