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
# - check a loss mask in TRL before you pay for a run.
#
# *Needs [01 full fine-tuning](01_full_fine_tuning.ipynb). About 45 minutes; the code runs in about
# one minute on two CPU cores.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C94 -->
#
# > *"Take one conversation. Show me which tokens the model is trained to predict, and from which
# > context. What breaks if the end-of-sequence token is not among them?"*

# %% [markdown]
# ## The idea in one picture
#
# A conversation becomes one row of token ids, `input_ids`. A second row of the same length, `labels`,
# says what is trained. A label is either the id itself or -100, the value that PyTorch's
# cross-entropy ignores. Setting labels to -100 is called **masking**.
#
# ![Two rows of boxes for a conversation with two questions and two answers. The upper row holds the token ids. The lower row holds the labels: minus 100 under every prompt token, the token itself under each answer token and under the end-of-sequence token. Where a label is trained, an arrow leads to it from the token before.](figures/04_labels.svg)

# %% [markdown]
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
# two lists of integers, `(input_ids, labels)`. Add `eos_id` after each assistant turn. Train on every
# assistant turn, EOS included; mask all other turns. Do not change the lists in `turns`.


# %% tags=["raises-exception"]
def chat_labels(turns, eos_id):
    """(input_ids, labels): two lists of the same length; a label is the id, or -100."""
    ...


ft.check("chat_labels", chat_labels)

# %% [markdown]
# <!-- claims: C15 C18 -->
# `ft.encode` is the package's version; `ft.show_batch` colors the tokens that are trained on.

# %%
follow_up = [{"role": "user", "content": "And of big?"},
             {"role": "assistant", "content": "small"}]
example = ft.encode({"messages": [question, answer, *follow_up]}, tokenizer)
ft.show_batch([example], tokenizer)

# %% [markdown]
# Both answers are trained on, each with its EOS. Each token is predicted from all tokens before it, earlier
# turns included. If earlier answers are not worth imitating, train on the last answer only.

# %% [markdown]
# ## From labels to the loss
#
# The model's output at position t is a score (**logit**) for every token of the vocabulary, given the
# tokens up to t. It is compared with the label at position **t + 1**: the shift by one. The loss of one
# token is minus the natural logarithm of its probability. The loss of a batch is the mean over **all
# labels that are not -100**.
#
# ## Your turn: the loss
#
# Write `sft_loss`. Return one number in nats. `torch.nn.functional` is allowed.


# %% tags=["raises-exception"]
def sft_loss(logits, labels):
    """Mean loss in nats over the labels that are not -100.

    logits: (batch, length, vocabulary); labels: (batch, length), not shifted.
    """
    ...


ft.check("sft_loss", sft_loss)

# %% [markdown]
# Compare with two independent implementations on eight records. `collate` makes one batch of them: short rows are
# filled with padding, whose label is -100.

# %%
import torch

from ftkit.inside import collate
from ftkit.teaching import working

lab = ft.Experiment(model="tiny", data="tasks", probes=())
examples = [ft.encode(record, tokenizer) for record in lab.train[:8]]
batch = collate(examples, tokenizer.pad_token_id)
with torch.no_grad():
    out = model(**batch)
