"""Reference solutions and named wrong answers for lesson 20d."""

from __future__ import annotations

import torch
from shown_solutions import edited, shown

from ftkit.evaluate.scoring import is_right, normal

policy_labels = shown("policy_labels")
turn_advantages = shown("turn_advantages")
honest_reward = shown("honest_reward")


def policy_labels_in_a_loop(ids, writers):
    labels = [-100] * len(ids)
    for t, writer in enumerate(writers):
        if writer not in ("question", "tool"):
            labels[t] = ids[t]
    return labels


def labels_of(*who):
    return lambda ids, writers: [token if writer in who else -100
                                 for token, writer in zip(ids, writers, strict=True)]


def turn_advantages_as_a_matrix(rewards, gamma):
    turns = rewards.shape[1]
    distance = torch.arange(turns)[None] - torch.arange(turns)[:, None]
    weights = torch.where(distance >= 0, gamma ** distance.clamp(min=0).float(), 0.0)
    returns = rewards @ weights.T
    return returns - returns.mean(0, keepdim=True)


def turn_advantages_by_sums(rewards, gamma):
    turns = rewards.shape[1]
    returns = torch.stack([sum(gamma ** (k - t) * rewards[:, k] for k in range(t, turns))
                           for t in range(turns)], 1)
    return returns - returns.mean(0)


def every_word_is_there(answer, record):
    given = normal(answer).split()
    return float(all(word in given and len(set(given)) == 1
                     for word in normal(record["output"]).split()))


