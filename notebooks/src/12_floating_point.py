# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · Floating point and mixed precision
#
# **Claim: mixed precision halves the memory, and since bf16 has the range of fp32 one can train in
# it throughout.** It could be wrong, twice. After this lesson you can
#
# - say how far apart the numbers of fp32, fp16 and bf16 are, and round by hand;
# - show updates that are lost without a trace, and the three remedies;
# - scale a loss, and say what mixed precision saves and what it does not.
#
# *About 30 minutes. The code needs a minute on two CPU cores. Needs
# [01](01_full_fine_tuning.ipynb); what it says of activations goes on from
# [11](11_activations_and_checkpointing.ipynb). Leads to [13](13_zero_and_fsdp.ipynb).*

# %%
import ftkit as ft
from ftkit.model import download, rounding

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"A full fine-tune in pure bf16 at learning rate 1e-5 barely learns, without any error. Why? And
# > what is the master copy for?"*
#
# "bf16 is less precise" is true and explains nothing. Look at the numbers themselves.
#
# ## Range and spacing
#
# A float is a sign, an exponent (range) and a fraction (precision). fp32 spends 8 + 23 bits, fp16
# 5 + 10, bf16 8 + 7; e4m3 and e5m2 say it in their names.

# %%
import torch

from ftkit.lessons import activations
from ftkit.lessons.by_hand import floats

formats = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16,
           "fp8, e4m3": torch.float8_e4m3fn, "fp8, e5m2": torch.float8_e5m2}
ft.table([{"format": name, "largest": f"{torch.finfo(d).max:.3g}",
           "smallest normal": f"{torch.finfo(d).smallest_normal:.1e}",
           "spacing at 1": f"{rounding.spacing(1, d).item():.2e}",
           "spacing at 0.02": f"{rounding.spacing(0.02, d).item():.2e}"}
          for name, d in formats.items()])

# %% [markdown]
# fp16 runs out at 65,504; bf16 does not, and pays with its fraction (last column). Two more names are
# about products alone, weights stay wider: **TF32** cuts the factors of an fp32 product to 10 bits
# of fraction (torch does it if you call `torch.set_float32_matmul_precision("high")`); **fp8** scales
# each tensor or block to its range, e4m3 for weights and activations, e5m2 for gradients.
#
# bf16 is simply the upper half of fp32's bits, so rounding is integer arithmetic: add half a unit,
# cut.


# %%
def round_to_bf16(x):
    bits = x.view(torch.int32)
    half = 0x7FFF + (bits >> 16 & 1)  # exactly half way goes to the even neighbor
    return ((bits + half) & -65536).view(torch.float32)


x = torch.randn(1_000_000)
assert torch.equal(round_to_bf16(x), x.bfloat16().float())
assert torch.equal(floats.to_bf16(x), round_to_bf16(x))

# %% [markdown]
# ## An update that is not there
#
# <!-- claims: C52 · E27 -->
# AdamW moves a weight by about one learning rate (lesson 01). A weight in bf16 that is moved by less
# than half the distance to its neighbor is rounded back to where it was.

# %%
lost = ft.predict("Weights in bf16, a step of 1e-4 on each: how many of tiny's weights stay exactly "
                  "where they were?", "one in ten", "half", "most", guess=...)
lost

# %%
model, tokenizer = ft.load("tiny")
weights = torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim == 2])
stored = floats.to_bf16(weights)


def stay(step):
    return (floats.to_bf16(stored - step) == stored).double().mean().item()


lost.score("most" if stay(1e-4) > 0.6 else "half")

# %%
{"size of a weight": weights.std().item(),
 "of all weights stay": {f"step {step:g}": stay(step) for step in (1e-5, 1e-4, 1e-3)}}

# %% [markdown]
# The loss of precision is not noise that averages out: the same weights stay, step after step, until
# a step is large enough. In large models weights are smaller (say 0.02), but so are the rates:

# %%
small = floats.to_bf16(0.02 * torch.randn(1_000_000))
{f"step {step:g}": (floats.to_bf16(small - step) == small).double().mean().item()
 for step in (1e-6, 1e-5, 2e-5, 1e-4)}

# %% [markdown]
# ## Train with it
#
# `floats.train_rounded` computes everything in fp32 and rounds only the stored weights to bf16 after
# each step. So it is the storage alone that makes the difference. A third way is **stochastic
# rounding**: up or down by chance, right on average.


# %%
def round_by_chance(x):
    bits = x.view(torch.int32)
    chance = torch.randint(0, 1 << 16, x.shape, dtype=torch.int32)
    return ((bits + chance) & -65536).view(torch.float32)


