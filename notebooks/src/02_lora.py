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
# **Claim: training 5 % of the parameters as a low-rank update learns a small task as well as full
# fine-tuning, and forgets less.** The claim has two halves. You will test both, and one of them
# is harder to test fairly than it looks. After this lesson you can
#
# - write LoRA's forward pass, its parameter count and its merge;
# - explain what LoRA saves in training and what it does not save;
# - compare LoRA with full fine-tuning fairly, and choose its rank, layers and learning rate.
#
# *Needs [01](01_full_fine_tuning.ipynb). About 45 minutes; the code needs about 90 seconds on two
# CPU cores.*

# %%
import copy

import torch

import ftkit as ft
from ftkit.lessons.at_135m import at_135m
from ftkit.lessons.claims import direction

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C11 C98 -->
#
# > *"You have one base model and two hundred customers, each with their own fine-tune. How many
# > parameters do you train and store for each customer? Which costs of training go away, and
# > which stay?"*
#
# Many candidates answer with one percentage and stop. This lesson builds the full answer.
#
# ## The idea
#
# A linear layer multiplies its input by a weight matrix W. Full fine-tuning changes every entry
# of W. **LoRA** (low-rank adaptation, [Hu et al. 2021](https://arxiv.org/abs/2106.09685))
# freezes W and adds a second path with two thin matrices, A and B.
#
# ![A linear layer with LoRA. The input x goes through the frozen matrix W of size d_out by d_in.
# In parallel it goes through A, of size r by d_in, then B, of size d_out by r, and is scaled by
# alpha over r. Both outputs are added to give y.](figures/02_lora.svg)
#
# The product B A has the shape of W, but its **rank** is at most r: all its rows are combinations
# of the r rows of A. The rank r is small (mostly 8 to 128), so A and B are small. `lora_alpha`
# (α) is a constant that scales the update:
#
# $$y = W x + \frac{\alpha}{r}\, B A x \qquad A: r \times d_{in}, \quad B: d_{out} \times r$$
#
# ## Why could a low rank be enough?
# <!-- claims: C11 C43 -->
#
# We can look at the update that *full* fine-tuning makes. First train all parameters of the small
# model on 31 text tasks.

# %%
lab = ft.Experiment(model="tiny", data=ft.records("tasks")[:480], val="tasks")
base, tokenizer = ft.load("tiny")
full_run = lab.run(method="full", learning_rate=1e-3, batch_size=16, epochs=1, live=False)
full_run

# %% [markdown]
# The **singular value decomposition** (SVD) writes a matrix as a sum of rank-1 matrices, ordered
# by size. We apply it to the update of each weight matrix, keep the `rank` largest parts, add them
# to the base model, and measure the validation loss.

# %%
def keep_rank(rank):
    """The base model plus the best rank-`rank` approximation of every matrix's update."""
    model = copy.deepcopy(base)
    for weight, tuned in zip(model.parameters(), full_run.model.parameters(), strict=True):
        if weight.ndim == 2:
            U, S, V = torch.linalg.svd((tuned - weight).detach(), full_matrices=False)
            weight.data += U[:, :rank] * S[:rank] @ V[:rank]
    return model


validation = [ft.encode(record, tokenizer) for record in lab.val]
truncated = [{"rank kept": rank, "val_loss": ft.loss_on(keep_rank(rank), validation)}
             for rank in (0, 1, 8, 32, 192)]
ft.table(truncated)

# %% [markdown]
# (The table uses all 416 validation records. A run evaluates 64 of them, so its numbers differ a little.)
# Rank 0 is the base model and rank 192 is (almost) the full update. In this run, rank 8 already
# gives most of the improvement. So a low rank can be enough *for this task*.
#
# Two limits of this observation. It truncates an update after training, and LoRA is restricted
# *during* training. And the rank that is needed depends on the task.
# On Llama 2 7B with code and math, [Biderman et al. 2024](https://arxiv.org/abs/2405.09673) found
# full updates of 10 to 100 times the rank of usual LoRA settings.
#
# ## Your turn: the forward pass
# <!-- claims: C43 C44 · E20 -->
#
# Write the formula above. `torch` stores a linear layer's weight as `(d_out, d_in)` and computes
# `x @ W.T`. Do not build the product B A: two thin multiplications are cheaper. Need help? Run
# `ft.hint("lora_forward")`, up to three times, or `ft.solution("lora_forward")`.


