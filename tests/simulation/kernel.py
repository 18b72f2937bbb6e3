"""Processes and threads of the simulated machine, on one event loop with a virtual clock.

A thread is a greenlet: it runs until it waits for something, so the same seed gives the same order. A process is a mark
in the context of its tasks and threads. One that is killed does nothing more: neither its callbacks nor its `finally`
run, its files are closed and with them its locks go, and its transactions are undone, as the kernel does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import selectors
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import greenlet

from tests.simulation.clock import Clock

_MOST_TURNS = 100_000


class EndOfTime(BaseException):
    """The loop has nothing left to wait for."""


@dataclass(eq=False)
class Process:
    """A process of ours. `pid` is its number; `is_dead` once it was killed or has ended."""

    pid: int
    name: str
    is_dead: bool = False
    files: set[int] = field(default_factory=set)
    """Files with a lock."""
    connections: list[Any] = field(default_factory=list)
    own: dict[Any, Any] = field(default_factory=dict)
    """What a module keeps for its process, by what it is asked with."""
    flow_run_id: str = ""
    run_count: int = 1
    """How often the flow run was begun: more than once where a person retries it."""
    statements_until_kill: int | None = None
    steps_until_kill: int | None = None
    frozen: list[Any] = field(default_factory=list)
    at_end: list[Callable[[], None]] = field(default_factory=list)
    """Called once it has ended, whoever waits for that."""


current: contextvars.ContextVar[Process | None] = contextvars.ContextVar("simulated_process", default=None)


class _NoFiles(selectors.SelectSelector):
    """Instead of waiting for files, time passes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise EndOfTime
        self._turns += 1
        if timeout > 0:
            self._clock.seconds += timeout
            self._turns = 0
        if self._turns > _MOST_TURNS:
            raise RuntimeError(f"something goes on and on at {self._clock.now()}, and no time passes")
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop by the virtual clock, whose executors run on greenlets."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        super().__init__(_NoFiles(clock))
        # A timer that is due counts as due, whatever the last digit of a sum of floats.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self.clock.seconds

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        return super().call_soon(_unless_dead(callback, context), *args, context=context)

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        return super().call_at(when, _unless_dead(callback, context), *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 - whoever awaits it gets it
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(result)

        spawn(work)
        return future

    def set_default_executor(self, executor: Any) -> None:
        """Every executor is the same here."""


def _unless_dead(callback: Any, context: contextvars.Context) -> Any:
    process = context.get(current)
    if process is None:
        return callback

    def call(*args: Any) -> None:
        if process.is_dead:
            process.frozen.append(callback)
            return
        if process.steps_until_kill is not None:
            process.steps_until_kill -= 1
            if process.steps_until_kill < 0:
                kill(process)
                process.frozen.append(callback)
                return
        callback(*args)

    return call


_hub = greenlet.getcurrent()


def loop() -> Loop:
    """The loop of this simulation."""
    return _Loops.running


class _Loops:
    running: Loop


def use(running: Loop) -> None:
    """Make this the loop of the simulation; the greenlet that calls this runs it."""
    global _hub
    _hub, _Loops.running = greenlet.getcurrent(), running


def spawn(work: Callable[[], None]) -> None:
    """Begin a thread of the current process."""
    context = contextvars.copy_context()
    thread = greenlet.greenlet(work, parent=_hub)
    thread.gr_context = context
    loop().call_soon(_switch, thread, context=context)


def _switch(thread: greenlet.greenlet) -> None:
    # A thread sees no running loop.
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        thread.switch()
    finally:
        asyncio._set_running_loop(running)


def is_thread() -> bool:
    """Whether the caller is a thread, and may wait; what runs on the event loop may not."""
    return greenlet.getcurrent() is not _hub


def sleep(seconds: float) -> None:
    """Let a thread wait; on the event loop all stands still for so long."""
    if not is_thread():
        loop().clock.seconds += max(0.0, seconds)
        return
    thread = greenlet.getcurrent()
    loop().call_later(max(0.0, seconds), _switch, thread)
    _hub.switch()


class Signal:
    """What threads wait for. It is woken from anywhere, also by another process or by the world."""

    def __init__(self) -> None:
        self._waiting: list[tuple[greenlet.greenlet, contextvars.Context, list[bool]]] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is woken; False where the time was over before."""
        if not is_thread():
            return False
        thread, answer = greenlet.getcurrent(), [False]
        context = contextvars.copy_context()
        entry = (thread, context, answer)
        self._waiting.append(entry)
        timer = None if timeout is None else loop().call_later(timeout, self._give_up, entry)
        _hub.switch()
        if timer is not None:
            timer.cancel()
        return answer[0]

    def _give_up(self, entry: tuple[greenlet.greenlet, contextvars.Context, list[bool]]) -> None:
        if entry in self._waiting:
            self._waiting.remove(entry)
            _switch(entry[0])

    def wake(self, count: int | None = None) -> None:
        """Wake so many of those that wait, or all."""
        while self._waiting and (count is None or count > 0):
            thread, context, answer = self._waiting.pop(0)
            process = context.get(current)
            if process is not None and process.is_dead:
                process.frozen.append(thread)
                continue
            answer[0] = True
            loop().call_soon(_switch, thread, context=context)
            count = None if count is None else count - 1


class Event:
    """As threading.Event."""

    def __init__(self) -> None:
        self._is_set, self._signal = False, Signal()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._signal.wake()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            self._signal.wait(timeout)
        return self._is_set


class Lock:
    """As threading.Lock; that of a dead process is free, since its memory is gone with it."""

    def __init__(self) -> None:
        self._holder: Any = None
        self._process: Process | None = None
        self._signal = Signal()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        while self.locked():
            if not blocking or not is_thread():
                if blocking:
                    raise RuntimeError("the event loop would wait for a thread for ever")
                return False
            if not self._signal.wait(None if timeout < 0 else timeout) and timeout >= 0:
                return False
        self._holder, self._process = greenlet.getcurrent(), current.get()
        return True

    def locked(self) -> bool:
        return self._holder is not None and not (self._process is not None and self._process.is_dead)

    def release(self) -> None:
        self._holder = self._process = None
        self._signal.wake(1)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Condition:
    """As threading.Condition, with a lock of its own."""

    def __init__(self) -> None:
        self._lock, self._signal = Lock(), Signal()

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        self._lock.release()
        woken = self._signal.wait(timeout)
        self._lock.acquire()
        return woken

    def notify(self, count: int = 1) -> None:
        self._signal.wake(count)

    def notify_all(self) -> None:
        self._signal.wake()


class Thread:
    """As threading.Thread, of the process that starts it."""

    def __init__(
        self, target: Any = None, name: str = "", args: Any = (), kwargs: Any = None, *, daemon: bool = False
    ) -> None:
        self._target, self._arguments, self._named, self.name = target, args, kwargs or {}, name
        self.daemon = daemon
        self._ended = Event()
        self._started = False

    def run(self) -> None:
        """Do what it is for."""
        self._target(*self._arguments, **self._named)

    def start(self) -> None:
        begin_thread(self)

    def is_alive(self) -> bool:
        return self._started and not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(timeout)


def begin_thread(thread: Any) -> None:
    """Begin a thread, also one whose class was derived from the real one."""
    thread.__dict__["_ended"] = ended = Event()
    thread.__dict__["_started"] = True
    context = contextvars.Context()
    process = current.get()
    if process is not None:
        context.run(current.set, process)

    def work() -> None:
        try:
            thread.run()
        finally:
            ended.set()

    context.run(spawn, work)


class Threading:
    """What stands for the module `threading` in our modules."""

    Thread, Event, Lock, RLock, Condition = Thread, Event, Lock, Lock, Condition

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


class Pool:
    """As ThreadPoolExecutor."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """All are the same."""

    def submit(self, call: Callable[..., Any], *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = _Answer()

        def work() -> None:
            try:
                result = call(*args, **named)
            except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        spawn(work)
        return future

    def map(self, call: Callable[..., Any], *items: Any) -> Any:
        return iter([call(*item) for item in zip(*items, strict=False)])

    def shutdown(self, *_: Any, **__: Any) -> None:
        """Nothing to end."""

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class _Answer(Future):  # type: ignore[type-arg]
    """A future whose waiting thread is a greenlet."""

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            event = Event()
            self.add_done_callback(lambda _: event.set())
            if not event.wait(timeout):
                raise TimeoutError
        return super().result(0)


def wait_for_all(futures: Iterable[Future[Any]], timeout: float | None = None) -> None:
    """As concurrent.futures.wait."""
    waited, event = list(futures), Event()
    for future in waited:
        future.add_done_callback(lambda _: event.set() if all(other.done() for other in waited) else None)
    if not all(future.done() for future in waited):
        event.wait(timeout)


def kill(process: Process) -> None:
    """Kill a process as SIGKILL does: it does nothing more, and the kernel closes its files."""
    if process.is_dead:
        return
    process.is_dead = True
    for connection in process.connections:
        with contextlib.suppress(Exception):
            connection.close()
    for file in process.files:
        with contextlib.suppress(OSError):
            os.close(file)
    process.files.clear()
    for call in process.at_end:
        loop().call_soon(call, context=contextvars.Context())


def end(process: Process) -> None:
    """Let a process that has done its work end."""
    kill(process)


def note_statement() -> None:
    """A statement goes to a store: here a process may be killed."""
    process = current.get()
    if process is None or process.statements_until_kill is None or not is_thread():
        return
    process.statements_until_kill -= 1
    if process.statements_until_kill < 0:
        kill(process)
        park()


def park() -> None:
    """Never go on."""
    process = current.get()
    if process is not None:
        process.frozen.append(greenlet.getcurrent())
    _hub.switch()
    raise AssertionError("a dead process went on")


def run_in(process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Begin a task of a process."""
    context = contextvars.copy_context()
    context.run(current.set, process)
    return loop().create_task(work, context=context)
