"""Proofs about adapters and AdamW's steps: what peft and torch do to the embedded model."""

import copy
import functools
from typing import Any

import torch
import transformers

from ftkit.data import encoding, schema
from ftkit.interview.proofs.memory import ALL, llama, project, with_adapter
from ftkit.interview.proofs.registry import proof, register


@functools.cache
def base() -> tuple[Any, Any, dict, torch.Tensor]:
    """The embedded model, its tokenizer, one batch of eight records, and the logits on it."""
    from ftkit.model import loading

    model, tokenizer = loading.load("tiny", device="cpu")
    records = encoding.encode_all(schema.records("tasks")[:8], tokenizer).examples
    batch = encoding.collate(list(records), tokenizer.pad_token_id)
    return model, tokenizer, batch, logits_of(model, batch)


def encode(records: list[dict], template: str | None = None) -> list[dict]:
    """Encode records as token ids and labels with the embedded model's tokenizer."""
    return list(encoding.encode_all(records, base()[1], template=template).examples)


def logits_of(model, batch=None):
    with torch.no_grad():
        return model.eval()(**batch or base()[2]).logits


def adapted(**config):
    """A fresh copy of the embedded model with a peft adapter."""
    options = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"} | config
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return with_adapter(base()[0], **options)


def trainable():
    """A fresh copy of the embedded model, all of it trainable."""
    return copy.deepcopy(base()[0]).requires_grad_(True).train()


def gradients(model, loss=None) -> dict:
    """Gradients of `loss` by parameter name; by default of the loss on `base`'s batch."""
    model.zero_grad()
    (model(**base()[2]).loss if loss is None else loss).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def agreement(a: dict, b: dict) -> float:
    """1 - ‖a - b‖ / ‖b‖ over all tensors: 1 if the two sets are equal.

    Unlike a cosine, it detects a wrong scale and is linear in small angles. Tensors missing
    in `a` count as zero.
    """
    return 1 - norm(a.get(name, 0.0) - b[name] for name in b) / norm(b.values())


def norm(tensors) -> float:
    """The norm of several tensors as one long vector."""
    return sum(float(t.detach().norm()) ** 2 for t in tensors) ** 0.5


def distance(parameters: dict, start: dict) -> float:
    """Distance between the parameters and `start`, over the names in `start`."""
    return norm(parameters[name].detach().float() - p.detach().float()
                for name, p in start.items())


# ------------------------------------------------------------------------------- adapters


@proof("run")
def both_zero():
    model = adapted()
    with_a = norm(gradients(model).values())
    for name, p in model.named_parameters():
        if "lora_A" in name:
            p.data.zero_()
    return norm(gradients(model).values()), with_a


def scaling(use_rslora: bool) -> float:
    model = adapted(r=64, lora_alpha=16, use_rslora=use_rslora, target_modules=["q_proj"])
    return next(m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A"))


@functools.cache
def logits_around_merge():
    """Logits with an adapter whose B is not zero, before and after merging."""
    model = adapted()
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_B" in name:  # B is no longer zero, as after some training
            p.data = 0.02 * torch.randn(p.shape, generator=generator)
    before = logits_of(model)
    return before, logits_of(model.merge_and_unload())


@proof("run")
def merge_ratio():
    before, after = logits_around_merge()
    return after.norm() / before.norm()


@proof("run")
def merge_error():
    before, after = logits_around_merge()
    return float((after - before).norm()), float((before - base()[3]).norm())


@proof("count")
def pissa_base():
    start = dict(base()[0].named_parameters())

    def drift(init):
        frozen = {name.replace("base_model.model.", "").replace("base_layer.", ""): p
                  for name, p in adapted(init_lora_weights=init).named_parameters()
                  if "base_layer.weight" in name}
        return distance(start, frozen)

    return drift("pissa"), drift(True)


@proof("count")
def tied_matrices():
    model = copy.deepcopy(base()[0])
    model.resize_token_embeddings(len(base()[1]) + 4)
    ends = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    return len({w.data_ptr() for w in ends})


# -------------------------------------------------------------------------- AdamW's steps


@functools.cache
def first_step(scale=1.0, clip: float | None = None) -> float:
    """Mean absolute change per weight in AdamW's first step, in units of the learning rate."""
    model = trainable().eval()
    old = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
    (scale * model(**base()[2]).loss).backward()
    if clip:
        size = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip * float(size))
    optimizer.step()
    # Where a gradient is as small as AdamW's eps (tokens that do not occur) there is no step.
    moves = [((p.detach() - o).abs()[p.grad.abs() > 1e-6 * scale]).flatten()
             for p, o in zip(model.parameters(), old, strict=True)]
    return float(torch.cat(moves).mean()) / 1e-4


def dora_parameters(use_dora: bool) -> int:
    """Trainable parameters of one layer at a quarter of the width of a 7B."""
    narrow = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        hidden_size=1024, intermediate_size=2752, num_attention_heads=8, num_hidden_layers=1,
        vocab_size=8))
    return with_adapter(narrow, r=8, target_modules=project(ALL),
                        use_dora=use_dora).get_nb_trainable_parameters()[0]


register(
    "count",
    scale_64=lambda: scaling(False),
    scale_rs=lambda: scaling(True),
    ia3_count=lambda: 32 * with_adapter(
        llama(1), "IA3Config", target_modules=["k_proj", "v_proj", "down_proj"],
        feedforward_modules=["down_proj"]).get_nb_trainable_parameters()[0],
    prompt_count=lambda: with_adapter(
        llama(1), "PromptTuningConfig", num_virtual_tokens=20,
        task_type="CAUSAL_LM").get_nb_trainable_parameters()[0],
    # Magnitudes in millions: four times those of a quarter of the width, in 32 layers.
    dora_extra=lambda: 4 * 32 * (dora_parameters(True) - dora_parameters(False)) / 1e6,
)

register(
    "run",
    first_gradients=lambda: 100 * torch.stack([
        g.abs().max() > 0 for g in gradients(adapted()).values()]).float().mean(),
    # Attention of this model has rows of zeros, whose direction DoRA cannot divide out.
    dora_start=lambda: logits_of(adapted(use_dora=True, target_modules=[
        "gate_proj", "up_proj", "down_proj"])).norm() / base()[3].norm(),
    frozen_rows=lambda: (norm(g for name, g in gradients(adapted()).items() if "embed" in name),
                         gradients(trainable())["model.embed_tokens.weight"].norm()),
    same_choice=lambda: 100 * (base()[3].argmax(-1) == (base()[3] / 2).argmax(-1)).float().mean(),
    adam_first_step=lambda: first_step(),
    adam_scale_free=lambda: first_step(100.0) / first_step(),
    clip_first_step=lambda: first_step(clip=0.01) / first_step(),
)


@proof("simulation")
def clip_sgd():
    def moved(clip):
        weight = torch.nn.Parameter(torch.zeros(100))
        weight.grad = torch.full((100,), 50.0)  # an outlier batch: norm 500
        if clip:
            torch.nn.utils.clip_grad_norm_([weight], 1.0)
        torch.optim.SGD([weight], lr=0.1).step()
        return float(weight.detach().norm())

    return moved(True), moved(False)


@proof("simulation")
def decay_shrink():
    from ftkit.base.config import Config
    from ftkit.engine import loop

    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=2e-5, weight_decay=0.1)
    weight.grad = torch.zeros_like(weight)
    config = Config(warmup_steps=0)
    for step in range(1, 1220):
        optimizer.param_groups[0]["lr"] = 2e-5 * loop.schedule(step, 1219, config)
        optimizer.step()
    return weight.detach()
