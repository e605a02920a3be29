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
# - find duplicates, near duplicates and leaked test records, in your own code and with `ftkit check`;
# - say which faults no checker sees, and use a model's loss to find some of them;
# - distinguish random from systematic errors, and say why it matters;
# - name the current methods for selecting and generating training data.
#
# *About 45 minutes. The code needs a minute and a half on two CPU cores. You need lesson
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
# "Filter by length" is not an answer. Our set was damaged on purpose, so there is a key: which line
# has which fault. `ft.records("dirty")` would reject it, so we read the lines ourselves.

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
# Faults of *form* can be found by a program: copies, leaks, broken encoding. Faults of *meaning*
# cannot: a wrong answer is a perfectly good string. For these the question is what they cost, and
# that depends on their kind.

# %% [markdown]
# ![Two tables of five questions and answers, each with two wrong answers. Left, random errors: the plural of cat is answered by Paris and the color of snow by meows, answers of other records. Right, a systematic error: each question that begins with What is answered by its last word, cat and box. Random errors point to different places, the systematic one teaches a rule.](figures/18_data_quality.svg)
#
# We start with the form.
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
# If you get stuck: `ft.hint("keep_first")`, then `ft.solution("keep_first")`.
#
# Comparing each text with each earlier one is fine for 750 and hopeless for a million. `ftkit check`
# therefore uses **MinHash**: short fingerprints of the shingles, by which only likely pairs are
# compared. In a shell: `ftkit check my.jsonl --against test.jsonl`.

# %%
_, tokenizer = ft.load("tiny")
report = audit.check(folder / "dirty.train.jsonl", tokenizer=tokenizer, max_length=512,
                     against=folder / "tasks.test.jsonl")
{name: report[name] for name in ("rows", "duplicates", "near_duplicates", "leaks")}

# %% [markdown]
# ## What does a checker see?
#
# We compare its findings with the key: 250 of the 750 rows have a fault.

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
# Read the rows with `found` near 0: wrong outputs, answers to another task, cut answers, typos. Form
# is found, meaning is not. That needs a judge: a rule, a person, or a model.
#
# ## A model as the judge
#
# We fine-tune on a small **trusted** set and let this model give each doubtful record its loss. The
# records with the highest loss are looked at first.

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
# Many of the top records have a fault, some only one of form. Some have none: a high loss also marks
# what is rare or hard. A filter by loss that nobody looks at removes the records that the model could
# learn most from.
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
    """The error rate by first word, for a few of the words."""
    groups = {word: [] for word in kinds}
    for record, original in zip(records, big, strict=True):
        word = original["instruction"].split()[0].lower()
        groups.get(word, []).append(record["output"] != original["output"])
    return {word: sum(group) / len(group) for word, group in groups.items() if group}


ft.table([{"errors": "random"} | rate_of(random_errors),
          {"errors": "systematic"} | rate_of(systematic)])

# %% [markdown]
# The number of wrong answers is nearly equal, their pattern is not. The random errors do not depend on
# anything the model can see. The systematic ones depend on the first word.
#
# All arms below take the same 30 steps, so only the data differ; a small set is seen more often.

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

# %%
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
                    claim="the same number of errors costs more where they follow a rule")
price.score(NAMES[direction(exact["480 random"], exact["160 clean"])])

# %% [markdown]
# So "quality or quantity" has no general answer; it has a **price**: how many noisy records replace one
# clean record? In random errors each wrong answer points elsewhere and the right rule is the only one
# that repeats, so more records help. A systematic error repeats too. More records of that kind teach it
# better.
#
# The three clean arms are about **copies**: the 30 steps show 480 records once, 160 three times and 40
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
# For larger models, the studies behind the slogan removed *kinds* of answers.
# [AlpaGasus](https://arxiv.org/abs/2307.08701) kept 9,000 of Alpaca's 52,000 records by the scores of a
# model; [LIMA](https://arxiv.org/abs/2305.11206) selected 750 and wrote 250. Neither tests random errors.
# Origin does not decide either: human or synthetic, what counts is whether the answers are right, varied
# and fit the use.
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
# [FLAN](https://arxiv.org/abs/2109.01652) is this effect at scale: trained on many tasks, better on
# unseen ones.
#
# <!-- claims: C82 · E36 -->
# ## Break it: train on the test
#
# **Contamination** means that test records are in the training set. The usual check is a common run
# of n words, often 13.

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
# Look at the last column too. Cleaning removed many harmless rows and left the wrong answers in, so it
# need not help on honest test records. Judge cleaning by a run, not by how much it removed.
#
# ## What if?
#
# Noisy records, each seen once. How many are worth 160 clean ones?

