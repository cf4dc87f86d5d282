"""Tells the outside how the service is: the service manager, over the datagram socket that it names.

The protocol is that of `sd_notify(3)` and `sd_watchdog_enabled(3)`: one datagram of `KEY=value` a message, to the
socket in NOTIFY_SOCKET. Without that variable nobody listens, and nothing is sent. A message never waits and never
raises for what the socket did: whether the service lives must not depend on whether somebody hears of it.
"""

import os
import socket
from collections.abc import Mapping

from batchbox.logs import shown

STATUS_CHARACTERS_MAX = 1000
"""A datagram over 4096 bytes is dropped by the service manager; a character has at most four."""


class Notifier:
    """The line to the service manager.

    Args:
        environment: Where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are looked up, once.
        process_id: This process, which may not be the one that WATCHDOG_PID means.

    Every message returns whether it was handed over; where nobody listens, nothing is left to do and that is True.
    """

    def __init__(self, environment: Mapping[str, str], *, process_id: int) -> None:
        self._address = _socket_address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environment, process_id)
        """After so long without `watchdog()` the service is killed, so call it twice as often. None: never."""

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to tell."""
        return self._address is not None

    def ready(self) -> bool:
        """Say that the start is over and work is being done."""
        return self._send("READY=1")

    def status(self, text: str) -> bool:
        """Say in one line what the service is doing. Line ends become escapes, and a long text is cut."""
        return self._send("STATUS=" + shown(text)[:STATUS_CHARACTERS_MAX])

    def watchdog(self) -> bool:
        """Say that the service is alive."""
        return self._send("WATCHDOG=1")

    def stopping(self) -> bool:
        """Say that the service is ending because it wants to."""
        return self._send("STOPPING=1")

    def _send(self, message: str) -> bool:
        if self._address is None:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.settimeout(0)
                line.sendto(message.encode(), self._address)
        except OSError:  # full, gone, refused, no descriptor left: the next message may fare better
            return False
        return True


def _socket_address(name: str) -> bytes | None:
    """Return the address to send to. A leading `@` stands for the NUL of Linux's abstract names."""
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return os.fsencode(name) if name.startswith("/") else None


def _watchdog_seconds(environment: Mapping[str, str], process_id: int) -> float | None:
    if environment.get("WATCHDOG_PID", str(process_id)) != str(process_id):
        return None
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 1_000_000 if microseconds > 0 else None
