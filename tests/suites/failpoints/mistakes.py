"""Mistakes that somebody could make, each of which some fault at some point must bring to light.

What only a power cut can show (a missing fsync) is not here, nor what recovery heals anyway.
"""

from dataclasses import dataclass

from suites.mutants import Mutation

SENDING = "dispatch/sending.py"
RECONCILE = "dispatch/reconcile.py"
PUBLISHING = "delivery/publishing.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A planted mistake, and where to look first."""

    mutation: Mutation
    near: str
    """Part of the names of the points at which faults are tried; empty: at all of them."""


MISTAKES = (
    Mistake(
        near="rename in outbox.py",
        mutation=Mutation(
            name="markers are published before the texts",
            file="folders/outbox.py",
            before="for is_marker in (False, True):",
            after="for is_marker in (True, False):",
        ),
    ),
    Mistake(
        near="outbox.py",
        mutation=Mutation(
            name="stems are not recorded before the first rename",
            file=PUBLISHING,
            before="group = await self._take_stems(group, stems)",
            after="pass",
        ),
    ),
    Mistake(
        near="",
        mutation=Mutation(
            name="an unknown outcome is taken for a no",
            file=SENDING,
            before="                self._expect(nonce)\n",
            after="                await self._withdraw(batch, nonce, now, is_break=False)\n",
        ),
    ),
    Mistake(
        near="create",
        mutation=Mutation(
            name="a stop during the POST is taken for a no",
            file=SENDING,
            before="if not body.is_handed_out:",
            after="if True:",
        ),
    ),
    Mistake(
        near="create",
        mutation=Mutation(
            name="the intent does not stand while the POST is under way",
            file=SENDING,
            before="            return await self._api.create(body, betas=batch.betas)\n",
            after="            await self._store.withdraw(batch.id, nonce, now=now.wall, is_break=False)\n"
            "            return await self._api.create(body, betas=batch.betas)\n",
        ),
    ),
    Mistake(
        near="create",
        mutation=Mutation(
            name="the manifest is written after the POST",
            file=SENDING,
            before="            await self._manifests.write(sending.nonce, self._manifest(batch, sending))\n"
            "            await self._presence.confirm()\n"
            "            body = await self._store.body(batch.id, sending.nonce)\n",
            after="            await self._presence.confirm()\n"
            "            body = await self._store.body(batch.id, sending.nonce)\n"
            "            outcome = await self._post(batch, sending.nonce, body, now)\n"
            "            await self._manifests.write(sending.nonce, self._manifest(batch, sending))\n"
            "            return await self._record(batch, sending.nonce, outcome, now)\n",
        ),
    ),
    Mistake(
        near="create",
        mutation=Mutation(
            name="the candidates are closed without grace",
            file=RECONCILE,
            before="if now.monotonic >= watch.since + self._settings.grace:",
            after="if now.monotonic >= watch.since:",
        ),
    ),
    Mistake(
        near="before list",
        mutation=Mutation(
            name="a look that failed is taken for an empty list",
            file=RECONCILE,
            before='            log.warning("look failed", extra={"why": error.trouble.text, '
            '"again_in_seconds": until - now.monotonic})\n            return\n',
            after='            log.warning("look failed", extra={"why": error.trouble.text, '
            '"again_in_seconds": until - now.monotonic})\n            strangers = []\n',
        ),
    ),
    Mistake(
        near="create",
        mutation=Mutation(
            name="a candidate of the right count is adopted",
            file=RECONCILE,
            before="signature = await self._signature(batch.id)",
            after="signature = Signature(nonce=(await self._store.doubts())[0].nonce)",
        ),
    ),
    Mistake(
        near="outbox.py",
        mutation=Mutation(
            name="answers are recorded before they are published",
            file=PUBLISHING,
            before="        if visible:\n"
            "            refused, noted = await self._show(visible, now)\n"
            "        left = refused | self.overtaken\n"
            "        done = [written for written in group if written.request.request_id not in left]\n"
            "        await self._store.record([written.ended for written in done], now=now.wall)\n",
            after="        await self._store.record([written.ended for written in group], now=now.wall)\n"
            "        if visible:\n"
            "            refused, noted = await self._show(visible, now)\n",
        ),
    ),
    Mistake(
        near="before write",
        mutation=Mutation(
            name="answers are written in place",
            file="folders/outbox.py",
            before="os.rename(publication.part.name, publication.name, src_dir_fd=outbox, dst_dir_fd=outbox)",
            after="target = os.open(publication.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666, dir_fd=outbox)\n"
            "        part = os.open(publication.part.name, os.O_RDONLY, dir_fd=outbox)\n"
            "        write_all(target, [os.read(part, 1_000_000)])\n"
            "        os.unlink(publication.part.name, dir_fd=outbox)",
        ),
    ),
    Mistake(
        near="",
        mutation=Mutation(
            name="a try that failed is counted twice",
            file="store/delivery.py",
            before="[(int(ended.counts_as_attempt), to_ms(now), ended.request_id) for ended in requeued],",
            after="[(2 * int(ended.counts_as_attempt), to_ms(now), ended.request_id) for ended in requeued],",
        ),
    ),
    Mistake(
        near="outbox.py",
        mutation=Mutation(
            name="parts of an earlier life are left in the outbox",
            file="folders/outbox.py",
            before='if name.startswith(self._prefix) and name.endswith(".part"):',
            after="if not name:",
        ),
    ),
    Mistake(
        near="shelves.py",
        mutation=Mutation(
            name="the own placeholder in done/ is not known again",
            file="folders/shelves.py",
            before="if _take(target, content, shelf, is_alone=is_alone, durable=False):",
            after="if _create(target, content, shelf, durable=False):",
        ),
    ),
    Mistake(
        near="shelves.py",
        mutation=Mutation(
            name="the own explanation in rejected/ is not known again",
            file="folders/shelves.py",
            before="if _take(explanation, file.explanation, shelf, is_alone=is_alone, durable=True):",
            after="if _create(explanation, file.explanation, shelf, durable=True):",
        ),
    ),
    Mistake(
        near="INSERT INTO",
        mutation=Mutation(
            name="a long file whose reading broke off is not read again",
            file="intake/claims.py",
            before="    await store.forget_unfinished()\n",
            after="",
        ),
    ),
    Mistake(
        near="before read in reading.py",
        mutation=Mutation(
            name="a claim that could not be read is never looked for again",
            file="intake/stage.py",
            before="self._recorder.forget()  # a claim may appear late",
            after="pass  # a claim may appear late",
        ),
    ),
    Mistake(
        near="outbox.py",
        mutation=Mutation(
            name="nothing waits after a failure",
            file="timing.py",
            before="self._until = now + min(max(wait, at_least), at_most)",
            after="self._until = now + 0.0 * min(max(wait, at_least), at_most)",
        ),
    ),
)
