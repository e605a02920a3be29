"""The peak of a real training step as torch's CPU allocator sees it: every allocation, whoever
made it, recorded by torch.profiler. Independent of our meter.

    python tests/allocator.py tiny '{"method": "lora"}' '[128, 128]'     prints bytes

One measurement a process: the profiler's total survives from one profile to the next.
"""

from __future__ import annotations

import bisect
import gc
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path

IMPORTED = ["bitsandbytes", "ftkit.memory_use.measure", "peft", "torch.profiler", "transformers",
            "transformers.models.auto.modeling_auto"]


def ready(name, config, lengths: list[int]):
    """(update, batches) of a second step: of a model by name, or of random weights in a shape."""
    from ftkit.engine import loop, packed_batch
    from ftkit.memory_use import measure, simulate

    model = _loaded(name, config)
    for p in model.parameters():  # the file lies in memory without an allocation
        if p.is_floating_point():
            p.data = p.data.clone()
    model = measure.prepare(model, config, copied=False)
    update = loop.Update(model, config.but(learning_rate=1e-3))
    simulate.fill_state(update)
    size = model.config.get_text_config().vocab_size
    batches = [packed_batch.pack([simulate.example(n, 1.0, size) for n in lengths], share=False)
               for _ in range(config.gradient_accumulation_steps)]
    gc.collect()
    return update, batches


def _loaded(name, config):
    from ftkit.memory_use import model_shapes
    from ftkit.model import loading

    if isinstance(name, dict):
        import transformers

        model = transformers.AutoModelForCausalLM.from_config(model_shapes.shape(name))
        if config.method != "qlora":
            return model
        with tempfile.TemporaryDirectory() as folder:  # 4-bit weights are made while one is read
            _, tokenizer = loading.load("tiny")
            loading.save(model, tokenizer, Path(folder))
            del model
            return loading.load(folder, quantize=True, dtype=loading.base_dtype(config),
                                load_in_8bit=config.load_in_8bit)[0]
    return loading.load(name, quantize=config.method == "qlora", dtype=loading.base_dtype(config),
                        load_in_8bit=config.load_in_8bit)[0]


def peak(name, config, lengths: list[int]) -> int:
    """Bytes at the peak of the second step of `config` on sequences of so many tokens.

    name: a model as in `loading.load`, or a dict as of a config.json, for random weights.
    """
    from torch.profiler import ProfilerActivity, profile, record_function

    if config.method == "qlora" or "8bit" in config.optim:
        import bitsandbytes  # noqa: F401  its import allocates

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        update, batches = ready(name, config, lengths)
        with record_function("the step"):
            update(batches, 1e-3)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(file))
        events = json.loads(file.read_text("utf-8"))["traceEvents"]
    totals = sorted((e["ts"], e["args"]["Total Allocated"]) for e in events
                    if e.get("name") == "[memory]" and e["args"].get("Device Type") == 0)
    step = next(e for e in events if e.get("name") == "the step" and "dur" in e)
    first = bisect.bisect_left(totals, (step["ts"], 0))
    last = bisect.bisect_right(totals, (step["ts"] + step["dur"], 2**62))
    return max(total for _, total in totals[max(0, first - 1) : last])


def forked(work, *args, start="fork"):
    """`work(*args)` in a child of this process, which has all imports done. start: "forkserver" for
    a child of a process that has done nothing but imports: one that was forked from a process whose
    threads have computed much may wait for a lock that none of its own threads holds."""
    context = multiprocessing.get_context(start)
    context.set_forkserver_preload(IMPORTED)
    with context.Pool(1) as pool:
        return pool.apply(work, args)


if __name__ == "__main__":
    from ftkit.base.config import Config

    name, config, lengths = sys.argv[1:]
    print(peak(name, Config(**json.loads(config)), json.loads(lengths)))
