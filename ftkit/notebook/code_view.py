"""The values of the controls to use elsewhere: as a line, as a notebook cell, or as a folder next
to the notebook, with a script that trains without ftkit.

    code = CodeView(picked, controls, in_background, show_error); code.kind.value = "Python cell"
"""

import shlex
from collections.abc import Callable
from pathlib import Path

import ipywidgets as W

from ftkit.base import files
from ftkit.notebook import to_script, widgets
from ftkit.notebook.controls import Controls
from ftkit.notebook.pickers import ModelAndData

SCRIPTS = {f"{library} script": library for library in to_script.LIBRARIES}
TIPS = {"copy": ("copy", "The values of the controls as text, or a folder next to the notebook "
                 "with a script that repeats the run without ftkit")}


class CodeView:
    """`.kind` is the choice of what to copy, `.text` the widget that shows it.

    in_background(function, then): calls `function` when no run is training, and `then` after it.
    """

    def __init__(self, picked: ModelAndData, controls: Controls, in_background: Callable,
                 show_error: Callable[[str], None]):
        self._picked, self._controls, self._in_background = picked, controls, in_background
        self.kind = W.Dropdown(
            options=[("copy as ...", ""), *((k, k) for k in (*to_script.TEXTS, *SCRIPTS))],
            tooltip=TIPS["copy"][1], layout=W.Layout(width="150px"))
        self.kind.add_class("ftkit-copy")
        self.kind.observe(widgets.guarded(lambda _: self._chosen(), show_error), "value")
        self.text = widgets.Code(css="ftkit-text")

    def _chosen(self):
        if self.kind.value in SCRIPTS:
            self._export(SCRIPTS[self.kind.value])
        else:
            self.update()

    def update(self):
        """Show the text for the current values of the controls. A folder's text is written once."""
        kind = self.kind.value
        if kind not in SCRIPTS:
            self.text.show(to_script.TEXTS[kind](self._picked.experiment, self._controls.config)
                           if kind else "")

    def _export(self, library: str):
        """Write the folder in the background, since all records are tokenized."""
        experiment, config = self._picked.experiment, self._controls.config
        folder = files.free_path(Path.cwd() / f"{library.lower()}-script")
        self.text.show(f"writing {folder} ...")
        packages = "trl" if library == "TRL" else "transformers accelerate"
        self._in_background(
            lambda: to_script.export(experiment, config, folder, library),
            lambda: self.text.show(
                f"# written: the model, the token ids and train.py, for {config}\n"
                f"cd {shlex.quote(str(folder))}\npip install {packages} peft\npython train.py\n"))
