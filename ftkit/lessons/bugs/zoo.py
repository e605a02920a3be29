"""The bug zoo: a correct pipeline and fourteen real bugs, each one stage of it done wrong.

    case = zoo.case(seed=1)      # some bug is in it; shows symptoms, not the bug
    case.curve(); case.batch(); case.answers()
    case.guess("pad_is_eos"); case.repair("pad_is_eos")

    zoo.run("double_shift", seed=0).symptoms      # the same by name
"""

from __future__ import annotations

import difflib
import functools
import random
from typing import NamedTuple

from ftkit.base import formatting
from ftkit.base.errors import UserError
from ftkit.data import encoding, schema
from ftkit.lessons import claims, progress_log
from ftkit.lessons.bugs import pipeline
from ftkit.lessons.bugs.bugs import BUGS, CHANGES
from ftkit.report import plots
from ftkit.report.style import Picture
from ftkit.report.table import Table, table

SEEDS = 3  # baseline runs that all cases share

# -------------------------------------------------------------------------- what is seen

# name → (what it measures, how far it must be from a baseline run to mean something)
INSTRUMENTS = {
    "first_loss": ("loss of the first step; a blind guess costs ln(vocabulary) = 8.03, a model "
                   "that is confidently wrong more", 3.0),
    "last_loss": ("loss of the last steps", 0.75),
    "grad_norm": ("gradient norm of the last steps", 10.0),
    "label_share": ("fraction of tokens that are trained on", 0.02),
    "ends_learned": ("records whose EOS is trained on", 0.02),
    "bos_tokens": ("BOS tokens in a record", 0.02),
    "prompt_agrees": ("records that begin with the prompt used in serving", 0.02),
    "accumulation": ("gradient of two micro-batches against one batch: relative difference", 0.02),
    "val_loss": ("validation loss, as reported", 0.4),
    "repeat": ("loss of a validation batch, measured twice: difference", 1e-4),
    "batch_size": ("validation loss in batches of 16 and of 4: difference", 1e-3),
    "leak": ("loss on new records minus validation loss", 0.3),
    "merge": ("change of the served weights, as a fraction of the update learned", 0.05),
    "exact_match": ("exact match of the answers", 0.25),
    "stops": ("answers that end by themselves", 0.12),
}
# The instrument that shows a bug best, and which way.
SHOWN_BY = {
    "pad_is_eos": ("ends_learned", "lower"), "no_role_marker": ("prompt_agrees", "lower"),
    "double_bos": ("bos_tokens", "higher"), "mask_lost": ("label_share", "higher"),
    "all_masked": ("label_share", "lower"), "truncated": ("ends_learned", "lower"),
    "double_shift": ("first_loss", "higher"), "mean_of_means": ("accumulation", "higher"),
    "gradients_kept": ("grad_norm", "higher"), "padding_counted": ("batch_size", "higher"),
    "train_mode": ("repeat", "higher"), "overlap": ("leak", "higher"),
    "alpha_forgotten": ("merge", "lower"), "fresh_adapter": ("merge", "lower"),
}


class Run(NamedTuple):
    """A run of the pipeline: what training left and what the instruments read."""

    trained: pipeline.Trained
    symptoms: dict
    answers: list[str]


def stages(*bugs: str, **replaced) -> dict:
    """The stages with these bugs in them; replaced: stage → a function of your own."""
    all_stages = dict(pipeline.STAGES)
    for name in bugs:
        all_stages |= CHANGES[known(name)]
    wrong = [name for name in replaced if name not in all_stages]
    if wrong:
        raise UserError(f"the pipeline has no stage {wrong[0]!r}; it has {', '.join(all_stages)}")
    return all_stages | replaced


def known(name: str) -> str:
    """The name of a bug, or ValueError with those that are close."""
    if name in BUGS:
        return name
    near = difflib.get_close_matches(str(name), BUGS, n=3, cutoff=0.4) or list(BUGS)
    raise UserError(f"no bug is called {name!r}; there is {', '.join(near)}")


