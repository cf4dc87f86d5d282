"""Files that `rsync` brings, from the same machine and over SSH."""

from functools import partial

import pytest

from .openssh import OpenSsh
from .programs import call, needs, running
from .share import SLOW_BYTES_PER_SECOND, Lane, Share

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs("rsync")]

MANY = 60
SLOW = "--bwlimit=1500K"
"""In place it writes 256 KiB at once, here every sixth of a second."""


async def test_a_folder_full(share: Share) -> None:
    async def copy(lane: Lane, options: str) -> None:
        drops = [lane.text(f"page-{number}.md", line_count=1 + number) for number in range(MANY)]
        for drop in drops:
            drop.write_old(lane.desk)
        await call("rsync", *options.split(), f"{lane.desk}/", f"{lane.inbox}/")
        await lane.receives(*drops)

    ways = ("-a", "-rt --inplace", "-a --partial", "-a --delay-updates", "-r --whole-file --ignore-times")
    await share.at_once("folder", {options: partial(copy, options=options) for options in ways})


async def test_a_slow_one(share: Share) -> None:
    """Under a temporary name or its own, growing or allocated from the first, for longer than `quiet`."""

    async def copy(lane: Lane, options: str) -> None:
        slow = lane.text("slow.md", line_count=18_000)
        path = slow.write_old(lane.desk)
        await call("rsync", *options.split(), SLOW, path, f"{lane.inbox}/")
        await lane.receives(slow)

    ways = ("-t", "-t --inplace", "-t --inplace --preallocate", "--partial", "--fsync -p")
    await share.at_once("slow", {options: partial(copy, options=options) for options in ways})


@needs("sshd", "ssh", "ssh-keygen")
async def test_over_ssh(openssh: OpenSsh, lane: Lane) -> None:
    slow = lane.text("slow.md", line_count=8000)
    path = slow.write_old(lane.desk)

    with openssh.line.slowed(bytes_per_second=SLOW_BYTES_PER_SECOND // 2):
        await call("rsync", "-e", openssh.remote_shell(), "-t", path, openssh.at(lane.inbox) + "/")

    await lane.receives(slow)


async def test_a_document_that_is_interrupted_and_resumed(share: Share) -> None:
    """Interrupted, it leaves half a JSON document under the name itself; only the whole one is taken."""

    async def interrupt_and_resume(lane: Lane, options: str) -> None:
        broken, other = lane.document("broken.json", line_count=12_000), lane.text("other.md")
        path = broken.write(lane.desk)
        async with running("rsync", "--partial", "--inplace", SLOW, path, f"{lane.inbox}/") as run:
            await lane.has_part_of(broken)
            run.kill()
        other.write(lane.inbox)
        await lane.receives(other, left=["broken.json"])
        await call("rsync", *options.split(), path, f"{lane.inbox}/")
        await lane.receives(other, broken)

    ways = ("--partial", "--append", "--append-verify", "--inplace")
    await share.at_once("resumed", {options: partial(interrupt_and_resume, options=options) for options in ways})
