"""An Experiment holds still what it says it holds still, and keeps what happened."""

import json
import logging

import pytest
from helpers import numbers

import ftkit as ft
from ftkit.base import messages
from ftkit.data.schema import DataError
from ftkit.distributed import launch
from ftkit.evaluate import scoring
from ftkit.experiment import experiment, store
from ftkit.model import loading
from ftkit.model.export import export

pytestmark = pytest.mark.usefixtures("home")
RECORDS = numbers(40)


@pytest.fixture
def lab():
    return ft.Experiment(data=RECORDS, probes={"again": RECORDS[:5]})


def test_a_run_learns_and_tells_what_it_did(lab, home):
    run = lab.run(max_steps=20, batch_size=8, precision="fp32")
    assert run.after["val_loss"] < run.before["val_loss"]
    assert set(run.before) == set(run.after) == {"val_loss", "again_loss"}
    assert [r["step"] for r in run.rows] == list(range(1, 21))
    assert run.rows[-1]["val_loss"] == pytest.approx(run.after["val_loss"], abs=1e-6)
    assert run.trainable_parameters == run.total_parameters > 1e6
    assert 0 < run.supervised_tokens < run.tokens
    lines = (home / "runs" / run.id / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 21))


def test_every_run_starts_from_fresh_weights(lab):
    one, two = lab.run(max_steps=4), lab.run(max_steps=4)
    assert [r["loss"] for r in one.rows] == [r["loss"] for r in two.rows]
    assert one.before == two.before and one.after == two.after


def test_runs_that_start_from_the_same_model_measure_it_once(lab, monkeypatch):
    measured, loss_on = [], scoring.loss_on

    def counted(model, examples):
        measured.append(len(examples))
        return loss_on(model, examples)

    monkeypatch.setattr(scoring, "loss_on", counted)

    def evaluations_of(lab, **changes):
        measured.clear()
        run = lab.run(ft.Config(max_steps=2, eval_steps=2, precision="fp32").but(**changes))
        return len(measured) // len(run.before), run.before

    first = evaluations_of(ft.Experiment(data=RECORDS, probes={"again": RECORDS[:5]}))[1]
    assert evaluations_of(lab) == (2, first)
    assert evaluations_of(lab, learning_rate=1e-3, seed=1) == (1, first)
    assert evaluations_of(lab, precision="bf16")[0] == 2
    assert evaluations_of(lab, method="lora")[0] == 2
    assert evaluations_of(lab, method="lora", seed=1)[0] == 2
    tuned = lab.run(max_steps=2, learning_rate=1e-2)
    assert evaluations_of(ft.Experiment(
        (tuned.model, tuned.tokenizer), RECORDS, probes={"again": RECORDS[:5]}))[1] != first


def test_weights_that_the_smallest_update_tips_over_are_told(tmp_path, capsys):
    once = dict(max_steps=1, learning_rate=1e-8, warmup_steps=0, batch_size=36)
    model, tokenizer = ft.load("tiny")
    model = model.half().float()  # as one that was published in fp16
    loading.save(model, tokenizer, tmp_path / "half")
    export(tmp_path / "half", tmp_path / "rounded", "bf16")
    lab = ft.Experiment((model, tokenizer), RECORDS, val=RECORDS, probes=())
    told = [lab.run(precision="bf16", **once) for _ in range(2)]
    assert told[0].change("val_loss") < -0.1
    assert told[0].notes == told[1].notes and told[0].notes[0].startswith("12% of the weights")
    assert told[0].notes[0].split(".")[0] in told[0]._repr_html_()
    assert capsys.readouterr().err.count("halfway between two numbers of bf16") == 1
    messages.say_once.cache_clear()
    launch.export(lab, ft.Config(precision="bf16"), tmp_path / "ranks")
    assert "halfway" in capsys.readouterr().err
    rounded = ft.Experiment(str(tmp_path / "rounded"), RECORDS, val=RECORDS, probes=())
    silent = [rounded.run(precision="bf16", **once), lab.run(precision="fp32", **once),
              lab.run(method="lora", precision="bf16", **once)]
    for other in silent:
        assert not any("guessing" not in note for note in other.notes)  # the records are nonsense
        assert abs(other.change("val_loss")) < 0.03
    assert "halfway" not in capsys.readouterr().err


