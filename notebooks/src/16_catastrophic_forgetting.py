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
# - measure forgetting with two axes, and compare methods at an equal target score;
# - write a replay mixture and the L2-SP gradient, and choose an interpolation weight;
# - name the remedies of 2026 and say what each one needs.
#
# *Needs [01](01_full_fine_tuning.ipynb) and [02](02_lora.ipynb). About 45 minutes; the code needs
# about 90 seconds on two CPU cores.*

# %%
import ftkit as ft
from ftkit.lessons.at_135m import at_135m
from ftkit.lessons.claims import direction
from ftkit.lessons.run_pictures import Frontier

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"You fine-tuned an assistant on one narrow task. The task works, but users say that everything
# > else got worse. How do you find out whether they are right, and what do you do?"*
#
# A common answer is a list: "lower learning rate, LoRA, early stopping, mix in old data."

# %% [markdown]
# ## The idea
#
# **Catastrophic forgetting** is the loss of earlier abilities through training on new data. The new
# task needs changes of the same weights, and nothing in its loss protects the old abilities. So we
# need two measures: the **target** (the score on the new task) and what is **kept** (the score on old
# tasks).

# %% [markdown]
# ![Target score on the horizontal axis, kept score on the vertical axis. A curve shows one method
# with more and more training: before training, few steps, many steps. It falls fastest at first. A
# square above the curve is a remedy; the vertical distance to the curve is its gain at an equal target.
# ](figures/16_frontier.svg)

# %% [markdown]
# A method that learns nothing forgets nothing. So "it forgets less" says little unless the target is
# equal. A remedy is better than the plain method if its point is **above the curve**.
#
# ## A model and a narrow task
# <!-- claims: C7 C67 C68 C69 · E15 -->
#
# First we make a model worth keeping: the small model, tuned on 31 old tasks. The new task is to say
# what a clause of a contract is about. We also use **knowledge probes**: sentences of the base model's
# world to complete, such as "The capital of Tunisia is ...". They are plain text, not questions.

# %%
general = ft.Experiment(data="tasks", eval_records=32).run(
    learning_rate=1e-3, max_steps=70, eval_steps=70, live=False)
tokenizer = general.tokenizer
narrow = ft.Experiment(model=(general.model, tokenizer), data="contracts_task", probes=("tasks",),
                       replay_from="tasks", eval_records=8)
new_test, old_test = ft.records("contracts_task", "test")[:40], ft.records("tasks", "test")[::8]
probes = ft.load_probes()[::20]
labels = sorted({record["output"] for record in new_test})
print("labels of the new task:", *labels)
ft.table([{"new task": record["input"], "label": record["output"]} for record in new_test[:2]])


# %%
def measure(model):
    scores = ft.probe_scores(model, tokenizer, probes).values()
    return {"target": ft.exact_match(model, tokenizer, new_test),  # share of right answers
            "kept": ft.exact_match(model, tokenizer, old_test),
            "probes": sum(scores) / len(scores)}


before = measure(general.model)
before

# %%
left = ft.predict("Now 24 steps on clauses alone, learning rate 0.001. Of the old tasks' exact match "
                  "remains ...", "less than 20 %", "20 to 80 %", "more than 80 %")
left

# %%
base = ft.Config(batch_size=8, max_steps=24, eval_steps=1000)
hurt = narrow.run(base, learning_rate=1e-3, eval_steps=4, live=False)
after = measure(hurt.model)
ft.table([{"model": "before", **before}, {"model": "after", **after}])

# %%
remains = after["kept"] / before["kept"]
left.score("less than 20 %" if remains < 0.2 else "20 to 80 %" if remains <= 0.8
           else "more than 80 %")

# %%
replies = ft.answers(hurt.model, tokenizer, old_test)
print(sum(reply.strip() in labels for reply in replies), "of", len(replies),
      "answers to old questions are a label of the new task")
ft.table([{"asked": f"{record['instruction']} {record['input']}", "expected": record["output"],
           "answer": reply} for record, reply in list(zip(old_test, replies, strict=True))[::9]])

