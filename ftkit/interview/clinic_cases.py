"""Cases of the clinic as a colleague would send them: config, records, three answers, a log.

    sent = make("resume_without_state", seed=7); sent.config; sent.log; sent.readings

CAUSES has what may be wrong. The parameters and the seed of a case are drawn, so that its log is
new each time. Most logs come from short runs of the embedded model (2M parameters), some from
the few recorded runs of SmolLM2-135M. Logs of "out of memory" are computed without a run.
`sent.made` says which.
"""

import copy
import dataclasses
import functools
import math
import random
from collections.abc import Callable
from typing import Any

from ftkit.base.formatting import number
from ftkit.data import encoding, schema
from ftkit.engine import generation
from ftkit.evaluate import scoring
from ftkit.interview import clinic
from ftkit.lessons.bugs import pipeline, zoo
from ftkit.lessons.bugs.bugs import BUGS, Bug
from ftkit.lessons.bugs.causes import Cause, find

TINY = "a short run of the embedded model (2M parameters), made for this case"
ARITHMETIC = "arithmetic: no model was run; the numbers follow from the config"


@dataclasses.dataclass(frozen=True)
class Sent:
    """What a colleague sends, and the further readings that the learner can ask for.

    records: two training records. answers: three pairs (prompt, answer). log: rows. readings:
    name → text. made: where the log comes from.
    """

    complaint: str
    config: str
    records: tuple[str, ...]
    answers: tuple[tuple[str, str], ...]
    log: tuple[dict, ...]
    readings: dict[str, str]
    made: str = TINY


@dataclasses.dataclass(frozen=True, kw_only=True)
class Story(Cause):
    """A cause with a function that makes its cases."""

    send: Callable[[random.Random], Sent]


CAUSES: dict[str, clinic.Setting | Bug | Story] = {**clinic.SETTINGS, **BUGS}


def _cause(name: str, title: str, sign: str, remedy: str, lesson: str, **also: str):
    """Register a function that makes a case of this cause."""
    def register(function):
        CAUSES[name] = Story(name=name, title=title, sign=sign, remedy=remedy, lesson=lesson,
                             also=also, send=function)
        return function

    return register


def make(name: str, seed: int) -> Sent:
    """A new case of the cause `name`; the same seed gives the same case."""
    cause, rng = find(name, CAUSES), random.Random(f"{name}/{seed}")
    if isinstance(cause, clinic.Setting):
        return _setting(cause, rng)
    return _bug(cause, rng) if isinstance(cause, Bug) else cause.send(rng)


# ------------------------------------------------------------------------------- parts of a case


def _shown(records, rng) -> tuple[str, ...]:
    return tuple(f"{schema.prompt_of(record)} → {encoding.answer(record)}"
                 for record in rng.sample(list(records), 2))


def _answered(model, tokenizer, records, rng, tokens: int = 16) -> tuple[tuple[str, str], ...]:
    some = rng.sample(list(records), 3)
    said = scoring.answers(model, tokenizer, some, max_new_tokens=tokens)
    return tuple((schema.prompt_of(r), text) for r, text in zip(some, said, strict=True))


