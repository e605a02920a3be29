"""The bug zoo: a correct pipeline and fourteen real bugs, each one stage of it done wrong.

    case = bugzoo.case(seed=1)      # some bug is in it; shows symptoms, not the bug
    case.curve(); case.batch(); case.answers()
    case.guess("pad_is_eos"); case.repair("pad_is_eos")

    bugzoo.run("double_shift", seed=0).symptoms      # the same by name
"""

from __future__ import annotations

import copy
import difflib
import functools
import random
from typing import NamedTuple

from ftkit import claims, data, pipeline, plots, progress, tokens, words

# ---------------------------------------------------------------------------- the bugs


class Bug(NamedTuple):
    """title, what it is, how it is repaired, the lesson that treats it."""

    title: str
    what: str
    repair: str
    lesson: str


BUGS: dict[str, Bug] = {}
CHANGES: dict[str, dict] = {}  # bug → {stage: the function that does it wrong}


def _bug(stage: str, title: str, repair: str, lesson: str = "05"):
    """Register a function as a wrong stage; its docstring says what is wrong."""
    def register(function):
        what = " ".join(function.__doc__.split())
        BUGS[function.__name__] = Bug(title, what, repair, lesson)
        CHANGES[function.__name__] = {stage: function}
        return function

    return register


@_bug("collate", "pad = EOS, masked by id",
      "pad with a token of its own, or mask by length instead of by id")
def pad_is_eos(examples, tokenizer):
    """The padding token is EOS, and every label with its id becomes -100: the real EOS too."""
    eos = tokenizer.eos_token_id
    batch = tokens.collate(examples, eos)
    batch["attention_mask"] = (batch["input_ids"] != eos).long()
    batch["labels"][batch["labels"] == eos] = -100
    return batch


@_bug("render", "role marker missing in training",
      "render with add_generation_prompt, so that training and use read the same prompt")
def no_role_marker(record, tokenizer):
    """The prompt is rendered without the generation prompt: the answer follows the question."""
    turns = [{"role": "user", "content": data.prompt_of(record)}]
    asked = tokenizer.apply_chat_template(turns, tokenize=False)
    return asked, f" {record['output']}{tokenizer.eos_token}"


@_bug("tokenize", "double BOS",
      "tokenise what the template has rendered with add_special_tokens=False")
def double_bos(asked, written, tokenizer):
    """The template writes BOS, and the tokenizer puts another one in front."""
    prompt, answer = pipeline.tokenize(asked, written, tokenizer)
    return [tokenizer.bos_token_id, *prompt], answer


@_bug("label", "loss mask lost", "give the prompt the label -100", "04")
def mask_lost(prompt, answer, tokenizer):
    """labels = input_ids: the question carries loss as well as the answer."""
    return prompt + answer


@_bug("label", "every label masked",
      "mask by the length of the prompt's ids, not by searching for a marker")
def all_masked(prompt, answer, tokenizer):
    """The mask looks for the ids of "Assistant: ", which in a text are tokenised differently; not
    found means masked from first to last."""
    ids = prompt + answer
    marker = tokenizer("Assistant: ", add_special_tokens=False)["input_ids"]
    found = [i for i in range(len(ids)) if ids[i : i + len(marker)] == marker]
    start = found[0] + len(marker) if found else len(ids)
    return [-100] * start + ids[start:]


@_bug("fit", "answers cut off", "raise max_length above the longest record; count what is cut")
def truncated(example):
    """max_length is 24 tokens and cuts the end of longer records: their answers and their EOS."""
    return {key: values[:24] for key, values in example.items()}


@_bug("token_losses", "labels shifted twice", "shift once: the library's model does it already",
      "04")
def double_shift(logits, labels):
    """The labels are shifted by hand and again in the loss: each place learns the token after
    the next."""
    return pipeline.token_losses(logits[:, :-1], labels[:, 1:])


@_bug("weigh", "accumulation as a mean of means",
      "divide the sum of all losses by the labelled tokens of the whole step", "08")
def mean_of_means(loss, count, counts):
    """Each micro-batch is divided by its own labelled tokens, then by the number of batches."""
    return loss / max(1, count) / len(counts)


@_bug("forget_gradients", "gradients never cleared", "call zero_grad after each step", "08")
def gradients_kept(optimizer):
    """zero_grad is missing: every step adds to the gradients of all steps before."""


@_bug("average", "perplexity over padding",
      "divide by the labelled tokens, and check that the batch size changes nothing", "14")
def padding_counted(loss, count, batch):
    """The validation loss is divided by all places of the batch, padding and prompts included."""
    return float(loss), batch["labels"].numel()


@_bug("mode", "evaluated in training mode", "call model.eval() before, model.train() after", "14")
def train_mode(model):
    """Dropout is still drawn while the validation loss is measured."""
    model.train()


@_bug("validation", "training records in the validation set",
      "split by source, and look for records that stand on both sides", "18")
