"""A Footprint as text: its numbers, its error, its assumptions, where it fits.

    summary(footprint), table(footprint), text(footprint)     footprint: what `ft.memory` returns
"""

from __future__ import annotations

from ftkit.base.config import MAX_LOGITS, DPOConfig, GRPOConfig
from ftkit.memory_use import formula, model_shapes, verdict
from ftkit.memory_use.byte_text import NAMES, gb, size

# Largest error of the simulated peak against the measured one: docs/measurements/MEMORY.md and
# published.json there.
ERROR = {"cpu": "at most 0.2 % from what torch's allocator recorded (docs/measurements/MEMORY.md)",
         "cuda": "not yet measured on a GPU by us; against published measurements see "
                 "docs/measurements/PUBLISHED.md"}
FORMULA_ERROR = ("activations by a closed form for a GPT in 16 bits, which was between half of the "
                 "traced peak and a quarter above it; trace the step for the bytes")
RANKS_ERROR = ("divided among the GPUs by formula: 4 % below to 14 % above real ranks of full "
               "fine-tuning at stages 2 and 3 (docs/measurements/MEMORY.md), more for LoRA")
PAPERS_RECIPE = ("16-bit weights and gradients, fp32 master copy (ZeRO paper, DeepSpeed); the "
                 "script of `ftkit run --torchrun` keeps fp32 weights instead")


def summary(footprint) -> str:
    """One or two sentences with the number, its error and where it fits."""
    where = "" if footprint.gpus == 1 else (
        f" on each of {footprint.gpus} GPUs (ZeRO-{footprint.zero})")
    fitting = sorted((model_shapes.GPUS[n].mib, n) for n, fits in footprint.fits.items() if fits)
    fits = f"the smallest GPU it fits: {fitting[0][1]}" if fitting else "it fits no single GPU"
    at = f", in the {footprint.moment}" if footprint.moment else ""
    measured = ""
    if footprint.measurement:
        off = footprint.peak / footprint.measurement - 1
        measured = f" Measured here: {size(footprint.measurement)} (prediction {off:+.3%})."
    return (f"{footprint.model}, {footprint.config.method}, {footprint.config.precision}: peak "
            f"{size(footprint.peak)}{where}{at} by {footprint.method} ({error(footprint)}); "
            f"{gb(footprint.total_states)} of states; {fits}.{measured}")


def table(footprint):
    """The parts by method, as a `report.table.Table`."""
    from ftkit.report.table import Table

    methods = {"formula": footprint.formula, "simulation": footprint.simulation,
               "each at its largest": footprint.largest}
    methods = {name: parts for name, parts in methods.items() if parts}
    return Table([
        {"": NAMES.get(part, part)}
        | {name: gb(parts[part]) if part in parts else "" for name, parts in methods.items()}
        for part in (*NAMES, "peak") if any(parts.get(part) for parts in methods.values())])


def text(footprint) -> str:
    """For a terminal: the table of parts, the summary, and the GPUs on which it fits."""
    trained = f"{footprint.trainable:,} of {footprint.parameters:,} parameters are trained"
    if footprint.quantized:
        frozen = footprint.parameters - footprint.trainable
        kind = ("8 bits (LLM.int8())" if footprint.config.load_in_8bit else
                f"4 bits ({footprint.config.bnb_4bit_quant_type})")
        trained += (f"; {footprint.quantized:,} ({footprint.quantized / frozen:.0%} of the frozen "
                    f"ones) are in {kind}, {footprint.bits:.3f} with their scales")
    if footprint.offload:
        trained += f"; {gb(footprint.host)} in the host's memory"
    fitting = [name for name, fits in footprint.fits.items() if fits]
    assumed = "; ".join(f"{name.replace('_', ' ')} {value}"
                        for name, value in footprint.assumptions.items())
    return "\n".join([
        repr(table(footprint)), "", summary(footprint), trained, f"Assumes: {assumed}",
        *(f"Note: {note}" for note in footprint.notes),
        *([*verdict.sentences(footprint.verdict), *_caution(footprint)] if footprint.verdict else
          ["Fits: " + (", ".join(fitting) or "none of the known GPUs"),
           "A smaller batch and gradient checkpointing need less; --gpu NAME says what fits "
           "into that GPU."])])


def _caution(footprint) -> list[str]:
    """What a verdict by the closed form is worth."""
    return [] if footprint.simulation or not footprint.formula.get("activations") else [
        "These are by formula, and the traced peak was up to twice as high: trace the step "
        "(without --formula) before you rely on it."]


def error(footprint) -> str:
    """The error to expect of the prediction."""
    if not footprint.simulation:
        return "states exact, activations not counted" if not footprint.formula["activations"] \
            else FORMULA_ERROR
    if footprint.zero:
        return f"{ERROR['cuda']}; {RANKS_ERROR}"
    return ERROR[footprint.device]


def name_of(model) -> str:
    """The name of what `ft.memory` was given as a model."""
    return str(getattr(model, "name_or_path", "") or getattr(model, "model_type", "")
               or (model.get("model_type", "a config") if isinstance(model, dict) else model))


def assumptions(config, shape, lengths, supervised, device, attention, logits, trainer, zero):
    """What the prediction assumes, by name, for `to_dict` and the line of `text`."""
    if shape is None:
        return {"precision": config.precision, "counts": "weights, gradients, optimizer"} | (
            {"recipe": PAPERS_RECIPE} if zero and formula.recipe(config, zero)["master"] else {})
    at_once = logits or (MAX_LOGITS if trainer == "ftkit" else None)
    assumptions = {"trainer": trainer, "device": device, "precision": config.precision}
    if config.method != "full":
        assumptions |= {"base_dtype": config.base_dtype or "fp32", "adapter_dtype": (
            "bf16" if config.precision == "pure-bf16" else "fp32")}
    return assumptions | {
        "batch_size": config.batch_size, "max_length": config.max_length,
        "tokens": sum(lengths), "supervised_fraction": supervised,
        "gradient_checkpointing": config.gradient_checkpointing,
        "attention": attention or ("packed" if trainer == "ftkit" else "sdpa on padded batches")
        if getattr(shape.get_text_config(), "num_attention_heads", 0) else "none",
        "loss": (f"at most {at_once:,} logits at once" if at_once and at_once < 10**9
                 else "all logits at once"),
        "optimizer": config.optim + (
            ", not fused" if config.optim == "adamw_torch" and trainer == "hf" else ""),
        "allocator_slack": model_shapes.SLACK} | (
            {"not_counted": "torch.compile, pages in the host's memory, buffers of NCCL and "
                            "DeepSpeed"
                            + (", activations in 8 bits" if config.load_in_8bit else "")}
            if device == "cuda" else {}) | (
            {"recipe": PAPERS_RECIPE} if zero and formula.recipe(config, zero)["master"] else {})


def notes_on(config, shape, lengths, context, trainer, footprint) -> tuple[str, ...]:
    """Sentences about what is unusual in a prediction."""
    notes = []
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
    if isinstance(config, GRPOConfig):
        notes.append("the cache of keys and values while answers are drawn is not counted")
    if isinstance(config, DPOConfig) and config.method == "full" and trainer == "hf":
        notes.append("TRL keeps a second copy of the weights as the reference, which is not "
                     "counted; precompute_ref_log_probs=True does without")
    return tuple(notes)
