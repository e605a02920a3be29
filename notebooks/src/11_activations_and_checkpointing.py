# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · Activations and checkpointing
#
# **Claim: gradient checkpointing computes a third more, and in return doubles or triples the largest
# batch.** Both halves will need a condition. After this lesson you can
#
# - say what is stored for the backward pass, layer by layer, and how it grows;
# - write checkpointing yourself, with equal gradients, and compute the loss in chunks;
# - find the largest batch for a GPU, and say what checkpointing will not save.
#
# *Needs [09](09_where_the_memory_goes.ipynb). About 45 minutes; the code runs in about one minute on
# two CPU cores.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"QLoRA on a 7B, texts of 2,048 tokens, a GPU of 24 GB. How far does gradient checkpointing raise
# > the batch size, what does it cost, and when does it do nothing?"*
#
# "Two to three times" is a common answer.

# %% [markdown]
# ## The idea in one picture
#
# The backward pass goes through the operations in reverse order. Many need their input or output again,
# so **autograd**, the part of PyTorch that computes gradients, stores it: the **activations**.
# **Checkpointing** stores only the input of each layer. When the backward pass reaches a layer, the layer is
# computed again.

# %% [markdown]
# ![Three rows of four layers. In the first row all tensors inside each layer are stored. In the second row only the input of each layer is stored; the layer that the backward pass has reached is computed again and is full for a moment. In the third row, selective checkpointing, the results of matrix multiplications are stored and the cheap operations are recomputed.](figures/11_checkpointing.svg)

# %% [markdown]
# ## What is stored
#
# PyTorch gives each tensor that autograd stores to the hooks of `saved_tensors_hooks`. So a few lines measure it.

# %%
import torch
from torch.autograd.graph import saved_tensors_hooks


def keeps(function, *inputs):
    sizes = {}
    def note(tensor):
        sizes[tensor.data_ptr()] = tensor.nbytes
        return tensor
    with saved_tensors_hooks(note, lambda tensor: tensor):
        _ = function(*inputs)
    return sum(sizes.values())


# %%
x, y = (torch.randn(1024, 192, requires_grad=True) for _ in range(2))
trained, frozen = torch.randn(192, 192, requires_grad=True), torch.randn(192, 192)
calls = {"x + y": (torch.add, x, y), "x * y": (torch.mul, x, y),
         "softmax(x)": (torch.softmax, x, -1), "silu(x)": (torch.nn.functional.silu, x),
         "x @ W, trained": (torch.matmul, x, trained), "x @ W, frozen": (torch.matmul, x, frozen)}

# %%
ft.table([{"operation": name, "stored, in units of x": keeps(*call) / x.nbytes}
          for name, call in calls.items()])

# %% [markdown]
# A sum stores nothing, since its gradient is 1. A product stores both factors, softmax its result, silu its
# input. `x @ W` needs `x` for the gradient of `W`, and `W` for the gradient of `x`. The 0.19 is `W`, which is
# in memory anyway. If `W` is frozen, `x` is not needed. With LoRA this saves something only at layers
# without an adapter: an adapter needs `x` too, for the gradient of its matrix A.
#
# ## Layer by layer
#
# A Llama layer has two parts: attention, and an **MLP** with a gate: `down(silu(gate(x)) * up(x))`. It is
# called SwiGLU, and its inner tensors are 2.7 times as wide as `x` in the embedded model. The result of
# each part is added to the **residual stream**, the vector that runs through all layers.

# %%
first_guess = ft.predict("Most of what a layer stores for the backward pass belongs to ...",
                         "attention", "MLP", "norms")
first_guess

# %%
from ftkit.lessons import activations

model, tokenizer = ft.load("tiny")
ids = torch.randint(5, 3000, (8, 128))
parts = activations.kept(model, ids)
state = ids.numel() * model.config.hidden_size * 4  # bytes of one hidden state for each token
layers = model.config.num_hidden_layers

