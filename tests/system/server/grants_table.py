"""The table of who sees what: grants down, events across.

One letter per event, in the order of `EVENTS`: `s` sees it whole, `m` sees it masked, `.` does
not see it. Worked out by hand from what grants mean.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

Members = dict[str, Any]
READ = ["stream", "pull"]


def _targets(*urns: str, **members: str) -> list[Members]:
    return [{"urn": urn, **members} for urn in urns]


# `own` ones are the gateway's records; the old one was there two hours before the others.
EVENTS: dict[str, Members] = {
    "login": {
        "tenant": "acme", "category": "auth.login", "actor": {"id": "u-1", "name": "Alice"},
        "targets": _targets("k8s:prod/ns/pay/pods/web-1", name="web"),
        "data": {"card": {"number": "4111", "cvv": 7}, "n": 1},
    },
    "sso": {
        "tenant": "acme", "category": "auth.login.sso", "severity": 2,
        "actor": {"id": "u-2", "name": "Bob"}, "data": {"n": 2},
    },
    "auth": {
        "tenant": "acme", "category": "auth", "actor": {"name": "Carol"},
        "targets": _targets("k8s:prod/ns/pay"), "reason": "policy",
    },
    "globex": {
        "tenant": "globex", "category": "auth.login", "severity": 3, "actor": {"name": "Dave"},
        "targets": _targets("k8s:dev/ns/pay/pods/web-1", name="web"), "data": {"card": "4111"},
    },
    "eu": {
        "tenant": "acme.eu", "category": "auth.login", "actor": {"id": "u-5"},
        "targets": _targets("db:main"),
    },
    "invoice": {
        "tenant": "acme", "category": "billing.invoice", "severity": 4, "actor": {"name": "Eve"},
        "data": {"card": [{"number": "1"}, {"number": "2"}]},
    },
    "pods": {
        "tenant": "acme", "category": "k8s.audit", "severity": 3,
        "targets": _targets("k8s:dev/a", "k8s:prod/ns/pay/pods/web-2", name="web"),
    },
    "dev": {
        "tenant": "acme", "category": "k8s.audit", "severity": 2, "actor": {"name": "system"},
        "targets": _targets("k8s:dev/ns/x"),
    },
    "fatal": {
        "tenant": "globex.ops", "category": "x.keys", "severity": 6, "actor": {"name": "Frank"},
        "targets": _targets("host"), "data": {},
    },
    "own-keys": {"tenant": "gateway", "category": "gateway.keys"},
    "own-access": {"tenant": "gateway", "category": "gateway.access"},
    "trap": {"tenant": "acme", "category": "gatewayx.keys"},
    "bare": {"category": "auth.login"},
    "old": {
        "tenant": "acme", "category": "auth.login", "severity": 5, "actor": {"name": "Alice"},
        "data": {"card": {"number": "4111"}},
    },
}  # fmt: skip
OWN = ("own-keys", "own-access")
OLD = "old"
OWN_ROLE = "pay-team"
OWN_ROLE_GRANTS = [{"actions": READ, "categories": ["**"], "resources": ["k8s:prod/ns/pay/**"]}]


class Row(NamedTuple):
    """What a key with these grants and roles sees in streams, and in pages and by id."""

    name: str
    grants: list[Members]
    roles: list[str]
    streamed: str
    pulled: str


def _row(name: str, *grants: Members, sees: str, pulls: str = "", roles: str = "") -> Row:
    return Row(name, list(grants), roles.split(), sees, pulls or sees)


def _allow(*categories: str, **members: Any) -> Members:
    return {"actions": READ, "categories": list(categories), **members}


def _deny(*categories: str, **members: Any) -> Members:
    return _allow(*categories, effect="deny", **members)


def _hours(begin: int, end: int) -> str:
    """Hours of the day so far from now."""
    now = datetime.now(UTC).hour
    return f"{(now + begin) % 24:02d}-{(now + end) % 24:02d}"


NONE, ALL, WITHOUT_AUTH = "." * 14, "sssssssss..sss", ".....ssss..s.."
ANY = _allow("**")

ROWS = [
    # Categories
    _row("any category", ANY, sees=ALL),
    _row("any and the gateway's own", _allow("**", "gateway.**"), sees="s" * 14),
    _row("auth.*", _allow("auth.*"), sees="s..ss.......ss"),
    _row("auth.**", _allow("auth.**"), sees="sssss.......ss"),
    _row("auth", _allow("auth"), sees="..s..........."),
    _row("one segment", _allow("*"), sees="..s..........."),
    _row("*.keys", _allow("*.keys"), sees="........s..s.."),
    _row("two segments", _allow("*.*"), sees="s..ssssss..sss"),
    _row("gateway.keys", _allow("gateway.keys"), sees=".........s...."),
    _row("gateway.*", _allow("gateway.*"), sees=".........ss..."),
    _row("gateway.**", _allow("gateway.**"), sees=".........ss..."),
    _row("gateway alone", _allow("gateway"), sees=NONE),
    _row("several", _allow("auth", "billing.*"), sees="..s..s........"),
    # Tenants
    _row("tenant acme", _allow("**", tenants=["acme"]), sees="sss..sss...s.s"),
    _row("tenants below acme", _allow("**", tenants=["acme.*"]), sees="....s........."),
    _row("acme and below", _allow("**", tenants=["acme.**"]), sees="sss.ssss...s.s"),
    _row("tenants of one segment", _allow("**", tenants=["*"]), sees="ssss.sss...sss"),
    _row("tenant gateway", _allow("**", tenants=["gateway"]), sees=NONE),
    _row("tenant gateway by name", _allow("gateway.**", tenants=["gateway"]),
         sees=".........ss..."),
    # Resources
    _row("k8s:prod and below", _allow("**", resources=["k8s:prod/**"]), sees="s.s...s......."),
    _row("pods of pay", _allow("**", resources=["k8s:prod/ns/pay/pods/*"]), sees="s.....s......."),
    _row("pay itself", _allow("**", resources=["k8s:prod/ns/pay"]), sees="..s..........."),
    _row("any resource", _allow("**", resources=["**"]), sees=ALL),
    _row("resources of one segment", _allow("**", resources=["*"]), sees="....s...s....."),
    _row("three segments", _allow("**", resources=["*/ns/*"]), sees="..s....s......"),
    _row("pay anywhere", _allow("**", resources=["*/ns/pay/**"]), sees="s.ss..s......."),
    # Severity, and all together
    _row("severity 3", _allow("**", min_severity=3), sees="...s.ss.s....s"),
    _row("severity 6", _allow("**", min_severity=6), sees="........s....."),
    _row("all members", _allow("auth.**", tenants=["acme"], resources=["k8s:prod/**"]),
         sees="s.s..........."),
    _row("two grants", _allow("auth.*", tenants=["globex"]), _allow("billing.**"),
         sees="...s.s........"),
    # Denials
    _row("all but auth", ANY, _deny("auth.**"), sees=WITHOUT_AUTH),
    _row("denied first", _deny("auth.**"), ANY, sees=WITHOUT_AUTH),
    _row("all but acme", ANY, _deny("**", tenants=["acme"]), sees="...ss...s...s."),
    _row("all but severe", ANY, _deny("**", min_severity=3), sees="sss.s..s...ss."),
    _row("all but dev", ANY, _deny("**", resources=["k8s:dev/**"]), sees="sss.ss..s..sss"),
    _row("all denied", ANY, _deny("**"), sees=NONE),
    _row("own denied by a wildcard", _allow("gateway.**"), _deny("**"), sees=NONE),
    _row("keys denied", _allow("**", "gateway.**"), _deny("*.keys"), sees="ssssssss..s.ss"),
    _row("pulling auth denied", ANY, _deny("auth.**", actions=["pull"]), sees=ALL,
         pulls=WITHOUT_AUTH),
    # Actions
    _row("streams only", _allow("**", actions=["stream"]), sees=ALL, pulls=NONE),
    _row("pulls only", _allow("**", actions=["pull"]), sees=NONE, pulls=ALL),
    _row("everything but reading",
         _allow("**", actions=["ingest", "keys.admin", "usage.read"]), sees=NONE),
    _row("sends everything", _allow("**", "gateway.**", actions=["ingest"]), sees=NONE),
    _row("sends of acme", _allow("**", tenants=["acme"], min_severity=2, actions=["ingest"]),
         _deny("billing.**", actions=["ingest"]), sees=NONE),
    _row("sends and pulls an hour back",
         _allow("**", actions=["pull", "ingest"], when={"max_lookback": "1h"}), sees=NONE,
         pulls="sssssssss..ss."),
    _row("nothing", sees=NONE),
    # Masks
    _row("mask actor.name", _allow("**", fields={"mask": ["actor.name"]}), sees="mmmmsmsmm..ssm"),
    _row("mask actor", _allow("**", fields={"mask": ["actor"]}), sees="mmmmmmsmm..ssm"),
    _row("drop data.card", _allow("**", fields={"drop": ["data.card"]}), sees="mssmsmsss..ssm"),
    _row("mask data.card", _allow("**", fields={"mask": ["data.card"]}), sees="mssmsmsss..ssm"),
    _row("mask a card's number", _allow("**", fields={"mask": ["data.card.number"]}),
         sees="mssssmsss..ssm"),
    _row("mask targets.name", _allow("**", fields={"mask": ["targets.name"]}),
         sees="mssmssmss..sss"),
    _row("drop targets", _allow("**", fields={"drop": ["targets"]}), sees="msmmmsmmm..sss"),
    _row("mask reason, drop data", _allow("**", fields={"mask": ["reason"], "drop": ["data"]}),
         sees="mmmmsmssm..ssm"),
    _row("mask data", _allow("**", fields={"mask": ["data"]}), sees="mmsmsmssm..ssm"),
    _row("clear within masked", _allow("auth.*"), _allow("**", fields={"mask": ["actor.name"]}),
         sees="mmmmsmsmm..ssm"),
    _row("masked beside clear", _allow("auth.**", fields={"mask": ["actor.name"]}),
         _allow("billing.**"), sees="mmmmss......sm"),
    _row("masks of both", _allow("auth.**", fields={"mask": ["actor.name"]}),
         _allow("**", tenants=["acme"], fields={"drop": ["data.card"]}), sees="mmmmsmss...ssm"),
    _row("masked and denied", _allow("**", fields={"mask": ["actor.name"]}), _deny("auth.**"),
         sees=".....msmm..s.."),
    _row("masked in streams only", _allow("**", actions=["stream"], fields={"mask": ["actor"]}),
         _allow("**", actions=["pull"]), sees="mmmmmmsmm..ssm", pulls=ALL),
    # Circumstances
    _row("from here", _allow("**", when={"cidr": ["127.0.0.0/8"]}), sees=ALL),
    _row("from elsewhere", _allow("**", when={"cidr": ["10.0.0.0/8", "::1/128"]}), sees=NONE),
    _row("at this hour", _allow("**", when={"hours": _hours(-4, 6)}), sees=ALL),
    _row("at another hour", _allow("**", when={"hours": _hours(8, 14)}), sees=NONE),
    _row("at this hour in Tokyo", _allow("**", when={"hours": _hours(5, 15), "tz": "Asia/Tokyo"}),
         sees=ALL),
    _row("an hour back", _allow("**", when={"max_lookback": "1h"}), sees="sssssssss..ss."),
    _row("an hour back, masked beyond", _allow("auth.**", when={"max_lookback": "1h"}),
         _allow("auth.login", fields={"mask": ["actor.name"]}), sees="mssms.......sm"),
    _row("denied elsewhere", ANY, _deny("auth.**", when={"cidr": ["10.0.0.0/8"]}), sees=ALL),
    _row("denied here", ANY, _deny("auth.**", when={"cidr": ["127.0.0.0/8"]}), sees=WITHOUT_AUTH),
    # Roles
    _row("siem-forwarder", roles="siem-forwarder", sees=ALL),
    _row("dashboard", roles="dashboard", sees="mmsmsmssm..ssm"),
    _row("log-shipper", roles="log-shipper", sees=ALL, pulls=NONE),
    _row("producer", roles="producer", sees=NONE),
    _row("auditor", roles="auditor", sees="s" * 14),
    _row("key-admin", roles="key-admin", sees=".........s...."),
    _row("a role of one's own", roles=OWN_ROLE, sees="s.s...s......."),
    _row("two roles", roles=f"{OWN_ROLE} key-admin", sees="s.s...s..s...."),
    _row("a role and a grant", _allow("billing.**"), roles=OWN_ROLE, sees="s.s..ss......."),
    _row("a role and a denial", _deny("auth.**"), roles="siem-forwarder", sees=WITHOUT_AUTH),
    _row("a role and a mask", _allow("**", fields={"mask": ["actor.name"]}), roles="auditor",
         sees="mmmmsmsmmssssm"),
]  # fmt: skip
