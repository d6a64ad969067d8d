"""Splitting of the bytes of a body into its items, a bounded piece at a time.

Items are counted before objects are made of them: millions of tiny items fit into one body, and
into a few kilobytes of gzip. Each piece costs a few milliseconds at most, so that other requests
have their turn between two pieces.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import TypeVar

import msgspec

from gateway.errors import InvalidEvents, InvalidRequest, PayloadTooLarge

# A piece ends at the first end of an item after this many bytes.
_PIECE_BYTES = 32 * 1024
# Bytes of one search for that end.
_SEARCH_BYTES = 256 * 1024
# Possible ends that are tried one after the other before the piece's size is doubled.
_ENDS_TRIED = 8
# Most bytes of an item. Events that are stored are far smaller; this leaves room to report why
# a larger one is refused.
_MOST_PIECE_BYTES = 2 << 20
# Up to this many items are made without checking first that they are objects.
_FEW_ITEMS = 20_000
_LINE = re.compile(rb"\S[^\n]*+")
_BETWEEN = re.compile(rb"}[ \t\n\r]*+,(?=[ \t\n\r]*+{)")
_SPACE = re.compile(rb"[ \t\n\r]*+")
_WHITE = b" \t\n\r"
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_STRUCTURE = re.compile(rb'[][{}",]')
_QUOTE, _CLOSES_ARRAY = b'"]'
_OPEN, _CLOSE, _BEHIND_ITEM = b"[{", b"]}", b",]"
# Objects that are made to count them.
_MOST_COUNTED = 400_000
# Brackets and quotes between two turns.
_LOOKS_AT_ONCE = 256
_SCALAR = rb'[^][ \t\n\r{}",]++[ \t\n\r]*+'


_Result = TypeVar("_Result")
# Long work: wherever it yields, others may have their turn.
Steps = Generator[None, None, _Result]


class _Object(msgspec.Struct, gc=False):
    """Any JSON object; its members are skipped."""


_RAW = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECTS = msgspec.json.Decoder(list[_Object])
_BYTE = re.compile(r"\(byte (\d+)\)")
_NOT_OBJECT = re.compile(r".* - at `\$\[(\d+)\]`", re.DOTALL)


def split_body(body: bytes, *, lines: bool, most: int) -> list[bytes]:
    """Items of a body: the lines of NDJSON (`lines`), the items of a JSON array, or one object.

    Raises as `pieces_of` does.
    """
    if body[:1] == b"{":
        items = [body]
        if lines:
            items = _LINE.findall(body) if len(body) <= _PIECE_BYTES else []
        if 0 < len(items) <= most:
            return items
    return [item for piece in pieces_of(body, lines=lines, most=most) for item in piece]


def pieces_of(
    body: bytes, *, lines: bool, most: int, loosely: bool = False
) -> Iterator[list[bytes]]:
    """Items of a body, piece by piece; a piece may be empty.

    With `loosely`, items of an array may be invalid JSON or of any size, as long as it is clear
    where they end. Raises `PayloadTooLarge` once there are more than `most` items, and
    `InvalidRequest` for an empty body.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidRequest("the body begins with a byte order mark; send plain UTF-8")
    if lines:
        pieces = _lines(body)
    elif body[(begin := _skip(body, 0)) : begin + 1] == b"[":
        pieces = _array(body, begin, most, loosely)
    else:
        pieces = iter(([body],) if body.strip() else ())
    count = 0
    for piece in pieces:
        count += len(piece)
        if count > most:
            raise too_many(most)
        yield piece
    if not count:
        raise InvalidRequest("the body is empty; send one event, a JSON array or NDJSON lines")


def too_many(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"more than {most} events in one request; send them in parts", code="too_many_events"
    )


def _lines(body: bytes) -> Iterator[list[bytes]]:
    at = 0
    while at < len(body):
        end = body.find(b"\n", min(at + _PIECE_BYTES, len(body))) + 1 or len(body)
        if end - at > _SEARCH_BYTES:
            # The last line is long, and may consist of spaces.
            last = body.rfind(b"\n", at, at + _PIECE_BYTES) + 1 or at
            yield _LINE.findall(body, at, last)
            line = body[last:end].removesuffix(b"\n").lstrip()
            yield [line] if line else []
        else:
            yield _LINE.findall(body, at, end)
        at = end


