# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 17 · Overfitting: which of the two curves do you believe?
#
# **Claim: when the validation loss turns up the model gets worse, so stop there; more data, weight
# decay, dropout, fewer epochs and augmentation all help.** It could be wrong, in two places. After
# this lesson you can
#
# - tell an overfitted *loss* from an overfitted *task*, and say why they part;
# - write early stopping, and choose what it watches;
# - try each remedy against its twin, and drop those that do nothing.
#
# *About 30 minutes. The code needs a minute on two CPU cores. You need lessons
# [07](07_learning_rate.ipynb) and [08](08_the_small_knobs.ipynb).*

# %%
import ftkit as ft
from ftkit.lessons.claims import direction
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"Training loss falls, validation loss has been rising since epoch 4. What do you do?"*
#
# "Take the checkpoint of epoch 4" is the answer of the textbook. A better one begins with a question:
# rising *loss*, or worse *answers*?
#
# ## The classic picture
# <!-- claims: C74 C97 · E12 -->
#
# Forty-eight records and many passes. Beside the loss we measure, during the run, what the model is
# for: the exact match of its answers on records it has not seen.

# %%
SEEDS = (0, 1, 2)
few = ft.records("tasks")[:48]
val = ft.records("tasks", "validation")
asked = val[::5]


def exact(model, tokenizer):
    return ft.exact_match(model, tokenizer, asked)


lab = ft.Experiment(data=few, val=val, probes=(), metrics={"exact match": exact})

# %%
guess = ft.predict("val_loss turns up. From its lowest point to the end of the run, exact match ...",
                   "falls with it", "stays or rises", guess=...)
guess

# %%
base = ft.Config(learning_rate=1e-3, max_steps=36, eval_steps=6)
run = lab.run(base)

# %% [markdown]
# One run may be luck. Three seeds, with their spread:

# %%
long = [run] + lab.sweep(base, seed=SEEDS[1:])
ft.curves(long, "loss", "val_loss", "exact match")


# %%
def best_row(run, key="val_loss"):
    return min((row for row in run.rows if key in row), key=lambda row: row[key])


def risen(runs):
    return [run.after["val_loss"] - best_row(run)["val_loss"] for run in runs]


# %%
lowest = [best_row(run)["exact match"] for run in long]
ft.expect(risen(long), ">", 0, "val_loss has turned: the classic sign of overfitting")
risen_since = [run.after["exact match"] - at for run, at in zip(long, lowest, strict=True)]
ft.expect(risen_since, "==", 0,
          "exact match at the end less that where val_loss was lowest")
guess.score("falls with it" if direction(risen_since, 0) == "<" else "stays or rises")

# %% [markdown]
# ## Why do they part?
# <!-- claims: C36 · E12 E33 -->
#
# Early stopping gives us the model of the lowest `val_loss`; the long run that of the end. Take the
# questions that both get wrong. How sure is each of its own answer, and what loss does the right one
# get? And where both are right?

# %%
plain = ft.Experiment(data=few, val=val, probes=())  # the same, and only the loss is watched
early = plain.sweep(base.but(early_stopping_patience=3), seed=SEEDS)
ft.table([{"seed": run.config.seed, "kept the weights of step": best_row(run)["step"],
           "stopped at step": run.rows[-1]["step"]} for run in early])

# %%
from ftkit.data import encoding

tokenizer = run.tokenizer


def loss_by_answer(model, other):
    said = [ft.answers(one, tokenizer, asked) for one in (model, other)]
    rows = [(r, *both) for r, *both in zip(asked, *said, strict=True) if all(both)]
    wrong = [(r, mine) for r, *both in rows for mine in both[:1] if r["output"] not in both]
    kinds = {"its own wrong answers": [r | {"output": mine} for r, mine in wrong],
             "the right answers there": [r for r, _ in wrong],
             "right where both are right": [r for r, *both in rows if {r["output"]} == set(both)]}
    return {kind: ft.loss_on(model, encoding.encode_all(records, tokenizer).examples)
            for kind, records in kinds.items()}


# %%
models = [(a.model, b.model) for a, b in zip(early, long, strict=True)]
lowest = [loss_by_answer(kept, last) for kept, last in models]
end = [loss_by_answer(last, kept) for kept, last in models]
at = {kind: {"lowest": [one[kind] for one in lowest], "end": [one[kind] for one in end]}
      for kind in lowest[0]}
