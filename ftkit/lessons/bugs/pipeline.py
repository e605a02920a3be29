"""A transparent fine-tuning pipeline: twelve small stages, each a function that can be replaced.

The rest of the kit is fast and guards against mistakes; this one is plain PyTorch and peft as in
the tutorials, so that the zoo can break it stage by stage and a learner can repair it. The
pipeline itself is correct: a test compares its losses with `engine.packed_loss`.

    trained = train(STAGES, seed=0); measure(trained, STAGES)
"""

import copy
import dataclasses
import functools

import torch
import torch.nn.functional as F

from ftkit.data import encoding, schema
from ftkit.evaluate import scoring
from ftkit.model import loading

TASKS = ("to_question", "capital", "opposite", "plural")
STEPS, MICRO, MICRO_BATCHES = 12, 6, 2
RANK, ALPHA, DROPOUT, RATE = 8, 16, 0.1, 1e-2
LAYERS = ["q_proj", "v_proj", "up_proj", "down_proj"]
ANSWER = 16  # tokens that an answer may take

# --------------------------------------------------------------------------- the stages, correct


def validation(train: list[dict], held_out: list[dict]) -> list[dict]:
    """The records for the validation loss."""
    return held_out


def render(record: dict, tokenizer) -> tuple[str, str]:
    """Render a record by the chat template; returns (prompt, answer) as text."""
    turns = [{"role": "user", "content": schema.prompt_of(record)},
             {"role": "assistant", "content": record["output"]}]
    asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    return asked, tokenizer.apply_chat_template(turns, tokenize=False)[len(asked):]


def tokenize(asked: str, written: str, tokenizer) -> tuple[list[int], list[int]]:
    """Token ids of both texts. The template has already written the special tokens."""
    return tuple(tokenizer([asked, written], add_special_tokens=False)["input_ids"])


def label(prompt: list[int], answer: list[int], tokenizer) -> list[int]:
    """One label per token; -100 leaves a token out of the loss."""
    return [-100] * len(prompt) + answer


def truncate(example: dict) -> dict:
    """The example, shortened if it is too long. Here nothing is cut."""
    return example


def collate(examples: list[dict], tokenizer) -> dict:
    """LongTensors input_ids, attention_mask and labels of shape (examples, longest)."""
    return encoding.collate(examples, tokenizer.pad_token_id)


def token_losses(logits, labels):
    """Return (loss sum over labeled tokens, their number); logits: (B, L, V), labels: (B, L)."""
    logits, labels = logits[:, :-1], labels[:, 1:]
    kept = labels != -100
    return F.cross_entropy(logits[kept], labels[kept], reduction="sum"), int(kept.sum())


def scale_loss(loss, count: int, counts: list[int]):
    """Scale a micro-batch's loss to its part of the step's. counts: all labeled-token counts."""
    return loss / max(1, sum(counts))


def clear_gradients(optimizer):
    """Set all gradients to zero after a step."""
    optimizer.zero_grad()


def set_mode(model):
    """Switch the model to evaluation mode."""
    model.eval()


def average(loss, count: int, batch: dict) -> tuple[float, int]:
    """Return (sum, weight) of a batch. The validation loss is total sum / total weight."""
    return float(loss), count


def serve(model):
    """The model to serve: the adapter merged into the weights."""
    return copy.deepcopy(model).merge_and_unload().eval()


STAGES = {f.__name__: f for f in (
    validation, render, tokenize, label, truncate, collate, token_losses, scale_loss,
    clear_gradients, set_mode, average, serve)}
AFTER_TRAINING = {"validation", "set_mode", "average", "serve"}  # they leave the weights alone

# ------------------------------------------------------------------------------------ running it


@functools.cache
def base_model():
    return loading.load("tiny", device="cpu")


@functools.cache
def records() -> tuple[list[dict], list[dict], list[dict]]:
    """(training, validation, test): 8 records of each of four tasks in each."""
    def some(split):
        found = schema.records("tasks", split)
        return [r for task in TASKS for r in [r for r in found if r["task"] == task][:8]]

    return some("train"), some("validation"), some("test")


