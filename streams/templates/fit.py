"""Makes words fit a limit in bytes without cutting what a person sees as one character.

Limits of providers are in bytes of the encoded payload, so the measure is a function that the sink
gives (UTF-8 bytes, bytes inside a JSON string, ...). The cut falls between grapheme clusters as
UAX #29 defines them (https://unicode.org/reports/tr29/, rules GB3 to GB13): half a flag, a family
without its children or a letter without its accent is a defect, not an abbreviation.

Invariants: the result is never longer than the limit; what already fits is returned unchanged; a
shortened text is a prefix on a cluster boundary plus an ellipsis, when the ellipsis fits.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import msgspec

ELLIPSIS = "\u2026"
ZERO_WIDTH_JOINER = "\u200d"
MARKS = frozenset({"Mn", "Me", "Mc"})
CONTROLS = frozenset({"Cc", "Zl", "Zp"})

Measure = Callable[[str], int]


def utf8_bytes(text: str) -> int:
    """Size of ``text`` in UTF-8."""
    return len(text.encode())


def json_bytes(text: str) -> int:
    """Size of ``text`` inside a JSON string as msgspec writes it, without the quotes."""
    return len(msgspec.json.encode(text)) - 2


def fit(text: str, limit: int, measure: Measure = utf8_bytes) -> str:
    """``text``, or the longest prefix of whole clusters that fits ``limit`` with an ellipsis.

    ``measure`` must be additive (the size of a whole is the sum of its parts), as byte sizes are.
    """
    if limit <= 0:
        return ""
    if measure(text) <= limit:
        return text
    tail = ELLIPSIS if measure(ELLIPSIS) <= limit else ""
    room = limit - measure(tail)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    cut = cluster_start(text, low)
    return text[:cut].rstrip() + tail


def cluster_start(text: str, position: int) -> int:
    """The nearest boundary between clusters at or before ``position``."""
    while 0 < position < len(text) and not is_boundary(text, position):
        position -= 1
    return position


def is_boundary(text: str, position: int) -> bool:
    """Whether a cluster may end before ``text[position]``."""
    before, after = text[position - 1], text[position]
    if before < "\u0300" and after < "\u0300":  # Latin text: only CRLF holds together
        return not (before == "\r" and after == "\n")
    if _is_control(before) or _is_control(after):  # GB4, GB5
        return True
    if _extends(after) or _is_prepended(before):  # GB9, GB9a, GB9b
        return False
    if _hangul(before, after):  # GB6 to GB8
        return False
    if before == ZERO_WIDTH_JOINER and _is_pictograph(after):  # GB11
        return not _joins_pictograph(text, position)
    if _is_regional(before) and _is_regional(after):  # GB12, GB13: flags are pairs
        first = position - 1
        while first > 0 and _is_regional(text[first - 1]):
            first -= 1
        return (position - first) % 2 == 0
    return not _joins_conjunct(text, position)  # GB9c


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in CONTROLS


def _extends(character: str) -> bool:
    return (
        character in (ZERO_WIDTH_JOINER, "\u200c")
        or unicodedata.category(character) in MARKS
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= character <= "\U000e007f"  # tags: flags of Scotland and Wales
        or "\uff9e" <= character <= "\uff9f"
    )


def _is_prepended(character: str) -> bool:
    return "\u0600" <= character <= "\u0605" or character in "\u06dd\u070f\u08e2\U000110bd"


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_pictograph(character: str) -> bool:
    """Extended_Pictographic, near enough: symbols that take part in emoji sequences."""
    return (
        "\U0001f000" <= character <= "\U0001faff"
        or "\u2190" <= character <= "\u2bff"
        or character in "\u00a9\u00ae\u203c\u2049\u2122\u2139\u3030\u303d\u3297\u3299"
    )


def _joins_pictograph(text: str, position: int) -> bool:
    index = position - 2
    while index >= 0 and _extends(text[index]) and text[index] != ZERO_WIDTH_JOINER:
        index -= 1
    return index >= 0 and _is_pictograph(text[index])


def _joins_conjunct(text: str, position: int) -> bool:
    """An Indic consonant after a virama belongs to the consonant before it (GB9c)."""
    if unicodedata.category(text[position]) != "Lo":
        return False
    index, linked = position - 1, False
    while index >= 0 and _extends(text[index]):
        linked = linked or unicodedata.combining(text[index]) == 9
        index -= 1
    return linked and index >= 0 and unicodedata.category(text[index]) == "Lo"


def _hangul(before: str, after: str) -> bool:
    leading = "\u1100" <= before <= "\u115f" or "\ua960" <= before <= "\ua97c"
    syllable = "\uac00" <= before <= "\ud7a3"
    open_syllable = syllable and (ord(before) - 0xAC00) % 28 == 0
    vowel = "\u1160" <= before <= "\u11a7" or "\ud7b0" <= before <= "\ud7c6"
    trailing = "\u11a8" <= before <= "\u11ff" or "\ud7cb" <= before <= "\ud7fb"
    next_vowel = "\u1160" <= after <= "\u11a7" or "\ud7b0" <= after <= "\ud7c6"
    next_trailing = "\u11a8" <= after <= "\u11ff" or "\ud7cb" <= after <= "\ud7fb"
    if leading:
        next_leading = "\u1100" <= after <= "\u115f" or "\ua960" <= after <= "\ua97c"
        return next_leading or next_vowel or "\uac00" <= after <= "\ud7a3"
    if vowel or open_syllable:
        return next_vowel or next_trailing
    return (trailing or syllable) and next_trailing
