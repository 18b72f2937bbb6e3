"""The first steps of a ticket: the place that a person corrects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.recovery.corrections import FilePlace, corrections, named_host
from core.recovery.manual_steps import manual_steps
from models.compose import Mount, MountKind, ServiceDeclaration
from models.errors import Category, Severity, Strategy, Verdict

VERDICT = Verdict(
    category=Category.DNS_FAILURE, severity=Severity.HIGH, strategy=Strategy.FIX_CONFIG, confidence=0.9, reason="a word"
)
UPLOADS = Mount(kind=MountKind.BIND, source="/srv/shop/uploads", target="/uploads")
CONFIG = Mount(kind=MountKind.BIND, source="/srv/shop/shop.ini", target="/etc/shop.ini", read_only=True)
WEB = ServiceDeclaration(name="web", image="shop:1", user="1000", mounts=(UPLOADS, CONFIG), memory_limit_bytes=64 << 20)
PLACE = FilePlace(files=("/srv/shop/compose.yaml", "/srv/my shop/.env"), services=("db", "web"), declared=WEB)
FILES = "/srv/shop/compose.yaml '/srv/my shop/.env'"


def commands(category: Category, said: str, place: FilePlace = PLACE) -> list[str]:
    steps = corrections(replace(VERDICT, category=category), said, place)
    return [step.partition(": ")[2] for step in steps]


@pytest.mark.parametrize(
    ("category", "said", "expected"),
    [
        (Category.DNS_FAILURE, 'could not translate host name "bd" to address', [f"grep -H -nwF bd {FILES}"]),
        (Category.DEPENDENCY_REFUSED, "connect ECONNREFUSED 127.0.0.1:6379", [f"grep -H -nwF 127.0.0.1 {FILES}"]),
        (
            Category.AUTH_FAILED,
            "Access denied",
            [rf"""grep -H -noiE '\w*(passw|pwd|secret|token)\w*"? *[:=]' {FILES}"""],
        ),
        (Category.OOM_KILLED, "killed", [f"grep -H -nE 'mem_limit|memory' {FILES}"]),
        (
            Category.VOLUME_MOUNT,
            "Permission denied: '/uploads/a'",
            ["ls -ldn /srv/shop/uploads", "chown -R 1000 /srv/shop/uploads"],
        ),
        (Category.VOLUME_MOUNT, "Is a directory: '/etc/shop.ini'", ["ls -ldn /srv/shop/shop.ini"]),
        (Category.DISK_FULL, "No space left on device", ["df -h /srv/shop/uploads"]),
        (Category.CONTAINER_EXITED, "exit code 1", []),
    ],
)
def test_the_first_step_shows_the_place_of_the_cause(category: Category, said: str, expected: list[str]) -> None:
    assert commands(category, said) == expected


def test_no_place_is_shown_where_the_host_is_right_or_nothing_is_known() -> None:
    assert commands(Category.DEPENDENCY_REFUSED, "connect to db:5432 refused") == []
    assert commands(Category.DNS_FAILURE, "name does not resolve") == []
    assert commands(Category.OOM_KILLED, "killed", replace(PLACE, declared=None)) == []
    assert commands(Category.AUTH_FAILED, "denied", FilePlace()) == []


@pytest.mark.parametrize(
    ("said", "host"),
    [
        ('web ended with exit code 1; it said "Error: getaddrinfo ENOTFOUND chache"', "chache"),
        ("Can't connect to MySQL server on 'db' (111)", "db"),
        ('host not found in upstream "front:80" in /etc/nginx/nginx.conf:7', "front"),
        ("dial tcp: lookup db on 127.0.0.11:53: no such host", "db"),
        ("failed to connect to server [mongo:27017] on first connect", "mongo"),
        ("Failed to connect to the API", ""),
        ("socket.gaierror: [Errno -2] Name does not resolve", ""),
    ],
)
def test_the_host_that_was_not_found_is_named(said: str, host: str) -> None:
    assert named_host(said) == host


def test_the_usual_steps_follow() -> None:
    steps = manual_steps(
        VERDICT, service="web", project="shop", environment="shop", message="lookup bd on 127.0.0.11:53", place=PLACE
    )
    assert steps[0].startswith("Correct the host's name, a host of this application is one of db, web: grep")
    assert "roas start shop" in steps[-2]
