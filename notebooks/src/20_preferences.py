# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 20 · Preferences and rewards: DPO, GRPO, and how they are fooled
#
# **Claim: preference accuracy is 100 % and the reward has doubled, so the model got better.** It could
# be wrong. After this lesson you can
#
# - write the DPO loss and the advantages of GRPO yourself, and check them;
# - read the instruments: margin, accuracy, the log-probability of chosen **and** rejected, KL, length;
# - tell learning from over-optimization, and an honest reward from one that can be hacked.
#
# *About 35 minutes. The code needs about a minute on two CPU cores. You need lessons
# [04](04_instruction_tuning.ipynb) and [16](16_catastrophic_forgetting.ipynb).*

# %%
import ftkit as ft
from ftkit.model import download

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C2 -->
#
# > *"Your instruction-tuned model answers, but not the way people like. You have pairs: this answer is
# > better than that one. What now, and how do you know that it worked?"*
#
# "Fine-tuning is instruction tuning or domain adaptation" is the common version, and it is out of
# date: open recipes go on. [Tülu 3](https://arxiv.org/abs/2411.15124) is SFT, then **DPO** on pairs,
# then reinforcement with **rewards that a program can check**.
#
# ## An assistant with a habit
#
# We make one: tuned on tasks, and on answers that hedge and repeat themselves.

# %%
SEEDS = (0, 1, 2)
pairs = ft.records("preferences")
habit = [{"instruction": r["instruction"], "input": "", "output": r["rejected"]}
         for r in pairs if r["chosen"] in r["rejected"]]
tasks = [{k: r[k] for k in ("instruction", "input", "output")} for r in ft.records("tasks")]
sft = ft.Experiment(data=tasks[:1000] + 4 * habit, probes=(), eval_records=8).run(
    learning_rate=1e-3, max_steps=60, eval_steps=60)
tokenizer = sft.tokenizer

# %%
asked = ft.records("preferences", "test")
ft.table([{"asked": r["instruction"], "chosen": r["chosen"], "rejected": r["rejected"], "says": says}
          for r, says in zip(asked[:8], ft.answers(sft.model, tokenizer, asked[:8],
                                                   max_new_tokens=24), strict=True)])

# %% [markdown]
# The questions are new to it: of all of them it gets one in four right, and these eight it hedges or
# gets wrong. Half of the rejected answers are wrong, half are wordy.
#
# ## By hand: the DPO loss
# <!-- claims: E43 -->
#
# The log-probability of an **answer** is the sum over its tokens. How much more than the *reference*
# (the model before) does the policy like the chosen answer, and how much more the rejected one? The
# difference, times β, is the **margin** m. The loss is −log σ(m): logistic regression on "which one is
# better". No reward model, no sampling.

# %%
import torch

from ftkit.data import encoding
from ftkit.experiment import preferences

first = preferences.pair_examples(pairs[:4], tokenizer)
batch = encoding.collate([e for side in zip(*first, strict=True) for e in side], tokenizer.pad_token_id)


def answer_log_probs(model):
    labels = batch["labels"][:, 1:]
    logits = model(batch["input_ids"], batch["attention_mask"]).logits[:, :-1]
    each = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return (each * (labels != -100)).sum(1).view(2, -1)


# %%
with torch.no_grad():
    reference = answer_log_probs(sft.model)
    policy = reference + torch.tensor([[0.5], [-4.0]])
margins = 0.1 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
loss = -torch.nn.functional.logsigmoid(margins).mean()

mine, seen = preferences.dpo_loss(policy, reference, beta=0.1)
assert torch.allclose(loss, mine)
ft.table([{"loss": loss.item()} | seen])

# %%
start, _ = preferences.dpo_loss(reference, reference, beta=0.1)
ft.expect(start.item(), "==", torch.tensor(2.0).log().item(), "policy = reference: the loss is ln 2")

# %% [markdown]
# ## The instruments
#
# A rising margin only says that a gap opened. It opens when the chosen answers gain, and also when
# both fall and the rejected ones fall faster. And it contains β: compare it only at equal β. (Before the
# first step every margin is 0, so no pair counts as told apart.) So we also watch, on questions that
# training never saw:
# `exact` (the short right answer), `kept` (other tasks), and the **KL** to the reference, in nats per
# answer, on answers that the policy itself draws.

# %%
kinds = {"translation", "extraction", "to_past", "owner", "sentiment", "who"}
others = [r for r in ft.records("tasks", "test") if r["task"] in kinds][::4]
watch = {"exact": lambda model, tok: ft.exact_match(model, tok, asked),
         "kept": lambda model, tok: ft.exact_match(model, tok, others)}
