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
# *Needs [00](00_start_here.ipynb). About 40 minutes; the code needs about one minute on two CPU
# cores.*

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
# learning rate nothing is lost." The first sentence leaves out two calls, and the others are not right as
# they stand.
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

# %% [markdown]
# In a batch, shorter records are filled up with padding tokens. The label -100 marks tokens that are
# excluded from the loss: the question and the padding.

# %%
from ftkit.inside import collate, encode_all, shuffled

lab = ft.Experiment(model="tiny", data="tasks", eval_records=64)
tokenizer = ft.load("tiny")[1]
examples = encode_all(lab.train, tokenizer).examples


# %%
def make_batches(seed, number, batch_size):
    """The first batches of an epoch in random order."""
    order = shuffled(len(examples), batch_size=batch_size, seed=seed)
    batches = []
    for _ in range(number):
        records = [examples[i] for i in next(order)]
        batches.append(collate(records, tokenizer.pad_token_id))
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

# %%
plain = ft.Config(learning_rate=1e-3, max_steps=8, eval_steps=8, precision="fp32", warmup_steps=0,
                  lr_scheduler_type="constant", max_grad_norm=1.0)
package = lab.run(plain, live=False)
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

# %% [markdown]
# β₁ and β₂, usually 0.9 and 0.999, set how long m and v remember. In LLM pretraining β₂ is often 0.95. ε
# avoids a division by zero. λ is the **weight decay**, a pull toward zero. It acts on w itself and not through
# the gradient: this is the W in AdamW.


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
from torch.nn.utils import parameters_to_vector


