"""What becomes of a refused batch, row by row."""

from dataclasses import replace

import pytest

from batchbox.dispatch.refusals import Fate, fate_of
from batchbox.model import BatchState
from batchbox.store.regrouping import OtherHalf, RefusedBatch

OWN = ["output-300k-2026-03-24"]

WHOLE = RefusedBatch(
    id=1, request_count=8, betas=(*OWN, "asked-for"), refusal="no", is_too_large=False, other_half=None
)
OTHER = OtherHalf(batch_id=2, state=BatchState.SEALED, refusal=None, is_held=False, is_undecided=False)
REFUSED_ALIKE = replace(OTHER, state=BatchState.REFUSED, refusal="no", is_undecided=True)


@pytest.mark.parametrize(
    ("other_half", "several", "alone"),
    [
        pytest.param(None, Fate.HALVE, Fate.FAIL, id="no other half"),
        pytest.param(OTHER, Fate.WAIT, Fate.WAIT, id="not sent yet"),
        pytest.param(replace(OTHER, is_held=True), Fate.HALVE, Fate.FAIL, id="not sent for long"),
        pytest.param(replace(OTHER, state=BatchState.SUBMITTING), Fate.WAIT, Fate.WAIT, id="in doubt"),
        pytest.param(replace(OTHER, state=BatchState.IN_PROGRESS), Fate.HALVE, Fate.FAIL, id="accepted"),
        pytest.param(replace(OTHER, state=BatchState.CLOSED), Fate.HALVE, Fate.FAIL, id="answered"),
        pytest.param(replace(OTHER, state=BatchState.LOST), Fate.HALVE, Fate.FAIL, id="lost"),
        pytest.param(REFUSED_ALIKE, Fate.JOIN, Fate.JOIN, id="refused alike"),
        pytest.param(replace(REFUSED_ALIKE, refusal="other"), Fate.HALVE, Fate.FAIL, id="refused otherwise"),
        pytest.param(replace(REFUSED_ALIKE, is_undecided=False), Fate.HALVE, Fate.FAIL, id="decided before"),
    ],
)
def test_the_other_half_tells_whether_a_request_can_be_to_blame(
    other_half: OtherHalf | None, several: Fate, alone: Fate
) -> None:
    batch = replace(WHOLE, other_half=other_half)

    fates = [fate_of(replace(batch, request_count=count), own_betas=OWN, is_held_for=False) for count in (8, 1)]

    assert fates == [several, alone]


@pytest.mark.parametrize(
    ("batch", "several", "alone"),
    [
        pytest.param(replace(WHOLE, is_too_large=True), Fate.HALVE, Fate.FAIL, id="too large"),
        pytest.param(replace(WHOLE, refusal="requests.3: no"), Fate.HALVE, Fate.FAIL, id="one is named"),
        pytest.param(replace(WHOLE, refusal="no beta `asked-for`"), Fate.FAIL, Fate.FAIL, id="a beta of theirs"),
    ],
)
def test_what_is_clear_waits_for_nobody(batch: RefusedBatch, several: Fate, alone: Fate) -> None:
    batch = replace(batch, other_half=REFUSED_ALIKE)

    fates = [fate_of(replace(batch, request_count=count), own_betas=OWN, is_held_for=True) for count in (8, 1)]

    assert fates == [several, alone]


def test_what_others_are_held_for_holds_one_that_is_alone() -> None:
    """Several may have one among them that is like those, and neighbours of it that are not."""
    fates = [fate_of(replace(WHOLE, request_count=count), own_betas=OWN, is_held_for=True) for count in (8, 1)]

    assert fates == [Fate.HALVE, Fate.HOLD]


@pytest.mark.parametrize(
    ("other_half", "several", "alone"),
    [
        pytest.param(None, Fate.HALVE, Fate.HOLD, id="nothing to compare it with"),
        pytest.param(replace(OTHER, state=BatchState.IN_PROGRESS), Fate.HALVE, Fate.FAIL, id="accepted"),
        pytest.param(replace(REFUSED_ALIKE, refusal="about anthropic-beta"), Fate.JOIN, Fate.JOIN, id="refused alike"),
    ],
)
def test_words_that_may_be_about_the_header_fail_nobody_unless_a_neighbour_went_through(
    other_half: OtherHalf | None, several: Fate, alone: Fate
) -> None:
    """A batch that was accepted asked for the same betas."""
    batch = replace(WHOLE, betas=tuple(OWN), refusal="about anthropic-beta", other_half=other_half)

    fates = [fate_of(replace(batch, request_count=count), own_betas=OWN, is_held_for=False) for count in (8, 1)]

    assert fates == [several, alone]
