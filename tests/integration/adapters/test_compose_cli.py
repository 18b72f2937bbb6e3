"""Compose itself: what it declares, hashes, creates and refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta

import pytest

from adapters.compose.cli import ComposeCli
from models.compose import (
    Application,
    ComposeVariable,
    DependencyCondition,
    DependsOn,
    HealthcheckDeclaration,
    MountKind,
    NetworkPlace,
    PublishedPort,
)
from models.failures import ComposeError, EngineUnreachableError
from tests.integration.adapters.conftest import IMAGE, ComposeProject

pytestmark = pytest.mark.engine
Make = Callable[..., ComposeProject]

RICH = """\
services:
  bot:
    image: IMAGE
    command: FOREVER
    environment: {TOKEN: "${TOKEN}", FIXED: "a$$b"}
    depends_on:
      redis: {condition: service_healthy, restart: true}
      migrate: {condition: service_completed_successfully}
    deploy:
      replicas: 2
      resources: {limits: {memory: 64m, cpus: "0.5"}, reservations: {memory: 32m}}
    ports: ["127.0.0.1:18080-18081:80", "9000"]
    volumes: ["./config:/config:ro", "data:/data"]
    ulimits: {nofile: {soft: 1000, hard: 2000}}
    stop_grace_period: 1m5s
    configs: [greeting]
    secrets: [token]
  redis:
    image: IMAGE
    command: FOREVER
    restart: unless-stopped
    healthcheck:
      {test: "true", interval: 1s, timeout: 2s, retries: 4, start_period: 1m, start_interval: 500ms}
  migrate: {image: IMAGE, command: ["true"]}
  sidecar: {image: IMAGE, command: FOREVER, network_mode: "service:redis"}
  debugger: {image: IMAGE, profiles: [debug]}
