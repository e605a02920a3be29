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
# **Claim: mixed precision trains in 16 bits, and Adam doubles the memory, so a 7B model of 13.5 GB
# trains in 27 GB. LoRA then removes nearly everything else.** Each part could be wrong. After this
# lesson you can
#
# - write down the memory of a training step, part by part, for any model;
# - say when the peak is reached, and choose the change that lowers it;
# - predict the longest sequence that fits.
#
# *Needs [01](01_full_fine_tuning.ipynb) and [02](02_lora.ipynb). About 45 minutes; the code runs in
# about one minute on two CPU cores.*

# %%
import torch

import ftkit as ft
from ftkit.inside import GPUS, Calculator, Meter, charts, is_fetched, measure
from ftkit.teaching import working

ft.setup(seed=0)

# %% [markdown]
# ## Your job in this lesson
#
# You have one GPU with 24 GB and want to fine-tune a model of 7 to 8 billion parameters. Your first run ends with *CUDA
# out of memory*. "Fourteen gigabytes of weights, times two for Adam" is a common answer to the question how much it
# takes. What does it leave out, and what do you change first?
#
# ## The idea in one picture
#
# The memory of a step has two kinds of parts. **Model states** are there in every step: weights,
# gradients, and what the optimizer stores. They grow with the number of parameters. **Activations** are
# the intermediate results that the backward pass needs. **Logits** are the scores for every token of the
# vocabulary. Both grow with the number of tokens in the batch. The **peak** is the largest total at any
# moment of the step; it decides whether a run fits.

# %% [markdown]
# ![Memory during one training step, drawn as stacked areas over time. Weights and optimizer state are flat. Activations grow during the forward pass and shrink during the backward pass, while gradients grow. Logits form a spike between the two. One mark shows the peak of a long batch at the end of the forward pass, another the peak of a short batch at the end of the backward pass.](figures/09_memory_of_a_step.svg)

# %% [markdown]
# ## Model states, counted
# <!-- claims: C3 C6 -->
#
# AdamW stores two values for each trained weight: a running mean of its gradients and a running mean of
# their squares, its two **moments**. Take one step with the embedded model and add up the tensors.

# %%
model, tokenizer = ft.load("tiny")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
ids = torch.tensor([[1, 5, 7, 9] * 32])
model(input_ids=ids, labels=ids).loss.backward()
optimizer.step()

# %%
weights = list(model.parameters())
gradients = [weight.grad for weight in weights]
moments = []
for state in optimizer.state.values():
    moments += [state["exp_avg"], state["exp_avg_sq"]]
count = sum(weight.numel() for weight in weights)
kinds = {"weights": weights, "gradients": gradients, "AdamW's two moments": moments}
ft.table([{"part": kind, "bytes per parameter": sum(t.nbytes for t in tensors) / count}
          for kind, tensors in kinds.items()])

# %% [markdown]
# A value in fp32 takes 4 bytes: 4 + 4 + 8 = 16 bytes per parameter, before any activation. A **frozen**
# weight gets no gradient and no moments. It only has to be read, so on a GPU it is usually stored in 16
# bits (2 bytes). For a **mixture of experts** (each token uses a few of many MLPs, the experts) *all* experts count:
# Qwen3-30B-A3B computes with 3.3 of its 30.5 billion parameters for a token, but its weights take 61 GB in bf16.
#
# ## Your turn: the bytes of the states
#
# What is in memory for a frozen and for a trained parameter? `optimizer` is `"adamw"`, `"adamw_8bit"` (two moments of
# one byte each) or `"sgd"` (no momentum, so it stores nothing). `ft.hint("state_bytes")` helps.


# %% tags=["raises-exception"]
def state_bytes(frozen, trained, frozen_bytes=2, optimizer="adamw"):
    """Bytes of `frozen` frozen parameters of `frozen_bytes` bytes each and `trained` ones in fp32."""
    ...


ft.check("state_bytes", state_bytes)

# %% [markdown]
# <!-- claims: C53 -->
# Does **mixed precision** change this? It computes in 16 bits (bf16) and updates in fp32. *Autocast* keeps
# fp32 weights and makes 16-bit copies of them for each matrix multiplication. The classic recipe keeps the
# weights twice: 2 (weights to compute with) + 2 (gradients) + 4 (fp32 **master copy**, which the optimizer
# updates) + 8 (moments). `ft.memory` counts the states of Llama 2 7B, 6.74 billion parameters, without
# loading weights.

