"""Addresses of a recipient: which there are, register one, take one away.

An address goes to the log as it is and is shown masked, unless the key may see it (scope
``reveal``). What can be checked of an address without asking anybody is checked here, because a
producer can mend it now; whether it works, only its provider knows.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from msgspec import Meta

from streams.api.looking import noted
from streams.api.problems import FieldError, refuse
from streams.api.records import Records
from streams.api.routes import (
    KEY,
    RECIPIENT,
    Parameter,
    Reply,
    Route,
    check_name,
    read_body,
    recipient_of,
    reply,
)
from streams.api.state_client import StateClient
from streams.core.model import Kind
from streams.ledger.looks import LookLog
from streams.sinks.addresses import url_refusal
from streams.sinks.numbers import e164
from streams.sinks.settings import AddressRules
from streams.web.state_documents import (
    DestinationDocument,
    Name,
    RecipientDestinations,
    TimeMs,
)

DESTINATION = Parameter(
    "destination_id", "path", "Which of the recipient's addresses.", Name, required=True
)
ATTRIBUTES_MAX = 32
HEX_TOKEN = re.compile(r"[0-9a-fA-F]{32,512}")
MAIL_ADDRESS = re.compile(r"[^\s@<>\"(),:;\[\]\\]{1,64}@[^\s@<>\"(),:;\[\]\\]{1,255}")
WEBPUSH_KEY_BYTES = {"p256dh": 65, "auth": 16}  # RFC 8291: an uncompressed point, and a secret


class NewDestination(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address to register."""

    kind: Kind
    address: Annotated[str, Meta(min_length=1, max_length=4_096)]
    attributes: Annotated[
        dict[Name, Annotated[str, Meta(max_length=1_024)]], Meta(max_length=ATTRIBUTES_MAX)
    ] = {}
    registered_at_ms: TimeMs = 0
    """When the device or person registered it; 0 is now. One older than the known is ignored."""


class DestinationAccepted(msgspec.Struct, frozen=True):
    """Durable, and in force for every event that is sent from now on."""

    destination_id: str
    removed: bool


ACCEPTED = {202: Reply("Acknowledged by all in-sync replicas.", DestinationAccepted)}


class DestinationRoutes:
    """Registers, removes and lists addresses."""

    def __init__(
        self, records: Records, states: StateClient, looks: LookLog, now_ms: Callable[[], int]
    ) -> None:
        self._looks = looks
        self._records = records
        self._states = states
        self._now_ms = now_ms

    def routes(self) -> list[Route]:
        """Its operations."""
        path = "/v1/recipients/{recipient_id}/destinations"
        return [
            Route(
                method="GET",
                path=path,
                operation="getDestinations",
                doc="Addresses of a recipient, masked unless the key has the scope reveal.",
                handler=self.get,
                scope="read",
                tag="destinations",
                parameters=(RECIPIENT,),
                replies={200: Reply("The addresses.", RecipientDestinations)},
                refusals=("unavailable",),
            ),
            Route(
                method="PUT",
                path=path + "/{destination_id}",
                operation="putDestination",
                doc="Register an address, or a new one for the same device.",
                handler=self.put,
                scope="operate",
                tag="destinations",
                parameters=(RECIPIENT, DESTINATION),
                body=NewDestination,
                replies=ACCEPTED,
                refusals=("invalid", "unavailable"),
            ),
            Route(
                method="DELETE",
                path=path + "/{destination_id}",
                operation="deleteDestination",
                doc="Take an address away, as at a sign-out.",
                handler=self.delete,
                scope="operate",
                tag="destinations",
                parameters=(RECIPIENT, DESTINATION),
                replies=ACCEPTED,
                refusals=("unavailable",),
            ),
        ]

    async def get(self, request: web.Request) -> web.Response:
        """Lists."""
        recipient_id, is_open = recipient_of(request), "reveal" in request[KEY].scopes
        await noted(self._looks, request, "destinations", recipient_id, is_open)
        said = await self._states.of_recipient("GET", recipient_id, "destinations")
        found = msgspec.json.decode(said.body, type=RecipientDestinations)
        if not is_open:
            shown = [masked_destination(each) for each in found.destinations]
            found = RecipientDestinations(found.recipient_id, shown)
        return reply(found)

    async def put(self, request: web.Request) -> web.Response:
        """Registers."""
        new = await read_body(request, NewDestination)
        wrong = address_problems(new)
        if wrong:
            raise refuse("invalid", wrong[0].detail, wrong)
        now_ms = self._now_ms()
        destination_id = _destination(request)
        mapping = {
            "recipient_id": recipient_of(request),
            "destination_id": destination_id,
            "kind": new.kind,
            "address": new.address,
            # A device whose clock is ahead must not outrank what is said after it.
            "registered_at_ms": min(new.registered_at_ms or now_ms, now_ms),
            "attributes": new.attributes,
        }
        await self._records.write("destination", [mapping])
        return reply(DestinationAccepted(destination_id, False), 202)

    async def delete(self, request: web.Request) -> web.Response:
        """Removes."""
        destination_id = _destination(request)
        mapping = {
            "recipient_id": recipient_of(request),
            "destination_id": destination_id,
            "kind": "email",  # the contract wants one; a removal is by id, whatever the kind
            "removed": True,
            "at_ms": self._now_ms(),
            "reason": "removed through the API",
        }
        await self._records.write("destination", [mapping])
        return reply(DestinationAccepted(destination_id, True), 202)


