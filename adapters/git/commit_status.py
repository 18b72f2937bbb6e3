"""Commit statuses: the result of a sync beside the commit, at GitHub, GitLab or Gitea."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from adapters.http_client import ask
from adapters.notifications.webhook import failure_of, refusal_in
from core.deployment.source import status_description
from models.sources import CommitStatus, GitSource, is_ssh

_SECONDS = 10.0
_DELAYS = (1.0, 4.0)
_LONGEST_DELAY = 30.0
_GITLAB_STATES = {"pending": "pending", "success": "success", "failure": "failed"}


class CommitStatusClient:
    """Reports to one repository's server. The token stands in a header alone."""

    def __init__(self, source: GitSource, token: str) -> None:
        self._source, self._token = source, token

    async def report(self, status: CommitStatus, context: str) -> str | None:
        """Report a status under a context; returns why the server did not take it, None where it did.

        A server that is away, busy or broken is asked three times.
        """
        address, headers, content = self._request(status, context)
        async with httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False) as client:
            for delay in (*_DELAYS, None):
                try:
                    failure = refusal_in(await ask(client, "POST", address, json=content, headers=headers))
                except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
                    failure = failure_of(error)
                if failure is None or delay is None or not (failure.again or failure.text.endswith("in time")):
                    break
                await asyncio.sleep(min(max(delay, failure.after_seconds), _LONGEST_DELAY))
        return None if failure is None else failure.text

    def _request(self, status: CommitStatus, context: str) -> tuple[str, dict[str, str], dict[str, Any]]:
        source = self._source
        host, path = place_of(source.repository)
        project, described = source.status_project or path, status_description(status.description)
        links = {"target_url": status.link} if status.link else {}
        if source.status == "gitlab":
            base = source.api or f"https://{host}/api/v4"
            return (
                f"{base}/projects/{quote(project, safe='')}/statuses/{status.revision}",
                {"PRIVATE-TOKEN": self._token},
                {"state": _GITLAB_STATES[status.state], "name": context, "description": described} | links,
            )
        content = {"state": status.state, "context": context, "description": described} | links
        if source.status == "gitea":
            base = source.api or f"https://{host}/api/v1"
            headers = {"Authorization": f"token {self._token}", "Accept": "application/json"}
        else:
            base = source.api or ("https://api.github.com" if host == "github.com" else f"https://{host}/api/v3")
            headers = {
                "Authorization": f"Bearer {self._token}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
            }
        return f"{base}/repos/{quote(project)}/statuses/{status.revision}", headers, content


def place_of(repository: str) -> tuple[str, str]:
    """Return the host of a repository's address and the path of the project there, without .git."""
    if is_ssh(repository) and not repository.startswith("ssh://"):
        host, _, path = repository.rpartition("@")[2].partition(":")
    else:
        parts = urlsplit(repository)
        host, path = parts.hostname or "", parts.path
        if repository.startswith("https://") and parts.port is not None:
            host = f"{host}:{parts.port}"
    return host, re.sub(r"\.git/?$", "", path).strip("/")
