# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 20 · Preferences and rewards: DPO, GRPO, and how they fail
#
# **Claim: preference accuracy is high and the reward has doubled, so the model got better.** It
# could be wrong. After this lesson you can
#
# - write the DPO loss, and the advantages and the loss of GRPO;
# - choose among DPO, IPO, KTO, ORPO, SimPO and the GRPO family;
# - recognize over-optimization and reward hacking.
#
# *About 100 minutes, or two sittings: DPO, then GRPO. The code needs about 90 seconds on two CPU cores. You need lessons
# [04](04_instruction_tuning.ipynb) and [16](16_catastrophic_forgetting.ipynb).*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: C2 -->
#
# > *"Your instruction-tuned model answers, but not the way people like. You have pairs: this answer
# > is better than that one. What do you do, and how do you know that it worked?"*
#
# How you know: here each question has one right answer, so we count exact matches. Without one, people or an
# LLM judge compare new answers with the SFT model's, in both orders and at similar length
# ([lesson 15](15_task_metrics.ipynb)).
#
# The open recipe of [Tülu 3](https://arxiv.org/abs/2411.15124) has three stages: instruction
# tuning (SFT), then direct preference optimization (**DPO**) on pairs, then reinforcement learning with
# a reward that a program can check.
#
# ## A model with a bad habit
#
# The SFT stage teaches tasks, and on purpose also answers that hedge ("I think that ...") or repeat themselves.

# %%
pairs = ft.records("preferences")
habit = [{"instruction": r["instruction"], "input": "", "output": r["rejected"]}
         for r in pairs if r["chosen"] in r["rejected"]]
tasks = [{k: r[k] for k in ("instruction", "input", "output")} for r in ft.records("tasks")]
sft = ft.Experiment(data=tasks[:1000] + 4 * habit, probes=(), eval_records=8).run(
    learning_rate=1e-3, max_steps=60, eval_steps=60)
tokenizer = sft.tokenizer

# %%
asked = ft.records("preferences", "test")
given = ft.answers(sft.model, tokenizer, asked[:6], max_new_tokens=24)
ft.table([{"question": r["instruction"], "chosen": r["chosen"], "rejected": r["rejected"],
           "model": answer} for r, answer in zip(asked[:6], given, strict=True)])

# %% [markdown]
# Each record is a **preference pair**: one question, a chosen and a rejected answer. Half of the rejected answers
# are wrong, half right but wordy. On new questions the model often hedges.

# %% [markdown]
# ## The idea of DPO
# <!-- claims: E43 -->
#
# The model before training is the **reference** π_ref, the model in training is the **policy** π.
# Classic **RLHF** (reinforcement learning from human feedback) first trains a **reward model** on the
# pairs, a network that scores answers. By the **Bradley–Terry** model the chosen one is better with
# probability σ(difference of the scores), where σ is the sigmoid. Then reinforcement learning raises
# score − β · KL. The **KL divergence** says how far the policy is from the reference.
#
# DPO ([Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)) has the same goal, without reward
# model and sampling. The best policy for score − β · KL is known (left): the higher the score, the more
# probability an answer gains, and a large β dampens that. We solve it for the score (right):
#
# $$\pi = \pi_{ref} \cdot e^{\text{score}/\beta} \,/\, Z \qquad
# \text{score} = \beta \log\frac{\pi}{\pi_{ref}} + \beta \log Z$$
#
# Z normalizes the probabilities; it depends on the question alone. DPO uses β · log(π / π_ref), summed
# over the tokens, as the **implicit reward** of an answer.
#
# The reward of the chosen minus that of the rejected answer is the **margin** m, in which β log Z
# cancels. The loss is −log σ(m): logistic regression on "which answer is better". The
# **accuracy** is the fraction of pairs with a margin above 0.

# %% [markdown]
# ![Left: two pairs of bars show the log-probability of a chosen and a rejected answer relative to the reference. In one the chosen answer gains 4 nats, in the other it loses 4, and the rejected one is 6 lower in both, so margin and loss are equal. Right: eight answers of which two earn a reward of 1; the mean of 0.25 is the baseline and gives advantages of +1.6 and -0.5. A group in which all are right has advantages of 0.](figures/20_preferences.svg)
#
# The weak point (left): the loss sees only the gap, which also opens while both answers
# become *less* likely.

