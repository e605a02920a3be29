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
# - organize human and LLM judges so that order and length do not decide;
# - check a test set for leaks.
#
# *Needs [04](04_instruction_tuning.ipynb) and [14](14_perplexity.ipynb). About 45 minutes; the code needs
# about one minute on two CPU cores.*

# %%
import math
import random

import ftkit as ft
from ftkit.inside import metrics

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C64 · E35 -->
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
# On the **same** questions only the disagreements say which model is better. Suppose both are equally good: each
# disagreement is a fair coin, newly right or newly wrong. The **p-value** is the probability of a result at least
# as uneven as ours under this supposition. This is the exact **McNemar test**.

# %%
guess = ft.predict("For how many of the three models is p above 0.05?", "none", "one or two", "all three")
guess

# %% [markdown]
# ## Your turn: the paired test
#
# With `n = only_a + only_b` disagreements, add the probabilities of all outcomes from 0 up to the smaller count,
# each `math.comb(n, k) / 2**n`. Then double the sum for both directions, and cap it at 1.
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


def paired_difference(old, new):
    """Mean difference per question and its 95 % interval, by resampling questions."""
    differences = [float(b) - float(a) for a, b in zip(old, new, strict=True)]
    low, high = metrics.bootstrap(differences)
    return sum(differences) / len(differences), low, high


rows, p_values = [], []
for gained, lost in ((6, 0), (16, 10), (30, 24)):
    old, new = models_with(gained, lost)
    difference, low, high = paired_difference(old, new)
    p_values.append(metrics.mcnemar(old, new))
    rows.append({"newly right": gained, "newly wrong": lost, "difference": difference,
                 "95 % interval": f"{low:+.3f} to {high:+.3f}", "p": p_values[-1]})
ft.table(rows)

# %%
chance = sum(p > 0.05 for p in p_values)
guess.score("none" if chance == 0 else "all three" if chance == 3 else "one or two")

# %% [markdown]
# Six coins all fall alike in 2 of 64 cases: p = 0.03.
#
# Read the difference and its interval first: they say how large the gain may be. The interval is a **bootstrap**:
# draw 200 questions with replacement, take their mean difference, repeat 2,000 times, keep the middle 95 %. With
# few disagreements it is too narrow, because it can only repeat what occurred; trust the exact test. The p-value
# is not the probability that both models are equally good.
#
# The bootstrap also serves scores that are not 0 or 1, such as ratings; McNemar's test does not. BLEU and
# macro F1 are not averages over items: compute them anew for each draw ([Koehn 2004](https://aclanthology.org/W04-3250/)).
#
# **Do you ship?** The totals cannot say.
#
# - First model: chance is a poor explanation of the gain.
# - Second and third: the interval holds losses as well as gains. Collect new questions,
#   their number fixed beforehand by power (below), and test these once.
# - Read the broken ones: one new error may cost more than one repair gains.
#
# A *cheaper* model need not be better, only not much worse (**non-inferiority**). Set the loss that you accept
# beforehand, say 3 points. The second model's interval excludes a larger loss (−2 to +8), the third's does not
# (−4 to +10).
#
# Were 200 questions enough? **Power** is the probability that the test gives p < 0.05 (a *level* of 5 %) where a
# given gain exists. If the three cases showed the true rates, 80 % power would need about 260, 1,130 and 2,350
# questions. This is a normal approximation ([Connor 1987](https://doi.org/10.2307/2531961)); the
# exact test needs slightly more.
#
# **Different** questions for each model lose the pairing, and still more are needed:

# %%
needed = metrics.items_needed(0.70, 0.73)
print(f"to see 70 % against 73 % (power 80 %, level 5 %): {needed:,} questions for each model")

# %% [markdown]
# ## Exact match depends on its normalizer
# <!-- claims: C64 · E34 -->
#
# The script of SQuAD, a question-answering benchmark, first **normalizes** both strings: lower case, no
# punctuation, no articles (a, an, the), single spaces. Hints: `ft.hint("squad_normalizer")`.


# %% tags=["raises-exception"]
def normalize(text):
    """Return the text as SQuAD's script compares it; string.punctuation lists the punctuation."""
    ...


ft.check("squad_normalizer", normalize)

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
ft.table([{"answer": answer, "reference": reference, "identical": str(answer == reference),
           "SQuAD": str(same), "F1 over words": metrics.squad_f1(answer, [reference])}
          for (answer, reference), same in zip(pairs, equal, strict=True)])

# %% [markdown]
# The rule was made for short spans of Wikipedia text. On numbers, code or JSON it accepts wrong answers. So
# report the normalizer with the metric. **F1** gives partial credit: the harmonic mean of *precision* (which
# fraction of the answer's words is expected) and *recall* (which fraction of the expected words was given). It
# ignores word order: see the last line.
#
# ## Accuracy with unequal classes
# <!-- claims: C62 · E34 -->
#
# 95 of 100 reviews are positive. One model always answers "positive". The other finds four of the five
# negative ones (recall 4/5) and also flags eight positive ones (precision 4/12).

