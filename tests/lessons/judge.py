"""Whether a lesson has the form of the second edition, and the minutes it takes.

    python tests/lessons/judge.py 02        every violation, with its sentence or its cell
    python tests/lessons/judge.py           a line for each lesson

`violations` is what test_second_edition.py asserts to be empty.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
EXERCISES = ROOT / "ftkit" / "lessons" / "exercises"

LONG = 30  # words of a sentence that counts as long
SHORTEST_SENTENCE = 4  # words; "Answer" and "1." are not counted
LONG_SHARE = 0.02  # of the sentences of a lesson may be long
MOST_MINUTES = 45
SHORTEST_ALT = 40  # characters that say what a figure shows


class Cell(NamedTuple):
    number: int
    kind: str  # "markdown" or "code"
    text: str


# ------------------------------------------------------------------------- reading a lesson


@functools.cache
def builder():
    spec = importlib.util.spec_from_file_location("build_lessons", NOTEBOOKS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def source_of(number: str) -> Path:
    """notebooks/src/NN_name.py of lesson `number`; ValueError where there is none."""
    found = sorted((NOTEBOOKS / "src").glob(f"{int(number):02}_*.py"))
    if len(found) != 1:
        raise ValueError(f"notebooks/src has no lesson {number}")
    return found[0]


def cells_of(source: Path) -> list[Cell]:
    notebook = json.loads(builder().build(source))
    return [Cell(i, cell["cell_type"], "".join(cell["source"]))
            for i, cell in enumerate(notebook["cells"])]


def prose_of(text: str) -> str:
    """Markdown without what is not prose: comments, code blocks, tables, figures, formulas.

    A link counts as its text, inline code and an inline formula as one word each.
    """
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"^ *```.*?^ *```[^\n]*$", "\n\n", text, flags=re.S | re.M)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.S)
    text = re.sub(r"^\s*\|.*$", "\n", text, flags=re.M)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "\n\n", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"(`+)[^`]+\1", "Code", text)
    text = re.sub(r"(?<![\\$\w])\$(?=\S)[^$\n]+(?<=\S)\$(?!\d)", "Formula", text)
    text = re.sub(r"https?://\S+", "link", text)
    text = re.sub(r"</?(summary|details|p|br|li|div)\b[^>]*>", "\n\n", text)
    return re.sub(r"<[^>\n]+>", " ", text)


# A point after one of these ends no sentence.
ABBREVIATIONS = r"(?:e\.g|i\.e|etc|vs|cf|al|approx|Fig|Eq|Sec|Dr|Mr|Ms|No|resp|incl|St)\."
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)*_\]]*\s+(?=[\"'“‘(*_\[]*[A-Z0-9])")


def sentences(text: str) -> list[str]:
    """The sentences of a cell of Markdown, without headings; a list item is at least one."""
    found = []
    for block in re.split(r"\n\s*\n", re.sub(r"^\s*>+ ?", "", prose_of(text), flags=re.M)):
        for item in re.split(r"^\s*(?:[-*+]|\d+[.)])\s+|^#+\s+.*$", block, flags=re.M):
            part = re.sub(ABBREVIATIONS, lambda match: match.group().replace(".", "\0"),
                          " ".join(item.split()))
            start = 0
            for end in [m.end() for m in SENTENCE_END.finditer(part)] + [len(part)]:
                sentence = part[start:end].replace("\0", ".").strip()
                start = end
                if re.search(r"\w", sentence):
                    found.append(sentence)
    return found


def words(text: str) -> int:
    return len(re.findall(r"[^\W_][\w'’.,%-]*", text))


def code_lines(text: str) -> int:
    """Lines of code, without empty ones and comments."""
    return sum(bool(line.strip()) and not line.strip().startswith("#")
               for line in text.splitlines())


def code_blocks(text: str) -> list[str]:
    """The fenced blocks of a cell of Markdown."""
    return re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.S | re.M)


# -------------------------------------------------------------------------------- minutes


def minutes(cells: list[Cell]) -> float:
    """Minutes that a lesson takes an attentive reader, before rounding.

    words / 130 (outside readers of the executed pages took half again as long as 200 words a minute
    would give) + lines of code / 12 (read, run, and the output looked at) + 5 for each exercise + 1
    for each guess. Blocks of code in the text and the answers of interview boxes count, exercises
    by their `check(`, guesses by their `predict(`. A lesson states this, rounded to 5.
    """
    prose = [cell.text for cell in cells if cell.kind == "markdown"]
    code = [cell.text for cell in cells if cell.kind == "code"]
    reading = sum(words(sentence) for text in prose for sentence in sentences(text)) / 130
    blocks = [block for text in prose for block in code_blocks(text)]
    running = sum(map(code_lines, code + blocks)) / 12
    exercises = sum(text.count("ft.check(") for text in code)
    guesses = sum(text.count("ft.predict(") for text in code)
    return reading + running + 5 * exercises + 1 * guesses


def rounded(value: float) -> int:
    return max(5, 5 * round(value / 5))


# --------------------------------------------------------------------------------- the rules


BANNED = {
    r"carr(?:y|ies) (?:no )?loss\b": "carry loss", r"in words\b": "in words",
    r"(?:is|are) told\b": "is told", r"by heart\b": "by heart",
    r"what is held still\b": "what is held still", r"what may vary\b": "what may vary",
    r"reading on\b": "reading on", r"half way\b": "half way", r"so many \w+": "so many (noun)",
    r"reckless\b": "reckless", r"turns gradients into steps\b": "turns gradients into steps",
    r"bends the\b": "bends the", r"is none\b": "is none",
    r"as many steps as (?!\d)": "as many steps as", r"go(?:es)? on\b": "goes on",
    r"stands beside\b": "stands beside", r"lies (?:above|below)\b": "lies above",
    r"dear\b": "dear", r"the rate\b(?! of\b)": "the rate (of learning, alone)",
}


def banned_phrases(cells: list[Cell]):
    """LANGUAGE.md's phrases outside quotations and code names; strings of code count as text."""
    for cell in cells:
        text = cell.text
        if cell.kind == "markdown":
            text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
            text = re.sub(r"^ *```.*?^ *```[^\n]*$", "", text, flags=re.S | re.M)
            text = re.sub(r"^\s*>.*$", "", text, flags=re.M)
            text = re.sub(r"`[^`]+`", "", text)
            text = re.sub(r"\]\([^)]*\)", "]", text)
            text = re.sub(r"\"[^\"]*\"|“[^”]*”", "", text)
        text = " ".join(text.split())
        for pattern, phrase in BANNED.items():
            for match in re.finditer(rf"\b(?:{pattern})", text, re.I):
                around = text[max(0, match.start() - 40):match.end() + 40]
                yield f"cell {cell.number}: banned phrase {phrase!r}: ... {around} ..."


