"""Preference tuning: DPO from pairs of answers, GRPO from a reward, and their measures.

    lab = preferences.DPO(model=(sft.model, sft.tokenizer), data="preferences")
    lab.run(beta=0.1)                     a Run: accuracy, margin, chosen, rejected in each row
    game = preferences.GRPO(preferences.exact, model=(sft.model, sft.tokenizer), data="to_past")
    game.run(num_generations=8)           a Run: reward, dead, length in each row

Losses and advantages are TRL's (`DPOTrainer`; `GRPOTrainer` with loss_type="grpo"), and the
tests compare with it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ftkit.base.config import Config, DPOConfig, GRPOConfig
from ftkit.base.errors import UserError
from ftkit.data import encoding
from ftkit.data.jsonl import DataError, Problem
from ftkit.engine import generation, loop, packed_batch, packed_loss
from ftkit.engine.packed_attention import evaluating
from ftkit.evaluate import scoring
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.inputs import some
from ftkit.experiment.run import Prepared, Row
from ftkit.memory_use import preflight

__all__ = ["DPO", "GRPO", "DPOConfig", "GRPOConfig", "advantages", "dpo_loss", "exact", "grpo_loss",
           "kl", "log_probs", "pair_examples", "sample"]


# ------------------------------------------------------------------------------ the numbers


def log_probs(model, examples: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of every labelled token, (examples, most of one), and a mask of the same
    shape that is 0 behind the last one of each example."""
    device = next(model.parameters()).device
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    losses = packed_loss.token_losses(model, packed_batch.pack(examples, device))
    counts = [sum(label != -100 for label in examples[i]["labels"][1:]) for i in order]
    parts = dict(zip(order, (-losses).split(counts), strict=True))
    parts = [parts[i] for i in range(len(examples))]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(parts, batch_first=True), pad([torch.ones_like(p.detach()) for p in parts],
                                             batch_first=True)


def dpo_loss(policy, reference, beta: float) -> tuple[torch.Tensor, dict]:
    """The loss of Rafailov et al. 2023 (arXiv 2305.18290) and its measures.

    policy, reference: (2, pairs), the summed log-probabilities of the chosen and of the rejected
    answers. margin is the difference of the implicit rewards, beta · log(policy / reference).
    """
    rewards = beta * (policy - reference)
    margins = rewards[0] - rewards[1]
    seen = {"accuracy": (margins > 0).float().mean(), "margin": margins.mean(),
            "chosen": policy[0].mean(), "rejected": policy[1].mean()}
    return -F.logsigmoid(margins).mean(), {k: v.item() for k, v in seen.items()}


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """How much better than its group each answer was, in standard deviations; rewards: (groups,
    answers). A group in which all agree gets zeros."""
    centered = rewards - rewards.mean(1, keepdim=True)
    return centered / (rewards.std(1, keepdim=True) + 1e-4)


def grpo_loss(policy, old, mask, advantage, epsilon: float, reference=None, beta: float = 0.0):
    """The loss of Shao et al. 2024: a clipped policy gradient, and the KL to the reference.

    policy, old, reference, mask: (answers, tokens), log-probabilities now, when the answers were
    drawn, and of the untouched model. advantage: (answers,). The KL is weighted by the ratio, as in
    DeepSeek-V3.2 and TRL: only then its gradient is that of the KL.
    """
    ratio, advantage = (policy - old).exp(), advantage[:, None]
    gain = torch.min(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)
    if beta:
        gain = gain - beta * ratio * k3(policy, reference)
    return -((gain * mask).sum(1) / mask.sum(1)).mean()


def k3(policy, reference) -> torch.Tensor:
    """Schulman's estimate of the KL from answers of the policy: unbiased, and never negative."""
    return (reference - policy).exp() - (reference - policy) - 1


def exact(answer: str, record: dict) -> float:
    """The reward that can be checked: 1 where the answer is the reference, else 0."""
    return float(scoring.is_right(answer, record))


