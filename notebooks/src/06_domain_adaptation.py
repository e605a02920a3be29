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
from ftkit.model import download

SEEDS = [0, 1, 2]
ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C25 C26 C27 -->
# ## The question
#
# > *"A law firm has thousands of contracts, 300 clauses that nobody sorted, and seven that somebody
# > did, one of each type. How do you make a model that sorts clauses?"*
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
clauses, test = ft.records("contracts_task"), ft.records("contracts_task", "test")
unlabelled = [{"text": r["input"]} for r in clauses]
labelled = list({r["output"]: r for r in clauses[::-1]}.values())  # the first of each type
asked = f"{labelled[0]['instruction']} {labelled[0]['input']}"
ft.table([{"for": "DAPT", "reads": contracts[0]["text"], "label": ""},
          {"for": "TAPT", "reads": unlabelled[0]["text"], "label": ""},
          {"for": "tuning", "reads": asked, "label": labelled[0]["output"]}])

# %% [markdown]
# <!-- claims: C13 C94 · E02 -->
# ## By hand: one loss for text, instructions and labels
#
# Pretraining, instruction tuning, classification: three names, one loss, the mean of `-log p(next
# token)`. They differ in the records and in which tokens carry loss. The same six lines for all:

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
surprise = ft.predict("Which text surprises the base most?",
                      "clinic", "contracts", "finance", "code", guess=...)
surprise

# %%
texts = {name: [ft.encode(r, tokenizer) for r in ft.records(name, "test")[:20]]
         for name in ("general", "contracts", "code", "clinic", "finance")}


def perplexity(model, name):
    return math.exp(ft.loss_on(model, texts[name]))


of_base = {name: perplexity(model, name) for name in texts}
ft.table([{"text": name, "perplexity of the base": ppl} for name, ppl in of_base.items()])

# %%
surprise.score(max(surprise.options, key=of_base.get))

# %% [markdown]
# <!-- claims: C5 C61 · E37 -->
# ## Ways to read on
#
# 24 steps of DAPT, 24 of TAPT, or both one after the other: 48. The **wrong domain** (finance
# headlines) is the control: it reads 48 steps as well, about something else. What it gains or loses
# is due to *more training*, not to the domain.

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
starts = {"none": [model] * len(SEEDS),
          "wrong domain": read_by_all(ft.records("finance"), max_steps=48),
          "TAPT": read_by_all(unlabelled), "DAPT": read_by_all(contracts)}
starts["DAPT + TAPT"] = [read_on((start, tokenizer), unlabelled, seed)
                         for start, seed in zip(starts["DAPT"], SEEDS, strict=True)]

# %%
ppl = {name: {text: [perplexity(m, text) for m in three] for text in ("contracts", "general")}
       for name, three in starts.items()}
ft.table([{"start": name} | columns for name, columns in ppl.items()])

# %%
ft.expect(ppl["DAPT"]["contracts"], "<", ppl["wrong domain"]["contracts"],
          "to read contracts it helps more to read contracts than headlines")
ft.expect(ppl["DAPT"]["general"], ">", ppl["none"]["general"], "and general text gets worse")
ft.expect(ppl["TAPT"]["general"], ">", ppl["DAPT"]["general"],
          "most of all with few, short, similar texts")
guess.score(max(guess.options, key=lambda name: sum(ppl[name]["general"])))

# %% [markdown]
# <!-- claims: C25 C26 C27 C28 · E37 -->
# ## Few labels
#
# The same tuning from all five starts: seven labelled clauses, 24 steps.

# %%
guess = ft.predict("Exact match on held-out clauses is best after ...",
                   "none", "wrong domain", "TAPT", "DAPT", "DAPT + TAPT", guess=...)
guess

# %%
tuning = ft.Config(learning_rate=5e-4, batch_size=7, max_steps=24, eval_steps=1000)


def tuned(start, seed, records=labelled):
    lab = ft.Experiment(model=(start, tokenizer), data=records, val=test[:8], probes=())
    return lab.run(tuning, seed=seed, live=False).model


sorters = {name: [tuned(start, seed) for start, seed in zip(three, SEEDS, strict=True)]
           for name, three in starts.items()}

# %%
exact = {name: [ft.exact_match(m, tokenizer, test) for m in three]
         for name, three in sorters.items()}
