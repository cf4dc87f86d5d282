"""What `batchbox check` says of the room on the disks."""

from pathlib import Path

import pytest

from batchbox.cli.check import space
from batchbox.cli.check.finding import Finding, Level, Subject
from batchbox.cli.check.space import look_at_space
from batchbox.config import Settings, parse_settings
from batchbox.folders.space import Disk

MB = 1000**2


def settings(folder: Path, min_free: str) -> Settings:
    text = f'[paths]\nroot = "{folder}"\nstate = "{folder}-state"\n[inbox]\nmin_free = "{min_free}"\n'
    return parse_settings(text, source="config.toml")


def look(folder: Path, min_free: str) -> Finding:
    (finding,) = look_at_space(Subject.STATE, folder, settings(folder, min_free))
    return finding


def test_a_disk_with_room_is_all_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "disk_of", lambda _: Disk(device=1, free_bytes=12_340 * MB, has_files_left=True))

    finding = look(tmp_path, "500MB")

    assert (finding.level, finding.fact) == (Level.OK, "12.3 GB are free on its disk")


def test_a_disk_with_too_little_room_is_a_warning_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "disk_of", lambda _: Disk(device=1, free_bytes=12 * MB, has_files_left=True))

    finding = look(tmp_path, "500MB")

    assert (finding.level, finding.subject) == (Level.WARN, Subject.STATE)
    assert finding.fact.startswith(f"12 MB free on the disk of {tmp_path}, less than [inbox] min_free 500MB")
    assert finding.fix == "make room there, or lower [inbox] min_free"


def test_a_disk_that_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    finding = look(tmp_path / "missing", "500MB")

    assert finding.level == Level.FAIL


def test_the_real_disk_is_looked_at(tmp_path: Path) -> None:
    assert look(tmp_path, "1000TB").level == Level.WARN
