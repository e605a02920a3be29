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
# - move the states of training between ranks, and count bytes and traffic;
# - say for each stage what a GPU keeps, for any model and number of GPUs;
# - run DDP, ZeroRedundancyOptimizer and FSDP2 on real processes.
#
# *Needs [09](09_where_the_memory_goes.ipynb) (16 bytes a parameter) and [12](12_floating_point.ipynb). About
# 45 minutes; the code runs in about one minute on two CPU cores.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"You have eight GPUs of 80 GB and want to fine-tune all weights of a 7B model. Which stage of ZeRO do
# > you take, what does each GPU keep, and what does it cost?"*

# %% [markdown]
# ## The idea in one picture
#
# Several processes, the **ranks**, train together, usually one on each GPU. Each reads its own part of the
# batch. **ZeRO** ([Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054)) lets each rank keep only a
# part of the states. **FSDP**, fully sharded data parallel, is torch's version of stage 3. The picture
# counts mixed precision: 2 bytes for weights, 2 for gradients, 12 for the rest. "Moved" are the elements
# that a rank exchanges with the others.
#
# ![Four rows, DDP and ZeRO stages 1 to 3, show what one of four GPUs keeps of weights, gradients, and master weights with AdamW's states. DDP keeps all 16 bytes a parameter, stage 1 keeps 7, stage 2 keeps 5.5, stage 3 keeps 4. Elements moved for each parameter: 2, 2, 2 and 3.](figures/13_zero.svg)

# %% [markdown]
# ## Everyone keeps everything
#
# Four simulated ranks train a network of three small layers. Each box is one layer's tensor on one rank.

# %%
import torch

from ftkit.distributed import zero_simulator

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
# The four copies would drift apart, while the loss falls on every rank. So gradients are first summed
# over the ranks. This is an **all-reduce**: afterwards each rank has the whole sum. Then all make the same
# step. It must be the step of one process on the whole batch:

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
# That is **data parallelism** (torch's DDP). It is correct and wasteful: everything exists four
# times. An all-reduce has two halves, and ZeRO uses them separately.

# %% [markdown]
# ## Your turn: reduce-scatter
#
# Write `reduce_scatter`. `gradients` is a list with one 1-D tensor for each rank, all of one length that the
# number of ranks divides. Return a list: for each rank its own part of the *sum*. The first rank owns the
# first part. Do not change the inputs.


# %% tags=["raises-exception"]
def reduce_scatter(gradients):
    ...


ft.check("reduce_scatter", reduce_scatter)

# %% [markdown]
# ## Nobody keeps everything
# <!-- claims: C54 C55 C56 · E31 -->
#
# The other half is the **all-gather**: each rank gives its part, and afterwards each has all parts, in a copy
# of its own. Stage 3 divides all three kinds of state. But a layer needs its whole weight matrix to compute.
# So the matrix is gathered just before it is used, and dropped right after. Gradients go to their owners by
# reduce-scatter.

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
# At the peak a rank held 1,152 bytes instead of 3,072. Every rank computes *whole layers* on *its own* batch.
# So this is data parallelism with divided storage.
#
# ## Four stages
#
# `zero_simulator.step` makes one step of a stage. Each stage includes the ones before it: 1 divides the
# optimizer states, 2 also the gradients, 3 also the parameters. This network is in fp32, unlike the picture:
# these are 8, 4 and 4 bytes a parameter.

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
                 "between steps": sum(world.held()[0].values()) / n,
                 "elements moved, for each parameter": sum(world.moved.values()) / n})
ft.table(rows)

# %%
first_guess.score(min(("4", "8", "10"), key=lambda option: abs(float(option) - peak[1])))

