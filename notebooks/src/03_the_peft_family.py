# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · The PEFT family, and a fair fight
#
# **Claim: tuned with care, every method of the PEFT family learns what full fine-tuning learns. So
# take the one that trains the fewest numbers.** It could be wrong. After this lesson you can
#
# - say where each method acts, and write three of them by hand;
# - count what each trains;
# - compare methods fairly, and read papers that did not;
# - tell a small update that is full from one that is slow.
#
# *Needs [02](02_lora.ipynb). About 30 minutes; the code needs one minute on two CPU cores.*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C11 C29 -->
# ## The question
#
# > *"LoRA, DoRA, IA³, prefix tuning, prompt tuning: which would you take for this job, and how
# > would you find out?"*
#
# The usual answer is a table from a paper. First: **where** do they act?
#
# - LoRA and its kin: beside a matrix. DoRA trains the length of each row as well, rsLoRA changes the
#   scale, PiSSA the starting point.
# - IA³: *scales* keys, values and the inside of the MLP.
# - Prompt tuning: trained vectors before the input. Prefix tuning: keys and values in every layer.
# - Adapters: small networks after a block (peft has none).

# %%
import copy

import peft
import torch

base, tokenizer = ft.load("tiny")
ids = torch.tensor([ft.encode(r, tokenizer)["input_ids"] for r in ft.records("color")[:1]])
base.requires_grad_(False)


def logits_of(model):
    return model(input_ids=ids).logits


# %% [markdown]
# <!-- claims: C11 C12 · E24 -->
# ## By hand: IA³
#
# One trained number for each output of the key and value matrices, and for each input of the last
# MLP matrix. They start at one, so training starts at the base.

# %%
draw = torch.Generator().manual_seed(0)


def scales(n):
    return torch.nn.Parameter(1 + 0.1 * torch.randn(n, generator=draw))


ia3, by_name = copy.deepcopy(base), {}
for layer in ia3.model.layers:
    for linear in (layer.self_attn.k_proj, layer.self_attn.v_proj):
        by_name[linear] = scales(linear.out_features)
        linear.register_forward_hook(lambda m, x, out: out * by_name[m])
    by_name[layer.mlp.down_proj] = scales(layer.mlp.down_proj.in_features)
    layer.mlp.down_proj.register_forward_pre_hook(lambda m, x: x[0] * by_name[m])

# %% [markdown]
# peft's own, with the same numbers in it, must give the same logits.

# %%
theirs = peft.get_peft_model(copy.deepcopy(base), peft.IA3Config(task_type="CAUSAL_LM"))
slots = [p for p in theirs.parameters() if p.requires_grad]
for slot, mine in zip(slots, by_name.values(), strict=True):
    slot.data.copy_(mine.view_as(slot))
assert torch.allclose(logits_of(ia3), logits_of(theirs), atol=1e-3)

# %% [markdown]
# ## By hand: prompt tuning
#
# No weight of the model is touched. Twenty vectors stand before the embedded input, as if they were
# words, only that no word has such vectors. That is all of it; "prompting" is something else.

# %%
asked = peft.PromptTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM")
theirs = peft.get_peft_model(copy.deepcopy(base), asked)
mine = torch.cat([theirs.get_prompt(batch_size=1), base.get_input_embeddings()(ids)], dim=1)
assert torch.allclose(base(inputs_embeds=mine).logits, logits_of(theirs), atol=1e-3)
{"tokens of the question": ids.shape[1], "the model reads": mine.shape[1]}

# %% [markdown]
# The price is visible there: every question is now 20 tokens longer, in training and for
# ever after. And there is nothing to merge.
#
# ## By hand: rsLoRA and DoRA
#
# rsLoRA is LoRA with the scale α/√r instead of α/r, no more. DoRA gives every row of W + BA back the
# length of W's row, and trains that length.

# %%
shape = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
torch.manual_seed(0)
kin = {name: peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(**shape, **more))
       for name, more in {"rsLoRA": {"use_rslora": True}, "DoRA": {"use_dora": True}}.items()}
rs, dora = (m.base_model.model.model.layers[0].self_attn.q_proj for m in kin.values())
assert rs.scaling["default"] == 8 / 4**0.5
torch.nn.init.normal_(dora.lora_B["default"].weight)
W, BA = dora.base_layer.weight, 2 * dora.lora_B["default"].weight @ dora.lora_A["default"].weight
by_hand = (W + BA) * (W.norm(dim=1) / (W + BA).norm(dim=1))[:, None]
x = torch.randn(5, W.shape[1])
assert torch.allclose(x @ by_hand.T, dora(x), atol=1e-4)

