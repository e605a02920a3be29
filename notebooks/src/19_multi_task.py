# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 19 · Multi-task mixing: draws, repeats and labelled tokens
#
# **Claim: put all tasks into one set and sample in proportion to their size; training on several
# tasks helps each of them.** It could be wrong. After this lesson you can
#
# - compute proportional, capped, temperature and equal sampling, and what they cost in repeats;
# - distinguish the fraction of draws you configured from a task's fraction of the labelled tokens;
# - measure whether one task helps or harms another;
# - name the methods that choose a mixture: proxy models, regression, stages.
#
# *About 40 minutes. The code needs a minute and a half on two CPU cores. You need lessons
# [04](04_instruction_tuning.ipynb) and [08](08_the_small_knobs.ipynb).*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C83 C89 C90 C91 · E40 -->
# ## The question
#
# > *"You have three data sets: a million rows, a hundred thousand, and five thousand. How do you mix
# > them?"*
#
# "Concatenate and shuffle" is **proportional** sampling: a task is drawn as often as its size says.
# The small task is then half a percent of the draws. Is that what you want?
#
# ## The idea: two knobs
#
# [T5](https://arxiv.org/abs/1910.10683) has two knobs. The **cap** K counts a task of more than K
# records as if it had K. The **temperature** T raises the capped size to the power 1/T before
# everything is divided by the sum:
#
# $$p_i = \frac{\min(e_i, K)^{1/T}}{\sum_j \min(e_j, K)^{1/T}} \qquad e_i: \text{records of task } i$$

# %% [markdown]
# T = 1 is proportional, and a very large T makes all tasks **equal**.
#
# ![Stacked bars of the draws from tasks of 1,000,000, 100,000 and 5,000 records. Proportional: 90.5, 9 and 0.5 %, one pass over the small task. Cap of 131,072: 55.5, 42 and 2.1 %, 4.7 passes. Temperature 2: 72.1, 23 and 5.1 %, 11.3 passes. Equal: 33 % each, 73.7 passes.](figures/19_multi_task.svg)
#
# The right column is the price, for as many draws as there are records: what the small task gains in
# draws, it gains in repeats.
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
# If you get stuck: `ft.hint("mixing_shares")`, then `ft.solution("mixing_shares")`. The lesson
# continues with the package's `mixing.rates`.

# %%
import math

from ftkit.data import mixing

sizes = {"large": 1_000_000, "middle": 100_000, "small": 5_000}
ft.table([{"temperature": t} | mixing.rates(sizes, temperature=t) for t in (0.5, 1, 2, 4, math.inf)])

# %% [markdown]
# A temperature below 1 goes the other way: it favors the large task even more. And a cap of 1 is
# equal sampling, because every task then counts as one record.
#
# ## Run it: a starved task
#
# Translation has 800 records here, capitals have 80, and naming the type of a clause has 24. We draw
# 480 records with each strategy. There are seven types of clause, so chance is 1/7 = 0.14.

# %%
sets = {"translation": ft.records("translation"), "capital": ft.records("capital")[:80],
        "clauses": ft.records("contracts_task")[:24]}
names = {"translation": "translation", "capital": "capital", "clauses": "contracts_task"}
tests = {task: ft.records(name, "test")[:30] for task, name in names.items()}
counts = {task: len(records) for task, records in sets.items()}

# %%
plans = {"proportional": mixing.rates(counts), "temperature 2": mixing.rates(counts, temperature=2),
         "equal": mixing.rates(counts, temperature=math.inf)}
draws = {name: mixing.counts(shares, 480) for name, shares in plans.items()}
ft.table([{"strategy": name} | numbers | {"passes over clauses": numbers["clauses"] / 24}
          for name, numbers in draws.items()])

# %% [markdown]
# Equal sampling takes away more than half of translation's draws. What does translation lose?

# %%
price = ft.predict("Exact match of translation under equal sampling, against proportional, is",
                   "lower", "no difference seen", "higher")
price


# %%
def trained(records, seed, batch_size=16):
    lab = ft.Experiment(data=records, val=tests["clauses"], probes=(), eval_records=8)
    return lab.run(learning_rate=1e-3, eval_steps=1000, batch_size=batch_size, seed=seed,
                   live=False)


def scores(run):
    return {task: ft.exact_match(run.model, run.tokenizer, test) for task, test in tests.items()}


# %%
SEEDS = range(5)
results = {}
for name, shares in plans.items():
    results[name] = [scores(trained(mixing.draw(sets, 480, shares, seed), seed)) for seed in SEEDS]


def exact(strategy, task):
    return [result[task] for result in results[strategy]]


# %%
ft.table([{"strategy": name} | {task: exact(name, task) for task in sets} for name in plans])

# %%
from ftkit.lessons.claims import direction

