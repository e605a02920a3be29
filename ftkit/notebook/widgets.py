"""Controls for a notebook: one for each field of Config, and what all widgets of ours share.

    control = field_control("learning_rate"); control.value = 1e-3
    button("Start", "play", start, tip="Train with these values")

A callback is wrapped by `guarded`: what it raises is kept in `failures`, where a test looks, and
told to the learner in words. Text is shown by `TextLines`, which never becomes HTML.
"""

from __future__ import annotations

import dataclasses
import html
import sys
from collections.abc import Callable

import ipywidgets as W

from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean

AUTO = "auto"  # the None of Config: "choose for me"
NONE = {"early_stopping_patience": "off", "max_steps": "by epochs"}  # where it is no choice
FIELDS = {field.name: field for field in dataclasses.fields(Config)}

GROUPS = {  # short names: they are the tabs
    "Steps": ("learning_rate", "lr_scheduler_type", "warmup_steps", "batch_size",
              "gradient_accumulation_steps", "epochs", "max_steps", "seed"),
    "Method": ("method", "r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora",
               "use_dora", "init_lora_weights", "num_virtual_tokens"),
    "Guards": ("replay", "l2_sp", "weight_decay", "max_grad_norm", "early_stopping_patience",
               "metric_for_best_model", "eval_steps"),
    "Data": ("loss_on", "max_length", "packing"),
    "Memory": ("precision", "gradient_checkpointing", "optim"),
}
_LORA = ("lora", "qlora")
USED_BY = {name: _LORA for name in ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora",
                                    "init_lora_weights")} | {  # without effect on other methods
    "target_modules": (*_LORA, "ia3"), "num_virtual_tokens": ("prompt_tuning", "prefix_tuning"),
    "l2_sp": ("full",)}

# What a slider offers; any other value can be given in the line of text above the controls.
VALUES = {
    "learning_rate": [float(f"{m}e{e}") for e in range(-6, 0) for m in (1, 2, 5)],
    "batch_size": [1, 2, 4, 8, 16, 32, 64, 128],
    "gradient_accumulation_steps": [1, 2, 4, 8, 16],
    "epochs": [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0],
    "max_steps": [1, 5, 10, 20, 30, 60, 100, 200, 500, 1000],
    "warmup_steps": [0.0, 0.03, 0.06, 0.1, 0.2, 0.5, 10.0],
    "weight_decay": [0.0, 0.01, 0.1, 0.3, 1.0],
    "max_grad_norm": [0.0, 0.1, 0.3, 1.0, 3.0, 10.0],
    "r": [1, 2, 4, 8, 16, 32, 64, 128],
    "lora_alpha": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0],
    "lora_dropout": [0.0, 0.05, 0.1, 0.2, 0.5],
    "max_length": [16, 32, 64, 128, 256, 512, 1024, 2048],
    "replay": [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8],
    "early_stopping_patience": [1, 2, 3, 5, 10],
    "eval_steps": [1, 2, 5, 10, 20, 50, 100],
    "seed": list(range(10)),
    "l2_sp": [0.0, 0.001, 0.01, 0.1, 1.0],
    "num_virtual_tokens": [1, 5, 10, 20, 50, 100],
}
SUGGESTED = {"target_modules": ["all-linear", "q_proj,v_proj", "q_proj,k_proj,v_proj,o_proj"],
             "metric_for_best_model": ["val_loss", "general_loss"]}

failures: list[BaseException] = []  # what callbacks have raised, newest last


def guarded(function: Callable, tell: Callable[[str], None] | None = None) -> Callable:
    """`function` as a callback: an exception is kept in `failures` and told by `tell`.

    Without this, ipywidgets prints a traceback in whichever cell ran last, or nowhere, and no
    test notices. A ValueError is the learner's mistake and only told.
    """
    def call(*args, **options):
        try:
            return function(*args, **options)
        except ValueError as error:
            words = f"{error}"
            if tell is None:
                print(f"ftkit: {clean(words)}", file=sys.stderr)
        except Exception as error:
            failures.append(error)
            words = (f"this control failed ({type(error).__name__}: {error}); that is a mistake "
                     "of ftkit's, what you have run is kept")
            if tell is None:
                print(f"ftkit: {clean(words)}", file=sys.stderr)
        if tell is not None:
            tell(clean(words))

    return call


class TextLines(W.HTML):
    """Lines of text that may come from data: shown as they are, never read as HTML.

    `.lines` are what is shown; `say` replaces them. css: a class to find it by.
    """

    def __init__(self, *lines: str, css: str = "", bold: bool = False):
        super().__init__()
        self.bold = bold
        if css:
            self.add_class(css)
        self.show(*lines)

    def show(self, *lines: str):
        self.lines = [clean(line) for line in lines if line]
        text = "".join(f"<div style='line-height:1.5'>{html.escape(line)}</div>"
                       for line in self.lines)
        self.value = f"<b>{text}</b>" if self.bold and text else text


