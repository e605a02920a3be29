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
# - accumulate gradients so that they equal those of one large batch, and clip them by their global
#   norm;
# - say which of these settings matter, and how you know.
#
# *Needs [01](01_full_fine_tuning.ipynb), [04](04_instruction_tuning.ipynb) and
# [07](07_learning_rate.ipynb). About 45 minutes; the code needs about 90 seconds on two CPU cores.*

# %%
import copy
import math

import torch

import ftkit as ft
from ftkit.inside import collate, encode_all, schedule, shuffled
from ftkit.teaching import at_135m, direction

SEEDS = [0, 1, 2]
ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C34 C37 · E10 E11 -->
#
# > *"52,002 records, 8 GPUs, 4 records on each at a time, 4 accumulation steps, 3 epochs. How many
# > optimizer steps? Is a warm-up of 500 steps all right?"*
#
# A common slip is 52,002 / 4 · 3. A **micro-batch** is what one GPU processes at once. **Gradient
# accumulation** adds up the gradients of several micro-batches, so a large batch needs about the
# memory of a small one. An **optimizer step** uses the sum over all accumulated micro-batches and all
# GPUs.

# %% [markdown]
# ## Your turn: how many steps?
#
# At the end of an epoch the last records may not fill a batch. Many loaders make a short batch of
# them, or leave them out (`drop_last`).


# %% tags=["raises-exception"]
def optimizer_steps(records, micro, accumulation, gpus, epochs, drop_last=False):
    """Return the number of optimizer steps. micro: records of a micro-batch; accumulation:
    micro-batches that one GPU adds up for a step. Unless drop_last, each epoch ends with a
    short batch."""
    ...


ft.check("optimizer_steps", optimizer_steps)

# %%
recipes = {"Alpaca": (52_002, 128, 3), "LIMA": (1_000, 32, 15), "this lesson": (240, 8, 1)}
rows = []
for name, (records, batch, epochs) in recipes.items():
    steps = math.ceil(records / batch) * epochs
    rows.append({"run": name, "optimizer steps": steps, "3 % of them": round(0.03 * steps, 1),
                 "500 steps are": f"{500 / steps:.0%} of the run"})
ft.table(rows)

# %% [markdown]
# A warm-up above 100 % never reaches its peak. So give warm-up as a fraction of the run.
# [Alpaca](https://github.com/tatsu-lab/stanford_alpaca) and [Tülu
# 3](https://arxiv.org/abs/2411.15124) used 3 %, [LIMA](https://arxiv.org/abs/2305.11206) none.
#
# ## Accumulation
# <!-- claims: C34 · E04 -->
#
# The loss of a batch is a mean over its **labeled tokens**, those that the model is trained on. The
# micro-batches of one step usually have different numbers of them.

# %% [markdown]
# ![Four micro-batches with 6, 10, 14 and 50 labeled tokens. With the mean of the four means each
# micro-batch has a quarter of the gradient, so a token of the first one counts 8 times as much as
# one of the last. With the sum divided by 80 every token has the same
# weight.](figures/08_accumulation.svg)
#
# ### Your turn: accumulate
#
# `model(**batch).loss` is the mean over the labeled tokens of that micro-batch. transformers shifts
# the labels by one position, so the first label of a row is never predicted.


# %% tags=["raises-exception"]
def accumulate(model, batches):
    """Leave in .grad the gradient of one big batch made of all micro-batches in `batches`, by one
    backward pass per micro-batch, and return the loss of the big batch. Labels of -100 do not
    count. `.grad` is empty at the start."""
    ...


ft.check("accumulate", accumulate)

# %% [markdown]
# How wrong is the mean of means? We take sixteen records in four micro-batches, sorted by the length
# of the answer (as loaders do to save padding) or not.

# %%
model, tokenizer = ft.load("tiny")
train = ft.records("tasks")[:240]
examples = encode_all(train, tokenizer).examples


# %%
def batches_of(examples, size):
    return [collate(examples[i:i + size], tokenizer.pad_token_id)
            for i in range(0, len(examples), size)]


