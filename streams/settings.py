"""Everything that an operator decides, from ``flowstate.toml`` to frozen structs.

``load`` reads the file, lays ``FLOWSTATE_SECTION__KEY`` variables and overrides over it, and
either returns ``Settings`` that can be used or raises ``SettingsError`` with every mistake at
once. Packages declare their own settings structs; this file only says which section is whose and
fills what they share (the cluster, the clock, the data folder).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from streams.api.settings import ApiSettings, DecideWebSettings
from streams.configuration.catalogue import catalogue_problems, policy_of
from streams.configuration.document import read_document, written_at
from streams.configuration.environment import stranger_problems
from streams.configuration.kafka import KafkaSettings, client_security, kafka_problems
from streams.configuration.problems import Problem, SettingsError
from streams.configuration.quantities import duration_text
from streams.configuration.reload import POLL_MS
from streams.configuration.sections import Sections
from streams.configuration.shape import keys
from streams.core.policy import Bounds, Category, LimitRule, Policy
from streams.engine.settings import EngineSettings
from streams.ledger.settings import LedgerSettings, ReconcileSettings
from streams.privacy import KEY_CHARACTERS_MIN, PrivacySettings
from streams.sinks.settings import (
    AnyProvider,
    DeliverSettings,
    SmtpSettings,
    TwilioSettings,
    VonageSettings,
)
from streams.web.settings import WebSettings

__all__ = ["Settings", "SettingsError", "default_path", "load", "shipped_configuration"]

FILE_NAME = "flowstate.toml"
SECRET_CHARACTERS_MIN = 32


class RootSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Keys above all sections."""

    application: str = "flowstate"
    """Prefix of consumer groups and transactional ids."""
    clock: Literal["wall", "stream"] = "wall"
    """``stream``: time is what the records say (backtests, the demo)."""
    data_folder: str = ".flowstate"
    """State and history of this worker live under it."""
    catalogue_poll_ms: int | None = POLL_MS
    """How often the file is looked at for a changed catalogue, which is taken without a restart
    when it is right; ``false``: only when asked by SIGHUP."""
    internal_secret: str = ""
    """How workers on several machines know each other: the same for every role, 32 random
    characters or more. Empty: a worker's pages about people answer this machine only."""

    def __repr__(self) -> str:
        return f"RootSettings(application={self.application!r})"


class RegistrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The Schema Registry that producers use."""

    url: str = ""
    """Empty: events in the Confluent wire format are dead letters."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that has been checked."""

    source: str
    """Path of the file it is from."""
    application: str
    clock: Literal["wall", "stream"]
    data_folder: str
    registry_url: str | None
    kafka: KafkaSettings
    security: dict[str, Any]
    """Passed to every aiokafka client as it is."""
    policy: Policy
    engine: EngineSettings
    decide: DecideWebSettings
    deliver: DeliverSettings
    ledger: LedgerSettings
    api: ApiSettings
    reconcile: ReconcileSettings
    catalogue_poll_ms: int | None = POLL_MS
    web: WebSettings
    privacy: PrivacySettings

    def __repr__(self) -> str:
        return f"Settings(source={self.source!r}, policy={self.policy.version!r})"


PROVIDERS: dict[str, type[msgspec.Struct]] = {
    str(struct.__struct_config__.tag): struct for struct in get_args(AnyProvider)
}
"""``type`` of a ``[providers.NAME]`` -> its struct."""
OWN_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "engine": EngineSettings,
    "decide": DecideWebSettings,
    "deliver": DeliverSettings,
    "ledger": LedgerSettings,
    "api": ApiSettings,
    "reconcile": ReconcileSettings,
    "web": WebSettings,
    "privacy": PrivacySettings,
}
SHARED = frozenset(
    {
        "application",
        "bootstrap",
        "security",
        "partitions",
        "clock",
        "data_folder",
        "registry_url",
        "internal_secret",
    }
)
"""Fields of those structs that have one value for all, from other sections."""
POLICY_ELSEWHERE = frozenset({"version", "categories", "limits", "bounds", "kills"})
"""Fields of the policy that are not keys of ``[policy]``."""


def default_path() -> Path:
    """The configuration that is shipped: of the checkout, else of the installed package."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent, package):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise FileNotFoundError(f"{FILE_NAME} is neither beside nor inside the streams package")


def shipped_configuration() -> str:
    """The text of the shipped configuration."""
    return default_path().read_text(encoding="utf-8")


def load(
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Reads a configuration; without a path ``flowstate.toml`` of this folder, else the shipped.

    ``overrides`` are dotted keys or tables (``{"kafka.bootstrap": "..."}``), ``environment`` is
    this process' unless given. Raises SettingsError.
    """
    if path is None:
        path = Path(FILE_NAME) if Path(FILE_NAME).is_file() else default_path()
    environment = os.environ if environment is None else environment
    roots = {*keys(RootSettings), *(f"{name}_file" for name in keys(RootSettings))}
    document = read_document(Path(path), environment, overrides or {}, roots)
    sections = Sections(document)
    settings = _settings(str(path), sections)
    strangers = list(stranger_problems(environment, document.named, sections.known))
    if sections.problems or strangers or settings is None:
        variables = document.variables | {one.path: str(one.path[0]) for one in strangers}
        problems = [*sections.problems, *strangers]
        raise SettingsError(document.source, problems, document.lines, variables)
    return settings


