# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · Where the memory goes
#
# **Claim: Adam doubles a model and mixed precision halves it, so a 7B model of 13.5 GB trains in
# 27; LoRA takes away nearly all of the rest.** It could be wrong, and most of it is. After this
# lesson you can
#
# - account for every byte of a training step, and say at which moment the peak is;
# - predict it for any model before you rent the card, and know how far off you may be;
# - find the largest part, and the lever that moves it.
#
# *About 25 minutes. The code needs a minute on two CPU cores. Needs [01](01_full_fine_tuning.ipynb)
# and [02](02_lora.ipynb); leads to [10](10_quantization_and_qlora.ipynb) to
# [13](13_zero_and_fsdp.ipynb).*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"How much memory does it take to fine-tune a 7B model with AdamW, and what fills it?"*
#
# "Fourteen gigabytes of weights, times two for Adam" is a common answer. Count them on a model that
# fits on this machine.
#
# ## By hand
#
# <!-- claims: C3 C6 -->
# Weights, their gradients, and what AdamW keeps for each weight: a mean of the gradients and a mean
# of their squares.

# %%
import torch

model, tokenizer = ft.load("tiny")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
ids = torch.tensor([[1, 5, 7, 9] * 32])
model(input_ids=ids, labels=ids).loss.backward()
optimizer.step()

# %%
def size(tensors):
    return sum(tensor.nbytes for tensor in tensors)


weights = list(model.parameters())
states = [t for kept in optimizer.state.values() for t in kept.values() if t.ndim]
n = sum(p.numel() for p in weights)
per = {"weights": size(weights) / n, "gradients": size(p.grad for p in weights) / n,
       "AdamW's two means": size(states) / n}
assert sum(per.values()) == 16
per

# %% [markdown]
# Sixteen bytes for each parameter. Adam's "times two" are two *values* for each weight, of four bytes
# each. That is before a single activation.
#
# ## With ft
#
# `ft.memory` says it for any model. Its bars: **formula**, what one can work out on paper;
# **simulation**, one real training step traced on tensors that have a shape and no memory.

# %%
seven = ft.memory(model="meta-llama/Llama-2-7b", precision="bf16", batch_size=1, max_length=512)
ft.expect(abs(seven.total_states / 107.8e9 - 1), "<", 0.001, "6.738 billion times 16 bytes")
seven

# %% [markdown]
# 107.8 GB, on no card of 80. The caption names the moment of the peak: *clipping*, between backward
# pass and update, where the norm of all gradients is taken. And that was *mixed precision*. What
# would plain fp32 need?

# %%
guess = ft.predict("From fp32 to mixed precision (bf16), the states of AdamW training ...",
                   "halve", "stay", "grow by half", guess=...)
guess

# %% [markdown]
# <!-- claims: C53 -->
# Autocast keeps fp32 weights and computes in 16 bits. The classic recipe writes it differently: 2
# (weights) + 2 (gradients) + 4 (fp32 master copy) + 8 (AdamW). Pure 16 bits is the only one that
# halves, and lesson 12 shows what it loses.

# %%
asked = {"model": "meta-llama/Llama-2-7b", "batch_size": 1, "max_length": 512, "device": "cuda",
         "simulation": False}
rows = [{"precision": p, "states, GB": found.total_states / 1e9,
         "activations, GB": found.formula["activations"] / 1e9}
        for p in ("fp32", "bf16", "pure-bf16") for found in [ft.memory(precision=p, **asked)]]
ft.expect(rows[0]["states, GB"], "==", rows[1]["states, GB"], "mixed precision: the same states")
ft.table(rows)

# %%
times = rows[1]["states, GB"] / rows[0]["states, GB"]
guess.score("halve" if times < 0.75 else "stay" if times < 1.25 else "grow by half")

# %% [markdown]
# By the formula the activations halve; [lesson 12](12_floating_point.ipynb) measures less.
#
# ## Is it true?
#
# A prediction that nobody checks is a rumour. `measure=True` takes the real step here and counts
# every tensor while it lives. Six configurations that nobody tuned anything on:

# %%
from itertools import product

