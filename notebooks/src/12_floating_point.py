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
# **Claim: mixed precision halves the memory, and since bf16 has the range of fp32, one can train in bf16
# throughout.** Both parts could be wrong. After this lesson you can
#
# - say how far apart the numbers of fp32, fp16, bf16 and fp8 are, and round by hand;
# - show updates that are lost without any error, and what keeps them;
# - say what mixed precision saves, and find the cause of six sick runs.
#
# *Needs [01](01_full_fine_tuning.ipynb) and [11](11_activations_and_checkpointing.ipynb). About 45 minutes;
# the code runs in about two minutes on two CPU cores. FP8 recipes, types by tensor and pitfalls are on the
# [reference page](reference/12_floating_point.md). This lesson compares number formats, so its losses depend a
# little on the processor.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# Your model does not fit in fp32, so you load it in bf16 and tune all weights. Nothing fails. After a day the loss
# has hardly moved.
#
# > *"A full fine-tune in pure bf16 at learning rate 1e-5 barely learns, and no error is raised. Why? And
# > what are master weights for?"*
#
# "bf16 is less precise" is true and explains nothing.
#
# ## The idea in one picture
#
# A float has a sign, an exponent and a fraction. The **exponent** sets the range, and the **fraction** says
# how many numbers there are between two powers of two. bf16 keeps the 8 exponent bits of fp32 and only 7
# bits of fraction. A leading 1 is implied, so a bf16 number has 8 **significant bits**.

# %% [markdown]
# ![Bits of fp32, bf16, fp16, e4m3 and e5m2, split into sign, exponent and fraction. Below, a number line with three neighboring bf16 numbers near 0.02. A step of 0.00001 from the middle one ends close to it: rounding to nearest always returns to the middle number, stochastic rounding goes to the left neighbor in 8 percent of cases.](figures/12_lost_update.svg)

# %% [markdown]
# ## Range and spacing
#
# How large and how small can a number be, and how far is the next one? **Subnormal** numbers, below the
# smallest normal one, have fewer significant bits. Below the smallest subnormal there is only zero.

# %%
import torch

from ftkit.inside import spacing

formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
           "fp8 e4m3": torch.float8_e4m3fn, "fp8 e5m2": torch.float8_e5m2}
rows = []
for name, dtype in formats.items():
    info = torch.finfo(dtype)
    rows.append({"format": name, "largest": f"{info.max:.3g}",
                 "smallest normal": f"{info.smallest_normal:.1e}",
                 "smallest subnormal": f"{info.smallest_normal * info.eps:.1e}",
                 "spacing at 1": f"{spacing(1, dtype).item():.1e}",
                 "spacing at 0.02": f"{spacing(0.02, dtype).item():.1e}"})
ft.table(rows)

# %% [markdown]
# fp16 ends at 65,504. bf16 reaches as far as fp32, with wider gaps (last column). The spacing doubles at
# each power of two, so precision is relative: the next bf16 number is 0.4 to 0.8 % away.
#
# ## Your turn: round to bf16
#
# Write `round_bf16` for one Python number `x`: the nearest number with 8 significant bits. These are the
# multiples of the spacing, which is `2 ** (e - 7)` for `2 ** e <= abs(x) < 2 ** (e + 1)`. A tie goes to the
# even multiple. Zero stays zero. Ignore overflow and subnormals.


# %% tags=["raises-exception"]
def round_bf16(x):
    ...


ft.check("round_bf16", round_bf16)

# %% [markdown]
# ## An update that is lost
# <!-- claims: C52 · E27 -->
#
# In its first steps AdamW moves every weight by about one learning rate (lesson 01). If that is less than
# half the distance to the next bf16 number, rounding puts the weight back. The weights of the embedded
# model have a standard deviation (sd) of 0.19, ten times that of a typical LLM.

# %%
first_guess = ft.predict("Weights stored in bf16, a step of 1e-4 on each: how many weights of the "
                         "embedded model stay exactly where they were?",
                         "one in ten", "half", "most")
first_guess

# %%
from ftkit.by_hand import floats
from ftkit.teaching import at_135m, best_values, line_plot, sweep_curves, working

model, tokenizer = ft.load("tiny")
weights = torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim == 2])
normal = 0.02 * torch.randn(1_000_000)


