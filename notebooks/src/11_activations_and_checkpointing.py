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
# - choose a setting by tokens per second and memory, not by a rule of thumb.
#
# *Needs [09](09_where_the_memory_goes.ipynb). About 45 minutes; the code runs in about one minute on
# two CPU cores. What to look up is on the [reference page](reference/11_activations_and_checkpointing.md).*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# Your run on a GPU of 24 GB stops with "out of memory". A colleague switches gradient checkpointing on. Now it runs, and
# takes a day longer. Was that necessary, and is it the best that this GPU can do?
#
# > *"QLoRA on a 7B, texts of 2,048 tokens, a GPU of 24 GB. How far does gradient checkpointing raise
# > the batch size, what does it cost, and when does it do nothing?"*
#
# A common answer is "two to three times".

# %% [markdown]
# ## The idea in one picture
#
# The backward pass goes through the operations in reverse order. Most of them need a tensor of the forward
# pass again. **Autograd**, the part of PyTorch that computes gradients, stores these tensors: the
# **activations**. **Checkpointing** stores only the input of each layer, and computes a layer again when the
# backward pass reaches it.

# %% [markdown]
# ![Three rows of four layers. In the first row all tensors inside each layer are stored. In the second row only the input of each layer is stored; the layer that the backward pass has reached is computed again and is full for a moment. In the third row, selective checkpointing, the results of matrix multiplications are stored and the cheap operations are recomputed.](figures/11_checkpointing.svg)

# %% [markdown]
# ## What is stored
#
# What does each operation store? PyTorch gives every tensor that autograd stores to the hooks of
# `saved_tensors_hooks`, functions that it calls with the tensor. So a few lines measure it.

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
ft.table([{"operation": name, "stored, in units of x": keeps(*call) / x.nbytes}
          for name, call in calls.items()])

# %% [markdown]
# A sum stores nothing, since its gradient is 1. A product stores both factors, softmax its result, silu its
# input. `x @ W` stores `x` for the gradient of `W`, and `W` for the gradient of `x`. (The 0.19 is `W`, which is
# in memory anyway.) If `W` is frozen, `x` is not stored, unless an adapter needs it for its matrix A.

# %% [markdown]
# ## Layer by layer
#
# Which part of a layer stores most? A Llama layer has attention and an **MLP** with a gate (SwiGLU),
# `down(silu(gate(x)) * up(x))`, each behind a norm. In the embedded model the MLP's inner tensors are 2.7 times
# as wide as `x`.

# %%
from ftkit.by_hand import activations

model, tokenizer = ft.load("tiny")
ids = torch.randint(5, 3000, (8, 128))
parts = activations.kept(model, ids)
state = ids.numel() * model.config.hidden_size * 4  # bytes of one hidden state for each token
ft.table([{"part": part, "MB": size / 1e6, "hidden states in each of 4 layers":
           None if part == "loss" else size / state / 4} for part, size in parts.items()])

# %% [markdown]
# The MLP stores most: four wide tensors (gate, silu of gate, up, and their product: 4 × 2.7) and its input.
# Attention stores queries, keys, values, its result and its input. The last column adds up to 21: the layers store
# 21 · tokens · width · layers numbers. The 21 depends on the architecture, the precision and on what is trained.
# The loss comes on top.

# %% [markdown]
# ## How it grows
#
# Do longer texts cost more? We cut the same 512 tokens into 8 texts of 64, and so on up to one text of 512.
# **Eager** attention computes the matrix of all scores. **Fused** attention (FlashAttention, or PyTorch's
# `sdpa` with a fused kernel) never stores it.

# %%
from ftkit.teaching import line_plot


def per_token(length, attention):
    model.set_attn_implementation(attention)
    texts = ids.view(-1)[:512].view(-1, length)
    return sum(activations.kept(model, texts).values()) / 512 / 1e3


grown = {how: [(n, per_token(n, how)) for n in (64, 128, 256, 512)] for how in ("eager", "sdpa")}
line_plot(grown, "tokens in a text", "kB stored per token")

# %% [markdown]
# With fused attention a token costs about the same in a text of any length. With eager attention each token also stores
# a row of scores, which is as long as the text, so the total has a quadratic part. (The axis does not start at 0.)

