"""Signatures of pushes as GitHub, Gitea and GitLab send them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

_SHORTEST_SECRET = 16


def is_signed(headers: Mapping[str, str], body: Iterable[bytes], secret: str) -> bool:
    """Whether a push was sent by a server that has the secret; a secret of less than 16 characters counts as none.

    GitHub and Gitea sign the body, GitLab sends the secret itself. The body is read to its end in any case.
    """
    key, fields = secret.encode(), {name.lower(): value for name, value in headers.items()}
    made = hmac.new(key, digestmod=hashlib.sha256)
    for chunk in body:
        made.update(chunk)
    expected = made.hexdigest()
    github = fields.get("x-hub-signature-256", "")
    matches = [
        hmac.compare_digest(github.encode(), f"sha256={expected}".encode()),
        hmac.compare_digest(fields.get("x-gitea-signature", "").encode(), expected.encode()),
        hmac.compare_digest(fields.get("x-gitlab-token", "").encode(), key),
    ]
    return any(matches) and len(secret) >= _SHORTEST_SECRET


def is_ping(headers: Mapping[str, str]) -> bool:
    """Whether the server only tries the address; only GitHub does so with an event of its own."""
    return any(name.lower() == "x-github-event" and value == "ping" for name, value in headers.items())
