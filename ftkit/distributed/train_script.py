"""Fine-tune one model on N processes, with nothing but torch and transformers.

    torchrun --nproc-per-node 4 train.py                    # one machine, 4 ranks, ZeRO-3 (FSDP2)
    torchrun --nproc-per-node 4 train.py --zero 1           # divide the states in another way
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        train.py --ranks 16                                 # on each of two machines

`--zero` is 0 (DDP: every rank holds everything), 1 (ZeroRedundancyOptimizer: optimizer states are
divided), 2 (FSDP2, parameters whole between forward and backward), 3 (FSDP2, parameters gathered
layer by layer). `--engine deepspeed` uses DeepSpeed for stages 1 to 3, if it is installed.

The folder of this file holds settings.json, steps.jsonl (learning rate and batches of each
optimizer step), data/train.jsonl (token ids and labels of each row), data/*_loss.jsonl (evaluation
sets), model/ and, for PEFT, adapter/. Rank 0 writes result/.
"""

import argparse
import contextlib
import json
import logging
import os
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--zero", default="3", help="0, 1, 2, 3, or several: 0,1,2,3")
    parser.add_argument("--engine", default="torch", choices=("torch", "deepspeed"))
    parser.add_argument("--ranks", type=int, help="refuse to start with another number of ranks")
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--out", type=Path, help="where results go (default: FOLDER/result)")
    parser.add_argument("--save", action="store_true", help="save the tuned model there too")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    stages = [int(stage) for stage in args.zero.split(",") if stage in set("0123")]
    if len(stages) != len(args.zero.split(",")):
        refuse(f"--zero is {args.zero!r}; expected 0, 1, 2 or 3, or several: 0,1,2,3")
    settings = json.loads((args.folder / "settings.json").read_text("utf-8"))
    device = join(args.ranks or settings.get("ranks"), args.engine)
    out = args.out or args.folder / "result"
    out.mkdir(parents=True, exist_ok=True)
    same_everywhere(args.folder / "steps.jsonl", device)
    for stage in stages:
        result = train(args.folder, settings, stage, args.engine, device, out, args.save)
        name = f"zero{stage}-rank{dist.get_rank()}.json"
        (out / f".{name}").write_text(json.dumps(result), "utf-8")
        (out / f".{name}").replace(out / name)
        if dist.get_rank() == 0:
            print(f"done: ZeRO-{stage}, {result['engine']}, {result['ranks']} ranks, loss "
                  f"{result['rows'][0]['loss']:.4f} → {result['rows'][-1]['loss']:.4f}; {out}")
    dist.destroy_process_group()


def refuse(why: str):
    """Print the reason and exit with status 2."""
    print(f"train.py: {why}", file=sys.stderr, flush=True)
    sys.exit(2)


