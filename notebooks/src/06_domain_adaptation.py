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
# <!-- claims: C5 C61 · E37 -->
# ## Four ways to read on
#
# 24 steps each. The **wrong domain** (finance headlines) is the control: it reads as much, about
# something else. What that arm gains or loses is due to *more training*, not to the domain.

# %%
guess = ft.predict("Which start reads general text worst afterwards?",
                   "wrong domain", "TAPT", "DAPT", "DAPT + TAPT", guess=...)
guess


# %%
reading = ft.Config(learning_rate=1e-3, batch_size=4, max_steps=24, eval_steps=1000)


def read_on(start, texts, seed, **changes):
    lab = ft.Experiment(model=start, data=texts, val=texts[:8], probes=())
    return lab.run(reading, seed=seed, live=False, **changes).model


def read_by_all(source, **changes):
    return [read_on("tiny", source, seed, **changes) for seed in SEEDS]


# %%
starts = {"none": [model] * len(SEEDS), "wrong domain": read_by_all(ft.records("finance")),
          "TAPT": read_by_all(unlabelled), "DAPT": read_by_all(contracts)}
starts["DAPT + TAPT"] = [read_on((start, tokenizer), unlabelled, seed)
                         for start, seed in zip(starts["DAPT"], SEEDS, strict=True)]

# %%
ppl = {name: {text: [perplexity(m, text) for m in three] for text in ("contracts", "general")}
       for name, three in starts.items()}
guess.score(max(list(starts)[1:], key=lambda name: sum(ppl[name]["general"])))
ft.table([{"start": name} | columns for name, columns in ppl.items()])

# %%
ft.expect(ppl["DAPT"]["contracts"], "<", ppl["wrong domain"]["contracts"],
          "to read contracts it helps more to read contracts than headlines")
ft.expect(ppl["DAPT"]["general"], ">", ppl["none"]["general"], "and general text gets worse")
ft.expect(ppl["TAPT"]["general"], ">", ppl["DAPT"]["general"],
          "most of all with few, short, similar texts")

# %% [markdown]
# <!-- claims: C25 C26 C27 C28 · E37 -->
# ## Few labels
#
# The same tuning from all five starts: 16 labelled clauses, 24 steps.

# %%
guess = ft.predict("Exact match on held-out clauses is best after ...",
                   "none", "wrong domain", "TAPT", "DAPT", "DAPT + TAPT", guess=...)
guess

# %%
tuning = ft.Config(learning_rate=5e-4, batch_size=8, max_steps=24, eval_steps=1000)


def tuned(start, seed):
    lab = ft.Experiment(model=(start, tokenizer), data=labelled, val=test[:8], probes=())
    return lab.run(tuning, seed=seed, live=False).model


sorters = {name: [tuned(start, seed) for start, seed in zip(three, SEEDS, strict=True)]
           for name, three in starts.items()}

# %%
exact = {name: [ft.exact_match(m, tokenizer, test) for m in three]
         for name, three in sorters.items()}
ft.table([{"start": name, "exact match": exact[name], "general perplexity": ppl[name]["general"]}
          for name in starts])

# %%
ft.expect(exact["DAPT"], ">", exact["wrong domain"], "the domain counts, not more training")
ft.expect(exact["DAPT"], ">", exact["TAPT"], "a broad text beats few short ones")
ft.expect(exact["DAPT"], "==", exact["none"], "but over no reading at all there is no gain here")
guess.score(max(exact, key=lambda name: sum(exact[name])))

# %% [markdown]
# Reading contracts beats reading something else, so the domain counts. Against *no* reading the table
# shows no gain: the base had seen such clauses' words, and the price is on the right, in general text.
# The published gains are real, for larger corpora and harder domains: measure before you pay.
#
# ## Three famous names
# <!-- claims: C25 C29 C30 C31 -->
#
# [Code Llama](https://arxiv.org/abs/2308.12950) is DAPT: Llama 2 read 500 billion more tokens, mostly
# code. [BloombergGPT](https://arxiv.org/abs/2303.17564) is **not** adapted, it was trained from scratch
# on finance and general text together. [Med-PaLM](https://arxiv.org/abs/2212.13138) read nothing more:
# its weights stayed frozen and a soft prompt was learned.

# %% [markdown]
# ## Exercises
#
# **1.** How was each made? `"from scratch"`, `"continued pretraining"`, `"prompt tuning"` or
# `"instruction tuning"`.

# %% tags=["raises-exception"]
how = {"BloombergGPT": ..., "Med-PaLM": ..., "Code Llama": ..., "Alpaca": ..., "TAPT": ...}
ft.check("how_it_was_made", how)

# %% [markdown]
# **2.** Lists of token ids → blocks for language modelling: join the texts with `eos` after each, cut
# into `length`, keep the short last block. A block is `{"input_ids": ..., "labels": ...}`; the first
# label is -100, the others are the ids.


# %% tags=["raises-exception"]
def text_blocks(texts, eos, length):
    ...


ft.check("text_blocks", text_blocks)

# %% [markdown]
# **3.** GPU hours of continued pretraining: 6 FLOPs for each parameter and token, a GPU of `flops` per
# second, of which `utilisation` is reached.


# %% tags=["raises-exception"]
def gpu_hours(parameters, tokens, flops, utilisation):
    ...


ft.check("gpu_hours", gpu_hours)

# %% [markdown]
# ## Interview
#
# **DAPT or TAPT?**
# <details><summary>Answer</summary>
# Both are language modelling on raw text, no instructions: DAPT on a domain corpus, TAPT on the task's
# own unlabelled text, which is smaller and cheaper. In the paper the order DAPT, TAPT, then labels was
# best. Here a few short texts also did most damage to general text.
# </details>
#
# **How do you know that it was worth it?**
# <details><summary>Answer</summary>
# Domain *and* general perplexity, the task with few labels, a control that read another domain, and
# one that read nothing, over seeds. The control separates the domain from more training.
# </details>

# %% [markdown]
# ## Recap
#
# - DAPT and TAPT are continued pretraining; instruction tuning on domain tasks is neither.
# - The wrong domain is the control. Here the domain counted, and reading nothing did as well.
# - General text pays: watch both perplexities.
#
# Next: [07 the learning rate](07_learning_rate.ipynb); what is lost is
# [16](16_catastrophic_forgetting.ipynb).
