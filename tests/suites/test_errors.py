"""The suite of lasting faults, in its short form."""

from pathlib import Path

import pytest

from .errors import run
from .record import Size


@pytest.mark.timeout(180)
def test_disks_that_fail_for_a_while_do_no_harm(tmp_path: Path) -> None:
    """No hot loop, no file blamed, everything answered soon after the cure; and planted mistakes are noticed."""
    record = run(Size.SHORT, tmp_path)

    assert record.is_clean, record.complaint()
