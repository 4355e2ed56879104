"""Sessions of people in a browser, and the tokens of forms: signed, kept nowhere.

A session is a cookie ``KEY_ID.EXPIRES.NONCE.SIGNATURE``: which API key began it, and until when.
The key is looked up again at each request, so a revoked key ends its sessions at once. A form's
token is a signature over a random cookie of the browser and its session, so that a page elsewhere
can neither guess it nor take it from another session.

Pure but for random numbers; ``now_ms`` is an argument. Invariants: everything is compared in
constant time; a signature is for one purpose and never fits another.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

NONCE_BYTES = 16
COOKIE_CHARACTERS_MAX = 256


class Sessions:
    """Signs and reads. Workers with the same secret know each other's sessions."""

    def __init__(self, secret: bytes, lifetime_ms: int) -> None:
        self._secret = secret
        self.lifetime_ms = lifetime_ms

    def begin(self, key_id: str, now_ms: int) -> str:
        """A cookie for a session of this key."""
        text = f"{key_id}.{now_ms + self.lifetime_ms}.{secrets.token_hex(NONCE_BYTES)}"
        return f"{text}.{self._sign('session', text)}"

    def key_id(self, cookie: str, now_ms: int) -> str | None:
        """Whose session it is; ``None`` for one that is over, was changed, or is none."""
        if len(cookie) > COOKIE_CHARACTERS_MAX or not cookie.isascii():
            return None
        text, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(self._sign("session", text), signature):
            return None
        key_id, expires, _ = text.split(".")
        return key_id if now_ms < int(expires) else None

    def form_token(self, browser: str, session: str) -> str:
        """What a form carries; ``browser`` is its random cookie, ``session`` may be empty."""
        return self._sign("form", f"{browser}/{session}")

    def fits(self, token: str, browser: str, session: str) -> bool:
        """Whether a form that was sent is one that we made for this browser and session."""
        if not browser or not token.isascii():
            return False
        return hmac.compare_digest(self.form_token(browser, session), token)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


def new_browser() -> str:
    """A random name for a browser that has none yet."""
    return secrets.token_hex(NONCE_BYTES)