right = at["right where both are right"]
ft.expect(right["end"], "<", at["the right answers there"]["end"],
          "the loss lies with the wrong answers, not with the right ones")
ft.table([{"loss of ...": kind, "at lowest val_loss": both["lowest"], "at the end": both["end"]}
          for kind, both in at.items()])

# %% [markdown]
# First line: on the same questions the model tends to become more sure of its wrong answers (with some
# seeds by no more than the spread): training to zero loss makes it sure of everything. The second line
# is where `val_loss` is paid; on these few questions it rises by no more than the spread. Exact match
# sees neither. [InstructGPT](https://arxiv.org/abs/2203.02155) trained 16 epochs though its validation
# loss rose after the first, and people preferred the result; where you *use* the probabilities
# (perplexity, a threshold, sampling) the loss is what counts.
#
# ## Early stopping by hand
# <!-- claims: C77 · E12 -->
#
# Walk along the evaluations; after `patience` of them without a better one, stop, and keep the best.

# %%
def stop_by_hand(rows, key, patience, sign):
    kept, bad = None, 0
    for row in (row for row in rows if key in row):
        if kept is None or sign * row[key] < sign * kept[key]:
            kept, bad = row, 0
        else:
            bad += 1
        if bad == patience:
            break
    return kept["step"], row["step"]


# %%
by_hand = [stop_by_hand(run.rows, "val_loss", 3, sign=1) for run in long]
assert by_hand == [(best_row(run)["step"], run.rows[-1]["step"]) for run in early]
by_hand

# %% [markdown]
# The rows of a long run are enough to know where any rule would have stopped: the package agrees. What
# if it watches exact match instead?

# %%
on_answers = [stop_by_hand(run.rows, "exact match", 3, sign=-1) for run in long]
ft.table([{"watches": name, "kept": [kept for kept, _ in steps], "stopped": [end for _, end in steps]}
          for name, steps in {"val_loss": by_hand, "exact match": on_answers}.items()])

# %% [markdown]
# ## The remedies, each against its twin
# <!-- claims: C75 C76 C77 C78 · E12 E13 -->
#
# One change each, the same seeds, the same number of steps (but for "fewer epochs"). Two short LoRA
# runs are there for their dropout: Llama-type models have no dropout layers of their own.

# %%
best_remedy = ft.predict("The remedy that lowers val_loss at the end most is ...", "more data",
                         "augmentation", "weight decay 0.1", "fewer epochs", "LoRA",
                         "LoRA, dropout 0.2", guess=...)
best_remedy

# %%
def reworded(records, frames=("Please answer: {}", "{} Answer in short.", "A question: {}")):
    return [r | {"instruction": frame.format(r["instruction"])}
            for r in records for frame in ("{}", *frames)]


def on(data):
    return ft.Experiment(data=data, val=val, probes=())


rare = base.but(eval_steps=12)  # measured less often, for speed
lora = rare.but(method="lora", learning_rate=1e-2, max_steps=24)
arms = {"more data": (on(ft.records("tasks")[:192]), rare),
        "augmentation": (on(reworded(few)), rare),
        "weight decay 0.1": (plain, rare.but(weight_decay=0.1)),
        "fewer epochs": (plain, base.but(max_steps=18)),
        "LoRA": (plain, lora), "LoRA, dropout 0.2": (plain, lora.but(lora_dropout=0.2))}

# %%
runs = {"nothing": long} | {arm: where.sweep(config, seed=SEEDS)
                            for arm, (where, config) in arms.items()}
ends = {arm: [run.after["val_loss"] for run in three] for arm, three in runs.items()}
exact_by = {arm: [exact(run.model, tokenizer) for run in three] for arm, three in runs.items()}
ft.table([{"remedy": arm, "epochs": three[0].rows[-1]["epoch"], "val_loss": ends[arm],
           "risen": risen(three), "exact match": exact_by[arm]} for arm, three in runs.items()])

# %%
ft.expect(ends["more data"], "<", ends["nothing"], "four times the records: a lower end")
ft.expect(ends["weight decay 0.1"], "==", ends["nothing"], "weight decay against nothing")
best_remedy.score(min(arms, key=lambda arm: sum(ends[arm])))

