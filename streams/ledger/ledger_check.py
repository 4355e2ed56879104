"""Compares an audit's counts with the ledger's own, over HTTP.

Counts can only be compared when both have read exactly as far; a ledger that is behind is asked
again for a while, one that is ahead (a running system) or was trimmed is not compared.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

import aiohttp
import msgspec

from streams import topics
from streams.ledger.audit import Crossing
from streams.ledger.directory import SECRET_HEADER
from streams.ledger.documents import Totals
from streams.ledger.rows import EVENT, OTHER

ASK_S_MAX = 5
ASK_AGAIN_S = 0.2


async def compare_ledger(
    url: str, wait_ms_max: int, crossing: Crossing, internal_secret: str = ""
) -> str:
    """Compares counters once the ledger has read as far as the audit; says what came of it."""
    deadline = time.monotonic() + wait_ms_max / 1000
    verdict, why = "behind", "it does not answer"
    timeout = aiohttp.ClientTimeout(total=ASK_S_MAX)
    shown = {SECRET_HEADER: internal_secret} if internal_secret else {}
    async with aiohttp.ClientSession(timeout=timeout, headers=shown) as session:
        while verdict == "behind":
            totals = await _totals(session, url)
            if totals is not None:
                verdict, why = _standing(totals, crossing.read_to)
                if verdict == "equal":
                    return _compare_counts(totals, crossing)
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(ASK_AGAIN_S)
    return f"not compared: {why}"


async def _totals(session: aiohttp.ClientSession, url: str) -> Totals | None:
    try:
        async with session.get(f"{url.rstrip('/')}/v1/totals") as response:
            if response.status != 200:
                return None
            return msgspec.json.decode(await response.read(), type=Totals)
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
        return None


def _standing(totals: Totals, read_to: Mapping[tuple[str, int], int]) -> tuple[str, str]:
    """``equal``, ``behind`` or ``other``, and why."""
    if not totals.is_complete:
        return "behind", "some of its partitions do not answer"
    for state in totals.partitions:
        if state.lost_records:
            return "other", f"partition {state.partition} lost records before it read them"
        for topic in (topics.DECISIONS, topics.OUTCOMES):
            wanted = read_to.get((topic, state.partition), 0)
            position = state.positions.get(topic, 0)
            if position > wanted:
                return "other", "it has read newer records than this audit"
            if position < wanted:
                return "behind", f"it has not read {topic} to the end"
    return "equal", ""


def _compare_counts(totals: Totals, crossing: Crossing) -> str:
    theirs: Counter[tuple[str, str, str]] = Counter()
    for count in totals.counts:
        if count.what.startswith("receipt:") or count.what == EVENT:
            continue
        if count.category == OTHER:
            return "not compared: it has more kinds of counts than it keeps apart"
        theirs[count.what, count.channel, count.reason] += count.count
    differences = 0
    for key in sorted(theirs.keys() | crossing.counts.keys()):
        if theirs[key] != crossing.counts[key]:
            differences += 1
            crossing.problem(
                f"the ledger counts {theirs[key]} of {'/'.join(key)}, the topics have"
                f" {crossing.counts[key]}"
            )
    if differences:
        return f"{differences} counts differ"
    return f"agrees on {sum(theirs.values()):,} verdicts and answers"
