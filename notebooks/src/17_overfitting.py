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
# epochs, weight decay, dropout and augmentation all help.** It could be wrong in two places: a higher
# loss need not mean worse answers, and a remedy may show no effect. After this lesson you can
#
# - distinguish a worse *loss* from worse *answers*, and explain why they separate;
# - write early stopping, and choose what it watches;
# - split data so that the validation loss can be believed.
#
# *Needs [07](07_learning_rate.ipynb), [08](08_the_small_knobs.ipynb) and [14](14_perplexity.ipynb).
# About 45 minutes; the code needs about 90 seconds on two CPU cores. Usual values, further methods and
# pitfalls are on the [reference page](reference/17_overfitting.md).*

# %%
from dataclasses import replace

import torch
from torch.nn import functional as F

import ftkit as ft
from ftkit.teaching import at_135m, direction, working

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# You have 48 labeled records and a weekend. On Sunday evening the chart of your run looks like this:
#
# > *"The training loss falls, the validation loss has been rising since epoch 4. What do you do?"*
#
# The textbook answer is "take the checkpoint of epoch 4". But is only the *loss* worse, or are the
# *answers* worse? Your users see answers.
#
# ## The idea
# <!-- claims: C74 C97 -->
#
# A model **overfits** when it continues to improve on the training records and no longer on new ones. The sign is
# a validation loss that falls and then rises again.
#
# ![Left: over the epochs the training loss keeps falling, while the validation loss falls, reaches its
# lowest point and rises again. Right: exact match on new records rises until that moment. From there
# three dashed lines ask whether it rises, stays or falls. The shapes are invented.](figures/17_two_curves.svg)

# %% [markdown]
# Can the loss rise without worse answers? For one choice the loss is −ln p, where p is the probability of the
# right answer. Whether the choice is right depends only on whether p is the *largest* probability. Over several
# tokens the loss is a mean, and exact match needs the right token on top at *every* step.
#
# ## Your turn: more right answers, worse loss
#
# A model chooses between two answers in four questions. Write down the probabilities of the right
# answer before and after training, so that *more* are right (above 0.5) and the mean loss is *worse*.
# Each p lies between 0 and 1, both excluded.

# %% tags=["raises-exception"]
worse_and_better = ([...], [...])  # four probabilities before, four after
ft.check("worse_and_better", worse_and_better)

# %% [markdown]
# So one confident mistake can outweigh several right answers. Does this happen in a real run?
#
# ## Few records, many epochs
# <!-- claims: C74 C97 · E12 -->
#
# We train on 48 records for twelve epochs of 3 steps, so step 12 is the end of epoch 4. During the run
# we measure the validation loss and the exact match on validation records with other entities, for eight seeds.

# %%
SEEDS = list(range(8))
few = ft.records("tasks")[:48]
validation = ft.records("tasks", "validation")
asked = validation[::5]


def exact(model, tokenizer):
    return ft.exact_match(model, tokenizer, asked)


lab = ft.Experiment(data=few, val=validation, probes=(), metrics={"exact match": exact})
base = ft.Config(learning_rate=1e-3, max_steps=36, eval_steps=6, precision="fp32")
print(f"exact match is measured on {len(asked)} records")

# %%
turn = ft.predict("val_loss reaches its lowest point and rises. From that point to the end of the run, "
                  "exact match ...", "falls", "rises", "no difference seen")
turn

# %%
long = lab.sweep(base, seed=SEEDS)
half = lab.sweep(base.but(max_steps=18), seed=SEEDS)  # a schedule of six epochs, for comparison
ft.curves(long, "loss", "val_loss")


# %% [markdown]
# The scale is logarithmic, because the training loss falls so far. The turn of the validation loss is too small
# for it. So we draw the evaluations of three seeds from step 6 on, with the exact match. A ring marks the lowest
# validation loss.

# %%
def evaluations(run):
    return [row for row in run.rows if "val_loss" in row]