NAMES = {"<": "lower", ">": "higher", "": "no difference seen"}
verdict = ft.expect(exact("proportional", "clauses"), "<", exact("equal", "clauses"), paired=True,
                    claim="in proportion to its size the small task starves")
ft.expect(exact("proportional", "clauses"), "<", exact("temperature 2", "clauses"), paired=True,
          claim="temperature 2 feeds it")
price.score(NAMES[direction(exact("equal", "translation"), exact("proportional", "translation"),
                            paired=True)])

# %% [markdown]
# Under proportional sampling the clauses are at chance. Translation is near 1 in every row. This is a
# **ceiling**: 30 easy test items hardly show a loss, so the table does not say that fewer draws are
# free. The loss per token would be more sensitive. Repeats
# add no records: of 24 clauses one is a `payment`
# clause, and of the 30 test items five are. The other 25 alone would be 0.83.
#
# ## At 135M
#
# The recorded runs ask the same of SmolLM2-135M-Instruct, with the same three tasks and 320 draws.

# %%
from ftkit.lessons.at_135m import at_135m

at_135m("mixing", verdict)

# %% [markdown]
# The small task gains here too, from 0.53, which is above chance. A price may show as well:
# translation is lower under equal sampling in each of the three seeds, 0.16 against 0.27 on average.
# In two of them it is one item of 40, so this settles nothing.
#
# In T5's comparison, on a model of 220M parameters, equal mixing was the worst strategy and T = 2 one
# of the best. Multilingual models use a temperature as well: mT5 ([Xue et al.
# 2020](https://arxiv.org/abs/2010.11934)) samples languages with an exponent 1/T of 0.3.
# [UniMax](https://arxiv.org/abs/2304.09151) caps the number of passes over each language instead.

# %% [markdown]
# <!-- claims: C89 · E40 -->
# ## Configured and effective share
#
# Equal sampling gives each task a third of the *records*. But the loss of a batch is the mean over its
# **labelled tokens**, the tokens that are trained on. A translation has more of them than a
# clause type such as "law". So the **effective share** of a task, its fraction of the labelled tokens,
# is another number. It is the task's *weight* in the mean. Its part of the loss and of the gradient
# also depends on how much loss is left per token: a mastered task can have many tokens and little gradient.

# %%
tokens = ft.predict("Equal sampling, a third of the records: the clauses' share of the labelled tokens",
                    "is below 31 %", "is 31 to 36 %", "is above 36 %")
tokens

# %% tags=["raises-exception"]
def effective_shares(shares, labelled_tokens):
    """Fraction of the labelled tokens that each task gets, a dict whose values sum to 1.

    shares: task -> probability of a draw. labelled_tokens: task -> mean number in one record.
    """
    ...


ft.check("effective_shares", effective_shares)

# %% [markdown]
# The package counts them on the records that were drawn. Nothing is estimated, so no test is needed:

# %%
def with_names(sets):
    """The same records, each with the name of its task."""
    return {task: [record | {"task": task} for record in records]
            for task, records in sets.items()}


# %%
_, tokenizer = ft.load("tiny")
mixed = mixing.draw(with_names(sets), 480, plans["equal"], seed=0)
effective = mixing.effective(mixed, tokenizer)
ft.table([{"task": task, "configured": plans["equal"][task], "effective": effective[task]}
          for task in sets])

# %%
seen = effective["clauses"]
tokens.score("is below 31 %" if seen < 0.31 else "is 31 to 36 %" if seen <= 0.36
             else "is above 36 %")

# %% [markdown]
# All our answers are short, so the difference is small. With essays of 200 tokens and answers of 2, drawn
# equally, the essays have 99 % of the labelled tokens. That need not be wrong, but it should be a decision.
# Some training loops take the mean of each record first: then a record counts, not its tokens. Equal shares of *tokens* need other draws:

# %% tags=["raises-exception"]
def shares_for_equal_tokens(labelled_tokens):
    """Shares of the draws, summing to 1, that give each task the same number of labelled tokens.

    labelled_tokens: task -> mean number of labelled tokens in one record.
    """
    ...


ft.check("shares_for_equal_tokens", shares_for_equal_tokens)

# %%
def labelled(record):
    return sum(label != -100 for label in ft.encode(record, tokenizer)["labels"])


weights = {task: len(records) / sum(map(labelled, records)) for task, records in sets.items()}
even = {task: weight / sum(weights.values()) for task, weight in weights.items()}
balanced = mixing.effective(mixing.draw(with_names(sets), 480, even, seed=0), tokenizer)
ft.table([{"task": task, "configured": even[task], "effective": balanced[task]} for task in sets])

