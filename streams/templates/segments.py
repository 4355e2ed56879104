"""How many SMS a text costs, and how to keep it under a ceiling.

A text that GSM 03.38 can spell has 160 septets in one message and 153 in each part of several;
anything else is UCS-2 with 70 and 67 UTF-16 units (3GPP TS 23.038 §6.2, TS 23.040 §9.2.3.24.1).
Characters of the extension table cost two septets, and neither they nor a surrogate pair may be
split over two parts, so the count walks the text as the network does.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streams.templates.fit import ELLIPSIS, cluster_start

GSM_7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_7_EXTENSION = frozenset("^{}\\[~]|€\f")

PLAIN = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-",
        "\u2014": "-", "\u2026": "...", "\u00a0": " ", "\t": " ",
    }
)  # fmt: skip
"""Typography that would make a whole message three times dearer, and what says the same."""


class Segments(msgspec.Struct, frozen=True):
    """What a text costs."""

    encoding: Literal["gsm7", "ucs2"]
    count: int


def segments(text: str) -> Segments:
    """Encoding and number of messages that ``text`` needs; an empty text needs one."""
    gsm = all(character in GSM_7 or character in GSM_7_EXTENSION for character in text)
    single, part = (160, 153) if gsm else (70, 67)
    sizes = [_size(character, gsm) for character in text]
    if sum(sizes) <= single:
        return Segments("gsm7" if gsm else "ucs2", 1)
    count, used = 1, 0
    for size in sizes:
        if used + size > part:
            count, used = count + 1, 0
        used += size
    return Segments("gsm7" if gsm else "ucs2", count)


def fit_segments(text: str, segments_max: int) -> str:
    """``text`` in at most ``segments_max`` messages: plain typography first, then shortened."""
    if segments(text).count <= segments_max:
        return text
    plain = text.translate(PLAIN)
    if segments(plain).count <= segments_max:
        return plain
    low, high = 0, len(plain)
    while low < high:
        middle = (low + high + 1) // 2
        if segments(_shortened(plain, middle)).count <= segments_max:
            low = middle
        else:
            high = middle - 1
    return _shortened(plain, low)


def _shortened(text: str, position: int) -> str:
    cut = text[: cluster_start(text, position)].rstrip()
    return cut + ELLIPSIS.translate(PLAIN) if cut else ""


def _size(character: str, gsm: bool) -> int:
    if gsm:
        return 2 if character in GSM_7_EXTENSION else 1
    return 2 if ord(character) > 0xFFFF else 1
