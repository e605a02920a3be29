"""Create the optimizer of a run, and the parameter groups of its model.

The optimizers are listed in `base/optimizers.py`.
"""

import torch

from ftkit.base.config import LORA
from ftkit.base.optimizers import OPTIMIZERS


def make(model, config, makers: dict | None = None) -> torch.optim.Optimizer:
    """Create the optimizer of `config` for the trainable parameters of `model`.

    Weight decay applies to matrices, not to norms and biases. A group may have a multiple of the
    learning rate, `lr_factor`, which the training loop applies.
    makers: replacements for `Optimizer.make`, by the optimizer's name.
    """
    makers = {name: entry.make for name, entry in OPTIMIZERS.items()} | (makers or {})
    entry, rate = OPTIMIZERS[config.optim], config.learning_rate
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    hidden = hidden_matrices(model) if entry.rest else set(trained)
    rest = {name: p for name, p in trained.items() if name not in hidden}
    made = [makers[config.optim](_groups({name: trained[name] for name in trained
                                          if name in hidden}, config), rate)] if hidden else []
    if rest:
        made.append(makers[entry.rest](_groups(rest, config, entry.rest_factor), rate))
    return made[0] if len(made) == 1 else Combined(made)


def hidden_matrices(model) -> set[str]:
    """Names of the trainable matrices in hidden layers, without embedding, head, and vectors stored
    as matrices."""
    get_head = getattr(model, "get_output_embeddings", None)
    outer = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    outer += [get_head()] if get_head and get_head() is not None else []
    left_out = {id(p) for module in outer for p in module.parameters()}
    return {name for name, p in model.named_parameters()
            if p.requires_grad and p.ndim == 2 and min(p.shape) > 1 and id(p) not in left_out}


def lora_plus_factor(name: str, p, config) -> float:
    """Multiple of the learning rate in LoRA+ (Hayou et al. 2024, arXiv 2402.12354): the ratio for B
    and, as in peft, for DoRA's vectors, else 1."""
    is_raised = config.method in LORA and ("lora_B" in name or p.ndim == 1)
    return config.loraplus_lr_ratio if is_raised else 1.0


def _groups(params: dict[str, torch.nn.Parameter], config, factor: float = 1.0) -> list[dict]:
    groups: dict[tuple, list] = {}
    for name, p in params.items():
        decay = config.weight_decay if p.ndim >= 2 else 0.0
        key = (p.ndim < 2, decay, factor * lora_plus_factor(name, p, config))
        groups.setdefault(key, []).append(p)
    return [{"params": members, "weight_decay": decay, "lr_factor": factor,
             "lr": config.learning_rate * factor}
            for (_, decay, factor), members in sorted(groups.items(), key=lambda item: item[0])]


class Combined(torch.optim.Optimizer):
    """Several optimizers, each with its own parameters, combined into one.

    The parts share the dicts `param_groups` and `state` of this optimizer, so its learning rates
    and checkpoints apply to them.
    """

    def __init__(self, parts: list[torch.optim.Optimizer]):
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def _share(self):
        groups = iter(self.param_groups)
        for part in self.parts:
            part.state = self.state
            part.param_groups = [next(groups) for _ in part.param_groups]

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure=None):
        for part in self.parts:
            part.step(closure)
