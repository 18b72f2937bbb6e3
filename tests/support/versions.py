"""Versions of a small web service, good and bad ones, and a client that sees which of them answers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import Any

PORT = 8080
"""Where it listens inside its container."""

IN_ORDER = "in order"
"""What the answer of a version that works contains."""

_SERVER = (
    "use IO::Socket::INET; $| = 1; $SIG{PIPE} = 'IGNORE';"
    " my ($how, $after) = ($ENV{BEHAVIOUR}, $ENV{AFTER});"
    " if ($how eq 'crash') { print STDERR qq(no licence found\\n); exit 3 }"
    " my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 128, ReuseAddr => 1) or die $!;"
    " if ($how eq 'late') { $SIG{ALRM} = sub { print STDERR qq(out of handles\\n); exit 3 }; alarm $after }"
    " if ($how eq 'unhealthy') { $SIG{ALRM} = sub { unlink '/tmp/well' }; alarm $after }"
    " if ($how ne 'slow') { open my $well, '>', '/tmp/well' }"
    " while (1) { my $client = $server->accept or next; sysread $client, my $asked, 4096;"
    " my $fails = $how eq 'wrong' || ($how eq 'smoke' && $asked =~ m(^GET /order));"
    " my $state = $fails ? 'no such table' : 'in order';"
    " my $body = qq($ENV{VERSION} $state);"
    " print $client qq(HTTP/1.0 200 OK\\r\\nContent-Length: ) . length($body) . qq(\\r\\n\\r\\n$body); close $client }"
)


class Behaviour(StrEnum):
    """How a version serves: well, or how it fails."""

    GOOD = "good"
    CRASH = "crash"
    LATE = "late"
    """It serves, and exits after some seconds."""
    UNHEALTHY = "unhealthy"
    """Its health check passes first, and fails after some seconds."""
    SLOW = "slow"
    """Its health check never passes, and it does not exit."""
    WRONG = "wrong"
    """Its health check passes, and its answers are wrong."""
    SMOKE = "smoke"
    """Its health check passes, and its answers to /order are wrong, which only a smoke test asks for."""
    MIGRATION = "migration"
    """It would serve well, but its migration fails half-way."""


BAD = tuple(one for one in Behaviour if one not in (Behaviour.GOOD, Behaviour.SMOKE, Behaviour.MIGRATION))
"""The bad ones that are found without hooks."""

_ASK = (
    "my $server = IO::Socket::INET->new('127.0.0.1:8080') or die $!;"
    " print $server qq(GET /order HTTP/1.0\\r\\n\\r\\n);"
    " my $said = join '', <$server>; print $said; exit($said =~ /in order/ ? 0 : 1)"
)
SMOKE_TEST = ("perl", "-MIO::Socket::INET", "-e", _ASK)
"""Asks inside the service's container for /order."""

MIGRATION = ("sh", "-c", "echo half-done; if [ $BEHAVIOUR = migration ]; then echo no such column >&2; exit 1; fi")
"""Runs in the service's new image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppVersion:
    """One version of the service; `after_seconds` is when it fails, where it serves first."""

    name: str
    behaviour: Behaviour = Behaviour.GOOD
    after_seconds: int = 1

    @property
    def is_good(self) -> bool:
        return self.behaviour is Behaviour.GOOD

    def lines(self) -> tuple[str, str]:
        """Its part of a Dockerfile; the base is Debian, whose perl serves."""
        variables = f"ENV VERSION={self.name} BEHAVIOUR={self.behaviour} AFTER={self.after_seconds}"
        return variables, f"CMD {json.dumps(['perl', '-e', _SERVER])}"


def web(image: str, port: int | None = None, **more: Any) -> dict[str, Any]:
    """The service as a Compose file declares it; `port` is the host's, on loopback."""
    check = {"test": ["CMD", "test", "-e", "/tmp/well"], "interval": "1s", "timeout": "30s", "retries": 2}
    check |= {"start_period": "60s", "start_interval": "200ms"}
    ports = {"ports": [f"127.0.0.1:{port}:{PORT}"]} if port else {}
    return {"image": image, "init": True, "healthcheck": check} | ports | more


@dataclass(frozen=True, slots=True)
class VersionAnswer:
    """What one request got: `text` is None where it got no whole answer. Moments of the monotonic clock."""

    sent: float
    ended: float
    text: str | None

    @property
    def version(self) -> str | None:
        """The version that answered."""
        return self.text.partition(" ")[0] if self.text else None

    @property
    def is_right(self) -> bool:
        return self.text is not None and self.text.endswith(IN_ORDER)


@dataclass(frozen=True, slots=True)
class ServiceOutage:
    """Requests without a right answer, from the sending of the first to the next right answer."""

    began: float
    ended: float
    requests: int

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(slots=True)
class Client:
    """Asks a port of loopback at a steady rate, whether earlier requests are answered or not."""

    port: int
    a_second: float = 20.0
    answers: list[VersionAnswer] = field(default_factory=list)
    """In the order in which they were sent, once each has ended."""

    def since(self, moment: float) -> list[VersionAnswer]:
        """The answers to requests that were sent since then, in their order."""
        return sorted((one for one in list(self.answers) if one.sent >= moment), key=lambda one: one.sent)

    def until(self, found: Callable[[VersionAnswer], bool], since: float, within_seconds: float = 300) -> VersionAnswer:
        """Wait for the first such answer to a request that was sent since then.

        Raises:
            TimeoutError: There was none in time.
        """
        deadline = time.monotonic() + within_seconds
        while True:
            for one in self.since(since):
                if found(one):
                    return one
            if time.monotonic() > deadline:
                raise TimeoutError(f"no such answer within {within_seconds:g} s; last: {self.answers[-3:]}")
            time.sleep(0.02)

    async def ask(self, until: threading.Event) -> None:
        """Ask until the event is set, and wait for the last answers."""
        asking: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not until.is_set():
            one = asyncio.create_task(self._request())
            asking.add(one)
            one.add_done_callback(asking.discard)
            due = max(due + 1 / self.a_second, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
        await asyncio.gather(*asking)

    async def _request(self) -> None:
        sent, text = time.monotonic(), None
        try:
            async with asyncio.timeout(2):
                text = await self._answer()
        except (OSError, TimeoutError):
            text = None
        self.answers.append(VersionAnswer(sent, time.monotonic(), text or None))

    async def _answer(self) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            head, _, body = (await reader.read()).decode(errors="replace").partition("\r\n\r\n")
            return body if head.startswith("HTTP/1.0 200") else ""
        finally:
            writer.close()


@contextmanager
def asking(port: int) -> Iterator[Client]:
    """A client that asks meanwhile, from its first right answer on."""
    client, over = Client(port), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(client.ask(over)))
    thread.start()
    try:
        client.until(lambda one: one.is_right, since=0.0)
        yield client
    finally:
        over.set()
        thread.join()


def outages(answers: Sequence[VersionAnswer]) -> list[ServiceOutage]:
    """The times without a right answer; one that lasts to the last answer ends with it."""
    found: list[ServiceOutage] = []
    groups = [(right, list(those)) for right, those in groupby(answers, key=lambda one: one.is_right)]
    for number, (right, those) in enumerate(groups):
        if not right:
            ended = groups[number + 1][1][0].ended if number + 1 < len(groups) else those[-1].ended
            found.append(ServiceOutage(those[0].sent, ended, len(those)))
    return found
