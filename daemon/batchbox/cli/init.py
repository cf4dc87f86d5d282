"""`batchbox init`: makes what is missing of root, state and configuration, and keeps what exists."""

import errno
import hashlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchbox.cli.settings import (
    SYSTEM_CONFIG,
    WAYS_TO_GIVE_A_KEY,
    config_option,
    find_config,
    find_key,
    load_settings,
    user_config,
)
from batchbox.errors import BatchboxError, ConfigurationError, FolderPermissionError, RootOfflineError
from batchbox.logs import shown

if TYPE_CHECKING:
    from batchbox.config import Settings

SYSTEM_STATE = Path("/var/lib/batchbox")
EXAMPLE_MODEL = "claude-opus-5-5"

_HEADER = """\
# batchbox: the settings, written by `batchbox init`. What is not here has its default: `batchbox config` shows every
# setting that is in effect, and config.example.toml in batchbox's repository says when to change which.

"""
_MODEL_COMMENT = "# The model for every file and every lane that names none.\n"


@click.command()
@click.argument("root", required=False, type=click.Path(path_type=Path, file_okay=False))
@config_option
@click.option("--model", metavar="ID", help="Write this model into a new configuration.")
def init(root: Path | None, config_file: Path | None, model: str | None) -> None:
    """Make the folders and the configuration; keep what exists.

    ROOT is the folder that will hold inbox, outbox and the rest. It may be left out when there is a configuration. A
    configuration that exists is checked and kept, and its root must be ROOT. May be run beside a running daemon.

    Without --model, a new configuration names no model, and `batchbox run` will ask for one.
    """
    root = None if root is None else _absolute(root)
    path = _absolute(_config_path(config_file))
    text = None if os.path.lexists(path) else _new_text(root, model)
    settings = load_settings(path) if text is None else _parsed(text, path)
    _require_same_root(root, settings, path)
    _require_own_root(settings)
    made = [*_make_folders(settings), *([] if text is None else [_write(path, text)])]
    _tell(made, settings=settings, path=path)
    _tell_doubts(settings, model)
    option = "" if config_file is None else f" --config {shlex.quote(str(path))}"
    _tell_next(settings, path=path, model=model, option=option)


def _absolute(path: Path) -> Path:
    return path.resolve() if ".." in path.parts else path.absolute()


def _config_path(given: Path | None) -> Path:
    """Return the file that every other command would use or, if there is none yet, the place for a new one."""
    try:
        return find_config(given, os.environ)
    except ConfigurationError:
        return SYSTEM_CONFIG if os.geteuid() == 0 else user_config()


def _new_text(root: Path | None, model: str | None) -> str:
    import tomli_w  # noqa: PLC0415 - only a new configuration needs it

    if root is None:
        raise click.UsageError("there is no configuration yet, so ROOT is needed: batchbox init ROOT [--model ID]")
    paths = {"root": _encodable(root), "state": _encodable(_new_state(root))}
    model_line = f"# {tomli_w.dumps({'model': EXAMPLE_MODEL})}" if model is None else tomli_w.dumps({"model": model})
    return f"{_HEADER}{tomli_w.dumps({'paths': paths})}\n[defaults]\n{_MODEL_COMMENT}{model_line}"


def _encodable(path: Path) -> str:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{shown(str(path))}: the name is not UTF-8, so that no configuration can hold it. Choose another folder."
        ) from error
    return str(path)


def _new_state(root: Path) -> Path:
    """Return where the state of a new root belongs: on the local disk and never inside the root."""
    mark = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
    home = _user_state_home()
    state = SYSTEM_STATE if home is None else home / "batchbox" / f"{root.name}-{mark}"
    if Path(os.path.realpath(state)).is_relative_to(os.path.realpath(root)):
        raise ConfigurationError(
            f"{shown(str(root))}: the state has its place at {shown(str(state))}, which would lie inside this root, "
            "for everybody on the share to read. Choose a folder below it as ROOT."
        )
    return state


def _user_state_home() -> Path | None:
    """Return where a user's programs keep their state; None for root, whose daemon is the system's."""
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # the XDG Base Directory Specification: a relative path is to be ignored
        if os.geteuid() == 0:
            return None
        home = os.path.expanduser("~/.local/state")
    if not os.path.isabs(home):
        raise ConfigurationError("there is no home folder to keep the state in. Set XDG_STATE_HOME to a local folder.")
    return Path(home)


def _parsed(text: str, path: Path) -> "Settings":
    from batchbox.config import parse_settings  # noqa: PLC0415 - pydantic takes time that --help does not have

    return parse_settings(text, source=shown(str(path)))


