"""Writes an e-mail: RFC 5322 headers and one or two text parts, nothing more.

``email.message.EmailMessage`` took 1,600 µs for such a message where this was measured (it parses
every header that it is given), more than sending it. What must not be lost with it is the
guarantee that a header cannot be injected, so every value goes through ``header``, which refuses
control characters. ``tests/sinks/test_mime.py`` parses the results with the standard library and
compares them with what ``EmailMessage`` says of the same input.

Invariants: no CR, LF or NUL of a value ever reaches a header; every line is at most 998 bytes
(bodies are quoted-printable or base64 where they must be); line ends are CRLF.
"""

from __future__ import annotations

import binascii
import hashlib
import quopri
from email.utils import formatdate, parseaddr

LINE_BYTES_MAX = 998
ENCODED_WORD_BYTES_MAX = 45
"""UTF-8 bytes in one encoded word: 60 in base64, under RFC 2047's 75 with its frame."""


class HeaderRefused(ValueError):  # noqa: N818 (what became of it)
    """A value has control characters: an attempt to write headers of its own, or a mistake."""


def message(
    headers: list[tuple[str, str]], text: str, html: str | None, boundary_seed: str, now_ms: int
) -> bytes:
    """A whole message. ``headers`` are in order; ``Date`` and the MIME ones are added."""
    lines = [header(name, value) for name, value in headers]
    lines.append(f"Date: {formatdate(now_ms / 1000)}".encode())
    lines.append(b"MIME-Version: 1.0")
    if html is None:
        return b"\r\n".join([*lines, _part("plain", text)])
    boundary = "=_" + hashlib.sha256(boundary_seed.encode()).hexdigest()[:32]
    mark = b"--" + boundary.encode()
    lines.append(f'Content-Type: multipart/alternative; boundary="{boundary}"'.encode())
    parts = [b"", mark, _part("plain", text), mark, _part("html", html), mark + b"--", b""]
    return b"\r\n".join([*lines, *parts])


def header(name: str, value: str) -> bytes:
    """One header, folded where it is long and encoded (RFC 2047) where it is not ASCII."""
    if not value.isprintable() and any(c < " " or c == "\x7f" for c in value):
        raise HeaderRefused(name)
    if value.isascii():
        return _folded(f"{name}: {value}")
    shown, address = parseaddr(value) if name in ("From", "To", "Reply-To") else (value, "")
    words = b"\r\n ".join(_encoded_words(shown))
    tail = f" <{address}>".encode("ascii") if address else b""
    return name.encode() + b": " + words + tail


def _encoded_words(value: str) -> list[bytes]:
    words, current, size = [], "", 0
    for character in value:
        width = len(character.encode())
        if size + width > ENCODED_WORD_BYTES_MAX:
            words.append(current)
            current, size = "", 0
        current, size = current + character, size + width
    words.append(current)
    return [
        b"=?utf-8?b?" + binascii.b2a_base64(word.encode(), newline=False) + b"?=" for word in words
    ]


def _folded(line: str) -> bytes:
    """Folds at spaces so that lines stay near 78; a long word stays whole up to the limit."""
    if len(line) <= 78:
        return line.encode("ascii")
    name, _, value = line.partition(": ")
    lines, current = [], name + ":"
    for word in value.split(" "):
        if len(current) + 1 + len(word) > 78 and current.strip() and current != name + ":":
            lines.append(current)
            current = ""
        current += " " + word
    lines.append(current)
    if any(len(part) > LINE_BYTES_MAX for part in lines):
        raise HeaderRefused(name)
    return "\r\n".join(lines).encode("ascii")


def _part(subtype: str, text: str) -> bytes:
    """Headers and body of a text part in the plainest encoding that carries it."""
    body = "\r\n".join(text.splitlines()) + "\r\n"
    head = f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: '
    short = max(map(len, body.split("\r\n"))) <= 200
    if body.isascii() and short and "\x00" not in body:
        return f"{head}7bit\r\n\r\n{body}".encode("ascii")
    raw = body.encode()
    if raw.count(b" ") and sum(byte > 127 for byte in raw) * 6 < len(raw):
        quoted = quopri.encodestring(raw.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
        return f"{head}quoted-printable\r\n\r\n".encode() + quoted
    encoded = binascii.b2a_base64(raw, newline=False)
    wrapped = b"\r\n".join(encoded[i : i + 76] for i in range(0, len(encoded), 76))
    return f"{head}base64\r\n\r\n".encode() + wrapped + b"\r\n"
