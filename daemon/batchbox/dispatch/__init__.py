"""From waiting requests to a batch that the API has, exactly once."""

from batchbox.dispatch.choosing import Choosing
from batchbox.dispatch.orders import Orders
from batchbox.dispatch.reconcile import Reconciler, ReconcileSettings
from batchbox.dispatch.refusals import Refusals
from batchbox.dispatch.sending import Sender, SendingSettings
from batchbox.dispatch.stage import Dispatch
from batchbox.dispatch.twins import Twins

__all__ = [
    "Choosing",
    "Dispatch",
    "Orders",
    "ReconcileSettings",
    "Reconciler",
    "Refusals",
    "Sender",
    "SendingSettings",
    "Twins",
]
