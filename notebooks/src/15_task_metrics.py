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
# **Claim: the new model answers 146 of 200 questions, the old one 140, so the new one is better.**
# Two things may be wrong with it: what counts as an answer, and what 200 questions can tell. After
# this lesson you can
#
# - choose a metric and say how it is fooled;
# - put an interval on a score, and compare two models on the same questions;
# - let people judge without leading them, and test on tasks the model was not trained on.
#
# *About 35 minutes. Needs [04](04_instruction_tuning.ipynb) and [14](14_perplexity.ipynb). The code
# needs one minute on two CPU cores.*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C64 · E35 -->
#
# > *"70 % against 73 % on the same 200 questions. Ship it?"*
#
# Both totals are known. Is that enough to say how likely such a gap is by luck alone?

# %%
from ftkit.evaluate import metrics

guess = ft.predict("Do the totals 140 and 146 decide it?", "yes: better", "yes: luck", "no",
                   guess=...)
old = [True] * 140 + [False] * 60


def new(gained, lost):
    return [False] * lost + [True] * (140 - lost + gained) + [False] * (60 - gained)


luck = {(g, k): metrics.mcnemar(old, new(g, k)) for g, k in ((6, 0), (16, 10), (30, 24))}
chances = luck.values()
guess.score("yes: better" if max(chances) < 0.05 else "yes: luck" if min(chances) > 0.05 else "no")

# %%
ft.table([{"newly right": g, "newly wrong": k, "total": sum(new(g, k)), "p (McNemar)": p}
          for (g, k), p in luck.items()])

# %% [markdown]
# Three models with 146. The first repaired six and broke none: six coins that all fall alike, which
# two equally good models do in 3 of 100 cases (that is **p**). The others moved answers both ways,
# and a coin does that often. On the **same** items only the disagreements speak, so keep the
# answers, not the total.
#
# And if each model saw *different* questions?

# %%
apart = metrics.items_needed(0.70, 0.73)
each = metrics.bootstrap([float(x) for x in old])
assert 3400 < apart < 3700 and each[1] - each[0] > 0.1
print(f"70 %: 95 % interval {each[0]:.0%} to {each[1]:.0%}; to tell 70 from 73 at the 5 % level "
      f"in four of five trials it takes {apart:,} questions for each")

# %% [markdown]
# ## Exact match, and its normalizer
# <!-- claims: C64 · E34 -->
#
# Equal to what? SQuAD's script lowers case and drops punctuation and articles first; the
# `exact_match` of Hugging Face's `evaluate` does none of that unless asked. Which of these pairs
# does SQuAD's rule call equal?

# %%
pairs = [("The Eiffel Tower.", "Eiffel Tower"), ("Paris, France", "Paris"), ("-3", "3"),
         ("C++", "C"), ("5.0", "50"), ("to be or not", "not to be or")]
guess = ft.predict("How many of the six pairs are equal by SQuAD's rule?", guess=...)
equal = [metrics.squad_em(said, [wanted]) for said, wanted in pairs]
guess.score(sum(equal))

# %%
ft.table([{"answer": a, "reference": r, "as typed": str(a == r), "SQuAD": str(e),
           "F1 over words": metrics.squad_f1(a, [r])}
          for (a, r), e in zip(pairs, equal, strict=True)])

# %% [markdown]
# The rule was made for names out of Wikipedia. On numbers and code it calls wrong answers right:
# a metric carries its normalizer, so name it. **F1** is the harmonic mean of *precision* (how much of
# what was said is wanted) and *recall* (how much of what is wanted was said). Over words it gives
# part of the credit, and all of it to words in the wrong order.

# %%
assert equal == [True, False, True, True, True, False]
assert metrics.squad_f1("to be or not", ["not to be or"]) == 1.0

# %% [markdown]
# ## Accuracy, when classes are unequal
# <!-- claims: C62 · E34 -->
#
# 95 of 100 reviews are positive. One model always says "positive". The other finds four of the five
# bad reviews and suspects eight good ones.

