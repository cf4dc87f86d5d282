"""Files that kill the parser: the third process puts them aside, and no other file pays for it."""

import signal
from pathlib import Path

import pytest

from batchbox.simulator import serve
from forking import ForkServer
from suites.mutants import Mutation, plant

from .conftest import SETTINGS
from .site import open_site, prompt, until

DIES = Mutation(
    name="a parser that dies of a word",
    file="formats/text.py",
    before='    text = to_utf8(data).decode("utf-8")\n',
    after="""    text = to_utf8(data).decode("utf-8")
    import os
    "arsenic" in text and os.kill(os.getpid(), 11)
""",
)
NEIGHBOURS = [f"innocent-{number}" for number in range(5)]
POISON = ("poison.md", "poison too.txt")


@pytest.mark.slow
async def test_a_file_that_kills_the_parser_stops_the_service_twice_and_never_again(tmp_path: Path) -> None:
    """The parser is one with a mistake planted in it; its victims are restarted as a service manager does."""
    with ForkServer(source=plant(DIES, tmp_path / "planted")) as forks:
        async with serve(SETTINGS) as simulator, open_site(tmp_path, forks, simulator) as site:
            for name in POISON:
                site.drop(name, prompt(f"arsenic {name}"))
            for name in NEIGHBOURS:
                site.drop(f"{name}.md", prompt(name))

            codes = [(await site.run())[0] for _ in range(2)]
            async with site.daemon() as daemon:
                await until(lambda: {f"{name}.error.txt" for name in POISON} <= site.visible("rejected"), "put aside")
                await site.answers(*NEIGHBOURS)
                site.drop("later.md", prompt("later"))
                await site.answers("later")
                await site.settles()
                code = await daemon.stop()

            assert codes == [-signal.SIGSEGV] * 2
            assert code == 0
            for name in POISON:
                assert site.explanation(name)["Reason"] == "bad_document"
                assert "SIGSEGV" in site.explanation(name)["Detail"]
                assert (site.root / "rejected" / name).read_text() == prompt(f"arsenic {name}")
            assert len(site.simulator.ledger.purchases) == len(NEIGHBOURS) + 1
            site.check_everything_ended()
