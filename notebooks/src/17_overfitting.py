# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 17 · Overfitting: which curve do you believe?
#
# **Claim: when the validation loss turns up, the model gets worse, so stop there. More data, fewer
# epochs, weight decay, dropout and augmentation all help.** It could be wrong in two places. After this
# lesson you can
#
# - distinguish a worse *loss* from worse *answers*, and explain why they separate;
# - write early stopping, and choose what it watches;
# - test a remedy against a control, and say when no effect was seen.
#
# *Needs [07](07_learning_rate.ipynb) and [08](08_the_small_knobs.ipynb). About 40 minutes; the code
# needs about 90 seconds on two CPU cores.*

# %%
import torch
from torch.nn import functional as F

import ftkit as ft
from ftkit.lessons.at_135m import at_135m
from ftkit.lessons.claims import direction

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"The training loss falls, the validation loss has been rising since epoch 4. What do you do?"*
#
# The textbook answer is "take the checkpoint of epoch 4". A better answer starts with a question: is
# only the *loss* worse, or are the *answers* worse?
#
# ## The idea
# <!-- claims: C74 C97 -->
#
# A model **overfits** when it continues to improve on the training records and no longer on new ones.
# The sign is a validation loss that falls and then rises again. But the loss is not what users see.
# They see answers:
#
# ![Left: over the epochs the training loss keeps falling, while the validation loss falls, reaches its
# lowest point and rises again. Right: exact match on new records rises and stays on its level after
# the moment of the lowest validation loss. The shapes are invented.](figures/17_two_curves.svg)

# %% [markdown]
# How can both be true? The loss of a record is −ln p, where p is the probability of the right answer.
# Whether the answer is right depends only on whether p is the *largest* probability.
#
# ## Your turn: more right answers, worse loss
#
# A model chooses between two answers in four questions. Write down the probabilities of the right
# answer before and after training, so that *more* are right (above 0.5) and the mean loss is *worse*.

# %% tags=["raises-exception"]
worse_and_better = ([...], [...])  # four probabilities before, four after
ft.check("worse_and_better", worse_and_better)

# %% [markdown]
# So one certain mistake outweighs several right answers. Does this happen in a real run?
#
# ## Few records, many epochs
# <!-- claims: C74 C97 · E12 -->
#
# We train on 48 records for twelve epochs. During the run we measure the validation loss and the exact
# match on validation records, which have other entities than the training records.

# %%
SEEDS = [0, 1, 2, 3, 4]
few = ft.records("tasks")[:48]
validation = ft.records("tasks", "validation")
asked = validation[::5]


def exact(model, tokenizer):
    return ft.exact_match(model, tokenizer, asked)


lab = ft.Experiment(data=few, val=validation, probes=(), metrics={"exact match": exact})
base = ft.Config(learning_rate=1e-3, max_steps=36, eval_steps=6)

# %%
turn = ft.predict("val_loss reaches its lowest point and rises. From that point to the end of the run, "
                  "exact match ...", "falls", "rises", "no difference seen in 5 seeds")
turn

# %%
long = lab.sweep(base, seed=SEEDS)
ft.curves(long, "loss", "val_loss", "exact match")


# %%
def best_row(run):
    """The evaluation with the lowest val_loss."""
    return min((row for row in run.rows if "val_loss" in row), key=lambda row: row["val_loss"])


def rise(runs):
    """How far val_loss ends above its lowest value, one number per run."""
    return [run.after["val_loss"] - best_row(run)["val_loss"] for run in runs]


# %%
at_lowest = [best_row(run)["exact match"] for run in long]
at_end = [run.after["exact match"] for run in long]
verdict = ft.expect(rise(long), ">", 0, "val_loss turns up: the classic sign of overfitting")
ft.expect(at_end, "==", at_lowest, "exact match at the end and at the lowest val_loss", paired=True)
turn.score({"<": "falls", ">": "rises",
            "": "no difference seen in 5 seeds"}[direction(at_end, at_lowest, paired=True)])

# %% [markdown]
# The second line says what was seen, and how large a difference could have stayed unseen. A rising
# validation loss alone does not show that the answers get worse.
#
# ## Why does the loss rise?
# <!-- claims: C36 · E12 E33 -->
#
# Training until the loss is near zero makes the model certain, of its mistakes too. **Temperature
# scaling** tests for this **overconfidence**. It divides all logits by a number T. T above 1 makes the
# probabilities less extreme. The order of the tokens, and so each greedy answer, stays the same.

