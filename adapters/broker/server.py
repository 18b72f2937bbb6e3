"""Broker in front of the Docker engine: it parses each request, checks it, and writes a new one for the engine.

`python -m adapters.broker.server` serves until it is terminated. These variables configure it:

- ROAS_BROKER_PROJECTS: Compose projects whose containers, networks and volumes may be created and changed.
- ROAS_BROKER_ROOTS: paths of the host that containers may see, with ":rw" where they may write.
- ROAS_BROKER_NETWORKS, ROAS_BROKER_VOLUMES: networks and volumes of other projects that they may use.
- ROAS_BROKER_LISTEN, ROAS_BROKER_ENGINE: its own socket, and the engine's.

A connection carries one request: neither the broker nor the engine reads what follows as another one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import h11
import orjson

from adapters.broker.lookups import Lookups, check_links, connect, read_answer
from core.runtime import broker_policy as policies
from core.runtime.broker_messages import show_words
from core.runtime.broker_policy import PROJECT
from core.runtime.broker_routes import AllowedOperation, BrokerAnswer, Facts, ObjectKind, Outgoing, Policy
from core.runtime.broker_shapes import EXEC_START
from models.failures import EngineUnreachableError, RequestRefusedError, RoasError

log = logging.getLogger("roas.broker")

_HEAD_BYTES = 64 * 1024
_BODY_BYTES = 4 * 1024 * 1024
_CHUNK = 64 * 1024
_SECONDS = 30
# Of a client's headers nothing else reaches the engine.
_PASSED = (b"user-agent", b"x-registry-auth")

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """A request as a client sent it, read to its end."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    # Bytes after the request: the first input of a command that takes the connection over.
    behind: bytes

    @property
    def upgrades(self) -> bool:
        """Whether the client wants to take the connection over."""
        return any(name == b"upgrade" and value.lower() == b"tcp" for name, value in self.headers)


class EngineBroker:
    """Serves one policy in front of one engine."""

    def __init__(self, engine: str, policy: Policy) -> None:
        self._engine = engine
        self._policy = policy
        self._lookups = Lookups(engine, policy)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client's one request, then close its connection."""
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            log.debug("a client disconnected")
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request: ClientRequest | None = None
        try:
            async with asyncio.timeout(_SECONDS):
                request = await _read_request(reader, writer)
            if request is not None:
                await self._forward(request, reader, writer)
        except h11.RemoteProtocolError as error:
            _write_error(writer, HTTPStatus.BAD_REQUEST, f"engine broker: {error}")
        except TimeoutError:
            _write_error(writer, HTTPStatus.REQUEST_TIMEOUT, "engine broker: the request did not arrive in time")
        except RequestRefusedError as error:
            what = (
                "a request"
                if request is None
                else f"{show_words(request.method)} {show_words(request.target.split('?')[0])}"
            )
            log.warning("refused %s: %s", what, error)
            _write_error(writer, HTTPStatus.FORBIDDEN, f"engine broker: {error}")
        except EngineUnreachableError as error:
            # Clients recognise an unreachable engine by this message.
            words = f"Cannot connect to the Docker daemon at {error.address}. Is the docker daemon running?"
            _write_error(writer, HTTPStatus.SERVICE_UNAVAILABLE, words)
        await writer.drain()

    async def _forward(
        self, request: ClientRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        operation = policies.examine(request.method, request.target, request.body, self._policy)
        facts = await self._lookups.find(operation.required_objects)
        if operation.subject is not None and operation.subject not in facts:
            kind, name = operation.subject
            _write_error(writer, HTTPStatus.NOT_FOUND, f"No such {kind}: {name}")
            return
        outgoing = policies.settle(operation, facts, self._policy)
        for source in outgoing.sources:
            check_links(source, self._policy)
        subject = operation.subject
        if request.method == "DELETE" and subject is not None and subject[0] is ObjectKind.CONTAINER:
            # Its anonymous volumes may be attached to the container that replaces it.
            await self._lookups.inspect(facts[subject].identity)
        takes_over = request.upgrades and operation.route.shape is EXEC_START
        engine_reader, engine_writer = await connect(self._engine)
        try:
            engine_writer.write(_head(outgoing, request, takes_over=takes_over) + outgoing.body)
            if takes_over:
                await _copy_both_ways(request, (reader, writer), (engine_reader, engine_writer))
            elif self._passes_unread(operation):
                await _copy_answer((reader, writer), (engine_reader, engine_writer))
            else:
                status, body = await read_answer(engine_reader, request.method)
                good = status < HTTPStatus.BAD_REQUEST
                _write(writer, status, self._filter_answer(operation, facts, body) if good else body)
        finally:
            engine_writer.close()

    def _passes_unread(self, operation: AllowedOperation) -> bool:
        """Whether the answer can be forwarded unread."""
        match operation.route.answer:
            case BrokerAnswer.LISTING:
                return policies.only_own(operation, self._policy)
            case BrokerAnswer.INSPECTION:
                return self._lookups.knows(operation.name or "")
        return operation.route.answer is BrokerAnswer.AS_IT_IS

    def _filter_answer(self, operation: AllowedOperation, facts: Facts, body: bytes) -> bytes:
        """Remove objects of other projects from the answer, and cache those of declared ones."""
        reported = orjson.loads(body)
        match operation.route.answer:
            case BrokerAnswer.LISTING:
                return orjson.dumps(policies.reduced_listing(reported, self._policy))
            case BrokerAnswer.INSPECTION if not policies.is_own(
                (reported.get("Config") or {}).get("Labels"), self._policy
            ):
                return orjson.dumps(policies.reduced_container(reported))
            case BrokerAnswer.INSPECTION:
                self._lookups.learn(reported)
            case BrokerAnswer.CREATED:
                self._lookups.remember_container(reported["Id"], (operation.content or {})["Labels"][PROJECT])
            case BrokerAnswer.EXEC_CREATED if operation.subject is not None:
                self._lookups.remember_exec(reported["Id"], facts[operation.subject].project)
        return body


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> ClientRequest | None:
    connection, head, body = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES), None, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                writer.write(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Request):
            head = event
            if sum(name in (b"content-length", b"transfer-encoding") for name, _ in head.headers) > 1:
                raise h11.RemoteProtocolError("the request says in two ways how long its body is")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _BODY_BYTES:
                raise RequestRefusedError(f"the body is larger than {_BODY_BYTES} bytes")
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return ClientRequest(
                method=head.method.decode("ascii"),
                target=head.target.decode("ascii"),
                headers=tuple(head.headers),
                body=bytes(body),
                behind=connection.trailing_data[0],
            )
        else:
            return None


