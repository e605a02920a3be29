"""Distillation: the student learns the teacher's next-token probabilities.

    lab = distillation.Distillation("smollm2", model=my_student, data="tasks")
    lab.run(lmbda=1.0, beta=1.0)       on-policy: answers of the student, reverse KL
    lab.run(lmbda=0.0, beta=0.0)       off-policy: answers of the records, forward KL

The teacher sees the same tokens as the student, so both need the same vocabulary.
"""

import random
from pathlib import Path
from typing import Any

import torch

from ftkit.base.config import DistillConfig, DPOConfig, GRPOConfig
from ftkit.base.errors import UserError
from ftkit.data import encoding
from ftkit.engine import loop, packed_batch, packed_loss
from ftkit.experiment import fingerprint, inputs, preferences
from ftkit.experiment import preference_losses as losses
from ftkit.experiment.preferences import Objective
from ftkit.model import loading, merge


class Distillation(Objective):
    """An Experiment with a teacher; runs take a DistillConfig.

    teacher: a name, folder, hub id, or a `(model, tokenizer)` pair. The loss in its rows is the
    divergence from the teacher in nats per token. kl: the reverse KL, whatever `beta`. entropy: of
    the student's next token (nats). length: tokens of an answer. on_policy: fraction of the
    batches that the student answered.
    """

    CONFIG = DistillConfig
    UNSUPPORTED = (*Objective.UNSUPPORTED, "gradient_accumulation_steps")

    def __init__(self, teacher: str | Path | tuple[Any, Any], model="tiny", data="tasks",
                 **options):
        super().__init__(model, data, **options)
        self.teacher = str(teacher) if isinstance(teacher, Path) else teacher
        inputs.check_kinds(self.teacher, None, 1)
        if isinstance(self.teacher, str):
            loading.locate(self.teacher)

    def fixed_settings(self):
        return super().fixed_settings() | {"teacher": fingerprint.fingerprint(self.teacher)}

    def source(self):
        made = super().source()
        return made and (made | inputs.absolute({"teacher": self.teacher})
                         if isinstance(self.teacher, str) else None)

    def keeps_reference(self, config):
        return True

    def gradients(self, run, prepared, scaler, done=0):
        config, student, units = run.config, run.model, prepared.units
        device = next(student.parameters()).device
        teacher = self._teacher(run.tokenizer, device)
        prompts = encoding.prompts(self.train, run.tokenizer, self.template)
        limit = config.max_completion_length or max(map(preferences.answer_tokens, units)) + 4
        order = loop.shuffled(len(units), config.batch_size, config.seed)
        coin = random.Random(f"lmbda/{config.seed}")
        for _ in range(done):
            next(order)
            coin.random()

        def logits(model, batch):
            with loop.autocast(device, config.precision):
                return packed_loss.Forward.of(model).logits(batch)[0]

        def add_gradients():
            chosen, is_own = next(order), coin.random() < config.lmbda
            examples = [e for i in chosen for e in units[i]]
            if is_own:
                # The driver of a run leaves this block if the first batch draws nothing.
                with prepared.random:
                    _, examples = preferences.sample(
                        student, run.tokenizer, [prompts[i] for i in chosen], limit,
                        config.temperature)
            batch = packed_batch.pack(examples, device)
            with torch.no_grad():
                wanted = logits(teacher, batch)
            made = logits(student, batch)
            loss = losses.divergence(made, wanted, config.beta, config.temperature)
            scaler.scale(loss).backward()
            log_p = made.detach().log_softmax(-1)
            return {"loss": loss.item(), "tokens": batch.tokens, "on_policy": float(is_own),
                    "kl": losses.divergence(made.detach(), wanted).item(),
                    "entropy": -(log_p.exp() * log_p).sum(-1).mean().item(),
                    "length": preferences.answer_tokens(examples) / len(examples)}

        return add_gradients

    def _teacher(self, tokenizer, device):
        model, its_tokenizer = (loading.load(self.teacher, device=device)
                                if isinstance(self.teacher, str) else self.teacher)
        if its_tokenizer.get_vocab() != tokenizer.get_vocab():
            raise UserError("the teacher's vocabulary is not the student's, so their next-token "
                            "probabilities cannot be compared; give a teacher of the same family, "
                            "or let it write answers and train on them with objective sft")
        return merge.unwrap(model).to(device).eval().requires_grad_(False)

    def plotted_columns(self):
        return "loss", "kl", "entropy", *self.metrics


# Kind of Config → its Experiment, other than Experiment itself.
EXPERIMENTS = {DPOConfig: preferences.DPO, GRPOConfig: preferences.GRPO,
               DistillConfig: Distillation}
