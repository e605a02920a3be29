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
# about two minutes on two CPU cores.*

# %%
import ftkit as ft
from ftkit.teaching import Frontier, at_135m, direction

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"You fine-tuned an assistant on one narrow task. The task works, but users say that everything
# > else got worse. How do you find out whether they are right, and what do you do?"*

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
# equal. A remedy is better than the plain method if its point is **above the curve**. The curve itself moves with
# the learning rate, so each method gets its own.
#
# ## A model and a narrow task
# <!-- claims: C7 C67 C68 C69 · E15 -->
#
# First we make a model worth keeping: the small model, tuned on 31 old tasks. The new task is to say
# what a clause of a contract is about.

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
# Three scores: exact match on the new task, exact match on the old tasks, and **knowledge probes**.
# A probe is a sentence of the base model's world to complete, such as "The capital of Tunisia is ...". We
# take 26. They are plain text, without an answer format.

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
base = ft.Config(batch_size=8, max_steps=24, eval_steps=1000, precision="fp32")
hurt = narrow.run(base, learning_rate=1e-3, eval_steps=4, live=False)
after = measure(hurt.model)
ft.table([{"model": "before", **before}, {"model": "after", **after}])

# %%
remains = after["kept"] / before["kept"]
ft.expect(after["kept"], "<", before["kept"], "the old tasks were partly forgotten")
left.score("less than 20 %" if remains < 0.2 else "20 to 80 %" if remains <= 0.8
           else "more than 80 %")

# %% [markdown]
# If the wrong answer to an old question is one of the new labels, the model is answering the wrong question.

# %%
replies = ft.answers(hurt.model, tokenizer, old_test)
print(sum(reply.strip() in labels for reply in replies), "of", len(replies),
      "answers to old questions are a label of the new task")
ft.table([{"asked": f"{record['instruction']} {record['input']}", "expected": record["output"],
           "answer": reply} for record, reply in list(zip(old_test, replies, strict=True))[::8]])

# %% [markdown]
# A drop of a benchmark can be a lost answer **format**, a lost ability, or both. Here the answers are
# still short, and some are broken words. The probes fell too, on plain text. But a probe is right only
# if its word is the likeliest of the whole vocabulary, so a habit of answering with labels lowers it
# as well. Ranking the right word among capitals only would separate the two. Whether the knowledge
# is gone or only hard to reach, no score here can say.
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
# In `ft` this is `ft.Config(replay=0.25)`. The number of steps stays the same, so such a run sees
# about a quarter fewer new records.
#
# ## Your turn: L2-SP
# <!-- claims: C95 · E17 -->
#
# **L2-SP** ([Li et al. 2018](https://arxiv.org/abs/1802.01483)) adds a penalty on the distance from the
# starting weights w₀ (SP means starting point): λ/2 · ‖w − w₀‖². Weight decay pulls to *zero*; L2-SP pulls
# to the *start*. Write the gradient of the loss with this penalty. (Adam rescales gradients, so under
# Adam a λ does not have the strength that the formula says.)


# %% tags=["raises-exception"]
def l2_sp_gradient(w, w0, g, lam):
    """Return the gradient of loss + lam/2 · ‖w − w0‖², a tensor shaped as w; g is the gradient of the
    loss. Do not change the arguments."""
    ...


ft.check("l2_sp_gradient", l2_sp_gradient)

# %% [markdown]
# In `ft` it is `ft.Config(l2_sp=1.0)`. **EWC** (elastic weight consolidation) is the same with one λ per
# weight, larger for weights that mattered to the old task (the Fisher information: mean squared
# gradients on old data).
#
# A **KL penalty** acts on the outputs instead: β · KL(p ‖ p₀), with the token probabilities p of the
# trained model and p₀ of the old one; the average is over what the trained model says. Reinforcement
# learning uses it ([lesson 20a](20a_preferences.ipynb)).
#
# ## Your turn: interpolate the weights
# <!-- claims: C95 · E18 -->
#
# **WiSE-FT** ([Wortsman et al. 2022](https://arxiv.org/abs/2109.01903)) needs no further training. It
# interpolates old and tuned weights: (1 − a) · old + a · tuned. Choose the weight a on validation data,
# and report the result on test data.


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
# The curve of the figure, measured: full fine-tuning at learning rate 0.001 for 8 and for 24 steps,
# with four seeds; ± is their standard deviation. How much is already lost after 8 steps?

