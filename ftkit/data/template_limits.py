"""Render a chat template of unknown origin within limits of time and size.

A template is a program. transformers runs it in jinja's sandbox, which keeps it from files and from
Python's inside, but lets it loop for hours and fill the memory. `compiled` gives the same template
in the same environment, in which each loop, call, filter and text that is written is counted. One
operation cannot make a text larger than MOST_CHARACTERS, so the count is checked often enough.

    compiled(source).render(messages=[...], _budget=Budget())
"""

# ruff: noqa: SLF001  (a template sees every attribute without an underscore)

import functools
import re
import time
from collections.abc import Sized

from jinja2 import nodes, pass_context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from ftkit.base.errors import UserError

SECONDS = 5.0  # for one conversation
MOST_CHARACTERS = 5 * 10**7  # in all texts and lists that are made for one conversation
LARGEST_NUMBER = 10**5  # as an argument, such as the width of a line; also the longest `range`
LONG_FORMAT = re.compile(r"\d{5}|\*")  # of a width in a format
REPEATS = ("replace", "join")  # whose result may be as long as the product of two lengths


class Budget:
    """What one conversation may still take. The sandbox hides names with an underscore."""

    def __init__(self):
        self._characters, self._end = MOST_CHARACTERS, time.monotonic() + SECONDS

    def _spend(self, value, more: int = 0):
        """Count a new value; returns it. Raises UserError if the budget is used up."""
        self._characters -= more + _size(value)
        if self._characters < 0:
            raise UserError(f"it writes more than {MOST_CHARACTERS:,} characters")
        if time.monotonic() > self._end:
            raise UserError(f"it takes more than {SECONDS:g} s")
        return value


def _size(value) -> int:
    return len(value) if isinstance(value, Sized) else 1


def _deep(values) -> int:
    """Length of values as text, at most; what they contain may be the same object many times."""
    total, left = 0, list(values)
    while left and total <= MOST_CHARACTERS:
        value = left.pop()
        total += _size(value) + 50
        if isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            left += value
    return total


def _check(name: str, values):
    """Raise UserError if one operation with these values may take very long or much memory."""
    sizes = sorted(map(_size, values))
    product = sizes[-1] * sizes[-2] if name in REPEATS and len(sizes) > 1 else 0
    if max(product, _deep(values)) > MOST_CHARACTERS or (
            name == "sum" and any(isinstance(value, list | tuple) for value in values[1:])) or any(
            isinstance(value, int) and abs(value) > LARGEST_NUMBER for value in values) or (
            name.startswith("format") and LONG_FORMAT.search(str(values[0]))):
        raise UserError(f"it calls {name} with numbers or texts that are too large")


def _of(context) -> Budget:
    return context.parent["_budget"]


@pass_context
def _counted(context, values):
    for value in values:
        _of(context)._spend(None)
        yield value


@pass_context
def _spent(context, value, more=0):
    if isinstance(value, dict | list | tuple):
        _check("str", [value])
    return _of(context)._spend(value, more)


def _limited(name: str, filter):
    """The filter of this name, with its arguments checked and its result counted."""
    kind: str = getattr(getattr(filter, "jinja_pass_arg", None), "name", "")

    @pass_context
    def limited(context, *args, **options):
        _check(name, [*args, *options.values()])
        passed = {"context": context, "eval_context": context.eval_ctx,
                  "environment": context.environment}
        first = (passed[kind],) if kind else ()
        return _of(context)._spend(filter(*first, *args, **options))

    return limited


class _Limited(ImmutableSandboxedEnvironment):
    """The environment of transformers, with limits."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def call_binop(self, context, operator, left, right):
        if isinstance(left, Sized) or isinstance(right, Sized) or operator == "**":
            _check("format" if operator == "%" else operator, [left, right])
            times = [value for value in (left, right) if isinstance(value, int)]
            if operator == "*" and _size(left) * _size(right) * max(times, default=1) > (
                    MOST_CHARACTERS):
                raise UserError("it repeats a text too often")
        return _of(context)._spend(super().call_binop(context, operator, left, right))

    def call(self, context, function, *args, **options):
        name = getattr(function, "__name__", "")
        _check(name, [getattr(function, "__self__", None), *args, *options.values()])
        for value in args:
            _of(context)._spend(value if isinstance(value, list | range) else None)
        return _of(context)._spend(super().call(context, function, *args, **options))

    def wrap_str_format(self, value):
        made = super().wrap_str_format(value)
        if made is not None:
            _check("format", [value.__self__])
        return made

    def _parse(self, source, name, filename):
        return _Counting().visit(super()._parse(source, name, filename))


class _Counting(NodeTransformer):
    """Puts a count around what a loop runs over, around texts that are joined, and into output."""

    def visit_For(self, node):
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_counted")
        return node

    def visit_Concat(self, node):
        self.generic_visit(node)
        node.nodes = [_filtered(part, "_spent") for part in node.nodes]
        return node

    def visit_Output(self, node):
        self.generic_visit(node)
        fixed = sum(len(part.data) for part in node.nodes if isinstance(part, nodes.TemplateData))
        node.nodes = [part if isinstance(part, nodes.TemplateData) else _filtered(part, "_spent")
                      for part in node.nodes]
        node.nodes.append(_filtered(nodes.Const(""), "_spent", nodes.Const(fixed)))
        return node


def _filtered(node, name: str, *args):
    made = nodes.Filter(node, name, list(args), [], None, None)
    made.set_environment(node.environment)
    return made.set_lineno(node.lineno)


@functools.lru_cache(maxsize=16)
def compiled(source: str):
    """Compile a chat template; `render` needs a new Budget as `_budget`."""
    from transformers.utils import chat_template_utils

    # Of an empty template, since compiling computes constants, which is not limited there.
    theirs = chat_template_utils._compile_jinja_template("").environment
    ours = _Limited.__new__(_Limited)
    vars(ours).update(vars(theirs))
    ours.filters = {name: _limited(name, filter) for name, filter in theirs.filters.items()} | {
        "_counted": _counted, "_spent": _spent}
    ours.globals = {name: value for name, value in theirs.globals.items() if name != "lipsum"}
    ours.extensions = {name: extension.bind(ours) for name, extension in theirs.extensions.items()}
    return ours.from_string(source)
