"""Says whether a daemon is at work on a state folder, without getting in its way."""

import fcntl
import os
from pathlib import Path

from batchbox.store.state_folder import LOCK_FILE


def is_running(state: Path) -> bool | None:
    """Say whether a process holds the state folder's lock; None if this user may not ask.

    The lock is tried as a shared one and let go at once, so that two who ask do not take each other for a daemon.
    """
    try:
        descriptor = os.open(state / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
