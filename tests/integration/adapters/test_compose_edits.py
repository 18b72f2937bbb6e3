"""Sizes are written into Compose files that a person wrote, and nothing else in them changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.compose.edits import other_settings, with_size
from models.failures import ComposeError
from models.sizes import Size

FILE, MORE = Path("compose.yaml"), Path("more.yaml")
MIB = 1024 * 1024
LIMIT = Size(memory_limit_bytes=96 * MIB)
WHOLE = Size(memory_limit_bytes=96 * MIB, memory_reservation_bytes=64 * MIB, cpu_limit=1.5, cpu_reservation=0.25)


def edited(text: str, size: Size = LIMIT) -> str:
    return with_size({FILE: text}, "web", Size(), size)[FILE]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            "services:\n  web:  # the front\n    image: a\n    # after\n\n  db: {image: b}\n",
            "services:\n  web:  # the front\n    image: a\n    deploy:\n      resources:\n        limits:\n"
            "          memory: 96M\n    # after\n\n  db: {image: b}\n",
            id="added below its other fields",
        ),
        pytest.param(
            "services:\n    web:\n        deploy:\n            replicas: 2 # two\n        image: ä\n",
            "services:\n    web:\n        deploy:\n            replicas: 2 # two\n            resources:\n"
            "                limits:\n                    memory: 96M\n        image: ä\n",
            id="with the file's indentation",
        ),
        pytest.param(
            "services:\n  web:\n    mem_limit: 16M  # small\n",
            "services:\n  web:\n    mem_limit: 96M  # small\n",
            id="a short key",
        ),
        pytest.param(
            "services: {web: {image: a, deploy: {resources: {limits: {memory: '16M', pids: 9}}}}}",
            "services: {web: {image: a, deploy: {resources: {limits: {memory: 96M, pids: 9}}}}}",
            id="replaced within braces",
        ),
        pytest.param(
            "services:\n  web:\n    cpus: 1",
            "services:\n  web:\n    cpus: 1\n    mem_limit: 96M",
            id="in the file's style, without a line's end",
        ),
    ],
)
def test_only_the_limit_is_written(before: str, after: str) -> None:
    assert edited(before) == after


def test_limits_and_reservations_are_one_block() -> None:
    assert edited("services:\n  web:\n    image: a\n", WHOLE) == (
        "services:\n  web:\n    image: a\n    deploy:\n      resources:\n        limits:\n          memory: 96M\n"
        "          cpus: 1.5\n        reservations:\n          memory: 64M\n          cpus: 0.25\n"
    )


def test_a_value_is_replaced_in_the_file_that_decides_it() -> None:
    texts = {
        FILE: "services:\n  web:\n    mem_limit: 16M\n",
        MORE: "services:\n  web:\n    image: a\n  db:\n    image: b\n",
    }
    assert with_size(texts, "web", Size(), LIMIT) == texts | {FILE: "services:\n  web:\n    mem_limit: 96M\n"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("services: {db: {image: a}}", "declared in a file that is included or extended"),
        ("services:\n  web:\n    mem_limit: ${MEMORY}\n", "mem_limit comes from a variable"),
        ("services:\n  web:\n    mem_limit: 16M\n    memswap_limit: 16M\n", "memswap_limit that suits it"),
        ("services: {web: {image: a}}", "web is not one field a line"),
        ("x: &x {image: a}\nservices:\n  web: *x\n", "web is an alias of what an anchor names"),
        ("services:\n  web:\n    deploy:\n    image: a\n", "deploy is not one field a line"),
        ("services:\n  web:\n    image: a\n---\nservices: {}\n", "declared in a file that is included or extended"),
    ],
)
def test_what_cannot_be_edited_is_said(text: str, why: str) -> None:
    with pytest.raises(ComposeError, match=why):
        edited(text)


def test_the_other_settings_are_all_but_the_size() -> None:
    device = {"capabilities": ["gpu"]}
    sized = {"mem_limit": "1", "deploy": {"resources": {"limits": {"cpus": 1}, "reservations": {"devices": [device]}}}}
    bare = {"image": "a", "deploy": {"resources": {"reservations": {"devices": [device]}}}}
    assert other_settings({"services": {"web": {"image": "a", **sized}}}, "web") == {"services": {"web": bare}}
    assert other_settings({"services": {"web": {"cpus": 1, "deploy": {"placement": {}}}}}, "web") == {
        "services": {"web": {"deploy": None}}
    }
