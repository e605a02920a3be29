"""Real processes: what a rank holds and sends, one curve for all, and ends that are told."""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import ftkit as ft
from ftkit.distributed import launch
from ftkit.engine import loop

CONFIG = ft.Config(batch_size=5, max_steps=2, precision="fp32", eval_steps=2)  # 3 rows and 2
N = 2_361_024  # parameters of tiny


@pytest.fixture(scope="module")
def lab():
    return ft.Experiment(data=ft.records("tasks")[:20], val="tasks", eval_records=4)


@pytest.fixture(scope="module")
def alone(lab):
    return lab.run(CONFIG, live=False)


@pytest.fixture(scope="module")
def two(lab):
    return launch.train(lab, CONFIG, ranks=2, zero=(0, 1, 2, 3))


# The ZeRO paper's formula for two ranks and fp32, written out: bytes per parameter.
HELD = {0: (4, 4, 8), 1: (4, 4, 4), 2: (4, 2, 4), 3: (2, 2, 4)}


@pytest.mark.parametrize("stage", HELD)
def test_each_rank_holds_what_the_formula_says_within_two_percent(two, stage):
    assert len(two[stage].bytes) == 2
    for held in two[stage].bytes:
        parts = [held[part] / N for part in ("parameters", "gradients", "optimizer")]
        assert parts == pytest.approx(HELD[stage], rel=0.02)


@pytest.mark.parametrize("stage", HELD)
def test_the_curve_is_that_of_one_process(two, alone, stage):
    assert two[stage].losses == pytest.approx([row["loss"] for row in alone.rows], abs=1e-5)
    assert two[stage].run.after == pytest.approx(alone.after, abs=1e-4)
    assert [row["grad_norm"] for row in two[stage].run.rows] == pytest.approx(
        [row["grad_norm"] for row in alone.rows], rel=1e-4)


# ZeroRedundancyOptimizer sums all gradients on every rank (2) and hands the weights round (1).
@pytest.mark.parametrize("stage, times", [(0, 2), (1, 3), (2, 2), (3, 3)])
def test_traffic_is_two_or_three_times_the_parameters(two, stage, times):
    for sent in two[stage].sent:
        assert sent / (4 * N) == pytest.approx(times, rel=0.01)


def test_in_bf16_parameters_are_gathered_in_2_bytes_and_gradients_summed_in_4(lab, alone):
    mixed = launch.train(lab, CONFIG, ranks=2, zero=(2, 3), precision="bf16")
    assert mixed[2].sent[0] / N == pytest.approx(2 + 4, rel=0.01)
    assert mixed[3].sent[0] / N == pytest.approx(2 + 2 + 4, rel=0.01)
    for stage, parameters in ((2, 2), (3, 4 / 2)):  # whole in bf16; half of them in fp32
        held = mixed[stage].bytes[0]
        parts = [held[part] / N for part in ("parameters", "gradients", "optimizer")]
        assert parts == pytest.approx([parameters, 2, 4], rel=0.02)
        assert mixed[stage].formula_moved() == pytest.approx(mixed[stage].sent[0], rel=0.01)
        assert mixed[stage].losses == pytest.approx([row["loss"] for row in alone.rows], rel=0.1)


def test_a_run_on_ranks_draws_measured_beside_formula(two):
    assert "formula" in repr(two[2]) and "<table>" in two[2]._repr_html_()
    assert "FSDP2" in two[3].engine and "ZeroRedundancyOptimizer" in two[1].engine


# --------------------------------------------------------------------------------- exported


