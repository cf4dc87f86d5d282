"""What values must agree on with each other: a mistake stops the start, a doubt is only told.

Every check is given complete settings; whether their single values are right has been judged before.
"""

from collections.abc import Iterator, Sequence

from batchbox.config.addresses import is_loopback
from batchbox.config.problems import KeyPath, Problem
from batchbox.config.sections import MB, MINUTE, Defaults, LaneKeys, Poll, Retry
from batchbox.config.settings import Settings
from batchbox.pricing import Catalogue, Usage

REQUEST_BYTES_MAX = 32 * MB
"""The Messages API's own limit for one request."""

_NEVER_A_LANE = (".", "_", "~")


def disagreements(settings: Settings) -> list[Problem]:
    """Return every problem that takes more than one value to see."""
    return [
        *_nested_folders(settings),
        *_first_over_max(settings),
        *_lane_names(settings),
        *_forbidden_models(settings),
        *_too_many_tokens(settings),
        *_odd_models(settings),
    ]


def warnings(settings: Settings) -> list[str]:
    """Return a sentence for everything that works but is probably not what was meant."""
    return [str(doubt) for doubt in (*_early_poll(settings), *_large_files(settings), *_unknown_models(settings))]


def _nested_folders(settings: Settings) -> Iterator[Problem]:
    root, state = settings.paths.root, settings.paths.state
    if state.is_relative_to(root):
        sentence = "lies in root, where every client of the share could read it; choose a folder of its own"
    elif root.is_relative_to(state):
        sentence = "holds root, but only the service may enter it; choose a folder of its own"
    else:
        return
    yield Problem(path=("paths", "state"), sentence=sentence, depends_on=[("paths", "root")])


def _first_over_max(settings: Settings) -> Iterator[Problem]:
    waits: Sequence[tuple[str, Poll | Retry]] = [("poll", settings.poll), ("retry", settings.retry)]
    for section, wait in waits:
        if wait.first > wait.max:
            sentence = "is longer than max; shorten it or raise max"
            yield Problem(path=(section, "first"), sentence=sentence, depends_on=[(section, "max")])


def _lane_names(settings: Settings) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in settings.lanes:
        other = seen.setdefault(name.casefold(), name)
        if sentence := _name_fault(name):
            yield Problem(path=("lanes", name), sentence=sentence)
        elif other != name:
            sentence = f'is the same lane as "{other}", because lanes are told apart without case; keep one of them'
            yield Problem(path=("lanes", name), sentence=sentence)


def _name_fault(name: str) -> str | None:
    if not name or name.startswith(_NEVER_A_LANE):
        return "can be no folder in the inbox that is read: names must not be empty or begin with . _ or ~; rename it"
    if "/" in name or "\0" in name:
        return "can be no folder: a lane is one folder right in the inbox, its name without a slash; rename it"
    if name.casefold().endswith(".bundle"):
        return "can be no lane: a folder whose name ends in .bundle is one request; rename it"
    return None


def _forbidden_models(settings: Settings) -> Iterator[Problem]:
    allowed = settings.limits.models
    for path, keys in _holders(settings):
        if allowed is not None and keys.model is not None and keys.model not in allowed:
            sentence = f"{keys.model} is not among [limits] models; add it there or choose another"
            yield Problem(path=(*path, "model"), sentence=sentence, depends_on=[("limits", "models")])


def _too_many_tokens(settings: Settings) -> Iterator[Problem]:
    catalogue = settings.catalogue()
    for path, keys in _holders(settings):
        yield from _over_limit(settings, path=path, keys=keys)
        yield from _over_cap(settings, catalogue, path=path, keys=keys)


def _over_limit(settings: Settings, *, path: KeyPath, keys: Defaults | LaneKeys) -> Iterator[Problem]:
    limit = settings.limits.max_tokens
    if limit is not None and keys.max_tokens is not None and keys.max_tokens > limit:
        sentence = f"{keys.max_tokens} is over [limits] max_tokens, {limit}; lower it or raise the limit"
        yield Problem(path=(*path, "max_tokens"), sentence=sentence, depends_on=[("limits", "max_tokens")])


