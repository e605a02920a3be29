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
# **Claim: quality beats quantity. A few clean records are worth more than many with errors.** It
# could be wrong. After this lesson you can
#
# - find near duplicates and leaked test records, in your own code and with `ftkit check`;
# - say which faults no checker sees, and use a model's loss to find some of them;
# - distinguish random from systematic errors, and say why it matters;
# - open a public set, and say what a filter takes away.
#
# *About 45 minutes. The code needs about 75 seconds of one CPU core. You need lesson
# [04](04_instruction_tuning.ipynb). Tools, selection methods and literature are on the
# [reference page](reference/18_data_quality.md).*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# <!-- claims: C79 C82 · E36 -->
# ## The question
#
# Somebody scraped 750 instructions for the next model of your team, and training starts on Monday:
#
# > *"Clean it. How do you know that it helped?"*
#
# The last question has a known answer: train on both sets at equal steps, with three seeds each, and compare on a
# clean held-out set, by group. But where do you begin? We ask which faults can be found, and which ones cost. This set was damaged on purpose, and a key says which line has which fault.

# %%
import json

from ftkit.inside import audit, encode_all, problems_in, shipped_folder

folder = shipped_folder("data_samples")
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
# A program finds what somebody wrote a rule for: copies, leaks, broken encoding. Wrong answers break
# no such rule. They come in kinds:

# %% [markdown]
# ![Two tables of five questions and answers, each with two wrong answers. Left, random errors: the plural of cat is answered by Paris and the color of snow by meows, answers of other records. Right, a systematic error: each question that begins with What is answered by its last word, cat and box. Random errors point to different places, the systematic one teaches a rule.](figures/18_data_quality.svg)
#
# ## Your turn: near duplicates
#
# A **shingle** is a run of n words, here three. The **Jaccard similarity** of two texts is the number of
# shingles they share, divided by the number in at least one of them. Case and punctuation do not count.


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
# On the scraped file:

# %%
from ftkit.teaching import at_135m, direction, working

questions = [f"{row['instruction']} {row['input']}" for row in rows.values()]
kept = working("keep_first", keep_first)(questions)
print(f"{len(kept)} of {len(rows)} questions are kept")

# %% [markdown]
# For a million texts, comparing all pairs takes too long. `ftkit check` uses **MinHash**: under a random order of
# all shingles, two texts have the same first shingle with a probability that is their Jaccard similarity. 64 orders
# estimate it, and only texts that share a piece of these 64 are compared.

# %%
_, tokenizer = ft.load("tiny")
report = audit.check(folder / "dirty.train.jsonl", tokenizer=tokenizer, max_length=512,
                     against=folder / "tasks.test.jsonl")
ft.table(report["warnings"][:3])

# %% [markdown]
# ## What does a checker see?
#
# We compare its findings with the key: 250 of the 750 rows have a fault. A copy counts as found if either row of
# the pair is named.

# %%
guess = ft.predict("Of the 250 faulty rows, the checker finds", "less than half", "50 to 75 %",
                   "more than 75 %")
guess

# %%
named, partners = set(), set()
for finding in report["errors"] + report["warnings"]:
    named.add(finding["row"])
    partners.update(int(n) for n in re.findall(r"same as line (\d+)", finding["problem"]))
found = {fault: len(set(numbers) & (named | partners)) for fault, numbers in key.items()}
faulty = set().union(*key.values())
print(f"rows named: {len(named)} ({len(named & faulty)} faulty, {len(named - faulty)} not)")
ft.table([{"fault": fault, "rows": len(key[fault]), "found": found[fault]} for fault in key])

# %%
part = sum(found.values()) / sum(len(numbers) for numbers in key.values())
guess.score("less than half" if part < 0.5 else "50 to 75 %" if part <= 0.75 else "more than 75 %")

# %% [markdown]
# It finds copies, leaks, empty and broken rows: faults with a rule. Markup could have a rule,
# `re.search(r"<[a-z/]|&[a-z]+;", output)`, and typos a dictionary. Cut and wrong answers need a **judge**: a person
# or a model that knows what is right.
#
# Do not simply delete what is named. If two rows ask the same, the checker names the later one. Most of these have a
# copy that stays, but some are right and contradict a wrong row.
#
# ## A model as the judge
#
# A model fine-tuned on a small **trusted** set gives each of the first 250 rows that are neither empty nor too
# long its loss. Those with the highest loss are read first. Are wrong answers more common there?