def long_sentences(cells: list[Cell]):
    every = [(cell.number, sentence) for cell in cells if cell.kind == "markdown"
             for sentence in sentences(cell.text) if words(sentence) >= SHORTEST_SENTENCE]
    long = [(number, sentence) for number, sentence in every if words(sentence) > LONG]
    if len(long) > LONG_SHARE * len(every):
        yield (f"{len(long)} of {len(every)} sentences have more than {LONG} words; "
               f"{int(LONG_SHARE * len(every))} may")
        for number, sentence in long:
            yield f"cell {number}: {words(sentence)} words: {sentence}"


FIGURE = re.compile(r"!\[([^\]]*)\]\((figures/[^)\s]+)\)")


def concept_figure(cells: list[Cell]):
    found = [(cell.number, *match) for cell in cells if cell.kind == "markdown"
             for match in FIGURE.findall(cell.text)]
    if not found:
        yield "no concept figure: ![what is seen](figures/NN_name.svg)"
    for number, alt, path in found:
        if len(alt) < SHORTEST_ALT:
            yield f"cell {number}: {len(alt)} characters of alt text, below {SHORTEST_ALT}: {alt}"
        if not (NOTEBOOKS / path).is_file():
            yield f"cell {number}: notebooks/{path} does not exist"


def section(cells: list[Cell], heading: str) -> list[Cell]:
    """The cells from `## heading` to the next `## `, cut to what is between the two."""
    inside, found = False, []
    for cell in cells:
        if cell.kind == "code":
            found += [cell] * inside
            continue
        for part in re.split(r"^(?=## )", cell.text, flags=re.M):
            if part.startswith("## "):
                inside = part.partition("\n")[0].strip() == f"## {heading}"
            if inside:
                found.append(cell._replace(text=part))
    return found


def at_135m(cells: list[Cell]):
    box = section(cells, "At 135M")
    if any("at_135m(" in cell.text for cell in box if cell.kind == "code"):
        return
    why = [sentence for cell in cells if cell.kind == "markdown"
           for sentence in sentences(cell.text) if sentence.startswith("No box At 135M:")]
    if not why:
        yield ("no `## At 135M` with a cell that calls at_135m(...), and no sentence that begins "
               "with \"No box At 135M:\"")


def practice_block(cells: list[Cell]) -> str | None:
    """The first block of Python under `## In practice, 2026`."""
    for cell in section(cells, "In practice, 2026"):
        if cell.kind == "markdown":
            found = re.search(r"^ *```python\n(.*?)^ *```", cell.text, flags=re.S | re.M)
            if found:
                return found.group(1)
    return None


def practice(cells: list[Cell]):
    block = practice_block(cells)
    if block is None:
        yield "no ```python block under `## In practice, 2026`"
        return
    try:
        ast.parse(block)
    except SyntaxError as error:
        yield f"the block of `## In practice, 2026` is not Python: {error}"


