# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · Quantization and QLoRA
#
# **Claim: four bits are enough for frozen weights. The model is an eighth as large, fine-tuning learns
# as well, and the adapter merges back without loss.** Each part could be wrong. After this lesson you can
#
# - write the NF4 format and its inverse, bit for bit as bitsandbytes does;
# - count what a quantized weight really costs;
# - train on a quantized base, and merge into the model that was trained;
# - bring an adapter to Ollama, and tell why its answers change.
#
# *Needs [02](02_lora.ipynb) and [09](09_where_the_memory_goes.ipynb). About 45 minutes; the code runs
# in about one minute on two CPU cores.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"How can a model of 65 billion parameters be fine-tuned on one GPU of 48 GB, and what exactly do
# > you ship afterwards?"*
#
# "It trains in 4 bits" is the usual answer, and it is wrong: the weights are only *stored* in 4 bits.

# %% [markdown]
# ## The idea in one picture
#
# Four bits can name 16 values, the **levels**. A weight is replaced by the nearest level; this rounding
# is **quantization**. Levels lie between -1 and 1, so neighboring weights form a **block** that shares a
# **scale**, the largest absolute value in the block.
#
# ![Four weights of a block: each is divided by the scale, the largest absolute value of the block. An axis from minus 1 to 1 shows 16 levels, close together near 0. Each weight gets the 4-bit index of the nearest level, and is read back as level times scale, slightly different from the original.](figures/10_nf4_block.svg)

# %% [markdown]
# ## Sixteen levels
# <!-- claims: C45 · E25 -->
#
# Weights of a trained model are roughly normally distributed. **NF4**, "4-bit NormalFloat" ([Dettmers et al.
# 2023](https://arxiv.org/abs/2305.14314)), takes its levels from the **quantiles** of a normal distribution,
# which cut each half of it into equally probable parts: 7 below zero, 8 above, and an exact zero. The quantile of
# 1 is infinite, so the authors take 0.9677, and divide all levels by the largest.

# %%
from statistics import NormalDist

import torch

quantile = NormalDist().inv_cdf
above = [quantile(p) for p in torch.linspace(0.9677083, 0.5, 9)[:-1].tolist()]
below = [-quantile(p) for p in torch.linspace(0.9677083, 0.5, 8)[:-1].tolist()]
levels = torch.tensor([*below, 0.0, *above]).sort().values
levels = levels / levels.max()
levels

# %% [markdown]
# ## Your turn: quantize a block
#
# Write `quantize_block`. `values` is a block (1-D tensor), `levels` a sorted 1-D tensor. Return `(codes,
# scale)`: the index of the nearest level for each value (integers), and the scale (a number, or a
# tensor of one). A block may contain only zeros.


# %% tags=["raises-exception"]
def quantize_block(values, levels):
    ...


ft.check("quantize_block", quantize_block)

# %% [markdown]
# ## Your turn: dequantize it
#
# Write `dequantize_block`: from `codes`, `scale` and `levels` back to weights. `packed` holds two codes in
# each byte (`uint8`): the first code in the high four bits, the second in the low four bits. Return the
# 1-D tensor of weights, twice as long as `packed`.


# %% tags=["raises-exception"]
def dequantize_block(packed, scale, levels):
    ...


ft.check("dequantize_block", dequantize_block)

# %% [markdown]
# A matrix is cut into blocks of 64. Do both steps give what bitsandbytes gives?
# (`bucketize` counts the midpoints below a value. The warning about `kernels` is harmless.)

# %%
import bitsandbytes.functional as bnb

from ftkit.by_hand import nf4
from ftkit.teaching import line_plot

model, tokenizer = ft.load("tiny")
W = model.model.layers[0].mlp.up_proj.weight.detach()

