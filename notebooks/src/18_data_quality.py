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
# clean first.** After this lesson you can
#
# - find duplicates, near duplicates and leaked test records, in your own code and with `ftkit check`;
# - say which faults no checker sees, and use a model's loss to find some of them;
# - distinguish random from systematic errors, and say why it matters;
# - name the current methods for selecting and generating training data.
#
# *About 50 minutes. The code needs a minute and a half on two CPU cores. You need lesson
# [04](04_instruction_tuning.ipynb).*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C79 C82 · E36 -->
# ## The question
#
# > *"Here is a scraped set of 750 instructions. Clean it. How do you know that it helped?"*
#
# Our set was damaged on purpose, so there is a key: which line has which fault.
# `ft.records("dirty")` would reject it, so we read the lines ourselves.

# %%
import json

from ftkit.base import machine
from ftkit.data import audit, encoding, schema

folder = machine.share("data_samples")
lines = (folder / "dirty.train.jsonl").read_text("utf-8").splitlines()
rows = {number: json.loads(line) for number, line in enumerate(lines, 1)}
key = json.loads((folder / "dirty_key.json").read_text())


# %%
def example(number):
    row = rows[number]
    return {"question": f"{row['instruction']} {row['input']}"[:50],
            "answer": repr(row["output"])[:30]}


ft.table([{"fault": fault, "rows": len(numbers)} | example(numbers[1])
          for fault, numbers in key.items()])

# %% [markdown]
# ## The idea: find, then ask what an error costs
#
# A program finds what somebody wrote a rule for: copies, leaks, broken encoding. A single wrong answer
# breaks no rule: it looks like a good one. For such faults the question is what they cost, and that
# depends on their kind.

# %% [markdown]
# ![Two tables of five questions and answers, each with two wrong answers. Left, random errors: the plural of cat is answered by Paris and the color of snow by meows, answers of other records. Right, a systematic error: each question that begins with What is answered by its last word, cat and box. Random errors point to different places, the systematic one teaches a rule.](figures/18_data_quality.svg)
#
# ## Your turn: near duplicates
#
# A **shingle** is a piece of three words. The **Jaccard similarity** of two texts is the number of
# shingles they share, divided by the number of shingles in either. Case and punctuation do not count.


# %%
import re


def words_of(text):
    return re.findall(r"\w+", text.lower())


def shingles(words):
    return {tuple(words[i:i + 3]) for i in range(max(1, len(words) - 2))}


# %% tags=["raises-exception"]
def keep_first(texts, similar=0.8):
    """Indices of the texts to keep, in order.

    A text is dropped if its Jaccard similarity to a text that was kept before it is at least
    `similar`. Use words_of and shingles.
    """
    ...


ft.check("keep_first", keep_first)

# %% [markdown]
# On our 750 questions a right solution keeps 676. For a million, comparing all pairs is hopeless.
# `ftkit check` therefore uses **MinHash**: a short signature of the shingles. The part of it in
# which two texts agree estimates their Jaccard similarity. **Locality-sensitive hashing** (LSH)
# puts texts that share a band of the signature into one bucket, and only pairs in a bucket are
# compared. In a shell: `ftkit check my.jsonl --against test.jsonl`.

# %%
_, tokenizer = ft.load("tiny")
report = audit.check(folder / "dirty.train.jsonl", tokenizer=tokenizer, max_length=512,
                     against=folder / "tasks.test.jsonl")
{name: report[name] for name in ("rows", "duplicates", "near_duplicates", "leaks")}

# %% [markdown]
# ## What does a checker see?
#
# We compare its findings with the key: 250 of the 750 rows have a fault. A copy counts as found if
# either row of the pair is named.

# %%
guess = ft.predict("Of the 250 faulty rows, the checker finds", "less than half", "50 to 75 %",
                   "more than 75 %")
guess

# %%
good = {number: row for number, row in rows.items() if not schema.problems_in(row, number)}


def question_of(row):
    """The question without the polite beginnings that make near copies."""
    return schema.group_key(row).replace("please: ", "").replace("q: ", "")


same_question = {}
for number, row in good.items():
    same_question.setdefault(question_of(row), []).append(number)

# %%
named = {finding["row"] for finding in report["errors"] + report["warnings"]}


def is_found(number):
    """Whether a finding names the row, or a row with the same question, as one of two copies."""
    copies = same_question[question_of(rows[number])] if number in good else [number]
    return any(copy in named for copy in copies)


