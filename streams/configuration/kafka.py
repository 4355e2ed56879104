"""``[kafka]``: where the cluster is, how it is secured, how topics are made on it."""

from __future__ import annotations

import ssl
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from streams.configuration.problems import Problem
from streams.ranges import OneOrMore

PARTITIONS_MAX = 4_096
"""Ids begin with three hexadecimal digits of the partition."""

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster."""

    bootstrap: str = "127.0.0.1:9092"
    """``host:port[,host:port]``."""
    partitions: Annotated[int, Meta(ge=1, le=PARTITIONS_MAX)] = 16
    """Of every topic; fixed for the life of a cluster, so make more than you need."""
    replication: OneOrMore = 1
    """Copies of every topic when they are created; 3 in production."""
    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password: str = ""
    ssl_ca_file: str = ""
    """PEM of the authorities to trust; empty trusts the system's."""
    ssl_certificate_file: str = ""
    """PEM of a client certificate, for mutual TLS."""
    ssl_key_file: str = ""
    ssl_key_password: str = ""
    ssl_check_hostname: bool = True

    def __repr__(self) -> str:
        return f"KafkaSettings(bootstrap={self.bootstrap!r}, partitions={self.partitions})"


def kafka_problems(kafka: KafkaSettings) -> list[Problem]:
    """What cannot work, before anything connects."""
    problems = []
    for server in kafka.bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65_536:
            why = 'expected "host:port", several with commas between'
            problems.append(Problem(("kafka", "bootstrap"), why, kafka.bootstrap))
            break
    if "SASL" in kafka.security_protocol:
        for name in ("sasl_username", "sasl_password"):
            if not getattr(kafka, name):
                why = f"is missing: {kafka.security_protocol} needs it"
                problems.append(Problem(("kafka", name), why))
    return problems


def client_security(kafka: KafkaSettings) -> tuple[dict[str, Any], list[Problem]]:
    """What every aiokafka client is given, and what is wrong with the files it names."""
    if kafka.security_protocol == "PLAINTEXT":
        return {}, []
    security: dict[str, Any] = {"security_protocol": kafka.security_protocol}
    if "SASL" in kafka.security_protocol:
        security["sasl_mechanism"] = kafka.sasl_mechanism
        security["sasl_plain_username"] = kafka.sasl_username
        security["sasl_plain_password"] = kafka.sasl_password
    if "SSL" not in kafka.security_protocol.removeprefix("SASL_"):
        return security, []
    problems = []
    name = "ssl_ca_file"
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_ca_file or None)
        context.check_hostname = kafka.ssl_check_hostname
        name = "ssl_certificate_file"
        if kafka.ssl_certificate_file:
            context.load_cert_chain(
                kafka.ssl_certificate_file, kafka.ssl_key_file or None, kafka.ssl_key_password
            )
        security["ssl_context"] = context
    except (OSError, ssl.SSLError) as error:
        why = f"cannot be used: {error.strerror or type(error).__name__}"
        problems.append(Problem(("kafka", name), why, getattr(kafka, name)))
    return security, problems
