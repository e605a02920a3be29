"""Filter and sort stored runs, for the panel's table and `ftkit runs`.

    matching("method=lora val_loss<0.5", list_of_facts)
    ordered(list_of_facts, "-val_loss")
"""

import math
import operator
import re
from collections.abc import Callable

from ftkit.base.errors import UserError
from ftkit.report import series

_TERM = re.compile(r"([\w.]+)(<=|>=|!=|=|<|>)(.*)", re.S)
_TESTS: dict[str, Callable] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def facts(run, note: dict | None = None) -> dict:
    """Return the facts to filter by: id, model, data, every Config field, steps, seconds, end,
    stopped, final measures; and name, note and hidden from `annotations`."""
    known = {"id": run.id, **series.settings_of(run), "data": str(run.data.get("name")),
             "steps": run.last_step, "seconds": run.seconds,
             "end": str(run.end), "stopped": run.stopped or "", **run.after}
    return known | {"name": "", "note": "", "hidden": False} | (note or {})


def matching(text: str, entries: list[dict]) -> list[dict]:
    """The facts for which all terms of `text` hold, ignoring case.

    A term is `name=value` (or !=, <, <=, >, >=), or a word that occurs in any text fact. Raises
    UserError for a name that no run has, and if <, <=, > or >= is followed by something other than
    a number.
    """
    names = {name for entry in entries for name in entry}
    tests = [_term(term, names) for term in text.split()]
    return [entry for entry in entries if all(test(entry) for test in tests)]


def _term(term: str, names: set[str]) -> Callable[[dict], bool]:
    match = _TERM.fullmatch(term)
    if not match:
        word = term.lower()
        return lambda known: any(word in str(value).lower() for value in known.values()
                                 if isinstance(value, str))
    name, sign, value = match.groups()
    if names and name not in names:
        raise UserError(f"no run has {name!r:.40}; expected one of {', '.join(sorted(names))}")
    if sign in _TESTS:
        limit = _number(value)
        if limit is None:
            raise UserError(f"{term!r:.60} compares with {value!r:.30}; expected a number, such as "
                            f"{name}{sign}0.5")
        return lambda known: (number := _number(known.get(name))) is not None and bool(
            _TESTS[sign](number, limit))

    def equal(known):
        ours, number = known.get(name), _number(value)
        if number is not None and _number(ours) is not None:
            return _number(ours) == number
        return str(ours).lower() == value.lower()

    return equal if sign == "=" else lambda known: not equal(known)


def _number(value) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def ordered(entries: list[dict], by: str) -> list[dict]:
    """Sort facts by a name, or in descending order by `-name`. Facts without it are last.

    Raises UserError if no run has the name.
    """
    name, down = by.lstrip("-"), by.startswith("-")
    if entries and not any(name in entry for entry in entries):
        known = ", ".join(dict.fromkeys(key for entry in entries for key in entry))
        raise UserError(f"no run has {name!r:.40}; expected one of {known}")
    keyed = [(_key(entry.get(name)), entry) for entry in entries]
    having = sorted((pair for pair in keyed if pair[0]), key=lambda pair: pair[0], reverse=down)
    return [entry for _, entry in having] + [entry for key, entry in keyed if not key]


def _key(value) -> tuple:
    """Sort key: numbers before text; () for a missing value or nan."""
    if value is None or value == "":
        return ()
    number = _number(value)
    if number is None and isinstance(value, float):
        return ()
    return (0, number, "") if number is not None else (1, 0.0, str(value).lower())
