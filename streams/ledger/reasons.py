"""Reasons over time: what happened to how many, by hour or day, grouped as asked.

From the counters of one partition (``counters.py``), which hold nobody and outlive the rows that
they counted; partitions are added up by whoever asks them all.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, get_args

import msgspec

from streams.ledger.documents import Count
from streams.ledger.rows import HOUR_MS, CountKey
from streams.ledger.store import LedgerStore

Field = Literal["category", "channel", "what", "reason"]
FIELDS: tuple[Field, ...] = get_args(Field)
Step = Literal["hour", "day", "all"]
STEPS: tuple[Step, ...] = get_args(Step)
HOURS_DEFAULT = 24


class ReasonsQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Which hours, what of them, and how it is put together."""

    hours: int = HOURS_DEFAULT
    """The last so many, up to the newest decision, when ``from_ms`` is ``None``."""
    from_ms: int | None = None
    to_ms: int | None = None
    """Exclusive; ``None`` is up to the newest decision. Hours that it touches count whole."""
    step: Step = "hour"
    group_by: tuple[Field, ...] = FIELDS
    """Fields that are told apart; the others are empty in the answer."""
    only: dict[Field, str] = {}
    """Field -> the value that it must have."""


def reasons(
    store: LedgerStore, asked: ReasonsQuestion, end_hour: int, hours_max: int
) -> list[Count]:
    """Counts of one partition; at most the latest ``hours_max`` hours of the range."""
    if asked.to_ms is not None:
        end_hour = min(end_hour, -(-asked.to_ms // HOUR_MS))
    if asked.from_ms is None:
        first_hour = end_hour - max(1, asked.hours)
    else:
        first_hour = asked.from_ms // HOUR_MS
    first_hour = max(0, first_hour, end_hour - hours_max)
    found: Counter[tuple[int | None, CountKey]] = Counter()
    for hour, key, count in store.hours(first_hour, end_hour):
        if all(getattr(key, field) == value for field, value in asked.only.items()):
            found[_start_ms(hour, asked.step), _grouped(key, asked.group_by)] += count
    return [
        Count(key.category, key.channel, key.what, key.reason, count, start_ms)
        for (start_ms, key), count in found.items()
    ]


def _start_ms(hour: int, step: Step) -> int | None:
    if step == "all":
        return None
    return (hour if step == "hour" else hour - hour % 24) * HOUR_MS


def _grouped(key: CountKey, group_by: tuple[Field, ...]) -> CountKey:
    if len(group_by) == len(FIELDS):
        return key
    return CountKey(*(getattr(key, name) if name in group_by else "" for name in FIELDS))
