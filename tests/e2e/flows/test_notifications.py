from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.settings import get_current_settings

from adapters.notifications.answer_keys import answer_key, new_nonce
from adapters.pattern_files import shipped_set
from core.errors.classify import classify
from core.notifications.answers import AnswerAction, AnswerToken, read_token, sign
from core.storage.incidents import report_damage
from flows.deployment.startup import startup
from flows.monitoring.collection import collection
from flows.recovery.answer import AnswerDesk
from models.errors import RecordedError
from models.maintenance import MaintainedEnvironment, Maintenance
from models.notifications import Channel, Message, NotificationReason, Tone
from models.operations import Operation, OperationStatus, OperationType
from models.recovery import Ticket
from tasks.recovery.channels import keep_channel, read_channels
from tasks.recovery.notify import STREAM, notify_people, report_maintenance
from tasks.recovery.send_messages import deliver
from tasks.runtime.clients import find_environment
from tests.e2e.flows.conftest import Place, end, well
from tests.e2e.flows.test_watch import until, watching
from tests.integration.adapters.test_redis_cache import PASSWORD, RedisProcess
from tests.support.chat_services import (
    DISCORD,
    DISCORD_ADDRESS,
    SLACK,
    SLACK_ADDRESS,
    TEAMS,
    TEAMS_ADDRESS,
    ChatServices,
    busy,
)
from tests.support.chat_services import _certificate as _certificate
from tests.support.chat_services import chat as chat
from tests.support.docker_command import docker_command
from tests.support.ports import free_port

pytestmark = [pytest.mark.flow]

ROOT = Path(__file__).parents[3]
OPERATION = Operation(
    deployment_id="dep-1",
    operation_type=OperationType.START,
    environment="test",
    status=OperationStatus.RUNNING,
    started_at=datetime(2026, 3, 2, 12, tzinfo=UTC),
)
MESSAGE = Message(tone=Tone.SUCCESS, title="Test", summary="a word")


