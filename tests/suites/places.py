"""Where suites work that make thousands of small files and flush each of them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of a random name is made there


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Make a folder in memory where that is possible, else below the folder given; nothing of it is left."""
    parent = MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else folder
    with tempfile.TemporaryDirectory(prefix="batchbox-", dir=parent) as name:
        yield Path(name)
