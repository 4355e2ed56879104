"""Every bound and choice of the pages for people, by name, with its default.

``streams/settings.py`` fills this from ``[web]`` in ``flowstate.toml``; tests make it directly.
"""

from __future__ import annotations

import msgspec

from streams.ranges import OneOrMore, Rate


class WebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The pages of a ledger worker.

    Times in milliseconds.
    """

    # -- access
    session_ms: OneOrMore = 12 * 3_600_000
    """How long a login lasts; a key that is revoked ends its sessions at once."""
    session_secret: str = ""
    """Signs sessions. Empty: made from ``internal_secret``, or without one at each start, so that
    people log in again after a restart."""
    is_https: bool = False
    """True when a proxy in front of the workers speaks HTTPS: cookies are then for HTTPS only."""
    logins_per_minute: Rate = 10.0
    """Attempts from one address; so many may also come at once."""
    login_addresses_max: OneOrMore = 10_000
    """Addresses whose attempts are remembered."""

    # -- asking other workers
    worker_ms_max: OneOrMore = 1_500
    """How long a worker may take to say how it is."""
    workers_cached_ms: int = 900
    """How long what the workers said is shown again."""

    # -- pages
    rows_max: OneOrMore = 50
    """Rows of one page of a listing."""
    dead_letters_scanned_max: OneOrMore = 2_000
    """Dead letters that one look with a filter reads."""
    value_bytes_max: OneOrMore = 16_384
    """A longer raw value is cut, and says so."""

    # -- live parts
    live_ms: OneOrMore = 2_000
    """How often a live page looks whether something has changed."""
    live_streams_max: int = 64
    """Live pages that one worker keeps up to date at once; beyond it they stay as loaded."""
    live_stream_ms_max: OneOrMore = 600_000
    """A browser connects again after this."""

    def __repr__(self) -> str:
        return f"WebSettings(is_https={self.is_https})"