# %% [markdown]
# A small model often produces broken words. An answer that is a
# label of the *new* task means that the model answers another question. In general a drop of a benchmark
# can be a lost answer **format**, a lost ability, or both. Here the answers are still short, as the old
# format asks. The probes need no format, and they fell too. So more than the format changed.
# Whether the knowledge is gone or only hard to reach, this score cannot say.
#
# ## Your turn: replay
# <!-- claims: C70 C72 · E16 -->
#
# **Replay** (or rehearsal) mixes old records into the new ones. The fraction is usually stated for the
# mixture: 25 % replay means that one record in four is old.


# %% tags=["raises-exception"]
def with_replay(new, old, fraction, seed):
    """Return a shuffled list: every record of `new` once, and records drawn at random from `old`, so
    that `fraction` (0 to below 1) of the list is old. Repeat old records if there are too few. The
    same seed gives the same list."""
    ...


ft.check("with_replay", with_replay)

# %% [markdown]
# In `ft` this is `ft.Config(replay=0.25)`, and `replay_from=` of the Experiment names the old data.
#
# ## Your turn: L2-SP
# <!-- claims: C95 · E17 -->
#
# **L2-SP** ([Li et al. 2018](https://arxiv.org/abs/1802.01483)) adds a penalty on the distance from the
# starting weights w₀ (SP means starting point): λ/2 · ‖w − w₀‖². Weight decay pulls to *zero*; L2-SP pulls
# to the *start*. Write the gradient of this loss. (Adam rescales gradients, so with Adam the size of λ is
# not comparable to the formula. AdamW keeps weight decay apart from the gradient for this reason.)


# %% tags=["raises-exception"]
def l2_sp_gradient(w, w0, g, lam):
    """Return the gradient of loss + lam/2 · ‖w − w0‖², a tensor shaped as w; g is the gradient of the
    loss. Do not change the arguments."""
    ...


ft.check("l2_sp_gradient", l2_sp_gradient)

# %% [markdown]
# In `ft` it is `ft.Config(l2_sp=1.0)`. **EWC** (elastic weight consolidation) is the same with one λ per
# weight, larger for weights that mattered to the old task (by squared gradients on old data, the Fisher
# information).
#
# A penalty can also act on the outputs. A **KL penalty** adds β · KL(p ‖ p₀), where p are the token
# probabilities of the trained model and p₀ those of the old one on the same text. It limits what the
# model *says*, not where its weights are. It needs the old model's probabilities on that text. PPO
# for RLHF uses such a penalty, and so does GRPO with β > 0. **DPO adds no KL term**: its loss is derived
# from a KL-constrained objective, and its β scales log-ratios to the reference
# ([lesson 20](20_preferences.ipynb)).
#
# ## Your turn: interpolate the weights
# <!-- claims: C95 · E18 -->
#
# **WiSE-FT** ([Wortsman et al. 2022](https://arxiv.org/abs/2109.01903)) needs no further training. It
# interpolates old and tuned weights: (1 − a) · old + a · tuned. The weight a is a hyperparameter. It
# must be chosen on validation data, and the result reported on test data.


# %% tags=["raises-exception"]
def choose_weight(validation, test, floor):
    """Return (a, pair to report). validation and test are dicts: a -> (target, kept). Choose the a
    that keeps most among those whose target is at least `floor`."""
    ...


ft.check("choose_weight", choose_weight)

# %% [markdown]
# ## The curve of plain fine-tuning
# <!-- claims: C70 C71 C99 · E19 -->
#
# The curve is now full fine-tuning at learning rate 0.001 for 8 or for
# 24 steps, with five seeds; ± is their standard deviation. A straight line between the two points stands
# for the curve. Each point is a run of its own length, with its own schedule. A checkpoint of the long run
# at step 8 may lie elsewhere. Gray arrows only point from the untouched model.

