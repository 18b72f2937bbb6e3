"""Serve the pages of answer links: opening one shows what it would do, and only its button does it.

The same server takes the pushes of git servers, since both come through one proxy.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

_MOST_BODY = 8192
_MOST_PUSH = 25 * 1024 * 1024
"""GitHub sends no more."""

_CHUNK = 64 * 1024
_AT_ONCE = 8
_REQUEST_SECONDS = 10
_A_MINUTE = 60.0
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
}
_STYLE = "body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}label{display:block}"
_STYLE += "input{width:100%;font:inherit;padding:.4rem;box-sizing:border-box}button{font:inherit;margin-top:1rem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPage:
    """What a page shows. `button` is the label of its button, empty where there is nothing to confirm."""

    status: HTTPStatus
    title: str
    text: str
    button: str = ""


class RateLimit:
    """At most so many requests within a minute, from whoever they are."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._taken: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether one more request is within the limit."""
        with self._lock:
            now = self._clock()
            while self._taken and now - self._taken[0] >= _A_MINUTE:
                self._taken.popleft()
            if len(self._taken) >= self._most:
                return False
            self._taken.append(now)
            return True


Push = Callable[[str, Mapping[str, str], Iterable[bytes]], AnswerPage]
"""Takes an environment's name, the headers and the body of a push; returns the page."""


class AnswerServer(ThreadingHTTPServer):
    """The server. `show` and `answer` take a link's token, `answer` also the note; they return the page.

    `push` is called for POST /push/ENV; without it there is no such page.
    """

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        show: Callable[[str], AnswerPage],
        answer: Callable[[str, str], AnswerPage],
        limit: RateLimit,
        push: Push | None = None,
    ) -> None:
        self.push = push
        self.show, self.answer, self.limit = show, answer, limit
        self.places = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    server_version = "roas"
    sys_version = ""
    server: AnswerServer
    _NOT_THERE: ClassVar = AnswerPage(status=HTTPStatus.NOT_FOUND, title="Not found", text="There is no such page.")

    def do_GET(self) -> None:
        self._respond(lambda token: self.server.show(token))

    def do_POST(self) -> None:
        folder, name = self._place()
        push = self.server.push if folder == "push" else None
        try:
            size = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            size = -1
        if not 0 <= size <= (_MOST_BODY if push is None else _MOST_PUSH):
            self._send(AnswerPage(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, title="Too large", text="Shorten it."))
            return
        if push is not None and name:
            self._within_limit(lambda: push(name, dict(self.headers.items()), self._chunks(size)))
            return
        form = parse_qs(self.rfile.read(size).decode("utf-8", "replace"))
        self._respond(lambda token: self.server.answer(token, form.get("note", [""])[0]))

    def _place(self) -> tuple[str, str]:
        *_, folder, name = ["", "", *urlsplit(self.path).path.split("/")]
        return folder, name

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size > 0 and (chunk := self.rfile.read(min(size, _CHUNK))):
            size -= len(chunk)
            yield chunk

    def _respond(self, page_of: Callable[[str], AnswerPage]) -> None:
        folder, token = self._place()
        if folder != "answer" or not token:
            self._send(self._NOT_THERE)
        else:
            self._within_limit(lambda: page_of(token))

    def _within_limit(self, page: Callable[[], AnswerPage]) -> None:
        if not self.server.limit.take() or not self.server.places.acquire(blocking=False):
            busy = "Too many requests. Wait a minute."
            self._send(AnswerPage(status=HTTPStatus.TOO_MANY_REQUESTS, title="Busy", text=busy))
        else:
            try:
                self._send(page())
            finally:
                self.server.places.release()

    def _send(self, page: AnswerPage) -> None:
        content = _html(page).encode()
        self.send_response(page.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if page.status is HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("Retry-After", str(round(_A_MINUTE)))
        self.send_header("Content-Length", str(len(content)))
        # What was not read of a request would be taken for the next one.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it is called by
        """Log nothing: the path of a request holds a token that may still be used."""


def _html(page: AnswerPage) -> str:
    form = ""
    if page.button:
        form = (
            '<form method="post"><label for="note">Note: why, or what fixed it</label>'
            '<input id="note" name="note" maxlength="500" autocomplete="off">'
            f'<button type="submit">{escape(page.button)}</button></form>'
        )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(page.title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><main><h1>{escape(page.title)}</h1><p>{escape(page.text)}</p>{form}</main></body></html>\n"
    )