def step_lengths(batches, scale):
    """How far each step moves a weight, as a mean over all weights, in learning rates."""
    model = ft.load("tiny")[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    lengths, old = [], parameters_to_vector(model.parameters()).detach().clone()
    for batch in batches:
        optimizer.zero_grad()
        (scale * model(**batch).loss).backward()
        optimizer.step()
        new = parameters_to_vector(model.parameters()).detach().clone()
        lengths.append((new - old).abs().mean().item() / 1e-3)
        old = new
    return lengths


# %%
usual = [step_lengths(make_batches(seed, 4, 8), scale=1) for seed in range(3)]
times_100 = [step_lengths(make_batches(seed, 4, 8), scale=100) for seed in range(3)]
ft.table([{"step": step, "loss": [run[step - 1] for run in usual],
           "100 × loss": [run[step - 1] for run in times_100]} for step in range(1, 5)])

# %%
factors = [large[0] / small[0] for large, small in zip(times_100, usual, strict=True)]
factor = sum(factors) / len(factors)
ft.expect(factors, "<", 2, "100 times the gradient: how many times longer the first step is")
scaled.score("more than 10 times longer" if factor > 10 else "2 to 10 times longer" if factor >= 2
             else "less than 2 times longer")

# %% [markdown]
# AdamW divides by the size of the gradient, so a constant factor cancels. In the first step $\hat m = g$ and
# $\sqrt{\hat v} = |g|$, so a weight moves by one learning rate (0.98 in the mean: some gradients are zero or
# as small as ε). Later steps are shorter, since gradients of different batches partly cancel in m. So
# learning rate × steps roughly limits how far the weights can drift.
#
# A sudden jump of the gradient does *not* cancel at once, because v follows slowly. The next step can be
# $0.1/\sqrt{0.001}$, about 3 learning rates; if the gradient stays large, steps grow to 6.6. Clipping limits
# such a jump.
#
# ## What is in memory?
# <!-- claims: C6 C53 C96 · E08 -->
#
# We count the bytes that torch keeps for one step. The **activations** are intermediate results of the
# forward pass, which the backward pass needs again. Which parts depend on the data?

# %%
from ftkit.by_hand import saved_bytes

model(**batches[0]).loss.backward()
weights = list(model.parameters())
parameters = sum(weight.numel() for weight in weights)
memory = {  # exp_avg is torch's name for m, exp_avg_sq for v
    "weights": sum(w.nbytes for w in weights),
    "gradients": sum(w.grad.nbytes for w in weights),
    "optimizer state": sum(optimizer.state[w]["exp_avg"].nbytes
                           + optimizer.state[w]["exp_avg_sq"].nbytes for w in weights),
    "activations": saved_bytes(model, lambda: model(**batches[0]).loss)["saved"],
}
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
# With m and v in fp32, neither needs fewer than 16 bytes. The last two rows need less:
#
# | layout | weights | gradients | master copy | m and v | sum |
# |---|---|---|---|---|---|
# | fp32 | 4 | 4 | 0 | 8 | 16 |
# | autocast over fp32 weights (`bf16=True`) | 4, and up to 2 for copies | 4 | 0 | 8 | 16 to 18 |
# | 16-bit weights with an fp32 master copy ([ZeRO paper](https://arxiv.org/abs/1910.02054)) | 2 | 2 | 4 | 8 | 16 |
# | the same with fp32 gradients | 2 | 4 | 4 | 8 | 18 |
# | fp32 weights, 8-bit AdamW | 4 | 4 | 0 | 2 | 10 |
# | pure bf16, m and v too | 2 | 2 | 0 | 4 | 8 |

# %% [markdown]
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
# 141 GB, or sharding (dividing the states among GPUs, [lesson 13](13_zero_and_fsdp.ipynb)), 8-bit states or
# LoRA. Each task also needs a full copy on disk: 13.5 GB in bf16.
#
# ## Which learning rate?
# <!-- claims: C7 C33 C40 C41 -->
#
# Now we test the claim that a lower learning rate protects. `val_loss` is the loss on new records of the
# trained tasks. `general_loss` is the loss on general text that the model knew before; it rises when the
# model forgets. (The small model was pretrained with another optimizer, Muon, so the size of its forgetting
# under AdamW is its own; [lesson 00](00_start_here.ipynb) says what else is special about it.)

# %%
lowest = ft.predict("Which learning rate ends with the lowest val_loss after 40 steps?",
                    "0.0003", "0.001", "0.003")
lowest

# %%
SEEDS = [0, 1, 2]
short = ft.Config(batch_size=16, max_steps=40, eval_steps=1000, precision="fp32")
runs = lab.sweep(short, learning_rate=[3e-4, 1e-3, 3e-3], seed=SEEDS)
ft.table(runs)


# %%
def after(learning_rate, measure):
    return [run.after[measure] for run in runs if run.config.learning_rate == learning_rate]


# %% [markdown]
# Each learning rate saw the same records with the same seed, so the tests are *paired*: they look at the
# differences seed by seed.

# %%
verdict = ft.expect(after(3e-4, "general_loss"), "<", after(3e-3, "general_loss"),
                    "general_loss: learning rate 0.0003 against 0.003", paired=True)
for other in (3e-4, 3e-3):
    ft.expect(after(1e-3, "val_loss"), "<", after(other, "val_loss"),
              f"val_loss: learning rate 0.001 against {other:g}", paired=True)
ft.expect(after(3e-4, "general_loss"), ">", runs[0].before["general_loss"],
          "general_loss: even learning rate 0.0003 against the base model")
means = {rate: sum(after(rate, "val_loss")) / len(SEEDS) for rate in (3e-4, 1e-3, 3e-3)}
lowest.score({3e-4: "0.0003", 1e-3: "0.001", 3e-3: "0.003"}[min(means, key=means.get)])

# %%
ft.scatter(runs, label=lambda run: f"learning rate {run.config.learning_rate:g}", start=False)

# %% [markdown]
# Further left is better learned, lower is less forgotten; the base model starts at 8.83 and 0.85. The
# *frontier* joins the learning rates that no other beats in both. In the mean the model forgot most at 0.003
# and least at 0.0003. Both learned less than 0.001 did in the same steps, and even at 0.0003 `general_loss` rose.
# In domain fine-tuning of LLMs, a smaller learning rate can save much general ability at comparable learning
# ([Lin et al. 2025](https://arxiv.org/abs/2509.20758)). [Lesson 16](16_catastrophic_forgetting.ipynb) has
# remedies, such as mixing in general data.
#
# Why is the learning rate of fine-tuning usually lower than in pretraining? The weights are already good, and
# old abilities should be kept. An exception is [Code Llama](https://arxiv.org/abs/2308.12950): trained on 500B
# tokens of mostly code, it kept the pretraining learning rate of Llama 2.
#
# ## Break it
#
# What happens if somebody forgets `zero_grad`? The gradients of all earlier steps stay in the sum. We
# train 16 steps with and without `zero_grad`, each without and with clipping.

# %%
hidden = ft.predict("With clipping to norm 1, the last losses without zero_grad are, compared with the "
                    "correct loop ...", "lower", "higher", "no difference seen in 3 seeds")
hidden


# %%
def train(seed, zero_grad, max_grad_norm):
    """The loss of each of 16 steps, and the smallest norm of the gradients."""
    model = ft.load("tiny")[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    losses, norms = [], []
    for batch in make_batches(seed, number=16, batch_size=8):
        if zero_grad:
            optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, min(norms)


# %%
from ftkit.teaching import line_plot

loops = {"correct, clipped": (True, 1.0), "no zero_grad": (False, float("inf")),
         "no zero_grad, clipped": (False, 1.0), "correct": (True, float("inf"))}
curves, last, norms = {}, {}, {}
for name, settings in loops.items():
    losses, norms[name] = zip(*[train(seed, *settings) for seed in range(3)], strict=True)
    curves[name] = torch.tensor(losses).mean(dim=0).tolist()
    last[name] = [sum(run[-4:]) / 4 for run in losses]
line_plot({name: list(enumerate(losses, 1)) for name, losses in curves.items()},
          x="step", y="loss, mean of 3 seeds", log_x=False)

# %%
clipped, correct = last["no zero_grad, clipped"], last["correct, clipped"]
ft.expect(last["no zero_grad"], ">", last["correct"], "not clipped: the loss without zero_grad is higher",
          paired=True)
ft.expect(clipped, "==", correct, "with clipping: loss without zero_grad and of the correct loop",
          paired=True)
smallest = min(norms["correct, clipped"])
print(f"correct loop: norm of the gradients {smallest:.1f} or more before clipping")
hidden.score({"<": "lower", ">": "higher",
              "": "no difference seen in 3 seeds"}[direction(clipped, correct, paired=True)])

# %% [markdown]
# Without clipping the bug shows in the loss. With clipping no difference was seen; 0.06 nats would have been
# seen. The old sum is scaled down to norm 1 in each step, and here each new gradient is larger and
# dominates it. Where gradients are smaller than the limit, the old sum dominates. A falling loss does not
# prove a correct loop. Compare a new loop with a trusted one, step by step, as above.
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
# trade-off within this grid; [lesson 07](07_learning_rate.ipynb) goes lower.
# "Facts completed right" is the share of short sentences on facts that the model completes right.
#
# And the first half of the claim, "use it, it learns the most"? It is too wide. In continued pretraining
# (the next-token loss on plain text) of Llama 2 7B on code and math, full fine-tuning learned clearly more
# than LoRA. On code LoRA kept more of the other abilities
# ([Biderman et al. 2024](https://arxiv.org/abs/2405.09673)). On data sets of usual post-training size, LoRA
# on all layers with its own learning rate reached the same loss
# ([Thinking Machines 2025](https://thinkingmachines.ai/blog/lora/)). [Lesson 02](02_lora.ipynb) makes the
# comparison.
#
# ## What if?
#
# SGD, plain gradient descent, moves each weight by lr · g and keeps no state: 8 bytes per parameter. With
# AdamW's learning rate it hardly learns. Find one with which it does, then try `optim="adafactor"` at 0.001.
# In our runs of one seed, SGD ended at a `val_loss` of 1.5 with 0.1, and Adafactor at 0.4.

# %%
lab.run(short, optim="sgd", learning_rate=1e-3, eval_steps=10)

# %% [markdown]
# ## In practice, 2026
#
# | setting | usual value for supervised fine-tuning |
# |---|---|
# | learning rate | about 1e-5 for 7B ([2e-6 for 70B](https://arxiv.org/abs/2411.15124) to 5e-5 for 1B); 10 times that for LoRA |
# | schedule | warm-up over 3 to 10 % of the steps, then linear or cosine |
# | epochs | 1 to 3 |
# | tokens per update | 16k to 500k, by gradient accumulation if necessary |
# | `max_grad_norm` | 1.0 |
# | weight decay λ | 0 to 0.1; 1,000 steps at 1e-5 with λ = 0.1 shrink a weight by 0.1 % |
#
# ```python
# # {"prompt": [{"role": "user", "content": "..."}],
# #  "completion": [{"role": "assistant", "content": "..."}]}
# from datasets import load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-1.7B"
# files = {"train": "train.jsonl", "validation": "validation.jsonl"}
# data = load_dataset("json", data_files=files)
# trainer = SFTTrainer(
#     model=model_id,  # given by name, TRL loads it in fp32; bf16=True then is autocast
#     train_dataset=data["train"], eval_dataset=data["validation"],
#     args=SFTConfig(
#         output_dir="full", learning_rate=1e-5, lr_scheduler_type="cosine",
#         warmup_steps=0.03,  # a fraction; before transformers 5: warmup_ratio
#         per_device_train_batch_size=4, gradient_accumulation_steps=8, num_train_epochs=2,
#         max_length=2048, bf16=True, gradient_checkpointing=True,
#         optim="adamw_torch_fused", max_grad_norm=1.0, save_strategy="epoch",
#         eval_strategy="steps", eval_steps=50,
#     ),
# )
# trainer.train()
# ```
#
# `gradient_checkpointing` recomputes activations in the backward pass instead of keeping them. The logits
# of 4 × 2,048 tokens over 151,936 tokens of vocabulary would take 5 GB in fp32; TRL 1.16 computes its loss in
# chunks and never holds them all. Several GPUs: `accelerate launch` with FSDP2 or DeepSpeed ZeRO-3
# ([lesson 13](13_zero_and_fsdp.ipynb)).
#
# Optimizers by name:
#
# - **AdamW** is the default; the `fused` version is faster.
# - **8-bit AdamW** ([Dettmers et al. 2021](https://arxiv.org/abs/2110.02861), `adamw_bnb_8bit`) stores m and
#   v in 2 bytes instead of 8, usually with the same loss. The *paged* version moves them to CPU memory at
#   peaks.
# - **Adafactor** stores row and column means of g² instead of v.
# - **Lion** moves each weight by the *sign* of a blend of the gradient and its running mean, the *momentum*.
#   Its learning rate is 3 to 10 times smaller, and λ larger by the same factor.
# - **Muon** orthogonalizes the momentum of a matrix (singular values near 1), with AdamW for embeddings and
#   norms. It is successful in pretraining. For models pretrained with Adam, full fine-tuning with Muon can be
#   worse ([Qu et al. 2026](https://arxiv.org/abs/2605.10468)).

# %% [markdown]
# Pitfalls:
#
# - To train some layers only, freeze the others: `parameter.requires_grad_(False)`. A frozen parameter needs
#   no gradient and no optimizer state, so 4 bytes instead of 16 in fp32.
# - `from_pretrained` of transformers 5 uses the checkpoint's dtype, mostly bf16. If you pass such a
#   model, you train in pure bf16. Pass `dtype="float32"`, or use stochastic rounding or Kahan
#   summation ([lesson 12](12_floating_point.ipynb)).
# - To continue a run, save optimizer, scheduler and random states too: `save_strategy`, then
#   `trainer.train(resume_from_checkpoint=True)`. Weights alone restart m and v at zero.
# - With accumulation, the loss must be divided by the trained tokens of *all* small batches;
#   [the mean of means was a bug until October 2024](https://huggingface.co/blog/gradient_accumulation).
#
# ## Interview
# <!-- claims: C93 C96 -->
#
# **How much memory does full fine-tuning of a 7B model need with AdamW in mixed precision?**
# <details><summary>Answer</summary>
# 16 bytes per parameter: bf16 weights 2, bf16 gradients 2, fp32 master copy 4, m and v 8. For 6.74
# billion parameters that is 108 GB before activations, too much for one 80 GB GPU; fp32 gradients make it 18
# bytes. Autocast over fp32 weights takes 4 + 4 + 8, and up to 2 for copies. Options: a GPU with 141 GB or
# more, sharding over GPUs (FSDP, ZeRO), offloading, 8-bit states (10 bytes with fp32 weights), Adafactor
# without momentum (little more than 8) or Muon (12 for the matrices), pure bf16 with stochastic rounding (8
# bytes), or LoRA. Activations come on top; gradient checkpointing reduces them.
# </details>

# %% [markdown]
# **Why does fine-tuning usually use a lower learning rate than pretraining?**
# <details><summary>Answer</summary>
# The weights are already good, and old abilities should survive. AdamW's step is
# usually at most about one learning rate per weight, and a constant factor of the gradient cancels. So
# learning rate × steps roughly limits the distance from the pretrained weights. "Because the gradients are
# smaller" is therefore no reason. This holds for full fine-tuning; LoRA usually takes about 10 times that.
# Long continued pretraining can return to the pretraining value.
# </details>

# %% [markdown]
# **What is the difference between Adam with L2 regularization and AdamW?**
# <details><summary>Answer</summary>
# L2 adds λw to the gradient, so it passes through m and v and is divided by √v. Parameters with large
# gradients are then decayed less. AdamW subtracts lr · λ · w directly: the same relative decay for all.
# </details>
#
# **Full fine-tuning or LoRA?**
# <details><summary>Answer</summary>
# Full fine-tuning has the most capacity. I use it for large token budgets such as continued
# pretraining, if the memory (about 16 bytes per parameter) is there. For usual post-training data I start
# with LoRA on all linear layers at its own learning rate and compare.
# I measure forgetting in both cases: LoRA tends to forget less, but does not prevent it.
# </details>
#
# ## Recap
#
# - A step is zero_grad (here or at the end), forward, backward, clip, step.
# - AdamW's steps are at most about one learning rate per weight, as long as gradients do not jump.
# - 16 bytes per parameter, plus activations, plus one full copy per task.
# - The claim: too wide in its first half, since at usual sizes of data LoRA can reach the same loss. At equal
#   steps a lower learning rate forgot less, but still forgot. Less learning is not the only reason: 0.001
#   learned more than 0.003 and, in the mean, forgot less.
#
# The [playground](playground.html#data=tasks&method=full&learning_rate=0.001&max_steps=60) trains all weights
# in a browser tab and shows where they moved.
#
# The package's loop is [`ftkit/engine/loop.py`](../ftkit/engine/loop.py). Next: [02 LoRA](02_lora.ipynb).

# %%
ft.progress("01")
