"""`audit-gateway config`: check the settings, print the example file and the reference."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gateway.cli.base.terminal import say, say_document
from gateway.errors import InvalidSetting
from gateway.settings.declarations import Settings
from gateway.settings.load import example, load, reference


@click.group("config")
def config() -> None:
    """Check and explain the settings."""


@config.command("check")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="TOML file of settings; `config example` prints one.",
)
def check(file: Path | None) -> None:
    """Say whether the settings are valid, which are set, and where each came from.

    Reads the file and the environment as `serve` does. Passwords in URLs are masked. Exit code 2
    and one line on standard error where a setting is wrong. Nothing is connected to: `store
    check` looks at the table that store.table names. The certificate in [server.tls] is loaded.
    """
    try:
        settings = load(file, os.environ, {})
        _check_columns(settings)
        _check_destinations(settings)
        _check_sources(settings)
        _check_certificate(settings)
    except InvalidSetting as error:
        say(f"error: {error.detail}", err=True)
        raise SystemExit(error.exit_code) from None
    say("ok")
    for path, one in settings.given.items():
        say(f"{path} = {one.shown}  ({one.origin})")


def _check_columns(settings: Settings) -> None:
    """Check the members named in [store.columns]; `store check` examines the table itself."""
    if settings.store.table:
        from gateway.ingest.sources.row_mapping import RowMapping

        RowMapping(settings.store.table, settings.store.columns)


def _check_destinations(settings: Settings) -> None:
    """Check the members in [destinations.NAME]; nothing is connected to, and no secret is read."""
    if settings.declared_destinations:
        from gateway.runtime.declared import check_declared

        check_declared(settings)


def _check_sources(settings: Settings) -> None:
    """Check the definitions in [sources.NAME]."""
    if settings.declared_sources:
        from gateway.ingest.sources.catalog import Sources

        Sources(settings.declared_sources)


def _check_certificate(settings: Settings) -> None:
    """Load the certificate as the server does, which has to be readable for whoever asks."""
    if settings.server.tls.certificate:
        from gateway.http.tls.certificate import load_certificate

        load_certificate(settings.server.tls)


@config.command("example")
def print_example() -> None:
    """Print a TOML file of every setting, commented out, with defaults and help."""
    say_document(example())


@config.command("reference")
def print_reference() -> None:
    """Print tables of all settings as Markdown."""
    say_document(reference())
