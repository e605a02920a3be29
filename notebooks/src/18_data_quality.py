# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 18 · Data quality: which faults cost, and which can be found
#
# **Claim: quality beats quantity. A few clean records are worth more than many with errors, so
# clean first.** It could be wrong. After this lesson you can
#
# - find duplicates, near duplicates and leaked test records, by hand and with `ftkit check`;
# - say which faults no checker sees;
# - tell random from systematic errors, and why only one of them averages out.
#
# *About 30 minutes. The code needs a minute on two CPU cores. You need lesson
# [04](04_instruction_tuning.ipynb).*

# %%
import ftkit as ft

SEEDS = [0, 1, 2]
ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C79 C82 · E36 -->
# ## The question
#
# > *"Here is a scraped set of 750 instructions. Clean it. How do you know that it helped?"*
#
# "Filter by length" is the answer that ends interviews. This set was made dirty on purpose, so
# there is a key: which line has which fault. `ft.records("dirty")` refuses it, so read it by hand.

# %%
import json

from ftkit.base import machine
from ftkit.data import audit, schema

folder = machine.share("data_samples")
lines = (folder / "dirty.train.jsonl").read_text("utf-8").splitlines()
rows = {number: json.loads(line) for number, line in enumerate(lines, 1)}
key = json.loads((folder / "dirty_key.json").read_text())
ft.table([{"fault": fault, "rows": len(at), "asked": f"{row['instruction']} {row['input']}"[:50],
           "answer": repr(row["output"])[:30]}
          for fault, at in key.items() for row in [rows[at[1]]]])

# %% [markdown]
# ## By hand: exact and near duplicates
#
# Equal records are found by a set. *Nearly* equal ones by how many three-word pieces (**shingles**)
# two texts share: the **Jaccard** similarity, common pieces over all pieces. Case and punctuation
# do not count.

# %%
import re


def shingles(record):
    text = f"{record['instruction']} {record['input']} {record['output']}".lower()
    words = re.findall(r"\w+", text)
    return {tuple(words[i:i + 3]) for i in range(max(1, len(words) - 2))}


def jaccard(a, b):
    return len(a & b) / len(a | b)


# %%
good = {number: row for number, row in rows.items() if not schema.problems_in(row, number)}
pieces = {number: shingles(row) for number, row in good.items()}

# %%
exact, near, first = 0, 0, {}
for number, row in good.items():
    text = json.dumps([row["instruction"], row["input"], row["output"]])
    exact += text in first
    earlier = [n for n in first.values() if text not in first]
    near += any(jaccard(pieces[number], pieces[n]) >= 0.8 for n in earlier)
    first.setdefault(text, number)
exact, near

# %% [markdown]
# That compared each record with each earlier one: fine for 750, hopeless for a million. `ftkit
# check` hashes the pieces so that only likely pairs are compared (MinHash). It must count the same.

# %%
model, tokenizer = ft.load("tiny")
report = audit.check(folder / "dirty.train.jsonl", tokenizer=tokenizer, max_length=512,
                    against=folder / "tasks.test.jsonl")
assert report["duplicates"] == exact == len(key["exact duplicate"])
assert abs(report["near_duplicates"] - near) <= 2  # it estimates the similarity
assert report["leaks"] == len(key["leaked test record"])
{name: report[name] for name in ("rows", "duplicates", "near_duplicates", "leaks")}

# %% [markdown]
# In a shell the same is `ftkit check my.jsonl --against test.jsonl`.
#
# ## What does a checker see?
#
# Lay its findings beside the key. Of two records that are the same the *later* one is reported, so
# count a copy as found if a finding touches either of the two.

# %%
guess = ft.predict("Of 250 rows with a fault the checker touches about ...",
                   "100", "140", "200", "240", guess=...)
guess

# %%
found = {finding["row"] for finding in report["errors"] + report["warnings"]}
asks = {}
for number, row in good.items():
    asks.setdefault(schema.group_key(row).replace("please: ", "").replace("q: ", ""), []).append(number)
