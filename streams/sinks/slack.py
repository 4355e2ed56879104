"""Slack incoming webhooks: the destination's address is the webhook's URL, itself a secret.

Sources, beside what they say:
https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks/  (errors)
https://docs.slack.dev/apis/web-api/rate-limits/  (one a second for each webhook)

Invariants: only Slack's own hosts are called; a webhook is given up only when Slack says that it,
its channel or its workspace is gone. An incoming webhook knows no idempotency key and gives no
id; the delivery id travels as the block's id.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from streams.core.model import Delivery
from streams.sinks.base import (
    Accepted,
    HttpRequest,
    Outcome,
    Rejected,
    Response,
    Retry,
    Unregistered,
    excerpt,
    retry_after_ms,
)
from streams.sinks.settings import SlackSettings
from streams.templates.fit import fit
from streams.templates.rendered import Rendered

TEXT_CHARACTERS_MAX = 3_000
"""Of a section block."""
THROTTLED_RETRY_MS = 1_000
UNKNOWN_RETRY_MS = 30_000
ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

GONE = {
    "no_service": "gone",  # 404: the webhook is disabled, removed or never was
    "no_active_hooks": "gone",
    "channel_is_archived": "channel_archived",  # 410
    "channel_not_found": "channel_gone",  # 404
    "no_team": "workspace_gone",  # 404
    "team_disabled": "workspace_gone",  # 403
    "user_not_found": "user_gone",
}
REJECTED = {
    "invalid_payload": "invalid_payload",  # 400
    "invalid_blocks": "invalid_payload",
    "no_text": "invalid_payload",
    "too_many_attachments": "invalid_payload",
    "action_prohibited": "action_prohibited",  # 403: an administrator's restriction
    "posting_to_general_channel_denied": "action_prohibited",
    "posting_to_channel_denied": "action_prohibited",
    "invalid_token": "invalid_webhook",  # 403: the URL's secret part is wrong
}


class Slack:
    """The two pure functions."""

    def __init__(self, settings: SlackSettings) -> None:
        self.settings = settings

    def build_request(
        self, delivery: Delivery, rendered: Rendered, credentials: Any, now_ms: int
    ) -> HttpRequest | Outcome:
        """A JSON POST to the webhook."""
        host = urlsplit(delivery.address).hostname or ""
        if host not in self.settings.hosts:
            return Rejected("not_slack", "the webhook's host is not one of Slack's")
        title = rendered.title.translate(ESCAPES)
        text = f"*{title}*\n{rendered.body.translate(ESCAPES)}"
        section = {
            "type": "section",
            "block_id": f"{delivery.delivery_id}.{delivery.notification_id}",
            "text": {"type": "mrkdwn", "text": fit(text, TEXT_CHARACTERS_MAX, len)},
        }
        body = msgspec.json.encode({"text": title, "blocks": [section]})
        return HttpRequest(delivery.address, {"content-type": "application/json"}, body)

    def classify(self, delivery: Delivery, reply: Response, now_ms: int) -> Outcome:
        """Slack answers with a word."""
        word = excerpt(reply.body).strip()
        detail = f"{reply.status} {word}"
        if reply.status == 200:
            return Accepted()
        after = retry_after_ms(reply, now_ms)
        if word in GONE or reply.status in (404, 410):
            return Unregistered(GONE.get(word, "gone"), detail)
        if word in REJECTED:
            return Rejected(REJECTED[word], detail)
        if reply.status == 429 or word == "rate_limited":
            return Retry("throttled", after or THROTTLED_RETRY_MS, detail=detail)
        if reply.status >= 500:
            return Retry("provider_unavailable", after, "provider", detail)
        if 400 <= reply.status < 500:
            return Rejected("refused", detail)
        return Retry("unexpected_answer", after or UNKNOWN_RETRY_MS, detail=detail)
