"""The controls of a what-if panel: one for each field of Config, and the Config that they spell.

    controls = Controls(grouped(Config), Config(max_steps=60), on_change, say, show_error)
    controls.config      # set it to move the controls

One group of controls is shown at a time, by buttons: an ipywidgets Tab inside a box no longer
switches after the page was reloaded.
"""

import ast
import threading
from collections.abc import Callable

import ipywidgets as W

from ftkit.base.config import Config
from ftkit.base.config_fields import without_effect
from ftkit.base.errors import UserError
from ftkit.notebook import widgets
from ftkit.notebook.presets import PRESETS
from ftkit.notebook.widgets import FIELDS

BASICS: tuple[str, ...] = (
    "method", "learning_rate", "r", "batch_size", "max_steps", "epochs", "seed")
FEW = 8  # up to this many controls are shown without groups, presets and Config line
TIPS = {
    "line": ("Config", "All changed fields as text: name=value pairs or Config(...); then Enter"),
    "preset": ("preset", "Settings that show one effect; other fields keep their values"),
    "undo": ("undo", "Take back the last change of the controls"),
    "reset": ("reset", "Set the controls to their initial values"),
}


class Controls:
    """`.fields`: name of a field → its control. `.line`, `.preset`, `.undo_button`,
    `.reset_button`, `.group` and `.boxes` are the other widgets.

    groups: title → names of fields; fields without a control keep the value of `config`.
    on_change: called after each change, by the learner or by the program. say: shows a sentence
    in the status line. `.lock` is held while the controls are set, and by whoever reads several.
    """

    def __init__(self, groups: dict[str, list[str]], config: Config,
                 on_change: Callable[[], None], say: Callable[[str], None],
                 show_error: Callable[[str], None]):
        self.lock = threading.RLock()  # a page changes controls in one thread, training in another
        self.initial = self._base = self._seen = config
        self._past: list[Config] = []  # the values before each change, for Undo
        self._on_change, self._say = on_change, say
        self._by_learner = widgets.ByLearner(show_error)
        watch = self._by_learner.watch
        self.fields = {name: watch(widgets.field_control(name), self._field_changed)
                       for names in groups.values() for name in names}
        self.rows = {name: widgets.FieldRow(control) for name, control in self.fields.items()}
        self.line = watch(
            W.Text(placeholder="all defaults", tooltip=TIPS["line"][1], description="config",
                   style={"description_width": "42px"}, continuous_update=False,
                   layout=W.Layout(flex="1 1 200px", width="auto")),
            self.read_line, "line")
        self.preset = watch(
            W.Dropdown(options=[("presets ...", ""), *((name, name) for name in PRESETS)],
                       tooltip=TIPS["preset"][1], layout=W.Layout(width="170px")),
            self._use_preset, "preset")
        self.undo_button = widgets.button("", "undo", self.undo, TIPS["undo"][1], show_error,
                                          "ftkit-undo")
        self.reset_button = widgets.button("", "refresh", self.reset, TIPS["reset"][1],
                                           show_error, "ftkit-reset")
        self.few = len(self.fields) <= FEW
        self.boxes = {title: W.VBox([self.rows[name] for name in names])
                      for title, names in groups.items()}
        self.group = W.ToggleButtons(options=list(groups), style={"button_width": "auto"},
                                     tooltips=[f"Show the fields of {title}" for title in groups])
        self.group.add_class("ftkit-groups")
        self.group.observe(widgets.guarded(lambda _: self._show_group(), show_error), "value")
        self._show_group()
        self._write(config)

    def _show_group(self):
        for title, box in self.boxes.items():
            box.layout.display = None if self.few or title == self.group.value else "none"

    @property
    def tips(self) -> dict[str, tuple[str, str]]:
        """(name, tip) of every control, by CSS class without `ftkit-`."""
        return {name: (name, FIELDS[name].metadata["tip"]) for name in self.fields} | TIPS

    @property
    def config(self) -> Config:
        """The Config of the controls. Raises UserError if the values contradict each other."""
        with self.lock:
            return self._base.but(**{name: widgets.read(c) for name, c in self.fields.items()})

    @config.setter
    def config(self, config: Config):
        with self.lock:
            self._past.append(self._seen)
            self._write(config)
        self._on_change()

    def row_of(self, text: str) -> W.Box | None:
        """The row of the field that an error begins with, which its group shows then."""
        row = self.rows.get(text.partition(" ")[0].partition("=")[0])
        if row is None:
            return None
        self.group.value = next(title for title, box in self.boxes.items() if row in box.children)
        return row

    def _write(self, config: Config):
        with self.lock, self._by_learner.paused():
            self._base = self._seen = config
            for name, control in self.fields.items():
                widgets.write(control, getattr(config, name))

    def _field_changed(self):
        with self.lock:
            config = self.config
            if config != self._seen:
                self._past.append(self._seen)
                self._seen = config
        self._on_change()

    def undo(self):
        """Take back the last change. Raises UserError without one."""
        if not self._past:
            raise UserError("there is no change to undo")
        self._write(self._past.pop())
        self._on_change()

    def reset(self):
        """Go back to the initial values; Undo takes that back."""
        self.config = self.initial

    def read_line(self):
        """Read the Config line. Raises UserError if it cannot be read."""
        config = parse(self.line.value)
        if config != self.config:
            self.config = config
        else:
            self._on_change()

    def read_unread(self):
        """Read a Config line that was typed but not confirmed, or was rejected."""
        if self.line.value.strip() != str(self.config):
            self.read_line()

    def _use_preset(self):
        name = self.preset.value
        if name not in PRESETS:
            return
        changes = PRESETS[name].changes
        self.config = self.config.but(**{k: v for k, v in changes.items() if k in self.fields})
        self._say(f"{name}: press Start, then watch: {PRESETS[name].watch}")
        with self._by_learner.paused():
            self.preset.value = ""

    def show(self, config: Config, resolved: Config | None):
        """Show `config` in the line and hide fields without effect. resolved: the Config as a
        run would store it, which gives "auto" its value; None while the model is unknown."""
        with self._by_learner.paused():
            self.line.value = str(config)
        reasons = without_effect(config)
        for name, row in self.rows.items():
            row.show(resolved and getattr(resolved, name), reasons.get(name, ""))


def with_basics(groups: dict[str, list[str]]) -> dict[str, list[str]]:
    """The groups of fields after a first one of the BASICS, which the others then lack."""
    others = {title: [name for name in names if name not in BASICS]
              for title, names in groups.items()}
    return {"Basics": [*BASICS], **others}


def parse(text: str) -> Config:
    """The Config written as name=value pairs or as Config(...); empty text is all defaults.

    Raises UserError for text that cannot be read, unknown fields and bad values.
    """
    text = text.strip()
    head, bracket, _ = text.partition("(")
    if not bracket or head.rpartition(".")[2] != "Config":
        return Config.from_string(text)
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise UserError(f"{text!r:.60} cannot be read; expected Config(max_steps=60) with literal "
                        "values, or name=value pairs separated by spaces") from None
    return Config().but(**values)
