"""Types of destinations that this gateway has, and how their outlets connect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.clock import Clock
from gateway.delivery.connect.addresses import AddressRule
from gateway.delivery.connect.endpoint import HTTP_SCHEMES, check_endpoint, parse_endpoint
from gateway.delivery.connect.http_client import ClientOptions, HttpClient
from gateway.delivery.connect.lookup import ConnectRule, Lookups
from gateway.delivery.connect.stream_dialer import StreamDialer
from gateway.delivery.connect.tls import TlsOptions, check_tls
from gateway.delivery.definition import Definition, parse_members, seconds_of
from gateway.delivery.destination import TLS_KEY
from gateway.delivery.outlets.kinds import OUTLET_KINDS
from gateway.delivery.outlets.outlet import Outlet
from gateway.delivery.outlets.outlet_plan import EventFormat, OutletKind, OutletPlan
from gateway.delivery.running.outlets import OutletOrder, OutletType
from gateway.errors import InvalidRequest
from gateway.runtime.formats import formats_of
from gateway.settings.declarations import Settings


def outlet_types(settings: Settings, clock: Clock, lookups: Lookups) -> dict[str, OutletType]:
    """All types by name."""
    return {
        name: _OutletMaker(kind, settings, clock, lookups).type()
        for name, kind in OUTLET_KINDS.items()
    }


class _OutletMaker:
    """Makes the outlets of one type from definitions."""

    def __init__(
        self, kind: OutletKind, settings: Settings, clock: Clock, lookups: Lookups
    ) -> None:
        self._kind, self._settings = kind, settings.destinations
        self._folder = settings.destinations_folder
        self._clock, self._lookups = clock, lookups
        self._formats = formats_of(settings)
        # Types without an address write files.
        self._connects = "url" in kind.settings.__struct_fields__

    def type(self) -> OutletType:
        """The type."""
        kind = self._kind
        tls = (TLS_KEY,) if self._connects else ()
        return OutletType(self.check, self.make, (*kind.secrets, *tls), kind.required)

    def check(self, definition: Definition, configured: bool) -> None:
        """Raise `InvalidRequest` with the path of what the type cannot use."""
        settings, format = self._read(definition)
        if self._connects:
            _at("settings.url", lambda: self._check_url(definition, settings.url, configured))
            tls = definition.tls
            # With its key the certificate is checked when the outlet is made.
            check_tls(TlsOptions(ca=tls.ca, cert=tls.cert, server_name=tls.server_name))
        _at("settings", lambda: self._kind.check(settings, format))

    def make(self, order: OutletOrder) -> Outlet:
        """Outlet of a definition. Raises `InvalidRequest` for what it cannot use."""
        definition = order.definition
        settings, format = self._read(definition)
        if not self._connects and not self._settings.folder:
            # One that the settings name has to be there: it may not be mounted now.
            self._folder.mkdir(mode=0o700, exist_ok=True)
        options = self._options(order) if self._connects else None
        speaks_http = self._kind.schemes == HTTP_SCHEMES
        plan = OutletPlan(
            name=definition.name, settings=settings, secrets=order.secrets, clock=self._clock,
            format=format, compress=definition.compression == "gzip",
            transport=HttpClient(options, self._lookups, self._clock)
            if options is not None and speaks_http else None,
            folder=None if self._connects else self._folder,
            replay=order.replay,
            dialer=StreamDialer(options, self._lookups)
            if options is not None and not speaks_http else None,
        )  # fmt: skip
        return self._kind.make(plan)

    def _options(self, order: OutletOrder) -> ClientOptions:
        definition = order.definition
        tls = definition.tls
        key = next(iter(order.secrets(TLS_KEY)), "")
        return ClientOptions(
            rule=self._rule(definition, order.configured),
            tls=TlsOptions(ca=tls.ca, cert=tls.cert, key=key, server_name=tls.server_name),
            connect_timeout=seconds_of(definition.timeout.connect, "timeout.connect"),
            request_timeout=seconds_of(definition.timeout.request, "timeout.request"),
            proxy=self._settings.proxy,
            cookies=self._kind.cookies,
        )

    def _rule(self, definition: Definition, configured: bool) -> ConnectRule:
        rule = AddressRule(self._settings.allow_networks, configured)
        return ConnectRule(rule, definition.plaintext)

    def _read(self, definition: Definition) -> tuple[Any, EventFormat]:
        """Settings of the type, and the format."""
        settings = parse_members(definition.settings, self._kind.settings, "settings")
        given = definition.format
        name = given if isinstance(given, str) else self._kind.format(settings)
        return settings, self._formats[name]

    def _check_url(self, definition: Definition, url: str, configured: bool) -> None:
        endpoint = parse_endpoint(url, self._kind.schemes)
        rule = self._rule(definition, configured)
        check_endpoint(
            endpoint, rule.addresses,
            plaintext=rule.plaintext, proxied=bool(self._settings.proxy),
        )  # fmt: skip


def _at(path: str, check: Callable[[], object]) -> None:
    """Check a part; an error that names no path is about this one."""
    try:
        check()
    except InvalidRequest as error:
        if "path" in error.members:
            raise
        raise InvalidRequest(error.detail, code=error.code, path=path) from None
