"""A successor must never take a sent delivery for an unsent one: owners that die at random."""

from __future__ import annotations

from random import Random, SystemRandom

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.agents import deliver_positions
from streams.agents.deliver_positions import AHEAD_MIN, Entry, TopicPositions
from streams.agents.deliver_terms import Answered, Mark, decode_mark, encode_mark


def is_dead(offset: int) -> bool:
    """Some records cannot be read: they end without an outcome, alone or many in a row."""
    return offset % 7 == 3 or 40 <= offset < 52


class Owners(RuleBasedStateMachine):
    """One topic, its log, the log of outcomes, and owners that come and go."""

    @initialize(
        ahead_max=st.integers(1, 9),
        ahead_min=st.integers(1, 3),
        slack=st.integers(0, 4),
        gaps=st.lists(st.integers(1, 3), min_size=10, max_size=40),
    )
    def begin(self, ahead_max: int, ahead_min: int, slack: int, gaps: list[int]) -> None:
        self.ahead_max, self.slack = ahead_max, slack
        deliver_positions.AHEAD_MIN = ahead_min
        self.future = [sum(gaps[: n + 1]) - gaps[0] for n in range(len(gaps))]
        self.log: list[int] = []
        self.outcomes: list[int] = []
        self.sent: set[int] = set()
        self.in_group: tuple[int, str] | None = None
        self.doubted_since_clean = False
        self.take_over()

    def teardown(self) -> None:
        deliver_positions.AHEAD_MIN = AHEAD_MIN

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
            if is_dead(offset):
                entry, _ = self.positions.take(offset, "")
                self.positions.leave(entry, len(self.outcomes))
                continue
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
            self.positions.begins(entry)
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

    @rule(actions=st.lists(st.integers(0, 199), min_size=5, max_size=40))
    def work(self, actions: list[int]) -> None:
        """An owner's ordinary life, in any order."""
        for action in actions:
            what, which = action % 5, action // 5
            if what == 0 and self.future:
                self.append()
            elif what == 1:
                self.take(1 + which % 4)
            elif what == 2 and self.waiting:
                self.send(which)
            elif what == 3 and self.under_way:
                self.answer(which)
            elif what == 4:
                self.commit()

    @rule()
    def commit(self, clean: bool = False) -> None:
        position, mark = self.positions.to_commit(len(self.outcomes), clean)
        self.in_group = (position, encode_mark(mark))
        self.positions.committed(mark)
        for offset in self.log:
            ended = offset in self.outcomes or is_dead(offset)
            assert offset >= position or ended, "nothing unanswered is passed"

    @rule(sends=st.integers(0, 3))
    def die_while_a_mark_is_being_committed(self, sends: int) -> None:
        """The mark was made, more was begun, the mark arrived, nobody heard of it."""
        position, mark = self.positions.to_commit(len(self.outcomes), False)
        for _ in range(sends):
            if self.waiting:
                self.send(0)
        self.in_group = (position, encode_mark(mark))
        self.take_over()

    @rule(sends=st.integers(0, 3))
    @precondition(lambda self: self.waiting)
    def a_mark_is_made_and_does_not_arrive(self, sends: int) -> None:
        self.positions.to_commit(len(self.outcomes), False)
        for _ in range(sends):
            if self.waiting:
                self.send(0)
        self.take_over()

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
        """The oldest waiting record can always go, once commits have named it."""
        if self.waiting and not self.under_way:
            assert self.positions.is_inside(self.waiting[0])
            for _ in range(6):
                if self.positions.may_send(self.waiting[0]):
                    return
                self.commit()
            raise AssertionError("no commit lets it go")


LIVES = 4_000
WORK = ("take", "send", "send", "send", "answer", "commit", "append", "append")
ENDS = ("die", "die_while_a_mark_is_being_committed", "a_mark_is_made_and_does_not_arrive")