made = [(method, how, ft.memory(model="tiny", method=method, measure=True, max_length=128, **how))
        for method, how in product(("full", "lora", "qlora"), (
            {"precision": "fp32", "batch_size": 4, "gradient_checkpointing": False},
            {"precision": "bf16", "batch_size": 8, "gradient_checkpointing": True}))]
worst = max(abs(found.peak / found.measurement - 1) for *_, found in made)
ft.expect(worst, "<", 0.002, "predicted peak against the measured one, largest error")
ft.table([{"method": method, **how, "predicted, bytes": found.peak,
           "measured, bytes": found.measurement} for method, how, found in made])

# %% [markdown]
# The whole table, tiny and SmolLM2, against an independent count (every allocation that torch
# records), is in `tests/benchmarks/MEMORY.md`.
#
# ## The moment of the peak
#
# Not everything is there at once. Gradients grow during the backward pass while activations go.
# Same model, two batches: when is the peak?

# %%
from ftkit.memory_use import measure

config = ft.Config(precision="fp32")
moments = {}
for tokens in (32, 2048):
    step = measure.step("tiny", config, [32] * (tokens // 32))
    moments[f"{tokens} tokens"] = {"peak, MB": step.peak / 1e6, "when": step.moment} | {
        part: bytes_ / 1e6 for part, bytes_ in step.at_peak.items() if bytes_}
ft.table([{"batch": name, **row} for name, row in moments.items()])

# %% [markdown]
# A small batch peaks late in the backward pass, when nearly all gradients are there; a large one at
# the end of the forward pass, where activations and logits are. So "states + activations" is right
# for neither: the peak is the larger of two moments.
#
# ## What LoRA takes away
#
# <!-- claims: C11 · E08 -->
# A few thousandths of the parameters are trained. Which parts shrink?

# %%
lora_guess = ft.predict("7B with LoRA at 4 × 2,048 tokens: the largest part is then ...",
                        "weights", "gradients", "optimizer", "activations", guess=...)
lora_guess

# %%
from ftkit.memory_use import charts

long = asked | {"batch_size": 4, "max_length": 2048, "precision": "bf16", "optim": "adamw_torch"}
methods = {method: ft.memory(method=method, **long) for method in ("full", "lora", "qlora")}
methods["lora, fp32 base"] = ft.memory(method="lora", **long | {"base_dtype": "fp32"})
kept = {method: found.formula["activations"] / 1e9 for method, found in methods.items()}
ft.expect(kept["lora"], "==", kept["full"], "LoRA keeps the activations of full fine-tuning, GB")
charts.compared(methods)

# %%
parts = methods["lora"].formula
lora_guess.score(max((p for p in parts if p != "peak"), key=parts.get))

# %% [markdown]
# Gradients and optimizer vanish, and QLoRA squeezes the weights. A *frozen* weight needs no fp32
# copy, so on a GPU the base is loaded in 16 bits (13.5 GB; in fp32, the last bar, 27 GB); the
# adapters and their optimizer stay in fp32. The activations are those of full fine-tuning: the gradient has to pass
# through the frozen layers. That is why LoRA alone does not save you on long texts. The same,
# measured in MB:

# %%
small = {method: measure.step("tiny", config.but(method=method), [128] * 4)
         for method in ("full", "lora")}
largest = {name: {part: v / 1e6 for part, v in step.parts.items()} for name, step in small.items()}
ft.expect(largest["lora"]["optimizer"], "<", 0.1 * largest["full"]["optimizer"],
          "measured, MB: the optimizer's states go")
ft.expect(largest["lora"]["activations"], ">", 0.9 * largest["full"]["activations"],
          "measured, MB: the activations stay")
ft.table([{"method": name, **row} for name, row in largest.items()])

# %% [markdown]
# ## Numbers that go round
#
# <!-- claims: C10 -->
# "175B needs 1.2 TB for full fine-tuning (weights, gradients, optimizer)." The LoRA paper reports
# that figure, without its parts. Which accounting gives it?

# %%
accounts = {"mixed or fp32 AdamW (4+4+8, 2+2+12)": 16, "16-bit weights and gradients, fp32 Adam": 12,
            "all in 16 bits": 8, "16-bit weights alone": 2}
accounts["as reported"] = 1.2e12 / 175e9
rows = [{"accounting": name, "bytes per parameter": per, "175B, TB": 175e9 * per / 1e12}
        for name, per in accounts.items()]
ft.expect(ft.memory(model="175B", precision="bf16").total_states / 1e12, "==",
          rows[0]["175B, TB"], "the usual recipe, TB")
ft.table(rows)

# %% [markdown]
# None does: nearest is all-16-bit training, 1.4 TB (1.27 TiB). So quote 1.2 TB as what somebody
# reported, and 2.8 TB as what your recipe takes. And QLoRA's "more than 780 GB" for 65B is the
# second line: 65.3 billion times 12.

# %%
f"{65.29e9 * 12 / 1e9:.0f} GB"

# %% [markdown]
# ## Levers
#
# <!-- claims: C96 -->
# "The optimizer is the bottleneck; LoRA, QLoRA and ZeRO are the fixes." True for short texts. Four
# optimizers on the 7B, and AdamW **offloaded**: its states lie in the host's memory, gradients go
# there and weights come back in every step. Then one LoRA run on ever more tokens, in GB:

# %%
optims = {name: ft.memory(precision="bf16", optim=name, **asked).states["optimizer"] / 1e9
          for name in ("adamw_torch", "adamw_bnb_8bit", "adafactor", "sgd")}
ft.expect(round(optims["adamw_torch"] / 13.476, 2), "==", 4.0, "AdamW: 4 times 16-bit weights")
optims["AdamW, offloaded"] = ft.memory(precision="bf16", offload=True, **asked).states["optimizer"]
ft.table([{"optim": name, "its states on the GPU, GB": kept} for name, kept in optims.items()])

# %%
grows = [{"tokens": batch * 2048} | {part: value / 1e9 for part, value in found.formula.items()
                                     if part in ("weights", "activations", "logits", "peak")}
         for batch in (1, 4, 16) for found in [ft.memory(method="lora", **long | {
             "batch_size": batch})]]
ft.expect(grows[2]["activations"], ">", 3 * grows[2]["weights"], "long batches: activations rule")
ft.table(grows)

# %% [markdown]
# None of these touches the activations. Checkpointing does
# ([lesson 11](11_activations_and_checkpointing.ipynb)), and so do shorter or fewer texts in a pass.
#
# ## GB and GiB
#
# Makers print 80 GB on a card and mean 80 GiB, tools print MiB, papers GB of 10⁹. The two differ by
# 7 %. Driver and CUDA take their share before you get any, and torch's allocator hands out whole
# blocks: *reserved* is more than *allocated*, and a run may fail with memory free in pieces. For an
# H100:

# %%
from ftkit.memory_use import model_shapes

card = model_shapes.GPUS["H100 80GB"]
sizes = {"80 GiB": 80 * 2**30, "what the driver reports": card.mib * 2**20,
         "left for tensors": card.usable}
ft.table([{"": name, "GB": b / 1e9, "GiB": b / 2**30} for name, b in sizes.items()])

# %% [markdown]
# ## What if?
#
# Move the controls: the formula follows at once, *Trace the step* adds the simulation. Find the
# longest text that QLoRA can train a 7B on, on a card of 24 GB; then switch checkpointing on. Press
# *Trace the step* before you believe it: [lesson 11](11_activations_and_checkpointing.ipynb) finds
# what the formula misses.

# %%
from ftkit.notebook.memory_calculator import Calculator

calculator = Calculator("meta-llama/Llama-2-7b", method="qlora", max_length=1024)
calculator

# %% [markdown]
# ## Break it
#
# Two ways to fill memory without seeing it. First a list of losses, for a plot at the end. The
# meter counts what lives after each step:

# %%
from ftkit.memory_use.meter import Meter


def lives_after(steps, keep):
    kept, model = [], ft.load("tiny")[0]
    with Meter(model) as meter:
        for _ in range(steps):
            kept.append(keep(model(input_ids=ids, labels=ids).loss))
        return meter.total / 1e6


# %%
tensors = [lives_after(steps, lambda loss: loss) for steps in (1, 2, 4)]
numbers = [lives_after(steps, lambda loss: loss.item()) for steps in (1, 2, 4)]
ft.expect(tensors[2] - tensors[0], ">", 10 * (numbers[2] - numbers[0] + 0.1),
          "a kept loss keeps all activations of its step")
{"loss": tensors, "loss.item()": numbers}

# %% [markdown]
# A loss is the end of a graph and holds all of it. Keep numbers.
#
# Second, a batch that cannot fit. Here the kit looks first: before a run it predicts the peak,
# compares it with what is free, and refuses while the process is still alive.

# %% tags=["raises-exception"]
lab = ft.Experiment(model="tiny", data="translation", eval_records=16)
lab.run(batch_size=1_000_000, max_steps=1)  # refused: read what it proposes

# %% [markdown]
# ## A real model
#
# SmolLM2-135M, predicted and measured:

# %%

if download.has("smollm2"):
    real = ft.memory(model="smollm2", method="lora", precision="bf16", batch_size=2,
                     max_length=128, measure=True)
    ft.expect(abs(real.peak / real.measurement - 1), "<", 0.002, "a real LLM, LoRA")
    print(real)

# %% [markdown]
# ## Exercises
#
# **1.** Bytes of the states: fp32 weights of all `parameters`; gradients and optimizer states of the
# `trainable` ones. `optimizer` is `"adamw"`, `"sgd"` (no momentum) or `"adamw_8bit"` (two bytes;
# leave out its scales).


# %% tags=["raises-exception"]
def state_bytes(parameters, trainable, optimizer):
    ...


ft.check("state_bytes", state_bytes)


# %% [markdown]
# **2.** The largest number of parameters whose states (`per` bytes each) fit on a card of `gib` GiB of
# which 1 GiB is not yours.


# %% tags=["raises-exception"]
def most_parameters(gib, per=16):
    ...


ft.check("most_parameters", most_parameters)


# %% [markdown]
# **3.** A LoRA step of `tokens` tokens has `weights` bytes of frozen weights and `activations` bytes
# of activations, which grow with the tokens. At how many tokens do they weigh the same?


# %% tags=["raises-exception"]
def break_even(weights, activations, tokens):
    ...


ft.check("break_even", break_even)

# %% [markdown]
# ## Interview
#
# **What is the memory bottleneck in fine-tuning?**
# <details><summary>Answer</summary>
# For short texts the states: 16 bytes per parameter with AdamW, 12 of them optimizer in the classic
# recipe. Adam's two values are 8 bytes, 4 times the 16-bit weights. For long texts activations and
# logits, which LoRA, QLoRA and ZeRO do not remove.
# </details>
#
# **Does mixed precision halve the memory?**
# <details><summary>Answer</summary>
# No: 4+4+8 or 2+2+12, both are 16 bytes. Activations shrink, at most by half.
# </details>
#
# **A 7B on 4 × 2,048 tokens: full, LoRA, QLoRA?**
# <details><summary>Answer</summary>
# By the formula 144 GB, 50 (64 over an fp32 base), 41. States are 108, 13.8 and 4.2 of that; the
# other 36.5 are activations, the same for all, so checkpointing comes next.
# </details>
#
# **"175B needs 1.2 TB." Comment.**
# <details><summary>Answer</summary>
# Reported by the LoRA paper without parts: 6.9 bytes per parameter. The usual recipe takes 16,
# which is 2.8 TB.
# </details>

# %% [markdown]
# ## Recap
#
# | part | bytes per parameter or token | what moves it |
# |---|---|---|
# | weights | 4, 2, or 0.52 | QLoRA, ZeRO-3 |
# | gradients and optimizer | 12 for each *trained* one | LoRA, 8-bit, ZeRO |
# | activations | grow with tokens | checkpointing, batch, length |
# | logits | tokens × vocabulary | labelled rows only, chunks |
#
# The peak is one moment, not a sum. Next: [10](10_quantization_and_qlora.ipynb) squeezes the
# weights, [11](11_activations_and_checkpointing.ipynb) the activations.