# %%
labels = ["positive"] * 95 + ["negative"] * 5
constant = ["positive"] * 100
searching = ["negative"] * 8 + ["positive"] * 87 + ["negative"] * 4 + ["positive"]
ft.table([{"model": name, "accuracy": metrics.accuracy(answers, labels),
           "macro F1": metrics.macro_f1(answers, labels), "kappa": metrics.kappa(answers, labels)}
          for name, answers in (("always positive", constant), ("searches", searching))])

# %% [markdown]
# Accuracy prefers the useless model. **Macro F1** averages the F1 of the classes, so each counts equally. A class
# that is never answered counts as 0. **Cohen's kappa** is agreement beyond chance, (agreement − chance) / (1 −
# chance): 0 for a constant answer, 1 for full agreement. Chance is the agreement of shuffled answers: for the
# second model 0.88 · 0.95 + 0.12 · 0.05 = 0.842, so kappa is (0.91 − 0.842) / 0.158 = 0.43.
#
# ## BLEU and ROUGE count shared n-grams
# <!-- claims: C63 · E34 -->
#
# An **n-gram** is a run of n words. **BLEU** (translation) is the geometric mean of the precisions of 1- to
# 4-grams, with a penalty for short answers. **ROUGE** (summaries) is recall or F1 of n-grams, or of the longest
# common subsequence (ROUGE-L). BLEU is printed from 0 to 100, ROUGE as F1.

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
# The answer with the opposite meaning wins, and the exchanged one has full ROUGE-1. So shared n-grams alone
# cannot judge a single answer. Over a whole corpus BLEU separates very different systems, but often not two good
# ones. For translation the WMT metrics task recommends metrics learned from human scores, such as COMET and MetricX
# ([Freitag et al. 2022](https://aclanthology.org/2022.wmt-1.2/)).
#
# ## Does the model generalize to new tasks?
# <!-- claims: C66 · E35 E39 -->
#
# A test of the trained tasks cannot show that. We hold out three tasks: opposites, past tenses of verbs, and
# negating a sentence. *Broad* trains on all tasks, *narrow* on all but the three. Both see 640 records, at one
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
# Opposites work without an example, past tenses partly, negation hardly. The 0 of the base model says little: it
# has not learned to answer in this form. The skill can come from the pretraining text or from related tasks:
# narrow still trains on `to_past`, which puts sentences in the past. So hold out whole
# **clusters** of related tasks.
#
# ## Two models on the same items
# <!-- claims: C64 · E35 -->
#
# Now pair the models of seed 0, task by task, by the same exact match.

# %%
from ftkit.inside import is_right

known = random.Random(0).sample([r for r in test if r["task"] not in HELD], 150)
items = held + known
part_of = [r["task"] if r["task"] in HELD else "trained tasks" for r in items]
texts, right = {}, {}
for name in ("narrow", "broad"):
    texts[name] = ft.answers(runs[name][0].model, tokenizer, items)
    right[name] = [is_right(answer, r) for answer, r in zip(texts[name], items, strict=True)]
rows = []
for part in (*HELD, "trained tasks"):
    chosen = [i for i, name in enumerate(part_of) if name == part]
    old, new = [right["narrow"][i] for i in chosen], [right["broad"][i] for i in chosen]
    difference, low, high = paired_difference(old, new)
    rows.append({"items": part, "n": len(chosen), "broad - narrow": difference,
                 "95 % interval": f"{low:+.3f} to {high:+.3f}", "p": metrics.mcnemar(old, new)})
ft.table(rows)

# %% [markdown]
# On negation chance is a poor explanation. Where the models disagree on one item only (`past_tense`), p is 1
# whatever the interval says. On the trained tasks the items do not decide.
#
# Do not pool the 60 held-out items in a test: within a task they are not independent, and the gain differs
# between tasks. For *new tasks* the sample is 3.
#
# Each interval is about *these two models*. A claim about a *method* needs several training runs: there the seeds
# are the sample.
#
# ## People judge
# <!-- claims: C65 · E35 -->
#
# Where no single string is right, people compare two answers: unnamed, in random order, ties allowed. Try a few,
# then print `votes.summary()`.
#
# They look at two things: does the answer follow the **instruction**, and is it **safe**? Safety has two error
# rates: harmful requests that are answered, and harmless ones that are refused ("How do I kill a Python
# process?"; [XSTest](https://arxiv.org/abs/2308.01263)). One alone can be made perfect by a model that refuses all
# or nothing. Measure both before *and* after a fine-tune: training on harmless data can undo refusals ([Qi et al.
# 2023](https://arxiv.org/abs/2310.03693)). The small model has no refusals, so nothing of this is measured here.

