"""Receivers whose certificates cannot be trusted: each endpoint is told why, in the words of OpenSSL, and no other."""

from __future__ import annotations

import datetime as dt
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.kit.daemon import Daemon, running_daemon
from tests.kit.receiver import Receiver

HUGE_CHAIN_BYTES = 200_000
"""Twice of what OpenSSL takes from the other side."""


async def test_each_reason_is_told_at_its_endpoint_and_those_that_can_be_trusted_are_served(tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    contexts = {
        "sound": _context(authority.issue_cert("127.0.0.1")),
        "expired": _context(authority.issue_cert("127.0.0.1", not_before=now - 2 * day, not_after=now - day)),
        "not_yet": _context(authority.issue_cert("127.0.0.1", not_before=now + day, not_after=now + 2 * day)),
        "mismatch": _context(authority.issue_cert("127.0.0.2", "receiver.example")),
        "stranger": _context(stranger.issue_cert("127.0.0.1")),
        "self_signed": _self_signed(tmp_path),
        "huge_chain": _huge_chain(authority, tmp_path),
    }
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with AsyncExitStack() as stack:
        receivers = {name: await stack.enter_async_context(Receiver(tls=tls)) for name, tls in contexts.items()}
        endpoints = {name: _endpoint(receiver) for name, receiver in receivers.items()}
        environment = {"SSL_CERT_FILE": str(tmp_path / "ca.pem"), "SSL_CERT_DIR": str(tmp_path / "none")}
        daemon = await stack.enter_async_context(running_daemon(tmp_path, {"endpoints": endpoints}, env=environment))
        assert await _ends(daemon) == {
            "sound": (200, ""),
            "expired": ("tls", "certificate refused: certificate has expired"),
            "not_yet": ("tls", "certificate refused: certificate is not yet valid"),
            "mismatch": (
                "tls",
                "certificate refused: IP address mismatch, certificate is not valid for '127.0.0.1'.",
            ),
            "stranger": ("tls", "certificate refused: unable to get local issuer certificate"),
            "self_signed": ("tls", "certificate refused: self-signed certificate"),
            "huge_chain": ("tls", "TLS failed: excessive message size"),
        }
        assert {name: receiver.count for name, receiver in receivers.items() if receiver.count} == {"sound": 1}


async def test_without_any_authority_the_log_says_so_and_those_with_their_own_are_served(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = _context(authority.issue_cert("127.0.0.1"))
    nowhere = {"SSL_CERT_FILE": str(tmp_path / "none.pem"), "SSL_CERT_DIR": str(tmp_path / "none")}
    async with Receiver(tls=tls) as receiver:
        endpoints = {
            "usual": _endpoint(receiver),
            "own": {**_endpoint(receiver), "ca_file": str(tmp_path / "ca.pem")},
        }
        async with running_daemon(tmp_path, {"endpoints": endpoints}, env=nowhere) as daemon:
            assert await _ends(daemon) == {
                "usual": ("tls", "certificate refused: unable to get local issuer certificate"),
                "own": (200, ""),
            }
            (warning,) = daemon.log_entries("tls.no_authorities")
            assert (warning["file"], warning["directory"]) == (nowhere["SSL_CERT_FILE"], nowhere["SSL_CERT_DIR"])


async def test_with_authorities_the_log_says_nothing_of_them(tmp_path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    async with running_daemon(tmp_path, {}, env={"SSL_CERT_FILE": str(tmp_path / "ca.pem")}) as daemon:
        assert daemon.log_entries("tls.no_authorities") == []


def _endpoint(receiver: Receiver) -> dict[str, object]:
    return {"url": receiver.url, "signatures": [], "retry": []}


async def _ends(daemon: Daemon) -> dict[str, tuple[object, str]]:
    await daemon.send("order.completed", {})
    ends: dict[str, tuple[object, str]] = {}
    for delivery in await daemon.settled():
        (attempt,) = (await daemon.get(f"/v1/deliveries/{delivery['id']}")).json()["attempts"]
        error = attempt["error"]
        ends[delivery["endpoint"]] = (attempt["status"], "") if error is None else (error["class"], error["text"])
    return ends


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _self_signed(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    both = directory / "self-signed.pem"
    both.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context


def _huge_chain(authority: trustme.CA, directory: Path) -> ssl.SSLContext:
    leaf = authority.issue_cert("127.0.0.1")
    link = authority.cert_pem.bytes()
    both = directory / "huge.pem"
    both.write_bytes(leaf.private_key_and_cert_chain_pem.bytes() + link * (HUGE_CHAIN_BYTES * 4 // 3 // len(link)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context