# %%
first_guess = ft.predict("From fp32 to mixed precision, the model states of AdamW training ...",
                         "are halved", "stay the same", "grow by half")
first_guess

# %%
LLAMA = "meta-llama/Llama-2-7b"
state_bytes = working("state_bytes", state_bytes)  # ours until yours is right
states = {"by your function": state_bytes(0, 6_738_415_616) / 1e9}
for precision in ("fp32", "bf16", "pure-bf16"):
    found = ft.memory(model=LLAMA, precision=precision, batch_size=1, max_length=512, device="cuda")
    states[precision] = found.total_states / 1e9
ft.table([{"precision": name, "model states, GB": size} for name, size in states.items()])

# %%
ratio = states["bf16"] / states["fp32"]
first_guess.score("are halved" if ratio < 0.75 else "grow by half" if ratio > 1.25
                  else "stay the same")

# %% [markdown]
# The row bf16 is autocast, with fp32 weights. Both recipes take 16 bytes per parameter. What gets smaller are the activations. Of
# these three only pure bf16, with weights, gradients and moments all in 16 bits, halves the states; [lesson
# 12](12_floating_point.ipynb) shows what it costs in accuracy.
#
# So the first half of the claim is wrong by a factor of four: full fine-tuning of the 7B starts at 108 GB, not
# at 27. The common answer leaves out gradients, the second moment, fp32, activations and logits.

# %% [markdown]
# ## Activations and logits on paper
#
# A transformer layer stores about **34 bytes per token and hidden unit** for the backward pass:
# [Korthikanti et al. 2022](https://arxiv.org/abs/2205.05198) counted this for a GPT layer in 16 bits, with
# attention scores not stored (FlashAttention, [11](11_activations_and_checkpointing.ipynb)). The logits are
# often in fp32, and their gradient has the same size: at least 4 + 4 bytes for each entry of the vocabulary.
#
# ## Your turn: the bytes of a token
#
# By these two estimates, for **one** token. What does each of the three sizes multiply, and what not?


# %% tags=["raises-exception"]
def token_bytes(hidden, layers, vocabulary):
    """(activations, logits) in bytes."""
    ...


ft.check("token_bytes", token_bytes)

# %% [markdown]
# For a batch of 4 × 2,048 tokens this gives:

# %%
shapes = {"Llama 2 7B": (4096, 32, 32_000), "Llama 3.1 8B": (4096, 32, 128_256),
          "Qwen3 8B": (4096, 36, 151_936)}
token_bytes = working("token_bytes", token_bytes)
rows = []
for name, shape in shapes.items():
    activations, logits = (4 * 2048 * part / 1e9 for part in token_bytes(*shape))
    rows.append({"model": name, "activations, GB": activations, "logits, GB": logits})
ft.table(rows)

# %% [markdown]
# With a vocabulary of 32,000 the logits were a detail. With one of 150,000 they fill 10 GB. This is why trainers such as
# TRL's compute the loss **in chunks**: the logits of a few rows at a time, so the full
# matrix never exists.
#
# ## Trace instead of estimating
# <!-- claims: C11 · E08 -->
#
# Estimates miss what an architecture really stores. A **trace** runs one real training step on tensors that
# have a shape but no memory, and notes when each is created and freed. All peaks of 7B and 8B models on this
# page come from `ft.memory`'s trace, which it calls the *simulation*.

# %%
second_guess = ft.predict(
    "7B with LoRA, a base in bf16, 4 × 2,048 tokens: the largest part at the peak is ...",
    "weights", "gradients", "optimizer", "activations")
second_guess

# %%
batch = {"model": LLAMA, "batch_size": 4, "max_length": 2048, "precision": "bf16",
         "gradient_checkpointing": False, "device": "cuda"}
traced = {"full": ft.memory(method="full", **batch), "LoRA": ft.memory(method="lora", **batch)}
traced["QLoRA"] = ft.memory(method="qlora", **batch)
traced["LoRA, checkpointed"] = ft.memory(method="lora", **batch | {"gradient_checkpointing": True})
charts.compared(traced)

# %%
at_peak = traced["LoRA"].at_peak
parts = {"weights": at_peak["weights"], "gradients": at_peak.get("gradients", 0),
         "optimizer": at_peak["optimizer"], "activations": at_peak["activations"]}
