"""`Part`: one side of a `WhatIf`. The parts share its attributes and are joined in what_if.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class Part:
    """A class whose other attributes are those of the WhatIf that it is a part of."""

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...
