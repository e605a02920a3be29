"""Plan a fine-tune of a data file: is it worth it, at which learning rate and rank, and what would
more records buy?

    print(text(plan("my.jsonl", gpu="24GB")))

Every figure comes from short runs that differ in one thing. They are stored, so a plan that was
interrupted continues where it was.
"""

import math
import random
import shlex
import statistics
from collections.abc import Callable
from typing import Any

from ftkit.base import formatting, significance
from ftkit.base.config import LORA, Config
from ftkit.base.config_fields import given
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.base.formatting import number
from ftkit.data import audit, convert, encoding, schema
from ftkit.engine import loop
from ftkit.evaluate import scoring
from ftkit.experiment import inputs
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.forecast import Forecast
from ftkit.memory_use import footprint, verdict
from ftkit.model import loading

SEEDS, SHOWN = (0, 1, 2), 4  # SHOWN: examples in the prompt of the baseline
MOST_STEPS = 100  # of a run; a longer one is cut, since the plan takes many
FEWEST = 24  # records, of which the learning curve takes a quarter
SIDE, FURTHER = 3, 4  # learning rates on each side of the default, and more where the best is last
SHORT = 60  # characters of a typical answer that is judged by exact match
TAIL = significance.LEVEL / 2  # intervals are two-sided, of 95 %
NORMAL = 1.96  # its quantile for a fraction of many answers


def plan(file: str, config: Config, model: str = "tiny", *, val: str | None = None,
         template: str | None = None, gpu: str | None = None,
         say: Callable[[str], Any] = lambda text: None) -> dict:
    """Measure what a fine-tune of `model` on a sample or file would bring.

    config: the run that is planned; a `learning_rate` or `r` that it sets is not searched.
    gpu: as in `footprint.memory`. say: called once, before the first run, with the cost.

    Returns a dict for JSON. `measure` is "exact match" where answers are short, else "loss" (nats
    per token of the answers), both on held-out records. baseline, tuned: its `value` for the
    prompted model and the tuned one. verdict: `advice`, and the gain with its margin.
    learning_rate, rank (None if not searched): `value`, and `low` to `high`, which are not clearly
    worse. records: the `gain` of `more` records. memory: a text. seconds: of the whole run here.
    command: how to start it.

    Raises UserError if the file has errors or too few records; KeyboardInterrupt, which says how to
    continue, if it is interrupted.
    """
    found = _audit(file)
    lab = _experiment(file, model, val, template)
    steps = loop.steps_in(config, len(lab.train))
    short = config.but(max_steps=min(steps, MOST_STEPS), eval_steps=min(steps, MOST_STEPS))
    say(_cost(lab, short))
    rate, full = _search_rate(lab, short)
    chosen = {"learning_rate": rate["value"]}
    short = short.but(**chosen)
    rank, ranked = _search_rank(lab, short, full)
    chosen |= ranked
    measure = "exact match" if lab.metrics else "loss"
    baseline, tuned = _baseline(lab, full[0], measure), _spread([_result(r, measure) for r in full])
    config, held = config.but(**chosen), min(len(lab.val), lab.eval_records)
    words = {"data": file, "model": model, "val": val, "template": template} | config.differs()
    return {
        "audit": found, "measure": measure, "baseline": baseline, "tuned": tuned,
        "verdict": _verdict(baseline["value"], tuned, measure, held),
        "learning_rate": rate, "rank": rank, "records": _gain(lab, short, full, measure),
        "memory": _memory(config, model, gpu), "steps": steps, "steps_here": full[0].total_steps,
        "seconds": steps * statistics.median(run.seconds / run.last_step for run in full),
        "config": config.to_dict(),
        "command": " ".join(["ftkit run", *(
            f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in
            words.items() if value is not None)])}


