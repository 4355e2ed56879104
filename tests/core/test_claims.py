"""Claims of an address: who owns it, whatever order they are read in."""

from __future__ import annotations

from itertools import permutations

from msgspec.structs import replace

from streams.core.claims import decide_claim
from streams.core.model import Claim

OLD = Claim("hash", "ana", "phone", "fcm", 1)
NEW = Claim("hash", "bea", "phone", "fcm", 2)


def test_the_first_claim_takes_an_address_from_nobody() -> None:
    first = decide_claim(None, OLD)
    assert (first.owner, first.loser) == (OLD, None)


def test_a_newer_claim_takes_it_and_an_older_one_loses_it() -> None:
    taken = decide_claim(OLD, NEW)
    assert (taken.owner, taken.loser) == (NEW, OLD)
    refused = decide_claim(NEW, OLD)
    assert (refused.owner, refused.loser) == (NEW, OLD)


def test_of_ones_own_claims_the_newest_is_kept_and_nobody_loses() -> None:
    for claimed_at_ms, newest in ((0, False), (1, True), (2, True), (3_000_000_000_000, True)):
        again = replace(OLD, claimed_at_ms=claimed_at_ms, destination_id="new phone")
        kept = decide_claim(OLD, again)
        assert (kept.owner, kept.loser) == (again if newest else OLD, None)


def test_all_orders_end_with_the_same_owner() -> None:
    tied = [replace(OLD, recipient_id=name, claimed_at_ms=7) for name in ("ana", "bea", "eve")]
    for order in permutations([*tied, OLD, NEW]):
        owner = None
        for claim in order:
            owner = decide_claim(owner, claim).owner
        assert owner == tied[-1]
