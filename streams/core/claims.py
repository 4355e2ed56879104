"""A device changes hands: an address belongs to the recipient who claimed it last.

Claims live on the partition of the address's hash. A newer claim by somebody else takes the
address from its previous owner: one person's notifications never reach another's device.
"""

from __future__ import annotations

import msgspec

from streams.core.model import Claim


class Transfer(msgspec.Struct, frozen=True, gc=False):
    """The claim to keep, and the owner who loses the address, if one does."""

    owner: Claim
    loser: Claim | None


def decide_claim(current: Claim | None, new: Claim) -> Transfer:
    """Who owns the address now. Ties go to the greater recipient id, so replays agree."""
    if current is None or current.recipient_id == new.recipient_id:
        newest = new if current is None or new.claimed_at_ms >= current.claimed_at_ms else current
        return Transfer(newest, None)
    mark = (new.claimed_at_ms, new.recipient_id)
    if mark > (current.claimed_at_ms, current.recipient_id):
        return Transfer(new, current)
    return Transfer(current, new)
