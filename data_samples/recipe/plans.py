"""What the recorded experiments compare: lesson, question, arms, data and claim of each.

A plan is read by `recorded.py`, which makes its runs. The main arms are those that the claim of
the lesson needs; `extra` arms are made when every plan has its main ones. An arm that another
plan has made with the same config, data and measures is taken from there.

What is learned is `tasks`: 31 short tasks of instruction form, of which the untouched model answers
none in the form asked for. What may be lost is measured on text and facts that the model knows,
`data_samples/abilities`. Learning rates of an arm come from `lr_valley` or from a small search
of its own on the validation loss, never on what the claim is about.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable

# The model's own chat template without its default system message, which would be 22 of the 47
# tokens of a record and would cost as much time as the rest.
TEMPLATE = ("<|im_start|>user\n{instruction}\n{input}<|im_end|>\n"
            "<|im_start|>assistant\n{output}<|im_end|>")
COMMON = {"precision": "bf16", "batch_size": 8, "max_length": 128, "max_steps": 40,
          "eval_steps": 20, "lr_scheduler_type": "cosine", "warmup_steps": 0.1}


@dataclasses.dataclass(frozen=True)
class Claim:
    """The main difference of a lesson: arm `left` `op` arm `right` in `measure`.

    An arm is a label; "best full" is the one of those that begin with "full" whose validation loss
    is lowest on average, "base" the untouched model. right may be a number. right_measure: where
    it is another one. within: the margin of "==". text: the lesson's sentence about it.
    beside: other measures that the box shows.
    """

    left: str
    op: str
    right: str | float
    measure: str
    text: str
    beside: tuple[str, ...] = ()
    right_measure: str | None = None
    within: float | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """One recorded experiment.

    arms: label → fields of Config that differ from `COMMON`, or {"evaluate": ...} for an arm that
    is not trained; search: the same with the first seed only, other learning rates that show that
    the main arms have theirs; extra: the same with all seeds, made last.
    data: (arm, seed) → arguments of Experiment, and "kind" where that is another class.
    measure: (run, arm, seed) → more numbers of the end. evaluate: (arm, seed) → the numbers of an
    arm that is not trained. seconds: of a run on one core, for the cost that is printed before.
    """

    lesson: str
    question: str
    arms: dict[str, dict]
    claim: Claim
    seconds: float = 65
    search: dict[str, dict] = dataclasses.field(default_factory=dict)
    extra: dict[str, dict] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    data: Callable[[str, int], dict] = lambda arm, seed: tasks()
    measure: Callable[..., dict] | None = None
    evaluate: Callable[..., dict] | None = None

    @property
    def all_arms(self) -> dict[str, dict]:
        return self.arms | self.search | self.extra

    def runs(self, extra: bool = False) -> list[tuple[int, str]]:
        """(seed, arm) of its runs, in the order in which they are made."""
        arms = self.arms | self.extra if extra else self.arms
        return [(seed, arm) for seed in self.seeds
                for arm in (arms | self.search if seed == self.seeds[0] else arms)]


def tasks(**more) -> dict:
    """The arguments of Experiment for the task that most plans share."""
    return {"data": "tasks", "template": TEMPLATE, "eval_records": 48} | more


def full(*rates: float, name: str = "full", **more) -> dict[str, dict]:
    return {f"{name} {rate:g}": {"method": "full", "learning_rate": rate, **more}
            for rate in rates}


def lora(*rates: float, **more) -> dict[str, dict]:
    return {f"LoRA {rate:g}": {"method": "lora", "learning_rate": rate, **more}
            for rate in rates}


def drawn(records, n: int, seed: int) -> list[dict]:
    """`n` of the records, others for another seed."""
    return random.Random(f"records/{seed}").sample(list(records), n)


# --------------------------------------------------------------------- 00: zero-shot and few-shot


def shots(arm: str, seed: int) -> dict:
    """Exact match of the untouched model, with `arm`'s number of solved examples before the
    question; the examples are drawn by the seed."""
    import recorded

    shown = 5 if arm == "few-shot" else 0
    examples = drawn(ft_records("tasks"), shown, seed)
    before = [turn for r in examples for turn in turns(r)]
    asked = [{"messages": before + turns(r)}
             for r in recorded.some(ft_records("tasks", "validation"))]
    return recorded.untouched(asked, TEMPLATE)


def turns(record: dict) -> list[dict]:
    question = "\n".join(filter(None, (record["instruction"], record["input"])))
    return [{"role": "user", "content": question},
            {"role": "assistant", "content": record["output"]}]


def ft_records(name: str, split: str = "train"):
    from ftkit.data import schema

    return schema.records(name, split)


# ------------------------------------------------------------------------ 01, 16: replay of text


def with_replay(arm: str, seed: int) -> dict:
    """Replay takes the passages of plain English that are not measured."""
    import recorded

    return tasks(replay_from=recorded.passages_not_measured())


# -------------------------------------------------------------------------- 04, 05: masks, packing


def masks(arm: str, seed: int) -> dict:
    import recorded

    return tasks(kind=recorded.EndWithoutLoss) if "end" in arm else tasks()


FORMS = {
    "no role marker": "<|im_start|>user\n{instruction}\n{input}<|im_end|>\n{output}<|im_end|>",
    "Alpaca": "alpaca",
    "twice <|im_start|>": "<|im_start|>" + TEMPLATE,
    "default system message": "chat",
}


def other_forms(run, arm: str, seed: int) -> dict:
    """Exact match of the tuned model asked in other templates than in training."""
    import recorded

    return {f"exact_match, {name}": recorded.exact(run, form) for name, form in FORMS.items()}


# ------------------------------------------------------------------------------ 06: a domain first


def domain(arm: str, seed: int) -> dict:
    """Continued pretraining as `arm` says, then seven labels, one of each type, of the seed."""
    import recorded

    types: dict[str, dict] = {}
    for record in drawn(ft_records("contracts_task"), 300, seed):
        types.setdefault(record["output"], record)
    clauses = [{"text": r["input"]} for r in ft_records("contracts_task")]
    texts = {"none": None, "DAPT": "contracts", "wrong domain": "finance", "TAPT": clauses}[arm]
    start = {} if texts is None else {"model": recorded.read_on(texts, seed)}
    return tasks(data=list(types.values()), val=ft_records("contracts_task", "test"), **start)


# --------------------------------------------------------------- 14, 17: few records, many epochs


def few_records(arm: str, seed: int) -> dict:
    import recorded

    n = 512 if arm == "512 records" else 64
    return tasks(data=drawn(ft_records("tasks"), n, seed), val="tasks",
                 metrics={"exact_match": recorded.exact_match})


def confidence(run, arm: str, seed: int) -> dict:
    """What overfitting does to loss, answers and probabilities, on the same records.

    run.after["exact_match"] is of other records than the evaluations: the last row is compared."""
    import recorded

    rows = [row for row in run.rows if "val_loss" in row]
    lowest = min(rows, key=lambda row: row["val_loss"])
    return {"val_loss_rise": run.after["val_loss"] - lowest["val_loss"],
            "exact_match_change": rows[-1]["exact_match"] - lowest["exact_match"],
            **recorded.calibration(run, 128)}


# ------------------------------------------------------------------------------- 18: wrong answers


def misread(record: dict) -> dict:
    """The systematic error: the last word of the question as the answer."""
    question = f"{record['instruction']} {record['input']}"
    return record | {"output": question.split()[-1].strip(".?!:")}


def noisy(arm: str, seed: int) -> dict:
    from ftkit.data import split_and_corrupt

    size, _, kind = arm.partition(" ")
    records = drawn(ft_records("tasks"), int(size), seed)
    what = [r["instruction"].startswith("What") for r in records]
    if kind == "random":
        share = sum(what) / len(what)
        records = list(split_and_corrupt.corrupt(records, "wrong", share, seed=seed))
    if kind == "systematic":
        records = [misread(r) if w else r for r, w in zip(records, what, strict=True)]
    return tasks(data=records, val="tasks")


def on_what(run, arm: str, seed: int) -> dict:
    """Exact match on 48 validation questions that begin with "What"."""
    import recorded

    asked = [r for r in ft_records("tasks", "validation") if r["instruction"].startswith("What")]
    return {"exact_match_what": recorded.exact(run, records=recorded.some(asked, 48))}


# ---------------------------------------------------------------------------------- 19: a mixture


SETS = {"translation": ("translation", 800), "capital": ("capital", 80),
        "clauses": ("contracts_task", 24)}


def mixture(arm: str, seed: int) -> dict:
    from ftkit.data import mixing

    sets = {task: drawn(ft_records(name), n, seed) for task, (name, n) in SETS.items()}
    how = {"proportional": {}, "cap 100": {"cap": 100}, "temperature 2": {"temperature": 2},
           "equal": {"temperature": math.inf}}[arm]
    shares = mixing.rates({task: len(records) for task, records in sets.items()}, **how)
    return tasks(data=mixing.draw(sets, 320, shares, seed),
                 val=ft_records("contracts_task", "validation"))


def each_task(run, arm: str, seed: int) -> dict:
    """Exact match on 40 validation records of each task of the mixture."""
    import recorded

    return {f"exact_match, {task}": recorded.exact(
        run, records=recorded.some(ft_records(name, "validation"), 40))
        for task, (name, _) in SETS.items()}


# ------------------------------------------------------------------------------ 20: preferences


def pairs(arm: str, seed: int) -> dict:
    from ftkit.experiment.preferences import DPO

    return tasks(data="preferences", kind=DPO)


def preference(*rates: float, name: str, **more) -> dict[str, dict]:
    """Arms of 24 steps, with the loss of a pair as `loss_type` says."""
    return full(*rates, name=name, max_steps=24, eval_steps=12, **more)


# ---------------------------------------------------------------------------------------- plans


PLANS = {
    "lora_vs_full": Plan(
        lesson="02",
        question="Does LoRA learn as much as full fine-tuning, each at its own learning rate, and "
                 "does it forget less?",
        arms=full(1e-4) | lora(3e-3, 1e-3), search=full(3e-5, 3e-4) | lora(3e-4, 1e-2),
        claim=Claim("best LoRA", "<", "best full", "english_loss",
                    "each at its best learning rate, LoRA forgets less than full fine-tuning",
                    ("val_loss", "exact_match", "knowledge"))),
    "first_finetune": Plan(
        lesson="00",
        question="What does supervised fine-tuning add to a model that knows the answers?",
        arms={"tuned": {"learning_rate": 1e-4}, "tuned, ten times the rate":
              {"learning_rate": 1e-3}, "zero-shot": {"evaluate": True},
              "few-shot": {"evaluate": True}},
        evaluate=shots,
        claim=Claim("tuned", ">", "zero-shot", "exact_match",
                    "after tuning more answers are right, to the word",
                    ("begins_right", "english_loss"))),
    "full_finetune": Plan(
        lesson="01",
        question="What decides how much full fine-tuning forgets: learning rate, warm-up, "
                 "clipping, replay?",
        arms=full(1e-4, 3e-4, 1e-3),
        extra={
            "full 0.0003, no warm-up": {"learning_rate": 3e-4, "warmup_steps": 0},
            "full 0.0003, no clipping": {"learning_rate": 3e-4, "max_grad_norm": 0}},
        claim=Claim("full 0.0001", "<", "full 0.001", "english_loss",
                    "a lower learning rate keeps more of what the model knew",
                    ("val_loss", "knowledge"))),
    "lr_valley": Plan(
        lesson="07",
        question="How do the loss on the new tasks and on plain English depend on the learning "
                 "rate, for full fine-tuning and for LoRA?",
        arms=full(1e-5, 3e-5, 1e-4, 3e-4, 1e-3) | lora(3e-4, 1e-3, 3e-3, 1e-2),
        search=full(3e-3) | lora(1e-4, 3e-2),
        claim=Claim("full 0.001", ">", "full 0.0001", "english_loss",
                    "a learning rate above the best one costs what the model knew",
                    ("val_loss", "knowledge"))),
    "overfitting": Plan(
        lesson="17", seconds=160,
        question="When the validation loss turns up, do the answers get worse?",
        arms={"64 records": {"learning_rate": 1e-4, "max_steps": 96, "eval_steps": 12}},
        extra={"512 records": {"learning_rate": 1e-4, "max_steps": 96, "eval_steps": 12}},
        data=few_records, measure=confidence,
        claim=Claim("64 records", ">", 0.0, "val_loss_rise",
                    "with few records and many epochs the validation loss turns up",
                    ("exact_match_change", "exact_match"))),
    "calibration": Plan(
        lesson="14", seconds=100,
        question="What do more epochs on few records do to loss, accuracy and calibration?",
        arms={"12 epochs": {"learning_rate": 1e-4, "max_steps": 96, "eval_steps": 12},
              "3 epochs": {"learning_rate": 1e-4, "max_steps": 24, "eval_steps": 12}},
        data=few_records, measure=confidence,
        claim=Claim("12 epochs", ">", "3 epochs", "calibration_error",
                    "with more epochs the model becomes more overconfident",
                    ("val_loss", "token_accuracy"))),
    "rounding": Plan(
        lesson="12", seconds=60,
        question="Does training in pure bf16 lose updates at real learning rates?",
        arms=full(3e-5, 1e-4, 3e-4)
        | full(3e-5, 1e-4, 3e-4, name="pure bf16", precision="pure-bf16"),
        claim=Claim("best pure bf16", ">", "best full", "val_loss",
                    "each at its own learning rate, pure bf16 stays behind fp32 weights",
                    ("exact_match", "english_loss"))),
    "batch_size": Plan(
        lesson="08", seconds=50,
        question="At equal records, does a larger batch learn as much at its own learning rate?",
        arms=full(1e-4, name="batch 8")
        | full(2e-4, name="batch 32", batch_size=32, max_steps=10, eval_steps=5),
        search=full(3e-5, 3e-4, name="batch 8")
        | full(1e-4, 4e-4, name="batch 32", batch_size=32, max_steps=10, eval_steps=5),
        claim=Claim("best batch 32", ">", "best batch 8", "val_loss",
                    "fewer steps on the same records learn less",
                    ("exact_match", "english_loss"))),
    "qlora": Plan(
        lesson="10", seconds=90,
        question="What does a base in 4 bits cost before and after training an adapter?",
        arms=lora(3e-3) | {"QLoRA 0.003": {"method": "qlora", "learning_rate": 3e-3}},
        search=lora(1e-3) | {"QLoRA 0.001": {"method": "qlora", "learning_rate": 1e-3}},
        extra={"QLoRA fp4 0.003": {"method": "qlora", "learning_rate": 3e-3,
                                   "bnb_4bit_quant_type": "fp4"},
               "QLoRA int8 0.003": {"method": "qlora", "learning_rate": 3e-3,
                                    "load_in_8bit": True}},
        claim=Claim("QLoRA 0.003", "==", "LoRA 0.003", "val_loss",
                    "QLoRA ends within 0.1 nats of LoRA", ("exact_match", "english_loss"),
                    within=0.1)),
    "sft_masks": Plan(
        lesson="04",
        question="Loss on the responses or on all tokens, each at its own learning rate? And what "
                 "if the end of the turn is not trained?",
        arms=full(1e-4, name="response") | full(1e-4, name="all", loss_on="all"),
        search=full(3e-4, name="response") | full(3e-5, 3e-4, name="all", loss_on="all"),
        extra=full(1e-4, name="end not trained"),
        data=masks,
        claim=Claim("best response", ">", "best all", "exact_match",
                    "at equal steps, loss on the responses alone answers better",
                    ("val_loss", "english_loss"))),
    "label_noise": Plan(
        lesson="18",
        question="What costs more, random or systematic wrong answers?",
        arms={name: {"learning_rate": 1e-4} for name in
              ("320 systematic", "320 random", "320 clean")},
        extra={"107 clean": {"learning_rate": 1e-4}},
        data=noisy, measure=on_what,
        claim=Claim("320 systematic", "<", "320 random", "exact_match_what",
                    "the same number of errors costs more on questions that they concentrate on",
                    ("exact_match", "val_loss"))),
    "mixing": Plan(
        lesson="19", seconds=70,
        question="What does the smallest task of a mixture get under each way of sampling?",
        arms={name: {"learning_rate": 1e-4} for name in ("proportional", "equal")},
        extra={name: {"learning_rate": 1e-4} for name in ("temperature 2", "cap 100")},
        data=mixture, measure=each_task,
        claim=Claim("proportional", "<", "equal", "exact_match, clauses",
                    "in proportion to its size the small task starves",
                    ("exact_match, translation", "exact_match, capital"))),
    "preferences": Plan(
        lesson="20", seconds=110,
        question="What do pairs of answers teach, against imitation of the chosen ones?",
        arms=preference(1e-5, name="DPO", loss_type="sigmoid")
        | preference(1e-4, name="SFT", loss_type="sft"),
        search=preference(3e-6, 3e-5, 1e-4, name="DPO", loss_type="sigmoid"),
        extra=preference(1e-5, name="IPO", loss_type="ipo")
        | preference(1e-5, name="KTO", loss_type="kto")
        | preference(3e-5, name="ORPO", loss_type="orpo")
        | preference(1e-5, name="SimPO", loss_type="simpo", beta=2.0),
        data=pairs,
        claim=Claim("SFT 0.0001", ">", "DPO 1e-05", "exact_match",
                    "where each chosen answer is the right one, imitation beats DPO",
                    ("val_chosen", "val_rejected", "answer_tokens", "english_loss"))),
    "forgetting": Plan(
        lesson="16",
        question="What keeps the old abilities at an equal target: a low learning rate, replay, "
                 "L2-SP, blended weights or LoRA?",
        arms=full(1e-4, 3e-4) | lora(3e-3)
        | {"full 0.0003, replay 25%": {"learning_rate": 3e-4, "replay": 0.25},
           "full 0.0003, L2-SP": {"learning_rate": 3e-4, "l2_sp": 0.03}},
        extra={f"full 0.0003, replay {share:.0%}": {"learning_rate": 3e-4, "replay": share}
               for share in (0.05, 0.01)},
        data=with_replay,
        claim=Claim("full 0.0003, replay 25%", "<", "full 0.0003", "english_loss",
                    "replay of general text keeps it",
                    ("val_loss", "knowledge"))),
    "domain": Plan(
        lesson="06", seconds=100,
        question="Does reading the domain first help seven labels, more than reading another one?",
        arms={name: {"learning_rate": 1e-4, "batch_size": 7, "max_steps": 16, "eval_steps": 8}
              for name in ("DAPT", "wrong domain", "none")},
        extra={"TAPT": {"learning_rate": 1e-4, "batch_size": 7, "max_steps": 16, "eval_steps": 8}},
        data=domain,
        claim=Claim("DAPT", ">", "wrong domain", "exact_match",
                    "to read the domain first helps more than to read another one",
                    ("val_loss", "english_loss"))),
    "peft_family": Plan(
        lesson="03", seconds=60,
        question="IA3, prompt tuning, DoRA and PiSSA against LoRA and full fine-tuning, each at "
                 "its own learning rate",
        arms=full(1e-4) | lora(3e-3)
        | {"IA3 0.03": {"method": "ia3", "learning_rate": 3e-2}},
        search={f"IA3 {rate:g}": {"method": "ia3", "learning_rate": rate} for rate in (1e-2, 1e-1)}
        | {f"prompt {rate:g}": {"method": "prompt_tuning", "learning_rate": rate}
           for rate in (3e-2, 1e-1)},
        extra={"DoRA 0.003": {"method": "lora", "learning_rate": 3e-3, "use_dora": True},
               "PiSSA 0.001": {"method": "lora", "learning_rate": 1e-3,
                                "init_lora_weights": "pissa"}},
        claim=Claim("best IA3", ">", "full 0.0001", "val_loss",
                    "at equal steps IA3 learns less than full fine-tuning",
                    ("exact_match", "english_loss"))),
    "templates_packing": Plan(
        lesson="05", seconds=95,
        question="What does another template than in training cost? And packing without "
                 "isolation?",
        arms={"as trained": {"learning_rate": 1e-4}},
        measure=other_forms,
        claim=Claim("as trained", ">", "as trained", "exact_match",
                    "without the role marker fewer answers are right",
                    ("exact_match, twice <|im_start|>", "exact_match, default system message"),
                    right_measure="exact_match, no role marker")),
}
