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
# - choose a learning rate, and say what the choice costs.
#
# *Needs [00](00_start_here.ipynb). About 45 minutes; the code needs about one minute on two CPU
# cores.*
#
# **Your project.** The quiz helper of lesson 00 answers, but its stories got worse. The school wants both:
# right answers, and the stories it told before. So you open the training loop. How hard may you train?

# %%
import torch

import ftkit as ft
from ftkit.teaching import at_135m, direction, working

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C92 -->
#
# > *"Walk me through one step of full fine-tuning. What is in memory, and what happens to what the
# > model knew before?"*
#
# A common answer: "Forward, backward, step. Adam needs twice the memory of the model. With a low
# learning rate nothing is lost." The first sentence skips two calls, the second counts only a part,
# and the third is wrong.
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
# - **Clipping** scales all gradients down together if their **norm** exceeds a limit. The norm is the
#   length of all gradients taken as one vector.
# - The **optimizer** moves each parameter against its gradient. The **learning rate** scales the move.
#
# In a batch, shorter records are filled up with padding tokens. The label -100 marks what is excluded from the
# loss: the question and the padding.

# %%
from ftkit.inside import collate, encode_all, shuffled

lab = ft.Experiment(model="tiny", data="tasks", eval_records=64)
base, tokenizer = ft.load("tiny")
examples = encode_all(lab.train, tokenizer).examples


# %%
def make_batches(seed, number, batch_size):
    """The first batches of an epoch in random order."""
    order = shuffled(len(examples), batch_size=batch_size, seed=seed)
    return [collate([examples[i] for i in next(order)], tokenizer.pad_token_id)
            for _ in range(number)]


batches = make_batches(seed=0, number=8, batch_size=16)
{name: tuple(tensor.shape) for name, tensor in batches[0].items()}  # (records, tokens)

# %% [markdown]
# ## Your turn: the training step
#
# Put the calls of the picture in order. Useful: `model(**batch).loss`, `optimizer.zero_grad()`,
# `loss.backward()`, `torch.nn.utils.clip_grad_norm_(parameters, max_norm)`, `optimizer.step()`. Stuck? Run
# `ft.hint("training_step")`, then `ft.solution("training_step")`.


# %% tags=["raises-exception"]
def training_step(model, batch, optimizer, max_grad_norm=1.0):
    """Update the model once and return the loss of the batch, in nats per token, as a float.

    batch: a dict with input_ids, attention_mask and labels. The norm of all gradients together is
    limited to max_grad_norm. No gradient may be left over from the step before."""
    ...


ft.check("training_step", training_step)

# %% [markdown]
# `zero_grad` is needed because `backward` *adds* to the gradients that are there. This is useful for
# **gradient accumulation**: several small batches can contribute to one update.
#
# The package's `lab.run` does the same. By default it starts with a **warm-up** (a short rise of the
# learning rate) and then lets the learning rate fall. With these turned off, the two columns should
# agree up to rounding. (`working` takes the package's solution until yours is right.)

# %%
training_step = working("training_step", training_step)
model = ft.load("tiny")[0]
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
losses = [training_step(model, batch, optimizer) for batch in batches]
package = lab.run(learning_rate=1e-3, max_steps=8, eval_steps=8, precision="fp32", warmup_steps=0,
                  lr_scheduler_type="constant", max_grad_norm=1.0, live=False)
ft.table([{"step": row["step"], "training_step": own, "ft": row["loss"]}
          for own, row in zip(losses, package.rows, strict=True)])

# %% [markdown]
# ## Your turn: AdamW
# <!-- claims: C93 -->
#
# **AdamW** ([Loshchilov and Hutter 2017](https://arxiv.org/abs/1711.05101)) is the standard optimizer
# of fine-tuning. For each parameter w with gradient g it keeps two running means, m and v. They are its
# **optimizer state**:
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)\, g \qquad v \leftarrow \beta_2 v + (1-\beta_2)\, g^2$$
#
# Both start at zero, so after t steps they are divided by $1-\beta_1^t$ and $1-\beta_2^t$. This is the
# **bias correction**; it gives $\hat m$ and $\hat v$. Then w moves:
#
# $$w \leftarrow w - lr \cdot \lambda \cdot w - lr \cdot \hat m / (\sqrt{\hat v} + \epsilon)$$
#
# β₁ and β₂, usually 0.9 and 0.999, set how long m and v remember. ε avoids a division by zero. λ is the
# **weight decay**, a pull toward zero. It acts on w itself and not through the gradient: this is the W in AdamW.


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
adamw_step = working("adamw_step", adamw_step)


