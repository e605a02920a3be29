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
# - compare preference runs at a known distance from the reference, with SFT as the control.
#
# *About 45 minutes. The code needs one to two minutes on two CPU cores. You need lessons
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
from ftkit.inside import preferences, prompts


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


def confidence(records):
    """Mean probability that the reward models give to their own choice."""
    return torch.stack([reward_model.margins(s, encoded(records)).abs().sigmoid().mean()
                        for s in scorers]).mean().item()


kinds = {"all": asked, "rejected is wordy": wordy, "rejected is wrong": wrong_pairs}
ft.table([{"pairs": name, "accuracy": wins(records), "confidence": round(confidence(records), 2),
           "the shorter is chosen": round(sum(len(r["chosen"]) < len(r["rejected"])
                                              for r in records) / len(records), 2)}
          for name, records in kinds.items()])

# %%
ft.expect(wins(asked), ">", 0.5, "the reward model ranks new pairs better than chance")
ft.expect(wins(wordy), ">", wins(wrong_pairs), "it owes that to the wordy pairs", paired=True)
ft.expect(wins(crossed), "<", 0.5, "it prefers short wrong answers to right wordy ones")
guess.score({">": "the right wordy answer", "": "neither",
             "<": "the wrong short answer"}[direction(wins(crossed), 0.5)])

# %% [markdown]
# Overall, its confidence is about as high as its accuracy. Yet it is right on all wordy pairs and no better than chance on
# the wrong ones: it has learned "short is good" and little else, because the pairs never show a wordy right
# answer against a wrong one. Overall accuracy and calibration hide that; the last column, a rule without
# any model, shows it. With people's pairs the bias usually points
# the other way: longer wins ([Singhal et al. 2023](https://arxiv.org/abs/2310.03716)). The test is the
# same: pairs in which length and quality disagree.

# %% [markdown]
# ## From reward to policy: the idea of DPO
#
# The model before training is the **reference** π_ref, the model in training is the **policy** π.
# RLHF raises score − β · KL, where the **KL divergence** says how far the policy is from the reference.
# The best policy under that goal is known (left); we solve it for the score (right):
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
# A wider margin can be bought by moving further away. So report the distance: draw answers from the
# policy and compare how likely both models find each token. With d = log π_ref − log π of a drawn token,
# e^d − d − 1 estimates the KL at that token; it is never negative (Schulman's **k3**). Sum over the tokens
# of an answer, and take the mean over answers: nats per answer.


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
# One set of runs has the learning rate 1e-4, the other ten times that. `val_` is measured on 30 new pairs;
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
runs = {"DPO": repeat(base.but(learning_rate=1e-4), SEEDS),
        "DPO, 10 x": repeat(base.but(learning_rate=1e-3), SEEDS)}

# %%
NAMES = {"<": "lower", ">": "higher", "": "no difference seen"}


def ends(name, measure):
    """A measure at the end of each run of a set."""
    return [run.after[measure] for run in runs[name]]


start = runs["DPO"][0].before
ft.expect(ends("DPO, 10 x", "val_margin"), ">", ends("DPO", "val_margin"), "10 x: a wider margin")
ft.expect(ends("DPO, 10 x", "val_chosen"), "<", start["val_chosen"], "but the CHOSEN answers fell")
ft.expect(ends("DPO, 10 x", "kl"), ">", ends("DPO", "kl"), "the policy moved further")
ft.expect(ends("DPO, 10 x", "exact"), "<", ends("DPO", "exact"), "and fewer answers are right")
broken.score(NAMES[direction(ends("DPO, 10 x", "exact"), ends("DPO", "exact"))])

# %%
ft.curves(runs, "chosen", "rejected")

# %% [markdown]
# At 10 x both log-probabilities fell, the rejected one faster, and probability went to answers that nobody
# rated: [likelihood displacement](https://arxiv.org/abs/2410.08847). This is **over-optimization** in its
# crudest form. In real runs the text stays fluent: quality rises, then falls as the KL grows
# ([Rafailov et al. 2024](https://arxiv.org/abs/2406.02900)).