# %%
ft.table([{"part": part, "MB": size / 1e6, "hidden states in each layer":
           None if part == "loss" else size / state / layers} for part, size in parts.items()])

# %%
in_layers = {"attention": parts["attention"], "MLP": parts["MLP"], "norms": parts["norms"]}
first_guess.score(max(in_layers, key=in_layers.get))

# %% [markdown]
# The MLP stores four wide tensors (gate, silu of gate, up, and their product: 4 × 2.7) and its input.
# Attention stores queries, keys, values, its result and its input. Each of the two norms stores its input
# before and after scaling. Add up the last column: each layer stores about 21 tensors of the size of its
# output, although it passes on only one. The loss stores the logarithm of its softmax.
#
# So a model stores k · tokens · width · layers numbers. Here k is 21. Full fine-tuning of the 7B below
# comes to 28 (3.76 GB for 512 tokens of width 4,096 in 32 layers of 2 bytes). Its weights and norms are in fp32,
# so each norm stores twice the bytes, and each of the five matrices that read a norm's result its own bf16
# copy of it. QLoRA with adapters on queries and values stores less.
#
# ## How it grows
#
# The same 512 tokens, as 8 texts of 64 tokens up to one text of 512. **Eager** attention computes the matrix
# of all scores; **fused** attention (FlashAttention, or `sdpa` with a fused kernel) never stores it.

# %%
def per_token(length, attention):
    model.set_attn_implementation(attention)
    texts = ids.view(-1)[:512].view(-1, length)
    return sum(activations.kept(model, texts).values()) / 512 / 1e3


grown = {how: [per_token(n, how) for n in (64, 128, 256, 512)] for how in ("eager", "sdpa")}

# %%
ft.expect(grown["sdpa"][3] / grown["sdpa"][0], "==", 1, "fused: the same for each token", within=0.02)
ft.expect(grown["eager"][3], ">", grown["eager"][0], "eager: longer texts cost more a token")
ft.table([{"kB per token": how, "64": f[0], "128": f[1], "256": f[2], "512": f[3]}
          for how, f in grown.items()])

# %% [markdown]
# With fused attention the activations grow in proportion to the tokens, and to the layers. With eager
# attention each token also stores a row of scores. The difference of the two lines doubles with the length:
# the total has a quadratic part, which dominates in long texts.
#
# ## Your turn: checkpointing
# <!-- claims: C48 · E29 -->
#
# The forward pass has stored only the input `x` of a block. Now the backward pass arrives with `gradient`,
# the gradient of the block's output. Write `checkpoint_backward`: compute the block again, with autograd on
# (`torch.enable_grad()`), send `gradient` back through it, and return the gradient of `x`. The gradients of
# the block's parameters arrive in `.grad` by the same call. Do not touch `x` itself.


# %% tags=["raises-exception"]
def checkpoint_backward(block, x, gradient):
    ...


ft.check("checkpoint_backward", checkpoint_backward)


# %% [markdown]
# In PyTorch the two halves form a `torch.autograd.Function`. Inside its `forward` no graph is built, so
# nothing in the block is stored. Its `backward` calls backward once more: such a checkpoint is called
# **re-entrant**. PyTorch's newer one uses the hooks of the first section instead.

# %%
class Checkpoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, block, x):
        ctx.block = block
        ctx.save_for_backward(x)
        return block(x)
    @staticmethod
    def backward(ctx, gradient):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            ctx.block(x).backward(gradient)
        return None, x.grad


# %%
def gradients(run, block):
    torch.manual_seed(0)
    block.zero_grad()
    run(block, x).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in block.parameters()])


# %%
mlp = model.model.layers[0].mlp
plain = gradients(torch.nn.Module.__call__, mlp)
inside = keeps(mlp, x) - sum(p.nbytes for p in mlp.parameters())
print("gradients equal to the last bit:", torch.equal(gradients(Checkpoint.apply, mlp), plain))
print(f"stored: {keeps(Checkpoint.apply, mlp, x) / x.nbytes:.1f} times x instead of "
      f"{inside / x.nbytes:.1f}")

