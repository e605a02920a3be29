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
# batch.** One half is nearly a theorem, the other a number that somebody once had. After this
# lesson you can
#
# - say what autograd keeps for the backward pass, layer by layer, and how it grows;
# - checkpoint by hand, with the same gradients to the last bit;
# - find the largest batch for a card before you rent it, and say what checkpointing will not save.
#
# *About 25 minutes. The code needs a minute on two CPU cores. Needs
# [lesson 09](09_where_the_memory_goes.ipynb); leads to [12](12_floating_point.ipynb).*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"QLoRA on a 7B, texts of 2,048 tokens, a card of 24 GB. How far does gradient checkpointing raise
# > the batch size, what does it cost, and when does it do nothing?"*
#
# "Two to three times" is the usual answer. Let us see what is kept, and why.
#
# ## By hand: what is kept
#
# The backward pass runs through the operations in reverse, and many of them need what went in or
# came out. torch tells: `saved_tensors_hooks` is called with each tensor that autograd keeps.

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
assert keeps(torch.add, x, y) == 0 and keeps(torch.matmul, x, frozen) == frozen.nbytes
of = {"x * y": (torch.mul, x, y), "softmax(x)": (torch.softmax, x, -1),
      "silu(x)": (torch.nn.functional.silu, x), "x @ W, trained": (torch.matmul, x, trained),
      "x @ W, frozen": (torch.matmul, x, frozen)}
{name: keeps(*call) / x.nbytes for name, call in of.items()}

# %% [markdown]
# In units of `x`. A sum has gradient 1 and keeps nothing, a product keeps both factors, softmax its
# result, silu its input. `x @ W` needs `x` for the gradient of `W` and `W` for that of `x` (that is
# the 0.19, which lies in memory anyway). Where `W` is frozen, `x` is not needed: remember that
# for LoRA.
#
# ## Layer by layer
#
# `activations.kept` does this for a model and charges each tensor to the layer that keeps it first.

# %%
guess = ft.predict("Most of what tiny keeps for its backward pass belongs to ...",
                   "attention", "MLP", "norms", "loss", guess=...)
guess

# %%
from ftkit.lessons import activations

model, tokenizer = ft.load("tiny")
ids = torch.randint(5, 3000, (8, 128))
parts = activations.kept(model, ids)
state = ids.numel() * model.config.hidden_size * 4  # a hidden state for each token, bytes
ft.table([{"part": part, "MB": size / 1e6, "hidden states, in each of 4 layers":
           None if part == "loss" else size / state / 4} for part, size in parts.items()])

# %%
guess.score(max(parts, key=parts.get))

# %% [markdown]
# The MLP is 2.7 times as wide as the hidden state and keeps four such tensors: both branches, the
# activated one, and their product. Attention keeps queries, keys, values and its result. Both keep
# what goes in as well, and each norm its input, before and after scaling. Over twenty hidden states in each layer, for one that leaves
# it. The loss keeps its logits.
#
# ## How it grows
#
# The same 512 tokens, as 8 texts of 64 or as one of 512, with fused and with eager attention:

# %%
def per_token(length, attention):
    model.set_attn_implementation(attention)
    return sum(activations.kept(model, ids.view(-1)[:512].view(-1, length)).values()) / 512 / 1e3


grown = {how: [per_token(n, how) for n in (64, 128, 256, 512)] for how in ("eager", "sdpa")}
ft.expect(abs(grown["sdpa"][3] / grown["sdpa"][0] - 1), "<", 0.02, "fused: linear in tokens")
a, b, c, d = grown["eager"]
ft.expect(abs((d - c) / (b - a) / 4 - 1), "<", 0.001, "eager: a token pays for all of its text")
ft.table([{"kB a token": how, "64": f[0], "128": f[1], "256": f[2], "512": f[3]}
          for how, f in grown.items()])

# %% [markdown]
# Fused attention (`sdpa`, flash) keeps one number for each row of scores, eager attention the
# scores: tokens × length, quadratic in the length. Depth is linear:

# %%
base = ft.Config(precision="fp32", learning_rate=1e-3, batch_size=8, max_length=128)
deep = [ft.memory(base, model.config.to_dict() | {"num_hidden_layers": n}, device="cpu")
        for n in (2, 4, 8)]
