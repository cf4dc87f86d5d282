"""The fork server: its children are what a process that is started for real would be."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from forking import Child, ForkServer

SPELLED_OUT = [sys.executable, "-m", "batchbox"]

Spawn = Callable[..., Child]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "written"


@pytest.fixture
def spawn(forks: ForkServer, tmp_path: Path, written: Path) -> Spawn:
    """Start a command whose standard streams go into a file."""

    def start(*arguments: str, program: Sequence[str] | None = None, **variables: str) -> Child:
        own = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "states")}  # what is made is made in there
        environment = {"PATH": os.environ["PATH"], **own, **variables}
        with written.open("w") as file:
            return forks.spawn(
                arguments,
                program=program,
                environment=environment,
                cwd=tmp_path,
                stdout=file.fileno(),
                stderr=file.fileno(),
            )

    return start


def _wait_for(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    "arguments", [["--version"], ["status"], ["config", "--nonsense"], ["init", "one", "--config", "one.toml"]]
)
def test_a_child_says_and_does_what_a_process_started_for_real_does(
    spawn: Spawn, written: Path, arguments: Sequence[str]
) -> None:
    for_real = (spawn(*arguments, program=SPELLED_OUT).wait(timeout_seconds=30), written.read_text())
    forked = (spawn(*arguments).wait(timeout_seconds=30), written.read_text())

    assert forked[0] == for_real[0]
    assert forked[1].splitlines()[-1:] == for_real[1].splitlines()[-1:]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9), (signal.SIGHUP, -1)]
)
def test_signals_reach_a_child_and_its_end_is_reported(
    spawn: Spawn, written: Path, number: signal.Signals, code: int
) -> None:
    child = spawn("simulate")
    _wait_for(written.read_text)
    assert child.poll() is None

    child.send_signal(number)

    assert child.wait(timeout_seconds=20) == code
    assert child.poll() == code
    assert not _is_there(child.pid)


async def test_the_end_can_be_awaited(spawn: Spawn) -> None:
    child = spawn("--version")

    assert await child.ended() == 0
    assert await child.ended() == 0


def test_no_variable_of_one_child_is_seen_by_another(spawn: Spawn, written: Path, tmp_path: Path) -> None:
    spawn("config", BATCHBOX_CONFIG=str(tmp_path / "first.toml")).wait(timeout_seconds=20)
    first = written.read_text()

    spawn("config", BATCHBOX_CONFIG=str(tmp_path / "second.toml")).wait(timeout_seconds=20)

    assert "first.toml" in first
    assert "second.toml" in written.read_text()
    assert "first.toml" not in written.read_text()


def test_what_python_reads_as_it_starts_is_refused_where_nothing_starts(spawn: Spawn) -> None:
    with pytest.raises(AssertionError, match="PYTHONIOENCODING"):
        spawn("--version", PYTHONIOENCODING="ascii")


def test_closing_it_leaves_no_child_behind(tmp_path: Path) -> None:
    """Nor does the death of the tests, which closes it too."""
    address = tmp_path / "address"
    with ForkServer() as server, address.open("w") as file:
        child = server.spawn(["simulate"], environment={}, cwd=tmp_path, stdout=file.fileno())
        _wait_for(address.read_text)

    assert not _is_there(child.pid)


def test_the_mask_and_the_session_are_as_asked_for(forks: ForkServer, tmp_path: Path, written: Path) -> None:
    with written.open("w") as file:
        child = forks.spawn(
            [],
            program=["sh", "-c", "umask; ps -o sid= -p $$; kill -TERM $$"],
            environment={"PATH": os.environ["PATH"]},
            cwd=tmp_path,
            stdout=file.fileno(),
            umask=0o027,
            new_session=True,
        )

    assert child.wait(timeout_seconds=20) == -signal.SIGTERM
    assert written.read_text().split() == ["0027", str(child.pid)]
