"""A rollback mounts the configuration files that were proven; those on disk stay as a person left them."""

from __future__ import annotations

import json
import logging
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.docker.scratch import why_not_mounted
from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.update import update
from models.compose import PlannedAction
from models.failures import BadInputError, StartFailedError
from tasks.deployment.services import read_plan
from tasks.reporting.read import read_status
from tasks.runtime.project import open_project
from tests.e2e.deployments.test_behind_a_proxy import answer
from tests.e2e.flows.conftest import Place, flows_are_recorded, place, well  # noqa: F401 - fixtures
from tests.e2e.flows.test_releases import releases
from tests.support.docker_command import docker_command
from tests.support.fronts import IMAGE, build_image, fronted
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.ports import free_port

pytestmark = [pytest.mark.engine, pytest.mark.flow]

PLANTED = b"as-in-the-file-of-a-release"


@pytest.fixture(scope="module", autouse=True)
def image() -> Iterator[None]:
    build_image()
    return


@pytest.fixture(autouse=True)
def proxies_find_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that passes requests to a wrong port does not find the right one later."""
    monkeypatch.setattr("tasks.deployment.proxies._FOUND_WITHIN_SECONDS", 5.0)


def declare(place: Place, port: int, *, folder: bool = False, **fields: object) -> Path:  # noqa: F811
    """An nginx that is healthy as long as it runs, and mounts its file alone, or its folder; that file."""
    text = fronted(place.folder, "nginx", port, version="${VERSION:-1}", order="stop-first")
    text = text.replace("[CMD, curl, -fs, 'http://127.0.0.1:8080/']", "[CMD, test, -e, /tmp/nginx.pid]")
    if not folder:
        front = text.index("front:")
        text = text[:front] + text[front:].replace("./conf:/conf:ro", "./conf/nginx.conf:/conf/nginx.conf")
        # Else a folder that both mount, and its app.py.
        text = text.replace("./conf:/conf:ro", "./conf/app.py:/conf/app.py:ro")
    place.declare(text, services="{web: {drain_seconds: 0}}", **fields)
    return place.folder / "conf" / "nginx.conf"


def edit(file: Path, old: str, new: str) -> str:
    """Change a file in its place, as `sed -i` on a mounted file would not; its text."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file.read_text()


def new_version(place: Place, number: int) -> None:  # noqa: F811
    """Change what is behind the proxy, too: its wrong file alone would be refused before anything is touched."""
    compose = place.folder / "compose.yaml"
    text, places = re.subn('"VERSION": "[^"]*"', f'"VERSION": "{number}"', compose.read_text())
    assert places == 1
    compose.write_text(text)