second_guess.score(max(parts, key=parts.get))

# %% [markdown]
# The dashed lines are what common GPUs leave to a run. The traced loss is computed in chunks, so the logits
# are too small to see. *full* peaks at the end of the forward pass: gradients are still missing, autocast's 16-bit
# copies are there.
#
# LoRA removes nearly all gradients and optimizer states, and a frozen base in bf16 halves the weights.
# **QLoRA** stores the base in about 4 bits ([lesson 10](10_quantization_and_qlora.ipynb)). But most
# activations stay, because the gradient must pass through every frozen layer to reach the adapters.
# So the claim's second half is wrong too: about four fifths of LoRA's peak are activations, and nearly all the rest is
# the base. **Gradient checkpointing** stores only the input of each layer and recomputes the rest
# ([lesson 11](11_activations_and_checkpointing.ipynb)).
#
# How far was the estimate on paper from the trace? With checkpointing it counts each layer's input and one
# whole layer. `largest` is the most that a part takes at any moment.

# %%
on_paper = 34 * 4 * 2048 * 4096  # bytes of one layer: 34 s b h, without attention scores
rows = []
for name, found in traced.items():
    layers = 32 * on_paper
    if found.config.gradient_checkpointing:  # the 16-bit input of each layer, and one whole layer
        layers = 32 * 2 * 4 * 2048 * 4096 + on_paper
    rows.append({"run": name, "activations on paper, GB": layers / 1e9,
                 "activations traced": found.largest["activations"] / 1e9})
ft.table(rows)

# %% [markdown]
# It is clearly too low. A layer of Llama 2 stores about **50 bytes with LoRA and 57 with full fine-tuning** per token and
# hidden unit, not 34: its MLP has wider intermediate results, and autocast keeps some tensors in fp32. **Compute the
# states on paper; take the rest from a trace or a measurement.**

# %% [markdown]
# ## Is the trace right?
#
# `measure=True` takes a real step on this machine and counts every tensor while it lives. On a CPU, ftkit
# keeps LoRA's frozen base in fp32, unless you give `base_dtype="bf16"`. Here *bf16* is autocast.

# %%
settings = {"full, fp32": {"method": "full", "precision": "fp32"},
            "LoRA, bf16": {"method": "lora", "precision": "bf16"},
            "QLoRA, bf16, checkpointed": {"method": "qlora", "precision": "bf16",
                                          "gradient_checkpointing": True}}
rows, errors = [], []
for name, setting in settings.items():
    found = ft.memory(model="tiny", batch_size=4, max_length=128, measure=True, **setting)
    errors.append(abs(found.peak / found.measurement - 1))
    rows.append({"run": name, "predicted, bytes": found.peak,
                 "measured, bytes": found.measurement})
ft.expect(max(errors), "<", 0.002, "largest error of the predicted peak, as a fraction")
ft.table(rows)

# %% [markdown]
# (`docs/measurements/MEMORY.md` compares 88 configurations with what torch itself records.) A GPU needs more than the tensors: the CUDA context, scratch space of kernels, and memory that the
# allocator holds in pieces. Plan with 5 to 10 % to spare, and measure.

# %% [markdown]
# ## When is the peak?
#
# Gradients grow while activations are freed. So the peak is one moment, not the sum of all parts. Here is
# a measured step of the embedded model with a short and a long batch.

# %%
config = ft.Config(precision="fp32")
steps = {"32 tokens": measure.step("tiny", config, [32]),
         "1,024 tokens": measure.step("tiny", config, [128] * 8)}
charts.along(steps)

# %% [markdown]
# The dashed line is the end of the forward pass. The long batch peaks there, with all activations, the logits
# and no gradient yet. The short batch peaks late, when all gradients exist. (*Other* is what the backward pass and the
# update create in passing.) With **gradient accumulation** the gradients of earlier batches stay and add to the peak.
#
# ## Which change helps most?
# <!-- claims: C96 -->
#
# Take the LoRA run above. You may change one thing. An **8-bit optimizer** stores AdamW's moments in one byte each.

