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
# `saved_tensors_hooks`, so a few lines measure it.

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
# Attention stores queries, keys, values, its result and its input. A norm stores its input and its normalized
# input; there are two in each layer and one at the end.
#
# The last column adds up to 21. So the layers store k · tokens · width · layers numbers, and here k is 21. It
# depends on the architecture, the precision and on what is trained. The loss comes on top.

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
# With fused attention a token costs about the same in a text of any length, so activations grow in proportion to
# the tokens. With eager attention each token also stores a row of scores, which is as long as the text. So the
# total has a quadratic part. (The axis starts at 76 kB; continued, the line for eager reaches twice the dashed
# one at about 1,600 tokens.)

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
# In PyTorch the two halves form a `torch.autograd.Function`; its `ctx` carries `x` from one to the other. No
# graph is built inside its `forward`, so nothing in the block is stored. Its `backward` calls backward once
# more, so it is called **re-entrant**. PyTorch's newer checkpoint uses `saved_tensors_hooks` instead.

# %%
class Checkpoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, block, x):
        ctx.block = block  # save_for_backward takes only tensors
        ctx.save_for_backward(x)
        return block(x)
    @staticmethod
    def backward(ctx, gradient):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            ctx.block(x).backward(gradient)
        return None, x.grad  # a gradient for each input of forward; block needs none


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
# The gradients are equal because the same arithmetic is done twice on the same numbers. (On a GPU a kernel that
# adds in no fixed order can change last bits.)

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
# is up to **3/2**. The embedded model stays below, because its head, a quarter of the forward pass, is not
# repeated; in a large model the head hardly counts. (With LoRA that gives 1.38; it is 1.40, since with
# checkpointing transformers also computes the gradient of the first layer's input.)
#
# `early_stop=False` repeats whole layers. By default PyTorch stops repeating a layer when it has all it needs:
# before `down`, unless `down` has an adapter. Counted so, full fine-tuning takes 1.19 times the operations here,
# 1.26 in a 7B at 2,048 tokens. LoRA on all linear layers, `down` too, stays at 1.40 here. The documentation
# of transformers puts the time at about 20 % more; the optimizer's step is not repeated.
#
# Now the memory of a real step.

# %%
from ftkit.inside import GPUS, charts, measure

config = ft.Config(precision="fp32", learning_rate=1e-3, batch_size=8, max_length=128)
steps = activations.steps("tiny", config, [128] * 8)
before, after = (step.parts["activations"] / 1e6 for step in steps.values())
ft.expect(after, "<", before, "MB of activations: less than a third", times=1 / 3)
charts.along(steps)

# %% [markdown]
# Left, activations grow until the end of the forward pass. Right, each layer adds only its input. In the
# backward pass you can count the four recomputed layers. The spike of the logits is now about as
# high as a recomputed layer.
#
# ## What it does not save
#
# Does the peak always fall? Take full fine-tuning of a 7B with AdamW: one text of 512 tokens in a step.

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
# clipped): 16 bytes for each of 6.74 billion parameters. The activations are gone by then. (With gradient
# accumulation those of the next micro-batch come on top of the gradients.) Checkpointing helps where activations
# *are* the peak: many tokens, or few trained weights.

# %% [markdown]
# ## The largest batch
# <!-- claims: C50 · E29 -->
#
# We ask the question twice: for the embedded model with a budget of 128 MB, measured by real steps, and for
# the 7B with 24 GB (QLoRA, adapters on queries and values, 2,048 tokens).

# %%
second_guess = ft.predict("For the 7B, checkpointing raises the largest batch by a factor of ...",
                          "up to 3", "3 to 6", "more than 6")
second_guess

# %%
rows = []
for setting in (config, config.but(gradient_checkpointing=True)):
    n = activations.largest_batch(setting, 128e6)
    peaks = [measure.step("tiny", setting, [128] * size).peak / 1e6 for size in (n, n + 1)]
    rows.append({"checkpointing": setting.gradient_checkpointing, "largest batch": n,
                 "peak, MB": peaks[0], "one text more, MB": peaks[1]})
ft.table(rows)

