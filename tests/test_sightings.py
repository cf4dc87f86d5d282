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


def test_files_that_could_not_be_taken_make_room_for_new_ones_and_come_round_again() -> None:
    """Whatever they are called: a fourth of the room is all that they keep."""
    sightings = Sightings(SLOW)
    stuck = [f"!{number}" for number in range(8)]
    names = [*stuck, "new"]
    looked_at: list[str] = []

    for _ in range(4):
        for name in sightings.admit(names, room=8):
            sightings[name] = seen_at(100.0)
            looked_at.append(name)
        for name in stuck:
            if name in sightings:
                sightings.refuse(name)
    crowd = sightings.admit([*names, *(f"{number}" for number in range(20))], room=8)

    assert looked_at[:9] == names
    assert set(looked_at[9:]) == {"!0", "!1"}, "they come again, and no more of them than is needed"
    assert len(crowd) == 5
    assert len(list(sightings.refused())) == 2


def test_where_more_files_lie_than_can_be_watched_they_take_turns() -> None:
    """And not those first whose names come first: else new ones would keep the others waiting for ever."""
    sightings = Sightings(SLOW)

    admitted = [sightings.admit(["a", "b", "c", "d", "e"], room=2) for _ in range(3)]

    assert admitted == [["a", "b"], ["c", "d"], ["e", "a"]]


def test_it_is_news_once_that_a_file_cannot_be_taken() -> None:
    """Also if it was not watched meanwhile, to make room; not if it had gone and came again."""
    sightings = watched(a=100.0)
    told = [sightings.refuse("a"), sightings.refuse("a")]
    sightings.admit(["a", "b"], room=1)
    sightings.keep({"a", "b"})
    sightings["a"] = seen_at(110.0)
    told.append(sightings.refuse("a"))
    sightings.keep({"b"})
    sightings["a"] = seen_at(120.0)
    told.append(sightings.refuse("a"))

    assert told == [True, False, False, True]
