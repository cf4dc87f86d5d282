"""Parses what was read: in a thread of ours; alone in another process, what may have ended ours before.

That a file is about to be parsed is written down first. A file that was being parsed when a process ended, and again
when the next one did, is suspected: it is parsed in a child, and if the child dies of it the file is rejected. A child
that somebody may have killed for reasons of their own gets a second chance.

What this leaves to others: taking the note away again, which the transaction that records the file does.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import anyio.to_thread

from batchbox.alone.parent import DeathError, lonely_parser, parse_alone
from batchbox.errors import RejectedError
from batchbox.folders.reading import Claim
from batchbox.formats import Draft, JsonLinesParser, Rules, parse_file
from batchbox.logs import shown
from batchbox.model import Lane, RejectReason
from batchbox.store.readings import ReadingStore

BEGUN_MAX = 2
"""A file whose parsing was begun so often without an end is suspected."""

log = logging.getLogger(__name__)


class LongParser(Protocol):
    """What a long file is fed to."""

    async def feed(self, piece: bytes) -> Sequence[Draft]:
        """Take the next piece; return the requests that it completes. Raises RejectedError and DeathError."""

    async def finish(self) -> Sequence[Draft]:
        """Return what is left. Raises RejectedError and DeathError."""


class Parsing:
    """Parses claims, and knows which of them are suspected."""

    def __init__(self, readings: ReadingStore, *, rules: Callable[[Lane], Rules]) -> None:
        self._readings = readings
        self._rules = rules
        self._left_behind: Mapping[tuple[Lane, str], int] | None = None  # by processes before this one; None: unknown
        self._lost_children: set[Claim] = set()  # claims whose child was killed once

    async def learn(self, claims: Sequence[Claim]) -> None:
        """Find out, once in a process, what processes before it were parsing when they ended."""
        if self._left_behind is None:
            self._left_behind = await self._readings.left_behind([_key(claim) for claim in claims])

    def is_suspected(self, claim: Claim) -> bool:
        """Say whether the claim has to be parsed alone."""
        return self._begun_count(claim) >= BEGUN_MAX

    def was_begun(self, claim: Claim) -> bool:
        """Say whether a process ended while it parsed the claim: it should not have many others beside it again."""
        return self._begun_count(claim) > 0

    async def parse_together(self, files: Sequence[tuple[Claim, str, bytes]]) -> list[Sequence[Draft] | RejectedError]:
        """Parse small files, each with its claim and its name; return their requests, or why they are rejected."""
        if not files:
            return []
        await self._readings.begin([_key(claim) for claim, _, _ in files])
        return await anyio.to_thread.run_sync(self._parse_all, files, abandon_on_cancel=True)

    async def parse_alone(self, claim: Claim, name: str, data: bytes) -> Sequence[Draft]:
        """Parse a small file that is suspected. Raises RejectedError, DeathError and OSError."""
        log.warning("file is parsed alone", extra={"file": shown(name), "lane": shown(claim.lane)})
        try:
            return await parse_alone(name, data, self._rules(claim.lane))
        except DeathError as death:
            raise self._judged(claim, death) from death

    @asynccontextmanager
    async def parse_parts(self, claim: Claim, name: str) -> AsyncIterator[LongParser]:
        """Parse a file of JSON Lines piece by piece. Raises RejectedError, DeathError and OSError."""
        rules = self._rules(claim.lane)
        if not self.is_suspected(claim):
            await self._readings.begin([_key(claim)])
            yield _ParserInThread(JsonLinesParser(name, rules))
            return
        log.warning("file is parsed alone", extra={"file": shown(name), "lane": shown(claim.lane)})
        try:
            async with lonely_parser(name, rules, is_long=True) as parser:
                yield parser
        except DeathError as death:
            raise self._judged(claim, death) from death

    def _begun_count(self, claim: Claim) -> int:
        return (self._left_behind or {}).get(_key(claim), 0)

    def _parse_all(self, files: Sequence[tuple[Claim, str, bytes]]) -> list[Sequence[Draft] | RejectedError]:
        return [self._parse(claim, name, data) for claim, name, data in files]

    def _parse(self, claim: Claim, name: str, data: bytes) -> Sequence[Draft] | RejectedError:
        try:
            return parse_file(name, data, self._rules(claim.lane))
        except RejectedError as error:
            # A copy: the error itself holds on to the frames that it came through, and so to the content.
            return RejectedError(error.reason, error.detail, error.what_to_do)

    def _judged(self, claim: Claim, death: DeathError) -> RejectedError | DeathError:
        if death.may_be_from_outside and claim not in self._lost_children:
            self._lost_children.add(claim)
            return death
        return RejectedError(
            RejectReason.BAD_DOCUMENT,
            f"reading it ended batchbox twice, and then a process that did nothing else: {death}",
            "Look whether the file is damaged; write its content into a new and simpler one, and drop that.",
        )


class _ParserInThread:
    def __init__(self, parser: JsonLinesParser) -> None:
        self._parser = parser

    async def feed(self, piece: bytes) -> Sequence[Draft]:
        return await anyio.to_thread.run_sync(self._parser.feed, piece)

    async def finish(self) -> Sequence[Draft]:
        return await anyio.to_thread.run_sync(self._parser.finish)


def _key(claim: Claim) -> tuple[Lane, str]:
    return claim.lane, claim.name
