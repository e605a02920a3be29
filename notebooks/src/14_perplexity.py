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
# - decide whether two reports may be compared, and which model fits the text better;
# - tell a change of confidence from a change of answers.
#
# *Needs [04 instruction tuning](04_instruction_tuning.ipynb). About 45 minutes; the code runs in about
# 90 seconds on two CPU cores. What to look up is on the [reference page](reference/14_perplexity.md).*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# Three teams have tuned a model for your company. Each reports a perplexity: 7.5, 31 and 4.6. You must say on Friday
# which model goes to the users. An interviewer asks the first part of it:
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
# `perplexity.score` returns the loss of every token of every text. Each text begins with **BOS**, the token that
# marks a beginning, so its first word is scored as well. First check one text against transformers.

# %%
import math

import torch

from ftkit.inside import collate, perplexity
from ftkit.teaching import direction, line_plot, working

model, tokenizer = ft.load("tiny")
texts = [row["text"] for row in ft.records("general", "validation")[:40]]
scores = perplexity.score(model, tokenizer, texts)
ids = torch.tensor([[tokenizer.bos_token_id] + tokenizer(texts[0])["input_ids"]])
with torch.no_grad():
    library = math.exp(model(ids, labels=ids).loss.item())
mine = working("corpus_perplexity", corpus_perplexity)
ft.expect(mine([scores[0].nll], [[1] * len(scores[0].nll)]), "==", library,
          "your function (or the solution) = transformers", within=1e-3)

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
# texts were the easy ones, the value could be too low instead. So 7.5 and 31 may be one model.
#
# A third trap is padding: whoever counts it, or averages the means of batches, gets a value that changes with the
# batch size. **A perplexity that depends on the batch size, beyond rounding, is a bug.**

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
# Complete `windows(length, window, stride)`. Fill the three gaps; `end` is exclusive. Each window scores
# the tokens from `first` to `end - 1`. The first one scores from index 1, since nothing precedes index 0. Each next
# one ends `stride` later, at most at `length`, and starts `window` tokens before its end. It scores only tokens that
# no earlier window scored.


# %% tags=["raises-exception"]
def windows(length, window, stride):
    """A list of (start, end, first): the window, and the first index that it scores."""
    found = [(0, min(window, length), 1)]
    while found[-1][1] < length:
        end = ...
        found.append((..., end, ...))
    return found


ft.check("windows", windows)

# %% [markdown]
# Join the 40 texts into one, and read it through windows of 64 tokens with five strides. Where does a smaller
# stride stop helping?

# %%
second_guess = ft.predict("With stride 8 the perplexity is 2.5. With stride 63 it is nearest to ...",
                          "2.5", "3.5", "5")
second_guess

# %%
cut = working("windows", windows)
joined = (tokenizer.eos_token + tokenizer.bos_token).join(texts)
scored = {stride: perplexity.score(model, tokenizer, [joined], 64, stride)
          for stride in (63, 48, 32, 16, 8)}
by_stride = {stride: perplexity.of(found) for stride, found in scored.items()}
length = 1 + len(scored[8][0].nll)
ft.table([{"stride": stride, "context at a cut, tokens": 64 - stride,
           "windows to compute": len(cut(length, 64, stride)), "perplexity": value}
          for stride, value in by_stride.items()])

# %%
far = by_stride[63]
second_guess.score("2.5" if far < 3 else "3.5" if far < 4.25 else "5")

# %% [markdown]
# The same model and text: after each cut a text continues without its beginning. Most of the rise comes between the
# strides 48 and 63, where the context at a cut falls from 16 tokens to one. Below 16 almost nothing is gained, and the
# cost still doubles. So state window and stride with every perplexity. (For GPT-2 large on WikiText-2 the [transformers
# guide](https://huggingface.co/docs/transformers/perplexity) gets 16.4 with overlap and 19.4 without.)

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
# The third team's 4.6 came with another tokenizer: 1.52 nats at 3.2 bytes a token. The first has 2.02 nats at 4.25
# bytes. Compare them with your function.

# %%
bits = working("bits_per_byte", bits_per_byte)
{"first team": bits(2.02, 4.25), "third team": bits(1.52, 3.2)}

# %% [markdown]
# Perplexities of 7.5 and 4.6, and practically the same fit to this text.
#
# ## What perplexity misses
# <!-- claims: C61 · E33 -->
#
# Perplexity asks how likely the reference answer is. A user asks whether the model's own answer is right. Do
# the two change together? Tune the whole model on 96 records, for 4 epochs and for 16. Each has its own best
# learning rate, found in a search over four on other seeds: 1e-3 and 5e-4. Measure on the same 160 held-out records:
#
# - **loss** and **confidence**, the highest probability, for each token of the reference answer;
# - **tokens right**: the share of them that are the model's first choice;
# - **exact match**: the whole answer that the model writes by itself.
#
# Runs of the same seed see the same records in the same order, so they are compared in pairs.

# %%
loss_guess = ft.predict("16 epochs against 4, each at its own learning rate: the loss of held-out answers is ...",
                        "lower", "no difference seen", "higher")
loss_guess

# %%
answer_guess = ft.predict("And exact match after 16 epochs is ...", "lower", "no difference seen", "higher")
answer_guess

# %%
held_out = ft.records("tasks", "validation")[:160]
lab = ft.Experiment(data=ft.records("tasks")[:96], val=held_out, eval_records=8, probes=())
config = ft.Config(eval_steps=1000, precision="fp32")
settings = {"4 epochs, 1e-3": (4, 1e-3, 5), "16 epochs, 5e-4": (16, 5e-4, 5),
            "16 epochs, 1e-3": (16, 1e-3, 3)}
