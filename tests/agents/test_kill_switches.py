"""Which kill switches are on, and that the pages are told of each."""

from __future__ import annotations

from typing import Any

from aiokafka.structs import ConsumerRecord

from streams import topics
from streams.agents.deliver import Deliverer
from streams.agents.kill_switches import KillSwitches
from streams.codec import Codec
from streams.sinks.settings import DeliverSettings
from streams.web.deliver_pages import DeliverPages

CODEC = Codec(None)


def switch(scope: str, active: bool) -> Any:
    value = CODEC.encode("kill_switch", {"scope": scope, "active": active, "set_at_ms": 1})
    key = scope.encode()
    return ConsumerRecord(topics.KILL_SWITCH, 0, 0, 1, 0, key, value, None, 0, len(value), ())


def test_a_switch_is_on_until_it_is_off() -> None:
    switches = KillSwitches(CODEC)
    switches.on_record(switch("campaign:x", True))
    switches.on_record(switch("all", True))
    switches.on_record(switch("campaign:x", False))
    switches.on_record(switch("kind:sms", False))
    assert switches.active == {"all"}


def test_the_page_of_a_deliver_worker_names_switches_of_every_sort() -> None:
    pages = DeliverPages("", is_stream=False)
    worker = Deliverer(DeliverSettings(), CODEC, pages=pages)
    assert pages.status().kill_switches == []
    for scope in ("provider:apns", "category:message", "all"):
        worker.kill_switches.on_record(switch(scope, True))
    assert pages.status().kill_switches == ["all", "category:message", "provider:apns"]
    assert pages.status().kill_switch_count == 3
