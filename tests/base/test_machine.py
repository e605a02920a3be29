"""The machine says where files are and what it chose, each with its reason."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from ftkit.base import free_memory, machine
from ftkit.memory_use import footprint
from ftkit.model import download, loading


def test_without_ftkit_home_it_is_in_the_home_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv("FTKIT_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.home() == tmp_path / ".ftkit"


def test_setup_with_the_same_seed_gives_the_same_random_numbers():
    drawn = []
    for _ in range(2):
        machine.setup(seed=3)
        drawn.append((random.random(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]
    machine.setup(seed=4)
    assert torch.rand(1).item() != drawn[0][1]
    with pytest.raises(ValueError, match="seed is '3'; expected a whole number"):
        machine.setup(seed="3")


def test_setup_gives_a_reason_for_each_choice():
    found = machine.setup()
    assert [what for what, *_ in found.lines] == [
        "device", "precision", "threads", "tier", "memory", "seed"]
    assert all(value and reason for _, value, reason in found.lines)
    assert "\n" not in repr(found) and repr(found).startswith("Machine(device ")


def test_a_machine_draws_itself_with_markup_escaped():
    drawn = machine.Machine((("device", "<b>", "a & b"),))._repr_html_()
    assert "&lt;b&gt;" in drawn and "a &amp; b" in drawn


@pytest.mark.parametrize("flags, tiny, large", [
    ("avx512_bf16 amx_bf16", "fp32", "bf16"), ("avx512_bf16", "bf16", "bf16"),
    ("avx2", "fp32", "fp32")])
def test_the_default_precision_follows_the_processor_and_the_size_of_the_model(
        kernel_says, flags, tiny, large):
    kernel_says({"/proc/cpuinfo": f"flags : fpu {flags}\n"})
    machine.bf16_is_fast.cache_clear()
    try:
        assert machine.fast_precision(2.4e6) == tiny and machine.fast_precision(1.35e8) == large
        shown = {setting: value for setting, value, _ in machine.setup().lines}["precision"]
        assert shown == (large if tiny == large else "bf16, fp32 for tiny")
        for model, precision in (("tiny", tiny), ("smollm2", large), (7e9, large)):
            found = footprint.memory(model=model, device="cpu", batch_size=1)
            assert found.config.precision == precision
    finally:
        machine.bf16_is_fast.cache_clear()


def test_a_torch_without_cuda_is_not_asked_for_a_gpu():
    code = ("import sys; from ftkit.base import machine; machine.device(); machine.bf16_is_fast(); "
            "print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    driver = sys.platform != "linux" or any(
        Path("/dev", name).exists() for name in ("nvidiactl", "dxg", "nvmap", "kfd"))
    assert done.stdout.split() == [str("+cpu" not in torch.__version__ and driver
                                       and sys.platform != "darwin")]


def test_the_tier_can_be_chosen_and_a_wrong_one_is_reported(monkeypatch):
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
    assert free_memory.available() == pytest.approx(available, rel=0.1)


@pytest.mark.parametrize("given, kept", [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "active"),
                                         ({"GOMP_SPINCOUNT": "9"}, "None")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given, kept):
    code = ("import os; from ftkit.base import machine; machine.prepare_for_torch(); "
            "print(os.environ.get('OMP_WAIT_POLICY'))")
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=env | given)
    assert done.stdout.split() == [kept]


def test_a_model_that_was_not_fetched_is_reported_with_how_to_get_it(home, capsys, monkeypatch):
    assert download.has("smollm2") is False
    assert "`ftkit fetch smollm2`" in capsys.readouterr().out
    monkeypatch.setenv("FTKIT_REAL", "1")
    with pytest.raises(FileNotFoundError, match="FTKIT_REAL=1 .*`ftkit fetch smollm2`"):
        download.has("smollm2")
    monkeypatch.delenv("FTKIT_REAL")
    shutil.copytree(loading.tiny_path(), home / "models" / "smollm2")
    assert download.has("smollm2") is True and capsys.readouterr().out == ""
    monkeypatch.setenv("FTKIT_REAL", "0")
    assert download.has("smollm2") is False


@pytest.fixture
def kernel_says(tmp_path, monkeypatch):
    """`kernel_says({"/proc/self/cgroup": text})`: the kernel's files are these and no others."""
    def say(files):
        for name, text in files.items():
            file = tmp_path / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        monkeypatch.setattr("ftkit.base.files.SYSTEM", tmp_path)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=AVAILABLE))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    return say


