# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 19 · Multi-task mixing: who gets the gradient
#
# **Claim: put all tasks into one set and sample in proportion to their size; training on several
# tasks helps each of them.** It could be wrong. After this lesson you can
#
# - compute proportional, capped, temperature and equal shares, and their price in repeats;
# - tell the share you configured from the share that the loss sees;
# - measure transfer between tasks, and find that it can be negative.
#
# *About 25 minutes. The code needs a minute on two CPU cores. You need lessons
# [04](04_instruction_tuning.ipynb) and [08](08_the_small_knobs.ipynb).*

# %%
import ftkit as ft
from ftkit.model import download

SEEDS = [0, 1, 2]
ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C83 C89 C90 C91 · E40 -->
# ## The question
#
# > *"Three data sets: a million rows, a hundred thousand, five thousand. How do you mix them?"*
#
# "Concatenate and shuffle" is proportional sampling. Is it what you want?
#
# ## By hand: three numbers and two knobs
#
# [T5](https://arxiv.org/abs/1910.10683) draws a task with `e` examples at a rate of `min(e, K)`:
# proportional, with a **cap** K. Or it raises that rate to the power `1/T`; T is the **temperature**.

# %%
def shares_of(weights):
    return {task: weight / sum(weights.values()) for task, weight in weights.items()}


# %%
sizes = {"large": 1_000_000, "middle": 100_000, "small": 5_000}
strategies = {
    "proportional": shares_of(sizes),
    "cap K = 131,072": shares_of({task: min(e, 131_072) for task, e in sizes.items()}),
    "temperature 2": shares_of({task: e ** (1 / 2) for task, e in sizes.items()}),
    "equal": shares_of({task: 1 for task in sizes}),
}

# %%
draws = sum(sizes.values())
ft.table([{"strategy": name, **{task: f"{share:.1%}" for task, share in shares.items()},
           "passes over small": shares["small"] * draws / sizes["small"]}
          for name, shares in strategies.items()])

# %% [markdown]
# The last column is the price of flattening: the small set is seen again and again. And
# "examples-proportional mixing" is not a third thing beside proportional: it *is* proportional, with
# a cap. The third thing is equal mixing, which T5 found worst.
#
# ## The same with ft
#
# One formula holds them all: `min(e, K) ** (1 / T)`, made to sum to one.

# %%
import math

from ftkit.data import mixing

same = {"proportional": mixing.rates(sizes), "cap K = 131,072": mixing.rates(sizes, cap=131_072),
        "temperature 2": mixing.rates(sizes, temperature=2),
        "equal": mixing.rates(sizes, temperature=math.inf)}
for name, shares in strategies.items():
    assert all(abs(shares[task] - same[name][task]) < 1e-12 for task in sizes)

# %% [markdown]
# ## A starved task
#
# Translation has 800 records here, capitals 80, and the type of a clause 24, each of the seven types
# at least once. We draw 480 records, by four strategies.

# %%
sets = {"translation": ft.records("translation"), "capital": ft.records("capital")[:80],
        "clauses": ft.records("contracts_task")[:24]}
tests = {"translation": ft.records("translation", "test")[:30],
         "capital": ft.records("capital", "test")[:30],
         "clauses": ft.records("contracts_task", "test")[:30]}
counts = {task: len(records) for task, records in sets.items()}
plans = {"proportional": mixing.rates(counts), "cap K = 100": mixing.rates(counts, cap=100),
         "temperature 2": mixing.rates(counts, temperature=2),
         "equal": mixing.rates(counts, temperature=math.inf)}
ft.table([{"strategy": name, **mixing.counts(shares, 480)} for name, shares in plans.items()])

# %%
guess = ft.predict("Clauses under proportional mixing (exact match, in per cent) end at about ...",
                   "10", "30", "60", "90", guess=...)
guess


# %%
config = ft.Config(learning_rate=1e-3, eval_steps=1000)
model, tokenizer = ft.load("tiny")


def trained(records, seed, config=config):
    lab = ft.Experiment(data=records, val=tests["clauses"], probes=(), eval_records=8)
    return lab.run(config, seed=seed, live=False)


def scores(run):
    return {task: ft.exact_match(run.model, tokenizer, test) for task, test in tests.items()}


# %%
results = {name: [scores(trained(mixing.draw(sets, 480, shares, seed), seed)) for seed in SEEDS]
           for name, shares in plans.items()}


def of(name, task):
    return [result[task] for result in results[name]]


# %%
ft.table([{"strategy": name, **{task: of(name, task) for task in sets},
           "passes over clauses": mixing.counts(plans[name], 480)["clauses"] / 24}
          for name in plans])

