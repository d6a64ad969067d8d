"""Actors of changes: a key, a program, a person, or an operator at the command line. Pure."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

PREFIX = "cli:"


class Operator(msgspec.Struct, frozen=True, omit_defaults=True):
    """User of the system at the command line; `sudo_user` is who became `user` by sudo.
    `reason` is why, where the change itself keeps none."""

    user: str
    sudo_user: str = ""
    host: str = ""
    terminal: str = ""
    reason: str = ""

    @property
    def actor(self) -> str:
        """Name in records."""
        return f"{PREFIX}{self.user}"

    @property
    def person(self) -> str:
        """Name for detection, without machine and terminal, which change."""
        return f"{PREFIX}{self.sudo_user or self.user}"


class Person(msgspec.Struct, frozen=True):
    """Person who signs in by an identity provider, where `subject` is what never changes of them;
    `name` is a mail address, or what else the provider calls them. `signed_in_at` is in seconds
    since 1970."""

    issuer: str
    subject: str
    name: str
    signed_in_at: float


# A kid, the name of a program, or an operator.
Actor: TypeAlias = str | Operator


def actor_name(by: Actor) -> str:
    """Name of an actor in records."""
    return by.actor if isinstance(by, Operator) else by


def operator_of(by: Actor) -> Operator | None:
    """The operator, if the actor is one."""
    return by if isinstance(by, Operator) else None
