"""Makes the trials that it is told, one name a line, and says what each came to: one JSON object a line.

It is a process of its own so that it can be run on a copy of the daemon with a mistake in it.
"""

import asyncio
import json
import logging
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import batchbox
from batchbox.environment import drop_environment

drop_environment()  # before the SDK is imported

from .api_create import try_create  # noqa: E402 - as above
from .api_crowd import try_crowd  # noqa: E402 - as above
from .api_results import try_results  # noqa: E402 - as above
from .api_verdict import Verdict  # noqa: E402 - as above
from .places import workplace  # noqa: E402 - as above

Try = Callable[[str, Path], Awaitable[Verdict]]

KINDS: Mapping[str, Try] = {"create": try_create, "results": try_results, "crowd": try_crowd}


def main(source: str) -> None:
    """Make the trials of standard input on the daemon in a folder."""
    assert Path(batchbox.__file__).is_relative_to(source), f"{batchbox.__file__} was imported, not {source}"
    logging.disable(logging.CRITICAL)
    for verdict in try_all(line.strip() for line in sys.stdin):
        sys.stdout.write(f"{json.dumps(asdict(verdict))}\n")
        sys.stdout.flush()


def try_all(names: Iterable[str]) -> Iterator[Verdict]:
    """Make the trials one after the other, each in a folder of its own."""
    with workplace(Path(tempfile.gettempdir())) as place:
        for name in names:
            random.seed(name)  # what the daemon leaves to chance is the same every time
            with tempfile.TemporaryDirectory(dir=place) as folder:
                verdict = asyncio.run(_try(name, Path(folder)))
            yield verdict


async def _try(name: str, folder: Path) -> Verdict:
    verdict = await KINDS[name.partition(":")[0]](name, folder)
    violations = [f"{name}: {violation}" for violation in verdict.violations]
    return Verdict(tried=verdict.tried, violations=violations)


if __name__ == "__main__":
    main(*sys.argv[1:])
