# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 20d · Agents, tools, and how RL fails
#
# **Claim: an agent whose reward rises is learning to use its tools.** It could be wrong. After this lesson you can
#
# - mask what a tool wrote, and give credit to the turns of an episode;
# - find the holes of a reward before a policy does;
# - name the cause of a bad RL run from its log.
#
# *About 45 minutes. The code needs about two minutes on two CPU cores. You need
# [20b](20b_rewards.ipynb). Directions in the text held on seeds 0 to 2 and 200 to 202; your decimals
# differ.*

# %%
import ftkit as ft

ft.setup(seed=0)

# %% [markdown]
# ## The question
#
# > *"Your agent calls tools over several turns. How do you train it by reinforcement learning, and how do you notice
# > that it learned something else?"*
#
# ## An environment with two tools
#
# A question asks for a sum, or for the number of a person. In turn one the policy writes a **call**: `add six seven` or
# `find Anna`. The **environment** appends what the tool says. In turn two the policy answers. The people's numbers are
# drawn anew for each question, so no policy can know them: only the tool does. The text from question to answer is an
# **episode**.
#
# ![An episode as a row of colored tokens: the question and the tool's line are gray, written by the environment; the call and the answer are blue, written by the policy. Below it, the labels: minus 100 under the gray tokens and the token itself under the blue ones. An arrow leads from the reward after the answer back to the answer and, with weight gamma, to the call.](figures/20d_agents.svg)
#
# The start imitates a mixed crowd: about half of the demonstrations are right, the others guess, call the wrong tool,
# or list several numbers.

# %%
from ftkit.by_hand import tool_use

base, tokenizer = ft.load("tiny")
records, test = tool_use.questions(300), tool_use.questions(60, seed=1)
start = tool_use.warm_start(base, tokenizer, tool_use.demonstrations(records))
episodes = tool_use.play(start, tokenizer, test)
ft.table([{"question": e.record["instruction"], "call": e.call, "tool": e.result, "answer": e.answer,
           "right": e.record["output"]} for e in episodes[:6]])

# %%
tool_use.measures(episodes)

# %% [markdown]
# ## Your turn: who wrote which token?
#
# The policy gradient raises or lowers the probability of *actions*. What the tool wrote is no action: trained on, the
# policy would learn to write the tool's answers itself. Labels of −100 take tokens out of the loss.


# %% tags=["raises-exception"]
def policy_labels(ids, writers):
    """Labels of an episode: the token where the policy wrote it, -100 elsewhere; a list like ids.

    writers: for each token "question", "call", "tool" or "answer". The end token of a call or
    an answer has the writer of that turn.
    """
    ...


ft.check("policy_labels", policy_labels)

# %% [markdown]
# ## Your turn: credit over turns
#
# One reward for the episode can be given to all its tokens, as GRPO does. With a reward for each turn, a turn is credited
# with its own reward and, discounted by γ for each turn, with the later ones that it made possible. It is not credited
# with earlier ones. The baseline is the mean of the same turn in the group. The runs below have one reward, at
# the end, and give it to both turns; your function is for environments that reward each turn.


# %% tags=["raises-exception"]
def turn_advantages(rewards, gamma):
    """Advantage of each turn, (episodes, turns). rewards: (episodes of one group, turns)."""
    ...


ft.check("turn_advantages", turn_advantages)

# %% [markdown]
# Stuck: `ft.hint("turn_advantages")`, then `ft.solution("turn_advantages")`.
#
# ## Run it: which reward teaches tool use?
#
# The honest reward is 1 if the answer is the right number and nothing else. The generous one was written in a
# hurry. It pays 0.5 if the right number occurs anywhere in the episode, and 1/6 for each tool word, up to three,
# "to encourage tool use". How could a policy earn it without answering?

# %%
def generous(episode):
    words = f"{episode.call} {episode.result} {episode.answer}".split()
    called = words.count("find") + words.count("add")
    return 0.5 * (episode.record["output"] in words) + min(called, 3) / 6


hole = ft.predict("Right answers after training on the generous reward, against the start",
                  "more", "no difference seen", "fewer")
hole

# %%
SEEDS = range(3)
ways = {"honest": (tool_use.right, {}), "generous": (generous, {}),
        "honest, twice the rate": (tool_use.right, {"learning_rate": 4e-4}),
        "honest, answer only": (tool_use.right, {"writers": (tool_use.ANSWER,)}),
        "honest, no mask": (tool_use.right, {
            "writers": (tool_use.CALL, tool_use.TOOL, tool_use.ANSWER)})}
trained = {name: [tool_use.train(reward, start, tokenizer, records, seed=seed, **options)
                  for seed in SEEDS] for name, (reward, options) in ways.items()}
ends = {name: [tool_use.measures(tool_use.play(policy, tokenizer, test)) for policy, _ in runs]
        for name, runs in trained.items()}
before = tool_use.measures(episodes)


def of(name, measure):
    return [end[measure] for end in ends[name]]


