"""The shapes that every sink shares: what is sent, what comes back, what it means.

A sink is two pure functions. ``build_request`` turns a delivery into bytes, or refuses it with an
outcome when it can be seen beforehand that it cannot be sent. ``classify`` turns the provider's
reply, or the way in which no reply came, into an outcome. IO is done by a ``Transport``.

Invariants: an outcome is a value and every reply has one; ``classify`` never raises, whatever the
bytes; a request that may have reached the provider without an answer is ``Ambiguous``, one that
cannot have reached it is ``Retry``.
"""

from __future__ import annotations

import email.utils
from typing import Any, Literal, Protocol

import msgspec

from streams.core.model import Delivery, Status
from streams.sinks.settings import ProviderSettings
from streams.templates.rendered import Rendered

DETAIL_CHARACTERS_MAX = 200
"""Longest excerpt of a provider's reply that is kept."""
RETRY_AFTER_MS_MAX = 24 * 3_600_000
"""A provider cannot ask for more than a day."""

# ------------------------------------------------------------------------------------- requests


class HttpRequest(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request, complete."""

    url: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"


class MailRequest(msgspec.Struct, frozen=True, gc=False):
    """One SMTP transaction."""

    sender: str
    recipient: str
    message: bytes
    """The whole message, CRLF line ends."""


Request = HttpRequest | MailRequest


class Response(msgspec.Struct, frozen=True, gc=False):
    """What the provider answered. SMTP replies use ``status`` and ``body`` as well."""

    status: int
    headers: dict[str, str]
    """Only the headers that sinks ask for (``ANSWER_HEADERS``), names in lower case."""
    body: bytes

    def json(self) -> dict[str, Any]:
        """Body as a JSON object; empty when it is none, for a garbled answer is an answer."""
        try:
            value = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


ANSWER_HEADERS = ("retry-after", "apns-id", "location", "content-type", "x-request-id")


class Failure(msgspec.Struct, frozen=True, gc=False):
    """No answer. ``sent`` says whether the request can have reached the provider."""

    reason: Literal["connect", "timeout", "reset", "forbidden_address", "protocol"]
    sent: bool
    detail: str = ""


Reply = Response | Failure

# ------------------------------------------------------------------------------------- outcomes

Blame = Literal["destination", "provider", "quota", "credentials"]
"""Whose trouble a retry is. ``destination``: of this delivery alone. ``provider``: counts for the
breaker. ``quota``: the provider asks everyone to wait. ``credentials``: ours are wrong: counts for
the breaker, and no address is ever pruned for it."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The provider has taken it over. Not yet *delivered*: that is later evidence."""

    provider_id: str | None = None
    status: Status = "accepted"
    reason: str = "accepted"
    detail: str = ""


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Was not processed, may be later. DECIDE schedules it."""

    reason: str
    after_ms: int | None = None
    """What the provider asked for; ``None`` leaves it to the policy."""
    blame: Blame = "destination"
    detail: str = ""
    renew: bool = False
    """Our credentials have expired: new ones are worth one more try at once."""
    status: Status = "retry"


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Will never be taken as it is; the address stays."""

    reason: str
    detail: str = ""
    status: Status = "rejected"
    unsubscribed: str = ""
    """Scope that the provider says the recipient opted out of (``channel:sms``): becomes a
    receipt, so that the opt-out is known for every later notification too."""
    quarantine: bool = False
    """The address looks wrong, and may yet be right elsewhere: it is kept and left alone for a
    while (a soft bounce), and free again when it is registered anew."""


class Unregistered(msgspec.Struct, frozen=True, gc=False):
    """The address is no longer anybody's: it is to be removed."""

    reason: str
    detail: str = ""
    status: Status = "unregistered"


class Ambiguous(msgspec.Struct, frozen=True, gc=False):
    """May or may not have been processed; the category's policy decides."""

    reason: str
    detail: str = ""
    status: Status = "ambiguous"


class Stale(msgspec.Struct, frozen=True, gc=False):
    """Too late to be sent on this decision; DECIDE decides again."""

    reason: str
    detail: str = ""
    status: Status = "stale"


class Killed(msgspec.Struct, frozen=True, gc=False):
    """A kill switch stopped it before it was sent."""

    reason: str
    detail: str = ""
    status: Status = "killed"


Outcome = Accepted | Retry | Rejected | Unregistered | Ambiguous | Stale | Killed


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An outcome with who gave it and how long it took."""

    outcome: Outcome
    provider: str
    """Name of the provider's settings; empty when none was asked."""
    send_ms: float = 0.0


class Wait(msgspec.Struct, frozen=True):
    """No provider takes a delivery now; ask again in ``for_ms``."""

    for_ms: int
    reason: str
    alone: bool = False
    """Only this delivery has to wait (its destination's own pace)."""


# ---------------------------------------------------------------------------------- the two sides


class Transport(Protocol):
    """Does one kind of IO for one provider; shared by all its requests."""

    async def start(self) -> None:
        """Opens what must be open before the first request."""

    async def send(self, request: Any) -> Reply:
        """One request, at most its deadline. Never raises for what a network can do."""

    async def stop(self) -> None:
        """Closes everything."""


class Credentials(Protocol):
    """Whatever proves who we are, fetched before ``build_request`` and passed to it."""

    async def current(self, delivery: Delivery, now_ms: int) -> Any | Retry:
        """What ``build_request`` needs now; ``Retry`` (blame ``credentials``) if not to be had."""

    def renew(self, used: Any, now_ms: int) -> bool:
        """The provider says that ``used`` has expired. True when others are there to try once."""


class Sink(Protocol):
    """One provider as the dispatcher sees it."""

    @property
    def settings(self) -> ProviderSettings:
        """What it was configured with."""

    def build_request(
        self, delivery: Delivery, rendered: Rendered, credentials: Any, now_ms: int
    ) -> Request | Outcome:
        """What to send, or why it cannot be sent."""

    def classify(self, delivery: Delivery, reply: Response, now_ms: int) -> Outcome:
        """What a reply means. Total: never raises."""


class NoCredentials:
    """For providers whose secret is part of the request and never expires."""

    async def current(self, delivery: Delivery, now_ms: int) -> Any | Retry:
        return None

    def renew(self, used: Any, now_ms: int) -> bool:
        return False


def classify_failure(failure: Failure) -> Outcome:
    """The one place that says what no answer means (design: ambiguity is never guessed away)."""
    if failure.reason == "forbidden_address":
        return Rejected("forbidden_address", failure.detail)
    if failure.sent:
        return Ambiguous(failure.reason, failure.detail)
    return Retry(f"{failure.reason}_failed", blame="provider", detail=failure.detail)


def retry_after_ms(reply: Response, now_ms: int) -> int | None:
    """``Retry-After`` in seconds or as an HTTP date (RFC 9110 §10.2.3); ``None`` if unusable."""
    value = reply.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(int(value[:9]) * 1000, RETRY_AFTER_MS_MAX)
    if not value:
        return None
    try:
        at = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0, min(int(at.timestamp() * 1000) - now_ms, RETRY_AFTER_MS_MAX))


def excerpt(body: bytes) -> str:
    """The beginning of a reply, printable, for the outcome's ``detail``."""
    text = body[: DETAIL_CHARACTERS_MAX * 4].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text)[:DETAIL_CHARACTERS_MAX]


def uuid_of(delivery_id: str) -> str:
    """32 hex digits in the form of a UUID, without the cost of one."""
    i = delivery_id
    return f"{i[:8]}-{i[8:12]}-{i[12:16]}-{i[16:20]}-{i[20:32]}"