# %% [markdown]
# ## The control, β, and pairs of one's own
#
# Each side gets its own settings, searched on other questions (the validation pairs, one seed): DPO two
# learning rates and two β, SFT on the chosen answers two learning rates. And a third contender: the
# same DPO on **on-policy pairs**, two answers drawn from the SFT model of which a checker finds one right.

# %%
held = preferences.DPO(**setting | {
    "val": ft.records("preferences", "validation"),
    "metrics": {"exact": lambda model, tok: ft.exact_match(
        model, tok, ft.records("preferences", "validation"))}})
grid = {"DPO": [base.but(learning_rate=rate, beta=beta)
                for rate in (1e-4, 3e-4) for beta in (0.1, 0.5)],
        "SFT": [base.but(loss_type="sft", learning_rate=rate) for rate in (3e-4, 1e-3)]}
best = {name: max(configs, key=lambda config: held.run(config, live=False).after["exact"])
        for name, configs in grid.items()}
best

# %%
questions = [pair for pair in pairs[:200] for _ in range(8)]
torch.manual_seed(0)
texts, _ = preferences.sample(
    sft.model, tokenizer, prompts(questions, tokenizer), 24)
judged = {}
for pair, text in zip(questions, texts, strict=True):
    is_right = preferences.exact(text, pair | {"output": pair["chosen"]})
    judged.setdefault(pair["instruction"], {})[bool(is_right)] = text
own = [{"instruction": question, "input": "", "chosen": found[True], "rejected": found[False]}
       for question, found in judged.items() if len(found) == 2 and all(found.values())]
print(len(own), "questions with a right and a wrong answer:", own[0])

# %%
runs |= {"DPO, best": repeat(best["DPO"], range(3)),
         "DPO, own pairs": repeat(best["DPO"], range(3), preferences.DPO(**setting | {"data": own})),
         "SFT": repeat(best["SFT"], range(3))}
ft.table([{"run": name} | {k: round(sum(ends(name, k)) / len(runs[name]), 2)
                           for k in ("exact", "val_accuracy", "kl")} for name in runs])

# %%
ft.expect(ends("SFT", "exact"), ">", ends("DPO, best", "exact"), "SFT beats DPO at its best settings")
ft.expect(ends("DPO, own pairs", "kl"), "!=", ends("DPO, best", "kl"), may_fail=True,
          claim="own pairs move the policy another distance than given ones")
ft.expect(ends("DPO, own pairs", "exact"), ">", ends("DPO, best", "exact"), may_fail=True,
          claim="own pairs bring more right answers than given ones")
verdict = ft.expect(ends("SFT", "exact"), ">", ends("DPO", "exact"),
                    "where the chosen answer is THE right one, imitation beats DPO")

# %% [markdown]
# All but the broken runs rank the new pairs almost perfectly, and their exact match differs by far: accuracy does
# not say how good the answers are. Nor does distance: the run that moved furthest is the worst. Own pairs did not
# settle a difference; there are fewer of them, since often all drawn answers are wrong. Here each question
# has one right answer, which imitation learns directly: where the chosen answer is *the* right one, SFT on it is
# the control that a preference run has to beat.
#
# The relatives change one piece each: **IPO** stops the gap from growing, **KTO** needs no pairs, **SimPO** and
# **ORPO** need no reference, ORPO adds the SFT loss. `loss_type` selects them; the
# [reference page](reference/20a_preferences.md) has the table with TRL's names.

# %%
# Your turn: ipo, kto, orpo or simpo (beta 2). One seed only, so it is a look, not a comparison.
other = lab.run(base.but(loss_type="orpo", learning_rate=3e-4), live=False)
{name: round(other.after[name], 2) for name in ("exact", "val_accuracy", "kl")}

