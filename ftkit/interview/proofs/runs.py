"""Proofs that fine-tune the embedded model: short runs, trained once for each seed and shared.

A recipe is a function from a seed to a finished Run, such as `full(learning_rate=1e-3)`;
`compare` and `before_after` make a proof of recipes. The claims hold with the seeds 0 to 2 (a
lesson runs these) and were also seen to hold with 100, 101 and 102.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, cast

from ftkit.data import schema, split_and_corrupt
from ftkit.interview.proofs.lora import base, distance, encode
from ftkit.interview.proofs.registry import Evidence, proof, register

Recipe = Callable[[int], Any]  # seed → Run; equal recipes with equal seeds share one Run

STEPS = 24


def recipe(function: Callable) -> Callable[..., Recipe]:
    """Decorator: `function(seed, **options)` becomes `function(**options)`, a cached recipe."""
    cached = functools.cache(function)

    @functools.wraps(cached)
    def with_options(*args, **options):
        return lambda seed: cached(seed, *args, **options)

    return with_options


def tiny_experiment(data, val=None, probes: Any = ("general",), model: Any = "tiny", **options):
    from ftkit.experiment.experiment import Experiment

    return Experiment(model=model, data=data, val=val, probes=probes, eval_records=32, **options)


def train(experiment, seed: int, steps: int = STEPS, **options) -> Any:
    defaults = {"max_steps": steps, "eval_steps": steps, "precision": "fp32", "seed": seed}
    return experiment.run(live=False, **defaults | options)


def end_loss(run) -> float:
    """Mean training loss of the last three steps."""
    return sum(row["loss"] for row in run.rows[-3:]) / 3


def validation():
    return schema.records("tasks", "validation")


# ------------------------------------------------------------------- proofs made of recipes


def compare(key: str, recipes: dict[str, Recipe]) -> Callable[[int], Evidence]:
    """Compare two runs by a measure after training; "loss" is that of the last steps."""
    def compute(seed):
        runs = {label: run_of(seed) for label, run_of in recipes.items()}
        left, right = (end_loss(run) if key == "loss" else run.after[key] for run in runs.values())
        return Evidence(left, right, runs=runs, keys=tuple(dict.fromkeys(("loss", key))))

    return compute


def before_after(key: str, run_of: Recipe) -> Callable[[int], Evidence]:
    """Compare a measure after a run with the same measure before it."""
    def compute(seed):
        run = run_of(seed)
        bars = {"before": run.before[key], "after": run.after[key]}
        return Evidence(run.after[key], run.before[key], bars=bars)

    return compute


# --------------------------------------------------------------------- full fine-tuning, LoRA


@recipe
def tasks(seed, **options):
    return train(tiny_experiment(schema.records("tasks")[:512], validation()), seed, **options)


def full(**options) -> Recipe:
    return tasks(method="full", **options)


def lora(**options) -> Recipe:
    return tasks(method="lora", **options)


# The best learning rates on the embedded model are 1e-3 for full fine-tuning and 1e-2 for LoRA.
tuned = full(learning_rate=1e-3)

register(
    "run", trains=True,
    tuning_helps=before_after("val_loss", tuned),
    rate_too_low=compare("val_loss", {
        "learning rate 1e-5": full(learning_rate=1e-5), "learning rate 1e-3": tuned}),
    rate_too_high=compare("general_loss", {
        "learning rate 1e-2": full(learning_rate=1e-2), "learning rate 1e-3": tuned}),
    general_at_ten=before_after("general_loss", full(learning_rate=1e-2)),
    lora_needs_more=compare("val_loss", {
        "LoRA at 1e-2": lora(learning_rate=1e-2),
        "LoRA at 1e-3, best of full": lora(learning_rate=1e-3)}),
    targets_all=compare("val_loss", {
        "all layers": lora(learning_rate=1e-2),
        "q and v": lora(learning_rate=1e-2, target_modules="q_proj,v_proj")}),
)


@proof("run", trains=True)
def healthy_loss(seed):
    run = full(learning_rate=1e-2)(seed)
    return end_loss(run), run.rows[0]["loss"]


@proof("run", trains=True)
def lora_moves_less(seed):
    from ftkit.model.merge import merged

    start = {name: p for name, p in base()[0].named_parameters() if "_proj" in name}

    def moved(run_of):
        return distance(dict(merged(run_of(seed).model).named_parameters()), start)

    return moved(lora(learning_rate=1e-3)), moved(tuned)


@proof("run", trains=True)
def decay_in_run(seed):
    runs = {"decay 0": tuned(seed), "decay 0.1": full(learning_rate=1e-3, weight_decay=0.1)(seed)}
    plain, decayed = (run.after["val_loss"] for run in runs.values())
    return Evidence(decayed / plain, runs=runs, keys=("loss", "val_loss"))


@proof("run", trains=True)
def elicited_facts(seed):
    from ftkit.evaluate.scoring import exact_match

    capitals, run = schema.records("capital", "test")[:20], tuned(seed)
    left, right = (cast(float, exact_match(model, run.tokenizer, capitals))
                   for model in (run.model, base()[0]))
    return 100 * left, 100 * right


def tasks_loss(model, template=None) -> float:
    from ftkit.evaluate.scoring import loss_on

    return loss_on(model, encode(validation()[:48], template))


@recipe
def slowly(seed, precision):
    """Train six steps at a learning rate of 1e-5, with updates small against bf16's spacing."""
    few = tiny_experiment(schema.records("tasks")[:64], validation(), ())
    return train(few, seed, 6, learning_rate=1e-5, precision=precision)


