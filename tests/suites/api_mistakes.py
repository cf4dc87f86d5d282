"""Mistakes that are planted to see whether the API suite notices: first of all the strategies known to be wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

from .mutants import Mutation

ALONE = ("crowd:1:60:1:0:0.4", "crowd:2:60:1:0:0.4", "crowd:3:60:1:0:0.4")
SHARED = ("crowd:1:60:1:1:0.4", "crowd:2:60:1:1:0.4", "crowd:3:60:1:1:0.4")

_ASK = "        await self._ask_about([batch for batch in strangers if batch.has_ended], now)\n"
_BY_COUNT = """\
        for doubt in await self._store.doubts():
            known = await self._store.known_batches([batch.id for batch in strangers])
            fitting = [batch for batch in strangers if {condition}_fits(batch, doubt) and batch.id not in known]
            for batch in fitting[:1]:
                await self._store.accept(doubt.batch_id, doubt.nonce, batch, api_request_id=None, now=now.wall)
"""
_POST = "        outcome = await self._post(batch, sending.nonce, body, now)\n"
_MARK_AFTER = """\
        newest = (await self._api.list_batches(limit=1)).batches
        async with self._store._database.transaction() as transaction:
            mark = int(newest[0].created_at.timestamp() * 1000) + 300_000 if newest else None
            await transaction.run("UPDATE sendings SET mark = ? WHERE nonce = ?", (mark, sending.nonce))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A mistake, and the trials that bring it to light, tried in their order."""

    mutation: Mutation
    trials: Sequence[str]
    is_cheap: bool = False
    """Whether the short form tries it."""


def _planted(name: str, file: str, before: str, after: str, *trials: str, is_cheap: bool = False) -> Planted:
    mutation = Mutation(name=name, file=file, before=before, after=after)
    return Planted(mutation=mutation, trials=trials, is_cheap=is_cheap)


MISTAKES: Sequence[Planted] = (
    _planted(
        "the SDK's retries on",
        "anthropic_api.py",
        '"timeout": waits,\n                "max_retries": 0,',
        '"timeout": waits,\n                "max_retries": 2,',
        "create:lost:alone:never",
        is_cheap=True,
    ),
    _planted(
        "a redirect followed",
        "anthropic_api.py",
        "follow_redirects=False,",
        "follow_redirects=True,",
        "create:redirect:alone:never",
    ),
    _planted(
        "a page with status 200 taken for a no",
        "triage.py",
        "    if failure.status == 529:",
        "    if failure.status in {200, 529}:",
        "create:html_after-200:alone:never",
    ),
    _planted(
        "a 500 taken for a no",
        "triage.py",
        "    if failure.status == 529:",
        "    if failure.status >= 500:",
        "create:status_after-500:alone:never",
    ),
    _planted(
        "408 and 409 taken for a no",
        "triage.py",
        "NOT_A_NO = frozenset({408, 409})",
        "NOT_A_NO = frozenset()",
        "create:status_after-409:alone:never",
    ),
    _planted(
        "a gateway's no taken for the API's",
        "triage.py",
        "        failure.is_api_shaped\n        and failure.status is not None",
        "        failure.status is not None",
        "create:html_after-403:alone:never",
    ),
    _planted(
        "a lost reply taken for a no",
        "triage.py",
        "return Unknown(trouble=trouble) if body_was_handed_out else SurelyNot(trouble=trouble)",
        "return SurelyNot(trouble=trouble)",
        "create:lost:alone:never",
    ),
    _planted(
        "resent at once",
        "dispatch/reconcile.py",
        "if doubt.nonce in believed and doubt.candidates_closed and not doubt.candidates:",
        "if doubt.nonce in believed:",
        *("create:lost:alone:never", *ALONE),
        is_cheap=True,
    ),
    _planted(
        "matched by count, at once",
        "dispatch/reconcile.py",
        _ASK,
        _BY_COUNT.format(condition=""),
        *("create:lost:running:never", *SHARED),
    ),
    _planted(
        "matched by count, after grace",
        "dispatch/reconcile.py",
        _ASK,
        _BY_COUNT.format(condition="doubt.candidates_closed and "),
        *("create:lost:running:never", *SHARED),
    ),
    _planted(
        "candidates closed without grace",
        "dispatch/reconcile.py",
        "if now.monotonic >= watch.since + self._settings.grace:",
        "if True:",
        *("create:lost-list-lags:alone:never", *ALONE),
        is_cheap=True,
    ),
    _planted(
        "grace not begun anew by a new process",
        "dispatch/reconcile.py",
        "            watch.since = now.monotonic\n        watch.looks",
        "            watch.since = now.monotonic - self._settings.grace\n        watch.looks",
        *("create:lost-list-lags:alone:after", *ALONE),
    ),
    _planted(
        "the mark taken after the POST, without its margin",
        "dispatch/sending.py",
        _POST,
        _POST + _MARK_AFTER,
        *ALONE,
    ),
    _planted(
        "the mark without its margin",
        "dispatch/reconcile.py",
        "MARK_MARGIN = timedelta(minutes=5)",
        "MARK_MARGIN = timedelta(0)",
        *SHARED,
    ),
    _planted(
        "a failed page taken for an empty list",
        "dispatch/reconcile.py",
        '"again_in_seconds": until - now.monotonic})\n            return\n',
        '"again_in_seconds": until - now.monotonic})\n            strangers = []\n',
        *("create:lost-list-broken:alone:never", *ALONE),
    ),
    _planted(
        "only the first page read",
        "dispatch/reconcile.py",
        "if not page.has_more or any(",
        "if True or any(",
        *SHARED,
    ),
    _planted(
        "a candidate that runs not waited for",
        "dispatch/reconcile.py",
        "return batch.counts.total == doubt.request_count and not",
        "return batch.has_ended and batch.counts.total == doubt.request_count and not",
        *("create:lost:alone:never", *ALONE),
    ),
    _planted(
        "a candidate ruled out that cannot be read",
        "dispatch/reconcile.py",
        '            log.warning("candidate cannot be read",',
        '            await self._store.rule_out(batch.id)\n            log.warning("candidate cannot be read",',
        *("create:lost-line-paged:alone:never", *ALONE),
    ),
    _planted(
        "a torn line taken for another program's",
        "dispatch/reconcile.py",
        'await self._store.note_unreadable(batch.id, "its results have no line that can be read")',
        "await self._store.rule_out(batch.id)",
        "create:lost-line-torn:alone:never",
    ),
    _planted(
        "lines of results not counted",
        "delivery/stage.py",
        "if left and batch.short_reads + 1 < SHORT_READS_MAX:",
        "if False:",
        "results:plain:after-a-line-end:clean",
    ),
    _planted(
        "a page taken for the results",
        "delivery/reading.py",
        "if self._foreign_count and not self._names_batch:",
        "if False:",
        "results:instead:page-as-lines:8",
    ),
    _planted(
        "a broken stream taken for a whole one",
        "delivery/reading.py",
        "            await self._flush()\n            raise\n",
        "            await self._flush()\n            return True\n",
        *(f"results:bytes:{start}:{start + 100}" for start in (0, 300)),
    ),
)
