"""What the meter counts besides the results of operations, against torch's own record."""

import json

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from ftkit.memory_use.meter import Meter


def recorded(work, file) -> int:
    """The most bytes that `work` holds at once, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    found.export_chrome_trace(str(file))
    events = [e for e in json.loads(file.read_text("utf-8"))["traceEvents"]
              if e.get("name") == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the allocator of the CPU")
@pytest.mark.parametrize("work", [
    lambda wide, low: wide.add_(low), lambda wide, low: wide + low, lambda wide, low: low * wide,
    lambda wide, low: low.mul_(wide), lambda wide, low: low + low, lambda wide, low: wide * 2,
    lambda wide, low: torch.linalg.vector_norm(low, dtype=torch.float32)],
    ids=["in place", "sum", "product", "in place, narrow", "same", "number", "norm"])
def test_two_dtypes_take_a_copy_of_the_narrow_operand(work, tmp_path):
    tensors = torch.ones(300, 500), torch.ones(300, 500, dtype=torch.bfloat16)
    meter = Meter()
    for tensor in tensors:
        meter.hold(tensor, "other")
    meter.reset()
    before = meter.total
    with meter:
        work(*tensors)
    assert meter.peak - before == pytest.approx(recorded(lambda: work(*tensors),
                                                         tmp_path / "trace.json"), abs=64)


def test_a_gpu_converts_as_it_reads():
    wide, low = torch.ones(256), torch.ones(256, dtype=torch.bfloat16)
    peaks = {}
    for block in (1, 512):
        meter = Meter(round_to=block)
        with meter:
            wide.add_(low)
        peaks[block] = meter.peak
    assert peaks == {1: 1024 + 1024, 512: 1024}
