"""Who is in a digest: places, facts, and what leaving it changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.core import members, sizes
from streams.core.ids import hash8
from streams.core.model import DigestItem, Notification, OpenDigest, packed
from tests.core.build import T0
from tests.core.profiles import tries

A, B, C, D = b"aaaaaaaa", b"bbbbbbbb", b"cccccccc", b"dddddddd"


def of(*event_ids: str) -> bytes:
    return b"".join(map(hash8, event_ids))


def an_open_digest() -> OpenDigest:
    """e1 by bob, e2 by nobody, e3 by eve, e4 by bob; the last two are shown."""
    facts = (
        members.fact(hash8("bob"), T0 + 1),
        members.fact(members.NOBODY, T0 + 2),
        members.fact(hash8("eve"), T0 + 3),
        members.fact(hash8("bob"), T0 + 4),
    )
    shown = (DigestItem("e3", T0, "eve", {"n": "3"}), DigestItem("e4", T0, "bob", {"n": "44"}))
    return OpenDigest(
        "digest", "key", "message", T0, T0, T0, "normal", T0, T0 + 4, 4, of("e1", "e2", "e3", "e4"),
        of("bob", "eve"), tuple(map(packed, shown)), sum(map(sizes.item_bytes, shown)), None,
        b"".join(facts),
        {"score": "e1", "price": "e3", "lost": "e9"},
    )  # fmt: skip


def a_closed_digest() -> Notification:
    opened = an_open_digest()
    return Notification(
        "digest", "message", "normal", T0, T0, T0 + 4, {"n": "44"}, count=4, actors=2,
        items=opened.shown, members=opened.members, member_facts=opened.member_facts,
        collapse=opened.collapse,
    )  # fmt: skip


def test_a_fact_is_an_actor_and_an_expiry() -> None:
    assert members.fact(A, 258) == A + bytes(6) + b"\x01\x02"
    assert members.fact(members.NOBODY, 1) == bytes(15) + b"\x01"


def test_a_place_is_a_whole_entry_and_not_across_two() -> None:
    across = b"ab" * 8  # "babababa" lies across the two entries "abababab".
    assert members.place(across, b"babababa") == -1
    assert members.place(across + b"babababa", b"babababa") == 2
    assert members.place(A + B + C, A) == 0
    assert members.place(A + B + C, B) == 1
    assert members.place(A + B + C, C) == 2
    assert members.place(A + B + C, D) == -1
    assert members.place(b"", A) == -1


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 3))
@tries(200)
def test_a_place_is_where_a_list_has_it(hashes: list[int], wanted: int) -> None:
    """Of few different bytes, so that hits across entries are frequent."""
    names = (b"abababab", b"babababa", b"aaaaaaaa", b"aaaaaaab")
    expected = hashes.index(wanted) if wanted in hashes else -1
    assert members.place(b"".join(names[one] for one in hashes), names[wanted]) == expected


def test_the_position_of_an_event() -> None:
    assert members.position(of("e1", "e2"), "e2") == 1
    assert members.position(of("e1", "e2"), "e3") == -1
    assert members.position(b"", "e3") == -1


def test_digests_of_release_1_have_no_facts() -> None:
    assert members.has_facts(b"", b"")
    assert members.has_facts(bytes(8), bytes(16))
    assert not members.has_facts(bytes(8), b"")
    assert not members.has_facts(bytes(8), bytes(32))


def test_actors_are_distinct_and_in_the_order_of_their_first_event() -> None:
    facts = b"".join(members.fact(one, 5) for one in (B, members.NOBODY, A, B, C, A))
    assert members.distinct_actors(facts) == B + A + C
    assert members.distinct_actors(b"") == b""


def test_the_first_expiry_is_the_earliest() -> None:
    facts = members.fact(A, 7) + members.fact(B, 3) + members.fact(C, 5)
    assert members.first_expiry_ms(facts) == 3
    assert members.first_expiry_ms(b"") is None


def test_unwanted_are_the_expired_and_the_muted() -> None:
    facts = an_open_digest().member_facts
    assert members.unwanted(facts, (), T0) == set()
    assert members.unwanted(facts, (), T0 + 2) == {0, 1}, "at its expiry it has expired"
    assert members.unwanted(facts, {hash8("bob")}, T0) == {0, 3}
    assert members.unwanted(facts, {hash8("eve")}, T0 + 1) == {0, 2}
    assert members.unwanted(b"", {hash8("eve")}, T0 + 1) == set()


def test_who_leaves_an_open_digest_takes_all_of_theirs_along() -> None:
    opened = an_open_digest()
    left = members.leave_open(opened, {0, 2})
    facts = opened.member_facts
    assert left == replace(
        opened,
        count=2,
        members=of("e2", "e4"),
        member_facts=facts[16:32] + facts[48:64],
        actors=of("bob"),
        items=opened.items[1:],
        size_bytes=sizes.item_bytes(opened.shown[1]),
        collapse={},
    )
    of_release_1 = replace(opened, member_facts=b"")
    assert members.leave_open(of_release_1, {1}).members == of("e1", "e3", "e4")
    assert members.leave_open(opened, {3}).collapse == {"score": "e1", "price": "e3"}


def test_who_leaves_a_closed_digest_takes_all_of_theirs_along() -> None:
    closed = a_closed_digest()
    left = members.leave_closed(closed, {3})
    assert left == replace(
        closed,
        count=3,
        members=of("e1", "e2", "e3"),
        member_facts=closed.member_facts[:48],
        actors=2,
        items=closed.items[:1],
        data={"n": "3"},
        collapse={"score": "e1", "price": "e3"},
    )
    assert members.leave_closed(closed, {0}).data == {"n": "44"}, "the last one's"
    nobody_shown = members.leave_closed(closed, {2, 3})
    assert (nobody_shown.count, nobody_shown.actors, nobody_shown.items) == (2, 1, ())
    assert nobody_shown.data == {"n": "44"}, "of those who stay nothing else is known"


def test_without_facts_the_actors_stay_as_counted() -> None:
    opened = members.leave_open(replace(an_open_digest(), member_facts=b""), {0})
    assert (opened.count, opened.members) == (3, of("e2", "e3", "e4"))
    assert (opened.member_facts, opened.actors) == (b"", of("bob", "eve"))
    closed = members.leave_closed(replace(a_closed_digest(), member_facts=b"", actors=9), {0})
    assert (closed.count, closed.actors, closed.member_facts) == (3, 9, b"")
