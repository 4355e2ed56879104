"""The order of the rules, seen from outside: what wins when several would have a say."""

from streams.core.model import Channel, QuietWindow
from streams.core.policy import Category, DigestRule, LimitRule
from tests.core.build import DAY, HOUR, MAIL, MINUTE, MOBILE, PHONE, T0, Person, a_policy

ALL_DAY = (QuietWindow(0, 1440),)


def test_an_event_goes_to_the_first_usable_channel() -> None:
    ana = Person(a_policy(Category("message", channels=("push", "email"))), MAIL, PHONE)
    ana.gets("e1", data={"title": "Hi"})
    assert ana.sent == [("e1", "push")]
    (entry,) = ana.entries
    assert (entry.verdict, entry.reason, entry.rule) == ("delivering", "routed", "routing")
    assert entry.inputs == {"cell": "policy category message"}
    assert entry.source is not None
    (delivery,) = ana.deliveries
    assert delivery.address == "token-1"
    assert delivery.data == {"title": "Hi"}
    assert (delivery.attempt, delivery.epoch, delivery.step) == (1, 0, 0)
    assert delivery.valid_until_ms == T0 + 15 * MINUTE
    assert delivery.expires_at_ms == T0 + 7 * DAY


def test_suppression_is_asked_before_preferences_and_quiet_hours() -> None:
    ana = Person(
        a_policy(Category("message")), PHONE, categories={"message": False}, quiet_hours=ALL_DAY
    )
    ana.hears("unsubscribed", name="category:message")
    ana.forget_effects()
    ana.gets("e1")
    assert ana.verdicts == ["suppressed unsubscribed"]


def test_preferences_are_asked_before_quiet_hours() -> None:
    ana = Person(
        a_policy(Category("message")), PHONE, categories={"message": False}, quiet_hours=ALL_DAY
    )
    ana.gets("e1")
    assert ana.verdicts == ["suppressed opted_out"]
    assert ana.entries[0].inputs["cell"] == "category message"


def test_quiet_hours_are_asked_before_the_digest() -> None:
    digested = Category("message", digest=DigestRule("window"))
    ana = Person(a_policy(digested), PHONE, quiet_hours=(QuietWindow(0, 13 * 60),))
    ana.gets("e1")
    ana.waits_for(3 * HOUR)
    assert ana.verdicts == [
        "held quiet_hours",
        "digested digested",
        "digest_closed digest_due",
        "delivering digest_sent",
    ]


def test_the_digest_is_asked_before_the_limit() -> None:
    limited = Category(
        "message",
        digest=DigestRule("window", window_ms=HOUR),
        limits=(LimitRule("category", 1, DAY, "drop"),),
    )
    ana = Person(a_policy(limited), PHONE)
    for name in ("e1", "e2", "e3"):
        ana.gets(name)
    ana.waits_for(2 * HOUR)
    assert ana.sent == [("digest", "push")]
    assert ana.deliveries[0].count == 3


def test_critical_passes_snooze_quiet_hours_digest_and_limit_but_counts() -> None:
    limit = (LimitRule("recipient", 1, DAY, "drop"),)
    alert = Category("alert", priority="critical", digest=DigestRule("window"))
    ana = Person(
        a_policy(alert, Category("message"), limits=limit),
        PHONE,
        quiet_hours=ALL_DAY,
        snooze_until_ms=T0 + DAY,
        muted=("actor:bob",),
    )
    ana.gets("a1", "alert", actor_id="bob")
    ana.gets("a2", "alert")
    assert ana.sent == [("a1", "push"), ("a2", "push")]
    ana.prefers()
    ana.gets("e1")
    assert ana.verdicts[-1] == "dropped rate_limited"


def test_critical_does_not_pass_a_suppression_or_an_opt_out() -> None:
    alert = Category("alert", priority="critical")
    ana = Person(a_policy(alert), PHONE, default=False)
    ana.gets("a1", "alert")
    assert ana.verdicts == ["suppressed opted_out"]
    ana.prefers()
    ana.hears("unsubscribed", name="all")
    ana.gets("a2", "alert")
    assert ana.verdicts[-1] == "suppressed unsubscribed"


def test_an_event_may_lower_its_priority_and_never_raise_it() -> None:
    alert, promo = Category("alert", priority="critical"), Category("promo", priority="bulk")
    ana = Person(a_policy(alert, promo), PHONE)
    ana.gets("a1", "alert", priority="bulk")
    ana.gets("p1", "promo", priority="critical")
    ana.gets("a2", "alert")
    assert [d.priority for d in ana.deliveries] == ["bulk", "bulk", "critical"]


def test_a_kill_switch_stops_what_it_names() -> None:
    categories = (Category("message", channels=("push", "email")), Category("other"))
    for switch, stopped in (
        ("all", True),
        ("category:message", True),
        ("campaign:spring", True),
        ("kind:fcm", False),  # e-mail is left
        ("category:other", False),
        ("campaign:autumn", False),
    ):
        policy = a_policy(*categories, kills=frozenset({switch}))
        ana = Person(policy, PHONE, MAIL)
        ana.gets("e1", campaign="spring")
        expected = "dropped killed" if stopped else "delivering routed"
        assert ana.verdicts == [expected], switch
    ana = Person(a_policy(*categories, kills=frozenset({"kind:fcm"})), PHONE)
    ana.gets("e1")
    assert ana.verdicts == ["dropped killed"]
    assert ana.entries[0].inputs["switch"] == "kind:fcm"


