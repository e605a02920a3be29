# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Batch size, accumulation, clipping and other small knobs
#
# **Claim: "batch of 128, 500 warm-up steps, weight decay 0.1, clip at 1.0". Each setting of such a
# recipe improves a fine-tune.** Each of them could be wrong. After this lesson you can
#
# - count the optimizer steps of a run, and see when a recipe does not fit it;
# - accumulate gradients so that they equal those of one large batch, and clip them by their global norm;
# - say which of these settings matter, and how you know.
#
# *Needs [01](01_full_fine_tuning.ipynb), [04](04_instruction_tuning.ipynb) and
# [07](07_learning_rate.ipynb). About 45 minutes; the code needs about two minutes on two CPU cores.*

# %%
import math

import torch

import ftkit as ft
from ftkit.inside import collate, encode_all, schedule
from ftkit.teaching import at_135m, direction, interval_plot, sweep_curves, working

SEEDS = [0, 1, 2]
ft.setup(seed=0)

# %% [markdown]
# ## Your job in this lesson
# <!-- claims: C34 C37 · E10 E11 -->
#
# You inherit a training script. Its recipe is the line above, it was written for 52,002 records, and nobody
# knows why these values. Your own task has 240 records. Which values do you keep? At the end you repair the
# recipe with as few changes as possible.
#
# Start by counting. A **micro-batch** is what one GPU processes at once. **Gradient accumulation** adds up the
# gradients of several micro-batches, so a large batch needs about the memory of a small one. An **optimizer
# step** uses the sum over all accumulated micro-batches and all GPUs.
#
# > *"52,002 records, 8 GPUs, 4 records on each at a time, 4 accumulation steps, 3 epochs. How many
# > optimizer steps? Is a warm-up of 500 steps all right?"*
#
# A common slip is 52,002 / 4 · 3.
#
# ## Your turn: how many steps?
#
# At the end of an epoch the last records may not fill a batch. Many loaders make a short batch of them, or
# leave them out (`drop_last`). Stuck? `ft.hint("optimizer_steps")`, then `ft.solution("optimizer_steps")`.


# %% tags=["raises-exception"]
def optimizer_steps(records, micro, accumulation, gpus, epochs, drop_last=False):
    """Return the number of optimizer steps. micro: records of a micro-batch; accumulation:
    micro-batches that one GPU adds up for a step. Unless drop_last, each epoch ends with a
    short batch."""
    ...


ft.check("optimizer_steps", optimizer_steps)

# %%
optimizer_steps = working("optimizer_steps", optimizer_steps)  # ours until yours is right
counts = {"Alpaca, 52,002 records": optimizer_steps(52_002, 4, 4, 8, 3),
          "LIMA, 1,000 records": optimizer_steps(1_000, 32, 1, 1, 15),
          "yours, batch 128": optimizer_steps(240, 128, 1, 1, 1),
          "yours, batch 8": optimizer_steps(240, 8, 1, 1, 1)}
ft.table([{"run": name, "optimizer steps": steps, "3 % of them": round(0.03 * steps, 1),
           "500 steps are": f"{500 / steps:.0%} of the run"} for name, steps in counts.items()])

# %% [markdown]
# ## Break it: a warm-up that never ends
#
# A warm-up above 100 % never reaches its peak. What does that cost? Take your 30 steps of batch 8 at a peak of 0.001.
# With a warm-up of 6 % their val_loss falls from above 9 to below 2. With 500 warm-up steps, step 30 has
# only 0.00006. A second run scales its peak up, so that step 30 has 0.001.

# %%
longer = ft.predict("30 steps with a warm-up of 500 and a peak of 0.001: val_loss ends ...",
                    "below 2", "between 2 and 4", "above 4")
longer

# %%
train = ft.records("tasks")[:240]
lab = ft.Experiment(data=train, val=ft.records("tasks", "validation"), eval_records=32, probes=())
base = ft.Config(learning_rate=1e-3, batch_size=8, eval_steps=1000, precision="fp32")
batch_8 = lab.sweep(base, learning_rate=[5e-4, 1e-3, 2e-3], seed=SEEDS)
usual = [run for run in batch_8 if run.config.learning_rate == 1e-3]
endless = lab.sweep(base.but(warmup_steps=500), learning_rate=[1e-3, 1e-3 * 500 / 30], seed=SEEDS)


def val_loss(runs):
    return [run.after["val_loss"] for run in runs]


ft.table([{"warm-up": name, "val_loss": val_loss(runs)} for name, runs in (
    ("6 %, peak 0.001", usual), ("500 steps, peak 0.001", endless[:3]),
    ("500 steps, peak scaled up", endless[3:]))])

# %%
ended = sum(val_loss(endless[:3])) / 3
longer.score("below 2" if ended < 2 else "above 4" if ended > 4 else "between 2 and 4")

