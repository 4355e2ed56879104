"""``flowstate preview``: the words of a category, as each channel and locale would show them.

Events are made from the command line or read from a file; many become a digest through the core's
own rule (which events it still shows, how many it counts), then the deliver role's templates and
the sinks' own limits are applied. Nothing is written and no cluster is asked.

Invariant: nothing is filled in. A variable that a template needs and no event has is an error
that names it, as it would be when it is sent.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec
from msgspec.structs import replace

from streams.codec import Codec
from streams.commands.configuration import templates_of
from streams.commands.failures import CommandError
from streams.commands.publish import arrivals, read_lines
from streams.configuration.problems import did_you_mean
from streams.core import digest, ids, intake, routing
from streams.core.model import (
    CHANNEL_OF_KIND,
    Channel,
    Delivery,
    Destination,
    Event,
    Kind,
    Notification,
    Preferences,
    Profile,
    RecipientState,
)
from streams.core.policy import Category, Policy
from streams.core.turn import Turn
from streams.settings import Settings
from streams.sinks.fitted import Fitted, fitted, sms_segments_max
from streams.templates.catalogue import Templates
from streams.templates.render import render
from streams.templates.rendered import RenderFailed

RECIPIENT = "preview"
EVENT_FIELDS = frozenset(Event.__struct_fields__)


class Previewed(msgspec.Struct, frozen=True):
    """One channel in one locale."""

    category: str
    channel: Channel
    locale: str
    count: int
    """Events in it."""
    actors: int
    title: str
    body: str
    subject: str
    html: str | None
    templates: dict[str, str]
    """Part -> where its template is: ``file locale.channel.part``."""
    shown: list[Fitted]
    """As each kind of destination of the channel shows it."""
    note: str = ""
    """What will not happen like this, if anything."""


def preview(
    settings: Settings,
    category_name: str,
    events: Sequence[Event],
    locales: Sequence[str],
    channels: Sequence[str],
) -> list[Previewed]:
    """Every channel in every locale. Raises ``CommandError`` for what cannot be shown."""
    category = category_of(settings.policy, category_name)
    wanted = _channels(category, channels)
    templates = templates_of(settings)
    now_ms = time.time_ns() // 1_000_000
    told = notification_of(settings.policy, category, events, now_ms)
    segments_max = sms_segments_max(
        settings.deliver.providers, category.name, category.sms_segments_max
    )
    return [
        _shown(settings.policy, category, told, channel, locale, templates, segments_max, now_ms)
        for locale in locales
        for channel in wanted
    ]


def category_of(policy: Policy, name: str) -> Category:
    """The category. Raises ``CommandError`` when there is none of this name."""
    if name not in policy.categories:
        near = did_you_mean(name, policy.categories)
        raise CommandError(
            f"the catalogue has no category {name!r}{near}",
            f"It has {', '.join(sorted(policy.categories))}. Another one: --config FILE.",
        )
    return policy.categories[name]


def events_of(
    category: str, data: Sequence[str], file: BinaryIO | None, count: int | None
) -> list[Event]:
    """The events to tell: from a file of JSON lines, or made of ``NAME=VALUE`` pairs.

    ``count`` asks for a digest of so many: the events are repeated, each by another actor.
    """
    now_ms = time.time_ns() // 1_000_000
    fields = dict(_pair(text) for text in data)
    if file is None:
        events = [Event("preview-1", RECIPIENT, category, now_ms, "actor-1", fields)]
    else:
        events = _read(file, category, fields, now_ms)
    if count is None or count <= len(events):
        return events[:count]
    again = enumerate(itertools.islice(itertools.cycle(events), len(events), count), 1)
    return [
        *events,
        *(replace(e, event_id=f"{e.event_id}-{n}", actor_id=f"actor-{n + 1}") for n, e in again),
    ]


def notification_of(
    policy: Policy, category: Category, events: Sequence[Event], now_ms: int
) -> Notification:
    """One event as it is, several as the digest that the category's rule makes of them."""
    told = [_notification(event, category, now_ms) for event in events]
    if len(told) == 1:
        return told[0]
    rule = category.digest or digest.BY_DEFAULT
    opened = digest.open_digest(told[0], digest.key_of(rule, told[0]), RECIPIENT, 0, now_ms, "")
    for one in told:
        opened = digest.add(opened, one, rule, now_ms, now_ms, policy.bounds)
    return digest.to_notification(opened)