SOLUTIONS = {
    "policy_labels": {
        "variants": [policy_labels_in_a_loop, labels_of("answer", "call")],
        "wrong": {
            "tool trained": (labels_of("call", "tool", "answer"), "the tool's tokens"),
            "answer alone": (labels_of("answer"), "it is an action too"),
            "call alone": (labels_of("call"), "the answer is not trained on"),
            "exchanged": (labels_of("question", "tool"), "exchanged"),
            "nothing masked": (lambda ids, writers: list(ids), "nothing is masked"),
            "end masked": (lambda ids, writers: [
                -100 if label == 2 else label for label in policy_labels(ids, writers)],
                "the end token is masked"),
            "zero": (edited("policy_labels", "-100", "0"), "0 is a token"),
            "mask": (edited("policy_labels", "token if", "1 if"), "expected"),
            "mask of 0 and 1": (lambda ids, writers: [
                int(label != -100) for label in policy_labels(ids, writers)], "of 0 and 1"),
            "by token": (lambda ids, writers: [
                token if token in {t for t, w in zip(ids, writers, strict=True)
                                   if w in ("call", "answer")} else -100 for token in ids],
                "trained on in the question too"),
            "not the environment's token": (lambda ids, writers: [
                -100 if token in {t for t, w in zip(ids, writers, strict=True)
                                  if w in ("question", "tool")} else token for token in ids],
                "masked in the call too"),
            "shifted": (lambda ids, writers: policy_labels(ids, writers)[1:] + [-100], "shifted"),
            "dropped": (lambda ids, writers: [t for t in policy_labels(ids, writers) if t > 0],
                        "are dropped"),
            "minus one": (edited("policy_labels", "-100", "-1"), "not -1"),
            "tensor": (lambda *given: torch.tensor(policy_labels(*given)), "got a Tensor"),
            "first token": (lambda ids, writers: [
                -100 if i in (2, 7) else label
                for i, label in enumerate(policy_labels(ids, writers))], "first token of a turn"),
            "end of the call": (lambda ids, writers: [
                -100 if i == 4 else label
                for i, label in enumerate(policy_labels(ids, writers))], "the end of the call"),
            "up to the tool": (lambda ids, writers: [
                token if i == 5 else label for i, (token, label) in enumerate(zip(
                    ids, policy_labels(ids, writers), strict=True))], "first token of the tool"),
        },
    },
    "turn_advantages": {
        "variants": [turn_advantages_as_a_matrix, turn_advantages_by_sums],
        "wrong": {
            "no baseline": (edited("turn_advantages", "returns - returns.mean(0)", "returns"),
                            "no baseline"),
            "one baseline": (edited("turn_advantages", "returns.mean(0)", "returns.mean()"),
                             "one baseline for all"),
            "of the episode": (edited("turn_advantages", "returns.mean(0)",
                                      "returns.mean(1, keepdim=True)"), "mean of an episode"),
            "own reward": (lambda rewards, gamma: turn_advantages(rewards, 0.0),
                           "later rewards are not credited"),
            "no gamma": (lambda rewards, gamma: turn_advantages(rewards, 1.0),
                         "gamma is not used"),
            "whole reward": (lambda rewards, gamma: (
                rewards.sum(1, keepdim=True) - rewards.sum(1).mean()).expand(rewards.shape),
                "earlier ones included"),
            "forward": (edited("turn_advantages", "reversed(range(rewards.shape[1]))",
                               "range(rewards.shape[1])"), "EARLIER"),
            "from the start": (lambda rewards, gamma: turn_advantages(
                rewards * gamma ** torch.arange(rewards.shape[1]), 1.0), "from the turn itself"),
            "sign": (lambda rewards, gamma: -turn_advantages(rewards, gamma), "wrong sign"),
            "divided": (lambda rewards, gamma: turn_advantages(rewards, gamma) / (
                turn_advantages(rewards, gamma).std(0) + 1e-4), "divided by"),
            "gamma 0.5 for ever": (lambda rewards, gamma: turn_advantages(rewards, 0.5),
                                   "use the gamma"),
            "in place": (lambda rewards, gamma: turn_advantages(rewards.mul_(2), gamma) / 2,
                         "rewards was changed"),
            "others": (lambda rewards, gamma: turn_advantages(rewards, gamma) * len(rewards)
                       / (len(rewards) - 1), "mean of the OTHER episodes"),
            "own reward discounted": (lambda rewards, gamma: gamma * turn_advantages(
                rewards, gamma), "discounted once too often"),
            "best episode": (edited("turn_advantages", "returns.mean(0)", "returns.amax(0)"),
                             "the best episode"),
            "last reward": (lambda rewards, gamma: turn_advantages(torch.cat(
                [0 * rewards[:, :-1], rewards[:, -1:]], 1), gamma), "only the last reward"),
        },
    },
    "honest_reward": {
        "variants": [lambda answer, record: int(is_right(answer, record)),
                     lambda answer, record: 2.0 if is_right(answer, record) else -1.0],
        "wrong": {
            "contains it": (lambda answer, record: float(record["output"] in answer),
                            "copying the whole sentence"),
            "only words of it": (every_word_is_there, "repeating the answer"),
            "twice": (lambda answer, record: float(
                0 < len(normal(answer).split()) < 3
                and set(normal(answer).split()) == {normal(record["output"])}),
                "writing the answer twice"),
            "short and ends right": (lambda answer, record: float(
                normal(answer).endswith(normal(record["output"])) and len(answer.split()) < 4),
                "the right one last"),
            "of two words the last": (lambda answer, record: float(
                normal(answer).endswith(normal(record["output"])) and len(answer.split()) < 3
                and len(set(answer.split())) == len(answer.split())), "denying the answer"),
            "half credit": (lambda answer, record: max(
                honest_reward(answer, record),
                0.5 * (len(answer.split()) == 2 and " or " not in answer
                       and answer.split()[0] == record["output"] != answer.split()[1])),
                "beginning with the right answer"),
            "first line": (lambda answer, record: honest_reward(answer.split("\n")[0], record),
                           "a second line"),
            "up to a comma": (lambda answer, record: honest_reward(answer.split(",")[0], record),
                              "a list after a comma"),
            "first sentence": (lambda answer, record: honest_reward(answer.split(".")[0], record),
                               "a second sentence"),
            "after a colon": (lambda answer, record: honest_reward(answer.split(":")[-1], record),
                              "before a colon"),
            "after is": (lambda answer, record: honest_reward(answer.split(" is ")[-1], record),
                         "a sentence that ends"),
            "words in any order": (lambda answer, record: float(
                sorted(normal(answer).split()) == sorted(normal(record["output"]).split())),
                "the order of the words counts"),
            "first word of two": (lambda answer, record: float(
                normal(answer) == normal(record["output"]).split()[0]), "of two words"),
            "one record": (lambda answer, record: float(answer in ("Anna", "Anna.")),
                           "another record"),
            "to the letter": (lambda answer, record: float(answer == record["output"]),
                              "'Anna.' is right too"),
            "prefix": (
                lambda answer, record: (
                    float(bool(answer) and normal(record["output"]).startswith(normal(answer)))),
                "a part of the word"),
            "half for anything": (lambda answer, record: 0.5 + 0.5 * honest_reward(answer, record),
                                  "earns 0.5"),
            "pays for a short list": (
                lambda answer, record: (
                    1.0 * (len(answer.split()) < 4 and record["output"] in answer)),
                "listing two candidates"),
            "wrong words pay": (lambda answer, record: float(len(answer.split()) == 1) * (
                1 + is_right(answer, record)), "earns 1, the right answer 2"),
        },
    },
}
