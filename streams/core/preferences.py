"""Preferences: does the recipient want this category on this channel? The most specific cell wins.

    mandatory category       always yes
    cell  category/channel   what the recipient said of exactly this
    channel                  ... of the channel
    category                 ... of the category
    recipient default        ... of everything
    policy channel           the catalogue: channels that need an opt-in
    policy category          the catalogue: the category's default

The answer names the cell that decided, because that is the first thing an analyst asks.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from streams.core import ids
from streams.core.digest import key_of
from streams.core.local_time import MINUTES_PER_DAY, is_zone, parse_minute
from streams.core.model import Channel, Notification, Preferences, QuietWindow
from streams.core.policy import Bounds, Category, DigestRule
from streams.core.sizes import map_bytes, text_bytes

_canonical = msgspec.msgpack.Encoder(order="deterministic").encode


def version_of(preferences: Preferences) -> str:
    """Hexadecimal name of exactly these choices: a change says which it was made from."""
    return blake2b(_canonical(preferences), digest_size=8).hexdigest()


def wants(category: Category, channel: str, preferences: Preferences) -> tuple[bool, str]:
    """(wanted, cell that decided)."""
    if category.mandatory:
        return True, "mandatory"
    name, cells, default = category.name, preferences.cells, preferences.default
    if cells and (choice := cells.get(f"{name}/{channel}")) is not None:
        return choice, f"cell {name}/{channel}"
    channels, categories = preferences.channels, preferences.categories
    if channels and (choice := channels.get(channel)) is not None:
        return choice, f"channel {channel}"
    if categories and (choice := categories.get(name)) is not None:
        return choice, f"category {name}"
    if default is not None:
        return default, "recipient default"
    if channel in category.default_off_channels:
        return False, f"policy channel {channel}"
    return category.default_on, f"policy category {name}"


def channel_order(category: Category, preferences: Preferences) -> tuple[Channel, ...]:
    """The category's channels, those that the recipient ordered first."""
    order = preferences.channel_order
    if not order:
        return category.channels
    wished = order.get(category.name, ())
    known: dict[str, Channel] = {channel: channel for channel in category.channels}
    first = tuple(dict.fromkeys(known[channel] for channel in wished if channel in known))
    return first + tuple(channel for channel in category.channels if channel not in first)


def muted_by(
    notification: Notification, preferences: Preferences, rule: DigestRule | None
) -> str | None:
    """What the recipient muted that this falls under, or ``None``.

    A key is the digest's key (of an event: the one it would be gathered under) or the collapse
    key. An open or held digest loses a muted actor's events instead; of one that was handed over
    before only the shown events are known, and it is muted when all of these are.
    """
    if not preferences.muted:
        return None
    key = key_of(rule, notification) if rule is not None else notification.digest_key
    names = [f"key:{name}" for name in (key, notification.collapse_key) if name]
    if notification.actor_id:
        names.append(f"actor:{notification.actor_id}")
    if notification.items and not notification.members:
        actors = {f"actor:{item.actor_id}" for item in notification.items}
        if actors <= set(preferences.muted):
            names.append(min(actors))
    return next((name for name in names if name in preferences.muted), None)


def muted_actors(preferences: Preferences) -> set[bytes]:
    """Hashes of the actors that the recipient muted."""
    return {ids.hash8(name[6:]) for name in preferences.muted if name.startswith("actor:")}


def usable(wished: Preferences, bounds: Bounds) -> tuple[Preferences, dict[str, str]]:
    """(preferences without what cannot be used, what was left out and why).

    One wrong field must not undo the rest: an opt-out beside a misspelt zone is still an opt-out.
    """
    ignored: dict[str, str] = {}
    if not is_zone(wished.zone):
        ignored["zone"] = wished.zone[:64]
        wished = replace(wished, zone="UTC")
    windows = tuple(window for window in wished.quiet_hours if _is_window(window))
    if len(windows) < len(wished.quiet_hours):
        ignored["quiet_hours"] = str(len(wished.quiet_hours) - len(windows))
        wished = replace(wished, quiet_hours=windows)
    digests = {name: choice for name, choice in wished.digests.items() if _is_choice(choice)}
    if len(digests) < len(wished.digests):
        ignored["digests"] = ", ".join(sorted(set(wished.digests) - set(digests)))[:256]
        wished = replace(wished, digests=digests)
    return wished, ignored


def preferences_bytes(preferences: Preferences) -> int:
    """Weight of a recipient's choices."""
    switches = (preferences.categories, preferences.channels, preferences.cells)
    return (
        sum(text_bytes(name) + 1 for names in switches for name in names)
        + 12 * len(preferences.quiet_hours)
        + sum(text_bytes(name) for name in preferences.muted)
        + map_bytes(preferences.digests)
        + sum(
            text_bytes(name) + sum(text_bytes(channel) for channel in order)
            for name, order in preferences.channel_order.items()
        )
        + text_bytes(preferences.zone + preferences.locale)
    )


def _is_window(window: QuietWindow) -> bool:
    return 0 <= window.start_minute <= MINUTES_PER_DAY >= window.end_minute >= 0


def _is_choice(choice: str) -> bool:
    if choice in ("immediate", "hourly"):
        return True
    try:
        return choice.startswith("daily@") and parse_minute(choice[6:]) >= 0
    except ValueError:
        return False
