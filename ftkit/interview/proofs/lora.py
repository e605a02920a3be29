"""Proofs about adapters: what peft really does to the embedded model, and what it counts."""

from __future__ import annotations

import copy
import functools

from ftkit.interview.proofs.core import Found, proof
from ftkit.interview.proofs.memory import ALL, llama


@functools.cache
def base():
    """The embedded model, its tokenizer and one batch of eight records."""
    import torch

    from ftkit.data import encoding, schema
    from ftkit.model import loading

    model, tokenizer = loading.load("tiny", device="cpu")
    coded = encoding.encode_all(schema.records("tasks")[:8], tokenizer).examples
    batch = encoding.collate(coded, tokenizer.pad_token_id)
    with torch.no_grad():
        logits = model.eval()(**batch).logits
    return model, tokenizer, batch, logits


def adapted(seed=0, **config):
    """A fresh copy of the embedded model with an adapter by peft."""
    import peft
    import torch

    options = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"} | config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return peft.get_peft_model(copy.deepcopy(base()[0]), peft.LoraConfig(**options))


def logits_of(model):
    import torch

    with torch.no_grad():
        return model.eval()(**base()[2]).logits


def gradients(model) -> dict:
    model.zero_grad()
    model(**base()[2]).loss.backward()
    return {name: p.grad for name, p in model.named_parameters()
            if p.requires_grad and p.grad is not None}


def norm(tensors) -> float:
    return sum(float(t.detach().norm()) ** 2 for t in tensors) ** 0.5


def shaken(model):
    """B as after some training, so that the adapter does something."""
    import torch

    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data = 0.02 * torch.randn(p.shape, generator=generator)
    return model


@proof("first_gradients")
def _():
    found = gradients(adapted())
    moving = sum(bool(g.abs().max() > 0) for g in found.values())
    return 100 * moving / len(found)


@proof("both_zero")
def _():
    model = adapted()
    alive = norm(gradients(model).values())
    for name, p in model.named_parameters():
        if "lora_A" in name:
            p.data.zero_()
    return norm(gradients(model).values()), alive


@functools.cache
def scaling(rs: bool) -> float:
    model = adapted(r=64, lora_alpha=16, use_rslora=rs, target_modules=["q_proj"])
    return next(m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A"))


proof("scale_64")(lambda: scaling(False))
proof("scale_rs")(lambda: scaling(True))


@functools.cache
def merged():
    model = shaken(adapted())
    before = logits_of(model)
    return before, logits_of(model.merge_and_unload())


proof("merge_ratio")(lambda: merged()[1].norm() / merged()[0].norm())


@proof("merge_error")
def _():
    before, after = merged()
    return float((after - before).norm()), float((before - base()[3]).norm())


def counted(config, model=None) -> int:
    import peft

    made = peft.get_peft_model(copy.deepcopy(model or llama(1)), config)
    return made.get_nb_trainable_parameters()[0]


@proof("ia3_count")
def _():
    import peft

    return 32 * counted(peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"],
                                       feedforward_modules=["down_proj"]))


@proof("prompt_count")
def _():
    import peft

    return counted(peft.PromptTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM"))


@proof("dora_extra")
def _():
    """The extra magnitudes of a layer a quarter as wide, times 4, times 32 layers."""
    import peft
    import torch
    import transformers

    with torch.device("cpu"):
        narrow = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            hidden_size=1024, intermediate_size=2752, num_attention_heads=8, num_hidden_layers=1,
            vocab_size=8))
    modules = [f"{m}_proj" for m in ALL]
    with_it, without = (counted(peft.LoraConfig(r=8, target_modules=modules, use_dora=dora), narrow)
                        for dora in (True, False))
    return 4 * 32 * (with_it - without) / 1e6


@proof("dora_start")
def _():
    # Its attention has rows of zeros, whose direction DoRA cannot divide out.
    mlp = adapted(use_dora=True, target_modules=["gate_proj", "up_proj", "down_proj"])
    return logits_of(mlp).norm() / base()[3].norm()


@proof("pissa_base")
def _():
    def drift(start):
        model = adapted(init_lora_weights=start)
        old = dict(base()[0].named_parameters())
        moved = [p - old[n.replace("base_model.model.", "").replace("base_layer.", "")]
                 for n, p in model.named_parameters() if "base_layer.weight" in n]
        return norm(moved)

    return drift("pissa"), drift(True)


@proof("frozen_rows")
def _():
    full = copy.deepcopy(base()[0]).requires_grad_(True)
    lora = gradients(adapted())
    held = [g for name, g in lora.items() if "embed" in name]
    return norm(held), float(gradients(full)["model.embed_tokens.weight"].norm())


@proof("tied_matrices")
def _():
    model = copy.deepcopy(base()[0])
    model.resize_token_embeddings(len(base()[1]) + 4)
    ends = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    return len({w.data_ptr() for w in ends})


@proof("same_choice")
def _():
    logits = base()[3]
    return Found(100 * float((logits.argmax(-1) == (logits / 2).argmax(-1)).float().mean()))


# -------------------------------------------------------------------------- AdamW's steps


@functools.cache
def first_step(scale=1.0, clip: float | None = None) -> float:
    """Mean length of AdamW's first step on the embedded model, in learning rates."""
    import torch

    model = copy.deepcopy(base()[0]).requires_grad_(True)
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


proof("adam_first_step")(lambda: first_step())
proof("adam_scale_free")(lambda: first_step(100.0) / first_step())
proof("clip_first_step")(lambda: first_step(clip=0.01) / first_step())


@proof("clip_sgd")
def _():
    import torch

    weight = torch.nn.Parameter(torch.zeros(100))

    def moved(clip):
        weight.data.zero_()
        weight.grad = torch.full((100,), 50.0)  # an outlier batch: norm 500
        if clip:
            torch.nn.utils.clip_grad_norm_([weight], 1.0)
        torch.optim.SGD([weight], lr=0.1).step()
        return float(weight.detach().norm())

    return moved(True), moved(False)


@proof("decay_shrink")
def _():
    import torch

    from ftkit.base.config import Config
    from ftkit.engine import loop

    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=2e-5, weight_decay=0.1)
    weight.grad = torch.zeros_like(weight)
    config = Config(warmup_steps=0)
    for step in range(1, 1220):
        optimizer.param_groups[0]["lr"] = 2e-5 * loop.schedule(step, 1219, config)
        optimizer.step()
    return float(weight.detach())