# %% [markdown]
# Traffic is counted as in the paper. An all-gather counts what comes out, a reduce-scatter what goes in,
# and an all-reduce both. In a ring of N ranks, (N - 1)/N of this crosses the wire. "Between steps" has no
# gradients, because they are freed after the update.
#
# Stage 1 leaves parameters and gradients whole. Stage 2 keeps 4 + 4/4 + 8/4 = 7 bytes, and at the peak the
# other three quarters of one layer's gradient: ¾ × 4/12 = 0.25. Stage 3 adds as much for one layer's weights.
# The formulas leave these out. Only stage 3 moves more than DDP.

# %% [markdown]
# ## Your turn: the formula
# <!-- claims: C57 -->
#
# For mixed precision the paper counts 2 bytes for 16-bit weights, 2 for 16-bit gradients, and 12 for what
# the optimizer keeps in fp32: master weights and two moments. Write `zero_gigabytes`: gigabytes (1e9 bytes)
# of states on each GPU, for `stage` 0 to 3.


# %% tags=["raises-exception"]
def zero_gigabytes(parameters, gpus, stage):
    ...


ft.check("zero_gigabytes", zero_gigabytes)

# %%
second_guess = ft.predict("Ever more GPUs at stage 2: the states of a 7B model on each GPU approach about "
                          "...", "0 GB", "13 GB", "27 GB")
second_guess

# %%
from ftkit.memory_use import formula


def gigabytes(parameters, gpus, stage):
    return sum(formula.zero_states(parameters, gpus, stage, weights=2, gradients=2,
                                   optimizer=12).values()) / 1e9


llama = 6.738e9  # parameters of Llama 2 7B
rows = []
for stage in (0, 1, 2, 3):
    row = {"stage": stage, "paper's example: 7.5B on 64 GPUs": gigabytes(7.5e9, 64, stage)}
    for gpus in (1, 8, 64, 1024):
        row[f"7B on {gpus}"] = gigabytes(llama, gpus, stage)
    rows.append(row)
ft.table(rows)

# %%
floor = gigabytes(llama, 10**9, 2)
second_guess.score(min(("0 GB", "13 GB", "27 GB"),
                       key=lambda option: abs(float(option.split()[0]) - floor)))

# %% [markdown]
# On one GPU there is nothing to divide, so stage 3 saves nothing.
# Stages 1 and 2 have a floor of 4 and 2 bytes a parameter. So the first half of the claim holds for stage 3
# only. **The answer** to the question: mostly stage 1. On eight GPUs it keeps 37 of 80 GB and moves no more than
# DDP; the rest is for activations.
#
# **Activations** are divided by no stage: they follow the part of the batch that a rank reads. And not
# every engine keeps these 16 bytes. DeepSpeed in bf16 does: 16-bit weights, whole in stages 1 and
# 2, and fp32 master weights with the moments. FSDP2 keeps fp32 shards, 4 + 4 + 8 bytes, and makes bf16
# copies only while it gathers.

# %% [markdown]
# ## Real processes
#
# Two processes on this machine send each other tensors, by gloo on CPUs and by NCCL between NVIDIA GPUs. First
# the run in one process, which they must equal.

# %%
from ftkit.distributed import launch

lab = ft.Experiment(model="tiny", data=ft.records("tasks")[:96], eval_records=16)
config = ft.Config(learning_rate=1e-3, batch_size=8, max_steps=6, eval_steps=6, precision="fp32")
alone = lab.run(config, live=False)
total = alone.total_parameters

# %% [markdown]
# `launch.train` starts both and gives each half of every batch. Stage 0 is DDP and stage 1 torch's
# ZeroRedundancyOptimizer. FSDP2 (`fully_shard`) drops the gathered parameters after the forward pass (3), or
# keeps them until the backward pass (2). The latter is close to ZeRO-2, except that its parameters are
# divided between steps.

# %%
two = launch.train(lab, config, ranks=2, zero=(0, 1, 2, 3))
two[3]

# %%
apart = 0.0
for run in two.values():
    for ours, row in zip(run.losses, alone.rows):
        apart = max(apart, abs(ours - row["loss"]))
ft.expect(apart, "<", 1e-4, "all four stages give the losses of one process; largest difference")
ft.curves({"one process": alone} | {f"stage {s}": run.run for s, run in two.items()}, "loss")