# %%
SEEDS = (0, 1, 2, 3)
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
# The runs of 8 steps already lose most of what the runs of 24 steps lose, at a much lower target score.
# So a shorter run is no protection; it is another point of the trade-off.
#
# **Early stopping** selects one checkpoint of a run. By default it watches `val_loss`, the loss of the new
# task. Does this loss rise when old tasks suffer? Compare the two losses of the first run (`tasks_loss` is
# the loss on old tasks).

# %%
ft.curves(hurt, "val_loss", "tasks_loss")

# %% [markdown]
# In our run the loss of the new task fell to the end, so early stopping on it never stops: the second half
# of the claim fails here. The loss of the old tasks rose early, while that of the new task was still high.
#
# ## The remedies
# <!-- claims: C70 C72 C73 C95 · E16 E17 E18 E19 E22 -->
#
# A lower learning rate with more steps is a remedy too, and each other one deserves a rate of its own.
# So we run seven recipes. The steps are chosen so that each one comes near the same target:
#
# - plain fine-tuning at 0.0003 (36 steps) and at 0.0001 (72 steps);
# - replay of 25 % at 0.001 (24 steps) and at 0.0001 (96 steps, which hold the new records of 72 without
#   replay);
# - L2-SP at 0.001 (24 steps);
# - WiSE-FT: the plain runs of 24 steps, with a = 0.7 (not chosen by `choose_weight`);
# - LoRA (rank 8, α 16) at its own learning rate, 36 steps.

# %%
most = ft.predict("Which recipe keeps most of the old tasks?", "plain at 0.0003", "plain at 0.0001",
                  "replay at 0.001", "replay at 0.0001", "L2-SP", "WiSE-FT", "LoRA")
most

# %%
start = base.but(learning_rate=1e-3)
slow = base.but(learning_rate=1e-4)
recipes = {
    "plain at 0.0003": base.but(learning_rate=3e-4, max_steps=36),
    "plain at 0.0001": slow.but(max_steps=72),
    "replay at 0.001": start.but(replay=0.25),
    "replay at 0.0001": slow.but(replay=0.25, max_steps=96),
    "L2-SP": start.but(l2_sp=1.0),
    "LoRA": base.but(method="lora", learning_rate=5e-3, max_steps=36),
}
front.blend(general.model, "full, 24 steps", shares=(0.7,))
front.conditions["WiSE-FT"] = front.conditions.pop("full, 24 steps, blend 0.7")
front.train(narrow, recipes, SEEDS).table("target", "kept", "probes")

# %% [markdown]
# Near a target of 1, exact match hardly shows which run trained longer than needed. So compare what is
# *kept*. The table subtracts, seed by seed, what the tenfold lower rate kept without any remedy.

# %%
kept = {name: front.values(name, "kept") for name in (*recipes, "WiSE-FT")}
low = kept["plain at 0.0001"]
verdict = ft.expect(kept["replay at 0.0001"], ">", low, "replay adds to a low learning rate",
                    paired=True, may_fail=True)
ft.expect(kept["LoRA"], "<", before["kept"], "LoRA forgets too")
sign = {">": "keeps more", "<": "keeps less", "": "no difference seen"}
ft.table([{"recipe": name, "kept": values,
           "minus plain at 0.0001": [x - y for x, y in zip(values, low, strict=True)],
           "test": "" if values is low else sign[direction(values, low, paired=True)]}
          for name, values in kept.items()] + [{"recipe": "before training", "kept": before["kept"]}])

