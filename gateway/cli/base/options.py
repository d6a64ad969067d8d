"""Options that several commands have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click


class Folder(click.Path):
    """Folder as a parameter. Refuses "", most often an unset variable: the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; name a folder", param, ctx)
        return super().convert(value, param, ctx)


config_path_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings, as for `serve`.",
)
data_option = click.option("--data", help="Data folder of the gateway.  [default: ./audit-data]")
_Command = Callable[..., Any]


def config_option(command: _Command) -> _Command:
    """Add `--config`; the command gets the `settings` of that file and the environment."""

    @config_path_option
    @wraps(command)
    def with_settings(*, config_file: Path | None, data: str | None = None, **given: Any) -> Any:
        from gateway.settings.load import load

        return command(settings=load(config_file, os.environ, {"data": data}), **given)

    return with_settings


def settings_options(command: _Command) -> _Command:
    """Add `--config` and `--data`; the command gets the `settings` that they give."""
    return config_option(data_option(command))


_every_option = click.option(
    "--rotate-every", "every", help="How often its secret is to be replaced, such as 30d."
)
_overlap_option = click.option(
    "--rotate-overlap", "overlap", help="How long the old secret works on then.  [default: 1h]"
)


def rotation_options(command: _Command) -> _Command:
    """Add `--rotate-every` and `--rotate-overlap`; the command gets `rotate`, the members that were
    given."""

    @_every_option
    @_overlap_option
    @wraps(command)
    def with_schedule(*, every: str | None, overlap: str | None, **given: Any) -> Any:
        members = {"every": every, "overlap": overlap}
        return command(rotate={k: v for k, v in members.items() if v is not None}, **given)

    return with_schedule