two, four, eight = (found.largest["activations"] / 1e6 for found in deep)
ft.expect(eight - four, "==", 2 * (four - two), "MB: four more layers cost twice two more")

# %% [markdown]
# ## Checkpoint by hand
#
# <!-- claims: C48 · E29 -->
# Keep only what goes *into* a block, throw away all inside. When the backward pass arrives, compute
# the block again, with everything kept this time.

# %%
class Checkpoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, block, x):
        ctx.block = block
        ctx.save_for_backward(x)
        return block(x)  # there is no graph in here: nothing inside is kept
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


mlp = model.model.layers[0].mlp
assert torch.equal(gradients(Checkpoint.apply, mlp), gradients(torch.nn.Module.__call__, mlp))
assert keeps(Checkpoint.apply, mlp, x) == x.nbytes
(keeps(mlp, x) - sum(p.nbytes for p in mlp.parameters())) / x.nbytes

# %% [markdown]
# The same gradients, bit for bit: the same arithmetic on the same numbers, done twice. In between,
# one hidden state instead of nearly twelve.
#
# ## The same with ft
#
# <!-- claims: C48 C49 · E29 -->
# `gradient_checkpointing=True` does this to every layer (with torch's own `checkpoint`). What does
# it cost?

# %%
cost = ft.predict("Backward takes twice the operations of forward. With every layer checkpointed "
                  "a step takes ...", "1.1 times", "about 1.3 times", "twice as many", guess=...)
cost

# %%
plain = activations.work(model, ids)
again = activations.work(model, ids, checkpointing=True, early_stop=False)
assert torch.equal(again.gradient, plain.gradient) and (plain.passes, again.passes) == (1, 2)
ft.expect(again.operations / plain.operations, "==", 1 + plain.in_layers / 3,
          "one more forward pass, of the layers alone")
torchs = activations.work(model, ids, checkpointing=True)
print(f"{plain.in_layers:.0%} of the forward pass is in layers; as torch does it a step takes "
      f"{torchs.operations / plain.operations:.2f} times the operations")
times = again.operations / plain.operations
cost.score("1.1 times" if times < 1.2 else "about 1.3 times" if times < 1.6 else "twice as many")

# %% [markdown]
# 4/3 if all lies in layers: forward 1, backward 2, forward again 1. `tiny`'s head, a quarter of its
# forward pass, is not repeated; in a large model it hardly counts. And torch stops as soon as it
# has what it needs: the last product of a layer only makes an output that is known. In CPU time,
# taking turns:

# %%
ratios = activations.slowdown("tiny", base, [128] * 8)
print("time, with / without:", *(f"{ratio:.2f}" for ratio in ratios))
f"median {(ratios[2] + ratios[3]) / 2:.2f}"

# %% [markdown]
# Single ratios swing, the median is what to read; the documentation of transformers says about
# 20 %. Now the bytes of a real step, all of them:

# %%
from ftkit.memory_use import charts
from ftkit.model import loading

steps = activations.steps("tiny", base, [128] * 8)
before, after = ({part: b / 1e6 for part, b in step.parts.items()} for step in steps.values())
ft.expect(after["activations"], "<", before["activations"] / 3, "MB of activations: less than a third")
for part in ("weights", "gradients", "optimizer", "logits"):
    ft.expect(after[part], "==", before[part], f"MB of {part}: as before")
charts.along(steps)

# %% [markdown]
# Left, activations pile up to the end of the forward pass. Right, each layer leaves one step; in
# the backward pass you can count four layers that come back to life, one at a time. What stays are
# weights, optimizer, gradients, and the spike of the logits.
#
# ## What it does not save
#
# Llama 2 7B, all weights trained with AdamW (bf16), batch 1 with 512 tokens.

# %%
lowered = ft.predict("Checkpointing lowers that peak by ...", "two thirds", "a third", "a tenth",
                     "nothing", guess=...)
lowered

# %%
seven = "meta-llama/Llama-2-7b"
one = {on: ft.memory(base.but(precision="bf16", gradient_checkpointing=on), seven, batch_size=1,
                     max_length=512) for on in (False, True)}
