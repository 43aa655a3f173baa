"""What a role allows, which statuses acknowledge, and how an address is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.builders import endpoint
from webhookd.core.settings import Acknowledgement, ActivatedAddress, Role, TcpAddress, Token, UnixAddress

INGEST, READ, OPERATE = Role.INGEST, Role.READ, Role.OPERATE


@pytest.mark.parametrize(
    ("role", "allowed"), [(INGEST, [INGEST]), (READ, [READ]), (OPERATE, [INGEST, READ, OPERATE])], ids=str
)
def test_operate_allows_everything_and_the_others_only_themselves(role, allowed):
    assert [needed for needed in (INGEST, READ, OPERATE) if role.allows(needed)] == allowed


def test_by_default_200_to_299_acknowledge_and_nothing_else():
    assert [status for status in range(100, 1000) if Acknowledgement().accepts(status)] == list(range(200, 300))


def test_a_list_acknowledges_what_it_names_and_nothing_else():
    ack = Acknowledgement(frozenset({200, 304, 503}))
    assert [status for status in range(100, 1000) if ack.accepts(status)] == [200, 304, 503]


def test_an_empty_list_acknowledges_nothing():
    assert not any(Acknowledgement(frozenset()).accepts(status) for status in range(100, 1000))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (UnixAddress(Path("/run/webhookd/operate.sock")), "unix:/run/webhookd/operate.sock"),
        (TcpAddress("127.0.0.1", 8470), "tcp:127.0.0.1:8470"),
        (TcpAddress("::1", 8470), "tcp:[::1]:8470"),
        (ActivatedAddress("ingest"), "systemd:ingest"),
    ],
)
def test_an_address_is_written_as_in_the_configuration(address, text):
    assert str(address) == text


def test_secrets_are_not_shown_with_what_holds_them():
    assert "hidden" not in repr(Token(name="billing", role=INGEST, secret="hidden"))
    assert "hidden" not in repr(endpoint(secret="hidden", sample=b"hidden"))