rows = W.reshape(-1, 64)
scales = rows.abs().amax(1)
fractions = rows * (1 / scales)[:, None]  # as bitsandbytes: times 1 / scale
codes = torch.bucketize(fractions.flatten(), (levels[1:] + levels[:-1]) / 2)
packed = (codes[::2] << 4 | codes[1::2]).to(torch.uint8)
theirs, state = bnb.quantize_4bit(W, quant_type="nf4")
back = (levels[codes].view(-1, 64) * scales[:, None]).view(W.shape)
{"same codes": torch.equal(packed, theirs.flatten()),
 "same weights read back": torch.equal(back, bnb.dequantize_4bit(theirs, state))}

# %% [markdown]
# They do. Where are the weights and the levels?

# %%
nf4.draw(W, levels)

# %% [markdown]
# The spikes at ±1 are the largest weight of each block.
#
# The paper calls these levels "information-theoretically optimal". They are not: the best levels depend on the
# block size, because each block is scaled by its largest weight ([Yoshida
# 2023](https://arxiv.org/abs/2306.06965)).
#
# ## How large is the error?
#
# Measure the root mean square of the rounding error, as a percentage of that of the weights, for three sets of
# levels, with fp32 scales:
#
# - **NF4**;
# - **INT4**, evenly spaced (15 of its 16 levels, so that they are symmetric);
# - **E2M1**, the 4-bit float of today's hardware: a sign and 0, 0.5, 1, 1.5, 2, 3, 4 or 6.
#
# "Heavy tails" (Student's t, 4 degrees of freedom) means frequent outliers.

# %%
first_guess = ft.predict("Rounding normally distributed weights to NF4 makes an error of about ...",
                         "0.1 %", "1 %", "10 %")
first_guess

# %%
half = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6]) / 6
tables = {"NF4": nf4.nf4(), "INT4": nf4.int4(), "E2M1": torch.cat([-half.flip(0)[:-1], half])}
draws = {"normal": torch.distributions.Normal(0.0, 1.0),
         "heavy tails": torch.distributions.StudentT(4.0)}


# %%
error, curves = {}, {}
for kind, draw in draws.items():
    for name, table in tables.items():
        for block in (16, 32, 64):
            error[kind, name, block] = [100 * nf4.error(draw.sample((2**16,)), table, block)
                                        for repeat in range(3)]
        curves[f"{name}, {kind}"] = [(b, sum(error[kind, name, b]) / 3) for b in (16, 32, 64)]
line_plot(curves, "weights in a block", "error, % of the weights")

# %%
mean = sum(error["normal", "NF4", 64]) / 3
ft.expect(error["normal", "NF4", 64], "<", error["normal", "E2M1", 64], "normal: NF4 is nearer than E2M1")
ft.expect(error["heavy tails", "E2M1", 64], "<", error["heavy tails", "INT4", 64],
          "heavy tails: E2M1 is nearer than INT4")
first_guess.score("10 %" if mean > 3 else "1 %" if mean > 0.3 else "0.1 %")

# %% [markdown]
# About a tenth of the weights' size. In equal blocks NF4 is nearest. INT4 suffers most from outliers. Small blocks
# help all three, but need more scales.

# %% [markdown]
# ## How many bits?
#
# More than four, since scales are stored too: 32 bits for 64 weights. QLoRA's **double
# quantization** stores each scale in 8 bits, and one fp32 value for each group of 256 scales.
#
# ## Your turn: bits per weight
#
# Write `bits_per_weight` for blocks of `block` weights. With `double=False` each block has a scale of 32
# bits; with `double=True` one of 8 bits, and 256 scales share one of 32 bits.


# %% tags=["raises-exception"]
def bits_per_weight(block, double):
    ...


ft.check("bits_per_weight", bits_per_weight)

# %% [markdown]
# How large is Llama 2 7B then? Its linear layers, 6.476 billion weights, are quantized. The embedding, the head
# and the norms, 0.262 billion, stay in bf16.

# %%
once = nf4.quantize(torch.randn(1024, 1024))
twice = nf4.double(once)
linear, other = 6_476_005_376, 262_410_240
sizes = {f"NF4, {once.bits:.3f} bits": (linear * once.bits / 8 + other * 2) / 1e9,
         f"NF4, double quantization, {twice.bits:.3f} bits": (linear * twice.bits / 8 + other * 2) / 1e9,
         "bf16": (linear + other) * 2 / 1e9, "fp32": (linear + other) * 4 / 1e9}
