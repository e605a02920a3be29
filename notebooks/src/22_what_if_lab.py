# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 22 · What-if lab
#
# **Claim: change one thing, and the curves say what it did; change two, and they say nothing.**
# It could be wrong. After this lesson you can
#
# - read a verdict off three curves, and name its evidence;
# - ask one what-if after another, on any model and any data, without fooling yourself;
# - take what worked away, as a script that needs no ftkit.
#
# *About 20 minutes, and as long as you like to play. The code needs a minute on two CPU cores.
# It needs [00](00_start_here.ipynb); any other lesson may send you here.*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"Your fine-tune came out badly. What do you change first, and how will you know that it was
# > the change that helped?"*
#
# Most candidates name four knobs at once. Turning four at once is how a week goes by: if the
# result is better you do not know why, and if it is not you have learned nothing.
#
# ## By hand: a verdict
#
# <!-- claims: C74 · E12 -->
# Here is a bad run: 75 records, a third of them with a wrong answer, many passes.

# %%
few = ft.corrupt(ft.records("tasks")[:75], "wrong", 0.3, 0)
small = ft.Experiment(data=few, val=ft.records("tasks", "validation"))
bad = small.run(max_steps=60, eval_steps=6)
bad

# %% [markdown]
# What is wrong with it? The verdict is in the numbers: where was `val_loss` lowest, how far has it
# risen since, and did the training loss go on falling meanwhile?


# %%
def turned(run):
    watched = [row for row in run.rows if "val_loss" in row]
    best = min(watched, key=lambda row: row["val_loss"])
    return best["step"], watched[-1]["val_loss"] - best["val_loss"]


step, risen = turned(bad)
f"lowest at step {step}, {risen:.2f} above it at the end"

# %% [markdown]
# The panel below says the same in words, after each run. It is this rule and four more like it.

# %%
from ftkit.report.diagnose import diagnose

verdict = diagnose(bad)[0]
ft.expect(verdict.evidence.get("step", 0), "==", step, "the diagnosis names the same step")
[finding.text for finding in diagnose(bad)]

# %% [markdown]
# ## The panel
#
# Every field of `ft.Config` is in there; rest the pointer on a name and it says what the field
# does and what goes wrong at both ends. *Start* trains in the background, so go on moving controls
# meanwhile: the line under them tells what the next run would take. A second *Start* waits in the
# queue.

# %%
panel = ft.what_if(model="tiny", data="tasks")
panel

# %% [markdown]
# The next cell waits for what you started. If you started nothing, it makes the first run: the
# **baseline**, with which all others are compared. The picture stays here when you close the
# notebook; the controls come back when you run the cell above again.

# %%
baseline = await panel.result()
[finding.text for finding in diagnose(baseline)]

# %% [markdown]
# ## One change
#
# <!-- claims: C72 C95 · E16 -->
# The baseline learns its task and pays with `general_loss`. Which single knob would you turn?
# Take `replay`: a quarter of general records, mixed in.

# %%
guess = ft.predict("A quarter of replay: how much of the rise of general_loss goes away?",
                   "hardly any", "about half", "nearly all", guess=...)
guess

# %%
SEEDS = (0, 1, 2)
lab = ft.Experiment(model="tiny", data="tasks")
short = ft.Config(max_steps=40, eval_steps=40)
runs = lab.sweep(short, replay=[0.0, 0.25], seed=SEEDS)
ft.table(runs)

# %%
half = len(SEEDS)
without, replayed = ([run.change("general_loss") for run in three]
                     for three in (runs[:half], runs[half:]))
ft.expect(replayed, "<", without, "replay keeps what the model knew")
share = 1 - sum(replayed) / sum(without)
guess.score("nearly all" if share > 0.8 else "about half" if share > 0.2 else "hardly any")

# %% [markdown]
# Three seeds each, one field changed: that is a cause. Now look at `val_loss` in the table. Did
# the replay cost anything? With as many steps, a quarter fewer records were of the task. Find out
# in the panel whether more steps make up for it.
#
# ## Two changes
#
# Now someone is in a hurry, turns two knobs at once, and gets a worse run.

# %%
hurry = lab.run(short, replay=0.25, learning_rate=1e-2, live=False)
ft.compare(runs[0], hurry)

# %% [markdown]
# It lists what differs, refuses to say which of them did it, and names the run that would tell. On
# this evidence you might have thrown replay away, which had just rescued your model.
#
# ## Break it
#
# <!-- claims: C40 · E09 -->
# A rate of 1.0 is not a larger rate, it is another experiment. What will the verdict say?

# %%
broken = lab.run(learning_rate=1.0, max_steps=20, live=False)
assert diagnose(broken)[0].kind == "diverged"
diagnose(broken)[0].text

