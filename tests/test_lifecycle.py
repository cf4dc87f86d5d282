from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from batchbox.lifecycle import (
    BATCH_TRANSITIONS,
    REQUEST_TRANSITIONS,
    SOURCE_TRANSITIONS,
    BatchEvent,
    RequestEvent,
    SourceEvent,
)
from batchbox.model import OPEN_REQUEST_STATES, BatchState, RequestState, SourceState

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def reachable(table: Mapping[tuple[S, E], S], start: S) -> set[S]:
    """Return every state that some chain of events leads to."""
    found = {start}
    while new := {after for (before, _), after in table.items() if before in found} - found:
        found |= new
    return found


def final(table: Mapping[tuple[S, E], S], states: Iterable[S]) -> set[S]:
    """Return the states that no event leaves."""
    return set(states) - {before for before, _ in table}


def test_every_state_can_be_reached_from_the_first() -> None:
    assert reachable(BATCH_TRANSITIONS, BatchState.SEALED) == set(BatchState)
    assert reachable(REQUEST_TRANSITIONS, RequestState.INCOMING) == set(RequestState)
    assert reachable(SOURCE_TRANSITIONS, SourceState.READING) == set(SourceState)


def test_every_event_can_happen_to_some_state() -> None:
    assert {event for _, event in BATCH_TRANSITIONS} == set(BatchEvent)
    assert {event for _, event in REQUEST_TRANSITIONS} == set(RequestEvent)
    assert {event for _, event in SOURCE_TRANSITIONS} == set(SourceEvent)


def test_only_what_has_come_to_its_end_has_no_way_on() -> None:
    """A state without a way on that is no end would be silence for its file."""
    assert final(BATCH_TRANSITIONS, BatchState) == {BatchState.CLOSED}
    assert final(REQUEST_TRANSITIONS, RequestState) == set(RequestState) - set(OPEN_REQUEST_STATES)
    assert final(SOURCE_TRANSITIONS, SourceState) == {SourceState.DONE, SourceState.REJECTED}


def test_a_batch_without_members_goes_on_only_if_it_turns_up_after_all() -> None:
    ways_on = {event: after for (before, event), after in BATCH_TRANSITIONS.items() if before is BatchState.REFUSED}

    assert ways_on == {BatchEvent.RECLAIM: BatchState.IN_PROGRESS}


def test_a_batch_that_may_exist_is_never_sent_without_having_been_withdrawn() -> None:
    """The only way back to SEALED, from where a batch is POSTed, is to know that it was not created."""
    ways_back = [(before, event) for (before, event), after in BATCH_TRANSITIONS.items() if after is BatchState.SEALED]

    assert ways_back == [(BatchState.SUBMITTING, BatchEvent.WITHDRAW)]
