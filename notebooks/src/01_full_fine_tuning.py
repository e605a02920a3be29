# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Full fine-tuning: training every parameter
#
# **Claim: if full fine-tuning fits in memory, use it. It learns the most, and a lower learning rate
# protects what the model already knows.** The claim could be wrong. After this lesson you can
#
# - write a training step and AdamW's update, and explain the order of their lines;
# - compute the memory of a full fine-tune from bytes per parameter;
# - choose a learning rate and an optimizer, and say what each choice costs.
#
# *Needs [00](00_start_here.ipynb). About 45 minutes; the code needs about 90 seconds on two CPU
# cores.*

# %%
import torch

import ftkit as ft
from ftkit.lessons.at_135m import at_135m
from ftkit.lessons.claims import direction

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C92 -->
#
# > *"Walk me through one step of full fine-tuning. What is in memory, and what happens to what the
# > model knew before?"*
#
# A common answer: "Forward, backward, step. Adam needs twice the memory of the model. With a low
# learning rate nothing is lost." Only the first sentence is right as it stands.
#
# ## The idea
# <!-- claims: C3 -->
#
# **Full fine-tuning** continues to train *all* parameters of a pretrained model on new data. One
# step uses a **batch**, a few records that are processed together:
#
# ![A cycle of five calls: forward gives the loss, backward adds gradients, clip limits their norm,
# step moves the weights, zero_grad clears the gradients, then the next batch follows. Below: weights,
# gradients and AdamW's two running means take 4 bytes each, 16 bytes per parameter. The activations
# grow with the batch.](figures/01_training_step.svg)
#
# - The **forward** pass computes the loss: how badly the model predicted the trained tokens.
# - The **backward** pass computes one **gradient** for each parameter: the slope of the loss.
# - **Clipping** scales all gradients down together if their norm exceeds a limit.
# - The **optimizer** moves each parameter against its gradient. The **learning rate** scales the move.

# %% [markdown]
# Let us prepare a few batches. Shorter records are filled up with padding tokens. The label -100 marks
# tokens that are excluded from the loss: the question and the padding.

# %%
from ftkit.data import encoding
from ftkit.engine import loop

lab = ft.Experiment(model="tiny", data="tasks", eval_records=64)
tokenizer = ft.load("tiny")[1]
examples = encoding.encode_all(lab.train, tokenizer).examples


# %%
def make_batches(seed, number, batch_size):
    """The first batches of an epoch in random order."""
    order = loop.shuffled(len(examples), batch_size=batch_size, seed=seed)
    batches = []
    for _ in range(number):
        records = [examples[i] for i in next(order)]
        batches.append(encoding.collate(records, tokenizer.pad_token_id))
    return batches


batches = make_batches(seed=0, number=8, batch_size=16)
{name: tuple(tensor.shape) for name, tensor in batches[0].items()}  # (records, tokens)

# %% [markdown]
# The loss is the next-token loss of pretraining, on other data and with a mask. The logits at position
# t are compared with the token at position t + 1. A model of `transformers` does this itself if the
# batch has `labels`: `model(**batch).loss`.
#
# ## Your turn: the training step
#
# Put the calls of the picture in order. Useful: `optimizer.zero_grad()`, `loss.backward()`,
# `torch.nn.utils.clip_grad_norm_(parameters, max_norm)`, `optimizer.step()`. Stuck? Run
# `ft.hint("training_step")` up to three times, or `ft.solution("training_step")`.


# %% tags=["raises-exception"]
def training_step(model, batch, optimizer, max_grad_norm=1.0):
    """Update the model once and return the loss of the batch, in nats per token, as a float.

    batch: a dict with input_ids, attention_mask and labels. The norm of all gradients together is
    limited to max_grad_norm. No gradient may be left over from the step before."""
    ...


ft.check("training_step", training_step)

# %% [markdown]
# `zero_grad` is needed because `backward` *adds* to the gradients that are there. This is useful for
# **gradient accumulation**: several small batches can contribute to one update. Here is the loop with
# such a step. Clipping is left out for a moment.


# %%
def fine_tune(model, batches, learning_rate):
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, optimizer


# %%
model = ft.load("tiny")[0]
losses, optimizer = fine_tune(model, batches, learning_rate=1e-3)

# %% [markdown]
# The package's `lab.run` does the same. By default it also clips, starts with a **warm-up** (a short
# rise of the learning rate) and then lets the learning rate fall. With these turned off, the two
# columns should agree up to rounding.

# %%
plain = ft.Config(learning_rate=1e-3, max_steps=8, eval_steps=8, precision="fp32", warmup_steps=0,
                  lr_scheduler_type="constant", max_grad_norm=0)