# %% [markdown]
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
# In PyTorch the two halves form a `torch.autograd.Function`; its `ctx`, the context, carries `x` from one to the other. No
# graph is built inside its `forward`, so nothing in the block is stored. In `backward` we call your function.

# %%
from ftkit.teaching import working

backward_of_block = working("checkpoint_backward", checkpoint_backward)


class Checkpoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, block, x):
        ctx.block = block  # save_for_backward takes only tensors
        ctx.save_for_backward(x)
        return block(x)
    @staticmethod
    def backward(ctx, gradient):  # a gradient for each input of forward; block needs none
        return None, backward_of_block(ctx.block, ctx.saved_tensors[0].detach(), gradient)


# %% [markdown]
# Does an MLP get the same gradients with it, and how much less is stored?

# %%
def gradients(run, block):
    torch.manual_seed(0)
    block.zero_grad()
    run(block, x).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in block.parameters()])


mlp = model.model.layers[0].mlp
plain = gradients(torch.nn.Module.__call__, mlp)
weights = sum(p.nbytes for p in mlp.parameters())
print("gradients equal to the last bit:", torch.equal(gradients(Checkpoint.apply, mlp), plain))
print(f"stored: {keeps(Checkpoint.apply, mlp, x) / x.nbytes:.1f} times x instead of "
      f"{(keeps(mlp, x) - weights) / x.nbytes:.1f}")

# %% [markdown]
# The same arithmetic is done twice on the same numbers. (On a GPU a kernel that adds in no fixed order can change last
# bits.) But recomputing must give *the same*. What happens in a block with dropout?

# %%
from functools import partial

from torch.utils.checkpoint import checkpoint

block = torch.nn.Sequential(mlp, torch.nn.Dropout(0.1), torch.nn.Linear(192, 192))
right = gradients(torch.nn.Module.__call__, block)
by_ours = gradients(Checkpoint.apply, block)
by_torch = gradients(partial(checkpoint, use_reentrant=False), block)
ft.expect(((by_ours - right).norm() / right.norm()).item(), ">", 0.01,
          "ours: another dropout mask, another gradient")
print("torch's checkpoint gives the right gradient:", torch.equal(by_torch, right))

# %% [markdown]
# Ours gives a wrong gradient in every step, without an error. PyTorch restores the state of the random
# generator before it recomputes.

# %% [markdown]
# ## What does it cost?
# <!-- claims: C48 C49 · E29 -->
#
# `gradient_checkpointing=True` checkpoints each layer. `activations.work` counts the operations of the matrix
# multiplications in one step. In full fine-tuning the backward pass takes about twice the operations of the
# forward pass: once for the gradients of the inputs, once for those of the weights.

# %%
first_guess = ft.predict("Layers computed twice: compared with full fine-tuning, a LoRA step grows by ...",
                         "a smaller factor", "the same factor", "a larger factor")
first_guess

# %%
from ftkit.inside import adapt

lora = adapt(ft.load("tiny")[0], ft.Config(method="lora")).get_base_model()
once, lora_once = activations.work(model, ids), activations.work(lora, ids)
twice = activations.work(model, ids, checkpointing=True, early_stop=False)
lora_twice = activations.work(lora, ids, checkpointing=True, early_stop=False)

# %%
times, lora_times = twice.operations / once.operations, lora_twice.operations / lora_once.operations
ft.expect(times, "==", 1 + once.in_layers / 3, "one more forward pass, of the layers only")
print(f"{once.in_layers:.0%} of the forward pass is in layers; with LoRA a step takes "
      f"{lora_times:.2f} times the operations")
first_guess.score("a larger factor" if lora_times > times + 0.02 else
                  "a smaller factor" if lora_times < times - 0.02 else "the same factor")

# %% [markdown]
# If all operations are in layers, full fine-tuning takes 4/3: forward 1, backward 2, forward again 1. With
# LoRA in every layer the frozen weights need no gradient, so the backward pass takes about 1, and the factor
# is up to **3/2**. The embedded model stays below, because its head, a quarter of the forward pass, is not repeated; in a
# large model the head hardly counts. `early_stop=False` repeats whole layers; by default PyTorch stops as soon as it
# has all it needs, which saves a little.
#
# Now the memory of a real step.

# %%
from ftkit.inside import GPUS, Meter, charts

