# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 13 · ZeRO and FSDP, on real processes
#
# **Claim: each stage of ZeRO halves the memory, and it costs nothing but traffic.** It could be
# wrong. After this lesson you can
#
# - move the states of training between ranks yourself, and count bytes and traffic;
# - say per stage what a GPU holds, for any model and number of GPUs;
# - run DDP, ZeroRedundancyOptimizer and FSDP2 on real processes, and check all of it.
#
# *About 30 minutes. The code needs a minute on two CPU cores. Needs
# [09](09_where_the_memory_goes.ipynb) (16 bytes per parameter); leads to
# [14](14_perplexity.ipynb).*

# %%
import ftkit as ft
from ftkit.memory_use import formula
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"You have eight cards of 80 GB and want to fine-tune all weights of a 7B model. Which stage of
# > ZeRO do you take, what does each card hold then, and what do you pay?"*
#
# The usual answer recites "stage 1 optimizer, stage 2 gradients, stage 3 parameters", as if one
# chose between them, and "it is model parallelism". Let us move the pieces by hand.
#
# ## By hand: everyone holds everything
#
# Four **ranks** (processes, usually one a GPU), a network of three small layers. Each rank reads
# its own batch. Filled is what it holds; the color says whose part it is.

# %%
import torch

from ftkit.distributed import zero_simulator

draw = torch.Generator().manual_seed(0)
batches = [(torch.randn(4, 8, generator=draw), torch.randn(4, 8, generator=draw))
           for rank in range(4)]
world = zero_simulator.World(ranks=4, layers=3, width=8, stage=0)
world.feed(batches)
world

# %% [markdown]
# Optimizer states are two numbers for each parameter. Forward, then backward: each rank gets a
# gradient, but of *its own* batch (pale). What happens if every rank now takes its step?

# %%
for layer in (0, 1, 2):
    world.forward(layer)
for layer in (2, 1, 0):
    world.backward(layer)
world

# %% tags=["raises-exception"]
world.update()  # refused: read why

# %% [markdown]
# The four copies would drift apart, and nothing would tell you: the loss falls on every rank. So
# the gradients are summed over the ranks (**all-reduce**) first. Then all take the same step, and
# it must be the step of one process on the whole batch.

# %%
weights = [torch.nn.Parameter(w.clone()) for w in world.weights()]
x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
for w in weights:
    x = torch.tanh(x @ w)
torch.nn.functional.mse_loss(x, y).backward()
torch.optim.AdamW(weights, lr=world.lr, weight_decay=0.0).step()

for layer in world.layers:
    world.all_reduce(layer)
world.update()
for ours, theirs in zip(world.weights(), weights):
    assert torch.allclose(ours, theirs, atol=1e-6)

# %% [markdown]
# That is **data parallelism** (DDP). It is right, and it wastes: four equal copies of everything.
#
# ## Nobody holds everything
# <!-- claims: C54 C55 C56 · E31 -->
#
# **ZeRO** ([Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054)) gives each rank a part to
# own. Stage 3 divides all three. But a layer's product needs its whole W: it is gathered just
# before it is used (**all-gather**) and dropped again. Gradients go to their owners
# (**reduce-scatter**).

# %%
sharded = zero_simulator.World(ranks=4, layers=3, width=8, stage=3)
sharded.feed(batches)
for layer in (0, 1, 2):
    sharded.all_gather(layer)
    sharded.forward(layer)
    sharded.drop(layer)
sharded

# %%
for layer in (2, 1, 0):
    sharded.all_gather(layer)
    sharded.backward(layer)
    sharded.drop(layer)
    sharded.reduce_scatter(layer)
sharded.update()
assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(sharded.weights(), weights))
sharded

# %% [markdown]
# The same weights, to a millionth. Every rank computes *whole layers* on *its own* batch: this is
# data parallelism with storage divided, not model (tensor) parallelism, which would split the
# products themselves.
#
# ## Four stages
#
# <!-- claims: C54 C55 C56 · E31 -->
# `zero_simulator.step` plays a stage: 1 divides the optimizer states, 2 gradients *too*, 3
# parameters *as well*. They add up, they are no alternatives. Guess before you look at the peaks.

