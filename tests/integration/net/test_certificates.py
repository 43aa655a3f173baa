"""Certificates of an endpoint's own: whom it trusts, who we are to it, and that connections are never mixed."""

import ssl
from dataclasses import replace

import pytest
import trustme

from tests.integration.net.servers import answering
from tests.integration.net.test_tls import HOST, OK, alerting, loopback
from tests.kit.builders import endpoint, work
from webhookd.core.attempt import ErrorClass
from webhookd.core.settings import TlsFiles
from webhookd.net import tls
from webhookd.net.tls import TlsContexts, default_context


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def sender(sender_with):
    """Make a sender that by itself trusts only what the system does."""
    return sender_with(names=loopback)


@pytest.fixture
def asking(authority):
    """Make the context of a server that wants a certificate of the client."""

    def make():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    return make


@pytest.fixture
def files(authority, tmp_path):
    """Write the files of one identity; the fingerprint is its name."""

    def write(name):
        client = authority.issue_cert(f"{name}.example", common_name=name)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        client.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        client.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        return TlsFiles(
            ca_file=tmp_path / "ca.pem",
            client_cert_file=tmp_path / f"{name}.pem",
            client_key_file=tmp_path / f"{name}.key",
            fingerprint=name,
        )

    return write


async def send(sender, server, certificates, name="orders"):
    definition = endpoint(name, url=f"https://{HOST}:{server.port}/s3cret")
    return await sender.send(work(endpoint_id=name), replace(definition, tls=certificates))


def telling_names(names):
    """Answer as ever, and note by which certificate each connection was made."""
    answer = answering(OK)

    async def behave(server, reader, writer):
        names.append(dict(part[0] for part in writer.get_extra_info("peercert")["subject"])["commonName"])
        await answer(server, reader, writer)

    return behave


async def test_an_authority_of_the_endpoint_is_trusted_for_it_and_for_no_other(authority, sender, serve, files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    server = await serve(answering(OK), ssl=context)
    only_authority = TlsFiles(ca_file=files("a").ca_file)
    assert (await send(sender, server, only_authority, "private")).status == 200
    outcome = await send(sender, server, None, "public")
    assert outcome.error.kind is ErrorClass.TLS
    assert "unable to get local issuer certificate" in outcome.error.text


async def test_the_authority_replaces_those_of_the_system(authority, sender_with, serve, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    server = await serve(answering(OK), ssl=context)
    system = default_context()
    authority.configure_trust(system)
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    outcome = await send(
        sender_with(names=loopback, tls_context=system), server, TlsFiles(ca_file=tmp_path / "other.pem")
    )
    assert outcome.error.kind is ErrorClass.TLS


async def test_the_client_certificate_is_presented(sender, serve, files, asking):
    names = []
    server = await serve(telling_names(names), ssl=asking())
    assert (await send(sender, server, files("us"))).status == 200
    assert names == ["us"]


async def test_without_one_the_reason_of_the_other_side_is_told_and_the_url_is_not(sender, files, asking):
    async with alerting(asking()) as server:
        outcome = await send(sender, server, TlsFiles(ca_file=files("us").ca_file))
    assert outcome.error.kind is ErrorClass.TLS
    assert "certificate required" in outcome.error.text
    assert "s3cret" not in outcome.error.text


async def test_a_certificate_of_a_stranger_is_told_about(sender, files, asking, tmp_path):
    trusted = files("us")
    stranger = trustme.CA().issue_cert("us.example")
    stranger.private_key_and_cert_chain_pem.write_to_path(tmp_path / "stranger.pem")
    async with alerting(asking()) as server:
        outcome = await send(
            sender, server, TlsFiles(ca_file=trusted.ca_file, client_cert_file=tmp_path / "stranger.pem")
        )
    assert outcome.error.kind is ErrorClass.TLS
    assert "unknown ca" in outcome.error.text


async def test_two_identities_never_share_a_connection(sender, serve, files, asking):
    names = []
    server = await serve(telling_names(names), ssl=asking())
    first, second = files("first"), files("second")
    for certificates, name in ((first, "a"), (second, "b"), (first, "a"), (second, "b"), (first, "c")):
        assert (await send(sender, server, certificates, name)).status == 200
    assert names == ["first", "second"]


async def test_replaced_files_count_from_when_they_were_read_again(sender, serve, files, asking):
    names = []
    server = await serve(telling_names(names), ssl=asking())
    before, after = files("before"), files("after")
    assert (await send(sender, server, before)).status == 200
    for old, new in (
        (before.client_cert_file, after.client_cert_file),
        (before.client_key_file, after.client_key_file),
    ):
        old.write_bytes(new.read_bytes())
    assert (await send(sender, server, before)).status == 200
    assert names == ["before"]
    assert (await send(sender, server, replace(before, fingerprint="read again"))).status == 200
    assert names == ["before", "after"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"-----BEGIN PRIVATE KEY-----\n", "they cannot be parsed"),
        (b"", "they cannot be parsed"),
    ],
)
async def test_files_that_were_spoilt_meanwhile_are_our_own_fault(sender, serve, files, asking, content, words):
    server = await serve(answering(OK), ssl=asking())
    certificates = files("us")
    good = certificates.client_key_file.read_bytes()
    if content is None:
        certificates.client_key_file.unlink()
    else:
        certificates.client_key_file.write_bytes(content)
    outcome = await send(sender, server, certificates)
    assert outcome.error.kind is ErrorClass.LOCAL
    assert outcome.error.text.startswith("the certificates of this endpoint cannot be used any more: ")
    assert words in outcome.error.text
    certificates.client_key_file.write_bytes(good)
    assert (await send(sender, server, certificates)).status == 200


async def test_contexts_are_kept_in_bounded_number(files, monkeypatch):
    monkeypatch.setattr(tls, "CONTEXTS", 2)
    contexts = TlsContexts(default_context())
    first, second, third = (files(name) for name in ("a", "b", "c"))
    kept = await contexts.find(first)
    await contexts.find(second)
    assert await contexts.find(first) is kept
    await contexts.find(third)
    assert len(contexts) == 2
    assert await contexts.find(first) is kept
