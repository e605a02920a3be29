# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 22 · What-if lab: from a question to an answer
#
# **Claim: change one setting, run three seeds, and you know what the setting does.** After this lesson you can
#
# - plan an experiment that can answer a question, and say when it has not;
# - find what else changes when you turn one knob;
# - take the procedure from a small model to your own, as a script for TRL.
#
# *Needs [07](07_learning_rate.ipynb), [02](02_lora.ipynb) and [16](16_catastrophic_forgetting.ipynb).
# About 45 minutes; the code needs about 60 seconds of one CPU core. TRL's names, pitfalls and more on statistics:
# [reference page](reference/22_what_if_lab.md).*

# %%
import random

import ftkit as ft
from ftkit.teaching import at_135m, diagnose, difference, direction, interval_plot

SEEDS = [0, 1, 2]
ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# It is your second week. You inherit a fine-tune, and its loss is bad:
#
# > *"What do you change first, and how will you know that it was the change that helped?"*
#
# ## Look before you change anything
# <!-- claims: C74 · E12 -->
#
# 75 records, 48 steps. Look first at five of the records.

# %%
val, clean = ft.records("tasks", "validation"), ft.records("tasks")
few = ft.corrupt(clean[:75], "wrong", 0.3, 0)
ft.table([{key: record[key] for key in ("instruction", "input", "output")} for record in few[5:10]])

# %% [markdown]
# Three of these five answers are wrong; of all 75 it is 30 %.

# %%
bad = ft.Experiment(data=few, val=val).run(max_steps=48, eval_steps=8, precision="fp32")
bad

# %%
ft.table([{"kind": f.kind, "evidence": f.text, "advice": f.advice} for f in diagnose(bad)])

# %% [markdown]
# `diagnose` reads the curves by fixed rules and names a *symptom*. Few records, wrong answers and too many steps give
# similar curves. Three changes follow, one at a time, with two seeds each: a look, not yet an answer.

# %%
many = ft.corrupt(clean[:300], "wrong", 0.3, 0)
ends_at = {}
for name, data, steps in [("none", few, 48), ("correct answers", clean[:75], 48),
                          ("300 records, 30 % wrong", many, 48), ("half the steps", few, 24)]:
    lab = ft.Experiment(data=data, val=val)
    ends_at[name] = [lab.run(max_steps=steps, eval_steps=steps, precision="fp32", seed=seed,
                             live=False).after["val_loss"] for seed in SEEDS[:2]]
ft.table([{"change": name, "val_loss at the end": losses} for name, losses in ends_at.items()])

# %%
data_first = max(ends_at["correct answers"] + ends_at["300 records, 30 % wrong"])
ft.expect(data_first, "<", min(ends_at["none"] + ends_at["half the steps"]),
          "both changes of the data beat the fewer steps, in each run")

# %% [markdown]
# So change the data first: correct answers, or more records even with the same fraction of errors. Stopping early
# would not have reached either. (300 records in 48 steps also mean fewer passes: two things moved.)
#
# ## The idea: a protocol
#
# ![Left: settings a and b are run with the same three seeds. Each seed gives one difference between a
# circle and a square. Right: three 95 % intervals of b minus a next to a gray margin around zero. An
# interval wholly left of the margin reads lower, one wholly inside reads no relevant difference, a dashed
# one that crosses the edge reads undecided. All positions are invented.](figures/22_protocol.svg)
#
# Write down six things *before* the first run:
#
# | | example |
# |---|---|
# | **question** | Does replay reduce forgetting? |
# | **one changed setting** | `replay`: 0 or 0.25 |
# | **fixed** | model, training and validation records, steps, all other settings |
# | **seeds** | the same for both settings, compared in pairs; at least 3, the number fixed in advance |
# | **learning rate** | tuned for each method, if methods are compared |
# | **measure and margin** | `general_loss`; less than 0.1 nats does not matter to us |
#
# Both settings run with the same seeds, so each seed gives one **paired difference**: b − a. The **margin** is
# the smallest difference that would change what you do.
#
# Seeds show the noise of *training* only. All runs are judged on the same validation records. If these are
# few, also take the difference of each record, and the standard error of their mean over records
# ([Miller 2024](https://arxiv.org/abs/2411.00640)).