# %% tags=["raises-exception"]
def lora_forward(x, W, A, B, lora_alpha):
    """Return the layer's output (n, d_out) for x (n, d_in), W (d_out, d_in), A (r, d_in) and
    B (d_out, r)."""
    ...


ft.check("lora_forward", lora_forward)

# %% [markdown]
# Here is the same formula as a layer that wraps an existing one. A starts random and B starts at
# zero, so B A is zero and the adapted model starts exactly as the base model.

# %%
import math

from torch import nn


class LoRALinear(nn.Module):
    def __init__(self, linear, r, lora_alpha):
        super().__init__()
        self.linear, self.scaling = linear, lora_alpha / r
        like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.A = nn.Parameter(torch.empty(r, linear.in_features, **like))
        self.B = nn.Parameter(torch.zeros(linear.out_features, r, **like))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # as nn.Linear starts, and peft's A

    def forward(self, x):
        return self.linear(x) + self.scaling * (x @ self.A.T @ self.B.T)


def inject(model, target_modules, r, lora_alpha):
    """Freeze the model and wrap every linear layer whose name is in target_modules."""
    model.requires_grad_(False)
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            if name in target_modules:
                setattr(block, name, LoRALinear(child, r, lora_alpha))
    return model


# %% [markdown]
# Before you run the next cell: look at the formula and at the starting values. Which matrices get
# a gradient that is not zero in the *first* step?

# %%
first = ft.predict("In the first training step, which matrices have a nonzero gradient?",
                   "only A", "only B", "both A and B")
first

# %%
from ftkit.data.encoding import collate

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
batch = collate([ft.encode(record, tokenizer) for record in lab.train[:16]], tokenizer.pad_token_id)
mine = inject(copy.deepcopy(base), LINEAR, r=8, lora_alpha=16)
print("same output as the base:", torch.equal(mine(**batch).logits, base(**batch).logits))

mine(**batch).loss.backward()
largest = {"A": 0.0, "B": 0.0}
for name, parameter in mine.named_parameters():
    if parameter.requires_grad:
        largest[name[-1]] = max(largest[name[-1]], parameter.grad.abs().max().item())
mine.zero_grad()
largest

# %%
moving = {(True, False): "only A", (False, True): "only B", (True, True): "both A and B"}
first.score(moving[largest["A"] > 0, largest["B"] > 0])

# %% [markdown]
# The gradient of A contains a factor B, which is zero at the start. The gradient of B contains A x,
# which is not. So B moves in the first step, and A from the second step on. If both started at zero,
# no gradient would ever be nonzero. If both started random, the model would no longer start as the
# base.
#
# ## The same with peft
# <!-- claims: C44 · E20 -->
#
# [`peft`](https://huggingface.co/docs/peft) is the standard library for LoRA. We copy its random A
# into our layers and train both models for five steps on the same batch. The losses should agree up
# to rounding.


# %%
import peft


