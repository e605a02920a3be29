"""How the what-if panel feels: `python tests/benchmarks/panel.py [--quick]`; run it alone.

Seconds from Start to the first point, seconds of a 60-step run with its curves, and what drawing
costs: the CPU time of the whole process between the start of training and its last step, with the
picture and without it, in pairs that take turns. Seconds mean little while other programs run; the
ratio is hardly touched by them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time

LIMITS = {"first_point_seconds": 1.0, "run_seconds": 10.0, "drawing_ratio": 1.05}


def main():
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--quick", action="store_true", help="one pair, to see that it runs")
    asked.add_argument("--json", action="store_true", help="print one JSON object")
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["FTKIT_HOME"] = home
        found = measure(1 if args.quick else 7)
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            limit = LIMITS.get(name)
            print(f"{name:<22} {value:8.3f}" + (f"   limit {limit}" if limit else ""))
    return all(found[name] <= limit for name, limit in LIMITS.items())


def measure(pairs: int) -> dict:
    import ftkit as ft
    from ftkit.notebook import runner

    ft.setup(seed=0)
    panel = ft.what_if(data="tasks")
    runner.RUNNER.join()
    first, whole, ratios = [], [], []
    for seed in range(pairs):
        panel.config = panel.config.but(max_steps=60, seed=seed)
        runner.RUNNER.join()
        began = time.perf_counter()
        panel.start()
        while not (task := runner.RUNNER.running(panel)) or not task.started_run or (
                not panel.view.progress.max == 60 or not task.started_run.rows):
            time.sleep(0.001)
        first.append(time.perf_counter() - began)
        panel.wait()
        whole.append(time.perf_counter() - began)
        order = (True, False) if seed % 2 else (False, True)
        times = {drawn: training(ft, panel, seed + 1000, drawn) for drawn in order}
        ratios.append(times[True] / times[False])
    return {"first_point_seconds": statistics.median(first),
            "run_seconds": statistics.median(whole),
            "drawing_ratio": statistics.median(ratios), "pairs": pairs}


def training(ft, panel, seed: int, drawn: bool) -> float:
    """CPU seconds of the training of one run behind the panel, with or without its picture."""
    from ftkit.notebook import runner

    class TimedTask(runner.TrainingTask):
        def train(self):
            def start(run):
                self.started_run, self.began = run, time.process_time()

            def row(values):
                self.rows.append(values)
                self.ended = time.process_time()

            self.run = self.experiment.run(self.config, on_start=start, on_row=row, live=False)

    task = TimedTask(panel.experiment, panel.config.but(seed=seed), owner=panel)
    if drawn:
        task.on_change = panel._task_changed
    runner.RUNNER.submit(task)
    runner.RUNNER.join()
    panel.wait()
    return task.ended - task.began


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
