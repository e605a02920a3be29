# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Learning rate: the one number to get right
#
# **Claim: fine-tuning wants a tenth to a hundredth of the pretraining rate, and the loss curve tells
# you when it is too high.** It could be wrong, twice. After this lesson you can
#
# - find a good rate with a dozen short runs, for full fine-tuning and for LoRA;
# - say how far a rate can move a weight, and why that is about forgetting;
# - see damage that the training loss does not show.
#
# *About 30 minutes. The code needs a minute on two CPU cores. It builds on
# [01](01_full_fine_tuning.ipynb) and [02](02_lora.ipynb).*

# %%
import ftkit as ft
from ftkit.model import download

SEEDS = (0, 1, 2)
ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"Which learning rate would you start with to fine-tune an 8B model, why so low, and how would
# > you notice that it is wrong?"*
#
# "2e-5, because the gradients are small" is a usual answer. The number is fine for one case out of
# three, the reason is not.
#
# ## How far can a rate carry?
# <!-- claims: C93 -->
#
# AdamW divides each gradient by its own recent size (lesson 01), so one step moves a weight by
# about one learning rate. Hence the **sum of the rates** of a run says how far a weight can get.
# First the schedule, by hand: a linear warm-up, then half a cosine down to zero.

# %%
import math


def rate_at(step, total, peak, warmup):
    if step <= warmup:
        return peak * step / warmup
    return peak * (1 + math.cos(math.pi * (step - 1 - warmup) / (total - warmup))) / 2


# %%
lab = ft.Experiment(data=ft.records("tasks")[:320], val="tasks", eval_records=24)
run = lab.run(learning_rate=1e-3, eval_steps=5)
total = len(run.rows)
by_hand = [rate_at(step, total, 1e-3, math.ceil(0.06 * total)) for step in range(1, total + 1)]
assert all(math.isclose(mine, row["learning_rate"], abs_tol=1e-9)
           for mine, row in zip(by_hand, run.rows, strict=True))

# %% [markdown]
# Your schedule is the package's, step by step. Now the other half: how far did the weights go?

# %%
import torch

fresh, tokenizer = ft.load("tiny")
old = torch.cat([p.detach().flatten() for p in fresh.parameters()])
moved = torch.cat([p.detach().flatten() for p in run.model.parameters()]).sub(old).abs()
ft.expect(moved.mean().item(), "<", sum(by_hand), "a weight moves less than the sum of the rates")
{"sum of the rates": sum(by_hand), "mean move": moved.mean().item(),
 "largest move": moved.max().item(), "typical weight": old.std().item()}

# %% [markdown]
# A mean move of some two per cent of a typical weight took val_loss from 9 to 1. So the rate is low
# because the start is **good** and small changes say a lot. The gradient's size has no say in it.
#
# ## One number, six values
# <!-- claims: C32 C40 C41 · E09 -->
#
# Twenty steps on 320 records, three seeds each. `val_loss` is the job.

# %%
rates = [3e-5, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1]
guess = ft.predict("Full fine-tuning, 20 steps: val_loss is lowest at a rate of ...",
                   *[f"{rate:g}" for rate in rates], guess=...)
guess

# %%
from ftkit.lessons.run_pictures import best_values, line_plot, sweep_curves

base = ft.Config(eval_steps=1000)  # evaluate before and after, and no more
full = lab.sweep(base, learning_rate=rates, seed=SEEDS)
sweep_curves(full, "val_loss")


# %%
def ends(runs, rate, key="val_loss"):
    return [run.after[key] for run in runs if run.config.learning_rate == rate]


top = best_values(full)["full"]
ft.expect(ends(full, 3e-5), ">", ends(full, top), "too low: not there yet, in these steps")
ft.expect(ends(full, 1e-2), ">", ends(full, top), "too high: it learns less again")
guess.score(f"{top:g}")

