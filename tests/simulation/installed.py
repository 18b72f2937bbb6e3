"""Put the simulated machine at the places where the product meets the real one, for a process of its own.

Nothing undoes it.
What is replaced is listed here and nowhere else. All of it is the edge: clock, threads, the engine's SDK, programs, the
list of processes, locks on files (their files are noted, so that a kill can close them), and what belongs to a process.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as dt
import fcntl
import importlib
import os
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from prefect.runtime import flow_run

from tests.simulation import kernel
from tests.simulation.clock import Clock, VirtualTime, datetime_by

_OURS = ("adapters", "core", "flows", "models", "tasks")
_FLOWS = (
    "flows.agent.agent",
    "flows.deployment.restart",
    "flows.deployment.rollback",
    "flows.deployment.startup",
    "flows.deployment.stop",
    "flows.deployment.update",
    "flows.recovery.answer",
    "flows.recovery.approve",
    "flows.storage.restore",
    "flows.storage.snapshot",
    "tasks.recovery.records",
    "adapters.stores.batch",
    "adapters.stores.audit_check",
    "cryptography.fernet",
)


def import_product() -> None:
    """Import all that a simulation calls, so that forks of this process share it."""
    # Some classes keep the function itself, as the default of a field.
    time.monotonic = _monotonic
    for name in _FLOWS:
        importlib.import_module(name)
    from adapters.pattern_files import shipped_set
    from adapters.stores.repositories.repository import Rows

    shipped_set()
    for module in product_modules():
        for value in vars(module).values():
            if isinstance(value, Rows):
                # Made at the first use else, in each fork again.
                assert value._adapter


def make_template(folder: Path) -> None:
    """Make new stores in a folder, to be copied: to make their tables takes longer than a simulated hour."""
    from adapters.stores import Stores
    from adapters.stores.recovery_writes import read_records
    from models.settings import Settings

    _share_statements()
    stores = Stores.open(Settings(data_dir=folder))
    for database in stores.databases.values():
        with database.read() as connection:
            connection.execute(sa.text("SELECT 1"))
    # So that forks have the patterns made of their rows, and the statements of each look compiled.
    read_records(stores, "shop", dt.datetime.now(dt.UTC), dt.datetime.now(dt.UTC))
    stores.close()


def _share_statements() -> None:
    """Let all processes of a simulation share what SQLAlchemy has compiled: each would compile the same."""
    from adapters.stores.sqlite_file import SqliteFile

    make, first_engines = SqliteFile._engine, {}

    def make_sharing(self: Any, begin: str, **options: Any) -> sa.Engine:
        engine = make(self, begin, **options)
        first = first_engines.setdefault((self.name, begin), engine)
        engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
        return engine

    SqliteFile._engine = make_sharing  # type: ignore[method-assign]


_real_monotonic = time.monotonic
_clocks: list[Clock] = []


def _monotonic() -> float:
    return 1000.0 + _clocks[-1].seconds if _clocks else _real_monotonic()


class _Files:
    """What stands for the module `fcntl`: it notes which files have locks."""

    def flock(self, file: int, operation: int) -> None:
        self._note(file)
        fcntl.flock(file, operation)

    def fcntl(self, file: int, *arguments: Any) -> Any:
        self._note(file)
        return fcntl.fcntl(file, *arguments)

    def _note(self, file: int) -> None:
        process = kernel.current.get()
        if process is not None:
            process.files.add(file)

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)


class _FlowRun:
    """What stands for the module `prefect.runtime.flow_run`: each process of an operation lives one."""

    def get_id(self) -> str:
        process = kernel.current.get()
        return "" if process is None else process.flow_run_id

    def get_run_count(self) -> int:
        process = kernel.current.get()
        return 0 if process is None else process.run_count

    def __getattr__(self, name: str) -> Any:
        return getattr(flow_run, name)


class _System:
    """What stands for the module `os`: closed files have no locks."""

    def close(self, file: int) -> None:
        process = kernel.current.get()
        if process is not None:
            process.files.discard(file)
        os.close(file)

    def getpid(self) -> int:
        process = kernel.current.get()
        return os.getpid() if process is None else process.pid

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def install(clock: Clock, choices: random.Random, replaced: dict[str, Any]) -> None:
    """Replace the edge in all modules of ours. `replaced` has functions by the name that modules import them by."""
    _clocks.append(clock)
    real_lock = type(threading.Lock())
    stand_ins: dict[int, Any] = {
        id(dt.datetime): datetime_by(clock),
        id(time): VirtualTime(clock, kernel.sleep),
        id(threading): kernel.Threading(),
        id(threading.Thread): kernel.Thread,
        id(threading.Event): kernel.Event,
        id(threading.Lock): kernel.Lock,
        id(concurrent.futures.ThreadPoolExecutor): kernel.Pool,
        id(concurrent.futures.wait): kernel.wait_for_all,
        id(fcntl): _Files(),
        id(os): _System(),
        id(flow_run): _FlowRun(),
    }
    for module in product_modules():
        for name, value in list(vars(module).items()):
            if id(value) in stand_ins:
                setattr(module, name, stand_ins[id(value)])
            elif isinstance(value, real_lock):
                setattr(module, name, kernel.Lock())
            elif isinstance(value, concurrent.futures.ThreadPoolExecutor):
                setattr(module, name, kernel.Pool())
            elif isinstance(value, type) and issubclass(value, threading.Thread) and value is not threading.Thread:
                value.start = kernel.begin_thread
                value.join = kernel.Thread.join
                value.is_alive = kernel.Thread.is_alive
    _replace_functions(replaced)
    _seed(choices)
    _note_connections()


def _replace_functions(replaced: dict[str, Any]) -> None:
    names = [name.rpartition(".") for name in replaced]
    reals = [getattr(importlib.import_module(home), function) for home, _, function in names]
    modules = product_modules()
    for (_, _, function), real, stand_in in zip(names, reals, replaced.values(), strict=True):
        for module in modules:
            if vars(module).get(function) is real:
                setattr(module, function, stand_in)


def _seed(choices: random.Random) -> None:
    """Let all that is random come from the seed."""
    random.seed(choices.getrandbits(64))
    made = random.Random(choices.getrandbits(64))
    os.urandom = made.randbytes
    random._urandom = made.randbytes  # type: ignore[attr-defined]
    secrets.token_bytes = made.randbytes  # type: ignore[assignment]
    secrets.token_hex = lambda size=32: made.randbytes(size).hex()


def _note_connections() -> None:
    """Note the connections of each process, and each statement that goes to a store."""
    from adapters.stores.sqlite_file import SqliteFile

    connect = SqliteFile._connect

    def connect_noted(self: Any, *, query_only: bool) -> Any:
        connection = connect(self, query_only=query_only)
        process = kernel.current.get()
        if process is not None:
            process.connections.append(connection)
        return connection

    SqliteFile._connect = connect_noted  # type: ignore[method-assign]

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def _(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().startswith(("SELECT", "PRAGMA")):
            kernel.note_statement()

    @sa.event.listens_for(sa.Engine, "commit")
    def _(_connection: Any) -> None:
        kernel.note_statement()


def own(make: Callable[..., Any]) -> Callable[..., Any]:
    """Keep what a function makes for the process that asks, where the product keeps it for the real one."""

    def made(*arguments: Any) -> Any:
        process = kernel.current.get()
        if process is None:
            raise RuntimeError("only a process of the simulation asks for this")
        key = (make, *arguments)
        if key not in process.own:
            process.own[key] = make(*arguments)
        return process.own[key]

    return made


def product_modules() -> list[ModuleType]:
    """The modules of the product that are imported."""
    return [module for name, module in list(sys.modules.items()) if name.split(".")[0] in _OURS and module is not None]


def new_loop(clock: Clock) -> kernel.Loop:
    """Make the event loop of this simulation."""
    loop = kernel.Loop(clock)
    kernel.use(loop)
    asyncio.set_event_loop(loop)
    return loop