def _over_cap(
    settings: Settings, catalogue: Catalogue, *, path: KeyPath, keys: Defaults | LaneKeys
) -> Iterator[Problem]:
    """Judge what the table says together with what it inherits; what it inherits whole is judged where it stands."""
    model, tokens = keys.model or settings.defaults.model, keys.max_tokens or settings.defaults.max_tokens
    cap = None if model is None else catalogue.cap(model)
    is_own = keys.model is not None or keys.max_tokens is not None
    if is_own and cap is not None and tokens is not None and tokens > cap:
        key = "model" if keys.max_tokens is None else "max_tokens"
        sentence = f"asks {model} for {tokens} tokens, but it writes {cap} at most in a batch; set max_tokens to {cap}"
        inherited = [("defaults", "model"), ("defaults", "max_tokens"), (*path, "model"), (*path, "max_tokens")]
        yield Problem(path=(*path, key), sentence=sentence, depends_on=[*inherited, ("models",)])


def _odd_models(settings: Settings) -> Iterator[Problem]:
    catalogue = settings.catalogue()
    for model in settings.models:
        facts = catalogue.models[model]
        if facts.cap is not None and facts.extended is not None and facts.extended < facts.cap:
            sentence = f"is under cap, {facts.cap}; leave it out or raise it"
            yield Problem(path=("models", model, "extended"), sentence=sentence, depends_on=[("models", model)])
        stated = [facts.long_prompt_tokens, facts.long_input_usd, facts.long_output_usd]
        if None in stated and stated != [None, None, None]:
            sentence = "long_prompt_tokens, long_input_usd and long_output_usd belong together; give all three or none"
            yield Problem(path=("models", model), sentence=sentence, depends_on=[("models", model)])


def _early_poll(settings: Settings) -> Iterator[Problem]:
    if settings.poll.first < MINUTE and not is_loopback(settings.api.base_url):
        sentence = "is under 60s, which asks the API often for what takes minutes; 60s or more is kinder"
        yield Problem(path=("poll", "first"), sentence=sentence)


def _large_files(settings: Settings) -> Iterator[Problem]:
    if settings.inbox.max_file_bytes > REQUEST_BYTES_MAX:
        sentence = "is over 32MB, the API's limit for one request: only a list of requests can be so long"
        yield Problem(path=("inbox", "max_file_bytes"), sentence=sentence)


def _unknown_models(settings: Settings) -> Iterator[Problem]:
    catalogue = settings.catalogue()
    for path, keys in _holders(settings):
        if keys.model is not None:
            tokens = keys.max_tokens or settings.defaults.max_tokens
            yield from _doubts(catalogue, keys.model, path=(*path, "model"), has_tokens=tokens is not None)
    for index, model in enumerate(settings.limits.models or ()):
        yield from _doubts(catalogue, model, path=("limits", "models", index), has_tokens=True)


def _doubts(catalogue: Catalogue, model: str, *, path: KeyPath, has_tokens: bool) -> Iterator[Problem]:
    if catalogue.cost_usd(model, Usage()) is None:
        sentence = f"{model} has no known price, so its cost stays unknown; give input_usd and output_usd"
        yield Problem(path=path, sentence=f'{sentence} in [models."{model}"]')
    if catalogue.cap(model) is None and not has_tokens:
        sentence = f"{model} has no known cap, so every request needs its own max_tokens; give cap"
        yield Problem(path=path, sentence=f'{sentence} in [models."{model}"], or max_tokens')


def _holders(settings: Settings) -> Sequence[tuple[KeyPath, Defaults | LaneKeys]]:
    """Return every table that may name a model, with its place."""
    lanes = [(("lanes", name), keys) for name, keys in settings.lanes.items()]
    return [(("defaults",), settings.defaults), *lanes]
