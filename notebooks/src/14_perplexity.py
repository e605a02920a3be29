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
# - name the five conditions without which it may not be compared;
# - say what it is good for after fine-tuning, and where it misleads.
#
# *About 25 minutes. Needs [04 instruction tuning](04_instruction_tuning.ipynb). The code needs one
# minute on two CPU cores.*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"Two documents. Ten tokens at loss 4, nine hundred and ninety at loss 2. What is the perplexity
# > of this corpus? And a colleague has 31. Who is right?"*
#
# Perplexity is the exponential of a mean. Everything that goes wrong with it is about *which* mean.

# %% [markdown]
# ## By hand
# <!-- claims: C59 · E32 -->
#
# The model gives a probability to every next token. Minus its logarithm is the loss of that token;
# the mean over **all** tokens, then exp. A model that guesses among k equally likely tokens has
# perplexity k. No probability exceeds 1, so perplexity is never below 1.

# %%
import math

import torch

model, tokenizer = ft.load("tiny")
texts = [row["text"] for row in ft.records("general", "validation")[:40]]
ids = torch.tensor([[tokenizer.bos_token_id] + tokenizer(texts[0])["input_ids"]])
with torch.no_grad():
    log_p = model(ids).logits[0, :-1].log_softmax(-1)
losses = [-log_p[t, ids[0, t + 1]].item() for t in range(len(log_p))]
math.exp(sum(losses) / len(losses))

# %%
with torch.no_grad():
    library = math.exp(model(ids, labels=ids).loss.item())
ft.expect(abs(math.exp(sum(losses) / len(losses)) - library), "<", 1e-3, "by hand as transformers")
worst = max(range(1, len(losses)), key=losses.__getitem__)  # apart from the first, read blind
ft.table([{"has read": tokenizer.decode(ids[0, max(1, worst - 8):worst + 1]),
           "must say": tokenizer.decode(ids[0, worst + 1]), "loss": losses[worst],
           "perplexity there": math.exp(losses[worst])}])

# %% [markdown]
# ## The same with ft, and four averages
# <!-- claims: C59 · E32 -->
#
# `perplexity.score` keeps the loss of every token, so that nothing is averaged too early. Before
# you run the next cell: the interviewer's two documents, averaged perplexity by perplexity?

# %%
from ftkit.evaluate import perplexity

guess = ft.predict("The mean of the two documents' perplexities?", guess=...)
two = [perplexity.Score([4.0] * 10, 8, 40), perplexity.Score([2.0] * 990, 760, 4000)]  # words, bytes
guess.score(perplexity.mean_of_texts(two))

# %%
scores = perplexity.score(model, tokenizer, texts)
averages = {"over all tokens (the definition)": perplexity.of,
            "mean of the texts' perplexities": perplexity.mean_of_texts,
            "exp of the mean of the texts' losses": perplexity.of_mean_losses,
            "per word, not per token": perplexity.per_word}
ft.table([{"average": name, "two documents": f(two), "40 texts of ours": f(scores)}
          for name, f in averages.items()])

# %% [markdown]
# Same losses, four numbers. The second is what the `perplexity` metric of Hugging Face's `evaluate`
# reports: the colleague is using it. Ten hard tokens decide it, because exp blows up the worst
# text. State the average, or your number means nothing.

# %%
ft.expect(perplexity.mean_of_texts(scores), ">", perplexity.of(scores),
          "averaging perplexities gives a larger number than the definition")

# %% [markdown]
# ## Padding
# <!-- claims: C59 · E32 -->
#
# Texts of unequal length are padded to a batch. Padding must not count, on whichever side it is,
# and the batch size must not matter. Here is the right way and the usual bug beside it.

# %%
from ftkit.data.encoding import collate

examples = [ft.encode({"text": text}, tokenizer) for text in texts[:16]]


def batched(size, side, count_padding=False):
    total = n = 0
    for at in range(0, len(examples), size):
        batch = collate(examples[at:at + size], tokenizer.pad_token_id, side)
        places = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        labels = batch["input_ids"] if count_padding else batch["labels"]
        with torch.no_grad():
            loss = model(batch["input_ids"], attention_mask=batch["attention_mask"],
                         position_ids=places, labels=labels).loss.item()
        kept = int((labels[:, 1:] != -100).sum())
        total, n = total + loss * kept, n + kept
    return math.exp(total / n)


# %%
ways = [(size, side) for size in (1, 4, 16) for side in ("right", "left")]
rows = [{"batch size": size, "padding": side, "padding masked": batched(size, side),
         "padding counted": batched(size, side, True)} for size, side in ways]
right = [row["padding masked"] for row in rows]
assert max(right) - min(right) < 1e-3
ft.table(rows)

# %% [markdown]
# Masked: one number six times. Counted: a number that depends on the batch size, and comes out
# worse here, elsewhere better, as the model happens to like padding. **A perplexity that changes with the
# batch size is a bug**, and that is the cheapest test there is.

