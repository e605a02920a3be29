# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 20b · Rewards: GRPO, PPO, and best-of-n
#
# **Claim: the reward has doubled, so reinforcement learning was worth its price.** It could be wrong. After
# this lesson you can
#
# - write the advantages and the loss of GRPO, and the advantages of PPO;
# - read reward, KL, entropy, length and dead groups together, with imitation as the control;
# - spend compute on choosing among answers instead, and see when that harms.
#
# *About 45 minutes. The code needs about two minutes on two CPU cores. You need
# [20a](20a_preferences.ipynb). Directions in the text held on seeds 0 to 2 and again on 200 to 202; your
# decimals differ.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
# <!-- claims: E44 -->
#
# > *"You have no answers to imitate and no pairs, but a program that can check an answer. How do you train
# > on that, and what do you compare it with?"*
#
# Reinforcement learning with **verifiable rewards** (RLVR): the policy answers, a program pays, and what was
# paid becomes more likely. The task here is to make a sentence negative. We start from an SFT model that does
# it now and then.

# %%
pairs = ft.records("preferences")
habit = [{"instruction": r["instruction"], "input": "", "output": r["rejected"]}
         for r in pairs if r["chosen"] in r["rejected"]]
tasks = [{k: r[k] for k in ("instruction", "input", "output")} for r in ft.records("tasks")]
sft = ft.Experiment(data=tasks[:1000] + 4 * habit, probes=(), eval_records=8).run(
    learning_rate=1e-3, max_steps=60, eval_steps=60, precision="fp32")
tokenizer = sft.tokenizer
asked = ft.records("to_negative", "test")[:40]
ft.exact_match(sft.model, tokenizer, asked)

# %% [markdown]
# ## The idea of GRPO
#
# Group relative policy optimization ([Shao et al. 2024](https://arxiv.org/abs/2402.03300)) draws a **group**
# of answers to a question and rewards each. The mean of the group is the baseline: the **advantage** of an
# answer is its reward minus that mean, divided by the group's standard deviation.
#
# ![Left: eight answers of which two earn a reward of 1; the mean of 0.25 is the baseline and gives advantages of +1.6 and -0.5. A group in which all are right is dead, with advantages of 0. Right: a critic's prediction of the reward rises token by token, and the advantage of a token is how much it raises the prediction.](figures/20b_rewards.svg)
#
# A group whose answers all earn the same is **dead**: without a KL term it has no gradient.


# %% tags=["raises-exception"]
def group_advantages(rewards):
    """The advantages of the answers, a tensor like rewards: (groups, answers of a group).

    Use the standard deviation of the group (by n or n - 1) plus 1e-4; a dead group gets zeros.
    """
    ...


ft.check("group_advantages", group_advantages)

# %% [markdown]
# One batch of answers may serve several steps, so the policy changes after it drew them. The **ratio** of a
# token is its probability now, divided by that when it was drawn. Its gain is ratio × advantage; the clipped
# gain has the ratio limited to 1 ± ε. Training raises the smaller of the two. Once a token has moved far enough,
# the smaller one is a constant, and the push ends. With ε = 0.2:
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
# The relatives differ in what divides and what clips. Take two wrong answers (advantage −1) of 3 and 12
# tokens, and a length limit of 12. The weight of one token in the gradient:
#
# | `loss_type` | divided by | in the short answer | in the long answer |
# |---|---|---|---|
# | `grpo` | answers × length of its answer | 1/6 = 0.17 | 1/24 = 0.04 |
# | `dapo`, yours | tokens of the batch | 1/15 = 0.07 | 1/15 = 0.07 |
# | `dr_grpo` | answers × length limit | 1/24 = 0.04 | 1/24 = 0.04 |
#
# With `grpo` a long wrong answer is pushed down four times less per token.
# [Dr. GRPO](https://arxiv.org/abs/2503.20783) also leaves out the division by the deviation
# (`scale_rewards="none"`), which favors questions that are nearly always or nearly never solved. **RLOO**
# compares an answer with the mean of the others; **CISPO** clips the ratio, not the gain, so that no token loses
# its gradient.
#
# ## Run it, with its control
#
# GRPO gets 14 batches of 8 questions with 6 answers each, and makes two updates on each batch, so that the ratio
# and its clipping act. The control is **imitation**: SFT on the right answers, 14 batches of 8, one update each.
# The right answers are at hand here, as they often are in practice.

