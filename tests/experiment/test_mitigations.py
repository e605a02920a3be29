"""Against forgetting: L2-SP, and what early stopping may watch."""

import copy

import pytest
import torch

import ftkit as ft
from ftkit.base.config import Config
from ftkit.data import encoding
from ftkit.engine import loop
from ftkit.model import loading


@pytest.fixture(scope="module")
def units(base):
    return [[e] for e in encoding.encode_all(ft.records("tasks")[:8], base[1]).examples]


def distance(model, start):
    return sum(float((p - q).detach().square().sum()) for p, q in
               zip(model.parameters(), start.parameters(), strict=True)) ** 0.5


def test_l2_sp_is_the_penalty_of_the_paper_in_a_plain_torch_loop(base, units):
    config = Config(learning_rate=1e-3, precision="fp32", batch_size=8, l2_sp=0.3,
                    lr_scheduler_type="constant", warmup_steps=0)
    ours, plain = copy.deepcopy(base[0]), copy.deepcopy(base[0])
    rows = list(loop.train(ours, units, config, 5))
    start = [p.detach().clone() for p in plain.parameters()]
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.0)
    batch = encoding.collate([u[0] for u in units], 0)
    for row in rows:
        loss = plain(**batch).loss
        penalty = 0.3 / 2 * sum((p - s).square().sum()
                                for p, s in zip(plain.parameters(), start, strict=True))
        (loss + penalty).backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        assert row["loss"] == pytest.approx(loss.item(), abs=1e-3)  # without the penalty
        assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
        optimizer.step()
        optimizer.zero_grad()
    assert distance(ours, plain) < 0.01 * distance(ours, base[0])


def test_l2_sp_is_refused_where_the_weights_it_pulls_are_frozen():
    lab = ft.Experiment(data=ft.records("tasks")[:8], val=ft.records("tasks")[8:12], probes=())
    with pytest.raises(ValueError, match="l2_sp is 0.1 and method is lora"):
        lab.run(method="lora", l2_sp=0.1, max_steps=1)


# ------------------------------------------------------------------------------- KL to the base


@pytest.mark.parametrize("method, checkpointing", [("full", False), ("lora", False),
                                                   ("lora", True)])
def test_kl_coef_is_the_penalty_in_a_plain_torch_loop(base, units, method, checkpointing):
    config = Config(method=method, learning_rate=3e-3, precision="fp32", batch_size=4, kl_coef=0.7,
                    gradient_accumulation_steps=2, gradient_checkpointing=checkpointing,
                    lr_scheduler_type="constant", warmup_steps=0, max_grad_norm=0)
    torch.manual_seed(0)
    ours, plain = (loading.trainable(copy.deepcopy(base[0]), config) for _ in range(2))
    if method == "lora":  # the initial A is random
        plain.load_state_dict(ours.state_dict())
    rows = list(loop.train(ours, units, config, 5))
    optimizer = torch.optim.AdamW([p for p in plain.parameters() if p.requires_grad], lr=3e-3,
                                  weight_decay=0.0)
    batch = encoding.collate([u[0] for u in units], 0)
    at = batch.pop("labels")[:, 1:]
    with torch.no_grad():
        wanted = base[0](**batch).logits[:, :-1][at != -100].softmax(-1)
    plain.train()
    for row in rows:
        made = plain(**batch).logits[:, :-1][at != -100].log_softmax(-1)
        loss = torch.nn.functional.nll_loss(made, at[at != -100])
        kl = (wanted * (wanted.log() - made)).sum(-1).mean()
        (loss + 0.7 * kl).backward()
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in plain.parameters() if p.grad is not None])
        assert row["loss"] == pytest.approx(loss.item(), abs=1e-3)  # without the penalty
        assert row["kl"] == pytest.approx(kl.item(), rel=1e-3, abs=1e-5)
        assert row["grad_norm"] == pytest.approx(norm.item(), rel=2e-3)
        optimizer.step()
        optimizer.zero_grad()
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[-1]["kl"] > 0.01


def test_a_run_records_the_kl_and_preflight_counts_the_kept_base():
    from ftkit.memory_use import model_shapes, simulate

    lab = ft.Experiment(data=ft.records("tasks")[:8], val=ft.records("tasks")[8:12], probes=())
    run = lab.run(max_steps=2, kl_coef=0.1, method="prompt_tuning", live=False)
    assert len(run.rows) == 2 and run.rows[0]["kl"] > 0  # virtual tokens change the first answer
    with pytest.raises(ValueError, match="kl_coef is 0.1 and init_lora_weights is pissa"):
        lab.run(method="lora", init_lora_weights="pissa", kl_coef=0.1)
    shape = model_shapes.shape(loading.read_config(loading.tiny_path()))
    config = Config(precision="fp32", batch_size=2)
    less, more = (simulate.step(shape, config.but(kl_coef=kl), [64, 64]) for kl in (0.0, 0.1))
    weights = 4 * less.parameters
    assert weights < more.peak - less.peak < weights + 8 * 4 * 128 * shape.vocab_size


# ------------------------------------------------------------------- what early stopping watches


def lab_with(metric):
    return ft.Experiment(data=ft.records("tasks")[:16], val=ft.records("tasks")[16:24],
                         probes=(), metrics={"score": metric})


def test_a_metric_is_measured_with_the_losses():
    seen = []
    run = lab_with(lambda model, tokenizer: seen.append(tokenizer.eos_token_id) or len(seen)).run(
        max_steps=4, eval_steps=2, live=False)
    assert run.before["score"] == 1 and run.after["score"] == 3
    assert [row["score"] for row in run.rows if "score" in row] == [2, 3]


@pytest.mark.parametrize("name, series, best", [
    ("score", [1, 3, 2, 2, 5, 6], 2), ("my_loss", [9, 1, 2, 3, 0, 0], 2),
    ("my_loss", [5, 6, 4, 6, 6, 0], 3)])  # worse, better: the count begins again
def test_early_stopping_watches_the_metric_asked_for_in_its_direction(name, series, best):
    values = iter([0, *series, 7])  # before the run, at each step, after the weights are restored
    lab = lab_with(lambda *_: next(values))
    lab.metrics = {name: lab.metrics["score"]}
    run = lab.run(max_steps=6, eval_steps=1, early_stopping_patience=2,
                  metric_for_best_model=name, live=False)
    assert len(run.rows) == best + 2
    assert run.end == "stopped early" and f"no better {name} since step {best}" in run.stopped


def test_a_metric_nobody_measures_is_reported_with_those_there_are():
    lab = lab_with(lambda *_: 0.0)
    with pytest.raises(ValueError, match="'bleu'.*expected one of val_loss, score"):
        lab.run(max_steps=1, early_stopping_patience=1, metric_for_best_model="bleu")
    assert lab.run(max_steps=1, metric_for_best_model="bleu", live=False).stopped is None
