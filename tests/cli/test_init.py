"""`batchbox init`: makes what is missing, keeps what exists."""

import json
import os
import stat
import tomllib
from pathlib import Path

import pytest

from batchbox.folders.layout import MODES
from batchbox.store import open_store
from batchbox.store.meta import Fact
from batchbox.store.state_folder import locked

from .bench import Home


def identity(root: Path) -> str:
    return str(json.loads((root / ".batchbox" / "identity.json").read_text())["id"])


def test_it_makes_folders_state_and_configuration(home: Home) -> None:
    done = home.call("init", str(home.root), "--config", str(home.config), "--model", "claude-opus-5-5", anew=True)

    settings = tomllib.loads(home.config.read_text())
    state = Path(settings["paths"]["state"])
    assert done.returncode == 0, done.stderr
    assert settings["defaults"] == {"model": "claude-opus-5-5"}
    assert settings["paths"]["root"] == str(home.root)
    assert {name: stat.S_IMODE((home.root / name).stat().st_mode) for name in MODES} == MODES
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert state.is_relative_to(home.path / "home" / "states")
    assert identity(home.root)


def test_what_it_made_is_what_check_and_config_accept(home: Home) -> None:
    home.call("init", str(home.root), "--config", str(home.config), "--model", "claude-opus-5-5")

    checked = home.call("check", "--offline", "--config", str(home.config), ANTHROPIC_API_KEY="key")

    assert checked.returncode == 0, checked.stdout


def test_a_second_time_nothing_changes(home: Home) -> None:
    home.call("init", str(home.root), "--config", str(home.config))
    before = (identity(home.root), home.config.read_bytes())

    done = home.call("init", "--config", str(home.config))

    assert done.returncode == 0, done.stderr
    assert "made" not in done.stdout
    assert (identity(home.root), home.config.read_bytes()) == before


def test_a_folder_that_is_missing_is_made_again(home: Home) -> None:
    home.make()
    (home.root / "outbox").rmdir()

    done = home.call("init", "--config", str(home.config))

    assert f"made   {home.root}/outbox/" in done.stdout
    assert (home.root / "outbox").is_dir()


def test_without_a_model_the_key_is_there_as_a_comment_and_a_person_is_told(home: Home) -> None:
    done = home.call("init", str(home.root), "--config", str(home.config))

    assert "\n# model = " in home.config.read_text()
    assert tomllib.loads(home.config.read_text())["defaults"] == {}
    assert "which `batchbox run` needs" in done.stdout


def test_it_names_the_ways_to_give_a_key_until_there_is_one(home: Home) -> None:
    home.make()

    without = home.call("init", "--config", str(home.config))
    with_key = home.call("init", "--config", str(home.config), ANTHROPIC_API_KEY="key")

    assert "ANTHROPIC_API_KEY" in without.stdout
    assert "ANTHROPIC_API_KEY" not in with_key.stdout


def test_another_root_than_the_configured_one_is_refused(home: Home) -> None:
    """Both are named, and nothing is made."""
    home.make()
    other = home.path / "other"

    done = home.call("init", str(other), "--config", str(home.config))

    assert done.returncode == 78
    assert str(other) in done.stderr
    assert str(home.root) in done.stderr
    assert not other.exists()


def test_the_configured_root_by_another_name_is_the_same(home: Home) -> None:
    home.make()
    (home.path / "link").symlink_to(home.root)

    done = home.call("init", "link", "--config", str(home.config))

    assert done.returncode == 0, done.stderr


def test_an_existing_configuration_is_checked_whole(home: Home) -> None:
    home.config.write_text(f'[paths]\nroot = "{home.root}"\n[window]\nmax_wait = "soon"\n')

    done = home.call("init", "--config", str(home.config))

    assert done.returncode == 78
    assert "[paths] state" in done.stderr
    assert "[window] max_wait" in done.stderr
    assert not home.root.exists()


def test_a_model_beside_a_configuration_that_names_another_is_not_dropped_in_silence(home: Home) -> None:
    home.make()

    done = home.call("init", "--config", str(home.config), "--model", "claude-sonnet-5")

    assert "its model is claude-opus-5-5, not claude-sonnet-5" in done.stdout