def step_lengths(gradients, lr=1e-3):
    """How far each step moves a weight, in learning rates; by your function."""
    w, m, v, lengths = 0.0, 0.0, 0.0, []
    for t, g in enumerate(gradients, 1):
        new, m, v = adamw_step(w, g, m, v, t, lr)
        lengths.append(abs(new - w) / lr)
        w = new
    return lengths


usual, times_100 = step_lengths([0.02] * 3), step_lengths([2.0] * 3)
jump = step_lengths([1.0] * 1000 + [100.0] * 30)
ft.table([{"gradients": "0.02, 0.02, 0.02", "longest step": max(usual)},
          {"gradients": "2, 2, 2", "longest step": max(times_100)},
          {"gradients": "1,000 times 1, then 100", "longest step": max(jump[:1001])},
          {"gradients": "1,000 times 1, then 30 times 100", "longest step": max(jump)}])

# %%
factor = times_100[0] / usual[0]
ft.expect(factor, "<", 2, "100 times the gradient: how many times longer the first step is")
scaled.score("more than 10 times longer" if factor > 10 else "2 to 10 times longer" if factor >= 2
             else "less than 2 times longer")

# %% [markdown]
# AdamW divides by the size of the gradient, so a constant factor cancels: a weight moves by one learning rate.
# Where gradients of different batches partly cancel in m, steps are shorter. So learning rate × steps roughly
# limits how far the weights can drift. A sudden *jump* of the gradient does not cancel at once, because v
# follows slowly. Clipping limits such a jump.
#
# ## What is in memory?
# <!-- claims: C6 C53 C96 · E08 -->
#
# Which parameters are these? A language model today is nearly always a **transformer**, a stack of equal blocks:
#
# ![A transformer. The embedding turns each token into a vector. A block adds the output of attention, which has
# the matrices q, k, v and o, and then that of the MLP, with the matrices gate, up and down. After all blocks
# lm_head turns the vector into scores for the next token.](figures/01_transformer_block.svg)
#
# **Attention** lets a token read from earlier ones. Its *query* (q) is compared with the *keys* (k) of all
# tokens up to itself; the match decides how much of each *value* (v) it takes, and o maps the sum back. The
# **MLP** is a small network that works on each token alone. The results that these layers compute on the way
# are the **activations**; the backward pass needs most of them again.

# %%
from ftkit.by_hand import saved_bytes

model(**batches[0]).loss.backward()
weights = list(model.parameters())
parameters = sum(w.numel() for w in weights)
state = [optimizer.state[w][name] for w in weights for name in ("exp_avg", "exp_avg_sq")]  # m, v
memory = {"weights": sum(w.nbytes for w in weights),
          "gradients": sum(w.grad.nbytes for w in weights),
          "optimizer state": sum(mean.nbytes for mean in state),
          "activations": saved_bytes(model, lambda: model(**batches[0]).loss)["saved"]}
ft.table([{"part": part, "bytes per parameter": size / parameters}
          for part, size in memory.items()])

# %% [markdown]
# The first three parts take **16 bytes per parameter** in fp32: 4 + 4 + 8. They do not depend on the data.
# Activations grow with the number of tokens in a batch. In a large model with a small batch, the 16 bytes
# dominate.
#
# Do 16-bit numbers need less? fp32 takes 4 bytes per value, **bf16** takes 2. **Mixed precision** computes
# in 16 bits and updates in fp32. One way is **autocast**, which makes a bf16 copy of a weight for its matrix
# multiplication. The other stores bf16 weights and an fp32 **master copy** that receives the updates.
#
# | layout | weights | gradients | master copy | m and v | sum |
# |---|---|---|---|---|---|
# | fp32 | 4 | 4 | 0 | 8 | 16 |
# | autocast over fp32 weights (`bf16=True`) | 4, and up to 2 for copies | 4 | 0 | 8 | 16 to 18 |
# | 16-bit weights with an fp32 master copy ([ZeRO paper](https://arxiv.org/abs/1910.02054)) | 2 | 2 | 4 | 8 | 16 |
# | fp32 weights, 8-bit AdamW | 4 | 4 | 0 | 2 | 10 |
# | pure bf16, m and v too | 2 | 2 | 0 | 4 | 8 |
#
# Pure bf16 rounds small updates away ([lesson 12](12_floating_point.ipynb)). "Adam needs twice the model"
# counts m and v alone, in the precision of the weights. In fp32 they are four times the bf16 weights. How many
# GB does Llama 2 7B (6.738 billion parameters) need at 16 bytes each? Compute before you run the cell.

