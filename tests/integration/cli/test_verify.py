"""`verify` reads a request however it was saved, and says whether its signature holds and why not."""

import base64
import json
import time

import pytest

from tests.integration.cli.test_listen import Listening, ask
from tests.kit.builders import endpoint, event
from tests.unit.core.test_schemes import ED25519_PUBLIC, ED25519_SECRET
from webhookd.cli.saved import read_header, read_saved
from webhookd.core.settings import DeliveryRules, Scheme, Signature
from webhookd.core.signing import HeaderPlan

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"type":"order.completed",\n\n "id":"evt_1"}'
VECTOR = b"""\
POST /hook HTTP/1.1
Host: example.com
webhook-id: evt_1
webhook-timestamp: 1700000000
webhook-signature: v1,zDruh8qjqfQsdxP1aWrtwKuM3AlixW2yirCcO9pD2KE=

{"type":"order.completed","id":"evt_1"}"""


def signed(*signatures, secret=SECRET, body=BODY, age=0):
    """Return the header lines of a request as it is sent."""
    definition = endpoint(secret=secret, rules=DeliveryRules(signatures=signatures or (Signature(),)))
    at = int(time.time()) - age
    return HeaderPlan(definition, version="1").render(event(payload=body), attempt_number=1, timestamp_seconds=at)


def as_dict(lines):
    return dict(line.split(": ", 1) for line in lines.decode().split("\r\n")[:-1])


@pytest.fixture
def check(bare, tmp_path):
    """Run verify over a request that stands in a file."""

    def call(text, *options, secret=SECRET):
        (tmp_path / "secret").write_text(secret + "\n")
        (tmp_path / "request").write_bytes(text)
        return bare("verify", "--secret-file", tmp_path / "secret", *options, tmp_path / "request")

    return call


