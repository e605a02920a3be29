"""Proofs about bytes, operations and GPUs: counted on real shapes, weighed by torch, simulated."""

from __future__ import annotations

import functools

from ftkit.interview.proofs.core import Found, proof

GB = 1e9
A100 = 312e12 * 0.4 * 3600  # operations of an hour at 40 % of the bf16 peak


@functools.cache
def llama(layers: int = 1, **shape):
    """A transformers Llama on the meta device: shapes without storage. 32 layers are a 7B."""
    import torch
    import transformers

    wide = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 32000}
    config = transformers.LlamaConfig(num_hidden_layers=layers, attn_implementation="eager",
                                      **{**wide, **shape})
    with torch.device("meta"):
        return transformers.LlamaForCausalLM(config)


@functools.cache
def parameters_7b() -> int:
    return sum(p.numel() for p in llama(32).parameters())


@functools.cache
def weighed(weights: str = "bfloat16", gradients: str = "bfloat16", master: bool = True,
            optimizer: str = "AdamW") -> dict:
    """Bytes per parameter, read off real tensors after a real optimizer step."""
    import torch

    n = 4096
    weight = torch.nn.Parameter(torch.randn(n, dtype=getattr(torch, weights)))
    gradient = torch.randn(n, dtype=getattr(torch, gradients))
    stepped = torch.nn.Parameter(weight.detach().float()) if master else weight
    stepped.grad = gradient.to(stepped.dtype)
    made = getattr(torch.optim, optimizer)([stepped], lr=1e-3)
    made.step()
    state = sum(v.nbytes for v in made.state[stepped].values()
                if torch.is_tensor(v) and v.numel() == n)
    return {"weights": weight.nbytes / n, "gradients": gradient.nbytes / n,
            "master copy": stepped.nbytes / n if master else 0.0, "optimizer": state / n}


def states(parameters: float, **kinds) -> Found:
    parts = {k: v * parameters / GB for k, v in weighed(**kinds).items()}
    return Found(sum(parts.values()), bars=parts)


@functools.cache
def lora_count(r: int, modules: tuple, **shape) -> int:
    """Trainable parameters of LoRA on one layer, counted by peft, times 32 layers."""
    import copy

    import peft

    config = peft.LoraConfig(r=r, target_modules=[f"{m}_proj" for m in modules])
    model = peft.get_peft_model(copy.deepcopy(llama(1, **shape)), config)
    return 32 * model.get_nb_trainable_parameters()[0]


ALL = ("q", "k", "v", "o", "gate", "up", "down")

proof("states_7b")(lambda: states(parameters_7b()))
proof("states_fp32_grads")(lambda: states(parameters_7b(), gradients="float32"))
proof("to_gib")(lambda: states(parameters_7b()).left * GB / 2**30)
proof("states_175b")(lambda: states(175e9).left / 1000)
proof("reported_175b")(lambda: 1.2e12 / 175e9)
proof("full_70b")(lambda: states(70e9).left / 1000)
proof("shard_70b")(lambda: 70e9 * weighed()["weights"] / 8 / GB)
proof("ewc_memory")(lambda: 2 * parameters_7b() * weighed("float32", "float32", False)["weights"]
                    / GB)
proof("lora_share_qv")(lambda: 100 * lora_count(8, ("q", "v")) / parameters_7b())
proof("count_qv")(lambda: lora_count(8, ("q", "v")))
proof("count_all")(lambda: lora_count(16, ALL))
proof("count_gqa")(lambda: lora_count(8, ("q", "v"), num_key_value_heads=8,
                                      intermediate_size=14336))
