"""Documents of keys: plain sentences, and nothing that a stranger could make into markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants.grant import Grant, parse_grant
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import KeyLimits
from gateway.access.policy.attributed_grant import grants_of_key
from gateway.oversight.review.document import Facts, as_json, blocks
from gateway.oversight.review.document_text import to_html, to_markdown, visible
from gateway.oversight.review.sentences import grant_sentences, limits_of

NOW = 1_700_049_600.0  # 2023-11-15, 12:00 UTC
FULL = {
    "id": "g1", "actions": ["stream", "pull"], "tenants": ["acme"], "categories": ["auth.*"],
    "resources": ["k8s:prod/ns/pay/**"], "min_severity": 3,
    "fields": {"mask": ["actor.name"], "drop": ["data.payload"]},
    "when": {"cidr": ["10.0.0.0/8"], "hours": "06-20", "tz": "UTC", "max_lookback": "24h"},
}  # fmt: skip


def grant(*categories: str, **members: Any) -> Grant:
    return parse_grant({"actions": ["stream"], "categories": list(categories), **members})


def facts(*grants: Grant, facts: dict[str, Any] | None = None, **members: Any) -> Facts:
    key = Key(
        id="k" * 12, digest=b"d", name="siem", purpose="forwarding", owner="ops", grants=grants,
        created_at=NOW - 1000, expires_at=NOW + 1000,
    )  # fmt: skip
    key = msgspec.structs.replace(key, **members)
    return Facts(key=key, grants=grants_of_key(key, {}), now=NOW, **(facts or {}))


# Sentences


def test_every_member_of_a_grant_is_in_its_sentence() -> None:
    assert grant_sentences(parse_grant(FULL)) == [
        "May stream and pull events of category auth.* of the tenant acme on the resource "
        "k8s:prod/ns/pay/** of severity 3 (medium) or higher, none that was recorded more than "
        "24h ago, with actor.name masked and without data.payload, only from 10.0.0.0/8, only "
        "between 06:00 and 20:00 (UTC)."
    ]


@pytest.mark.parametrize(
    ("one", "sentences"),
    [
        (grant("**"), ["May stream events of any category but the gateway's own."]),
        (grant("**", "gateway.**"),
         ["May stream events of any category, the gateway's own included."]),
        (grant("**", "gateway.keys"),
         ["May stream events of any category, of the gateway's own only gateway.keys."]),
        (grant("*.keys"), ["May stream events of category *.keys but the gateway's own."]),
        (grant("gateway.keys", actions=["pull"]), ["May pull events of category gateway.keys."]),
        (grant("a", "b", tenants=["x", "y"], resources=["**"], min_severity=6),
         ["May stream events of categories a or b of the tenants x or y of severity 6 (fatal)."]),
        (grant("**", actions=["ingest"]),
         ["May send events of any category but the gateway's own."]),
        (grant("**", actions=["keys.admin", "usage.read"]),
         ["May make, change and end keys and roles.", "May read what keys are used for."]),
        (grant("auth.**", effect="deny", actions=["stream", "pull"]),
         ["Must not stream or pull events of category auth.**."]),
        (grant("**", effect="deny", when={"cidr": ["192.0.2.0/24"]}),
         ["Must not stream events of any category, when it asks from 192.0.2.0/24."]),
    ],
)  # fmt: skip
def test_grants_read_as_sentences(one: Grant, sentences: list[str]) -> None:
    assert grant_sentences(one) == sentences


def test_what_is_not_granted_is_said() -> None:
    assert limits_of([]) == [
        "Anything that no grant allows is denied.", "Cannot read events.", "Cannot send events.",
        "Cannot make, change and end keys and roles.",
        "Cannot list and look at keys and roles, and mark keys as reviewed.",
        "Cannot read what keys are used for.",
        "Cannot read the metrics, destinations and live streams of the gateway.",
        "Cannot test, pause and resume destinations, and end live streams.",
        "Cannot make, change and delete destinations.",
        "Cannot find out what pseudonyms stand for.",
    ]  # fmt: skip
    own = "Cannot see the gateway's own records of keys and their use (gateway.**)."
    assert own in limits_of([grant("**")])
    assert own not in limits_of([grant("**"), grant("gateway.access")])
    assert own in limits_of([grant("**"), grant("gateway.access", effect="deny")])
    assert "Cannot pull past events." in limits_of([grant("**")])
    assert "Cannot follow events live." in limits_of([grant("**", actions=["pull"])])


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (None, ""), ({"max_lookback": "1h"}, ""),
        ({"cidr": ["192.0.2.0/24"]}, ", when it asks from 192.0.2.0/24"),
    ],
)  # fmt: skip
def test_a_document_never_says_both_may_and_must_not(
    when: dict[str, Any] | None, said: str
) -> None:
    denial = {"effect": "deny", "actions": ["keys.admin"]} | ({"when": when} if when else {})
    made = as_json(facts(grant("**", actions=["keys.admin", "usage.read"]), grant("x", **denial)))
    duty = "make, change and end keys and roles"
    assert (f"May {duty}." in made.can) is bool(said)
    assert f"Must not {duty}{said}." in made.cannot
    assert "May read what keys are used for." in made.can


# The document


def test_a_document_says_everything_there_is_to_say() -> None:
    at = "2023-11-15T11:59:30.000000Z"
    last = {"at": at, "address": "192.0.2.1", "client": "curl/8"}
    made = facts(
        parse_grant(FULL), grant("billing", effect="deny"),
        facts={
            "last_use": last, "samples": (b'{"cursor":"c","data":{"n":1}}',),
            "samples_note": "The newest ones.", "looked_since": NOW - 86400,
            "unused": grants_of_key(facts(parse_grant(FULL)).key, {}),
            "rotation_chain": (
                facts(id="r" * 12, revoked_at=NOW).key, facts().key, facts(id="s" * 12).key,
            ),
        },
        successor="s" * 12, predecessor="r" * 12, drains_until=NOW + 60,
    )  # fmt: skip
    shown = msgspec.json.decode(msgspec.json.encode(as_json(made)))
    assert shown["key"]["state"] == "draining"
    assert shown["can"] == grant_sentences(parse_grant(FULL))
    assert shown["cannot"][0] == "Must not stream events of category billing."
    assert (shown["masks"], shown["drops"]) == (["actor.name"], ["data.payload"])
    assert shown["last_use"] == last
    assert [(one["id"][0], one["state"]) for one in shown["rotations"]] == [
        ("r", "revoked"), ("k", "active"), ("s", "active"),
    ]  # fmt: skip
    assert (shown["unused"], shown["unused_since"][:10]) == (["g1"], "2023-11-14")
    assert json.loads(msgspec.json.encode(shown))["samples"] == [{"cursor": "c", "data": {"n": 1}}]
    parts = (
        "siem", "forwarding", "ops", "draining", "s" * 12, "r" * 12, "192.0.2.1", "curl/8",
        "Grants without use since 2023-11-14", "The newest ones.", "Rotations", "this key",
    )  # fmt: skip
    for text in (to_markdown(blocks(made)), to_html(blocks(made))):
        assert [part for part in parts if part not in text] == []


def test_what_is_not_known_is_said_to_be_so() -> None:
    made = facts(owner="", name="n")
    assert as_json(made).last_use is as_json(made).unused is None
    text = to_markdown(blocks(made))
    assert "nobody is named" in text
    assert "none is known" in text
    assert "Nothing: it has no grants." in text
    assert "without use" not in text
    assert "Rotations" not in text


def test_limits_of_its_own_are_shown() -> None:
    made = facts(limits=KeyLimits(events_per_second=7))
    assert "| Limit of events per second | 7 |" in to_markdown(blocks(made))
    assert msgspec.to_builtins(as_json(made))["key"]["limits"] == {"events_per_second": 7}


def test_reasons_of_an_end_are_shown() -> None:
    text = to_markdown(blocks(facts(revoked_at=NOW - 5, revoked_reason="left the project")))
    assert "left the project" in text
    assert "revoked" in text


def test_a_document_never_holds_the_digest() -> None:
    made = facts(grant("**"), digest=b"secret digest")
    texts = (to_markdown(blocks(made)), to_html(blocks(made)), str(as_json(made)))
    assert not any("secret digest" in text for text in texts)


# Strangers

HOSTILE = [
    "<script>alert(1)</script>", "</pre><img src=x onerror=alert(1)>", '"><svg onload=alert(1)>',
    "[click](javascript:alert(1))", "![x](http://evil.example/x.png)", "| a | b |\n| - | - |",
    "\n# Heading", "```\n# out", "*bold* _it_ ~~gone~~ `code`", "&lt;b&gt;", "http://evil.example",
    "www.evil.example", "a@evil.example", "<!-- -->", "\u202egnp.exe", "\x1b[31mred", "1. one",
    "- item", "+ item", "===", "---", "\\", "\u2028", "$x$", "<http://evil.example>", "\0", "~~~",
]  # fmt: skip


class Tags(HTMLParser):
    """Collects what is markup in a page, and its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.markup: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.markup.append(f"{tag} {attrs}")

    def handle_comment(self, data: str) -> None:
        self.markup.append(f"comment {data}")

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_facts(text: str) -> Facts:
    sample = json.dumps({"cursor": "c", "reason": text}, ensure_ascii=False).encode()
    return facts(
        # Whatever was stored before patterns were held to what an event can be.
        msgspec.structs.replace(grant("auth", id=text, tenants=["t"]), resources=("k8s:" + text,)),
        name=text, purpose=text, owner=text, roles=("r",),
        revoked_at=NOW, revoked_reason=text, suspended_reason=text,
        facts={
            "samples": (sample,),
            "last_use": {"at": text, "address": text, "client": text},
            "unused": grants_of_key(facts(grant("auth", id=text)).key, {}),
        },
    )  # fmt: skip


