"""The sample data and the embedded base: no leaks, true facts, the same bytes again."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter

import pytest
from helpers import ROOT

pytestmark = pytest.mark.quick

DATA = ROOT / "data_samples"
RECIPE = DATA / "recipe"
TINY = ROOT / "ftkit" / "model" / "tiny"
FILES = sorted(path for path in DATA.glob("*.jsonl") if not path.name.startswith("handwritten"))
TASKS = sorted(
    {path.name.split(".")[0] for path in FILES if path.name.endswith(".test.jsonl")}
    - {"tasks", "general", "clinic", "contracts", "finance", "code", "preferences"}
)


@pytest.fixture(autouse=True)
def recipe_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))


def read(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def questions(name, *splits):
    return {(r["instruction"], r["input"]) for s in splits for r in read(f"{name}.{s}.jsonl")}


def test_every_file_has_the_fields_of_its_kind():
    kinds = [
        {"instruction", "input", "output", "task"}, {"text", "domain"},
        {"instruction", "input", "chosen", "rejected"}, {"ability", "prompt", "answer"},
    ]
    for path in FILES:
        rows = read(path.name)
        assert rows, path.name
        assert len({frozenset(row) for row in rows}) == 1, path.name
        assert set(rows[0]) in kinds, (path.name, set(rows[0]))
        assert all(isinstance(value, str) for row in rows for value in row.values()), path.name


def test_there_are_enough_tasks_and_the_union_holds_them_evenly():
    general = [name for name in TASKS if not name.endswith("_task")]
    assert len(general) >= 20
    assert {"translation", "extraction", "capital", "opposite", "plural"} <= set(general)
    for split, low, high in (("train", 3000, 4000), ("validation", 350, 450), ("test", 550, 650)):
        counts = Counter(r["task"] for r in read(f"tasks.{split}.jsonl"))
        assert set(counts) == set(general)
        assert low <= sum(counts.values()) <= high


def test_no_question_of_training_is_asked_again_in_validation_or_test():
    for name in [*TASKS, "tasks"]:
        train, validation, test = (questions(name, s) for s in ("train", "validation", "test"))
        assert not train & validation, name
        assert not (train | validation) & test, name
    everywhere = {q for name in TASKS for q in questions(name, "train", "validation")}
    assert not everywhere & {q for name in TASKS for q in questions(name, "test")}


def test_no_question_has_two_answers():
    for name in TASKS:
        answers = {}
        for split in ("train", "validation", "test"):
            for r in read(f"{name}.{split}.jsonl"):
                key = r["instruction"], r["input"]
                assert answers.setdefault(key, r["output"]) == r["output"], (name, key)


def mentioned(keys, tasks, splits, field):
    """The keys that occur as whole words in a field of the tasks' records."""
    text = "\n".join(r[field] for t in tasks for s in splits for r in read(f"{t}.{s}.jsonl"))
    found = set()
    for key in sorted(keys, key=len, reverse=True):  # "polar bear" before "bear"
        text, count = re.subn(rf"\b{re.escape(key)}\b", "_", text)
        if count:
            found.add(key)
    return found


def test_the_entities_of_the_test_split_are_never_asked_about_in_training():
    import world

    names = {
        "country": [row[0] for row in world.COUNTRIES],
        "animal": [row[0] for row in world.ANIMALS],
        "opposite": [word for row in world.OPPOSITES for word in row],
        "french": [row[0] for row in world.FRENCH_NOUNS if row[0] != "orange"],  # a color too
        "job": [row[2] for row in world.JOBS],
        "person": world.WOMEN + world.MEN,
        "tool": [row[1] for row in world.TOOLS],
        "material": [row[0] for row in world.MATERIALS],
        "color": [row[0] for row in world.COLORS_OF if row[0] not in ("orange", "chocolate")],
    }
    places = [
        ("country", ["capital", "continent", "language"], "instruction"),
        ("animal", ["animal_sound", "animal_baby", "animal_home", "animal_class"], "instruction"),
        ("opposite", ["opposite"], "output"),
        ("french", ["translation"], "input"),
        ("french", ["to_english"], "output"),
        ("job", ["job"], "instruction"),
        ("person", ["who", "owner"], "output"),
        ("tool", ["tool"], "instruction"),
        ("material", ["material"], "instruction"),
        ("color", ["color"], "instruction"),
    ]
    for kind, tasks, field in places:
        seen = mentioned(names[kind], tasks, ("train", "validation"), field)
        asked = mentioned(names[kind], tasks, ("test",), field)
        assert len(asked) >= 5, kind
        assert not seen & asked, (kind, seen & asked)


