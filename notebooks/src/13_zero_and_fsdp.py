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
# - run DDP, torch's ZeRO-1 and FSDP2 on real processes.
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
from ftkit.inside import zero_states


def gigabytes(parameters, gpus, stage):
    return sum(zero_states(parameters, gpus, stage, weights=2, gradients=2,
                           optimizer=12).values()) / 1e9


llama = 6.738e9  # parameters of Llama 2 7B
{f"stage {stage}": round(gigabytes(llama, 8, stage), 1) for stage in (0, 1, 2, 3)}

# %% [markdown]
# These are GB on each of eight GPUs. Now for 1 to 1,024:

# %%
from ftkit.teaching import line_plot

line_plot({f"stage {stage}": [(2**k, gigabytes(llama, 2**k, stage)) for k in range(11)]
           for stage in (0, 1, 2, 3)}, x="GPUs", y="states on each GPU (GB)")

# %%
floor = gigabytes(llama, 10**9, 2)
second_guess.score(min(("0 GB", "13 GB", "27 GB"),
                       key=lambda option: abs(float(option.split()[0]) - floor)))

# %% [markdown]
# Stages 1 and 2 level off at what they do not divide, 4 and 2 bytes a parameter. So the first half of the
# claim holds for stage 3 only.
#
# **The answer**: mostly stage 1. On eight GPUs it keeps 37 of 80 GB, and by the paper's count moves no more
# than DDP. The rest is for **activations**, which no stage divides: they follow the part of the batch that a
# rank reads.
#
# DeepSpeed in bf16 keeps these 2 + 2 + 12 bytes. FSDP2, given fp32 weights, keeps 4 + 4 + 8, and makes bf16
# copies only while it gathers.

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
# ZeroRedundancyOptimizer. Stages 2 and 3 are FSDP2 (`fully_shard`). At stage 3 it drops a layer's gathered
# weights after its forward pass, at stage 2 after its backward pass. (ZeRO-2 never drops them.)

# %%
two = launch.train(lab, config, ranks=2, zero=(0, 1, 2, 3))
two[3]

# %% [markdown]
# If all stages make the same steps, the five curves lie on each other:

# %%
apart = 0.0
for run in two.values():
    for ours, row in zip(run.losses, alone.rows):
        apart = max(apart, abs(ours - row["loss"]))
ft.expect(apart, "<", 1e-4, "all four stages give the losses of one process; largest difference")
ft.curves({"one process": alone} | {f"stage {s}": run.run for s, run in two.items()}, "loss")

# %% [markdown]
# They do, up to rounding. Now the bytes of each rank, in fp32:

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
# The measured bytes are those of the formula, and with two ranks only stage 3 halves the sum. The columns
# belong to different moments: weights are counted after the forward pass, gradients after the backward pass.
# At the first moment stage 2 of FSDP2 also holds its own shards (2 bytes), but no gradients. And DDP's 16 needs
# `gradient_as_bucket_view=True`; otherwise its send buffers (buckets) are a second copy of the gradients.

# %% [markdown]
# ## What communication costs
#
# What did the real runs move? Every **collective**, an exchange among all ranks, was counted by its size, as
# in the paper. (A rank sends (n - 1)/n of it: here half, usually nearly all.) By the paper stages 0 to 2
# move 2 elements a parameter, 8 bytes in fp32. Which of them moves more in torch?

# %%
short = config.but(max_steps=2, gradient_checkpointing=True)  # adds no gather in FSDP2
mixed = launch.train(lab, short, ranks=2, zero=(2, 3), precision="bf16")
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
ft.expect(two[3].sent[0] / two[0].sent[0], "==", 1.5, "fp32: stage 3 against DDP", within=0.01)
ft.expect(mixed[3].sent[0] / two[3].sent[0], "==", 8 / 12, "bf16: 8 bytes instead of 12", within=0.01)

