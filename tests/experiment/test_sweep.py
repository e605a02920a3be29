"""Many runs give what each would give alone, wherever they run, and none is lost or kept twice."""

import threading
import types

import pytest
import torch
from helpers import numbers

import ftkit as ft
from ftkit.base.run_end import End
from ftkit.experiment import preferences, side_by_side, store
from ftkit.experiment.sweep_state import SweepState
from ftkit.model import loading

pytestmark = pytest.mark.usefixtures("home")
RECORDS = numbers(24)
SHORT = ft.Config(max_steps=3, eval_steps=3, batch_size=4, precision="fp32")


def make_lab(**options):
    return ft.Experiment(**{"data": RECORDS, "val": RECORDS[:4], "probes": (), **options})


@pytest.fixture
def lab():
    return make_lab()


@pytest.fixture(autouse=True)
def one_thread_for_each_run():
    """Some processors give other last digits with two threads. A test that feigns a second core
    makes a sweep leave two threads behind, so the number is set back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def losses(run):
    return [[row[key] for row in run.rows] for key in ("loss", "grad_norm")] + [run.after]


def logits(run):
    ids = torch.tensor([run.tokenizer("The capital of France is")["input_ids"]])
    with torch.no_grad():
        return run.model(input_ids=ids).logits


# ------------------------------------------------------------------------------ the grid


def test_a_single_value_is_a_list_of_one_and_an_empty_list_is_told(lab):
    done = lab.sweep(SHORT, method="lora", r=[2, 4], seed=1)
    assert [(r.config.method, r.config.r, r.config.seed) for r in done] == [
        ("lora", 2, 1), ("lora", 4, 1)]
    with pytest.raises(ValueError, match="learning_rate is empty"):
        lab.sweep(SHORT, learning_rate=[])
    with pytest.raises(ValueError, match="backend is 'spark'; expected None, 'dask' or 'ray'"):
        lab.sweep(SHORT, backend="spark", seed=[0, 1])


# -------------------------------------------------------------------------- side by side


def meeting(runs):
    """A metric that waits until as many runs are in it at once; its value tells the thread."""
    barrier = threading.Barrier(runs)

    def metric(model, tokenizer):
        if not getattr(model, "met", False):
            model.met = True  # at the first measurement of a run the first may still be alone
            return 0.0
        barrier.wait(timeout=60)
        return float(threading.get_ident() != threading.main_thread().ident)

    return metric


def test_side_by_side_gives_what_each_run_gives_alone_to_the_last_digit(lab):
    options = dict(method=["full", "lora"], optim=["adamw_torch", "muon"])
    seen = []
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with side_by_side.with_threads(2):  # one for each run
        both = lab.sweep(SHORT, parallel=2, on_row=seen.append, **options)
        assert torch.equal(before, torch.get_rng_state()) and torch.get_num_threads() == 2
    assert both.how.endswith("2 side by side")
    alone = lab.sweep(SHORT, parallel=False, **options)
    assert "side by side" not in alone.how
    for one, other in zip(alone, both, strict=True):
        assert one.config == other.config and other.model_name == "tiny"
        assert losses(one) == losses(other)
        assert torch.equal(logits(one), logits(other))
    assert len(seen) == 12
    assert sorted(r.id for r in store.list_runs()) == sorted(r.id for r in [*alone, *both])
    kept = next(r for r in store.list_runs() if r.id == both[1].id)
    assert [row["loss"] for row in kept.rows] == losses(both[1])[0]


def test_small_models_go_side_by_side_unasked_and_a_last_one_alone(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    done = make_lab(metrics={"met": meeting(2)}).sweep(SHORT, seed=range(4))
    assert [r.after["met"] for r in done] == [1.0] * 4
    three = make_lab(metrics={"here": lambda model, tokenizer: float(
        threading.current_thread() is threading.main_thread())}).sweep(SHORT, seed=range(3))
    assert [r.after["here"] for r in three] == [0, 0, 1] and "2 side by side" in three.how


def test_models_are_made_in_the_thread_that_asks(lab, monkeypatch):
    made, trainable = [], loading.trainable
    monkeypatch.setattr(loading, "trainable", lambda *args: (
        made.append(threading.current_thread()), trainable(*args))[1])
    lab.sweep(SHORT, parallel=2, method="lora", seed=range(4))
    assert made == [threading.main_thread()] * 4


def test_each_run_has_a_tokenizer_of_its_own(lab):
    one, other = lab.sweep(SHORT, parallel=2, seed=[0, 1])
    assert one.tokenizer is not other.tokenizer
    assert one.tokenizer("green tea")["input_ids"] == other.tokenizer("green tea")["input_ids"]


@pytest.mark.parametrize("change", [
    {"method": ["lora"], "lora_dropout": [0.0, 0.3]}, {"neftune_noise_alpha": [None, 5.0]},
    {"method": ["lora"], "lora_dropout": [0.3], "gradient_checkpointing": [True, False]}])
def test_runs_that_draw_random_numbers_go_side_by_side_too(lab, change):
    done = lab.sweep(SHORT, parallel=2, **change)
    assert done.how.endswith("2 side by side")
    again = lab.sweep(SHORT, parallel=False, **change)
    assert [losses(r) for r in done] == [losses(r) for r in again]


def test_the_draws_of_a_metric_are_those_of_a_run_alone():
    lab = make_lab(metrics={"drawn": lambda model, tokenizer: float(torch.rand(()))})
    done = lab.sweep(SHORT, parallel=2, seed=range(3))
    assert [r.after["drawn"] for r in done] == [
        lab.run(SHORT, seed=seed).after["drawn"] for seed in range(3)]


def test_answers_that_are_sampled_are_those_of_a_run_alone():
    lab = preferences.GRPO(lambda answer, record: float(len(answer)), data=RECORDS,
                           val=RECORDS[:4], probes=())
    config = preferences.GRPOConfig(max_steps=2, batch_size=2, num_generations=2,
                                    max_completion_length=4, precision="fp32")
    done = lab.sweep(config, parallel=2, seed=[0, 1])
    assert done[1].rows[-1]["reward"] == lab.run(config, seed=1).rows[-1]["reward"]


def test_large_models_and_little_memory_are_reasons_against_it(monkeypatch):
    def first(parameters=10**6, bytes_needed=2**20):
        return types.SimpleNamespace(total_parameters=parameters,
                                     predicted_memory_bytes=bytes_needed)

    monkeypatch.setattr(side_by_side.free_memory, "available", lambda: 2**30)
    assert side_by_side._fitting_workers(first(), 4, None)[0] == 4
    assert side_by_side._fitting_workers(first(bytes_needed=2**28), 8, None)[0] == 4
    assert side_by_side._fitting_workers(first(bytes_needed=None), 8, True)[0] == 8
    assert side_by_side._fitting_workers(first(bytes_needed=2**30), 2, True) == (
        1, "two would need about 2.15 GB and 1.07 GB are free")
    assert side_by_side._fitting_workers(first(10**8), 4, None)[0] == 1
    assert side_by_side._fitting_workers(first(10**8), 4, True)[0] == 4


def test_an_interrupt_side_by_side_keeps_every_row_and_ends_the_threads(lab, capfd):
    part = lab.sweep(SHORT, parallel=2, on_row=interrupt_at(5), seed=range(4))
    assert "interrupted" in part.how and "resume=True" in capfd.readouterr().err
    assert threading.active_count() == 1 or not any(
        "_fly" in thread.name for thread in threading.enumerate())
    assert all(r.rows and (len(r.rows) == 3) != (r.end == "interrupted")
               if r.stopped else len(r.rows) == 3 for r in part)
    assert sorted(r.id for r in store.list_runs()) == sorted(r.id for r in part)
    whole = lab.sweep(SHORT, parallel=2, resume=True, seed=range(4))
    assert [len(r.rows) for r in whole] == [3] * 4
    assert [r.config.seed for r in whole] == [0, 1, 2, 3]


def test_a_run_that_was_begun_and_took_no_step_is_not_stored(lab):
    state = SweepState(lab, [SHORT], [{}], None)
    run = side_by_side.PausableRun(state, 0)
    run.begin()
    run.finish(End.INTERRUPTED, "interrupted before its first step")
    assert not store.list_runs() and state.remaining == [0]


def test_what_goes_wrong_in_one_run_is_raised_and_the_others_keep_their_rows():
    calls = []

    def breaks(model, tokenizer):
        calls.append(0)
        if len(calls) == 3:
            raise OSError("the judge is not at home")
        return 0.0

    lab = make_lab(metrics={"breaks": breaks})
    threads = torch.get_num_threads()
    with pytest.raises(OSError, match="the judge is not at home"):
        lab.sweep(SHORT, parallel=2, seed=range(4))
    assert torch.get_num_threads() == threads
    assert not [t for t in threading.enumerate() if "_fly" in t.name]
    assert len(make_lab().sweep(SHORT, parallel=2, seed=[0, 1])) == 2


# ----------------------------------------------------------------------- interrupt, resume


def interrupt_at(count):
    seen = []

    def listen(row):
        seen.append(row)
        if len(seen) == count:
            raise KeyboardInterrupt

    return listen


def test_an_interrupt_keeps_what_is_finished_and_resume_goes_on(lab, capfd):
    part = lab.sweep(SHORT, parallel=False, on_row=interrupt_at(5), seed=range(3))
    assert [len(r.rows) for r in part] == [3, 2] and part[1].end == "interrupted"
    assert "1 of 3 runs are finished" in part.how and "resume=True" in capfd.readouterr().err
    whole = lab.sweep(SHORT, resume=True, seed=range(3))
    assert [len(r.rows) for r in whole] == [3, 3, 3] and whole[0].id == part[0].id
    assert whole[0].model is None and whole[1].model is not None
    assert "1 from the store (without their models)" in whole.how
    assert whole[0].after == pytest.approx(part[0].after)
    again = lab.sweep(SHORT, resume=True, seed=range(3))
    assert [r.id for r in again] == [r.id for r in whole]


def test_only_the_same_question_is_taken_from_the_store(lab):
    first = lab.run(SHORT)
    assert lab.sweep(SHORT, resume=True, seed=[0])[0].id == first.id
    assert lab.sweep(SHORT, seed=[0])[0].id != first.id  # not asked to resume
    for other in (make_lab(data=RECORDS[1:]), make_lab(val=RECORDS[:3]),
                  make_lab(probes={"p": RECORDS[:2]}), make_lab(eval_records=2),
                  make_lab(template="{instruction}\n{output}"),
                  make_lab(model=(first.model, first.tokenizer))):
        assert other.fixed_settings() != lab.fixed_settings()
    assert make_lab().fixed_settings() == lab.fixed_settings()
    assert lab.sweep(SHORT.but(weight_decay=0.1), resume=True, seed=[0])[0].model is not None


# -------------------------------------------------------------------------------- halving


def test_halving_ends_the_worse_half_early_and_the_winner_is_the_run_it_would_have_been(lab):
    config = SHORT.but(max_steps=8, eval_steps=1, method="lora", lora_dropout=0.3)
    rates = [1e-6, 1e-5, 1e-2, 1e-3]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    halved = lab.sweep(config, halving=True, learning_rate=rates)
    assert torch.equal(before, torch.get_rng_state())
    assert [r.config.learning_rate for r in halved] == rates
    assert sorted(len(r.rows) for r in halved) == [2, 2, 4, 8]  # 1/4, 1/2 and all of 8 steps
    whole = lab.sweep(config, parallel=False, learning_rate=rates)
    for one, other in zip(halved, whole, strict=True):
        assert [r["loss"] for r in one.rows] == [r["loss"] for r in other.rows[:len(one.rows)]]
    best = min(whole, key=lambda r: r.after["val_loss"])
    assert [len(r.rows) for r in halved][whole.index(best)] == 8
    early = [r for r in halved if r.stopped]
    assert all(r.stopped.startswith("ended early by halving at step ") for r in early)
    assert "of 4" in early[0].stopped and "3 ended early" in halved.how
    assert "ended early" in ft.curves(halved, "val_loss").text
    assert len({r.id for r in store.list_runs()} & {r.id for r in halved}) == 4


def test_seeds_are_halved_together_and_a_diverged_run_loses(lab):
    config = SHORT.but(max_steps=4, eval_steps=1, warmup_steps=0, max_grad_norm=0)
    done = lab.sweep(config, halving=True, learning_rate=[1e30, 1e-3], seed=[0, 1])
    assert [len(r.rows) for r in done[2:]] == [4, 4]
    assert all(r.end in ("diverged", "ended early") for r in done[:2])


def test_halving_says_what_it_needs(lab):
    for wanted, options in (("a smaller eval_steps", dict(learning_rate=[1e-3, 1e-4])),
                            ("two different configs", dict(seed=[0, 1])),
                            ("Leave backend out", dict(seed=[0, 1], backend="dask"))):
        with pytest.raises(ValueError, match=wanted):
            lab.sweep(SHORT, halving=True, **options)