smallest = min(sizes.values())
ft.table([{"Llama 2 7B": name, "GB": size, "relative": size / smallest} for name, size in sizes.items()])

# %% [markdown]
# The model is a seventh of fp32 and a bit more than a quarter of bf16, not an eighth. Double quantization saves
# 0.373 bits a weight: 3 GB for 65B. With a larger vocabulary more stays in bf16:
# Qwen3-8B takes 6.1 GB, 37 % of its size in bf16.
#
# At equal bits the order can change: NVFP4 (E2M1, blocks of 16, 8-bit scales) also costs 4.5. Above, with fp32
# scales, E2M1 in such blocks errs by 9.4 % against NF4's 9.2 in blocks of 64; with heavy tails, 9.0 against 11.2.
#
# ## What is computed in 4 bits?
#
# `ft.load(..., quantize=True)` lets transformers and bitsandbytes quantize the model. Does a quantized layer
# multiply by the dequantized weights?

# %%
four, _ = ft.load("tiny", quantize=True)
layer = next(iter(nf4.linears(four).values()))
layer.compute_dtype = torch.float32
x = torch.randn(5, layer.in_features)
gap = (layer(x) - x @ nf4.dequantized(layer).T).abs().max().item()
ft.expect(gap, "<", 1e-4, "the layer multiplies by the dequantized weights; largest difference")

# %% [markdown]
# Yes: nothing is computed in 4 bits. Each layer is dequantized for its multiplication, forward and backward, and
# the copy is dropped. Gradients pass through it to the adapters below; the codes get none.
#
# ## QLoRA against LoRA
# <!-- claims: C46 · E26 -->
#
# **QLoRA** trains LoRA adapters in 16 or 32 bits on the frozen, quantized base. Does it reach the same loss?
# Train five seeds for 40 steps, both methods at one learning rate, which was not searched.

# %%
second_guess = ft.predict("After training, QLoRA's validation loss compared with LoRA's is ...",
                          "lower", "no difference seen", "higher")
second_guess

# %%
lab = ft.Experiment(data=ft.records("tasks")[:640], val="tasks", eval_records=48, probes=())
config = ft.Config(learning_rate=3e-3, max_steps=40, eval_steps=40, precision="fp32")
runs = {name: lab.sweep(config.but(method=name.lower()), seed=range(5)) for name in ("LoRA", "QLoRA")}
ft.curves(runs, "loss")

# %%
from ftkit.teaching import direction

loss = {name: [run.after["val_loss"] for run in runs[name]] for name in runs}
verdict = ft.expect(loss["QLoRA"], "==", loss["LoRA"], "QLoRA ends within 0.1 nats of LoRA",
                    within=0.1, paired=True)
second_guess.score({"<": "lower", ">": "higher", "": "no difference seen"}[
    direction(loss["QLoRA"], loss["LoRA"], paired=True)])

# %% [markdown]
# The curves show the training loss. The validation losses differ by hundredths of a nat. The small p means
# here that they are equal within the margin of 0.1.

# %% [markdown]
# ## At 135M

# %%
from ftkit.teaching import at_135m

at_135m("qlora", verdict)

# %% [markdown]
# Before training, NF4's validation loss was 5.24, that of the unquantized base 4.88. QLoRA ended above LoRA with
# each seed, by 0.11 to 0.19 (p = 0.01). Only whether that exceeds the margin of 0.1 is not settled, as the box
# says. On plain English, where it was not trained, it ended 0.13 to 0.32 above LoRA. All runs used one learning
# rate. This SmolLM2 came in another 4-bit format (Q4_1), so rounding it again may cost less than usual.
#
# `fp4` ended 0.02 to 0.49 above NF4, which three seeds do not settle (p = 0.16); `int8` 0.07 to 0.13 below it
# (p = 0.01). `int8` also rounds activations on a GPU; on a CPU, in training, only weights.
#
# [QLoRA's authors](https://arxiv.org/abs/2305.14314) found that NF4 with double quantization matches 16-bit LoRA
# on MMLU, with LLaMA 7B to 65B. On Llama 3 8B, LoRA tuning on Alpaca [did not repair what the rounding
# cost](https://arxiv.org/abs/2404.14047).