# %%
wanted, lazy = ["positive"] * 95 + ["negative"] * 5, ["positive"] * 100
careful = ["negative"] * 8 + ["positive"] * 87 + ["negative"] * 4 + ["positive"]
ft.table([{"model": name, "accuracy": metrics.accuracy(said, wanted),
           "macro F1": metrics.macro_f1(said, wanted), "kappa": metrics.kappa(said, wanted)}
          for name, said in (("always positive", lazy), ("looks for bad ones", careful))])

# %%
assert metrics.accuracy(lazy, wanted) > metrics.accuracy(careful, wanted)
assert metrics.macro_f1(lazy, wanted) < metrics.macro_f1(careful, wanted)

# %% [markdown]
# Accuracy prefers the model that does nothing. Macro F1 takes F1 for each class and then the mean, so
# a rare class weighs as much as a common one; **kappa** is agreement beyond chance (0: a constant
# answer, 1: full). A second trap: an accuracy from the *most likely of the given
# choices* and one from the *generated text* are different numbers, so say which.

# %% [markdown]
# ## BLEU and ROUGE
# <!-- claims: C63 · E34 -->
#
# Both count n-grams (runs of n words) shared with a reference. BLEU is precision, with a penalty for
# short answers; ROUGE was recall, and is mostly reported as F1 (ROUGE-L: of the longest common
# sequence of words). Rank these four by what they *mean* first.

# %%
reference = "The cat does not like the dog."
said = {"negation lost": "The cat does like the dog.",
        "who likes whom": "The dog does not like the cat.",
        "contraction": "The cat doesn't like the dog.",
        "paraphrase": "The cat hates the dog."}
best = ft.predict("Which gets the highest BLEU?", *said, guess=...)
bleu = {name: metrics.bleu([text], [reference]) for name, text in said.items()}
assert min(bleu, key=bleu.get) == "paraphrase"
best.score(max(bleu, key=bleu.get))

# %%
ft.table([{"": name, "answer": text, "BLEU": bleu[name]} | metrics.rouge([text], [reference])
          for name, text in said.items()])

# %% [markdown]
# The one answer that says the opposite wins, ROUGE-1 gives full marks for the wrong animal, and the
# one that is right in other words loses. Overlap is blind to meaning. It may rank *systems* over many texts; it cannot judge one answer. Learned metrics
# (BERTScore, COMET) know paraphrases; measure those against people, too. Where an answer can be
# *run*, as code can, run it.
#
# Two more traps, with the library everyone should report, sacrebleu:

# %%
import sacrebleu

answers, references = ["the cat sat on the mat", "a dog"], ["the cat sat on the mat",
                                                           "the dog ran far away"]
corpus = sacrebleu.corpus_bleu(answers, [references]).score
mean = sum(metrics.bleu([a], [r]) for a, r in zip(answers, references, strict=True)) / 2
chinese = {t: sacrebleu.corpus_bleu(["今天天气很好"], [["今天天气真好"]], tokenize=t).score
           for t in ("13a", "zh")}
assert abs(corpus - metrics.bleu(answers, references)) < 1e-6 and abs(corpus - mean) > 5
ft.table([{"corpus BLEU": corpus, "mean of sentences": mean, "Chinese, 13a": chinese["13a"],
           "Chinese, zh": chinese["zh"]}])

# %% [markdown]
# Corpus BLEU sums before it divides, so it is not the mean of sentence scores, whatever some cards
# say. And the tokenizer decides: five of six characters equal score 0 where a sentence counts as
# one word. Publish sacrebleu's signature with the number.

# %% [markdown]
# ## Tasks that were held out
# <!-- claims: C66 · E35 E39 -->
#
# All see 640 instruction records. *Broad* sees every task; *narrow* never sees three of them:
# opposites, the past tense of a verb, and putting a sentence in the negative. *Narrower* sees no
# relatives of these either: no sentence is put in the past, none made a question. How do they do
# on the three? Three seeds each.

