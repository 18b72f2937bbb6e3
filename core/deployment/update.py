"""Limit an update to some services, and decide which images it does not take because they failed before."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from core.common.dependencies import reachable
from core.deployment.images import build_key
from core.deployment.plan import needs_in
from core.deployment.release import Document
from models.compose import Application, Plan, PlannedAction, PlannedService
from models.failures import BadInputError
from models.hooks import Hook
from models.operations import Operation, OperationStatus
from models.records import Release

_LEFT = "it is not part of this update"

_OF_INPUTS = frozenset({"StartFailedError", "ValidationFailedError"})
"""Failures that come again with the same files and images; what others came of may be over by the next update."""


def update_scope(application: Application, planned: Plan, services: Sequence[str]) -> frozenset[str]:
    """Return the services that an update of these services changes: they, and those that have to follow them.

    Raises:
        BadInputError: A service does not exist, or depends on another that would have to be replaced first.
    """
    unknown = sorted(set(services) - set(application.services))
    if unknown:
        raise BadInputError(
            f"{', '.join(unknown)} is not a service of {application.project};",
            advice=f"it has: {', '.join(application.services)}.",
        )
    scope, before = set(services), set[str]()
    while scope != before:
        before = set(scope)
        for name, declaration in application.services.items():
            follows = [other for other, needed in declaration.depends_on.items() if needed.restart]
            scope |= {name} if before & {*declaration.inside_of, *follows} else set()
    needs = needs_in(application)
    for name in sorted(scope):
        for other in reachable(name, needs):
            line = planned.service(other)
            if other not in scope and line.action in (PlannedAction.RECREATE, PlannedAction.CREATE):
                raise BadInputError(
                    f"{name} depends on {other}, which would have to be replaced first: {line.because};",
                    advice=f"name {other} too, or update all services.",
                )
    return frozenset(scope)


def narrow_plan(planned: Plan, scope: Collection[str]) -> Plan:
    """Return the plan with the services outside of the scope left as they are."""
    lines = [
        line
        if line.service in scope
        else PlannedService(service=line.service, action=PlannedAction.KEEP, because=_LEFT, wave=line.wave)
        for line in planned.services
    ]
    notes = tuple(note for note in planned.release_notes if note.service in scope)
    changes = any(line.action is not PlannedAction.KEEP for line in lines)
    hooks = planned.hooks if changes else ()
    return replace(planned, services=tuple(lines), release_notes=notes, hooks=hooks)


def part_of(application: Application, scope: Collection[str]) -> Application:
    """Return the application with the services of the scope alone, which then depend on each other only."""
    return replace(
        application,
        services={
            name: replace(
                declaration,
                depends_on={other: needed for other, needed in declaration.depends_on.items() if other in scope},
            )
            for name, declaration in application.services.items()
            if name in scope
        },
    )


def partial_template(template: Document, last: Release | None, unchanged_services: Iterable[str]) -> Document:
    """Return the configuration that runs after an update of some services.

    `unchanged_services` are as the last release has them.
    """
    if last is None:
        return template
    whole, before = copy.deepcopy(template), last.compose.get("services") or {}
    for name in unchanged_services:
        if name in before:
            whole["services"][name] = copy.deepcopy(before[name])
    return whole


def refused_images(failed: Sequence[Release], environment: str) -> dict[str, str]:
    """Return why an update does not take an image, by digest; for one that was built, by id and by how it was built.

    `failed` are the releases that did not become proven.
    """
    reasons: dict[str, str] = {}
    for release in failed:
        for service, digest in release.digests.items():
            key = bare_digest(digest)
            brief = key.removeprefix("sha256:")[:12]
            why = (
                f"image {brief} is held back, because {service} failed with it in {release.deployment_id}; "
                f"`roas update --lift {brief} {environment}` lets an update take it"
            )
            built = release.files.get(build_key(service)) if key == digest else None
            for image_key in (key, built):
                if image_key is not None:
                    reasons.setdefault(image_key, why)
    return reasons


def last_failure_with(operations: Sequence[Operation], inputs: str) -> Operation | None:
    """Return the last attempt with exactly these inputs, if it failed of them; `operations` newest first."""
    last = next((operation for operation in operations if inputs and operation.record.inputs == inputs), None)
    return last if last is not None and _has_failed_of_inputs(last) else None


def last_refusal(operations: Sequence[Operation], reason: str) -> Operation | None:
    """Return the last operation, if it is an update that validation refused for this reason."""
    last = operations[0] if operations else None
    same = last is not None and last.kind == "update" and last.record.reason == reason
    return last if same and last is not None and _has_failed_of_inputs(last) else None


def may_be_unchanged(operations: Sequence[Operation]) -> bool:
    """Whether an update may be one that failed before; only then it is worth while to look at its inputs."""
    return any(_has_failed_of_inputs(operation) for operation in operations)


def not_tried_again(failed: Operation) -> str:
    """Say why a schedule does not try an update again that failed with the same inputs."""
    return (
        f"Nothing was updated: {failed.environment} is unchanged since {failed.deployment_id} failed on "
        f"{failed.started_at:%Y-%m-%d %H:%M} UTC ({failed.record.reason}). Correct it, or try it again: "
        f"roas update {failed.environment}"
    )


def _has_failed_of_inputs(operation: Operation) -> bool:
    return operation.status is OperationStatus.FAILED and operation.record.error in _OF_INPUTS


def to_blame(tried: Mapping[str, str], before: Mapping[str, str] | None, failed: str | None) -> tuple[str, ...]:
    """Return the services whose new images may have made an update fail.

    `tried` and `before` are the image ids by service; the service that `failed` is blamed alone if its image is new.
    """
    changed = tuple(sorted(name for name, image in tried.items() if before is None or before.get(name) != image))
    return (failed,) if failed in changed else changed


def hook_images(
    application: Application, everything: Application | None, failed: Hook | None, changed: Sequence[str]
) -> tuple[str, ...]:
    """Return the services whose new images a failed hook stands for: those that share its image, otherwise all changed.

    `everything` has the services of all profiles, None where no one-off container was to run.
    """
    if failed is None or failed.concerns is None or everything is None:
        return tuple(changed)
    declaration = everything.services.get(failed.concerns)
    image = declaration.image if declaration is not None else ""
    return tuple(name for name in changed if application.services[name].image == image) or tuple(changed)


def bare_digest(reference: str) -> str:
    """The digest or id of an image, without its repository."""
    return reference.rpartition("@")[2]