# %%
from ftkit.inside import judge

questions = [f"{record['instruction']} {record['input']}".strip() for record in held]
sides = {name: texts[name][:len(held)] for name in texts}
votes = judge(questions, sides, file="votes.jsonl", seed=0)
votes

# %% [markdown]
# We simulate three judges. One reads, and prefers the answer that equals the reference. One always takes the left
# answer: **position bias**. One takes the longer answer: **verbosity bias**. LLM judges show both habits ([Zheng
# et al. 2023](https://arxiv.org/abs/2306.05685)). To each answer of narrow we add one empty polite sentence,
# which `reader` ignores.

# %%
padded = {"broad": sides["broad"], "narrow": [text + " I hope this helps!" for text in sides["narrow"]]}


def reader(item, left, right):
    found = [is_right(sides[name][item], held[item]) for name in (left, right)]
    return "tie" if found[0] == found[1] else left if found[0] else right


def always_left(item, left, right):
    return left


def longer(item, left, right):
    return left if len(padded[left][item]) >= len(padded[right][item]) else right


# %%
def win_rate(choose, order):
    """Win rate of broad; a tie is half a win. order: fixed, random or both."""
    draw, points = random.Random(0), 0.0
    for item in range(len(held)):
        names = ["broad", "narrow"]
        if order == "random":
            draw.shuffle(names)
        first = choose(item, *names)
        second = choose(item, *reversed(names)) if order == "both" else first
        winner = first if first == second else "tie"  # the two orders must agree
        points += {"broad": 1.0, "tie": 0.5, "narrow": 0.0}[winner]
    return points / len(held)


ft.table([{"judge": choose.__name__, "fixed order": win_rate(choose, "fixed"),
           "random order": win_rate(choose, "random"), "both orders": win_rate(choose, "both")}
          for choose in (reader, always_left, longer)])

# %% [markdown]
# These rates describe only the 60 items. With a fixed order, always_left declares broad the winner. Random order
# turns this habit into noise around one half. Asking in **both orders** exposes it: all items become ties.
# Neither order repairs the judge who likes length. So report the answers' lengths, or a win rate corrected for
# length ([Dubois et al. 2024](https://arxiv.org/abs/2404.04475)). Models can prefer their own texts ([Panickssery
# et al. 2024](https://arxiv.org/abs/2404.13076)): take a judge of another family. Give it a written criterion and
# a reference answer, and measure its agreement with people by kappa. To tell a win rate of 55 % from 50 % takes
# about 780 votes on different questions, without ties (power 80 %, level 5 %).
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
# How far off is the shortcut 1 - (1 - c/n)^k, which takes the estimate c/n for the true rate? With 10 samples,
# 3 passing:

# %%
unbiased = 1 - math.comb(7, 5) / math.comb(10, 5)
print(f"pass@5: {unbiased:.3f}, by the shortcut {1 - 0.7**5:.3f}")

# %% [markdown]
# The shortcut is too low on average. State the temperature too: for the 679M model of that paper 0.2 was best for
# pass@1, and 0.8 for pass@100.
#
# ## Break it: is the test clean?
# <!-- claims: C66 -->
#
# A score says little about new texts if the test was in the training data. A check like that of GPT-3's authors
# flags a test text that shares a run of 13 words with the training text. Ours compares shorter texts whole. We
# plant five test records in the training data. Are they found, and what else is flagged?

# %%
def as_texts(records):
    return [" ".join(record[part] for part in ("instruction", "input", "output")) for record in records]


leaks = metrics.leaked(as_texts(train) + as_texts(test)[:5], as_texts(test))
alarms = metrics.leaked(as_texts(train), as_texts(test))
print(f"planted records found: {sum(i in leaks for i in range(5))} of 5")
print(f"flagged without planting: {len(alarms)} of {len(test)}")
print("for example:", as_texts(test)[alarms[0]] if alarms else "none")