ft.table([{"start": name, "exact match": exact[name], "general perplexity": ppl[name]["general"]}
          for name in starts])

# %%
for name in ("DAPT", "DAPT + TAPT"):
    ft.expect(exact[name], ">", exact["none"], f"{name}: reading first helps the few labels")
lead = [a - b for a, b in zip(exact["DAPT + TAPT"], exact["wrong domain"], strict=True)]
ft.table([{"DAPT + TAPT against the control, equal steps": lead}])

# %%
guess.score(max(guess.options, key=lambda name: sum(exact[name])))

# %% [markdown]
# That is the paper's result, in small: reading the domain helps, most with the task's own texts
# after it (does TAPT alone? compare its lead with its spread). Is it the *domain*, or more
# training? The two together end ahead of the control, which read as long. Take it as a hint: with
# other seeds (100 to 102) the lead was no wider than the spread, and DAPT or TAPT alone, with half
# the steps, lead it by little.
#
# Two warnings stand in the tables. General text got worse, most where the sorting got best. And
# perplexity did not foretell the winner: DAPT + TAPT reads contracts worse than DAPT alone.

# %% [markdown]
# <!-- claims: C28 · E37 -->
# ## Break it: the order
#
# "DAPT, then tuning" is the order for a reason. Take the sorters that were tuned without any reading,
# and let them read contracts *afterwards*, for eight steps.

# %%
guess = ft.predict("Eight steps of reading after the tuning: exact match is ...",
                   "higher", "about the same", "lower", guess=...)
guess

# %%
late = [read_on((m, tokenizer), contracts, seed, max_steps=8)
        for m, seed in zip(sorters["none"], SEEDS, strict=True)]
after = [ft.exact_match(m, tokenizer, test) for m in late]
said = ft.answers(late[0], tokenizer, test[:4], max_new_tokens=16)
ft.table([{"asked": r["input"], "wanted": r["output"], "says": answer}
          for r, answer in zip(test[:4], said, strict=True)])

# %%
ft.expect(after, "<", exact["none"], "reading after the tuning undoes it")
guess.score("lower" if sum(after) < sum(exact["none"]) else "higher")

# %% [markdown]
# What is trained last is what the model does. The paper's order is DAPT, TAPT, labels; for chat models
# it is pretraining, instructions, preferences.
#
# <!-- claims: C5 · E16 -->
# ## Replay
#
# Mix a quarter of general text into the reading ([lesson 16](16_catastrophic_forgetting.ipynb)).

# %%
starts["DAPT, replay"] = read_by_all(contracts, replay=0.25)
ppl["DAPT, replay"] = {text: [perplexity(m, text) for m in starts["DAPT, replay"]]
                       for text in ("contracts", "general")}
ft.expect(ppl["DAPT, replay"]["general"], "<", ppl["DAPT"]["general"], "replay keeps general text")
ft.table([{"start": name} | ppl[name] for name in ("none", "DAPT", "DAPT, replay")])

# %% [markdown]
# It costs a little of the domain, at equal steps. At scale 1 to 25 % is usual, with a rate that is warmed
# up again ([Ibrahim et al.](https://arxiv.org/abs/2403.08763)); Code Llama did best at the *full*
# pretraining rate. "A much lower rate" is a rule of short tuning, not of reading on.

# %% [markdown]
# <!-- claims: C29 C30 C31 -->
# ## Three famous models, read correctly
#
# | model | starts from | trained how | is it domain adaptation? |
# |---|---|---|---|
# | [Code Llama](https://arxiv.org/abs/2308.12950) | Llama 2 | went on with 500 billion tokens, mostly code (70B: a trillion), then Python and Instruct variants | yes, the clean example of DAPT |
# | [Med-PaLM](https://arxiv.org/abs/2212.13138) | Flan-PaLM, frozen | instruction *prompt tuning*: a soft prompt from a few exemplars | no: no weight moved; PEFT ([lesson 03](03_the_peft_family.ipynb)) |
# | [BloombergGPT](https://arxiv.org/abs/2303.17564) | nothing | 363 billion finance and 345 billion general tokens | no: pretrained from scratch on a mixture |
#
# Three different things, and lists often call all three "fine-tuned for a domain".

# %% [markdown]
# ## Now on a real LLM
#
# Which of our domains would SmolLM2 have to learn? Bits per byte, since the tokenizers differ
# ([lesson 14](14_perplexity.ipynb)).

