# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start here: your first fine-tune
#
# **Claim: a small language model learns to answer questions in seconds of training, and the facts in
# its answers were there before.** You will test both halves. After this lesson you can
#
# - fine-tune a language model and compute its loss yourself;
# - read the three curves `loss`, `val_loss` and `general_loss`;
# - tell what fine-tuning added from what the model already knew;
# - say when not to fine-tune, and what it costs when you do.
#
# *Needs Python and the basics of machine learning (training, validation, gradient descent). About 45
# minutes; the code needs about one minute on two CPU cores: no GPU, no account.*
#
# **Your project.** A school wants a quiz helper: a child asks, the helper gives one short answer and stops.
# It must run on the school's laptops, without a network. You have a small model that can only continue text.
# You turn it into the helper in this lesson, and improve it in lessons 01 to 07.
#
# Click a cell and press **Shift+Enter** to run it, from top to bottom. Unknown word? Run
# `ft.glossary("token")`.

# %%
import torch

import ftkit as ft
from ftkit.teaching import at_135m, direction, working

ft.setup(seed=0)

# %% [markdown]
# The table describes this machine: *device* is where models run (`cpu`, or `cuda` for a GPU). Ignore
# the rest for now.
#
# ## A language model continues text
#
# Text is cut into **tokens**: words, pieces of words, and punctuation marks, each with a number. A **language
# model** reads tokens and gives every token of its vocabulary a probability of being the next one. To write,
# we append a likely token and ask again.
#
# ![A row of input tokens goes through the model. Under each position is the probability of the correct
# next token. The labels are the same tokens shifted by one, and the loss is the mean of minus log of
# these probabilities.](figures/00_next_token.svg)
#
# `tiny` is a model of 2.4 million parameters that comes with this package. (Models in products have
# billions.) It was **pretrained**: trained on millions of words of simple English about animals,
# countries and small stories. Such a model is called a **base model**.

# %%
base, tokenizer = ft.load("tiny")


def continue_text(text, model=base):
    """Append the most likely token, up to 24 times."""
    ids = tokenizer(tokenizer.bos_token + text, add_special_tokens=False, return_tensors="pt")
    output = model.generate(ids["input_ids"], max_new_tokens=24, do_sample=False)
    return tokenizer.decode(output[0], skip_special_tokens=True)


for start in ("Tom had a red", "The capital of France is", "What is the opposite of hot?"):
    print(continue_text(start))

# %% [markdown]
# (`bos_token` marks the beginning of a text. We always append the *most* likely token, which is called greedy
# decoding.) The base model continues a text until it predicts the end, as after "Paris." It continues a
# question too. It may even give the answer on the way, but it does not answer and *stop*.
#
# ## Your first fine-tune
# <!-- claims: C1 C24 · E01 -->
#
# **Fine-tuning** continues the training of a pretrained model on data for a task. Each row of the next table
# is a **record**: an instruction, sometimes an input, and the output that we want. The records cover 31 small
# tasks that a quiz needs.

# %%
lab = ft.Experiment(model="tiny", data="tasks")
lab.train

# %% [markdown]
# Run the next cell and watch. In each **step** the model reads a **batch** of 16 records and predicts the
# outputs. The **loss** is high where the right tokens got a low probability. Then every parameter moves in
# the direction that lowers the loss. The `learning_rate` sets how far. One pass over all records is called an
# **epoch**; 100 steps of 16 records cover 44 % of the data, or 0.44 epochs.

# %%
run = lab.run(learning_rate=1e-3, max_steps=100, precision="fp32")
run

