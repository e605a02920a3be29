"""The bytes of one training step, extended on a line and kept on disk.

    on_a_line(one, two, 5)      the Step five times as far from `one` as `two` is
    keep(question, step); kept(question)

No torch here, so that an answer that is kept comes without importing it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json

from ftkit.base import files, machine

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
MOST_FILES = 1000  # of traced steps in the cache; the older half goes then


@dataclasses.dataclass
class Step:
    """Bytes of one training step.

    peak: the most that lived at once; at_peak: its parts, which add up to it; moment: in which
    phase. parts: each part at its own largest (they do not all coincide, so their sum is more).
    before: what lives between two steps. timeline: (phase, parts) at each local maximum; of a
    traced step only the highest of each layer and phase, and `keys` says of which.
    facts: what else the model's shape says, see `simulate.facts`.
    """

    peak: int
    at_peak: dict
    moment: str
    parts: dict
    before: int
    trainable: int
    parameters: int
    timeline: list = dataclasses.field(repr=False, default_factory=list)
    facts: dict = dataclasses.field(repr=False, default_factory=dict)
    keys: list = dataclasses.field(repr=False, default_factory=list)


def on_a_line(one: Step, two: Step, times: float, pairs: list[tuple] | None = None) -> Step | None:
    """The Step at `one + times * (two - one)`.

    pairs: the keys of moments that belong together; by default the same keys. None if the peak of
    either Step is not among them.
    """
    points_of_one, points_of_two = (dict(zip(s.keys, s.timeline, strict=True)) for s in (one, two))
    pairs = pairs or [(key, key) for key in one.keys if key in points_of_two]
    if _peak_key(one) not in {a for a, _ in pairs} or _peak_key(two) not in {b for _, b in pairs}:
        return None

    def line(a, b):
        return a + round(times * (b - a))

    def lines(a: dict, b: dict) -> dict:
        return {k: line(a[k], b[k]) for k in a}

    timeline = [(points_of_one[a][0], lines(points_of_one[a][1], points_of_two[b][1]))
                for a, b in pairs]
    moment, at_peak = max(timeline, key=lambda point: sum(point[1].values()))
    facts = lines(one.facts, two.facts) | {"layer": max(one.facts["layer"], two.facts["layer"])}
    return Step(sum(at_peak.values()), at_peak, moment, lines(one.parts, two.parts),
                line(one.before, two.before), line(one.trainable, two.trainable),
                line(one.parameters, two.parameters), timeline, facts,
                [(*a, *b) for a, b in pairs])


def _peak_key(step: Step) -> tuple:
    return max(zip(step.keys, step.timeline, strict=True),
               key=lambda point: sum(point[1][1].values()))[0]


def kept(question: dict) -> Step | None:
    """The Step that was kept for this question by the same code and libraries; None if there is
    none, or its file is damaged."""
    try:
        content = json.loads(_file(question).read_text("utf-8"))
        if content["question"] != _plain(question):
            return None
        step = Step(**content["step"])
        step.keys = [tuple(key) for key in step.keys]
        step.timeline = [(phase, dict(parts)) for phase, parts in step.timeline]
        whole = len(step.keys) == len(step.timeline) and step.peak == sum(step.at_peak.values())
        return step if whole else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def keep(question: dict, step: Step):
    """Write a Step to the cache. A folder that cannot be written to is no error."""
    file = _file(question)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(file, json.dumps(
            {"question": question, "step": dataclasses.asdict(step)}))
        there = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in there[:len(there) // 2] if len(there) > MOST_FILES else ():
            old.unlink(missing_ok=True)


def _plain(question: dict) -> dict:
    return json.loads(json.dumps(question))


def _file(question: dict):
    content = json.dumps([question, _code()], sort_keys=True)
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    return machine.home() / "cache" / "memory" / f"{name}.json"


@functools.cache
def _code() -> list:
    """What a trace depends on: versions of libraries, and the files of this package."""
    versions = []
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append([name, importlib.metadata.version(name)])
    sources = sorted(path for room in ("engine", "memory_use", "model")
                     for path in (machine.package() / room).glob("*.py"))
    return [versions, [[path.name, path.stat().st_size, path.stat().st_mtime] for path in sources]]
