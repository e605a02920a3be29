"""What bench.py measured, as Markdown: tables, checks (must hold) and goals (met or missed)."""

from __future__ import annotations

from dataclasses import dataclass, field

NAMES = {"tiny": "tiny", "smollm2": "SmolLM2-135M"}
CLOCKS = {"cpu": "process CPU time, one thread", "wall": "wall time, all cores"}


@dataclass
class Table:
    """One table of the page. wrong: checks that failed; goals: (met, sentence)."""

    title: str
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    checks: list[tuple[bool, str]] = field(default_factory=list)
    goals: list[tuple[bool, str]] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        return not all(held for held, _ in self.checks)

    def markdown(self) -> str:
        lines = ["| " + " | ".join(row) + " |"
                 for row in [self.head, ["---"] * len(self.head), *self.rows]]
        notes = [f"- {'holds' if ok else '**DOES NOT HOLD**'}: {text}" for ok, text in self.checks]
        notes += [f"- {'met' if ok else '**missed**'}: {text}" for ok, text in self.goals]
        return "\n".join([f"### {self.title}", "", *lines, "", *notes, ""])


def best_steps(results: list[dict], clock: str, skip: int) -> list[float]:
    """Per step the shortest time of all rounds, without the first steps."""
    return [min(step) for step in zip(*(r[clock][skip:] for r in results), strict=True)]


def speed_table(base, rounds, work, peak, skip) -> Table:
    model, method, clock = base["model"], base["method"], base["clock"]
    table = Table(
        f"Training {NAMES[model]}, {method}: {CLOCKS[clock]}",
        ["", "ms a step", "useful tokens/s", "x TRL defaults", "of the GEMM peak",
         "peak memory, MB", "loss against plain"])
    tokens = sum(step["tokens"] for step in work[skip:])
    flops = sum(step["flops"] for step in work[skip:])
    seconds = {who: sum(best_steps(r, clock, skip)) for who, r in rounds.items()}
    rate = {who: tokens / s for who, s in seconds.items()}
    share = {}
    for who, results in rounds.items():
        precision = "fp32" if who.endswith("fp32") else "bf16"
        share[who] = flops / seconds[who] / 1e9 / peak[precision][clock]
        plain = rounds[f"plain {precision}"][0]["losses"]
        gap = max(abs(a - b) for r in results for a, b in zip(r["losses"], plain, strict=True))
        limit = 1e-4 if precision == "fp32" else 2e-2
        if not who.startswith("plain"):
            table.checks.append((gap <= limit, f"{who}: the loss curve is within {limit:g} of the "
                                 f"plain {precision} loop ({gap:.1e}) over {len(plain)} steps"))
        table.rows.append([
            who, f"{1e3 * seconds[who] / len(work[skip:]):,.0f}", f"{rate[who]:,.0f}",
            f"{rate[who] / rate['TRL defaults']:.2f}", f"{share[who]:.0%} of {precision}",
            f"{max(r['peak_bytes'] for r in results) / 2**20:,.0f}", f"{gap:.0e}"])
    ours = rate["ftkit bf16"]
    for who, factor in (("TRL defaults", 2.1), ("TRL best", 1.0), ("plain bf16", 1.0)):
        if who not in rate:
            continue
        ratio = ours / rate[who]
        table.goals.append((ratio >= factor, f"{ratio:.2f}x {who} (goal {factor:g}x or more)"))
    if model == "smollm2" and method == "full":
        for precision, goal in (("fp32", 0.65), ("bf16", 0.50)):
            got = share[f"ftkit {precision}"]
            table.goals.append((got >= goal, f"{got:.0%} of the {precision} GEMM peak of "
                                f"{peak[precision][clock]:,.0f} GFLOP/s (goal {goal:.0%})"))
    labeled = sum(step["labeled"] for step in work[skip:])
    once = sum(step["once"] for step in work[skip:])
    cells = sum(step["cells"] for step in work[skip:])
    table.title += (f" ({tokens / len(work[skip:]):.0f} tokens a step, {labeled / tokens:.0%} "
                    f"labeled, {1 - once / tokens:.0%} repeat how another record of the batch "
                    f"begins; {1 - tokens / cells:.0%} of a padded batch is padding)")
    return table


