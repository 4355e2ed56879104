"""Where a stranger's URL may lead: every spelling of "home" that is known is refused."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from streams.sinks.addresses import address_refusal, url_refusal
from streams.sinks.base import Failure, HttpRequest, Response
from streams.sinks.guarded_client import GuardedTransport
from streams.sinks.settings import AddressRules, HttpSettings
from tests.sinks.fault_server import fault_server

RULES = AddressRules()
QUICK = HttpSettings(request_ms_max=1_000, connect_ms_max=500)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://example.com:22/",
        "ftp://example.com/",
        "https://user:pass@example.com/",
        "https://example.com\\@127.0.0.1/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.0.0.1./",
        "https://0/",
        "https://0.0.0.0/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://[2002:7f00:1::]/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fc00::1]/",
        "https://[ff02::1]/",
        "https://exa mple.com/",
        "https://example.com/\r\nX: y",
        "https:///path",
        "https://-example.com/",
        "https://ex\u0430mple.com/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://" + "a" * 3_000 + ".com/",
        "https://example.com:99999/",
        "",
        "//example.com/",
    ],
)
def test_refused(url: str) -> None:
    assert url_refusal(url, RULES) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?x=1",
        "https://hooks.example.co.uk:8443/a/b",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/",
        "https://[64:ff9b::5db8:d822]/",
        "https://_dmarc.example.com/",
        "https://1.example.com/",
    ],
)
def test_allowed(url: str) -> None:
    assert url_refusal(url, RULES) is None


def test_a_closed_network_can_be_allowed_by_name() -> None:
    rules = AddressRules(allow_networks=("10.1.0.0/16",))
    assert address_refusal(ipaddress.ip_address("10.1.2.3"), rules) is None
    assert address_refusal(ipaddress.ip_address("10.2.2.3"), rules) is not None


class Rebinding(AbstractResolver):
    """A name that is public the first time it is asked for, and home the second."""

    def __init__(self, *answers: list[str], port: int = 0) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


async def ask(resolver: AbstractResolver, rules: AddressRules, url: str) -> object:
    transport = GuardedTransport(QUICK, rules, 5, resolver)
    await transport.start()
    try:
        return await transport.send(HttpRequest(url, {}, b"{}"))
    finally:
        await transport.stop()


async def test_a_name_that_leads_home_is_refused_before_connecting() -> None:
    async with fault_server("ok") as server:
        rules = AddressRules(schemes=("http",), ports=(server.port,))
        resolver = Rebinding(["127.0.0.1"])
        reply = await ask(resolver, rules, f"http://rebind.example:{server.port}/")
        assert server.requests == 0
    assert reply == Failure("forbidden_address", sent=False, detail="address not public")


async def test_one_bad_address_among_good_ones_refuses_them_all() -> None:
    async with fault_server("ok") as server:
        rules = AddressRules(schemes=("http",), ports=(server.port,))
        resolver = Rebinding(["93.184.216.34", "127.0.0.1"])
        reply = await ask(resolver, rules, f"http://rebind.example:{server.port}/")
        assert server.requests == 0
    assert isinstance(reply, Failure)
    assert reply.reason == "forbidden_address"


async def test_the_checked_address_is_the_one_that_is_connected_to() -> None:
    """The name is resolved once; what a second resolution would say does not matter."""
    async with fault_server("ok") as server:
        rules = AddressRules(
            schemes=("http",), ports=(server.port,), allow_networks=("127.0.0.1/32",)
        )
        resolver = Rebinding(["127.0.0.1"], ["10.0.0.1"])
        reply = await ask(resolver, rules, f"http://rebind.example:{server.port}/")
        assert server.requests == 1
    assert isinstance(reply, Response)
    assert resolver.asked == 1
