"""Where a URL that a stranger gave may lead: the pure half of the defence against SSRF.

Invariants: only public unicast addresses pass, whatever form they come in (v4-mapped and NAT64
addresses are judged by the IPv4 address inside); a host written as a number in any spelling but
the canonical one is refused rather than interpreted; user info is refused.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cache
from urllib.parse import urlsplit

from streams.sinks.settings import AddressRules

URL_CHARACTERS_MAX = 2_048
DEFAULT_PORTS = {"https": 443, "http": 80}
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")  # RFC 8215
SIX_TO_FOUR = ipaddress.ip_network("2002::/16")  # RFC 3056: has an IPv4 address inside
TEREDO = ipaddress.ip_network("2001::/32")
EMBEDDING = (NAT64_LOCAL, SIX_TO_FOUR, TEREDO)

# inet_aton(3) takes 127.1, 0x7f.1, 0177.0.0.1 and 2130706433; so might somebody's resolver.
NUMERIC_HOST = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}\.?", re.IGNORECASE)
HOST_NAME = re.compile(
    r"(?=.{1,253}\.?$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
    r"(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\.?",
    re.IGNORECASE,
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def url_refusal(url: str, rules: AddressRules) -> str | None:
    """Why ``url`` may not be called, before any name is resolved; ``None`` when it may."""
    if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        return "malformed URL"
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return "malformed URL"
    if parts.scheme not in rules.schemes:
        return "scheme not allowed"
    if port not in rules.ports:
        return "port not allowed"
    if "@" in parts.netloc or "\\" in url:
        return "user information in the URL"
    host = parts.hostname or ""
    if ":" in host or NUMERIC_HOST.fullmatch(host):
        return literal_refusal(host, rules)
    return None if HOST_NAME.fullmatch(host) else "malformed host"


def literal_refusal(host: str, rules: AddressRules) -> str | None:
    """Why a host that is an address may not be called; only canonical spellings are read."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "address in a spelling that is not canonical"
    return address_refusal(address, rules)


def address_refusal(address: Address, rules: AddressRules) -> str | None:
    """Why a resolved address may not be connected to; ``None`` when it may."""
    if any(address in network for network in networks(rules.allow_networks)):
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address_refusal(address.ipv4_mapped, rules)
        if address in NAT64:
            return address_refusal(ipaddress.IPv4Address(address.packed[-4:]), rules)
        if address.scope_id is not None or any(address in network for network in EMBEDDING):
            return "address not public"
    # is_global is true of some multicast addresses.
    if not address.is_global or address.is_multicast or address.is_reserved:
        return "address not public"
    return None


@cache
def networks(allowed: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Of an ``allow_networks``. Raises ``ValueError`` for what is no network.

    One entry of the cache for each provider's settings.
    """
    return [ipaddress.ip_network(network) for network in allowed]
