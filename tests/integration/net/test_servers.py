"""Servers people really run, and aiohttp's client as the measure of what they answer and see."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket

import aiohttp
import pytest
from aiohttp import web

from tests.integration.net.servers import answering
from tests.kit.builders import endpoint, event, work
from webhookd.core.ids import event_text
from webhookd.core.settings import DeliveryRules

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
NODE = shutil.which("node") or shutil.which("nodejs")
PATIENT = DeliveryRules(timeout_seconds=5, connect_timeout_seconds=5)

NGINX_CONFIG = """
daemon off; master_process off; pid {directory}/pid; error_log stderr crit;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  keepalive_requests 3;
  server {{
    listen 127.0.0.1:{port}; client_max_body_size 100k;
    location = /ok {{ return 200 "ok"; }}
    location = /empty {{ return 204; }}
    location = /moved {{ return 301 http://127.0.0.1:1/; }}
    location = /gone {{ return 410 "gone"; }}
    location = /drop {{ return 444; }}
    location = /file {{ root {directory}; }}
  }}
}}
"""

NODE_SERVER = """
const http = require('http');
const server = http.createServer((request, response) => {
  const chunks = [];
  request.on('data', chunk => chunks.push(chunk));
  request.on('end', () => {
    const size = Buffer.concat(chunks).length;
    if (request.url === '/chunked') { response.write('a'); response.write('b'); response.end(String(size)); }
    else if (request.url === '/hints') { response.writeEarlyHints({link: '</a>; rel=preload'}); response.end('ok'); }
    else if (request.url === '/busy') { response.writeHead(503, {'Retry-After': '7'}); response.end('busy'); }
    else { response.writeHead(200, {'Content-Length': 2}); response.end('ok'); }
  });
});
server.keepAliveTimeout = Number(process.argv[1]);
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""


async def send(sender, url, *, payload=b"{}", rules=PATIENT):
    return await sender.send(work(of=event(payload=payload)), endpoint(url=url, rules=rules))


async def asked_with_aiohttp(url, *, payload=b"{}"):
    """Return what aiohttp's client makes of the same request."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        headers = {"Content-Type": "application/json"}
        async with session.post(url, data=payload, headers=headers, allow_redirects=False) as response:
            return response.status, (await response.read())[:4096]


@contextlib.asynccontextmanager
async def running(*command):
    """Run a program for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.communicate()


async def listening(process, port):
    """Wait until the program listens; False if it ended instead."""
    while process.returncode is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                await asyncio.sleep(0.01)
                return process.returncode is None
        await asyncio.sleep(0.01)
    return False


@pytest.fixture
async def nginx(tmp_path):
    if NGINX is None:
        pytest.skip("nginx is not installed; on Debian: apt-get install nginx-light")
    (tmp_path / "file").write_bytes(b"f" * 20_000)
    config = tmp_path / "nginx.conf"
    # nginx cannot take whichever port is free, and one that was free may be gone by the time it starts.
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        config.write_text(NGINX_CONFIG.format(directory=tmp_path, port=port))
        async with running(NGINX, "-e", "stderr", "-p", str(tmp_path), "-c", str(config)) as process:
            if await listening(process, port):
                yield f"http://127.0.0.1:{port}"
                return
    raise AssertionError("nginx does not start")


@pytest.fixture
async def node():
    """Start Node's server, which closes connections that are idle for 50 ms."""
    if NODE is None:
        pytest.skip("node is not installed; on Debian: apt-get install nodejs")
    async with running(NODE, "-e", NODE_SERVER, "50") as process:
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("path", ["/ok", "/empty", "/moved", "/gone", "/file", "/missing"])
async def test_nginx_answers_us_as_it_answers_aiohttp(sender, nginx, path):
    outcome = await send(sender, nginx + path)
    assert (outcome.status, outcome.excerpt) == await asked_with_aiohttp(nginx + path)


async def test_nginx_refuses_what_is_too_large_before_it_has_read_it(sender, nginx):
    outcome = await send(sender, f"{nginx}/ok", payload=b"x" * 5_000_000)
    assert outcome.status == 413