def trainable(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def five_steps(model):
    optimizer = torch.optim.AdamW(trainable(model), lr=5e-3, weight_decay=0.0)
    losses = []
    for _ in range(5):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable(model), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


settings = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
theirs = peft.get_peft_model(copy.deepcopy(base), settings)
for own, other in zip(trainable(mine), trainable(theirs), strict=True):
    own.data.copy_(other)

# %%
ft.table([{"from scratch": a, "peft": b}
          for a, b in zip(five_steps(mine), five_steps(theirs), strict=True)])

# %% [markdown]
# From here on we use `ft.Config(method="lora", r=..., lora_alpha=...)`, which trains with peft's
# layers.
#
# ## Your turn: how many parameters?
#
# Count the trainable parameters of LoRA. Not every matrix is square. Afterwards the function is
# compared with peft, and with a Llama 2 7B built on torch's `meta` device, where tensors have a shape
# and use no memory.


# %% tags=["raises-exception"]
def lora_parameters(layers, r):
    """Return the number of trainable parameters; layers is a list of (d_in, d_out)."""
    ...


ft.check("lora_parameters", lora_parameters)

# %%
from transformers import LlamaConfig, LlamaForCausalLM

with torch.device("meta"):
    llama = LlamaForCausalLM(LlamaConfig())  # the defaults are the shape of Llama 2 7B
total = llama.num_parameters()
inject(llama, ["q_proj", "v_proj"], r=8, lora_alpha=16)
trained = llama.num_parameters(only_trainable=True)
print(f"Llama 2 7B, r=8 on q and v: {trained:,} of {total:,} = {trained / total:.2%}")
print(f"tiny, r=8 on all linear layers: {theirs.num_parameters(only_trainable=True):,} of "
      f"{base.num_parameters():,}")

# %% [markdown]
# ## Which learning rate?
# <!-- claims: C19 · E22 -->
#
# A comparison at one common learning rate is decided by the choice of that learning rate. Each
# method needs its own. Here is a small grid for both methods, with five seeds.

# %%
ratio = ft.predict("The best learning rate of LoRA is larger than that of full fine-tuning, by a factor",
                   "below 5", "from 5 to 20", "above 20")
ratio

# %%
SEEDS = [0, 1, 2, 3, 4]
short = ft.Config(batch_size=16, epochs=1, eval_steps=1000)
rates = {"full": [5e-4, 1e-3, 2e-3], "lora": [3e-3, 1e-2, 3e-2]}
full = lab.sweep(short, method=["full"], learning_rate=rates["full"], seed=SEEDS)
lora = lab.sweep(short, method=["lora"], learning_rate=rates["lora"], seed=SEEDS)
ft.table(full + lora)


# %%
def best_runs(runs):
    """The runs of the learning rate with the lowest mean val_loss."""
    groups = {}
    for run in runs:
        groups.setdefault(run.config.learning_rate, []).append(run)
    return min(groups.values(), key=lambda group: sum(run.after["val_loss"] for run in group))


best = {"full": best_runs(full), "lora": best_runs(lora)}
learning_rate = {method: runs[0].config.learning_rate for method, runs in best.items()}
factor = learning_rate["lora"] / learning_rate["full"]
ratio.score("below 5" if factor < 5 else "from 5 to 20" if factor <= 20 else "above 20")

# %% [markdown]
# The grid is coarse: trust the order of magnitude, not the exact ratio. For large models a factor of
# about ten has been reported ([Thinking Machines
# 2025](https://thinkingmachines.ai/blog/lora/)). Look at the table again: at 0.003 full fine-tuning
# would be past its best value and LoRA not yet at its own.
#
# ## Does LoRA learn as well?
# <!-- claims: C4 · E22 -->
#
# Each method uses its best learning rate. The test asks about entities that occur in no training
# record. "As well" needs a margin, stated in advance: ten percentage points of exact match.

# %%
test = ft.records("tasks", "test")[::3]
exact = {method: [ft.exact_match(run.model, tokenizer, test) for run in runs]
         for method, runs in best.items()}
ft.expect(exact["lora"], "==", exact["full"], "LoRA answers as well, within 0.1", within=0.1)
exact

# %% [markdown]
# ## Does LoRA forget less?
# <!-- claims: C73 · E22 -->
#
# `general_loss` is the loss on general text that the base model knew. It rises when the model
# forgets. A model that learned nothing has forgotten nothing, so we must compare at the **same target
# performance**. In the picture, further left is better learned, and lower is less forgotten.

# %%
trained_runs = [run for run in full + lora if run.after["general_loss"] < 2]
ft.scatter(trained_runs, label=lambda run: f"{run.config.method} {run.config.learning_rate:g}")


# %% [markdown]
# For each seed we follow a method from its lowest learning rate to its best one, and read off `general_loss`
# where `val_loss` passes 0.8. Seeds in which a method does not pass it are left out. Then we compare. Each of
# the two directions is tested at the 5 % level.

# %%
import numpy as np


def forgetting_at(runs, seed, target=0.8):
    """general_loss of a method where val_loss passes target, between two learning rates."""
    path = sorted((run for run in runs if run.config.seed == seed),
                  key=lambda run: run.config.learning_rate)
    losses = [run.after["val_loss"] for run in path]
    path = path[:losses.index(min(losses)) + 1]  # up to the best learning rate
    losses = [run.after["val_loss"] for run in reversed(path)]
    forgotten = [run.after["general_loss"] for run in reversed(path)]
    return float(np.interp(target, losses, forgotten, left=np.nan, right=np.nan))


less = ft.predict("At the same val_loss, LoRA (r=8, all layers) forgets ...",
                  "less than full fine-tuning", "more", "no difference seen")
less

# %%
pairs = [(forgetting_at(lora, seed), forgetting_at(full, seed)) for seed in SEEDS]
pairs = [pair for pair in pairs if not np.isnan(pair).any()] or pairs
at_target = {"lora": [pair[0] for pair in pairs], "full": [pair[1] for pair in pairs]}
outcome = direction(at_target["lora"], at_target["full"], paired=True)
verdict = ft.expect(at_target["lora"], outcome or "==", at_target["full"],
                    "general_loss of LoRA against full fine-tuning at equal val_loss", paired=True)
less.score({"<": "less than full fine-tuning", ">": "more",
            "": "no difference seen"}[outcome])

# %% [markdown]
# The second half of the claim needs its condition. A LoRA with a low learning rate forgets little
# *and learns little*, and that comparison is often quoted. (Biderman et al. compare whole
# trade-off curves of both.) The fair question is about equal performance, and
# the line above answers it for this small model: with its verdict, or with the size of a difference that
# could have stayed unseen. What larger models show follows below.
#
# ## Rank and layers
# <!-- claims: E23 -->
#
# Does a higher rank help? Is it better to adapt all linear layers, or q and v alone, as peft does by
# default for Llama models? For a fair answer the second comparison uses **equal parameter counts**: r =
# 38 on q and v has as many parameters as r = 8 on all layers. Each setting gets the better of two
# learning rates.

# %%
variants = {"r=1": {"r": [1]}, "r=64": {"r": [64]},
            "r=38, q and v": {"r": [38], "target_modules": ["q_proj,v_proj"]}}
settings = {"r=8": [run for run in best["lora"] if run.config.seed < 3]}
for name, fields in variants.items():
    settings[name] = best_runs(lab.sweep(short.but(method="lora"), learning_rate=[1e-2, 2e-2],
                                         seed=[0, 1, 2], **fields))
final = {name: [run.after["val_loss"] for run in runs] for name, runs in settings.items()}
ft.expect(final["r=8"], "<", final["r=38, q and v"], "all layers beat q and v at equal parameters",
          paired=True)
ft.table([{"LoRA": name, "trained": runs[0].trainable_parameters,
           "learning rate": runs[0].config.learning_rate, "val_loss": final[name],
           "general_loss": [run.after["general_loss"] for run in runs]}
          for name, runs in settings.items()])

# %% [markdown]
# How to read it: at equal parameter counts, compare r = 8 with q and v; for the rank, compare r = 1, 8 and 64.
# Look at both losses. A setting that learned less and forgot less is another point of the trade-off. To call it
# better, compare it with all layers at a lower learning rate (0.003 in the table above).
#
# `lora_alpha` was 16 everywhere, so the scale α/r falls as r rises. With α fixed, one learning rate
# served all ranks here, as Thinking Machines report for large models. The other habit is α = 2r: a
# constant scale. Then a higher rank makes larger updates and usually needs a lower learning rate. **Fix
# one convention and tune the learning rate.** **rsLoRA** divides by √r instead of r
# ([Kalajdzievski 2023](https://arxiv.org/abs/2312.03732)), which keeps the size of the output stable at
# high ranks.

#
# ## Which memory is saved?
# <!-- claims: C11 -->
#
# Training needs the weights, their gradients, the optimizer state (two averages per trained parameter
# for AdamW) and the **activations**: intermediate results that the backward pass needs again. We count
# the bytes that torch really keeps.

# %%
saved = ft.predict("LoRA trains 5 % of the parameters. How much of the activation memory remains?",
                   "less than 20 %", "20 to 60 %", "more than 60 %")
saved


# %%
from ftkit.lessons.activations import saved_bytes


def training_bytes(model):
    """Bytes of gradients, optimizer state and activations in one step."""
    activations = saved_bytes(model, lambda: model(**batch).loss)["saved"]
    model(**batch).loss.backward()
    optimizer = torch.optim.AdamW(trainable(model))
    optimizer.step()
    state = sum(t.nbytes for values in optimizer.state.values() for t in values.values())
    return {"gradients": sum(p.grad.nbytes for p in trainable(model)), "optimizer": state,
            "activations": activations}


costs = {"full": training_bytes(copy.deepcopy(base).requires_grad_(True)),
         "LoRA, r=8": training_bytes(inject(copy.deepcopy(base), LINEAR, r=8, lora_alpha=16))}
ft.table([{"method": name, **parts} for name, parts in costs.items()])

# %%
left = costs["LoRA, r=8"]["activations"] / costs["full"]["activations"]
print(f"activations that remain: {left:.0%}")
saved.score("less than 20 %" if left < 0.2 else "20 to 60 %" if left <= 0.6 else "more than 60 %")

# %% [markdown]
# Gradients and optimizer state shrink with the number of trained parameters. Activations mostly stay. The
# gradient must still travel back through every frozen layer, and attention, norms and activation functions
# need their inputs for that. Each A also needs the input of its layer. Against
# activations use gradient checkpointing ([lesson 11](11_activations_and_checkpointing.ipynb)).
# Against the size of the frozen weights use quantization ([lesson
# 10](10_quantization_and_qlora.ipynb)).
#
# ## Your turn: merge
#
# For serving, the update can be added to W once. The result is a plain model with no extra cost.


# %% tags=["raises-exception"]
def merge_weight(W, A, B, r, lora_alpha):
    """Return the merged weight (d_out, d_in) as a new tensor; W (d_out, d_in), A (r, d_in),
    B (d_out, r)."""
    ...


ft.check("merge_weight", merge_weight)


# %%
def merge(model):
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            if isinstance(child, LoRALinear):
                child.linear.weight.data += child.scaling * child.B.data @ child.A.data
                setattr(block, name, child.linear)
    return model


before, after = mine(**batch).logits, merge(copy.deepcopy(mine))(**batch).logits
print(f"largest change of a logit: {(before - after).abs().max().item():.1e}")

# %% [markdown]
# ## Break it
#
# The most common mistake in a manual merge is to forget the scale α/r. Nothing crashes. We merge the
# tuned adapters with the scales 0, 1 (forgotten), 2 (right: 16/8) and 4.


# %%
def merged_with(scale, adapted):
    model = copy.deepcopy(adapted)
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.Linear):
            module.scaling["default"] = scale
    return model.merge_and_unload()


