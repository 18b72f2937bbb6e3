from __future__ import annotations

from pathlib import Path

from core.common.dependencies import dependants_of, dependencies_of, needs_of
from models.compose import Application, DependsOn, ServiceDeclaration
from models.environments import DependencySpec, Environment, ServiceSpec
from models.metrics import DependencyType

SHOP = Environment(
    name="shop", project="shop", compose_files=(Path("c.yaml"),),
    services={"web": ServiceSpec(dependencies=(DependencySpec(service="db", type=DependencyType.OPTIONAL),))},
)  # fmt: skip
SERVICES = {
    "db": ServiceDeclaration(name="db", image="i"),
    "web": ServiceDeclaration(
        name="web", image="i", depends_on={"cache": DependsOn(required=False), "db": DependsOn()}
    ),
}


def test_what_the_environment_says_of_a_dependency_counts_before_the_compose_files() -> None:
    found = dependencies_of(SHOP, Application(project="shop", services=SERVICES))

    assert [(one.service, one.depends_on, one.dependency_type) for one in found] == [
        ("web", "cache", DependencyType.OPTIONAL),
        ("web", "db", DependencyType.OPTIONAL),
    ]
    assert needs_of(found) == {"web": ["cache", "db"]}


def test_without_an_application_the_environment_alone_says_who_needs_whom() -> None:
    assert needs_of(dependencies_of(SHOP, None)) == {"web": ["db"]}


def test_a_service_needs_the_one_that_it_lives_in() -> None:
    services = {**SERVICES, "beside": ServiceDeclaration(name="beside", image="i", inside_of=("web",))}
    found = dependencies_of(SHOP, Application(project="shop", services=services))

    assert needs_of(found)["beside"] == ["web"]
    assert dependants_of(["db"], found) == {"web", "beside"}
    assert dependants_of(["beside"], found) == set()