def address_problems(new: NewDestination) -> list[FieldError]:
    """What is wrong with an address of its kind, as far as it can be seen."""
    address, kind = new.address, new.kind
    detail = ""
    if kind == "apns" and not HEX_TOKEN.fullmatch(address):
        detail = "An APNs token is an even number of hexadecimal digits, at least 32."
    elif kind == "fcm" and (not address.isprintable() or " " in address):
        detail = "An FCM token has no spaces and no control characters."
    elif kind == "sms" and e164(address) is None:
        detail = "Expected a phone number in E.164, for example +351912345678."
    elif kind == "email" and not (MAIL_ADDRESS.fullmatch(address) and address.isascii()):
        detail = "Expected an e-mail address, for example ann@example.com."
    elif kind in ("webhook", "chat", "webpush"):
        refusal = url_refusal(address, AddressRules())
        host = urlsplit(address).hostname if refusal is None else None
        if refusal is not None or not host:
            detail = f"This URL will not be called: {refusal or 'it has no host'}."
    found = [FieldError(detail, "/address")] if detail else []
    if kind == "webpush":
        found += [
            FieldError(f"Expected {size} bytes in base64url.", f"/attributes/{name}")
            for name, size in WEBPUSH_KEY_BYTES.items()
            if not _has_bytes(new.attributes.get(name, ""), size)
        ]
    return found


def masked_destination(destination: DestinationDocument) -> DestinationDocument:
    """Enough to recognise it, not enough to use it. No attribute is shown: some are secrets."""
    return DestinationDocument(
        destination.destination_id,
        destination.kind,
        masked(destination.kind, destination.address),
        destination.registered_at_ms,
        dict.fromkeys(destination.attributes, "***"),
    )


def masked(kind: str, address: str) -> str:
    """An address as people without the scope ``reveal`` see it."""
    if kind == "email":
        name, at, domain = address.rpartition("@")
        return f"{name[:1]}***{at}{domain}" if at else "***"
    if kind in ("webhook", "chat", "webpush"):
        try:
            return f"https://{urlsplit(address).hostname}/***"
        except ValueError:
            return "***"
    shown = min(4, len(address) // 4)
    return "***" + address[len(address) - shown :] if shown else "***"


def _has_bytes(text: str, size: int) -> bool:
    try:
        padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
        return len(binascii.a2b_base64(padded.translate(URL_SAFE), strict_mode=True)) == size
    except (ValueError, UnicodeEncodeError):
        return False


URL_SAFE = str.maketrans("-_", "+/")


def _destination(request: web.Request) -> str:
    destination_id = request.match_info["destination_id"]
    check_name("destination_id", destination_id)
    return destination_id
