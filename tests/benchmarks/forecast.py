"""Forecast over measured seconds of a step, a line for each method: run it with one thread.

    OMP_NUM_THREADS=1 python tests/benchmarks/forecast.py [tiny|smollm2] ...

The seconds are processor time of the third of five steps, so other load hardly disturbs them.
"""

import statistics
import sys
import time

from ftkit.base.config import Config
from ftkit.engine import loop, packed_batch
from ftkit.experiment import step_cost
from ftkit.memory_use import measure, preflight, simulate

LENGTHS = {"tiny": [40, 36, 30, 44, 50, 33, 38, 41] * 2, "smollm2": [60, 50, 70, 64]}
METHODS = {
    "full": {}, "full, checkpointing": {"gradient_checkpointing": True}, "lora": {"method": "lora"},
    "lora, checkpointing": {"method": "lora", "gradient_checkpointing": True},
    "dora": {"method": "lora", "use_dora": True}, "qlora": {"method": "qlora"},
    "ia3": {"method": "ia3"}, "prompt_tuning": {"method": "prompt_tuning"},
    "prefix_tuning": {"method": "prefix_tuning"}}


def measured(name: str, config: Config) -> tuple[float, step_cost.Batch]:
    """Seconds of a step, and its Batch."""
    model = measure.prepare(name, config)
    update = loop.Update(model, config)
    vocabulary = model.config.get_text_config().vocab_size
    batch = packed_batch.pack([simulate.example(n, 0.5, vocabulary) for n in LENGTHS[name]],
                              share=False)
    times = []
    for _ in range(5):
        began = time.process_time()
        update([batch], 1e-5)
        times.append(time.process_time() - began)
    return statistics.median(times), step_cost.Batch(
        sum(LENGTHS[name]), batch.supervised_tokens, sum(n * n for n in LENGTHS[name]))


def main():
    for name in sys.argv[1:] or ["tiny"]:
        facts = preflight.ModelFacts.of(name)
        if facts is None:
            sys.exit(f"{name} is not on this machine")
        for method, fields in METHODS.items():
            for precision in ("fp32", "bf16"):
                config = facts.resolve(Config(precision=precision, batch_size=len(LENGTHS[name]),
                                              **fields))
                took, batch = measured(name, config)
                ratio = step_cost.seconds(facts, config, batch) / took
                print(f"{name}, {method}, {precision}: forecast / measured {ratio:.2f} "
                      f"({took * 1e3:.0f} ms)", flush=True)


if __name__ == "__main__":
    main()