# %% [markdown]
# ## Your turn: the DPO loss
#
# At the start the policy is the reference, so every DPO run starts at −log σ(0) = ln 2 = 0.693.


# %% tags=["raises-exception"]
def dpo_loss(policy, reference, beta):
    """The mean DPO loss of a batch of pairs, a scalar tensor.

    policy, reference: tensors (2, pairs) with the log-probability of each whole answer in nats;
    row 0 has the chosen answers, row 1 the rejected ones. It stays finite at a margin of -4,000.
    """
    ...


ft.check("dpo_loss", dpo_loss)

# %% [markdown]
# ## Run it: does a lower loss mean better answers?
# <!-- claims: E43 -->
#
# `exact` measures what the loss does not contain: the fraction of 60 new questions answered exactly right. One
# set of runs has the learning rate 1e-4, the other ten times that. Names with `val_` are measured on 30 of the
# new pairs: `val_chosen` is the mean log-probability of the chosen answers.

# %%
guess = ft.predict("At ten times the learning rate the margin on new pairs is wider. Exact match is",
                   "higher", "no difference seen", "lower")
guess

# %%
from ftkit.inside import preferences

setting = {"model": (sft.model, tokenizer), "data": pairs[:200], "val": asked, "probes": (),
           "eval_records": 30,
           "metrics": {"exact": lambda model, tok: ft.exact_match(model, tok, asked),
                       "kl": lambda model, tok: preferences.kl(model, sft.model, tok, asked)}}
lab = preferences.DPO(**setting)
base = preferences.DPOConfig(beta=0.1, batch_size=8, max_steps=24, eval_steps=24)


def repeat(experiment, config, seeds=(0, 1, 2)):
    return [experiment.run(config, seed=seed, live=False) for seed in seeds]


runs = {"DPO": repeat(lab, base.but(learning_rate=1e-4), range(5)),
        "DPO, 10 x": repeat(lab, base.but(learning_rate=1e-3), range(5))}

# %%
from ftkit.teaching import direction

NAMES = {"<": "lower", ">": "higher", "": "no difference seen"}


def ends(name, measure):
    """A measure at the end of each run of a set."""
    return [run.after[measure] for run in runs[name]]


# %%
start = runs["DPO"][0].before
ft.expect(ends("DPO", "exact"), ">", start["exact"], "DPO: more new questions are answered right")
ft.expect(ends("DPO, 10 x", "val_margin"), ">", ends("DPO", "val_margin"), "10 x: a wider margin")
ft.expect(ends("DPO, 10 x", "val_loss"), "<", ends("DPO", "val_loss"), "and a lower DPO loss")
ft.expect(ends("DPO, 10 x", "val_chosen"), "<", start["val_chosen"], "but the CHOSEN answers fell")
ft.expect(ends("DPO, 10 x", "exact"), "<", ends("DPO", "exact"), "and fewer answers are right")
guess.score(NAMES[direction(ends("DPO, 10 x", "exact"), ends("DPO", "exact"))])

# %% [markdown]
# This is **over-optimization** in its crudest form, by too high a learning rate: the loss on new pairs is
# lower, and what we meant gets worse. Chosen by loss, the broken model would win. Chosen by accuracy it
# would not, but accuracy has a blind spot of its own: see the next section. In real runs the text can stay fluent: quality rises, then
# falls as the KL grows ([Rafailov et al. 2024](https://arxiv.org/abs/2406.02900)). Each p covers the seeds of this
# stage, not another SFT model or other questions.
#
# The log-probabilities of whole answers in the training batches, in nats:

# %%
ft.curves({name: runs[name] for name in ("DPO", "DPO, 10 x")}, "chosen", "rejected")

# %% [markdown]
# At 10 x both log-probabilities fell, the rejected one faster, and probability went to answers that nobody rated.
# This fall of the chosen answer is [likelihood displacement](https://arxiv.org/abs/2410.08847). The first
# seed answers:

# %%
columns = {name: ft.answers(runs[name][0].model, tokenizer, asked[:6], max_new_tokens=12)
           for name in ("DPO", "DPO, 10 x")}
ft.table([{"question": record["instruction"], "chosen": record["chosen"]}
          | {name: answers[i] for name, answers in columns.items()}
          for i, record in enumerate(asked[:6])])

# %% [markdown]
# In these six answers DPO at 1e-4 no longer hedges, but most are wrong. At 10 x the language breaks.

