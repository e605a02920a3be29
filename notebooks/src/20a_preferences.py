# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 20a · Preferences: a reward model, DPO, and how far they move
#
# **Claim: the model now ranks nearly all new pairs correctly, so its answers got better.** It could be
# wrong. After this lesson you can
#
# - write the losses of a reward model and of DPO;
# - measure accuracy, calibration and length bias of a reward model;
# - report how far a preference run moved, and compare it with SFT as the control.
#
# *About 45 minutes. The code needs two to three minutes on two free CPU cores. You need lessons
# [04](04_instruction_tuning.ipynb) and [16](16_catastrophic_forgetting.ipynb). Directions in the text held
# on seeds 0 and up and again on seeds 200 and up; your decimals differ.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C2 · E43 -->
#
# > *"Your instruction-tuned model answers, but not the way people like. You have pairs: this answer
# > is better than that one. What do you do, and how do you know that it worked?"*
#
# ## A model with a bad habit
#
# The SFT stage teaches tasks, and on purpose also answers that hedge ("I think that ...") or repeat
# themselves.

# %%
pairs = ft.records("preferences")
habit = [{"instruction": r["instruction"], "input": "", "output": r["rejected"]}
         for r in pairs if r["chosen"] in r["rejected"]]
tasks = [{k: r[k] for k in ("instruction", "input", "output")} for r in ft.records("tasks")]
sft = ft.Experiment(data=tasks[:1000] + 4 * habit, probes=(), eval_records=8).run(
    learning_rate=1e-3, max_steps=60, eval_steps=60, precision="fp32")
tokenizer = sft.tokenizer

# %%
asked = ft.records("preferences", "test")
given = ft.answers(sft.model, tokenizer, asked[:5], max_new_tokens=24)
ft.table([{"question": r["instruction"], "chosen": r["chosen"], "rejected": r["rejected"],
           "model": answer} for r, answer in zip(asked[:5], given, strict=True)])

# %% [markdown]
# Each record is a **preference pair**: one question, a chosen and a rejected answer. Half of the rejected
# answers are wrong and short, half right but wordy.
#
# ## A model of the preference
#
# Classic **RLHF** (reinforcement learning from human feedback) first trains a **reward model**: a
# language model whose head gives one number, the score of a whole answer. The **Bradley–Terry** model
# turns two scores into a probability: the chosen answer wins with σ(score of chosen − score of rejected),
# where σ is the sigmoid. The loss is minus the logarithm of that, a mean over the pairs.


# %% tags=["raises-exception"]
def reward_loss(chosen, rejected):
    """The Bradley-Terry loss, a scalar tensor. chosen, rejected: (pairs,), scores.

    It stays finite when the rejected answer scores 4,000 more.
    """
    ...


ft.check("reward_loss", reward_loss)

# %% [markdown]
# Stuck in any exercise: `ft.hint("reward_loss")`, then `ft.solution("reward_loss")`. We train one on 200
# pairs and ask three questions on 60 new ones. Is the **accuracy** high: how often does the chosen answer
# score more? Is it **calibrated**: when it says 0.8, is it right in 80 %? And does it see what we meant, or
# the **length**? For the last, a right but wordy answer meets a short wrong one:

# %%
from ftkit.by_hand import reward_model
from ftkit.inside import preferences


def encoded(records):
    return preferences.pair_examples(records, tokenizer)


wordy = [r for r in asked if r["chosen"] in r["rejected"]]
wrong_pairs = [r for r in asked if r["chosen"] not in r["rejected"]]
crossed = [{"instruction": r["instruction"], "input": "", "chosen": r["rejected"],
            "rejected": other["rejected"]} for r, other in zip(wordy, wrong_pairs, strict=False)]
guess = ft.predict("The reward model prefers, in most of the crossed pairs,",
                   "the right wordy answer", "neither", "the wrong short answer")
guess

# %%
import torch

from ftkit.teaching import direction

scorers = [reward_model.train(sft.model, encoded(pairs[:200]), seed=seed) for seed in range(3)]


def wins(records):
    """Fraction of the pairs in which the chosen answer scores more, for each reward model."""
    return [(reward_model.margins(s, encoded(records)) > 0).float().mean().item() for s in scorers]


margins = torch.cat([reward_model.margins(s, encoded(asked)) for s in scorers])
says, is_right = margins.abs().sigmoid(), (margins > 0).float()
kinds = {"all": asked, "rejected is wordy": wordy, "rejected is wrong": wrong_pairs}
accuracy = {name: wins(records) for name, records in kinds.items()}
ft.table([{"pairs": name, "accuracy": accuracy[name],
           "the shorter is chosen": round(sum(len(r["chosen"]) < len(r["rejected"])
                                              for r in records) / len(records), 2)}
          for name, records in kinds.items()])

