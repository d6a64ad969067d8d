"""Errors of the gateway, as one tree.

Each class has the HTTP status of its problem document (RFC 9457, made in
`gateway.http.response.problem`); each instance a stable `code` for programs, a `detail` that says
what to do, and `members` for the problem document. The command line prints the detail as one line
and exits with the class's `exit_code`.
"""

from __future__ import annotations

from typing import Any


class GatewayError(Exception):
    """Base of the tree. `code` is stable; `detail` is for people."""

    status = 500
    title = "Internal error"
    code = "internal"
    exit_code = 1

    def __init__(self, detail: str, *, code: str | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code
        self.members = members


class InvalidRequest(GatewayError):
    """400: the request as a whole makes no sense; nothing was done."""

    status = 400
    title = "Invalid request"
    code = "invalid_request"
    exit_code = 2


class InvalidFilter(InvalidRequest):
    """400: a filter expression does not compile. `column` counts from 1."""

    title = "Invalid filter"
    code = "invalid_filter"

    def __init__(self, detail: str, *, column: int, **members: Any) -> None:
        super().__init__(f"{detail} (column {column})", column=column, **members)
        self.column = column


class InvalidSetting(InvalidRequest):
    """A setting is unknown or has the wrong type; the program does not start."""

    title = "Invalid setting"
    code = "invalid_setting"


class Unauthorized(GatewayError):
    """401: no key, or an unknown one. Never says which part was wrong."""

    status = 401
    title = "Unauthorized"
    code = "invalid_key"
    exit_code = 3


class Forbidden(GatewayError):
    """403: the key is known and does not allow this; `code` is the reason."""

    status = 403
    title = "Forbidden"
    code = "not_granted"
    exit_code = 3


class NotFound(GatewayError):
    """404: no such thing, or none that this key may see."""

    status = 404
    title = "Not found"
    code = "not_found"
    exit_code = 4


class MethodNotAllowed(GatewayError):
    """405."""

    status = 405
    title = "Method not allowed"
    code = "method_not_allowed"


class NotAcceptable(GatewayError):
    """406: none of the media types in `Accept` can be produced."""

    status = 406
    title = "Not acceptable"
    code = "not_acceptable"


class RequestTimeout(GatewayError):
    """408: the body did not arrive in time."""

    status = 408
    title = "Request timeout"
    code = "request_timeout"


class Conflict(GatewayError):
    """409: the request contradicts what is there."""

    status = 409
    title = "Conflict"
    code = "conflict"


class ChangedMeanwhile(Conflict):
    """409: what the request was decided by has changed; decided anew, it may succeed."""


class CannotDecide(Conflict):
    """409: what is there cannot be read, so that nothing can be decided by it."""

    code = "undecided"
    exit_code = 7


class InUse(Conflict):
    """409: somebody else has it now; try again after `retry_after` whole seconds."""

    def __init__(self, detail: str, *, code: str, retry_after: int) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class CursorGone(GatewayError):
    """410: the cursor's events are not here (any more).

    Members: `earliest`, `latest` (cursors that work).
    """

    status = 410
    title = "Cursor gone"
    code = "cursor_expired"


class PreconditionFailed(GatewayError):
    """412: what is to be changed is another by now.

    Member: `etag`, the entity tag that it has.
    """

    status = 412
    title = "Precondition failed"
    code = "precondition_failed"


class PayloadTooLarge(GatewayError):
    """413."""

    status = 413
    title = "Payload too large"
    code = "payload_too_large"


class UnsupportedMediaType(GatewayError):
    """415."""

    status = 415
    title = "Unsupported media type"
    code = "unsupported_media_type"


class InvalidEvents(GatewayError):
    """422: items of an ingest request are refused, and nothing was stored.

    Member: `errors`, a list of `{"index", "path", "reason"}`.
    """

    status = 422
    title = "Invalid events"
    code = "invalid_events"
    exit_code = 2


class HeadTooLarge(GatewayError):
    """431: the URL and the headers are larger than the gateway takes."""

    status = 431
    title = "Request header fields too large"
    code = "head_too_large"
    exit_code = 2


class PreconditionRequired(GatewayError):
    """428: `If-Match` is missing."""

    status = 428
    title = "Precondition required"
    code = "precondition_required"
    exit_code = 2


class TooManyRequests(GatewayError):
    """429: try again after `retry_after` whole seconds."""

    status = 429
    title = "Too many requests"
    code = "rate_limited"
    exit_code = 5

    def __init__(
        self, detail: str, *, code: str | None = None, retry_after: int = 1, **members: Any
    ) -> None:
        super().__init__(detail, code=code, **members)
        self.retry_after = retry_after


class TooFast(TooManyRequests):
    """429: too many requests of an address, whatever keys they show."""


class Unavailable(GatewayError):
    """503: try again after `retry_after` whole seconds."""

    status = 503
    title = "Unavailable"
    code = "unavailable"
    exit_code = 5

    def __init__(self, detail: str, *, code: str | None = None, retry_after: int = 1) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class InternalFailure(GatewayError):
    """The process has to end and be restarted because of a bug (EX_SOFTWARE)."""

    code = "internal_failure"
    exit_code = 70


class FolderLocked(Unavailable):
    """Another process writes to this data folder."""

    title = "Data folder in use"
    code = "folder_locked"
    exit_code = 5
