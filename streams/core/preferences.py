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

from streams.core.model import Notification, Preferences
from streams.core.policy import Category


def wants(category: Category, channel: str, preferences: Preferences) -> tuple[bool, str]:
    """(wanted, cell that decided)."""
    if category.mandatory:
        return True, "mandatory"
    name = category.name
    if preferences.cells and (choice := preferences.cells.get(f"{name}/{channel}")) is not None:
        return choice, f"cell {name}/{channel}"
    if (choice := preferences.channels.get(channel)) is not None:
        return choice, f"channel {channel}"
    if (choice := preferences.categories.get(name)) is not None:
        return choice, f"category {name}"
    if preferences.default is not None:
        return preferences.default, "recipient default"
    if channel in category.default_off_channels:
        return False, f"policy channel {channel}"
    return category.default_on, f"policy category {name}"


def channel_order(category: Category, preferences: Preferences) -> tuple[str, ...]:
    """The category's channels, those that the recipient ordered first."""
    wished = preferences.channel_order.get(category.name)
    if not wished:
        return category.channels
    first = tuple(channel for channel in wished if channel in category.channels)
    return first + tuple(channel for channel in category.channels if channel not in first)


def muted_by(notification: Notification, preferences: Preferences) -> str | None:
    """What the recipient muted that this falls under, or ``None``."""
    if not preferences.muted:
        return None
    names = (
        f"actor:{notification.actor_id}",
        f"key:{notification.digest_key}",
        f"key:{notification.collapse_key}",
    )
    return next((name for name in names if name in preferences.muted), None)
