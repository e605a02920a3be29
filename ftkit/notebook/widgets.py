"""Widgets shared by all panels: text, buttons, and a control for each Config field.

    control = field_control("learning_rate"); control.value = 1e-3
    button("Start", "play", start, tooltip="Train with these values")

Callbacks are wrapped by `guarded`, which shows their exceptions to the learner and records bugs in
`failures` for the tests. `TextLines` shows text without reading it as HTML.
"""

import contextlib
import json
import re
import threading
from collections.abc import Callable

import ipywidgets as W
from IPython import display as ipython

from ftkit.base import messages
from ftkit.base.config import Config
from ftkit.base.config_fields import check_names, fields_of, is_slider, kinds_of
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, to_attribute, to_html

AUTO = "auto"  # shown for None, which leaves the choice to ftkit
FIELDS, KINDS = fields_of(Config), kinds_of(Config)

failures: list[BaseException] = []  # bugs that callbacks have met, newest last


def report_error(error: BaseException, show: Callable[[str], None], what: str):
    """Show an exception on one line. Anything but a UserError is prefixed with `what`, and recorded
    in `failures`.
    """
    if isinstance(error, UserError):
        return show(clean(error))
    failures.append(error)
    show(clean(f"{what}: {type(error).__name__}: {error}"))


def guarded(function: Callable, show: Callable[[str], None] = messages.say) -> Callable:
    """`function` with its exceptions passed to `report_error`. ipywidgets would print them in the
    cell that ran last, or nowhere."""
    def call(*args, **options):
        try:
            return function(*args, **options)
        except Exception as error:  # noqa: BLE001 - nothing above a callback could handle it
            report_error(error, show, "a bug in this control of ftkit (your runs are kept)")

    return call


class ByLearner:
    """Observes controls for changes by the learner, ignoring values set by the program."""

    def __init__(self, show_error: Callable[[str], None]):
        self._show_error = show_error
        self._thread = threading.local()  # a training thread may write while a learner types

    def watch(self, control, callback: Callable[[], object], css: str = ""):
        """Call `callback()` when the learner changes `control`; returns the control."""
        def changed(_):
            if not getattr(self._thread, "paused", False):
                callback()

        control.observe(guarded(changed, self._show_error), "value")
        if css:
            control.add_class(f"ftkit-{css}")
        return control

    @contextlib.contextmanager
    def paused(self):
        """Ignore values that this thread sets inside the block."""
        self._thread.paused = True
        try:
            yield
        finally:
            self._thread.paused = False


SPOKEN = """(root, name, fields, regions) => {
const own = document.currentScript?.parentElement;
const timer = setInterval(() => {
  const form = own?.closest(root);
  if (!Object.keys(fields).every(css => form?.querySelector(`${css} :is(input, textarea)`))) return;
  clearInterval(timer);
  form.setAttribute("role", "group");
  form.setAttribute("aria-label", name);
  for (const [css, label] of Object.entries(fields)) {
    form.querySelector(`${css} :is(input, textarea)`).setAttribute("aria-label", label);
  }
  for (const css of regions) form.querySelector(css).setAttribute("role", "status");
}, 200);
setTimeout(() => clearInterval(timer), 60000);
}"""


def spoken(root: str, name: str, fields: dict[str, str], regions: list[str],
           style: str = "") -> W.Output:
    """An invisible script that gives a form what ipywidgets lacks for screen readers: a name,
    labels of fields, and live regions.

    root, fields, regions: CSS selectors (fields: selector → label). style: a <style> for the form.
    """
    arguments = ", ".join(map(json.dumps, (root, name, fields, regions)))
    made = page(f"{style}<script>({SPOKEN})({arguments})</script>")
    made.layout = W.Layout(display="none")
    return made


def page(html: str) -> W.Output:
    """HTML with scripts, as data of a widget, so that it survives a reload of the page."""
    return W.Output(outputs=({"output_type": "display_data", "metadata": {},
                              "data": {"text/html": html, "text/plain": ""}},))