# %%
sizes = {"tiny": parameters, "SmolLM2-135M": 134.5e6, "Llama 2 7B": 6.738e9, "70B": 70e9}
ft.table([{"model": name, "bf16 weights, GB": 2 * n / 1e9, "pure bf16 (8 bytes), GB": 8 * n / 1e9,
           "fp32 or mixed (16 bytes), GB": 16 * n / 1e9} for name, n in sizes.items()])

# %% [markdown]
# <!-- claims: C9 C10 -->
# At 16 bytes, a 7B model needs 107.8 GB before activations, more than an 80 GB GPU has. It needs a GPU with
# 141 GB, several GPUs ([lesson 13](13_zero_and_fsdp.ipynb)), 8-bit states, or LoRA
# ([lesson 02](02_lora.ipynb)). Each task also needs a full copy on disk: 13.5 GB in bf16.
#
# ## Which learning rate?
# <!-- claims: C7 C33 C40 C41 -->
#
# Back to the helper. `val_loss` is the loss on new records of the trained tasks. `general_loss` is the loss on
# general text that the model knew before; it rises when the model forgets. (The small model was pretrained with
# another optimizer, Muon, so the size of its forgetting under AdamW is its own; [lesson 00](00_start_here.ipynb)
# says what else is special about it.)

# %%
lowest = ft.predict("Which learning rate ends with the lowest val_loss after 40 steps?",
                    "0.0003", "0.001", "0.003")
lowest

# %%
SEEDS, RATES = [0, 1, 2], [3e-4, 1e-3, 3e-3]
short = ft.Config(batch_size=16, max_steps=40, eval_steps=1000, precision="fp32")
runs = lab.sweep(short, learning_rate=RATES, seed=SEEDS)
ft.scatter(runs, label=lambda run: f"learning rate {run.config.learning_rate:g}", start=False)

# %% [markdown]
# Further left is better learned, lower is less forgotten. The *frontier* joins the learning rates that no other
# beats in both. Each learning rate saw the same records with the same seed, so the tests are *paired*: they
# look at the differences seed by seed.

# %%
def after(learning_rate, measure):
    return [run.after[measure] for run in runs if run.config.learning_rate == learning_rate]


verdict = ft.expect(after(3e-4, "general_loss"), "<", after(3e-3, "general_loss"),
                    "general_loss: learning rate 0.0003 against 0.003", paired=True)
for other in (3e-4, 3e-3):
    ft.expect(after(1e-3, "val_loss"), "<", after(other, "val_loss"),
              f"val_loss: learning rate 0.001 against {other:g}", paired=True)
ft.expect(after(3e-4, "general_loss"), ">", runs[0].before["general_loss"],
          "general_loss: even learning rate 0.0003 against the base model")
best = min(RATES, key=lambda rate: sum(after(rate, "val_loss")))
lowest.score({3e-4: "0.0003", 1e-3: "0.001", 3e-3: "0.003"}[best])

# %% [markdown]
# The highest learning rate forgot most, the lowest least. Both learned less than 0.001 did in the same steps.
# Even at 0.0003 `general_loss` rose, so "nothing is lost" is wrong. Which would you give the school? That
# depends on what it asks for; a *few more steps* at 0.0003 are a third choice ([lesson 07](07_learning_rate.ipynb)).
#
# In domain fine-tuning of LLMs, too, a smaller learning rate can save much general ability at comparable learning
# ([Lin et al. 2025](https://arxiv.org/abs/2509.20758)). Other remedies are mixing in general data and training
# on the model's own answers ([lesson 16](16_catastrophic_forgetting.ipynb)).
#
# Why is the learning rate of fine-tuning usually lower than in pretraining? The weights are already good, and
# old abilities should be kept.
#
# ## At 135M
# <!-- claims: C4 C5 -->
#
# Does a lower learning rate also keep more in a real LLM? The recorded runs train SmolLM2-135M fully.
# Forgetting is measured as the loss on plain English.

