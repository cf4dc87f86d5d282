import math

from batchbox.intake.sightings import Pace, Sightings
from batchbox.settling import Readiness, Sample, Sighting, refused

SLOW = Pace(quiet=10.0, incomplete_after=600.0)
FAST = Pace(quiet=2.0, incomplete_after=600.0)


def seen_at(now: float) -> Sighting:
    """Return the sighting of a file that was seen first at this moment."""
    sample = Sample(device=1, inode=2, size_bytes=3, modified_ns=4, changed_ns=5, is_regular=True, tail=b"")
    return Sighting(sample=sample, readiness=Readiness.PLAUSIBLE, since=now, looked_at=now)


def watched(*, pace: Pace = SLOW, **moments: float) -> Sightings:
    """Return sightings of files by the moment at which each was seen."""
    sightings = Sightings(pace)
    for name, moment in moments.items():
        sightings[name] = seen_at(moment)
    return sightings


def test_a_file_is_looked_for_when_it_is_due_and_not_before() -> None:
    sightings = watched(a=100.0, b=105.0)

    assert sightings.next_look() == 110.0
    assert sightings.looked_for(109.9) == []
    assert sightings.looked_for(110.0) == ["a"]
    assert sightings.looked_for(115.0) == ["a", "b"]
    assert sightings.is_due("a", 110.0)
    assert not sightings.is_due("b", 110.0)


def test_what_is_learned_of_a_file_changes_its_next_look() -> None:
    sightings = watched(a=100.0)

    sightings["a"] = seen_at(108.0)

    assert sightings.next_look() == 118.0


def test_another_pace_counts_for_files_that_are_watched_already() -> None:
    """A root that is mounted from a server is given more time from then on, and one that is local again less."""
    sightings = watched(a=100.0)

    sightings.keep_pace(FAST)
    assert sightings.next_look() == 102.0
    assert sightings.is_due("a", 102.0)

    sightings.keep_pace(SLOW)
    assert sightings.next_look() == 110.0
    assert not sightings.is_due("a", 102.0)


def test_files_that_have_gone_are_forgotten_and_the_others_kept() -> None:
    sightings = watched(a=100.0, b=105.0, c=107.0)

    sightings.keep({"b", "new"})
    sightings.forget("c")

    assert (len(sightings), "b" in sightings, "a" in sightings, "new" in sightings) == (1, True, False, False)
    assert sightings.get("a") is None
    assert sightings.next_look() == 115.0
    sightings.keep(())
    assert sightings.next_look() == math.inf


def test_files_that_could_not_be_taken_are_told() -> None:
    sightings = watched(a=100.0, b=100.0)

    sightings["b"] = refused(sightings["b"])

    assert list(sightings.refused()) == ["b"]