def _array(body: bytes, begin: int, most: int, loosely: bool) -> Iterator[list[bytes]]:
    """Items of the array that begins at `begin`; the body has to end with it.

    A piece ends between `}` and `{`. If that is within an item or a string, the piece is not an
    array in itself: then the next ends are tried, then those of longer and longer pieces. With
    `loosely`, the items are found one by one instead.
    """
    at, size, made, tried = begin + 1, _PIECE_BYTES, 0, 0
    while True:
        searched = min(at + size, len(body))
        found = None
        while found is None and searched < len(body):
            found = _BETWEEN.search(body, searched, searched + _SEARCH_BYTES)
            # Overlapping searches: the end of one may have cut a match in two.
            searched += _SEARCH_BYTES // 2
            yield []
        end = len(body) if found is None else found.end() - 1
        if loosely and end - at > _MOST_PIECE_BYTES:
            at, made = yield from _loose_items(body, at, made)
            if at < 0:
                return
            size, tried = _PIECE_BYTES, 0
            continue
        if end - at > _MOST_PIECE_BYTES:
            # The beginning tells whether this is too many items or one item that is too large.
            _check_objects(b"[" + body[at : at + _MOST_PIECE_BYTES], made, most)
            raise PayloadTooLarge(
                f"the item {made} has more than {_MOST_PIECE_BYTES} bytes, or what follows it is "
                "no object; send smaller events",
                code="event_too_large",
            )
        try:
            piece = _items(body, at, end, made, most, whole=found is None)
        except (_NotWhole, InvalidEvents) as error:
            tried += 1
            if loosely and (found is None or tried == _ENDS_TRIED):
                at, made = yield from _loose_items(body, at, made)
                if at < 0:
                    return
                size, tried = _PIECE_BYTES, 0
                continue
            if found is None or not (loosely or isinstance(error, _NotWhole)):
                raise
            size = end - at + 1 if tried % _ENDS_TRIED else 2 * (end - at)
            continue
        yield piece
        if found is None:
            return
        made += len(piece)
        at, size, tried = end + 1, _PIECE_BYTES, 0


def _loose_items(body: bytes, at: int, made: int) -> Generator[list[bytes], None, tuple[int, int]]:
    """Items of an array, one by one, found by brackets and quotes alone, up to the size of a piece.

    Returns where the next item begins (-1 at the end of the array), and how many items were made.
    """
    goes_on_at = at + _PIECE_BYTES
    while at < goes_on_at:
        end = yield from _end_of_item(body, at)
        if end < 0:
            raise _NotWhole(
                f"the body is not valid JSON: it ends within the item {made}",
                code="malformed_json",
            )
        item = body[at:end].strip(_WHITE)
        last = body[end] == _CLOSES_ARRAY
        if item or not last:
            made += 1
            yield [item]
        if last:
            if _skip(body, end + 1) < len(body):
                raise _NotWhole(
                    f"the body is not valid JSON: it goes on behind the array (byte {end + 1})",
                    code="malformed_json",
                )
            return -1, made
        at = end + 1
    return at, made


def is_whole(text: bytes) -> bool:
    """Whether the text is one item with nothing after it, by brackets and quotes alone."""
    return done_at_once(whole_in_steps(text))


def whole_in_steps(text: bytes) -> Steps[bool]:
    """See `is_whole`."""
    ending = _end_of_item(text + b",", 0)
    while True:
        try:
            next(ending)
        except StopIteration as done:
            return bool(done.value == len(text))
        yield None


