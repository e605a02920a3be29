"""Proofs about bytes, operations and GPUs: counted on real shapes, measured by torch, simulated."""

import copy
import functools
import math

import numpy
import torch
import transformers

from ftkit.interview.proofs.registry import Evidence, proof, register

GB = 1e9
A100_HOUR = 312e12 * 0.4 * 3600  # operations of one hour at 40 % of the bf16 peak
ALL = ("q", "k", "v", "o", "gate", "up", "down")
QV = ("q", "v")


@functools.cache
def llama(layers: int = 1, **shape):
    """A transformers Llama on the meta device: shapes without storage. 32 layers are a 7B."""
    wide = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 32000}
    config = transformers.LlamaConfig(num_hidden_layers=layers, attn_implementation="eager",
                                      **wide | shape)
    with torch.device("meta"):
        return transformers.LlamaForCausalLM(config)


@functools.cache
def parameters_7b() -> int:
    return sum(p.numel() for p in llama(32).parameters())


@functools.cache
def bytes_each(weights: str = "bfloat16", gradients: str = "bfloat16", master: bool = True,
               optimizer: str = "AdamW") -> dict[str, float]:
    """Bytes per parameter, of real tensors after a real optimizer step."""
    n = 4096
    weight = torch.nn.Parameter(torch.randn(n, dtype=getattr(torch, weights)))
    gradient = torch.randn(n, dtype=getattr(torch, gradients))
    stepped = torch.nn.Parameter(weight.detach().float()) if master else weight
    stepped.grad = gradient.to(stepped.dtype)
    stepper = getattr(torch.optim, optimizer)([stepped], lr=1e-3)
    stepper.step()
    state = sum(v.nbytes for v in stepper.state[stepped].values()
                if torch.is_tensor(v) and v.numel() == n)
    return {"weights": weight.nbytes / n, "gradients": gradient.nbytes / n,
            "master copy": stepped.nbytes / n if master else 0.0, "optimizer": state / n}


def bytes_fp32() -> dict[str, float]:
    return bytes_each("float32", "float32", master=False)


def scaled(parts: dict[str, float], factor: float) -> Evidence:
    """Evidence: the sum of the parts times a factor, with a bar for each part."""
    bars = {name: factor * part for name, part in parts.items()}
    return Evidence(sum(bars.values()), bars=bars)


def states(parameters: float, **kinds) -> Evidence:
    """GB of all training states."""
    return scaled(bytes_each(**kinds), parameters / GB)


def project(modules) -> list[str]:
    return [f"{module}_proj" for module in modules]


def with_adapter(model, kind: str = "LoraConfig", **options):
    """A copy of the model with an adapter of peft. kind: the name of its config class."""
    import peft

    return peft.get_peft_model(copy.deepcopy(model), getattr(peft, kind)(**options))


@functools.cache
def lora_count(r: int, modules: tuple = QV, **shape) -> int:
    """Trainable parameters of LoRA on one layer, counted by peft, times 32 layers."""
    model = with_adapter(llama(1, **shape), r=r, target_modules=project(modules))
    return 32 * model.get_nb_trainable_parameters()[0]


register(
    "count",
    # Two matrices: the embedding and the head.
    embedding_share=lambda: 100 * sum(ends.weight.numel() for ends in (
        llama(32).get_input_embeddings(), llama(32).get_output_embeddings())) / parameters_7b(),
    states_mixed=lambda: scaled(bytes_each(), 1),
    states_fp32=lambda: scaled(bytes_fp32(), 1),
    sgd_bytes=lambda: sum(bytes_each("bfloat16", "bfloat16", False, "SGD").values()),
    adam_vs_weights=lambda: bytes_each()["optimizer"] / bytes_each()["weights"],
    states_7b=lambda: states(parameters_7b()),
    states_fp32_grads=lambda: states(parameters_7b(), gradients="float32"),
    to_gib=lambda: states(parameters_7b()).left * GB / 2**30,
    states_175b=lambda: states(175e9).left / 1000,
    full_70b=lambda: states(70e9).left / 1000,
    shard_70b=lambda: 70e9 * bytes_each()["weights"] / 8 / GB,
    ewc_memory=lambda: 2 * parameters_7b() * bytes_fp32()["weights"] / GB,
    lora_share_qv=lambda: 100 * lora_count(8) / parameters_7b(),
    count_qv=lambda: lora_count(8),
    count_all=lambda: lora_count(16, ALL),
    count_gqa=lambda: lora_count(8, num_key_value_heads=8, intermediate_size=14336),
    all_vs_qv=lambda: lora_count(8, ALL) / lora_count(8),
    lora_megabytes=lambda: 2 * lora_count(8) / 1e6,
    lora_states=lambda: lora_count(8) * sum(bytes_fp32().values()) / GB,
    serving_copies=lambda: 200 * parameters_7b() * bytes_each()["weights"] / 1e12,
    serving_adapters=lambda: 200 * lora_count(8) * 2 / GB,
    frozen_7b=lambda: parameters_7b() * bytes_each()["weights"] / GB,
)