# %% [markdown]
# ## The three curves
#
# - **loss**: on the records of the current step, which the model is trained on.
# - **val_loss**: on validation records, which it is never trained on.
# - **general_loss**: on ordinary text, which the base model predicts well.
#
# The vertical axis is logarithmic, and a ring marks the lowest `val_loss`. The panel below the curves
# shows the learning rate: it rises at first and is then lowered to 0. (Processors round differently, so your
# figures may differ a little. To keep such differences small, lessons compute in fp32, numbers of 32 bits.)
#
# | you see | it usually means |
# |---|---|
# | `loss` and `val_loss` fall | the model learns the task |
# | `loss` falls, `val_loss` rises | it memorizes its records: **overfitting** |
# | `general_loss` rises | it predicts ordinary text worse: often **forgetting**; whether an ability is lost must be tested ([lesson 16](16_catastrophic_forgetting.ipynb)) |
# | all losses jump or stay high | often the learning rate is too high |
# | nothing moves | often the learning rate is too low, or no token is trained on |
#
# The [playground](playground.html#data=tasks&method=full&learning_rate=0.001&max_steps=60), or `ftkit
# playground`, draws these curves in a browser tab while you move the learning rate.

# %% [markdown]
# ## Ask both models
#
# We ask both models questions that no training record asks: about other countries, animals and people. Both
# get each question in the **chat format** of the training records, `User: ... Assistant:`. The base model was
# never trained to answer in it. An answer that does not stop is cut off.

# %%
test = ft.records("tasks", "test")
some, sample = test[:8], test[::5]
ft.table([{"instruction": record["instruction"], "input": record["input"],
           "expected": record["output"], "base model": a, "tuned model": b}
          for record, a, b in zip(some, ft.answers(base, tokenizer, some),
                                  ft.answers(run.model, tokenizer, some), strict=True)])

# %% [markdown]
# The tuned model makes mistakes, too. How many? **Exact match** is the fraction of answers that equal the
# expected one; case and final punctuation do not count. It is strict: a right answer followed by more text counts
# as wrong.

# %%
before = ft.exact_match(base, tokenizer, sample)
after = ft.exact_match(run.model, tokenizer, sample)
ft.table([{"questions": len(sample), "base model": before, "tuned model": after}])

# %% [markdown]
# The school is happy. An engineer there asks you, as an interviewer would:
#
# > *"What exactly is the loss in fine-tuning? And what did fine-tuning teach the model that it did not
# > know before?"*
#
# ## Your turn: the loss
#
# The model returns one score (**logit**) for every token of the vocabulary at every position. `softmax`
# turns the scores into probabilities, and `log_softmax` into their logarithms. For one token the loss is
# the **negative log-likelihood**, `-log(probability)`, in *nats*. It is 0 where the model was certain of the
# right token, and large where it gave it a low probability. A model that guesses evenly among its V tokens
# has the loss log V: about 8.0 for this model (V = 3,072).
#
# Only the answer's tokens count, here underlined. The question is context. In code, the **labels** are
# the token ids where a token counts, and -100 where it does not.

# %%
lab.show_batch(1)

# %% [markdown]
# Write the loss of one record. Which row of predictions belongs to which label? Look at the figure and decide.
# Hints: `ft.hint("answer_loss")`.


# %% tags=["raises-exception"]
def answer_loss(log_probabilities, labels):
    """Return the mean negative log-likelihood of the labels that are not -100.

    log_probabilities: tensor (length, vocabulary); row t predicts the token at t + 1.
    labels: tensor (length,); labels[t] is the id of the token at t itself, or -100 where no loss is
    computed. They are not shifted yet; in the picture they are.
    """
    ...


ft.check("answer_loss", answer_loss)

# %% [markdown]
# The next cell compares your function with two others, and shows the loss of each answer token for both
# models. (`working` takes the package's solution until yours is right.)

# %%
answer_loss = working("answer_loss", answer_loss)
example = ft.encode(lab.train[0], tokenizer)
ids, labels = torch.tensor([example["input_ids"]]), torch.tensor([example["labels"]])
answer = (labels[0, 1:] != -100).nonzero()[:, 0] + 1  # positions of the answer's tokens
losses = {}
for name, model in (("base model", base), ("tuned model", run.model)):
    with torch.no_grad():
        output = model(input_ids=ids, labels=labels)
    log_probabilities = output.logits[0].log_softmax(-1)
    losses[name] = (-log_probabilities[answer - 1, ids[0, answer]]).tolist()
    print(f"{name}: answer_loss {answer_loss(log_probabilities, labels[0]):.4f}, "
          f"transformers {output.loss:.4f}, ftkit {ft.loss_on(model, [example]):.4f}")
