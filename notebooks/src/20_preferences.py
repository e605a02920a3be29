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
# **Claim: preference accuracy is 100 % and the reward has doubled, so the model got better.** It
# could be wrong. After this lesson you can
#
# - write the DPO loss, the advantages and the loss of GRPO;
# - read what a run records: margin, accuracy, and the log-probability of chosen **and** rejected;
# - choose among DPO, IPO, KTO, ORPO, SimPO and the GRPO family;
# - recognize over-optimization and a reward that is being hacked.
#
# *About 50 minutes. The code needs a minute and a half on two CPU cores. You need lessons
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
# The open recipe of [Tülu 3](https://arxiv.org/abs/2411.15124) has three stages: instruction
# tuning (SFT), then **DPO** on pairs, then reinforcement learning with a reward that a program can
# check. The order is not mandatory: [DeepSeek-R1-Zero](https://arxiv.org/abs/2501.12948)
# applied reinforcement learning to a base model without SFT.
#
# ## A model with a bad habit
#
# We train one on purpose. It learns tasks, and also answers that hedge or repeat themselves.

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
# Each record is a **preference pair**: one question, a chosen and a rejected answer. Half of the
# rejected answers are wrong, half are right but wordy. The questions in the table were in no
# training record, and the model hedges on many of them.

# %% [markdown]
# ## The idea of DPO
# <!-- claims: E43 -->
#
# The log-probability of an **answer** is the sum over its tokens. The model before training is the
# **reference** π_ref; the model in training is the **policy** π. Classic **RLHF** trains a **reward
# model** on the pairs, a network that scores an answer: P(chosen is better) = σ(difference of the
# scores), the **Bradley–Terry** model, where σ is the sigmoid. Then reinforcement learning raises
# score − β · KL. The **KL divergence** says how far the policy is from the reference, so a larger β
# holds it closer.
#
# DPO ([Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)) has the same goal, without reward
# model and sampling. It uses β · log(π / π_ref) as the **implicit reward** of an answer. The reward
# of the chosen minus that of the rejected answer is the **margin** m, and the loss is −log σ(m):
# logistic regression on "which answer is better".

# %% [markdown]
# ![Left: two pairs of bars show the log-probability of a chosen and a rejected answer relative to the reference. In one the chosen answer gains 4 nats, in the other it loses 4, and the rejected one is 6 lower in both, so margin and loss are equal. Right: eight answers of which two earn a reward of 1; the mean of 0.25 is the baseline and gives advantages of +1.6 and -0.5. A group in which all are right has advantages of 0.](figures/20_preferences.svg)
#
# The left half shows the weak point: the loss is satisfied by any gap, also by one that opens
# while both answers become *less* likely.

# %% [markdown]
# ## Your turn: the DPO loss


# %% tags=["raises-exception"]
def dpo_loss(policy, reference, beta):
    """The mean DPO loss of a batch of pairs, a scalar tensor.

    policy, reference: tensors (2, pairs) with the log-probability of each whole answer in nats;
    row 0 has the chosen answers, row 1 the rejected ones. It stays finite at a margin of -4,000.
    """
    ...


ft.check("dpo_loss", dpo_loss)

# %% [markdown]
# If you get stuck: `ft.hint("dpo_loss")`, then `ft.solution("dpo_loss")`. The lesson continues with
# the package's loss. We take log-probabilities of four pairs and move them as in the figure.

# %%
import torch

from ftkit.experiment import preference_losses, preferences

reference = torch.tensor([[-0.9, -4.7, -7.7, -6.2], [-12.4, -8.5, -12.0, -11.1]])
moves = {"the reference itself": (0.0, 0.0), "chosen +4, rejected -2": (4.0, -2.0),
         "chosen -4, rejected -10": (-4.0, -10.0)}
rows = []
for name, move in moves.items():
    policy = reference + torch.tensor(move)[:, None]
    loss, measures = preferences.dpo_loss(policy, reference, beta=0.1)
    rows.append({"policy": name, "loss": loss.item()} | measures)
ft.table(rows)

# %% [markdown]
# The reference itself has a loss of ln 2 = 0.693: every DPO run starts there. Its margins are all
# 0, so no chosen answer is ahead and the **accuracy**, the fraction of pairs with a positive
# margin, is 0. The other two rows have the same loss, margin and accuracy. Only the columns
# `chosen` and `rejected`, mean log-probabilities, show that one of them got worse.

