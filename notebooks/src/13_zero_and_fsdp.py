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
# **Claim: each stage of ZeRO divides the memory by the number of GPUs, and it costs nothing but traffic.**
# Both parts could be wrong. After this lesson you can
#
# - say for each stage what a GPU keeps and sends, for any model and number of GPUs;
# - run DDP, torch's ZeRO-1 and FSDP2 on real processes;
# - choose a stage by tokens per second, and find the rank that made a run hang.
#
# *Needs [09](09_where_the_memory_goes.ipynb) (16 bytes a parameter) and [12](12_floating_point.ipynb). About
# 45 minutes; the code runs in about one minute on two CPU cores. Scripts, hybrid sharding and pitfalls are on the
# [reference page](reference/13_zero_and_fsdp.md).*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# You have booked two machines with eight GPUs each for the weekend, and they are paid by the hour. On Saturday the first
# run stops with "out of memory", the second crawls, and the third stands still without any error. An interviewer asks:
#
# > *"You have eight GPUs of 80 GB and want to fine-tune all weights of a 7B model. Which stage of ZeRO do
# > you take, what does each GPU keep, and what does it cost?"*

# %% [markdown]
# ## The idea in one picture
#
# Several processes, the **ranks**, train together, usually one on each GPU. Each reads its own part of the
# batch. **ZeRO** ([Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054)) lets each rank keep only a
# part of the states: weights, gradients, and what the optimizer keeps. **FSDP**, fully sharded data
# parallel, is torch's version of stage 3. The picture counts mixed precision, and "moved" are the elements
# that a rank exchanges with the others in a step of one micro-batch.
#
# ![Four rows, DDP and ZeRO stages 1 to 3, show what one of four GPUs keeps of weights, gradients, and master weights with AdamW's states. DDP keeps all 16 bytes a parameter, stage 1 keeps 7, stage 2 keeps 5.5, stage 3 keeps 4. Elements moved for each parameter with one micro-batch: 2, 2, 2 and 3.](figures/13_zero.svg)

# %% [markdown]
# ## Everyone keeps everything
#
# First comes plain data parallelism: four simulated ranks train a network of three small layers. Each box
# is one layer's tensor on one rank.

# %%
import torch

from ftkit.inside import zero_simulator

draw = torch.Generator().manual_seed(0)
batches = []
for _ in range(4):
    batches.append((torch.randn(4, 8, generator=draw), torch.randn(4, 8, generator=draw)))
world = zero_simulator.World(ranks=4, layers=3, width=8, stage=0)
world.feed(batches)
world

# %% [markdown]
# Forward, then backward: each rank gets a gradient, but of *its own* batch (pale). What happens if every
# rank now makes its step?

# %%
for layer in (0, 1, 2):
    world.forward(layer)
for layer in (2, 1, 0):
    world.backward(layer)
world

# %% tags=["raises-exception"]
world.update()  # rejected on purpose: read why

# %% [markdown]
# The four copies would drift apart. So the gradients are first summed over the ranks. This is an
# **all-reduce**: afterwards each rank has the whole sum. (Each rank divides its loss by the size of the whole
# batch, so the sum is its gradient.) Is the step then that of one process on the whole batch?

# %%
weights = [torch.nn.Parameter(w.clone()) for w in world.weights()]
x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
for w in weights:
    x = torch.tanh(x @ w)
torch.nn.functional.mse_loss(x, y).backward()
torch.optim.AdamW(weights, lr=world.lr, weight_decay=0.0).step()

# %%
def gap(world):
    return max((a - b).abs().max().item() for a, b in zip(world.weights(), weights))


for layer in world.layers:
    world.all_reduce(layer)
world.update()
print(f"largest difference from one process: {gap(world):.1e}")

# %% [markdown]
# It is the same step, up to rounding. This is **data parallelism** (torch's DDP). It is correct and
# wasteful: everything exists four times. An all-reduce has two halves, and ZeRO uses them separately.

# %% [markdown]
# ## Your turn: reduce-scatter
#
# Write `reduce_scatter`. `gradients` is a list with one 1-D tensor for each rank, all of one length that the
# number of ranks divides. Return a list: for each rank its own part of the *sum*. The first rank owns the
# first part: `[1, 2]` and `[10, 20]` give `[11]` and `[22]`. Do not change the inputs.


# %% tags=["raises-exception"]
def reduce_scatter(gradients):
    ...


ft.check("reduce_scatter", reduce_scatter)

# %% [markdown]
# ## Nobody keeps everything
# <!-- claims: C54 C55 C56 · E31 -->
#
# The other half is the **all-gather**: each rank gives its part, and afterwards each has a copy of all parts.
# Stage 3 divides weights, gradients and optimizer states. But a layer needs its whole weight matrix. So this
# is gathered just before it is used, and dropped right after. Gradients go to their
# owners by reduce-scatter. Look at the peak of a rank, 3,072 bytes above:

# %%
sharded = zero_simulator.World(ranks=4, layers=3, width=8, stage=3)
sharded.feed(batches)
for layer in (0, 1, 2):
    sharded.all_gather(layer)
    sharded.forward(layer)
    sharded.drop(layer)
for layer in (2, 1, 0):
    sharded.all_gather(layer)
    sharded.backward(layer)
    sharded.drop(layer)
    sharded.reduce_scatter(layer)
sharded

# %%
sharded.update()
ft.expect(gap(sharded), "<", 1e-6, "stage 3 makes the step of one process; difference")

# %% [markdown]
# The peak is 1,152 bytes, and the step is the same. Every rank still computes *whole layers* on *its own*
# batch: this is data parallelism with divided storage.
#
# ## Four stages
#
# Stage 1 divides the optimizer states, stage 2 also the gradients, stage 3
# also the parameters. This network is in fp32: they take 8, 4 and 4 bytes a parameter, not 12, 2 and 2 as in
# the picture.

# %%
first_guess = ft.predict("From stage 0 to stage 1, on four ranks, the peak of a rank falls from 16 bytes "
                         "a parameter to about ...", "4", "8", "10")
first_guess

# %%
n = 12 * 8 * 8
rows, peak = [], {}
for stage in (0, 1, 2, 3):
    world = zero_simulator.World(ranks=4, layers=12, width=8, stage=stage)
    world.feed(batches)
    zero_simulator.step(world)
    peak[stage] = max(world.peak) / n
    rows.append({"stage": stage, "peak, bytes a parameter": peak[stage],
                 "elements moved, for each parameter": sum(world.moved.values()) / n})
ft.table(rows)

# %%
first_guess.score(min(("4", "8", "10"), key=lambda option: abs(float(option) - peak[1])))

# %% [markdown]
# Stage 1 keeps parameters and gradients whole: 4 + 4 + 8/4 = 10. Stages 2 and 3 keep 7 and 4 bytes. Their
# peaks are a little higher, because one layer's tensors are whole for a moment.
#
# Traffic is counted as in the paper: an all-gather or a reduce-scatter moves each element once, an all-reduce
# twice. Only stage 3 moves more than DDP: it gathers the weights in the forward and in the backward pass.

# %% [markdown]
# ## Your turn: the formula
# <!-- claims: C57 -->
#
# Mixed precision in DeepSpeed, as in the paper, keeps 2 bytes for 16-bit weights and 2 for 16-bit gradients. The
# optimizer keeps 12 in fp32: master weights and two moments. FSDP2, given fp32 weights, keeps 4, 4 and 8. So write
# `zero_gigabytes` for any three numbers: gigabytes (1e9 bytes) of states on each GPU, for `stage` 0 to 3.


# %% tags=["raises-exception"]
def zero_gigabytes(parameters, gpus, stage, weights=2, gradients=2, optimizer=12):
    ...


ft.check("zero_gigabytes", zero_gigabytes)

# %%
second_guess = ft.predict("Ever more GPUs at stage 2: the states of a 7B model on each GPU approach about "
                          "...", "0 GB", "13 GB", "27 GB")
second_guess

# %%
from ftkit.teaching import line_plot, working

gigabytes = working("zero_gigabytes", zero_gigabytes)
llama, qwen = 6.738e9, 30.53e9  # Llama 2 7B; Qwen3-30B-A3B, a mixture of experts
line_plot({f"stage {stage}": [(2**k, gigabytes(llama, 2**k, stage)) for k in range(11)]
           for stage in (0, 1, 2, 3)}, x="GPUs", y="states of the 7B on each GPU (GB)")

# %%
floor = gigabytes(llama, 10**9, 2)
second_guess.score(min(("0 GB", "13 GB", "27 GB"),
                       key=lambda option: abs(float(option.split()[0]) - floor)))

# %%
ft.table([{"states on each of 8 GPUs, GB": f"stage {stage}", "7B": gigabytes(llama, 8, stage),
           "7B, FSDP2's 4 + 4 + 8": gigabytes(llama, 8, stage, 4, 4, 8),
           "mixture of experts, 30B": gigabytes(qwen, 8, stage)} for stage in (0, 1, 2, 3)])

# %% [markdown]
# Stages 1 and 2 level off at what they do not divide, 4 and 2 bytes a parameter. So the first half of the
# claim holds for stage 3 only. The mixture has states for *all* its experts, although a token uses 3.3 of its 30.5 billion
# parameters. The rest of a GPU is for **activations**, which no stage divides: they follow the part of the batch that
# a rank reads.

# %% [markdown]
# ## Real processes
#
# Do real engines agree with the simulator? First the run in one process, which two processes must equal.

# %%
from ftkit.inside import launch

