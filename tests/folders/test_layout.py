import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from batchbox.errors import ConfigurationError, RetiredError, RootOfflineError
from batchbox.folders.layout import (
    MODES,
    Presence,
    claims_folder,
    lane_folder,
    make_root,
    new_instance,
    other_instances,
)
from batchbox.folders.root import Root, open_root
from batchbox.model import INBOX_LANE, Lane
from mounting import as_nobody

from .site import INSTANCE, OTHER_INSTANCE, Site, identity_of, names_in


def mode_of(path: Path) -> int:
    """Return the permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_root_is_made_whole(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "root"

    made = make_root(root)

    assert names_in(root) == {"inbox", "processing", "outbox", "rejected", "done", ".batchbox"}
    assert {name: mode_of(root / name) for name in MODES} == dict(MODES)
    assert set(json.loads((root / ".batchbox" / "identity.json").read_text())) == {"id", "format"}
    assert made[0] == f"{root}/"
    assert made[-1] == str(root / ".batchbox" / "identity.json")


def test_what_is_there_is_kept_and_what_is_missing_is_made(tmp_path: Path) -> None:
    make_root(tmp_path)
    identity = identity_of(tmp_path)
    (tmp_path / "inbox" / "a.md").write_text("hello")
    (tmp_path / "inbox").chmod(0o700)
    (tmp_path / "done").rmdir()

    made = make_root(tmp_path)

    assert made == [f"{tmp_path / 'done'}/"]
    assert identity_of(tmp_path) == identity
    assert mode_of(tmp_path / "inbox") == 0o700
    assert (tmp_path / "inbox" / "a.md").read_text() == "hello"


@pytest.mark.parametrize("spoil", [Path.touch, lambda path: path.symlink_to("elsewhere"), os.mkfifo])
def test_what_has_the_place_of_a_folder_keeps_a_root_from_being_made(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """It is named, and nothing is made beside it."""
    (tmp_path / "elsewhere").mkdir()
    spoil(tmp_path / "done")
    before = names_in(tmp_path)

    with pytest.raises(ConfigurationError, match=f"^{tmp_path}/done: this has to be a folder"):
        make_root(tmp_path)

    assert names_in(tmp_path) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="not tried: only root can look at folders as somebody else")
def test_an_identity_that_is_only_not_ours_to_read_is_not_replaced(tmp_path: Path) -> None:
    """Every daemon that knows it would take the root for another one."""
    make_root(tmp_path)
    before = identity_of(tmp_path)
    for path in [*tmp_path.parents[: len(tmp_path.parents) - 2], tmp_path, tmp_path / ".batchbox"]:
        path.chmod(0o777)
    (tmp_path / ".batchbox" / "identity.json").chmod(0o600)

    def make() -> str:
        try:
            return str(make_root(tmp_path))
        except PermissionError as error:
            return str(error.strerror)

    assert as_nobody(make) == "Permission denied"
    assert identity_of(tmp_path) == before


def test_two_roots_have_two_identities(tmp_path: Path) -> None:
    make_root(tmp_path / "a")
    make_root(tmp_path / "b")

    assert identity_of(tmp_path / "a") != identity_of(tmp_path / "b")


async def test_a_claims_folder_that_has_gone_means_that_the_daemon_was_retired(site: Site) -> None:
    """Somebody else has taken its work over: nothing may be claimed, or sent, any more."""
    presence = Presence(site.root, INSTANCE)
    await presence.confirm()
    (site.path / "processing" / INSTANCE).rename(site.path / "processing" / "taken-over")

    with pytest.raises(RetiredError, match=f"processing/{INSTANCE} has gone"):
        await presence.confirm()

    assert names_in(site.path / "processing") == {"taken-over"}


async def test_a_lanes_claims_folder_that_has_gone_is_an_empty_one(site: Site) -> None:
    """What was in it has gone; who owns the other lanes' claims is as it was."""
    claim = site.claimed("a.md", lane=Lane("reports"))
    (site.claims_folder(claim.lane) / claim.name).unlink()
    site.claims_folder(claim.lane).rmdir()

    assert await site.inbox.facts([claim]) == [None]
    assert names_in(site.claims_folder(claim.lane)) == set()


