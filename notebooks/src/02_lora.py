# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · LoRA from scratch, then peft
#
# **Claim: an update of rank 8, five in a hundred of the weights, learns a job as well as moving
# all of them, and forgets less.** It has two halves; you will test both. After this lesson you can
#
# - write LoRA in ten lines and prove that it equals peft's;
# - count what it saves (parameters, bytes, disk) and what it does not;
# - compare it with full fine-tuning fairly, which most comparisons are not.
#
# *Needs [01](01_full_fine_tuning.ipynb). About 30 minutes; the code needs one minute on two CPU
# cores.*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C11 C98 -->
#
# > *"You have one base model and two hundred customers, each with their own fine-tune. How many
# > numbers do you have to train and keep for each of them? And which costs of training does that
# > take away, and which stay?"*
#
# The usual answer names a percentage and stops. Let us start one step earlier: why should a few
# numbers be enough?

# %%
lab = ft.Experiment(model="tiny", data=ft.records("tasks")[:480], val="tasks")
base, tokenizer = ft.load("tiny")
fulls = lab.sweep(method=["full"], learning_rate=[1e-3], seed=range(3))
validation = [ft.encode(record, tokenizer) for record in lab.val]
fulls[0]

# %% [markdown]
# ## The update is nearly flat
# <!-- claims: C11 C43 -->
#
# Every weight has moved. But a matrix of updates can be large and still point along few
# directions: it has a low **rank**. Take each update apart by its singular values, keep only the
# strongest directions, and see how good the model still is. Guess first: with 8 of 192 directions, is
# the validation loss as before the fine-tune, half way, or nearly as good as with all?

# %%
import copy

import torch


def keep_directions(rank, run=fulls[0]):
    model = copy.deepcopy(base)
    pairs = zip(model.parameters(), run.model.parameters(), strict=True)
    for weight, tuned in [(w, t) for w, t in pairs if w.ndim == 2]:
        U, S, V = torch.linalg.svd((tuned - weight).detach(), full_matrices=False)
        weight.data += U[:, :rank] * S[:rank] @ V[:rank]
    return model


# %%
kept = {rank: ft.loss_on(keep_directions(rank), validation) for rank in (0, 1, 8, 32, 192)}
eight = [ft.loss_on(keep_directions(8, run), validation) for run in fulls]
ft.expect(eight, "<", [run.before["val_loss"] + 0.9 * run.change("val_loss") for run in fulls],
          "eight directions carry nine tenths of what was learned")
ft.table([{"directions kept": rank, "val_loss": loss} for rank, loss in kept.items()])

# %% [markdown]
# Look at the first lines too: how much does a single direction bring? So why train what can be
# thrown away? **LoRA** ([Hu et al. 2021](https://arxiv.org/abs/2106.09685)) freezes W and trains
# an update that cannot have more than r directions:
#
# $$W' = W + \frac{\alpha}{r}\, B A \qquad A: r \times d_{in}, \quad B: d_{out} \times r$$
#
# ## By hand
# <!-- claims: C43 C44 · E20 -->
#
# A starts random, B at zero. The scale α/r is a constant.


# %%
import math

from torch import nn


class LoRALinear(nn.Module):
    def __init__(self, linear, r, lora_alpha):
        super().__init__()
        self.linear, self.scaling = linear, lora_alpha / r
        like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.A = nn.Parameter(torch.empty(r, linear.in_features, **like))
        self.B = nn.Parameter(torch.zeros(linear.out_features, r, **like))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # as nn.Linear starts, and peft's A

    def forward(self, x):  # two thin products; B A itself is never built
        return self.linear(x) + self.scaling * (x @ self.A.T @ self.B.T)


# %% [markdown]
# Put one around each linear layer, with everything else frozen.

# %%
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def inject(model, target_modules, r, lora_alpha):
    model.requires_grad_(False)
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            if name in target_modules:
                setattr(block, name, LoRALinear(child, r, lora_alpha))
    return model


# %% [markdown]
# With B at zero the adapted model must *be* the base, to the last bit. And which of the two learns
# in the very first step, if their product is zero? Think, then look.

# %%
from ftkit.data.encoding import collate