def join(asked: int | None, engine: str) -> torch.device:
    """Join the process group; exit if its size is not the one requested."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        refuse("RANK and WORLD_SIZE are not set. Start train.py with `torchrun --nproc-per-node N "
               "train.py` (N may be 1).")
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", 0))
    if asked and asked != world:
        refuse(f"{asked} ranks were requested, but {world} were started. `accelerate launch` "
               "without a GPU does that: use torchrun.")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    if torch.cuda.is_available() and torch.cuda.device_count() >= here:
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    options = {"device_id": device} if device.type == "cuda" else {}
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo",
                            timeout=timedelta(minutes=10), **options)
    if engine == "deepspeed":
        os.environ.setdefault("DS_ACCELERATOR", device.type)
    return device


def same_everywhere(path: Path, device):
    """Exit if machines have different plans, since their ranks would wait for each other."""
    total = sum(path.read_bytes())
    sums = torch.tensor([total, -total], device=device)
    dist.all_reduce(sums, dist.ReduceOp.MAX)
    if sums[0] != -sums[1]:
        refuse("the ranks have different steps.jsonl files. Copy the same folder to all machines.")


# ------------------------------------------------------------------------------ model and data


def load(folder: Path, settings: dict, device):
    """Load the initial model, the same on every rank, in the precision of training."""
    import transformers

    where = settings["model"] or str(folder / "model")
    names = transformers.AutoConfig.from_pretrained(
        where, trust_remote_code=False).architectures or []
    kind = getattr(transformers, names[0] if names else "", transformers.AutoModelForCausalLM)
    transformers.utils.logging.disable_progress_bar()
    model = kind.from_pretrained(where, dtype=torch.float32, use_safetensors=True,
                                 trust_remote_code=False)
    if (folder / "adapter").is_dir():
        base = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(str(settings.get("base_dtype")))
        for p in model.parameters():  # frozen weights; the adapter stays in fp32
            p.data = p.data.to(base or p.dtype)
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # which peft imports
        import peft

        model = peft.PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
    else:
        model.requires_grad_(True)
    if settings["precision"] == "pure-bf16":
        model.to(torch.bfloat16)
    if settings["gradient_checkpointing"]:
        checkpoint(model)
    model.config.use_cache = False
    return model.to(device).train()


def checkpoint(model, use_reentrant: bool = False):
    """Recompute the activations of each layer in the backward pass."""
    # transformers 5 begins with one name and ends with the other.
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": use_reentrant})


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def padded(rows: list[dict], device) -> dict:
    """Pad rows to a batch (B, T) of ids, attention mask and labels (-100: no loss)."""
    longest = max(len(row["input_ids"]) for row in rows)

    def filled(values, filler):
        return torch.tensor([v + [filler] * (longest - len(v)) for v in values], device=device)

    return {"input_ids": filled([row["input_ids"] for row in rows], 0),
            "attention_mask": filled([[1] * len(row["input_ids"]) for row in rows], 0),
            "labels": filled([row["labels"] for row in rows], -100)}


def labeled(rows: list[dict]) -> int:
    """Number of supervised labels; the first token has no prediction and never counts."""
    return sum(label != -100 for row in rows for label in row["labels"][1:])


def loss_sum(model, rows: list[dict], device, precision: str):
    """Sum of the token losses (nats) of these rows."""
    batch = padded(rows, device)
    dtype = {"bf16": torch.bfloat16}.get(precision)
    context = torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()
    with context:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten(),
                           ignore_index=-100, reduction="sum")


def of_this_rank(rows: list) -> list:
    """Select this rank's part of a batch."""
    return rows[dist.get_rank()::dist.get_world_size()]


# ------------------------------------------------------------------------- dividing the states


def shard(model, stage: int, settings: dict, device):
    """Shard the states among the ranks; returns (module to call, optimizer, engine name)."""
    options = {"betas": (0.9, 0.999), "eps": 1e-8, "fused": device.type == "cuda"}
    if stage < 2:
        from torch.nn.parallel import DistributedDataParallel

        ids = [device.index] if device.type == "cuda" else None
        called = DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
        if stage == 0:
            return called, torch.optim.AdamW(groups(model, settings), lr=0.0, **options), "DDP"
        from torch.distributed.optim import ZeroRedundancyOptimizer

        optimizer = ZeroRedundancyOptimizer(groups(model, settings), torch.optim.AdamW, lr=0.0,
                                            **options)
        return called, optimizer, "DDP + ZeroRedundancyOptimizer"
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy()
    if settings["precision"] == "bf16":  # gathers send 2 bytes an element, sums of gradients 4
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    blocks = set(getattr(base, "_no_split_modules", None) or ())
    for module in list(base.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh, reshard_after_forward=stage == 3, mp_policy=policy)
    fully_shard(model, mesh=mesh, reshard_after_forward=stage == 3, mp_policy=policy)
    optimizer = torch.optim.AdamW(groups(model, settings), lr=0.0, **options)
    return model, optimizer, f"FSDP2, reshard_after_forward={stage == 3}"