found = {fault: sum(is_found(number) for number in numbers) for fault, numbers in key.items()}
ft.table([{"fault": fault, "rows": len(key[fault]), "found": found[fault]} for fault in key])

# %%
part = sum(found.values()) / sum(len(numbers) for numbers in key.values())
guess.score("less than half" if part < 0.5 else "50 to 75 %" if part <= 0.75 else "more than 75 %")

# %% [markdown]
# The checker misses one planted near copy: five words against four have a similarity of 0.67, below its
# limit of 0.8. It counts 30 all the same: one is a planted contradiction.
#
# Markup is form, but no rule looked for it; `re.search(r"<[a-z/]|&[a-z]+;", output)` would. Two answers
# to one question can be seen, but not which of them is wrong. A spell checker finds typos that are not
# words. Cut answers and single wrong ones need a judge: a person or a model that knows what is right. A
# `wrong task` row has a right answer; only its `task` label is wrong.
#
# ## A model as the judge
#
# We fine-tune on a small **trusted** set and let this model give each doubtful record its loss, the
# mean over the answer's tokens. Only the first 250 valid rows are ranked. The records with the
# highest loss are looked at first. To 16 of these 250 questions the trusted set has the right answer.

# %%
clean = ft.records("tasks")
val, test = ft.records("tasks", "validation"), ft.records("tasks", "test")[::8]

# %%
base = ft.Config(learning_rate=1e-3, eval_steps=1000)
trusted = ft.Experiment(data=clean[:240], val=val, probes=(), eval_records=16)
judges = [trusted.run(base, seed=seed, live=False) for seed in range(3)]

# %%
wrong_kinds = ("wrong output", "wrong task", "cut off", "contradiction")
wrong = {number for kind in wrong_kinds for number in key[kind]}
doubtful = [number for number, row in good.items()
            if len(row["instruction"] + row["input"]) < 400][:250]
encoded = {number: encoding.encode(good[number], tokenizer) for number in doubtful}


def highest_loss(model, n=30):
    losses = {number: ft.loss_on(model, [one]) for number, one in encoded.items()}
    return sorted(losses, key=losses.get, reverse=True)[:n]


# %%
top = [highest_loss(run.model) for run in judges]
hits = [sum(number in wrong for number in numbers) / len(numbers) for numbers in top]
overall = len(wrong & set(doubtful)) / len(doubtful)
ft.expect(hits, ">", overall, "at the top, wrong answers are more than 1.5 times as common as overall",
          times=1.5)

# %%
fault_of = {number: fault for fault, numbers in key.items() for number in numbers}
ft.table([{"rank": rank} | example(number) | {"fault": fault_of.get(number, "none")}
          for rank, number in list(enumerate(top[0], 1))[::3]])

# %% [markdown]
# Three of the 31 rows counted as wrong here are `wrong task`, with right answers. Without them the claim
# would hold even if all three were at the top.
#
# Many of the top records have a fault. Some have none: a high loss also marks what is rare or hard. A
# filter by loss that nobody looks at can remove the records that the model could learn most from.
#
# <!-- claims: C75 C79 C80 · E38 -->
# ## Run it: quality against quantity
#
# Now the claim. A quarter of the answers goes wrong, in two ways. **Random**: the answers of some
# records are swapped. **Systematic**: somebody misread the guideline and answered every question that
# begins with "What" by its last word. How could you see the difference in a set?

# %% tags=["raises-exception"]
def error_rates(instructions, is_wrong):
    """First word of the instructions, in lower case -> fraction of its records that are wrong.

    instructions: a list of texts. is_wrong: a list of True and False of the same length.
    """
    ...


ft.check("error_rates", error_rates)


# %%
def misread(record):
    question = f"{record['instruction']} {record['input']}"
    return record | {"output": question.split()[-1].strip(".?!:")}


# %%
big = clean[:480]
is_what = [record["instruction"].startswith("What") for record in big]
fraction = sum(is_what) / len(is_what)
systematic = [misread(r) if what else r for r, what in zip(big, is_what, strict=True)]
random_errors = ft.corrupt(big, "wrong", fraction, seed=0)

