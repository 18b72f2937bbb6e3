"""Preconditions of recovery actions: each returns why its action may not be taken, None if it may."""

from __future__ import annotations

from core.recovery.action_targets import (
    ActionContext,
    holders_of_wanted_ports,
    missing_networks,
    unused_networks,
    wanted_ports,
)


def may_restart(context: ActionContext) -> str | None:
    """A restart needs a container that is neither paused nor still starting."""
    name = context.service
    if not context.containers:
        return f"{name} has no container; only a start makes new ones."
    if any(seen.state == "paused" for seen in context.containers):
        return f"A person paused {name}."
    if any(seen.state == "running" and seen.health == "starting" for seen in context.containers):
        return f"{name} is still starting; its health check has the word."
    return None


def may_recreate(context: ActionContext) -> str | None:
    """Recreating needs an unchanged declaration and no anonymous volumes."""
    name, declaration = context.service, context.declaration
    if declaration is None:
        return f"The declaration of {name} is unknown: the Compose files could not be read or do not contain it."
    if not context.containers:
        return f"{name} has no container; only a start makes new ones."
    if context.anonymous_volumes:
        count = len(context.anonymous_volumes)
        return f"{name} keeps data in {count} volumes without a name, which would be left behind."
    if declaration.config_hash and any(seen.config_hash != declaration.config_hash for seen in context.containers):
        return f"The files of {name} have changed since it was started: a start applies that, no recovery does."
    return None


def may_free_port(context: ActionContext) -> str | None:
    """Freeing a port stops only undeclared containers of the own project."""
    declaration = context.declaration
    if declaration is None or not wanted_ports(declaration):
        return f"{context.service} asks for no port of the host that is known."
    if not context.containers:
        return f"{context.service} has no container; only a start makes new ones."
    holders = holders_of_wanted_ports(context)
    if not holders:
        return f"No container holds a port of {context.service}; a process of the host is a person's to end."
    if foreign := sorted({holder.container for holder in holders if holder.project != context.project}):
        return f"{', '.join(foreign)} holds the port and belongs to another project."
    one_off = {seen.name for seen in context.container_states if seen.one_off}
    declared = context.application.services if context.application else {}
    if current := sorted({one.service for one in holders if one.service in declared and one.container not in one_off}):
        return f"{', '.join(current)} is declared with the same port: one of the two must get another."
    return None


def may_pull(context: ActionContext) -> str | None:
    """Pulling needs an image that is neither present nor built here."""
    declaration = context.declaration
    if declaration is None or not declaration.image:
        return f"The image of {context.service} is unknown: the Compose files do not name it."
    if declaration.build:
        return f"The image of {context.service} is built here, not pulled."
    if context.image_held:
        return f"The engine has {declaration.image}; pulling it again could change what runs."
    return may_recreate(context) if context.containers else None


def may_prune_disk(context: ActionContext) -> str | None:
    """Pruning needs dangling images of the project."""
    if not context.dangling:
        return f"{context.project} has no dangling images; what else fills the disk is a person's to judge."
    return may_restart(context)


def may_create_network(context: ActionContext) -> str | None:
    """Creating a network needs a declared one that is missing."""
    if context.application is None:
        return "The declared networks are unknown: the Compose files could not be read."
    if not missing_networks(context):
        return "Every network the application declares itself is there."
    return may_recreate(context)


def may_prune_networks(context: ActionContext) -> str | None:
    """Pruning needs a network that nothing declares or uses."""
    if context.application is None:
        return "The declared networks are unknown: the Compose files could not be read."
    if not unused_networks(context):
        return f"{context.project} has no network that is neither declared nor used."
    return may_restart(context)


def may_roll_back(context: ActionContext) -> str | None:
    """A rollback needs a proven release, and an error soon after a deployment."""
    if context.release is None:
        return "There is no proven release before this one to go back to."
    if context.deployed_ago is None or context.deployed_ago > context.roll_back_within:
        return (
            "The error did not begin soon after a deployment"
            f" (within {context.roll_back_within.total_seconds():.0f} s), so going back may not be the answer."
        )
    return None


def may_run_script(context: ActionContext) -> str | None:
    """A script needs to be allowed, and a restart to be possible."""
    return context.script_problem or may_restart(context)