# %%
control = ft.predict("Right answers on 40 new sentences: GRPO against SFT on as many batches",
                     "GRPO more", "no difference seen", "SFT more")
control

# %%
from ftkit.inside import preferences, prompts
from ftkit.teaching import direction

setting = {"model": (sft.model, tokenizer), "data": "to_negative", "val": asked, "probes": (),
           "eval_records": 16,
           "metrics": {"exact": lambda model, tok: ft.exact_match(model, tok, asked)}}
short = preferences.GRPOConfig(learning_rate=2e-4, max_steps=14, eval_steps=14, num_generations=6,
                               max_completion_length=18, precision="fp32")
plain = ft.Config(max_steps=14, eval_steps=14, batch_size=8, precision="fp32")
game, copy = preferences.GRPO(preferences.exact, **setting), ft.Experiment(**setting)


def repeat(experiment, config, seeds):
    return [experiment.run(config, seed=seed, live=False) for seed in seeds]


SEEDS = range(3)
twice = short.but(num_iterations=2, max_steps=28, eval_steps=28)  # 2 steps on each batch
runs = {"GRPO": repeat(game, twice, SEEDS),
        "RLOO": repeat(game, twice.but(loss_type="rloo"), range(2)),
        "SFT": repeat(copy, plain.but(learning_rate=2e-4), SEEDS),
        "SFT, 5 x": repeat(copy, plain.but(learning_rate=1e-3), SEEDS)}


def right(name):
    return [run.after["exact"] for run in runs[name]]


ft.table([{"run": name, "exact": right(name)} for name in runs])

# %%
start = runs["GRPO"][0].before["exact"]
ft.expect(right("GRPO"), ">", start, "GRPO brings right answers")
ft.expect(right("SFT"), ">", right("GRPO"), may_fail=True,
          claim="imitation at the same learning rate brings more")
ft.expect(right("SFT, 5 x"), ">", right("GRPO"), "and at five times the learning rate still more")
NAMES = {"<": "GRPO more", "": "no difference seen", ">": "SFT more"}
control.score(NAMES[direction(right("SFT"), right("GRPO"))])

# %% [markdown]
# Where the right answer can be written down, imitation wins, with half of the updates: GRPO must first find the
# answer by chance. GRPO has one learning rate here. On two other seeds we tried 2e-4, 5e-4 and 1e-3: GRPO ended
# between 0.43 and 0.80, SFT between 0.78 and 0.95, and SFT was ahead at each rate. GRPO earns its cost where
# nobody can write the answer, but a program can check it. Two seeds do not rank RLOO; with [three and with
# five](../docs/measurements/POST_TRAINING.md) neither it nor Dr. GRPO differed from GRPO. Now the curves that one
# should always log:

# %%
ft.curves({name: runs[name] for name in ("GRPO", "RLOO")}, "reward", "kl", "entropy", "dead")

# %% [markdown]
# `kl` is nats per answer to the SFT model, `entropy` that of the next token, `dead` the fraction of dead
# groups. Reward rises and entropy falls: the policy commits itself. At the start groups are dead because all
# answers are wrong, later because all are right. Both waste their answers.

# %% [markdown]
# ## What GRPO leaves out: the critic
#
# GRPO gives all tokens of an answer one advantage. **PPO** (proximal policy optimization) trains a second
# network, the **critic**, to predict before each token what is still to come, the value V (figure, right). The
# error at a token is r + γ V(next) − V: what came, minus what was predicted. Here r is the reward paid after the
# token, 0 for all but the last, and γ, at most 1, makes later rewards count less (1: they do not). Generalized
# advantage estimation ([GAE](https://arxiv.org/abs/1506.02438)) adds later errors, each multiplied by γλ for
# every token of distance: A = error + γλ · A(next). λ = 0 trusts the critic for all that follows; λ = 1 sums the
# rewards up to the end and keeps V as the baseline only.


# %% tags=["raises-exception"]
def token_advantages(rewards, values, gamma=1.0, lam=0.95):
    """Advantages of the tokens of one answer, (tokens,).

    rewards: (tokens,), after each token. values: (tokens,), the critic's prediction before it.
    """
    ...


ft.check("token_advantages", token_advantages)

