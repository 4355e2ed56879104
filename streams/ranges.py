"""Ranges of settings, written where a setting is declared: ``port: Port = 8080``.

``streams/configuration/shape.py`` checks what a file says against them, messages and the reference
name them. A number without a range may be nought: there it says "never", "at once" or "no more".

Invariant: a default is not checked (``Needed`` has an empty one, so that tests can make the
structs by hand); only what is written, or is missing, is.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

OneOrMore = Annotated[int, Meta(ge=1)]
"""A count, a size or a duration of which nought would mean that nothing ever happens."""
Share = Annotated[float, Meta(ge=0, le=1)]
"""A part of a whole."""
Rate = Annotated[float, Meta(gt=0)]
"""So many a second or minute."""
Port = Annotated[int, Meta(ge=0, le=65_535)]
"""To listen on; 0 takes a free one."""
FarPort = Annotated[int, Meta(ge=1, le=65_535)]
"""To connect to."""
Needed = Annotated[str, Meta(min_length=1)]
"""A text without which its table cannot work."""
