"""Find the place where a person corrects a cause: the first steps of a ticket, with the command that shows it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from models.compose import MountKind, ServiceDeclaration
from models.errors import Category, Strategy, Verdict

_HOSTS = tuple(
    re.compile(f"(?i){expression}")
    for expression in (
        r"\b(?:host(?: ?name)?|lookup|resolv(?:e|ing)|upstream|to|server(?: at| on)?)\s+[\"'\[(`]+([a-z0-9_][\w.-]*)",
        r"\b(?:lookup|enotfound|eai_again|host)\s+([a-z0-9_][\w.-]*\w)",
        r"(?<![\w./-])([a-z][\w.-]*|\d+(?:\.\d+){3}):\d{2,5}\b(?![:.])",
    )
)
"""A host that programs could not look up or reach: in quotes, behind a word for it, or with a port."""

_NO_HOST = frozenset({"not", "name", "is", "was", "to", "from", "in"})
_DENIED = re.compile(r"(?i)denied|not writable|EACCES|not permitted")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlace:
    """What a person corrects: the files with the configuration, and what they declare of the service that failed.

    `services` are the names of all services, which are right as the name of a host.
    """

    files: Sequence[str] = ()
    services: Collection[str] = ()
    declared: ServiceDeclaration | None = None


UNKNOWN_PLACE = FilePlace()


def corrections(verdict: Verdict, message: str, place: FilePlace) -> tuple[str, ...]:
    """Return steps that show the place of a cause, as sentences with a command; none where it is not known.

    `message` is the sentence that shows the cause. A command of ours prints no value of a password.
    """
    category, of_login = verdict.category, verdict.strategy is Strategy.FIX_CREDENTIALS
    if category in (Category.DNS_FAILURE, Category.DEPENDENCY_REFUSED):
        host = named_host(message)
        if not host or host in place.services:
            return ()
        hint = f", a host of this application is one of {', '.join(sorted(place.services))}" if place.services else ""
        return _write_lines(f"Correct the host's name{hint}", f"-nwF {shlex.quote(host)}", place)
    if category is Category.AUTH_FAILED or (category is Category.REDIS_STATE and of_login):
        why = "Give both sides the same password, a database keeps that of its first start; where they are set"
        return _write_lines(why, r"""-noiE '\w*(passw|pwd|secret|token)\w*"? *[:=]'""", place)
    if place.declared is None:
        return ()
    if category is Category.OOM_KILLED and place.declared.memory_limit_bytes is not None:
        return _write_lines("Raise its memory limit, or let it use less", "-nE 'mem_limit|memory'", place)
    folders = _folders(place.declared, message)
    if not folders:
        return ()
    if category is Category.DISK_FULL:
        return (f"Make room on its disk, which may be one of its own: df -h {shlex.join(folders)}",)
    if category is Category.VOLUME_MOUNT:
        user = place.declared.user
        may = f", and whether its user {user} may use it" if user else ""
        looked = f"See that it is there, whose it is{may}: ls -ldn {shlex.join(folders)}"
        if len(folders) == 1 and re.fullmatch(r"\d+(:\d+)?", user) and _DENIED.search(message):
            return looked, f"Give it to that user: chown -R {user} {shlex.join(folders)}"
        return (looked,)
    return ()


def named_host(message: str) -> str:
    """Return the host that a message could not find or reach, by its name; empty where it names none."""
    hosts = (match[1] for expression in _HOSTS for match in expression.finditer(message))
    return next((host for host in hosts if host.lower() not in _NO_HOST), "")


def _write_lines(what: str, pattern: str, place: FilePlace) -> tuple[str, ...]:
    return (f"{what}: grep -H {pattern} {shlex.join(place.files)}",) if place.files else ()


def _folders(declared: ServiceDeclaration, message: str) -> list[str]:
    """Return what a service mounts of the host: what a message names, else all that it may write, else all."""
    mounts = [mount for mount in declared.mounts if mount.kind is MountKind.BIND]
    named = [mount for mount in mounts if mount.target in message or mount.source in message]
    writable = [mount for mount in mounts if not mount.read_only]
    return list(dict.fromkeys(mount.source for mount in named or writable or mounts))
