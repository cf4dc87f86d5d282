"""A sample of the failpoints, another one for every commit, and three planted mistakes that must be found."""

from pathlib import Path

import pytest

from . import failpoints
from .record import Size


@pytest.mark.timeout(300)
def test_no_fault_at_any_point_of_the_sample_loses_or_doubles_anything(tmp_path: Path) -> None:
    """Kill, fail, fill and stop at a selection of points; the work ends as it does without any fault."""
    record = failpoints.run(Size.SHORT, tmp_path)

    assert record.is_clean, record.complaint()
    assert record.tried["faults"] > 0
    assert record.mutations