def test_a_run_interrupted_at_step_k_has_exactly_its_first_k_rows(lab, home):
    whole = lab.run(max_steps=6)

    def stop(row):
        if row["step"] == 3:
            raise KeyboardInterrupt

    part = lab.run(max_steps=6, on_row=stop)
    kept = store.load_run(part.id)
    assert part.end == kept.end == "interrupted"
    assert part.stopped == kept.stopped == "interrupted after step 3 of 6"
    assert [r["loss"] for r in kept.rows] == [r["loss"] for r in whole.rows[:3]]
    assert kept.after["val_loss"] == part.after["val_loss"]


def test_a_failing_listener_leaves_the_rows_on_disk(lab):
    def fail(row):
        if row["step"] == 2:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        lab.run(max_steps=5, on_row=fail)
    assert [r["step"] for r in store.list_runs()[-1].rows] == [1, 2]


def test_a_diverged_run_stops_and_says_so(lab):
    gone = lab.run(max_steps=30, learning_rate=1e30, max_grad_norm=0, precision="fp32",
                   warmup_steps=0)
    assert gone.end == "diverged" and len(gone.rows) < 30


def test_early_stopping_keeps_the_weights_of_the_best_step():
    few = ft.Experiment(data=RECORDS[:4], val=RECORDS[20:30], probes=())
    stopped = few.run(epochs=200, eval_steps=4, early_stopping_patience=2, learning_rate=3e-3)
    best = min(r["val_loss"] for r in stopped.rows if "val_loss" in r)
    assert stopped.end == "stopped early"
    assert stopped.after["val_loss"] == pytest.approx(best, abs=1e-6)


def test_replay_mixes_in_the_share_asked_for(lab):
    mixed = ft.Experiment(data=RECORDS, val=RECORDS[:4], probes=(), replay_from=RECORDS[:7])
    assert mixed.run(max_steps=2, replay=0.2).data["replayed"] == 10


def test_a_run_goes_on_from_another(lab):
    first = lab.run(max_steps=10)
    second = ft.Experiment(model=(first.model, first.tokenizer), data=RECORDS,
                           probes={"again": RECORDS[:5]}).run(max_steps=2)
    assert second.before == pytest.approx(first.after, abs=1e-5)


def test_a_tuned_model_gets_the_default_rates_of_its_size(lab):
    from transformers import LlamaConfig, LlamaForCausalLM

    tuned = lab.run(max_steps=1)
    again = ft.Experiment(model=(tuned.model, tuned.tokenizer), data=RECORDS, probes=())
    assert again.run(max_steps=1).config.learning_rate == tuned.config.learning_rate == 1e-3
    large = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tuned.tokenizer), hidden_size=640, intermediate_size=2560,
        num_hidden_layers=4, num_attention_heads=10, max_position_embeddings=512))
    other = ft.Experiment(model=(large, tuned.tokenizer), data=RECORDS, probes=())
    assert other.run(max_steps=1).config.learning_rate == 2e-5


def test_sweep_takes_the_grid_and_refuses_a_bad_value_before_it_starts(lab, home):
    with pytest.raises(ValueError, match="learning_rate"):
        lab.sweep(learning_rate=[1e-3, -1])
    assert not home.exists()
    done = lab.sweep(ft.Config(max_steps=1), learning_rate=[1e-3, 1e-2], seed=[0, 1])
    assert [(r.config.learning_rate, r.config.seed) for r in done] == [
        (1e-3, 0), (1e-3, 1), (1e-2, 0), (1e-2, 1)]


