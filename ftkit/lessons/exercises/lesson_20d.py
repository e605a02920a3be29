"""Lesson 20d, agents, tools and how RL fails."""

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import close, told


@exercise("policy_labels")
def _(policy_labels):
    ids = [5, 6, 7, 5, 2, 7, 5, 4, 2]  # 5 and 7 are in parts of both sides
    writers = ["question"] * 2 + ["call"] * 3 + ["tool"] * 2 + ["answer"] * 2
    kept = list(ids)
    got = policy_labels(ids, writers)
    if ids != kept:
        return "ids was changed: make a new list"
    if not isinstance(got, list):
        return f"expected a list like ids, got a {type(got).__name__}"
    if len(got) == writers.count("call") + writers.count("answer"):
        return "the environment's tokens are dropped; keep their places with -100"
    if len(got) != len(ids):
        return f"expected a list of {len(ids)} labels, got {got!r:.80}"

    def labels(*who):
        return [token if writer in who else -100
                for token, writer in zip(ids, writers, strict=True)]

    right = labels("call", "answer")
    if got == [int(label != -100) for label in right] or got == [label != -100 for label in right]:
        return "this is a mask of 0 and 1; labels are token ids, or -100"
    return told(got, right, [
        (labels("call", "tool", "answer"), "the tool's tokens are trained on: the policy would "
                                           "learn to write what the tool says"),
        (labels("answer"), "the call is not trained on, and it is an action too"),
        (labels("call"), "the answer is not trained on"),
        (labels("question", "tool"), "the two sides are exchanged: the policy wrote call and "
                                     "answer"),
        (ids, "nothing is masked"),
        ([-100 if label == 2 else label for label in right],
         "the end token is masked; ending a turn is an action of the policy"),
        ([label if label != -100 else 0 for label in right], "masked is -100, and 0 is a token"),
        ([label if label != -100 else -1 for label in right], "masked is -100, not -1"),
        ([label if label != -100 else None for label in right], "masked is -100, not None"),
        (right[1:] + [-100], "shifted by one: the model shifts labels itself"),
        ([-100] + right[:-1], "shifted by one: the model shifts labels itself"),
        (right[:4] + [-100] + right[5:], "the end of the call is masked; ending a turn is an "
                                         "action"),
        (right[:-1] + [-100], "the end of the answer is masked; ending a turn is an action"),
        (right[:5] + ids[5:6] + right[6:], "the first token of the tool's line is trained on"),
        ([-100 if i in (2, 7) else label for i, label in enumerate(right)],
         "the first token of a turn is masked; the policy wrote it"),
        ([-100 if token in (5, 6, 7) else token for token in ids],
         "chosen by the token: what the environment wrote somewhere is masked in the call too; "
         "go by the writer"),
        ([token if token in (2, 4, 5, 7) else -100 for token in ids],
         "chosen by the token: what the policy wrote somewhere is trained on in the question too; "
         "go by the writer"),
    ], f"got {got}; expected {right} for writers {writers}")