# %% [markdown]
# Stage 1 moves more: DDP sums *all* gradients on every rank (8 bytes), and ZeroRedundancyOptimizer then sends
# the updated weights (`broadcast`, 4). The paper's count replaces the all-reduce by a reduce-scatter.
# By its source, DeepSpeed's stages 1 and 2 also all-reduce by default.
#
# The last rows use FSDP2's mixed precision: `MixedPrecisionPolicy(param_dtype=bf16, reduce_dtype=fp32)`.
# Gathered weights take 2 bytes and summed gradients 4, so stage 3 moves 2 + 2 + 4 = 8.
# (The tiny entries are buffers, and the norm for clipping.)

# %% [markdown]
# ## When does the GPU wait?
#
# With checkpointing, a step takes about 8 operations for each parameter and token. Stage 3 moves 8 bytes a
# parameter. Both grow with the model, so its size cancels. Assume an H100 at 40 % of its 989e12 operations
# a second. How many tokens must a rank's micro-batch have, so that computing takes as long as the traffic?

# %%
flops = 0.4 * 989e12
links = {"NVLink, 300 GB/s for each GPU": 300e9,
         "InfiniBand, one 400-Gbit link for each machine, 50 GB/s": 50e9,
         "Ethernet, one 10-Gbit link for each machine, 1.25 GB/s": 1.25e9}
rows = []
for link, speed in links.items():
    seconds = 8 * llama / speed
    rows.append({"link": link, "7B at stage 3: seconds of traffic in a step": seconds,
                 "tokens on each rank": seconds * flops / (8 * llama)})
ft.table(rows)

# %% [markdown]
# Engines **overlap**: they gather the next layer while this one computes. Inside a machine (NVLink) the
# traffic hides behind 1,300 tokens. Between machines with one 400-Gbit link it takes 8,000: weights enter the
# machine once, and NVLink passes them on. Machines of eight H100s usually have eight such links, about as
# fast as NVLink's row. NVLink's data sheet says 450 GB/s each way. Measure yours with
# nccl-tests (`all_gather_perf`) of NCCL, NVIDIA's library for collectives.
#
# With gradient accumulation stages 0 and 1 sum locally, and communicate once. Stages 2 and 3 send gradients
# in every micro-batch, or keep them whole until the last one. transformers' Trainer keeps them with FSDP2,
# unless `sync_each_batch` is set. With k micro-batches stage 3 also gathers the weights 2k times. So it moves
# 3k elements a parameter (2k + 1 with whole gradients), DDP still 2.
#
# At 10 Gbit hardly anything hides the traffic. There, accumulate, shard inside each machine only, and
# all-reduce the gradients between machines: **hybrid sharding** (HSDP). With fp32 sums it moves 8 bytes a
# parameter between machines once a step, stage 3 8k (4k + 4 with whole gradients): the same for k = 1. Its
# cost: each machine keeps all states, with eight GPUs 16/8 bytes a parameter on each.

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
# Silently, the tokens of the rank with fewer labels get too much weight. The remedy: sum the losses,
# and divide by the labeled tokens of the *whole* step, over all ranks and micro-batches. DDP
# and FSDP average gradients over ranks, so also multiply by the number of ranks. transformers' Trainer does
# both by default.
#
# This mistake belongs to dividing the *batch*. Dividing the states changed no loss beyond rounding. So the
# second half of the claim is nearly right: besides traffic, it costs temporary copies of a layer, and with
# accumulation whole gradients or still more traffic.
#
# ## The same on many machines
#
# `launch.export(lab, config, "my-run")` writes a run as one file of plain torch. Take a `batch_size` of at
# least the number of ranks:
#
# ```
# torchrun --nproc-per-node 8 my-run/train.py --zero 3                 # one machine
# torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d \
#     --rdzv-endpoint HOST:29500 my-run/train.py --zero 3 --ranks 16   # on each of two; HOST: the first
# ```

