"""Certificates of an endpoint's own, through the real daemon: replaced files count from the next reload on."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

import trustme

from tests.kit.daemon import eventually, running_daemon
from tests.kit.receiver import Receiver


async def test_a_replaced_authority_and_certificate_count_after_a_reload(tmp_path: Path) -> None:
    ours, other = trustme.CA(), trustme.CA()
    wanted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("127.0.0.1").configure_cert(wanted)
    ours.configure_trust(wanted)
    wanted.verify_mode = ssl.CERT_REQUIRED

    def write(authority: trustme.CA) -> None:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        client = authority.issue_cert("client.example")
        client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
        (tmp_path / "client.pem").chmod(0o600)

    write(other)
    async with Receiver(tls=wanted) as receiver:
        keys = {
            "url": f"{receiver.url}/hook",
            "ca_file": str(tmp_path / "ca.pem"),
            "client_cert_file": str(tmp_path / "client.pem"),
            "signatures": [],
        }
        async with running_daemon(tmp_path, {"endpoints": {"bank": keys}}) as daemon:
            refused = (await daemon.post("/v1/endpoints/bank/test")).json()
            assert refused["error"]["class"] == "tls"
            write(ours)
            daemon.send_signal(signal.SIGHUP)

            async def reloaded() -> bool:
                return bool(daemon.log_entries("reload.applied"))

            await eventually(reloaded)
            accepted = (await daemon.post("/v1/endpoints/bank/test")).json()
            assert accepted["acknowledged"], accepted
            (tmp_path / "client.pem").write_text("nothing")
            daemon.send_signal(signal.SIGHUP)

            async def refused_reload() -> bool:
                return bool(daemon.log_entries("reload.refused"))

            await eventually(refused_reload)
            assert "endpoints.bank.client_cert_file" in daemon.log_entries("reload.refused")[0]["reason"]
            assert (await daemon.post("/v1/endpoints/bank/test")).json()["acknowledged"]
