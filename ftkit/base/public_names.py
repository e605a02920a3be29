"""Lazy public names: each is imported from a subpackage when it is first used."""

import importlib
import sys
from collections.abc import Callable


def public_names(module: str, places: dict[str, str]) -> tuple[list[str], Callable, Callable]:
    """Return `__all__`, `__getattr__` and `__dir__` for `module`.

    places: public name -> path inside ftkit, such as "experiment.run.Run" or, for a whole module,
    "evaluate.metrics".
    """

    def __getattr__(name: str):
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}; it has "
                                 f"{', '.join(places)}")
        parent, _, last = f"ftkit.{places[name]}".rpartition(".")
        found = importlib.import_module(parent)
        value = (importlib.import_module(f"{parent}.{last}") if hasattr(found, "__path__")
                 else getattr(found, last))
        setattr(sys.modules[module], name, value)
        return value

    def __dir__():
        return sorted({*vars(sys.modules[module]), *places})

    return list(places), __getattr__, __dir__