@exercise("turn_advantages")
def _(turn_advantages):
    import torch

    rewards = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0], [1.0, 2.0, 0.0]])
    kept = rewards.clone()
    got = turn_advantages(rewards, 0.5)
    if not torch.equal(rewards, kept):
        return "rewards was changed: work on a copy"
    if not hasattr(got, "shape") or tuple(got.shape) != (3, 3):
        return f"expected a tensor of shape (3, 3), one for each turn, got {got!r:.60}"

    def returns(gamma):
        found, later = [], torch.zeros(3)
        for reward in reversed(rewards.unbind(1)):
            later = reward + gamma * later
            found.insert(0, later)
        return torch.stack(found, 1)

    def centered(values):
        return values - values.mean(0)

    total, weights = returns(0.5), 0.5 ** torch.arange(3)
    forward = torch.stack([sum(0.5 ** (t - k) * rewards[:, k] for k in range(t + 1))
                           for t in range(3)], 1)
    message = told(got, centered(total), [
        (total, "no baseline: subtract the mean of the same turn over the group"),
        (total - total.mean(), "one baseline for all turns; each turn has its own, mean(0)"),
        (total - total.mean(1, keepdim=True), "the baseline is the mean of an episode; it is that "
                                              "of the same turn in the group, mean(0)"),
        (centered(rewards), "later rewards are not credited: a turn gets gamma times the return of "
                            "the next"),
        (centered(returns(1.0)), "gamma is not used"),
        (centered(rewards.sum(1, keepdim=True).expand(3, 3)),
         "the whole reward is given to each turn, earlier ones included"),
        (centered(forward), "credited with EARLIER rewards: go from the last turn to the first"),
        (centered((rewards * weights).flip(1).cumsum(1).flip(1)),
         "discounted from the start of the episode; gamma counts from the turn itself"),
        (centered(rewards + 0.5 * torch.cat([rewards[:, 1:], torch.zeros(3, 1)], 1)),
         "only the next turn's reward is added; its whole return is"),
        (-centered(total), "wrong sign: return minus baseline"),
        (centered(total) / (total.std(0) + 1e-4), "divided by the deviation, which is not asked"),
        (centered(total) * 1.5, "compared with the mean of the OTHER episodes; take that of all"),
        (centered(total) * 0.5, "discounted once too often: a turn's own reward counts in full"),
        (centered(total - rewards), "a turn is not credited with its own reward"),
        (total - total.max(0).values, "compared with the best episode; the baseline is the mean"),
        (centered(total / torch.tensor([3.0, 2.0, 1.0])),
         "averaged over the later turns; the return is a sum"),
        (centered((rewards * weights).sum(1, keepdim=True).expand(3, 3)),
         "one return for the whole episode; each turn has its own"),
        (centered(rewards[:, -1:] * weights.flip(0)),
         "only the last reward is credited; those between count too"),
        (centered(returns(0.25)), "gamma is applied twice for each turn"),
    ], f"got {got.tolist()}; expected {centered(total).tolist()} for rewards {rewards.tolist()}, "
       "gamma 0.5", close)
    if message:
        return message
    for gamma, turns in ((0.9, 3), (0.5, 2)):
        fewer, at = rewards[:, :turns].clone(), turn_advantages(rewards[:, :turns].clone(), gamma)
        last = centered(fewer[:, -2] + gamma * fewer[:, -1])
        if not close(at[:, -2], last):
            return (f"{turns} turns, gamma {gamma}: the last turn but one got "
                    f"{at[:, -2].tolist()}; expected {last.tolist()}: use the gamma and the turns "
                    "that are given")


@exercise("honest_reward")
def _(honest_reward):
    record = {"instruction": "Name the first word.", "input": "Anna sees a red fox.",
              "output": "Anna"}
    other = {"instruction": "Name the last word.", "input": "Leo sees a dog.", "output": "dog"}
    best = honest_reward("Anna", record)
    if not best > 0:
        return "the right answer earns nothing"
    if honest_reward("Anna.", record) != best:
        return "'Anna.' is right too: compare after `normal`"
    for answer, how in {
        "Anna sees a red fox.": "copying the whole sentence",
        "Anna Anna Anna Anna": "repeating the answer",
        "It is Anna, or sees, or red, or fox": "listing candidates",
        "Anna or fox": "listing two candidates",
        "fox or Anna": "listing two candidates, the right one last",
        "Anna Anna": "writing the answer twice",
        "not Anna": "denying the answer",
        "Anna fox": "beginning with the right answer",
        "Anna, fox": "a list after a comma",
        "Anna. fox": "a second sentence",
        "Anna\nfox": "a second line",
        "Anna and not fox": "adding a reason",
        "fox: Anna": "a candidate before a colon",
        "The fox is Anna": "a sentence that ends with the right answer",
        "Fox, and that is Anna": "a sentence that ends with the right answer",
        "naAn": "the right letters in another order",
        "Ann": "a part of the word",
        "": "an empty answer",
    }.items():
        if (paid := honest_reward(answer, record)) > 0:
            return (f"{how} ({answer!r}) earns {paid:g}, the right answer {best:g}: what earns "
                    "anything is what the model will learn")
    if honest_reward("fox", record) > 0:
        return "a wrong word earns something"
    if not honest_reward("dog", other) > 0 or honest_reward("Anna", other) > 0:
        return "another record has another right answer: compare with record[\"output\"]"
    pair = {"instruction": "Name the first two words.", "input": "Leo sees a dog.",
            "output": "Leo sees"}
    if not honest_reward("Leo sees", pair) > 0:
        return "a right answer of two words, 'Leo sees', earns nothing"
    if honest_reward("sees Leo", pair) > 0:
        return "'sees Leo' is paid for 'Leo sees': the order of the words counts"
