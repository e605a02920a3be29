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
# - show updates that are lost without any error, and four remedies;
# - scale a loss, and say what mixed precision saves and what it does not.
#
# *Needs [01](01_full_fine_tuning.ipynb) and [11](11_activations_and_checkpointing.ipynb). About 45 minutes;
# the code runs in about one minute on two CPU cores.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
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
from ftkit.teaching import at_135m, line_plot, sweep_curves

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
# every such step, so this is not noise that averages out. At 1e-5 norm weights near 1 never move. Weight
# decay applied by itself is lost too: 1e-5 × 0.1 is a millionth of a weight.
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
ends = {rounding: [end_of(rounding, seed) for seed in range(5)] for rounding in floats.ROUNDINGS}
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
# forward pass. The remedies and their cost with AdamW, whose running means m and v are called *moments*:
#
# | remedy | bytes a parameter: weights, gradients and moments |
# |---|---|
# | master weights in fp32 | 16 (18 with fp32 gradients) |
# | stochastic rounding, all in bf16 | 8 |
# | Kahan summation, all in bf16 | 10 |
# | LoRA: only a small adapter in fp32 | 2 for the frozen base, 16 for each weight of the adapter |
#
# A larger learning rate moves more weights; how much that helps is measured below, with `ft`. At the end of a
# schedule the steps are small again.

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
# From 0.25 on, the increment of 0.001 is rounded up to 0.002, so the moment rises too fast. At 0.5 the
# increment is less than half the spacing, and the moment stops. There `0.5 * 0.999` rounds to 0.5, so it
# never decays either: after a phase of large gradients the steps stay too small. (torch's fused AdamW rounds
# once in a step. It stops at 0.25, and does not decay either.)
#
# The stop at 0.5 needs equal gradients. Where they vary, large squares still raise the moment and nothing
# lowers it. With normal gradients of variance 1 it rose to 1.3 (fused: 1.04) in 2,000 steps, in fp32 to
# 0.86. Only the missing decay is general. With β₂ = 0.95, usual in pretraining, the decay is larger than the
# spacing. DeepSeek-V3 stores both moments in bf16, with β₂ = 0.95 and fp32 master weights.
#
# ## The same with ft
#
# `precision="bf16"` is **mixed precision** ([Micikevicius et al. 2018](https://arxiv.org/abs/1710.03740)):
# weights and optimizer states in fp32, while torch's **autocast** converts the inputs of matrix
# multiplications to bf16. `"pure-bf16"` stores everything in bf16. What rounding removes depends on the size of
# an update beside its weight, so the learning rate must matter. Compare the formats at three.

# %%
gap_guess = ft.predict("From learning rate 1e-4 to 1e-3, the loss that pure bf16 costs ...",
                       "grows", "stays about the same (within a factor of 2)", "shrinks")
gap_guess

# %%
base = ft.Config(batch_size=8, max_steps=16, eval_steps=16)
runs, final = [], {}
for precision in ("fp32", "bf16", "pure-bf16"):
    for rate in (1e-4, 3e-4, 1e-3):
        found = lab.sweep(base.but(precision=precision, learning_rate=rate), seed=range(3))
        runs += found
        final[precision, rate] = [run.after["val_loss"] for run in found]
sweep_curves(runs, by="precision")

# %%
ft.expect(final["bf16", 1e-3], "==", final["fp32", 1e-3],
          "mixed precision ends within 0.1 nats of fp32", within=0.1, paired=True)
verdict = ft.expect(final["pure-bf16", 1e-4], ">", final["fp32", 1e-4],
                    "at 1e-4 pure bf16 stays behind fp32 weights", paired=True)
gap = {rate: [x - y for x, y in zip(final["pure-bf16", rate], final["fp32", rate], strict=True)]
       for rate in (1e-4, 3e-4, 1e-3)}
ft.expect(gap[1e-3], "<", gap[1e-4], "at 1e-3 pure bf16 costs less", paired=True)
ft.table([{"learning rate": rate, "pure bf16 minus fp32": values} for rate, values in gap.items()])

# %%
cost = {rate: sum(values) for rate, values in gap.items()}
gap_guess.score("grows" if cost[1e-3] > 2 * cost[1e-4] else "shrinks" if cost[1e-3] < cost[1e-4] / 2
                else "stays about the same (within a factor of 2)")

