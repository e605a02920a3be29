# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · Domain adaptation: DAPT, TAPT, and the control that is left out
#
# **Claim: to specialise a model, train it on text of the domain, then tune it on instructions of the
# domain (TAPT). Med-PaLM, Code Llama and BloombergGPT were made this way.** Much of it is wrong. After
# this lesson you can
#
# - run DAPT and TAPT, and say what each of them reads;
# - judge them by *two* perplexities, and by a control that most reports leave out;
# - say how each of the famous models was really made.
#
# *About 30 minutes. The code needs a minute on two CPU cores. You need lessons
# [04](04_instruction_tuning.ipynb) and [14](14_perplexity.ipynb), the latter for perplexity only.*

# %%
import ftkit as ft

SEEDS = [0, 1, 2]
ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C25 C26 C27 -->
# ## The question
#
# > *"A law firm has thousands of contracts, 300 clauses that nobody sorted, and 16 that somebody did.
# > How do you make a model that sorts clauses?"*
#
# Three words first, from [Don't stop pretraining](https://arxiv.org/abs/2004.10964):
#
# - **DAPT**, domain-adaptive pretraining: go on with pretraining, on raw text of the *domain*.
# - **TAPT**, task-adaptive pretraining: the same on the *task's own* texts, without their labels.
# - then ordinary tuning on the few labels.
#
# So TAPT is not "instruction tuning on domain tasks": it sees neither instruction nor label.

# %%
contracts = ft.records("contracts")
labelled, test = ft.records("contracts_task")[:16], ft.records("contracts_task", "test")
unlabelled = [{"text": r["input"]} for r in ft.records("contracts_task")]
ft.table([{"for": "DAPT", "record": contracts[0]}, {"for": "TAPT", "record": unlabelled[0]},
          {"for": "tuning", "record": labelled[0]}])

# %% [markdown]
# <!-- claims: C13 C94 · E02 -->
# ## By hand: one loss for text, instructions and labels
#
# Pretraining, instruction tuning, classification: three names, one loss, the mean of `-log p(next
# token)`. They differ in the records and in which tokens carry loss. The same five lines for all:

# %%
import math

import torch

model, tokenizer = ft.load("tiny")


def loss_by_hand(record):
    example = ft.encode(record, tokenizer)
    ids, labels = (torch.tensor(example[name]) for name in ("input_ids", "labels"))
    with torch.no_grad():
        log_p = model(ids[None]).logits[0, :-1].log_softmax(-1)
    counts = labels[1:] != -100
    return -log_p[counts].gather(1, labels[1:][counts, None]).mean().item(), counts.float().mean()


# %%
three = {"raw text": contracts[0], "an instruction": ft.records("translation")[0],
         "a class, as a word": labelled[0]}
for record in three.values():
    assert abs(loss_by_hand(record)[0] - ft.loss_on(model, [ft.encode(record, tokenizer)])) < 1e-3
ft.table([{"record": name, "loss": loss_by_hand(record)[0],
           "share of tokens with loss": loss_by_hand(record)[1].item()}
          for name, record in three.items()])

# %%
ft.show_batch([contracts[1], labelled[0]], tokenizer)

# %% [markdown]
# Text has no prompt: all of it carries loss.
#
# <!-- claims: C61 · E33 -->
# ## How well does the base read each domain?
#
# Perplexity on texts that nobody trained on. It is the right measure here, since reading is what
# DAPT trains, as long as you always look at *general* text beside it.

# %%
ft.predict("Which text surprises the base most?", "clinic notes", "contracts", "finance headlines",
           "Python code")

# %%
texts = {name: [ft.encode(r, tokenizer) for r in ft.records(name, "test")[:60]]
         for name in ("general", "contracts", "code", "clinic", "finance")}


def perplexity(model, name):
    return math.exp(ft.loss_on(model, texts[name]))


ft.table([{"text": name, "perplexity of the base": perplexity(model, name)} for name in texts])

# %% [markdown]
# <!-- claims: C25 C26 C27 C28 · E37 -->
# ## Four ways to read on, and none
#
# 16 steps of 8 texts each. The **wrong domain** (finance headlines) is the control: it reads just as
# much, about something else. What this arm gains or loses is due to *more training*, not to the
# domain.

# %%
guess = ft.predict("16 labelled clauses, held-out exact match: the best start is ...",
                   "none", "wrong domain", "TAPT", "DAPT", "DAPT + TAPT", guess=...)
guess


# %%
lm = ft.Config(learning_rate=1e-3, batch_size=8, max_steps=16, eval_steps=1000)


def read_on(start, texts, seed, **changes):
    lab = ft.Experiment(model=start, data=texts, val=texts[:8], probes=())
    return lab.run(lm, seed=seed, live=False, **changes).model


# %%
read = {"none": [model] * len(SEEDS)}
for name, source in {"wrong domain": ft.records("finance"), "TAPT": unlabelled,
                     "DAPT": contracts}.items():
    read[name] = [read_on("tiny", source, seed) for seed in SEEDS]
read["DAPT + TAPT"] = [read_on((start, tokenizer), unlabelled, seed)
                       for start, seed in zip(read["DAPT"], SEEDS, strict=True)]

# %%
ppl = {name: {text: [perplexity(m, text) for m in three] for text in ("contracts", "general")}
       for name, three in read.items()}
ft.table([{"start": name} | columns for name, columns in ppl.items()])

# %%
ft.expect(ppl["DAPT"]["contracts"], "<", ppl["wrong domain"]["contracts"],
          "reading contracts helps to read contracts more than reading headlines does")
ft.expect(ppl["DAPT"]["general"], ">", ppl["none"]["general"], "and general text gets worse")

# %% [markdown]
# Now the sixteen labels, and the same tuning for all five.

# %%
sft = ft.Config(learning_rate=5e-4, batch_size=8, max_steps=16, eval_steps=1000)


def sorts(start, seed, records=labelled):
    lab = ft.Experiment(model=(start, tokenizer), data=records, val=test[:8], probes=())
    return ft.exact_match(lab.run(sft, seed=seed, live=False).model, tokenizer, test)


exact = {name: [sorts(start, seed) for start, seed in zip(three, SEEDS, strict=True)]
         for name, three in read.items()}
ft.table([{"start": name, "exact match": exact[name], "general perplexity": ppl[name]["general"]}
          for name in read])
