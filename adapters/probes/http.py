"""Probes over HTTP and HTTPS: a page, and Prometheus with its targets."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import httpx

from adapters.http_client import ask
from adapters.probes.addresses import Address
from adapters.probes.outcome import Outcome, ProbeFailed, brief, password_of
from models.environments import HttpProbe, PrometheusProbe

_BODY_BYTES = 64 * 1024
_MOST_OF_TARGETS = 32 * 1024 * 1024


async def ask_http(probe: HttpProbe, place: Address, secrets: Mapping[str, str]) -> Outcome:
    """Ask the URL; judge status, text and headers of the answer."""
    password = password_of(probe.password_secret, secrets)
    status, body, headers = await _request(probe, place, password)
    expected_status = "2xx" if probe.status is None else str(probe.status)
    fits = 200 <= status < 300 if probe.status is None else status == probe.status
    if not fits:
        raise ProbeFailed(
            f"{probe.path} answered {status}, not {expected_status}: {_refusal(probe, status)}{brief(body)}"
        )
    if probe.contains is not None and probe.contains not in body:
        raise ProbeFailed(f"{probe.path} answered {status} without {probe.contains!r}: {brief(body)}")
    for name, words in probe.expected_headers.items():
        if (value := headers.get(name)) is None:
            raise ProbeFailed(f"{probe.path} answered {status} without a header {name}")
        if words not in value:
            raise ProbeFailed(f"{probe.path} answered {status} with {name}: {brief(value)}, not {words!r}")
    return f"{probe.path} answered {status}", ()


async def status_of(place: Address, path: str, timeout_seconds: float) -> int:
    """The status of whatever answers there.

    Raises:
        ProbeFailed: Nothing did.
        TimeoutError: Nothing did in time.
    """
    return (await _get(f"http://{place}{path}", timeout_seconds))[0]


def _refusal(probe: HttpProbe, status: int) -> str:
    if status not in (401, 403) or probe.status is not None:
        return ""
    if probe.password_secret is None:
        return "it asks for a login; set user and password_secret, or `status` if this answer is right: "
    return f"its login was refused; compare secret {probe.password_secret} with what the server knows: "


async def _request(probe: HttpProbe, place: Address, password: str | None) -> tuple[int, str, httpx.Headers]:
    headers = httpx.Headers(probe.headers)
    extensions = {}
    if probe.tls.server_name is not None:
        extensions["sni_hostname"] = probe.tls.server_name
        headers.setdefault("Host", probe.tls.server_name)
    auth = None
    if password is not None and probe.user is not None:
        auth = httpx.BasicAuth(probe.user, password)
    elif password is not None:
        # The library would name the value in its error.
        if not (password.isascii() and password.isprintable()):
            raise ProbeFailed(f"secret {probe.password_secret} cannot be sent: it is not one line of plain text")
        headers["Authorization"] = f"Bearer {password}"
    url = f"{probe.scheme}://{place}{probe.path}"
    request = httpx.Request(probe.method, url, headers=headers, extensions=extensions)
    return await _answer(request, probe.timeout_seconds, auth=auth, verify=_trust(probe))


def _trust(probe: HttpProbe) -> ssl.SSLContext | bool:
    if probe.scheme == "http":
        return False
    context = ssl.create_default_context()
    if not probe.tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _get(url: str, timeout_seconds: float) -> tuple[int, str]:
    status, body, _ = await _answer(httpx.Request("GET", url), timeout_seconds)
    return status, body


async def _answer(
    request: httpx.Request,
    timeout_seconds: float,
    *,
    auth: httpx.BasicAuth | None = None,
    verify: ssl.SSLContext | bool = False,
) -> tuple[int, str, httpx.Headers]:
    request.extensions["timeout"] = httpx.Timeout(timeout_seconds).as_dict()
    # Proxies of the process's environment are not for containers of this host.
    async with httpx.AsyncClient(trust_env=False, verify=verify) as client:
        try:
            answer = await client.send(request, stream=True, auth=auth)
            try:
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) >= _BODY_BYTES:
                        break
            finally:
                await answer.aclose()
            return answer.status_code, body.decode("utf-8", errors="replace"), answer.headers
        except httpx.TimeoutException as error:
            raise TimeoutError from error
        except httpx.HTTPError as error:
            raise ProbeFailed(f"{request.method} {request.url} failed: {_reason(error)}") from error


def _reason(error: httpx.HTTPError) -> str:
    message = str(error) or "the connection was closed without an answer"
    if "CERTIFICATE_VERIFY_FAILED" in message:
        advice = "set tls.server_name to a name in its certificate, or tls.verify: false with a reason"
        return f"its certificate is not accepted: {message}; {advice}"
    if "SSL:" in message:
        return f"no TLS connection: {message}; if the port speaks plain HTTP, set scheme: http"
    return message


async def ask_prometheus(probe: PrometheusProbe, place: Address) -> Outcome:
    """Ask whether Prometheus is ready, and how many of its targets are up."""
    status, body = await _get(f"http://{place}/-/ready", probe.timeout_seconds)
    if status != 200:
        raise ProbeFailed(f"/-/ready answered {status}: {brief(body)}")
    if probe.targets_up == 0:
        return "ready", ()
    # For plain HTTP the machine's authorities, which take milliseconds to read, are of no use.
    verify = False
    async with httpx.AsyncClient(trust_env=False, verify=verify, timeout=probe.timeout_seconds) as client:
        try:
            address = f"http://{place}/api/v1/targets"
            answer = await ask(
                client,
                "GET",
                address,
                most_bytes=_MOST_OF_TARGETS,
                seconds=probe.timeout_seconds,
                whole=True,
                params={"state": "active"},
            )
            targets = answer.raise_for_status().json()["data"]["activeTargets"]
        except httpx.TimeoutException as error:
            raise TimeoutError from error
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ProbeFailed(f"ready, but its targets cannot be read: {error}") from error
    up = sum(target.get("health") == "up" for target in targets)
    if up < probe.targets_up:
        down = [
            f"{target.get('labels', {}).get('job', '?')} ({target.get('lastError') or target.get('health')})"
            for target in targets
            if target.get("health") != "up"
        ]
        raise ProbeFailed(
            f"{up} of at least {probe.targets_up} targets are up; not up: {', '.join(down) or 'none known'}"
        )
    return f"ready, {up} targets up", ()
