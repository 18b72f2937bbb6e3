"""What is proposed for an application that was never seen before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.programs import shipped_programs
from core.adoption.commands import read_command
from core.adoption.propose import propose
from core.adoption.recognise import recognise, repository_of
from models.adoption import AdoptionFacts, CheckedAddress, Proposal, ServiceProposal, ServiceTraits, UsedVariable
from models.compose import (
    Application,
    DependencyCondition,
    DependsOn,
    HealthcheckDeclaration,
    ServiceDeclaration,
)
from models.environments import CertificateProbe, CommandProbe, HttpProbe, PrometheusProbe, RedisProbe, TcpProbe
from models.metrics import DependencyType

PROGRAMS = shipped_programs()
CHECK = HealthcheckDeclaration(test=("CMD", "true"))


def service(name: str, **fields: Any) -> ServiceDeclaration:
    return ServiceDeclaration(**{"name": name, "image": f"acme/{name}", "restart": "always"} | fields)


def proposed(
    *services: ServiceDeclaration,
    traits: dict[str, ServiceTraits] | None = None,
    variables: tuple[UsedVariable, ...] = (),
) -> Proposal:
    facts = AdoptionFacts(
        application=Application(project="shop", services={one.name: one for one in services}),
        compose_files=(Path("/srv/shop/compose.yaml"),),
        traits=traits or {},
        variables=variables,
    )
    return propose(facts, PROGRAMS)


def starts(*words: str, **fields: Any) -> ServiceTraits:
    """The traits of a service with a command of its own."""
    return ServiceTraits(**{"command": read_command(words), "own_command": not words[0].startswith("-")} | fields)


def alone(traits: ServiceTraits = ServiceTraits(), **fields: Any) -> ServiceProposal:  # noqa: B008 - a frozen value
    [one] = proposed(service("it", **fields), traits={"it": traits}).services
    return one


@pytest.mark.parametrize(
    ("image", "program"),
    [
        ("postgres:16", "PostgreSQL"),
        ("docker.io/library/postgres:16-alpine", "PostgreSQL"),
        ("timescale/timescaledb-ha:pg16", "PostgreSQL"),
        ("mariadb:11", "MariaDB or MySQL"),
        ("mysql@sha256:0123", "MariaDB or MySQL"),
        ("valkey/valkey:8", "Redis or Valkey"),
        ("localhost:5000/redis", "Redis or Valkey"),
        ("rabbitmq:3-management", "RabbitMQ"),
        ("mongo:7", "MongoDB"),
        ("docker.elastic.co/elasticsearch/elasticsearch:8.15.0", "Elasticsearch or OpenSearch"),
        ("quay.io/minio/minio", "MinIO"),
        ("neo4j:latest", "Neo4j"),
        ("memcached", "memcached"),
        ("eclipse-mosquitto:2", "Mosquitto"),
        ("nginx:1.27", "nginx"),
        ("haproxy:3.0", "HAProxy"),
        ("caddy:2", "Caddy"),
        ("traefik:v3.1", "Traefik"),
        ("prom/prometheus:v2.54.0", "Prometheus"),
        ("grafana/grafana-oss", "Grafana"),
        ("node:22", "Node"),
    ],
)
def test_recognises_a_program_by_its_image(image: str, program: str) -> None:
    assert alone(image=image).program == program


@pytest.mark.parametrize("image", ["acme/postgres-backup", "acme/prometheus-exporter", "acme/my-redis-ui", "node-app"])
def test_a_name_that_only_resembles_one_is_not_recognised(image: str) -> None:
    assert alone(image=image).program == ""


@pytest.mark.parametrize(
    ("traits", "fields", "program", "by"),
    [
        (starts("gunicorn"), {}, "Python web server", "command gunicorn"),
        (starts("node", "x.js"), {}, "Node", "command node"),
        (starts("node"), {"environment_names": ("DISCORD_TOKEN",)}, "Discord bot",
         "variable DISCORD_TOKEN"),
        (ServiceTraits(), {"image": "node:22", "environment_names": ("DISCORD_TOKEN",)}, "Discord bot",
         "variable DISCORD_TOKEN"),
        (ServiceTraits(ports=(5432,)), {}, "PostgreSQL", "port 5432"),
        (starts("uvicorn", ports=(5432,)), {}, "Python web server", "command uvicorn"),
    ],
)  # fmt: skip
def test_recognises_a_program_by_what_else_is_known(traits, fields, program, by) -> None:
    one = alone(traits, **fields)
    assert (one.program, one.recognised_by) == (program, by)


def test_repository_is_without_registry_tag_and_digest() -> None:
    assert repository_of("ghcr.io/acme/shop:1.2@sha256:00") == "acme/shop"
    assert repository_of("localhost:5000/shop") == "shop"
    assert repository_of("redis") == "redis"


def test_each_shipped_program_is_recognised_by_each_of_its_images() -> None:
    for program in PROGRAMS:
        for image in program.images:
            found = recognise(service("it", image=image), ServiceTraits(), PROGRAMS)
            assert found is not None
            assert found.program.id == program.id, image


@pytest.mark.parametrize(
    ("image", "traits", "kind"),
    [
        ("postgres", ServiceTraits(), CommandProbe),
        ("redis", ServiceTraits(), RedisProbe),
        ("prom/prometheus", ServiceTraits(), PrometheusProbe),
        ("grafana/grafana", ServiceTraits(), HttpProbe),
        ("nginx", ServiceTraits(ports=(80,)), TcpProbe),
        ("nginx", ServiceTraits(ports=(80, 443)), TcpProbe),
        ("nginx", ServiceTraits(ports=(80, 443), targets=("/etc/letsencrypt",)), CertificateProbe),
        ("caddy", ServiceTraits(ports=(80, 443)), TcpProbe),
        ("acme/web", ServiceTraits(ports=(8000,)), TcpProbe),
        ("acme/web", ServiceTraits(checked=CheckedAddress(port=8000, path="/health")), HttpProbe),
        ("acme/worker", ServiceTraits(), type(None)),
    ],
)
def test_proposes_a_probe_that_fits(image: str, traits: ServiceTraits, kind: type) -> None:
    assert isinstance(alone(traits, image=image).spec.probe, kind)


def test_asks_the_port_that_a_proxy_offers() -> None:
    assert alone(ServiceTraits(ports=(8080,)), image="nginx").spec.probe == TcpProbe(kind="tcp", port=8080)


def test_asks_the_address_of_the_health_check() -> None:
    one = alone(ServiceTraits(ports=(9000,), checked=CheckedAddress(port=8000, path="/up")), image="acme/web")
    assert one.spec.probe == HttpProbe(kind="http", port=8000, path="/up")


@pytest.mark.parametrize(
    ("passwords", "probe"),
    [
        ({}, RedisProbe(kind="redis")),
        ({"--requirepass": "CACHE_PASSWORD"}, RedisProbe(kind="redis", password_secret="CACHE_PASSWORD")),
        ({"--requirepass": None}, TcpProbe(kind="tcp", port=6379)),
        ({"REDIS_PASSWORD": "UNKNOWN"}, TcpProbe(kind="tcp", port=6379)),
    ],
)
def test_logs_in_at_redis_only_with_a_password_that_it_can_name(passwords, probe) -> None:
    password = UsedVariable(name="CACHE_PASSWORD", is_secret=True, is_set=True)
    made = proposed(
        service("cache", image="redis"), traits={"cache": ServiceTraits(passwords=passwords)}, variables=(password,)
    )
    assert made.services[0].spec.probe == probe


JOB = {"one_shot": True, "restart": "no"}


@pytest.mark.parametrize(
    ("fields", "traits", "is_job"),
    [
        (JOB, ServiceTraits(never_restarted=True), True),
        (JOB | {"restart": "on-failure"}, ServiceTraits(), False),
        (JOB | {"restart": "on-failure", "name": "db-migrate"}, ServiceTraits(), True),
        (JOB | {"restart": "on-failure", "name": "create_topics"}, ServiceTraits(), True),
        (JOB | {"restart": "on-failure", "name": "web-initiator"}, ServiceTraits(), False),
        (JOB, ServiceTraits(never_restarted=True, called=(80,)), False),
        (JOB | {"awaited": True}, ServiceTraits(), True),
        (JOB, ServiceTraits(), False),
        (JOB | {"image": "postgres"}, ServiceTraits(never_restarted=True), False),
        (JOB | {"image": "postgres"}, starts("pg_dump", never_restarted=True), True),
        (JOB, ServiceTraits(never_restarted=True, ports=(80,)), False),
        ({}, ServiceTraits(), False),
    ],
)
def test_a_job_is_what_the_files_say_ends(fields, traits, is_job) -> None:
    name = fields.get("name", "it")
    [one] = proposed(
        service(name, **{key: fields[key] for key in fields if key != "name"}), traits={name: traits}
    ).services
    assert (one.is_job, one.spec.stabilisation_seconds) == (is_job, 0 if is_job else None)


def test_says_that_a_service_without_restart_policy_may_end_unnoticed() -> None:
    assert "exit code 0 counts as done" in alone(**JOB).remarks[-1]


def test_a_discord_bot_logs_in_outside() -> None:
    assert alone(environment_names=("DISCORD_BOT_TOKEN",)).spec.outside_logins


def test_offers_a_health_check_where_there_is_none() -> None:
    assert alone(image="postgres").health_check[0] == "CMD-SHELL"
    assert alone(image="postgres", healthcheck=CHECK).health_check == ()
    assert (
        proposed(service("it", image="redis"), traits={"it": ServiceTraits(image_checked=True)}).unchecked_services
        == ()
    )
    assert "8000" in alone(starts("uvicorn", ports=(8000,))).health_check[-1]
    assert alone(**JOB, awaited=True).health_check == ()


def test_needs_what_its_variables_name() -> None:
    made = proposed(
        service("web", depends_on={"db": DependsOn(condition=DependencyCondition.HEALTHY)}),
        service("db", image="postgres"),
        service("cache", image="redis"),
        traits={"web": ServiceTraits(hosts={"db": "DATABASE_URL", "cache": "REDIS_HOST", "web": "OWN_URL"})},
    )
    web = made.services[-1]
    assert web.dependencies == {"cache": "REDIS_HOST"}
    assert [one.service for one in web.spec.dependencies] == ["cache"]


def test_closes_no_circle_of_needs() -> None:
    made = proposed(
        service("web", depends_on={"worker": DependsOn()}),
        service("worker"),
        traits={"worker": ServiceTraits(hosts={"web": "CALLBACK_URL"})},
    )
    assert [one.dependencies for one in made.services] == [{}, {}]


def test_what_observes_is_needed_by_nothing_and_optional_only_by_a_persons_word() -> None:
    made = proposed(
        service("grafana", image="grafana/grafana"),
        service("prometheus", image="prom/prometheus"),
        traits={"grafana": ServiceTraits(hosts={"prometheus": "DATASOURCE_URL"})},
    )
    grafana, prometheus = made.services
    assert grafana.spec.required
    assert prometheus.spec.required
    assert any("required: false" in remark for remark in prometheus.remarks)
    assert grafana.spec.dependencies[0].type is DependencyType.OPTIONAL


def test_names_secrets_and_required_variables_and_no_more() -> None:
    made = proposed(
        service("web"),
        variables=(
            UsedVariable(name="DB_PASSWORD", is_secret=True, is_set=True),
            UsedVariable(name="API_KEY", is_secret=True, is_set=False),
            UsedVariable(name="TOKEN", is_secret=True, is_set=False, has_default=True),
            UsedVariable(name="DOMAIN", is_secret=False, is_set=True),
            UsedVariable(name="UNSET", is_secret=False, is_set=False),
            UsedVariable(name="TAG", is_secret=False, is_set=True, has_default=True),
        ),
    )
    assert [one.name for one in made.secrets] == ["DB_PASSWORD", "API_KEY"]
    assert made.variables == ("DOMAIN",)
    assert made.remarks == ("secret API_KEY has no value now: set the variable, or give a file under secrets",)


def test_says_that_the_file_holds_a_password() -> None:
    assert "MYSQL_ROOT_PASSWORD" in alone(ServiceTraits(passwords={"MYSQL_ROOT_PASSWORD": None})).remarks[-1]


def test_says_that_the_file_holds_no_password_of_a_file_of_variables() -> None:
    assert alone(ServiceTraits(passwords={"TOKEN": ""}, ports=(80,)), image="nginx").remarks == ()


@pytest.mark.parametrize(
    ("traits", "fields", "port"),
    [
        (ServiceTraits(image_ports=(8000,)), {}, 8000),
        (ServiceTraits(image_ports=(22, 3000)), {}, None),
        (ServiceTraits(image_ports=(22, 3000), called=(3000,)), {}, 3000),
        (ServiceTraits(image_ports=(4369, 5672)), {"image": "rabbitmq"}, None),
        (starts("node", "sync.js", image_ports=(8000,)), {}, None),
        (starts("node", "sync.js", image_ports=(8000,)), {"build": True}, 8000),
        (ServiceTraits(image_ports=(8000,)), {"name": "acme-worker"}, None),
        (ServiceTraits(image_ports=(3000, 8000)), {"build": True}, 3000),
        (ServiceTraits(image_ports=(8000,)), {"network_mode": "none"}, None),
    ],
)
def test_asks_the_port_of_an_image_that_is_here_where_it_is_sure(
    traits: ServiceTraits, fields: dict[str, Any], port: int | None
) -> None:
    name = fields.get("name", "it")
    declared = service(name, **{key: value for key, value in fields.items() if key != "name"})
    [one] = proposed(declared, traits={name: traits}).services
    probe = one.spec.probe
    assert (probe.port if isinstance(probe, TcpProbe) else None) == port


def test_takes_no_port_of_an_image_that_two_services_start_alike() -> None:
    made = proposed(
        service("api", image="acme/api"),
        service("poller", image="acme/api"),
        service("web", image="acme/web"),
        service("clock", image="acme/web"),
        service("consumer", image="acme/web"),
        traits={
            **dict.fromkeys(("api", "poller", "web"), ServiceTraits(image_ports=(5001,))),
            "clock": starts("node", "clock.js", image_ports=(5001,)),
            "consumer": ServiceTraits(image_ports=(5001,), is_worker=True),
        },
    )
    assert [one.service for one in made.services if one.spec.probe] == ["web"]


def test_prefers_the_port_that_a_program_always_serves() -> None:
    declared = alone(ServiceTraits(ports=(7473, 7474, 7687)), image="neo4j:latest")
    assert declared.spec.probe == TcpProbe(kind="tcp", port=7687)


def test_knows_its_port_in_anothers_network_by_its_image() -> None:
    inside = {"network_mode": "service:vpn"}
    made = proposed(
        service("vpn"),
        service("films", **inside),
        service("torrent", **inside),
        traits={
            "vpn": ServiceTraits(ports=(7878, 8080, 6881, 8888), image_ports=(8888,)),
            "films": ServiceTraits(image_ports=(7878,)),
            "torrent": ServiceTraits(image_ports=(6881, 8080)),
        },
    )
    assert [(one.service, one.spec.probe) for one in made.services] == [
        ("films", TcpProbe(kind="tcp", port=7878)),
        # Two of its ports are published, and its network's owner may serve none of its own.
        ("torrent", None),
        ("vpn", None),
    ]


def test_names_what_would_prove_a_service() -> None:
    [line] = alone().remarks
    assert line.startswith("nothing proves it, because no file says where it listens: give it a health check, or")
    [line] = alone(ServiceTraits(image_absent=True)).remarks
    assert "pull its image and run `roas init --force`" in line
    [line] = alone(starts("celery", "worker")).remarks
    assert "it works without a port of its own" in line
    assert "kind: command" in line


@pytest.mark.parametrize(
    ("check", "is_checked"),
    [
        (None, True),
        (HealthcheckDeclaration(), True),
        (HealthcheckDeclaration(disabled=True), False),
    ],
)
def test_keeps_the_health_check_of_an_image(check: HealthcheckDeclaration | None, is_checked: bool) -> None:
    one = alone(ServiceTraits(image_checked=True), healthcheck=check)
    assert one.checked == is_checked
    assert any("nothing proves it" in remark for remark in one.remarks) != is_checked


def test_a_name_that_no_environment_can_have_gets_defaults() -> None:
    [one] = proposed(service("My.Service", image="postgres")).services
    assert not one.spec.model_fields_set
    assert "capital letters" in one.remarks[0]
