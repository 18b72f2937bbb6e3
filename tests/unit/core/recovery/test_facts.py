"""Facts that allow an action: pairs of text and facts, and what each action lacks."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.pattern_files import shipped_set
from core.errors.classify import classify
from core.recovery.action_targets import ActionContext
from core.recovery.actions import ReadyAction, prepare
from core.recovery.facts import REQUIRED_FACTS, is_well, lacking_fact, shows_failure, without_lost_starts, would_need
from core.recovery.policy import PlanAction, RecoveryFacts, plan_recovery
from core.recovery.triage import STOPPED
from models.compose import (
    Application,
    DependencyCondition,
    DependsOn,
    NetworkDeclaration,
    NetworkFact,
    PortHolder,
    PublishedPort,
    ServiceDeclaration,
)
from models.environments import RecoveryPolicy
from models.errors import Evidence, RecordedError, Strategy
from models.recovery import RecoveryStep, StepSpec
from tests.unit.core.recovery.values import NOON, container

WEB = ServiceDeclaration(
    name="web", image="shop/web", ports=(PublishedPort(target=80, published=8080),), config_hash="h1", networks=("net",)
)
NETWORK = NetworkFact(name="shop_net", driver="bridge", project="shop")
DECLARED = Application(
    project="shop",
    services={"web": WEB, "db": ServiceDeclaration(name="db", image="db")},
    networks=(NetworkDeclaration(key="net", name="shop_net"),),
)

TABLE = yaml.safe_load((Path(__file__).parent / "pairs.yaml").read_text())
PAIRS = [
    (one["text"], situation, may)
    for one in TABLE["pairs"]
    for may, key in ((True, "may"), (False, "must_not"))
    for situation in one.get(key, ())
]
LEAST_SHARE_ALLOWED = 0.75


def context_of(facts: dict[str, Any]) -> ActionContext:
    """The state of the project that a situation of the table describes."""
    web = []
    if "state" in facts:
        web = [
            container(
                "web",
                facts["state"],
                exit_code=facts.get("exit", 0),
                oom_killed=facts.get("oom", False),
                health=facts.get("health"),
                error=facts.get("error", ""),
                restart_count=facts.get("restarts", 0),
                started_at=NOON - timedelta(seconds=facts.get("started_ago", 3600)),
            )
        ]
    db = facts.get("db", "running")
    network, application = facts.get("network"), DECLARED
    if facts.get("job"):
        application = replace(DECLARED, services=DECLARED.services | {"web": replace(WEB, one_shot=True)})
    if network == "external":
        application = replace(DECLARED, networks=(replace(DECLARED.networks[0], external=True),))
    owner = {"left-over": ("shop", "old"), "stranger": ("bank", "web")}.get(facts.get("port", ""))
    project, service = owner or ("", "")
    held = [PortHolder(port=8080, host_ip="", protocol="tcp", container="holder", project=project, service=service)]
    return ActionContext(
        project="shop",
        service="web",
        application=application,
        container_states=(*web, container("db", db)),
        dependencies_down=() if db == "running" else ("db",),
        holders=tuple(held if owner else ()),
        image_held=facts.get("image") != "missing",
        networks=() if network else (NETWORK,),
        dangling=tuple(f"sha256:{n}" for n in range(facts.get("dangling", 0))),
        disk_percent=facts.get("disk"),
        probe_passes=facts.get("own_probe"),
        stopped_by_person=facts.get("stopped", False),
    )


def acts(text: str, facts: dict[str, Any]) -> bool:
    """Whether anything is done without a person where somebody reports a text of a service in these facts."""
    context = context_of(facts)
    seen = next(iter(context.containers), None)
    evidence = Evidence(
        exit_code=seen.exit_code if seen else None,
        oom_killed=seen.oom_killed if seen else False,
        container_state=seen.state if seen else None,
        restart_count=seen.restart_count if seen else 0,
        health=seen.health if seen else None,
        dependencies_down=context.dependencies_down,
    )
    error = RecordedError(
        error_id="e-1",
        environment="dev",
        text=text,
        source="person",
        verdict=classify(text, shipped_set(), evidence=evidence),
        first_seen=NOON,
        last_seen=NOON,
        service="web",
        evidence=asdict(evidence),
    )
    known = RecoveryFacts(service="web", stopped=STOPPED if context.stopped_by_person else None)
    plan = plan_recovery(error, past=(), policy=RecoveryPolicy(), facts=known, now=NOON)
    return plan.action is PlanAction.RECOVER and isinstance(prepare(plan.strategy, context), ReadyAction)


@pytest.mark.parametrize(("text", "situation"), [pair[:2] for pair in PAIRS if not pair[2]])
def test_nothing_is_done_where_no_fact_allows_it(text: str, situation: str) -> None:
    assert not acts(text, TABLE["situations"][situation])


def test_most_of_what_the_facts_allow_is_done() -> None:
    may = [(text, situation) for text, situation, allowed in PAIRS if allowed]
    left = [pair for pair in may if not acts(pair[0], TABLE["situations"][pair[1]])]

    assert len(PAIRS) >= 150
    assert len(left) <= (1 - LEAST_SHARE_ALLOWED) * len(may), left


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_automatic_strategy_names_the_fact_that_it_needs(strategy: Strategy) -> None:
    fact = would_need(strategy)

    assert (fact is not None) is strategy.automatic
    assert fact is None or (fact[0].islower() and not fact.endswith("."))


@pytest.mark.parametrize(
    ("strategy", "situation", "words"),
    [
        (Strategy.RESTART_SERVICE, "healthy", "web runs, and none of its checks fails."),
        (Strategy.RESTART_SERVICE, "restarting", "The engine restarts web already, 7 times so far"),
        (Strategy.RESTART_SERVICE, "stopped by a person", "A person stopped web"),
        (Strategy.RESTART_SERVICE, "job done", "web ended with exit code 0"),
        (Strategy.RESTART_DEPENDENCY_THEN_SERVICE, "exited", "None of the dependencies that web declares is down"),
        (Strategy.RESTART_DEPENDENCY_THEN_SERVICE, "exited, db paused", "A person paused db"),
        (Strategy.RESTART_DEPENDENCY_THEN_SERVICE, "healthy, db down", "web is healthy"),
        (Strategy.PRUNE_DISK, "exited, disk half full", "The disk of the engine is 52 % full"),
        (Strategy.PRUNE_DISK, "exited, disk unknown", "How full the disk of the engine is could not be measured"),
        (Strategy.FREE_PORT, "healthy, left-over holds port", "web runs"),
        (Strategy.RUN_SCRIPT, "healthy", "web runs, and none of its checks fails."),
        (Strategy.WAIT_AND_RETRY, "removed", "web has no container"),
    ],
)
def test_the_lacking_fact_is_said(strategy: Strategy, situation: str, words: str) -> None:
    assert str(lacking_fact(strategy, context_of(TABLE["situations"][situation]))).startswith(words)


def test_nothing_is_done_for_dependencies_that_the_compose_files_do_not_declare() -> None:
    exited = context_of(TABLE["situations"]["exited"])
    strategy = Strategy.RESTART_DEPENDENCY_THEN_SERVICE

    assert lacking_fact(strategy, replace(exited, dependencies_down=("db",))) is None
    lacking = lacking_fact(strategy, replace(exited, dependencies_down=("vault", "db", "queue")))
    assert str(lacking).startswith("vault, queue is not declared here")


@pytest.mark.parametrize("strategy", [Strategy.RESTART_SERVICE, Strategy.RESTART_DEPENDENCY_THEN_SERVICE])
@pytest.mark.parametrize("by_environment", [False, True])
@pytest.mark.parametrize(("networks", "may"), [(("shop_net",), True), (("bridge",), False)])
def test_nothing_is_restarted_for_a_dependency_that_lost_its_network(
    strategy: Strategy, by_environment: bool, networks: tuple[str, ...], may: bool
) -> None:
    depends_on = {"db": DependsOn(condition=DependencyCondition.HEALTHY)}
    services = {
        "web": replace(WEB, depends_on={} if by_environment else depends_on),
        "db": ServiceDeclaration(name="db", image="db", networks=("net",)),
    }
    context = ActionContext(
        project="shop",
        service="web",
        application=replace(DECLARED, services=services),
        container_states=(
            container("web", "running", health="unhealthy"),
            container("db", "running", health="healthy", networks=networks),
        ),
        needs=("db",) if by_environment else (),
        dependencies_down=("db",),
    )

    assert (lacking_fact(strategy, context) is None) == may
    assert may or "db is not connected to network shop_net" in str(lacking_fact(strategy, context))


@pytest.mark.parametrize("strategy", [Strategy.RESTART_SERVICE, Strategy.WAIT_AND_RETRY])
def test_what_a_person_decides_needs_no_fact_but_a_container_that_may_be_touched(strategy: Strategy) -> None:
    decided = replace(context_of(TABLE["situations"]["healthy"]), decided=True)
    paused = replace(context_of(TABLE["situations"]["paused"]), decided=True)

    assert lacking_fact(strategy, decided) is None
    assert lacking_fact(strategy, paused) == "A person paused web."


def test_a_person_lets_a_service_that_starts_be_awaited_but_not_be_restarted() -> None:
    decided = replace(context_of(TABLE["situations"]["starting"]), decided=True)

    assert lacking_fact(Strategy.WAIT_AND_RETRY, decided) is None
    assert "still starting" in str(lacking_fact(Strategy.RESTART_SERVICE, decided))


def test_a_rollback_needs_a_failure_soon_after_a_deployment() -> None:
    soon: dict[str, Any] = {
        "release": "r-1",
        "deployed_ago": timedelta(minutes=1),
        "roll_back_within": timedelta(minutes=5),
    }
    lacking = {
        name: lacking_fact(Strategy.ROLL_BACK_RELEASE, replace(context_of(TABLE["situations"][name]), **soon))
        for name in ("restarting", "exited", "healthy", "paused")
    }

    assert lacking["restarting"] is lacking["exited"] is None
    assert "none of its checks fails" in str(lacking["healthy"])
    assert lacking["paused"] == "A person paused web."


def test_a_probe_is_asked_only_where_the_containers_show_no_failure() -> None:
    shown = {name: shows_failure(context_of(facts)) for name, facts in TABLE["situations"].items()}

    assert shown["exited"]
    assert shown["unhealthy"]
    assert not shown["probe fails"]
    assert is_well(context_of(TABLE["situations"]["healthy"]))
    assert not is_well(context_of(TABLE["situations"]["probe fails"]))
    assert not is_well(context_of(TABLE["situations"]["starting"]))
    assert set(REQUIRED_FACTS) == {strategy for strategy in Strategy if strategy.automatic}


def step(name: StepSpec, seconds: int, *, target: str = "web", ok: bool | None = True) -> RecoveryStep:
    began = NOON + timedelta(seconds=seconds)
    ended = None if ok is None else began + timedelta(seconds=1)
    return RecoveryStep(name=str(name), target=target, ok=ok, detail="", started_at=began, ended_at=ended)


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        ({"state": "running"}, ["pull", "restart", "verify"]),
        ({"finished_at": NOON + timedelta(seconds=30), "exit_code": 137}, ["pull"]),
        ({"finished_at": NOON, "exit_code": 137}, ["pull", "restart", "verify"]),
        ({"finished_at": NOON + timedelta(seconds=30), "exit_code": 0}, ["pull", "restart", "verify"]),
        ({"service": "db", "finished_at": NOON + timedelta(seconds=30), "exit_code": 1}, ["pull", "restart", "verify"]),
    ],
    ids=["it runs", "it failed since", "it failed before", "it did its work since", "another failed since"],
)
def test_a_start_holds_until_its_container_fails(facts: dict[str, Any], kept: list[str]) -> None:
    steps = (step(StepSpec.PULL, 0, target="shop/web"), step(StepSpec.RESTART, 2), step(StepSpec.VERIFY, 4, ok=None))
    seen = container(facts.pop("service", "web"), facts.pop("state", "exited"), **facts)
    assert [one.name for one in without_lost_starts(steps, [seen])] == kept
