# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · Quantization and QLoRA
#
# **Claim: four bits are enough for frozen weights: the model is an eighth as large, learns as well,
# and the adapter merges back without loss.** It has three parts, and none holds as it stands. After
# this lesson you can
#
# - quantize a matrix to NF4 by hand, bit for bit as bitsandbytes does;
# - count what a weight really costs: not half a byte;
# - train on a quantized base, and merge in the one order that keeps what was trained.
#
# *About 30 minutes. The code needs a minute on two CPU cores. Needs [02](02_lora.ipynb); leads
# to [11](11_activations_and_checkpointing.ipynb) and [12](12_floating_point.ipynb).*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"How can a model of 65 billion parameters be fine-tuned on one card of 48 GB, and what exactly
# > do you ship afterwards?"*
#
# "It trains in 4 bits" is the usual answer, and it is not what happens. Let us build the format.
#
# ## Sixteen numbers
#
# <!-- claims: C45 · E25 -->
# Four bits can name 16 values, a **code book**. Weights look like a normal distribution, so let
# each value stand for an equal share of one: take quantiles, 7 below zero, 8 above, and an exact
# zero.

# %%
from statistics import NormalDist

import torch

quantile = NormalDist().inv_cdf
above = [quantile(p) for p in torch.linspace(0.9677083, 0.5, 9)[:-1].tolist()]
below = [-quantile(p) for p in torch.linspace(0.9677083, 0.5, 8)[:-1].tolist()]
levels = torch.tensor([*below, 0.0, *above]).sort().values
levels = levels / levels.max()
levels

# %% [markdown]
# This is **NF4**, "4-bit NormalFloat" ([Dettmers et al. 2023](https://arxiv.org/abs/2305.14314)).
# bitsandbytes has the table in its source. Ours must be the same, to the last bit.

# %%
from ftkit.lessons.by_hand import nf4

model, tokenizer = ft.load("tiny")
import bitsandbytes.functional as bnb

assert torch.equal(levels, bnb.get_4bit_type("nf4", device="cpu"))
W = model.model.layers[0].mlp.up_proj.weight.detach()
nf4.draw(W, levels)

# %% [markdown]
# ## A matrix
#
# The code book ends at ±1. So every **block** of 64 neighbors gets a **scale**, its largest
# absolute value; each weight is divided by it and replaced by the nearest level. Two codes share a
# byte.

# %%
rows = W.reshape(-1, 64)
scales = rows.abs().amax(1)
shares = rows * (1 / scales)[:, None]
codes = torch.bucketize(shares.flatten(), (levels[1:] + levels[:-1]) / 2)
packed = (codes[::2] << 4 | codes[1::2]).to(torch.uint8)

theirs, state = bnb.quantize_4bit(W, quant_type="nf4")
assert torch.equal(packed, theirs.flatten()) and torch.equal(scales, state.absmax)
back = (levels[codes].view(-1, 64) * scales[:, None]).view(W.shape)
assert torch.equal(back, bnb.dequantize_4bit(theirs, state))

# %% [markdown]
# Bit for bit. In the package that is `quant.quantize` and `quant.dequantize`.
#
# Was it worth choosing quantiles? Compare with 15 even levels (INT4) and 4-bit floating point
# (FP4), on a million weights drawn from a normal distribution.

# %%
guess = ft.predict("The error of rounding to NF4, as a share of the weights' size, is about ...",
                   "0.1 %", "1 %", "10 %", guess=...)
guess

# %%
normal = torch.randn(2**20, generator=torch.Generator().manual_seed(0))
books = {"NF4": nf4.nf4(), "INT4": nf4.int4(), "FP4": nf4.fp4()}
error = {name: nf4.error(normal, book) for name, book in books.items()}
ft.expect(error["NF4"], "<", error["INT4"], "quantiles beat even levels")
ft.expect(error["INT4"], "<", error["FP4"], "and even levels beat 4-bit floats")
guess.score("10 %" if error["NF4"] > 0.03 else "1 %" if error["NF4"] > 0.003 else "0.1 %")

# %% [markdown]
# The noise is nearly a tenth of the weights' size, even so. What decides it is the scale. Larger
# blocks, or one weight thirty times as large in every block:

# %%
outlier = normal.clone()
outlier[::64] *= 30
cases = {"block 32": (normal, 32), "block 64": (normal, 64), "block 4096": (normal, 4096),
         "block 64, an outlier in each": (outlier, 64)}
small = {name: nf4.error(w, None, block) for name, (w, block) in cases.items()}
rest = outlier.view(-1, 64)[:, 1:]
made = nf4.dequantize(nf4.quantize(outlier)).view(-1, 64)[:, 1:]
small["the 63 others beside an outlier"] = float((made - rest).norm() / rest.norm())
small