setting = {"model": (sft.model, tokenizer), "data": pairs[:200], "val": asked, "metrics": watch,
           "eval_records": 30}
lab = preferences.DPO(**setting)
base = preferences.DPOConfig(beta=0.1, batch_size=8, max_steps=24, eval_steps=24)

# %%
guess = ft.predict("When 9 of 10 new pairs are told apart, exact match is ...",
                   "about 0.9 as well", "still below 0.6", "unchanged", guess=...)
guess

# %%
gentle = lab.run(base, learning_rate=1e-4, eval_steps=4, seed=SEEDS[0])
early = next((row for row in gentle.rows if row.get("val_accuracy", 0) >= 0.9), gentle.rows[-1])
ft.expect(early["exact"], "<", 0.6, f"at step {early['step']} the pairs are told apart, no more")
guess.score("unchanged" if early["exact"] == gentle.before["exact"] else
            "still below 0.6" if early["exact"] < 0.6 else "about 0.9 as well")

# %% [markdown]
# Accuracy is there within a few steps; exact match comes later and stops far below. To rank two given
# answers is easy, to *write* the better one is another thing.
#
# ## Too much of it: over-optimization
# <!-- claims: E43 -->
#
# Three arms: the run above, ten times its rate, and that with a β of 1, with which the loss is content
# nearer to the reference. And the control that one should always ask for: plain SFT on the chosen
# answers.

# %%
bet = ft.predict("At ten times the rate, the margin and exact match on new questions are ...",
                 "both higher", "higher and lower", "both lower", guess=...)
bet

# %%
def repeat(game, config, seeds=SEEDS):
    return [game.run(config, seed=seed, live=False) for seed in seeds]


hot_rate = base.but(learning_rate=1e-3)
runs = {"gentle": [gentle, *repeat(lab, base.but(learning_rate=1e-4), SEEDS[1:])],
        "rate x 10": repeat(lab, hot_rate), "rate x 10, beta 1": repeat(lab, hot_rate.but(beta=1.0))}

# %%
control = ft.Experiment(**setting)
plain = ft.Config(learning_rate=3e-4, batch_size=8, max_steps=24, eval_steps=24)
runs["SFT on chosen"] = repeat(control, plain)


# %%
def panel(members, keys):
    return {key: [run.after[key] for run in members] for key in keys if key in members[0].after}


def drift(run):
    torch.manual_seed(0)
    return preferences.kl(run.model, sft.model, tokenizer, asked)


keys = ("val_margin", "val_accuracy", "val_chosen", "val_rejected", "exact", "kept", "general_loss")
ft.table([{"arm": "before"} | {key: gentle.before[key] for key in keys}]
         + [{"arm": name} | panel(members, keys) | {"KL": [drift(r) for r in members]}
            for name, members in runs.items()])

# %%
calm, hot, held, chosen_only = (panel(members, keys) for members in runs.values())
ft.expect(calm["exact"], ">", gentle.before["exact"], "gentle DPO: the habit is broken")
ft.expect(hot["val_margin"], ">", calm["val_margin"], "ten times the rate: a far wider margin")
ft.expect(hot["val_chosen"], "<", gentle.before["val_chosen"], "but the CHOSEN answers fell too")
ft.expect(hot["exact"], "<", calm["exact"], "fewer answers are right")
ft.expect(hot["kept"], "<", calm["kept"], "the other tasks are lost")
ft.expect(hot["general_loss"], ">", calm["general_loss"], "and so is plain prose")
higher = [sum(hot[key]) > sum(calm[key]) for key in ("val_margin", "exact")]
bet.score("both higher" if all(higher) else "higher and lower" if any(higher) else "both lower")

# %%
dpo_runs = {name: members for name, members in runs.items() if name != "SFT on chosen"}
ft.curves(dpo_runs, "chosen", "rejected")

# %% [markdown]
# The loss asks for the **gap** only. At the high rate both log-probabilities fall, the rejected one
# faster, and the probability goes to answers that nobody rated.
#
# Two results that you may not have expected. A β of 1 did not save the run; the rate was the cause. And
# plain SFT on the chosen answers did **better** than DPO: here each chosen answer is *the* right one, so
# to imitate it says all there is. Pairs earn their keep where no single answer is right, and where they
# were drawn from the policy itself.

# %%
ft.expect(held["exact"], "<", calm["exact"], "a beta of 1 does not save the high rate")
ft.expect(chosen_only["exact"], ">", calm["exact"], "imitation beats DPO on these pairs")

# %%
says = {name: ft.answers(model, tokenizer, asked[:6], max_new_tokens=12) for name, model in
        {"before": sft.model, **{name: runs[name][0].model for name in runs}}.items()}
