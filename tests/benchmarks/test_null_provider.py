"""The provider that costs nothing: every sink's transport takes its answers for what they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.deliver import KINDS, NullProvider, configuration, deliveries
from streams.codec import Codec
from streams.local.authority import Identity, identity
from streams.settings import load
from streams.sinks.base import Accepted, Outcome, Retry
from streams.sinks.dispatch import Dispatcher
from streams.sinks.providers import Provider, build_providers
from streams.templates.catalogue import Templates
from streams.templates.render import render
from streams.templates.rendered import Rendered


@pytest.fixture
def known(tmp_path: Path) -> Identity:
    return identity(tmp_path)


@pytest.fixture
def provider(tmp_path: Path, known: Identity) -> Iterator[NullProvider]:
    made = NullProvider(tmp_path)
    yield made
    made.kill()


async def outcomes(text: str, tmp_path: Path, provider: NullProvider, known: Identity) -> list[
    tuple[str, Outcome]
]:  # fmt: skip
    """What becomes of one delivery of each kind."""
    path = tmp_path / "flowstate.toml"
    path.write_text(text)
    settings = load(path, environment={}).deliver
    dispatcher = Dispatcher(build_providers(settings, 0), settings.partitions)
    templates, codec = Templates(), Codec()
    await dispatcher.start()
    found = []
    try:
        for kind in KINDS:
            (one,) = deliveries(kind, 1, 1, known, provider)
            one = codec.decode_delivery(codec.encode_delivery(one))
            chosen = dispatcher.reserve(one, 0)
            words = render(one, templates)
            assert isinstance(chosen, Provider)
            assert isinstance(words, Rendered)
            found.append((kind, (await dispatcher.send(chosen, one, words)).outcome))
    finally:
        await dispatcher.stop()
    return found


async def test_it_takes_what_every_http_sink_sends_and_refuses_while_it_is_away(
    tmp_path: Path, provider: NullProvider, known: Identity
) -> None:
    text = configuration(known, provider)
    for kind, outcome in await outcomes(text, tmp_path, provider, known):
        assert isinstance(outcome, Accepted), (kind, outcome)
    assert await provider.say("away") >= len(KINDS)
    for kind, outcome in await outcomes(text, tmp_path, provider, known):
        assert isinstance(outcome, Retry), (kind, outcome)
    await provider.say("back")
    (_, first), *_ = await outcomes(text, tmp_path, provider, known)
    assert isinstance(first, Accepted)


def test_deliveries_are_of_different_people(provider: NullProvider, known: Identity) -> None:
    made = [
        *deliveries("apns", 50, 1, known, provider),
        *deliveries("apns", 50, 2, known, provider),
    ]
    assert len({one.delivery_id for one in made}) == 100
    assert len({one.recipient_id for one in made}) == 100
    assert all(msgspec.json.encode(one) for one in made)
