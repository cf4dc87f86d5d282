"""`.cancel` and `.ready`: which name they are about, and what a marker is called while its file is claimed."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbox.naming import (
    canceled_by,
    claim_name,
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
    """Its name fits, and a marker's name that is not too long comes back whole."""
    claim = claim_name(name, dropped_ms=7, random_bytes=bytes(8))

    claimed = marker_claim_name(claim, marker)

    assert parse_claim_name(claimed) is None
    assert len(os.fsencode(claimed)) <= 255
    parsed = parse_marker_claim(claimed)
    assert parsed is not None
    assert claim.startswith(parsed[0])
    assert parsed[1] == marker or len(os.fsencode(marker)) > 200