def _settings(source: str, sections: Sections) -> Settings | None:
    """The settings, as far as they can be made; problems are left in ``sections``."""
    root = sections.root(RootSettings, [*OWN_SECTIONS, *_OTHER_SECTIONS])
    kafka = sections.table("kafka", KafkaSettings)
    registry = sections.table("registry", RegistrySettings)
    policy = _policy(sections)
    providers = sections.named_by_type("providers", PROVIDERS)
    own = {name: sections.open_table(name, struct, SHARED | {"providers"})
           for name, struct in OWN_SECTIONS.items()}  # fmt: skip
    if kafka is None or root is None or registry is None:
        return None
    sections.add(kafka_problems(kafka))
    security, problems = client_security(kafka)
    sections.add(problems)
    shared = {
        "application": root.application,
        "bootstrap": kafka.bootstrap,
        "security": security,
        "partitions": kafka.partitions,
        "clock": root.clock,
        "data_folder": root.data_folder,
        "registry_url": registry.url or None,
        "internal_secret": root.internal_secret,
    }
    built: dict[str, Any] = {}
    for name, struct in OWN_SECTIONS.items():
        fields = {f: value for f, value in shared.items() if f in struct.__struct_fields__}
        if "providers" in struct.__struct_fields__:
            fields["providers"] = tuple(_told(one, policy) for one in providers.values())
        built[name] = struct(**{**own[name], **fields})
    sections.add(_between(built["engine"], built["deliver"], sections))
    sections.add(_secret_problems(root, built["privacy"]))
    return Settings(
        source=source,
        application=root.application,
        clock=root.clock,
        data_folder=root.data_folder,
        registry_url=registry.url or None,
        kafka=kafka,
        security=security,
        policy=policy,
        catalogue_poll_ms=root.catalogue_poll_ms,
        **built,
    )


def _told(provider: Any, policy: Policy) -> Any:
    """A provider with what the catalogue says that it must obey; its own keys win.

    Mail of a mandatory category has no unsubscribe link: there is nothing to unsubscribe. A
    category's ceiling of SMS segments is its providers'.
    """
    if isinstance(provider, TwilioSettings | VonageSettings):
        usual = Category("").sms_segments_max
        ceilings = {
            category.name: category.sms_segments_max
            for category in policy.categories.values()
            if category.sms_segments_max != usual
        }
        own = provider.segments_max_by_category
        return msgspec.structs.replace(provider, segments_max_by_category={**ceilings, **own})
    if not isinstance(provider, SmtpSettings) or provider.unsubscribe_exempt:
        return provider
    mandatory = tuple(c.name for c in policy.categories.values() if c.mandatory)
    return msgspec.structs.replace(provider, unsubscribe_exempt=mandatory)


_OTHER_SECTIONS = (
    "kafka", "registry", "policy", "bounds", "defaults", "limits", "categories", "providers",
)  # fmt: skip


def _policy(sections: Sections) -> Policy:
    """``[policy]``, ``[bounds]``, ``[[limits]]``, ``[defaults]`` and ``[categories.NAME]``."""
    rules = sections.open_table("policy", Policy, POLICY_ELSEWHERE)
    bounds = sections.table("bounds", Bounds) or Bounds()
    limits = sections.tables("limits", LimitRule)
    defaults = sections.open_table("defaults", Category, frozenset({"name"}))
    categories = sections.named("categories", Category, frozenset({"name"}))
    policy = policy_of(
        {name: Category(**{**defaults, **own, "name": name}) for name, own in categories.items()},
        limits,
        bounds,
        rules,
    )
    sections.add(catalogue_problems(policy))
    return policy


def _between(
    engine: EngineSettings, deliver: DeliverSettings, sections: Sections
) -> Iterator[Problem]:
    """What keys demand of each other."""
    session = "engine.session_timeout", engine.session_timeout_ms
    revoke = "engine.revoke_max", engine.revoke_ms_max
    for path, value_ms, (name, below_ms), why in (
        (("deliver", "lease"), deliver.lease_ms, session, "a lease must end before ownership does"),
        (("engine", "heartbeat"), engine.heartbeat_ms, session, "a later one finds no session"),
        (("deliver", "stop_max"), deliver.stop_ms_max, revoke, "what is in doubt is written then"),
    ):
        if value_ms >= below_ms:
            written = written_at(sections.document, path)
            shown = duration_text(value_ms) if written is msgspec.UNSET else written
            bound = f'{name} ("{duration_text(below_ms)}")'
            yield Problem(path, f"expected less than {bound}: {why}", shown)


def _secret_problems(root: RootSettings, privacy: PrivacySettings) -> Iterator[Problem]:
    """Secrets that can be guessed. None at all is a choice, which has its own rules."""
    for path, secret, characters_min in (
        (("internal_secret",), root.internal_secret, SECRET_CHARACTERS_MIN),
        (("privacy", "hash_key"), privacy.hash_key, KEY_CHARACTERS_MIN),
    ):
        if 0 < len(secret) < characters_min:
            why = f"expected {characters_min} characters or more, or none: a short one is guessed"
            yield Problem(path, why)
