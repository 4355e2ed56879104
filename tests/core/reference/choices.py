"""Suppressions, preferences and quiet hours, as the design has them."""

from __future__ import annotations

from datetime import datetime

from streams.core.model import (
    Destination,
)
from streams.core.policy import Category
from tests.core.reference.nouns import (
    CHANNEL,
    HORIZON_DAYS,
    MINUTE,
    Ban,
)
from tests.core.reference.recipient import Recipient
from tests.core.reference_time import first_reach, quiet_minutes


class Choices(Recipient):
    """See the module's text."""

    def banned(self, scope: str) -> Ban | None:
        for ban in self.bans:
            if ban.scope == scope and (ban.until_ms is None or ban.until_ms > self.now):
                return ban
        return None

    def obstacle(self, destination: Destination) -> str | None:
        if f"kind:{destination.kind}" in self.policy.kills:
            return "killed"
        channel = CHANNEL[destination.kind]
        ban = self.banned(f"channel:{channel}") or self.banned(
            f"destination:{destination.destination_id}"
        )
        return ban.reason if ban else None

    def addresses(self, channel: str) -> list[Destination]:
        return [d for d in self.destinations if CHANNEL[d.kind] == channel and not self.obstacle(d)]

    def wants(self, category: Category, channel: str) -> bool:
        prefs = self.prefs
        if category.mandatory:
            return True
        for choice in (
            prefs.cells.get(f"{category.name}/{channel}"),
            prefs.channels.get(channel),
            prefs.categories.get(category.name),
            prefs.default,
        ):
            if choice is not None:
                return choice
        return category.default_on and channel not in category.default_off_channels

    def why_none(self, category: Category, channels: list[str]) -> tuple[str, str]:
        reasons = []
        for channel in channels:
            found = [self.obstacle(d) for d in self.destinations if CHANNEL[d.kind] == channel]
            stopped = [why for why in found if why]
            if stopped and None not in found:
                reasons.append(stopped[0])
            else:
                reasons.append("opted_out" if not self.wants(category, channel) else "no_address")
        for why in reasons:
            if why not in ("opted_out", "no_address"):
                return ("dropped" if why == "killed" else "suppressed"), why
        return "suppressed", "opted_out" if "opted_out" in reasons else "no_destination"

    def order_of(self, category: Category) -> list[str]:
        wished = [
            channel
            for channel in self.prefs.channel_order.get(category.name, ())
            if channel in category.channels
        ]
        order: list[str] = []
        for channel in [*wished, *category.channels]:
            if channel not in order:
                order.append(channel)
        return order

    def reach(self, wall: datetime) -> int:
        """When the recipient's clock first shows this time."""
        found = first_reach(
            self.prefs.zone, wall, self.start_minute - 3 * 1440, HORIZON_DAYS * 1440
        )
        assert found is not None, "the run looks further ahead than the reference can"
        return found

    def quiet_set(self) -> frozenset[int]:
        if not self.prefs.quiet_hours:
            return frozenset()
        from_minute = self.start_minute - 1440
        minutes = HORIZON_DAYS * 1440
        return quiet_minutes(self.prefs.zone, self.prefs.quiet_hours, from_minute, minutes)

    def quiet_until(self, now_ms: int) -> int | None:
        quiet = self.quiet_set()
        minute = now_ms // MINUTE
        if minute not in quiet:
            return None
        while minute in quiet:
            minute += 1
        return minute * MINUTE
