"""Phone numbers: E.164 or nothing.

An address is written by producers, so it may have spaces, brackets or ``00``; without a country it
cannot be sent to. ``phonenumbers`` carries the numbering plans; only *possible* numbers are asked
for, since plans change faster than the library (https://github.com/google/libphonenumber/blob/
master/FAQ.md, "isPossibleNumber").
"""

from __future__ import annotations

from functools import lru_cache

import phonenumbers

NUMBERS_MAX = 10_000
"""Bound of the cache of parsed numbers."""


@lru_cache(NUMBERS_MAX)
def e164(address: str) -> str | None:
    """``+`` and digits, or ``None`` when it cannot be a number with a country."""
    text = address.strip()
    if text.startswith("00"):
        text = "+" + text[2:]
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
