"""The stand-in providers: durable before they answer, seeded faults that repeat."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from streams.local.authority import identity
from streams.local.received import Recorder


async def test_a_line_is_on_disk_before_the_answer_and_survives(tmp_path: Path) -> None:
    path = tmp_path / "received.jsonl"
    recorder = Recorder(path)
    await recorder.start()
    await asyncio.gather(
        *(recorder.record("apns", f"{n:032x}", "n", "secret-token", 7) for n in range(50))
    )
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert [line["delivery_id"] for line in lines] == [f"{n:032x}" for n in range(50)]
    assert b"secret-token" not in path.read_bytes()
    await recorder.record("apns", f"{0:032x}", "n", "secret-token", 7)
    await recorder.stop()
    again = Recorder(path)
    await again.start()
    assert again.totals() == {
        "received": {"apns": 51}, "refused": {}, "total": 51, "distinct": 50, "repeated": 1,
    }  # fmt: skip
    await again.stop()


def test_the_seed_chooses_who_is_refused_and_each_only_once(tmp_path: Path) -> None:
    ids = [f"{n:032x}" for n in range(2_000)]

    def refused(seed: str) -> list[str]:
        recorder = Recorder(tmp_path / "x", retry_share=0.1, seed=seed)
        first = [one for one in ids if recorder.refuses("sms", one)]
        assert not any(recorder.refuses("sms", one) for one in first)
        return first

    assert refused("7") == refused("7")
    assert refused("7") != refused("8")
    assert 140 < len(refused("7")) < 260


def test_an_identity_is_made_once_and_an_older_kind_is_made_anew(tmp_path: Path) -> None:
    made = identity(tmp_path / "identity")
    assert identity(tmp_path / "identity") == made
    path = tmp_path / "identity" / "identity.json"
    older = msgspec.json.decode(path.read_bytes())
    del older["vapid_key_pem"]
    path.write_bytes(msgspec.json.encode(older))
    assert identity(tmp_path / "identity") != made
