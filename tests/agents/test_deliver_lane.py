"""The order of sending, on a lane whose provider answers when the test says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.agents.deliver_item import Item
from streams.agents.deliver_lane import Lane
from streams.agents.deliver_positions import Entry
from streams.core.model import Delivery
from streams.sinks.base import Accepted, Answer, Retry, Wait
from streams.templates.rendered import Rendered, RenderFailed
from tests.agents.delivering import delivery
from tests.eventually import eventually

NOW_MS = 1_000_000


class Host:
    """What a runner gives a lane, with everything in the test's hands."""

    def __init__(self) -> None:
        self.now = NOW_MS
        self.finished: list[tuple[int, str]] = []
        self.killed: set[str] = set()
        self.closed = False
        self.window = 1_000
        self.owns = True
        self.errors: list[BaseException] = []

    def now_ms(self) -> int:
        return self.now

    def leased(self) -> bool:
        return self.owns

    def may_begin(self, item: Item) -> bool:
        return not self.closed and item.entry.rank <= self.window

    def begins(self, item: Item) -> None:
        assert self.may_begin(item)

    def killed_by(self, delivery: Delivery) -> str | None:
        return "campaign:x" if delivery.campaign in self.killed else None

    def render(self, delivery: Delivery) -> Rendered | RenderFailed:
        if delivery.template == "broken":
            return RenderFailed("template_error", "x")
        return Rendered("t", "b", "s")

    def finish(self, item: Item, answer: Answer) -> None:
        self.finished.append((number(item.delivery), answer.outcome.reason))

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)