# %% [markdown]
# ## Run it: how much is too much?
# <!-- claims: E43 -->
#
# We add a measure that the loss does not contain: `exact`, the fraction of new questions answered
# exactly right. `general_loss` is the loss on plain prose, a sign of forgetting. The first arm has
# the learning rate 1e-4, the second ten times as much. Names that begin with `val_` are measured on
# new pairs.

# %%
guess = ft.predict("At ten times the learning rate the margin on new pairs is wider. Exact match is",
                   "higher", "no difference seen", "lower")
guess

# %%
setting = {"model": (sft.model, tokenizer), "data": pairs[:200], "val": asked, "eval_records": 30,
           "metrics": {"exact": lambda model, tok: ft.exact_match(model, tok, asked)}}
lab = preferences.DPO(**setting)
base = preferences.DPOConfig(beta=0.1, batch_size=8, max_steps=24, eval_steps=24)


# %%
def repeat(experiment, config, seeds=(0, 1, 2)):
    return [experiment.run(config, seed=seed, live=False) for seed in seeds]


runs = {"DPO": repeat(lab, base.but(learning_rate=1e-4), range(5)),
        "DPO, 10 x": repeat(lab, base.but(learning_rate=1e-3), range(5))}

# %%
def ends(name, measure):
    """A measure at the end of each run of an arm."""
    return [run.after[measure] for run in runs[name]]


def arms_table():
    keys = ["val_accuracy", "val_margin", "val_chosen", "val_rejected", "exact", "general_loss"]
    start = runs["DPO"][0].before
    return ft.table([{"arm": "before"} | {key: start[key] for key in keys}]
                    + [{"arm": name} | {key: ends(name, key) for key in keys} for name in runs])


arms_table()

# %%
from ftkit.lessons.claims import direction

NAMES = {"<": "lower", ">": "higher", "": "no difference seen"}

# %%
start = runs["DPO"][0].before
ft.expect(ends("DPO", "exact"), ">", start["exact"], "DPO: more new questions are answered right")
ft.expect(ends("DPO, 10 x", "val_margin"), ">", ends("DPO", "val_margin"), "10 x: a wider margin")
ft.expect(ends("DPO, 10 x", "val_loss"), "<", ends("DPO", "val_loss"), "and a lower DPO loss")
ft.expect(ends("DPO, 10 x", "val_chosen"), "<", start["val_chosen"], "but the CHOSEN answers fell")
ft.expect(ends("DPO, 10 x", "exact"), "<", ends("DPO", "exact"), "and fewer answers are right")
guess.score(NAMES[direction(ends("DPO, 10 x", "exact"), ends("DPO", "exact"))])

# %% [markdown]
# This is **over-optimization**: the loss on new pairs is lower, and what we meant gets worse.
# By that loss we would have chosen the broken model; its accuracy, 0.87 against 1.00, gave a warning.
# Both log-probabilities fell, the rejected one faster, and probability went to answers that nobody
# rated. The fall of the chosen answer is called
# [likelihood displacement](https://arxiv.org/abs/2410.08847).
#
# The training batches, in nats of a whole answer:

# %%
ft.curves({name: runs[name] for name in ("DPO", "DPO, 10 x")}, "chosen", "rejected")

# %% [markdown]
# Answers of the first seed of each arm:

# %%
models = {"before": sft.model, "DPO": runs["DPO"][0].model, "DPO, 10 x": runs["DPO, 10 x"][0].model}
columns = {name: ft.answers(model, tokenizer, asked[:6], max_new_tokens=12)
           for name, model in models.items()}
ft.table([{"question": record["instruction"], "chosen": record["chosen"]}
          | {name: answers[i] for name, answers in columns.items()}
          for i, record in enumerate(asked[:6])])

# %% [markdown]
# In the column `DPO` the hedging is gone; most of the short answers are wrong or no words.

# %% [markdown]
# ## The family: one argument, six losses
#
# | `loss_type` | what it changes | reference |
# |---|---|---|
# | `sigmoid` | DPO | yes |
# | [`ipo`](https://arxiv.org/abs/2310.12036) | squared error to a fixed margin, so the gap stops growing | yes |
# | [`kto`](https://arxiv.org/abs/2402.01306) | judges each answer alone: thumbs up or down, no pairs needed | yes |
# | [`simpo`](https://arxiv.org/abs/2405.14734) | mean log-probability per token as reward, a target margin | no |
# | [`orpo`](https://arxiv.org/abs/2403.07691) | SFT loss on the chosen answer plus an odds-ratio term | no |
# | `sft` | chosen answers alone; the control that every preference run should have | no |

