"""`batchbox check`: all that would keep the daemon from working, at once, each with the fix."""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from batchbox.simulator import Call, Fault, FaultKind, Simulator
from batchbox.store import open_store
from batchbox.store.meta import Fact
from batchbox.store.state_folder import locked

from .bench import Home, obeys_modes

Told = Any
"""Any: what JSON can hold, a recursive type."""

WHOLE = {"settings", "root", "state", "key"}
"""What there is to tell of an inbox without lanes and files."""


def told(home: Home, *arguments: str, **variables: str) -> Told:
    """Return what `check --json` says, the level and subject of each finding with its text."""
    done = home.call("check", "--json", "--config", str(home.config), *arguments, as_root=True, anew=False, **variables)
    assert not done.stderr
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["ok"] else 1)
    return answer


def offline(home: Home) -> Told:
    return told(home, "--offline", ANTHROPIC_API_KEY="key")


async def online(home: Home, **variables: str) -> Told:
    """Ask the simulator, which is served by this very process."""
    return await anyio.to_thread.run_sync(partial(told, home, **{"ANTHROPIC_API_KEY": "key", **variables}))


def texts(answer: Told, level: str) -> Sequence[str]:
    return [f"{one['subject']}: {one['fact']} -> {one['fix']}" for one in answer["findings"] if one["level"] == level]


def simulated(simulator: Simulator, more: str = "") -> str:
    return f'[defaults]\nmodel = "claude-opus-5-5"\n[api]\nbase_url = "{simulator.base_url}"\n{more}'


def test_where_all_is_well_nothing_fails(home: Home) -> None:
    home.make()

    answer = offline(home)

    assert answer["ok"] is True
    assert {one["subject"] for one in answer["findings"]} == WHOLE
    assert {one["level"] for one in answer["findings"]} == {"ok"}
    assert answer.keys() == {"format", "ok", "findings"}
    assert all(one.keys() == {"level", "subject", "fact", "fix"} for one in answer["findings"])


def test_it_leaves_nothing_behind(home: Home) -> None:
    home.make()
    before = sorted(home.root.rglob("*"))

    offline(home)

    assert sorted(home.root.rglob("*")) == before


def test_it_may_be_run_beside_a_daemon(home: Home) -> None:
    home.make()

    with locked(home.state):
        answer = offline(home)

    assert answer["ok"] is True


def test_everything_that_is_wrong_is_told_at_once(home: Home) -> None:
    home.make("")
    home.state.chmod(0o755)
    (home.root / "outbox").rmdir()
    (home.root / "rejected").rmdir()

    answer = told(home, "--offline")

    failed = texts(answer, "fail")
    assert [text.partition(":")[0] for text in failed] == ["settings", "root", "root", "state", "key"]
    assert "[defaults] model" in failed[0]
    assert f"{home.root}/outbox is missing -> run `batchbox init {home.root}`" in failed[1]
    assert f"chmod 700 {home.state}" in failed[3]


def test_the_page_has_a_line_with_the_fix_for_each(home: Home) -> None:
    home.make()
    home.state.chmod(0o750)

    done = home.call("check", "--offline", "--config", str(home.config), anew=True, ANTHROPIC_API_KEY="key")

    assert done.returncode == 1
    assert f"fail  state       {home.state} has the mode 0750" in done.stdout
    assert f"-> chmod 700 {home.state}" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("0 warn, 1 fail")
    assert "\x1b" not in done.stdout


def test_every_problem_of_the_settings_is_a_finding(home: Home) -> None:
    home.config.write_text('[paths]\nroot = "relative"\n[windows]\n')

    answer = told(home, "--offline")

    failed = texts(answer, "fail")
    assert len(failed) == 3
    assert [key for key in ("[paths] root", "[paths] state", "[windows]") if key not in "".join(failed)] == []


def test_a_configuration_that_is_not_there_is_a_finding(home: Home) -> None:
    answer = told(home)

    assert "the configuration cannot be read" in texts(answer, "fail")[0]


def test_a_missing_key_is_told_with_the_three_ways(home: Home) -> None:
    home.make()

    answer = told(home, "--offline")

    (failed,) = texts(answer, "fail")
    assert [way for way in ("key_file", "LoadCredential=", "ANTHROPIC_API_KEY") if way not in failed] == []


