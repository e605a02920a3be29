"""`make lessons`: which lessons also run their section on a real LLM, the cheapest that teach most.

FTKIT_REAL=1 makes `machine.has` an error where the model is missing, so none is left out in
silence; where it could not be fetched, the report's header says so.
"""

import os

import pytest

from ftkit.model import download

REAL = ("00_start_here", "04_instruction_tuning", "05_templates_and_the_bug_zoo",
        "10_quantization_and_qlora", "21_interview_clinic")


def pytest_report_header():
    return f"sections on SmolLM2: {', '.join(REAL) if download.find('smollm2') else 'left out'}"


@pytest.hookimpl(tryfirst=True)  # before the kernel of the lesson starts and takes it over
def pytest_runtest_setup(item):
    real = (item.path.stem in REAL and os.environ.get("FTKIT_TIER") != "smoke"
            and download.find("smollm2") is not None)
    os.environ["FTKIT_REAL"] = str(int(real))