# %%
clean = ft.records("tasks")
val, test = ft.records("tasks", "validation"), ft.records("tasks", "test")[::8]

# %%
good = {number: row for number, row in rows.items() if not problems_in(row, number)}
base = ft.Config(learning_rate=1e-3, eval_steps=1000, precision="fp32")
trusted = ft.Experiment(data=clean[:240], val=val, probes=(), eval_records=16)
judges = [trusted.run(base, seed=seed, live=False) for seed in range(3)]

# %%
wrong_kinds = ("wrong output", "cut off", "contradiction")
wrong = {number for kind in wrong_kinds for number in key[kind]}
doubtful = [number for number, row in good.items()
            if len(row["instruction"] + row["input"]) < 400][:250]
encoded = {number: ft.encode(good[number], tokenizer) for number in doubtful}


def highest_loss(model, n=30):
    losses = {number: ft.loss_on(model, [one]) for number, one in encoded.items()}
    return sorted(losses, key=losses.get, reverse=True)[:n]


# %%
top = [highest_loss(run.model) for run in judges]
hits = [sum(number in wrong for number in numbers) / len(numbers) for numbers in top]
overall = len(wrong & set(doubtful)) / len(doubtful)
ft.expect(hits, ">", overall, "at the top, wrong answers are more than twice as common as overall",
          times=2)

# %%
fault_of = {number: fault for fault, numbers in key.items() for number in numbers}
ft.table([{"rank": rank} | example(number) | {"fault": fault_of.get(number, "none")}
          for rank, number in list(enumerate(top[0], 1))[::3]])

# %% [markdown]
# Yes: a person who reads these 30 rows first finds several times as many wrong answers as one who reads 30 at
# random. But some records at the top have no fault: a high loss also marks what is rare or hard. A filter by loss
# alone can remove what the model could learn most from. Without a trusted set, score each record with a model that
# has not trained on it (cross-validation), since models can memorize errors. And a rule in the errors is learned,
# and hides them, as we will see.
#
# <!-- claims: C75 C79 C80 · E38 -->
# ## Run it: quality against quantity
#
# A quarter of the answers goes wrong, in three ways:
#
# - **random**: records anywhere in the set get each other's answers;
# - **systematic**: somebody misread the guideline and answered every question that begins with "What" by
#   its last word;
# - **swapped**: What-questions get each other's answers, so they are wrong without a rule.
#
# What would show the difference?

# %% tags=["raises-exception"]
def error_rates(instructions, is_wrong):
    """First word of the instructions, in lower case -> fraction of its records that are wrong.

    instructions: a list of texts. is_wrong: a list of True and False of the same length.
    """
    ...


ft.check("error_rates", error_rates)


# %%
def is_what(record):
    return record["instruction"].startswith("What")


def misread(record):
    question = f"{record['instruction']} {record['input']}"
    return record | {"output": question.split()[-1].strip(".?!:")}


# %%
what = [record for record in clean[:480] if is_what(record)]
rest = [record for record in clean[:480] if not is_what(record)]
big = [*rest, *what]
# ft.corrupt(records, "wrong", 0.2): a fifth of the records get each other's answers
errors = {"random": ft.corrupt(big, "wrong", len(what) / len(big), seed=0),
          "systematic": [*rest, *map(misread, what)],
          "swapped": [*rest, *ft.corrupt(what, "wrong", 1, seed=0)]}


# %%
def rates(records):
    """What error_rates computes, for four of the first words."""
    wrong = {"what": [], "name": [], "say": [], "which": []}
    for record, original in zip(records, big, strict=True):
        word = original["instruction"].split()[0].lower()
        wrong.get(word, []).append(record["output"] != original["output"])
    return {word: sum(group) / len(group) for word, group in wrong.items()}


ft.table([{"errors": kind} | rates(records) for kind, records in errors.items()])

# %% [markdown]
# The random errors are spread; the other two kinds are **concentrated** on one first word. Without a key, label a
# sample of 100 to 200 records and compare the error rates by source, annotator, task and length.
#
# What do the errors cost? All sets take the same 30 steps; a small set is seen more often.

# %%
noisy = ft.predict("480 records, a quarter wrong at random, against 160 clean ones seen three times: "
                   "exact match is", "lower", "no difference seen", "higher")
noisy

# %%
def sweep(records, seeds):
    lab = ft.Experiment(data=records, val=val, probes=(), eval_records=16)
    return [lab.run(base, max_steps=30, seed=seed, live=False) for seed in range(seeds)]


