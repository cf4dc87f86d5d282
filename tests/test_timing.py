import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbox.timing import (
    JITTER_SHARE,
    LATE_LOOK_SECONDS,
    Backoff,
    backoff_seconds,
    jittered,
    late_look_seconds,
    look_seconds,
    poll_seconds,
)

SECONDS = st.floats(min_value=0.001, max_value=100_000)
CHANCES = st.floats(min_value=0, max_value=1, exclude_max=True)
COUNTS = st.integers(min_value=1, max_value=10_000)


@given(seconds=SECONDS, chance=CHANCES)
def test_jitter_shortens_by_its_share_at_most_and_never_lengthens(seconds: float, chance: float) -> None:
    wait = jittered(seconds, chance=chance)

    assert seconds * (1 - JITTER_SHARE) <= wait <= seconds


@given(failures=COUNTS, first=SECONDS, longest=SECONDS)
def test_a_back_off_is_never_over_the_longest(failures: int, first: float, longest: float) -> None:
    wait = backoff_seconds(failures, first=first, longest=longest)

    assert 0 < wait <= longest


@given(failures=COUNTS, first=SECONDS, longest=SECONDS)
def test_a_back_off_never_shrinks_with_another_failure(failures: int, first: float, longest: float) -> None:
    waits = [backoff_seconds(count, first=first, longest=longest) for count in (failures, failures + 1)]

    assert waits == sorted(waits)


def test_a_back_off_doubles_from_the_first_wait_on() -> None:
    waits = [backoff_seconds(failures, first=30, longest=900) for failures in range(1, 8)]

    assert waits == [30, 60, 120, 240, 480, 900, 900]


@given(polls=COUNTS, first=SECONDS, factor=st.floats(min_value=1, max_value=10), longest=SECONDS)
def test_a_poll_is_never_waited_for_longer_than_the_longest(
    polls: int, first: float, factor: float, longest: float
) -> None:
    wait = poll_seconds(polls, first=first, factor=factor, longest=longest)

    assert 0 < wait <= longest


def test_polls_come_at_the_first_wait_and_then_ever_more_slowly() -> None:
    waits = [poll_seconds(polls, first=60, factor=1.5, longest=300) for polls in range(6)]

    assert waits == [60, 90, 135, 202.5, 300, 300]


@given(grace=SECONDS)
def test_the_looks_come_in_order_and_the_last_is_at_grace(grace: float) -> None:
    """The set of candidates is closed by the look at grace, so none may come later and one must come then."""
    looks = list(look_seconds(grace))

    assert looks == sorted(looks)
    assert looks[-1] == grace
    assert all(at < grace for at in looks[:-1])


@pytest.mark.parametrize(
    ("grace", "looks"),
    [(900, [5, 60, 450, 900]), (30, [5, 15, 30]), (4, [2, 4]), (0.2, [0.1, 0.2])],
)
def test_looks_that_would_come_after_grace_are_left_out(grace: float, looks: list[float]) -> None:
    assert look_seconds(grace) == looks


def test_failures_in_a_row_are_waited_for_ever_longer() -> None:
    backoff = Backoff(first=10, longest=35)

    moments = [backoff.fail(1000, chance=0) for _ in range(4)]

    assert moments == [1010, 1020, 1035, 1035]
    assert backoff.is_failing
    assert backoff.until == 1035


def test_a_success_forgets_the_failures() -> None:
    backoff = Backoff(first=10, longest=35)
    backoff.fail(1000, chance=0)
    backoff.fail(1010, chance=0)

    backoff.succeed()

    assert not backoff.is_failing
    assert backoff.until == 0
    assert backoff.fail(2000, chance=0) == 2010


def test_what_the_server_asked_for_is_waited_even_when_the_back_off_is_shorter() -> None:
    backoff = Backoff(first=10, longest=35)

    assert backoff.fail(1000, chance=0, at_least=600) == 1600


def test_a_server_cannot_shorten_the_back_off() -> None:
    backoff = Backoff(first=10, longest=35)

    assert backoff.fail(1000, chance=0, at_least=1) == 1010


def test_a_batch_that_was_given_up_is_looked_for_every_hour() -> None:
    assert late_look_seconds(15 * 60) == late_look_seconds(24 * 3600) == LATE_LOOK_SECONDS == 3600
    assert late_look_seconds(1.0) == 4.0