# %%
most.score(max(kept, key=lambda name: sum(kept[name])))

# %% [markdown]
# The first remedy is the learning rate: a tenth of it keeps more than any remedy at the full rate. Replay at
# that same low rate adds a little (the test above says whether four seeds can see it), and almost nothing is
# forgotten. Neither needs a new idea; both cost steps. Had we compared replay and L2-SP at 0.001 only, we would have reported that a good part of the
# old score is lost whatever one does.
#
# Replay shows old questions and no plain text. Compare the *probes* of replay at both rates: which of the two
# kept them, the old records or the low rate?
#
# **And LoRA?** Its base is frozen, but the model computes W + (α/r) B A, and that function can
# forget. It kept far less than the untouched model, so the first half of the claim is false. LoRA had one
# learning rate here and full fine-tuning three, so its place in the table belongs to this recipe, not to the
# method; the box At 135M of lesson 07 has both at six rates. In [Biderman et al.
# 2024](https://arxiv.org/abs/2405.09673v2) (version 2) LoRA learned less *and* forgot less. Plotted as
# target against kept, it seemed the better method on code, and full fine-tuning on math.
#
# ## Break it: replay only half of the old tasks
# <!-- claims: C72 · E16 -->
#
# We replay every second old task. Are the other tasks protected too, at an equal target?

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
ft.table([{"runs": "before training", "target": before["target"],
           "kept of the others": ft.exact_match(general.model, tokenizer, others)},
          {"runs": "no replay", "target": front.values("full, 24 steps", "target"),
           "kept of the others": without},
          {"runs": "half replayed", "kept of the others": with_half,
           "target": [ft.exact_match(run.model, tokenizer, new_test) for run in half_runs]}])

# %%
ft.expect(with_half, ">", without, "old tasks that are not replayed are kept better with replay",
          paired=True, may_fail=True)

# %% [markdown]
# Old tasks that are not replayed profit too, at this high learning rate, though much of them is lost. A
# shared format or a related replayed task may be the reason; we tested neither. Do not expect it for
# unrelated abilities, such as tool calls.
#
# ## At 135M
#
# The recorded runs tune SmolLM2-135M-Instruct on the 31 tasks. Replay takes passages of plain English, and
# forgetting is the loss on other plain English.

# %%
at_135m("forgetting", verdict)

# %% [markdown]
# With replay the loss on plain English (2.94) is *below* that of the untouched model (3.25): replay
# also trains on the kind of text that is tested. So this column does not separate keeping from new
# learning. For the facts, replay's effect is not settled: 0.72 right with it, 0.66 without (3 seeds).
# L2-SP hardly helped: 3.69 to 3.61, with a λ 30 times smaller than ours above. The dotted line ("frontier") joins the settings that no other beats in both losses.
#
# Compare "full 0.0001" with "full 0.0003": the lower rate ends with the lower loss in both columns. LoRA
# (3.37) is near this lower rate (3.31) at a similar validation loss: whether it forgets less depends on
# the full run that you compare it with. Yet "full 0.0001" completes more facts right (0.78) than before
# (0.70): what counts as kept depends on the measure.
#
# For larger models:
#
# - Forgetting during continual instruction tuning grew from 1B to 7B parameters
#   ([Luo et al. 2023](https://arxiv.org/abs/2308.08747)).
# - With LoRA on Llama 2 7B chat, more learning meant more forgetting; early stopping did not avoid it
#   ([Kalajdzievski 2024](https://arxiv.org/abs/2401.05605)).
# - A smaller learning rate kept more at a comparable target, but did not always suffice
#   ([Lin et al. 2025](https://arxiv.org/abs/2509.20758)).
# - A replay of 1 % of *each old task's records* (not of the mixture) was enough to keep T0's old
#   tasks while it learned eight new ones in sequence
#   ([Scialom et al. 2022](https://arxiv.org/abs/2205.12393)).
# - In one study reinforcement learning forgot less than supervised fine-tuning at an equal target
#   ([Shenfeld et al. 2025](https://arxiv.org/abs/2509.04259)). There KL(p₀ ‖ p), with p and
#   p₀ swapped from above, on prompts of the *new task* predicted forgetting. You can watch it without old data.

