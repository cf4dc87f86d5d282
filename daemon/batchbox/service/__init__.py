"""The service: wires the parts together and runs them. The only one who knows all of them."""

from batchbox.service.running import run

__all__ = ["run"]