# %% [markdown]
# ## Merge, but into which weights?
#
# Three ways to add the update:
#
# - to the **original** 16-bit weights;
# - to the **dequantized** weights, on which it was trained;
# - to these, and round to NF4 again (**requantized**), as `merge_and_unload` does on a 4-bit model.

# %%
third_guess = ft.predict("Which merged model is furthest from the trained one?",
                         "original", "dequantized", "requantized")
third_guess

# %% [markdown]
# Distance is measured by the **KL divergence** between the predictions of two models: 0 means equal. Merge three
# runs, and compare on 35 validation records.

# %%
validation = [ft.encode(record, tokenizer) for record in lab.val[::12]]
distance, loss_of = {way: [] for way in nf4.MERGES}, {way: [] for way in nf4.MERGES}
for run in runs["QLoRA"][:3]:
    for layer in nf4.linears(run.model).values():
        layer.compute_dtype = torch.float32  # so that only the merge makes a difference
    for way in nf4.MERGES:
        plain = nf4.merge(run.model, model, way)
        distance[way].append(nf4.kl(run.model, plain, validation))
        loss_of[way].append(ft.loss_on(plain, validation))
ft.table([{"merged into": way, "KL from the trained model, nats": distance[way],
           "validation loss": loss_of[way]} for way in nf4.MERGES])

# %%
ft.expect(max(distance["dequantized"]), "<", 1e-6, "into the dequantized weights: the same model")
ft.expect(distance["requantized"], ">", distance["original"], "rounding again changes more", paired=True)
totals = {name: sum(distance[name]) for name in ("original", "dequantized", "requantized")}
third_guess.score(max(totals, key=totals.get))

# %% [markdown]
# Only the merge into the **dequantized** weights gives the trained model (in fp32). The merge into the
# **original** is another model, here at the same mean loss. **Requantized**, the model is much worse: rounding
# erases what is below half the distance between two levels, and a LoRA update can be mostly that small.
#
# So the safe choice is to ship the dequantized merge in 16 bits, or adapter and 4-bit base: that is the model
# you evaluated. Some tools merge into the original. Unsloth does so if it loaded a 16-bit checkpoint in 4 bits: its author
# calls that model the better one for most bases, but [for Falcon-H1 it was
# broken](https://github.com/unslothai/unsloth-zoo/pull/810). Compare the logits of the merge with those of the
# trained model, and evaluate what you ship.
#
# ## Break it: one outlier in each block
#
# Make one weight in every block thirty times as large, and measure the error of the other 63.

# %%
torch.manual_seed(0)
normal = torch.randn(2**16)
outlier = normal.clone()
outlier[::64] *= 30
broken = {}
for name, weights in (("normal", normal), ("one outlier in each block", outlier)):
    others = weights.view(-1, 64)[:, 1:]
    rounded = nf4.dequantize(nf4.quantize(weights)).view(-1, 64)[:, 1:]
    broken[name] = ((rounded - others).norm() / others.norm()).item()
ft.expect(broken["one outlier in each block"], ">", broken["normal"], "its neighbors are ruined", times=3)

# %% [markdown]
# The outlier sets the scale, so its neighbors fall onto the few levels near zero. This is why blocks are small.
# Outliers of *activations* are worse, where activations are rounded too; LLM.int8() computes their columns in
# 16 bits.

# %% [markdown]
# ## 65 billion on 48 GB
# <!-- claims: C47 · E08 -->
#
# Trace one step: r = 64 on all linear layers, one sequence of 512 tokens, and checkpointing
# ([lesson 11](11_activations_and_checkpointing.ipynb)).

# %%
big = ft.memory(model="huggyllama/llama-65b", method="qlora", r=64, batch_size=1, max_length=512,
                gradient_checkpointing=True, precision="bf16", device="cuda")