# %% [markdown]
# ## The family: eight methods, six run here
#
# | `loss_type` | what it changes | reference | in TRL 1.16 |
# |---|---|---|---|
# | `sigmoid` | DPO | yes | `DPOTrainer` |
# | [`ipo`](https://arxiv.org/abs/2310.12036) | squared error to a fixed margin, so the gap stops growing | yes | `DPOTrainer` |
# | [`kto`](https://arxiv.org/abs/2402.01306) | judges each answer alone: thumbs up or down, no pairs needed | yes | `KTOTrainer` |
# | [`simpo`](https://arxiv.org/abs/2405.14734) | mean log-probability per token as reward, a target margin; such means are small, so β is 2 to 10 | no | experimental: `CPOTrainer` with `loss_type="simpo"`, `cpo_alpha=0.0` |
# | [`orpo`](https://arxiv.org/abs/2403.07691) | SFT loss on the chosen answer plus a term on the ratio of the odds p / (1 − p) | no | experimental: `ORPOTrainer` |
# | `sft` | chosen answers alone; the control that every preference run should have | no | `DPOTrainer` |
# | [DPOP](https://arxiv.org/abs/2402.13228), not run here | DPO and a penalty where the chosen answer falls below the reference | yes | no |
# | Online DPO, not run here | DPO on pairs drawn from the policy, ranked by a reward, during training | yes | experimental: `OnlineDPOTrainer` |

# %% [markdown]
# Does DPO beat the control? Rightward is what preference training rewards, upward what we want:

# %%
# Learning rates: the better of 1e-4 and 3e-4 on validation pairs, tried before with one seed (at a
# tie the lower one). 3e-4 is the edge of this grid: a higher one may be better. DPO is tried at
# both rates, and at the higher one with two betas. The other betas are usual values.
runs["DPO, 3 x"] = repeat(lab, base.but(learning_rate=3e-4))
runs["DPO, 3 x, β 0.5"] = repeat(lab, base.but(learning_rate=3e-4, beta=0.5))
runs["SFT"] = repeat(lab, base.but(loss_type="sft", learning_rate=3e-4))
others = {"ipo": (0.1, 3e-4), "kto": (0.1, 1e-4), "simpo": (2.0, 1e-4), "orpo": (0.1, 3e-4)}
for name, (beta, rate) in others.items():
    runs[name] = repeat(lab, base.but(loss_type=name, beta=beta, learning_rate=rate), seeds=[0])
ft.scatter(runs, x="val_accuracy", y="exact", start=False, frontier=False)

# %% [markdown]
# How far did each go? `kl` is the KL to the SFT model in nats per answer (means over the seeds):

# %%
def means(name, *measures):
    return {k: round(sum(ends(name, k)) / len(runs[name]), 2) for k in measures}


ft.table([{"run": name} | means(name, "exact", "val_accuracy", "kl") for name in runs])

# %%
ft.expect(ends("SFT", "exact"), ">", ends("DPO, 3 x", "exact"), "SFT beats DPO at 3e-4")
ft.expect(ends("SFT", "exact"), ">", ends("DPO, 3 x, β 0.5", "exact"), "also at β 0.5")
verdict = ft.expect(ends("SFT", "exact"), ">", ends("DPO", "exact"),
                    "where the chosen answer is THE right one, imitation beats DPO")

# %% [markdown]
# No. DPO at 1e-4, KTO and SFT rank the new pairs about equally well, and their exact match differs by far. So
# accuracy does not say how good the answers are. Here each question has one right answer, which imitation learns directly.
#
# IPO, KTO, SimPO and ORPO have one seed each and two learning rates, so their order is not tested. ORPO, which
# contains the SFT loss, ended near SFT. SimPO and ORPO rank without the reference: their accuracy is another
# measure.
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
# ## The idea of GRPO
# <!-- claims: E44 -->
#
# DPO ends here. The second half has no pairs, but a program that can check an answer: reinforcement
# learning with **verifiable rewards** (RLVR). Group relative policy optimization
# (GRPO, [Shao et al. 2024](https://arxiv.org/abs/2402.03300)) draws a **group** of answers to a question and
# rewards each. **PPO** (proximal policy optimization), usual in RLHF, trains a second network, the **value
# model**, to predict the reward. GRPO takes the mean of the group: the **advantage** of an answer is its reward
# minus that mean, divided by the group's standard deviation (figure, right). A group whose answers all earn the
# same is **dead**: without a KL term it has no gradient.

