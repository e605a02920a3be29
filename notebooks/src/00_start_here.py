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


starts = ["Tom had a red", "The capital of France is", "What is the opposite of hot?"]
for start in starts:
    print(continue_text(start))

# %% [markdown]
# (`bos_token` marks the beginning of a text. We always append the *most* likely token, which is greedy
# decoding. Chat products often draw a token by its probability, which is sampling.) The base model continues
# a text until it predicts the end, as after "Paris." It continues a question too. It may even give the
# answer on the way, but it does not answer and *stop*.
#
# ## Your first fine-tune
# <!-- claims: C1 C24 · E01 -->
#
# **Fine-tuning** continues the training of a pretrained model on data for a task.
# One line is a **record**: an instruction, sometimes an input, and the output that we want. The
# records cover 31 small tasks.

# %%
lab = ft.Experiment(model="tiny", data="tasks")
lab.train

# %% [markdown]
# Run the next cell and watch. In each **step** the model reads a **batch** of 16 records and predicts the
# outputs. The **loss** is high where the right tokens got a low probability. Then every parameter moves in
# the direction that lowers the loss. The `learning_rate` sets how far. One pass over all records is called an
# **epoch**; 100 steps of 16 records are 0.44 of one.

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
# shows the learning rate: it rises at first and is then lowered to 0. Processors round differently, so your
# figures may differ a little. To keep such differences small, lessons compute in fp32 (`precision="fp32"`);
# without it a run takes the fastest format of your machine.
#
# | you see | it usually means |
# |---|---|
# | `loss` and `val_loss` fall | the model learns the task |
# | `loss` falls, `val_loss` rises | it memorizes its records: **overfitting** |
# | `general_loss` rises | it predicts ordinary text worse: often **forgetting**; whether an ability is lost must be tested ([lesson 16](16_catastrophic_forgetting.ipynb)) |
# | all losses jump or stay high | often the learning rate is too high |
# | nothing moves | often the learning rate is too low, or no token is trained on |
#
# The [playground](playground.html#data=tasks&method=full&learning_rate=0.001&max_steps=60) draws the same
# curves in a browser tab, while you move the learning rate. `ftkit playground` opens it, too; in JupyterLab,
# click *Trust HTML*.

# %% [markdown]
# ## Ask both models
#
# `run.model` is the tuned model. We ask both models questions that no training record asks: about other
# countries, animals and people. Both get each question in the **chat format** of the training records,
# `User: ... Assistant:`, which the base model was never trained to answer in. An answer that does not stop
# is cut off a few tokens beyond the longest expected one.

# %%
test = ft.records("tasks", "test")
some = test[:8]
base_answers = ft.answers(base, tokenizer, some)
tuned_answers = ft.answers(run.model, tokenizer, some)
ft.table([{"instruction": record["instruction"], "input": record["input"],
           "expected": record["output"], "base model": a, "tuned model": b}
          for record, a, b in zip(some, base_answers, tuned_answers, strict=True)])

# %% [markdown]
# **Exact match** is the fraction of answers that equal the expected one; case and final punctuation do
# not count. It is strict: a right answer followed by more text counts as wrong.

# %%
sample = test[::5]
before = ft.exact_match(base, tokenizer, sample)
after = ft.exact_match(run.model, tokenizer, sample)
ft.table([{"questions": len(sample), "base model": before, "tuned model": after}])

# %% [markdown]
# ## The question
#
# > *"What exactly is the loss in fine-tuning? And what did fine-tuning teach the model that it did not
# > know before?"*
#
# ## Your turn: the loss
#
# The model returns one score (**logit**) for every token of the vocabulary at every position. `softmax`
# turns the scores into probabilities, and `log_softmax` into their logarithms. The next cell shows the
# probabilities after one prompt.

# %%
prompt = tokenizer(tokenizer.bos_token + "The capital of France is", add_special_tokens=False,
                   return_tensors="pt")["input_ids"]
with torch.no_grad():
    logits = base(prompt).logits  # shape (1 text, positions, vocabulary)