ft.table([{"asked": r["instruction"], **{name: says[name][i] for name in says}}
          for i, r in enumerate(asked[:6])])

# %% [markdown]
# ## By hand: GRPO
# <!-- claims: E44 -->
#
# No pairs now, but a program that can check an answer. Draw a **group** of answers to a question,
# reward each, and compare with the group: advantage = (reward − mean) / deviation. The mean takes the
# place of PPO's value model. Then raise the log-probability of what was better than its group. If all
# answers earn the same, the group is **dead**: no gradient.

# %%
rewards = torch.tensor([[1.0, 1, 0, 0, 0, 0, 0, 0], [1.0] * 8])
mean, deviation = rewards.mean(1, keepdim=True), rewards.std(1, keepdim=True)
advantages = (rewards - mean) / (deviation + 1e-4)
assert torch.equal(advantages, preferences.advantages(rewards))
advantages

# %% [markdown]
# The step is the gradient of ratio · advantage, where ratio = p now / p when drawn, clipped to
# 1 ± 0.2, so that answers used twice do not push too far. At the first use the ratio is 1, and the
# loss of every batch is near 0: **a GRPO loss tells nothing**. Watch the reward and the dead groups.
#
# The task: make a sentence negative. The check: is it the reference?

# %%
checked = ft.records("to_negative", "test")[:40]
setting |= {"data": "to_negative", "val": checked, "probes": (), "eval_records": 16,
            "metrics": {"exact": lambda model, tok: ft.exact_match(model, tok, checked)}}
honest = preferences.GRPO(preferences.exact, **setting)
short = preferences.GRPOConfig(learning_rate=2e-4, max_steps=14, eval_steps=14, num_generations=6,
                               max_completion_length=18)
first = honest.run(short, eval_steps=2, seed=SEEDS[0])

# %% [markdown]
# Groups are dead for two reasons: nothing is right, or everything is. What lies between can be learned
# from: choose questions there.
#
# ## Break it: a reward that can be hacked
# <!-- claims: E44 -->
#
# Suppose that users tend to prefer the longer of two answers, and that the reward has learned it. That
# happens: [Singhal et al. 2023](https://arxiv.org/abs/2310.03716).

# %%
def long(answer, record):
    return min(1.0, len(answer.split()) / 12)


odds = ft.predict("Paid for length, the model writes ...", "longer right sentences",
                  "sentences with more detail", "noise up to the limit", guess=...)
odds

# %%
played = {"exact": [first, *repeat(honest, short, SEEDS[1:])],
          "long": repeat(preferences.GRPO(long, **setting), short)}
start = first.before["exact"]
ft.table([{"reward": name, "at first": [r.rows[0]["reward"] for r in members],
           "at last": [r.rows[-1]["reward"] for r in members],
           "tokens": [r.rows[-1]["length"] for r in members], "right before": start,
           "right after": [r.after["exact"] for r in members],
           "kept": [ft.exact_match(r.model, tokenizer, others[::2]) for r in members]}
          for name, members in played.items()])

# %%
right = {name: [r.after["exact"] for r in members] for name, members in played.items()}
earned = {when: [r.rows[i]["reward"] for r in played["long"]] for when, i in (("first", 0), ("last", -1))}
ft.expect(right["exact"], ">", start, "the honest reward: more sentences are right")
ft.expect(earned["last"], ">", earned["first"], "the other reward rises as well")
ft.expect(right["long"], "<", start, "and hardly a sentence is right any more")
odds.score("noise up to the limit" if sum(right["long"]) < start else "longer right sentences")

# %%
ft.curves(played, "reward", "length")

# %%
ft.table([{"wanted": r["output"], **{name: ft.answers(members[0].model, tokenizer, [r])[0]
           for name, members in played.items()}} for r in checked[:5]])

# %% [markdown]
# The policy finds what the reward *measures*. Two habits protect: a measure that training never sees,
# and reading the answers that earn most. A KL term only slows the hack; a better reward ends it.
#
# ## What if?
#
# A lazy check in place of the exact one: a negative sentence contains *not*. Right sentences earn as
# well as "not not not"; which of them is found is luck. Change one line: the seed, a KL weight
# (`beta`), a colder temperature, two steps on each batch (`num_iterations=2`: `clipped` rises above 0).

# %%
lazy = preferences.GRPO(lambda answer, record: float("not" in answer.split()), **setting)
mine = lazy.run(short, seed=0, beta=0.0)
ft.table([{"exact": mine.after["exact"], **{k: mine.rows[-1][k] for k in ("reward", "dead", "length")}}])