# %%
softer = ft.predict("Final models: at which temperature is the validation loss lowest?",
                    "below 1", "at 1", "above 1")
softer

# %%
from ftkit.data import encoding

tokenizer = long[0].tokenizer
examples = encoding.encode_all(lab.val, tokenizer).examples
batch = encoding.collate(examples, tokenizer.pad_token_id)


# %%
def label_logits(model):
    """The logits that predict a trained token, (tokens, vocabulary), and these tokens."""
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    labels = batch["labels"][:, 1:]
    trained = labels != -100
    return logits[:, :-1][trained].float(), labels[trained]


# %%
temperatures = (0.8, 1, 1.25, 1.5, 2)
by_temperature = {t: [] for t in temperatures}
for run in long:
    logits, labels = label_logits(run.model)
    for t in temperatures:
        by_temperature[t].append(F.cross_entropy(logits / t, labels).item())
ft.table([{"temperature": t, "validation loss": losses} for t, losses in by_temperature.items()])

# %%
best = min(temperatures, key=lambda t: sum(by_temperature[t]))
gain = sum(by_temperature[1]) / 5 - sum(by_temperature[best]) / 5
print(f"lowest at temperature {best:g}; gain {gain:.2f} nats, "
      f"rise of val_loss {sum(rise(long)) / 5:.2f} nats")
softer.score("below 1" if best < 1 else "at 1" if best == 1 else "above 1")

# %% [markdown]
# A best temperature above 1 is a sign of overconfidence. Compare its gain with the rise: a temperature
# removes the part of the rise that all tokens share. It cannot repair a few certain mistakes, which T
# changes along with everything else. In practice T is fitted on validation data and reported on test
# data ([Guo et al. 2017](https://arxiv.org/abs/1706.04599)).
#
# A known example at scale: InstructGPT trained for 16 epochs. Its validation loss rose after the first
# epoch, but more epochs gave better reward-model scores and human preference
# ([Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)). Where you *use* the probabilities
# (perplexity, a threshold, sampling), the loss itself counts.
#
# ## Your turn: early stopping
# <!-- claims: C77 · E12 -->
#
# **Early stopping** evaluates regularly and stops after `patience` evaluations without a better value.
# The weights of the best evaluation are kept.


# %% tags=["raises-exception"]
def stop_at(values, patience, name):
    """Return (index of the kept evaluation, index of the last evaluation that was made).

    values: the measure at evaluation 0, 1, 2, ... If its name ends in "loss", lower is better, else
    higher. An equal value is not better."""
    ...


ft.check("stop_at", stop_at)

# %% [markdown]
# Which measure should it watch? The rows of the long runs are enough to know where any rule would have
# stopped. We compare two rules, each with patience 3.

# %%
def kept_step(run, measure, sign):
    """The step whose weights early stopping keeps; sign 1: lower is better, -1: higher."""
    rows = [row for row in run.rows if measure in row]
    kept = 0
    for i, row in enumerate(rows):
        if sign * row[measure] < sign * rows[kept][measure]:
            kept = i
        if i - kept >= 3:
            break
    return rows[kept]["step"]


# %%
ft.table([{"watches": "val_loss", "kept step": [kept_step(run, "val_loss", 1) for run in long]},
          {"watches": "exact match",
           "kept step": [kept_step(run, "exact match", -1) for run in long]}])

# %% [markdown]
# The two rules need not agree. Choose the measure that matches the use: a task metric for answers,
# `val_loss` for probabilities. A task metric on few records is noisy, so early stopping on it also
# selects lucky evaluations. Report the result on test data.
#
# ## Remedies, each against a control
# <!-- claims: C75 C76 C77 C78 · E12 E13 -->
#
# The control is the long run. Each remedy changes one thing, with three seeds. **Augmentation** repeats
# each record with other wordings. **Dropout** sets random activations to zero in training. Llama-type
# models have no dropout layers, so it is tested with LoRA's dropout, against LoRA without it.

# %%
best_remedy = ft.predict("val_loss at the end is lowest with ...", "four times the data",
                         "augmentation", "weight decay", "half the epochs", "LoRA", "LoRA, dropout")
