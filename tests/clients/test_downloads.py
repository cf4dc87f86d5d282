"""Files that come into the inbox under another name first: browsers' downloads, and rsync's copies."""

from functools import partial

import pytest

from e2e.site import until

from .programs import needs, running
from .share import Lane, Share

pytestmark = pytest.mark.asyncio(loop_scope="module")

BROWSERS = (
    "Unconfirmed 471147.crdownload",
    "page.md.crdownload",
    "mB3vXq2Z.md.part",
    "page.md.opdownload",
    "page.md.partial",
    "page.md.download",
)


async def test_a_browser_that_writes_beside(impatient: Share) -> None:
    """However long it takes, what has come so far is neither taken nor given up."""

    async def download(lane: Lane, temporary: str) -> None:
        page = lane.text("page.md")
        half = len(page.content) // 2
        with (lane.inbox / temporary).open("wb", buffering=0) as file:
            file.write(page.content[:half])
            await impatient.outlast()
            file.write(page.content[half:])
        (lane.inbox / temporary).rename(lane.inbox / page.name)
        await lane.receives(page)

    await impatient.at_once("beside", {name: partial(download, temporary=name) for name in BROWSERS})


async def test_a_browser_that_reserves_the_name(lane: Lane) -> None:
    """Firefox and others put an empty file where the whole one will be."""
    page, other = lane.text("page.md"), lane.text("other.md")
    reserved, temporary = lane.inbox / page.name, lane.inbox / "mB3vXq2Z.md.part"
    reserved.touch()
    page.write(lane.inbox, name=temporary.name)

    other.write(lane.inbox)
    await lane.receives(other, left=[reserved.name, temporary.name])
    temporary.replace(reserved)

    await lane.receives(other, page)


@needs("rsync")
async def test_an_rsync_that_stands_still(impatient: Share) -> None:
    async def copy(lane: Lane, options: str) -> None:
        page = lane.text("page.md", line_count=12_000)
        path = page.write(lane.desk)
        async with running("rsync", *options.split(), "--bwlimit=1000K", path, f"{lane.inbox}/") as run:
            await until(lambda: any(lane.inbox.iterdir()), "rsync has begun")
            run.stop()
            await impatient.outlast()
            run.go_on()
            await run.ends()
        await lane.receives(page)

    ways = ("-t", "-t --partial-dir=.rsync-partial", "-t --delay-updates")
    await impatient.at_once("rsync", {options: partial(copy, options=options) for options in ways})
