"""Suppressions: what is active, what adding one changes, and what lifting takes back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streams.core import suppression
from streams.core.model import Profile, Suppression
from tests.core.build import HOUR, PHONE, T0

BY_LAW = Suppression("category:message", "unsubscribed", T0)
SOFT = Suppression("destination:phone", "soft_bounced", T0, T0 + HOUR)


def having(*suppressions: Suppression) -> Profile:
    return Profile(suppressions=suppressions, destinations=(PHONE,))


def add(profile: Profile, new: Suppression, now_ms: int = T0, most: int = 9) -> list[Suppression]:
    return list(suppression.add(profile, new, now_ms, most))


def test_it_is_active_until_it_ends() -> None:
    assert suppression.active(SOFT, T0 + HOUR - 1)
    assert not suppression.active(SOFT, T0 + HOUR)
    assert not suppression.active(SOFT, T0 + 2 * HOUR)
    assert suppression.active(BY_LAW, T0 + 10**12)


def test_a_scope_is_exactly_that_one() -> None:
    profile = having(SOFT, BY_LAW)
    assert suppression.of_scope(profile, "category:message", T0) == BY_LAW
    assert suppression.of_scope(profile, "category:messages", T0) is None
    assert suppression.of_scope(profile, "category:a", T0) is None
    assert suppression.of_scope(profile, "destination:phone", T0) == SOFT
    assert suppression.of_scope(profile, "destination:phone", T0 + HOUR) is None


@pytest.mark.parametrize(
    ("scope", "everything", "address"),
    [
        ("all", True, False),
        ("category:message", True, False),
        ("category:like", False, False),
        ("channel:push", False, True),
        ("channel:email", False, False),
        ("destination:phone", False, True),
        ("destination:mail", False, False),
    ],
)
def test_what_each_scope_closes(scope: str, everything: bool, address: bool) -> None:
    profile = having(Suppression(scope, "unsubscribed", T0))
    assert (suppression.of_everything(profile, "message", T0) is not None) == everything
    assert (suppression.of_destination(profile, PHONE, "push", T0) is not None) == address


def test_the_same_again_says_nothing_new() -> None:
    profile = having(BY_LAW, SOFT)
    again = replace(BY_LAW, at_ms=T0 + 5)
    assert suppression.add(profile, again, T0, 9) is profile.suppressions
    assert suppression.add(profile, SOFT, T0, 9) is profile.suppressions
    shorter = replace(SOFT, until_ms=T0 + HOUR - 1)
    assert suppression.add(profile, shorter, T0, 9) is profile.suppressions


def test_what_lasts_longer_takes_the_place() -> None:
    longer = replace(SOFT, until_ms=T0 + HOUR + 1)
    assert add(having(SOFT, BY_LAW), longer) == [BY_LAW, longer]
    for_ever = replace(SOFT, until_ms=None)
    assert add(having(SOFT, BY_LAW), for_ever) == [BY_LAW, for_ever]
    assert add(having(for_ever), longer) == [for_ever]


def test_another_scope_or_reason_stands_beside_it() -> None:
    for new in (replace(BY_LAW, scope="all"), replace(BY_LAW, reason="complained")):
        assert add(having(BY_LAW), new) == [BY_LAW, new]


def test_what_has_ended_goes_and_can_come_again() -> None:
    again = replace(SOFT, at_ms=T0 + HOUR, until_ms=T0 + 2 * HOUR)
    assert add(having(SOFT, BY_LAW), again, T0 + HOUR) == [BY_LAW, again]
    earlier = replace(SOFT, until_ms=T0 + HOUR - 1)
    assert add(having(SOFT), replace(BY_LAW, scope="all"), T0 + HOUR)[0].scope == "all"
    assert add(having(SOFT), earlier, T0 + HOUR) == [earlier]


def test_at_the_bound_what_ends_and_what_is_about_lost_addresses_makes_way() -> None:
    lost = Suppression("destination:lost", "bounced", T0)
    known = Suppression("destination:phone", "bounced", T0)
    new = Suppression("channel:push", "unsubscribed", T0)
    profile = having(SOFT, lost, known, BY_LAW)
    assert add(profile, new, most=5) == [SOFT, lost, known, BY_LAW, new]
    assert add(profile, new, most=4) == [known, BY_LAW, new]
    assert add(profile, new, most=3) == [known, BY_LAW, new]
    assert add(profile, new, most=2) == [Suppression("all", "unsubscribed", T0)]
    assert add(profile, new, most=1) == [Suppression("all", "unsubscribed", T0)]
    at_bound = having(known, BY_LAW, replace(BY_LAW, scope="category:b"))
    everything = replace(new, at_ms=T0 + 7)
    assert add(at_bound, everything, most=3) == [Suppression("all", "unsubscribed", T0 + 7)]


def test_lifting_takes_what_has_the_scope_and_the_reason_and_is_older() -> None:
    profile = having(BY_LAW, SOFT, replace(BY_LAW, reason="complained"))
    lift = suppression.lift
    assert list(lift(profile, BY_LAW.scope, ("unsubscribed",), T0 + 1)) == [
        SOFT,
        replace(BY_LAW, reason="complained"),
    ]
    for scope, reason, before_ms in (
        (BY_LAW.scope, "unsubscribed", T0),
        (BY_LAW.scope, "unsubscribed", T0 - 1),
        (BY_LAW.scope, "bounced", T0 + 1),
        ("category:a", "unsubscribed", T0 + 1),
        ("zone", "unsubscribed", T0 + 1),
    ):
        assert lift(profile, scope, (reason,), before_ms) is profile.suppressions