runs = {"20 clean": sweep(clean[:20], 3), "160 clean": sweep(clean[:160], 5),
        "480 clean": sweep(big, 3), "480 random": sweep(errors["random"], 5),
        "480 systematic": sweep(errors["systematic"], 3), "480 swapped": sweep(errors["swapped"], 3)}

# %% [markdown]
# We ask each model two sets of test questions: a sample of all (78), and What-questions (35).

# %%
what_test = [record for record in ft.records("tasks", "test") if is_what(record)][::4]
for members in runs.values():
    for run in members:
        run.after["exact match"] = ft.exact_match(run.model, tokenizer, test)
        run.after["on What-questions"] = ft.exact_match(run.model, tokenizer, what_test)
ft.scatter(runs, "exact match", "on What-questions", frontier=False, start=False)

# %%
def after(name, measure="exact match"):
    return [run.after[measure] for run in runs[name]]


ft.expect(after("480 random"), ">", after("20 clean"), "many noisy records beat 20 clean ones")
ft.expect(after("20 clean"), "<", after("480 clean"), "20 seen 24 times: below 480 seen once")
verdict = ft.expect(after("480 systematic", "on What-questions"), "<",
                    after("480 random", "on What-questions")[:3], paired=True,
                    claim="errors concentrated on What-questions cost more there")
noisy.score({"<": "lower", ">": "higher", "": "no difference seen"}[
    direction(after("480 random"), after("160 clean"))])

# %% [markdown]
# The opening claim depends on the numbers: twenty clean records lose against 480 noisy ones, partly because they
# cover only 13 of the 31 tasks. On What-questions the concentrated errors cost most, because they hit nearly all of
# these and random ones only a quarter. A rule was not needed for that: the swapped errors cost at least as much.
#
# Is the rule learned, too? We count how often a model answers a What-question by its last word. The swapped errors
# are the control.

# %%
by_rule = [misread(record) for record in what_test]
last_word = {name: [ft.exact_match(run.model, tokenizer, by_rule) for run in runs[name]]
             for name in ("480 systematic", "480 swapped")}
ft.expect(last_word["480 systematic"], ">", last_word["480 swapped"], "the rule was learned")

# %% [markdown]
# That is why a judge trained on the same faulty data would not find them.
#
# ## At 135M
#
# The recorded runs of SmolLM2-135M-Instruct have random and systematic errors, in 320 records.

# %%
at_135m("label_noise", verdict)

# %% [markdown]
# The average hides a group. Over all tasks (64 records) exact match was 0.43 with systematic errors and 0.39 with
# random ones. On the 48 What-questions the order is the opposite. So **report by group**.
#
# Behind the slogan are *selected* sets: 1,000 curated records ([LIMA](https://arxiv.org/abs/2305.11206)), or the 9k
# of Alpaca's 52k that an LLM rated best ([AlpaGasus](https://arxiv.org/abs/2307.08701)). In
# [s1](https://arxiv.org/abs/2501.19393), 1,000 reasoning traces selected for quality, difficulty and diversity gave a
# 32B model 50 % on AIME 2024. 1,000 random ones that passed the quality filter gave 37 %, all 59k 53 %.
# Diversity counts on the small model too: 240 records of sixteen tasks did far better on *other* tasks than 240
# of one task ([numbers](reference/18_data_quality.md)).
#
# <!-- claims: C78 C81 C82 · E36 -->
# ## Break it: train on the test
#
# **Contamination** means that test records are in the training set. The usual check looks for a common run of 13
# words ([15](15_task_metrics.ipynb)). Of the 20 leaks in our file it finds three: the other questions are shorter. The
# checker compares short questions whole, and found all 20. How much would they have flattered the score?
#
# We put the 20 leaked records, each twice, in the place of 40 clean ones, and compare with 480 clean records.
# The other test records are the control.

# %%
leaked = [rows[number] for number in key["leaked test record"]]
groups = {"leaked": leaked, "other": [record for record in test if record not in leaked]}
models = {"480 clean": runs["480 clean"],
          "440 clean, 2 x 20 leaked": sweep([*big[40:], *leaked, *leaked], 3)}

# %%
losses = {}
for group, records in groups.items():
    examples = encode_all(records, tokenizer).examples
    for name, members in models.items():
        losses[name, group] = [ft.loss_on(run.model, examples) for run in members]