# %% [markdown]
# *In these steps*: a low rate is not wrong but slow. Compare rates at one number of steps only, each
# run with its own complete schedule; a cosine cut off halfway has been at another rate.
#
# ## What the loss does not show
# <!-- claims: C40 C7 · E09 -->
#
# Put yourself in the place of someone who looks at the losses of the job alone.

# %%
blind = ft.predict("Against rate 0.0003, rate 0.003 ends with a lower val_loss. Its general_loss, on "
                   "prose the model could read before, is ...",
                   "lower too", "about the same", "several times as high", guess=...)
blind

# %%
ft.expect(ends(full, 3e-3), "<", ends(full, 3e-4), "on the job the high rate looks better")
kept = {rate: ends(full, rate, "general_loss") for rate in rates}
ft.expect(kept[3e-3], ">", kept[3e-4], "but it has forgotten how to read", times=2)
ft.expect(kept[1e-3], ">", kept[3e-4], "and at the best rate forgetting has begun")
blind.score("several times as high" if sum(kept[3e-3]) > 2 * sum(kept[3e-4]) else "about the same")

# %%
sweep_curves(full, "val_loss", "general_loss")

# %%
few = {rate: [run for run in full if run.config.learning_rate == rate] for rate in (3e-4, 3e-3)}
ft.curves({f"rate {rate:g}": runs for rate, runs in few.items()}, "loss")

# %% [markdown]
# Two falling training curves; an early bump in one is soon over. Nothing says that the model with the
# lower curve has lost its English. Forgetting begins **before** the loss of the job turns, long before
# it explodes. So watch a probe, or you choose the rate with one eye.
#
# ## The same rate for LoRA?
# <!-- claims: C19 C32 · E22 -->

# %%
ratio = ft.predict("LoRA's best rate, divided by that of full fine-tuning, is about ...",
                   "0.1", "1", "10", "100", guess=...)
ratio

# %%
lora = lab.sweep(base.but(method="lora"), learning_rate=[3e-3, 1e-2, 3e-2], seed=SEEDS)
both = best_values(full + lora)
times = both["lora"] / both["full"]
ft.expect(times, ">=", 5, "LoRA wants a rate several times larger")
ratio.score(min(["0.1", "1", "10", "100"], key=lambda o: abs(math.log(times / float(o)))))

# %%
sweep_curves(full + lora, "val_loss", "general_loss")

# %% [markdown]
# The grid is coarse, so read "about ten". On large models [the same is
# reported](https://huggingface.co/docs/trl/lora_without_regret): an observation, not a law. B starts
# at zero and A, B are multiplied: a step of one rate in each moves the *product* little at first.
#
# Does LoRA at its best rate forget less?

# %%
lost = {method: ends(runs, both[method], "general_loss")
        for method, runs in {"full": full, "lora": lora}.items()}
ft.expect(lost["lora"], ">", full[0].before["general_loss"], "LoRA forgets, too")
ft.expect(kept[3e-3], ">", lost["full"], "three times the rate costs far more")
ft.table([{"method": method, "best rate": both[method], "general_loss": lost[method]} for method in both])

# %% [markdown]
# The difference is no wider than the spread; other seeds gave LoRA a small advantage. [Lesson
# 16](16_catastrophic_forgetting.ipynb) looks closer, at equal learning.
#
# ## Warm-up, and the shape of the schedule
# <!-- claims: C37 -->
#
# Warm-up keeps the first steps small. When does that matter: at a good rate, or at one too high?

# %%
warm = ft.predict("Three tenths of the steps as warm-up, instead of none: less is forgotten ...",
                  "at the best rate (0.001)", "at a rate too high (0.003)", "at both", guess=...)
warm

# %%
grid = lab.sweep(base, learning_rate=[1e-3, 3e-3], warmup_steps=[0, 0.3], seed=SEEDS)
flat = lab.sweep(base, lr_scheduler_type=["constant"], learning_rate=[1e-3], seed=SEEDS)
none, long = ([run for run in grid if run.config.warmup_steps == w] for w in (0, 0.3))
ft.table(grid + flat)