def _head(outgoing: Outgoing, request: ClientRequest, *, takes_over: bool) -> bytes:
    lines = [f"{outgoing.method} {outgoing.target} HTTP/1.1".encode("ascii"), b"Host: docker"]
    lines += [name + b": " + value for name, value in request.headers if name in _PASSED]
    # The engine then closes the connection after its answer, so it reads no second request.
    lines += [b"Connection: Upgrade, close", b"Upgrade: tcp"] if takes_over else [b"Connection: close"]
    if outgoing.content_type:
        lines.append(b"Content-Type: " + outgoing.content_type.encode("ascii"))
    if outgoing.method not in ("GET", "HEAD"):
        lines.append(b"Content-Length: %d" % len(outgoing.body))
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def _copy_answer(client: _Streams, engine: _Streams) -> None:
    """Stream the engine's answer to the client until it ends or the client disconnects."""
    leaving = asyncio.ensure_future(_drain(client[0]))
    leaving.add_done_callback(lambda _: engine[1].transport.abort())
    try:
        await _copy(engine[0], client[1])
    finally:
        leaving.cancel()


async def _copy_both_ways(request: ClientRequest, client: _Streams, engine: _Streams) -> None:
    """Copy in both directions, once the engine has switched protocols."""
    head = await engine[0].readuntil(b"\r\n\r\n")
    client[1].write(head)
    if head.split(b" ", 2)[1] != b"101":
        await _copy_answer(client, engine)
        return
    engine[1].write(request.behind)
    input_task = asyncio.ensure_future(_hand_input(client[0], engine[1]))
    try:
        await _copy(engine[0], client[1])
    finally:
        input_task.cancel()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        target.write(data)
        await target.drain()


async def _hand_input(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await _copy(source, target)
        target.write_eof()


async def _drain(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(_CHUNK):
            pass


def _write(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    phrase = HTTPStatus(status).phrase
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode("ascii") + b"Connection: close\r\n\r\n" + body)


def _write_error(writer: asyncio.StreamWriter, status: HTTPStatus, message: str) -> None:
    _write(writer, status, orjson.dumps({"message": message}))


_DECLARED = ("PROJECTS", "ROOTS", "NETWORKS", "VOLUMES", "CONTAINERS", "SUBNETS")


def run(variables: Mapping[str, str]) -> None:
    """Serve until terminated. Raises BadInputError if a variable declares what may not be declared."""
    declared = (variables.get(f"ROAS_BROKER_{name}", "") for name in _DECLARED)
    policy = policies.make_policy(*([value.strip() for value in text.split(",") if value.strip()] for text in declared))
    for root in policy.roots:
        if not os.path.lexists(root.path):
            log.warning("root %s is not mounted into the broker; only the path itself can be used", root.path)
    listen = Path(variables.get("ROAS_BROKER_LISTEN", "/run/engine/docker.sock"))
    listen.unlink(missing_ok=True)
    # Every process that mounts the socket's volume may connect: workers run as their own user.
    os.umask(0o111)
    broker = EngineBroker(variables.get("ROAS_BROKER_ENGINE", "/run/host/docker.sock"), policy)
    asyncio.run(_listen(broker, listen, ", ".join(sorted(policy.projects)) or "none"))


async def _listen(broker: EngineBroker, socket_path: Path, projects: str) -> None:
    async with await asyncio.start_unix_server(broker.serve, socket_path, limit=_CHUNK, backlog=512) as server:
        log.info("serving projects %s", projects)
        await server.serve_forever()


def main() -> None:
    """Run the broker."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    try:
        run(os.environ)
    except RoasError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