# %%
def rate_of(records, kinds=("what", "name", "say", "which")):
    """The error rate of all records, and by first word for a few of the words."""
    groups = {word: [] for word in ("all", *kinds)}
    for record, original in zip(records, big, strict=True):
        word = original["instruction"].split()[0].lower()
        is_wrong = record["output"] != original["output"]
        groups["all"].append(is_wrong)
        groups.get(word, []).append(is_wrong)
    return {word: sum(group) / len(group) for word, group in groups.items() if group}


ft.table([{"errors": "random"} | rate_of(random_errors),
          {"errors": "systematic"} | rate_of(systematic)])

# %% [markdown]
# The error rates of all records are nearly equal, the patterns are not. The random errors were drawn without
# looking at the question, so their rates differ by chance. The systematic ones are **concentrated** on
# one first word. Without a key, label a sample of 100 to 200 records and compare the error rate by
# source, annotator, task and length. Few records in a group leave its rate uncertain.
#
# All sets below take the same 30 steps, so only the data differ; a small set is seen more often. The
# seeds repeat the training, on one draw of records and errors.

# %%
price = ft.predict("480 records, a quarter wrong at random, against 160 clean ones seen three times: "
                   "exact match is", "lower", "no difference seen", "higher")
price

# %%
def sweep(records, seeds):
    lab = ft.Experiment(data=records, val=val, probes=(), eval_records=16)
    return [lab.run(base, max_steps=30, seed=seed, live=False) for seed in range(seeds)]


runs = {"160 clean": sweep(clean[:160], 5), "480 random": sweep(random_errors, 5),
        "480 systematic": sweep(systematic, 5), "480 clean": sweep(big, 3),
        "40 clean": sweep(clean[:40], 3)}

# %%
what_test = [r for r in ft.records("tasks", "test") if r["instruction"].startswith("What")][::4]
exact = {name: [ft.exact_match(run.model, tokenizer, test) for run in members]
         for name, members in runs.items()}
on_what = {name: [ft.exact_match(run.model, tokenizer, what_test) for run in members]
           for name, members in runs.items()}
ft.table([{"trained on": name, "exact match": exact[name], "on What-questions": on_what[name]}
          for name in runs])

# %%
from ftkit.lessons.claims import direction

NAMES = {"<": "lower", ">": "higher", "": "no difference seen"}

# %%
ft.expect(exact["480 random"], ">", exact["40 clean"], "many noisy records beat 40 clean ones")
verdict = ft.expect(on_what["480 systematic"], "<", on_what["480 random"], paired=True,
                    claim="errors concentrated on What-questions cost more there")
price.score(NAMES[direction(exact["480 random"], exact["160 clean"])])

# %% [markdown]
# In our runs the opening claim held against 160 clean records and failed against 40. On seeds
# that this page was not written with, the second was not settled (0.45 against 0.42). So "quality or
# quantity" has no general answer; it has a **price**: how many noisy records replace one clean
# record? The price depends on the run too. At 30 steps extra records have little to give: 480 clean
# ones score near 160.
#
# On What-questions two things differ at once: nearly all answers are wrong in one set, a quarter in the
# other, and only the first follow a rule. So this shows what *concentrated* errors cost; "What if?" below
# takes the rule away.
#
# The systematic set is not at 0: all 20 tasks with What-questions are also asked in other words, in
# 161 of the 480 records, with right answers. Was the rule learned all the same? On the What-questions
# of the 480 the last word is right in 2 %, so right answers alone would score near 0 below.

# %%
by_rule = [misread(record) for record in what_test]
last_word = [ft.exact_match(run.model, tokenizer, by_rule) for run in runs["480 systematic"]]
ft.expect(last_word, ">", 0.1, "the rule was learned: more than 10 % last words", may_fail=True)

# %% [markdown]
# The three clean sets are about **copies**: the 30 steps show 480 records once, 160 three times and 40
# twelve times.

# %%
ft.expect(exact["160 clean"], ">", exact["480 clean"], "three passes: no more than 0.1 worse",
          by=-0.1)
ft.expect(exact["40 clean"], "<", exact["480 clean"], "twelve passes: worse than new records")

# %% [markdown]
# In pretraining, up to four passes over the same text were nearly as good as new text
# ([Muennighoff et al. 2023](https://arxiv.org/abs/2305.16264)). Count *distinct* records.
#
# ## At 135M
#
# The recorded runs of SmolLM2-135M ask about the same two kinds of errors, in 320 records.

# %%
from ftkit.lessons.at_135m import at_135m

