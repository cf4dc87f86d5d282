"""From waiting requests to a batch that the API has, exactly once."""

from batchbox.dispatch.stage import Dispatch, DispatchSettings

__all__ = ["Dispatch", "DispatchSettings"]