# %%
ft.expect(of("proportional", "clauses"), "<", of("equal", "clauses"),
          "in proportion to size the small task starves")
ft.expect(of("proportional", "clauses"), "<", of("temperature 2", "clauses"),
          "a temperature feeds it")

# %%
starved = 100 * sum(of("proportional", "clauses")) / len(SEEDS)
guess.score(str(min((10, 30, 60, 90), key=lambda option: abs(option - starved))))

# %% [markdown]
# What did the large task pay? Compare its column, with its spread. Where it pays nothing, flattening
# is free up to the point where the small set is learned by heart; T5 found its best at T = 2.
#
# <!-- claims: C89 · E40 -->
# ## Configured share, effective share
#
# `equal` says a third for each. But the gradient averages over **tokens with loss**, and a
# translation has more of them than "law".

# %%
guess = ft.predict("Equal mixing: the clauses' share of the tokens with loss is about ...",
                   "33 %", "29 %", "15 %", guess=...)
guess

# %%
mixed = mixing.draw({task: [r | {"task": task} for r in records] for task, records in sets.items()},
                    480, plans["equal"], seed=0)
effective = mixing.effective(mixed, tokenizer)
ft.expect(effective["clauses"], "<", plans["equal"]["clauses"], "short answers weigh less")
ft.table([{"task": task, "configured": plans["equal"][task], "effective": effective[task]}
          for task in sets])

# %%
percent = 100 * effective["clauses"]
guess.score(f"{min((33, 29, 15), key=lambda option: abs(option - percent))} %")

# %% [markdown]
# With an essay task in the mix the rest would vanish. If tasks are to count equally, divide the
# configured share by the mean number of labelled tokens:

# %%
per_record = {task: effective[task] / plans["equal"][task] for task in sets}
even = shares_of({task: 1 / per_record[task] for task in sets})
even_draw = mixing.draw({task: [r | {"task": task} for r in records]
                         for task, records in sets.items()}, 480, even, seed=0)
balanced = mixing.effective(even_draw, tokenizer)
assert all(abs(share - 1 / 3) < 0.06 for share in balanced.values())
ft.table([{"task": task, "configured": even[task], "effective": balanced[task]} for task in sets])

# %% [markdown]
# <!-- claims: C84 C85 C86 C87 C88 · E41 -->
# ## Does one task help another?
#
# 12 records of a target task. Alone they fill all 192 draws; beside another task they are a quarter of
# them: equal steps. More than alone is **positive transfer**, less is **negative transfer**. One of
# the neighbors asks what `capital` asks and answers in a sentence: another team's style.

# %%
def in_a_sentence(record):
    return record | {"output": f"I think that it is {record['output']}, but please check it."}


pool = {task: ft.records(task) for task in ("to_past", "to_negative", "who", "capital")}
pool["capital in sentences"] = [in_a_sentence(r) for r in pool["capital"][60:]]
ft.table([records[2] for records in pool.values()])

# %%
guess = ft.predict("'to_past' beside 'to_negative': exact match on its held-out sentences is ...",
                   "lower than alone", "about the same", "higher than alone", guess=...)
guess


# %%
def together(target, neighbor, seed):
    own, other = pool[target][:12], pool[neighbor][-144:]
    if neighbor == target:
        return mixing.draw({target: own}, 192, {target: 1}, seed)
    return mixing.draw({target: own, neighbor: other}, 192, {target: 0.25, neighbor: 0.75}, seed)


def transfer(target, neighbor, seed):
    run = trained(together(target, neighbor, seed), seed, config.but(batch_size=8))
    return ft.exact_match(run.model, tokenizer, ft.records(target, "test"))


# %%
pairs = [("to_past", "to_past"), ("to_past", "to_negative"), ("to_past", "who"),
         ("capital", "capital"), ("capital", "who"), ("capital", "capital in sentences")]
matrix = {pair: [transfer(*pair, seed) for seed in SEEDS] for pair in pairs}
ft.table([{"target": target, "beside": "alone" if neighbor == target else neighbor,
           "exact match": three} for (target, neighbor), three in matrix.items()])

# %%
past, capital = matrix["to_past", "to_past"], matrix["capital", "capital"]
ft.expect(matrix["to_past", "to_negative"], ">", past, "positive: a sentence again, its verb changed")
ft.expect(matrix["to_past", "who"], "==", past, "an unrelated neighbor against none")
ft.expect(matrix["capital", "capital in sentences"], "<", capital, "negative: two answers to one ask")

# %%
guess.score("higher than alone" if sum(matrix["to_past", "to_negative"]) > sum(past)
            else "lower than alone")

