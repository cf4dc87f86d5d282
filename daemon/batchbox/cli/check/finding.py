"""One thing that was looked at."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How it is."""

    OK = "ok"
    WARN = "warn"
    """It works, and is probably not what was meant."""
    FAIL = "fail"
    """The daemon would not start, or a part of its work would not be done."""


class Subject(StrEnum):
    """What it is about."""

    SETTINGS = "settings"
    ROOT = "root"
    INBOX = "inbox"
    STATE = "state"
    KEY = "key"
    API = "API"
    MODEL = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fact, and what to do about it if it is not as it should be."""

    level: Level
    subject: Subject
    fact: str
    fix: str | None = None


def ok(subject: Subject, fact: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(level=Level.OK, subject=subject, fact=fact)


def warn(subject: Subject, fact: str, *, fix: str | None = None) -> Finding:
    """Return a finding that somebody should know of."""
    return Finding(level=Level.WARN, subject=subject, fact=fact, fix=fix)


def fail(subject: Subject, fact: str, *, fix: str | None = None) -> Finding:
    """Return a finding that must be mended; `fix` is left out where the fact says it itself."""
    return Finding(level=Level.FAIL, subject=subject, fact=fact, fix=fix)