# %%
spared = {rate: [a - b for a, b in zip(*(ends(runs, rate, "general_loss") for runs in (none, long)),
                                       strict=True)] for rate in (1e-3, 3e-3)}
ft.expect(spared[3e-3], ">", spared[1e-3], "warm-up limits the damage of a rate too high")
ft.expect(spared[1e-3], "<", 0, "at the best rate it spares nothing: general_loss ends higher")
ft.expect(ends(flat, 1e-3), "==", ends(full, 1e-3), "constant against cosine")
best_too, high_too = (sum(spared[rate]) > 0 for rate in (1e-3, 3e-3))
warm.score("at both" if best_too and high_too else
           "at the best rate (0.001)" if best_too else "at a rate too high (0.003)")

# %% [markdown]
# Warm-up is a guard for rates at the edge. State it as a share of the run: the
# old advice of 500 steps is longer than many fine-tunes. The shape of the schedule made no difference
# to val_loss that we could see in 20 steps; that is a null result, not a proof. Look at general_loss,
# too: a constant rate sums to about twice a cosine's, so weights may drift twice as far. Cosine or
# linear, down to zero, is usual.
#
# ## Break it: a short cut that misleads
#
# The *range test*: raise the rate a little at every step, draw the loss, take the rate where it is
# lowest. One run of 20 steps in place of six.

# %%
from ftkit.data import encoding
from ftkit.engine import loop

examples = encoding.encode_all(lab.train, tokenizer).examples


def range_test(steps, seed, low=1e-5, high=1.0):
    model, _ = ft.load("tiny")
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    order, points = loop.shuffled(len(examples), 16, seed), []
    for step in range(steps):
        rate = optimizer.param_groups[0]["lr"] = low * (high / low) ** (step / (steps - 1))
        batch = encoding.collate([examples[i] for i in next(order)], tokenizer.pad_token_id)
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        points.append((rate, loss.item()))
    return points


# %%
tests = {f"20 steps, seed {seed}": range_test(20, seed) for seed in SEEDS}
tests["60 steps, seed 0"] = range_test(60, 0)
line_plot(tests, x="learning rate", y="loss of the batch")

# %%
lowest = {name: min(points, key=lambda p: p[1])[0] for name, points in tests.items()}
ft.expect([math.log10(rate) for rate in lowest.values()], ">", math.log10(top),
          "the lowest loss lies beyond the best rate")
lowest | {"best rate of the sweep": top}

# %% [markdown]
# The rate at each point met a model that had been trained at all lower rates, so the answer depends on
# how fast you climb, and on single batches. And it looks at the training loss alone; the rates it
# picks are those whose forgetting you saw above. The usual repair is to take a tenth of that rate: here
# it lands at or below the best one. Use the test for an order of magnitude, then sweep.
#
# ## What if?
#
# Now the rate is yours. *Start* trains beside the run from above (pale); *Stop* keeps what was done.
# Find the highest rate at which `general_loss` stays below 1.0. What is lost in `val_loss`?

# %%
knobs = ["learning_rate", "max_steps", "seed"]
start = ft.Config(learning_rate=5e-4, max_steps=20, eval_steps=5)
panel = ft.what_if(lab, config=start, baseline=run, fields=knobs)
panel

# %%
await panel.result()

# %% [markdown]
# ## Now on a real LLM
#
# SmolLM2 has 57 times as many weights. Is its best rate that of `tiny`?

# %%

REAL = download.has("smollm2")
if REAL:
    real = ft.Experiment(model="smollm2", data="handwritten", eval_records=6)
    short = ft.Config(max_steps=5, batch_size=4, max_length=160, eval_steps=5)
    sweep = real.sweep(short, learning_rate=[1e-5, 1e-4, 1e-3])
    print(sweep_curves(sweep, "val_loss", "general_loss"))