def staying(values, step):
    stored = floats.to_bf16(values)
    return (floats.to_bf16(stored - step) == stored).double().mean().item()


# %%
steps = [1e-6, 3e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 4e-4]
lines = {"embedded model": [staying(weights, step) for step in steps],
         "normal, sd 0.02": [staying(normal, step) for step in steps]}
line_plot({name: list(zip(steps, fractions)) for name, fractions in lines.items()},
          x="size of the step", y="fraction of weights that stay")

# %%
kept = staying(weights, 1e-4)
print(f"step 1e-4, embedded model (sd {weights.std():.2f}): {kept:.0%} stay; "
      f"step 1e-5, normal with sd 0.02: {staying(normal, 1e-5):.0%}")
first_guess.score("one in ten" if kept < 0.3 else "half" if kept < 0.7 else "most")

# %% [markdown]
# At 0.19 half the spacing is 4.9e-4, so most steps of 1e-4 are lost. The dashed line has the spread of a
# typical LLM's matrices: there most weights stay at 1e-5, a usual learning rate. The same weights stay at
# every such step, so this is not noise that averages out. Norm weights near 1 never move.
#
# ## Your turn: stochastic rounding
#
# **Stochastic rounding** goes up or down at random, so that the result is right on average. Write
# `round_stochastically`: `x` is a tensor, the result has whole multiples of `unit`. Each element goes to
# one of its two neighbors. The closer the upper neighbor, the more often it is chosen. Each element needs
# its own random number (`torch.rand_like(x)`).


# %% tags=["raises-exception"]
def round_stochastically(x, unit):
    ...


ft.check("round_stochastically", round_stochastically)

# %% [markdown]
# Take a hundred steps of 1e-5 from 0.02, with both of your functions. The right end is 0.019.

# %%
nearest, chance = working("round_bf16", round_bf16), working("round_stochastically", round_stochastically)
one, many = 0.02, torch.full((1000,), nearest(0.02))
for _ in range(100):
    one = nearest(one - 1e-5)
    many = chance(many - 1e-5, 2.0**-13)
{"to the nearest": one, "stochastically, mean of 1,000": many.mean().item()}

# %% [markdown]
# ## Train with it
#
# `floats.train_rounded` computes in fp32 and rounds only the stored weights after each step: to nearest,
# stochastically, or with **Kahan summation** ([Zamirai et al. 2020](https://arxiv.org/abs/2010.06192) compare
# them). The last rounds to nearest and keeps what was cut off in a second bf16 number for each weight. The
# next step adds it back.

# %%
second_guess = ft.predict(
    "16 steps at learning rate 1e-4, weights stored in bf16. Which ends within 0.1 nats of fp32 weights?",
    "nearest only", "stochastic only", "both", "neither")
second_guess

# %%
from ftkit.inside import shuffled

lab = ft.Experiment(data=ft.records("tasks")[:400], val="tasks", eval_records=48, probes=())
records = [ft.encode(record, tokenizer) for record in lab.train]
held_out = [ft.encode(record, tokenizer) for record in lab.val[:48]]


def end_of(rounding, seed):
    fresh, _ = ft.load("tiny")
    order = shuffled(len(records), 8, seed)
    batches = [next(order) for _ in range(16)]
    floats.train_rounded(fresh, records, batches, 1e-4, rounding, seed)
    return ft.loss_on(fresh, held_out)


# %%
ends = {rounding: [end_of(rounding, seed) for seed in range(3)] for rounding in floats.ROUNDINGS}
ft.table([{"stored weights": "before training", "validation loss": ft.loss_on(model, held_out)}] +
         [{"stored weights": "fp32" if rounding == "none" else f"bf16, {rounding}",
           "validation loss": losses} for rounding, losses in ends.items()])

# %%
ft.expect(ends["nearest"], ">", ends["none"], "rounding to nearest loses small steps")
ft.expect(ends["kahan"], "==", ends["none"], "Kahan: within 0.1 nats of fp32 weights",
          within=0.1, paired=True)
close = {}
for way in ("nearest", "stochastic"):
    gaps = [abs(a - b) for a, b in zip(ends[way], ends["none"])]
    close[way] = max(gaps) < 0.1
second_guess.score("both" if all(close.values()) else "nearest only" if close["nearest"]
                   else "stochastic only" if close["stochastic"] else "neither")

