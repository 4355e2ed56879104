"""How workers know each other: a secret that they share, shown with each question between them.

With a secret, whoever shows it may ask what a worker asks. Without one only this machine may: a
process on it, by a loopback address, that no web page has sent (the ``Host`` must be a loopback
name too). So a set-up on one machine needs no secret, and one on several does not work without.

Invariant: nothing here lets anybody in because something could not be read or was left out.
"""

from __future__ import annotations

import hmac
import ipaddress

from aiohttp import web

from streams.ledger.directory import SECRET_HEADER

HOP_HEADER = "Flowstate-Hop"
"""On a question that was passed on once already: it is never passed on again."""
NOT_A_WORKER = (
    f"The header {SECRET_HEADER} is missing or wrong: internal_secret must be the same for every"
    " role. Without one, only this machine is answered."
)
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})


def headers(secret: str, *, is_hop: bool = True) -> dict[str, str]:
    """What a worker shows to another."""
    shown = {HOP_HEADER: "1"} if is_hop else {}
    return shown | ({SECRET_HEADER: secret} if secret else {})


def is_worker(request: web.Request, secret: str) -> bool:
    """Whether it is a worker that asks: by the secret, or without one by where it is."""
    if not secret:
        return is_this_machine(request)
    shown = request.headers.get(SECRET_HEADER, "").encode("utf-8", "surrogateescape")
    return hmac.compare_digest(secret.encode(), shown)


def is_this_machine(request: web.Request) -> bool:
    """Whether a process of this machine asks, by a name that no page elsewhere can use."""
    return _is_loopback(request.remote) and name_of(request.host) in LOOPBACK_HOSTS


def _is_loopback(address: str | None) -> bool:
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def name_of(host: str) -> str:
    """``Host`` without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if host.count(":") == 1 else host