def _audit(file: str) -> dict:
    """What `ftkit check` counts. Raises UserError if a row cannot be trained on."""
    is_sample = file in schema.sample_names() and not at_home(file).exists()
    path = schema.sample_path(file) if is_sample else at_home(file)
    if path.is_dir() or not path.exists():
        schema.records(path)  # raises
    found = audit.check(path)
    mend = (convert.mend(path, found) or {}).get("command", "").replace("OLD", shlex.quote(file))
    if found["errors"]:
        raise UserError(f"{file} has {len(found['errors']):,} rows that cannot be trained on. Run "
                        f"`{mend or f'ftkit check {file}'}`, and plan with the new file")
    counted = "rows", "duplicates", "near_duplicates", "suspected"
    return {name: found[name] for name in counted} | {"mend": mend}


def _experiment(file: str, model: str, val, template) -> Experiment:
    lab = Experiment(model, file, val, probes=(), template=template)
    if len(lab.train) < FEWEST:
        raise UserError(f"{file} has {len(lab.train)} records to train on; expected at least "
                        f"{FEWEST}. Show them as examples in the prompt instead")
    held = inputs.some(lab.val, lab.eval_records)
    typical = statistics.median(len(encoding.answer(record)) for record in held)
    if lab.train.kind in ("instruction", "chat") and typical <= SHORT:
        lab.metrics = inputs.named_metrics(
            {"exact_match": scoring.is_right}, {}, lab.val, lab.eval_records, template)
    return lab


def _cost(lab, config: Config) -> str:
    forecast = Forecast(lab)
    forecast.load()
    rates = 3 if "learning_rate" in given(config) else 2 * SIDE + 1 + FURTHER + 3 * 2
    runs = rates + 3 * (len(_ranks(config)) - 1) + 3 * 2
    seconds = forecast.seconds(config)
    took = f", about {formatting.duration(runs * seconds)} of computing" if seconds else ""
    return (f"the plan takes at most {runs} runs of {config.max_steps} steps{took}. They are "
            "stored: after an interrupt the same command continues")


def _train(lab, config: Config, **values) -> list:
    """The runs of a grid, in its order; finished ones come from the store."""
    runs = lab.sweep(config, resume=True, **values)
    if len(runs) < math.prod(map(len, values.values())) or not all(r.is_finished for r in runs):
        raise KeyboardInterrupt("interrupted; the runs so far are stored, and the same command "
                                "continues")
    return runs


def _loss(run) -> float:
    loss = run.after.get("val_loss", math.inf)
    return loss if math.isfinite(loss) else math.inf


# ------------------------------------------------------------------------------- searches


def _search_rate(lab, config: Config) -> tuple[dict, list]:
    """The learning rate as from `_choose`, and its runs with all seeds.

    Rates a factor of two apart are tried with one seed, then the best and its neighbors with more.
    """
    center = lab.model_facts().resolve(config).learning_rate
    exponents = [0] if "learning_rate" in given(config) else [*range(-SIDE, SIDE + 1)]
    losses: dict[float, list[float]] = {}
    first, best = list(exponents), 0
    for _ in range(FURTHER + 1):
        rates = [center * 2.0**e for e in first]
        for rate, run in zip(rates, _train(lab, config, learning_rate=rates), strict=True):
            losses[rate] = [_loss(run)]
        exponents = sorted({*exponents, *first})
        best = min(exponents, key=lambda e: losses[center * 2.0**e][0])
        first = [e for e in (best - 1, best + 1) if e not in exponents]
        if not first or len(exponents) == 1:
            break
    runs = {rate: _train(lab, config.but(learning_rate=rate), seed=SEEDS) for rate in losses
            if 0.4 < rate / (center * 2.0**best) < 2.5}
    chosen = _choose(losses | {rate: [*map(_loss, each)] for rate, each in runs.items()})
    return chosen, runs[chosen["value"]]


