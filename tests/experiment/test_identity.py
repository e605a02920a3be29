"""A stored run stands for a request only if nothing that decides its result has changed since."""

import json
import os
import shutil

import pytest

import ftkit as ft
from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.experiment import store
from ftkit.model import cache, identity, loading

RECORDS = [{"instruction": f"Name {n}.", "input": "", "output": f"number {n}"} for n in range(20)]
WORDS = ("--probe", "none", "--max-steps", 1, "--max-length", 64, "--quiet")


@pytest.fixture
def base(tmp_path):
    shutil.copytree(machine.package() / "model" / "tiny", tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base, tmp_path):
    import peft

    model, tokenizer = loading.load(str(base))
    model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], r=2))
    return loading.save(model, tokenizer, tmp_path / "adapter")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


NEW = ("vocab.txt", "merges.txt", "vocab.json", "tokenizer.model", "tekken.json",
       "special_tokens_map.json", "added_tokens.json", "additional_chat_templates/tool.jinja")


def edits(folder):
    """Functions that change what is read from a folder, each with one that takes it back."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() or path.name in ("README.md", "SHA256", "ftkit_run.json"):
            continue
        whole, about = path.read_bytes(), path.stat()
        changes = [None, whole + b" ", *(
            whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
            for at in (0, 8, len(whole) // 3, len(whole) // 2, len(whole) - 1))]
        for content in changes:  # at the same time, and most of the same size
            yield (path.unlink if content is None else lambda p=path, c=content: p.write_bytes(c),
                   lambda p=path, w=whole: p.write_bytes(w), lambda p=path, a=about: os.utime(
                       p, ns=(a.st_atime_ns, a.st_mtime_ns)) if p.exists() else None)
    for name in NEW:
        path = folder / name
        yield (lambda p=path: (p.parent.mkdir(exist_ok=True), p.write_text("{}")), path.unlink,
               lambda: None)


def harmless(folder):
    """Changes of a folder that no result depends on."""
    for path in folder.glob("*.json"):
        path.touch()
    (folder / "README.md").write_text("Another text.")
    (folder / "ftkit_run.json").write_text("{}")
    (folder / ".git").mkdir(exist_ok=True)
    (folder / "checkpoint-5").mkdir(exist_ok=True)
    (folder / "checkpoint-5" / "model.safetensors").write_text("")


def test_each_of_100_edits_of_model_adapter_and_base_is_another_model(base, adapter):
    tried = 0
    for name, places in ((base, [base]), (adapter, [base, adapter])):
        before = identity.of(str(name))
        for place in places:
            for change, restore, same_time in edits(place):
                change(), same_time()
                try:
                    after = identity.of(str(name))
                except UserError:  # no model any more
                    after = None
                assert after != before
                restore(), same_time()
                tried += 1
        harmless(name)
        assert identity.of(str(name)) == before
    assert tried > 100
    shutil.copytree(base, base.with_name("copy"))
    assert identity.of(str(base.with_name("copy"))) == identity.of(str(base))


def test_every_edit_of_an_experiment_is_another_experiment(data, base, tmp_path, monkeypatch):
    general = tmp_path / "general.jsonl"
    shutil.copy(data, general)
    given = dict(model=str(base), data=str(data), probes={"p": RECORDS[:3]}, val=RECORDS[:2],
                 replay_from=str(general))
    before = ft.Experiment(**given).identity()
    model, tokenizer = ft.load("tiny")
    pair = ft.Experiment(**given | {"model": (model, tokenizer)}).identity()
    for change in (dict(val=RECORDS[:3]), dict(probes={}), dict(probes={"q": RECORDS[:3]}),
                   dict(template="{instruction} {output}"), dict(eval_records=5),
                   dict(model="tiny"), dict(metrics={"m": lambda *_: 1}),
                   dict(replay_from="general"), dict(probes={"p": RECORDS[1:4]})):
        assert ft.Experiment(**given | change).identity() != before
    for n in range(len(RECORDS)):
        for path in (data, general):
            whole = path.read_text()
            path.write_text(whole.replace(f"number {n}\"", f"Number {n}\""))
            assert ft.Experiment(**given).identity() != before
            path.write_text(whole)
    assert ft.Experiment(**given).identity() == before
    tokenizer.chat_template += " "
    assert ft.Experiment(**given | {"model": (model, tokenizer)}).identity() != pair
    monkeypatch.setenv("FTKIT_TIER", "smoke")
    assert ft.Experiment(**given).identity() != before


def test_the_command_trains_again_what_has_changed_and_nothing_else(base, adapter, data, home,
                                                                    ftkit):
    def trains(model) -> bool:
        status, out, err = ftkit("run", "--model", model, "--data", data, *WORDS)
        assert status == 0, err
        return "the same run is stored" not in err

    assert trains(base) and trains(adapter)
    harmless(base), harmless(adapter)
    base.rename(base.with_name("moved")), shutil.copytree(base.with_name("moved"), base)
    assert not trains(base) and not trains(base.with_name("moved")) and not trains(adapter)
    template = base / "chat_template.jinja"
    template.write_text("{# another #}" + template.read_text())
    assert trains(base) and trains(adapter) and not trains(base)


def test_a_run_of_another_version_or_code_is_not_continued(data, home, ftkit, tmp_path):
    ftkit("run", "--data", data, *WORDS)
    (id,) = store.ids()
    path = store.folder_of(id) / "result.json"
    whole = json.loads(path.read_text())
    for place, name, value in (("versions", "torch", "1.0"), ("data", "made_of", {}),
                               ("versions", "ftkit", "0.0"), ("data", "held_still", [])):
        changed = json.loads(path.read_text())
        changed[place][name] = value
        path.write_text(json.dumps(changed))
        status, out, err = ftkit("run", "--data", data, *WORDS)
        if name == "torch":
            assert "is stored" in err and "made with torch 1.0 (here 2" in out
        else:
            assert "is stored" not in err and status == 0
        for other in set(store.ids()) - {id}:
            shutil.rmtree(store.folder_of(other))
        path.write_text(json.dumps(whole))
    copied = path.parent.with_name("20200101-000000-abcd")
    shutil.copytree(path.parent, copied)
    assert store.load_run(copied.name).id == copied.name, "whatever run.json says"


def test_a_model_that_changes_while_a_process_lives_is_read_again(base):
    first = cache.fresh(str(base))[0]
    other, tokenizer = ft.load("tiny")
    other.lm_head.weight.data.mul_(0.5)
    loading.save(other, tokenizer, base)
    second = cache.fresh(str(base))[0]
    assert not first.lm_head.weight.equal(second.lm_head.weight)
