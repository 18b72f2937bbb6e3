"""The copy of a hostile application: made of what Compose renders, and what Compose reads of it."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adapters.host.mounted_paths import leads_nowhere
from core.deployment.rehearsal import bound_paths, isolate

HOSTILE = """
services:
  web:
    image: nginx
    container_name: web
    privileged: true
    network_mode: host
    pid: host
    ipc: host
    cap_add: [SYS_ADMIN]
    security_opt: ["seccomp:unconfined"]
    devices: ["/dev/kmsg:/dev/kmsg"]
    restart: always
    logging: {driver: syslog}
    labels: {traefik.enable: "true"}
    volumes:
      - SOCKET:/var/run/docker.sock
      - SOCKET:/engine.sock:ro
      - FOLDER:/folder:ro
      - /:/rootfs:ro
      - /proc:/host/proc:ro
      - evil:/evil
      - outside:/outside
  api:
    image: api
    ports: ["8080:80"]
    networks: {proxy: {ipv4_address: 10.99.0.7}}
    environment: {PASSWORD: "a$$b"}
    deploy: {replicas: 3}
volumes:
  evil: {driver_opts: {type: none, o: bind, device: /}}
  outside: {external: true, name: production}
networks:
  proxy: {external: true, name: proxy}
"""


def compose(folder: Path, text: str) -> dict[str, Any]:
    file = folder / "compose.yaml"
    file.write_text(text)
    command = ["docker", "compose", "-p", "shop", "-f", str(file), "config", "--format", "json"]
    document: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return document


@pytest.fixture
def engine_socket(tmp_path: Path) -> Path:
    place = tmp_path / "folder" / "s.sock"
    place.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
    return place


def test_nothing_of_a_hostile_application_leads_out(tmp_path: Path, engine_socket: Path) -> None:
    text = HOSTILE.replace("SOCKET", str(engine_socket)).replace("FOLDER", str(engine_socket.parent))
    rendered = compose(tmp_path, text)
    mountable = {path: Path(path).is_dir() for path in bound_paths(rendered) if leads_nowhere(path)}
    assert mountable == {}

    document, told = isolate(rendered, "shop", {"web": "sha256:1"}, mountable, ())
    copy = compose(tmp_path, json.dumps(document))

    assert copy["name"] == "shop"
    assert all(network["internal"] and not network.get("external") for network in copy["networks"].values())
    assert all(not body.get("external") and not body.get("driver_opts") for body in copy["volumes"].values())
    assert {body["name"] for body in copy["volumes"].values()} >= {"shop-rehearsal_evil", "shop-rehearsal_outside"}
    for service in copy["services"].values():
        kept = {"ports", "container_name", "privileged", "network_mode", "pid", "ipc", "devices", "security_opt"}
        assert not {key for key in kept & service.keys() if service[key]}
        assert service["restart"] == "no"
        assert service["logging"] == {"driver": "json-file"}
        assert {mount["type"] for mount in service.get("volumes", ())} <= {"volume"}
        assert service["deploy"]["replicas"] == 1
    assert copy["services"]["api"]["environment"] == {"PASSWORD": "a$$b"}
    assert not copy["services"]["web"].get("cap_add")
    [lacks] = told
    for word in ("network_mode host", "privileged", "cap_add SYS_ADMIN", str(engine_socket)):
        assert word in lacks


def test_a_folder_is_looked_through_and_a_link_to_a_socket_is_one(tmp_path: Path, engine_socket: Path) -> None:
    plain = tmp_path / "plain"
    (plain / "deep").mkdir(parents=True)
    (plain / "deep" / "file").write_text("x")
    assert leads_nowhere(str(plain))
    (tmp_path / "link").symlink_to(engine_socket)
    assert not leads_nowhere(str(tmp_path / "link"))
    assert not leads_nowhere(str(tmp_path / "gone"))
    assert not leads_nowhere("/dev/null")
    assert not leads_nowhere("/proc/version")