# copies of the runs with their evaluations alone
later = {f"seed {run.config.seed}": replace(run, model=None, before={}, rows=evaluations(run))
         for run in long[:3]}
ft.curves(later, "val_loss", "exact match")

# %%
lowest = [min(evaluations(run), key=lambda row: row["val_loss"]) for run in long]
at_end = [run.after["exact match"] for run in long]
at_lowest = [row["exact match"] for row in lowest]
verdict = ft.expect([run.after["val_loss"] for run in long], ">", [run.after["val_loss"] for run in half],
                    "val_loss turns up: after twelve epochs against six", paired=True)
ft.expect(at_end, "==", at_lowest, "exact match at the end and at the lowest val_loss", paired=True)
turn.score({"<": "falls", ">": "rises",
            "": "no difference seen"}[direction(at_end, at_lowest, paired=True)])

# %% [markdown]
# The first test compares two finished schedules, because "last − lowest > 0" would hold for pure noise too. The turn
# is real. The second asks about the answers, at the end and at the ring. A rise of the validation loss within a run
# does not show worse answers: the first half of the claim is not supported.
#
# ## How certain are the models?
# <!-- claims: C36 · E12 E33 -->
#
# What got worse, then? **Temperature scaling** tests whether the probabilities are too extreme. It divides
# all logits by a number T. T above 1 makes the probabilities less extreme. The order of the tokens, and so
# each greedy answer, stays the same.

# %%
softer = ft.predict("Final models: at which temperature is the validation loss lowest?",
                    "below 1", "at 1", "above 1")
softer

# %%
from ftkit.inside import collate, encode_all

tokenizer = long[0].tokenizer
batch = collate(encode_all(lab.val, tokenizer).examples, tokenizer.pad_token_id)
labels = batch["labels"][:, 1:]
trained = labels != -100
by_temperature = {t: [] for t in (0.8, 1, 1.25, 1.5, 2)}
for run in long:
    with torch.no_grad():
        logits = run.model(input_ids=batch["input_ids"],
                           attention_mask=batch["attention_mask"]).logits[:, :-1][trained].float()
    for t, losses in by_temperature.items():
        losses.append(F.cross_entropy(logits / t, labels[trained]).item())
ft.table([{"temperature": t, "validation loss": losses} for t, losses in by_temperature.items()])

# %%
best = min(by_temperature, key=lambda t: sum(by_temperature[t]))
ft.expect(by_temperature[1.5], "<", by_temperature[1], "T = 1.5 lowers the validation loss", paired=True)
softer.score("below 1" if best < 1 else "at 1" if best == 1 else "above 1")

# %% [markdown]
# The models are too sure of themselves: **overconfident**. Dividing the logits by one number takes back a part of
# the loss and changes no greedy answer. How much of the *rise* this explains is not tested here.
#
# At scale: InstructGPT's supervised stage took 16 epochs. Its validation loss rose after the first epoch, but
# more epochs gave better scores of a reward model and human preference ([Ouyang et al.
# 2022](https://arxiv.org/abs/2203.02155)). LIMA chose checkpoints by hand, because perplexity did not follow the
# quality of the answers ([Zhou et al. 2023](https://arxiv.org/abs/2305.11206)).
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
# Which measure should it watch? Your rule with patience 2 on all eight runs:

# %%
rule = working("stop_at", stop_at)
rows = []
for name in ("val_loss", "exact match"):
    ends = [(evaluations(run), rule([row[name] for row in evaluations(run)], 2, name)) for run in long]
    rows.append({"watches": name, "kept step": [run[kept]["step"] for run, (kept, _) in ends],
                 "steps made": [run[last]["step"] for run, (_, last) in ends],
                 "val_loss": [run[kept]["val_loss"] for run, (kept, _) in ends],
                 "exact match": [run[kept]["exact match"] for run, (kept, _) in ends]})
ft.table(rows)

