"""Several runs by one click: the same values with other seeds, or one field over its values.

`Batches` is the part of `WhatIf` that starts them and shows them together at the end.
"""

from __future__ import annotations

from ftkit.base.errors import UserError
from ftkit.notebook import background, fields
from ftkit.notebook.panel import SEEDS, VALUES
from ftkit.notebook.part import Part


class Batches(Part):
    """A part of `WhatIf`. A batch is {missing: Configs still to run, runs: those that have}."""

    def start_seeds(self):
        """Train the values of the controls with three seeds; the chart shows them with a band."""
        self.read_all()
        first = self.config.seed
        self.start_batch([self.config.but(seed=first + n) for n in range(SEEDS)])

    def start_sweep(self):
        """Train five neighboring values of the field that is chosen next to the button."""
        self.read_all()
        name = self.view.knob.value
        if name is None:
            raise UserError("this panel shows no field that has usual values to sweep over")
        config = self.forecast.resolved(self.config) or self.config
        values = fields.neighbors(name, getattr(config, name), VALUES)
        self.start_batch([self.config.but(**{name: value}) for value in values])

    def start_batch(self, configs: list):
        """Train these Configs one after the other, and then show them together."""
        batch = {"missing": list(configs), "runs": []}
        for config in configs:
            finished = self._finished_run(config)
            if finished is None:
                self.submit(config, batch)
            else:
                self.requested.setdefault(finished.id, config)
                self.add_run(finished)
                self.batch_has(batch, config, finished)

    def batch_has(self, batch, config, run):
        batch["missing"].remove(config)
        batch["runs"].append(run)
        if not batch["missing"]:
            self.table.chosen = [run.id for run in batch["runs"]]
            self.table.update()
            if not background.QUEUE.running(self):
                self.show_figure()