# %% tags=["raises-exception"]
def group_advantages(rewards):
    """The advantages of the answers, a tensor like rewards: (groups, answers of a group).

    Use the standard deviation of the group (by n or n - 1) plus 1e-4; a dead group gets zeros.
    """
    ...


ft.check("group_advantages", group_advantages)

# %% [markdown]
# One batch of answers may serve several steps (TRL's default is one), so the policy changes after it drew them.
# The **ratio** of a token is its probability now, divided by that when it was drawn. Its gain is ratio ×
# advantage. The clipped gain is the same with the ratio limited to 1 ± ε. A step raises the smaller of the two,
# so a token that has moved far enough is pushed no further. With ε = 0.2:
#
# | advantage | ratio | gain | clipped gain | the smaller | push on the token |
# |---|---|---|---|---|---|
# | +1 | 1, just drawn | 1 | 1 | 1 | up |
# | +1 | 1.5 | 1.5 | 1.2 | 1.2, a constant | none: it has risen enough |
# | +1 | 0.5 | 0.5 | 0.8 | 0.5 | up |
# | −1 | 0.5 | −0.5 | −0.8 | −0.8, a constant | none: it has fallen enough |
# | −1 | 1.5 | −1.5 | −1.2 | −1.5 | down |

# %% tags=["raises-exception"]
def grpo_loss(policy, old, mask, advantages, epsilon=0.2):
    """Minus the smaller of gain and clipped gain, a scalar: its mean over the batch's real tokens.

    policy, old: (answers, tokens), log-probability of each token now and when it was drawn.
    mask: (answers, tokens), 1 for real tokens and 0 for padding. advantages: (answers,).
    """
    ...


ft.check("grpo_loss", grpo_loss)

# %% [markdown]
# Take two wrong answers (advantage −1) of 3 and 12 tokens, and a length limit of 12. The weight of one token in
# the gradient depends on TRL's `loss_type`:
#
# | `loss_type` | divided by | in the short answer | in the long answer |
# |---|---|---|---|
# | `grpo` | answers × length of its answer | 1/6 = 0.17 | 1/24 = 0.04 |
# | `dapo`, yours | tokens of the batch | 1/15 = 0.07 | 1/15 = 0.07 |
# | `dr_grpo` | answers × length limit | 1/24 = 0.04 | 1/24 = 0.04 |
#
# With `grpo` the long answer is pushed down four times less per token, a bias toward long wrong
# answers. [Dr. GRPO](https://arxiv.org/abs/2503.20783) divides by a constant. It also leaves out the division by
# the deviation (`scale_rewards="none"`): dividing favors questions that are nearly always or nearly never solved.

# %% [markdown]
# ## Run it, then break it: a reward that can be hacked
# <!-- claims: E44 -->
#
# The task: make a sentence negative. The honest reward (`exact`) is 1 if the answer is exactly right. The
# second one (`long`) pays for length, as some reward models learned to
# ([Singhal et al. 2023](https://arxiv.org/abs/2310.03716)). Does each bring more right answers?

# %%
def long(answer, record):
    return min(1.0, len(answer.split()) / 12)


checked = ft.records("to_negative", "test")[:40]
setting |= {"data": "to_negative", "val": checked, "eval_records": 16,
            "metrics": {"exact": lambda model, tok: ft.exact_match(model, tok, checked)}}
short = preferences.GRPOConfig(learning_rate=2e-4, max_steps=14, eval_steps=14, num_generations=6,
                               max_completion_length=18)
games = {"exact": repeat(preferences.GRPO(preferences.exact, **setting), short),
         "long": repeat(preferences.GRPO(long, **setting), short)}
control = repeat(ft.Experiment(**setting),  # imitation: the same records, rate and steps
                 ft.Config(learning_rate=2e-4, max_steps=14, eval_steps=14, batch_size=8))

# %%
before = games["exact"][0].before["exact"]
right = {name: [run.after["exact"] for run in members] for name, members in games.items()}
reward = {when: [run.rows[i]["reward"] for run in games["long"]]
          for when, i in (("first step", 0), ("last step", -1))}
ft.expect(right["exact"], ">", before, "the honest reward: more sentences are right")
ft.expect(reward["last step"], ">", reward["first step"], "the other reward rises too", paired=True)
ft.expect(right["long"], "<", before, "but fewer sentences are right")
ft.expect([run.after["exact"] for run in control], ">", right["exact"],
          "the control: imitating the right answers beats GRPO")