# %%
def labeled_tokens(batch):
    return int((batch["labels"][:, 1:] != -100).sum())


def gradient(batches, weights):
    """The gradient of the weighted sum of the micro-batches' mean losses, as one vector."""
    model.zero_grad()
    for batch, weight in zip(batches, weights, strict=True):
        (model(**batch).loss * weight).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

# %%
by_length = sorted(examples[:16], key=lambda e: sum(label != -100 for label in e["labels"]))
rows = []
for order, chosen in (("sorted by length", by_length), ("not sorted", examples[:16])):
    micro_batches = batches_of(chosen, 4)
    tokens = [labeled_tokens(batch) for batch in micro_batches]
    big = gradient(batches_of(chosen, 16), [1])
    by_means = gradient(micro_batches, [1 / 4] * 4)
    by_tokens = gradient(micro_batches, [count / sum(tokens) for count in tokens])
    rows.append({"records": order, "labeled tokens": str(tokens),
                 "error of the mean of means": f"{(by_means - big).norm() / big.norm():.1%}",
                 "weighted by tokens": f"{(by_tokens - big).norm() / big.norm():.1%}"})
ft.table(rows)

# %% [markdown]
# **Accumulation equals the large batch if the token losses are summed and divided once by the
# labeled tokens of the whole step.** The mean of means gives tokens of short answers more weight. Its
# error, relative to the norm of the right gradient, is larger here where the lengths differ more.
# Many trainers averaged means, transformers until [October
# 2024](https://github.com/huggingface/transformers/pull/34191); the repair had
# [errors](https://github.com/huggingface/transformers/issues/35663) for some months. Its version 5.24
# and TRL's `SFTTrainer` still average means for many multimodal classes, such as Gemma 4's.
#
# ## A larger batch
# <!-- claims: C34 · E11 -->
#
# A larger batch averages more records, so its gradient is less noisy. It also makes fewer steps on
# the same records. Which effect wins? Each batch size gets its own learning rate, from three.

# %%
larger = ft.predict("240 records, one epoch, batch 32 instead of 8, each at its best learning "
                    "rate. The val_loss of batch 32 is ...",
                    "lower", "higher", "no difference seen")
larger

# %%
lab = ft.Experiment(data=train, val=ft.records("tasks", "validation"), eval_records=32, probes=())
base = ft.Config(learning_rate=1e-3, batch_size=8, eval_steps=1000, precision="fp32")
batch_8 = lab.sweep(base, learning_rate=[5e-4, 1e-3, 2e-3], seed=SEEDS)
batch_32 = lab.sweep(base.but(batch_size=32), learning_rate=[1e-3, 2e-3, 4e-3], seed=SEEDS)
same_steps = lab.sweep(base.but(batch_size=32, max_steps=30), learning_rate=[1e-3], seed=SEEDS)

# %%
ft.scatter(batch_8 + batch_32 + same_steps, "learning_rate", "val_loss", start=False, frontier=False,
           label=lambda run: f"batch {run.config.batch_size}, {len(run.rows)} steps")


# %%
def best_runs(runs):
    """The runs of the learning rate with the lowest mean val_loss."""
    groups = {}
    for run in runs:
        groups.setdefault(run.config.learning_rate, []).append(run)
    return min(groups.values(), key=lambda group: sum(run.after["val_loss"] for run in group))


def val_loss(runs):
    return [run.after["val_loss"] for run in runs]


SEEN = {"<": "lower", ">": "higher", "": "no difference seen"}  # what `direction` finds by a test


# %%
best_8, best_32 = best_runs(batch_8), best_runs(batch_32)
verdict = ft.expect(val_loss(best_32), ">", val_loss(best_8),
                    "fewer steps on the same records learn less", paired=True)
ft.expect(val_loss(same_steps), "<", val_loss(best_8), "at equal steps the larger batch learns more",
          paired=True)
