"""What hosts of a fleet may do on the control plane: each with a credential of its own, for what belongs to it.

It stands before Prefect's API, which knows one password: a request with a host's credential is checked by
core/runtime/host_access.py and passed on with that password. `POST /roas/enrol`, `POST /roas/leave`,
`POST /roas/journal` and `GET /roas/install` are here, too.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.server.host_keys import HostKeys
from core.common.safe_text import printable, shorten
from core.runtime.host_access import (
    EVENTS_IN,
    EVENTS_OUT,
    AccessRefusedError,
    Belonging,
    Claim,
    claims_of,
    event_claims,
    may_open_socket,
    narrow_body,
)
from flows.fleet.host_install import INSTALL, install_file
from flows.fleet.journals import Journals
from flows.fleet.owners import KNOWN_AT_MOST, AbsentError, Owners, UnknownOwnerError
from flows.fleet.stores_of_hosts import StoresOfHosts
from models.enrolment import EnrolRequest, HostKey, Membership, pool_of
from models.failures import RoasError

log = logging.getLogger("roas")

_API = "/api"
_MOST_BYTES = 16 * 1024 * 1024
_MOST_BYTES_TO_ENROL = 4096
_BODY_SECONDS = 60.0
_TOO_SLOW = "The body of the request did not arrive in time."
_KEY_KNOWN_SECONDS = 5.0
"""So long a revoked credential may still work."""


class HostGuard:
    """Let hosts use Prefect's API for what belongs to them; every other request is passed on as it is."""

    def __init__(
        self,
        app: ASGIApp,
        keys: HostKeys,
        auth_string: str,
        stores: StoresOfHosts,
        body_seconds: float = _BODY_SECONDS,
    ) -> None:
        self._app = app
        self._body_seconds = body_seconds
        self._keys = keys
        self._auth_string = auth_string
        self._stores = stores
        self._known_keys: dict[tuple[str, str], tuple[float, HostKey | None]] = {}
        self._owners = Owners(app, auth_string)
        self._journals = Journals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or connection."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == "/roas/enrol" and scope["method"] == "POST":
            await (await self._enrol(receive))(scope, receive, send)
        elif scope["path"].startswith(INSTALL) and scope["method"] == "GET":
            await install_file(scope["path"])(scope, receive, send)
        else:
            user, password = credentials_of(Headers(scope=scope).get("authorization", ""))
            if (pool := pool_of(user)) is None:
                await self._app(scope, receive, send)
            elif (host := await self._host(pool, password)) is None:
                await _refusal(401, f"The credential of {pool} does not work (any more).")(scope, receive, send)
            elif scope["path"] == "/roas/leave" and scope["method"] == "POST":
                await (await self._leave(host))(scope, receive, send)
            elif scope["path"] == "/roas/journal" and scope["method"] == "POST":
                await (await self._take_batch(host, scope, receive))(scope, receive, send)
            else:
                await self._request(host, scope, receive, send)

    async def _request(self, host: HostKey, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await whole_body(receive, _MOST_BYTES, self._body_seconds)
        except TimeoutError:
            await _refusal(408, _TOO_SLOW)(scope, receive, send)
            return
        if body is None:
            await _refusal(413, f"A request of a host has at most {_MOST_BYTES:,} bytes.")(scope, receive, send)
            return
        path = scope["path"]
        try:
            if not path.startswith(f"{_API}/"):
                raise AccessRefusedError(f"{path} is not for hosts")
            api_path = path.removeprefix(_API)
            claims = claims_of(scope["method"], api_path, body, host.pool)
            for claim in claims:
                await self._check(claim, host)
            passed_on = narrow_body(scope["method"], api_path, body, host.pool)
        except AbsentError:
            await _refusal(404, f"Nothing of that name or id belongs to {host.name}.")(scope, receive, send)
        except AccessRefusedError as refused:
            log.warning("refused to %s: %s %s: %s", host.pool, scope["method"], _show_words(path), _show_words(refused))
            await _refusal(403, f"Refused to host {host.name}: {refused}.")(scope, receive, send)
        except UnknownOwnerError as unknown:
            # A worker would take a refusal for good, and end; this it asks again.
            await _refusal(503, f"Not passed on for host {host.name}: {unknown}.")(scope, receive, send)
        else:
            await self._app(_pass_on(scope, self._auth_string, len(passed_on)), _replay(passed_on, receive), send)

    async def _check(self, claim: Claim, host: HostKey) -> None:
        """As `Owners.check`; a deployment's name that a revoked host has is free for another one."""
        try:
            await self._owners.check(claim, host.pool)
        except AccessRefusedError:
            if claim.kind is not Belonging.NEW_DEPLOYMENT or not await self._is_freed(claim):
                raise
            await self._owners.check(claim, host.pool)

    async def _is_freed(self, claim: Claim) -> bool:
        """Remove what the owners have, where all of them are revoked."""
        try:
            pools = await self._owners.pools_of(claim)
            if not all([await asyncio.to_thread(self._keys.is_revoked, pool) for pool in pools]):
                return False
            for pool in pools:
                await self._remove(pool)
                log.warning("removed deployments and work pool of %s, which is revoked", pool)
        except RoasError as error:
            log.error("%s", error)
            return False
        return True

    async def _remove(self, pool: str) -> None:
        """Remove a host's deployments and pool.

        Raises:
            RoasError: The server does not do it.
        """
        pool_filter = {"work_pools": {"name": {"any_": [pool]}}}
        # The server gives 200 at once, which twelve environments exceed.
        while page := (await self._owners.ask_until_done("POST", "/deployments/filter", pool_filter)).json():
            for deployment in page:
                await self._owners.ask_until_done("DELETE", f"/deployments/{deployment['id']}")
        await self._owners.ask_until_done("DELETE", f"/work_pools/{pool}")
        self._owners.forget()

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a socket; who opened it is known by its header, or by the first message in it."""
        user, password = credentials_of(Headers(scope=scope).get("authorization", ""))
        pool = pool_of(user)
        host = None if pool is None else await self._host(pool, password)
        if pool is not None and host is None:
            await send({"type": "websocket.close", "code": 1008, "reason": "the credential does not work"})
            return
        path = scope["path"].removeprefix(_API)
        opened = _pass_on(scope, self._auth_string) if host else scope

        async def receive_checked() -> Message:
            nonlocal host
            while True:
                message = await receive()
                text = _text(message)
                if text is None:
                    return message
                if (token := _token(text)) is not None:
                    user, _, password = token.partition(":")
                    if (pool := pool_of(user)) is None:
                        return message
                    host = await self._host(pool, password)
                    if host is None or not may_open_socket(path, host.pool):
                        return {"type": "websocket.disconnect", "code": 1008}
                    return {
                        "type": "websocket.receive",
                        "text": json.dumps({"type": "auth", "token": self._auth_string}),
                    }
                if host is None or path != EVENTS_IN or await self._may_tell(host, text):
                    return message

        async def send_checked(message: Message) -> None:
            text = _text({**message, "type": "websocket.receive"}) if message["type"] == "websocket.send" else None
            if text is None or host is None or await self._concerns(host, text):
                await send(message)

        if host is not None and not may_open_socket(path, host.pool):
            await send({"type": "websocket.close", "code": 1008, "reason": "not for hosts"})
            return
        await self._app(opened, receive_checked, send_checked if path == EVENTS_OUT else send)

    async def _concerns(self, host: HostKey, text: str) -> bool:
        """Whether a message of the server to a host is of what belongs to it; one that is no event is."""
        try:
            message = json.loads(text)
            if message.get("type") == "event":
                await self._check_event(host, json.dumps(message["event"]))
        except (AccessRefusedError, AbsentError, UnknownOwnerError, ValueError, KeyError, AttributeError):
            return False
        return True

    async def _may_tell(self, host: HostKey, event: str) -> bool:
        """Whether an event of a host concerns what belongs to it; others are left out, and logged."""
        try:
            await self._check_event(host, event)
        except (AccessRefusedError, AbsentError, UnknownOwnerError) as refused:
            log.warning("left out an event of %s: %s", host.pool, _show_words(refused))
            return False
        return True

    async def _check_event(self, host: HostKey, event: str) -> None:
        for claim in event_claims(event):
            await self._owners.check(claim, host.pool)

    async def _host(self, pool: str, key: str) -> HostKey | None:
        """The host with this credential; None where it does not work."""
        entry = self._known_keys.get((pool, key))
        if entry is not None and time.monotonic() < entry[0]:
            return entry[1]
        try:
            host = await asyncio.to_thread(self._keys.owner, pool, key)
        except RoasError as error:
            log.error("%s", error)
            return None
        if len(self._known_keys) > KNOWN_AT_MOST:
            self._known_keys.clear()
        self._known_keys[pool, key] = (time.monotonic() + _KEY_KNOWN_SECONDS, host)
        return host

    async def _enrol(self, receive: Receive) -> Response:
        try:
            body = await whole_body(receive, _MOST_BYTES_TO_ENROL, self._body_seconds)
        except TimeoutError:
            return _refusal(408, _TOO_SLOW)
        try:
            request = EnrolRequest.model_validate_json(body or b"")
        except ValidationError:
            return _refusal(400, "This is no request to enrol.")
        try:
            enrolment = await asyncio.to_thread(self._keys.enrol, request.token, request.host, datetime.now(UTC))
        except RoasError as error:
            log.error("%s", error)
            return _refusal(503, "The control plane cannot read its hosts' credentials; its log says why.")
        if enrolment is None:
            return _refusal(403, "The token is not known, was used by another host, was revoked, or has expired.")
        host, key = enrolment
        self._known_keys.clear()
        made = await self._owners.ask("POST", "/work_pools/", _work_pool(host.pool))
        if made.status_code not in (201, 409):
            return _refusal(503, f"The work pool {host.pool} cannot be made: status {made.status_code}.")
        log.warning("host %s enrolled with version %s", host.name, _show_words(request.version))
        try:
            stores = await asyncio.to_thread(self._stores.access, host.pool, request.host)
        except RoasError as error:
            log.error("%s %s", error, error.advice or "")
            return _refusal(503, "The control plane cannot give this host access to the stores; its log says why.")
        member = Membership(
            name=host.name, pool=host.pool, key=key, stores_url=stores.url, stores_password=stores.password
        )
        return JSONResponse(member.model_dump())

    async def _take_batch(self, host: HostKey, scope: Scope, receive: Receive) -> Response:
        headers = Headers(scope=scope)
        if (headers.get("content-type"), headers.get("content-encoding")) != ("application/json", "gzip"):
            return _refusal(415, "A batch is application/json, compressed with gzip.")
        try:
            body = await whole_body(receive, _MOST_BYTES, self._body_seconds)
        except TimeoutError:
            return _refusal(408, _TOO_SLOW)
        if body is None or host.host is None:
            return _refusal(413, f"A request of a host has at most {_MOST_BYTES:,} bytes.")
        return await self._journals.take(host.host, body)

    async def _leave(self, host: HostKey) -> Response:
        """Remove a host's deployments and pool, and let its credential work no more."""
        try:
            await self._remove(host.pool)
        except RoasError as error:
            log.error("%s", error)
            return _refusal(503, "Its deployments cannot be removed now; try again.")
        try:
            await asyncio.to_thread(self._stores.end, host.pool)
            await asyncio.to_thread(self._keys.revoke, host.name, datetime.now(UTC))
        except RoasError as error:
            log.error("%s %s", error, error.advice or "")
            return _refusal(503, "The control plane cannot end this host's credentials; its log says why.")
        self._known_keys.clear()
        log.warning("host %s left", host.name)
        return JSONResponse({"left": host.name})


def _work_pool(name: str) -> dict[str, Any]:
    """A new work pool with its template: a worker that found none would write it, which no host may."""
    from prefect.workers.process import ProcessWorker

    return {"name": name, "type": "process", "base_job_template": ProcessWorker.get_default_base_job_template()}


def credentials_of(header: str) -> tuple[str, str]:
    """User and password of an Authorization header; both empty where it has none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


def _pass_on(scope: Scope, auth_string: str, length: int | None = None) -> Scope:
    """The request with the server's own password, and the length of its body where that may have changed."""
    changed = dict(scope)
    changed["headers"] = list(scope["headers"])
    headers = MutableHeaders(scope=changed)
    headers["authorization"] = "Basic " + base64.b64encode(auth_string.encode()).decode()
    if length is not None:
        headers["content-length"] = str(length)
    return changed


async def whole_body(receive: Receive, most: int, seconds: float) -> bytes | None:
    """The body of a request; None where it is larger than allowed, or its client is gone.

    Raises:
        TimeoutError: It did not arrive in time.
    """
    body = bytearray()
    async with asyncio.timeout(seconds):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            if len(body) > most:
                return None
            if not message.get("more_body"):
                return bytes(body)


def _show_words(value: object) -> str:
    """Words of a client on one line of the log, without control characters."""
    return shorten(printable(str(value)))


def _replay(body: bytes, receive: Receive) -> Receive:
    is_replayed = False

    async def replay() -> Message:
        nonlocal is_replayed
        if is_replayed:
            return await receive()
        is_replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _text(message: Message) -> str | None:
    if message["type"] != "websocket.receive":
        return None
    text = message.get("text")
    if text is None:
        text = (message.get("bytes") or b"").decode(errors="replace")
    return str(text)


def _token(text: str) -> str | None:
    """The credential in the first message of a socket; None where it is none."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    token = message.get("token") if isinstance(message, dict) and message.get("type") == "auth" else None
    return token if isinstance(token, str) else None


def _refusal(status: int, reason: str) -> Response:
    return JSONResponse({"detail": reason, "exception_message": reason}, status_code=status)