# %%
at_135m("full_finetune", verdict)

# %% [markdown]
# The untouched model's validation loss is 4.88, so all three learned. Here 0.0001 is best in all columns: no
# trade-off within this grid; [lesson 07](07_learning_rate.ipynb) goes lower. "Facts completed right" is the
# fraction of short sentences on facts that the model completes right.
#
# And the first half of the claim, "use it, it learns the most"? It is too wide. In continued pretraining
# (the next-token loss on plain text) of Llama 2 7B on code and math, full fine-tuning learned clearly more
# than LoRA ([Biderman et al. 2024](https://arxiv.org/abs/2405.09673)). On data sets of usual post-training size,
# LoRA on all layers with its own learning rate reached the same loss
# ([Thinking Machines 2025](https://thinkingmachines.ai/blog/lora/)). [Lesson 02](02_lora.ipynb) compares them.
#
# **In practice, 2026:** the [reference page](reference/01_full_fine_tuning.md) has usual values, a script for
# TRL, optimizers by name, pitfalls, and interview questions with answers.
#
# ## Break it
#
# A colleague at the school writes the loop from memory and forgets `zero_grad`. The gradients of all earlier
# steps stay in the sum. Would you notice? We train 16 steps with and without it, each without and with clipping.

# %%
hidden = ft.predict("With clipping to norm 1, the last losses without zero_grad are, compared with the "
                    "correct loop ...", "lower", "higher", "no difference seen in 3 seeds")
hidden


# %%
from ftkit.teaching import line_plot


def train(seed, forget, max_grad_norm):
    """The loss of each of 16 steps of your training_step."""
    model = ft.load("tiny")[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    if forget:
        optimizer.zero_grad = lambda *args, **options: None
    return [training_step(model, batch, optimizer, max_grad_norm)
            for batch in make_batches(seed, number=16, batch_size=8)]


loops = {"correct, clipped": (False, 1.0), "no zero_grad": (True, float("inf")),
         "no zero_grad, clipped": (True, 1.0), "correct": (False, float("inf"))}
losses = {name: [train(seed, *settings) for seed in SEEDS] for name, settings in loops.items()}
line_plot({name: list(enumerate(torch.tensor(runs).mean(dim=0).tolist(), 1))
           for name, runs in losses.items()}, x="step", y="loss, mean of 3 seeds", log_x=False)

# %%
last = {name: [sum(run[-4:]) / 4 for run in runs] for name, runs in losses.items()}
clipped, correct = last["no zero_grad, clipped"], last["correct, clipped"]
ft.expect(last["no zero_grad"], ">", last["correct"], "not clipped: the loss without zero_grad is higher",
          paired=True)
ft.expect(clipped, "==", correct, "with clipping: loss without zero_grad and of the correct loop",
          paired=True)
hidden.score({"<": "lower", ">": "higher",
              "": "no difference seen in 3 seeds"}[direction(clipped, correct, paired=True)])

# %% [markdown]
# Without clipping the bug shows in the loss. With clipping it is hard to see: the old sum is scaled down to norm
# 1 in each step, and each new gradient, larger than that, dominates it. A falling loss does not prove a correct
# loop. Compare a new loop with a trusted one, step by step, as you did above.
#
# ## Recap
#
# - A step is zero_grad (here or at the end), forward, backward, clip, step.
# - AdamW's steps are at most about one learning rate per weight, as long as gradients do not jump.
# - 16 bytes per parameter, plus activations, plus one full copy per task.
# - The claim: too wide in its first half, since at usual sizes of data LoRA can reach the same loss. At equal
#   steps a lower learning rate forgot less, but still forgot.
#
# The package's loop is [`ftkit/engine/loop.py`](../ftkit/engine/loop.py). The
# [playground](playground.html#data=tasks&method=full&learning_rate=0.001&max_steps=60) trains all weights in a
# browser tab and shows where they moved. Next: [02 LoRA](02_lora.ipynb).

# %%
ft.progress("01")