def deepspeed(model, stage: int, settings: dict, device):
    """Shard the states with DeepSpeed (returns as `shard`); each bucket is a tenth of the model."""
    import deepspeed

    if stage == 0:
        refuse("--zero is 0 and --engine is deepspeed, which supports 1, 2 and 3. For 0 (plain "
               "DDP), use --engine torch.")
    bucket = max(10_000, sum(p.numel() for p in model.parameters()) // 10)
    sharing = {"stage": stage, "overlap_comm": False, "reduce_bucket_size": bucket,
               "allgather_bucket_size": bucket}
    called, optimizer, *_ = deepspeed.initialize(
        model=model, optimizer=torch.optim.AdamW(groups(model, settings), lr=1e-3, eps=1e-8),
        config={"train_micro_batch_size_per_gpu": 1, "zero_optimization": sharing,
                "gradient_accumulation_steps": settings["accumulation"],
                "zero_allow_untested_optimizer": True, "steps_per_print": 10**9,
                "gradient_clipping": settings["max_grad_norm"],  # its own default would be 1.0
                "bf16": {"enabled": settings["precision"] == "pure-bf16"}})
    return called, optimizer, f"DeepSpeed {deepspeed.__version__}"


def groups(model, settings) -> list[dict]:
    """Create parameter groups: weight decay applies to matrices, not to norms and biases."""
    trained = [p for p in model.parameters() if p.requires_grad]
    made = [{"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings["decay"]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0}]
    return [group for group in made if group["params"]]


def clip(params, limit: float) -> float:
    """Clip the gradients to a norm of `limit` over all ranks; returns the norm before."""
    grads = [p.grad for p in params if p.grad is not None]
    square = torch.zeros((), dtype=torch.float64, device=local(params[0]).device)
    for grad in grads:
        square += torch.linalg.vector_norm(local(grad), dtype=torch.float64) ** 2
    if any(local(g) is not g for g in grads):  # every rank holds a part of each
        dist.all_reduce(square)
    norm = square.sqrt()
    if limit and norm > limit:
        for grad in grads:
            local(grad).mul_((limit / norm).to(grad.dtype))
    return float(norm)


def local(tensor):
    """Return the part of a tensor that this rank holds."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


# -------------------------------------------------------------------------------- training


def train(folder, settings, stage, engine, device, out, save) -> dict:
    """Train by the plan; returns this rank's bytes and traffic, and the common curve."""
    torch.manual_seed(settings["seed"])
    model = load(folder, settings, device)
    numbers = {"trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
               "total": sum(p.numel() for p in model.parameters())}
    make = shard if engine == "torch" else deepspeed
    called, optimizer, name = make(model, stage, settings, device)
    rows, watched = lines(folder / "data" / "train.jsonl"), {}
    for path in sorted((folder / "data").glob("*_loss.jsonl")):
        watched[path.stem] = lines(path)
    plan, precision = lines(folder / "steps.jsonl"), settings["precision"]
    world = dist.get_world_size()
    history, held, traffic, began = [], {}, Traffic(), time.perf_counter()
    before = evaluate(called, watched, device, precision)
    for number, step in enumerate(plan, 1):
        batches = [[rows[i] for i in batch] for batch in step["batches"]]
        count, total = sum(map(labeled, batches)), torch.zeros((), device=device)
        traffic.bytes = {}
        with traffic:
            for place, batch in enumerate(batches, 1):
                mine = of_this_rank(batch)
                sync(called, place == len(batches), engine)
                # If a batch is smaller than the world, a rank has no row. It must still take part
                # in every collective, so it reads one with weight 0.
                loss = loss_sum(called, mine or batch[:1], device, precision) * bool(mine)
                total += loss.detach()
                note(held, parameters=model.parameters())
                # The engines average gradients over ranks; the loss is a mean over all tokens.
                backward(called, loss / count * world, engine, len(batches))
        note(held, gradients=[p.grad for p in model.parameters() if p.grad is not None])
        for group in optimizer.param_groups:
            group["lr"] = step["learning_rate"]
        with traffic:
            norm = update(called, optimizer, model, settings, engine)
        note(held, optimizer=optimizer_tensors(optimizer))
        dist.all_reduce(total)
        history.append({"step": number, "loss": float(total) / count, "grad_norm": norm,
                        "learning_rate": step["learning_rate"]})
        if number % settings["eval_steps"] == 0 or number == len(plan):
            history[-1] |= evaluate(called, watched, device, precision)
    if save:
        keep(model, folder, out / f"model-zero{stage}", stage)
    return {"zero": stage, "rank": dist.get_rank(), "ranks": world, "engine": name,
            "device": str(device), "parameters": numbers, "bytes": held, "before": before,
            "traffic": traffic.bytes, "rows": history, "seconds": time.perf_counter() - began}


def sync(called, last, engine):
    """Set, before a forward pass, whether its backward pass sums gradients over the ranks."""
    if engine == "deepspeed":
        called.set_gradient_accumulation_boundary(last)
    elif hasattr(called, "require_backward_grad_sync"):  # DDP; FSDP2 sums each time, which is fine
        called.require_backward_grad_sync = last


def backward(called, loss, engine, parts):
    if engine == "deepspeed":
        called.backward(loss * parts)  # it divides by their number
    else:
        loss.backward()


def update(called, optimizer, model, settings, engine) -> float:
    if engine == "deepspeed":
        called.step()
        return float(called.get_global_grad_norm() or 0.0)
    norm = clip([p for p in model.parameters() if p.requires_grad], settings["max_grad_norm"])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


@torch.no_grad()
def evaluate(called, watched, device, precision) -> dict:
    """Mean loss per labeled token of each evaluation set, computed by all ranks together."""
    found = {}
    called.eval()
    for name, rows in watched.items():
        total = torch.zeros((), device=device, dtype=torch.float64)
        by_length = sorted(rows, key=lambda row: len(row["input_ids"]))
        for start in range(0, len(rows), 32):
            batch = by_length[start : start + 32]
            mine = of_this_rank(batch)
            total += loss_sum(called, mine or batch[:1], device, precision) * bool(mine)
        dist.all_reduce(total)
        found[name] = float(total) / max(1, labeled(rows))
    called.train()
    return found


def keep(model, folder, where, stage):
    """Gather the tuned model or adapter and let rank 0 write it."""
    state = None
    if stage >= 2:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_model_state_dict(model, options=whole)
    if dist.get_rank() == 0:
        model.save_pretrained(where, state_dict=state)
        for path in (folder / "model").glob("*token*"):
            (where / path.name).write_bytes(path.read_bytes())
    dist.barrier()


# -------------------------------------------------------------------------------- counting


def note(held: dict, **parts):
    """Update this rank's largest number of bytes per part."""
    for part, tensors in parts.items():
        size = sum(local(t).numel() * local(t).element_size() for t in tensors)
        held[part] = max(held.get(part, 0), size)


def optimizer_tensors(optimizer) -> list:
    """List the AdamW state tensors of this rank."""
    inner = getattr(optimizer, "optim", None) or getattr(optimizer, "optimizer", optimizer)
    return [value for state in inner.state.values() for value in state.values()
            if torch.is_tensor(value) and value.ndim]


class Traffic(TorchDispatchMode):
    """Counts the bytes of collectives by kind, as in the ZeRO paper: the output of an all-gather,
    the input of a reduce-scatter, and both for an all-reduce."""

    def __init__(self):
        super().__init__()
        self.bytes = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        space, _, name = func.name().partition("::")
        if space == "c10d":
            for kind, whole, times in (("allreduce", 0, 2), ("broadcast", 0, 1),
                                       ("allgather", 0, 1), ("reduce_scatter", 1, 1)):
                if kind in name:
                    moved = args[whole] if isinstance(args[whole], list | tuple) else [args[whole]]
                    size = sum(t.numel() * t.element_size() for t in moved)
                    self.bytes[kind] = self.bytes.get(kind, 0) + times * size
        return func(*args, **(kwargs or {}))


if __name__ == "__main__":
    main()