# %% [markdown]
# Choose the measure that matches the use. For answers, take a task metric with the decoding that you will use; for
# probabilities (a threshold, perplexity) `val_loss`. With a small patience a noisy metric can end the run early:
# compare the steps made.
#
# ## Fewer epochs, or more data?
# <!-- claims: C75 C76 C77 C78 · E12 E13 -->
#
# Half the epochs cost nothing. Four times the data cost you a week of labeling. Both against the long run, with
# four seeds, at the same learning rate:

# %%
shorter = ft.predict("Half the epochs, with a schedule that ends there. Against the *lowest* val_loss that "
                     "the long runs passed, its end is ...", "lower", "higher", "no difference seen")
shorter

# %%
four_times = ft.Experiment(data=ft.records("tasks")[:192], val=validation, probes=())
remedies = {"half the epochs": half[:4],
            "four times the data": four_times.sweep(base.but(eval_steps=36), seed=SEEDS[:4])}
runs = {"control": long[:4]} | remedies
ends = {name: [run.after["val_loss"] for run in group] for name, group in runs.items()}
answers = {name: [exact(run.model, tokenizer) for run in group] for name, group in runs.items()}
ft.table([{"run": name, "epochs": group[0].rows[-1]["epoch"], "steps": group[0].rows[-1]["step"],
           "val_loss": ends[name], "exact match": answers[name]} for name, group in runs.items()]
         + [{"run": "control, lowest val_loss", "val_loss": [row["val_loss"] for row in lowest[:4]],
             "exact match": [row["exact match"] for row in lowest[:4]]}])

# %%
ft.expect(ends["four times the data"], "<", ends["control"], "more data: a lower loss", paired=True)
ft.expect(answers["four times the data"], ">", answers["control"], "more data: better answers",
          paired=True)
ft.expect([run.after["exact match"] for run in half], ">", at_end, paired=True, may_fail=True,
          claim="six epochs answer better than twelve (all eight seeds)")
shorter.score({"<": "lower", ">": "higher", "": "no difference seen"}[
    direction(ends["half the epochs"], [row["val_loss"] for row in lowest[:4]], paired=True)])

# %% [markdown]
# More data lowers the loss by far the most, and the answers improve clearly. It also means fewer passes over each
# record; the two effects are not separated. A short schedule has an advantage over the best *moment* of a long one:
# its learning rate has fallen to zero there. It ends with a lower loss, and perhaps with slightly better answers, as the
# third test says. So do not save a moment of a long run: train again, shorter.
#
# **Augmentation** (each record in other wordings) and **dropout** (random activations set to zero in training) are not
# in the table. From one set of three seeds to the next they changed sides
# ([numbers](reference/17_overfitting.md)). **Weight decay** shrinks a weight by the fraction
# learning rate × decay in each step: with 0.1 at most 36 × 0.001 × 0.1 = 0.36 % in this whole run.
#
# ## At 135M
#
# SmolLM2-135M, trained on 64 records for 12 epochs of 8 steps:

# %%
at_135m("overfitting", verdict)

# %% [markdown]
# A rise from the *lowest* value cannot be negative, so the verdict "same" comes cheap. The size says more: the loss
# rose by 0.33 to 0.46 nats after step 24, and exact match changed by −0.06 to +0.02 (three seeds, 48 records).
#
# ## Break it: a leak
#
# All of this needs really new validation records. Suppose that half of the 48 validation records are also
# training records. Will the curve show it?

# %%
def with_validation(val):
    return ft.Experiment(data=few, val=val, probes=()).sweep(base.but(eval_steps=12), seed=SEEDS[:3])


clean, leaked = with_validation(validation[:24]), with_validation(few[:24] + validation[:24])
ft.expect([run.after["val_loss"] for run in leaked], "<", [run.after["val_loss"] for run in clean],
          "val_loss with a leak and without, same 24 clean records", paired=True)
ft.curves(leaked, "loss", "val_loss")

# %% [markdown]
# The loss looks like that of a much better model, and nothing in the curve shows the leak. Look at the loss of each
# record: memorized ones form a heap near zero.
#
# ## Your turn: a clean split
#
# Leaks come from the split. Your 48 records come from a dozen customers, and one customer asks nearly the same
# thing again and again. Assume that the sources are in random order. (scikit-learn has `GroupKFold` and
# `GroupShuffleSplit`.)


