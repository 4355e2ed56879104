"""Links and the picture in HTML mail: sealed, only where asked for, nothing else changed."""

from __future__ import annotations

import email
import email.policy
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from streams import links
from streams.sinks.base import MailRequest
from streams.sinks.settings import SmtpSettings, TrackingSettings
from streams.sinks.smtp import Smtp
from streams.sinks.tracking import tracked
from streams.templates.rendered import Rendered
from tests.agents.delivering import delivery
from tests.sinks.cases import NOW_MS

BOTH = TrackingSettings("https://n.example/", ("new", "old"), opens=True, clicks=True)
SOME = delivery(1, "email")
HTML = (
    "<html><body><p>Hi</p><a class=x href='https://shop.example/?a=1&amp;b=2'>shop</a>"
    '<a href="mailto:a@b.example">write</a><a href="#top">top</a></BODY></html>'
)


class Seen(HTMLParser):
    """Targets of links and pictures, and the words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif tag == "img":
            self.pictures.append(given.get("src") or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_click_and_an_open_lead_to_what_they_are_about() -> None:
    seen = Seen(tracked(HTML, BOTH, SOME, NOW_MS))
    click, *rest = seen.links
    assert rest == ["mailto:a@b.example", "#top"]
    assert click.startswith("https://n.example/c/")
    link = links.verify(("new",), "click", click.rpartition("/")[2])
    assert link is not None
    assert link.target == "https://shop.example/?a=1&b=2"
    assert (link.delivery_id, link.recipient_id) == (SOME.delivery_id, SOME.recipient_id)
    (picture,) = seen.pictures
    opened = links.verify(("new",), "open", picture.removeprefix("https://n.example/o/"))
    assert opened is not None
    assert opened.notification_id == SOME.notification_id
    assert SOME.recipient_id not in click + picture


def test_nothing_is_tracked_unless_it_is_asked_for() -> None:
    for settings in (
        TrackingSettings(),
        TrackingSettings("https://n.example", ("s",)),
        TrackingSettings("https://n.example", (), opens=True, clicks=True),
        TrackingSettings("", ("s",), opens=True, clicks=True),
        TrackingSettings("https://n.example", ("s",), True, True, exempt=("message",)),
    ):
        assert tracked(HTML, settings, SOME, NOW_MS) == HTML


def test_our_own_links_are_not_led_through_us_again() -> None:
    own = '<a href="https://n.example/u/token">unsubscribe</a>'
    assert Seen(tracked(own, BOTH, SOME, NOW_MS)).links == ["https://n.example/u/token"]


@given(st.text(st.sampled_from("<>\"'a href=/:?#&\n \\bx"), max_size=60))
def test_whatever_the_markup_its_words_stay(text: str) -> None:
    settings = TrackingSettings("https://n.example", ("s",), clicks=True)
    page = f'<p>{text}</p><a href="https://x.example/">y</a>'
    assert Seen(tracked(page, settings, SOME, NOW_MS)).words == Seen(page).words


def test_mail_carries_them_and_its_plain_text_does_not() -> None:
    sink = Smtp(SmtpSettings(tracking=BOTH))
    rendered = Rendered("t", "See https://shop.example/", "s", HTML)
    request = sink.build_request(SOME, rendered, None, NOW_MS)
    assert isinstance(request, MailRequest)
    message = email.message_from_bytes(request.message, policy=email.policy.default)
    plain, rich = (part.get_content() for part in message.iter_parts())
    assert "https://shop.example/" in plain
    assert "n.example" not in plain
    assert len(Seen(rich).pictures) == 1
    assert Seen(rich).links[0].startswith("https://n.example/c/")
