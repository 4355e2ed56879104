"""Which events of a run are worth explaining."""

from __future__ import annotations

from streams.local.stories import Happened, Story, pick


def test_one_of_each_kind_the_first_by_id() -> None:
    events = {
        "e3": Happened("ann", [("held", "quiet_hours"), ("delivering", "released")]),
        "e2": Happened("bob", [("held", "quiet_hours"), ("suppressed", "opted_out")]),
        "e1": Happened("cleo", [("delivering", "routed"), ("retrying", "retry_scheduled")]),
        "e4": Happened("dora", [("held", "quiet_hours"), ("delivering", "released")]),
    }
    assert list(pick(events)) == [
        Story("ann", "e3", "held over the night, then sent"),
        Story("bob", "e2", "not wanted"),
        Story("cleo", "e1", "refused by the provider at first"),
    ]


def test_a_run_without_stories_has_none() -> None:
    assert list(pick({"e1": Happened("ann", [("delivering", "routed")])})) == []
