"""The catalogue: categories with their defaults, limits and bounds, as a ``Policy``.

The shapes have said that each key is of the right kind; what is checked here is what keys mean
together. A policy's version is a hash of everything in it, so two workers with the same version
decide alike, and an explanation names exactly what decided.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec

from streams.configuration.problems import Path, Problem, did_you_mean, one_of
from streams.core.model import Channel
from streams.core.policy import Bounds, Category, DigestRule, LimitRule, Policy

CHANNELS = get_args(Channel)
VERSION_DIGITS = 12
SMS_SEGMENTS_MAX = 10

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def policy_of(
    categories: dict[str, Category],
    limits: Sequence[LimitRule],
    bounds: Bounds,
    rules: dict[str, Any],
) -> Policy:
    """The policy with its version. ``rules`` are the plain fields of ``Policy``."""
    policy = Policy("", categories, tuple(limits), bounds=bounds, **rules)
    text = msgspec.json.encode(policy, order="deterministic")
    version = hashlib.sha256(text).hexdigest()[:VERSION_DIGITS]
    return msgspec.structs.replace(policy, version=version)


def catalogue_problems(policy: Policy) -> Iterator[Problem]:
    """Everything in the catalogue that cannot be meant."""
    if not policy.categories:
        why = "is missing: at least one category, such as [categories.message]"
        yield Problem(("categories",), why)
    for place, rule in enumerate(policy.limits):
        yield from _limit(rule, ("limits", place), policy)
    for field in msgspec.structs.fields(Bounds):
        if getattr(policy.bounds, field.name) < 1:
            yield Problem(("bounds", field.name.replace("_ms", "")), "expected at least 1")
    for name in ("delivery_valid_ms", "dedupe_horizon_ms", "cancel_horizon_ms"):
        if getattr(policy, name) < 1_000:
            yield Problem(("policy", name.removesuffix("_ms")), 'expected at least "1s"')
    for category in policy.categories.values():
        yield from _category(category, policy)


def _category(category: Category, policy: Policy) -> Iterator[Problem]:
    at: Path = ("categories", category.name)
    if not _NAME.fullmatch(category.name):
        why = "expected a name of a-z, 0-9, '_', '.' and '-', at most 64 characters"
        yield Problem(at, why)
    if category.name in CHANNELS:
        why = "is also the name of a channel: a limit or a kill switch could mean either; rename it"
        yield Problem(at, why)
    yield from _channels(category, at)
    if category.mandatory and not category.default_on:
        why = "a mandatory category cannot be off by default"
        yield Problem((*at, "default_on"), why, False)
    if category.route == "escalate":
        if len(category.channels) < 2:
            yield Problem((*at, "channels"), "escalating needs at least two channels")
        if not category.escalate_after_ms:
            yield Problem((*at, "escalate_after"), 'expected a time, such as "5m"')
    if category.expires_after_ms < 1_000:
        yield Problem((*at, "expires_after"), 'expected at least "1s"')
    if not 1 <= category.sms_segments_max <= SMS_SEGMENTS_MAX:
        why = f"expected 1 to {SMS_SEGMENTS_MAX}"
        yield Problem((*at, "sms_segments_max"), why, category.sms_segments_max)
    if len(category.requires) > policy.bounds.data_fields_max:
        why = f"names more fields than an event may have ({policy.bounds.data_fields_max})"
        yield Problem((*at, "requires"), why, category.requires)
    for place, name in enumerate(category.requires):
        if not name or name.startswith("data."):
            why = 'expected the name of a data field without "data.", such as "who"'
            yield Problem((*at, "requires", place), why, name)
    if category.retry.attempts_max < 1:
        yield Problem((*at, "retry", "attempts_max"), "expected at least 1")
    if category.retry.delay_ms > category.retry.delay_ms_max:
        yield Problem((*at, "retry", "delay"), "is longer than retry.delay_max")
    if category.digest is not None:
        yield from _digest(category.digest, (*at, "digest"))
    for place, rule in enumerate(category.limits):
        yield from _limit(rule, (*at, "limits", place), policy)


def _channels(category: Category, at: Path) -> Iterator[Problem]:
    if not category.channels:
        why = f"expected at least one of {', '.join(CHANNELS)}"
        yield Problem((*at, "channels"), why, [])
    if len(set(category.channels)) < len(category.channels):
        yield Problem((*at, "channels"), "names a channel twice", category.channels)
    for channel in category.default_off_channels:
        if channel not in category.channels:
            why = f"{channel} is not among the channels of the category"
            yield Problem((*at, "default_off_channels"), why, category.default_off_channels)
    usable = set(category.downgrade_to) & set(category.channels)
    if category.quiet_action == "downgrade" and not usable:
        why = "none of these is among the channels of the category: nothing could be sent"
        yield Problem((*at, "downgrade_to"), why, category.downgrade_to)


def _digest(rule: DigestRule, at: Path) -> Iterator[Problem]:
    if rule.mode != "calendar" and rule.window_ms < 1_000:
        yield Problem((*at, "window"), 'expected at least "1s"')
    if rule.mode == "calendar" and not rule.times:
        why = 'is missing: a calendar digest needs local times, such as ["08:00", "18:30"]'
        yield Problem((*at, "times"), why)
    for place, time in enumerate(rule.times):
        if not _TIME.fullmatch(time):
            yield Problem((*at, "times", place), 'expected a local time "HH:MM"', time)
    for place, field in enumerate(rule.key):
        if field not in ("actor_id", "collapse_key") and not re.fullmatch(r"data\..+", field):
            near = did_you_mean(field, ("actor_id", "collapse_key"))
            why = f'expected "actor_id", "collapse_key" or "data.NAME"{near}'
            yield Problem((*at, "key", place), why, field)
    if rule.keep == "top" and not re.fullmatch(r"data\..+", rule.top_by):
        why = 'keep = "top" needs the number that ranks: "data.NAME"'
        yield Problem((*at, "top_by"), why, rule.top_by)
    if rule.mode == "debounce" and rule.age_ms_max < rule.window_ms:
        yield Problem((*at, "age_max"), "is shorter than the window")
    if not 1 <= rule.items_kept_max <= rule.items_max:
        why = f"expected 1 to items_max ({rule.items_max})"
        yield Problem((*at, "items_kept_max"), why, rule.items_kept_max)


def _limit(rule: LimitRule, at: Path, policy: Policy) -> Iterator[Problem]:
    if rule.count_max < 1:
        yield Problem((*at, "count_max"), "expected at least 1", rule.count_max)
    if rule.window_ms < 1_000:
        yield Problem((*at, "window"), 'expected at least "1s"')
    known = [*policy.categories, *CHANNELS]
    if rule.name and rule.name not in known:
        yield Problem((*at, "name"), one_of(rule.name, known), rule.name)
