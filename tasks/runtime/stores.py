"""The stores and the cache of this process, opened once and shared by its tasks."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from adapters.stores import Stores
from models.settings import Settings, current_settings

if TYPE_CHECKING:
    from adapters.redis_cache import RedisCache

_opening = Lock()
"""Threads that need the stores first, at the same time, open them once."""


def open_stores() -> Stores:
    """The three stores of this process, made and upgraded at the first use.

    Raises:
        StoreError: A store cannot be opened.
    """
    settings = current_settings()
    with _opening:
        return stores_at(settings.data_dir.absolute(), settings.stores_url)


def stores_exist() -> bool:
    """Whether anything can have been recorded yet: a command that only reads makes no stores."""
    settings = current_settings()
    return settings.stores_url is not None or settings.store_path("deployment_logs").exists()


def shared_cache() -> RedisCache | None:
    """The Redis that settings name; None where nothing is published."""
    return _cache(current_settings().redis_url)


@lru_cache(maxsize=8)
def stores_at(data_dir: Path, stores_url: str | None) -> Stores:
    """The stores of a data folder, opened once a process.

    Raises:
        StoreError: A store cannot be opened.
    """
    return Stores.open(Settings(data_dir=data_dir, stores_url=stores_url))


@lru_cache(maxsize=2)
def _cache(redis_url: str | None) -> RedisCache | None:
    if not redis_url:
        return None
    # Its client takes long to import, and 7 MiB of memory.
    from adapters.redis_cache import RedisCache

    return RedisCache(redis_url, current_settings().redis_password_file)
