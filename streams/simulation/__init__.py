"""The whole topology in one process, with a simulated log, clock, providers and crashes."""
