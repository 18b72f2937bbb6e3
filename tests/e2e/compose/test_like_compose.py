"""A start ends in what `docker compose up` ends in, but where Compose's own verdict is wrong."""

from __future__ import annotations

import asyncio
import secrets
import textwrap
from pathlib import Path

import pytest

from tests.e2e.compose.compare import Comparison, ComposeOutcome, compare
from tests.support.docker_command import docker_command

pytestmark = [pytest.mark.engine, pytest.mark.flow]

IMAGE = "debian:trixie-slim"
STAYS = "{image: IMAGE, init: true, command: [sleep, '600']}"
CHECK = "{test: [CMD, test, -e, /tmp/well], interval: 1s, timeout: 30s, start_period: 10s, start_interval: 200ms}"
WELL = f"{{<<: *stays, command: [sh, -c, 'touch /tmp/well; exec sleep 600'], healthcheck: {CHECK}}}"

SAME = {
    "every condition": f"""
        services:
          base: {WELL}
          first: {STAYS}
          app:
            <<: *stays
            depends_on:
              base: {{condition: service_healthy, restart: true}}
              first: {{condition: service_started}}
        """,
    "optional dependencies, one whose profile is off": f"""
        services:
          cache: {{<<: *stays, profiles: [big]}}
          base: {WELL}
          app:
            <<: *stays
            depends_on:
              cache: {{condition: service_healthy, required: false}}
              base: {{condition: service_healthy, required: false}}
        """,
    "replicas, many and none": """
        services:
          two: {<<: *stays, deploy: {replicas: 2}}
          three: {<<: *stays, scale: 3}
          none: {<<: *stays, scale: 0}
          last: {<<: *stays, depends_on: [three, none]}
        """,
    "networks with aliases": """
        services:
          server: {<<: *stays, networks: {inner: {aliases: [store, keeper]}, outer: {}}}
          client: {<<: *stays, hostname: caller, networks: [outer], links: ["server:friend"]}
        networks:
          inner: {internal: true, labels: {note: "a$$b"}}
          outer: {}
        """,
    "namespaces and volumes of others": """
        services:
          host: {<<: *stays, ipc: shareable, volumes: ["shared:/shared"]}
          guest: {<<: *stays, network_mode: "service:host", ipc: "service:host", pid: "service:host"}
          reader: {<<: *stays, volumes_from: ["host:ro"]}
        volumes: {shared: {}}
        """,
    "configs and secrets of every source": """
        services:
          app:
            <<: *stays
            configs: [told, {source: named, target: /etc/named, mode: 0440}, {source: filed, target: /etc/filed}]
            secrets: [hidden]
            healthcheck:
              test: "grep -qx 'told $$here' /told && grep -qx secret-of-it /etc/named &&
                grep -qx filed /etc/filed && grep -qx hidden /run/secrets/hidden"
              interval: 1s
              start_period: 10s
              start_interval: 200ms
        configs:
          told: {content: "told $$here"}
          named: {environment: OWN_VARIABLE}
          filed: {file: ./filed}
        secrets: {hidden: {file: ./hidden}}
        """,
    "what is included, extended and merged": """
        include:
          - path: [part.yaml, part.override.yaml]
        services:
          app:
            extends: {file: base.yaml, service: base}
            env_file: [one.env, {path: absent.env, required: false}]
            environment: {FROM: "${OWN_VARIABLE}", TWICE: over}
        """,
    "names, labels and commands of its own": f"""
        services:
          app:
            <<: *stays
            container_name: roas-same-{secrets.token_hex(4)}
            labels: {{cost: "$$5", own: "${{OWN_VARIABLE}}"}}
            entrypoint: [sh, -c]
            command: ['echo "$$HOME"; exec sleep 600']
            working_dir: /tmp
            stop_signal: SIGINT
            restart: unless-stopped
            extra_hosts: ["far:192.0.2.1"]
            ulimits: {{nofile: {{soft: 1000, hard: 2000}}}}
            tmpfs: [/scratch]
        """,
    "volumes, named, anonymous and bound": """
        services:
          app:
            <<: *stays
            volumes: [data:/data, "data:/again:ro", /nameless, "./here:/here", "./filed:/filed:ro"]
        volumes:
          data: {labels: {kept: "yes"}}
        """,
    "ports, chosen and left to the engine": """
        services:
          app: {<<: *stays, ports: ["127.0.0.1:28480:80", "127.0.0.1:28481-28482:90-91", "70", "127.0.0.1::71/udp"]}
        """,
}

