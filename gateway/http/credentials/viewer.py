"""Tokens of embedded viewers in requests."""

from __future__ import annotations

from gateway.access.credentials.pepper import Peppers
from gateway.access.credentials.viewer import Viewer, read_viewer_ticket, read_viewer_token
from gateway.errors import Unauthorized


def viewer_of_token(text: str, peppers: Peppers, now: float) -> Viewer:
    """The viewer of a token. Raises `Unauthorized` for one that is over, or none of this
    gateway."""
    for pepper in peppers.for_tickets():
        viewer = read_viewer_token(text, pepper, now)
        if viewer is not None:
            return viewer
    raise viewer_over()


def viewer_of_ticket(text: str, peppers: Peppers, now: float) -> Viewer | None:
    """The viewer that a ticket is for; None if it is over, or not for one."""
    found = (read_viewer_ticket(text, pepper, now) for pepper in peppers.for_tickets())
    return next((one for one in found if one is not None), None)


def viewer_over() -> Unauthorized:
    """Error for the token of an embedded viewer that counts no more."""
    return Unauthorized(
        "this viewer is over: ask the page around it for a ticket, and trade that at POST "
        "/v1/viewer/session",
        code="viewer_ended",
    )
