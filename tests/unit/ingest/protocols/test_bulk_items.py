"""Lines of Elasticsearch's bulk interface."""

from __future__ import annotations

import pytest

from gateway.errors import InvalidRequest
from gateway.ingest.protocols.elasticsearch_bulk import BulkItem, items_of_bulk, name_of_index


def items(body: bytes, index: str = "") -> list[BulkItem]:
    return [*items_of_bulk(body, index)]


def test_actions_have_their_documents_whatever_blank_lines_are_between() -> None:
    body = b'\n{"create":{"_id":"a"}}\n\n{"x":1}\r\n \n{"index":{"_index":"i","_id":7}}\n{"x":2}'
    assert items(body, "given") == [
        BulkItem("create", "given", "a", b'{"x":1}'),
        BulkItem("index", "i", "7", b'{"x":2}'),
    ]
    assert items(b'{"create":{}}\n{}\n')[0].into == "audit"


def test_members_that_a_program_does_not_set_may_be_null() -> None:
    # As Logstash sends them.
    body = b'{"index":{"_id":null,"_index":"i","routing":null}}\n{"x":1}\n'
    body += b'{"create":{"_id":1.5,"_index":null}}\n{"x":2}\n'
    assert items(body, "given") == [
        BulkItem("index", "i", "", b'{"x":1}'),
        BulkItem("create", "given", "1.5", b'{"x":2}'),
    ]


def test_what_is_in_the_log_is_neither_changed_nor_deleted() -> None:
    found = items(
        b'{"delete":{"_id":"a"}}\n{"update":{"_id":"b"}}\n{"doc":{}}\n{"create":{}}\n{}\n'
    )
    assert [(one.action, one.error) for one in found] == [
        ("delete", "illegal_argument_exception"),
        ("update", "illegal_argument_exception"),
        ("create", ""),
    ]


@pytest.mark.parametrize("name", ["..", ".", "_all", "-x", "+x", "A", "a/b", "a,b", "é", "a" * 256])
def test_an_index_has_the_names_that_elasticsearch_allows(name: str) -> None:
    [found] = items(b'{"create":{}}\n{}\n', name)
    assert found.error == "invalid_index_name_exception"
    assert items(b'{"create":{}}\n{}\n', "a.b_c-1")[0].error == ""


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"nothing", 1),
        (b'{"a":{}}\n{}', 1),
        (b'{"create":{},"index":{}}\n{}', 1),
        (b'{"create":1}\n{}', 1),
        (b'{"create":{}}\n{}\n\n{}\n', 4),
        (b'{"delete":{}}\n{}\n', 2),
        (b'{"create":{"_id":"a"}}\n"x\n' + b"more\n" * 2000, 1003),
    ],
)
def test_a_body_with_another_line_where_an_action_has_to_be_is_refused(
    body: bytes, line: int
) -> None:
    with pytest.raises(InvalidRequest, match=rf"line \[{line}\]") as raised:
        items(body)
    assert raised.value.code == "malformed_action"


def test_a_document_whose_text_has_line_breaks_costs_only_itself() -> None:
    body = b'{"create":{}}\n{"m":"a\nb","n":\n1}\n{"create":{}}\n{"x":1}\n'
    assert [one.raw for one in items(body)] == [b'{"m":"a\nb","n":\n1}', b'{"x":1}']


def test_a_last_action_without_a_document_is_named() -> None:
    assert items(b'{"create":{"_id":"a"}}\n')[0].reason == "the document is missing"


def test_the_date_of_an_index_is_none_of_its_name() -> None:
    for index in ("okta-2026.11.30", "okta-2026.11", "okta_2026-11-30", "okta"):
        assert name_of_index(index) == "okta"
    assert name_of_index("okta-000001") == "okta-000001"