# %% [markdown]
# The gradients are equal because the same arithmetic is done on the same numbers, twice. (On a GPU a kernel
# that adds in no fixed order can change last bits.)
#
# ## What does it cost?
# <!-- claims: C48 C49 · E29 -->
#
# `gradient_checkpointing=True` does this for each layer, with torch's own `checkpoint`. `activations.work`
# counts the operations of the matrix multiplications in one step. In full fine-tuning
# the backward pass takes about twice the operations of the forward pass: once for the gradients of the
# inputs, once for those of the weights.

# %%
second_guess = ft.predict("Full fine-tuning, every layer computed twice: a step takes ... the operations",
                          "about 1.1 times", "about 1.3 times", "about 2 times")
second_guess

# %%
from ftkit.model import loading

lora = loading.adapt(ft.load("tiny")[0], ft.Config(method="lora")).get_base_model()
once, lora_once = activations.work(model, ids), activations.work(lora, ids)
textbook = activations.work(model, ids, checkpointing=True, early_stop=False)

# %%
as_torch = activations.work(model, ids, checkpointing=True)
lora_twice = activations.work(lora, ids, checkpointing=True)
times = textbook.operations / once.operations
ft.expect(times, "==", 1 + once.in_layers / 3, "one more forward pass, of the layers only")
print(f"{once.in_layers:.0%} of the forward pass is in layers; as torch does it: "
      f"{as_torch.operations / once.operations:.2f} times, "
      f"with LoRA {lora_twice.operations / lora_once.operations:.2f}")
second_guess.score("about 1.1 times" if times < 1.2 else "about 1.3 times" if times < 1.6
                   else "about 2 times")

# %% [markdown]
# If all operations are in layers, full fine-tuning takes 4/3: forward 1, backward 2, forward again 1. With
# LoRA the frozen weights need no gradient, so the backward pass takes about 1, and the factor is up to
# **3/2**. QLoRA also unpacks its 4-bit weights once more. The head of the embedded model, a quarter of its
# forward pass, is not repeated; in a large model it hardly counts. PyTorch stops recomputing when it has what
# it needs: the last multiplication of a fully trained layer is skipped. In time, the documentation of
# transformers says about 20 % slower.
#
# Now the memory of a real step, measured:

# %%
from ftkit.memory_use import charts, measure, model_shapes

# %%
config = ft.Config(precision="fp32", learning_rate=1e-3, batch_size=8, max_length=128)
steps = activations.steps("tiny", config, [128] * 8)
before, after = (step.parts["activations"] / 1e6 for step in steps.values())
ft.expect(after, "<", before, "MB of activations: less than a third", times=1 / 3)
charts.along(steps)

# %% [markdown]
# Left, activations grow until the end of the forward pass. Right, each layer adds only its input. In the
# backward pass you can count the layers that are computed again, one at a time. All else stays as it was; the
# spike of the logits is now about as high as a recomputed layer.
#
# ## What it does not save
#
# Take full fine-tuning of a 7B with AdamW, batch 1 with 512 tokens.

# %%
SEVEN = "meta-llama/Llama-2-7b"
rows = []
for on in (False, True):
    found = ft.memory(config.but(precision="bf16", gradient_checkpointing=on), SEVEN, batch_size=1,
                      max_length=512, device="cuda")
    rows.append({"checkpointing": on, "peak, GB": found.peak / 1e9, "moment": found.moment,
                 "activations, GB": found.largest["activations"] / 1e9})
ft.table(rows)

