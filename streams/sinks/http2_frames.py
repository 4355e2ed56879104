"""HTTP/2 as bytes: frames, the headers of a request, the headers of an answer. No IO, no state.

Requests are written as literals without indexing, so the peer keeps nothing for us and what is
written once can be written again; of its own headers we ask the peer to index nothing either
(SETTINGS_HEADER_TABLE_SIZE 0). Every block of headers then stands for itself: one that is not
needed is not read, and nothing that was skipped is missed later. What is read is read by ``hpack``.

Sources: RFC 9113 (frames §4, §6), RFC 7541 (literals §6.2, sizes §4.2 and §6.3).
Invariant: no header name or value with CR, LF, NUL or another control character is ever written.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR = 0, 1, 3, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 7, 8, 9
HEADER_TABLE_SIZE, ENABLE_PUSH, STREAMS_MAX, INITIAL_WINDOW, FRAME_BYTES_MAX = 1, 2, 3, 4, 5

HEAD_BYTES = 9
FRAME_BYTES = 16_384
"""Largest frame that must be taken, and that we take."""
WINDOW_BYTES = 65_535
"""What may be sent before the peer has said more."""
WINDOW_BYTES_MAX = (1 << 31) - 1
STREAM_MAX = (1 << 31) - 1
HEADER_BYTES_MAX = 65_536
"""Longest headers of an answer."""
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
PATH = re.compile(r"/[!-~]*")

_head = struct.Struct(">HBBBI")
read_head = _head.unpack_from
"""(length / 256, length % 256, kind, flags, stream) of the frame that begins there."""
_pair = struct.Struct(">HI")


class MalformedRequest(ValueError):  # noqa: N818 (what it is)
    """Something in a request cannot be written as HTTP."""


class MalformedAnswer(ValueError):  # noqa: N818 (what it is)
    """The peer's headers cannot be read: the connection is of no more use."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame. ``payload`` of at most ``FRAME_BYTES``."""
    size = len(payload)
    return _head.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings_frame(settings: Mapping[int, int]) -> bytes:
    """SETTINGS with these values."""
    return frame(SETTINGS, 0, 0, b"".join(_pair.pack(*pair) for pair in settings.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """(name, value) in the order of the frame. Raises ``MalformedAnswer``."""
    if len(payload) % _pair.size:
        raise MalformedAnswer("a SETTINGS frame of a wrong size")
    return [(int(name), int(value)) for name, value in _pair.iter_unpack(payload)]


def number(value: int) -> bytes:
    """A 31 bit number as frames have it."""
    return value.to_bytes(4, "big")


def without_padding(flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame carries. Raises ``MalformedAnswer``."""
    start, end = 0, len(payload)
    if flags & PADDED:
        start, end = 1, end - (payload[0] if payload else 0)
    if flags & WITH_PRIORITY:
        start += 5
    if start > end:
        raise MalformedAnswer("more padding than frame")
    return payload[start:end] if flags & (PADDED | WITH_PRIORITY) else payload


class Headers:
    """Writes the headers of requests to one origin. What repeats is written once."""

    def __init__(self, scheme: str, authority: str) -> None:
        """Raises ``MalformedRequest`` for an authority that is none."""
        # Indexed: POST 3, http 6, https 7. Literal with an indexed name: authority 1, path 4.
        scheme_index = b"\x87" if scheme == "https" else b"\x86"
        self._start = scheme_index + b"\x01" + _text(authority) + b"\x04"
        self._plain = _literal("user-agent", "flowstate") + b"\x0f\x0d"  # content-length is 28
        self._known: dict[str, tuple[str, bytes]] = {}
        """Name -> the value that was last written, and how: names are few, values often stay."""

    def block(self, method: str, path: str, headers: Mapping[str, str], body_bytes: int) -> bytes:
        """The block of one request. Raises ``MalformedRequest``."""
        if not PATH.fullmatch(path):
            raise MalformedRequest("a path with characters that need escaping")
        verb = b"\x83" if method == "POST" else b"\x02" + _text(method)
        parts = [verb, self._start, _text(path), self._plain, _text(str(body_bytes))]
        known = self._known
        for name, value in headers.items():
            last = known.get(name)
            if last is None or last[0] != value:
                last = known[name] = (value, _literal(name, value))
            parts.append(last[1])
        return b"".join(parts)


def _literal(name: str, value: str) -> bytes:
    """A header that nobody on the way may index (credentials) or need not (all others)."""
    if not NAME.fullmatch(name):
        raise MalformedRequest("a header whose name is none")
    first = b"\x10" if name == "authorization" else b"\x00"
    return first + _text(name) + _text(value)


def _text(text: str) -> bytes:
    if not VALUE.fullmatch(text):
        raise MalformedRequest("a header with characters that none may have")
    data = text.encode("latin-1")
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    rest, coded = size - 127, bytearray(b"\x7f")
    while rest > 127:
        coded.append(rest & 127 | 128)
        rest >>= 7
    coded.append(rest)
    return bytes(coded) + data


def answer_headers(block: bytes) -> dict[str, str]:
    """The headers of an answer, ``:status`` among them. Raises ``MalformedAnswer``.

    A new decoder each time: with a table of no bytes no block depends on another.
    """
    decoder = hpack.Decoder(max_header_list_size=HEADER_BYTES_MAX)
    decoder.max_allowed_table_size = decoder.header_table_size = 0
    try:
        fields: Any = decoder.decode(block)  # Annotated as bytes, and text all the same.
        return {str(name): str(value) for name, value in fields}
    except (hpack.HPACKError, UnicodeDecodeError) as error:
        raise MalformedAnswer(f"headers that cannot be read: {type(error).__name__}") from error
