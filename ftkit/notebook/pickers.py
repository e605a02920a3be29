"""The model and the data of a what-if panel: the Experiment that makes its runs, and the two text
fields in which another model or other data can be named.

    picked = ModelAndData(experiment, with_pickers=True, on_edit=..., on_change=..., show_error=...)
    picked.experiment
"""

from collections.abc import Callable

import ipywidgets as W

from ftkit.base.formatting import clean, to_html
from ftkit.data import schema
from ftkit.data.mask_view import BatchView
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.run import plain
from ftkit.notebook import widgets

TIPS = {
    "model": ("model", "tiny, smollm2, a folder written by save_pretrained, or a hub id; then "
              "Enter"),
    "data": ("data", "A sample, or the path of your own CSV or JSONL file; then Enter"),
}


class ModelAndData:
    """`.experiment`, and `.pickers`: name → text field, empty without pickers. `.is_unread`:
    whether the fields name a model or data that could not be read.

    `.preview` shows two training records with their loss mask.

    on_edit: called before the fields are read. on_change: called with the previous experiment
    after they were.
    """

    def __init__(self, experiment: Experiment, with_pickers: bool, on_edit: Callable[[], None],
                 on_change: Callable[[Experiment], None], show_error: Callable[[str], None]):
        self.experiment, self.is_unread = experiment, False
        self._on_edit, self._on_change = on_edit, on_change
        self._by_learner = widgets.ByLearner(show_error)
        self.preview = W.HTML(layout=W.Layout(max_width="100%"))
        self.preview.add_class("ftkit-preview")
        self._content = ""
        offered = {"model": ["tiny", "smollm2"], "data": schema.sample_names()}
        self.pickers = {name: self._by_learner.watch(
            W.Combobox(description=name, options=options, value=self._names()[name],
                       tooltip=TIPS[name][1], style={"description_width": "42px"},
                       continuous_update=False, layout=W.Layout(flex="1 1 150px", width="auto")),
            self.read, name) for name, options in offered.items() if with_pickers}

    def _names(self) -> dict[str, str]:
        train = self.experiment.train
        data = train.name if train.name in schema.sample_names() else str(train.path or train.name)
        return {"model": str(self.experiment.model), "data": data}

    def show_preview(self, view: BatchView | None):
        """Say how many records there are, and show the first ones; None removes them."""
        lab = self.experiment
        self._content = "" if view is None else (
            f"<summary>{to_html(clean(lab.train.name))}: {len(lab.train):,} records to train on, "
            f"{len(lab.val):,} to validate</summary>{view._repr_html_()}")  # noqa: SLF001
        self.preview.value = self._content and f"<details open>{self._content}</details>"

    def fold_preview(self):
        if self._content and "<details open" in self.preview.value:
            self.preview.value = f"<details>{self._content}</details>"

    def read(self):
        """Switch to the model and the data that the fields name; an empty field is the default.

        Raises UserError if one cannot be read; the experiment is then unchanged.
        """
        self._on_edit()
        self.is_unread = True
        names = {name: picker.value.strip() for name, picker in self.pickers.items()}
        experiment = Experiment(**{name: value for name, value in names.items() if value},
                                probes=dict(self.experiment.probes))
        self.is_unread = False
        old, self.experiment = self.experiment, experiment
        self._show()
        self._on_change(old)

    def _show(self):
        with self._by_learner.paused():
            for name, picker in self.pickers.items():
                picker.value = self._names()[name]


def key_of(experiment: Experiment) -> str:
    """Text that is equal for the same model, data and measures."""
    return str(plain(experiment.fixed_settings()))