at_135m("label_noise", verdict)

# %% [markdown]
# The box speaks of a rule; here too the errors that follow it are also the concentrated ones.
#
# On the whole test the recorded order is reversed: 0.43 ± 0.02 with systematic errors, 0.39 ± 0.01
# with random ones, 0.45 ± 0.02 clean. There the systematic errors cost most on their own kind of
# question and nearly spare the rest; the random ones are spread. An average hides the first: **report by
# group**. On the tiny model the order on the whole test is the other one.
#
# For larger models, the studies behind the slogan selected *kinds* of answers.
# [AlpaGasus](https://arxiv.org/abs/2307.08701) kept 9,000 of Alpaca's 52,000 records by the scores of a
# model; [LIMA](https://arxiv.org/abs/2305.11206) selected 750 and wrote 250. Neither tests random errors.
#
# <!-- claims: C78 C81 · E39 -->
# ## Diversity: one task or sixteen
#
# 240 records each time, from one task or from sixteen. The test asks six *other* tasks.

# %%
spread = ft.predict("240 records from 16 tasks instead of 1: exact match on six unseen tasks is",
                    "lower", "no difference seen", "higher")
spread

# %%
import random

from ftkit.data import mixing

unseen_tasks = ["capital", "animal_baby", "past_tense", "opposite", "color", "who"]
others = sorted({record["task"] for record in clean} - set(unseen_tasks) - {"addition"})
unseen = [record for task in unseen_tasks for record in ft.records(task, "test")[:12]]


# %%
def from_tasks(n, seed):
    """Exact match on the unseen tasks after training on 240 records of n tasks."""
    chosen = random.Random(seed).sample(others, n)
    shares = dict.fromkeys(chosen, 1)
    records = mixing.draw({task: ft.records(task) for task in chosen}, 240, shares, seed)
    lab = ft.Experiment(data=records, val=val, probes=(), eval_records=8)
    return ft.exact_match(lab.run(base, seed=seed, live=False).model, tokenizer, unseen)


# %%
diverse = {n: [from_tasks(n, seed) for seed in range(5)] for n in (1, 16)}

# %%
ft.table([{"tasks": n, "exact match on unseen tasks": five} for n, five in diverse.items()])

# %%
ft.expect(diverse[16], ">", diverse[1], "more tasks in the set, better on tasks that are not in it")
spread.score(NAMES[direction(diverse[16], diverse[1])])

# %% [markdown]
# Two more things may help the sixteen here. Some are relatives of the unseen six (`to_past` and
# `past_tense`), and a small task alone repeats its records. [FLAN](https://arxiv.org/abs/2109.01652)
# held out whole clusters of tasks: trained on many others, a model of 137B got better on them, models of
# 8B and fewer got worse.
#
# <!-- claims: C82 · E36 -->
# ## Break it: train on the test
#
# **Contamination** means that test records are in the training set. The usual check is a common run
# of n words, often 13. With 13, a right solution finds 3 of our 20 leaks, since the other 17
# questions are shorter. For short tests compare the whole normalized question too.

# %% tags=["raises-exception"]
def contaminated(text, tests, n=13):
    """Whether the text shares a run of n words with any of the texts in `tests`: True or False.

    Use words_of on both sides.
    """
    ...


ft.check("contaminated", contaminated)

# %% [markdown]
# Twenty test records leaked into the dirty set. We train with and without the rows that the checker
# names, and compare the loss on the leaked records with that on other test records.

# %%
usable = {number: row for number, row in good.items()
          if len(row["instruction"] + row["input"]) < 400}
sets = {"dirty": list(usable.values()),
        "cleaned": [row for number, row in usable.items() if number not in named]}
leaked = [rows[number] for number in key["leaked test record"]]
groups = {"leaked": leaked, "other": [record for record in test if record not in leaked]}


# %%
def losses_of(records):
    """Loss on the leaked and on the other test records, a value for each seed."""
    lab = ft.Experiment(data=records, val=val, probes=(), eval_records=16)
    models = [lab.run(base, seed=seed, live=False).model for seed in range(3)]
    coded = {name: encoding.encode_all(group, tokenizer).examples
             for name, group in groups.items()}
    return {name: [ft.loss_on(model, examples) for model in models]
            for name, examples in coded.items()}


