"""The notebooks of the lessons, by number."""

from pathlib import Path

from ftkit.base import machine


def notebooks() -> dict[str, Path]:
    """Map the number of a lesson, such as "07" or "20a", to its notebook, in order."""
    found = sorted(machine.share("notebooks").glob("[0-9][0-9]*_*.ipynb"))
    return {number_of(path.stem): path for path in found}


def number_of(name: str) -> str:
    """The number in the name of a lesson: "20a" of "20a_preferences"."""
    return name.partition("_")[0]
