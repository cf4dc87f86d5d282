from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from batchbox.settling import Readiness, Sample, Sighting, due, next_look, sight, unfinished

QUIET = 2.0
INCOMPLETE_AFTER = 600.0


def sample(version: int = 0) -> Sample:
    """Return what is seen of a file after so many changes."""
    return Sample(
        device=1,
        inode=7,
        size_bytes=100 + version,
        modified_ns=5,
        changed_ns=version,
        is_regular=True,
        tail=b"tail",
    )


def look(before: Sighting | None, version: int, now: float) -> Sighting:
    """Look at a file that may be finished."""
    return sight(before, sample(version), readiness=Readiness.PLAUSIBLE, now=now)


def due_at(sighting: Sighting) -> float:
    """Return when the file is taken."""
    return due(sighting, quiet=QUIET, incomplete_after=INCOMPLETE_AFTER)


def test_a_file_is_taken_when_it_has_not_changed_for_quiet() -> None:
    seen = look(None, 0, 100.0)
    seen = look(seen, 0, 101.5)

    assert due_at(seen) == 102.0


def test_time_counts_from_our_first_sight_whatever_the_files_own_times_say() -> None:
    """A copy keeps its modification time, and a server's clock may be years off."""
    old = Sample(device=1, inode=7, size_bytes=9, modified_ns=0, changed_ns=0, is_regular=True, tail=b"")

    seen = sight(None, old, readiness=Readiness.PLAUSIBLE, now=100.0)

    assert due_at(seen) == 102.0


def test_a_change_starts_the_wait_anew() -> None:
    seen = look(None, 0, 100.0)
    seen = look(seen, 1, 101.9)

    assert due_at(seen) == 103.9


def test_a_file_of_the_same_size_and_times_but_another_end_has_changed() -> None:
    before = sample()
    after = Sample(device=1, inode=7, size_bytes=100, modified_ns=5, changed_ns=0, is_regular=True, tail=b"liat")
    seen = sight(None, before, readiness=Readiness.PLAUSIBLE, now=100.0)

    seen = sight(seen, after, readiness=Readiness.PLAUSIBLE, now=101.0)

    assert due_at(seen) == 103.0


def test_a_file_that_cannot_be_finished_is_waited_for_longer() -> None:
    seen = sight(None, sample(), readiness=Readiness.UNFINISHED, now=100.0)

    assert due_at(seen) == 700.0


def test_an_unfinished_file_waits_for_quiet_at_least() -> None:
    seen = sight(None, sample(), readiness=Readiness.UNFINISHED, now=100.0)

    assert due(seen, quiet=10.0, incomplete_after=1.0) == 110.0


def test_what_only_the_whole_content_shows_lengthens_the_wait_from_the_first_sight_on() -> None:
    seen = look(None, 0, 100.0)

    assert due_at(unfinished(seen)) == 700.0


def test_a_file_found_unfinished_stays_so_until_it_changes() -> None:
    seen = unfinished(look(None, 0, 100.0))

    assert due_at(look(seen, 0, 102.0)) == 700.0
    assert due_at(look(seen, 1, 102.0)) == 104.0


def next_at(sighting: Sighting) -> float:
    """Return when the file is looked at again."""
    return next_look(sighting, quiet=QUIET, incomplete_after=INCOMPLETE_AFTER)


def test_a_file_is_looked_at_again_when_it_may_be_taken() -> None:
    assert next_at(look(look(None, 0, 100.0), 0, 101.5)) == 102.0


def test_a_file_that_is_waited_for_longer_is_looked_at_every_quiet() -> None:
    """It may be finished at any time."""
    assert next_at(unfinished(look(look(None, 0, 100.0), 0, 102.0))) == 104.0


@given(waited=st.floats(min_value=0, max_value=10 * QUIET), readiness=st.sampled_from(Readiness))
def test_the_next_look_is_always_later_than_the_last_one_and_never_much_later_than_quiet(
    waited: float, readiness: Readiness
) -> None:
    """A file that is due and cannot be taken just now must not be looked at without a pause, nor be forgotten."""
    seen = sight(sight(None, sample(), readiness=readiness, now=0.0), sample(), readiness=readiness, now=waited)

    assert seen.looked_at < next_at(seen) <= seen.looked_at + max(QUIET, waited)


def looks_at(first: float) -> list[float]:
    """Return when a file is looked at that cannot be finished and is first seen at the moment."""
    seen = unfinished(look(None, 0, first))
    moments = []
    while seen.looked_at < due_at(seen):
        moments.append(next_at(seen))
        seen = look(seen, 0, moments[-1])
    return moments


def test_a_file_that_does_not_change_is_looked_at_in_less_and_less_of_a_hurry() -> None:
    """Every two seconds for ten minutes would be too often for ten thousand files."""
    moments = looks_at(100.0)
    rests = [later - earlier for earlier, later in pairwise(moments)]

    assert len(moments) < 50
    assert rests[:2] == [QUIET, QUIET]
    assert max(rests) <= 60.0
    assert moments[-1] == 700.0


def test_files_that_are_waited_for_are_looked_at_at_the_same_moments() -> None:
    """However they came in: each look is a scan, and one serves them all."""
    moments = {moment for number in range(1000) for moment in looks_at(100 + number / 50) if 200 < moment < 700}

    assert len(moments) < 60


GAPS = st.lists(st.floats(min_value=0.01, max_value=QUIET * 0.99), min_size=2, max_size=30)
LOOKS = st.lists(st.floats(min_value=0.0, max_value=1.0), min_size=1, max_size=60)


@given(gaps=GAPS, looks=LOOKS)
def test_a_file_that_changes_more_often_than_quiet_is_never_due(gaps: list[float], looks: list[float]) -> None:
    """Whenever it is looked at, and however seldom, until the last change."""
    changes = [sum(gaps[:count]) for count in range(len(gaps) + 1)]
    seen = None

    for at in sorted(share * changes[-1] for share in looks):
        version = sum(1 for change in changes if change <= at)
        seen = look(seen, version, at)
        assert due_at(seen) > at


@given(gaps=GAPS)
def test_a_file_that_stays_as_it_is_is_due_quiet_after_the_first_look(gaps: list[float]) -> None:
    """However often it is looked at."""
    seen = look(None, 0, 0.0)

    for count in range(len(gaps)):
        seen = look(seen, 0, sum(gaps[:count]))

    assert due_at(seen) == QUIET