def live(random: Random) -> None:
    """Owners that work for a while before they end: what a uniform choice of steps seldom does."""
    owners = Owners()
    gaps = [random.choice((1, 1, 2)) for _ in range(60)]
    owners.begin(random.randint(1, 12), random.randint(1, 2), random.randint(0, 4), gaps)
    for _ in range(random.randint(2, 4)):
        for _ in range(random.randint(1, 50)):
            what = random.choice(WORK)
            if what == "take":
                owners.take(random.randint(1, 8))
            elif what == "send" and owners.waiting:
                owners.send(random.choice((0, 0, 0, random.randint(0, 50))))
            elif what == "answer" and owners.under_way:
                owners.answer(random.randint(0, 50))
            elif what == "commit":
                owners.commit()
            elif what == "append" and owners.future:
                owners.append()
        owners.no_one_waits_for_ever()
        end = random.choice(ENDS)
        if end == "die":
            owners.die()
        elif end == ENDS[1] or owners.waiting:
            getattr(owners, end)(random.randint(0, 8))
    owners.teardown()


def test_thousands_of_owners_that_work_and_die() -> None:
    seed = random_seed()
    try:
        for number in range(LIVES):
            live(Random(f"{seed}/{number}"))
    except AssertionError as error:
        error.add_note(f"seed {seed}, life {number}")
        raise


def random_seed() -> int:
    """Another one for each run; shown when it fails."""
    return SystemRandom().randrange(1 << 32)


TestOwners = Owners.TestCase
TestOwners.settings = settings(max_examples=300, stateful_step_count=12, deadline=None)


def unsure_after_death(positions: TopicPositions, end: int, outcomes: dict[int, Answered]) -> int:
    """How many of the records up to ``end`` a successor takes for possible repeats."""
    position, mark = positions.to_commit(len(outcomes), False)
    after = TopicPositions(position, end, mark, outcomes, 128, 16)
    return sum(after.take(offset, str(offset))[1] == "ambiguous" for offset in range(position, end))


def committed(positions: TopicPositions, outcomes_end: int) -> None:
    positions.committed(positions.to_commit(outcomes_end, False)[1])


def test_a_worker_that_dies_while_its_provider_is_away_leaves_a_handful_in_doubt() -> None:
    positions = TopicPositions(0, 0, Mark(0, True, 0, 0), {}, 128, 16)
    for offset in range(400):
        positions.take(offset, str(offset))
        committed(positions, 0)
    assert unsure_after_death(positions, 400, {}) <= AHEAD_MIN


def test_a_busy_worker_has_a_wide_window_and_leaves_about_what_was_under_way() -> None:
    positions = TopicPositions(0, 0, Mark(0, True, 0, 0), {}, 128, 16)
    entries = [positions.take(offset, str(offset))[0] for offset in range(400)]
    outcomes: dict[int, Answered] = {}
    waiting, under_way, rounds = entries[:], list[Entry](), 0
    while len(waiting) > 100:
        rounds += 1
        committed(positions, len(outcomes))
        while waiting and len(under_way) < 40 and positions.may_send(waiting[0]):
            positions.begins(waiting[0])
            under_way.append(waiting.pop(0))
        for entry in under_way[:30]:
            outcomes[entry.offset] = Answered(len(outcomes), str(entry.offset))
            positions.answer(entry, len(outcomes) - 1)
        del under_way[:30]
    assert rounds <= 14, "the window opens in a few commits"
    tail = {offset: answer for offset, answer in outcomes.items() if offset < 400}
    assert len(under_way) <= unsure_after_death(positions, 400, tail) <= 2 * 40 + 2 * AHEAD_MIN


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


def test_a_predecessor_is_let_go_behind_the_marker_of_its_last_transaction() -> None:
    """Nothing else may come on a quiet topic; and until then its mark would be handed on."""
    inherited = Mark(100, False, 4, 2)
    positions = TopicPositions(0, 2, inherited, {}, ahead_max=9, slack=2)
    entry, standing = positions.take(0, "a")
    assert standing == "ambiguous"
    positions.answer(entry, 1_000)
    position, mark = positions.to_commit(outcomes_end=1_001, clean=True)
    assert (position, mark.clean, mark.outcomes_from) == (1, False, 100), (
        "the marker may be a record"
    )
    positions.moved_past(2)
    position, mark = positions.to_commit(outcomes_end=5_000, clean=True)
    assert (position, mark) == (2, Mark(5_000, True, 0, 2))