# %% [markdown]
# <!-- claims: C84 C85 C86 C87 C88 · E41 -->
# ## Does one task help another?
#
# A target task has 12 records. There are 192 draws in every case: 12 × 16 alone, or 12 × 4 = 48 of the
# target and 144 of a partner. Better than alone is **positive transfer**, worse is **negative
# transfer**. A partner also takes draws away, so we need a control: `who`, another skill
# than either target.
#
# One partner of `capital` has the same forms of question, for 11 of the 12 cities and 45 more. It answers
# in a sentence. These are *conflicting labels*, built on purpose. In the literature negative transfer
# mostly means interference between compatible tasks, which is often weaker and harder to see.

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
    return ft.exact_match(run.model, tokenizer, ft.records(target, "test"))


# %%
pairs = [("to_past", None), ("to_past", "to_negative"), ("to_past", "who"),
         ("capital", "who"), ("capital", "capital in sentences")]
matrix = {pair: [exact_with(*pair, seed) for seed in SEEDS] for pair in pairs}
ft.table([{"target": target, "partner": partner or "none, alone", "exact match": five}
          for (target, partner), five in matrix.items()])

# %%
past, capital = matrix["to_past", None], matrix["capital", "who"]
ft.expect(matrix["to_past", "to_negative"], ">", past, "positive: both rewrite a sentence",
          paired=True)
ft.expect(matrix["capital", "capital in sentences"], "<", capital,
          "negative: two answers to one question", paired=True)
transfer.score(NAMES[direction(matrix["to_past", "to_negative"], past, paired=True)])

# %% [markdown]
# Transfer was positive for two tasks that both repeat a sentence with its verb changed. A likely
# reason: 12 records hardly teach this skill. No arm isolates it. Transfer was
# negative where nothing in the prompt says which rule holds, and the majority answers in a sentence.
# Exact match demands the bare city: a sentence with the right city counts as wrong.
#
# The rows with `who` are the control, at the same draws. `to_negative` must also beat `who`, or fewer
# repeats of the target could explain the gain. In our runs it does. `capital` has no row
# alone, so `who` is its reference.
#
# What do larger models show? T5's plain multi-task training starts from scratch, with unlabeled text as
# one of the tasks. It was *worse* than pretraining, then fine-tuning on each benchmark (81.4 against 83.3
# on GLUE, language-understanding tasks that T5 fine-tunes as one set). With fine-tuning
# afterwards it nearly tied (83.1).
# [FLAN](https://arxiv.org/abs/2109.01652) gained on *unseen* tasks with 62 data sets, and
# [Flan 2022](https://arxiv.org/abs/2301.13688) used 1,836 tasks. In the first FLAN, models of 8B and less
# lost on unseen tasks; [Flan-T5](https://arxiv.org/abs/2210.11416) gained at small sizes too.

# %% [markdown]
# ## What if?
#
# Change the temperature. Does translation ever pay? In the table above no loss was seen, even at T = ∞. One
# seed and 30 items decide nothing; they show where to look.

# %%
temperature = 4
shares = mixing.rates(counts, temperature=temperature)
mine = scores(trained(mixing.draw(sets, 480, shares, seed=0), seed=0))
ft.table([{"temperature": temperature} | mine])

# %% [markdown]
# ## In practice, 2026
#
# | question | usual answer |
# |---|---|
# | first mixture for SFT | proportional with a cap per source; then leave out one source at a time and measure |
# | temperature | 2 for tasks (the best of 2, 4 and 8 in T5); exponent 1/T 0.3 to 0.7 for languages |
# | passes over a small source | up to about 4 cost little ([Muennighoff et al.](https://arxiv.org/abs/2305.16264), pretraining) |
# | what to compare | score of each task, at equal steps, on a decontaminated test set |
# | size of open SFT mixtures | about 1M records: Tülu 3 mixture, SmolTalk |

# %% [markdown]
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
# args = SFTConfig(output_dir="mixture", learning_rate=1e-5, num_train_epochs=1, bf16=True,
#                  assistant_only_loss=True,  # else the prompts are labelled tokens too
#                  per_device_train_batch_size=8, gradient_accumulation_steps=4,
#                  eval_strategy="steps", eval_steps=200)
# trainer = SFTTrainer(model_id, args=args,
#                      train_dataset=concatenate_datasets(list(map(drawn, tasks))).shuffle(seed=0),
#                      eval_dataset={name: task["test"] for name, task in tasks.items()})
# ```
#
# A dict as `eval_dataset` reports a loss for each task (`eval_clauses_loss`).

# %% [markdown]
# Pitfalls:
#
# - `interleave_datasets` with `all_exhausted` repeats without a limit: with probabilities 0.7 and 0.3,
#   a million rows and 5,000, the small source is seen about 86 times. Its default, `first_exhausted`,
#   stops early instead ([documentation](https://huggingface.co/docs/datasets/process#interleave)).
# - Shares count records. The loss counts labelled tokens, with packing too.
# - Two sources with contradictory answers to one prompt: add a system prompt or drop one.
# - A multi-task average hides the task that got worse. Report each.