peak = {on: found.peak / 1e9 for on, found in one.items()}
kept = {on: found.largest["activations"] / 1e9 for on, found in one.items()}
ft.expect(peak[True], "==", peak[False], f"GB: the peak, at {one[True].moment}, stays")
ft.expect(kept[True], "<", kept[False] / 3, "GB: the activations do shrink")
saved = {"two thirds": 2 / 3, "a third": 1 / 3, "a tenth": 0.1, "nothing": 0}
lowered.score(min(saved, key=lambda name: abs(1 - peak[True] / peak[False] - saved[name])))

# %% [markdown]
# But they are gone when all gradients are there (to be clipped), and that is the peak.
# Checkpointing helps where activations *are* the peak: many tokens, or few trained weights.
#
# ## The largest batch
#
# <!-- claims: C50 · E29 -->
# "It enables 2 to 3 times larger batches." Take a budget of 128 MB for `tiny`, texts of 128 tokens:
# double the batch until the predicted peak fails, then halve the gap. Then take a real training
# step at that batch, and at one text more.

# %%
factor = ft.predict("Checkpointing raises the largest batch of tiny (fp32, full) by ... and of a 7B "
                    "(QLoRA, 24 GB, 2,048 tokens) by ...", "3 and 3", "3 and 10", "10 and 3",
                    guess=...)
factor

# %%
from ftkit.memory_use import measure, model_shapes

budget, saving = 128e6, base.but(gradient_checkpointing=True)
best = {config: activations.largest_batch(config, budget) for config in (base, saving)}
ran = {config: [measure.step("tiny", config, [128] * (n + more)).peak / 1e6 for more in (0, 1)]
       for config, n in best.items()}
assert all(fits <= budget / 1e6 < fails for fits, fails in ran.values())
ft.table([{"checkpointing": config.gradient_checkpointing, "largest batch, predicted": n,
           "measured, MB": ran[config][0], "one text more, MB": ran[config][1]}
          for config, n in best.items()])

# %% [markdown]
# And the 7B of the question? The search is the same; to save your time only its last questions are
# asked here. Beside the trace stands the closed form, which is there at once.

# %%
card = model_shapes.GPUS["RTX 4090 24GB"].usable
qlora = ft.Config(method="qlora", target_modules="q_proj,v_proj", precision="bf16",
                  max_length=2048)
traced = {(on, n): ft.memory(qlora, seven, batch_size=n, gradient_checkpointing=on)
          for on, n in ((False, 2), (False, 3), (True, 20), (True, 21))}
assert [found.peak <= card for found in traced.values()] == [True, False, True, False]
ft.table([{"checkpointing": on, "batch": n, "peak, GB": found.peak / 1e9, "activations, GB":
           found.simulation["activations"] / 1e9, "closed form, GB": found.formula["peak"] / 1e9}
          for (on, n), found in traced.items()])

# %%
factor.score(f"{best[saving] // best[base]} and {20 // 2}")

# %% [markdown]
# The factor is no constant: it is (what is free) / (bytes of one text), with and without. In `tiny`
# weights, optimizer and logits fill much of the budget and do not shrink; of the 7B's peak the
# activations of one text are three quarters. And the closed form (34 bytes for each token and
# hidden unit: a GPT, all in 16 bits) misses half of what one more text costs (last two lines of the
# table): here the residual stream, the norms and what comes out of 4-bit layers are in fp32.
#
# ## How many checkpoints?
#
# Few checkpoints: long pieces come back to life. Many: the checkpoints themselves add up. Take 64
# layers, each of which keeps one tensor.

# %%
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from ftkit.memory_use.meter import Meter

chain, start = [torch.nn.Tanh() for _ in range(64)], torch.randn(100_000, requires_grad=True)
peaks = {}
for segments in (1, 2, 4, 8, 16, 32, 64):
    with Meter() as meter:
        checkpoint_sequential(chain, segments, start, use_reentrant=False).sum().backward()
    peaks[segments] = round(meter.peak / start.nbytes, 1)