register(
    "arithmetic",
    reported_175b=lambda: 1.2e12 / 175e9,
    cost_hours=lambda: 6 * parameters_7b() * 1e8 / A100_HOUR,
    tokens_for_1000=lambda: 1000 / 2 * A100_HOUR / (6 * parameters_7b()) / 1e9,
    zero2_deepspeed=lambda: (4 + 16 / 8) * parameters_7b() / GB,
    mfu_7b=lambda: 100 * 6 * parameters_7b() * 3000 / 312e12,
    cpt_hours=lambda: 6 * 8e9 * 1e10 / A100_HOUR,
    # Activations of four sequences of 8,192 tokens against the weights and the adapter's states.
    long_sequences=lambda: (34 * 4 * 8192 * 4096 * 32 / GB,
                            (parameters_7b() * 2 + lora_count(8) * 16) / GB),
)


@proof("count")
def optimizer_share():
    parts = scaled(bytes_each(), 100 / sum(bytes_each().values())).bars or {}
    return Evidence(parts["master copy"] + parts["optimizer"], bars=parts)


def cache_gb(heads: int) -> float:
    """GB of keys and values of 4,096 tokens in 32 layers with this number of KV heads."""
    new = torch.empty(1, heads, 4096, 128, dtype=torch.float16, device="meta")
    keys, values = transformers.DynamicCache().update(new, new, 0)
    return 32 * (keys.nbytes + values.nbytes) / GB


register("count", kv_cache=lambda: cache_gb(llama().config.num_key_value_heads))


# ------------------------------------------------------------------------------ operations


@functools.cache
def operations(lora=False, checkpointing=False) -> float:
    """Multiplications of a training step through one wide decoder layer, counted by torch. The
    layer's input needs a gradient too, for the layers below it."""
    from torch.utils.checkpoint import set_checkpoint_early_stop
    from torch.utils.flop_counter import FlopCounterMode

    from ftkit.model.checkpointing import checkpoint

    body = transformers.LlamaModel(transformers.LlamaConfig(
        hidden_size=1024, intermediate_size=2752, num_attention_heads=8, num_hidden_layers=1,
        vocab_size=8, attn_implementation="eager")).train()
    if lora:
        body = with_adapter(body, r=4, target_modules="all-linear")
    if checkpointing:
        checkpoint(body)
    inside = torch.randn(1, 32, 1024, requires_grad=True)
    with set_checkpoint_early_stop(False), FlopCounterMode(display=False) as counter:
        body(inputs_embeds=inside, use_cache=False).last_hidden_state.sum().backward()
    return counter.get_total_flops()


@proof("count")
def lora_flops():
    percent = 100 * operations(lora=True) / operations()
    return Evidence(percent, bars={"full": 100.0, "LoRA r=4, all linear": percent})


@proof("count")
def checkpoint_flops():
    percent = 100 * operations(checkpointing=True) / operations()
    return Evidence(percent - 100, bars={"plain": 100.0, "with checkpointing": percent})


def tensor_gb(*shape: int, dtype) -> float:
    return torch.empty(*shape, device="meta", dtype=dtype).nbytes / GB


# Activations of one sequence of 2,048 tokens through a 7B with checkpointing, in bytes: the inputs
# of 32 layers in bf16 and all activations of one layer, 34 bytes x width (Korthikanti et al. 2022).
CHECKPOINTED = (2 * 32 + 34) * 2048 * 4096

register(
    "count",
    logits_gb=lambda: tensor_gb(8, 2048, 128256, dtype=torch.float32),
    score_matrix=lambda: tensor_gb(1, 32, 8192, 8192, dtype=torch.bfloat16),
)


@proof("arithmetic")
def activations_7b():
    kept = {"all kept": 34 * 2048 * 4096 * 32 / GB,
            "layer inputs and one layer": CHECKPOINTED / GB}
    return Evidence(kept["all kept"], bars=kept)


@proof("arithmetic")
def batch_13():
    free = 24 - nf4_bytes_7b() / GB - 0.5
    sequence = CHECKPOINTED / GB + 2048 * 32000 * (2 + 4 + 4) / GB
    return max(n for n in range(1, 200) if n * sequence <= free)


