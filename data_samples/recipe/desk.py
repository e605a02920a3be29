"""The raw files of the course: the notes of a lost-property desk (the tour) and the questions of
visitors (the capstone), each with faults that `course/visitors_key.json` names for the second.
"""

import csv
import io
import json
import random

import dirt

NOTES = 300  # clean rows of the desk's notes
DESK = {"exact duplicate": 20, "near duplicate": 15, "empty output": 8, "leaked test record": 12}
MAILS = 5  # notes in which somebody has left an address
TASKS = {"translation": "Answer in French.", "to_english": "Answer in English.",
         "extraction": "Answer in English.", "form_field": "Answer in English."}
VISITORS = ("exact duplicate", "near duplicate", "contradiction", "wrong output", "empty output",
            "leaked test record", "too long", "damaged encoding", "markup left over", "cut off")
CLEAN, OF_EACH = 700, 20


def notes(splits):
    """The desk's export as text of a CSV file; splits: those of the task `extraction`."""
    rng = random.Random("desk")
    good = rng.sample(splits["train"], NOTES)
    pool = [record for record in splits["train"] if record not in good]
    rows = list(good)
    for fault, count in DESK.items():
        rows += [dirt.spoil(rng, fault, pool, good, splits["test"]) for _ in range(count)]
    for number in range(MAILS):
        record = dict(pool.pop())
        rows.append(record | {"input": f"{record['input']} Write to desk{number}@station.net."})
    rng.shuffle(rows)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["question", "context", "answer"])
    lines.writerows([row["instruction"], row["input"], row["output"]] for row in rows)
    return text.getvalue()


def chat(record):
    question = "\n".join(filter(None, (record["instruction"], record["input"])))
    system = f"You answer visitors of a museum. {TASKS[record['task']]}"
    return {"messages": [{"role": role, "content": content} for role, content in (
        ("system", system), ("user", question), ("assistant", record["output"]))]}


def visitors(by_task):
    """({file name: chats}, {fault: line numbers}): 900 rows, two languages, system prompts."""
    rng = random.Random("visitors")
    train, test = ([record for name in TASKS for record in by_task[name][split]]
                   for split in ("train", "test"))
    good = rng.sample(train, CLEAN)
    pool = [record for record in train if record not in good]
    rows = [(record, None) for record in good]
    for fault in VISITORS:
        rows += [(dirt.spoil(rng, fault, pool, good, test), fault) for _ in range(OF_EACH)]
    rng.shuffle(rows)
    key = {fault: [line for line, (_, found) in enumerate(rows, 1) if found == fault]
           for fault in VISITORS}
    return {"visitors.jsonl": [chat(record) for record, _ in rows],
            "visitors.test.jsonl": [chat(record) for record in test]}, key


def write(folder, by_task):
    folder.mkdir(exist_ok=True)
    (folder / "front_desk.csv").write_bytes(notes(by_task["extraction"]).encode())
    files, key = visitors(by_task)
    for name, records in files.items():
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        (folder / name).write_bytes("".join(lines).encode())
    (folder / "visitors_key.json").write_text(json.dumps(key, indent=1) + "\n")