larger.score(SEEN[direction(val_loss(best_32), val_loss(best_8), paired=True)])

# %% [markdown]
# Both results hold and answer different questions. At equal **records** (or tokens) the smaller batch makes
# almost four times the steps, 30 against 8. (`ft` fills every batch: 8 steps read 256.) At equal **steps**
# the larger batch reads all 240 records four times.
#
# Well below the **critical batch size** doubling the batch nearly halves the steps that are needed. That
# saves time on parallel hardware, not records. Above it more records per step save few steps. In
# pretraining (1B and 7B) the critical size grew fast at first, then leveled off ([Merrill et al.
# 2025](https://arxiv.org/abs/2505.23971)). A common estimate, which they question, is the **gradient noise
# scale**: the variance of one record's gradient, summed over all weights, divided by the squared norm of
# the mean gradient ([McCandlish et al. 2018](https://arxiv.org/abs/1812.06162)). When you multiply the batch
# by k, tune the learning rate again. The usual first guess is √k for Adam and k for SGD
# ([07](07_learning_rate.ipynb)).

# %% [markdown]
# ## Clipping
# <!-- claims: C39 · E14 -->
#
# **Clipping** limits the length of the gradient. All gradients together are one vector. If its length, the
# **global norm**, is above `max_norm`, all of them are multiplied by one factor. So the direction stays.
#
# ### Your turn: clip


# %% tags=["raises-exception"]
def clip_by_global_norm(gradients, max_norm):
    """Return new tensors, scaled by one common factor, so that the norm of all of them together
    is at most max_norm. gradients: a list of tensors. Below the limit nothing changes, nor where
    all gradients are zero."""
    ...


ft.check("clip_by_global_norm", clip_by_global_norm)

# %% [markdown]
# Clipping happens once per optimizer step, after the accumulation, to the whole gradient of all
# GPUs. How often does a limit of 1.0 act in the best runs of batch 8?

# %%
norms = sorted(row["grad_norm"] for run in best_8 for row in run.rows)
clipped = sum(norm > 1 for norm in norms) / len(norms)
print(f"median norm {norms[len(norms) // 2]:.1f}; {clipped:.0%} of the steps were clipped at 1.0")

# %% [markdown]
# On this small model every step is clipped, so all gradients get the same length. Then clipping is
# part of the optimizer: if you remove it or raise the limit above some norms, tune the learning rate
# again. (A lower limit changes almost nothing under Adam.) Where the norm stays below 1 after the first
# steps, the same limit acts rarely. So log `grad_norm` first.
#
# ## Which of them matter here?
# <!-- claims: C37 C38 C39 · E10 E13 E14 -->
#
# One change at a time against batch 8 at learning rate 0.001, with a warm-up of 6 %, no weight
# decay and clipping at 1.0. The tests are paired by seed.

# %%
unclipped = ft.predict("No clipping instead of a limit of 1.0: val_loss is ...",
                       "lower", "higher", "no difference seen")
unclipped

# %%
twins = [run for run in batch_8 if run.config.learning_rate == 1e-3]
changes = {"no warm-up": {"warmup_steps": 0}, "weight decay 0.1": {"weight_decay": 0.1},
           "no clipping": {"max_grad_norm": 0}}
changed = {name: lab.sweep(base.but(**change), seed=SEEDS) for name, change in changes.items()}
ft.table([{"change": name, "val_loss": val_loss(runs), "without the change": val_loss(twins),
           "verdict": SEEN[direction(val_loss(runs), val_loss(twins), paired=True)]}
          for name, runs in changed.items()])

# %%
unclipped.score(SEEN[direction(val_loss(changed["no clipping"]), val_loss(twins), paired=True)])