class TextLines(W.HTML):
    """Lines of text, escaped because they may come from data.

    `.lines` are the lines on show; `show` replaces them. css: a class to find the widget by.
    """

    def __init__(self, *lines: str, css: str = "", bold: bool = False):
        super().__init__()
        self.bold = bold
        if css:
            self.add_class(css)
        self.show(*lines)

    def show(self, *lines: str):
        self.lines = [clean(line) for line in lines if line]
        text = "".join(f"<div style='line-height:1.5'>{to_html(line)}</div>"
                       for line in self.lines)
        self.value = f"<b>{text}</b>" if self.bold and text else text


class ErrorLine(TextLines):
    """Where the errors of some controls are shown, next to them. The next action of one of them
    removes the message."""

    def __init__(self):
        super().__init__(css="ftkit-error")

    def report(self, text: str):
        self.show(text and f"✗ {text}")

    def cleared(self, action: Callable[[], object]) -> Callable[[], None]:
        """`action` that first removes the message."""
        def call():
            self.show()
            action()

        return call


class MovingError(ErrorLine):
    """An error line that moves next to the control whose action failed. place: where it is."""

    def __init__(self, place: W.Box):
        super().__init__()
        self.place = place
        place.children += (self,)

    def report_at(self, place: W.Box, text: str):
        if text and place is not self.place:
            self.place.children = tuple(c for c in self.place.children if c is not self)
            self.place = place
            place.children += (self,)
        self.report(text)


class Paragraphs(TextLines):
    """Paragraphs in a narrow column. `**Words**` are bold; one that begins with
    ✗, ? or – is indented as in a list."""

    def show(self, *lines: str):
        super().show(*lines)
        text = "".join(map(_paragraph, self.lines))
        self.lines = [BOLD.sub(r"\1", line) for line in self.lines]
        self.value = f"<div style='line-height:1.45;max-width:52em'>{text}</div>" if text else ""


BOLD = re.compile(r"\*\*(.+?)\*\*")


def _paragraph(line: str) -> str:
    hang = "padding-left:1.3em;text-indent:-1.3em;" if line[:1] in "✗?–" else ""
    text = BOLD.sub(r"<b>\1</b>", to_html(line))
    return f"<div style='{hang}margin:0 0 .5em'>{text}</div>"


def empty(text: str) -> W.HTML:
    """A frame that says what will appear in its place."""
    made = W.HTML(f"<span>{to_html(text)}</span>", layout=W.Layout(flex="1 1 auto"))
    made.add_class("ftkit-empty")
    return made


class Code(W.HTML):
    """Code to select and copy. `.code` is the text."""

    def __init__(self, css: str = ""):
        super().__init__()
        self.add_class(css)
        self.show("")

    def show(self, code: str):
        self.code = code
        lines = (" " * (len(line) - len(line.lstrip())) + clean(line) for line in code.split("\n"))
        text = to_html("\n".join(lines))
        self.value = f"<pre style='white-space:pre-wrap'>{text}</pre>" if code else ""


def display(view: W.Widget, text: str):
    """Show a widget in the notebook; viewers without widgets, such as GitHub, show `text`."""
    bundle: dict = view._repr_mimebundle_() or {}  # noqa: SLF001 - IPython's own protocol
    ipython.display(bundle | {"text/plain": text}, raw=True)


def button(name: str, icon: str, on_click: Callable[[], None], tooltip: str,
           show_error: Callable[[str], None] = messages.say, css: str = "") -> W.Button:
    """A button that calls `on_click()`; its class is `ftkit-<name>` unless `css` names another."""
    widget = W.Button(description=name, icon=icon, tooltip=tooltip,
                      layout=W.Layout(width="auto"))
    widget.add_class(css or f"ftkit-{name.lower().replace(' ', '-')}")
    widget.on_click(guarded(lambda _: on_click(), show_error))
    return widget


def row(*controls: W.DOMWidget) -> W.HBox:
    """Controls next to each other, wrapped on a narrow page."""
    for control in controls:
        control.layout.flex, control.layout.max_width = "none", "100%"
    return W.HBox(controls, layout=W.Layout(flex_flow="row wrap"))


