"""The lines that `make breakages` breaks are still there."""

import re

import breakages
import pytest
from helpers import ROOT

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("breakage", breakages.BREAKAGES, ids=lambda b: f"{b.file}: {b.line}")
def test_the_line_of_a_breakage_is_found_once_and_changed(breakage):
    text = (ROOT / "ftkit" / breakage.file).read_text("utf-8")
    broken, count = re.subn(breakage.line, breakage.broken, text, flags=re.MULTILINE)
    assert count == 1 and broken != text