# %% [markdown]
# **DPOP** and "DPO + SFT term" add
# a loss that keeps the chosen answer likely. **Online DPO** draws both answers from the current
# policy and has a judge choose.

# %%
control = ft.predict("SFT on the chosen answers alone, against DPO on the pairs: exact match is",
                     "higher", "no difference seen", "lower")
control

# %%
# Learning rates: the better of 1e-4 and 3e-4 on validation pairs, tried before with one seed (at a
# tie the lower one). The betas are usual values but for ORPO (usual: 0.1); none was searched.
# DPO and SFT have two rates.
runs["DPO, 3 x"] = repeat(lab, base.but(learning_rate=3e-4))
runs["SFT"] = repeat(lab, base.but(loss_type="sft", learning_rate=3e-4))
runs["SFT, 1e-3"] = repeat(lab, base.but(loss_type="sft", learning_rate=1e-3))
others = {"ipo": (0.1, 3e-4), "kto": (0.1, 1e-4), "simpo": (2.0, 1e-4), "orpo": (0.5, 3e-4)}
for name, (beta, learning_rate) in others.items():
    config = base.but(loss_type=name, beta=beta, learning_rate=learning_rate)
    runs[name] = repeat(lab, config)
arms_table()

# %%
ft.expect(ends("SFT", "exact"), ">", ends("DPO, 3 x", "exact"), "SFT beats DPO at its rate, 3e-4")
verdict = ft.expect(ends("SFT", "exact"), ">", ends("DPO", "exact"),
                    "where the chosen answer is THE right one, imitation beats DPO")
control.score(NAMES[direction(ends("SFT", "exact"), ends("DPO", "exact"))])

# %% [markdown]
# DPO ranks all new pairs right in our run and answers fewer questions than SFT. SFT at 1e-3, where
# DPO broke, keeps its answers: the break belongs to the loss as well. The margins have different
# scales, and SimPO and ORPO rank without the reference: compare `exact` and `val_chosen`. Here
# each question has one right answer, so imitating it says all there is, and ORPO contains that SFT
# term. Pairs suit above all questions without a single right answer, where people can only rank.
#
# ## At 135M
#
# The recorded runs ask the same of SmolLM2-135M-Instruct. Its untouched answers are sentences, so an
# exact match of 0 says more about form than about knowledge. The SFT arm learned the short form.

# %%
from ftkit.lessons.at_135m import at_135m

at_135m("preferences", verdict)

# %% [markdown]
# DPO's best rate, 3e-5, reached 0.05 with one seed, also far below SFT, whose rate was not searched.
# From 3e-5 to 1e-4 (one seed each) the chosen answers get less likely, and the rejected ones fall much
# further. But the chosen ones stay above the untouched model's −20.7 nats, as recorded; in our 10 x
# arm they fell below the start.
#
# Tülu 3 (8B and 70B) gained from DPO after SFT, with answers of the policy among the pairs.
# [Xu et al. 2024](https://arxiv.org/abs/2404.10719) found that well-tuned PPO beats DPO on several tasks.

# %% [markdown]
# ## The idea of GRPO
# <!-- claims: E44 -->
#
# Now there are no pairs, but a program that can check an answer: reinforcement learning with
# **verifiable rewards** (RLVR). GRPO ([Shao et al. 2024](https://arxiv.org/abs/2402.03300)) draws a
# **group** of answers to a question and rewards each. The **advantage** of an answer is its
# reward minus the group's mean, divided by the group's standard deviation (right half of the
# figure). **PPO**, the usual algorithm of RLHF, trains a second network as baseline, the **value
# model**, which predicts the reward; here the mean replaces it. If all answers of a group earn the
# same, the group is **dead**: without a KL term it has no gradient.

# %% tags=["raises-exception"]
def group_advantages(rewards):
    """The advantages of the answers, a tensor like rewards: (groups, answers of a group).

    Use the standard deviation of the group plus 1e-4; a dead group gets zeros.
    """
    ...