# %%
n = 960
noisy = ft.Experiment(data=ft.corrupt(clean[:n], "wrong", fraction, seed=0), val=val, probes=())
mine = noisy.run(base)
ft.table([{"trained on": f"{n} noisy", "exact match": ft.exact_match(mine.model, tokenizer, test)},
          {"trained on": "160 clean", "exact match": exact["160 clean"]}])

# %% [markdown]
# ## In practice, 2026
#
# | step | usual choice |
# |---|---|
# | exact copies | hash of the normalized text |
# | near copies | MinHash with Jaccard 0.7 to 0.8; embeddings for paraphrases ([SemDeDup](https://arxiv.org/abs/2303.09540)) |
# | contamination | runs of 8 to 13 words, plus an LLM that compares nearest neighbors |
# | selection | quality score × complexity × diversity ([DEITA](https://arxiv.org/abs/2312.15685)); [IFD](https://arxiv.org/abs/2308.12032) |
# | selection for a target | gradient similarity ([LESS](https://arxiv.org/abs/2402.04333)) |
# | size, SFT | 1k to 10k for a style, 100k to 1M for a general assistant |

# %% [markdown]
# **IFD** (instruction-following difficulty) is the loss of an answer given its instruction, divided by the
# loss of the answer alone. Near or above 1 the instruction does not help: often a wrong pair. This computes
# it for a file; a small model can stand in for the large one
# ([Superfiltering](https://arxiv.org/abs/2402.00530)).
#
# ```python
# import torch
# from datasets import load_dataset
# from transformers import AutoModelForCausalLM, AutoTokenizer
#
# model_id = "Qwen/Qwen3-0.6B"
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
#     return {"ifd": answer_loss(row["prompt"] + "\n", row["completion"]) / alone}
#
# scored = data.map(ifd).filter(lambda row: row["ifd"] < 1).sort("ifd", reverse=True)
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
#   ([model collapse](https://arxiv.org/abs/2305.17493)); keeping the real data in the mixture
#   [avoids it](https://arxiv.org/abs/2404.01413).

# %% [markdown]
# Pitfalls:
#
# - An LLM judge prefers long answers and its own style. Label 100 records yourself and measure the
#   agreement before you filter with it.
# - A filter can remove a whole group (a language, code). Compare the distribution before and after.
# - Check licenses and personal data before training; a model can repeat what it saw.
# - Synthetic prompts can contain benchmark questions. Decontaminate them too.
#
# ## Interview
#
# **Clean a scraped instruction set.**
# <details><summary>Answer</summary>
# Normalize; drop exact and near duplicates (Jaccard of shingles, MinHash at scale); remove overlap with
# the tests; drop empty, cut and wrongly decoded rows. Then meaning: score the rest with a model or an
# LLM judge whose agreement with people I measured, and read a sample of what is kept and of what is
# dropped. Show the gain by a run on an honest test set, against the uncleaned set at equal steps.
# </details>

# %% [markdown]
# **Does quality beat quantity?**
# <details><summary>Answer</summary>
# It depends on the kind of error. Random label noise averages out with more data, at a price. Errors that
# depend on the input are learned, and more data of that kind makes it worse. So I ask whether the error
# rate depends on something the model sees, and fix those first. Format and style need few records, skills
# and coverage need many.
# </details>
#
# **Human or synthetic data?**
# <details><summary>Answer</summary>
# Origin is a proxy; correctness, diversity and fit decide. Synthetic data is cheap and can be verified,
# but carries the teacher's errors systematically, narrows style, and may violate a license. Most open SFT
# mixtures are largely model-written and filtered; people write prompts, rubrics and audits.
# </details>

# %% [markdown]
# **How many records do I need?**
# <details><summary>Answer</summary>
# Draw the learning curve at 25, 50 and 100 % of the data: if it still rises, more helps. A format takes
# hundreds to a few thousand, broad skills tens of thousands or more. Count distinct records; a few
# passes over the same ones cost little, many do not replace new ones.
# </details>
#
# **How do you handle contamination?**
# <details><summary>Answer</summary>
# Search for common runs of words (8 to 13) between training and test data, and for paraphrases by
# embeddings with an LLM's judgment on the nearest pairs. Drop hits, report the score on the clean
# subset, keep a fresh private test. Split by entity or source, not by row.
# </details>
#
# ## Recap
#
# - A checker sees form. Meaning needs a judge, and a judge's list must be read.
# - Random errors have a price in records. Systematic errors are learned.
# - Distinct records and distinct tasks count. A leak inflates exactly the number you report.
#
# In the package: [audit.py](../ftkit/data/audit.py). Next:
# [19 multi-task mixing](19_multi_task.ipynb).

# %%
ft.progress("18")