# %%
losses = {name: losses_of(records) for name, records in sets.items()}
ft.table([{"trained on": name, "rows": len(sets[name])}
          | {f"loss, {group}": values for group, values in losses[name].items()} for name in sets])

# %%
ft.expect(losses["dirty"]["leaked"], "<", losses["cleaned"]["leaked"], paired=True,
          claim="what leaked looks easier than it is")

# %% [markdown]
# Compare *within* the leaked column. The leaked records are easier even for the cleaned models, which
# never saw them, so the gap to the other records is not all leak. The dirty set also takes more steps,
# since each set is seen once; the other column, where a leak cannot help, shows what these change.
#
# Did cleaning help? In that column, of honest test records, this run shows no clear gain.
# Single wrong answers stayed in. Of the 139 rows that the checker names 32 have no fault: 24 have a copy
# that stayed, so nothing is lost. In the other 8 pairs the answers differ, and the right one went.
# Judge cleaning by a test score at equal steps, not by how much it removed.
#
# ## What if?
#
# As many wrong answers, on the same What-questions, but without a rule: their answers are swapped among
# themselves. Which costs more?

# %%
swapped = ft.corrupt([r for r in big if r["instruction"].startswith("What")], "wrong", 1, seed=0)
gathered = [r for r in big if not r["instruction"].startswith("What")] + list(swapped)
no_rule = [ft.exact_match(run.model, tokenizer, what_test) for run in sweep(gathered, 3)]
ft.expect(no_rule, "!=", on_what["480 systematic"], may_fail=True,
          claim="a rule and no rule differ on What-questions")

# %% [markdown]
# In our runs the errors *without* a rule scored lower on What-questions than those with one, and both far
# lower than errors spread at random. So the damage needs no rule; concentration is enough.

# %% [markdown]
# ## In practice, 2026
#
# | step | usual choice |
# |---|---|
# | exact copies | hash of the normalized text |
# | near copies | MinHash and LSH with Jaccard 0.7 to 0.8 (datatrove, NeMo Curator, datasketch); embeddings for paraphrases ([SemDeDup](https://arxiv.org/abs/2303.09540)) |
# | repair before you drop | `ftfy` for encoding; strip markup; write a wrong answer again with a strong model and verify it |
# | label errors | for class labels, records whose label a cross-validated model finds unlikely (cleanlab); a labeled sample by source and annotator |
# | contamination | a share of common runs of 8 to 13 words, plus an LLM that compares nearest neighbors |
# | selection | quality × complexity, then skip near neighbors by embedding ([DEITA](https://arxiv.org/abs/2312.15685)); [IFD](https://arxiv.org/abs/2308.12032) |
# | selection of raw text | quality classifier ([FineWeb-Edu](https://arxiv.org/abs/2406.17557)); a band of perplexity: keep the middle, drop the tails ([Marion et al. 2023](https://arxiv.org/abs/2309.04564)) |
# | selection for a target | gradient similarity ([LESS](https://arxiv.org/abs/2402.04333)) |
# | prompts for RL | those that the model solves sometimes, neither always nor never ([DAPO](https://arxiv.org/abs/2503.14476)) |
# | size, SFT | 1k to 10k for a style, 100k to millions for a general assistant |

# %% [markdown]
# Low perplexity is often boilerplate, high perplexity noise. The best band depends on the data
# ([Ankner et al. 2024](https://arxiv.org/abs/2405.20541)).
#
# **IFD** (instruction-following difficulty) is the loss of an answer given its instruction, divided by the
# loss of the answer alone. At 1 or above the instruction does not help, often a wrong pair: drop it. Of the
# rest the paper keeps the top 5 to 10 %, the hard ones. In a noisy set wrong answers are in this top too,
# so check for them first. A small model can stand in for the large one
# ([Superfiltering](https://arxiv.org/abs/2402.00530)).
#
# ```python
# import torch
# from datasets import load_dataset
# from transformers import AutoModelForCausalLM, AutoTokenizer
#
# model_id = "Qwen/Qwen3-0.6B-Base"
# # {"prompt": "...", "completion": "..."}
# data = load_dataset("json", data_files="train.jsonl", split="train")
# tokenizer = AutoTokenizer.from_pretrained(model_id)
# model = AutoModelForCausalLM.from_pretrained(model_id, dtype=torch.bfloat16).eval()
#
# @torch.no_grad()
# def answer_loss(prompt, answer):
#     start = tokenizer(prompt, return_tensors="pt").input_ids
#     ids = tokenizer(answer, return_tensors="pt", add_special_tokens=False).input_ids
#     both = torch.cat([start, ids], 1)
#     labels = both.clone()
#     labels[:, :start.shape[1]] = -100  # only the answer counts
#     return model(both, labels=labels).loss.item()
#
# def ifd(row):
#     alone = answer_loss("Answer:\n", row["completion"])
#     given = answer_loss(row["prompt"] + "\nAnswer:\n", row["completion"])
#     return {"ifd": given / alone}
#
# scored = data.map(ifd).filter(lambda row: row["ifd"] < 1).sort("ifd", reverse=True)
# chosen = scored.select(range(len(scored) // 10))  # the hardest tenth
# ```