# %%
import random

HELD = ("opposite", "past_tense", "to_negative")
SEEDS = (0, 1, 2)
train = random.Random(0).sample(ft.records("tasks"), 3675)
test = ft.records("tasks", "test")
out = {"broad": (), "narrow": HELD, "narrower": (*HELD, "to_past", "to_question")}
data = {n: [r for r in train if r["task"] not in tasks][:640] for n, tasks in out.items()}
guess = ft.predict("Which of the held-out tasks will narrow still do?", *HELD, "none", guess=...)

# %%
runs = {name: ft.Experiment(data=rows, val=test[:20], probes=()).sweep(
            learning_rate=[1e-3], seed=SEEDS, eval_steps=[999]) for name, rows in data.items()}

# %%
model, tokenizer = ft.load("tiny")
held = [r for r in test if r["task"] in HELD]
scores = {name: [ft.exact_match(run.model, tokenizer, held, by="task") for run in some]
          for name, some in runs.items()}
base = ft.exact_match(model, tokenizer, held, by="task")
score = {(name, task): [s[task] for s in some] for name, some in scores.items() for task in HELD}
guess.score(max(HELD, key=lambda task: sum(score["narrow", task])))

# %%
ft.table([{"held-out task": task, "base": base[task]} | {n: score[n, task] for n in data}
          for task in HELD])

# %%
ft.expect(score["narrow", "to_negative"], "<", score["broad", "to_negative"],
          "a sentence put in the negative must be shown")
ft.expect(score["narrow", "opposite"], ">", base["opposite"] + 0.2,
          "opposites come without one example")
gap = sum(score["narrow", "past_tense"]) / 3 - sum(score["narrower", "past_tense"]) / 3
f"past tense, with a relative in training and without: {gap:+.2f}"

# %% [markdown]
# Held-out is not one thing. The base knows opposites from plain text; any instruction data lets it
# answer, and no example is needed. Negating a sentence is no habit of the base, and is learned from
# examples or not at all. A test set of trained tasks sees neither.
#
# Could a *relative* have taught the skill, sentences put in the past the past tense? FLAN holds out
# whole **clusters** of tasks for fear of that. Compare narrow with narrower: is it so here?

# %% [markdown]
# ## Are they different on the tasks both know?
# <!-- claims: C64 · E35 -->
#
# On the other tasks *broad* and *narrow* have trained alike. Interval, and the paired test, for the
# models of seed 0:

# %%
known = random.Random(0).sample([r for r in test if r["task"] not in HELD], 150)
hits, said = {}, {}
for name in ("narrow", "broad"):
    said[name] = ft.answers(runs[name][0].model, tokenizer, held + known)
    hits[name] = [metrics.squad_em(a, [r["output"]])
                  for a, r in zip(said[name], held + known, strict=True)]
n = len(held)
parts = {"held-out tasks": slice(0, n), "known tasks": slice(n, None)}
p = {part: metrics.mcnemar(hits["narrow"][at], hits["broad"][at]) for part, at in parts.items()}

# %%
def interval(some):
    low, high = metrics.bootstrap([float(x) for x in some])
    return f"{sum(some) / len(some):.2f} ({low:.2f} to {high:.2f})"


ft.table([{"items": part, "n": len(hits["broad"][at])} | {
    name: interval(hits[name][at]) for name in hits} | {"p (paired)": p[part]}
    for part, at in parts.items()])

# %% [markdown]
# Read the p-value before the difference. The intervals of the first row overlap and the paired
# test is still sure: overlap is not the test. An interval speaks about *these questions*; it says
# nothing about another seed. For a claim about a **method** the seeds are the sample (the table
# above), for a claim about **one model** the questions are.