# %% [markdown]
# The activations shrink and the peak does not move. It is reached when all gradients are there (to be
# clipped): 16 bytes for each of 6.74 billion parameters. The activations are gone by then. (With
# gradient accumulation the gradients stay while the next micro-batch stores its activations: the peak is higher,
# and checkpointing lowers it a little.) Checkpointing helps where activations *are* the peak: many tokens, or
# few trained weights.
#
# ## The largest batch
# <!-- claims: C50 · E29 -->
#
# First the embedded model with a budget of 128 MB, checked by real steps. Then the 7B of the question:
# QLoRA with adapters on queries and values, 24 GB, 2,048 tokens. There two traces give a straight line, as
# in [lesson 09](09_where_the_memory_goes.ipynb), and two more traces test it.

# %%
third_guess = ft.predict("For the 7B, checkpointing raises the largest batch by a factor of ...",
                         "2 to 3", "4 to 6", "more than 6")
third_guess

# %%
rows = []
for setting in (config, config.but(gradient_checkpointing=True)):
    n = activations.largest_batch(setting, 128e6)
    peaks = [measure.step("tiny", setting, [128] * size).peak / 1e6 for size in (n, n + 1)]
    rows.append({"checkpointing": setting.gradient_checkpointing, "largest batch": n,
                 "measured, MB": peaks[0], "one text more, MB": peaks[1]})
ft.table(rows)

# %%
card = model_shapes.GPUS["RTX 4090 24GB"].usable


def trace(batch, checkpointing, **options):
    return ft.memory(model=SEVEN, method="qlora", target_modules="q_proj,v_proj", precision="bf16",
                     max_length=2048, batch_size=batch, gradient_checkpointing=checkpointing,
                     device="cuda", **options)


exact = {}
for on, (low, high) in ((False, (1, 2)), (True, (4, 8))):
    at_low, at_high = trace(low, on).peak, trace(high, on).peak
    exact[on] = low + (card - at_low) * (high - low) / (at_high - at_low)

# %%
largest = int(exact[True])
fits, fails = trace(largest, True), trace(largest + 1, True)
print(f"batch {exact[False]:.2f}, with checkpointing {exact[True]:.2f}, before rounding down; budget "
      f"{card / 1e9:.1f} GB, traced {fits.peak / 1e9:.1f}, one text more {fails.peak / 1e9:.1f}")
print(f"peak in the {fits.moment}: activations {fits.simulation['activations'] / 1e9:.1f} GB, logits "
      f"{fits.simulation['logits'] / 1e9:.1f} GB")
print(f"with all logits at once: {trace(largest, True, logits=10**12).peak / 1e9:.1f} GB")

# %%
factor = exact[True] / exact[False]
third_guess.score("more than 6" if factor > 6 else "4 to 6" if factor > 3 else "2 to 3")

# %% [markdown]
# **The answer.** Both halves of the claim fail here. The batch rises about tenfold, and the step computes up
# to half more. Where model states are the peak, as in full fine-tuning above, it does nothing. (The budget is
# what 24 GiB leave after the CUDA context and fragmentation.)
#
# The factor is no constant. Each largest batch is about the free memory divided by the bytes of one more text,
# so the factor is the ratio of these bytes. In the embedded model they are 12.4 and 3.9 MB (last two columns):
# its logits do not shrink, and one recomputed layer is a quarter of all. The 7B recomputes one layer of 32 at
# a time; the inputs of all are 0.54 GB in bf16 for a text of 2,048 tokens. No logits are in the peak, because `ft`
# computes the loss in chunks (the exercise below). With all logits at once, the last line, the same batch does
# not fit, even with Llama 2's vocabulary of 32,000. With 128,256 the logits of 20 texts would take 21 GB a
# copy. So first chunk the loss. Adapters on every layer (`all-linear`) store more without checkpointing.

# %% [markdown]
# ## Selective checkpointing
#
# Recomputing everything is wasteful: a matrix multiplication is expensive, while silu, norms and products
# are cheap and store as much. **Selective checkpointing** stores the expensive results only. The name covers
# several rules: [Korthikanti et al. 2022](https://arxiv.org/abs/2205.05198) recompute the scores and the
# softmax of attention, which fused attention does anyway.
#
# PyTorch has an interface for such a rule: a **policy**, a function that is asked for each operation. Here it
# stores the results of matrix multiplications in the MLP. For a real layer it must also name fused attention,
# `addmm` (layers with a bias) and `bmm`.

