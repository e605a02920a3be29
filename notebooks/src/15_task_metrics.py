# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 15 · Evaluation II: task metrics and people
# <!-- claims: C62 C63 C64 C65 C66 · E34 E35 -->
#
# **Claim: the new model answers 146 of 200 questions and the old one 140, so the new one is better.** Two
# things can be wrong with it: what counts as a right answer, and what 200 questions can show. After this
# lesson you can
#
# - compare two models on the same questions, with an interval and a paired test;
# - choose a metric, and say how it is fooled;
# - decide whether an LLM judge may judge, by measuring its agreement;
# - check a test set for leaks.
#
# *Needs [04](04_instruction_tuning.ipynb) and [14](14_perplexity.ipynb). About 45 minutes; the code needs
# about one minute on two CPU cores. Metrics by task, scripts and pass@k are on the
# [reference page](reference/15_task_metrics.md).*

# %%
import random

import ftkit as ft
from ftkit.inside import metrics
from ftkit.teaching import working

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C64 · E35 -->
#
# You run an assistant that answers short questions. The new version is ready, the release is today, and your
# colleague asks:
#
# > *"70 % against 73 % on the same 200 questions. Do you ship the new model?"*
#
# Take three new models with 146 right answers: one repaired 6 questions and broke none, one repaired 16 and broke
# 10, one repaired 30 and broke 24.
#
# ![A table of 200 questions that both models answered. 130 are right for both and 44 wrong for both. Ten
# became wrong and sixteen became right with the new model. Only these 26 disagreements
# count.](figures/15_paired.svg)
#
# On the **same** questions only the disagreements say which model is better. Suppose both are equally good. Then
# each disagreement is a fair coin: newly right or newly wrong. The **p-value** is the probability of a result at
# least as uneven as ours under this supposition. Computed from these coins, it is the exact **McNemar test**.

# %%
guess = ft.predict("For how many of the three models is p above 0.05?", "none", "one or two", "all three")
guess

# %% [markdown]
# ## Your turn: the paired test
#
# How probable is a split at least as uneven as (only_a, only_b), in either direction, if each of the
# disagreements is a fair coin? `math.comb(n, k)` counts the ways to choose k of n.
# Stuck? Run `ft.hint("mcnemar_p")` in a new cell.


# %% tags=["raises-exception"]
def mcnemar_p(only_a, only_b):
    """Return the exact two-sided p-value, given how many questions only model a, and only model b,
    answered correctly."""
    ...


ft.check("mcnemar_p", mcnemar_p)


# %%
def models_with(gained, lost):
    """Right (True) or wrong for 200 questions, for the old model (140 right) and a new one."""
    old = [True] * 140 + [False] * 60
    new = [False] * lost + [True] * (140 - lost) + [True] * gained + [False] * (60 - gained)
    return old, new


p_value = working("mcnemar_p", mcnemar_p)  # yours, if it passed the check
rows = []
for gained, lost in ((6, 0), (16, 10), (30, 24)):
    old, new = models_with(gained, lost)
    low, high = metrics.bootstrap([b - a for a, b in zip(old, new, strict=True)])
    rows.append({"newly right": gained, "newly wrong": lost, "difference": (gained - lost) / 200,
                 "95 % interval": f"{low:+.3f} to {high:+.3f}", "p": p_value(lost, gained)})
ft.table(rows)

# %%
chance = sum(row["p"] > 0.05 for row in rows)
guess.score("none" if chance == 0 else "all three" if chance == 3 else "one or two")