# %% [markdown]
# ## People judge
# <!-- claims: C65 · E35 -->
#
# Where no string is *the* answer, people compare: two answers, unnamed, in random order, with a tie
# allowed. Judge a few of them below (buttons, or Tab and Enter); votes go to a file, and you can go
# on tomorrow.

# %%
from ftkit.evaluate.pairwise import judge

asked = [f"{r['instruction']} {r['input']}".strip() for r in held]
sides = {name: said[name][:n] for name in ("narrow", "broad")}
votes = judge(asked, sides, file="votes.jsonl", seed=0)
votes

# %%
votes.summary()

# %% [markdown]
# How far do judges bend a result? Three simulated ones, on the same pairs: one reads, one always
# takes the left, one takes the longer answer. Predict the win rate of *broad* under "always left".

# %%
def by(choose):
    session = judge(asked, sides, judge=choose.__name__, seed=0)
    while session.at is not None:
        left, right = session.sides(session.at)
        session.vote(choose(session.at, left, right))
    return session


def right_one(item, left, right):
    ok = [sides[name][item].lower() == held[item]["output"].lower() for name in (left, right)]
    return "tie" if ok[0] == ok[1] else "left" if ok[0] else "right"


# %%
def always_left(item, left, right):
    return "left"


def longer(item, left, right):
    return "left" if len(sides[left][item]) >= len(sides[right][item]) else "right"


guess = ft.predict("Win rate of broad, judged by always-left?", guess=...)
judged = {f.__name__: by(f) for f in (right_one, always_left, longer)}
guess.score(judged["always_left"].win_rate("broad"))

# %%
ft.table([{"judge": name, "broad wins": session.win_rate("broad"), "result": session.summary(),
           "kappa with right_one": metrics.kappa(*[list(dict(sorted(s.results.items())).values())
                                                   for s in (session, judged["right_one"])])}
          for name, session in judged.items()])

# %% [markdown]
# Because sides are drawn at random, a judge who always takes the left only adds noise towards one
# half; unshuffled, all wins go to whoever stands left. No shuffle cures the one who likes length
# (here answers are about as long, so he bends little). **kappa** with a judge who reads exposes both.
# Model judges have both habits, and like their own
# style: measure them against people first.
#
# The judge who reads saw what the paired test saw, but with ties as half wins his interval is wide:
# say how many ties there were, and test the rest.

# %%
fixed = {name: sum(left == name for left in ("narrow",) * n) / n for name in sides}
assert fixed["narrow"] == 1.0
low, high = metrics.wilson(judged["always_left"].win_rate("broad") * n, n)
assert low < 0.5 < high

# %% [markdown]
# ## Is the test clean?
# <!-- claims: C66 -->
#
# The best score comes from having seen the test. The classic check, from GPT-3: a test text that
# shares a run of 13 words with the training text, short ones compared whole. Do we have a leak?

# %%
texts = [[f"{r['instruction']} {r['input']} {r['output']}" for r in rows] for rows in (train, test)]
inputs = [[f"{r['input']} {r['output']}" for r in rows if r["input"]] for rows in (train, test)]
planted = metrics.leaked(texts[0] + texts[1][:5], texts[1])
flagged = metrics.leaked(*texts)
assert {0, 1, 2, 3, 4} <= set(planted)
{"flagged": len(flagged), "without the instruction": len(metrics.leaked(*inputs)),
 "with five rows planted": len(planted), "one of them": texts[1][flagged[0]]}

# %% [markdown]
# The alarm is false: an instruction and the first sentence of a review, common to many, make
# thirteen words. Leave the instruction out, and look at what is flagged before you delete. The
# opposite mistake is worse: a paraphrase is never flagged. What a real leak is worth is measured in
# [18](18_data_quality.ipynb).

# %% [markdown]
# ## Now on a real model
# <!-- claims: C64 C65 · E34 -->
#
# SmolLM2 answers in whole sentences. Its reference answers were written by people. What does exact
# match say, what the overlap, and what do you say when you read them?

