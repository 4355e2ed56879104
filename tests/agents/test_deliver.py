"""The deliver role end to end: real broker, real engine, provider servers over the network."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.local.authority import subscription
from streams.local.providers import Ports, provider_servers
from streams.sinks.settings import ApnsSettings
from tests.agents.deliver_bench import DeliverBench, make_deliver_bench
from tests.agents.delivering import delivery
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(240)]

KINDS = ("apns", "fcm", "sms", "email", "webhook")
STREAM_MS = 1_082_040_960_000


@pytest.fixture
async def bench(
    broker: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[DeliverBench]:
    retry_share = getattr(request, "param", 0.0)
    async with make_deliver_bench(broker.bootstrap, tmp_path, retry_share) as made:
        yield made


async def test_every_kind_reaches_its_provider_and_is_answered(bench: DeliverBench) -> None:
    keys = subscription(bench.servers.identity)
    kinds = (*KINDS, "webpush", "chat")
    sent = [
        delivery(10 * n + k, kind, attributes=keys, priority=priority)
        for n, priority in enumerate(["critical"] + ["normal"] * 10)
        for k, kind in enumerate(kinds)
    ]
    worker = bench.start()
    await bench.send(sent)
    outcomes = await bench.answered(len(sent))
    assert {o["status"] for o in outcomes} == {"accepted"}
    assert sorted(o["delivery_id"] for o in outcomes) == sorted(d.delivery_id for d in sent)
    received = bench.received()
    assert sorted(r["delivery_id"] for r in received) == sorted(d.delivery_id for d in sent)
    assert {r["notification_id"] for r in received} == {d.notification_id for d in sent}
    assert await bench.feedback() == []
    assert await worker.stop() == 0


@pytest.mark.parametrize("bench", [1.0], indirect=True)
async def test_what_a_provider_cannot_take_goes_back_with_its_delivery(bench: DeliverBench) -> None:
    sent = [delivery(k, kind) for k, kind in enumerate(KINDS)]
    bench.start()
    await bench.send(sent)
    outcomes = await bench.answered(len(sent))
    assert {o["status"] for o in outcomes} == {"retry"}
    feedback = await bench.feedback()
    assert sorted(f["delivery"]["delivery_id"] for f in feedback) == [d.delivery_id for d in sent]
    assert {f["status"] for f in feedback} == {"retry"}
    assert bench.received() == []
    # DECIDE's next attempt is a record of its own, and is taken.
    await bench.send(msgspec.structs.replace(d, attempt=2) for d in sent)
    outcomes = await bench.answered(2 * len(sent))
    assert Counter((o["status"], o["attempt"]) for o in outcomes) == {
        ("retry", 1): len(sent),
        ("accepted", 2): len(sent),
    }


async def test_killed_at_any_moment_it_repeats_only_what_it_says_it_may(
    bench: DeliverBench,
) -> None:
    count, kills, window = 1_500, 3, 32
    await bench.send(
        delivery(n, KINDS[n % 5], recipient_id=f"recipient-{n % 97}") for n in range(count)
    )
    providers = tuple(
        msgspec.structs.replace(provider, in_flight_max=window)
        for provider in bench.deliver.providers
    )
    for turn in range(kills):
        worker = bench.start(in_flight_max=window, providers=providers)
        goal = (turn + 1) * count // (kills + 2)
        await eventually(lambda at=goal: len(bench.servers.recorder._ids) >= at, 90)  # type: ignore[misc]
        worker.kill()
    bench.start(in_flight_max=window, providers=providers)
    await _all_answered(bench, count)
    outcomes = await bench.outcomes()
    answered = Counter(o["delivery_id"] for o in outcomes)
    assert set(answered.values()) == {1}, "each attempt has one outcome"
    assert {o["status"] for o in outcomes} == {"accepted"}
    flagged = {o["delivery_id"] for o in outcomes if o["possible_repeat"]}
    received = Counter(r["delivery_id"] for r in bench.received())
    assert len(received) == count
    repeated = {identity for identity, times in received.items() if times > 1}
    assert repeated <= flagged, "what was repeated is flagged"
    # At each kill and for each kind: requests under way before the last answer, and a window
    # beyond it.
    assert len(flagged) <= kills * 5 * (window + window), "at most what the windows allow"


async def test_what_arrives_while_no_worker_runs_is_not_in_doubt(bench: DeliverBench) -> None:
    worker = bench.start(ahead_slack=0)
    await bench.send(delivery(n, "apns", on_ambiguous="give_up") for n in range(30))
    await bench.answered(30)
    await eventually(lambda: _committed(bench, "apns", 30), 30)
    worker.kill()
    await bench.send(delivery(n, "apns", on_ambiguous="give_up") for n in range(30, 60))
    bench.start(ahead_slack=0)
    await bench.answered(60)
    await bench.send(delivery(n, "apns", on_ambiguous="give_up") for n in range(60, 90))
    outcomes = await bench.answered(90)
    assert {o["status"] for o in outcomes} == {"accepted"}
    assert not any(o["possible_repeat"] for o in outcomes)


async def test_what_may_have_been_sent_is_given_up_where_the_category_says_so(
    bench: DeliverBench,
) -> None:
    count = 1_000
    await bench.send(delivery(n, "apns", on_ambiguous="give_up") for n in range(count))
    worker = bench.start(in_flight_max=32)
    await eventually(lambda: len(bench.servers.recorder._ids) > 300, 90)
    worker.kill()
    bench.start(in_flight_max=32)
    await _all_answered(bench, count)
    outcomes = await bench.outcomes()
    assert Counter(o["delivery_id"] for o in outcomes).most_common(1)[0][1] == 1
    given_up = {o["delivery_id"] for o in outcomes if o["status"] == "ambiguous"}
    assert 0 < len(given_up) <= 2 * 32
    assert {f["delivery"]["delivery_id"] for f in await bench.feedback()} == given_up
    received = Counter(r["delivery_id"] for r in bench.received())
    assert set(received.values()) == {1}, "nothing was sent twice"
    assert set(received) | given_up == {o["delivery_id"] for o in outcomes}


async def test_a_graceful_stop_under_load_repeats_nothing(bench: DeliverBench) -> None:
    count = 1_500
    await bench.send(delivery(n, KINDS[n % 5]) for n in range(count))
    for _ in range(3):
        worker = bench.start()
        goal = len(bench.servers.recorder._ids) + count // 10
        await eventually(lambda at=goal: len(bench.servers.recorder._ids) >= at, 90)  # type: ignore[misc]
        assert await worker.stop() == 0, worker.log()
    bench.start()
    await _all_answered(bench, count)
    received = Counter(r["delivery_id"] for r in bench.received())
    assert set(received.values()) == {1}
    outcomes = await bench.outcomes()
    assert len(outcomes) == count
    assert not any(o["possible_repeat"] for o in outcomes)


async def test_a_crash_between_the_answers_and_the_commit_repeats_nothing(
    bench: DeliverBench,
) -> None:
    await bench.send(delivery(n, "fcm") for n in range(20))
    worker = bench.start(crash_point="after_outcomes", in_flight_max=64)
    assert await worker.exit_status() == -9
    bench.start(in_flight_max=64)
    await _all_answered(bench, 20)
    outcomes = await bench.outcomes()
    flagged = {o["delivery_id"] for o in outcomes if o["possible_repeat"]}
    received = Counter(r["delivery_id"] for r in bench.received())
    assert {identity for identity, times in received.items() if times > 1} <= flagged
    assert len(outcomes) == 20


async def test_a_worker_that_was_frozen_does_not_send_what_its_successor_sends(
    bench: DeliverBench,
) -> None:
    first = bench.start()
    await bench.send([delivery(0, "apns")])
    await bench.answered(1)
    first.process.send_signal(signal.SIGSTOP)
    await bench.send(delivery(n, KINDS[n % 5]) for n in range(1, 200))
    second = bench.start(name="second")
    await bench.answered(200)
    first.process.send_signal(signal.SIGCONT)
    # Either it ends by itself, fenced, or it rejoins as a member like any other.
    await bench.send(delivery(n, KINDS[n % 5]) for n in range(200, 300))
    await _all_answered(bench, 300)
    assert second.process.poll() is None or first.process.poll() is None
    assert set(Counter(r["delivery_id"] for r in bench.received()).values()) == {1}


async def test_too_late_and_killed_are_answered_without_a_send(bench: DeliverBench) -> None:
    now_ms = time.time_ns() // 1_000_000
    await bench.switch("campaign:spring", active=True)
    await bench.send(
        [
            delivery(1, "apns", valid_until_ms=now_ms - 1),
            delivery(2, "apns", expires_at_ms=now_ms - 1),
            delivery(3, "apns", campaign="spring"),
            delivery(4, "apns"),
        ]
    )
    bench.start()
    outcomes = {int(o["delivery_id"], 16): o for o in await bench.answered(4)}
    assert [outcomes[n]["status"] for n in (1, 2, 3, 4)] == [
        "stale", "stale", "killed", "accepted",
    ]  # fmt: skip
    assert outcomes[3]["reason"] == "campaign:spring"
    assert {f["status"] for f in await bench.feedback()} == {"stale", "killed"}
    assert [int(r["delivery_id"], 16) for r in bench.received()] == [4]
    await bench.switch("campaign:spring", active=False)
    await bench.switch("kind:sms", active=True)
    await bench.send([delivery(5, "sms")])
    await bench.answered(5)
    await bench.send([delivery(6, "apns", campaign="spring")])
    assert (await bench.answered(6))[-1]["status"] == "accepted"


async def test_a_delivery_that_cannot_be_read_is_a_dead_letter_and_stops_nothing(
    bench: DeliverBench,
) -> None:
    topic = bench.names.deliveries("apns", False)
    bench.start()
    await bench.producer.send_and_wait(topic, b"\xc3\x01garbage", key=b"someone", partition=0)
    await bench.send([delivery(1, "apns")])
    await bench.answered(1)
    dead = [bench.codec.decode("dead_letter", r.value) for r in await bench.read(
        bench.names.dead_letters
    )]  # fmt: skip
    assert [(d["topic"], d["offset"], d["value"]) for d in dead] == [(topic, 0, b"\xc3\x01garbage")]


async def test_in_stream_time_records_carry_the_decision_s_time_and_nothing_is_stale(
    bench: DeliverBench,
) -> None:
    await bench.send(
        delivery(n, "apns", decided_at_ms=STREAM_MS + n, valid_until_ms=1, expires_at_ms=2)
        for n in range(5)
    )
    bench.start(clock="stream")
    outcomes = await bench.answered(5)
    assert {o["status"] for o in outcomes} == {"accepted"}
    times = [record.timestamp for record in await bench.read(bench.names.outcomes)]
    assert sorted(times) == [STREAM_MS + n for n in range(5)]
    assert [o["answered_at_ms"] for o in outcomes] == times


async def test_a_recipient_s_sends_keep_their_order_and_critical_ones_come_first(
    bench: DeliverBench,
) -> None:
    await bench.send(delivery(n, "sms", recipient_id=f"recipient-{n % 3}") for n in range(300))
    await bench.send(
        delivery(n, "sms", recipient_id=f"recipient-{n % 3}", priority="critical")
        for n in range(1_000, 1_030)
    )
    bench.start()
    await bench.answered(330)
    order = [int(r["delivery_id"], 16) for r in bench.received()]
    for recipient in range(3):
        for critical in (False, True):
            own = [n for n in order if n % 3 == recipient and (n >= 1_000) is critical]
            assert own == sorted(own)
    assert order.index(1_029) < 100, "what is critical does not wait behind what is not"


async def test_a_provider_that_is_away_pauses_its_lane_alone_and_lets_expiry_work(
    bench: DeliverBench, tmp_path: Path
) -> None:
    apns, *others = bench.deliver.providers
    assert isinstance(apns, ApnsSettings)
    away = msgspec.structs.replace(apns, endpoint="https://127.0.0.1:9")
    bench.start(providers=(away, *others), in_flight_max=25)
    now_ms = time.time_ns() // 1_000_000
    await bench.send(delivery(n, "apns", valid_until_ms=now_ms + 6_000) for n in range(100))
    await bench.send(delivery(n, "fcm") for n in range(100, 150))
    outcomes = await bench.answered(150)
    by_kind = Counter((o["kind"], o["status"]) for o in outcomes)
    assert by_kind["fcm", "accepted"] == 50
    assert by_kind["apns", "stale"] > 0, "the breaker kept them until they were too late"
    assert by_kind["apns", "retry"] + by_kind["apns", "stale"] == 100
    assert by_kind["apns", "retry"] < 100, "the breaker did not bounce them all"


async def test_a_kill_while_a_provider_is_away_leaves_a_handful_in_doubt(
    bench: DeliverBench,
) -> None:
    apns, *others = bench.deliver.providers
    away = msgspec.structs.replace(apns, endpoint="https://127.0.0.1:9")
    count = 600
    worker = bench.start(providers=(away, *others))
    await bench.send(delivery(n, "apns", on_ambiguous="give_up") for n in range(count))
    await bench.answered(20)  # the breaker is open, and hundreds are waiting
    worker.kill()
    refused = {o["delivery_id"] for o in await bench.outcomes()}
    bench.start()
    await _all_answered(bench, count)
    outcomes = [o for o in await bench.outcomes() if o["delivery_id"] not in refused]
    given_up = sum(o["status"] == "ambiguous" for o in outcomes)
    # What was begun waits for the first answer of a new connection: as many as may be under way.
    assert given_up <= bench.deliver.in_flight_max, "no more than were under way"
    assert sum(o["status"] == "accepted" for o in outcomes) == len(outcomes) - given_up


async def test_wrong_credentials_prune_nothing(bench: DeliverBench, tmp_path: Path) -> None:
    async with provider_servers(tmp_path / "others", Ports(0, 0, 0)) as strangers:
        bench.start(providers=tuple(
            msgspec.structs.replace(theirs, **_address(ours))
            for theirs, ours in zip(strangers.settings(), bench.deliver.providers, strict=True)
        ))  # fmt: skip
        now_ms = time.time_ns() // 1_000_000
        await bench.send(
            delivery(10 * n + k, kind, valid_until_ms=now_ms + 5_000)
            for n in range(10) for k, kind in enumerate(("apns", "fcm", "sms", "webhook"))
        )  # fmt: skip
        outcomes = await bench.answered(40)
    assert {o["status"] for o in outcomes} <= {"retry", "stale"}
    assert bench.received() == []


def _address(settings: Any) -> dict[str, Any]:
    """Where a provider is, without who we are there."""
    names = ("endpoint", "sandbox_endpoint", "host", "port", "addresses", "http")
    return {n: getattr(settings, n) for n in names if n in settings.__struct_fields__}


async def _committed(bench: DeliverBench, kind: str, offset: int) -> bool:
    return (await bench.committed(kind)) >= offset


async def _all_answered(bench: DeliverBench, count: int) -> None:
    async def all_answered() -> bool:
        return len({o["delivery_id"] for o in await bench.outcomes()}) >= count

    await eventually(all_answered, 120)
