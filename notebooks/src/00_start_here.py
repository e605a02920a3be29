# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start here
#
# **Claim: this model learns to answer questions in ten seconds, and learns no new fact doing so.**
# It could be wrong; you will test it. After this lesson you can
#
# - fine-tune a language model, and say what happened to it;
# - read the three curves: `loss`, `val_loss`, `general_loss`;
# - show a model that forgets, and say why.
#
# *Needs a year of Python and no machine learning. About 20 minutes; the code needs one minute on
# two CPU cores: no GPU, no account.*
# Click a cell and press **Shift+Enter** to run it, from top to bottom.

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# What this machine is, and why. The one line to look at: *device* says where the models run.
#
# ## A language model continues text
#
# A language model has one skill: given some text, it says which piece of text comes next. `tiny`
# is such a model, small enough to come with this package. It was *pretrained*: it read millions of
# words of plain English about animals, countries, words and small stories. We call it the **base**.

# %%
base, tokenizer = ft.load("tiny")


def numbers(text):  # what the model reads; a special token in front says "a text begins"
    text = tokenizer.bos_token + text
    return tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]


def go_on(text, model=base):
    longer = model.generate(numbers(text), max_new_tokens=24, do_sample=False)
    return tokenizer.decode(longer[0], skip_special_tokens=True)


starts = ["Tom had a red", "The capital of France is", "What is the opposite of hot?"]
{text: go_on(text) for text in starts}

# %% [markdown]
# The last one is a question. The base does not know that a question wants an answer, and then
# silence: it goes on with the text, as it always does.
#
# ## Your first fine-tune
# <!-- claims: C1 C24 · E01 -->
#
# **Fine-tuning** goes on training a pretrained model, on data for the job at hand: it shows the base
# examples of what we want and moves its weights a little after each batch. Here are examples: an
# instruction, sometimes an input, and the output we want. One line is one **record**.

# %%
lab = ft.Experiment(model="tiny", data="tasks")
lab.train

# %% [markdown]
# Run the next cell and watch. Each **step** takes 16 records, asks how surprised the model is by
# the right answers, and changes every weight a little so that it would have been less surprised.

# %%
config = ft.Config(learning_rate=1e-3, max_steps=100)
run = lab.run(config)
run

# %% [markdown]
# ## What the three curves mean
#
# That was a fine-tune. **loss** is the model's surprise at the answers of the records it is trained
# on; how it is computed comes below. **val_loss** is the surprise at validation records, which are
# never trained on: it says whether what was learned holds beyond the records. **general_loss** is
# the surprise at ordinary prose, which the base reads well: it says what is being *lost*.
# (Mind the axis: where values span factors, each line is a factor.)

# %% [markdown]
# | you see | it means |
# |---|---|
# | `loss` and `val_loss` fall | it is learning |
# | `loss` falls, `val_loss` turns up | it memorizes its records: **overfitting** |
# | `general_loss` rises | it is losing what it could do before: **forgetting** |
# | nothing moves | the learning rate is too low, or the data is wrong |

# %% [markdown]
# ## Ask both
#
# `run.model` is the tuned model; the base is untouched, since every run starts from fresh weights.
# Ask both the same questions. What they are about (this country, that animal, the person in the
# text) was **held out**: no record it was trained on asks about it.
#
# Then count. **Exact match** is the share of answers that equal the wanted ones, word for word
# (capital letters and full stops aside): a strict measure, and one that cannot flatter.

# %%
test = ft.records("tasks", "test")
some = test[:12]
untouched, tuned = (ft.answers(model, tokenizer, some) for model in (base, run.model))
ft.table([
    {"instruction": r["instruction"], "input": r["input"], "wanted": r["output"],
     "base says": a, "tuned model says": b}
    for r, a, b in zip(some, untouched, tuned, strict=True)
])

# %%
some = test[::5]
before = ft.exact_match(base, tokenizer, some)
after = ft.exact_match(run.model, tokenizer, some)
{"base": before, "tuned model": after}

# %% [markdown]
# ## The question
#
# > *"What is the loss, exactly? And what did fine-tuning teach the model that it did not know?"*
#
# The first half gets vague answers in interviews ("how wrong the model is"), the second half wrong
# ones ("the facts in the training data"). Take the loss first, by hand.
#
# ## The loss, by hand
#
# Text goes in as numbers, the **tokens**. Out comes one probability for every token of the
# vocabulary: how likely it is to come next.

# %%
import torch

with torch.no_grad():
    chances = base(numbers("The capital of France is")).logits[0, -1].softmax(-1)
top = chances.topk(5)
{tokenizer.decode([i]): round(p, 4) for i, p in zip(top.indices.tolist(), top.values.tolist())}

