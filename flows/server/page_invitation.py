"""Ask the server for an address of the page that signs in once."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException

from flows.server.embedded import ssl_context
from models.failures import RoasError

_ANSWERS_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An address that signs in once, within so many seconds."""

    url: str
    valid_seconds: int


def invite(name: str, place: str, public_url: str | None) -> Invitation:
    """Ask the server of PREFECT_API_URL to let `name` in, and to show `place` of the page.

    `public_url` is where browsers reach it; without it they do where we do.

    Raises:
        RoasError: It does not answer, has no page, or does not take the password.
    """
    own_url = os.environ["PREFECT_API_URL"].rstrip("/").removesuffix("/api")
    body = urllib.parse.urlencode({"name": name}).encode()
    request = urllib.request.Request(f"{own_url}/roas/invitations", body)  # noqa: S310 - http, as checked before
    password = os.environ.get("PREFECT_API_AUTH_STRING", "")
    request.add_header("Authorization", "Basic " + base64.b64encode(password.encode()).decode())
    context = ssl_context(own_url)
    try:
        with urllib.request.urlopen(request, timeout=_ANSWERS_SECONDS, context=context) as answer:  # noqa: S310 - as above
            document = json.load(answer)
            path, seconds = str(document["path"]), int(document["valid_seconds"])
    except urllib.error.HTTPError as refused:
        with refused:
            raise _refusal(own_url, refused.code) from refused
    except (HTTPException, OSError, ValueError, KeyError, TypeError) as error:
        raise RoasError(
            f"The server at {own_url} gave no address to sign in at: {error or type(error).__name__};",
            advice="does it still run, and is it of this version?",
        ) from error
    url = f"{(public_url or own_url).rstrip('/')}{path}?{urllib.parse.urlencode({'next': place})}"
    return Invitation(url=url, valid_seconds=seconds)


def _refusal(url: str, status: int) -> RoasError:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        advice = "only the password of the server itself opens its page; a host's credential does not."
        return RoasError(f"The server at {url} does not let this user in;", advice=advice)
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return RoasError(f"The server at {url} has no page;", advice="renew its program, and start it again.")
    return RoasError(f"The server at {url} answered with status {status};", advice="its log says why.")
