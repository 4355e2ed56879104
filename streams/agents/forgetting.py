"""Erasures, around the core: which recipients were forgotten, and what goes with them.

The mark of an erasure is a state key of its own, made from the keyed hash of the id, so that it
says nothing without the id and the key. It is looked for only when nothing else is known of a
recipient, which is always so for somebody who was forgotten.

Invariants: of a forgotten recipient no part of the state is ever written; what is decided about
them is told under ``FORGOTTEN_NAME`` and never under their id; a mark ends by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from streams import tables, topics
from streams.agents.recipient_work import RecipientWork
from streams.codec import Codec, DecodeError
from streams.core.control import address_hash
from streams.core.erasure import state_of_forgotten
from streams.core.model import (
    Destination,
    Erasure,
    EventInput,
    Feedback,
    Input,
    PreferenceInput,
    Profile,
    RecipientState,
    Source,
)
from streams.core.policy import Policy
from streams.engine.api import Output, Result, StateView
from streams.partitioning import partition_for
from streams.privacy import PrivacySettings, Pseudonyms

DAY_MS = 24 * 3_600_000
OWNER = "flowstate-owner"
"""Header of a claim's tombstone: keyed hash of the recipient whose claim it takes back."""


class Forgetting:
    """Marks of erasures, for one worker's logic."""

    def __init__(self, privacy: PrivacySettings, codec: Codec, partitions: int) -> None:
        self._pseudonyms = Pseudonyms(privacy)
        self._kept_ms = privacy.forgotten_days * DAY_MS
        self._codec = codec
        self._partitions = partitions

    def read(self, value: bytes, source: Source) -> tuple[str, Input]:
        """(recipient, erasure) of a record. Raises ``DecodeError``."""
        fields = self._codec.decode("erasure", value)
        recipient_id = self._pseudonyms.unseal(fields["sealed"])
        if recipient_id is None:
            raise DecodeError("malformed", "it was sealed with another privacy.hash_key than ours")
        at_ms = max(0, min(fields["forgotten_at_ms"], source.appended_at_ms))
        return recipient_id, Erasure(recipient_id, at_ms, source, fields["lifted"])

    def mark_known(
        self, work: Iterable[RecipientWork], view: StateView, now_ms: int, result: Result
    ) -> None:
        """Looks up who of those of whom nothing is known was forgotten."""
        if not self._pseudonyms.has_key:
            return
        unknown = [mine for mine in work if mine.is_new]
        if not unknown:
            return
        keys = [self._key(mine.recipient_id) for mine in unknown]
        for mine, key, value in zip(unknown, keys, view.get_many(keys), strict=True):
            if value is None:
                continue
            since_ms = int.from_bytes(value)
            if since_ms + self._kept_ms < now_ms:
                result.changes[key] = None
            else:
                self._forget(mine, since_ms)

    def apply(
        self, mine: RecipientWork, entered: Input, now_ms: int, policy: Policy, result: Result
    ) -> bool:
        """Whether the input was about an erasure, or of somebody forgotten; then it is done."""
        if isinstance(entered, Erasure):
            self._erase(mine, entered, now_ms, policy, result)
            return True
        since_ms = mine.forgotten_since_ms
        if since_ms is None:
            return False
        if isinstance(entered, EventInput | Feedback):
            # Each gets a verdict; whatever it would make wait ends at once too.
            mine.apply(entered, now_ms, policy)
            mine.apply(Erasure(mine.recipient_id, since_ms, entered.source), now_ms, policy)
            mine.dead_letters.clear()
        elif isinstance(entered, PreferenceInput) and entered.preferences is not None:
            self._take_out_preferences(mine, result)
        return True

    def is_owner(self, recipient_id: str, headers: Iterable[tuple[str, bytes]]) -> bool:
        """Whether a claim's tombstone is about a claim of this recipient."""
        named = dict(headers).get(OWNER)
        return named is not None and named == self._pseudonyms.of(recipient_id)

    def _erase(
        self, mine: RecipientWork, erasure: Erasure, now_ms: int, policy: Policy, result: Result
    ) -> None:
        key = self._key(mine.recipient_id)
        if erasure.lifted:
            result.changes[key] = None
            if mine.forgotten_since_ms is not None:
                mine.forgotten_since_ms = None
                kept = mine.comes_back.kept if mine.comes_back is not None else Profile()
                mine.state = RecipientState(mine.recipient_id, mine.state.partition, kept)
            return
        gone = self._addresses_gone(mine, now_ms)
        mine.apply(erasure, now_ms, policy)
        self._forget(mine, erasure.at_ms)
        result.changes[key] = erasure.at_ms.to_bytes(8)
        self._take_out_preferences(mine, result)
        owner = (OWNER, self._pseudonyms.of(mine.recipient_id))
        for destination in gone:
            claim = address_hash(destination.kind, destination.address).encode()
            where = partition_for(claim, self._partitions)
            result.outputs.append(
                Output(topics.DESTINATION_CLAIMS, claim, None, where, headers=(owner,))
            )

    def _addresses_gone(self, mine: RecipientWork, now_ms: int) -> tuple[Destination, ...]:
        """Those that an erasure takes; of who comes back, the others are kept for the lift."""
        profile, comes_back = mine.state.profile, mine.comes_back
        if comes_back is None:
            return profile.destinations
        if mine.forgotten_since_ms is None:  # Else it was spared already, or there is nothing.
            comes_back.spare(profile, now_ms)
        kept = comes_back.kept.destinations
        return tuple(one for one in profile.destinations if one not in kept)

    def _take_out_preferences(self, mine: RecipientWork, result: Result) -> None:
        """Its topic is compacted: without a later record they would be there for ever."""
        if mine.comes_back is not None and mine.comes_back.has_chosen:
            return  # There is a later record, and it holds.
        raw = mine.recipient_id.encode()
        where = partition_for(raw, self._partitions)
        result.outputs.append(Output(topics.PREFERENCES, raw, None, where))

    def _forget(self, mine: RecipientWork, since_ms: int) -> None:
        mine.state = state_of_forgotten(mine.recipient_id, mine.state.partition, since_ms)
        mine.due_ms = None
        mine.forgotten_since_ms = since_ms

    def _key(self, recipient_id: str) -> bytes:
        return tables.FORGOTTEN + self._pseudonyms.of(recipient_id)
