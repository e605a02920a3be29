"""The memory of a training step under controls: bars against the memory of GPUs.

    Calculator("meta-llama/Llama-2-7b")     draws itself in a notebook

A control moves the formula, which is there at once; the button traces the real step.
"""

from __future__ import annotations

import ipywidgets as W

from ftkit.base.config import Config
from ftkit.memory_use import charts, footprint, model_shapes
from ftkit.notebook import widgets

FIELDS = ("method", "precision", "optim", "batch_size", "max_length", "gradient_checkpointing", "r")
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
START = {"precision": "bf16", "batch_size": 1, "max_length": 512}


class Calculator:
    """Controls for `ft.memory`. `.found` is the Footprint that is shown, `.view` the widgets."""

    def __init__(self, model: str = "meta-llama/Llama-2-7b", **fields):
        config = Config(**(START | fields))
        self.model = W.Combobox(
            value=model,
            options=["tiny", *model_shapes.names()],
            description="model",
            continuous_update=False,
            **_look(),
        )
        self.controls = {name: widgets.field_control(name, getattr(config, name))
                         for name in FIELDS if name != "max_length"}
        self.controls["max_length"] = W.SelectionSlider(
            options=sorted({*LENGTHS, config.max_length}), value=config.max_length,
            description="max_length", continuous_update=False, **_look())
        self.gpus = W.SelectionSlider(options=[1, 2, 4, 8, 16, 64], description="gpus", **_look())
        self.zero = W.SelectionSlider(options=[0, 1, 2, 3], description="zero", **_look())
        self.words, self.image = widgets.TextLines(css="ftkit-footprint"), W.Image(format="png")
        self.image.layout.max_width = "100%"
        for control in self._moving():
            control.observe(widgets.guarded(lambda _: self.show(), self.words.show), "value")
        trace = widgets.button("Trace the step", "search", self.trace, "Simulate this step on "
                               "tensors without memory; a large model takes seconds.",
                               self.words.show)
        self.view = W.VBox([W.GridBox([*self._moving(), trace], layout=W.Layout(
            grid_template_columns="repeat(auto-fit, minmax(300px, 1fr))")), self.image, self.words])
        self.show()

    def show(self, simulation: bool = False):
        """Draw what the controls ask for."""
        fields = {name: control.value if name == "max_length" else widgets.read(control)
                  for name, control in self.controls.items()}
        gpus, device = self.gpus.value, "cuda"
        self.found = footprint.memory(model=self.model.value.strip(), gpus=gpus, device=device,
                                      zero=self.zero.value if gpus > 1 else 0,
                                      simulation=simulation, **fields)
        self.image.value = charts.footprint(self.found).png(dpi=100)
        self.words.show(self.found.summary())

    def trace(self):
        """The same with the simulation beside it."""
        self.words.show("tracing the step ...")
        self.show(simulation=True)

    def _moving(self) -> list:
        return [self.model, *self.controls.values(), self.gpus, self.zero]

    def _ipython_display_(self):
        from IPython.display import display

        display(self.view)

    def __repr__(self) -> str:
        return f"Calculator({self.found.summary()})"


def _look() -> dict:
    return {"style": {"description_width": "190px"}, "layout": W.Layout(width="auto")}
