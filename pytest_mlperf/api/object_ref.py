"""Where an object is that another process is to import too."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A module and the name of an object in it."""

    module: str
    attribute: str

    @classmethod
    def parse(cls, text: str) -> ObjectRef:
        """Return the reference of ``module:object``, as entry points write it."""
        module, _, attribute = text.partition(":")
        return cls(module.strip(), attribute.partition("[")[0].strip())

    def load(self) -> Any:
        """Import the module and return the object. Raises whatever that raises."""
        return getattr(import_module(self.module), self.attribute)

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"