def field_control(name: str, value=None) -> W.Widget:
    """The control of a Config field, with its tip: a slider for a field with usual values, a
    drop-down for a choice, a check box for a boolean, else a line of text.

    `read` and `write` convert its value. Raises UserError for an unknown field.
    """
    check_names(Config, [name])
    field = FIELDS[name]
    kind, choices = KINDS[name], field.metadata["choices"]
    common = {"description": name, "tooltip": field.metadata["tip"],
              "style": {"description_width": "205px"}, "layout": W.Layout(width="auto")}
    start = field.default if value is None else value
    chosen = AUTO if start is None else start
    if kind.type is bool:
        control = W.Checkbox(value=bool(start), indent=True, **common)
    elif choices:
        auto = [(AUTO, AUTO)] if kind.optional else []
        control = W.Dropdown(options=auto + [(c, c) for c in choices], value=chosen, **common)
    elif is_slider(field):
        control = W.SelectionSlider(options=_slider_options(name, start), value=chosen, **common)
    elif field.metadata["usual"]:
        control = W.Combobox(options=field.metadata["usual"], value=str(start), **common)
    else:
        control = FreeText(value="" if start is None else str(start), **common)
    control.add_class(f"ftkit-{name}")
    control.field = name
    return control


class FieldRow(W.HBox):
    """A control of `field_control` between its name and its value: [name | control | value].

    The name is an element of its own, because ipywidgets shows no tooltip on drop-downs and text
    fields. `.control` is the control; `show` resolves "auto" and hides fields without effect.
    """

    NAME, VALUE = "128px", "92px"

    def __init__(self, control):
        self.control, self.name = control, control.field
        tip = to_attribute(FIELDS[self.name].metadata["tip"])
        words = to_html(self.name).replace("_", "_<wbr>")
        self.label = W.HTML(f"<span title='{tip}'>{words}</span>",
                            layout=W.Layout(width=self.NAME, flex="none"))
        self.label.add_class("ftkit-label")
        control.description = ""
        control.style = {"description_width": "0px"}
        control.layout = W.Layout(flex="1 1 120px", width="auto", min_width="120px")
        if isinstance(control, W.SelectionSlider):
            control.readout = False
        if isinstance(control, W.Checkbox):
            control.indent = False
        self.readout = TextLines(css="ftkit-readout")
        self.readout.layout = W.Layout(width=self.VALUE, flex="none")
        super().__init__([self.label, control, self.readout],
                         layout=W.Layout(align_items="center", min_height="28px",
                                         flex_flow="row wrap", flex="none",
                                         overflow="visible"))
        self.add_class("ftkit-row")

    def show(self, resolved, reason: str = ""):
        """Show the value. resolved: what the run would store, None if unknown. reason: why the
        field has no effect."""
        self.control.disabled, none = bool(reason), FIELDS[self.name].metadata["none"]
        self.layout.display = "none" if reason else None
        auto = self.control.value == AUTO or self.control.value == ""
        if reason:
            text = "no effect"
        elif isinstance(self.control, W.SelectionSlider) and not auto:
            text = next(label for label, value in self.control.options
                        if value == self.control.value)
        elif auto and (resolved is None or none != AUTO):
            text = none
        elif auto:
            text = f"auto: {resolved:g}" if isinstance(resolved, float) else f"auto: {resolved}"
        else:
            text = ""
        if self.readout.lines != ([text] if text else []):
            self.readout.show(text)


class FreeText(W.Text):
    """A line of text for a field without usual values; empty means the default."""

    def __init__(self, **options):
        super().__init__(placeholder=AUTO, continuous_update=False, **options)


def read(control):
    if isinstance(control, FreeText):
        return control.value.strip() or FIELDS[control.field].default
    return None if control.value == AUTO else control.value


def write(control, value):
    """Set a control to a value of Config; a slider without the value gets it."""
    if isinstance(control, FreeText):
        control.value = "" if value is None else str(value)
        return
    if isinstance(control, W.SelectionSlider) and value is not None and (
            value not in [known for _, known in control.options]):
        control.options = _slider_options(control.field, value)
    control.value = AUTO if value is None else value


def _slider_options(name, value) -> list[tuple]:
    facts = FIELDS[name].metadata
    values = sorted({*facts["usual"], *([] if value is None else [value])})
    auto = [(facts["none"], AUTO)] if KINDS[name].optional else []
    return auto + [(f"{v:.12g}", v) for v in values]