FILES = {
    "filed": "filed\n",
    "hidden": "hidden\n",
    "one.env": "ONE=1\nTWICE=under\nQUOTED='a b'\nFILLED=${OWN_VARIABLE}\n",
    "base.yaml": f"x-stays: &stays {STAYS}\nservices: {{base: {{<<: *stays, labels: [from=base]}}}}\n",
    "part.yaml": f"x-stays: &stays {STAYS}\nservices: {{part: {{<<: *stays, environment: {{A: 1}}}}}}\n",
    "part.override.yaml": "services: {part: {environment: {B: 2}}}\n",
}


def application(place: Path, text: str) -> Path:
    for name, content in FILES.items():
        (place / name).write_text(content.replace("IMAGE", IMAGE))
    file = place / "compose.yaml"
    file.write_text(f"x-stays: &stays {STAYS}\n{textwrap.dedent(text)}".replace("IMAGE", IMAGE))
    return file


@pytest.mark.campaign(seconds=20)
async def test_all_is_as_compose_leaves_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_VARIABLE", "secret-of-it")
    turns = asyncio.Semaphore(4)

    async def one(name: str) -> Comparison:
        folder = place / name.replace(" ", "-").replace(",", "")
        folder.mkdir()
        async with turns:
            return await compare(application(folder, SAME[name]), hold_seconds=0.3, settle_seconds=1)

    found = await asyncio.gather(*(one(name) for name in SAME))
    assert {name: (one.outcome, one.why) for name, one in zip(SAME, found, strict=True)} == dict.fromkeys(
        SAME, (ComposeOutcome.SAME, "")
    )


@pytest.mark.campaign
async def test_services_of_a_profile_that_is_on_are_started(place: Path) -> None:
    file = application(place, "services: {app: *stays, debug: {<<: *stays, profiles: [debug], depends_on: [app]}}")
    found = await compare(file, hold_seconds=0.3, settle_seconds=1, profiles=["debug"])
    assert (found.outcome, found.why) == (ComposeOutcome.SAME, "")


@pytest.mark.campaign
async def test_a_network_that_others_own_is_joined_and_stays(place: Path) -> None:
    network = f"roas-same-{secrets.token_hex(4)}"
    docker_command("network", "create", network)
    try:
        file = application(
            place,
            f"""
            services: {{app: {{<<: *stays, networks: {{far: {{aliases: [near]}}}}}}}}
            networks: {{far: {{name: {network}, external: true}}}}
            """,
        )
        found = await compare(file, hold_seconds=0.3, settle_seconds=1)
        assert (found.outcome, found.why) == (ComposeOutcome.SAME, "")
    finally:
        docker_command("network", "rm", network)


@pytest.mark.campaign
async def test_jobs_that_have_finished_are_done_which_compose_calls_a_failure(place: Path) -> None:
    file = application(
        place,
        """
        services:
          alone: {image: IMAGE, command: ["true"]}
          first: {image: IMAGE, command: ["true"]}
          app: {<<: *stays, depends_on: {first: {condition: service_completed_successfully}}}
        """,
    )
    found = await compare(file, hold_seconds=0.3, settle_seconds=1)
    assert found.outcome is ComposeOutcome.COMPOSE_WRONG
    assert "fails for finished jobs: ['alone 1'" in found.why
    assert "all else is the same" in found.why


@pytest.mark.campaign
async def test_a_job_that_fails_fails_the_start_as_with_compose(place: Path) -> None:
    file = application(
        place,
        """
        services:
          first: {image: IMAGE, command: [sh, -c, 'exit 3']}
          app: {<<: *stays, depends_on: {first: {condition: service_completed_successfully}}}
        """,
    )
    found = await compare(file, hold_seconds=0.3, settle_seconds=1)
    assert found.outcome is ComposeOutcome.BOTH_REFUSE
    assert "first did not start: it ended with exit code 3" in found.why
    assert "app was not started because it depends on first" in found.why


@pytest.mark.campaign
async def test_a_crash_loop_that_compose_passes_fails_the_start(place: Path) -> None:
    file = application(
        place, "services: {app: {image: IMAGE, restart: always, command: [sh, -c, 'sleep 1.2; exit 1']}}"
    )
    found = await compare(file, hold_seconds=3)
    assert found.outcome is ComposeOutcome.COMPOSE_WRONG
    assert "it passes what crashes" in found.why
