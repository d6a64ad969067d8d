"""Where an administrative command works: on the folder of a gateway, or on one that runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from gateway.cli.base.options import config_path_option, data_option

if TYPE_CHECKING:
    from gateway.cli.administration.ports import (
        AccessReviews,
        DeclarationCommands,
        DestinationCommands,
        FindingCommands,
        HealthCommands,
        KeyAdministration,
        RoleAdministration,
        StreamCommands,
    )
    from gateway.cli.client.calls import GatewayCalls
    from gateway.settings.declarations import Settings

_FILE = click.Path(path_type=Path, dir_okay=False)
_Command = Callable[..., Any]


class CommandTarget(Protocol):
    """The administration that a command works with, made when it is used: parts that are not
    asked for open no store and load no code."""

    @property
    def keys(self) -> KeyAdministration: ...

    @property
    def roles(self) -> RoleAdministration: ...

    @property
    def destinations(self) -> DestinationCommands: ...

    @property
    def reviews(self) -> AccessReviews: ...

    @property
    def findings(self) -> FindingCommands: ...

    @property
    def streams(self) -> StreamCommands: ...

    @property
    def health(self) -> HealthCommands: ...

    @property
    def declarations(self) -> DeclarationCommands: ...


class FolderTarget:
    """The stores that the settings name, with or without a running gateway."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def keys(self) -> KeyAdministration:
        from gateway.cli.administration.folder_keys import KeysInFolder

        return KeysInFolder(self.settings)

    @property
    def roles(self) -> RoleAdministration:
        from gateway.cli.administration.folder_keys import RolesInFolder

        return RolesInFolder(self.settings)

    @property
    def destinations(self) -> DestinationCommands:
        from gateway.cli.administration.folder_destinations import DestinationsInFolder

        return DestinationsInFolder(self.settings)

    @property
    def reviews(self) -> AccessReviews:
        from gateway.cli.administration.folder_review import ReviewInFolder

        return ReviewInFolder(self.settings)

    @property
    def findings(self) -> FindingCommands:
        from gateway.cli.administration.folder_operation import FindingsInFolder

        return FindingsInFolder(self.settings)

    @property
    def streams(self) -> StreamCommands:
        from gateway.errors import InvalidRequest

        raise InvalidRequest(
            "live streams are known to running gateways alone: name one with --url or --profile",
            code="needs_gateway",
        )

    @property
    def health(self) -> HealthCommands:
        from gateway.cli.administration.folder_operation import HealthOfFolder

        return HealthOfFolder(self.settings)

    @property
    def declarations(self) -> DeclarationCommands:
        from gateway.cli.administration.folder_declarations import DeclarationsInFolder

        return DeclarationsInFolder(self.settings)


class GatewayTarget:
    """A running gateway."""

    def __init__(self, calls: GatewayCalls) -> None:
        self.calls = calls

    @property
    def keys(self) -> KeyAdministration:
        from gateway.cli.administration.http_keys import KeysOverHttp

        return KeysOverHttp(self.calls)

    @property
    def roles(self) -> RoleAdministration:
        from gateway.cli.administration.http_keys import RolesOverHttp

        return RolesOverHttp(self.calls)

    @property
    def destinations(self) -> DestinationCommands:
        from gateway.cli.administration.http_destinations import DestinationsOverHttp

        return DestinationsOverHttp(self.calls)

    @property
    def reviews(self) -> AccessReviews:
        from gateway.cli.administration.http_review import ReviewOverHttp

        return ReviewOverHttp(self.calls)

    @property
    def findings(self) -> FindingCommands:
        from gateway.cli.administration.http_operation import FindingsOverHttp

        return FindingsOverHttp(self.calls)

    @property
    def streams(self) -> StreamCommands:
        from gateway.cli.administration.http_operation import StreamsOverHttp

        return StreamsOverHttp(self.calls)

    @property
    def health(self) -> HealthCommands:
        from gateway.cli.administration.http_operation import HealthOverHttp

        return HealthOverHttp(self.calls)

    @property
    def declarations(self) -> DeclarationCommands:
        from gateway.cli.administration.http_declarations import DeclarationsOverHttp

        return DeclarationsOverHttp(self.calls)


def target_options(command: _Command) -> _Command:
    """Add the options that say where a command works; it gets the `target` that they give."""

    @config_path_option
    @data_option
    @click.option("--url", help="Address of a running gateway to work on, in place of a folder.")
    @click.option("--profile", help="Name of one in profiles.toml, which has address and key.")
    @click.option(
        "--key-file", type=_FILE,
        help="With --url: file that holds the key; else the variable AUDIT_GATEWAY_KEY.",
    )  # fmt: skip
    @click.option("--ca", type=_FILE, help="With --url: file of the CA that it is trusted by.")
    @wraps(command)
    def with_target(
        *,
        config_file: Path | None,
        data: str | None,
        url: str | None,
        profile: str | None,
        key_file: Path | None,
        ca: Path | None,
        **given: Any,
    ) -> Any:
        if url is None and profile is None:
            if key_file is not None or ca is not None:
                raise click.UsageError("--key-file and --ca are about a gateway: give --url, too")
            return command(target=_folder(config_file, data), **given)
        if config_file is not None or data is not None:
            raise click.UsageError(
                "give either a gateway by --url or --profile, or a folder by --data or --config"
            )
        if url is not None and profile is not None:
            raise click.UsageError("--url and --profile name two gateways: give one of them")
        calls = _calls(url, profile, key_file, ca)
        click.get_current_context().call_on_close(calls.close)
        return command(target=GatewayTarget(calls), **given)

    return with_target


def _folder(config_file: Path | None, data: str | None) -> FolderTarget:
    from gateway.settings.load import load

    return FolderTarget(load(config_file, os.environ, {"data": data}))


def _calls(
    url: str | None, profile: str | None, key_file: Path | None, ca: Path | None
) -> GatewayCalls:
    from gateway.cli.client.calls import GatewayCalls
    from gateway.cli.client.options import read_key
    from gateway.cli.client.profiles import Profile, profile_of

    of = Profile(url or "") if profile is None else profile_of(profile)
    key = of.read_key() if key_file is None else read_key(key_file)
    trusted = of.ca if ca is None else str(ca)
    return GatewayCalls(of.url, key, None if trusted is None else os.path.expanduser(trusted))
