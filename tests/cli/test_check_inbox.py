"""What `batchbox check` says of the inbox, of its lanes, and of the file system below them."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchbox.cli.check.finding import Finding, Level
from batchbox.cli.check.folders import look_at_root
from batchbox.cli.check.share import clock
from batchbox.cli.neighbours import Neighbourhood
from batchbox.cli.settings import load_settings
from batchbox.config import Settings
from mounting import DISK_BYTES, mounted, needs_mounts, shared

from .bench import Home, obeys_modes
from .test_check import offline, texts

needs_modes = pytest.mark.skipif(not obeys_modes(), reason="not tried: root may do everything, and there is no setpriv")


def lane(home: Home, name: str) -> Path:
    """Make a lane."""
    path = home.root / "inbox" / name
    path.mkdir()
    return path


def test_lanes_are_named(home: Home) -> None:
    home.make()
    lane(home, "reports")
    lane(home, "letters")

    answer = offline(home)

    assert answer["ok"] is True
    assert "inbox: 2 lanes can be read: letters, reports -> None" in texts(answer, "ok")


def test_folders_that_are_not_read_are_told_with_the_reason(home: Home) -> None:
    home.make()
    (lane(home, "Reports") / "deeper").mkdir()
    lane(home, "reports")
    lane(home, "trip.bundle")
    lane(home, "old.bak")

    answer = offline(home)

    assert answer["ok"] is True
    warned = texts(answer, "warn")
    assert len(warned) == 4
    assert any("inbox/old.bak: not read, because programs give such names to unfinished" in text for text in warned)
    assert any("inbox/reports: not read, because its name is another lane's but for" in text for text in warned)
    assert any("inbox/trip.bundle: not read" in text for text in warned)
    assert any("inbox/Reports/deeper: not read, because only the inbox's own" in text for text in warned)


def test_files_that_will_not_be_answered_are_told(home: Home) -> None:
    """Of an unknown type, or with a name that programs give to unfinished files; each with examples, and how many."""
    home.make()
    reports = lane(home, "reports")
    for number in range(5):
        (reports / f"{number}.docx").touch()
    for name in ("a.md", "b.md.part", ".hidden", "_prompt.md", "c.md.ready", "c.md.cancel"):
        (home.root / "inbox" / name).touch()

    answer = offline(home)

    assert answer["ok"] is True
    unknown, ignored = sorted(texts(answer, "warn"), key=lambda text: "never taken" in text)
    assert f"{reports}: 0.docx, 1.docx, 2.docx and 2 more: of no known type, and so rejected" in unknown
    assert "known are .md, .txt, .json" in unknown
    assert f"{home.root}/inbox: b.md.part: never taken" in ignored


def test_what_is_no_file_is_told_whatever_its_name(home: Home) -> None:
    """Another name would not help it."""
    home.make()
    inbox = home.root / "inbox"
    (inbox / "link.md").symlink_to("/nowhere")
    (inbox / "lane").symlink_to("..")
    os.mkfifo(inbox / "pipe")

    (warned,) = texts(offline(home), "warn")

    assert f"{inbox}: lane, link.md, pipe: a link, a pipe or the like, and so rejected, whatever its name" in warned


def test_a_look_that_nobody_waits_for_ends_with_the_lane_that_is_just_being_tried(home: Home) -> None:
    home.make()
    for name in ("one", "three", "two"):
        lane(home, name)
    asked = iter([True, True, False])

    findings = look_at_root(load_settings(home.config), keep_going=lambda: next(asked))

    assert [*asked] == []
    assert not [finding for finding in findings if finding.subject == "inbox"]


def test_whoever_waits_no_more_leaves_no_look_behind(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on making files to try folders with, and the process's end would leave one of them."""
    from batchbox.cli.check import everything  # noqa: PLC0415 - only to ask how long it waits

    def look(_: Settings, *, keep_going: Callable[[], bool]) -> list[Finding]:
        while keep_going():
            time.sleep(0.01)
        return []

    home.make()
    monkeypatch.setattr(everything, "ROOT_SECONDS_MAX", 0.05)
    monkeypatch.setattr(everything, "look_at_root", look)

    findings = everything.look_at_everything(home.config, dropped=[], offline=True)
    looking = [thread.name for thread in threading.enumerate() if thread.name == "look at the root"]

    assert any("does not answer" in finding.fact for finding in findings)
    assert looking == []


@needs_modes
def test_files_that_the_service_may_not_read_are_told(home: Home) -> None:
    home.make()
    (home.root / "inbox" / "mine.md").touch(mode=0o000)
    (home.root / "inbox" / "link.md").symlink_to("/nowhere")

    done = home.call("check", "--offline", "--config", str(home.config), as_root=False, ANTHROPIC_API_KEY="key")

    assert done.returncode == 0
    assert f"warn  inbox       {home.root}/inbox: mine.md: the service's user may not read this" in done.stdout


@needs_modes
def test_a_lane_that_cannot_be_written_fails(home: Home) -> None:
    home.make()
    lane(home, "reports").chmod(0o550)

    done = home.call("check", "--offline", "--config", str(home.config), as_root=False, ANTHROPIC_API_KEY="key")

    assert done.returncode == 1
    assert f"fail  inbox       {home.root}/inbox/reports: files cannot be taken from it" in done.stdout


@needs_mounts
def test_a_lane_that_is_a_mount_of_its_own_fails_with_its_type(home: Home) -> None:
    home.make()
    with mounted("-t", "tmpfs", "none", lane(home, "far")):
        answer = offline(home)

    (failed,) = texts(answer, "fail")
    assert f"{home.root}/inbox/far: it is a mount of its own" in failed
    assert "(it is on tmpfs)" in failed


