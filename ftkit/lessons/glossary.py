"""The glossary: `ft.glossary("LoRA")` explains a term, `ft.glossary()` lists all of them.

Terms are in `glossary.md`, one line each: the term, the lesson that introduces it, other names in
brackets, and one or two sentences.
"""

import difflib
import functools
import re
import textwrap
from typing import NamedTuple

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import to_html

LINE = re.compile(r"- \*\*(?P<term>.+?)\*\* \((?P<lesson>\d\d\w?)\)"
                  r"(?: \[(?P<names>.+?)\])?: (?P<text>.+)")


class Term(NamedTuple):
    """A term, its other names, the lesson that introduces it, and its meaning."""

    term: str
    names: tuple[str, ...]
    lesson: str
    text: str

    def __repr__(self):
        also = f", also {', '.join(self.names)}" if self.names else ""
        return textwrap.fill(f"{self.term}{also} (lesson {self.lesson}): {self.text}", 90)

    def _repr_html_(self):
        return f"<div style='max-width:52em'>{_html(self)}</div>"


class Glossary:
    """All terms in alphabetical order; a notebook draws a table with a link for each letter."""

    def __init__(self, terms: list[Term]):
        self.terms = terms

    def __len__(self):
        return len(self.terms)

    def __repr__(self):
        return "\n\n".join(map(repr, self.terms))

    def _repr_html_(self):
        first: dict[str, Term] = {}
        for term in self.terms:
            first.setdefault(term.term[0].upper(), term)
        links = " ".join(f"<a href='#{anchor(term.term)}'>{letter}</a>"
                         for letter, term in first.items())
        rows = "".join(f"<p id='{anchor(term.term)}' style='margin:0 0 0.6em 0;max-width:52em'>"
                       f"{_html(term)}</p>" for term in self.terms)
        return f"<nav aria-label='letters of the glossary'>{links}</nav>{rows}"


def glossary(term: str | None = None) -> Term | Glossary:
    """The meaning of a term and the lesson that introduces it; without a term, the whole glossary.

    Case, hyphens and a plural s do not matter. Raises UserError, with similar terms, for an unknown
    one.
    """
    terms = read()
    if term is None:
        return Glossary(terms)
    known = {_key(name): entry for entry in reversed(terms) for name in _names(entry)}
    key = _key(term)
    if key in known or key.removesuffix("s") in known:
        return known.get(key) or known[key.removesuffix("s")]
    names = {_key(name): name for entry in terms for name in _names(entry)}
    near = [short for short in names if key and key in short][:5] or difflib.get_close_matches(
        key, names, n=5, cutoff=0.5)
    raise UserError(f"the glossary has no {term!r}; "
                    + (f"it has {', '.join(names[short] for short in near)}" if near else
                       "ft.glossary() lists all terms"))


def anchor(term: str) -> str:
    """HTML id of a term's entry, such as `glossary-learning-rate`."""
    return "glossary-" + re.sub(r"\W+", "-", term.lower()).strip("-")


@functools.cache
def read() -> list[Term]:
    """All terms in alphabetical order. Raises ValueError for a malformed line."""
    path = machine.package() / "lessons" / "glossary.md"
    terms = []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("-"):
            if (match := LINE.fullmatch(line)) is None:
                raise ValueError(f"{path.name}: {line[:60]!r} is not in the form of an entry")
            names = tuple((match["names"] or "").split(", ")) if match["names"] else ()
            terms.append(Term(match["term"], names, match["lesson"], match["text"]))
    return sorted(terms, key=lambda entry: entry.term.lower())


def _names(entry: Term) -> list[str]:
    return [entry.term, entry.term.partition(" (")[0], *entry.names]


def _key(name) -> str:
    return " ".join(re.sub(r"[-_]", " ", str(name).lower()).split())


def _html(entry: Term) -> str:
    also = f" (also {to_html(', '.join(entry.names))})" if entry.names else ""
    return (f"<b>{to_html(entry.term)}</b>{also}, lesson {entry.lesson}: "
            f"{to_html(entry.text)}")
