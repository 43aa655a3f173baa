"""A daemon that answers what a test wants, over a unix socket and over TCP, and remembers what it was asked."""

import http.server
import json
import socketserver
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def document(self):
        return json.loads(self.body)


@dataclass
class FakeDaemon:
    socket_path: str
    answers: dict = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def answer(self, method, path, document, status=200, content_type="application/json"):
        """Answer so from now on; a list of documents is answered one after the other."""
        self.answers[method, path] = (status, document, content_type)

    def refuse(self, method, path, status, slug, title, detail, errors=()):
        problem = {"type": f"urn:webhookd:problem:{slug}", "title": title, "status": status, "detail": detail}
        if errors:
            problem["errors"] = list(errors)
        self.answer(method, path, problem, status, "application/problem+json")

    def reply(self, asked):
        self.asked.append(asked)
        status, document, content_type = self.answers.get(
            (asked.method, asked.path),
            (404, {"title": "There is no such thing", "status": 404, "detail": asked.path}, "application/problem+json"),
        )
        if isinstance(document, list):
            document = document.pop(0)
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return status, b"" if status == 204 else body, content_type


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Running:
    """Runs a FakeDaemon between entering and leaving."""

    def __init__(self, socket_path):
        self.daemon = FakeDaemon(str(socket_path))

    def __enter__(self):
        daemon = self.daemon

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def take(self):
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = dict(parse_qsl(parts.query))
                status, content, kind = daemon.reply(Asked(self.command, parts.path, query, headers, body))
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def __getattr__(self, name):
                if name.startswith("do_"):
                    return self.take
                raise AttributeError(name)

            def log_message(self, *args):
                pass

        self._servers = [
            _UnixServer(daemon.socket_path, Handler),
            http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler),
        ]
        daemon.url = f"http://127.0.0.1:{self._servers[1].server_address[1]}"
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in self._servers]
        for thread in self._threads:
            thread.start()
        return daemon

    def __exit__(self, *_):
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