# %%
eight_bit = ft.memory(method="lora", optim="adamw_bnb_8bit", **batch)
small = ft.memory(method="lora", **batch | {"batch_size": 1, "gradient_accumulation_steps": 4})
peaks = {"an 8-bit optimizer": eight_bit.peak / 1e9,
         "a base in 4 bits (QLoRA)": traced["QLoRA"].peak / 1e9,
         "a batch of 1, accumulated 4 times": small.peak / 1e9,
         "gradient checkpointing": traced["LoRA, checkpointed"].peak / 1e9}
ft.expect(peaks["gradient checkpointing"], "<", traced["LoRA"].peak / 1e9,
          "checkpointing: less than half of the peak, GB", times=0.5)
ft.table([{"change": change, "peak, GB": peak} for change, peak in peaks.items()])

# %% [markdown]
# Find the largest part first, then choose the change that acts on it. With LoRA the optimizer is already small, so an
# 8-bit one saves next to nothing. In *full* fine-tuning it saves 6 bytes of 16.
#
# ## Your turn: the longest sequence that fits
#
# With FlashAttention, the peak of long batches is nearly a straight line in the tokens. So two traces predict
# others. Which part of the peak does not grow?


# %% tags=["raises-exception"]
def longest(budget, short, long):
    """The largest whole number of tokens whose peak is at most `budget` bytes, on the line through
    `short` and `long`, which are pairs (tokens, peak_bytes)."""
    ...


ft.check("longest", longest)

# %% [markdown]
# Here your function predicts for your GPU: LoRA with checkpointing on Qwen3 8B. One more trace tests it.

# %%
longest = working("longest", longest)


def peak_of(tokens):
    return ft.memory(model="Qwen/Qwen3-8B", method="lora", precision="bf16", batch_size=1,
                     max_length=tokens, gradient_checkpointing=True, device="cuda").peak


budget = GPUS["RTX 4090 24GB"].usable
fits = longest(budget, (2048, peak_of(2048)), (4096, peak_of(4096)))
ft.expect(peak_of(fits) / budget, "==", 1, "peak at the predicted length, over the budget",
          within=0.02)
print(f"budget {budget / 1e9:.1f} GB; longest sequence {fits:,} tokens")

# %% [markdown]
# This counts on a loss in chunks. Full fp32 logits with their gradient take 8 · 151,936 bytes, 1.2 MB more a token.

# %% [markdown]
# ## Sizes that people quote
# <!-- claims: C10 -->
#
# "GPT-3 175B needs 1.2 TB for full fine-tuning." The LoRA paper reports this figure without its parts. It is
# 6.9 bytes per parameter, and no recipe above gives it: everything in 16 bits takes 8. AdamW in mixed precision
# needs 175e9 × 16 = 2.8 TB of states.
#
# **GB and GiB.** 1 GiB is 2³⁰ bytes, 7 % more than 1 GB (10⁹ bytes). An "80 GB" A100 or H100 has about 80 GiB.

# %% [markdown]
# ## Break it
#
# Two mistakes fill memory without an error message. First: losses are kept in a list. The counter shows what is still
# alive, in MB. The model itself takes 9.4 MB.

# %%
leak = ft.predict("Which form keeps growing with the steps?", "loss", "loss after backward()", "loss.item()")
leak

# %%
def alive_after(steps, keep):
    kept, model = [], ft.load("tiny")[0]
    with Meter(model) as meter:
        for _ in range(steps):
            kept.append(keep(model(input_ids=ids, labels=ids).loss))
        return meter.total / 1e6


def after_backward(loss):
    loss.backward()
    return loss


kinds = {"loss": lambda loss: loss, "loss after backward()": after_backward,
         "loss.item()": lambda loss: loss.item()}
alive = {name: {f"{n} steps": alive_after(n, keep) for n in (1, 2, 4)} for name, keep in kinds.items()}
ft.table([{"kept in the list": name} | sizes for name, sizes in alive.items()])

# %%
leak.score(max(kinds, key=lambda name: alive[name]["4 steps"] - alive[name]["1 steps"]))

# %% [markdown]
# Until `backward()`, a loss holds all activations of its step. `backward()` frees them; what is left are the model's
# gradients, once. So the leak hits evaluation without `torch.no_grad()`. Keep `loss.item()`.
#
# Second: a frozen base that was loaded in fp32 by accident.

# %%
wide = ft.memory(method="lora", base_dtype="fp32", **batch)
ft.table([{"base": "bf16", "peak, GB": traced["LoRA"].peak / 1e9},
          {"base": "fp32", "peak, GB": wide.peak / 1e9}])