# %%
# calibration: the probability that a model gives to its own choice, in bins of 0.1
ft.table([{"it says": f"{low / 10} to {low / 10 + 0.1:.1f}", "choices": int(bin.sum()),
           "mean of that": round(says[bin].mean().item(), 2),
           "right": round(is_right[bin].mean().item(), 2)}
          for low in range(5, 10) if (bin := (10 * says).int().clamp(max=9) == low).any()])

# %%
print(f"all choices: it says {says.mean():.2f}, right in {is_right.mean():.2f}")
won = wins(crossed)
ft.expect(accuracy["all"], ">", 0.5, "the reward model ranks new pairs better than chance")
ft.expect(accuracy["rejected is wordy"], ">", accuracy["rejected is wrong"], paired=True,
          claim="it owes that to the wordy pairs")
ft.expect(won, "<", 0.5, "it prefers short wrong answers to right wordy ones")
guess.score({">": "the right wordy answer", "": "neither",
             "<": "the wrong short answer"}[direction(won, 0.5)])

# %% [markdown]
# In the mean over all pairs its confidence is near its accuracy. In bins it is not: near 0.5 it is right more
# rarely than it says, at 0.9 and above more often. The bins are the two kinds of pairs. It is right on all
# wordy pairs, and on the wrong ones about as rarely as the rule "the shorter wins" (last column of the first table).
# It has learned "short is good" and little else, because the pairs never show a wordy right answer against a
# wrong one. With people's pairs the bias usually points the other
# way: longer wins ([Singhal et al. 2023](https://arxiv.org/abs/2310.03716)). The test is the
# same: pairs in which length and quality disagree.

# %% [markdown]
# ## From reward to policy: the idea of DPO
#
# The model before training is the **reference** π_ref, the model in training is the **policy** π.
# RLHF raises score − β · KL. The **KL divergence** is the mean of log(π / π_ref) over answers that the policy
# draws. It is 0 if both models are the same, and large if the policy writes what the reference finds unlikely. The best policy under that goal is known (left; Z makes the probabilities of all
# answers to the question sum to 1); we solve it for the score (right):
#
# $$\pi = \pi_{ref} \cdot e^{\text{score}/\beta} \,/\, Z \qquad
# \text{score} = \beta \log\frac{\pi}{\pi_{ref}} + \beta \log Z$$
#
# So a policy has a reward model built in, the **implicit reward** β · log(π / π_ref), with log-probabilities
# of whole answers. Put it into Bradley–Terry: Z depends on the question alone and cancels.
# That is direct preference optimization (**DPO**,
# [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)): the loss you wrote, on implicit rewards. The
# difference of the two rewards is the **margin**.
#
# ![Left: a curve of the probability that the chosen answer wins against the difference of the scores; at 0 it is one half. Right: log-probabilities relative to the reference. In one pair the chosen answer gains 4 nats, in the other it loses 4, and the rejected one is 6 lower in both, so margin and loss are equal.](figures/20a_preferences.svg)
#
# The weak point (right): the loss sees only the gap, which also opens while both answers become *less*
# likely.


# %% tags=["raises-exception"]
def dpo_loss(policy, reference, beta):
    """The mean DPO loss of a batch of pairs, a scalar tensor.

    policy, reference: tensors (2, pairs) with the log-probability of each whole answer in nats;
    row 0 has the chosen answers, row 1 the rejected ones. It stays finite at a margin of -4,000.
    """
    ...


ft.check("dpo_loss", dpo_loss)

# %% [markdown]
# At the start the policy is the reference, so every DPO run starts at ln 2 = 0.693.
#
# ## How far did it move?
#
# A wider margin can be bought by moving further away, so report the KL with every run. We draw answers from the
# policy and ask both models how likely each token is. With d = log π_ref − log π of a drawn token, e^d − d − 1
# is never negative, and its mean over many drawn tokens is the KL (Schulman's **k3**). Sum over the tokens of
# an answer, and take the mean over answers: nats per answer.
#
# The KL is no distance in the strict sense: it changes if the two models are exchanged, and a longer answer has
# more of it. Compare it between runs on the same questions.


# %% tags=["raises-exception"]
def answer_kl(policy, reference, mask):
    """KL of the policy to the reference in nats per answer, a scalar tensor, estimated by k3.

    policy, reference: (answers, tokens), log-probabilities of tokens that the policy drew.
    mask: the same shape, 1 for real tokens, 0 for padding.
    """
    ...


