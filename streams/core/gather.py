"""What waits instead of going out: quiet hours, digests and used-up limits applied to a turn."""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import digest, ids
from streams.core.model import Notification, OpenDigest
from streams.core.policy import Category, DigestRule
from streams.core.rate_limit import Refusal
from streams.core.routing import Offer
from streams.core.turn import Turn


def in_quiet_hours(
    turn: Turn,
    notification: Notification,
    category: Category,
    usable: list[Offer],
    until_ms: int,
    step: int,
) -> list[Offer]:
    """The channels that may be used although it is quiet; empty when the matter is concluded."""
    inputs = {"zone": turn.profile.preferences.zone}
    if category.quiet_action == "drop":
        turn.conclude(notification, "dropped", "quiet_hours", inputs)
        return []
    if category.quiet_action == "downgrade":
        soft = [offer for offer in usable if offer.channel in category.downgrade_to]
        if soft:
            return soft
    release_ms = until_ms + ids.jitter(turn.recipient_id, turn.policy.release_jitter_ms)
    if category.quiet_action == "digest" and notification.event_id is not None and not step:
        rule = category.digest or DigestRule(mode="window")
        if _absorb_until(turn, notification, rule, release_ms):
            return []
    turn.hold(notification, release_ms, "quiet_hours", inputs, step)
    return []


def absorb(turn: Turn, notification: Notification, rule: DigestRule) -> bool:
    """Gathers an event into its digest; False when it has to go on by itself."""
    if notification.event_id is None:
        return False  # A closed digest is not gathered again.
    key = digest.key_of(rule, notification)
    opened = _find(turn, notification.category, key)
    if rule.mode == "lookback" and opened is None:
        last_ms = turn.waiting.lookbacks.get(digest.lookback_key(notification.category, key))
        if last_ms is None or turn.now_ms >= last_ms + rule.window_ms:
            return False
        return _absorb_until(turn, notification, rule, last_ms + rule.window_ms)
    if opened is not None and rule.mode != "debounce":
        return _absorb_until(turn, notification, rule, opened.closes_at_ms)
    opened_at_ms = opened.opened_at_ms if opened else turn.now_ms
    spread = (turn.recipient_id, turn.policy.release_jitter_ms)
    zone = turn.profile.preferences.zone
    closes_at_ms = digest.close_time(rule, opened_at_ms, turn.now_ms, zone, spread)
    return _absorb_until(turn, notification, rule, closes_at_ms)


def over_limit(
    turn: Turn, notification: Notification, category: Category, refusal: Refusal, step: int
) -> None:
    """What happens to something that a limit refused."""
    inputs = {"limit": refusal.label}
    over = refusal.rule.over
    if over == "drop":
        verdict = "noted" if step else "dropped"
        return turn.conclude(notification, verdict, "rate_limited", inputs)  # type: ignore[arg-type]
    if over == "digest" and notification.event_id is not None and not step:
        rule = category.digest or DigestRule(mode="window")
        if _absorb_until(turn, notification, rule, refusal.free_at_ms):
            return None
    return turn.hold(notification, refusal.free_at_ms, "rate_limited", inputs, step)


def remember_send(turn: Turn, notification: Notification, category: Category) -> None:
    """Starts a lookback: what follows within its window will be gathered."""
    rule = digest.rule_for(category, turn.profile.preferences)
    if rule is None or rule.mode != "lookback" or notification.priority == "critical":
        return
    key = notification.digest_key
    if key is None:
        key = digest.key_of(rule, notification)
    since_ms = turn.now_ms - rule.window_ms
    lookbacks = {k: ms for k, ms in turn.waiting.lookbacks.items() if ms > since_ms}
    if len(lookbacks) >= turn.policy.bounds.lookbacks_max:
        del lookbacks[min(lookbacks, key=lambda name: (lookbacks[name], name))]
    lookbacks[digest.lookback_key(notification.category, key)] = turn.now_ms
    turn.wait(lookbacks=lookbacks)


def _find(turn: Turn, category: str, key: str) -> OpenDigest | None:
    for opened in turn.waiting.digests:
        if opened.key == key and opened.category == category:
            return opened
    return None


def _absorb_until(
    turn: Turn, notification: Notification, rule: DigestRule, closes_at_ms: int
) -> bool:
    """Puts an event into the open digest of its key, or a new one, that closes then.

    An event that would expire first is not gathered: it goes on alone, in time.
    """
    if notification.expires_at_ms <= closes_at_ms:
        return False
    now_ms = turn.now_ms
    key = digest.key_of(rule, notification)
    opened = _find(turn, notification.category, key)
    if opened is None:
        opened = digest.open_digest(notification, key, turn.recipient_id, turn.partition, now_ms)
        _make_room(turn)
    closes_at_ms = max(closes_at_ms, now_ms + 1)
    grown = digest.add(opened, notification, rule, closes_at_ms, now_ms, turn.policy.bounds)
    if digest.is_full(grown, rule):
        grown = replace(grown, closes_at_ms=now_ms)
    others = tuple(d for d in turn.waiting.digests if d.digest_id != opened.digest_id)
    turn.wait(digests=(*others, grown))
    turn.conclude(
        notification,
        "digested",
        "digested",
        {"mode": rule.mode},
        until_ms=grown.closes_at_ms,
        digest_id=grown.digest_id,
    )
    return True


def _make_room(turn: Turn) -> None:
    """At the bound of open digests the one that closes first closes now."""
    digests = turn.waiting.digests
    if len(digests) >= turn.policy.bounds.digests_max:
        first = min(digests, key=lambda d: (d.closes_at_ms, d.digest_id))
        others = tuple(d for d in digests if d is not first)
        turn.wait(digests=(*others, replace(first, closes_at_ms=turn.now_ms)))
