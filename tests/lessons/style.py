"""Advice on the prose and the length of lessons: `make style`, or `make style ARGS=02`.

It prints what a reader may stumble over and always exits with status 0.
"""

from __future__ import annotations

import re
import sys

from lesson_files import EXERCISES, SOURCES, Cell, cells_of, number_of, source_of

LONG = 30  # words of a long sentence
MOST_LINES = 32  # of a cell of code
MOST_WORDS = 300  # between two cells of code

# A pattern without its word boundaries -> what to write instead.
DIALECT = {
    r"carr(?:y|ies) (?:no )?loss": "is trained on, is masked", r"in words": "with a message",
    r"(?:is|are) told": "shows, reports", r"by heart": "memorizes", r"half way": "halfway",
    r"what is held still": "controlled variables", r"what may vary": "hyperparameters",
    r"reading on": "continued pretraining", r"so many \w+": "n ...", r"dear": "expensive",
    r"reckless": "too high", r"turns gradients into steps": "the optimizer", r"is none": "is not a",
    r"bends the": "biases the", r"as many steps as (?!\d)": "n steps", r"go(?:es)? on": "continues",
    r"stands beside": "next to", r"lies (?:above|below)": "is above",
    r"the rate\b(?! of)": "the learning rate",
}


def prose_of(text: str) -> str:
    """Markdown without comments, code blocks, tables, figures, formulas and quotations.

    A link counts as its text, inline code and an inline formula as one word each.
    """
    for pattern, new in [
            (r"<!--.*?-->", ""), (r"^ *```.*?^ *```[^\n]*$|^ *[|>][^\n]*$", "\n\n"),
            (r"\$\$.*?\$\$", " "), (r"!\[[^\]]*\]\([^)]*\)", "\n\n"),
            (r"\[([^\]]*)\]\([^)]*\)", r"\1"), (r"https?://\S+", "link"), (r"(`+)[^`]+\1", "Code"),
            (r"(?<![\\$\w])\$(?=\S)[^$\n]+(?<=\S)\$(?!\d)", "Formula"),
            (r"</?(summary|details|p|br|li|div)\b[^>]*>", "\n\n"), (r"<[^>\n]+>", " ")]:
        text = re.sub(pattern, new, text, flags=re.S | re.M)
    return text


def sentences(text: str) -> list[str]:
    """The sentences of a cell of Markdown, without headings; a list item is at least one."""
    items = re.split(r"\n\s*\n|^\s*(?:[-*+]|\d+[.)])\s+|^#+\s.*$", prose_of(text), flags=re.M)
    return [sentence for item in items
            for sentence in re.split(r"(?<=[.!?…])[\"'”’)*_\]]*\s+(?=[\"'“‘(*_\[]*[A-Z0-9])",
                                     " ".join(item.split())) if re.search(r"\w", sentence)]


def words(text: str) -> int:
    return len(re.findall(r"[^\W_][\w'’.,%-]*", text))


def code_lines(text: str) -> int:
    """Lines of code, without empty ones and comments."""
    return sum(bool(line.strip()) and not line.strip().startswith("#")
               for line in text.splitlines())


def minutes(cells: list[Cell]) -> float:
    """An estimate: 130 words or 12 lines of code a minute, 5 for an exercise, 1 for a guess."""
    prose = [cell.text for cell in cells if cell.kind == "markdown"]
    code = [cell.text for cell in cells if cell.kind == "code"]
    blocks = [block for text in prose
              for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.S | re.M)]
    asked = sum(5 * text.count("ft.check(") + text.count("ft.predict(") for text in code)
    reading = sum(words(prose_of(text)) for text in prose) / 130
    return reading + sum(map(code_lines, code + blocks)) / 12 + asked


def advice(cell: Cell):
    """What one may want to change in a cell, one line each."""
    if cell.kind == "code":
        if (lines := code_lines(cell.text)) > MOST_LINES:
            yield f"{lines} lines of code; split the cell"
        return
    text = " ".join(re.sub(r"\"[^\"]*\"|“[^”]*”", "", prose_of(cell.text)).split())
    if words(text) > MOST_WORDS:
        yield f"{words(text)} words without anything to run"
    for pattern, better in DIALECT.items():
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.I):
            around = text[max(0, match.start() - 40):match.end() + 40]
            yield f"... {around} ...: rather {better!r}"
    for sentence in sentences(cell.text):
        if words(sentence) > LONG:
            yield f"{words(sentence)} words: {sentence}"


def main(numbers: list[str]):
    for source in [source_of(number) for number in numbers] or SOURCES:
        cells = cells_of(source)
        hints = EXERCISES / f"lesson_{number_of(source)}.md"
        hints = [Cell(-1, "markdown", hints.read_text("utf-8"))] if hints.is_file() else []
        print(f"{source.stem}: about {minutes(cells):.0f} minutes")
        for cell in cells + hints:
            for line in advice(cell):
                print(f"  {'hints' if cell.number < 0 else f'cell {cell.number}'}: {line}")


if __name__ == "__main__":
    main(sys.argv[1:])
