"""Metadata of the fields of a Config, declared with each field by `option`.

Every list of fields elsewhere is derived from these declarations:

    without_effect(Config(method="ia3"))        {"r": "method is ia3", ...}
    changing(Config, "memory")                  fields that change the memory of a step
    counterparts(config, "TrainingArguments")   {"per_device_train_batch_size": 16, ...}
"""

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ftkit.base.errors import UserError

GROUPS = ("Optimization", "Method", "Data", "Evaluation", "System")  # tabs of the what-if panel
# The words of `changes`: what the value of a field can change in a run.
START = "start"  # the model before the first step, or how it is measured there
TOKENS = "tokens"  # the number of tokens in a step, or the number of steps
SCHEDULE = "schedule"  # the learning rate of each step
UPDATES = "updates"  # how a step turns its tokens into new weights
MEMORY = "memory"  # the memory that a step needs for given tokens
CHANGES = (START, TOKENS, SCHEDULE, UPDATES, MEMORY)

TINY = 1e-30  # a smaller number has no effect in 32 bits
SHORT = {"lr": "learning_rate", "bs": "batch_size", "wd": "weight_decay", "steps": "max_steps",
         "rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "optimizer": "optim",
         "scheduler": "lr_scheduler_type", "warmup": "warmup_steps"}  # common abbreviations


def option(default, help: str, choices: tuple[str, ...] = (), *, group: str, changes: str,
           tip: str = "", low: float | None = None, high: float | None = None,
           positive: bool = False, usual: Iterable = (), none: str = "auto",
           used_by: tuple[str, ...] = (), idle: tuple[Callable, str] | None = None,
           elsewhere: str = "", on_ranks: bool | None = None, sft_only: bool = False):
    """Declare a field of a Config.

    help: for the command line. tip: for the notebook, at most 25 words with the usual range and
    the effects of a value that is too low or too high.
    group: one of GROUPS. changes: some of CHANGES; "" for a field that only changes measurements.
    positive: 0 is rejected. usual: values of the slider, or suggestions for a text field.
    none: what the panel shows for None.
    used_by: methods that use the field (default: all).
    idle: (function of a Config, reason); the field has no effect if the function returns True.
    elsewhere: its counterparts in transformers, TRL or peft, separated by spaces: `Class` if the
    parameter has the same name, else `Class.parameter`; "records" if the field already acts on the
    token ids; "" if there is none.
    on_ranks: whether `distributed/train_script.py` supports it (default: unless it
    changes updates).
    sft_only: whether the preference objectives reject it.
    """
    words = changes.split()
    if group not in GROUPS or not {*words} <= {*CHANGES}:
        raise ValueError(f"the field has group {group!r} and changes {changes!r}; expected one of "
                         f"{GROUPS} and words of {CHANGES}")
    return dataclasses.field(default=default, metadata={
        "help": help, "choices": choices, "tip": tip, "low": low, "high": high,
        "positive": positive, "group": group, "changes": frozenset(words), "usual": tuple(usual),
        "none": none, "used_by": used_by, "idle": idle, "elsewhere": tuple(elsewhere.split()),
        "on_ranks": UPDATES not in words if on_ranks is None else on_ranks, "sft_only": sft_only})


# ------------------------------------------------------------------------ lists of fields


@functools.cache
def fields_of(config_class) -> dict[str, dataclasses.Field]:
    """The fields of a Config class by name (`__dataclass_fields__` also has class variables)."""
    return {field.name: field for field in dataclasses.fields(config_class)}


@functools.cache
def changing(config_class, *words: str) -> tuple[str, ...]:
    """The fields that change at least one of the given CHANGES."""
    return tuple(name for name, field in fields_of(config_class).items()
                 if field.metadata["changes"].intersection(words))


@functools.cache
def flagged(config_class, fact: str) -> tuple[str, ...]:
    """The fields whose metadata entry `fact`, such as "sft_only", is true."""
    return tuple(name for name, field in fields_of(config_class).items() if field.metadata[fact])


def given(config) -> list[str]:
    """The fields whose value is not the default."""
    return [name for name, field in fields_of(type(config)).items()
            if getattr(config, name) != field.default]


def without_effect(config) -> dict[str, str]:
    """Fields that change nothing in a run of `config`, each with the reason."""
    reasons = {}
    for name, field in fields_of(type(config)).items():
        used_by, idle = field.metadata["used_by"], field.metadata["idle"]
        if used_by and config.method not in used_by:
            reasons[name] = f"method is {config.method}"
        elif idle and idle[0](config):
            reasons[name] = idle[1]
    return reasons


def grouped(config_class, names: Iterable[str] | None = None) -> dict[str, list[str]]:
    """Map each group to its fields among `names` (default: all), without empty groups.

    Raises UserError if a name is unknown.
    """
    known = fields_of(config_class)
    chosen = list(known) if names is None else check_names(config_class, names)
    groups = {group: [name for name in known
                      if name in chosen and known[name].metadata["group"] == group]
              for group in GROUPS}
    return {group: members for group, members in groups.items() if members}