# %%
from ftkit.evaluate import perplexity as per

REAL = download.has("smollm2")
named = {"tiny": (model, tokenizer)} | ({"smollm2": ft.load("smollm2")} if REAL else {})
ft.table([{"text": name} | {which: per.bits_per_byte(per.score(
    *pair, [r["text"] for r in ft.records(name, "test")[:6]])) for which, pair in named.items()}
          for name in texts])

# %% [markdown]
# ## What if?
#
# One number to change: labels of each type. When does reading no longer pay? Look at the spread
# before you answer.

# %%
labels = 2
more = [r for kind in labelled for r in [c for c in clauses if c["output"] == kind["output"]][:labels]]
ft.table([{"start": name, f"exact match, {labels} of each type": [
    ft.exact_match(tuned(start, seed, more), tokenizer, test)
    for start, seed in zip(starts[name], SEEDS, strict=True)]} for name in ("none", "DAPT + TAPT")])

# %% [markdown]
# ## Exercises
#
# **1.** How was each made? `"from scratch"`, `"continued pretraining"`, `"prompt tuning"` or
# `"instruction tuning"`.

# %% tags=["raises-exception"]
made = {"BloombergGPT": ..., "Med-PaLM": ..., "Code Llama": ..., "Alpaca": ..., "TAPT": ...}
ft.check("how_it_was_made", made)

# %% [markdown]
# **2.** What pretraining does with texts (lists of ids): join them, `eos` after each, and cut the
# stream into blocks of `length`; the last may be shorter. Each block is `{"input_ids": ..., "labels":
# ...}`; the first token has nothing before it, so its label is -100.


# %% tags=["raises-exception"]
def text_blocks(texts, eos, length):
    ...


ft.check("text_blocks", text_blocks)

# %% [markdown]
# **3.** GPU-hours of reading `tokens` with a model of `parameters`: 6 FLOPs per parameter and token, on
# GPUs of `flops` per second of which `utilisation` is reached.


# %% tags=["raises-exception"]
def gpu_hours(parameters, tokens, flops, utilisation):
    ...


ft.check("gpu_hours", gpu_hours)

# %% [markdown]
# ## Interview
#
# **Define DAPT and TAPT.**
# <details><summary>Answer</summary>
# Both go on with language-model pretraining on unlabelled text, before tuning. DAPT reads a large
# corpus of the domain; TAPT reads the task's own texts, far fewer (about 60 times faster in the paper)
# and helps after DAPT too. TAPT is not instruction tuning.
# </details>
#
# **Are Med-PaLM, Code Llama and BloombergGPT fine-tuned for a domain?**
# <details><summary>Answer</summary>
# Code Llama: continued pretraining of Llama 2, then tuning. Med-PaLM: Flan-PaLM, frozen, with a
# learned soft prompt. BloombergGPT: from scratch, 363 billion finance and 345 billion general tokens.
# </details>

# %% [markdown]
# **Plan continued pretraining of an 8B model on 10 billion medical tokens.**
# <details><summary>Answer</summary>
# From the base checkpoint; warm up again and decay, peak by a sweep, up to that of pretraining;
# full weights; replay 1 to 25 % general text; watch domain and general perplexity and a fixed suite;
# then SFT again. 6 · 8e9 · 1e10 FLOPs are some 1,070 A100-hours at 40 %.
# </details>
#
# **Contracts that change every week: continued pretraining, or retrieval?**
# <details><summary>Answer</summary>
# Retrieval: what stands in one document is looked up, cited, and replaced when it changes; a fact read
# once or twice is not learned reliably. Reading on moves what is common to all documents: words, style,
# form. It costs general text, and is to be done again for every new base. They combine.
# </details>
#
# ## Recap
#
# - DAPT reads the domain, TAPT the task's own texts; neither sees a label or an instruction.
# - Both help when labels are few. Without a wrong-domain arm of as many steps that cannot be put
#   down to the domain.
# - Reading costs general text; replay brings about half of it back. What is trained last is what
#   the model does.
#
# Before this came [05 templates and the bug zoo](05_templates_and_the_bug_zoo.ipynb); next,
# [07 learning rate](07_learning_rate.ipynb). How to keep what a model knew is
# [lesson 16](16_catastrophic_forgetting.ipynb).