# %% [markdown]
# With the peak as it was, the model has learned little: each step was tiny. Scaled up it learns, near or
# behind the usual run, but its learning rate only rises and never decays. Give warm-up as a fraction of the run, and such a recipe fits
# every run. [Alpaca](https://github.com/tatsu-lab/stanford_alpaca) and [Tülu
# 3](https://arxiv.org/abs/2411.15124) used 3 %, [LIMA](https://arxiv.org/abs/2305.11206) none.
#
# ## Accumulation
# <!-- claims: C34 · E04 -->
#
# Batch 128 does not fit your GPU, so the script accumulates. The loss of a batch is a mean over its **labeled
# tokens**, those that the model is trained on. Micro-batches usually have different numbers of them.

# %% [markdown]
# ![Four micro-batches with 6, 10, 14 and 50 labeled tokens. With the mean of the four means each
# micro-batch has a quarter of the gradient, so a token of the first one counts 8 times as much as
# one of the last. With the sum divided by 80 every token has the same
# weight.](figures/08_accumulation.svg)
#
# ### Your turn: accumulate
#
# `model(**batch).loss` is the mean over the labeled tokens of that micro-batch. transformers shifts the
# labels by one position, so the first label of a row is never predicted. A record whose answer was cut
# off can leave a micro-batch without any label. What is its mean then?


# %% tags=["raises-exception"]
def accumulate(model, batches):
    """Leave in .grad the gradient of one big batch made of all micro-batches in `batches`, by one
    backward pass per micro-batch, and return the loss of the big batch. Labels of -100 do not
    count. `.grad` is empty at the start."""
    ...


ft.check("accumulate", accumulate)

# %% [markdown]
# How wrong is the mean of means? Sixteen records in four micro-batches, sorted by the length of the answer (as
# loaders do to save padding) or not. The error is relative to the norm of the right gradient.

# %%
accumulate = working("accumulate", accumulate)
model, tokenizer = ft.load("tiny")
examples = encode_all(train, tokenizer).examples


def micro_batches(examples, size):
    return [collate(examples[i:i + size], tokenizer.pad_token_id)
            for i in range(0, len(examples), size)]


def mean_of_means(model, batches):
    for batch in batches:
        (model(**batch).loss / len(batches)).backward()


def gradient(rule, batches):
    """The gradient that a rule leaves in .grad, as one vector."""
    model.zero_grad()
    rule(model, batches)
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


# %%
by_length = sorted(examples[:16], key=lambda e: sum(label != -100 for label in e["labels"]))
rows = []
for order, chosen in (("sorted by length", by_length), ("not sorted", examples[:16])):
    big = gradient(mean_of_means, micro_batches(chosen, 16))  # one batch: one mean
    row = {"records": order}
    for name, rule in (("mean of means", mean_of_means), ("accumulate", accumulate)):
        error = (gradient(rule, micro_batches(chosen, 4)) - big).norm() / big.norm()
        row[f"error of {name}"] = f"{error:.1%}"
    rows.append(row)
ft.table(rows)

# %% [markdown]
# **Accumulation equals the large batch if the token losses are summed and divided once by the labeled tokens
# of the whole step.** The mean of means gives tokens of short answers more weight. Many trainers averaged
# means, transformers until [October 2024](https://github.com/huggingface/transformers/pull/34191). For some
# classes it still does: see the [reference page](reference/08_the_small_knobs.md).
#
# ## A larger batch
# <!-- claims: C34 · E11 -->
#
# Now the "128" itself. A larger batch averages more records, so its gradient is less noisy. It also makes
# fewer steps on the same records. Which effect wins? Each batch size gets its own learning rate, from three.

# %%
larger = ft.predict("240 records, one epoch, batch 32 instead of 8, each at its best learning rate. The "
                    "val_loss of batch 32 is ...", "lower", "higher", "no difference seen")
larger

# %%
batch_32 = lab.sweep(base.but(batch_size=32), learning_rate=[1e-3, 2e-3, 4e-3], seed=SEEDS)
same_steps = lab.sweep(base.but(batch_size=32, max_steps=30), learning_rate=[1e-3], seed=SEEDS)
sweep_curves(batch_8 + batch_32, by="batch_size")


# %%
def best_runs(runs):
    """The runs of the learning rate with the lowest mean val_loss."""
    rates = {run.config.learning_rate for run in runs}
    groups = [[run for run in runs if run.config.learning_rate == rate] for rate in rates]
    return min(groups, key=lambda group: sum(val_loss(group)))


best_8, best_32 = best_runs(batch_8), best_runs(batch_32)
verdict = ft.expect(val_loss(best_32), ">", val_loss(best_8),
                    "fewer steps on the same records learn less", paired=True)
ft.expect(val_loss(same_steps), "<", val_loss(best_8), "at equal steps the larger batch learns more",
          paired=True)
