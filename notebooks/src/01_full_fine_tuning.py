# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Full fine-tuning: every weight moves
#
# **Claim: full fine-tuning is the strongest method, so use it whenever the memory is there.**
# It could be wrong. After this lesson you can
#
# - write the training loop in ten lines, and say what each line costs;
# - count the bytes of a fine-tune, for this model and for 7 billion parameters;
# - show what a narrow task overwrites, and how to keep it.
#
# *Needs [00](00_start_here.ipynb). About 30 minutes; the code needs one minute on two CPU cores.*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C92 -->
#
# > *"Walk me through one step of full fine-tuning. What sits in memory, and what happens to what
# > the model knew before?"*
#
# A usual answer: "forward, backward, step; Adam needs twice the model; lower the learning rate and
# nothing is lost." The first part is right. The other two are imprecise, and you will measure how.
#
# ## One step, by hand
# <!-- claims: C3 -->
#
# Sixteen records make a **batch**: shorter ones are filled up with padding, and a label of -100
# says "no loss here" (the question, and the padding).

# %%
from ftkit.data import encoding
from ftkit.engine import loop

lab = ft.Experiment(model="tiny", data="tasks", eval_records=32)
model, tokenizer = ft.load("tiny")
examples = encoding.encode_all(lab.train, tokenizer).examples
order = loop.shuffled(len(examples), batch_size=16, seed=0)  # which records in which step
batches = [
    encoding.collate([examples[i] for i in next(order)], tokenizer.pad_token_id) for _ in range(12)
]
{name: tuple(tensor.shape) for name, tensor in batches[0].items()}

# %% [markdown]
# **Forward.** The model gives scores (*logits*) for what comes after each place. The scores at
# place `t` are judged by the token at `t + 1`: that shift is the one index to get right.

# %%
import torch
from torch.nn import functional as F


def sft_loss(model, batch):
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = model(**inputs).logits
    guess, truth = logits[:, :-1], batch["labels"][:, 1:]
    return F.cross_entropy(guess.flatten(0, 1), truth.flatten(), ignore_index=-100)


loss = sft_loss(model, batches[0])
assert torch.allclose(loss, model(**batches[0]).loss, atol=1e-5)
loss

# %% [markdown]
# It is the next-token loss of pretraining, on other data and with a mask. "Instruction tuning uses
# a different loss" is a common, wrong answer.
#
# **Backward, step.** One gradient for each weight; then AdamW moves each weight. That is all of it.


# %%
def fine_tune(model, batches, learning_rate):
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    losses = []
    for batch in batches:
        loss = sft_loss(model, batch)  # forward
        loss.backward()  # a gradient for every weight
        optimizer.step()  # moves every weight
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, optimizer


losses, optimizer = fine_tune(model, batches, learning_rate=1e-3)
", ".join(f"{loss:.2f}" for loss in losses)

# %% [markdown]
# ## The same with ft
# <!-- claims: C3 -->
#
# `ft` adds a warm-up (small first steps), a learning rate that falls to zero, and a limit on the
# gradient (clipping). With these switched off it must give our curve, number by number.

# %%
plain = ft.Config(
    learning_rate=1e-3, max_steps=12, eval_steps=12, precision="fp32",
    warmup_steps=0, lr_scheduler_type="constant", max_grad_norm=0,
)
same = lab.run(plain, live=False)
assert max(abs(a - row["loss"]) for a, row in zip(losses, same.rows, strict=True)) < 1e-3
ft.curves(same, "loss")

# %% [markdown]
# **Full** fine-tuning means *every* weight. Compare the tuned weights with fresh ones.

# %%
fresh, _ = ft.load("tiny")
moved = {
    name: (tuned - old).abs().detach()
    for (name, tuned), old in zip(model.named_parameters(), fresh.parameters(), strict=True)
}
assert all(move.max() > 0 for move in moved.values())  # no tensor is as it was
{"tensors": len(moved), "largest move": max(m.max().item() for m in moved.values()),
 "mean move": torch.cat([m.flatten() for m in moved.values()]).mean().item()}

# %% [markdown]
# ## How far does a step move a weight?
# <!-- claims: C93 -->
#
# Look at the mean move of a weight, after 12 steps at rate 0.001. What decides its size? The size of
# the gradients, one would think.

# %%
guess = ft.predict(
    "Multiply the loss by 100, so that each gradient is 100 times larger. AdamW's first step is ...",
    "100 times as long", "10 times as long", "just as long", guess=...,
)
guess


