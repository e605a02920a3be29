# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · The learning rate
#
# **Claim: the right learning rate of a fine-tune is a tenth to a hundredth of the one used in
# pretraining, and the training loss shows when it is too high.** Both halves could be wrong. After
# this lesson you can
#
# - write the two schedules in use today, warm-up + cosine and WSD;
# - find a good learning rate with a few short runs, and see damage that the training loss hides;
# - transfer a learning rate to another method, batch size or model size, and know the limits of
#   each rule.
#
# *Needs [01](01_full_fine_tuning.ipynb) and [02](02_lora.ipynb). About 45 minutes; the code needs
# about 90 seconds on two CPU cores.*

# %%
import math

import torch

import ftkit as ft
from ftkit.data import encoding
from ftkit.engine import loop
from ftkit.lessons.at_135m import at_135m
from ftkit.lessons.claims import direction

SEEDS = [0, 1, 2, 3, 4]
ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"Which learning rate would you start with to fine-tune an 8B model, why is it lower than in
# > pretraining, and how would you notice that it is wrong?"*
#
# A common answer is "2e-5, because the gradients are small". The number fits one case of several,
# and the reason is wrong. You can test the reason in a few seconds.
#
# ## What one learning rate moves
# <!-- claims: C93 -->
#
# AdamW divides each gradient by a running estimate of its own size (lesson 01). The function below
# trains the small model with AdamW, one learning rate for each step. It has no gradient clipping.
# `loss_scale` multiplies the loss, and so every gradient, by a constant.

# %%
lab = ft.Experiment(data=ft.records("tasks")[:320], val="tasks", eval_records=24)
base, tokenizer = ft.load("tiny")
examples = encoding.encode_all(lab.train, tokenizer).examples
validation = [ft.encode(record, tokenizer) for record in lab.val]