# %%
SEEDS = (0, 1, 2, 3, 4)
plain = {f"full, {steps} steps": base.but(learning_rate=1e-3, max_steps=steps)
         for steps in (8, 24)}
front = Frontier(measure, x="target", y="kept", before=before, joined=list(plain))
front.train(narrow, plain, SEEDS).table("target", "kept", "probes")

# %%
ft.expect(front.values("full, 24 steps", "kept"), "<", before["kept"],
          "exact match of the old tasks falls")
ft.expect(front.values("full, 8 steps", "target"), "<", front.values("full, 24 steps", "target"),
          "8 steps learn less than 24 steps", paired=True)

# %% [markdown]
# The runs of 8 steps already lose most of what the runs of 24 steps lose, at a
# much lower target score. So a shorter run is no protection; it is another point of the trade-off. **Early
# stopping** selects one checkpoint of a run. It has to watch the right measure: by default it watches
# `val_loss`, the loss of the new task, which has no reason to rise when old tasks suffer. The two
# losses of the first run (`tasks_loss` is the loss on old tasks):

# %%
ft.curves(hurt, "val_loss", "tasks_loss")

# %% [markdown]
# In our run the loss of the new task fell to the end, so early stopping on it never stops,
# and the second half of the claim fails here. The loss of the old tasks had nearly reached its highest
# value by step 8, while that of the new task was still high.
#
# ## The remedies
# <!-- claims: C70 C72 C73 C95 · E16 E17 E18 E19 E22 -->
#
# All runs draw from the same pool of new records, in batches of 8. With 25 % replay, a quarter of what is
# seen is old, so 24 steps see fewer new records. Full fine-tuning runs 24 steps at 0.001. Two remedies
# get 36 steps to reach a similar target: the lower learning rate (0.0003), and LoRA (rank 8, α 16), which
# has its own learning rate. WiSE-FT takes the runs of 24 steps with a = 0.7. Each remedy has one setting,
# which was not chosen on validation data.

# %%
least = ft.predict("At an equal target score, which remedy has the *smallest* gain over the curve?",
                   "replay", "L2-SP", "WiSE-FT", "a lower learning rate", "LoRA")
least

# %%
start = base.but(learning_rate=1e-3)
remedies = {
    "replay": start.but(replay=0.25),
    "L2-SP": start.but(l2_sp=1.0),
    "a lower learning rate": base.but(learning_rate=3e-4, max_steps=36),
    "LoRA": base.but(method="lora", learning_rate=5e-3, max_steps=36),
}
front.train(narrow, remedies, SEEDS)
front.blend(general.model, "full, 24 steps", shares=(0.7,))
front.conditions["WiSE-FT"] = front.conditions.pop("full, 24 steps, blend 0.7")
front.table("target", "kept", "probes")

# %%
front

# %% [markdown]
# For each seed, `gain` reads off the curve at the target that the remedy reached, and subtracts. A gain
# above zero means: more is kept at an equal target. Beyond the end of the curve its last point counts.
# The last column subtracts what the runs at the lower learning rate keep: one point, no curve, so the
# targets differ a little.

# %%
names = ["replay", "L2-SP", "WiSE-FT", "a lower learning rate", "LoRA"]
gains = {name: front.gain(name) for name in names}
verdict = ft.expect(gains["replay"], ">", 0, "replay keeps more at an equal target")
for name in names[1:]:
    sign = {">": "above", "<": "below", "": "not distinguishable from"}[direction(gains[name], 0)]
    print(f"{name}: {sign} the curve")
ft.expect(front.values("LoRA", "kept"), "<", before["kept"], "LoRA forgets too")
ft.table([{"remedy": name, "gain in kept": gains[name], "probes": front.values(name, "probes"),
           "kept, minus lower rate": front.gain(name, over=["a lower learning rate"])}
          for name in names])

# %%
means = {name: sum(gains[name]) / len(SEEDS) for name in names}
least.score(names[names.index(min(means, key=means.get))])