# %% [markdown]
# ## Your turn: is it decided?
#
# The 95 % interval of the mean difference is mean ± t · s / √n. Here s is the standard deviation of the n
# differences (divisor n − 1), and t comes from Student's distribution with n − 1 degrees of freedom,
# for differences that are roughly normal. Four verdicts are possible:
#
# - the whole interval is below −margin: `"lower"`;
# - the whole interval is above +margin: `"higher"`;
# - the whole interval is between the two: `"no relevant difference"`;
# - anything else: `"undecided"`. This is about the margin; such an interval may well exclude zero.

# %% tags=["raises-exception"]
T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # number of seeds → t


def decide(a, b, margin):
    """Return (low, high, verdict): the 95 % interval of the paired difference b - a, and what it
    says. a, b: one value per seed, in the order of the seeds."""
    ...


ft.check("decide", decide)


# %% [markdown]
# The package has the same interval; `.margin(0.025)` is its half width, not your margin.
# `interval_plot` draws it with your margin and the verdict.

# %%
def interval(a, b):
    """Low and high end of the 95 % interval of the paired difference b - a."""
    found = difference(b, a, paired=True)
    return found.mean - found.margin(0.025), found.mean + found.margin(0.025)


# %% [markdown]
# ## How much can three seeds see?
#
# Suppose that the true difference is 2, and that the differences of single seeds have a standard deviation of 1
# around it: a large effect. We draw 2,000 such experiments.

# %%
power = ft.predict("With 3 seeds, how often does the 95 % interval exclude zero?",
                   "in less than a third", "in a third to two thirds", "in more than two thirds")
power


# %%
def fraction_seen(seeds, true, experiments=2000):
    """How often the interval excludes zero."""
    draw = random.Random(seeds)
    seen = 0
    for _ in range(experiments):
        low, high = interval([0.0] * seeds, [draw.gauss(true, 1) for _ in range(seeds)])
        seen += low > 0 or high < 0
    return seen / experiments


ft.table([{"seeds": n, "true difference 2: seen": fraction_seen(n, 2),
           "no difference: seen falsely": fraction_seen(n, 0)} for n in (2, 3, 5, 10)])

# %%
three = fraction_seen(3, 2)
power.score("in less than a third" if three < 1 / 3 else
            "in a third to two thirds" if three < 2 / 3 else "in more than two thirds")

# %% [markdown]
# With few seeds a large effect is often missed: "three seeds, no difference seen" is weak evidence.
# A difference as large as the standard deviation of the differences needs about 10 seeds to be seen
# in 80 % of experiments (**power** 80 %: `fraction_seen(10, 1)`).
#
# A verdict counts from the margin, so it needs more seeds still. Fix the number in advance: adding seeds until the
# interval excludes zero gives more than 5 % false alarms.
#
# ## An experiment: does replay reduce forgetting?
# <!-- claims: C72 C95 · E16 -->
#
# **Replay** mixes general records into the training data. We follow the table above, with five seeds.

# %%
lab = ft.Experiment(model="tiny", data="tasks")
short = ft.Config(max_steps=18, eval_steps=18, precision="fp32")
without = lab.sweep(short, seed=[0, 1, 2, 3, 4])
replay = lab.sweep(short.but(replay=0.25), seed=[0, 1, 2, 3, 4])
ft.compare(without, replay)

# %% [markdown]
# In columns a and b, ± is the standard deviation over the seeds. In b − a it is half of the 95 % interval,
# *unpaired*. Now paired, with our margin, for the first three seeds and for all five:

# %%
def ends(runs, measure):
    return [run.after[measure] for run in runs]


pairs = {f"{measure}, {n} seeds": (ends(without[:n], measure), ends(replay[:n], measure))
         for measure in ("general_loss", "val_loss") for n in (3, 5)}
interval_plot(pairs, margin=0.1, x="with replay - without (nats)")

# %%
ft.expect(ends(replay, "general_loss"), "<", ends(without, "general_loss"),
          "replay reduces forgetting by more than 0.1", by=0.1, paired=True)