def test_facts_of_the_real_world_are_true():
    """A sample of facts, written down here without looking at the tables."""
    import world

    capitals = {row[0]: row[1:] for row in world.COUNTRIES}
    assert capitals["India"] == ("New Delhi", "Asia", "Hindi")
    assert capitals["Australia"][0] == "Canberra"
    assert capitals["Brazil"] == ("Brasilia", "South America", "Portuguese")
    assert capitals["Turkey"][0] == "Ankara"
    assert capitals["Morocco"][0] == "Rabat"
    assert capitals["Vietnam"][0] == "Hanoi"
    past = dict(world.PAST_TENSES)
    assert [past[v] for v in ("teach", "swim", "bring", "fly", "stop")] == [
        "taught", "swam", "brought", "flew", "stopped"]
    assert [world.plural(n) for n in ("ox", "leaf", "box", "city", "boy", "goose")] == [
        "oxen", "leaves", "boxes", "cities", "boys", "geese"]
    assert [world.french_the(n) for n in ("man", "house", "eye", "clock", "bread")] == [
        "l'homme", "la maison", "l'œil", "l'horloge", "le pain"]
    white = next(row for row in world.FRENCH_COLORS if row[0] == "white")
    assert world.agree(white, "house") == "blanche" and world.agree(white, "dog") == "blanc"


def test_sums_kept_out_of_the_corpus_are_in_no_task():
    import facts
    import world

    for split in ("train", "validation", "test"):
        for r in read(f"addition.{split}.jsonl"):
            x, y = (world.NUMBERS.index(w) for w in re.findall(r"[a-z]+", r["instruction"].lower())
                    if w in world.NUMBERS)
            assert world.NUMBERS[x + y] == r["output"]
            assert not facts.held_out_sum(x, y)


def test_probes_are_exact_plain_prose_of_at_least_eight_abilities():
    rows = read("probes.jsonl")
    assert len({r["ability"] for r in rows}) >= 8 and len(rows) <= 600
    assert max(Counter(r["ability"] for r in rows).values()) <= 60
    for r in rows:
        assert r["answer"].startswith(" ") and not r["prompt"].endswith((" ", "Assistant:"))
        assert "User:" not in r["prompt"] and "Instruction" not in r["prompt"]


def test_the_chat_template_never_occurs_in_the_corpus():
    import corpus

    text = "\n".join(corpus.documents(3000, "m") + corpus.documents(3000, "l", corpus.LAST_MIX))
    assert "User:" not in text and "Assistant:" not in text
    assert not re.search(r"[${}]\w", text), "an unfilled template"


def test_the_key_of_the_dirty_set_points_at_the_faults():
    rows, key = read("dirty.train.jsonl"), json.loads((DATA / "dirty_key.json").read_text())

    def at(fault):
        return [rows[line - 1] for line in key[fault]]

    def question(r):
        return r["instruction"], r["input"]

    assert all(r["output"] == "" for r in at("empty output")) and at("empty output")
    assert all(not r["output"].strip() for r in at("blank output"))
    assert all("Ã" in r["output"] for r in at("damaged encoding"))
    assert all(len(r["input"]) > 1500 for r in at("too long"))
    test = questions("tasks", "test")
    assert all(question(r) in test for r in at("leaked test record"))
    counts = Counter(json.dumps(r) for r in rows)
    assert all(counts[json.dumps(r)] > 1 for r in at("exact duplicate"))