# %%
from functools import partial

import torch.utils.checkpoint as ckpt
from torch.utils.checkpoint import CheckpointPolicy, checkpoint
from torch.utils.flop_counter import FlopCounterMode

from ftkit.memory_use.meter import Meter

# %%

def store_matmuls(ctx, operation, *args, **kwargs):
    if operation == torch.ops.aten.mm.default:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


# %%
contexts = partial(ckpt.create_selective_checkpoint_contexts, store_matmuls)
ways = {"store all": lambda: mlp(x),
        "selective": lambda: checkpoint(mlp, x, use_reentrant=False, context_fn=contexts),
        "recompute all": lambda: checkpoint(mlp, x, use_reentrant=False)}
rows = []
for name, run in ways.items():
    with Meter() as meter:
        out = run()
    with FlopCounterMode(display=False) as counter:
        run().sum().backward()
    rows.append({"MLP": name, "alive after the forward pass, times x": meter.total / x.nbytes,
                 "operations, millions": counter.get_total_flops() / 1e6})
    del out

# %%
ft.table(rows)

# %% [markdown]
# Each line includes the weights (1.5) and the output (1). Without them, 10.7, 5.3 and 0 are stored inside:
# selective stores half, and does no matrix multiplication twice.
#
# ## How many checkpoints?
#
# With few checkpoints, long pieces must be recomputed at once. With many, the checkpoints add up. If each of
# n layers stores as much inside as its input, √n segments are best
# ([Chen et al. 2016](https://arxiv.org/abs/1604.06174)). If it stores k times its input, s segments need
# s + (n / s) · k tensors, and s = √(k n) is best: one checkpoint per layer up to n = k layers.

# %% [markdown]
# ## Your turn: the loss in chunks
# <!-- claims: E30 -->
#
# The spike that is left are the logits: tokens × vocabulary in fp32, in several copies. Write
# `chunked_loss`: the mean cross-entropy over rows whose target is not -100. `hidden` is (n, width), `weight`
# is (vocabulary, width). At most `rows` rows of logits may exist at once.


# %% tags=["raises-exception"]
def chunked_loss(hidden, weight, targets, rows):
    ...


ft.check("chunked_loss", chunked_loss)

# %% [markdown]
# For training, autograd must not store the chunks either, so each chunk is checkpointed.

# %%
import torch.nn.functional as F


def chunk_sum(h, weight, t):
    return F.cross_entropy(h @ weight.T, t, reduction="sum")


def peak_of_loss(vocabulary, rows):
    torch.manual_seed(0)
    hidden, weight = (torch.randn(n, 64, requires_grad=True) for n in (512, vocabulary))
    with Meter() as meter:
        loss = 0
        for h, t in zip(hidden.split(rows), torch.arange(512).split(rows)):
            loss = loss + checkpoint(chunk_sum, h, weight, t, use_reentrant=False)
        (loss / 512).backward()
    return meter.peak / 1e6


# %%
ft.table([{"vocabulary": size} | {f"{rows} rows at once, MB": peak_of_loss(size, rows)
                                  for rows in (512, 128, 64)} for size in (4096, 16384)])

# %% [markdown]
# 26.35 MB are **three** copies of 512 · 4,096 · 4 bytes = 8.39 MB and 1.2 MB of small tensors. The three are
# the log-softmax, its gradient and the gradient of the logits; the logits themselves are freed by then. So
# without chunks, 8 × 2,048 tokens and a vocabulary of 128,256 need 8.4 GB for each copy: about 25 GB. If your
# loop still holds `outputs.logits` in the backward pass, add their bytes: 4.2 GB in bf16. Rows without a label
# need no logits at all.

