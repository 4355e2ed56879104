"""Decides a recipient's recent events once more, under another catalogue, and compares.

Pure. The inputs are the records that the recorded decisions name, each at the clock of its
decision; between them everything due happens at its own time, as in the engine. They are decided
twice: under the catalogue of today, which says how far the past can be reproduced at all, and under
the other one. Only what both runs know alike is compared, and ``limits_of`` says what neither can
know.

Invariants: nothing is sent or written; a provider's answer and a receipt count only where the run
has made the delivery that they are about; an event whose record could not be reproduced under
today's catalogue is marked, never silently compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from streams.core.decide import decide
from streams.core.model import (
    EventInput,
    Feedback,
    Input,
    Profile,
    Receipt,
    RecipientState,
    Wake,
)
from streams.core.policy import Policy

WAKES_MAX = 100_000
"""Of one run: a policy under which something is due for ever must not hang a command."""
REPEATS = ("duplicate", "conflict")


class Decided(msgspec.Struct, frozen=True):
    """An input with the clock at which it was decided."""

    clock_ms: int
    input: Input


class Told(msgspec.Struct, frozen=True):
    """What an entry says, whoever kept it: the ledger or a run."""

    at_ms: int
    subject_id: str
    verdict: str
    reason: str
    event_id: str | None
    digest_id: str | None
    channels: tuple[str, ...]


class Fate(msgspec.Struct, frozen=True):
    """What became of an event."""

    what: str
    """``sent``, ``waiting``, or the verdict that ended it."""
    reason: str
    """Reason code; of what was sent, the one with which it waited before, if it did."""
    channels: tuple[str, ...] = ()
    in_digest: bool = False
    at_ms: int = 0

    @property
    def said(self) -> str:
        """In words."""
        inside = " in a digest" if self.in_digest else ""
        if self.what == "sent":
            waited = f" (after {self.reason})" if self.reason else ""
            return f"sent{inside} on {', '.join(self.channels)}{waited}"
        return f"{self.what}{inside}: {self.reason}"

    def is_like(self, other: Fate) -> bool:
        """The same but for the moment, which a worker's ticks move a little."""
        return replace(self, at_ms=0) == replace(other, at_ms=0)


class Compared(msgspec.Struct, frozen=True):
    """One event: as it was, as it is under today's catalogue, and under the other."""

    event_id: str
    category: str
    at_ms: int
    recorded: Fate
    today: Fate
    other: Fate
    is_reproduced: bool
    """Today's catalogue gives what was recorded, so that a difference is the catalogue's."""
    differs: bool
    """The other catalogue would have made another thing, or the same at another time."""


class Run(msgspec.Struct):
    """What one catalogue makes of the inputs."""

    told: list[Told]
    skipped: int = 0
    """Answers and receipts about deliveries that it never made."""
    is_cut: bool = False
    """It was ended at ``WAKES_MAX`` wake-ups."""


def run(
    recipient_id: str,
    partition: int,
    profile: Profile,
    inputs: Sequence[Decided],
    policy: Policy,
    until_ms: int,
) -> Run:
    """Decides ``inputs`` in their order, then lets time pass to ``until_ms``.

    ``profile`` is the present one: addresses and suppressions are in it from their own time on.
    """
    state = RecipientState(recipient_id, partition, Profile(preferences=profile.preferences))
    made: set[str] = set()
    result = Run([])
    due_ms: int | None = None
    wakes = 0
    for step in [*inputs, Decided(until_ms, Wake(recipient_id))]:
        while due_ms is not None and due_ms < step.clock_ms:
            if (wakes := wakes + 1) > WAKES_MAX:
                result.is_cut = True
                return result
            state = _known_by(state, profile, due_ms)
            state, due_ms = _decide(state, Wake(recipient_id), due_ms, policy, result, made)
        if not _is_about(step.input, made):
            result.skipped += 1
            continue
        state = _known_by(state, profile, step.clock_ms)
        state, due_ms = _decide(state, step.input, step.clock_ms, policy, result, made)
    return result


def _decide(
    state: RecipientState,
    entered: Input,
    now_ms: int,
    policy: Policy,
    result: Run,
    made: set[str],
) -> tuple[RecipientState, int | None]:
    decision = decide(state, entered, now_ms, policy)
    made.update(delivery.delivery_id for delivery in decision.deliveries)
    result.told += [told_of(entry, now_ms) for entry in decision.entries]
    return decision.state, decision.notify_at_ms