# %%
x = torch.full((100_000,), 0.02)
mean = round_by_chance(x).double().mean().item()
ft.expect(abs(mean / 0.02 - 1), "<", 1e-4, "right on average")
ft.expect(abs(floats.to_bf16(x)[0].item() / 0.02 - 1), ">", 1e-4, "the nearest is always off")

# %%
SEEDS = (0, 1, 2)
which_rounding = ft.predict(
    "25 steps at rate 1e-4, weights stored in bf16. Against fp32 weights, which rounding is nearly "
    "as good?", "nearest", "stochastic", "both", "none", guess=...)
which_rounding

# %%
from ftkit.engine import loop

lab = ft.Experiment(data=ft.records("tasks")[:400], val="tasks", eval_records=48, probes=())
records, held_out = ([ft.encode(r, tokenizer) for r in part] for part in (lab.train, lab.val[:48]))


def end_of(rate, rounding, seed):
    fresh, _ = ft.load("tiny")
    order = loop.shuffled(len(records), 16, seed)
    batches = [next(order) for _ in range(25)]
    floats.train_rounded(fresh, records, batches, rate, rounding, seed)
    return ft.loss_on(fresh, held_out)


# %%
ends = {how: [end_of(1e-4, how, seed) for seed in SEEDS] for how in floats.ROUNDINGS}
ft.expect(ends["nearest"], ">", ends["none"], "small steps are lost", times=2)
ft.expect(ends["stochastic"], "==", ends["none"], "rounding by chance loses nothing",
          within=0.1, paired=True)
good = [how for how in ("nearest", "stochastic")
        if max(abs(a - b) for a, b in zip(ends[how], ends["none"], strict=True)) < 0.1]
which_rounding.score("both" if len(good) == 2 else good[0] if good else "none")

# %%
ft.table([{"rounding": how, "val_loss": losses} for how, losses in ends.items()])

# %% [markdown]
# The remedies: a **master copy** of the weights in fp32 (mixed precision keeps one), stochastic
# rounding, or adapters in fp32 (LoRA). Is a larger rate one too?

# %%
large = {how: [end_of(1e-3, how, seed) for seed in SEEDS] for how in ("none", "nearest")}
lag = {"1e-4": [a / b for a, b in zip(ends["nearest"], ends["none"])],
       "1e-3": [a / b for a, b in zip(large["nearest"], large["none"])]}
ft.expect(lag["1e-3"], "<", lag["1e-4"], "steps that are larger are not lost", times=0.5)
ft.table([{"rate": rate, "val_loss, nearest / fp32": shares} for rate, shares in lag.items()])

# %% [markdown]
# It hides the effect, here. But then rounding chooses your learning rate, and late in a schedule,
# when the rate falls, updates vanish again.
#
# ## The same with ft
#
# `precision="bf16"` is mixed precision (autocast over fp32 weights), `"pure-bf16"` has no other copy.
# (Losses fall less than above: a Config warms up and lets the rate fall, `train_rounded` holds it.)

# %%
base = ft.Config(learning_rate=1e-4, max_steps=25, eval_steps=25)
runs = {p: lab.sweep(base.but(precision=p), seed=SEEDS) for p in ("fp32", "bf16", "pure-bf16")}
final = {p: [run.after["val_loss"] for run in three] for p, three in runs.items()}
ft.expect(final["bf16"], "==", final["fp32"], "mixed precision learns what fp32 learns",
          within=0.05, paired=True)
ft.expect(final["pure-bf16"], ">", final["bf16"], "pure bf16 stays behind")
ft.curves(runs, "val_loss")

# %% [markdown]
# ## A loss that falls at any rate
#
# Many models are published in fp16, which has three bits more than bf16. Where these are 100, and
# that is one weight in eight, it lies exactly half way between two numbers of bf16. `tiny`, stored in
# either: one step at a rate of 1e-8. What will the loss on other records do?

# %%
nudge = base.but(learning_rate=1e-8, max_steps=1, warmup_steps=0)
change = {}
for name in ("fp16", "bf16"):
    stored_in = ft.load("tiny")[0].to(formats[name]).float()
    again = ft.Experiment((stored_in, tokenizer), lab.train, lab.val, probes=(), eval_records=48)
    for p in ("fp32", "bf16"):
        three = [again.run(nudge, precision=p, seed=seed, live=False) for seed in SEEDS]
        change[name, p] = [run.change("val_loss") for run in three]
nearly_none = max(abs(x) for how in change if how != ("fp16", "bf16") for x in change[how])
ft.expect(max(change["fp16", "bf16"]), "<", -5 * nearly_none, "from fp16 into bf16, it falls")
ft.table([{"stored in": a, "precision": b, "change of val_loss": x} for (a, b), x in change.items()])

