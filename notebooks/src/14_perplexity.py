# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 14 · Evaluation I: perplexity
# <!-- claims: C58 C60 · E32 -->
#
# **Claim: perplexity is one number, and the model with the lower one is the better model.** Both
# halves could be wrong. After this lesson you can
#
# - compute perplexity so that two people get the same number;
# - name the conditions under which two perplexities may be compared;
# - tell overconfidence from worse answers when perplexity rises.
#
# *Needs [04 instruction tuning](04_instruction_tuning.ipynb). About 45 minutes; the code runs in about
# 90 seconds on two CPU cores.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"Two documents: ten tokens at loss 4, and 990 tokens at loss 2. What is the perplexity of this
# > corpus? A colleague reports 31. Who is right?"*
#
# Perplexity is the exponential of an average loss. Most mistakes are about *which* average.

# %% [markdown]
# ## The idea in one picture
# <!-- claims: C59 · E32 -->
#
# The loss of a token is minus the natural logarithm of its probability, its negative log-likelihood
# (NLL), in **nats**. Average over all scored tokens, then take exp. A model that guesses among k equally
# likely tokens has perplexity k. Perplexity is never below 1; a lower value is an error, often of the sign.
#
# ![Seven tokens of the sentence "The capital of France is Paris." with the probability of each. Bars show the losses; "capital" has by far the highest, then "France" and "The". A dashed line marks the mean of 1.95 nats, whose exponential, the perplexity, is 7.0.](figures/14_perplexity.svg)

# %% [markdown]
# ## Your turn: perplexity of a corpus
#
# Write `corpus_perplexity`. `nll` is a list with one list of losses (nats) for each text. `mask` has the
# same shape; only positions whose mask is 1 count. Return one number for the whole corpus.
#
# Stuck? Run `ft.hint("corpus_perplexity")` in a new cell; then `ft.solution("corpus_perplexity")`. The
# lesson continues without your code.


# %% tags=["raises-exception"]
def corpus_perplexity(nll, mask):
    """One perplexity over all tokens whose mask is 1; nll in nats."""
    ...


ft.check("corpus_perplexity", corpus_perplexity)

# %% [markdown]
# ## Three averages of the same losses
# <!-- claims: C59 · E32 -->
#
# `perplexity.score` returns the loss of every token of every text. The text starts with the BOS token, so
# its first token is scored as well. First check one text against transformers.

# %%
import math

import torch

from ftkit.inside import perplexity

# %%
model, tokenizer = ft.load("tiny")
texts = [row["text"] for row in ft.records("general", "validation")[:40]]
scores = perplexity.score(model, tokenizer, texts)
ids = torch.tensor([[tokenizer.bos_token_id] + tokenizer(texts[0])["input_ids"]])
with torch.no_grad():
    library = math.exp(model(ids, labels=ids).loss.item())
ft.expect(perplexity.of(scores[:1]), "==", library, "ftkit = transformers", within=1e-3)

# %%
first_guess = ft.predict(
    "Compared with the perplexity over all tokens, the mean of the 40 texts' perplexities is ...",
    "lower", "the same", "higher")
first_guess

# %%
question = [perplexity.Score([4.0] * 10, words=8, bytes=40),
            perplexity.Score([2.0] * 990, words=760, bytes=4000)]
averages = {"over all tokens (the definition)": perplexity.of,
            "mean of the texts' perplexities": perplexity.mean_of_texts,
            "exp of the mean of the texts' losses": perplexity.of_mean_losses}
ft.table([{"average": name, "two documents": average(question), "40 texts": average(scores)}
          for name, average in averages.items()])

# %%
gap = perplexity.mean_of_texts(scores) - perplexity.of(scores)
first_guess.score("the same" if abs(gap) < 0.01 else "higher" if gap > 0 else "lower")

# %% [markdown]
# Report the definition, exp(2.02) = 7.54. The colleague's 31 is the second line, the `mean_perplexity` of
# Hugging Face's `evaluate` library. There a text of 10 tokens counts as much as one of 990. If the short
# texts were the easy ones, the value could be too low instead.

# %% [markdown]
# ## Break it: count the padding
# <!-- claims: C59 · E32 -->
#
# In a batch, short texts are padded to the longest. Score 16 texts in three batch sizes, without and
# with the padding. Which column depends on the batch size?

# %%
from ftkit.inside import collate