def test_it_says_where_the_key_comes_from(home: Home) -> None:
    """From the first of the three that is there, as the daemon takes it."""
    home.make()
    folder = home.path / "credentials"
    folder.mkdir()
    (folder / "anthropic_api_key").write_text("of the service")
    (home.path / "key").write_text("of the file")
    key_in = {"ANTHROPIC_API_KEY": "of the environment"}

    environment = told(home, "--offline", **key_in)
    credential = told(home, "--offline", CREDENTIALS_DIRECTORY=str(folder), **key_in)
    home.write_config(f'[defaults]\nmodel = "claude-opus-5-5"\n[api]\nkey_file = "{home.path}/key"\n')
    file = told(home, "--offline", CREDENTIALS_DIRECTORY=str(folder), **key_in)

    assert "the environment variable ANTHROPIC_API_KEY" in texts(environment, "ok")[-1]
    assert "the service manager's credential" in texts(credential, "ok")[-1]
    assert f"{home.path}/key, which [api] key_file names" in texts(file, "ok")[-1]
    assert f"chmod o= {home.path}/key" in texts(file, "warn")[0]


def test_variables_that_are_not_obeyed_are_named(home: Home) -> None:
    home.make()

    answer = told(home, "--offline", ANTHROPIC_API_KEY="key", https_proxy="http://proxy.example.com")

    assert "not obeyed: https_proxy" in texts(answer, "warn")[0]


def make_a_file_of(path: Path) -> None:
    path.rmdir()
    path.write_text("")


def make_a_link_of(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("spoil", [make_a_file_of, make_a_link_of])
@pytest.mark.parametrize("name", ["inbox", "processing", "outbox", "rejected", "done"])
def test_what_is_not_a_folder_of_its_own_fails(home: Home, name: str, spoil: Callable[[Path], None]) -> None:
    home.make()
    spoil(home.root / name)

    answer = offline(home)

    assert [text for text in texts(answer, "fail") if f"{home.root}/{name} is not a folder" in text]


@pytest.mark.skipif(not obeys_modes(), reason="root may write everywhere, and there is no setpriv to change that")
@pytest.mark.parametrize("name", ["inbox", "processing", "outbox", "rejected", "done"])
def test_a_folder_that_cannot_be_written_fails(home: Home, name: str) -> None:
    home.make()
    (home.root / name).chmod(0o550)

    done = home.call("check", "--offline", "--config", str(home.config), as_root=False, ANTHROPIC_API_KEY="key")

    assert done.returncode == 1
    assert f"fail  root        {home.root}/{name} cannot be read and written (Permission denied)" in done.stdout


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/proc/self/mountinfo").exists(), reason="mounts: needs root on Linux"
)
def test_folders_on_two_file_systems_fail(home: Home) -> None:
    """A rename from one to the other is what a claim would need."""
    home.make()
    processing = home.root / "processing"
    if os.system(f"mount -t tmpfs none {processing}") != 0:  # noqa: S605 - a path of pytest's
        pytest.skip("this machine lets nobody mount")
    try:
        answer = offline(home)
    finally:
        os.system(f"umount {processing}")  # noqa: S605 - as above

    assert "cannot be renamed from inbox/ into processing/: two file systems" in "".join(texts(answer, "fail"))
    assert [*(home.root / "inbox").iterdir()] == []


def test_a_root_without_an_identity_fails(home: Home) -> None:
    home.make()
    (home.root / ".batchbox" / "identity.json").unlink()

    answer = offline(home)

    assert "it has no identity" in texts(answer, "fail")[0]


@pytest.mark.skipif(not obeys_modes(), reason="root may read everything, and there is no setpriv to change that")
def test_an_identity_that_is_not_ours_to_read_is_not_a_missing_one(home: Home) -> None:
    """`batchbox init` would not help."""
    home.make()
    (home.root / ".batchbox").chmod(0o000)

    done = home.call("check", "--offline", "--config", str(home.config), as_root=False, ANTHROPIC_API_KEY="key")

    assert f"{home.root}/.batchbox/identity.json cannot be read (Permission denied)" in done.stdout
    assert "batchbox init" not in done.stdout