# %% [markdown]
# [ppo.py](../ftkit/lessons/by_hand/ppo.py) is PPO in one function that reads from top to bottom. It gets as
# many answers and updates as GRPO above: 14 batches of 48 answers, two updates each. GRPO needs six answers
# to a question for its baseline; PPO spends the 48 on 48 questions.

# %%
from ftkit.by_hand import ppo

critics = [ppo.train(preferences.exact, sft.model, tokenizer, ft.records("to_negative"), seed=seed)
           for seed in SEEDS]
by_ppo = [ft.exact_match(policy, tokenizer, asked) for policy, _ in critics]
ft.table([{"step": rows[0]["step"]} | {name: [round(row[name], 2) for row in rows]
                                       for name in ("reward", "value_error", "kl")}
          for rows in zip(*(rows for _, rows in critics), strict=True)][::3])

# %%
ft.expect(by_ppo, ">", start, "PPO brings right answers too")
ft.expect(by_ppo, "!=", right("GRPO"), may_fail=True,
          claim="PPO and GRPO differ at equal answers and updates")
ft.expect(right("SFT, 5 x"), ">", by_ppo, "imitation brings more than PPO", may_fail=True)

# %% [markdown]
# With the same number of answers and updates PPO got further than GRPO at this learning rate. At 5e-4 it was not
# always so: on one of two other seeds GRPO had 0.80, PPO 0.70. Nor is it the critic's merit alone: PPO saw six
# times as many questions, and no answer fell into a dead group. Its price is a second network, which must be
# trained before its advantages mean anything. Imitation at its better learning rate was ahead of both.
#
# ## Choosing instead of training: best-of-n
#
# Draw n answers and keep the one that a reward model likes best. Nothing is trained; the price is n answers.
# The result is a policy too: its KL to the original one is at most ln n − (n − 1)/n
# ([Beirami et al. 2024](https://arxiv.org/abs/2401.01879)). We use the reward model of
# [lesson 20a](20a_preferences.ipynb). It is a **proxy**: it stands in for what we want, right answers, which we
# count too.

# %%
fate = ft.predict("From n = 1 to n = 32 the reward model's score rises. Right answers, from n = 1 to 32,",
                  "rise", "no difference seen", "fall")
fate

# %%
import math

import torch

from ftkit.by_hand import reward_model

quiz, N = ft.records("preferences", "test")[:40], 32
repeated = [prompt for prompt in prompts(quiz, tokenizer) for _ in range(N)]


