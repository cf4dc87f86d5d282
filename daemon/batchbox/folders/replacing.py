"""An old answer makes way for a new one: its document goes out of sight first, then its text, then the document.

If we die                     | what is left                        | what the next delivery does
------------------------------+-------------------------------------+-----------------------------------------------
before the first rename       | the old answer                      | replaces it, if it is still there
after documents were put away | texts, and documents out of sight   | knows by them which texts are the old answer's
after the texts have gone     | documents out of sight              | removes them
and never come back           | the same                            | what was put away goes a day later

A document that resists keeps its answer where it is, whole; so does a text, for whose sake the document comes back.
"""

import os
from collections.abc import Collection, Mapping
from contextlib import suppress

from batchbox.folders.answers import MARKERS, OldAnswer, hidden
from batchbox.folders.root import exists, is_about_one_name, leaving_what_resists, sync_folder

PUT_AWAY_SECONDS = 24 * 3600.0
"""For so long a document stays out of sight that nobody comes back for."""


def remove(old_answers: Mapping[str, OldAnswer], *, outbox: int) -> set[str]:
    """Remove the old answers, by their stems, and return the stems of which a file resists."""
    refused = {stem for stem, old in old_answers.items() if not _put_away(old, outbox)}
    going = {stem: old for stem, old in old_answers.items() if stem not in refused}
    if going:
        sync_folder(outbox)  # a text that has gone without a trace of its document would be looked for under it
    return refused | {stem for stem, old in going.items() if not _remove_texts(old, outbox)}


def remove_forgotten(names: Collection[str], *, outbox: int, stems_in_use: Collection[str], now: float) -> None:
    """Delete those documents that were put away a day ago, but for the stems that unpublished requests have."""
    kept = {hidden(stem + marker).casefold() for stem in stems_in_use for marker in MARKERS}
    for name in names:
        with leaving_what_resists(), suppress(FileNotFoundError):
            is_over = now - os.lstat(name, dir_fd=outbox).st_ctime > PUT_AWAY_SECONDS
            if is_over and name.casefold() not in kept:
                os.unlink(name, dir_fd=outbox)


def _put_away(old: OldAnswer, outbox: int) -> bool:
    for name in old.documents:
        try:
            os.rename(name, hidden(name), src_dir_fd=outbox, dst_dir_fd=outbox)
        except OSError as error:
            if not is_about_one_name(error):
                raise
            _put_back(old, outbox)
            return False
    return True


def _put_back(old: OldAnswer, outbox: int) -> None:
    for name in (*old.documents, *old.put_away):
        with leaving_what_resists(), suppress(FileNotFoundError):
            if not exists(name, parent=outbox):
                os.rename(hidden(name), name, src_dir_fd=outbox, dst_dir_fd=outbox)


def _remove_texts(old: OldAnswer, outbox: int) -> bool:
    try:
        for name in old.texts:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=outbox)
    except OSError as error:
        if not is_about_one_name(error):
            raise
        _put_back(old, outbox)
        return False
    for name in (*old.documents, *old.put_away):
        with leaving_what_resists(), suppress(FileNotFoundError):
            os.unlink(hidden(name), dir_fd=outbox)
    return True
