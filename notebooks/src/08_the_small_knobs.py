# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Batch, accumulation, epochs, warm-up, decay, clipping
#
# **Claim: batch of 8 to 128, 1 to 3 epochs, 100 to 500 warm-up steps, weight decay 0.01 to 0.1,
# clip at 1.0: each line of such a recipe earns its place.** It could be wrong. After this lesson
# you can
#
# - count the optimizer steps of any run in your head, and see when a recipe cannot fit it;
# - accumulate gradients so that they equal the big batch, and prove it;
# - say which of these knobs matter here, which do not, and how you know.
#
# *About 30 minutes. The code needs a minute on two CPU cores. You need lessons
# [01](01_full_fine_tuning.ipynb) and [04](04_instruction_tuning.ipynb).*

# %%
import ftkit as ft
from ftkit.model import download

SEEDS = [0, 1, 2]
ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C34 C37 · E10 E11 -->
# ## The question
#
# > *"52,002 records, 8 GPUs, 4 records on each at a time, 4 accumulation steps, 3 epochs. How many
# > optimizer steps? Is a warm-up of 500 steps all right?"*
#
# "52,002 / 4 · 3" is the usual slip. One **optimizer step** sees all GPUs and all accumulated
# micro-batches.
#
# ## By hand: how many steps?

# %%
import math

records, batch, epochs = 52_002, 4 * 4 * 8, 3  # records on a GPU · accumulation · GPUs
steps = {"last batch of an epoch is short": math.ceil(records / batch) * epochs,
         "last batch is dropped": records // batch * epochs,
         "epochs flow into each other": math.ceil(records * epochs / batch)}
steps

# %% [markdown]
# Three right answers, by what the loader does with the last 34 records. `ft` does the third: every
# batch is full. Its rule against ours:

# %%
from ftkit.engine import loop

config = ft.Config(batch_size=4 * 8, gradient_accumulation_steps=4, epochs=epochs)
assert loop.steps_in(config, records) == steps["epochs flow into each other"]
runs_of_papers = {"Alpaca": (52_002, 128, 3), "LIMA": (1_000, 32, 15), "this lesson": (240, 8, 1)}
ft.table([{"run": name, "steps": math.ceil(n * e / b), "3 % warm-up": 0.03 * n * e / b,
           "share of 100 steps": 100 * b / (n * e), "share of 500 steps": 500 * b / (n * e)}
          for name, (n, b, e) in runs_of_papers.items()])

# %% [markdown]
# A share above 1 never ends its warm-up. So the claim's "100 to 500 steps" is a number without a
# unit: state a *share* of the run. Alpaca, QLoRA and
# [Tülu 3](https://arxiv.org/abs/2411.15124) used 3 %, [LIMA](https://arxiv.org/abs/2305.11206) none.
#
# The batch has the same problem. "128 examples" is some 26,000 tokens at 200 tokens each; in
# pretraining a batch is counted in tokens, millions of them. And what a gradient averages are the
# tokens *with loss*.
#
# <!-- claims: C34 · E04 -->
# ## By hand: accumulation
#
# Sixteen records in four micro-batches, sorted by the length of the answer as a loader that saves
# padding might do. Two ways to add up their gradients, against the one big batch.

# %%
import torch

from ftkit.data import encoding

model, tokenizer = ft.load("tiny")
train = ft.records("tasks")[:240]
examples = encoding.encode_all(train, tokenizer).examples


def labelled(batch):
    return int((batch["labels"][:, 1:] != -100).sum())


def batches_of(examples, size):
    return [encoding.collate(examples[i:i + size], tokenizer.pad_token_id)
            for i in range(0, len(examples), size)]


by_length = sorted(examples[:16], key=lambda e: sum(label != -100 for label in e["labels"]))
[labelled(batch) for batch in batches_of(by_length, 4)]


# %%
def gradient(model, batches, weight):
    model.zero_grad()
    for batch in batches:
        (model(**batch).loss * weight(batch)).backward()  # .loss is a mean over labelled tokens
    return torch.cat([p.grad.flatten() for p in model.parameters()])


# %%
micro_batches = batches_of(by_length, 4)
total = sum(map(labelled, micro_batches))
truth = gradient(model, batches_of(by_length, 16), lambda batch: 1)
ways = {"mean of the means": gradient(model, micro_batches, lambda batch: 1 / 4),
        "by labelled tokens": gradient(model, micro_batches, lambda batch: labelled(batch) / total)}
