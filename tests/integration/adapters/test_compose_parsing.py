"""What of a rendered Compose file only Compose or Swarm does is named, and what an update does anyway is not."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.compose.parsing import parse_application


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, []),
        ({"deploy": {"update_config": None}}, []),
        ({"deploy": {"update_config": {"order": "start-first", "parallelism": 1, "failure_action": "rollback"}}}, []),
        (
            {"deploy": {"update_config": {"parallelism": 2, "delay": "10s", "failure_action": "pause"}}},
            ["deploy.update_config.parallelism", "deploy.update_config.delay", "deploy.update_config.failure_action"],
        ),
        (
            {"deploy": {"update_config": {"parallelism": 0, "monitor": "1m0s", "max_failure_ratio": 0.3}}},
            [f"deploy.update_config.{field}" for field in ("parallelism", "monitor", "max_failure_ratio")],
        ),
        ({"post_start": [{"command": ["true"]}], "pre_stop": []}, ["post_start"]),
        ({"provider": {"type": "model"}, "pre_start": [{"command": "true"}]}, ["pre_start", "provider"]),
    ],
)
def test_what_is_left_aside_is_named_once_each(body: dict[str, Any], named: list[str]) -> None:
    document = {"name": "shop", "services": {"web": {"image": "acme/web"} | body}}
    left = parse_application(document, {}, ()).services["web"].left_aside
    assert [words.partition(" is left aside: ")[0] for words in left] == named