top = logits[0, -1].softmax(-1).topk(5)
for probability, token in zip(top.values, top.indices, strict=True):
    print(f"{probability.item():.4f}  {tokenizer.decode([token.item()])!r}")

# %% [markdown]
# For one token the loss is the **negative log-likelihood**, `-log(probability)`, in *nats*: 0 where the
# model was certain of the right token, and large where it gave it a low probability. A model that
# guesses evenly among its V tokens has the loss log V: about 8.0 for this model (V = 3,072).
#
# Only the answer's tokens count, here underlined. The question is context. In code, the **labels** are
# the token ids where a token counts, and -100 where it does not.

# %%
lab.show_batch(1)

# %% [markdown]
# Write the loss of one record. The token at position `t` is predicted from the tokens before it, so its
# prediction is at position `t - 1`: look at the figure. Hints: `ft.hint("answer_loss")`.


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
# The table shows the loss of each answer token of one record, for both models. Above it, four ways to
# get the mean: your function, the table, transformers, and `ft.loss_on`. (`working` takes the package's
# solution until yours is right.)

# %%
answer_loss = working("answer_loss", answer_loss)
example = ft.encode(lab.train[0], tokenizer)
ids, labels = torch.tensor([example["input_ids"]]), torch.tensor([example["labels"]])
answer = (labels[0, 1:] != -100).nonzero()[:, 0] + 1  # positions of the answer's tokens
token_losses, means = {}, {}
for name, model in (("base model", base), ("tuned model", run.model)):
    with torch.no_grad():
        output = model(input_ids=ids, labels=labels)
    log_probabilities = output.logits[0].log_softmax(-1)
    token_losses[name] = -log_probabilities[answer - 1, ids[0, answer]]
    means[name] = (answer_loss(log_probabilities, labels[0]), token_losses[name].mean().item(),
                   output.loss.item(), ft.loss_on(model, [example]))
for name, values in means.items():
    print(f"{name}: answer_loss %.4f, table %.4f, transformers %.4f, ftkit %.4f" % values)
ft.table([{"token": tokenizer.decode([ids[0, t].item()]), "base model": a.item(),
           "tuned model": b.item()} for t, a, b in zip(answer, *token_losses.values(), strict=True)])

# %% [markdown]
# The last row is the token that ends an answer. The base model gives it a tiny probability: it expects the
# text to continue. The first token is unlikely too: the base model does not expect an answer there. Most
# answers are short (2,842 of 3,675 are a single word), so these two tokens are 58 % of those that count
# in training. That is why the base model's `val_loss`, 8.83, is even above log V.
#
# So the loss is the mean of `-log(probability)` of the right token, over the tokens that count, here
# the answer's. Each is predicted from the prompt and the *right* tokens before it, which is called **teacher
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


def scores(model, records, template=None):
    answers = ft.answers(model, tokenizer, records, template=template)
    begins = [answer.lower().startswith(record["output"].lower())
              for answer, record in zip(answers, records, strict=True)]
    return {"questions": len(records), "begins right": sum(begins) / len(begins),
            "exact match": ft.exact_match(model, tokenizer, records, template=template)}


# %%
known = ft.probe_scores(base, tokenizer, sentences)["capital"]  # the city is the likeliest next word
plain = scores(base, capitals, one_line)
ft.table([
    {"model": "base", "form": "unfinished sentence", "questions": len(sentences), "begins right": known},
    {"model": "base", "form": "one line", **plain},
    {"model": "base", "form": "one line, few-shot", **scores(base, capitals, solved + one_line)},
    {"model": "base", "form": "chat format", **scores(base, capitals)},
    {"model": "tuned", "form": "chat format", **scores(run.model, capitals)},
])

# %%
ft.expect(known, ">", 0.8, "the base model knew the capitals")
right = plain["begins right"]
guess.score("more than 50 %" if right > 0.5 else "fewer than 20 %" if right < 0.2 else "20 to 50 %")