@pytest.mark.parametrize("wrong, told", [
    (dict(model=None), "model is NoneType; expected a name"),
    (dict(model=(1, 2)), "model is tuple; expected a name"),
    (dict(data=[]), "^there are no records"),
    (dict(template=3), "template is 3; expected text"),
    (dict(eval_records=0), "eval_records is 0; expected a whole number"),
    (dict(probes=RECORDS[:3]), "records without a name"),
    (dict(probes={"val": RECORDS[:3]}), "a probe is called 'val'"),
    (dict(metrics=[len]), "expected a dict of name"),
    (dict(metrics={"m": 3}), "expected a dict of name"),
    (dict(metrics={"loss": len}), "called 'loss', which is the name of another column"),
    (dict(metrics={"again_loss": len}, probes={"again": RECORDS[:3]}), "called 'again_loss'"),
])
def test_nonsense_is_told_in_words(wrong, told):
    with pytest.raises(ValueError, match=told):
        ft.Experiment(**{"data": RECORDS, "probes": (), **wrong})


def test_probes_of_one_name_are_refused_and_one_probe_needs_no_list(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "held.jsonl").write_text(json.dumps(RECORDS[0]))
    with pytest.raises(ValueError, match="two probes are called 'held'"):
        ft.Experiment(data=RECORDS, probes=[tmp_path / f / "held.jsonl" for f in "ab"])
    assert list(ft.Experiment(data=RECORDS, probes="general").probes) == ["general"]


def test_a_config_and_the_value_of_a_metric_must_be_what_they_are_called(lab, home):
    with pytest.raises(ValueError, match="config is dict; expected a Config"):
        lab.run({"learning_rate": 1e-3})
    assert not home.exists()
    odd = ft.Experiment(data=RECORDS, probes=(), metrics={"m": lambda model, tokenizer: None})
    with pytest.raises(ValueError, match="the metric 'm' returned null; expected a number"):
        odd.run(max_steps=1)


def test_a_metric_of_answers_is_their_mean(home):
    from ftkit.evaluate import scoring

    lab = ft.Experiment(data=RECORDS, probes=(), metrics={
        "right": scoring.is_right, "length": lambda answer, record: len(answer)})
    run = lab.run(max_steps=1, eval_steps=1, live=False)
    given = ft.answers(run.model, run.tokenizer, lab.val)
    assert run.after["length"] == pytest.approx(sum(map(len, given)) / len(given)) != 0
    assert run.after["right"] == scoring.exact_match(run.model, run.tokenizer, lab.val)


def test_a_model_is_a_name_or_a_folder(tmp_path):
    with pytest.raises(ValueError, match="model is a NoneType; expected tiny"):
        ft.load(None)
    with pytest.raises(ValueError, match="has no config.json"):
        ft.load(tmp_path)
    with pytest.raises(ValueError, match="no model '.*nowhere'"):
        ft.load(tmp_path / "nowhere")
    assert not logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)


def test_a_bad_record_is_named():
    with pytest.raises(DataError):
        ft.Experiment(data=RECORDS + [{"instruction": "x", "output": ""}])


def test_an_interrupt_while_it_is_saved_leaves_no_half_model(lab, tmp_path, monkeypatch):
    def save(model, tokenizer, folder):
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment.loading, "save", save)
    with pytest.raises(KeyboardInterrupt):
        lab.run(max_steps=1, out=tmp_path / "half")
    assert not (tmp_path / "half").exists() and len(store.list_runs()) == 1


def test_an_interrupt_while_the_model_loads_is_told_in_one_sentence():
    class Slow(ft.Experiment):
        def fresh_model(self, config):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="interrupted before the first step") as caught:
        Slow(data="capital", probes=()).run(max_steps=1, live=False)
    assert caught.value.__suppress_context__, "no traceback through the library that loads it"
    assert not store.ids()
