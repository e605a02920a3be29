"""Draw first_run.svg, the first picture of README.md: one real run, played once in eight seconds.

    python notebooks/first_run.py      # trains, half a minute on one core

The picture follows the reader's theme, and stands still where less motion is asked for.
"""

from html import escape
from math import log10
from pathlib import Path

import ftkit as ft

WIDTH, HEIGHT = 860, 410
LEFT, RIGHT, TOP, BOTTOM = 60, 500, 72, 350
LOWEST, HIGHEST = 0.001, 10
SECONDS = 8
STYLE = f"""
  svg {{ font-family: system-ui, sans-serif; font-size: 14px; fill: #1f2328; background: #ffffff }}
  .val_loss {{ stroke: #0072b2 }} .general_loss {{ stroke: #d55e00 }} .name {{ stroke: none }}
  .name.val_loss {{ fill: #0072b2 }} .name.general_loss {{ fill: #c25500 }}
  .axis {{ stroke: #8c959f; fill: none }} .small {{ font-size: 12px }} .soft {{ fill: #59636e }}
  .title {{ font-size: 16px; font-weight: 600 }}
  .curve {{ fill: none; stroke-width: 2.5; stroke-dasharray: 1; animation: draw {SECONDS}s linear }}
  .after {{ font-weight: 600; animation: show {SECONDS}s linear }}
  @keyframes draw {{ from {{ stroke-dashoffset: 1 }} to {{ stroke-dashoffset: 0 }} }}
  @keyframes show {{ 0%, 96% {{ opacity: 0 }} 100% {{ opacity: 1 }} }}
  @media (prefers-color-scheme: dark) {{
    svg {{ fill: #e6edf3; background: #0d1117 }} .soft {{ fill: #9198a1 }}
    .val_loss {{ stroke: #56b4e9 }} .name.val_loss {{ fill: #56b4e9 }}
    .general_loss {{ stroke: #f0944d }} .name.general_loss {{ fill: #f0944d }}
    .name {{ stroke: none }} }}
  @media (prefers-reduced-motion: reduce) {{ .curve, .after {{ animation: none }} }}
"""


def train():
    """Return the run: the embedded model learns French phrases, with a loss after each step."""
    ft.setup(seed=0)
    lab = ft.Experiment(model="tiny", data="translation")
    return lab.run(ft.Config(method="full", learning_rate=1e-3, max_steps=40, eval_steps=1,
                             precision="fp32"), sample=5)


def text(x, y, words, css="", anchor="start"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" class="{css}" text-anchor="{anchor}">'
            f"{escape(words)}</text>")


def place(step, loss, steps):
    """Return the pixel of a loss, on a logarithmic axis."""
    high = (log10(loss) - log10(LOWEST)) / (log10(HIGHEST) - log10(LOWEST))
    return LEFT + (RIGHT - LEFT) * step / steps, BOTTOM - (BOTTOM - TOP) * high


def chart(run):
    yield f'<path class="axis" d="M{LEFT} {TOP} V{BOTTOM} H{RIGHT}"/>'
    for loss in (10, 1, 0.1, 0.01, 0.001):
        yield text(LEFT - 8, place(0, loss, 1)[1] + 4, f"{loss:g}", "small soft", "end")
    yield text(LEFT, BOTTOM + 20, "step 0", "small soft")
    yield text(RIGHT, BOTTOM + 20, f"step {run.last_step}", "small soft", "end")
    for name in ("val_loss", "general_loss"):
        points = [place(step, loss, run.last_step) for step, loss in losses(run, name)]
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        yield f'<path class="curve {name}" pathLength="1" d="M{path}"/>'
    yield text(RIGHT, place(0, 1.6, 1)[1], "general_loss: general English prose",
               "name general_loss", "end")
    yield text(LEFT + 16, place(0, 0.004, 1)[1], "val_loss: new questions of the task",
               "name val_loss")


def losses(run, name):
    """Return (step, loss) of a curve, with the untuned model at step 0."""
    return [(0, run.before[name]), *((row["step"], row[name]) for row in run.rows if name in row)]


def answers(run):
    """Show each question with the model's answer before and after."""
    x, y = RIGHT + 44, TOP
    asked = {}
    for sample in run.samples:
        asked.setdefault(sample["prompt"].splitlines()[-1], []).append(sample["answer"])
    for question, answered in asked.items():
        yield text(x, y, f"“{question}” in French?")
        yield text(x, y + 18, f"before: {answered[0]}", "small soft")
        yield text(x, y + 36, f"after: {answered[-1]}", "small after")
        y += 58


def picture(run):
    first, last = (f"{value:.2f}" for value in (run.before["general_loss"],
                                                run.after["general_loss"]))
    said = (f"Fine-tuning a language model of {run.total_parameters / 1e6:.1f} million parameters: "
            f"{run.last_step} steps, {run.seconds:.0f} s on one core")
    end = f"It learned the task, and forgot a little: general_loss rose from {first} to {last}."
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{said}. {end}</title>", f"<style>{STYLE}</style>",
        text(20, 30, said, "title"), *chart(run), *answers(run),
        text(20, HEIGHT - 14, end, "after"), "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(train()), "utf-8")