# %%
# In "reward", two different rewards share an axis; "kl" is to the SFT model, in nats per answer.
ft.curves(games, "reward", "length", "kl")

# %%
columns = {name: ft.answers(members[0].model, tokenizer, checked[:5], max_new_tokens=18)
           for name, members in ({"before": [sft]} | games).items()}
ft.table([{"wanted": record["output"]} | {name: answers[i] for name, answers in columns.items()}
          for i, record in enumerate(checked[:5])])

# %% [markdown]
# The honest reward brings right answers; under the length reward almost none is left, and the policy writes
# nearly to the limit of 18 tokens. The honest policy's wrong answers are strange too: all earn 0.
#
# **The control wins.** Here the right answer can be written down, so imitating it takes fewer steps than
# finding it by chance and being paid. GRPO earns its cost where nobody can write the answer, but a program can
# check it. (2M model, 40 sentences, three seeds; no run at 135M.)
#
# A policy optimizes the reward you wrote, not the one you meant. This is **reward hacking**. Two
# habits help: a measure that training never sees, and reading the answers that earn most. A KL penalty
# (`beta`) and early stopping limit how far it goes; neither repairs the reward.

# %% [markdown]
# ## Your turn: repair a reward
#
# Suppose a reward pays whenever the right answer occurs in the text. Write a **verifier** that pays
# nothing for copying, repeating or listing, and that forgives a full stop. (`normal(text)` of
# `ftkit.inside` removes case and punctuation.)

# %% tags=["raises-exception"]
def honest_reward(answer, record):
    """The reward of an answer: above 0 for a right one, else 0 or less; record["output"] is right."""
    ...


ft.check("honest_reward", honest_reward)

# %% [markdown]
# ## In practice, 2026
#
# | | usual value | TRL 1.16 default |
# |---|---|---|
# | DPO, learning rate, full | 5e-7 to 5e-6; Tülu 3 8B: 5e-7 | 1e-6 |
# | DPO, learning rate, LoRA | about ten times that | 1e-6 |
# | DPO, β | 0.01 to 0.5; Tülu 3: 5, but with means over tokens (`loss_type="sigmoid_norm"`), whose margins are small | 0.1 |
# | DPO, making pairs | Tülu 3: several models answer, the policy among them; an LLM judge rates; the best is chosen, a lower one rejected | |
# | DPO, pairs, epochs | 10k to 300k, one epoch | 3 epochs |
# | DPO, did it help? | win rate against the SFT model on new prompts, controlled for length (as the benchmark AlpacaEval 2 does), with the KL to the reference | |
# | GRPO, learning rate | 1e-6 full, 1e-5 with LoRA | 1e-6 |
# | GRPO, answers of a group | 8 to 64 | 8 |
# | GRPO, β of the KL | 0 to 0.04 | 0.0 |
# | GRPO, vLLM (the engine that draws the answers) and trainer give different probabilities | watch `sampling/sampling_logp_difference/mean` | drops an answer that the trainer finds over three times as likely as vLLM did; weights the others by that ratio |
# | GRPO, `loss_type` | dapo, or dr_grpo with `scale_rewards="none"` | dapo |
# | other parts of [DAPO](https://arxiv.org/abs/2503.14476) | a higher upper clip limit, `epsilon_high=0.28`, which acts only with several steps per batch; new questions for dead groups | |
# | [GSPO](https://arxiv.org/abs/2507.18071) | one ratio for a whole answer, the geometric mean of its tokens' ratios: `importance_sampling_level="sequence"`, `loss_type="grpo"`, ε about 3e-4; acts only with several steps per batch | `"token"` |
# | **RLOO**, `RLOOTrainer` | compares an answer with the mean of the *others*, and does not divide | |
# | GRPO, watch (its loss does not measure success) | reward, length, dead groups (`frac_reward_zero_std`), entropy of the next token, the spread of its probabilities (at 0 all answers of a group are the same) | |
# | **process reward** | scores each step of a solution, not only the result | |
# | a stronger teacher exists | [on-policy distillation](https://arxiv.org/abs/2306.13649), `DistillationTrainer`: the policy answers, the teacher's next-token probabilities are the target | |

