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
# - write warm-up + cosine, and compare it with WSD and linear decay;
# - find a good learning rate with a few short runs, and see damage that the training loss hides;
# - transfer a learning rate to another method, batch size or model size, and know the limits of
#   each rule.
#
# *Needs [01](01_full_fine_tuning.ipynb) and [02](02_lora.ipynb). About 45 minutes; the code needs
# about 90 seconds on two idle CPU cores.*

# %%
import math

import torch

import ftkit as ft
from ftkit.inside import collate, encode_all, shuffled
from ftkit.teaching import (
    at_135m,
    best_values,
    direction,
    line_plot,
    sweep_curves,
    working,
)

SEEDS = [0, 1, 2, 3]
ft.setup(seed=0)

# %% [markdown]
# ## Your job in this lesson
#
# Your team tunes an 8B model next week, and you choose the learning rate. A colleague says: "2e-5, because the
# gradients are small in fine-tuning." The number fits one case of several. The reason can be tested, and so can
# the question that decides more: **how would you notice that it is wrong?**
#
# ## What one learning rate moves
# <!-- claims: C93 -->
#
# The function below trains the small model with AdamW, one learning rate for each step. It has no
# gradient clipping. `loss_scale` multiplies the loss, and so every gradient, by a constant.

# %%
lab = ft.Experiment(data=ft.records("tasks")[:320], val="tasks", eval_records=24)
base, tokenizer = ft.load("tiny")
examples = encode_all(lab.train, tokenizer).examples


# %%
def train(learning_rates, seed, loss_scale=1.0):
    """Train with one learning rate per step; return the model and the loss of each batch."""
    model, _ = ft.load("tiny")
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    batches, losses = shuffled(len(examples), 8, seed), []
    for learning_rate in learning_rates:
        optimizer.param_groups[0]["lr"] = learning_rate
        batch = [examples[i] for i in next(batches)]
        loss = model(**collate(batch, tokenizer.pad_token_id)).loss
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
plain, times_1000, millionth = (train([1e-3] * 6, seed=0, loss_scale=scale)[1]
                                for scale in (1, 1000, 1e-6))
ft.table([{"step": step, "loss": a, "gradients × 1,000": b, "gradients / 1,000,000": c}
          for step, (a, b, c) in enumerate(zip(plain, times_1000, millionth, strict=True), 1)])

# %%
gap = times_1000[-1] - plain[-1]
scaled.score("the same up to rounding" if abs(gap) < 0.1 else
             "much higher" if gap > 0 else "much lower")

# %% [markdown]
# AdamW divides each gradient by a running estimate of its own size (lesson 01), so a constant factor
# cancels. The limit is ε = 1e-8, which AdamW adds to that estimate: a millionth of these gradients is of the
# size of ε, so the third run differs. Above it, small gradients are no reason for a low learning rate.
#
# So in one step a weight moves by about one learning rate at most; only rare, sudden gradients and weight
# decay can add to it. The sum of the learning rates of a run is therefore a **budget**: it limits how far a
# weight can get.
#
# So why use a low learning rate? Three things differ from pretraining:
#
# - The start is good, and a large budget can overwrite it. *This lesson tests that part.*
# - The batch is usually smaller, so the gradient is noisier. LLaMA was pretrained with 4M tokens a batch. For
#   Alpaca, LLaMA 7B tuned on instructions, it was 128 records, perhaps 13,000 tokens. A usual rule for Adam
#   takes the square root of that factor of 300, which is 17: 3e-4 becomes 1.7e-5. Alpaca used 2e-5.
# - Pretraining did not end at its peak, but at a tenth of it or less. The weights have settled there.

# %% [markdown]
# ## The schedule
# <!-- claims: C37 -->
#
# ![Four learning-rate schedules over the steps of a run. All rise linearly in a short warm-up to
# the same peak. Cosine then falls along half a wave to zero, linear along a straight line. WSD
# stays at the peak and falls to zero in the last fifth of the steps. The constant schedule never
# falls. The area under a curve is the sum of the learning rates.](figures/07_schedules.svg)

