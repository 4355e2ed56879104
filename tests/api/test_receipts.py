"""What comes back from outside: receipts of apps, callbacks of providers, opens and clicks."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from standardwebhooks import Webhook

from streams import links, topics
from streams.codec import Codec
from tests.api.test_events import of_recipient
from tests.api.test_preferences import event, path, register
from tests.api.test_signatures import KEY, PEM
from tests.api.world import LINK_SECRETS, Client, World, new_id, running_api
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("api")]
CODEC = Codec()
TWILIO_TOKEN = "twilio-token"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOPIC_ARN = "arn:aws:sns:eu-west-1:123456789012:ses-events"
CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1b.pem"


async def delivered(client: Client) -> tuple[str, str, str]:
    """(recipient, notification, delivery) of a message that was handed over."""
    recipient_id = new_id()
    await register(client, recipient_id)
    sent = event(recipient_id)
    previewed = await client.ask("POST", "/v1/preview", {"event": sent})
    assert (await client.ask("POST", "/v1/events", sent)).status == 202
    (delivery,) = previewed.json["deliveries"]

    async def is_known() -> bool:
        answer = await client.ask("GET", path(recipient_id, "notifications"))
        return answer.status == 200 and bool(answer.json["notifications"])

    await eventually(is_known)
    return recipient_id, previewed.json["notification_id"], delivery["delivery_id"]


async def receipts(world: World, recipient_id: str) -> list[dict[str, Any]]:
    found = await of_recipient(world, topics.RECEIPTS, recipient_id)
    return [CODEC.decode("receipt", record.value) for record in found]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# -------------------------------------------------------------------------------------- app's own


async def test_an_app_says_seen_and_strangers_ids_make_no_record(
    client: Client, world: World
) -> None:
    recipient_id, notification_id, delivery_id = await delivered(client)
    seen = {"recipient_id": recipient_id, "kind": "seen", "occurred_at_ms": now_ms()}
    batch = [
        {**seen, "notification_id": notification_id},
        {**seen, "kind": "clicked", "delivery_id": delivery_id},
        {**seen, "kind": "business", "name": "paid"},
        {**seen, "notification_id": "0" * 32},
        {**seen, "recipient_id": new_id(), "notification_id": notification_id},
        seen,
        {**seen, "event_id": "unknown"},
    ]
    answer = await client.ask("POST", "/v1/receipts", batch)
    assert answer.status == 207, answer.text
    assert [each["status"] for each in answer.json["items"]] == [202, 202, 202, 404, 404, 422, 404]
    written = await receipts(world, recipient_id)
    assert [r["kind"] for r in written] == ["seen", "clicked", "business"]
    assert written[1]["notification_id"] == notification_id
    assert written[1]["destination_id"] == "mail"
    one = await client.ask("POST", "/v1/receipts", {**seen, "notification_id": "f" * 32})
    assert (one.status, one.problem) == (404, "not_found")


# -------------------------------------------------------------------------------------- providers


def twilio(url: str, form: dict[str, str], token: str = TWILIO_TOKEN) -> dict[str, str]:
    text = url + "".join(name + form[name] for name in sorted(form))
    digest = hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()
    return {"X-Twilio-Signature": base64.b64encode(digest).decode()}


async def test_twilio_reports_and_repeats_in_any_order(client: Client, world: World) -> None:
    recipient_id, _, delivery_id = await delivered(client)
    async with running_api(
        world.settings, world.folder, twilio_auth_tokens=("new", TWILIO_TOKEN)
    ) as api:

        async def report(status: str, code: str = "", about: str = delivery_id) -> Any:
            target = f"/v1/callbacks/twilio?delivery_id={about}&epoch=0"
            form = {"MessageStatus": status, "MessageSid": "SM1", "To": "+351912345678"}
            if code:
                form["ErrorCode"] = code
            headers = twilio("https://n.example" + target, form)
            kind = "application/x-www-form-urlencoded"
            return await api.ask(
                "POST", target, body=urlencode(form).encode(), kind=kind, headers=headers
            )

        said = [await report(s) for s in ("delivered", "sent", "delivered", "queued")]
        assert [answer.json["status"] for answer in said] == [
            "recorded", "ignored", "recorded", "ignored",
        ]  # fmt: skip
        assert (await report("undelivered", "30005")).json["status"] == "recorded"
        unknown = await report("delivered", about="0" * 32)
        assert (unknown.status, unknown.json["status"]) == (202, "ignored")
        target = f"/v1/callbacks/twilio?delivery_id={delivery_id}"
        form = {"MessageStatus": "delivered"}
        for headers in ({}, twilio("https://n.example" + target, form, "guessed")):
            refused = await api.ask(
                "POST",
                target,
                body=urlencode(form).encode(),
                kind="application/x-www-form-urlencoded",
                headers=headers,
            )
            assert (refused.status, refused.problem) == (401, "bad_signature")
    kinds = [r["kind"] for r in await receipts(world, recipient_id)]
    assert kinds == ["delivered", "delivered", "bounced"]


async def test_a_signed_webhook(client: Client, world: World) -> None:
    recipient_id, _, delivery_id = await delivered(client)
    async with running_api(world.settings, world.folder, webhook_secrets=(WEBHOOK_SECRET,)) as api:

        async def report(document: dict[str, Any], age_s: int = 0) -> Any:
            body = json.dumps(document)
            moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_s)
            headers = {
                "webhook-id": "msg_1",
                "webhook-timestamp": str(int(moment.timestamp())),
                "webhook-signature": Webhook(WEBHOOK_SECRET).sign("msg_1", moment, body),
            }
            return await api.ask(
                "POST", "/v1/callbacks/webhook", body=body.encode(), headers=headers
            )

        good = {"type": "receipt.complained", "data": {"delivery_id": delivery_id}}
        assert (await report(good)).json["status"] == "recorded"
        assert (await report({**good, "type": "receipt.guessed"})).status == 422
        other = {**good, "data": {"delivery_id": delivery_id, "recipient_id": "somebody"}}
        assert (await report(other)).json["status"] == "ignored"
        assert (await report(good, age_s=400)).status == 401
        assert (await api.ask("POST", "/v1/callbacks/webhook", good)).status == 401
    assert [r["kind"] for r in await receipts(world, recipient_id)] == ["complained"]

    async def is_suppressed() -> list[str]:
        answer = await client.ask("GET", path(recipient_id))
        return [each["scope"] for each in answer.json["suppressions"]]

    assert await eventually(is_suppressed) == ["destination:mail"]


class Amazon:
    """Stands in for SNS's hosts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        return PEM