ft.table([{"token": tokenizer.decode([ids[0, t].item()]), "base model": a, "tuned model": b}
          for t, a, b in zip(answer, *losses.values(), strict=True)])

# %% [markdown]
# The last row is the token that ends an answer. The base model gives it a tiny probability: it expects the
# text to continue. The first token is unlikely too: the base model does not expect an answer there. Most
# answers are a single word, so these two tokens are more than half of those that count.
#
# Each token is predicted from the prompt and the *right* tokens before it, which is called **teacher
# forcing**. In an answer of its own the model continues from its own tokens, also from wrong ones.
#
# ## Where did the answers come from?
# <!-- claims: C14 -->
#
# The tuned model names capitals that no training record asks for. Did the base model know them? We ask
# for the same capitals in four forms. One is an unfinished sentence, "The capital of Norway is", called a
# **knowledge probe**. Another is **few-shot prompting**: solved examples in the prompt instead of training
# on them. Since exact match is strict, we also count answers that *begin with* the expected output.

# %%
guess = ft.predict("In the form `Question: ... Answer:`, without examples, how many of the base model's "
                   "answers begin with the right capital?",
                   "fewer than 20 %", "20 to 50 %", "more than 50 %")
guess

# %%
cities = ({record["output"] for record in ft.records("capital", "test")}  # none is trained on
          & {probe["answer"].strip() for probe in ft.load_probes()})
capitals = [record for record in ft.records("capital", "test") if record["output"] in cities]
sentences = [probe for probe in ft.load_probes()
             if probe["ability"] == "capital" and probe["answer"].strip() in cities]
one_line = "Question: {instruction} Answer: {output}"
solved = ("Question: What is the capital of Germany? Answer: Berlin.\n"
          "Question: What is the capital of Japan? Answer: Tokyo.\n")


def scores(model, template=None):
    answers = ft.answers(model, tokenizer, capitals, template=template)
    begins = [answer.lower().startswith(record["output"].lower())
              for answer, record in zip(answers, capitals, strict=True)]
    return {"questions": len(capitals), "begins right": sum(begins) / len(begins),
            "exact match": ft.exact_match(model, tokenizer, capitals, template=template)}


# %%
known = ft.probe_scores(base, tokenizer, sentences)["capital"]  # the city is the likeliest next word
plain = scores(base, one_line)
ft.table([
    {"model": "base", "form": "unfinished sentence", "questions": len(sentences), "begins right": known},
    {"model": "base", "form": "one line", **plain},
    {"model": "base", "form": "one line, few-shot", **scores(base, solved + one_line)},
    {"model": "base", "form": "chat format", **scores(base)},
    {"model": "tuned", "form": "chat format", **scores(run.model)},
])

# %%
ft.expect(known, ">", 0.8, "the base model knew the capitals")
right = plain["begins right"]
guess.score("more than 50 %" if right > 0.5 else "fewer than 20 %" if right < 0.2 else "20 to 50 %")