batch = collate([ft.encode(record, tokenizer) for record in lab.train[:16]], tokenizer.pad_token_id)
mine = inject(copy.deepcopy(base), LINEAR, r=8, lora_alpha=16)
assert torch.equal(mine(**batch).logits, base(**batch).logits)

mine(**batch).loss.backward()
norms = {name[-1]: p.grad.norm().item() for name, p in mine.named_parameters() if p.requires_grad}
mine.zero_grad()
assert norms["A"] == 0 < norms["B"]
norms

# %% [markdown]
# The gradient of A is a product with B: zero while B is. So B moves first and A follows. Start
# *both* at zero and nothing ever moves; start both random and the model is no longer the base.
#
# ## Train it, and compare with peft
# <!-- claims: C44 · E20 -->
#
# `peft` is the library everyone uses. Same start, same five steps: the losses must agree.


# %%
def five_steps(model):
    params, losses = [p for p in model.parameters() if p.requires_grad], []
    optimizer = torch.optim.AdamW(params, lr=5e-3, weight_decay=0.0)
    for _ in range(5):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# %%
import peft

settings = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
torch.manual_seed(0)
theirs = peft.get_peft_model(copy.deepcopy(base), settings)
trained = [[p for p in m.parameters() if p.requires_grad] for m in (mine, theirs)]
for p, q in zip(*trained, strict=True):
    p.data.copy_(q)  # our random start differs from theirs: take theirs
hand, library = five_steps(mine), five_steps(theirs)
assert torch.allclose(torch.tensor(hand), torch.tensor(library), atol=1e-3)
ft.table([{"loss by hand": a, "peft": b} for a, b in zip(hand, library, strict=True)])

# %% [markdown]
# In `ft` the same request is a `Config`. It trains with peft, on its own fast path.

# %%
request = ft.Config(method="lora", r=8, lora_alpha=16, learning_rate=5e-3, batch_size=16,
                    max_steps=5, lr_scheduler_type="constant", warmup_steps=0, precision="fp32")
run = ft.Experiment(data=lab.train[:16], val=lab.val).run(request, live=False)
assert torch.allclose(torch.tensor(hand), torch.tensor([r["loss"] for r in run.rows]), atol=1e-3)
run

# %% [markdown]
# ## Count
#
# A layer from `n_in` to `n_out` gets `r · (n_in + n_out)` numbers instead of `n_in · n_out`. Hold
# the formula against the models.

# %%
formula = sum(8 * (m.in_features + m.out_features)
              for n, m in base.named_modules() if n.split(".")[-1] in LINEAR)
assert formula == run.trainable_parameters
f"{formula:,} of {run.total_parameters:,}: {formula / run.total_parameters:.1%}"

# %% [markdown]
# And Llama 2 7B, which interviewers like: r = 8 on the q and v matrices. On torch's `meta` device a
# model has shapes and no memory, so we can build the real thing and count.

# %%
from transformers import LlamaConfig, LlamaForCausalLM

with torch.device("meta"):
    llama = LlamaForCausalLM(LlamaConfig())  # the defaults are Llama 2 7B's shape
    total = llama.num_parameters()
    inject(llama, ["q_proj", "v_proj"], r=8, lora_alpha=16)
llama_trained = llama.num_parameters(only_trainable=True)
assert llama_trained == 32 * 2 * 8 * (4096 + 4096)
f"{llama_trained:,} of {total:,}: {llama_trained / total:.2%}"

# %% [markdown]
# ## Merge
#
# For use, add the update into W once. The model is then an ordinary one, as fast as the base.


# %%
def merge(model):
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            if isinstance(child, LoRALinear):
                child.linear.weight.data += child.scaling * child.B.data @ child.A.data
                setattr(block, name, child.linear)
    return model


for plain in (merge(copy.deepcopy(mine)), copy.deepcopy(theirs).merge_and_unload()):
    assert torch.allclose(plain(**batch).logits, mine(**batch).logits, atol=1e-3)

# %% [markdown]
# ## Which learning rate?
# <!-- claims: C19 · E22 -->
#
# "LoRA against full fine-tuning at the same rate" compares nothing: each method has a rate of its
# own. Look for both, with three seeds.