def test_a_category_that_was_removed_ends_in_dead_letters_wherever_it_waits() -> None:
    digested = Category("message", digest=DigestRule("window"))
    held = Category("other")
    ana = Person(a_policy(digested, held), PHONE)
    ana.gets("e1")
    ana.gets("e2", "other", send_at_ms=T0 + MINUTE)
    ana.gets("e3", "other")
    ana.answers(ana.deliveries[0], "retry")
    ana.forget_effects()
    ana.policy = a_policy(Category("left"))
    ana.waits_for(2 * HOUR)
    assert sorted(ana.verdicts) == [
        "dead_lettered unknown_category",
        "dead_lettered unknown_category",
        "dead_lettered unknown_category",
        "digest_closed digest_due",
    ]
    letters = [letter for decision in ana.decisions for letter in decision.dead_letters]
    assert [letter.reason for letter in letters] == ["unknown_category"] * 3
    assert sum(letter.delivery is not None for letter in letters) == 1
    assert ana.due_ms is None


def test_what_is_due_is_released_before_the_event_is_applied() -> None:
    limited = Category("message", limits=(LimitRule("recipient", 1, HOUR),))
    ana = Person(a_policy(limited), PHONE)
    ana.gets("e1")
    ana.gets("e2")
    ana.now_ms += HOUR  # No wake-up came: the event finds e2 due.
    ana.gets("e3")
    assert ana.sent == [("e1", "push"), ("e2", "push")]
    assert ana.verdicts[-1] == "held rate_limited"
    assert ana.entries[-1].event_id == "e3"


def late_by_an_outage() -> Person:
    """Somebody with a digest, an escalation's next step and a held event all overdue by an hour."""
    ana = Person(
        a_policy(
            Category("digested", digest=DigestRule("window", window_ms=HOUR)),
            Category("urgent", route="escalate", escalate_after_ms=5 * MINUTE),
            Category("later"),
        ),
        PHONE,
        MAIL,
    )
    ana.gets("e1", "digested")
    ana.gets("e2", "urgent")
    ana.gets("e3", "later", send_at_ms=ana.now_ms + MINUTE)
    assert ana.sent == [("e2", "push")]
    ana.now_ms += 2 * HOUR
    return ana


def test_an_opt_out_that_is_read_late_holds_for_what_became_due_before_it_was_read() -> None:
    ana = late_by_an_outage()
    ana.prefers(locale="en")  # Neither does an older word of theirs let anything go,
    ana.answers(ana.deliveries[0], "accepted")  # nor an answer that is read before it.
    ana.prefers(default=False)
    ana.wakes()
    assert ana.sent == [("e2", "push")]
    assert ana.due_ms is None


def test_a_receipt_that_is_read_late_ends_the_escalation() -> None:
    ana = late_by_an_outage()
    ana.hears("seen", delivery_id=ana.deliveries[0].delivery_id)
    ana.wakes()
    assert ("e2", "email") not in ana.sent


def test_a_withdrawal_that_is_read_late_is_not_too_late() -> None:
    ana = late_by_an_outage()
    ana.cancels("e3")
    ana.cancels("e1")
    ana.wakes()
    assert ana.sent == [("e2", "push"), ("e2", "email")]


def test_an_address_that_is_removed_late_gets_nothing() -> None:
    ana = late_by_an_outage()
    ana.removes(MAIL)
    ana.removes(PHONE)
    ana.gets("e4", "later")
    assert ana.sent == [("e2", "push")]


def test_one_delivery_for_each_address_and_with_all_for_each_channel() -> None:
    channels: tuple[Channel, ...] = ("push", "email", "sms")
    tablet = PHONE.__class__("tablet", "apns", "t2", T0 - DAY)
    first = Person(a_policy(Category("message", channels=channels)), PHONE, tablet, MAIL)
    first.gets("e1")
    assert {d.destination_id for d in first.deliveries} == {"phone", "tablet"}
    every = Person(
        a_policy(Category("message", channels=channels, route="all")), PHONE, tablet, MAIL
    )
    every.gets("e1")
    assert {d.destination_id for d in every.deliveries} == {"phone", "tablet", "mail"}
    assert len({d.delivery_id for d in every.deliveries}) == 3
    assert len({d.notification_id for d in every.deliveries}) == 1


def test_without_an_address_the_channels_are_named() -> None:
    ana = Person(a_policy(Category("message", channels=("push", "email"))), MOBILE)
    ana.gets("e1")
    assert ana.verdicts == ["suppressed no_destination"]
    assert ana.entries[0].inputs["channels"] == "push, email"


def test_what_the_recipient_said_outranks_the_lack_of_an_address() -> None:
    ana = Person(
        a_policy(Category("message", channels=("push", "email"))), channels={"email": False}
    )
    ana.gets("e1")
    assert ana.verdicts == ["suppressed opted_out"]
    assert ana.entries[0].inputs["cell"] == "channel email"