# %%
guess = ft.predict("From stage 0 to stage 1, on four ranks, the peak of a rank falls from 16 bytes "
                   "per parameter to ...", "4", "8", "10", "14", guess=...)
lines = []
for stage in (0, 1, 2, 3):
    world = zero_simulator.World(ranks=4, layers=12, width=8, stage=stage)
    world.feed(batches)
    zero_simulator.step(world)
    n = 12 * 8 * 8
    at_rest, moved = sum(world.held()[0].values()) / n, sum(world.moved.values()) / n
    lines.append({"stage": stage, "peak, bytes per parameter": max(world.peak) / n,
                  "between steps": at_rest, "elements moved per parameter": moved})
guess.score(round(lines[1]["peak, bytes per parameter"]))

# %%
ft.table(lines)

# %% [markdown]
# Stage 1 leaves parameters and gradients whole. Stage 2 lets a layer's gradient go as soon as it is
# summed, so the peak has one whole layer's in it; stage 3 the same of W. The formula leaves these
# out. And the price: up to stage 2 nothing, stage 3 half as much again.
#
# ## The formula
#
# <!-- claims: C57 -->
# In mixed precision the paper counts 2 (weights) + 2 (gradients) + 12 (fp32 master copy and AdamW).
# Its example: 7.5 billion parameters on 64 GPUs.

# %%
mixed = {"weights": 2, "gradients": 2, "optimizer": 12}


def gigabytes(parameters, ranks, stage):
    return sum(formula.zero_states(parameters, ranks, stage, **mixed).values()) / 1e9


ft.table([{"stage": stage, "7.5B on 64": gigabytes(7.5e9, 64, stage),
           "Llama-2-7B on 8": gigabytes(6.738e9, 8, stage),
           "on 1": gigabytes(6.738e9, 1, stage)} for stage in (0, 1, 2, 3)])

# %% [markdown]
# The last column is a common mistake: with one rank there is nothing to divide, and stage 3 "saves"
# nothing. And the other end?

# %%
limit = ft.predict("Ever more GPUs at stage 2: a 7B's states per GPU approach ... GB", guess=...)
limit.score(gigabytes(6.738e9, 10**9, 2), within=0.05)

# %% [markdown]
# Two bytes for each parameter stay whole. Only stage 3 has no floor; but **activations** are not
# divided by any stage: they follow the batch that a rank reads. What does not fit even so can be
# **offloaded**: states in the host's memory, fetched over its slow bus in every step.
#
# ## Real processes
#
# Now for real: two processes on this machine, which meet at a port and send each other tensors
# (gloo on a CPU, nccl between GPUs). First the run in one process that they must equal.

# %%
from ftkit.distributed import launch

lab = ft.Experiment(model="tiny", data=ft.records("tasks")[:96], eval_records=16)
config = ft.Config(learning_rate=1e-3, batch_size=8, max_steps=6, eval_steps=6, precision="fp32")
alone = lab.run(config, live=False)
alone

# %% [markdown]
# `launch.train` starts both and gives each half of every batch. Stage 0 is torch's DDP, 1 its
# ZeroRedundancyOptimizer, 2 and 3 are FSDP2 (`fully_shard`), which keeps the gathered parameters
# from forward to backward (2) or not (3).

# %%
two = launch.train(lab, config, ranks=2, zero=(0, 1, 2, 3))
two[3]

# %%
apart = {stage: max(abs(a - row["loss"]) for a, row in zip(run.losses, alone.rows))
         for stage, run in two.items()}
ft.expect(max(apart.values()), "<", 1e-5, "all stages give the curve of one process")
ft.curves({"one process": alone} | {f"ZeRO-{s}": run.run for s, run in two.items()}, "loss")

# %% [markdown]
# One curve, however the states are divided. So much for "ZeRO changes the training". Now the bytes
# of a rank, per parameter, against the formula for two ranks in fp32.

# %%
total = alone.total_parameters
for run in two.values():
    for held in run.bytes:
        for part, size in run.formula().items():
            assert abs(held[part] - size) <= 0.02 * size