ft.table([{"reward": "at the start"} | before]
         + [{"reward": name} | {measure: of(name, measure) for measure in before} for name in ways])

# %%
from ftkit.teaching import direction, line_plot

paid = {when: [rows[i]["reward"] for _, rows in trained["generous"]]
        for when, i in (("first", 0), ("last", -1))}
ft.expect(of("honest", "right"), ">", before["right"], "the honest reward: more right answers")
ft.expect(paid["last"], ">", paid["first"], "the generous reward rises too", paired=True)
ft.expect(of("generous", "right"), "<", of("honest", "right"), "but brings fewer right answers")
ft.expect(of("honest, answer only", "right_call"), "<", of("honest", "right_call"), may_fail=True,
          claim="credit for the answer alone: fewer right calls")
ft.expect(of("honest, no mask", "right"), "<", of("honest", "right"), may_fail=True,
          claim="without the mask: fewer right answers")
hole.score({">": "more", "": "no difference seen", "<": "fewer"}[
    direction(of("generous", "right"), before["right"])])

# %%
rows = trained["generous"][1][1]
line_plot({name: [(row["step"], row[name]) for row in rows]
           for name in ("reward", "right", "right_call", "lists")},
          x="step", y="fraction (reward: mean)", log_x=False)

# %%
hacked = tool_use.play(trained["generous"][1][0], tokenizer, test[:6])
ft.table([{"question": e.record["instruction"], "call": e.call, "answer": e.answer,
           "pays": round(generous(e), 2), "right": tool_use.right(e)} for e in hacked])

# %% [markdown]
# The reward has three holes: the tool's own line holds the right number, so no answer is needed; a tool word in the
# *answer*, or repeated, pays again; a list pays as well as an answer. The policy found them all, and the agent does "use
# its tools". The other rows teach two more things. With credit for the answer alone the calls stayed worse: the turn that
# decides was not trained. Without the mask the tool's line is trained on as well, and nothing else differs: the question
# stays masked, and the sum is divided by the same number of tokens, those of call and answer. Fewer answers are right:
# gradient was spent on text that the policy does not write.
#
# ## The control
#
# Draw 600 episodes from the start (RL drew 768), keep the right ones, and imitate them: **rejection sampling**, without
# the gradient of a reward.

# %%
drawn = [e for _ in range(2) for e in tool_use.play(start, tokenizer, records)]
kept = [(e.record, e.call, e.answer) for e in drawn if tool_use.right(e)]
imitated = [tool_use.measures(tool_use.play(
    tool_use.warm_start(start, tokenizer, kept, steps=48, learning_rate=3e-4, seed=seed),
    tokenizer, test))["right"] for seed in SEEDS]
print(f"{len(kept)} of {len(drawn)} episodes are right and kept")
ft.expect(imitated, ">", before["right"], "imitating one's own right episodes works too")
for name in ("honest", "honest, twice the rate"):
    ft.expect(of(name, "right"), "!=", imitated, may_fail=True,
              claim=f"{name}: RL differs from that")

# %% [markdown]
# RL was run at two rates, the control at one. As in lesson 20b the control is hard to beat: where the start is sometimes
# right, imitating those times brings most of it. A gap of a few questions of 60 would need more questions to be seen.

# %% [markdown]
# ## Your turn: repair a reward
#
# Suppose a reward pays whenever the right answer occurs in the text. Write a **verifier** that pays nothing for
# copying, repeating or listing, and that forgives a full stop. (`normal(text)` of `ftkit.inside` removes case and
# punctuation.)


# %% tags=["raises-exception"]
def honest_reward(answer, record):
    """The reward of an answer: above 0 for a right one, else 0 or less; record["output"] is right."""
    ...


ft.check("honest_reward", honest_reward)

# %% [markdown]
# ## How RL fails: a clinic
#
# Eleven causes, each as a real run of GRPO with drawn parameters. You see the log as a colleague sends it, ask for
# readings, and name the cause. `mismatch` compares the sampler's log-probabilities with the trainer's before the first
# update; `clipped` is the fraction of clipped tokens in the first update. In a healthy run both are 0.

# %%
from ftkit.inside import rl_runs

rl_runs.causes()

# %%
case = rl_runs.case(0)
case

# %%
print(case.ask("exact match"))
print(case.ask("checker"))
print(case.ask("mismatch"))
case.guess(...)  # a name of the table, or your own words

# %% [markdown]
# <details><summary>Answer</summary>
#
# Sampler and trainer disagree at the first step, before any update, though both have the same weights. So they do not
# read the same tokens: the sampler's prompt has another template. It still learns, and exact match rises, which makes
# this one hard to notice. `case.repair(prompt="{}")` mends it.
#
# </details>

# %%
other = rl_runs.case(4)
other