# %% [markdown]
# ## Break it
#
# Recomputing must give *the same*. Our `Checkpoint` in a block with dropout:

# %%
block = torch.nn.Sequential(mlp, torch.nn.Dropout(0.1), torch.nn.Linear(192, 192))
right = gradients(torch.nn.Module.__call__, block)
ours = gradients(Checkpoint.apply, block)
torchs = gradients(partial(checkpoint, use_reentrant=False), block)
ft.expect(((ours - right).norm() / right.norm()).item(), ">", 0.01,
          "ours: another dropout mask, another gradient")

# %%
print("torch's checkpoint gives the right gradient:", torch.equal(torchs, right))

# %% [markdown]
# There is no error message, only a wrong gradient in every step. PyTorch restores the state of the random
# generator before it recomputes. A second trap comes with LoRA: PyTorch's older, re-entrant checkpoint
# looks only at whether its *input* needs a gradient. Behind a frozen embedding it does not.

# %%
adapted_mlp = lora.model.layers[0].mlp
for reentrant in (True, False):
    out = checkpoint(adapted_mlp, torch.randn(64, 192), use_reentrant=reentrant)
    print(f"use_reentrant={reentrant}: the adapters get a gradient: {out.requires_grad}")

# %% [markdown]
# Here a warning is all you see. If every layer is checkpointed so and nothing else trains, `loss.backward()`
# raises `element 0 of tensors does not require grad and does not have a grad_fn`. Use `use_reentrant=False`
# (as `ft` does), or `model.enable_input_require_grads()`, which transformers 5 calls when it switches
# checkpointing on.
#
# ## At 135M
#
# No box At 135M: checkpointing that repeats the same computation changes no gradient, so a recorded run
# decides nothing. If SmolLM2 (30 layers) is here, its step is measured.

# %%
from ftkit.model import download

if download.has("smollm2"):
    real = activations.steps("smollm2", config.but(method="lora", precision="bf16"), [128] * 2)
    before, after = (step.parts["activations"] / 1e6 for step in real.values())
    ft.expect(after, "<", before, "SmolLM2, MB: activations fall to less than a third", times=1 / 3)

# %% [markdown]
# ## What if?
#
# From which length on does QLoRA of a 7B need checkpointing on 24 GB? Press *Trace the step* before you
# believe the estimate. (Activations grow with the tokens. So with batch 1 and the adapters above, near
# 2,048 · 2.03 = 4,200 tokens.)

# %%
from ftkit.notebook.memory_calculator import Calculator

Calculator(SEVEN, method="qlora", max_length=1024, gradient_checkpointing=True)

# %% [markdown]
# ## In practice, 2026
#
# ```python
# from datasets import load_dataset
# from peft import LoraConfig
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-8B"
# # train.jsonl: {"messages": [{"role": "user", "content": "..."},
# #                            {"role": "assistant", "content": "..."}]}
# config = SFTConfig(
#     output_dir="out", bf16=True, max_length=8192, learning_rate=2e-4, num_train_epochs=1,
#     per_device_train_batch_size=1, gradient_accumulation_steps=16,
#     gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False},
#     model_init_kwargs={"dtype": "bfloat16", "attn_implementation": "flash_attention_2"})
# trainer = SFTTrainer(
#     model_id, args=config, peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
#     train_dataset=load_dataset("json", data_files="train.jsonl", split="train"))
# ```

# %% [markdown]
# Order of measures when activations do not fit:
#
# 1. FlashAttention or `sdpa`, and a chunked or fused loss (built into TRL 1.16's `SFTTrainer`; elsewhere
#    the kernels of Liger or Cut Cross-Entropy).
# 2. Batch size 1 with gradient accumulation.
# 3. Checkpointing: selective first, then every layer. `gradient_checkpointing_kwargs={"selective": True}` in
#    TRL 1.16 stores only the result of attention as well; it still repeats the matrix multiplications.
# 4. **Activation offloading** to the host's memory (`activation_offloading=True` in TRL).
# 5. For very long texts, **context parallelism**: each GPU holds a part of each text.