def sources(place: Place, service: str = "front") -> set[str]:  # noqa: F811
    """What a container mounts from the host."""
    command = ["docker", "inspect", "-f", "{{json .Mounts}}", place.container(service)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {one["Source"] for one in json.loads(printed)}


def mounted(place: Place) -> Path:  # noqa: F811
    return place.settings.data_dir.absolute() / "mounted" / "test"


def details(place: Place) -> dict[str, object]:  # noqa: F811
    with place.stores() as stores:
        return stores.operations.history(environment="test")[0].details


@pytest.mark.campaign(seconds=25)
@pytest.mark.parametrize("folder", [False, True])
async def test_an_update_with_a_wrong_file_goes_back_to_the_proven_one_until_it_is_mended(
    place: Place,  # noqa: F811
    folder: bool,
) -> None:
    port = free_port()
    file = declare(place, port, folder=folder)
    on_disk = str(file.parent if folder else file)
    good = f"# {PLANTED.decode()}\n{file.read_text()}"
    file.write_text(good)
    await startup("test")
    assert answer(port) == "200 1"
    wrong = edit(file, "http://web:8000", "http://web:8001")
    new_version(place, 2)

    with pytest.raises(StartFailedError, match="front answers 502, and answered 200 before"):
        await update("test")

    assert answer(port) == "200 1"
    assert file.read_text() == wrong
    (copy,) = sources(place)
    assert Path(copy).is_relative_to(mounted(place))
    (said,) = read_status("test")
    assert f"front with that of {on_disk}" in str(details(place)["undone"])
    assert f"front with that of {on_disk}" in said.mounted_copies
    planned = read_plan(open_project("test")).service("front")
    assert planned.action is PlannedAction.RECREATE
    assert planned.because == f"it runs with a release's copy of {on_disk}, and a start mounts what is on disk"
    with place.stores() as stores:
        (kept,) = stores.releases.latest("test")
        assert kept.proven

    # Run twice, and a start that fails for the same reason, lead to the same.
    with pytest.raises(BadInputError, match="No earlier proven release of test differs"):
        await rollback("test")
    docker_command("restart", place.container("front"))
    with pytest.raises(StartFailedError):
        await update("test")
    assert (answer(port), sources(place), file.read_text()) == ("200 1", {copy}, wrong)

    file.write_text(f"# Mended.\n{good}")
    await update("test")

    assert answer(port) == "200 2"
    assert sources(place) == {on_disk}
    assert read_status("test")[0].mounted_copies == ""
    assert [*mounted(place).iterdir()] == []
    assert all(PLANTED not in one.read_bytes() for one in (place.folder / "data").rglob("*") if one.is_file())


async def test_a_rollback_brings_back_a_release_that_differs_in_a_file_alone_though_the_file_is_broken_now(
    place: Place,  # noqa: F811
) -> None:
    port = free_port()
    file = declare(place, port)
    await startup("test")
    edit(file, "proxy_pass http://web:8000;", "return 200 other;")
    await update("test")
    assert answer(port) == "200 other"
    # nginx serves from memory, and its file would be refused.
    broken = edit(file, "return 200", "return_of 200")

    result = await rollback("test")

    assert answer(port) == "200 1"
    assert file.read_text() == broken
    assert f"front with that of {file}" in result.reason
    with place.stores() as stores:
        newest, other, oldest = stores.releases.latest("test")
    assert newest.files == oldest.files != other.files
    assert newest.hashes == oldest.hashes
    refused = await startup("test", return_state=True)
    assert refused.is_failed()
    assert "front: its configuration is not valid" in (refused.message or "")
    assert answer(port) == "200 1"
    await rollback("test")
    assert answer(port) == "200 other"


@pytest.mark.campaign(seconds=25)
async def test_an_update_of_another_service_says_nothing_of_a_file_that_is_not_mounted(place: Place) -> None:  # noqa: F811
    port = free_port()
    file = declare(place, port)
    await startup("test")
    edit(file, "http://web:8000", "http://web:8001")
    new_version(place, 2)
    with pytest.raises(StartFailedError):
        await update("test")
    new_version(place, 3)

    await update("test", services=["web"])

    assert answer(port) == "200 3"
    assert f"front with that of {file}" in read_status("test")[0].mounted_copies
    with place.stores() as stores:
        newest, before = stores.releases.latest("test")
    assert newest.files[str(file)] == before.files[str(file)]
    assert newest.hashes["front"] == before.hashes["front"]


@pytest.mark.campaign(seconds=25)
async def test_containers_that_are_put_back_with_their_values_mount_the_proven_file(place: Place) -> None:  # noqa: F811
    port = free_port()
    variables = place.folder / "values.env"
    variables.write_text("VERSION=1\n")
    file = declare(place, port, env_files="[values.env]")
    await startup("test")
    variables.write_text("VERSION=2\n")
    wrong = edit(file, "http://web:8000", "http://web:8001")

    with pytest.raises(StartFailedError):
        await update("test")

    assert answer(port) == "200 1"
    assert file.read_text() == wrong
    assert f"front with that of {file}" in str(details(place)["undone"])
    assert details(place)["rolled_back_to"]
    assert read_plan(open_project("test")).service("front").action is PlannedAction.RECREATE


@pytest.mark.campaign(seconds=15)
async def test_without_copies_a_plan_says_so_beforehand_and_a_rollback_mounts_the_file_of_now(
    place: Place,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    monkeypatch.setenv("ROAS_KEEP_FILES", "false")
    file = declare(place, port)
    await startup("test")
    edit(file, "http://web:8000", "http://web:8001")
    new_version(place, 2)

    note = read_plan(open_project("test")).service("front").note
    with caplog.at_level(logging.WARNING), pytest.raises(StartFailedError):
        await update("test")

    assert f"keeps no copy of {file} (ROAS_KEEP_FILES is off), so a rollback would mount it as it is then" in note
    assert note in caplog.text
    assert f"there is no copy to mount of {file}, which is used as it is now" in caplog.text
    assert answer(port).startswith("502")
    assert not (place.folder / "data" / "sealed").exists()


def test_a_path_that_the_engine_does_not_see_is_not_mounted(place: Place) -> None:  # noqa: F811
    place.declare("web: {image: x}")
    engine = open_project("test").engine
    seen, absent = str(place.folder), str(place.folder / "absent")

    assert why_not_mounted(engine, [seen], IMAGE, place.project) == ""
    assert "bind source path does not exist" in why_not_mounted(engine, [seen, absent], IMAGE, place.project)

    assert place.containers() == []
    assert not Path(absent).exists()


@pytest.mark.campaign(seconds=30)
async def test_files_of_configs_and_secrets_come_back_too(place: Place) -> None:  # noqa: F811
    place.declare(well("base", configs="[rules]", secrets="[key]"))
    with (place.folder / "compose.yaml").open("a") as file:
        file.write("configs: {rules: {file: ./rules}}\nsecrets: {key: {file: ./key}}\n")
    for text in ("first", "second"):
        (place.folder / "rules").write_text(text)
        (place.folder / "key").write_text(f"{text}-secret-of-a-release")
        await startup("test")

    await rollback("test")

    command = ["docker", "exec", place.container("base"), "cat", "/rules", "/run/secrets/key"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "firstfirst-secret-of-a-release"
    assert (place.folder / "key").read_text() == "second-secret-of-a-release"
    await startup("test")
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "secondsecond-secret-of-a-release"
    data = place.folder / "data"
    assert all(b"-secret-of-a-release" not in one.read_bytes() for one in data.rglob("*") if one.is_file())


def with_values(place: Place, text: str) -> None:  # noqa: F811
    """Declare a service with values in each place that Compose takes them from."""
    place.declare(
        well(
            "base",
            env_file="[app.env]",
            environment=f"{{DB_PASSWORD: $DB_PASSWORD, API_TOKEN: {text}-literal-of-a-release}}",
            secrets="[key]",
        ),
        env_files="[values.env]",
    )
    with (place.folder / "compose.yaml").open("a") as file:
        file.write("secrets: {key: {environment: KEY}}\n")
    (place.folder / "values.env").write_text(
        f"DB_PASSWORD={text}$-password-of-a-release\nKEY={text}-key-of-a-release\n"
    )
    (place.folder / "app.env").write_text(f"MAIL_PASSWORD={text}-mail-of-a-release\n")


def values(place: Place) -> set[str]:  # noqa: F811
    """The stages whose values a container has."""
    asked = "echo $DB_PASSWORD $API_TOKEN $MAIL_PASSWORD; cat /run/secrets/key"
    command = ["docker", "exec", place.container("base"), "sh", "-c", asked]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(printed) == 4
    assert printed[0].endswith("$-password-of-a-release")
    return {one.partition("-")[0].removesuffix("$") for one in printed}


@pytest.mark.campaign(seconds=20)
async def test_values_of_a_release_come_back_by_hand_and_no_file_of_the_program_has_them(
    place: Place,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    for text in ("first", "second"):
        with_values(place, text)
        await startup("test")
        assert values(place) == {text}
    app = place.folder / "app.env"

    with caplog.at_level(logging.WARNING):
        result = await rollback("test")

    assert values(place) == {"first"}
    named = f"values that the release kept are used, of DB_PASSWORD, {app}, services.base.environment.API_TOKEN;"
    assert named in result.reason
    assert named in read_status("test")[0].mounted_copies
    with place.stores() as stores:
        newest, second, first = stores.releases.latest("test")
    assert (newest.variables, newest.hashes) == (first.variables, first.hashes)
    assert newest.variables != second.variables
    # Forth and back again, and then with what is set now.
    await rollback("test", release=second.release_id)
    assert values(place) == {"second"}
    await rollback("test", release=first.release_id)
    assert values(place) == {"first"}
    await startup("test")
    assert values(place) == {"second"}
    assert read_status("test")[0].mounted_copies == ""
    data = place.folder / "data"
    assert all(b"-of-a-release" not in one.read_bytes() for one in data.rglob("*") if one.is_file())
    assert "-of-a-release" not in caplog.text


@pytest.mark.campaign
async def test_without_values_a_plan_says_so_beforehand(
    place: Place,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROAS_KEEP_FILES", "false")
    with_values(place, "first")
    await startup("test")
    with_values(place, "second")

    note = read_plan(open_project("test")).service("base").note

    (release,) = releases(place)
    assert note == (
        f"release {release.release_id} keeps no value of DB_PASSWORD, {place.folder}/app.env, "
        "services.base.environment.API_TOKEN (ROAS_KEEP_FILES is off), so a rollback would use the one of then"
    )