# %% [markdown]
# The small difference is rounding (lesson 12). Now the bytes that each of two ranks held, in fp32:

# %%
rows, off = [], 0.0
for stage, run in two.items():
    row = {"stage": stage, "engine": run.engine}
    for part, expected in run.formula().items():
        row[part] = run.bytes[0][part] / total
        off = max(off, abs(run.bytes[0][part] - expected) / expected)
    row["sum, bytes a parameter"] = sum(run.bytes[0].values()) / total
    rows.append(row)
ft.expect(off, "<", 0.02, "the table agrees with the formula; largest relative difference")
ft.table(rows)

# %% [markdown]
# With two ranks only stage 3 halves the sum. The 10 of stage 2 is the paper's count. FSDP2 also keeps its
# own shards next to the gathered parameters, so it holds 4 + 2 + 2 + 4 = 12 bytes while it computes, no less
# than stage 1 here. DDP's 16 needs `gradient_as_bucket_view=True`, as here: otherwise the buckets that
# it sends are a second copy of the gradients. For LLMs stage 1 is usually DeepSpeed's or Megatron's, not
# ZeroRedundancyOptimizer.

# %% [markdown]
# ## What communication costs
#
# Every collective operation of the real run was counted. By the paper, stages 0 to 2 move 2 elements for
# each parameter. Does torch?

# %%
third_guess = ft.predict("ZeRO-1 with torch's ZeroRedundancyOptimizer moves, for each parameter, ... "
                         "elements", "2", "3", "4")
third_guess

# %%
short = config.but(max_steps=2, gradient_checkpointing=True)
mixed = launch.train(lab, short, ranks=2, zero=(2, 3), precision="bf16")
moved = {stage: run.sent[0] / 4 / total for stage, run in two.items()}
rows = []
for precision, runs in (("fp32", two), ("bf16", mixed)):
    for stage, run in runs.items():
        row = {"precision": precision, "stage": stage,
               "bytes moved, for each parameter": run.sent[0] / total}
        for kind, size in run.traffic[0].items():
            row[kind] = size / total
        rows.append(row)
ft.table(rows)

# %%
ft.expect(moved[3] / moved[0], "==", 1.5, "fp32: stage 3 moves half as much again as DDP", within=0.01)
ft.expect(mixed[3].sent[0] / two[3].sent[0], "==", 8 / 12, "bf16: 8 bytes instead of 12", within=0.01)
third_guess.score(min(("2", "3", "4"), key=lambda option: abs(float(option) - moved[1])))

# %% [markdown]
# The tiny columns are buffers, and the norm for clipping.
# DDP has already summed *all* gradients on every rank. ZeroRedundancyOptimizer then also sends the updated
# weights (`broadcast`). The paper's stage 1 needs only a reduce-scatter first.
#
# The last rows use FSDP2's mixed precision: `MixedPrecisionPolicy(param_dtype=bf16,
# reduce_dtype=fp32)`. Gathered weights take 2 bytes and summed gradients 4, so stage 3 moves 2 + 2 + 4 = 8
# bytes a parameter. Both runs use checkpointing. With `reduce_dtype=bf16` it is 6, but the sums then have
# 8 significant bits.

# %% [markdown]
# ## When does the GPU wait?
#
# With checkpointing, a step takes about 8 operations for each parameter and token. Stage 3 moves 8 bytes a
# parameter. Both grow with the model, so its size cancels. Assume an H100 at 40 % of its 989e12 operations
# a second. How many tokens must a rank read in a step of one micro-batch, so that computing takes as long
# as the traffic?

# %%
flops = 0.4 * 989e12
links = {"NVLink, 300 GB/s": 300e9, "InfiniBand, 50 GB/s": 50e9, "10 Gbit Ethernet": 1.25e9}
rows = []
for link, speed in links.items():
    seconds = 8 * llama / speed
    rows.append({"link": link, "7B at stage 3: seconds of traffic in a step": seconds,
                 "tokens on each rank": seconds * flops / (8 * llama)})
