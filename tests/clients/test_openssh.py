"""Files that come over SSH, from `sftp` and `scp` to a real OpenSSH server."""

from functools import partial

import pytest

from .openssh import OpenSsh
from .programs import call, needs, running
from .share import SLOW_BYTES_PER_SECOND, Lane, Share

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs("sshd", "ssh", "ssh-keygen", "sftp", "scp")]

MANY = 60
TEMPORARY = "note.uploading"
"""Nobody knows this name for a temporary one."""


async def sftp(server: OpenSsh, *commands: str, lane: Lane) -> str:
    """Run `sftp` to its end; return what it wrote."""
    script = server.script(f'cd "{lane.inbox}"', *commands)
    return await call("sftp", *server.options(), "-b", script, server.host, cwd=lane.desk)


async def test_many_with_put(openssh: OpenSsh, lane: Lane) -> None:
    drops = [lane.text(f"page {number}.md", line_count=1 + number) for number in range(MANY)]
    for drop in drops:
        drop.write(lane.desk)

    await sftp(openssh, "put *", lane=lane)

    await lane.receives(*drops)


async def test_a_rename_after_the_put(share: Share, openssh: OpenSsh) -> None:
    """Renamed by the server at one stroke, or as old servers do: by a second link, and the first removed."""

    async def put_and_rename(lane: Lane, rename: str) -> None:
        note = lane.text("note.md")
        note.write(lane.desk)
        await sftp(openssh, f"put note.md {TEMPORARY}", f"{rename} {TEMPORARY} note.md", lane=lane)
        await lane.receives(note)

    await share.at_once(
        "renamed", {rename: partial(put_and_rename, rename=rename) for rename in ("rename", "rename -l")}
    )


async def test_a_put_that_keeps_times_and_syncs(openssh: OpenSsh, lane: Lane) -> None:
    """A file that claims to be old is no more finished than another."""
    old = lane.text("old.md", line_count=8000)
    old.write_old(lane.desk)

    with openssh.line.slowed(bytes_per_second=SLOW_BYTES_PER_SECOND // 2):
        await sftp(openssh, "put -pf old.md", lane=lane)

    await lane.receives(old)


async def test_a_document_that_is_put_on_with_reput(openssh: OpenSsh, lane: Lane) -> None:
    """A connection is lost in the middle of a JSON document; it is not taken before the rest has come."""
    broken, other = lane.document("broken.json", line_count=12_000), lane.text("other.md")
    broken.write(lane.desk)
    other.write(lane.desk)

    with openssh.line.slowed(bytes_per_second=SLOW_BYTES_PER_SECOND):
        script = openssh.script(f'cd "{lane.inbox}"', "put broken.json")
        async with running("sftp", *openssh.options(), "-b", script, openssh.host, cwd=lane.desk) as run:
            await lane.has_part_of(broken)
            await openssh.line.cut()
            await run.ends(code=None)
    await sftp(openssh, "put other.md", lane=lane)
    await lane.receives(other, left=["broken.json"])
    await sftp(openssh, "reput broken.json", lane=lane)

    await lane.receives(other, broken)


async def test_a_file_that_is_removed_at_once(openssh: OpenSsh, lane: Lane) -> None:
    """What its owner could still remove is not sent."""
    kept, regretted = lane.text("kept.md"), lane.text("regretted.md")
    kept.write(lane.desk)
    regretted.write(lane.desk)

    said = await sftp(openssh, "put regretted.md", "put kept.md", "-rm regretted.md", lane=lane)

    was_too_late = "No such file" in said
    await lane.receives(kept, *([regretted] if was_too_late else []))


async def test_many_with_scp(openssh: OpenSsh, lane: Lane) -> None:
    drops = [lane.text(f"letter-{number}.txt", line_count=1 + number) for number in range(MANY)]
    files = [drop.write(lane.desk) for drop in drops]

    await call("scp", *openssh.options(), *files, openssh.at(lane.inbox))

    await lane.receives(*drops)


async def test_a_slow_scp(share: Share, openssh: OpenSsh) -> None:
    """Over SFTP as today and over the protocol of old; it writes under the file's own name, for longer than `quiet`."""

    async def copy(lane: Lane, protocol: str) -> None:
        slow = lane.text("slow.md", line_count=6000)
        path = slow.write_old(lane.desk)
        await call("scp", *openssh.options(), protocol, "-p", path, openssh.at(lane.inbox))
        await lane.receives(slow)

    with openssh.line.slowed(bytes_per_second=SLOW_BYTES_PER_SECOND // 2):
        await share.at_once("scp", {protocol: partial(copy, protocol=protocol) for protocol in ("-s", "-O")})
