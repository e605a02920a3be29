"""The traced peak of many architectures against the record of torch's allocator."""

import allocator
import architectures
import pytest
import torch

from ftkit.base.config import Config
from ftkit.memory_use import footprint


def cases():
    """Every twentieth case with the others that guard the code, all of them with the slow tests."""
    for place, (name, fields, lengths) in enumerate(architectures.CASES):
        yield pytest.param(name, fields, lengths, marks=[] if place % 20 == 1 else pytest.mark.slow,
                           id="-".join([name, *map(str, fields.values())]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the allocator of the CPU")
@pytest.mark.parametrize("name, fields, lengths", list(cases()))
def test_the_traced_peak_of_an_architecture_is_that_of_torchs_allocator(name, fields, lengths):
    shape, config = architectures.SHAPES[name], Config(**fields)
    measured = allocator.forked(allocator.peak, shape, config, lengths, start="forkserver")
    found = footprint.simulated(shape, config, lengths, device="cpu")
    assert found.peak == pytest.approx(measured, rel=2e-3)


def test_the_table_has_60_cases_of_18_architectures_state_spaces_and_experts_among_them():
    names = {name for name, *_ in architectures.CASES}
    assert len(architectures.CASES) >= 60 and len(names) >= 18
    assert {"mamba", "mamba2", "mixtral", "deepseek_v3"} <= names
