# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 19 · Multi-task mixing: draws, repeats and labeled tokens
#
# **Claim: put all tasks into one set and sample in proportion to their size; training on several
# tasks helps each of them.** It could be wrong. After this lesson you can
#
# - compute proportional, capped, temperature and equal sampling, and what they cost in repeats;
# - distinguish the fraction of draws you configured from a task's fraction of the labeled tokens;
# - measure whether one task helps or harms another;
# - choose a mixture by short proxy runs, and check the choice at full length.
#
# *About 45 minutes. The code needs a minute and a half on two CPU cores. You need lessons
# [04](04_instruction_tuning.ipynb) and [08](08_the_small_knobs.ipynb). Usual values, methods by name and pitfalls
# are on the [reference page](reference/19_multi_task.md).*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C83 C89 C90 C91 · E40 -->
# ## The question
#
# One model shall serve three teams. The translators bring a million rows, support a hundred thousand, and the lawyers
# five thousand:
#
# > *"How do you mix them?"*
#
# "Concatenate and shuffle" is **proportional** sampling: a task is drawn as often as its size says.
# The lawyers then get half a percent of the draws. Is that what you want?
#
# ## The idea: two knobs
#
# [T5](https://arxiv.org/abs/1910.10683) has two knobs. The **cap** K counts a task of more than K
# records as if it had K. The **temperature** T raises the capped size to the power 1/T before
# everything is divided by the sum:
#
# $$p_i = \frac{\min(e_i, K)^{1/T}}{\sum_j \min(e_j, K)^{1/T}} \qquad e_i: \text{records of task } i$$

# %% [markdown]
# T = 1 without a cap is proportional, and a large T makes all tasks **equal**.
#
# ![Stacked bars of the draws from tasks of 1,000,000, 100,000 and 5,000 records. Proportional: 90.5, 9 and 0.5 %, one pass over the small task. Cap of 131,072: 55.5, 42 and 2.1 %, 4.7 passes. Temperature 2: 72.1, 23 and 5.1 %, 11.3 passes. Equal: 33 % each, 73.7 passes.](figures/19_multi_task.svg)
#
# The right column is the price: what the small task gains in draws, it gains in repeats. It counts the
# passes over the small task, for as many draws as there are records in all.
#
# ## Your turn: the sampling shares


# %% tags=["raises-exception"]
def mixing_shares(sizes, temperature=1.0, cap=None):
    """Probability of drawing each task, a dict like sizes whose values sum to 1.

    sizes: task -> number of records. cap: K above, None for no cap. temperature may be math.inf.
    """
    ...


ft.check("mixing_shares", mixing_shares)

# %% [markdown]
# How far does the temperature move the three shares?

# %%
import math

from ftkit.inside import mixing
from ftkit.teaching import at_135m, direction, working

shares_of = working("mixing_shares", mixing_shares)  # yours, if it passed the check
sizes = {"large": 1_000_000, "middle": 100_000, "small": 5_000}
ft.table([{"temperature": t} | shares_of(sizes, t) for t in (0.5, 1, 2, 4, math.inf)])

# %% [markdown]
# ## Run it: a starved task
#
# Here translation has 800 records, capitals have 80, and naming the type of a clause has 24. There are
# seven types of clause, so a random guess is right in 1/7 = 14 % of the cases. Every strategy draws 480
# records, 30 steps of 16. How often does each go through the clauses?

# %%
def of_task(task, source, n):
    return [record | {"task": task} for record in ft.records(source)[:n]]


sets = {"translation": of_task("translation", "translation", 800),
        "capital": of_task("capital", "capital", 80),
        "clauses": of_task("clauses", "contracts_task", 24)}
tests = {"translation": ft.records("translation", "test")[:30],
         "clauses": ft.records("contracts_task", "test")[:30]}
counts = {task: len(records) for task, records in sets.items()}

# %%
plans = {"proportional": shares_of(counts), "temperature 2": shares_of(counts, 2),
         "equal": shares_of(counts, math.inf)}
draws = {name: mixing.counts(shares, 480) for name, shares in plans.items()}
ft.table([{"strategy": name} | numbers | {"passes over clauses": numbers["clauses"] / 24}
          for name, numbers in draws.items()])

# %% [markdown]
# Proportional sampling does not even see each clause once. Equal sampling goes through them almost seven
# times, and takes more than half of translation's draws away. What does translation lose? `translation_loss` is its
# loss, `val_loss` that of the clauses.

# %%
price = ft.predict("Loss on translation at the end, equal sampling against proportional, is",
                   "lower", "no difference seen", "higher")
price


# %%
def trained(records, seed, batch_size=16, eval_steps=1000):
    lab = ft.Experiment(data=records, val=tests["clauses"], eval_records=8,
                        probes={"translation": tests["translation"]})
    return lab.run(learning_rate=1e-3, eval_steps=eval_steps, batch_size=batch_size, seed=seed,
                   precision="fp32", live=False)