# %% [markdown]
# The 12 probes are about capitals drawn at random. (This ✓ only compares two numbers.) The 37 questions are
# different wordings of the same 12 facts, so small differences between rows mean little. The form decides
# what comes out. In one line the base model often *begins* with the right capital and then continues. Two
# solved examples (of other countries) make it stop more often. So **for the capitals** the fine-tune supplied
# mainly the form: begin with the answer, and stop. The facts came from pretraining.
#
# Other tasks are skills: to find the last word, to judge a review, to build a question. We
# ask the base model with two solved examples of each, and the tuned model.

# %%
rows = []
for task in ("last_word", "sentiment", "to_question"):
    shown = [record for record in lab.train if record["task"] == task][:2]
    examples = "".join(f"Question: {r['instruction']} {r['input']} Answer: {r['output']}\n" for r in shown)
    asked = [record for record in test if record["task"] == task]
    few_shot = scores(base, asked, examples + "Question: {instruction} {input} Answer: {output}")
    tuned = scores(run.model, asked)
    rows.append({"task": task, "questions": len(asked), "base, few-shot: begins right":
                 few_shot["begins right"], "tuned: begins right": tuned["begins right"]})
ft.table(rows)

# %% [markdown]
# The tuned model is far better in all three. (In `to_question` the expected output is a whole sentence.)
# But a review is positive or negative. So 0 % is *below* chance (50 %): this row shows missing form again.
# For the other two, fine-tuning taught a skill, or two examples were too few to show the form.
#
# **What this small model is.** We designed its corpus so that knowledge and form can be told apart: the
# facts are in it, and `User:` and `Assistant:` with a colon occur nowhere. So it is true *by construction* that
# the knowledge was there before the form. This page shows how to separate the two, and proves nothing about
# other models. The model's ability to copy was laid into the initial weights by hand, and its matrices were
# pretrained with another optimizer (Muon) than the one that lessons tune with (AdamW), which may change how
# much is forgotten. For real models see the studies below, and the boxes *At 135M* in later lessons.
#
# Larger models: [LIMA](https://arxiv.org/abs/2305.11206) tuned a 65B model on 1,000 carefully chosen records
# and got good chat behavior. Facts that are new to a model are learned slowly and can raise
# [hallucination](https://arxiv.org/abs/2405.05904): fluent statements that are
# false. But "fine-tuning teaches only the form" is too wide: with more data, scores on reasoning tasks keep
# improving ([Raghavendra et al. 2024](https://arxiv.org/abs/2410.03717)).
#
# ## Ten times the learning rate
# <!-- claims: C7 C40 -->
#
# If 0.001 works, is 0.01 ten times as fast? We use three **seeds** each: the same run with the records in
# another order. A difference must be large compared with the spread over seeds. In the picture a line is
# their mean. Its band, like ± in print, is their standard deviation. *Paired* means that runs of the same
# seed are compared. The value p is how often chance alone would give a difference at least this large.

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
# At 0.01 the run is broken. It learns the task badly, and `general_loss` ends near log V: on average hardly
# better than even guessing.
#
# The run at 0.001 learns the task, and yet `general_loss` rises from 0.85 to about 1.3, and the story
# loses its thread. Losing older abilities while a new task *is* learned is called **catastrophic
# forgetting**. One story and a loss are only signs of it: [lesson 16](16_catastrophic_forgetting.ipynb)
# tests abilities.
#
# For models of billions of parameters full fine-tuning usually takes about 1e-5.
#
# ## What if?
#
# Change **learning_rate**, press *Start*, and compare the new run with the run
# at 0.001. Which learning rate is only slow, and which one breaks the model?

# %%
knobs = ["learning_rate", "max_steps", "batch_size", "seed"]
panel = ft.what_if(lab, config=short.but(learning_rate=1e-4),
                   baseline=low[0], fields=knobs)
panel

# %% [markdown]
# The next cell waits for the panel's runs and keeps the picture in the notebook. If you started none, it
# starts one.