def run(bug: str | None = None, seed: int = 0) -> Run:
    """The pipeline with one bug, or none: trained and measured; kept for the next call."""
    return _run(None if bug is None else known(bug), seed)


@functools.cache
def _run(bug, seed) -> Run:
    all_stages = stages(*[bug] if bug else [])
    changes = CHANGES.get(bug, {}).keys()
    if bug is None or changes - pipeline.AFTER_TRAINING:
        return _measured(pipeline.train(all_stages, seed), all_stages)
    baseline = _run(None, seed)
    instruments = pipeline.served if "serve" in changes else pipeline.validated
    trained = baseline.trained
    symptoms = baseline.symptoms | {"answers": baseline.answers} | instruments(trained, all_stages)
    return Run(trained, symptoms, symptoms.pop("answers"))


def _measured(trained, all_stages) -> Run:
    symptoms = pipeline.measure(trained, all_stages)
    return Run(trained, symptoms, symptoms.pop("answers"))


def deviations(symptoms: dict, baseline: dict) -> dict[str, str]:
    """Which instruments are further from a baseline run than chance takes them: name → lower or
    higher. The margins are those of INSTRUMENTS, wider than the spread over seeds."""
    return {name: "higher" if symptoms[name] > baseline[name] else "lower"
            for name, (_, margin) in INSTRUMENTS.items()
            if not abs(symptoms[name] - baseline[name]) <= margin}


# ----------------------------------------------------------------------------- the cases


def names() -> Table:
    """The bugs one may guess, and what each does."""
    return table([{"name": name, "bug": bug.title, "what it does": bug.what}
                  for name, bug in BUGS.items()])


def bug_of(seed: int) -> str:
    """The bug of a case."""
    return pick_cause(BUGS, "zoo", seed=seed)


def pick_cause(names, pack: str, **number: int) -> str:
    """What a case of this number has: n successive cases, n the number of names, have one each."""
    (parameter, value), = number.items()
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{parameter} is {value!r}; expected a whole number from 0 on")
    turn, index = divmod(value, len(names))
    order = list(names)
    random.Random(f"{pack}/{turn}").shuffle(order)
    return order[index]


def case(seed: int) -> Case:
    """A broken run to diagnose: which bug is in it depends on the seed alone."""
    return Case(seed, bug_of(seed))