def scores(run):
    return {task: ft.exact_match(run.model, run.tokenizer, test) for task, test in tests.items()}


# %%
SEEDS = range(5)
runs, results = {}, {}
for name, shares in plans.items():
    runs[name] = [trained(mixing.draw(sets, 480, shares, seed), seed, eval_steps=10)
                  for seed in SEEDS]
    results[name] = [scores(run) for run in runs[name]]

# %%
ft.curves(runs, "val_loss", "translation_loss")

# %% [markdown]
# Left is the loss on the clauses, right that on translation, on a log scale; a band is ± one standard deviation
# over five seeds. The more often the clauses are drawn, the lower their loss. Exact match, on 30 test items each:

# %%
def exact(strategy, task):
    return [result[task] for result in results[strategy]]


ft.table([{"strategy": name} | {task: exact(name, task) for task in tests} for name in plans])

# %%
NAMES = {"<": "lower", ">": "higher", "": "no difference seen"}
verdict = ft.expect(exact("proportional", "clauses"), "<", exact("equal", "clauses"), paired=True,
                    claim="in proportion to its size the small task starves")
ft.expect(exact("proportional", "clauses"), "<", exact("temperature 2", "clauses"), paired=True,
          claim="temperature 2 feeds it")


def last_loss(strategy):
    return [run.after["translation_loss"] for run in runs[strategy]]


price.score(NAMES[direction(last_loss("equal"), last_loss("proportional"), paired=True)])

# %% [markdown]
# Under proportional sampling the score on the clauses is near that of guessing. Translation is so easy for this model
# that a third of the draws suffice; a harder task could lose. And more draws do not add records: one kind of clause
# occurs once among the 24.
#
# ## At 135M
#
# The recorded runs ask the same of SmolLM2-135M-Instruct, with sets of the same sizes, 320 draws
# (in proportion 9 of them clauses) and 40 validation items of each task.

# %%
at_135m("mixing", verdict)

# %% [markdown]
# The small task gains here too: 0.87 instead of 0.53. Whether translation loses is not settled: with equal
# sampling it was lower for each of the three seeds, for two of them by one item of 40.
#
# T5's mixture, for a model of 220M parameters, included the unlabeled text. There equal mixing was
# the worst strategy on six of seven benchmarks, and T = 2 one of the best. Its large
# sources needed their draws; on the tiny model none did.

# %% [markdown]
# <!-- claims: C89 · E40 -->
# ## Configured and effective share
#
# Equal sampling gives each task a third of the *records*. The loss of a batch is a mean over its
# **labeled tokens**, the tokens that are trained on. So the weight of a task in that mean is its
# fraction of the labeled tokens, its **effective share**. This holds for steps of many records.
# With one record in a step all records weigh the same, so each task has its share of the draws.
#
# Our answers are a French phrase ("la nuit rose"), a city, or a clause type ("law"). How far do the
# two shares differ?

# %%
tokens = ft.predict("Equal sampling, a third of the records: the clauses' share of the labeled tokens",
                    "is below 31 %", "is 31 to 36 %", "is above 36 %")
tokens

# %% tags=["raises-exception"]
def effective_shares(shares, labeled_tokens):
    """Fraction of the labeled tokens that each task gets, a dict whose values sum to 1.

    shares: task -> probability of a draw. labeled_tokens: task -> mean number in one record.
    """
    ...


ft.check("effective_shares", effective_shares)

# %% [markdown]
# The package counts the labeled tokens of 480 records that equal sampling drew:

# %%
_, tokenizer = ft.load("tiny")
mixed = mixing.draw(sets, 480, plans["equal"], seed=0)
effective = mixing.effective(mixed, tokenizer)
ft.table([{"task": task, "configured": plans["equal"][task], "effective": effective[task]}
          for task in sets])

# %%
seen = effective["clauses"]
tokens.score("is below 31 %" if seen < 0.31 else "is 31 to 36 %" if seen <= 0.36
             else "is above 36 %")

# %% [markdown]
# All our answers are short, so the shares move by a few points only. With essays of 200 tokens and answers of 2, drawn
# equally, the essays have 99 % of the labeled tokens. That may be what you want, but it should be your decision: draw
# a task in proportion to 1 / tokens, and each gets the same number of tokens.

# %% [markdown]
# <!-- claims: C84 C85 C86 C87 C88 · E41 -->
# ## Does one task help another?
#
# A target task has only 12 records, and every run makes 192 draws: 16 passes over the 12 alone, or 4 passes
# and 144 draws from a partner task. Better than alone is **positive transfer**, worse is **negative
# transfer**. A partner also takes draws from the target. So each target is trained with a control partner
# too: `who`, the name of a person in a text, which is another skill.
#
# The partner `capital in sentences` is built to conflict with `capital`. It asks for capitals in the same
# wordings, also for 11 of the target's 12 cities, and answers in a sentence.