# %% [markdown]
# ## Count
#
# Which of them trains the most numbers? The formulas are yours in exercise 1; here are the models.

# %%
from ftkit.model import loading

ASK = {"full": ft.Config(), "LoRA r=8": ft.Config(method="lora"),
       "DoRA r=8": ft.Config(method="lora", use_dora=True), "IA3": ft.Config(method="ia3"),
       "PiSSA r=8": ft.Config(method="lora", init_lora_weights="pissa"),
       "prompt 20": ft.Config(method="prompt_tuning"),
       "prefix 20": ft.Config(method="prefix_tuning")}
counts = {name: loading.count(loading.adapt(copy.deepcopy(base), c))[0] for name, c in ASK.items()}
ft.table([{"method": name, "trained": n, "share": n / counts["full"]} for name, n in
          counts.items()])

# %% [markdown]
# The same for Llama 2 7B, on torch's `meta` device, where shapes cost no memory.

# %%
from transformers import LlamaConfig, LlamaForCausalLM

small = {}
with torch.device("meta"):
    for name in ("IA3", "prompt 20", "prefix 20"):
        small[name] = loading.count(loading.adapt(LlamaForCausalLM(LlamaConfig()), ASK[name]))[0]
assert small == {"IA3": 614_400, "prompt 20": 81_920, "prefix 20": 5_242_880}
small

# %% [markdown]
# <!-- claims: C4 C92 · E22 E24 -->
# ## A fair fight
#
# The rules: same records, same number of steps, each method at **its own best rate**, several seeds,
# and a difference counts only if it is wider than the spread. Commit before you run.

# %%
fight = ft.predict("At its own best rate, whose mean ends furthest behind full fine-tuning?",
                   "LoRA", "IA3", "prompt tuning", "none, all are level")
fight

# %%
SEEDS = (0, 1, 2)
lab = ft.Experiment(data=ft.records("tasks")[:240], val="tasks", eval_records=24)
short = ft.Config(batch_size=12, max_steps=20, eval_steps=10)
RATES = {"full": [5e-4, 1e-3, 2e-3], "LoRA r=8": [3e-3, 1e-2, 3e-2],
         "DoRA r=8": [3e-3, 1e-2, 3e-2], "PiSSA r=8": [1e-3, 3e-3, 1e-2],
         "IA3": [3e-2, 1e-1, 3e-1], "prompt 10": [1e-1, 3e-1, 1.0]}
ASK["prompt 10"] = ft.Config(method="prompt_tuning", num_virtual_tokens=10)


def config_of(name, rate):
    asked = ASK[name].differs() | {"learning_rate": rate}
    return short.but(**asked)


# %% [markdown]
# One line on stderr is a notice, no error: virtual tokens stand before the input, so prompt tuning
# is trained in padded batches, without the fast path.

# %%
sweep = {name: [lab.run(config_of(name, rate), seed=SEEDS[0], live=False) for rate in rates]
         for name, rates in RATES.items()}
ft.table([{"method": name, "rate": run.config.learning_rate, "val_loss": run.after["val_loss"],
           "general_loss": run.after["general_loss"]}
          for name, runs in sweep.items() for run in runs])

# %% [markdown]
# Each method has a valley of its own, and they lie a factor of 300 apart. (A best rate at the edge of
# the grid would ask for a wider one.) Now the other seeds, each at its best rate.

# %%
best = {name: min(runs, key=lambda run: run.after["val_loss"]).config.learning_rate
        for name, runs in sweep.items()}
arms = {name: [run for run in runs if run.config.learning_rate == best[name]]
        + [lab.run(config_of(name, best[name]), seed=seed, live=False) for seed in SEEDS[1:]]
        for name, runs in sweep.items()}
loss = {name: [run.after["val_loss"] for run in runs] for name, runs in arms.items()}
ft.table([{"method": name, "trained": runs[0].trainable_parameters,
           "rate": best[name], "val_loss": loss[name],
           "general_loss": [run.after["general_loss"] for run in runs]}
          for name, runs in arms.items()])

# %% [markdown]
# What does "near full" mean? Here: clearly nearer to full fine-tuning than to IA³, that is, below
# the middle of the two by more than the spread.

