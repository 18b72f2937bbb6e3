"""Show what was found in an application, and what is proposed for it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from rich.markup import escape

from adapters.config.environment_files import FILE
from cli.rendering.console import say, show_table
from flows.common.terminal import echo
from models.adoption import AdoptionFacts, Proposal, ServiceProposal
from models.environments import CertificateProbe, CommandProbe, HttpProbe, Probe


def show_proposal(proposal: Proposal, facts: AdoptionFacts, path: Path, name: str, *, is_known: bool) -> None:
    """Print the services with their programs and probes, what lacks a health check, and the next two commands.

    `is_known`: later commands find the file in their folder of environments.
    """
    files = ", ".join(str(file) for file in facts.compose_files)
    say(f"project [bold]{escape(proposal.project)}[/bold], {len(proposal.services)} services in {escape(files)}\n")
    show_table(
        ("service", "program", "recognised by", "probe", "health check"),
        [tuple(map(escape, _row(service))) for service in proposal.services],
    )
    _show_dependencies(proposal)
    show_remarks(proposal)
    _show_health_checks(proposal)
    say(f"\nwrote [bold]{escape(str(path))}[/bold]; nothing else was changed")
    place = ("ROAS_CONFIG", path) if path.name == FILE else ("ROAS_ENVIRONMENTS_DIR", path.parent)
    prefix = "" if is_known else f"{place[0]}={shlex.quote(str(place[1]))} "
    say("next:")
    say(f"  {escape(prefix)}roas validate {name}   # runs every check of a start, changes nothing")
    say(f"  {escape(prefix)}roas start {name}")


def _row(service: ServiceProposal) -> tuple[str, ...]:
    probe = "job: ends with exit code 0" if service.is_job else _probe(service.spec.probe)
    checked = "" if service.is_job else "yes" if service.checked else "none"
    return service.service, service.program or "unknown", service.recognised_by, probe, checked


def _probe(probe: Probe | None) -> str:
    if probe is None:
        return "none"
    if isinstance(probe, HttpProbe):
        return f"http {probe.port}{probe.path}"
    if isinstance(probe, CommandProbe):
        words = [word for word in probe.command if word not in ("sh", "-c")]
        return f"command {words[0].split()[0]}" if words else "command"
    return f"certificate {probe.port}" if isinstance(probe, CertificateProbe) else f"{probe.kind} {probe.port}"


def _show_dependencies(proposal: Proposal) -> None:
    if any(entry.dependencies for entry in proposal.services):
        say("\nneeded beyond depends_on:")
    for entry in proposal.services:
        for other, variable in entry.dependencies.items():
            say(f"  {escape(entry.service)} needs {escape(other)}: {escape(variable)} names it")


def show_remarks(proposal: Proposal) -> None:
    """Print what a person has to check."""
    remarks = [f"{entry.service}: {remark}" for entry in proposal.services for remark in entry.remarks]
    if remarks or proposal.remarks:
        say("\nto check:")
    for remark in (*remarks, *proposal.remarks):
        say(f"  {escape(remark)}")


def _show_health_checks(proposal: Proposal) -> None:
    offered = [service for service in proposal.unchecked_services if service.health_check]
    if not offered:
        return
    say("\nno health check; to paste into the Compose file:")
    echo("services:")
    for service in offered:
        # Compose fills in a single dollar sign itself.
        test = json.dumps(list(service.health_check)).replace("$", "$$")
        echo(f"  {service.service}:\n    healthcheck:\n      test: {test}")
        echo("      interval: 30s\n      timeout: 10s\n      retries: 3\n      start_period: 60s")