# %% [markdown]
# Gains that differ by less than their spread are no ranking. The curve belongs to one learning rate,
# and a **lower learning rate** alone is above it too. So the first remedy is a well-chosen learning
# rate, and the others have to be judged against *it*. The last column is below its spread
# for replay, L2-SP and WiSE-FT: none kept clearly more than the lower rate. They were combined with
# 0.001 only, so whether they add to a lower rate was not tested.
#
# In our runs, by the *probes* column, L2-SP and the lower rate were best, replay and WiSE-FT in
# between, LoRA and plain fine-tuning last. There are 26 probes, and this order was not tested. The
# column is no control for replay: old tasks ask for many of the same facts ("Which city is the capital
# of Qatar?").

# %% [markdown]
# **And LoRA?** Its base is frozen, but the model computes W + (α/r) B A, and that function can forget.
# It kept far less than the untouched model, so the first half of the claim is false. (An unmerged
# adapter can be switched off: then the old model answers.) This is one rank and one learning rate;
# full fine-tuning got two, so a lower one for LoRA is an open test. In the settings of
# [Biderman et al. 2024](https://arxiv.org/abs/2405.09673) LoRA learns less *and* forgets less.
#
# ## Break it: replay only half of the old tasks
# <!-- claims: C72 · E16 -->
#
# We replay every second old task. Are the other tasks protected too?

# %%
half = ft.predict("For old tasks that are *not* replayed, exact match is, compared with no replay ...",
                  "lower", "higher", "no difference seen in 5 seeds")
half

# %%
task_names = sorted({record["task"] for record in old_test})
replayed = set(task_names[::2])
some_old = [record for record in ft.records("tasks") if record["task"] in replayed]
others = [record for record in old_test if record["task"] not in replayed]
part = ft.Experiment(model=(general.model, tokenizer), data="contracts_task", probes=(),
                     replay_from=some_old, eval_records=8)
without = [ft.exact_match(run.model, tokenizer, others)
           for run in front.conditions["full, 24 steps"]]
half_runs = [part.run(start, replay=0.25, seed=seed, live=False) for seed in SEEDS]
with_half = [ft.exact_match(run.model, tokenizer, others) for run in half_runs]
ft.table([{"runs": "no replay", "target": front.values("full, 24 steps", "target"),
           "kept of the others": without},
          {"runs": "half replayed", "kept of the others": with_half,
           "target": [ft.exact_match(run.model, tokenizer, new_test) for run in half_runs]}])

# %%
ft.expect(with_half, ">", without, "old tasks that are not replayed are kept better with replay",
          paired=True, may_fail=True)
half.score({"<": "lower", ">": "higher",
            "": "no difference seen in 5 seeds"}[direction(with_half, without, paired=True)])

# %% [markdown]
# Look at the target first: if it is lower with replay, a part of the difference is less training. "Higher"
# at a similar target means that the others profit too. A shared format (short question, short answer) is a
# possible reason, a related task that is replayed another; we tested neither. "No difference seen" is weak
# evidence with five seeds. Do not expect either for abilities of another kind, such as tool calls.
#
# ## At 135M
#
# The recorded runs tune SmolLM2-135M-Instruct on the 31 tasks. Replay takes passages of plain English, and
# forgetting is the loss on other plain English.

# %%
at_135m("forgetting", verdict)