# %% [markdown]
# Methods that choose the mixture:

# %% [markdown]
# - [DoReMi](https://arxiv.org/abs/2305.10429) trains a small proxy model that gives more weight to
#   domains on which it is far behind a reference, and uses the weights for the large model.
# - [RegMix](https://arxiv.org/abs/2407.01492) trains many tiny models on random mixtures and fits a
#   regression that predicts the validation loss from the mixture.
#   [Data mixing laws](https://arxiv.org/abs/2403.16952) do the same with a functional form.
# - **By skill**: tune a mixture for each skill, then combine them
#   ([Tülu 3](https://arxiv.org/abs/2411.15124)).
# - **Online mixing** changes the shares during training, by the loss or its gradient
#   ([ODM](https://arxiv.org/abs/2312.02406)).
# - **Staged mixtures**: broad data first, and high-quality or small sources while the learning rate
#   decays (annealing, "mid-training"), as in
#   [SmolLM2](https://arxiv.org/abs/2502.02737) and [OLMo 2](https://arxiv.org/abs/2501.00656).
# - **Gradient surgery** ([PCGrad](https://arxiv.org/abs/2001.06782)) projects conflicting gradients;
#   a well-tuned plain sum often does as well ([Kurin et al.](https://arxiv.org/abs/2201.04122)).

# %% [markdown]
# ## Interview
#
# **Sizes 1M, 100k, 5k: compare proportional, cap K = 131,072, temperature 2.**
# <details><summary>Answer</summary>
# Proportional 90.5 / 9.05 / 0.45 %; cap 55.5 / 42.4 / 2.1 %; T = 2 takes square roots, 72.1 / 22.8 /
# 5.1 %. With 1.1M draws the small set is seen 1, 4.7 and 11.3 times; equal sampling, T → ∞, would
# need 74. In pretraining about 4 passes cost little; for fine-tuning that is only a start. I would
# take the cap, or T = 2 with fewer draws, and watch the validation score of each task.
# </details>

# %% [markdown]
# **A task with 2 % of the rows stays bad. What do you look at?**
# <details><summary>Answer</summary>
# First its records and its wrong answers: is it the labels, or the format that the metric demands? Then
# its share of the labelled tokens, because short answers shrink it further, the passes over its data,
# and whether another source contradicts it. Raise T, cap the others, or train it in a
# later stage, with some of the rest against forgetting. Watch its validation score: when it no longer
# rises with more passes, new records help more.
# </details>
#
# **How do you choose mixture weights for a large run?**
# <details><summary>Answer</summary>
# Leave out sources one by one with a small proxy model, at equal tokens. With many sources predict the
# loss from the mixture (RegMix, mixing laws), or run DoReMi's proxy. Limit repeats. Check the choice at a
# second, larger scale, because rankings can change, and move the best data to the end.
# </details>

# %% [markdown]
# **Does T5 show that multi-task training helps?**
# <details><summary>Answer</summary>
# No. Plain multi-task training, from scratch with unlabeled text as one of the tasks, was worse than
# pretraining, then fine-tuning on each benchmark (GLUE 81.4 against 83.3); with fine-tuning afterwards it
# nearly tied (83.1). That is one model of 220M parameters at an equal budget. It does not compare a mixture
# with single tasks in fine-tuning: T5 fine-tunes all GLUE tasks as one set.
# FLAN's large models gained on *unseen* tasks, more with more task clusters; Flan-T5 gained at small sizes too.
# </details>
#
# **One multi-task model, many adapters, or merging?**
# <details><summary>Answer</summary>
# Joint training shares signal, needs balanced sampling, and a new task means retraining. Adapters
# keep owners apart and need routing. Merging (task arithmetic, TIES) needs one model for each task,
# trained from the same base, no joint training, and loses where updates conflict. I would measure
# transfer for the pairs at hand: a negative pair wants two adapters, or a prompt that tells the tasks
# apart.
# </details>
#
# ## Recap
#
# - `min(e, K) ** (1 / T)` covers proportional, capped, temperature and equal sampling. The price is
#   repeats.
# - The loss counts labelled tokens. A third of the records is not a third of the weight.
# - The claim does not hold. In proportion to its size the small task scored lower than with equal
#   shares, on the tiny model no better than chance. Against the control `who`, transfer was
#   positive for one pair and negative for another.
#
# In the package: [mixing.py](../ftkit/data/mixing.py). Next:
# [20 preferences and rewards](20_preferences.ipynb).

# %%
ft.progress("19")
