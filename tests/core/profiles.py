"""How hard the random tests try. ``FLOWSTATE_EXAMPLES=20`` tries twenty times harder."""

import os
from typing import Any

from hypothesis import settings


def tries(count: int, **more: Any) -> settings:
    """Settings of a random test: so many examples, times what the environment asks for.

    No deadline for an example: the machine is shared. A failure prints how to see it again.
    """
    factor = float(os.environ.get("FLOWSTATE_EXAMPLES", "1"))
    return settings(
        max_examples=max(1, int(count * factor)), deadline=None, print_blob=True, **more
    )