# %%
def in_a_sentence(record):
    return record | {"output": f"I think that it is {record['output']}, but please check it."}


pool = {task: ft.records(task) for task in ("to_past", "to_negative", "who", "capital")}
pool["capital in sentences"] = [in_a_sentence(record) for record in pool["capital"][60:]]
ft.table([{"task": task} | {key: records[2][key] for key in ("instruction", "input", "output")}
          for task, records in pool.items()])

# %%
transfer = ft.predict("'to_past' with 'to_negative', against 'to_past' alone: exact match is",
                      "lower", "no difference seen", "higher")
transfer


# %%
def exact_with(target, partner, seed):
    """Exact match on the target's test set, trained alone (partner None) or with a partner."""
    own = pool[target][:12]
    if not partner:
        records = mixing.draw({target: own}, 192, {target: 1}, seed)
    else:
        both = {target: own, partner: pool[partner][-144:]}
        records = mixing.draw(both, 192, {target: 0.25, partner: 0.75}, seed)
    run = trained(records, seed, batch_size=8)
    return ft.exact_match(run.model, tokenizer, ft.records(target, "test")[:TESTED[target]])


# %%
TESTED = {"to_past": 60, "capital": 30}  # test items
pairs = [("to_past", None), ("to_past", "who"), ("to_past", "to_negative"),
         ("capital", None), ("capital", "who"), ("capital", "capital in sentences")]
matrix = {pair: [exact_with(*pair, seed) for seed in SEEDS] for pair in pairs}
ft.table([{"target": target, "partner": partner or "none, alone", "exact match": five}
          for (target, partner), five in matrix.items()])

# %%
for reference in (None, "who"):
    ft.expect(matrix["to_past", "to_negative"], ">", matrix["to_past", reference], paired=True,
              claim=f"positive transfer, against {reference or 'alone'}")
    ft.expect(matrix["capital", "capital in sentences"], "<", matrix["capital", reference],
              paired=True, claim=f"negative transfer, against {reference or 'alone'}")
transfer.score(NAMES[direction(matrix["to_past", "to_negative"], matrix["to_past", None],
                               paired=True)])

# %% [markdown]
# Both references agree. `to_negative` helps `to_past`: both repeat a sentence with its verb changed.
# Whether the repeating or the verb helps is not separated here: `who` has neither.
# `capital in sentences` harms `capital`: nothing in the prompt says which form is wanted, and most draws
# answer in a sentence. Exact match demands the bare city, so a sentence with the right city counts as wrong.
#
# The control equals the partner in draws, not in labeled tokens, so a part of the harm could be weight; the
# [reference page](reference/19_multi_task.md) shows that it hardly is.
#
# At scale T5 measured GLUE, a set of language-understanding tasks: training on everything at once, unlabeled text
# included, reached 81.4, pretraining and then fine-tuning on all GLUE tasks 83.3. [FLAN](https://arxiv.org/abs/2109.01652)
# asks about tasks that were *not* in the mixture: its large models gained on them, those of 8B and less lost.
# [Flan-T5](https://arxiv.org/abs/2210.11416) gained at small sizes too, with 1,836 tasks.

# %% [markdown]
# ## Choose the mixture by proxy runs
#
# You can afford one long run, and many short ones. [RegMix](https://arxiv.org/abs/2407.01492) and
# [data mixing laws](https://arxiv.org/abs/2403.16952) train small **proxies** on several mixtures and predict the best
# one for the large run. Here a proxy has 12 of the 30 steps and one seed. The share of the clauses varies; the others
# divide the rest in proportion to their sizes.

# %%
def mixture(share):
    rest = shares_of({task: n for task, n in counts.items() if task != "clauses"})
    return {task: (1 - share) * part for task, part in rest.items()} | {"clauses": share}


proxy, passes = {}, {}
for share in (0.03, 0.1, 0.2, 0.35, 0.5):
    run = trained(mixing.draw(sets, 192, mixture(share), seed=0), seed=0)
    proxy[share] = run.after["translation_loss"], run.after["val_loss"]
    passes[share] = 480 * share / counts["clauses"]  # in the long run
ft.table([{"share of the clauses": share, "translation_loss": large, "val_loss (clauses)": small,
           "passes in the long run": passes[share]} for share, (large, small) in proxy.items()])

# %% [markdown]
# ## Your turn: decide
#
# The lawyers want the lowest loss. The translators accept at most 0.3 nats above the best that they could have. And
# nobody wants more than eight passes over 24 clauses.