# %%
def first_step(scale):
    model, _ = ft.load("tiny")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    (scale * sft_loss(model, batches[0])).backward()
    optimizer.step()
    pairs = zip(model.parameters(), fresh.parameters(), strict=True)
    return torch.cat([(new - old).abs().flatten() for new, old in pairs]).mean().item()


steps = {scale: first_step(scale) for scale in (1, 100)}
ft.expect(steps[100] / steps[1], "<", 1.1, "AdamW's step does not grow with the gradient")
guess.score("just as long" if steps[100] < 2 * steps[1] else "100 times as long")

# %% [markdown]
# AdamW divides each gradient by its own recent size, so a step is about one learning rate long,
# whatever the gradient. Hence *learning rate × steps* roughly bounds how far a weight drifts from the
# base (the largest move above: next to 12 · 0.001), and that is why fine-tuning wants a low rate.
# "Because the gradients are smaller" is wrong.
#
# ## What sits in memory
# <!-- claims: C6 C53 C96 · E08 -->
#
# AdamW remembers two numbers for every weight: the mean gradient (`exp_avg`) and the mean squared
# gradient (`exp_avg_sq`). Count the bytes rather than recall a rule.

# %%
sft_loss(model, batches[0]).backward()  # so that there are gradients to weigh
weights = list(model.parameters())
n = sum(w.numel() for w in weights)
state = {
    "weights": sum(w.nbytes for w in weights) / n,
    "gradients": sum(w.grad.nbytes for w in weights) / n,
    "exp_avg": sum(optimizer.state[w]["exp_avg"].nbytes for w in weights) / n,
    "exp_avg_sq": sum(optimizer.state[w]["exp_avg_sq"].nbytes for w in weights) / n,
}
assert sum(state.values()) == 16.0
state  # bytes per parameter

# %% [markdown]
# **16 bytes per parameter**, before any *activation* (what the forward pass keeps for the backward
# pass). *Mixed precision*, arithmetic in 16 bits with an exact *master copy* of the weights, does not
# change that sum: 2 (weights) + 2 (gradients) + 4 (master copy) + 8 (AdamW), as the
# [ZeRO paper](https://arxiv.org/abs/1910.02054) counts. "Adam needs 2x the model" means two extra
# *values*: in bytes they are four times bf16 weights, six times with the master copy.

# %%
sizes = {"tiny": n, "SmolLM2-135M": 134.5e6, "Llama-2-7B": 6.738e9, "GPT-3 175B": 175e9}
ft.table([{"model": name} | {f"{b} bytes each, GB": b * size / 1e9 for b in (8, 12, 16)}
          for name, size in sizes.items()])

# %% [markdown]
# <!-- claims: C9 C10 -->
# You will read that 175B needs "1.2 TB for weights, gradients and optimizer". The
# [LoRA paper](https://arxiv.org/abs/2106.09685) does report 1.2 TB of training memory, without a
# breakdown. Which column comes closest? Those three parts are 16 bytes, the last one: more than twice
# as much. Cite a figure as reported, and compute your own.
#
# And each task keeps a whole copy on disk:

# %%
import tempfile

from ftkit.model import loading

folder = loading.save(same.model, tokenizer, tempfile.mkdtemp())
on_disk = (folder / "model.safetensors").stat().st_size
assert round(16 * 175e9 / 1e12, 1) == 2.8 and 175e9 * 8 > 1.2e12  # TB: not 1.2 in any column
assert on_disk > 4 * n * 0.99  # every weight is in the file
f"{on_disk / 1e6:.1f} MB for tiny; {2 * 6.738e9 / 1e9:.1f} GB in bf16 for a 7B, per task"

# %% [markdown]
# ## What a narrow task overwrites
# <!-- claims: C7 C69 C72 C95 · E15 E16 -->
#
# First a model worth keeping: tuned on all tasks. Then one narrow job on top of it: saying what a
# clause of a contract is about. We look at three numbers: the *target* (clauses it has not seen),
# the *other tasks*, and *probes*, plain sentences that measure what the base knew.

# %%
general = lab.run(learning_rate=1e-3, max_steps=100)
narrow = ft.Experiment(
    model=(general.model, tokenizer), data="contracts_task", probes=("tasks",),
    replay_from="tasks", eval_records=32,
)

# %%
target, others = ft.records("contracts_task", "test")[:40], ft.records("tasks", "test")[::6]


def measure(*models):
    known = [ft.probe_scores(model, tokenizer, ft.load_probes()[::8]).values() for model in models]
    return {"target": [ft.exact_match(model, tokenizer, target) for model in models],
            "other tasks": [ft.exact_match(model, tokenizer, others) for model in models],
            "probes": [sum(scores) / len(scores) for scores in known]}


