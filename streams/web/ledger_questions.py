"""What the query of ``/v1/reasons`` and ``/v1/search`` asks. Pure; raises ``ValueError`` in words.

``/v1/reasons?hours=24`` or ``?from=MS&to=MS``, with ``step=hour|day|all``,
``group_by=category,channel,what,reason`` and any of these four as ``=VALUE``.

``/v1/search?`` any of ``recipient``, ``event_id``, ``category``, ``channel``, ``verdict``,
``reason``, ``from`` and ``to`` in Unix ms; ``before`` (of the page before) and ``limit``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from streams.ledger.reasons import FIELDS, HOURS_DEFAULT, STEPS, Field, ReasonsQuestion
from streams.ledger.search import LATEST_MS, SearchQuestion

TEXT_CHARACTERS_MAX = 256
REASONS = ("hours", "from", "to", "step", "group_by", *FIELDS)
SEARCH = (
    "recipient", "event_id", "category", "channel", "verdict", "reason", "from", "to", "before",
    "limit",
)  # fmt: skip
LIMIT_DEFAULT = 50


def reasons_asked(query: Mapping[str, str]) -> ReasonsQuestion:
    """The question about reasons."""
    _only_known(query, REASONS)
    step = query.get("step", "hour")
    if step not in STEPS:
        raise ValueError(f"'step' is one of {', '.join(STEPS)}, not {step[:32]!r}")
    group_by = tuple(filter(None, query.get("group_by", ",".join(FIELDS)).split(",")))
    for name in group_by:
        if name not in FIELDS:
            raise ValueError(f"'group_by' takes any of {', '.join(FIELDS)}, not {name[:32]!r}")
    return ReasonsQuestion(
        hours=_whole(query, "hours") or HOURS_DEFAULT,
        from_ms=_whole(query, "from"),
        to_ms=_whole(query, "to"),
        step=step,
        group_by=cast(tuple[Field, ...], group_by),
        only={name: query[name] for name in FIELDS if name in query},
    )


def search_asked(query: Mapping[str, str]) -> SearchQuestion:
    """The question of a search."""
    _only_known(query, SEARCH)
    ends = [end for end in (_whole(query, "to"), _whole(query, "before")) if end is not None]
    return SearchQuestion(
        recipient_id=_text(query, "recipient"),
        event_id=_text(query, "event_id"),
        category=_text(query, "category"),
        channel=_text(query, "channel"),
        verdict=_text(query, "verdict"),
        reason=_text(query, "reason"),
        from_ms=_whole(query, "from") or 0,
        before_ms=min([*ends, LATEST_MS]),
        limit=_whole(query, "limit") or LIMIT_DEFAULT,
    )


def _only_known(query: Mapping[str, str], known: tuple[str, ...]) -> None:
    for name in query:
        if name not in known:
            raise ValueError(f"{name[:32]!r} is not asked here; one of {', '.join(known)} is")


def _text(query: Mapping[str, str], name: str) -> str | None:
    text = query.get(name)
    if text is not None and not 0 < len(text) <= TEXT_CHARACTERS_MAX:
        raise ValueError(f"{name!r} must have 1 to {TEXT_CHARACTERS_MAX} characters")
    return text


def _whole(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15 or int(text) > LATEST_MS:
        raise ValueError(f"{name!r} must be a whole number of milliseconds or hours")
    return int(text)