def test_preferred_answers_differ_from_rejected_ones():
    for split in ("train", "validation", "test"):
        assert all(r["chosen"] != r["rejected"] for r in read(f"preferences.{split}.jsonl"))
    train, test = questions("preferences", "train"), questions("preferences", "test")
    assert not train & test


def test_domain_and_general_texts_are_not_repeated_across_splits():
    for name in ("general", "clinic", "contracts", "finance", "code"):
        texts = [r["text"] for s in ("train", "validation", "test")
                 for r in read(f"{name}.{s}.jsonl")]
        assert len(set(texts)) == len(texts), name


def test_the_readme_lists_every_file_with_its_rows_and_hash():
    table = dict(re.findall(r"^\| `([\w.]+)` \| (\d+ \| `\w{64})` \|$",
                            (DATA / "README.md").read_text(), re.M))
    for path in FILES:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert table[path.name] == f"{len(path.read_bytes().splitlines())} | `{digest}"


def test_the_raw_files_of_the_course_are_those_of_the_recipe_and_have_their_faults(tmp_path):
    import desk
    import samples

    desk.write(tmp_path, {name: samples.task_splits(name) for name in desk.TASKS})
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (DATA / "course" / path.name).read_bytes(), path.name
    rows, key = read("course/visitors.jsonl"), json.loads(
        (DATA / "course" / "visitors_key.json").read_text())
    assert len(rows) == 900 and len(key) == 10 and {*map(len, key.values())} == {20}
    test = [row["messages"] for row in read("course/visitors.test.jsonl")]
    assert all(rows[line - 1]["messages"] in test for line in key["leaked test record"])
    assert all("Ã" in rows[line - 1]["messages"][2]["content"] for line in key["damaged encoding"])
    prompts = {row["messages"][0]["content"].split(". ")[1] for row in rows}
    assert prompts == {"Answer in French.", "Answer in English."}


@pytest.mark.heavy
@pytest.mark.slow
def test_the_recipe_writes_the_same_bytes_again(tmp_path):
    done = subprocess.run([sys.executable, str(RECIPE / "samples.py"), str(tmp_path)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("*.jsonl")} == {path.name for path in FILES}
    for path in tmp_path.glob("*.*"):
        assert path.read_bytes() == (DATA / path.name).read_bytes(), path.name


def test_the_sample_data_stays_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 7e6


# ---- the embedded base


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast.from_pretrained(TINY)


@pytest.mark.heavy
def test_begin_end_and_padding_are_three_tokens(tokenizer):
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert len(ids) == 3 and None not in ids


@pytest.mark.heavy
def test_the_prompt_is_a_prefix_of_the_whole_and_the_answer_reads_as_in_running_text(tokenizer):
    question = [{"role": "user", "content": "What is the capital of France?\nNow."}]
    for answer in ("Paris", "12", "l'œil", "(no)"):
        whole = question + [{"role": "assistant", "content": answer}]
        prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        text = tokenizer.apply_chat_template(whole, tokenize=False)
        assert text.startswith(prompt)
        ids = [tokenizer(t, add_special_tokens=False).input_ids for t in (prompt, text)]
        assert ids[1][: len(ids[0])] == ids[0]
        assert ids[0].count(tokenizer.bos_token_id) == 1 and ids[0][0] == tokenizer.bos_token_id
        in_text = tokenizer(" " + answer, add_special_tokens=False).input_ids
        assert ids[1][len(ids[0]):] == in_text + [tokenizer.eos_token_id]


@pytest.mark.heavy
def test_the_log_ends_with_the_scores_the_base_has_now(tokenizer):
    """The shipped weights are those that the log speaks of."""
    import pretrain
    import torch
    from transformers import LlamaForCausalLM

    last = [json.loads(x) for x in (RECIPE / "pretrain_log.jsonl").read_text().splitlines()][-1]
    model = LlamaForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    scores = pretrain.probe_scores(model, tokenizer, read("probes.jsonl"))
    assert set(scores) == set(last["probes"])
    for ability, score in scores.items():
        assert abs(score - last["probes"][ability]) <= 0.051, (ability, score)
    assert sum(scores.values()) / len(scores) > 0.85