def sample(model, tokenizer, prompts: list[list[int]], max_new_tokens: int,
           temperature: float = 1.0) -> tuple[list[str], list[dict]]:
    """An answer drawn to each prompt, as text and as an example whose labels are the answer."""
    ends = sorted(encoding.eos_ids(tokenizer, model))
    drawn = generation.generate(model, prompts, max_new_tokens, ends, temperature=temperature)
    texts = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in drawn]
    return texts, [{"input_ids": p + ids, "labels": [encoding.NO_LOSS] * len(p) + ids}
                   for p, ids in zip(prompts, drawn, strict=True)]


@torch.no_grad()
def kl(model, reference, tokenizer, records: list[dict], max_new_tokens: int = 24) -> float:
    """KL of the model to the reference in nats per answer, from one answer of the model to each
    record. Draws with torch's generator."""
    _, examples = sample(model, tokenizer, encoding.prompts(records, tokenizer), max_new_tokens)
    with evaluating(model), evaluating(reference):
        (policy, mask), (other, _) = (log_probs(m, examples) for m in (model, reference))
    return float((k3(policy, other) * mask).sum(1).mean())


# ------------------------------------------------------------------------------ the training


class Objective(Experiment):
    """An Experiment whose steps are not the mean loss of labelled tokens."""

    UNSUPPORTED = ("replay", "packing")
    NEEDS_TOKEN_LOSSES = True

    def encode(self, tokenizer, config):
        for name in self.UNSUPPORTED:
            if getattr(config, name) != Config.__dataclass_fields__[name].default:
                raise UserError(f"{name} is {getattr(config, name)!r}; {type(self).__name__} "
                                f"cannot do that, leave {name} out")
        return super().encode(tokenizer, config)

    def training_rows(self, run, prepared, measure):
        update = loop.Update(run.model, run.config)
        add_gradients = self.gradients(run, prepared, update.scaler)

        def take_step(learning_rate):
            row = {"learning_rate": learning_rate} | add_gradients()
            return row | {"grad_norm": float(update.apply(learning_rate))}

        return loop.run_steps(take_step, run.model, run.config, run.total_steps,
                              len(prepared.units), measure)

    def gradients(self, run, prepared, scaler) -> Callable[[], Row]:
        """A function that adds the gradients of the next step to those of the model and returns
        the loss, what else is recorded of the step, and its tokens."""
        raise NotImplementedError


@dataclasses.dataclass
class Pairs(Prepared):
    """units: pairs (chosen, rejected) of examples. reference, val_reference: what the untouched
    model gives the training and the validation pairs, as `DPO._scores`, once a run has begun."""

    reference: torch.Tensor | None = None
    val_reference: torch.Tensor | None = None


@dataclasses.dataclass
class Prompts(Prepared):
    """prompts: token ids of each question. max_answer_tokens: length of a drawn answer at most."""

    prompts: list[list[int]] = dataclasses.field(default_factory=list)
    max_answer_tokens: int = 0


