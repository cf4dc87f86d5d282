import errno
import os
import stat
from pathlib import Path

import pytest

from batchbox.errors import ConfigurationError, FolderPermissionError, StateLockedError
from batchbox.folders.layout import new_instance
from batchbox.model import Instance
from batchbox.store.state_folder import INSTANCE_FILE, LOCK_FILE, instance_in, locked, make_state_folder


def test_a_state_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"

    assert make_state_folder(state)

    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_a_state_folder_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()

    assert not make_state_folder(tmp_path)

    assert (tmp_path / "kept").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may make every folder: run as another user to test this")
def test_a_state_folder_that_we_may_not_make_is_told_by_its_name(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(FolderPermissionError, match="the state folder cannot be made"):
        make_state_folder(tmp_path / "state")


def test_the_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(StateLockedError, match="another batchbox is running"), locked(tmp_path):
            pass
        with pytest.raises(StateLockedError), locked(tmp_path):
            pass


def test_the_lock_is_free_again_afterwards_even_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError), locked(tmp_path):
        raise ArithmeticError

    with locked(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()


def test_a_failure_inside_is_not_taken_for_a_lock_that_is_held(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), locked(tmp_path):
        raise BlockingIOError(errno.EAGAIN, "something else would block")


def test_an_instance_has_its_name_for_ever(tmp_path: Path) -> None:
    first = instance_in(tmp_path, lambda: Instance("host-00000001"))
    second = instance_in(tmp_path, lambda: Instance("host-00000002"))

    assert first == second == "host-00000001"
    assert {path.name for path in tmp_path.iterdir()} == {INSTANCE_FILE}


def test_a_name_that_was_being_written_in_a_crash_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / f"{INSTANCE_FILE}.part").write_text("host-000")

    assert instance_in(tmp_path, lambda: Instance("host-00000001")) == "host-00000001"
    assert instance_in(tmp_path, lambda: Instance("x")) == "host-00000001"


@pytest.mark.parametrize(
    "written", [b"", b"bad/../x", b"..", b"caf\xe9-00000001", b"host", b"host-0000000g", b"\n" * 10]
)
def test_what_is_no_name_of_an_instance_is_not_worked_under(tmp_path: Path, written: bytes) -> None:
    """It would become a path on the root."""
    (tmp_path / INSTANCE_FILE).write_bytes(written)

    with pytest.raises(ConfigurationError, match=f"^{tmp_path}/instance: .*like host-1a2b3c4d"):
        instance_in(tmp_path, lambda: Instance("host-00000001"))

    assert (tmp_path / INSTANCE_FILE).read_bytes() == written


def test_a_name_that_is_given_is_one(tmp_path: Path) -> None:
    first = instance_in(tmp_path, new_instance)

    assert instance_in(tmp_path, new_instance) == first