ft.check("answer_kl", answer_kl)

# %% [markdown]
# ## Run it: does a lower loss mean better answers?
#
# `exact` measures what the loss does not contain: the fraction of 60 new questions answered exactly right.
# One set of runs has the learning rate 1e-4, one ten times that. A third has 1e-4 for four times as many steps,
# to separate the learning rate from the amount of training. `val_` is measured on 30 new pairs;
# `val_chosen` is the mean log-probability of the chosen answers.

# %%
broken = ft.predict("At ten times the learning rate the margin on new pairs is wider. Exact match is",
                    "higher", "no difference seen", "lower")
broken

# %%
setting = {"model": (sft.model, tokenizer), "data": pairs[:200], "val": asked, "probes": (),
           "eval_records": 30,
           "metrics": {"exact": lambda model, tok: ft.exact_match(model, tok, asked),
                       "kl": lambda model, tok: preferences.kl(model, sft.model, tok, asked)}}
lab = preferences.DPO(**setting)
base = preferences.DPOConfig(beta=0.1, batch_size=8, max_steps=24, eval_steps=24, precision="fp32")


def repeat(config, seeds, experiment=lab):
    return [experiment.run(config, seed=seed, live=False) for seed in seeds]


SEEDS = range(5)
first = base.but(learning_rate=1e-4)
runs = {"DPO": repeat(first, SEEDS),
        "DPO, 10 x": repeat(base.but(learning_rate=1e-3), SEEDS),
        "DPO, 4 x steps": repeat(first.but(max_steps=96, eval_steps=96), range(3))}

# %%
NAMES = {"<": "lower", ">": "higher", "": "no difference seen"}


def ends(name, measure):
    """A measure at the end of each run of a set."""
    return [run.after[measure] for run in runs[name]]


def table(names, *measures):
    """The start, and the mean of each measure at the end of the runs."""
    rows = [{"run": name} | {m: round(sum(ends(name, m)) / len(runs[name]), 2) for m in measures}
            for name in names]
    return ft.table([{"run": "start"} | {m: round(start[m], 2) for m in measures}, *rows])


start = runs["DPO"][0].before
ft.expect(ends("DPO, 10 x", "val_margin"), ">", ends("DPO", "val_margin"), "10 x: a wider margin")
ft.expect(ends("DPO, 10 x", "val_chosen"), "<", start["val_chosen"], "but the CHOSEN answers fell")
ft.expect(ends("DPO, 10 x", "kl"), ">", ends("DPO", "kl"), "the policy moved further")
ft.expect(ends("DPO, 10 x", "exact"), "<", ends("DPO", "exact"), "and fewer answers are right")
ft.expect(ends("DPO, 10 x", "val_loss"), "<", ends("DPO", "val_loss"), may_fail=True,
          claim="though the loss on new pairs is lower")
ft.expect(ends("DPO, 4 x steps", "val_margin"), ">", ends("DPO", "val_margin"),
          "4 x steps at the small learning rate: a wider margin too")
ft.expect(ends("DPO, 4 x steps", "exact"), ">", ends("DPO, 10 x", "exact"),
          "but more right answers than at 10 x")
broken.score(NAMES[direction(ends("DPO, 10 x", "exact"), ends("DPO", "exact"))])

# %%
table(runs, "exact", "val_loss", "val_margin", "val_chosen", "kl")

# %%
ft.curves(runs, "chosen", "rejected")

# %% [markdown]
# At 10 x both log-probabilities fell, the rejected one faster, and probability went to answers that nobody rated:
# [likelihood displacement](https://arxiv.org/abs/2410.08847). So a lower loss does not mean better answers: 10 x
# has a lower loss and a wider margin than the first runs, and fewer right answers. The cause is the learning rate,
# not the amount of training: four times as many steps at 1e-4 widen the margin too, and right answers stay. A
# wide margin does not show which of the two happened. The KL and the log-probability of the chosen answers do.
# **Over-optimization** is the slower fall: quality rises, then falls as the KL grows, while the text stays fluent
# ([Rafailov et al. 2024](https://arxiv.org/abs/2406.02900)). [20b](20b_rewards.ipynb) selects by a reward model
# and meets that fall.
#
# ## The relatives
#
# They change one piece each: **IPO** stops the gap from growing, **KTO** needs no pairs, **SimPO** and **ORPO**
# need no reference, and ORPO adds the SFT loss. `loss_type` selects them; the
# [reference page](reference/20a_preferences.md) has the table with TRL's names.

