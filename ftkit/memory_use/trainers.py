"""How the training steps of other libraries differ from ours in memory.

    TRAINERS["litgpt"].loss, .prepare(model, config)

Only differences that were found in their code, and that published measurements show
(docs/measurements/PUBLISHED.md). All pad batches, but for torchtune, which packs. This module does
not import torch, so that the command line has the names.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

CHUNK = 128  # tokens of each sequence whose logits litgpt computes at once


def _padded(forward, batch):
    """Loss of transformers' Trainer: padded rows and the model's own loss, on all logits in fp32.
    Under autocast, accelerate also converts the returned logits to fp32."""
    import torch

    ids, labels = _rows(batch)
    ragged = len({len(e["input_ids"]) for e in batch.examples}) > 1
    output = forward.model(input_ids=ids, labels=labels, use_cache=False,
                           attention_mask=torch.ones_like(ids) if ragged else None,
                           num_items_in_batch=batch.supervised_tokens)
    returned = output.logits.float() if torch.is_autocast_enabled("cpu") else output.logits
    loss = output.loss
    del returned, output
    return loss * batch.supervised_tokens


def _in_chunks(forward, batch):
    """Loss of litgpt: logits of CHUNK tokens at a time, in the model's precision."""
    import torch
    import torch.nn.functional as F

    ids, labels = _rows(batch)
    hidden = forward.base.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    head = forward.base.get_output_embeddings()
    logits = [head(part) for part in hidden.split(CHUNK, dim=1)]
    losses = [F.cross_entropy(part.flatten(0, 1), targets.flatten(), reduction="none")
              for part, targets in zip(logits, labels.split(CHUNK, dim=1), strict=True)]
    return torch.cat(losses).sum()


def _rows(batch) -> list:
    import torch

    return [torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(e[name], device=batch.input_ids.device) for e in batch.examples],
        batch_first=True) for name in ("input_ids", "labels")]


def _plain_adamw(foreach: bool, groups, learning_rate):
    """AdamW without fusion. On CUDA it updates all tensors at once, which needs an additional
    tensor per weight."""
    import torch

    return torch.optim.AdamW(groups, lr=learning_rate, foreach=foreach)


def _nothing(model, config) -> list:
    return []


def _kept_by_litgpt(model, config) -> list:
    """Make a step keep what litgpt's QLoRA keeps (litgpt/finetune/lora.py, litgpt 0.5); returns
    the tensors that it holds all the time.

    It copies the embedding into a `StableEmbedding` and holds the old one, and a gradient that no
    optimizer clears. bitsandbytes 0.42, which it requires, keeps the input of each 4-bit layer
    in its autograd node. The loop's variable `loss` holds the nodes of one step until the loss of
    the next one is computed.
    """
    import torch

    if config.method != "qlora":
        return []
    kept, earlier = {}, {}

    def keep(module, inputs):
        storage = inputs[0].untyped_storage()
        if torch.is_grad_enabled() and storage._cdata not in kept:  # noqa: SLF001  its address
            kept[storage._cdata] = inputs[0]  # noqa: SLF001
            earlier[len(earlier)] = torch.empty_like(inputs[0])

    for module in model.modules():
        if getattr(module, "quant_state", None) is not None:
            module.register_forward_pre_hook(keep)
    embedding = model.get_input_embeddings().weight
    return [torch.empty_like(embedding) for _ in ("the old one", "the gradient")]


def _free_gradients(model, config) -> list:
    """Drop each gradient at once: torchtune's full fine-tuning of one device updates a weight in
    the backward pass (`optimizer_in_bwd`)."""
    if config.method == "full":
        for p in model.parameters():
            p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    return []


class Trainer(NamedTuple):
    """A library's step. about: for the help of the command line. loss: its forward pass on a padded
    batch, given our `packed_loss.Forward`, or None for ours. optimizers: replacements of
    makers, given whether the device is a GPU. prepare: changes a model's step, and returns tensors
    that are held all the time. alone: a model is litgpt's own: the head is not tied, and all linear
    layers are quantized, without quantizing the scales."""

    about: str
    loss: Callable | None = None
    optimizers: Callable[[bool], dict] = lambda on_gpu: {}
    prepare: Callable = _nothing
    alone: bool = False


def _unfused(on_gpu: bool) -> dict:
    return {"adamw_torch": functools.partial(_plain_adamw, on_gpu)}


TRAINERS = {
    "ftkit": Trainer("ftkit (default)"),
    "hf": Trainer("hf (transformers' Trainer)", _padded, _unfused),
    "litgpt": Trainer("litgpt", _in_chunks, _unfused, _kept_by_litgpt, alone=True),
    "torchtune": Trainer("torchtune", prepare=_free_gradients)}
# Libraries whose step is not predicted, and the reason (docs/DECISIONS.md).
NOT_PREDICTED = {
    "trl": "SFTTrainer of TRL 1 never holds all logits, and no measurement of it is published; "
           "trainer hf is an upper bound, and right for TRL before its fused head",
    "unsloth": "its kernels run on a GPU only, and what is published are lengths that fit, not "
               "peaks; trainer hf is an upper bound"}
