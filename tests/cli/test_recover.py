"""`batchbox recover` where not everything is ours: each is named, and what can be recovered is."""

import json
from pathlib import Path

import pytest

from batchbox.store import open_store

from .bench import Home, obeys_modes
from .test_check import texts

CLAIM = "0123456789ab-0123456789abcdef~a.md"
DEAD, CLOSED, LOST = "dead-00000002", "closed-00000003", "lost-00000004"

needs_modes = pytest.mark.skipif(not obeys_modes(), reason="not tried: root may do everything, and there is no setpriv")


def make(home: Home) -> Path:
    """Make a root on which a dead instance has left a claim and a folder for manifests; return its folder."""
    home.make()
    (home.root / ".batchbox" / "batches" / DEAD).mkdir(parents=True)
    lane = home.root / "processing" / DEAD / "_"
    lane.mkdir(parents=True)
    (lane / CLAIM).write_text("hello")
    return lane.parent


def recover(home: Home, *arguments: str, as_root: bool = False) -> tuple[int, str]:
    """Run it as somebody to whom modes apply; return the exit code and what it said, in one line."""
    done = home.call(
        "recover", "--config", str(home.config), *arguments, as_root=as_root, ANTHROPIC_API_KEY="key", COLUMNS="1000"
    )
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_what_an_instance_has_left_is_counted(home: Home) -> None:
    """A folder in a claim's place is no file. What it had taken over counts, and so does what has lost its folder."""
    (make(home) / "_" / "folder").mkdir()
    taken = home.root / "processing" / DEAD / f".taken-{CLOSED}" / "_"
    taken.mkdir(parents=True)
    (taken / CLAIM).touch()
    for instance in (CLOSED, LOST):
        (home.root / ".batchbox" / "batches" / instance).mkdir()
        (home.root / ".batchbox" / "batches" / instance / "aaaaaaaa.jsonl").touch()

    code, said = recover(home, as_root=True)

    assert code == 0
    assert f"{DEAD}: stopped; 2 files taken, 1 batch open" in said
    assert f"{LOST}: its folder in processing/ has gone; 0 files taken, 1 batch open" in said
    assert f"{CLOSED}:" not in said


@needs_modes
async def test_a_folder_that_cannot_be_looked_at_hides_no_other(home: Home) -> None:
    make(home)
    async with open_store(home.state):
        pass
    closed = home.root / "processing" / CLOSED
    closed.mkdir(mode=0o000)

    page, asked, checked = (
        home.call(*command, "--config", str(home.config), as_root=False, ANTHROPIC_API_KEY="key", COLUMNS="1000").stdout
        for command in (["status"], ["status", "--json"], ["check", "--offline", "--json"])
    )

    assert json.loads(asked)["orphans"] == [
        {"instance": CLOSED, "silent_seconds": None, "files": None, "batches": None},
        {"instance": DEAD, "silent_seconds": None, "files": 1, "batches": 0},
    ]
    assert f"Not to be looked at: {CLOSED}. Whether it has left work behind is not known (Permission denied)." in page
    assert f"Left behind by {DEAD}: 1 file, 0 open batches;" in page
    warned = texts(json.loads(checked), "warn")
    assert any(f"{closed} cannot be looked at (Permission denied)" in text for text in warned)
    assert any(f"{DEAD} is not at work and has left 1 file and 0 open batches" in text for text in warned)


@pytest.mark.slow
@needs_modes
def test_others_are_recovered_beside_a_folder_that_cannot_be_looked_at(home: Home) -> None:
    """That one itself is not: whether its daemon lives is not known, even where it can be listed but not entered."""
    make(home)
    closed = home.root / "processing" / CLOSED
    closed.mkdir(mode=0o400)

    listed = recover(home)
    refused = recover(home, CLOSED)
    taken = recover(home, DEAD)

    assert listed[0] == 0
    assert f"{DEAD}: stopped; 1 file taken, 0 batches open" in listed[1]
    assert f"{CLOSED}: cannot be looked at (Permission denied)" in listed[1]
    assert refused[0] == 77
    assert f"batchbox: {closed}: " in refused[1]
    assert closed.exists()
    assert taken[0] == 0
    assert f"The files of {DEAD} are this machine's now." in taken[1]


@pytest.mark.slow
@needs_modes
def test_a_manifest_that_is_not_ours_to_read_is_named(home: Home) -> None:
    make(home)
    manifest = home.root / ".batchbox" / "batches" / DEAD / "aaaaaaaa.jsonl"
    manifest.touch(mode=0o000)

    code, said = recover(home, DEAD)

    assert code == 77
    assert "aaaaaaaa.jsonl: the user who runs this may not read or move it (Permission denied)" in said
    assert manifest.exists()


@pytest.mark.slow
@needs_modes
def test_a_claim_that_cannot_be_read_is_named(home: Home) -> None:
    """Nobody can tell what of it was sent; once it can be read, the recovery goes on."""
    claim = make(home) / "_" / CLAIM
    claim.chmod(0o000)

    code, said = recover(home, DEAD)
    (taken,) = (home.root / "processing").rglob(CLAIM)
    taken.chmod(0o644)
    again, told = recover(home)

    assert code == 1
    assert f"batchbox: {taken}: cannot be read, so nobody can tell what of it was sent." in said
    assert again == 0, told
    assert f"The files of {DEAD} are this machine's now." in told


def test_a_name_that_is_none_is_a_matter_of_usage(home: Home) -> None:
    make(home)

    code, said = recover(home, "", as_root=True)

    assert code == 2
    assert "leave it out to see which there are" in said


@pytest.mark.parametrize("written", [b"caf\xe9", b"bad/../x"])
def test_an_instance_that_is_no_name_is_told_by_every_command(home: Home, written: bytes) -> None:
    make(home)
    (home.state / "instance").write_bytes(written)

    calls = [
        home.call(*arguments, "--config", str(home.config), ANTHROPIC_API_KEY="key")
        for arguments in (["run"], ["recover"], ["check", "--offline"])
    ]

    assert [call.returncode for call in calls] == [78, 78, 1]
    for call in calls:
        assert f"{home.state}/instance: this should hold the name of this machine's folder" in call.stdout + call.stderr
        assert "Traceback" not in call.stderr
