"""How the lessons run as tests: nbval executes every cell, in one of two ways.

smoke (the default, part of `make test`): runs take a few steps, so that effects are printed and
not asserted. The kernels are forked from a process that has torch imported already
(tests/forked_kernel.py).
full (FTKIT_LESSONS=full, part of `make test-all`): every run at full length, an unmet `ft.expect`
fails, and the lessons in REAL run their section on a real LLM too. FTKIT_REAL=1 makes
`is_fetched` an error where the model is missing, so no section is left out silently.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import forked_kernel
import pytest

REAL = ("05_templates_and_the_bug_zoo",)
FULL = os.environ.get("FTKIT_LESSONS", "smoke") == "full"
MODELS = Path(__file__).parent.parent / ".cache" / "home" / "models"


def pytest_report_header():
    if not FULL:
        return "lessons: smoke tier, a few steps for each run"
    found = ", ".join(REAL) if (MODELS / "smollm2").exists() else "left out"
    return f"lessons: full length, strict; sections on SmolLM2: {found}"


def home() -> Path:
    """FTKIT_HOME of the lessons that this process runs."""
    return Path(tempfile.gettempdir()) / f"ftkit-lessons-{os.getpid()}"


def environment(lesson: str, home: Path) -> dict[str, str]:
    """The variables that the kernel of a lesson starts with."""
    chosen = {"FTKIT_HOME": str(home), "FTKIT_TIER": "cpu" if FULL else "smoke",
              "FTKIT_STRICT": str(int(FULL)), "FTKIT_REAL": "0"}
    if FULL and lesson in REAL and (MODELS / "smollm2").exists():
        chosen["FTKIT_REAL"] = "1"
        if not (home / "models").exists():
            (home / "models").symlink_to(MODELS)
    return chosen


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    """The kernel of a lesson starts in the setup of its first cell."""
    home().mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(item.path.stem, home()).items():
            patch.setenv(name, value)
        if not FULL:
            patch.setattr("jupyter_client.provisioning.local_provisioner.launch_kernel",
                          forked_kernel.start)
        yield


def pytest_unconfigure():
    shutil.rmtree(home(), ignore_errors=True)
