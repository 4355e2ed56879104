"""What is due at once goes in the order of its urgency, then of its age, whatever it waited in."""

from __future__ import annotations

from streams.core.model import PreferenceInput, Preferences
from streams.core.policy import Category, DigestRule
from tests.core.build import HOUR, MAIL, MINUTE, PHONE, T0, Person, a_policy


def someone() -> Person:
    return Person(
        a_policy(
            Category("message"),
            Category("digested", digest=DigestRule("window", window_ms=HOUR)),
            Category("urgent", route="escalate", escalate_after_ms=HOUR),
        ),
        PHONE,
        MAIL,
    )


def released(ana: Person, now_ms: int = T0 + 2 * HOUR) -> list[str]:
    """Event ids of what is told when all is found due at once."""
    ana.forget_effects()
    ana.now_ms = now_ms
    ana.wakes()
    return [entry.event_id or "digest" for entry in ana.entries if entry.verdict == "delivering"]


def test_of_each_kind_the_older_goes_first() -> None:
    ana = someone()
    for number, waits in enumerate(("step", "held", "retry", "digest", "held", "step")):
        name = f"{number}-{waits}"
        if waits == "held":
            ana.gets(name, send_at_ms=T0 + HOUR)
        elif waits == "digest":
            ana.gets(name, "digested")
        elif waits == "step":
            ana.gets(name, "urgent")
        else:
            ana.gets(name)
            ana.answers(ana.deliveries[-1], "retry", retry_after_ms=HOUR)
        ana.now_ms += 1
    assert released(ana) == ["0-step", "1-held", "2-retry", "digest", "4-held", "5-step"]


def test_the_more_urgent_goes_before_the_older() -> None:
    for waits in ("held", "digest", "step", "retry"):
        ana = someone()
        ana.gets("old", send_at_ms=T0 + HOUR, priority="bulk")
        ana.now_ms += 1
        if waits == "held":
            ana.gets("new", send_at_ms=T0 + HOUR)
        elif waits == "digest":
            ana.gets("new", "digested")
        elif waits == "step":
            ana.gets("new", "urgent")
        else:
            ana.gets("new")
            ana.answers(ana.deliveries[-1], "retry", retry_after_ms=HOUR)
        assert released(ana) == ["digest" if waits == "digest" else "new", "old"]


def test_the_less_urgent_goes_after_the_younger() -> None:
    for waits in ("digest", "step", "retry"):
        ana = someone()
        if waits == "digest":
            ana.gets("old", "digested", priority="bulk")
        elif waits == "step":
            ana.gets("old", "urgent", priority="bulk")
        else:
            ana.gets("old", priority="bulk")
            ana.answers(ana.deliveries[-1], "retry", retry_after_ms=HOUR)
        ana.now_ms += 1
        ana.gets("new", send_at_ms=T0 + HOUR)
        assert released(ana) == ["new", "digest" if waits == "digest" else "old"]


def test_each_is_released_at_its_time_and_the_others_stay() -> None:
    for waits in ("held", "digest", "step", "retry"):
        ana = someone()
        for number in range(2):
            if waits == "held":
                ana.gets(f"e{number}", send_at_ms=T0 + HOUR + number)
            elif waits == "digest":
                ana.gets(f"e{number}", "digested", campaign=f"c{number}")
            elif waits == "step":
                ana.gets(f"e{number}", "urgent")
            else:
                ana.gets(f"e{number}")
                ana.answers(ana.deliveries[-1], "retry", retry_after_ms=HOUR)
            ana.now_ms += waits != "held"
        assert released(ana, T0 + HOUR - 1) == []
        assert len(released(ana, T0 + HOUR)) == 1
        assert ana.due_ms == T0 + HOUR + 1
        assert len(released(ana, T0 + HOUR + 1)) == 1
        assert ana.due_ms is None


def test_what_a_release_is_told_as() -> None:
    ana = someone()
    ana.gets("e1", send_at_ms=T0 + HOUR)
    ana.gets("e2", "urgent")
    ana.gets("e3", "digested", campaign="spring")
    ana.gets("e4", "digested", campaign="spring")
    released(ana)
    assert ana.verdicts == [
        "delivering released",
        "digest_closed digest_due",
        "delivering digest_sent",
        "delivering escalated",
    ]
    closed = ana.entries[1]
    assert closed.inputs == {"events": "2", "key": ""}
    (sent,) = (one for one in ana.deliveries if one.event_id is None)
    assert closed.digest_id == closed.subject_id == sent.notification_id
    assert all(entry.source is None for entry in ana.entries), "time caused it, no record did"


def test_a_held_step_goes_on_from_its_step() -> None:
    urgent = Category("urgent", channels=("push", "email"), route="escalate",
                      escalate_after_ms=HOUR)  # fmt: skip
    ana = Person(a_policy(urgent), PHONE, MAIL)
    ana.gets("e1", "urgent")
    ana.prefers(snooze_until_ms=T0 + 2 * HOUR)
    ana.waits(T0 + 2 * HOUR)
    assert ana.sent == [("e1", "push"), ("e1", "email")]
    assert ana.verdicts[-1] == "delivering escalated"


def test_what_an_input_makes_due_follows_it_with_its_source_known() -> None:
    ana = someone()
    ana.prefers(snooze_until_ms=T0 + HOUR)
    ana.gets("e1")
    ana.forget_effects()
    decision = ana.decides(PreferenceInput("ana", Preferences(locale="pt"), ana.source()))
    assert [entry.reason for entry in decision.entries] == ["released"]
    assert decision.entries[0].source is None
    late = someone()
    late.gets("e1", send_at_ms=T0 + MINUTE)
    late.now_ms = T0 + MINUTE
    found = late.gets("e2")
    assert [entry.source is None for entry in found.entries] == [True, False]
