"""Finds the configuration file and the API key, where an administrator or a developer has put them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from batchbox.errors import ConfigurationError

if TYPE_CHECKING:
    from batchbox.config import Settings

F = TypeVar("F", bound=Callable[..., object])

SYSTEM_CONFIG = Path("/etc/batchbox/config.toml")
CONFIG_VARIABLE = "BATCHBOX_CONFIG"
KEY_VARIABLE = "ANTHROPIC_API_KEY"
CREDENTIAL_NAME = "anthropic_api_key"

WAYS_TO_GIVE_A_KEY = (
    "[api] key_file in the configuration, a systemd credential named "
    f"{CREDENTIAL_NAME} (LoadCredential=), or the environment variable {KEY_VARIABLE}"
)


def config_option(command: F) -> F:
    """Add `--config FILE` to a command."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help=f"The configuration file. Else ${CONFIG_VARIABLE}, the user's config folder, {SYSTEM_CONFIG}.",
    )(command)


def user_config() -> Path:
    """Return where a user's own configuration file lies."""
    return Path(click.get_app_dir("batchbox")) / "config.toml"


def find_config(given: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the configuration file to use. Raises ConfigurationError if there is none."""
    if given is not None:
        return given
    if from_variable := environment.get(CONFIG_VARIABLE):
        return Path(from_variable)
    for path in (user_config(), SYSTEM_CONFIG):
        if path.exists():
            return path
    raise ConfigurationError(
        f"there is no configuration file. Run `batchbox init ROOT` to make one, or name one with --config. Looked for "
        f"${CONFIG_VARIABLE}, {user_config()} and {SYSTEM_CONFIG}."
    )


def load_settings(given: Path | None) -> "Settings":
    """Read and check the configuration file. Raises ConfigurationError with every problem."""
    from batchbox.config import parse_settings  # noqa: PLC0415 - pydantic takes time that --help does not have

    path = find_config(given, os.environ)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{path}: the configuration cannot be read ({reason}).") from error
    return parse_settings(text, source=str(path))


def find_key(settings: "Settings", environment: Mapping[str, str]) -> str:
    """Return the API key. Raises ConfigurationError, naming the ways to give one, if there is none."""
    if settings.api.key_file is not None:
        return _key_in(settings.api.key_file)
    if folder := environment.get("CREDENTIALS_DIRECTORY"):
        credential = Path(folder) / CREDENTIAL_NAME
        if credential.exists():
            return _key_in(credential)
    if key := environment.get(KEY_VARIABLE, "").strip():
        return key
    raise ConfigurationError(f"there is no API key. Give one in one of three ways: {WAYS_TO_GIVE_A_KEY}.")


def _key_in(path: Path) -> str:
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"{path}: the API key cannot be read ({reason}).") from error
    if not key:
        raise ConfigurationError(f"{path}: the file for the API key is empty.")
    return key
