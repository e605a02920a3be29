"""A deliberately dirty instruction set, and the key that says what is wrong where.

Every line is valid JSON with string fields, so that `datasets` reads the file; the faults are in
the content.
"""

import random

COUNTS = {
    "typos": 40,
    "wrong output": 40,
    "exact duplicate": 30,
    "near duplicate": 30,
    "contradiction": 15,
    "empty output": 10,
    "blank output": 5,
    "empty instruction": 5,
    "leaked test record": 20,
    "too long": 5,
    "damaged encoding": 20,
    "markup left over": 10,
    "cut off": 10,
    "wrong task": 10,
}
CLEAN = 500


def build(splits):
    """(records, {fault: [line numbers]}) made from the splits of "tasks"."""
    rng = random.Random("dirt")
    good = rng.sample(splits["train"], CLEAN)
    pool = [r for r in splits["train"] if r not in good]
    rows = [(dict(record), None) for record in good]
    for fault, count in COUNTS.items():
        for _ in range(count):
            rows.append((spoil(rng, fault, pool, good, splits["test"]), fault))
    rng.shuffle(rows)
    key = {fault: [] for fault in COUNTS}
    for line, (_, fault) in enumerate(rows, 1):
        if fault:
            key[fault].append(line)
    return [record for record, _ in rows], key


def _typos(rng, text):
    letters = list(text)
    for _ in range(max(1, len(letters) // 12)):
        i = rng.randrange(len(letters) - 1)
        if rng.random() < 0.5:
            letters[i], letters[i + 1] = letters[i + 1], letters[i]
        else:
            letters[i] = rng.choice("abcdefghijklmnopqrstuvwxyz")
    return "".join(letters)


def spoil(rng, fault, pool, good, test):
    if fault in ("exact duplicate", "near duplicate", "contradiction"):
        record = dict(rng.choice(good))
    elif fault == "leaked test record":
        return dict(rng.choice(test))
    else:
        record = dict(pool.pop(rng.randrange(len(pool))))
    same_task = [r for r in good if r["task"] == record["task"]]
    other = rng.choice([r for r in same_task if r["output"] != record["output"]])
    if fault == "typos":
        field = "input" if record["input"] else "instruction"
        record[field] = _typos(rng, record[field])
    elif fault in ("wrong output", "contradiction"):
        record["output"] = other["output"]
    elif fault == "near duplicate":
        record["instruction"] = rng.choice(["Please: ", "  ", "Q: "]) + record["instruction"]
    elif fault == "empty output":
        record["output"] = ""
    elif fault == "blank output":
        record["output"] = "   "
    elif fault == "empty instruction":
        record["instruction"] = ""
    elif fault == "too long":
        record["input"] = (record["input"] + " and so on and so on") * 150
    elif fault == "damaged encoding":
        record["output"] = (record["output"] + " naïve café").encode().decode("latin-1")
    elif fault == "markup left over":
        record["output"] = f"<p><b>{record['output']}</b>&nbsp;</p>"
    elif fault == "cut off":
        record["output"] = record["output"][: max(1, len(record["output"]) // 2)]
    elif fault == "wrong task":
        record["task"] = rng.choice([r["task"] for r in good if r["task"] != record["task"]])
    return record
