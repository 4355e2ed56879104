"""Kafka's jars: which they are, where they lie on this machine, and how they get there.

What: `kafka-jars.lock` names every jar of the broker with its SHA-256. `resolve()` returns their
paths; those that are missing are fetched from Maven Central, through jgo, into the repository that
Maven itself uses (`~/.m2/repository`, or $M2_REPO). `python -m streams.local.jars` writes the lock.

Why a lock: jgo's own resolution walks a hundred POM files and unpacks each jar to look for modules
(14 s), picks an old kafka-clients unless it is named, and verifies nothing. With the lock a first
start is 46 downloads (46 MB, about 5 s here), a later one needs neither the network nor jgo.

Invariants: what is returned exists and has the locked checksum; a damaged or half-written jar is
fetched again; one process at a time fetches.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

KAFKA_VERSION = "4.3.1"
LOCK_PATH = Path(__file__).with_name("kafka-jars.lock")

# kafka-clients is named because an old one is resolved otherwise; Kafka declares no log4j core.
_COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-core:2.25.3",
    "org.apache.logging.log4j:log4j-api:2.25.3",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3",
)

Progress = Callable[[str], None]
"""Called with a sentence for a person each time there is something new to say."""


class JarError(Exception):
    """A jar cannot be had. The message is a sentence for a person, with what to do."""


class Jar(NamedTuple):
    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def path(self) -> Path:
        name = f"{self.artifact}-{self.version}.jar"
        return _repository() / self.group.replace(".", "/") / self.artifact / self.version / name

    def is_intact(self) -> bool:
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def resolve(progress: Progress | None = None) -> list[Path]:
    """The paths of all jars, fetching what is missing. Raises JarError."""
    jars = read_lock()
    if not all(jar.is_intact() for jar in jars):
        _fetch_missing(jars, progress or _say_nothing)
    return [jar.path for jar in jars]


def read_lock() -> list[Jar]:
    jars = []
    for line in LOCK_PATH.read_text().splitlines():
        if line and not line.startswith("#"):
            sha256, coordinate = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return jars


def _fetch_missing(jars: list[Jar], progress: Progress) -> None:
    repository = _repository()
    repository.mkdir(parents=True, exist_ok=True)
    with (repository / ".flowstate-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that start at once would write the same files
        missing = [jar for jar in jars if not jar.is_intact()]
        for position, jar in enumerate(missing, start=1):
            progress(f"Fetching Apache Kafka {KAFKA_VERSION}: file {position} of {len(missing)}")
            _fetch(jar)


def _fetch(jar: Jar) -> None:
    # Imported here: jgo brings requests and more, and only a first start needs it.
    from jgo.maven import MavenContext  # noqa: PLC0415

    jar.path.unlink(missing_ok=True)
    context = MavenContext(repo_cache=_repository(), timeout=30)
    project = context.project(jar.group, jar.artifact)
    name = f"{jar.group}:{jar.artifact}:{jar.version}"
    try:
        project.at_version(jar.version).artifact().resolve()
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
        raise JarError(
            f"Cannot fetch {name} from Maven Central ({type(error).__name__}). The first start of"
            " the embedded broker needs the network once; or copy the jars that"
            f" {LOCK_PATH.name} names into {_repository()}."
        ) from error
    if not jar.is_intact():
        jar.path.unlink(missing_ok=True)
        raise JarError(
            f"{name} arrived with a checksum other than the one in {LOCK_PATH.name}: it was cut"
            " short or changed on the way, and has been removed. Start again; if it stays, look"
            " at what is between this machine and Maven Central."
        )


def _repository() -> Path:
    return Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository")


def _say_nothing(_sentence: str) -> None: ...


def write_lock() -> None:
    """Resolve the coordinates afresh and write down what came, with checksums."""
    import jgo  # noqa: PLC0415

    lines = [
        "# Every jar of the embedded broker: SHA-256 and Maven coordinate.",
        "# Written by `make lock` (python -m streams.local.jars); do not edit.",
    ]
    for artifact in sorted(jgo.resolve("+".join(_COORDINATES)), key=lambda a: a.artifactId):
        checksum = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
        lines.append(f"{checksum}  {artifact.groupId}:{artifact.artifactId}:{artifact.version}")
    LOCK_PATH.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_lock()
