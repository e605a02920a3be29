"""`ft.memory` with sliders: the memory of a training step as bars, next to the memory of GPUs.

    Calculator("meta-llama/Llama-2-7b")     draws itself in a notebook

Moving a control traces the step anew, which takes a fraction of a second, or none where only the
batch changes.
"""

from typing import Any

import ipywidgets as W

from ftkit.base.config import Config
from ftkit.memory_use import charts, footprint, model_shapes
from ftkit.notebook import widgets

FIELDS = ("method", "precision", "optim", "batch_size", "max_length", "gradient_checkpointing", "r")
MAX_LENGTHS = {128, 256, 512, 1024, 2048, 4096, 8192}
DEFAULTS = {"precision": "bf16", "batch_size": 1, "max_length": 512}


class Calculator:
    """Controls for `ft.memory`. `.footprint` is the Footprint shown, `.view` the widgets."""

    def __init__(self, model: str = "meta-llama/Llama-2-7b", **fields):
        values: dict[str, Any] = Config(**(DEFAULTS | fields)).to_dict()
        self.model = W.Combobox(value=model, options=["tiny", *model_shapes.names()],
                                description="model", continuous_update=False, **_layout())
        self.controls = {name: widgets.field_control(name, values[name])
                         for name in FIELDS if name != "max_length"}
        self.max_length = _slider("max_length", sorted(MAX_LENGTHS | {values["max_length"]}),
                                  value=values["max_length"], continuous_update=False)
        self.gpus = _slider("gpus", [1, 2, 4, 8, 16, 64])
        self.zero = _slider("zero", [0, 1, 2, 3])
        self.text, self.image = widgets.TextLines(css="ftkit-footprint"), W.HTML()
        inputs = [self.model, *self.controls.values(), self.max_length, self.gpus, self.zero]
        for control in inputs:
            control.observe(widgets.guarded(lambda _: self.show(), self.text.show), "value")
        self.view = W.VBox([W.GridBox(inputs, layout=W.Layout(
            grid_template_columns="repeat(auto-fit, minmax(300px, 1fr))")), self.image, self.text])
        self.show()

    def show(self):
        fields: dict[str, Any] = {name: widgets.read(c) for name, c in self.controls.items()}
        gpus = self.gpus.value
        self.footprint = footprint.memory(
            model=self.model.value.strip(), gpus=gpus, zero=self.zero.value if gpus > 1 else 0,
            device="cuda", max_length=self.max_length.value, **fields)
        self.image.value = charts.footprint(self.footprint).as_html()
        self.text.show("")  # the picture has its own sentence

    def _ipython_display_(self):
        widgets.display(self.view, repr(self))

    def __repr__(self) -> str:
        return f"Calculator({self.footprint.summary()})"


def _slider(name: str, values: list, **options) -> W.SelectionSlider:
    return W.SelectionSlider(options=values, description=name, **options, **_layout())


def _layout() -> dict:
    return {"style": {"description_width": "190px"}, "layout": W.Layout(width="auto")}
