"""The sample of the black-box suite that every commit gets; the whole of it is run by `python -m suites blackbox`."""

from pathlib import Path

import pytest

from .blackbox import run
from .record import Size


@pytest.mark.timeout(600)
def test_a_kill_before_any_change_does_no_harm_and_planted_mistakes_do(tmp_path: Path) -> None:
    """Killed anywhere and restarted, the daemon buys and delivers once; the same kills find what is planted."""
    record = run(Size.SHORT, tmp_path)

    if record.skipped is not None:
        pytest.skip(f"NOTHING WAS KILLED: {record.skipped}")
    assert record.is_clean, record.complaint()
    assert record.tried["points"] == record.tried["kills"] > 0
    assert len(record.mutations) > 1
