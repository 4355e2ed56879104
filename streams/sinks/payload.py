"""Makes a push payload that fits: what a person reads goes last.

Providers refuse a payload over their limit instead of shortening it. The extras (template
variables for the app) are left out first, then the body is shortened, then the title.

Invariant: the result is within the limit or, when not even the frame fits, ``None``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from streams.core.model import Delivery
from streams.templates.fit import fit, json_bytes
from streams.templates.rendered import Rendered

PUSH_BYTES_MAX = 4_096
"""APNs, FCM and Web Push all take 4 KB."""
TITLE_BYTES_MAX = 1_024
COLLAPSE_BYTES_MAX = 64

Build = Callable[[str, str, dict[str, str]], bytes]
"""(title, body, extras) -> encoded payload."""


def fit_payload(
    build: Build, rendered: Rendered, extras: dict[str, str], limit: int
) -> bytes | None:
    """Encoded payload of at most ``limit`` bytes."""
    payload = build(rendered.title, rendered.body, extras)
    if len(payload) <= limit:
        return payload
    payload = build(rendered.title, rendered.body, {})
    if len(payload) <= limit:
        return payload
    title = fit(rendered.title, TITLE_BYTES_MAX, json_bytes)
    room = limit - len(build(title, "", {}))
    if room < 0:
        return None
    return build(title, fit(rendered.body, room, json_bytes), {})


def collapse_id(delivery: Delivery, bytes_max: int = COLLAPSE_BYTES_MAX) -> str | None:
    """The delivery's collapse key in at most ``bytes_max`` printable ASCII bytes."""
    key = delivery.collapse_key
    if not key:
        return None
    if len(key) <= bytes_max and key.isascii() and key.isprintable():
        return key
    return hashlib.sha256(key.encode()).hexdigest()[:bytes_max]