# %%
ratio = ft.predict("Against full fine-tuning, the best learning rate of LoRA is ...",
                   "smaller", "about the same", "several times larger")
ratio

# %%
short, seeds = ft.Config(batch_size=16, epochs=1, eval_steps=1000), [0, 1, 2]
rates = {"full": [5e-4, 1e-3, 5e-3], "lora": [1e-3, 1e-2, 5e-2]}
sweep = lab.sweep(short, method=["full"], learning_rate=rates["full"], seed=seeds)
sweep += lab.sweep(short, method=["lora"], learning_rate=rates["lora"], seed=seeds)
ft.table(sweep)


# %%
def runs_of(method, rate):
    return [run for run in sweep
            if run.config.method == method and run.config.learning_rate == rate]


best = {method: min(rates[method], key=lambda rate, m=method: sum(
    run.after["val_loss"] for run in runs_of(m, rate))) for method in rates}
winners = {method: runs_of(method, best[method]) for method in rates}
ft.expect(best["lora"], ">=", 5 * best["full"], "LoRA wants a rate several times larger")
ratio.score("several times larger" if best["lora"] >= 3 * best["full"] else "about the same")

# %% [markdown]
# The rates are coarse, so read the ratio as a size. On large models about [ten
# times](https://thinkingmachines.ai/blog/lora/) is reported: an observation, not a law. Compare
# the lines of both methods at 0.001: whoever compares at *one* rate has decided beforehand who
# loses.
#
# ## Does it learn as well?
# <!-- claims: C4 · E22 -->
#
# Each at its own best rate, on entities that were in no training record.

# %%
test = ft.records("tasks", "test")[::3]
exact = {method: [ft.exact_match(run.model, tokenizer, test) for run in runs]
         for method, runs in winners.items()}
ft.expect(exact["lora"], ">", [e - 0.1 for e in exact["full"]], "at most ten points behind")
exact

# %% [markdown]
# ## Does it forget less?
# <!-- claims: C73 · E22 -->
#
# In the picture, learning is to the left and forgetting upwards. Do not compare at one rate: find
# two points with about the **same `val_loss`**, and ask which of them is lower.

# %%
forgot = {m: [run.after["general_loss"] for run in runs] for m, runs in winners.items()}
ft.expect(forgot["lora"], "==", forgot["full"], "each at its best rate, LoRA forgets as much")
ft.scatter([run for run in sweep if run.after["general_loss"] < 2],
           label=lambda run: f"{run.config.method} {run.config.learning_rate:g}")

# %% [markdown]
# The LoRA run that forgot least is the one that learned least (find it in the picture). On large
# models, [Biderman et al.](https://arxiv.org/abs/2405.09673) named their paper *LoRA learns less and
# forgets less*: both halves belong together.
#
# ## Rank and layers
# <!-- claims: E23 -->
#
# Does more rank help? And are q and v enough, peft's default for this kind of model?

# %%
import tempfile
from pathlib import Path

lora = short.but(method="lora", learning_rate=best["lora"])
ranks = lab.sweep(lora, r=[1, 64], seed=seeds)
kinds = {"r=1": ranks[:3], "r=8": winners["lora"], "r=64": ranks[3:],
         "r=8, q and v": lab.sweep(lora.but(target_modules="q_proj,v_proj"), seed=seeds)}
final = {kind: [run.after["val_loss"] for run in runs] for kind, runs in kinds.items()}
ft.expect(final["r=8"], "<", final["r=8, q and v"], "all linear layers beat q and v alone")
ft.table([{"LoRA": kind, "trained": runs[0].trainable_parameters, "val_loss": final[kind],
           "general_loss": [run.after["general_loss"] for run in runs]}
          for kind, runs in kinds.items()])

# %% [markdown]
# `lora_alpha` was 16 in every line, so the scale α/r falls as the rank rises: more directions, each
# counted less. That is why one rate serves all ranks, as
# [on large models](https://thinkingmachines.ai/blog/lora/). Rank is capacity; from where on does it
# bring nothing more? It pays when there is much to learn, and this job is mostly a format.
#
# ## The bill
# <!-- claims: C11 -->
#
# What does training need beside the weights? Gradients, the optimizer's two averages for each
# trained number, and the **activations** that the backward pass comes back for. With 5 % of the
# parameters, how much is left of each? Guess, then count the bytes.