# %% [markdown]
# With replay the loss on plain English (2.94) is *below* that of the untouched model
# (3.25). The model was also trained on the kind of text that is tested, so this column does not
# separate keeping from new learning. The facts are a better control, but no clean one: the 31 tasks ask
# for some of them, such as capitals, and most settings end above the untouched 0.70. They are 0.72 ±
# 0.07 with replay and 0.66 ± 0.03 without, not tested here. Compare "full 0.0001" with "full 0.0003":
# in the mean the lower rate forgets less, and its validation loss is lower too. LoRA (3.37) is near
# this lower rate (3.31) at a similar validation loss: whether it forgets less depends on the full run
# that you compare it with.
#
# For larger models:
#
# - Forgetting during continual instruction tuning grew from 1B to 7B parameters
#   ([Luo et al. 2023](https://arxiv.org/abs/2308.08747)). In earlier experiments, mostly on images, larger
#   pretrained models forgot *less* ([Ramasesh et al. 2022](https://openreview.net/forum?id=GhVS8_yPeEa)).
# - With LoRA on Llama 2 7B chat, more learning meant more forgetting along one line. Early stopping or
#   another number of parameters did not avoid it
#   ([Kalajdzievski 2024](https://arxiv.org/abs/2401.05605)).
# - A smaller learning rate kept more at a comparable target, but did not always suffice
#   ([Lin et al. 2025](https://arxiv.org/abs/2509.20758)).
# - A replay of 1 % of *each old task's records* (not of the mixture) was enough for instruction tuning of T0
#   ([Scialom et al. 2022](https://arxiv.org/abs/2205.12393)). In continued pretraining 5 % was used for
#   a weak and 25 % for a strong shift of the data
#   ([Ibrahim et al. 2024](https://arxiv.org/abs/2403.08763)).
# - In one study reinforcement learning forgot less than supervised fine-tuning at an equal target, and
#   forgetting followed the KL divergence from the base model, measured on the new task
#   ([Shenfeld et al. 2025](https://arxiv.org/abs/2509.04259)).

# %% [markdown]
# ## What if?
#
# Combine two remedies, or search for the smallest replay that keeps nine tenths.

# %%
# one seed: a hint, no result
mine = {"mine": start.but(replay=0.1, l2_sp=0.3)}
front.train(narrow, mine, seeds=[0]).table("target", "kept", "probes")

# %% [markdown]
# ## In practice, 2026
#
# | remedy | needs | usual setting |
# |---|---|---|
# | low learning rate | more steps | full SFT, 7B to 8B: 5e-6 to 2e-5, 1 to 2 epochs (others: lesson 07) |
# | replay | old data or samples of the old model | SFT: 1 to 10 %; continued pretraining: 5 to 25 % |
# | LoRA | its own learning rate | lesson 02 |
# | KL to the base | the old model's log-probabilities | RL: `beta` 0 to 0.05; TRL's GRPO default is 0 |
# | L2-SP, EWC | the old weights (EWC: and squared gradients on old data) | rare for LLMs |
# | interpolation | old and tuned weights | start at a = 0.5; choose by validation |
# | on-policy data | sampling in training | RL, self-distillation |

# %% [markdown]
# Replay in TRL 1.16 (transformers 5), with a mixture of two files:
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
#     args=SFTConfig(
#         output_dir="narrow", learning_rate=1e-5, warmup_steps=0.03, num_train_epochs=1,
#         per_device_train_batch_size=4, gradient_accumulation_steps=8, max_length=2048,
#         bf16=True, assistant_only_loss=True,
#     ),
# )
# trainer.train()
# trainer.save_model()
# ```

# %% [markdown]
# `warmup_steps` below 1 is a fraction in transformers 5. Run the same suite before and after, for example
# with the lm-evaluation-harness (knowledge, instruction following, arithmetic):
#
# ```bash
# for model in Qwen/Qwen3-4B narrow; do
#     lm_eval --model hf --model_args pretrained=$model,dtype=bfloat16,enable_thinking=False \
#         --tasks mmlu,ifeval,gsm8k --apply_chat_template --log_samples --output_path results
# done
# ```
#
# Qwen3 thinks by default, and a limit on new tokens may cut its answer. So thinking is off in both runs.
#
# Interpolation of two state dicts: `{k: (1 - a) * old[k] + a * new[k] for k in old}`. For LoRA, scaling α
# by a before the merge is the same.

