"""The settings as a whole: all sections, what holds for one lane, and the text that shows what is in effect."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel

from batchbox.config.sections import (
    Api,
    Defaults,
    Header,
    Inbox,
    LaneKeys,
    LaneWindow,
    Limits,
    Log,
    ModelKeys,
    Outbox,
    Paths,
    Poll,
    Retention,
    Retry,
    Window,
)
from batchbox.model import Lane
from batchbox.pricing import Catalogue, ModelFacts, builtin_catalogue

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """Everything that holds for one lane: what it says itself, else [defaults], else the sections."""

    name: Lane
    model: str | None
    max_tokens: int | None
    temperature: float | None
    effort: str | None
    thinking: Mapping[str, object] | None
    system: str | None
    betas: tuple[str, ...]
    """Those of [api], which are in every batch, then the lane's or the defaults'; each once."""
    header: Header
    require_marker: bool
    window: Window
    output_extension: str
    max_attempts: int


class Settings(BaseModel, frozen=True, extra="forbid", strict=True):
    """The configuration file, complete and checked."""

    paths: Paths
    api: Api = Api()
    window: Window = Window()
    poll: Poll = Poll()
    inbox: Inbox = Inbox()
    outbox: Outbox = Outbox()
    defaults: Defaults = Defaults()
    lanes: Mapping[str, LaneKeys] = {}
    limits: Limits = Limits()
    models: Mapping[str, ModelKeys] = {}
    retry: Retry = Retry()
    retention: Retention = Retention()
    log: Log = Log()

    def lane(self, name: Lane) -> LaneSettings:
        """Return what holds for the lane. Its section is found by its exact name, else by its name without case."""
        own, defaults = self._own_keys(name), self.defaults
        return LaneSettings(
            name=name,
            model=_first(own.model, defaults.model),
            max_tokens=_first(own.max_tokens, defaults.max_tokens),
            temperature=_first(own.temperature, defaults.temperature),
            effort=_first(own.effort, defaults.effort),
            thinking=_first(own.thinking, defaults.thinking),
            system=_first(own.system, defaults.system),
            betas=tuple(dict.fromkeys((*self.api.betas, *_stated(own.betas, defaults.betas)))),
            header=_stated(own.header, defaults.header),
            require_marker=_stated(own.require_marker, defaults.require_marker),
            window=_window(own.window, self.window),
            output_extension=_stated(own.output.extension, defaults.output.extension),
            max_attempts=_stated(own.max_attempts, self.retry.max_attempts),
        )

    def catalogue(self) -> Catalogue:
        """Return what is known of models: the built-in facts, and over them those of [models]."""
        overrides = {model: ModelFacts(**keys.model_dump()) for model, keys in self.models.items()}
        return builtin_catalogue().with_overrides(overrides)

    def missing_to_run(self) -> list[str]:
        """Return a sentence for everything that may be absent from the file but that the daemon cannot do without."""
        if self.defaults.model is not None:
            return []
        return ['[defaults] model: is missing; name the model to use, like model = "claude-opus-5-5"']

    def _own_keys(self, name: Lane) -> LaneKeys:
        if name in self.lanes:
            return self.lanes[name]
        folded = {lane.casefold(): keys for lane, keys in self.lanes.items()}
        return folded.get(name.casefold(), LaneKeys())


def as_mapping(settings: Settings) -> Mapping[str, Any]:  # Any: what TOML can hold, a recursive type
    """Return the settings in effect under the file's own keys, as TOML values and without passwords.

    Durations and sizes are written as people write them. Keys that are None are left out.
    """
    return settings.model_dump(mode="json", exclude_none=True)


def as_toml(settings: Settings) -> str:
    """Return `as_mapping` as a configuration file, which is read back as the same settings."""
    return tomli_w.dumps(as_mapping(settings))


def _first(own: T | None, inherited: T | None) -> T | None:
    return inherited if own is None else own


def _stated(own: T | None, inherited: T) -> T:
    return inherited if own is None else own


def _window(own: LaneWindow, inherited: Window) -> Window:
    return inherited.model_copy(update=own.model_dump(exclude_none=True))
