"""An `os` for a module of the folders in which single names cannot be renamed or deleted."""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(slots=True)
class FailingOs:
    """Passes everything on, but for renames to these names, or from them, and deletions of them."""

    number: int
    """The errno."""
    names: Collection[str]
    is_on: bool = True

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        return self._failing(real) if name in {"rename", "unlink"} else real

    def _failing(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*names: str, **options: object) -> object:
            if self.is_on and not set(self.names).isdisjoint(names):
                raise OSError(self.number, os.strerror(self.number))
            return real(*names, **options)

        return call