# %%
middle = [(full + ia3) / 2 for full, ia3 in zip(loss["full"], loss["IA3"], strict=True)]
for name in ("LoRA r=8", "DoRA r=8", "PiSSA r=8"):
    ft.expect(loss[name], "<", middle, f"{name} is nearer to full than to IA3")
ft.expect(loss["IA3"], ">", loss["full"], "IA3 is behind full at equal steps")
ft.expect(loss["prompt 10"], ">", loss["full"], "and so is prompt tuning")
asked = {"LoRA": "LoRA r=8", "IA3": "IA3", "prompt tuning": "prompt 10"}
fight.score(max(asked, key=lambda name: sum(loss[asked[name]])))

# %%
ft.scatter([run for runs in arms.values() for run in runs], x="trainable_parameters",
           y="val_loss", label=lambda run: next(name for name in arms if run in arms[name]))

# %% [markdown]
# So the claim fails for the smallest methods, at these steps. Which of the two is last? Look at the
# spread of prompt tuning before you say: its virtual tokens start at random, and its seeds end far
# apart. Beside a matrix the claim nearly holds: LoRA, DoRA and PiSSA are level with one another and
# near full. A paper that shows one of them ahead must show you the rates it tried for the *others*.
# Prompt tuning is
# [reported](https://arxiv.org/abs/2104.08691) to catch up only on models of billions of parameters;
# [Med-PaLM](https://arxiv.org/abs/2212.13138) is such a case, and not a "model trained on medicine".

# %% [markdown]
# <!-- claims: C73 · E22 -->
# ## Do small updates forget less?
#
# A run that has learned less may have forgotten less for that reason alone (or more, as IA³ did
# above). So compare at an **equal target**: look every tenth step, and stop the clock when
# `val_loss` first falls below 2.2. What is lost by then?

# %%
most = ft.predict("When each has just reached the target, which has lost most general ability?",
                  "full", "LoRA", "IA3", "about equal")
most

# %%
longer = [lab.run(config_of("IA3", best["IA3"]), seed=seed, max_steps=40, live=False)
          for seed in SEEDS]
paths = {"full": arms["full"], "LoRA r=8": arms["LoRA r=8"], "IA3, 40 steps": longer}
reached = {name: [next((row for row in run.rows if row.get("val_loss", 9) < 2.2), run.rows[-1])
                  for run in runs] for name, runs in paths.items()}
when, forgot = ({name: [row[key] for row in rows] for name, rows in reached.items()}
                for key in ("step", "general_loss"))
ft.table([{"method": name, "trained": paths[name][0].trainable_parameters, "step": when[name],
           "general_loss": forgot[name]} for name in paths])

# %%
long = "IA3, 40 steps"
ft.expect(when[long], ">", when["full"], "IA3 gets there, later")
ft.expect(forgot[long], ">", forgot["full"], "the smallest update forgets the most")
asked = {"full": "full", "LoRA": "LoRA r=8", "IA3": long}
most.score(max(asked, key=lambda name: sum(forgot[asked[name]])))

# %%
ft.curves(paths, "val_loss", "general_loss")

# %% [markdown]
# Few numbers are no protection: to reach the target at all, IA³ has to bend its few scales so far that
# every text suffers. Between LoRA and full, look at the spread before you name a winner.

# %% [markdown]
# <!-- claims: C92 · E23 -->
# ## Which matrices, at equal size?
#
# LoRA on attention alone, on the MLP alone, or thinly on all. To be fair each trains about as many
# numbers: the rank makes up for the layers.

# %%
where = {"attention, r=19": ("q_proj,k_proj,v_proj,o_proj", 19),
         "MLP, r=14": ("gate_proj,up_proj,down_proj", 14)}
placed = {"all, r=8": arms["LoRA r=8"]}
for name, (targets, r) in where.items():
    config = config_of("LoRA r=8", best["LoRA r=8"]).but(
        target_modules=targets, r=r, lora_alpha=2 * r)
    placed[name] = [lab.run(config, seed=seed, live=False) for seed in SEEDS]
spots = {name: [run.after["val_loss"] for run in runs] for name, runs in placed.items()}
ft.table([{"layers": name, "trained": runs[0].trainable_parameters, "val_loss": spots[name]}
          for name, runs in placed.items()])