before = measure(general.model)
ft.table([before])

# %%
guess = ft.predict(
    "After 24 steps on clauses at learning rate 0.001, the other tasks' exact match is ...",
    "as before", "about half of it", "nearly gone", guess=...,
)
guess

# %%
base = ft.Config(batch_size=8, max_steps=24, eval_steps=24)
arms = {
    "rate 0.0003": base.but(learning_rate=3e-4),
    "rate 0.001": base.but(learning_rate=1e-3),
    "rate 0.001, 25 % replay": base.but(learning_rate=1e-3, replay=0.25),
}
runs = {arm: narrow.sweep(config, seed=[0, 1, 2]) for arm, config in arms.items()}
after = {arm: measure(*(run.model for run in three)) for arm, three in runs.items()}
ft.table([{"arm": "before", **before}] + [{"arm": arm, **m} for arm, m in after.items()])

# %% [markdown]
# Mean ± standard deviation over three seeds. Read each line from left to right: what was gained,
# what was paid. `replay` mixes records of the old tasks into the new ones; it is the first remedy
# to try.

# %%
kept = {arm: measures["other tasks"] for arm, measures in after.items()}
ft.expect(kept["rate 0.001"], "<", before["other tasks"], "the narrow task overwrites the others")
ft.expect(kept["rate 0.0003"], ">", kept["rate 0.001"], "a lower rate keeps more")
ft.expect(kept["rate 0.001, 25 % replay"], ">", kept["rate 0.001"], "and so does replay")
guess.score("about half of it" if max(kept["rate 0.001"]) > 0.2 else "nearly gone")

# %% [markdown]
# Two traps in reading this. Did the low rate also *learn* less? Then the comparison is not fair:
# methods must be compared at equal target, or the one that does nothing wins. And a lost answer is
# not always lost knowledge: compare how far the probes fell with how far the tasks did; part of the
# damage is to the *form* of the answer.
#
# ## The most powerful method?
# <!-- claims: C4 C5 -->
#
# Full fine-tuning has the largest capacity. Is that always good? Here every third record carries
# the wrong answer, as in careless data; the validation records are right. LoRA of rank 1 trains less
# than a hundredth of the weights, at a rate that suits it (lesson 02).

# %%
guess = ft.predict(
    "With wrong answers among few records and many epochs, which ends with the lower val_loss?",
    "full", "LoRA r=1", guess=...,
)
guess

# %%
clean = ft.records("tasks")
few = ft.corrupt(clean[:48], "wrong", share=0.33, seed=0)
dirty = ft.Experiment(data=few, val=clean[-64:], probes=())
long = ft.Config(epochs=10, eval_steps=5)
full = dirty.sweep(long.but(learning_rate=1e-3), seed=[0, 1, 2])
low = dirty.sweep(long.but(method="lora", r=1, learning_rate=5e-3), seed=[0, 1, 2])
pair = {"full": full, "LoRA r=1": low}
ft.curves(pair, "loss", "val_loss")

# %%
best = [min(row["val_loss"] for row in run.rows if "val_loss" in row) for run in full]
last = {name: [run.after["val_loss"] for run in three] for name, three in pair.items()}
train = {name: [run.rows[-1]["loss"] for run in three] for name, three in pair.items()}
ft.expect(last["full"], ">", best, "full turned up after its best: overfitting")
ft.expect(train["full"], "<", train["LoRA r=1"], "full learns more by heart, errors too")
guess.score(min(last, key=lambda name: sum(last[name])))

# %% [markdown]
# So "maximum performance" needs its conditions. Low-rank LoRA trails full fine-tuning when there is
# much to store ([continued pretraining](https://arxiv.org/abs/2405.09673)), and
# [ties it](https://huggingface.co/docs/trl/lora_without_regret) at the sizes
# of usual post-training. Out of distribution full fine-tuning can even be
# [worse](https://arxiv.org/abs/2202.10054): capacity also stores noise.
#
# ## Break it
# <!-- claims: C33 C40 -->
#
# A hundred times the rate. Do warm-up and clipping, the two seat belts, help?

# %%
belts = lab.run(learning_rate=0.1, max_steps=15, live=False)
none = lab.run(learning_rate=0.1, max_steps=15, warmup_steps=0, max_grad_norm=0, live=False)
ft.curves({"with": belts, "without": none}, "loss", "general_loss")

