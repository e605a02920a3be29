"""The predicted peak of a rank against real ranks: processes of this machine that meet over gloo
and run the exported script's own code."""

import json

import allocator_of_ranks
import pytest

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.distributed import launch
from ftkit.memory_use.footprint import memory


def exported(folder, ranks, **fields):
    """A run whose steps all have rows of the same length, and the tokens of a row."""
    record = max(ft.records("tasks")[:40], key=lambda r: len(str(r)))
    lab = ft.Experiment(data=[record] * 40, val="tasks", eval_records=2)
    config = ft.Config(batch_size=2 * ranks, max_steps=5, eval_steps=5, **fields)
    folder = launch.export(lab, config, folder, ranks)
    first = json.loads(next((folder / "data" / "train.jsonl").open()))
    return folder, config, len(first["input_ids"])


def predicted(config, ranks, stage, tokens) -> int:
    return memory(config, "tiny", gpus=ranks, zero=stage, trainer="torchrun", device="cpu",
                  lengths=[tokens] * 2).peak


@pytest.mark.slow
@pytest.mark.parametrize("ranks, fields", [
    (2, {"precision": "fp32"}), (4, {"precision": "bf16"}),
    (2, {"precision": "bf16", "method": "lora"})])
def test_the_predicted_peak_is_that_of_real_ranks(tmp_path, ranks, fields):
    folder, config, tokens = exported(tmp_path / "run", ranks, **fields)
    least: dict = {}
    wanted = {stage: predicted(config, ranks, stage, tokens) for stage in (0, 1, 2, 3)}
    missed = list(wanted)
    for _ in range(4):
        for stage, peaks in allocator_of_ranks.peaks(folder, ranks, missed).items():
            least[stage] = min([*peaks, least.get(stage, 2**62)])
        # On a busy machine a rank that waits for another one keeps buffers of gloo for longer, by
        # chance, and shows a higher peak; none shows a lower one. So the least of some tries, with
        # more room above; on a quiet machine the largest difference was 0.9 % (MEMORY.md).
        missed = [n for n in missed if not 0.95 <= least[n] / wanted[n] <= 1.15]
        if not missed:
            return
    raise AssertionError((least, wanted))


@pytest.mark.parametrize("asked, words", [
    ({"gpus": 1}, "gpus of 2 or more"), ({"gpus": 2, "offload": True}, "leave offload"),
    ({"gpus": 2, "method": "qlora"}, "method qlora"), ({"gpus": 2, "objective": "dpo"}, "leave"),
    ({"gpus": 2, "precision": "fp16"}, "precision fp16")])
def test_what_the_script_does_not_do_is_not_predicted(asked, words):
    with pytest.raises(UserError, match=words):
        memory(model="tiny", trainer="torchrun", **asked)