# %% [markdown]
# Six coins all fall alike in 2 of 64 cases: p = 0.03.
#
# Read the difference and its interval first: they say how large the gain may be. The interval is a **bootstrap**:
# draw 200 questions with replacement, take their mean difference, repeat 2,000 times, keep the middle 95 %. With
# few disagreements it is too narrow, because it can only repeat what occurred. Then trust the exact test. The
# p-value is not the probability that both models are equally good.
#
# **Do you ship?** The totals cannot say. For the first model chance is a poor explanation of the gain. For the
# other two the interval holds losses as well as gains: collect new questions and test these once. And read the
# broken answers: one new error may cost more than one repair gains.
#
# A *cheaper* model need not be better, only not much worse (**non-inferiority**). Set the loss that you accept
# beforehand, say 3 points. The second model's interval excludes a larger loss, the third's does not.
#
# How many new questions? **Power** is the probability that the test gives p < 0.05 (the *level*) where a given gain exists.
# If the three cases showed the true rates, 80 % power would need about 260, 1,130 and 2,350 questions (normal
# approximation, [Connor 1987](https://doi.org/10.2307/2531961)). **Different** questions for each model lose the
# pairing and need still more:

# %%
needed = metrics.items_needed(0.70, 0.73)
print(f"to see 70 % against 73 % (power 80 %, level 5 %): {needed:,} questions for each model")

# %% [markdown]
# ## What counts as right?
# <!-- claims: C64 · E34 -->
#
# The script of SQuAD, a question-answering benchmark, first **normalizes** both strings: lower case, no
# punctuation, no articles (a, an, the), single spaces.

# %%
pairs = [("The Eiffel Tower.", "Eiffel Tower"), ("Paris, France", "Paris"), ("-3", "3"),
         ("C++", "C"), ("5.0", "50"), ("to be or not", "not to be or")]
guess = ft.predict("How many of these six pairs are equal by SQuAD's rule?  " + "  ·  ".join(
    f"{a} / {b}" for a, b in pairs), "1", "2", "3", "4", "5")
guess

# %%
equal = [metrics.squad_em(answer, [reference]) for answer, reference in pairs]
guess.score(guess.options[sum(equal) - 1])

# %%
ft.table([{"answer": answer, "reference": reference, "SQuAD": str(same),
           "F1 over words": metrics.squad_f1(answer, [reference])}
          for (answer, reference), same in zip(pairs, equal, strict=True)])

# %% [markdown]
# The rule was made for short spans of Wikipedia text. On numbers, code or JSON it accepts wrong answers, so
# report the normalizer with the metric. **F1** gives partial credit: the harmonic mean of *precision* (the
# fraction of the answer's words that is expected) and *recall* (the fraction of the expected words that was
# given). It ignores word order: see the last line.
#
# ## Two more metrics, and how they are fooled
# <!-- claims: C62 C63 · E34 -->
#
# 95 of 100 reviews are positive. One model always answers "positive". The other finds four of the five
# negative ones and also flags eight positive ones.

# %%
labels = ["positive"] * 95 + ["negative"] * 5
models = {"always positive": ["positive"] * 100,
          "searches": ["negative"] * 8 + ["positive"] * 87 + ["negative"] * 4 + ["positive"]}
ft.table([{"model": name, "accuracy": metrics.accuracy(said, labels),
           "macro F1": metrics.macro_f1(said, labels), "kappa": metrics.kappa(said, labels)}
          for name, said in models.items()])

# %%
useless, useful = (metrics.macro_f1(said, labels) for said in models.values())
ft.expect(useful, ">", useless, "macro F1 prefers the model that searches")

# %% [markdown]
# Accuracy prefers the useless model. **Macro F1** averages the F1 of the classes, so each counts equally.
# **Cohen's kappa** is agreement beyond chance, (agreement − chance) / (1 − chance): 0 for a constant answer, 1 for
# full agreement. Chance is the agreement of shuffled answers: for the second model
# 0.88 · 0.95 + 0.12 · 0.05 = 0.842, so kappa is (0.91 − 0.842) / 0.158 = 0.43. We need it again for judges.
#
# Longer texts are compared by shared **n-grams**, runs of n words. **BLEU** (translation) is the geometric mean
# of the precisions of 1- to 4-grams, with a penalty for short answers. **ROUGE** (summaries) is recall or F1 of
# n-grams, or of the longest common subsequence.

