"""The state machine: people, the network, the account, the disks and the clocks do what they like, in any order.

Every rule may be taken at any time; one that has nothing to act on does nothing. So what is drawn never depends on
what happened, and an example can be shortened.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from batchbox.api import Trouble, TroubleKind
from pipeline.fake_api import FakeBatch, Reply

from .model_bench import Disks, ModelBench
from .model_events import events
from .model_judge import Judge
from .model_ledger import GROWTH, Asked, Drop, Sign
from .model_workspace import Fate, Workspace, foreign_line, prompt

T = TypeVar("T")

SIGN = b"not wanted any more"
KEYS = (b"key", b"rotated")
MONTH_SECONDS = 30 * 86_400.0
ROUNDS_PER_KEY = 60
KEY_TURNS_MAX = 6


@dataclass(slots=True)
class Tally:
    """What all examples of this process did. Written by the machines."""

    examples: int = 0
    rules: int = 0
    steps: int = 0
    crashes: int = 0


class Machine(RuleBasedStateMachine):
    """One root, one workspace, and everything that may happen to them."""

    def __init__(self, folder: Path, tally: Tally) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True)
        self._tally = tally
        self._runner = asyncio.Runner()
        self._disks = Disks()
        self._disks.install()
        self._tag_count = 0
        self._file_count = 0
        self._growing: dict[Drop, int] = {}
        self._has_failed = False
        self._bench = self._made(100)

    @property
    def _workspace(self) -> Workspace:
        return self._bench.workspace

    def _made(self, max_requests: int) -> ModelBench:
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        return ModelBench(folder, max_requests=max_requests)

    @rule(event=events())
    def happen(self, event: tuple[str, dict[str, object]]) -> None:
        """Let something happen."""
        name, arguments = event
        self._tally.rules += 1
        getattr(self, name)(**arguments)

    # -- the daemon

    @initialize(max_requests=st.sampled_from([2, 5, 100]))
    def begin(self, max_requests: int) -> None:
        """Start for the first time."""
        self._bench = self._made(max_requests)
        self._do(self._bench.step_all())

    def work(self, rounds: int) -> None:
        """Let everybody do what is due."""
        self._do(self._bench.work(rounds))

    def work_and_end(self, rounds: int) -> None:
        """Let everybody do what is due, and batches end as soon as they are there."""
        for _ in range(rounds):
            self.end_all()
            self._do(self._bench.work(1))

    def crash(self, point: int) -> None:
        """Die at a point to come."""
        self._bench.power.fail_at(crash=point)

    def stop(self, point: int) -> None:
        """Be told to stop at a point to come."""
        self._bench.power.fail_at(stop=point)

    def restart(self) -> None:
        """Be stopped between two steps."""
        self._do(self._bench.stop())

    # -- people who drop files

    def drop_text(self, lane: str | None, first: list[tuple[Fate, ...]], is_poison: bool) -> None:
        """Drop a text; a poisoned one is refused by the API."""
        name = self._new_name("md")
        content, asked = self._text(name, is_poison=is_poison)
        self._plan(asked, first)
        self._drop(Drop(name=name, lane=lane, content=content, asked=asked))

    def drop_many(
        self, lane: str | None, given: list[str | None], planned: list[tuple[Fate, ...]], is_lines: bool
    ) -> None:
        """Drop several requests in one file."""
        name = self._new_name("jsonl" if is_lines else "json")
        content, asked = self._requests(name, given)
        self._plan(asked, planned)
        self._drop(Drop(name=name, lane=lane, content=content, asked=asked))

    def drop_bad(self, lane: str | None, which: tuple[str, bytes]) -> None:
        """Drop what can never become a request."""
        self._drop(Drop(name=which[0], lane=lane, content=which[1]))

    def drop_again(self, index: int) -> None:
        """Drop an earlier file once more."""
        if drop := _pick([drop for drop in self._bench.ledger.drops if not drop.is_growing], index):
            self._drop(drop)

    def drop_other(self, index: int) -> None:
        """Drop another text under the name of an earlier one."""
        texts = [
            one for one in self._bench.ledger.drops if one.name.endswith(".md") and one.asked and not one.is_growing
        ]
        drop = _pick(texts, index)
        if drop is not None:
            content, asked = self._text(drop.name, is_poison=False)
            self._drop(Drop(name=drop.name, lane=drop.lane, content=content, asked=asked))

    def cancel_by_file(self, index: int, by_id: bool) -> None:
        """Take back an earlier file, or one request of it, wherever it is by now."""
        drop = _pick([drop for drop in self._bench.ledger.drops if drop.asked], index)
        if drop is not None:
            target = drop.asked[index % len(drop.asked)].custom_id if by_id else drop.name
            sign = Sign(target=target, lane=drop.lane)
            (self._bench.root_now / "inbox" / sign.path).write_bytes(SIGN)
            self._bench.ledger.signs.append(sign)

    def delete(self, index: int) -> None:
        """Delete a file from the inbox."""
        inbox = self._bench.root_now / "inbox"
        files = (path for path in inbox.rglob("*") if path.is_file() and path.suffix != ".cancel")
        path = _pick(sorted(files), index)
        if path is not None:
            self._take_back(path)
            path.unlink()

    def drop_slowly(self, lane: str | None) -> None:
        """Drop a text whose writer is not done, and has it open."""
        name = self._new_name("md")
        content, asked = self._text(name, is_poison=False)
        drop = Drop(name=name, lane=lane, content=content, asked=tuple(asked), is_growing=True)
        self._drop(drop)
        path = self._bench.root_now / "inbox" / drop.path
        self._growing[drop] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def go_on_writing(self, index: int, taking: int) -> None:
        """Let such a writer go on, wherever its file is by now: after so many steps of intake, perhaps just taken."""
        self._do(self._bench.take_in(taking))
        drop = _pick([drop for drop in self._growing if drop in self._bench.ledger.drops], index)
        if drop is None:
            return
        descriptor = self._growing.pop(drop)
        os.write(descriptor, GROWTH)
        query = f"SELECT 1 FROM sources WHERE name = CAST('{drop.name}' AS BLOB) AND is_verified = 1"  # noqa: S608 - ours
        grown = self._bench.ledger.grow(drop, counts=not self._bench.rows(query))
        self._bench.grow(drop.content, grown.content)
        self._growing[grown] = descriptor

    # -- the API

    def reply(self, replies: list[Reply]) -> None:
        """Let the next create calls fare so."""
        self._workspace.replies.extend(replies)

    def lose_reply(self, replies: Reply) -> None:
        """Let nobody hear of the next create call."""
        self._workspace.replies.append(replies)

    def trouble(self, kinds: list[TroubleKind], wait: float | None) -> None:
        """Let the next calls that may be repeated fail."""
        self._workspace.troubles.extend(Trouble(kind=kind, text=kind, retry_after_seconds=wait) for kind in kinds)

    def lag(self) -> None:
        """Let the list show the next batch later."""
        self._workspace.lag_count += 1

    def lag_for_long(self) -> None:
        """Let the list not show what it does not show yet, until it is bought again."""
        for batch in self._workspace.home:
            if batch.is_hidden:
                batch.was_hidden = True

    def show_all(self) -> None:
        """Let the list show everything."""
        for batch in self._workspace.home:
            batch.is_hidden = False

    def other_program(self, count: int, has_ended: bool, is_gone: bool) -> None:
        """Let another program send a batch."""
        batch = self._workspace.add_foreign(count, has_ended=has_ended)
        if is_gone:
            self._workspace.gone.add(batch.id)

    def end_all(self) -> None:
        """Let every batch end."""
        for batch in self._running():
            self._workspace.end(batch)

    def end_one(self, index: int, how: str) -> None:
        """Let one batch end, with lines that are not as they should be."""
        if (batch := _pick(self._running(), index)) is None:
            return
        self._workspace.end(batch)
        extra = {"repeated": batch.lines[0], "foreign": foreign_line(), "garbage": b"<html>\n"}.get(how)
        if extra is not None:
            batch.lines.insert(1, extra)
        if how == "short" and not batch.is_foreign:
            self._workspace.lose_line(batch)

    def cancel_in_console(self, index: int) -> None:
        """Let somebody cancel a batch of ours that runs."""
        if batch := _pick([batch for batch in self._running() if not batch.is_foreign], index):
            self._workspace.cancel_in_console(batch)

    def delete_in_console(self, index: int) -> None:
        """Let a batch not be known, for now. One in doubt that is deleted has to be bought again."""
        known = {api_id for (api_id,) in self._bench.rows("SELECT api_id FROM batches")}
        if batch := _pick([batch for batch in self._workspace.ours if batch.id in known], index):
            batch.is_deleted = True

    def hide_results(self, index: int) -> None:
        """Let the results of a batch not be there, for now."""
        if batch := _pick(self._workspace.home, index):
            self._workspace.gone.add(batch.id)

    def bring_back(self) -> None:
        """Let everything be there again."""
        self._workspace.gone.clear()
        for batch in self._workspace.home:
            batch.is_deleted = False

    def cut(self, counts: list[int]) -> None:
        """Let the next streams of results end early, looking whole."""
        self._workspace.cut_results_after.extend(counts)

    def break_off(self, count: int) -> None:
        """Let the next stream of results break."""
        self._workspace.breaks.append(count)

    def refuse_all(self, rounds: int) -> None:
        """Let the API refuse everything with the same words for a while."""
        self._workspace.refuses_all = True
        self._do(self._bench.work(rounds))
        self._workspace.refuses_all = False

    # -- the account

    def rotate_key(self) -> None:
        """Give the daemon another key of the same workspace."""
        self._do(self._use_key(KEYS[self._bench.key_hash == KEYS[0]]))

    def lose_reply_and_key(self, rounds: int) -> None:
        """Give the daemon the key of another workspace for longer than grace, just after a reply was lost."""
        self._workspace.replies.appendleft(Reply.LOSE)
        created = self._workspace.create_count
        for _ in range(rounds):
            if self._workspace.create_count == created:
                self._do(self._bench.work(1))
        self.enter_other_workspace(rounds=rounds, seconds=70.0, ends=False)

    def enter_other_workspace(self, rounds: int, seconds: float, ends: bool) -> None:
        """Give the daemon the key of another workspace for a while, perhaps for longer than grace."""
        key_hash = self._bench.key_hash
        self._do(self._use_key(b"of another workspace"))
        self._workspace.enter_other_workspace()
        if ends:
            self.end_all()
        self._do(self._bench.work(1))
        self._bench.advance(seconds)
        self._do(self._bench.work(rounds))
        self._workspace.return_to_workspace()
        self._do(self._use_key(key_hash))

    def decide(self) -> None:
        """Let a person decide what is in doubt and cannot be read."""
        self._do(self._bench.judge_candidates())

    # -- folders and clocks

    def take_root_away(self, rounds: int, leave_folder: bool) -> None:
        """Let the share be away for a while."""
        self._bench.take_root_away(leave_folder=leave_folder)
        self._do(self._bench.work(rounds))
        with self._watched():
            self._bench.bring_root_back()

    def block(self, top: str, lane: str, rounds: int) -> None:
        """Let a lane's folder be something else for a while."""
        with self._bench.blocked(top, lane):
            self._do(self._bench.work(rounds))

    def fill_disk(self, rounds: int) -> None:
        """Let there be no room for a while."""
        self._disks.is_full = True
        self._do(self._bench.work(rounds))
        self._disks.is_full = False

    def wait(self, seconds: float) -> None:
        """Let nobody do anything for a while."""
        self._bench.advance(seconds)

    def wait_a_month(self) -> None:
        """Let results be put away."""
        self._bench.advance(MONTH_SECONDS)
        self._workspace.touch_all()

    def set_clock(self, seconds: float) -> None:
        """Let our wall clock jump."""
        self._bench.set_wall(seconds)

    # -- the end

    @invariant()
    def go_on(self) -> None:
        """Let everybody take a step after each rule."""
        self._do(self._bench.work(1))

    def teardown(self) -> None:
        """Cure everything, let it settle, and judge."""
        try:
            if not self._has_failed:
                self._cure()
                self._do(self._settle())
                with self._watched():
                    Judge(self._bench).judge()
        finally:
            self._tally.examples += 1
            self._tally.steps += self._bench.step_count
            self._tally.crashes += self._bench.crash_count
            self._runner.run(self._bench.stop())
            self._runner.close()
            self._disks.remove()
            for descriptor in self._growing.values():
                os.close(descriptor)
            self._folder.cleanup()

    def _cure(self) -> None:
        workspace = self._workspace
        for faults in (workspace.replies, workspace.troubles, workspace.cut_results_after, workspace.breaks):
            faults.clear()
        workspace.lag_count = 0
        self.bring_back()
        self.show_all()

    async def _settle(self) -> None:
        """Work on under each of the keys in turn: what was sent with one and is in doubt is found with that one."""
        await self._bench.stop()
        for _ in range(KEY_TURNS_MAX):
            for _ in range(ROUNDS_PER_KEY):
                self.end_all()
                await self._bench.work(1)
                if self._bench.is_settled():
                    return
            await self._bench.judge_candidates()
            await self._use_key(KEYS[self._bench.key_hash == KEYS[0]])
        left = self._bench.rows("SELECT custom_id, state, batch_id FROM requests WHERE ended_at IS NULL")
        raise AssertionError(f"not settled: {left}, in the inbox {self._bench.inbox_names()}")

    async def _use_key(self, key_hash: bytes) -> None:
        await self._bench.stop()
        self._bench.key_hash = key_hash

    def _do(self, work: Coroutine[object, object, object]) -> None:
        with self._watched():
            self._runner.run(work)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Remember that something was found: then there is nothing to judge at the end."""
        try:
            yield
        except BaseException:
            self._has_failed = True
            raise

    def _running(self) -> list[FakeBatch]:
        return [batch for batch in self._workspace.home if not batch.has_ended]

    def _new_name(self, extension: str) -> str:
        self._file_count += 1
        return f"file{self._file_count}.{extension}"

    def _new_tag(self) -> int:
        self._tag_count += 1
        return self._tag_count

    def _text(self, name: str, *, is_poison: bool) -> tuple[bytes, list[Asked]]:
        tag = self._new_tag()
        asked = Asked(tag=tag, custom_id=name.removesuffix(".md"), is_explicit=False)
        return prompt(tag, is_poison=is_poison).encode(), [asked]

    def _requests(self, name: str, given: Sequence[str | None]) -> tuple[bytes, list[Asked]]:
        stem, _, extension = name.partition(".")
        asked: list[Asked] = []
        items: list[dict[str, object]] = []
        for number, explicit in enumerate(given, start=1):
            is_explicit = explicit is not None and all(one.custom_id != explicit for one in asked)
            derived = f"{stem}-{number}"
            custom_id = explicit if is_explicit and explicit is not None else derived
            asked.append(Asked(tag=self._new_tag(), custom_id=custom_id, is_explicit=is_explicit))
            params = {"messages": [{"role": "user", "content": prompt(asked[-1].tag)}]}
            items.append({"params": params, **({"custom_id": custom_id} if is_explicit else {})})
        if extension == "json":
            return json.dumps({"requests": items}).encode(), asked
        return b"".join(json.dumps(item).encode() + b"\n" for item in items), asked

    def _plan(self, asked: Sequence[Asked], planned: Sequence[tuple[Fate, ...]]) -> None:
        for one, fates_of_one in zip(asked, planned, strict=False):
            self._workspace.fates[one.tag] = fates_of_one

    def _drop(self, drop: Drop) -> None:
        """Put a file into the inbox as it is now; the bench goes on watching over what had its name before."""
        path = self._bench.root_now / "inbox" / drop.path
        if path.exists():
            self._take_back(path)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(drop.content)
        self._bench.ledger.add(drop)
        self._bench.dropped[f"{drop.path}, {len(self._bench.dropped)}"] = drop.content

    def _take_back(self, path: Path) -> None:
        self._bench.ledger.take_back(path.relative_to(self._bench.root_now / "inbox").as_posix())
        content = path.read_bytes()
        name = next(name for name, dropped in self._bench.dropped.items() if dropped == content)
        del self._bench.dropped[name]


def _pick(things: Sequence[T], index: int) -> T | None:
    """Return one of several, counted from the last, whatever the number; None of none."""
    return things[-1 - index % len(things)] if things else None
