"""The lines that `make breakages` breaks are still there."""

import breakages
import pytest
from helpers import ROOT

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("breakage", breakages.BREAKAGES, ids=lambda b: f"{b.file}: {b.line}")
def test_the_line_of_a_breakage_is_found_once_and_changed(breakage):
    path = ROOT / "ftkit" / breakage.file
    assert breakages.broken_text(breakage, path) != path.read_text("utf-8")
