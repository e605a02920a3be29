# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · LoRA: fine-tuning with a low-rank update
#
# **Claim to test: training 5 % of the parameters as a low-rank update learns a small task as well
# as full fine-tuning, and forgets less.** After this lesson you can
#
# - write LoRA's forward pass, its parameter count and its merge;
# - explain what LoRA saves and what it does not save;
# - compare LoRA with full fine-tuning fairly, and choose its layers and learning rate.
#
# *Needs [01](01_full_fine_tuning.ipynb). About 45 minutes; the code needs one to two minutes on
# two CPU cores.*
#
# **Your project.** The quiz helper is a success. Two hundred schools want one, each with its own questions and
# its own tone. Two hundred full copies of the model do not fit on one server.

# %%
import copy

import numpy as np
import torch

import ftkit as ft
from ftkit.teaching import at_135m, best_values, sweep_curves, working

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C11 C98 -->
#
# > *"You have one base model and two hundred customers, each with their own fine-tune. How many
# > parameters do you train and store for each? Which costs of training go away, and which stay?"*
#
# ## The idea
#
# A linear layer multiplies its input by a weight matrix W. Full fine-tuning changes every entry
# of W. **LoRA** (low-rank adaptation, [Hu et al. 2021](https://arxiv.org/abs/2106.09685))
# freezes W and adds an **adapter**: a second path with two thin matrices, A and B.
#
# ![A linear layer with LoRA. The input x goes through the frozen matrix W of size d_out by d_in.
# In parallel it goes through A, of size r by d_in, then B, of size d_out by r, and is scaled by
# alpha over r. Both outputs are added to give y.](figures/02_lora.svg)
#
# The product B A has the shape of W, but its **rank** is at most r: all its rows are combinations
# of the r rows of A. Usually r is 8 to 32, so A and B are small. `lora_alpha` (α) is a constant that scales
# the update.
#
# ## Why could a low rank be enough?
# <!-- claims: C11 C43 -->
#
# Is a low-rank part of the update of *full* fine-tuning enough? First train all parameters.

# %%
lab = ft.Experiment(model="tiny", data=ft.records("tasks")[:480], val="tasks")
base, tokenizer = ft.load("tiny")
full_run = lab.run(learning_rate=1e-3, batch_size=16, epochs=1, precision="fp32", live=False)

# %% [markdown]
# The **singular value decomposition** (SVD) writes a matrix as a sum of rank-1 matrices, ordered
# by size. We take the update of each weight matrix, keep the `rank` largest parts, and add them to the base
# model.

# %%
from ftkit.inside import validation_sample


def keep_rank(rank):
    """The base model plus the best rank-`rank` approximation of every matrix's update."""
    model = copy.deepcopy(base)
    for weight, tuned in zip(model.parameters(), full_run.model.parameters(), strict=True):
        if weight.ndim == 2:
            U, S, Vt = torch.linalg.svd((tuned - weight).detach(), full_matrices=False)
            weight.data += (U[:, :rank] * S[:rank]) @ Vt[:rank]  # Vt: V, transposed already
    return model


validation = [ft.encode(record, tokenizer) for record in validation_sample(lab.val, 64)]
ft.table([{"rank kept": rank, "val_loss": ft.loss_on(keep_rank(rank), validation)}
          for rank in (0, 1, 8, 192)])

# %% [markdown]
# Rank 0 is the base model, and rank 192, the width of the model, is the full update of every matrix. Rank 1
# gives most of the improvement, rank 8 almost all of it. So a low rank can be enough *for this task*.
#
# ## Your turn: the forward pass
# <!-- claims: C43 C44 · E20 -->
#
# Read the layer off the figure. Two decisions are yours: where the scale goes, and in which order you multiply,
# so that the product B A, which is as large as W, is never built. `torch` stores a linear layer's weight as
# `(d_out, d_in)` and computes `x @ W.T`. For help: `ft.hint("lora_forward")`, then `ft.solution("lora_forward")`.


# %% tags=["raises-exception"]
def lora_forward(x, W, A, B, lora_alpha):
    """Return the layer's output (n, d_out) for x (n, d_in), W (d_out, d_in), A (r, d_in) and
    B (d_out, r)."""
    ...


ft.check("lora_forward", lora_forward)

# %% [markdown]
# As a formula: $y = W x + \frac{\alpha}{r}\, B A x$. Does [`peft`](https://huggingface.co/docs/peft), the
# standard library for LoRA, compute the same? (Its `"all-linear"` means all linear layers except the last,
# `lm_head`. `working` takes the package's solution until yours is right.) And a question: A starts random and B
# at zero. In the *first* step only one of the two gets a gradient that is not zero. Which?

# %%
import peft