@dataclasses.dataclass
class Trained:
    """The result of training: the model, one row per step, and the examples it was trained on."""

    model: object
    rows: list[dict]
    examples: list[dict]
    seed: int
    before: dict = dataclasses.field(default_factory=dict)  # as in a Run, for `plots.curves`
    after: dict = dataclasses.field(default_factory=dict)


def encode(stages: dict, record: dict, tokenizer) -> dict:
    """Encode one record as {input_ids, labels}. stages: the functions render, tokenize, label and
    truncate by name."""
    prompt, answer = stages["tokenize"](*stages["render"](record, tokenizer), tokenizer)
    labels = stages["label"](prompt, answer, tokenizer)
    return stages["truncate"]({"input_ids": prompt + answer, "labels": labels})


def train(stages: dict, seed: int, base=None) -> Trained:
    """Train LoRA on `base` (default: the embedded model), STEPS steps of MICRO_BATCHES batches."""
    tokenizer = base_model()[1]
    examples = [encode(stages, record, tokenizer) for record in records()[0]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = adapted(base)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)
        order, rows = [], []
        for step in range(1, STEPS + 1):
            if len(order) < MICRO * MICRO_BATCHES:
                order = torch.randperm(len(examples)).tolist()
            chosen, order = (order[: MICRO * MICRO_BATCHES], order[MICRO * MICRO_BATCHES :])
            batches = micro_batches(stages, [examples[i] for i in chosen], tokenizer)
            loss = accumulate(stages, model.train(), batches)
            norm = torch.nn.utils.get_total_norm([p.grad for p in trained])
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(step / 2, 1 - (step - 1) / STEPS)
            optimizer.step()
            stages["clear_gradients"](optimizer)
            rows.append({"step": step, "loss": loss, "grad_norm": float(norm)})
    model.zero_grad()
    return Trained(model.eval(), rows, examples, seed)


def adapted(base=None):
    """Add a new adapter to the frozen base. All runs share the base's weights."""
    import peft

    base = base or base_model()[0]
    base = copy.deepcopy(base, {id(p): p for p in base.parameters()})
    return peft.get_peft_model(base, peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules=LAYERS,
        task_type="CAUSAL_LM"))


def micro_batches(stages, examples, tokenizer) -> list[dict]:
    """Batches of examples with similar lengths, which need less padding."""
    examples = sorted(examples, key=lambda e: len(e["input_ids"]))
    return [stages["collate"](examples[i : i + MICRO], tokenizer)
            for i in range(0, len(examples), MICRO)]