# %% [markdown]
# With five seeds the gain is decided, on the kind of text that was replayed. The picture says whether the cost in
# `val_loss` is decided too, and what a fourth and fifth seed bought. We had planned to compare in pairs, so we report
# the paired interval, even where it is wider.
#
# The experiment answered the question at equal *steps*. With replay a quarter of the records is general
# text, so the run saw a quarter fewer task records. At equal *task records* it would take 24 steps instead
# of 18. The weight in the loss follows labeled tokens, not records ([lesson 19](19_multi_task.ipynb)).

# %% [markdown]
# ## Break it: two changes at once
#
# Somebody in a hurry turns on replay, raises the learning rate too, and gets a worse model.

# %%
hurry = lab.run(short, replay=0.25, learning_rate=1e-2, live=False)
print("val_loss:", ", ".join(f"{name} {run.after['val_loss']:.2f}" for name, run in (
    ("baseline", without[0]), ("replay", replay[0]), ("replay and 0.01", hurry))))
ft.compare(without[0], hurry)

# %% [markdown]
# ## One setting at a time is not always enough
#
# Now compare full fine-tuning and LoRA at *one* learning rate, so that one setting differs. Is that
# fair?

# %%
cross = ft.predict("From learning rate 0.001 to 0.01, val_loss on the tiny model ...",
                   "falls with both methods", "rises with both methods",
                   "rises with full, falls with LoRA", "another pattern, or no difference seen")
cross

# %%
grid = {("full", 1e-3): ends(without[:3], "val_loss")}  # these runs are there already
for method, learning_rate in (("full", 1e-2), ("lora", 1e-3), ("lora", 1e-2)):
    runs = lab.sweep(short.but(method=method, learning_rate=learning_rate), seed=SEEDS)
    grid[method, learning_rate] = ends(runs, "val_loss")
ft.table([{"method": method, "learning rate": rate, "val_loss": values}
          for (method, rate), values in grid.items()])

# %%
def moved(method):
    """"<" if val_loss is lower at 0.01 than at 0.001, ">" if higher, "" if not seen."""
    return direction(grid[method, 1e-2], grid[method, 1e-3], paired=True)


patterns = {("<", "<"): "falls with both methods", (">", ">"): "rises with both methods",
            (">", "<"): "rises with full, falls with LoRA"}
cross.score(patterns.get((moved("full"), moved("lora")), "another pattern, or no difference seen"))

# %%
rates = {"both at 0.001": (1e-3, 1e-3), "both at 0.01": (1e-2, 1e-2),
         "full at 0.001, LoRA at 0.01": (1e-3, 1e-2)}
interval_plot({name: (grid["full", full], grid["lora", lora])
               for name, (full, lora) in rates.items()}, margin=0.1, x="val_loss, LoRA - full")

# %% [markdown]
# Full fine-tuning at 0.01, without replay, ended as badly: the learning rate spoiled the hurried run, not replay.
#
# At one shared learning rate you would call LoRA far worse, at the other far better. The effect of
# the method depends on the learning rate: the two **interact**. So tune the learning rate of each
# method with the same effort ([lesson 07](07_learning_rate.ipynb)), then compare. The last line of
# the picture is a start, with two learning rates each.

# %% [markdown]
# ## Your turn: what else did the knob move?
#
# A larger batch at the same number of epochs means fewer optimizer steps. A higher rank r at the same
# `lora_alpha` lowers the scale lora_alpha / r, by which the adapter's output is multiplied.
#
# The trainer of `transformers` cuts an epoch into batches; a last smaller batch counts.
# `gradient_accumulation_steps` batches make one optimizer step, and a last incomplete group in an epoch is
# a step too.

# %% tags=["raises-exception"]
def effective(records, settings):
    """Return (optimizer steps, sequences per step, LoRA scale) on one device.

    records: number of training records. settings: a dict with num_train_epochs (a whole number),
    per_device_train_batch_size, gradient_accumulation_steps, r and lora_alpha."""
    ...


ft.check("effective", effective)