@proof("run", trains=True)
def pure_bf16_run(seed):
    start = {name: p.detach() for name, p in base()[0].named_parameters() if p.ndim == 2}

    def moved(precision):
        run = slowly(precision)(seed)
        at = start if precision == "fp32" else {n: p.bfloat16() for n, p in start.items()}
        return distance(dict(run.model.named_parameters()), at)

    return moved("pure-bf16"), moved("fp32")


@recipe
def on_eight_records(seed):
    few = schema.records("tasks")[:8]
    return train(tiny_experiment(few, few, ()), seed, 40, learning_rate=1e-3, batch_size=8)


# ------------------------------------------------------------- few records, wrong answers


@recipe
def noisy(seed, **options):
    """Train ten epochs on 48 records, every third with a wrong answer. Validation is clean."""
    clean = schema.records("tasks")
    few = split_and_corrupt.corrupt(clean[:48], "wrong", share=0.33, seed=seed)
    return train(tiny_experiment(few, clean[-48:], ()), seed, 36, eval_steps=4, **options)


def noisy_lora(r: int) -> Recipe:
    return noisy(method="lora", r=r, lora_alpha=2 * r, learning_rate=5e-3)


noisy_full = noisy(learning_rate=1e-3)


def on_wrong_answers(recipes: dict[str, Recipe]) -> Callable[[int], Evidence]:
    """Compare two runs of `noisy` by their loss on the training records with wrong answers."""
    from ftkit.evaluate.scoring import loss_on

    def compute(seed):
        clean = schema.records("tasks")[:48]
        found = split_and_corrupt.corrupt(clean, "wrong", share=0.33, seed=seed)
        wrong = [n for n, c in zip(found, clean, strict=True) if n["output"] != c["output"]]
        bars = {label: loss_on(run_of(seed).model, encode(wrong)) if wrong else math.nan
                for label, run_of in recipes.items()}
        return Evidence(*bars.values(), bars=bars)

    return compute


def turning_point(run) -> tuple[float, int]:
    """The lowest val_loss of a run and the index of its row."""
    return min((row["val_loss"], i) for i, row in enumerate(run.rows) if "val_loss" in row)


def overfit_val(seed):
    run = noisy_full(seed)
    return Evidence(run.after["val_loss"], turning_point(run)[0],
                    runs={"full, noisy records": run})


@proof("run", trains=True)
def overfit_train(seed):
    run = noisy_full(seed)
    at = turning_point(run)[1]
    return end_loss(run), sum(row["loss"] for row in run.rows[max(0, at - 2):at + 1]) / 3


# ------------------------------------------------------------------------ amounts of data


