"""Check the dependencies, images and health checks of services."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from core.deployment.checks.findings import INFO, Findings, dot_version, version_numbers
from core.deployment.plan import cycle, dangling_dependencies
from models.compose import Application, DependencyCondition, HealthcheckDeclaration, ServiceDeclaration
from models.containers import EngineInfo
from models.validation import Check, Facts, ImageWanted, Trouble

_START_INTERVAL_ENGINE = (25, 0)
_PLATFORMS = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def check_dependencies(facts: Facts) -> Iterable[Check]:
    """Check that all dependencies are declared and have no cycle."""
    findings, application = Findings("dependencies"), facts.application
    services = application.services
    for name, other in dangling_dependencies(application):
        fix = f"Declare {other}, turn its profile on, or mark the dependency required: false."
        findings.critical(f"{name} depends on {other}, which is not part of the application.", fix, name)
    if circle := cycle(application):
        finding = f"Services depend on each other in a circle: {' -> '.join(circle)}."
        findings.critical(finding, "Take one depends_on out of the circle.")
    for name, declaration in services.items():
        for other, needed in declaration.depends_on.items():
            if needed.condition is DependencyCondition.COMPLETED and other in services and services[other].restarts:
                again = f"{other} is started again whenever it ends (restart: {services[other].restart})"
                finding = f"{name} waits until {other} has finished, but {again}."
                findings.warn(finding, f"Set restart of {other} to no or on-failure.", name)
    return findings.or_passed("All dependencies are declared and none goes in a circle.")


def check_hooks(facts: Facts) -> Iterable[Check]:
    """Check that the services exist which the hooks of an update name."""
    findings = Findings("hooks")
    for problem in facts.hook_problems.values():
        fix = f"Correct hooks of {facts.environment}; `docker compose --profile '*' config --services` lists services."
        findings.critical(f"{problem[:1].upper()}{problem[1:]}.", fix)
    return findings


def check_needs(facts: Facts) -> Iterable[Check]:
    """Check that environments of this host have the services that are needed of them."""
    findings = Findings("needs")
    for need, services in facts.missing_needs.items():
        environment, _, service = need.partition("/")
        finding = f"{facts.environment} needs {need}, but {environment} has no service {service}: it has {services}."
        findings.critical(finding, f"Correct needs of {facts.environment}.")
    return findings


def check_left_aside(facts: Facts) -> Iterable[Check]:
    """Name what the Compose files say and nothing here does."""
    findings = Findings("compose_files")
    for name, declaration in facts.application.services.items():
        for words in declaration.left_aside:
            findings.add(INFO, f"{name}: {words}.", "Nothing, if that is right.", name)
    return findings


def check_images(facts: Facts) -> Iterable[Check]:
    """Check that each image is present, or can be built or pulled."""
    for image in facts.images:
        declaration = facts.application.services.get(image.service)
        yield from _judge_image(image, facts.engine, declaration.platform if declaration else None)


def _judge_image(image: ImageWanted, engine: EngineInfo | Trouble, platform: str | None) -> Iterable[Check]:
    findings, reference, service, local_image = Findings("image"), image.reference, image.service, image.held
    if local_image is None and image.buildable:
        if image.build_problem is not None:
            fix = "Correct build in the Compose file, or make that file."
            findings.critical(f"{service} cannot be built: {image.build_problem}.", fix, service)
        return findings.or_passed(f"{reference} will be built.", service)
    if local_image is None:
        if image.unavailable is not None:
            fix = _fix_of_image(image)
            why = f"was found neither locally nor in the registry: {image.unavailable.rstrip('.')}"
            findings.critical(f"Image {reference} of {service} {why}.", fix, service)
        return findings.or_passed(f"{reference} will be fetched.", service)
    runs = "" if isinstance(engine, Trouble) else _PLATFORMS.get(engine.architecture, engine.architecture)
    if platform is not None and local_image.platform and not f"{local_image.platform}/".startswith(f"{platform}/"):
        finding = (
            f"Image {reference} of {service} is here for {local_image.platform}; the Compose file wants {platform}."
        )
        findings.warn(finding, f"Fetch it: docker pull --platform {platform} {reference}", service)
    elif local_image.platform and runs and not local_image.platform.startswith(f"linux/{runs}"):
        finding = f"Image {reference} of {service} is made for {local_image.platform}; the engine runs linux/{runs}."
        findings.warn(finding, "Use an image for this platform; another one runs slowly or not at all.", service)
    return findings.or_passed(f"{reference} is here ({local_image.image_id.removeprefix('sha256:')[:12]}).", service)


def _fix_of_image(image: ImageWanted) -> str:
    if image.similar:
        repository = image.similar.rpartition(":")[0]
        return f"Correct it if you meant {image.similar}, which is here: docker image ls {shlex.quote(repository)}"
    return (
        "Check its name and tag and the way to its registry, or load the image from a file; what is here: "
        "docker image ls"
    )


def check_healthchecks(facts: Facts) -> Iterable[Check]:
    """Check that each service can be proven healthy."""
    application, images = facts.application, {image.service: image for image in facts.images}
    for service in application.services.values():
        findings = _judge_healthcheck(facts, application, service, images.get(service.name))
        yield from findings.or_passed(f"{service.name} can be proven.", service.name)


def _judge_healthcheck(
    facts: Facts, application: Application, service: ServiceDeclaration, image: ImageWanted | None
) -> Findings:
    findings, name, check, engine = Findings("health_check"), service.name, service.healthcheck, facts.engine
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
            finding = f"{', '.join(waiting)} waits until {name} is healthy, but {name} has no health check."
            findings.critical(finding, f"Give {name} a healthcheck, or wait for service_started.", name)
        elif not service.one_shot and name not in facts.probed:
            finding = f"{name} has neither a health check nor a probe, so nothing can prove that it works."
            fix = f"Give it a healthcheck in the Compose file or a probe in environment {facts.environment}."
            findings.warn(finding, fix, name)
    if check is None or disabled:
        return findings
    if check.test and check.test[0] not in ("CMD", "CMD-SHELL"):
        finding = f"The health check of {name} begins with {check.test[0]!r}, so the engine never runs it."
        fix = "Begin it with CMD (a program and its arguments) or CMD-SHELL (one shell line)."
        findings.critical(finding, fix, name)
    if image is not None:
        for program in image.missing_programs:
            finding = f"The health check of {name} calls {program}, which image {image.reference} does not have."
            findings.warn(finding, f"Install {program} in the image, or check with something it has.", name)
    for finding, fix in _traps(name, check):
        findings.warn(finding, fix, name)
    version = "" if isinstance(engine, Trouble) else engine.version
    if check.start_interval and version and version_numbers(version) < _START_INTERVAL_ENGINE:
        finding = f"{name} uses start_interval, which engine {version} does not know."
        findings.warn(finding, f"Upgrade the engine to {dot_version(_START_INTERVAL_ENGINE)} or later.", name)
    return findings


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
            f"The health check of {name} can never fail: its last command always succeeds.",
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


def check_probes(facts: Facts) -> Iterable[Check]:
    """Check that each probe can be asked from this machine."""
    findings = Findings("probe")
    for name, why in sorted(facts.unasked_probes.items()):
        fix = "Publish the port, or give it a health check in the Compose file or a command probe."
        findings.warn(f"The probe of {name} is not asked: {why}.", fix, name)
    return findings


CHECKS = (
    check_dependencies,
    check_hooks,
    check_needs,
    check_left_aside,
    check_images,
    check_healthchecks,
    check_probes,
)