# %% [markdown]
# ## What if?
#
# Back to the panel. Eight questions to start with; guess each before you press *Start*.
#
# - half the steps, twice the rate?
# - batch size 64, same number of steps? Same number of records?
# - method lora at the rate of full? At ten times it?
# - `loss_on` all? `warmup_steps` 0 at a high rate?
# - another `seed`: how far apart are two runs that differ in nothing else?

# %% [markdown]
# **Your own model and data.** In the panel's *data* field, write the path of a JSONL file (records
# as in [00](00_start_here.ipynb)); a bad line is told by its number. In *model*, write a folder or
# a hub id. **Take it away.** *copy as* turns the controls into a line, a cell, or a script for TRL
# or transformers that runs without ftkit.

# %% [markdown]
# ## Now on a real LLM
#
# The same panel on SmolLM2, 135 million parameters. A step takes a second or two on two cores, so
# the questions have to be chosen with more care.

# %%

REAL = download.has("smollm2")
if REAL:
    config = ft.Config(method="lora", max_steps=6, batch_size=4, eval_steps=6, max_length=160)
    lab = ft.Experiment(model="smollm2", data="handwritten", probes=(), eval_records=8)
    real = ft.what_if(lab, config=config, fields=["learning_rate", "max_steps", "r", "seed"])
real if REAL else "left out"

# %%
if REAL:
    tuned = await real.result()
    ft.expect(tuned.after["val_loss"], "<", tuned.before["val_loss"], "six steps show already")

# %% [markdown]
# ## Exercises
#
# **1.** Name the verdict: "diverged", "underfitting", "overfitting", "forgetting" or "fine".

# %% tags=["raises-exception"]
verdicts = {
    "loss 4.0 → 0.1, val_loss 4.1 → 0.9 → 1.6, general_loss 2.0 → 2.0": ...,
    "loss 4.0 → 3.9, val_loss 4.1 → 4.0, general_loss 2.0 → 2.0": ...,
    "loss 4.0 → 0.5, val_loss 4.1 → 0.6, general_loss 2.0 → 3.1": ...,
    "loss 4.0 → 0.5, val_loss 4.1 → 0.6, general_loss 2.0 → 2.0": ...,
    "loss 4.0 → 9.7, val_loss 4.1 → 9.8, general_loss 2.0 → 11": ...,
}
ft.check("verdicts", verdicts)


# %% [markdown]
# **2.** The guard by hand: which fields, other than `seed`, differ between two Configs?
# `config.to_dict()` has them all.


# %% tags=["raises-exception"]
def changed(a, b):
    ...


ft.check("changed", changed)

# %% [markdown]
# **3.** Mend the baseline by **one** change: `general_loss` may rise by 0.1 at most, `val_loss`
# must end below 0.7. Find it in the panel, then run it here.

# %% tags=["raises-exception"]
my_run = ...  # lab.run(max_steps=60, ...one more field...)
ft.check("mend_by_one_change", my_run)

# %% [markdown]
# ## Interview
#
# <!-- claims: C74 C72 C40 -->
# **Your fine-tune is bad. What first?**
# <details><summary>Answer</summary>
# Look before turning: training loss, validation loss, a probe of general ability. Each verdict has
# its knob: diverged or forgetting, the rate; overfitting, fewer epochs; nothing moves, a higher
# rate or the data. Then one change, 3 seeds, compare with the spread.
# </details>
#
# **Training loss falls, validation loss rises. Always stop?**
# <details><summary>Answer</summary>
# It is overfitting of the loss: here from a step between 12 and 24 of 60 on, with 30 % wrong
# answers. Task accuracy may go on rising, as in InstructGPT, so I select by the metric I care
# about, on data that does not leak.
# </details>

# %% [markdown]
# **How do you know that replay helped?**
# <details><summary>Answer</summary>
# One field differed, 3 seeds each, and the difference was larger than the spread: a quarter of
# replay took away most of the rise of <code>general_loss</code> (<code>share</code> above). The
# price: a quarter fewer task records in as many steps.
# </details>
#
# **A grid over four knobs with five values: what is wrong with it?**
# <details><summary>Answer</summary>
# 5⁴ = 625 runs, 1,875 with 3 seeds, and most of them turn knobs that do not matter. Rate first,
# since it decides most; then what the verdict names, one at a time.
# </details>
#
# ## Recap
#
# - Curves first, then the knob; a verdict has evidence.
# - One change, several seeds: a cause. Two changes: a story.
# - What worked leaves as a script.
#
# The panel is `ft.what_if`, the rules are in [`ftkit/report/diagnose.py`](../ftkit/report/diagnose.py). Next: your
# own data.
