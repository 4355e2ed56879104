"""The decision core: pure functions from (state, input, time, policy) to a decision.

Nothing here does IO, reads a clock or draws a random number, and nothing is imported but the
standard library, ``msgspec`` and the package itself (``tests/core/test_imports.py``).
Start reading at ``decide.py``.
"""