ft.table(rows)

# %% [markdown]
# The speeds are assumed: the first for each GPU, the others for each *machine*. Weights enter a machine once,
# through all its links, and NVLink passes them on. With eight links of 50 GB/s NVLink's row holds. Real links
# reach less: measure with nccl-tests (`all_gather_perf`). Engines **overlap**: they gather the next layer
# while this one computes. So on such links the traffic hides behind a few thousand tokens; at 10 Gbit hardly
# anything hides it. Then shard inside each machine only, and all-reduce gradients between machines: **hybrid
# sharding** (HSDP). In fp32 this all-reduce counts 2 × 4 bytes a parameter, as many as stage 3's 8. It saves
# with gradient accumulation: once a step is enough (`set_requires_all_reduce`).
#
# Gradient accumulation also helps stages 0 and 1: sum locally, and communicate once. Stage 2 of the paper
# keeps no whole gradients, so it must send them in every micro-batch. FSDP2 can postpone
# them (`set_requires_gradient_sync(False)`). But then it keeps whole gradients, and by default still gathers
# the weights in each micro-batch.

# %% [markdown]
# ## Break it: a mean of means
#
# Each rank could take the *mean* loss of its own tokens, and the ranks average these. Give
# one rank short answers and the other long ones.

# %%
from ftkit.data.encoding import collate

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
# No error, but another gradient: short answers get too much weight. Shuffled batches differ
# less than these two halves. Sum the losses, and divide by the labeled tokens of the *whole*
# step, over all ranks and micro-batches. DDP and FSDP average gradients over ranks, so also multiply by the
# number of ranks. transformers' Trainer does both by default (`average_tokens_across_devices=True`). There a
# loss function of your own must use `num_items_in_batch`.
#
# This mistake belongs to dividing the *batch*. Dividing the states changed no loss here beyond rounding.
# Beside traffic it costs temporary copies of a layer, and checkpoints in pieces. So the second half of the
# claim is nearly right; on a slow link the traffic costs much time.
#
# ## The same on many machines
#
# Each rank above ran one file of plain torch. Exported, it needs no `ft`.

# %%
import tempfile
from pathlib import Path

folder = launch.export(lab, config, Path(tempfile.mkdtemp()) / "my-run")
sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

# %% [markdown]
# ```
# torchrun --nproc-per-node 8 my-run/train.py --zero 3                    # one machine
# torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d \
#     --rdzv-endpoint HOST:29500 my-run/train.py --zero 3 --ranks 16      # on each of two
# ```
#
# `--ranks` matters: a wrong launcher starts copies that train alone and overwrite each other's results. With
# it, such a copy stops.

# %% [markdown]
# ## On paper: 70 billion parameters
#
# All weights of Llama 2 70B at stage 3, one sequence of 4,096 tokens on each H100, traced:

# %%
rows = []
for gpus in (8, 16, 32):
    found = ft.memory(model="meta-llama/Llama-2-70b-hf", precision="bf16", gradient_checkpointing=True,
                      batch_size=1, max_length=4096, gpus=gpus, zero=3, device="cuda")
    rows.append({"GPUs": gpus, "peak of each, GB": found.peak / 1e9,
                 "fits 80 GB": found.fits["H100 80GB"]})
ft.table(rows)

# %% [markdown]
# Eight GPUs are not enough. Sixteen fit on paper only: of an H100's 85.5e9 bytes the check leaves 5 % to
# CUDA and its allocator, and nothing to NCCL. Plan a reserve of 10 %. The
# ranks wait if a machine has one link of 50 GB/s: 4,096 tokens are fewer than 7,912. HSDP is no way out: one
# machine cannot hold the states. What does not fit can be **offloaded**: kept in the memory of the host, and
# copied over its slow bus.
#
# ## What if?

