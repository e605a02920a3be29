"""A Footprint as text: its numbers, its error, its assumptions, where it fits.

    summary(footprint), table(footprint), text(footprint)     footprint: what `ft.memory` returns
"""

from ftkit.base.config import MAX_LOGITS, DistillConfig, DPOConfig, GRPOConfig
from ftkit.base.formatting import gb
from ftkit.memory_use import formula, model_shapes, verdict
from ftkit.memory_use.trainers import TRAINERS

# The parts of a step's memory.
NAMES = {"weights": "weights", "gradients": "gradients", "optimizer": "optimizer state",
         "master": "fp32 master copies", "copies": "16-bit copies of weights",
         "activations": "activations", "logits": "logits", "other": "other"}
PADDED = [name for name, one in TRAINERS.items() if one.loss]  # their batches, with all logits
# Largest error of the simulated peak against the measured one: docs/measurements/MEMORY.md and
# published.json there.
ERROR = {"cpu": "at most 0.2 % from what torch's allocator recorded (docs/measurements/MEMORY.md)",
         "cuda": "not yet measured on a GPU by us; against published measurements see "
                 "docs/measurements/PUBLISHED.md"}
RANKS_ERROR = ("divided among the GPUs by formula: 4 % below to 14 % above real ranks of full "
               "fine-tuning at stages 2 and 3 (docs/measurements/MEMORY.md), more for LoRA")
PAPERS_RECIPE = ("16-bit weights and gradients, fp32 master copy (ZeRO paper, DeepSpeed); the "
                 "script of `ftkit run --torchrun` keeps fp32 weights instead")


def size(count: float) -> str:
    """Bytes in both units, which differ by 7 %."""
    return f"{gb(count)} ({count / model_shapes.GIB:.2f} GiB)" if count >= 1e9 else (
        f"{gb(count)} ({count / 2**20:.1f} MiB)")


def summary(footprint) -> str:
    """Describe the peak, its error and the GPUs on which it fits, in one or two sentences."""
    where = "" if footprint.gpus == 1 else (
        f" on each of {footprint.gpus} GPUs (ZeRO-{footprint.zero})")
    at = f", in the {footprint.moment}" if footprint.moment else ""
    measured = ""
    if footprint.measurement:
        off = footprint.peak / footprint.measurement - 1
        measured = f" Measured here: {size(footprint.measurement)} (prediction {off:+.3%})."
    return (f"{footprint.model}, {footprint.config.method}, {footprint.config.precision}: peak "
            f"{size(footprint.peak)}{where}{at}, {gb(footprint.total_states)} of it states. "
            f"Smallest GPU: {_smallest(footprint) or 'none'}. Error: {error(footprint)}.{measured}")


def _smallest(footprint) -> str:
    """Name of the smallest GPU on which the step fits; "" if there is none."""
    return min((name for name, fits in footprint.fits.items() if fits),
               key=lambda name: model_shapes.GPUS[name].mib, default="")


def table(footprint):
    """A Table of the parts at the peak, or of the states if only a number of parameters is known.
    """
    from ftkit.report.table import Table

    parts = footprint.at_peak | {"peak": footprint.peak}
    return Table([{"at the peak": NAMES.get(part, part), "": gb(parts[part])}
                  for part in (*NAMES, "peak") if parts.get(part)])


def text(footprint, verbose: bool = False) -> str:
    """Text for a terminal: where the step fits, what to change, and the parts at the peak. verbose:
    also the assumptions of the prediction."""
    config = footprint.config
    batch = f"{config.batch_size:,} x {config.max_length or 'context'} tokens"
    asked = f"{footprint.model}, {config.method}, {config.precision}, {batch}" + (
        ", checkpointing" if config.gradient_checkpointing else "")
    if footprint.verdict:
        head = verdict.sentences(footprint.verdict)
    else:
        smallest = _smallest(footprint)
        head = [f"Fits: {smallest} and every larger GPU" if smallest else "It fits no single GPU",
                "--gpu NAME says how far a batch can grow on a GPU, or what would make it fit."]
    lines = [f"{asked}: peak {size(footprint.peak)}", *head, "", repr(table(footprint)), "",
             *(f"Note: {note}" for note in footprint.notes)]
    if verbose:
        assumed = "; ".join(f"{name.replace('_', ' ')} {value}"
                            for name, value in footprint.assumptions.items())
        lines += [summary(footprint), _trained(footprint), f"Assumes: {assumed}"]
    elif footprint.measurement:
        lines.append(summary(footprint))
    else:
        lines.append(f"Error: {error(footprint)}. --verbose says what is assumed.")
    return "\n".join(lines)


def _trained(footprint) -> str:
    trained = f"{footprint.trainable:,} of {footprint.parameters:,} parameters are trained"
    if footprint.quantized:
        frozen = footprint.parameters - footprint.trainable
        kind = ("8 bits (LLM.int8())" if footprint.config.load_in_8bit else
                f"4 bits ({footprint.config.bnb_4bit_quant_type})")
        trained += (f"; {footprint.quantized:,} ({footprint.quantized / frozen:.0%} of the frozen "
                    f"ones) are in {kind}, {footprint.bits:.3f} with their scales")
    if footprint.offload:
        trained += f"; {gb(footprint.host)} in the host's memory"
    return trained