best_remedy


# %%
def reworded(records):
    frames = ("{}", "Please answer: {}", "{} Answer in short.", "A question: {}")
    return [record | {"instruction": frame.format(record["instruction"])}
            for record in records for frame in frames]


def on(records):
    return ft.Experiment(data=records, val=validation, probes=())


# %%
plain, rare = on(few), base.but(eval_steps=12)
lora = rare.but(method="lora", learning_rate=1e-2, max_steps=24)
remedies = {
    "four times the data": (on(ft.records("tasks")[:192]), rare),
    "augmentation": (on(reworded(few)), rare),
    "weight decay": (plain, rare.but(weight_decay=0.1)),
    "half the epochs": (plain, base.but(max_steps=18)),
    "LoRA": (plain, lora),
    "LoRA, dropout": (plain, lora.but(lora_dropout=0.2)),
}

# %%
runs = {"control": long[:3]}
for name, (where, config) in remedies.items():
    runs[name] = where.sweep(config, seed=SEEDS[:3])
ends = {name: [run.after["val_loss"] for run in group] for name, group in runs.items()}
answers = {name: [exact(run.model, tokenizer) for run in group] for name, group in runs.items()}
ft.table([{"remedy": name, "epochs": group[0].rows[-1]["epoch"], "val_loss": ends[name],
           "rise": rise(group), "exact match": answers[name]} for name, group in runs.items()])

# %%
for name in remedies:
    control = "LoRA" if name == "LoRA, dropout" else "control"
    change = {"<": "lower", ">": "higher", "": "no difference seen"}[
        direction(ends[name], ends[control], paired=True)]
    print(f"val_loss, {name} against {control}: {change}")
ft.expect(answers["four times the data"], ">", answers["control"], "more data: better answers",
          paired=True)

# %%
means = {name: sum(ends[name]) for name in remedies}
options = ["four times the data", "augmentation", "weight decay", "half the epochs", "LoRA",
           "LoRA, dropout"]
best_remedy.score(options[options.index(min(means, key=means.get))])

# %% [markdown]
# Read the columns separately. Half the epochs can lower the *loss* without better *answers*: less
# overconfidence. New records add information that was not there. Weight decay shrinks a weight by
# learning rate × decay in each step, here by less than half a percent in the whole run; do not expect
# an effect. Where the test saw no difference, say so. It is neither "helps a little" nor "does
# nothing".
#
# ## Your turn: a clean split
#
# All of this needs validation records that are really new. If several records come from one source (a
# document, a customer, a template), a split by records puts near copies on both sides. This is
# **leakage**.


# %% tags=["raises-exception"]
def split_by_source(records, fraction):
    """Return (train, validation): two lists that together hold all records, with about `fraction` of
    the records in validation and no `record["source"]` on both sides."""
    ...


ft.check("split_by_source", split_by_source)

# %% [markdown]
# ## Break it
#
# Half of the validation records are also training records. Will you notice?

# %%
leaky = ft.Experiment(data=few, val=few[:24] + validation[:24], probes=())
leaked = leaky.sweep(rare, seed=SEEDS[:3])
ft.expect([run.after["val_loss"] for run in leaked], "<", ends["control"],
          "val_loss with a leak and without", paired=True)
ft.curves(leaked, "loss", "val_loss")

# %% [markdown]
# Half a leak, and the loss looks like that of a much better model. The curve may still turn, because
# the clean half does. With a full leak the validation loss would be a training loss: it would not turn,
# and early stopping would not stop.
#
# ## At 135M
#
# SmolLM2-135M, trained on 64 records for many epochs: does its validation loss turn up, and what do the
# answers do?

# %%
at_135m("overfitting", verdict)

# %% [markdown]
# For larger models: in pretraining, repeating data for up to 4 epochs was almost as good as new data, and
# with more repetition the value of further training decayed toward zero
# ([Muennighoff et al. 2023](https://arxiv.org/abs/2305.16264)). Larger models memorize training text
# more easily, and text that is repeated more often
# ([Carlini et al. 2022](https://arxiv.org/abs/2202.07646)).
#
# ## What if?
#
# How many records are needed until the curve no longer turns within 36 steps?