examples = [ft.encode({"text": text}, tokenizer) for text in texts[:16]]


def in_batches(size, count_padding):
    total = count = 0
    for start in range(0, 16, size):
        batch = collate(examples[start:start + size], tokenizer.pad_token_id)
        labels = batch["input_ids"] if count_padding else batch["labels"]  # -100: not scored
        scored = (labels[:, 1:] != -100).sum().item()
        with torch.no_grad():
            total += model(batch["input_ids"], labels=labels).loss.item() * scored
        count += scored
    return math.exp(total / count)


ft.table([{"batch size": size, "padding masked": in_batches(size, False),
           "padding counted": in_batches(size, True)} for size in (1, 4, 16)])

# %% [markdown]
# With the padding masked the value stays the same: no padding is scored, and each batch counts by its scored
# tokens. The padding is on the right, where no token of the text sees it. **A perplexity that depends on the
# batch size, beyond rounding, is a bug.**

# %% [markdown]
# ## Window and stride
# <!-- claims: C59 C60 · E32 -->
#
# A text longer than the model's context must be cut into **windows**. The **stride** says how far the
# window moves. With a large stride the first tokens scored in a later window have almost no context. A
# smaller stride gives them more, and costs more forward passes.
#
# ![Two schemes for scoring a text of 20 tokens with windows of 8. With stride 7 three windows are needed and share one or a few tokens. With stride 4 four windows are needed; each later window starts with four gray tokens that are context only, then four blue tokens that are scored.](figures/14_stride.svg)

# %% [markdown]
# ## Your turn: the windows
#
# Write `windows(length, window, stride)`. Return a list of `(start, end, first)` with `end` exclusive. Each
# window scores the tokens from `first` to `end - 1`. The first window starts at 0, ends at
# `min(window, length)` and scores from index 1, since nothing precedes index 0. Each next one ends `stride`
# later, at most at `length`, and starts `window` tokens before its end. It scores only tokens that no earlier
# window scored.


# %% tags=["raises-exception"]
def windows(length, window, stride):
    """A list of (start, end, first): the window, and the first index that it scores."""
    ...


ft.check("windows", windows)

# %% [markdown]
# Join the 40 texts into one, and read it through windows of 64 tokens with five strides. Where does a smaller
# stride stop helping?

# %%
second_guess = ft.predict("With stride 8 the perplexity is 2.5. With stride 63 it is nearest to ...",
                          "2.5", "3.5", "5")
second_guess

# %%
from ftkit.teaching import direction, line_plot

joined = (tokenizer.eos_token + tokenizer.bos_token).join(texts)
by_stride = {}
for stride in (63, 48, 32, 16, 8):
    by_stride[stride] = perplexity.of(perplexity.score(model, tokenizer, [joined], 64, stride))
line_plot({"windows of 64 tokens": sorted(by_stride.items())}, "stride", "perplexity")

# %%
far = by_stride[63]
second_guess.score("2.5" if far < 3 else "3.5" if far < 4.25 else "5")

# %% [markdown]
# With stride 63 the perplexity is twice as high, for the same model and text: after each cut a text continues
# without its beginning. Most of the rise comes between strides 48 and 63, where the context left at a cut falls
# from 16 tokens to one. Below 16 almost nothing is gained, and the cost still doubles. So state window and stride
# with every perplexity.
#
# Stride 8 gives even less than the 2.51 of the separate texts: the joined text shows the end of the text before,
# and also scores the EOS and BOS tokens between its parts, which are easy to predict.
#
# The windows are short here; for GPT-2 large on WikiText-2 with windows of 1,024 the [transformers
# guide](https://huggingface.co/docs/transformers/perplexity) gets 16.4 with overlap and 19.4 without.

# %% [markdown]
# ## Another tokenizer
# <!-- claims: C60 · E32 -->
#
# Perplexity is an average **per token**, and the tokenizer decides what a token is. Divide the same total loss
# by tokens, words or bytes:

# %%
total = sum(score.total for score in scores)
units = {"token": sum(len(score.nll) for score in scores),
         "word": sum(score.words for score in scores),
         "byte": sum(score.bytes for score in scores)}
ft.table([{"per": unit, "number": count, "loss": total / count, "bits": total / count / math.log(2),
           "perplexity": math.exp(total / count)} for unit, count in units.items()])