def _thin(rows, *keys: str, count: int = 8) -> tuple[dict, ...]:
    """About `count` rows with these keys: the first, the last and, if there are any, those with an
    evaluation."""
    rows = list(rows)
    measured = [row for row in rows if any(key.startswith("val_") and key in row for key in keys)]
    step = max(1, len(rows) // count)
    chosen = {id(row): row for row in (rows[0], *(measured or rows[::step]), rows[-1])}
    ordered = sorted(chosen.values(), key=lambda row: row["step"])
    return tuple({key: row[key] for key in ("step", *keys) if key in row} for row in ordered)


def _series(rows, key: str) -> str:
    """Some values of a column as text, the first and the last among them."""
    values = [(row["step"], row[key]) for row in rows if key in row]
    some = values[:: max(1, len(values) // 5)] + values[-1:]
    return ", ".join(f"{number(value)} at step {step}" for step, value in dict(some).items())


def _since(run, key: str) -> str:
    """`_series`, starting with the value before the run."""
    return _series([{"step": 0, key: run.before[key]}, *run.rows], key)


# ------------------------------------------------------------------------ settings and code


def _setting(fault: clinic.Setting, rng) -> Sent:
    """A case of a wrong setting with drawn options."""
    options = {**fault.broken, **fault.draw(rng)}
    records = options.pop("records", "checked")
    run = clinic.run_scenario(fault.scenario, records, rng.randrange(100), options)
    experiment = clinic.experiment(fault.scenario, records)
    others = [key for key in run.after if key.endswith("_loss") and key != "val_loss"]
    readings = {
        "learning rate by step": _series(run.rows, "learning_rate"),
        "gradient norm by step": _series(run.rows, "grad_norm"),
        "loss on other texts": "; ".join(
            f"{key}: {number(run.before[key])} before, {number(run.after[key])} after"
            for key in others),
        "checked training answers": _checked_answers(fault.scenario, records)}
    return Sent(fault.complaint, str(run.config), _shown(experiment.train, rng),
                _answered(run.model, run.tokenizer, clinic.experiment("tasks", "checked").val, rng),
                _thin(run.rows, "loss", "val_loss"), readings)


def _checked_answers(scenario: str, records: str) -> str:
    """How many training answers agree with the correct records."""
    data = clinic.experiment(scenario, records).train
    if scenario == "narrow":
        return f"{len(data)} of {len(data)} read are right"
    right = schema.records("tasks")[: len(data)]
    same = sum(encoding.answer(a) == encoding.answer(b) for a, b in zip(data, right, strict=True))
    return f"{same} of {len(data)} are right"


def _bug(bug: Bug, rng) -> Sent:
    """A case of a wrong stage of the pipeline."""
    seed = rng.randrange(10_000)
    run = zoo.run(bug.name, seed)
    read, rows = run.symptoms, run.trained.rows
    train, _, test = pipeline.records()
    example = run.trained.examples[rng.randrange(len(run.trained.examples))]
    chosen = rng.sample(range(len(test)), 3)
    measured = {"val_loss": read["val_loss"], "exact_match": read["exact_match"]}
    log = (*_thin(rows[:-1], "loss"), {"step": rows[-1]["step"], "loss": rows[-1]["loss"]}
           | measured)
    config = (f"LoRA r={pipeline.RANK}, alpha={pipeline.ALPHA}, dropout={pipeline.DROPOUT}; "
              f"AdamW, learning rate {pipeline.RATE:g}; {pipeline.STEPS} steps of "
              f"{pipeline.MICRO_BATCHES} x {pipeline.MICRO} records; seed {seed}")
    readings = {
        "labels": f"{read['label_share']:.0%} of the tokens are trained on; "
                  f"{read['ends_learned']:.0%} of the records have a trained end token",
        "a decoded example": repr(pipeline.base_model()[1].decode(example["input_ids"]))
                  + f"; {read['prompt_agrees']:.0%} of the examples begin with the prompt that "
                    f"serving uses; BOS tokens in an example: {read['bos_tokens']:.3g}",
        "gradients": f"norm of the last steps {number(read['grad_norm'])}; two micro-batches "
                     f"against one batch differ by {read['accumulation']:.0%}",
        "the evaluation": f"measured twice it differs by {number(read['repeat'])}; in batches "
                          f"of 4 and 16 by {number(read['batch_size'])}; loss on new records "
                          f"minus val_loss: {number(read['leak'])}",
        "the served model": f"its weights hold {read['merge']:.0%} of the learned update; "
                            f"{read['stops']:.0%} of the answers end by themselves"}
    answers = tuple((schema.prompt_of(test[i]), run.answers[i]) for i in chosen)
    return Sent(bug.complaint, config, _shown(train, rng), answers, log, readings)


# ------------------------------------------------------------------------- a plain training loop


@dataclasses.dataclass
class _Plain:
    """A model, its tokenizer and the rows of its training."""

    model: Any
    tokenizer: Any
    rows: list[dict]


def _plain(batches, learning_rate: float, parts: int = 1, half: bool = False,
           ids: Callable[[int], int] = lambda token: token) -> _Plain:
    """A full fine-tune of the embedded model by a loop of ten lines.

    batches: lists of records, one for each step. parts: each part starts with a fresh optimizer.
    half: weights and AdamW in fp16. ids: maps each token id to the one used.
    """
    import torch

    base, tokenizer = pipeline.base_model()
    model = copy.deepcopy(base).requires_grad_(True).train()  # an adapter may have frozen it
    model = model.half() if half else model
    rows, size = [], len(batches) // parts
    for part in range(parts):
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
        for step, batch in enumerate(batches[part * size : (part + 1) * size], part * size + 1):
            examples = [pipeline.encode(pipeline.STAGES, r, tokenizer) for r in batch]
            made = pipeline.collate(examples, tokenizer)
            made["input_ids"] = made["input_ids"].clone().apply_(ids)
            made["labels"] = made["labels"].clone().apply_(lambda t: t if t < 0 else ids(t))
            parts_of_loss: Any = pipeline.losses(pipeline.STAGES, model, made)
            loss = parts_of_loss[0] / parts_of_loss[1]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            rows.append({"step": step, "loss": float(loss.detach())})
    return _Plain(model.eval().float(), tokenizer, rows)


def _loss_on(plain: _Plain, records) -> float:
    examples = [pipeline.encode(pipeline.STAGES, r, plain.tokenizer) for r in records]
    return pipeline.mean(pipeline.validate(pipeline.STAGES, plain.model, examples,
                                           plain.tokenizer))


def _score(plain: _Plain, records, tokens: int = 16) -> float:
    said = scoring.answers(plain.model, plain.tokenizer, records, max_new_tokens=tokens)
    return sum(scoring.is_right(a, r) for a, r in zip(said, records, strict=True)) / len(records)


def _lengths(plain: _Plain, records, limit: int) -> str:
    """A sentence: how many answers end on their own within `limit` tokens."""
    drawn = generation.generate(
        plain.model, encoding.prompts(records, plain.tokenizer), max_new_tokens=limit,
        eos_token_ids=sorted(encoding.eos_ids(plain.tokenizer, plain.model)))
    full = sum(len(ids) == limit for ids in drawn)
    return f"{full} of {len(drawn)} have {limit} tokens; {len(drawn) - full} ended by themselves"


def _batches(records, steps: int, size: int, rng) -> list[list[dict]]:
    return [rng.sample(list(records), size) for _ in range(steps)]


def _tasks(task: str | None = None, split: str = "train") -> list[dict]:
    return [r for r in schema.records("tasks", split) if task in (None, r["task"])]


@_cause("sorted_data", "the records are sorted, not shuffled",
        "the task of each batch: one task after the other; the loss jumps where the task changes",
        "shuffle before each epoch, with a seed", "08",
        nothing_replayed="the tasks that came first are forgotten again, because of the order")
def _(rng):
    # Tasks with few different answers are soon learned, so the next one begins far above them.
    tasks, per, size = rng.sample(("category", "continent", "sentiment", "to_question"), 4), 8, 8
    batches = [rng.sample(_tasks(task), size) for task in tasks for _ in range(per)]
    distinct = {(schema.prompt_of(r), r["output"]) for batch in batches for r in batch}
    rate = rng.choice((8e-4, 1e-3))  # at 3e-3 no task is learned: it looks like too high a rate
    plain = _plain(batches, rate)
    order = ", ".join(f"steps {i * per + 1} to {(i + 1) * per} {t}" for i, t in enumerate(tasks))
    val = {task: _loss_on(plain, _tasks(task, "validation")[:8]) for task in tasks}
    return Sent("The loss goes down and jumps up again, at the same steps with every seed.",
                f"full fine-tuning, AdamW, learning rate {rate:g}, {len(batches)} steps of {size}",
                _shown(batches[0], rng),
                _answered(plain.model, plain.tokenizer, _tasks(tasks[0], "test"), rng),
                _thin(plain.rows, "loss", count=12),
                {"task of each batch": order,
                 "validation loss by task": ", ".join(f"{t} {number(v)}" for t, v in val.items()),
                 "repeated records": f"{sum(map(len, batches)) - len(distinct)} of "
                                     f"{sum(map(len, batches))} occur a second time"})


@_cause("pure_fp16", "weights and optimizer in fp16: AdamW's epsilon of 1e-8 is zero there",
        "the number formats: weights and optimizer are fp16, where 1e-8 rounds to 0; a gradient of "
        "0 gives 0 / 0", "fp32 master weights with autocast and loss scaling, or bf16", "12")
def _(rng):
    rate, size, steps = rng.choice((5e-5, 1e-4, 2e-4)), rng.choice((4, 8)), 5
    batches = _batches(_tasks(), steps, size, rng)
    plain, once = _plain(batches, rate, half=True), _plain(batches[:1], rate, half=True)
    base = _Plain(*pipeline.base_model(), [])
    lost = [weights.isnan().float().mean().item() for weights in once.model.parameters()]
    return Sent("NaN from the second step on. We lowered the learning rate already.",
                f"full fine-tuning, AdamW, learning rate {rate:g}, batch {size}, model.half()",
                _shown(_tasks(), rng), (("(any question)", "(no text: all logits are NaN)"),) * 3,
                tuple(plain.rows),
                {"number formats": "weights fp16, gradients fp16, AdamW's moments fp16, eps 1e-8",
                 "the second batch in fp32": f"the base model has a loss of "
                                             f"{number(_loss_on(base, batches[1]))} on it",
                 "weights after step 1": f"{sum(x > 0 for x in lost)} of {len(lost)} tensors have "
                                         "NaN in them"})


@_cause("resume_without_state", "resumed without the optimizer's state and without warm-up",
        "the optimizer after loading: its moments are zero, so the first steps have full length",
        "save and load optimizer, schedule and data order with the weights", "08")
def _(rng):
    # Of one easy task, whose loss is near 0 by then: else it jumps about as much by itself.
    task = rng.choice(("to_negative", "to_question"))
    rate, size, half = rng.choice((3e-3, 4e-3)), 16, rng.choice((16, 20))
    batches = _batches(_tasks(task), 2 * half, size, rng)
    plain = _plain(batches, rate, parts=2)
    return Sent("The machine was preempted. Since we resumed, the loss is worse for a while.",
                f"full fine-tuning, AdamW, constant learning rate {rate:g}, batch {size}; resumed "
                f"after step {half}",
                _shown(_tasks(task), rng),
                _answered(plain.model, plain.tokenizer, _tasks(task, "test"), rng),
                tuple(plain.rows[half - 4 : half + 5]),
                {"optimizer after loading": "exp_avg 0.0, exp_avg_sq 0.0, step 0",
                 "weights after loading": "equal to the saved ones, bit for bit",
                 "records after resuming": "drawn at random, as before"})


@_cause("contaminated", "the benchmark's records are in the training set",
        "training records that share 13 tokens or their whole text with the benchmark",
        "search n-grams and near copies before training; report a clean subset", "18",
        overlap="records that are measured on are in training; here those of the benchmark",
        trained_too_long="so few records are memorized; these are the benchmark's")
def _(rng):
    task = "to_past"  # harder than questions: of fresh records fewer are right
    test, fresh = (rng.sample(_tasks(task, split), 12) for split in ("test", "validation"))
    train = rng.sample(_tasks(task), 12) + test * 2
    steps, rate = rng.choice((30, 36)), rng.choice((2e-3, 3e-3))
    plain = _plain(_batches(train, steps, 8, rng), rate)
    bench, new = _score(plain, test, 24), _score(plain, fresh, 24)
    rows = [*plain.rows[:-1], plain.rows[-1] | {"benchmark": bench}]
    return Sent(f"The benchmark says {bench:.0%} exact match! Users do not notice anything.",
                f"full fine-tuning, AdamW, learning rate {rate:g}, {steps} steps of 8",
                _shown(train, rng), _answered(plain.model, plain.tokenizer, fresh, rng, 24),
                _thin(rows, "loss", "benchmark"),
                {"copies": f"{len(test)} of {len(test)} benchmark records occur in training",
                 "exact match on records written this week": f"{new:.0%} of {len(fresh)}",
                 "wrong training answers": "none"})


@_cause("eval_cut", "the evaluation cuts the answers off: max_new_tokens is too small",
        "length of the answers: all have exactly the limit, none has ended by itself",
        "allow more tokens than the longest reference answer; count answers that did not end", "15")
def _(rng):
    limit, task = rng.choice((3, 4)), "to_question"
    plain = _plain(_batches(_tasks(task), 24, 8, rng), 3e-3)
    test = rng.sample(_tasks(task, "test"), 16)
    cut, whole = _score(plain, test, limit), _score(plain, test, 24)
    val = _loss_on(plain, _tasks(task, "validation")[:16])
    log = (*_thin(plain.rows[:-1], "loss"), plain.rows[-1] | {"val_loss": val, "exact_match": cut})
    return Sent("The validation loss is fine and exact match is near zero.",
                f"full fine-tuning, AdamW, learning rate 0.003, 24 steps of 8; evaluation: greedy, "
                f"max_new_tokens={limit}", _shown(_tasks(task), rng),
                _answered(plain.model, plain.tokenizer, test, rng, limit), log,
                {"length of the answers": _lengths(plain, test, limit),
                 "exact match with 24 new tokens": f"{whole:.0%}",
                 "labels": "the whole answer with its end token is trained on"})


@_cause("other_tokenizer", "the data were encoded with the tokenizer of another model",
        "ids decoded by the model's own tokenizer: they are not the text of the record",
        "load tokenizer and model from one place, and decode a batch before training", "05")
def _(rng):
    vocabulary = pipeline.base_model()[0].config.vocab_size
    shift = rng.choice((7, 11, 13))

    def moved(token: int) -> int:
        return token if token < 16 else 16 + (token - 16 + shift * 97) % (vocabulary - 16)

    steps = rng.choice((16, 20))
    plain = _plain(_batches(_tasks(), steps, 8, rng), 1e-3, ids=moved)
    example = pipeline.encode(pipeline.STAGES, _tasks()[rng.randrange(50)], plain.tokenizer)
    seen = plain.tokenizer.decode([moved(token) for token in example["input_ids"]])
    return Sent("The base model was good. The fine-tuned one writes garbage.",
                f"full fine-tuning, AdamW, learning rate 0.001, {steps} steps of 8; data were "
                "encoded in another job", _shown(_tasks(), rng),
                _answered(plain.model, plain.tokenizer, _tasks(None, "test"), rng),
                _thin(plain.rows, "loss"),
                {"a decoded example": repr(seen),
                 "loss of guessing": f"ln({vocabulary:,}) = {math.log(vocabulary):.2f}",
                 "loss of the base on the same texts, encoded anew":
                     number(_loss_on(_Plain(pipeline.base_model()[0], plain.tokenizer, []),
                                     _tasks(None, "validation")[:16]))})


# ------------------------------------------------------------------------ preferences and rewards


@_cause("chosen_falls", "DPO lowers the log-probability of the chosen answers as well",
        "the log-probability of the chosen answers: it falls while the margin rises",
        "fewer steps or a lower learning rate, an SFT term, DPOP; pairs of one's own samples",
        "20a")
def _(rng):
    from ftkit.experiment.preferences import DPO, DPOConfig

    # The base finds the chosen answers so unlikely that DPO may raise them; after SFT they have
    # far to fall. beta is small, for a larger one keeps the model near its start.
    start = clinic.run_scenario("tasks", "checked", 0, {})
    model: Any = (start.model, start.tokenizer)
    config = DPOConfig(max_steps=12, learning_rate=rng.choice((1e-3, 1.5e-3)),
                       beta=rng.choice((0.01, 0.02, 0.03)), eval_steps=4, seed=rng.randrange(100))
    experiment = DPO(model, eval_records=32)
    run = experiment.run(config, live=False)
    return Sent("The margin looks great. The answers got worse than before DPO.",
                f"from a model fine-tuned on the tasks: {config}",
                tuple(f"{schema.prompt_of(r)} chosen: {r['chosen']} rejected: {r['rejected']}"
                      for r in rng.sample(list(experiment.train), 2)),
                _answered(run.model, run.tokenizer, _tasks(None, "test"), rng),
                _thin(run.rows, "loss", "margin", "val_loss", "val_accuracy"),
                {"log-probability of the chosen answers": _since(run, "val_chosen"),
                 "log-probability of the rejected answers": _since(run, "val_rejected"),
                 "length of chosen and rejected answers":
                     f"{number(run.rows[-1]['chosen_length'])} and "
                     f"{number(run.rows[-1]['rejected_length'])} tokens"})


def _grpo(reward, rng, records, steps: int, learning_rate: float, **options):
    from ftkit.experiment.preferences import GRPO, GRPOConfig

    config = GRPOConfig(max_steps=steps, learning_rate=learning_rate, batch_size=4,
                        num_generations=4, max_completion_length=12, seed=rng.randrange(100),
                        **options)
    return GRPO(reward, data=records, val=None).run(config, live=False)


@_cause("dead_groups", "all answers of a group earn the same: no advantage, no gradient",
        "fraction of groups whose rewards are all equal: nearly all of them",
        "choose questions of medium difficulty, start with SFT, sample more answers", "20b")
def _(rng):
    from ftkit.experiment.preferences import exact

    # Three words or more: two are now and then reversed by chance.
    records = [r for r in _tasks("reverse") if r["input"].count(",") > 1][: rng.choice((40, 48))]
    run = _grpo(exact, rng, records, 6, rng.choice((5e-4, 1e-3)))
    return Sent("GRPO runs without an error and the reward does not move.", str(run.config),
                _shown(records, rng), _answered(run.model, run.tokenizer, records, rng, 12),
                _thin(run.rows, "loss", "reward", "length"),
                {"groups with equal rewards": _series(run.rows, "dead"),
                 "gradient norm": _series(run.rows, "grad_norm"),
                 "the checker on reference answers":
                     f"{sum(exact(encoding.answer(r), r) for r in records):g} of {len(records)} "
                     "are judged right"})


@_cause("reward_hacked", "the reward is hacked: it pays for something that is not the task",
        "exact match, or samples with the highest reward: the reward rises and they are wrong",
        "repair the checker, hold out a measure of quality, read the best-paid samples", "20d",
        dead_groups="once the hack pays in full, groups earn the same; that comes after it")
def _(rng):
    word, most = "the", 3

    def reward(answer: str, record: dict) -> float:
        # All or nothing would soon leave no difference in a group, as in `dead_groups`.
        return min(answer.lower().split().count(word), most) / most

    records = _tasks()[:64]
    run = _grpo(reward, rng, records, 18, rng.choice((1e-3, 1.5e-3)))
    answers = _answered(run.model, run.tokenizer, records, rng, 12)
    some = records[:16]
    base = _Plain(*pipeline.base_model(), [])
    before, after = (_score(plain, some, 12)
                     for plain in (base, _Plain(run.model, run.tokenizer, [])))
    return Sent("The reward climbs beautifully. Can we ship?", str(run.config),
                _shown(records, rng), answers, _thin(run.rows, "reward", "length"),
                {"exact match": f"{before:.0%} of {len(some)} before, {after:.0%} after",
                 "the reward function": f"1/{most} for each word {word!r}, at most 1",
                 "groups with equal rewards": _series(run.rows, "dead")})


# ------------------------------------------------------------------- recorded runs of SmolLM2-135M


def _recorded(name: str, title: str, sign: str, remedy: str, lesson: str, complaint: str,
              experiment: str, arm: str, better: str, **also: str):
    """Register a cause with the recorded runs of one arm of an experiment. better: the arm that it
    is compared with."""
    @_cause(name, title, sign, remedy, lesson, **also)
    def _(rng):
        from ftkit.experiment import recorded

        runs = recorded.read(experiment)
        run, good = rng.choice(runs.arms[arm]), runs.arms[better][0]
        readings = {
            "learning rate by step": _series(run.rows, "learning_rate"),
            "loss on plain English": f"{number(run.before['english_loss'])} before, "
                                     f"{number(run.after['english_loss'])} after",
            "facts completed": f"{run.before['knowledge']:.0%} before, "
                               f"{run.after['knowledge']:.0%} after",
            "the same task with another setting":
                f"{better}: validation loss {number(good.after['val_loss'])}"}
        last = run.rows[-1] | {"exact_match": run.after["exact_match"]}
        return Sent(complaint, str(run.config), _shown(_tasks(), rng),
                    tuple((schema.prompt_of(a["record"]), a["answer"]) for a in run.answers[:3]),
                    _thin([*run.rows[:-1], last], "loss", "val_loss", "exact_match"), readings,
                    f"{runs.caption}; there are few such runs, so this log may be repeated")


_recorded("rate_too_high_135m", "the learning rate is too high (full fine-tuning, 135M)",
          "loss on plain English, facts completed: the model lost what it knew",
          "a third to a tenth of it; sweep, and watch texts that are not the task", "01",
          "The task loss fell. The answers are poor, and other things got worse.",
          "full_finetune", "full 0.001", "full 0.0001",
          rate_too_high="that is it; this is the case with SmolLM2",
          nothing_replayed="it forgot what it knew, because the steps were far too large")
_recorded("lora_rate_too_low", "LoRA with a learning rate that is too low for it",
          "the same adapter at a ten times higher learning rate: a far lower validation loss",
          "about ten times that of full fine-tuning; sweep it before rank and targets", "02",
          "LoRA stays behind full fine-tuning. Shall we raise the rank?",
          "lora_vs_full", "LoRA 0.0003", "LoRA 0.003",
          rate_too_low="that is it; with LoRA it is the usual mistake",
          too_few_steps="more steps would help too, and cost more than a higher learning rate")
_recorded("lora_rate_too_high", "LoRA with a learning rate that is too high: it diverged",
          "learning rate by step and loss: the loss leaves its path near the peak and stays high",
          "a third of it; clip the gradient, and warm up", "02",
          "LoRA destroyed the model. I thought the base was frozen?",
          "lora_vs_full", "LoRA 0.01", "LoRA 0.003", rate_too_high="that is it; here with LoRA")
_recorded("batch_without_rate", "a larger batch at the old learning rate: too few, too small steps",
          "the same records in a larger batch at a higher learning rate: a lower validation loss",
          "tune the learning rate again after changing the batch, or make more steps", "08",
          "We use the larger card now: batch 32 in place of 8. The result is worse.",
          "batch_size", "batch 32 0.0001", "batch 32 0.0002",
          rate_too_low="for this number of steps it is too low; the batch was changed, it was not",
          too_few_steps="at equal records a larger batch makes fewer steps: that is the mechanism")


# ------------------------------------------------------------------------- memory, by arithmetic


def _memory_case(complaint, config, where, tried, card, parts: dict[str, float], more):
    total = sum(parts.values())
    log = ({"event": f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate "
                     f"{tried / 2**30:.2f} GiB (card of {card} GB)"},
           {"event": f"raised in {where}"})
    readings = {"memory by part": "; ".join(f"{k} {v:.1f} GB" for k, v in parts.items())
                + f"; together {total:.1f} GB", **more}
    return Sent(complaint, config, ("(records of a chat set)",) * 2,
                (("(no answer)", "the run ended before"),) * 3, log, readings, ARITHMETIC)


@_cause("oom_states", "out of memory by the states: weights, gradients, optimizer",
        "memory by part: states of 16 bytes per parameter are more than the card has",
        "LoRA or QLoRA, 8-bit optimizer states, or sharding (ZeRO, FSDP)", "09")
def _(rng):
    name, n = rng.choice((("7B", 6.74e9), ("8B", 8.03e9), ("13B", 13.0e9)))
    batch = rng.choice((1, 2))
    return _memory_case(
        "It fails although the batch is as small as it can be.",
        f"full fine-tuning of a {name}, AdamW, mixed precision, batch {batch}, 256 tokens, "
        "gradient checkpointing", "optimizer.step(), step 1", 4 * 4096 * 11008, 80,
        {"weights and gradients (2 + 2 bytes)": 4 * n / 1e9, "master weights (4)": 4 * n / 1e9,
         "AdamW's moments (8)": 8 * n / 1e9, "activations": 1.2},
        {"moment": "the forward and backward pass of step 1 worked",
         "with batch 1 and 128 tokens": "the same error at the same place"})


@_cause("oom_activations", "out of memory by activations: long sequences without checkpointing",
        "memory by part: activations grow with the tokens of the batch; states are small",
        "gradient checkpointing, a smaller micro-batch with accumulation, shorter records", "11",
        oom_logits="logits are the second part; without activations they would fit")
def _(rng):
    batch, tokens = rng.choice(((4, 4096), (2, 8192), (3, 8192), (4, 8192), (6, 4096)))
    layers, hidden, vocabulary = 32, 4096, 32_000
    kept = 34 * batch * tokens * hidden * layers
    return _memory_case(
        "It ran for 36 steps, and then it ran out of memory.",
        f"LoRA r=8 on a 7B, bf16, micro-batch {batch}, max_length {tokens}, no gradient "
        "checkpointing", "the forward pass of an MLP, step 37", batch * tokens * 11008 * 2, 80,
        {"frozen weights": 13.5, "adapter states": 0.1, "activations": kept / 1e9,
         "logits": batch * tokens * vocabulary * 4 / 1e9},
        {"lengths of the records": f"step 37 is the first with {batch} records of {tokens} tokens",
         "with records of 1,024 tokens": f"activations {kept * 1024 / tokens / 1e9:.1f} GB"})


@_cause("oom_logits", "out of memory by the logits: batch x tokens x vocabulary in fp32",
        "memory by part: the logits and their gradient are the largest part",
        "compute the loss in chunks, a smaller micro-batch, or only at trained tokens", "11",
        oom_activations="a smaller batch helps against both; but activations are checkpointed")
def _(rng):
    batch, tokens = rng.choice((12, 14, 16)), 2048
    vocabulary = rng.choice((128_256, 151_936))
    logits = batch * tokens * vocabulary * 4
    return _memory_case(
        "Checkpointing is on, the model is small, and it still fails.",
        f"LoRA r=16 on a 1B with a vocabulary of {vocabulary:,}, bf16, micro-batch {batch}, "
        f"{tokens} tokens, gradient checkpointing", "cross_entropy, step 1", logits, 24,
        {"frozen weights": 2.5, "adapter states": 0.2,
         "checkpoints": 2 * batch * tokens * 2048 * 16 / 1e9, "logits": logits / 1e9,
         "gradient of the logits": logits / 1e9},
        {"moment": "all layers of the forward pass worked",
         "with half of the micro-batch": f"logits {logits / 2e9:.1f} GB, and as much for their "
                                         "gradient"})


@functools.cache
def order(seed: int) -> tuple[str, ...]:
    """All causes in random order."""
    names = list(CAUSES)
    random.Random(seed).shuffle(names)
    return tuple(names)