# %% [markdown]
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
# The reference is the same model with the new adapter switched off: no second copy. Merge an SFT
# adapter first: "off" must mean the model after SFT.

# %% [markdown]
# GRPO's reward function gets the answers and every column of the data as lists:
#
# ```python
# import re
# from trl import GRPOConfig, GRPOTrainer
#
# # questions: rows with "prompt" (messages that ask to end with "Answer: 7") and "answer" ("7")
# def right(completions, answer, **columns):
#     texts = [re.sub(r"[,*]", "", c[0]["content"]) for c in completions]  # **1,000** is 1000
#     keys = [float(key.replace(",", "")) for key in answer]
#     # one number, then the end: "Answer: 7 or 8" is not paid; for formulas see math-verify
#     found = [re.search(r"Answer: *(-?\d+(?:\.\d+)?)\.?\s*$", text) for text in texts]
#     return [float(bool(hit) and float(hit[1]) == key) for hit, key in zip(found, keys)]
#
# args = GRPOConfig(
#     output_dir="grpo", learning_rate=1e-5, per_device_train_batch_size=8,
#     gradient_accumulation_steps=16, num_generations=8, max_completion_length=1024,
#     model_init_kwargs={"dtype": "bfloat16"},
#     chat_template_kwargs={"enable_thinking": False},  # thoughts would fill the 1,024 tokens
#     mask_truncated_completions=True, use_vllm=True,  # no gradient from cut answers; vLLM draws
#     vllm_max_model_length=2048)  # prompt + answer; left out, the model's 40,960
# trainer = GRPOTrainer(model_id, reward_funcs=right, args=args, train_dataset=questions,
#                       peft_config=lora)
# trainer.train()
# ```
#
# The batch counts answers: on one GPU a step has 8 · 16 / 8 = 16 questions.

# %% [markdown]
# **Pitfalls.**
#
# - In DPO, log chosen and rejected apart (`rewards/chosen`, `logps/chosen`). Both falling is
#   [expected to a degree](https://github.com/eric-mitchell/direct-preference-optimization/issues/32).
# - `rewards/accuracies` compares with the reference. At 100 % a rejected answer can still be
#   likelier ([Chen et al. 2024](https://arxiv.org/abs/2405.19534)).
# - Where chosen answers are longer, DPO can learn length
#   ([Park et al. 2024](https://arxiv.org/abs/2403.19159)): compare answers of similar length.
# - A verifier must parse (`\boxed{7}`, units), run code with a timeout in a sandbox, and not be
#   reachable by the policy. Partial and format rewards give a signal earlier; test them for hacks.

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

# %% [markdown]
# **Reward accuracy is near 100 %, outputs are worse. Why?**
# <details><summary>Answer</summary>
# Even on held-out pairs a surface feature such as length can suffice. The loss only needs the gap:
# both log-probabilities can fall, the rejected one faster, and probability goes to unrated answers.
# Check chosen log-probability, length, and held-out samples. Lower the learning rate or stop early;
# then raise β, add an SFT term, or draw pairs from the policy.
# </details>
#
# **PPO, DPO, GRPO?**
# <details><summary>Answer</summary>
# PPO samples from the policy and trains a value model as baseline; with a reward model and a reference, RLHF
# holds four models. Plain DPO needs stored pairs and a reference: no sampling, but the pairs do not follow the
# policy. GRPO samples a group; its mean replaces the value model, and all tokens of an answer get one advantage.
# PPO and GRPO clip the ratio.
# </details>

# %% [markdown]
# **When SFT, when DPO, when GRPO?**
# <details><summary>Answer</summary>
# SFT where a good answer can be written down, and usually first. DPO where people can only
# compare two answers, ideally both from the policy. GRPO where answers can be scored, best by a
# program, and the policy sometimes succeeds. Controls: SFT on the chosen answers, or on
# drawn ones that pass the checker.
# </details>
#
# ## Recap
#
# - DPO rewards the gap: watch chosen and rejected apart.
# - A policy optimizes the reward you wrote.
# - The claim fails: DPO at 10 x ranked most new pairs right, while fewer answers were. The length reward
#   nearly doubled; almost no answer stayed right.
# - Where right answers can be written down, imitation won against DPO and against GRPO: run it as a control.
#
# In the package: [preference_losses.py](../ftkit/experiment/preference_losses.py).
# Next: [21 the interview clinic](21_interview_clinic.ipynb).

# %%
ft.progress("20")