ft.table([{"trained on": name, "loss, leaked": losses[name, "leaked"],
           "loss, other": losses[name, "other"]} for name in models])

# %%
# may_fail: an open question; "not seen" would be an answer, not a fault of the page
ft.expect(losses["440 clean, 2 x 20 leaked", "leaked"], "<", losses["480 clean", "leaked"],
          "what leaked looks easier than it is", paired=True, may_fail=True)

# %% [markdown]
# If the test sees a fall, it is one of the leaked records alone: the model did not get better. So report the score
# on the clean part of a test too.

# %% [markdown]
# ## Four famous sets, opened
# <!-- claims: C20 C21 C22 C23 C82 -->
#
# Many open models began with one of these four. Each has a form, an author, a license and a typical fault.
#
# | set | what it is | license | typical fault |
# |---|---|---|---|
# | [Alpaca](https://github.com/tatsu-lab/stanford_alpaca) | 52,002 instructions and answers, both written by text-davinci-003 (a GPT-3.5 model) | CC BY-NC 4.0, and OpenAI's terms | answers about links that the model could not open ([a cleaned version](https://huggingface.co/datasets/yahma/alpaca-cleaned) lists more) |
# | [Dolly](https://huggingface.co/datasets/databricks/databricks-dolly-15k) | about 15,000 records, written by employees of Databricks | CC BY-SA 3.0, commercial use allowed | marks such as [4] from passages of Wikipedia |
# | [FLAN](https://arxiv.org/abs/2210.11416) | 1,836 *tasks*: data sets of others, written into templates | that of each source | one record in several templates: near copies |
# | ShareGPT | conversations that users shared; a copy has [about 90,000](https://huggingface.co/datasets/RyokoAI/ShareGPT52K), [Vicuna](https://lmsys.org/blog/2023-03-30-vicuna/) took some 70,000 | none from all who wrote; OpenAI's terms | pages saved as HTML, private data, refusals and phrases of ChatGPT |
#
# So "FLAN has 1.8 million tasks" is wrong by a factor of a thousand: it has about 1.8 *thousand*, each with
# many records. And "real ChatGPT conversations" is imprecise: real users chose what to share, and the
# answers come from a model. Here are 20 records in the form of each set. We made them; the last one
# has the typical fault.

# %%
import tempfile
from pathlib import Path

plain = ft.records("tasks", "train")[:19]
asked = [f"{record['instruction']} {record['input']}".strip() for record in plain]
answers = [record["output"] for record in plain]


def turns(question, answer):
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]}


famous = {
    "Alpaca": [{name: record[name] for name in ("instruction", "input", "output")} for record in plain]
    + [{"instruction": "Summarize the article.", "input": "https://news.example.com/article-1",
        "output": "The article says that the rover has landed."}],
    "Dolly": [{"instruction": record["instruction"], "context": record["input"],
               "response": record["output"], "category": "closed_qa"} for record in plain]
    + [{"instruction": "What color is a flamingo?", "context": "A flamingo is pink.[4]",
        "response": "pink[4]", "category": "closed_qa"}],
    "FLAN": [{"instruction": question, "output": answer} for question, answer in zip(asked, answers, strict=True)]
    + [{"instruction": f"Q: {asked[0]}", "output": answers[0]}],
    "ShareGPT": list(map(turns, asked, answers)) + [turns("Write a loop.", "<div><p>for i in x:</p></div>")],
}

# %%
found_faults = ft.predict("`audit.check` reads the four files. In how many does it report the faulty record?",
                          "in none", "in one or two", "in three or four")
found_faults

# %%
reported = {}
with tempfile.TemporaryDirectory() as place:
    for name, records in famous.items():
        path = Path(place) / f"{name}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        result = audit.check(path)
        reported[name] = [problem["problem"] for problem in result["errors"] + result["warnings"]
                          if problem["row"] == 20]
ft.table([{"set": name, "fields": ", ".join(famous[name][0]), "said of record 20": "; ".join(said) or "nothing"}
          for name, said in reported.items()])

# %%
hits = sum(map(bool, reported.values()))
found_faults.score("in none" if hits == 0 else "in one or two" if hits <= 2 else "in three or four")

# %% [markdown]
# A checker reads all four forms and finds what has a rule: the near copy. That an answer was invented, or that
# `[4]` and `<p>` should not be learned, is found by reading. So open 20 records of each source before
# you mix it in, and look up its license first.
#
# ### A filter for safety, and what it removes
#
# Data from the web is filtered for insults, private data and instructions to do harm. The simplest filter is a list
# of words. What does this one remove from harmless sets?

