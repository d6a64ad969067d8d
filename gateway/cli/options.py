"""Options that several commands have in common."""

from __future__ import annotations

from pathlib import Path

import click

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings, as for `serve`.",
)
data_option = click.option("--data", help="Data folder of the gateway.  [default: ./audit-data]")
