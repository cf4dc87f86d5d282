"""The files that make batchbox a service, judged by systemd's own tools where these are installed."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from batchbox.errors import ExitCode

SYSTEMD = Path(__file__).parent.parent / "systemd"
UNIT = SYSTEMD / "batchbox.service"
PROGRAM = "/opt/batchbox/bin/batchbox"

NEWER_THAN_252 = frozenset(
    {
        *("OpenFile", "MemoryKSM", "LogFilterPatterns", "RootEphemeral", "DelegateSubgroup", "ImportCredential"),
        *("RestartSteps", "RestartMaxDelaySec", "MemoryPressureWatch", "MemoryPressureThresholdSec"),
        *("SurviveFinalKillSignal", "CoredumpReceive", "MemoryZSwapWriteback", "WantsMountsFor", "BindLogSockets"),
        "PrivatePIDs",
    }
)
"""Options that systemd 252 ignores with no more than a line in the journal, so that nobody would notice."""


def _needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"NOT CHECKED: {tool} is not installed here")


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _options(path: Path) -> Mapping[str, Sequence[str]]:
    """Return every option of the unit with its values; one that is given twice has two."""
    options: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            options.setdefault(name, []).append(value)
    return options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "120"),
        ("ExecStart", f"{PROGRAM} run --config /etc/batchbox/config.toml"),
        ("LoadCredential", "anthropic_api_key:/etc/batchbox/anthropic_api_key"),
        ("User", "batchbox"),
        ("SupplementaryGroups", "batchbox-share"),
        ("UMask", "0007"),
        ("StateDirectory", "batchbox"),
        ("StateDirectoryMode", "0700"),
        ("ReadWritePaths", "-/srv/batchbox"),
        ("RequiresMountsFor", "/srv/batchbox"),
        ("Restart", "on-failure"),
        ("KillMode", "mixed"),
        ("OOMPolicy", "continue"),
        ("LimitCORE", "0"),
        ("ProtectSystem", "strict"),
        ("CapabilityBoundingSet", ""),
        ("NoNewPrivileges", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictNamespaces", "yes"),
    ],
)
def test_the_unit_says_once_and_exactly_what_the_service_relies_on(name: str, value: str) -> None:
    assert _options(UNIT)[name] == [value]


def test_what_needs_a_person_is_not_restarted() -> None:
    [codes] = _options(UNIT)["RestartPreventExitStatus"]

    assert {int(code) for code in codes.split()} == {ExitCode.PERMISSION, ExitCode.CONFIGURATION}


def test_the_unit_bounds_restarts_memory_tasks_and_the_stop() -> None:
    bounds = {"StartLimitIntervalSec", "StartLimitBurst", "MemoryMax", "TasksMax", "TimeoutStartSec", "TimeoutStopSec"}

    assert bounds <= _options(UNIT).keys()


def test_a_file_that_crashes_the_parser_is_put_aside_before_the_start_limit() -> None:
    [burst] = _options(UNIT)["StartLimitBurst"]

    assert int(burst) > 3


def test_system_calls_are_the_services_without_the_privileged_ones() -> None:
    assert _options(UNIT)["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]


def test_nothing_makes_owners_on_a_share_meaningless() -> None:
    assert not {"DynamicUser", "PrivateUsers"} & _options(UNIT).keys()


def test_the_unit_uses_nothing_that_systemd_252_would_silently_ignore() -> None:
    assert not NEWER_THAN_252 & _options(UNIT).keys()


def _verify(folder: Path, text: str) -> str:
    """Return what systemd has to say about a unit whose program is one that exists."""
    assert text.count(f"ExecStart={PROGRAM} ") == 1
    copy = folder / UNIT.name
    copy.write_text(text.replace(f"ExecStart={PROGRAM} ", f"ExecStart={sys.executable} "))
    answer = _run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy)
    return "\n".join(line for line in answer.stderr.splitlines() if UNIT.name in line)


@_needs("systemd-analyze")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    assert _verify(tmp_path, UNIT.read_text()) == ""


@_needs("systemd-analyze")
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("KillMode=", "KillMood="), ("WatchdogSec=120", "WatchdogSec=soon"), ("@privileged", "@privilege")],
)
def test_a_line_that_systemd_does_not_understand_would_be_noticed(tmp_path: Path, right: str, wrong: str) -> None:
    assert _verify(tmp_path, UNIT.read_text().replace(right, wrong)) != ""


def _exposure(unit: Path) -> subprocess.CompletedProcess[str]:
    return _run("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", unit)


@_needs("systemd-analyze")
def test_the_sandbox_leaves_an_exposure_of_1_5_at_most() -> None:
    answer = _exposure(UNIT)

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "Overall exposure level for batchbox.service" in answer.stdout


@_needs("systemd-analyze")
def test_a_weaker_sandbox_would_be_noticed(tmp_path: Path) -> None:
    weaker = tmp_path / UNIT.name
    weaker.write_text(UNIT.read_text().replace("RestrictNamespaces=yes\n", ""))

    answer = _exposure(weaker)

    assert answer.returncode != 0
    assert "Overall exposure level for batchbox.service" in answer.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED: the sandbox is Linux's")
def test_every_library_can_be_imported_where_memory_is_never_writable_and_executable() -> None:
    """MemoryDenyWriteExecute= does not break the interpreter or the compiled libraries.

    PR_SET_MDWE (65) with PR_MDWE_REFUSE_EXEC_GAIN (1) is the kernel's own form of it, in Linux 6.3 and newer.
    """
    child = (
        "import ctypes, mmap, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0: sys.exit('old kernel')\n"
        "try: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "except PermissionError: pass\n"
        "else: sys.exit('not refused')\n"
        "import aiosqlite, anthropic, anyio, msgspec, pydantic, slugify, watchfiles, yaml\n"
        "print('imported')\n"
    )

    answer = _run(sys.executable, "-c", child)

    if answer.stderr == "old kernel\n":
        pytest.skip("NOT CHECKED: PR_SET_MDWE needs Linux 6.3")
    assert (answer.stdout, answer.stderr) == ("imported\n", "")


def _root_with_users(root: Path) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
    """Make the users in a root of their own; return the lines of its passwd and of its group by their names."""
    (root / "etc").mkdir()
    answer = _run("systemd-sysusers", f"--root={root}", SYSTEMD / "sysusers.d" / "batchbox.conf")
    assert answer.returncode == 0, answer.stderr
    return _table(root / "etc" / "passwd"), _table(root / "etc" / "group")


def _table(path: Path) -> Mapping[str, Sequence[str]]:
    rows = [line.split(":") for line in path.read_text().splitlines()]
    return {row[0]: row[1:] for row in rows}


@_needs("systemd-sysusers")
def test_sysusers_makes_the_user_and_the_groups_that_the_unit_names(tmp_path: Path) -> None:
    unit = _options(UNIT)

    users, groups = _root_with_users(tmp_path)

    assert [*users] == unit["User"]
    assert {*groups} == {*unit["Group"], *unit["SupplementaryGroups"]}
    assert groups["batchbox-share"][2] == "batchbox"
    assert users["batchbox"][-1].endswith("nologin")


@_needs("systemd-sysusers")
@_needs("systemd-tmpfiles")
@pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: owners can only be given by root")
def test_tmpfiles_makes_folders_that_only_the_right_people_can_enter(tmp_path: Path) -> None:
    users, groups = _root_with_users(tmp_path)
    key = tmp_path / "etc" / "batchbox" / "anthropic_api_key"
    key.parent.mkdir()
    key.touch(0o644)

    answer = _run("systemd-tmpfiles", f"--root={tmp_path}", "--create", SYSTEMD / "tmpfiles.d" / "batchbox.conf")

    assert (answer.returncode, answer.stderr) == (0, "")
    service, share = int(users["batchbox"][1]), int(groups["batchbox-share"][1])
    assert _access(tmp_path / "etc/batchbox") == (0o755, 0, 0)
    assert _access(key) == (0o600, 0, 0)
    assert _access(tmp_path / "var/lib/batchbox") == (0o700, service, int(groups["batchbox"][1]))
    assert _access(tmp_path / "srv/batchbox") == (0o2770, service, share)


@_needs("systemd-sysusers")
@_needs("systemd-tmpfiles")
@pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: owners can only be given by root")
def test_tmpfiles_leaves_a_root_that_exists_as_it_is(tmp_path: Path) -> None:
    """A share that is mounted on the root keeps the modes and owners that its administrator gave it."""
    _root_with_users(tmp_path)
    root = tmp_path / "srv" / "batchbox"
    root.mkdir(parents=True)
    root.chmod(0o2775)
    os.chown(root, 4242, 4243)

    answer = _run("systemd-tmpfiles", f"--root={tmp_path}", "--create", SYSTEMD / "tmpfiles.d" / "batchbox.conf")

    assert (answer.returncode, answer.stderr) == (0, "")
    assert _access(root) == (0o2775, 4242, 4243)


def _access(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
