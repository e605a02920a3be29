"""The bugs of the zoo: each is one stage of `pipeline` done wrong, as it is done in real projects.

    BUGS["pad_is_eos"].what; BUGS["pad_is_eos"].function      # in place of STAGES["collate"]
"""

import copy
import dataclasses
from collections.abc import Callable

from ftkit.data import encoding, schema
from ftkit.lessons.bugs import pipeline
from ftkit.lessons.bugs.causes import Cause

# name → (what it measures, how far from a baseline run is more than chance)
INSTRUMENTS = {
    "first_loss": ("loss of the first step; a blind guess costs ln(vocabulary) = 8.03, a model "
                   "that is confidently wrong more", 3.0),
    "last_loss": ("loss of the last steps", 0.75),
    "grad_norm": ("gradient norm of the last steps", 10.0),
    "label_share": ("fraction of tokens that are trained on", 0.02),
    "ends_learned": ("records whose EOS is trained on", 0.02),
    "bos_tokens": ("BOS tokens in a record", 0.02),
    "prompt_agrees": ("records that begin with the prompt used in serving", 0.02),
    "accumulation": ("gradient of two micro-batches against one batch: relative difference", 0.02),
    "val_loss": ("validation loss, as reported", 0.4),
    "repeat": ("loss of a validation batch, measured twice: difference", 1e-4),
    "batch_size": ("validation loss in batches of 16 and of 4: difference", 1e-3),
    "leak": ("loss on new records minus validation loss", 0.3),
    "merge": ("change of the served weights, as a fraction of the update learned", 0.05),
    "exact_match": ("exact match of the answers", 0.25),
    "stops": ("answers that end by themselves", 0.12),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bug(Cause):
    """A wrong stage of the pipeline.

    what: the mistake. shown_by: the instrument that shows it best, and in which direction. in_log
    is empty if a log does not show the bug.
    """

    stage: str
    function: Callable
    what: str
    shown_by: tuple[str, str]


BUGS: dict[str, Bug] = {}


def bug(stage: str, title: str, *, shown_by: tuple[str, str], complaint: str, remedy: str,
        in_log: str = "", lesson: str = "05", **also: str):
    """Register a function as a wrong stage; its docstring says what is wrong."""
    def register(function):
        name, (instrument, way) = function.__name__, shown_by
        BUGS[name] = Bug(
            name=name, title=title, sign=f"{INSTRUMENTS[instrument][0]}: {way} than in a correct "
            "run", remedy=remedy, lesson=lesson, complaint=complaint, also=also, stage=stage,
            function=function, what=" ".join(function.__doc__.split()), shown_by=shown_by,
            in_log=in_log)
        return function

    return register


@bug("collate", "pad = EOS, masked by id", shown_by=("ends_learned", "lower"),
      complaint="The answers are good, and then it keeps talking.",
      in_log="the losses are fine, and about half of the answers do not end",
      remedy="pad with a token of its own, or mask by length instead of by id")
def pad_is_eos(examples, tokenizer):
    """The padding token is EOS, and every label with its id becomes -100: the real EOS too."""
    eos = tokenizer.eos_token_id
    batch = encoding.collate(examples, eos)
    batch["attention_mask"] = (batch["input_ids"] != eos).long()
    batch["labels"][batch["labels"] == eos] = -100
    return batch


@bug("render", "role marker missing in training", shown_by=("prompt_agrees", "lower"),
      complaint="Good losses; in the product the first words are strange.",
      remedy="render with add_generation_prompt, so that training and use read the same prompt")
def no_role_marker(record, tokenizer):
    """The prompt is rendered without the generation prompt: the answer follows the question."""
    turns = [{"role": "user", "content": schema.prompt_of(record)}]
    asked = tokenizer.apply_chat_template(turns, tokenize=False)
    return asked, f" {record['output']}{tokenizer.eos_token}"


@bug("tokenize", "double BOS", shown_by=("bos_tokens", "higher"),
      complaint="Our scores are a little below those of the other team with the same data.",
      remedy="tokenize what the template has rendered with add_special_tokens=False")
def double_bos(asked, written, tokenizer):
    """The template writes BOS, and the tokenizer puts another one in front."""
    prompt, answer = pipeline.tokenize(asked, written, tokenizer)
    return [tokenizer.bos_token_id, *prompt], answer


@bug("label", "loss mask lost", shown_by=("label_share", "higher"),
      complaint="The loss looks higher than in the paper.",
      in_log="every token is trained on, questions included",
      remedy="give the prompt the label -100", lesson="04")
def mask_lost(prompt, answer, tokenizer):
    """labels = input_ids: the question is trained on as well as the answer."""
    return prompt + answer


@bug("label", "every label masked", shown_by=("label_share", "lower"),
      complaint="The loss is wonderful!",
      in_log="no token is trained on, and the loss is 0 from the first step",
      remedy="mask by the length of the prompt's ids, not by searching for a marker")
def all_masked(prompt, answer, tokenizer):
    """The mask looks for the ids of "Assistant: ", which is tokenized differently inside a text. It
    finds nothing and masks every token."""
    ids = prompt + answer
    marker = tokenizer("Assistant: ", add_special_tokens=False)["input_ids"]
    found = [i for i in range(len(ids)) if ids[i : i + len(marker)] == marker]
    start = found[0] + len(marker) if found else len(ids)
    return [-100] * start + ids[start:]


@bug("truncate", "answers cut off", shown_by=("ends_learned", "lower"),
      complaint="Short tasks work, it does not know where to end.",
      remedy="raise max_length above the longest record; count what is cut")
def truncated(example):
    """max_length is 24 tokens and cuts the end of longer records: their answers and their EOS."""
    return {key: values[:24] for key, values in example.items()}


@bug("token_losses", "labels shifted twice", shown_by=("first_loss", "higher"),
      complaint="The loss begins very high and the answers are garbage.",
      in_log="the first loss is far above that of guessing, ln(vocabulary) = 8.03",
      remedy="shift once: the library's model does it already", lesson="04")
def double_shift(logits, labels):
    """The labels are shifted manually and again in the loss: each position learns the token after
    the next."""
    return pipeline.token_losses(logits[:, :-1], labels[:, 1:])


@bug("scale_loss", "accumulation as a mean of means", shown_by=("accumulation", "higher"),
      complaint="With accumulation the result differs from one large batch.",
      remedy="divide the sum of all losses by the labeled tokens of the whole step", lesson="08")
def mean_of_means(loss, count, counts):
    """Each micro-batch is divided by its own labeled tokens, then by the number of batches."""
    return loss / max(1, count) / len(counts)


@bug("clear_gradients", "gradients never cleared", shown_by=("grad_norm", "higher"),
      complaint="It becomes unstable after some steps.",
      in_log="the gradients grow until the end",
      remedy="call zero_grad after each step", lesson="08")
def gradients_kept(optimizer):
    """zero_grad is missing: every step adds to the gradients of all steps before."""


@bug("average", "perplexity over padding", shown_by=("batch_size", "higher"),
      complaint="Validation loss is far below training loss. Is that good?",
      in_log="val_loss and the loss on new records are far below the training loss",
      remedy="divide by the labeled tokens, and check that the batch size changes nothing",
      lesson="14")
def padding_counted(loss, count, batch):
    """The validation loss is divided by all positions of the batch, also padding and prompts."""
    return float(loss), batch["labels"].numel()


@bug("set_mode", "evaluated in training mode", shown_by=("repeat", "higher"),
      complaint="The validation curve looks noisy, although the set is fixed.",
      remedy="call model.eval() before, model.train() after", lesson="14")
def train_mode(model):
    """Dropout is still active while the validation loss is measured."""
    model.train()


@bug("validation", "training records in the validation set", shown_by=("leak", "higher"),
      complaint="Excellent validation loss; new customers see worse answers.",
      in_log="val_loss is far below the loss on new records",
      remedy="split by source, and look for records that are on both sides",
      lesson="18", contaminated="what was measured on is in training; here it is val_loss")
def overlap(train, held_out):
    """The validation records are also training records."""
    return train[:: max(1, len(train) // len(held_out))][: len(held_out)]


@bug("serve", "alpha / r forgotten in the merge", shown_by=("merge", "lower"),
      complaint="The served model is weaker than in training.",
      remedy="merge W + alpha / r B A, and compare the losses before and after", lesson="02")
def alpha_forgotten(model):
    """The adapter is merged manually as W + B A, without its scale."""
    from peft.tuners.lora import LoraLayer

    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.scaling = dict.fromkeys(module.scaling, 1.0)
    return pipeline.serve(model)


@bug("serve", "a fresh adapter is served", shown_by=("merge", "lower"),
      complaint="Training was fine. The served model behaves like the base.",
      in_log="the losses are fine, most answers end, and hardly any is right",
      remedy="load with PeftModel.from_pretrained; get_peft_model makes a new adapter",
      lesson="02")
def fresh_adapter(model):
    """The adapter is "loaded" with get_peft_model, which makes a new one, with B at zero."""
    return pipeline.serve(pipeline.adapted())