# %% [markdown]
# Positive where the two share a skill that 12 records alone cannot teach: to say a sentence again with
# its verb changed. Negative where they contradict each other and nothing in the prompt says which rule
# holds: the model then follows the majority. And look at `capital` beside `who`, which have nothing in
# common: alone it sees its 12 records 16 times, in company 4 times, and it is not worse for that.
#
# T5's own result is quoted wrongly for "multi-task helps": plain multi-task training was *worse*
# than pretraining and fine-tuning (81.4 against 83.3 on GLUE); with fine-tuning on each task
# afterwards it tied. [FLAN](https://arxiv.org/abs/2109.01652) gained on *unseen* tasks, with 62 data
# sets; the 1,836 tasks are [Flan 2022](https://arxiv.org/abs/2301.13688).

# %% [markdown]
# ## Break it: a cap of one
#
# The cap flattens as well. What is `K = 1`? And a temperature below one?

# %%
assert all(abs(share - 1 / 3) < 1e-9 for share in mixing.rates(sizes, cap=1).values())
ft.table([{"temperature": t, **{task: f"{share:.2%}" for task, share in
                                mixing.rates(sizes, temperature=t).items()}}
          for t in (0.5, 1, 2, 4, 100)])

# %% [markdown]
# ## Now on a real LLM
#
# The effective share depends on the tokenizer too. The same mixture in SmolLM2's tokens.

# %%
from ftkit.model import loading

REAL = download.has("smollm2")
if REAL:
    theirs = mixing.effective(mixed, loading.load_tokenizer("smollm2"))
    print({task: f"{effective[task]:.0%} in tiny's tokens, {theirs[task]:.0%}" for task in sets})

# %% [markdown]
# ## What if?
#
# One number to change. How warm may it get before translation pays?

# %%
temperature = 4
shares = mixing.rates(counts, temperature=temperature)
what_if = scores(trained(mixing.draw(sets, 480, shares, seed=0), seed=0))
ft.table([{"temperature": temperature, **what_if}])


# %% [markdown]
# ## Exercises
#
# **1.** Shares of the tasks: cap `K` (None: no cap) and temperature `T`, which may be `math.inf`.

# %% tags=["raises-exception"]
def mixing_shares(sizes, T=1.0, K=None):
    ...


ft.check("mixing_shares", mixing_shares)

# %% [markdown]
# **2.** The highest temperature at which the smallest task is seen at most `passes` times in `draws`
# draws (to 0.01).

# %% tags=["raises-exception"]
def warmest(sizes, draws, passes):
    ...


ft.check("warmest", warmest)

# %% [markdown]
# **3.** Configured shares such that each task gets an equal share of the tokens with loss, given
# the mean number of labelled tokens in one record of each task.

# %% tags=["raises-exception"]
def shares_for_equal_tokens(labelled_tokens):
    ...


ft.check("shares_for_equal_tokens", shares_for_equal_tokens)

# %% [markdown]
# ## Interview
#
# **Sizes 1M, 100k, 5k: compare proportional, cap K = 131,072, temperature 2.**
# <details><summary>Answer</summary>
# Proportional 90.5 / 9.05 / 0.45 %; cap 55.5 / 42.4 / 2.1 %; T = 2 takes roots, 72.1 / 22.8 / 5.1 %.
# With 1.1 M draws T = 2 shows the small set 11 times. T → ∞ is equal, the worst in T5.
# </details>
#
# **A task of 2 % of the rows stays bad. What do you look at?**
# <details><summary>Answer</summary>
# Its share of the tokens with loss, not of the rows: short answers shrink it again. Then passes over
# it. Raise T or cap the others, watch the score of each task, and stop when its training loss is
# memorized.
# </details>

# %% [markdown]
# **Does T5 show that multi-task training helps?**
# <details><summary>Answer</summary>
# No: plain multi-task was worse than pretrain, then fine-tune (GLUE 81.4 against 83.3); multi-task
# pretraining plus fine-tuning on each task tied (83.1). FLAN shows gains on unseen tasks, at many
# tasks.
# </details>
#
# **One multi-task model, many adapters, or merging?**
# <details><summary>Answer</summary>
# Joint training shares signal and needs balanced sampling and a full retrain for a new task. Adapters
# isolate owners and need routing. Merging is cheap and fails where updates conflict. I would measure
# the transfer matrix: a negative pair wants two adapters.
# </details>
#
# ## Recap
#
# - `min(e, K) ** (1 / T)` is proportional, capped, warm and equal in one line; the price is repeats.
# - The loss counts tokens. A third of the records is not a third of the gradient.
# - Transfer has a sign. Measure it for your pair before you promise it.
#
# Before this came [18 data quality](18_data_quality.ipynb); next,
# [20 preferences](20_preferences.ipynb).
