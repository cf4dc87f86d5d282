"""Writers that pause for longer than `quiet`, so that half their file is claimed, and then go on writing into it.

They write into a file that is open, and a rename does not close it: what they add arrives in processing/. As long as
the batch has not been sent the file is seen to have changed, settles again, and is sent once, whole.
"""

from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from e2e.site import until
from forking import ForkServer

from .openssh import OpenSsh
from .programs import Run, needs, running
from .samba import Samba
from .share import SLOW_BYTES_PER_SECOND, Drop, Lane, Share, open_share

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW_SECONDS = 1.5
"""How long a request waits for others before it is sent. A pause ends as soon as the half is claimed."""
RSYNC_FAILED_TO_SET_TIMES = 23


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def share(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> AsyncIterator[Share]:
    """Run a daemon that gathers requests for longer than it takes to hold a file for finished."""
    async with open_share(tmp_path_factory.mktemp("share"), forks, window={"max_wait": WINDOW_SECONDS}) as opened:
        yield opened


async def pause(run: Run, lane: Lane, drop: Drop) -> None:
    """Stop a client in the middle of a file until the half is claimed."""
    await lane.has_part_of(drop)
    run.stop()
    await until(lane.claims, "the half is claimed")
    run.go_on()


@needs("cp", "dd", "tee")
async def test_a_pipe_that_dries_up(share: Share) -> None:
    async def write(lane: Lane, command: str) -> None:
        slow = lane.text("slow.md")
        half = len(slow.content) // 2
        program, *arguments = command.format(target=lane.inbox / slow.name).split()
        async with running(program, *arguments, fed=True) as run:
            await run.feed(slow.content[:half])
            await until(lane.claims, "the half is claimed")
            await run.feed(slow.content[half:])
            await run.ends()
        await lane.receives(slow)

    commands = ("tee {target}", "tee -a {target}", "cp /dev/stdin {target}", "dd bs=1k status=none of={target}")
    await share.at_once("pipe", {command: partial(write, command=command) for command in commands})


@needs("rsync")
async def test_rsync_that_writes_in_place(lane: Lane) -> None:
    """It cannot find the name again to give it its time, and says so; the content has arrived all the same."""
    slow = lane.text("slow.md", line_count=18_000)
    path = slow.write(lane.desk)

    async with running("rsync", "--inplace", "--bwlimit=1500K", path, f"{lane.inbox}/") as run:
        await pause(run, lane, slow)
        await run.ends(code=RSYNC_FAILED_TO_SET_TIMES)

    await lane.receives(slow)


@needs("sshd", "ssh", "ssh-keygen", "sftp", "scp")
async def test_scp_and_sftp(share: Share, openssh: OpenSsh) -> None:
    async def copy(lane: Lane, command: str) -> None:
        slow = lane.text("slow.md", line_count=12_000)
        path = slow.write(lane.desk)
        script = openssh.script(f"put {path} {lane.inbox}/")
        program, *arguments = command.split()
        ends = ["-b", str(script), openssh.host] if program == "sftp" else [str(path), openssh.at(lane.inbox)]
        async with running(program, *openssh.options(), *arguments, *ends) as run:
            await pause(run, lane, slow)
            await run.ends()
        await lane.receives(slow)

    commands = ("sftp", "scp -s", "scp -O")
    with openssh.line.slowed(bytes_per_second=SLOW_BYTES_PER_SECOND // 2):
        await share.at_once("ssh", {command: partial(copy, command=command) for command in commands})


@needs("smbd", "smbclient", root=True)
async def test_a_samba_client(samba: Samba, lane: Lane) -> None:
    slow = lane.text("slow.md", line_count=12_000)
    slow.write(lane.desk)

    with samba.line.slowed(bytes_per_second=SLOW_BYTES_PER_SECOND // 2):
        async with samba.client(f"cd {lane.name}", "put slow.md", cwd=lane.desk) as run:
            await pause(run, lane, slow)
            await run.ends()

    await lane.receives(slow)
