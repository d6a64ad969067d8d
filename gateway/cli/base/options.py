"""Options that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class Folder(click.Path):
    """Folder as a parameter. Refuses "", most often an unset variable: it means the current
    folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; name a folder", param, ctx)
        return super().convert(value, param, ctx)


config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings, as for `serve`.",
)
data_option = click.option("--data", help="Data folder of the gateway.  [default: ./audit-data]")
