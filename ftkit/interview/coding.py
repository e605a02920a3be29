"""The coding round of the mock interview: exercises of the lessons, judged by running them.

    task = task("merge_weight"); task.statement; task.stub; task.solution
    run(task.name, "def merge_weight(W, A, B, r, lora_alpha): ...")     # (solved, message)

A candidate's code runs in a process of its own, so that an endless loop ends with the time limit.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.lessons import checks, hints

# Exercise → how an interviewer would ask for it; the docstring of the stub gives the shapes.
STATEMENTS = {
    "training_cost": "Estimate what a full fine-tune costs. A dense model needs about 6 floating-"
    "point operations per parameter and token, and the GPU reaches a fraction of its peak.",
    "lora_forward": "Write the forward pass of a LoRA layer. torch stores a weight as (out, in). "
    "Do not build the product B A: two thin multiplications are cheaper.",
    "lora_parameters": "Count the trainable parameters that LoRA adds to a list of linear layers.",
    "merge_weight": "Merge a LoRA adapter into the weight of its layer for serving.",
    "sft_loss": "Write the loss of supervised fine-tuning from logits and labels. Labels of -100 "
    "do not count, and the logits at one position predict the next token.",
    "step_loss": "A step adds up micro-batches. `parts` is a list of (mean loss, trained "
    "tokens), one for each; a micro-batch without trained tokens has the mean nan. Return the loss "
    "of the whole step: the mean over all its trained tokens.",
    "packed_mask": "Several records of these `lengths` are packed into one row. Return `see`, rows "
    "of 0 and 1 in which see[i][j] is 1 if token i may look at token j, and the position ids.",
    "warmup_cosine": "Write the learning rate of a step: linear warm-up, then a cosine to 0. Steps "
    "count from 1. Step `warmup` has the peak, and so has the step after it, where the progress on "
    "the cosine is 0. Step `total + 1`, which is never made, would have progress 1.",
    "optimizer_steps": "How many optimizer steps does a run make? At the end of an epoch some "
    "records may not fill a batch; they make a short one, or are left out with `drop_last`.",
    "clip_by_global_norm": "Clip a list of gradients by their global norm.",
    "bits_per_weight": "Block-wise quantization to 4 bits: how many bits does a weight take with "
    "its scale? With double=False each block of `block` weights has a scale of 32 bits; with "
    "double=True one of 8 bits, and 256 scales share one of 32 bits.",
    "chunked_loss": "Write the mean cross-entropy over the rows whose target is not -100 without "
    "the whole matrix of logits: `hidden` is (n, width), `weight` is (vocabulary, width), and at "
    "most `rows` rows of logits may exist at once.",
    "corpus_perplexity": "Write the perplexity of a corpus. `nll` has one list of losses (nats) "
    "for each text; `mask` has the same shape, and only positions whose mask is 1 count.",
    "windows": "Score a long text with a sliding window. Return a list of (start, end, first), "
    "`end` exclusive; each window scores the tokens from `first` to `end - 1`. The first starts at "
    "0, ends at min(window, length) and scores from index 1. Each next one ends `stride` later, at "
    "most at `length`, starts `window` tokens before its end, and scores what no other did.",
    "bits_per_byte": "Make losses of different tokenizers comparable: bits per byte from the mean "
    "loss per token (nats) and the mean number of bytes per token.",
    "mcnemar_p": "Two models answer the same items; on `only_a` of them only A is right, on "
    "`only_b` only B. Write the exact two-sided p-value of McNemar's test, at most 1.",
    "pass_at_k": "Of n sampled programs c pass the tests. Write the unbiased estimate of pass@k, "
    "the probability that at least one of k programs, drawn without replacement, passes.",
    "with_replay": "Mix old records into the new ones, so that `fraction` of the mixture is old.",
    "l2_sp_gradient": "L2-SP adds lam / 2 times the squared distance of the weights from their "
    "start w0 to the loss. Write the gradient that the optimizer receives.",
    "mixing_shares": "Data sets are mixed. Write the share of each in the draws: the sizes, cut "
    "at `cap` if one is given, to the power 1 / temperature, normalized.",
    "dpo_loss": "Write the DPO loss of a batch of pairs from the log-probabilities of the answers.",
    "group_advantages": "Write the advantages of GRPO from the rewards of groups of answers, also "
    "for a group in which all answers earn the same.",
    "grpo_loss": "Write the clipped policy loss of GRPO, averaged over the tokens of the batch.",
}
NAMES = tuple(STATEMENTS)
SECONDS = 120  # that a candidate's code may run; importing torch is part of it
GIVEN = "import math\n\nimport torch\n"  # what the lessons have imported
IMPORTED = "math and torch are imported."


class CodingTask(NamedTuple):
    """statement: the text of the exercise; stub: the function to write; lesson: its number."""

    name: str
    lesson: str
    statement: str
    stub: str
    solution: str


@functools.cache
def tasks() -> dict[str, CodingTask]:
    """Name → exercise; the stub is that of the notebook, which travels with the package."""
    found = {}
    solutions = hints.read_all()
    for path in sorted(machine.share("notebooks").glob("[0-9][0-9]_*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            source = "".join(cell["source"])
            for name in re.findall(r"ft\.check\(\s*[\"'](\w+)", source):
                if name in STATEMENTS and cell["cell_type"] == "code":
                    stub = re.sub(r"\n+(\w+ = )?ft\.check\(.*", "\n", source, flags=re.DOTALL)
                    found[name] = CodingTask(name, path.stem[:2], STATEMENTS[name], stub,
                                             solutions[name].code)
    return {name: found[name] for name in NAMES}


def run(name: str, code: str, seconds: float = SECONDS) -> tuple[bool, str]:
    """(whether the code solves the exercise, what the check says). Runs in a process of its own.

    Raises UserError for an exercise that is not one of `NAMES`.
    """
    if name not in NAMES:
        raise UserError(f"{name!r} is not an exercise of the coding round; there are "
                        f"{hints.suggestions(name, NAMES)}")
    if wrong := syntax_error(code):
        return False, wrong  # at once: the process would load torch first
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.py"
        file.write_text(code, encoding="utf-8")
        try:
            done = subprocess.run([sys.executable, "-m", "ftkit.interview.coding", name, str(file)],
                                  capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return False, f"it did not end within {seconds:g} seconds; is there an endless loop?"
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        state, message = json.loads(last)
    except ValueError:
        return False, (done.stderr.strip().splitlines() or ["the process ended early"])[-1]
    return state == "solved", message


def syntax_error(code: str) -> str:
    """What is not Python in this code, with the line; empty if nothing."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(code, "your code", "exec")
    except SyntaxError as error:
        line = (error.text or "").strip()
        return f"line {error.lineno} is not Python: {error.msg}" + (f": {line}" if line else "")
    except (ValueError, RecursionError, MemoryError) as error:  # a NUL; nested too deeply
        return f"this is not Python: {error}"
    return ""


def judge(name: str, file: str) -> tuple[str, str]:
    """(state, message) of the function `name` in a file, as `ft.check` gives them."""
    space: dict = {"__name__": "candidate"}
    try:
        exec(GIVEN, space)
        exec(compile(Path(file).read_text("utf-8"), file, "exec"), space)
    except Exception as error:  # noqa: BLE001  the candidate's code may raise anything
        return "wrong", f"running the file raised {type(error).__name__}: {error}"
    if name not in space:
        return "wrong", f"the file defines no {name}"
    verdict = checks.check(name, space[name])
    return verdict.state, verdict.text


if __name__ == "__main__":
    print(json.dumps(judge(*sys.argv[1:3])))