def sns(message: dict[str, Any], **fields: str) -> dict[str, str]:
    found = {
        "Type": "Notification",
        "MessageId": "m-1",
        "TopicArn": TOPIC_ARN,
        "Message": json.dumps(message),
        "Timestamp": datetime.datetime.now(datetime.UTC).isoformat(),
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE_URL,
        **fields,
    }
    names = ["Message", "MessageId", "Timestamp", "TopicArn", "Type"]
    if found["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{found[name]}\n" for name in names).encode()
    signature = KEY.sign(text, padding.PKCS1v15(), hashes.SHA256())
    return {**found, "Signature": base64.b64encode(signature).decode()}


async def test_ses_reports_bounces_through_sns(client: Client, world: World) -> None:
    recipient_id, _, delivery_id = await delivered(client)
    amazon = Amazon()
    async with running_api(
        world.settings, world.folder, fetch=amazon, ses_topic_arns=(TOPIC_ARN,)
    ) as api:

        async def report(document: dict[str, str]) -> Any:
            body = json.dumps(document).encode()
            return await api.ask("POST", "/v1/callbacks/ses", body=body, kind="text/plain")

        mail = {"commonHeaders": {"messageId": f"<{delivery_id}.0@example.com>"}}
        at = "2026-03-01T12:00:00.000Z"
        bounce = {
            "notificationType": "Bounce",
            "bounce": {"bounceType": "Permanent", "timestamp": at},
            "mail": mail,
        }
        delivery = {"eventType": "Delivery", "delivery": {"timestamp": at}, "mail": mail}
        headers = {"headers": [{"name": "Message-ID", "value": f"<{delivery_id}.3@example.com>"}]}
        soft = {
            "eventType": "Bounce",
            "bounce": {"bounceType": "Transient", "timestamp": at},
            "mail": headers,
        }
        foreign = {**bounce, "mail": {"commonHeaders": {"messageId": "<abc@example.com>"}}}
        for said in (delivery, soft, bounce, bounce, foreign, {}):
            is_ours = said not in (foreign, {})
            answer = await report(sns(said))
            assert answer.status == 202, answer.text
            assert answer.json["status"] == ("recorded" if is_ours else "ignored")
        assert amazon.asked == [CERTIFICATE_URL]  # once, then it is known

        confirm = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=abc"
        fields = {"Type": "SubscriptionConfirmation", "Token": "abc"}
        assert (await report(sns({}, SubscribeURL=confirm, **fields))).status == 202
        assert amazon.asked[-1] == confirm
        evil = await report(sns({}, SubscribeURL="https://evil.example/", **fields))
        assert evil.status == 422

        tampered = {**sns(bounce), "Message": json.dumps(delivery)}
        elsewhere = sns(bounce, SigningCertURL="https://evil.example/a.pem")
        topic = sns(bounce, TopicArn="arn:aws:sns:eu-west-1:666:mine")
        old = sns(bounce, Timestamp="2020-01-01T00:00:00.000Z")
        for wrong in (tampered, elsewhere, topic, old):
            refused = await report(wrong)
            assert (refused.status, refused.problem) == (401, "bad_signature")
        assert len(amazon.asked) == 2
    kinds = [r["kind"] for r in await receipts(world, recipient_id)]
    assert kinds == ["delivered", "soft_bounced", "bounced", "bounced"]


