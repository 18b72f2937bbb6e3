"""Commit statuses at stand-ins for GitHub, GitLab and Gitea, which check path, method, headers and body."""

from __future__ import annotations

from typing import Literal

import pytest

from adapters.git.commit_status import CommitStatusClient, place_of
from models.sources import CommitStatus, GitSource
from tests.support.git_forges import TOKEN, forge
from tests.support.ports import free_port

REVISION = "a1" * 20
KINDS = ["github", "gitlab", "gitea"]


def source(kind: str, api: str) -> GitSource:
    return GitSource.model_validate(
        {
            "repository": "https://git.example/ann/shop.git",
            "status": kind,
            "status_token_secret": "STATUS_TOKEN",
            "api": api,
        }
    )


def status(state: Literal["pending", "success", "failure"] = "success", description: str = "it runs") -> CommitStatus:
    return CommitStatus(revision=REVISION, state=state, description=description, link="https://ops.example/run/1")


@pytest.mark.parametrize("kind", KINDS)
async def test_each_state_is_reported_in_the_words_of_the_server(kind: str) -> None:
    with forge(kind) as server:
        client = CommitStatusClient(source(kind, server.url), TOKEN)
        for state in ("pending", "success", "failure"):
            assert await client.report(status(state), "roas/shop") is None  # type: ignore[arg-type]

    last = "failed" if kind == "gitlab" else "failure"
    assert [one["state"] for one in server.taken] == ["pending", "success", last]
    assert {one["revision"] for one in server.taken} == {REVISION}
    assert {one["target_url"] for one in server.taken} == {"https://ops.example/run/1"}
    assert {one["name" if kind == "gitlab" else "context"] for one in server.taken} == {"roas/shop"}


async def test_a_long_description_is_cut_to_what_github_takes() -> None:
    with forge("github") as server:
        client = CommitStatusClient(source("github", server.url), TOKEN)
        assert await client.report(status(description="web did not start: " * 30), "roas/shop") is None
    assert len(server.taken[0]["description"]) <= 140


async def test_a_wrong_token_is_refused_at_once_and_named_without_it() -> None:
    with forge("gitea") as server:
        why = await CommitStatusClient(source("gitea", server.url), "not-the-token").report(status(), "roas/shop")
    assert why == "its server answered with 401"
    assert server.asked == 1


async def test_a_broken_server_is_asked_again() -> None:
    with forge("gitlab") as server:
        server.fails = 1
        assert await CommitStatusClient(source("gitlab", server.url), TOKEN).report(status(), "roas/shop") is None
    assert server.asked == 2


async def test_a_server_that_is_away_is_named() -> None:
    client = CommitStatusClient(source("github", f"http://127.0.0.1:{free_port()}"), TOKEN)
    assert await client.report(status(), "roas/shop") == "its server could not be reached"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://github.com/ann/shop.git", ("github.com", "ann/shop")),
        ("https://git.example:8443/group/sub/shop", ("git.example:8443", "group/sub/shop")),
        ("git@gitlab.example:group/shop.git", ("gitlab.example", "group/shop")),
        ("ssh://git@git.example:2222/ann/shop.git", ("git.example", "ann/shop")),
    ],
)
def test_host_and_project_are_read_from_the_repository_s_address(address: str, expected: tuple[str, str]) -> None:
    assert place_of(address) == expected
