"""The bytes of one training step, with linear extrapolation and a cache on disk.

    on_a_line(one, two, 5)      the Step five times as far from `one` as `two` is
    keep(question, steps); kept(question)

This module does not import torch, so that cached answers are fast.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import operator
import zipfile
from collections.abc import Sequence

from ftkit.base import files, machine
from ftkit.model import identity

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
READ = 2  # of the equal batches of a step; further ones add only their own size
SHIPPED = machine.package() / "memory_use" / "known_steps.zip"
MOST_FILES = 300  # in the cache; if there are more, the older half is deleted


@dataclasses.dataclass
class Step:
    """Bytes of one training step, as a table of its moments.

    timeline: (phase, {part: bytes}) at each local maximum of all live tensors. In a traced step
    `keys` has the layer and phase of each, which several share.
    parts: the maximum of each part; reached at different moments, so their sum exceeds the peak.
    before: bytes between two steps. facts: further sizes of the model, see `simulate.facts`.
    """

    timeline: list = dataclasses.field(repr=False)
    parts: dict
    before: int
    trainable: int
    parameters: int
    facts: dict = dataclasses.field(repr=False, default_factory=dict)
    keys: list = dataclasses.field(repr=False, default_factory=list)

    @functools.cached_property
    def highest(self) -> tuple[str, dict]:
        """The phase of the peak, and its parts."""
        return max(self.timeline, key=_total)

    @property
    def peak(self) -> int:
        return _total(self.highest)


def aligned(one: Step, two: Step, pairs: list[tuple] | None = None) -> tuple[Step, Step] | None:
    """Return copies of two Steps with matching moments at the same places of their timelines.

    pairs: keys of matching moments; by default equal keys. Returns None if they do not include the
    peaks of both Steps.
    """
    groups_of_one, groups_of_two = _groups(one), _groups(two)
    pairs = pairs or [(key, key) for key in groups_of_one if key in groups_of_two]
    if _peak_key(one) not in {a for a, _ in pairs} or _peak_key(two) not in {b for _, b in pairs}:
        return None
    found = [((*a, *b), *both) for a, b in pairs
             for both in _matched(groups_of_one[a], groups_of_two[b])]
    keys, first, second = (list(column) for column in zip(*found, strict=True))
    return (dataclasses.replace(one, timeline=first, keys=keys),
            dataclasses.replace(two, timeline=second, keys=keys))


def on_a_line(one: Step, two: Step, times: float) -> Step:
    """Extrapolate the Step `one + times * (two - one)` of two `aligned` Steps."""
    def line(a, b):
        return a + round(times * (b - a))

    def lines(a: dict, b: dict) -> dict:
        return {k: line(a[k], b[k]) for k in a}

    timeline = [(phase, lines(parts, further)) for (phase, parts), (_, further)
                in zip(one.timeline, two.timeline, strict=True)]
    facts = lines(one.facts, two.facts) | {"layer": max(one.facts["layer"], two.facts["layer"])}
    return Step(timeline, lines(one.parts, two.parts), line(one.before, two.before),
                line(one.trainable, two.trainable), line(one.parameters, two.parameters), facts,
                one.keys)


def pruned(steps: Sequence[Step]) -> list[Step]:
    """Return copies of one Step, or of two `aligned` Steps, without moments that are never maxima.

    Such a moment has another one of the same phase at which each part is at least as large and
    grows at least as fast.
    """
    sizes: dict[tuple, int] = {}
    for i, (phase, parts) in enumerate(steps[0].timeline):
        further = steps[-1].timeline[i][1]
        sizes.setdefault((phase, *parts.values(), *(further[k] - parts[k] for k in parts)), i)
    kept: list[tuple] = []
    for size in sorted(sizes, key=lambda size: -sum(size[1:])):
        if not any(size[0] == other[0] and all(map(operator.le, size[1:], other[1:]))
                   for other in kept):
            kept.append(size)
    places = sorted(sizes[size] for size in kept)
    return [dataclasses.replace(step, keys=[], timeline=[step.timeline[i] for i in places])
            for step in steps]


def holding(step: Step, count: int) -> Step:
    """Return a copy of a Step that holds `count` more bytes all the time."""
    def more(parts: dict) -> dict:
        return parts | {"other": parts["other"] + count}

    return dataclasses.replace(step, before=step.before + count, parts=more(step.parts),
                               timeline=[(phase, more(parts)) for phase, parts in step.timeline])


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
    return [(max(one, key=by), max(two, key=by))
            for by in (_total, lambda point: _total(point) - point[1]["gradients"])]


def _total(point: tuple[str, dict]) -> int:
    return sum(point[1].values())


def _peak_key(step: Step) -> tuple:
    return max(zip(step.keys, step.timeline, strict=True), key=lambda item: _total(item[1]))[0]


# ------------------------------------------------------------------ the cache


def kept(question: dict) -> list[Step] | None:
    """Load the Steps that answer a question: those of the package (`shipped`), or those cached on
    disk by the same code and libraries. None if there are none, or the file is damaged."""
    try:
        content = json.loads(shipped(question) or _file(question).read_bytes())
        steps = [Step(**step) for step in content["steps"]]
        for step in steps:
            step.timeline = [(phase, dict(parts)) for phase, parts in step.timeline]
        return steps if content["peaks"] == [step.peak for step in steps] else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def keep(question: dict, steps: list[Step]):
    """Write the Steps that answer a question to the cache. Failure to write is ignored."""
    file = _file(question)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(file, written(question, steps))
        there = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in there[:len(there) // 2] if len(there) > MOST_FILES else ():
            old.unlink(missing_ok=True)


def written(question: dict, steps: list[Step]) -> str:
    """Return a question with its answer as JSON."""
    return json.dumps({"question": question, "peaks": [step.peak for step in steps],
                       "steps": [dataclasses.asdict(step) for step in steps]})


def shipped(question: dict) -> bytes | None:
    """Read an answer of the package, which has those of `ftkit memory --gpu` on well-known models
    (`make known-steps`); None if it has none, or if an installed library is of another minor
    version than the one that it was made with."""
    archive, name = _archive(), name_of(question)
    return archive.read(name) if archive and name in archive.NameToInfo else None


@functools.cache
def _archive() -> zipfile.ZipFile | None:
    try:
        archive = zipfile.ZipFile(SHIPPED)
        made_with = json.loads(archive.read("versions.json"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return archive if made_with.items() >= minor_versions().items() else None


def minor_versions() -> dict[str, str]:
    """Map each installed library to its version without the last number, such as "2.13"."""
    return {name: ".".join(version.split(".")[:2]) for name, version in _versions()}


def name_of(question: dict, *more) -> str:
    """The name of the file with the answer to a question."""
    content = json.dumps([question, *more], sort_keys=True)
    return f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.json"


def _file(question: dict):
    return machine.home() / "cache" / "memory" / name_of(question, *_code())


@functools.cache
def _code() -> list:
    """Identify the code that a trace depends on: library versions and this package's files."""
    return [_versions(), identity.code("engine", "memory_use", "model")]


def _versions() -> list:
    found = []
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append([name, importlib.metadata.version(name)])
    return found
