"""Drives a stage: a step, a rest until the next is due or a bell rings, and so on until the service stops.

A step that could not record what it did is taken again: whatever it did can be done twice. Anything else that a step
raises ends the service.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import anyio

from batchbox.errors import StateNotWritableError
from batchbox.model import Now
from batchbox.service.signs import Bell, Pulse
from batchbox.timing import Backoff

RECORDING_SECONDS_FIRST = 1.0
RECORDING_SECONDS_MAX = 30.0
"""How long is waited, at first and at most, before what could not be recorded is tried again."""

log = logging.getLogger(__name__)


class Stage(Protocol):
    """What a drive loop needs of a stage."""

    async def step(self, now: Now) -> float:
        """Do what is due; return the monotonic moment of the next step."""


class Patient:
    """A stage whose step is taken again as long as nothing can be recorded."""

    def __init__(self, name: str, stage: Stage, *, chance: Callable[[], float]) -> None:
        self._name = name
        self._stage = stage
        self._chance = chance
        self._backoff = Backoff(first=RECORDING_SECONDS_FIRST, longest=RECORDING_SECONDS_MAX)
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why nothing could be recorded at the last try, if nothing could. The database cannot tell."""
        return self._trouble

    async def step(self, now: Now) -> float:
        """Do what is due, unless that failed just before; return the monotonic moment of the next step."""
        if now.monotonic < self._backoff.until:
            return self._backoff.until
        try:
            due = await self._stage.step(now)
        except StateNotWritableError as error:
            if self._trouble is None:
                log.warning("stage waits", extra={"stage": self._name, "why": str(error)})
            self._trouble = str(error)
            return self._backoff.fail(now.monotonic, chance=self._chance())
        if self._trouble is not None:
            log.info("stage goes on", extra={"stage": self._name})
        self._trouble = None
        self._backoff.succeed()
        return due


async def drive(stage: Stage, bell: Bell, pulse: Pulse, *, clock: Callable[[], Now], stop: anyio.Event) -> None:
    """Step and rest until stopped."""
    while not stop.is_set():
        bell.silence()
        pulse.begin()
        due = await stage.step(clock())
        pulse.end()
        if not stop.is_set():
            await bell.wait(due - clock().monotonic)
