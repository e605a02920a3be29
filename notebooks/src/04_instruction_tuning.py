# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · Instruction tuning: the loss, token by token
#
# **Claim: instruction tuning has no loss of its own. It is the pretraining loss on other text, and
# what makes it special is one row of integers, the labels.** It could be wrong. After this lesson
# you can
#
# - write the labels of a conversation, and the loss over them as transformers computes it;
# - say what happens when the prompt is trained on, or when the end of the answer is not;
# - check a loss mask before you pay for a run.
#
# *Needs [01 full fine-tuning](01_full_fine_tuning.ipynb). About 45 minutes; the code runs in about
# one minute on two CPU cores.*
#
# **Your project.** A school trained the quiz helper itself, with a script from the web. Its loss curve looks
# better than yours. But its helper answers "cold" and then talks on, without an end. Where is the bug?

# %%
import torch

import ftkit as ft
from ftkit.inside import collate
from ftkit.teaching import at_135m, best_values, direction, line_plot, sweep_curves, working

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C94 -->
#
# > *"Take one conversation. Show me which tokens the model is trained to predict, and from which
# > context. What breaks if the end-of-sequence token is not among them?"*
#
# ## The idea in one picture
#
# A conversation becomes one row of token ids, `input_ids`. A second row of the same length, `labels`,
# says what is trained. A label is either the id itself or -100, the value that PyTorch's
# cross-entropy ignores. Setting labels to -100 is called **masking**.
#
# ![Two rows of boxes for a conversation with two questions and two answers. The upper row holds the token ids. The lower row holds the labels: minus 100 under every prompt token, the token itself under each answer token and under the end-of-sequence token. Where a label is trained, an arrow leads to it from the token before.](figures/04_labels.svg)
#
# ## From a record to text
# <!-- claims: C17 C18 · E03 -->
#
# The tokenizer's **chat template** turns a conversation into one string. **BOS** (beginning of
# sequence, `<s>` in the picture) opens the text; **EOS** (end of sequence, `</s>`) ends each answer.
# The text up to `Assistant:` is the **prompt**, all the model gets when it has to answer. Everything
# after it, including EOS, is the **response**. (Other templates end every turn with a token such as
# `<|im_end|>`. It is a label only in the assistant's turns.)

# %%
model, tokenizer = ft.load("tiny")
question = {"role": "user", "content": "What is the opposite of hot?"}
answer = {"role": "assistant", "content": "cold"}
prompt = tokenizer.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
text = tokenizer.apply_chat_template([question, answer], tokenize=False)
prompt, text[len(prompt):]

# %% [markdown]
# ## Your turn: the labels of a conversation
#
# Write `chat_labels`. `turns` is a list of `(role, ids)`, for example `("user", [20, 21, 9])`. Return
# two lists of integers, `(input_ids, labels)`. Decide from the picture what is trained on. The ids in `turns`
# have no EOS yet. Do not change the lists in `turns`.


# %% tags=["raises-exception"]
def chat_labels(turns, eos_id):
    """(input_ids, labels): two lists of the same length; a label is the id, or -100."""
    ...


ft.check("chat_labels", chat_labels)

# %% [markdown]
# <!-- claims: C15 C18 -->
# `ft.encode` is the package's version; `ft.show_batch` marks the tokens that are trained on.

# %%
follow_up = [{"role": "user", "content": "And of big?"},
             {"role": "assistant", "content": "small"}]
ft.show_batch([ft.encode({"messages": [question, answer, *follow_up]}, tokenizer)], tokenizer)

# %% [markdown]
# Both answers are trained on, each with its EOS. Each token is predicted from all tokens before it, earlier
# turns included. If earlier answers are not worth imitating, train on the last answer only.
#
# ## Your turn: the loss of a batch
#
# In [lesson 00](00_start_here.ipynb) you wrote the loss of one record. A batch has several rows of different
# length. Short ones are filled with padding, whose label is -100. Decide what the mean is over. `labels` are not
# shifted. Return one number in nats. `torch.nn.functional` is allowed.


# %% tags=["raises-exception"]
def sft_loss(logits, labels):
    """Mean loss in nats over the labels that are not -100.

    logits: (batch, length, vocabulary); labels: (batch, length), not shifted.
    """
    ...


ft.check("sft_loss", sft_loss)

# %% [markdown]
# Compare with two independent implementations on eight records. (`working` takes the package's solution until
# yours is right.)

# %%
sft_loss = working("sft_loss", sft_loss)
lab = ft.Experiment(model="tiny", data="tasks", probes=())
examples = [ft.encode(record, tokenizer) for record in lab.train[:8]]
batch = collate(examples, tokenizer.pad_token_id)
with torch.no_grad():
    out = model(**batch)
losses = {"yours": sft_loss(out.logits, batch["labels"]).item(), "transformers": out.loss.item(),
          "ftkit": ft.loss_on(model, examples)}