config = ft.Config(precision="fp32", learning_rate=1e-3, batch_size=8, max_length=128)
steps = activations.steps("tiny", config, [128] * 8)
before, after = (step.parts["activations"] / 1e6 for step in steps.values())
ft.expect(after, "<", before, "MB of activations: less than a third", times=1 / 3)
charts.along(steps)

# %% [markdown]
# Left, activations grow until the end of the forward pass. Right, each layer adds only its input, and in the backward
# pass you can count the four recomputed layers.
#
# ## What it does not save
#
# Does the peak always fall? Take full fine-tuning of a 7B with AdamW: one text of 512 tokens in a step.

# %%
SEVEN = "meta-llama/Llama-2-7b"
ft.table([{"checkpointing": on, "peak, GB": found.peak / 1e9, "moment": found.moment,
           "activations, GB": found.largest["activations"] / 1e9}
          for on in (False, True)
          for found in [ft.memory(config.but(precision="bf16", gradient_checkpointing=on), SEVEN,
                                  batch_size=1, max_length=512, device="cuda")]])

# %% [markdown]
# The activations shrink and the peak does not move. It is reached when all gradients are there (to be
# clipped): 16 bytes for each of 6.74 billion parameters. The activations are gone by then. Checkpointing helps
# where activations *are* the peak: many tokens, or few trained weights.

# %% [markdown]
# ## The largest batch
# <!-- claims: C50 · E29 -->
#
# Now the run of your colleague: QLoRA on a 7B, adapters on queries and values, 2,048 tokens, 24 GB. The step is traced,
# as in [lesson 09](09_where_the_memory_goes.ipynb). Two traces give a line, peak over batch size. The line predicts the
# largest batch, and two more traces test it.

# %%
second_guess = ft.predict("For the 7B, checkpointing raises the largest batch by a factor of ...",
                          "up to 3", "3 to 6", "more than 6")
second_guess

# %%
card = GPUS["RTX 4090 24GB"].usable  # 25.8 GB less CUDA context and 5 % slack


def peak(batch, checkpointing):
    return ft.memory(model=SEVEN, method="qlora", target_modules="q_proj,v_proj", precision="bf16",
                     max_length=2048, batch_size=batch, gradient_checkpointing=checkpointing,
                     device="cuda").peak


largest, rows = {}, []
for on, (low, high) in ((False, (1, 2)), (True, (4, 8))):
    at_low, at_high = peak(low, on), peak(high, on)
    largest[on] = n = int(low + (card - at_low) * (high - low) / (at_high - at_low))
    rows.append({"checkpointing": on, "largest batch": n, "peak, GB": peak(n, on) / 1e9,
                 "one text more, GB": peak(n + 1, on) / 1e9})
ft.table(rows)

# %%
factor = largest[True] / largest[False]
second_guess.score("more than 6" if factor > 6 else "3 to 6" if factor > 3 else "up to 3")

# %% [markdown]
# **The answer.** The batch rises tenfold. A largest batch is the free memory divided by the bytes of one more text. So
# the factor is the ratio of these bytes, here 9.9 GB without and 1.0 GB with checkpointing. It is no constant: where logits are the
# peak it is small, and where model states are, it is 1. The cost is 1.38 times the
# operations. With adapters on all linear layers, where PyTorch's early stop skips almost nothing, it is 1.48.

# %% [markdown]
# ## Your turn: the loss in chunks
# <!-- claims: E30 -->
#
# The logits do not shrink: tokens × vocabulary in fp32, in several copies. Write `chunked_loss`: the mean cross-entropy
# over rows whose target is not -100. `hidden` is (n, width), `weight` is (vocabulary, width). At most `rows` rows of logits may exist at once.


# %% tags=["raises-exception"]
def chunked_loss(hidden, weight, targets, rows):
    ...


ft.check("chunked_loss", chunked_loss)

# %% [markdown]
# For training, autograd must not store the chunks either, so each chunk is checkpointed. How far does the
# peak fall, for 512 tokens and a vocabulary of 4,096?

# %%
import torch.nn.functional as F


def chunk_sum(h, weight, t):
    return F.cross_entropy(h @ weight.T, t, reduction="sum")