def eval_table(base, rounds) -> Table:
    model, clock = base["model"], base["clock"]
    table = Table(f"Evaluation loss, {NAMES[model]}, {base['records']} records: {CLOCKS[clock]}",
                  ["", "seconds", "x Trainer.evaluate fp32", "loss", "peak memory, MB"])
    seconds = {who: min(r[clock][0] for r in results) for who, results in rounds.items()}
    for who, results in rounds.items():
        table.rows.append([
            who.replace("Trainer", "Trainer.evaluate"), f"{seconds[who]:.2f}",
            f"{seconds['Trainer fp32'] / seconds[who]:.2f}", f"{results[0]['loss']:.4f}",
            f"{max(r['peak_bytes'] for r in results) / 2**20:,.0f}"])
    loss = {who: results[0]["loss"] for who, results in rounds.items()}
    for precision, limit, goal in (("fp32", 1e-4, 1.4), ("bf16", 2e-2, 2.5)):
        gap = abs(loss[f"ftkit {precision}"] - loss["plain fp32"])
        table.checks.append((gap <= limit, f"ftkit {precision} is within {limit:g} of the token "
                             f"mean of a plain loop ({gap:.1e})"))
        ratio = seconds["Trainer fp32"] / seconds[f"ftkit {precision}"]
        table.goals.append((ratio >= goal, f"{precision} {ratio:.2f}x Trainer.evaluate "
                            f"(goal {goal:g}x)"))
    off = loss["Trainer fp32"] - loss["plain fp32"]
    table.title += f"; Trainer's mean of batch means is {off:+.4f} off the token mean"
    return table


def generate_table(base, rounds) -> Table:
    model, clock = base["model"], base["clock"]
    new = rounds["ftkit"][0]["new_tokens"]
    table = Table(f"Greedy answers, {NAMES[model]}, fp32, {base['records']} prompts, "
                  f"{new} new tokens: {CLOCKS[clock]}",
                  ["", "seconds", "new tokens/s", "x generate, 32", "same answers", "exact match"])
    seconds = {who: min(r[clock][0] for r in results) for who, results in rounds.items()}
    usual = "generate, batches of 32"
    for who, results in rounds.items():
        same = sum(a == b for a, b in zip(results[0]["made"], rounds["ftkit"][0]["made"],
                                          strict=True))
        table.rows.append([who, f"{seconds[who]:.2f}", f"{new / seconds[who]:,.0f}",
                           f"{seconds[usual] / seconds[who]:.2f}", f"{same}/{base['records']}",
                           f"{results[0]['exact_match']:.2f}"])
        if who != "ftkit":
            table.checks.append((same == base["records"], f"{who}: the same tokens as ftkit's"))
    goal = {"tiny": 2.5, "smollm2": 1.7}[model]
    ratio = seconds[usual] / seconds["ftkit"]
    table.goals.append((ratio >= goal, f"{ratio:.2f}x generate in batches of 32 (goal {goal:g}x)"))
    return table


def startup_table(times, imports) -> Table:
    table = Table("Starting up, tiny: seconds from process start to the end of the first step, "
                  "best of the rounds", ["", "seconds", "of it all"])
    best = {who: min(seconds) for who, seconds in times.items()}
    for who, seconds in best.items():
        table.rows.append([f"`{who}`" if who == "ftkit run" else who, f"{seconds:.2f}",
                           f"{seconds / best['ftkit run']:.1f}x"])
    for what, seconds in imports.items():
        table.rows.append([f"`python -c \"{what}\"`", f"{seconds:.2f}", ""])
    ours = best["ftkit run"]
    table.goals.append((ours <= 3, f"`ftkit run` took its first step {ours:.2f} s after process "
                        "start (goal 3 s)"))
    more = imports["import torch, ftkit"] - imports["import torch"]
    table.goals.append((more <= 0.2, f"`import ftkit` adds {more:.2f} s to `import torch` "
                        "(goal 0.2 s)"))
    return table


def page(tables: list[Table]) -> str:
    """The whole file."""
    import importlib.metadata
    import os
    import platform

    from ftkit.base import machine

    about, versions = machine.describe(), machine.versions()
    for name in ("trl", "accelerate"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    system = f"{platform.system()} {platform.machine()}"
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    met = [ok for table in tables for ok, _ in table.goals]
    head = [
        "# Speed", "",
        "Written by `python tests/benchmarks/bench.py all`; see there for how it is measured.", "",
        f"Machine: {about['name']}, {about['cores']} cores, {system}{load}.  ",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in versions.items() if v) + ".  ",
        f"Goals met: {sum(met)} of {len(met)}. Useful tokens leave out padding; the share of the "
        "GEMM peak counts only operations that have to be done, whoever does them.", ""]
    return "\n".join(head) + "\n" + "\n".join(table.markdown() for table in tables)
