"""The mistakes that the model must notice: each lets a request be lost, bought twice, or answered wrongly."""

from .mutants import Mutation

MUTATIONS = (
    Mutation(
        name="in doubt, sent again at once",
        file="dispatch/reconcile.py",
        before="if now.monotonic >= watch.since + self._settings.grace:",
        after="if now.monotonic >= watch.since:",
    ),
    Mutation(
        name="adopted by its count",
        file="dispatch/reconcile.py",
        before="        if signature.nonce is None or batch_id is None:\n",
        after="        if signature.nonce is None or batch_id is None:\n"
        "            for doubt in await self._store.doubts():\n"
        "                if batch.id in doubt.candidates:\n"
        "                    await self._store.accept(\n"
        "                        doubt.batch_id, doubt.nonce, batch, api_request_id=None, now=now.wall\n"
        "                    )\n",
    ),
    Mutation(
        name="another workspace believed",
        file="account.py",
        before="if key_hash == self._key_hash:",
        after="if key_hash is not None:",
    ),
    Mutation(
        name="attempts not counted",
        file="store/delivery.py",
        before="[(int(ended.counts_as_attempt), to_ms(now), ended.request_id) for ended in requeued],",
        after="[(0, to_ms(now), ended.request_id) for ended in requeued],",
    ),
    Mutation(
        name="lack of credit counted as an attempt",
        file="store/delivery.py",
        before="[(int(ended.counts_as_attempt), to_ms(now), ended.request_id) for ended in requeued],",
        after="[(1, to_ms(now), ended.request_id) for ended in requeued],",
    ),
    Mutation(
        name="double drop bought",
        file="store/recording.py",
        before="if same is not None and is_same and not self._is_in_file(same, here):",
        after="if same is not None and self._is_in_file(same, here):",
    ),
    Mutation(
        name="not looked at once more before it is sent",
        file="dispatch/verifying.py",
        before="pairs = list(zip(sources, comparisons, strict=True))",
        after="pairs = [(source, Comparison.SAME) for source in sources]",
    ),
    Mutation(
        name="requeue loses a request",
        file="store/delivery.py",
        before="[ended.request_id for ended in requeued], RequestEvent.REQUEUE",
        after="[ended.request_id for ended in requeued[1:]], RequestEvent.REQUEUE",
    ),
    Mutation(
        name="halving drops the middle one",
        file="store/regrouping.py",
        before="(request_ids[:middle], request_ids[middle:])",
        after="(request_ids[:middle], request_ids[middle + 1 :])",
    ),
    Mutation(
        name="lost batch sent again",
        file="store/polling.py",
        before="BatchEvent.LOSE):\n",
        after="BatchEvent.LOSE):\n                await transaction.run("
        "\"UPDATE requests SET state = 'waiting', batch_id = NULL WHERE batch_id = ?\", (batch_id,))\n",
    ),
    Mutation(
        name="file settled too early",
        file="store/delivery.py",
        before='"WHERE a.request_id IN (SELECT value FROM json_each(?)) AND s.open_count = 0",',
        after='"WHERE a.request_id IN (SELECT value FROM json_each(?)) AND s.open_count >= 0",',
    ),
    Mutation(
        name="names that differ in case alone",
        file="delivery/publishing.py",
        before="while stem.casefold() in taken:",
        after="while stem in taken:",
    ),
    Mutation(
        name="missing after one reading",
        file="delivery/stage.py",
        before="SHORT_READS_MAX = 3\n",
        after="SHORT_READS_MAX = 1\n",
    ),
    Mutation(
        name="claims of the dead forgotten",
        file="intake/recording.py",
        before="self._claims = deque(others)",
        after="self._claims = deque(new)",
    ),
    Mutation(
        name="a cancelled request goes into the resend",
        file="store/cancelling.py",
        before="\"AND state IN ('waiting', 'batched') AND stem IS NULL AND canceled_at IS NULL\"",
        after="\"AND state = 'waiting' AND stem IS NULL AND canceled_at IS NULL\"",
    ),
    Mutation(
        name="cancelled in the Console, bought again",
        file="triage.py",
        before="return Failed(error_type=ErrorType.CANCELED_ELSEWHERE, text=text)",
        after="return Retry(error_type=ErrorType.CANCELED_ELSEWHERE, text=text)",
    ),
)
"""The first ones of a short run are named in `model`."""
