"""Changes of preferences, made where the state is: one at a time for each recipient.

Under a lock the version is compared, the record is written to ``preferences`` (acknowledged), and
remembered until the state has it, so that the next reader and the next writer see it at once. The
record carries the version that it replaces in the header ``flowstate-if-match``: the decide step
refuses it when that is not what it holds (a producer was faster, a dying owner wrote late). Then a
conditional change is answered with 412, and any other is made again from what is there now.

Invariants: nothing here changes state but through the log; a change that is answered with success
is acknowledged by all in-sync replicas; a partition is given up when no change of it is under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from streams import topics
from streams.agents.decide import IF_MATCH, explain_state
from streams.api.problems import ProblemError, refuse
from streams.api.settings import DecideWebSettings
from streams.codec import Codec
from streams.core.model import Preferences, RecipientState, struct_to_dict
from streams.core.policy import Policy
from streams.engine.api import StateView
from streams.engine.log_writer import LogWriter, OutRecord, Placed
from streams.engine.settings import EngineSettings
from streams.web import preference_rules
from streams.web.pending import PendingChanges
from streams.web.state_documents import PreferencesChange

CHANGES_MAX = 3
"""Times that an unconditional change is made again because somebody else's came first."""
APPLIED_POLL_MS = 10


class Owned:
    """One partition of this worker: its state, and the changes of it that are under way."""

    def __init__(
        self, partition: int, view: StateView, is_ready: Callable[[], bool], pending: PendingChanges
    ) -> None:
        self.partition = partition
        self.view = view
        self._is_ready = is_ready
        self._pending = pending
        self._changing = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_leaving = False

    @property
    def answers(self) -> bool:
        """Whether its state may be read and changed now."""
        return not self.is_leaving and self._is_ready()

    def state(self, recipient_id: str) -> RecipientState:
        """A recipient as the log has them so far: with what is acknowledged and on its way."""
        state, _ = self.present(recipient_id)
        return state

    def present(self, recipient_id: str) -> tuple[RecipientState, bool]:
        """(recipient with what is acknowledged, whether the stored state has it all)."""
        state = explain_state(self.view, self.partition, recipient_id).state
        stored = preference_rules.etag(state.profile.preferences)
        pending = self._pending.get(self.partition, recipient_id, stored)
        return (state, True) if pending is None else (with_preferences(state, pending), False)

    def stored_version(self, recipient_id: str) -> str:
        """Version of the preferences in the stored state."""
        state = explain_state(self.view, self.partition, recipient_id).state
        return preference_rules.etag(state.profile.preferences)

    def __enter__(self) -> None:
        self._changing += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self._changing -= 1
        if not self._changing:
            self._idle.set()

    async def leave(self) -> None:
        """Takes no more changes, and waits for those under way."""
        self.is_leaving = True
        await self._idle.wait()


def with_preferences(state: RecipientState, preferences: Preferences) -> RecipientState:
    """The recipient, had they chosen so."""
    profile = state.profile
    new = type(profile)(profile.version, preferences, profile.destinations, profile.suppressions)
    return RecipientState(state.recipient_id, state.partition, new, state.activity, state.waiting)


class PreferenceOwner:
    """Makes changes for one worker."""

    def __init__(
        self,
        settings: DecideWebSettings,
        engine: EngineSettings,
        codec: Codec,
        policy: Callable[[], Policy],
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._policy = policy
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.pending = PendingChanges(settings.pending_max)
        self.writer = LogWriter(
            engine,
            [topics.PREFERENCES],
            "decide-pages",
            ack_ms_max=settings.ack_ms_max,
            linger_ms=0,
        )

    async def change(
        self, owned: Owned, recipient_id: str, change: PreferencesChange
    ) -> tuple[RecipientState, bool]:
        """(recipient with the change made, whether the stored state has it already).

        Raises ``ProblemError``: 412 for another version, 422 for what cannot be chosen, 503.
        """
        lock = self._locks.setdefault(recipient_id, asyncio.Lock())
        with owned:
            async with lock:
                return await self._change(owned, recipient_id, change)

    async def _change(
        self, owned: Owned, recipient_id: str, change: PreferencesChange
    ) -> tuple[RecipientState, bool]:
        if (change.replace is None) == (change.merge is None):
            raise refuse("malformed", "Exactly one of replace and merge is expected.")
        for _ in range(CHANGES_MAX):
            state, is_applied = owned.present(recipient_id)
            present = state.profile.preferences
            version = preference_rules.etag(present)
            if change.if_match is not None and version not in change.if_match:
                raise refuse(
                    "precondition_failed",
                    "Read the preferences again, apply the change to what they are now, and send"
                    " it with the new ETag.",
                    headers={"ETag": version},
                )
            new = preference_rules.changed(
                present, change.replace, change.merge, change.at_ms, self._policy()
            )
            if isinstance(new, list):
                raise refuse("invalid", new[0].detail, new)
            if preference_rules.same_choices(new, present):
                return state, is_applied
            stored = owned.stored_version(recipient_id)
            await self._write(owned.partition, recipient_id, version, new)
            self.pending.add(owned.partition, recipient_id, stored, new)
            state, is_applied = await self._until_applied(owned, recipient_id)
            if state.profile.preferences == new:
                return state, is_applied
        raise self._not_now("Others change these preferences all the time; send it again.")

    async def _write(
        self, partition: int, recipient_id: str, replaced: str, new: Preferences
    ) -> None:
        mapping = {"recipient_id": recipient_id, **struct_to_dict(new)}
        record = OutRecord(
            topics.PREFERENCES,
            partition,
            recipient_id.encode(),
            self._codec.encode("preference", mapping),
            [(IF_MATCH, replaced.encode())],
        )
        (place,) = await self.writer.write([record])
        if not isinstance(place, Placed):
            raise self._not_now("Kafka did not acknowledge the change; send it again.")

    def _not_now(self, why: str) -> ProblemError:
        return refuse("unavailable", why, retry_after_s=self._settings.retry_after_s)

    async def _until_applied(self, owned: Owned, recipient_id: str) -> tuple[RecipientState, bool]:
        deadline = time.monotonic() + self._settings.applied_ms_max / 1000
        while True:
            state, is_applied = owned.present(recipient_id)
            if is_applied or owned.is_leaving or time.monotonic() >= deadline:
                return state, is_applied
            await asyncio.sleep(APPLIED_POLL_MS / 1000)