def _require_same_root(root: Path | None, settings: "Settings", path: Path) -> None:
    configured = settings.paths.root
    if root is not None and os.path.realpath(root) != os.path.realpath(configured):
        raise ConfigurationError(
            f"{shown(str(path))}: [paths] root is {shown(str(configured))}, not {shown(str(root))}. Leave ROOT out to "
            "keep it, change it in the file, or name another file with --config."
        )


def _require_own_root(settings: "Settings") -> None:
    """Refuse to give an identity to a folder where another root is missing, such as a share that is not mounted."""
    import anyio  # noqa: PLC0415 - as in load_settings

    from batchbox.cli.identity import known_identity, root_identity  # noqa: PLC0415 - as above

    known = anyio.run(known_identity, settings.paths.state)
    found = root_identity(settings.paths.root)
    if known is not None and found != known:
        what = "is not there" if found is None else "is another one"
        raise ConfigurationError(
            f"{shown(str(settings.paths.root))}: the state in {shown(str(settings.paths.state))} belongs to a root "
            f"that {what}. If it is a share, mount it first. For a new root, choose another [paths] state in a "
            "configuration of its own."
        )


def _make_folders(settings: "Settings") -> list[str]:
    from batchbox.folders.layout import make_root  # noqa: PLC0415 - as in load_settings
    from batchbox.store.state_folder import make_state_folder  # noqa: PLC0415 - as above

    root, state = settings.paths.root, settings.paths.state
    try:
        made = make_root(root)
    except (OSError, RootOfflineError) as error:
        raise _reason(root, error) from error
    try:
        if make_state_folder(state):
            return [*made, f"{state}/"]
        os.scandir(state).close()
    except OSError as error:
        raise _reason(state, error) from error
    return made


def _write(path: Path, text: str) -> str:
    """Write a new configuration, whole or not at all; return its name."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        raise _reason(path, error) from error
    return str(path)


def _reason(path: Path, error: OSError | RootOfflineError) -> BatchboxError:
    """Say what kept us from making something, and let systemd know whether trying again could help."""
    cause = error if isinstance(error, OSError) else error.__cause__
    why = cause.strerror if isinstance(cause, OSError) else str(cause)
    if isinstance(cause, PermissionError) or (isinstance(cause, OSError) and cause.errno == errno.EROFS):
        return FolderPermissionError(
            f"{shown(str(path))}: cannot be made or written ({why}). Run this as a user who may, or choose "
            "another place."
        )
    if isinstance(cause, FileExistsError | NotADirectoryError):
        return ConfigurationError(
            f"{shown(str(path))}: cannot be a folder, because it or a part of its path is a file. Choose another place."
        )
    return BatchboxError(f"{shown(str(path))}: cannot be made ({why}).")


def _tell(made: Sequence[str], *, settings: "Settings", path: Path) -> None:
    wanted = [f"{settings.paths.root}/", f"{settings.paths.state}/", str(path)]
    for name in made:
        click.echo(f"made   {shown(name)}")
    for name in wanted:
        if name not in made:
            click.echo(f"there  {shown(name)}")
    if made and os.geteuid() == 0:
        click.echo("note   root owns what was made. If the service runs as another user, give it root and state.")


def _tell_doubts(settings: "Settings", model: str | None) -> None:
    from batchbox.config import warnings  # noqa: PLC0415 - as in load_settings

    named = settings.defaults.model
    if model is not None and named is not None and model != named:
        click.echo(f"note   The configuration was kept: its model is {named}, not {shown(model)}.")
    for warning in warnings(settings):
        click.echo(f"note   {shown(warning)}")


def _tell_next(settings: "Settings", *, path: Path, model: str | None, option: str) -> None:
    steps = [
        *_missing(settings, path=path, model=model),
        f"See whether everything fits:  batchbox check{option}",
        f"Start:                        batchbox run{option}",
        f"Drop a text file into         {settings.paths.root}/inbox",
        f"Find the answer in            {settings.paths.root}/outbox",
    ]
    click.echo("\nNext:")
    for number, step in enumerate(steps, start=1):
        click.echo(f"  {number}. {shown(step)}")


def _missing(settings: "Settings", *, path: Path, model: str | None) -> Sequence[str]:
    """Return the steps that `run` cannot do without."""
    steps = []
    if settings.defaults.model is None:
        example = model or EXAMPLE_MODEL
        steps.append(f'Name a model, which `batchbox run` needs: model = "{example}" under [defaults] in {path}')
    try:
        find_key(settings, os.environ)
    except ConfigurationError:
        steps.append(f"Give the API key, in one of three ways: {WAYS_TO_GIVE_A_KEY}")
    return steps
