"""The values of the controls as code to use elsewhere: a line, a notebook cell, a script.

    code = CodeView(picked, controls, in_background, show_error); code.kind.value = "Python cell"
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as W

from ftkit.notebook import to_script, widgets
from ftkit.notebook.controls import Controls
from ftkit.notebook.pickers import ModelAndData

TIPS = {"copy": ("copy", "The values of the controls as text, to use elsewhere")}


class CodeView:
    """`.kind` is the choice of what to copy, `.text` the widget that shows it."""

    def __init__(self, picked: ModelAndData, controls: Controls, in_background: Callable,
                 show_error: Callable[[str], None]):
        self._picked, self._controls = picked, controls
        self.kind = W.Dropdown(
            options=[("copy as ...", ""), *((kind, kind) for kind in to_script.KINDS)],
            tooltip=TIPS["copy"][1], layout=W.Layout(width="150px"))
        self.kind.add_class("ftkit-copy")
        self.kind.observe(widgets.guarded(lambda _: self.update(), show_error), "value")
        self.text = widgets.Code(css="ftkit-text")

    def update(self):
        """Show the code for the values that the controls have now."""
        kind = self.kind.value
        self.text.show(to_script.KINDS[kind](self._picked.experiment, self._controls.config)
                       if kind else "")