assert min(peaks, key=peaks.get) == 8
layer = sum(size for part, size in parts.items() if part != "loss") / state / 4
best_of = {n: min(range(1, n + 1), key=lambda s: s + -(-n // s) * layer) for n in (4, 32, 80, 126)}
print("peak by segments:", peaks)
print("transformer, best segments by layers:", best_of)

# %% [markdown]
# √64 = 8, the rule of [Chen et al. 2016](https://arxiv.org/abs/1604.06174): memory grows with √n.
# But a transformer's layer keeps some 21 times its input (first table). So s + (n / s) · 21 is
# smallest at s = √(21 n), second line: one checkpoint a layer, as every library does it, is right
# up to dozens of layers. A finer choice goes by operation: **selective** checkpointing keeps the
# results of products, which are dear, and computes again what is cheap (norms, silu, softmax).
#
# ## Logits
#
# <!-- claims: E30 -->
# The spike that was left: tokens × vocabulary in fp32, and a gradient as large. The same trick on
# the head: some rows at a time, computed again when their turn comes.

# %%
def loss_in_chunks(hidden, weight, targets, rows):
    parts = zip(hidden.split(rows), targets.split(rows))
    return sum(checkpoint(lambda h, t: F.cross_entropy(h @ weight.T, t, reduction="sum"),
                          h, t, use_reentrant=False) for h, t in parts) / len(targets)


def spent(vocabulary, rows):
    torch.manual_seed(0)
    hidden, weight = (torch.randn(n, 64, requires_grad=True) for n in (512, vocabulary))
    with Meter() as meter:
        loss = loss_in_chunks(hidden, weight, torch.arange(512), rows)
        loss.backward()
    return meter.peak / 1e6, loss.item(), weight.grad


whole, chunks = spent(16384, 512), spent(16384, 64)
assert abs(chunks[1] / whole[1] - 1) < 1e-6 and torch.allclose(chunks[2], whole[2], atol=1e-6)
ft.expect(chunks[0], "<", whole[0] / 3, "less than a third of the peak, the same loss, gradient")
ft.table([{"vocabulary": v} | {f"{rows} rows, MB": spent(v, rows)[0] for rows in (512, 128, 64)}
          for v in (4096, 16384)])

# %% [markdown]
# Rows without a label need no logits at all; in instruction tuning that is often most of them. `ft`
# does both (at most 16 million logits at once). Who does not, pays for a batch of 8 × 2,048 tokens
# and a vocabulary of 128,256 in fp32 8 · 2,048 · 128,256 · 4 bytes = 8.4 GB, and the gradient once
# more.
#
# ## With LoRA, with bf16
#
# "LoRA takes away gradients and optimizer, but no activations." Nearly: a frozen product keeps no
# input. Four real steps, and the same four with checkpointing, in MB:

# %%
runs = [{}, {"method": "lora"}, {"method": "lora", "target_modules": "q_proj,v_proj"},
        {"precision": "bf16"}]
rows = [{"run": " ".join(run.values()) or "full fp32"} | {
    f"{part}, {name.split()[0]}": value / 1e6 for name, step in activations.steps(
        "tiny", base.but(**run), [128] * 8).items()
    for part, value in (("activations", step.parts["activations"]), ("peak", step.peak))}
    for run in runs]
ft.expect(rows[2]["activations, without"], ">", 0.65 * rows[0]["activations, without"],
          "LoRA on q and v alone: most activations stay")
ft.expect(rows[3]["peak, with"], ">", rows[0]["peak, with"],
          "checkpointed, bf16 is no gain here")
ft.table(rows)

# %% [markdown]
# Autocast makes activations narrower, but with checkpointing little of them is left, and its 16-bit
# copies of weights and logits come on top. On a model this small that costs more than it saves.
#
# ## Break it
#
# Computing again must mean computing *the same*. Our Checkpoint, with dropout in the block:

# %%
block = torch.nn.Sequential(mlp, torch.nn.Dropout(0.1), torch.nn.Linear(192, 192))
once, ours, torchs = (gradients(run, block) for run in (torch.nn.Module.__call__, Checkpoint.apply, (
    lambda block, x: checkpoint(block, x, use_reentrant=False))))
assert torch.equal(torchs, once)  # it keeps the state of the generator
ft.expect(((ours - once).norm() / once.norm()).item(), ">", 0.01, "another mask, another gradient")

# %% [markdown]
# No error, a slightly wrong gradient in every step. torch saves the generator's state for each
# layer (`preserve_rng_state`). A second one, from LoRA: the older, *re-entrant* kind of checkpoint
# looks only at whether its input needs a gradient. Behind a frozen embedding it does not.

# %%
adapted = loading.adapt(ft.load("tiny")[0], ft.Config(method="lora")).get_base_model().model.layers[0]
learns = {f"re-entrant {kind}": checkpoint(adapted.mlp, torch.randn(64, 192), use_reentrant=kind)
          .requires_grad for kind in (True, False)}
assert learns == {"re-entrant True": False, "re-entrant False": True}
learns

# %% [markdown]
# The adapters of that layer get no gradient and stay as they were; torch's warning is all you see.
# Use `use_reentrant=False` (as `ft` does), or `model.enable_input_require_grads()`.
#
# ## What if?
#
# From which length on does QLoRA of a 7B need checkpointing on 24 GB? Switch it on and off, and
# press *Trace the step* before you believe it: what follows the controls at once is the closed
# form, which misses half.

# %%
from ftkit.notebook.memory_calculator import Calculator

Calculator(seven, method="qlora", max_length=1024, gradient_checkpointing=True)

# %% [markdown]
# ## Now on a real LLM
#
# SmolLM2-135M: 30 layers, a vocabulary of 49,152. LoRA, two texts of 128 tokens:

# %%
if download.has("smollm2"):
    real = activations.steps("smollm2", base.but(method="lora", precision="bf16"), [128] * 2)
    a, b = (step.parts["activations"] for step in real.values())
    print(f"activations {a / 1e6:.0f} MB, with checkpointing {b / 1e6:.0f} MB; {charts.along(real)}")
    ft.expect(b / 1e6, "<", a / 3e6, "MB, 30 layers: activations fall to less than a third")

# %% [markdown]
# ## Exercises
#
# **1.** Bytes of activations in 16 bits by the textbook: each of `layers` layers keeps 34 bytes for
# each token and hidden unit; with checkpointing its input alone (2 bytes), and one layer is whole
# while it comes back to life.


# %% tags=["raises-exception"]
def activation_bytes(tokens, hidden, layers, checkpointing):
    ...


ft.check("activation_bytes", activation_bytes)


# %% [markdown]
# **2.** How many segments need least memory, for `layers` layers that keep `inside` bytes each and
# whose input has `edge` bytes? Kept are the inputs of all segments, and one whole segment (the
# longest).


# %% tags=["raises-exception"]
def best_segments(layers, inside, edge):
    ...


ft.check("best_segments", best_segments)


# %% [markdown]
# **3.** The mean cross entropy over the labelled rows (label not -100), computed in chunks of `rows`
# rows, so that no more logits live at once.


# %% tags=["raises-exception"]
def chunked_loss(hidden, weight, targets, rows):
    ...


ft.check("chunked_loss", chunked_loss)

# %% [markdown]
# ## Interview
#
# **What does gradient checkpointing trade for what?**
# <details><summary>Answer</summary>
# Activations for computing: each block keeps its input and is computed again in the backward pass.
# At most one more forward, 4/3 of the operations; 1.25 for tiny, whose head is not repeated, 1.19
# as torch does it. Activations fell to less than a third. Gradients are equal to the last bit.
# </details>
#
# **How far does it raise the batch size?**
# <details><summary>Answer</summary>
# By no fixed factor: free bytes over bytes of a text, with and without. Here: 3 times for tiny in
# 128 MB, and 2 to 20 for a 7B with QLoRA, 2,048 tokens, on 24 GB.
# </details>

# %% [markdown]
# **When does it save nothing?**
# <details><summary>Answer</summary>
# When activations are not the peak. 7B, all weights, AdamW, batch 1 with 512 tokens: 107.8 GB
# either way, reached when all gradients are there. Weights, gradients, optimizer and logits do not
# shrink.
# </details>
#
# **Peak of the logits for batch 8, 2,048 tokens, vocabulary 128,256?**
# <details><summary>Answer</summary>
# 8 · 2,048 · 128,256 · 4 bytes = 8.4 GB in fp32, and a gradient as large. Compute only labelled
# rows, in chunks: the same loss within 1e-6.
# </details>
#
# ## Recap
#
# - Kept is what a product, an activation function or a norm needs: some 21 hidden states a layer here.
# - Linear in tokens and layers; quadratic in length only with eager attention.
# - Checkpointing: inputs of blocks alone, one more forward pass of the blocks, equal gradients.
# - Search the largest batch with `ft.memory`; do not quote a factor.
#
# Next: [12](12_floating_point.ipynb), where bf16 halves the rest, or does it?
