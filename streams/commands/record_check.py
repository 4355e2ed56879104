"""What a record must be beyond its Avro type, for ``publish``: the rules that it will meet later.

An event passes the core's own validation, a preference what the API asks of one, a kill switch has
a scope that stops something. Who publishes by hand hears of a mistake now, by line, and not as a
dead letter or as a choice that was ignored.

Pure. The catalogue is that of the command's configuration: where the workers have another one,
name it with ``--config``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

import msgspec

from streams.codec import Codec, DecodeError, EncodeError
from streams.configuration.problems import did_you_mean
from streams.core.model import Kind, Preferences
from streams.core.policy import Policy
from streams.core.reasons import sentence
from streams.core.validate import fault_of
from streams.settings import Settings
from streams.web import preference_rules

Check = Callable[[Mapping[str, Any]], list[str]]
"""Takes a record that follows its schema; says what is wrong with it all the same."""

SCOPES = ("all", "category:NAME", "campaign:NAME", "kind:KIND", "provider:NAME")
"""What a kill switch may stop."""
KNOWN_SHOWN_MAX = 20


def check_of(record_name: str, codec: Codec, settings: Settings, now_ms: int) -> Check:
    """What is asked of records of this type; of most types nothing more than their schema."""
    if record_name == "event":
        return partial(event_problems, codec, settings.policy, now_ms)
    if record_name == "preference":
        return partial(preference_problems, codec, settings.policy)
    if record_name == "kill_switch":
        known: dict[str, tuple[str, ...]] = {
            "category": tuple(settings.policy.categories),
            "kind": get_args(Kind),
            "provider": tuple(provider.name for provider in settings.deliver.providers),
        }
        return partial(kill_switch_problems, known)
    return nothing_more


def nothing_more(value: Mapping[str, Any]) -> list[str]:
    """No rule beyond the schema."""
    return []


def event_problems(
    codec: Codec, policy: Policy, now_ms: int, value: Mapping[str, Any]
) -> list[str]:
    """The first rule of the core that the event would fail, as ``decide`` asks them."""
    try:
        event = codec.decode_event(codec.encode("event", value))
    except (EncodeError, DecodeError) as error:
        return [str(error)]
    fault = fault_of(event, policy, now_ms)
    if fault is None:
        return []
    said = sentence(fault.reason, fault.inputs)
    if fault.reason == "unknown_category":
        said += _known(event.category, policy.categories)
    return [said]


def preference_problems(codec: Codec, policy: Policy, value: Mapping[str, Any]) -> list[str]:
    """What the API would refuse: zone, minutes, channels, categories, digests."""
    try:
        _, chosen = codec.decode_preference(codec.encode("preference", value))
    except (EncodeError, DecodeError) as error:
        return [str(error)]
    wished = msgspec.to_builtins(preference_rules.to_document(chosen))
    found = preference_rules.changed(Preferences(), wished, None, 0, policy)
    if isinstance(found, Preferences):
        return []
    return [f"{one.pointer.strip('/').replace('/', '.')}: {one.detail}" for one in found]


def kill_switch_problems(
    known: Mapping[str, tuple[str, ...]], value: Mapping[str, Any]
) -> list[str]:
    """A scope that stops nothing. One that is no longer known can still be turned off."""
    scope = str(value["scope"])
    sort, colon, name = scope.partition(":")
    sorts = {one.partition(":")[0] for one in SCOPES}
    if scope != "all" and not (colon and name and sort in sorts - {"all"}):
        near = did_you_mean(sort, sorts)
        return [f"scope: expected one of {', '.join(SCOPES)}, got {scope[:64]!r}{near}"]
    if not value["active"] or sort not in known or name in known[sort]:
        return []
    return [f"scope: there is no {sort} {name[:64]!r}.{_known(name, known[sort])}"]


def _known(name: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    """What there is instead."""
    if not known:
        return " The configuration has none."
    shown = ", ".join(sorted(known)[:KNOWN_SHOWN_MAX])
    return f" There are {shown}{did_you_mean(name, known)}"
