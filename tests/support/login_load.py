"""Ask a server for an answer again and again, with the password of a file; every fifth question logs in anew.

Each line that this program prints is one query: when it began, which password it had, whether its connection was open
before, and how it ended. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

PER_SECOND = 50
_CONNECTIONS = 8
_LOGS_IN_EVERY = 5
_WITHIN_SECONDS = 2

ANSWERED, REFUSED, AWAY = "answered", "refused", "away"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query; `at` in seconds since 1970."""

    at: float
    password: str
    kept: bool
    ended: str


@dataclass(slots=True)
class Load:
    """The queries so far."""

    queries: list[Query] = field(default_factory=list)

    def answered(self, password: str) -> int:
        """How many were answered with a password on a connection of their own."""
        return sum(one.ended == ANSWERED and one.password == password and not one.kept for one in self.queries)

    def longest(self, *, kept: bool) -> float:
        """The seconds of the longest time between two answers."""
        at = sorted(one.at for one in self.queries if one.ended == ANSWERED and one.kept is kept)
        return max(after - before for before, after in pairwise(at))


@contextmanager
def load(kind: str, port: int, file: Path) -> Iterator[Load]:
    """Fifty queries a second, until the end of the block."""
    words = [sys.executable, "-m", "tests.support.login_load", kind, str(port), str(file)]
    seen = Load()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def read() -> None:
            for line in process.stdout or ():
                seen.queries.append(Query(**json.loads(line)))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield seen
        finally:
            assert process.stdin is not None
            process.stdin.close()
            reader.join()


def main() -> None:
    """Ask until standard input ends."""
    kind, port, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    ended = threading.Event()
    for number in range(_CONNECTIONS):
        threading.Thread(target=_ask, args=(SERVERS[kind], port, file, number, ended)).start()
    sys.stdin.read()
    ended.set()


def _ask(connect: Callable[[int, str], Any], port: int, file: Path, number: int, ended: threading.Event) -> None:
    every = _CONNECTIONS / PER_SECOND
    due, turn, open_one = time.monotonic() + every * number / _CONNECTIONS, 0, None
    while not ended.wait(max(0.0, due - time.monotonic())):
        due, turn = due + every, turn + 1
        password = file.read_text().strip().partition("=")[2]
        at, kept, how = time.time(), turn % _LOGS_IN_EVERY > 0, ANSWERED
        try:
            if kept and open_one is not None:
                open_one.ask()
            elif kept:
                (open_one := connect(port, password)).ask()
            else:
                with closing(connect(port, password)) as one:
                    one.ask()
        except Exception as error:  # noqa: BLE001 - of three programs
            how = REFUSED if any(word in str(error) for word in _REFUSALS) else AWAY
            if kept and open_one is not None:
                with suppress(Exception):
                    open_one.close()
                open_one = None
        line = json.dumps({"at": at, "password": password, "kept": kept, "ended": how})
        # One call a line: threads share the output.
        os.write(sys.stdout.fileno(), f"{line}\n".encode())


_REFUSALS = ("password authentication failed", "Access denied", "invalid username-password", "WRONGPASS")


class _Sql:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def ask(self) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()

    def close(self) -> None:
        self._connection.close()


class _Redis:
    def __init__(self, port: int, password: str) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # By itself it connects again, with the password that it was given.
        self._client = redis.Redis(
            host="127.0.0.1", port=port, password=password, socket_timeout=_WITHIN_SECONDS,
            single_connection_client=True, retry=Retry(NoBackoff(), 0),
        )  # fmt: skip

    def ask(self) -> None:
        self._client.ping()

    def close(self) -> None:
        self._client.close()


def _postgresql(port: int, password: str) -> _Sql:
    import psycopg

    words: dict[str, Any] = {"host": "127.0.0.1", "user": "shop", "dbname": "shop", "connect_timeout": _WITHIN_SECONDS}
    return _Sql(psycopg.connect(port=port, password=password, autocommit=True, **words))


def _mariadb(port: int, password: str) -> _Sql:
    import pymysql

    limits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), _WITHIN_SECONDS)
    words: dict[str, Any] = {"host": "127.0.0.1", "user": "shop", "database": "shop"}
    return _Sql(pymysql.connect(port=port, password=password, **words, **limits))


SERVERS: dict[str, Callable[[int, str], Any]] = {"postgresql": _postgresql, "mariadb": _mariadb, "redis": _Redis}


if __name__ == "__main__":
    main()
