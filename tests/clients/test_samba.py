"""Files that come over SMB, from `smbclient` to a real Samba server."""

from functools import partial

import pytest

from .programs import needs
from .samba import Samba
from .share import SLOW_BYTES_PER_SECOND, Lane, Share

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs("smbd", "smbclient", root=True)]

MANY = 150


async def test_a_put(samba: Samba, lane: Lane) -> None:
    report = lane.text("Annual report.md")
    report.write(lane.desk)

    await samba.does(f"cd {lane.name}", f'put "{report.name}"', cwd=lane.desk)

    await lane.receives(report)


async def test_many_with_mput(samba: Samba, lane: Lane) -> None:
    """A folder full of files in one session, as a person selects and drags them."""
    drops = [lane.text(f"page {number}.txt", line_count=1 + number) for number in range(MANY)]
    for drop in drops:
        drop.write(lane.desk)

    await samba.does(f"cd {lane.name}", "prompt", "mput *", cwd=lane.desk)

    await lane.receives(*drops)


async def test_a_large_file(samba: Samba, lane: Lane) -> None:
    """One that is written in many pieces, though without a pause."""
    large = lane.text("large.txt", line_count=12_000)
    large.write(lane.desk)

    await samba.does(f"cd {lane.name}", f"put {large.name}", cwd=lane.desk)

    await lane.receives(large)


async def test_a_rename_after_the_put(share: Share, samba: Samba) -> None:
    """Only the name it has in the end is taken, whether the name before is a known temporary one or not."""

    async def put_and_rename(lane: Lane, temporary: str) -> None:
        note, other = lane.text("note.md"), lane.text("other.md")
        note.write(lane.desk)
        other.write(lane.desk)
        await samba.does(f"cd {lane.name}", f"put note.md {temporary}", "put other.md", cwd=lane.desk)
        await lane.receives(other, left=[temporary])
        await samba.does(f"cd {lane.name}", f"rename {temporary} note.md", cwd=lane.desk)
        await lane.receives(other, note)

    names = ("note.md.tmp", "~note.md", "_note.md", "note.md.filepart", "note.uploading")
    await share.at_once("renamed", {name: partial(put_and_rename, temporary=name) for name in names})


async def test_a_name_that_is_put_again_at_once(samba: Samba, lane: Lane) -> None:
    """What is overwritten is never sent, or was sent whole; what is there in the end is sent once."""
    first, second = lane.text("twice.md", line_count=300), lane.text("twice.md", line_count=20)
    first.write(lane.desk, name="first")
    second.write(lane.desk, name="second")

    await samba.does(f"cd {lane.name}", "put first twice.md", "put second twice.md", cwd=lane.desk)

    await lane.receives(second, perhaps=[first])


async def test_a_name_that_is_put_again_later(samba: Samba, lane: Lane) -> None:
    """When the first has been answered, the same name is a new file."""
    first, second = lane.text("again.md"), lane.text("again.md")
    first.write(lane.desk, name="first")
    second.write(lane.desk, name="second")

    await samba.does(f"cd {lane.name}", "put first again.md", cwd=lane.desk)
    await lane.receives(first)
    await samba.does(f"cd {lane.name}", "put second again.md", cwd=lane.desk)

    await lane.receives(first, second)


async def test_a_file_that_is_deleted_at_once(samba: Samba, lane: Lane) -> None:
    """What its owner could still delete is not sent."""
    kept, regretted = lane.text("kept.md"), lane.text("regretted.md")
    kept.write(lane.desk)
    regretted.write(lane.desk)

    said = await samba.does(f"cd {lane.name}", "put regretted.md", "put kept.md", "del regretted.md", cwd=lane.desk)

    was_too_late = "NT_STATUS" in said
    await lane.receives(kept, *([regretted] if was_too_late else []))


async def test_a_slow_put(samba: Samba, lane: Lane) -> None:
    """A file that takes longer than `quiet` to come, in pieces that do not, is taken when it is still."""
    slow = lane.text("slow.md", line_count=12_000)
    slow.write(lane.desk)

    with samba.line.slowed(bytes_per_second=SLOW_BYTES_PER_SECOND):
        await samba.does(f"cd {lane.name}", "put slow.md", cwd=lane.desk)

    await lane.receives(slow)


async def test_a_document_whose_connection_is_lost(samba: Samba, lane: Lane) -> None:
    """Half a JSON document stays where it is, however long its writer is away; put again, it is taken."""
    broken, other = lane.document("broken.json", line_count=12_000), lane.text("other.md")
    broken.write(lane.desk)
    other.write(lane.desk)

    with samba.line.slowed(bytes_per_second=SLOW_BYTES_PER_SECOND):
        async with samba.client(f"cd {lane.name}", "put broken.json", cwd=lane.desk) as run:
            await lane.has_part_of(broken)
            await samba.line.cut()
            await run.ends(code=None)
    await samba.does(f"cd {lane.name}", "put other.md", cwd=lane.desk)
    await lane.receives(other, left=["broken.json"])
    await samba.does(f"cd {lane.name}", "put broken.json", cwd=lane.desk)

    await lane.receives(other, broken)