# %%
parameters, gpus = 32e9, 16
{f"stage {stage}, GB": gigabytes(parameters, gpus, stage) for stage in (0, 1, 2, 3)}

# %% [markdown]
# The lowest stage that fits 80 GB, for 32B on 16 GPUs, is stage 3.

# %% [markdown]
# ## At 135M
#
# No box At 135M: who keeps which bytes follows from the parameters and ranks alone.

# %% [markdown]
# ## In practice, 2026
#
# | name | what is divided | what is sent |
# |---|---|---|
# | DDP | the batch | gradients, once a step |
# | ZeRO-1, 2, 3; FSDP | batch and states | gradients and weights |
# | HSDP | as FSDP in each machine | plus gradients between machines |
# | tensor parallel | each multiplication | activations, in every layer |
# | pipeline parallel | the layers | activations, between stages |
# | context parallel | the sequence | keys and values |
# | expert parallel | the experts of a mixture | tokens |
#
# The training script does not change. `train.py`, for any number of GPUs:
#
# ```python
# import torch
# from datasets import load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-8B"
# # train.jsonl: {"messages": [{"role": "user", "content": "..."},
# #                            {"role": "assistant", "content": "..."}]}
# config = SFTConfig(
#     output_dir="out", bf16=True, learning_rate=1e-5, num_train_epochs=1, max_length=4096,
#     per_device_train_batch_size=1, gradient_accumulation_steps=4,
#     gradient_checkpointing=True, save_steps=200,
#     model_init_kwargs={"dtype": torch.float32})
# trainer = SFTTrainer(
#     model_id, args=config,
#     train_dataset=load_dataset("json", data_files="train.jsonl", split="train"))
# trainer.train()
# if trainer.is_fsdp_enabled:  # without this, save_model writes no weights
#     trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
# trainer.save_model("out/final")
# ```

# %% [markdown]
# `accelerate launch --config_file fsdp2.yaml train.py`, with
#
# ```yaml
# distributed_type: FSDP
# mixed_precision: bf16
# num_machines: 1
# num_processes: 8
# fsdp_config:
#   fsdp_version: 2
#   fsdp_reshard_after_forward: true
#   fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
#   fsdp_state_dict_type: SHARDED_STATE_DICT
#   fsdp_cpu_ram_efficient_loading: true
#   fsdp_offload_params: false
# ```
#
# Expect 8.2e9 × 16 / 8 = 16 GB of states on each GPU, and activations. `SFTTrainer` computes the loss in
# chunks, without full logits. With DeepSpeed instead, `SFTConfig(deepspeed="zero3.json")`:
#
# ```json
# {"bf16": {"enabled": true},
#  "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": true},
#  "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
#  "gradient_clipping": "auto"}
# ```

# %% [markdown]
# In your own loop: FSDP2 with HSDP on 2 machines of 8 GPUs, and a distributed checkpoint.
#
# ```python
# import torch.distributed.checkpoint as dcp
# from torch.distributed.checkpoint.state_dict import get_state_dict
# from torch.distributed.device_mesh import init_device_mesh
# from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
#
# mesh = init_device_mesh("cuda", (2, 8), mesh_dim_names=("replicate", "shard"))
# policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
# for layer in model.model.layers:
#     fully_shard(layer, mesh=mesh, mp_policy=policy)   # offload_policy=CPUOffloadPolicy()
# fully_shard(model, mesh=mesh, mp_policy=policy)
# optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)   # after sharding
# ...
# weights, states = get_state_dict(model, optimizer)
# dcp.save({"model": weights, "optimizer": states}, checkpoint_id="step-200")
# ```