ft.check("group_advantages", group_advantages)

# %% [markdown]
# With `scale_rewards="none"` the division is left out (Dr. GRPO), because it gives more weight to
# questions that are nearly always or nearly never solved. **RLOO** compares an answer with the mean
# of the *others*: n / (n − 1) times the same centered value.
#
# The step raises ratio × advantage. The **ratio** is the probability of a token now, divided by
# that when it was drawn. It starts at 1 and is clipped to 1 ± ε. Of the clipped and the unclipped
# gain the smaller one counts, so an answer that is drawn once and used several times cannot push
# too far. (Our runs use it once, so nothing is clipped.)

# %% tags=["raises-exception"]
def grpo_loss(policy, old, mask, advantages, epsilon=0.2):
    """Minus the clipped gain, a scalar: the mean over all real tokens of the batch.

    policy, old: (answers, tokens), log-probability of each token now and when it was drawn.
    mask: (answers, tokens), 1 for real tokens and 0 for padding. advantages: (answers,).
    """
    ...


ft.check("grpo_loss", grpo_loss)

# %% [markdown]
# The mean can be taken in several ways, and TRL's `loss_type` names them. Take two wrong answers
# (advantage −1), of 3 and of 12 tokens, and look at the gradient of one token:

# %%
mask = torch.tensor([[1.0] * 3 + [0.0] * 9, [1.0] * 12])
rows = []
for loss_type in ("grpo", "dapo", "dr_grpo"):
    config = preferences.GRPOConfig(loss_type=loss_type)
    policy = torch.zeros(2, 12, requires_grad=True)
    preference_losses.grpo(policy, policy.detach(), mask, torch.tensor([-1.0, -1.0]), config,
                           max_tokens=12).backward()
    rows.append({"loss_type": loss_type, "token of the short answer": policy.grad[0, 0].item(),
                 "token of the long answer": policy.grad[1, 0].item()})
ft.table(rows)

# %% [markdown]
# `grpo` averages within each answer first. A wrong answer that is four times as long is pushed down
# four times less per token: a bias toward long wrong answers.
# [Dr. GRPO](https://arxiv.org/abs/2503.20783) divides by a constant, the length limit;
# [DAPO](https://arxiv.org/abs/2503.14476) by the number of tokens in the batch. DAPO also raises
# the upper clip limit (0.28) and draws new questions for dead groups.
# [GSPO](https://arxiv.org/abs/2507.18071) uses one ratio for a whole answer.

# %% [markdown]
# ## Run it, then break it: a reward that can be hacked
# <!-- claims: E44 -->
#
# The task: make a sentence negative. The honest reward is 1 if the answer is exactly right. The
# second one pays for length, as some reward models learned to
# ([Singhal et al. 2023](https://arxiv.org/abs/2310.03716)).

# %%
odds = ft.predict("Rewarded for length, the fraction of right answers on new sentences is",
                  "higher", "no difference seen", "lower")
odds


# %%
def long(answer, record):
    return min(1.0, len(answer.split()) / 12)


# %%
checked = ft.records("to_negative", "test")[:40]
setting |= {"data": "to_negative", "val": checked, "probes": (), "eval_records": 16,
            "metrics": {"exact": lambda model, tok: ft.exact_match(model, tok, checked)}}
short = preferences.GRPOConfig(learning_rate=2e-4, max_steps=14, eval_steps=14, num_generations=6,
                               max_completion_length=18)

# %%
games = {"exact": repeat(preferences.GRPO(preferences.exact, **setting), short),
         "long": repeat(preferences.GRPO(long, **setting), short)}

# %%
before = games["exact"][0].before["exact"]
right = {name: [run.after["exact"] for run in members] for name, members in games.items()}
reward = {when: [run.rows[i]["reward"] for run in games["long"]]
          for when, i in (("first step", 0), ("last step", -1))}
ft.expect(right["exact"], ">", before, "the honest reward: more sentences are right")
ft.expect(reward["last step"], ">", reward["first step"], "the other reward rises too", paired=True)
ft.expect(right["long"], "<", before, "but fewer sentences are right")
odds.score(NAMES[direction(right["long"], before)])

# %%
ft.curves(games, "reward", "length")

# %%
columns = {name: ft.answers(members[0].model, tokenizer, checked[:5], max_new_tokens=18)
           for name, members in games.items()}
