"""Talks to the daemon: one HTTP request over a unix socket or TCP, its refusals turned into words and exit codes."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import click

from webhookd.cli.address import Target
from webhookd.cli.exits import CommandFailedError, Exit
from webhookd.core.settings import TcpAddress, UnixAddress

CONNECT_TIMEOUT_SECONDS = 5.0
ANSWER_TIMEOUT_SECONDS = 60.0
MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""Far above any payload a daemon should be configured to take, and still an end."""

MAX_EVENT_BYTES = 1024 * 1024
PAGE_SIZE = 500

_MOST_DIGITS = 1000
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole response of the daemon."""

    status: int
    body: bytes

    def json(self) -> dict[str, object]:
        """Return the JSON object in the body. Raises CommandFailedError: whatever answered is no webhookd."""
        try:
            # As text, since Python refuses to make numbers of more than 4,300 digits, which JSON allows.
            decoded = json.loads(self.body, parse_int=_whole_number)
        except (ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict):
            raise CommandFailedError(
                f"the answer (status {self.status}) is not a JSON object; is that a webhookd?", code=Exit.FAILED
            )
        return decoded

    def member(self, name: str) -> bytes:
        """Return one value of the JSON object in the body, byte for byte, with the white space around it.

        The daemon puts none there itself: what stands there was sent to it. Nothing, where there is no such value.
        """
        text, decoder = self.body.decode(), json.JSONDecoder(parse_int=str, parse_float=str)
        at = _behind_space(text, text.index("{") + 1)
        while at < len(text) and text[at] == '"':
            key, at = decoder.raw_decode(text, at)
            begin = _behind_space(text, at) + 1
            _, end = decoder.raw_decode(text, _behind_space(text, begin))
            end = _behind_space(text, end)
            if key == name:
                return text[begin:end].encode()
            at = _behind_space(text, end + 1)
        return b""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(self.timeout)
            connected.connect(self._path)
        except BaseException:
            connected.close()
            raise
        self.sock = connected


class Client:
    """Asks the daemon at `target`; every request has a connection of its own, closed before the answer is returned."""

    def __init__(self, target: Target, *, token: str | None = None) -> None:
        self._target = target
        self._token = token

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
    ) -> Answer:
        """Return the answer, whatever its status. Raises CommandFailedError (UNREACHABLE) where there is none."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        sent = {"Accept": "application/json", **(headers or {})}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        try:
            try:
                connection.connect()
            except OSError as error:
                raise self._unreachable(error) from error
            connection.sock.settimeout(timeout_seconds)
            try:
                connection.request(method, f"{path}?{urlencode(given)}" if given else path, body=body, headers=sent)
                response = connection.getresponse()
                content = response.read(MAX_ANSWER_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise self._broken_off(error, timeout_seconds) from error
            return Answer(status=response.status, body=content)
        finally:
            connection.close()

    def follow(
        self, path: str, *, query: Mapping[str, str | None], silence_seconds: float
    ) -> Iterator[tuple[str, str]]:
        """Yield name and data of server-sent events, without end unless the daemon makes one.

        Raises CommandFailedError where it refuses, breaks off, or says nothing for so long.
        """
        given = {name: value for name, value in query.items() if value is not None}
        sent = {"Accept": "text/event-stream, application/problem+json"}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        try:
            try:
                connection.connect()
            except OSError as error:
                raise self._unreachable(error) from error
            connection.sock.settimeout(silence_seconds)
            try:
                connection.request("GET", f"{path}?{urlencode(given)}" if given else path, headers=sent)
                response = connection.getresponse()
                if response.status != http.client.OK:
                    raise refusal(Answer(status=response.status, body=response.read(MAX_ANSWER_BYTES)))
                yield from _events(response)
            except (OSError, http.client.HTTPException) as error:
                said = "it says nothing any more" if isinstance(error, TimeoutError) else _words(error)
                raise CommandFailedError(
                    f"the daemon at {self._target} has gone away ({said})", code=Exit.UNREACHABLE
                ) from error
        finally:
            connection.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        document: object = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
    ) -> Answer:
        """Return the answer to a request that was granted (2xx); `document` is sent as JSON.

        Raises CommandFailedError with the daemon's own words for any other status.
        """
        sent = dict(headers or {})
        if document is not None:
            body = json.dumps(document, ensure_ascii=False).encode()
            sent["Content-Type"] = "application/json"
        answer = self.request(method, path, query=query, body=body, headers=sent, timeout_seconds=timeout_seconds)
        if not 200 <= answer.status <= 299:
            raise refusal(answer)
        return answer

    def pages(
        self, path: str, *, query: Mapping[str, str | None], cursor: str | None, limit: int | None
    ) -> Iterator[tuple[list[dict[str, object]], str | None]]:
        """Yield a list page by page, each with the cursor behind it, until `limit` items (None: all) or the end."""
        left = limit
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(PAGE_SIZE, left)
            page = self.ask("GET", path, query={**query, "limit": str(size), "cursor": cursor}).json()
            rows = page.get("data")
            items = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            following = page.get("next")
            cursor = following if isinstance(following, str) else None
            yield items, cursor
            if cursor is None or not items:
                return
            left = None if left is None else left - len(items)

    def _connection(self) -> http.client.HTTPConnection:
        match self._target.address:
            case UnixAddress(path=path):
                return _UnixConnection(str(path), timeout=CONNECT_TIMEOUT_SECONDS)
            case TcpAddress(host=host, port=port):
                return http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_SECONDS)

    def _unreachable(self, error: OSError) -> CommandFailedError:
        target = self._target
        if isinstance(error, PermissionError):
            hint = "The socket is there but not for you: ask for membership of its group, or run as its user."
        else:
            config = f" -c {target.config}" if target.config is not None else ""
            hint = f"Start it with `webhookd serve{config}`, or name another one with --server."
        return CommandFailedError(
            f"no daemon can be reached at {target} ({target.named_by}): {_words(error)}",
            code=Exit.UNREACHABLE,
            hint=hint,
        )

    def _broken_off(self, error: Exception, timeout_seconds: float) -> CommandFailedError:
        said = f"no answer within {timeout_seconds:g} s" if isinstance(error, TimeoutError) else _words(error)
        return CommandFailedError(
            f"the connection to {self._target} ended without an answer ({said}); "
            "whether the request was carried out is unknown",
            code=Exit.UNREACHABLE,
        )