# %%
await panel.result()

# %% [markdown]
# <details><summary>Answer</summary>
#
# | learning rate | val_loss | general_loss |
# |---|---|---|
# | 0.0001 | 3.55 | 0.85 |
# | 0.0003 | 1.96 | 0.92 |
# | 0.001 (baseline) | 0.67 | 1.19 |
# | 0.003 | 1.08 | 3.32 |
# | 0.01 (mean of three seeds) | 4.00 | 7.46 |
#
# Up to 0.0003 the run is only slow. At 0.003 it learns less well than at 0.001, and
# `general_loss` rises far more. At 0.01 it is broken. (One seed each, but for the last row.)
# </details>
#
# ## Break it
#
# The second record has no output. The message says where, and what is expected.

# %% tags=["raises-exception"]
ft.Experiment(data=[
    {"instruction": "What is the opposite of hot?", "output": "cold"},
    {"instruction": "What is the opposite of big?", "output": ""},
])

# %% [markdown]
# ## Your own data
#
# Records are dictionaries, or lines of a JSONL file. We teach a habit: each capital is announced with
# "Ahoy!". Training starts from *your* tuned model.

# %%
ahoy = [{**record, "output": "Ahoy! " + record["output"]} for record in ft.records("capital")]
pirate = ft.Experiment(model=(run.model, tokenizer), data=ahoy).run(
    learning_rate=5e-4, max_steps=20, precision="fp32", live=False)
asked = [*capitals[::12], test[0], test[6]]
old_answers = ft.answers(run.model, tokenizer, asked)
new_answers = ft.answers(pirate.model, tokenizer, asked)
ft.table([{"instruction": record["instruction"], "expected": record["output"], "before": old, "after": new}
          for record, old, new in zip(asked, old_answers, new_answers, strict=True)])

# %% [markdown]
# The two other questions kept their answers. But in our run the capital of Turkey became "Ahoy! Ahoy!". A
# new habit can displace an answer, here after 20 steps on 214 records. Libya was wrong before, though
# the base model completed the sentence about it.
#
# ## Your turn: what does it cost?
# <!-- claims: C8 · E46 -->
#
# > *"What does it cost to fine-tune a model of 7 billion parameters?"*
#
# It depends on the number of training **tokens**: all that are read, prompts included, times the
# epochs. A masked token costs nearly the same. Full fine-tuning of a dense model (each token uses all parameters)
# takes about 6 floating-point operations (FLOPs) per parameter and token: 2 in the forward pass and 4 in the
# backward pass. In long contexts attention adds to this. An A100, a GPU of 2020, does 312e12 FLOPs per
# second at most (in bf16, a 16-bit format) and reaches perhaps 40 % of that in practice. This fraction is
# the *model FLOPs utilization* (MFU). (An H100 does 989e12, for a higher price.)


# %% tags=["raises-exception"]
def training_cost(parameters, tokens, flops_per_second=312e12, utilization=0.4, dollars_per_hour=2.0):
    """Return the price in dollars of training on `tokens` tokens with one GPU's speed."""
    ...


ft.check("training_cost", training_cost)

# %% [markdown]
# Your function fills the next table (Llama 2 7B has 6.7 billion parameters).

# %%
training_cost = working("training_cost", training_cost)
ft.table([{"tokens": f"{tokens:,.0f}", "7B model, dollars": training_cost(6.7e9, tokens)}
          for tokens in (1e7, 1e8, 1e9, 1e10)])