# %% [markdown]
# The lines of fp32 and mixed precision coincide: *computing* in bf16 does not hurt the loss here. *Storing*
# weights and moments in bf16 does, and most where the learning rate is low: there most updates are below half
# the spacing of their weight. At the rate that suits this model best (1e-3, [lesson
# 08](08_the_small_knobs.ipynb)) little of the gap is left. So do not read a number such as "pure bf16 learns
# a third" without its learning rate. Large models are tuned at 1e-5 and below, which is where pure bf16 loses
# most. (Do not compare these losses with the table under "Train with it": other validation records, a
# constant rate.)

# %% [markdown]
# ## At 135M
#
# The real LLM with full fine-tuning at a usual learning rate of 3e-5, in mixed precision (row *full*) or in
# pure bf16:

# %%
at_135m("rounding", verdict)

# %% [markdown]
# Before training the recorded loss is 4.9, which the table leaves out. So in these 40 steps pure bf16 learned
# about a third as much. Both used this one learning rate, which is below the best one of full fine-tuning at
# 135M (1e-4, in the box of lesson 08). After the plot above expect a smaller gap there.
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
rows = []
for power in (0, 4, 8, 12, 16, 20):
    half = (gradient * 2.0**power).half()
    rows.append({"scale": f"2^{power}", "lost to zero": f"{(half == 0).double().mean().item():.4%}",
                 "overflowed": half.isinf().sum().item()})
ft.table(rows)

# %% [markdown]
# Too low a scale loses small gradients, too high a scale makes infinities. torch's `GradScaler` searches for
# the right one. It starts at 2^16. After an overflow it skips the step and halves the scale; after 2,000 good
# steps in a row it doubles it.
#
# The embedded model loses few gradients. Imitate a model with far smaller ones: divide the loss by 2^20.
# AdamW divides by the size of the gradient plus eps = 1e-8. So at learning rate 1e-3 it still trains in fp32,
# in smaller steps. And in fp16?

# %%
arms = {"fp32, no scale": (torch.float32, 1.0), "fp16, no scale": (torch.float16, 1.0),
        "fp16, scale from 2^16": (torch.float16, 2.0**16)}
scaled = {name: [] for name in arms}
for name, (dtype, scale) in arms.items():
    for seed in range(3):
        fresh, _ = ft.load("tiny")
        order = shuffled(len(records), 8, seed)
        batches = [next(order) for _ in range(8)]
        floats.train_scaled(fresh, records, batches, dtype, 2.0**-20, scale)
        scaled[name].append(ft.loss_on(fresh, held_out))
ft.table([{"loss / 2^20, computed in": name, "validation loss": losses}
          for name, losses in scaled.items()])

# %%
ft.expect(scaled["fp16, scale from 2^16"], "<", scaled["fp16, no scale"],
          "small gradients need the scale")

# %% [markdown]
# Without the scale fp16 hardly trains. With it, it trains as fp32 does. Clip gradients only after dividing
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
# It also stores a bf16 copy of each matrix until the backward pass. With these copies 36 of 43 MB remain here.
# FSDP and DeepSpeed ([13](13_zero_and_fsdp.ipynb)) compute with bf16 weights: their states take 16 bytes too,
# and their activations are about those of the last row. Fewer bytes for states need other types: 8-bit
# moments give about 10, all bf16 gives 8, bf16 with 8-bit moments about 6.
#
# The gain is **speed**, where large matrix multiplications dominate (not in our tiny model). An H100's peak
# in bf16 is 15 times that of fp32, and 2 times that of **TF32**, which rounds the factors of an fp32
# multiplication to 10 bits of fraction.
#
# So both halves of the claim are wrong. Mixed precision does not halve the memory. And bf16 throughout
# loses small updates, unless the weights get a remedy and the moments a smaller β₂.

# %% [markdown]
# ## Break it: count in bf16
#
# Sums need bits as well. Add 1 a thousand times in bf16. Then add the same 10,000 random numbers in fp32
# twice, forward and backward. Are both sums equal?

# %%
count = torch.tensor(0.0, dtype=torch.bfloat16)
for _ in range(1000):
    count += 1
torch.manual_seed(0)
values = torch.randn(10_000)
orders = sum(values).item(), sum(values.flip(0)).item()
print("counted in bf16:", count.item(), "| fp32, two orders:", *orders)

# %% [markdown]
# At 256 the spacing is 2, so 256 + 1 is a tie that rounds to 256. Hence matrix units accumulate in fp32,
# gradients of micro-batches should be summed in fp32, and transformers computes the angles of positions
# (RoPE) in fp32. The two sums differ in the last digits, because each addition rounds. For the same reason
# the same batch, split differently, gives other bits ([13](13_zero_and_fsdp.ipynb)).
#
# ## Eight bits
#
# **FP8 training** converts the inputs of matrix multiplications to 8 bits. Weights, optimizer states and
# sums stay wider. Each tensor or block gets a scale, so that its largest value fits. How much does rounding
# change normally distributed numbers?

