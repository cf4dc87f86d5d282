"""Asks the API whether it can be reached, takes the key, and knows the models. Buys nothing."""

from collections.abc import AsyncIterator, Sequence

import anyio

from batchbox.anthropic_api import open_api
from batchbox.api import ApiTrouble, BatchesApi, TroubleKind
from batchbox.cli.check.finding import Finding, Subject, fail, ok, warn
from batchbox.config import Settings
from batchbox.errors import ConfigurationError

_PASSING = {TroubleKind.RATE_LIMIT, TroubleKind.OVERLOADED}
"""It can be reached and has taken the key; the daemon waits such things out."""

_FIXES = {
    TroubleKind.KEY: "make a new key in the Console, or check that this one was copied whole and may use batches",
    TroubleKind.BILLING: "look at the account's credit and limits in the Console",
    TroubleKind.NETWORK: "check the network, and base_url, proxy and ca_file in [api]",
    TroubleKind.SERVER: "try again later; if it stays so, check [api] base_url",
    TroubleKind.NOT_FOUND: "check [api] base_url",
    TroubleKind.CLIENT: "check [api] base_url and workspace_id",
}


def look_at_api(settings: Settings, key: str) -> list[Finding]:
    """Return what the API said."""
    try:
        return anyio.run(_ask, settings, key)
    except ConfigurationError as error:
        return [fail(Subject.API, problem) for problem in error.problems]


async def _ask(settings: Settings, key: str) -> list[Finding]:
    async with open_api(
        base_url=settings.api.base_url,
        api_key=key,
        timeout_seconds=settings.api.timeout,
        create_timeout_seconds=settings.api.create_timeout,
        workspace_id=settings.api.workspace_id,
        proxy=settings.api.proxy,
        ca_file=settings.api.ca_file,
    ) as api:
        first = await _reach(api, settings.api.base_url)
        if first.level == "fail":
            return [first]
        return [first, *[finding async for finding in _models(api, settings)]]


async def _reach(api: BatchesApi, base_url: str) -> Finding:
    try:
        await api.list_batches(limit=1)
    except ApiTrouble as error:
        return _from_trouble(Subject.API, f"{base_url}: ", error)
    return ok(Subject.API, f"{base_url} can be reached, and takes the key")


async def _models(api: BatchesApi, settings: Settings) -> AsyncIterator[Finding]:
    catalogue = settings.catalogue()
    for model in _named_models(settings):
        try:
            await api.model(model)
        except ApiTrouble as error:
            if error.trouble.kind is TroubleKind.NOT_FOUND:
                fix = "correct its name in the settings; the Console and the API's documentation list the models"
                yield fail(Subject.MODEL, f"{model}: the API does not know it, or not for this key", fix=fix)
            else:
                yield _from_trouble(Subject.MODEL, f"{model}: ", error)
            continue
        cap = catalogue.cap(model)
        length = "its longest answer is not known here" if cap is None else f"answers of up to {cap} tokens in batches"
        yield ok(Subject.MODEL, f"{model}: the API knows it; {length}")


def _named_models(settings: Settings) -> Sequence[str]:
    names = [settings.defaults.model, *(keys.model for keys in settings.lanes.values())]
    return list(dict.fromkeys(name for name in names if name is not None))


def _from_trouble(subject: Subject, lead: str, error: ApiTrouble) -> Finding:
    trouble = error.trouble
    if trouble.kind in _PASSING:
        return warn(subject, lead + trouble.text, fix="nothing: the daemon waits for it")
    return fail(subject, lead + trouble.text, fix=_FIXES[trouble.kind])