async def test_nginx_ending_a_connection_after_some_requests_costs_no_attempt(sender, nginx):
    outcomes = [await send(sender, f"{nginx}/ok") for _ in range(10)]
    assert [outcome.status for outcome in outcomes] == [200] * 10
    dials = sum(outcome.phases.connect_ms is not None for outcome in outcomes)
    assert dials == 4


async def test_nginx_closing_without_an_answer_is_an_error(sender, nginx):
    assert (await send(sender, f"{nginx}/drop")).error.kind == "protocol"


@pytest.mark.parametrize("path", ["/", "/chunked", "/busy"])
async def test_node_answers_us_as_it_answers_aiohttp(sender, node, path):
    outcome = await send(sender, node + path)
    assert (outcome.status, outcome.excerpt) == await asked_with_aiohttp(node + path)


async def test_node_sends_hints_first(sender, node):
    outcomes = [await send(sender, f"{node}/hints") for _ in range(3)]
    assert [(outcome.status, outcome.excerpt) for outcome in outcomes] == [(200, b"ok")] * 3


async def test_node_says_when_to_come_back(sender, node):
    assert (await send(sender, f"{node}/busy")).retry_after_seconds == 7.0


async def test_node_closing_an_idle_connection_costs_no_attempt(sender, node):
    for pause_seconds in (0.0, 0.045, 0.049, 0.05):
        assert (await send(sender, node)).status == 200
        await asyncio.sleep(pause_seconds)
    assert (await send(sender, node)).status == 200


async def test_aiohttp_sees_what_the_interface_promises(sender):
    seen = []

    async def hook(request):
        seen.append((request.method, request.path_qs, request.version, request.headers.copy(), await request.read()))
        return web.Response(status=202)

    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{tail:.*}", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    of = event(payload=b"\x00\xff raw bytes", content_type="application/octet-stream")
    url = f"http://127.0.0.1:{port}/hook/a%20b?x=1&y=%2F"
    outcome = await sender.send(work(of=of, attempt_count=2), endpoint(url=url))
    await sender.close()
    await runner.cleanup()
    assert outcome.status == 202
    method, path, version, headers, body = seen[0]
    assert (method, path, version) == ("POST", "/hook/a%20b?x=1&y=%2F", aiohttp.HttpVersion11)
    assert body == of.payload
    assert headers["Host"] == f"127.0.0.1:{port}"
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Length"] == str(len(of.payload))
    assert headers["webhook-id"] == event_text(of.id)
    assert headers["webhook-signature"].startswith("v1,")
    assert "Accept-Encoding" not in headers


async def test_the_bytes_of_a_request_are_those_that_aiohttp_would_send(sender, serve):
    server = await serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    payload = b'{"n": 1}' * 1000
    rules = DeliveryRules(standard_headers=False, signatures=())
    for path in ("/", "/a/b?c=d", "/%41?q=%20"):
        url = f"http://127.0.0.1:{server.port}{path}"
        await send(sender, url, payload=payload, rules=rules)
        await asked_with_aiohttp(url, payload=payload)
        (ours, our_body), (theirs, their_body) = server.requests[-2:]
        assert our_body == their_body == payload
        mine, measure = taken_apart(ours), taken_apart(theirs)
        assert mine[b"content-type"] == measure[b"content-type"] == b"application/json"
        # What aiohttp adds on its own account; the interface promises that we do not.
        for name in (b"accept", b"accept-encoding", b"user-agent"):
            del measure[name]
        assert mine.keys() == measure.keys()
        assert mine[b"host"] == measure[b"host"]
        assert mine[b"content-length"] == measure[b"content-length"]
        assert mine[b""].split()[0] == measure[b""].split()[0] == b"POST"


def taken_apart(head):
    start, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    assert len(headers) == len(lines)
    return {b"": start, **{name.lower(): value for name, value in headers.items()}}


async def test_many_attempts_at_once_get_each_its_own_answer(sender, serve):
    async def echo(server, reader, writer):
        while True:
            _, body = await server.request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    server = await serve(echo)
    payloads = [b"%d" % number for number in range(80)]
    outcomes = await asyncio.gather(*[send(sender, server.url, payload=payload) for payload in payloads])
    assert [outcome.excerpt for outcome in outcomes] == payloads
