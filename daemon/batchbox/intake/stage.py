"""From a dropped file to recorded requests: look, wait until it is still, claim, read, parse, record, or put aside.

The scan is the truth; bells only say "look now". One step does all that is due: whatever lies in processing/ without
a row is read and recorded first, which is the same act after a claim and after a crash; then what can never become a
request is moved to rejected/; then the inbox is listed, sampled and claimed from, lanes in turn.

What goes wrong with one file or one lane is that one's alone: it is told once, waits, and is tried again. Only an error
of the root's own folders ends the step.

What this leaves to others: looking and claiming (`looking`), whether a file is still (`settling`), which marker it has
(`markers`), who takes it back (`cancelling`), what is in it (`formats`), which ids it may have (`store.intake`).

If we die              | what is left                                  | what the next step does
-----------------------+-----------------------------------------------+------------------------------------------
before a claim         | the file in the inbox                         | sees it again
after a claim          | a file in processing/ that no row knows       | reads and records it
while reading a long one | a READING row, INCOMING requests            | forgets them and reads it again
before an explanation  | a REJECTING row                               | writes the explanation
during an explanation  | its beginning, no name recorded               | writes it to its end, takes the name
after an explanation   | the explanation, no name recorded             | finds its own words, takes the name
after the move         | a REJECTING row, the file in rejected/        | finds nothing to move, records it
after a file was found | its row READING, its claim unsettled          | forgets the row, waits until the file is
changed                |                                               | still, reads it again
before it is read again | its claim unsettled and without a row        | reads it, or tells that it has gone
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from batchbox.errors import NoRoomError, RootOfflineError, StateNotWritableError
from batchbox.folders.inbox import Inbox
from batchbox.folders.layout import Presence
from batchbox.folders.listing import Listing, Unread
from batchbox.intake.cancelling import Canceller
from batchbox.intake.looking import REFUSED_TOLD_MAX, Looker, Scan
from batchbox.intake.markers import Paired, pair
from batchbox.intake.recording import Recorder
from batchbox.intake.rejecting import Rejecter
from batchbox.intake.settling_anew import SettlingAnew
from batchbox.intake.sightings import Pace
from batchbox.logs import shown
from batchbox.model import Lane, Now
from batchbox.naming import is_ignored
from batchbox.store.holds import Keeper
from batchbox.store.intake import Backlog, IntakeStore

HEARTBEAT_SECONDS = 60.0
REREAD_SECONDS = 30.0
"""When claims that could not be read are tried again."""
STEP_SECONDS_MIN = 0.02
"""Files that arrive in a stream become due one by one; so much is gathered into one step."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """When files are looked at and taken. Durations are seconds; what depends on where the root is may change."""

    quiet: Callable[[], float]
    rescan: Callable[[], float]
    incomplete_after: float
    pending_max: int
    pending_bytes_max: int


class Intake:
    """The stage that turns files into requests."""

    def __init__(
        self,
        settings: IntakeSettings,
        *,
        store: IntakeStore,
        inbox: Inbox,
        presence: Presence,
        recorder: Recorder,
        rejecter: Rejecter,
        canceller: Canceller,
        settling_anew: SettlingAnew,
        root_keeper: Keeper,
        disk_keeper: Keeper,
        watch: Callable[[Mapping[Lane, tuple[int, int]]], None],
        demands_markers: Callable[[Lane], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._inbox = inbox
        self._presence = presence
        self._recorder = recorder
        self._rejecter = rejecter
        self._canceller = canceller
        self._settling_anew = settling_anew
        self._root_keeper = root_keeper
        self._disk_keeper = disk_keeper
        self._watch = watch  # told after each listing which folders there are, each by device and inode
        self._demands_markers = demands_markers
        self._looker = Looker(inbox=inbox, recorder=recorder, takes_more=self._takes_more)
        self._beat_at = 0.0
        self._lanes: Collection[str] | None = None  # that have their place; None: there was no listing yet
        self._unread: Mapping[str, Unread] = {}
        self._broken: Mapping[str, Unread] = {}
        self._found = Scan(lanes={}, backlog=Backlog(request_count=0, size_bytes=0))
        self._is_idle = False

    @property
    def is_idle(self) -> bool:
        """Whether the last step found nothing in the inbox and left nothing half done."""
        return self._is_idle and not self._settling_anew.is_waiting and not self._canceller.waiting

    @property
    def left_count(self) -> int:
        """How many files the last scan has left in the inbox."""
        return self._found.left_count + len(self._canceller.waiting)

    def refused(self) -> Sequence[str]:
        """Return a few of the files that could not be taken when that was last tried."""
        return [*self._looker.refused(), *self._canceller.waiting][:REFUSED_TOLD_MAX]

    @property
    def broken_folders(self) -> Mapping[str, Unread]:
        """The lanes, or the inbox, whose files wait until somebody has cured the folder, and why."""
        return self._broken

    async def step(self, now: Now) -> float:
        """Do what is due; return the monotonic moment of the next step."""
        held_until = max(self._root_keeper.until, self._disk_keeper.until)
        if now.monotonic < held_until:
            return held_until
        try:
            next_due = await self._work(now)
        except (OSError, RootOfflineError) as error:
            self._start_over()
            self._watch({})
            if not self._root_keeper.is_failing:
                log.warning("root cannot be worked on", extra={"why": str(error)})
            await self._root_keeper.fail(str(error), now)
            return self._root_keeper.until
        except NoRoomError as error:
            self._start_over()
            await self._wait_for_room(error, now)
            return self._disk_keeper.until
        except StateNotWritableError:
            self._start_over()
            raise
        if await self._root_keeper.succeed():
            log.info("root is back")
        if await self._disk_keeper.succeed():
            log.info("there is room on the disk again")
        return max(next_due, now.monotonic + STEP_SECONDS_MIN)

    def _start_over(self) -> None:
        """Trust nothing that the step has learned: what was claimed before it failed is found in processing/."""
        self._is_idle = False
        self._recorder.forget()

    async def _wait_for_room(self, error: NoRoomError, now: Now) -> None:
        if not self._disk_keeper.is_failing:
            log.warning("nothing is taken for lack of room", extra={"why": str(error)})
        await self._disk_keeper.fail(str(error), now)
        await self._root_keeper.succeed()

    async def _work(self, now: Now) -> float:
        if now.monotonic >= self._beat_at:
            await self._presence.confirm()
            await self._presence.beat()
            self._recorder.forget()  # a claim may appear late, when its rename had failed, or become readable
            self._beat_at = now.monotonic + HEARTBEAT_SECONDS
        is_one_still, look_due = await self._settling_anew.step(now)
        if is_one_still:
            self._recorder.forget()
        await self._recorder.record([], now)
        await self._rejecter.put_aside(now)
        next_due = min(look_due, await self._scan(now))
        await self._rejecter.put_aside(now)
        if self._recorder.has_unread:
            self._beat_at = min(self._beat_at, now.monotonic + REREAD_SECONDS)
        return min(next_due, self._beat_at)

    async def _scan(self, now: Now) -> float:
        listing = await self._inbox.listing(is_ignored, self._lanes)
        self._lanes = listing.lanes
        if any(listing.names.values()):
            self._is_idle = False  # before anything is claimed
        self._watch(listing.folders)
        self._tell_folders(listing)
        self._canceller.keep(listing.names)
        paired = {lane: await self._sort_out(lane, names, now) for lane, names in listing.names.items()}
        lanes = {lane: of_lane for lane, of_lane in paired.items() if of_lane.names}
        self._found = Scan(lanes=lanes, backlog=await self._store.backlog())
        pace = Pace(quiet=self._settings.quiet(), incomplete_after=self._settings.incomplete_after)
        rescan = now.monotonic + self._settings.rescan()
        look_due = await self._looker.look(self._found, pace, now)
        is_all_listed = Unread.UNREACHABLE not in listing.unread.values()
        self._is_idle = self._found.left_count == 0 and is_all_listed and not self._recorder.has_unread
        return min(rescan, look_due)

    def _takes_more(self, backlog: Backlog) -> bool:
        settings = self._settings
        return backlog.request_count < settings.pending_max and backlog.size_bytes < settings.pending_bytes_max

    async def _sort_out(self, lane: Lane, names: Sequence[str], now: Now) -> Paired:
        """Obey what takes back others; return the names that are left, with the markers out of the way."""
        paired = pair(names, is_demanded=self._demands_markers(lane))
        taken = await self._canceller.obey(lane, names, paired.markers, unread=self._recorder.unread, now=now)
        if not taken.names and not taken.waiting:
            return paired
        await self._recorder.record(taken.claims, now)
        left = [name for name in names if name not in taken.names and name not in taken.waiting]
        return pair(left, is_demanded=self._demands_markers(lane))

    def _tell_folders(self, listing: Listing) -> None:
        for name, why in sorted(listing.unread.items() - self._unread.items()):
            log.warning("folder is not read", extra={"folder": shown(name), "why": str(why)})
        self._unread = listing.unread
        self._broken = {name: why for name, why in listing.unread.items() if name in listing.stuck}
