"""Translation of the engine's container documents into our models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any

from adapters.docker.client import PROJECT_LABEL, SERVICE_LABEL
from core.common.safe_text import printable
from core.deployment.kept_files import copies_of
from core.errors.redact import secrets_among, secrets_in
from models.containers import ONE_OFF_LABEL, RELEASE_HASH_LABEL, ComposeOrigin, ContainerState, HealthLogEntry

_NUMBER = "com.docker.compose.container-number"
_CONFIG_HASH = "com.docker.compose.config-hash"
_FILES = "com.docker.compose.project.config_files"
_ENV_FILES = "com.docker.compose.project.environment_file"
_FOLDER = "com.docker.compose.project.working_dir"
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


def moment(text: str | None) -> datetime | None:
    """Parse a time as Go prints it, to the nanosecond; None for Go's zero time."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).astimezone(UTC)


def secrets_of(reported: dict[str, Any]) -> set[str]:
    """Find a container's secrets: in its variables, its command and its health check.

    A password equal to the container's or image's name is left out, since redacting it would remove that name.
    """
    config = reported["Config"]
    variables = (entry.partition("=") for entry in config.get("Env") or ())
    plain = f"{reported['Name']} {config.get('Image', '')}"
    secrets = set(secrets_among((name, value) for name, _, value in variables))
    for words in (config.get("Entrypoint"), config.get("Cmd"), (config.get("Healthcheck") or {}).get("Test")):
        secrets.update(secrets_in(" ".join(words or ())))
    return {value for value in secrets if value not in plain}


def compose_origin(labels: Mapping[str, str]) -> ComposeOrigin:
    """The files that Compose made a container from, by its labels; relative ones start from the project's folder."""
    folder = PurePath(labels.get(_FOLDER, ""))

    def sorted_texts(label: str) -> tuple[str, ...]:
        # "-" is a document from standard input, which is nowhere.
        return tuple(str(folder / path) for path in labels.get(label, "").split(",") if path not in ("", "-"))

    return ComposeOrigin(files=sorted_texts(_FILES), env_files=sorted_texts(_ENV_FILES))


def container_state(
    reported: dict[str, Any], redact: Callable[[str], str], ahead: timedelta = timedelta()
) -> ContainerState:
    """Translate a container's document of an engine whose clock is so far ahead of this machine's."""

    def to_our_clock(text: str | None) -> datetime | None:
        at = moment(text)
        return None if at is None else at - ahead

    state, config, labels = reported["State"], reported["Config"], reported["Config"].get("Labels") or {}
    health = state.get("Health") or {}
    networks = (reported.get("NetworkSettings") or {}).get("Networks") or {}
    published = (reported.get("NetworkSettings") or {}).get("Ports") or {}
    host = reported.get("HostConfig") or {}
    return ContainerState(
        container_id=reported["Id"],
        name=reported["Name"].removeprefix("/"),
        service=printable(labels.get(SERVICE_LABEL, "")),
        project=printable(labels.get(PROJECT_LABEL, "")),
        number=int(labels.get(_NUMBER) or 1),
        image=config.get("Image", ""),
        image_id=reported.get("Image", ""),
        state=state["Status"],
        seen_at=datetime.now(UTC),
        exit_code=state.get("ExitCode", 0),
        oom_killed=state.get("OOMKilled", False),
        error=redact(state.get("Error", "")),
        restart_count=reported.get("RestartCount", 0),
        restart_policy=(host.get("RestartPolicy") or {}).get("Name") or "no",
        health=health.get("Status") if health.get("Status") not in (None, "none") else None,
        health_log=tuple(
            HealthLogEntry(
                ended_at=entry.get("End", ""),
                exit_code=entry.get("ExitCode", 0),
                output=redact(entry.get("Output", "")),
            )
            for entry in health.get("Log") or ()
        ),
        created_at=to_our_clock(reported.get("Created")),
        started_at=to_our_clock(state.get("StartedAt")),
        finished_at=to_our_clock(state.get("FinishedAt")),
        config_hash=labels.get(_CONFIG_HASH, ""),
        one_off=labels.get(ONE_OFF_LABEL) == "True",
        addresses={name: endpoint["IPAddress"] for name, endpoint in networks.items() if endpoint.get("IPAddress")},
        ports={
            target: int(bindings[0]["HostPort"])
            for target, bindings in published.items()
            if bindings and bindings[0].get("HostPort")
        },
        bound_to={
            target: bindings[0]["HostIp"]
            for target, bindings in published.items()
            if bindings and bindings[0].get("HostIp")
        },
        environment_names=tuple(sorted(entry.split("=", 1)[0] for entry in config.get("Env") or ())),
        memory_limit_bytes=host.get("Memory") or None,
        network_mode=host.get("NetworkMode") or "",
        networks=tuple(sorted(networks)),
        named_volumes={
            printable(mount.get("Destination", "")): printable(mount.get("Name", ""))
            for mount in reported.get("Mounts") or ()
            if mount.get("Type") == "volume" and not _ANONYMOUS.fullmatch(mount.get("Name", ""))
        },
        anonymous_volumes=tuple(
            sorted(
                printable(mount.get("Destination", ""))
                for mount in reported.get("Mounts") or ()
                if mount.get("Type") == "volume" and _ANONYMOUS.fullmatch(mount.get("Name", ""))
            )
        ),
        release_hash=printable(labels.get(RELEASE_HASH_LABEL, "")),
        copies={printable(path): printable(copy) for path, copy in copies_of(labels).items()},
    )