@needs_mounts
@pytest.mark.parametrize("name", ["done", "rejected"])
def test_folders_that_files_come_to_in_the_end_have_to_be_on_the_same_mount(home: Home, name: str) -> None:
    home.make()
    with mounted("-t", "tmpfs", "none", home.root / name):
        answer = offline(home)

    assert f"cannot be renamed from processing/ into {name}/: two file systems" in "".join(texts(answer, "fail"))
    assert [*(home.root / "processing").iterdir()] == []


def test_it_says_how_files_are_found(home: Home) -> None:
    home.make()
    automatic = offline(home)
    home.write_config('[inbox]\ndetection = "scan"\n[defaults]\nmodel = "claude-opus-5-5"\n')
    by_scan = offline(home)

    assert any("files are found by events, and by scanning" in text for text in texts(automatic, "ok"))
    assert any("files are found by scanning, as [inbox] detection says" in text for text in texts(by_scan, "ok"))


@pytest.fixture
def share(home: Home) -> Iterator[Home]:
    """Return a home whose root is on a share."""
    home.root.mkdir()
    (home.path / "behind").mkdir()
    with shared(home.path / "behind", at=home.root):
        home.make()
        yield home


@needs_mounts
def test_of_a_share_it_says_that_nobody_tells_of_new_files(share: Home) -> None:
    automatic = offline(share)
    share.write_config('[inbox]\ndetection = "events"\n[defaults]\nmodel = "claude-opus-5-5"\n')
    by_events = offline(share)

    assert automatic["ok"] is by_events["ok"] is True
    (told,) = [text for text in texts(automatic, "ok") if "counts as a share" in text]
    assert f"{share.root} is on fuse.sshfs, which counts as a share" in told
    assert "[inbox] detection relies on that" in texts(by_events, "warn")[0]


@needs_mounts
def test_a_share_that_hangs_is_told_and_the_rest_is_still_checked(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from batchbox.cli.check import everything  # noqa: PLC0415 - only to ask how long it waits

    home.root.mkdir()
    (home.path / "behind").mkdir()
    with shared(home.path / "behind", at=home.root) as hanging:
        home.make()
        hanging.hang()
        monkeypatch.setattr(everything, "ROOT_SECONDS_MAX", 1.0)
        findings = everything.look_at_everything(home.config, dropped=[], offline=True)
        hanging.answer()

    told = [finding.fact for finding in findings if finding.level is Level.FAIL and finding.subject == "root"]
    assert told == [f"{home.root} does not answer within 1 s"]
    assert {str(finding.subject) for finding in findings} >= {"settings", "state", "key"}


@needs_mounts
def test_who_else_is_on_a_share_that_hangs_is_not_known(home: Home) -> None:
    """Whoever asks again does not start another look that hangs, and is told as soon as it answers."""
    home.root.mkdir()
    (home.path / "behind").mkdir()
    with shared(home.path / "behind", at=home.root) as hanging:
        home.make()
        (home.root / "processing" / "dead-00000002" / "_").mkdir(parents=True)
        (home.root / "processing" / "dead-00000002" / "_" / "claim~a.md").touch()
        neighbourhood = Neighbourhood(home.root, seconds_max=0.3)
        hanging.hang()
        unknown = [neighbourhood.orphans(None) for _ in range(3)]
        looks = [thread for thread in threading.enumerate() if thread.name.startswith("look")]
        hanging.answer()
        known = Neighbourhood(home.root, seconds_max=20).orphans(None)

    assert unknown == [None, None, None]
    assert len(looks) == 1
    assert known is not None
    assert [one.instance for one in known] == ["dead-00000002"]


@needs_mounts
def test_a_folder_without_setgid_whose_group_is_not_the_services_is_told(home: Home) -> None:
    home.make()
    os.chown(home.root / "outbox", -1, 12345)
    (home.root / "outbox").chmod(0o770)

    answer = offline(home)

    (told,) = texts(answer, "warn")
    assert "outbox has the mode 0770, without setgid" in told
    assert "the folder's 12345" in told
    assert f"chmod g+s {home.root}/outbox" in told


@needs_mounts
def test_a_folder_that_knows_no_case_is_told(home: Home) -> None:
    """Nothing has to be done about it."""
    home.root.mkdir()
    image = home.path / "image"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    if os.system(f"mkfs.ext4 -q -F -O casefold {image}") != 0:  # noqa: S605 - a path of pytest's
        pytest.skip("not tried: this machine makes no disk without case")
    with mounted("-o", "loop", image, home.root):
        (home.root / "inbox").mkdir()
        os.system(f"chattr +F {home.root}/inbox")  # noqa: S605 - as above
        home.make('[inbox]\nmin_free = "1MB"\n[defaults]\nmodel = "claude-opus-5-5"\n')
        answer = offline(home)

    assert any("upper and lower case are one to the file system" in text for text in texts(answer, "ok"))


@pytest.mark.parametrize(
    ("skew_seconds", "words"),
    [(0.0, None), (-59.0, None), (61.0, "61 s ahead of"), (-3600.0, "3600 s behind")],
)
def test_a_clock_that_is_a_minute_off_is_told(skew_seconds: float, words: str | None) -> None:
    """It does no harm here, and may confuse people."""
    finding = clock(skew_seconds)

    assert finding.level is (Level.OK if words is None else Level.WARN)
    assert words is None or words in finding.fact
