"""Links that carry their own proof: what they are about, and when they were made, sealed.

Whoever holds such a link may do the one thing that it is for, and nothing else: the purpose is
part of the key, so a link to open a message never opens a preference page, and the target of a
redirect is inside, so nobody can make a redirect of ours lead anywhere else.

Invariants: only the newest secret seals, every listed one opens; a link holds ids of ours and
never an address, and shows neither to who only reads it (``streams/sealed.py``).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streams.sealed import seal, unseal

TARGET_CHARACTERS_MAX = 2_048

Purpose = Literal["preferences", "open", "click"]


class Link(msgspec.Struct, frozen=True, array_like=True):
    """What a link stands for. Empty fields do not apply to its purpose."""

    recipient_id: str
    made_at_ms: int
    notification_id: str = ""
    delivery_id: str = ""
    target: str = ""
    """Where a click leads."""


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Link)


def token(secrets: tuple[str, ...], purpose: Purpose, link: Link) -> str:
    """Text for a URL's path. Raises ``ValueError`` without secrets, or for a target that is bad."""
    if link.target and not is_web_url(link.target):
        raise ValueError("a link leads to an http or https URL")
    return seal(secrets, purpose, _encode(link))


def verify(secrets: tuple[str, ...], purpose: Purpose, text: str) -> Link | None:
    """What ``text`` stands for; ``None`` for anything that we did not seal for this purpose."""
    body = unseal(secrets, purpose, text)
    try:
        return None if body is None else _decoder.decode(body)
    except msgspec.DecodeError:
        return None


def is_web_url(url: str) -> bool:
    """An absolute http(s) URL without control characters: safe in a Location header."""
    return (
        url.startswith(("https://", "http://"))
        and len(url) <= TARGET_CHARACTERS_MAX
        and url.isascii()
        and url.isprintable()
        and " " not in url
    )