package = lab.run(plain, live=False)
ft.table([{"step": row["step"], "from scratch": own, "ft": row["loss"]}
          for own, row in zip(losses, package.rows, strict=True)])

# %% [markdown]
# ## Your turn: AdamW
# <!-- claims: C93 -->
#
# **AdamW** ([Loshchilov and Hutter 2017](https://arxiv.org/abs/1711.05101)) is the standard optimizer
# of fine-tuning. For each parameter w with gradient g it keeps two running means, m and v:
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)\, g \qquad v \leftarrow \beta_2 v + (1-\beta_2)\, g^2$$
#
# Both start at zero, so after t steps they are divided by $1-\beta_1^t$ and $1-\beta_2^t$. This is the
# **bias correction**; it gives $\hat m$ and $\hat v$. Then w moves:
#
# $$w \leftarrow w - lr \cdot \lambda \cdot w - lr \cdot \hat m / (\sqrt{\hat v} + \epsilon)$$

# %% [markdown]
# λ is the **weight decay**, a pull toward zero. It acts on w itself and not through the gradient: this
# is the W in AdamW.


# %% tags=["raises-exception"]
def adamw_step(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    """Return the new w, m and v after step t (t counts from 1); all arguments are floats.

    m and v are returned without the bias correction."""
    ...


ft.check("adamw_step", adamw_step)

# %% [markdown]
# What decides how far a weight moves? Look at the formula before you guess.

# %%
scaled = ft.predict("Multiply the loss by 100. Every gradient becomes 100 times larger. The first step "
                    "of AdamW is then ...",
                    "more than 10 times longer", "2 to 10 times longer", "less than 2 times longer")
scaled


# %%
base = ft.load("tiny")[0]


def first_step(batch, scale):
    """The mean distance that the weights move in the first step."""
    model = ft.load("tiny")[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    (scale * model(**batch).loss).backward()
    optimizer.step()
    moves = [(new - old).abs().flatten()
             for new, old in zip(model.parameters(), base.parameters(), strict=True)]
    return torch.cat(moves).mean().item()


# %%
factors = [first_step(batch, 100) / first_step(batch, 1) for batch in batches[:3]]
factors

# %%
factor = sum(factors) / len(factors)
ft.expect(factors, "<", 2, "100 times the gradient: how many times longer the step is")
scaled.score("more than 10 times longer" if factor > 10 else "2 to 10 times longer" if factor >= 2
             else "less than 2 times longer")

# %% [markdown]
# AdamW divides by the size of the gradient, so the *learning rate* sets the length of a step, about
# one learning rate per weight. Learning rate × steps roughly limits how far the weights can drift.
# Plain gradient descent (SGD) would have moved 100 times further.
#
# ## What is in memory?
# <!-- claims: C6 C53 C96 · E08 -->
#
# We count the bytes that torch keeps. The **activations** are intermediate results of the forward
# pass, which the backward pass needs again.

# %%
largest = ft.predict("In a step of the small model with 16 short records, most memory is used by ...",
                     "weights", "gradients", "optimizer state", "activations")
largest

# %%
from ftkit.lessons.activations import saved_bytes

model(**batches[0]).loss.backward()
weights = list(model.parameters())
parameters = sum(weight.numel() for weight in weights)

# %%
memory = {
    "weights": sum(w.nbytes for w in weights),
    "gradients": sum(w.grad.nbytes for w in weights),
    "optimizer state": sum(optimizer.state[w]["exp_avg"].nbytes
                           + optimizer.state[w]["exp_avg_sq"].nbytes for w in weights),
    "activations": saved_bytes(model, lambda: model(**batches[0]).loss)["saved"],
}
ft.table([{"part": part, "bytes per parameter": size / parameters}
          for part, size in memory.items()])

# %%
most = max(memory, key=memory.get)
options = ["weights", "gradients", "optimizer state", "activations"]
largest.score(options[options.index(most)])

# %% [markdown]
# The first three parts take **16 bytes per parameter** in fp32: 4 + 4 + 8. They do not depend on the
# data. Activations grow with the number of tokens in a batch; here they include the logits, one value
# for each token of the vocabulary at each position. In a large model with a small batch, the 16 bytes
# dominate.
#
# **Mixed precision** computes in 16 bits and updates in 32. It does not reduce these 16 bytes:
#
# | layout | weights | gradients | master copy | m and v | sum |
# |---|---|---|---|---|---|
# | fp32, or autocast over fp32 weights (`bf16=True`) | 4 | 4 | 0 | 8 | 16 |
# | bf16 weights with an fp32 master copy ([ZeRO paper](https://arxiv.org/abs/1910.02054)) | 2 | 2 | 4 | 8 | 16 |
# | the same with fp32 gradients | 2 | 4 | 4 | 8 | 18 |
# | fp32 weights, 8-bit AdamW | 4 | 4 | 0 | 2 | 10 |
# | pure bf16, m and v too | 2 | 2 | 0 | 4 | 8 |

# %% [markdown]
# The **master copy** is an fp32 copy of the weights that receives the updates. Without it, pure bf16
# rounds small updates away ([lesson 12](12_floating_point.ipynb)). "Adam needs twice the model" means
# two extra *values* per parameter: 8 bytes in fp32, four times the bf16 weights.
#
# ## Your turn: count bytes
#
# Compute the second row, also for the case that only a fraction of the parameters is trained. A
# frozen parameter needs its bf16 weight and nothing else.


# %% tags=["raises-exception"]
def bytes_of_states(parameters, trained_fraction=1.0):
    """Return the bytes of bf16 weights and gradients, fp32 master copy, and fp32 m and v."""
    ...


ft.check("bytes_of_states", bytes_of_states)

# %%
sizes = {"tiny": parameters, "SmolLM2-135M": 134.5e6, "Llama 2 7B": 6.738e9, "70B": 70e9}
ft.table([{"model": name, "bf16 weights, GB": 2 * n / 1e9, "8 bytes, GB": 8 * n / 1e9,
           "16 bytes, GB": 16 * n / 1e9} for name, n in sizes.items()])

# %% [markdown]
# <!-- claims: C9 C10 -->
# A 7B model needs 107.8 GB before activations. It does not fit on an 80 GB GPU. It can fit on
# a GPU with 141 GB, or with sharding ([lesson 13](13_zero_and_fsdp.ipynb)), 8-bit states or LoRA. Each
# task also needs a full copy on disk: 13.5 GB in bf16.

# %% [markdown]
# One figure is often misquoted. The [LoRA paper](https://arxiv.org/abs/2106.09685) reports 1.2 TB of
# training memory for GPT-3 175B, without a breakdown. Weights, gradients and optimizer state at 16
# bytes per parameter would be 2.8 TB.
#
# ## Which learning rate?
# <!-- claims: C7 C33 C40 C41 -->
#
# Now we test the claim. Two measures are needed. `val_loss` is the loss on new records of the trained
# tasks. `general_loss` is the loss on general text that the model knew before; it rises when the model
# forgets.

# %%
cost = ft.predict("At learning rate 0.003 instead of 0.0003 (same 40 steps), general_loss ends ...",
                  "lower", "higher", "no difference seen in 5 seeds")
cost

# %%
SEEDS = [0, 1, 2, 3, 4]
short = ft.Config(batch_size=16, max_steps=40, eval_steps=1000)
runs = lab.sweep(short, learning_rate=[3e-4, 1e-3, 3e-3], seed=SEEDS)
ft.table(runs)


# %%
def after(learning_rate, measure):
    return [run.after[measure] for run in runs if run.config.learning_rate == learning_rate]


# %%
verdict = ft.expect(after(3e-4, "general_loss"), "<", after(3e-3, "general_loss"),
                    "general_loss: learning rate 0.0003 against 0.003", paired=True)
for other in (3e-4, 3e-3):
    ft.expect(after(1e-3, "val_loss"), "<", after(other, "val_loss"),
              f"val_loss: learning rate 0.001 against {other:g}", paired=True)
ft.expect(after(3e-4, "general_loss"), ">", runs[0].before["general_loss"],
          "general_loss: even learning rate 0.0003 against the base model")
change = direction(after(3e-3, "general_loss"), after(3e-4, "general_loss"), paired=True)
cost.score({"<": "lower", ">": "higher", "": "no difference seen in 5 seeds"}[change])

# %%
ft.scatter(runs, label=lambda run: f"learning rate {run.config.learning_rate:g}")

# %% [markdown]
# In the picture, further left is better learned, and lower is less forgotten. Compare the lowest and
# the highest learning rate. A learning rate above the best one can reach about the same `val_loss`
# as one below it, and forget far more. And the lowest one is no free protection: it learned less in
# the same steps, and `general_loss` still rose. Which remedies give a better trade-off is the subject
# of [lesson 16](16_catastrophic_forgetting.ipynb).

# %% [markdown]
# So why is the learning rate of fine-tuning usually lower than in pretraining? Three reasons together:
# the weights are already good, the run is short, and old abilities should be kept. If the first or the
# third does not apply, the rule does not either. [Code Llama](https://arxiv.org/abs/2308.12950) was
# trained on 500B tokens of code and kept the pretraining learning rate of Llama 2.
#
# ## Break it
#
# What happens if somebody forgets `zero_grad`? The gradients of all earlier steps stay in the sum. We
# train 16 steps three times: correctly, without `zero_grad`, and without it but with clipping.

# %%
hidden = ft.predict("Without zero_grad but with clipping to norm 1, the last losses are, compared with "
                    "the correct loop ...", "lower", "higher", "no difference seen in 3 seeds")
hidden


# %%
def last_losses(seed, zero_grad, max_grad_norm):
    """The mean loss of the last 4 of 16 steps."""
    model = ft.load("tiny")[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    losses = []
    for batch in make_batches(seed, number=16, batch_size=8):
        if zero_grad:
            optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-4:]) / 4


# %%
correct = [last_losses(seed, True, 1.0) for seed in range(3)]
forgotten = [last_losses(seed, False, float("inf")) for seed in range(3)]
clipped = [last_losses(seed, False, 1.0) for seed in range(3)]
ft.table([{"loop": "correct", "loss": correct}, {"loop": "no zero_grad", "loss": forgotten},
          {"loop": "no zero_grad, clipped", "loss": clipped}])

# %%
ft.expect(forgotten, ">", correct, "without zero_grad the loss is higher", paired=True)
ft.expect(clipped, "==", correct, "with clipping: loss without zero_grad and of the correct loop",
          paired=True)
hidden.score({"<": "lower", ">": "higher",
              "": "no difference seen in 3 seeds"}[direction(clipped, correct, paired=True)])

# %% [markdown]
# Nothing crashed. Without clipping the bug shows in the loss. With clipping it can stay hidden:
# clipping scales the old sum down to norm 1 in each step, so a new gradient of larger norm dominates
# it. The old gradients then act like a momentum. A falling loss does not prove a correct loop. Compare
# a new loop with a trusted one, step by step, as above.
#
# ## At 135M
# <!-- claims: C4 C5 -->
#
# The recorded runs train SmolLM2-135M fully, at several learning rates. The box compares the same
# claim: a lower learning rate keeps more of what the model knew. There, forgetting is measured as the
# loss on plain English.

# %%
at_135m("full_finetune", verdict)

# %% [markdown]
# Read the validation loss too. If the lowest learning rate of a grid is best in both columns, there was
# no trade-off within this grid: its higher values were simply too high.
#
# And the first half of the claim, "it learns the most"? It depends on how much there is to learn. In
# continued pretraining of Llama 2 7B on code and math, full fine-tuning was clearly ahead of LoRA
# ([Biderman et al. 2024](https://arxiv.org/abs/2405.09673)). On data sets of usual post-training size,
# LoRA on all layers with its own learning rate reached the same loss
# ([Thinking Machines 2025](https://thinkingmachines.ai/blog/lora/)). Forgetting grew with model size
# from 1B to 7B in a study of continual instruction tuning
# ([Luo et al. 2023](https://arxiv.org/abs/2308.08747)). [Lesson 02](02_lora.ipynb) makes the
# comparison.
#
# ## What if?
#
# SGD keeps no state: 8 bytes per parameter. With AdamW's learning rate it hardly learns. Find one with
# which it does, then try `optim="adafactor"` at 0.001.

# %%
lab.run(short, optim="sgd", learning_rate=1e-3)

# %% [markdown]
# ## In practice, 2026
#
# | setting | usual value for supervised fine-tuning |
# |---|---|
# | learning rate | 1e-5 to 2e-5 for 7B to 70B, up to 5e-5 for about 1B; 10 times that for LoRA |
# | schedule | warm-up over 3 to 10 % of the steps, then linear or cosine |
# | epochs | 1 to 3 |
# | tokens per update | 16k to 500k, by gradient accumulation if necessary |
# | `max_grad_norm` | 1.0 |
# | weight decay | 0 to 0.1; in a short run with a low learning rate it hardly acts |
#
# ```python
# # {"prompt": "...", "completion": "..."}
# from datasets import load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-1.7B"
# trainer = SFTTrainer(
#     model=model_id,  # given by name, TRL loads it in fp32; bf16=True then is autocast
#     train_dataset=load_dataset("json", data_files="train.jsonl", split="train"),
#     args=SFTConfig(
#         output_dir="full", learning_rate=1e-5, lr_scheduler_type="cosine", warmup_steps=0.03,
#         per_device_train_batch_size=4, gradient_accumulation_steps=8, num_train_epochs=2,
#         max_length=2048, bf16=True, gradient_checkpointing=True,
#         optim="adamw_torch_fused", max_grad_norm=1.0, save_strategy="epoch",
#     ),
# )
# trainer.train()
# ```

# %% [markdown]
# Optimizers by name:
#
# - **AdamW** is the default; the `fused` version only runs faster.
# - **8-bit AdamW** ([Dettmers et al. 2021](https://arxiv.org/abs/2110.02861), `adamw_bnb_8bit`) stores
#   m and v in blocks of 8-bit values: 2 bytes instead of 8, usually with the same loss. The *paged*
#   version moves them to CPU memory at peaks.
# - **Adafactor** stores row and column means instead of v. **GaLore** and **APOLLO** keep states of a
#   low-rank projection of the gradients.

# %% [markdown]
# - **Lion** ([Chen et al. 2023](https://arxiv.org/abs/2302.06675)) uses the sign of a momentum: one
#   state, a learning rate 3 to 10 times smaller than AdamW's.
# - **Muon** (`torch.optim.Muon`) orthogonalizes the momentum of a matrix: one state, and AdamW for
#   embeddings and norms. It is successful in pretraining. For models pretrained with Adam, full
#   fine-tuning with Muon can be worse; with LoRA the gap closed
#   ([Qu et al. 2026](https://arxiv.org/abs/2605.10468)).

# %% [markdown]
# Pitfalls:
#
# - `from_pretrained` of transformers 5 uses the checkpoint's dtype, mostly bf16. If you pass such a
#   model, you train in pure bf16. Pass `dtype="float32"`, or use stochastic rounding or Kahan
#   summation ([lesson 12](12_floating_point.ipynb)).
# - To continue a run, save optimizer, scheduler and random states too: `save_strategy`, then
#   `trainer.train(resume_from_checkpoint=True)`. Weights alone restart m and v at zero.
# - With accumulation, the loss must be divided by the trained tokens of *all* small batches;
#   [the mean of means was a bug until October 2024](https://huggingface.co/blog/gradient_accumulation).
# - Freezing embeddings saves their states. Do not freeze them if you add tokens.
#
# ## Interview
# <!-- claims: C93 C96 -->
#
# **How much memory does full fine-tuning of a 7B model need with AdamW in mixed precision?**
# <details><summary>Answer</summary>
# 16 bytes per parameter: bf16 weights 2, bf16 gradients 2, fp32 master copy 4, m and v 8. For 6.74
# billion parameters that is 108 GB before activations; 18 bytes with fp32 gradients. It does not fit on
# one 80 GB GPU. Options: a GPU with 141 GB or more, sharding over GPUs (FSDP, ZeRO), offloading, 8-bit
# states (10 bytes with fp32 weights), or LoRA. Activations come on top: gradient checkpointing.
# </details>

# %% [markdown]
# **Why does fine-tuning usually use a lower learning rate than pretraining?**
# <details><summary>Answer</summary>
# The weights are already good, the run is short, and old abilities should survive. AdamW moves each
# weight by about one learning rate per step, whatever the size of the gradient, so learning rate ×
# steps limits the distance from the pretrained weights. "Because the gradients are smaller" is
# therefore no reason. The rule has exceptions: LoRA needs about 10 times more, and long continued
# pretraining can return to the pretraining value.
# </details>

# %% [markdown]
# **What is the difference between Adam with L2 regularization and AdamW?**
# <details><summary>Answer</summary>
# L2 adds λw to the gradient, so it passes through m and v and is divided by √v. Parameters with large
# gradients are then hardly decayed. AdamW subtracts lr · λ · w directly: the same relative decay for all.
# </details>
#
# **Full fine-tuning or PEFT?**
# <details><summary>Answer</summary>
# Full fine-tuning has the most capacity. I use it for large token budgets such as continued
# pretraining, if the memory is there (about 16 bytes per parameter, and one full copy per task). For
# usual post-training data I start with LoRA on all linear layers at its own learning rate and compare.
# I measure forgetting in both cases: neither method prevents it.
# </details>
#
# ## Recap
#
# - A step is zero_grad, forward, backward, clip, step. A wrong order often runs without an error.
# - AdamW's step length is set by the learning rate, not by the gradient.
# - 16 bytes per parameter, plus activations, plus one full copy per task.
# - A learning rate above the best one costs old abilities; a low one learns less. Measure both.
#
# The package's loop is [`ftkit/engine/loop.py`](../ftkit/engine/loop.py). Next: [02 LoRA](02_lora.ipynb)
# trains a few percent of the parameters.

# %%
ft.progress("01")
