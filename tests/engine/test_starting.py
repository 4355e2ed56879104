"""Where each input goes on when the state was lost and is to be rebuilt."""

from __future__ import annotations

from typing import Any

import pytest

from streams import topics
from streams.engine.fence import Fence
from streams.engine.restore import StateLost
from streams.engine.roles import Committed, Lane
from streams.engine.settings import EngineSettings, OnStateLoss
from streams.engine.starting import Beginning, where_to_begin
from streams.engine.stateful import StatefulRole
from streams.tables import STATE

FEEDBACK_AT, EVENTS_AT = 70, 50


class Partition:
    """A partition on which the group had worked. The part of ``Context`` that is asked."""

    partition = 0

    def __init__(self, on_state_loss: OnStateLoss) -> None:
        self.settings = EngineSettings(bootstrap="nowhere:1", on_state_loss=on_state_loss)

    async def beginning_offsets(self, names: Any) -> dict[str, int]:
        return dict.fromkeys(names, 3)

    async def end_offsets(self, names: Any) -> dict[str, int]:
        return dict.fromkeys(names, 100)

    async def committed(self) -> dict[str, Committed]:
        known = dict.fromkeys(topics.CONTROL, FEEDBACK_AT) | dict.fromkeys(topics.EVENTS, EVENTS_AT)
        return {topic: Committed(at) for topic, at in known.items()}


def role() -> StatefulRole:
    return StatefulRole(
        name="decide",
        control=Lane("control", topics.CONTROL, 100),
        events=(Lane("normal", topics.EVENTS, 100),),
        table=STATE,
        logic_factory=lambda _: None,  # type: ignore[arg-type,return-value]
        not_again=(topics.FEEDBACK,),
    )


async def begin(on_state_loss: OnStateLoss) -> Beginning:
    partition: Any = Partition(on_state_loss)
    return await where_to_begin(partition, role(), Fence(positions={}), False)


async def test_how_things_are_is_read_again_and_what_was_done_is_not_done_again() -> None:
    beginning = await begin("rebuild")
    positions = beginning.positions
    assert positions[topics.FEEDBACK] == FEEDBACK_AT
    assert {positions[topic] for topic in topics.EVENTS} == {EVENTS_AT}
    read_again = {positions[topic] for topic in topics.CONTROL if topic != topics.FEEDBACK}
    assert read_again == {3}
    assert beginning.read_again == dict.fromkeys(topics.CONTROL, 100)


async def test_with_a_whole_state_only_what_was_begun_is_read_again() -> None:
    partition: Any = Partition("refuse")
    positions = dict.fromkeys(topics.CONTROL, 50)
    left = {topics.PREFERENCES: 60, topics.DESTINATIONS: 50}
    fenced = Fence(positions, read_again=left)
    beginning = await where_to_begin(partition, role(), fenced, True)
    assert beginning.read_again == {topics.PREFERENCES: 60}


async def test_a_lost_state_is_refused_unless_somebody_says_otherwise() -> None:
    with pytest.raises(StateLost, match="on_state_loss"):
        await begin("refuse")
