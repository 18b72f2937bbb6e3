"""The settings of a gate: what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from models.gates import GatePolicy, UpdateGate


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"name": "p"}, "needs either expression or command"),
        ({"name": "p", "expression": "true", "command": ["true"]}, "needs either expression or command"),
        ({"name": "p", "command": []}, "at least 1 item"),
        ({"name": "p", "command": ["a\0b"]}, "this is not text"),
        ({"name": "p", "expression": ""}, "this is not text"),
        ({"name": "p", "expression": "x" * 4001}, "at most 4000"),
        ({"name": "p", "expression": "true", "failure": "ignore"}, "'refuse' or 'warn'"),
        ({"name": "P!", "expression": "true"}, "match pattern"),
        ({"name": "p", "expression": "true", "timeout_seconds": 0}, "greater than 0"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused(policy: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GatePolicy.model_validate(policy)


def test_two_policies_have_two_names() -> None:
    policy = {"name": "p", "expression": "true"}
    with pytest.raises(ValidationError, match="two policies have the name p"):
        UpdateGate.model_validate({"policies": [policy, policy]})