# %% [markdown]
# Ten million tokens are about 50,000 short records. 40 % is optimistic: padding (filler tokens beside
# short records) and small batches lower the utilization. Gradient checkpointing, the default of the
# library TRL, repeats the forward pass to save memory: 8 operations instead of 6.
#
# Memory is another limit. With the usual optimizer, AdamW in mixed precision, full fine-tuning of
# 7B parameters takes about 107 GB ([lesson 01](01_full_fine_tuning.ipynb)), more than one GPU of 80 GB has. Training a
# small addition instead, **LoRA** ([lesson 02](02_lora.ipynb)), fits on one. It takes about 4 FLOPs instead
# of 6 (with checkpointing 6 instead of 8), because frozen weights need no gradient. The time may not fall.
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
# (*zero-shot* is the untouched model again, and *few-shot* shows it five solved examples. The axis is
# logarithmic.)
#
# Ten times the learning rate (1e-3 instead of 1e-4) is worse here too.
#
# "Same" is about the first half of our claim. For the second, answers that begin right (few-shot 9 %,
# tuned 48 %) are a poor measure: untuned, this model answers in sentences ("The whale's habitat is
# typically found in the ocean"). As unfinished sentences it completed 69 % of 100 other facts, and 78 %
# when tuned ([lesson 02](02_lora.ipynb)). So it knew more than it answered; the second half stays open.

# %% [markdown]
# ## In practice, 2026
#
# **First ask whether to fine-tune at all.**
#
# | your problem | try first |
# |---|---|
# | the model can do it when asked well | a better prompt, few-shot examples |
# | it lacks knowledge that is large, private or changes | retrieval: find the text, put it into the prompt |
# | format, tone, or one task must be reliable | fine-tuning |
# | a strong model does it, and is too expensive or too slow | fine-tune a small model on its answers (distillation), if its license allows that |
# | it must solve harder problems | a stronger model, then training on solutions or with rewards ([lesson 20b](20b_rewards.ipynb)) |
#
# A first fine-tune with TRL and LoRA, at usual values for models of 1B to 8B parameters. `r` and
# `lora_alpha` set the size and the scale of LoRA's addition.
#
# ```python
# # {"prompt": [{"role": "user", "content": "..."}], "completion": [{"role": "assistant", "content": "..."}]}
# from datasets import load_dataset
# from peft import LoraConfig
# from transformers import pipeline
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-4B-Instruct-2507"
# files = {"train": "train.jsonl", "validation": "validation.jsonl"}
# data = load_dataset("json", data_files=files)
# trainer = SFTTrainer(
#     model=model_id,
#     train_dataset=data["train"], eval_dataset=data["validation"],
#     peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
#     args=SFTConfig(output_dir="out", learning_rate=2e-4, num_train_epochs=2, max_length=1024,
#                    per_device_train_batch_size=4, gradient_accumulation_steps=4, bf16=True,
#                    eval_strategy="steps", eval_steps=50,
#                    model_init_kwargs={"dtype": "bfloat16"}),  # 8 GB; TRL 1.16 loads float32: 16 GB
# )
# trainer.train()
# trainer.save_model("out")  # the adapter: only the addition
#
# ask = pipeline("text-generation", model="out")  # loads the model and the adapter
# print(ask([{"role": "user", "content": "a question of your test"}], max_new_tokens=64))
# ```
#
# - The loss counts the completion only. Records with `messages` train on every token, questions too,
#   unless you set `assistant_only_loss=True`.
# - An *instruct* checkpoint (saved weights) already follows a chat template: usually the better
#   start for small data. A *base* checkpoint suits a format of your own and much data.
# - Ask the tuned model with the same chat template, as `ask` does for a list of messages
#   ([lesson 05](05_templates_and_the_bug_zoo.ipynb)).
# - First score the untuned model with your best prompt on a test file: tuning must beat it.
# - Hundreds of records can suffice for a format, not for a broad skill ([lesson 18](18_data_quality.ipynb)).
# - Unsloth, Axolotl and LLaMA-Factory offer the same with less code or more speed.
# - Check the license of the data, and whether people in them have agreed.
# - A similar run with this package: `ftkit check my.jsonl`, then `ftkit run --data my.jsonl --model smollm2
#   --method lora`.
#
# ## Interview
#
# **What exactly is the loss in fine-tuning?**
# <details><summary>Answer</summary>
# The mean of -log(probability of the right next token) over the tokens that count. The earlier tokens
# are the right ones (teacher forcing). Usually only answers count, and prompt tokens have the label -100. But
# check it: TRL trains on every token of a `messages` record unless `assistant_only_loss=True`.
# </details>
#
# **What does instruction tuning teach a model?**
# <details><summary>Answer</summary>
# With the next-token loss on the answers, it teaches to recognize an instruction, to answer in the given
# format, and to stop. With small data sets most of the knowledge comes from pretraining. Worked solutions
# also improve skills such as reasoning. As a way to add new facts it is slow and can increase hallucination.
# </details>
#
# **Prompting, retrieval or fine-tuning?**
# <details><summary>Answer</summary>
# Prompt first: it takes hours, and gives the baseline that a fine-tune must beat. Data for a fine-tune often
# take days or weeks. Retrieval for knowledge that is large, private or changes. Fine-tuning for behavior: a
# format, a tone, one task done reliably by a small, cheap model. They combine.
# </details>

