"""The configuration that is shipped loads; every mistake in another is named, all at once."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest

from streams.core.policy import Category, DigestRule, LimitRule, RetryRule
from streams.settings import (
    OWN_SECTIONS,
    PROVIDERS,
    Settings,
    SettingsError,
    default_path,
    load,
    shipped_configuration,
)
from streams.sinks.settings import ApnsSettings, SmtpSettings, TwilioSettings

MINIMAL = "[categories.message]\n"
SECRET = "thirty-two characters, or more..."
NEEDED: dict[str, dict[str, str]] = {
    "apns": {"team_id": "t", "key_id": "k", "private_key_pem": "p"},
    "fcm": {"project_id": "p", "service_account_json": "{}"},
    "twilio": {"account_sid": "a", "auth_token": "b", "sender": "MG1"},
    "vonage": {"api_key": "a", "api_secret": "b", "sender": "us"},
    "webpush": {"private_key_pem": "p"},
}
"""What a provider of each type cannot do without."""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "flowstate.toml"
    path.write_text(text)
    return path


def loaded(tmp_path: Path, text: str, **environment: str) -> Settings:
    return load(write(tmp_path, text), environment=environment)


def mistakes(tmp_path: Path, text: str, **environment: str) -> dict[str, str]:
    """Key -> what would be right, of everything that is wrong."""
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text, **environment)
    return {problem.key: problem.expected for problem in caught.value.problems}


# ------------------------------------------------------------------------------------ what loads


def test_the_shipped_configuration_is_the_demos() -> None:
    settings = load(default_path(), environment={})
    categories = settings.policy.categories
    assert set(categories) == {"message", "security", "payment", "like", "marketing"}
    assert categories["message"].digest == DigestRule("lookback", key=("actor_id",))
    assert categories["message"].limits == (LimitRule("category", 12, 3_600_000, "digest"),)
    assert (categories["security"].priority, categories["security"].mandatory) == ("critical", True)
    assert categories["payment"].route == "escalate"
    assert categories["like"].digest == DigestRule(
        "calendar", times=("12:30", "18:30"), items_kept_max=3
    )
    assert (categories["marketing"].priority, categories["marketing"].default_on) == ("bulk", False)
    assert all(c.retry == RetryRule() for c in categories.values())
    assert settings.policy.kills == frozenset()
    assert settings.deliver.providers == ()


def test_what_the_shipped_configuration_teaches_works(tmp_path: Path) -> None:
    """Every line that is commented out is one to uncomment."""
    text = re.sub(r"(?m)^# (?=\[providers|[a-z_]+ = )", "", shipped_configuration())
    assert text.count("[providers.") == 4
    for name in ("apns.p8", "fcm.json"):
        text = text.replace(f"/run/secrets/{name}", str(tmp_path / name))
        (tmp_path / name).write_text(f"secret of {name}\n")
    text = text.replace("/etc/flowstate/ca.pem", ssl.get_default_verify_paths().cafile or "")
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "from the environment")
    settings = loaded(tmp_path, text, **environment)
    apns, _, twilio, ses = settings.deliver.providers
    assert isinstance(apns, ApnsSettings)
    assert apns.private_key_pem == "secret of apns.p8"
    assert isinstance(twilio, TwilioSettings)
    assert twilio.auth_token == "from the environment"
    assert isinstance(ses, SmtpSettings)
    assert (ses.name, ses.unsubscribe_exempt) == ("ses", ("security",))
    assert settings.security["sasl_plain_password"] == "from the environment"
    assert isinstance(settings.security["ssl_context"], ssl.SSLContext)


def test_a_categorys_ceiling_of_sms_is_its_providers_and_their_own_wins(tmp_path: Path) -> None:
    text = (
        "[categories.code]\nsms_segments_max = 1\n[categories.news]\nsms_segments_max = 4\n"
        '[categories.plain]\n[providers.twilio]\naccount_sid = "a"\nauth_token = "b"\n'
        'sender = "MG1"\nsegments_max = 3\nsegments_max_by_category = { news = 2 }\n'
    )
    (twilio,) = loaded(tmp_path, text).deliver.providers
    assert isinstance(twilio, TwilioSettings)
    assert twilio.segments_max_by_category == {"code": 1, "news": 2}


def test_a_category_cannot_have_a_channels_name(tmp_path: Path) -> None:
    found = mistakes(tmp_path, "[categories.sms]\n[categories.smsy]\n")
    assert list(found) == ["categories.sms"]
    assert "rename it" in found["categories.sms"]


def test_sections_share_the_cluster_and_the_clock(tmp_path: Path) -> None:
    settings = load(
        write(tmp_path, MINIMAL),
        {
            "clock": "stream",
            "application": "other",
            "data_folder": "/data",
            "kafka": {"bootstrap": "k:1", "partitions": 8},
            "registry.url": "http://r",
        },
        {},
    )
    for name in OWN_SECTIONS:
        section = getattr(settings, name)
        for field, value in (
            ("clock", "stream"), ("partitions", 8), ("bootstrap", "k:1"), ("application", "other"),
            ("data_folder", "/data"), ("registry_url", "http://r"), ("security", {}),
        ):  # fmt: skip
            assert getattr(section, field, value) == value, (name, field)
    assert settings.engine.partitions == settings.deliver.partitions == 8
    assert settings.engine.clock == settings.deliver.clock == "stream"


def test_the_environment_is_read_as_each_key_wants_it(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        MINIMAL,
        FLOWSTATE_KAFKA__BOOTSTRAP="k-1:9092,k-2:9092",
        FLOWSTATE_KAFKA__PARTITIONS="32",
        FLOWSTATE_KAFKA__SASL_USERNAME="12345",
        FLOWSTATE_ENGINE__TICK="50ms",
        FLOWSTATE_ENGINE__WEB_ENABLED="false",
        FLOWSTATE_LEDGER__PARTITION_BYTES_MAX="1GiB",
        FLOWSTATE_CATEGORIES__MESSAGE__CHANNELS='["sms"]',
        FLOWSTATE_CATEGORIES__MESSAGE__RETRY__ATTEMPTS_MAX="3",
        FLOWSTATE_DATA_FOLDER="/elsewhere",
        FLOWSTATE_CRASH_POINT="of no concern here",
    )
    assert settings.kafka.bootstrap == "k-1:9092,k-2:9092"
    assert settings.kafka.partitions == 32
    assert settings.kafka.sasl_username == "12345"
    assert (settings.engine.tick_ms, settings.engine.web_enabled) == (50, False)
    assert settings.ledger.partition_bytes_max == 1 << 30
    assert settings.policy.categories["message"].channels == ("sms",)
    assert settings.policy.categories["message"].retry.attempts_max == 3
    assert settings.data_folder == "/elsewhere"


def test_a_category_starts_from_the_defaults_and_wins_over_them(tmp_path: Path) -> None:
    text = """
    [defaults]
    channels = ["sms"]
    digest = { mode = "window", window = "2h" }
    [categories.a]
    [categories.b]
    channels = ["email", "push"]
    digest = false
    """
    categories = loaded(tmp_path, text).policy.categories
    assert categories["a"] == Category(
        "a", channels=("sms",), digest=DigestRule("window", 7_200_000)
    )
    assert categories["b"] == Category("b", channels=("email", "push"))


def test_the_version_is_of_what_the_catalogue_says_and_of_nothing_else(tmp_path: Path) -> None:
    first = loaded(tmp_path, MINIMAL).policy.version
    assert re.fullmatch("[0-9a-f]{12}", first)
    same = loaded(tmp_path, "# comment\n[categories.message]\npriority = 'normal'\n[engine]\n")
    assert same.policy.version == first
    reordered = loaded(tmp_path, "[categories.b]\n[categories.a]\n").policy.version
    assert loaded(tmp_path, "[categories.a]\n[categories.b]\n").policy.version == reordered
    for change in (
        "priority = 'bulk'",
        "mandatory = true",
        "limits = [{ scope = 'category', count_max = 1, window = '1h' }]",
        "retry = { delay = '6s' }",
        "[policy]\nrelease_jitter = '1m'",
        "[bounds]\nheld_max = 5",
        "[categories.other]",
    ):
        assert loaded(tmp_path, f"{MINIMAL}{change}\n").policy.version != first, change


# ------------------------------------------------------------------------------- what is mistaken


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("clock = 'wal'", "clock", 'one of wall, stream; did you mean "wall"'),
        ("clok = 'wall'", "clok", 'not a key here; did you mean "clock"'),
        ("[kafak]", "kafak", 'did you mean "kafka"'),
        ("kafka = 5", "kafka", "expected a table: [kafka]"),
        ("[kafka]\nbootstrap = 'localhost'", "kafka.bootstrap", '"host:port"'),
        ("[kafka]\nbootstrap = 'a:1,b'", "kafka.bootstrap", '"host:port"'),
        ("[kafka]\npartitions = 0", "kafka.partitions", "1 to 4096"),
        ("[kafka]\npartitions = '16'", "kafka.partitions", "whole number"),
        ("[kafka]\nreplication = 0", "kafka.replication", "at least 1"),
        ("[kafka]\nsecurity_protocol = 'SASL_SSL'", "kafka.sasl_password", "SASL_SSL needs it"),
        ("[kafka]\nsecurity_protocol = 'SSL'\nssl_ca_file = '/none'", "kafka.ssl_ca_file",
         "No such file"),
        ("[kafka]\nsecurity_protocol = 'ssl'", "kafka.security_protocol", "one of PLAINTEXT"),
        ("[engine]\ntick = 100", "engine.tick", "a duration such as"),
        ("[engine]\ntick_ms = 100", "engine.tick_ms", 'did you mean "tick"'),
        ("[engine]\nclock = 'wall'", "engine.clock", "not a key here"),
        ("[engine]\nblock_cache_bytes = '5GB'", "engine.block_cache_bytes", "a size such as"),
        ("[engine]\nweb_enabled = 'no'", "engine.web_enabled", "true or false"),
        ("[kafka]\npartitions = '16'", "kafka.partitions", "1 to 4096"),
        ("[engine]\nweb_port = 99999", "engine.web_port", "0 to 65535"),
        ("[engine]\nbatch_records_max = 0", "engine.batch_records_max", "at least 1"),
        ("[engine]\ntick = '0s'", "engine.tick", 'at least "1ms"'),
        ("[engine]\nlog_level = 'info'", "engine.log_level", "one of DEBUG, INFO"),
        ("[engine]\nheartbeat = '6s'", "engine.heartbeat", "less than engine.session_timeout"),
        ("[registry]\nurl = 'schema-registry:8081'", "registry.url", "a URL such as"),
        ("[api]\npublic_url = 'example.com'", "api.public_url", "a URL such as"),
        ("[api]\ndecide_urls = ['http://a:99999']", "api.decide_urls[0]", "a URL such as"),
        ("[api]\nport = 70000", "api.port", "0 to 65535"),
        ("[api]\nitems_max = 0", "api.items_max", "at least 1"),
        ("[ledger]\nbulk_kept_share = 7.5", "ledger.bulk_kept_share", "0 to 1"),
        ("[ledger]\nretention_days = 0", "ledger.retention_days", "at least 1"),
        ("[web]\nlogins_per_minute = 0", "web.logins_per_minute", "more than 0"),
        ("[providers.fcm]\nquota_per_second = 0", "providers.fcm.quota_per_second",
         "more than 0"),
        ("[providers.apns]\ntoken_refresh = '1m'", "providers.apns.token_refresh",
         '"20m" to "1h"'),
        ("[providers.twilio]\nendpoint = 'nothing'", "providers.twilio.endpoint",
         "a URL such as"),
        ("[providers.twilio]\naccount_sid = ''", "providers.twilio.account_sid", "is empty"),
        ("[providers.smtp]\nhost = ''", "providers.smtp.host", "is empty"),
        ("[providers.webhook.addresses]\nports = [0]", "providers.webhook.addresses.ports[0]",
         "1 to 65535"),
        ("internal_secret = 'short'", "internal_secret", "32 characters or more"),
        ("[deliver]\nlease = '1h'", "deliver.lease", "less than engine.session_timeout"),
        ("[deliver]\nstop_max = '20s'", "deliver.stop_max", "less than engine.revoke_max"),
        ("[providers.foo]", "providers.foo.type", "one of apns, fcm"),
        ("[providers.foo]\ntype = 'smpt'", "providers.foo.type", 'did you mean "smtp"'),
        ("[providers.apns]\nkey = 'x'", "providers.apns.key", "not a key here"),
        ("[providers.smtp]\nport = 'x'", "providers.smtp.port", "whole number"),
        ("[providers.smtp.http]\nrequest = '5s'", "providers.smtp.http.request",
         "not a key here"),
        ("[providers.smtp]\npassword_file = 'none'", "providers.smtp.password_file",
         "No such file"),
        ("[providers.smtp]\nport_file = 'none'", "providers.smtp.port_file", "file with a text"),
        ("[providers]\nsmtp = 5", "providers.smtp", "expected a table"),
        ("limits = 5", "limits", "[[limits]]"),
        ("[[limits]]\nscope = 'recipient'\nwindow = '1h'", "limits[0].count_max", "is missing"),
        ("[[limits]]\nscope = 'recipient'\nwindow = '1h'\ncount_max = 0", "limits[0].count_max",
         "at least 1"),
        ("[[limits]]\nscope = 'channel'\nwindow = '1h'\ncount_max = 1\nname = 'emial'",
         "limits[0].name", 'did you mean "email"'),
        ("[[limits]]\nscope = 'channel'\nwindow = '1ms'\ncount_max = 1", "limits[0].window",
         'at least "1s"'),
        ("[bounds]\nheld_max = 0", "bounds.held_max", "at least 1"),
        ("[policy]\ndelivery_valid = '0s'", "policy.delivery_valid", "at least"),
        ("[policy]\nversion = 'x'", "policy.version", "not a key here"),
        ("[defaults]\nname = 'x'", "defaults.name", "not a key here"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_key(tmp_path: Path, text: str, key: str, says: str) -> None:
    found = mistakes(tmp_path, f"{text}\n{MINIMAL}")
    assert says in found[key]


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("channels = []", "channels", "at least one of push"),
        ("channels = ['fax']", "channels[0]", "one of push, email"),
        ("channels = 'push'", "channels", "expected a list"),
        ("channels = ['push', 'push']", "channels", "twice"),
        ("default_off_channels = ['sms']", "default_off_channels", "sms is not among"),
        ("mandatory = true\ndefault_on = false", "default_on", "cannot be off"),
        ("route = 'escalate'\nchannels = ['push']", "channels", "at least two"),
        ("route = 'escalate'\nescalate_after = '0s'", "escalate_after", "expected a time"),
        ("quiet_action = 'downgrade'\ndowngrade_to = ['sms']", "downgrade_to", "none of these"),
        ("expires_after = '5ms'", "expires_after", "at least"),
        ("sms_segments_max = 11", "sms_segments_max", "1 to 10"),
        ("retry = { attempts_max = 0 }", "retry.attempts_max", "at least 1"),
        ("retry = { delay = '2h' }", "retry.delay", "longer than"),
        ("digest = { window = '1h' }", "digest.mode", "is missing: expected one of window"),
        ("digest = { mode = 'window', window = '1ms' }", "digest.window", "at least"),
        ("digest = { mode = 'calendar' }", "digest.times", "is missing"),
        ("digest = { mode = 'calendar', times = ['8:00'] }", "digest.times[0]", "HH:MM"),
        ("digest = { mode = 'window', key = ['actor'] }", "digest.key[0]", "actor_id"),
        ("digest = { mode = 'window', keep = 'top' }", "digest.top_by", "data.NAME"),
        ("digest = { mode = 'debounce', window = '2d' }", "digest.age_max", "shorter"),
        ("digest = { mode = 'window', items_kept_max = 0 }", "digest.items_kept_max", "1 to"),
        ("limits = [{ scope = 'categry' }]", "limits[0].scope", 'did you mean "category"'),
        ("prioritty = 'bulk'", "prioritty", 'did you mean "priority"'),
    ],
)
def test_a_mistake_in_a_category_is_named(tmp_path: Path, text: str, key: str, says: str) -> None:
    found = mistakes(tmp_path, f"{MINIMAL}{text}\n")
    assert says in found[f"categories.message.{key}"]


def test_names_of_categories(tmp_path: Path) -> None:
    assert "[categories.message]" in mistakes(tmp_path, "")["categories"]
    assert "expected a name" in mistakes(tmp_path, '[categories."a/b"]')['categories."a/b"']


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = """clock = "wal"
[kafka]
bootstrap = "localhost"
partitions = "16"
[categories.message]
chanels = ["push"]
digest = { mode = "calendar" }
[categories.other]
digest = { mode = "calendar" }
"""
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text, FLOWSTATE_ENGINE__TIKC="1s")
    assert (
        str(caught.value)
        == """flowstate.toml and the environment have 6 mistakes:
  line 1: clock = "wal"
      expected one of wall, stream; did you mean "wall"?
  line 3: kafka.bootstrap = "localhost"
      expected "host:port", several with commas between
  line 4: kafka.partitions = "16"
      expected a whole number, 1 to 4096
  line 6: categories.message.chanels = ["push"]
      is not a key here; did you mean "channels"?
  line 9: categories.other.digest.times
      is missing: a calendar digest needs local times, such as ["08:00", "18:30"]
  environment FLOWSTATE_ENGINE__TIKC = "1s"
      is not a key here; did you mean "tick"?"""
    )


def test_a_key_that_can_be_guessed_is_refused_and_not_shown(tmp_path: Path) -> None:
    assert loaded(tmp_path, MINIMAL).privacy.hash_key == ""
    key = "sixteen or more!"
    assert loaded(tmp_path, MINIMAL, FLOWSTATE_PRIVACY__HASH_KEY=key).privacy.hash_key == key
    (why,) = mistakes(tmp_path, MINIMAL, FLOWSTATE_PRIVACY__HASH_KEY=key[:-1]).values()
    assert "16 characters" in why
    assert key[:-1] not in why


def test_what_a_provider_cannot_do_without_is_named(tmp_path: Path) -> None:
    text = MINIMAL + "".join(f"[providers.{kind}]\n" for kind in PROVIDERS)
    found = mistakes(tmp_path, text)
    assert set(found) == {
        f"providers.{kind}.{key}" for kind, keys in NEEDED.items() for key in keys
    }
    assert all(why.startswith("is missing: ") for why in found.values())


def test_a_secret_that_workers_share_is_long(tmp_path: Path) -> None:
    assert loaded(tmp_path, MINIMAL, FLOWSTATE_INTERNAL_SECRET=SECRET[:32]).api.internal_secret
    (tmp_path / "secret").write_text(SECRET)
    text = f"internal_secret_file = 'secret'\n{MINIMAL}"
    assert loaded(tmp_path, text).api.internal_secret == SECRET
    (why,) = mistakes(tmp_path, MINIMAL, FLOWSTATE_INTERNAL_SECRET=SECRET[:31]).values()
    assert "32 characters" in why


def message(tmp_path: Path, text: str, **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text, **environment)
    return str(caught.value)


def test_a_mistake_of_the_environment_is_not_the_files(tmp_path: Path) -> None:
    text = f"[kafka]\nreplication = 3\n{MINIMAL}"
    environment = {
        "FLOWSTATE_KAFKA__BOOTSTRP": "x",
        "FLOWSTATE_KAFKA__PARTITIONS": "abc",
        "FLOWSTATE_PROVIDERS_SMTP__HOST": "h",
    }
    assert (
        message(tmp_path, text, **environment)
        == """the environment has 3 mistakes:
  environment FLOWSTATE_KAFKA__BOOTSTRP = "x"
      is not a key here; did you mean "bootstrap"?
  environment FLOWSTATE_KAFKA__PARTITIONS = "abc"
      expected a whole number, 1 to 4096
  environment FLOWSTATE_PROVIDERS_SMTP__HOST
      is not a key here; did you mean "providers"?"""
    )


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    environment = {
        "FLOWSTATE_INTERNAL_SECRT": "hunter2",
        "FLOWSTATE_KAFKA_BOOTSTRAP": "k:9092",
        "FLOWSTATE_QUUX": "1",
    }
    assert (
        message(tmp_path, MINIMAL, **environment)
        == """the environment has 3 mistakes:
  environment FLOWSTATE_INTERNAL_SECRT
      is no setting; did you mean "FLOWSTATE_INTERNAL_SECRET"?
  environment FLOWSTATE_KAFKA_BOOTSTRAP
      is no setting; did you mean "FLOWSTATE_KAFKA__BOOTSTRAP"?
  environment FLOWSTATE_QUUX
      is no setting; two underscores stand for each dot: FLOWSTATE_SECTION__KEY"""
    )


def test_variables_that_others_read_stop_nothing(tmp_path: Path) -> None:
    """Those of tests, of a ``${...}``, and what Kubernetes says of a Service."""
    text = f"[kafka]\nsasl_password = '${{FLOWSTATE_PASSWORD}}'\n{MINIMAL}"
    settings = loaded(
        tmp_path,
        text,
        FLOWSTATE_PASSWORD="p",
        FLOWSTATE_CRASH_POINT="after_send",
        FLOWSTATE_EXAMPLES="20",
        FLOWSTATE_FUZZ_EXAMPLES="20",
        FLOWSTATE_DELIVER_SERVICE_HOST="10.0.0.7",
        FLOWSTATE_DELIVER_SERVICE_PORT="6066",
        FLOWSTATE_DELIVER_SERVICE_PORT_WEB="6066",
        FLOWSTATE_DELIVER_PORT="tcp://10.0.0.7:6066",
        FLOWSTATE_DELIVER_PORT_6066_TCP="tcp://10.0.0.7:6066",
        FLOWSTATE_DELIVER_PORT_6066_TCP_ADDR="10.0.0.7",
    )
    assert settings.kafka.sasl_password == "p"
    assert "did you mean" in message(tmp_path, MINIMAL, FLOWSTATE_API_PORT="6066")


def test_every_key_at_the_top_can_come_from_the_environment(tmp_path: Path) -> None:
    settings = loaded(tmp_path, MINIMAL, FLOWSTATE_CATALOGUE_POLL="5s")
    assert settings.catalogue_poll_ms == 5_000


def test_a_lease_is_told_as_it_was_written(tmp_path: Path) -> None:
    assert 'deliver.lease = "30s"' in message(tmp_path, f"[deliver]\nlease = '30s'\n{MINIMAL}")
    text = f"[engine]\nsession_timeout = '3s'\n{MINIMAL}"
    assert 'deliver.lease = "4s"' in message(tmp_path, text)


def test_no_message_shows_a_secret(tmp_path: Path) -> None:
    text = (
        MINIMAL
        + """