# %% [markdown]
# The outlier itself is kept well; its 63 neighbors are ruined. That is why there are scales for
# blocks, and why outliers are the enemy of quantization.
#
# ## How many bits?
#
# Half a byte each, one reads. But the scales are stored as well: 32 bits for 64 weights. So QLoRA
# quantizes the *scales* too (**double quantization**): 8 bits each, and one fp32 for 256 of them.

# %%
once = nf4.quantize(torch.randn(4096, 4096))
twice = nf4.double(once)
ft.expect(once.bits, "==", 4 + 32 / 64, "one fp32 scale for 64 weights")
ft.expect(abs(twice.bits - (4 + 8 / 64 + 32 / (64 * 256))), "<", 0.001, "4.127 bits in all")
theirs, state = bnb.quantize_4bit(W, quant_type="nf4", compress_statistics=True)
assert torch.equal(nf4.dequantize(nf4.double(nf4.quantize(W))),
                   bnb.dequantize_4bit(theirs, state))
once.bits, twice.bits

# %% [markdown]
# Saved: 0.373 bits a weight, 3 GB at 65 billion weights. And only linear layers are
# quantized; embeddings, head and norms stay in 16 bits. Llama 2 7B has 6.476 billion weights in
# linear layers and 0.2624 billion elsewhere:

# %%
linear, other = 6_476_005_376, 262_410_240
sevenB = (linear * twice.bits / 8 + other * 2) / 1e9
sizes = {"NF4": sevenB, "half a byte each": (linear + other) / 2e9,
         "bf16": (linear + other) * 2 / 1e9, "fp32": (linear + other) * 4 / 1e9}
ft.table([{"Llama 2 7B": name, "GB": gb, "times NF4": gb / sevenB} for name, gb in sizes.items()])

# %% [markdown]
# A seventh of fp32 and more than a quarter of bf16: not an eighth.
#
# ## A model in four bits
#
# `ft.load(..., quantize=True)` lets transformers and bitsandbytes do it. Count from the tensors.

# %%
four, _ = ft.load("tiny", quantize=True)
held = nf4.stored(four)
ft.expect(abs(held["bits"] - 4.127), "<", 0.002, "bits per weight, from the tensors themselves")
held

# %% [markdown]
# `tiny` is small, so its embedding, which is not quantized, is larger than all of this. And what is
# computed in 4 bits? Nothing:

# %%
layer = next(iter(nf4.linears(four).values()))
layer.compute_dtype = torch.float32
x = torch.randn(5, layer.in_features)
assert torch.allclose(layer(x), x @ nf4.dequantized(layer).T, atol=1e-5)

# %% [markdown]
# Stored in 4 bits, dequantized for each product, dropped again. That saves memory and *costs* time.
#
# ## QLoRA against LoRA
#
# <!-- claims: C46 · E26 -->
# The base is frozen and rounded; LoRA matrices in fp32 are trained on top, and learn to live with
# the rounding. Same records, rate and seeds.

# %%
SEEDS = (0, 1, 2)
lab = ft.Experiment(model="tiny", data=ft.records("tasks")[:640], val="tasks", eval_records=48)
base = ft.Config(learning_rate=3e-3, max_steps=40, eval_steps=40)
behind = ft.predict("40 steps take LoRA's val_loss from 9.4 to below 1. QLoRA ends ...",
                    "within 0.2 of it", "0.2 to 1 above", "further above", guess=...)
behind

# %%
lora = lab.sweep(base.but(method="lora"), seed=SEEDS)
qlora = lab.sweep(base.but(method="qlora"), seed=SEEDS)
loss = {"LoRA": [run.after["val_loss"] for run in lora],
        "QLoRA": [run.after["val_loss"] for run in qlora]}
ft.expect(qlora[0].before["general_loss"], ">", lora[0].before["general_loss"],
          "rounding the base costs something before training")
ft.expect(loss["QLoRA"], "<", loss["LoRA"], "QLoRA ends at most 0.2 higher", by=-0.2)

# %%
before = {"LoRA": lora[0].before["val_loss"], "QLoRA": qlora[0].before["val_loss"]}
gaps = [q - plain for q, plain in zip(loss["QLoRA"], loss["LoRA"])]
ft.table([{"method": name, "val_loss before": before[name], "after": losses}
          for name, losses in loss.items()]
         + [{"method": "QLoRA − LoRA, seed by seed", "after": gaps}])

# %%
behind.score("within 0.2 of it" if max(gaps) < 0.2 else "0.2 to 1 above")

# %% [markdown]
# Rounding costs a hundredth of a nat on general text before training. After it QLoRA is a few
# hundredths behind; both learned more than eight. Does the gap close with `max_steps=60`? The paper
# found none from 7B to 65B, trained longer.
#
# ## Merge, but into what?
#
# A merged model is faster and simpler. There are three ways. Add the update to the **original**
# weights; to the **dequantized** ones it was trained against; or do that and round to NF4 again
# (**requantized**, which is what `merge_and_unload` does on a 4-bit model). In code they are
# spelled with a z.

