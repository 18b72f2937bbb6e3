"""Text output of what a gate decided."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from cli.rendering.console import say
from models.gates import GateReport
from models.operations.record import GateRecord

_COLOURS = {"passed": "green", "warned": "yellow", "refused": "red", "waits": "cyan", "overridden": "yellow"}


def show_gate_report(report: GateReport) -> None:
    """Print the outcome of each policy and scan."""
    if not report.policies and not report.scans:
        say(f"{report.environment} has no policy; `gate` in its file lists them.")
    for policy in report.policies:
        _show(policy.outcome, policy.policy, policy.reason)
    for scan in report.scans:
        _show(scan.outcome, "scan", scan.problem)


def show_gate_record(gate: GateRecord | None) -> None:
    """Print what the record of an update says of its gate; nothing where it had none."""
    if gate is None:
        return
    say(f"\n[bold]gate[/bold] {_colour(gate.outcome)}")
    for policy in gate.policies:
        _show(policy.outcome, policy.policy, policy.reason)
    for scan in gate.scans:
        _show(scan.outcome, "scan", scan.text)
    if gate.override:
        say(f"  overridden by {escape(gate.override.by)}: {escape(gate.override.reason)}")


def _show(outcome: Any, name: str, reason: str) -> None:
    say(f"  gate {_colour(outcome)} {escape(name)}{f': {escape(reason)}' if reason else ''}")


def _colour(outcome: Any) -> str:
    colour = _COLOURS.get(outcome, "white")
    return f"[{colour}]{escape(str(outcome))}[/{colour}]"