# %%
x = torch.randn(2**18)
rows = []
for name in ("bf16", "fp8 e4m3", "fp8 e5m2"):
    scale = 1.0 if name == "bf16" else torch.finfo(formats[name]).max / x.abs().max()
    rounded = (x * scale).to(formats[name]).float() / scale
    rows.append({"format": name, "error": f"{((rounded - x).norm() / x.norm()).item():.2%}"})
ft.table(rows)

# %% [markdown]
# Recipes differ in format and scale. NVIDIA's generations, from old to new: Volta (V100), Turing (T4), Ampere
# (A100), Ada (L4) and Hopper (H100), Blackwell (B200).
#
# | recipe | format | scale |
# |---|---|---|
# | Hopper, first recipe ([Micikevicius 2022](https://arxiv.org/abs/2209.05433)) | e4m3 forward, e5m2 gradients | per tensor |
# | DeepSeek-V3 ([2024](https://arxiv.org/abs/2412.19437)) | e4m3 everywhere | for each 128 activations of a token, each 128 × 128 weights |
# | MXFP8 on Blackwell ([Mishra 2025](https://arxiv.org/abs/2506.08027)) | e4m3 everywhere | power of two for each 32 values |
# | NVFP4 on Blackwell ([NVIDIA 2025](https://arxiv.org/abs/2509.25149)) | 4 bits, e2m1; stochastic rounding of gradients, random rotations (Hadamard transforms) that spread outliers, some layers in higher precision | e4m3 for each 16 values, fp32 per tensor |
#
# e5m2 has the larger range and twice the error. With a scale for each small block the range of e4m3 is
# enough, so newer recipes use it for gradients as well. Hopper's FP8 units keep only about 14 bits of a sum,
# so DeepSeek-V3 moves partial sums to fp32 after every 128 products.

# %% [markdown]
# ## What if?
#
# Which step moves half of the weights? Change `step`.
#
# <details><summary>Answer</summary>
# About 2.5e-4 in the embedded model (52 % move), about 3.1e-5 at sd 0.02 (57 %). The fraction has stairs,
# because all weights between two powers of two start to move at the same step. The plot above joins only
# eight points.
# </details>

# %%
step = 1e-4
{"embedded model": staying(weights, step), "normal, sd 0.02": staying(normal, step)}

# %% [markdown]
# ## In practice, 2026
#
# | tensor | usual type |
# |---|---|
# | trained weights, full fine-tuning | fp32, or bf16 plus a remedy |
# | LoRA factors | fp32 (peft's default on a 16-bit base); TRL: bf16 on a 4-bit base, the base's type under ZeRO-3 ([13](13_zero_and_fsdp.ipynb)) |
# | frozen base | bf16, or 4 bits ([10](10_quantization_and_qlora.ipynb)) |
# | AdamW's moments | fp32; 8 bits in blocks with an fp32 scale (at β₂ = 0.999 a block falls, a single moment may not); bf16 with β₂ ≤ 0.95 or so |
# | matrix multiplications | bf16; fp8 on Ada, Hopper and newer |
# | norms, softmax, loss | fp32 |
# | sums of gradients | fp32; by default bf16 across ranks in accelerate's FSDP, and everywhere in DeepSpeed (bf16 mode) |
#
# Mixed precision with TRL, with a check that it is mixed. The states take 1.72e9 × 16 = 28 GB.
#
# ```python
# import torch
# from datasets import load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-1.7B"
# # train.jsonl: {"messages": [{"role": "user", "content": "..."},
# #                            {"role": "assistant", "content": "..."}]}
# config = SFTConfig(
#     output_dir="out", bf16=True, tf32=True, learning_rate=1e-5, num_train_epochs=1,
#     per_device_train_batch_size=4, gradient_accumulation_steps=4,
#     lr_scheduler_type="cosine", optim="adamw_torch_fused",
#     model_init_kwargs={"dtype": torch.float32})
# trainer = SFTTrainer(
#     model_id, args=config,
#     train_dataset=load_dataset("json", data_files="train.jsonl", split="train"))
# assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
# trainer.train()
# ```

