"""`roas update`: take new images, service by service, or let an image be taken again."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from cli import completers
from cli.operations import Output, confirmed, confirming, operate, with_live_output
from cli.options import application_options, waiting
from cli.run_flow import show_answer
from models.failures import BadInputError


@click.command()
@application_options
@click.argument("services", nargs=-1, shell_complete=completers.services)
@click.option("--plan", "plan_id", metavar="ID", help="Do exactly what `roas plan --update` printed, or nothing.")
@click.option("--lift", "digest", metavar="DIGEST", help="Only let updates take an image again that failed before.")
@click.option("--now", "now_wanted", is_flag=True, help="Also outside of the environment's update windows.")
@click.option("--override-gate", metavar="REASON", help="Go on although the gate refuses the images; it is recorded.")
@click.option("--rehearse", is_flag=True, help="Only try the update in a copy beside production, and say who fails.")
@click.option("--snapshot", "snapshot_wanted", is_flag=True, help="With --rehearse: on data that is saved for it now.")
@click.option("--held-back", is_flag=True, help="With --rehearse: also with images that failed before.")
@confirming
@waiting
@with_live_output
def update(
    name: str,
    compose: list[str] | None,
    services: tuple[str, ...],
    plan_id: str | None,
    digest: str | None,
    now_wanted: bool,
    override_gate: str | None,
    rehearse: bool,
    snapshot_wanted: bool,
    held_back: bool,
    confirm: str,
    wait_seconds: float,
    output: Output,
) -> None:
    """Pull and build new images first, then replace service by service; roll back if one fails.

    The image of a service that fails is held back: no update takes it again until --lift.
    """
    if digest is not None:
        _lift(name, digest, json_wanted=output.json)
        return
    if (snapshot_wanted or held_back) and not rehearse:
        raise BadInputError("--snapshot and --held-back are for a rehearsal;", advice="add --rehearse.")
    if rehearse:
        if (other := plan_id or override_gate) is not None:
            raise BadInputError(f"A rehearsal follows no plan and passes no gate ({other});", advice="leave it out.")
        asked = {"services": list(services) or None, "snapshot": snapshot_wanted, "held_back": held_back}
        operate("rehearse-update", name, compose, output, **asked)
        return
    if not now_wanted:
        _check_windows(name, compose)
    operate(
        "update",
        name,
        compose,
        output,
        services=list(services) or None,
        plan=plan_id,
        wait_seconds=wait_seconds,
        now=now_wanted,
        override_gate=override_gate,
        **confirmed(name, "update", confirm),
    )


def _check_windows(name: str, compose: list[str] | None) -> None:
    """Refuse at once what the flow would refuse.

    Raises:
        BadInputError: It is outside of the update windows.
    """
    from core.deployment.update_policy import outside_of_windows
    from tasks.runtime.clients import find_environment

    outside = outside_of_windows(name, find_environment(name, tuple(compose or ())).update, datetime.now(UTC))
    if outside is not None:
        raise BadInputError(outside, advice="wait for it, or update now with --now.")


def _lift(name: str, digest: str, *, json_wanted: bool) -> None:
    from adapters.host.processes import this_user
    from cli.rendering.releases import show_lifted
    from tasks.deployment.release import lift_images

    actor = this_user()
    show_answer(lift_images(name, digest, str(actor) or "a user", datetime.now(UTC)), json_wanted, show_lifted)
