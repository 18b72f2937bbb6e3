"""Hooks as an environment file declares them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from models.hooks import Hooks

MIGRATE = {"name": "migrate", "service": "migrate"}


def test_the_kinds_of_hooks() -> None:
    smoke = {"name": "smoke", "exec": {"service": "web", "command": ["check", "--all"]}}
    hooks = Hooks.model_validate(
        {
            "before": [MIGRATE, {"name": "tell", "command": ["/bin/true"]}],
            "after": [smoke, {"name": "c", "canary": {"minutes": 0.1}}],
        }
    )
    assert hooks.services == {"migrate", "web"}
    assert [one.failure for one in hooks.before] == ["fail", "fail"]


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"before": [{"name": "a"}]}, "hook a has nothing to do"),
        ({"before": [MIGRATE | {"exec": {"service": "web", "command": ["x"]}}]}, "has service and exec; give exactly"),
        ({"after": [{"name": "c", "canary": {"minutes": 1}, "command": ["x"]}]}, "has command and canary"),
        ({"before": [{"name": "c", "canary": {"minutes": 1}}]}, "move it to hooks.after"),
        ({"before": [MIGRATE], "after": [MIGRATE]}, "two hooks are named migrate"),
        ({"before": [MIGRATE | {"after_rollback": True}]}, "hook migrate: after_rollback is for hooks in hooks.after"),
        ({"before": [MIGRATE | {"command": []}]}, "at least 1 item"),
        ({"before": [MIGRATE | {"timeout_seconds": 0}]}, "greater than 0"),
        ({"before": [MIGRATE | {"failure": "ignore"}]}, "'fail' or 'warn'"),
        ({"before": [MIGRATE | {"retries": 2}]}, "not permitted"),
    ],
)
def test_what_cannot_be_run_is_refused(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Hooks.model_validate(declared)


def test_a_service_with_a_command_is_one_thing() -> None:
    (hook,) = Hooks.model_validate({"before": [MIGRATE | {"command": ["manage.py", "migrate"]}]}).before
    assert hook.concerns == "migrate"
