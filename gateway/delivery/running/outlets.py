"""Types of receivers, and the outlets of destinations, made with their secrets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from gateway.access.credentials.pepper import Peppers
from gateway.clock import Clock
from gateway.delivery import destination as words
from gateway.delivery.answer import TestAnswer
from gateway.delivery.definition import Definition, invalid
from gateway.delivery.destination import Destination, valid_secrets
from gateway.delivery.health import public_words
from gateway.delivery.outlets.outlet import Outlet, Secrets
from gateway.delivery.records import test_event
from gateway.delivery.sealing import unseal
from gateway.errors import Conflict, GatewayError, InvalidRequest
from gateway.log.ports import LogExtent


class Stopped(Exception):
    """The gateway has to disable the destination."""

    def __init__(self, reason_code: str) -> None:
        super().__init__(reason_code)
        self.reason_code = reason_code


class OutletOrder(NamedTuple):
    """What an outlet is wanted for. `replay`: beside the delivery, for what was sent before."""

    definition: Definition
    secrets: Secrets
    configured: bool = False
    replay: bool = False


class OutletType(NamedTuple):
    """A type of receiver. `check` raises `InvalidRequest` for settings that it cannot use, and
    `required` are the secrets that it needs. Both functions are told whether the destination is
    defined in the configuration, whose author may reach more."""

    check: Callable[[Definition, bool], None]
    make: Callable[[OutletOrder], Outlet]
    secrets: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


class ReferredSecrets(Protocol):
    """Secrets that stand elsewhere than in the store."""

    @property
    def names(self) -> Collection[str]:
        """Names of those that are set, whether they can be read or not."""

    def __call__(self, name: str) -> Sequence[str]:
        """Values of a secret, newest first; none where it cannot be read."""

    def forget(self) -> None:
        """Read all again at the next use, as the receiver refuses them."""


class Outlets:
    """Makes the outlets of destinations, with their secrets."""

    def __init__(
        self, types: Mapping[str, OutletType], peppers: Callable[[], Peppers], clock: Clock
    ) -> None:
        self.types = types
        # Secrets of those that are defined in the configuration, by their names.
        self.configured: Mapping[str, ReferredSecrets] = {}
        self._peppers = peppers
        self._clock = clock

    def type_of(self, definition: Definition) -> OutletType:
        """Type of a definition. Raises `InvalidRequest` for one that is not here."""
        known = self.types.get(definition.type)
        if known is None:
            there_are = ", ".join(sorted(self.types)) or "none"
            raise InvalidRequest(
                f"type: {definition.type[:64]!r} is none of {there_are}",
                code="unknown_destination_type",
                path="type",
            )
        return known

    def check_type(
        self, definition: Definition, secrets: frozenset[str], *, configured: bool = False
    ) -> None:
        """Raise `InvalidRequest` for what the type of a definition cannot use."""
        kind = self.type_of(definition)
        kind.check(definition, configured)
        for name in sorted(secrets):
            if name not in kind.secrets:
                there_are = ", ".join(kind.secrets) or "none"
                raise invalid(f"secrets.{name[:64]}", f"the type has {there_are}")
        for name in kind.required:
            if name not in secrets:
                raise invalid(f"secrets.{name}", "the type needs it")
        if definition.tls.cert and words.TLS_KEY not in secrets:
            raise invalid(f"secrets.{words.TLS_KEY}", "the certificate in tls.cert needs it")

    def make(self, destination: Destination, *, replay: bool = False) -> Outlet:
        """Outlet of a destination. Raises `Stopped` if a secret that it needs is not set, and
        `Conflict` if one that is set cannot be read, now or at its use."""
        kind, present = self.type_of(destination.definition), self._set(destination)
        if not present.issuperset(kind.required):
            raise Stopped(words.SECRET_MISSING)
        for name in present:
            self._readable(destination, name)
        order = OutletOrder(
            destination.definition,
            lambda name: self._readable(destination, name),
            configured=destination.managed_by == "config",
            replay=replay,
        )
        return kind.make(order)

    def refused(self, destination: Destination) -> None:
        """Take note that the configuration of a destination is refused: perhaps a secret has
        changed where it stands."""
        configured = self.configured.get(destination.name)
        if configured is not None:
            configured.forget()

    def secret_values(self, destination: Destination) -> list[str]:
        """All values of its secrets, which no message may hold."""
        names = self.type_of(destination.definition).secrets
        return [one for name in names for one in self._values(destination, name)]

    def _set(self, destination: Destination) -> set[str]:
        """Names of the secrets that a destination has."""
        configured = self.configured.get(destination.name)
        if destination.managed_by == "config":
            return set() if configured is None else set(configured.names)
        return set(destination.secrets)

    def _readable(self, destination: Destination, name: str) -> Sequence[str]:
        """Values of a secret; none if it is not set. Without one that is, nothing is sent."""
        values = self._values(destination, name)
        if not values and name in self._set(destination):
            raise Conflict(
                f"secrets.{name} cannot be read: see that its file or variable is there and not "
                "empty, or the pepper that it is sealed under; it is tried again",
                code="secret_unreadable",
            )
        return values

    def _values(self, destination: Destination, name: str) -> Sequence[str]:
        if destination.managed_by == "config":
            configured = self.configured.get(destination.name)
            return () if configured is None else configured(name)
        valid = valid_secrets(destination, name, self._clock.now())
        peppers = self._peppers()
        opened = [unseal(one, destination.name, name, peppers) for one in valid]
        return [one for one in opened if one is not None]

    async def test(self, destination: Destination, log: LogExtent) -> TestAnswer:
        """Send a test event the whole way: with its secrets, in its format, through its outlet."""
        clock = self._clock
        began = clock.monotonic()
        try:
            outlet = self.make(destination)
            try:
                verdict = await outlet.test(test_event(outlet, log, clock.now()))
            finally:
                await outlet.close()
        except Stopped as stopped:
            return TestAnswer(result="config", status=None, message=stopped.reason_code, took_ms=0)
        except GatewayError as error:
            return TestAnswer(result="config", status=None, message=error.detail, took_ms=0)
        return TestAnswer(
            result=verdict.result.value,
            status=verdict.status,
            message=public_words(verdict.message, self.secret_values(destination)),
            took_ms=round((clock.monotonic() - began) * 1000),
        )
