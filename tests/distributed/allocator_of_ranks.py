"""What each of several real ranks allocates in a step, as torch's CPU allocator sees it: every
allocation, whoever made it, recorded by torch.profiler. Independent of the prediction.

    peaks(folder, 2, (0, 1, 2, 3))     folder: as `launch.export` writes it

The ranks are children of this process, which has all imports done; they meet over gloo and run
`train_script.train`.
"""

from __future__ import annotations

import bisect
import gc
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from ftkit.base import ports
from ftkit.distributed import launch

sys.path.insert(0, str(launch.SCRIPT.parent))
import train_script  # noqa: E402


def peaks(folder: Path, ranks: int, stages=(0, 1, 2, 3)) -> dict[int, list[int]]:
    """Stage → for each rank, the bytes at the peak of one of its steps: the lowest from the third
    on, since a thread of gloo sometimes holds a buffer for longer than the collective needs it."""
    settings = json.loads((folder / "settings.json").read_text("utf-8"))
    context = multiprocessing.get_context("fork")
    found, port = context.Queue(), ports.free_port()
    started = [context.Process(target=_rank, args=(found, folder, settings, rank, ranks, port,
                                                   stages), daemon=True) for rank in range(ranks)]
    for process in started:
        process.start()
    told = dict(found.get(timeout=1500) for _ in started)
    for process in started:
        process.join(60)
    return {stage: [told[rank][stage] for rank in range(ranks)] for stage in stages}


def _rank(found, folder, settings, rank, ranks, port, stages):
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks,
             "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    device, told = train_script.join(ranks, "torch"), {}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        for stage in stages:
            gc.collect()
            with record_function(f"stage {stage}"):
                told[stage] = train_script.train(folder, settings, stage, "torch", device, folder,
                                                 save=False)["bytes"]
    torch.distributed.destroy_process_group()
    events = _events(recorded)
    found.put((rank, {stage: _peak(events, stage, told[stage]) for stage in stages}))


def _events(recorded) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(file))
        return json.loads(file.read_text("utf-8"))["traceEvents"]


def _peak(events, stage, held) -> int:
    """The peak of a stage, without what earlier ones left; held: bytes that its tensors have."""
    whole = next(e for e in events if e.get("name") == f"stage {stage}" and "dur" in e)
    ends = sorted(e["ts"] + e["dur"] for e in events
                  if "dur" in e and whole["ts"] < e["ts"] < whole["ts"] + whole["dur"]
                  and e.get("name", "").startswith("Optimizer.step#AdamW"))
    totals = sorted((e["ts"], e["args"]["Total Allocated"]) for e in events
                    if e.get("name") == "[memory]" and e["args"].get("Device Type") == 0)

    def place(time):
        return bisect.bisect_right(totals, (time, 2**62))

    before = totals[place(whole["ts"]) - 1][1] if place(whole["ts"]) else 0
    rest = totals[place(ends[1]) - 1][1] - before  # gradients are not dropped yet
    found = min(max(total for _, total in totals[place(one) : place(two)])
                for one, two in itertools.pairwise(ends[1:])) - before
    missing = sum(held.values()) - rest
    if stage < 2 and missing > held["parameters"] / 2:
        found += missing  # weights that a thread of its own has read, which is not recorded
    return found