# %% [markdown]
# **Pitfalls.**
# - `bf16=True` switches autocast on; it does not choose the type of the weights. transformers 5 loads a
#   model in the type of its checkpoint, mostly bf16. On one GPU or under DDP, plain data parallelism, a
#   trainer given such a model trains in *pure* bf16. accelerate's FSDP and DeepSpeed make fp32 master weights
#   ([not FSDP2 in accelerate 1.13](https://github.com/huggingface/accelerate/issues/3979)).
#   TRL 1.16 loads a model given by name in fp32.
# - QLoRA with TRL 1.16: the adapter of a quantized base is converted to bf16, so its small updates can be
#   lost. On one GPU, undo it before `train()`: `p.data = p.data.float()` for each trained `p`.
# - `fp16=True` with fp16 weights raises `Attempting to unscale FP16 gradients`. Load the weights in fp32.
# - If memory forces bf16 weights, transformers has two remedies. Stochastic rounding with 8-bit moments:
#   `optim="adamw_torch_8bit"` with `optim_args="bf16_stochastic_round=True"` (needs
#   [torchao](https://github.com/pytorch/ao)). Kahan summation: `optim="stable_adamw"`, AdamW with a limit on
#   the update, with `optim_args="kahan_sum=True"` (needs torch-optimi). Its moments are bf16 too, so add
#   `adam_beta2=0.95`. 8-bit moments alone do not help.
# - Check which fraction of a matrix `p` changed after a few steps: `(p != before).float().mean()`, where
#   `before = p.detach().clone()`.
# - FP8: accelerate's `mixed_precision="fp8"`, with Transformer Engine or torchao.
# - RL fine-tuning samples with one program, such as vLLM, and trains with another. Their rounding differs, so
#   the probabilities differ too. fp16, with 8 times finer spacing, narrows that gap
#   ([Qi et al. 2025](https://arxiv.org/abs/2510.26788)).

# %% [markdown]
# ## Interview
#
# **Full fine-tuning in pure bf16 at 1e-5 barely learns. Why?**
# <details><summary>Answer</summary>
# A weight of 0.02 has bf16 neighbors 1.2e-4 away. Rounding to nearest loses an update below half of that, in
# every step. AdamW's updates are mostly within about one learning rate, here 1e-5, so only weights near zero
# move. It learns less, not nothing, and some public recipes train so (torchtune's Llama 3 8B at 2e-5).
# Measure the fraction of weights that move. The second moment suffers too: in bf16 it cannot decay at
# β₂ = 0.999. Remedies: master weights (an fp32 copy that takes the updates), stochastic rounding, Kahan
# summation, or fp32 adapters.
# </details>
#
# **fp16 or bf16?**
# <details><summary>Answer</summary>
# fp16 has 11 significant bits but ends at 65,504 and has nothing below 6e-8, so the loss must be scaled.
# bf16 has the range of fp32 with 8 significant bits, and needs no scaling. Keep fp32 weights or adapters
# with both. On GPUs that have it, Ampere and newer, bf16 is the usual choice; T4 and V100 lack it. fp16 is of
# interest where small differences matter, as in RL.
# </details>

# %% [markdown]
# **Does mixed precision halve memory?**
# <details><summary>Answer</summary>
# Not the states: with AdamW 16 bytes a parameter either way. Under autocast activations shrink, by less
# than half, since some stay in fp32. Its 16-bit copies of the weights come on top. FSDP and DeepSpeed compute
# with bf16 weights, so activations shrink more. The gain is speed, where large matrix multiplications dominate.
# </details>
#
# **The loss is NaN at step 2 in fp16. What do you check first?**
# <details><summary>Answer</summary>
# Whether weights or optimizer states are in fp16. Small squared gradients and eps = 1e-8 are zero there, so
# AdamW can divide by zero. Keep weights and states in fp32, and use autocast with a loss scaler. Then look
# for overflow in activations, the scale, and the number of skipped steps.
# </details>

# %% [markdown]
# **What is FP8 training?**
# <details><summary>Answer</summary>
# The inputs of the matrix multiplications are e4m3 or e5m2 with a scale per tensor or block. Master weights,
# norms and sums stay in higher precision; in DeepSeek-V3 also attention, embeddings, the output head and the
# router to the experts. It speeds up large matmuls on Ada, Hopper or newer; with small ones the conversions
# can cost more than they save. It does not by itself shrink optimizer states.
# </details>
#
# ## Recap
#
# - Precision is relative. In bf16 steps below about 0.2 to 0.4 % of a weight are lost by rounding to nearest.
# - Master weights, stochastic rounding, Kahan summation or fp32 adapters keep them. Moments need care too.
# - fp16 needs a loss scale. Mixed precision saves activations, and time in large models, not states.
#
# In the package: [`ftkit/lessons/by_hand/floats.py`](../ftkit/lessons/by_hand/floats.py). Next:
# [13 ZeRO and FSDP](13_zero_and_fsdp.ipynb).

# %%
ft.progress("12")