def best_of(seed):
    """Score, exact match and words, (questions, N) each, of drawn answers; its own reward model."""
    scorer = reward_model.train(sft.model, preferences.pair_examples(pairs[:200], tokenizer),
                                seed=seed)
    torch.manual_seed(seed)
    texts, examples = preferences.sample(sft.model, tokenizer, repeated, 24)
    with torch.no_grad():
        score = torch.cat([scorer(examples[i:i + N]) for i in range(0, len(examples), N)])
    is_right = [preferences.exact(text, {"instruction": "", "input": "",
                                         "output": quiz[i // N]["chosen"]})
                for i, text in enumerate(texts)]
    words = [float(len(text.split())) for text in texts]
    return [score.view(-1, N), *(torch.tensor(x).view(-1, N) for x in (is_right, words))]


drawn = [best_of(seed) for seed in range(3)]


def chosen(n, of):
    """Mean over the best of n answers of 0 score, 1 whether it is right, 2 words; per seed."""
    return [found[of].gather(1, found[0][:, :n].argmax(1, keepdim=True)).mean().item()
            for found in drawn]


ft.table([{"n": n, "KL": round(math.log(n) - (n - 1) / n, 2), "score (proxy)": chosen(n, 0),
           "right (true)": chosen(n, 1), "words": chosen(n, 2),
           "any right": [found[1][:, :n].max(1).values.mean().item() for found in drawn]}
          for n in (1, 2, 4, 8, 16, 32)])

# %%
ft.expect(chosen(32, 0), ">", chosen(1, 0), "the score rises with n", paired=True)
ft.expect(chosen(32, 1), "<", chosen(1, 1), "best of 32 is right less often than one answer",
          paired=True)
ft.expect(chosen(32, 2), "<", chosen(1, 2), "the chosen answers get shorter", paired=True)
fate.score({">": "rise", "": "no difference seen", "<": "fall"}[
    direction(chosen(32, 1), chosen(1, 1), paired=True)])

# %% [markdown]
# Here choosing helps at no n, up to the noise of the seeds. A right answer is among 32 for over a third of the
# questions (last column, **pass@n**), and the reward model does not choose it. Its highest score belongs to
# answers of one or two words, right or wrong. This is **over-optimization**: the harder one selects by a proxy,
# the more one selects its errors. With a better proxy quality first rises and falls only at larger n
# ([Gao et al. 2022](https://arxiv.org/abs/2210.10760) fit that curve). A verifier in place of the reward model would reach
# the last column.

# %%
# Your turn: a reward model that knows a little of the truth. Its score spreads over more than 1, and 0.05
# for being right already turns the fall. What does 0 give, what 0.02, and from where does more not help?
def mixed(n, weight=0.05):
    """Right answers of the best of n by the score plus a weight for being right, mean over seeds."""
    found = [right.gather(1, (score + weight * right)[:, :n].argmax(1, keepdim=True)).mean()
             for score, right, _ in drawn]
    return round(torch.stack(found).mean().item(), 2)


{n: mixed(n) for n in (1, 4, 16, 32)}

# %% [markdown]
# ## At 135M
#
# No box At 135M: these runs were made on the small model only, since sampling is what costs. What is published:
# [DeepSeek-R1](https://arxiv.org/abs/2501.12948) and [DAPO](https://arxiv.org/abs/2503.14476) show GRPO at 32B
# and above on problems with checkable answers.
#
# ## In practice, 2026
#
# The reward function gets the answers and every column of the data as lists:
#
# ```python
# import re
# from datasets import load_dataset
# from peft import LoraConfig
# from trl import GRPOConfig, GRPOTrainer
#
# model_id = "Qwen/Qwen3-8B"
# # {"prompt": [{"role": "user", "content": "..."}], "answer": "7"}
# questions = load_dataset("json", data_files="train.jsonl", split="train")
#
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
# lora = LoraConfig(r=32, lora_alpha=64, target_modules="all-linear")
# trainer = GRPOTrainer(model_id, reward_funcs=right, args=args, train_dataset=questions,
#                       peft_config=lora)
# trainer.train()
# ```
#
# The batch counts answers: on one GPU a step has 8 · 16 / 8 = 16 questions. Usual values, the other relatives
# and pitfalls are on the [reference page](reference/20b_rewards.md).

# %% [markdown]
# ## Interview
#
# **PPO, DPO, GRPO?**
# <details><summary>Answer</summary>
# PPO samples from the policy and trains a value model as baseline; with a reward model and a reference, RLHF
# holds four models. Plain DPO needs stored pairs and a reference: no sampling, but the pairs do not follow the
# policy. GRPO samples a group; its mean replaces the value model, and all tokens of an answer get one advantage.
# PPO and GRPO clip the ratio.
# </details>
#
# **When SFT, when DPO, when RL?**
# <details><summary>Answer</summary>
# SFT where a good answer can be written down, and usually first. DPO where people can only
# compare two answers, ideally both from the policy. RL where answers can be scored, best by a
# program, and the policy sometimes succeeds. Controls: SFT on the chosen answers, or on
# drawn ones that pass the checker.
# </details>

# %% [markdown]
# **What does best-of-n cost, and why does it stop helping?**
# <details><summary>Answer</summary>
# n answers for each one served; its KL to the base policy is at most ln n − (n − 1)/n, 2.5 nats at n = 32. With a
# verifier it reaches pass@n, the share of questions with a right answer among n. With a reward model it selects
# the model's errors too: the proxy keeps rising while true quality turns. It is also the cheapest test of a
# reward model before RL: where best-of-n on it gets worse, expect the same of RL at an equal KL.
# </details>
#
# ## Recap
#
# - GRPO's baseline is the mean of the group; PPO's is a critic, with GAE between the two kinds of estimate.
# - Log reward, KL, entropy, length and dead groups; compare with SFT on the same questions.
# - The claim fails: the reward rose as it should, and imitation got further for the same steps.
# - Selecting by a proxy selects its errors: best of 32 had the best scores and fewer right answers than no choice.
#
# In the package: [preference_losses.py](../ftkit/experiment/preference_losses.py),
# [ppo.py](../ftkit/lessons/by_hand/ppo.py). Next: [20c distillation](20c_distillation.ipynb).

# %%
ft.progress("20b")