# %%
if REAL:
    ft.expect(best_values(sweep)["full"], "<", top, "the larger model wants the smaller rate")

# %% [markdown]
# ## The rule of thumb
# <!-- claims: C42 C33 -->
#
# Rates as published. Does "a tenth to a hundredth of pretraining" describe them?

# %%
recipes = {
    "Alpaca, LLaMA 7B": (2e-5, 3e-4), "LIMA, LLaMA 65B": (1e-5, 1.5e-4),
    "Llama 2 chat 70B, SFT": (2e-5, 1.5e-4), "Tülu 3 8B, SFT": (5e-6, 3e-4),
    "Code Llama 7B, continued pretraining": (3e-4, 3e-4), "QLoRA 7B": (2e-4, 3e-4),
}
ft.table([{"recipe": name, "fine-tuning": f"{tuned:g}", "pretraining": f"{before:g}",
           "ratio": f"1/{before / tuned:g}"} for name, (tuned, before) in recipes.items()])


# %% [markdown]
# ## Exercises
#
# **1.** Which recipes break the rule? Return the names whose ratio is not between 1/100 and 1/10.

# %% tags=["raises-exception"]
def outside_the_rule(recipes):
    ...


ft.check("outside_the_rule", outside_the_rule)


# %% [markdown]
# **2.** The sum of the rates of a run of `steps` steps, cosine to zero, no warm-up. Try 2e-5 and the
# 1,219 steps of Alpaca's recipe: how does it compare to a typical weight of 0.02?

# %% tags=["raises-exception"]
def drift(peak, steps):
    ...


ft.check("drift", drift)


# %% [markdown]
# **3.** Choose a rate from a sweep: among those whose *mean* `target` reaches `floor`, the one that
# keeps most (mean of `kept`); `None` if there is none. `sweep` is a dict: rate → list of
# `{"target": ..., "kept": ...}`, one for each seed.

# %% tags=["raises-exception"]
def pick_rate(sweep, floor):
    ...


ft.check("pick_rate", pick_rate)

# %% [markdown]
# ## Interview
#
# **Why a lower rate than in pretraining?**
# <details><summary>Answer</summary>
# The start is good, and AdamW moves a weight by about one rate a step whatever the gradient. So the
# sum of the rates bounds the drift: 2e-5 with a cosine over 1,219 steps, 0.012 at most. For full
# fine-tuning that is 1/7 to 1/60 of pretraining; LoRA wants ten times more.
# </details>
#
# **How do you choose it?**
# <details><summary>Answer</summary>
# Start from a recipe for the same method and size. Short runs over a factor of 3, each with its whole
# schedule, three seeds; judge by the task and by a probe of what must stay. Here the best rate was
# flanked by twice the loss or more within a factor of ten.
# </details>
#
# **What does too high a rate look like?**
# <details><summary>Answer</summary>
# First like success: at three times the best rate our job's val_loss still beat the low rate's, while
# general_loss was several times the base's. Then learning gets worse, at a hundred times it ends
# above log(vocabulary). NaN comes last, if at all.
# </details>

# %% [markdown]
# **LoRA learns nothing at 2e-5. Is it too weak?**
# <details><summary>Answer</summary>
# Probably the rate. Its best was about ten times that of full fine-tuning here, as reported for large
# models. Sweep each method by itself before comparing; whoever compares at one rate has chosen the
# winner.
# </details>
#
# ## Recap
#
# - Sum of the rates = how far weights may drift. That, not small gradients, asks for low rates.
# - Too low is slow, too high forgets before it fails. Watch a probe.
# - A rate belongs to a model, a method and a number of steps. The rule of thumb covers one case.
#
# Next: [08 the small knobs](08_the_small_knobs.ipynb), then
# [16 catastrophic forgetting](16_catastrophic_forgetting.ipynb).