def error(footprint) -> str:
    """The expected error of the prediction, as text."""
    if not footprint.moment:
        return "states exact, activations not counted"
    if footprint.zero:
        return f"{ERROR['cuda']}; {RANKS_ERROR}"
    return ERROR[footprint.device]


def name_of(model) -> str:
    """Name of the `model` argument of `ft.memory`."""
    return str(getattr(model, "name_or_path", "") or getattr(model, "model_type", "")
               or (model.get("model_type", "a config") if isinstance(model, dict) else model))


def assumptions(config, shape, lengths, supervised, device, attention, logits, trainer, zero):
    """Map names to assumptions of the prediction, for `to_dict` and `text`."""
    recipe = {"recipe": PAPERS_RECIPE} if formula.recipe(config, zero)["master"] else {}
    if shape is None:
        return {"precision": config.precision, "counts": "weights, gradients, optimizer"} | recipe
    at_once = logits or (10**9 if trainer in PADDED else MAX_LOGITS)
    frozen = {} if config.method == "full" else {
        "base_dtype": config.base_dtype or "fp32",
        "adapter_dtype": "bf16" if config.precision == "pure-bf16" else "fp32"}
    left_out = "torch.compile, pages in the host's memory, buffers of NCCL and DeepSpeed" + (
        ", activations in 8 bits" if config.load_in_8bit else "")
    return {"trainer": trainer, "device": device, "precision": config.precision} | frozen | {
        "batch_size": config.batch_size, "max_length": config.max_length,
        "tokens": sum(lengths), "supervised_fraction": supervised,
        "gradient_checkpointing": config.gradient_checkpointing,
        "attention": attention or ("sdpa on padded batches" if trainer in PADDED else "packed")
        if shape.num_attention_heads else "none",
        "loss": f"at most {at_once:,} logits at once" if at_once < 10**9 else "all logits at once",
        "optimizer": config.optim + (
            ", not fused" if config.optim == "adamw_torch" and trainer in PADDED else ""),
        "allocator_slack": model_shapes.SLACK,
    } | ({"not_counted": left_out} if device == "cuda" else {}) | recipe


def notes_on(config, shape, lengths, context, trainer, footprint, usual) -> tuple[str, ...]:
    """List sentences about unusual properties of a prediction. usual: fields of Config that nobody
    gave."""
    notes = []
    if usual:
        options = " ".join(f"--{name.replace('_', '-')} {value}".lower()
                           for name, value in usual.items())
        notes.append(f"{options} is assumed, as usual with {config.method}")
    if shape is not None and max(lengths) > context:
        notes.append(f"sequences of {max(lengths):,} tokens are longer than the {context:,} that "
                     "this model was made for; its positions would have to be extended")
    frozen = footprint.parameters - footprint.trainable
    if config.method == "qlora" and footprint.quantized < 0.9 * frozen:
        share = footprint.states["weights"] * 8 / footprint.parameters
        quantized = footprint.quantized / frozen
        notes.append(f"only {quantized:.0%} of the frozen parameters are quantized: bitsandbytes "
                     "quantizes linear layers, and the rest (experts of a mixture, "
                     f"embeddings) stays in 16 or 32 bits; {share:.2f} bits on average")
    if shape is not None and shape.model_type == "gpt_oss":
        model = footprint.parameters if config.method == "full" else frozen
        notes.append("this model is published with its experts in MXFP4, which serves for "
                     f"inference ({gb(_in_mxfp4(shape, model))}); transformers trains it after "
                     "Mxfp4Config(dequantize=True), in 16 bits as counted here")
    if isinstance(config, GRPOConfig):
        notes.append("the cache of keys and values while answers are drawn is not counted")
    if isinstance(config, DistillConfig):
        notes.append("the teacher, its logits, and the cache while answers are drawn are not "
                     "counted")
    if isinstance(config, GRPOConfig) and config.method == "full":
        notes.append("the frozen copy of the model, to which a run measures its KL, is not counted")
    if isinstance(config, DPOConfig) and config.method == "full" and trainer == "hf":
        notes.append("TRL keeps a second copy of the weights as the reference, which is not "
                     "counted; precompute_ref_log_probs=True does without")
    return tuple(notes)


def _in_mxfp4(shape, parameters: int) -> float:
    """Bytes of a gpt-oss model whose experts are in MXFP4 (4-bit numbers, 8 bits of scale for 32)
    and whose other parameters are in 16 bits."""
    experts = (3 * shape.num_hidden_layers * shape.num_local_experts * shape.hidden_size
               * shape.intermediate_size)
    return experts * (4 + 8 / 32) / 8 + 2 * (parameters - experts)
