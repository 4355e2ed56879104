"""Our own writer of messages against the standard library's reader."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.sinks.mime import LINE_BYTES_MAX, HeaderRefused, header, message

NOW_MS = 1_700_000_000_000
printable = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=200)
words = st.text(
    st.characters(
        categories=("L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Co"), exclude_characters="\r\0"
    ),
    max_size=400,
)


@settings(max_examples=150, deadline=None)
@given(subject=printable, text=words, html=st.none() | words)
def test_the_standard_library_reads_what_was_written(
    subject: str, text: str, html: str | None
) -> None:
    subject = " ".join(subject.split())
    raw = message(
        [("From", "J\u00f6rg <a@example.com>"), ("To", "b@example.com"), ("Subject", subject)],
        text, html, "seed", NOW_MS,
    )  # fmt: skip
    assert all(len(line) <= LINE_BYTES_MAX for line in raw.split(b"\r\n"))
    assert b"\n" not in raw.replace(b"\r\n", b"")
    read = email.message_from_bytes(raw, policy=email.policy.default)
    assert not read.defects
    assert read["From"].addresses[0].addr_spec == "a@example.com"
    assert read["From"].addresses[0].display_name == "J\u00f6rg"
    assert " ".join(read["Subject"].split()) == subject
    body = read.get_body(("plain",))
    assert body is not None
    assert body.get_content().splitlines() == ("\n".join(text.splitlines()) + "\n").splitlines()
    if html is not None:
        marked = read.get_body(("html",))
        assert marked is not None
        assert (
            marked.get_content().splitlines() == ("\n".join(html.splitlines()) + "\n").splitlines()
        )


@pytest.mark.parametrize("bad", ["\r\nBcc: x@example.com", "a\nb", "a\rb", "a\0b", "\x7f"])
@pytest.mark.parametrize("around", ["{}", "plain {}", "\u00e4 {}"])
def test_no_value_writes_a_header_of_its_own(bad: str, around: str) -> None:
    with pytest.raises(HeaderRefused):
        header("Subject", around.format(bad))


def test_a_line_that_cannot_be_folded_is_refused() -> None:
    with pytest.raises(HeaderRefused):
        header("Subject", "x" * 2_000)