@pytest.mark.parametrize(("name", "words"), [("file", "is not a folder -> choose another"), ("x" * 300, "too long")])
def test_a_root_that_no_mount_would_help_is_told_as_what_it_is(home: Home, name: str, words: str) -> None:
    home.make()
    (home.path / "file").touch()
    config = f'[paths]\nroot = "{home.path / name}"\nstate = "{home.state}"\n[defaults]\nmodel = "m"\n'
    home.config.write_text(config)

    (failed,) = texts(offline(home), "fail")

    assert failed.startswith(f"root: {home.path / name}")
    assert words in failed
    assert "mounted" not in failed


def test_a_root_that_is_not_there_fails_and_the_rest_is_still_checked(home: Home) -> None:
    home.make()
    home.root.rename(home.path / "away")

    answer = offline(home)

    assert "Is it mounted?" in texts(answer, "fail")[0]
    assert {one["subject"] for one in answer["findings"]} == WHOLE


async def test_another_root_than_the_one_of_the_database_fails(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        await store.meta.get_or_record(Fact.ROOT_IDENTITY, lambda: "another")

    answer = offline(home)

    assert "is not the root that this database has worked on" in texts(answer, "fail")[0]


def test_folders_that_strangers_may_enter_are_told(home: Home) -> None:
    """As on a share that knows no modes."""
    home.make()
    (home.root / "processing").chmod(0o2775)

    answer = offline(home)

    assert f"{home.root}/processing can be entered by every user" in texts(answer, "warn")[0]


def test_a_state_folder_that_is_missing_is_only_told(home: Home) -> None:
    home.make()
    home.state.rmdir()

    answer = offline(home)

    assert answer["ok"] is True
    assert "`batchbox run` makes it" in texts(answer, "warn")[0]


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs /proc to tell file systems apart")
def test_a_state_that_is_not_on_a_local_disk_fails(home: Home) -> None:
    home.make()
    home.config.write_text(f'[paths]\nroot = "{home.root}"\nstate = "/proc/batchbox"\n[defaults]\nmodel = "m"\n')

    answer = offline(home)

    assert "/proc/batchbox is on a network or FUSE file system" in texts(answer, "fail")[0]


async def test_the_api_is_reached_and_the_model_known(home: Home, simulator: Simulator) -> None:
    home.make(simulated(simulator))

    answer = await online(home)

    assert answer["ok"] is True
    assert texts(answer, "ok")[-2:] == [
        f"API: {simulator.base_url} can be reached, and takes the key -> None",
        "model: claude-opus-5-5: the API knows it; answers of up to 300000 tokens in batches -> None",
    ]
    assert "not the API itself" in texts(answer, "warn")[0]


async def test_a_model_that_the_api_does_not_know_fails(home: Home, simulator: Simulator) -> None:
    """Of the defaults or of a lane, each by its name."""
    home.make(simulated(simulator, '[lanes.reports]\nmodel = "claude-none-1"\nmax_tokens = 10\n'))

    answer = await online(home)

    (failed,) = texts(answer, "fail")
    assert failed.startswith("model: claude-none-1: the API does not know it")


async def test_an_api_that_is_overloaded_is_reached(home: Home, simulator: Simulator) -> None:
    home.make(simulated(simulator))
    simulator.faults.add(Fault(call=Call.LIST, kind=FaultKind.STATUS, status=529))

    answer = await online(home)

    assert answer["ok"] is True
    assert "the daemon waits for it" in texts(answer, "warn")[-1]


def test_an_api_that_cannot_be_reached_fails(home: Home) -> None:
    home.make('[defaults]\nmodel = "claude-opus-5-5"\n[api]\nbase_url = "http://127.0.0.1:9"\n')

    answer = told(home, ANTHROPIC_API_KEY="key")

    (failed,) = texts(answer, "fail")
    assert failed.startswith("API: http://127.0.0.1:9: ")
    assert "check the network" in failed


async def test_a_key_that_no_header_can_carry_fails(home: Home, simulator: Simulator) -> None:
    home.make(simulated(simulator))

    answer = await online(home, ANTHROPIC_API_KEY="two words")

    (failed,) = texts(answer, "fail")
    assert failed.startswith("API: the API key holds a space")