runs = {name: lab.sweep(config.but(epochs=epochs, learning_rate=rate), seed=range(seeds))
        for name, (epochs, rate, seeds) in settings.items()}


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
few, many, _ = seen.values()
ft.expect(many["confidence"], ">", few["confidence"], "16 epochs: more confident", paired=True)
ft.expect(many["loss of a wrong token"], ">", few["loss of a wrong token"],
          "16 epochs: a wrong token costs more", paired=True)
words = {"<": "lower", ">": "higher", "": "no difference seen"}
loss_guess.score(words[direction(many["loss"], few["loss"], paired=True)])

# %%
answer_guess.score(words[direction(many["exact match"], few["exact match"], paired=True)])

# %% [markdown]
# The first two rows are the fair comparison. On seeds 0 to 4 and on 200 to 204 the loss, and with it the perplexity,
# could not tell the two apart, while 16 epochs wrote more right answers. Two changes cancel in the loss: more tokens
# are right, and each wrong one costs more, because the model is more confident. The third row trains 16 epochs
# at the learning rate of 4: its loss is the highest of all. Whoever had compared only that row would have called
# 16 epochs too many.
#
# ## Confidence that fits
#
# A model is **calibrated** if at each level of confidence it is right that often: in 80 % of the cases in which
# it is 80 % confident. A **reliability diagram** shows this, with tokens grouped by confidence. A model is
# **overconfident** if its mean confidence exceeds the share of right tokens.


# %%
def by_confidence(confidence, right, groups=5):
    """For each group of tokens: mean confidence and share of right ones."""
    number = (confidence * groups).long().clamp(max=groups - 1)
    return [(confidence[number == group].mean().item(), right[number == group].mean().item())
            for group in number.unique()]


curves = {"perfectly calibrated": [(0.2, 0.2), (1.0, 1.0)]}
for name in runs:
    confidence, right, _ = map(torch.cat, zip(*tokens[name]))
    curves[name] = by_confidence(confidence, right)[-4:]
line_plot(curves, "confidence of a token", "share of right tokens", log_x=False)

# %%
too_sure = {name: [(c.mean() - r.mean()).item() for c, r, _ in tokens[name]] for name in runs}
verdict = ft.expect(too_sure["16 epochs, 5e-4"], ">", too_sure["4 epochs, 1e-3"],
                    "16 epochs: confidence exceeds what is right by more", paired=True)

# %% [markdown]
# Points below the diagonal are tokens of which the model is surer than it is right. So 16 epochs gave better answers and
# a worse opinion of them, on the 2M model. A **temperature**, one number that divides the logits and is fitted on
# validation data, repairs much of the second and changes no first choice ([Guo et al.
# 2017](https://arxiv.org/abs/1706.04599)). Choose a checkpoint by what your users will see.

# %% [markdown]
# ## At 135M
#
# A similar comparison on SmolLM2-135M-Instruct, recorded beforehand: 64 records, 3 epochs against 12, both at 1e-4. The
# **expected calibration error** (ECE) is the mean distance to the diagonal, over groups weighted by their tokens.

# %%
from ftkit.teaching import at_135m

at_135m("calibration", verdict)

# %% [markdown]
# One learning rate for both, so do not read the higher loss as a verdict on 12 epochs: we have not recorded them at
# 5e-5. What holds in both models is the growing overconfidence.

# %% [markdown]
# ## In practice, 2026
#
# A script with transformers alone, the schemes that papers and tools use, pitfalls, and perplexity for quantization and data
# filtering are on the [reference page](reference/14_perplexity.md).

# %% [markdown]
# ## Your turn: Friday
#
# Write `compare_reports` for two reports. Each is a dict: `text` and `scored` (names: which text, which of its tokens),
# `context` (bytes of text before a scored token), `loss` (nats per token), `bytes_per_token`, and `seen` (whether
# the model was trained on the text). Return `"a"`, `"b"`, `"no difference"` (less than 1 % of the smaller
# value) or `"not comparable"`. The tokenizers may differ.


# %% tags=["raises-exception"]
def compare_reports(a, b):
    x, y = ...  # in a unit that is fair to both
    if ...:
        return "not comparable"
    if ...:
        return "no difference"
    return "a" if x < y else "b"


ft.check("compare_reports", compare_reports)

# %% [markdown]
# And Friday? The three numbers were a fair one, a mean of texts, and one of another tokenizer. Ask for the losses,
# compare bits per byte, and then let users' questions decide.
#
# ## Interview
#
# **Model A has loss 2.0, model B 1.5. Is B better?**
# <details><summary>Answer</summary>
# Only if text, tokenizer, window, stride and scored tokens are the same. With different tokenizers convert to
# bits per byte: 2.00 nats at 4.2 bytes a token and 1.52 at 3.2 both give 0.69. Neither may have trained on the
# text, and the difference must exceed the noise. Even then, answers need their own test.
# </details>
#
# **Validation loss rises, accuracy does not fall. What is going on?**
# <details><summary>Answer</summary>
# Usually growing overconfidence: the wrong tokens cost more. Split the loss into right and wrong tokens, draw a
# reliability diagram, try a lower learning rate. A temperature usually improves calibration. Then measure whole
# answers: the loss alone cannot say whether they became better or worse.
# </details>
#
# ## Recap
#
# - Perplexity is exp of the mean loss over all scored tokens. State text, tokenizer, window, stride and average.
# - It depends neither on batch size nor on padding. Across tokenizers use bits per byte.
# - A lower one is not a better model: here more right answers and more confidence canceled in it.
#
# In the package: [`perplexity.py`](../ftkit/evaluate/perplexity.py). Next: [15 task metrics](15_task_metrics.ipynb).

# %%
ft.progress("14")