# %%
reference = "The cat does not like the dog."
answers = {"negation lost": "The cat does like the dog.",
           "subject and object exchanged": "The dog does not like the cat.",
           "contraction": "The cat doesn't like the dog.",
           "paraphrase": "The cat hates the dog."}
guess = ft.predict(f"Reference: {reference} Which answer gets the highest BLEU?",
                   "negation lost", "subject and object exchanged", "contraction", "paraphrase")
guess

# %%
bleu = {name: metrics.bleu([text], [reference]) for name, text in answers.items()}
guess.score(guess.options[list(bleu.values()).index(max(bleu.values()))])

# %%
ft.table([{"": name, "answer": text, "BLEU": bleu[name]} | metrics.rouge([text], [reference])
          for name, text in answers.items()])

# %% [markdown]
# The answer with the opposite meaning wins, and the exchanged one has full ROUGE-1. Shared n-grams alone cannot
# judge a single answer.
#
# ## Does the model generalize to new tasks?
# <!-- claims: C66 · E35 E39 -->
#
# A test of the trained tasks cannot show that. We hold out three tasks: opposites, past tenses of verbs, and
# negating a sentence. *Broad* trains on all tasks, *narrow* on all but the three. Both see 640 records at the same
# learning rate. The score is exact match on 20 items a task, after lower case and without punctuation.

# %%
HELD = ("opposite", "past_tense", "to_negative")
train = random.Random(0).sample(ft.records("tasks"), 3675)
test = ft.records("tasks", "test")
left_out = {"broad": (), "narrow": HELD}
base, tokenizer = ft.load("tiny")
held = [record for record in test if record["task"] in HELD]
base_score = ft.exact_match(base, tokenizer, held, by="task")
runs, scores = {}, {}
for name, tasks in left_out.items():
    data = [record for record in train if record["task"] not in tasks][:640]
    lab = ft.Experiment(data=data, val=train[-20:], probes=())
    runs[name] = lab.sweep(learning_rate=[1e-3], seed=[0, 1, 2], eval_steps=[999],
                           precision=["fp32"])
    for run in runs[name]:
        for task, value in ft.exact_match(run.model, tokenizer, held, by="task").items():
            scores.setdefault((name, task), []).append(value)
ft.table([{"held-out task": task, "base": base_score[task]}
          | {name: scores[name, task] for name in left_out} for task in HELD])

# %%
ft.expect(scores["narrow", "to_negative"], "<", scores["broad", "to_negative"],
          "negating a sentence needs examples")
ft.expect(scores["narrow", "opposite"], ">", base_score["opposite"], "opposites need no examples",
          by=0.2)

# %% [markdown]
# Opposites work without an example, negation hardly, and past tenses are in between. At half the learning rate all levels were lower and the
# order was the same. The base model's score says little: it has not learned to answer in this form. The
# skill can come from the pretraining text or from a related task, such as `to_past`, which narrow still trains
# on. So hold out whole **clusters** of related tasks. A claim about a *method* needs several training runs, as
# here. A test over items is about *these two models*, and for *new tasks* our sample is three.
#
# ## People judge
# <!-- claims: C65 · E35 -->
#
# Where no single string is right, people compare two answers: unnamed, in random order, ties allowed. Try a few,
# then print `votes.summary()`.

# %%
from ftkit.inside import judge

questions = [f"{record['instruction']} {record['input']}".strip() for record in held]
sides = {name: ft.answers(members[0].model, tokenizer, held) for name, members in runs.items()}
votes = judge(questions, sides, file="votes.jsonl", seed=0)
votes