# %% [markdown]
# **Pitfalls.**
# - Create the optimizer after `fully_shard`, which replaces the parameters. Shard each layer, not only the
#   model. Otherwise the whole model is gathered at once.
# - Load weights in fp32 for mixed precision. accelerate's FSDP2 converts trained bf16 weights to fp32
#   itself; your own loop does not ([12](12_floating_point.ipynb)).
# - The YAML above sums gradients in bf16. For fp32, set
#   `trainer.accelerator.state.fsdp_plugin.mixed_precision_policy` to the policy above, before `train()`.
# - A sharded checkpoint (DCP) is written by all ranks in parts, and can be loaded on another number of
#   ranks. With `SHARDED_STATE_DICT`, `save_model` alone writes no weights and raises no error
#   ([transformers #30491](https://github.com/huggingface/transformers/issues/30491)). To convert a checkpoint
#   later: `accelerate merge-weights out/checkpoint-200/pytorch_model_fsdp_0 out/final`.
# - transformers warns that its gradient checkpointing gathers weights once more. With FSDP2 the table above
#   counted no such gather.
# - With LoRA only the adapter has gradients and states. Divide the frozen base.
# - An all-gather waits for the slowest rank. Balance the tokens of the ranks, not their sequences.
# - A run that hangs until NCCL's timeout: one rank has fewer batches, took another branch, or still
#   tokenizes. Start with `NCCL_DEBUG=INFO`; between machines, set `NCCL_SOCKET_IFNAME`.

# %% [markdown]
# ## Interview
#
# **Compare ZeRO's stages for a 7B on 8 GPUs, memory and traffic.**
# <details><summary>Answer</summary>
# With 2 + 2 + 12 bytes a parameter, as in DeepSpeed, the states on each GPU take 108, 37, 25 and 13.5 GB for
# stages 0 to 3. With fp32 weights and gradients, 4 + 4 + 8, stage 1 takes 61 GB and stage 2 37 GB. By the
# paper, stages 0 to 2 move 2 elements a parameter and step, stage 3 moves 3.
# Activations are divided by none. Take the lowest stage that fits with the activations: with 80 GB mostly
# stage 1. Stage 2 moves no more without gradient accumulation, but with it sends in each micro-batch.
# </details>
#
# **Can you fine-tune all weights of a 70B on one machine of eight 80 GB GPUs?**
# <details><summary>Answer</summary>
# Not with AdamW in mixed precision: 16 bytes × 69e9 = 1.1 TB of states against 640 GB. Options: more
# machines; master weights and moments in the host's memory, 12 × 69e9 = 0.83 TB; or LoRA on a sharded 16-bit
# base, 138 GB over eight GPUs. An 8-bit optimizer alone is not enough (10 bytes, 690 GB). Without fp32 master
# weights it is (6 bytes, 414 GB), but bf16 weights may lose small updates.
# </details>

# %% [markdown]
# **Is ZeRO-3 model parallelism?**
# <details><summary>Answer</summary>
# No. Every rank computes whole layers on its own batch; weights are gathered before a layer and dropped
# after it. Tensor parallelism splits the multiplication inside a layer and exchanges activations. Pipeline
# parallelism gives different layers to different GPUs.
# </details>

# %% [markdown]
# **The loss on 8 GPUs differs from that on one with the same global batch. Why?**
# <details><summary>Answer</summary>
# Often the mean: each rank divides by its own labeled tokens, and the means are averaged. Sum, divide by
# the tokens of the whole step, and multiply by the ranks (DDP and FSDP average gradients). Then check the
# order of the data, dropout seeds, padding rows of the last batch. What remains is rounding, larger in bf16.
# </details>
#
# ## Recap
#
# - With AdamW in mixed precision: 16 bytes, 4 + 12/N, 2 + 14/N, 16/N. Activations stay.
# - Same update and curve, up to rounding. Elements moved: 2, 2, 2, 3; a real engine may move more.
# - Divide the loss by the tokens of the whole step; undo the mean over ranks.
#
# In the package: [`zero_simulator.py`](../ftkit/distributed/zero_simulator.py),
# [`launch.py`](../ftkit/distributed/launch.py) and
# [`train_script.py`](../ftkit/distributed/train_script.py). Next: [14 perplexity](14_perplexity.ipynb).

# %%
ft.progress("13")