# %% [markdown]
# ## At 135M
#
# SmolLM2 answers in sentences, so its exact match of 0 is about form, not knowledge.

# %%
from ftkit.teaching import at_135m

at_135m("preferences", verdict)

# %% [markdown]
# The tested DPO, at 1e-5, moved the model little, so its p says little. The best of DPO's four learning rates,
# 3e-5, reached 0.05 with one seed; SFT's only one, 1e-4, gave 0.34.
#
# ## In practice, 2026
#
# ```python
# from datasets import load_dataset
# from peft import LoraConfig
# from trl import DPOConfig, DPOTrainer
#
# model_id = "Qwen/Qwen3-8B"
# # {"prompt": [{"role": "user", "content": "..."}],
# #  "chosen": [{"role": "assistant", "content": "..."}],
# #  "rejected": [{"role": "assistant", "content": "..."}]}
# pairs = load_dataset("json", data_files="train.jsonl", split="train")
# args = DPOConfig(output_dir="dpo", learning_rate=1e-5, beta=0.1, num_train_epochs=1, bf16=True,
#     model_init_kwargs={"dtype": "bfloat16"},  # frozen weights; TRL's default is float32
#     loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.1],  # the SFT term holds chosen up
#     per_device_train_batch_size=2, gradient_accumulation_steps=32,
#     lr_scheduler_type="cosine", max_length=2048, warmup_steps=0.1)  # a share: transformers 5
# lora = LoraConfig(r=32, lora_alpha=64, target_modules="all-linear")
# trainer = DPOTrainer(model_id, args=args, train_dataset=pairs, peft_config=lora)
# trainer.train()
# ```
#
# The reference is the same model with the new adapter switched off. Merge an SFT adapter first: "off"
# must mean the model after SFT. Usual values, a `RewardTrainer` and pitfalls are on the
# [reference page](reference/20a_preferences.md).

# %% [markdown]
# ## Interview
#
# **Explain the DPO loss. What is its value at step 0?**
# <details><summary>Answer</summary>
# −log σ(β · [log(π/π_ref) of the chosen answer − the same of the rejected one]): logistic regression
# on an implicit reward, without reward model and sampling. The best policy under reward − β · KL is
# proportional to π_ref · exp(reward / β); solve for the reward, and the normalizer cancels in the pair. At
# step 0 the policy equals the reference (without dropout), so every margin is 0 and the loss is
# ln 2 = 0.693.
# </details>
#
# **Reward accuracy is near 100 %, outputs are worse. Why?**
# <details><summary>Answer</summary>
# Even on held-out pairs a surface feature such as length can suffice. The loss only needs the gap:
# both log-probabilities can fall, the rejected one faster, and probability goes to unrated answers.
# Check chosen log-probability, length, KL and held-out samples. Lower the learning rate or stop early;
# then raise β, add an SFT term, or draw pairs from the policy.
# </details>

# %% [markdown]
# **How do you evaluate a reward model before you trust it?**
# <details><summary>Answer</summary>
# Accuracy on held-out pairs, by source and by difficulty; calibration of its margins; and pairs in which
# a surface feature and quality disagree: length, format, confidence, agreement with the user. A trivial rule,
# such as "the shorter answer wins", is the baseline. Then the use: best-of-n with a measure that it has not
# seen, since errors that are rare in the data become common among the highest scores.
# </details>
#
# ## Recap
#
# - A reward model learns the features that tell the pairs apart. Test it where length and quality disagree.
# - DPO rewards the gap: log chosen and rejected apart, and the KL with every run.
# - The claim fails: at 10 x most new pairs were ranked right, while fewer answers were.
# - SFT on the chosen answers is the control. Here it won.
#
# In the package: [preference_losses.py](../ftkit/experiment/preference_losses.py),
# [reward_model.py](../ftkit/lessons/by_hand/reward_model.py). Next: [20b rewards](20b_rewards.ipynb).

# %%
ft.progress("20a")