# %% [markdown]
# For the 7B the step is traced, as in [lesson 09](09_where_the_memory_goes.ipynb). Two traces give a
# line, peak over batch size. The line predicts the largest batch, and two more traces test it.

# %%
card = GPUS["RTX 4090 24GB"].usable  # 25.8 GB less CUDA context and 5 % slack


def peak(batch, checkpointing, **options):
    return ft.memory(model=SEVEN, method="qlora", target_modules="q_proj,v_proj", precision="bf16",
                     max_length=2048, batch_size=batch, gradient_checkpointing=checkpointing,
                     device="cuda", **options).peak


largest, rows = {}, []
for on, (low, high) in ((False, (1, 2)), (True, (4, 8))):
    at_low, at_high = peak(low, on), peak(high, on)
    largest[on] = n = int(low + (card - at_low) * (high - low) / (at_high - at_low))
    rows.append({"checkpointing": on, "largest batch": n, "peak, GB": peak(n, on) / 1e9,
                 "one text more, GB": peak(n + 1, on) / 1e9})
ft.table(rows)

# %%
# `logits` is how many logits may exist at once: here all of them
print(f"budget {card / 1e9:.1f} GB; batch {largest[True]} with all logits at once: "
      f"{peak(largest[True], True, logits=10**12) / 1e9:.1f} GB")
factor = largest[True] / largest[False]
second_guess.score("more than 6" if factor > 6 else "3 to 6" if factor > 3 else "up to 3")

# %% [markdown]
# **The answer.** The batch rises tenfold, so the second half of the claim fails here. The first, a third more
# operations, is a little low. By the same count and PyTorch's default, this step takes 1.38 times the operations
# (with adapters on all linear layers 1.48), and it converts the 4-bit weights once more. Where model states are
# the peak, as in full fine-tuning above, checkpointing saves nothing.
#
# The factor is no constant. A largest batch is about the free memory divided by the bytes of one more text, so
# the factor is the ratio of these bytes. In the embedded model they are 12.4 and 3.9 MB (last two columns): one
# recomputed layer is a quarter of all, and the logits do not shrink. In the 7B they are 9.9 and 1.0 GB: one
# recomputed layer is one of 32, and the inputs of all layers take only 0.54 GB. To estimate: 9.9 GB are about 37
# bytes per token, layer and unit of width, or k = 18 in 16 bits. The full fine-tuning above stores 56 (k = 28).
# A checkpointed input takes 2 here (k = 1), and 4 under autocast on fp32 weights (k = 2).
#
# `ft` computes the loss of many logits in chunks (the exercise below), so the peak of the 7B has none. With all
# at once the same batch does not fit, even with Llama 2's vocabulary of 32,000.

# %% [markdown]
# ## Selective checkpointing
#
# A matrix multiplication is expensive to repeat, while silu, norms and products are cheap and store as much.
# **Selective checkpointing** stores the expensive results only. The name covers several rules: [Korthikanti et
# al. 2022](https://arxiv.org/abs/2205.05198) recompute the scores and the softmax of attention, which fused
# attention does anyway.
#
# PyTorch asks a **policy**, a function that you write, for each operation. Ours stores the results of matrix
# multiplications in the MLP. For a real layer it must also name fused attention and the other multiplications,
# `addmm` (with a bias) and `bmm` (batched).

# %%
from functools import partial

import torch.utils.checkpoint as ckpt
from torch.utils.checkpoint import CheckpointPolicy, checkpoint
from torch.utils.flop_counter import FlopCounterMode

from ftkit.inside import Meter


def store_matmuls(ctx, operation, *args, **kwargs):
    if operation == torch.ops.aten.mm.default:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


contexts = partial(ckpt.create_selective_checkpoint_contexts, store_matmuls)

# %% [markdown]
# How much does each way store inside the MLP, and how many operations does a step take? `Meter` adds up the
# bytes of living tensors.

# %%
ways = {"store all": lambda: mlp(x),
        "selective": lambda: checkpoint(mlp, x, use_reentrant=False, context_fn=contexts),
        "recompute all": lambda: checkpoint(mlp, x, use_reentrant=False)}