# %% [markdown]
# The weights double, and autocast adds a 16-bit copy of each. TRL 1.16 loads a model given by its name in fp32,
# unless `model_init_kwargs` has a `dtype`. For full fine-tuning keep fp32: on one GPU,
# weights in bf16 would make it pure bf16.

# %% [markdown]
# ## At 135M
#
# No box At 135M: bytes are counted and not learned, so no run was recorded. If SmolLM2 is here, its step is measured.

# %%
if is_fetched("smollm2"):
    real = ft.memory(model="smollm2", method="lora", precision="bf16", batch_size=2,
                     max_length=128, measure=True)
    ft.expect(abs(real.peak / real.measurement - 1), "<", 0.002, "SmolLM2, LoRA: error of the trace")
    print(real.summary())

# %% [markdown]
# ## In practice, 2026
#
# A configuration for your GPU of 24 GB, with a look at the memory. It is LoRA with checkpointing at 4,096 tokens:
#
# ```python
# import torch
# from datasets import load_dataset
# from peft import LoraConfig
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-8B"
# # train.jsonl: {"messages": [{"role": "user", "content": "..."},
# #                            {"role": "assistant", "content": "..."}]}
# config = SFTConfig(
#     output_dir="out", assistant_only_loss=True, bf16=True, max_length=4096,
#     learning_rate=2e-4, num_train_epochs=1,
#     per_device_train_batch_size=1, gradient_accumulation_steps=16,
#     gradient_checkpointing=True, per_device_eval_batch_size=1,
#     max_steps=5,  # a few steps for the record; remove it for the real run
#     model_init_kwargs={"dtype": "bfloat16"})
# trainer = SFTTrainer(
#     model_id, args=config,
#     peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
#     train_dataset=load_dataset("json", data_files="train.jsonl", split="train"))
# if torch.cuda.is_available():
#     torch.cuda.memory._record_memory_history(max_entries=100_000)
# trainer.train()
# if torch.cuda.is_available():
#     print(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
#     torch.cuda.memory._dump_snapshot("snapshot.pickle")  # open it at pytorch.org/memory_viz
# ```
#
# What each change saves and costs, and how to read the numbers of a GPU, is on the
# [reference page](reference/09_where_the_memory_goes.md).

# %% [markdown]
# ## What if?
#
# The controls change an estimate; *Trace the step* tests it. What is the longest text that QLoRA can train a 7B
# model on with your 24 GB, with checkpointing? Find it to within a factor of two, and say which part is the largest then.
# (A GPU that is named fits by bytes alone.)

# %%
Calculator(LLAMA, method="qlora", max_length=1024)

# %% [markdown]
# <details><summary>Answer</summary>
# About 35,000 tokens by the trace, more than ten times as many as without checkpointing. (Llama 2 itself reads only
# 4,096.) Activations are the largest part then.
# </details>
#
# ## Interview
#
# **A LoRA run on a 7B at 4 × 2,048 tokens is out of memory. What do you change?**
# <details><summary>Answer</summary>
# Ask what is largest. The bf16 base is 13.5 GB and the adapter's states (r = 16) below 1 GB, so activations
# and logits are the rest. Switch on gradient checkpointing, use a chunked loss and FlashAttention, then a
# smaller batch with accumulation. Check that the base is not in fp32.
# </details>
#
# **Does mixed precision halve the memory?**
# <details><summary>Answer</summary>
# Not the states: they stay at 16 bytes per parameter with AdamW. It makes activations smaller and matrix
# multiplications faster. Pure bf16 halves the states, at a cost in accuracy.
# </details>
#
# More answers are on the [reference page](reference/09_where_the_memory_goes.md).
#
# ## Recap
#
# | part | bytes | what changes it |
# |---|---|---|
# | frozen weights | 4, 2 or about 0.5 each | dtype, QLoRA |
# | trained weights, gradients, moments | 16 together, with AdamW | LoRA, 8-bit moments, ZeRO |
# | activations | grow with tokens and layers | checkpointing, batch, length |
# | logits | tokens × vocabulary | chunked or fused loss |
#
# The peak is one moment. Compute states on paper; trace or measure the rest. Next:
# [10](10_quantization_and_qlora.ipynb) shrinks the weights,
# [11](11_activations_and_checkpointing.ipynb) the activations.

# %%
ft.progress("09")
