"""Propose an environment for an application: probes, limits, dependencies, jobs, secrets and health checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.adoption.logins import LoginProbe, login_probe
from core.adoption.recognise import Recognised, recognise
from models.adoption import AdoptionFacts, Program, Proposal, ServiceProposal, ServiceTraits, UsedVariable
from models.compose import Application, ServiceDeclaration
from models.environments import (
    AmqpProbe,
    CertificateProbe,
    DependencySpec,
    HttpProbe,
    Limits,
    Probe,
    RedisProbe,
    ServiceSpec,
    SmtpProbe,
    SqlProbe,
    TcpProbe,
)
from models.metrics import DependencyType, HealthImpact

_HTTPS = 443
_MAIL_PORTS = frozenset({25, 587, 1025, 2525})
_USABLE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""Compose also takes capital letters and dots in the name of a service; an environment does not."""
_LIMITS = Limits(cpu_percent=90, memory_percent=90)
_ANSWERS_WITHIN_MS = 1000.0


@dataclass(frozen=True, slots=True)
class _Logins:
    """The names of all secrets, and the probe with a login that a service can have."""

    secrets: frozenset[str]
    probe: LoginProbe | None


def propose(facts: AdoptionFacts, programs: Sequence[Program]) -> Proposal:
    """Propose what the Compose files do not say; every part of it is usable as it stands, without a question."""
    application = facts.application
    found = {
        name: recognise(service, facts.traits.get(name, ServiceTraits()), programs)
        for name, service in application.services.items()
    }
    variables = {one.name: one for one in facts.variables}
    logins = {
        name: login_probe(one.program, facts.traits.get(name, ServiceTraits()), variables)
        for name, one in found.items()
        if one is not None
    }
    # A variable that a password comes from is a secret whatever its name says.
    needed = {one.secret.name: one.secret for one in logins.values() if one is not None and one.secret is not None}
    variables |= needed
    secrets = tuple(one for one in variables.values() if one.is_secret and (one.is_set or not one.has_default))
    names = frozenset(one.name for one in secrets)
    dependencies = _dependencies(application, facts.traits)
    services = tuple(
        _service(application.services[name], found, facts, dependencies[name], _Logins(names, logins.get(name)))
        for name in sorted(application.services)
    )
    return Proposal(
        project=application.project,
        services=services,
        secrets=secrets,
        variables=tuple(
            one.name for one in variables.values() if one.is_set and not one.is_secret and not one.has_default
        ),
        remarks=tuple(_remarks(facts, secrets)),
    )


def _remarks(facts: AdoptionFacts, secrets: Iterable[UsedVariable]) -> Iterator[str]:
    if facts.left_out:
        listed = ", ".join(facts.left_out)
        yield f"left out, because their profiles are off: {listed}; COMPOSE_PROFILES=NAME roas init reads them too"
    for secret in secrets:
        if not secret.is_set:
            yield f"secret {secret.name} has no value now: set the variable, or give a file under secrets"


def _service(
    declared: ServiceDeclaration,
    found: Mapping[str, Recognised | None],
    facts: AdoptionFacts,
    dependencies: Mapping[str, str],
    logins: _Logins,
) -> ServiceProposal:
    traits, recognised = facts.traits.get(declared.name, ServiceTraits()), found[declared.name]
    usable = _USABLE_NAME.fullmatch(declared.name) is not None
    program = None if recognised is None else recognised.program
    by_image = declared.image in facts.images_with_check or traits.image_checked
    checked = declared.checked or (declared.healthcheck is None and by_image)
    is_job = _is_job(declared, traits, program)
    probe, reason = (None, "") if is_job else _probe(traits, program, logins)
    return ServiceProposal(
        service=declared.name,
        spec=_spec(probe, program, found, dependencies, is_job=is_job) if usable else ServiceSpec(),
        program="" if program is None else program.name,
        recognised_by="" if recognised is None else recognised.by,
        probe_reason=reason,
        is_job=is_job,
        checked=checked,
        health_check=() if checked or is_job else _health_check(program, probe),
        dependencies=dict(dependencies),
        remarks=tuple(_remarks_on(declared, traits, program, probe, is_job=is_job)),
    )


def _spec(
    probe: Probe | None,
    program: Program | None,
    found: Mapping[str, Recognised | None],
    dependencies: Iterable[str],
    *,
    is_job: bool,
) -> ServiceSpec:
    """The settings of a service; only what differs from the defaults is given, so that only that is written."""
    given: dict[str, Any] = {}
    if probe is not None:
        given["probe"] = probe
    if is_job:
        given["stabilisation_seconds"] = 0
    else:
        given["limits"] = _limits(program, probe)
    observes = program is not None and program.observes
    if needed := tuple(_dependency(other, found.get(other), observes=observes) for other in dependencies):
        given["dependencies"] = needed
    if observes:
        given["required"] = False
    if program is not None and program.outside_logins and not is_job:
        given["outside_logins"] = True
    return ServiceSpec(**given)


def _dependency(other: str, recognised: Recognised | None, *, observes: bool) -> DependencySpec:
    """A service that only observes another, or sends to what observes, goes on without it."""
    if observes or (recognised is not None and recognised.program.observes):
        return DependencySpec(service=other, type=DependencyType.OPTIONAL, impact=HealthImpact.LOW)
    return DependencySpec(service=other)