# %% [markdown]
# With 1,000 records, 3 epochs, batch 8, no accumulation, r = 8 and lora_alpha = 16 it gives the first row:
#
# | change | optimizer steps | sequences per step | LoRA scale |
# |---|---:|---:|---:|
# | none | 375 | 8 | 2 |
# | batch 32 | 96 | 32 | 2 |
# | batch 2, accumulation 4 | 375 | 8 | 2 |
# | r 64 | 375 | 8 | 0.25 |
# | r 64, lora_alpha 128 | 375 | 8 | 2 |
#
# So "a larger batch learned less" may be a statement about fewer steps and a shorter schedule. At
# equal lora_alpha (as in r 64, scale 0.25) about the same learning rate was best at all ranks in the runs of
# [Thinking Machines 2025](https://thinkingmachines.ai/blog/lora/). At equal lora_alpha / r (last
# row) a higher rank makes larger updates and usually needs a lower learning rate. There "a higher
# rank did not help" may be a statement about the learning rate: tune it
# ([lesson 02](02_lora.ipynb), with rsLoRA).

# %% [markdown]
# ## The panel: find a question
#
# `ft.what_if` has controls for the settings of `ft.Config`. *Start* trains one run in the background and draws it
# over the first one, the **baseline**. *× 3 seeds* trains the same settings three times, *over 5 values* varies
# one field. `await panel.result()` waits, and makes the first run if you started none.

# %%
panel = ft.what_if(model="tiny", data="tasks", config=short.but(eval_steps=6))
panel

# %%
baseline = await panel.result()

# %% [markdown]
# Guess, then let the panel show it: half the learning rate, 0.0005, and another `seed` and nothing else. The same two
# runs in code:

# %%
tried = {"baseline": without[0], "half the learning rate": lab.run(short, learning_rate=5e-4, live=False),
         "another seed": without[1]}
ft.table([{"run": name, "val_loss": run.after["val_loss"], "general_loss": run.after["general_loss"]}
          for name, run in tried.items()])

# %% [markdown]
# Is the second row farther from the first than the third is? The panel does not pair the seeds and knows no margin:
# for an answer use `lab.sweep`.

# %% [markdown]
# ## At 135M
#
# LoRA against full fine-tuning in recorded runs of SmolLM2-135M. First both at one learning rate, then each at
# the best that was tried for it.

# %%
lora, full = ft.recorded("lora_vs_full"), ft.recorded("full_finetune")


def values(runs, arm, measure):
    """One value for each recorded seed, in the order of the seeds."""
    return [value for _, value in sorted(runs.values(arm, measure).items())]


shared = values(full, "full 0.001", "val_loss"), values(lora, "LoRA 0.001", "val_loss")
own = values(lora, "full 0.0001", "val_loss"), values(lora, "LoRA 0.003", "val_loss")
interval_plot({"both at 0.001": shared, "each at its own": own}, 0.1, x="val_loss, LoRA - full")

# %%
at_135m("lora_vs_full")

# %% [markdown]
# At 0.001 the validation loss of LoRA is lower by a wide margin, because 0.001 is far too high for
# full fine-tuning of this model ([lesson 01](01_full_fine_tuning.ipynb) has those runs). At their
# own learning rates neither "LoRA is better" nor "they are equal" follows. (Both were chosen on
# these runs and records; the scripts below take new seeds.)
#
# The box asks whether LoRA forgets less, one-sided and without a margin: a weaker demand.

# %% [markdown]
# ## Your turn: your own experiment
#
# Choose a question, one setting that changes, at least three seeds and a margin. Run it with
# `lab.sweep` (six runs of 18 steps: about 20 seconds), and give your verdict by the rule of
# `decide`. `interval` takes any number of seeds. If you compare two methods, the learning rate may
# differ as well. Ideas:
#
# - `warmup_steps` 0 or 0.1 (of the run), `weight_decay` 0 or 0.1, `batch_size` 8 or 16 at equal steps;
# - few records, wrong answers or too many steps: is the order in `ends_at` still there with 3 seeds
#   (new data need a new `ft.Experiment`)?
# - replay 0.25 with 24 steps against replay 0 with 18. The check rejects two changes. Is the
#   idea wrong?