# %% [markdown]
# The form decides what comes out. In one line the base model often *begins* with the right capital and then
# continues. Two solved examples (of other countries) make it stop more often. So **for the capitals** the
# fine-tune supplied mainly the form: begin with the answer, and stop. The facts came from pretraining.
#
# **What this small model is.** We designed its corpus so that knowledge and form can be told apart: the
# facts are in it, and `User:` and `Assistant:` with a colon occur nowhere. So it is true *by construction* that
# the knowledge was there before the form. This page shows how to separate the two, and proves nothing about
# other models. The model's ability to copy was laid into the initial weights by hand. Its matrices were
# pretrained with another optimizer (Muon) than the one that lessons tune with (AdamW), which may change how
# much is forgotten. The boxes *At 135M* show real models.
#
# Larger models: [LIMA](https://arxiv.org/abs/2305.11206) tuned a 65B model on 1,000 carefully chosen records
# and got good chat behavior. Facts that are new to a model are learned slowly and can raise
# [hallucination](https://arxiv.org/abs/2405.05904): fluent statements that are false. But "fine-tuning
# teaches only the form" is too wide: with more data, scores on reasoning keep improving
# ([Raghavendra et al. 2024](https://arxiv.org/abs/2410.03717)).
#
# ## Ten times the learning rate
# <!-- claims: C7 C40 -->
#
# The school wants it faster: if 0.001 works, is 0.01 ten times as fast? We use three **seeds** each: the same
# run with the records in another order. A difference must be large compared with the spread over seeds. In the
# picture a line is their mean. Its band, like ± in print, is their standard deviation. *Paired* means that
# runs of the same seed are compared. The value p is how often chance alone would give a difference at least
# this large.

# %%
guess = ft.predict("At ten times the learning rate, general_loss will end ...",
                   "about where it ends at 0.001", "higher, but nearer to the base model than to log V",
                   "nearer to log V, the loss of even guessing")
guess

# %%
short = ft.Config(max_steps=25, eval_steps=5, precision="fp32")
runs = lab.sweep(short, learning_rate=[1e-3, 1e-2], seed=range(3))
low, high = runs[:3], runs[3:]
ft.curves({"0.001": low, "0.01": high}, "val_loss", "general_loss")

# %%
rise_low = [run.change("general_loss") for run in low]
rise_high = [run.change("general_loss") for run in high]
ft.expect(rise_high, ">", rise_low, "ten times the learning rate raises general_loss more", paired=True)
end = sum(run.after["general_loss"] for run in high) / len(high)
log_v = torch.tensor(base.config.vocab_size).log().item()
higher = direction(rise_high, rise_low, paired=True) == ">"
guess.score("about where it ends at 0.001" if not higher else
            "nearer to log V, the loss of even guessing"
            if end > (run.before["general_loss"] + log_v) / 2 else
            "higher, but nearer to the base model than to log V")

# %%
for name, model in {"base": base, "0.001": low[0].model, "0.01": high[0].model}.items():
    print(f"{name:6}", continue_text("Tom had a red", model))

# %% [markdown]
# At 0.01 the run is broken. It learns the task badly, and on ordinary text it is on average hardly better
# than even guessing. The run at 0.001 learns the task, and yet `general_loss` rises and the story changes.
# Losing older abilities while a new task *is* learned is called **catastrophic forgetting**. One story
# and a loss are only signs of it.
#
# ## What if?
#
# Which learning rate is only slow, and which one breaks the model? Change **learning_rate**, press *Start*,
# and compare the new run with the run at 0.001. The cell after the panel waits for its runs and keeps the
# picture. If you started none, it starts one.

# %%
panel = ft.what_if(lab, config=short.but(learning_rate=1e-4), baseline=low[0],
                   fields=["learning_rate", "max_steps", "batch_size", "seed"])
panel

# %%
await panel.result()

# %% [markdown]
# <details><summary>Answer</summary>
#
# At 0.0001 and 0.0003 the run is only slow: `general_loss` hardly moves, and `val_loss` is still high after 25
# steps. At 0.003 it learns less than at 0.001 and `general_loss` rises far more. At 0.01 it is broken. For
# models of billions of parameters, full fine-tuning usually takes about 1e-5.
# </details>
#
# ## At 135M
#
# Most lessons show the same kind of experiment on SmolLM2-135M, a real language model, in recorded runs. It
# had already been tuned on conversations.

# %%
tuned = [ft.exact_match(run.model, tokenizer, sample) for run in low]
verdict = ft.expect(tuned, ">", before, "25 steps of fine-tuning raise exact match")
at_135m("first_finetune", verdict)

