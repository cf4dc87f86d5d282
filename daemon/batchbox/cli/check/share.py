"""Looks at the file system of the root: whether it tells of new files, what it does to names and modes, its clock."""

import errno
import os
import time
import unicodedata
from collections.abc import Iterator

from batchbox.cli.check.finding import Finding, Subject, ok, warn
from batchbox.cli.check.trial import permissions, trial_file
from batchbox.config import Settings
from batchbox.folders.layout import INBOX
from batchbox.folders.mounts import file_system_of, is_local
from batchbox.folders.root import exists, folder
from batchbox.folders.trials import trial_name
from batchbox.naming import NAME_BYTES_MAX

SKEW_SECONDS_MAX = 60.0

_ACCENT = "e\N{COMBINING ACUTE ACCENT}"


def look_at_file_system(root: int, settings: Settings) -> Iterator[Finding]:
    """Return what was found in the inbox, with files of our own; what cannot be tried there is told elsewhere."""
    yield _detection(root, settings)
    try:
        with folder(root, INBOX) as inbox:
            yield _case(inbox)
            yield _spelling(inbox)
            yield from _name_length(inbox)
            yield from _modes(inbox)
            yield clock(_skew_seconds(inbox))
    except OSError:
        return


def _detection(root: int, settings: Settings) -> Finding:
    detection = settings.inbox.detection
    kind = file_system_of(root) or "a file system of an unknown type"
    where = f"{settings.paths.root} is on {kind}"
    if not is_local(root):
        fact = f"{where}, which counts as a share: it does not tell of every new file"
        if detection == "events":
            fact += ", and [inbox] detection relies on that"
            return warn(Subject.ROOT, fact, fix='set [inbox] detection to "auto"')
        return ok(Subject.ROOT, f"{fact}, so they are found by scanning")
    if detection == "scan":
        return ok(Subject.ROOT, f"{where}; files are found by scanning, as [inbox] detection says")
    return ok(Subject.ROOT, f"{where}, a local disk: files are found by events, and by scanning")


def _case(inbox: int) -> Finding:
    name = trial_name("-case")
    with trial_file(inbox, name):
        is_blind = exists(name.swapcase(), parent=inbox)
    if is_blind:
        return ok(Subject.ROOT, "upper and lower case are one to the file system; no two answers differ in that alone")
    return ok(Subject.ROOT, "the file system tells upper from lower case")


def _spelling(inbox: int) -> Finding:
    name = trial_name(_ACCENT)
    try:
        with trial_file(inbox, name):
            has_kept = name in os.listdir(inbox)
            is_one = exists(unicodedata.normalize("NFC", name), parent=inbox)
    except OSError as error:
        if error.errno not in {errno.EILSEQ, errno.EINVAL}:
            raise
        fix = "mount it for UTF-8 names, with iocharset=utf8 or the like"
        return warn(Subject.ROOT, "names with accents cannot be made on the file system", fix=fix)
    if not has_kept:
        fact = "the file system changes how accents in names are spelled (NFC or NFD); batchbox does not mind"
        return warn(Subject.ROOT, fact, fix="let scripts of your own compare names after normalising them")
    return ok(
        Subject.ROOT,
        "the file system keeps names as they are spelled" + (", and finds them in any spelling" if is_one else ""),
    )


def _name_length(inbox: int) -> Iterator[Finding]:
    longest = os.fpathconf(inbox, "PC_NAME_MAX")
    if longest < NAME_BYTES_MAX:
        fact = (
            f"names may have {longest} bytes on the file system; claims of files with long names need {NAME_BYTES_MAX}"
        )
        yield warn(Subject.ROOT, fact, fix="keep the names of dropped files short, or choose another file system")


def _modes(inbox: int) -> Iterator[Finding]:
    with trial_file(inbox, trial_name(), mode=0o600) as facts:
        mode = permissions(facts)
    if mode != 0o600:
        fact = f"the file system keeps no modes: a file made for its owner alone has {mode:04o}"
        fix = "choose in the mount options, by uid=, gid=, file_mode= and dir_mode= or the like, who may do what"
        yield warn(Subject.ROOT, fact, fix=fix)


def _skew_seconds(inbox: int) -> float:
    with trial_file(inbox, trial_name()) as facts:
        return facts.st_mtime - time.time()


def clock(skew_seconds: float) -> Finding:
    """Judge by how much the file system's clock is ahead of this machine's."""
    if abs(skew_seconds) <= SKEW_SECONDS_MAX:
        return ok(Subject.ROOT, "the file system's clock and this machine's agree")
    direction = "ahead of" if skew_seconds > 0 else "behind"
    fact = f"the file system's clock is {abs(skew_seconds):.0f} s {direction} ours; batchbox does not mind, people may"
    return warn(Subject.ROOT, fact, fix="set both clocks by the network (NTP)")
