"""Real processes of batchbox without a second of imports for each: forked from one that has everything loaded."""

from .client import Child, ForkServer

__all__ = ["Child", "ForkServer"]