from ftkit.inside import collate

lora_forward = working("lora_forward", lora_forward)
batch = collate([ft.encode(record, tokenizer) for record in lab.train[:16]], tokenizer.pad_token_id)
settings = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
adapted = peft.get_peft_model(copy.deepcopy(base), settings)
print("same output as the base:", torch.equal(adapted(**batch).logits, base(**batch).logits))

adapted(**batch).loss.backward()
layer = adapted.base_model.model.model.layers[0].self_attn.q_proj
A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
print(f"largest gradient of A {A.grad.abs().max():.3f}, of B {B.grad.abs().max():.3f}")

B.data.normal_(std=0.1)  # as if it were trained
x = torch.randn(5, base.config.hidden_size)
gap = (lora_forward(x, layer.base_layer.weight, A, B, 16) - layer(x)).abs().max().item()
print(f"your function and peft's layer, largest difference: {gap:.1e}")

# %% [markdown]
# The gradient of A contains a factor B, which is zero at the start. The gradient of B contains A x,
# which is not. So B moves first, and A from the second step on. If both started at zero, nothing would ever
# train. From here on we use `ft.Config(method="lora", r=..., lora_alpha=...)`, which trains with peft's layers.
#
# ## Your turn: how many parameters?
#
# How much is one school? Count the trainable parameters. Not every matrix is square.


# %% tags=["raises-exception"]
def lora_parameters(layers, r):
    """Return the number of trainable parameters; layers is a list of (d_in, d_out)."""
    ...


ft.check("lora_parameters", lora_parameters)

# %%
lora_parameters = working("lora_parameters", lora_parameters)
linear = [(module.in_features, module.out_features) for name, module in base.named_modules()
          if isinstance(module, torch.nn.Linear) and name != "lm_head"]
print(f"tiny, r=8: yours {lora_parameters(linear, 8):,}, "
      f"peft's {adapted.num_parameters(only_trainable=True):,}, of {base.num_parameters():,}")
print(f"Llama 2 7B, r=8 on q and v: {lora_parameters([(4096, 4096)] * 64, 8):,} of 6,738,415,616")

# %% [markdown]
# ## Which learning rate?
# <!-- claims: C19 · E22 -->
#
# A comparison at one common learning rate is decided by the choice of that learning rate. So each method
# gets its own grid, with five seeds. (The highest value has one: it only shows where learning gets worse.)
# LoRA has r = 8 and α = 16 on all linear layers.

# %%
SEEDS = [0, 1, 2, 3, 4]
short = ft.Config(batch_size=16, epochs=1, eval_steps=1000, precision="fp32")
full = lab.sweep(short, method=["full"], learning_rate=[4.5e-4, 6.5e-4, 1e-3], seed=SEEDS)
full += lab.sweep(short, method=["full"], learning_rate=[3e-3], seed=[0])
lora = lab.sweep(short, method=["lora"], learning_rate=[5e-3, 1e-2], seed=SEEDS)
lora += lab.sweep(short, method=["lora"], learning_rate=[2e-2], seed=[0])
sweep_curves(full + lora)

# %% [markdown]
# The ring marks the lowest `val_loss`. The best learning rates are a factor of ten apart on this coarse grid. For
# large models about ten is reported as well ([Thinking Machines 2025](https://thinkingmachines.ai/blog/lora/)).
# At 135M (box below) it is nearer 30; with three seeds, 10 is possible too.
#
# ## Does LoRA learn as well?
# <!-- claims: C4 · E22 -->
#
# Each method uses its best learning rate. The test asks about entities that occur in no training
# record. "As well" needs a margin, stated in advance: ten percentage points of exact match. For `==`,
# a small p says that the difference is smaller than the margin.

# %%
def at_rate(runs, rate):
    return [run for run in runs if run.config.learning_rate == rate]


def after(runs, measure):
    return [run.after[measure] for run in runs]


rate = best_values(full + lora)
best = {"full": at_rate(full, rate["full"]), "lora": at_rate(lora, rate["lora"])}
test = ft.records("tasks", "test")[::3]
exact = {method: [ft.exact_match(run.model, tokenizer, test) for run in runs]
         for method, runs in best.items()}
ft.expect(exact["lora"], "==", exact["full"], "LoRA answers as well, within 0.1", within=0.1)

# %% [markdown]
# ## Does LoRA forget less?
# <!-- claims: C73 · E22 -->
#
# `general_loss`, the loss on general text that the base model knew, rises when the model forgets. A model
# that learned nothing has forgotten nothing, so we must compare at the **same target performance**. For each
# seed we ask: where full fine-tuning reaches LoRA's `val_loss`, what has *it* forgotten? Its three learning
# rates give three points, and we read between them.

