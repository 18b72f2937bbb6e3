"""Logs on an open page: what services write, as it is written, and no longer than somebody reads."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.page.follow import LogFollower
from flows.page.rendering import BASE
from models.logs import LogQuery
from tests.support.page import page_client
from tests.support.projects import remove_project

STREAM = f"{BASE}/environments/shop/logs/stream"
PAGE = f"{BASE}/environments/shop/logs?follow"


def test_where_no_container_can_be_followed_the_stream_says_why_and_ends(recorded: Path) -> None:
    (recorded / "shop.yaml").unlink()

    answer = page_client().get(STREAM)

    assert answer.headers["content-type"].startswith("text/event-stream")
    begin, remark, *rest = answer.text.split("\n\n")
    assert begin == "event: begin\ndata: {}"
    assert remark.startswith("event: remark\n")
    assert "shop" in json.loads(remark.partition("data: ")[2])
    assert rest == [""]


def test_logs_of_what_is_not_there_are_not_followed(recorded: Path) -> None:
    assert page_client().get(f"{BASE}/environments/nothing/logs/stream").status_code == 404


def test_the_followed_page_has_the_lines_of_all_containers_by_time_without_script(recorded: Path) -> None:
    (recorded / "shop.yaml").unlink()
    client = page_client()

    page = client.get(f"{PAGE}&service=web&lines=200").text

    assert f'data-follow="{STREAM}?service=web&amp;q=&amp;lines=200"' in page
    assert 'name="follow" checked' in page
    assert page.count("<script") == 1
    # Regions are read again as a whole, which would take what was followed away.
    assert '<body data-live=""' in page


@pytest.fixture
def writing(own_stores: Path) -> Iterator[str]:
    """An environment whose service counts, and whose lines end an element."""
    project = f"roas-test-{secrets.token_hex(4)}"
    count = 'i=0; while true; do i=$$((i + 1)); echo "line $$i </pre><script>"; sleep 0.2; done'
    compose = own_stores / "compose.yaml"
    compose.write_text(
        "services:\n  web:\n    image: debian:trixie-slim\n    init: true\n"
        f"    command: {json.dumps(['sh', '-c', count])}\n"
    )
    (own_stores / "writing.yaml").write_text(f"name: writing\nproject: {project}\ncompose_files: [compose.yaml]\n")
    subprocess.run(
        ["docker", "compose", "-p", project, "-f", str(compose), "up", "-d"], check=True, capture_output=True
    )
    yield "writing"
    remove_project(project)


@pytest.mark.engine
async def test_a_follower_gets_lines_as_they_are_written_and_ends_with_who_reads(writing: str) -> None:
    follower = LogFollower(writing, LogQuery(lines=50))
    batches = follower.batches()
    lines: list[str] = []
    async with asyncio.timeout(120):
        async for batch in batches:
            assert not isinstance(batch, str), batch
            lines += [line.line for line in batch]
            if len(lines) > 5 and len({line.split()[1] for line in lines}) > 5:
                break
        await batches.aclose()
        await asyncio.to_thread(follower.thread.join)

    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert not follower.thread.is_alive()