# %%
def train(learning_rates, seed, loss_scale=1.0):
    """Train with one learning rate per step; return the model and the loss of each batch."""
    model, _ = ft.load("tiny")
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    batches, losses = loop.shuffled(len(examples), 8, seed), []
    for learning_rate in learning_rates:
        optimizer.param_groups[0]["lr"] = learning_rate
        batch = [examples[i] for i in next(batches)]
        loss = model(**encoding.collate(batch, tokenizer.pad_token_id)).loss
        (loss_scale * loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model, losses


# %%
scaled = ft.predict("All gradients are multiplied by 1,000. After 6 steps of AdamW at learning "
                    "rate 0.001, the loss of the batch is ...",
                    "much higher", "much lower", "the same up to rounding")
scaled

# %%
plain, times_1000 = (train([1e-3] * 6, seed=0, loss_scale=scale)[1] for scale in (1, 1000))
ft.table([{"step": step, "loss": a, "loss, gradients × 1,000": b}
          for step, (a, b) in enumerate(zip(plain, times_1000, strict=True), 1)])

# %%
gap = times_1000[-1] - plain[-1]
scaled.score("the same up to rounding" if abs(gap) < 0.1 else
             "much higher" if gap > 0 else "much lower")

# %% [markdown]
# AdamW ignores the size of the gradient. In one step a weight moves by at most about one learning
# rate. (Rare, sudden gradients can move it by a few.) So the sum of the learning rates of a run is
# a budget: it limits how far a weight can get, whatever the gradients are.
#
# Why then a low learning rate? Because the start is good. A fine-tune must change the model a
# little, and a large budget can overwrite what pretraining stored. That is the hypothesis of this
# lesson.

# %% [markdown]
# ## The schedule
#
# ![Three learning-rate schedules over the steps of a run. All rise linearly in a short warm-up to
# the same peak. Cosine then falls along half a wave to zero. WSD stays at the peak and falls to
# zero in the last fifth of the steps. The constant schedule never falls. The area under a curve is
# the sum of the learning rates.](figures/07_schedules.svg)

# %% [markdown]
# A **schedule** gives each step its learning rate. The **warm-up** raises it linearly, because
# AdamW's estimates come from few gradients in the first steps. **Cosine** lowers it along half a
# cosine wave, and must know the number of steps in advance. **WSD** (warm-up, stable, decay) stays
# at the peak and only falls in a short decay at the end. A run with WSD can be extended: continue
# from the end of the stable phase, and decay later.

# %% [markdown]
# ### Your turn: warm-up and cosine
#
# Steps count from 1. In the warm-up, step `warmup` has the peak. The step after it has the peak
# too: progress 0 on the cosine. Step `total + 1`, which is never made, would have progress 1. If
# you get stuck, run `ft.hint("warmup_cosine")`, up to three times, or
# `ft.solution("warmup_cosine")`.


# %% tags=["raises-exception"]
def warmup_cosine(step, total, peak, warmup):
    """Return the learning rate of `step` (1 to total): linear up to `peak` in `warmup` steps
    (0: no warm-up), then half a cosine wave, whose zero is at step total + 1."""
    ...


ft.check("warmup_cosine", warmup_cosine)

# %% [markdown]
# ### Your turn: WSD
#
# The first of the last `decay` steps still has the peak, and the last one has `peak / decay`.


# %% tags=["raises-exception"]
def wsd(step, total, peak, warmup, decay):
    """Return the learning rate of `step` (1 to total): linear warm-up, constant at `peak`, and
    a straight line over the last `decay` steps, whose zero is at step total + 1."""
    ...


ft.check("wsd", wsd)

# %% [markdown]
# From here on we use the package's schedules. Its WSD decays along half a cosine, as that of
# transformers does by default. The straight line that you wrote is `decay_type="linear"` there.
# Next come the schedule of a run of the package and the movement of its weights.

# %%
from ftkit.lessons.by_hand.schedules import warmup_cosine

run = lab.run(learning_rate=1e-3, eval_steps=5, live=False)
total = len(run.rows)
warmup = math.ceil(0.06 * total)  # the default of Config: 6 % of the steps
schedule = [warmup_cosine(step, total, 1e-3, warmup) for step in range(1, total + 1)]
logged = [row["learning_rate"] for row in run.rows]
print("largest difference to the run:",
      max(abs(a - b) for a, b in zip(schedule, logged, strict=True)))

# %%
moved, size = [], []
for old, new in zip(base.parameters(), run.model.parameters(), strict=True):
    if old.ndim == 2:  # the matrices
        moved.append((new - old).detach().abs().flatten())
        size.append(old.detach().abs().flatten())
moved, size = torch.cat(moved), torch.cat(size)
ft.table([{"sum of the learning rates": sum(schedule), "largest movement": moved.max().item(),
           "mean movement": moved.mean().item(), "mean size of a weight": size.mean().item()}])

# %% [markdown]
# Compare the largest movement with the sum: single weights may use nearly the whole budget. The
# mean movement is far below it, because the signs of the gradients vary. So the budget is an upper
# limit, no prediction. At scale it is generous: Alpaca's run (peak 2e-5, cosine, 1,219 steps) has a
# budget of 0.012, and weights of a 7B model are typically about 0.02. Only a measurement tells how
# much of it was used.
#
# ## Five learning rates
# <!-- claims: C32 C40 C41 · E09 -->
#
# Twenty steps on 320 records, full fine-tuning, five seeds each. Each run has its own complete
# cosine. Compare learning rates only at one number of steps: a low one is not wrong, it is slow.

# %%
extremes = ft.predict("Of the grid 0.0001 to 0.01 both ends are bad choices. Which end has the "
                      "lower val_loss after 20 steps?",
                      "0.0001", "0.01", "no difference seen")
extremes

# %%
from ftkit.lessons.run_pictures import best_values, line_plot, sweep_curves

grid = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
once = ft.Config(eval_steps=1000)  # evaluate before and after only
full = lab.sweep(once, learning_rate=grid, seed=SEEDS)
sweep_curves(full, "val_loss")


# %%
def ends(runs, learning_rate, key):
    """The measure `key` at the end of the runs with this learning rate, one value per seed."""
    return [run.after[key] for run in runs if run.config.learning_rate == learning_rate]


learned = {rate: ends(full, rate, "val_loss") for rate in grid}
best = best_values(full)["full"]
extremes.score({"<": "0.0001", ">": "0.01", "": "no difference seen"}[
    direction(learned[1e-4], learned[1e-2], paired=True)])

# %% [markdown]
# ## What the training loss does not show
# <!-- claims: C40 C7 · E09 -->
#
# `general_loss` is the loss on general text that the base model knew. It rises when the model
# forgets. Think of the budget before you guess.

# %%
hidden = ft.predict("Learning rate 0.003 ends with a lower val_loss than 0.0003. Its general_loss "
                    "is ...", "lower too", "higher", "no difference seen")
hidden

# %%
kept = {rate: ends(full, rate, "general_loss") for rate in grid}
ft.expect(learned[3e-3], "<", learned[3e-4], "on the task, 0.003 looks better than 0.0003",
          paired=True)
verdict = ft.expect(kept[3e-3], ">", kept[1e-3],
                    "a learning rate above the best one costs what the model knew", paired=True)
ft.table([{"learning rate": rate, "val_loss": learned[rate], "general_loss": kept[rate]}
          for rate in grid])

# %%
hidden.score({"<": "lower too", ">": "higher", "": "no difference seen"}[
    direction(kept[3e-3], kept[3e-4], paired=True)])

# %% [markdown]
# The base model has a general_loss of 0.82. Compare the first and the last line of the table. Their
# losses on the task are similar, but one model is unharmed and undertrained, and the other one
# is ruined. Could you tell from the training loss? Here are the curves of 0.0003 and 0.003.

# %%
ft.curves({f"learning rate {rate:g}": [run for run in full if run.config.learning_rate == rate]
           for rate in (3e-4, 3e-3)}, "loss")

# %% [markdown]
# Both training losses fall, and the harmful run has the lower one at the end. Nothing in this
# picture says that the model forgot. So the second half of the claim is wrong: on this model,
# forgetting begins before the loss on the task turns. Watch something that must not get worse: an
# extra evaluation set during the run, which this course calls a **probe**.
#
# ### Your turn: choose the learning rate
#
# Write the rule down, so that it is not bent afterwards. Among the learning rates whose mean
# `target` reaches a floor, take the one that keeps most.


# %% tags=["raises-exception"]
def choose_learning_rate(sweep, floor):
    """Return the learning rate with the highest mean "kept" among those whose mean "target" is at
    least `floor`, or None. sweep: learning rate → list of {"target": ..., "kept": ...}, per seed.
    Both are scores where higher is better."""
    ...


ft.check("choose_learning_rate", choose_learning_rate)

# %% [markdown]
# ## The same learning rate for LoRA?
# <!-- claims: C19 C32 · E22 -->
#
# Lesson 02 gave each method its own grid. Here are both valleys on one axis.

# %%
lora = lab.sweep(once.but(method="lora"), learning_rate=[3e-3, 1e-2, 3e-2], seed=SEEDS[:3])
lora_best = best_values(lora)["lora"]
print(f"best: full {best:g}, LoRA {lora_best:g}, ratio {lora_best / best:.0f}")
sweep_curves(full + lora, "val_loss", "general_loss")

# %% [markdown]
# In both panels the ring is at the learning rate with the lowest mean val_loss. Left of the rings
# the model has learned less and forgotten less.
#
# The grid is coarse: trust the order of magnitude. On large models a ratio of about ten is reported
# ([Thinking Machines 2025](https://thinkingmachines.ai/blog/lora/)). A method's valley moves as a
# whole: at a learning rate that suits full fine-tuning, LoRA barely starts. Whether LoRA forgets
# less is a question of equal performance, which [lesson 02](02_lora.ipynb) tests.

# %% [markdown]
# ## Cosine, WSD, constant
# <!-- claims: C37 -->
#
# Forty steps, three seeds, four schedules. At one peak, cosine has the smallest sum of learning
# rates. So a second WSD has a lower peak, which gives it about the same sum as cosine.

# %%
decay = ft.predict("At step 40: WSD, which decays in its last 12 steps, against the same constant "
                   "learning rate without decay. val_loss of WSD is ...",
                   "lower", "higher", "no difference seen")
decay

# %%
forty = once.but(learning_rate=1e-3, max_steps=40, warmup_steps=3)
SCHEDULES = {"cosine": {},
             "WSD": {"lr_scheduler_type": "warmup_stable_decay", "num_decay_steps": 12},
             "WSD, peak 0.0006": {"lr_scheduler_type": "warmup_stable_decay",
                                  "num_decay_steps": 12, "learning_rate": 6e-4},
             "constant": {"lr_scheduler_type": "constant"}}
SEEN = {"<": "lower", ">": "higher", "": "no difference seen"}
at_40, rows = {}, []
for name, changes in SCHEDULES.items():
    runs = lab.sweep(forty.but(**changes), seed=SEEDS[:3])
    at_40[name] = [run.after["val_loss"] for run in runs]
    rows.append({"schedule": name, "sum": sum(row["learning_rate"] for row in runs[0].rows),
                 "val_loss": at_40[name],
                 "against cosine": SEEN[direction(at_40[name], at_40["cosine"], paired=True)],
                 "general_loss": [run.after["general_loss"] for run in runs]})
ft.table(rows)

# %%
decay.score({"<": "lower", ">": "higher", "": "no difference seen"}[
    direction(at_40["WSD"], at_40["constant"], paired=True)])

# %% [markdown]
# Read the verdicts as printed: three seeds settle only large differences. Read the sums and
# general_loss with them. A peak that suits cosine can be too high for a schedule that stays there
# longer, so a schedule has its own best peak, as a method has. And forty steps of a small model do
# not settle the question for long runs.
#
# In pretraining it was measured at length. The decay lowers the loss quickly. A constant learning
# rate with a decay over 10 to 20 % of the steps matches cosine ([Hägele et al.
# 2024](https://arxiv.org/abs/2405.18392)). WSD became known with MiniCPM ([Hu et al.
# 2024](https://arxiv.org/abs/2404.06395)). A cosine that is stopped early misses its decay, so plan
# its length, or use WSD.

# %% [markdown]
# ## Break it: the range test
#
# A popular shortcut: raise the learning rate a little at every step, draw the loss, and take the
# value where the loss is lowest. One run of 20 steps replaces a sweep.

# %%
def rising(steps, low=1e-5, high=1.0):
    return [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]


tests, lowest = {}, {}
for name, steps, seed in (("20 steps, seed 0", 20, 0), ("20 steps, seed 1", 20, 1),
                          ("60 steps, seed 0", 60, 0)):
    tests[name] = list(zip(rising(steps), train(rising(steps), seed)[1], strict=True))
    lowest[name] = min(tests[name], key=lambda point: point[1])[0]
line_plot(tests, x="learning rate", y="loss of the batch")

# %%
ft.table([{"range test": name, "learning rate of the lowest loss": rate, "best of the sweep": best}
          for name, rate in lowest.items()])

# %% [markdown]
# Compare the columns with the table of general_loss above. The range test reads the training loss
# only, so it tends to pick learning rates that already cost forgetting. Each point also has a model
# trained at all the lower values before, so the answer depends on the speed of the rise. A common
# repair is to divide the result by ten. Use it for an order of magnitude, then sweep.
#
# ## At 135M
#
# The same sweep on SmolLM2-135M, in recorded runs. There the measure of forgetting is the loss on
# plain English.

# %%
at_135m("lr_valley", verdict)

# %% [markdown]
# Published recipes for larger models, full fine-tuning unless stated:
#
# | recipe | peak | pretraining | ratio |
# |---|---|---|---|
# | [Alpaca](https://github.com/tatsu-lab/stanford_alpaca), LLaMA 7B | 2e-5 | 3e-4 | 1/15 |
# | [LIMA](https://arxiv.org/abs/2305.11206), LLaMA 65B | 1e-5 | 1.5e-4 | 1/15 |
# | [Llama 2 chat](https://arxiv.org/abs/2307.09288) 70B, SFT | 2e-5 | 1.5e-4 | 1/7.5 |
# | [Tülu 3](https://arxiv.org/abs/2411.15124) 8B, SFT | 5e-6 | 3e-4 | 1/60 |
# | [Code Llama](https://arxiv.org/abs/2308.12950) 7B, continued pretraining | 3e-4 | 3e-4 | 1 |
# | [QLoRA](https://arxiv.org/abs/2305.14314) 7B | 2e-4 | 3e-4 | 1/1.5 |
#
# So "a tenth to a hundredth of pretraining" describes supervised full fine-tuning, roughly. It does
# not describe continued pretraining or LoRA.

# %% [markdown]
# ## What if?
#
# Choose learning rate, steps and seed, and press *Start*. Find the highest learning rate at which
# `general_loss` stays below 1.0. What do you give up in `val_loss`?

# %%
start = ft.Config(learning_rate=5e-4, max_steps=20, eval_steps=5)
ft.what_if(lab, config=start, baseline=run, fields=["learning_rate", "max_steps", "seed"])

# %% [markdown]
# ## In practice, 2026
# <!-- claims: C42 C33 -->
#
# | training (AdamW) | peak to start from |
# |---|---|
# | full SFT, 1B to 3B | 1e-5 to 5e-5 |
# | full SFT, 7B to 8B | 5e-6 to 2e-5 |
# | full SFT, 70B | 2e-6 to 1e-5 |
# | full SFT on reasoning traces, 7B to 32B | 1e-5 ([s1](https://arxiv.org/abs/2501.19393), 32B) to 4e-5 ([OpenR1](https://github.com/huggingface/open-r1), 7B) |
# | LoRA, QLoRA | 1e-4 to 5e-4 |
# | DPO and GRPO ([lesson 20](20_preferences.ipynb)), full | 5e-7 to 1e-6 |
#
# Sweep a factor of 3 around it, each run with its full schedule. WSD in TRL:
#
# ```python
# # {"prompt": "...", "completion": "..."}
# from datasets import load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-8B"
# trainer = SFTTrainer(
#     model=model_id,
#     train_dataset=load_dataset("json", data_files="train.jsonl", split="train"),
#     args=SFTConfig(
#         output_dir="sft", learning_rate=1e-5, max_steps=1000, warmup_steps=0.03,
#         lr_scheduler_type="warmup_stable_decay",  # the usual choice is "cosine"
#         lr_scheduler_kwargs={"num_decay_steps": 200, "decay_type": "1-sqrt"},
#         per_device_train_batch_size=4, gradient_accumulation_steps=8, bf16=True,
#         gradient_checkpointing=True,
#     ),
# )
# trainer.train()
# ```

# %% [markdown]
# How a learning rate transfers. None of these rules replaces a sweep at the final setting:
#
# - **Batch size times k.** With Adam multiply by √k ([Malladi et al.
#   2022](https://arxiv.org/abs/2205.10287)), with SGD by k ([Goyal et al.
#   2017](https://arxiv.org/abs/1706.02677)). Both hold up to a critical batch size only.
# - **Larger model.** Lower it, as the table does. **muP** parametrizes models so that the best
#   learning rate of a narrow one holds for a wide one ([Yang et al.
#   2022](https://arxiv.org/abs/2203.03466)). With Adam, the learning rate of hidden matrices then
#   falls as 1/width. It is a tool for pretraining, and the model must be built that way.

# %% [markdown]
# - **Layer-wise decay.** A smaller learning rate for layers near the input, for example times 0.9
#   per layer. It was common for BERT-like encoders ([ULMFiT](https://arxiv.org/abs/1801.06146)
#   started it) and is rare for LLMs.
# - **Continued pretraining.** A model whose learning rate has decayed to zero must be warmed up
#   again, which costs some forgetting; add replay of old data ([Ibrahim et al.
#   2024](https://arxiv.org/abs/2403.08763)).
# - **Another optimizer.** Muon, Lion and Adafactor need their own values; β₂ = 0.95 instead of
#   0.999 is usual in LLM pretraining.

# %% [markdown]
# Pitfalls:
#
# - `learning_rate` defaults differ: 5e-5 in `TrainingArguments`, 2e-5 in `SFTConfig`, 1e-6 in
#   `DPOConfig` and `GRPOConfig` ([TRL](https://huggingface.co/docs/trl)). A LoRA run at such a
#   default may learn almost nothing.
# - transformers' warm-up gives the first step learning rate 0.
# - A run that is resumed or extended with another `max_steps` gets another cosine from there on.
# - `lr_scheduler_type="constant"` ignores the warm-up; use `"constant_with_warmup"`.
#
# ## Interview
#
# **Why is the learning rate lower than in pretraining?**
# <details><summary>Answer</summary>
# Not because gradients are small: AdamW normalizes them, so a step moves a weight by about the
# learning rate. The start is already good, and large moves overwrite it. Typical: 5e-6 to 2e-5 for
# full SFT of 7B models, a tenth to a hundredth of pretraining. LoRA needs about ten times more, and
# continued pretraining may use the pretraining peak again.
# </details>
#
# **How do you choose it?**
# <details><summary>Answer</summary>
# Start from a recipe for the same method and model size. Sweep by factors of 3, each run with its
# whole schedule and the final batch size, with more than one seed for close calls. Judge by the
# metric of the task and by an evaluation of abilities that must stay. If the best value is at the
# end of the grid, extend the grid.
# </details>
#
# **What does too high a learning rate look like?**
# <details><summary>Answer</summary>
# The first sign is often worse general ability while the training loss still falls. Then the
# validation loss on the task gets worse. Then come spikes in loss and gradient norm, and
# divergence. NaN comes last, if at all. A spike can also come from bad data or fp16 overflow, so
# look at the batch.
# </details>
#
# **When would you use WSD instead of cosine?**
# <details><summary>Answer</summary>
# When the length of the run is not fixed in advance, or when several lengths are wanted. One stable
# run gives many checkpoints, and each gets its own short decay, about 10 to 20 % of the steps.
# Published comparisons in pretraining find it on par with cosine. For a fixed, short fine-tune the
# choice rarely matters.
# </details>
#
# **LoRA learns nothing at 2e-5. Is it too weak?**
# <details><summary>Answer</summary>
# Probably not: the learning rate is too low. LoRA's best is about ten times that of full
# fine-tuning, so try 1e-4 to 5e-4. Compare methods only at their own best learning rates.
# </details>

# %% [markdown]
# ## Recap
#
# - AdamW ignores the gradient's size; the sum of the learning rates limits how far weights can
#   move.
# - Too low is slow. Too high forgets before the loss on the task shows it, so watch a probe.
# - A learning rate belongs to a method, a model size, a batch size and a number of steps.
#
# From scratch:
# [`ftkit/lessons/by_hand/schedules.py`](../ftkit/lessons/by_hand/schedules.py). Next:
# [08 the small knobs](08_the_small_knobs.ipynb), and on forgetting
# [lesson 16](16_catastrophic_forgetting.ipynb).

# %%
ft.progress("07")
