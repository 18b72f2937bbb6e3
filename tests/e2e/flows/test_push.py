"""Pushes of git servers over the real receiver: only what is signed asks for a sync, and nothing else counts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prefect import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

from adapters.notifications.answer_server import AnswerServer, RateLimit
from flows.deployment.sync import sync
from flows.recovery.answer import AnswerDesk
from flows.source.push import PushDesk
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures

SECRET = "a-secret-of-pushes-1234"
BODY = json.dumps({"ref": "refs/heads/main", "repository": {"clone_url": "https://evil.example/x.git"}}).encode()

pytestmark = pytest.mark.flow


def signed(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


GITHUB = {"X-Hub-Signature-256": f"sha256={signed(BODY)}", "X-GitHub-Event": "push"}


@pytest.fixture
async def server(place: Place, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:  # noqa: F811
    monkeypatch.setenv("PUSH_SECRET", SECRET)
    declare(place.folder, place.project)

    loop = asyncio.get_running_loop()
    with AnswerServer(("127.0.0.1", 0), AnswerDesk(loop), RateLimit(6), PushDesk(loop)) as made:
        threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{made.server_port}/push"
        finally:
            await asyncio.to_thread(made.shutdown)


def declare(folder: Path, name: str) -> None:
    """An environment with a name of its own: the Prefect server is shared."""
    declared = {
        "name": name,
        "project": name,
        "source": {"repository": "https://git.example/ann/shop.git", "webhook_secret": "PUSH_SECRET"},
        "compose_files": ["compose.yaml"],
        "secrets": [{"name": "PUSH_SECRET"}],
    }
    (folder / f"{name}.yaml").write_text(json.dumps(declared))


async def push(address: str, headers: dict[str, str], body: bytes = BODY) -> int:
    async with httpx.AsyncClient(timeout=300) as client:
        return (await client.post(address, content=body, headers=headers)).status_code


async def runs(name: str) -> list[str]:
    async with get_client() as client:
        found = await client.read_flow_runs(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])))
    return [json.dumps(one.parameters, sort_keys=True) for one in found]


async def test_a_signed_push_asks_for_one_sync_and_its_body_for_nothing(place: Place, server: str) -> None:  # noqa: F811
    name = place.project
    assert await push(f"{server}/{name}", GITHUB) == 503
    deployment = await sync.ato_deployment(name=name, parameters={"environment": name})
    await deployment.aapply()

    answers = [
        await push(f"{server}/{name}", GITHUB),
        await push(f"{server}/{name}", {"X-Gitea-Signature": signed(BODY)}),
        await push(f"{server}/{name}", {"X-Gitlab-Token": SECRET}),
    ]

    assert answers == [202, 202, 202]
    # The second and third wait for the first, which has not begun.
    assert await runs(name) == [json.dumps({"asked_by": "push", "environment": name})]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": f"sha256={signed(BODY, 'another-secret-of-16')}"},
        {"X-Hub-Signature-256": f"sha1={signed(BODY)}"},
        {"X-Hub-Signature-256": f"sha256={signed(b'another body')}"},
        {"X-Gitea-Signature": ""},
        {"X-Gitlab-Token": "no secret"},
        {"X-Gitlab-Token": ""},
    ],
)
async def test_what_is_not_signed_is_refused(place: Place, server: str, headers: dict[str, str]) -> None:  # noqa: F811
    assert await push(f"{server}/{place.project}", headers) == 403
    assert await push(f"{server}/nothing-of-this-name", GITHUB) == 403
    assert await push(f"{server}/..%2Fetc", GITHUB) == 403
    assert await runs(place.project) == []


async def test_a_ping_is_answered_and_asks_for_nothing(place: Place, server: str) -> None:  # noqa: F811
    assert await push(f"{server}/{place.project}", GITHUB | {"X-GitHub-Event": "ping"}) == 200
    assert await runs(place.project) == []


async def test_unsigned_pushes_do_not_shut_out_signed_ones(place: Place, server: str) -> None:  # noqa: F811
    for _ in range(10):
        assert await push(f"{server}/{place.project}", {}) == 403
    answers = [await push(f"{server}/{place.project}", GITHUB | {"X-GitHub-Event": "ping"}) for _ in range(7)]
    assert answers == [200] * 6 + [429]


async def test_a_short_secret_opens_nothing(place: Place, server: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("PUSH_SECRET", "short")
    assert await push(f"{server}/{place.project}", {"X-Gitlab-Token": "short"}) == 403