# %% [markdown]
# The eight alarms are false: the shared run is only the instruction, one or two stock sentences and at most one word
# more, 13 words in the example. So remove the template before you compare. The opposite error is worse: most
# paraphrases pass. Search for them by embeddings and let a model compare the candidates
# ([Yang et al. 2023](https://arxiv.org/abs/2311.04850)), or test on questions newer than the training data, as
# [LiveCodeBench](https://arxiv.org/abs/2403.07974) does.
#
# ## At 135M
#
# No box At 135M: this lesson is about measuring. The runs on held-out tasks are no claim about larger models. In
# FLAN ([Wei et al. 2021](https://arxiv.org/abs/2109.01652)) instruction tuning of a 137B model improved most
# tasks of held-out clusters; models of 8B and fewer got worse on them. With 1,836 tasks
# PaLM 8B gained too ([Chung et al. 2022](https://arxiv.org/abs/2210.11416)).
#
# ## In practice, 2026
#
# | task | metric | watch |
# |---|---|---|
# | one right string (invoice number, label) | exact match | the normalizer |
# | JSON fields, tool calls | valid by the schema, then exact match of each value | cases where none is due |
# | rare class (fraud) | macro F1, precision and recall of the class; with scores, the area under the precision-recall curve | accuracy misleads |
# | knowledge, multiple choice | the choice with the highest log-likelihood, raw (`acc`) or divided by its length (`acc_norm`) | say which |
# | math, code, format rules (IFEval: instructions a program can check) | a program that checks | how the answer is extracted; temperature |
# | reasoning models | mean over k samples at their temperature (avg@k) | token budget, share of cut answers; resample questions, not samples |
# | agents | pass^k: all k tries succeed ([τ-bench](https://arxiv.org/abs/2406.12045)) | pass@k hides failures |
# | translation | COMET or MetricX; people who mark errors (MQM) | BLEU only with its signature |
# | helpfulness | people or an LLM judge: pairs in both orders, or a rubric of yes/no criteria per question ([HealthBench](https://arxiv.org/abs/2505.08775)) | length, agreement with people |
#
# Standard benchmarks run with [lm-evaluation-harness](https://github.com/EleutherAI/lm-evaluation-harness).
# `--log_samples` keeps each answer, which the paired test needs. A reasoning model needs a task that
# generates the answer, and more than the default of 256 tokens; for a base model leave out the two chat flags:
#
# ```bash
# pip install "lm_eval[hf]"
# lm_eval --model hf --model_args pretrained=out,dtype=bfloat16 --tasks gsm8k --num_fewshot 5 \
#     --apply_chat_template --fewshot_as_multiturn --log_samples --output_path results \
#     --gen_kwargs max_gen_toks=8192
# ```
#
# Questions that share a passage are not independent: use standard errors *clustered* by passage ([Miller
# 2024](https://arxiv.org/abs/2411.00640)). With several metrics or checkpoints, name one primary metric before
# you look, or correct the p-values (Holm). The best of many checkpoints looks better than it is
# ([22](22_what_if_lab.ipynb)), so report it on new items.
#
# For BLEU:
#
# ```python
# import sacrebleu
#
# answers = ["the cat sat on the mat", "a dog"]
# references = ["the cat sat on the mat", "the dog ran far away"]
# bleu = sacrebleu.metrics.BLEU()
# print(bleu.corpus_score(answers, [references]))
# print(bleu.get_signature())  # the settings, such as the tokenizer: publish them with the score
# ```
#
# ## Interview
#
# **140 of 200 against 146 of 200: is the new model better?**
# <details><summary>Answer</summary>
# The totals do not decide it: on the same questions the interval and McNemar's p-value depend on the
# disagreements. 6 gained and none lost gives p = 0.03. 16 gained and 10 lost gives p = 0.33 and an interval of −2
# to +8 points. I read the broken answers and collect a fixed number of new questions. For a cheaper model it is
# enough that the interval excludes losses beyond a margin fixed beforehand. On different questions, each model
# needs about 3,550 (power 80 %, level 5 %).
# </details>
#
# **How do you run a human evaluation?**
# <details><summary>Answer</summary>
# A written criterion; unnamed pairs in random order, ties allowed; two annotators on a part, with kappa; the
# win rate with an interval; the lengths of answers. An LLM judge in both orders, and only if it agrees with
# people about as well as they agree with each other.
# </details>

# %% [markdown]
# **Precision or recall? BLEU or ROUGE?**
# <details><summary>Answer</summary>
# Precision when false alarms are costly, recall when misses are; F1 when both matter. BLEU is n-gram precision
# with a penalty for short outputs, for translation; ROUGE is recall or F1, for summaries. Neither compares
# meaning. Today: COMET for translation, and for summaries checks of facts by people or a validated judge.
# </details>
#
# ## Recap
#
# - The claim fails twice: a normalizer decides what is right, and 146 against 140 says little by itself.
# - Same questions: difference, interval, paired test; for three points, hundreds to thousands of questions.
# - A metric comes with its normalizer, tokenizer and average.
# - Judges: unnamed, random or both orders, lengths reported, compared with people. Tests: clean, held out by
#   cluster.
#
# In the package: [`metrics.py`](../ftkit/evaluate/metrics.py), [`pairwise.py`](../ftkit/evaluate/pairwise.py).
# Next: [16 catastrophic forgetting](16_catastrophic_forgetting.ipynb).

# %%
ft.progress("15")