# %% [markdown]
# Is any difference wider than the spread? In lesson 02 two matrices of seven were clearly too few;
# with size held equal, three seeds of this short run do not settle the order. A null result has to be
# written down like any other, with what it would take: longer runs, a harder job. On large models
# attention alone [falls behind](https://thinkingmachines.ai/blog/lora/) even at equal size.

# %% [markdown]
# <!-- claims: C4 C5 · E21 -->
# ## The limit: facts
#
# The tasks above are mostly form, and the base knew their facts. What of things that nobody could
# know? Give words random codes and count how many a run learns by heart.

# %%
import random

words = sorted({w for r in ft.records("tasks") for w in r["output"].split()
                if w.isalpha() and w.islower() and len(tokenizer(" " + w)["input_ids"]) == 1})


def facts(n, seed):
    draw = random.Random(seed)
    some = draw.sample(words, n + 16)
    return [{"instruction": f"What is the code of {key}?", "output": draw.choice(some[n:])}
            for key in some[:n]]


facts(2, seed=0)

# %%
few = ft.predict("16 random facts, 24 passes. LoRA of rank 1 learns by heart ...",
                 "nearly all", "about half", "few")
few

# %%
RANKS = {"LoRA r=1": {"method": "lora", "r": 1, "lora_alpha": 2, "learning_rate": 1e-2},
         "LoRA r=8": {"method": "lora", "r": 8, "lora_alpha": 16, "learning_rate": 1e-2},
         "full": {"learning_rate": 1e-3}}


def learned(n, seed, max_steps=48, **asked):
    known = facts(n, seed)
    tuned = ft.Experiment(data=known, val=known[:4], probes=()).run(
        batch_size=8, max_steps=max_steps, eval_steps=1000, seed=seed, live=False, **asked)
    return ft.exact_match(tuned.model, tokenizer, known)


# %%
SEEN = {8: SEEDS[:1], 16: SEEDS, 32: SEEDS[:1]}
heart = {name: {n: [learned(n, seed, **asked) for seed in seeds] for n, seeds in SEEN.items()}
         for name, asked in RANKS.items()}
ft.table([{"method": name} | {f"{n} facts": shares for n, shares in by_n.items()}
          for name, by_n in heart.items()])

# %%
by_rank = {name: by_n[16] for name, by_n in heart.items()}
ft.expect(by_rank["LoRA r=1"], "<", by_rank["full"], "16 facts: rank 1 falls behind full")
share = sum(by_rank["LoRA r=1"]) / len(SEEDS)
few.score("nearly all" if share > 0.8 else "about half" if share > 0.4 else "few")

# %% [markdown]
# Read along the lines: 8 facts everyone learns, 32 nobody in these 48 steps; between them full is ahead,
# and eight times the rank helps little. (Other rates, 0.003 to 0.03, did not close the gap on two
# seeds.) But do the sum before you say "rank 1 is *full*": 16 codes out of 16 are 16 · 4 = 64 bits, and
# 14,592 numbers could hold far more: [two bits each](https://arxiv.org/abs/2404.05405) is reported for
# networks trained long enough. What ran out is *steps*, not room: see below. On large models, with
# millions of facts, it can be the room; the symptom is the same, a *training* loss above full's.

# %% [markdown]
# ## Break it: one rate for all
#
# A comparison you will meet often: "all methods were trained with the same hyperparameters".

# %%
tried = {(name, run.config.learning_rate): run for name, runs in sweep.items() for run in runs}
for missing in (("full", 1e-2), ("LoRA r=8", 1e-3)):
    tried[missing] = lab.run(config_of(*missing), seed=SEEDS[0], live=False)
same = {rate: {name: tried[name, rate].after["val_loss"] for name in ("full", "LoRA r=8")}
        for rate in (1e-3, 1e-2)}
verdict = {rate: min(losses, key=losses.get) for rate, losses in same.items()}
assert verdict == {1e-3: "full", 1e-2: "LoRA r=8"}
ft.table([{"rate for both": rate} | losses for rate, losses in same.items()])

# %% [markdown]
# The same two methods, and each wins once. The choice of the rate *was* the result.
#
# ## What if?
#
# Is rank 1 full, or slow? Give it three times the steps on the same 16 facts. Then try 32.

# %%
patient = learned(16, SEEDS[0], max_steps=144, **RANKS["LoRA r=1"])
patient

# %% [markdown]
# ## Now on a real LLM
#
# SmolLM2, three steps each, at rates that suit it. How many numbers does each train?

# %%