# %% [markdown]
# ## What if?
#
# Combine two remedies. Is your point above the others? (One seed: a hint, no result.)

# %%
mine = {"mine": start.but(replay=0.1, l2_sp=0.3)}
front.train(narrow, mine, seeds=[0])
ft.table([{key: front.values("mine", key)[0] for key in ("target", "kept", "probes")}])

# %% [markdown]
# ## In practice, 2026
#
# | remedy | needs | usual setting |
# |---|---|---|
# | low learning rate | more steps | full SFT, 7B to 8B: 5e-6 to 2e-5, 1 to 2 epochs (others: lesson 07) |
# | replay | old data, samples of the old model, or an open mixture (Tülu 3, SmolTalk) | SFT: start with 1 to 10 %, more for a narrow task (here 25 %); next-token training on a domain: 1 % of pretraining data kept the pretraining loss ([Bethune et al. 2025](https://arxiv.org/abs/2502.06042)); continued pretraining: 5 to 25 % ([Ibrahim et al. 2024](https://arxiv.org/abs/2403.08763)) |
# | LoRA, or frozen layers | LoRA: its own learning rate | lesson 02 |
# | KL to the base | the old model's log-probabilities | RL: `beta` 0 to 0.05; TRL's GRPO default is 0 |
# | L2-SP, EWC | the old weights (EWC: and squared gradients on old data) | rare for LLMs |
# | interpolation | old and tuned weights | start at a = 0.5; choose by validation |
# | on-policy data: the model's own answers | sampling in training | RL, self-distillation |

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
#     args=SFTConfig(  # warmup_steps below 1 is a fraction
#         output_dir="narrow", learning_rate=1e-5, warmup_steps=0.03, num_train_epochs=1,
#         per_device_train_batch_size=4, gradient_accumulation_steps=8, max_length=2048,
#         bf16=True, assistant_only_loss=True,
#     ),
# )
# trainer.train()
# trainer.save_model()
# ```

# %% [markdown]
# Run the same suite before and after, such as with the lm-evaluation-harness (knowledge, instruction
# following, arithmetic):
#
# ```bash
# pip install "lm_eval[hf,ifeval]"
# for model in Qwen/Qwen3-4B narrow; do
#     run="lm_eval --model hf --batch_size auto --log_samples --output_path results"
#     args="pretrained=$model,dtype=bfloat16,enable_thinking=False"
#     $run --model_args $args --tasks mmlu --num_fewshot 5
#     $run --model_args $args --tasks ifeval,gsm8k --apply_chat_template
# done
# ```
#
# `mmlu` compares log-likelihoods of letters. It is run without the chat template: with it Qwen3-4B fell
# from 0.70 to 0.57 in [one report](https://github.com/EleutherAI/lm-evaluation-harness/issues/3405).
# `--log_samples` keeps every answer: compare the models question by question (paired standard error).
#
# Thinking is off: a limit on new tokens may cut an answer after long thinking. Besides, TRL's template
# for Qwen3 trains the empty think block of answers without thinking. So the thinking mode can be
# lost, unseen by this suite. If your users need that mode, test it on generated answers
# (`enable_thinking=True,think_end_token=</think>`, a high limit on new tokens), and replay answers with
# thinking. If not, start from Qwen3-4B-Instruct-2507.

