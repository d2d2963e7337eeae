"""The only translator of errors: what went wrong inside, as a caller of the REST door sees it."""

from collections.abc import Mapping

from bedside.core.errors import BedsideError, Kind

STATUS: Mapping[Kind, int] = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.MISSING: 404,
    Kind.METHOD: 405,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.THROTTLED: 429,
    Kind.INTERNAL: 500,
    Kind.UPSTREAM: 502,
    Kind.UNAVAILABLE: 503,
    Kind.TIMEOUT: 504,
    Kind.SETUP: 500,
}


def known(error: Exception) -> BedsideError:
    """The error itself, or a neutral one in its place: an unknown error's words may hold a caller's text."""
    return error if isinstance(error, BedsideError) else BedsideError("INTERNAL")


def as_json(error: BedsideError, request_id: str) -> dict[str, object]:
    """The members of ``error`` in a failure's envelope."""
    return {"code": error.code, "message": str(error), "requestId": request_id}


def headers(error: BedsideError) -> dict[str, str]:
    """What the status asks for beside the body (RFC 9110, sections 10.2.3 and 11.6.1)."""
    found = {}
    if error.kind is Kind.UNAUTHENTICATED:
        found["www-authenticate"] = "Bearer"
    if error.retry_after is not None:
        found["retry-after"] = str(error.retry_after)
    return found
