# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 16 · Catastrophic forgetting: measure it and reduce it
#
# **Claim: LoRA freezes the base model, so nothing is forgotten. With full fine-tuning, early stopping
# prevents forgetting.** Both halves could be wrong. After this lesson you can
#
# - measure forgetting on two axes, and compare methods at an equal target score;
# - choose between a lower learning rate, replay and merging, each at its own learning rate;
# - say what a score that fell does not show.
#
# *Needs [01](01_full_fine_tuning.ipynb) and [02](02_lora.ipynb). About 45 minutes; the code needs
# about two minutes on two CPU cores. Literature, scripts for an evaluation suite and methods by name are on
# the [reference page](reference/16_catastrophic_forgetting.md).*

# %%
import ftkit as ft
from ftkit.teaching import Frontier, at_135m, direction, working

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# Your office assistant handles 31 small tasks. The legal team asked for one more, naming the topic of a clause
# of a contract. You tuned the model on clauses, released it, and now the mail arrives:
#
# > *"The clauses work, but everything else got worse. Are the users right, and what do you do?"*
#
# ## The idea
#
# **Catastrophic forgetting** is the loss of earlier abilities through training on new data. The new
# task changes the same weights, and nothing in its loss protects the old abilities. So we need two
# measures: the **target** (the score on the new task) and what is **kept** (the score on old tasks).
#
# ![Target score on the horizontal axis, kept score on the vertical axis. A curve shows one method
# with more and more training: before training, few steps, many steps. It falls fastest at first. A
# square above the curve is a remedy; the vertical distance to the curve is its gain at an equal target.
# ](figures/16_frontier.svg)

# %% [markdown]
# A method that learns nothing forgets nothing, so "it forgets less" says little unless the target is
# equal. A remedy is better than the plain method if its point is **above the curve**. The curve itself moves with
# the learning rate, so each method gets its own.
#
# ## The assistant and its new task
# <!-- claims: C7 C67 C68 C69 · E15 -->
#
# First we make a model worth keeping: the small model, tuned on the 31 tasks.

# %%
general = ft.Experiment(data="tasks", eval_records=32).run(
    learning_rate=1e-3, max_steps=70, eval_steps=70, precision="fp32", live=False)
tokenizer = general.tokenizer
narrow = ft.Experiment(model=(general.model, tokenizer), data="contracts_task", probes=("tasks",),
                       replay_from="tasks", eval_records=8)
new_test, old_test = ft.records("contracts_task", "test")[:40], ft.records("tasks", "test")[::10]
probes = ft.load_probes()[::20]
labels = sorted({record["output"] for record in new_test})
print("labels of the new task:", *labels)
ft.table([{"new task": record["input"], "label": record["output"]} for record in new_test[:2]])

# %% [markdown]
# Three scores: exact match on the new task, exact match on old tasks, and **knowledge probes**.
# A probe is a sentence of the base model's world to complete, such as "The capital of Tunisia is ...",
# without an answer format. It counts as right only if its word is the likeliest of the whole vocabulary.

# %%
def measure(model):
    scores = ft.probe_scores(model, tokenizer, probes).values()
    return {"target": ft.exact_match(model, tokenizer, new_test),
            "kept": ft.exact_match(model, tokenizer, old_test),
            "probes": sum(scores) / len(scores)}


before = measure(general.model)
ft.table([{"model": "before"} | before])

# %%
left = ft.predict("Now 24 steps on clauses alone, learning rate 0.001. Of the old tasks' exact match "
                  "remains ...", "less than 20 %", "20 to 80 %", "more than 80 %")
left

# %%
base = ft.Config(batch_size=8, max_steps=24, eval_steps=1000, precision="fp32")
hurt = narrow.run(base, learning_rate=1e-3, eval_steps=4, live=False)
after = measure(hurt.model)
ft.table([{"model": "before", **before}, {"model": "after", **after}])

# %%
remains = after["kept"] / before["kept"]
ft.expect(after["kept"], "<", before["kept"], "the users are right: old tasks were partly forgotten")
left.score("less than 20 %" if remains < 0.2 else "20 to 80 %" if remains <= 0.8
           else "more than 80 %")

# %% [markdown]
# Read the answers. If a wrong answer to an old question is one of the new labels, the model is answering the
# wrong question.

# %%
replies = ft.answers(hurt.model, tokenizer, old_test)
print(sum(reply.strip() in labels for reply in replies), "of", len(replies),
      "answers to old questions are a label of the new task")