twins = {n: set(same) for same in asks.values() for n in same}
seen = {fault: sum(bool(twins.get(n, {n}) & found) for n in at) for fault, at in key.items()}
ft.table([{"fault": fault, "rows": len(at), "found": seen[fault]} for fault, at in key.items()])

# %%
blind = [fault for fault, at in key.items() if seen[fault] < len(at) / 4]
assert {"wrong output", "cut off", "wrong task"} <= set(blind)
assert sum(len(key[fault]) for fault in blind) == 110
touched = sum(seen.values())
guess.score(str(min((100, 140, 200, 240), key=lambda option: abs(option - touched))))

# %% [markdown]
# Some form is found: empty, copied, leaked, too long, wrongly decoded; typos and leftover markup are
# not. (The near duplicate that is missed is a short one: *Please:* before *Say mother in French.*
# leaves a similarity of 0.75.) *Meaning* is not found at all: a wrong answer is a perfectly good string. That needs a judge:
# rules, people, or a model.
#
# ## A model as the judge
#
# Train on a small **trusted** set, then let this model give each doubtful record its loss. What
# surprises it most is looked at first.

# %%
clean = ft.records("tasks")
trusted = ft.Experiment(data=clean[:240], val=ft.records("tasks", "validation"), eval_records=32)
base = ft.Config(learning_rate=1e-3, eval_steps=1000)
runs = {"240 clean": trusted.sweep(base, seed=SEEDS)}

# %%
from ftkit.data import encoding

meaning = {n for fault in ("wrong output", "wrong task", "cut off", "contradiction")
           for n in key[fault]}
doubtful = [n for n, row in good.items() if len(row["instruction"] + row["input"]) < 400][:350]
examples = {n: encoding.encode(good[n], tokenizer) for n in doubtful}


def worst(model, n=40):
    loss = {number: ft.loss_on(model, [example]) for number, example in examples.items()}
    return sorted(loss, key=loss.get, reverse=True)[:n]


# %%
top = [worst(run.model) for run in runs["240 clean"]]
hits = [sum(n in meaning for n in ns) / len(ns) for ns in top]
share = len(meaning & set(doubtful)) / len(doubtful)
ft.expect(hits, ">", 2 * share,
          "among the most surprising, wrong ones are more than twice as common as among all")
kind = {n: fault for fault, at in key.items() for n in at}
ft.table([{"place": place, "question": good[n]["instruction"], "answer": good[n]["output"],
           "fault": kind.get(n, "none")} for place, n in list(enumerate(top[0], 1))[3::4]])

# %% [markdown]
# Most of these have a fault, many only in form. Some further down have none: a high loss also marks what
# is rare or hard. A filter by loss that is not looked at throws away the very records the model would
# learn most from.
#
# <!-- claims: C75 C79 C80 · E38 -->
# ## Quality against quantity
#
# Now the claim. A quarter of the answers go wrong, in two ways. **Random**: answers change places.
# **Systematic**: somebody misread the guideline, and answered every question that begins with "What"
# with its last word.
#
# All arms take the same 30 steps, so that only the data differ; a small set is seen more often.

# %%
guess = ft.predict("480 records, a quarter wrong at random, against 160 clean ones seen three times: "
                   "exact match is ...", "lower", "about the same", "higher", guess=...)
guess


# %%
def misread(record):
    question = f"{record['instruction']} {record['input']}"
    return record | {"output": question.split()[-1].strip(".?!:")}


big = clean[:480]
what = [r["instruction"].startswith("What") for r in big]
share_wrong = sum(what) / len(what)
f"{share_wrong:.0%} of the answers are wrong"

