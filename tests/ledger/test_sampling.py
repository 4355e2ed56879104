"""Sampling of bulk categories: all of a notification or nothing, and counts that stay exact."""

from __future__ import annotations

import pytest

from streams.agents.ledger_filing import rows_of
from streams.ledger.sampling import Sampling
from tests.ledger.build import CODEC, decision, entry, outcome, receipt, subject_of

HALF = Sampling(0.5, {"promo"})


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_share_holds_and_each_notification_is_whole_or_gone(share: float) -> None:
    sampling = Sampling(share, {"promo"})
    kept = 0
    for number in range(2_000):
        event_id = f"e{number}"
        records = [
            decision(0, entry("held", event_id, category="promo")),
            decision(1, entry("suppressed", event_id, category="promo")),
            outcome(2, category="promo", notification_id=subject_of(event_id)),
        ]
        found, _ = rows_of(CODEC, records, sampling)
        assert len({bool(rows.key) for rows in found}) == 1
        assert all(sum(rows.counts.values()) == 1 for rows in found), "counted in any case"
        kept += bool(found[0].key)
    assert abs(kept / 2_000 - share) < 0.04


def test_other_categories_and_receipts_are_always_kept() -> None:
    records = [
        record
        for number in range(50)
        for record in (
            decision(0, entry("held", f"e{number}", category="message")),
            outcome(0, notification_id=subject_of(f"e{number}")),
            receipt(0, event_id=f"e{number}"),
        )
    ]
    found, unreadable = rows_of(CODEC, records, Sampling(0.0, {"promo"}))
    assert unreadable == 0
    assert all(rows.key for rows in found)


def test_a_decision_about_several_is_kept_for_any_of_them() -> None:
    out = next(f"e{n}" for n in range(99) if not HALF._is_drawn(subject_of(f"e{n}")))
    one = entry("held", out, category="promo")
    both = decision(0, one, entry("held", "e1", category="message"))
    (alone,), _ = rows_of(CODEC, [decision(0, one)], HALF)
    (together,), _ = rows_of(CODEC, [both], HALF)
    assert (alone.key, bool(together.key)) == (b"", True)