# %%
def bill(model):
    kept = {}

    def note(tensor):  # what autograd keeps for the backward pass
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(**batch).loss
    for p in model.parameters():  # weights are kept too, but they are there anyway
        kept.pop(p.untyped_storage().data_ptr(), None)
    loss.backward()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params)
    optimizer.step()
    states = [t.nbytes for state in optimizer.state.values() for t in state.values()]
    return {"gradients": sum(p.grad.nbytes for p in params), "optimizer": sum(states),
            "activations": sum(kept.values())}


# %%
costs = {"full": bill(copy.deepcopy(base).requires_grad_(True)),
         "LoRA, r=8": bill(inject(copy.deepcopy(base), LINEAR, r=8, lora_alpha=16))}
share = {what: costs["LoRA, r=8"][what] / costs["full"][what] for what in costs["full"]}
ft.expect(share["activations"], ">", 5 * share["optimizer"], "activations mostly stay")
ft.table([{"method": method, **part} for method, part in (costs | {"share": share}).items()])

# %% [markdown]
# To correct an early A, the gradient still travels back through every frozen layer. That is why
# long sequences fill the memory under LoRA too; gradient checkpointing helps there, LoRA does not.
#
# ## Two adapters, one base
# <!-- claims: C9 · E45 -->
#
# An adapter is a small file. Two customers, two jobs: one wants sentences turned into questions,
# one wants them denied. Train both, and compare the size of a file with the base's.

# %%
folder = Path(tempfile.mkdtemp())
for task in ("to_question", "to_negative"):
    ft.Experiment(data=task).run(method="lora", max_steps=25, out=folder / task, live=False)
sizes = {f.name: f.stat().st_size for f in (folder / "to_question").glob("adapter_model*")}
sizes | {"the base": sum(p.nbytes for p in base.parameters())}

# %% [markdown]
# Load both on one base and switch. The order below says nothing about questions or denial: what
# comes out is the adapter's doing.

# %%
served = peft.PeftModel.from_pretrained(copy.deepcopy(base), folder / "to_question", "to_question")
served.load_adapter(folder / "to_negative", "to_negative")
order = {"instruction": "Change the sentence.", "input": "They catch a parrot.", "output": "?"}
said = {}
for task in ("to_question", "to_negative"):
    served.set_adapter(task)
    said[task] = ft.answers(served, tokenizer, [order], max_new_tokens=16)[0]
said

# %% [markdown]
# Use `from_pretrained` to load. `get_peft_model` with the same settings makes a *fresh* adapter, B
# at zero: nothing complains, and you serve the base.
#
# ## Break it
#
# The commonest mistake in a merge by hand: the scale α/r is forgotten. Nothing crashes. How much
# does it cost?

# %%
def merged_with(scale, adapted):
    model = copy.deepcopy(adapted)
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.Linear):
            module.scaling["default"] = scale
    return model.merge_and_unload()


three = [run.model for run in winners["lora"]]