def test_it_works_beside_a_running_daemon(home: Home) -> None:
    home.make()

    with locked(home.state):
        done = home.call("init", "--config", str(home.config))

    assert done.returncode == 0, done.stderr


async def test_a_folder_where_the_share_is_not_mounted_gets_no_identity(home: Home) -> None:
    """The state knows another root: what is there now is an empty mount point."""
    home.make()
    async with open_store(home.state) as store:
        await store.meta.get_or_record(Fact.ROOT_IDENTITY, lambda: identity(home.root))
    home.root.rename(home.path / "unmounted")
    home.root.mkdir()

    done = home.call("init", "--config", str(home.config))

    assert done.returncode == 78
    assert "mount it first" in done.stderr
    assert [*home.root.iterdir()] == []


def test_there_is_no_root_without_a_configuration(home: Home) -> None:
    done = home.call("init", "--config", str(home.config))

    assert done.returncode == 2
    assert "ROOT is needed" in done.stderr


@pytest.mark.parametrize("name", ["with space", 'it\'s "quoted"', "наша папка 📁", "back\\slash", "-dash", "new\nline"])
def test_odd_names_come_back_from_the_configuration_as_they_were(home: Home, name: str) -> None:
    root = home.path / name

    done = home.call("init", "--config", str(home.config), "--", str(root))

    assert done.returncode == 0, done.stderr
    assert tomllib.loads(home.config.read_text())["paths"]["root"] == str(root)
    assert (root / "inbox").is_dir()
    assert "\nline" not in done.stdout


def test_a_relative_root_becomes_an_absolute_one(home: Home) -> None:
    done = home.call("init", "some/../where", "--config", "config.toml")

    assert done.returncode == 0, done.stderr
    assert tomllib.loads(home.config.read_text())["paths"]["root"] == os.path.realpath(home.path / "where")


def test_a_name_that_no_configuration_can_hold_is_refused(home: Home) -> None:
    done = home.call("init", b"caf\xe9", "--config", str(home.config))

    assert done.returncode == 78
    assert "caf\\xe9: the name is not UTF-8" in done.stderr


def test_a_root_that_would_hold_its_own_state_is_refused(home: Home) -> None:
    done = home.call("init", str(home.path / "home"), "--config", str(home.config))

    assert done.returncode == 78
    assert "inside this root" in done.stderr
    assert [*(home.path / "home").iterdir()] == []


def test_a_root_that_is_a_file_is_a_wrong_argument(home: Home) -> None:
    home.root.write_text("")

    done = home.call("init", str(home.root), "--config", str(home.config))

    assert done.returncode == 2
    assert "is a file" in done.stderr


def test_a_root_below_a_file_is_a_matter_of_the_configuration(home: Home) -> None:
    home.root.write_text("")

    done = home.call("init", str(home.root / "below"), "--config", str(home.config))

    assert done.returncode == 78
    assert "a part of its path is a file" in done.stderr


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder in which nobody may make anything: /sys")
def test_a_place_where_nothing_may_be_made_is_a_matter_of_permissions(home: Home) -> None:
    done = home.call("init", "/sys/batchbox-test", "--config", str(home.config))

    assert done.returncode == 77
    assert "/sys/batchbox-test: cannot be made" in done.stderr


def test_two_roots_of_one_user_have_a_state_each(home: Home) -> None:
    home.call("init", "one/box", "--config", "one.toml")
    home.call("init", "two/box", "--config", "two.toml")

    states = {tomllib.loads((home.path / name).read_text())["paths"]["state"] for name in ("one.toml", "two.toml")}

    assert len(states) == 2


def test_what_has_the_place_of_a_folder_is_named(home: Home) -> None:
    home.root.mkdir()
    (home.root / "done").touch()
    (home.root / "inbox").symlink_to(".")

    done = home.call("init", str(home.root), "--config", str(home.config))

    assert done.returncode == 78
    assert f"{home.root}/inbox, {home.root}/done: this has to be a folder" in done.stderr
    assert "Next:" not in done.stdout
    assert not home.config.exists()
