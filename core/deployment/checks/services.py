"""Check the dependencies, images and health checks of services."""

from __future__ import annotations

import re
from collections.abc import Iterator

from core.deployment.checks.findings import (
    CRITICAL,
    WARNING,
    dotted,
    found,
    found_or_passed,
    passed,
    version_numbers,
)
from core.deployment.plan import cycle, dangling
from models.compose import Application, DependencyCondition, HealthcheckDeclaration, ServiceDeclaration
from models.containers import EngineInfo
from models.validation import Check, CheckSeverity
from models.validation_facts import Facts, ImageWanted, Trouble

_START_INTERVAL_ENGINE = (25, 0)


def check_dependencies(application: Application) -> Iterator[Check]:
    """Check that all dependencies are declared and have no cycle."""
    findings = [
        found(
            "dependencies",
            CRITICAL,
            f"{name} depends on {other}, which is not part of the application.",
            f"Declare {other}, turn its profile on, or mark the dependency required: false.",
            name,
        )
        for name, other in dangling(application)
    ]
    circle = cycle(application)
    if circle:
        findings.append(
            found(
                "dependencies",
                CRITICAL,
                f"Services depend on each other in a circle: {' -> '.join(circle)}.",
                "Take one depends_on out of the circle.",
            )
        )
    findings += [
        found(
            "dependencies",
            WARNING,
            f"{name} waits until {other} has finished, but {other} is started again whenever it ends "
            f"(restart: {application.services[other].restart}).",
            f"Set restart of {other} to no or on-failure.",
            name,
        )
        for name, declaration in application.services.items()
        for other, needed in declaration.depends_on.items()
        if needed.condition is DependencyCondition.COMPLETED
        and other in application.services
        and application.services[other].restarts
    ]
    yield from found_or_passed("dependencies", findings, "All dependencies are declared and none goes in a circle.")


def check_images(facts: Facts) -> Iterator[Check]:
    """Check that each image is present, or can be built or pulled."""
    platforms = {} if isinstance(facts.declared, Trouble) else facts.declared.services
    for image in facts.images:
        declaration = platforms.get(image.service)
        yield _judge_image(image, facts.engine, declaration.platform if declaration else None)


def _judge_image(image: ImageWanted, engine: EngineInfo | Trouble, wanted: str | None) -> Check:
    name, reference = "image", image.reference
    if image.held is None:
        if image.buildable:
            if image.build_problem is not None:
                fix = "Correct build in the Compose file, or make that file."
                finding = f"{image.service} cannot be built: {image.build_problem}."
                return found(name, CRITICAL, finding, fix, image.service)
            return passed(name, f"{reference} will be built.", image.service)
        if image.unavailable is not None:
            return found(
                name,
                CRITICAL,
                f"Image {reference} of {image.service} is not here and cannot be had: {image.unavailable.rstrip('.')}.",
                "Check its name and tag and the way to its registry, or load it with `docker load`.",
                image.service,
            )
        return passed(name, f"{reference} will be fetched.", image.service)
    if wanted is not None and image.held.platform and not f"{image.held.platform}/".startswith(f"{wanted}/"):
        return found(
            name,
            WARNING,
            f"Image {reference} of {image.service} is here for {image.held.platform}; the Compose file wants {wanted}.",
            f"Fetch it: docker pull --platform {wanted} {reference}",
            image.service,
        )
    built_for, runs = image.held.platform, "" if isinstance(engine, Trouble) else _platform(engine.architecture)
    if built_for and runs and not built_for.startswith(f"linux/{runs}"):
        return found(
            name,
            WARNING,
            f"Image {reference} of {image.service} is made for {built_for}; the engine runs linux/{runs}.",
            "Use an image for this platform; another one runs slowly or not at all.",
            image.service,
        )
    return passed(name, f"{reference} is here ({image.held.image_id.removeprefix('sha256:')[:12]}).", image.service)


def check_healthchecks(facts: Facts, application: Application) -> Iterator[Check]:
    """Check that each service can be proven healthy."""
    images = {image.service: image for image in facts.images}
    for service in application.services.values():
        findings = list(_judge_healthcheck(facts, application, service, images.get(service.name)))
        yield from findings or [passed("health_check", f"{service.name} can be proven.", service.name)]


