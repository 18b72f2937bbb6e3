"""Messages reach stand-ins that check what Discord, Slack and Teams document, and failures are distinguished."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from adapters.notifications.webhook import SendFailure, post_json
from core.notifications.samples import examples
from core.notifications.services import render
from models.notifications import Addresses
from tests.support.chat_services import (
    DISCORD,
    DISCORD_ADDRESS,
    SLACK,
    SLACK_ADDRESS,
    TEAMS,
    TEAMS_ADDRESS,
    ChatServices,
    Reply,
    busy,
)
from tests.support.chat_services import _certificate as _certificate
from tests.support.chat_services import chat as chat

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MESSAGES = examples("shop", Addresses(prefect="https://ops.example", grafana="https://grafana.example"), NOON)
SERVICES = [
    (DISCORD, DISCORD_ADDRESS, "discord-webhook"),
    (SLACK, SLACK_ADDRESS, "slack-webhook"),
    (TEAMS, TEAMS_ADDRESS, "ms-teams-webhook"),
]


@pytest.mark.parametrize(("host", "address", "kind"), SERVICES)
async def test_each_service_accepts_an_example_of_each_kind(
    chat: ChatServices, host: str, address: str, kind: str
) -> None:
    for message in MESSAGES:
        assert await post_json(address, render(kind, message)) is None
    assert chat.refused[host] == []
    assert len(chat.accepted[host]) == len(MESSAGES)


async def test_a_stand_in_refuses_what_its_service_refuses(chat: ChatServices) -> None:
    failed = await post_json(DISCORD_ADDRESS, {"embeds": [{"title": "x" * 257}]})
    assert failed == SendFailure(text="its server answered with 400")
    assert "title: 257 of at most 256" in chat.refused[DISCORD][0]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (busy(3.5), SendFailure(text="its server answered with 429", again=True, after_seconds=3.5)),
        (busy(0.25, in_header=False), SendFailure(text="its server answered with 429", again=True, after_seconds=0.25)),
        (Reply(status=500), SendFailure(text="its server answered with 500", again=True)),
        (
            Reply(status=503, headers={"Retry-After": "7"}),
            SendFailure(text="its server answered with 503", again=True, after_seconds=7),
        ),
        (
            Reply(status=429, headers={"Retry-After": "soon"}, body="[]"),
            SendFailure(text="its server answered with 429", again=True),
        ),
        (
            Reply(status=307, headers={"Location": "http://169.254.169.254/"}),
            SendFailure(text="its server answered with 307"),
        ),
        (Reply(status=404), SendFailure(text="its server answered with 404")),
    ],
)
async def test_a_refusal_says_whether_and_when_to_send_again(
    chat: ChatServices, answer: Reply, expected: SendFailure
) -> None:
    chat.answers.append(answer)
    assert await post_json(DISCORD_ADDRESS, render("discord-webhook", MESSAGES[0])) == expected
    assert len(chat.asked) == 1


async def test_a_date_to_wait_for_is_read_too(chat: ChatServices) -> None:
    at = datetime.now(UTC) + timedelta(minutes=5)
    chat.answers.append(Reply(status=429, headers={"Retry-After": format_datetime(at, usegmt=True)}))
    failed = await post_json(SLACK_ADDRESS, {"text": "x"})
    assert failed is not None
    assert 240 < failed.after_seconds <= 300


async def test_a_service_that_does_not_answer_ends_by_a_timeout(
    chat: ChatServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.notifications.webhook._POST_SECONDS", 0.3)
    chat.answers.append(Reply(hang=True))
    failed = await post_json(TEAMS_ADDRESS, render("ms-teams-webhook", MESSAGES[0]))
    assert failed == SendFailure(text="its server did not answer in time")
