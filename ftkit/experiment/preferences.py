"""Preference tuning: DPO from pairs of answers, GRPO from a reward, and their measures.

    lab = preferences.DPO(model=(sft.model, sft.tokenizer), data="preferences")
    lab.run(beta=0.1)                     a Run: accuracy, margin, chosen, rejected in each row
    lab.run(loss_type="ipo")              or kto, orpo, simpo, or sft on the chosen answers
    game = preferences.GRPO(preferences.exact, model=(sft.model, sft.tokenizer), data="to_past")
    game.run(num_generations=8)           a Run: reward, dead, length in each row

The losses are in `preference_losses`, with TRL's names and formulas.
"""

import copy
import dataclasses
from collections.abc import Callable

import torch

from ftkit.base.config import MOVE_THE_BASE, Config, DPOConfig, GRPOConfig
from ftkit.base.config_fields import flagged
from ftkit.base.errors import UserError
from ftkit.data import encoding
from ftkit.data.jsonl import DataError, Problem
from ftkit.engine import generation, loop, packed_batch, packed_loss
from ftkit.experiment import preference_losses as losses
from ftkit.experiment import rewards
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.inputs import some
from ftkit.experiment.preference_losses import advantages, k3
from ftkit.experiment.rewards import exact
from ftkit.experiment.run import Prepared, Row
from ftkit.model.eval_mode import evaluating

__all__ = ["DPO", "GRPO", "DPOConfig", "GRPOConfig", "advantages", "dpo_loss", "exact", "kl",
           "log_probs", "mismatched", "pair_examples", "sample"]


# ------------------------------------------------------------------------------ the numbers