# %% [markdown]
# ## Window and stride
# <!-- claims: C59 C60 · E32 -->
#
# A text longer than the model's window must be cut. Cut into blocks, every block starts blind. A
# window that moves by a smaller **stride** gives each token more to look back on, and costs more.
# Does it matter? Same text, same model, a window of 64 (stride 63 is blocks: the first token of a
# window has nothing before it and is not scored).

# %%
guess = ft.predict("A stride of 8 instead of 63: perplexity ...?", "falls", "stays", "rises",
                   guess=...)
long = "\n".join(texts)[:6000]
strides = [63, 48, 32, 16, 8]
ppl = {s: perplexity.of(perplexity.score(model, tokenizer, [long], 64, s)) for s in strides}
guess.score("falls" if ppl[8] < ppl[63] else "rises")

# %%
ft.table([{"window": 64, "stride": s, "tokens before each, at least": 64 - s, "perplexity": p,
           "forward passes": f"{63 / s:.1f}x"} for s, p in ppl.items()])

# %%
ft.expect(ppl[8], "<", ppl[63], "the same model looks better when it may look back further")

# %% [markdown]
# Nothing about the model changed. A paper that reports stride 8 beats one with blocks, with the
# same weights. The first tokens of context win most; from 16 to 8 nothing is left to win. The
# [transformers guide](https://huggingface.co/docs/transformers/perplexity) shows the same on GPT-2.

# %% [markdown]
# ## Another tokenizer
# <!-- claims: C60 · E32 -->
#
# Perplexity is per *token*, and tokens are whatever the tokenizer makes. Spell the same text letter
# by letter and let the same model read that: many more tokens.


# %%
class Letters:
    """The same vocabulary, used one character at a time."""
    bos_token_id, eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id

    def __call__(self, text, **options):
        return {"input_ids": [i for c in text for i in
                              tokenizer(c, add_special_tokens=False)["input_ids"]]}


spelled = perplexity.score(model, Letters(), texts[:10])
whole = scores[:10]

# %%
ft.table([{"read as": name, "tokens": sum(len(s.nll) for s in some),
           "loss per token": math.log(perplexity.of(some)), "perplexity": perplexity.of(some),
           "bits per byte": perplexity.bits_per_byte(some)}
          for name, some in (("words and pieces", whole), ("letters", spelled))])

# %% [markdown]
# This model never saw spelled text, so it is bad at it. How much worse? Divide in the last column,
# then in the one of the loss: the loss per token hides most of the damage, since it is spread over
# more tokens. Between models with different tokenizers only numbers per word, per character or
# **bits per byte** may be compared: the text is the same, the tokens are not.

# %%
loss = math.log(perplexity.of(spelled)) / math.log(perplexity.of(whole))
bits = perplexity.bits_per_byte(spelled) / perplexity.bits_per_byte(whole)
f"letters: loss per token times {loss:.1f}, bits per byte times {bits:.1f}"

# %% [markdown]
# ## Now on a real model
#
# SmolLM2-135M has 49,152 tokens in its vocabulary, ours 3,072. It predicts ordinary English better,
# of course. By what factor, in each column?

# %%

REAL = download.has("smollm2")
english = [r["output"] for r in ft.records("handwritten") if len(r["output"]) > 80][:12]
named = {"tiny": (model, tokenizer)} | ({"smollm2": ft.load("smollm2")} if REAL else {})
read = {name: perplexity.score(*pair, english) for name, pair in named.items()}
ft.table([{"model": name, "tokens": sum(len(s.nll) for s in some),
           "perplexity per token": perplexity.of(some),
           "bits per byte": perplexity.bits_per_byte(some)} for name, some in read.items()])

# %% [markdown]
# ## What it misses
# <!-- claims: C61 · E33 -->
#
# Perplexity asks how likely the reference is. Users ask whether the answer is right. Tune on few
# records for a short and for a long time, and measure both on held-out records.

# %%
SEEDS = (0, 1, 2)
guess = ft.predict("After 24 passes instead of 4, validation perplexity ...?", "falls", "stays",
                   "rises", guess=...)
lab = ft.Experiment(data=ft.records("tasks")[:150], val=ft.records("tasks", "validation"),
                    probes=(), eval_records=160)
base = ft.Config(learning_rate=1e-3, eval_steps=999)
short, long_ = (lab.sweep(base, epochs=[n], seed=SEEDS) for n in (4, 24))

# %%
held_out = ft.records("tasks", "validation")[:160]
ppl = [[math.exp(run.after["val_loss"]) for run in runs] for runs in (short, long_)]
right = [[ft.exact_match(run.model, run.tokenizer, held_out) for run in runs]
         for runs in (short, long_)]
guess.score("rises" if sum(ppl[1]) > sum(ppl[0]) else "falls")

# %%
ft.table([{"passes": n, "validation perplexity": p, "exact match": r}
          for n, p, r in zip((4, 24), ppl, right)])