# %%
# Your turn: ipo, kto, orpo or simpo (beta 2). One seed only, so it is a look, not a comparison.
other = lab.run(base.but(loss_type="orpo", learning_rate=3e-4), live=False)
{name: round(other.after[name], 2) for name in ("exact", "val_accuracy", "kl")}

# %% [markdown]
# ## In practice, 2026
#
# TRL's `DPOTrainer` gets `prompt`, `chosen` and `rejected` as lists of messages. With LoRA the reference is the same
# model with the new adapter switched off, so merge an SFT adapter first: "off" must mean the model after SFT. Use a
# learning rate of about 1e-5 with LoRA, a tenth of that without, one epoch, β 0.1. `loss_type=["sigmoid", "sft"]`
# with a small weight on the second holds the chosen answers up. Script, usual values and a `RewardTrainer`:
# [reference page](reference/20a_preferences.md).
#
# ## Your turn: does DPO beat its control?
#
# The control is SFT on the chosen answers alone: it never sees a rejected one. Each side gets its own settings, chosen
# on other questions (the validation pairs, one seed): DPO three learning rates and two β at the middle one, SFT three
# learning rates.

# %%
control = ft.predict("Right answers, each side at its best settings: SFT against DPO",
                     "SFT more", "no difference seen", "DPO more")
control

# %%
held = preferences.DPO(**setting | {
    "val": ft.records("preferences", "validation"),
    "metrics": {"exact": lambda model, tok: ft.exact_match(
        model, tok, ft.records("preferences", "validation"))}})
grid = {"DPO": [base.but(learning_rate=3e-5), first, first.but(beta=0.5),
                base.but(learning_rate=3e-4)],
        "SFT": [base.but(loss_type="sft", learning_rate=rate) for rate in (1e-4, 3e-4, 1e-3)]}
best = {name: max(configs, key=lambda config: held.run(config, live=False).after["exact"])
        for name, configs in grid.items()}
best

# %%
given = "DPO" if best["DPO"] == first else "DPO, best"  # the first runs are not made again
if given not in runs:
    runs[given] = repeat(best["DPO"], range(3))
runs["SFT"] = repeat(best["SFT"], range(3))
table(runs, "exact", "val_accuracy", "kl")

# %%
verdict = ft.expect(ends("SFT", "exact"), ">", ends(given, "exact"),
                    "where the chosen answer is THE right one, imitation beats DPO")
control.score({">": "SFT more", "": "no difference seen", "<": "DPO more"}[
    direction(ends("SFT", "exact"), ends(given, "exact"))])

# %% [markdown]
# DPO helped: more answers are right than at the start. But each question here has one right answer, which imitation
# learns directly. The accuracy on new pairs did not show the difference: it is near 1 for both. Pairs that the policy
# drew itself [did no better](../docs/measurements/POST_TRAINING.md) than the given ones.
#
# ## At 135M
#
# SmolLM2 answers in sentences, so its exact match of 0 is about form, not knowledge.

# %%
from ftkit.teaching import at_135m

at_135m("preferences", verdict)

# %% [markdown]
# The tested DPO, at 1e-5, moved the model little, so its p says little. The best of DPO's four learning rates,
# 3e-5, reached 0.05 with one seed; SFT's only one, 1e-4, gave 0.34.

# %% [markdown]
# ## Interview
#
# **Explain the DPO loss. What is its value at step 0?**
# <details><summary>Answer</summary>
# −log σ(β · [log(π/π_ref) of the chosen answer − the same of the rejected one]): logistic regression on an
# implicit reward, without reward model and sampling. At step 0 the policy equals the reference (without dropout),
# so every margin is 0 and the loss is ln 2 = 0.693.
# </details>
#
# **Reward accuracy is near 100 %, outputs are worse. Why?**
# <details><summary>Answer</summary>
# A surface feature such as length can suffice. And the loss only needs the gap: both log-probabilities can fall, and
# probability goes to unrated answers. Check chosen log-probability, length, KL and samples. Lower the learning rate;
# then raise β or add an SFT term.
# </details>
#
# ## Recap
#
# - A reward model learns what tells the pairs apart. Test it where length and quality disagree.
# - DPO rewards the gap: log chosen and rejected apart, and the KL.
# - The claim fails: at 10 x most new pairs were ranked right, and fewer answers were right.
# - SFT on the chosen answers is the control. Here it won.
#
# In the package: [preference_losses.py](../ftkit/experiment/preference_losses.py),
# [reward_model.py](../ftkit/lessons/by_hand/reward_model.py). Next: [20b rewards](20b_rewards.ipynb).

# %%
ft.progress("20a")