ft.expect(losses["ftkit"], "==", losses["transformers"], "ftkit = transformers", within=1e-3)
losses

# %% [markdown]
# transformers shifts inside the model. **Pass labels that are not shifted**; otherwise each position
# learns the token after the next one.
#
# <!-- claims: C13 C94 · E02 -->
# Nothing in `sft_loss` mentions instructions. Give it pretraining prose and a classification task
# written as text. What changes?

# %%
kinds = {"pretraining prose": ft.records("general")[0], "instruction": lab.train[0],
         "classification as text": ft.records("sentiment")[0]}
encoded = {kind: ft.encode(record, tokenizer) for kind, record in kinds.items()}
ft.table([{"kind": kind, "tokens": len(row["labels"]), "loss": ft.loss_on(model, [row]),
           "trained on": sum(label != -100 for label in row["labels"])}
          for kind, row in encoded.items()])

# %% [markdown]
# The formula stays. The text and the labels change: of prose all tokens but the first are trained on,
# of the others a few. So the first half of the claim holds: the loss is that of pretraining.
# **Supervised fine-tuning** (SFT) is the method: next-token loss on examples of the wanted output.
# **Instruction tuning** is SFT on instructions with answers.
#
# ## Guess 1: where is the base model worst?
# <!-- claims: C14 -->
#
# The base model has been pretrained on prose and never tuned. Take every fourth held-out record and let it
# predict the correct answers, token by token.

# %%
first_guess = ft.predict("Which token of the correct answer costs the base model most loss?",
                         "the first token", "a token in the middle", "EOS")
first_guess


# %%
def token_losses(record):
    """The loss of each token of the correct answer; the last is EOS."""
    ids, labels = (torch.tensor(ft.encode(record, tokenizer)[key]) for key in ("input_ids", "labels"))
    with torch.no_grad():
        logits = model(ids[None]).logits[0, :-1]
    losses = torch.nn.functional.cross_entropy(logits, labels[1:], reduction="none")
    return losses[labels[1:] != -100].tolist()


test = ft.records("tasks", "test")[::4]
answers = [token_losses(record) for record in test]
positions = {"the first token": [losses[0] for losses in answers],
             "a token in the middle": [loss for losses in answers for loss in losses[1:-1]],
             "EOS": [losses[-1] for losses in answers]}
mean_loss = {name: sum(values) / len(values) for name, values in positions.items()}
ft.table([{"token": name, "mean loss (nats)": loss} for name, loss in mean_loss.items()])

# %%
first_guess.score(max(mean_loss, key=mean_loss.get))

# %% [markdown]
# A uniform guess over the 3,072 tokens of the vocabulary would cost ln 3,072 = 8.03 nats. So the base
# model is confident that something else follows. It expects neither the answer right after `Assistant:`
# nor the end after the answer. Once the answer has begun, it continues well. Much of the loss is about
# **format**: answer now, then stop. (By construction of this model's corpus;
# [lesson 00](00_start_here.ipynb) says how.)
#
# [LIMA](https://arxiv.org/abs/2305.11206) tuned a 65B model on 1,000 good examples, and its authors conclude
# that tuning mostly teaches which format to use. [Later work](https://arxiv.org/abs/2410.03717) calls that an
# over-simplification: accuracy in math kept growing with more examples.
#
# ## Guess 2: train on the prompt too?
# <!-- claims: C18 · E03 -->
#
# Did the school's script train on the questions as well? `loss_on="all"` does. Here about 16 % of the trained
# tokens then belong to a response. A fair comparison gives each variant **its own learning rate**, chosen on
# validation records. The winner of a search looks better than it is, so both then train with three other seeds,
# on 640 records once each.

# %%
second_guess = ft.predict(
    "Loss on all tokens instead of the response only: held-out exact match is ...",
    "lower", "no difference seen", "higher")
second_guess

# %%
config = ft.Config(max_steps=40, eval_steps=1000, precision="fp32")
validation = ft.records("tasks", "validation")[:150]
tried = []
for where, rates in (("response", [5e-4, 1e-3, 2e-3]), ("all", [1e-3, 2e-3, 4e-3])):
    tried += lab.sweep(config, loss_on=[where], learning_rate=rates, seed=[100])
for run in tried:
    run.after["not exact"] = 1 - ft.exact_match(run.model, tokenizer, validation)
sweep_curves(tried, "not exact", by="loss_on")  # fraction of answers

# %%
best = best_values(tried, "not exact", by="loss_on")
exact = {where: [ft.exact_match(run.model, tokenizer, test) for run in
                 lab.sweep(config, loss_on=[where], learning_rate=[rate], seed=range(3))]
         for where, rate in best.items()}
verdict = ft.expect(exact["all"], "<", exact["response"],
                    "loss on all tokens answers fewer held-out records", paired=True, may_fail=True)
second_guess.score({"<": "lower", ">": "higher", "": "no difference seen"}[
    direction(exact["all"], exact["response"], paired=True)])

