"""The cheat sheet: the bank on a few pages to print, its numbers computed while it is written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, number, to_html
from ftkit.interview import bank
from ftkit.interview.number_answer import formula, givens
from ftkit.interview.proofs import core

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<title>Fine-tuning cheat sheet</title><meta name="viewport" content="width=device-width">
<style>body{{font:13px/1.35 sans-serif;color:#222;background:#fff;margin:1.5em;columns:2;
column-gap:2em}}h1{{column-span:all;font-size:1.5em}}
h2{{font-size:1.15em;border-bottom:1px solid #888;margin:1em 0 .3em;break-after:avoid}}
div{{break-inside:avoid;margin:.45em 0}}b{{display:block}}i{{color:#444}}
@media print{{body{{margin:0;font-size:9pt}}
h2{{break-before:page;column-span:all}}}}@page{{margin:14mm}}
@media (max-width:800px){{body{{columns:1}}}}</style><h1>Fine-tuning cheat sheet</h1>{body}</html>
"""


def write(path: Path, level=None, topic=None, trains: bool = False) -> int:
    """Write the sheet as HTML (print it to PDF); returns how many questions are on it.

    Numbers are what the proofs compute now; trains: also those that fine-tune the embedded model
    (a minute or two). Raises UserError if a claim does not hold here.
    """
    known, chosen = core.load(), bank.questions(level, topic)
    if not chosen:
        raise UserError("no question has this level and topic; leave one of them out")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file for the cheat sheet")
    tempfile.TemporaryFile(dir=path.parent).close()  # fails now rather than after the proofs
    parts, heading = [], None
    for question in sorted(chosen, key=lambda q: bank.topics().index(q.topic)):
        if question.topic != heading:
            heading = question.topic
            parts.append(f"<h2>{to_html(heading)}</h2>")  # starts a page when printed
        facts = [f"{formula(asked)} ({givens(asked)})"] if (asked := question.number) else []
        for stated in question.proofs:
            if known[stated["proof"]].trains and not trains:
                continue
            claim = core.prove(stated)
            if not claim.holds():
                raise UserError(f"the claim of {question.id!r} does not hold here: {claim!r}")
            right = "" if claim.op == "==" else f" {claim.op} {number(claim.right)}"
            facts.append(f"{claim.says}: {number(claim.left)}{right} {claim.unit}")
        parts.append(
            f"<div><b>{to_html(clean(question.question))}</b>"
            f"{to_html(clean(question.short))}"
            + "".join(f"<br><i>{to_html(clean(f))}</i>" for f in facts) + "</div>")
    path.write_text(PAGE.format(body="".join(parts)), encoding="utf-8")
    return len(chosen)
