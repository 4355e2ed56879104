"""Which notifications of bulk categories are kept with their whole story. Pure.

Drawn by the notification's (or digest's) id, so every record about it is kept or none is, on every
worker and after every rebuild. Records that name no category (receipts) are always kept, and what
is left out is counted all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec


class Sampling(msgspec.Struct, frozen=True):
    """The share of notifications that is kept, and of which categories."""

    kept_share: float = 1.0
    bulk: Collection[str] = frozenset()
    """Categories that it is about."""

    def keeps(self, record_name: str, fields: Mapping[str, Any]) -> bool:
        """Whether a decoded record's rows are kept: for a decision, if any of its entries is."""
        if self.kept_share >= 1.0:
            return True
        if record_name == "decision":
            return any(
                entry["category"] not in self.bulk
                or self._is_drawn(entry["digest_id"] or entry["subject_id"])
                for entry in fields["entries"]
            )
        if record_name == "outcome":
            return fields["category"] not in self.bulk or self._is_drawn(fields["notification_id"])
        return True

    def _is_drawn(self, public_id: str) -> bool:
        # The first three digits are the partition; the rest is a hash.
        return int(public_id[3:11] or "0", 16) < self.kept_share * (1 << 32)