# %% [markdown]
# Read the picture at 1e-3, the best learning rate of the response-only loss: there, training on everything looks
# much worse. **A comparison at one shared learning rate can measure the learning rate**
# ([lesson 03](03_the_peft_family.ipynb)). At its own, loss on all tokens comes within a few points of the other.
# (On other seeds it was lower by half a point to three points, which three seeds often cannot settle.)
#
# So the second half of the claim, that the labels make it special, fails here. Loss on all tokens has
# the labels of pretraining, and the model learned to answer all the same. The *data* make it
# instruction tuning; the labels choose what the loss is spent on. And the school's bug is another one.
#
# ## At 135M
#
# The comparison of guess 2 on SmolLM2-135M-Instruct. By validation loss with seed 0, 0.0001 is the best of
# three learning rates for both kinds of loss. Seed 0 is also one of the three below.

# %%
at_135m("sft_masks", verdict)

# %% [markdown]
# The test has 64 records, so 0.02 is about one of them: the two cannot be told apart. Training without
# a mask taught the tasks here too: 0.46, untouched 0.02. (This model had been tuned on instructions
# before.) It also forgot less: its loss on plain English is 0.07 to 0.08 lower in each seed.
#
# For larger models it depends on the data set. Response-only loss was slightly better on the benchmark
# MMLU ([QLoRA, 2023](https://arxiv.org/abs/2305.14314)). Loss on the instruction helped with long
# instructions and short answers, or few records ([Shi et al. 2024](https://arxiv.org/abs/2405.14394)).
#
# **In practice, 2026:** a script for TRL that counts the trained ends before it trains, usual values, templates
# with think blocks, channels and tools, pitfalls, and interview questions are on the
# [reference page](reference/04_instruction_tuning.md).
#
# ## Break it: EOS without loss
# <!-- claims: E05 -->
#
# You find it in the school's script: it pads with EOS and masks that id (lesson 05). So one label of each record,
# the last one, is -100. We train with and without the bug on three sets of 240 records, with the training step
# of lesson 01.

# %%
third_guess = ft.predict("Without loss on EOS, the loss of the last five steps is ...",
                         "lower", "no difference seen", "higher")
third_guess

# %%
training_step = working("training_step", ...)  # the package's solution


def tune(examples):
    """The tuned model, and the loss of each step."""
    tuned = ft.load("tiny")[0]
    optimizer = torch.optim.AdamW(tuned.parameters(), lr=5e-4, weight_decay=0.0)
    batches = [collate(examples[i:i + 16], tokenizer.pad_token_id) for i in range(0, len(examples), 16)]
    return tuned, [training_step(tuned, batch, optimizer) for batch in batches]


tuned = {"EOS trained": [], "EOS masked": []}
for part in range(3):
    good = [ft.encode(record, tokenizer) for record in lab.train[240 * part:240 * (part + 1)]]
    bad = [{**example, "labels": example["labels"][:-1] + [-100]} for example in good]
    tuned["EOS trained"].append(tune(good))
    tuned["EOS masked"].append(tune(bad))
line_plot({name: list(enumerate(torch.tensor([losses for _, losses in runs]).mean(0).tolist(), 1))
           for name, runs in tuned.items()}, x="step", y="loss, mean of 3 sets", log_x=False)

# %%
last = {name: [sum(losses[-5:]) / 5 for _, losses in runs] for name, runs in tuned.items()}
exact_after = {name: [ft.exact_match(run, tokenizer, test) for run, _ in runs] for name, runs in tuned.items()}
ft.table([{"run": name, "last five losses": last[name], "exact match": exact_after[name], "for example":
           ft.answers(runs[0][0], tokenizer, test[:1], max_new_tokens=16)[0]} for name, runs in tuned.items()])

# %%
ft.expect(exact_after["EOS masked"], "<", exact_after["EOS trained"],
          "without loss on EOS fewer answers are exact", paired=True)
third_guess.score({"<": "lower", ">": "higher", "": "no difference seen"}[
    direction(last["EOS masked"], last["EOS trained"], paired=True)])

# %% [markdown]
# The faulty models tend to run on after the answer, so few answers are exact. Yet their mean loss is *lower*, since
# the token that was hardest at first is left out. **The curve alone does not tell you that something is wrong.**
# And a model that already knows its EOS can hide the bug ([05](05_templates_and_the_bug_zoo.ipynb)).
#
# ## Recap
#
# - The loss is that of pretraining; the data make it instruction tuning. The model shifts, you do not; mask
#   the prompt (or compare), train on EOS.
# - Much of the early loss is format: begin an answer, then stop.
# - Compare masks at their own learning rates.
# - Decode the labels before you train: the curve does not show a wrong mask.
#
# In the package: [`ftkit/data/encoding.py`](../ftkit/data/encoding.py). Next:
# [05 templates and the bug zoo](05_templates_and_the_bug_zoo.ipynb).

# %%
ft.progress("04")
