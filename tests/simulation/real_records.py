"""What is on record after a scenario, but for times, ids and names, so that two worlds can be compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from pydantic_core import to_jsonable_python

from adapters.stores import Stores
from models.operations import Operation
from tasks.deployment.services import inspect_application
from tasks.runtime.plain_tasks import without_task_runs
from tasks.runtime.project import load_project
from tasks.runtime.stores import open_stores
from tests.simulation.containers import KILLED, Version

Records = dict[str, list[dict[str, Any]]]
"""The rows of each kind, the oldest first."""

_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
_MOST = 500
_OF_RECOVERIES = (
    "strategy",
    "service",
    "success",
    "final_status",
    "attempt",
    "undone",
    "points",
    "manual_intervention_required",
)


@dataclass(frozen=True, slots=True)
class NotClaimed:
    """A field that is not compared, as its path; `*` stands for any part of it."""

    path: str
    reason: str


NOT_CLAIMED = (
    NotClaimed("operations.details.runner", "the process and the machine of each world are its own"),
    NotClaimed("operations.details.*critical_path", "which of the services that start side by side takes longest"),
    NotClaimed("errors.evidence.restart_count", "how often a program crashed until the engine was asked"),
    NotClaimed("operations.details.*bytes", "how large the data are that programs write"),
    NotClaimed("operations.details.plan.id", "it is a hash of the images' ids, which each world has of its own"),
)
"""What the simulator does not claim to be as on a real engine."""

_SECONDS = re.compile(r"(seconds|seconds_ago|waits\.[^.]+|held_up_by\.[^.]+(\.[^.]+)?)$")
"""Paths of durations: that they are there is compared, and not how long they are."""


def read_records(environment: str) -> Records:
    """All that the stores have of an environment; of services that act side by side, in the order of their names."""
    stores = open_stores()
    operations = sorted(stores.operations.history(environment=environment), key=lambda row: row.started_at)
    return {
        "operations": [_operation(stores, row) for row in operations],
        "releases": [
            _of(row, "images", "digests", "reason", "proven") for row in reversed(stores.releases.latest(environment))
        ],
        "errors": [
            _of(row, "text", "source", "verdict", "service", "count", "evidence", "deployment_id")
            | {"is_resolved": row.resolved_at is not None}
            for row in sorted(stores.errors.latest(environment, _MOST), key=lambda row: row.first_seen)
        ],
        "recoveries": [
            _of(row, *_OF_RECOVERIES) | {"steps": [_of(step, "name", "target", "ok", "detail") for step in row.steps]}
            for row in sorted(stores.recoveries.latest(environment, _BEGINNING, _MOST), key=lambda row: row.started_at)
        ],
        "tickets": [
            _of(row, "title", "state", "service", "steps", "tried", "affected_services")
            | {"history": [entry.what for entry in row.history]}
            for row in sorted(stores.tickets.find(environment=environment), key=lambda row: row.opened_at)
        ],
        "snapshots": [
            _of(row, "state", "reason", "problem") | {"parts": [_of(part, "name", "kind") for part in row.parts]}
            for row in sorted(stores.snapshots.list_for(environment), key=lambda row: row.begun_at)
        ],
    }


async def read_containers(environment: str) -> Records:
    """The containers that there are, as the product inspects them."""
    with without_task_runs():
        states = await inspect_application(await load_project(environment))
    names = ("name", "service", "state", "exit_code", "health", "image", "image_id", "restart_policy", "oom_killed")
    return {"containers": [_of(state, *names) for state in sorted(states, key=lambda state: state.name)]}


def _operation(stores: Stores, row: Operation) -> dict[str, Any]:
    changes = sorted(stores.progress.changes(row.deployment_id), key=lambda change: change.service)
    steps = sorted(stores.progress.steps(row.deployment_id), key=lambda step: (step.step, step.service or ""))
    return _of(row, "operation_type", "kind", "status", "details") | {
        "changes": [_of(change, "service", "previous_state", "new_state", "reason", "details") for change in changes],
        "steps": [_of(step, "step", "service", "detail") for step in steps],
    }


def _of(row: Any, *names: str) -> dict[str, Any]:
    return {name: to_jsonable_python(getattr(row, name)) for name in names}


_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00| UTC)?")
_DURATION = re.compile(r"\b\d+(\.\d+)?(?= ?(s|ms|min|seconds|minutes)\b)")
_NUMBERED = re.compile(r"\b([a-z]+-\d{8}-\d{6}|T-\d{6})-[0-9a-f]+")
_RESTARTS = re.compile(r"(?<=restarted )\d+ times?")
_BEGUN = ("created", "running")
"""States of a replaced container, which is started beside the operation that then looks at it."""
_CUT_OFF = re.compile(rf"exit code ({KILLED}|-1: .*\bexec\b.*)")
"""What a health check says that the end of its container cut off, or met: the engine could not run it there."""
_LONG_ID = re.compile(r"\b[0-9a-f]{12,64}\b")


def names_of_images(digests: Iterable[str], version: Version) -> dict[str, str]:
    """What both worlds call the image of a version, by what one of them calls it, also shortened."""
    name = f"<{version.service} {version.number}>"
    return {text: name for digest in digests for text in (digest, digest.removeprefix("sha256:")[:12])}


class Normalizer:
    """Replaces what differs in any two runs. `names` maps texts of one world to those of both: images, folders."""

    def __init__(self, names: Mapping[str, str]) -> None:
        # The longest first, since one may contain another.
        self._names = sorted(names.items(), key=lambda pair: -len(pair[0]))
        self._ids: dict[str, str] = {}

    def apply(self, records: Records) -> Records:
        """The records without times, ids and names of one world, and without what is not claimed."""
        return {kind: [self._row(row, kind) for row in rows] for kind, rows in records.items()}

    def _row(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {
                self._text(str(key)): self._row(item, f"{path}.{key}")
                for key, item in value.items()
                if not _is_left_out(f"{path}.{key}")
            }
        if isinstance(value, list):
            rows = [self._row(item, path) for item in value]
            if path.endswith(".logs"):
                # How often a program crashed until the engine was asked depends on how fast it starts.
                return [row for row, _ in groupby(rows)]
            if path.endswith(".probe_outputs"):
                # As often it was checked, and the end of the container may have cut a check off.
                return sorted({row for row in rows if not _CUT_OFF.fullmatch(row)})
            return rows
        if path.endswith("changes.previous_state") and value in _BEGUN:
            return " or ".join(_BEGUN)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and _SECONDS.search(path):
            return "<n>"
        return value

    def _text(self, text: str) -> str:
        for name, common in self._names:
            text = text.replace(name, common)
        text = _STAMP.sub("<time>", text)
        text = _DURATION.sub("<n>", text)
        text = _RESTARTS.sub("<n> times", text)
        text = _NUMBERED.sub(self._number, text)
        return _LONG_ID.sub("<id>", text)

    def _number(self, match: re.Match[str]) -> str:
        return self._ids.setdefault(match[0], f"<{len(self._ids) + 1}>")


_PATTERNS = {row: re.compile(re.escape(row.path).replace(r"\*", ".*") + r"$") for row in NOT_CLAIMED}


def _is_left_out(path: str) -> bool:
    return any(pattern.match(path) for pattern in _PATTERNS.values())


def to_lines(records: Records) -> Sequence[str]:
    """Records as lines to be compared."""
    return json.dumps(records, indent=1, sort_keys=True, ensure_ascii=False).splitlines()
