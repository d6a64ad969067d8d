"""The program: commands by name, each imported when it is called.

Exit codes: 0 done; 1 failed, or a part was refused; 2 wrong usage or input;
3 a key was refused; 4 no such thing; 5 unreachable, in use or overloaded;
6 a plan has changes; 7 it cannot be decided;
70 an internal failure; 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys

import click

from gateway import __version__
from gateway.cli.base.terminal import say
from gateway.errors import GatewayError

_COMMANDS = {
    "serve": ("gateway.cli.serve", "serve", "Run the gateway."),
    "keys": (
        "gateway.cli.keys.commands",
        "keys",
        "Make, look at, change and end provisioning keys.",
    ),
    "roles": ("gateway.cli.roles", "roles", "Named lists of grants, which keys can have."),
    "review": (
        "gateway.cli.review.command",
        "review",
        "Report who may see what, and who looked.",
    ),
    "apply": (
        "gateway.cli.applying.command",
        "apply_command",
        "Make roles, keys and destinations what files declare.",
    ),
    "pepper": ("gateway.cli.pepper", "pepper", "Rotate the secret of the key digests."),
    "pseudonyms": (
        "gateway.cli.pseudonyms",
        "pseudonyms",
        "Rotate or forget the secrets of pseudonyms.",
    ),
    "destinations": (
        "gateway.cli.destinations",
        "destinations",
        "Outside systems that events are delivered to.",
    ),
    "status": ("gateway.cli.operation.status", "status", "Say whether delivery works."),
    "doctor": ("gateway.cli.operation.doctor", "doctor", "Check how a gateway is set up."),
    "findings": (
        "gateway.cli.operation.findings",
        "findings",
        "Signs of unusual activity, and which of them are expected.",
    ),
    "streams": ("gateway.cli.operation.streams", "streams", "Live streams of a running gateway."),
    "import": (
        "gateway.cli.importing.command",
        "import_command",
        "Bring existing records into the log.",
    ),
    "sources": (
        "gateway.cli.importing.sources",
        "sources",
        "Kinds of records that can be brought in, and what becomes of yours.",
    ),
    "log": ("gateway.cli.log", "log", "Back up the log, and give a restored one a new epoch."),
    "store": ("gateway.cli.store", "store", "Prepare a table of yours that is to be followed."),
    "migrate": ("gateway.cli.store", "migrate", "Bring the schemas of the store up to date."),
    "tail": ("gateway.cli.tail", "tail_command", "Show a live stream."),
    "config": ("gateway.cli.config", "config", "Check and explain the settings."),
}

_EXAMPLES = """\b
Examples:
  audit-gateway serve --demo
  audit-gateway keys create --name siem --purpose "SIEM forwarder" \\
      --grant '{"actions":["stream"],"categories":["auth.*"],"tenants":["acme"]}'
  audit-gateway import --source cloudtrail --data ./audit-data trail/*.json.gz
  audit-gateway tail --category 'auth.*' --since 15m

\b
Exit codes: 0 done, 1 failed or a part was refused, 2 wrong usage or input,
3 the key was refused, 4 no such thing, 5 unreachable, in use or overloaded,
6 a plan has changes, 7 it cannot be decided,
70 internal failure, 130 interrupted.
"""


class _Commands(click.Group):
    """Loads a command when it is used: importing all would make `--help` slow."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in _COMMANDS.items()])


@click.group(cls=_Commands, epilog=_EXAMPLES)
@click.version_option(__version__, prog_name="audit-gateway")
def cli() -> None:
    """Live, least-privilege audit event streams."""


def main() -> None:
    """Entry point: errors are one line on standard error, and an exit code."""
    try:
        status = cli.main(standalone_mode=False)
    except GatewayError as error:
        say(f"error: {error.detail}", err=True)
        status = error.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except OSError as error:
        # Most often the output does not fit where it goes.
        place = "" if error.filename is None else f"{error.filename}: "
        say(f"error: {place}{error.strerror or error}", err=True)
        status = 1
    except (click.Abort, KeyboardInterrupt):
        status = 130
    sys.exit(status if isinstance(status, int) else 0)