# %% [markdown]
# ## Now on a real LLM
#
# SmolLM2 with LoRA, a handful of pairs. The reference needs no second copy in memory: its
# log-probabilities are read once, before the first step.

# %%

REAL = download.has("smollm2")
if REAL:
    real = preferences.DPO(model="smollm2", data=pairs[:16], val=asked[:8], probes=())
    run = real.run(method="lora", learning_rate=5e-4, max_steps=8, batch_size=4, eval_steps=8)
    ft.expect(abs(run.before["val_loss"] - 0.6931), "<", 0.01, "it starts at ln 2 as well")
    ft.expect(run.after["val_margin"], ">", 0, "and eight steps open a margin on new pairs")


# %% [markdown]
# ## Exercises
#
# **1.** The DPO loss of one pair, from four log-probabilities (floats). It must survive a margin of
# ±4,000.

# %% tags=["raises-exception"]
def dpo_loss_of(chosen, rejected, ref_chosen, ref_rejected, beta):
    ...


ft.check("dpo_loss_of", dpo_loss_of)


# %% [markdown]
# **2.** The advantages of several groups: a list of lists of rewards in, the same shape out.

# %% tags=["raises-exception"]
def group_advantages(groups):
    ...


ft.check("group_advantages", group_advantages)

# %% [markdown]
# **3.** Read five panels. Each is `"too timid"`, `"over-optimized"`, `"hacked"`, `"too hard"` or
# `"saturated"`.
#
# - A · DPO: loss 0.693, accuracy 0.5, chosen −4.5 → −4.5, exact 0.22 → 0.22
# - B · DPO: accuracy 1.0, margin 5.8, chosen −4.6 → −9.2, rejected −10 → −73, exact 0.55 → 0.35
# - C · GRPO: reward 0.4 → 1.0, length 8 → 15 (the limit), held-out exact 0.35 → 0.1
# - D · GRPO: reward 0 → 0, dead 1.0 → 1.0
# - E · GRPO: reward 0.9 → 1.0, dead 0.5 → 1.0, held-out exact 0.9 → 0.95

# %% tags=["raises-exception"]
verdicts = {"A": "...", "B": "...", "C": "...", "D": "...", "E": "..."}
ft.check("read_the_panel", verdicts)


# %% [markdown]
# **4.** Repair a reward. `contains` pays whenever the reference occurs in the answer; write one that
# cannot be earned by copying, repeating or listing, and that forgives a full stop.

# %% tags=["raises-exception"]
def honest_reward(answer, record):
    ...


ft.check("honest_reward", honest_reward)

# %% [markdown]
# ## Interview
#
# **Explain the DPO loss. Its value at step 0?**
# <details><summary>Answer</summary>
# −log σ(β · [(log π/π_ref of the chosen) − (the same of the rejected)]): logistic regression on an
# implicit reward, without a reward model and without sampling. At step 0 policy = reference, so it is
# ln 2 = 0.693.
# </details>
#
# **Reward accuracy is high, outputs are worse. Why?**
# <details><summary>Answer</summary>
# The loss needs the gap only. At ten times the rate the margin was several times wider here, the
# chosen answers fell with the rejected ones, and exact match with them. Lower the rate first (a higher
# β did not help here), stop early, add an SFT term; judge by held-out samples.
# </details>
#
# **PPO, DPO, GRPO?**
# <details><summary>Answer</summary>
# PPO samples, and needs a reward model, a value model and a reference. DPO works offline on pairs.
# GRPO samples a group and takes its mean as the baseline, so it needs no value model; with a reward
# that a program checks it is the common recipe.
# </details>

# %% [markdown]
# **SFT, DPO or GRPO: when which?**
# <details><summary>Answer</summary>
# SFT where the right answer can be written: here it beat DPO, 0.73 against 0.42. DPO where people can
# only say which answer is better. GRPO where a program can check, and the model is right now and then.
# </details>
#
# **No pairs, but a stronger model?**
# <details><summary>Answer</summary>
# Distil it: SFT on its filtered answers needs text alone; with the same vocabulary, a KL to its
# probabilities. On-policy, the student writes and the teacher scores its tokens. The student takes over
# the teacher's errors and license.
# </details>
#
# ## Recap
#
# - DPO: only the gap counts. Watch chosen and rejected apart, KL, and a task that training never sees.
# - GRPO: the group is the baseline. The loss tells nothing; dead groups tell where the signal is.
# - A reward is earned as it is written. Read the answers that earn most.
#
# In the package: [`ftkit/experiment/preferences.py`](../ftkit/experiment/preferences.py), held to TRL's `DPOTrainer` and
# `GRPOTrainer`. Next: [21 the interview clinic](21_interview_clinic.ipynb).