ft.table([{"stage": stage, "engine": run.engine,
           **{part: size / total for part, size in run.bytes[0].items()},
           "sum": sum(run.bytes[0].values()) / total} for stage, run in two.items()])

# %% [markdown]
# From 16 to 12, 10 and 8: with two ranks no stage but the last halves the *sum*. (FSDP2 at stage 2
# holds its own part *beside* the gathered copy while it computes, which is not counted here.)
#
# ## What it costs to talk
#
# Every collective was counted: an all-gather by what comes out, a reduce-scatter by what goes in, an
# all-reduce as both. By the paper stages 0 to 2 move 2 values for each parameter. Does torch?

# %%
talk = ft.predict("ZeRO-1 with torch's ZeroRedundancyOptimizer moves, per parameter, ... values",
                  "2", "3", "4", guess=...)
moved = {stage: run.sent[0] / 4 / total for stage, run in two.items()}
ft.expect(moved[3] / moved[0], ">", 1.49, "stage 3 moves half as much again as DDP")
talk.score(round(moved[1]))

# %%
ft.table([{"stage": stage, "values moved per parameter": moved[stage],
           **{kind: size / 4 / total for kind, size in run.traffic[0].items()}}
          for stage, run in two.items()])

# %% [markdown]
# DDP has already summed *all* gradients on every rank; ZeroRedundancyOptimizer then hands the
# updated weights round as well. The paper's stage 1 needs only a reduce-scatter for the first part.
# An engine is not its formula: measure it. What would it take for 7B in bf16, at some speeds?

# %%
speeds = {"NVLink, 300 GB/s": 300e9, "InfiniBand, 50 GB/s": 50e9, "10 Gbit Ethernet": 1.25e9}
ft.table([{"link": name, **{f"stage {stage}, seconds": 2 * zero_simulator.volume(6.738e9, stage) / speed
                            for stage in (2, 3)}} for name, speed in speeds.items()])

# %% [markdown]
# Per step, if nothing overlaps with compute. Inside a machine that hides behind the matrix
# products; over Ethernet you take the lowest stage that fits, or shard inside each machine only
# (*hybrid sharding*). Larger batches per rank help: the traffic does not grow with them. Gradient
# accumulation helps stages 0 and 1, which may sum at home and talk once; from stage 2 on nobody
# keeps whole gradients, so every micro-batch talks.
#
# ## Four ranks
#
# More ranks, the same batch. Which number on the last line is a quarter of what DDP holds?

# %%
four = launch.train(lab, config, ranks=4, zero=3)
ft.expect(sum(four.bytes[0].values()) / total, "<", 4.08, "a quarter of 16 bytes")
apart = [abs(a - row["loss"]) for a, row in zip(four.losses, alone.rows, strict=True)]
ft.expect(max(apart), "<", 1e-5, "and still the same curve")
four

# %% [markdown]
# ## Break it
#
# The last trap is not memory. Each rank could take the *mean* loss of its own tokens, and the ranks
# average these: it looks right. Give rank 0 short answers and rank 1 long ones.

# %%
from ftkit.data.encoding import collate

model, tokenizer = ft.load("tiny")
coded = sorted((ft.encode(record, tokenizer) for record in lab.train),
               key=lambda example: sum(label != -100 for label in example["labels"]))
halves = coded[:4], coded[-4:]


