"""The cheat sheet: one printed page a topic, with its formulas and the questions of the bank; its
numbers are computed while it is written."""

import tempfile
from pathlib import Path

from ftkit.base import files
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, number, to_html
from ftkit.interview import bank, formulas, number_answer
from ftkit.interview.proofs import core

LONG = 60  # characters of a formula that would not fit into a column as one fraction
DENSE = 18  # questions on a topic from which its page gets three columns of small letters

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>Fine-tuning cheat sheet</title><meta name="viewport" content="width=device-width">
<style>body{{font:14px/1.4 sans-serif;color:#222;background:#fff;max-width:70em;
margin:1.5em auto;padding:0 1em}}h1{{font-size:1.5em}}section>div{{columns:2;column-gap:2em}}
section.dense>div{{columns:3;column-gap:1.2em}}
h2{{font-size:1.15em;border-bottom:1px solid #888;margin:1.2em 0 .3em}}
p{{break-inside:avoid;margin:.35em 0}}b{{display:block}}i,small{{color:#444}}
dl{{display:flex;flex-wrap:wrap;gap:.4em 1.6em;margin:.4em 0}}dl div{{break-inside:avoid}}
dt{{font-weight:bold;font-size:.9em}}dd{{margin:0}}math{{font-size:1.1em;
padding:.15em 0}}
@media print{{body{{margin:0;padding:0;font-size:8.5pt;line-height:1.25;max-width:none}}
h1{{display:none}}section{{break-before:page}}section:first-of-type{{break-before:auto}}
h2{{margin:0 0 .2em}}p{{margin:.2em 0}}section.dense{{font-size:6pt;line-height:1.15}}}}
@page{{size:A4;margin:11mm}}
@media screen and (max-width:800px){{section>div,section.dense>div{{columns:1}}}}</style></head>
<body><main><h1>Fine-tuning cheat sheet</h1>{body}</main></body></html>
"""


def write(path: Path, level=None, topic=None, trains: bool = False) -> int:
    """Write the sheet as HTML (print it to PDF); returns how many questions are on it.

    The proofs compute the numbers anew. trains: also those that fine-tune the embedded model (a
    minute or two). Raises RuntimeError if a claim does not hold here.
    """
    known, chosen = core.load(), bank.questions(level, topic)
    if not chosen:
        raise UserError("no question has both this level and this topic. Leave one of them out.")
    if path.is_dir():
        raise UserError(f"{path} is a folder. Choose a file for the cheat sheet.")
    try:  # now rather than after the proofs
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}). Choose another "
                        "file.") from None
    sections = []
    for heading in bank.topics():
        asked = [question for question in chosen if question.topic == heading]
        if asked:
            items = "".join(_item(question, known, trains) for question in asked)
            dense = ' class="dense"' if len(asked) > DENSE else ""
            sections.append(f"<section{dense}><h2>{to_html(heading)}</h2>"
                            f"{_formulas(heading)}<div>{items}</div></section>")
    files.write_whole(path, PAGE.format(body="".join(sections)))
    return len(chosen)


def _formulas(topic: str) -> str:
    """The formulas of a topic, each with its title, what its names mean, and its lesson."""
    items = "".join(
        f"<div><dt>{_escape(line['title'])}</dt><dd>{formulas.mathml(line['formula'])} "
        f"<small>{_escape(line['where'])}; lesson {_escape(line['lesson'])}</small></dd></div>"
        for line in formulas.everything() if line["topic"] == topic)
    return f"<dl>{items}</dl>" if items else ""


def _item(question: bank.Question, known: dict, trains: bool) -> str:
    """A question, its short answer, its lesson, the formula of its number, and its proofs' numbers.

    Raises RuntimeError if a claim does not hold here.
    """
    facts = []
    if asked := question.number:
        facts.append(f"{_formula(asked)} ({_escape(number_answer.givens(asked))})")
    for stated in question.proofs:
        if known[stated["proof"]].trains and not trains:
            continue
        claim = core.prove(stated)
        if not claim.holds():
            raise RuntimeError(f"the claim of {question.id!r} does not hold here: {claim!r}")
        right = "" if claim.op == "==" else f" {claim.op} {number(claim.right)}"
        facts.append(_escape(f"{claim.says}: {number(claim.left)}{right} {claim.unit}"))
    return (f"<p><b>{_escape(question.question)}</b>{_escape(question.short)} "
            f"<small>lesson {_escape(question.lesson)}</small>"
            + "".join(f"<br><i>{fact}</i>" for fact in facts) + "</p>")


def _formula(asked: bank.AskedNumber) -> str:
    """The formula of a number with its value; plain text if it is long or not algebra."""
    text = _escape(number_answer.formula(asked))
    if len(asked["formula"]) > LONG:
        return text
    try:
        shown = formulas.mathml(asked["formula"], words=True)
    except ValueError:
        return text
    return f"{shown} = {_escape(number_answer.exact(asked['answer']))} {_escape(asked['unit'])}"


def _escape(text: str) -> str:
    return to_html(clean(text))
