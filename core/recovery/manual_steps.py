"""List the steps with which a person can solve an error."""

from __future__ import annotations

from collections.abc import Sequence

from models.errors import Strategy, Verdict
from models.recovery import Choice, TicketEntry

_REMEMBERED = 3


def manual_steps(verdict: Verdict, *, service: str | None, project: str, environment: str) -> tuple[str, ...]:
    """What a person should do, as sentences and exact commands with the project and service filled in."""
    compose = f"docker compose -p {project}"
    target = f" {service}" if service else ""
    logs = (f"See what it said: {compose} logs --tail 100{target}",)
    healthy = f"Check that it is healthy: {compose} ps --all{target}"
    start = (f"Start it again: {compose} up -d --wait{target}", healthy)
    listed = f"{compose} ps --all --quiet{target}"
    steps: dict[Strategy, tuple[str, ...]] = {
        Strategy.FREE_PORT_MANUAL: (
            "Find who holds the port: ss -ltnp",
            "Find containers that publish it: docker ps --format '{{.Names}} {{.Ports}}'",
            "Stop the holder, or change the port in the Compose file.",
            *start,
        ),
        Strategy.RESTART_DAEMON_REQUIRED: (
            "See why the engine fails: journalctl -u docker --no-pager -n 100",
            f"Stop databases first, if the engine still answers: {compose} stop",
            "Restart the engine (this stops every container on the host): systemctl restart docker",
            "Check that it answers: docker info",
            *start,
        ),
        Strategy.FIX_CONFIG: (
            *logs,
            f"Check the Compose file and its variables: {compose} config --quiet",
            "Correct what the message names: Compose file, variable, image, or the program's own settings.",
            *start,
        ),
        Strategy.FIX_PERMISSIONS: (
            *logs,
            "See who the current user is and what it may do: id; ls -l /var/run/docker.sock",
            f"See who the container runs as: {compose} exec{target or ' SERVICE'} id",
            f"See the mounts and their sources: docker inspect --format '{{{{json .Mounts}}}}' $({listed})",
            "Give the folder or socket the right owner, group or mode.",
            *start,
        ),
        Strategy.FIX_CREDENTIALS: (
            f"Stop further logins, since each failed one counts: {compose} stop{target}",
            "Make a new token or password where it is issued, and put it into the secret's file or variable.",
            f"Recreate the container so that it sees the new value: {compose} up -d --force-recreate{target}",
            f"Check that the login succeeds: {compose} logs --tail 50{target}",
        ),
        Strategy.FIX_RESOURCE_LIMITS: (
            f"See the use now: docker stats --no-stream $({compose} ps --quiet{target})",
            f"See its limits: docker inspect --format '{{{{json .HostConfig}}}}' $({listed})",
            *logs,
            "Raise the limit the message names, or find what leaks.",
            *start,
        ),
        Strategy.FIX_HOST: (
            "See what the kernel says: dmesg --ctime | tail -n 50",
            "Check the clock: timedatectl",
            "Check name resolution: getent hosts localhost; cat /etc/resolv.conf",
            "Check the engine: docker info",
            "Repair what the message names: kernel module, clock, certificates, name servers, firewall.",
            *start,
        ),
        Strategy.RESTORE_DATABASE: (
            f"Stop every writer first: {compose} stop",
            f"Find the data: docker inspect --format '{{{{json .Mounts}}}}' $({listed})",
            "Copy the whole data folder aside before anything else; delete no lock, log or write-ahead file.",
            "Check the copy with the database's own tool, or restore the last backup.",
            *start,
        ),
        Strategy.INVESTIGATE: (
            f"See the states: {compose} ps --all",
            *logs,
            f"See exit code, restarts and health: docker inspect --format '{{{{json .State}}}}' $({listed})",
            f"See the use of resources: docker stats --no-stream $({compose} ps --quiet{target})",
        ),
        Strategy.NONE: ("Nothing needs to be done.",),
        Strategy.WAIT_AND_RETRY: ("Wait some minutes; the cause usually passes.", *logs, *start),
        Strategy.RESTART_SERVICE: (*logs, f"Restart it: {compose} restart{target}", healthy),
        Strategy.RESTART_DEPENDENCY_THEN_SERVICE: (
            f"See which of its dependencies is down: {compose} ps --all",
            *logs,
            f"Start what is down, then the service: {compose} up -d --wait{target}",
            healthy,
        ),
        Strategy.RECREATE_CONTAINER: (
            "Find the container in the way: docker ps --all --format '{{.ID}} {{.Names}} {{.Status}}'",
            f"Recreate the service's own container; named volumes stay: {compose} up -d --force-recreate{target}",
            healthy,
        ),
        Strategy.FREE_PORT: (
            "Find which container holds the port: docker ps --all --format '{{.Names}} {{.Ports}} {{.Status}}'",
            f"Remove it if it is a left-over of {project}: docker rm CONTAINER",
            *start,
        ),
        Strategy.PULL_IMAGE: (f"Pull the image once more: {compose} pull{target}", *start),
        Strategy.PRUNE_DISK: (
            "See what fills the disk: df -h; docker system df",
            "Remove dangling images and build cache, never volumes: docker image prune; docker builder prune",
            *start,
        ),
        Strategy.CREATE_NETWORK: (
            "See the networks: docker network ls",
            "Create the network the message names, if the Compose file calls it external: docker network create NAME",
            *start,
        ),
        Strategy.ROLL_BACK_RELEASE: (
            f"See what was proven before: roas releases {environment}",
            f"Go back to it: roas rollback {environment}",
            healthy,
        ),
        Strategy.RUN_SCRIPT: (
            *logs,
            f"See what the script does, and run it by hand: ls -l deployments/recovery; {compose} ps --all{target}",
            *start,
        ),
        Strategy.PRUNE_NETWORKS: (
            "See the networks: docker network ls",
            "Remove those without containers: docker network prune",
            *start,
        ),
    }
    return steps[verdict.strategy]


def earlier_answers(history: Sequence[TicketEntry]) -> tuple[str, ...]:
    """What people answered when the same cause was there before, the latest first, as sentences to offer."""
    answers = [entry for entry in history if entry.what.startswith(tuple(f"{choice}: " for choice in Choice))]
    latest = sorted(answers, key=lambda entry: entry.at, reverse=True)[:_REMEMBERED]
    return tuple(f"On {entry.at:%Y-%m-%d} {entry.by} answered: {entry.what}" for entry in latest)