def _is_job(declared: ServiceDeclaration, traits: ServiceTraits, program: Program | None) -> bool:
    if declared.awaited:
        return True
    says_so = traits.never_restarted or declared.restart == "on-failure"
    if not (declared.one_shot and says_so) or traits.ports:
        return False
    # Never restarted, a server is still no job, but another command in its image is: a dump of a database.
    runs_other = bool(traits.programs) and program is not None and not {*program.commands} & {*traits.programs}
    return program is None or not program.server or (runs_other and not program.outside_logins)


def _probe(traits: ServiceTraits, program: Program | None, logins: _Logins) -> tuple[Probe | None, str]:
    """A probe that succeeds while the service works, and the reason for it; None where nothing is known to ask."""
    asked = traits.checked
    if logins.probe is not None:
        return logins.probe.probe, logins.probe.reason
    if program is not None and program.probe is not None:
        if program.certificate and _HTTPS in traits.ports:
            return CertificateProbe(kind="certificate", port=_HTTPS), f"{program.name} serves port {_HTTPS}"
        if isinstance(program.probe, RedisProbe):
            return _redis_probe(program.probe, traits, program, logins.secrets)
        if isinstance(program.probe, TcpProbe) and asked is not None:
            return HttpProbe(kind="http", port=asked.port, path=asked.path), "its health check asks that address"
        if isinstance(program.probe, TcpProbe) and traits.ports and program.probe.port not in traits.ports:
            return TcpProbe(kind="tcp", port=traits.ports[0]), f"{program.name} listens there"
        if isinstance(program.probe, SmtpProbe) and (mail := [one for one in traits.ports if one in _MAIL_PORTS]):
            return SmtpProbe(kind="smtp", port=mail[0]), f"{program.name} takes mail there"
        return program.probe, f"it is {program.name}"
    if asked is not None:
        return HttpProbe(kind="http", port=asked.port, path=asked.path), "its health check asks that address"
    if traits.ports:
        return TcpProbe(kind="tcp", port=traits.ports[0]), "it listens there"
    return None, ""


def _redis_probe(
    probe: RedisProbe, traits: ServiceTraits, program: Program, secrets: frozenset[str]
) -> tuple[Probe, str]:
    """With its password where that comes from a secret, without where it has none, else only its open port."""
    wanted = (*program.password_variables, *filter(None, (program.password_option,)))
    used = [traits.passwords[one] for one in wanted if one in traits.passwords]
    if not used:
        return probe, f"it is {program.name}"
    if used[0] in secrets:
        return probe.model_copy(update={"password_secret": used[0]}), f"it is {program.name} with a password"
    return TcpProbe(kind="tcp", port=probe.port), "its password comes from no variable, so it cannot be asked more"


def _limits(program: Program | None, probe: Probe | None) -> Limits:
    if program is not None:
        limits = program.limits
        timed = isinstance(probe, HttpProbe | TcpProbe | RedisProbe | SqlProbe | AmqpProbe | SmtpProbe)
        return limits if timed else limits.model_copy(update={"response_time_ms": None})
    if isinstance(probe, HttpProbe | TcpProbe):
        return _LIMITS.model_copy(update={"response_time_ms": _ANSWERS_WITHIN_MS})
    return _LIMITS


def _health_check(program: Program | None, probe: Probe | None) -> tuple[str, ...]:
    if program is None:
        return ()
    if program.health_check:
        return program.health_check
    if program.port_check and isinstance(probe, HttpProbe | TcpProbe):
        return tuple(word.replace("PORT", str(probe.port)) for word in program.port_check)
    return ()


def _remarks_on(
    declared: ServiceDeclaration,
    traits: ServiceTraits,
    program: Program | None,
    probe: Probe | None,
    *,
    is_job: bool,
) -> Iterator[str]:
    if _USABLE_NAME.fullmatch(declared.name) is None:
        yield "its name has capital letters or dots, so the environment cannot name it and its defaults count"
    if declared.one_shot and not is_job:
        yield "nothing says that it stays up, so exit code 0 counts as done: write `restart: unless-stopped` if it does"
    if isinstance(probe, TcpProbe) and (program is None or program.probe is None):
        yield f"if it has a health address, probe that: {{kind: http, port: {probe.port}, path: /health}}"
    literals = sorted(name for name, variable in traits.passwords.items() if variable is None)
    if literals:
        yield f"the Compose file holds the value of {', '.join(literals)}: a variable or a secret keeps it out of it"
    if program is not None and program.login_probe is not None and not isinstance(probe, type(program.login_probe)):
        offered = {one.password for one in program.logins} & {*literals}
        if offered:
            yield (f"with {min(offered)} in a variable that .env sets, `roas init` can propose a probe that logs in")


def _dependencies(application: Application, traits: Mapping[str, ServiceTraits]) -> dict[str, dict[str, str]]:
    """The services that each one names in its variables, beyond depends_on, by that variable.

    One that would close a circle is left out: an address to call back is no need.
    """
    needs = {name: set(service.depends_on) for name, service in application.services.items()}
    found: dict[str, dict[str, str]] = {name: {} for name in application.services}
    for name in sorted(application.services):
        for other, variable in sorted(traits.get(name, ServiceTraits()).hosts.items()):
            known = other in application.services and other != name and other not in needs[name]
            if known and _USABLE_NAME.fullmatch(other) and not _reaches(needs, other, name):
                needs[name].add(other)
                found[name][other] = variable
    return found


def _reaches(needs: Mapping[str, set[str]], start: str, goal: str) -> bool:
    left, seen = [start], set()
    while left:
        at = left.pop()
        if at == goal:
            return True
        if at not in seen:
            seen.add(at)
            left += needs.get(at, ())
    return False
