"""Writes every data file of `data_samples` (all but the hand-written set); always the same bytes.

    python data_samples/recipe/samples.py [FOLDER]

Without FOLDER it also renews the table of files in `data_samples/README.md`.
"""

import hashlib
import json
import random
import sys
from pathlib import Path

import corpus
import desk
import dirt
import domain_tasks
import domains
import probes
import tasks

FOLDER = Path(__file__).parents[1]
BEGIN, END = "<!-- files: begin -->", "<!-- files: end -->"
SIZES = {"train": 400, "validation": 50, "test": 60}  # of each task, where it has so many
MORE = {"translation": 800}  # train records of the task that the first lesson tunes
UNION = {"train": 125, "validation": 14, "test": 20}  # of each task in "tasks"
CORPORA = {
    "clinic": domains.clinic, "contracts": domains.contract, "finance": domains.finance,
    "code": domains.code,
}


def task_splits(name):
    """{split: records} of one task. Validation shares its entities with train, test does not."""
    rng = random.Random(f"task {name}")
    wanted = MORE.get(name, SIZES["train"]) + SIZES["validation"]
    seen = tasks.distinct(rng, name, wanted)
    count = min(SIZES["validation"], len(seen) // 9)
    test = tasks.distinct(rng, name, SIZES["test"], test=True)
    return {"train": seen[count:], "validation": seen[:count], "test": test}


def union(by_task):
    """{split: records}: the same number of records of each task, shuffled."""
    merged = {}
    for split, count in UNION.items():
        records = [r for splits in by_task.values() for r in splits[split][:count]]
        random.Random(f"union {split}").shuffle(records)
        merged[split] = records
    return merged


def texts(generator, domain, sizes):
    """{split: text records} with no text in two splits."""
    rng, seen, splits = random.Random(f"texts {domain}"), set(), {}
    for split, count in sizes.items():
        chosen = []
        for _ in range(count * 50):
            if len(chosen) == count:
                break
            text = generator(rng).strip()
            if text not in seen:
                seen.add(text)
                chosen.append({"text": text, "domain": domain})
        splits[split] = chosen
    return splits


def domain_page(generator):
    """Several samples of a domain as one text, about as long as a paragraph."""
    return lambda rng: "\n".join(generator(rng).strip("\n") for _ in range(3))


def general_text(rng):
    while True:
        generator = rng.choices(*zip(*corpus.MIX, strict=True))[0]
        if generator is not domains.base_sample:
            return corpus.document(rng, generator)


PAIRS = {"train": 400, "validation": 60, "test": 60}
WORDY = [
    "I think that the answer might be {a}, but I am not sure.", "{a}, {a}, {a}, {a}.",
    "That is a good question. Many people ask it. It is {a}.", "Well, let me see. It could be {a}.",
]


def preferences(by_task):
    """{split: pairs}: the short right answer is chosen; a wrong or a wordy one is rejected."""
    asked = (
        "capital opposite plural past_tense color animal_baby category french_word"
    ).split()
    splits = {}
    for split, count in PAIRS.items():
        rng, pairs = random.Random(f"preferences {split}"), []
        pool = [r for name in asked for r in by_task[name][split]]
        for record in rng.sample(pool, min(count, len(pool))):
            if rng.random() < 0.5:
                outputs = {r["output"] for r in by_task[record["task"]][split]}
                rejected = rng.choice(sorted(outputs - {record["output"]}))
            else:
                rejected = rng.choice(WORDY).format(a=record["output"])
            pairs.append({"instruction": record["instruction"], "input": record["input"],
                          "chosen": record["output"], "rejected": rejected})
        splits[split] = pairs
    return splits


def build():
    """{file name: list of records} for every JSONL file."""
    files = {}

    def add(name, splits):
        for split, records in splits.items():
            files[f"{name}.{split}.jsonl"] = records

    by_task = {name: task_splits(name) for name in tasks.TASKS}
    for name, splits in by_task.items():
        add(name, splits)
    merged = union(by_task)
    add("tasks", merged)
    add("general", texts(general_text, "general", {"train": 2000, "validation": 300, "test": 300}))
    for name, generator in CORPORA.items():
        add(name, texts(domain_page(generator), name, {"train": 500, "validation": 60, "test": 60}))
    for name, splits in domain_tasks.build().items():
        add(name, splits)
    add("preferences", preferences(by_task))
    files["dirty.train.jsonl"], key = dirt.build(merged)
    files["probes.jsonl"] = probes.build()
    return files, key


def write(folder):
    files, key = build()
    for name, records in files.items():
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        (folder / name).write_bytes("".join(lines).encode())
    (folder / "dirty_key.json").write_text(json.dumps(key, indent=1) + "\n")
    desk.write(folder / "course", {name: task_splits(name) for name in desk.TASKS})
    return files


def table(folder):
    """The Markdown table of every JSONL file in the folder: name, rows, sha256."""
    lines = ["| file | rows | sha256 |", "|---|---:|---|"]
    for path in sorted(folder.glob("*.jsonl")):
        data = path.read_bytes()
        rows, digest = len(data.splitlines()), hashlib.sha256(data).hexdigest()
        lines.append(f"| `{path.name}` | {rows} | `{digest}` |")
    return "\n".join(lines)


def update_readme(folder):
    """Puts the current table between the marks of `README.md`."""
    readme = folder / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{table(folder)}\n{END}{after}")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    write(target)
    if target == FOLDER:
        update_readme(target)
    print(table(target))