proof("all_vs_qv")(lambda: lora_count(8, ALL) / lora_count(8, ("q", "v")))
proof("lora_megabytes")(lambda: 2 * lora_count(8, ("q", "v")) / 1e6)
proof("serving_copies")(lambda: 200 * parameters_7b() * weighed()["weights"] / 1e12)
proof("serving_adapters")(lambda: 200 * lora_count(8, ("q", "v")) * 2 / GB)
proof("frozen_7b")(lambda: parameters_7b() * weighed()["weights"] / GB)
proof("cost_hours")(lambda: 6 * parameters_7b() * 1e8 / A100)
proof("tokens_for_1000")(lambda: 1000 / 2 * A100 / (6 * parameters_7b()) / 1e9)
proof("mfu_7b")(lambda: 100 * 6 * parameters_7b() * 3000 / 312e12)
proof("cpt_hours")(lambda: 6 * 8e9 * 1e10 / A100)


@proof("optimizer_share")
def _():
    parts = weighed()
    share = (parts["master copy"] + parts["optimizer"]) / sum(parts.values())
    return Found(100 * share, bars={k: 100 * v / sum(parts.values()) for k, v in parts.items()})


@proof("adam_vs_weights")
def _():
    return weighed()["optimizer"] / weighed()["weights"]


@proof("states_mixed")
def _():
    parts = weighed()
    return Found(sum(parts.values()), bars=parts)


@proof("states_fp32")
def _():
    parts = weighed("float32", "float32", master=False)
    return Found(sum(parts.values()), bars=parts)


@proof("sgd_bytes")
def _():
    return sum(weighed("bfloat16", "bfloat16", False, "SGD").values())


@proof("lora_states")
def _():
    each = sum(weighed("float32", "float32", master=False).values())
    return lora_count(8, ("q", "v")) * each / GB


@proof("embedding_share")
def _():
    model = llama(32)
    ends = model.get_input_embeddings().weight.numel() + model.get_output_embeddings(
        ).weight.numel()
    return 100 * ends / parameters_7b()


@proof("long_sequences")
def _():
    return 34 * 4 * 8192 * 4096 * 32 / GB, parameters_7b() * 2 / GB + lora_count(
        8, ("q", "v")) * 16 / GB


@proof("kv_cache")
def _():
    import torch
    import transformers

    heads = llama().config.num_key_value_heads
    new = torch.empty(1, heads, 4096, 128, dtype=torch.float16, device="meta")
    keys, values = transformers.DynamicCache().update(new, new, 0)
    return 32 * (keys.nbytes + values.nbytes) / GB


# ------------------------------------------------------------------------------ operations


@functools.cache
def operations(lora=False, checkpointing=False) -> float:
    """Multiplications of one training step through a wide decoder layer in mid-model, counted by
    torch: its input needs a gradient too, as layers lie below it."""
    import peft
    import torch
    import transformers
    from torch.utils.checkpoint import set_checkpoint_early_stop
    from torch.utils.flop_counter import FlopCounterMode

    from ftkit.model.checkpointing import checkpoint

    body = transformers.LlamaModel(transformers.LlamaConfig(
        hidden_size=1024, intermediate_size=2752, num_attention_heads=8, num_hidden_layers=1,
        vocab_size=8, attn_implementation="eager")).train()
    if lora:
        body = peft.get_peft_model(body, peft.LoraConfig(r=4, target_modules="all-linear"))
    if checkpointing:
        checkpoint(body)
    inside = torch.randn(1, 32, 1024, requires_grad=True)
    with set_checkpoint_early_stop(False), FlopCounterMode(display=False) as counter:
        body(inputs_embeds=inside, use_cache=False).last_hidden_state.sum().backward()
    return counter.get_total_flops()


@proof("lora_flops")
def _():
    share = 100 * operations(lora=True) / operations()
    return Found(share, bars={"full": 100.0, "LoRA r=4, all linear": share})


@proof("checkpoint_flops")
def _():
    plain, again = operations(), operations(checkpointing=True)
    return Found(100 * (again / plain - 1), bars={
        "plain": 100.0, "with checkpointing": 100 * again / plain})


