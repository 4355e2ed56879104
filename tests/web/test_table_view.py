"""Pairs of the state table as people see them: every kind of key, decoded or with why not."""

import pytest

from benchmarks.state import Lives, templates
from streams import tables
from streams.codec import Codec
from streams.core import state_codec
from streams.core.model import Activity, Claim
from streams.engine import fence
from streams.web.table_view import KINDS, TablePage, table_page

CODEC = Codec()
LIFE = dict(templates(Lives(recipients=1, at_ms=1_772_366_400_000, events_each=3))[0])
CLAIM = Claim("0123", "ann", "phone", "apns", 5)
VALUES = {
    "profile": (tables.PROFILE + b"ann", LIFE[tables.PROFILE]),
    "moving": (tables.MOVING + b"ann", LIFE[tables.MOVING]),
    "activity": (tables.ACTIVITY + b"ann", state_codec._encoder.encode(Activity())),
    "claim": (tables.CLAIM + b"0123", CODEC.encode_claim(CLAIM)),
    "forgotten": (tables.FORGOTTEN + b"\xfe" * 4, (77).to_bytes(8)),
    "fence": (tables.FENCE, fence.encode(fence.Fence(positions={"t": 3}))),
}


class View:
    """Sorted pairs in memory."""

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._pairs = sorted(pairs)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [dict(self._pairs).get(key) for key in keys]

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        later = (p for p in self._pairs if after is None or p[0] > after)
        return [p for p in later if p[0].startswith(prefix)][:limit]


def page(kind: str, value: bytes | None = None, limit: int = 10) -> TablePage:
    pairs = [(key, there) for key, there in VALUES.values()]
    if value is not None:
        pairs = [(VALUES[kind][0], value)]
    return table_page(View(pairs), CODEC, 3, kind, "", None, limit)


def test_there_is_a_kind_for_every_form_of_key() -> None:
    assert {kind.prefix[:1] for kind in KINDS.values()} == {
        form.split()[0].encode().replace(b"0", b"\0") for form, _ in tables.STATE.keys
    }
    assert set(VALUES) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "key", "part"),
    [
        ("profile", "ann", "destinations"),
        ("moving", "ann", "waiting"),
        ("activity", "ann", "seen"),
        ("claim", "0123", "recipient_id"),
        ("forgotten", "fefefefe", "since_ms"),
        ("fence", "fence", "positions"),
    ],
)
def test_a_pair_is_shown_decoded_under_its_name(kind: str, key: str, part: str) -> None:
    (row,) = page(kind).rows
    assert (row.key, row.error) == (key, "")
    assert part in row.decoded


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"forgotten"}))
def test_what_cannot_be_decoded_is_shown_with_the_reason(kind: str) -> None:
    (row,) = page(kind, b"\xc1\xc1").rows
    assert row.decoded is None
    assert "Error" in row.error
    assert row.value_hex == "c1c1"


def test_a_kind_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="profile, moving, activity, claim, forgotten, fence"):
        page("nothing")