# %% [markdown]
# A **schedule** gives each step its learning rate. The **warm-up** raises it linearly, because large first steps
# can be unstable: AdamW's first estimates come from few gradients. **Cosine** lowers it along half a cosine wave,
# to zero or to a tenth of the peak. **Linear** decay is the default of transformers and TRL. **WSD** (warm-up, stable,
# decay) stays at the peak and falls at the end, so a run can be extended from the end of its stable phase.

# %% [markdown]
# ### Your turn: warm-up and cosine
#
# Steps count from 1. Step `warmup` has the peak, and the step after it too: there the cosine begins, with
# progress 0. Step `total + 1`, which is never made, would have progress 1. (transformers counts from 0, so its
# warm-up spends the first step at learning rate 0.) Stuck? `ft.hint("warmup_cosine")`, then
# `ft.solution("warmup_cosine")`.


# %% tags=["raises-exception"]
def warmup_cosine(step, total, peak, warmup):
    """Return the learning rate of `step` (1 to total): linear up to `peak` in `warmup` steps
    (0: no warm-up), then half a cosine wave, whose zero is at step total + 1."""
    ...


ft.check("warmup_cosine", warmup_cosine)

# %% [markdown]
# The next cell trains one run (full fine-tuning, 20 steps of 16 records) and compares its logged
# learning rates with the cosine (yours, or ours until yours is right). How much of the budget do the weights use?

# %%
cosine = working("warmup_cosine", warmup_cosine)
run = lab.run(learning_rate=1e-3, eval_steps=5, precision="fp32", live=False)
total = len(run.rows)
warmup = math.ceil(0.06 * total)  # the default of Config: 6 % of the steps
schedule = [cosine(step, total, 1e-3, warmup) for step in range(1, total + 1)]
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
# Single weights use nearly the whole budget. The mean movement is much smaller, because the signs of the gradients
# vary. So the budget is an upper limit, no prediction. But a few percent of the mean size of a weight are enough to
# learn, as the next section shows.
#
# Linear decay has the same sum as cosine; a WSD that decays over the last fifth has 1.6 times that. So expect its best
# peak to be lower: a schedule has its own best peak.
#
# ## Four learning rates
# <!-- claims: C32 C40 C41 · E09 -->
#
# Which peak is best? Twenty steps of 16 records, full fine-tuning, four seeds each; every run has its own
# complete cosine. The line is the mean over the seeds, the ring its lowest point.

# %%
grid = [1e-4, 3e-4, 1e-3, 3e-3]
once = ft.Config(eval_steps=1000, precision="fp32")  # evaluate before and after only
full = lab.sweep(once, learning_rate=grid, seed=SEEDS)
sweep_curves(full, "val_loss")


# %%
def ends(runs, learning_rate, key):
    """The measure `key` at the end of the runs with this learning rate, one value per seed."""
    return [run.after[key] for run in runs if run.config.learning_rate == learning_rate]


learned = {rate: ends(full, rate, "val_loss") for rate in grid}
kept = {rate: ends(full, rate, "general_loss") for rate in grid}
best = best_values(full)["full"]

# %% [markdown]
# ## What the training loss does not show
# <!-- claims: C40 C7 · E09 -->
#
# 0.001 learns most in 20 steps. Does it also keep what the model knew? `general_loss` is the loss on general
# text. It rises when the model forgets.

# %%
hidden = ft.predict("Learning rate 0.001 ends with a lower val_loss than 0.0003. Its general_loss "
                    "is ...", "lower too", "higher", "no difference seen")
hidden

# %%
end_of_training = {}
for rate in grid:
    members = [run for run in full if run.config.learning_rate == rate]
    end_of_training[rate] = [sum(row["loss"] for row in run.rows[-5:]) / 5 for run in members]
before = {"learning rate": "before", "training loss, last 5 steps": "", **{
    key: full[0].before[key] for key in ("val_loss", "general_loss")}}
ft.table([before] + [{"learning rate": rate, "training loss, last 5 steps": end_of_training[rate],
                      "val_loss": learned[rate], "general_loss": kept[rate]} for rate in grid])