# %% [markdown]
# Two of these tests could hardly find anything. A warm-up of 6 % is 2 steps (1.8, rounded up), and the second
# is at the peak already. Decay 0.1 shrinks the weights by 0.16 %. What each setting does:
#
# - **Warm-up.** In the first steps AdamW's averages of the gradients (the first, β₁) and of their
#   squares (the second, β₂) come from a few batches, and without warm-up the learning
#   rate is at its peak. A low peak forgives that; a high one may not.
# - **Clipping.** "No clipping" has no learning rate of its own here, and three seeds are near the limit of
#   what they can see: on other seeds the same test says "higher" or "no difference seen". If its loss is
#   higher, a likely reason is that the large first gradients stay in AdamW's second average and shorten all
#   later steps.
# - **Weight decay.** AdamW multiplies the weights that it decays by `1 - learning_rate · decay` in
#   every step. Norms and biases are usually left out. Over a run the factor is the product:

# %%
recipe = ft.Config(learning_rate=2e-5, weight_decay=0.1, warmup_steps=0.03)
factor = 1.0
for step in range(1, 1222):  # Alpaca's 1,221 steps, cosine
    factor *= 1 - 2e-5 * schedule(step, 1221, recipe) * 0.1
print(f"weight decay 0.1 shrinks the weights by {1 - factor:.2%} in such a run")

# %% [markdown]
# At learning rates of full fine-tuning such a decay is not noticeable; Alpaca and Tülu 3 set it to 0,
# LIMA to 0.1. It pulls toward **zero**, not toward the base model, so it is no remedy
# for forgetting. With LoRA it acts on A and B, and BA = 0 *is* the base, but the pull is weak. In
# pretraining, with more than ten times the learning rate and hundreds of times the steps, decay matters.
#
# ## Break it: one bad batch
#
# We continue one tuned model for six steps of AdamW, in three orders of the records. In the third step
# the labels are random tokens. Each run has a control *without* this bad batch.

# %%
tuned = twins[0].model
held_out = encode_all(lab.val[:32], tokenizer).examples


# %%
def six_steps(clip, bad, seed):
    """val_loss after six steps, with or without a bad batch at step 3."""
    model = copy.deepcopy(tuned).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.0)
    batches = shuffled(len(examples), 8, seed)
    for step in range(1, 7):
        batch = collate([examples[i] for i in next(batches)], tokenizer.pad_token_id)
        if bad and step == 3:
            noise = torch.randint(3, 3000, batch["labels"].shape,
                                  generator=torch.Generator().manual_seed(seed))
            batch["labels"] = torch.where(batch["labels"] == -100, -100, noise)
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
    return ft.loss_on(model.eval(), held_out)

# %%
cases = {"no bad batch": (math.inf, False), "bad batch": (math.inf, True),
         "bad batch, clipped at 1.0": (1.0, True), "no bad batch, clipped": (1.0, False)}
hurt = {name: [six_steps(clip, bad, seed) for seed in SEEDS]
        for name, (clip, bad) in cases.items()}
ft.table([{"six steps": name, "val_loss": losses} for name, losses in hurt.items()])

# %%
ft.expect(hurt["bad batch"], ">", hurt["no bad batch"], "one bad batch hurts", paired=True,
          may_fail=True)
free = [bad - good for bad, good in zip(hurt["bad batch"], hurt["no bad batch"], strict=True)]
limited = [bad - good for bad, good in zip(hurt["bad batch, clipped at 1.0"],
                                           hurt["no bad batch, clipped"], strict=True)]
ft.expect(limited, "<", free, "clipping limits the damage (nats, each against its control)",
          paired=True, may_fail=True)

# %% [markdown]
# The bad batches had gradient norms of 32 to 34, the others of 1 to 15. The usual explanation of the harm:
# the spike outweighs its neighbors in the first average, so about ten steps go partly its way. Late in a
# run its own step is long too, up to (1-β₁)/√(1-β₂) = 3.2 learning rates a weight. It stays in the second
# average for about 1,000 steps (1/(1-β₂)) and makes each of them shorter. Clipping limits all three effects.
# With this tuned model the bad batch hurt in six other orders too. With other tuned models ([fresh
# seeds](../docs/measurements/FRESH_SEEDS.md)) no harm was seen: it depends on the model that meets the batch.
#
# A spike in `grad_norm` is also a message: look at the records of that batch. Some trainers skip a
# step whose norm is not finite or far above the recent ones.
#
# ## At 135M
#
# Batch 32 against batch 8 on the same records, on SmolLM2-135M, each at several learning rates
# (the second number).