# %% [markdown]
# Surprise at a token is `-log(its probability)`, counted in *nats*: 0 when the model was sure of it,
# large when it thought it unlikely. Which tokens count? Those of the answer, here underlined. The
# question is context: the model reads it, and is not trained to write it.

# %%
lab.show_batch(1)

# %% [markdown]
# So the loss of one record is the mean surprise over its underlined tokens. A token at place
# `t` is predicted from everything before it, that is, at place `t - 1`.
#
# ![The tokens "The river is wide" go into the model; the label at each position is the next token, so the labels are the inputs shifted by one. The probability of each label gives its loss, and the mean over the four positions is 1.81.](figures/00_next_token.svg)

# %%
example = ft.encode(lab.train[0], tokenizer)
ids, labels = torch.tensor(example["input_ids"]), torch.tensor(example["labels"])
with torch.no_grad():
    log_chances = base(ids[None]).logits[0].log_softmax(-1)
    library = base(input_ids=ids[None], labels=labels[None]).loss
surprise = [-log_chances[t - 1, ids[t]] for t in range(1, len(ids)) if labels[t] != -100]
loss = sum(surprise) / len(surprise)
assert torch.allclose(loss, library, atol=1e-4)  # transformers agrees with our two lines
assert abs(loss.item() - ft.loss_on(base, [example])) < 1e-4  # and so does ft
loss

# %% [markdown]
# ## Where did the answers come from?
# <!-- claims: C14 -->
#
# The tuned model names capitals of countries that no training record mentions. So who taught it?
# Ask the base about the same capitals in another form: a sentence to finish, "The capital of
# Norway is". First guess: write the beginning of an option in place of the dots.

# %%
capitals = ft.records("capital", "test")
cities = {" " + r["output"] for r in capitals}
sentences = [p for p in ft.load_probes() if p["ability"] == "capital" and p["answer"] in cities]
guess = ft.predict(
    "As sentences to finish, how many of these capitals does the base get right?",
    "hardly any", "about half", "nearly all", guess=...,
)
guess

# %%
forms = {
    "chat form": None,  # User: ... Assistant: ..., as in the fine-tune
    "Alpaca's form": "alpaca",
    "the bare instruction": "plain",
    "one line": "Question: {instruction} Answer: {output}",
}
score = {k: ft.exact_match(base, tokenizer, capitals, template=t) for k, t in forms.items()}
score["sentence to finish"] = ft.probe_scores(base, tokenizer, sentences)["capital"]
score["after the fine-tune, chat form"] = ft.exact_match(run.model, tokenizer, capitals)
ft.table([{"form": form, "exact match": value} for form, value in score.items()])

# %%
ft.expect(score["sentence to finish"], ">", 0.8, "the base knew the capitals all along")
ft.expect(score["chat form"], "<", 0.2, "but not how to answer in the form of the fine-tune")
share = score["sentence to finish"]
guess.score("nearly all" if share > 0.8 else "about half" if share > 0.2 else "hardly any")

# %% [markdown]
# The same model, the same facts; only the wording differs. So never say "the base cannot do it"
# before you have tried other wordings. Fine-tuning supplied the *form*: answer the question, then
# stop. The knowledge was there. Studies of large models say the same:
# [LIMA](https://arxiv.org/abs/2305.11206) needed 1,000 records, and new facts are learned slowly by
# fine-tuning and make models [hallucinate more](https://arxiv.org/abs/2405.05904).
#
# ## Ten times the learning rate
# <!-- claims: C7 C40 -->
#
# The **learning rate** says how far each step moves the weights. If 0.001 was good, is 0.01 ten
# times as fast?

# %%
guess = ft.predict(
    "At ten times the learning rate, general_loss will end ...",
    "lower than at the start", "about the same", "far higher", guess=...,
)
guess

# %%
runs = lab.sweep(ft.Config(max_steps=25, eval_steps=5), learning_rate=[1e-3, 1e-2], seed=range(3))
gentle, harsh = runs[:3], runs[3:]
ft.curves({"0.001": gentle, "0.01": harsh}, "val_loss", "general_loss")

# %% [markdown]
# Three **seeds** each: the same run with the records in another order. One run proves little; an
# effect that shows in all three is worth believing. Compare where the runs end (the band is the
# spread). What does such a `general_loss` mean? Let the models write.

# %%
rise = {name: [run.change("general_loss") for run in three]
        for name, three in (("gentle", gentle), ("harsh", harsh))}
ft.expect(rise["harsh"], ">", rise["gentle"], "ten times the rate forgets more")
ft.expect([ft.exact_match(run.model, tokenizer, some) for run in gentle], ">", before,
          "25 steps, three times over: the tuned model answers, the base does not")
guess.score("far higher" if min(rise["harsh"]) > 0.5 else "about the same")

