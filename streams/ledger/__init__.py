"""The ledger: what became of every event, why, and where each number comes from."""