# %%
losses = {scale: [ft.loss_on(merged_with(scale, model), validation) for model in three]
          for scale in (0, 1, 16 // 8, 4)}
assert abs(losses[2][0] - ft.loss_on(three[0], validation)) < 0.01
ft.expect(losses[1], ">", losses[2], "a merge without the scale is worse")
ft.table([{"scale": scale, "val_loss": loss} for scale, loss in losses.items()])

# %% [markdown]
# So a merge is checked like this: same logits, or same loss, before and after. At scale 0 you see
# the base; beyond the right scale it is not "more tuned".
#
# ## Now on a real LLM
#
# SmolLM2, three steps each. What does LoRA leave of the trained numbers, and of the peak of memory
# that the kit predicts?

# %%

if download.has("smollm2"):
    real = ft.Experiment(model="smollm2", data="handwritten", probes=(), eval_records=6)
    few = ft.Config(max_steps=3, batch_size=4, max_length=160, eval_steps=3)
    pair = [real.run(few, learning_rate=2e-5), real.run(few, method="lora", learning_rate=2e-4)]
    trained, peak = ([getattr(run, name) for run in pair] for name in
                     ("trainable_parameters", "predicted_memory_bytes"))
    ft.expect(peak[1] / peak[0], ">", 2 * trained[1] / trained[0], "memory shrinks by far less")
    print(f"trained {trained}, peak {[round(b / 1e9, 2) for b in peak]} GB")

# %% [markdown]
# ## What if?
#
# A popular habit is α = 2r, which holds the scale at 2 whatever the rank. Rank 64 with it, at the same
# rate: compare with the table above. Then change one number, the rate, until it works.

# %%
changed = lab.run(lora, r=64, lora_alpha=128, learning_rate=1e-2)
changed

# %% [markdown]
# ## Exercises
#
# **1.** How many numbers does LoRA train? `layers` lists (n_in, n_out) of the adapted matrices.
# Take care: not every matrix is square.


# %% tags=["raises-exception"]
def lora_parameters(layers, r):
    ...


ft.check("lora_parameters", lora_parameters)


# %% [markdown]
# **2.** Merge by hand: the weight of the plain layer that equals the adapted one. W is (n_out,
# n_in); do not change it in place.


# %% tags=["raises-exception"]
def merge_weight(W, A, B, r, alpha):
    ...


ft.check("merge_weight", merge_weight)


# %% [markdown]
# **3.** Someone raises the rank and wants the same scale as before. Which alpha?


# %% tags=["raises-exception"]
def alpha_for(new_r, old_r, old_alpha):
    ...


ft.check("alpha_for", alpha_for)

# %% [markdown]
# ## Interview
#
# **How does LoRA help, and what does it not reduce?**
# <details><summary>Answer</summary>
# W is frozen, W + (α/r)BA is used, only A and B get gradients and optimizer states. Here r=8
# trained 5 % of the parameters and the states shrank twentyfold; the activations hardly did, and
# the base is still there in full size. Merged, it costs nothing at inference.
# </details>
#
# **Trainable parameters of r=8 on q and v of Llama 2 7B?**
# <details><summary>Answer</summary>
# Each 4096 × 4096 matrix gets 8 · (4096 + 4096) = 65,536. Two in each of 32 layers: 4,194,304, or
# 0.06 % of 6.74 billion; 8.4 MB in bf16. Two hundred customers: 1.7 GB, against 2.7 TB of copies.
# </details>
#
# **Why is B zero and A random?**
# <details><summary>Answer</summary>
# BA = 0, so training starts at the base exactly. The gradient of A is a product with B: 0 in the
# first step; B's is not. Both zero: nothing ever trains. Both random: the start is disturbed.
# </details>
#
# **What do r and α do?**
# <details><summary>Answer</summary>
# r bounds the rank, the capacity; α/r multiplies the update, much like a learning rate: tune one of
# the two. At α = 16 one rate served r = 1, 8 and 64, and 64 was hardly better than 8. With α = 2r more
# rank means larger steps: r = 64 broke at that rate. rsLoRA divides by √r.
# </details>

# %% [markdown]
# **"LoRA forgets less." Comment.**
# <details><summary>Answer</summary>
# At which score? W is frozen, the function is not: W + BA answers. At a low rate LoRA forgets
# little and learns little; each at its own best rate, ours ended equal in both within the spread
# of 3 seeds. On large models it is reported to learn less <i>and</i> forget less.
# </details>
#
# **Does LoRA make a training step faster?**
# <details><summary>Answer</summary>
# Forward 2N, gradients of the inputs 2N, of the weights 2N FLOPs per token. LoRA skips the last for
# frozen weights: about 4/6 = 67 %. Small extra products eat some of it; on a model as small as
# `tiny` all of it.
# </details>
#
# ## Recap
# <!-- claims: C12 C98 C100 -->
#
# - An update of few directions is enough for a format; LoRA trains such an update, starting at
#   zero.
# - It saves gradients, optimizer states and disk; not activations, not the base.
# - Tune its rate for itself, and compare at equal score.
#
# By hand: [`ftkit/lessons/by_hand/lora.py`](../ftkit/lessons/by_hand/lora.py). Next:
# [03 the PEFT family](03_the_peft_family.ipynb), LoRA's relatives in a fair fight.