if download.has("smollm2"):
    real = ft.Experiment(model="smollm2", data="handwritten", probes=(), eval_records=6)
    few_steps = ft.Config(max_steps=3, batch_size=4, max_length=160, eval_steps=3)
    for rate, name in ((3e-4, "LoRA r=8"), (1e-2, "IA3")):
        asked = ASK[name].differs() | {"learning_rate": rate}
        run = real.run(few_steps.but(**asked))
        ft.expect(run.after["val_loss"], "<", run.before["val_loss"],
                  f"{name}, {run.trainable_parameters:,} numbers, learns")

# %% [markdown]
# ## Exercises
#
# **1.** How many numbers does a method train? `kv` is the width of keys (and of values), `inner`
# that of the MLP inside, `tokens` the virtual ones. method: "ia3", "prompt" or "prefix".


# %% tags=["raises-exception"]
def trained_numbers(method, layers, hidden, kv, inner, tokens):
    ...


ft.check("trained_numbers", trained_numbers)


# %% [markdown]
# **2.** After training, can it be folded into the weights so that the model is as fast as before?
# method: "lora", "dora", "pissa", "ia3", "prompt", "prefix" or "adapter".


# %% tags=["raises-exception"]
def can_be_merged(method):
    ...


ft.check("can_be_merged", can_be_merged)


# %% [markdown]
# **3.** The referee of a fair fight. `runs` is a list of dicts with method, rate and loss, several
# seeds each. Return the best rate of each method as a dict.


# %% tags=["raises-exception"]
def best_rate(runs):
    ...


ft.check("best_rate", best_rate)

# %% [markdown]
# ## Interview
#
# **Compare LoRA, adapters, prefix and prompt tuning, IA³.**
# <details><summary>Answer</summary>
# LoRA: a low-rank matrix, merges, the robust default. IA³: scaling vectors (614,400 on 7B), merges.
# Prefix: keys and values in each layer (20 tokens: 5.2 M); prompt: input vectors (82 thousand); both
# use up context and do not merge. Adapters: small MLPs, serial latency. Here prompt and IA³ lagged at
# equal steps.
# </details>
#
# **DoRA, rsLoRA, PiSSA, LoRA+ in a sentence each?**
# <details><summary>Answer</summary>
# DoRA adds a trained length for each row of W + BA. rsLoRA scales by α/√r, so high ranks keep their
# step. PiSSA starts from the top singular directions of W and freezes the rest. LoRA+ gives B a higher
# rate than A. Here, 3 seeds, own rates: DoRA and PiSSA within the spread of LoRA (LoRA+ not run). Tune
# the baseline first.
# </details>
#
# **Full or PEFT?**
# <details><summary>Answer</summary>
# Form and style: LoRA on all layers at its own rate (here 10 times the full one) was level, with 5 %
# of the numbers. Much new knowledge in few steps: full learned 16 random facts, rank 1 a part of
# them. Memory, many customers: LoRA. Forgetting does not decide it: no clear gap at an equal target.
# </details>

# %% [markdown]
# **When does LoRA underperform?**
# <details><summary>Answer</summary>
# When the data hold more than the update can learn in the given steps: many facts, a new language,
# billions of tokens. The training loss itself stays above full's. Here rank 1 learned 8 random facts
# but not 16, which full did in the same steps. To tell room from speed, sweep the rate for each rank,
# then give more steps.
# </details>
#
# **Is Med-PaLM an example of fine-tuning on medicine?**
# <details><summary>Answer</summary>
# No. Flan-PaLM stayed frozen; instruction prompt tuning learned soft prompts from a few dozen
# exemplars. It is PEFT of the smallest kind, on a model of 540 billion parameters: where prompt
# tuning works.
# </details>
#
# ## Recap
#
# - The family differs in where it acts: beside a matrix, on a scale, before the input.
# - A fair fight: own rate, equal steps, seeds, a difference wider than the spread.
# - LoRA, DoRA and PiSSA: level with one another and near full. IA³ and prompt tuning: behind at
#   equal steps on a small model; IA³ forgets more at an equal target.
# - Facts: in the same few steps full learned more by heart than LoRA of either rank. Before you blame
#   the room, count bits and give it time.
#
# In the package: [`ftkit/model/peft_methods.py`](../ftkit/model/peft_methods.py) says what is asked of peft. Next:
# [04 instruction tuning](04_instruction_tuning.ipynb).