class DPO(Objective):
    """An Experiment on preference records; runs take a DPOConfig.

    Its rows have the DPO loss, accuracy (fraction of pairs whose chosen answer gained more than the
    rejected one), margin, and the mean log-probability of both; `val_` is put before those of the
    validation pairs. The reference is the model that the run starts from.
    """

    CONFIG = DPOConfig

    def __init__(self, model="tiny", data="preferences", **options):
        super().__init__(model, data, **options)
        if {self.train.kind, self.val.kind} != {"preference"}:
            raise UserError(f"DPO needs preference records and {self.train.name} has "
                            f"{self.train.kind} records; give instruction, chosen and rejected")

    def encode(self, tokenizer, config):
        prepared = super().encode(tokenizer, config)
        options = {"max_length": config.max_length, "template": self.template}
        val_pairs = pair_examples(some(self.val, self.eval_records), tokenizer, **options)
        return Pairs(pair_examples(self.train, tokenizer, **options),
                     prepared.evaluations | {"val_loss": val_pairs}, prepared.about)

    def token_limits(self, config):
        one, length = super().token_limits(config)
        return 2 * one, length

    def evaluation_sets(self, prepared):
        others = dict(prepared.evaluations)
        pairs = others.pop("val_loss")
        return [[example for pair in pairs for example in pair], *others.values()]

    def train_steps(self, run, prepared, *options):
        # As long as the model is untouched it is its own reference.
        with torch.no_grad(), evaluating(run.model):
            prepared.reference = self._scores(run, prepared.units)
            prepared.val_reference = self._scores(run, prepared.evaluations["val_loss"])
        yield from super().train_steps(run, prepared, *options)

    @staticmethod
    def _scores(run, pairs) -> torch.Tensor:
        """(2, pairs): the summed log-probabilities of the chosen and the rejected answers."""
        model, parts = run.model, []
        with loop.autocast(next(model.parameters()).device, run.config.precision):
            for at in range(0, len(pairs), run.config.batch_size):
                both = zip(*pairs[at : at + run.config.batch_size], strict=True)
                parts.append(log_probs(model, [e for side in both for e in side])[0].sum(1))
        return torch.cat([part.view(2, -1) for part in parts], 1)

    def gradients(self, run, prepared, scaler):
        config, pairs, reference = run.config, prepared.units, prepared.reference
        order = loop.shuffled(len(pairs), config.batch_size, config.seed)
        passes = config.gradient_accumulation_steps

        def add_gradients():
            rows, tokens = [], 0
            for _ in range(passes):
                chosen = next(order)
                batch = [pairs[i] for i in chosen]
                policy = self._scores(run, batch)
                loss, seen = dpo_loss(policy, reference[:, chosen], config.beta)
                scaler.scale(loss / passes).backward()
                rows.append({"loss": loss.item()} | seen)
                tokens += sum(len(e["input_ids"]) for pair in batch for e in pair)
            return {k: sum(row[k] for row in rows) / passes for k in rows[0]} | {"tokens": tokens}

        return add_gradients

    def measure(self, run, prepared):
        others = dict(prepared.evaluations)
        with torch.no_grad(), evaluating(run.model):
            policy = self._scores(run, others.pop("val_loss"))
        loss, seen = dpo_loss(policy, prepared.val_reference, run.config.beta)
        return ({"val_loss": loss.item()} | {f"val_{k}": v for k, v in seen.items()}
                | super().measure(
                    run, dataclasses.replace(prepared, evaluations=others)))

    def plotted_columns(self):
        return "loss", "val_loss", "val_accuracy", *self.metrics


def pair_examples(records, tokenizer, **options) -> list[tuple[dict, dict]]:
    """(chosen, rejected) of preference records as examples; options as of `encoding.encode_all`.

    DataError names pairs whose two sides are the same tokens, as they can teach nothing.
    """
    chosen = encoding.encode_all(records, tokenizer, **options).examples
    swapped = [record | {"chosen": record["rejected"]} for record in records]
    rejected = encoding.encode_all(swapped, tokenizer, **options).examples
    pairs = list(zip(chosen, rejected, strict=True))
    lines = getattr(records, "lines", range(1, len(pairs) + 1))
    same = [Problem(line, "rejected", "the same tokens as chosen, so the pair teaches nothing; "
                    "leave it out, or raise max_length")
            for line, (a, b) in zip(lines, pairs, strict=True) if a["input_ids"] == b["input_ids"]]
    if same:
        raise DataError(getattr(records, "path", None), same)
    return pairs