[kafka]
sasl_password = 5551
[providers.twilio]
auth_token = ["hunter2"]
auth_tokn = "hunter2"
sender = 5
account_sid = "${SID} ${NONE}"
[providers.smtp]
password = { x = "hunter2" }
[registry]
url = "htp://us:hunter2@registry:8081"
"""
    )
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text, SID="hunter2")
    message = str(caught.value)
    assert "hunter2" not in message
    assert "5551" not in message
    assert "kafka.sasl_password = (hidden)" in message
    assert 'providers.twilio.account_sid = "${SID} ${NONE}"' in message


def test_no_settings_show_a_secret_when_printed(tmp_path: Path) -> None:
    text = (
        MINIMAL
        + """
[kafka]
sasl_password = "hunter2"
[providers.twilio]
account_sid = "a"
sender = "MG1"
auth_token = "hunter2"
[api]
link_secrets = ["hunter2"]
"""
    )
    secret = f"hunter2 {SECRET}"
    settings = loaded(tmp_path, f"internal_secret = '{secret}'\n{text}")
    assert settings.ledger.internal_secret == settings.decide.internal_secret == secret
    named = (settings.api, settings.decide, settings.ledger, settings.deliver)
    for part in (settings, settings.kafka, *named):
        assert "hunter2" not in repr(part)


@pytest.mark.parametrize("kind", sorted(PROVIDERS))
def test_every_provider_can_be_declared(tmp_path: Path, kind: str) -> None:
    needed = "".join(f"{key} = '{value}'\n" for key, value in NEEDED.get(kind, {}).items())
    text = f"{MINIMAL}[providers.main]\ntype = '{kind}'\nweight = 5\n{needed}"
    settings = loaded(tmp_path, text)
    (provider,) = settings.deliver.providers
    assert (type(provider), provider.name, provider.weight) == (PROVIDERS[kind], "main", 5)
