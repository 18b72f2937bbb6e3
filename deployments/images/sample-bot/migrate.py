"""The job that must succeed before the bot starts: brings the data in Redis to the newest version."""

from __future__ import annotations

import os
import sys
import time

import redis

VERSION = 3


def main() -> None:
    """Exit 0 when the data is at the newest version, else 1 with the reason."""
    mode = os.environ.get("FAIL_MIGRATE", "").strip()
    if mode == "exit":
        sys.exit("migrate: ERROR: migration 003_add_guild_settings failed: asked to fail: exit")
    if mode == "hang":
        time.sleep(600)
    store = redis.Redis(
        host=os.environ.get("REDIS_HOST", "redis"),
        password=os.environ["SAMPLE_REDIS_PASSWORD"],
        socket_timeout=5,
        decode_responses=True,
    )
    try:
        applied = int(store.get("schema:version") or 0)
        for version in range(applied + 1, VERSION + 1):
            store.set("schema:version", version)
            print(f"migrate: version {version} is applied", flush=True)
    except redis.RedisError as error:
        sys.exit(f"migrate: ERROR: {type(error).__name__}: {error}")
    print(f"migrate: the data is at version {VERSION}", flush=True)


if __name__ == "__main__":
    main()