def losses(stages, model, batch):
    """Return (sum of the losses, number of labeled tokens) of a batch."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return stages["token_losses"](logits, batch["labels"])


def accumulate(stages, model, batches) -> float:
    """Accumulate the gradients of all micro-batches; returns the loss of the step."""
    counts = [int((batch["labels"][:, 1:] != -100).sum()) for batch in batches]
    total = 0.0
    for batch in batches:
        loss, count = losses(stages, model, batch)
        part = stages["scale_loss"](loss, count, counts)
        part.backward()
        total += float(part.detach())
    return total


# ----------------------------------------------------------------------------------- instruments


def validate(stages, model, examples, tokenizer, size: int = 16) -> list[tuple[float, int]]:
    """Return (sum, weight) of each batch, from which `mean` computes the validation loss."""
    parts = []
    with torch.no_grad():
        stages["set_mode"](model)
        for i in range(0, len(examples), size):
            batch = stages["collate"](examples[i : i + size], tokenizer)
            parts.append(stages["average"](*losses(stages, model, batch), batch))
        model.eval()
    return parts


def mean(parts: list[tuple[float, int]]) -> float:
    return sum(s for s, _ in parts) / max(1, sum(w for _, w in parts))


def _gradient(stages, model, batches):
    model.zero_grad()
    accumulate(stages, model, batches)
    made = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    model.zero_grad()
    return made


def measure(trained: Trained, stages: dict) -> dict:
    """Measure a finished run. Returns name → number; `answers` has the generated answers.

    `zoo.INSTRUMENTS` describes each of them.
    """
    return trained_on(trained, stages) | validated(trained, stages) | served(trained, stages)


def trained_on(trained: Trained, stages: dict) -> dict:
    """Measures of the training curve, the batches and the gradients."""
    tokenizer, last = base_model()[1], trained.rows[-4:]
    batch = stages["collate"](trained.examples, tokenizer)
    real = batch["attention_mask"].bool()
    ids, labels = batch["input_ids"], batch["labels"]
    asked = [encoding.prompt_ids(record, tokenizer) for record in records()[0]]
    some = trained.examples[:: len(trained.examples) // (MICRO * MICRO_BATCHES)]
    some = some[: MICRO * MICRO_BATCHES]
    one, parts = (_gradient(stages, trained.model, batches) for batches in
                  ([stages["collate"](some, tokenizer)], micro_batches(stages, some, tokenizer)))
    return {
        "first_loss": trained.rows[0]["loss"],
        "last_loss": sum(row["loss"] for row in last) / len(last),
        "grad_norm": sum(row["grad_norm"] for row in last) / len(last),
        "label_share": ((labels != -100) & real).sum().item() / real.sum().item(),
        "ends_learned": sum((e == tokenizer.eos_token_id).any().item() for e in labels) / len(ids),
        "bos_tokens": (ids == tokenizer.bos_token_id).sum().item() / len(ids),
        "prompt_agrees": sum(e["input_ids"][: len(p)] == p for e, p in
                             zip(trained.examples, asked, strict=True)) / len(asked),
        "accumulation": float((one - parts).norm() / one.norm().clamp(min=1e-9)),
    }


def validated(trained: Trained, stages: dict) -> dict:
    """The validation loss, and three checks of it."""
    tokenizer = base_model()[1]
    train_records, held_out, test = records()
    watched, new = ([encode(stages, record, tokenizer) for record in those] for those in
                    (stages["validation"](train_records, held_out), test))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trained.seed)
        first, again, whole, held = (
            validate(stages, trained.model, examples, tokenizer, size)
            for examples, size in ((watched, 4), (watched, 4), (watched, 16), (new, 16)))
    apart = [abs(mean([a]) - mean([b])) for a, b in zip(first, again, strict=True)]
    return {"val_loss": mean(whole), "leak": mean(held) - mean(whole),
            "repeat": sum(apart) / len(apart), "batch_size": abs(mean(first) - mean(whole))}


def served(trained: Trained, stages: dict) -> dict:
    """Answers of the served model, and whether its weights contain the adapter."""
    tokenizer, test = base_model()[1], records()[2]
    with torch.random.fork_rng(devices=[]):
        model = stages["serve"](trained.model)
    said = scoring.answers(model, tokenizer, test, max_new_tokens=ANSWER)
    lengths = [len(tokenizer(" " + text, add_special_tokens=False)["input_ids"]) for text in said]
    right = [scoring.is_right(a, r) for a, r in zip(said, test, strict=True)]
    return {"merge": merged(model, trained.model), "exact_match": sum(right) / len(said),
            "stops": sum(n < ANSWER for n in lengths) / len(said), "answers": said}


def merged(served, model) -> float:
    """Change of the served weights, as a fraction of the learned update."""
    from peft.tuners.lora import LoraLayer

    changed = learned = 0.0
    for name, module in model.base_model.model.named_modules():
        if isinstance(module, LoraLayer):
            change = served.get_submodule(name).weight - module.base_layer.weight
            changed += float(change.detach().norm() ** 2)
            learned += float(module.get_delta_weight("default").detach().norm() ** 2)
    return (changed / max(learned, 1e-12)) ** 0.5
