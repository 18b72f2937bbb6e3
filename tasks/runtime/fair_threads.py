"""Threads for blocking calls, shared fairly: calls of one environment that hang take no thread from another.

A call cannot be interrupted in its thread. So each environment may keep a few threads busy, and further calls of it
wait for one of these to end.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Result = TypeVar("Result")
_Call = Callable[[], Any]

_of: ContextVar[str] = ContextVar("environment", default="")


@contextmanager
def count_for_environment(name: str) -> Iterator[None]:
    """Count the calls of the body, and of the tasks that it begins, as those of an environment."""
    token = _of.set(name)
    try:
        yield
    finally:
        _of.reset(token)


def current_environment() -> str:
    """The environment of the code that runs; empty where it concerns none."""
    return _of.get()


class FairThreads(ThreadPoolExecutor):
    """An executor that runs at most `each` calls of one environment at once, and `at_most` of all."""

    def __init__(self, *, each: int, at_most: int) -> None:
        super().__init__(at_most, thread_name_prefix="client")
        self._each = each
        self._guard = threading.Lock()
        self._running: defaultdict[str, int] = defaultdict(int)
        self._waiting: defaultdict[str, deque[tuple[Future[Any], _Call]]] = defaultdict(deque)

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Run a call now, or when one of the same environment has ended."""
        name, future = _of.get(), Future[Result]()
        with self._guard:
            if self._running[name] >= self._each:
                self._waiting[name].append((future, lambda: fn(*args, **kwargs)))
                return future
            self._running[name] += 1
        try:
            super().submit(self._run, name, future, lambda: fn(*args, **kwargs))
        except BaseException:
            with self._guard:
                self._running[name] -= 1
            raise
        return future

    def count_waiting(self, name: str) -> int:
        """How many calls of an environment wait for a thread."""
        with self._guard:
            return len(self._waiting[name])

    def _run(self, name: str, future: Future[Any], call: _Call) -> None:
        """Run a call, and those of the same environment that wait meanwhile."""
        following: tuple[Future[Any], _Call] | None = (future, call)
        while following is not None:
            _settle(*following)
            with self._guard:
                following = self._waiting[name].popleft() if self._waiting[name] else None
                if following is None:
                    self._running[name] -= 1


def _settle(future: Future[Any], call: _Call) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        future.set_exception(error)
    else:
        future.set_result(result)