class Sender:
    """A dispatcher whose answers the test releases."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.wait: Wait | None = None
        self.alone: set[int] = set()
        self.released = 0

    def reserve(self, delivery: Delivery, now_ms: int) -> Any:
        if self.wait is not None:
            return self.wait
        if number(delivery) in self.alone:
            self.alone.discard(number(delivery))
            return Wait(5, "pace", alone=True)
        return self

    name = "sender"

    def release(self, provider: Any) -> None:
        self.released += 1

    async def send(self, provider: Any, delivery: Delivery, rendered: Rendered) -> Answer:
        self.began.append(number(delivery))
        future = self.waiting[number(delivery)] = asyncio.get_running_loop().create_future()
        return Answer(await future, "sender")

    async def answer(self, which: int, outcome: Any = None) -> None:
        await eventually(lambda: which in self.waiting, 5)
        self.waiting.pop(which).set_result(outcome or Accepted())
        await asyncio.sleep(0)


def number(delivery: Delivery) -> int:
    return int(delivery.delivery_id, 16)


class Setting:
    def __init__(self, wall: bool = True, collapse: bool = True) -> None:
        self.host, self.sender = Host(), Sender()
        self.lane = Lane(self.host, self.sender, wall, collapse)  # type: ignore[arg-type]

    def add(self, which: int, doubtful: bool = False, **changes: Any) -> None:
        changes.setdefault("recipient_id", "one")
        entry = Entry(which, which)
        entry.doubtful = doubtful
        some = delivery(which, "sms", **changes)
        self.lane.add(Item(some, "t", entry, critical=some.priority == "critical"))

    async def began(self, *which: int) -> None:
        await eventually(lambda: self.sender.began == list(which), 5)


@pytest.fixture
async def set_up() -> Setting:
    return Setting()


async def test_a_recipient_s_next_waits_for_the_answer_others_pass(set_up: Setting) -> None:
    for which, recipient in ((1, "one"), (2, "one"), (3, "two"), (4, "one")):
        set_up.add(which, recipient_id=recipient)
    set_up.lane.pump()
    await set_up.began(1, 3)
    await set_up.sender.answer(1, Retry("later"))
    await set_up.began(1, 3, 2)
    await set_up.sender.answer(2)
    await set_up.began(1, 3, 2, 4)
    assert set_up.host.finished == [(1, "later"), (2, "accepted")]


async def test_what_waited_behind_goes_back_to_its_place(set_up: Setting) -> None:
    """At the front, a late one outside the window would keep those before it from moving it on."""
    for which, recipient in ((1, "one"), (2, "two"), (3, "two"), (4, "three"), (5, "one")):
        set_up.add(which, recipient_id=recipient)
    set_up.lane.pump()
    await eventually(lambda: set_up.sender.began == [1, 2, 4], 5)
    set_up.host.window = 2
    await set_up.sender.answer(2)
    await set_up.sender.answer(1)
    await eventually(lambda: len(set_up.host.finished) == 2, 5)
    set_up.host.window = 3
    set_up.lane.pump()
    await eventually(lambda: set_up.sender.began == [1, 2, 4, 3], 5)
    set_up.host.window = 5
    set_up.lane.pump()
    await eventually(lambda: set_up.sender.began == [1, 2, 4, 3, 5], 5)


async def test_what_is_critical_goes_first_also_behind_the_same_recipient(set_up: Setting) -> None:
    for which in (1, 2, 3):
        set_up.add(which)
    set_up.lane.pump()
    set_up.add(4, priority="critical")
    set_up.lane.pump()
    await set_up.began(1)
    await set_up.sender.answer(1)
    await set_up.began(1, 4)
    await set_up.sender.answer(4)
    await set_up.began(1, 4, 2)


async def test_a_newer_one_with_the_same_key_replaces_one_that_waits(set_up: Setting) -> None:
    for which, key in ((1, "k"), (2, "k"), (3, "other"), (4, "k")):
        set_up.add(which, collapse_key=key)
    set_up.lane.pump()
    assert set_up.host.finished == [(1, "collapsed"), (2, "collapsed")]
    await set_up.began(3)
    await set_up.sender.answer(3)
    await set_up.began(3, 4)
    set_up.add(5, collapse_key="k")
    assert (4, "collapsed") not in set_up.host.finished, "what is under way is not replaced"


async def test_in_stream_time_nothing_is_replaced_or_stale() -> None:
    set_up = Setting(wall=False)
    for which in (1, 2):
        set_up.add(which, collapse_key="k", valid_until_ms=1, recipient_id=str(which))
    set_up.lane.pump()
    await set_up.began(1, 2)


async def test_while_a_provider_is_away_time_passes_for_what_waits(set_up: Setting) -> None:
    set_up.sender.wait = Wait(5, "breaker")
    set_up.add(1, valid_until_ms=NOW_MS + 10)
    set_up.add(2, campaign="x")
    set_up.add(3)
    set_up.lane.pump()
    set_up.lane.sweep()
    assert set_up.host.finished == []
    set_up.host.now += 10
    set_up.host.killed.add("x")
    set_up.lane.sweep()
    assert set_up.host.finished == [(1, "validity_over"), (2, "campaign:x")]
    set_up.sender.wait = None
    await set_up.began(3)  # the lane's own timer asks again


async def test_one_destination_s_pace_holds_its_recipient_alone(set_up: Setting) -> None:
    set_up.sender.alone = {1}
    set_up.add(1)
    set_up.add(2)
    set_up.add(3, recipient_id="two")
    set_up.lane.pump()
    await set_up.began(3, 1)
    await set_up.sender.answer(1)
    await set_up.began(3, 1, 2)


async def test_what_is_in_doubt_follows_its_category(set_up: Setting) -> None:
    set_up.add(1, doubtful=True, on_ambiguous="give_up")
    set_up.add(2, doubtful=True, on_ambiguous="resend", recipient_id="two")
    set_up.lane.pump()
    await set_up.began(2)
    assert set_up.host.finished == [(1, "restarted")]


async def test_a_template_that_fails_is_an_answer_and_frees_the_recipient(set_up: Setting) -> None:
    set_up.add(1, template="broken")
    set_up.add(2)
    set_up.lane.pump()
    await set_up.began(2)
    assert set_up.host.finished == [(1, "template_error")]


async def test_a_closed_window_begins_nothing(set_up: Setting) -> None:
    set_up.host.closed = True
    set_up.add(1)
    set_up.lane.pump()
    assert set_up.lane.under_way == 0
    set_up.host.closed = False
    set_up.lane.pump()
    await set_up.began(1)


async def test_a_bug_in_sending_ends_the_runner(set_up: Setting) -> None:
    set_up.add(1)
    set_up.lane.pump()
    await set_up.began(1)
    set_up.sender.waiting[1].set_exception(ZeroDivisionError())
    await eventually(lambda: set_up.host.errors, 5)


async def test_whoever_may_have_lost_the_partition_concludes_nothing(set_up: Setting) -> None:
    """A worker that stood still finds everything too late, and its successor has sent it."""
    set_up.host.owns = False
    set_up.add(1, valid_until_ms=1)
    set_up.lane.pump()
    set_up.lane.sweep()
    assert set_up.host.finished == []
    set_up.host.owns = True
    set_up.lane.pump()
    assert set_up.host.finished == [(1, "validity_over")]


async def test_a_send_that_is_cancelled_before_it_first_ran_gives_its_place_back(
    set_up: Setting,
) -> None:
    set_up.add(1)
    set_up.lane.pump()
    set_up.lane.abandon()  # before the loop has run the task once
    await set_up.lane.drained()
    await eventually(lambda: set_up.sender.released == 1, 5)
    assert set_up.sender.began == []


async def test_only_what_is_outside_excuses_a_lane_that_finishes_nothing(set_up: Setting) -> None:
    def excused() -> bool:
        return set_up.lane.is_excused

    assert excused(), "nothing waits"
    set_up.sender.wait = Wait(60_000, "busy")
    set_up.add(1)
    set_up.lane.pump()
    assert not excused(), "a place that is never given back must be noticed"
    set_up.sender.wait = Wait(60_000, "breaker")
    set_up.lane.pump()
    assert excused(), "a provider may be away for hours"
    set_up.sender.wait = None
    set_up.lane.pump()
    await eventually(lambda: 1 in set_up.sender.waiting, 5)
    assert excused(), "an answer is awaited"
    await set_up.sender.answer(1)
    set_up.add(2)
    set_up.host.closed = True
    set_up.lane.pump()
    await eventually(lambda: not set_up.lane.under_way, 5)
    assert not excused(), "a window that never opens must be noticed"
