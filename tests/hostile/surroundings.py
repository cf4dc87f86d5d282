"""What is hostile around the daemon, not in its inbox, by the attack that it belongs to. To add one, add a line.

`{decoy}` stands for the address of a server that waits for a word from the daemon, and must never hear one; `{outside}`
for a folder outside of the root.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass

from batchbox.simulator import Call, Fault, FaultKind
from e2e.site import SECRET

HEARD_NOTHING = 0
CONFIGURATION_ERROR = 78


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the environment that would lead astray what we send, or would print it."""

    name: str
    value: str


VARIABLES = [
    Variable("HTTP_PROXY", "{decoy}"),
    Variable("http_proxy", "{decoy}"),
    Variable("HTTPS_PROXY", "{decoy}"),
    Variable("Https_Proxy", "{decoy}"),
    Variable("ALL_PROXY", "{decoy}"),
    Variable("ANTHROPIC_BASE_URL", "{decoy}"),
    Variable("ANTHROPIC_AUTH_TOKEN", "sk-ant-somebody-elses"),
    Variable("ANTHROPIC_PROFILE", "somebody-elses"),
    Variable("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer sk-ant-somebody-elses\nanthropic-beta: other"),
    Variable("ANTHROPIC_LOG", "debug"),
    Variable("SSLKEYLOGFILE", "{outside}/session-keys"),
    Variable("SSL_CERT_FILE", "{outside}/secret.txt"),
    Variable("SSL_CERT_DIR", "{outside}"),
]
"""Attack 16: each is not obeyed, and the log says so by its name."""


@dataclass(frozen=True, slots=True)
class Misdirection:
    """Settings with which prompts or the key would go where everybody reads them."""

    name: str
    sections: Mapping[str, Mapping[str, object]]
    expected: str
    """What the daemon says when it refuses to start."""


MISDIRECTIONS = [
    Misdirection("plain http", {"api": {"base_url": "http://api.example.com"}}, "must begin with https://"),
    Misdirection("plain http to every address", {"api": {"base_url": "http://0.0.0.0:80"}}, "must begin with https://"),
    Misdirection(
        "loopback in front of somebody else's host",
        {"api": {"base_url": "http://127.0.0.1@api.example.com"}},
        "must not hold a user name or password",
    ),
    Misdirection("a file", {"api": {"base_url": "file:///etc/passwd"}}, "is not an address"),
    Misdirection("a proxy of another kind", {"api": {"proxy": "socks5://proxy.example.com:1080"}}, "is not an address"),
]
"""Attack 16."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One hostile answer of the API's, or of something between here and there. Work goes on."""

    name: str
    fault: Fault


def _redirect(call: Call) -> Fault:
    return Fault(kind=FaultKind.REDIRECT, call=call, location="{decoy}/v1/messages/batches")


SCRIPT = "<script>alert(document.cookie)</script>\x1b[2J\x1b]0;owned\x07\u202e\ninfo file taken file=forged.md"
ANSWERS = [
    Answer("redirect of a new batch", _redirect(Call.CREATE)),
    Answer("redirect of a look at a batch", _redirect(Call.RETRIEVE)),
    Answer("redirect of the results", _redirect(Call.RESULTS)),
    Answer("page instead of a batch", Fault(kind=FaultKind.HTML, call=Call.CREATE, status=502)),
    Answer("page instead of the results", Fault(kind=FaultKind.HTML, call=Call.RESULTS)),
    Answer(
        "error with a script, codes and a forged line",
        Fault(kind=FaultKind.STATUS, call=Call.RETRIEVE, status=500, message=SCRIPT),
    ),
    Answer("result line of a request that is not ours", Fault(kind=FaultKind.FOREIGN_LINE, call=Call.RESULTS, line=0)),
]
"""Attacks 12 and 16. Besides, every address of results that a batch names is the decoy's."""

REFUSAL = Fault(
    kind=FaultKind.STATUS,
    call=Call.CREATE,
    status=400,
    error_type="invalid_request_error",
    message=f"requests.0.params: 'Say hello. {SECRET}' is not good enough",
)
"""Attack 17: it repeats a prompt, and meets a batch of one request."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where prompts and answers lie, and who may look there."""

    name: str
    pattern: str
    """Below the folder of the site: `state/` and `root/`."""
    forbidden: int
    """The permissions that none of these may have."""


OTHERS = stat.S_IRWXO
OTHERS_AND_GROUP = OTHERS | stat.S_IRWXG
WRITING = stat.S_IWGRP | stat.S_IWOTH
PLACES = [
    Place("the state, and so the database", "state", OTHERS_AND_GROUP),
    Place("what is on its way", "root/processing", OTHERS | WRITING),
    Place("what is on its way, by daemon", "root/processing/*", OTHERS | WRITING),
    Place("what is on its way, by lane", "root/processing/*/*", OTHERS | WRITING),
    Place("what is done", "root/done", OTHERS | WRITING),
    Place("what is done, by lane", "root/done/*/", OTHERS | WRITING),
    Place("our own folder", "root/.batchbox", OTHERS | WRITING),
    Place("the manifests", "root/.batchbox/batches/*", OTHERS | WRITING),
    Place("the inbox, of those who may drop", "root/inbox", OTHERS),
    Place("the answers", "root/outbox", OTHERS),
    Place("the rejected", "root/rejected", OTHERS),
]
"""Attack 15."""