configs: {greeting: {content: "hello ${TOKEN} $$"}}
secrets: {token: {environment: TOKEN}}
volumes: {data: {}}
"""


def test_an_application_is_rendered_as_compose_understands_it(make_project: Make) -> None:
    project = make_project(RICH)
    application = project.compose(TOKEN="s3cret").render()
    assert application.project == project.name
    assert set(application.services) == {"bot", "redis", "migrate", "sidecar"}
    bot = application.services["bot"]
    assert bot.depends_on == {
        "migrate": DependsOn(condition=DependencyCondition.COMPLETED),
        "redis": DependsOn(condition=DependencyCondition.HEALTHY, restart=True),
    }
    assert bot.replicas == 2
    assert bot.ports == (
        PublishedPort(target=80, published=18080, published_last=18081, host_ip="127.0.0.1"),
        PublishedPort(target=9000, published=None),
    )
    assert [(mount.kind, mount.source, mount.read_only) for mount in bot.mounts] == [
        (MountKind.BIND, str(project.folder / "config"), True),
        (MountKind.VOLUME, "data", False),
    ]
    assert (bot.memory_limit_bytes, bot.memory_reservation_bytes) == (64 * 1024**2, 32 * 1024**2)
    assert (bot.cpu_limit, bot.open_files) == (0.5, 1000)
    assert bot.stop_grace_period == timedelta(seconds=65)
    redis = application.services["redis"]
    assert redis.restart == "unless-stopped"
    assert redis.healthcheck == HealthcheckDeclaration(
        test=("CMD-SHELL", "true"),
        interval=timedelta(seconds=1),
        timeout=timedelta(seconds=2),
        retries=4,
        start_period=timedelta(minutes=1),
        start_interval=timedelta(milliseconds=500),
    )
    assert (application.services["migrate"].awaited, application.services["migrate"].one_shot) == (True, True)
    assert (redis.one_shot, bot.one_shot) == (False, False)
    assert application.services["sidecar"].inside_of == ("redis",)
    assert [volume.name for volume in application.volumes] == [f"{project.name}_data"]


def test_values_of_variables_appear_nowhere_in_what_is_declared(make_project: Make) -> None:
    application = make_project(RICH).compose(TOKEN="s3cret-value").render()
    assert application.services["bot"].environment_names == ("FIXED", "TOKEN")
    assert "s3cret-value" not in repr(application)


def test_an_unset_variable_is_a_warning_reported_once(make_project: Make) -> None:
    (warning,) = make_project(RICH).compose().render().warnings
    assert warning == 'The "TOKEN" variable is not set. Defaulting to a blank string.'


def test_profiles_of_the_environment_bring_their_services(make_project: Make) -> None:
    application = make_project(RICH, profiles=["debug"]).compose(TOKEN="x").render()
    assert application.services["debugger"].profiles == ("debug",)


def test_the_variables_of_the_files_are_known_with_their_defaults(make_project: Make) -> None:
    text = 'services: {a: {image: "IMAGE", command: ["${A:?told}", "${B:-two}", "${C}"]}}'
    assert make_project(text).compose(A="x").variables() == (
        ComposeVariable(name="A", required=True),
        ComposeVariable(name="B", default="two"),
        ComposeVariable(name="C"),
    )


def test_files_that_compose_copies_at_the_start_come_with_their_content(make_project: Make) -> None:
    files = make_project(RICH).compose(TOKEN="s3cret").injections()["bot"]
    assert [(file.target, file.content, file.mode) for file in files] == [
        ("/greeting", b"hello s3cret $", 0o444),
        ("/run/secrets/token", b"s3cret", 0o444),
    ]
    assert "s3cret" not in repr(files)


def test_it_is_known_how_a_service_is_found_in_its_networks(make_project: Make) -> None:
    text = """
    services:
      one: {image: IMAGE}
      two: {image: IMAGE, networks: {back: {aliases: [store], ipv4_address: 10.9.0.7}}}
      three: {image: IMAGE, network_mode: none}
    networks: {back: {name: of-all, ipam: {config: [{subnet: 10.9.0.0/24}]}}}
    """
    compose = make_project(text).compose()
    (plain,) = compose.places("one")
    assert plain.name.endswith("_default")
    assert plain.aliases == ("one",)
    assert compose.places("two") == (NetworkPlace(name="of-all", aliases=("two", "store"), ipv4_address="10.9.0.7"),)
    assert compose.places("three") == ()


def test_a_secret_from_an_unset_variable_is_refused(make_project: Make) -> None:
    with pytest.raises(ComposeError, match="TOKEN, which is not set"):
        make_project(RICH).compose().injections()


HASHED = """\
services:
  plain:
    image: IMAGE
    command: FOREVER
    environment: {A: "$$x"}
    depends_on: {off: {condition: service_started, required: false}}
  filed: {image: IMAGE, command: FOREVER, env_file: [one.env]}
  twice: {image: IMAGE, command: FOREVER, deploy: {replicas: 2}}
  off: {image: IMAGE, profiles: [never]}