ft.table([{"asked": f"{record['instruction']} {record['input']}", "expected": record["output"],
           "answer": reply} for record, reply in list(zip(old_test, replies, strict=True))[::8]])

# %% [markdown]
# A drop can be a lost answer **format**, a lost ability, or both. Some answers here are broken words, so
# more than the format is damaged. Whether the knowledge is gone or only hard to reach, no score here can say.
#
# ## Would early stopping have helped?
# <!-- claims: C70 C71 C99 · E19 -->
#
# **Early stopping** selects one checkpoint of a run. By default it watches `val_loss`, the loss of the new
# task. `tasks_loss` is the loss on old tasks.

# %%
ft.curves(hurt, "val_loss", "tasks_loss")

# %%
evaluated = [row for row in hurt.rows if "val_loss" in row]
best_step = min(evaluated, key=lambda row: row["val_loss"])["step"]
print(f"early stopping on val_loss keeps step {best_step} of {evaluated[-1]['step']}")
damage = [row["tasks_loss"] - hurt.before["tasks_loss"] for row in evaluated]
ft.expect(damage[(len(damage) - 1) // 2], ">", damage[-1] / 2,
          "at half time more than half of the damage is done")

# %% [markdown]
# The loss of the old tasks rises early, while that of the new task is still high. So a shorter run is another
# point of the trade-off, and early stopping on the new task does not see the damage: the second half of the
# claim fails here.
#
# ## Your turn: replay
# <!-- claims: C70 C72 · E16 -->
#
# **Replay** (or rehearsal) mixes old records into the new ones. The fraction is usually stated for the
# mixture: 25 % replay means that one record in four is old.


# %% tags=["raises-exception"]
def with_replay(new, old, fraction, seed):
    """Return a shuffled list: every record of `new` once, and records drawn at random from `old`, so
    that `fraction` (0 to below 1) of the list is old. Repeat old records only if there are too few. The
    same seed gives the same list."""
    ...


ft.check("with_replay", with_replay)

# %% [markdown]
# In `ft` this is `ft.Config(replay=0.25)`. What if the old records are gone, or belong to somebody else? Often the
# old *questions* are left, in a log. **Self-generated replay** lets the old model answer them, and replays its
# answers, right or wrong:

# %%
log = ft.records("tasks")[:400]
answered = zip(log, ft.answers(general.model, tokenizer, log), strict=True)
own = [record | {"output": said} for record, said in answered if said.strip()] or log
own_replay = ft.Experiment(model=(general.model, tokenizer), data="contracts_task", probes=(),
                           replay_from=own, eval_records=8)
mixed = working("with_replay", with_replay)(ft.records("contracts_task"), own, 0.25, 0)
print(f"{len(mixed)} records, of them {sum(record in own for record in mixed)} answered by the old model")

# %% [markdown]
# ## Your turn: a penalty
# <!-- claims: C95 · E17 -->
#
# Without any old record: **L2-SP** ([Li et al. 2018](https://arxiv.org/abs/1802.01483)) adds a penalty on the
# distance from the starting weights w₀, λ/2 · ‖w − w₀‖². Weight decay pulls to *zero*; L2-SP pulls to the
# *start*. Which gradient does the optimizer see?


# %% tags=["raises-exception"]
def l2_sp_gradient(w, w0, g, lam):
    """Return the gradient of loss + lam/2 · ‖w − w0‖², a tensor shaped as w; g is the gradient of the
    loss. Do not change the arguments."""
    ...


ft.check("l2_sp_gradient", l2_sp_gradient)

# %% [markdown]
# In `ft` it is `ft.Config(l2_sp=1.0)`. **EWC** has one λ per weight, larger where a weight mattered to the old
# task. A **KL penalty** acts on the outputs instead ([lesson 20a](20a_preferences.ipynb)).
#
# ## The remedies, each at its own learning rate
# <!-- claims: C70 C72 C73 · E22 -->
#
# A learning rate ten times lower, with more steps, is a remedy too. We searched a few rates for each method; the
# steps bring each recipe near the same target:
#
# - plain fine-tuning at 0.001 (24 steps, what you released) and at 0.0001 (72 steps);
# - 25 % replay at 0.0001, with old records or with the model's own answers (96 steps, so that they hold as many
#   new records as the 72);
# - LoRA (rank 8, α 16) at 0.002, 60 steps.

# %%
most = ft.predict("Which recipe keeps most of the old tasks?", "plain at 0.001", "plain at 0.0001",
                  "replay at 0.0001", "own answers at 0.0001", "LoRA")
most

# %%
SEEDS = (0, 1, 2, 3)
slow = base.but(learning_rate=1e-4)
recipes = {"plain at 0.001": base.but(learning_rate=1e-3), "plain at 0.0001": slow.but(max_steps=72),
           "replay at 0.0001": slow.but(replay=0.25, max_steps=96),
           "LoRA": base.but(method="lora", learning_rate=2e-3, max_steps=60)}
front = Frontier(measure, x="target", y="kept", before=before)
front.train(narrow, recipes, SEEDS)
theirs = {"own answers at 0.0001": recipes["replay at 0.0001"]}
front.train(own_replay, theirs, SEEDS)
front.table("target", "kept", "probes")

# %%
kept = {name: front.values(name, "kept") for name in (*recipes, *theirs)}
low = kept["plain at 0.0001"]
ft.expect(low, ">", kept["plain at 0.001"], "a tenth of the learning rate keeps more", paired=True)
verdict = ft.expect(kept["replay at 0.0001"], ">", low, "replay adds to a low learning rate",
                    paired=True, may_fail=True)
ft.expect(kept["LoRA"], "<", before["kept"], "LoRA forgets too")
ft.table([{"recipe": name, "kept": values,
           "minus plain at 0.0001": [x - y for x, y in zip(values, low, strict=True)],
           "seen": {">": "keeps more", "<": "keeps less", "": "no difference"}[
               direction(values, low, paired=True)] if values is not low else ""}
          for name, values in kept.items()])

# %%
most.score(max(kept, key=lambda name: sum(kept[name])))

# %% [markdown]
# The first remedy is the learning rate: a tenth of it reaches the same target and keeps far more. Replay at that
# rate adds a little, and almost nothing is forgotten; the table says what four seeds could see of it. Both cost
# steps. At 0.001, replay and L2-SP also keep more than plain fine-tuning, but less than the lower rate alone. A
# comparison at that one rate would have hidden the best answer.
#
# **And LoRA?** Its base is frozen, but the model computes W + (α/r) B A, and that function can forget: the first
# half of the claim is false. On this model LoRA kept less than full fine-tuning at its low rate. Elsewhere it is
# often the other way round ([Biderman et al. 2024](https://arxiv.org/abs/2405.09673v2): it learned less and forgot
# less), so measure it on your task.
#
# ## Your turn: repair what you released
# <!-- claims: C95 · E18 -->
#
# Retraining takes a day, and the users wait. **Merging** needs no training. **WiSE-FT**
# ([Wortsman et al. 2022](https://arxiv.org/abs/2109.01903)) interpolates old and tuned weights:
# (1 − a) · old + a · tuned. Here is the released model, for six weights a, on validation and on test records.

# %%
import copy

new_val, old_val = ft.records("contracts_task", "validation"), ft.records("tasks", "validation")[::7]


def merged(old, tuned, a):
    """A model with the weights (1 - a) * old + a * tuned."""
    model, new = copy.deepcopy(old), tuned.state_dict()
    model.load_state_dict({name: value.lerp(new[name], a) if value.is_floating_point() else value
                           for name, value in old.state_dict().items()})
    return model


validation, test = {}, {}
for a in (0.0, 0.3, 0.5, 0.6, 0.7, 1.0):
    model = merged(general.model, hurt.model, a)
    validation[a], test[a] = (tuple(ft.exact_match(model, tokenizer, part) for part in pair)
                              for pair in ((new_val, old_val), (new_test, old_test)))
ft.table([{"a": a, "target, validation": pair[0], "kept, validation": pair[1]}
          for a, pair in validation.items()])

# %% [markdown]
# The legal team accepts a target of 0.8. Which a do you release, and which scores do you write into the mail?


# %% tags=["raises-exception"]
def choose_weight(validation, test, floor):
    """Return (a, the pair to report). validation and test are dicts: a -> (target, kept). The target
    must be at least `floor`; of the weights that reach it, the one that keeps most is wanted."""
    ...


ft.check("choose_weight", choose_weight)

# %%
floor = min(0.8, max(target for target, _ in validation.values()))  # 0.8, if any reaches it
a, (target, still) = working("choose_weight", choose_weight)(validation, test, floor)
ft.table([{"model": "released", "target": after["target"], "kept": after["kept"]},
          {"model": f"merged, a = {a}", "target": target, "kept": still},
          {"model": "plain at 0.0001, seed 0", "target": front.values("plain at 0.0001", "target")[0],
           "kept": low[0]}])

# %% [markdown]
# Merging repairs a good part within seconds; retraining at the low rate is better and comes tomorrow. Merging can
# also combine several tuned models ([model soups](https://arxiv.org/abs/2203.05482), task arithmetic, TIES).

# %% [markdown]
# ## What if?
#
# Try a recipe of your own: L2-SP at the low rate, less replay, another rank. Is your point above the others?
# (One seed: a hint, no result.)

# %%
mine = {"mine": slow.but(l2_sp=1.0, max_steps=72)}
front.train(narrow, mine, seeds=[0])
ft.table([{key: front.values("mine", key)[0] for key in ("target", "kept", "probes")}])

# %% [markdown]
# ## At 135M
#
# SmolLM2-135M-Instruct, recorded: tuned on the 31 tasks. Replay takes passages of plain English, and forgetting
# is the loss on *other* plain English. It was about 3.25 before.

# %%
english = ft.predict("With full fine-tuning at 0.0003 it rises to about 3.69. With 25 % replay it ends ...",
                     "between 3.25 and 3.69", "above 3.69", "below 3.25")
english

# %%
recorded = ft.recorded("forgetting")
ends = list(recorded.values("full 0.0003, replay 25%", "english_loss").values())
mean = sum(ends) / len(ends)
english.score("below 3.25" if mean < 3.25 else "above 3.69" if mean > 3.69 else "between 3.25 and 3.69")

# %%
at_135m("forgetting", verdict)

# %% [markdown]
# Replay trains on the kind of text that is tested, so here it does not only keep, it learns. That is why the
# regression suite must hold abilities that the replay does not contain. And compare "full 0.0001" with "full
# 0.0003": the lower rate ends with the lower loss in both columns, as on the small model.
#
# ## In practice, 2026
#
# Full SFT of 7B to 8B: 5e-6 to 2e-5, one or two epochs, 1 to 10 % replay, more for a narrow task. In TRL:
#
# ```python
# # {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
# from datasets import interleave_datasets, load_dataset
# from trl import SFTConfig, SFTTrainer
#
# model_id = "Qwen/Qwen3-4B"
# new = load_dataset("json", data_files="train.jsonl", split="train")
# old = load_dataset("json", data_files="replay.jsonl", split="train")
# mixed = interleave_datasets([new, old], probabilities=[0.9, 0.1], seed=0,
#                             stopping_strategy="first_exhausted")
# trainer = SFTTrainer(
#     model=model_id,
#     train_dataset=mixed,
#     args=SFTConfig(  # warmup_steps below 1 is a fraction
#         output_dir="narrow", learning_rate=1e-5, warmup_steps=0.03, num_train_epochs=1,
#         per_device_train_batch_size=4, gradient_accumulation_steps=8, max_length=2048,
#         bf16=True, assistant_only_loss=True,
#     ),
# )
# trainer.train()
# trainer.save_model()
# ```
#
# Safety is an ability that can be forgotten, even with harmless data ([Qi et al.
# 2023](https://arxiv.org/abs/2310.03693)): put refusals into the suite that you run before and after.
# The suite, usual settings and pitfalls are on the [reference page](reference/16_catastrophic_forgetting.md).
#
# ## Interview
#
# **The question from the start: are the users right, and what do you do?**
# <details><summary>Answer</summary>
# Run one suite on the old and the new model, with the same template and decoding: general benchmarks,
# instruction following, safety, and what the product needs. Look for drops larger than the noise of paired
# differences, and read answers to separate format from ability. Then tune the learning rate, add a few percent
# of old or self-generated data at that rate, and compare at an equal target. Merging is a quick repair.
# </details>
#
# **"LoRA forgets less." Comment.**
# <details><summary>Answer</summary>
# Often it learns less and forgets less. At equal target performance the difference may vanish or reverse, so
# tune the learning rate of each. The frozen weights do not prevent forgetting: the model computes W + (α/r) B A.
# </details>
#
# Three cards on this topic: say the answer aloud, then look.

# %%
ft.drill(topic="forgetting", new=3)

# %% [markdown]
# ## Recap
#
# - Forgetting has two axes. Compare remedies at an equal target, each at its own learning rate.
# - Tune the learning rate first; add replay *at that rate*; measure what the replay does not contain.
# - Early stopping on the new task does not see old ones. LoRA is no guarantee.
#
# In the [playground](playground.html#data=translation&method=full&learning_rate=0.005&challenge=2), learn a
# task and keep general_loss low. Next: [17 overfitting](17_overfitting.ipynb).

# %%
ft.progress("16")