# %% tags=["raises-exception"]
def split_by_source(records, fraction):
    """Return (train, validation): two lists that together hold all records, no `record["source"]` on
    both sides. Whole sources go to validation until it has at least `fraction` of the records."""
    ...


ft.check("split_by_source", split_by_source)

# %% [markdown]
# ## In practice, 2026
# <!-- claims: C35 -->
#
# One to three epochs of SFT, 5 to 20 evaluations in a run, a patience of 2 to 5, and a task metric as well as
# `eval_loss`:
#
# ```python
# # {"prompt": "Question: ...\nAnswer:", "completion": " ..."}  (the join needs its space)
# from datasets import load_dataset
# from transformers import EarlyStoppingCallback, TrainerCallback
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-1.7B-Base"  # plain strings; a chat model needs its template
# data = load_dataset("json", data_files={"train": "train.jsonl", "validation": "validation.jsonl"})
# asked = list(data["validation"])[:200]
#
#
# class ExactMatch(TrainerCallback):
#     def on_evaluate(self, args, state, control, metrics, model, processing_class, **rest):
#         right = 0
#         for row in asked:
#             prompt = processing_class(row["prompt"], return_tensors="pt").to(model.device)
#             tokens = model.generate(**prompt, max_new_tokens=32, do_sample=False)[0]
#             answer = processing_class.decode(tokens[prompt["input_ids"].shape[1]:],
#                                              skip_special_tokens=True)
#             right += answer.strip() == row["completion"].strip()
#         metrics["eval_exact_match"] = right / len(asked)
#         print(state.global_step, metrics["eval_exact_match"])  # the log is already written
#
#
# trainer = SFTTrainer(
#     model=model_id,
#     train_dataset=data["train"],
#     eval_dataset=data["validation"],  # keep test.jsonl for one report at the end
#     callbacks=[ExactMatch(), EarlyStoppingCallback(early_stopping_patience=3)],  # in this order
#     args=SFTConfig(
#         output_dir="stopped", learning_rate=1e-5, num_train_epochs=3, bf16=True,
#         per_device_train_batch_size=8, eval_strategy="steps", eval_steps=0.1,  # a tenth of the run
#         save_strategy="steps", save_steps=0.1, save_total_limit=2,
#         load_best_model_at_end=True, metric_for_best_model="exact_match", greater_is_better=True,
#     ),
# )
# trainer.train()
# ```
#
# Where an epoch is all you have, val_loss may never turn. Then the stop is a question of budget, not of
# overfitting, and near copies in the validation set are the danger.
#
# ## Interview
#
# **The validation loss has been rising since epoch 4. What do you do?**
# <details><summary>Answer</summary>
# I check the split and measure the answers. The checkpoint depends on the use: for greedy answers the
# best exact match, if its rise exceeds its noise; for probabilities the lower loss, with a fitted temperature.
# Then I collect more data, or train again with a schedule that ends there, and report on a test set.
# </details>
#
# **Why can the loss get worse while accuracy improves?**
# <details><summary>Answer</summary>
# Accuracy asks only which answer has the largest probability. The loss −ln p is unbounded: a few
# confident mistakes can outweigh many answers that became right.
# </details>
#
# Three cards on this topic: say the answer aloud, then look.

# %%
ft.drill(topic="overfitting", new=3)

# %% [markdown]
# ## Recap
#
# - A validation loss that rises within a run shows worse probabilities, not necessarily worse answers.
# - Early stopping should watch the measure of the use. A finished shorter schedule is better than a moment of a
#   long one, and more data is better than both.
# - Split by source, or the curve measures memory.
#
# In the [playground](playground.html#data=translation&method=full&train_records=8&max_steps=60&challenge=3),
# watch a model memorize eight records. Next: [18 data quality](18_data_quality.ipynb).

# %%
ft.progress("17")
