"""Propose an environment for an application: probes, limits, dependencies, jobs, secrets and health checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.adoption.commands import says_job
from core.adoption.logins import LoginProbe, login_probe
from core.adoption.ports import Neighbours, PortEvidence, find_port, works_only
from core.adoption.recognise import Recognised, recognise
from core.common.dependencies import reachable
from models.adoption import AdoptionFacts, Program, Proposal, ServiceProposal, ServiceTraits, UsedVariable
from models.compose import Application, ServiceDeclaration
from models.environments import (
    AmqpProbe,
    CertificateProbe,
    CommandProbe,
    DependencySpec,
    HttpProbe,
    Limits,
    NetworkProbe,
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
_OF_CERTIFICATES = re.compile(r"(?i)cert|ssl|tls|letsencrypt|acme|\.pem$|\.crt$")
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
    recognitions = {
        name: recognise(service, _own_traits(service, facts), programs)
        for name, service in application.services.items()
    }
    variables = {variable.name: variable for variable in facts.variables}
    logins = {
        name: login_probe(recognised.program, facts.traits.get(name, ServiceTraits()), variables)
        for name, recognised in recognitions.items()
        if recognised is not None and recognised.serves and not recognised.by.startswith("port")
    }
    # A variable that a password comes from is a secret whatever its name says.
    needed = {
        login.secret.name: login.secret for login in logins.values() if login is not None and login.secret is not None
    }
    variables |= needed
    entries = variables.values()
    secrets = tuple(entry for entry in entries if entry.is_secret and (entry.is_set or not entry.has_default))
    names = frozenset(secret.name for secret in secrets)
    dependencies = _dependencies(application, facts.traits, recognitions)
    services = tuple(
        _service(application.services[name], recognitions, facts, dependencies[name], _Logins(names, logins.get(name)))
        for name in sorted(application.services)
    )
    return Proposal(
        project=application.project,
        services=services,
        secrets=secrets,
        variables=tuple(entry.name for entry in entries if entry.is_set and not (entry.is_secret or entry.has_default)),
        remarks=tuple(_remarks(facts, secrets)),
    )


def _remarks(facts: AdoptionFacts, secrets: Iterable[UsedVariable]) -> Iterator[str]:
    if facts.left_out:
        listed = ", ".join(facts.left_out)
        yield f"left out, because their profiles are off: {listed}; COMPOSE_PROFILES=NAME roas init reads them too"
    for used, other in facts.needs.items():
        yield f"needs {other}, whose {used} it uses: leave it out of `needs` if it goes on without {other}"
    for secret in secrets:
        if not secret.is_set:
            yield f"secret {secret.name} has no value now: set the variable, or give a file under secrets"


def _service(
    declared: ServiceDeclaration,
    recognitions: Mapping[str, Recognised | None],
    facts: AdoptionFacts,
    dependencies: Mapping[str, str],
    logins: _Logins,
) -> ServiceProposal:
    traits, recognised = facts.traits.get(declared.name, ServiceTraits()), recognitions[declared.name]
    usable = _USABLE_NAME.fullmatch(declared.name) is not None
    program = recognised.program if recognised is not None and recognised.serves else None
    own_check = declared.healthcheck
    keeps_check = own_check is None or (own_check.test is None and not own_check.disabled)
    checked = declared.checked or (keeps_check and traits.image_checked)
    by_port = recognised is not None and recognised.by.startswith("port")
    around = _neighbours(declared, facts)
    works = works_only(declared, traits, recognised, around)
    is_job = _is_job(declared, traits, recognised, works=works)
    evidence = PortEvidence() if is_job else find_port(declared, traits, recognised, around)
    check = None if works else traits.checked
    probe, reason = (
        (None, "") if is_job else _probe(declared, replace(traits, checked=check), recognised, evidence, logins)
    )
    return ServiceProposal(
        service=declared.name,
        spec=_spec(probe, program, recognitions, dependencies, is_job=is_job) if usable else ServiceSpec(),
        program="" if program is None else program.name,
        recognised_by="" if recognised is None or program is None else recognised.by,
        probe_reason=reason,
        is_job=is_job,
        checked=checked,
        health_check=() if checked or is_job or by_port else _health_check(program, probe),
        dependencies=dict(dependencies),
        remarks=(
            *(() if probe or checked or is_job else (_need(traits, reason, works=works),)),
            *_remarks_on(declared, traits, program, probe, is_job=is_job),
        ),
    )


def revise_after_trial(proposal: ServiceProposal, failure: str, *, is_open: bool) -> ServiceProposal:
    """The proposal for a service that runs, whose probe was tried and failed: its open port where that answers, else no
    probe, since the first start would fail by it."""
    probe, settings = (
        proposal.spec.probe,
        {name: getattr(proposal.spec, name) for name in proposal.spec.model_fields_set},
    )
    if is_open and isinstance(probe, NetworkProbe):
        settings["probe"], instead = TcpProbe(kind="tcp", port=probe.port), "only its open port is asked"
    else:
        del settings["probe"]
        settings["limits"] = proposal.spec.limits.model_copy(update={"response_time_ms": None})
        instead = "none is proposed"
    kind = "none" if probe is None else probe.kind
    remark = f"a probe of kind {kind} was tried on what runs and failed, so {instead}: {failure}"
    return replace(proposal, spec=ServiceSpec(**settings), health_check=(), remarks=(*proposal.remarks, remark))


def _own_traits(declared: ServiceDeclaration, facts: AdoptionFacts) -> ServiceTraits:
    """The traits of a service without the ports that may be those of others in its network."""
    traits = facts.traits.get(declared.name, ServiceTraits())
    return replace(traits, ports=()) if _neighbours(declared, facts).is_shared else traits


def _neighbours(declared: ServiceDeclaration, facts: AdoptionFacts) -> Neighbours:
    """What the other services say about one: whose network it is in, and who runs its image."""
    services = facts.application.services
    owner = declared.network_mode.removeprefix("service:") if declared.network_mode.startswith("service:") else ""
    same_image = [
        facts.traits.get(service.name, ServiceTraits())
        for service in services.values()
        if _has_same_image(service, declared)
    ]
    inside = [
        service.name for service in services.values() if service.network_mode == f"service:{owner or declared.name}"
    ]
    traits = facts.traits.get(owner or declared.name, ServiceTraits())
    return Neighbours(
        network=traits.ports if inside else (),
        is_shared=bool(inside) or declared.network_mode.startswith("container:"),
        is_inside=bool(owner),
        same_image=len(same_image),
        same_start=sum(not (other.own_command or other.is_worker) for other in same_image),
    )


def _has_same_image(service: ServiceDeclaration, other: ServiceDeclaration) -> bool:
    """Whether two services run one image, also where each builds it under a name of its own."""
    is_same_build = service.build_hash != "" and service.build_hash == other.build_hash
    return service.image == other.image or (is_same_build and service.build_context == other.build_context)


def _spec(
    probe: Probe | None,
    program: Program | None,
    recognitions: Mapping[str, Recognised | None],
    dependencies: Iterable[str],
    *,
    is_job: bool,
) -> ServiceSpec:
    """The settings of a service; only what differs from the defaults is given, so that only that is written."""
    settings: dict[str, Any] = {}
    if probe is not None:
        settings["probe"] = probe
    if is_job:
        settings["stabilisation_seconds"] = 0
    else:
        settings["limits"] = _limits(program, probe)
    observes = program is not None and program.observes
    if needed := tuple(_dependency(other, recognitions.get(other), observes=observes) for other in dependencies):
        settings["dependencies"] = needed
    if program is not None and program.outside_logins and not is_job:
        settings["outside_logins"] = True
    return ServiceSpec(**settings)


def _dependency(other: str, recognised: Recognised | None, *, observes: bool) -> DependencySpec:
    """A service that only observes another, or sends to what observes, goes on without it."""
    if observes or (recognised is not None and recognised.program.observes):
        return DependencySpec(service=other, type=DependencyType.OPTIONAL, impact=HealthImpact.LOW)
    return DependencySpec(service=other)


def _is_job(declared: ServiceDeclaration, traits: ServiceTraits, recognised: Recognised | None, *, works: bool) -> bool:
    if declared.awaited:
        return True
    if not declared.one_shot or traits.published or (traits.ports and not traits.command.ends):
        return False
    if works:
        return False
    if traits.command.ends:
        return True
    # A server that is started again after a failure alone is as common as a job that is, so its name has to say more.
    may_end = traits.never_restarted or (declared.restart == "on-failure" and says_job(declared.name))
    if not may_end or traits.called:
        return False
    # Never restarted, a server is still no job, but another command in its image is: a dump of a database.
    program = None if recognised is None else recognised.program
    return program is None or not program.server or not ((recognised and recognised.serves) or program.outside_logins)


def _probe(
    declared: ServiceDeclaration,
    traits: ServiceTraits,
    recognised: Recognised | None,
    evidence: PortEvidence,
    logins: _Logins,
) -> tuple[Probe | None, str]:
    """A probe that succeeds while the service works, and the reason for it; None, and why, where nothing is known to
    ask. Where something speaks against more, only the open port is asked."""
    program = recognised.program if recognised is not None and recognised.serves else None
    port, reason = evidence.port, evidence.reason
    if (
        program is not None
        and logins.probe is not None
        and port is not None
        and isinstance(logins.probe.probe, SqlProbe)
    ):
        return logins.probe.probe.model_copy(update=_port_option(logins.probe.probe, port)), logins.probe.reason
    if program is not None and logins.probe is not None and not evidence.is_explicit:
        return logins.probe.probe, logins.probe.reason
    opened = None if port is None else TcpProbe(kind="tcp", port=port)
    if program is None or program.probe is None or recognised is None or recognised.by.startswith("port"):
        return _probe_of_check(traits, opened, reason)
    probe, named = program.probe, f"it is {program.name}"
    if {*program.unless} & {*traits.command.options, *traits.variables}:
        return opened, reason
    if isinstance(probe, CommandProbe):
        is_elsewhere = evidence.is_explicit and port != getattr(program.login_probe, "port", None)
        return (opened, reason) if is_elsewhere else (probe, named)
    if isinstance(probe, TcpProbe):
        if program.certificate and _has_certificate(declared, traits):
            return CertificateProbe(kind="certificate", port=_HTTPS), f"{program.name} serves port {_HTTPS}"
        return _probe_of_check(traits, opened, reason)
    if isinstance(probe, SmtpProbe) and (mail := [number for number in traits.ports if number in _MAIL_PORTS]):
        return SmtpProbe(kind="smtp", port=mail[0]), f"{program.name} takes mail there"
    is_own = evidence.is_explicit or port == probe.port or (program.listen_variables and reason.endswith("says so"))
    if port is None or not is_own:
        # A port that only others name may be another one of its ports.
        return opened, reason
    if isinstance(probe, RedisProbe):
        return _redis_probe(probe, port, traits, program, logins.secrets)
    return probe.model_copy(update=_port_option(probe, port)), named


def _port_option(probe: NetworkProbe, port: int) -> dict[str, int]:
    """The port of a probe where it is not that already, so that only what differs is written."""
    return {} if probe.port == port else {"port": port}


def _probe_of_check(traits: ServiceTraits, opened: TcpProbe | None, reason: str) -> tuple[Probe | None, str]:
    """The address that a health check asks; only its port where the page may answer others with something else, such as
    a redirection, or an error because of the name that they ask for."""
    check = traits.checked
    if check is None:
        return opened, reason
    if check.path == "/" or not check.strict or any("ALLOWED_HOST" in name for name in traits.variables):
        return TcpProbe(kind="tcp", port=check.port), "its health check asks that port"
    return HttpProbe(kind="http", port=check.port, path=check.path), "its health check asks that address"


def _has_certificate(declared: ServiceDeclaration, traits: ServiceTraits) -> bool:
    """Whether port 443 is offered and a certificate is put into the container, so that it answers there."""
    places = [*traits.targets, *(mount.source for mount in declared.mounts)]
    return _HTTPS in traits.ports and any(_OF_CERTIFICATES.search(place) for place in places)


def _redis_probe(
    probe: RedisProbe, port: int, traits: ServiceTraits, program: Program, secrets: frozenset[str]
) -> tuple[Probe, str]:
    """With its password where that comes from a secret, without where it has none, else only its open port."""
    names = (*program.password_variables, *filter(None, (program.password_option,)))
    used = [traits.passwords[name] for name in names if name in traits.passwords]
    if traits.command.files:
        return TcpProbe(kind="tcp", port=port), "its configuration file may set a password"
    probe = probe.model_copy(update=_port_option(probe, port))
    if not used:
        return probe, f"it is {program.name}"
    if used[0] in secrets:
        return probe.model_copy(update={"password_secret": used[0]}), f"it is {program.name} with a password"
    return TcpProbe(kind="tcp", port=port), "its password comes from no variable, so it cannot be asked more"


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
        return program.health_check if _is_usual(program, probe) else ()
    if program.port_check and isinstance(probe, HttpProbe | TcpProbe):
        return tuple(word.replace("PORT", str(probe.port)) for word in program.port_check)
    return ()


def _is_usual(program: Program, probe: Probe | None) -> bool:
    """Whether a program serves where its own health check asks, as far as its probe says."""
    usual = program.probe
    if usual is None or isinstance(usual, CommandProbe):
        return probe is not None and not isinstance(probe, TcpProbe)
    return (
        isinstance(probe, NetworkProbe)
        and probe.port == usual.port
        and (isinstance(probe, type(usual)) or isinstance(usual, RedisProbe))
    )


def _need(traits: ServiceTraits, reason: str, *, works: bool) -> str:
    """What a service lacks that no file says enough about."""
    example = "{kind: command, command: [...]}" if works else "{kind: tcp, port: 8080}"
    pull = "pull its image and run `roas init --force`, which reads it too, or " if traits.image_absent else ""
    return f"nothing proves it, because {reason}: {pull}give it a health check, or a probe such as {example}"


def _remarks_on(
    declared: ServiceDeclaration,
    traits: ServiceTraits,
    program: Program | None,
    probe: Probe | None,
    *,
    is_job: bool,
) -> Iterator[str]:
    if program is not None and program.observes:
        yield "if the others go on without it, write `required: false`: a start then succeeds although it fails"
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
        unnamed = {name for name, variable in traits.passwords.items() if not variable}
        offered = {login.password for login in program.logins} & unnamed
        if offered:
            yield (f"with {min(offered)} in a variable that .env sets, `roas init` can propose a probe that logs in")


def _dependencies(
    application: Application,
    traits: Mapping[str, ServiceTraits],
    recognitions: Mapping[str, Recognised | None],
) -> dict[str, dict[str, str]]:
    """The services that each one names in its variables, beyond depends_on, by that variable.

    One that would close a circle is left out: an address to call back is no need. So is what a database or cache only
    has in common with the programs that use it: one list of variables for all services.
    """
    needs = {name: set(service.depends_on) for name, service in application.services.items()}
    dependencies: dict[str, dict[str, str]] = {name: {} for name in application.services}
    for name in sorted(application.services):
        for other, variable in sorted(traits.get(name, ServiceTraits()).hosts.items()):
            is_new = other in application.services and other != name and other not in needs[name]
            if is_new and _is_stateful(recognitions[name]) and _is_shared(application, traits, name, other):
                continue
            if is_new and _USABLE_NAME.fullmatch(other) and name not in reachable(other, needs):
                needs[name].add(other)
                dependencies[name][other] = variable
    return dependencies


def _is_stateful(recognised: Recognised | None) -> bool:
    return recognised is not None and recognised.serves and recognised.program.stateful


def _is_shared(application: Application, traits: Mapping[str, ServiceTraits], name: str, host: str) -> bool:
    """Whether a service of another image has the variable too by which this one names a host."""
    variable = traits[name].hosts[host]
    return any(
        traits[other].hosts.get(host) == variable
        for other, service in application.services.items()
        if other in traits and not _has_same_image(service, application.services[name])
    )
