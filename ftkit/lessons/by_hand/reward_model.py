"""A reward model from scratch: a language model with one number as its output.

    scorer = reward_model.train(sft.model, preferences.pair_examples(records, tokenizer))
    scorer(examples)        one score for each text

The score is a linear function of the hidden state at the last token, which has seen the whole
text. Scores have no zero and no unit: only differences between answers to one question count.
"""

import copy

import torch

from ftkit.engine import loop
from ftkit.experiment import preference_losses as losses


def hidden_states(body, examples: list[dict]) -> torch.Tensor:
    """Last hidden states of padded examples, (examples, longest, width)."""
    device = next(body.parameters()).device
    pad = torch.nn.utils.rnn.pad_sequence
    rows = [torch.tensor(example["input_ids"], device=device) for example in examples]
    mask = pad([torch.ones_like(row) for row in rows], batch_first=True)
    return body(pad(rows, batch_first=True), attention_mask=mask).last_hidden_state


class Scorer(torch.nn.Module):
    """A copy of a causal LM's body with a linear head; all scores are 0 before training."""

    def __init__(self, model):
        super().__init__()
        self.body = copy.deepcopy(model.base_model)
        self.head = torch.nn.Linear(model.config.hidden_size, 1, bias=False)
        torch.nn.init.zeros_(self.head.weight)

    def forward(self, examples: list[dict]) -> torch.Tensor:
        """Scores, (examples,)."""
        states = hidden_states(self.body, examples)
        last = torch.tensor([len(example["input_ids"]) - 1 for example in examples])
        return self.head(states[torch.arange(len(last)), last]).squeeze(-1)


def train(model, pairs: list[tuple[dict, dict]], steps: int = 30, batch_size: int = 16,
          learning_rate: float = 5e-4, seed: int = 0) -> Scorer:
    """Train a Scorer on (chosen, rejected) examples by the Bradley-Terry loss."""
    scorer, order = Scorer(model), loop.shuffled(len(pairs), batch_size, seed)
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=learning_rate)
    for step in range(steps):
        chosen, rejected = zip(*(pairs[i] for i in next(order)), strict=True)
        scores = scorer([*chosen, *rejected]).view(2, -1)
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
        losses.reward_model(*scores).backward()
        optimizer.step()
        optimizer.zero_grad()
    return scorer.eval()


@torch.no_grad()
def margins(scorer: Scorer, pairs: list[tuple[dict, dict]]) -> torch.Tensor:
    """Score of the chosen minus that of the rejected answer, (pairs,)."""
    chosen, rejected = zip(*pairs, strict=True)
    return scorer(list(chosen)) - scorer(list(rejected))
