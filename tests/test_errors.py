import pytest

from batchbox.errors import (
    BatchboxError,
    ConfigurationError,
    ExitCode,
    FolderPermissionError,
    RejectedError,
    RetiredError,
    RootOfflineError,
    StateLockedError,
)
from batchbox.model import RejectReason


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 78),
        (RetiredError("x"), 78),
        (FolderPermissionError("x"), 77),
        (StateLockedError("x"), 1),
        (RootOfflineError("x"), 1),
    ],
)
def test_an_error_ends_the_process_with_its_own_code(error: BatchboxError, code: int) -> None:
    """Scripts read all of them, and systemd must not restart 77 and 78."""
    assert error.exit_code == code


def test_the_exit_codes_are_those_that_scripts_know() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "FINISHED_WITH_ERRORS": 3,
        "PERMISSION": 77,
        "CONFIGURATION": 78,
    }


def test_a_configuration_error_tells_every_problem() -> None:
    error = ConfigurationError("first is wrong", "second, too")

    assert str(error) == "first is wrong\nsecond, too"
    assert list(error.problems) == ["first is wrong", "second, too"]


def test_a_rejection_carries_what_its_explanation_says() -> None:
    error = RejectedError(RejectReason.BAD_JSON, "line 3: no", "Correct it.")

    assert str(error) == "bad_json: line 3: no"
    assert (error.reason, error.detail, error.what_to_do) == ("bad_json", "line 3: no", "Correct it.")