# %% [markdown]
# The step decides for each of these weights which neighbor autocast takes: the one against the
# gradient. So an eighth of all weights move by half a spacing, at any rate, and fp32 sees none of it.
# Weights dequantized from 4 bits may lie so too. The run says it (above); LoRA leaves them alone.
# Before you compare rates of full fine-tuning, round such a model to bf16 once, or run in fp32.

# %% [markdown]
# ## The other end: fp16
#
# <!-- claims: C51 · E28 -->
# fp16 has three more bits of fraction, and a narrow range. Gradients are small: below its normal
# numbers fp16 has subnormals, and below 6e-8 nothing but zero. So the *loss* is multiplied by a
# scale, which multiplies every gradient, and they are divided by it before the update.

# %%
from ftkit.data.encoding import collate

batch = collate(records[:16], tokenizer.pad_token_id)
model.zero_grad()
model(**batch).loss.backward()
gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
gradients = gradients[gradients != 0]


def after_scaling(power):
    half = (gradients * 2.0**power).half()
    return {"scale": f"2^{power}", "lost to zero": (half == 0).double().mean().item(),
            "overflowed": half.isinf().sum().item()}


# %%
ft.table([after_scaling(power) for power in (0, 4, 8, 12, 16, 20)])

# %% [markdown]
# Too low loses the small ones (here few: in larger models gradients are smaller), too high makes
# infinities. Trainers search: after an infinity they skip the step and halve the scale, after many
# good steps they double it (`GradScaler`). Clip only after dividing (`scaler.unscale_`), or you clip
# the scale. `precision="fp16"` does all this; bf16 has no need.

# %%
lines = [after_scaling(power) for power in range(0, 24, 2)]
fine = [line for line in lines if line["lost to zero"] < 1e-5 and line["overflowed"] == 0]
ft.expect(len(fine), ">", 0, "between zero and infinity there is a window")
[line["scale"] for line in fine]

# %%
half = lab.run(base, precision="fp16", learning_rate=1e-3, live=False)
ft.expect(half.after["val_loss"], "<", half.before["val_loss"], "fp16 with scaling learns")

# %% [markdown]
# ## What mixed precision saves
#
# <!-- claims: C53 · E08 -->
# "Half the memory", says every second blog. Count it. Weights, gradients and AdamW first: in mixed
# precision, which of them is in 16 bits?

# %%
memory = ft.predict("Mixed precision against fp32: weights, gradients and AdamW's states together "
                    "take ...", "half", "three quarters", "the same", guess=...)
memory


# %%
def states(precision):
    fresh = ft.load("tiny")[0].to(torch.bfloat16 if precision == "pure-bf16" else torch.float32)
    optimizer = torch.optim.AdamW(fresh.parameters(), lr=1e-4)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        fresh(**batch).loss.backward()
    optimizer.step()
    return sum(p.nbytes + p.grad.nbytes + s["exp_avg"].nbytes + s["exp_avg_sq"].nbytes
               for p, s in optimizer.state.items()) / fresh.num_parameters()


# %%
total = {precision: states(precision) for precision in runs}
ft.expect(total["bf16"], "==", total["fp32"], "bytes per parameter are the same")
print(total)
memory.score("the same" if total["bf16"] == total["fp32"] else "half")

# %% [markdown]
# The fp32 weights *are* the master copy; on GPU recipes that keep 16-bit weights beside it:
# 2 + 2 + 4 + 8 = 16 again. What about that which the backward pass keeps?

# %%
kept = {"fp32": activations.kept_by_autocast(model, batch),
        "bf16": activations.kept_by_autocast(model, batch, torch.bfloat16)}
ratio = {"activations": kept["bf16"]["activations"] / kept["fp32"]["activations"],
         "with copies of weights": sum(kept["bf16"].values()) / sum(kept["fp32"].values())}
ft.expect(ratio["activations"], ">", 0.5, "less, but not half: some stay in fp32")
ft.expect(ratio["with copies of weights"], ">", ratio["activations"], "and copies come on top")
ratio

# %% [markdown]
# Norms, softmax and the loss stay in fp32 by design, and autocast keeps a 16-bit copy of each matrix
# until the backward pass: for a small batch that can cost more than it saves. Mixed precision is
# about *speed* (matrix units) and activations. Only pure 16-bit halves the states, at the price above.
#
# ## Break it
#
# Pure fp16, without scaling or master weights. AdamW divides by the root of a mean of *squared*
# gradients, plus `eps = 1e-8`. What is left of both after one step? As shares of all weights:

