"""A root on a disk of Windows: to it upper and lower case are one, and names that Windows refuses are refused."""

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from batchbox.simulator import serve
from e2e.site import Site, open_site, prompt, request, until
from forking import ForkServer
from mounting import DISK_BYTES

from .programs import found, needs
from .share import SIMULATOR

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs("mkntfs", "lowntfs-3g", root=True),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="NOT TRIED: this machine has no /dev/fuse"),
]

OPTIONS = "ignore_case,windows_names,no_detach"


@contextmanager
def windows_disk(image: Path, place: Path) -> Iterator[None]:
    """Have an empty disk of Windows mounted while the block lasts."""
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run([found("mkntfs"), "-q", "-F", "-Q", image], check=True, capture_output=True)
    place.mkdir()
    with subprocess.Popen([found("lowntfs-3g"), image, place, "-o", OPTIONS], stderr=subprocess.DEVNULL) as driver:
        try:
            while not place.is_mount():
                assert driver.poll() is None, "it cannot be mounted"
            yield
        finally:
            subprocess.run(["umount", "-l", place], check=False)
            driver.send_signal(signal.SIGTERM)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> AsyncIterator[Site]:
    """Run a daemon on such a disk for as long as the module's tests do."""
    folder = tmp_path_factory.mktemp("windows")
    with windows_disk(folder / "image", folder / "root"):
        async with serve(SIMULATOR) as simulator, open_site(folder, forks, simulator) as opened:
            opened.configure(inbox={"min_free": "1MB"}, lanes={"Fax": {"output": {"extension": "txt"}}})
            async with opened.daemon() as daemon:
                yield opened
                code = await daemon.stop()
            assert code == 0, daemon.log
            opened.check_everything_ended()


async def test_it_takes_names_as_windows_does(site: Site) -> None:
    """Else the others prove nothing."""
    (site.root / "Trial").touch()

    assert (site.root / "tRIAL").exists()
    with pytest.raises(OSError, match="Invalid argument"):
        (site.root / "CON.md").touch()


async def test_answers_that_differ_in_case_alone_stand_beside_each_other(site: Site) -> None:
    ids = ("Same", "same", "SAME")
    site.drop("ids.json", json.dumps([{"custom_id": one, "params": request(one)} for one in ids]))

    await site.answers("same", "same__2", "same__3")

    assert sorted(site.document(f"{stem}.result.json")["custom_id"] for stem in ("same", "same__2", "same__3")) == [
        "SAME", "Same", "same",
    ]  # fmt: skip


async def test_a_file_of_the_same_name_in_other_case_is_another_one(site: Site) -> None:
    site.drop("Report.md", prompt("the first"))
    await site.answers("report")
    site.drop("REPORT.MD", prompt("the second"))

    await site.answers("report__2")
    await until(lambda: len(site.visible("done") & {"report.md", "report__2.md"}) == 2, "both originals are in done/")


async def test_an_id_that_windows_reserves_gets_a_name_that_it_takes(site: Site) -> None:
    site.drop("reserved.json", json.dumps({"custom_id": "CON", "params": request("reserved")}))

    await site.answers("id-con")

    assert site.document("id-con.result.json")["custom_id"] == "CON"


async def test_a_lane_has_its_settings_in_any_case(site: Site) -> None:
    (site.root / "inbox" / "FAX").mkdir()
    site.drop("letter.md", prompt("By fax"), lane="fax")

    await site.answers("letter", lane="fax")

    assert "letter.txt" in site.visible("outbox", "fax")


async def test_what_is_taken_back_may_be_named_in_any_case(site: Site) -> None:
    site.drop("Wrong.json", '{"messages": [')
    site.drop("WRONG.JSON.CANCEL", "")

    await until(lambda: not site.waiting(), "the file and the sign are gone")

    assert "wrong.result.json" not in site.visible("outbox")
