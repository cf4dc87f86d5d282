"""One request: what a file says is completed by what its lane says, and checked against what the API takes in a batch.

What is not checked here is the API's to judge: it reads the parameters when the batch runs, and a wrong one costs
nothing. Here stands what would be refused whole, what would reach beyond the file's own rights, and what costs money.
"""

import re
from collections.abc import Iterator, Mapping

import msgspec

from batchbox.errors import RejectedError
from batchbox.formats.draft import Draft, Origin, Rules
from batchbox.formats.problems import quoted, together
from batchbox.model import OUTPUT_300K_BETA, CustomId, RejectReason
from batchbox.naming import is_custom_id

REQUEST_BYTES_MAX = 32_000_000
"""Of one request's parameters: the Messages API takes 32 MB (its documentation, "Request size limits")."""

BETAS_MAX = 32

_BETA = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")

_NOT_IN_BATCHES = "The API does not take it in a batch: leave it out."
_BESIDE = 'Put it beside "params", as in {"custom_id": ..., "params": {...}, "betas": [...]}.'
_ON_REQUEST = "It reaches what belongs to the service's key: the administrator must name it in [limits] allow."

_WATCHED: Mapping[str, str] = {
    "stream": _NOT_IN_BATCHES,
    "speed": _NOT_IN_BATCHES,
    "store": _NOT_IN_BATCHES,
    "previous_thread_event_id": _NOT_IN_BATCHES,
    "cache_hint": _NOT_IN_BATCHES,
    "context_hint": _NOT_IN_BATCHES,
    "betas": _BESIDE,
    "custom_id": _BESIDE,
    "container": _ON_REQUEST,
    "mcp_servers": _ON_REQUEST,
}
"""Parameters that are not let through, and what to do about it (the API's documentation, "Batch processing")."""

_OPAQUE_FIELDS = frozenset({"input_schema", "input_examples", "output_config"})
"""What the API does not interpret: a tool may well have an argument of any name."""

_FILE_SOURCE = b'"file_id":'
"""In our own serialisation, which neither escapes letters nor adds spaces; in a text the quotes would be escaped."""


def draft_of(params: dict[str, object], origin: Origin, *, custom_id: object, betas: object, rules: Rules) -> Draft:
    """Complete the parameters, which become ours, and check them together with what stands beside them.

    `custom_id` and `betas` are what the file says, of whatever type; None is nothing. Raises RejectedError, which
    names every problem of the request.
    """
    problems = _not_allowed(params, rules)
    _fill_in(params, rules)
    _check_messages(params, problems)
    own_id = _custom_id(custom_id, problems)
    all_betas = _betas(betas, origin, rules=rules, problems=problems)
    model = _model(params, origin, rules=rules, problems=problems)
    max_tokens = _max_tokens(params, origin, model=model, rules=rules, problems=problems) if model else 0
    if problems:
        raise together(problems)
    return Draft(
        custom_id=own_id or origin.derived_id,
        explicit=own_id is not None,
        line=origin.line,
        params=_serialised(params, rules),
        betas=all_betas,
        model=model,
        max_tokens=max_tokens,
    )


def _not_allowed(params: dict[str, object], rules: Rules) -> list[RejectedError]:
    if params.get("stream") is False:
        del params["stream"]
    found = [field for field in params if field in _WATCHED and field not in rules.allow]
    return [
        RejectedError(RejectReason.NOT_ALLOWED, f'field "{field}" is not allowed in the parameters', _WATCHED[field])
        for field in found
    ]


def _fill_in(params: dict[str, object], rules: Rules) -> None:
    """Fill what is absent or null with the lane's values; max_tokens follows, because it depends on the model."""
    for field, value in (
        ("model", rules.model),
        ("max_tokens", rules.max_tokens),
        ("temperature", rules.temperature),
        ("system", rules.system),
        ("thinking", rules.thinking),
    ):
        if value is not None and params.get(field) is None:
            params[field] = value
    if rules.effort is not None:
        if params.get("output_config") is None:
            params["output_config"] = {}
        output_config = params["output_config"]
        if isinstance(output_config, dict) and output_config.get("effort") is None:
            output_config["effort"] = rules.effort


def _check_messages(params: dict[str, object], problems: list[RejectedError]) -> None:
    messages = params.get("messages")
    if isinstance(messages, list) and messages:
        return
    fact = "is not a list with messages" if "messages" in params else "is missing"
    todo = 'Give "messages" at least one message, as in [{"role": "user", "content": "..."}].'
    problems.append(RejectedError(RejectReason.NO_MESSAGES, f'field "messages" {fact}', todo))