"""


def test_hashes_are_those_compose_labels_containers_with(make_project: Make) -> None:
    project = make_project(HASHED)
    (project.folder / "one.env").write_text("X=1\n")
    compose = project.compose()
    declared = compose.render()
    compose.create()
    seen = project.engine.containers.inspect_project(project.name)
    assert len(seen) == 4
    assert all(one.config_hash == declared.services[one.service].config_hash for one in seen)


def test_creating_starts_nothing_and_a_second_time_changes_nothing(make_project: Make) -> None:
    project = make_project(HASHED)
    (project.folder / "one.env").write_text("X=1\n")
    project.compose().create()
    first = project.engine.containers.inspect_project(project.name)
    assert {one.state for one in first} == {"created"}
    project.compose().create()
    assert [one.container_id for one in project.engine.containers.inspect_project(project.name)] == [
        one.container_id for one in first
    ]


def test_a_service_is_replaced_when_it_changed_or_when_reported_to(make_project: Make) -> None:
    project = make_project(HASHED)
    (project.folder / "one.env").write_text("X=1\n")
    project.compose().create()
    plain, filed = project.one("plain").container_id, project.one("filed").container_id
    (project.folder / "one.env").write_text("X=2\n")
    project.compose().create()
    assert project.one("plain").container_id == plain
    assert project.one("filed").container_id != filed
    project.compose().create(force_recreate=["plain"])
    assert project.one("plain").container_id != plain


TEMPLATE = """\
services:
  bot:
    image: IMAGE
    command: [sh, -c, 'echo ${TOKEN} "$$HOME"; sleep 1000']
    environment: {TOKEN: "${TOKEN}", ESCAPED: "$${TOKEN}"}
    env_file: [one.env, {path: "${FOLDER}/other.env", required: false}]
    labels: {note: "costs $$5"}
    build: {context: "${FOLDER}", args: [TOKEN]}
    ports: ["127.0.0.1:${PORT:-18080}:80"]
    volumes: ["${FOLDER}/config:/config:ro", "${UNSET:-${FOLDER}}:/srv:ro", "${NAMED}:/data", "./here:/here"]
    configs: [greeting, filed]
    secrets: [token]
    mem_limit: ${MEMORY:-64m}
    deploy: {replicas: "${COPIES}"}
    depends_on: {off: {condition: service_started, required: false}}
  off: {image: IMAGE, profiles: [never]}
