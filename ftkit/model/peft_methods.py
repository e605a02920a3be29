"""PEFT methods: turn a Config into a peft config and a peft model.

    peft_methods.request(model, Config(method="ia3"))   # the peft config
    peft_methods.wrap(model, config)                    # the peft model around the frozen base
"""

from ftkit.base.config import LORA
from ftkit.base.config_fields import counterparts
from ftkit.base.errors import UserError


def request(model, config):
    """Create the peft config for `config.method`. Raises UserError if fields contradict each other.

    For IA3, all-linear means peft's default modules for the architecture: keys, values and the
    input of the last MLP matrix, as in the paper (arXiv:2205.05638). Prompt tuning starts from the
    embeddings of random tokens, which arXiv:2104.08691 found better than noise.
    """
    import peft

    method, task = config.method, "CAUSAL_LM"
    if method == "prompt_tuning":
        return peft.PromptTuningConfig(num_virtual_tokens=config.num_virtual_tokens,
                                       prompt_tuning_init="SAMPLE_VOCAB", task_type=task)
    if method == "prefix_tuning":
        if config.gradient_checkpointing:
            raise UserError("gradient_checkpointing is True with method prefix_tuning, whose "
                            "vectors are in the key-value cache and do not reach recomputed "
                            "layers. Set gradient_checkpointing to False, or method to "
                            "prompt_tuning.")
        return peft.PrefixTuningConfig(num_virtual_tokens=config.num_virtual_tokens,
                                       task_type=task)
    targets = config.target_modules
    if targets != "all-linear":
        targets = [name.strip() for name in targets.split(",") if name.strip()]
    if method == "ia3":
        kind, known = model.config.model_type, peft.utils.constants
        if targets == "all-linear" and (
                kind not in known.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING):
            raise UserError("target_modules is 'all-linear' with method ia3, but peft has no "
                            f"default layers for IA3 in a {kind}. Name the layers, such as "
                            "k_proj,v_proj,down_proj, or set method to lora.")
        if targets == "all-linear":
            return peft.IA3Config(task_type=task)
        inputs = peft.utils.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
        inputs = inputs.get(model.config.model_type, ())
        return peft.IA3Config(target_modules=targets, task_type=task,
                              feedforward_modules=[name for name in targets if name in inputs])
    if method not in LORA:
        raise NotImplementedError(f"no peft config for method {method!r}")
    start = config.init_lora_weights
    if method == "qlora" and start in ("pissa", "olora"):
        raise UserError(f"init_lora_weights is {start!r} with method qlora, but it changes the "
                        "base's weights, which are quantized. Set init_lora_weights to default, or "
                        "method to lora.")
    if config.use_dora and config.load_in_8bit:  # peft ignores the row scales on a CPU
        raise UserError("use_dora and load_in_8bit are both True, which is not supported. Use DoRA "
                        "on a base in 4 or 16 bits, or LoRA on a base in 8 bits.")
    if start == "orthogonal" and config.r % 2:
        raise UserError(f"init_lora_weights is 'orthogonal' with r {config.r}; expected an even r")
    return peft.LoraConfig(**counterparts(config, "LoraConfig") | {
        "target_modules": targets, "init_lora_weights": True if start == "default" else start,
        "exclude_modules": _unfit(model) if targets == "all-linear" else [], "task_type": task})


# peft cannot adapt UNFIT layers in these models: kernels read the weights without calling modules.
STATE_SPACE = ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h")
UNFIT = ["conv1d", "out_proj"]


def _unfit(model) -> list[str]:
    return UNFIT if model.config.model_type in STATE_SPACE else []


def wrap(model, config):
    """Wrap `model` in a peft model and freeze the original weights.

    pissa and olora move part of the base's weights into the adapter, so the base changes but the
    model's outputs do not. peft's `from_pretrained` repeats this when it loads a saved adapter.
    """
    import peft

    asked = request(model, config)
    names = {name.rpartition(".")[2] for name, module in model.named_modules()
             if getattr(getattr(module, "weight", None), "ndim", 0) == 2}
    try:
        model = peft.get_peft_model(model, asked)
    except ValueError as error:
        said = str(error)
        if "arget modules" not in said and "target_modules" not in said:
            raise
        why = ("includes a layer that peft cannot adapt in this architecture"
               if "ncompatible" in said else "matches no layer of this model")
        raise UserError(f"target_modules {config.target_modules!r} {why}; expected all-linear or "
                        f"some of {', '.join(sorted(names - {*_unfit(model)}))}") from None
    if config.use_dora:
        _give_dead_rows_a_direction(model)
    return model


def _give_dead_rows_a_direction(model):
    """Initialize DoRA's B to 1e-6 in rows where the weight is 0, as in some of the embedded base.

    DoRA divides each row by its norm, which would give nan there. B is saved with the adapter.
    """
    import torch

    for module in model.modules():
        lengths = getattr(module, "lora_magnitude_vector", None)
        if not lengths or "default" not in module.lora_B:
            continue
        length, B = lengths["default"].weight, module.lora_B["default"].weight
        dead, small = length == 0, 1e-6
        row = small * module.lora_A["default"].weight.sum(0)  # the update from such a row of B
        with torch.no_grad():  # torch.where, since shapes must not depend on values
            B.copy_(torch.where(dead[:, None], small, B))
            length.copy_(torch.where(dead, module.scaling["default"] * row.norm(), length))


def is_virtual(model) -> bool:
    """Whether `model` has virtual tokens (prompt or prefix tuning)."""
    active = getattr(model, "active_peft_config", None)
    return active is not None and active.is_prompt_learning
