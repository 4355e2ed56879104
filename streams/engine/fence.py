"""The fence record: where each input goes on, written in the same transaction as the outputs.

One key per partition of the changelog (``tables.FENCE``). Because it commits or aborts together
with the outputs and the state of its batch, the positions in it are exact: no record is decided
twice, none is left out. It also says what the batch was (its clock, its kind, the policy that
decided), so that an offline replay of the recorded inputs can reproduce the state byte for byte.

Invariant: positions never go back from one fence to the next of the same partition.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["batch", "wake", "idle"]


class Fence(msgspec.Struct, frozen=True, array_like=True):
    """What one committed transaction did. Fields are only ever added at the end."""

    positions: dict[str, int]
    """Input topic -> next offset to read."""
    clock_ms: int = 0
    """The partition's clock after the batch."""
    kind: Kind = "batch"
    now_ms: int = 0
    """The ``now_ms`` that the logic was called with."""
    policy_version: str = ""
    batch_number: int = 0
    """Counts the transactions of this partition, 1 first."""
    began: dict[str, int] = {}
    """Input topic -> where this batch began, if that is not where the fence before it ended:
    batches that had no effect came between them, and were decided at clocks of their own."""
    whole_from: int = 0
    """A copy of the changelog that began here or before is whole: there was a loss, and the
    operator had the state rebuilt from what was left."""
    read_again: dict[str, int] = {}
    """Control topic -> offset below which this batch was given records from before its state began:
    what they were made from, nobody knows any more (``Batch.read_again``)."""


def read_again_after(fence: Fence) -> dict[str, int]:
    """``read_again`` for the next batch: topics that are not through yet."""
    positions = fence.positions
    return {t: below for t, below in fence.read_again.items() if positions.get(t, 0) < below}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Fence)


def encode(fence: Fence) -> bytes:
    """Fence -> value of the fence record."""
    return _encoder.encode(fence)


def decode(value: bytes) -> Fence:
    """Value of a fence record -> fence. Raises ``ValueError`` for anything else."""
    try:
        return _decoder.decode(value)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ValueError(f"not a fence record: {error}") from error