AVAILABLE = 10_240_000 * 1024


def unlimited(monkeypatch, **limits):
    import resource

    found = {getattr(resource, name): most for name, most in limits.items()}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (
        found.get(kind, resource.RLIM_INFINITY), resource.RLIM_INFINITY))


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")
@pytest.mark.parametrize("files, left", [
    ({}, AVAILABLE),
    # version 2, the limit in this process's group; what is cached and idle counts as free
    ({"/proc/self/cgroup": "0::/user/job\n", "/sys/fs/cgroup/user/job/memory.max": "2000000\n",
      "/sys/fs/cgroup/user/job/memory.current": "1500000\n",
      "/sys/fs/cgroup/user/job/memory.stat": "anon 9\ninactive_file 300000\nactive_file 7\n"},
     800_000),
    # version 2 without a limit here, but one above, as a container sees it
    ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "700000\n",
      "/sys/fs/cgroup/memory.current": "100000\n"}, 600_000),
    ({"/proc/self/cgroup": "0::/job\n", "/sys/fs/cgroup/job/memory.max": "max\n",
      "/sys/fs/cgroup/job/memory.current": "5\n"}, AVAILABLE),
    # over its limit: nothing, not less than nothing
    ({"/proc/self/cgroup": "0::/job\n", "/sys/fs/cgroup/job/memory.max": "10\n",
      "/sys/fs/cgroup/job/memory.current": "90\n"}, 0),
])
def test_free_memory_knows_what_a_container_leaves(kernel_says, monkeypatch, files, left):
    unlimited(monkeypatch)
    kernel_says(files)
    assert free_memory.available() == left


def uses(monkeypatch, **sizes):
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(
        memory_info=lambda: SimpleNamespace(**sizes)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")
@pytest.mark.parametrize("limits, left", [
    ({"RLIMIT_AS": 3_000_000_000}, 3_000_000_000 - 2_000_000 * 1024),
    ({"RLIMIT_DATA": 900_000_000}, 900_000_000 - 500_000 * 1024),
    ({"RLIMIT_AS": 3_000_000_000, "RLIMIT_DATA": 600_000_000}, 600_000_000 - 500_000 * 1024),
    ({"RLIMIT_DATA": 1}, 0),
])
def test_free_memory_knows_what_ulimit_leaves(kernel_says, monkeypatch, limits, left):
    unlimited(monkeypatch, **limits)
    kernel_says({})
    uses(monkeypatch, vms=2_000_000 * 1024, data=500_000 * 1024)
    assert free_memory.available() == left


@pytest.mark.parametrize("free, given, kept", [
    (32 * 2**30, {}, "None"), (2**30, {}, "40"), (50 * 2**20, {}, "32"),
    (2**30, {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}, "7"),
])
def test_the_code_of_bf16_products_takes_a_tenth_of_scarce_memory(free, given, kept):
    code = ("import os; from ftkit.base import free_memory, machine; "
            f"free_memory._of_cpu = lambda: {free}; machine.prepare_for_torch(); "
            "print(os.environ.get('ONEDNN_PRIMITIVE_CACHE_CAPACITY'))")
    env = {k: v for k, v in os.environ.items() if "PRIMITIVE_CACHE" not in k}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=env | given)
    assert done.stdout.split() == [kept]


def test_free_memory_is_in_the_same_unit_wherever_it_is_shown(monkeypatch):
    from types import SimpleNamespace

    from ftkit.base import free_memory
    from ftkit.cli import doctor
    from ftkit.experiment import side_by_side

    monkeypatch.setattr(free_memory, "available", lambda: 3 * 2**30)
    shown = [dict((name, value) for name, value, _ in machine.setup().lines)["memory"],
             doctor._device(machine.describe())["found"],
             side_by_side._fitting_workers(SimpleNamespace(
                 total_parameters=1, predicted_memory_bytes=2**31), 2, True)[1]]
    assert all("3.22 GB" in text and "GiB" not in text for text in shown)
