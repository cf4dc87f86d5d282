import errno
import os
import shutil
import threading
from pathlib import Path

import anyio
import pytest

from batchbox.errors import RootOfflineError
from batchbox.folders.layout import make_root
from batchbox.folders.root import Root, exists, folder, make_folder, open_root, read_identity, write_all

from .site import Site, identity_of

IDENTITY = Path(".batchbox") / "identity.json"


def descriptor_count() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/dev/fd"))


async def works(root: Root) -> bool:
    """Say whether a group of operations can be run."""
    try:
        return await root.run(lambda descriptor: exists("inbox", parent=descriptor))
    except RootOfflineError:
        return False


async def test_a_root_that_was_moved_away_is_offline_and_comes_back_by_itself(site: Site) -> None:
    away = site.path.with_name("away")
    site.path.rename(away)

    with pytest.raises(RootOfflineError, match=r"cannot be opened .*Is it mounted\?"):
        await site.root.run(lambda descriptor: exists("inbox", parent=descriptor))
    away.rename(site.path)

    assert await works(site.root)


async def test_an_empty_folder_in_the_roots_place_is_not_the_root(site: Site) -> None:
    """That is what a share looks like that is not mounted."""
    site.path.rename(site.path.with_name("away"))
    os.mkdir(site.path)

    with pytest.raises(RootOfflineError, match="not the folder that batchbox worked on"):
        await site.root.run(lambda descriptor: make_folder(descriptor, "inbox"))

    assert list(site.path.iterdir()) == []


async def test_another_root_in_its_place_is_left_alone_until_the_right_one_is_back(site: Site) -> None:
    away = site.path.with_name("away")
    site.path.rename(away)
    make_root(site.path)

    assert not await works(site.root)
    shutil.rmtree(site.path)
    away.rename(site.path)
    assert await works(site.root)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'"id"', b"null", b"\xff\xfe", b'{"id": "another"}'])
async def test_a_root_whose_identity_cannot_be_read_is_offline(site: Site, content: bytes) -> None:
    (site.path / IDENTITY).write_bytes(content)

    assert not await works(site.root)


async def test_an_identity_that_is_a_link_is_not_followed(site: Site) -> None:
    """Whoever could put the link there could make any folder pass for ours."""
    elsewhere = site.path.with_name("identity.json")
    (site.path / IDENTITY).rename(elsewhere)
    os.symlink(elsewhere, site.path / IDENTITY)

    assert not await works(site.root)


async def test_a_root_that_is_reached_through_a_link_is_the_same_root(site: Site) -> None:
    link = site.path.with_name("link")
    os.symlink(site.path, link)

    assert await works(Root(link, identity=identity_of(site.path)))


@pytest.mark.parametrize(
    "names", [("inbox",), ("missing",), ("inbox", "missing"), ("link",), (".batchbox", "identity.json")]
)
async def test_a_group_that_fails_leaves_no_descriptor_open(site: Site, names: tuple[str, ...]) -> None:
    """An open descriptor would keep the share from being unmounted."""
    os.symlink("inbox", site.path / "link")
    before = descriptor_count()

    with pytest.raises((OSError, ArithmeticError)):
        await site.root.run(lambda descriptor: open_and_fail(descriptor, *names))

    assert descriptor_count() == before


def open_and_fail(descriptor: int, *names: str) -> None:
    """Open a folder, and fail inside."""
    with folder(descriptor, *names):
        raise ArithmeticError


@pytest.mark.parametrize("names", [("link",), ("link", "reports"), ("inbox", "..link")])
async def test_no_folder_is_reached_through_a_link(site: Site, names: tuple[str, ...]) -> None:
    (site.path / "inbox" / "reports").mkdir()
    os.symlink("inbox", site.path / "link")
    os.symlink("reports", site.path / "inbox" / "..link")

    with open_root(site.path) as descriptor, pytest.raises(OSError, match="link") as caught, folder(descriptor, *names):
        pass

    assert caught.value.errno in {errno.ENOTDIR, errno.ELOOP}


async def test_groups_run_one_at_a_time_and_a_hung_one_is_seen(site: Site) -> None:
    let_go = threading.Event()
    order: list[str] = []

    def hang(_: int) -> None:
        let_go.wait(10)
        order.append("first")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.root.run, hang)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(site.root.run, lambda _: order.append("second"))
        await anyio.wait_all_tasks_blocked()
        assert site.root.is_busy
        assert order == []
        let_go.set()

    assert order == ["first", "second"]
    assert not site.root.is_busy


async def test_a_hung_group_can_be_left_behind(site: Site) -> None:
    """A system call on a share may never return, and the service must stop all the same."""
    let_go = threading.Event()

    with anyio.move_on_after(0.05) as scope:
        await site.root.run(lambda _: let_go.wait(10))
    let_go.set()

    assert scope.cancelled_caught


def test_a_root_without_an_identity_has_none(tmp_path: Path) -> None:
    with open_root(tmp_path) as descriptor:
        assert read_identity(descriptor) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"[" * 4000, b"\xff", b'{"id"'])
def test_what_holds_no_id_is_no_identity(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".batchbox").mkdir()
    (tmp_path / ".batchbox" / "identity.json").write_bytes(content)

    with open_root(tmp_path) as descriptor:
        assert read_identity(descriptor) is None


def test_a_pipe_in_the_identitys_place_keeps_nobody_waiting(tmp_path: Path) -> None:
    """There is nobody at its other end."""
    (tmp_path / ".batchbox").mkdir()
    os.mkfifo(tmp_path / ".batchbox" / "identity.json")

    with open_root(tmp_path) as descriptor:
        asked = threading.Thread(target=read_identity, args=(descriptor,), daemon=True)
        asked.start()
        asked.join(10)

        assert not asked.is_alive()


def test_what_a_pipe_tells_is_no_identity(tmp_path: Path) -> None:
    """It is told once."""
    (tmp_path / ".batchbox").mkdir()
    os.mkfifo(tmp_path / ".batchbox" / "identity.json")
    pipe = os.open(tmp_path / ".batchbox" / "identity.json", os.O_RDWR)
    os.write(pipe, b'{"id": "one"}')

    with open_root(tmp_path) as descriptor:
        found = read_identity(descriptor)
    os.close(pipe)

    assert found is None


def test_even_a_dangling_link_takes_its_name(tmp_path: Path) -> None:
    os.symlink("nowhere", tmp_path / "link")

    with open_root(tmp_path) as descriptor:
        assert exists("link", parent=descriptor)
        assert not exists("other", parent=descriptor)


def test_all_is_written_even_to_a_pipe_that_takes_a_little_at_a_time() -> None:
    reading, writing = os.pipe()
    data = os.urandom(1_000_000)
    received = bytearray()

    def receive() -> None:
        while piece := os.read(reading, 4096):
            received.extend(piece)

    reader = threading.Thread(target=receive)
    reader.start()
    write_all(writing, [data[:10], b"", data[10:]])
    os.close(writing)
    reader.join()
    os.close(reading)

    assert received == data