# %%
less = ft.predict("At the same val_loss, LoRA (r=8, all layers, learning rate 0.005) forgets ...",
                  "less than full fine-tuning", "more", "no difference seen")
less

# %%
def full_at(val_loss, seed):
    """The general_loss of full fine-tuning with this seed, at this val_loss."""
    points = sorted((run.after["val_loss"], run.after["general_loss"]) for run in full
                    if run.config.seed == seed and run.config.learning_rate <= 1e-3)
    return float(np.interp(val_loss, *zip(*points, strict=True)))


by_lora = at_rate(lora, 5e-3)
forgot = {"lora": after(by_lora, "general_loss"),
          "full": [full_at(run.after["val_loss"], run.config.seed) for run in by_lora]}
seen = ft.expect(forgot["lora"], "!=", forgot["full"], "at the same val_loss they forgot differently",
                 paired=True, may_fail=True)
less.score("no difference seen" if not seen else "less than full fine-tuning"
           if sum(forgot["lora"]) < sum(forgot["full"]) else "more")

# %%
ft.scatter(at_rate(full, 4.5e-4) + at_rate(full, 6.5e-4) + at_rate(full, 1e-3) + by_lora
           + at_rate(lora, 1e-2), start=False,
           label=lambda run: f"{run.config.method} {run.config.learning_rate:g}")

# %% [markdown]
# Further left is better learned, and lower is less forgotten; bars are ± one standard deviation. The printed
# line compares LoRA *at 0.005* with full fine-tuning at the same loss. It is not a law: on five other seeds (300
# to 304) LoRA forgot 1.07 there, full fine-tuning 1.16, which was not settled. At LoRA's learning rate 0.007 no
# difference was seen, and at 0.01 it forgot *more*, 1.42 against 1.21. So its own learning rate decides, too.
#
# ## Which layers, which rank?
# <!-- claims: E23 -->
#
# Is it better to adapt all linear layers, or q and v alone, as peft does by default for Llama models? We
# compare at **equal parameter counts**: r = 38 on q and v has 116,736, as r = 8 on all layers. The learning rate
# is 0.01 for both; for q and v, one run each at 0.005 and 0.02 is worse.

# %%
for_q_v = {"method": ["lora"], "r": [38], "target_modules": ["q_proj,v_proj"]}
q_and_v = lab.sweep(short, **for_q_v, learning_rate=[1e-2], seed=SEEDS[:3])
edges = lab.sweep(short, **for_q_v, learning_rate=[5e-3, 2e-2], seed=[0])
all_layers = at_rate(lora, 1e-2)[:3]
ft.expect(after(q_and_v, "val_loss"), ">", after(all_layers, "val_loss"),
          "q and v learn less than all layers", paired=True)
ft.table(edges + q_and_v + all_layers)

# %% [markdown]
# With equal parameters, all layers learned more than q and v. Thinking Machines found attention alone behind
# too. So adapt all linear layers. The rank sets how much an adapter can hold: raise it when LoRA stays behind
# full fine-tuning at *every* learning rate. The rank is also in the scale α/r; the
# [reference page](reference/02_lora.md) says which convention to take.
#
# ## Which memory is saved?
# <!-- claims: C11 -->
#
# Weights, gradients, optimizer state, activations: which does LoRA shrink? How much of the activations remains?

# %%
from ftkit.by_hand import saved_bytes

all_trained = copy.deepcopy(base).requires_grad_(True)
saved = {name: saved_bytes(model, lambda model=model: model(**batch).loss)["saved"] / 1e6
         for name, model in (("full", all_trained), ("LoRA", adapted))}
print(f"activations: full {saved['full']:.1f} MB, LoRA {saved['LoRA']:.1f} MB, "
      f"or {saved['LoRA'] / saved['full']:.0%}")

# %% [markdown]
# Most of them. The gradient must travel back through every frozen layer, and attention, norms
# and activation functions need their inputs for that. Each A needs the input of its layer. The operations
# fall by about a third: only those for the gradient of W go away. The time need not: at the same batch size
# Biderman et al. measured about 15 % fewer tokens per second for LoRA. For Llama 2 7B, by arithmetic:
#
# | GB | weights | gradients, AdamW and its float32 copy | activations |
# |---|---|---|---|
# | full, mixed precision (2 + 2 + 8 + 4 bytes a parameter) | 13.5 | 94 | a |
# | LoRA, r = 16 on all linear layers (40 M parameters) | 13.5 + 0.1 | 0.6 | about a |
# | QLoRA, the same with a 4-bit base | about 4 + 0.1 | at most 0.6 | about a |
#
# Quantization shrinks the weights ([lesson 10](10_quantization_and_qlora.ipynb)), checkpointing the
# activations ([lesson 11](11_activations_and_checkpointing.ipynb)).
#
# ## At 135M
#
# The recorded runs of SmolLM2-135M compare each method *at its best learning rate*, not at equal loss. So we
# ask the small model that first.

