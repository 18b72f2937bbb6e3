"""Probe of an AMQP broker such as RabbitMQ: log in, open a channel, look at a queue."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from adapters.probes.addresses import Address
from adapters.probes.outcome import Outcome, ProbeFailed, brief, password_of
from models.analysis import Level
from models.environments import AmqpProbe
from models.health import Reading

_NOT_FOUND = 404
# The probe's result says it once, in our words.
logging.getLogger("pika").setLevel(logging.CRITICAL + 1)


async def ask_amqp(probe: AmqpProbe, place: Address, secrets: Mapping[str, str]) -> Outcome:
    """Log in, open a channel, and count the messages of the queue where the probe names one."""
    # Without a secret the user is guest, whose password is its name by the protocol's documentation.
    password = password_of(probe.password_secret, secrets) or "guest"
    connection = await _connect(_parameters(probe, place, password), probe)
    closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    connection.add_on_close_callback(lambda _, reason: _settle(closed, reason))
    try:
        return await _look(connection, probe)
    except asyncio.CancelledError:
        # A broker that does not answer does not close either; the missing heartbeat ends the connection.
        closed.cancel()
        raise
    finally:
        if connection.is_open:
            connection.close()
        if not closed.cancelled():
            await closed


def _parameters(probe: AmqpProbe, place: Address, password: str) -> pika.ConnectionParameters:
    limit = probe.timeout_seconds
    return pika.ConnectionParameters(
        host=place.host,
        port=place.port,
        virtual_host=probe.virtual_host,
        credentials=pika.PlainCredentials(probe.user, password),
        connection_attempts=1,
        socket_timeout=limit,
        stack_timeout=limit,
        # A broker that falls silent also loses a connection that is being closed.
        heartbeat=math.ceil(limit),
        client_properties={"connection_name": "roas probe"},
    )


async def _connect(parameters: pika.ConnectionParameters, probe: AmqpProbe) -> AsyncioConnection:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    AsyncioConnection.create_connection([parameters], on_done=lambda result: _settle(done, result), custom_ioloop=loop)
    try:
        result = await asyncio.shield(done)
    except asyncio.CancelledError:
        # pika cannot abort a login (an assertion of its own fails), but ends it at stack_timeout, which is now.
        await asyncio.wait({done}, timeout=1)
        if done.done() and isinstance(done.result(), AsyncioConnection):
            done.result().close()
        raise
    if isinstance(result, AsyncioConnection):
        return result
    error = _cause(result)
    if isinstance(error, AMQPConnectorStackTimeout | TimeoutError):
        raise TimeoutError from error
    raise ProbeFailed(_explain(error, probe))


async def _look(connection: AsyncioConnection, probe: AmqpProbe) -> Outcome:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()
    connection.add_on_close_callback(lambda _, reason: _settle(answer, reason))

    def on_open(channel: Any) -> None:
        channel.add_on_close_callback(lambda _, reason: _settle(answer, reason))
        if probe.queue is None:
            _settle(answer, None)
        else:
            channel.queue_declare(probe.queue, passive=True, callback=lambda frame: _settle(answer, frame.method))

    connection.channel(on_open_callback=on_open)
    result = await answer
    if isinstance(result, Exception):
        raise ProbeFailed(_explain_channel(result, probe))
    if probe.queue is None:
        return "the broker opens a channel", ()
    return _judge(probe, int(result.message_count), int(result.consumer_count))


def _judge(probe: AmqpProbe, messages: int, consumers: int) -> Outcome:
    many = probe.max_messages is not None and messages > probe.max_messages
    words = f"queue {probe.queue} has {messages} messages ready and {consumers} consumers"
    reading = Reading(
        metric="queue_messages",
        value=float(messages),
        words=f"its {words}, more than {probe.max_messages} messages" if many else f"its {words}",
        concern=Level.WARNING if many else Level.NONE,
        threshold=float(probe.max_messages) if many and probe.max_messages is not None else None,
        degrades=many,
    )
    return f"the broker opens a channel, its {words}", (reading,)


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _cause(error: BaseException) -> BaseException:
    """The last failure inside those that say only in which phase it was."""
    while True:
        inner: Any = getattr(error, "exceptions", None) or getattr(error, "exception", None)
        if isinstance(inner, list | tuple) and inner:
            inner = inner[-1]
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _words_of(error: BaseException) -> str:
    if isinstance(error, ConnectionClosedByBroker | ChannelClosedByBroker):
        return f"{error.reply_code} {error.reply_text}"
    with suppress(IndexError):
        return brief(str(error.args[-1]))
    return type(error).__name__


def _explain(error: BaseException, probe: AmqpProbe) -> str:
    who, message = f"login of user {probe.user} at virtual host {probe.virtual_host}", _words_of(error)
    match error:
        case ProbableAccessDeniedError():
            return f"{who} was refused: {message}; does this virtual host exist, and has the user permissions in it?"
        case AuthenticationError() | ProbableAuthenticationError():
            named = f"compare user and secret {probe.password_secret} with the broker's"
            guest = "set user and password_secret; guest may log in from the broker's own machine only"
            return f"{who} was refused: {message}; {guest if probe.password_secret is None else named}"
        case ConnectionClosedByBroker():
            return f"{who} was refused: {message}; does this virtual host exist, and has the user permissions in it?"
        case IncompatibleProtocolError() | StreamLostError():
            return f"port {probe.port} answers, but not as an AMQP 0-9-1 broker: {message}; is it the right port?"
        case AMQPError():
            return f"{who} failed: {message}"
    return f"no AMQP connection: {message}"


def _explain_channel(error: Exception, probe: AmqpProbe) -> str:
    message = _words_of(error)
    if isinstance(error, ChannelClosedByBroker) and error.reply_code == _NOT_FOUND:
        return f"queue {probe.queue} is missing: {message}; does the program that declares it run?"
    if isinstance(error, ChannelClosedByBroker):
        return f"queue {probe.queue} cannot be read: {message}"
    return f"the broker broke off: {message}; its log says why"