def torchrun(folder, n, *words, stage=3, rank=0):
    """The exported folder under torchrun, with nothing of ftkit to be found."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n),
         str(folder / "train.py"), *words], capture_output=True, text=True, cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "result" / f"zero{stage}-rank{rank}.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def exported(lab, tmp_path_factory):
    return launch.export(lab, CONFIG, tmp_path_factory.mktemp("exported") / "run")


@pytest.mark.slow
def test_the_exported_script_gives_the_curve_of_the_notebook_under_torchrun(exported, alone):
    told = torchrun(exported, 4)
    assert told["ranks"] == 4 and "FSDP2" in told["engine"]
    assert told["bytes"]["optimizer"] / N == pytest.approx(8 / 4, rel=0.02)
    assert [row["loss"] for row in told["rows"]] == pytest.approx(
        [row["loss"] for row in alone.rows], abs=1e-3)


@pytest.mark.skipif(not find_spec("deepspeed"), reason="the extra `deepspeed` is not installed")
@pytest.mark.parametrize("n, stage", [(1, 2), (2, 2), (4, 2), (2, 1), (2, 3)])
def test_deepspeed_gives_the_same_curve(exported, alone, n, stage):
    told = torchrun(exported, n, "--zero", str(stage), "--engine", "deepspeed", stage=stage)
    assert told["ranks"] == n and "DeepSpeed" in told["engine"]
    assert [row["loss"] for row in told["rows"]] == pytest.approx(
        [row["loss"] for row in alone.rows], abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs accelerate starts real ranks")
def test_accelerate_without_a_configuration_is_refused_instead_of_training_alone(exported):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2",
         str(exported / "train.py")], capture_output=True, text=True, timeout=120)
    assert done.returncode and "Start train.py with `torchrun" in done.stderr


def test_the_configuration_of_accelerate_is_read_by_accelerate(exported):
    config_args = pytest.importorskip("accelerate.commands.config.config_args")
    read = config_args.load_config_from_file(str(exported / "accelerate.yaml"))
    assert read.distributed_type.value == "MULTI_GPU" and read.num_processes == 2


def test_the_exported_script_needs_nothing_of_ours():
    code = launch.SCRIPT.read_text("utf-8")
    assert "import ftkit" not in code and "from ftkit" not in code


def test_lora_with_accumulation_on_more_ranks_than_rows_under_torchrun_and_saved(lab, tmp_path):
    config = CONFIG.but(method="lora", batch_size=1, gradient_accumulation_steps=3, max_steps=2,
                        gradient_checkpointing=True)
    alone = lab.run(config, live=False)
    folder = launch.export(lab, config, tmp_path / "run", ranks=2)
    told = torchrun(folder, 2, "--save", rank=1)
    assert told["ranks"] == 2 and "FSDP2" in told["engine"]
    assert [row["loss"] for row in told["rows"]] == pytest.approx(
        [row["loss"] for row in alone.rows], abs=1e-5)

    import peft

    base, _ = ft.load("tiny")
    tuned = peft.PeftModel.from_pretrained(base, folder / "result" / "model-zero3")
    wanted = dict(alone.model.named_parameters())
    for name, p in tuned.named_parameters():
        assert (p - wanted[name]).norm() <= 1e-3 * wanted[name].norm(), name


def test_the_plan_is_that_of_the_loop(lab, tmp_path):
    config = CONFIG.but(batch_size=2, gradient_accumulation_steps=2, packing=True, max_length=96)
    folder = launch.export(lab, config, tmp_path / "run")
    units = lab.encode(ft.load("tiny")[1], config).units
    rows = [json.loads(line) for line in (folder / "data" / "train.jsonl").open()]
    plan = [json.loads(line) for line in (folder / "steps.jsonl").open()]
    order = loop.shuffled(len(units), 2, config.seed)
    for step in plan:
        for batch in step["batches"]:
            wanted = [example for unit in next(order) for example in units[unit]]
            assert [rows[i]["input_ids"] for i in batch] == [e["input_ids"] for e in wanted]


def test_no_folder_is_overwritten_and_no_config_half_followed(lab, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        launch.export(lab, CONFIG, tmp_path)
    for changes, words in (({"method": "qlora"}, "method is qlora"),
                           ({"precision": "fp16"}, "precision is fp16"),
                           ({"neftune_noise_alpha": 5}, "neftune_noise_alpha is 5.0"),
                           ({"optim": "muon"}, "optim is 'muon'"),
                           ({"loraplus_lr_ratio": 4, "method": "lora"}, "loraplus_lr_ratio is 4"),
                           ({"early_stopping_patience": 2}, "early_stopping_patience is 2")):
        with pytest.raises(ValueError, match=words):
            launch.export(lab, CONFIG, tmp_path / "new", **changes)


# -------------------------------------------------------------------------- the command line


def test_the_command_line_writes_the_folder_and_says_how_to_start_it(ftkit, tmp_path):
    folder = tmp_path / "run"
    status, out, _ = ftkit("run", "--max-steps", 2, "--torchrun", folder, "--ranks", 4, "--json")
    assert status == 0 and json.loads(out)["start"].endswith(f"node 4 {folder / 'train.py'}")
    assert json.loads((folder / "settings.json").read_text("utf-8"))["ranks"] == 4


@pytest.mark.parametrize("words, told", [
    (["--zero", 2], "--zero is 2, but the number"), (["--ranks", 0], "--ranks is '0'"),
    (["--ranks", 2, "--zero", 4], "--zero is '4'"), (["--ranks", 2, "--out", "x"], "--out cannot"),
    (["--ranks", 2, "--method", "qlora"], "method is qlora; expected full")])
def test_the_command_line_refuses_in_one_sentence(ftkit, words, told):
    status, out, error = ftkit("run", *words)
    assert status == 2 and not out and told in error and len(error.splitlines()) == 1


def test_a_run_on_ranks_from_the_command_line_is_one_json_object(ftkit, two, monkeypatch):
    def train(lab, config, ranks, zero):
        assert config.max_steps == 1 and ranks == 2
        return two[zero]

    monkeypatch.setattr(launch, "train", train)  # has been started above
    status, out, _ = ftkit("run", "--max-steps", 1, "--ranks", 2, "--zero", 0, "--json",
                           "--precision", "fp32", "--probe", "none")
    told = json.loads(out)
    assert status == 0 and told["zero"] == 0 and len(told["history"]) == 2
    assert told["bytes_per_rank"][0] == pytest.approx(told["formula_bytes"], rel=0.02)


# ----------------------------------------------------------------------------------- refused


@pytest.mark.parametrize("environment, words", [
    ({}, "Start train.py with `torchrun"),
    ({"RANK": "0", "WORLD_SIZE": "1"}, "2 ranks were requested, but 1 were started"),
])
def test_the_script_refuses_to_run_as_independent_copies(tmp_path, environment, words, monkeypatch,
                                                         capsys):
    (tmp_path / "settings.json").write_text("{}")
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["train.py", "--folder", str(tmp_path), "--ranks", "2"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(launch.SCRIPT), run_name="__main__")
    assert ended.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("asked, words", [
    ({"ranks": 0}, "ranks is 0"), ({"zero": 4}, "zero is"), ({"engine": "x"}, "engine is 'x'"),
    ({"port": 10**6}, "port is 1000000")])
def test_what_cannot_be_asked_is_told(lab, asked, words):
    with pytest.raises(ValueError, match=words):
        launch.train(lab, CONFIG, **asked)


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} is in use"):
            launch.start(tmp_path, 2, port=port, script=tmp_path / "never.py")


# ------------------------------------------------------------------------------ bad endings


def script(folder: Path, body: str) -> Path:
    """A rank without torch: it leaves its process id, then does as `body` says."""
    path = folder / "rank.py"
    path.write_text("import os, signal, sys, time\nrank = int(os.environ['RANK'])\n"
                    f"open(r'{folder}/' + str(rank) + '.pid', 'w').write(str(os.getpid()))\n"
                    + body)
    return path


def gone(folder: Path, n: int, within: float = 10) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        pids = [int(path.read_text() or 0) for path in folder.glob("*.pid")]
        if len(pids) == n and not any(_runs(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    except FileNotFoundError:
        return False


WAIT = """
while len([f for f in os.listdir(os.path.dirname(__file__)) if f.endswith('.pid')]) < 3:
    time.sleep(0.05)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how, words", [
    ("os.kill(os.getpid(), signal.SIGKILL)", "rank 1 of 3 was killed by SIGKILL, by a user or"),
    ("raise RuntimeError('no more paper')", "rank 1 of 3 ended with status 1: RuntimeError: no mo"),
    ("sys.exit('train.py: nothing')", "rank 1 of 3 ended with status 1"),
])
def test_a_rank_that_dies_is_named_and_takes_the_others_with_it(tmp_path, how, words):
    path = script(tmp_path, f"{WAIT}\nif rank == 1: {how}\ntime.sleep(100)")
    with pytest.raises(launch.RankDied, match=words):
        launch.start(tmp_path, 3, script=path)
    assert gone(tmp_path, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ranks_that_hang_are_stopped_even_when_they_ignore_a_polite_request(tmp_path):
    path = script(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(100)")
    with pytest.raises(launch.RankDied, match="did not finish in 2 s"):
        launch.start(tmp_path, 2, script=path, timeout=2)
    assert gone(tmp_path, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killing_the_notebook_leaves_no_orphan(tmp_path):
    path = script(tmp_path, "time.sleep(100)")
    code = ("from ftkit.distributed import launch; "
            f"launch.start({str(tmp_path)!r}, 2, script={str(path)!r})")
    kernel = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 60
    while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    assert gone(tmp_path, 2)


def test_ranks_whose_states_have_no_room_are_not_started(lab, monkeypatch):
    monkeypatch.setattr(launch, "start", lambda *args, **options: pytest.fail("was started"))
    monkeypatch.setattr(launch.free_memory, "available", lambda: 0.9e9)
    # four times 0.2 GB of libraries, and 16 bytes of each parameter
    with pytest.raises(ValueError, match="need at least 951.1 MB, but 900.0 MB are"):
        launch.train(lab, CONFIG, ranks=4, zero=0)
    with pytest.raises(KeyError, match="started"):  # shared, they have
        monkeypatch.setattr(launch, "start", lambda *args, **options: {}["started"])
        launch.train(lab, CONFIG, ranks=4, zero=3)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_rank_killed_while_another_waits_for_it_is_the_one_that_is_named(tmp_path):
    path = script(tmp_path, f"""
sys.path.insert(0, {str(launch.SCRIPT.parent)!r})
import torch, train_script
train_script.join(2, "torch")
for step in range(3):  # what a step of training does with another rank
    if rank == 1 and step == 2: os.kill(os.getpid(), signal.SIGKILL)
    train_script.dist.all_reduce(torch.ones(9))
""")
    with pytest.raises(launch.RankDied, match="rank 1 of 2 was killed by SIGKILL"):
        launch.start(tmp_path, 2, script=path)
    assert gone(tmp_path, 2)
