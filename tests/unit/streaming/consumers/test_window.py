"""What is out unacknowledged: counts, room, and what a pong may acknowledge."""

from __future__ import annotations

from gateway.streaming.consumers.window import AckWindow


def test_what_was_sent_is_out_until_it_is_acknowledged() -> None:
    window = AckWindow(10, most=10)
    window.sent(1.0, 13, range(11, 14), 300)
    window.sent(2.0, 20, range(19, 21), 200)
    assert (window.unacknowledged, window.room, window.position) == (5, 5, 10)
    assert window.acknowledge(3.0, 13)
    assert (window.unacknowledged, window.room, window.position) == (2, 8, 13)
    assert not window.acknowledge(3.0, 12), "it only goes forwards"
    assert window.acknowledge(4.0, 20)
    assert (window.unacknowledged, window.room, window.position) == (0, 10, 20)


def test_each_event_of_those_that_were_sent_together_is_acknowledged_for_itself() -> None:
    window = AckWindow(0, most=5, most_bytes=1000)
    window.sent(1.0, 90, [10, 20, 30, 40, 50], 1000)
    assert window.room == 0
    window.acknowledge(2.0, 25)
    assert (window.unacknowledged, window.position, window.room) == (3, 25, 2)
    window.acknowledge(2.0, 40)
    assert (window.unacknowledged, window.position, window.room) == (1, 40, 4)
    window.acknowledge(2.0, 50)
    assert (window.unacknowledged, window.position, window.room) == (0, 90, 5)


def test_where_nothing_is_out_the_position_is_all_that_was_looked_at() -> None:
    window = AckWindow(0, most=10)
    window.sent(1.0, 50, (), 0)
    assert window.position == 50
    window.sent(2.0, 60, [60], 100)
    assert window.position == 50
    window.sent(3.0, 70, (), 0)
    assert window.position == 50
    window.acknowledge(4.0, 60)
    assert window.position == 70


def test_there_is_no_room_beyond_so_many_events_or_bytes() -> None:
    window = AckWindow(0, most=3, most_bytes=1000)
    assert window.room == 1, "of events that may be as large as any"
    window.sent(1.0, 2, range(1, 3), 20)
    assert window.room == 1
    window.sent(1.0, 3, [3], 10)
    assert window.room == 0
    window.acknowledge(2.0, 3)
    window.sent(3.0, 4, [4], 1000)
    assert window.room == 0


def test_the_wait_for_an_acknowledgement_begins_anew_with_each() -> None:
    window = AckWindow(0, most=10)
    assert window.waits_since is None
    window.sent(1.0, 1, [1], 1)
    window.sent(5.0, 2, [2], 1)
    assert window.waits_since == 1.0
    window.acknowledge(7.0, 1)
    assert window.waits_since == 7.0
    window.acknowledge(9.0, 2)
    assert window.waits_since is None


def test_what_had_been_sent_by_a_time_is_known() -> None:
    window = AckWindow(5, most=10, timed=True)
    for second in range(1, 6):
        window.sent(second + 0.02, 5 + second, [5 + second], 1)
        window.sent(second + 0.07, 50 + second, [50 + second], 1)
    assert window.sent_before(0.5) == 5
    assert window.sent_before(3.05) == 52, "in steps of a tenth of a second"
    assert window.sent_before(3.5) == 53
    assert window.sent_before(9.0) == 55


def test_a_steady_stream_does_not_hide_what_was_sent_before() -> None:
    window = AckWindow(0, most=10_000, timed=True)
    for hundredth in range(1, 1000):
        window.sent(hundredth / 100, hundredth, [hundredth], 1)
    found = window.sent_before(5.0)
    assert found is not None
    assert 480 <= found <= 500


def test_with_the_last_event_all_is_acknowledged_whatever_lies_behind_it() -> None:
    window = AckWindow(0, most=10)
    window.sent(1.0, 50, range(31, 41), 100)
    assert (window.room, window.position) == (0, 0)
    window.acknowledge(2.0, 39)
    assert window.unacknowledged == 1
    window.acknowledge(3.0, 40)
    assert (window.unacknowledged, window.room, window.position) == (0, 10, 50)
    assert window.waits_since is None


def test_what_is_acknowledged_ahead_of_what_was_sent_here_is_not_out_when_it_comes() -> None:
    window = AckWindow(0, most=10)
    window.acknowledge(1.0, 20)
    assert window.position == 20
    window.sent(2.0, 18, range(14, 19), 100)
    assert (window.unacknowledged, window.position) == (0, 20)
    window.sent(3.0, 22, range(19, 23), 100)
    assert (window.unacknowledged, window.position) == (2, 20)