def done_at_once(steps: Steps[_Result]) -> _Result:
    """Result of steps between which nobody else has a turn."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: _Result = done.value
            return result


def _end_of_item(body: bytes, at: int) -> Generator[list[bytes], None, int]:
    """Position of the comma or the bracket after an item; -1 if there is none."""
    depth, quoted, looks = 0, False, 0
    while at < len(body):
        looks += 1
        if looks % _LOOKS_AT_ONCE == 0:
            yield []
        bound = min(at + _PIECE_BYTES, len(body))
        if quoted:
            found = _IN_STRING.match(body, at, bound)
            assert found is not None
            if (at := found.end()) == bound:
                # A string may be long.
                yield []
            else:
                # A backslash at the bound is read again, together with what it escapes.
                quoted = body[at] != _QUOTE
                if quoted and bound == len(body):
                    return -1
                at += not quoted
            continue
        found = _STRUCTURE.search(body, at, bound)
        if found is None:
            at = bound
            yield []
            continue
        at = found.end()
        one = body[found.start()]
        if one == _QUOTE:
            quoted = True
        elif one in _OPEN:
            depth += 1
        elif depth == 0:
            return at - 1 if one in _BEHIND_ITEM else -1
        elif one in _CLOSE:
            depth -= 1
    return -1


class _NotWhole(InvalidRequest):
    """The text is not one JSON array."""


def _items(body: bytes, at: int, end: int, made: int, most: int, *, whole: bool) -> list[bytes]:
    """Items of a piece; if it is `whole`, it contains the closing bracket. `made` came before."""
    array = b"[" + body[at:end] + (b"" if whole else b"]")
    if array.count(b",") >= _FEW_ITEMS:
        _check_objects(array, made, most)
    try:
        return [bytes(item) for item in _RAW.decode(array)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = _BYTE.sub(lambda found: f"(byte {int(found[1]) + at - 1})", str(error))
        raise _NotWhole(f"the body is not valid JSON: {reason}", code="malformed_json") from None


def _check_objects(array: bytes, made: int, most: int) -> None:
    """Refuse an item that is not an object, and more than `most`, before items are made."""
    try:
        count = len(_OBJECTS.decode(array))
    except msgspec.ValidationError as error:
        if re.compile(rb"\[[ \t\n\r]*+(?:%b,[ \t\n\r]*+){%d}" % (_SCALAR, most)).match(array):
            raise too_many(most) from None
        found = _NOT_OBJECT.fullmatch(str(error))
        index = made + (int(found[1]) if found else 0)
        reason = "an event is a JSON object"
        raise InvalidEvents(
            f"refused: the item {index} is no object; nothing was stored",
            errors=[{"index": index, "path": "", "reason": reason}],
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The decoder reports it.
        return
    if made + count > most:
        raise too_many(most)


def _skip(body: bytes, at: int) -> int:
    found = _SPACE.match(body, at)
    return found.end() if found else at


_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def one_line(json: bytes) -> bytes:
    """JSON text on one line: line breaks occur only between tokens, and become spaces."""
    json = json.strip()
    return json.translate(_LINE_BREAKS) if b"\n" in json or b"\r" in json else json


# A line that a container runtime wrote (CRI): time, stream, F for a full line or P for a part.
_CRI = re.compile(rb"\S{1,64} (?:stdout|stderr) ([FP]) ", re.ASCII)
_SEPARATOR = b"\x1e"


def text_inside(line: bytes) -> bytes | None:
    """JSON in a line of text: behind what a container runtime or a forwarder put before it, or a
    record separator (RFC 7464). None if there is none."""
    line = line.strip(_SEPARATOR + b" \t\r\n")
    if line[:1] in (b"{", b"["):
        return line
    found = _CRI.match(line)
    if found is not None:
        return line[found.end() :] if found[1] == b"F" else None
    begin = line.find(b"{")
    return line[begin:] if begin >= 0 and line.endswith(b"}") else None


def behind_runtime(line: bytes) -> bytes:
    """What stands behind the words of a container runtime before a full line; the line if there are
    none."""
    found = _CRI.match(line)
    return line[found.end() :] if found is not None and found[1] == b"F" else line


_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def items_of(array: bytes, most: int | None = None) -> list[bytes] | None:
    """The items of a JSON array, also where one is invalid or nested deeper than decoders go; None
    if it is no array. Raises `PayloadTooLarge` if there are more than `most`, before it makes them.
    """
    return done_at_once(items_in_steps(array, most))


def items_in_steps(array: bytes, most: int | None = None) -> Steps[list[bytes] | None]:
    """See `items_of`."""
    if array.lstrip()[:1] != b"[":
        return None
    if most is None or array.count(b",") < most or _has_few_objects(array, most):
        try:
            return [bytes(item) for item in _LIST.decode(array)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
    most = len(array) if most is None else most
    found: list[bytes] = []
    try:
        for piece in pieces_of(array.strip(), lines=False, most=most, loosely=True):
            found += piece
            yield None
    except InvalidRequest:
        return None
    return found


def _has_few_objects(array: bytes, most: int) -> bool:
    """Whether all items are objects, and not more than `most`, as far as that is told quickly.
    Raises `PayloadTooLarge` for more."""
    if array.count(b"{") > _MOST_COUNTED:
        return False
    try:
        count = len(_OBJECTS.decode(array))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    if count > most:
        raise too_many(most)
    return True