@proof("logits_gb")
def _():
    import torch

    return torch.empty(8, 2048, 128256, device="meta", dtype=torch.float32).nbytes / GB


@proof("score_matrix")
def _():
    import torch

    return torch.empty(1, 32, 8192, 8192, device="meta", dtype=torch.bfloat16).nbytes / GB


@proof("activations_7b")
def _():
    whole, kept = 34 * 2048 * 4096 * 32 / GB, (2 * 32 + 34) * 2048 * 4096 / GB
    return Found(whole, bars={"all kept": whole, "layer inputs and one live layer": kept})


@proof("batch_13")
def _():
    free = 24 - nf4_bytes_7b() / GB - 0.5
    sequence = (2 * 32 + 34) * 2048 * 4096 / GB + 2048 * 32000 * (2 + 4 + 4) / GB
    return max(n for n in range(1, 200) if n * sequence <= free)


# -------------------------------------------------------------------------------- sharding


def sharded(stage: int, ranks: int = 8) -> float:
    """GB on one of `ranks` GPUs: each kind of state is cut into slices, or kept whole."""
    parts, n = weighed(), parameters_7b()
    cut = {"optimizer": 1, "master copy": 1, "gradients": 2, "weights": 3}
    here = 0
    for kind, each in parts.items():
        slices = -(-n // ranks) if stage >= cut[kind] else n
        here += slices * each
    return here / GB


for _stage in (1, 2, 3):
    proof(f"zero{_stage}")(functools.partial(
        lambda stage: Found(sharded(stage), bars={
            f"stage {s}": sharded(s) for s in range(4)}), _stage))
proof("zero2_deepspeed")(lambda: (4 + 16 / 8) * parameters_7b() / GB)
proof("zero2_limit")(lambda: sharded(2, 4096))


def ring(ranks: int, length: int, gather: bool = True, reduce: bool = True) -> int:
    """Elements that one rank sends in a ring: a slice in each of N - 1 rounds, for each pass."""
    sent = 0
    for passed in (reduce, gather):
        for _ in range(ranks - 1):
            sent += (length // ranks) * passed
    return sent


@proof("zero3_traffic")
def _():
    n, ranks = 8 * 10**6, 512
    plain = ring(ranks, n)
    three = 2 * ring(ranks, n, reduce=False) + ring(ranks, n, gather=False)
    return 100 * (three / plain - 1)


@proof("ring_bytes")
def _():
    n = 8 * 10**6
    return ring(8, n) * 2 * parameters_7b() / n / GB


@proof("bubble")
def _():
    """Forward and backward of micro-batches through stages, each in one unit of time."""
    stages, batches, busy, end = 4, 8, 0, 0
    free, ready = [0] * stages, [0] * batches
    for way in (range(stages), reversed(range(stages))):
        for stage in way:
            for batch in range(batches):
                start = max(free[stage], ready[batch])
                free[stage] = ready[batch] = start + 1
                busy, end = busy + 1, max(end, start + 1)
    return 100 * (1 - busy / (stages * end))


def normal(*shape, seed=0):
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@functools.cache
def nf4_bits(double: bool = True) -> float:
    """Bits per weight of a matrix in NF4: packed weights and scales, without the fixed tables."""
    from bitsandbytes import functional as bnb

    matrix = normal(1024, 1024)
    packed, state = bnb.quantize_4bit(matrix, blocksize=64, quant_type="nf4",
                                      compress_statistics=double)
    held = packed.nbytes + state.absmax.nbytes
    held += state.state2.absmax.nbytes if double else 0
    return 8 * held / matrix.numel()


def nf4_bytes_7b() -> float:
    """Llama-2-7B with its linear layers in NF4 and the rest in bf16."""
    model = llama(32)
    linear = sum(p.numel() for name, p in model.named_parameters() if "_proj" in name)
    return linear * nf4_bits() / 8 + (parameters_7b() - linear) * 2