# %% [markdown]
# One total gives three perplexities. So between tokenizers compare **bits per byte**: the total loss in bits,
# divided by the bytes of the text (UTF-8).
#
# ## Your turn: bits per byte
#
# Write `bits_per_byte` from the mean loss per token in nats and the mean number of bytes per token. One bit
# is ln 2 nats.


# %% tags=["raises-exception"]
def bits_per_byte(loss, bytes_per_token):
    """Bits per byte from the loss in nats per token."""
    ...


ft.check("bits_per_byte", bits_per_byte)

# %% [markdown]
# Two models report 2.00 nats at 4.2 bytes a token and 1.52 nats at 3.2 bytes a token. Their perplexities
# are 7.4 and 4.6. Their bits per byte are 0.687 and 0.685: practically the same fit to this text.

# %% [markdown]
# ## What perplexity misses
# <!-- claims: C61 · E33 -->
#
# Perplexity asks how likely the reference answer is. A user asks whether the model's own answer is right. Do
# the two change together? Tune the whole model on 96 records for 4 epochs and for 16, and for 16 at half the
# learning rate, with five seeds each. Measure on the same 160 held-out records:
#
# - **loss** and **confidence**, the highest probability, for each token of the reference answer;
# - **tokens right**: the share of them that are the model's first choice;
# - **exact match**: the whole answer that the model writes by itself.

# %%
third_guess = ft.predict(
    "16 epochs instead of 4, learning rate 0.001: the loss of held-out answers rises. Exact match ...",
    "falls", "rises", "shows no difference in 5 seeds")
third_guess

# %%
held_out = ft.records("tasks", "validation")[:160]
lab = ft.Experiment(data=ft.records("tasks")[:96], val=held_out, eval_records=8, probes=())
config = ft.Config(learning_rate=1e-3, eval_steps=1000, precision="fp32")
settings = {"4 epochs": {"epochs": 4}, "16 epochs": {"epochs": 16},
            "16 epochs, half the rate": {"epochs": 16, "learning_rate": 5e-4}}
runs = {name: lab.sweep(config.but(**change), seed=range(5)) for name, change in settings.items()}


# %%
def predict_tokens(model):
    """Confidence, rightness (1 or 0) and loss of each token of the held-out answers."""
    batch = collate([ft.encode(r, tokenizer) for r in held_out], tokenizer.pad_token_id)
    labels = batch.pop("labels")[:, 1:]
    scored = labels != -100
    with torch.no_grad():
        probabilities = model(**batch).logits[:, :-1][scored].float().softmax(-1)
    confidence, choice = probabilities.max(-1)
    reference = probabilities.gather(1, labels[scored][:, None])[:, 0]
    return confidence, (choice == labels[scored]).float(), -reference.log()


# %%
tokens = {name: [predict_tokens(run.model) for run in runs[name]] for name in runs}
seen = {}
for name in runs:
    seen[name] = {
        "loss": [loss.mean().item() for _, _, loss in tokens[name]],
        "confidence": [confidence.mean().item() for confidence, _, _ in tokens[name]],
        "tokens right": [right.mean().item() for _, right, _ in tokens[name]],
        "loss of a wrong token": [loss[right == 0].mean().item() for _, right, loss in tokens[name]],
        "exact match": [ft.exact_match(run.model, tokenizer, held_out) for run in runs[name]]}
ft.table([{"run": name} | seen[name] for name in runs])

# %%
short, long, gentle = (seen[name] for name in runs)
ft.expect(long["loss"], ">", short["loss"], "16 epochs: higher loss", paired=True)
ft.expect(long["confidence"], ">", short["confidence"], "16 epochs: more confident", paired=True)
ft.expect(long["tokens right"], "==", short["tokens right"], "tokens right: equal within 0.05",
          within=0.05, paired=True, may_fail=True)
outcome = direction(long["exact match"], short["exact match"], paired=True)
third_guess.score({"<": "falls", ">": "rises", "": "shows no difference in 5 seeds"}[outcome])

# %% [markdown]
# The loss, and with it the perplexity, is clearly higher after 16 epochs. The share of right tokens hardly
# moved. The rise comes from the wrong tokens, which cost more: the model became more confident, right or not.
# What happened to whole answers is the table's last column, and the scored guess says whether five seeds can
# tell it from chance. Whoever chooses by loss rejects this run for its confidence, not for its answers.
#
# And at half the learning rate? Compare the third row with the first before you say "16 epochs are too many".

