"""Markers and their files: the marker is claimed first, so that none is left behind for the next file of that name.

If we die                       | what is left                          | what listing the claims does
--------------------------------+----------------------------------------+--------------------------------
after the marker's claim        | it in processing/, the file alone     | puts it back beside the file
after the file's                | both in processing/                   | deletes the marker
after it was deleted            | the file's claim                      | nothing

What is in processing/ for that moment has a hidden name, made of the file's claim, so that no other marker is meant.
"""

import os
from collections.abc import Sequence
from contextlib import suppress

from batchbox.folders.layout import INBOX, lane_folder
from batchbox.folders.root import exists, leaving_what_resists, sync_folder
from batchbox.model import Lane
from batchbox.naming import marker_claim_name, parse_marker_claim


def take_marker(marker: str, claim: str, *, inbox: int, claims: int) -> bool:
    """Claim the marker of a file that is about to be claimed; return False if it is not there.

    Raises OSError if it could not be claimed, or if that is not clear: then `settle_markers` puts it back.
    """
    target = marker_claim_name(claim, marker)
    try:
        os.rename(marker, target, src_dir_fd=inbox, dst_dir_fd=claims)
    except OSError as error:
        if exists(target, parent=claims):  # a lost reply
            return True
        if isinstance(error, FileNotFoundError):
            return False
        raise
    return True


def put_marker_back(marker: str, claim: str, *, inbox: int, claims: int) -> None:
    """Undo `take_marker`, because the file could not be claimed; a newer marker stays."""
    _put_back(marker_claim_name(claim, marker), marker, inbox=inbox, claims=claims)


def drop_markers(claimed: Sequence[str], *, claims: int) -> None:
    """Delete the markers of these claims, durably: then none of them can be taken for that of another file."""
    marks = {_mark(claim) for claim in claimed}
    if not marks:
        return
    for name in os.listdir(claims):
        parsed = parse_marker_claim(name)
        if parsed is not None and parsed[0] in marks:
            with suppress(FileNotFoundError), leaving_what_resists():
                os.unlink(name, dir_fd=claims)
    sync_folder(claims)


def settle_markers(root: int, lane: Lane, *, claims: int) -> list[str]:
    """Return the claims of a lane; finish what was begun with markers among them."""
    names = os.listdir(claims)
    markers = {name: parsed for name in names if name[0] == "." and (parsed := parse_marker_claim(name)) is not None}
    if not markers:
        return names
    found = [name for name in names if name not in markers]
    drop_markers(found, claims=claims)
    marks = {_mark(claim) for claim in found}
    alone = {name: marker for name, (mark, marker) in markers.items() if mark not in marks}
    with suppress(OSError), lane_folder(root, INBOX, lane) as inbox:  # if the lane has gone, they wait for it
        for name, marker in alone.items():
            _put_back(name, marker, inbox=inbox, claims=claims)
    return found


def _put_back(name: str, marker: str, *, inbox: int, claims: int) -> None:
    with suppress(FileNotFoundError), leaving_what_resists():
        if exists(marker, parent=inbox):
            os.unlink(name, dir_fd=claims)
        else:
            os.rename(name, marker, src_dir_fd=claims, dst_dir_fd=inbox)


def _mark(claim: str) -> str:
    return claim.partition("~")[0] + "~"
