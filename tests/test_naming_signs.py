"""`.cancel` and `.ready`: which name they are about, and what a marker is called while its file is claimed."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbox.naming import (
    canceled_by,
    claim_name,
    kept,
    marked_by,
    marker_claim_name,
    parse_claim_name,
    parse_marker_claim,
    visible,
)

NAMES = (st.binary(min_size=1, max_size=255)).map(os.fsdecode)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("report.md.cancel", "report.md"),
        ("report.cancel", "report"),
        ("report.md.CANCEL", "report.md"),
        ("a b.c.Cancel", "a b.c"),
        (unicodedata.normalize("NFD", "é.md.cancel"), unicodedata.normalize("NFC", "é.md")),
        (os.fsdecode(b"caf\xe9.md.cancel"), os.fsdecode(b"caf\xe9.md")),
        ("report.md.cancel.cancel", "report.md.cancel"),
    ],
)
def test_a_sign_names_what_stands_before_its_ending(name: str, target: str) -> None:
    """In whichever case Windows spells it, and as people see the name."""
    assert canceled_by(["other.md", name]) == {name: target}


@pytest.mark.parametrize("name", ["report.md", "cancel", "cancel.md", "report.cancelled", "reportcancel", ".cancel"])
def test_what_only_looks_like_a_sign_names_nothing(name: str) -> None:
    assert canceled_by([name]) == {}


def test_a_marker_is_about_the_file_before_its_ending() -> None:
    assert marked_by(["a.md", "a.md.ready", "ready", "b.cancel"]) == {"a.md.ready": "a.md"}


@given(NAMES)
def test_what_is_seen_does_not_depend_on_the_spelling(name: str) -> None:
    assert visible(unicodedata.normalize("NFD", name)) == visible(name)


@given(NAMES, NAMES)
def test_a_claimed_marker_is_no_claim_and_says_whose_it_is(name: str, marker: str) -> None:
    """Its name fits, and says what a claim keeps of the marker's name."""
    claim = claim_name(name, dropped_ms=7, random_bytes=bytes(8))

    claimed = marker_claim_name(claim, marker)

    assert parse_claim_name(claimed) is None
    assert len(os.fsencode(claimed)) <= 255
    parsed = parse_marker_claim(claimed)
    assert parsed is not None
    assert claim.startswith(parsed[0])
    assert parsed[1] == kept(marker)


LONG = st.one_of(
    st.tuples(st.text(alphabet="aé長ｶﾞ\u0301😀. ", min_size=60, max_size=260), st.sampled_from(["", ".md", ".x" * 120])),
    st.tuples(NAMES, st.sampled_from(["", ".md"])),
).map("".join)


@given(LONG)
def test_what_a_claim_keeps_is_the_same_name_to_people(name: str) -> None:
    """However long it is and however it is spelled; it fits, and it is not cut twice."""
    for spelling in (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))):
        assert visible(kept(spelling)) == visible(name) == visible(visible(name))
        assert len(os.fsencode(kept(spelling))) <= 225


@given(LONG, st.sampled_from([".cancel", ".CANCEL", ".ready"]))
def test_a_claimed_sign_is_about_the_same_name(name: str, suffix: str) -> None:
    """The claim keeps its suffix, and of the name before it what the claim of its file keeps."""
    sign = name + suffix
    about = canceled_by if suffix != ".ready" else marked_by

    assert about([kept(sign)]) == {kept(sign): visible(name)}
    assert len(os.fsencode(claim_name(sign, dropped_ms=7, random_bytes=bytes(8)))) <= 255
    assert len(os.fsencode(marker_claim_name(claim_name(name, dropped_ms=7, random_bytes=bytes(8)), sign))) <= 255


def test_long_names_that_begin_alike_stay_two() -> None:
    """A sign about one of them is not about the other."""
    names = ["長" * 70 + f"{number} {'x' * 30}.md" for number in range(3)]

    assert len({visible(name) for name in names}) == 3
    assert all(visible(name).endswith(".md") for name in names)