# %%
verdict = ft.expect(after(best["lora"], "general_loss"), "<", after(best["full"], "general_loss"),
                    "each at its best learning rate, LoRA forgets less", may_fail=True)
at_135m("lora_vs_full", verdict)

# %% [markdown]
# (LoRA at 0.01 stretches the axes: read the table.) Larger models:
# [Biderman et al. 2024](https://arxiv.org/abs/2405.09673v2) (version 2; Llama 2 7B, code and math)
# found that LoRA at usual ranks learns less and forgets less. At equal target performance LoRA seemed
# the better trade-off on code, full fine-tuning on math. [Thinking Machines
# 2025](https://thinkingmachines.ai/blog/lora/) found LoRA equal to full fine-tuning on post-training data if it
# adapts all layers, has its own learning rate, and can hold what the data teach.
#
# **In practice, 2026:** settings, a script, pitfalls and interview questions are on the
# [reference page](reference/02_lora.md).
#
# ## Two adapters on one base
# <!-- claims: C9 · E45 -->
#
# Now the schools. One wants sentences turned into questions, another wants them negated. We load both adapters
# onto one base and send both the same instruction.

# %%
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
for task in ("to_question", "to_negative"):
    ft.Experiment(data=task).run(method="lora", max_steps=25, precision="fp32", out=folder / task,
                                 live=False)
served = peft.PeftModel.from_pretrained(copy.deepcopy(base), folder / "to_question", "to_question")
served.load_adapter(folder / "to_negative", "to_negative")
request = {"instruction": "Change the sentence.", "input": "They catch a parrot.", "output": "?"}
for task in ("to_question", "to_negative"):
    served.set_adapter(task)
    size = (folder / task / "adapter_model.safetensors").stat().st_size
    print(f"{task}, {size:,} bytes:", ft.answers(served, tokenizer, [request], max_new_tokens=16)[0])

# %% [markdown]
# ## Your turn: merge
#
# A third school has laptops without peft. For it the update is added to W once, and the result is a plain model
# with no extra cost. Which matrix gives the same outputs as the two paths?


# %% tags=["raises-exception"]
def merge_weight(W, A, B, r, lora_alpha):
    """Return the merged weight (d_out, d_in) as a new tensor; W (d_out, d_in), A (r, d_in),
    B (d_out, r)."""
    ...


ft.check("merge_weight", merge_weight)

# %% [markdown]
# ## Break it
#
# A common mistake in a manual merge is to forget the scale α/r. Nothing crashes. We merge the tuned adapters by
# your function with α = r, that is without the scale, and with the true α = 16.

# %%
merge_weight = working("merge_weight", merge_weight)


def merged(adapted, lora_alpha):
    model = copy.deepcopy(adapted)
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.Linear):
            A, B = module.lora_A["default"].weight, module.lora_B["default"].weight
            module.base_layer.weight.data = merge_weight(
                module.base_layer.weight.data, A.data, B.data, 8, lora_alpha)
    return model.unload()  # the base layers alone


adapters = [run.model for run in best["lora"][:3]]
losses = {"not merged": [ft.loss_on(model, validation) for model in adapters]}
for alpha in (8, 16):
    losses[alpha] = [ft.loss_on(merged(model, alpha), validation) for model in adapters]
ft.expect(losses[8], ">", losses[16], "a merge without the scale is worse", paired=True)
ft.table([{"lora_alpha": alpha, "val_loss": loss} for alpha, loss in losses.items()])

# %% [markdown]
# So test every merge: the loss must stay the same, up to rounding.
#
# ## Recap
# <!-- claims: C12 C98 C100 -->
#
# - LoRA freezes W and trains (α/r) B A, starting at zero.
# - It saves gradients, optimizer state and storage. Activations mostly stay, the base weights fully.
# - Adapt all linear layers, tune the learning rate, and compare at equal performance.
# - The claim: LoRA learned as well, within 0.1 of exact match. Whether it forgets less depends on
#   where you compare (at an equal loss, or each at its best) and on its learning rate.
#
# In the [playground](playground.html#data=tasks&method=lora&max_steps=60&challenge=4), reach the same val_loss
# with a tenth of the trained parameters. From scratch:
# [`ftkit/lessons/by_hand/lora.py`](../ftkit/lessons/by_hand/lora.py). Next:
# [03 the PEFT family](03_the_peft_family.ipynb) compares LoRA with its relatives.

# %%
ft.progress("02")
