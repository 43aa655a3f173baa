"""`listen` prints what comes and judges its signature; its receiver speaks HTTP well enough for any sender."""

import base64
import hashlib
import hmac
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from webhookd.cli.receiver import Receiver, Reply

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def received():
    return []


@pytest.fixture
def receiver(received):
    def answer(request):
        received.append(request)
        return Reply(status=202, body=b"thanks")

    with Receiver(answer) as running:
        yield running


def ask(url, method="POST", body=b"", headers=None, path="/hook"):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_request_is_received_as_it_came(receiver, received):
    assert ask(receiver.url, body=b"\x00{", headers={"X-Odd-CASE": "1"}, path="/a?b=%20c") == (202, b"thanks")
    request = received[0]
    assert (request.method, request.path, request.body) == ("POST", "/a?b=%20c", b"\x00{")
    assert ("X-Odd-CASE", "1") in request.headers


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "BREW"])
def test_any_method_is_received(receiver, received, method):
    assert ask(receiver.url, method=method)[0] == 202
    assert received[0].method == method


def test_a_chunked_body_is_put_together(receiver, received):
    parts = urlsplit(receiver.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 202")
    assert received[0].body == b"abcde"


@pytest.mark.parametrize("length", ["-1", "x", "99999999999"])
def test_a_body_without_a_sane_length_is_refused(receiver, received, length):
    assert ask(receiver.url, headers={"Content-Length": length})[0] in {400, 413}
    assert received == []


def test_a_connection_is_kept(receiver):
    parts = urlsplit(receiver.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        for _ in range(2):
            connection.request("POST", "/", body=b"x")
            assert connection.getresponse().read() == b"thanks"
            assert connection.sock is not None
    finally:
        connection.close()


class Listening:
    def __init__(self, *arguments):
        command = [sys.executable, "-m", "webhookd", "listen", "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        self.said = ""
        while (found := re.search(r"listening on (\S+)", self.said)) is None:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.url = found[1]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=10)
        return self.process.returncode, out


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    return path


def signed(body, at):
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, f"evt_1.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def test_each_request_is_printed_with_what_its_signature_is_worth(secret_file):
    now = int(time.time())
    with Listening("--secret-file", secret_file) as listening:
        ask(listening.url, body=b'{"a":\n"\x1b[2J"}', headers=signed(b'{"a":\n"\x1b[2J"}', now), path="/x")
        ask(listening.url, body=b"{}", headers=signed(b"{ }", now))
        ask(listening.url, body=b"{}", headers=signed(b"{}", now - 1000))
        ask(listening.url, body=b"{}")
        code, out = listening.stop()
    assert code == 0
    first, second, third, fourth = out.split("POST ")[1:]
    assert first.startswith("/x  answered 200")
    assert "webhook-id: evt_1" in first
    assert '  {"a":\n  "\\x1b[2J"}' in first
    assert "signature holds" in first
    assert "does not hold: no signature matches" in second
    assert "does not hold: webhook-timestamp is too old" in third
    assert "does not hold: missing webhook-id" in fourth


def test_statuses_are_given_in_turn_and_the_last_one_stays():
    with Listening("--status", 500, "--status", 503, "--status", 204) as listening:
        assert [ask(listening.url)[0] for _ in range(4)] == [500, 503, 204, 204]


def test_for_machines_a_request_is_an_object(secret_file):
    with Listening("--json", "--secret-file", secret_file) as listening:
        ask(listening.url, body=b"\xff", headers=signed(b"\xff", int(time.time())))
        _, out = listening.stop(signal.SIGINT)
    request = json.loads(out)
    assert request["method"] == "POST"
    assert base64.b64decode(request["body_base64"]) == b"\xff"
    assert request["signature"] == {"verified": True, "reason": None}
    assert ["webhook-id", "evt_1"] in request["headers"]


def test_without_a_secret_it_says_that_it_does_not_check():
    with Listening("--json") as listening:
        ask(listening.url, body=b"x")
        _, out = listening.stop()
    assert json.loads(out)["signature"] == {"verified": None, "reason": None}
    assert "not checked" in listening.said


def test_a_delay_holds_the_answer_back():
    with Listening("--delay", "40ms") as listening:
        began = time.monotonic()
        ask(listening.url)
        assert time.monotonic() - began >= 0.04


def test_a_port_that_is_taken_fails(bare):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = bare("listen", "--port", taken.getsockname()[1])
    assert result.exit_code == 1
    assert "cannot listen on 127.0.0.1" in result.stderr


def test_a_file_without_a_secret_is_a_usage_error(bare, tmp_path):
    (tmp_path / "secret").write_text("whsec_%%%")
    assert bare("listen", "--port", "0", "--secret-file", tmp_path / "secret").exit_code == 2