class Webhook:
    """A server that keeps each request and sends the configured response."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 204
        self.answers: list[int] = []
        """What it answers first; then its status."""
        webhook = self

        class WebhookHandler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                webhook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(webhook.answers.pop(0) if webhook.answers else webhook.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it is called by
                pass

        self.server = HTTPServer(("127.0.0.1", 0), WebhookHandler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token-of-the-webhook"


@pytest.fixture(autouse=True)
def retries_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.recovery.send_messages.RETRY_AFTER_SECONDS", (0, 0))


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def asked(place: Place) -> RecordedError:
    """An error that a person is asked about."""
    place.declare(well("web"), notify="[custom-webhook/told]")
    now = datetime.now(UTC)
    error = RecordedError(
        error_id="err-1",
        environment="test",
        text="service web is stopped: exited with code 1",
        source="watch",
        verdict=classify("exited with code 1", shipped_set()),
        first_seen=now - timedelta(seconds=30),
        last_seen=now,
        service="web",
    )
    with place.stores() as stores:
        stores.errors.record(error)
        stores.tickets.open(Ticket(ticket_id="tic-1", error_id="err-1", environment="test", title="web", opened_at=now))
    return error


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisProcess]:
    """Where other programs read what is published."""
    running = RedisProcess(tmp_path)
    running.start()
    (tmp_path / "password").write_text(PASSWORD)
    monkeypatch.setenv("ROAS_REDIS_URL", running.url)
    monkeypatch.setenv("ROAS_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    yield running
    running.stop()


async def save_block(url: str) -> None:
    block = CustomWebhookNotificationBlock(
        name="told", url=url, json_data={"subject": "{{subject}}", "body": "{{body}}"}
    )
    await block.save("told", overwrite=True)


@pytest.mark.engine
async def test_a_receiver_that_was_named_since_the_last_sweep_is_reported_to(place: Place, webhook: Webhook) -> None:
    await save_block(webhook.url)
    place.declare(well("web"))
    await startup("test")
    async with watching(place):
        place.declare(well("web"), notify="[custom-webhook/told]")
        docker_command("kill", place.container("web"))
        await until(lambda: bool(webhook.got))
    assert [one["subject"] for one in webhook.got] == ["web of test is healthy again"]


async def test_people_are_reported_once_and_when_it_is_over(
    place: Place, asked: RecordedError, webhook: Webhook, redis: RedisProcess
) -> None:
    await save_block(webhook.url)
    environment = find_environment("test")

    await notify_people(environment)
    await notify_people(environment)

    assert [one["subject"].partition(":")[0] for one in webhook.got] == ["web of test needs help"]
    with place.stores() as stores:
        stores.errors.resolve(asked.error_id, datetime.now(UTC), "by ann: mended")
    await notify_people(environment)
    await notify_people(environment)
    assert [one["subject"] for one in webhook.got][1:] == ["web of test is healthy again"]
    assert "by ann: mended" in webhook.got[-1]["body"]
    reported = [entry["occasion"] for entry in redis.entries(STREAM) if entry["error_id"] == asked.error_id]
    assert reported == [NotificationReason.FAILED, NotificationReason.RECOVERED]


@pytest.mark.campaign
async def test_two_processes_report_once(place: Place, asked: RecordedError, webhook: Webhook) -> None:
    await save_block(webhook.url)
    place.declare(well("web"), notify="[custom-webhook/told]", notify_about="[failures, deployments]")
    now = datetime.now(UTC)
    with place.stores() as stores:
        for number in range(3):
            stores.operations.begin(operation := replace(OPERATION, deployment_id=f"dep-{number}", started_at=now))
            stores.operations.finish(operation.deployment_id, OperationStatus.SUCCESS, now)
    program = (
        "import asyncio; from tasks.recovery.notify import notify_where_asked;"
        "from tasks.runtime.clients import find_environment;"
        "asyncio.run(notify_where_asked(find_environment('test')))"
    )
    variables = os.environ | get_current_settings().to_environment_variables(exclude_unset=True, include_secrets=True)
    started = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=variables) for _ in range(2)]

    assert [one.wait(120) for one in started] == [0, 0]

    # Four reports at once are one message; each process may have claimed a part of them.
    subjects = [one["subject"] for one in webhook.got]
    with place.stores() as stores:
        (cause,) = stores.error_notifications.reported_errors("test", now)
        assert cause.reported.times == 1
    assert 1 <= len(subjects) == len(set(subjects))
    entries = sum(
        one["body"].count("test was started") + one["subject"].count("test was started") for one in webhook.got
    )
    assert entries == 3


async def test_environments_with_the_same_receivers_are_one_message(
    place: Place, asked: RecordedError, webhook: Webhook
) -> None:
    await save_block(webhook.url)
    declared = (place.folder / "test.yaml").read_text()
    now = datetime.now(UTC)
    with place.stores() as stores:
        for name in ("mail", "shop", "wiki"):
            (place.folder / f"{name}.yaml").write_text(declared.replace("name: test", f"name: {name}"))
            stores.errors.record(replace(asked, error_id=f"err-{name}", environment=name))
            ticket = Ticket(
                ticket_id=f"tic-{name}", error_id=f"err-{name}", environment=name, title="web", opened_at=now
            )
            stores.tickets.open(ticket)

    await notify_people(find_environment("test"))
    await notify_people(find_environment("shop"))

    (sent,) = webhook.got
    assert sent["subject"].startswith("4 environments: 4 failures. First cause: web of ")
    assert sent["body"].count("- web of ") == 4


async def test_a_maintenance_is_one_message_to_all_receivers_of_its_environments(
    place: Place, webhook: Webhook
) -> None:
    await save_block(webhook.url)
    place.declare(well("web"), notify="[custom-webhook/told]")
    (place.folder / "shop.yaml").write_text(
        (place.folder / "test.yaml").read_text().replace("name: test", "name: shop")
    )
    now, one = (
        datetime.now(UTC),
        MaintainedEnvironment(name="test", after="1", start_id="2", outcome="up, down for 9 s"),
    )
    maintenance = Maintenance(
        maintenance_id="maintenance-1", host_id="h-1", host="box", boot="b", by="ann", reason="kernel", begun_at=now,
        until=now, environments=tuple(one.model_copy(update={"name": name}) for name in ("test", "shop", "gone")),
    )  # fmt: skip
    await report_maintenance(maintenance)
    (sent,) = webhook.got
    assert maintenance.title in sent["subject"]
    assert [name in sent["body"] for name in ("test: up, down for 9 s", "shop: up, down for 9 s")] == [True, True]


async def test_an_incident_of_this_system_goes_to_an_environment_with_receivers(place: Place, webhook: Webhook) -> None:
    await save_block(webhook.url)
    place.declare(well("web"), notify="[custom-webhook/told]")
    declared = (place.folder / "test.yaml").read_text()
    silent = declared.replace("name: test", "name: silent").replace("[custom-webhook/told]", "[]")
    (place.folder / "silent.yaml").write_text(silent)
    error, ticket = report_damage(Path("errors.db.corrupt-1"), datetime.now(UTC))
    with place.stores() as stores:
        stores.errors.record(error)
        stores.tickets.open(ticket)

    assert await notify_people(find_environment("silent")) == []
    await notify_people(find_environment("test"))

    (sent,) = webhook.got
    assert "errors.db.corrupt-1 was found damaged" in sent["body"]


async def test_a_message_carries_links_that_answer_its_ticket(
    place: Place, asked: RecordedError, webhook: Webhook, redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROAS_ANSWERS_URL", "https://ops.example")
    await save_block(webhook.url)

    await notify_people(find_environment("test"))

    (sent,) = webhook.got
    _, _, token = sent["body"].partition("Acknowledge the ticket: https://ops.example/answer/")
    allowed = read_token(token.split()[0], answer_key(place.folder / "data"), datetime.now(UTC))
    assert (allowed.ticket_id, allowed.channel) == ("tic-1", "custom-webhook/told")
    assert allowed.action is AnswerAction.ACKNOWLEDGE
    # Neither what is published nor the event keeps a link.
    assert token.split()[0] not in json.dumps(redis.entries(STREAM))


async def test_quiet_hours_outlive_a_restart(place: Place, asked: RecordedError, webhook: Webhook) -> None:
    await save_block(webhook.url)
    hour, now = timedelta(hours=1), datetime.now(UTC)
    quiet = f'[{{from: "{now - hour:%H:%M}", to: "{now + hour:%H:%M}"}}]'
    place.declare(well("web"), notify="[custom-webhook/told]", quiet_hours=quiet)
    assert await notify_people(find_environment("test")) == []

    # At their end, in whatever process.
    place.declare(
        well("web"), notify="[custom-webhook/told]", quiet_hours=quiet.replace(f"{now + hour:%H:%M}", f"{now:%H:%M}")
    )
    await notify_people(find_environment("test"))

    assert [one["subject"].partition(":")[0] for one in webhook.got] == ["web of test needs help"]


@pytest.mark.campaign
async def test_what_a_collection_finds_is_reported_by_it_once(place: Place, webhook: Webhook) -> None:
    await save_block(webhook.url)
    place.declare(well("web"), notify="[custom-webhook/told]")
    await startup("test", asked_by="ann")
    end(place)

    await collection("test", act=False)
    await collection("test", act=False)
    await notify_people(find_environment("test"))

    (sent,) = webhook.got
    assert sent["subject"].startswith("web of test needs help: ")


async def test_an_approval_by_link_tries_again(place: Place, asked: RecordedError) -> None:
    token = AnswerToken(
        ticket_id="tic-1",
        action=AnswerAction.APPROVE,
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        nonce=new_nonce(),
        channel="custom-webhook/told",
    )
    desk = AnswerDesk(asyncio.get_running_loop())

    page = await asyncio.to_thread(desk.answer, sign(token, answer_key(place.folder / "data")), "the host is back")

    assert (page.status, page.title) == (HTTPStatus.OK, "Done")
    assert page.text.startswith("tic-1: again from the start; ")
    with place.stores() as stores:
        (entry, *_) = stores.tickets.get("tic-1").history
    assert (entry.by, entry.what) == ("link in custom-webhook/told", "again from the start: the host is back")


async def test_a_failed_start_is_reported_by_its_command(place: Place, webhook: Webhook) -> None:
    await save_block(webhook.url)
    place.declare("web:\n  image: no-such-image.invalid/web:1", notify="[custom-webhook/told]")

    assert (await startup("test", asked_by="ann", return_state=True)).is_failed()

    (sent,) = webhook.got
    assert sent["subject"].startswith("web of test needs help: ") or sent["subject"].startswith("test needs help: ")
    await notify_people(find_environment("test"))
    assert len(webhook.got) == 1


async def test_a_deployment_is_reported_where_asked(place: Place, webhook: Webhook) -> None:
    await save_block(webhook.url)
    place.declare(well("web"), notify="[custom-webhook/told]", notify_about="[deployments]")

    result = await startup("test", asked_by="ann")

    (sent,) = webhook.got
    assert sent["subject"] == "test was started"
    assert f"Next: roas history {result.deployment_id}" in sent["body"]


async def test_a_webhook_that_fails_fails_nothing_and_is_tried_at_the_reminder(
    place: Place,
    asked: RecordedError,
    webhook: Webhook,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await save_block(webhook.url)
    webhook.status = 500
    environment = find_environment("test")

    await notify_people(environment)
    await notify_people(environment)

    assert len(webhook.got) == 3
    warnings = [record.getMessage() for record in caplog.records if record.name == "roas"]
    assert len([text for text in warnings if "did not take the notice" in text]) == 1
    assert "token-of-the-webhook" not in caplog.text
    with place.stores() as stores:
        (cause,) = stores.error_notifications.reported_errors("test", datetime.now(UTC))
        an_hour_ago = replace(cause.reported, last_at=datetime.now(UTC) - timedelta(hours=1))
        assert stores.error_notifications.mark_sent(asked.error_id, cause.reported, an_hour_ago)
    webhook.status = 204
    (reminder,) = await notify_people(environment)
    assert reminder.news[0].occasion is NotificationReason.REMINDER
    assert len(webhook.got) == 4


async def test_a_webhook_that_is_away_for_a_moment_loses_nobody_a_notice(
    place: Place,
    asked: RecordedError,
    webhook: Webhook,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await save_block(webhook.url)
    webhook.answers = [503]

    await notify_people(find_environment("test"))

    assert [one["subject"].partition(":")[0] for one in webhook.got] == ["web of test needs help"] * 2
    assert "did not take" not in caplog.text


@pytest.mark.parametrize("status", [302, 400, 404])
async def test_what_a_webhook_does_not_want_is_not_sent_again(
    place: Place, asked: RecordedError, webhook: Webhook, status: int
) -> None:
    await save_block(webhook.url)
    webhook.status = status

    await notify_people(find_environment("test"))

    assert len(webhook.got) == 1


async def test_a_block_that_is_not_there_fails_nothing(place: Place, asked: RecordedError) -> None:
    place.declare(well("web"), notify="[discord-webhook/nobody]")
    assert [one.news[0].occasion for one in await notify_people(find_environment("test"))] == [
        NotificationReason.FAILED
    ]


async def test_the_address_of_a_webhook_is_kept_secret(webhook: Webhook) -> None:
    block = await keep_channel("webhook", "secret", webhook.url, ())

    assert await deliver(block, MESSAGE) is None

    assert webhook.got == [{"subject": "Test", "body": "a word"}]
    async with get_client() as client:
        kept = await client.read_block_document_by_name("secret", "custom-webhook", include_secrets=False)
    assert "token-of-the-webhook" not in kept.model_dump_json()


async def test_the_password_of_a_mail_server_is_kept_secret() -> None:
    address = f"smtp://app:word-of-the-mail@127.0.0.1:{free_port()}/?from=ops@shop.example&to=a@shop.example"
    block = await keep_channel("email", "mail", address, ())

    assert block == "roas-email/mail"
    assert await deliver(block, MESSAGE) == f"block {block} did not take the notice: its server could not be reached"
    async with get_client() as client:
        kept = await client.read_block_document_by_name("mail", "roas-email", include_secrets=False)
    assert "word-of-the-mail" not in kept.model_dump_json()
    assert block in [one.block for one in await read_channels({})]


@pytest.mark.parametrize(
    ("kind", "address", "parts", "host"),
    [
        ("discord", DISCORD_ADDRESS, DISCORD_ADDRESS.rsplit("/", 2)[1:], DISCORD),
        ("slack", SLACK_ADDRESS, (), SLACK),
        ("teams", TEAMS_ADDRESS, (), TEAMS),
    ],
)
async def test_blocks_of_chat_services_send_their_own_form(
    chat: ChatServices, kind: str, address: str, parts: list[str], host: str
) -> None:
    block = await keep_channel(kind, "own-form", address, parts)
    chat.answers.append(busy(0.01))

    assert await deliver(block, MESSAGE) is None

    assert len(chat.asked) == 2
    assert len(chat.accepted[host]) == 1
    assert address.endswith(chat.asked[0].partition(".com")[2])


async def test_a_service_that_asks_for_a_long_wait_is_not_waited_for(chat: ChatServices) -> None:
    block = await keep_channel("slack", "busy", SLACK_ADDRESS, ())
    chat.answers.append(busy(3600))

    assert await deliver(block, MESSAGE) == f"block {block} did not take the notice: its server answered with 429"

    assert len(chat.asked) == 1


async def test_who_cannot_be_reported_is_said_without_the_address(webhook: Webhook) -> None:
    webhook.status = 403
    block = await keep_channel("webhook", "refused", webhook.url, ())

    assert await deliver(block, MESSAGE) == f"block {block} did not take the notice: its server answered with 403"
    assert await deliver("custom-webhook/nobody", MESSAGE) == (
        "there is no block custom-webhook/nobody on the Prefect server"
    )


async def test_who_does_not_answer_is_said_without_the_address() -> None:
    block = await keep_channel("webhook", "deaf", f"http://127.0.0.1:{free_port()}/token-of-the-webhook", ())

    assert await deliver(block, MESSAGE) == f"block {block} did not take the notice: its server could not be reached"


async def test_blocks_are_listed_by_who_names_them_and_whether_they_are_kept(webhook: Webhook) -> None:
    block = await keep_channel("webhook", "listed", webhook.url, ())

    found = {one.block: one for one in await read_channels({"slack-webhook/gone": ["test"], "mine/none": ["test"]})}

    assert (found[block].environments, found[block].kept) == ((), True)
    assert found["slack-webhook/gone"] == Channel(block="slack-webhook/gone", environments=("test",), kept=False)
    assert not found["mine/none"].kept


@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/latest", "http://0xa9fea9fe/", "http://[::ffff:a9fe:a9fe]/"]
)
async def test_nothing_is_sent_to_the_metadata_service_of_a_cloud(address: str) -> None:
    block = await keep_channel("webhook", "metadata", address, ())

    assert "has a link-local address" in (await deliver(block, MESSAGE) or "")


async def test_a_webhook_that_redirects_is_not_followed(webhook: Webhook) -> None:
    webhook.status = 307
    block = await keep_channel("webhook", "elsewhere", webhook.url, ())

    assert "answered with 307" in (await deliver(block, MESSAGE) or "")
    assert len(webhook.got) == 1
