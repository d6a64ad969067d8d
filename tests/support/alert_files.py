"""deploy/alerts.yaml and deploy/dashboard.json, and the metrics that their expressions name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DEPLOY = Path(__file__).parents[2] / "deploy"
_RULE = re.compile(
    r"      - alert: (\w+)\n        expr: >-\n          (.+)\n        for: (\w+)\n"
    r"        labels:\n          severity: (\w+)\n"
    r"        annotations:\n          summary: (.+)\n          runbook: (\S+)\n"
)
_SELECTOR = re.compile(r"\b(audit_gateway_\w+|up)\b(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|=|!=|!~)")
_GROUPED = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")


class Rule(NamedTuple):
    """One alert, as the file writes it."""

    name: str
    expression: str
    lasts: str
    severity: str
    summary: str
    runbook: str


def rules() -> list[Rule]:
    """All alerts. The file has one form, so that no library of YAML is needed to read it."""
    return [Rule(*found) for found in _RULE.findall((DEPLOY / "alerts.yaml").read_text())]


def charts() -> list[str]:
    """Expressions of the dashboard, with its variables filled in."""
    document = json.loads((DEPLOY / "dashboard.json").read_text())
    found = [one["expr"] for panel in document["panels"] for one in panel.get("targets", ())]
    return [one.replace("$__rate_interval", "5m").replace("$instance", ".*") for one in found]


def selected(expression: str) -> Iterator[tuple[str, list[str]]]:
    """Each metric of an expression, and the labels that are asked of it."""
    for name, inside in _SELECTOR.findall(expression):
        yield name, _LABEL.findall(inside)


def grouped(expression: str) -> set[str]:
    """Labels that an expression groups by."""
    return {
        one.strip() for inside in _GROUPED.findall(expression) for one in inside.split(",")
    } - {""}  # fmt: skip
