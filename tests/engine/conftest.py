"""The bench: counting workers on the tests' broker."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.harness import Bench, make_bench


@pytest.fixture
async def bench(
    broker: Any, kafka_topics: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Bench]:
    """A bench of two partitions; ``@pytest.mark.parametrize("bench", [{...}], indirect=True)``
    changes its settings."""
    changes = getattr(request, "param", {})
    async with make_bench(broker.bootstrap, kafka_topics, tmp_path, **changes) as made:
        yield made
