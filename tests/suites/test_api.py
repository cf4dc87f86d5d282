"""The sample of the API suite that every commit gets; the whole of it is run by `python -m suites api`."""

from pathlib import Path

import pytest

from .api import long_trials, run, short_trials
from .api_mistakes import MISTAKES, Planted
from .mutants import SOURCE
from .record import Size


@pytest.mark.timeout(240)
def test_calls_that_fail_in_any_way_buy_once_and_wrong_strategies_are_seen_to_fail(tmp_path: Path) -> None:
    """Whatever the call met, each request is bought once and answered; planted mistakes are noticed."""
    record = run(Size.SHORT, tmp_path)

    assert record.is_clean, record.complaint()
    assert record.tried["creates"] > 0
    assert len(record.mutations) > 1


def test_the_long_run_makes_20_000_calls_alone_and_as_many_beside_others() -> None:
    """What the table claims is what is tried."""
    crowds = [name.split(":") for name in long_trials() if name.startswith("crowd:")]

    calls = {way: sum(int(crowd[2]) for crowd in crowds if crowd[4] == way) for way in ("0", "1")}

    assert calls == {"0": 20_000, "1": 20_000}


def test_the_short_run_is_the_same_for_one_commit_and_another_for_the_next() -> None:
    """A failure can be seen again, and in time everything is tried."""
    assert short_trials(1) == short_trials(1)
    assert short_trials(1) != short_trials(2)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.mutation.name)
def test_every_mistake_can_still_be_planted(mistake: Planted) -> None:
    """A list of mistakes must not rot until somebody makes the long run."""
    text = (SOURCE / "batchbox" / mistake.mutation.file).read_text()

    assert text.count(mistake.mutation.before) == 1
