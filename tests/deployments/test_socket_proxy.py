from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.unix_http import UnixConnection
from tests.deployments.events import await_event

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deployments/images/socket-proxy"

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running proxy; its socket."""
    folder = tmp_path_factory.mktemp("engine")
    name = f"roas-test-{uuid.uuid4().hex[:8]}"
    subprocess.run(["docker", "build", "--quiet", "--tag", f"{name}:test", IMAGE], check=True, capture_output=True)
    subprocess.run(
        [
            *("docker", "run", "--detach", "--rm", "--name", name, "--network", "none", "--cap-drop", "ALL"),
            *("--read-only", "--tmpfs", "/tmp", "--volume", f"{folder}:/run/engine"),
            *("--volume", "/var/run/docker.sock:/var/run/docker.sock"),
            *("--health-interval", "200ms", "--health-cmd"),
            "curl -fsS --unix-socket /run/engine/docker.sock http://engine/_ping",
            f"{name}:test",
        ],
        check=True,
        capture_output=True,
    )
    try:
        await_event(name, "health_status: healthy")
        yield folder / "docker.sock"
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=True, capture_output=True)
        subprocess.run(["docker", "image", "rm", f"{name}:test"], check=True, capture_output=True)


def ask(proxy: Path, method: str, path: str) -> tuple[int, str]:
    with closing(UnixConnection(str(proxy), seconds=10)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/_ping"),
        ("HEAD", "/_ping"),
        ("GET", "/v1.44/version"),
        ("GET", "/v1.44/containers/json?all=1"),
        ("GET", "/v1.44/images/json"),
        ("GET", "/v1.44/images/roas/redis:local/json"),
        ("GET", "/v1.44/networks/bridge"),
    ],
)
def test_the_worker_may_look(proxy: Path, method: str, path: str) -> None:
    assert ask(proxy, method, path)[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1.44/containers/nothing-of-this-name/start"),
        ("POST", "/v1.44/containers/nothing-of-this-name/restart?t=5"),
        ("DELETE", "/v1.44/containers/nothing-of-this-name"),
        ("POST", "/v1.44/exec/nothing-of-this-name/start"),
        ("POST", "/v1.44/images/nothing-of-this-name/tag?tag=1&repo=roas-release&force=0"),
        ("DELETE", "/v1.44/images/roas-release:0123456789abcdef?noprune=False"),
        ("DELETE", f"/v1.44/images/sha256:{'0' * 64}"),
    ],
)
def test_the_worker_may_act_on_containers_and_the_engine_itself_answers(proxy: Path, method: str, path: str) -> None:
    status, body = ask(proxy, method, path)
    assert status in {400, 404}
    assert "socket proxy" not in body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1.44/build"),
        ("POST", "/v1.44/images/load"),
        ("POST", "/v1.44/commit?container=x"),
        ("POST", "/v1.44/containers/x/attach"),
        ("GET", "/v1.44/containers/x/export"),
        ("GET", "/v1.44/containers/x/archive?path=/etc/shadow"),
        ("DELETE", "/v1.44/volumes/data"),
        ("DELETE", "/v1.44/images/roas/redis:local"),
        ("POST", "/v1.44/images/roas/redis:local/tag?repo=debian&tag=trixie-slim"),
        ("POST", "/v1.44/images/roas/redis:local/tag?repo=debian&repo=roas-release&tag=1"),
        ("POST", "/v1.44/volumes/prune"),
        ("POST", "/v1.44/swarm/init"),
        ("GET", "/v1.44/secrets"),
        ("GET", "/v1.44/plugins"),
        ("POST", "/v1.44/session"),
        ("POST", "/v1.44/containers/json"),
        ("GET", "/v1.44/containers/x%2f..%2fy/json"),
        ("POST", "/v1.44/containers/../build"),
    ],
)
def test_the_worker_may_not_reach_beyond(proxy: Path, method: str, path: str) -> None:
    assert ask(proxy, method, path)[0] == 403