same = {way: torch.cosine_similarity(g, truth, dim=0).item() for way, g in ways.items()}
ft.table([{"way": way, "cosine to the big batch": same[way],
           "norm, as a share": (g.norm() / truth.norm()).item()} for way, g in ways.items()])

# %%
assert torch.allclose(ways["by labelled tokens"], truth, atol=1e-4 * truth.abs().max())
ft.expect(same["mean of the means"], "<", 0.99, "a mean of means is another gradient")

# %% [markdown]
# **Accumulation equals the big batch if, and only if, the losses are summed and divided once by the
# labelled tokens of the whole step.** Trainers [averaged
# means](https://github.com/huggingface/transformers/pull/34191) until October 2024. Equal lengths
# (or packed rows) hide the mistake.
#
# ## The same with ft
#
# Eight records at once, against two at a time and four times accumulated. The curves must agree.

# %%
lab = ft.Experiment(data=train, val=ft.records("tasks", "validation"), eval_records=32)
base = ft.Config(learning_rate=1e-3, batch_size=8, eval_steps=1000)
exactly = base.but(precision="fp32", max_steps=6)
at_once = lab.run(exactly, live=False)
in_parts = lab.run(exactly, batch_size=2, gradient_accumulation_steps=4, live=False)
gaps = [abs(a["loss"] - b["loss"]) for a, b in zip(at_once.rows, in_parts.rows, strict=True)]
assert max(gaps) < 0.01
ft.table([at_once, in_parts])

# %% [markdown]
# <!-- claims: C34 · E11 -->
# ## A larger batch
#
# The same 240 records, once. A batch of 32 averages more, so its gradient is less noisy. Some say:
# four times the batch, four times the rate.

# %%
guess = ft.predict("240 records, one pass, batch 32 instead of 8: held-out exact match is ...",
                   "better", "about the same", "clearly worse", guess=...)
guess

# %%
test = ft.records("tasks", "test")[::8]
arms = {"batch 8": {}, "batch 32": {"batch_size": 32},
        "batch 32, rate x4": {"batch_size": 32, "learning_rate": 4e-3},
        "batch 32, 4 epochs": {"batch_size": 32, "epochs": 4}}
runs = {arm: lab.sweep(base.but(**change), seed=SEEDS) for arm, change in arms.items()}
exact = {arm: [ft.exact_match(run.model, tokenizer, test) for run in three]
         for arm, three in runs.items()}
ft.table([{"arm": arm, "steps": len(three[0].rows), "tokens": three[0].tokens,
           "exact match": exact[arm], "val_loss": [run.after["val_loss"] for run in three]}
          for arm, three in runs.items()])

# %%
ft.expect(exact["batch 32"], "<", exact["batch 8"], "fewer steps on the same records learn less")
ft.expect(exact["batch 32, rate x4"], "<", exact["batch 8"], "four times the rate is no rescue")
ft.expect(exact["batch 32, 4 epochs"], ">", exact["batch 8"], "at equal steps the larger batch wins")
guess.score("clearly worse" if max(exact["batch 32"]) < min(exact["batch 8"]) else "about the same")

# %% [markdown]
# At equal *records*, or tokens, steps count; at equal *steps* the larger batch wins and has read
# four times as much. Say which of the two you hold still. Hardware likes large batches; a short run
# cannot afford them. The linear scaling rule is from long runs of SGD; for Adam the
# [square root](https://arxiv.org/abs/2205.10287) of the factor is the better guess, and here 1e-3
# already is the best rate. LoRA is reported to bear large batches
# [less well](https://thinkingmachines.ai/blog/lora/) than full fine-tuning.
#
# <!-- claims: C37 C38 C39 · E10 E13 E14 -->
# ## Which knobs matter?
#
# One knob at a time against the base: warm-up 6 %, no decay, clip at 1.0. The *same seed* means the
# same order of records, so each run is compared with its twin.

# %%
guess = ft.predict("Weight decay 0.1 instead of 0 moves val_loss by ...",
                   "more than the seeds differ", "less than the seeds differ", guess=...)
guess

# %%
knobs = {"no warm-up": {"warmup_steps": 0}, "weight decay 0.1": {"weight_decay": 0.1},
         "no clipping": {"max_grad_norm": 0}}