# %%
pure, _ = ft.load("tiny")
pure = pure.half()
optimizer = torch.optim.AdamW(pure.parameters(), lr=1e-4)
pure(**batch).loss.backward()
optimizer.step()


def share(test):
    return sum(test(p).sum().item() for p in pure.parameters()) / pure.num_parameters()


broken = {"gradient is 0": share(lambda p: p.grad == 0), "weight infinite": share(torch.isinf),
          "mean square is 0": share(lambda p: optimizer.state[p]["exp_avg_sq"] == 0),
          "weight not a number": share(torch.isnan)}
ft.expect(broken["weight infinite"], ">", 0.5, "after one step most weights are infinite")
torch.tensor(1e-8).half(), broken, pure(**batch).loss

# %% [markdown]
# Hardly a gradient is zero, but squares are: AdamW keeps 0.001 g², and below g = 0.005 that is less
# than fp16 can hold. `eps` is zero too. So the update is m / 0, infinite, or 0 / 0. NaN at step 2
# is a format, not a learning rate.
#
# ## What if?
#
# How large must a rate be before half of the weights move at all?

# %%
rate = 3e-4
{"stay": stay(rate), "spacing at a typical weight": rounding.spacing(
    weights.std(), torch.bfloat16).item()}

# %% [markdown]
# ## A real model
#
# SmolLM2-135M, and the rates at which one would fully fine-tune it:

# %%

if download.has("smollm2"):
    smol = torch.cat([p.detach().flatten() for p in ft.load("smollm2")[0].parameters()])
    stored = floats.to_bf16(smol)
    print(f"size of a weight {smol.std():.3f}; stay:", {
        step: round((floats.to_bf16(stored - step) == stored).double().mean().item(), 3)
        for step in (1e-6, 2e-5, 1e-4)})

# %% [markdown]
# ## Exercises
#
# **1.** The distance from a positive `x` to the next larger bf16 number (8 significant bits).


# %% tags=["raises-exception"]
def bf16_spacing(x):
    ...


ft.check("bf16_spacing", bf16_spacing)


# %% [markdown]
# **2.** Round the fp32 tensor `x` to whole multiples of `unit` by chance: right on average, always to
# a neighbor. (The same idea as above, without bits.)


# %% tags=["raises-exception"]
def round_stochastically(x, unit):
    ...


ft.check("round_stochastically", round_stochastically)


# %% [markdown]
# **3.** A loss scaler's rule. `overflowed` says if this step had an infinity, `good` how many good
# steps came before it. Return the new `(scale, good)`: halve and start counting again, or count; and
# double after 2,000 good steps in a row.


# %% tags=["raises-exception"]
def next_scale(scale, good, overflowed):
    ...


ft.check("next_scale", next_scale)

# %% [markdown]
# ## Interview
#
# **Full fine-tuning in pure bf16 at 1e-5 barely learns. Why?**
# <details><summary>Answer</summary>
# Near 0.02 bf16 numbers are 1.2e-4 apart: an update below half of that is rounded away, at 1e-5 for
# 84 % of weights of that size, every step. Remedies: fp32 master weights, stochastic rounding, fp32
# adapters. Here nearest rounding more than doubled the final loss; by chance it cost nothing.
# </details>
#
# **fp16 or bf16?**
# <details><summary>Answer</summary>
# fp16: 11 significant bits, but at most 65,504 and nothing below 6e-8, so the loss must be scaled.
# bf16: fp32's range with 8 bits, no scaling. Either way keep fp32 weights or adapters. On hardware
# with bf16, bf16.
# </details>

# %% [markdown]
# **Does mixed precision halve memory?**
# <details><summary>Answer</summary>
# Not the states: 16 bytes per parameter either way. Activations shrink, by less than half since
# norms, softmax and loss stay fp32, and 16-bit copies of weights come on top. The sure gain is
# speed.
# </details>
#
# **Loss is NaN at step 2 in fp16. First suspicion?**
# <details><summary>Answer</summary>
# Weights or optimizer in fp16: squared gradients and AdamW's eps 1e-8 are 0 there, so updates are
# divided by 0. Keep them in fp32, use autocast with a scaler. Then overflow: look at the largest
# gradient, the scale, and skipped steps.
# </details>
#
# ## Recap
#
# - Precision is relative: bf16's neighbors are up to 0.8 % apart. Steps below half of that are lost.
# - Master weights, stochastic rounding or fp32 adapters keep them.
# - fp16 needs a loss scale. Mixed precision saves time and activations, not states.
#
# In the package: [`ftkit/lessons/by_hand/floats.py`](../ftkit/lessons/by_hand/floats.py). Next:
# [13 (ZeRO and FSDP)](13_zero_and_fsdp.ipynb).
