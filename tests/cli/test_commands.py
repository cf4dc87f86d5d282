"""The command line as a whole: what it lists, how it is started, and what it does not load."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from .bench import Home


def test_help_lists_the_commands_in_the_order_in_which_a_newcomer_meets_them(home: Home) -> None:
    done = home.call("--help")

    listed = [line.split()[0] for line in done.stdout.partition("Commands:\n")[2].splitlines()]
    assert listed[:4] == ["demo", "init", "check", "run"]
    assert set(listed) >= {"status", "config", "simulate"}


def test_the_package_is_a_script_too(home: Home) -> None:
    """`python -m batchbox` works where the script is not on the path."""
    done = home.call("--version", anew=True)

    assert (done.returncode, done.stdout.startswith("batchbox, version ")) == (0, True)


def test_a_command_without_a_configuration_says_where_it_looked(home: Home) -> None:
    done = home.call("status", anew=True, BATCHBOX_CONFIG=str(home.config))

    assert done.returncode == 78
    assert str(home.config) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["status", "--json"], ["config"], ["check", "--offline"], ["init"]],
    ids=" ".join,
)
def test_a_command_that_calls_no_api_does_not_load_the_sdk(home: Home, arguments: Sequence[str]) -> None:
    home.make()
    question = (
        "import sys; from batchbox.cli import commands; from batchbox.errors import BatchboxError\n"
        "try: commands(sys.argv[1:])\n"
        "except (SystemExit, BatchboxError): pass\n"
        "print(sorted({'anthropic', 'httpx2'} & set(sys.modules)), file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", question, *arguments, "--config", str(home.config)],
        env=home.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr.splitlines()[-1] == "[]"
