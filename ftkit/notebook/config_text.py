"""A Config as people write it, read back: the line of the panel takes any of these forms.

    parse("learning_rate=3e-4 max_steps=60")      what str(config) writes
    parse("learning_rate=3e-4, max_steps=60")     as arguments of Python
    parse("ft.Config(max_steps=60)")              what a cell holds
    parse('{"max_steps": 60}')                    JSON
    parse("ftkit run --max-steps 60")             options of the command line
"""

from __future__ import annotations

import ast
import dataclasses
import json
import shlex

from ftkit.base.config import Config
from ftkit.base.errors import UserError

FORMS = ("write name=value pairs such as learning_rate=3e-4 max_steps=60, or Config(...), JSON, or "
         "options such as --max-steps 60")
_WORDS = {"true": True, "false": False, "null": None, "none": None, "auto": None}


def parse(text: str) -> Config:
    """The Config that a text in one of the forms above asks for; empty text is all defaults.

    Raises UserError with the part that cannot be read, and for unknown fields and bad values as
    Config does.
    """
    text = text.strip()
    if text.startswith("{"):
        return Config().but(**_json(text))
    head, bracket, inside = text.partition("(")
    if bracket and head.strip() in ("Config", "ft.Config", "ftkit.Config"):
        if not inside.rstrip().endswith(")"):
            raise UserError(f"{text!r:.60} lacks its closing bracket; {FORMS}")
        return Config().but(**_arguments(inside.rstrip()[:-1]))
    if "--" in text:
        return Config().but(**_options(text))
    return Config().but(**_pairs(text))


def _json(text: str) -> dict:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"this is not JSON: {error.msg} at character {error.pos + 1}; "
                        f"{FORMS}") from None
    known = {field.name for field in dataclasses.fields(Config)}
    if isinstance(values.get("config"), dict):  # a whole run, as `ftkit run --json` prints it
        return {name: value for name, value in values["config"].items() if name in known}
    return values


def _arguments(text: str) -> dict:
    """The keyword arguments of a call, literals only: nothing is evaluated."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise UserError(f"Config({text:.60}) is not a list of name=value; {FORMS}") from None


def _options(text: str) -> dict:
    """Options of the command line; one of `ftkit run` that is not a field of Config is an error."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{text!r:.60}: {error}; {FORMS}") from None
    while words and not words[0].startswith("--"):  # "ftkit run"
        if words.pop(0) not in ("ftkit", "run", "$"):
            raise UserError(f"{text!r:.60} mixes options with other words; {FORMS}")
    values = {}
    while words:
        name, equals, value = words.pop(0).partition("=")
        if not name.startswith("--"):
            raise UserError(f"{name!r:.60} follows no option; {FORMS}")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        values[name[2:].replace("-", "_")] = _value(value)
    return values


def _pairs(text: str) -> dict:
    """name=value, separated by spaces or commas; a comma inside a value belongs to it."""
    values: dict = {}
    name = None
    for word in text.replace(" = ", "=").split():
        for number, part in enumerate(word.split(",")):
            if "=" in part:
                name, _, value = part.partition("=")
                values[name] = value
            elif part and number and name:  # target_modules=q_proj,v_proj
                values[name] += "," + part
            elif part:
                raise UserError(f"{part!r:.60} is not a name=value pair; {FORMS}")
    return {name: _value(value) for name, value in values.items()}


def _value(text: str):
    text = text.strip("'\"")
    return _WORDS.get(text.lower(), text)
