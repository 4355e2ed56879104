"""``FLOWSTATE_...`` variables: which key one sets, and which belong to others.

``FLOWSTATE_KAFKA__BOOTSTRAP`` is ``kafka.bootstrap``: two underscores for each dot. A variable of
our prefix that is no key and nobody else's is a mistake (most often one underscore where two are
meant), and stops the start like a misspelt key of the file.

Nobody's mistakes are what other parts of the project read (``READ_ELSEWHERE``), what the file
names as ``${FLOWSTATE_...}``, and what Kubernetes gives every container for a Service whose name
begins like ours (``flowstate-deliver`` makes ``FLOWSTATE_DELIVER_PORT=tcp://10.0.0.7:6066``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from streams.configuration.problems import Path, Problem, did_you_mean

PREFIX = "FLOWSTATE_"
READ_ELSEWHERE = frozenset(
    {
        "FLOWSTATE_CRASH_POINT",  # streams/engine/crash_points.py
        "FLOWSTATE_EXAMPLES",  # tests/core/profiles.py
        "FLOWSTATE_FUZZ_EXAMPLES",  # tests/api/test_openapi.py
    }
)

# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_OF_A_SERVICE = re.compile(
    r"[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)"
)
_ADDRESS_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://\S+")


def settings_in(
    environment: Mapping[str, str], roots: Collection[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(variable, the path of its key). ``roots`` are keys at the top, which have no ``__``."""
    for name in sorted(environment):
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        if name.startswith(PREFIX) and all(path) and (len(path) > 1 or path[0] in roots):
            yield name, path


def stranger_problems(
    environment: Mapping[str, str], taken: Collection[str], known: Iterable[Path]
) -> Iterator[Problem]:
    """Variables of our prefix that are neither ``taken`` nor anybody else's.

    ``known`` are the keys that a variable could have meant.
    """
    keys = ["__".join(map(str, path)).upper() for path in known]
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in taken or name in READ_ELSEWHERE:
            continue
        if _is_of_a_service(name, environment[name]):
            continue
        near = did_you_mean(name.removeprefix(PREFIX), keys).replace('"', f'"{PREFIX}', 1)
        why = near or f"; two underscores stand for each dot: {PREFIX}SECTION__KEY"
        yield Problem((name,), f"is no setting{why}")


def _is_of_a_service(name: str, value: str) -> bool:
    if name.endswith("_PORT") and _ADDRESS_OF_A_SERVICE.fullmatch(value):
        return True
    return _OF_A_SERVICE.fullmatch(name) is not None