# %% tags=["raises-exception"]
experiment = {
    "a": ...,  # lab.sweep(ft.Config(...), seed=[0, 1, 2])
    "b": ...,
    "measure": "val_loss",
    "margin": 0.05,
    "verdict": ...,  # lower, higher, no relevant difference, or undecided: b - a
}
ft.check("own_experiment", experiment)

# %% [markdown]
# The last idea is sound: at equal task records `max_steps` *must* change with `replay`.

# %% [markdown]
# ## In practice, 2026
#
# The protocol, the code and the checks of the data carry over to your model; numbers of steps, effects and learning
# rates do not. First learning rates with one seed, then new seeds for the two best:
#
# ```python
# # {"prompt": "...", "completion": "..."}
# import gc
# from statistics import mean, stdev
#
# from datasets import load_dataset
# from peft import LoraConfig
# from transformers import set_seed
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-1.7B-Base"  # plain strings; a chat model needs its template
# files = {"train": "train.jsonl", "validation": "validation.jsonl"}
# data = load_dataset("json", data_files=files)
#
#
# def run(learning_rate, seed):
#     gc.collect()    # frees the model of the run before
#     set_seed(seed)  # before an adapter is made: its matrix A is random
#     trainer = SFTTrainer(
#         model_id, train_dataset=data["train"], eval_dataset=data["validation"],
#         peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
#         args=SFTConfig(
#             output_dir=f"runs/{learning_rate}-{seed}", seed=seed, data_seed=seed,
#             learning_rate=learning_rate, max_steps=300, bf16=True,
#             per_device_train_batch_size=16, save_strategy="no"))
#     trainer.train()
#     return trainer.evaluate()["eval_loss"]
#
#
# tried = {rate: run(rate, seed=0) for rate in (1e-4, 2e-4, 5e-4, 1e-3)}
# best, second = sorted(tried, key=tried.get)[:2]  # if best is at an end of the grid, extend it first
# differences = [run(second, seed) - run(best, seed) for seed in (1, 2, 3)]  # new seeds
# half = 4.303 * stdev(differences) / 3 ** 0.5
# print(mean(differences) - half, mean(differences) + half)  # is it beyond your margin?
# # last, and only once: the loss of the chosen setting on test records, which chose nothing
# ```

# %% [markdown]
# ## Interview
# <!-- claims: C74 C72 C40 -->
#
# **Your fine-tune is bad. What do you do first?**
# <details><summary>Answer</summary>
# I look before I change anything: a few decoded training examples with their labels, and whether
# the prompt at inference equals that of training. I look for wrong answers, a missing end token,
# truncation. Is it worse than the untouched model with a good prompt? Then I read training loss,
# validation loss and general ability. Divergence or forgetting suggests a lower learning rate,
# overfitting fewer epochs or more data, a flat loss a higher learning rate or broken labels.
# Similar curves have several causes, so I change one thing and compare.
# </details>
#
# **How do you know that a change helped?**
# <details><summary>Answer</summary>
# I fix model, records and all other settings, and run both with the same seeds: at least three, more
# for a small effect or to show no relevant difference. If I compare methods, each gets its own tuned
# learning rate. I compare the interval of the paired difference with a margin chosen before. The
# change helped if the whole interval lies beyond the margin on the better side. If it crosses the
# margin, it is undecided. Seeds show the noise of training; for the validation records I take the
# standard error of the difference over records. With one run each, I compare two models, not two
# settings. I choose on validation data and report once on test data.
# </details>
#
# Three cards on this topic: say the answer aloud, then look.

# %%
ft.drill(topic="statistics", new=3)

# %% [markdown]
# ## Recap
#
# The claim is wrong in two places: one setting may move others or need its own learning rate, and three seeds
# often leave the question undecided.
#
# - Look at records first. Then write down question, change, seeds and margin.
# - An interval that crosses the margin is undecided.
# - Choose on validation data, report once on test data: the best of many looks better than it is.
#
# Next: your own data, [lesson 18](18_data_quality.ipynb), and the
# [interview clinic](21_interview_clinic.ipynb).

# %%
ft.progress("22")
