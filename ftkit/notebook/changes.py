"""What the learner changes in a panel: controls, the Config line, presets, model and data.

`Changes` is the part of `WhatIf` that answers, and takes changes back.
"""

from __future__ import annotations

from ftkit.base.errors import UserError
from ftkit.data import schema
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.run import plain
from ftkit.notebook import background, config_text, to_script
from ftkit.notebook.part import Part
from ftkit.notebook.presets import PRESETS


class Changes(Part):
    """A part of `WhatIf`."""

    def undo(self):
        """Take back the last change of the controls."""
        if not self._past:
            raise UserError("there is no change to take back")
        self._no_news()
        self._show_values(self._past.pop())

    def reset(self):
        """Set the controls as they were at first; Undo takes that back."""
        self.config = self.initial

    def use_values(self, run):
        """Set the controls to the Config of a run."""
        self.config = self.requested.get(run.id, run.config)

    def _control_changed(self):
        """The learner has moved a control."""
        with self.lock:
            config = self.config
            if config != self._seen:
                self._past.append(self._seen)
                self._seen = config
                self._no_news()
        self._control_moved()

    def _no_news(self):
        """What the status says is about values that the controls have no more."""
        if not background.QUEUE.busy(self):
            self.view.status.show("ready")

    def _control_moved(self):
        """Show the forecast for the new values; a finished run is shown at once."""
        with self.lock:
            self.view.forecast.show("")
            config = self.config
            self.view.show_config(config, self._resolved(config))
            self._show_copy()
            if self._pickers_invalid:
                return
            self.view.show_error("")
            finished = self._show_forecast()
            if finished is not None and not background.QUEUE.busy(self):
                self._show_stored(finished)
            self.show_owner()

    def _resolved(self, config):
        """The Config as a run would store it; None where that is not known, or is an error that
        the run itself will report."""
        try:
            return self.forecast.resolved(config)
        except (UserError, AttributeError):
            return None

    def _read_config_text(self):
        self.config = config_text.parse(self.view.config_text.value)

    def _use_preset(self):
        preset = PRESETS.get(self.view.preset.value)
        if preset is None:
            return
        changes = {name: value for name, value in preset.changes.items()
                   if name in self.view.controls}
        self.config = self.config.but(**changes)
        self.view.status.show(f"{self.view.preset.value}: press Start, then watch: {preset.watch}")
        with self.view.by_program():
            self.view.preset.value = ""

    def _read_pickers(self):
        """Switch to another model or other data; back at earlier ones, their baseline is back."""
        names = {name: picker.value.strip() for name, picker in self.view.pickers.items()}
        self._pickers_invalid = True
        self.view.forecast.show("")
        experiment = Experiment(**{name: value for name, value in names.items() if value},
                                probes=dict(self.experiment.probes))
        self._pickers_invalid = False
        self._baselines[str(plain(self.experiment.fixed_settings()))] = self.baseline
        self.experiment = experiment
        self.baseline = self._baselines.get(str(plain(experiment.fixed_settings())))
        self.table.chosen = []
        self.answers.forget()
        self.view.set_pickers({"model": str(self.experiment.model), "data": self._data_name()})
        self.view.show_error("")
        self.load_forecast()
        self._control_moved()
        if self.baseline is None and self.runs:
            self.view.status.show("other model or data: the next run is their baseline")

    def _show_copy(self):
        kind = self.view.copy_as.value
        if not kind:
            return self.view.copied.show("")
        self.view.copied.show(to_script.KINDS[kind](self.experiment, self.config))

    def read_all(self):
        """Read what was typed and not yet taken over; UserError where it cannot be read."""
        self.view.show_error("")
        self.error = None
        if self._pickers_invalid:
            self._read_pickers()
        if self.view.config_text.value.strip() != str(self.config):
            self._read_config_text()

    def _data_name(self) -> str:
        """What the data picker shows: the name of a sample, or the path of a file."""
        train = self.experiment.train
        return train.name if train.name in schema.sample_names() else str(train.path or train.name)
