"""Whether a Prefect server answers, and which of its workers are online; asked over its HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from adapters.http_client import ask_and_wait, reason_of
from models.doctor import ServerFacts

_SECONDS = 5.0
_MOST_BYTES = 4 * 1024 * 1024
"""The server gives 200 work pools or workers at most."""
_ONLINE = "ONLINE"


def server_facts(url: str, auth_string: str | None, *, with_workers: bool = True) -> ServerFacts:
    """Ask the API at `url`, such as http://127.0.0.1:4200/api; `auth_string` is USER:PASSWORD."""
    api, shown = url.rstrip("/"), _without_password(url)
    user, _, password = (auth_string or "").partition(":")
    auth = httpx.BasicAuth(user, password) if auth_string else None
    try:
        client = {"timeout": _SECONDS, "auth": auth, "trust_env": False}
        ask_and_wait("GET", f"{api}/health", client=client, seconds=_SECONDS).raise_for_status()
        workers = _workers(client, api) if with_workers else None
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return ServerFacts(url=shown, wants_password=True)
        return ServerFacts(url=shown, problem=f"status {error.response.status_code}")
    except TimeoutError:
        return ServerFacts(url=shown, problem=f"no answer within {_SECONDS:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        return ServerFacts(url=shown, problem=reason_of(error) or type(error).__name__)
    return ServerFacts(url=shown, workers=workers)


def _workers(client: Mapping[str, Any], api: str) -> dict[str, int]:
    """The number of workers online, by work pool."""
    return {
        pool["name"]: sum(
            worker.get("status") == _ONLINE
            for worker in _post(client, f"{api}/work_pools/{pool['name']}/workers/filter")
        )
        for pool in _post(client, f"{api}/work_pools/filter")
    }


def _post(client: Mapping[str, Any], address: str) -> Any:
    limits: dict[str, Any] = {"seconds": _SECONDS, "most_bytes": _MOST_BYTES, "whole": True}
    return ask_and_wait("POST", address, client=client, json={}, **limits).raise_for_status().json()


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