your_loss = working("sft_loss", sft_loss)  # the package's solution until yours is right
losses = {"yours": your_loss(out.logits, batch["labels"]).item(), "transformers": out.loss.item(),
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
rows = []
for kind, record in kinds.items():
    encoded = ft.encode(record, tokenizer)
    trained = sum(label != -100 for label in encoded["labels"])
    rows.append({"kind": kind, "tokens": len(encoded["labels"]), "trained on": trained,
                 "loss": ft.loss_on(model, [encoded])})
ft.table(rows)

# %% [markdown]
# The formula stays. The text and the labels change: of prose all tokens but the first are trained on,
# of the others a few. So the first half of the claim holds: the loss is that of pretraining.
# **Supervised fine-tuning** (SFT) is the method: next-token loss on examples of the wanted output.
# **Instruction tuning** is SFT on instructions with answers.

# %% [markdown]
# ## Guess 1: where is the base model worst?
# <!-- claims: C14 -->
#
# The base model has been pretrained on prose and never tuned. Take every fourth held-out record (155
# in all) and let it predict the correct answers, token by token.

# %%
first_guess = ft.predict("Which token of the correct answer costs the base model most loss?",
                         "the first token", "a token in the middle", "EOS")
first_guess

# %%
# The loss of each token of the correct answer; the last is EOS.
def token_losses(model, record):
    encoded = ft.encode(record, tokenizer)
    labels = torch.tensor(encoded["labels"][1:])
    with torch.no_grad():
        logits = model(torch.tensor([encoded["input_ids"]])).logits[0, :-1]
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    return losses[labels != -100].tolist()


test = ft.records("tasks", "test")[::4]
by_position = {"the first token": [], "a token in the middle": [], "EOS": []}
for record in test:
    first, *middle, end = token_losses(model, record)
    by_position["the first token"].append(first)
    by_position["a token in the middle"].extend(middle)
    by_position["EOS"].append(end)
mean_loss = {name: sum(values) / len(values) for name, values in by_position.items()}
ft.table([{"token": name, "mean loss (nats)": loss} for name, loss in mean_loss.items()])

# %%
first_guess.score(max(mean_loss, key=mean_loss.get))

# %% [markdown]
# A uniform guess over the 3,072 tokens of the vocabulary would cost ln 3,072 = 8.03 nats. So the base
# model is confident that something else follows. It expects neither the answer right after `Assistant:`
# nor the end after the answer. (In pretraining EOS followed the last period of each text.) Once the
# answer has begun, it continues well. Much of the loss is about **format**: answer now, then stop.

# %% [markdown]
# ## Guess 2: train on the prompt too?
# <!-- claims: C18 · E03 -->
#
# `loss_on="all"` trains on the prompt as well as the response. Here about one trained token in seven
# then belongs to a response. A fair comparison gives each variant **its own learning rate**, chosen on
# validation records. The winner of a search looks better than it is, so both then train with three
# other seeds, on 640 records once each.

# %%
second_guess = ft.predict(
    "Loss on all tokens instead of the response only: held-out exact match is ...",
    "lower", "no difference seen", "higher")
second_guess

# %%
config = ft.Config(max_steps=40, eval_steps=1000, precision="fp32")
validation = ft.records("tasks", "validation")[:150]
tried, best = [], {}
for where, rates in (("response", [5e-4, 1e-3, 2e-3]), ("all", [1e-3, 2e-3, 4e-3])):
    found = lab.sweep(config, loss_on=[where], learning_rate=rates, seed=[100])
    for run in found:
        run.after["exact match"] = ft.exact_match(run.model, tokenizer, validation)
    best[where] = max(found, key=lambda run: run.after["exact match"]).config.learning_rate
    tried += found
ft.scatter(tried, "learning_rate", "exact match", start=False, frontier=False,
           label=lambda run: f"{run.config.loss_on} {run.config.learning_rate:g}")

# %%
runs, exact = {}, {}
for where, rate in best.items():
    runs[where] = lab.sweep(config, loss_on=[where], learning_rate=[rate], seed=range(3))
    exact[where] = [ft.exact_match(run.model, tokenizer, test) for run in runs[where]]
ft.table([{"loss on": where, "learning rate": best[where], "exact match": exact[where],
           "trained tokens": runs[where][0].supervised_tokens} for where in runs])

# %%
from ftkit.teaching import direction

verdict = ft.expect(exact["all"], "<", exact["response"],
                    "loss on all tokens answers fewer held-out records", paired=True, may_fail=True)
second_guess.score({"<": "lower", ">": "higher", "": "no difference seen"}[
    direction(exact["all"], exact["response"], paired=True)])

# %% [markdown]
# In the picture, training on everything looks much worse at 1e-3, the best learning rate of the
# response-only loss; at 2e-3 it looks better (one seed, 150 records). **A comparison at one shared
# learning rate can measure the learning rate** ([lesson 03](03_the_peft_family.ipynb)). At its own,
# loss on all tokens comes within a few points of the other. (Five more seeds, run beforehand, point the
# same way, 0.71 against 0.74, but do not settle it.)
#
# So the second half of the claim, that the labels make it special, fails here. Loss on all tokens has
# the labels of pretraining, and the model learned to answer all the same. The *data* make it
# instruction tuning; the labels choose what the loss is spent on.

# %% [markdown]
# <!-- claims: C14 C24 · E01 -->
# What did tuning change?

# %%
print("asked:", test[0]["instruction"], "| expected:", test[0]["output"])
ft.table([{"model": name, "says": ft.answers(m, tokenizer, test[:1], max_new_tokens=20)[0],
           "loss on the first token": token_losses(m, test[0])[0],
           "on EOS": token_losses(m, test[0])[-1]}
          for name, m in (("base", model), ("tuned", runs["response"][0].model))])

# %% [markdown]
# The tuned model answers and stops. [LIMA](https://arxiv.org/abs/2305.11206) tuned a 65B model on 1,000 good
# examples, and its authors conclude that tuning mostly teaches which format to use.
# [Later work](https://arxiv.org/abs/2410.03717) calls that an over-simplification: accuracy in math kept growing
# with more examples.
#
# ## Break it: EOS without loss
# <!-- claims: E05 -->
#
# Change one label for each record: the last one, under EOS, becomes -100. A common cause is padding with
# EOS and masking that id (lesson 05). Train with and without the bug on three sets of 240 records, at a
# constant learning rate of 0.0005.

# %%
third_guess = ft.predict("Without loss on EOS, the loss of the last five steps is ...",
                         "lower", "no difference seen", "higher")
third_guess

# %%
from types import SimpleNamespace


def tune(examples):
    tuned, _ = ft.load("tiny")
    optimizer = torch.optim.AdamW(tuned.parameters(), lr=5e-4, weight_decay=0.0)
    rows = []
    for start in range(0, len(examples), 16):
        loss = tuned(**collate(examples[start:start + 16], tokenizer.pad_token_id)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        rows.append({"step": len(rows) + 1, "loss": loss.item()})
    return SimpleNamespace(model=tuned.eval(), rows=rows, before={}, after={})


# %%
tuned, exact_after, last_loss = ({"EOS trained": [], "EOS masked": []} for _ in range(3))
for part in range(3):
    good = [ft.encode(record, tokenizer) for record in lab.train[240 * part:240 * (part + 1)]]
    bad = [{**example, "labels": example["labels"][:-1] + [-100]} for example in good]
    for name, examples in (("EOS trained", good), ("EOS masked", bad)):
        run = tune(examples)
        tuned[name].append(run)
        exact_after[name].append(ft.exact_match(run.model, tokenizer, test))
        last_loss[name].append(sum(row["loss"] for row in run.rows[-5:]) / 5)
ft.curves(tuned, "loss")

# %%
said = {name: ft.answers(runs_of[0].model, tokenizer, test[:1], max_new_tokens=16)[0]
        for name, runs_of in tuned.items()}
ft.table([{"run": name, "last five losses": last_loss[name], "exact match": exact_after[name],
           "for example": said[name]} for name in tuned])

# %%
ft.expect(exact_after["EOS masked"], "<", exact_after["EOS trained"],
          "without loss on EOS fewer answers are exact", paired=True)
third_guess.score({"<": "lower", ">": "higher", "": "no difference seen"}[
    direction(last_loss["EOS masked"], last_loss["EOS trained"], paired=True)])

# %% [markdown]
# The faulty models tend to run on after the answer, as in the example, so few answers are exact. (The few
# end with a period, as pretraining texts do.) Yet their loss is *lower* from the first step on, since
# the token that was hardest at first is left out. **The curve alone does not tell you that something is
# wrong: it falls as a good one does.** And a model that already knows its EOS can hide the bug
# ([05](05_templates_and_the_bug_zoo.ipynb)).

# %% [markdown]
# ## Your turn: the loss of a step
# <!-- claims: E04 -->
#
# A large batch is often split into **micro-batches**, whose gradients are added up. Each reports its mean
# loss and how many tokens it trained on. Write `step_loss`: `parts` is a list of `(mean, tokens)`. Return
# the loss of the whole step, the mean over all its trained tokens. A micro-batch may have 0 trained
# tokens; its mean is then nan.


# %% tags=["raises-exception"]
def step_loss(parts):
    """Mean loss over all trained tokens of a step; parts is a list of (mean, tokens)."""
    ...


ft.check("step_loss", step_loss)

# %% [markdown]
# transformers averaged the means under accumulation
# [until October 2024](https://github.com/huggingface/transformers/pull/34191), so a token in a micro-batch with
# few trained tokens counted too much. Now, for most text models, it divides by the trained tokens of
# the whole step, on all GPUs ([exceptions](08_the_small_knobs.ipynb)). So a long answer weighs more.

# %% [markdown]
# ## At 135M
#
# The comparison of guess 2 on SmolLM2-135M-Instruct. By validation loss with seed 0, 0.0001 is the best of
# three learning rates for both kinds of loss. (Responses at 3e-05: 1.48, in
# [lesson 02](02_lora.ipynb). All tokens at 0.0001: 1.09.) Seed 0 is also one of the three below.

# %%
from ftkit.teaching import at_135m

at_135m("sft_masks", verdict)

# %% [markdown]
# The test has 64 records, so 0.02 is about one of them: the two cannot be told apart. Training without
# a mask taught the tasks here too: 0.46, untouched 0.02. (This model had been tuned on instructions
# before.) It also forgot less: its loss on plain English is 0.07 to 0.08 lower in each seed.
#
# For larger models it depends on the data set. Response-only loss was slightly better on the benchmark
# MMLU ([QLoRA, 2023](https://arxiv.org/abs/2305.14314)). Loss on the instruction helped with long
# instructions and short answers, or few records ([Shi et al. 2024](https://arxiv.org/abs/2405.14394)).

# %% [markdown]
# ## In practice, 2026
#
# TRL masks prompts by itself only for records with `prompt` and `completion`. For `messages` its default
# is loss on all tokens; ask for `assistant_only_loss`. The last lines count the trained ends and decode
# four records: read them for every new data set or model. TRL's template for Qwen3 puts an empty think
# block (`<think></think>`) before each answer that has no reasoning, and trains on it.
# `loss_type="dft"` weights each token's loss by its probability
# ([Wu et al. 2025](https://arxiv.org/abs/2508.05629)).
#
# ```python
# from datasets import load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-1.7B-Base"
# # train.jsonl: {"messages": [{"role": "user", "content": "..."},
# #                            {"role": "assistant", "content": "..."}]}
# config = SFTConfig(
#     output_dir="sft", assistant_only_loss=True, max_length=4096, num_train_epochs=2,
#     eos_token="<|im_end|>",  # what ends a turn; the EOS of Qwen's base tokenizer is another
#     learning_rate=1e-5, lr_scheduler_type="cosine", warmup_steps=0.03,  # a fraction
#     per_device_train_batch_size=4, gradient_accumulation_steps=16)
# data = load_dataset("json", data_files="train.jsonl", split="train")
# trainer = SFTTrainer(model_id, args=config, train_dataset=data)
# tokenizer = trainer.processing_class
# assert len(trainer.train_dataset) == len(data), "answers beyond max_length were cut away"
# for record, row in zip(data, trainer.train_dataset, strict=True):
#     answers = sum(turn["role"] == "assistant" for turn in record["messages"])
#     assert row["labels"].count(tokenizer.eos_token_id) == answers, f"an end is missing: {record}"
# for labels in trainer.train_dataset[:4]["labels"]:
#     print(repr(tokenizer.decode([label for label in labels if label != -100])))
# trainer.train()
# ```

# %% [markdown]
# **Usual values.** Full fine-tuning: learning rate 5e-6 (8B) and 2e-6 (70B) in the open recipe
# [Tülu 3](https://arxiv.org/abs/2411.15124), 1e-5 to 2e-5 in older ones, 2 or 3 epochs, batches of
# 64 (as above) to 128 sequences. LoRA: about ten times the learning rate; on a base model train the rows of `<|im_end|>` too ([02](02_lora.ipynb)).
#
# **Data.** From 1,000 selected records ([s1](https://arxiv.org/abs/2501.19393), reasoning) to the
# 939,344 of Tülu 3. Mix them as in [lesson 19](19_multi_task.ipynb) and remove test items
# ([lesson 18](18_data_quality.ipynb)).
#
# **Other tools.** Axolotl: `train_on_inputs: false`, `train_on_eos: turn`. Unsloth: `train_on_responses_only`.
#
# **Pitfalls.**
# - The mask needs `{% generation %}` markers around the answers in the chat template, and
#   [many templates have none](https://github.com/huggingface/trl/issues/4879). TRL 1.16 swaps in a training
#   template if it knows the model's to the letter, and stops with an error otherwise. A base model can take
#   the template of its chat model: `chat_template_path`.
# - A template can leave the end-of-turn token outside the markers: the bug above
#   ([found in GLM's](https://github.com/huggingface/trl/pull/5988)). TRL 1.16 warns.
# - A record longer than `max_length` is cut, and its last answer may lose its end. Drop such records first.
# - After training, let the server answer 20 prompts, and count the answers that end.
# - **Tool use**: train on the assistant's calls and answers; mask the tool results.
# - **Reasoning traces**: train on the think blocks if the model is to think. Qwen3's template, like
#   others, drops those of earlier turns; TRL's version for training keeps them, even empty ones. To
#   train on the text that is served, make each answer its own record, as `prompt` and `completion`,
#   without `assistant_only_loss`.

# %% [markdown]
# ## Interview
#
# **Instruction tuning and pretraining: what differs in the loss?**
# <details><summary>Answer</summary>
# Nothing: both use next-token cross-entropy. What differs: the data (conversations in a chat template), the
# labels (usually -100 on all the assistant does not write), the number of tokens, the learning rate.
# </details>
#
# **How do you verify a loss mask?**
# <details><summary>Answer</summary>
# Decode the tokens whose label is not -100 and read them: answers, end-of-turn tokens (some templates add a
# line break) and think tags, nothing of the user's. Assert one end per answer. All tokens trained means the mask is lost; none means
# the markers were not found. A falling loss proves nothing.
# </details>

# %% [markdown]
# **Is loss on the response only always better?**
# <details><summary>Answer</summary>
# No. Masking spends the gradient on what the model has to write: with 300 prompt and 5 answer tokens,
# 1.6 % of the tokens in an unmasked loss are the answer's. Yet prompt loss has helped just there
# (long prompts, short answers) and with few records, as a regularizer (Shi et al. 2024). Compare both,
# each at its own learning rate.
# </details>
#
# **Which tokens are trained, from which context, and what if the end-of-turn token is not among them?**
# <details><summary>Answer</summary>
# The assistant's tokens and its end-of-turn token, each from all tokens before it, earlier turns included. If
# the end is not trained, a base model tends to answer and run on, up to max_new_tokens, while the loss falls
# as usual. A model that knew its end before can hide the bug.
# </details>
#
# **Two micro-batches: 10 tokens at loss 4 and 90 at loss 2. The loss of the step?**
# <details><summary>Answer</summary>
# (10 · 4 + 90 · 2) / 100 = 2.2. The mean of the two means is 3.0 and gives a token of the short one nine
# times the weight. Sum the losses, then divide by all trained tokens of the step, across all GPUs.
# </details>

# %% [markdown]
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
ft.progress()