ft.expect(big.peak / 2**30, "<", 48, "GiB: the traced step of 65B is below 48")
big

# %% [markdown]
# By this simulation it just fits: 47.9 GB of 51.5 (48 GiB), of which CUDA and the allocator leave about 48.6
# (dashed line). The frozen weights are 33.4 GB in NF4 and 1.05 GB in bf16. The 0.8 billion adapter weights are in
# fp32, as peft makes them, and cost 12.8 GB with gradients and AdamW's moments. In bf16, to which TRL 1.16 converts
# them, they cost half. Full fine-tuning would need 783 GB (12 bytes a weight, without fp32 master weights).
#
# QLoRA also has a **paged optimizer**: its states move to the host's memory while the GPU is full.

# %% [markdown]
# ## From adapter to Ollama
#
# `ftkit export my-adapter my-model-gguf` merges, and writes one **GGUF** file for llama.cpp with a Modelfile for
# Ollama. Many users get garbage after this step. The weights are rarely the cause: the file also holds the
# template, the tokenizer and the tokens that begin and end a text, and a program follows all of them. So compare
# answers token by token. Tune, export, and ask both models twenty questions:

# %%
import tempfile
from pathlib import Path

from ftkit.inside import export, gguf_file, parity

place = Path(tempfile.mkdtemp())
ft.Experiment(data="translation", probes=()).run(method="lora", max_steps=30, eval_steps=30, precision="fp32",
                                                 out=place / "adapter")
asked = [{"instruction": f"{record['instruction']} {record['input']}", "output": record["output"]}
         for record in ft.records("translation", "test")[:20]]
export(place / "adapter", place / "right-gguf", "f16")
print(parity.text_of(parity.compare(place / "adapter", place / "right-gguf", asked)))

# %% [markdown]
# Now make the four mistakes of the [threads](https://github.com/ggml-org/llama.cpp/issues/7062)
# [about](https://github.com/hiyouga/LlamaFactory/issues/6020)
# [garbage](https://github.com/ollama/ollama/issues/6823): another template than in training, a BOS that the
# program adds to a prompt, an end-of-text token that the model never writes, and weights rounded to 4 bits
# without care.

# %%
fourth_guess = ft.predict("Which mistake leaves most answers as they were, so that it is found last?",
                          "template", "BOS twice", "EOS", "rounding")
fourth_guess

# %%
import shutil

import gguf


def altered(name, **fields):
    """A copy of the right file with other values in fields of its tokenizer."""
    folder = shutil.copytree(place / "right-gguf", place / name)
    file = gguf.GGUFReader(folder / "model.gguf", "r+")
    for field, value in fields.items():
        file.fields[f"tokenizer.ggml.{field}"].parts[-1][0] = value
    file.data.flush()
    return folder


tuned, words = ft.load(str(place / "adapter"))
merged = tuned.merge_and_unload()
gguf_file.write(merged, words, place / "template", "f16", "alpaca")
altered("BOS twice", add_bos_token=True)
altered("EOS", eos_token_id=words.bos_token_id, eot_token_id=words.bos_token_id)
for weight in merged.parameters():
    blocks = weight.data.view(-1, 32)
    scale = blocks.abs().amax(1, keepdim=True).clamp(1e-6) / 7
    weight.data = ((blocks / scale).round() * scale).view(weight.shape)
gguf_file.write(merged, words, place / "rounding", "f16", None)

# %%
compared = {name: parity.compare(place / "adapter", place / name, asked)
            for name in ("template", "BOS twice", "EOS", "rounding")}
found = {name: {one["cause"] for one in result["differences"]} for name, result in compared.items()}
ft.expect(sum(causes == {name} for name, causes in found.items()), "==", 4, "every mistake is named rightly")
ft.table([{"mistake": name, "same answers of 20": result["same"], "first difference": next(
    (f"{one['ours'][-30:]!r} became {one['theirs'][-30:]!r}" for one in result["differences"]), "")}
    for name, result in compared.items()])

# %%
fourth_guess.score(max(compared, key=lambda name: compared[name]["same"]))

