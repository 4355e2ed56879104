"""Where the simulated world meets the product: the few names that are replaced, and nothing else.

Replaced are the clients of Kafka, the local database, the providers' transports, the crash points
and the clocks. The batch protocol, restore, the order of taking, timers, the decision core, lanes,
positions, the writing of answers and the sinks run as they are.

Invariant: outside ``installed`` the product is untouched; inside, no module of it can reach what
was replaced, by whatever name and from whatever file.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from streams.engine.crash_points import CrashPoints
from streams.engine.endings import Endings
from streams.engine.reader import SharedReader
from streams.engine.store import PartitionStore, SharedMemory
from streams.simulation.chaos import SimCrashPoints
from streams.simulation.cluster import SimAdmin, SimConsumer, SimEndingsOf, SimProducer
from streams.simulation.disk import SimStore
from streams.simulation.reader import SimReader
from streams.simulation.story import StoryHandler
from streams.sinks.providers import build_providers
from streams.templates.catalogue import Templates

if TYPE_CHECKING:
    from streams.simulation.world import World

_PRODUCT = ("streams.engine.", "streams.agents.")
_CLOCKS = ("time_ns", "time", "monotonic", "perf_counter")


@functools.cache
def _templates(folder: Any) -> Any:
    """The templates, compiled once for all simulations of this process."""
    return Templates(folder)


def _stand_ins(world: World) -> list[tuple[Any, Any]]:
    """(what the product uses, what it uses here), wherever it is used."""
    cluster = world.cluster

    def providers(settings: Any, now_ms: int) -> Any:
        built = build_providers(settings, now_ms)
        for kind, of_kind in built.items():
            for provider in of_kind:
                provider.transport = world.providers.transport(kind)
        return built

    return [
        (SharedReader, functools.partial(SimReader, cluster)),
        (SharedMemory, lambda *_: None),
        (CrashPoints, lambda: SimCrashPoints(world.chaos)),
        (PartitionStore, functools.partial(SimStore, world.disks)),
        (Endings, SimEndingsOf(cluster)),
        (AIOKafkaProducer, functools.partial(SimProducer, cluster)),
        (AIOKafkaConsumer, functools.partial(SimConsumer, cluster)),
        (AIOKafkaAdminClient, functools.partial(SimAdmin, cluster)),
        (build_providers, providers),
        (Templates, _templates),
    ]


def _replacements(world: World) -> list[tuple[Any, str, Any]]:
    """(module, name, stand-in) of every place where the product names what is replaced."""
    stand_ins = {id(original): stand_in for original, stand_in in _stand_ins(world)}
    found: list[tuple[Any, str, Any]] = []
    for name in sorted(name for name in sys.modules if name.startswith(_PRODUCT)):
        module = sys.modules[name]
        found += [
            (module, attribute, stand_ins[id(value)])
            for attribute, value in sorted(vars(module).items())
            if id(value) in stand_ins
        ]
    return found + [(time, name, getattr(world.time, name)) for name in _CLOCKS]


@contextlib.contextmanager
def installed(world: World) -> Iterator[None]:
    """The product runs in ``world`` while this lasts."""
    replacements = _replacements(world)
    before = [(where, name, getattr(where, name)) for where, name, _ in replacements]
    handler = StoryHandler(world.story)
    logger = logging.getLogger("streams")
    level, propagate = logger.level, logger.propagate
    for where, name, stand_in in replacements:
        setattr(where, name, stand_in)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        for where, name, original in before:
            setattr(where, name, original)