# %% [markdown]
# Current methods by name:
#
# - **Self-generated replay**: if the old data are not public, let the old model sample the replay texts
#   ([Marek et al. 2026](https://arxiv.org/abs/2605.26097)).
# - **Self-distillation**: train on answers that the model itself rewrites or samples. On-policy SDFT
#   ([Shenfeld et al. 2026](https://arxiv.org/abs/2601.19897)) uses the model with the demonstration in
#   its context as its own teacher (`trl.experimental.sdft`).
# - **Merging**: [task arithmetic](https://arxiv.org/abs/2212.04089) adds differences of weights.
#   [TIES](https://arxiv.org/abs/2306.01708) and [DARE](https://arxiv.org/abs/2311.03099) remove small or
#   random parts of them first. [Model soups](https://arxiv.org/abs/2203.05482) average several runs.
#   All need a common base model.

# %% [markdown]
# Pitfalls:
#
# - Safety is an ability that can be forgotten, even with harmless data
#   ([Qi et al. 2023](https://arxiv.org/abs/2310.03693)). Put refusals into the suite.
# - Replay in another chat template trains a second format. Use the template of the deployed model.
# - `first_exhausted` ends with the source that runs out first at these probabilities. With 0.9 and 0.1
#   the replay file needs about a ninth as many records as the new one; with fewer, new data are dropped.
#   `all_exhausted` repeats the source that runs out, so a long replay file repeats the *new* data.
#
# ## Interview
#
# **The question from the start: are the users right, and what do you do?**
# <details><summary>Answer</summary>
# Run one suite on the old and the new model, with the same template, decoding and precision. Ask for
# drops larger than the noise, and read answers to separate format from ability. If they are right, tune
# the learning rate and the number of epochs first, then try replay, and interpolation with the old
# weights. Compare the candidates at an equal target score. If requests of the task can be
# recognized: leave a LoRA adapter unmerged, and answer all others without it.
# </details>
#
# **What is catastrophic forgetting, and how do you measure it?**
# <details><summary>Answer</summary>
# The loss of earlier abilities through training on new data. Run a fixed suite before and after: general
# benchmarks, instruction following, safety, and the abilities that the product needs. Report it together
# with the target score, because a run that learned nothing forgets nothing.
# </details>
#
# **How do you reduce it?**
# <details><summary>Answer</summary>
# First a well-chosen learning rate and number of epochs. Then replay of a few percent of old or
# self-generated data, chosen by what must survive. Further: LoRA, a KL or L2-SP penalty, or interpolation
# with the old weights afterwards. On-policy methods (RL, self-distillation) forget less at an equal
# target in recent studies. I compare the candidates at an equal target score, on several seeds.
# </details>

# %% [markdown]
# **"LoRA forgets less." Comment.**
# <details><summary>Answer</summary>
# It depends on the target performance at which you compare. In the settings of Biderman et al. 2024
# LoRA learns less and forgets less. The frozen weights do not prevent forgetting: the model computes
# W + (α/r) B A, and that function can forget. At equal loss on the new task, each with its own learning
# rates, the difference may vanish. It depends on rank, learning rate and distance of the data.
# </details>
#
# **Does early stopping help?**
# <details><summary>Answer</summary>
# It selects a point of the trade-off. That helps if training continued after the target had stopped
# rising; otherwise it trades target for old abilities. By default it watches the validation loss
# of the new task, which may fall while old abilities are lost. If I use it, the criterion includes a
# measure of the old abilities.
# </details>
#
# **A benchmark fell by 30 points. Is the knowledge gone?**
# <details><summary>Answer</summary>
# Not necessarily. I read the answers first: if the format changed, the score falls although the
# knowledge is there. Log-likelihood scoring of the choices or a few-shot prompt helps to separate format
# from knowledge. Quick recovery after a few steps on old data suggests that much was still present, but does
# not prove it.
# </details>
#
# ## Recap
#
# - Forgetting has two axes. Compare remedies at an equal target.
# - A shorter run is another point of the trade-off. Tune the learning rate first, and judge replay,
#   penalties and interpolation against that.
# - Replay trains what it contains; measure the rest. LoRA is no guarantee.
#
# Next: [17 overfitting](17_overfitting.ipynb).

# %%
ft.progress("16")