# -------------------------------------------------------------------------------- sharding


def sharded(stage: int, ranks: int = 8) -> float:
    """GB on each of `ranks` GPUs, with each kind of state sharded or replicated by ZeRO `stage`."""
    n, first_cut_in_stage = parameters_7b(), {
        "optimizer": 1, "master copy": 1, "gradients": 2, "weights": 3}
    total = 0.0
    for kind, size in bytes_each().items():
        total += size * (-(-n // ranks) if stage >= first_cut_in_stage[kind] else n)
    return total / GB


def zero_stage(stage: int) -> Evidence:
    return Evidence(sharded(stage), bars={f"stage {s}": sharded(s) for s in range(4)})


def pass_on(held, of_round: int, add: bool) -> None:
    """Run one round of a ring: each rank sends a slice to the next, which adds or copies it.

    held: (ranks, slices), changed in place.
    """
    ranks = numpy.arange(len(held))
    slices, following = (ranks + of_round) % len(held), (ranks + 1) % len(held)
    sent = held[ranks, slices].copy()
    held[following, slices] = sent + add * held[following, slices]


def ring(ranks: int, gather: bool = True, reduce: bool = True) -> float:
    """Amount each rank sends in a ring, in vectors; nan if the collective's result is wrong.

    reduce: in N - 1 rounds, rank r gets the sum of slice r + 1. gather: N - 1 more rounds send
    these slices to all ranks.
    """
    held = numpy.random.default_rng(0).integers(0, 100, (ranks, ranks))
    ready = numpy.arange(ranks), (numpy.arange(ranks) + 1) % ranks
    right = held.sum(0) if reduce else held[ready[0], ready[1]][(ready[0] - 1) % ranks]
    sent = 0
    for i in range((ranks - 1) * reduce):
        pass_on(held, -i, add=True)
        sent += 1
    for i in range((ranks - 1) * gather):
        pass_on(held, 1 - i, add=False)
        sent += 1
    result = held if gather else held[ready]
    return sent / ranks if (result == (right if gather else right[ready[1]])).all() else math.nan


register(
    "count",
    zero1=lambda: zero_stage(1),
    zero2=lambda: zero_stage(2),
    zero3=lambda: zero_stage(3),
    zero2_limit=lambda: sharded(2, 4096),
)

register("simulation", ring_bytes=lambda: ring(8) * parameters_7b() * 2 / GB)


@proof("simulation")
def zero3_traffic():
    stage_3 = 2 * ring(512, reduce=False) + ring(512, gather=False)
    return 100 * (stage_3 / ring(512) - 1)


@proof("simulation")
def bubble():
    """Simulated idle time of a pipeline, in percent. Each stage takes one unit of time per pass."""
    stages, batches, busy, end = 4, 8, 0, 0
    free, ready = [0] * stages, [0] * batches
    for order in (range(stages), reversed(range(stages))):
        for stage in order:
            for batch in range(batches):
                start = max(free[stage], ready[batch])
                free[stage] = ready[batch] = start + 1
                busy, end = busy + 1, max(end, start + 1)
    return 100 * (1 - busy / (stages * end))


# ---------------------------------------------------------------------------- checkpoints


def time_per_work(interval: float, cost: float = 60.0, between: float = 3 * 3600.0) -> float:
    """Expected seconds per second of work at random failures, Daly 2006, without restart time."""
    return between * math.expm1((interval + cost) / between) / interval


register("arithmetic",
         checkpoint_interval=lambda: min(range(60, 7200), key=lambda s: time_per_work(s)) / 60)

# ------------------------------------------------------------------------------------ NF4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@functools.cache
def nf4_bits(double: bool = True) -> float:
    """Bits per weight of a matrix in NF4: packed weights and scales, without the fixed tables."""
    from bitsandbytes import functional as bnb

    matrix = normal(1024, 1024)
    packed, state = bnb.quantize_4bit(matrix, blocksize=64, quant_type="nf4",
                                      compress_statistics=double)
    stored = packed.nbytes + state.absmax.nbytes
    if double:
        stored += state.state2.absmax.nbytes
    return 8 * stored / matrix.numel()


def nf4_bytes_7b() -> float:
    """Bytes of Llama-2-7B with its linear layers in NF4 and the rest in bf16."""
    linear = sum(p.numel() for name, p in llama(32).named_parameters() if "_proj" in name)
    return linear * nf4_bits() / 8 + (parameters_7b() - linear) * 2
