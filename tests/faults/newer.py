"""A worker of a release that does not exist yet: its state has one more field in each part.

A rolling upgrade has both releases at work on the same changelog, and a rollback has the older one
read what the newer wrote. Run as ``python -m tests.faults.newer newer worker ROLE ...``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec

from streams.core import state_codec

NEW_FIELD = "written by a later release"


def _with_more(part: bytes) -> bytes:
    return msgspec.msgpack.encode([*msgspec.msgpack.decode(part), NEW_FIELD])


def _profile(encode: Callable[[Any], bytes | None]) -> Any:
    def encode_more(profile: Any) -> bytes | None:
        value = encode(profile)
        return None if value is None else _with_more(value)

    return encode_more


def _moving(encode: Callable[[Any, Any], bytes | None]) -> Any:
    def encode_more(activity: Any, waiting: Any) -> bytes | None:
        value = encode(activity, waiting)
        if value is None:
            return None
        head = state_codec.DUE_BYTES + 1
        split = state_codec.waiting_at(value)
        first = _with_more(value[state_codec.HEAD_BYTES : split])
        return value[:head] + len(first).to_bytes(4) + first + _with_more(value[split:])

    return encode_more


def main() -> None:
    """The command line of the later release."""
    from streams.cli import main as flowstate

    state_codec.encode_profile = _profile(state_codec.encode_profile)
    state_codec.encode_moving = _moving(state_codec.encode_moving)
    flowstate(args=sys.argv[2:], prog_name="flowstate")


if __name__ == "__main__":
    main()