# %%
order = ft.predict("Which merged model is furthest from the trained one?",
                   "original", "dequantized", "requantized", guess=...)
order

# %%
import random

chosen = sorted(random.Random(0).sample(range(len(lab.val)), 48))  # those that val_loss is of
validation = [ft.encode(lab.val[i], tokenizer) for i in chosen]
apart = {into: [] for into in nf4.MERGES}
merged_loss = {into: [] for into in nf4.MERGES}
for run in qlora:
    for linear in nf4.linears(run.model).values():
        linear.compute_dtype = torch.float32  # so that only the merge makes a difference
    for into in nf4.MERGES:
        merged = nf4.merge(run.model, model, into)
        apart[into].append(nf4.kl(run.model, merged, validation))
        merged_loss[into].append(ft.loss_on(merged, validation))
ft.table([{"merged into": into, "KL from the trained model, nats": apart[into],
           "val_loss": merged_loss[into]} for into in nf4.MERGES])

# %%
ft.expect(max(apart["dequantized"]), "<", 1e-6, "into the dequantized base: what was trained")
ft.expect(apart["original"], ">", apart["dequantized"], "the original is another model")
ft.expect(apart["requantized"], ">", apart["original"], "rounding again is worst")
order.score(max(apart, key=lambda into: sum(apart[into])))

# %% [markdown]
# KL is the distance between two predictions; look at `val_loss` for what it means here. An update
# that is smaller than the rounding is simply rounded away. So: "merging is lossless" is true of one
# order in three. Ship the dequantized merge in 16 bits, or the adapter beside the 4-bit base.
#
# ## Break it
#
# On CPUs with bf16 instructions, bitsandbytes repacks its weights in the first *evaluation*, for a
# kernel that has no backward pass. `ft` forbids that. Allow it, evaluate once, and look at the
# gradient.

# %%
from bitsandbytes.functional import has_avx512bf16

from ftkit.data.encoding import collate
from ftkit.model import loading

batch = collate([ft.encode(record, tokenizer) for record in lab.train[:8]], 0)


def gradient(repack):
    fresh = ft.load("tiny", quantize=True)[0]
    for linear in nf4.linears(fresh).values():
        linear.support_avx512bf16_for_cpu = repack
    fresh = loading.adapt(fresh, ft.Config(method="lora"))
    for name, p in fresh.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.02)  # as if trained: no longer zero
    ft.loss_on(fresh, validation[:8])
    fresh.train()(**batch).loss.backward()
    return torch.cat([p.grad.flatten() for p in fresh.parameters() if p.grad is not None])


# %%
torch.manual_seed(0)
good = gradient(False)
torch.manual_seed(0)
bad = gradient(True) if has_avx512bf16() else good
cosine = torch.cosine_similarity(good, bad, dim=0).item()
ft.expect(cosine, "<", 0.9 if has_avx512bf16() else 1.1, "repacked: another gradient")
cosine

# %% [markdown]
# 1 would be the same direction; it is 1 where the CPU lacks the instruction. No error is raised;
# torch's warning is one line in the log of a long run. Compare gradients with those of the
# dequantized model when you build on a new kernel: `tests/lessons/test_nf4.py` does.
#
# ## 65 billion on 48 GB
#
# <!-- claims: C47 · E08 -->
# Trace one step of the real thing, without its memory: r = 64 on all linear layers, checkpointing,
# batch 1, 512 tokens, as in the paper.

# %%
big = ft.memory(model="huggyllama/llama-65b", method="qlora", r=64, batch_size=1, max_length=512,
                gradient_checkpointing=True, precision="bf16", device="cuda")
ft.expect(big.peak / 2**30, "<", 48, "GiB: one step of 65B fits a card of 48")
big

# %% [markdown]
# The 37.7 GB of weights are 33.4 in NF4, 3.2 of adapters in fp32, and 1.1 of embeddings and head in
# 16 bits (`prepare_model_for_kbit_training` of peft would raise these to fp32). And fully fine-tuned, in 16-bit weights and gradients with fp32
# AdamW, as the paper counts:

# %%
{"full, states alone, GB": 12 * (big.parameters - big.trainable) / 1e9,
 "QLoRA, peak, GB": big.peak / 1e9, "left on 48 GiB, GB": (48 * 2**30 - big.peak) / 1e9}