rows = []
for name, run in ways.items():
    with Meter() as meter:
        out = run()
    inside = meter.total - weights - out.nbytes
    with FlopCounterMode(display=False) as counter:
        run().sum().backward()
    rows.append({"MLP": name, "stored inside, times x": inside / x.nbytes,
                 "operations, millions": counter.get_total_flops() / 1e6})
    del out
ft.table(rows)

# %% [markdown]
# Selective checkpointing stores half, and does no matrix multiplication twice. "Recompute all" repeats two of
# three: PyTorch stops before `down`. (The 0.006 is the saved state of the random generator.)
#
# **How many checkpoints?** Let each of n layers store k times its input inside. With c checkpoints, c inputs and
# one stretch of n/c layers are in memory: c + k n/c. That is least at c = √(k n) ([Chen et al.
# 2016](https://arxiv.org/abs/1604.06174) have k = 1). For 32 layers and a k of 20 to 30 these are 25 to 31, about
# one per layer.

# %% [markdown]
# ## Your turn: the loss in chunks
# <!-- claims: E30 -->
#
# The spike that is left is the logits: tokens × vocabulary in fp32, in several copies. Write
# `chunked_loss`: the mean cross-entropy over rows whose target is not -100. `hidden` is (n, width), `weight`
# is (vocabulary, width). At most `rows` rows of logits may exist at once.


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
# 26.35 MB are **three** copies of 512 · 4,096 · 4 bytes = 8.39 MB and 1.2 MB of small tensors. The three are
# the log-softmax, its gradient and the gradient of the logits. So without chunks, 8 × 2,048 tokens and a
# vocabulary of 128,256 need 8.4 GB for each copy: about 25 GB.

# %% [markdown]
# ## Break it
#
# Recomputing must give *the same*. What happens in a block with dropout?

# %%
block = torch.nn.Sequential(mlp, torch.nn.Dropout(0.1), torch.nn.Linear(192, 192))
right = gradients(torch.nn.Module.__call__, block)
by_ours = gradients(Checkpoint.apply, block)
by_torch = gradients(partial(checkpoint, use_reentrant=False), block)
ft.expect(((by_ours - right).norm() / right.norm()).item(), ">", 0.01,
          "ours: another dropout mask, another gradient")
print("torch's checkpoint gives the right gradient:", torch.equal(by_torch, right))

# %% [markdown]
# Ours gives a wrong gradient in every step, without an error. PyTorch restores the state of the random
# generator before it recomputes. A second trap comes with LoRA: PyTorch's re-entrant checkpoint looks only
# whether its *input* needs a gradient. Behind a frozen embedding it does not.

# %%
adapted_mlp = lora.model.layers[0].mlp
for reentrant in (True, False):
    out = checkpoint(adapted_mlp, torch.randn(64, 192), use_reentrant=reentrant)
    print(f"use_reentrant={reentrant}: the adapters get a gradient: {out.requires_grad}")

# %% [markdown]
# You only see a warning. If every layer is checkpointed so and nothing else trains, `loss.backward()`
# raises `element 0 of tensors does not require grad`. Use `use_reentrant=False`, as `ft` does, or
# `model.enable_input_require_grads()`. transformers 5.24 calls the latter whenever it switches checkpointing on.
# So look for the trap in older versions and in calls of `torch.utils.checkpoint` of your own. (With an adapter and
# DeepSpeed's ZeRO-3, TRL 1.16 needs `use_reentrant=True`. Pass it: transformers 5.24 ignores TRL's own setting
# if `gradient_checkpointing_kwargs` is unset.)
#
# ## At 135M
#
# No box At 135M: checkpointing that repeats the same computation changes no gradient, so there is nothing to
# compare. If SmolLM2 (30 layers) is on this machine, its step is measured.

# %%
from ftkit.inside import is_fetched

if is_fetched("smollm2"):
    real = activations.steps("smollm2", config.but(method="lora", precision="bf16"), [128] * 2)
    before, after = (step.parts["activations"] / 1e6 for step in real.values())
    ft.expect(after, "<", before, "SmolLM2, MB: activations fall to less than a third", times=1 / 3)

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
# trainer.train()
# ```

