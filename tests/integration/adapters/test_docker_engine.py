"""The engine client against a real engine."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.docker.engine import DockerEngine
from adapters.docker.statistics import sample_of
from models.containers import ContainerEvent
from models.failures import ContainerGoneError, EngineError, EngineUnreachableError
from tests.integration.adapters.conftest import IMAGE, ComposeProject
from tests.support.clocks import python_with_wrong_clock

pytestmark = pytest.mark.engine
Make = Callable[..., ComposeProject]

PAIR = """\
services:
  bot:
    image: IMAGE
    command: FOREVER
    environment: {TOKEN: hidden}
    mem_limit: 64m
    restart: on-failure
    healthcheck: {test: "echo fine", interval: 1s, start_period: 1m, start_interval: 200ms}
  job:
    image: IMAGE
    command: [sh, -c, "echo to output; echo to error >&2; exit 3"]
"""


def await_event(project: ComposeProject, since: datetime, action: str, service: str) -> ContainerEvent:
    """The first such event; an event that never comes fails by the test's own time limit."""
    with project.engine.events.stream(project.name, since) as events:
        return next(one for one in events if one.action.startswith(action) and one.service == service)


def logs_with(project: ComposeProject, container_id: str, *words: str) -> str:
    """The log once it has these words: the engine reports an end before it has written the last lines.

    Words that never come fail by the test's own time limit.
    """
    while True:
        written = project.engine.containers.logs(container_id)
        if all(word in written for word in words):
            return written
        time.sleep(0.05)


def test_the_engine_describes_itself(engine: DockerEngine) -> None:
    info = engine.info()
    assert info.cpus > 0
    assert info.memory_bytes > 0
    assert info.root_folder
    assert info.system_time is not None
    assert abs(info.system_time - datetime.now(UTC)) < timedelta(minutes=1)


def test_containers_are_inspected_before_and_after_their_start(make_project: Make) -> None:
    project = make_project(PAIR)
    project.compose().create()
    before = project.engine.containers.inspect_project(project.name)
    assert [(one.service, one.state, one.started_at) for one in before] == [
        ("bot", "created", None),
        ("job", "created", None),
    ]
    since = datetime.now(UTC)
    for one in before:
        project.engine.containers.start(one.container_id)
    await_event(project, since, "die", "job")
    await_event(project, since, "health_status: healthy", "bot")
    bot, job = project.engine.containers.inspect_project(project.name)
    assert (job.state, job.exit_code) == ("exited", 3)
    assert (bot.state, bot.health, bot.restart_policy) == ("running", "healthy", "on-failure")
    assert bot.health_log[-1].output == "fine\n"
    assert bot.memory_limit_bytes == 64 * 1024**2
    assert bot.environment_names == ("TOKEN",)
    assert "hidden" not in repr(bot)
    assert list(bot.addresses) == [f"{project.name}_default"]
    assert bot.started_at is not None
    assert bot.started_at > since - timedelta(seconds=5)


def test_starting_a_running_and_stopping_a_stopped_container_change_nothing(make_project: Make) -> None:
    project = make_project(PAIR)
    project.started()
    bot = project.one("bot")
    project.engine.containers.start(bot.container_id)
    assert project.one("bot").started_at == bot.started_at
    project.engine.containers.stop(bot.container_id, timedelta(seconds=5))
    project.engine.containers.stop(bot.container_id, timedelta(seconds=5))
    assert (project.one("bot").state, project.one("bot").exit_code) == ("exited", 0)


def test_a_container_that_ignores_the_signal_is_killed_after_its_grace(make_project: Make) -> None:
    stubborn = """services: {deaf: {image: IMAGE, command: [sh, -c, "trap '' TERM; while :; do sleep 1; done"]}}"""
    project = make_project(stubborn)
    (deaf,) = project.started()
    project.engine.containers.stop(deaf.container_id, timedelta(seconds=0))
    assert project.one("deaf").exit_code == 137