def _known_by(state: RecipientState, present: Profile, now_ms: int) -> RecipientState:
    """The state with the addresses and suppressions that began by ``now_ms``."""
    profile = state.profile
    known = {d.destination_id for d in profile.destinations}
    came = tuple(
        d
        for d in present.destinations
        if d.registered_at_ms <= now_ms and d.destination_id not in known
    )
    forbidden = tuple(
        s for s in present.suppressions if s.at_ms <= now_ms and s not in profile.suppressions
    )
    if not came and not forbidden:
        return state
    ordered = sorted(
        (*profile.destinations, *came), key=lambda d: (d.registered_at_ms, d.destination_id)
    )
    suppressions = (*profile.suppressions, *forbidden)
    profile = replace(profile, destinations=tuple(ordered), suppressions=suppressions)
    return replace(state, profile=profile)


def _is_about(entered: Input, made: set[str]) -> bool:
    """False for evidence about a delivery that this run has not made."""
    if isinstance(entered, Feedback):
        return entered.delivery.delivery_id in made
    if isinstance(entered, Receipt) and entered.delivery_id is not None:
        return entered.delivery_id in made
    return True


def told_of(entry: Any, at_ms: int) -> Told:
    """From a core's entry or a ledger's."""
    sent = [d["channel"] if isinstance(d, dict) else d.channel for d in entry.deliveries]
    return Told(
        at_ms, entry.subject_id, entry.verdict, entry.reason, entry.event_id, entry.digest_id,
        tuple(dict.fromkeys(sent)),
    )  # fmt: skip


def fates(told: Iterable[Told]) -> dict[str, Fate]:
    """Event id -> what became of it, from entries in their order."""
    subjects: dict[str, Fate] = {}
    events: dict[str, str] = {}
    inside: dict[str, str] = {}
    for entry in told:
        if entry.verdict == "noted" or entry.verdict in REPEATS:
            continue
        if entry.event_id is not None:
            events[entry.event_id] = entry.subject_id
        if entry.verdict == "digested" and entry.digest_id is not None:
            inside[entry.subject_id] = entry.digest_id
        elif entry.event_id is not None:
            inside.pop(entry.subject_id, None)
        subjects[entry.subject_id] = _after(subjects.get(entry.subject_id), entry)
    found: dict[str, Fate] = {}
    for event_id, subject_id in events.items():
        digest_id = inside.get(subject_id)
        if digest_id is None:
            found[event_id] = subjects[subject_id]
        else:
            found[event_id] = replace(subjects.get(digest_id, subjects[subject_id]), in_digest=True)
    return found


def _after(before: Fate | None, entry: Told) -> Fate:
    """The fate of a subject once an entry is added."""
    if entry.verdict in ("delivering", "escalating"):
        already = before.channels if before is not None and before.what == "sent" else ()
        if already:
            # A retry or a later step: when it was first sent is what counts.
            channels = tuple(sorted({*already, *entry.channels}))
            return replace(before or Fate("", ""), channels=channels)
        waited = before.reason if before is not None and before.what == "waiting" else ""
        return Fate("sent", waited, tuple(sorted(entry.channels)), at_ms=entry.at_ms)
    if entry.verdict == "retrying" and before is not None:
        return before
    if entry.verdict in ("held", "digested", "digest_closed"):
        return Fate("waiting", entry.reason, at_ms=entry.at_ms)
    return Fate(entry.verdict, entry.reason, at_ms=entry.at_ms)


def compare(
    inputs: Sequence[Decided], recorded: Iterable[Told], today: Run, other: Run
) -> list[Compared]:
    """Every event among the inputs, in their order, once."""
    was, now, then = fates(recorded), fates(today.told), fates(other.told)
    found: dict[str, Compared] = {}
    for step in inputs:
        if not isinstance(step.input, EventInput):
            continue
        event = step.input.event
        name = event.event_id
        if name in found or name not in was or name not in now or name not in then:
            continue
        found[name] = Compared(
            name, event.category, step.clock_ms, was[name], now[name], then[name],
            was[name].is_like(now[name]), now[name] != then[name],
        )  # fmt: skip
    return list(found.values())
