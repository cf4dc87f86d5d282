"""The short form of the fuzzer; the long one is `python -m hostile COUNT`."""

import re

import pytest

from formats.bench import RULES

from . import fuzzing
from .__main__ import main
from .fuzzing import Dropped, check

EXAMPLES = 100


def test_almost_valid_files_are_understood_or_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    """And whoever tries for long is told what was tried."""
    code = main([str(EXAMPLES)])

    said = capsys.readouterr().out
    assert code == 0
    assert f"tried {EXAMPLES} files in pieces. Nothing broke" in said
    (tried, understood, rejected) = [int(word) for word in re.findall(r"([0-9]+) (?:files:|were|rejected)", said)]
    assert understood + rejected == tried >= EXAMPLES


@pytest.mark.parametrize("name", sorted(fuzzing.SEEDS))
def test_what_is_mutated_is_valid_before(name: str) -> None:
    for data in fuzzing.SEEDS[name]:
        assert fuzzing._outcome(Dropped(name=name, data=data, rules=RULES))
        check(Dropped(name=name, data=data, rules=RULES))