# %% [markdown]
# A model that knows nothing and gives each of its tokens the same chance has a loss of
# `log(vocabulary)`. Where did these two end?

# %%
import math

ft.expect(min(belts.after["general_loss"], none.after["general_loss"]), ">",
          math.log(len(tokenizer)), "worse than knowing nothing, with and without the belts")
ft.answers(belts.model, tokenizer, others[:3])

# %% [markdown]
# Clipping limits the gradient, and AdamW has divided the gradient's size out already: it guards
# against a single bad batch, not against a wrong rate.
#
# ## Now on a real LLM
#
# Full fine-tuning of SmolLM2, three steps on handwritten records. Before it starts, the kit traces a
# step and predicts its peak. How far above 16 bytes per parameter will it lie, and what is that
# rest? (In fp32: of three steps so small, products in bf16 show little yet.)

# %%

REAL = download.has("smollm2")

# %%
if REAL:
    short = ft.Config(learning_rate=2e-5, max_steps=3, batch_size=4, max_length=160, eval_steps=3,
                      precision="fp32")
    real = ft.Experiment(model="smollm2", data="handwritten", probes=(), eval_records=6)
    smol = real.run(short)
    each = smol.predicted_memory_bytes / smol.total_parameters
    ft.expect(each, ">", 16, "bytes per parameter at the peak, activations included")
    ft.expect(smol.after["val_loss"], "<", smol.before["val_loss"], "three steps help already")

# %% [markdown]
# ## What if?
#
# One number to change. Find the highest rate that keeps the other tasks.

# %%
learning_rate = 5e-4
what_if = narrow.run(base, learning_rate=learning_rate, eval_steps=4)
ft.table([measure(what_if.model)])


# %% [markdown]
# ## Exercises
#
# **1.** AdamW's step for one weight, without decay. `t` counts from 1. The mean gradients start at
# zero, so they are divided by `1 - beta ** t`.

# %% tags=["raises-exception"]
def adamw_step(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    ...  # return the new w, m and v


ft.check("adamw_step", adamw_step)


# %% [markdown]
# **2.** Bytes of weights, gradients and AdamW state, in mixed precision with fp32 master weights,
# when only a `share` of the parameters is trained (a frozen weight needs 2 bytes and no more).

# %% tags=["raises-exception"]
def bytes_of_states(parameters, share=1.0):
    ...


ft.check("bytes_of_states", bytes_of_states)

# %% [markdown]
# **3.** Keep what it knew: bring `val_loss` (the clauses) below 0.2 while `tasks_loss` rises by at
# most 0.2. Any field of `ft.Config` may change, at most 40 steps. Which lever did it?

# %% tags=["raises-exception"]
my_run = ...  # narrow.run(learning_rate=..., max_steps=...)
ft.check("keep_what_it_knew", my_run)

# %% [markdown]
# ## Interview
# <!-- claims: C93 C96 -->
#
# **Memory to fully fine-tune a 7B model with AdamW in mixed precision?**
# <details><summary>Answer</summary>
# 16 bytes per parameter: 2 weights, 2 gradients, 4 master copy, 8 AdamW. For 6.74 billion that is
# 107.8 GB before activations, so no single 80 GB card without sharding, offload, 8-bit states or
# LoRA. Pure bf16 states would be 8 bytes, and small updates would be rounded away.
# </details>

# %% [markdown]
# **Why a lower learning rate than in pretraining?**
# <details><summary>Answer</summary>
# AdamW moves each weight by about one learning rate per step, whatever the gradient (100 times the
# gradient changed the first step by less than 10 %). So rate × steps bounds the drift from a good
# start. It is a rule for full fine-tuning; LoRA wants about 10 times the rate.
# </details>

# %% [markdown]
# **Full fine-tuning or PEFT?**
# <details><summary>Answer</summary>
# Full has the most capacity: for large token budgets. It costs 16 bytes per parameter and a whole
# copy per task (13.5 GB for a 7B in bf16, against 8.4 MB for LoRA r=8 on q and v). For usual
# post-training data I start with LoRA on all linear layers, tune its rate, and measure forgetting
# in both.
# </details>

# %% [markdown]
# ## Recap
#
# - A step is forward, backward, AdamW; your loop and `ft` gave the same curve.
# - 16 bytes per parameter, activations on top, and a whole copy per task.
# - A narrow task overwrites others. Rate, steps and replay decide how much: measure it.
#
# `loop.train??` in a cell shows the loop of the package; it is nearly as short as yours. Next:
# [02 LoRA](02_lora.ipynb), which trains a few percent of the weights.
