"""A registry of artifacts, over the distribution API: manifests and blobs of one repository, within limits of size."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from hashlib import sha256
from http import HTTPStatus
from typing import Any

import httpx

from adapters.docker.registry_login import registry_login
from adapters.http_client import ask_and_wait, reason_of
from models.environments import is_local_engine
from models.failures import EngineError, SourceError, SourceUnreachableError
from models.image_names import DEFAULT_REGISTRY

_ACCEPTED = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*"
_MOST_MANIFEST_BYTES = 4 * 2**20
_SECONDS, _MOST_SECONDS = 60.0, 600.0
_LEAST_BYTES = 2**16
"""So many any answer may have: that of a redirect or a refusal is often larger than a blob."""
_TOKEN = re.compile(r'"(?:access_)?token"\s*:\s*"([A-Za-z0-9._~+/=-]+)"')
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Registry:
    """The repository of one artifact, for ten minutes. The login stands in headers alone. Every call blocks.

    Every call raises a SourceUnreachableError where the registry does not answer, and a SourceError where it refuses.
    """

    def __init__(self, host: str, name: str) -> None:
        self._host, self._name, self._is_local = host, name, is_local_engine(f"https://{host}")
        address = f"registry-1.{host}" if host == DEFAULT_REGISTRY else host
        # As Docker does, without TLS on loopback alone.
        self._base = f"{'http' if self._is_local else 'https'}://{address}/v2/{name}"
        self._login: dict[str, str] = {}
        self._ends_at = time.monotonic() + _MOST_SECONDS
        # Made once: it reads the authorities. No proxy leads to this machine.
        self._client: dict[str, Any] = {"verify": httpx.create_ssl_context(), "trust_env": not self._is_local}

    def manifest(self, reference: str) -> bytes | None:
        """The manifest that a tag or sha256:DIGEST names; None where there is none."""
        return self._read(f"manifests/{reference}", _MOST_MANIFEST_BYTES)

    def blob(self, digest: str, most_bytes: int) -> bytes:
        """The blob with a digest, without sha256:, of at most so many bytes.

        Raises:
            SourceError: It is not there, or another one.
        """
        content = self._read(f"blobs/sha256:{digest}", most_bytes)
        if content is None or sha256(content).hexdigest() != digest:
            what = "is not there" if content is None else "has other content than its digest says"
            raise SourceError(
                f"Blob {digest[:12]} of {self._host}/{self._name} {what};", advice="push the artifact again."
            )
        return content

    def _read(self, path: str, most_bytes: int) -> bytes | None:
        address = f"{self._base}/{path}"
        answer = self._ask(address, most_bytes, headers=self._login)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            self._login = self._log_in(answer.headers.get("www-authenticate", ""))
            answer = self._ask(address, most_bytes, headers=self._login)
        if path.startswith("blobs/") and answer.has_redirect_location:
            # Another server may give out blobs, whose digest is known; it gets no login.
            answer = self._ask(address, most_bytes, location=answer.headers["location"])
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        self._check(answer)
        return answer.content

    def _log_in(self, challenge: str) -> dict[str, str]:
        """The header that answers a challenge, none where nothing does."""
        try:
            login = registry_login(self._host)
        except EngineError as error:
            raise SourceError(error.what, advice=error.advice) from error
        basic = {"authorization": f"Basic {b64encode(':'.join(login).encode()).decode()}"} if login else {}
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic":
            return basic
        fields = dict(_PARAMETER.findall(challenge))
        realm = fields.get("realm", "")
        if scheme != "bearer" or not (realm.startswith("https://") or (self._is_local and is_local_engine(realm))):
            raise SourceError(
                f"The registry {self._host} asks for a login that is not supported;",
                advice="it has to ask for a password, or for a token from an https address.",
            )
        asked = {"service": fields.get("service", ""), "scope": f"repository:{self._name}:pull"}
        if login and not login[0]:
            asked |= {"grant_type": "refresh_token", "refresh_token": login[1], "client_id": "roas"}
            answer = self._ask(realm, 0, "POST", data=asked)
        else:
            answer = self._ask(realm, 0, headers=basic, params=asked)
        self._check(answer)
        if (found := _TOKEN.search(answer.text)) is None:
            raise SourceError(f"The registry {self._host} gave no token;", advice="is it a registry?")
        return {"authorization": f"Bearer {found[1]}"}

    def _ask(
        self, address: str, most_bytes: int, method: str = "GET", location: str = "", **request: Any
    ) -> httpx.Response:
        seconds = min(_SECONDS, self._ends_at - time.monotonic())
        limits = {"most_bytes": max(most_bytes, _LEAST_BYTES), "seconds": seconds, "whole": True, "timeout": _SECONDS}
        headers = {"accept": _ACCEPTED} | request.pop("headers", {})
        try:
            address = str(httpx.URL(address).join(location)) if location else address
            return ask_and_wait(method, address, client=self._client, headers=headers, **limits, **request)
        except httpx.DecodingError as error:
            raise SourceError(
                f"The registry {self._host} sends a part of {self._name} that is larger than its manifest says;",
                advice="push the artifact again.",
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise SourceUnreachableError(
                f"The registry {self._host} did not answer: {reason_of(error) or 'it took too long'};",
                advice="does it run, and does this machine reach and trust it (docs/how-to/trust-a-private-ca.md)?",
            ) from error

    def _check(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise SourceError(
                f"The registry {self._host} does not let us read {self._name};",
                advice=f"`docker login {self._host}` as the user that runs roas, with an account that may.",
            )
        if status != HTTPStatus.OK:
            may_pass = status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            failure, advice = (
                (SourceUnreachableError, "later") if may_pass else (SourceError, "with another source.oci")
            )
            raise failure(f"The registry {self._host} answered with {status};", advice=f"try again {advice}.")