# %% [markdown]
# ## On paper: 70 billion parameters
#
# How many H100s does it take to tune all weights of Llama 2 70B at stage 3, with a sequence of 4,096 tokens
# on each? `ft.memory` traces the model without its weights ([09](09_where_the_memory_goes.ipynb)):

# %%
rows = []
for gpus in (8, 16, 32):
    found = ft.memory(model="meta-llama/Llama-2-70b-hf", precision="bf16", gradient_checkpointing=True,
                      batch_size=1, max_length=4096, gpus=gpus, zero=3, device="cuda")
    rows.append({"GPUs": gpus, "peak of each, GB": found.peak / 1e9,
                 "fits 80 GB": found.fits["H100 80GB"]})
ft.table(rows)

# %% [markdown]
# Eight are not enough. Sixteen fit on paper only: the check leaves 5 % of 85.5 GB to CUDA and nothing to
# NCCL. Plan a reserve of 10 %, and more than sixteen. What does not fit can be **offloaded**: kept in the
# memory of the host, and copied over its slow bus.

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
# | FSDP2, `reshard_after_forward=8` | as FSDP; from forward to backward each machine keeps the 16-bit weights | weights between machines once, not twice |
# | tensor parallel | each multiplication | activations, in every layer |
# | pipeline parallel | the layers | activations, between stages |
# | context parallel | the sequence | keys and values |
# | expert parallel | the experts of a mixture | tokens |
#
# `train.py`, for any number of GPUs:
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
#     # from transformers 5.23 on: activation_checkpointing (the old name works, with a warning)
#     gradient_checkpointing=True, save_steps=200, assistant_only_loss=True,
#     accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": True}},
#     model_init_kwargs={"dtype": torch.float32})  # the shards; bf16 copies are made when gathered
# trainer = SFTTrainer(
#     model_id, args=config,
#     train_dataset=load_dataset("json", data_files="train.jsonl", split="train"))
# trainer.train()
# if trainer.is_fsdp_enabled:  # without this, save_model writes no weights
#     trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
# trainer.save_model("out/final")  # under FSDP in fp32, 33 GB
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
#   fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP   # each layer is gathered by itself
#   fsdp_state_dict_type: SHARDED_STATE_DICT
#   fsdp_cpu_ram_efficient_loading: true            # only the first rank loads the weights
#   # fsdp_offload_params: true                     # offloads to the memory of the host
#   # fsdp_activation_checkpointing: true           # only with gradient_checkpointing=False
# ```
#
# This is stage 3: expect 8.2e9 × 16 / 8 = 16 GB of states on each GPU, and activations. Without
# `sync_each_batch`, 16 GB of whole gradients come on top (33 GB if summed in fp32). FSDP has no stage 1; DeepSpeed has:
# `SFTConfig(deepspeed="zero1.json")`, started by `torchrun --nproc-per-node 8 train.py`, with
#
# ```json
# {"zero_optimization": {"stage": 1}, "bf16": {"enabled": "auto"}, "gradient_clipping": "auto",
#  "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto"}
# ```

# %% [markdown]
# In your own loop: FSDP2 with HSDP on a mesh of 2 machines × 8 GPUs, and a distributed checkpoint (DCP).
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
# ...   # with accumulation: model.set_requires_all_reduce(is_last_micro_batch)
# weights, states = get_state_dict(model, optimizer)
# dcp.save({"model": weights, "optimizer": states}, checkpoint_id="step-200")
# # to resume: get_state_dict, dcp.load into the same dict, set_state_dict
# ```