def test_a_restart_keeps_the_container(make_project: Make) -> None:
    project = make_project(PAIR)
    project.started()
    bot = project.one("bot")
    project.engine.containers.restart(bot.container_id, timedelta(seconds=5))
    again = project.one("bot")
    assert again.container_id == bot.container_id
    assert again.started_at != bot.started_at


def test_removing_a_removed_container_does_nothing(make_project: Make) -> None:
    project = make_project(PAIR)
    project.compose().create()
    job = project.one("job")
    project.engine.containers.remove(job.container_id)
    project.engine.containers.remove(job.container_id)
    with pytest.raises(ContainerGoneError):
        project.engine.containers.inspect(job.container_id)
    with pytest.raises(ContainerGoneError):
        project.engine.containers.start(job.container_id)


def test_a_failed_start_reports_the_engines_message(make_project: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = f"services: {{a: {{image: IMAGE, command: FOREVER, ports: ['127.0.0.1:{port}:80']}}}}"
        project = make_project(text)
        project.compose().create()
        with pytest.raises(EngineError, match="address already in use"):
            project.engine.containers.start(project.one("a").container_id)
    assert str(port) in project.one("a").error


def test_files_that_compose_would_copy_are_there_before_the_first_command(make_project: Make) -> None:
    text = """\
services:
  reader: {image: IMAGE, command: [cat, /greeting, /run/secrets/token], configs: [greeting], secrets: [token]}
configs: {greeting: {content: "hello "}}
secrets: {token: {environment: TOKEN}}
"""
    project = make_project(text)
    since = datetime.now(UTC)
    (reader,) = project.started(TOKEN="s3cret")
    await_event(project, since, "die", "reader")
    assert project.one("reader").exit_code == 0
    assert "hello s3cret" in logs_with(project, reader.container_id, "s3cret").replace("\n", "")


def test_logs_are_the_last_lines_of_both_streams(make_project: Make) -> None:
    project = make_project(PAIR)
    since = datetime.now(UTC)
    project.started()
    await_event(project, since, "die", "job")
    job = project.one("job").container_id
    assert logs_with(project, job, "to output", "to error")
    assert len(project.engine.containers.logs(job, lines=1).splitlines()) == 1
    assert project.engine.containers.logs(job, since=datetime.now(UTC) + timedelta(hours=1)) == ""


def test_samples_measure_the_use_of_running_containers(make_project: Make) -> None:
    project = make_project(PAIR)
    project.started()
    bot = next(one for one in project.engine.statistics.samples(project.name) if one.service == "bot")
    assert bot.memory_limit_bytes == 64 * 1024**2
    assert 0 < bot.memory_bytes < bot.memory_limit_bytes
    assert bot.cpu_total_ns > 0
    assert bot.processes >= 1
    assert bot.container_id == project.one("bot").container_id


@pytest.mark.parametrize("reported", [{"message": "task 91c3 not found: not found"}, {"read": "0001-01-01T00:00:00Z"}])
def test_a_container_that_ended_while_it_was_measured_has_no_sample(reported: dict[str, object]) -> None:
    assert sample_of(reported, "91c3", "job") is None


def test_a_command_is_run_with_its_exit_code_and_both_streams(make_project: Make) -> None:
    project = make_project(PAIR)
    project.started()
    bot = project.one("bot").container_id
    second = timedelta(seconds=10)
    code, printed = project.engine.containers.exec(bot, ["sh", "-c", "echo out; echo err >&2; exit 7"], second)
    assert (code, sorted(printed.split())) == (7, ["err", "out"])
    assert project.engine.containers.exec(bot, ["true"], second) == (0, "")
    code, printed = project.engine.containers.exec(bot, ["no-such-program"], second)
    assert code == 126
    assert "not found" in printed


@pytest.mark.parametrize("command", [["sleep", "60"], ["sh", "-c", "while :; do echo y; sleep 0.05; done"]])
def test_a_command_that_does_not_end_times_out(make_project: Make, command: list[str]) -> None:
    project = make_project(PAIR)
    project.started()
    with pytest.raises(TimeoutError):
        project.engine.containers.exec(project.one("bot").container_id, command, timedelta(seconds=0.5))


def test_a_command_in_a_container_that_does_not_run_fails(make_project: Make) -> None:
    project = make_project(PAIR)
    project.compose().create()
    with pytest.raises(EngineError, match="not running"):
        project.engine.containers.exec(project.one("bot").container_id, ["true"], timedelta(seconds=5))


def test_events_of_the_past_come_first_and_end_where_reported(make_project: Make) -> None:
    project = make_project(PAIR)
    since = datetime.now(UTC)
    project.started()
    await_event(project, since, "die", "job")
    past = list(project.engine.events.stream(project.name, since, datetime.now(UTC)))
    job = [(one.action, one.attributes.get("exitCode")) for one in past if one.service == "job"]
    assert job == [("create", None), ("start", None), ("die", "3")]


def test_another_thread_closes_the_event_stream(make_project: Make) -> None:
    project = make_project(PAIR)
    stream = project.engine.events.stream(project.name, datetime.now(UTC))
    received: list[ContainerEvent] = []
    failed: list[BaseException] = []

    def listen() -> None:
        try:
            received.extend(stream)
        except EngineError as error:
            failed.append(error)

    listener = threading.Thread(target=listen)
    listener.start()
    stream.close()
    stream.close()
    listener.join(10)
    assert not listener.is_alive()
    assert (received, failed) == ([], [])


def test_an_engine_that_stops_during_an_event_stream_is_reported(tmp_path: Path) -> None:
    """A proxy in front of the engine closes every connection, as the engine's own end would."""
    version = b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\nConnection: close\r\n\r\n{"ApiVersion":"1.45"}'
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    front = socket.socket(socket.AF_UNIX)
    front.bind(str(tmp_path / "engine.sock"))
    front.listen()

    def answer_three_times() -> None:
        for _ in range(3):
            connection, _ = front.accept()
            with connection:
                connection.sendall(begun if b"/events" in connection.recv(65536) else version)

    server = threading.Thread(target=answer_three_times, daemon=True)
    server.start()
    engine = DockerEngine(f"unix://{tmp_path}/engine.sock")
    with engine.events.stream("any", datetime.now(UTC)) as events, pytest.raises(EngineUnreachableError):
        list(events)
    server.join(10)
    front.close()
    engine.close()


def test_an_image_is_inspected_by_name(engine: DockerEngine) -> None:
    held = engine.images.inspect(IMAGE)
    assert held is not None
    assert held.image_id.startswith("sha256:")
    assert held.platform.startswith("linux/")
    assert held.ports == ()
    assert engine.images.inspect("no-such-image:ever") is None


def test_an_image_names_the_ports_that_it_exposes_over_tcp(engine: DockerEngine) -> None:
    build = ["docker", "build", "--quiet", "-"]
    text = f"FROM {IMAGE}\nEXPOSE 8080 53/udp 22/tcp\n".encode()
    image = subprocess.run(build, input=text, check=True, capture_output=True).stdout.decode().strip()
    try:
        held = engine.images.inspect(image)
        assert held is not None
        assert held.ports == (22, 8080)
    finally:
        subprocess.run(["docker", "image", "rm", image], check=False, capture_output=True)


def test_an_unobtainable_image_is_reported_with_the_reason(engine: DockerEngine) -> None:
    assert "registry.invalid" in (engine.images.why_unobtainable("registry.invalid/nothing:1") or "")


def test_ports_and_networks_name_who_owns_them(make_project: Make) -> None:
    project = make_project("services: {a: {image: IMAGE, command: FOREVER, ports: ['127.0.0.1::80']}}")
    (a,) = project.started()
    (holder,) = [one for one in project.engine.networks.published_ports() if one.project == project.name]
    assert holder.port == project.one("a").ports["80/tcp"]
    assert (holder.service, holder.host_ip) == ("a", "127.0.0.1")
    (network,) = project.engine.networks.find(project.name)
    assert network.project == project.name
    assert len(network.subnets) == 1
    assert a.container_id == project.one("a").container_id


@pytest.mark.parametrize("address", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1"])
def test_an_engine_that_is_not_there_is_reported_with_its_address(address: str) -> None:
    with pytest.raises(EngineUnreachableError, match=address):
        DockerEngine(address).info()


def test_an_engine_is_found_again_once_it_is_back(tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/engine.sock")
    with pytest.raises(EngineUnreachableError):
        engine.info()
    (tmp_path / "engine.sock").symlink_to("/var/run/docker.sock")
    assert engine.info().version
    engine.close()


SPEAKS = """\
services:
  a:
    image: IMAGE
    environment: {DB_PASSWORD: planted-in-env-1, LEVEL: debug-level-1}
    command: [sh, -c, "echo start $$DB_PASSWORD $$LEVEL planted-by-name; sleep 1000"]
    healthcheck: {test: "echo checked $$DB_PASSWORD", interval: 1s, start_period: 5s, start_interval: 100ms}
"""


def test_no_secret_comes_through_the_client(make_project: Make) -> None:
    project = make_project(SPEAKS)
    engine = DockerEngine("unix:///var/run/docker.sock")
    engine.conceal(["planted-by-name"])
    since = datetime.now(UTC)
    (created,) = project.started()
    with engine.events.stream(project.name, since) as events:
        next(event for event in events if event.action == "health_status: healthy")

    seen = engine.containers.inspect(created.container_id)
    code, printed = engine.containers.exec(
        seen.container_id, ["printenv", "DB_PASSWORD", "LEVEL"], timedelta(seconds=10)
    )
    refused, why = engine.containers.exec(seen.container_id, ["/bin/planted-in-env-1"], timedelta(seconds=10))

    assert "checked [redacted]" in seen.health_log[0].output
    assert "start [redacted] debug-level-1 [redacted]" in engine.containers.logs(seen.container_id)
    assert (code, printed) == (0, "[redacted]\ndebug-level-1\n")
    assert refused != 0
    assert "/bin/[redacted]" in why
    engine.close()


READ_TIMES = """
from datetime import UTC, datetime, timedelta
from adapters.docker.engine import DockerEngine
from core.common.stamps import stamp_of

engine, now = DockerEngine(ADDRESS), datetime.now(UTC)
minute = timedelta(minutes=1)
with engine.events.stream(PROJECT, now - 5 * minute, now) as events:
    seen = [one.happened_at for one in events if one.action == "start"]
[job] = engine.containers.inspect_project(PROJECT, "job")
written = [stamp_of(line) for line in engine.containers.logs(job.container_id).splitlines()]
near = (now - 8 * minute < one < now + minute for one in (*seen, job.started_at, *written))
print(all(near) and len(written) == 2 and min(written) >= job.started_at - minute and len(seen))
"""


@pytest.mark.parametrize("seconds", [-600, pytest.param(600, marks=pytest.mark.campaign)])
def test_moments_of_the_engine_are_by_the_clock_of_this_process(make_project: Make, seconds: int) -> None:
    project = make_project(PAIR)
    project.compose().create()
    job = project.one("job")
    project.engine.containers.start(job.container_id)
    await_event(project, datetime.now(UTC) - timedelta(minutes=1), "start", "job")
    logs_with(project, job.container_id, "to output", "to error")
    program = READ_TIMES.replace("ADDRESS", repr(project.engine.address)).replace("PROJECT", repr(project.name))
    assert python_with_wrong_clock(seconds, program, {}) == "1"
