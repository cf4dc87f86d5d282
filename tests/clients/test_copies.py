"""Files that are copied, moved, piped and appended to on the machine itself."""

import asyncio
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from .programs import call, needs, running
from .share import PAUSE_SECONDS, Lane, Share

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs("cp", "dd", "fallocate", "mv", "tee")]

MANY = 60
PIECES = 20
PIPES = (
    "dd bs=4k status=none of={target}",
    "dd bs=4k status=none conv=fsync oflag=append of={target}",
    "tee -a {target}",
    "cp /dev/stdin {target}",
)


@pytest.fixture
def elsewhere(lane: Lane) -> Iterator[Path]:
    """Return a folder on another file system than the inbox."""
    memory = Path("/dev/shm")  # noqa: S108 - a file system of its own on every Linux
    if not memory.is_dir() or memory.stat().st_dev == lane.inbox.stat().st_dev:
        pytest.skip("NOT TRIED: /dev/shm is no file system of its own here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


async def test_cp(share: Share) -> None:
    """Whatever the copy keeps of the original, an old modification time too."""

    async def copy(lane: Lane, options: str) -> None:
        drops = [lane.text(f"page {number}.md", line_count=1 + 10 * number) for number in range(MANY)]
        paths = [drop.write_old(lane.desk) for drop in drops]
        await call("cp", *options.split(), *paths, lane.inbox)
        await lane.receives(*drops)

    ways = ("", "-p", "--reflink=never --sparse=always", "--reflink=auto --sparse=never", "--preserve=all")
    await share.at_once("cp", {options: partial(copy, options=options) for options in ways})


async def test_cp_over_a_file_that_has_just_come(lane: Lane) -> None:
    """What is there in the end is sent once; what it replaced was sent whole, or not at all."""
    first, second = lane.text("same.md", line_count=2000), lane.text("same.md", line_count=30)

    await call("cp", first.write(lane.desk, name="first"), lane.inbox / "same.md")
    await call("cp", second.write(lane.desk, name="second"), lane.inbox / "same.md")

    await lane.receives(second, perhaps=[first])


async def test_mv_on_the_same_file_system(lane: Lane) -> None:
    drops = [lane.text(f"page {number}.md") for number in range(MANY)]
    paths = [drop.write_old(lane.desk) for drop in drops]

    await call("mv", *paths, lane.inbox)

    await lane.receives(*drops)


async def test_mv_from_another_file_system(lane: Lane, elsewhere: Path) -> None:
    """There it is a copy, under the name itself, which gets the time of the original when it is done."""
    drops = [lane.text(f"page {number}.md", line_count=1 + 20 * number) for number in range(MANY)]
    paths = [drop.write_old(elsewhere) for drop in drops]

    await call("mv", *paths, lane.inbox)

    await lane.receives(*drops)


async def test_a_slow_pipe(share: Share) -> None:
    """What is written as it comes, for longer than `quiet` and with pauses that are shorter, is taken when it ends."""

    async def write(lane: Lane, command: str) -> None:
        slow = lane.text("slow.md")
        size = len(slow.content) // PIECES + 1
        program, *arguments = command.format(target=lane.inbox / slow.name).split()
        async with running(program, *arguments, fed=True) as run:
            for start in range(0, len(slow.content), size):
                await run.feed(slow.content[start : start + size])
                await asyncio.sleep(PAUSE_SECONDS)
            await run.ends()
        await lane.receives(slow)

    await share.at_once("pipe", {command: partial(write, command=command) for command in PIPES})


async def test_lines_that_are_appended_by_one_program_each(lane: Lane) -> None:
    """A log that every line opens anew is one file as long as the lines come."""
    diary = lane.text("diary.txt", line_count=20)

    for line in diary.content.splitlines(keepends=True):
        async with running("tee", "-a", lane.inbox / diary.name, fed=True) as run:
            await run.feed(line)
            await run.ends()

    await lane.receives(diary)


async def test_a_file_that_has_its_full_size_before_its_content(lane: Lane) -> None:
    """As Windows copies: a text that ends in NULs is not finished, however long its writer pauses."""
    allocated, other = lane.text("allocated.md"), lane.text("other.md")
    path, target = allocated.write(lane.desk), lane.inbox / allocated.name
    half = len(allocated.content) // 2
    copy = ["status=none", f"if={path}", f"of={target}", "conv=notrunc", "iflag=skip_bytes,count_bytes"]

    await call("fallocate", "-l", str(len(allocated.content)), target)
    await call("dd", *copy, f"count={half}")
    other.write(lane.inbox)
    await lane.receives(other, left=[allocated.name])
    await call("dd", *copy, f"skip={half}", f"seek={half}", "oflag=seek_bytes")

    await lane.receives(other, allocated)
