"""Break a line of code in each room and see a test fail: `python tests/breakages.py [ROOM...]`.

Each breakage is applied alone, in a temporary copy of the clone, and the test file that should
catch it runs there, in the tier of `make test`, up to its first failure. Exit status 1 if a
breakage was not caught, or if its line is no longer in the code.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
COPIED = ("ftkit", "tests", "data_samples", "notebooks", "pyproject.toml", "README.md", "Makefile")


class Breakage(NamedTuple):
    what: str
    file: str  # in ftkit/
    line: str  # a regular expression that matches exactly once
    broken: str  # what the match becomes
    tests: str  # in tests/
    only: str = ""  # pytest's -k


BREAKAGES = [
    Breakage("a line of a store is not flushed to the disk",
             "base/append_log.py", r"os\.fsync\(file\)", "pass", "base/test_append_log.py"),
    Breakage("overfitting is reported where val_loss has not risen",
             "report/diagnose.py", r"last < best \* \(1 \+", "last > best * (1 +",
             "report/test_diagnose.py"),
    Breakage("the label mask is off by one: the last token of the prompt is trained on",
             "data/encoding.py", r"\[NO_LOSS\] \* len\(part\)",
             "[NO_LOSS] * (len(part) - 1) + part[-1:]", "data/test_encoding.py"),
    Breakage("a template leaves out the end of the answer",
             "data/templates.py", r"else answer \+ eos", "else answer", "data/test_encoding.py"),
    Breakage("LoRA is scaled by 1, whatever lora_alpha says",
             "model/peft_methods.py", r'"target_modules": targets, "init',
             '"lora_alpha": config.r, "target_modules": targets, "init',
             "model/test_peft_methods.py"),
    Breakage("warm-up begins at a learning rate of 0",
             "engine/loop.py", r"return step / (\w+)", r"return (step - 1) / \1",
             "engine/test_loop.py"),
    Breakage("the loss is a mean over the batches of a step, not over its tokens",
             "engine/loop.py", r"(loss_sum\([\w., ]+\)) / \w+", r"\1 / len(batches)",
             "engine/test_loop.py"),
    Breakage("perplexity leaves out the first token of a text",
             "evaluate/perplexity.py", r"nll, (\w+) = \[\], 1", r"nll, \1 = [], 2",
             "evaluate/test_perplexity.py"),
    Breakage("the memory formula forgets the fp32 master copy",
             "memory_use/formula.py", r'"master": kind\["master"\] \*', '"master": 0 *',
             "memory_use/test_footprint.py"),
    Breakage("early stopping waits one evaluation too long",
             "experiment/training.py", r"return self\.(\w+) >= self\.patience",
             r"return self.\1 > self.patience", "experiment/test_mitigations.py"),
    Breakage("ZeRO-3 is charged no gradients",
             "distributed/zero_simulator.py", r"2 \* parameters \+ trainable", "2 * parameters",
             "distributed/test_zero_simulator.py"),
    Breakage("an exported script takes the learning rate of the next step",
             "notebook/to_script.py", r"rates\[min\(step,", "rates[min(step + 1,",
             "notebook/test_scripts_repeat_runs.py", "accumulated"),
    Breakage("NF4 has another outermost level",
             "lessons/by_hand/nf4.py", r"(linspace\()0\.9677083(, 0\.5, 9\))", r"\g<1>0.95\2",
             "lessons/test_nf4.py"),
    Breakage("a merged LoRA layer is not scaled",
             "lessons/by_hand/lora.py", r"\+= child\.scaling \*", "+=",
             "lessons/test_lora.py"),
    Breakage("a proof counts GiB as GB",
             "interview/proofs/memory.py", r"^GB = 1e9", "GB = 2**30", "interview/test_proofs.py",
             "claim_holds and states"),
    Breakage("the command line answers a wrong request with exit status 1",
             "cli/main.py", r"= 0, 1, 2, 3, 130", "= 0, 1, 1, 3, 130", "cli/test_commands.py"),
    Breakage("the degrees of freedom are Welch's own, with no limit",
             "base/significance.py", r"min\((int\(welch \+ 1e-9\)), 2 \* \(min\(sizes\) - 1\)\)",
             r"\1", "base/test_significance.py"),
    Breakage("a diverged run's curve does not show where it ended",
             "report/series.py", r"(pairs\.append\(\(to_float\(last\[x\]\)), math\.nan", r"\1, 0.0",
             "report/test_plots.py", "diverge"),
    Breakage("wrong answers are shifted by 1, so that some keep their own",
             "data/split_and_corrupt.py", r"shift = max\(.*\)$", "shift = 1",
             "data/test_schema.py", "wrong_answers"),
    Breakage("the mask of a chat ignores weight 0",
             "data/templates.py", r"\(answer, schema\.is_trained\(.*\)\)\]", "(answer, True)]",
             "data/test_encoding.py"),
    Breakage("the weights of a blend are swapped",
             "model/merge.py", r"(other\.data\.to\(parameter\)), weight", r"\1, 1 - weight",
             "model/test_merge.py"),
    Breakage("a fetched model of another hash is accepted",
             "model/download.py", r"digest\.hexdigest\(\) != GGUF_SHA256", "not digest.hexdigest()",
             "model/test_download.py", "another_hash"),
    Breakage("a sliding window lets a token see one key too many",
             "engine/attention_kernels.py", r"- i < window", "- i <= window",
             "engine/test_packed_loss.py", "window"),
    Breakage("position ids count tokens of the row, not of the sequence",
             "engine/packed_batch.py", r"positions\.append\(position\)",
             "positions.append(len(ids) - 1)", "engine/test_packed_loss.py", "equal"),
    Breakage("every seed shuffles alike",
             "engine/loop.py", r'Random\(f"\{seed\}/\{epoch\}"\)', 'Random(f"{epoch}")',
             "engine/test_loop.py", "seed"),
    Breakage("McNemar's tail leaves out the observed count",
             "evaluate/metrics.py", r"range\(few \+ 1\)", "range(few)",
             "evaluate/test_metrics.py"),
    Breakage("the memory of a GPU forgets the part that its allocator cannot use",
             "memory_use/model_shapes.py", r"CONTEXT \+ \(1 \+ SLACK\) \* peak", "CONTEXT + peak",
             "memory_use/test_verdict.py"),
    Breakage("early stopping never resets its patience",
             "experiment/training.py", r"(int\(row\[.step.\]\)), 0$",
             r"\1, self.worse",
             "experiment/test_mitigations.py", "early_stopping"),
]


def main() -> int:
    rooms = sys.argv[1:]
    missed = 0
    for breakage in BREAKAGES:
        if rooms and breakage.file.partition("/")[0] not in rooms:
            continue
        caught = run(breakage)
        missed += caught is None
        print(f"{'caught' if caught else 'MISSED'}  {breakage.file}: {breakage.what}\n"
              f"        {caught or 'no test failed'}", flush=True)
    return int(missed > 0)


def broken_text(breakage: Breakage, path: Path) -> str:
    """The text of the file with this breakage; ends the program where its line is gone."""
    text, count = re.subn(breakage.line, breakage.broken, path.read_text("utf-8"),
                          flags=re.MULTILINE)
    if count != 1:
        sys.exit(f"{breakage.line!r} matches {count} times in ftkit/{breakage.file}; "
                 "expected once: bring BREAKAGES up to date")
    return text


def run(breakage: Breakage) -> str | None:
    """The first test that fails with this breakage."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, clone / name,
                                ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, clone / name)
        path = clone / "ftkit" / breakage.file
        path.write_text(broken_text(breakage, path), "utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider",
                   "-m", "not seeds and not slow", f"tests/{breakage.tests}"]
        done = subprocess.run(command + (["-k", breakage.only] if breakage.only else []),
                              cwd=clone, capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(clone)})
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
        if done.returncode not in (0, 1):
            sys.exit(f"pytest ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        return failed and failed[1]


if __name__ == "__main__":
    sys.exit(main())