# %%
ft.expect(learned[1e-3], "<", learned[3e-4], "0.001 is better on the task than 0.0003", paired=True)
ft.expect(kept[1e-3], ">", kept[3e-4], "but it has forgotten more", paired=True)
verdict = ft.expect(kept[3e-3], ">", kept[1e-3],
                    "a learning rate above the best one costs what the model knew", paired=True)
ft.expect(end_of_training[3e-3], ">", end_of_training[1e-3],
          "0.003 ends with a higher training loss than 0.001", paired=True, may_fail=True)

# %%
hidden.score({"<": "lower too", ">": "higher", "": "no difference seen"}[
    direction(kept[1e-3], kept[3e-4], paired=True)])

# %% [markdown]
# Does the training loss show this? Look at 0.003 just after the warm-up, which has two steps.

# %%
ft.curves({f"learning rate {rate:g}": [run for run in full if run.config.learning_rate == rate]
           for rate in grid[1:]}, "loss")

# %% [markdown]
# At 0.003 the mean loss rises again soon after the warm-up, with a wide band. Here such an instability is all that
# one curve shows. Otherwise, too high or too low is seen only by comparison: 0.003 and 0.0003 both end above
# 0.001, and all three curves end flat.
#
# So the claim's second half is half right. For the *task* the training loss ranks the learning rates as val_loss
# does; here every record is new. When records repeat, a high learning rate can memorize them ([lesson
# 17](17_overfitting.ipynb)), so rank by val_loss.
#
# The training loss does not show what the model *forgot*. From 0.0003 to 0.001 it falls, while general_loss
# rises. That is the price of learning more in the same steps; it does not make 0.001 too high. Watch something
# that must not get worse: an extra evaluation set during the run, which this course calls a **probe**.
#
# ### Your turn: choose the learning rate
#
# Your team sets a floor for the task before the sweep. What is then the best learning rate? Decide what must
# be good enough and what should be as good as possible.


# %% tags=["raises-exception"]
def choose_learning_rate(sweep, floor):
    """Return the learning rate that keeps most among those that reach the floor, or None.

    sweep: learning rate → list of {"target": ..., "kept": ...}, one for each seed. Both are scores
    where higher is better; means over the seeds count. A target of exactly `floor` reaches it."""
    ...


ft.check("choose_learning_rate", choose_learning_rate)

# %%
choose_learning_rate = working("choose_learning_rate", choose_learning_rate)
scores = {}  # losses are negated: higher is better
for rate in grid:
    scores[rate] = [{"target": -task, "kept": -general}
                    for task, general in zip(learned[rate], kept[rate], strict=True)]
ft.table([{"val_loss of at most": floor, "your choice": choose_learning_rate(scores, -floor)}
          for floor in (1.8, 3.2)])

# %% [markdown]
# The strict floor needs a higher learning rate, and costs more of what the model knew. With the loose one a lower
# learning rate is good enough.
#
# ## The same learning rate for LoRA?
# <!-- claims: C19 C32 · E22 -->
#
# Lesson 02 gave each method its own grid. Here are both on one axis. In both plots the ring marks the learning rate
# with the lowest val_loss. LoRA has three seeds.

# %%
lora = lab.sweep(once.but(method="lora"), learning_rate=[1e-3, 3e-3, 1e-2, 3e-2],
                 seed=SEEDS[:3])
lora_best = best_values(lora)["lora"]
print(f"best: full {best:g}, LoRA {lora_best:g}, ratio {lora_best / best:.0f}")
sweep_curves(full + lora, "val_loss", "general_loss")

# %% [markdown]
# At the best learning rate of full fine-tuning, LoRA has hardly begun to learn. Why? Its update of W is (α/r)·B·A,
# and B starts at 0. So the budget limits A and B; their product is small at first. On large models a ratio of
# about ten is reported, about 15 in very short runs ([Thinking Machines
# 2025](https://thinkingmachines.ai/blog/lora/)).
#
# %% [markdown]
# ## At 135M
#
# The same sweep on SmolLM2-135M, from recorded runs: 40 steps of about 200 tokens a batch. Forgetting is
# measured by the loss on plain English.

# %%
at_135m("lr_valley", verdict)

