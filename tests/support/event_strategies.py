"""Strategies: valid events with every optional member, at their limits, in any script; and what
keys see of them, with members masked, dropped or replaced by pseudonyms."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gateway.access.grants.mask import Masks, masked
from gateway.clock import format_rfc3339
from gateway.event import OUTCOMES
from gateway.ingest.decode import decode_event
from tests.support.examples import examples
from tests.support.pseudonyms import named
from tests.support.stored_events import stored

# Members that may be hidden in events of `members`.
PATHS = (
    "actor", "actor.type", "actor.id", "actor.name", "actor.key_id", "source", "source.service",
    "source.ip", "source.port", "source.user_agent", "targets", "targets.urn", "targets.type",
    "targets.id", "targets.name", "request", "request.id", "request.trace_id", "reason", "data",
    "data.a", "data.a.b",
)  # fmt: skip
PSEUDONYM = "ps1_aaaaaaaaaaaaaaaaaaaaaaaaaa"
_CATEGORIES = (
    "auth", "auth.sso", "authn", "authors", "iam", "iam.user", "user.admin", "account", "accounts",
    "accounting.book", "k8s.audit", "app.config", "configs", "billing.invoice", "a" * 64,
)  # fmt: skip
_ACTIONS = (
    "user.login", "logout", "session.signin", "user.create", "user.role.grant", "password.change",
    "user.password.reset", "mfa.enable", "group.member.add", "group.delete", "pods.delete",
    "invoice.export", "patch", "Delete", "a:b/c_d-e", "x" * 128, "w." * 63 + "ab",
)  # fmt: skip
_TIMES = (
    "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59.999999Z",
)  # fmt: skip
_ADDRESSES = (
    "203.0.113.7", "2001:db8::7", "::ffff:203.0.113.7", "::", "fe80::1%eth0", "unix", "010.0.0.1",
    "0000:0000:0000:0000:0000:ffff:255.255.255.255", " 203.0.113.7", "203.0.113.7/32",
)  # fmt: skip
_HOSTILE = (
    "", " ", "***", PSEUDONYM, 'q"\\]=|\n\r\t\x00\x7f\x85\u2028', "\ufeffa",
    "\ufffe\U0010ffff", "😀é漢", " act=x cs1=y", "]] [a@1 b=\"c\"]", "\\n\\",
    "=" * 256, "漢" * 256, "\n" * 256,
)  # fmt: skip

_any = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_short = st.one_of(st.sampled_from(_HOSTILE), _any)
_long = st.one_of(_short, st.sampled_from(["r" * 1024, "\\" * 1024, "😀" * 1024]))
_urn = st.one_of(
    st.sampled_from([
        "app:portal", "user:bob", "group:ops", "u" * 1024, "漢\x85=|]", "\ufffe", "***",
    ]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
)  # fmt: skip
_id = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60),
    st.sampled_from(["~" * 128, " ", "=\\|]\"", "a" * 40, "a" * 41, "***"]),
)  # fmt: skip
_kind = st.one_of(st.sampled_from(["user", "group", "admin", "system", "service", "app"]), _short)
_number = st.sampled_from([0, -1, 2**63, 2**64 - 1, 1.5, 1e300, 0.1])
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), _number, _any),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_any, inner, max_size=3),
    max_leaves=6,
)
_data = st.fixed_dictionaries(
    {}, optional={"a": st.one_of(_json, st.fixed_dictionaries({"b": _json})), "z": _json}
)
# Spellings of JSON that an encoder would change.
_SPELLED = ('{"n":1.50}', '{"n":1E+2,"m":-0.0,"k":"\\u00e9\\/"}', '{ "a" : [ 1 , 2 ] }')


def _optional(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=members)


members = st.fixed_dictionaries(
    {
        "id": _id,
        "category": st.sampled_from(_CATEGORIES),
        "action": st.sampled_from(_ACTIONS),
        "tenant": st.sampled_from(["acme", "a", ".", "t" * 64, "0_-.x"]),
        "outcome": st.sampled_from(OUTCOMES),
        "severity": st.integers(1, 6),
    },
    optional={
        "time": st.one_of(st.sampled_from(_TIMES), st.integers(0, 2**51).map(format_rfc3339)),
        "actor": _optional(type=_kind, id=_short, name=_short, key_id=_short),
        "source": _optional(
            service=_short,
            ip=st.one_of(st.sampled_from(_ADDRESSES), st.ip_addresses().map(str), _short),
            port=st.integers(0, 65535),
            user_agent=_long,
        ),
        "targets": st.one_of(
            st.lists(_optional(urn=_urn, type=_kind, id=_short, name=_short), max_size=3),
            st.just([{"urn": f"app:{number}"} for number in range(32)]),
        ),
        "request": _optional(id=_short, trace_id=_short),
        "reason": _long,
        "data": _data,
    },
)
_pseudonymized = st.lists(
    st.sampled_from([path for path in PATHS if path != "data"]), max_size=4, unique=True
).map(sorted)
_masks = st.lists(st.sampled_from(PATHS), max_size=4, unique=True).map(sorted).map(tuple)


def generated(many: int, *, share: int) -> settings:
    """Settings of a test of so many events, which a busy machine may take long to draw."""
    slow = [HealthCheck.too_slow]
    return settings(max_examples=examples(many, share=share), suppress_health_check=slow)


@st.composite
def shown_events(draw: st.DrawFn) -> bytes:
    """Native JSON of an event as some key sees it."""
    sent = json.dumps(draw(members), ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 4)) == 0 and '"data"' not in sent:
        sent = f'{sent[:-1]},"data":{draw(st.sampled_from(_SPELLED))}}}'
    event = stored(lambda: decode_event(sent.encode(), iter(())), draw(st.integers(1, 10**19)))
    if draw(st.booleans()):
        masks = Masks(draw(_masks)).joined(Masks(drop=draw(_masks)))
        event = masked(event, masks.joined(named(*draw(_pseudonymized))))
    return event.json