configs: {greeting: {content: "hello ${TOKEN} $$"}, filed: {file: "${FOLDER}/filed"}}
secrets: {token: {environment: TOKEN}}
volumes: {data: {}}
"""
FILLED = {"TOKEN": "s3cret-value", "NAMED": "data", "COPIES": "2"}


def test_a_template_holds_no_value_of_a_variable_or_an_env_file(make_project: Make) -> None:
    project = make_project(TEMPLATE, secrets=[{"name": "TOKEN"}])
    (project.folder / "one.env").write_text("X=from-the-env-file\nY=${TOKEN}\n")
    template = json.dumps(project.compose(**FILLED, FOLDER="/srv/of-a-variable").template())
    assert "s3cret-value" not in template
    assert "from-the-env-file" not in template
    assert "of-a-variable" not in template


@pytest.mark.parametrize("folder", ["/srv/elsewhere", "./below"])
def test_a_template_stands_for_the_files_it_was_made_of(make_project: Make, folder: str) -> None:
    project = make_project(TEMPLATE)
    (project.folder / "one.env").write_text("X=1\n")
    of_files = project.compose(**FILLED, FOLDER=folder)
    template = json.loads(json.dumps(of_files.template()))
    project.environment.compose_files[0].unlink()
    kept = project.kept(template, **FILLED, FOLDER=folder)
    assert kept.template() == template
    assert {name: one.config_hash for name, one in kept.render().services.items()} == {
        name: one.config_hash for name, one in make_rendered(project, folder).services.items()
    }
    assert [(file.target, file.content) for file in kept.injections()["bot"]] == [
        ("/greeting", b"hello s3cret-value $"),
        ("/run/secrets/token", b"s3cret-value"),
    ]


def make_rendered(project: ComposeProject, folder: str) -> Application:
    project.environment.compose_files[0].write_text(TEMPLATE.replace("IMAGE", IMAGE))
    return project.compose(**FILLED, FOLDER=folder).render()


def test_a_template_keeps_the_containers_its_files_made(make_project: Make) -> None:
    project = make_project(HASHED)
    (project.folder / "one.env").write_text("X=1\n")
    project.compose().create()
    first = project.engine.containers.inspect_project(project.name)
    project.kept(project.compose().template()).create()
    assert [one.container_id for one in project.engine.containers.inspect_project(project.name)] == [
        one.container_id for one in first
    ]


def test_files_whose_variables_cannot_stay_unfilled_are_refused(make_project: Make) -> None:
    project = make_project("include: [below/compose.yaml]")
    below = project.folder / "below"
    below.mkdir()
    (below / "compose.yaml").write_text(f"services: {{a: {{image: '{IMAGE}', hostname: '${{OWN}}'}}}}")
    (below / ".env").write_text("OWN=included\n")
    with pytest.raises(ComposeError, match=r"services\.a would come out differently"):
        project.compose().template()


@pytest.mark.parametrize(
    ("text", "what", "advice"),
    [
        ("services: {a: {image: [", "yaml", "Correct the file"),
        ("services: {a: {image: x, depends_on: [b]}}", "undefined service", "Declare it"),
        ("services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}", "cycle", "circle"),
        ("services: {a: {image: x, colour: red}}", "colour", "Compose file format"),
        ('services: {a: {image: "${NAME:?say which}"}}', "say which", "Set that variable"),
        ("services: {a: {image: x, env_file: [gone.env]}}", "gone.env", "Make that file"),
    ],
)
def test_a_compose_error_is_reported_with_its_message_and_advice(
    make_project: Make, text: str, what: str, advice: str
) -> None:
    with pytest.raises(ComposeError) as caught:
        make_project(text).compose().render()
    assert what in caught.value.what
    assert advice in caught.value.advice


def test_an_image_that_cannot_be_had_fails_with_what_the_engine_says(make_project: Make) -> None:
    project = make_project("services: {a: {image: 'registry.invalid/nothing:1'}}")
    with pytest.raises(ComposeError) as caught:
        project.compose().create()
    assert "registry.invalid" in caught.value.what
    assert "registry" in caught.value.advice
    assert project.engine.containers.inspect_project(project.name) == []


def test_a_failed_build_is_reported_with_the_last_output_of_its_step(make_project: Make) -> None:
    project = make_project("services: {a: {build: .}}")
    (project.folder / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo no such thing && exit 9\n")
    with pytest.raises(ComposeError) as caught:
        project.compose().create()
    assert "exit code: 9; its last output: no such thing" in caught.value.what
    assert "Dockerfile" in caught.value.advice


def test_an_engine_that_is_away_is_reported_as_such(make_project: Make) -> None:
    project = make_project("services: {a: {image: IMAGE}}", engine="unix:///nowhere/docker.sock")
    with pytest.raises(EngineUnreachableError, match="unix:///nowhere"):
        project.compose().create()


def test_a_deadline_ends_compose_and_its_children(make_project: Make) -> None:
    project = make_project("services: {a: {image: IMAGE, command: FOREVER}}")
    with pytest.raises(ComposeError, match="did not end within"):
        project.compose().create(deadline=timedelta(milliseconds=1))


def test_a_missing_docker_command_is_reported(make_project: Make) -> None:
    with pytest.raises(ComposeError, match="not found"):
        make_project("services: {}").compose(PATH="/nowhere").version()


def test_the_version_is_compose_2(make_project: Make) -> None:
    assert make_project("services: {}").compose().version().startswith("2.")


def test_a_grace_period_of_nothing_is_no_grace_and_an_undeclared_one_is_ten_seconds(make_project: Make) -> None:
    text = "services: {a: {image: IMAGE, stop_grace_period: 0s}, b: {image: IMAGE}}"
    services = make_project(text).compose().render().services
    assert services["a"].stop_grace_period == timedelta(0)
    assert services["b"].stop_grace_period == timedelta(seconds=10)


@pytest.mark.parametrize("name", ["compose.yaml", ".env"])
def test_a_fifo_a_device_or_too_large_a_file_is_refused_before_compose_reads_it(make_project: Make, name: str) -> None:
    project = make_project("services: {bot: {image: IMAGE}}")
    file = project.folder / name
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    compose = ComposeCli(project.environment, {})
    with pytest.raises(ComposeError, match=f"{name} cannot be used: it is no regular file"):
        compose.render()
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(ComposeError, match="no regular file"):
        compose.render()
    file.unlink()
    file.write_bytes(b"#" * 3_500_000)
    with pytest.raises(ComposeError, match="larger than") as caught:
        compose.render()
    assert "\n" not in str(caught.value)