class Code(W.HTML):
    """Lines of code as they are, to select and copy. `.code` is the text."""

    def __init__(self, css: str = ""):
        super().__init__()
        self.add_class(css)
        self.show("")

    def show(self, code: str):
        self.code = code
        lines = (" " * (len(line) - len(line.lstrip())) + clean(line) for line in code.split("\n"))
        text = html.escape("\n".join(lines))
        self.value = f"<pre style='white-space:pre-wrap'>{text}</pre>" if code else ""


def button(name: str, icon: str, work: Callable[[], None], tip: str,
           tell: Callable[[str], None] | None = None, css: str = "") -> W.Button:
    """A button that calls `work()`; its class is `ftkit-<name>` unless `css` names another."""
    made = W.Button(description=name, icon=icon, tooltip=tip, layout=W.Layout(width="auto"))
    made.add_class(css or f"ftkit-{name.lower().replace(' ', '-')}")
    made.on_click(guarded(lambda _: work(), tell))
    return made


def field_control(name: str, value=None) -> W.Widget:
    """The control of one field of Config, with the field's tip; see `read` and `write`.

    A list of usual values becomes a slider, a choice a drop-down, a switch a check box; any other
    field a line of text. Raises ValueError for a name that is no field of Config.
    """
    if name not in FIELDS:
        raise UserError(f"Config has no field {name!r}; known: {', '.join(FIELDS)}")
    field = FIELDS[name]
    kind, choices = str(field.type), field.metadata["choices"]
    auto = [(AUTO, AUTO)] if "None" in kind else []
    look = {"description": name, "tooltip": field.metadata["tip"],
            "style": {"description_width": "205px"}, "layout": W.Layout(width="auto")}
    start = field.default if value is None else value
    chosen = AUTO if start is None else start
    if kind.startswith("bool"):
        made = W.Checkbox(value=bool(start), indent=True, **look)
    elif choices:
        made = W.Dropdown(options=auto + [(c, c) for c in choices], value=chosen, **look)
    elif name in VALUES:
        made = W.SelectionSlider(options=_options(name, start), value=chosen, **look)
    elif name in SUGGESTED:
        made = W.Combobox(options=SUGGESTED[name], value=str(start), **look)
    else:
        made = Typed(value="" if start is None else str(start), **look)
    made.add_class(f"ftkit-{name}")
    made.field = name
    return made


class Typed(W.Text):
    """A line of text for a field that has no list of usual values; empty means `auto`."""

    def __init__(self, **options):
        super().__init__(placeholder=AUTO, continuous_update=False, **options)


def read(control) -> object:
    """The value of a control as Config takes it."""
    if isinstance(control, Typed):
        return control.value.strip() or FIELDS[control.field].default
    return None if control.value == AUTO else control.value


def write(control, value):
    """Set a control from a value of Config; a slider gets a stop there if it has none."""
    if isinstance(control, W.SelectionSlider):
        if value is not None and value not in [v for _, v in control.options]:
            control.options = _options(control.field, value)
        control.value = AUTO if value is None else value
    elif isinstance(control, Typed):
        control.value = "" if value is None else str(value)
    else:
        control.value = AUTO if value is None else value


def _options(name, value) -> list[tuple[str, object]]:
    values = sorted({*VALUES[name], *([] if value is None else [value])})
    auto = [(NONE.get(name, AUTO), AUTO)] if "None" in str(FIELDS[name].type) else []
    return auto + [(f"{v:.12g}", v) for v in values]


def groups(names=None) -> dict[str, list[str]]:
    """Group → fields of Config, in the order they are shown; a field without a group is last."""
    wanted = list(FIELDS) if names is None else list(names)
    unknown = [name for name in wanted if name not in FIELDS]
    if unknown:
        raise UserError(f"Config has no field {unknown[0]!r}; known: {', '.join(FIELDS)}")
    made = {group: [n for n in members if n in wanted] for group, members in GROUPS.items()}
    placed = {name for members in made.values() for name in members}
    made["More"] = [name for name in wanted if name not in placed]
    return {group: members for group, members in made.items() if members}


def walk(widget):
    """A widget and everything in it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def controls_in(widget) -> list:
    """Everything in it that a learner can move, type into or press."""
    return [w for w in walk(widget) if isinstance(w, W.ValueWidget | W.Button)
            and not isinstance(w, W.HTML | W.Label | W.IntProgress | W.FloatProgress | W.Image)]


class Paragraphs(TextLines):
    """TextLines to read: several sentences, their lines close together."""

    def show(self, *lines: str):
        super().show(*lines)
        self.value = f"<div style='line-height:1.45;max-width:52em'>{self.value}</div>" * bool(
            self.lines)
