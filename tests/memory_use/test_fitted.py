"""In a notebook a run that does not fit is made in smaller parts, so that later cells have it."""


import pytest

import ftkit as ft
from ftkit.base import free_memory, machine
from ftkit.memory_use import cheaper_configs, preflight

RECORDS = [{"instruction": f"Name the number {n} of the long list of numbers.", "input": "",
            "output": f"number {n} of the list"} for n in range(80)]
LARGE = ft.Config(batch_size=64, max_steps=2, eval_steps=2, precision="fp32")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    return ft.Experiment(data=RECORDS, val=RECORDS[:8], probes=())


@pytest.fixture(scope="module")
def between():
    """Bytes between what the whole batch needs and what a part of it needs."""
    lab = ft.Experiment(data=RECORDS, val=RECORDS[:8], probes=())
    facts = lab.model_facts()
    search = preflight.FitSearch(lab, facts, "cpu", 0)
    whole, part = (search.bytes_to_have_free(facts.resolve(LARGE.but(batch_size=n)))
                   for n in (64, 16))
    free = int(part / preflight.PROPOSED) + 2**20
    assert free < whole
    return free


@pytest.fixture
def short_of_memory(between, monkeypatch):
    monkeypatch.setattr(machine, "device", lambda: "cpu")
    monkeypatch.setattr(free_memory, "available", lambda: between)


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setattr(machine, "in_notebook", lambda: True)


def test_a_run_in_a_notebook_is_made_in_parts_that_learn_the_same_and_says_so(
        lab, short_of_memory, notebook, capfd, monkeypatch):
    run = lab.run(LARGE, live=False)
    assert run.config.batch_size < 64
    assert run.config.batch_size * run.config.gradient_accumulation_steps == 64
    said = run.notes[0]
    assert "so it uses batch_size=" in said and "which learns the same" in said
    assert said in capfd.readouterr().err and said in run._repr_html_()
    monkeypatch.undo()
    whole = lab.run(LARGE, live=False)
    assert [row["loss"] for row in run.rows] == pytest.approx(
        [row["loss"] for row in whole.rows], abs=1e-4)
    assert not [note for note in whole.notes if "made with" in note]


def test_so_is_every_run_of_a_sweep(lab, short_of_memory, notebook):
    runs = lab.sweep(LARGE.but(max_steps=1), seed=[0, 1])
    assert [run.config.seed for run in runs] == [0, 1]
    assert all("so it uses" in run.notes[0] for run in runs)


def test_elsewhere_it_is_refused_as_before(lab, short_of_memory):
    with pytest.raises(preflight.TooBig, match="learns the same") as refused:
        lab.run(LARGE, live=False)
    assert cheaper_configs.learns_the_same(refused.value.change)


def test_where_only_another_run_would_fit_the_cells_to_run_again_are_said(lab, notebook,
                                                                         monkeypatch):
    monkeypatch.setattr(machine, "device", lambda: "cpu")
    monkeypatch.setattr(free_memory, "available", lambda: 2**20)
    with pytest.raises(preflight.TooBig, match="run it again, then run those again"):
        lab.run(LARGE, live=False, method="lora", batch_size=1, gradient_checkpointing=True,
                max_length=64)  # of which little is left to change


CELLS = """
import ftkit as ft
from ftkit.base import free_memory, machine
from ftkit.memory_use import preflight
records = [{"instruction": f"Name the number {n} of the long list of numbers.", "input": "",
            "output": f"number {n} of the list"} for n in range(80)]
lab = ft.Experiment(data=records, val=records[:8], probes=())
facts, large = lab.model_facts(), ft.Config(batch_size=64, max_steps=1, precision="fp32")
search = preflight.FitSearch(lab, facts, machine.device(), 0)
part = search.bytes_to_have_free(facts.resolve(large.but(batch_size=16)))
free_memory.available = lambda: int(part / preflight.PROPOSED) + 2**20
batch_64 = lab.run(large, live=False)
print("next cell", len(batch_64.rows), batch_64.config.gradient_accumulation_steps)
"""


@pytest.mark.slow
def test_the_next_cell_of_a_real_kernel_has_the_result(lab, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    lines = CELLS.strip().splitlines()
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines[:-2])),
                                           nbformat.v4.new_code_cell(lines[-2]),
                                           nbformat.v4.new_code_cell(lines[-1])])
    done = NotebookClient(book, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    said = "".join(o.get("text", "") for o in done.cells[-1].outputs)
    assert said.startswith("next cell 1 ") and int(said.split()[-1]) > 1