# %% [markdown]
# In the mean, full fine-tuning is best at 0.0001 and LoRA at 0.003: about 30 times apart. On grids by factors of 3
# that can mean 10 to 90. At three times its best, full fine-tuning has learned no more, and its loss on plain English
# is 0.4 nats higher. LoRA at 0.01 is 3.2 nats worse there, and has lost nearly all facts.
#
# And the claim's first half, "a tenth to a hundredth of pretraining"? Published recipes:
#
# | recipe, full fine-tuning | peak | pretraining | ratio |
# |---|---|---|---|
# | [Alpaca](https://github.com/tatsu-lab/stanford_alpaca), LLaMA 7B | 2e-5 | 3e-4 | 1/15 |
# | [Tülu 3](https://arxiv.org/abs/2411.15124) 8B, SFT | 5e-6 | 3e-4 | 1/60 |
# | [Olmo 3](https://github.com/allenai/OLMo-core) 7B, SFT, script's default | 8e-5 | 3e-4 | 1/4 |
# | [SmolLM2](https://arxiv.org/abs/2502.02737) 1.7B, [SFT](https://github.com/huggingface/alignment-handbook/tree/main/recipes/smollm2) | 3e-4 | 5e-4 | 1/1.7 |
# | [Code Llama](https://arxiv.org/abs/2308.12950) 7B, continued pretraining | 3e-4 | 3e-4 | 1 |
#
# So it fails: full SFT is between 0.6 and a sixtieth of the pretraining peak. It is a seventh or less in smaller
# batches at 7B to 70B, more in large packed batches (Olmo 3) and in the recipes of SmolLM2. The ratio is no rule:
# take a recipe of your method, size *and tokens per batch*. (Our 2M model cannot test it, because its matrices were
# pretrained with another optimizer, Muon.) More recipes are on the [reference page](reference/07_learning_rate.md).
#
# ## In practice, 2026
# <!-- claims: C42 C33 -->
#
# For your 8B model: full SFT starts from 5e-6 to 2e-5 at about 100 records a batch, LoRA (α/r of 1 to 2) from 1e-4 to
# 5e-4. Sweep by factors of 3 around it, each run with its full schedule, a warm-up of 3 to 10 % and clipping at 1.0. In
# TRL, with the task and a probe as evaluation sets:
#
# ```python
# # {"prompt": "...", "completion": "..."}
# from datasets import load_dataset
# from trl import SFTConfig, SFTTrainer
#
# def rows(name):
#     return load_dataset("json", data_files=name, split="train")
#
# model_id = "Qwen/Qwen3-0.6B-Base"  # an 8B model does not fit one 80 GB GPU: lesson 13
# trainer = SFTTrainer(
#     model=model_id,
#     train_dataset=rows("train.jsonl"),
#     eval_dataset={"task": rows("task.jsonl"), "general": rows("general.jsonl")},
#     args=SFTConfig(
#         output_dir="sft", learning_rate=2e-5,  # a start: sweep, a small model may take more
#         max_steps=1000, save_steps=200,
#         warmup_steps=0.03,  # transformers 4: warmup_ratio=0.03
#         lr_scheduler_type="cosine",  # to 0; "cosine_with_min_lr" can end at a tenth
#         per_device_train_batch_size=4, gradient_accumulation_steps=8, bf16=True,
#         model_init_kwargs={"dtype": "float32"}, eval_strategy="steps", eval_steps=100,
#     ),
# )
# trainer.train()
# ```
#
# The log has `eval_task_loss` and `eval_general_loss`. Usual values for other trainings, rules to transfer a learning
# rate, and pitfalls are on the [reference page](reference/07_learning_rate.md).

# %% [markdown]
# ## Break it: the range test
#
# Your colleague knows a shortcut: one short run in which the learning rate rises at each step
# ([Smith 2015](https://arxiv.org/abs/1506.01186)). Some then take the learning rate at the lowest smoothed loss,
# others a tenth of it. Which of the two is nearer to the best of the sweep?

# %%
shortcut = ft.predict("Nearer to the best of the sweep, in most of three range tests, is ...",
                      "the learning rate at the lowest loss", "a tenth of it")
