"""Text output of what a gate decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from cli.rendering.console import say
from models.gates import GateReport

_COLOURS = {"passed": "green", "warned": "yellow", "refused": "red", "waits": "cyan", "overridden": "yellow"}


def show_gate_report(report: GateReport) -> None:
    """Print the outcome of each policy and scan."""
    if not report.policies and not report.scans:
        say(f"{report.environment} has no policy; `gate` in its file lists them.")
    for policy in report.policies:
        _show(policy.outcome, policy.policy, policy.reason)
    for scan in report.scans:
        _show(scan.outcome, "scan", scan.problem)


def show_gate_record(details: Mapping[str, Any]) -> None:
    """Print what the record of an update says of its gate; nothing where it had none."""
    gate = details.get("gate")
    if not isinstance(gate, Mapping):
        return
    say(f"\n[bold]gate[/bold] {_coloured(gate.get('outcome'))}")
    for policy in gate.get("policies") or ():
        _show(policy["outcome"], policy["policy"], policy["reason"])
    for scan in gate.get("scans") or ():
        _show(scan["outcome"], "scan", scan["text"])
    if override := gate.get("override"):
        say(f"  overridden by {escape(str(override['by']))}: {escape(str(override['reason']))}")


def _show(outcome: Any, name: str, reason: str) -> None:
    say(f"  gate {_coloured(outcome)} {escape(name)}{f': {escape(reason)}' if reason else ''}")


def _coloured(outcome: Any) -> str:
    colour = _COLOURS.get(outcome, "white")
    return f"[{colour}]{escape(str(outcome))}[/{colour}]"
