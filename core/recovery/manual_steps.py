"""List the steps with which a person can solve an error.

Each command works whether or not the service still has containers, since a failed start removes them, and from any
folder: `roas` knows the application's files by its name, and a list of containers may be empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.recovery.corrections import UNKNOWN_PLACE, FilePlace, corrections
from core.recovery.facts import DISK_IS_FULL_PERCENT
from models.errors import Category, Strategy, Verdict
from models.recovery import Choice, TicketEntry

_REMEMBERED = 3


def manual_steps(
    verdict: Verdict,
    *,
    service: str | None,
    project: str,
    environment: str,
    disk_percent: float | None = None,
    again: str = "",
    message: str = "",
    place: FilePlace = UNKNOWN_PLACE,
) -> tuple[str, ...]:
    """What a person should do, as sentences and exact commands with the project and service filled in.

    `disk_percent` is the use of the host's disk, 0-100, where it is known. `again` is the command that begins the
    operation again which failed. `message` is the sentence that shows the cause, `place` where a person corrects it.
    """
    target, of_service = (f" {service}", f" in the Compose file's {service}") if service else ("", "")
    labels = f"--filter label=com.docker.compose.project={project}"
    labels += f" --filter label=com.docker.compose.service={service}" if service else ""
    each = f"docker ps --all --quiet {labels} | xargs -r"
    logs = (f"Read its log: roas logs {environment}{target}",)
    states = f"See state, exit code and health: docker ps --all {labels}"
    healthy = f"Check that it is healthy: roas health {environment}"
    start = (f"Start it again: {again or f'roas start {environment}'}", healthy)
    mounts = f"See its user and its mounts: {each} docker inspect --format '{{{{.Config.User}}}} {{{{json .Mounts}}}}'"
    free = ("See what fills the disk: df -h", "Make room where the message says that there is none.")
    if disk_percent is not None and disk_percent >= DISK_IS_FULL_PERCENT:
        images = "Remove dangling images and build cache, never volumes: docker image prune; docker builder prune"
        free = ("See what fills the disk: df -h; docker system df", images)
    steps: dict[Strategy, tuple[str, ...]] = {
        Strategy.FREE_PORT_MANUAL: (
            "Find who holds the port: ss -ltnp",
            "Find containers that publish it: docker ps --format '{{.Names}} {{.Ports}}'",
            "Stop the holder, or change the port in the Compose file.",
            *start,
        ),
        Strategy.RESTART_DAEMON_REQUIRED: (
            "See why the engine fails: journalctl -u docker --no-pager -n 100",
            f"Stop databases first, if the engine still answers: roas stop {environment}",
            "Restart the engine (this stops every container on the host): systemctl restart docker",
            "Check that it answers: docker info",
            *start,
        ),
        Strategy.FIX_CONFIG: (
            *logs,
            f"Check the Compose file and its variables: roas validate {environment}",
            "Correct what the message names: Compose file, variable, image, or the program's own settings.",
            *start,
        ),
        Strategy.FIX_PERMISSIONS: (
            *logs,
            *_PERMISSIONS.get(verdict.category, ()),
            mounts,
            "Give the folder or socket the right owner, group or mode.",
            *start,
        ),
        Strategy.FIX_CREDENTIALS: (
            f"Stop further logins, since each failed one counts: {each} docker stop",
            "Make a new token or password where it is issued, and put it into the secret's file or variable.",
            f"Start it with the new value: roas start {environment}",
            f"Check that the login succeeds: roas logs {environment}{target} --tail 50",
        ),
        Strategy.FIX_RESOURCE_LIMITS: (
            f"See its use of memory and processor: roas top {environment}",
            f"See its limits: {each} docker inspect --format '{{{{json .HostConfig}}}}'",
            *logs,
            f"Raise the limit that the message names{of_service}, or use less: a restart alone fails again.",
            *start,
        ),
        Strategy.FIX_HOST: (*_HOST.get(verdict.category, _ANY_HOST), *start),
        Strategy.RESTORE_DATABASE: (
            f"Stop every writer first: roas stop {environment}",
            mounts.replace("its user and its mounts", "who it runs as and where its data is"),
            "Compare with the owner of the data: a wrong owner or user is no damage, and needs no backup.",
            "Copy the whole data folder aside before anything else; delete no lock, log or write-ahead file.",
            "Check the copy with the database's own tool; restore the last backup only if the tool finds damage.",
            *start,
        ),
        Strategy.INVESTIGATE: (*logs, states, f"See what changed: roas drift {environment}", *start),
        Strategy.NONE: ("Nothing needs to be done.",),
        Strategy.WAIT_AND_RETRY: ("Wait some minutes; the cause usually passes.", *logs, *start),
        Strategy.RESTART_SERVICE: (*logs, states, *start),
        Strategy.RESTART_DEPENDENCY_THEN_SERVICE: (
            f"See which of its dependencies is down: roas health {environment}",
            *logs,
            f"Start what is down, then the service: roas start {environment}",
            healthy,
        ),
        Strategy.RECREATE_CONTAINER: (
            "Find the container in the way: docker ps --all --format '{{.ID}} {{.Names}} {{.Status}}'",
            "Remove it if nothing needs it any more, or rename the service's container.",
            *start,
        ),
        Strategy.FREE_PORT: (
            "Find which container holds the port: docker ps --all --format '{{.Names}} {{.Ports}} {{.Status}}'",
            f"Remove it if it is a left-over of {project}.",
            *start,
        ),
        Strategy.PULL_IMAGE: (
            f"Check that the image exists and its registry answers: roas validate {environment}",
            *start,
        ),
        Strategy.PRUNE_DISK: (*free, *start),
        Strategy.CREATE_NETWORK: (
            "See the networks: docker network ls",
            "Create the network that the message names, if the Compose file calls it external.",
            *start,
        ),
        Strategy.ROLL_BACK_RELEASE: (
            f"See what was proven before: roas releases {environment}",
            f"Go back to it: roas rollback {environment}",
            healthy,
        ),
        Strategy.RUN_SCRIPT: (*logs, states, "Read what the script does, and run it by hand.", *start),
        Strategy.PRUNE_NETWORKS: (
            "See the networks: docker network ls",
            "Remove those without containers: docker network prune",
            *start,
        ),
    }
    is_limit = verdict.category is Category.OOM_KILLED and verdict.strategy is Strategy.RESTART_SERVICE
    # What a restart could not help against needs a higher limit, or less use.
    usual = steps[Strategy.FIX_RESOURCE_LIMITS if is_limit else verdict.strategy]
    return (*corrections(verdict, message, place), *usual)


_PERMISSIONS = {
    Category.DOCKER_PERMISSION_DENIED: (
        "See who the current user is and what it may do: id; ls -l /var/run/docker.sock",
    )
}
_ANY_HOST = ("Check the engine: docker info", "Repair what the message names on the host.")
_HOST = {
    Category.KERNEL_NETWORK_DRIVER: (
        "See what the kernel says: dmesg --ctime | tail -n 50",
        "Load the kernel module, or repair the firewall that the message names.",
    ),
    Category.HOST_STORAGE_FAILURE: (
        "See what the kernel says of its disks: dmesg --ctime --level err,warn | tail -n 50",
        "Copy the data to another disk first; then check the file system, or replace the disk.",
    ),
    Category.DNS_FAILURE: (
        "Check name resolution: getent hosts localhost; cat /etc/resolv.conf",
        "Repair the name servers, or correct the name.",
    ),
    Category.TLS_CERTIFICATE: (
        "Compare the clock with the dates of the certificate: date -u",
        "Renew the certificate, or add its authority to those that the program trusts.",
    ),
}
"""What to look at on the host, by cause; _ANY_HOST for the others."""


def earlier_answers(history: Sequence[TicketEntry]) -> tuple[str, ...]:
    """What people answered when the same cause was there before, the latest first, as sentences to offer."""
    answers = [entry for entry in history if entry.what.startswith(tuple(f"{choice}: " for choice in Choice))]
    latest = sorted(answers, key=lambda entry: entry.at, reverse=True)[:_REMEMBERED]
    return tuple(f"On {entry.at:%Y-%m-%d} {entry.by} answered: {entry.what}" for entry in latest)
