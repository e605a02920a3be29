"""Charts of footprints: stacked bars of the parts, next to the memory of GPUs."""

from ftkit.base.formatting import gb
from ftkit.memory_use import model_shapes
from ftkit.memory_use.footprint_text import NAMES
from ftkit.report import style
from ftkit.report.style import COLORS

HATCHES = ("", "//", "..", "xx", "", "\\\\", "--", "")
SHOWN = ("RTX 4090 24GB", "A6000 48GB", "H100 80GB", "H200 141GB", "B200 192GB", "T4 16GB")


def footprint(found) -> style.Picture:
    """Draw a bar of a Footprint's parts at the peak, and a bar of the measurement if there is one.
    """
    rows = {"predicted": found.at_peak}
    if found.measurement:
        rows["measured here"] = {"measured": found.measurement}
    return stacked(rows, found.summary())


def compared(found: dict, text: str = "") -> style.Picture:
    """Draw a bar for each Footprint in a dict (name → Footprint)."""
    told = ", ".join(f"{name} {gb(one.peak)}" for name, one in found.items())
    return stacked({name: one.at_peak for name, one in found.items()},
                   text or f"Peak per GPU: {told}.")


def stacked(rows: dict, text: str) -> style.Picture:
    """Draw stacked bars. rows: bar → part → bytes. text: the sentence below."""
    with style.style():
        high = 0.43 * len(rows)  # inches; above it are two lines of legend and names of GPUs
        drawn = style.new_figure(7.6, high + 1.3)
        ax = drawn.add_axes((0.2, 0.5 / (high + 1.3), 0.76, high / (high + 1.3)))
        top = max(sum(parts.values()) for parts in rows.values())
        shown = [part for part in (*NAMES, "measured")  # what is thinner cannot be seen
                 if any(r.get(part, 0) > top / 500 for r in rows.values())]
        unit, word = ((1e12, "TB (10¹² bytes)") if top >= 1e12 else (1e9, "GB (10⁹ bytes)")
                      if top >= 1e9 else (1e6, "MB (10⁶ bytes)"))
        for place, parts in enumerate(rows.values()):
            left = 0.0
            for part in shown:
                width = parts.get(part, 0) / unit
                ax.barh(place, width, left=left, height=0.62, edgecolor="white", linewidth=0.6,
                        **_look(part))
                left += width
        # beside the name, since a value at the end of a bar can hide the line of a GPU
        ax.set_yticks(range(len(rows)), [f"{style.short(name, 18)}\n{gb(sum(parts.values()))}"
                                         for name, parts in rows.items()], parse_math=False)
        ax.invert_yaxis()
        ax.set_xlim(0, 1.13 * top / unit)
        ax.set_xlabel(f"{word} on each GPU")
        _lines(ax, top, unit)
        ax.legend(handles=[_patch(part) for part in shown], loc="lower center",
                  bbox_to_anchor=(0.45, 1 + 0.2 / high), ncols=4, frameon=False, fontsize=7.5)
        ax.grid(False, axis="y")
    return style.Picture(drawn, text)


def along(steps: dict) -> style.Picture:
    """Draw the memory in the course of a step: a panel for each `simulate.Step` in a dict (name →
    step), with a point for each local maximum."""
    with style.style():
        drawn = style.new_figure(7.6, 3.0)
        drawn.subplots(1, len(steps), sharey=True)
        drawn.subplots_adjust(left=0.09, right=0.98, bottom=0.17, top=0.76, wspace=0.06)
        shown = [part for part in NAMES if any(now.get(part) for step in steps.values()
                                               for _, now in step.timeline)]
        for ax, (name, step) in zip(drawn.axes, steps.items(), strict=True):
            heights = [[now.get(part, 0) / 1e6 for _, now in step.timeline] for part in shown]
            layers = ax.stackplot(range(len(step.timeline)), heights, linewidth=0)
            for layer, part in zip(layers, shown, strict=True):
                layer.set(edgecolor="white", **_look(part))
            turn = [phase for phase, _ in step.timeline].index("backward pass")
            ax.axvline(turn, color="#333333", linewidth=1, linestyle="--")
            ax.set_title(f"{style.short(name)}: peak {gb(step.peak)}", fontsize=9)
            end = len(step.timeline) - 1
            ax.set_xticks([turn / 2, (turn + end) / 2], ["forward", "backward, step"])
            ax.tick_params(axis="x", length=0)
            ax.set_xlim(0, end)
        drawn.axes[0].set_ylabel("MB")
        drawn.legend(handles=[_patch(part) for part in shown], loc="upper center",
                     ncols=4, frameon=False, fontsize=7.5)
    told = [f"{name}: peak {gb(step.peak)} in the {step.highest[0]}"
            for name, step in steps.items()]
    return style.Picture(drawn, f"{'; '.join(told)}.")


def _look(part: str) -> dict:
    """Color and hatch of a part, the same in every picture."""
    if part == "measured":
        return {"facecolor": "#777777"}
    i = [*NAMES].index(part)
    return {"facecolor": (*COLORS, "#bbbbbb")[i], "hatch": HATCHES[i]}


def _patch(part: str):
    from matplotlib.patches import Patch

    return Patch(label=NAMES.get(part, part), edgecolor="white", **_look(part))


def _lines(ax, top, unit):
    """Draw a line at the usable memory of each GPU that is in the range of the bars."""
    from matplotlib.transforms import blended_transform_factory

    taken = []
    for name in SHOWN:
        x = model_shapes.GPUS[name].usable / unit
        if 0.1 * top / unit < x < 1.1 * top / unit and all(abs(x - t) > 0.13 * top / unit
                                                          for t in taken):
            taken.append(x)
            ax.axvline(x, color="#333333", linewidth=1, linestyle="--", zorder=3)
            ax.text(x, 1.02, name, fontsize=7, ha="center",
                    transform=blended_transform_factory(ax.transData, ax.transAxes))