lab = ft.Experiment(model="tiny", data=ft.records("tasks")[:96], eval_records=16)
config = ft.Config(learning_rate=1e-3, batch_size=8, max_steps=6, eval_steps=6, precision="fp32")
alone = lab.run(config, live=False)
total = alone.total_parameters

# %% [markdown]
# `launch.train` starts both and gives each half of every batch. Stage 0 is DDP, and stage 1 is torch's
# ZeroRedundancyOptimizer. Stages 2 and 3 are FSDP2 (`fully_shard`).

# %%
two = launch.train(lab, config, ranks=2, zero=(0, 1, 2, 3))
apart = max(abs(ours - row["loss"]) for run in two.values()
            for ours, row in zip(run.losses, alone.rows, strict=True))
ft.expect(apart, "<", 1e-4, "all four stages give the losses of one process; largest difference")

# %%
rows, off = [], 0.0
for stage, run in two.items():
    row = {"stage": stage, "engine": run.engine}
    for part, expected in run.formula().items():
        row[part] = run.bytes[0][part] / total
        off = max(off, abs(run.bytes[0][part] - expected) / expected)
    rows.append(row | {"sum, bytes a parameter": sum(run.bytes[0].values()) / total,
                       "bytes moved, for each parameter": run.sent[0] / total})
ft.expect(off, "<", 0.02, "the kept bytes agree with the formula; largest relative difference")
ft.expect(two[3].sent[0] / two[0].sent[0], "==", 1.5, "moved: stage 3 against DDP", within=0.01)
ft.table(rows)

# %% [markdown]
# The same losses up to rounding, and the measured bytes are those of the formula. With two ranks only stage 3 halves
# the sum. "Moved" counts every **collective**, an exchange among all ranks, by its size. Stage 1 moves more than the
# paper says: DDP sums *all* gradients on every rank (8 bytes in fp32), and ZeroRedundancyOptimizer then sends the
# updated weights (4).

# %% [markdown]
# ## When does the GPU wait?
#
# In bf16, stage 3 moves 8 bytes a parameter in **each** micro-batch: weights of 2 bytes twice, gradients of 4. Stage 1 moves
# 6 bytes once a step, by the paper's count: gradients of 4, weights of 2. Engines **overlap** the traffic with computing, so a step takes the
# longer of the two. With checkpointing a token costs 8 operations for each parameter, of which 6 are useful. The
# **MFU** (model FLOPs utilization, [lesson 11](11_activations_and_checkpointing.ipynb)) counts the useful ones. Assume that an H100
# reaches 40 % of its peak of 989e12 while it computes.

# %%
third_guess = ft.predict("7B, 16 micro-batches of 2,048 tokens, machines joined by 50 GB/s: how many times the tokens "
                         "per second of stage 3 does stage 1 make?", "the same", "about 2", "about 4")
third_guess

# %%
links = {"NVLink inside a machine, 300 GB/s": 300e9, "InfiniBand, one 400-Gbit link, 50 GB/s": 50e9,
         "Ethernet, one 10-Gbit link, 1.25 GB/s": 1.25e9}
rows, speed_of, micro, tokens = [], {}, 16, 2048
for link, bandwidth in links.items():
    row = {"link": link, "tokens on a rank that hide stage 3": round(0.4 * 989e12 / bandwidth)}
    for stage, moved in ((1, 6), (3, 8 * micro)):
        seconds = max(8 * llama * tokens * micro / (0.4 * 989e12), moved * llama / bandwidth)
        speed_of[link, stage] = tokens * micro / seconds
        row |= {f"stage {stage}: tokens per second and GPU": speed_of[link, stage],
                f"stage {stage}: MFU": 6 * llama * speed_of[link, stage] / 989e12}
    rows.append(row)
ft.table(rows)

# %%
times = speed_of["InfiniBand, one 400-Gbit link, 50 GB/s", 1] / speed_of["InfiniBand, one 400-Gbit link, 50 GB/s", 3]
third_guess.score("the same" if times < 1.4 else "about 2" if times < 3 else "about 4")

# %% [markdown]
# Inside a machine the traffic hides, and both stages reach 30 %. Between machines with one link stage 3 waits. The
# model's size cancels, but not a mixture's: it moves all parameters and computes with the active ones, so the 30B above needs
# nine times the tokens.
#
# **The answer**: the lowest stage that fits, mostly stage 1. On eight GPUs it keeps 37 of 80 GB. With more machines, shard
# inside each machine only (**hybrid sharding**), or use eight links, as most machines of eight H100s have. Then measure
# tokens per second: a low MFU with idle links is another problem.

# %% [markdown]
# ## Break it: a mean of means
#
# What if each rank takes the *mean* loss of its own tokens, and the ranks average these means? Here one
# rank gets the shortest answers, the other the longest.

# %%
from ftkit.inside import collate