def _ranks(config: Config) -> list[int]:
    fixed = config.method not in LORA or "r" in given(config)
    return [config.r] if fixed else [max(1, config.r // 4), config.r, config.r * 4]


def _search_rank(lab, config: Config, known: list) -> tuple[dict | None, dict]:
    """The smallest rank that is not clearly worse, and the fields that set it. known: the runs with
    the rank of `config`. alpha / r stays the same, so the learning rate stays right."""
    ranks = _ranks(config)
    if len(ranks) == 1:
        return None, {}
    fields = {r: {"r": r, "lora_alpha": r * config.lora_alpha / config.r} for r in ranks}
    runs = {r: known if r == config.r else _train(lab, config.but(**fields[r]), seed=SEEDS)
            for r in ranks}
    chosen = _choose({r: [*map(_loss, each)] for r, each in runs.items()})
    return chosen | {"value": chosen["low"]}, fields[chosen["low"]]


def _choose(losses: dict) -> dict:
    """Choose the value with the smallest mean loss among those tried with several seeds.

    losses: value → a loss per seed. low, high: a value is not clearly worse if its mean exceeds the
    best by less than the 95 % margin. The noise is that of the two best values, pooled.
    """
    means = {value: statistics.mean(each) for value, each in losses.items()}
    repeated = sorted((v for v in losses if len(losses[v]) > 1), key=lambda v: means[v])
    sound = [losses[v] for v in repeated[:2] if math.isfinite(means[v])]
    if not sound:
        raise UserError("every run diverged. Set a smaller learning_rate, and check the data")
    noise = math.sqrt(statistics.mean(map(statistics.variance, sound)))
    t, best = significance.t_quantile(TAIL, len(sound) * (len(SEEDS) - 1)), repeated[0]
    good = [v for v in losses if means[v] - means[best] <= t * noise * math.sqrt(
        1 / len(losses[v]) + 1 / len(SEEDS))]
    return {"value": best, "low": min(good), "high": max(good),
            "losses": {f"{value:g}": means[value] for value in sorted(means)}}


# ------------------------------------------------------------------------------- results


def _result(run, measure: str) -> float:
    return run.after.get("exact_match", math.nan) if measure == "exact match" else _loss(run)


def _spread(values: list[float]) -> dict:
    return {"value": statistics.mean(values), "values": values,
            "margin": significance.difference(values, 0.0).margin(TAIL)}


def _baseline(lab, run, measure: str) -> dict:
    """The better of the untuned model alone and with SHOWN examples in its prompt (None if these
    do not fit into its context). run: any run, which measured the model before its first step."""
    alone = run.before["exact_match" if measure == "exact match" else "val_loss"]
    model, tokenizer = lab.fresh_model(Config())
    held, options = inputs.some(lab.val, lab.eval_records), {"template": lab.template}
    coded, examples = (encoding.encode_all(records, tokenizer, **options).examples
                       for records in (held, inputs.some(lab.train, SHOWN)))
    shown = [token for example in examples for token in example["input_ids"]]
    longest = max(len(example["input_ids"]) for example in coded)
    prompted, better = None, max if measure == "exact match" else min
    if lab.train.kind != "text" and len(shown) + longest <= loading.context(lab.model):
        prompted = scoring.exact_match(model, tokenizer, held, shown=shown, **options) if (
            measure == "exact match") else scoring.loss_on(model, [
                {"input_ids": shown + example["input_ids"],
                 "labels": [encoding.NO_LOSS] * len(shown) + example["labels"]}
                for example in coded])
    return {"value": better(alone, alone if prompted is None else prompted), "alone": alone,
            "with_examples": prompted}


def _verdict(baseline: float, tuned: dict, measure: str, held: int) -> dict:
    """The advice, with the gain of tuning over the prompt and its 95 % margin.

    The margin has the noise of the seeds and, for exact match, of `held` answers on each side.
    """
    gain, margin = tuned["value"] - baseline, tuned["margin"]
    if measure == "exact match":
        odds = ((value * held + 1) / (held + 2) for value in (baseline, tuned["value"]))
        margin = math.hypot(margin, NORMAL * math.sqrt(sum(p * (1 - p) / held for p in odds)))
    else:
        gain = -gain
    advice = ("do not fine-tune" if not gain > 0 else
              "fine-tune" if gain > margin else "cannot tell")
    return {"advice": advice, "gain": gain, "margin": margin}


def _gain(lab, config: Config, full: list, measure: str) -> dict:
    """What twice as many records would buy in equally many steps: the slope of a line through a
    quarter, a half and all of them (log2), with its 95 % margin. full: the runs on all."""
    n = len(lab.train)
    order, points = random.Random(0).sample(range(n), n), [(math.log2(n), run) for run in full]
    for size in (n // 4, n // 2):  # the smaller part is in the larger one
        part: Any = schema.Records([lab.train[i] for i in sorted(order[:size])])
        small = Experiment(lab.model, part, lab.val, probes=(), template=lab.template,
                           metrics=lab.metrics)  # which are functions of (model, tokenizer) now
        points += [(math.log2(size), run) for run in _train(small, config, seed=SEEDS)]
    xs, ys = [x for x, _ in points], [_result(run, measure) for _, run in points]
    slope, start = statistics.linear_regression(xs, ys)
    left, freedom = [y - start - slope * x for x, y in zip(xs, ys, strict=True)], len(xs) - 2
    error = math.sqrt(sum(r * r for r in left) / freedom
                      / sum((x - statistics.mean(xs))**2 for x in xs))
    sizes = {round(2**x): statistics.mean(y for at, y in zip(xs, ys, strict=True) if at == x)
             for x in sorted(set(xs))}
    return {"more": n, "gain": slope if measure == "exact match" else -slope,
            "margin": significance.t_quantile(TAIL, freedom) * error, "curve": sizes}


def _memory(config: Config, model: str, gpu: str | None) -> str:
    try:
        found = footprint.memory(config, model, gpu=gpu)
    except UserError as error:
        return f"not predicted: {error}"
    fits = verdict.sentences(found.verdict) if found.verdict else []
    return " ".join([f"peak {formatting.gb(found.peak)}.", *fits])


def text(result: dict) -> str:
    """The plan as text, with the advice first."""
    def pm(what: dict, name: str = "value") -> str:
        return f"{number(what[name])} ± {number(what['margin'])}"

    def within(what: dict) -> str:
        return (f"{what['value']:g} ({what['low']:g} to {what['high']:g} are not clearly worse, of "
                f"{', '.join(what['losses'])})")

    judged, prompt, more = result["verdict"], result["baseline"], result["records"]
    why = {"fine-tune": "the tuned model is better than a prompt by",
           "do not fine-tune": "a prompt does as well; the tuned model gains",
           "cannot tell": "a prompt may do as well, so try it first; the tuned model gains"}
    found, shown = result["audit"], prompt["with_examples"]
    cut = "" if result["steps"] == result["steps_here"] else (
        f"; measured in {result['steps_here']} steps of {result['steps']}, and a longer run may "
        "want a lower one")
    lines = [
        f"{judged['advice'].capitalize()}: {why[judged['advice']]} {pm(judged, 'gain')} in "
        f"{result['measure']}.",
        f"Prompt: {result['measure']} {number(prompt['alone'])} untuned"
        + ("" if shown is None else f", {number(shown)} with {SHOWN} examples in the prompt"),
        f"Tuned: {pm(result['tuned'])} ({len(SEEDS)} seeds)",
        f"learning_rate: {within(result['learning_rate'])}{cut}",
        *([f"r: {within(result['rank'])}, with the same alpha / r"] if result["rank"] else []),
        f"Records: {more['more']:,} more would buy {pm(more, 'gain')} ("
        + ", ".join(f"{number(value)} with {size:,}" for size, value in more["curve"].items())
        + "), if the trend continues",
        f"Memory: {result['memory']}",
        f"Time: {result['steps']:,} steps, {formatting.duration(result['seconds'])} on this "
        "machine without evaluations",
        f"File: {found['rows']:,} rows, {found['duplicates']} duplicates, "
        f"{found['near_duplicates']} near-duplicates, {found['suspected']} suspected"
        + (f"; mend them first: `{found['mend']}`" if found["mend"] else "")]
    return "\n".join([*lines, f"To start it: `{result['command']}`"])
