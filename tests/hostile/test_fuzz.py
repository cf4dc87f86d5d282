"""The short form of the fuzzer; the long one is `python -m hostile COUNT`."""

import pytest

from formats.bench import RULES

from . import fuzzing
from .fuzzing import Dropped, check, fuzz

EXAMPLES = 100


def test_almost_valid_files_are_understood_or_rejected() -> None:
    fuzz(EXAMPLES)


@pytest.mark.parametrize("name", sorted(fuzzing.SEEDS))
def test_what_is_mutated_is_valid_before(name: str) -> None:
    for data in fuzzing.SEEDS[name]:
        assert fuzzing._outcome(Dropped(name=name, data=data, rules=RULES))
        check(Dropped(name=name, data=data, rules=RULES))
