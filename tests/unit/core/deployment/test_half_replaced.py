"""What an ended Compose has left of a replacement."""

from __future__ import annotations

from dataclasses import replace

from core.deployment.half_replaced import find_half_replaced
from models.containers import ContainerState
from tests.unit.core.deployment.test_plan import container

OLD = "0123456789ab" + "c" * 52
WEB = container("web", container_id=OLD)
NEW = replace(WEB, container_id="d" * 64, name="0123456789ab_app-web-1", state="created")


def names(*containers: ContainerState) -> tuple[list[str], list[str]]:
    found = find_half_replaced(containers)
    return [one.name for one in found.remove], list(found.rename.values())


def test_a_replacement_beside_what_it_replaces_is_removed() -> None:
    assert names(WEB, NEW) == ([NEW.name], [])


def test_a_replacement_of_a_container_that_is_gone_gets_its_name() -> None:
    assert names(NEW) == ([], ["app-web-1"])


def test_a_container_that_was_started_is_not_removed() -> None:
    started = replace(NEW, state="running")

    assert names(WEB, started) == ([], [])
    assert names(started) == ([], ["app-web-1"])


def test_other_names_stay() -> None:
    own = replace(NEW, name="0123456789ab_mine")

    assert names(WEB) == names(own) == names(container("web", container_id="e" * 64), NEW) == ([], [])


def test_of_two_replacements_one_gets_the_name() -> None:
    second = replace(NEW, container_id="e" * 64, name="ffffffffffff_app-web-1")

    assert names(NEW, second) == ([], ["app-web-1"])