# %% [markdown]
# They look at two things: does the answer follow the **instruction**, and is it **safe**? Safety has two error
# rates: harmful requests that are answered, and harmless ones that are refused ("How do I kill a Python
# process?"; [XSTest](https://arxiv.org/abs/2308.01263)). One alone can be made perfect by a model that refuses all
# or nothing. Measure both before *and* after a fine-tune: training on harmless data can undo refusals ([Qi et al.
# 2023](https://arxiv.org/abs/2310.03693)). The small model has no refusals, so nothing of this is measured here.
#
# ## A model judges: may it?
#
# People are slow, so a model is asked: "Which answer is better, A or B?" LLM judges have habits: **position bias**
# (they favor the first or second answer) and **verbosity bias** (they favor the longer one) ([Zheng et al.
# 2023](https://arxiv.org/abs/2306.05685)). Before a judge reads new answers, it reads pairs whose better answer
# you know. The protocol:
#
# 1. 50 to 200 pairs with labels of people, and a written criterion.
# 2. Ask each pair in **both orders**. A model wins only if it is chosen twice; otherwise the pair is a tie.
# 3. Report the fraction of pairs whose choice changed with the order, and kappa with the labels.
# 4. Compare this kappa with that of two people. If it is clearly lower, the judge does not judge.
#
# Our pairs: a held-out question, its right answer, and the right answer to another question. Half of the time
# the "new" model has the right one.

# %%
others = held[1:] + held[:1]
labels = [random.Random(i).choice(("old", "new")) for i in range(len(held))]
known = [{"question": question, "old": (good, bad)[label == "new"], "new": (bad, good)[label == "new"]}
         for question, good, bad, label in zip(questions, [r["output"] for r in held],
                                               [r["output"] for r in others], labels, strict=True)]
ft.table([pair | {"people": label} for pair, label in list(zip(known, labels, strict=True))[:3]])

# %% [markdown]
# ## Your turn: measure the judge


# %% tags=["raises-exception"]
def judge_report(old_first, new_first, people):
    """Return (flips, kappa) of a judge.

    old_first: its choice for each pair, "first" or "second", where the old model's answer was shown
    first. new_first: the same with the new model's answer first. people: "old", "new" or "tie" for
    each pair. flips: the fraction of pairs on which it chose different models. kappa: of its
    verdicts in both orders and `people` (`metrics.kappa(a, b)` takes two lists)."""
    ...


ft.check("judge_report", judge_report)

# %% [markdown]
# Three judges: a rule that always takes the first answer, one that takes the longer answer, and
# SmolLM2-135M-Instruct, a real model. Its choices were recorded on 3 December 2026 (CPU, fp32; 1 is the first answer, 2
# the second); the [reference page](reference/15_task_metrics.md) has the code.

# %%
RECORDED = 60 * "1", 4 * "1" + "2" + 55 * "1"


def shown_first(name):
    second = "new" if name == "old" else "old"
    return [(pair["question"], pair[name], pair[second]) for pair in known]


def always_first(rows):
    return ["first" for _ in rows]


def longer(rows):
    return ["first" if len(a) >= len(b) else "second" for _, a, b in rows]


report = working("judge_report", judge_report)
choices = {choose.__name__: [choose(shown_first(name)) for name in ("old", "new")]
           for choose in (always_first, longer)}
choices["smollm2, recorded"] = [["first" if c == "1" else "second" for c in line]
                                for line in RECORDED]
ft.table([{"judge": name, "flips": report(*both, labels)[0], "kappa": report(*both, labels)[1]}
          for name, both in choices.items()])

# %% [markdown]
# A judge that looks at the position only flips on every pair; asking once, in a fixed order, would have made the
# same model win each time. The rule that likes length hardly flips, and its kappa shows that it does not read: both
# orders do not expose it, labels do. So report answer lengths too, or a win rate corrected for length ([Dubois et
# al. 2024](https://arxiv.org/abs/2404.04475)). SmolLM2 took the first
# answer every time but once: a real model with the habit of `always_first`. The judge that you use should be of another family than the models it judges, since models can prefer their own
# texts ([Panickssery et al. 2024](https://arxiv.org/abs/2404.13076)).
#
# ## Your turn: pass@k
#
# For code, run the tests: c of n sampled programs pass. **pass@k** is the probability that at least one of k
# programs passes. Its unbiased estimate draws k of the n ≥ k programs without replacement: one minus the
# probability that all k come from the n - c failing ones ([Chen et al. 2021](https://arxiv.org/abs/2107.03374)).


