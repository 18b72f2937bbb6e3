"""Probe of Redis and Valkey: log in, ask for the state, write a key and read it back."""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from adapters.probes.addresses import Address
from adapters.probes.outcome import Outcome, ProbeFailed, brief, password_of
from models.analysis import Level
from models.environments import RedisProbe
from models.health import Reading


async def ask_redis(probe: RedisProbe, place: Address, secrets: Mapping[str, str]) -> Outcome:
    """Check that the server reads, writes and saves."""
    password = password_of(probe.password_secret, secrets)
    client = redis.asyncio.Redis(
        host=place.host,
        port=place.port,
        password=password,
        socket_timeout=probe.timeout_seconds,
        socket_connect_timeout=probe.timeout_seconds,
        # By default the client retries for longer than a probe may take, even with a wrong password.
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        async with client:
            return await _check_redis(client)
    except AuthenticationError as error:
        reason = "the password was refused" if password else "it asks for a password and none was given"
        raise ProbeFailed(f"{reason}: {brief(str(error))}") from error
    except redis.exceptions.TimeoutError as error:
        raise TimeoutError from error
    except RedisError as error:
        raise ProbeFailed(_explain_refusal(error)) from error


async def _check_redis(client: redis.asyncio.Redis) -> Outcome:
    # PING alone proves little: a server that is loading, read-only or out of memory may answer it.
    reported = await client.info()
    if int(reported.get("loading", 0)):
        raise ProbeFailed(f"it is loading its data set ({reported.get('loading_loaded_perc', '?')} %)")
    if reported.get("role") != "master":
        raise ProbeFailed(f"it is a {reported.get('role', 'replica')}, which takes no writes")
    key, value = f"roas:probe:{random.token_hex(8)}", random.token_hex(8)
    await client.set(key, value, ex=10)
    if await client.get(key) != value:
        raise ProbeFailed("a written value could not be read back")
    await client.delete(key)
    notes = [f"redis {reported.get('redis_version', '?')} reads and writes"]
    if int(reported.get("maxmemory", 0)):
        notes.append(f"memory {100 * reported['used_memory'] / reported['maxmemory']:.0f} % of its limit")
    failed = [words for name, words in _PERSISTENCE.items() if reported.get(name, "ok") != "ok"]
    saved = Reading(
        metric="persistence_failures",
        value=float(len(failed)),
        words=f"{' and '.join(failed)}: what it holds is lost with its process" if failed else "what it saves is saved",
        concern=Level.WARNING if failed else Level.NONE,
        threshold=0.0 if failed else None,
    )
    return ", ".join([*notes, *(f"but {words}" for words in failed)]), (saved,)


_PERSISTENCE = {
    "rdb_last_bgsave_status": "its last snapshot failed (rdb_last_bgsave_status:err)",
    "aof_last_write_status": "its last write to the append-only file failed (aof_last_write_status:err)",
    "aof_last_bgrewrite_status": "its last rewrite of the append-only file failed (aof_last_bgrewrite_status:err)",
}


def _explain_refusal(error: RedisError) -> str:
    """Explain a refusal. The client turns some of Redis's codes into classes and drops them from the text."""
    text = f"{type(error).__name__} {error}"
    hints = (
        ("protected mode", "it refuses other containers until it has a password or --protected-mode no"),
        ("NOAUTH", "it asks for a password and none was given"),
        ("BusyLoadingError", "it is loading its data set"),
        ("MISCONF", "it refuses writes because it cannot save to disk"),
        ("ReadOnlyError", "it is a read-only replica"),
        ("OutOfMemoryError", "it refuses writes because its memory limit is reached"),
        ("NoPermissionError", "its user may not do what the probe does"),
    )
    meaning = next((words for sign, words in hints if sign in text), None)
    return f"{meaning}: {brief(str(error))}" if meaning else brief(str(error))