losses = {scale: [ft.loss_on(merged_with(scale, run.model), validation) for run in best["lora"][:3]]
          for scale in (0, 1, 2, 4)}
ft.expect(losses[1], ">", losses[2], "a merge without the scale is worse", paired=True)
ft.table([{"scale": scale, "val_loss": loss} for scale, loss in losses.items()])

# %% [markdown]
# So test every merge: the same logits, or the same loss, before and after. Scale 0 is the base model.
# A scale above the right one does not mean "more tuned": it is simply wrong.
#
# ## Two adapters on one base
# <!-- claims: C9 · E45 -->
#
# An adapter is a small file. One customer wants sentences turned into questions, another one wants
# them negated. We train both, load them onto one base, and send both the same instruction.

# %%
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
for task in ("to_question", "to_negative"):
    ft.Experiment(data=task).run(method="lora", max_steps=25, out=folder / task, live=False)
served = peft.PeftModel.from_pretrained(copy.deepcopy(base), folder / "to_question", "to_question")
served.load_adapter(folder / "to_negative", "to_negative")
request = {"instruction": "Change the sentence.", "input": "They catch a parrot.", "output": "?"}
for task in ("to_question", "to_negative"):
    served.set_adapter(task)
    size = (folder / task / "adapter_model.safetensors").stat().st_size
    print(f"{task}, {size:,} bytes:", ft.answers(served, tokenizer, [request], max_new_tokens=16)[0])