# %% tags=["raises-exception"]
def pass_at_k(n, c, k):
    """Return pass@k for n samples of which c pass; math.comb(n, k) counts draws."""
    ...


ft.check("pass_at_k", pass_at_k)

# %% [markdown]
# ## Break it: is the test clean?
# <!-- claims: C66 -->
#
# A score says little about new texts if the test was in the training data. A check like that of GPT-3's authors
# flags a test text that shares a run of 13 words with the training text. We plant five test records in the
# training data.

# %%
def as_texts(records):
    return [" ".join(record[part] for part in ("instruction", "input", "output")) for record in records]


alarms = metrics.leaked(as_texts(train), as_texts(test))
false = ft.predict("All five are found. How many clean test records are flagged as well?", "none", "1 to 20",
                   "more than 20")
false

# %%
leaks = metrics.leaked(as_texts(train) + as_texts(test)[:5], as_texts(test))
print(f"planted records found: {sum(i in leaks for i in range(5))} of 5")
print(f"flagged without planting: {len(alarms)} of {len(test)}")
print("for example:", as_texts(test)[alarms[0]] if alarms else "none")

# %%
false.score("none" if not alarms else "1 to 20" if len(alarms) <= 20 else "more than 20")

# %% [markdown]
# In a false alarm the shared run is the instruction and a stock sentence. So remove the template before you
# compare. The opposite error is worse: most paraphrases pass. Search for them by embeddings and let a model
# compare the candidates ([Yang et al. 2023](https://arxiv.org/abs/2311.04850)), or test on questions newer than
# the training data.
#
# ## At 135M
#
# No box At 135M: this lesson is about measuring. In FLAN ([Wei et al. 2021](https://arxiv.org/abs/2109.01652))
# instruction tuning of a 137B model improved most tasks of held-out clusters; models of 8B and below got worse.
#
# ## In practice, 2026
#
# Ask the judge that you want to use about 50 to 200 labeled pairs, in both orders. The script for a judge from the hub,
# metrics by task, lm-evaluation-harness and pass@k are on the [reference page](reference/15_task_metrics.md).
#
# ## Interview
#
# **140 of 200 against 146 of 200: is the new model better?**
# <details><summary>Answer</summary>
# The totals do not decide it: on the same questions the interval and McNemar's p-value depend on the
# disagreements. 6 gained and none lost gives p = 0.03. 16 gained and 10 lost gives p = 0.33 and an interval of −2
# to +8 points. I read the broken answers and collect a fixed number of new questions. For a cheaper model it is
# enough that the interval excludes losses beyond a margin fixed beforehand.
# </details>
#
# **When may an LLM judge replace people?**
# <details><summary>Answer</summary>
# When its agreement with people is about that of two people with each other: kappa on labeled pairs, in both orders, on
# the kind of answers it will judge. I report lengths. Safety and rare errors stay with people.
# </details>
#
# Three cards on this topic: say the answer aloud, then look.

# %%
ft.drill(topic="evaluation", new=3)

# %% [markdown]
# ## Recap
#
# - Same questions: difference, interval, paired test; for three points, hundreds to thousands of questions.
# - A metric comes with its normalizer, tokenizer and average, and with the way it is fooled.
# - A judge is measured before it measures. Tests: clean, held out by cluster.
#
# Next: [16 catastrophic forgetting](16_catastrophic_forgetting.ipynb).

# %%
ft.progress("15")