# %% [markdown]
# (*zero-shot* is the untouched model again; *few-shot* shows it five solved examples.) Ten times the learning
# rate (1e-3 instead of 1e-4) is worse here too. "Same" is about the first half of our claim. For the second,
# answers that begin right are a poor measure: untuned, this model answers in sentences ("The whale's habitat
# is typically found in the ocean"). It completed 69 % of unfinished sentences on 100 other facts
# before tuning, and 78 % after ([lesson 02](02_lora.ipynb)). So it knew far more than it answered.
#
# ## When not to fine-tune
#
# | your problem | try first |
# |---|---|
# | the model can do it when asked well | a better prompt, few-shot examples |
# | it lacks knowledge that is large, private or changes | retrieval: find the text, put it into the prompt |
# | format, tone, or one task must be reliable | fine-tuning |
# | a strong model does it, and is too expensive or too slow | fine-tune a small model on its answers (distillation, [lesson 20c](20c_distillation.ipynb)), if its license allows that |
# | it must solve harder problems | a stronger model, then training on solutions or with rewards ([lesson 20b](20b_rewards.ipynb)) |
# | after tuning it lost older abilities | a lower learning rate, LoRA, mixing in general data; training on the model's own answers forgets less ([lesson 16](16_catastrophic_forgetting.ipynb)) |
#
# **In practice, 2026:** the [reference page](reference/00_start_here.md) has a first fine-tune of a 4B model as
# a script, with its settings explained, usual mistakes, and more interview questions with answers.
#
# ## Your turn: what does it cost?
# <!-- claims: C8 · E46 -->
#
# A second school wants the helper on a model of 7 billion parameters. *"What does that cost to fine-tune?"*
#
# It depends on the number of training **tokens**: all that are read, prompts included, times the epochs. Full
# fine-tuning takes about 6 floating-point operations (FLOPs) per parameter and token: 2 in the forward pass
# and 4 in the backward pass. (In *dense* models. A mixture of experts uses only a part of its parameters for
# each token: count those.) A GPU has a peak speed in FLOPs per second, of which training reaches perhaps
# 40 %. This fraction is the **model FLOPs utilization**.


# %% tags=["raises-exception"]
def training_cost(parameters, tokens, flops_per_second=312e12, utilization=0.4, dollars_per_hour=2.0):
    """Return the price in dollars of training on `tokens` tokens with one GPU's speed."""
    ...


ft.check("training_cost", training_cost)

# %% [markdown]
# An A100 (2020) has a peak of 312e12 in 16 bits and costs 1 to 2 dollars an hour in 2026; an H100 (2022) has
# 989e12 and costs 2 to 4. Which do you rent? Your function decides.

# %%
training_cost = working("training_cost", training_cost)
ft.table([{"tokens": f"{tokens:,.0f}", "A100 at 1.50": training_cost(6.7e9, tokens, dollars_per_hour=1.5),
           "H100 at 3.00": training_cost(6.7e9, tokens, 989e12, dollars_per_hour=3.0)}
          for tokens in (1e7, 1e8, 1e9, 1e10)])

# %% [markdown]
# Twice the price per hour is less per token, if both reach 40 %. Ten million tokens, about 50,000 short
# records, cost about a dollar. The GPU must also *hold* the model:
# [lesson 01](01_full_fine_tuning.ipynb) computes that.
#
# ## Recap
# <!-- claims: C2 -->
#
# - The loss is the mean of `-log(probability)` of the right next token, over the answer's tokens.
# - First half of the claim: it held, in every seed. Second half: it held for the capitals, where tuning
#   supplied mainly the form. Skills may be another matter.
# - A higher learning rate is not simply faster: ten times as high broke the run.

# %% [markdown]
# `ft.progress()` shows four paths through the lessons, with the minutes that are left on each. Next:
# [01 full fine-tuning](01_full_fine_tuning.ipynb).

# %%
ft.progress("00")