# %% [markdown]
# - transformers 5.24 renames the option to `activation_checkpointing`; TRL 1.16 still takes the old name. The
#   new `activation_checkpointing_kwargs={"every_n_layers": 2}` checkpoints every second layer.
# - For QLoRA, peft's `prepare_model_for_kbit_training` switches checkpointing on by itself. Give it
#   `gradient_checkpointing_kwargs={"use_reentrant": False}` too. It also casts embedding and norms to fp32:
#   the stored inputs of the layers then take twice the bytes.
# - With FSDP, transformers advises `activation_checkpointing` in the FSDP configuration, since its own option
#   repeats the all-gather. With FSDP2 lesson [13](13_zero_and_fsdp.ipynb) counts no repetition.
# - `torch.compile` already recomputes cheap operations. `torch._functorch.config.activation_memory_budget`
#   (0 to 1) says how much may be stored; the compiler then solves a knapsack problem.
# - `CheckpointError` says that the second run stored other tensors: a mixture of experts chose other experts,
#   or the forward pass changed state.
# - Checkpoint to *fit* a text. A larger effective batch needs no more activations, only gradient
#   accumulation. If memory is free, switch checkpointing off (in TRL 1.16 it is on by default), and compare
#   tokens per second.

# %% [markdown]
# ## Interview
#
# **What does gradient checkpointing trade for what?**
# <details><summary>Answer</summary>
# Activation memory for compute. Each block stores only its input and is computed again in the backward pass.
# At most one more forward pass: up to 4/3 of the operations in full fine-tuning, up to 3/2 with LoRA.
# Gradients are the same, if the second run is: dropout replayed, deterministic.
# </details>
#
# **How far does it raise the batch size?**
# <details><summary>Answer</summary>
# By no fixed factor. The largest batch is about the free memory divided by the bytes of one more sequence; the
# factor is the ratio of these bytes. It is large with many layers and a chunked loss, small where logits,
# which do not shrink, are the peak. At a batch where model states are the peak, nothing is saved.
# </details>

# %% [markdown]
# **When does it save nothing?**
# <details><summary>Answer</summary>
# When activations are not the peak: full fine-tuning with AdamW and a short batch peaks when all gradients
# exist. (With gradient accumulation they stay during the next forward pass: there it saves a little.)
# Weights, gradients, optimizer states and logits do not shrink.
# </details>
#
# **Peak of the logits for batch 8, 2,048 tokens, vocabulary 128,256?**
# <details><summary>Answer</summary>
# 8 · 2,048 · 128,256 · 4 bytes = 8.4 GB for each fp32 copy. Plain cross-entropy holds about three
# (log-softmax, its gradient, the gradient of the logits): 25 GB. Compute the loss in chunks or fused, and only for trained tokens: the same
# loss up to rounding.
# </details>
#
# **What is selective checkpointing?**
# <details><summary>Answer</summary>
# Store the results of expensive operations, recompute the cheap ones (norms, activation functions, products).
# Rules differ. With all matmuls stored, a fully trained SwiGLU MLP stores about half and repeats none.
# TRL's option stores fused attention only.
# </details>

# %% [markdown]
# ## Recap
#
# - Stored is what a multiplication, an activation function or a norm needs; 21 hidden states a layer in the
#   embedded model, 28 in the 7B fully fine-tuned.
# - It grows with tokens and layers; quadratically with the length only where attention is not fused.
# - Checkpointing stores the inputs of blocks and costs at most one more forward pass: 4/3, with LoRA 3/2. It
#   changes no gradient if the second run is the same.
# - Compute the largest batch from two traces; do not quote a factor.
#
# In the package: [`ftkit/lessons/activations.py`](../ftkit/lessons/activations.py). Next:
# [12 floating point](12_floating_point.ipynb).

# %%
ft.progress("11")