model, tokenizer = ft.load("tiny")
encoded = [ft.encode(record, tokenizer) for record in lab.train]
encoded.sort(key=lambda example: sum(label != -100 for label in example["labels"]))
halves = [encoded[:4], encoded[-4:]]
counts = []
for half in halves:
    counts.append(sum(label != -100 for example in half for label in example["labels"]))


# %%
def gradient(shares):
    model.zero_grad()
    for half, share in zip(halves, shares):
        (share * model(**collate(half, tokenizer.pad_token_id)).loss).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


right = gradient([count / sum(counts) for count in counts])
wrong = gradient([0.5, 0.5])
off = ((wrong - right).norm() / right.norm()).item()
ft.expect(off, ">", 0.05, "the mean of means has another gradient; relative difference")
print(f"labeled tokens {counts}: each token of the first rank counts {counts[1] / counts[0]:.1f} times "
      f"as much as one of the second")

# %% [markdown]
# Silently, the tokens of the rank with fewer labels get too much weight. The remedy: sum the losses, and divide by the
# labeled tokens of the *whole* step, over all ranks and micro-batches. DDP and FSDP average gradients over ranks, so
# also multiply by the number of ranks. transformers' Trainer does both by default. This mistake belongs to dividing the
# *batch*. Dividing the states changed no loss beyond rounding.

# %% [markdown]
# ## At 135M
#
# No box At 135M: who keeps which bytes follows from the parameters and ranks alone.

# %% [markdown]
# ## In practice, 2026
#
# One script serves all stages: `accelerate launch --config_file fsdp2.yaml train.py` makes it stage 3,
# `deepspeed="zero1.json"` stage 1. Script and files, a loop of your own, checkpoints and pitfalls are on the [reference
# page](reference/13_zero_and_fsdp.md).

# %% [markdown]
# ## Your turn: the run that stands still
#
# The third run shows GPUs at 100 % and no progress: ranks wait in a collective that one of them never enters. Usual causes are
# a rank with fewer batches, an `if` that only some ranks take, and a rank that still tokenizes. PyTorch gives up
# after 10 minutes if the collectives are those of NCCL, NVIDIA's library. With `TORCH_NCCL_DUMP_ON_TIMEOUT=1` its **flight
# recorder** then writes what each rank entered.
#
# Complete `find_culprit`. `entered` has for each rank its collectives in order. Return the first index at which the
# ranks differ and a list of the ranks that are not with the majority there; None if all entered the same.


# %% tags=["raises-exception"]
def find_culprit(entered):
    for i in range(max(len(names) for names in entered.values())):
        at = {rank: names[i] if i < len(names) else "nothing" for rank, names in entered.items()}
        usual = ...
        culprits = ...
        if culprits:
            return i, culprits
    return None


ft.check("find_culprit", find_culprit)

# %%
step = ["all_gather 0", "all_gather 1", "reduce_scatter 1", "reduce_scatter 0"]
sunday = {rank: step * 3 if rank != 5 else step * 2 for rank in range(8)}
working("find_culprit", find_culprit)(sunday)

# %% [markdown]
# Rank 5 had two batches, the others three. Give every rank the same number of steps: pad the sampler, drop the last
# incomplete step, or let a rank without data compute a loss of zero.
#
# ## Interview
#
# **Compare ZeRO's stages for a 7B on 8 GPUs, memory and traffic.**
# <details><summary>Answer</summary>
# With 2 + 2 + 12 bytes a parameter, as in DeepSpeed, the states on each GPU take 108, 37, 25 and 13.5 GB for stages 0 to
# 3. By the paper, with one micro-batch a step, stages 0 to 2 move 2 elements a parameter and stage 3 moves 3. Stage 3
# gathers the weights in each micro-batch. No stage divides activations. Take the lowest stage that fits: mostly stage 1.
# </details>
#
# **A run on 16 GPUs hangs. What do you do?**
# <details><summary>Answer</summary>
# Find the collective that not all ranks entered, with the flight recorder or py-spy on each rank. Then the reason: uneven
# batches, a branch by rank, an exception that one rank swallowed, a slow rank. Only then suspect the network, with
# `NCCL_DEBUG=INFO` and nccl-tests.
# </details>
#
# ## Recap
#
# - With AdamW in mixed precision: 16 bytes, 4 + 12/N, 2 + 14/N, 16/N. Activations stay. All experts count.
# - Same update, up to rounding. Elements moved with one micro-batch: 2, 2, 2, 3; a real engine may move more.
# - Divide the loss by the tokens of the whole step, and give every rank the same number of steps.
#
# In the package: [`zero_simulator.py`](../ftkit/distributed/zero_simulator.py),
# [`launch.py`](../ftkit/distributed/launch.py). Next: [14 perplexity](14_perplexity.ipynb).

# %%
ft.progress("13")