class GRPO(Objective):
    """An Experiment with a reward; runs take a GRPOConfig.

    reward: a function of an answer (text) and its record that gives a number. Its rows have the
    mean reward, the fraction of dead groups (all rewards equal, so no gradient), the mean length of
    an answer in tokens, the fraction of clipped tokens, and with beta the KL to the reference in
    nats per answer. `loss` does not measure success: it starts near 0 in every batch.
    """

    CONFIG = GRPOConfig
    UNSUPPORTED = ("replay", "packing", "gradient_accumulation_steps")

    def __init__(self, reward: Callable[[str, dict], float], model="tiny", data="tasks", **options):
        super().__init__(model, data, **options)
        self.reward = reward

    def fixed_settings(self):
        return super().fixed_settings() | {"reward": getattr(self.reward, "__name__", "reward")}

    def encode(self, tokenizer, config):
        prepared = super().encode(tokenizer, config)
        references = [encoding.answer(record) for record in self.train]
        longest = max(map(len, tokenizer(references, add_special_tokens=False)["input_ids"]))
        # Of the units only the number counts: each question is used for num_iterations steps.
        return Prompts(range(len(self.train) * config.num_iterations), prepared.evaluations,
                       prepared.about, encoding.prompts(self.train, tokenizer, self.template),
                       config.max_completion_length or longest + 4)

    def token_limits(self, config):  # an answer has up to as many tokens as its record, and a few
        length = (max(map(preflight.characters, self.train))
                  + (config.max_completion_length or preflight.TEMPLATE_TOKENS))
        return config.batch_size * config.num_generations * length, length

    def largest_batch(self, prepared, config):
        prompts = sorted(prepared.prompts, key=len, reverse=True)
        answer = [0] * prepared.max_answer_tokens
        return [{"input_ids": prompt + answer, "labels": [encoding.NO_LOSS] * len(prompt) + answer}
                for i in range(config.batch_size) for prompt in [prompts[i % len(prompts)]]
                for _ in range(config.num_generations)]

    def keeps_reference(self, config):
        return bool(config.beta)

    def gradients(self, run, prepared, scaler):
        config, model, prompts = run.config, run.model, prepared.prompts
        device = next(model.parameters()).device
        reference = copy.deepcopy(model).eval() if config.beta else None
        order = loop.shuffled(len(self.train), config.batch_size, config.seed)

        def scores_of(scored_model, examples):
            with loop.autocast(device, config.precision):
                return log_probs(scored_model, examples)

        def batches():
            for chosen in order:
                repeated = [i for i in chosen for _ in range(config.num_generations)]
                texts, examples = sample(model, run.tokenizer, [prompts[i] for i in repeated],
                                         prepared.max_answer_tokens, config.temperature)
                rewards = torch.tensor([float(self.reward(text, self.train[i]))
                                        for text, i in zip(texts, repeated, strict=True)])
                rewards = rewards.view(len(chosen), -1).to(device)
                with torch.no_grad():  # at the first step the policy is the old one
                    old = scores_of(model, examples)[0] if config.num_iterations > 1 else None
                    other = scores_of(reference, examples)[0] if reference else None
                seen = {"reward": rewards.mean().item(),
                        "dead": (rewards == rewards[:, :1]).all(1).float().mean().item(),
                        "length": sum(len(e["labels"]) - e["labels"].count(encoding.NO_LOSS)
                                      for e in examples) / len(examples),
                        "tokens": sum(len(e["input_ids"]) for e in examples)}
                for _ in range(config.num_iterations):
                    yield examples, advantages(rewards).flatten(), old, other, seen

        drawn = batches()

        def add_gradients():
            examples, gains, old, other, seen = next(drawn)
            policy, mask = scores_of(model, examples)
            old = policy.detach() if old is None else old
            loss = grpo_loss(policy, old, mask, gains, config.epsilon, other, config.beta)
            scaler.scale(loss).backward()
            moved = ((policy - old).exp() - 1) * gains[:, None].sign()
            row = {"loss": loss.item(),
                   "clipped": float(((moved > config.epsilon) * mask).sum() / mask.sum())} | seen
            if reference:
                row["kl"] = float((k3(policy.detach(), other) * mask).sum(1).mean())
            return row

        return add_gradients

    def plotted_columns(self):
        return "reward", "dead", *self.metrics
