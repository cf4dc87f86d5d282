"""How long manifests are kept: closed ones for their time, broken-off parts for less, open ones for ever."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from batchbox.folders.manifests import Manifests
from batchbox.model import Nonce

from .site import INSTANCE, OTHER_INSTANCE, Site, names_in

SECOND = timedelta(seconds=2)


async def pieces() -> AsyncIterator[bytes]:
    """Yield the pieces, as the database does."""
    yield b"head\n"


async def all_kinds(site: Site) -> tuple[Manifests, datetime]:
    """Make an open manifest, a closed one and a part; return the moment, by the disk's clock."""
    manifests = Manifests(site.root, INSTANCE)
    for nonce in ("aaaaaaaa", "bbbbbbbb"):
        await manifests.write(Nonce(nonce), pieces())
    await manifests.close(Nonce("bbbbbbbb"))
    part = site.path / ".batchbox" / "batches" / INSTANCE / "cccccccc.part"
    part.touch()
    return manifests, datetime.fromtimestamp(part.stat().st_mtime, UTC)


def kept(site: Site) -> set[str]:
    """Return the names of this instance's manifests."""
    return names_in(site.path / ".batchbox" / "batches" / INSTANCE)


async def test_what_is_young_is_kept(site: Site) -> None:
    manifests, now = await all_kinds(site)

    await manifests.tidy(closed_before=now - SECOND, parts_before=now - SECOND)

    assert kept(site) == {"aaaaaaaa.jsonl", "bbbbbbbb.jsonl.closed", "cccccccc.part"}


async def test_what_was_closed_long_ago_goes_and_what_is_open_stays_however_old_it_is(site: Site) -> None:
    manifests, now = await all_kinds(site)

    await manifests.tidy(closed_before=now + SECOND, parts_before=now - SECOND)

    assert kept(site) == {"aaaaaaaa.jsonl", "cccccccc.part"}


async def test_a_part_that_was_broken_off_goes(site: Site) -> None:
    manifests, now = await all_kinds(site)

    await manifests.tidy(closed_before=now - SECOND, parts_before=now + SECOND)

    assert kept(site) == {"aaaaaaaa.jsonl", "bbbbbbbb.jsonl.closed"}


async def test_its_age_counts_from_when_it_was_closed(site: Site) -> None:
    """A batch may have run for weeks."""
    manifests, now = await all_kinds(site)
    open_one = site.path / ".batchbox" / "batches" / INSTANCE / "aaaaaaaa.jsonl"
    os.utime(open_one, (0, 0))
    await manifests.close(Nonce("aaaaaaaa"))

    await manifests.tidy(closed_before=now - SECOND, parts_before=now - SECOND)

    assert "aaaaaaaa.jsonl.closed" in kept(site)


async def test_another_instances_manifests_are_not_ours_to_delete(site: Site) -> None:
    manifests, now = await all_kinds(site)
    folder = site.path / ".batchbox" / "batches" / OTHER_INSTANCE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dddddddd.jsonl.closed").touch()

    await manifests.tidy(closed_before=now + SECOND, parts_before=now + SECOND)

    assert names_in(folder) == {"dddddddd.jsonl.closed"}