# %% [markdown]
# It is tight, and CUDA's own needs come out of what is left. Raise `batch_size` or `max_length`
# above and run it again: when is the card full? Where a step spikes over that, QLoRA's third idea
# helps, beside NF4 and double quantization: **paged optimizers** keep their states in memory that
# CUDA moves to the host while the card is full (`optim="paged_adamw_8bit"`).
#
# ## A real model
#
# Trained weights are not quite normal. The error of SmolLM2's own matrices, and what the whole
# model costs once its embedding stays in 16 bits:

# %%

if download.has("smollm2"):
    smol, _ = ft.load("smollm2")
    matrices = [p.detach() for name, p in smol.named_parameters() if "proj" in name][:7]
    linear = sum(p.numel() for name, p in smol.named_parameters() if "proj" in name)
    whole = (linear * twice.bits + (smol.num_parameters() - linear) * 16) / smol.num_parameters()
    print([round(nf4.error(w), 3) for w in matrices], f"{whole:.2f} bits a weight in all")

# %% [markdown]
# ## What if?
#
# Fewer levels, larger blocks, real weights: when does the noise double?

# %%
block, book = 256, nf4.nf4()[[0, 2, 4, 7, 9, 11, 13, 15]]  # every second level: 3 bits
what_if = {"3 bits": nf4.error(W, book, block), "NF4": nf4.error(W)}
what_if

# %% [markdown]
# ## Exercises
#
# **1.** One block through 4 bits and back: scale by the largest absolute value, take the nearest
# level, scale back. `values` and `levels` are 1-D tensors, a block may be all zeros.


# %% tags=["raises-exception"]
def round_trip(values, levels):
    ...


ft.check("round_trip", round_trip)


# %% [markdown]
# **2.** Bits per weight, when `block` weights share a scale of 32 bits; with `double`, a scale of 8
# bits, and 256 scales share one of 32.


# %% tags=["raises-exception"]
def bits_per_weight(block, double):
    ...


ft.check("bits_per_weight", bits_per_weight)


# %% [markdown]
# **3.** Gigabytes (1e9) of a QLoRA model's frozen weights: `linear` parameters in NF4 with double
# quantization, the `other` ones in bf16.


# %% tags=["raises-exception"]
def frozen_gigabytes(linear, other):
    ...


ft.check("frozen_gigabytes", frozen_gigabytes)

# %% [markdown]
# ## Interview
#
# **Bytes per parameter for NF4 with double quantization?**
# <details><summary>Answer</summary>
# 4 + 8/64 + 32/(64·256) = 4.127 bits, 0.516 bytes; without double quantization 4.5 bits. Only
# linear layers: Llama 2 7B is 3.341 GB plus 0.525 in bf16 = 3.87 GB. We measured 4.127 from the
# tensors.
# </details>
#
# **How do you merge a QLoRA adapter?**
# <details><summary>Answer</summary>
# Into the dequantized base, in 16 bits or more: that is the model that was trained (KL below 1e-6
# here). Into the original weights it is another model; rounded to NF4 again, the update can drown:
# the KL was largest in all 3 seeds. Compare KL before shipping.
# </details>

# %% [markdown]
# **Why does 65B fit on 48 GB?**
# <details><summary>Answer</summary>
# 64.8e9 × 4.127 bits = 33.4 GB in NF4, 1.1 of embeddings and head in 16 bits, 3.2 of adapters (about 1
# %) with gradients and optimizer in fp32, checkpointed activations. The trace of one step adds it
# up to 47.9 GB (44.6 GiB) for batch 1, 512 tokens: a 48 GiB card is nearly full, and long contexts
# do not fit.
# </details>
#
# **Does QLoRA train in 4-bit arithmetic?**
# <details><summary>Answer</summary>
# No. 4 bits are storage. Each layer is dequantized to bf16 for its product, forward and backward,
# and the adapters are trained in 16 or 32 bits. So it saves memory (0.516 bytes a weight, not 2)
# and costs time.
# </details>
#
# **NF4, LLM.int8(), GPTQ, AWQ: what differs?**
# <details><summary>Answer</summary>
# NF4 needs no data: any base is rounded as it is loaded, so it suits training adapters. LLM.int8()
# takes 8 bits and computes the columns of outliers in 16 (the table above shows what they do to a
# block). GPTQ and AWQ look at activations on some calibration text to choose how to round or scale:
# slower to make, usually more accurate at the same bits, and meant for serving.
# </details>
#
# ## Recap
#
# - NF4: 16 quantiles, a scale for 64 weights, scales quantized again: 4.127 bits, linear layers only.
# - About 9 % rounding noise in the weights, and QLoRA learns nearly as well as LoRA on top of it.
# - Merge into what was trained against. Evaluate the merged model, not the one before.
#
# In the package: [`ftkit/lessons/by_hand/nf4.py`](../ftkit/lessons/by_hand/nf4.py). Next:
# [11 (activations)](11_activations_and_checkpointing.ipynb),
# [12 (floating point)](12_floating_point.ipynb).
