"""What a mute falls on, and what of preferences can be used."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streams.core.ids import hash8
from streams.core.model import DigestItem, Notification, Preferences, QuietWindow
from streams.core.policy import Bounds, Category, DigestRule
from streams.core.preferences import channel_order, muted_actors, muted_by, usable, version_of
from tests.core.build import T0

EVENT = Notification("n", "message", "normal", T0, T0, T0 + 1, {"thread": "t1"}, "e1",
                     collapse_key="score", actor_id="bob")  # fmt: skip
ITEMS = (DigestItem("e1", T0, "bob", {}), DigestItem("e2", T0, "eve", {}))
DIGEST = replace(EVENT, event_id=None, digest_key="t1", items=ITEMS, actor_id="",
                 collapse_key=None)  # fmt: skip
BY_THREAD = DigestRule("window", key=("data.thread",))


@pytest.mark.parametrize(
    ("muted", "rule", "expected"),
    [
        ((), BY_THREAD, None),
        (("actor:bob",), None, "actor:bob"),
        (("actor:eve",), None, None),
        (("key:score",), None, "key:score"),
        (("key:t1",), None, None),
        (("key:t1",), BY_THREAD, "key:t1"),
        (("key:t2",), BY_THREAD, None),
        (("actor:bob", "key:score", "key:t1"), BY_THREAD, "key:t1"),
        (("actor:bob", "key:score"), BY_THREAD, "key:score"),
        (("bob", "score", "t1", "key:", "actor:"), BY_THREAD, None),
    ],
)
def test_an_event_is_muted_by_its_key_its_collapse_key_or_its_actor(
    muted: tuple[str, ...], rule: DigestRule | None, expected: str | None
) -> None:
    assert muted_by(EVENT, Preferences(muted=muted), rule) == expected


@pytest.mark.parametrize(
    ("muted", "expected"),
    [
        (("actor:bob",), None),
        (("actor:bob", "actor:eve"), "actor:bob"),
        (("actor:eve", "actor:bob", "actor:joe"), "actor:bob"),
        (("key:t1",), "key:t1"),
        (("actor:",), None),
    ],
)
def test_a_digest_is_muted_by_its_key_or_when_all_that_it_shows_are(
    muted: tuple[str, ...], expected: str | None
) -> None:
    chosen = Preferences(muted=muted)
    assert muted_by(DIGEST, chosen, None) == expected
    of_members = replace(DIGEST, members=hash8("e1") + hash8("e2"))
    held = None if expected == "actor:bob" else expected
    assert muted_by(of_members, chosen, None) == held, "its events leave one by one"


def test_nobody_is_muted_by_an_event_of_nobody() -> None:
    bare = replace(EVENT, collapse_key=None, actor_id="", data={})
    for muted in (("key:",), ("actor:",), ("key:None",)):
        assert muted_by(bare, Preferences(muted=muted), BY_THREAD) is None
        assert muted_by(bare, Preferences(muted=muted), None) is None


def test_muted_actors_are_known_by_their_hashes() -> None:
    chosen = Preferences(muted=("actor:bob", "key:t1", "bob", "actor:é"))
    assert muted_actors(chosen) == {hash8("bob"), hash8("é")}
    assert muted_actors(Preferences()) == set()


@pytest.mark.parametrize(
    ("start", "end", "is_usable"),
    [
        (0, 0, True),
        (0, 1440, True),
        (1440, 0, True),
        (1440, 1440, True),
        (-1, 0, False),
        (0, -1, False),
        (1441, 0, False),
        (0, 1441, False),
        (600, 60, True),
    ],
)
def test_a_window_is_within_a_day(start: int, end: int, is_usable: bool) -> None:
    window = QuietWindow(start, end)
    kept, ignored = usable(Preferences(quiet_hours=(window,)), Bounds())
    assert kept.quiet_hours == ((window,) if is_usable else ())
    assert ignored == ({} if is_usable else {"quiet_hours": "1"})


@pytest.mark.parametrize(
    ("choice", "is_usable"),
    [
        ("immediate", True),
        ("hourly", True),
        ("daily@00:00", True),
        ("daily@24:00", True),
        ("daily@24:01", False),
        ("daily@", False),
        ("daily", False),
        ("xaily@08:00", False),
        ("daily 08:00", False),
        ("weekly", False),
        ("a", False),
        ("zzz", False),
    ],
)
def test_a_choice_is_one_of_three(choice: str, is_usable: bool) -> None:
    kept, ignored = usable(Preferences(digests={"message": choice}), Bounds())
    assert kept.digests == ({"message": choice} if is_usable else {})
    assert ignored == ({} if is_usable else {"digests": "message"})


def test_what_was_ignored_is_told_and_not_at_any_length() -> None:
    names = [f"{number:03}" for number in range(99)]
    wished = Preferences(zone="Z" * 99, digests=dict.fromkeys(names, "never"))
    kept, ignored = usable(wished, Bounds())
    assert (kept.zone, kept.digests) == ("UTC", {})
    assert ignored == {"zone": "Z" * 64, "digests": ", ".join(names)[:256]}
    assert len(ignored["digests"]) == 256


def test_a_version_names_exactly_these_choices() -> None:
    first = Preferences(categories={"a": True, "b": False})
    same = Preferences(categories={"b": False, "a": True})
    assert version_of(first) == version_of(same)
    assert len(version_of(first)) == 16
    for other in (replace(first, locale="pt"), replace(first, categories={"a": True})):
        assert version_of(other) != version_of(first)


def test_an_order_names_each_channel_once() -> None:
    category = Category("like", channels=("push", "email", "sms"))
    for wished, expected in (
        (("sms",), ("sms", "push", "email")),
        (("email", "push", "email"), ("email", "push", "sms")),
        ((), ("push", "email", "sms")),
        (("chat", "webhook"), ("push", "email", "sms")),
    ):
        chosen = Preferences(channel_order={"like": wished, "other": ("sms",)})
        assert channel_order(category, chosen) == expected
