"""The runs of the two worked capstones; prints their tables as Markdown.

    python docs/capstones/make.py visitors > visitors.txt      five minutes of processor time
    python docs/capstones/make.py characters > characters.txt
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from unicodedata import ucd_3_2_0 as unicode  # the same in every version of Python

import ftkit as ft
from ftkit.inside import convert, export, metrics, parity, shipped_folder
from ftkit.model.export import keep_recipe

SEEDS = (10, 11, 12)


class Study:
    """One capstone: its records, the base, and what is measured of a model."""

    def __init__(self, train, test, **settings):
        self.train, self.val = ft.split(train, 0.1, seed=0)
        self.test, self.settings = test, {"precision": "fp32", **settings}
        self.base, self.tokenizer = ft.load("tiny")
        self.sentences = ft.load_probes()[::4]

    def run(self, seed, leaks=(), **settings):
        """A run; leaks: further records to train on."""
        lab = ft.Experiment(model="tiny", data=[*self.train, *leaks], val=self.val)
        return lab.run(ft.Config(seed=seed, **self.settings | settings), live=False)

    def exact(self, model, records) -> float:
        return ft.exact_match(model, self.tokenizer, records)

    def kept(self, model) -> float:
        by_ability = ft.probe_scores(model, self.tokenizer, self.sentences)
        return sum(by_ability.values()) / len(by_ability)

    def right(self, model) -> list[bool]:
        given = ft.answers(model, self.tokenizer, self.test)
        return [answer.strip().lower() == expected.strip().lower()
                for answer, expected in zip(given, map(_answer, self.test), strict=True)]

    def choose(self, rates, **settings) -> tuple[float, list[float]]:
        """The learning rate with the best exact match on validation with seed 0, and all of these;
        the lower on a tie."""
        scores = [self.exact(self.run(0, learning_rate=rate, **settings).model, self.val)
                  for rate in rates]
        return rates[scores.index(max(scores))], scores


def _answer(record) -> str:
    return record["messages"][-1]["content"] if "messages" in record else record["output"]


def show(title: str, rows: list[dict]):
    """A table; a list in a cell has one value for each seed."""
    def cell(value):
        if isinstance(value, list):
            return " ".join(map(cell, value))
        return f"{value:.3f}" if isinstance(value, float) and value < 1e3 else str(value)

    print(f"\n{title}\n\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(map(cell, row.values()))} |")


def compared(study: Study, conditions: dict[str, dict], **extra) -> dict[str, dict]:
    """Train each condition with each seed and print what it learned and kept."""
    found: dict[str, dict] = {}
    for name, settings in conditions.items():
        runs = [study.run(seed, **settings) for seed in SEEDS]
        found[name] = {"runs": runs, "right": [study.right(run.model) for run in runs]}
    show("Results", [{"condition": name, "exact match, test": [
        sum(right) / len(right) for right in one["right"]],
        "general_loss": [run.after["general_loss"] for run in one["runs"]],
        "sentences kept": [study.kept(run.model) for run in one["runs"]]}
        for name, one in found.items()])
    first, *others = found
    show(f"Paired tests (McNemar) against {first}, a seed each", [{
        "condition": name, "p": [metrics.mcnemar(a, b) for a, b in zip(
            found[first]["right"], found[name]["right"], strict=True)]} for name in others])
    return found


# ------------------------------------------------------------------------------------ visitors


def visitors() -> tuple[Study, list, int]:
    """The study, the test records that are also in the raw file, and how many rows are left out."""
    raw = shipped_folder("data_samples") / "course" / "visitors.jsonl"
    test = ft.records(str(raw.with_name("visitors.test.jsonl")))
    records, left_out = convert.convert(raw, skip=True, dedup=True, suspect=True,
                                        against=raw.with_name("visitors.test.jsonl"))
    good = [record for record in records if not spoiled(record)]
    raw_prompts = {str(row["messages"][:-1])
                   for row in map(json.loads, raw.read_text("utf-8").splitlines())}
    leaked = [record for record in test if str(record["messages"][:-1]) in raw_prompts]
    return Study(good, test, max_steps=100, eval_steps=100), leaked, left_out + len(records) - len(
        good)


def spoiled(record) -> bool:
    """What reading twenty rows has shown and the check does not leave out."""
    texts = [message["content"] for message in record["messages"]]
    return any("Ã" in text or "<" in text or len(text) > 400 for text in texts)


def of_visitors():
    study, leaked, left_out = visitors()
    print(f"{left_out} of 900 rows left out; {len(study.train)} to train on, {len(study.val)} for "
          f"validation; {len(leaked)} test records are in the raw file")
    shots = "".join(f"{r['messages'][1]['content']}\n{_answer(r)}\n\n" for r in study.train[:3])
    asked = [{"instruction": shots + r["messages"][1]["content"], "input": "", "output": _answer(r)}
             for r in study.test]
    show("Baselines on the test", [
        {"baseline": "the question alone", "exact match": study.exact(study.base, study.test)},
        {"baseline": "three examples in front", "exact match": ft.exact_match(
            study.base, study.tokenizer, asked, template="{instruction}\n{output}")}])
    print(f"\nThe base: general_loss {study.run(0, max_steps=1).before['general_loss']:.3f}, "
          f"sentences kept {study.kept(study.base):.3f}")
    rates = [3e-4, 1e-3, 2e-3]
    chosen = {replay: study.choose(rates, replay=replay) for replay in (0.0, 0.3)}
    show("Learning rates: exact match on validation, seed 0", [
        {"replay": replay, **dict(zip(map("{:g}".format, rates), scores, strict=True)),
         "chosen": f"{best:g}"} for replay, (best, scores) in chosen.items()])
    found = compared(study, {
        "no replay": {"learning_rate": chosen[0.0][0]},
        "replay": {"learning_rate": chosen[0.3][0], "replay": 0.3},
        "no replay, a third of the learning rate": {"learning_rate": chosen[0.0][0] / 3}})
    with_leaks = study.run(SEEDS[0], leaks=leaked, learning_rate=chosen[0.0][0])
    clean = found["no replay"]["runs"][0]
    show("What the leaks would have been worth, no replay, first seed", [
        {"trained": name, "leaked test records": study.exact(run.model, leaked),
         "all test records": study.exact(run.model, study.test)}
        for name, run in (("without them", clean), ("with them", with_leaks))])
    run = found["replay"]["runs"][0]
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "tuned"
        run.model.save_pretrained(source)
        study.tokenizer.save_pretrained(source)
        keep_recipe(run, source)
        folder = export(source, Path(work) / "gguf", "f16")
        same = parity.compare(source, folder, study.test, reader="transformers")
    print(f"\nGGUF file in f16: {same['same']} of {same['prompts']} answers equal, token by token")


# ---------------------------------------------------------------------------------- characters

KINDS = {"Lu": "capital", "Ll": "small", "No": "number", "Nd": "number", "Mn": "mark",
         "Sm": "symbol", "So": "symbol", "Po": "sign"}


def characters() -> tuple[list[dict], list[dict]]:
    """(train, test): names of characters and their kind. A family of names, which begin with the
    same word, such as GREEK, is in one of the two only."""
    families: dict[str, list[dict]] = {}
    for code in range(0x20, 0x2C00):
        name, kind = unicode.name(chr(code), ""), KINDS.get(unicode.category(chr(code)))
        if name and kind:
            families.setdefault(name.split()[0], []).append({
                "instruction": "What kind of character is this?", "input": name.lower(),
                "output": kind})
    rng, names = random.Random(0), sorted(families)
    rng.shuffle(names)
    train, test = [], []
    for name in names:
        part = test if len(test) < 300 and len(families[name]) < 100 else train
        part += rng.sample(families[name], min(60, len(families[name])))
    return rng.sample(train, 900), test


def rule(record) -> str:
    """The rule of ten lines that the tuned model has to beat, written from the training rows."""
    name = record["input"]
    for words, kind in (("capital letter", "capital"), ("small letter", "small"),
                        ("vowel sign|combining|accent|virama|tone|points", "mark"),
                        ("digit|number|numeral|fraction|ideograph", "number"),
                        ("stop|comma|question|quotation|punctuation|danda|asterisk", "sign")):
        if any(word in name for word in words.split("|")):
            return kind
    return "symbol"


def of_characters():
    train, test = characters()
    study = Study(train, test, max_steps=60, eval_steps=60)
    print(f"{len(study.train)} to train on, {len(study.val)} for validation, {len(test)} to test "
          "on")
    by_rule = [rule(record) == record["output"] for record in test]
    show("Baselines on the test", [
        {"baseline": "the question alone", "exact match": study.exact(study.base, test)},
        {"baseline": "always symbol", "exact match": sum(
            record["output"] == "symbol" for record in test) / len(test)},
        {"baseline": "a rule of ten lines", "exact match": sum(by_rule) / len(by_rule)}])
    print(f"\nThe base: general_loss {study.run(0, max_steps=1).before['general_loss']:.3f}, "
          f"sentences kept {study.kept(study.base):.3f}")
    sides = {"full": [3e-4, 1e-3], "lora": [2e-3, 5e-3]}
    chosen = {method: study.choose(rates, method=method) for method, rates in sides.items()}
    for method, (best, scores) in chosen.items():
        show(f"Learning rates of {method}: exact match on validation, seed 0", [
            {f"{rate:g}": score for rate, score in zip(sides[method], scores, strict=True)}
            | {"chosen": f"{best:g}"}])
    found = compared(study, {method: {"method": method, "learning_rate": best}
                             for method, (best, _) in chosen.items()})
    show("Families of names that were trained on, and new ones", [
        {"condition": method, "validation, known families": [
            study.exact(run.model, study.val) for run in one["runs"]],
         "test, new families": [sum(right) / len(right) for right in one["right"]],
         "p against the rule": [metrics.mcnemar(by_rule, right) for right in one["right"]]}
        for method, one in found.items()])


if __name__ == "__main__":
    {"visitors": of_visitors, "characters": of_characters}[sys.argv[1]]()