# %%
models = {"base": base, "rate 0.001": gentle[0].model, "rate 0.01": harsh[0].model}
{name: go_on("Tom had a red", model) for name, model in models.items()}

# %% [markdown]
# This is **catastrophic forgetting**: steps so large that they overwrite what pretraining had
# built. It is not a crash, and in its milder form nothing warns you: go back to your first run and
# see what `general_loss` did while `loss` looked ever better. That is why we watch it.
#
# ## What if?
#
# Now the controls are yours. Drag **learning_rate**, press *Start*, and watch the new run beside
# the gentle one (pale). Where does it stop learning? Where does it break? *Stop* ends a run and
# keeps what it did; under the picture stands what the curves mean.

# %%
knobs = ["learning_rate", "max_steps", "batch_size", "seed"]
start = ft.Config(learning_rate=1e-4, max_steps=25, eval_steps=5)
panel = ft.what_if(lab, config=start, baseline=gentle[0], fields=knobs)
panel

# %% [markdown]
# The next cell waits for the panel's runs, or makes the first one, and keeps the picture here.

# %%
await panel.result()

# %% [markdown]
# ## Break it
#
# Real data has holes. Here the second record has no output. Read the message: it says where, what
# is wrong and what was expected. Nothing is trained on data that does not pass.

# %% tags=["raises-exception"]
ft.Experiment(data=[
    {"instruction": "What is the opposite of hot?", "output": "cold"},
    {"instruction": "What is the opposite of big?", "output": ""},
])

# %% [markdown]
# ## Your own data
#
# Records are plain dictionaries, or lines of a JSONL file. Let us teach a habit no one else would:
# every capital is announced with a shout. We start from *your* tuned model, not from the base.

# %%
mine = [{**r, "output": "Ahoy! " + r["output"]} for r in ft.records("capital")]
pirate = ft.Experiment(model=(run.model, tokenizer), data=mine)
shouting = pirate.run(learning_rate=5e-4, max_steps=20)
asked = [*capitals[::16], test[0], test[6]]
ft.table([{"asked": r["instruction"], "answer": a}
          for r, a in zip(asked, ft.answers(shouting.model, tokenizer, asked), strict=True)])

# %% [markdown]
# ## What does it cost?
# <!-- claims: C8 · E46 -->
#
# > *"What does it cost to fine-tune a model of 7 billion parameters?"*
#
# "Thousands of dollars" is the usual answer, and wrong as it stands: it names no number of
# **tokens**. Training takes about 6 floating-point operations per parameter and token (2 forward, 4
# backward). Guess before you run: 10 million tokens (about 50,000 records), full fine-tuning?


# %%
def dollars(parameters, tokens, flops=312e12, share=0.4, per_hour=2.0):
    hours = 6 * parameters * tokens / (flops * share) / 3600
    return hours * per_hour


assert dollars(6.7e9, 1e7) < 2 and dollars(6.7e9, 5.6e9) > 990
{f"{tokens:,.0f} tokens": round(dollars(6.7e9, tokens), 2) for tokens in (1e7, 1e8, 1e9, 1e10)}

# %% [markdown]
# Assumed: an A100 (312 TFLOP/s), 40 % of it used, 2 dollars an hour. Prices move; the formula
# stays. Stanford reported [under 100 dollars](https://crfm.stanford.edu/2023/03/13/alpaca.html)
# for Alpaca 7B. Failed runs, evaluation and people come on top: "thousands" is the price of billions
# of tokens, or of many runs.
#
# ## Now on a real LLM
#
# All lessons end with a look at SmolLM2, a real model of 135 million parameters (`ftkit fetch
# smollm2` in a terminal gets it, once). It was tuned on conversations before. Ask it the same.

# %%

if download.has("smollm2"):
    smol, smol_tokenizer = ft.load("smollm2")
    said = ft.answers(smol, smol_tokenizer, capitals[::16], max_new_tokens=16)
    print(*said, f"10 million tokens: {dollars(smol.num_parameters(), 1e7):.2f} dollars", sep="\n")

# %% [markdown]
# ## Exercises
#
# Fill in, run, and let `ft.check` judge. The lesson goes on without them.
#
# **1.** Which curve? Put `"loss"`, `"val_loss"` or `"general_loss"` in each place.

# %% tags=["raises-exception"]
curves = {
    "falls even while the model only memorizes its records": ...,
    "turns up when the model memorizes its records": ...,
    "turns up when the model loses what it could do before": ...,
}
ft.check("three_curves", curves)


# %% [markdown]
# **2.** How many tokens can you train on for a sum of money? Turn `dollars` around.

# %% tags=["raises-exception"]
def tokens_for(money, parameters, flops=312e12, share=0.4, per_hour=2.0):
    ...


