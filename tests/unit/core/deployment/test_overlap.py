"""Whether a service can be replaced start-first, and if not, why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.deployment.overlap import (
    beside_name,
    decide_overlap,
    fixed_subnets,
    goes_forward,
    missing_in_proxy,
    proxies_of,
    proxies_to_try,
    reload_command,
    surplus,
    unproven_networks,
    wants_overlap,
)
from core.deployment.plan import plan, plan_id
from models.compose import (
    Application,
    DependsOn,
    HealthcheckDeclaration,
    Interruption,
    Mount,
    MountKind,
    NetworkDeclaration,
    Plan,
    PlannedAction,
    PlannedService,
    PublishedPort,
    ServiceDeclaration,
    VolumeDeclaration,
)
from models.containers import ContainerState
from models.environments import Environment
from models.overlap import OverlapDecision, RunProgram
from tests.support.fronts import CADDY, HAPROXY, NGINX, TRAEFIK

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEB = ServiceDeclaration(
    name="web",
    image="shop:2",
    restart="always",
    healthcheck=HealthcheckDeclaration(test=("CMD", "true")),
    networks=("default",),
    config_hash="b" * 64,
)
PROXY = replace(WEB, name="proxy", image="caddy", ports=(PublishedPort(target=80, published=80),))
DEFAULT = NetworkDeclaration(key="default", name="shop_default")
RUNS = ContainerState(
    container_id="0123456789abcdef",
    name="shop-web-1",
    service="web",
    project="shop",
    number=1,
    image="shop:1",
    image_id="sha256:1",
    state="running",
    seen_at=NOON,
    started_at=NOON,
    config_hash="a" * 64,
)


def environment(**web: object) -> Environment:
    return Environment.model_validate(
        {"name": "shop", "project": "shop", "compose_files": (Path("compose.yaml"),), "services": {"web": web}}
    )


def application(
    web: ServiceDeclaration = WEB, *others: ServiceDeclaration, networks: tuple[NetworkDeclaration, ...] = (DEFAULT,)
) -> Application:
    services = {one.name: one for one in (web, PROXY, *others)}
    volumes = (VolumeDeclaration(key="data", name="shop_data"),)
    return Application(project="shop", services=services, networks=networks, volumes=volumes)


def decided(
    web: ServiceDeclaration = WEB,
    *others: ServiceDeclaration,
    program: RunProgram | None = None,
    seen: tuple[ContainerState, ...] = (RUNS,),
    **settings: object,
) -> OverlapDecision:
    programs = {"web": program} if program else {}
    return decide_overlap(application(web, *others), "web", environment(**settings), seen, programs)


def test_a_service_without_state_and_fixed_ports_can_overlap() -> None:
    assert decided() == OverlapDecision(possible=True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ports": (PublishedPort(target=80, published=8080),)}, "port 8080 of the host is fixed"),
        ({"container_name": "shop"}, "the name shop of its container is fixed"),
        ({"network_mode": "host"}, "it uses the network, processes or volumes of host"),
        (
            {"network_mode": "service:proxy", "inside_of": ("proxy",)},
            "it uses the network, processes or volumes of service:proxy",
        ),
        ({"inside_of": ("proxy",)}, "it uses the network, processes or volumes of proxy"),
        ({"fixed_address": "172.30.0.9"}, "its address 172.30.0.9 is fixed"),
        (
            {"mounts": (Mount(kind=MountKind.VOLUME, target="/data", source="data"),)},
            "it may write volume data; mount it read-only, or name it in shared_volumes of the service",
        ),
        (
            {"mounts": (Mount(kind=MountKind.BIND, target="/data", source="/srv/data"),)},
            "it may write path /srv/data; mount it read-only, or name it in shared_volumes of the service",
        ),
        (
            {"mounts": (Mount(kind=MountKind.VOLUME, target="/data"),)},
            "it may write volume /data; mount it read-only, or name it in shared_volumes of the service",
        ),
        ({"one_shot": True}, "it is a job"),
        (
            {"healthcheck": None},
            "it has no health check and no probe, so nothing says when the new container serves",
        ),
        ({"replicas": 2}, "1 of 2 containers run now"),
    ],
)
def test_what_only_one_container_can_have_prevents_overlap(change: dict[str, object], why: str) -> None:
    web = replace(WEB, **change)  # type: ignore[arg-type]

    assert decided(web) == OverlapDecision(possible=False, because=why)


@pytest.mark.parametrize(
    "mount",
    [
        Mount(kind=MountKind.VOLUME, target="/data", source="data", read_only=True),
        Mount(kind=MountKind.TMPFS, target="/tmp"),
        Mount(kind=MountKind.BIND, target="/var/run/docker.sock", source="/var/run/docker.sock"),
    ],
)
def test_mounts_that_it_does_not_write_alone_are_no_reason(mount: Mount) -> None:
    assert decided(replace(WEB, mounts=(mount,))).possible


@pytest.mark.parametrize("name", ["data", "shop_data", "/data"])
def test_a_volume_that_two_may_write_is_no_reason(name: str) -> None:
    web = replace(WEB, mounts=(Mount(kind=MountKind.VOLUME, target="/data", source="data"),))

    assert decided(web, shared_volumes=[name]).possible


def test_a_port_that_the_engine_chooses_is_no_reason() -> None:
    assert decided(replace(WEB, ports=(PublishedPort(target=80, published=None),))).possible


def test_a_program_that_keeps_data_never_overlaps() -> None:
    found = decided(program=RunProgram(name="PostgreSQL", stateful=True), order="start-first")

    assert found.because == "it runs PostgreSQL, which keeps data, and two of it must not run at once"


def test_a_program_that_logs_in_elsewhere_never_overlaps() -> None:
    by_program = decided(program=RunProgram(name="Discord bot", outside_logins=True))

    assert by_program == decided(outside_logins=True)
    assert by_program.because == "it logs in elsewhere, and two of it would answer twice"


def test_a_container_that_another_service_lives_in_is_not_overlapped() -> None:
    beside = replace(WEB, name="sidecar", networks=(), inside_of=("web",), network_mode="service:web")

    assert decided(WEB, beside).because == "sidecar lives inside of its container"


def test_an_anonymous_volume_prevents_overlap() -> None:
    found = decided(seen=(replace(RUNS, anonymous_volumes=("/var/lib/x",)),))

    assert found.because == "its image keeps data in an anonymous volume (/var/lib/x)"


def test_a_service_that_does_not_run_is_not_overlapped() -> None:
    assert decided(seen=(replace(RUNS, state="exited"),)).because == "0 of 1 containers run now"


def test_replicas_that_all_run_can_overlap() -> None:
    two = (RUNS, replace(RUNS, container_id="fedcba9876543210", name="shop-web-2", number=2))

    assert decided(replace(WEB, replicas=2), seen=two).possible


def test_a_probe_or_a_check_of_the_image_proves_enough() -> None:
    unchecked = replace(WEB, healthcheck=None)

    assert decided(unchecked, probe={"kind": "tcp", "port": 80}).possible
    assert decided(unchecked, seen=(replace(RUNS, health="healthy"),)).possible


def test_the_environment_decides_before_the_compose_file() -> None:
    by_file = replace(WEB, update_order="start-first")

    assert wants_overlap(by_file, environment())
    assert not wants_overlap(by_file, environment(order="stop-first"))
    assert wants_overlap(WEB, environment(order="start-first"))
    assert not wants_overlap(WEB, environment())


def test_connections_that_are_closed_once_are_said() -> None:
    db = replace(WEB, name="db", image="postgres")
    web = replace(WEB, depends_on={"db": DependsOn()})

    assert "connections to db are closed once" in decided(web, db).note


def test_a_network_of_what_it_needs_alone_is_left_as_it_is() -> None:
    back = NetworkDeclaration(key="back", name="shop_back")
    web = replace(WEB, depends_on={"db": DependsOn()}, networks=("back", "default"))
    made = application(web, replace(WEB, name="db", networks=("back",)), networks=(DEFAULT, back))

    assert unproven_networks(made, "web") == ("shop_default",)
    assert decide_overlap(made, "web", environment(), [RUNS], {}).note == ""


def test_a_container_behind_traefik_has_its_names_from_the_beginning() -> None:
    assert unproven_networks(application(), "web", ["traefik"]) == ()
    assert unproven_networks(application(), "web", ["caddy"]) == ("shop_default",)


def test_proxies_in_its_network_are_recognised() -> None:
    programs = {"proxy": RunProgram(name="Caddy", proxy="caddy"), "web": RunProgram(name="nginx", proxy="nginx")}

    assert proxies_of(application(), "web", environment(), programs) == {"proxy": "caddy"}
    assert proxies_of(application(), "web", environment(proxy="edge"), programs) == {"edge": ""}


def test_a_proxy_is_tried_where_its_files_are_all_that_changes_of_what_it_leads_to() -> None:
    def tried(proxy: PlannedAction, web: PlannedAction, status: int = 200, kind: str = "nginx") -> tuple[str, ...]:
        actions = {"web": web, "proxy": proxy}
        lines = tuple(PlannedService(service=name, action=one, because="", wave=0) for name, one in actions.items())
        programs = {"proxy": RunProgram(name=kind, proxy=kind)}
        planned = Plan(project="shop", services=lines, waves=(("web", "proxy"),))
        return proxies_to_try(planned, application(), environment(), programs, {"proxy": status})

    restart, keep = PlannedAction.RESTART, PlannedAction.KEEP
    assert tried(restart, keep) == ("proxy",)
    assert tried(restart, keep, kind="haproxy") == ("proxy",)
    # The new version of what is behind it may listen where the new files look for it.
    assert tried(restart, PlannedAction.RECREATE) == ()
    assert tried(keep, keep) == tried(PlannedAction.RECREATE, keep) == ()
    # It answers for nothing behind it already.
    assert tried(restart, keep, status=502) == ()
    # A second one would ask for certificates, too.
    assert tried(restart, keep, kind="caddy") == ()


@pytest.mark.parametrize(
    ("kind", "text", "lacking"),
    [
        ("haproxy", HAPROXY, ""),
        ("caddy", CADDY, ""),
        ("nginx", NGINX, ""),
        ("caddy", "", ""),
        ("caddy", ":80 { reverse_proxy web:8000 }", "does not try again: its configuration has no lb_try_duration"),
        (
            "haproxy",
            "backend app\n  server web web:8000",
            (
                "keeps the addresses that it found when it started: its configuration has no resolvers, "
                "server-template, option redispatch, retry-on"
            ),
        ),
        ("nginx", "proxy_next_upstream  off;", "does not try another address"),
        ("traefik", TRAEFIK, ""),
        ("traefik", "http: {routers: {}}", ""),
        (
            "traefik",
            "entryPoints: {web: {address: ':80'}}",
            "notices late that a container has ended: its configuration has no providersThrottleDuration, dialTimeout",
        ),
    ],
)
def test_what_a_proxy_lacks_is_said(kind: str, text: str, lacking: str) -> None:
    found = missing_in_proxy("front", kind, text)

    assert lacking in found
    assert bool(found) is bool(lacking)


@pytest.mark.parametrize(
    ("command", "reload"),
    [
        (["nginx", "-g", "daemon off;"], ("nginx", "-s", "reload")),
        (["nginx", "-c", "/conf/nginx.conf"], ("nginx", "-c", "/conf/nginx.conf", "-s", "reload")),
        (["sh", "-c", "exec nginx -c /conf/own.conf"], ("nginx", "-c", "/conf/own.conf", "-s", "reload")),
    ],
)
def test_nginx_is_reloaded_with_its_own_file(command: list[str], reload: tuple[str, ...]) -> None:
    assert reload_command(command) == reload


def test_the_name_of_a_container_says_which_one_it_is_beside() -> None:
    beside = replace(RUNS, name=beside_name(RUNS))

    assert beside.replaces == ("0123456789ab", "shop-web-1")
    assert RUNS.replaces is None


def test_containers_that_were_made_to_be_copied_are_surplus() -> None:
    made = replace(RUNS, container_id="f" * 16, name="shop-web-2", number=2, state="created", started_at=None)

    assert surplus(WEB, [RUNS, made]) == (made,)
    assert surplus(WEB, [made]) == ()


@pytest.mark.parametrize(
    ("new", "old", "joined", "old_named", "back", "forward"),
    [
        ("running", "running", True, True, False, True),
        ("running", "running", True, True, True, False),
        ("running", "running", True, False, True, True),
        ("running", "running", False, True, False, False),
        ("exited", "running", True, True, False, False),
        ("running", "exited", True, True, True, True),
        ("exited", "exited", True, True, False, False),
        ("exited", None, True, True, True, True),
    ],
)
def test_an_interrupted_replacement_is_finished_only_where_the_new_one_serves(
    new: str, old: str | None, joined: bool, old_named: bool, back: bool, forward: bool
) -> None:
    before = None if old is None else replace(RUNS, state=old)

    found = goes_forward(replace(RUNS, state=new), before, joined=joined, old_named=old_named, back=back)

    assert found is forward


def test_the_plan_says_that_nothing_is_interrupted_or_why_it_is() -> None:
    made = application()
    can = plan(made, [RUNS], overlaps={"web": OverlapDecision(possible=True, note="a note")})
    cannot = plan(made, [RUNS], overlaps={"web": OverlapDecision(possible=False, because="port 80 is fixed")})

    assert (can.service("web").start_first, can.service("web").interruption, can.service("web").note) == (
        True,
        Interruption.NONE,
        "a note",
    )
    assert cannot.service("web").interruption is Interruption.REPLACED
    assert cannot.service("web").stop_first_because == "port 80 is fixed"
    assert plan_id(can) == plan_id(cannot)


def test_addresses_can_be_chosen_in_networks_with_a_subnet_of_the_file_alone() -> None:
    subnet = ("10.9.0.0/24",)
    fixed = replace(DEFAULT, subnets=subnet)
    others = (replace(DEFAULT, key="a", name="a"), replace(fixed, key="b", name="b", external=True))

    assert fixed_subnets(Application(project="shop", services={}, networks=(fixed, *others), volumes=())) == {
        fixed.name
    }
