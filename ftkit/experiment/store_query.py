"""Filter and sort stored runs, for the panel's table and `ftkit runs`.

    chosen = [run for run in list_runs() if where("method=lora val_loss<0.5")(facts(run))]
    ordered(list_of_facts, "-val_loss")
"""

import math
import operator
import re
from collections.abc import Callable

from ftkit.base.errors import UserError

_TERM = re.compile(r"([\w.]+)(<=|>=|!=|=|<|>)(.*)", re.S)
_TESTS: dict[str, Callable] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def facts(run, note: dict | None = None) -> dict:
    """Return the facts to filter by: id, model, data, every Config field, steps, seconds, end,
    stopped, final measures; and name, note and hidden from `annotations`."""
    known = {"id": run.id, "model": run.model_name, "data": str(run.data.get("name")),
             **run.config.to_dict(), "steps": run.last_step, "seconds": run.seconds,
             "end": str(run.end), "stopped": run.stopped or "", **run.after}
    return known | {"name": "", "note": "", "hidden": False} | (note or {})


def where(text: str) -> Callable[[dict], bool]:
    """Parse a filter: a predicate on facts that is true if all terms match, ignoring case.

    A term is `name=value` (or !=, <, <=, >, >=), or a word that occurs in any text fact. Raises
    UserError if <, <=, > or >= is followed by something other than a number.
    """
    tests = [_term(term) for term in text.split()]
    return lambda known: all(test(known) for test in tests)


def _term(term: str) -> Callable[[dict], bool]:
    match = _TERM.fullmatch(term)
    if not match:
        word = term.lower()
        return lambda known: any(word in str(value).lower() for value in known.values()
                                 if isinstance(value, str))
    name, sign, value = match.groups()
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
    having = [(key, place, entry) for place, (key, entry) in enumerate(keyed) if key is not None]
    having.sort(key=lambda pair: (pair[0], -pair[1] if down else pair[1]), reverse=down)
    return [entry for *_, entry in having] + [entry for key, entry in keyed if key is None]


def _key(value):
    """Sort key: numbers before text; None for a missing value or nan."""
    if value is None or value == "":
        return None
    number = _number(value)
    if number is None and isinstance(value, float):
        return None
    return (0, number, "") if number is not None else (1, 0.0, str(value).lower())


def check_names(text: str, entries: list[dict]):
    """Raise UserError if a `where` text has a name that none of these runs has."""
    known = {key for entry in entries for key in entry}
    for term in text.split():
        match = _TERM.fullmatch(term)
        if match and known and match[1] not in known:
            raise UserError(f"no run has {match[1]!r:.40}; expected one of "
                            f"{', '.join(sorted(known))}")
