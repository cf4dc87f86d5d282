"""From the configuration file's text to checked settings, or to every problem in it at once.

The sections are judged value by value first. Then the wrong values are taken out and the rest is judged as a whole, so
that a mistake in one corner does not hide one in another.
"""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from batchbox.config.checks import disagreements
from batchbox.config.problems import KeyPath, Problem, problems_in
from batchbox.config.settings import Settings
from batchbox.errors import ConfigurationError

Table = dict[str, Any]  # Any: what TOML can hold, a recursive type

_STAND_IN_PATHS: Mapping[str, str] = {"root": "/stand-in/root", "state": "/stand-in/state"}
"""Only so that the other sections can be judged when the paths are wrong; never part of what is returned."""


def parse_settings(text: str, *, source: str) -> Settings:
    """Return the settings that the text holds, complete with defaults.

    Raises ConfigurationError with every problem that was found, each a line that begins with the source's name.
    """
    table = _table(text, source=source)
    problems, settings = _judged(table)
    if problems:
        # Without pydantic's error as cause: a traceback would print the values, and some are secret.
        raise ConfigurationError(*(f"{source}: {problem}" for problem in problems))
    return settings


def _table(text: str, *, source: str) -> Table:
    try:
        table = tomllib.loads(text.removeprefix("\ufeff"))
    except ValueError as error:  # beside TOMLDecodeError: a number of more digits than the interpreter reads
        raise ConfigurationError(f"{source}: is not valid TOML: {error}; correct that place") from error
    return {"paths": {}, **table}  # so that what is missing is told key by key


def _judged(table: Table) -> tuple[Sequence[Problem], Settings]:
    try:
        settings = Settings.model_validate(table)
    except ValidationError as error:
        problems = problems_in(error)
        settings = Settings.model_validate(_without(table, [problem.path for problem in problems]))
    else:
        problems = []
    wrong = [problem.path for problem in problems]
    return [*problems, *(found for found in disagreements(settings) if not _rests_on(found, wrong))], settings


def _without(table: Table, wrong: Sequence[KeyPath]) -> Table:
    rest = copy.deepcopy(table)
    for path in wrong:
        _remove(rest, path)
    if any(path[0] == "paths" for path in wrong):
        rest["paths"] = dict(_STAND_IN_PATHS)
    return rest


def _remove(table: Table, path: KeyPath) -> None:
    """Take out the value at the path, or the list that it is an entry of. What has gone already is no mistake."""
    key, rest = str(path[0]), path[1:]
    value = table.get(key)
    if rest and isinstance(value, dict) and isinstance(rest[0], str):
        _remove(value, rest)
    else:
        table.pop(key, None)


def _rests_on(problem: Problem, wrong: Sequence[KeyPath]) -> bool:
    """Return whether what was judged, or judged by, has been taken out."""
    return any(_is_within(problem.path, other) for other in wrong) or any(
        _is_within(path, other) or _is_within(other, path) for path in problem.depends_on for other in wrong
    )


def _is_within(path: KeyPath, table: KeyPath) -> bool:
    return path[: len(table)] == table
