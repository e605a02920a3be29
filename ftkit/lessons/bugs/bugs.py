"""The bugs of the zoo: each is one stage of `pipeline` done wrong, as it is done in real projects.

    BUGS["pad_is_eos"].what; CHANGES["pad_is_eos"]      # {"collate": the function}
"""

from __future__ import annotations

import copy
from typing import NamedTuple

from ftkit.data import encoding, schema
from ftkit.lessons.bugs import pipeline


class Bug(NamedTuple):
    """title, what it is, how it is repaired, the lesson that treats it."""

    title: str
    what: str
    repair: str
    lesson: str


BUGS: dict[str, Bug] = {}
CHANGES: dict[str, dict] = {}  # bug → {stage: the function that does it wrong}


def _bug(stage: str, title: str, repair: str, lesson: str = "05"):
    """Register a function as a wrong stage; its docstring says what is wrong."""
    def register(function):
        what = " ".join(function.__doc__.split())
        BUGS[function.__name__] = Bug(title, what, repair, lesson)
        CHANGES[function.__name__] = {stage: function}
        return function

    return register


@_bug("collate", "pad = EOS, masked by id",
      "pad with a token of its own, or mask by length instead of by id")
def pad_is_eos(examples, tokenizer):
    """The padding token is EOS, and every label with its id becomes -100: the real EOS too."""
    eos = tokenizer.eos_token_id
    batch = encoding.collate(examples, eos)
    batch["attention_mask"] = (batch["input_ids"] != eos).long()
    batch["labels"][batch["labels"] == eos] = -100
    return batch


@_bug("render", "role marker missing in training",
      "render with add_generation_prompt, so that training and use read the same prompt")
def no_role_marker(record, tokenizer):
    """The prompt is rendered without the generation prompt: the answer follows the question."""
    turns = [{"role": "user", "content": schema.prompt_of(record)}]
    asked = tokenizer.apply_chat_template(turns, tokenize=False)
    return asked, f" {record['output']}{tokenizer.eos_token}"


@_bug("tokenize", "double BOS",
      "tokenize what the template has rendered with add_special_tokens=False")
def double_bos(asked, written, tokenizer):
    """The template writes BOS, and the tokenizer puts another one in front."""
    prompt, answer = pipeline.tokenize(asked, written, tokenizer)
    return [tokenizer.bos_token_id, *prompt], answer


@_bug("label", "loss mask lost", "give the prompt the label -100", "04")
def mask_lost(prompt, answer, tokenizer):
    """labels = input_ids: the question is trained on as well as the answer."""
    return prompt + answer


@_bug("label", "every label masked",
      "mask by the length of the prompt's ids, not by searching for a marker")
def all_masked(prompt, answer, tokenizer):
    """The mask looks for the ids of "Assistant: ", which in a text are tokenized differently; not
    found means masked from first to last."""
    ids = prompt + answer
    marker = tokenizer("Assistant: ", add_special_tokens=False)["input_ids"]
    found = [i for i in range(len(ids)) if ids[i : i + len(marker)] == marker]
    start = found[0] + len(marker) if found else len(ids)
    return [-100] * start + ids[start:]


@_bug("truncate", "answers cut off", "raise max_length above the longest record; count what is cut")
def truncated(example):
    """max_length is 24 tokens and cuts the end of longer records: their answers and their EOS."""
    return {key: values[:24] for key, values in example.items()}


@_bug("token_losses", "labels shifted twice", "shift once: the library's model does it already",
      "04")
def double_shift(logits, labels):
    """The labels are shifted manually and again in the loss: each position learns the token after
    the next."""
    return pipeline.token_losses(logits[:, :-1], labels[:, 1:])


@_bug("scale_loss", "accumulation as a mean of means",
      "divide the sum of all losses by the labeled tokens of the whole step", "08")
def mean_of_means(loss, count, counts):
    """Each micro-batch is divided by its own labeled tokens, then by the number of batches."""
    return loss / max(1, count) / len(counts)


@_bug("clear_gradients", "gradients never cleared", "call zero_grad after each step", "08")
def gradients_kept(optimizer):
    """zero_grad is missing: every step adds to the gradients of all steps before."""


@_bug("average", "perplexity over padding",
      "divide by the labeled tokens, and check that the batch size changes nothing", "14")
def padding_counted(loss, count, batch):
    """The validation loss is divided by all positions of the batch, also padding and prompts."""
    return float(loss), batch["labels"].numel()


@_bug("set_mode", "evaluated in training mode",
      "call model.eval() before, model.train() after", "14")
def train_mode(model):
    """Dropout is still drawn while the validation loss is measured."""
    model.train()


@_bug("validation", "training records in the validation set",
      "split by source, and look for records that are on both sides", "18")
def overlap(train, held_out):
    """The validation records are some of those that are trained on."""
    return train[:: max(1, len(train) // len(held_out))][: len(held_out)]


@_bug("serve", "alpha / r forgotten in the merge",
      "merge W + alpha / r B A, and compare the losses before and after", "02")
def alpha_forgotten(model):
    """The adapter is merged manually as W + B A, without its scale."""
    from peft.tuners.lora import LoraLayer

    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.scaling = dict.fromkeys(module.scaling, 1.0)
    return pipeline.serve(model)


@_bug("serve", "a fresh adapter is served",
      "load with PeftModel.from_pretrained; get_peft_model makes a new adapter", "02")
def fresh_adapter(model):
    """The adapter is "loaded" with get_peft_model, which makes a new one, with B at zero."""
    return pipeline.serve(pipeline.adapted())