# %% [markdown]
# With rounding to nearest only the weights near zero move, so it learns far less, but not nothing. Stochastic
# rounding and Kahan summation reach the loss of fp32 weights. A third remedy is the usual one: **master
# weights** are an fp32 copy that takes the updates, and the 16-bit weights are rounded from it for each
# forward pass. What each costs with AdamW, whose running means m and v are called *moments*:
#
# | remedy | bytes a parameter: weights, gradients and moments |
# |---|---|
# | master weights in fp32 | 16 (18 with fp32 gradients) |
# | stochastic rounding, all in bf16 | 8 |
# | Kahan summation, all in bf16 | 10 |
# | LoRA: only a small adapter in fp32 | 2 for the frozen base, 16 for each weight of the adapter |

# %% [markdown]
# ## The second problem: AdamW's moments
#
# In pure bf16 the moments are bf16 too. The second moment shrinks by a factor of β₂ = 0.999 in each step,
# that is by 0.1 %. Half the spacing of bf16 is at least 0.2 %. Feed torch's own AdamW 2,000 gradients of 1,
# then 2,000 of 0.1. Does the moment rise toward 1 and fall again?

# %%
gradients = [1.0] * 2000 + [0.1] * 2000
moments = {"fp32, β₂ = 0.999": floats.second_moment(gradients, torch.float32),
           "bf16, β₂ = 0.999": floats.second_moment(gradients, torch.bfloat16),
           "bf16, β₂ = 0.95": floats.second_moment(gradients, torch.bfloat16, beta2=0.95)}
line_plot({name: list(enumerate(values, 1)) for name, values in moments.items()},
          x="step", y="second moment", log_x=False)

# %%
ends_at = {name: values[-1] for name, values in moments.items()}
ft.expect(ends_at["bf16, β₂ = 0.999"], ">", ends_at["fp32, β₂ = 0.999"],
          "bf16 remembers old gradients", times=2)
ends_at

# %% [markdown]
# In bf16 the moment rises until its increment is less than half the spacing, and stops. There `0.5 * 0.999` rounds to
# 0.5, so it never decays either: after a phase of large gradients the steps stay too small. (Where gradients vary, large
# squares still raise it; only the missing decay is general.) With β₂ = 0.95, usual in pretraining, the decay is
# larger than the spacing.
#
# ## The same with ft
#
# `precision="bf16"` is **mixed precision** ([Micikevicius et al. 2018](https://arxiv.org/abs/1710.03740)):
# weights and optimizer states in fp32, while torch's **autocast** converts the inputs of matrix
# multiplications to bf16. `"pure-bf16"` stores everything in bf16. What rounding removes depends on the size of
# an update beside its weight, so the learning rate must matter. Compare the formats over four.

# %%
gap_guess = ft.predict("From learning rate 1e-4 to 1e-3, the loss that pure bf16 costs ...",
                       "grows", "stays about the same (within a factor of 2)", "shrinks")
gap_guess

# %%
base = ft.Config(batch_size=8, max_steps=16, eval_steps=16)
rates = {"fp32": (1e-4, 3e-4, 1e-3, 2e-3), "pure-bf16": (1e-4, 3e-4, 1e-3, 2e-3), "bf16": (1e-4, 1e-3)}
runs, final = [], {}
for precision in rates:
    for rate in rates[precision]:
        found = lab.sweep(base.but(precision=precision, learning_rate=rate), seed=range(3))
        runs += found
        final[precision, rate] = [run.after["val_loss"] for run in found]
sweep_curves(runs, by="precision")

# %%
ft.expect(final["bf16", 1e-3], "==", final["fp32", 1e-3],
          "mixed precision ends within 0.1 nats of fp32", within=0.1, paired=True)
gap = {rate: [x - y for x, y in zip(final["pure-bf16", rate], final["fp32", rate], strict=True)]
       for rate in rates["fp32"]}
ft.expect(gap[1e-3], "<", gap[1e-4], "at 1e-3 pure bf16 costs less than at 1e-4", paired=True)
best = best_values(runs, by="precision")
verdict = ft.expect(final["pure-bf16", best["pure-bf16"]], ">", final["fp32", best["fp32"]],
                    "each at its own learning rate, pure bf16 stays behind", paired=True, may_fail=True)
