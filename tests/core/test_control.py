"""Addresses, claims and receipts: what they change, and that saying it again changes nothing."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streams.core.control import address_hash
from streams.core.model import Claim, Destination, DestinationInput
from streams.core.policy import Bounds, Category
from streams.core.preferences import version_of
from tests.core.build import DAY, HOUR, MAIL, MINUTE, PHONE, T0, Person, a_policy


def test_a_newer_registration_replaces_and_is_claimed() -> None:
    ana = Person(a_policy())
    first = ana.registers(PHONE)
    claim = Claim(address_hash("fcm", "token-1"), "ana", "phone", "fcm", PHONE.registered_at_ms)
    assert list(first.claims) == [claim]
    again = ana.registers(PHONE)
    assert len(again.claims) == 0
    assert again.state is first.state
    older = ana.registers(replace(PHONE, address="older", registered_at_ms=1))
    assert older.state is first.state
    newer = ana.registers(replace(PHONE, registered_at_ms=T0))
    assert len(newer.claims) == 1, "who logs in again claims the device again"
    assert list(newer.state.profile.destinations) == [replace(PHONE, registered_at_ms=T0)]


def test_a_removal_is_about_the_address_that_it_names() -> None:
    ana = Person(a_policy(), PHONE, MAIL)
    ana.removes(PHONE, at_ms=PHONE.registered_at_ms - 1)
    ana.removes(replace(PHONE, address="another"))
    ana.removes(replace(PHONE, address="", attributes={"address_hash": "another"}))
    assert not ana.verdicts
    claimed = {"address_hash": address_hash("fcm", PHONE.address)}
    ana.removes(replace(PHONE, address="", attributes=claimed))
    ana.removes(replace(MAIL, address=""))
    assert not ana.state.profile.destinations
    assert ana.verdicts == ["noted destination_removed"] * 2
    before = ana.state
    assert ana.removes(MAIL).state is before


@pytest.mark.parametrize(
    ("name", "category", "told"),
    [
        ("category:message", "message", False),
        ("category:message", "like", True),
        ("channel:push", "message", False),
        ("all", "like", False),
        ("something else", "like", False),
        (None, "like", False),
    ],
)
def test_unsubscribing(name: str | None, category: str, told: bool) -> None:
    both = (Category("message", channels=("push",)), Category("like", channels=("push",)))
    ana = Person(a_policy(*both), PHONE)
    for _ in range(3):
        ana.hears("unsubscribed", name=name)
    assert ana.verdicts == ["noted suppression_added"]
    ana.gets("e1", category)
    expected = "delivering routed" if told else "suppressed unsubscribed"
    assert ana.verdicts[-1] == expected


def test_unsubscribing_from_a_cell_is_a_choice_that_can_be_taken_back() -> None:
    ana = Person(a_policy(Category("message", route="all")), PHONE, MAIL)
    before = ana.prefers(channels={"sms": False}, updated_at_ms=T0).state
    heard = ana.hears("unsubscribed", name="cell:message/email").state
    expected = replace(before.profile.preferences, cells={"message/email": False})
    assert replace(heard.profile.preferences, updated_at_ms=T0) == expected
    assert ana.hears("unsubscribed", name="cell:message/email").state is heard
    assert not heard.profile.suppressions
    ana.gets("e1", "message")
    assert [delivery.channel for delivery in ana.deliveries] == ["push"]
    ana.prefers(cells={})
    ana.gets("e2", "message")
    assert [delivery.channel for delivery in ana.deliveries[1:]] == ["push", "email"]


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("cell:message/pigeon", "category:message"),
        ("cell:message/", "category:message"),
        ("cell:message", "all"),
        ("cell:/email", "all"),
        ("cell:" + "x" * 9 + "/email", "category:" + "x" * 9),
    ],
)
def test_a_cell_that_cannot_be_chosen_forbids_more_never_less(name: str, scope: str) -> None:
    policy = replace(a_policy(), bounds=Bounds(preferences_bytes_max=10, id_bytes_max=20))
    ana = Person(policy, PHONE)
    heard = ana.hears("unsubscribed", name=name)
    assert [each.scope for each in heard.state.profile.suppressions] == [scope]


@pytest.mark.parametrize("name", ["cells:message/email", "bell:message/email", "e-mail", ":"])
def test_what_is_not_understood_is_everything(name: str) -> None:
    ana = Person(a_policy(), PHONE)
    heard = ana.hears("unsubscribed", name=name)
    assert [each.scope for each in heard.state.profile.suppressions] == ["all"]
    assert heard.state.profile.preferences.cells == {}


def test_a_change_made_from_other_preferences_is_refused() -> None:
    ana = Person(a_policy())
    first = version_of(ana.state.profile.preferences)
    ana.prefers(zone="Asia/Tokyo", replaces=first)
    second = version_of(ana.state.profile.preferences)
    before = ana.state
    refused = ana.prefers(zone="Europe/Lisbon", replaces=first)
    assert refused.state is before
    assert ana.verdicts == ["noted preferences_outdated"]
    ana.prefers(zone="Europe/Lisbon", replaces=second)
    assert ana.state.profile.preferences.zone == "Europe/Lisbon"
    assert ana.verdicts == ["noted preferences_outdated"]


def test_bounces_close_an_address_and_a_soft_one_opens_again() -> None:
    ana = Person(a_policy(Category("message", channels=("email",))), MAIL)
    for _ in range(3):
        ana.hears("soft_bounced", destination_id="mail", occurred_at_ms=T0 - HOUR)
        ana.now_ms += MINUTE
    assert ana.verdicts == ["noted suppression_added"]
    assert ana.entries[0].until_ms == T0 - HOUR + DAY
    ana.gets("e1")
    assert ana.verdicts[-1] == "suppressed soft_bounced"
    ana.waits(T0 - HOUR + DAY)
    ana.gets("e2")
    assert ana.sent == [("e2", "email")]
    ana.hears("soft_bounced", destination_id="mail", occurred_at_ms=T0 - HOUR - 1)
    assert ana.verdicts[-1] == "delivering routed", "one of long ago says nothing any more"
    ana.hears("bounced", destination_id="mail")
    ana.gets("e3")
    assert ana.verdicts[-1] == "suppressed bounced"


def test_a_bounce_may_name_the_delivery() -> None:
    ana = Person(a_policy(Category("message", channels=("email",))), MAIL)
    ana.gets("e1")
    sent = ana.deliveries[0]
    ana.hears("bounced", delivery_id=sent.delivery_id)
    ana.hears("bounced", notification_id=sent.notification_id, delivery_id="other")
    assert not ana.state.profile.suppressions, "nothing names the address"
    ana.hears("bounced", notification_id=sent.notification_id, delivery_id=sent.delivery_id)
    assert ana.state.profile.suppressions[0].scope == "destination:mail"


def test_a_new_address_ends_a_bounce_and_never_a_complaint() -> None:
    ana = Person(a_policy(Category("message", channels=("email",))), MAIL)
    ana.hears("bounced", destination_id="mail")
    ana.registers(replace(MAIL, registered_at_ms=T0 + 1))
    ana.gets("e1")
    assert ana.verdicts[-1] == "suppressed bounced", "the same address again is no new address"
    ana.registers(replace(MAIL, address="new@example.test", registered_at_ms=T0 + 2))
    ana.gets("e2")
    assert ana.sent == [("e2", "email")]
    ana.hears("complained", destination_id="mail")
    ana.registers(replace(MAIL, address="newer@example.test", registered_at_ms=T0 + 3))
    ana.gets("e3")
    assert ana.verdicts[-1] == "suppressed complained"


def test_only_a_later_explicit_yes_takes_back_an_unsubscription() -> None:
    ana = Person(a_policy(), PHONE, categories={"message": True}, updated_at_ms=T0 - DAY)
    ana.hears("unsubscribed", name="category:message")
    ana.hears("complained", destination_id="elsewhere")
    ana.now_ms += MINUTE
    ana.prefers(categories={"message": True}, locale="pt")
    assert len(ana.state.profile.suppressions) == 2, "a repeated yes is no new yes"
    ana.prefers(categories={"message": False})
    ana.prefers(categories={"message": True}, updated_at_ms=T0)
    assert len(ana.state.profile.suppressions) == 2, "not later than the unsubscription"
    ana.prefers()
    ana.prefers(categories={"message": True})
    assert ana.verdicts[-1] == "noted suppression_lifted"
    assert [s.reason for s in ana.state.profile.suppressions] == ["complained"]


def test_the_law_is_not_forgotten_at_the_bound() -> None:
    ana = Person(a_policy(bounds=Bounds(suppressions_max=3)), PHONE)
    ana.hears("soft_bounced", destination_id="gone-1")
    ana.hears("bounced", destination_id="gone-2")
    ana.hears("unsubscribed", name="category:a")
    ana.hears("unsubscribed", name="category:b")
    scopes = [s.scope for s in ana.state.profile.suppressions]
    assert scopes == ["category:a", "category:b"], "what is about lost addresses made way"
    ana.hears("unsubscribed", name="category:c")
    ana.hears("unsubscribed", name="category:d")
    assert [s.scope for s in ana.state.profile.suppressions] == ["all"]
    assert ana.entries[-1].inputs["scope"] == "all"


def test_registering_out_of_order_keeps_the_order_of_registration() -> None:
    ana = Person(a_policy())
    later, earlier = Destination("b", "fcm", "2", T0), Destination("a", "fcm", "1", T0 - 1)
    for destination in (later, earlier):
        ana.decides(DestinationInput("ana", destination, False, T0, ana.source()))
    assert [d.destination_id for d in ana.state.profile.destinations] == ["a", "b"]
