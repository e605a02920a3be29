"""How a run ended is a value: whatever its sentence says, everything that decides reads `end`."""

import pytest

import ftkit as ft
from ftkit.base.config import Config
from ftkit.base.run_end import End, Stop
from ftkit.experiment import fingerprint, store, store_query
from ftkit.experiment.run import Run
from ftkit.report import diagnose, series

pytestmark = pytest.mark.quick
NONSENSE = "diverged early stopping interrupted ended early stopped by hand"
RECORDS = [{"instruction": f"say {i}", "output": f"out {i}"} for i in range(24)]


@pytest.fixture(autouse=True)
def a_home(home):
    return home


def made(end: End, stopped: str | None = NONSENSE, rows: int = 2) -> Run:
    return Run(id=end.name.lower(), config=Config(learning_rate=1e-3), model_name="tiny",
               data={"name": "x"}, total_steps=2, end=end, stopped=stopped,
               rows=[{"step": step, "loss": 2.0} for step in range(1, rows + 1)],
               before={"val_loss": 2.0}, after={"val_loss": 2.0})


@pytest.mark.parametrize("end", End)
def test_what_is_decided_about_a_stored_run_follows_its_end_and_not_its_sentence(end):
    store.add(made(end))
    run = store.load_run(end.name.lower())
    assert run.end is end and run.to_dict()["end"] == end.value
    by_itself = end in ("finished", "stopped early", "diverged")  # a second run would end there too
    assert run.is_finished == by_itself
    assert fingerprint.facts_of([run])["steps done"] == ("all" if by_itself else 2)
    assert ("so far" in diagnose.diagnose(run)[0].text) == (
        end in ("stopped by hand", "interrupted"))
    (name, _), = series.grouped([run])
    assert name.endswith(" (ended early)") == (end == "ended early")
    assert store_query.facts(run)["end"] == end.value


def test_a_finished_run_that_lost_rows_is_not_whole():
    assert not made(End.FINISHED, None, rows=1).is_finished


@pytest.mark.parametrize("sentence, end", [
    (None, "finished"), ("early stopping at step 7: no better val_loss", "stopped early"),
    ("diverged at step 3: loss is nan", "diverged"),
    ("interrupted after step 3 of 6", "interrupted"), ("interrupted by SIGTERM", "interrupted"),
    ("stopped manually after step 3 of 6", "stopped by hand"),
    ("stopped by hand after step 3 of 6", "stopped by hand"),
    ("ended early by halving at step 1 of 9", "ended early"),
    ("ended after step 3 of 6", "ended early"), ("enough", "ended early"),
    ("not finished", "not finished")])
def test_a_run_of_an_older_version_is_read_with_its_end(sentence, end):
    saved = made(End.UNFINISHED).to_dict() | {"stopped": sentence}
    del saved["end"]
    assert Run.from_dict(saved).end == end
    assert Run.from_dict(saved | {"end": ["?"]}).end == end  # damaged


@pytest.mark.heavy
@pytest.mark.parametrize("answer, end, sentence", [
    (True, "stopped by hand", "stopped manually after step 2 of 6"),
    ("enough", "ended early", "enough"),
    (Stop(End.INTERRUPTED, "by the scheduler"), "interrupted", "by the scheduler")])
def test_whoever_stops_a_run_says_how_it_ended(answer, end, sentence):
    seen = []
    run = ft.Experiment(data=RECORDS, probes=()).run(
        max_steps=6, batch_size=4, on_row=seen.append, stop=lambda: len(seen) == 2 and answer)
    kept = store.load_run(run.id)
    assert (run.end, run.stopped, len(run.rows)) == (end, sentence, 2)
    assert (kept.end, kept.stopped) == (end, sentence) and "val_loss" in run.after


@pytest.mark.heavy
def test_a_run_that_is_out_of_memory_is_kept_and_says_so():
    import torch

    def full(row):
        if row["step"] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        ft.Experiment(data=RECORDS, probes=()).run(max_steps=5, batch_size=4, on_row=full)
    kept = store.list_runs()[-1]
    assert (kept.end, len(kept.rows)) == ("out of memory", 2) and store.has_ended(kept.id)
    assert kept.stopped == "out of memory after step 2 of 5"
