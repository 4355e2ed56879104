"""One-click unsubscribe links (RFC 8058): made here, checked by the API.

The link carries what it is about, sealed (``streams/sealed.py``): nobody can unsubscribe another
by guessing, nobody learns from it who was written to, and nothing needs to be stored. It does not
expire: people keep mail for years, and the law asks that the link goes on working.

Invariants: a link never shows whom or what it is about; only the newest secret seals, every
listed one opens.
"""

from __future__ import annotations

import msgspec

from streams.sealed import seal, unseal
from streams.sinks.settings import UnsubscribeSettings

PURPOSE = "unsubscribe"


class Unsubscribe(msgspec.Struct, frozen=True, array_like=True):
    """What a link stands for."""

    recipient_id: str
    category: str
    channel: str


def link(settings: UnsubscribeSettings, subject: Unsubscribe) -> str | None:
    """``https://.../u/TOKEN``, or ``None`` when links are not configured."""
    if not settings.base_url or not settings.secrets:
        return None
    token = seal(settings.secrets, PURPOSE, msgspec.json.encode(subject))
    return f"{settings.base_url.rstrip('/')}/u/{token}"


def verify(settings: UnsubscribeSettings, token: str) -> Unsubscribe | None:
    """What ``token`` stands for; ``None`` for anything that we did not seal."""
    body = unseal(settings.secrets, PURPOSE, token)
    try:
        return None if body is None else msgspec.json.decode(body, type=Unsubscribe)
    except msgspec.DecodeError:
        return None
