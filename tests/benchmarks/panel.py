"""How the what-if panel feels: `python tests/benchmarks/panel.py [--quick]`; run it alone.

All is measured in a real kernel, so that what is sent to the page is packed and sent. There is no
page: what its browser needs is not in these numbers.

- first_point_seconds: from Start to the first row of the run; run_seconds: to its end, 60 steps.
- drawing_ratio: the CPU time of the whole process between the start of training and its last step,
  with the live chart and without it, in pairs that take turns. Other programs hardly touch it.
- drawing_share: the CPU time of all other threads (the painter's, and those that send) by that of
  the thread that trains, with the live chart. It has less noise, and misses waits for each other.
- updates_per_second: of the chart, while it trains; update_milliseconds: CPU time of one.
- reaction_milliseconds: from a new value of a control to all that the panel answers, while it
  trains.

All are medians. Seconds mean little while other programs run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

MOST = {"first_point_seconds": 1.0, "run_seconds": 10.0, "drawing_ratio": 1.02,
        "drawing_share": 0.02, "reaction_milliseconds": 150.0}
LEAST = {"updates_per_second": 10.0}


def main():
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--quick", action="store_true", help="one pair, to see that it runs")
    asked.add_argument("--json", action="store_true", help="print one JSON object")
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = in_kernel(1 if args.quick else 7, os.environ | {"FTKIT_HOME": home})
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            limit = f"at most {MOST[name]}" if name in MOST else (
                f"at least {LEAST[name]}" if name in LEAST else "")
            print(f"{name:<22} {value:8.3f}   {limit}".rstrip())
    return (all(found[name] <= limit for name, limit in MOST.items())
            and all(found[name] >= limit for name, limit in LEAST.items()))


def in_kernel(pairs: int, environment: dict) -> dict:
    """What `measure` finds in a kernel of its own."""
    from jupyter_client.manager import run_kernel

    printed = []
    code = (f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
            f"import json, panel; print('found', json.dumps(panel.measure({pairs})))")

    def note(message):
        content = message["content"]
        printed.append(content.get("text", "") + "\n".join(content.get("traceback", [])))

    with run_kernel(kernel_name="python3", env=environment) as client:
        client.execute_interactive(code, output_hook=note, timeout=3600)
    said = "".join(printed)
    if "found {" not in said:
        raise SystemExit(said)
    return json.loads(said.partition("found ")[2].partition("\n")[0])


def measure(pairs: int) -> dict:
    import ftkit as ft
    from ftkit.notebook import background

    ft.setup(seed=0)
    panel = ft.what_if(data="tasks")
    background.QUEUE.join()
    first, whole, ratios = [], [], []
    updates: list[tuple[float, float]] = []  # of one run: when, CPU seconds of the one before
    rates, costs, reactions, shares = [], [], [], []
    panel.results.chart.more.observe(
        lambda change: updates.append((time.perf_counter(), panel.results.curves.cost)), "value")
    for seed in range(pairs):
        panel.config = panel.config.but(max_steps=60, seed=seed)
        background.QUEUE.join()
        began = time.perf_counter()
        panel.start()
        while not (task := panel.launcher.running()) or not task.started_run or (
                not panel.results.progress.max == 60 or not task.started_run.rows):
            time.sleep(0.001)
        first.append(time.perf_counter() - began)
        panel.wait()
        whole.append(time.perf_counter() - began)
        order = (True, False) if seed % 2 else (False, True)
        updates.clear()
        times = {drawn: training(ft, panel, seed + 1000, drawn) for drawn in order}
        ratios.append(times[True][0] / times[False][0])
        shares.append(times[True][1] / times[True][0])
        if len(updates) > 2:
            rates.append((len(updates) - 1) / (updates[-1][0] - updates[0][0]))
            costs += [cost for _, cost in updates[1:]]
        reactions += reacted(panel, seed + 2000)
    return {"first_point_seconds": statistics.median(first),
            "run_seconds": statistics.median(whole),
            "drawing_ratio": statistics.median(ratios),
            "drawing_share": statistics.median(shares),
            "updates_per_second": statistics.median(rates) if rates else 0.0,
            "update_milliseconds": 1000 * statistics.median(costs) if costs else 0.0,
            "reaction_milliseconds": 1000 * statistics.median(reactions), "pairs": pairs}


def reacted(panel, seed: int) -> list[float]:
    """Seconds from a control's new value to the end of what the panel does about it, in training.
    The value is set as ipywidgets sets what a page has sent; all work is done when that returns.
    """
    from ftkit.notebook import background

    panel.config = panel.config.but(seed=seed)
    background.QUEUE.join()
    panel.start()
    control, found = panel.controls.fields["learning_rate"], []
    values = [value for _, value in control.options if value != "auto"]
    while background.QUEUE.busy(panel.launcher):
        task = panel.launcher.running()
        if getattr(task, "rows", None) is not None and task.started_run and task.started_run.rows:
            began = time.perf_counter()
            control.value = values[len(found) % len(values)]
            found.append(time.perf_counter() - began)
        time.sleep(0.1)
    panel.wait()
    panel.config = panel.config.but(learning_rate=None)
    return found


def training(ft, panel, seed: int, drawn: bool) -> tuple[float, float]:
    """CPU seconds of the training of one run behind the panel, with or without its picture: of the
    whole process, and of all threads but the one that trains."""
    from ftkit.notebook import background

    class TimedTask(background.TrainingTask):
        def train(self):
            def start(run):
                self.started_run, self.began = run, spent()

            def row(values):
                self.rows.append(values)
                self.ended = spent()

            self.run = self.experiment.run(self.config, on_start=start, on_row=row, live=False)

    task = TimedTask(panel.experiment, panel.config.but(seed=seed), owner=panel.launcher)
    if drawn:
        task.on_change = panel.launcher._task_changed
    background.QUEUE.submit(task)
    background.QUEUE.join()
    panel.wait()
    whole, own = (end - begin for begin, end in zip(task.began, task.ended, strict=True))
    return whole, whole - own


def spent() -> tuple[float, float]:
    """CPU seconds of the process, and of the thread that asks."""
    return time.process_time(), time.thread_time()


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