turned = {knob: lab.sweep(base.but(**change), seed=SEEDS) for knob, change in knobs.items()}
own = [run.after["val_loss"] for run in runs["batch 8"]]


def against_twin(three, twins=runs["batch 8"], key="val_loss"):
    return [a.after[key] - b.after[key] for a, b in zip(three, twins, strict=True)]


ft.table([{"run": "base", "val_loss": own}] + [
    {"run": knob, "against its twin": against_twin(three)} for knob, three in turned.items()])

# %%
seeds_differ = max(own) - min(own)
moved = {knob: max(map(abs, against_twin(three))) for knob, three in turned.items()}
ft.expect(moved["weight decay 0.1"], "<", seeds_differ, "decay 0.1 does less than another seed")
ft.expect(against_twin(turned["no warm-up"]), "==", 0, "no warm-up, against its twin")
ft.expect(against_twin(turned["no clipping"]), ">", 0, "without clipping val_loss is higher")
inert = moved["weight decay 0.1"] < seeds_differ
guess.score(f"{'less' if inert else 'more'} than the seeds differ")

# %% [markdown]
# Decay is inert and warm-up a null here. Clipping is not: it helps in an ordinary run, with no bad
# batch in sight. Why? Look at how often it bites.

# %%
norms = sorted(row["grad_norm"] for run in runs["batch 8"] for row in run.rows)
{"median norm before clipping": norms[len(norms) // 2],
 "share of steps that were clipped": sum(norm > 1 for norm in norms) / len(norms)}

# %% [markdown]
# Every step is clipped here, so a limit of 1.0 makes all gradients equally long: batches with a
# large loss no longer rule AdamW's averages. In a 7B model norms often lie around 1 and clipping bites
# rarely. A default is not the same knob on another model: log `grad_norm` before you argue about it.
#
# ## When does warm-up matter?
#
# Three times the rate, near the edge of what works.

# %%
edge = {f"warm-up {share:.0%}": lab.sweep(base.but(learning_rate=3e-3, warmup_steps=share),
                                         seed=SEEDS) for share in (0, 0.3)}
gain = against_twin(edge["warm-up 0%"], edge["warm-up 30%"])
ft.expect(gain, ">", 0, "near the edge a warm-up lowers val_loss")
ft.curves(edge, "loss", "val_loss")

# %% [markdown]
# In its first steps AdamW's averages rest on a few batches, and a full step follows them anywhere.
# (Their memory is set by β₁ = 0.9, some ten steps, and β₂ = 0.999, some thousand; pretraining often
# takes 0.95. Fine-tuning recipes leave both alone.) A low rate forgives that. So warm-up is insurance for high rates. Tested here: 30 % of the steps
# pays near the edge, 6 % at the best rate does nothing. The usual 3 % was not tested.
#
# ## What decay does
#
# AdamW multiplies each matrix by `1 - rate · decay` at every step (norms and biases are left out by
# custom). The whole run shrinks it by the product. For a usual 7B recipe:

# %%
recipe = ft.Config(learning_rate=2e-5, weight_decay=0.1, warmup_steps=0.03)
rates = [2e-5 * loop.schedule(step, 1219, recipe) for step in range(1, 1220)]
weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
optimizer = torch.optim.AdamW([weight], weight_decay=0.1)
for rate in rates:
    weight.grad, optimizer.param_groups[0]["lr"] = torch.zeros_like(weight), rate
    optimizer.step()
shrunk = math.prod(1 - rate * 0.1 for rate in rates)
assert abs(weight.item() - shrunk) < 1e-12
f"{1 - shrunk:.2%} shorter after 1,219 steps"

# %% [markdown]
# That is why Alpaca and Tülu 3 set 0 and nobody noticed. In bf16 weights without a master copy the
# decay even rounds to nothing. And it pulls towards **zero**, not towards the base model: "weight
# decay prevents forgetting" is wrong; the pull to the base is called L2-SP
# ([lesson 16](16_catastrophic_forgetting.ipynb)).
#
# ## Break it: decay that is felt

# %%
heavy = lab.sweep(base.but(weight_decay=100), seed=SEEDS)
lost, kept = ([run.after["general_loss"] for run in three] for three in (heavy, runs["batch 8"]))
ft.expect(lost, ">", kept, "decay strong enough to act destroys what the base knew")
ft.table(runs["batch 8"] + heavy)


# %% [markdown]
# <!-- claims: C39 · E14 -->
# ## Break it: one bad batch
#
# A tuned model, six more steps, and in the third the answers are random tokens. Plain SGD and AdamW,
# each at a rate that is calm without the bad batch; then clipped.

# %%
import copy


def six_steps(optimizer_of, clip, bad, seed):
    model = copy.deepcopy(runs["batch 8"][0].model).train()
    optimizer, order = optimizer_of(model.parameters()), loop.shuffled(240, 8, seed)
    for step in range(6):
        batch = encoding.collate([examples[i] for i in next(order)], tokenizer.pad_token_id)
        if bad and step == 2:
            noise = torch.randint(3, 3000, batch["labels"].shape,
                                  generator=torch.Generator().manual_seed(seed))
            batch["labels"] = torch.where(batch["labels"] == -100, -100, noise)
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
    return ft.loss_on(model.eval(), held_out)


# %%
held_out = encoding.encode_all(lab.val[:32], tokenizer).examples
kinds = {"SGD": lambda p: torch.optim.SGD(p, lr=0.01),
         "AdamW": lambda p: torch.optim.AdamW(p, lr=3e-4, weight_decay=0.0)}
arms = {"no bad batch": (math.inf, False), "bad batch": (math.inf, True), "clipped": (1.0, True)}
hurt = {kind: {arm: [six_steps(make, *how, seed) for seed in SEEDS] for arm, how in arms.items()}
        for kind, make in kinds.items()}
ft.table([{"optimizer": kind} | val_loss for kind, val_loss in hurt.items()])

# %%
for kind, loss in hurt.items():
    cost, saved = ([a - b for a, b in zip(loss["bad batch"], loss[arm], strict=True)]
                   for arm in ("no bad batch", "clipped"))
    ft.expect(min(cost), ">", 0, f"{kind}: one bad batch hurts, on each seed")
    ft.expect(min(saved), ">", 0, f"{kind}: clipping at 1.0 limits it, on each seed")

# %% [markdown]
# For SGD a step is as long as its gradient, so one bad batch is one step far too long: clipping is made
# for this day. AdamW's step has a limit of its own; still the bad batch costs about as much here, since
# it stays in the averages for several steps. Clipping saves a part. Then look at the data of that batch.
#
# <!-- claims: C35 C36 · E12 -->
# ## Epochs
#
# "1 to 3 epochs" comes from sets of 50,000 records. Take 48 of them.

# %%
guess = ft.predict("48 records, 10 epochs instead of 1: exact match on held-out entities is ...",
                   "lower, it overfits", "about the same", "higher", guess=...)
guess

# %%
few = ft.Experiment(data=train[:48], val=lab.val, probes=(), eval_records=32)
passes = {n: few.sweep(base.but(epochs=n), seed=SEEDS) for n in (1, 10)}
by_epochs = {n: [ft.exact_match(run.model, tokenizer, test) for run in three]
             for n, three in passes.items()}
ft.table([{"epochs": n, "steps": len(three[0].rows), "exact match": by_epochs[n],
           "training loss": [run.rows[-1]["loss"] for run in three],
           "val_loss": [run.after["val_loss"] for run in three]} for n, three in passes.items()])

# %%
ft.expect(by_epochs[10], ">", by_epochs[1], "a small set wants more passes")
guess.score("higher" if min(by_epochs[10]) > max(by_epochs[1]) else
            "lower" if max(by_epochs[10]) < min(by_epochs[1]) else "about the same")

# %% [markdown]
# Llama 2 and Tülu 3 made 2 epochs, LIMA 15 with its 1,000 records, [InstructGPT](
# https://arxiv.org/abs/2203.02155) 16: its validation loss rose after the first, and people still
# preferred the later models. Count steps first, epochs second; when passes begin to hurt is
# [lesson 17](17_overfitting.ipynb).
#
# ## Now on a real LLM
#
# Does the mean of means bend the gradient of SmolLM2 as well? One-word answers beside long ones.

# %%

REAL = download.has("smollm2")
if REAL:
    smol, smol_tokenizer = ft.load("smollm2")
    shortest = sorted(ft.records("handwritten"), key=lambda r: len(r["output"]))
    mixed = encoding.encode_all(shortest[:3] + shortest[-3:], smol_tokenizer, max_length=128).examples
    halves = [encoding.collate(half, smol_tokenizer.pad_token_id) for half in (mixed[:3], mixed[3:])]
    counts = list(map(labelled, halves))

# %%
if REAL:
    by_tokens = gradient(smol, halves, lambda batch: labelled(batch) / sum(counts))
    by_means = gradient(smol, halves, lambda batch: 1 / 2)
    angle = torch.cosine_similarity(by_tokens, by_means, dim=0).item()
    ft.expect(angle, "<", 0.99, f"with {counts} labelled tokens a mean of means is far off")

# %% [markdown]
# ## What if?
#
# One number to change. Below which batch does a smaller one stop helping, although it makes more
# steps?

# %%
batch_size = 4
what_if = lab.run(base, batch_size=batch_size)
ft.table(runs["batch 8"] + [what_if])

# %% [markdown]
# ## Exercises
#
# **1.** Optimizer steps of a run whose epochs end with a short batch (or without it, `drop_last`).

# %% tags=["raises-exception"]
def optimizer_steps(records, micro, accumulation, gpus, epochs, drop_last=False):
    ...


ft.check("optimizer_steps", optimizer_steps)

# %% [markdown]
# **2.** Leave in `.grad` the gradient of one big batch. `model(**batch).loss` is the mean over the
# labelled tokens of that micro-batch; return the loss of the step.

# %% tags=["raises-exception"]
def accumulate(model, batches):
    ...


ft.check("accumulate", accumulate)


# %% [markdown]
# **3.** Which weight decay shrinks the weights by the share `shrink` over the run? Cosine without
# warm-up, so the mean rate is half of the peak.

# %% tags=["raises-exception"]
def decay_for(shrink, learning_rate, steps):
    ...


ft.check("decay_for", decay_for)

# %% [markdown]
# ## Interview
#
# **52,002 rows, 8 GPUs, micro-batch 4, accumulation 4, 3 epochs: how many steps? Warm-up 500?**
# <details><summary>Answer</summary>
# Batch 4 · 4 · 8 = 128, 407 steps an epoch (406 if the last batch is dropped), 1,221 in all. 500
# would be 41 % of the run; 3 % is 37 steps. State warm-up as a share.
# </details>
#
# **Is gradient accumulation the same as a big batch?**
# <details><summary>Answer</summary>
# If the loss is divided by the labelled tokens of the whole step: our curves agreed to 0.01. A mean
# of micro-batch means weighs each token of a short one more: 10 tokens at loss 4 and 90 at 2 give
# 3.0 instead of 2.2.
# </details>

# %% [markdown]
# **Does weight decay 0.1 matter in SFT?**
# <details><summary>Answer</summary>
# At rate 2e-5 and 1,219 cosine steps it shrinks weights by 0.12 %: no. In our runs it moved the loss
# less than another seed did. It pulls to zero, not to the base, so it does not prevent forgetting.
# 10 % would take a decay of about 8.6.
# </details>
#
# **Does clipping matter under Adam?**
# <details><summary>Answer</summary>
# Yes: Adam divides out the size of all gradients, not of a single one, and remembers it. One bad batch
# of ours cost AdamW about as much as SGD; clipping saved a part. In clean runs clipping at 1.0 lowered
# our validation loss, too: every norm was above 1, the median about 13. Log the norm, then decide.
# </details>

# %% [markdown]
# **You double the batch. What else changes?**
# <details><summary>Answer</summary>
# Half the steps per epoch. On 240 records, batch 32 made 8 steps instead of 30 and learned clearly
# less; four times the rate did not rescue it. Compare at equal tokens and at equal steps, and tune
# the rate again.
# </details>
#
# ## Recap
#
# - Steps = records · epochs / (micro · accumulation · data-parallel ranks). Count before you choose
#   warm-up and batch.
# - Accumulation is exact only with one division by the labelled tokens of the step.
# - On a short run decay is inert, warm-up is insurance at high rates, clipping depends on the norms.
#
# In the package: `train` in [`ftkit/engine/loop.py`](../ftkit/engine/loop.py), some 40 lines. Before this came
# [07 learning rate](07_learning_rate.ipynb); [09](09_where_the_memory_goes.ipynb) asks what a batch costs in
# memory.
