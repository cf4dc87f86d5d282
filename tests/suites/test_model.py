"""The model, in its short form: the same few examples every time, and mistakes that it must notice."""

from pathlib import Path

import pytest

from .model import run
from .record import Size


@pytest.mark.timeout(300)
def test_whatever_happens_nothing_is_lost_or_bought_twice(tmp_path: Path) -> None:
    record = run(Size.SHORT, tmp_path)

    assert record.is_clean, record.complaint()
    assert record.mutations


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_it_holds_for_as_long_as_is_tried(tmp_path: Path) -> None:
    record = run(Size.LONG, tmp_path)

    assert record.is_clean, record.complaint()
