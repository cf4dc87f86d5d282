"""Files of our own with which `check` tries folders: their names, and what becomes of those that it left behind."""

import os
import re
from contextlib import suppress

from batchbox.folders.layout import INBOX, MODES
from batchbox.folders.root import folder, is_folder, leaving_what_resists

PREFIX = ".bb-check-"
SUFFIX = ".part"
LEFT_SECONDS = 24 * 3600.0
"""A check takes seconds: what is older was left by one that was killed."""

_NAME = re.compile(re.escape(PREFIX) + r"[0-9a-f]{16}.*" + re.escape(SUFFIX), re.DOTALL)


def trial_name(middle: str = "") -> str:
    """Return a new name."""
    return f"{PREFIX}{os.urandom(8).hex()}{middle}{SUFFIX}"


def remove_left(root: int, *, now: float) -> None:
    """Remove the trial files that are older than a day, wherever a check makes some."""
    for top in MODES:
        with leaving_what_resists(), suppress(FileNotFoundError), folder(root, top) as descriptor:
            lanes = _remove_left_in(descriptor, now)
            for lane in lanes if top == INBOX else ():
                with leaving_what_resists(), suppress(FileNotFoundError), folder(descriptor, lane) as below:
                    _remove_left_in(below, now)


def _remove_left_in(parent: int, now: float) -> list[str]:
    """Return the folders that are in it."""
    folders, left = [], []
    with os.scandir(parent) as entries:
        for entry in entries:
            if is_folder(entry):
                folders.append(entry.name)
            elif _NAME.fullmatch(entry.name):
                left.append(entry.name)
    for name in left:
        with leaving_what_resists(), suppress(FileNotFoundError):
            if now - os.lstat(name, dir_fd=parent).st_mtime > LEFT_SECONDS:
                os.unlink(name, dir_fd=parent)
    return folders