@recipe
def amount(seed, records: int, kind: str | None = None, share: float = 0.0):
    """Train on this many records; kind: "copies" (each four times) or a kind of corruption."""
    chosen = schema.records("tasks")[:records]
    if kind == "copies":
        chosen = list(chosen[:records // 4]) * 4
    elif kind:
        chosen = split_and_corrupt.corrupt(chosen, kind, share=share, seed=seed)
    return train(tiny_experiment(chosen, validation(), ()), seed, 36, learning_rate=1e-3)


learning_curve = compare("val_loss", {"384 records": amount(384), "96 records": amount(96)})

register(
    "run", trains=True,
    one_batch=before_after("val_loss", on_eight_records()),
    capacity_noise=on_wrong_answers({"full": noisy_full, "LoRA r=1": noisy_lora(1)}),
    rank_capacity=on_wrong_answers({"r=32": noisy_lora(32), "r=1": noisy_lora(1)}),
    overfit_val=overfit_val,
    epochs_noise=overfit_val,
    learning_curve=learning_curve,
    distinct_data=learning_curve,
    duplicates_no_data=compare("val_loss", {
        "mostly copies": amount(384, "copies"), "distinct": amount(384)}),
    noise_hurts=compare("val_loss", {
        "half wrong": amount(384, "wrong", 0.5), "clean": amount(384)}),
)


@recipe
def leaked(seed):
    """Train with the training records as validation records."""
    few = schema.records("tasks")[:64]
    return train(tiny_experiment(few, few, {"clean": validation()}), seed, 40,
                 learning_rate=1e-3, eval_steps=10)


@proof("run", trains=True)
def leak_sign(seed):
    run = leaked()(seed)
    return Evidence(run.after["val_loss"], run.after["clean_loss"], runs={"leaked": run})


# ------------------------------------------------------------------------------ forgetting


@recipe
def narrow(seed, learning_rate=1e-3, **options):
    """Train a model tuned on all tasks on contracts alone."""
    start = tuned(seed)
    experiment = tiny_experiment("contracts_task", None, {"tasks": validation()},
                                 model=(start.model, start.tokenizer), replay_from="tasks")
    return train(experiment, seed, eval_steps=6, batch_size=8, learning_rate=learning_rate,
                 **options)


@recipe
def domain(seed, **options):
    letters, unseen = schema.records("clinic")[:300], schema.records("clinic", "validation")[:16]
    return train(tiny_experiment(letters, unseen), seed, 20, learning_rate=1e-3, batch_size=4,
                 **options)


register(
    "run", trains=True,
    narrow_replay=compare("tasks_loss", {
        "with replay": narrow(replay=0.25), "without": narrow()}),
    narrow_lower_rate=compare("tasks_loss", {
        "a third of the learning rate": narrow(learning_rate=3e-4),
        "the learning rate": narrow()}),
    narrow_learned=before_after("val_loss", narrow(replay=0.25)),
    narrow_forgets=before_after("tasks_loss", narrow()),
    lora_narrow=before_after("tasks_loss", narrow(method="lora", learning_rate=1e-2)),
    domain_learned=before_after("val_loss", domain()),
    domain_forgets=before_after("general_loss", domain()),
    template_mismatch=lambda seed: tuple(tasks_loss(tuned(seed).model, template)
                                         for template in ("plain", None)),
)


@proof("run", trains=True)
def stopped_early_learns(seed):
    run = narrow()(seed)
    early = next(row for row in run.rows if "val_loss" in row)
    return Evidence(early["val_loss"], run.after["val_loss"], runs={"narrow": run},
                    keys=("val_loss", "tasks_loss"))


@proof("run", trains=True)
def interpolation(seed):
    from ftkit.model.merge import blend

    old, new = tuned(seed).model, narrow()(seed).model
    models = {"old": old, "halfway": blend(old, new, 0.5), "new": new}
    losses = {name: tasks_loss(model) for name, model in models.items()}
    return Evidence(losses["halfway"], losses["new"], bars=losses)


@proof("run", trains=True)
def domain_replay(seed):
    runs = {"with replay": domain(replay=0.25)(seed), "without": domain()(seed)}
    left, right = (run.after["general_loss"] - run.before["general_loss"]
                   for run in runs.values())
    return Evidence(left, right, runs=runs, keys=("val_loss", "general_loss"))


# ----------------------------------------------------------------------------- preferences


@recipe
def dpo(seed):
    """Train ten steps of DPO at a high learning rate from the model tuned on all tasks, on right
    and wrong answers to the same prompts.

    gap: chosen minus rejected log-probability. Measures after the run are nan if its first loss is
    not that of a policy which equals its reference.
    """
    from ftkit.experiment.preferences import DPO

    right, start = schema.records("tasks")[:64], tuned(seed)
    wrong = split_and_corrupt.corrupt(right, "wrong", share=1.0, seed=seed)
    pairs: Any = [
        {"instruction": schema.prompt_of(r), "chosen": r["output"], "rejected": w["output"]}
        for r, w in zip(right, wrong, strict=True) if r["output"] != w["output"]][:32]
    model: Any = (start.model, start.tokenizer)
    run = train(DPO(model, pairs, val=pairs), seed, 10, batch_size=32, learning_rate=1e-3,
                lr_scheduler_type="constant", warmup_steps=0, beta=0.1)
    if not math.isclose(run.rows[0]["loss"], math.log(2), rel_tol=1e-3):
        run.after["val_rejected"] = math.nan
    for measures in (run.before, run.after):
        measures["gap"] = measures["val_chosen"] - measures["val_rejected"]
    return run


register(
    "run", trains=True,
    dpo_ln2=lambda seed: dpo()(seed).rows[0]["loss"],
    dpo_rejected_falls=before_after("val_rejected", dpo()),
    dpo_gap_grows=before_after("gap", dpo()),
)