def overlap(train, held_out):
    """The validation records are some of those that are trained on."""
    return train[:: max(1, len(train) // len(held_out))][: len(held_out)]


@_bug("serve", "alpha / r forgotten in the merge",
      "merge W + alpha / r B A, and compare the losses before and after", "02")
def alpha_forgotten(model):
    """The adapter is merged by hand as W + B A, without its scale."""
    from peft.tuners.lora import LoraLayer

    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.scaling = dict.fromkeys(module.scaling, 1.0)
    return pipeline.serve(model)


@_bug("serve", "a fresh adapter is served",
      "load with PeftModel.from_pretrained; get_peft_model makes a new adapter", "02")
def fresh_adapter(model):
    """The adapter is "loaded" with get_peft_model, which makes a new one, with B at zero."""
    return pipeline.serve(pipeline.adapted())


# -------------------------------------------------------------------------- what is seen

# name → (what it says in words, how far it must be from a healthy run to mean something)
INSTRUMENTS = {
    "first_loss": ("loss of the first step", 1.0),
    "last_loss": ("loss of the last steps", 0.3),
    "grad_norm": ("gradient norm of the last steps", 4.0),
    "label_share": ("share of tokens that carry loss", 0.02),
    "ends_learned": ("records whose EOS carries loss", 0.02),
    "bos_tokens": ("BOS tokens in a record", 0.02),
    "prompt_agrees": ("records that begin with the prompt used in serving", 0.02),
    "accumulation": ("gradient of two micro-batches against one batch: relative difference", 0.02),
    "val_loss": ("validation loss, as reported", 0.3),
    "repeat": ("validation loss, measured twice: difference", 1e-4),
    "batch_size": ("validation loss in batches of 16 and of 4: difference", 1e-3),
    "leak": ("loss on new records minus validation loss", 0.2),
    "merge": ("loss of the served model minus that of the trained one", 0.01),
    "exact_match": ("exact match of the answers", 0.15),
    "stops": ("answers that end by themselves", 0.1),
}
# The instrument that shows a bug best, and which way.
SHOWN_BY = {
    "pad_is_eos": ("ends_learned", "lower"), "no_role_marker": ("prompt_agrees", "lower"),
    "double_bos": ("bos_tokens", "higher"), "mask_lost": ("label_share", "higher"),
    "all_masked": ("label_share", "lower"), "truncated": ("ends_learned", "lower"),
    "double_shift": ("first_loss", "higher"), "mean_of_means": ("accumulation", "higher"),
    "gradients_kept": ("grad_norm", "higher"), "padding_counted": ("batch_size", "higher"),
    "train_mode": ("repeat", "higher"), "overlap": ("leak", "higher"),
    "alpha_forgotten": ("merge", "higher"), "fresh_adapter": ("merge", "higher"),
}


class Run(NamedTuple):
    """A run of the pipeline: what training left and what the instruments read."""

    trained: pipeline.Trained
    symptoms: dict
    said: list[str]


def stages(*bugs: str, **replaced) -> dict:
    """The stages with these bugs in them; replaced: stage → a function of your own."""
    made = dict(pipeline.STAGES)
    for name in bugs:
        made |= CHANGES[known(name)]
    wrong = [name for name in replaced if name not in made]
    if wrong:
        raise ValueError(f"the pipeline has no stage {wrong[0]!r}; it has {', '.join(made)}")
    return made | replaced


def known(name: str) -> str:
    """The name of a bug, or ValueError with those that are close."""
    if name in BUGS:
        return name
    near = difflib.get_close_matches(str(name), BUGS, n=3, cutoff=0.4) or list(BUGS)
    raise ValueError(f"no bug is called {name!r}; there is {', '.join(near)}")


def run(bug: str | None = None, seed: int = 0) -> Run:
    """The pipeline with one bug, or none: trained and measured; kept for the next call."""
    return _run(None if bug is None else known(bug), seed)


@functools.lru_cache(maxsize=24)
def _run(bug, seed) -> Run:
    made = stages(*[bug] if bug else [])
    changed = CHANGES.get(bug, {}).keys() - pipeline.AFTER_TRAINING
    trained = pipeline.train(made, seed) if changed or bug is None else _run(None, seed).trained
    return _measured(trained, made)


def _measured(trained, made) -> Run:
    symptoms = pipeline.measure(trained, made)
    return Run(trained, symptoms, symptoms.pop("answers"))


def off(symptoms: dict, healthy: dict) -> dict[str, str]:
    """Which instruments are further from a healthy run than chance takes them: name → lower or
    higher. The margins are those of INSTRUMENTS, wider than the spread over seeds."""
    return {name: "higher" if symptoms[name] > healthy[name] else "lower"
            for name, (_, margin) in INSTRUMENTS.items()
            if not abs(symptoms[name] - healthy[name]) <= margin}


# ----------------------------------------------------------------------------- the cases


def names() -> words.Table:
    """The bugs one may guess."""
    return words.table([{"name": name, "bug": bug.title} for name, bug in BUGS.items()])


def case(seed: int) -> Case:
    """A broken run to diagnose: which bug is in it depends on the seed alone."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed is {seed!r}; expected a whole number from 0 on")
    turn, place = divmod(seed, len(BUGS))
    order = list(BUGS)
    random.Random(f"zoo/{turn}").shuffle(order)
    return Case(seed, order[place])


class Case:
    """A run with one bug; draws what the instruments read beside a healthy run."""

    def __init__(self, seed: int, bug: str):
        self.seed, self._bug, self.tries = seed, bug, 0
        self._broken, self._healthy = run(bug, seed), run(None, 0)

    @property
    def symptoms(self) -> dict:
        """What the instruments read: name → number."""
        return dict(self._broken.symptoms)

    def table(self) -> words.Table:
        """Every instrument, this run beside a healthy run (of another seed)."""
        return words.table([
            {"instrument": name, "what it reads": text,
             "this run": self._broken.symptoms[name], "a healthy run": self._healthy.symptoms[name]}
            for name, (text, _) in INSTRUMENTS.items()])

    def _repr_html_(self):
        return f"<b>Case {self.seed}</b>: one bug is in it{self.table()._repr_html_()}"

    def __repr__(self):
        return f"Case {self.seed}: one bug is in it\n{self.table()!r}"

    def curve(self) -> plots.Picture:
        """The training loss, beside that of a healthy run."""
        return plots.curves({"this run": self._broken.trained,
                             "a healthy run": self._healthy.trained}, "loss")

    def batch(self, n: int = 2) -> object:
        """Some records as the model sees them, padded, with their loss marked."""
        tokenizer, examples = pipeline._base()[1], self._broken.trained.examples
        some = [examples[i * (len(examples) - 1) // max(1, n - 1)] for i in range(n)]
        batch = stages(self._bug)["collate"](some, tokenizer)
        rows = [batch[key].tolist() for key in ("input_ids", "labels")]
        return tokens.show_batch([{"input_ids": ids, "labels": labels}
                                  for ids, labels in zip(*rows, strict=True)], tokenizer)

    def answers(self, n: int = 8) -> words.Table:
        """What was asked of the served model, wanted, and said."""
        test = pipeline.records()[2]
        rows = [{"asked": data.prompt_of(r), "wanted": r["output"], "said": a}
                for r, a in zip(test, self._broken.said, strict=True)]
        return words.table(rows[:: max(1, len(rows) // n)][:n])

    def guess(self, name: str) -> claims.Verdict:
        """Name the bug; the verdict says what speaks against a wrong name. Kept as progress."""
        name = known(name)
        self.tries += 1
        right = name == self._bug
        if right:
            text = f"{BUGS[name].title}. {BUGS[name].what}"
        else:
            text = self._against(name)
        progress.add("bug", case=self.seed, guess=name, right=right, tries=self.tries)
        return _verdict(right, f"case {self.seed}: {text}")

    def _against(self, name: str) -> str:
        seen = off(self._broken.symptoms, self._healthy.symptoms)
        instrument, way = SHOWN_BY[name]
        if seen.get(instrument) != way:
            read = words.number(self._broken.symptoms[instrument])
            return (f"not {BUGS[name].title!r}: {instrument} would be {way} than in a healthy run; "
                    f"here it is {read}")
        return (f"not {BUGS[name].title!r}, which would show in {instrument} too; compare how "
                "far it is off, and read the batch and the answers")

    def repair(self, name: str | None = None, **replaced) -> claims.Verdict:
        """Run the pipeline again with the bug `name` taken out, or with stages of your own
        (`case.repair(label=my_label)`); it must meet the healthy curve of the same seed."""
        if (name is None) == (not replaced):
            raise ValueError("give the name of a bug, or stages of your own such as "
                             "label=my_function")
        if name is not None:
            taken = CHANGES[known(name)]
            replaced = {stage: pipeline.STAGES[stage] for stage in taken} if (
                name == self._bug) else {}
        mended = stages(self._bug, **replaced)
        wanted = run(None, self.seed)
        made = wanted if mended == pipeline.STAGES else (
            self._broken if not replaced else _measured(pipeline.train(mended, self.seed), mended))
        worst = max(abs(a["loss"] - b["loss"]) for a, b in
                    zip(made.trained.rows, wanted.trained.rows, strict=True))
        left = off(made.symptoms, wanted.symptoms)
        right = worst < 1e-3 and not left
        text = "meets the healthy curve" if right else (
            f"still ill: the curves are up to {words.number(worst)} apart"
            + (f", {', '.join(f'{k} is {v}' for k, v in left.items())}" if left else ""))
        progress.add("repair", case=self.seed, right=right, name=name or ",".join(replaced))
        return _verdict(right, f"case {self.seed}: the repaired run {text}")


def _verdict(right: bool, text: str) -> claims.Verdict:
    verdict = claims.Verdict(right, words.clean(f"{'✓' if right else '✗'} {text}"))
    print(verdict.text)
    return verdict