ft.table([{"wanted": record["output"]} | {name: answers[i] for name, answers in columns.items()}
          for i, record in enumerate(checked[:5])])

# %% [markdown]
# The policy rewarded for length writes on to the limit. The honest arm also writes strange
# text in some rows: every wrong answer earns 0, so nothing makes it look reasonable.
#
# A policy optimizes the reward you wrote, not the one you meant. This is **reward hacking**. Two
# habits help: a measure that training never sees, and reading the answers that earn most. A
# penalty on the KL divergence (`beta`) and early stopping limit how far it goes; neither repairs the
# reward. [Gao et al. 2022](https://arxiv.org/abs/2210.10760) measured the same with reward models:
# while their score rises, that of the larger model whose labels they learned rises and then falls.

# %% [markdown]
# ## Your turn: repair a reward
#
# `contains` pays whenever the reference occurs in the answer. Write a **verifier** that cannot be
# earned by copying, repeating or listing, and that forgives a full stop.

# %% tags=["raises-exception"]
def honest_reward(answer, record):
    """The reward of an answer, a number above 0 for a right one; record has the key "output"."""
    ...


ft.check("honest_reward", honest_reward)

# %% [markdown]
# ## What if?
#
# A lazy check: the answer contains *not*. Right sentences pass it, and so does "not not not". The
# reward cannot distinguish them, so exact match may rise, stay or fall with the seed. Change the
# seed, or a KL weight (`beta=0.05`), or `temperature=0.7`.

# %%
lazy = preferences.GRPO(lambda answer, record: float("not" in answer.split()), **setting)
mine = lazy.run(short, seed=0, beta=0.0)
ft.table([{"exact before": before, "exact after": mine.after["exact"],
           "reward": mine.rows[-1]["reward"], "dead groups": mine.rows[-1]["dead"]}])

# %% [markdown]
# ## In practice, 2026
#
# | | usual value | TRL 1.16 default |
# |---|---|---|
# | DPO, learning rate, full | 5e-7 to 5e-6; Tülu 3 8B: 5e-7 (length-normalized, β = 5) | 1e-6 |
# | DPO, learning rate, LoRA | about ten times that | 1e-6 |
# | DPO, β | 0.01 to 0.5 | 0.1 |
# | pairs, epochs | 10k to 300k, one epoch | 3 epochs |
# | GRPO, learning rate | 1e-6 full, 1e-5 with LoRA | 1e-6 |
# | GRPO, answers of a group | 8 to 64 | 8 |
# | GRPO, β of the KL | 0 to 0.04 | 0.0 |
# | GRPO, `loss_type` | dapo, or dr_grpo with `scale_rewards="none"` | dapo |

# %% [markdown]
# Do not copy our small model's learning rates, 20 times the full ones or more.
# In TRL, `sigmoid`, `ipo` and `sft` belong to `DPOTrainer`, and KTO has a `KTOTrainer`. ORPO and SimPO
# (in CPO's trainer) are in `trl.experimental`.

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
# args = DPOConfig(
#     output_dir="dpo", learning_rate=1e-5, beta=0.1, num_train_epochs=1, bf16=True,
#     model_init_kwargs={"dtype": "bfloat16"},  # frozen weights; TRL's default is float32
#     loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.1],  # the SFT term holds chosen up
#     per_device_train_batch_size=2, gradient_accumulation_steps=32,
#     lr_scheduler_type="cosine", warmup_steps=0.1, max_length=2048)
# lora = LoraConfig(r=32, lora_alpha=64, target_modules="all-linear")
# trainer = DPOTrainer(model_id, args=args, train_dataset=pairs, peft_config=lora)
# ```
#
# With a new adapter the reference is the same model with the adapter switched off, so it costs no
# second copy in memory. Merge an SFT adapter first: "off" must mean the model after SFT.

