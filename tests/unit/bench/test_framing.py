"""Where a message ends, for the instruments."""

import pytest

from bench.framing import header, measure

REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-LENGTH: 5\r\nX: y\r\n\r\nhello"


def test_the_body_is_what_content_length_says():
    begin, end = measure(REQUEST + b"POST")
    assert (REQUEST + b"POST")[begin:end] == b"hello"


@pytest.mark.parametrize("missing", range(1, len(REQUEST)))
def test_a_message_counts_only_when_all_of_it_is_there(missing):
    assert measure(REQUEST[:-missing]) is None


def test_a_length_in_the_last_header_is_seen():
    assert measure(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") == (38, 38)


def test_a_message_without_a_length_has_no_body():
    assert measure(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1") == (19, 19)


def test_a_transfer_coding_is_refused_rather_than_misread():
    with pytest.raises(ValueError, match="transfer coding"):
        measure(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")


def test_a_header_is_found_whatever_its_case():
    assert header(b"POST / HTTP/1.1\r\nWebhook-Id:  a \r\nx: y", b"webhook-id") == b"a"
    assert header(b"POST / HTTP/1.1\r\nx: y\r\nWebhook-Id: a", b"webhook-id") == b"a"
    assert header(b"POST / HTTP/1.1\r\nnot-webhook-id: a", b"webhook-id") is None