def refusal(answer: Answer) -> CommandFailedError:
    """Return what a status other than 2xx means: 404 is NOT_FOUND, everything else FAILED."""
    try:
        problem = answer.json()
    except CommandFailedError as unreadable:
        return unreadable
    title = str(problem.get("title") or http.client.responses.get(answer.status, f"status {answer.status}"))
    detail = problem.get("detail")
    errors = problem.get("errors")
    faults = [
        (str(fault.get("pointer") or ""), str(fault.get("detail") or ""))
        for fault in (errors if isinstance(errors, list) else [])
        if isinstance(fault, dict)
    ]
    hint = ""
    if answer.status == http.client.UNAUTHORIZED:
        hint = "Name the file of a bearer token with --token-file or $WEBHOOKD_TOKEN_FILE."
    elif answer.status == http.client.FORBIDDEN:
        hint = "Use a listener or a bearer token (--token-file, $WEBHOOKD_TOKEN_FILE) with a wider role."
    return CommandFailedError(
        f"{title}: {detail}" if detail else title,
        code=Exit.NOT_FOUND if answer.status == http.client.NOT_FOUND else Exit.FAILED,
        faults=faults,
        hint=hint,
        problem=problem,
    )


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    """Read server-sent events as far as the daemon uses them: one line of name and one of data, comments between."""
    name = ""
    while line := response.readline(MAX_EVENT_BYTES + 1):
        if len(line) > MAX_EVENT_BYTES:
            raise http.client.LineTooLong("event")
        field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, value


def _behind_space(text: str, at: int) -> int:
    between = _SPACE.match(text, at)
    return between.end() if between else at


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) < _MOST_DIGITS else digits


def segment(text: str) -> str:
    """Return `text` as one segment of a path."""
    return quote(text, safe=":")


def read_token(path: Path | None, environ: Mapping[str, str]) -> str | None:
    """Return the token in `path`, else in the file $WEBHOOKD_TOKEN_FILE names, else None. Raises click.UsageError."""
    named_by = "--token-file"
    if path is None and (named := environ.get("WEBHOOKD_TOKEN_FILE")):
        path, named_by = Path(named), "$WEBHOOKD_TOKEN_FILE"
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{named_by}: {path} cannot be read: {_words(error)}") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError(f"{named_by}: {path} does not hold a token (one line of visible ASCII)")
    return token


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