# %%
at_135m("batch_size", verdict)

# %% [markdown]
# Batch 8 was ahead in all three pairs, by 0.03 to 0.12 nats, and in mean exact match. Three pairs do
# not settle it. Published for larger models:
#
# - Pretraining (up to 1.3B) and SFT (4B) were stable down to one record. A higher β₂ let AdamW remember the
#   same number of tokens ([Marek et al. 2025](https://arxiv.org/abs/2507.07101)). With β₂ so, in pretraining
#   the learning rate fell far less than √k: 2 to 3 times from 512 records to 1. The authors advise
#   accumulation only where GPUs hold copies of the model. So on one GPU first try the smallest
#   micro-batch that keeps it busy.
# - LoRA can lose more from very large batches than full fine-tuning ([Thinking Machines
#   2025](https://thinkingmachines.ai/blog/lora/)).
#
# ## What if?
#
# Which batch size is too small? Change `batch_size` and learning rate, press *Start*, and compare
# with batch 8.

# %%
knobs = ["batch_size", "learning_rate", "warmup_steps", "max_grad_norm", "weight_decay"]
panel = ft.what_if(lab, config=base.but(batch_size=4, eval_steps=10), fields=knobs)
panel

# %%
await panel.result()  # waits for your runs, or makes one, and keeps the figure in the notebook

# %% [markdown]
# None of ours was too small. Batch 8 ended at 1.18, batch 4 at 1.07 (learning rate 0.0005) and batch 1
# at 0.77, both with one seed. But batch 1 makes eight times the steps.
#
# The optimizer is a knob too. With Muon (`optim="muon"`), batch 8 and each optimizer's best learning rate
# (seed 0 chose 0.004; for AdamW 0.001), the mean loss on the test records over seeds 1 to 3 was 0.76 against
# 1.01 with AdamW, and 0.91 against 0.76 with LoRA. Three seeds show no difference in either.
#
# ## In practice, 2026
#
# | setting | usual value in SFT |
# |---|---|
# | records per step | 16 to 128; count tokens when you pack: 50k to 500k a step |
# | epochs | 1 to 3 for 10k records and more; up to 15 for about 1,000 ([LIMA](https://arxiv.org/abs/2305.11206)) |
# | warm-up | 3 to 10 % of the steps |
# | clipping | 1.0; 0.3 in QLoRA, 0.1 to 0.5 in some RL recipes; or a limit that only outliers exceed |
# | weight decay | 0 to 0.1; rarely matters |
# | optimizer | AdamW; [Muon](https://kellerjordan.github.io/posts/muon/) (`optim="muon"`) for the matrices of the layers keeps one average of each weight instead of two |
# | β₁, β₂ | 0.9 and 0.999; β₂ 0.95 for large batches; if 0.999 suits B₀, 0.999^(B/B₀) for a smaller B: 0.99987 (averages 8,000 steps) from 32 to 4 records |
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
#         gradient_accumulation_steps=8,  # 32 records a GPU; with one GPU try 1 first (β₂: table)
#         average_tokens_across_devices=True,  # one division by the tokens of all GPUs
#         warmup_steps=0.03,  # a fraction in transformers 5; in version 4 use warmup_ratio
#         lr_scheduler_type="cosine",
#         max_grad_norm=1.0, weight_decay=0.0, bf16=True, logging_steps=1,
#     ),
# )
# trainer.train()
# ```