@functools.cache
def parameters_of(config_class, *classes: str) -> dict[str, str]:
    """Map each field to its parameter in one of these transformers, TRL or peft classes."""
    words = {name: word.partition(".") for name, field in fields_of(config_class).items()
             for word in field.metadata["elsewhere"] if word.partition(".")[0] in classes}
    return {name: parameter or name for name, (_, _, parameter) in words.items()}


def counterparts(config, *classes: str) -> dict:
    """Translate `config` to parameters (name → value) of transformers, TRL or peft classes."""
    return {parameter: getattr(config, name)
            for name, parameter in parameters_of(type(config), *classes).items()}


def without_counterpart(config, *classes: str) -> list[str]:
    """The given fields that have an effect, but no counterpart in these classes."""
    known = parameters_of(type(config), *classes).keys() | without_effect(config).keys()
    return [name for name in given(config) if name not in known]


def neighbors(config_class, name: str, value, count: int = 5) -> list:
    """Return `count` values for a sweep: `value` and the nearest usual values of the field.

    Raises UserError if the field has no usual values.
    """
    numeric = [field.name for field in fields_of(config_class).values() if is_slider(field)]
    if name not in numeric:
        raise UserError(f"{name} has no list of usual values; expected one of {', '.join(numeric)}")
    usual = fields_of(config_class)[name].metadata["usual"]
    if value is None:
        value = usual[len(usual) // 2]
    values = sorted({*usual, value})
    start = max(0, min(values.index(value) - count // 2, len(values) - count))
    return values[start:start + count]


def is_slider(field) -> bool:
    return any(not isinstance(value, str) for value in field.metadata["usual"])


def check_names(config_class, names: Iterable[str]) -> list[str]:
    """Return the names as a list. Raises UserError, with similar names, if one is not a field."""
    known, names = fields_of(config_class), list(names)
    for name in names:
        if name not in known:
            near = [SHORT[name]] if name in SHORT else difflib.get_close_matches(name, known, 3,
                                                                                 0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise UserError(f"Config has no field {name!r:.60}; {hint}")
    return names


# ---------------------------------------------------------------------- values of a field


class Kind(NamedTuple):
    """The type of a field (bool, int, float or str), and whether None is accepted as well."""

    type: type
    optional: bool


@functools.cache
def kinds_of(config_class) -> dict[str, Kind]:
    """The Kind of each field of a Config class, by name."""
    hints = typing.get_type_hints(config_class)
    members = {name: typing.get_args(hints[name]) or (hints[name],)
               for name in fields_of(config_class)}
    return {name: Kind(kinds[0], types.NoneType in kinds) for name, kinds in members.items()}


def accept(config_class, name: str, value):
    """Convert `value` to the field's type. Raises UserError if it is not accepted."""
    field, kind = fields_of(config_class)[name], kinds_of(config_class)[name]
    if value is None and kind.optional:
        return None
    try:
        converted = _convert(field, kind, value)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise UserError(_rejected(field, kind, value)) from None
    low, high, choices = (field.metadata[fact] for fact in ("low", "high", "choices"))
    if (converted == "" or (choices and converted not in choices)
            or (isinstance(converted, float) and not math.isfinite(converted))
            or (low is not None and converted < low) or (high is not None and converted > high)
            or (isinstance(converted, float) and 0 < converted < TINY)
            or (field.metadata["positive"] and converted == 0)):
        raise UserError(_rejected(field, kind, converted))
    return converted


def _convert(field, kind, value):
    if kind.type is bool:
        return {"true": True, "false": False}[str(value).lower()]
    if kind.type in (int, float):
        number = float(value)
        if isinstance(value, bool | bytes) or (kind.type is int and number != int(number)):
            raise ValueError
        return kind.type(number)
    if not field.metadata["choices"] and isinstance(value, list | tuple | set):
        return ",".join(map(str, value))
    if not isinstance(value, str):
        raise ValueError
    return value


def _rejected(field, kind, value) -> str:
    choices = field.metadata["choices"]
    text = f"{field.name} is {value!r:.60}; expected {_accepted(field, kind)}"
    suggestions = difflib.get_close_matches(str(value), choices, 1)
    return f"{text}; did you mean {suggestions[0]}?" if suggestions else text


def _accepted(field, kind) -> str:
    meta = field.metadata
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    name = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    bounds = [f"at least {meta['low']:.12g}"] if meta["low"] is not None else []
    if meta["positive"]:
        bounds = ["above 0"]
    bounds += [f"at most {meta['high']:.12g}"] if meta["high"] is not None else []
    return f"{name[kind.type]} {' and '.join(bounds)}".strip()