def markup_of(text: str) -> list[str]:
    tags = Tags()
    tags.feed(text)
    tags.close()
    return tags.markup


@given(st.sampled_from(HOSTILE) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_no_text_becomes_markup_in_html(text: str) -> None:
    page = to_html(blocks(hostile_facts(text)))
    assert markup_of(page) == markup_of(to_html(blocks(hostile_facts("plain"))))
    tags = Tags()
    tags.feed(page)
    assert visible(text).strip() in tags.text
    assert not re.search("[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]", page)


@given(st.sampled_from(HOSTILE) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_no_text_becomes_markup_in_markdown(text: str) -> None:
    """A reader of CommonMark with tables finds the same blocks, and no markup within lines."""
    page = to_markdown(blocks(hostile_facts(text)))
    plain = to_markdown(blocks(hostile_facts("plain")))
    assert [shape_of(line) for line in outside_code(page)] == [
        shape_of(line) for line in outside_code(plain)
    ]
    for line in outside_code(page):
        if line in ("| | |", "| --- | --- |"):
            continue
        body = re.sub(r"\A(?:# |## |- |\| )", "", line)
        unescaped = re.sub(r"\\[\\`*_\[\]<>&|~!$#+=().:@-]", "", body)
        unescaped = unescaped.replace(" | ", "").removesuffix(" |")
        assert not re.search(r"[`*\[\]<>&|~]|://|!\[", unescaped), line


def outside_code(page: str) -> list[str]:
    lines, fence = [], ""
    for line in page.split("\n"):
        if fence:
            fence = "" if line == fence else fence
        elif match := re.fullmatch(r"(`{3,})json", line):
            fence = match[1]
        else:
            lines.append(line)
    assert not fence, "the code has no end"
    return lines


def shape_of(line: str) -> str:
    """What block a line begins or goes on with."""
    match = re.match(r"#{1,6} |[-+*] |\d+[.)] |\||>|~{3}|`{3}|\s{4}|=+\s*\Z|-{3,}\s*\Z|\Z", line)
    return match[0] if match else "text"


def test_a_fence_is_longer_than_any_run_of_ticks_within() -> None:
    made = facts(facts={"samples": (b'{"reason":"````"}', b'{"reason":"`"}')})
    assert "\n`````json\n" in to_markdown(blocks(made))


def test_samples_stay_json_when_what_cannot_be_seen_is_written_as_escapes() -> None:
    text = "\u202e\U000e0041 \x7f é 😀"
    line = json.dumps({"reason": text}, ensure_ascii=False)
    shown = visible(line)
    assert shown.isprintable()
    assert "é 😀" in shown
    assert json.loads(shown) == {"reason": text}
