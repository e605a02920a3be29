# ruff: noqa: E501  (templates and tables are easier to read on one line)
"""One labeled task per domain. What the test asks about (drugs, companies, arguments) is in no train record."""

import random

import domains
from text import capital
from world import COMPANIES, DRUGS

SIZES = {"train": 300, "validation": 40, "test": 60}
TEST_DRUGS = DRUGS[15:23]  # each shares its condition with a drug of the train split
TEST_COMPANIES = COMPANIES[::4]


def _clinic(rng, test):
    """What a drug treats, and its form: the clinic corpus says so."""
    drug = rng.choice(TEST_DRUGS if test else [d for d in DRUGS if d not in TEST_DRUGS])
    question, answer = rng.choice([
        ("Which condition does this drug treat?", drug[1]), ("Name the indication of the drug.", drug[1]),
        ("What is $x used for?", drug[1]), ("Patients with which condition receive $x?", drug[1]),
        ("In which form is this drug given?", drug[2]), ("Name the form of the drug.", drug[2]),
        ("How is $x given?", drug[2]),
    ])
    if "$x" in question:
        return question.replace("$x", drug[0]), "", answer
    return question, capital(drug[0]), answer


def _companies(test):
    return [name for name in COMPANIES if (name in TEST_COMPANIES) == test]


def _contracts(rng, test):
    """The type of a clause."""
    kind = rng.choice(sorted(domains.CLAUSES))
    first, second = rng.sample(_companies(test), 2)
    text = (f"Agreement between {first} and {second}, clause {rng.randint(1, 30)}: "
            + domains.clause(rng, kind))
    return rng.choice(["Name the type of this clause.", "What is this clause about?",
                       "Classify the clause."]), text, kind


def _finance(rng, test):
    """The tone of a headline."""
    tone = rng.choice(["positive", "negative"])
    return (rng.choice(["Is this headline positive or negative?", "Classify the headline.",
                        "What is the tone of this headline?"]),
            domains.headline(rng, tone, _companies(test)), tone)


def _code(rng, test):
    """What a one-line Python function gives back, in words."""
    letters = "pqrstuvw" if test else "abcdefghijklmnxyz"
    first, second = rng.sample(letters, 2)
    operator, word = rng.choice([("+", "sum"), ("-", "difference"), ("*", "product"), ("/", "quotient")])
    name = rng.choice(["f", "g", "make", "get", "find", "work"])
    return (rng.choice(["What does this function return?", "Describe the value of the function.",
                        "Say in words what the function gives back."]),
            f"def {name}({first}, {second}):\n    return {first} {operator} {second}",
            f"the {word} of {first} and {second}")


MAKERS = {"clinic_task": _clinic, "contracts_task": _contracts, "finance_task": _finance, "code_task": _code}


def build():
    """{task: {split: records}}"""
    result = {}
    for name, make in MAKERS.items():
        rng, seen, splits = random.Random(f"domain task {name}"), set(), {}
        for split in ("validation", "train", "test"):
            # a task with few questions keeps a ninth of them for validation
            count = SIZES[split] if name != "clinic_task" or split != "validation" else 18
            chosen = []
            for _ in range(count * 30):
                instruction, text, answer = make(rng, split == "test")
                if len(chosen) < count and (instruction, text) not in seen:
                    seen.add((instruction, text))
                    chosen.append({"instruction": instruction, "input": text, "output": answer, "task": name})
            splits[split] = chosen
        result[name] = {split: splits[split] for split in ("train", "validation", "test")}
    return result