# %%
sets = {f"{n} clean": clean[:n] for n in (40, 160, 480)}
sets["480 random"] = ft.corrupt(big, "wrong", share_wrong, seed=0)
sets["480 systematic"] = [misread(r) if w else r for r, w in zip(big, what, strict=True)]
val, test = ft.records("tasks", "validation"), ft.records("tasks", "test")[::8]
asked_what = [r for r in ft.records("tasks", "test") if r["instruction"].startswith("What")][::4]


# %%
def right(name, records=test):
    return [ft.exact_match(run.model, tokenizer, records) for run in runs[name]]


for name, records in sets.items():
    lab = ft.Experiment(data=records, val=val, probes=(), eval_records=32)
    runs[name] = lab.sweep(base, max_steps=[30], seed=SEEDS)
accuracy = {name: right(name) for name in sets}
on_what = {name: right(name, asked_what) for name in sets}
ft.table([{"trained on": name, "passes": 480 / len(sets[name]), "exact match": accuracy[name],
           "on What-questions": on_what[name]} for name in sets])

# %%
ft.expect(accuracy["480 random"], "<", accuracy["160 clean"], "a third of the records, clean, is better")
ft.expect(accuracy["480 random"], ">", accuracy["40 clean"], "but twelve times as many outweigh them")
ft.expect(on_what["480 systematic"], "<", on_what["480 random"],
          "the same number of errors, with a system, costs more where it holds")
guess.score("lower" if sum(accuracy["480 random"]) < sum(accuracy["160 clean"]) else "higher")

# %% [markdown]
# So it is a question of the **price**: 480 records with random errors are worth more than 40 clean ones
# and less than 160. Random errors contradict each other, and the right answer is the only one that
# repeats. A systematic error repeats, too: more records of this kind only teach it better.
#
# The studies behind the slogan filtered *bad kinds* of answers: [AlpaGasus](
# https://arxiv.org/abs/2307.08701) kept 9,000 of Alpaca's 52,000, [LIMA](
# https://arxiv.org/abs/2305.11206) chose 750 and wrote 250. Ask not "how much noise?" but "does it
# depend on something that the model can see?"
#
# Nor does origin decide ("human-written beats synthetic"): what counts is whether the answers are
# right, varied and fit the use.

# %% [markdown]
# Why does the systematic arm still get part of the What-questions right? The other three quarters of
# its records were right, and ask such things in other words.
#
# ## And copies?
#
# All sets above make 480 rows: `160 clean` three times each, `40 clean` twelve times each.

# %%
ft.expect(accuracy["160 clean"], ">", accuracy["480 clean"],
          "seen three times, no more than 0.1 worse than new ones", by=-0.1)
ft.expect(accuracy["40 clean"], "<", accuracy["480 clean"], "seen twelve times, they are not")

# %% [markdown]
# In pretraining, too, up to four passes were nearly as good as new text, and many more were not
# ([Muennighoff et al.](https://arxiv.org/abs/2305.16264)). Count *distinct* records.
#
# <!-- claims: C78 C81 · E39 -->
# ## Diversity: one task or sixteen
#
# 240 records each time, from one task or from sixteen. The test asks six *other* tasks.

# %%
guess = ft.predict("240 records from 16 tasks instead of 1: exact match on six unseen tasks is ...",
                   "lower", "about the same", "higher", guess=...)
guess

# %%
import random

from ftkit.data import mixing

strangers = ["capital", "animal_baby", "past_tense", "opposite", "color", "who"]
others = sorted({r["task"] for r in clean} - set(strangers) - {"addition"})
unseen = [r for task in strangers for r in ft.records(task, "test")[:12]]


def from_tasks(n, seed):
    chosen = random.Random(seed).sample(others, n)
    drawn = mixing.draw({t: ft.records(t) for t in chosen}, 240, dict.fromkeys(chosen, 1), seed)
    lab = ft.Experiment(data=drawn, val=val, probes=(), eval_records=8)
    return ft.exact_match(lab.run(base, seed=seed, live=False).model, tokenizer, unseen)