# %% [markdown]
# **Your training loss is excellent. Do you ship?**
# <details><summary>Answer</summary>
# Not on that alone. Training loss also falls when the model memorizes its records or forgets everything
# else. I look at validation loss and the task's own metric on held-out data without near-duplicates of
# training records. If the model will meet new people or products, I split by those and not by record. And
# I compare general abilities before and after.
# </details>
#
# **What does fine-tuning a 7B model cost?**
# <details><summary>Answer</summary>
# Full fine-tuning of a dense model needs about 6 × parameters × tokens operations. At 40 % of an A100's
# 312 TFLOP/s and 2 dollars an hour, 10 million tokens cost about 2 dollars and a billion about 180.
# LoRA needs 4 instead of 6, but not always less time. Checkpointing adds a third (with LoRA a half).
# Full fine-tuning with mixed-precision AdamW takes about 16 bytes per parameter: for 6.7 billion 107 GB,
# before activations. That is more than one 80 GB GPU; LoRA fits on one. Sweeps, evaluation and people
# usually cost more than one run.
# </details>
#
# ## Recap, and where to go
# <!-- claims: C2 -->
#
# - First half of the claim: it held. Exact match rose from 0.03 to 0.69 in 25 steps (three seeds), and to
#   0.85 in the 100 steps of your first run.
# - Second half: it held for the capitals, where tuning supplied mainly the form. On two of the skills
#   that we tested, it may have taught more.
# - A higher learning rate is not simply faster: ten times as high broke the run.

# %% [markdown]
# | lessons | about |
# |---|---|
# | [01](01_full_fine_tuning.ipynb) [02](02_lora.ipynb) [03](03_the_peft_family.ipynb) | which parameters are trained: all, a low-rank update, the PEFT family |
# | [04](04_instruction_tuning.ipynb) [05](05_templates_and_the_bug_zoo.ipynb) [06](06_domain_adaptation.ipynb) | the data: records, templates and their bugs, a domain |
# | [07](07_learning_rate.ipynb) [08](08_the_small_knobs.ipynb) | learning rate and the other hyperparameters |
# | [09](09_where_the_memory_goes.ipynb) [10](10_quantization_and_qlora.ipynb) [11](11_activations_and_checkpointing.ipynb) [12](12_floating_point.ipynb) [13](13_zero_and_fsdp.ipynb) | memory: measure it, reduce it, divide it |
# | [14](14_perplexity.ipynb) [15](15_task_metrics.ipynb) | evaluation: perplexity, tasks, people |
# | [16](16_catastrophic_forgetting.ipynb) [17](17_overfitting.ipynb) [18](18_data_quality.ipynb) | what goes wrong: forgetting, overfitting, data |
# | [19](19_multi_task.ipynb) [20a](20a_preferences.ipynb) [20b](20b_rewards.ipynb) [20c](20c_distillation.ipynb) [20d](20d_agents.ipynb) | several tasks; preferences, rewards, distillation, agents |
# | [21](21_interview_clinic.ipynb) [22](22_what_if_lab.ipynb) | interview clinic; your own experiments |

# %%
ft.progress("00")
