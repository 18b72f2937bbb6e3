"""Serve the pages of answer links: opening one shows what it would do, and only its button does it.

The same server takes the pushes of git servers, since both come through one proxy.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import ClassVar, Protocol
from urllib.parse import parse_qs, urlsplit

from adapters.host.http_server import OwnHandler, OwnServer

_MOST_BODY = 8192
_MOST_PUSH = 25 * 1024 * 1024
"""GitHub sends no more."""

_CHUNK = 64 * 1024
_AT_ONCE = 8
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


_BUSY = AnswerPage(status=HTTPStatus.TOO_MANY_REQUESTS, title="Busy", text="Too many requests. Wait a minute.")


class RateLimit:
    """At most so many requests within a minute of each link or place.

    Only verified requests are counted: who knows no valid link uses nothing up.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._taken: defaultdict[str, deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()

    def take(self, name: str) -> bool:
        """Whether one more request of this name is within the limit."""
        with self._lock:
            now = self._clock()
            for key, times in list(self._taken.items()):
                while times and now - times[0] >= _A_MINUTE:
                    times.popleft()
                if not times:
                    del self._taken[key]
            if len(self._taken[name]) >= self._most:
                return False
            self._taken[name].append(now)
            return True


class Links(Protocol):
    """What answer links do. Each call takes a link's token and returns a page."""

    def refusal(self, text: str) -> AnswerPage | None:
        """Return why a link is not valid; None where it is. It must be cheap: anybody may ask."""

    def show(self, text: str) -> AnswerPage:
        """Say what a link would do."""

    def answer(self, text: str, note: str) -> AnswerPage:
        """Do what a link allows."""


class Pushes(Protocol):
    """Takes pushes of git servers for environments by name."""

    def refusal(self, name: str, headers: Mapping[str, str], body: Iterable[bytes]) -> AnswerPage | None:
        """Return why a push is not accepted; None where its signature is good."""

    def follow(self, name: str, headers: Mapping[str, str]) -> AnswerPage:
        """Do what a verified push asks for."""


class AnswerServer(OwnServer):
    """The server. `pushes` gets what comes to POST /push/ENV; without it there is no such page."""

    def __init__(self, address: tuple[str, int], links: Links, limit: RateLimit, pushes: Pushes | None = None) -> None:
        self.links, self.limit, self.pushes = links, limit, pushes
        # A push is verified only when its whole body is here, so slow ones must not take the places of links.
        self.places = threading.BoundedSemaphore(_AT_ONCE)
        self.push_places = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, _Handler)


class _Handler(OwnHandler):
    server: AnswerServer
    _NOT_THERE: ClassVar = AnswerPage(status=HTTPStatus.NOT_FOUND, title="Not found", text="There is no such page.")

    def do_GET(self) -> None:  # noqa: N802 - the name that the base class calls
        self._follow_link(self.server.links.show)

    def do_POST(self) -> None:  # noqa: N802 - the name that the base class calls
        folder, name = self._place()
        pushes = self.server.pushes if folder == "push" else None
        try:
            size = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            size = -1
        if not 0 <= size <= (_MOST_BODY if pushes is None else _MOST_PUSH):
            self._send(AnswerPage(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, title="Too large", text="Shorten it."))
        elif pushes is not None and name:
            self._take_push(pushes, name, size)
        else:
            self._follow_link(lambda token: self.server.links.answer(token, self._note(size)))

    def _place(self) -> tuple[str, str]:
        *_, folder, name = ["", "", *urlsplit(self.path).path.split("/")]
        return folder, name

    def _note(self, size: int) -> str:
        return parse_qs(self.rfile.read(size).decode("utf-8", "replace")).get("note", [""])[0]

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size > 0 and (chunk := self.rfile.read(min(size, _CHUNK))):
            size -= len(chunk)
            yield chunk

    def _follow_link(self, page_of: Callable[[str], AnswerPage]) -> None:
        folder, token = self._place()
        if folder != "answer" or not token:
            self._send(self._NOT_THERE)
        elif refused := self.server.links.refusal(token):
            self._send(refused)
        elif not self.server.limit.take(token):
            self._send(_BUSY)
        else:
            self._answer_in_place(self.server.places, lambda: page_of(token))

    def _take_push(self, pushes: Pushes, name: str, size: int) -> None:
        headers = dict(self.headers.items())

        def page() -> AnswerPage:
            if refused := pushes.refusal(name, headers, self._chunks(size)):
                return refused
            return pushes.follow(name, headers) if self.server.limit.take(f"push {name}") else _BUSY

        self._answer_in_place(self.server.push_places, page)

    def _answer_in_place(self, places: threading.BoundedSemaphore, page: Callable[[], AnswerPage]) -> None:
        if not places.acquire(blocking=False):
            self._send(_BUSY)
            return
        try:
            answer = page()
        finally:
            places.release()
        self._send(answer)

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
