"""Text output of proposed sizes."""

from __future__ import annotations

from rich.markup import escape

from cli.rendering.console import say
from core.reporting.sizes import change_in_words, use_in_words
from models.sizes import SizeReport


def show_sizes(report: SizeReport) -> None:
    """Print what is proposed for each service and its risk, the change of the files, and the next command."""
    for proposal in report.proposals:
        say(f"[bold]{escape(proposal.service)}[/bold]: {escape(change_in_words(proposal))}")
        say(f"    {use_in_words(proposal)} in {report.days} days")
        if proposal.changes:
            say(f"    risk: {escape(proposal.risk)}")
    if report.diff:
        say(f"\n{escape(report.diff)}\n")
    if report.written:
        say(f"written: {escape(', '.join(report.written))}; apply it: roas update {report.environment}")
    elif report.diff:
        say(f"write it: roas size {report.environment} --write   then: roas update {report.environment}")
