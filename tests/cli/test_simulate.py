"""`batchbox simulate`: the simulator as a process."""

import signal
import socket

import pytest
from anthropic import Anthropic

from .bench import Home, started


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_its_address_is_the_first_line_and_it_ends_politely(home: Home, ending: signal.Signals) -> None:
    with started(home, "simulate", "--processing-seconds", "1") as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with Anthropic(base_url=address, api_key="any", max_retries=0) as client:
            listed = client.messages.batches.list().data

        process.send_signal(ending)
        rest, hints = process.communicate(timeout=20)

    assert listed == []
    assert (process.returncode, rest) == (0, "")
    assert f"ANTHROPIC_BASE_URL={address}" in hints


def test_a_taken_port_is_named(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = home.call("simulate", "--port", str(port))

    assert done.returncode == 1
    assert done.stderr.startswith(f"batchbox: port {port}: ")