# %% [markdown]
# Pitfalls:
#
# - transformers passes `num_items_in_batch`, the labeled tokens of the whole step, to the loss. A
#   custom `compute_loss_func` must divide the *summed* token losses by it ([how it was
#   found](https://huggingface.co/blog/gradient_accumulation)). If it returns a mean, loss and
#   `grad_norm` are too large by about the accumulation steps (with the setting above times the
#   GPUs). TRL 1.16's `SFTTrainer` deprecates it: override `compute_loss` with the same division.
# - `dataloader_drop_last` of transformers drops a short *micro*-batch. An incomplete accumulation
#   still makes a step: Alpaca's epoch keeps 407 steps, not 406.
# - The batch of a step grows with the number of GPUs: lower the accumulation when you add some.
# - With sharded weights (FSDP, DeepSpeed; [13](13_zero_and_fsdp.ipynb)) the *squared* norms must be summed
#   over all GPUs. Let the trainer clip.
# - DDP (a copy of the model per GPU) averages the gradients. So a loss that your own loop or
#   `compute_loss` divides by the tokens of all GPUs must be multiplied by the number of GPUs.
# - The logged `grad_norm` is the norm *before* clipping.

# %% [markdown]
# ## Interview
#
# **52,002 records, 8 GPUs, micro-batch 4, accumulation 4, 3 epochs: how many steps? Warm-up 500?**
# <details><summary>Answer</summary>
# A step uses 4 · 4 · 8 = 128 records. An epoch has 407 steps (406 if the last batch is dropped), so
# 1,221 in all. A warm-up of 500 would be 41 % of the run; 3 % is 37 steps. Give warm-up as a
# fraction.
# </details>
#
# **Is gradient accumulation the same as a large batch?**
# <details><summary>Answer</summary>
# Yes, up to rounding and dropout, if token losses are summed and divided once by the labeled tokens of the
# whole step, over all GPUs. A mean of micro-batch means gives tokens of short micro-batches more
# weight: 10 tokens at loss 4 and 90 at loss 2 give 3.0 instead of 2.2. Losses that couple records
# (contrastive, load balancing of an MoE) are not covered.
# </details>
#
# **Does weight decay 0.1 matter in SFT?**
# <details><summary>Answer</summary>
# Rarely. AdamW shrinks weights by the learning rate times the decay in each step. At a peak of 2e-5
# and 1,221 cosine steps that is 0.12 %. In full fine-tuning it pulls to zero and not to the
# base, so it does not prevent forgetting. With LoRA it pulls A and B to zero, so toward the base, but
# at a learning rate of 2e-4 BA shrinks by at most 2 % in 500 steps. In pretraining it matters.
# </details>
#
# **Why clip when Adam normalizes gradients anyway?**
# <details><summary>Answer</summary>
# Adam limits the step that a lone spike gives a weight, to about 3 learning rates; usual steps are
# shorter. But it stays in the first average for about 10 steps and in the second for about 1,000 (β₂ =
# 0.999). So it sets the direction of the next steps and then shrinks the updates. Clipping by the
# global norm, once per optimizer step and before the averages, limits its share. Watch how often it
# acts: if always, it is part of the optimizer, and a lower limit changes almost nothing.
# </details>
#
# **You double the batch. What else changes?**
# <details><summary>Answer</summary>
# At equal epochs there are half as many steps, so a run with few steps may learn less. Tune the learning rate
# again: √2 times is the usual first guess for Adam. Beyond the critical batch size more records per
# step save few steps. Halve a warm-up given in steps. Report whether you compare at equal tokens or
# equal steps.
# </details>
#
# ## Recap
#
# - Batch 128: ask at equal records or at equal steps. 500 warm-up steps: wrong for short runs, give a
#   fraction. Decay 0.1: no effect seen. Clip at 1.0: it acted in every step here, and helped at this
#   learning rate; elsewhere it depends on your norms.
# - Optimizer steps = epochs · ⌈records / (micro-batch · accumulation · GPUs)⌉.
# - Accumulation is exact only with one division by the labeled tokens of the step.

# %% [markdown]
# In the package: `train` in [`ftkit/engine/loop.py`](../ftkit/engine/loop.py). Next:
# [09 where the memory goes](09_where_the_memory_goes.ipynb).

# %%
ft.progress("08")