# %%
diverse = {n: [from_tasks(n, seed) for seed in SEEDS] for n in (1, 16)}
ft.expect(diverse[16], ">", diverse[1], "more tasks in the set, better on tasks that are not in it")
guess.score("higher" if sum(diverse[16]) > sum(diverse[1]) else "lower")

# %%
ft.table([{"tasks": n, "exact match on unseen tasks": three} for n, three in diverse.items()])

# %% [markdown]
# [FLAN](https://arxiv.org/abs/2109.01652) is this effect at scale: trained on many tasks, better on
# unseen ones. And *augmentation*, the same records in more words? Give each of the 240 records one of
# four beginnings, and ask with a fifth.

# %%
def begun(records, beginnings, seed=0):
    pick = random.Random(seed)
    return [r | {"instruction": pick.choice(beginnings) + r["instruction"]} for r in records]


starts = ["Please: ", "Question: ", "A short one. ", "Hello! "]
varied = ft.Experiment(data=begun(clean[:240], starts), val=val, probes=(), eval_records=32)
runs["240 varied"] = varied.sweep(base, seed=SEEDS)
fifth = begun(test, ["I would like to know this. "])
begins = {name: [right(name), right(name, fifth)] for name in ("240 clean", "240 varied")}
ft.expect(begins["240 varied"][1], "==", begins["240 clean"][1], "varied beginnings against none")
ft.table([{"trained on": name, "asked as before": before, "with a fifth beginning": after}
          for name, (before, after) in begins.items()])

# %% [markdown]
# Nothing. This base reads past such words anyway (compare the columns of `240 clean`), so there was
# little to repair. Augmentation helps where a model leans on what you vary; find that out first.

# %% [markdown]
# <!-- claims: C82 · E36 -->
# ## Break it: train on the test
#
# Twenty test records had leaked into the dirty set. Train on what is left after the errors, with and
# without the rows that the checker names.

# %%
usable = {n: row for n, row in good.items() if len(row["instruction"] + row["input"]) < 400}
cleaned = [row for n, row in usable.items() if n not in found]
for name, records in {"dirty": list(usable.values()), "cleaned": cleaned}.items():
    lab = ft.Experiment(data=records, val=val, probes=(), eval_records=32)
    runs[name] = lab.sweep(base, seed=SEEDS)

# %%
leaked = [rows[n] for n in key["leaked test record"]]
other = [r for r in test if r not in leaked]
coded = {"leaked": encoding.encode_all(leaked, tokenizer).examples,
         "other": encoding.encode_all(other, tokenizer).examples}
scores = {name: {f"loss on {where}": [ft.loss_on(run.model, coded[where]) for run in runs[name]]
                 for where in coded} for name in ("dirty", "cleaned")}
gain = [b - a for a, b in zip(*(scores[n]["loss on leaked"] for n in scores), strict=True)]
ft.expect(gain, ">", 0, "what leaked looks easier than it is")
ft.table([{"trained on": name, "rows": runs[name][0].data["rows"], **scores[name]}
          for name in scores])

# %% [markdown]
# Look at the last column as well: cleaning took away a sixth of the rows, most of them harmless
# (copies, mojibake), and left the wrong answers in. If it did not help the honest test, that is why.
# Cleaning is judged by a run, not by how much it removed.
#
# ## Now on a real LLM
#
# Does the loss of SmolLM2, which nobody tuned on these tasks, find wrong answers?

# %%
from ftkit.model import download

REAL = download.has("smollm2")
if REAL:
    smol, smol_tokenizer = ft.load("smollm2")
    few = ft.records("handwritten")[:60]
    worse = ft.corrupt(few, "wrong", share=0.25, seed=0)
    coded = [encoding.encode(r, smol_tokenizer, max_length=256) for r in worse]
    order = sorted(range(60), key=lambda i: ft.loss_on(smol, [coded[i]]), reverse=True)
    changed = [i for i in range(60) if few[i]["output"] != worse[i]["output"]]
    first_15 = sum(i in changed for i in order[:15]) / 15
    ft.expect(first_15, ">", len(changed) / 60, "its loss ranks exchanged answers first")

