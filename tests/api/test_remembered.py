"""What a process remembers of what it accepted."""

from __future__ import annotations

from streams.api.remembered import Answers, Events, Generations


def test_generations_forget_by_number_and_by_age() -> None:
    clock = [0.0]
    known: Generations[int] = Generations(4, 10.0, lambda: clock[0])
    for n in range(7):
        known.put(b"%d" % n, n)
    assert len(known) <= 4
    assert known.get(b"6") == 6
    assert known.get(b"0") is None
    clock[0] = 6
    assert known.get(b"6") == 6
    clock[0] = 11.5
    assert known.get(b"6") is None


def test_an_event_is_known_when_it_is_acknowledged_and_not_before() -> None:
    events = Events(10, 1_000)
    assert events.ask(b"id", b"one") == "new"
    events.begin(b"id", b"one")
    assert events.ask(b"id", b"one") == "new"  # sent again meanwhile: written again, dropped later
    assert events.ask(b"id", b"two") == "conflict"
    events.end(b"id", b"one", is_accepted=False)
    assert events.ask(b"id", b"two") == "new"
    events.begin(b"id", b"two")
    events.end(b"id", b"two", is_accepted=True)
    assert events.ask(b"id", b"two") == "accepted"
    assert events.ask(b"id", b"one") == "conflict"


def test_an_answer_is_kept_unless_it_asked_to_try_again() -> None:
    answers = Answers(10, 1_000)
    assert answers.begin(b"k", b"body") is None
    known = answers.begin(b"k", b"body")
    assert known is not None
    assert known.body is None
    answers.end(b"k", b"body", 503, b"later")
    assert answers.begin(b"k", b"body") is None
    answers.end(b"k", b"body", 202, b"taken")
    known = answers.begin(b"k", b"body")
    assert known is not None
    assert (known.status, known.body) == (202, b"taken")