# %%
filtered = ft.predict("Of 'clinic_task', questions to a pharmacist, the list of words removes ...", "less than 5 %",
                      "5 to 20 %", "more than 20 %")
filtered

# %%
words = {"drug", "drugs", "kill", "knife", "gun", "poison", "virus"}
removed = {name: sum(not words.isdisjoint(f"{record['instruction']} {record['input']}".lower().replace("?", " ").split())
                     for record in ft.records(name)) for name in ("tasks", "clinic_task")}
ft.table([{"set": name, "records": len(ft.records(name)), "removed": count} for name, count in removed.items()])

# %%
part = removed["clinic_task"] / len(ft.records("clinic_task"))
filtered.score("less than 5 %" if part < 0.05 else "5 to 20 %" if part <= 0.2 else "more than 20 %")

# %% [markdown]
# The list takes more than a quarter of what a pharmacist would ask, and hardly anything else. A filter is a choice about
# groups: count what it removes from each, read 20 of them, and prefer a classifier whose errors you measured on
# labels of your own.
#
# Harmless data can make a model *less* safe, too. Fine-tuned on Alpaca or Dolly, chat models that had refused
# harmful requests answered more of them ([Qi et al. 2023](https://arxiv.org/abs/2310.03693)): forgetting, of a
# habit. Keeping the system prompt for safety out of the training records and putting it in afterwards reduced this
# ([Lyu et al. 2024](https://arxiv.org/abs/2402.18540)). Measure refusals before and after each fine-tune
# ([lesson 15](15_task_metrics.ipynb)).

# %% [markdown]
# ## In practice, 2026
#
# Copies, leaks and empty rows by rule; wrong answers by a judge whose agreement you measured
# ([15](15_task_metrics.ipynb)); then selection. One measure that needs only a model:
#
# **IFD** (instruction-following difficulty) is the loss of an answer given its instruction, divided by the
# loss of the answer alone. At 1 or above the instruction does not help: drop the record. Of the rest the
# paper keeps the top 5 to 10 %, the hard ones.
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
# model = AutoModelForCausalLM.from_pretrained(model_id, dtype=torch.bfloat16).eval().to("cuda")
#
# @torch.no_grad()
# def answer_loss(prompt, answer):
#     start = tokenizer(prompt, return_tensors="pt").input_ids
#     ids = tokenizer(answer, return_tensors="pt", add_special_tokens=False).input_ids
#     ids = ids[:, :2048]  # cut here, so that both losses are of the same tokens
#     both = torch.cat([start, ids], 1).to(model.device)
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
# chosen = scored.select(range(len(scored) // 10))  # the hardest tenth: take wrong ones out
# ```

# %% [markdown]
# ## Interview
#
# **Clean a scraped instruction set.**
# <details><summary>Answer</summary>
# Normalize; drop exact and near duplicates (Jaccard of shingles, MinHash at scale); remove overlap with
# the tests; drop empty rows, and cut ones where the source marks them (`finish_reason`); repair encoding.
# Then wrong answers: score the rest with a model or an LLM judge whose agreement with people I measured,
# and read a sample of what is kept and dropped. Show the gain by several runs on an honest test
# set, against the uncleaned set at equal steps.
# </details>

# %% [markdown]
# **Does quality beat quantity?**
# <details><summary>Answer</summary>
# It depends on the numbers, the error rate and the kind of error. Where many answers are possible,
# random wrong ones rarely agree, so the right one stays the most likely: with many distinct records and few
# passes, greedy answers can recover.
# Sampled answers stay noisy, and many passes memorize the errors. Errors concentrated on one kind of input
# are a high error rate there, which an average can hide; a rule in them can be learned. I measure the error
# rate by group, and fix the worst groups first.
# </details>
#
# Three cards on this topic: say the answer aloud, then look.

# %%
ft.drill(topic="data", new=3)

# %% [markdown]
# ## Recap
#
# - A checker finds what has a rule. The rest needs a judge, and a judge's list must be read.
# - Many noisy records can beat a few clean ones. Concentrated errors cost their group more than
#   scattered ones: report by group.
# - A filter is a choice about groups. Count what it removes. Next:
# [19 multi-task mixing](19_multi_task.ipynb).

# %%
ft.progress("18")