# %% [markdown]
# **Pitfalls.**
# - Create the optimizer after `fully_shard`, which replaces the parameters. Shard each layer; else
#   the whole model is gathered at once.
# - The YAML above sums gradients in bf16. For fp32, set
#   `trainer.accelerator.state.fsdp_plugin.mixed_precision_policy` to the policy above, before `train()`.
# - The JSON above sums micro-batches in bf16 too. With `"data_types": {"grad_accum_dtype": "fp32"}` stage 1
#   of DeepSpeed 0.19 adds whole fp32 gradients: 64 instead of 37 GB for the 7B.
# - transformers advises `fsdp_activation_checkpointing`, as its own checkpointing gathers once more in FSDP1.
#   In FSDP2 it adds no gather, as counted above, if it is non-reentrant (the default).
# - A sharded checkpoint (DCP) can be loaded on another number of ranks. But with `SHARDED_STATE_DICT`,
#   `save_model` alone silently writes no weights
#   ([transformers #30491](https://github.com/huggingface/transformers/issues/30491)).
#   To convert later: `accelerate merge-weights`.
# - A loss function of your own in transformers' Trainer must use `num_items_in_batch`.
# - With LoRA only the adapter has gradients and states. Divide the frozen base if it does not fit; else take
#   DDP. FSDP2 divides a 4-bit base only if `bnb_4bit_quant_storage` is a float type.
# - Collectives wait for the slowest rank. Balance the tokens of the ranks, not their sequences.
# - A run hangs until NCCL's timeout: one rank has fewer batches, took another branch, or still tokenizes.

# %% [markdown]
# ## Interview
#
# **Compare ZeRO's stages for a 7B on 8 GPUs, memory and traffic.**
# <details><summary>Answer</summary>
# With 2 + 2 + 12 bytes a parameter, as in DeepSpeed, the states on each GPU take 108, 37, 25 and 13.5 GB for
# stages 0 to 3. With 4 + 4 + 8, stage 1 takes 61 GB. By the paper, with one micro-batch a step, stages 0 to 2
# move 2 elements a parameter (1 and 2 move 3 if the engine all-reduces), stage 3 moves 3. With k micro-batches
# stage 3 gathers the weights in each: 3k. Stage 2 sends gradients in each, or must keep them whole. No stage
# divides activations; context parallelism does. Take the lowest stage that fits: with 80 GB mostly stage 1
# (64 GB with fp32 sums of micro-batches).
# </details>
#
# **Can you fine-tune all weights of a 70B on one machine of eight 80 GB GPUs?**
# <details><summary>Answer</summary>
# Not with AdamW in mixed precision: 16 bytes × 69e9 = 1.1 TB of states against 640 GB. Options: more
# machines; master weights and moments in the host's memory, 12 × 69e9 = 0.83 TB (in DeepSpeed
# gradients too); bf16 weights with stochastic rounding and 8-bit moments, 6 bytes, 52 GB a GPU; or LoRA on a
# sharded 16-bit base, 138 GB over eight GPUs.
# </details>

# %% [markdown]
# **Is ZeRO-3 model parallelism?**
# <details><summary>Answer</summary>
# No. Every rank computes whole layers on its own batch; weights are gathered before a layer and dropped
# after it. Tensor parallelism splits the multiplication inside a layer, pipeline parallelism the layers.
# </details>

# %% [markdown]
# **The loss on 8 GPUs differs from that on one with the same global batch. Why?**
# <details><summary>Answer</summary>
# Often the mean: each rank divides by its own labeled tokens, and the means are averaged. Divide by the
# tokens of the whole step instead. Then check the order of the data, dropout seeds, and padding rows of the
# last batch. What remains is rounding.
# </details>
#
# ## Recap
#
# - With AdamW in mixed precision: 16 bytes, 4 + 12/N, 2 + 14/N, 16/N. Activations stay.
# - Same update, up to rounding. Elements moved with one micro-batch: 2, 2, 2, 3; a real engine may move more.
# - Divide the loss by the tokens of the whole step.
#
# In the package: [`zero_simulator.py`](../ftkit/distributed/zero_simulator.py) and
# [`launch.py`](../ftkit/distributed/launch.py). Next: [14 perplexity](14_perplexity.ipynb).

# %%
ft.progress("13")
