"""Which channels of the catalogue nothing can be sent on: no provider of any of their kinds.

It is no mistake that stops a start (a catalogue may be ahead of its providers, and a trial needs
none), but it must be said: what is decided for such a channel becomes a dead letter.

Pure. Kinds of one channel stand for each other here: push with APNs alone is covered.
"""

from __future__ import annotations

from collections.abc import Iterable

from streams.core.model import CHANNEL_OF_KIND
from streams.core.policy import Policy
from streams.sinks.settings import KIND_OF_PROVIDER, ProviderSettings


def uncovered(policy: Policy, providers: Iterable[ProviderSettings]) -> list[str]:
    """A sentence for each channel that categories use and no provider serves, by channel."""
    covered = {CHANNEL_OF_KIND[KIND_OF_PROVIDER[type(provider)]] for provider in providers}
    users: dict[str, list[str]] = {}
    for category in policy.categories.values():
        for channel in category.channels:
            if channel not in covered:
                users.setdefault(channel, []).append(category.name)
    return [_told(channel, names) for channel, names in sorted(users.items())]


def _told(channel: str, names: list[str]) -> str:
    types = sorted(
        str(struct.__struct_config__.tag)
        for struct, kind in KIND_OF_PROVIDER.items()
        if CHANNEL_OF_KIND[kind] == channel
    )
    return (
        f"no provider is configured for {channel} ({' or '.join(types)}), which is used by"
        f" {', '.join(names)}: what would be sent there becomes a dead letter (no_provider)"
    )