# %% [markdown]
# Current methods by name:
#
# - **Self-generated replay**: if the old data are not public, let the old model sample the replay texts
#   ([Marek et al. 2026](https://arxiv.org/abs/2605.26097)). There it allowed a high learning rate with
#   few steps, but models trained close to capacity still forgot.
# - **Self-distillation**: train on answers that the model itself rewrites or samples, such as on-policy
#   SDFT ([Shenfeld et al. 2026](https://arxiv.org/abs/2601.19897), `trl.experimental.sdft`).
# - **Merging**: [task arithmetic](https://arxiv.org/abs/2212.04089) adds differences of weights.
#   [TIES](https://arxiv.org/abs/2306.01708) and [DARE](https://arxiv.org/abs/2311.03099) remove small or
#   random parts of them first. [Model soups](https://arxiv.org/abs/2203.05482) average several runs.

# %% [markdown]
# Pitfalls:
#
# - Safety is an ability that can be forgotten, even with harmless data
#   ([Qi et al. 2023](https://arxiv.org/abs/2310.03693)). Put refusals into the suite.
# - The loss averages over tokens: with old answers nine times as long, 10 % replay is half of the tokens.
# - Replay in another chat template trains a second format. Use the template of the deployed model.
# - `first_exhausted` ends with the source that runs out first. With 0.9 and 0.1 the replay file needs
#   about a ninth as many records as the new one; with fewer, new data are dropped.
#
# ## Interview
#
# **The question from the start: are the users right, and what do you do?**
# <details><summary>Answer</summary>
# Run one suite on the old and the new model, with the same template, decoding and precision: general
# benchmarks, instruction following, safety, and what the product needs. Look for drops larger than
# the noise of paired differences, and read answers to separate format from ability. Compare remedies
# at an equal target score. If requests of the task can be recognized: leave a LoRA adapter unmerged,
# and answer all others without it.
# </details>
#
# **What is catastrophic forgetting, how do you measure it, and how do you reduce it?**
# <details><summary>Answer</summary>
# The loss of earlier abilities through training on new data. Run a fixed suite before and after, and
# report it with the target score, because a run that learned nothing forgets nothing. First tune the
# learning rate and the number of epochs. Then replay a few percent of old or self-generated data. Further:
# LoRA, a KL or L2-SP penalty, or interpolation with the old weights. On-policy methods (RL,
# self-distillation) forgot less at an equal target in recent studies.
# </details>

# %% [markdown]
# **"LoRA forgets less." Comment.**
# <details><summary>Answer</summary>
# In Biderman et al. 2024, on code and math at usual ranks, LoRA learns less and forgets less. At equal
# target performance the difference may vanish or reverse: there LoRA seemed better on code, full
# fine-tuning on math. The frozen weights do not prevent forgetting: the model computes W + (α/r) B A, and that function can forget. Tune the
# learning rate of each method.
# </details>
#
# **Does early stopping help?**
# <details><summary>Answer</summary>
# It selects a point of the trade-off. That helps if the target had stopped rising; otherwise it trades
# target for old abilities. By default it watches the validation loss of the new task, which may fall
# while old abilities are lost. So the criterion must include a measure of the old abilities.
# </details>
#
# **A benchmark fell by 30 points. Is the knowledge gone?**
# <details><summary>Answer</summary>
# Not necessarily. I read the answers first: if the format changed, the score falls although the
# knowledge is there. Log-likelihood scoring of the choices or a few-shot prompt depends less on the
# format, but still does. Quick recovery after a few steps on old data suggests that much was still
# present.
# </details>
#
# ## Recap
#
# - Forgetting has two axes. Compare remedies at an equal target.
# - A shorter run is another point of the trade-off. Tune the learning rate first; then add replay *at that
#   rate*. Judge penalties and interpolation against both.
# - Replay trains what it contains; measure the rest. LoRA is no guarantee.
#
# In the [playground](playground.html#data=translation&method=full&learning_rate=0.005&challenge=2), learn a
# task and keep general_loss low.
#
# Next: [17 overfitting](17_overfitting.ipynb).

# %%
ft.progress("16")
