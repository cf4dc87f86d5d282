"""Errors that batchbox raises on purpose: each is a sentence for a person and, at the process's edge, an exit code.

Inside, other exceptions fly; adapters turn what they expect from their technology into one of these, with the
original as cause. Nothing here is about what the API answered: that is in `api`.
"""

from collections.abc import Sequence
from enum import IntEnum

from batchbox.model import RejectReason


class ExitCode(IntEnum):
    """What the process says when it ends. systemd must not restart PERMISSION and CONFIGURATION."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    FINISHED_WITH_ERRORS = 3
    PERMISSION = 77
    CONFIGURATION = 78


class BatchboxError(Exception):
    """Anything that a person has to read. `str()` of it is the sentence."""

    exit_code = ExitCode.FAILED


class ConfigurationError(BatchboxError):
    """The settings, or the place they point to, cannot be used. Carries every problem that was found, not the first."""

    exit_code = ExitCode.CONFIGURATION

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems


class FolderPermissionError(BatchboxError):
    """The service's user may not do what it has to do in one of its folders."""

    exit_code = ExitCode.PERMISSION


class RetiredError(BatchboxError):
    """`processing/<instance>` has gone although the root is the right one: somebody took this daemon's work over."""

    exit_code = ExitCode.CONFIGURATION


class StateLockedError(BatchboxError):
    """Another process of ours holds the lock on the state folder."""


class StateNotWritableError(BatchboxError):
    """Nothing can be recorded just now: the disk is full, or somebody else holds the database.

    Nothing of the transaction was kept, so whatever it belonged to can be done again once there is room.
    """


class StateBrokenError(BatchboxError):
    """The disk fails under the database, which cannot be trusted any more by this process: it ends.

    After a write that failed, a later one may seem to succeed and not be on the disk. Only opening the database anew
    tells what became of a commit that failed so.
    """


class NoRoomError(BatchboxError):
    """A disk has less room than is kept free for results: nothing more is taken. It waits for room by itself."""


class RootOfflineError(BatchboxError):
    """The root is not there, or it is not our root. It may come back by itself, so nothing is decided upon it."""


class RejectedError(BatchboxError):
    """A dropped file's content or name can never become a request. Nothing but that raises this.

    Args:
        reason: The code that scripts read.
        detail: What was found and where: line, byte or field.
        what_to_do: One sentence for the person who dropped the file.
    """

    def __init__(self, reason: RejectReason, detail: str, what_to_do: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.what_to_do = what_to_do