async def test_only_a_folder_with_the_name_of_an_instance_is_another_daemons(site: Site) -> None:
    """What else lies there must not make us share with nobody for ever."""
    processing = site.path / "processing"
    (processing / ".DS_Store").touch()
    (processing / ".bb-check-0123456789abcdef.part").touch()
    (processing / "host-0000000a").touch()
    (processing / "host-0000000b").symlink_to(site.path)
    (processing / "lost+found").mkdir()
    await Presence(site.root, OTHER_INSTANCE).establish()

    with open_root(site.path) as root:
        assert other_instances(root, INSTANCE) == [OTHER_INSTANCE]


async def test_another_instances_folder_does_not_retire_us(site: Site) -> None:
    await Presence(site.root, OTHER_INSTANCE).establish()
    (site.path / "processing" / OTHER_INSTANCE).rmdir()

    await Presence(site.root, INSTANCE).confirm()


async def test_a_root_that_is_away_does_not_retire_anybody(site: Site) -> None:
    site.path.rename(site.path.with_name("away"))

    with pytest.raises(RootOfflineError):
        await Presence(site.root, INSTANCE).confirm()


async def test_the_heartbeat_is_touched_and_goes_on_a_clean_stop(site: Site) -> None:
    presence = Presence(site.root, INSTANCE)
    heartbeat = site.path / "processing" / INSTANCE / ".heartbeat"

    await presence.beat()
    os.utime(heartbeat, (1, 1))
    await presence.beat()

    assert heartbeat.stat().st_mtime > 1
    await presence.leave()
    await presence.leave()
    assert not heartbeat.exists()


async def test_a_heartbeat_that_is_a_link_is_not_followed(site: Site) -> None:
    target = site.path.with_name("target")
    os.symlink(target, site.path / "processing" / INSTANCE / ".heartbeat")

    with pytest.raises(OSError, match="heartbeat"):
        await Presence(site.root, INSTANCE).beat()

    assert target.name not in names_in(target.parent)


async def test_establishing_twice_changes_nothing(site: Site) -> None:
    claim = site.claimed("a.md")

    await Presence(site.root, INSTANCE).establish()

    assert await site.inbox.claims() == [claim]


def test_the_inbox_itself_is_a_lane_without_a_folder_of_its_own(tmp_path: Path) -> None:
    make_root(tmp_path)

    with open_root(tmp_path) as root, lane_folder(root, "outbox", INBOX_LANE, make=True) as outbox:
        assert os.path.samestat(os.fstat(outbox), (tmp_path / "outbox").stat())

    assert names_in(tmp_path / "outbox") == set()


@pytest.mark.parametrize("top", ["outbox", "rejected", "done"])
def test_a_lanes_folder_is_made_when_something_goes_there(tmp_path: Path, top: str) -> None:
    make_root(tmp_path)

    with open_root(tmp_path) as root, lane_folder(root, top, Lane("reports"), make=True):
        pass

    assert (tmp_path / top / "reports").is_dir()


def test_a_lane_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    make_root(tmp_path / "root")
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "root" / "outbox" / "reports")

    with (
        open_root(tmp_path / "root") as root,
        pytest.raises(OSError, match="reports"),
        lane_folder(root, "outbox", Lane("reports"), make=True),
    ):
        pass


def test_claims_are_made_only_where_this_instance_is_at_home(tmp_path: Path) -> None:
    make_root(tmp_path)

    with open_root(tmp_path) as root, pytest.raises(RetiredError), claims_folder(root, INSTANCE, INBOX_LANE):
        pass

    assert names_in(tmp_path / "processing") == set()


def test_a_new_instance_has_a_name_that_a_folder_can_have_and_no_other_has() -> None:
    names = {new_instance() for _ in range(50)}

    assert len(names) == 50
    assert all("/" not in name and name[0] not in ".~_" and len(os.fsencode(name)) < 100 for name in names)


async def test_the_right_identity_is_asked_for_before_anything_is_made(site: Site) -> None:
    stranger = Root(site.path, identity="another")

    with pytest.raises(RootOfflineError):
        await Presence(stranger, OTHER_INSTANCE).establish()

    assert names_in(site.path / "processing") == {INSTANCE}
