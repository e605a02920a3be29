"""How a run ended, as a value for programs; `Run.stopped` is the sentence for readers."""

import enum
from typing import NamedTuple


class End(enum.StrEnum):
    """How a run ended. UNFINISHED: it is still training, or its process was killed."""

    FINISHED = "finished"
    STOPPED_EARLY = "stopped early"  # by early stopping
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"  # Ctrl-C or SIGTERM
    STOPPED_BY_HAND = "stopped by hand"  # the panel's Stop, or `stop` returned True
    ENDED_EARLY = "ended early"  # successive halving, a callback, or transformers' Trainer
    OUT_OF_MEMORY = "out of memory"
    UNFINISHED = "not finished"

    @property
    def is_reproducible(self) -> bool:
        """Whether a second run of the same Config would end here too."""
        return self in (End.FINISHED, End.STOPPED_EARLY, End.DIVERGED)


class Stop(NamedTuple):
    """A request to end a run after the current step, returned by `stop` of `Experiment.run`."""

    end: End
    sentence: str


_SENTENCES = {"diverged": End.DIVERGED, "early stopping": End.STOPPED_EARLY,
              "interrupted": End.INTERRUPTED, "stopped": End.STOPPED_BY_HAND,
              "not finished": End.UNFINISHED}


def read(saved: dict) -> End:
    """Return the End from a run's JSON. Up to version 0.2.0 the JSON had only the sentence, which
    no other function parses."""
    if saved.get("end") in list(End):
        return End(saved["end"])
    sentence = saved.get("stopped")
    if not isinstance(sentence, str):
        return End.FINISHED
    return next((end for start, end in _SENTENCES.items() if sentence.startswith(start)),
                End.ENDED_EARLY)