# %%
ft.expect(exact_by["more data"], ">", exact_by["nothing"], "and the answers are better")
gains = {arm: sum(values) / 3 - sum(exact_by["nothing"]) / 3 for arm, values in exact_by.items()}
{arm: f"{gain:+.2f} exact match" for arm, gain in gains.items() if arm != "nothing"}

# %% [markdown]
# Read the table by columns. Fewer epochs take away over-confidence, so the *loss* gains more than the
# *answers*; new records bring something that was not there. Compare the others with the spread:
# weight decay shrinks a weight by rate times decay in a step, over so short a run by a fraction of a
# percent (lesson [08](08_the_small_knobs.ipynb)), and dropout has LoRA for its twin. Where a
# difference is within the spread, say "no effect seen", not "helps a little".

# %% [markdown]
# ## Break it
#
# Validation records that the model has trained on: the worst case of a split by rows where several
# rows come from one source. What does the curve look like?

# %%
leaky = ft.Experiment(data=few, val=few[:24] + val[:24], probes=())
half = leaky.run(rare)
f"val_loss at the end {half.after['val_loss']:.2f}, without the leak {sum(ends['nothing']) / 3:.2f}"

# %%
assert half.after["val_loss"] < min(ends["nothing"])

# %% [markdown]
# Half a leak, and the loss looks like that of a good model. The curve still turns, because its clean
# half does. With a full leak it would be the training loss, which does not turn: early stopping would
# never stop.
#
# ## What if?
#
# One number to change: how many records until the curve no longer turns?

# %%
n = 96
what_if = on(ft.records("tasks")[:n]).run(rare)
ft.table([{"records": n, "risen": risen([what_if])[0],
           "exact match": exact(what_if.model, tokenizer)}])

# %% [markdown]
# ## Now on a real model
#
# SmolLM2, twelve records, six passes with LoRA: where does its validation loss turn?

# %%

if download.has("smollm2"):
    real = ft.Experiment("smollm2", ft.records("handwritten")[:12],
                         val=ft.records("handwritten")[12:24], probes=())
    smol = real.run(method="lora", learning_rate=1e-3, batch_size=4, max_steps=18, eval_steps=3,
                    max_length=256)
    print(f"lowest at step {best_row(smol)['step']} of 18, then up by {risen([smol])[0]:.2f}")

# %% [markdown]
# ## Exercises
#
# **1.** `values` were measured one after the other. Return the place that is kept and the place of the
# last evaluation made. Names that end in `loss` are better low, others high; equal is not better.

# %% tags=["raises-exception"]
def stop_at(values, patience, name):
    ...


ft.check("stop_at", stop_at)

# %% [markdown]
# **2.** Probabilities that a model gives to the right one of two answers, for four questions (more than
# one half: it is right). Make up a before and an after: *more* right, and a *worse* loss.

# %% tags=["raises-exception"]
pair = ([...], [...])
ft.check("worse_and_better", pair)

# %% [markdown]
# **3.** Split records into (train, validation) with about `share` of them in validation, so that no
# `source` is on both sides.

# %% tags=["raises-exception"]
def split_by_source(records, share):
    ...


ft.check("split_by_source", split_by_source)

# %% [markdown]
# ## Interview
#
# **What are the signs of overfitting?**
# <details><summary>Answer</summary>
# Training loss falls while validation loss rises, on a clean split of the same distribution. That is
# overfitting of the loss, over-confidence; measure the task as well, since exact match may stay (as
# above) while the loss rises.
# </details>
#
# **Which remedies come first?**
# <details><summary>Answer</summary>
# More distinct data, then stopping by the metric that users feel. Fewer passes mend confidence more
# than answers. Weight decay is nearly inert over so few steps; dropout and reworded copies must show
# their worth against a twin. Each was measured above.
# </details>
#
# **Validation loss rose from epoch 2; exact match rose until epoch 8. Which checkpoint?**
# <details><summary>Answer</summary>
# The one for what you ship: answers, epoch 8; probabilities, epoch 2. And confirm on a test set, since
# you have now chosen on the validation set.
# </details>

# %% [markdown]
# ## Recap
#
# - A rising validation loss says "too sure", not "worse answers". Measure both during the run.
# - New records help both; decay did nothing here; the others are in the table, with their spread.
# - Early stopping needs a metric, a patience and a clean split.
#
# Next: [18 data quality](18_data_quality.ipynb). Forgetting is another thing that a loss curve does not
# show: [16](16_catastrophic_forgetting.ipynb).
