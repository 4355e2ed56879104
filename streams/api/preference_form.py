"""The form of a recipient's preference page: what it shows, and what a sent one changes. Pure.

Only what differs from what was shown becomes a change, so a box left as it was stays undecided
and the catalogue's defaults go on applying to it. Whatever cannot be read changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from streams.core.model import Preferences, QuietWindow
from streams.core.policy import Category, Policy
from streams.core.preferences import wants
from streams.web.preference_rules import CHANNELS

CHANNEL_LABELS = {
    "push": "Push",
    "sms": "Text message",
    "email": "E-mail",
    "webhook": "Webhook",
    "chat": "Chat",
}
DIGEST_CHOICES = (
    ("", "As usual"),
    ("immediate", "One by one"),
    ("hourly", "Gathered, every hour"),
    ("daily", "Gathered, once a day"),
)
TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
EVERY_DAY = 0b1111111
DIGEST_AT = "18:00"
QUIET_FROM, QUIET_TO = 22 * 60, 7 * 60
UNCHANGED = "unchanged"


def described(preferences: Preferences, policy: Policy) -> dict[str, Any]:
    """Values of the page's template. Pure."""
    categories = [policy.categories[name] for name in sorted(policy.categories)]
    used = [c for c in CHANNELS if any(c in category.channels for category in categories)]
    return {
        "channels": [{"name": name, "label": CHANNEL_LABELS[name]} for name in used],
        "rows": [_row(category, used, preferences) for category in categories],
        "quiet": _quiet(preferences),
        "zones": zones_with(preferences.zone),
        "present_zone": preferences.zone,
        "digest_choices": DIGEST_CHOICES,
        "digests": [
            _digest(category, preferences) for category in categories if _may_digest(category)
        ],
    }


def changes(
    fields: Iterable[tuple[str, str]], present: Preferences, policy: Policy
) -> dict[str, Any]:
    """The merge patch that a sent form stands for. Pure; what cannot be read changes nothing."""
    fields = list(fields)
    ticked = {value for name, value in fields if name == "cell"}
    single = dict(fields)
    patch: dict[str, Any] = {}
    cells = {
        f"{category.name}/{channel}": f"{category.name}/{channel}" in ticked
        for category in policy.categories.values()
        if not category.mandatory
        for channel in category.channels
        if (f"{category.name}/{channel}" in ticked) != wants(category, channel, present)[0]
    }
    if cells:
        patch["cells"] = cells
    if single.get("zone", present.zone) != present.zone:
        patch["zone"] = single["zone"]
    patch.update(_quiet_change(single))
    digests = {
        category.name: choice
        for category in policy.categories.values()
        if _may_digest(category)
        and (choice := _digest_choice(single, category.name, present)) is not UNCHANGED
    }
    if digests:
        patch["digests"] = digests
    return patch


def _digest_choice(single: Mapping[str, str], name: str, present: Preferences) -> str | None:
    chosen = single.get(f"digest:{name}")
    at = single.get(f"digest_at:{name}", "")
    if chosen == "daily":
        chosen = f"daily@{at if TIME.fullmatch(at) else DIGEST_AT}"
    if chosen is None or chosen == present.digests.get(name, ""):
        return UNCHANGED
    return chosen or None


def _quiet_change(single: Mapping[str, str]) -> dict[str, Any]:
    mode = single.get("quiet")
    if mode == "none":
        return {"quiet_hours": []}
    start, end = _minute(single.get("quiet_from", "")), _minute(single.get("quiet_to", ""))
    if mode != "daily" or start is None or end is None:
        return {}
    return {"quiet_hours": [{"start_minute": start, "end_minute": end, "weekdays": EVERY_DAY}]}


def _row(category: Category, used: Sequence[str], preferences: Preferences) -> dict[str, Any]:
    cells: list[dict[str, Any] | None] = []
    for channel in used:
        if channel not in category.channels:
            cells.append(None)
            continue
        is_on, _ = wants(category, channel, preferences)
        name = f"{category.name}/{channel}"
        cells.append({"name": name, "is_on": is_on, "channel": CHANNEL_LABELS[channel]})
    return {
        "label": label_of(category.name),
        "is_mandatory": category.mandatory,
        "cells": cells,
    }


def _quiet(preferences: Preferences) -> dict[str, str]:
    windows = preferences.quiet_hours
    start, end, mode = QUIET_FROM, QUIET_TO, "none"
    if len(windows) == 1 and windows[0].weekdays == EVERY_DAY and windows[0].end_minute < 1440:
        start, end, mode = windows[0].start_minute, windows[0].end_minute, "daily"
    elif windows:
        mode = "keep"
    text = ", ".join(_window(window) for window in windows)
    return {"mode": mode, "start": _clock(start), "end": _clock(end), "text": text}


def _window(window: QuietWindow) -> str:
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    days = [name for bit, name in enumerate(names) if window.weekdays >> bit & 1]
    return f"{' '.join(days)} {_clock(window.start_minute)}-{_clock(window.end_minute)}"


def _digest(category: Category, preferences: Preferences) -> dict[str, str]:
    chosen = preferences.digests.get(category.name, "")
    mode, _, at = chosen.partition("@")
    label = label_of(category.name)
    return {"name": category.name, "label": label, "choice": mode, "at": at or DIGEST_AT}


def _may_digest(category: Category) -> bool:
    return category.priority != "critical"


def label_of(name: str) -> str:
    """A category's name for people."""
    return name.replace("_", " ").replace("-", " ").capitalize()


@cache
def _zones() -> tuple[str, ...]:
    return tuple(sorted(z for z in available_timezones() if "/" in z or z == "UTC"))


def zones_with(present: str) -> list[str]:
    """All zones to choose from; the present one is always among them."""
    return list(_zones()) if present in _zones() else [present, *_zones()]


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _minute(text: str) -> int | None:
    found = TIME.fullmatch(text)
    return int(found[1]) * 60 + int(found[2]) if found else None