# %%
print(other.ask("clipped"))
other.guess(...)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Before the first update of a batch nothing has changed, so every ratio is 1 and nothing can be clipped. Here tokens
# are, so the old log-probabilities belong to other tokens; the loss is far from 0 until all groups are dead.
# `other.repair(shift=0)`.
#
# </details>
#
# `rl_runs.case(1)` and so on have the other nine; each takes some seconds.
#
# The order in which to read a log: the checker on reference answers; dead groups; mismatch and first clipping (is the
# plumbing right?); KL (does it move, does it run away?); entropy and length; and last the reward, next to a measure that
# is not trained on.
#
# ## At 135M
#
# No box At 135M: these runs were made on the small model only. What is published:
# [Search-R1](https://arxiv.org/abs/2503.09516) masks retrieved text in the loss and finds training more stable with it, on
# models of 3B and 7B; reward hacking by large agents is documented in
# [Baker et al. 2025](https://arxiv.org/abs/2503.11926).
#
# ## In practice, 2026
#
# ```python
# import re
# from datasets import load_dataset
# from peft import LoraConfig
# from trl import GRPOConfig, GRPOTrainer
#
# model_id = "Qwen/Qwen3-4B"
# # {"prompt": [{"role": "user", "content": "What is 17 * 23? End with: Answer: N"}], "answer": "391"}
# questions = load_dataset("json", data_files="train.jsonl", split="train")
#
# def multiply(a: int, b: int) -> int:
#     """Multiply two numbers.
#
#     Args:
#         a: The first number.
#         b: The second number.
#
#     Returns:
#         The product.
#     """
#     return a * b
#
# def right(completions, answer, **columns):  # the last message alone; a tool's line pays nothing
#     last = [c[-1].get("content") or "" for c in completions]
#     # one number, then the end: "Answer: 7 or 8" is not paid
#     found = [re.search(r"Answer: *(-?\d+)\.?\s*$", text) for text in last]
#     return [float(bool(hit) and int(hit[1]) == int(key)) for hit, key in zip(found, answer)]
#
# args = GRPOConfig(
#     output_dir="agent", learning_rate=1e-5, per_device_train_batch_size=8,
#     gradient_accumulation_steps=16, num_generations=8, max_completion_length=1024,
#     model_init_kwargs={"dtype": "bfloat16"},  # only frozen weights: LoRA's are fp32
#     chat_template_kwargs={"enable_thinking": False},  # thoughts would fill the 1,024 tokens
#     mask_truncated_completions=True, log_completions=True, use_vllm=True,
#     vllm_max_model_length=2048)
# lora = LoraConfig(r=32, lora_alpha=64, target_modules="all-linear")
# trainer = GRPOTrainer(model_id, reward_funcs=right, args=args, train_dataset=questions,
#                       peft_config=lora, tools=[multiply])
# trainer.train()
# ```
#
# Try `right` on answers by hand first. If the prompt asks for no form, or the model thinks aloud, it pays 0 for all
# answers, all groups are dead, and nothing is learned. TRL masks what the tools return. Without LoRA leave the dtype
# out: at 1e-6 most steps of a bf16 weight are rounded away ([lesson 12](12_floating_point.ipynb)). The
# [reference page](reference/20d_agents.md) has tools with a state and what to log.

# %% [markdown]
# ## Interview
#
# **How does RL for multi-turn agents differ from single-turn RL?**
# <details><summary>Answer</summary>
# An episode mixes the policy's tokens with the environment's, which are masked. Reward often comes once, at the end, so
# credit over turns is harder: one advantage for all turns, a reward for each turn with a discount, or a critic. Episodes
# differ widely in length, so sampling dominates the time and becomes asynchronous; then old weights and template
# differences between sampler and trainer matter. The environment must be resettable, isolated, and not editable by the
# policy.
# </details>
#
# **The reward rises. How do you know that it is not hacked?**
# <details><summary>Answer</summary>
# A measure that is not trained on, such as exact match by another checker; the best-paid and the longest answers, read;
# the reward of known bad answers (empty, copy, list, the tool's line) before the first run; KL and length, which jump when
# a hack is found. A KL penalty slows hacking and does not repair the reward.
# </details>

# %% [markdown]
# **Reward is 0 from the first step on. What do you check, in which order?**
# <details><summary>Answer</summary>
# The checker on reference answers: if it rejects them, it is the checker. Then sampled answers: cut off by the length
# limit, wrong template, an end token that never comes. Then difficulty: pass@8 of the start; if it is 0, groups are dead,
# and easier questions or SFT come first. Only then learning rate and KL.
# </details>
#
# ## Recap
#
# - Mask what the environment wrote; credit a turn with what came after it.
# - A reward pays for what it says. Try the bad answers on it before a policy does.
# - The claim fails: under the generous reward tool words and reward rose, and right answers vanished.
# - Read a log from the plumbing up: checker, dead groups, mismatch, clipping, KL, entropy, length, reward.
#
# In the package: [tool_use.py](../ftkit/lessons/by_hand/tool_use.py),
# [rl_runs.py](../ftkit/lessons/bugs/rl_runs.py). Next: [21 the interview clinic](21_interview_clinic.ipynb).

# %%
ft.progress("20d")
