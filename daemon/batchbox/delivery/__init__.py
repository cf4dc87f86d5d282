"""From an ended batch to files in the outbox, and originals in done/."""

from batchbox.delivery.stage import Delivery, DeliverySettings

__all__ = ["Delivery", "DeliverySettings"]