ft.table([{"learning rate": rate, "pure bf16 minus fp32, nats": values} for rate, values in gap.items()])

# %%
cost = {rate: sum(values) for rate, values in gap.items()}
gap_guess.score("grows" if cost[1e-3] > 2 * cost[1e-4] else "shrinks" if cost[1e-3] < cost[1e-4] / 2
                else "stays about the same (within a factor of 2)")

# %% [markdown]
# *Computing* in bf16 does not hurt the loss here. *Storing* weights and moments in bf16 does, and most where the learning
# rate is low: there most updates are below half the spacing of their weight. So do not read a number such as "pure
# bf16 learns a third" without its learning rate. Large models are tuned at 1e-5 and below, which is where pure bf16
# loses most.

# %% [markdown]
# ## At 135M
#
# The real LLM, full fine-tuning in mixed precision (rows *full*) and in pure bf16, at three learning rates each:

# %%
at_135m("rounding", verdict)

# %% [markdown]
# At 3e-5 pure bf16 costs 2.1 nats. At 3e-4, its own best learning rate, it ends 0.05 to 0.15 nats behind mixed precision at 1e-4.
# So a higher learning rate is a remedy of a kind. At the end of a schedule every learning rate is small. We did not try
# more than 3e-4.
#
# ## fp16 and its loss scale
# <!-- claims: C51 · E28 -->
#
# fp16 has a narrow range: gradients below 3e-8 become zero. So the *loss* is multiplied by a **scale**, which
# multiplies every gradient. The gradients are divided by it before the update. How many gradients of one
# batch survive?

# %%
from ftkit.inside import collate

batch = collate(records[:16], tokenizer.pad_token_id)
model.zero_grad()
model(**batch).loss.backward()
gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
gradient = gradient[gradient != 0]
halves = {power: (gradient * 2.0**power).half() for power in (0, 8, 16, 20)}
lost = {power: (half == 0).double().mean().item() for power, half in halves.items()}
ft.expect(lost[0], ">", lost[16], "fraction lost to zero: without a scale more than with 2^16")
ft.table([{"scale": f"2^{power}", "lost to zero": f"{lost[power]:.4%}",
           "overflowed": half.isinf().sum().item()} for power, half in halves.items()])

# %% [markdown]
# Too low a scale loses small gradients, too high a scale makes infinities. torch's `GradScaler` searches for
# the right one. It starts at 2^16. After an overflow it skips the step and halves the scale; after 2,000 good
# steps in a row it doubles it.
#
# With gradients a million times smaller fp16 without a scale hardly trains, and with one it trains as fp32 does. (A test
# of this lesson makes these runs.) Clip gradients only after dividing
# (`scaler.unscale_`). No scale helps when *activations* exceed 65,504, as in T5 and Gemma.

# %% [markdown]
# ## What mixed precision saves
# <!-- claims: C53 · E08 -->
#
# Now the first half of the claim. Count what AdamW needs, then what the forward pass stores.

# %%
third_guess = ft.predict("Mixed precision against fp32: weights, gradients and AdamW's states together "
                         "take ...", "half", "three quarters", "the same")
third_guess


# %%
def bytes_of_states(precision):
    dtype = torch.bfloat16 if precision == "pure-bf16" else torch.float32
    fresh = ft.load("tiny")[0].to(dtype)
    optimizer = torch.optim.AdamW(fresh.parameters(), lr=1e-4)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = fresh(**batch).loss
    loss.backward()
    optimizer.step()
    total = 0
    for p, state in optimizer.state.items():
        total += p.nbytes + p.grad.nbytes + state["exp_avg"].nbytes + state["exp_avg_sq"].nbytes
    return total / fresh.num_parameters()


# %%
from ftkit.by_hand import activations

pure = ft.load("tiny")[0].to(torch.bfloat16)
stored = {"fp32": activations.kept_by_autocast(model, batch),
          "bf16": activations.kept_by_autocast(model, batch, torch.bfloat16),
          "pure-bf16": activations.kept_by_autocast(pure, batch)}
rows = []
for precision, kept in stored.items():
    rows.append({"precision": precision, "states, bytes a parameter": bytes_of_states(precision),
                 "activations, MB": kept["activations"] / 1e6,
                 "bf16 copies of weights, MB": kept["weights"] / 1e6})
