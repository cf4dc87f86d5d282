"""The Message Batches API on loopback, faithful enough for an unmodified client and able to fail in every known way.

The demo, the tests and the benchmarks stand on it, and people can test their own clients with it. It answers from
templates, in sped-up time, and keeps a ledger of what was bought.
"""

from batchbox.simulator.faults import Call, Fault, FaultKind
from batchbox.simulator.ledger import CreateAttempt, Purchase
from batchbox.simulator.server import Simulator, serve
from batchbox.simulator.settings import Account, SimulatorSettings

__all__ = [
    "Account",
    "Call",
    "CreateAttempt",
    "Fault",
    "FaultKind",
    "Purchase",
    "Simulator",
    "SimulatorSettings",
    "serve",
]