class Case:
    """A run with one bug; shows its measurements next to a baseline run.

    It differs from the Case of the clinic, where settings are wrong as well: here a repair replaces
    a stage of the pipeline, and must meet the baseline's curve of the same seed.
    """

    def __init__(self, seed: int, bug: str):
        self.seed, self._bug, self.tries = seed, bug, 0
        self._run_seed = seed % SEEDS
        # The baseline has another seed: a project never has the correct twin of a faulty run.
        self._broken = run(bug, self._run_seed)
        self._baseline = run(None, (self._run_seed + 1) % SEEDS)

    @property
    def symptoms(self) -> dict:
        """What the instruments read: name → number."""
        return dict(self._broken.symptoms)

    def table(self) -> Table:
        """Every instrument, this run next to a baseline run (of another seed), how far correct runs
        may differ, and whether this run is further off."""
        off = deviations(self._broken.symptoms, self._baseline.symptoms)
        return table([
            {"instrument": name, "what it reads": text,
             "this run": self._broken.symptoms[name],
             "a baseline run": self._baseline.symptoms[name],
             "margin": margin, "off": off.get(name, "")}
            for name, (text, margin) in INSTRUMENTS.items()])

    def _repr_html_(self):
        return f"<b>Case {self.seed}</b>: one bug is in it{self.table()._repr_html_()}"

    def __repr__(self):
        return f"Case {self.seed}: one bug is in it\n{self.table()!r}"

    def curve(self) -> Picture:
        """The training loss, next to that of a baseline run."""
        return plots.curves({"this run": self._broken.trained,
                             "a baseline run": self._baseline.trained}, "loss")

    def batch(self, n: int = 2) -> object:
        """Some records as the model sees them, padded, with their loss marked."""
        tokenizer, examples = pipeline.base_model()[1], self._broken.trained.examples
        some = [examples[i * (len(examples) - 1) // max(1, n - 1)] for i in range(n)]
        batch = stages(self._bug)["collate"](some, tokenizer)
        rows = [batch[key].tolist() for key in ("input_ids", "labels")]
        return encoding.show_batch([{"input_ids": ids, "labels": labels}
                                  for ids, labels in zip(*rows, strict=True)], tokenizer)

    def answers(self, n: int = 8) -> Table:
        """The prompts for the served model, the expected answers, and those it gave."""
        test = pipeline.records()[2]
        rows = [{"prompt": schema.prompt_of(r), "expected": r["output"], "answer": a}
                for r, a in zip(test, self._broken.answers, strict=True)]
        return table(rows[:: max(1, len(rows) // n)][:n])

    def guess(self, name: str) -> claims.Verdict:
        """Name the bug; the verdict says what speaks against a wrong name. Kept as progress."""
        if name in (None, ..., "..."):
            return print_verdict(
                False, f"case {self.seed}: no guess yet; zoo.names() lists the bugs", "○")
        name = known(name)
        self.tries += 1
        right = name == self._bug
        if right:
            text = f"{BUGS[name].title}. {BUGS[name].what}"
        else:
            text = self._against(name)
        progress_log.add("bug", case=self.seed, guess=name, right=right, tries=self.tries)
        return print_verdict(right, f"case {self.seed}: {text}")

    def _against(self, name: str) -> str:
        off = deviations(self._broken.symptoms, self._baseline.symptoms)
        instrument, way = SHOWN_BY[name]
        if off.get(instrument) != way:
            value = formatting.number(self._broken.symptoms[instrument])
            return (f"not {BUGS[name].title!r}: {instrument} would be {way} than in a baseline "
                    f"run; here it is {value}")
        return (f"not {BUGS[name].title!r}, which would show in {instrument} too; compare how "
                "far it is off, and read the batch and the answers")

    def repair(self, name: str | None = None, **replaced) -> claims.Verdict:
        """Run the pipeline again with the bug `name` taken out, or with stages of your own
        (`case.repair(label=my_label)`); it must meet the baseline curve of the same seed."""
        if name in (..., "..."):
            return print_verdict(False, f"case {self.seed}: not repaired yet", "○")
        if (name is None) == (not replaced):
            raise UserError("give the name of a bug, or stages of your own such as "
                            "label=my_function")
        if name is not None:
            changes = CHANGES[known(name)]
            replaced = {stage: pipeline.STAGES[stage] for stage in changes} if (
                name == self._bug) else {}
        repaired = stages(self._bug, **replaced)
        baseline = run(None, self._run_seed)
        rerun = baseline if repaired == pipeline.STAGES else (
            self._broken if not replaced
            else _measured(pipeline.train(repaired, self._run_seed), repaired))
        worst = max(abs(a["loss"] - b["loss"]) for a, b in
                    zip(rerun.trained.rows, baseline.trained.rows, strict=True))
        off = deviations(rerun.symptoms, baseline.symptoms)
        right = worst < 1e-3 and not off
        text = "meets the baseline curve" if right else (
            f"the bug is still there: the curves are up to {formatting.number(worst)} apart"
            + (f", {', '.join(f'{k} is {v}' for k, v in off.items())}" if off else ""))
        progress_log.add("repair", case=self.seed, right=right, name=name or ",".join(replaced))
        return print_verdict(right, f"case {self.seed}: the repaired run {text}")


def print_verdict(right: bool, text: str, mark: str | None = None) -> claims.Verdict:
    """Print a verdict, and give it back."""
    verdict = claims.Verdict(right, formatting.clean(f"{mark or ('✓' if right else '✗')} {text}"))
    print(verdict.text)
    return verdict