# %%
sign = {"<": "lower", ">": "higher", "": "no difference seen"}
ft.table([{"16 epochs, half the rate, against 4 epochs": key,
           "result": sign[direction(gentle[key], short[key], paired=True)]}
          for key in ("loss", "confidence", "exact match")])

# %% [markdown]
# A model is **calibrated** if at each level of confidence it is right that often: in 80 % of the cases in which
# it is 80 % confident. A **reliability diagram** shows this, with tokens grouped by confidence.

# %%
def by_confidence(confidence, right, groups):
    """For each group of tokens: mean confidence, share of right ones, share of all tokens."""
    number = (confidence * groups).long().clamp(max=groups - 1)
    found = []
    for group in range(groups):
        inside = number == group
        if inside.any():
            found.append((confidence[inside].mean().item(), right[inside].mean().item(),
                          inside.float().mean().item()))
    return found


# %%
curves = {"perfectly calibrated": [(0.2, 0.2), (1.0, 1.0)]}
for name in ("4 epochs", "16 epochs"):
    confidence = torch.cat([confidence for confidence, _, _ in tokens[name]])
    right = torch.cat([right for _, right, _ in tokens[name]])
    groups = by_confidence(confidence, right, 5)[-4:]  # few tokens are below 20 %
    curves[name] = [(sure, share) for sure, share, _ in groups]
line_plot(curves, "confidence of a token", "share of right tokens")

# %% [markdown]
# After 4 epochs the points are close to the diagonal. After 16 epochs they are below it: this model is less
# often right than it is sure. The **expected calibration error** (ECE) is the mean
# distance to the diagonal over ten groups, each weighted by its number of tokens.

# %%
def calibration_error(confidence, right):
    return sum(share * abs(sure - hit) for sure, hit, share in by_confidence(confidence, right, 10))


errors = {name: [calibration_error(confidence, right) for confidence, right, _ in tokens[name]]
          for name in runs}
verdict = ft.expect(errors["16 epochs"], ">", errors["4 epochs"],
                    "16 epochs: larger calibration error", paired=True)

# %% [markdown]
# These are results of the 2M model. [Guo et al. 2017](https://arxiv.org/abs/1706.04599) saw an image
# classifier overfit the loss without overfitting accuracy. Choose a checkpoint by what your users will see.

# %% [markdown]
# ## At 135M
#
# A similar comparison on SmolLM2-135M-Instruct, recorded beforehand: 64 records, 3 epochs against 12.

# %%
from ftkit.teaching import at_135m

at_135m("calibration", verdict)

# %% [markdown]
# Here too, the loss was a third higher after more epochs, and the calibration error doubled. The share of right
# tokens hardly moved (0.69 against 0.71).
#
# In GPT-4's report, the probability of the answer letter on part of MMLU (multiple choice) was well
# calibrated after pretraining, less so after post-training ([OpenAI
# 2023](https://arxiv.org/abs/2303.08774), figure 8).

# %% [markdown]
# ## In practice, 2026
#
# The sliding window with transformers alone. Each window's mean loss is weighted by `n`, the number of tokens
# that it scores. The last window may be short here; in the exercise it always reaches back a full window. This
# tokenizer adds no BOS, so the code does.
#
# ```python
# import math
#
# import torch
# from transformers import AutoModelForCausalLM, AutoTokenizer
#
# model_id = "HuggingFaceTB/SmolLM2-135M"
# tokenizer = AutoTokenizer.from_pretrained(model_id)
# model = AutoModelForCausalLM.from_pretrained(model_id).eval()
# text = "Replace this by your held-out text. " * 100  # repeated text: almost no loss
# window, stride = 512, 256
# ids = torch.tensor([[tokenizer.bos_token_id] + tokenizer(text)["input_ids"]])
# total, scored, done = 0.0, 0, 0
# for start in range(0, ids.shape[1], stride):
#     end = min(start + window, ids.shape[1])
#     labels = ids[:, start:end].clone()
#     labels[:, : done - start] = -100  # scored by an earlier window
#     n = int((labels[:, 1:] != -100).sum())
#     with torch.no_grad():
#         loss = model(ids[:, start:end], labels=labels).loss.item()
#     total, scored, done = total + loss * n, scored + n, end
#     if end == ids.shape[1]:
#         break
# print(f"perplexity {math.exp(total / scored):.2f}")
# print(f"bits per byte {total / math.log(2) / len(text.encode()):.3f}")
# ```