shortcut

# %%
def smooth(losses, keep=0.8):
    """A running mean in which a loss counts 0.8 times as much one step later, 0.64 after two."""
    mean, result = 0.0, []
    for step, loss in enumerate(losses, 1):
        mean = keep * mean + (1 - keep) * loss
        result.append(mean / (1 - keep ** step))  # the start at 0 is taken out, as in Adam
    return result


# %%
rising = [1e-5 * 1e5 ** (step / 39) for step in range(40)]  # from 0.00001 to 1
tests = {f"seed {seed}": list(zip(rising, smooth(train(rising, seed)[1]), strict=True))
         for seed in SEEDS[:3]}
line_plot(tests, x="learning rate", y="loss of the batch, smoothed")

# %%
lowest = {name: min(points, key=lambda point: point[1])[0] for name, points in tests.items()}
ft.table([{"range test": name, "lowest loss at": rate, "a tenth of it": rate / 10,
           "best of the sweep": best} for name, rate in lowest.items()])

# %%
nearer = [abs(math.log(rate / 10 / best)) < abs(math.log(rate / best)) for rate in lowest.values()]
shortcut.score("a tenth of it" if sum(nearer) > 1 else "the learning rate at the lowest loss")

# %% [markdown]
# The lowest loss comes late for two reasons: the loss rises only when the damage is done, and smoothing delays the
# curve. And the range test reads the training loss alone, so it cannot see forgetting. Use it to place the grid of a
# sweep, not instead of one.
#
# ## What if?
#
# Choose learning rate, steps and seed, and press *Start*. Find the highest learning rate at which
# `general_loss` ends below 1.0. What do you give up in `val_loss`?

# %%
start = ft.Config(learning_rate=5e-4, max_steps=20, eval_steps=5, precision="fp32")
panel = ft.what_if(lab, config=start, baseline=run, fields=["learning_rate", "max_steps", "seed"])
panel

# %%
await panel.result()  # waits for your runs, or makes one, and keeps the figure in the notebook

# %% [markdown]
# <details><summary>Answer</summary>
# By the table it is between 0.0003 and 0.001. Near 0.0005 the model learns clearly less in 20 steps than at 0.001.
# More steps lower val_loss, but they raise the budget: try 60 steps.
# </details>
#
# ## Interview
#
# **Why is the learning rate lower than in pretraining?**
# <details><summary>Answer</summary>
# Not because gradients are small: in AdamW their scale cancels, as long as they are far above ε. A
# step moves a weight by at most about the learning rate. Three reasons: the start is good and a large
# budget overwrites it, the batch is usually far smaller, and pretraining itself ended well below its
# peak. Typical for full SFT of 7B models: 5e-6 to 2e-5 at about 100 records a batch. Large batches and
# often small models take more, LoRA about ten times more. Continued pretraining, with pretraining's batch,
# may use its peak again.
# </details>
#
# **What does a wrong learning rate look like?**
# <details><summary>Answer</summary>
# Too high: spikes of gradient norm or loss near the end of the warm-up; a final loss above that of a lower
# learning rate; more forgetting *at the same task score*, which needs a probe. Divergence and NaN are the
# late signs. A spike can also come from bad data or an overflow in fp16, so look at the batch. Too low: a
# final loss above that of a higher learning rate, and val_loss and outputs close to the base model's. A flat
# end proves nothing, because the decay leaves little learning rate there.
# </details>
#
# More answers are on the [reference page](reference/07_learning_rate.md).
#
# ## Recap
#
# - A constant factor on the gradients cancels in AdamW. The sum of the learning rates limits how far weights move.
# - Both halves of the claim fail as rules: the ratio runs from 0.6 to a sixtieth, and the training loss hides what
#   the model forgets. Rank by val_loss, and watch a probe.
# - A learning rate belongs to a method, a model size, a batch size and a number of steps.
#
# In the [playground](playground.html#data=tasks&method=full&max_steps=20&train_records=320&challenge=5), move
# the learning rate while the model trains. Next: [08 the small knobs](08_the_small_knobs.ipynb).

# %%
ft.progress("07")
