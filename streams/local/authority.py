"""Keys and certificates of the local provider servers, made once into a folder.

Real providers need real credentials; the local ones get the same kinds of them, so that a worker is
configured and authenticates in exactly the same way: a certificate authority, a server certificate,
an APNs signing key, a Google service account, a Twilio account and a webhook secret.

Invariants: made completely or not at all (the folder is renamed into place); files are readable by
their owner alone; nothing here is good for anything but the servers of the same folder.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import secrets
import shutil
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 3650
PROJECT = "flowstate-local"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Identity(msgspec.Struct, frozen=True):
    """Everything that a worker and the servers agree on."""

    ca_pem: str
    certificate_file: str
    key_file: str
    apns_key_pem: str
    apns_key_id: str
    apns_team_id: str
    google_key_pem: str
    twilio_account: str
    twilio_token: str
    vonage_key: str
    vonage_secret: str
    webhook_secret: str
    vapid_key_pem: str
    browser_key_pem: str
    """Private half of the one subscription that the local push service can read."""
    browser_auth: str


def identity(folder: Path) -> Identity:
    """Reads the identity kept in ``folder``; makes it when there is none, or an older kind."""
    if not _is_complete(folder / "identity.json"):
        shutil.rmtree(folder, ignore_errors=True)
        draft = folder.with_name(f"{folder.name}.{os.getpid()}.draft")
        draft.mkdir(parents=True, mode=0o700)
        try:
            _make(draft)
            draft.rename(folder)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            if not _is_complete(folder / "identity.json"):  # else another process was quicker
                raise
    content = json.loads((folder / "identity.json").read_text())
    files = {"certificate_file": str(folder / "server.pem"), "key_file": str(folder / "server.key")}
    return msgspec.convert(content | files, Identity)


def _is_complete(path: Path) -> bool:
    if not path.exists():
        return False
    made_here = {"certificate_file", "key_file"}
    return set(Identity.__struct_fields__) - made_here <= set(json.loads(path.read_text()))


def subscription(known: Identity) -> dict[str, str]:
    """Attributes of a Web Push destination that the local push service can read."""
    key = serialization.load_pem_public_key(public_pem(known.browser_key_pem))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    point = key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    p256dh = base64.urlsafe_b64encode(point).decode().rstrip("=")
    return {"p256dh": p256dh, "auth": known.browser_auth}


def _make(folder: Path) -> None:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("Flowstate local CA", ca_key, None, ca_key)
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = _certificate("localhost", server_key, ca, ca_key)
    _write(folder / "server.pem", _pem(server) + _pem(ca))
    _write(folder / "server.key", _key_pem(server_key))
    content = {
        "ca_pem": _pem(ca),
        "apns_key_pem": _key_pem(ec.generate_private_key(ec.SECP256R1())),
        "apns_key_id": secrets.token_hex(5).upper(),
        "apns_team_id": secrets.token_hex(5).upper(),
        "google_key_pem": _key_pem(rsa.generate_private_key(65537, 2048)),
        "twilio_account": "AC" + secrets.token_hex(16),
        "twilio_token": secrets.token_hex(16),
        "vonage_key": secrets.token_hex(4),
        "vonage_secret": secrets.token_hex(8),
        "webhook_secret": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "vapid_key_pem": _key_pem(ec.generate_private_key(ec.SECP256R1())),
        "browser_key_pem": _key_pem(ec.generate_private_key(ec.SECP256R1())),
        "browser_auth": base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="),
    }
    _write(folder / "identity.json", json.dumps(content, indent=1))


def service_account(known: Identity, token_uri: str) -> str:
    """The key file that Google would give for a service account."""
    return json.dumps(
        {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "local",
            "private_key": known.google_key_pem,
            "client_email": f"flowstate@{PROJECT}.iam.gserviceaccount.com",
            "token_uri": token_uri,
        }
    )


def public_pem(private_pem: str) -> bytes:
    """Public half of a private key."""
    key = serialization.load_pem_private_key(private_pem.encode(), None)
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _certificate(
    name: str, key: PrivateKey, issuer: x509.Certificate | None, issuer_key: PrivateKey
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
    )
    if issuer is None:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(server, False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
