"""The sample of the power-cut suite that every commit gets; the whole of it is run by `python -m suites powercut`."""

from pathlib import Path

import pytest

from .powercut import run
from .record import Size


@pytest.mark.timeout(600)
def test_a_power_cut_at_any_moment_does_no_harm_and_planted_mistakes_do(tmp_path: Path) -> None:
    """Cut off anywhere and restarted, the daemon buys and delivers once; the same cuts find what is planted."""
    record = run(Size.SHORT, tmp_path)

    if record.skipped is not None:
        pytest.skip(f"NO POWER WAS CUT: {record.skipped}")
    assert record.is_clean, record.complaint()
    assert record.tried["cuts before a change"] > 0
    assert len(record.mutations) > 1