def exercises(cells: list[Cell], number: str):
    """At least two checks where the idea is derived, each with three hints and a solution."""
    path = EXERCISES / f"lesson_{number}.md"
    entries = dict(re.findall(r"^# (\w+)\s*\n(.*?)(?=^# \w+\s*$|\Z)",
                              path.read_text("utf-8") if path.is_file() else "",
                              flags=re.S | re.M))
    in_flow, flow = [], True
    for cell in cells:
        if cell.kind == "markdown":
            for heading in re.findall(r"^## (.*)$", cell.text, flags=re.M):
                flow = not heading.startswith(("Exercises", "In practice", "Interview", "Recap"))
            continue
        for name in re.findall(r"ft\.check\(\s*\"(\w+)\"", cell.text):
            entry = entries.get(name, "")
            hints = len(re.findall(r"^[123]\. ", entry, flags=re.M))
            if not entry:
                yield f"cell {cell.number}: {name} has no entry in lesson_{number}.md"
            elif hints != 3 or "```python" not in entry:
                yield f"lesson_{number}.md: {name} has {hints} hints of 3, or no solution"
            elif flow:
                in_flow.append(name)
    if len(in_flow) < 2:
        yield f"{len(in_flow)} exercises in the flow, where the idea is derived; at least 2"


def guesses(cells: list[Cell]):
    """A guess is drawn by the last line of its cell, and scored in a later cell, by a rule that can
    return each of its options."""
    trees = [(cell.number, ast.parse(cell.text)) for cell in cells if cell.kind == "code"]
    assigned = _assignments(tree for _, tree in trees)
    asked: dict[str, tuple[int, ast.Call]] = {}  # guesses that no cell has scored yet
    for number, tree in trees:
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        scores = [call for call in calls if isinstance(call.func, ast.Attribute)
                  and call.func.attr == "score"]
        predicts = [call for call in calls if ast.unparse(call.func) == "ft.predict"]
        if scores and predicts:
            yield f"cell {number}: asks and scores in one cell"
        for call in scores:
            name = ast.unparse(call.func.value)
            if name in asked and f"{name}.options[" not in ast.unparse(call):
                where, question = asked[name]
                possible = _strings(call, assigned)
                for option in _options(question):
                    if option not in possible:
                        yield (f"cell {number}: no outcome in `{ast.unparse(call)}` is the option "
                               f"{option!r} of cell {where}")
            asked.pop(name, None)
        for node in tree.body:
            if isinstance(node, ast.Assign) and node.value in predicts:
                name = ast.unparse(node.targets[0])
                asked[name] = number, node.value
                if ast.unparse(tree.body[-1]) != name:
                    yield f"cell {number}: its last line must be `{name}`, which draws the buttons"
    for name, (number, _) in asked.items():
        yield f"cell {number}: the guess `{name}` is scored in no later cell"


def _assignments(trees) -> dict[str, list[ast.AST]]:
    """Name -> every expression that is assigned to it, and the functions of that name."""
    found: dict[str, list[ast.AST]] = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
        if isinstance(node, ast.Assign):
            for name in (name for target in node.targets for name in ast.walk(target)):
                if isinstance(name, ast.Name):
                    found.setdefault(name.id, []).append(node.value)
    return found


def _options(call: ast.Call) -> list[str]:
    return [argument.value for argument in call.args[1:]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str)]


def _strings(node: ast.AST, assigned, depth: int = 3) -> set[str]:
    """The strings in an expression and in what was assigned to its names."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            found.add(inner.value)
        elif isinstance(inner, ast.keyword) and inner.arg:
            found.add(inner.arg)
        elif isinstance(inner, ast.Name) and depth:
            for value in assigned.get(inner.id, ()):
                if "ft.predict(" not in ast.unparse(value):
                    found |= _strings(value, assigned, depth - 1)
    return found


def stated_minutes(cells: list[Cell]):
    text = " ".join(cells[0].text.split())
    stated = re.search(r"\babout (\d+) minutes", text, re.I)
    right = rounded(minutes(cells))
    if not stated:
        yield f"the first cell does not say \"About {right} minutes\""
    elif int(stated.group(1)) != right:
        yield f"\"About {stated.group(1)} minutes\" is stated; the formula gives {right}"
    if right > MOST_MINUTES:
        yield f"{minutes(cells):.0f} minutes, more than {MOST_MINUTES}: cut or split the lesson"


def violations(source: Path) -> list[str]:
    """What keeps the lesson from the form of the second edition, one line each."""
    cells, number = cells_of(source), source.name[:2]
    rules = (banned_phrases, long_sentences, concept_figure, at_135m, practice, guesses,
             stated_minutes)
    found = [line for rule in rules for line in rule(cells)] + list(exercises(cells, number))
    hints = EXERCISES / f"lesson_{number}.md"
    if hints.is_file():
        text = Cell(-1, "markdown", hints.read_text("utf-8"))
        found += [line.replace("cell -1", hints.name) for line in banned_phrases([text])]
    return found


def main(numbers: list[str]) -> int:
    sources = ([source_of(number) for number in numbers] or
               sorted((NOTEBOOKS / "src").glob("[0-9][0-9]_*.py")))
    bad = 0
    for source in sources:
        cells, found = cells_of(source), violations(source)
        bad += len(found)
        print(f"{source.stem}: {minutes(cells):.1f} minutes, to state as "
              f"{rounded(minutes(cells))}; {len(found)} violations")
        if numbers:
            print(*(f"  {line}" for line in found), sep="\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