# %% [markdown]
# All four files load, and nothing warns. The first difference tells them apart:
#
# - already in the **prompt**: a template that is not the one of the training, or the same text with one more
#   token, BOS;
# - after an answer that is **right so far**: the program does not stop where the model does;
# - in the middle of an answer, where logits differ a little: **rounding**. Above a relative difference of one
#   half, weights are in wrong places.
#
# With your own adapter: `ftkit export my-adapter my-model-gguf --check` does this with 20 prompts, in llama.cpp
# where `llama_cpp` is installed. SmolLM2-135M gave the same 19 of 20 answers in f16; the other turned at a near tie.

# %% [markdown]
# ## In practice, 2026
#
# | format or method | what it is | used for |
# |---|---|---|
# | NF4 | no data needed, block 64, 4.5 or 4.127 bits | training adapters |
# | MXFP4 | E2M1, block 32, power-of-two scale: 4.25 bits | serving (gpt-oss) |
# | NVFP4 | E2M1, block 16, FP8 scale: 4.5 bits | NVIDIA's Blackwell GPUs |
# | FP8 (E4M3) | 8-bit float (4 exponent and 3 mantissa bits), scale per block or tensor | serving, pretraining |
# | [HQQ](https://github.com/mobiusml/hqq) | 1 to 8 bits, no data needed; its own package (`HqqConfig` fails in transformers 5.24) | adapters, serving |
# | GPTQ, AWQ | INT4, calibrated on sample text | serving; peft trains adapters on them |
# | GGUF (above) | llama.cpp's files, 1.5 to 8 bits (often Q4_K_M, mostly 4 bits) | local serving, CPU and GPU |
# | LoftQ | base + BA starts near the original | adapters on 2 to 4 bits |
# | [QA-LoRA](https://arxiv.org/abs/2309.14717) | INT4 with an offset for each block; the update is equal within a block, so it merges into the offset | INT4 after merging |

# %% [markdown]
# For one GPU, with the merge:
#
# ```python
# import torch
# from datasets import load_dataset
# from peft import LoraConfig, PeftModel
# from transformers import AutoModelForCausalLM, BitsAndBytesConfig
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-8B"
# # train.jsonl: {"messages": [{"role": "user", "content": "..."},
# #                            {"role": "assistant", "content": "..."}]}
# four_bits = BitsAndBytesConfig(
#     load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
#     bnb_4bit_compute_dtype=torch.bfloat16)
# config = SFTConfig(
#     output_dir="out", assistant_only_loss=True, bf16=True, max_length=2048,
#     learning_rate=2e-4, num_train_epochs=1, gradient_checkpointing=True,
#     per_device_train_batch_size=4, gradient_accumulation_steps=4, optim="paged_adamw_8bit",
#     model_init_kwargs={"dtype": torch.bfloat16, "quantization_config": four_bits})
# trainer = SFTTrainer(
#     model_id, args=config,
#     peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
#     train_dataset=load_dataset("json", data_files="train.jsonl", split="train"))
# trainer.train()
# trainer.save_model("adapter")
# trainer.processing_class.save_pretrained("merged")  # a server needs the tokenizer, too
# del trainer  # the merge needs the base in 16 bits; a second script is safer
#
# base = AutoModelForCausalLM.from_pretrained(
#     model_id, dtype=torch.bfloat16, quantization_config=four_bits).dequantize()
# merged = PeftModel.from_pretrained(base, "adapter").merge_and_unload()
# merged.save_pretrained("merged")
# ```

