"""The whole cycle: small files dropped, sent, answered, delivered, and the originals put into done/."""

from pathlib import Path

from .place import daemon_command, drop_files, make_place, measure, simulated, table

COUNTS = (1, 1_000, 20_000)


def main(parent: Path) -> None:
    """Print what 1, 1,000 and 20,000 files of 2 KB take, each in a fresh daemon."""
    rows = []
    for count in COUNTS:
        with simulated() as base_url:
            place = make_place(parent, base_url)
            drop_files(place, count)
            took, seen = measure(daemon_command(place, "--drain"), log_file=place.log_file, watch=place.root)
        assert took.exit_code == 0, place.log_file.read_text()
        assert len(list((place.root / "outbox").glob("*.result.json"))) == count
        up = seen["up"]
        work = took.wall_seconds - up
        taken, first = seen.get("taken", took.wall_seconds), seen.get("first", took.wall_seconds)
        rows.append(
            [count, took.wall_seconds, work, taken - up, first - taken, took.wall_seconds - first, count / work,
             took.cpu_seconds, took.peak_mb, _database_mb(place.state)]
        )  # fmt: skip
    head = [
        "files",
        "wall s",
        "no import s",
        "intake s",
        "send+wait s",
        "deliver s",
        "files/s",
        "cpu s",
        "peak MB",
        "db MB",
    ]
    table("drop to answer, 2 KB a file", head, rows)


def _database_mb(state: Path) -> float:
    return sum(path.stat().st_size for path in state.iterdir()) / 1_000_000
