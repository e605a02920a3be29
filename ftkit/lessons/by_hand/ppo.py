"""PPO from scratch: a policy, a critic that predicts the reward, and advantages for each token.

    policy, rows = ppo.train(reward, sft.model, tokenizer, records, steps=14)

One step: draw an answer to each question; the reward arrives after the last token, and each token
pays for leaving the reference; the critic's predictions turn that into advantages (GAE); then a few
updates of both networks on the same answers, with clipped ratios.
"""

import copy
from collections.abc import Callable

import torch

from ftkit.data import encoding
from ftkit.engine import loop
from ftkit.experiment import preference_losses as losses
from ftkit.experiment import rewards
from ftkit.experiment.preferences import log_probs, sample
from ftkit.lessons.by_hand.reward_model import Scorer, hidden_states


def values(critic: Scorer, examples: list[dict]) -> torch.Tensor:
    """The critic's prediction before each answer token, (answers, longest answer)."""
    predicted = critic.head(hidden_states(critic.body, examples)).squeeze(-1)
    parts = []
    for row, example in zip(predicted, examples, strict=True):
        start = example["labels"].count(encoding.NO_LOSS)  # tokens of the question
        parts.append(row[start - 1 : len(example["labels"]) - 1])
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)


def train(reward: Callable[[str, dict], float], model, tokenizer, records: list[dict],
          steps: int = 14, batch_size: int = 48, epochs: int = 2, learning_rate: float = 2e-4,
          critic_rate: float = 1e-3, beta: float = 0.0, lam: float = 0.95,
          max_new_tokens: int = 18, seed: int = 0) -> tuple[torch.nn.Module, list[dict]]:
    """Train a copy of the model. Returns it, and a row for each step: reward, value_error (root
    mean square, in units of the reward), kl (nats per answer), length (tokens)."""
    torch.manual_seed(seed)
    policy, critic, rows = copy.deepcopy(model), Scorer(model), []
    optimizer = torch.optim.AdamW([
        {"params": list(policy.parameters()), "lr": learning_rate, "peak": learning_rate},
        {"params": list(critic.parameters()), "lr": critic_rate, "peak": critic_rate}],
        weight_decay=0.0)
    prompts = encoding.prompts(records, tokenizer)
    order = loop.shuffled(len(records), batch_size, seed)
    for step in range(steps):
        chosen = next(order)
        texts, answers = sample(policy, tokenizer, [prompts[i] for i in chosen], max_new_tokens)
        earned = torch.tensor([rewards.rate(reward, text, records[i])
                               for text, i in zip(texts, chosen, strict=True)])
        with torch.no_grad():
            (old, mask), (reference, _) = log_probs(policy, answers), log_probs(model, answers)
            old_values = values(critic, answers)
        lengths = mask.sum(1).long()
        paid = -beta * losses.k1(old, reference) * mask
        paid[torch.arange(len(lengths)), lengths - 1] += earned
        advantage, returns = losses.gae(paid, old_values, mask, lam=lam)
        centered = advantage - (advantage * mask).sum() / mask.sum()
        advantage = centered / ((centered.square() * mask).sum() / mask.sum()).sqrt().add(1e-4)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * (1 - step / steps)
        for _ in range(epochs):
            now, predicted = log_probs(policy, answers)[0], values(critic, answers)
            policy_loss, value_loss = losses.ppo(now, old, mask, advantage, predicted, old_values,
                                                 returns)
            optimizer.zero_grad()
            (policy_loss + value_loss).backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            torch.nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
            optimizer.step()
        error = ((returns - old_values).square() * mask).sum() / mask.sum()
        rows.append({"step": step + 1, "reward": earned.mean().item(),
                     "value_error": error.sqrt().item(), "length": lengths.float().mean().item(),
                     "kl": (losses.k3(old, reference) * mask).sum(1).mean().item()})
    return policy.eval(), rows
