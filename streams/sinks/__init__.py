"""Sinks: one file per provider, each a pure pair of functions around somebody else's API.

``build_request(delivery, rendered, credentials, now_ms)`` says what to send, ``classify`` what an
answer means. ``base.py`` has the shapes they share, ``dispatch.py`` chooses a provider and does the
sending through ``http2_client.py``, ``http_client.py``, ``guarded_client.py`` or
``smtp_client.py``. Nothing here retries: what must be tried again goes back to DECIDE as feedback.
"""