# %% [markdown]
# **Usual values.** QLoRA's paper: NF4, double quantization, adapters on all linear
# layers, r = 64, α = 16, learning rate 2e-4 (7B, 13B) and 1e-4 (33B, 65B). Use QLoRA when the bf16 base does
# not fit; otherwise LoRA is faster ([1.85 against 2.79
# hours](https://magazine.sebastianraschka.com/p/practical-tips-for-finetuning-llms) for Llama 2 7B on an A100).
#
# **Pitfalls.**
# - `BitsAndBytesConfig` defaults to `fp4` and fp32 computation; set both.
# - [FSDP](https://huggingface.co/docs/bitsandbytes/fsdp_qlora) shards float types only: set
#   `bnb_4bit_quant_storage=torch.bfloat16`.
# - With your own loop, call peft's `prepare_model_for_kbit_training`. It raises norms, embedding and
#   head to fp32 (5.0 GB for Qwen3-8B, more than its 3.6 GB in NF4), and makes inputs require gradients,
#   which re-entrant checkpointing needs ([11](11_activations_and_checkpointing.ipynb)).
# - TRL 1.16's bf16 adapter can lose small updates ([12](12_floating_point.ipynb)).
# - For 4-bit *serving*, merge in 16 bits first. Then quantize with GPTQ, AWQ or NVFP4
#   ([llm-compressor](https://github.com/vllm-project/llm-compressor)), and evaluate again.
# - Or train for the final format: **QAT** (quantization-aware training) rounds in the forward pass and lets
#   gradients pass unchanged ([torchao](https://github.com/pytorch/ao)).
# - Many mixture-of-experts models keep experts in fused tensors that are no `Linear` layers; check that they
#   were quantized.

# %% [markdown]
# ## Interview
#
# **Bytes per parameter for NF4 with double quantization?**
# <details><summary>Answer</summary>
# 4 + 8/64 + 32/(64 · 256) = 4.127 bits, or 0.516 bytes; without double quantization 4.5 bits. That holds for
# the quantized linear layers; embedding, head and norms stay in 16 bits.
# </details>
#
# **Does QLoRA train in 4-bit arithmetic?**
# <details><summary>Answer</summary>
# No. The frozen base is stored in 4 bits; each layer is dequantized to bf16 for its matmul, forward and
# backward. The adapters are trained in bf16 or fp32. It saves memory and costs time per step.
# </details>

# %% [markdown]
# **How do you merge a QLoRA adapter?**
# <details><summary>Answer</summary>
# Dequantize the base, add the update, store it in 16 bits: this is the trained model up to bf16 rounding.
# Merging into the original weights, as some tools do, gives another model, not always a worse one. Rounding
# the merge to NF4 again can erase much of the update. Compare logits, and evaluate the merged model.
# </details>
#
# **Why does 65B fit on 48 GB?**
# <details><summary>Answer</summary>
# 64.8 billion linear weights at 4.127 bits are 33.4 GB, embedding and head in 16 bits 1.05 GB. Adapters with
# r = 64 have 0.8 billion weights: 12.8 GB at 16 bytes each, with gradients and moments, or half of it in bf16.
# The sum is 47.3 GB of 51.5 (48 GiB): tight. With checkpointing, the activations of one short sequence still
# fit. Paged optimizers absorb spikes.
# </details>

# %% [markdown]
# **NF4, LLM.int8(), GPTQ, AWQ, NVFP4: what differs?**
# <details><summary>Answer</summary>
# NF4 rounds any base as it is loaded, without data: for training adapters. LLM.int8() uses 8 bits and keeps
# outlier columns in 16. GPTQ and AWQ use calibration text to decide how to round or scale: slower to make,
# mostly for serving. NVFP4 and MXFP4 are formats that recent GPUs multiply directly, so they also save compute
# if activations are quantized too.
# </details>
#
# ## Recap
#
# - "An eighth as large": a seventh of fp32 for Llama 2 7B, between a fifth and a sixth for Qwen3-8B.
# - "Learns as well": within 0.1 nats on the 2M model after 40 steps, 0.11 to 0.19 worse at 135M (one learning
#   rate). QLoRA's authors matched LoRA on MMLU at 7B to 65B. On Llama 3 8B, tuning on Alpaca did not repair
#   what the rounding cost.
# - "Merges back without loss": only into the dequantized weights.
#
# In the package: [`ftkit/lessons/by_hand/nf4.py`](../ftkit/lessons/by_hand/nf4.py). Next:
# [11](11_activations_and_checkpointing.ipynb).

# %%
ft.progress("10")
