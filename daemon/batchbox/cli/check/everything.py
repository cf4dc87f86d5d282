"""The way through the checks: what cannot be read ends its own branch and no other."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Event, Thread

from batchbox.cli.check.finding import Finding, Subject, fail, ok, warn
from batchbox.cli.check.folders import look_at_root
from batchbox.cli.check.neighbours import look_at_neighbours
from batchbox.cli.check.state import look_at_state
from batchbox.cli.settings import CREDENTIAL_NAME, KEY_VARIABLE, find_config, find_key, load_settings
from batchbox.config import Settings, warnings
from batchbox.config.addresses import is_loopback
from batchbox.errors import ConfigurationError

ROOT_SECONDS_MAX = 20.0
LEAVE_SECONDS_MAX = 1.0
"""So long whoever does not wait for the root any more waits for the file that a folder is just being tried with."""


def look_at_everything(config_file: Path | None, *, dropped: Sequence[str], offline: bool) -> list[Finding]:
    """Return everything that was found, good and bad."""
    try:
        path = find_config(config_file, os.environ)
        settings = load_settings(path)
    except ConfigurationError as error:
        return [
            *(fail(Subject.SETTINGS, problem) for problem in error.problems),
            warn(Subject.SETTINGS, "folders, key and API were not looked at, because only the settings name them"),
        ]
    key, key_findings = _key(settings)
    root_findings, answers = _root(settings)
    findings = [
        *_settings(settings, path, dropped=dropped),
        *root_findings,
        *look_at_state(settings, asks_root=answers),
        *key_findings,
    ]
    if key is not None and not offline:
        from batchbox.cli.check.api import look_at_api  # noqa: PLC0415 - it imports the SDK

        findings += look_at_api(settings, key)
    return findings


def _root(settings: Settings) -> tuple[list[Finding], bool]:
    """Look at the root, and say whether it answers: whoever asks about a share that hangs is not kept waiting."""
    found: Future[list[Finding]] = Future()
    enough = Event()

    def look() -> None:
        try:
            on_root = look_at_root(settings, keep_going=lambda: not enough.is_set())
            found.set_result([*on_root, *look_at_neighbours(settings)])
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            found.set_exception(error)

    looking = Thread(target=look, daemon=True, name="look at the root")  # left behind, if need be, as the process ends
    looking.start()
    try:
        return found.result(ROOT_SECONDS_MAX), True
    except TimeoutError:
        fact = f"{settings.paths.root} does not answer within {ROOT_SECONDS_MAX:.0f} s"
        return [fail(Subject.ROOT, fact, fix="look at its server and at the network; the daemon waits for it")], False
    finally:  # Ctrl-C comes here too
        enough.set()
        looking.join(LEAVE_SECONDS_MAX)


def _settings(settings: Settings, path: Path, *, dropped: Sequence[str]) -> Iterator[Finding]:
    yield ok(Subject.SETTINGS, f"{path} is valid")
    for problem in settings.missing_to_run():
        yield fail(Subject.SETTINGS, problem)
    for doubt in warnings(settings):
        yield warn(Subject.SETTINGS, doubt)
    if is_loopback(settings.api.base_url):
        yield warn(
            Subject.SETTINGS,
            f"[api] base_url is {settings.api.base_url}: a simulator or a gateway on this machine, not the API itself",
            fix="leave base_url out to call the API",
        )
    if dropped:
        yield warn(
            Subject.SETTINGS,
            f"these environment variables are not obeyed: {', '.join(dropped)}",
            fix="use base_url, proxy and ca_file in [api] instead",
        )


def _key(settings: Settings) -> tuple[str | None, list[Finding]]:
    try:
        key = find_key(settings, os.environ)
    except ConfigurationError as error:
        fix = (
            f"where only the service has the key, check with CREDENTIALS_DIRECTORY set to the folder of its "
            f"{CREDENTIAL_NAME}"
        )
        return None, [fail(Subject.KEY, str(error), fix=fix)]
    return key, [ok(Subject.KEY, f"comes from {_origin(settings)}"), *_exposure(settings.api.key_file)]


def _origin(settings: Settings) -> str:
    """Name the place that `find_key` took the key from."""
    if settings.api.key_file is not None:
        return f"{settings.api.key_file}, which [api] key_file names"
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder and (Path(folder) / CREDENTIAL_NAME).exists():
        return f"the service manager's credential {CREDENTIAL_NAME}"
    return f"the environment variable {KEY_VARIABLE}"


def _exposure(key_file: Path | None) -> Iterator[Finding]:
    if key_file is not None and key_file.stat().st_mode & 0o004:
        yield warn(Subject.KEY, f"{key_file} can be read by every user of this machine", fix=f"chmod o= {key_file}")
