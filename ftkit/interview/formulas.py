"""Formulas of the cheat sheet: written as Python expressions, shown as MathML.

    mathml("r * (d_in + d_out)")    # a <math> element; its alternative text is `plain` of the same
    plain("2 * (N - 1) / N * bytes")

`formulas.jsonl` has the formulas by topic; those with an example are computed by a test.
"""

from __future__ import annotations

import ast
import functools

from ftkit.base import json_lines, machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import to_attribute, to_html

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η",
         "theta": "θ", "lam": "λ", "mu": "μ", "pi": "π", "rho": "ρ", "sigma": "σ"}
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
LEVEL = {ast.Add: 1, ast.Sub: 1, ast.Mult: 2, ast.Div: 2, ast.Pow: 4}


@functools.cache
def everything() -> tuple[dict, ...]:
    """The lines of `formulas.jsonl`: topic, title, formula (sides joined by " = "), lesson, where
    (what the names mean), and perhaps example (name → value) with its value."""
    return tuple(json_lines.read(machine.package() / "interview" / "formulas.jsonl",
                                 damaged="raise"))


def mathml(formula: str, words: bool = False) -> str:
    """A formula as a MathML element. words: names are words (`kv_heads`), not letters with an index
    (`d_in`). Raises UserError for what is not an expression."""
    sides = "<mo>=</mo>".join(_markup(_tree(side), words) for side in formula.split(" = "))
    return (f'<math xmlns="http://www.w3.org/1998/Math/MathML" displaystyle="true" '
            f'alttext="{to_attribute(plain(formula, words))}"><mrow>{sides}</mrow></math>')


def plain(formula: str, words: bool = False) -> str:
    """The same as one line of text."""
    return " = ".join(_text(_tree(side), words) for side in formula.split(" = "))


def _tree(side: str) -> ast.expr:
    try:
        return ast.parse(side, mode="eval").body
    except SyntaxError:
        raise UserError(f"{side!r} is not a formula; write it as a Python expression") from None


def _name(name: str, words: bool) -> tuple[str, str]:
    """(letter or word, index) of a name."""
    if words:
        return name.replace("_", " "), ""
    letter, _, index = name.partition("_")
    return GREEK.get(letter, letter), GREEK.get(index, index.replace("_", " "))


def _level(node: ast.expr) -> int:
    if isinstance(node, ast.BinOp):
        return LEVEL[type(node.op)]
    return 3 if isinstance(node, ast.UnaryOp) else 5


def _number(value) -> str:
    """A constant; 1e9 is 10⁹."""
    text = f"{value:,}" if isinstance(value, int) else f"{value:g}"
    if text.startswith("1e+"):
        return "10" + str(int(text[3:])).translate(SUPERSCRIPT)
    return text


def _markup(node: ast.expr, words: bool, level: int = 0) -> str:
    """The MathML of a part; in parentheses where it binds less than `level`."""
    def show(part, needed=0):
        return _markup(part, words, needed)

    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return f"<mfrac><mrow>{show(node.left)}</mrow><mrow>{show(node.right)}</mrow></mfrac>"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return f"<msup><mrow>{show(node.left, 5)}</mrow><mrow>{show(node.right)}</mrow></msup>"
    if isinstance(node, ast.BinOp):
        own = _level(node)
        sign = {ast.Add: "+", ast.Sub: "−", ast.Mult: "·"}[type(node.op)]
        right = own + 1 if isinstance(node.op, ast.Sub) else own
        text = f"{show(node.left, own)}<mo>{sign}</mo>{show(node.right, right)}"
    elif isinstance(node, ast.UnaryOp):
        text = f"<mo>−</mo>{show(node.operand, 3)}"
    elif isinstance(node, ast.Constant):
        return f"<mn>{_number(node.value)}</mn>"
    elif isinstance(node, ast.Name):
        letter, index = _name(node.id, words)
        element = "mtext" if words else "mi"
        shown = f"<{element}>{to_html(letter)}</{element}>"
        return f"<msub>{shown}<mtext>{to_html(index)}</mtext></msub>" if index else shown
    elif isinstance(node, ast.Call):
        inner = "<mo>,</mo>".join(show(part) for part in node.args)
        name = _function(node)
        if name == "sqrt":
            return f"<msqrt>{inner}</msqrt>"
        shown = show(node.func)
        return f"{shown}<mo>(</mo>{inner}<mo>)</mo>"
    else:
        raise UserError(f"{ast.unparse(node)!r} cannot be shown in a formula")
    return f"<mo>(</mo>{text}<mo>)</mo>" if _level(node) < level else text


def _function(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _text(node: ast.expr, words: bool, level: int = 0) -> str:
    def show(part, needed=0):
        return _text(part, words, needed)

    if isinstance(node, ast.BinOp):
        own = _level(node)
        sign = {ast.Add: " + ", ast.Sub: " − ", ast.Mult: " · ", ast.Div: " / ",
                ast.Pow: "^"}[type(node.op)]
        right = own + 1 if isinstance(node.op, ast.Sub | ast.Div) else own
        left = own + 1 if isinstance(node.op, ast.Pow) else own
        text = f"{show(node.left, left)}{sign}{show(node.right, right)}"
    elif isinstance(node, ast.UnaryOp):
        text = f"−{show(node.operand, 3)}"
    elif isinstance(node, ast.Constant):
        return _number(node.value)
    elif isinstance(node, ast.Name):
        letter, index = _name(node.id, words)
        return f"{letter}_{index}" if index else letter
    elif isinstance(node, ast.Call):
        name = "√" if _function(node) == "sqrt" else show(node.func)
        return f"{name}({', '.join(show(part) for part in node.args)})"
    else:
        raise UserError(f"{ast.unparse(node)!r} cannot be shown in a formula")
    return f"({text})" if _level(node) < level else text
