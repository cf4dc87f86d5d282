"""What the API answers when it does not do what it was asked: a status, a type and a sentence."""

from collections.abc import Mapping
from types import MappingProxyType

STATUS_OF_TYPE: Mapping[str, int] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "conflict_error": 409,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "overloaded_error": 529,
    }
)
"""The API's error types, from its documentation."""


class Refusal(Exception):  # noqa: N818 - "refusal" is the word for it everywhere
    """A call is answered with an error of the API's."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message

    @property
    def status(self) -> int:
        """The status that goes with the error type."""
        return STATUS_OF_TYPE[self.error_type]


def error_body(error_type: str, message: str, request_id: str) -> dict[str, object]:
    """Return an error in the API's shape, as it stands in a response's body and in an errored line."""
    return {"type": "error", "error": {"type": error_type, "message": message}, "request_id": request_id}
