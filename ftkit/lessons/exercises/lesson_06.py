"""Lesson 06, domain adaptation."""

from __future__ import annotations

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_choices, check_number

KINDS = ("from scratch", "continued pretraining", "prompt tuning", "instruction tuning")


@exercise("how_it_was_made")
def _(made):
    given = {name: str(kind).strip().lower() for name, kind in made.items() if kind is not ...}
    if not given:
        raise NotImplementedError
    if message := check_choices(given, KINDS):
        return message
    if given.get("BloombergGPT") != "from scratch":
        return ("BloombergGPT was not adapted: 363 billion finance and 345 billion general tokens "
                "from the first step on")
    if given.get("Med-PaLM") != "prompt tuning":
        return ("Med-PaLM: the weights of Flan-PaLM stayed frozen, a soft prompt was learned from "
                "a few exemplars")
    if given.get("Code Llama") != "continued pretraining":
        return "Code Llama: Llama 2 continued with 500 billion tokens, mostly code"
    if given.get("Alpaca") != "instruction tuning":
        return "Alpaca: LLaMA on 52,000 pairs of instruction and answer"
    if given.get("TAPT") != "continued pretraining":
        return "TAPT trains on the task's own text as a language model: no instruction, no label"


@exercise("text_blocks")
def _(text_blocks):
    made = text_blocks([[5, 6, 7], [8], [9, 10, 11, 12]], eos=2, length=4)
    rows = [(list(row["input_ids"]), list(row["labels"])) for row in made]
    ids = [row for row, _ in rows]
    stream = [5, 6, 7, 2, 8, 2, 9, 10, 11, 12, 2]
    if ids == [[5, 6, 7, 2], [8, 2], [9, 10, 11, 12], [2]] or [8, 2] in ids:
        return "each text has a row of its own: join all of them first, then cut"
    if sum(ids, []) == [i for i in stream if i != 2]:
        return "no EOS: without it one note runs into the next"
    if ids == [stream[:4], stream[4:8]]:
        return "the last block is short, and it is thrown away; keep it"
    if ids != [stream[:4], stream[4:8], stream[8:]]:
        return f"blocks {ids}; expected {[stream[:4], stream[4:8], stream[8:]]}"
    for row, labels in rows:
        if labels.count(-100) > 1:
            return "a text has no prompt: every token but the first of a block is trained on"
        if labels != [-100, *row[1:]]:
            return f"labels {labels}; expected {[-100, *row[1:]]} (not shifted, first without loss)"


@exercise("gpu_hours")
def _(gpu_hours):
    wanted = 6 * 8e9 * 10e9 / (312e12 * 0.4) / 3600
    return check_number("8B on 10 billion tokens", gpu_hours(8e9, 10e9, 312e12, 0.4), wanted, {
        wanted / 3: "2 FLOPs per parameter and token is the forward pass; backward costs 4 more",
        wanted * 0.4: "no run reaches the peak: divide by the utilization as well",
        wanted * 3600: "that is seconds"}, tolerance=1e-2)