def peak_of_loss(rows):
    torch.manual_seed(0)
    hidden, weight = (torch.randn(n, 64, requires_grad=True) for n in (512, 4096))
    with Meter() as meter:
        loss = 0
        for h, t in zip(hidden.split(rows), torch.arange(512).split(rows)):
            loss = loss + checkpoint(chunk_sum, h, weight, t, use_reentrant=False)
        (loss / 512).backward()
    return meter.peak / 1e6


ft.table([{"rows at once": rows, "peak, MB": peak_of_loss(rows)} for rows in (512, 128, 64)])

# %% [markdown]
# The first row is **three** copies of 512 · 4,096 · 4 bytes = 8.39 MB, and small tensors: the log-softmax, its gradient
# and the gradient of the logits. So without chunks, 8 × 2,048 tokens and a vocabulary of 128,256 need 8.4 GB for
# each copy: about 25 GB. TRL's trainer and `ft` compute the loss in chunks.

# %% [markdown]
# ## At 135M
#
# No box At 135M: checkpointing that repeats the same computation changes no gradient, so there is nothing to
# compare.
#
# ## In practice, 2026
#
# In TRL set `gradient_checkpointing=True`. The script, the order of measures, selective checkpointing, offloading and pitfalls
# are on the [reference page](reference/11_activations_and_checkpointing.md).
#
# ## By the clock
#
# The aim is not a larger batch but more **tokens per second**. What does checkpointing cost here, by the clock?

# %%
lab = ft.Experiment(data=ft.records("tasks")[:400], eval_records=8, probes=())
timed = {on: lab.run(learning_rate=1e-3, max_steps=12, eval_steps=12, batch_size=16, precision="fp32",
                     gradient_checkpointing=on, live=False) for on in (False, True)}
ft.table([{"checkpointing": on, "tokens per second": run.tokens_per_second,
           "operations, times those without": times if on else 1.0} for on, run in timed.items()])

# %% [markdown]
# The clock also counts what the operations do not: moving data, the optimizer, and other programs on this machine. On a GPU
# a larger batch can earn the loss back, up to the point where the GPU is busy. The **MFU**, model FLOPs utilization,
# says how busy it is: useful operations per second, divided by the GPU's peak. Useful are 6 for each trained parameter and
# real token (2 forward, 4 backward), but neither padding nor recomputing.
#
# ## Your turn: which setting?
#
# You have timed five settings of a full fine-tune. A row has `name`, `texts`, `length` (tokens to which they are padded),
# `tokens` (real ones in a step), `seconds` and `peak_gb`. Write `choose_setting`: `(name, mfu)` of the setting with
# which the epoch ends first, among those that fit into `free_gb`; None if none fits. `mfu` is a fraction.


# %% tags=["raises-exception"]
def choose_setting(rows, free_gb, parameters, peak_flops):
    ...


ft.check("choose_setting", choose_setting)

# %% [markdown]
# And your colleague's day? If one long batch made the run crash, packing or a shorter `max_length` would have been enough.
# Time both for a few steps before you pay for a day.
#
# ## Interview
#
# **What does gradient checkpointing trade for what, and when does it save nothing?**
# <details><summary>Answer</summary>
# Activation memory for compute. Each block stores only its input and is computed again in the backward pass. That costs
# up to 4/3 of the operations in full fine-tuning, up to 3/2 with LoRA in every layer. Gradients are the same if the second run is:
# dropout replayed, deterministic. It saves nothing where activations are not the peak, as in full fine-tuning with AdamW,
# a short batch and no accumulation. Weights, gradients, optimizer states and logits do not shrink.
# </details>
#
# **How far does it raise the batch size?**
# <details><summary>Answer</summary>
# By about the ratio of the bytes of one more sequence without and with it. That is about ten for QLoRA on a 7B's queries
# and values at 2,048 tokens with a chunked loss, and less where the logits are the peak. Then compare tokens per second.
# </details>

# %% [markdown]
# ## Recap
#
# - Activations grow with tokens and layers; quadratically with the length only without fused attention.
# - Checkpointing stores the inputs of layers and costs at most one more forward pass: 4/3, with LoRA 3/2.
# - Compute the largest batch from two traces, and choose by tokens per second.
#
# In the package: [`activations.py`](../ftkit/lessons/activations.py). Next: [12 floating point](12_floating_point.ipynb).

# %%
ft.progress("11")
