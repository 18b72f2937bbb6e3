"""Recovery actions: each has a proof, and refuses targets of other projects."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from core.recovery.action_targets import ActionContext, all_made_since, containers_to_restart
from core.recovery.actions import ACTIONS, ReadyAction, RefusedAction, prepare, register
from models.compose import Application, NetworkDeclaration, NetworkFact, PortHolder, PublishedPort, ServiceDeclaration
from models.errors import Strategy
from models.recovery import StepSpec
from tests.unit.core.recovery.values import NOON, container

WEB = ServiceDeclaration(
    name="web", image="shop/web", ports=(PublishedPort(target=80, published=8080),), config_hash="h1", networks=("net",)
)
SHOP = Application(
    project="shop",
    services={"web": WEB, "db": ServiceDeclaration(name="db", image="db")},
    networks=(NetworkDeclaration(key="net", name="shop_net"),),
)


THERE = ActionContext(
    project="shop",
    service="web",
    application=SHOP,
    container_states=(container("web"), container("db")),
    networks=(NetworkFact(name="shop_net", driver="bridge", project="shop"),),
)


def holder(project: str = "shop", service: str = "old", container: str = "shop-old-1") -> PortHolder:
    return PortHolder(port=8080, host_ip="", protocol="tcp", container=container, project=project, service=service)


def refusal(strategy: Strategy, **changes: Any) -> str:
    answer = prepare(strategy, replace(THERE, **changes))
    assert isinstance(answer, RefusedAction)
    return answer.because


def ready(strategy: Strategy, **changes: Any) -> ReadyAction:
    answer = prepare(strategy, replace(THERE, **changes))
    assert isinstance(answer, ReadyAction), answer
    return answer


def test_every_automatic_strategy_has_exactly_one_action() -> None:
    assert set(ACTIONS) == {strategy for strategy in Strategy if strategy.automatic}
    with pytest.raises(TypeError):
        register(list(ACTIONS.values())[1:])
    with pytest.raises(TypeError):
        register([*ACTIONS.values(), ACTIONS[Strategy.FREE_PORT]])


@pytest.mark.parametrize(
    "lacking",
    [
        {"aim": None},
        {"steps": (StepSpec.RESTART,)},
        {"inverse": ()},
        {"at_most": 0},
        {"points": 0},
    ],
)
def test_an_action_that_lacks_what_makes_it_safe_cannot_be_made(lacking: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        replace(ACTIONS[Strategy.RESTART_SERVICE], **cast(Any, lacking))


def test_a_container_taken_out_of_its_network_joins_it_again_first() -> None:
    alone = (container("web", networks=()),)
    join, *others = ready(Strategy.RESTART_SERVICE, container_states=alone).steps
    assert (join.doing, join.targets) == (StepSpec.JOIN, ("shop_net",))
    assert [step.doing for step in others] == [StepSpec.RESTART, StepSpec.VERIFY]
    # Compose makes a new container with its networks, and a network that is gone is nothing to join.
    steps = [
        *ready(Strategy.RECREATE_CONTAINER, container_states=alone).steps,
        *ready(Strategy.RESTART_SERVICE, container_states=alone, networks=()).steps,
    ]
    assert StepSpec.JOIN not in {step.doing for step in steps}


@pytest.mark.parametrize(
    ("state", "started", "asked_to_end", "is_left"),
    [
        ("running", -60, False, True),
        ("running", 1, False, False),
        ("running", -60, True, False),
        ("exited", -60, True, True),
        ("exited", 1, False, True),
    ],
)
def test_of_a_restart_that_was_cut_off_only_what_the_engine_has_not_done_is_left(
    state: str, started: int, asked_to_end: bool, is_left: bool
) -> None:
    web = container("web", state=state, started_at=NOON + timedelta(seconds=started))
    asked = {web.container_id} if asked_to_end else set()
    assert (containers_to_restart([web], since=NOON, asked_to_end=asked) == [web]) is is_left
    assert containers_to_restart([web], since=None, asked_to_end=()) == [web]


def test_containers_are_made_anew_once() -> None:
    old, new = (container("web", created_at=NOON + timedelta(seconds=seconds)) for seconds in (-60, 1))
    assert all_made_since(NOON, [new])
    assert not any(all_made_since(since, mine) for since, mine in ((None, [new]), (NOON, [old, new]), (NOON, [])))


def test_a_restart_is_verified() -> None:
    assert [step.doing for step in ready(Strategy.RESTART_SERVICE).steps] == [StepSpec.RESTART, StepSpec.VERIFY]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"container_states": ()}, "no container"),
        ({"container_states": (container("web", state="paused"),)}, "paused"),
        ({"container_states": (container("web", state="running", health="starting"),)}, "still starting"),
        ({"container_states": tuple(container("web", container_id=str(n)) for n in range(11))}, "at most 10"),
        ({"container_states": (container("web", project="other"),)}, "another project"),
    ],
)
def test_what_may_not_be_restarted_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(Strategy.RESTART_SERVICE, **changes)


def test_dependencies_that_are_down_are_proven_before_the_service() -> None:
    steps = ready(Strategy.RESTART_DEPENDENCY_THEN_SERVICE, dependencies_down=("db",)).steps

    assert [(step.doing, step.service) for step in steps] == [
        (StepSpec.RESTART, "db"),
        (StepSpec.VERIFY, "db"),
        (StepSpec.RESTART, "web"),
        (StepSpec.VERIFY, "web"),
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"anonymous_volumes": ("v",)}, "without a name"),
        ({"container_states": (container("web", config_hash="h0"),)}, "have changed"),
        ({"application": None}, "unknown"),
        ({"image_held": False}, "has shop/web no more"),
        ({"image_moved": True}, "an update takes it, no recovery does"),
    ],
)
def test_a_container_that_would_lose_or_change_something_is_not_made_anew(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(Strategy.RECREATE_CONTAINER, **changes)


def test_a_left_over_of_the_own_project_gives_the_port_back_and_can_be_started_again() -> None:
    freed = ready(Strategy.FREE_PORT, holders=(holder(),))

    assert freed.targets == ("shop-old-1",)
    assert [step.doing for step in freed.undo] == [StepSpec.START_HOLDER]


@pytest.mark.parametrize(
    ("holders", "words"),
    [
        ((), "a process of the host"),
        ((holder(project="bank", container="bank-web-1"),), "another project"),
        ((holder(service="db", container="shop-db-1"),), "declared with the same port"),
        ((holder(), holder(project="", container="by-hand")), "another project"),
    ],
)
def test_a_port_of_another_project_is_not_freed(holders: tuple[PortHolder, ...], words: str) -> None:
    assert words in refusal(Strategy.FREE_PORT, holders=holders)


def test_an_image_that_is_there_is_not_pulled_again() -> None:
    assert "could change what runs" in refusal(Strategy.PULL_IMAGE)
    assert ready(Strategy.PULL_IMAGE, image_held=False).targets[0] == "shop/web"


def test_nothing_to_remove_is_refused_and_so_is_too_much() -> None:
    many = tuple(map(str, range(51)))

    assert "no dangling images" in refusal(Strategy.PRUNE_DISK)
    assert "at most 50" in refusal(Strategy.PRUNE_DISK, dangling=many, disk_percent=90.0)
    assert len(ready(Strategy.PRUNE_DISK, dangling=many[:50], disk_percent=90.0).targets) == 50


def test_only_a_network_that_is_declared_and_missing_is_made() -> None:
    external = replace(SHOP, networks=(replace(SHOP.networks[0], external=True),))

    assert ready(Strategy.CREATE_NETWORK, networks=()).targets[0] == "shop_net"
    assert "is there" in refusal(Strategy.CREATE_NETWORK)
    assert "is there" in refusal(Strategy.CREATE_NETWORK, networks=(), application=external)


def test_only_networks_that_nothing_declares_or_uses_are_removed() -> None:
    old = NetworkFact(name="shop_old", driver="bridge", project="shop")
    both = (*THERE.networks, old)

    assert "neither declared nor used" in refusal(Strategy.PRUNE_NETWORKS, networks=both, empty_networks=("shop_net",))
    removed = ready(Strategy.PRUNE_NETWORKS, networks=both, empty_networks=("shop_net", "shop_old"))
    assert removed.targets == ("shop_old",)


def test_going_back_needs_a_release_and_a_deployment_just_before() -> None:
    soon = {"roll_back_within": timedelta(minutes=10), "deployed_ago": timedelta(minutes=2)}

    assert "no proven release" in refusal(Strategy.ROLL_BACK_RELEASE, **soon)
    assert "soon after" in refusal(Strategy.ROLL_BACK_RELEASE, release="r-1", roll_back_within=timedelta(minutes=10))
    assert ready(Strategy.ROLL_BACK_RELEASE, release="r-1", **soon).steps[0].targets == ("r-1",)


def test_a_script_that_may_not_be_run_is_refused() -> None:
    assert "names no script" in refusal(Strategy.RUN_SCRIPT, script_problem="The pattern names no script.")