# %%

REAL = download.has("smollm2")
rows = [r for r in ft.records("handwritten") if 20 < len(r["output"]) < 60][:8] if REAL else []
replies = ft.answers(*ft.load("smollm2"), rows) if REAL else []
ft.table([{"asked": r["instruction"][:60], "answer": a[:70], "reference": r["output"][:60],
           "exact": str(metrics.squad_em(a, [r["output"]])),
           "F1": metrics.squad_f1(a, [r["output"]]), "BLEU": metrics.bleu([a], [r["output"]])}
          for r, a in zip(rows, replies, strict=True)] or [{"": "ftkit fetch smollm2 brings it"}])

# %% [markdown]
# ## Exercises
#
# **1.** SQuAD's normalizer: lower case, no punctuation, no articles, single spaces.


# %% tags=["raises-exception"]
def normalize(text):
    ...


ft.check("squad_normalizer", normalize)


# %% [markdown]
# **2.** The paired test. `a` and `b` are lists of True and False for the same items. Return the two
# counts that McNemar's test uses.


# %% tags=["raises-exception"]
def disagreements(a, b):
    ...


ft.check("paired_counts", disagreements)

# %% [markdown]
# **3.** Which metric for which job? `"exact match"`, `"macro F1"`, `"sacrebleu"`, `"perplexity"` or
# `"people"`.

# %% tags=["raises-exception"]
jobs = {
    "is this answer to a customer helpful": "...",
    "fraud, 1 in 200": "...",
    "continued pretraining on contracts": "...",
    "ten translation systems on 2,000 sentences": "...",
    "the invoice number in a letter": "...",
}
ft.check("metric_for_job", jobs)

# %% [markdown]
# ## Interview
#
# **140/200 against 146/200: is the new model better?**
# <details><summary>Answer</summary>
# Unknown from the totals. Each has about ±6 points. On the same items use the paired test: 6 gained
# and none lost is p = 0.03, 16 gained and 10 lost p = 0.33. On different items about 3,550 each.
# </details>
#
# **How do you run a human evaluation?**
# <details><summary>Answer</summary>
# Blind pairs, random sides, ties allowed, a written criterion, two annotators on a part with kappa,
# interval on the win rate, and length reported. A model judge only after it agrees with people, both
# orders asked.
# </details>
#
# **Precision or recall? BLEU or ROUGE?**
# <details><summary>Answer</summary>
# Precision when a false alarm is dear, recall when a miss is; F1 when neither rules. BLEU
# (translation) is n-gram precision with a penalty for short answers, ROUGE (summaries) recall or F1.
# Both are blind to meaning: above, the answer that lost its "not" had the best BLEU.
# </details>
#
# **Ten samples of code a task, three pass the tests. pass@5?**
# <details><summary>Answer</summary>
# The chance that five of the ten hold a right one: 1 − C(7,5) / C(10,5) = 1 − 21/252 = 0.917.
# 1 − 0.7⁵ = 0.83 draws with replacement, which is biased.
# </details>

# %% [markdown]
# **Why hold out whole clusters of tasks?**
# <details><summary>Answer</summary>
# A related task may teach the skill: paraphrasing in training, paraphrases in the test. Measure it,
# as above. And a task the base knew needs no example, so its held-out score shows format, not
# learning.
# </details>

# %% [markdown]
# ## Recap
#
# - A metric comes with its normalizer, tokenizer and average; know what it is blind to.
# - Same items: paired test. Different items: thousands for three points. A method: seeds.
# - People: blind, random sides, two judges. Tests: clean, and held out by cluster.
#
# In the package: [`ftkit/evaluate/metrics.py`](../ftkit/evaluate/metrics.py), [`ftkit/evaluate/pairwise.py`](../ftkit/evaluate/pairwise.py).
# Next: [16 catastrophic forgetting](16_catastrophic_forgetting.ipynb).