def note_on(category: Category, count: int) -> str:
    """What the catalogue says against a digest of so many; empty for nothing."""
    rule = category.digest or digest.BY_DEFAULT
    if count <= rule.items_max:
        return ""
    return (
        f"{category.name} closes a digest at {rule.items_max:,} events (items_max):"
        f" {count:,} become several."
    )


def _shown(
    policy: Policy,
    category: Category,
    told: Notification,
    channel: Channel,
    locale: str,
    templates: Templates,
    segments_max: int,
    now_ms: int,
) -> Previewed:
    delivery = _delivery(policy, category, told, channel, locale, now_ms)
    words = render(delivery, templates)
    chosen = templates.choose(
        delivery.template or delivery.category, channel, locale, delivery.event_id is None
    )
    parts = {"title": chosen.title, "body": chosen.body, "subject": chosen.subject}
    where = {
        name: part.name or ""
        for name, part in {**parts, "html": chosen.html}.items()
        if part is not None
    }
    if isinstance(words, RenderFailed):
        raise CommandError(
            f"{category.name} cannot be told on {channel} in {locale}: {words.detail}"
            f" (templates: {'; '.join(where.values())})",
            "Give what the template needs with --data NAME=VALUE or --event FILE, or mend the"
            " template. Sent like this, it would be rejected, never left blank.",
        )
    return Previewed(
        category.name, channel, locale, told.count, told.actors,
        words.title, words.body, words.subject, words.html, where,
        [
            fitted(delivery, words, kind, segments_max, now_ms)
            for kind in _kinds(channel)
        ],
        note_on(category, told.count),
    )  # fmt: skip


def _delivery(
    policy: Policy,
    category: Category,
    told: Notification,
    channel: Channel,
    locale: str,
    now_ms: int,
) -> Delivery:
    """The delivery that the core makes for a recipient with this locale."""
    kind = _kinds(channel)[0]
    destination = Destination("preview", kind, "preview", now_ms)
    profile = Profile(preferences=Preferences(locale=locale), destinations=(destination,))
    turn = Turn(RecipientState(RECIPIENT, 0, profile), now_ms, policy, None)
    return routing.make_delivery(turn, told, category, channel, destination, 0, told.expires_at_ms)


def _kinds(channel: str) -> list[Kind]:
    return [kind for kind, its in CHANNEL_OF_KIND.items() if its == channel]  # type: ignore[misc]


def _channels(category: Category, wanted: Sequence[str]) -> list[Channel]:
    for channel in wanted:
        if channel not in category.channels:
            raise CommandError(
                f"{category.name} is never sent on {channel}",
                f"Its channels are {', '.join(category.channels)}: ask for one of these, or add"
                f" {channel} to its channels in the catalogue.",
            )
    return [channel for channel in category.channels if not wanted or channel in wanted]


def _notification(event: Event, category: Category, now_ms: int) -> Notification:
    subject_id = ids.to_id(0, ids.event_digest(event.event_id, event.recipient_id))
    return intake.notification_of(event, subject_id, category, now_ms, None)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandError(
            f"--data {text!r} is no pair", "Write it as NAME=VALUE, as in --data who=Ann."
        )
    return name, value


def _read(file: BinaryIO, category: str, fields: dict[str, str], now_ms: int) -> list[Event]:
    """Events of a file, of this category; ``fields`` win over their data."""
    schema = Codec(None).contracts.current["event"].schema
    values: list[dict[str, Any]] = []
    lines = itertools.chain.from_iterable(arrivals(file))
    for line in read_lines(lines, schema, now_ms):
        if line.problems:
            raise CommandError(
                f"line {line.number} of the events: {'; '.join(line.problems)}",
                "Each line is one event, as `flowstate publish events.normal` takes it.",
            )
        values.append(line.value)
    mine = [value for value in values if value["category"] == category]
    if not mine:
        raise CommandError(
            f"none of the {len(values)} events is of the category {category}",
            'Give events with "category": "' + category + '".',
        )
    return [
        Event(**{
            name: value for name, value in event.items() if name in EVENT_FIELDS and name != "data"
        }, data={**event.get("data", {}), **fields})
        for event in mine
    ]  # fmt: skip