def log_probs(model, examples: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute log-probabilities of the labeled tokens, (examples, longest), and a mask of the same
    shape that is 0 in the padding."""
    device = next(model.parameters()).device
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    losses = packed_loss.Forward.of(model).token_losses(packed_batch.pack(examples, device))
    counts = [sum(label != -100 for label in examples[i]["labels"][1:]) for i in order]
    parts = dict(zip(order, (-losses).split(counts), strict=True))
    parts = [parts[i] for i in range(len(examples))]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(parts, batch_first=True), pad([torch.ones_like(p.detach()) for p in parts],
                                             batch_first=True)


def dpo_loss(policy, reference, beta: float) -> tuple[torch.Tensor, dict]:
    """The loss of `preference_losses.sigmoid` and its measures; policy, reference: (2, pairs)."""
    loss, rewards = losses.sigmoid(policy, reference, beta)
    return loss, losses.measures(policy, rewards)


def sample(model, tokenizer, prompts: list[list[int]], max_new_tokens: int,
           temperature: float = 1.0) -> tuple[list[str], list[dict]]:
    """Sample an answer to each prompt, as text and as an example with the answer as labels."""
    ends = sorted(encoding.eos_ids(tokenizer, model))
    drawn = generation.generate(model, prompts, max_new_tokens, ends, temperature=temperature)
    texts = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in drawn]
    return texts, [{"input_ids": p + ids, "labels": [encoding.NO_LOSS] * len(p) + ids}
                   for p, ids in zip(prompts, drawn, strict=True)]


@torch.no_grad()
def kl(model, reference, tokenizer, records: list[dict], max_new_tokens: int = 24) -> float:
    """KL of the model to the reference in nats per answer, estimated from one sampled answer per
    record. Uses torch's random state."""
    _, examples = sample(model, tokenizer, encoding.prompts(records, tokenizer), max_new_tokens)
    with evaluating(model), evaluating(reference):
        (policy, mask), (other, _) = (log_probs(m, examples) for m in (model, reference))
    return float((k3(policy, other) * mask).sum(1).mean())


# ------------------------------------------------------------------------------ the training


class Objective(Experiment):
    """Base class of Experiments whose loss is not the mean over labeled tokens."""

    UNSUPPORTED = flagged(Config, "sft_only")
    NEEDS_TOKEN_LOSSES = True

    def encode(self, tokenizer, config):
        for name in self.UNSUPPORTED:
            if getattr(config, name) != Config.__dataclass_fields__[name].default:
                raise UserError(f"{name} is {getattr(config, name)!r}, which {type(self).__name__} "
                                f"does not support. Leave {name} out.")
        return super().encode(tokenizer, config)

    def training_rows(self, run, prepared, measure, begin=None):
        update = loop.Update(run.model, run.config)
        start = loop.NEW if begin is None else begin(update)
        add_gradients = self.gradients(run, prepared, update.scaler, start.step)

        def take_step(learning_rate):
            row = {"learning_rate": learning_rate} | add_gradients()
            return row | {"grad_norm": float(update.apply(learning_rate))}

        return loop.run_steps(take_step, run.model, run.config, run.total_steps,
                              len(prepared.units), measure, start, run.peak_learning_rate)

    def gradients(self, run, prepared, scaler, done: int = 0) -> Callable[[], Row]:
        """Return a function that accumulates the gradients of the next step in the model and
        returns the step's row: loss, tokens and other measures. done: steps of an interrupted run,
        whose records are skipped."""
        raise NotImplementedError


@dataclasses.dataclass
class PairSet:
    """pairs: (chosen, rejected) as examples. others: from `mismatched`, for KTO only.
    reference, reference_of_others: `DPO._scores` of both under the initial model, set when a run
    begins; None if the loss needs no reference."""

    pairs: list[tuple[dict, dict]]
    others: list[tuple[dict, dict]] = dataclasses.field(default_factory=list)
    reference: torch.Tensor | None = None
    reference_of_others: torch.Tensor | None = None


@dataclasses.dataclass
class Pairs(Prepared):
    """units: the training pairs. val: the validation pairs."""

    train: PairSet = dataclasses.field(default_factory=lambda: PairSet([]))
    val: PairSet = dataclasses.field(default_factory=lambda: PairSet([]))


@dataclasses.dataclass
class Prompts(Prepared):
    """prompts: token ids of each question. max_answer_tokens: limit for a sampled answer.
    reference: the initial model; None for an adapter, which is switched off instead."""

    prompts: list[list[int]] = dataclasses.field(default_factory=list)
    max_answer_tokens: int = 0
    reference: torch.nn.Module | None = None


class DPO(Objective):
    """An Experiment on preference records; runs take a DPOConfig, whose loss_type names the loss.

    Its rows have the loss, accuracy (fraction of pairs whose chosen answer has the larger implicit
    reward), margin, and the mean log-probabilities and lengths (tokens) of both answers; measures
    of the validation pairs start with `val_`. The reference is the initial model of the run.
    """

    CONFIG = DPOConfig

    def __init__(self, model="tiny", data="preferences", **options):
        super().__init__(model, data, **options)
        for given in (self.train, self.val):
            if given.kind != "preference":
                raise UserError(f"DPO needs preference records, but {given.name} has {given.kind} "
                                "records. Pass records with instruction, chosen and rejected, such "
                                "as the sample preferences.")

    def encode(self, tokenizer, config):
        prepared = super().encode(tokenizer, config)
        options = {"max_length": config.max_length, "template": self.template,
                   "split_special_tokens": config.split_special_tokens}

        def pair_set(records):
            pairs = pair_examples(records, tokenizer, **options)
            is_kto = config.loss_type == "kto"
            return PairSet(pairs, mismatched(pairs, config.max_length) if is_kto else [])

        train, val = pair_set(self.train), pair_set(some(self.val, self.eval_records))
        return Pairs(train.pairs, prepared.evaluations | {"val_loss": val.pairs}, prepared.about,
                     train=train, val=val)

    def evaluation_sets(self, prepared):
        others = dict(prepared.evaluations)
        pairs = others.pop("val_loss")
        return [[example for pair in pairs for example in pair], *others.values()]

    def begin(self, config):
        run, prepared = super().begin(config)
        self._score_reference(run, prepared)
        return run, prepared

    def _score_reference(self, run, prepared):
        # Before the first step the model equals its reference.
        if run.config.loss_type not in losses.WITHOUT_REFERENCE:
            with torch.no_grad(), evaluating(run.model):
                for each in (prepared.train, prepared.val):
                    each.reference = self._scores(run, each.pairs)[0]
                    if each.others:
                        each.reference_of_others = self._scores(run, each.others)[0]

    @staticmethod
    def _scores(run, pairs) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed log-probabilities of the chosen and rejected answers, and their lengths in tokens;
        both (2, pairs)."""
        model, parts = run.model, []
        with loop.autocast(next(model.parameters()).device, run.config.precision):
            for at in range(0, len(pairs), run.config.batch_size):
                both = zip(*pairs[at : at + run.config.batch_size], strict=True)
                tokens, mask = log_probs(model, [e for side in both for e in side])
                parts.append([part.sum(1).view(2, -1) for part in (tokens, mask)])
        sums, lengths = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        return sums, lengths

    def _loss(self, run, data: PairSet, indices) -> tuple[torch.Tensor, dict]:
        """Loss and measures of some pairs; see `preference_losses.of_pairs`."""
        kl = reference = None
        if data.others and data.reference_of_others is not None:
            with torch.no_grad():
                policy, _ = self._scores(run, [data.others[i] for i in indices])
            kl = (policy - data.reference_of_others[:, indices]).mean().clamp(min=0)
        policy, lengths = self._scores(run, [data.pairs[i] for i in indices])
        if data.reference is not None:
            reference = data.reference[:, indices]
        return losses.of_pairs(run.config, policy, reference, lengths, kl)

    def gradients(self, run, prepared, scaler, done=0):
        config, pairs = run.config, prepared.units
        order = loop.shuffled(len(pairs), config.batch_size, config.seed)
        passes = config.gradient_accumulation_steps
        for _ in range(done * passes):
            next(order)

        def add_gradients():
            rows, tokens = [], 0
            for _ in range(passes):
                chosen = next(order)
                loss, seen = self._loss(run, prepared.train, chosen)
                scaler.scale(loss / passes).backward()
                rows.append({"loss": loss.item()} | seen)
                tokens += sum(len(e["input_ids"]) for i in chosen for e in pairs[i])
            return {k: sum(row[k] for row in rows) / passes for k in rows[0]} | {"tokens": tokens}

        return add_gradients

    def measure(self, run, prepared):
        others = dict(prepared.evaluations)
        pairs = others.pop("val_loss")
        with torch.no_grad(), evaluating(run.model):
            loss, seen = self._loss(run, prepared.val, range(len(pairs)))
        return ({"val_loss": loss.item()} | {f"val_{k}": v for k, v in seen.items()}
                | super().measure(
                    run, dataclasses.replace(prepared, evaluations=others)))

    def plotted_columns(self):
        return "loss", "val_loss", "val_accuracy", *self.metrics


def mismatched(pairs, max_length: int | None) -> list[tuple[dict, dict]]:
    """Pair each prompt with the previous pair's answers, wrapping around.

    KTO estimates the KL from answers that do not belong to their prompts. Raises UserError if there
    is only one pair.
    """
    if len(pairs) < 2:
        raise UserError("loss_type is kto, which estimates a KL from answers to other questions, "
                        "but there is only one pair. Pass at least two pairs, or choose another "
                        "loss_type.")

    def joined(example, other):
        start, at = _answer_start(example), _answer_start(other)
        return {k: (example[k][:start] + other[k][at:])[:max_length]
                for k in ("input_ids", "labels")}

    return [(joined(pair[0], before[0]), joined(pair[1], before[1]))
            for pair, before in zip(pairs, [pairs[-1], *pairs[:-1]], strict=True)]


def _answer_start(example) -> int:
    return next(i for i, label in enumerate(example["labels"]) if label != encoding.NO_LOSS)


def pair_examples(records, tokenizer, **options) -> list[tuple[dict, dict]]:
    """Encode preference records as (chosen, rejected) examples; options: `encoding.encode_all`.

    Raises DataError if the two sides of a pair have the same tokens.
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

    reward: a function of an answer (text) and its record that returns a number, or its name (see
    `rewards.named`). Its rows have the mean reward, the fraction of dead groups (all rewards equal,
    so no gradient), the mean answer length in tokens, the fraction of clipped tokens, the KL to the
    initial model in nats per answer, and the entropy of the next token in nats, as the mean of
    -log p of the drawn tokens (unbiased at temperature 1). `loss` does not measure success: it
    starts near 0 in every batch. A reward that cannot be used raises UserError.
    """

    CONFIG = GRPOConfig
    UNSUPPORTED = (*Objective.UNSUPPORTED, "gradient_accumulation_steps")

    def __init__(self, reward: Callable[[str, dict], float] | str, model="tiny", data="tasks",
                 **options):
        self.reward_name = reward if isinstance(reward, str) else None
        self.reward = rewards.named(reward) if isinstance(reward, str) else reward
        super().__init__(model, data, **options)
        rewards.rate(self.reward, encoding.answer(self.train[0]), self.train[0])

    def fixed_settings(self):
        return super().fixed_settings() | {
            "reward": rewards.identity(self.reward, self.reward_name)}

    def source(self):
        made = super().source() if self.reward_name else None
        return made and made | {"reward": self.reward_name}

    def begin(self, config):
        run, prepared = super().begin(config)
        if isinstance(prepared, Prompts) and self.keeps_reference(run.config):
            prepared.reference = copy.deepcopy(run.model).eval()
        return run, prepared

    def training_rows(self, run, prepared, measure, begin=None):
        dead = all(row["dead"] == 1 for row in run.rows)  # of an interrupted run
        for row in super().training_rows(run, prepared, measure, begin):
            dead = dead and row["dead"] == 1
            yield row
        if dead:
            run.notes.append("all answers to a question earned the same reward in every step, so "
                             "nothing was learned; check the reward, ask easier questions, or "
                             "raise num_generations or temperature")

    def encode(self, tokenizer, config):
        prepared = super().encode(tokenizer, config)
        references = [encoding.answer(record) for record in self.train]
        longest = max(map(len, tokenizer(references, add_special_tokens=False)["input_ids"]))
        # Only the number of units is used: each question serves num_iterations steps.
        return Prompts(range(len(self.train) * config.num_iterations), prepared.evaluations,
                       prepared.about, encoding.prompts(self.train, tokenizer, self.template,
                                        config.split_special_tokens),
                       config.max_completion_length or longest + 4)

    def largest_batch(self, prepared, config):
        prompts = sorted(prepared.prompts, key=len, reverse=True)
        answer = [0] * prepared.max_answer_tokens
        return [{"input_ids": prompt + answer, "labels": [encoding.NO_LOSS] * len(prompt) + answer}
                for i in range(config.batch_size) for prompt in [prompts[i % len(prompts)]]
                for _ in range(config.num_generations)]

    def keeps_reference(self, config):
        return config.method == "full" or config.init_lora_weights in MOVE_THE_BASE

    def gradients(self, run, prepared, scaler, done=0):
        config, model, prompts = run.config, run.model, prepared.prompts
        device, reference = next(model.parameters()).device, prepared.reference
        order = loop.shuffled(len(self.train), config.batch_size, config.seed)
        for _ in range(done // config.num_iterations):
            next(order)

        def scores_of(scored_model, examples):
            with loop.autocast(device, config.precision):
                return log_probs(scored_model, examples)

        @torch.no_grad()
        def initial_scores(examples):
            if reference is not None:
                return scores_of(reference, examples)[0]
            with model.disable_adapter():
                return scores_of(model, examples)[0]

        def batches():
            for chosen in order:
                repeated = [i for i in chosen for _ in range(config.num_generations)]
                texts, examples = sample(model, run.tokenizer, [prompts[i] for i in repeated],
                                         prepared.max_answer_tokens, config.temperature)
                earned = torch.tensor([rewards.rate(self.reward, text, self.train[i])
                                       for text, i in zip(texts, repeated, strict=True)],
                                      dtype=torch.float32)
                earned = earned.view(len(chosen), -1).to(device)
                other, old, is_rloo = initial_scores(examples), None, config.loss_type == "rloo"
                seen = {"reward": earned.mean().item(),
                        "dead": (earned == earned[:, :1]).all(1).float().mean().item(),
                        "length": answer_tokens(examples) / len(examples),
                        "tokens": sum(len(e["input_ids"]) for e in examples)}
                if config.num_iterations > 1 or is_rloo:  # else the policy of the step is the old
                    with torch.no_grad():
                        old, mask = scores_of(model, examples)
                    penalty = config.beta * (losses.k1(old, other) * mask).sum(1).view_as(earned)
                gains = (losses.leave_one_out(earned - penalty) if is_rloo
                         else advantages(earned, config.scale_rewards))
                for _ in range(config.num_iterations):
                    yield examples, gains.flatten(), old, other, seen

        drawn = batches()

        def add_gradients():
            examples, gains, old, other, seen = next(drawn)
            policy, mask = scores_of(model, examples)
            now = policy.detach()
            old = now if old is None else old
            loss = losses.grpo(policy, old, mask, gains, config, other,
                               prepared.max_answer_tokens)
            scaler.scale(loss).backward()
            return {"loss": loss.item(), "kl": float((k3(now, other) * mask).sum(1).mean()),
                    "entropy": float(-(now * mask).sum() / mask.sum()),
                    "clipped": losses.clipped(now, old, mask, gains, config)} | seen

        return add_gradients

    def plotted_columns(self):
        return "reward", "kl", "entropy", *self.metrics


def answer_tokens(unit: list[dict]) -> int:
    """Number of labeled tokens of a unit's examples."""
    return sum(len(e["labels"]) - e["labels"].count(encoding.NO_LOSS) for e in unit)