SEEN = {"<": "lower", ">": "higher", "": "no difference seen"}  # `direction` is the test of `expect`
larger.score(SEEN[direction(val_loss(best_32), val_loss(best_8), paired=True)])

# %% [markdown]
# (**Paired**: the runs of one seed are compared with each other. **p** is the probability of such a difference
# by chance alone.) The two lines answer different questions. At equal **records** the smaller batch makes
# almost four times the steps: 30 against 8. At equal **steps** the larger batch reads all records four times.
# So "batch 128 is better" means nothing until you say at equal what.
#
# Up to the **critical batch size** doubling the batch nearly halves the steps that are needed. That saves time
# on parallel hardware, not records. Above it, more records per step save few steps. When you multiply
# the batch by k, tune the learning rate again; the usual first guess for Adam is √k
# ([07](07_learning_rate.ipynb)).

# %% [markdown]
# ## Clipping
# <!-- claims: C39 · E14 -->
#
# **Clipping** limits the length of the gradient. All gradients together are one vector. If its length, the
# **global norm**, is above `max_norm`, all of them are multiplied by one factor, so the direction stays.
#
# ### Your turn: clip


# %% tags=["raises-exception"]
def clip_by_global_norm(gradients, max_norm):
    """Return new tensors, scaled by one common factor, so that the norm of all of them together
    is at most max_norm. gradients: a list of tensors. Below the limit nothing changes, nor where
    all gradients are zero."""
    ...


ft.check("clip_by_global_norm", clip_by_global_norm)

# %%
norms = sorted(row["grad_norm"] for run in best_8 for row in run.rows)
clipped = sum(norm > 1 for norm in norms) / len(norms)
print(f"median norm {norms[len(norms) // 2]:.1f}; {clipped:.0%} of the steps were clipped at 1.0")

# %%
lower_limit = ft.predict("Nearly every step is clipped at 1.0. You lower the limit to 0.1. The val_loss is ...",
                         "lower by more than 0.1", "higher by more than 0.1", "within 0.1")
lower_limit

# %%
tighter = lab.sweep(base.but(max_grad_norm=0.1), seed=SEEDS)
change = sum(val_loss(tighter)) / 3 - sum(val_loss(usual)) / 3
lower_limit.score("within 0.1" if abs(change) <= 0.1 else
                  "lower by more than 0.1" if change < 0 else "higher by more than 0.1")

# %% [markdown]
# AdamW divides by the size of the gradients (lesson 07), so gradients that are all ten times shorter give the
# same steps. What a limit changes is the *relation* between steps: with clipping a spike counts no
# more than its neighbors. Where all steps are clipped, the limit is part of the optimizer. If you remove it, tune
# the learning rate again. So log `grad_norm` before you choose a limit.
#
# ## Which of them matter here?
# <!-- claims: C37 C38 C39 · E10 E13 E14 -->
#
# One change at a time against batch 8, a warm-up of 6 %, no weight decay and clipping at 1.0, **each at
# its own best of three learning rates**. We ran this beforehand on ten seeds, 200 to 209. Which change do you
# expect to see?

# %%
recorded = {
    "as it is": [1.18, 1.31, 1.29, 1.31, 1.18, 1.49, 1.04, 1.29, 1.01, 1.20],
    "no warm-up": [1.22, 1.45, 1.39, 1.32, 1.14, 1.51, 1.01, 1.05, 1.07, 1.07],
    "weight decay 0.1": [1.18, 1.31, 1.29, 1.31, 1.18, 1.49, 1.04, 1.29, 1.01, 1.19],
    "no clipping": [1.22, 1.69, 1.47, 1.36, 1.15, 1.66, 1.20, 1.36, 1.28, 1.24]}
interval_plot({name: (recorded["as it is"], values) for name, values in recorded.items()
               if name != "as it is"}, margin=0.1, x="change of val_loss (nats)")

# %%
ft.expect(recorded["no clipping"], ">", recorded["as it is"], "10 seeds: without clipping the loss is higher",
          paired=True)
for name in ("no warm-up", "weight decay 0.1"):
    ft.expect(recorded[name], "==", recorded["as it is"], f"10 seeds: {name} makes no difference",
              within=0.1, paired=True)

# %% [markdown]
# The lines are 95 % intervals of the mean change; in the gray band we call it irrelevant. (All four were best at
# 0.001.) Two of these tests had little to find: a warm-up of 6 % is two steps here, and decay 0.1 shrinks the weights by
# 0.16 %. With a higher peak a missing **warm-up** can hurt: AdamW's averages come from few batches in the first steps.
# **Clipping** helped; whether by more than 0.1 is open. A likely reason: without it, large first gradients stay in
# AdamW's second average and shorten all later steps.
#
# **Weight decay** multiplies the weights in every step by `1 - learning_rate · decay`. Over a run the factor is
# the product. Here it is for Alpaca's 1,221 steps:

# %%
recipe = ft.Config(learning_rate=2e-5, weight_decay=0.1, warmup_steps=0.03)
factor = math.prod(1 - 2e-5 * schedule(step, 1221, recipe) * 0.1 for step in range(1, 1222))
print(f"weight decay 0.1 shrinks the weights by {1 - factor:.2%} in such a run")

# %% [markdown]
# At learning rates of full fine-tuning such a decay is not noticeable. It pulls toward **zero**, not toward
# the base model, so it is no remedy for forgetting. In pretraining, with more than ten times the learning rate
# and hundreds of times the steps, decay matters.
#
# ## At 135M
#
# Batch 32 against batch 8 on the same records, on SmolLM2-135M, each at several learning rates.

# %%
at_135m("batch_size", verdict)

# %% [markdown]
# Batch 8 was ahead in all three pairs, by 0.03 to 0.12 nats. Three pairs do not settle it. At larger scale,
# pretraining (up to 1.3B) and SFT (4B) were stable down to one record a step, if AdamW's β₂ was raised so that it
# remembered the same number of tokens ([Marek et al. 2025](https://arxiv.org/abs/2507.07101)). The authors
# advise accumulation only where GPUs hold copies of the model. So on one GPU first try the smallest
# micro-batch that keeps it busy.
#
# ## In practice, 2026
#
# ```python
# # {"prompt": [{"role": "user", "content": "..."}],
# #  "completion": [{"role": "assistant", "content": "..."}]}
# from datasets import load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-4B"
# trainer = SFTTrainer(
#     model=model_id,
#     train_dataset=load_dataset("json", data_files="train.jsonl", split="train"),
#     args=SFTConfig(
#         output_dir="sft", learning_rate=1e-5, num_train_epochs=2,
#         per_device_train_batch_size=4,  # what fits
#         gradient_accumulation_steps=8,  # 32 records a GPU; with one GPU try 1 first
#         average_tokens_across_devices=True,  # one division by the tokens of all GPUs
#         warmup_steps=0.03,  # a fraction in transformers 5; in version 4 use warmup_ratio
#         lr_scheduler_type="cosine",
#         max_grad_norm=1.0, weight_decay=0.0, bf16=True, logging_steps=1,
#     ),
# )
# trainer.train()
# ```
#
# Usual values, other optimizers (Muon), one bad batch, and pitfalls with several GPUs are on the
# [reference page](reference/08_the_small_knobs.md).

# %% [markdown]
# ## What if: repair the recipe
#
# The panel starts with the recipe that you inherited, on your 240 records. Reach a val_loss below 1.5 with as
# few changes as you can. Which two are needed? Which two make no difference?

# %%
inherited = base.but(batch_size=128, warmup_steps=500, weight_decay=0.1, max_grad_norm=1.0)
knobs = ["batch_size", "learning_rate", "warmup_steps", "max_grad_norm", "weight_decay"]
panel = ft.what_if(lab, config=inherited, fields=knobs)
panel

# %%
await panel.result()  # waits for your runs, or makes one, and keeps the figure in the notebook

# %% [markdown]
# <details><summary>Answer</summary>
# The batch and the warm-up. With batch 128 an epoch has two steps, and 500 warm-up steps keep the learning rate tiny.
# Batch 8 with a warm-up of 6 % is the run of this lesson. Decay and clipping can stay as they are.
# </details>
#
# ## Interview
#
# **Is gradient accumulation the same as a large batch?**
# <details><summary>Answer</summary>
# Yes, up to rounding and dropout, if token losses are summed and divided once by the labeled tokens of the
# whole step, over all GPUs. A mean of micro-batch means gives tokens of short micro-batches more
# weight: 10 tokens at loss 4 and 90 at loss 2 give 3.0 instead of 2.2.
# </details>
#
# **Why clip when Adam normalizes gradients anyway?**
# <details><summary>Answer</summary>
# Adam limits the step that a lone spike gives a weight, to about 3 learning rates. But the spike stays in the
# first average for about 10 steps and in the second for about 1,000 (β₂ = 0.999). So it sets the
# direction of the next steps and then shrinks them. Clipping, once per optimizer step and before the averages,
# limits its share. If it always acts, it is part of the optimizer.
# </details>
#
# More answers are on the [reference page](reference/08_the_small_knobs.md).
#
# ## Recap
#
# - Batch 128: ask at equal records or at equal steps. 500 warm-up steps: give a fraction.
# - Accumulation is exact only with one division by the labeled tokens of the step.
# - Decay 0.1: no relevant effect here. Clip at 1.0: it helped a little here. Log the norms first.
#
# Next: [09 where the memory goes](09_where_the_memory_goes.ipynb).

# %%
ft.progress("08")