# %% [markdown]
# Load adapters with `from_pretrained`. `get_peft_model` with the same settings creates a *new* adapter
# with B at zero: there is no error, and you serve the base model.
#
# ## At 135M
#
# The same methods on SmolLM2-135M, a real language model, in recorded runs. The claim of the box compares each
# method at its best learning rate. The names of the arms show these rates; their ratio need not be ten.

# %%
at_135m("lora_vs_full", verdict)

# %% [markdown]
# Published for larger models: [Biderman et al. 2024](https://arxiv.org/abs/2405.09673) (Llama 2 7B,
# code and math) found that LoRA learns less and forgets less. Higher ranks closed most of the gap in
# instruction tuning, but not in continued pretraining. [Thinking Machines
# 2025](https://thinkingmachines.ai/blog/lora/) found LoRA equal to full fine-tuning on
# post-training data sizes if it adapts all layers and has its own learning rate. [Shuttleworth et al.
# 2024](https://arxiv.org/abs/2410.21228) found new singular directions ("intruder dimensions") in LoRA
# updates that go along with forgetting.
#
# ## What if?
#
# The habit α = 2r at rank 64 means α = 128. At the learning rate that was best for α = 16, the update
# is eight times larger. Run it, compare with the table above, then lower `learning_rate` until it
# works.