def _custom_id(given: object, problems: list[RejectedError]) -> CustomId | None:
    if given is None:
        return None
    if isinstance(given, str) and is_custom_id(given):
        return CustomId(given)
    value = quoted(given) if isinstance(given, str) else "not a text"
    todo = "A custom_id is 1 to 64 of the characters a-z, A-Z, 0-9, _ and -; without one it is made of the file's name."
    problems.append(RejectedError(RejectReason.BAD_ID, f'field "custom_id" is {value}', todo))
    return None


def _betas(given: object, origin: Origin, *, rules: Rules, problems: list[RejectedError]) -> tuple[str, ...]:
    own = [] if given is None else given
    if not isinstance(own, list) or len(own) > BETAS_MAX or not all(_is_beta(beta) for beta in own):
        todo = f"A beta is a name like {OUTPUT_300K_BETA}; give a list of at most {BETAS_MAX}."
        problems.append(RejectedError(origin.malformed, 'field "betas" is not a list of betas', todo))
        return ()
    return tuple(sorted({OUTPUT_300K_BETA, *rules.betas, *own}))


def _is_beta(beta: object) -> bool:
    return isinstance(beta, str) and _BETA.fullmatch(beta) is not None


def _model(params: dict[str, object], origin: Origin, *, rules: Rules, problems: list[RejectedError]) -> str:
    """Return the model, or nothing after noting why there is none."""
    model = params.get("model")
    if not isinstance(model, str) or not model:
        fact = (
            'no model is named: field "model" is missing' if model is None else 'field "model" is not a model\'s name'
        )
        todo = "Name a model in the file; the administrator can set one in [lanes.<name>] or [defaults]."
        problems.append(RejectedError(origin.malformed, fact, todo))
        return ""
    if rules.models is not None and model not in rules.models:
        todo = f"Ask for one of these: {', '.join(rules.models)}."
        problems.append(RejectedError(RejectReason.NOT_ALLOWED, f"model {quoted(model)} is not allowed here", todo))
    return model


def _max_tokens(
    params: dict[str, object], origin: Origin, *, model: str, rules: Rules, problems: list[RejectedError]
) -> int:
    """Return what to ask for, or nothing after noting why not. What is absent or null becomes the most there is."""
    most = min((bound for bound in (rules.cap(model), rules.max_tokens_limit) if bound is not None), default=None)
    asked = params.get("max_tokens")
    if asked is None and most is not None:
        params["max_tokens"] = most
        return most
    if type(asked) is int and asked > 0 and (most is None or asked <= most):
        return asked
    problems.append(_bad_max_tokens(asked, origin, model=model, most=most))
    return 0


def _bad_max_tokens(asked: object, origin: Origin, *, model: str, most: int | None) -> RejectedError:
    if asked is None:
        fact = f'field "max_tokens" is missing, and what model {quoted(model)} can answer at most is not known here'
        return RejectedError(RejectReason.NOT_ALLOWED, fact, 'Give "max_tokens", or name a model that is known.')
    if type(asked) is not int or asked < 0:
        fact = 'field "max_tokens" is not a positive whole number'
        return RejectedError(origin.malformed, fact, 'Give "max_tokens" as a whole number, or leave it out.')
    if asked == 0:
        fact = 'field "max_tokens" is 0'
        return RejectedError(RejectReason.NOT_ALLOWED, fact, "The API does not take 0 in a batch: ask for at least 1.")
    fact = f'field "max_tokens" is {asked}, and the most for model {quoted(model)} is {most} here'
    return RejectedError(RejectReason.OVER_LIMIT, fact, f'Ask for at most {most}, or leave "max_tokens" out.')


def _serialised(params: dict[str, object], rules: Rules) -> bytes:
    data = msgspec.json.encode(params)
    if len(data) > REQUEST_BYTES_MAX:
        fact = f"the request has {len(data):,} bytes, and at most {REQUEST_BYTES_MAX:,} are possible"
        raise RejectedError(RejectReason.TOO_LARGE, fact, "Make the request smaller, or split it into several.")
    _check_file_sources(params, data, rules)
    return data


def _check_file_sources(params: dict[str, object], data: bytes, rules: Rules) -> None:
    if _FILE_SOURCE not in data or "file_id" in rules.allow:
        return
    if path := next(_file_sources(params, ""), None):
        raise RejectedError(RejectReason.NOT_ALLOWED, f'"file_id" is not allowed: {path}', _ON_REQUEST)


def _file_sources(value: object, path: str) -> Iterator[str]:
    """Yield where uploaded files are referred to, wherever the API would look; its depth is that of the document."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _file_sources(item, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    if "file_id" in value:
        yield f"{path}.file_id".lstrip(".")
    is_tool_use = str(value.get("type")).endswith("tool_use")
    for field, item in value.items():
        if field not in _OPAQUE_FIELDS and not (is_tool_use and field == "input"):
            yield from _file_sources(item, f"{path}.{quoted(field)}")
