import resource
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchbox.report import STATUS_CHARACTERS_MAX, Notifier

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="abstract socket names exist on Linux alone")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with _listening(str(tmp_path / "notify")) as listener:
        yield listener


def _listening(address: str | bytes) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.settimeout(5)
    return listener


def _notifier(address: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": address}, process_id=1)


def test_each_message_arrives_as_one_datagram_in_the_protocols_words(manager: socket.socket) -> None:
    notifier = _notifier(manager.getsockname())

    taken = [notifier.ready(), notifier.status("3 batches"), notifier.watchdog(), notifier.stopping()]

    assert taken == [True] * 4
    assert [manager.recv(4096) for _ in range(4)] == [b"READY=1", b"STATUS=3 batches", b"WATCHDOG=1", b"STOPPING=1"]


@linux_only
def test_an_abstract_name_is_reached() -> None:
    name = f"batchbox-{uuid.uuid4()}"

    with _listening(b"\0" + name.encode()) as manager:
        taken = _notifier(f"@{name}").ready()

        assert taken
        assert manager.recv(4096) == b"READY=1"


@pytest.mark.parametrize(
    ("text", "datagram"),
    [
        ("one\nREADY=1", b"STATUS=one\\nREADY=1"),
        ("a\r\nb", b"STATUS=a\\r\\nb"),
        ("bad \udcff byte", b"STATUS=bad \\xff byte"),
        ("ü", "STATUS=ü".encode()),
    ],
)
def test_a_status_cannot_smuggle_in_a_second_message(manager: socket.socket, text: str, datagram: bytes) -> None:
    notifier = _notifier(manager.getsockname())

    notifier.status(text)

    assert manager.recv(4096) == datagram


def test_a_long_status_is_cut_to_what_the_service_manager_reads(manager: socket.socket) -> None:
    notifier = _notifier(manager.getsockname())

    notifier.status("\N{DESERT ISLAND}" * 3000)

    datagram = manager.recv(65536)
    assert datagram.decode() == "STATUS=" + "\N{DESERT ISLAND}" * STATUS_CHARACTERS_MAX
    assert len(datagram) <= 4096


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_where_nobody_listens_nothing_is_sent_and_nothing_is_left_to_do(environment: dict[str, str]) -> None:
    notifier = Notifier(environment, process_id=1)

    assert [notifier.ready(), notifier.status("x"), notifier.watchdog(), notifier.stopping()] == [True] * 4


def test_a_socket_that_is_not_there_is_not_fatal(tmp_path: Path) -> None:
    assert not _notifier(str(tmp_path / "none")).ready()


def test_an_address_that_is_too_long_is_not_fatal() -> None:
    assert not _notifier("/" + "x" * 4096).ready()


def test_a_socket_whose_owner_has_gone_is_not_fatal(manager: socket.socket) -> None:
    address = manager.getsockname()
    manager.close()

    assert not _notifier(address).ready()


def test_a_full_socket_neither_blocks_nor_raises_and_works_again_once_it_is_read(manager: socket.socket) -> None:
    notifier = _notifier(manager.getsockname())
    sent = 0
    while notifier.watchdog():
        sent += 1
        assert sent < 1_000_000, "the socket never filled up"

    for _ in range(sent):
        manager.recv(4096)

    assert notifier.ready()
    assert manager.recv(4096) == b"READY=1"


def test_a_process_without_a_free_descriptor_is_not_ended_by_a_message(manager: socket.socket) -> None:
    notifier = _notifier(manager.getsockname())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        taken = notifier.watchdog()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert not taken


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "120000000"}, 120.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "42"}, 0.5),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_the_watchdog_counts_only_when_it_is_meant_for_this_process(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(environment, process_id=42).watchdog_seconds == seconds