# %% tags=["raises-exception"]
def choose_mixture(proxy, passes, most_passes, margin):
    """Return the share of the small task to train with.

    proxy: share -> (loss of the large task, loss of the small task). passes: share -> passes over the
    small task. Allowed: at most `most_passes`. Of the allowed shares, those whose loss of the large task
    is at most `margin` above the lowest of the allowed ones; of these, the lowest loss of the small
    task."""
    ...


ft.check("choose_mixture", choose_mixture)

# %%
chosen = working("choose_mixture", choose_mixture)(proxy, passes, 8, 0.3)
verified = [trained(mixing.draw(sets, 480, mixture(chosen), seed), seed) for seed in SEEDS]
ft.table([{"strategy": name, "val_loss (clauses)": [run.after["val_loss"] for run in group],
           "translation_loss": [run.after["translation_loss"] for run in group]}
          for name, group in (("proportional", runs["proportional"]), (f"chosen: {chosen}", verified),
                              ("equal", runs["equal"]))])

# %%
ft.expect([run.after["val_loss"] for run in verified], "<",
          [run.after["val_loss"] for run in runs["proportional"]], "the chosen mixture is better for the clauses",
          paired=True)

# %% [markdown]
# The ranking of proxies can change at full length, so check the choice once, as here. With many sources, fit a
# regression of the loss on the shares.

# %% [markdown]
# ## In practice, 2026
#
# Start in proportion, with a cap per source or T = 2, and at most about four passes over a small source:
#
# ```python
# import math
#
# from datasets import concatenate_datasets, load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-1.7B"
# # {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
# files = {"translation": "translation.jsonl", "clauses": "clauses.jsonl"}
# shares, total, most_passes = {"translation": 0.7, "clauses": 0.3}, 100_000, 4
# tasks = {name: load_dataset("json", data_files=file, split="train").train_test_split(
#     test_size=0.1, seed=0) for name, file in files.items()}
#
#
# def drawn(name):
#     rows, wanted = tasks[name]["train"], round(total * shares[name])
#     passes = min(most_passes, math.ceil(wanted / len(rows)))
#     print(f"{name}: {wanted / len(rows):.1f} passes wanted, at most {most_passes} made")
#     copies = concatenate_datasets([rows.shuffle(seed=i) for i in range(passes)])
#     return copies.select(range(min(wanted, len(copies))))
#
#
# sets = {name: drawn(name) for name in tasks}
# made = sum(map(len, sets.values()))
# print({name: round(len(rows) / made, 2) for name, rows in sets.items()})  # a capped share is lower
# args = SFTConfig(output_dir="mixture", learning_rate=1e-5, num_train_epochs=1, bf16=True,
#                  eval_strategy="steps", eval_steps=200, per_device_train_batch_size=8,
#                  gradient_accumulation_steps=4, assistant_only_loss=True)  # else prompts count
# trainer = SFTTrainer(model_id, args=args,
#                      train_dataset=concatenate_datasets(list(sets.values())).shuffle(seed=0),
#                      eval_dataset={name: task["test"] for name, task in tasks.items()})
# trainer.train()
# ```
#
# A dict as `eval_dataset` reports a loss for each task (`eval_clauses_loss`).

# %% [markdown]
# ## Interview
#
# **Sizes 1M, 100k, 5k: compare proportional, cap K = 131,072, temperature 2.**
# <details><summary>Answer</summary>
# Proportional 90.5 / 9.05 / 0.45 %; cap 55.5 / 42.4 / 2.1 %; T = 2 takes square roots, 72.1 / 22.8 /
# 5.1 %. With 1.1M draws the small set is seen 1, 4.7 and 11.3 times; equal sampling, T → ∞, would
# need 74. In pretraining about 4 passes cost little. I would take the cap and watch the validation score
# of each task.
# </details>

# %% [markdown]
# **How do you choose mixture weights for a large run?**
# <details><summary>Answer</summary>
# Leave out sources one by one with a small proxy model, at equal tokens. With many sources predict the
# loss from the mixture (RegMix, mixing laws), or run DoReMi's proxy. Limit repeats. Check the choice at a
# second, larger scale, because rankings can change, and keep the best data for the final decay.
# </details>

# %% [markdown]
#
# Three cards on this topic: say the answer aloud, then look.

# %%
ft.drill(topic="mixing", new=3)

# %% [markdown]
# ## Recap
#
# - `min(e, K) ** (1 / T)` covers proportional, capped, temperature and equal sampling. The price is
#   repeats.
# - The loss counts labeled tokens. A third of the records need not be a third of the weight.
# - The claim does not hold. In proportion to its size the small task starves, and a second task can help or harm.
# - Short proxy runs choose a mixture; one run at full length checks it.
#
# Next: [20a preferences](20a_preferences.ipynb).

# %%
ft.progress("19")
