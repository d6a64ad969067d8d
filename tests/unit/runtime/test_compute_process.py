"""Computing in another process: the same results and errors, with or without that process."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from gateway.access.grants.copies import DeclaredCopies, RecordCopies
from gateway.access.grants.mask import Masks
from gateway.access.policy.decision import Rule, View
from gateway.errors import InvalidEvents
from gateway.event import Event
from gateway.filters.expression import compile_filter
from gateway.filters.scope import Scope
from gateway.http.request.decoding import _decode_events, _decode_leniently
from gateway.ingest.mapping.path import parse_condition
from gateway.ingest.mapping.record_test import ConditionTest
from gateway.ingest.strict_json import Refused
from gateway.runtime.process import compute_process
from gateway.runtime.process.compute_process import ComputeProcess
from gateway.streaming.event_selector import select_in_process
from gateway.streaming.live.interest import StreamQuery
from tests.support.machine_time import patience
from tests.support.pseudonyms import named

LARGE = b'{"category":"a.b","action":"x","data":{"a":[%b]}}' % b",".join([b"1.50"] * 5_000)
_JSON = (
    b'{"cursor":"k3f9xq7m2p-%020d","recorded_at":"2023-11-14T22:13:20Z","id":"i","category":"%b",'
    b'"data":{"secret":"s","n":%d}}'
)


@pytest.fixture(scope="module")
def process() -> Iterator[ComputeProcess]:
    with ComputeProcess() as made:
        yield made


def test_a_process_is_started_when_it_is_needed_and_ends_with_its_gateway() -> None:
    with ComputeProcess() as made:
        assert made._child is None
        number = made(os.getpid)
        assert number != os.getpid()
        assert made(os.getpid) == number
        assert made(partial(os.nice, 0)) > os.nice(0)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    # Whatever comes too late is done here.
    assert made(os.getpid) == os.getpid()


def test_events_are_decoded_there_as_here(process: ComputeProcess) -> None:
    work = partial(_decode_events, [LARGE[:-1] + b',"id":"one"}'], 1.0, first=0, mapped=False)
    assert process(work) == work()
    bad = partial(_decode_events, [b'{"category":"a.b"}'], 1.0, first=0, mapped=False)
    with pytest.raises(InvalidEvents) as there:
        process(bad)
    with pytest.raises(InvalidEvents) as here:
        bad()
    assert (there.value.detail, there.value.members) == (here.value.detail, here.value.members)
    loosely = partial(_decode_leniently, [b'{"category":1}'], 1.0, first=7, mapped=False)
    ((index, item, refused),) = process(loosely).refused
    assert (index, item) == (7, b'{"category":1}')
    assert isinstance(refused, Refused)
    assert (refused.path, refused.reason) == (loosely().refused[0][2].path, refused.reason)


def test_events_are_chosen_there_as_here_and_cost_the_same(
    process: ComputeProcess, event: Callable[..., Event]
) -> None:
    rule = Rule(Scope(), Masks(mask=("data.secret",)))
    query = StreamQuery(
        Scope(category=("a.*",)),
        View((rule,)),
        compile_filter("data.exists(a, data.exists(b, a == b && b == 'n'))"),
    )
    events = [
        event(n, category=name, json=_JSON % (n, name.encode(), n))
        for n, name in enumerate(("a.b", "c.d", "a.c"), 1)
    ]
    work = partial(select_in_process, query, events, 1_000_000, 60.0, DeclaredCopies())
    chosen, looked, cost = process(work)
    assert ([one.offset for one in chosen], looked) == ([1, 3], 3)
    assert all(b'"s"' not in one.json for one in chosen)
    assert cost == work()[2]
    # A question that comes again is charged anew.
    assert process(work)[2] == cost
    assert process(partial(select_in_process, query, events, 1, 60.0, DeclaredCopies()))[1] == 1
    assert (
        process(partial(select_in_process, query, events, 1_000_000, 0.0, DeclaredCopies()))[1] == 1
    )


def test_events_have_the_same_pseudonyms_there_as_here(
    process: ComputeProcess, event: Callable[..., Event]
) -> None:
    view = View((Rule(Scope(), named("data.secret")),))
    query = StreamQuery(Scope(), view, compile_filter("data.secret.startsWith('ps1_')"))
    events = [event(1, json=(_JSON % (1, b"a", 1)).replace(b"20Z", b"20.000000Z"))]
    work = partial(select_in_process, query, events, 1_000_000, 60.0, DeclaredCopies())
    [chosen], _, _ = process(work)
    assert [chosen] == work()[0]
    assert b'"s"' not in chosen.json


def test_copies_of_what_is_hidden_are_hidden_there_as_here(
    process: ComputeProcess, event: Callable[..., Event]
) -> None:
    view = View((Rule(Scope(), Masks(mask=("actor.id",))),))
    asked = [event(1, category="x.y", json=_JSON % (1, b"x.y", 1))]
    for expression, found in (("data.secret == '***'", 1), ("data.secret == 's'", 0)):
        query = StreamQuery(Scope(), view, compile_filter(expression))
        hidden = {"data.secret": ("actor.id",)}
        by_record = RecordCopies(
            "x", hidden, ConditionTest(parse_condition("secret")), (("secret",),)
        )
        for copies in (DeclaredCopies({"x": hidden}), DeclaredCopies(by_record=(by_record,))):
            work = partial(select_in_process, query, asked, 1_000_000, 60.0, copies)
            assert len(process(work)[0]) == found


def test_without_the_process_the_caller_does_it_and_it_comes_back_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ComputeProcess() as made, caplog.at_level(logging.WARNING):
        os.kill(made(os.getpid), signal.SIGKILL)
        assert made(os.getpid) == os.getpid()
        assert [record.name for record in caplog.records] == [compute_process.__name__]
        assert made(os.getpid) == os.getpid()
        monkeypatch.setattr(made, "_not_before", 0.0)
        assert made(os.getpid) != os.getpid()


def test_a_process_that_cannot_be_had_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_process.sys, "executable", "/nowhere/python")
    with ComputeProcess() as made:
        assert made(os.getpid) == os.getpid()


def test_nobody_waits_for_a_process_that_answers_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with ComputeProcess() as made:
        number = made(os.getpid)
        assert made._child is not None
        made._child._connection.settimeout(0.01)
        os.kill(number, signal.SIGSTOP)
        assert made(os.getpid) == os.getpid()
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_the_end_of_a_gateway_does_not_wait_for_a_process_that_answers_no_more() -> None:
    made = ComputeProcess()
    number = made(os.getpid)
    os.kill(number, signal.SIGSTOP)
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(made(os.getpid)))
    waiting.start()
    deadline = time.monotonic() + patience()
    while not made._lock.locked():
        assert time.monotonic() < deadline
    made.__exit__()
    waiting.join(patience())
    assert found == [os.getpid()]


def test_the_secrets_of_the_gateway_are_not_in_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUDIT_GATEWAY_KEYS__PEPPER", "secret")
    monkeypatch.setenv("OTHERS", "here")
    with ComputeProcess() as made:
        names = made(_environment)
    assert "OTHERS" in names
    assert not [name for name in names if name.startswith("AUDIT_GATEWAY_")]


def test_what_cannot_be_handed_over_is_a_bug_and_not_done_in_silence(
    process: ComputeProcess,
) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        process(lambda: None)
    assert process(os.getpid) != os.getpid()


def test_it_ends_when_its_gateway_is_killed() -> None:
    made = ComputeProcess()
    number = made(os.getpid)
    assert made._child is not None
    # As the machine does with the descriptors of a process that has ended.
    made._child._connection.close()
    made._child.process.wait(patience())
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    with contextlib.suppress(OSError):
        made.__exit__()


def _environment() -> list[str]:
    return list(os.environ)
