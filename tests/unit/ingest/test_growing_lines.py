"""Lines of a body in pieces: what is whole, and what is kept of lines that are too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.growing_lines import GrowingLines

MOST = 5
_texts = st.lists(st.binary(max_size=9).map(lambda one: one.replace(b"\n", b"")), max_size=6)


@given(_texts, st.lists(st.integers(1, 12)))
def test_lines_are_the_same_wherever_they_are_cut(texts: list[bytes], sizes: list[int]) -> None:
    body, lines = b"\n".join(texts), GrowingLines(MOST)
    came: list[tuple[bytes, bool]] = []
    for size in [*sizes, len(body)]:
        piece, body = body[:size], body[size:]
        came += lines.add(piece)
    came.append(lines.last())
    whole: list[tuple[bytes, bool]] = []
    for text, is_long in came:
        assert not is_long or b"\n" not in text, "it stands alone"
        whole += [(line, is_long) for line in text.split(b"\n") if line]
    # A line that came in one piece with its end is as long as it is.
    kept = [(line[:MOST] if is_long else line) for line, is_long in whole]
    expected = [text for text in texts if text]
    assert len(kept) == len(expected)
    for (line, is_long), text in zip(whole, expected, strict=True):
        assert line == (text[:MOST] if is_long else text)
        assert not is_long or len(text) > MOST
    assert lines.dropped == sum(
        len(text) - MOST for (_, is_long), text in zip(whole, expected, strict=True) if is_long
    )


def test_of_a_line_without_end_no_more_is_kept() -> None:
    lines = GrowingLines(MOST)
    for _ in range(100):
        assert [*lines.add(b"abc")] == []
    assert (lines.is_long, lines.dropped) == (True, 295)
    assert [*lines.add(b"c\nde\nf")] == [(b"abcab", True), (b"\nde\n", False)]
    assert lines.last() == (b"f", False)