ft.table(rows)

# %%
share = rows[1]["states, bytes a parameter"] / rows[0]["states, bytes a parameter"]
ft.expect(share, "==", 1, "states: as many bytes as in fp32")
ft.expect(stored["bf16"]["activations"] / 1e6, ">", stored["fp32"]["activations"] / 1e6,
          "MB of activations: more than half", times=0.5)
third_guess.score("half" if share < 0.6 else "three quarters" if share < 0.9 else "the same")

# %% [markdown]
# The states do not shrink: the fp32 weights *are* the master weights. Under autocast activations shrink by
# less than half, because it keeps norms, the loss and the residual stream, to which each block adds, in fp32.
# It also stores a bf16 copy of each matrix until the backward pass. FSDP and DeepSpeed
# ([13](13_zero_and_fsdp.ipynb)) compute with bf16 weights: their states take 16 bytes too, and their activations are
# about those of the last row.
#
# The gain is **speed**, where large matrix multiplications dominate (not in our tiny model). An H100's peak
# in bf16 is 15 times that of fp32, and 2 times that of **TF32**, which rounds the factors of an fp32
# multiplication to 10 bits of fraction. So both halves of the claim are wrong.

# %% [markdown]
# ## In practice, 2026
#
# In TRL, `bf16=True` switches autocast on; it does not choose the type of the weights. transformers 5 loads a model in the
# type of its checkpoint, mostly bf16. A trainer given such a model trains in *pure* bf16. So load fp32 weights, with
# `model_init_kwargs={"dtype": torch.float32}`. The script, frameworks that make master weights, two remedies by name, FP8,
# and types by tensor: [reference page](reference/12_floating_point.md).
#
# ## Your turn: six sick runs
#
# Five colleagues ask why their run is ill, one asks for nothing. Choose for each: `"rounded away"` (updates smaller than
# half the spacing of the weights), `"second moment"` (it cannot decay), `"loss scale"`, `"range"` (numbers too large
# for the format) or `"nothing wrong"`.

# %%
precision_clinic = {
    "Full, all in bf16, learning rate 1e-5: the loss falls slowly, 4 % of the weights have changed.": "...",
    "fp16 autocast without a scaler: the loss stands still, most gradients are exactly 0.": "...",
    "T5 in fp16 with a scaler: the scale halves at every step, activations are inf.": "...",
    "All in bf16, β₂ = 0.999: after a loss spike it learns slowly, though half of the weights move.": "...",
    "Adapters in fp32 on a bf16 base, learning rate 2e-4: the base never changes.": "...",
    "An adapter in bf16, learning rate 1e-6: the matrices of typical size 0.02 stay.": "...",
}
ft.check("precision_clinic", precision_clinic)

# %% [markdown]
# ## Interview
#
# **Full fine-tuning in pure bf16 at 1e-5 barely learns. Why?**
# <details><summary>Answer</summary>
# A weight of 0.02 has bf16 neighbors 1.2e-4 away. Rounding to nearest loses an update below half of that, in
# every step, and AdamW's updates are mostly within one learning rate. Only weights near zero move. It learns less, not
# nothing, and a higher learning rate loses less. In bf16 the second moment cannot decay at β₂ = 0.999. Remedies: master
# weights, stochastic rounding, Kahan summation, or fp32 adapters. Measure the fraction of weights that move.
# </details>
#
# **Does mixed precision halve memory?**
# <details><summary>Answer</summary>
# Not the states: with AdamW 16 bytes a parameter either way. Under autocast activations shrink, by less
# than half, and 16-bit copies of the weights come on top. The gain is speed, where large matmuls dominate.
# </details>
#
# ## Recap
#
# - Precision is relative. In bf16 steps below about 0.2 to 0.4 % of a weight are lost by rounding to nearest.
# - How much that costs depends on the learning rate. Master weights, stochastic rounding, Kahan or fp32 adapters avoid it.
# - fp16 needs a loss scale. Mixed precision saves activations, and time in large models, not states.
#
# In the package: [`floats.py`](../ftkit/lessons/by_hand/floats.py). Next: [13 ZeRO and FSDP](13_zero_and_fsdp.ipynb).

# %%
ft.progress("12")
