"""`audit-gateway doctor`: checks of how a gateway is set up, and what it runs into."""

from __future__ import annotations

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import json_option
from gateway.cli.base.terminal import say, say_json

_EXAMPLES = """\b
Examples:
  audit-gateway doctor --data /var/lib/audit-gateway
  audit-gateway doctor --profile prod

\b
Exit codes: 0 no check fails, 1 one fails, 5 the gateway cannot be reached. Each code that is not
ok has a paragraph in deploy/doctor.md.
"""
_FAILED = 1


@click.command(epilog=_EXAMPLES)
@target_options
@json_option
def doctor(target: CommandTarget, as_json: bool) -> None:
    """Check how a gateway is set up, and say what to do.

    On a folder its files, settings and stores are looked at; over HTTP the gateway looks at itself,
    at all of its processes too.
    """
    found = target.health.doctor()
    checks = found["checks"]
    if as_json:
        say_json(found)
    else:
        for one in checks:
            advice = f"; {one['advice']}" if one["advice"] else ""
            say(f"{one['result']:4}  {one['code']:20}  {one['detail']}{advice}")
    if any(one["result"] == "fail" for one in checks):
        raise SystemExit(_FAILED)
