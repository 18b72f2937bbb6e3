"""Each fact becomes a check: one change from a known good."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.deployment.validate import refused_service, validate
from models.compose import (
    Application,
    ComposeVariable,
    DependencyCondition,
    DependsOn,
    HealthcheckDeclaration,
    ImageFact,
    Mount,
    MountKind,
    NetworkDeclaration,
    NetworkFact,
    PublishedPort,
    ServiceDeclaration,
    VolumeDeclaration,
)
from models.containers import EngineInfo, SystemSample
from models.validation import (
    Check,
    CheckSeverity,
    Facts,
    ImageWanted,
    MountWanted,
    PortWanted,
    Trouble,
    ValidationResult,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GIB = 1024**3
CRITICAL, WARNING, INFO = CheckSeverity

CHECK = HealthcheckDeclaration(test=("CMD", "redis-cli", "-e", "ping"), interval=timedelta(seconds=5))
SERVICE = ServiceDeclaration(name="redis", image="redis:7", restart="always", healthcheck=CHECK, config_hash="h")
APPLICATION = Application(project="shop", services={"redis": SERVICE})
ENGINE = EngineInfo(
    address="unix:///var/run/docker.sock",
    version="26.1.5",
    api_version="1.45",
    operating_system="Debian",
    architecture="x86_64",
    cpus=4,
    memory_bytes=8 * GIB,
    storage_driver="overlay2",
)
HOST = SystemSample(
    sampled_at=NOON,
    cpu_busy_seconds=5,
    load_1m=0.1,
    load_5m=0.1,
    load_15m=0.1,
    cpus=4,
    memory_total_bytes=8 * GIB,
    memory_available_bytes=6 * GIB,
    swap_used_bytes=0,
    disk_total_bytes=100 * GIB,
    disk_free_bytes=50 * GIB,
    inodes_total=1000000,
    inodes_free=900000,
    network_rx_bytes=0,
    network_tx_bytes=0,
    open_files_limit=20000,
)
IMAGE = ImageWanted(
    service="redis",
    reference="redis:7",
    held=ImageFact(reference="redis:7", image_id="sha256:1", platform="linux/amd64"),
)
PORT = PortWanted(service="redis", port=PublishedPort(target=6379, published=6379))
MOUNT = MountWanted(
    service="redis",
    mount=Mount(kind=MountKind.BIND, source="/app/redis.conf", target="/etc/redis.conf", read_only=True),
)
FOLDER = replace(MOUNT, mount=replace(MOUNT.mount, source="/app/redis", target="/data"))
GOOD = Facts(
    environment="dev",
    engine_url="unix:///run/docker.sock",
    engine=ENGINE,
    compose_version="2.26.1",
    declared=APPLICATION,
    images=(IMAGE,),
    ports=(PORT,),
    mounts=(MOUNT,),
    networks=(NetworkFact(name="bridge", driver="bridge", subnets=("172.17.0.0/16",)),),
    volumes=(),
    host=HOST,
    clock_offset=timedelta(milliseconds=3),
)


def judged(**changes: object) -> ValidationResult:
    return validate(replace(GOOD, **changes), NOON)  # type: ignore[arg-type]


def declared(**changes: object) -> Application:
    return replace(APPLICATION, services={"redis": replace(SERVICE, **changes)})  # type: ignore[arg-type]


def only(result: ValidationResult) -> Check:
    """The one finding there is."""
    (check,) = result.failed_checks
    return check


def test_a_good_environment_passes_every_check() -> None:
    result = judged()
    assert result.passed
    assert result.failed_checks == ()
    assert {check.name for check in result.checks} >= {"engine", "compose", "disk", "image", "ports", "networks"}
    assert result.validated_at == NOON


def test_what_was_measured_is_recorded_with_the_result() -> None:
    result = judged()
    assert result.system_resources["memory_available_bytes"] == 6 * GIB
    assert result.docker_environment["version"] == "26.1.5"
    assert result.docker_environment["images"] == {"redis:7": "sha256:1"}


@pytest.mark.parametrize(
    ("changes", "name", "severity", "words"),
    [
        ({"engine": Trouble(what="Docker engine did not answer;")}, "engine", CRITICAL, "did not answer"),
        ({"engine": replace(ENGINE, version="19.03.1")}, "engine", CRITICAL, "too old"),
        ({"engine": replace(ENGINE, warnings=("No swap limit support",))}, "engine", INFO, "No swap limit"),
        ({"compose_version": "1.29.2"}, "compose", CRITICAL, "too old"),
        ({"compose_version": Trouble(what="no Compose")}, "compose", CRITICAL, "no Compose"),
        ({"declared": Trouble(what="yaml: line 3")}, "compose_files", CRITICAL, "line 3"),
        ({"missing_variables": ("TOKEN",)}, "variables", CRITICAL, "TOKEN is not set"),
        ({"withheld_variables": ("KEY",)}, "variables", WARNING, "KEY holds a credential of this control plane"),
        (
            {"withheld_variables": ("KEY",), "variables": ("KEY",)},
            "variables",
            CRITICAL,
            "KEY holds a credential of this control plane",
        ),
        ({"missing_secrets": {"PW": "file /s is empty"}}, "secrets", CRITICAL, "PW is missing: file /s is empty"),
        ({"empty_variables": (ComposeVariable(name="X"),)}, "interpolation", WARNING, "X is empty"),
        ({"held_by": "start 12ab of somebody"}, "another_run", CRITICAL, "somebody"),
        ({"gaps": ("a proxy forbids listing networks",), "networks": None}, "gaps", WARNING, "listing networks"),
        ({"clock_offset": timedelta(minutes=-3)}, "clock", WARNING, "-180 s"),
        ({"host": replace(HOST, disk_free_bytes=1 * GIB)}, "disk", WARNING, "1.0 GiB are free"),
        ({"host": replace(HOST, disk_free_bytes=50 * 1024**2)}, "disk", CRITICAL, "Only 50 MiB"),
        ({"host": replace(HOST, inodes_free=2000)}, "inodes", WARNING, "0.2%"),
        ({"host": replace(HOST, inodes_free=10)}, "inodes", CRITICAL, "0.0%"),
        ({"host": replace(HOST, open_files_limit=256)}, "open_files", WARNING, "256"),
        ({"ports": (replace(PORT, holder="nginx (pid 7)"),)}, "ports", CRITICAL, "6379/tcp of redis is taken by nginx"),
        ({"ports": (PORT, replace(PORT, service="other"))}, "ports", CRITICAL, "redis and other at once"),
        ({"mounts": (replace(MOUNT, problem="it does not exist"),)}, "mounts", CRITICAL, "empty folder"),
        ({"mounts": (replace(FOLDER, problem="it does not exist"),)}, "mounts", WARNING, "empty folder"),
        ({"mounts": (replace(MOUNT, problem="this user may not read it"),)}, "mounts", WARNING, "may not read"),
        (
            {"declared": declared(left_aside=("pre_stop is left aside",))},
            "compose_files",
            INFO,
            "redis: pre_stop is left",
        ),
        (
            {"mounts": (replace(MOUNT, content_problem="/app/a.json does not parse: line 1"),)},
            "mounted_configuration",
            WARNING,
            "does not parse",
        ),
    ],
)
def test_each_trouble_is_one_finding(
    changes: dict[str, object], name: str, severity: CheckSeverity, words: str
) -> None:
    found = only(judged(**changes))
    assert (found.name, found.severity) == (name, severity)
    assert words in found.finding
    assert judged(**changes).passed is (severity is not CRITICAL)


def test_every_finding_has_a_fix() -> None:
    result = judged(
        missing_variables=("A",),
        missing_secrets={"B": "gone"},
        ports=(replace(PORT, holder="somebody"),),
        mounts=(replace(MOUNT, problem="it does not exist"),),
    )
    assert all(check.fix for check in result.failed_checks)
    assert len(result.recommendations) == len(result.failed_checks)


def test_what_a_silent_engine_hides_is_left_out_and_not_passed() -> None:
    names = {check.name for check in judged(engine=Trouble(what="away"), images=(), ports=(), mounts=()).checks}
    assert not names & {"image", "ports", "mounts", "networks", "volumes", "reservations", "engine_passed"}


def test_a_variable_that_no_application_gets_is_named_once_with_what_to_use_instead() -> None:
    withheld = only(judged(withheld_variables=("AWS_SECRET_ACCESS_KEY",)))
    assert withheld.fix.startswith("Use a variable of the application's own.")
    assert "under secrets of the environment" in withheld.fix
    missing = judged(withheld_variables=("KEY",), missing_secrets={"KEY": "variable KEY is not set"})
    assert only(missing).name == "secrets"


FILE_SUFFIXES = (
    *(".cfg", ".cnf", ".conf", ".crt", ".csv", ".db", ".env", ".html", ".ini", ".js", ".json", ".key", ".lua"),
    *(".pem", ".php", ".properties", ".py", ".rb", ".sh", ".sql", ".toml", ".ts", ".txt", ".xml", ".yaml", ".yml"),
)


def test_a_missing_file_stops_the_start_and_a_missing_folder_does_not() -> None:
    def severities(*ends: tuple[str, str]) -> dict[tuple[str, str], CheckSeverity]:
        mounts = [
            replace(
                MOUNT,
                mount=replace(MOUNT.mount, source=f"/app/{source}", target=f"/etc/{target}"),
                problem="it does not exist",
            )
            for source, target in ends
        ]
        return {end: only(judged(mounts=(mount,))).severity for end, mount in zip(ends, mounts, strict=True)}

    files = [(f"of_web{suffix}", f"settings{suffix}") for suffix in FILE_SUFFIXES]
    assert severities(*files) == dict.fromkeys(files, CRITICAL)
    folders = [("conf.d", "conf.d"), ("data", "data"), ("data", "a.conf"), ("a.conf", "data"), (".env.d", ".env.d")]
    assert severities(*folders) == dict.fromkeys(folders, WARNING)


def test_a_bind_that_compose_would_not_make_stops_the_start() -> None:
    strict = replace(MOUNT, mount=replace(MOUNT.mount, create_host_path=False), problem="it does not exist")
    assert only(judged(mounts=(strict,))).severity is CRITICAL


def test_a_prometheus_configuration_that_does_not_parse_stops_the_start() -> None:
    broken = replace(
        MOUNT, mount=replace(MOUNT.mount, source="/app/prometheus.yml"), content_problem="it does not parse"
    )
    assert only(judged(mounts=(broken,))).severity is CRITICAL


@pytest.mark.parametrize(
    ("port", "command"),
    [
        (replace(PORT, holder="nginx (pid 7)"), "ss -ltnp 'sport = :6379'"),
        (replace(PORT, port=replace(PORT.port, protocol="udp"), holder="a process"), "ss -lunp 'sport = :6379'"),
        (replace(PORT, holder="container other of project shop"), "docker ps --filter publish=6379"),
        (replace(PORT, port=replace(PORT.port, published_last=6400), holder="nginx (pid 7)"), "ss -ltnp"),
    ],
)
def test_a_port_that_is_taken_comes_with_the_command_that_shows_by_what(port: PortWanted, command: str) -> None:
    assert only(judged(ports=(port,))).fix.endswith(f": {command}")


def test_a_refusal_is_of_the_service_that_all_its_critical_findings_are_about() -> None:
    missing = replace(IMAGE, held=None, unavailable="manifest unknown")

    assert refused_service(judged(images=(missing,)), APPLICATION) == "redis"
    assert refused_service(judged(images=(missing,), missing_variables=("TOKEN",)), APPLICATION) is None
    assert refused_service(judged(missing_variables=("TOKEN",)), APPLICATION) is None
    assert refused_service(judged(images=(missing,)), None) is None


def test_an_unset_variable_that_is_already_reported_is_not_reported_twice() -> None:
    warned = replace(APPLICATION, warnings=('The "TOKEN" variable is not set. Defaulting to a blank string.',))
    assert only(judged(declared=warned)).severity is WARNING
    assert only(judged(declared=warned, missing_variables=("TOKEN",))).name == "variables"


def test_other_warnings_of_compose_are_passed_on() -> None:
    warned = replace(APPLICATION, warnings=("the attribute `version` is obsolete",))
    assert "obsolete" in only(judged(declared=warned)).finding


@pytest.mark.parametrize(
    ("image", "severity", "words"),
    [
        (replace(IMAGE, held=None, unavailable="no such host"), CRITICAL, "nor in the registry: no such host"),
        (replace(IMAGE, held=None, buildable=True, build_problem="its build folder /b does not exist"), CRITICAL, "/b"),
        (replace(IMAGE, held=replace(IMAGE.held, platform="linux/arm64")), WARNING, "made for linux/arm64"),  # type: ignore[type-var]
        (replace(IMAGE, missing_programs=("curl",)), WARNING, "calls curl"),
    ],
)
def test_an_image_that_will_not_do_is_found(image: ImageWanted, severity: CheckSeverity, words: str) -> None:
    found = only(judged(images=(image,)))
    assert found.severity is severity
    assert words in found.finding
    assert found.subject == "redis"


def test_a_missing_image_is_compared_with_those_that_are_here() -> None:
    missing = replace(IMAGE, held=None, unavailable="manifest unknown")
    assert "load the image from a file" in only(judged(images=(missing,))).fix
    similar = only(judged(images=(replace(missing, similar="localhost:5000/redis:8"),)))
    assert similar.fix.endswith("which is here: docker image ls localhost:5000/redis")


@pytest.mark.parametrize("image", [replace(IMAGE, held=None), replace(IMAGE, held=None, buildable=True)])
def test_an_image_that_can_be_pulled_or_built_passes(image: ImageWanted) -> None:
    assert judged(images=(image,)).failed_checks == ()


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (replace(CHECK, start_interval=timedelta(seconds=1)), "no effect without start_period"),
        (replace(CHECK, test=("CMD", "redis-cli", "ping")), "redis-cli exits 0"),
        (replace(CHECK, test=("CMD-SHELL", "redis-cli -a x PING || exit 1")), "redis-cli exits 0"),
        (replace(CHECK, test=("CMD-SHELL", "curl http://localhost/ || exit 1")), "even 500"),
        (replace(CHECK, timeout=timedelta(minutes=5)), "may hang for 300 s"),
        (replace(CHECK, test=("CMD-SHELL", "wget -q http://localhost/ || true")), "can never fail"),
        (replace(CHECK, test=("CMD-SHELL", "wget -q http://localhost/; exit 0")), "can never fail"),
        (replace(CHECK, test=("CMD", "true")), "can never fail"),
        (replace(CHECK, test=("CMD", "mysqladmin", "ping", "-u", "root")), "every login is refused"),
    ],
)
def test_a_health_check_that_never_fails_is_found(check: HealthcheckDeclaration, words: str) -> None:
    found = only(judged(declared=declared(healthcheck=check)))
    assert (found.name, found.severity) == ("health_check", WARNING)
    assert words in found.finding


@pytest.mark.parametrize(
    "test",
    [
        ("CMD", "redis-cli", "-e", "ping"),
        ("CMD-SHELL", "redis-cli -a x ping | grep PONG"),
        ("CMD-SHELL", "curl -fsS http://localhost/"),
        ("CMD-SHELL", "curl --fail http://localhost/"),
        ("CMD-SHELL", "wget -q --spider http://localhost/"),
        ("CMD-SHELL", "wget -q http://localhost/true || exit 1"),
        ("CMD", "test", "-e", "/tmp/true"),
    ],
)
def test_a_sound_health_check_is_left_alone(test: tuple[str, ...]) -> None:
    assert judged(declared=declared(healthcheck=replace(CHECK, test=test))).failed_checks == ()


def test_start_interval_needs_an_engine_that_knows_it() -> None:
    check = replace(CHECK, start_interval=timedelta(seconds=1), start_period=timedelta(seconds=30))
    assert judged(declared=declared(healthcheck=check)).failed_checks == ()
    old = judged(declared=declared(healthcheck=check), engine=replace(ENGINE, version="24.0.7"))
    assert "engine 24.0.7" in only(old).finding


def test_a_service_nothing_can_prove_is_found() -> None:
    assert "neither a health check nor a probe" in only(judged(declared=declared(healthcheck=None))).finding


def test_a_probe_of_the_environment_or_a_check_of_the_image_proves_too() -> None:
    assert judged(declared=declared(healthcheck=None), probed=frozenset({"redis"})).failed_checks == ()
    own = replace(IMAGE, held=replace(IMAGE.held, checked=True))  # type: ignore[type-var]
    assert judged(declared=declared(healthcheck=None), images=(own,)).failed_checks == ()


def test_a_job_needs_no_proof_but_its_end() -> None:
    assert judged(declared=declared(healthcheck=None, restart="no", one_shot=True)).failed_checks == ()


def test_waiting_for_the_health_of_a_service_without_check_stops_the_start() -> None:
    bot = replace(SERVICE, name="bot", depends_on={"redis": DependsOn(condition=DependencyCondition.HEALTHY)})
    services = {"bot": bot, "redis": replace(SERVICE, healthcheck=None)}
    found = only(judged(declared=replace(APPLICATION, services=services)))
    assert found.severity is CRITICAL
    assert "bot waits until redis is healthy" in found.finding


def test_dependencies_that_go_nowhere_or_in_a_circle_stop_the_start() -> None:
    assert only(judged(declared=declared(depends_on={"gone": DependsOn()}))).severity is CRITICAL
    circle = {name: replace(SERVICE, name=name, depends_on={other: DependsOn()}) for name, other in ("ab", "ba")}
    assert "a -> b -> a" in only(judged(declared=replace(APPLICATION, services=circle))).finding


@pytest.mark.parametrize(
    ("network", "words", "fix"),
    [
        (
            NetworkDeclaration(key="n", name="outer", external=True),
            "declared external and does not exist",
            "Make it: docker network create outer",
        ),
        (
            NetworkDeclaration(key="n", name="shop_n", subnets=("172.20.4.0/24",)),
            "overlaps with network bank_n",
            "Give another subnet, or remove bank_n if it is unused.",
        ),
    ],
)
def test_a_network_that_cannot_be_is_found(network: NetworkDeclaration, words: str, fix: str) -> None:
    taken = (*(GOOD.networks or ()), NetworkFact(name="bank_n", driver="bridge", subnets=("172.20.0.0/16",)))
    found = only(judged(declared=replace(APPLICATION, networks=(network,)), networks=taken))
    assert found.severity is CRITICAL
    assert words in found.finding
    assert found.fix == fix


def test_address_pools_that_are_used_up_stop_the_start() -> None:
    wanted = replace(APPLICATION, networks=(NetworkDeclaration(key="n", name="shop_n"),))
    full = tuple(NetworkFact(name=f"n{i}", driver="bridge") for i in range(31))
    assert "addresses for 0 more" in only(judged(declared=wanted, networks=full)).finding
    wide = replace(ENGINE, address_pools=(("10.0.0.0/8", 24),))
    assert judged(declared=wanted, networks=full, engine=wide).failed_checks == ()
    there = (*full[1:], NetworkFact(name="shop_n", driver="bridge"))
    assert judged(declared=wanted, networks=there).failed_checks == ()


def test_unknown_networks_and_volumes_are_not_called_missing() -> None:
    wanted = replace(
        APPLICATION,
        networks=(NetworkDeclaration(key="n", name="outer", external=True),),
        volumes=(VolumeDeclaration(key="v", name="data", external=True),),
    )
    assert judged(declared=wanted, networks=None, volumes=None).failed_checks == ()


def test_an_external_volume_must_be_there() -> None:
    wanted = replace(APPLICATION, volumes=(VolumeDeclaration(key="v", name="data", external=True),))
    assert only(judged(declared=wanted)).name == "volumes"
    assert judged(declared=wanted, volumes=("data",)).failed_checks == ()


@pytest.mark.parametrize(
    ("changes", "severity", "words"),
    [
        ({"cpu_limit": 8.0}, CRITICAL, "redis is limited to 8 processors"),
        ({"memory_limit_bytes": 64 * GIB}, WARNING, "redis may use 64.0 GiB; the machine has 8.0 GiB"),
        ({"memory_reservation_bytes": 4 * GIB, "replicas": 2}, WARNING, "The services to start reserve 8.0 GiB"),
        ({"cpu_reservation": 3.0, "replicas": 2}, WARNING, "The services reserve 6 processors"),
        ({"memory_limit_bytes": 4 * 1024**2}, CRITICAL, "redis is limited to 4 MiB of memory"),
        (
            {"memory_limit_bytes": GIB, "memory_reservation_bytes": 2 * GIB},
            CRITICAL,
            "redis reserves 2.0 GiB of memory and may use only 1.0 GiB",
        ),
    ],
)
def test_more_than_the_machine_has_is_found(changes: dict[str, object], severity: CheckSeverity, words: str) -> None:
    found = only(judged(declared=declared(**changes)))
    assert (found.name, found.severity) == ("reservations", severity)
    assert found.finding.startswith(words)


def test_more_open_files_than_the_kernel_allows_stop_the_start() -> None:
    limited = replace(HOST, open_files_most=1_048_576)
    found = only(judged(declared=declared(open_files=2_000_000), host=limited))
    assert (found.name, found.severity) == ("open_files", CRITICAL)
    assert "allows 1048576" in found.finding
    assert judged(declared=declared(open_files=1_048_576), host=limited).failed_checks == ()
    assert judged(declared=declared(open_files=2_000_000)).failed_checks == ()


def test_a_check_the_engine_never_runs_stops_the_start() -> None:
    found = only(judged(declared=declared(healthcheck=replace(CHECK, test=("redis-cli", "-e", "ping")))))
    assert found.severity is CRITICAL
    assert "begins with 'redis-cli'" in found.finding


@pytest.mark.parametrize(("restart", "findings"), [("always", 1), ("unless-stopped", 1), ("on-failure", 0), ("no", 0)])
def test_waiting_for_the_end_of_what_is_always_started_again_is_found(restart: str, findings: int) -> None:
    bot = replace(SERVICE, name="bot", depends_on={"redis": DependsOn(condition=DependencyCondition.COMPLETED)})
    services = {"bot": bot, "redis": replace(SERVICE, restart=restart, awaited=True, one_shot=True)}
    reported = [
        c for c in judged(declared=replace(APPLICATION, services=services)).failed_checks if c.name == "dependencies"
    ]
    assert len(reported) == findings
    assert all("started again whenever it ends" in check.finding for check in reported)


@pytest.mark.parametrize(
    ("wanted", "findings"), [("linux/arm64", 1), ("linux/amd64", 0), ("linux/amd64/v2", 1), (None, 0)]
)
def test_an_image_for_another_platform_than_declared_is_found(wanted: str | None, findings: int) -> None:
    assert len(judged(declared=declared(platform=wanted)).failed_checks) == findings


def test_compose_files_without_services_stop_the_start() -> None:
    assert not judged(declared=replace(APPLICATION, services={})).passed


def test_a_container_name_of_another_project_stops_the_start() -> None:
    check = only(judged(declared=declared(container_name="cache"), names_taken={"redis": "a container of project old"}))

    assert check.severity is CheckSeverity.CRITICAL
    assert check.finding == "Container name cache of redis is taken by a container of project old."
    assert check.subject == "redis"


def test_a_container_name_that_is_free_passes() -> None:
    result = judged(declared=declared(container_name="cache"))

    assert [check.passed for check in result.checks if check.name == "container_names"] == [True]
