"""Sealed links that count opens and clicks in HTML mail, where a provider's settings ask for it.

A link in the message leads to ours (``/c/TOKEN``), which records the click and leads on; a picture
of one pixel (``/o/TOKEN``) records that the message was shown. The target is inside the token, so
ours is no open redirect. Plain text keeps its links as they are.

Invariants: what is not an ``http(s)`` link is left alone (``mailto:``, fragments); nothing is
tracked in exempt categories; a message is changed in these two ways and in no other.
"""

from __future__ import annotations

import html
import re

from streams import links
from streams.core.model import Delivery
from streams.sinks.settings import TrackingSettings

ANCHOR = re.compile(r"""(<a\b[^>]*?\shref\s*=\s*)("([^"<>]*)"|'([^'<>]*)')""", re.IGNORECASE)
BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)


def tracked(text: str, settings: TrackingSettings, delivery: Delivery, now_ms: int) -> str:
    """The HTML with its links replaced and the picture added, as far as configured."""
    if not settings.base_url or not settings.secrets or delivery.category in settings.exempt:
        return text
    if settings.clicks:
        text = ANCHOR.sub(lambda found: _through_us(found, settings, delivery, now_ms), text)
    if settings.opens:
        url = _url(settings, "o", "open", _link(delivery, now_ms))
        pixel = f'<img src="{url}" width="1" height="1" alt="">'
        ends = [found.start() for found in BODY_END.finditer(text)]
        at = ends[-1] if ends else len(text)
        text = text[:at] + pixel + text[at:]
    return text


def _through_us(
    found: re.Match[str], settings: TrackingSettings, delivery: Delivery, now_ms: int
) -> str:
    target = html.unescape(found[3] if found[3] is not None else found[4]).strip()
    if not links.is_web_url(target) or target.startswith(settings.base_url.rstrip("/") + "/"):
        return found[0]
    url = _url(settings, "c", "click", _link(delivery, now_ms, target))
    return f'{found[1]}"{url}"'


def _link(delivery: Delivery, now_ms: int, target: str = "") -> links.Link:
    return links.Link(
        delivery.recipient_id, now_ms, delivery.notification_id, delivery.delivery_id, target
    )


def _url(settings: TrackingSettings, path: str, purpose: links.Purpose, link: links.Link) -> str:
    return f"{settings.base_url.rstrip('/')}/{path}/{links.token(settings.secrets, purpose, link)}"
