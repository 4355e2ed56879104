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
DUE_BYTES = 8


def _with_new_field(encode: Callable[[Any], bytes | None], before: int) -> Any:
    def encode_more(part: Any) -> bytes | None:
        value = encode(part)
        if value is None:
            return None
        fields = msgspec.msgpack.decode(value[before:])
        return value[:before] + msgspec.msgpack.encode([*fields, NEW_FIELD])

    return encode_more


def main() -> None:
    """The command line of the later release."""
    from streams.cli import main as flowstate

    for name, before in (("profile", 0), ("activity", 0), ("waiting", DUE_BYTES)):
        function = f"encode_{name}"
        encode = getattr(state_codec, function)
        setattr(state_codec, function, _with_new_field(encode, before))
    flowstate(args=sys.argv[2:], prog_name="flowstate")


if __name__ == "__main__":
    main()
