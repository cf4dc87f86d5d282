from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import product
from typing import TypeVar

import pytest

from batchbox.lifecycle import (
    BATCH_TRANSITIONS,
    REQUEST_TRANSITIONS,
    SOURCE_TRANSITIONS,
    BatchEvent,
    IllegalTransitionError,
    RequestEvent,
    SourceEvent,
    after_batch,
    after_request,
    after_source,
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
    assert final(BATCH_TRANSITIONS, BatchState) == {BatchState.CLOSED, BatchState.REFUSED}
    assert final(REQUEST_TRANSITIONS, RequestState) == set(RequestState) - set(OPEN_REQUEST_STATES)
    assert final(SOURCE_TRANSITIONS, SourceState) == {SourceState.DONE, SourceState.REJECTED}


def test_a_batch_that_may_exist_is_never_sent_without_having_been_withdrawn() -> None:
    """The only way back to SEALED, from where a batch is POSTed, is to know that it was not created."""
    ways_back = [(before, event) for (before, event), after in BATCH_TRANSITIONS.items() if after is BatchState.SEALED]

    assert ways_back == [(BatchState.SUBMITTING, BatchEvent.WITHDRAW)]


@pytest.mark.parametrize(("state", "event"), list(product(BatchState, BatchEvent)))
def test_a_batch_takes_the_events_of_its_table_and_no_others(state: BatchState, event: BatchEvent) -> None:
    if (state, event) in BATCH_TRANSITIONS:
        assert after_batch(state, event) is BATCH_TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalTransitionError, match=f"{event} cannot happen to {state}"):
        after_batch(state, event)


@pytest.mark.parametrize(("state", "event"), list(product(RequestState, RequestEvent)))
def test_a_request_takes_the_events_of_its_table_and_no_others(state: RequestState, event: RequestEvent) -> None:
    if (state, event) in REQUEST_TRANSITIONS:
        assert after_request(state, event) is REQUEST_TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalTransitionError, match=f"{event} cannot happen to {state}"):
        after_request(state, event)


@pytest.mark.parametrize(("state", "event"), list(product(SourceState, SourceEvent)))
def test_a_file_takes_the_events_of_its_table_and_no_others(state: SourceState, event: SourceEvent) -> None:
    if (state, event) in SOURCE_TRANSITIONS:
        assert after_source(state, event) is SOURCE_TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalTransitionError, match=f"{event} cannot happen to {state}"):
        after_source(state, event)
