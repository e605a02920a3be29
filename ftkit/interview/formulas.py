"""Formulas of the cheat sheet, written as Python expressions, as TeX and as MathML.

    tex("r * (d_in + d_out)")    # r \\cdot \\left(d_{in} + d_{out}\\right)

`formulas.jsonl` has the formulas by topic; a test computes those that have an example.
"""

import functools
import re

from ftkit.base import json_lines, machine
from ftkit.base.formatting import to_attribute


@functools.cache
def everything() -> tuple[dict, ...]:
    """The lines of `formulas.jsonl`: topic, title, formula (sides joined by " = "), lesson, where
    (what the names mean), and optionally example (name → value) and its value."""
    return tuple(json_lines.read(machine.package() / "interview" / "formulas.jsonl",
                                 damaged="raise"))


def plain(formula: str) -> str:
    """A formula as one line of text: `heads · tokens^2`."""
    return formula.replace("**", "^").replace("*", "·")


def tex(formula: str, words: bool = False) -> str:
    """A formula as TeX. words: names are words (`kv_heads`), not letters with an index (`d_in`).

    Raises ValueError for a side that is not an algebraic expression.
    """
    return " = ".join(_tex_of(side, words) for side in formula.split(" = "))


def mathml(formula: str, words: bool = False) -> str:
    """A formula as a MathML element with `plain` as its alternative text."""
    import latex2mathml.converter

    made = latex2mathml.converter.convert(tex(formula, words))
    alternative = to_attribute(plain(formula))
    return made.replace("<math", f'<math displaystyle="true" alttext="{alternative}"', 1)


def _tex_of(side: str, words: bool) -> str:
    import sympy
    from sympy.parsing.sympy_parser import parse_expr

    functions = {"sqrt": sympy.sqrt, "exp": sympy.exp, "floor": sympy.floor, "ceil": sympy.ceiling,
                 "comb": sympy.Function("C")}
    side = re.sub(r"\b1e(\d+)", r"10**\1", side)
    meaning, shown = {}, {}
    for name, call in re.findall(r"\b([A-Za-z]\w*)(\(?)", side):
        meaning[name] = functions.get(name) or sympy.Function(name) if call else sympy.Symbol(name)
        if not call:
            shown[meaning[name]] = _symbol(name, words)
    try:
        expression = parse_expr(side, local_dict=meaning, evaluate=False)
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"{side!r} cannot be shown as a formula: {error}") from error
    if not isinstance(expression, sympy.Expr):
        raise ValueError(f"{side!r} cannot be shown as a formula: it is not algebra")
    made = sympy.latex(expression, order="none", mul_symbol="dot", symbol_names=shown)
    return made.replace(r"1 \cdot \frac", r"\frac")


def _symbol(name: str, words: bool) -> str:
    """A name as TeX: `d_in` is a d with an upright index, `eta` a Greek letter."""
    from sympy.core.alphabets import greeks

    if words:
        return rf"\text{{{name.replace('_', ' ')}}}"
    parts = [rf"\{part}" if part in (*greeks, "lambda") else
             part if len(part) == 1 else rf"\text{{{part}}}"
             for part in name.replace("lam", "lambda").split("_", 1)]
    return parts[0] + "".join(f"_{{{index}}}" for index in parts[1:])