# %% [markdown]
# Synthetic pipelines:
#
# - **Self-Instruct** and **Evol-Instruct** grow instructions from seeds;
#   [Magpie](https://arxiv.org/abs/2406.08464) lets a chat model write the user's turn;
#   [personas](https://arxiv.org/abs/2406.20094) vary the prompts.
# - **Rejection sampling**: draw several answers and keep those that a verifier (tests, a checked result)
#   or a reward model accepts.
# - Training on one's own unfiltered output again and again narrows the distribution
#   ([model collapse](https://arxiv.org/abs/2305.17493)); adding to the real data instead of
#   replacing them [avoided it in experiments](https://arxiv.org/abs/2404.01413).

# %% [markdown]
# Pitfalls:
#
# - An LLM judge often prefers long answers and its own style. Label 100 records yourself and measure the
#   agreement before you filter with it.
# - A filter can remove a whole group (a language, code). Compare the distribution before and after.
# - Check licenses and personal data; a model can repeat what it saw.
# - Synthetic prompts can contain benchmark questions. Decontaminate them too.
#
# ## Interview
#
# **Clean a scraped instruction set.**
# <details><summary>Answer</summary>
# Normalize; drop exact and near duplicates (Jaccard of shingles, MinHash at scale); remove overlap with
# the tests; drop empty and cut rows, repair encoding. Then meaning: score the rest with a model or an
# LLM judge whose agreement with people I measured, and read a sample of what is kept and of what is
# dropped. Show the gain by a run on an honest test set, against the uncleaned set at equal steps.
# </details>

# %% [markdown]
# **Does quality beat quantity?**
# <details><summary>Answer</summary>
# It depends on the kind of error. Random wrong answers leave the right one the most likely as long as they
# do not agree, so with more distinct records and few passes greedy answers can recover. Sampled answers
# stay noisy, and many passes memorize the errors. Errors concentrated on one kind of input damage that
# kind, and a rule in them can be learned. I measure the error rate by group, and fix those first.
# </details>
#
# **Human or synthetic data?**
# <details><summary>Answer</summary>
# Origin is a proxy; correctness, diversity and fit decide. Synthetic data is cheap, and can be verified
# where a checker exists (tests, exact results), but carries the teacher's errors systematically, narrows
# style, and may violate a license.
# </details>

# %% [markdown]
# **How many records do I need?**
# <details><summary>Answer</summary>
# Draw the learning curve at 25, 50 and 100 % of the data, with the steps chosen for each size: if it
# still rises, more is likely to help. A format takes hundreds to a few thousand, broad skills tens of
# thousands or more.
# Count distinct records; a few passes over the same ones often cost little, many do not replace new ones.
# </details>
#
# **How do you handle contamination?**
# <details><summary>Answer</summary>
# Search for common runs of words (8 to 13) between training and test data; require a share of the text,
# since one common run can be boilerplate. Find paraphrases by embeddings, with an LLM's judgment on the
# nearest pairs. Drop the hits from the training set; if the model is trained already, report the score on
# the clean part of the test too. Keep a fresh private test. Split by entity or source, not by row.
# </details>
#
# ## Recap
#
# - A checker finds what has a rule. The rest needs a judge, and a judge's list must be read.
# - The claim has no general answer: random errors have a price in records. Concentrated errors cost
#   their own group most: report by group.
# - Distinct records and distinct tasks count. A leak inflates exactly the number you report.
#
# In the package: [audit.py](../ftkit/data/audit.py). Next:
# [19 multi-task mixing](19_multi_task.ipynb).

# %%
ft.progress("18")