# %% [markdown]
# **Schemes that you meet.** Numbers of different schemes never mix.
#
# | where | text and windows |
# |---|---|
# | papers on quantization (GPTQ, AWQ) | WikiText-2 joined, separate windows of 2,048 |
# | `llama-perplexity` (llama.cpp) | separate windows of 512, only the second half scored |
# | `lm_eval --model hf --model_args pretrained=... --tasks wikitext` | windows per document, overlapping by one token (the last by more); `word_perplexity`, `byte_perplexity`, `bits_per_byte` |
# | the code above | overlapping windows, half a window of context |
#
# **Pitfalls.**
# - The `eval_loss` of a Trainer may be a mean of batch means, which depends on the batch size.
# - The tokens of a chat template are easy for a model that was trained with it, so they lower the value.
#   Score responses only, or state it.
# - BOS or not, bf16 or fp32, packed or not: each changes the value. Compare with one script.
# - Bits per byte of two tokenizers: give both models the same context in bytes. Count no special tokens, or
#   the end of text for both.
# - Is a small difference noise? Resample *documents*, paired between the models ([15](15_task_metrics.ipynb)).
#
# **Where it is used.**
# - Quantization is checked by perplexity and accuracy. But answers can change while accuracy stays (["Accuracy is
#   Not All You Need"](https://arxiv.org/abs/2407.09141)). So also measure the KL divergence to the unquantized
#   model, how far the probabilities of the next token moved (`llama-perplexity --kl-divergence`).
# - Web text is filtered by its perplexity under a small model ([CCNet](https://arxiv.org/abs/1911.00359)).
# - Unusually low loss on a test set is weak evidence of contamination, training on that set ([Min-K%
#   Prob](https://arxiv.org/abs/2310.16789)).
# - Overconfidence is reduced after training by a **temperature**, one number fitted on validation data that
#   divides the logits.

# %% [markdown]
# ## Interview
#
# **Two documents: 10 tokens at loss 4, 990 at loss 2. Corpus perplexity?**
# <details><summary>Answer</summary>
# exp((10 · 4 + 990 · 2) / 1000) = 7.54: every token counts once. The mean of the two perplexities is 31.0.
# </details>
#
# **Model A has loss 2.0, model B 1.5. Is B better?**
# <details><summary>Answer</summary>
# Only if text, tokenizer, window, stride and scored tokens are the same. With different tokenizers convert to
# bits per byte: 2.00 nats at 4.2 bytes a token and 1.52 at 3.2 both give 0.69. Neither model may have trained
# on the text, and the difference must be larger than the noise. Even then, better on this text need not mean
# better answers.
# </details>

# %% [markdown]
# **When is perplexity the right metric in fine-tuning?**
# <details><summary>Answer</summary>
# For continued pretraining, on domain and general text, and for quantization together with the KL divergence to
# the unquantized model. In instruction tuning it scores the reference, not the model's own answer. There it
# is a cheap, smooth signal that shows overfitting and broken runs. Select the checkpoint by a task metric.
# </details>
#
# **Validation loss rises, accuracy does not fall. What is going on?**
# <details><summary>Answer</summary>
# Usually growing overconfidence: the wrong tokens cost more. Check by splitting the loss into right and wrong
# tokens, and by a reliability diagram. A temperature fitted on validation data usually improves calibration and
# changes no top choice. Then measure whole answers, with enough test records to see a difference: the loss
# alone cannot say whether they became better or worse.
# </details>

# %% [markdown]
# ## Recap
#
# - Perplexity is exp of the mean loss over all scored tokens. Report text, tokenizer, window, stride and
#   average with it.
# - It must not depend on batch size or padding. Across tokenizers use bits per byte.
# - So the claim fails twice. Perplexity is one number only once these conditions are stated. And a lower one
#   says little where tokenizers differ. With one tokenizer it mixes two things: how often the model is right,
#   and how sure it is. Here the second changed. For answers, measure answers.
#
# In the package: [`ftkit/evaluate/perplexity.py`](../ftkit/evaluate/perplexity.py). Next:
# [15 task metrics](15_task_metrics.ipynb).

# %%
ft.progress("14")