# %% [markdown]
# ## What if?
#
# One number to change: noisy records, each seen once. How many are worth 160 clean ones, seen three
# times?

# %%
n = 1440
noisy = ft.Experiment(data=ft.corrupt(clean[:n], "wrong", share_wrong, seed=0), val=val, probes=())
what_if = noisy.run(base)
ft.table([{"trained on": f"{n} noisy", "exact match": ft.exact_match(what_if.model, tokenizer, test)},
          {"trained on": "160 clean", "exact match": accuracy["160 clean"]}])


# %% [markdown]
# ## Exercises
#
# **1.** Indices of the texts to keep: the first of each group that is nearly the same, by Jaccard
# similarity of three-word shingles (case and punctuation do not count).

# %% tags=["raises-exception"]
def keep_first(texts, similar=0.8):
    ...


ft.check("keep_first", keep_first)

# %% [markdown]
# **2.** Contamination: does a training text share a run of `n` words with any test text?

# %% tags=["raises-exception"]
def contaminated(text, tests, n=13):
    ...


ft.check("contaminated", contaminated)

# %% [markdown]
# **3.** <!-- claims: C20 C21 C22 C23 --> Four famous sets. Fill in how much, and who wrote the
# answers: `"people"` or `"model"`.

# %% tags=["raises-exception"]
cards = {
    "Alpaca": {"records": ..., "answers": ...},
    "Dolly": {"records": ..., "answers": ...},
    "ShareGPT (Vicuna)": {"records": ..., "answers": ...},
    "Flan 2022": {"tasks": ...},
}
ft.check("data_cards", cards)

# %% [markdown]
# ## Interview
#
# **Clean a scraped instruction set.**
# <details><summary>Answer</summary>
# Normalize, drop exact and near duplicates (Jaccard of shingles, MinHash at scale), remove overlap
# with the tests, drop empty, cut and wrongly decoded rows, score the rest with a model and read a
# sample. Much of the form is findable; of our 250 faulty rows 110 went unseen: 60 wrong, cut off or
# of another task, 40 with typos, 10 with markup.
# </details>
#
# **Does quality beat quantity?**
# <details><summary>Answer</summary>
# It is a price. In 30 steps, 480 records with random errors in a quarter were worth more than 40 clean
# ones and less than 160. A systematic error of the same size cost more where it held. Ask whether
# the error depends on the input.
# </details>

# %% [markdown]
# **Human or synthetic data?**
# <details><summary>Answer</summary>
# Origin is a proxy: correctness, diversity and fit decide. Synthetic data is cheap and can be
# verified; it carries the teacher's errors systematically. ShareGPT has human prompts and model
# answers. Alpaca's 52,000 answers are all a model's, and 9,000 filtered ones did better.
# </details>
#
# **How many records do I need?**
# <details><summary>Answer</summary>
# Draw the curve at 25, 50 and 100 % of the data and see whether it is flat. Format takes hundreds,
# skills tens of thousands. Count distinct records: 160 seen three times equalled 480, 40 seen twelve
# times did not.
# </details>

# %% [markdown]
# **How do you handle contamination?**
# <details><summary>Answer</summary>
# Match runs of words (13 is customary) between training and test, drop hits, report the clean
# subset, keep a fresh test. Exact leaks are found; paraphrases and translations are not. Split by
# entity or source, not by row.
# </details>
#
# ## Recap
#
# - A checker sees form, though not all of it; meaning needs a judge, and a judge's list must be read.
# - Random errors have a price in records; systematic ones cost more where they hold, and repeat.
# - Distinct records count, and more tasks carry over to new ones. A leak inflates exactly the number you report.
#
# Before this came [17 overfitting](17_overfitting.ipynb); next,
# [19 multi-task mixing](19_multi_task.ipynb).