# %% [markdown]
# Order of measures when activations do not fit:
#
# 1. FlashAttention or `sdpa`, and a chunked or fused loss (in TRL 1.16's `SFTTrainer`; elsewhere from the
#    libraries Liger or Cut Cross-Entropy).
# 2. No padding, which is stored too: packing, or batch size 1 with gradient accumulation.
# 3. Checkpointing: selective first, then every layer. `gradient_checkpointing_kwargs={"selective": True}` in
#    TRL 1.16 lies in between: every layer is recomputed, except the result of attention. With an adapter and
#    transformers 5.24 it is ignored or raises an error. There leave it out and call
#    `trl.models.enable_selective_activation_checkpointing(trainer.model.get_base_model())` before `train()`; on
#    the embedded model attention then ran once per layer, not twice. For a compiled model
#    `torch._functorch.config.activation_memory_budget` (0 to 1) selects by itself.
# 4. **Activation offloading** to the host's memory (`activation_offloading=True` in TRL; with
#    `gradient_checkpointing_kwargs={"offload": True}` only the stored inputs move).
# 5. For very long texts, **context parallelism**: each GPU holds a part of each text.

# %% [markdown]
# - If memory is free, checkpoint every second layer (`gradient_checkpointing_kwargs={"every_n_layers": 2}`) or
#   none: in TRL 1.16 checkpointing is on by default.
# - transformers 5.23 renamed the option to `activation_checkpointing`. The old name works until version 6, with
#   a warning; TRL 1.16 takes both.
# - In your own QLoRA loop, peft's `prepare_model_for_kbit_training` switches checkpointing on by itself (TRL
#   1.16's `SFTTrainer` does not call it). Give it `gradient_checkpointing_kwargs={"use_reentrant": False}`. It
#   also casts embedding, norms and head to fp32: the stored inputs of the layers then take twice the bytes.
# - With FSDP ([13](13_zero_and_fsdp.ipynb)), transformers advises `activation_checkpointing` in the FSDP
#   configuration.

# %% [markdown]
# ## Interview
#
# **What does gradient checkpointing trade for what?**
# <details><summary>Answer</summary>
# Activation memory for compute. Each block stores only its input and is computed again in the backward pass.
# At most one more forward pass: up to 4/3 of the operations in full fine-tuning, up to 3/2 with LoRA in every
# layer. Gradients are the same if the second run is: dropout replayed, deterministic.
# </details>
#
# **How far does it raise the batch size?**
# <details><summary>Answer</summary>
# By about the ratio of the bytes of one more sequence without and with it. It is large with
# many layers and a chunked loss (about ten for QLoRA on a 7B's queries and values at 2,048 tokens), small
# where the logits, which do not shrink, are the peak.
# </details>

# %% [markdown]
# **When does it save nothing?**
# <details><summary>Answer</summary>
# When activations are not the peak: full fine-tuning with AdamW, a short batch and no gradient accumulation
# peaks when all gradients exist. Weights, gradients, optimizer states and logits do not shrink.
# </details>
#
# **Peak of the logits for batch 8, 2,048 tokens, vocabulary 128,256?**
# <details><summary>Answer</summary>
# 8 · 2,048 · 128,256 · 4 bytes = 8.4 GB for each fp32 copy. Plain cross-entropy holds about three
# (log-softmax, its gradient, the gradient of the logits): 25 GB. Compute the loss in chunks or fused, and
# only for trained tokens: the same loss up to rounding.
# </details>
#
# **What is selective checkpointing?**
# <details><summary>Answer</summary>
# Store the results of expensive operations, recompute the cheap ones (norms, activation functions, products).
# With all matmuls stored, a fully trained SwiGLU MLP stores about half and repeats none.
# </details>

# %% [markdown]
# ## Recap
#
# - Activations grow with tokens and layers; quadratically with the length only without fused attention.
# - Checkpointing stores the inputs of layers and costs at most one more forward pass: 4/3, with LoRA in every
#   layer 3/2. It changes no gradient if the second run is the same.
# - Compute the largest batch from two traces; do not quote a factor.
#
# In the package: [`ftkit/lessons/activations.py`](../ftkit/lessons/activations.py). Next:
# [12 floating point](12_floating_point.ipynb).

# %%
ft.progress("11")