# %%
what_if = on(ft.records("tasks")[:96]).run(rare)
ft.table([{"records": 96, "rise": rise([what_if]), "exact match": exact(what_if.model, tokenizer)}])

# %% [markdown]
# ## In practice, 2026
#
# | setting | usual value |
# |---|---|
# | epochs of SFT | 1 to 3; more only if the task metric improves |
# | evaluations | 5 to 20 in a run, with a task metric as well as `eval_loss` |
# | patience | 2 to 5 evaluations |
# | `weight_decay` | 0 to 0.1; matters in long runs |
# | `lora_dropout` | 0 to 0.1, for small data sets |
# | `neftune_noise_alpha` | 5 to 15, for instruction data |
#
# ```python
# # {"prompt": "...", "completion": "..."}
# from datasets import load_dataset
# from transformers import EarlyStoppingCallback
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-1.7B"
# data = load_dataset("json", data_files={"train": "train.jsonl", "test": "test.jsonl"})
# trainer = SFTTrainer(
#     model=model_id,
#     train_dataset=data["train"],
#     eval_dataset=data["test"],
#     callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
#     args=SFTConfig(
#         output_dir="stopped", learning_rate=1e-5, num_train_epochs=3, bf16=True,
#         per_device_train_batch_size=8, eval_strategy="steps", eval_steps=1,
#         save_strategy="steps", save_steps=1, save_total_limit=2,
#         load_best_model_at_end=True, metric_for_best_model="eval_loss", greater_is_better=False,
#         neftune_noise_alpha=5,
#     ),
# )
# trainer.train()
# ```
#
# (`eval_steps=1` is for a first try; use a tenth of the run.)

# %% [markdown]
# Current methods by name:
#
# - **NEFTune** adds noise to the embeddings in training. It improved answers of chat models in
#   AlpacaEval, not factual benchmarks ([Jain et al. 2023](https://arxiv.org/abs/2310.05914)).
# - **Checkpoint averaging** and **EMA** (an exponential moving average of the weights) smooth the last
#   steps. They replace part of the learning rate decay.
# - **Label smoothing** trains toward a softer target. It reduces overconfidence, and it changes what the
#   probabilities mean.
# - **Deduplication** of the training data reduces memorization
#   ([Lee et al. 2021](https://arxiv.org/abs/2107.06499)). Memorized records can be extracted: a privacy
#   problem, see [lesson 18](18_data_quality.ipynb).
#
# Pitfalls:
#
# - `load_best_model_at_end` needs save steps that are a multiple of the evaluation steps.
# - The validation set is used up by choosing on it. Report on a test set.
#
# ## Interview
#
# **What are the signs of overfitting?**
# <details><summary>Answer</summary>
# The training loss falls while the validation loss rises, on a clean split of the same distribution. This
# shows that the probabilities get worse, often through overconfidence. Whether the answers get worse
# is a separate question, so I measure a task metric during the run.
# </details>
#
# **Which remedies come first?**
# <details><summary>Answer</summary>
# More distinct data, fewer epochs, and stopping by the metric that matters for the use. Then
# regularization (LoRA with dropout, NEFTune, weight decay in long runs), each tested against a control
# with several seeds. If only the confidence is wrong, temperature scaling is enough.
# </details>

# %% [markdown]
# **Validation loss rose from epoch 2, exact match rose until epoch 8. Which checkpoint?**
# <details><summary>Answer</summary>
# It depends on the use. For greedy answers epoch 8, for probabilities epoch 2, or epoch 8 with a
# fitted temperature. I check that the rise of exact match exceeds its noise, and I confirm the choice on
# a test set, because the validation set was used to choose.
# </details>
#
# **Why can the loss get worse while accuracy improves?**
# <details><summary>Answer</summary>
# Accuracy asks only which answer has the largest probability. The loss −ln p is unbounded: a few
# certain mistakes can outweigh many answers that became right.
# </details>
#
# ## Recap
#
# - A rising validation loss shows worse probabilities, not necessarily worse answers.
# - Early stopping needs a measure, a patience and a clean split.
# - Test each remedy against a control, and report "no difference seen" as that.
#
# Next: [18 data quality](18_data_quality.ipynb). A loss curve on the new task does not show forgetting
# either: [16](16_catastrophic_forgetting.ipynb).

# %%
ft.progress("17")
