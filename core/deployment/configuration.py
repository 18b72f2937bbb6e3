"""Judge what a program itself says of its configuration, before it is reloaded, restarted or replaced."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import PurePosixPath

from core.common.safe_text import printable
from models.adoption import ConfigurationCheck
from models.compose import Plan, PlannedAction
from models.containers import ContainerState, replicas


class ReadAnew(StrEnum):
    """How a program comes to read its configuration anew.

    One that is reloaded reads what its container has mounted since it was started; one that is restarted what is
    mounted then, which is another file where an editor replaced it; one that is replaced also has another image.
    """

    RELOADED = "reloaded"
    RESTARTED = "restarted"
    REPLACED = "replaced"


FILE = "FILE"
"""Stands in a check for the configuration file that the program was started with."""

_OF_THE_PLACE = re.compile(r"(?i)read-only file system|permission denied|operation not permitted")
"""Where a check is run may forbid it what the program itself may do."""

_NO_FILE = re.compile(r"(?i)no such file")
_QUOTED_PATH = re.compile(r"""["'](/[^"']+)["']""")
_PATH = re.compile(r"""/[^\s"',:;()\[\]]+""")

_NO_PROGRAM = frozenset({126, 127})
_LONGEST = 300


def check_command(check: ConfigurationCheck, command: Sequence[str]) -> tuple[str, ...]:
    """The command that checks the configuration of a program; empty where it is not known which file that is.

    `command` is the one that the program was started with.
    """
    words = [part for argument in command for part in argument.split()]
    named = {
        after for word, after in itertools.pairwise(words) if word in check.options and not after.startswith("-")
    } | {word.removeprefix(f"{option}=") for word in words for option in check.options if word.startswith(f"{option}=")}
    if not named:
        return check.without_file
    if len(named) > 1 or not all(re.search(check.files, path) for path in named):
        return ()
    (file,) = named
    return tuple(word.replace(FILE, file) for word in check.with_file)


def refusal(
    check: ConfigurationCheck,
    exit_code: int,
    output: str,
    mounted: Collection[str] | None = None,
    *,
    in_its_networks: bool = False,
) -> str:
    """Why a program refuses its configuration, in its own words; empty where it does not, or that is not known.

    What other services answer, and what the place of the check forbids, says nothing of the configuration. Where a
    copy was asked, `mounted` are its mounts: what it lacks elsewhere may be made as the container starts. In its
    networks it finds the names that it needs.
    """
    text = printable(output).strip()
    if exit_code == 0 or exit_code in _NO_PROGRAM or not text or _OF_THE_PLACE.search(text):
        return ""
    says_nothing = check.unknown if in_its_networks else (*check.unknown, *check.unresolved)
    if any(re.search(pattern, text) for pattern in says_nothing):
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    text = "\n".join(lines)
    # What stands before it, such as the time, differs each time.
    matches = (match for pattern in check.reasons if (match := re.search(pattern, text, re.MULTILINE)))
    first = next(matches, None)
    why = lines[-1] if first is None else re.sub(r":?\n", ": ", _whole_lines(text, first))
    return "" if mounted is not None and _lacks_other_file(why, mounted) else why[:_LONGEST]


def _whole_lines(text: str, match: re.Match[str]) -> str:
    return text[match.start() : match.end()] + text[match.end() :].partition("\n")[0]


def _lacks_other_file(why: str, mounted: Collection[str]) -> bool:
    if _NO_FILE.search(why) is None:
        return False
    # The file that names it may stand there, too, and is not quoted.
    paths = _QUOTED_PATH.findall(why) or _PATH.findall(why)
    return not any(PurePosixPath(path).is_relative_to(mount) for path in paths for mount in mounted)


def to_check(
    planned: Plan, container_states: Sequence[ContainerState], hashes: Mapping[str, str], reloaded: Collection[str]
) -> dict[str, ReadAnew]:
    """The services that run and whose program will read its configuration anew by what is planned.

    `hashes` are the declared configuration hashes by service, and `reloaded` the proxies of what changes. A container
    that the file declares otherwise than it is cannot be copied to try it.
    """
    services: dict[str, ReadAnew] = {}
    for line in planned.services:
        containers = [container for container in replicas(container_states, line.service) if container.up]
        if not containers:
            continue
        if line.action is PlannedAction.RESTART:
            services[line.service] = ReadAnew.RESTARTED
        elif line.action is PlannedAction.RECREATE:
            if all(container.declared_hash == hashes.get(line.service) for container in containers):
                services[line.service] = ReadAnew.REPLACED
        elif line.service in reloaded:
            services[line.service] = ReadAnew.RELOADED
    return services
