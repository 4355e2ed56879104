"""Commits of many partitions in one request, and what each partition hears of it."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from streams.engine.roles import Committed, Fenced
from streams.engine.shared_commits import Positions, SharedCommits


class Group:
    """Takes commits, slowly; refuses what holds a partition that is not there."""

    def __init__(self) -> None:
        self.requests: list[dict[int, int]] = []
        self.at_once = 0

    async def commit(self, positions: Positions) -> None:
        self.at_once += 1
        assert self.at_once == 1, "one at a time"
        self.requests.append({place.partition: at.offset for place, at in positions.items()})
        await asyncio.sleep(0)
        self.at_once -= 1
        if any(place.partition == 13 for place in positions):
            raise Fenced("not yours")


def at(partition: int, offset: int) -> dict[TopicPartition, Committed]:
    return {TopicPartition("t", partition): Committed(offset)}


async def test_one_alone_goes_at_once_and_those_that_come_meanwhile_go_together() -> None:
    group = Group()
    commits = SharedCommits(group.commit)
    first = asyncio.create_task(commits.commit(at(0, 1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.gather(first, *(commits.commit(at(n, 1)) for n in range(1, 9)))
    assert group.requests == [{0: 1}, dict.fromkeys(range(1, 9), 1)]
    await commits.commit(at(0, 2))
    assert group.requests[-1] == {0: 2}


async def test_of_one_partition_the_later_position_is_kept() -> None:
    group = Group()
    commits = SharedCommits(group.commit)
    await asyncio.gather(commits.commit(at(0, 1)), commits.commit(at(0, 2)))
    assert group.requests == [{0: 2}]


async def test_a_refusal_is_heard_by_the_partition_that_it_is_for_and_by_no_other() -> None:
    group = Group()
    commits = SharedCommits(group.commit)
    heard = await asyncio.gather(
        *(commits.commit(at(n, 1)) for n in (12, 13, 14)), return_exceptions=True
    )
    assert [type(one) for one in heard] == [type(None), Fenced, type(None)]
    assert group.requests == [{12: 1, 13: 1, 14: 1}, {12: 1}, {13: 1}, {14: 1}]
    with pytest.raises(Fenced):
        await commits.commit(at(13, 1))


async def test_what_nobody_waits_for_any_more_is_not_committed() -> None:
    group = Group()
    commits = SharedCommits(group.commit)
    gone = asyncio.create_task(commits.commit(at(0, 1)))
    kept = asyncio.create_task(commits.commit(at(1, 1)))
    gone.cancel()
    await kept
    assert group.requests == [{1: 1}]