# ------------------------------------------------------------------------------- opens and clicks


async def test_a_click_leads_where_we_signed_and_nowhere_else(client: Client, world: World) -> None:
    recipient_id = new_id()
    link = links.Link(recipient_id, 0, "a" * 32, "b" * 32, "https://shop.example/?a=1&b=2")
    token = links.token(LINK_SECRETS, "click", link)
    answer = await client.ask("GET", f"/c/{token}")
    assert (answer.status, answer.headers["Location"]) == (302, "https://shop.example/?a=1&b=2")
    (written,) = await receipts(world, recipient_id)
    assert (written["kind"], written["notification_id"]) == ("clicked", "a" * 32)

    opened = await client.ask("GET", "/o/" + links.token(LINK_SECRETS, "open", link))
    assert (opened.status, opened.headers["Content-Type"]) == (200, "image/gif")
    assert [r["kind"] for r in await receipts(world, recipient_id)] == ["clicked", "seen"]

    foreign = links.token(("another secret",), "click", link)
    other_purpose = links.token(LINK_SECRETS, "open", link)
    for bad in (foreign, other_purpose, token[:-2], token[5:], "x", "https:%2F%2Fevil.example"):
        refused = await client.ask("GET", f"/c/{bad}")
        assert refused.status in (400, 404), bad
        assert "Location" not in refused.headers
    assert len(await receipts(world, recipient_id)) == 2


@pytest.mark.parametrize(
    "target", ["javascript:alert(1)", "//evil", "https://a b", "https://x\r\nA: b"]
)
def test_a_link_that_leads_to_no_web_page_is_not_made(target: str) -> None:
    with pytest.raises(ValueError, match="http"):
        links.token(LINK_SECRETS, "click", links.Link("r", 0, target=target))
