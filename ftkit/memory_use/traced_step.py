"""The bytes of one training step, with linear extrapolation and a cache on disk.

    on_a_line(one, two, 5)      the Step five times as far from `one` as `two` is
    keep(question, step); kept(question)

This module does not import torch, so that cached answers are fast.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json

from ftkit.base import files, machine
from ftkit.model import identity

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
MOST_FILES = 300  # in the cache; if there are more, the older half is deleted


@dataclasses.dataclass
class Step:
    """Bytes of one training step.

    peak: the maximum of all live tensors; at_peak: its parts, whose sum it is; moment: its phase.
    parts: the maximum of each part, reached at different moments, so their sum exceeds the peak.
    before: bytes between two steps. timeline: (phase, parts) at each local maximum; in a traced
    step `keys` has the layer and phase of each, which several share.
    facts: further sizes of the model, see `simulate.facts`.
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
    """Extrapolate the Step `one + times * (two - one)`.

    pairs: keys of matching moments; by default equal keys. Returns None if they do not include the
    peaks of both Steps.
    """
    groups_of_one, groups_of_two = _groups(one), _groups(two)
    pairs = pairs or [(key, key) for key in groups_of_one if key in groups_of_two]
    if _peak_key(one) not in {a for a, _ in pairs} or _peak_key(two) not in {b for _, b in pairs}:
        return None

    def line(a, b):
        return a + round(times * (b - a))

    def lines(a: dict, b: dict) -> dict:
        return {k: line(a[k], b[k]) for k in a}

    keys, timeline = [], []
    for a, b in pairs:
        for (phase, parts), (_, further) in _matched(groups_of_one[a], groups_of_two[b]):
            keys.append((*a, *b))
            timeline.append((phase, lines(parts, further)))
    moment, at_peak = max(timeline, key=_total)
    facts = lines(one.facts, two.facts) | {"layer": max(one.facts["layer"], two.facts["layer"])}
    return Step(sum(at_peak.values()), at_peak, moment, lines(one.parts, two.parts),
                line(one.before, two.before), line(one.trainable, two.trainable),
                line(one.parameters, two.parameters), timeline, facts, keys)


def _groups(step: Step) -> dict[tuple, list]:
    """Map each key to its points of the timeline, in order."""
    groups: dict[tuple, list] = {}
    for key, point in zip(step.keys, step.timeline, strict=True):
        groups.setdefault(key, []).append(point)
    return groups


def _matched(one: list, two: list) -> list[tuple]:
    """Pair the points of two groups. Which of them is highest may change with the size of the
    batch, so all are extrapolated; only if they are not equally many, the highest, with and without
    gradients (which ZeRO shards)."""
    if len(one) == len(two):
        return list(zip(one, two, strict=True))
    return [(max(one, key=by), max(two, key=by)) for by in (_total, _without_gradients)]


def _total(point: tuple[str, dict]) -> int:
    return sum(point[1].values())


def _without_gradients(point: tuple[str, dict]) -> int:
    return _total(point) - point[1]["gradients"]


def _peak_key(step: Step) -> tuple:
    return max(zip(step.keys, step.timeline, strict=True), key=lambda item: _total(item[1]))[0]


def kept(question: dict) -> Step | None:
    """Load the Step cached for a question by the same code and libraries; None if there is none, or
    its file is damaged."""
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
    """Write a Step to the cache. Failure to write is ignored."""
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
    """Identify the code that a trace depends on: library versions and this package's files."""
    versions = []
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append([name, importlib.metadata.version(name)])
    return [versions, identity.code("engine", "memory_use", "model")]