@pytest.mark.parametrize(
    "dump",
    [
        pytest.param(lambda lines: lines + b"\r\n" + BODY, id="headers alone"),
        pytest.param(lambda lines: b"POST /x HTTP/1.1\r\n" + lines + b"\r\n" + BODY, id="with a request line"),
        pytest.param(lambda lines: b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n" + BODY, id="with a status line"),
        pytest.param(lambda lines: lines.replace(b"\r\n", b"\n") + b"\n" + BODY, id="line ends of unix"),
        pytest.param(lambda lines: b"\n\n" + lines + b"\r\n" + BODY, id="empty lines before it"),
        pytest.param(lambda lines: lines.replace(b"webhook-", b"WebHook-") + b"\r\n" + BODY, id="another case"),
    ],
)
def test_a_dump_of_a_request_is_read_byte_for_byte(check, dump):
    result = check(dump(signed()))
    assert (result.exit_code, result.stdout) == (0, "signature holds\n")


def test_it_is_read_from_stdin_too(bare, tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    request = signed() + b"\r\n" + BODY
    assert bare("verify", "--secret-file", tmp_path / "secret", stdin=request).exit_code == 0


def test_headers_and_body_may_be_given_one_by_one(bare, tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "body").write_bytes(BODY)
    headers = [part for name, value in as_dict(signed()).items() for part in ("--header", f"{name}: {value}")]
    given = ("verify", "--secret-file", tmp_path / "secret", *headers, "-d")
    assert bare(*given, tmp_path / "body").exit_code == 0
    assert bare(*given, "-", stdin=BODY).exit_code == 0
    assert bare(*given, "-", stdin=BODY + b"x").exit_code == 3


@pytest.mark.parametrize("scheme", [scheme for scheme in Scheme if scheme is not Scheme.TEMPLATE])
def test_every_scheme_can_be_checked(check, scheme):
    secret = ED25519_SECRET if scheme is Scheme.ED25519 else SECRET
    request = signed(Signature(scheme=scheme), secret=secret) + b"\r\n" + BODY
    assert check(request, "--scheme", scheme, secret=secret).exit_code == 0


def test_the_public_key_is_enough_for_ed25519(check):
    request = signed(Signature(scheme=Scheme.ED25519), secret=ED25519_SECRET) + b"\r\n" + BODY
    assert check(request, "--scheme", "ed25519", secret=ED25519_PUBLIC).exit_code == 0


def test_a_template_is_given_by_its_keys(check):
    template = Signature(
        scheme=Scheme.TEMPLATE, header="X-S", value="t={timestamp}/{signature}", content="{timestamp}{body}"
    )
    request = signed(template) + b"\r\n" + BODY
    options = ["--scheme", "template"]
    for setting in ("header=X-S", "value=t={timestamp}/{signature}", "content={timestamp}{body}"):
        options += ["--set", setting]
    assert check(request, *options).exit_code == 0
    assert check(request, *options, "--set", "algorithm=sha1").exit_code == 3


@pytest.mark.parametrize(
    ("request_", "options", "words"),
    [
        (lambda: signed() + b"\r\n" + BODY[:-1], (), "no signature matches: wrong secret or changed body"),
        (lambda: signed() + b"\r\n" + BODY + b"\n", (), "without it the signature holds"),
        (lambda: VECTOR, (), "webhook-timestamp is too old: "),
        (lambda: signed(age=-900) + b"\r\n" + BODY, (), "is in the future: "),
        (
            lambda: signed(age=400) + b"\r\n" + BODY,
            ("--tolerance", "60s"),
            " s, more than 60 s (signature itself holds)",
        ),
        (lambda: signed() + b"\r\n" + BODY, ("--scheme", "stripe"), "wrong scheme: the request is signed by standard"),
        (lambda: b"Host: x\r\n\r\n" + BODY, (), "missing webhook-id, webhook-timestamp and webhook-signature"),
    ],
)
def test_it_says_why_a_signature_does_not_hold(check, request_, options, words):
    result = check(request_(), *options)
    assert result.exit_code == 3
    assert result.stdout.startswith("signature does not hold: ")
    assert words in result.stdout


def test_the_tolerance_can_be_widened(check):
    assert check(VECTOR, "--tolerance", "36500d").exit_code == 0


def test_for_machines_it_is_an_object_with_the_cause_in_one_word(check):
    result = check(signed() + b"\r\n" + BODY, "--json")
    assert json.loads(result.stdout) == {"verified": True, "scheme": "standard", "cause": None, "reason": None}
    result = check(b"Host: x\n\n", "--json", "--scheme", "github")
    assert (result.exit_code, json.loads(result.stdout)) == (
        3,
        {
            "verified": False,
            "scheme": "github",
            "cause": "missing_headers",
            "reason": "missing X-Hub-Signature-256",
        },
    )


@pytest.mark.parametrize("body", [BODY, b"", b"\n", b"a\n", b"  indented\n\n  more", "ü\t\U0001f600".encode()])
def test_what_listen_prints_can_be_checked(check, tmp_path, body):
    (tmp_path / "listened").write_text(SECRET)
    for options in ((), ("--json",), ("--secret-file", tmp_path / "listened")):
        with Listening(*options) as listening:
            ask(listening.url, body=body, headers=as_dict(signed(body=body)), path="/hook?a=b")
            _, out = listening.stop()
        result = check(out.encode())
        assert (result.exit_code, result.stdout) == (0, "signature holds\n"), out


def test_what_listen_prints_as_json_is_exact_even_for_bytes(check):
    saved = {"headers": [list(pair) for pair in as_dict(signed(body=b"\xff\r\n")).items()]}
    saved["body_base64"] = base64.b64encode(b"\xff\r\n").decode()
    assert check(json.dumps(saved).encode()).exit_code == 0
    assert check(json.dumps(saved, indent=2).encode()).exit_code == 0


def test_listen_checks_by_another_scheme(tmp_path):
    (tmp_path / "secret").write_text("hush")
    template = Signature(scheme=Scheme.TEMPLATE, header="X-S")
    with Listening(
        "--json", "--secret-file", tmp_path / "secret", "--scheme", "template", "--set", "header=X-S"
    ) as one:
        ask(one.url, body=BODY, headers=as_dict(signed(template, secret="hush")))
        ask(one.url, body=BODY, headers=as_dict(signed(template, secret="other")))
        _, out = one.stop()
    first, second = map(json.loads, out.splitlines())
    assert first["signature"] == {"verified": True, "reason": None}
    assert "wrong secret or changed body" in second["signature"]["reason"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "it is empty"),
        (b"{}", "not what listen --json prints"),
        (b'{"type":"x"', "begins like JSON and is none"),
        (b"just text\n\n{}", "line 1 is neither a header nor"),
        (b"POST / HTTP/1.1\nHost: x\nbroken\n\n{}", "line 3 is neither a header nor"),
        (b'{"headers":[],"body":""}\n{"headers":[],"body":""}', "more than one request"),
        (
            b"2025-01-01T00:00:00.000Z  POST /  answered 200\n\n  {}\n\n" * 2,
            "more than one request",
        ),
    ],
)
def test_what_is_no_request_is_a_usage_error(check, text, words):
    result = check(text)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scheme", "template"), "needs the header"),
        (("--scheme", "template", "--set", "header=X", "--set", "value=x"), "value must hold {signature}"),
        (("--scheme", "template", "--set", "head=X"), "unknown key; did you mean header?"),
        (("--set", "header=X"), "for scheme template only"),
        (("--set", "secret=x"), "--secret-file"),
        (("--set", "x"), "is not KEY=VALUE"),
        (("--scheme", "md5"), "is not one of"),
        (("--tolerance", "5"), "is not a duration"),
        (("--header", "broken"), "belong together"),
        (("--scheme", "ed25519"), "not a secret of the ed25519 scheme"),
    ],
)
def test_wrong_usage_is_said(bare, tmp_path, options, words):
    (tmp_path / "secret").write_text(SECRET)
    result = bare("verify", "--secret-file", tmp_path / "secret", *options, stdin=VECTOR)
    assert result.exit_code == 2
    assert words in result.stderr
    assert SECRET not in result.stderr


def test_headers_that_repeat_are_joined_and_other_bytes_stay():
    saved = read_saved(b"A: 1\nB:\xff\na:  2 \n\nbody\n")
    assert (saved.headers, saved.body) == ({"A": "1, 2", "B": "\udcff"}, b"body\n")
    assert read_header("X-Y:z: w") == ("X-Y", "z: w")
