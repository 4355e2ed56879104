"""A successor must never take a sent delivery for an unsent one: owners that die at random."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.agents.deliver_positions import (
    Answered,
    Entry,
    Mark,
    TopicPositions,
    decode_mark,
    encode_mark,
)


class Owners(RuleBasedStateMachine):
    """One topic, its log, the log of outcomes, and owners that come and go."""

    @initialize(
        ahead_max=st.integers(1, 5),
        slack=st.integers(0, 4),
        gaps=st.lists(st.integers(1, 3), min_size=10, max_size=40),
    )
    def begin(self, ahead_max: int, slack: int, gaps: list[int]) -> None:
        self.ahead_max, self.slack = ahead_max, slack
        self.future = [sum(gaps[: n + 1]) - gaps[0] for n in range(len(gaps))]
        self.log: list[int] = []
        self.outcomes: list[int] = []
        self.sent: set[int] = set()
        self.in_group: tuple[int, str] | None = None
        self.doubted_since_clean = False
        self.take_over()

    def take_over(self) -> None:
        end = self.log[-1] + 1 if self.log else 0
        position, metadata = self.in_group or (0, "")
        mark = decode_mark(metadata) or Mark(len(self.outcomes), True, 0, position)
        tail = {
            offset: Answered(at, str(offset))
            for at, offset in enumerate(self.outcomes)
            if at >= mark.outcomes_from
        }
        self.positions = TopicPositions(position, end, mark, tail, self.ahead_max, self.slack)
        self.untaken = [offset for offset in self.log if offset >= position]
        self.waiting: list[Entry] = []
        self.under_way: list[Entry] = []
        self.was_clean = mark.clean
        self.commit()

    @rule()
    @precondition(lambda self: self.future)
    def append(self) -> None:
        offset = self.future.pop(0)
        self.log.append(offset)
        self.untaken.append(offset)

    @rule(count=st.integers(1, 6))
    def take(self, count: int) -> None:
        for _ in range(min(count, len(self.untaken))):
            offset = self.untaken.pop(0)
            entry, standing = self.positions.take(offset, str(offset))
            if standing == "answered":
                assert offset in self.outcomes
                continue
            assert offset not in self.outcomes, "what is answered is known to be"
            if standing == "unsent":
                assert offset not in self.sent, "what was sent is never taken for unsent"
            self.waiting.append(entry)

    @rule(which=st.integers(0, 50))
    @precondition(lambda self: self.waiting)
    def send(self, which: int) -> None:
        entry = self.waiting[which % len(self.waiting)]
        if self.positions.may_send(entry):
            self.waiting.remove(entry)
            self.under_way.append(entry)
            self.sent.add(entry.offset)

    @rule(which=st.integers(0, 50))
    @precondition(lambda self: self.under_way)
    def answer(self, which: int) -> None:
        entry = self.under_way.pop(which % len(self.under_way))
        self.outcomes.append(entry.offset)
        self.positions.answer(entry, len(self.outcomes) - 1)

    @rule(which=st.integers(0, 50))
    @precondition(lambda self: self.under_way)
    def answer_and_die_before_noticing(self, which: int) -> None:
        entry = self.under_way[which % len(self.under_way)]
        self.outcomes.append(entry.offset)
        self.take_over()

    @rule()
    def commit(self, clean: bool = False) -> None:
        position, mark = self.positions.to_commit(len(self.outcomes), clean)
        self.in_group = (position, encode_mark(mark))
        self.positions.committed(mark)
        for offset in self.log:
            assert offset >= position or offset in self.outcomes, "nothing unanswered is passed"

    @rule()
    def die(self) -> None:
        self.take_over()

    @rule()
    def stop_gracefully(self) -> None:
        for entry in self.under_way:
            self.outcomes.append(entry.offset)
            self.positions.answer(entry, len(self.outcomes) - 1)
        self.commit(clean=True)
        self.take_over()

    @invariant()
    def no_one_waits_for_ever(self) -> None:
        """The oldest waiting record can always go, once a commit has named it."""
        if self.waiting and not self.under_way:
            assert self.positions.is_inside(self.waiting[0])


TestOwners = Owners.TestCase
TestOwners.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def answer_all(positions: TopicPositions, entries: list[Entry]) -> None:
    for at, entry in enumerate(entries):
        positions.answer(entry, at)


def test_after_a_clean_stop_nothing_is_in_doubt() -> None:
    positions = TopicPositions(0, 0, Mark(0, True, 0, 0), {}, 10, 0)
    entries = [positions.take(offset, "")[0] for offset in range(6)]
    positions.answer(entries[0], 0)
    positions.answer(entries[3], 1)
    position, mark = positions.to_commit(2, clean=True)
    assert (position, mark.clean, mark.outcomes_from) == (1, True, 1)
    tail = {3: Answered(1, "")}
    after = TopicPositions(position, 6, mark, tail, 10, 0)
    assert [after.take(offset, "")[1] for offset in range(1, 7)] == [
        "unsent", "unsent", "answered", "unsent", "unsent", "unsent",
    ]  # fmt: skip


def test_a_clean_stop_does_not_launder_a_predecessor_s_doubt() -> None:
    dirty = Mark(0, False, 3, 10)
    positions = TopicPositions(5, 20, dirty, {}, 3, 0)
    assert not positions.to_commit(0, clean=True)[1].clean
    standings = [positions.take(offset, "")[1] for offset in range(5, 9)]
    assert standings == ["ambiguous", "ambiguous", "ambiguous", "unsent"]
    assert not positions.to_commit(0, clean=True)[1].clean


def test_what_came_after_the_successor_began_is_not_in_doubt() -> None:
    positions = TopicPositions(5, 5, Mark(0, False, 100, 200), {}, 100, 0)
    assert positions.take(5, "")[1] == "unsent"


def test_what_no_committed_mark_named_is_not_in_doubt() -> None:
    positions = TopicPositions(5, 50, Mark(0, False, 100, 7), {}, 100, 0)
    assert [positions.take(n, "")[1] for n in (5, 6, 7)] == ["ambiguous", "ambiguous", "unsent"]


def test_an_answer_to_another_delivery_at_that_offset_is_no_answer() -> None:
    tail = {5: Answered(0, "another")}
    positions = TopicPositions(5, 50, Mark(0, True, 0, 0), tail, 100, 0)
    assert positions.take(5, "this")[1] == "unsent"


def test_metadata_that_is_not_ours_is_no_mark() -> None:
    assert decode_mark("") is None
    assert decode_mark("set by hand") is None
    mark = Mark(12, False, 128, 99)
    assert decode_mark(encode_mark(mark)) == mark
    assert len(encode_mark(mark)) < 200