ft.check("tokens_for", tokens_for)

# %% [markdown]
# **3.** A gentle run: bring `val_loss` below 0.3 while `general_loss` rises by at most 0.1. You may
# change the learning rate and the number of steps (at most 150), or anything else in `ft.Config`:
# `replay=0.2`, for example, mixes in ordinary prose.

# %% tags=["raises-exception"]
my_run = ...  # lab.run(learning_rate=..., max_steps=...)
ft.check("gentle_run", my_run)

# %% [markdown]
# ## Interview
#
# **What does instruction tuning teach a model?**
# <details><summary>Answer</summary>
# Mostly the form: answer, in this template, and stop. Same next-token loss as pretraining, on
# other data, counted on the answer. Here the base finished the capitals as sentences
# (see <code>score</code>) and failed them as instructions; after 1,600 records it answered held-out
# ones. New facts are a poor target: they are learned slowly.
# </details>
#
# **Prompting, retrieval or fine-tuning?**
# <details><summary>Answer</summary>
# Prompt first: it takes an hour, and the gap it leaves is what tuning must beat. Retrieval (look the
# text up, put it into the prompt) for knowledge that is large, private or changes. Fine-tune for
# behavior: a form, a tone, one job done by a small cheap model. Here it took exact match
# from almost nothing to more than four in five. They combine.
# </details>

# %% [markdown]
# **Your training loss is excellent. Ship it?**
# <details><summary>Answer</summary>
# Not on that. Training loss falls also when the model memorizes records or forgets the rest.
# I look at validation loss, at the task's own metric on held-out entities, and at general ability
# before and after: in our first run <code>loss</code> fell from 8 to below 0.1 while
# <code>general_loss</code> rose by about 0.4.
# </details>

# %% [markdown]
# **What does fine-tuning a 7B model cost?**
# <details><summary>Answer</summary>
# Compute is 6 × parameters × tokens. At 40 % of an A100's 312 TFLOP/s and 2 dollars an hour, 10
# million tokens cost about 2 dollars, a billion about 180. Thousands begin near 5.6 billion tokens.
# People, sweeps and evaluation usually cost more.
# </details>

# %% [markdown]
# ## Recap, and where to go
# <!-- claims: C2 -->
#
# - Fine-tuning is continued training; here it supplied the form, pretraining had the knowledge.
# - Three curves: what it trains on, what it has not seen, what it could do before.
# - A larger learning rate is not a faster one: it forgets.
#
# "Fine-tuning means instruction tuning or domain adaptation" is half of the list. The data may be
# records (01 to 05), raw text of a field (06), pairs of a better and a worse answer, or questions
# with a checker (20). Public recipes use [three in a row](https://arxiv.org/abs/2411.15124).

# %% [markdown]
# | lessons | about |
# |---|---|
# | [01](01_full_fine_tuning.ipynb) [02](02_lora.ipynb) [03](03_the_peft_family.ipynb) | which weights move: all, a low-rank update, the PEFT family |
# | [04](04_instruction_tuning.ipynb) [05](05_templates_and_the_bug_zoo.ipynb) [06](06_domain_adaptation.ipynb) | what is learned from: records, templates and their bugs, a domain |
# | [07](07_learning_rate.ipynb) [08](08_the_small_knobs.ipynb) | learning rate, and the smaller knobs |
# | [09](09_where_the_memory_goes.ipynb) [10](10_quantization_and_qlora.ipynb) [11](11_activations_and_checkpointing.ipynb) [12](12_floating_point.ipynb) [13](13_zero_and_fsdp.ipynb) | memory: count it, shrink it, share it out |
# | [14](14_perplexity.ipynb) [15](15_task_metrics.ipynb) | evaluation: perplexity, tasks, people |
# | [16](16_catastrophic_forgetting.ipynb) [17](17_overfitting.ipynb) [18](18_data_quality.ipynb) | what goes wrong: forgetting, overfitting, data |
# | [19](19_multi_task.ipynb) [20](20_preferences.ipynb) | many tasks; preferences and rewards |
# | [21](21_interview_clinic.ipynb) [22](22_what_if_lab.ipynb) | interview clinic; your own questions |
#
# In order is best; each says what it needs. Next: [01](01_full_fine_tuning.ipynb).

# %% [markdown]
# The same in a terminal, on your own file (JSON Lines: one record a line):
#
# ```
# ftkit run --data translation --learning-rate 1e-3
# ftkit check my.jsonl
# ftkit run --data my.jsonl --method lora --out my-adapter
# ftkit run --model smollm2 --data my.jsonl --method lora
# ```
#
# The last one trains SmolLM2. All your runs so far:

# %%
ft.runs()[["id", "model", "data", "steps", "val_loss after"]].tail(5)
