"""Whether a person must type an environment's name before it is touched; plain reads."""

from __future__ import annotations

from collections.abc import Collection

from adapters.config.environments import declared_environment
from adapters.config.needs import declared_needs
from core.deployment.desired_state import should_run
from core.deployment.needs import dependants_of_environment
from models.failures import BadInputError
from models.locks import Lock
from models.settings import current_settings
from tasks.runtime.stores import open_stores, stores_exist

ASKED = frozenset({"stop", "restart", "rollback", "rotate", "sync", "update"})
"""What asks for the name."""

_TAKES_DOWN = frozenset({"stop", "restart"})


def find_lock(environment: str) -> Lock | None:
    """How an environment is locked; None where it is not.

    Raises:
        StoreError: The stores cannot be read.
    """
    lock = open_stores().pauses.locks().get(environment) if stores_exist() else None
    try:
        protected = lock is None and declared_environment(environment, current_settings()).protected
    except BadInputError:
        return lock
    return Lock(environment=environment) if protected else lock


def why_consent(environment: str, verb: str, services: Collection[str] = ()) -> str:
    """Say why a person must type the name of an environment for an operation of `ASKED`; empty where none must.

    Raises:
        StoreError: The stores cannot be read.
    """
    if verb not in ASKED:
        return ""
    lock = find_lock(environment)
    reasons = [f"it is {lock.words}"] if lock is not None else []
    if verb in _TAKES_DOWN:
        needs = declared_needs(current_settings())
        dependants = dependants_of_environment(environment, needs, services or None)
        if hit := [name for name in dependants if _runs(name)]:
            reasons.append(f"{', '.join(hit)} {'needs' if len(hit) == 1 else 'need'} it")
    return ", and ".join(reasons)


def refuse_without_consent(environment: str, verb: str, confirm: str, services: Collection[str] = ()) -> None:
    """Refuse an operation on an environment whose name a person has to type, and did not.

    Raises:
        BadInputError: Nothing was touched; the message says why, and what to give.
        StoreError: The stores cannot be read.
    """
    if confirm != environment and (why := why_consent(environment, verb, services)):
        what = f"{environment} was not touched ({verb}): {why};"
        raise BadInputError(what, advice=f"confirm it by its name: --confirm {environment}.")


def _runs(environment: str) -> bool:
    recorded = open_stores().operations.latest_recorded(environment) if stores_exist() else []
    return bool(recorded) and should_run(recorded)