# %% [markdown]
# Read both columns: perplexity got clearly worse, exact match hardly moved. Why? Look only at the
# tokens where the model's first choice is not the reference. How sure is it of that choice, and what
# does the reference cost?


# %%
def where_wrong(run):
    batch = collate([ft.encode(r, tokenizer) for r in held_out], tokenizer.pad_token_id)
    labels = batch.pop("labels")[:, 1:]
    with torch.no_grad():
        p = run.model(**batch).logits[:, :-1][labels != -100].float().softmax(-1)
    labels = labels[labels != -100]
    sure, choice = p.max(-1)
    wrong = choice != labels
    reference = p.gather(1, labels[:, None])[:, 0]
    return (wrong.float().mean().item(), sure[wrong].mean().item(),
            -reference[wrong].log().mean().item())


# %%
wrong = [list(zip(*map(where_wrong, runs))) for runs in (short, long_)]
ft.table([{"passes": n, "tokens wrong": list(share), "probability of that choice": list(sure),
           "loss of the reference": list(cost)} for n, (share, sure, cost) in zip((4, 24), wrong)])

# %%
ft.expect(wrong[1][1], ">", wrong[0][1], "longer training: surer where it is wrong")

# %% [markdown]
# Hardly more tokens are wrong, but the model has become *sure* of its wrong choices, and perplexity
# pays for that, while the first choice is nearly as good as before. Choose a checkpoint by what your
# users will see.

# %% [markdown]
# ## Break it
#
# A report says: perplexity 0.44. Which mistake can go *below* 1? Guess, then look.

# %%
mistakes = {"divided by all tokens of the padded batch": sum(losses) / (4 * len(losses)),
            "probabilities averaged, then inverted": math.log(
                len(losses) / sum(math.exp(-loss) for loss in losses)),
            "loss in bits, exp in nats": sum(losses) / len(losses) / math.log(2),
            "sign lost": -sum(losses) / len(losses)}
ft.table([{"mistake": name, "perplexity": math.exp(v)} for name, v in mistakes.items()])

# %% [markdown]
# Only a lost sign goes below 1. The others give a number that looks fine. The definition with its
# conditions is the only protection: text, tokenizer, context rule, scored tokens, average.

# %% [markdown]
# ## Exercises
#
# **1.** Perplexity of several texts: `nll` and `mask` are lists of lists; only places whose mask is
# 1 count.


# %% tags=["raises-exception"]
def corpus_perplexity(nll, mask):
    ...


ft.check("corpus_perplexity", corpus_perplexity)


# %% [markdown]
# **2.** Bits per byte from the mean loss per token in nats, and the bytes per token.


# %% tags=["raises-exception"]
def bits_per_byte(loss, bytes_per_token):
    ...


ft.check("bits_per_byte", bits_per_byte)

# %% [markdown]
# **3.** May these two numbers be compared? Say `"yes"`, or what differs: `"tokenizer"`,
# `"context"`, `"average"` or `"text"`.

# %% tags=["raises-exception"]
verdicts = {
    "8.1 in blocks of 1,024, and 7.6 with stride 512, same model family": "...",
    "8.1 of Llama 3 (128k tokens), and 7.6 of Llama 2 (32k), same text and stride": "...",
    "8.1 before DAPT and 5.2 after, same text, stride and script": "...",
    "8.1 of evaluate's metric, and 7.6 as exp of Trainer's loss over all tokens": "...",
}
ft.check("comparable", verdicts)

# %% [markdown]
# ## Interview
#
# **Two documents: 10 tokens at loss 4, 990 at loss 2. Corpus perplexity?**
# <details><summary>Answer</summary>
# exp((40 + 1980) / 1000) = 7.54. Averaging the two perplexities gives 31.0, averaging their losses
# 20.1: other quantities. Every token counts once. (Computed above.)
# </details>
#
# **Loss 2.0. Perplexity? Is a model with loss 1.5 better?**
# <details><summary>Answer</summary>
# exp(2.0) = 7.39 if the loss is in nats. Better only on the same text, tokenizer and context: 2.00
# nats at 4.2 bytes a token and 1.52 at 3.2 bytes are both 0.69 bits per byte.
# </details>
#
# **When is perplexity the right metric in fine-tuning?**
# <details><summary>Answer</summary>
# For continued pretraining, on domain and general text side by side. Poor for instruction quality:
# it scores the reference, not the answer, and rises with over-confidence while exact match
# hardly moves. Measured above over three seeds.
# </details>

# %% [markdown]
# ## Recap
#
# - Perplexity: exp of the mean loss over all tokens, at least 1. Say which text, tokenizer,
#   context, tokens and average.
# - Test: the number does not change with batch size or padding side.
# - Across tokenizers: bits per byte. For answers: measure answers.
#
# In the package: [`ftkit/evaluate/perplexity.py`](../ftkit/evaluate/perplexity.py). Next:
# [15 task metrics](15_task_metrics.ipynb); overfitting in full is
# [17](17_overfitting.ipynb).