def _judge_healthcheck(
    facts: Facts, application: Application, service: ServiceDeclaration, image: ImageWanted | None
) -> Iterator[Check]:
    def finding(severity: CheckSeverity, what: str, fix: str) -> Check:
        return found("health_check", severity, what, fix, service.name)

    name, check = service.name, service.healthcheck
    disabled = check is not None and check.disabled
    # An image that is not here yet may bring a check of its own.
    by_image = not disabled and (image is None or image.held is None or image.held.checked)
    if not service.checked and not by_image:
        waiting = [
            other.name
            for other in application.services.values()
            if name in other.depends_on and other.depends_on[name].condition is DependencyCondition.HEALTHY
        ]
        if waiting:
            yield finding(
                CRITICAL,
                f"{', '.join(waiting)} waits until {name} is healthy, but {name} has no health check.",
                f"Give {name} a healthcheck, or wait for service_started.",
            )
        elif not service.one_shot and name not in facts.probed:
            yield finding(
                WARNING,
                f"{name} has neither a health check nor a probe, so nothing can prove that it works.",
                f"Give it a healthcheck in the Compose file or a probe in environment {facts.environment}.",
            )
    if check is None or disabled:
        return
    if check.test and check.test[0] not in ("CMD", "CMD-SHELL"):
        yield finding(
            CRITICAL,
            f"The health check of {name} begins with {check.test[0]!r}, so the engine never runs it.",
            "Begin it with CMD (a program and its arguments) or CMD-SHELL (one shell line).",
        )
    if image is not None:
        for program in image.missing_programs:
            yield finding(
                WARNING,
                f"The health check of {name} calls {program}, which image {image.reference} does not have.",
                f"Install {program} in the image, or check with something it has.",
            )
    yield from (finding(WARNING, what, fix) for what, fix in _traps(name, check))
    engine = facts.engine
    if (
        check.start_interval
        and not isinstance(engine, Trouble)
        and version_numbers(engine.version) < _START_INTERVAL_ENGINE
    ):
        yield finding(
            WARNING,
            f"{name} uses start_interval, which engine {engine.version} does not know.",
            f"Upgrade the engine to {dotted(_START_INTERVAL_ENGINE)} or later.",
        )


def _traps(name: str, check: HealthcheckDeclaration) -> Iterator[tuple[str, str]]:
    """Health checks that look right and are not."""
    if check.start_interval and not check.start_period:
        yield (
            f"start_interval of {name} has no effect without start_period.",
            "Add a start_period as long as a slow start takes.",
        )
    words = " ".join(check.test or ())
    if re.search(r"redis-cli\b.*\bping\b", words, re.IGNORECASE) and not re.search(
        r"PONG|redis-cli\s(.*\s)?-e\b", words
    ):
        yield (
            f"The health check of {name} passes while Redis loads or wants a password: redis-cli exits 0 then.",
            "Add -e to redis-cli, or check that its answer is PONG.",
        )
    if re.search(r"(^CMD(-SHELL)?\s+|\|\|\s*|;\s*)(true|exit 0|:)\s*;?\s*$", words):
        yield (
            f"The health check of {name} passes whatever happens: it ends with what always succeeds.",
            "Let the check fail when the service does not serve (|| exit 1).",
        )
    if re.search(r"\bmysqladmin\b.*\bping\b", words):
        yield (
            f"The health check of {name} passes while every login is refused: mysqladmin ping exits 0 then.",
            "Ask something that needs a login, such as mysqladmin status.",
        )
    if re.search(r"\bcurl\b", words) and not re.search(r"\s(-\w*f\w*|--fail\S*)(\s|$)", words):
        yield (
            f"The health check of {name} passes on any answer, even 500: curl without -f exits 0 then.",
            "Add -f to curl.",
        )
    if check.interval and check.timeout and check.timeout > 5 * check.interval:
        yield (
            f"One health check of {name} may hang for {check.timeout.total_seconds():g} s, many times its interval.",
            "Shorten its timeout.",
        )


def _platform(architecture: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(architecture, architecture)