# %% [markdown]
# GRPO's reward function gets the answers and every column of the data as lists:
#
# ```python
# import re
# from trl import GRPOConfig, GRPOTrainer
#
# # questions: rows with "prompt" (messages that ask to end with "Answer: 7") and "answer" ("7")
# def right(completions, answer, **columns):
#     found = [re.findall(r"Answer: *(-?[\d.]*\d)", c[0]["content"]) for c in completions]
#     return [float(numbers[-1:] == [key]) for numbers, key in zip(found, answer)]
#
# args = GRPOConfig(
#     output_dir="grpo", learning_rate=1e-5, per_device_train_batch_size=8,
#     gradient_accumulation_steps=16, num_generations=8, max_completion_length=1024,
#     model_init_kwargs={"dtype": "bfloat16"}, chat_template_kwargs={"enable_thinking": False},
#     mask_truncated_completions=True, use_vllm=True, vllm_mode="colocate")
# trainer = GRPOTrainer(model_id, reward_funcs=right, args=args, train_dataset=questions,
#                       peft_config=lora)
# ```
#
# The batch counts answers: on one GPU a step has 8 · 16 / 8 = 16 questions.
# Qwen3 thinks by default; 1,024 tokens would then cut off many answers, which the mask leaves out of
# the loss.

# %% [markdown]
# Pitfalls:

# %% [markdown]
# - In DPO, log chosen and rejected apart (`rewards/chosen`, `logps/chosen`). Both falling is
#   [expected to a degree](https://github.com/eric-mitchell/direct-preference-optimization/issues/32).
# - Where chosen answers are longer, DPO learns length
#   ([Park et al. 2024](https://arxiv.org/abs/2403.19159)): compare answers of similar length.
# - vLLM's probabilities differ a little from the trainer's; TRL corrects this mismatch by importance weights.
# - GRPO's loss does not measure success. Watch reward, dead groups (`frac_reward_zero_std`), length
#   and the entropy of the next token: at 0 exploration ends.
# - A verifier must parse (boxed answers, units), run code with a timeout in a sandbox, and not be
#   reachable by the policy.

# %% [markdown]
# ## Interview
#
# **Explain the DPO loss. What is its value at step 0?**
# <details><summary>Answer</summary>
# −log σ(β · [log(π/π_ref) of the chosen answer − the same of the rejected one]): logistic regression
# on an implicit reward, without reward model and sampling. At step 0 the policy equals
# the reference (without dropout), so every margin is 0 and the loss is ln 2 = 0.693.
# </details>

# %% [markdown]
# **Reward accuracy is near 100 %, outputs are worse. Why?**
# <details><summary>Answer</summary>
# Ask first: on which pairs? On training pairs it says little; on held-out ones a surface feature
# such as length can suffice. And the loss only needs the gap: both log-probabilities can fall, the
# rejected one faster, and probability goes to unrated answers. Check chosen log-probability, length,
# and held-out samples. Lower the learning rate or stop early first; then raise β, add an SFT term on
# the chosen answers, use IPO's bounded margin, or draw pairs from the current policy.
# </details>
#
# **PPO, DPO, GRPO?**
# <details><summary>Answer</summary>
# PPO samples from the policy and trains a value model as baseline; with a reward model and a
# reference, RLHF holds four models. Plain DPO is offline: pairs and a reference. GRPO samples a group and
# uses its mean as baseline, so there is no value model; the reward may be a program, and with β = 0
# there is no reference either.
# </details>

# %% [markdown]
# **SFT, DPO or GRPO: when do you use which?**
# <details><summary>Answer</summary>
# SFT where a good answer can be written down, and usually first. DPO where people can only say which
# of two answers is better, ideally both from the policy. GRPO where a program can check the answer
# and the policy already succeeds now and then. Controls: SFT on the chosen answers, and with a
# checker rejection sampling: draw several answers, train on those that pass.
# </details>
#
# **What do Dr. GRPO, DAPO and GSPO change?**
# <details><summary>Answer</summary>
# Dr. GRPO removes two biases: the division by answer length, which spares long wrong answers, and
# the division by the group's deviation. DAPO averages over all tokens, clips higher upward, and
# resamples dead groups. GSPO forms one importance ratio per sequence; its authors report steadier
# training of mixture-of-experts models.
# </details>
#
# ## Recap
#
# - DPO rewards the gap. Watch chosen and rejected apart, and a task that training never sees.
# - In GRPO the group is the baseline.
# - A policy optimizes the reward that you wrote. Read the answers that earn most.
# - So the claim fails: here DPO and SFT ranked all new pairs right, but SFT answered more. The length
#   reward rose while right answers nearly vanished.
#
# In the package: [preference_losses.py](../ftkit/experiment/preference_losses.py).
# Next: [21 the interview clinic](21_interview_clinic.ipynb).

# %%
ft.progress("20")
