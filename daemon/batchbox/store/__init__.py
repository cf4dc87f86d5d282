"""The database: every state, every intent and every body, in SQLite, so that a crash at any instant loses nothing.

Each stage has its own class of statements over the one database; what they share are the tables (`schema`), the
state changes (`transitions`) and the rule that a public method is one transaction.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from batchbox.store.account import AccountStore
from batchbox.store.cancelling import CancelStore
from batchbox.store.database import Database, join_database, open_database, read_database
from batchbox.store.decisions import DecisionStore
from batchbox.store.delivery import DeliveryStore
from batchbox.store.dispatch import DispatchStore
from batchbox.store.holds import HoldStore
from batchbox.store.intake import IntakeStore
from batchbox.store.meta import MetaStore
from batchbox.store.orders import OrderStore
from batchbox.store.originals import OriginalStore
from batchbox.store.overview import OverviewStore
from batchbox.store.polling import PollingStore
from batchbox.store.readings import ReadingStore
from batchbox.store.recovery import RecoveryStore
from batchbox.store.regrouping import RegroupingStore
from batchbox.store.twins import TwinStore
from batchbox.store.verifying import VerifyingStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """An open database, a part for everyone who works with it."""

    meta: MetaStore
    intake: IntakeStore
    readings: ReadingStore
    account: AccountStore
    dispatch: DispatchStore
    regrouping: RegroupingStore
    twins: TwinStore
    polling: PollingStore
    delivery: DeliveryStore
    originals: OriginalStore
    holds: HoldStore
    overview: OverviewStore
    orders: OrderStore
    decisions: DecisionStore
    recovery: RecoveryStore
    verifying: VerifyingStore
    cancelling: CancelStore


@asynccontextmanager
async def open_store(state: Path) -> AsyncIterator[Store]:
    """Open the state folder's database for the daemon. Raises ConfigurationError."""
    async with open_database(state) as database:
        yield assemble(database)


@asynccontextmanager
async def read_store(state: Path) -> AsyncIterator[Store]:
    """Open the database beside a running daemon, for reading only. Raises ConfigurationError."""
    async with read_database(state) as database:
        yield assemble(database)


@asynccontextmanager
async def join_store(state: Path) -> AsyncIterator[Store]:
    """Open the database beside a running daemon, to give it orders. Raises ConfigurationError."""
    async with join_database(state) as database:
        yield assemble(database)


def assemble(database: Database) -> Store:
    """Return the parts over one database."""
    return Store(
        meta=MetaStore(database),
        intake=IntakeStore(database),
        readings=ReadingStore(database),
        account=AccountStore(database),
        dispatch=DispatchStore(database),
        regrouping=RegroupingStore(database),
        twins=TwinStore(database),
        polling=PollingStore(database),
        delivery=DeliveryStore(database),
        originals=OriginalStore(database),
        holds=HoldStore(database),
        overview=OverviewStore(database),
        orders=OrderStore(database),
        decisions=DecisionStore(database),
        recovery=RecoveryStore(database),
        verifying=VerifyingStore(database),
        cancelling=CancelStore(database),
    )
