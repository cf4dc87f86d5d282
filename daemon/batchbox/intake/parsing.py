"""Parses what was read: in a thread of ours; alone in another process, what may have ended ours before.

That a file is about to be parsed is written down first. A file that was being parsed when a process ended, and again
when the next one did, is suspected: it is parsed in a child, and if the child dies of it the file is rejected. A child
that somebody may have killed for reasons of their own gets a second chance. A file over which the parser stumbles in a
way that nobody has thought of is parsed in a child, too: whatever it is about, it is about this file alone.

What this leaves to others: taking the note away again, which the transaction that records the file does.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import anyio.to_thread

from batchbox.alone.parent import DeathError, lonely_parser, parse_alone
from batchbox.errors import RejectedError
from batchbox.folders.reading import Claim
from batchbox.formats import Draft, JsonLinesParser, Rules, parse_file, slices, weight_of
from batchbox.logs import shown
from batchbox.model import Lane, RejectReason
from batchbox.store.readings import ReadingStore

BEGUN_MAX = 2
"""A file whose parsing was begun so often without an end is suspected."""

log = logging.getLogger(__name__)

Outcome = Sequence[Draft] | RejectedError


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
        self._stumbled: set[Claim] = set()  # long claims over which the parser stumbled in this process

    async def learn(self, claims: Sequence[Claim]) -> None:
        """Find out, once in a process, what processes before it were parsing when they ended."""
        if self._left_behind is None:
            self._left_behind = await self._readings.left_behind([_key(claim) for claim in claims])

    def is_suspected(self, claim: Claim) -> bool:
        """Say whether the claim has to be parsed alone."""
        return self._begun_count(claim) >= BEGUN_MAX or claim in self._stumbled

    def was_begun(self, claim: Claim) -> bool:
        """Say whether a process ended while it parsed the claim: it should not have many others beside it again."""
        return self._begun_count(claim) > 0

    def weight_of(self, claim: Claim, name: str, data: bytes) -> int:
        """Return by how much the file's requests may get larger than the file, by what its lane adds to each."""
        return weight_of(name, data, self._rules(claim.lane))

    def slices(self, claim: Claim, part: bytes) -> Iterator[bytes]:
        """Cut the next part of a file of JSON Lines into what may be parsed at once."""
        return slices(part, self._rules(claim.lane))

    async def parse_together(self, files: Sequence[tuple[Claim, str, bytes]]) -> list[Outcome | DeathError | OSError]:
        """Parse small files, each with its claim and its name; return their requests, or why they are rejected.

        What cannot be told this time is a DeathError or an OSError, as `parse_alone` raises it.
        """
        if not files:
            return []
        await self._readings.begin([_key(claim) for claim, _, _ in files])
        outcomes = await anyio.to_thread.run_sync(self._parse_all, files, abandon_on_cancel=True)
        return [
            await self._parse_alone_after_all(*file) if outcome is None else outcome
            for file, outcome in zip(files, outcomes, strict=True)
        ]

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
            try:
                yield _ParserInThread(JsonLinesParser(name, rules))
            except DeathError:
                self._stumbled.add(claim)
                raise
            return
        log.warning("file is parsed alone", extra={"file": shown(name), "lane": shown(claim.lane)})
        self._stumbled.discard(claim)
        try:
            async with lonely_parser(name, rules, is_long=True) as parser:
                yield parser
        except DeathError as death:
            raise self._judged(claim, death) from death

    def _begun_count(self, claim: Claim) -> int:
        return (self._left_behind or {}).get(_key(claim), 0)

    async def _parse_alone_after_all(self, claim: Claim, name: str, data: bytes) -> Outcome | DeathError | OSError:
        try:
            return await self.parse_alone(claim, name, data)
        except (RejectedError, DeathError, OSError) as error:
            return error

    def _parse_all(self, files: Sequence[tuple[Claim, str, bytes]]) -> list[Outcome | None]:
        return [self._parse(claim, name, data) for claim, name, data in files]

    def _parse(self, claim: Claim, name: str, data: bytes) -> Outcome | None:
        """Return what is in the file; None if the parser stumbles over it."""
        rules = self._rules(claim.lane)
        try:
            return parse_file(name, data, rules)
        except RejectedError as error:
            # A copy: the error itself holds on to the frames that it came through, and so to the content.
            return RejectedError(error.reason, error.detail, error.what_to_do)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - what it may be is just what nobody has thought of
            # Its kind alone: its words may quote the file.
            facts = {"file": shown(name), "lane": shown(claim.lane), "exception": type(error).__name__}
            log.warning("parser stumbled over a file", extra=facts)
            return None

    def _judged(self, claim: Claim, death: DeathError) -> RejectedError | DeathError:
        if death.may_be_from_outside and claim not in self._lost_children:
            self._lost_children.add(claim)
            return death
        return RejectedError(
            RejectReason.BAD_DOCUMENT,
            f"a process that did nothing but read it did not get to an end: {death}",
            "Look whether the file is damaged; write its content into a new and simpler one, and drop that.",
        )


class _ParserInThread:
    def __init__(self, parser: JsonLinesParser) -> None:
        self._parser = parser

    async def feed(self, piece: bytes) -> Sequence[Draft]:
        return await self._run(partial(self._parser.feed, piece))

    async def finish(self) -> Sequence[Draft]:
        return await self._run(self._parser.finish)

    async def _run(self, step: Callable[[], Sequence[Draft]]) -> Sequence[Draft]:
        try:
            return await anyio.to_thread.run_sync(step, abandon_on_cancel=True)
        except (RejectedError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - as above
            how = f"the parser stumbled over it ({type(error).__name__})"
            raise DeathError(how, may_be_from_outside=True) from None


def _key(claim: Claim) -> tuple[Lane, str]:
    return claim.lane, claim.name