# %%
lab.run(short, method="lora", r=64, lora_alpha=128, learning_rate=1e-2)

# %% [markdown]
# ## In practice, 2026
#
# | setting | usual value |
# |---|---|
# | layers | all linear layers, MLP included (`target_modules="all-linear"`) |
# | r | 8 to 32 for style and format, up to 256 for large data sets; rank 1 can suffice in RL |
# | lora_alpha | 16 or 32 fixed, or 2r; then tune the learning rate, not both |
# | learning rate | about 10 times that of full fine-tuning; 1e-4 to 5e-4 for 1B to 70B models |
# | batch size | small to moderate: LoRA tolerates large batches less well than full fine-tuning |
# | lora_dropout | 0 to 0.05; it matters for small data sets |
#
# A configuration for TRL and peft:
#
# ```python
# # {"prompt": [{"role": "user", "content": "..."}],
# #  "completion": [{"role": "assistant", "content": "..."}]}
# from datasets import load_dataset
# from peft import LoraConfig
# from trl import SFTConfig, SFTTrainer
#
# model_id = "HuggingFaceTB/SmolLM3-3B"
# dataset = load_dataset("json", data_files="train.jsonl", split="train")
# trainer = SFTTrainer(
#     model=model_id,
#     train_dataset=dataset,
#     peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"),
#     args=SFTConfig(
#         output_dir="adapter", learning_rate=2e-4, lr_scheduler_type="cosine", warmup_steps=0.03,
#         per_device_train_batch_size=4, gradient_accumulation_steps=4, num_train_epochs=2,
#         max_length=2048, bf16=True,
#     ),
# )
# trainer.train()
# ```
#
# Pitfalls:
#
# - New tokens: their embeddings are not trained by LoRA on linear layers. Use
#   [`trainable_token_indices`](https://huggingface.co/docs/peft/developer_guides/lora) or
#   `modules_to_save`.
# - Experts of a mixture of experts are often plain parameters, not linear layers: name them in
#   `target_parameters`, and check the printed number of trained parameters.
# - Merging into bf16 or 4-bit weights rounds the update: [lesson 10](10_quantization_and_qlora.ipynb).
# - To serve many adapters, do not merge. vLLM and [S-LoRA](https://arxiv.org/abs/2311.03285) compute a
#   batch with several adapters on one base; peft takes `adapter_names=` in `generate`.
# - Relatives: LoRA+ (a higher learning rate for B), DoRA, PiSSA and rsLoRA:
#   [lesson 03](03_the_peft_family.ipynb).
#
# ## Interview
#
# **How does LoRA help, and what does it not reduce?**
# <details><summary>Answer</summary>
# The pretrained weights are frozen, and each adapted layer computes W x + (α/r) B A x. Only A and B
# have gradients and optimizer states, usually for less than 1 % of the parameters of a model with
# billions, so these two items nearly vanish. A checkpoint is megabytes, and many adapters share one
# base. The frozen weights and the activations stay: quantization reduces the former (QLoRA), gradient
# checkpointing the latter. Merged, it adds no latency.
# </details>
#
# **How many trainable parameters has r = 8 on q and v of Llama 2 7B?**
# <details><summary>Answer</summary>
# Each 4096 × 4096 matrix gets 8 · (4096 + 4096) = 65,536. Two matrices in each of 32 layers give
# 4,194,304, or 0.06 % of 6.74 billion: 8.4 MB in bf16. Two hundred customers need 1.7 GB, against 2.7
# TB for two hundred copies of the model.
# </details>
#
# **Why is B zero and A random?**
# <details><summary>Answer</summary>
# B A = 0, so training starts exactly at the base model. The gradient of B contains A x, which is not
# zero, so B moves in the first step and A follows. With both at zero nothing would ever train. With
# both random the start would be disturbed. (PiSSA and LoftQ choose other starts on purpose.)
# </details>
#
# **How do you choose r and α?**
# <details><summary>Answer</summary>
# r bounds the rank of the update, so the capacity. α/r scales the update and acts much like a learning
# rate, so fix a convention and tune the learning rate. With α constant (16 or 32), one learning rate
# tends to serve all ranks. With α = 2r, a higher rank tends to need a lower one. Adapt all linear layers
# first; raise r while that still lowers the validation loss. At high ranks
# rsLoRA's α/√r avoids shrinking updates.
# </details>
#
# **"LoRA forgets less." Comment.**
# <details><summary>Answer</summary>
# It depends on the target performance at which you compare. In the settings of Biderman et al. 2024
# LoRA learns less and forgets less. The frozen weights do not prevent forgetting: the model computes
# W + (α/r) B A, and that function can forget. At equal loss on the new task, each with its own learning
# rates, the difference may vanish. It depends on rank, learning rate, and how far the new data are
# from the old. So compare curves of new against old performance, each method at its own learning rates.
# </details>
#
# **Does LoRA make a training step faster?**
# <details><summary>Answer</summary>
# Per token and parameter, a step costs about 2 FLOPs forward, 2 for the gradient of the inputs and 2
# for the gradient of the weights. LoRA skips the last part for frozen weights: about two thirds
# remain. The extra small multiplications cost part of the gain, and on very small models all of it.
# </details>
#
# ## Recap
# <!-- claims: C12 C98 C100 -->
#
# - LoRA freezes W and trains (α/r) B A, starting at zero.
# - It saves gradients, optimizer state and storage; it does not save activations or the base weights.
# - Give it its own learning rate, adapt all linear layers, and compare at equal performance.
#
# From scratch: [`ftkit/lessons/by_hand/lora.py`](../ftkit/lessons/by_hand/lora.py). Next:
# [03 the PEFT family](03_the_peft_family.ipynb) compares LoRA with its relatives.

# %%
ft.progress("02")