def gradient(share_of):  # of a loss in which half i has the weight share_of(i)
    model.zero_grad()
    sum(share_of(i) * model(**collate(half, 0)).loss for i, half in enumerate(halves)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


# %%
counts = [sum(label != -100 for example in half for label in example["labels"]) for half in halves]
right = gradient(lambda i: counts[i] / sum(counts))
wrong = gradient(lambda i: 1 / 2)
cosine = torch.cosine_similarity(right, wrong, dim=0).item()
ft.expect(cosine, "<", 0.99, "the mean of two means points elsewhere")
counts, cosine

# %% [markdown]
# No error, a falling loss, another model. Sum the losses and divide by the labelled tokens of the
# *whole* step, over all ranks. Then 1, 2 or 4 ranks agree, as above.
#
# ## The same on many machines
#
# Nothing in this is a toy: what each rank ran is one file of plain torch. Export the run, and it
# needs neither `ft` nor this notebook.

# %%
import tempfile
from pathlib import Path

folder = launch.export(lab, config, Path(tempfile.mkdtemp()) / "my-run")
sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

# %% [markdown]
# In a terminal, on this machine and on each of two others:
#
# ```
# torchrun --nproc-per-node 2 my-run/train.py --zero 3
# torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d \
#     --rdzv-endpoint HOST:29500 my-run/train.py --ranks 16
# ```
#
# `--ranks` matters: a wrong launcher starts independent copies that all train alone and save over
# each other. The script counts the ranks and refuses. (`accelerate launch --config_file
# my-run/accelerate.yaml` does as torchrun does.) In the shell, `ftkit run --torchrun my-run` writes
# the same folder, and `ftkit run --ranks 2 --zero 3` runs it here.
#
# ## What if?

# %%
stage, count, precision = 2, 2, "pure-bf16"
what_if = launch.train(lab, config, ranks=count, zero=stage, precision=precision)
what_if

# %% [markdown]
# Which bytes halved, and did the curve stay? (Lesson 12 asks what pure bf16 costs.) Add
# `method="lora"`: which part is then still worth dividing?
#
# ## A real model
#
# SmolLM2-135M, 57 times as large: two ranks, stage 3. The script is the same.

# %%

REAL = download.has("smollm2")
if REAL:
    real = ft.Experiment(model="smollm2", data=lab.train[:8], eval_records=4, probes=())
    shared = launch.train(real, config, zero=3, batch_size=2, max_steps=1, learning_rate=2e-5)
    print(shared)

# %% [markdown]
# ## On paper: 70 billion parameters
#
# What this machine cannot run, the simulator and a few assumptions can price. All of Llama-2-70B at
# stage 3 on H100s, one sequence of 4,096 tokens for each: memory traced, 40 % of the data sheet's
# 989e12 operations a second, InfiniBand. Which of the two is waited for?

# %%
flops, link = 0.4 * 989e12, 50e9


def seventy(gpus):
    held = ft.memory(model="meta-llama/Llama-2-70b", precision="bf16", gradient_checkpointing=True,
                     batch_size=1, max_length=4096, gpus=gpus, zero=3, device="cuda")
    step = zero_simulator.seconds(held.parameters, 4096, 3, flops=flops, link=link, checkpointing=True)
    hours = 1e9 / 4096 * max(step.values()) / 3600
    return {"GPUs": gpus, "peak, GB": held.peak / 1e9, "fits": held.fits["H100 80GB"],
            **{f"{part}, s": value for part, value in step.items()},
            "GPU hours for 1e9 tokens": hours}


ft.table([seventy(gpus) for gpus in (8, 16, 32, 64)])

# %% [markdown]
# More GPUs divide the states, not the seconds of a step, and the price stays. The link is what one
# waits for, and the model's size does not matter here: both times grow with it. Only the tokens
# that a rank reads decide. From how many tokens on does compute take longer?

# %%
step = zero_simulator.seconds(1, 1, 3, flops=flops, link=link, checkpointing=True)
ft.table([{"link": name, "tokens per rank": step["communication"] * link / speed / step["compute"]}
          for name, speed in speeds.items()])

# %% [markdown]
# ## On paper: a sweep of 1,000 runs
#
# Runs do not talk, so they need no fast link: any machines will do (`lab.sweep(backend="dask")`). Take
# a 7B, a million tokens each, weights read from a disk of 2 GB a second at the start of every run.


# %%
def sweep_of(method, runs=1000):
    held = ft.memory(model="meta-llama/Llama-2-7b", method=method, precision="bf16", batch_size=4,
                     max_length=512, gradient_checkpointing=True, device="cuda")
    step = zero_simulator.seconds(held.parameters, 1e6, flops=flops, link=1, trainable=held.trainable,
                        checkpointing=True)
    return {"method": method, "peak, GB": held.peak / 1e9, "fits": held.fits["H100 80GB"],
            "compute, GPU hours": runs * step["compute"] / 3600,
            "reading, hours": runs * 2 * held.parameters / 2e9 / 3600,
            "results in bf16, TB": runs * 2 * held.trainable / 1e12}


ft.table([sweep_of("full"), sweep_of("lora"),
          {"method": "tiny, this lesson's, here", "compute, GPU hours": alone.seconds / 3.6}])

# %% [markdown]
# Computing is the bottleneck of both. But a full run does not fit one card, and the models of all runs
# fill a large disk: keep adapters, or the numbers alone. (The last row is hours of this CPU.)
#
# ## Exercises
#
# **1.** Reduce-scatter: `gradients` holds one tensor for each rank, all of one length that the number
# of ranks divides. Return for each rank its part of the sum.


# %% tags=["raises-exception"]
def reduce_scatter(gradients):
    ...


ft.check("reduce_scatter", reduce_scatter)


# %% [markdown]
# **2.** Gigabytes (1e9) of states per GPU in mixed precision: 2 + 2 + 12 bytes per parameter.


# %% tags=["raises-exception"]
def zero_gigabytes(parameters, gpus, stage):
    ...


ft.check("zero_gigabytes", zero_gigabytes)


# %% [markdown]
# **3.** The lowest stage at which the states fit `free` bytes on each GPU (the cheapest in traffic),
# or `"none"` if even stage 3 does not.


# %% tags=["raises-exception"]
def lowest_stage(parameters, gpus, free):
    ...


ft.check("lowest_stage", lowest_stage)

# %% [markdown]
# ## Interview
#
# **Compare ZeRO's stages for a 7B on 8 GPUs, memory and traffic.**
# <details><summary>Answer</summary>
# States per GPU: 107.8, 37.1, 25.3, 13.5 GB for stages 0 to 3, which are cumulative. Stages 0 to 2
# move 2 values per parameter and step, stage 3 moves 3: +50 %. Activations come on top and are
# divided by none. Take the lowest stage that fits: on cards of 80 GB that is 1.
# </details>
#
# **A 70B, all weights, one machine of eight 80 GB cards?**
# <details><summary>Answer</summary>
# 16 bytes × 69e9 = 1.1 TB of states, 640 GB of cards: no stage fits (our trace: 147 GB a card, and
# 79 on sixteen). So: more machines; or master copies and AdamW's states offloaded, which `ft.memory`
# puts at 44 GB a card and 0.83 TB in the host; or LoRA on a divided 16-bit base, 17 GB a card.
# </details>
#
# **Is ZeRO-3 model parallelism?**
# <details><summary>Answer</summary>
# No. Every rank computes whole layers on its own batch; W is gathered before a layer and dropped
# after it. Our 2 and 4 ranks gave the single-process loss to 1e-5. Tensor parallelism splits the
# product of one layer and exchanges activations.
# </details>

# %% [markdown]
# **As GPUs are added, what does ZeRO-2 converge to?**
# <details><summary>Answer</summary>
# 2 bytes per parameter in mixed precision, the whole bf16 weights: 13.5 GB for a 7B. The other 14
# bytes are divided. Stage 3 has no such floor, but activations and one gathered layer stay.
# </details>
#
# **The loss on 8 GPUs differs from that on one with the same global batch. Why?**
# <details><summary>Answer</summary>
# Usually the mean: each rank divides by its own labelled tokens and the means are averaged. Sum,
# then divide by the tokens of the whole step. Done right we saw differences below 1e-5 in fp32
# (bf16 rounds differently in each split). Then: data order, dropout seeds.
# </details>
#
# ## Recap
#
# - Stage 1 optimizer, 2 and gradients, 3 and parameters: 4 + 12/N, 2 + 14/N, 16/N with AdamW in
#   mixed precision. Activations stay.
# - Same update, same curve. Traffic 2, 2, 2, 3 per parameter; a real engine may move more.
# - One file of torch is the whole engine, here and on many machines.
#
# In the package: [`ftkit/distributed/zero_simulator.py`](../ftkit/distributed/zero_simulator.py), [`ftkit/distributed/launch.py`](../ftkit/distributed/launch.py) and
# [`ftkit/distributed/train_script.py`](../ftkit/distributed/train_script.py). Before this:
# [09 where the memory goes](09_where_the_memory_goes.ipynb); next: [14 perplexity](14_perplexity.ipynb).
