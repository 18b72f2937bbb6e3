"""What a copy of an application is given, and whom a failed rehearsal blames."""

from __future__ import annotations

from typing import Any

import pytest

from core.deployment.rehearsal import bound_paths, isolate, verdict_of, volume_of, with_only
from models.compose import Application, VolumeDeclaration

SOCKET, FOLDER, FILE = "/var/run/docker.sock", "/opt/shop/static", "/opt/shop/web.conf"
MOUNTABLE = {FOLDER: True, FILE: False}
LABEL = {"roas.copy-of": "shop"}


def copy_of(document: dict[str, Any], *saved: str) -> tuple[dict[str, Any], list[str]]:
    return isolate(document, "shop", {}, MOUNTABLE, saved)


def web(**fields: Any) -> dict[str, Any]:
    return {"services": {"web": {"image": "web:2", "networks": {"default": None}} | fields}}


def given(**fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = copy_of(web(**fields))[0]["services"]["web"]
    return body


def lacks(**fields: Any) -> list[str]:
    return copy_of(web(**fields))[1]


def bind(source: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"type": "bind", "source": source, "target": "/data", "read_only": read_only}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ports", [{"target": 80, "published": "80"}]),
        ("container_name", "web"),
        ("build", {"context": "."}),
        ("mac_address", "02:42:ac:11:00:02"),
        ("privileged", True),
        ("devices", [{"source": "/dev/kmsg", "target": "/dev/kmsg"}]),
        ("device_cgroup_rules", ["c 1:3 mr"]),
        ("use_api_socket", True),
        ("external_links", ["other_db"]),
        ("runtime", "nvidia"),
        ("gpus", "all"),
        ("userns_mode", "host"),
        ("uts", "host"),
        ("cgroup_parent", "/"),
        ("develop", {}),
        ("post_start", [{"command": "true"}]),
        ("a_key_of_tomorrow", "host"),
    ],
)
def test_a_copy_is_not_given(key: str, value: object) -> None:
    assert key not in given(**{key: value})


def test_what_counts_for_the_verdict_is_told() -> None:
    assert lacks(privileged=True, devices=["/dev/kmsg"]) == ["web lacks devices, privileged"]
    assert lacks(cap_add=["SYS_ADMIN", "CHOWN"]) == ["web lacks cap_add SYS_ADMIN"]
    assert lacks(pid="host", ipc="host") == ["web lacks pid host, ipc host"]
    assert lacks(security_opt=["seccomp:unconfined"]) == ["web lacks security_opt seccomp:unconfined"]
    assert lacks(volumes_from=["container:other"]) == ["web lacks volumes_from container:other"]
    assert lacks(ports=[{"target": 80}], container_name="web") == []


@pytest.mark.parametrize("mode", ["host", "bridge", "container:other"])
def test_another_network_becomes_one_of_its_own(mode: str) -> None:
    copy, told = copy_of({"services": {"web": {"image": "web:2", "network_mode": mode}}})
    assert copy["networks"] == {"default": {"internal": True, "labels": LABEL}}
    assert "network_mode" not in copy["services"]["web"]
    assert told == [f"web lacks network_mode {mode}"]


@pytest.mark.parametrize("mode", ["none", "service:db"])
def test_a_network_that_leads_nowhere_stays(mode: str) -> None:
    copy, told = copy_of({"services": {"web": {"image": "web:2", "network_mode": mode}}})
    assert copy["services"]["web"]["network_mode"] == mode
    assert told == []


def test_networks_lead_nowhere_and_keep_names_only() -> None:
    document = web(networks={"front": {"aliases": ["www"], "ipv4_address": "10.1.0.2"}}) | {
        "networks": {"front": {"external": True, "name": "proxy", "driver": "macvlan", "ipam": {"config": []}}}
    }
    copy, _ = copy_of(document)
    assert copy["networks"] == {"front": {"internal": True, "labels": LABEL}}
    assert copy["services"]["web"]["networks"] == {"front": {"aliases": ["www"]}}


def test_volumes_are_its_own_whatever_they_are() -> None:
    document = web(volumes=[{"type": "volume", "source": "data", "target": "/data", "volume": {"subpath": "a"}}]) | {
        "volumes": {
            "data": {"external": True, "name": "production"},
            "unused": {"driver_opts": {"type": "none", "o": "bind", "device": "/"}},
        }
    }
    copy, _ = copy_of(document)
    assert copy["volumes"] == {"data": {"name": "shop-rehearsal_data", "labels": LABEL}}
    assert copy["services"]["web"]["volumes"] == [{"type": "volume", "source": "data", "target": "/data"}]


@pytest.mark.parametrize("read_only", [True, False])
def test_a_path_that_may_lead_out_is_never_mounted(read_only: bool) -> None:
    copy, told = copy_of(web(volumes=[bind(SOCKET, read_only=read_only)]))
    assert copy["services"]["web"]["volumes"][0]["type"] == "volume"
    assert copy["volumes"].keys() == {volume_of(SOCKET)}
    assert told == [f"web lacks {SOCKET}"]


@pytest.mark.parametrize("part", ["configs", "secrets"])
def test_no_config_or_secret_is_a_socket(part: str) -> None:
    document = web(**{part: [{"source": "engine"}]}) | {part: {"engine": {"file": SOCKET}}}
    assert bound_paths(document) == {SOCKET}
    copy, _ = copy_of(document)
    assert copy[part] == {}
    assert copy["services"]["web"][part] == []


def test_what_is_mounted_of_the_host_is_read_only() -> None:
    assert lacks(volumes=[bind(FILE)]) == [f"web lacks write access to {FILE}"]
    for source in (FILE, FOLDER):
        for read_only in (True, False):
            [mount] = given(volumes=[bind(source, read_only=read_only)])["volumes"]
            assert (mount["type"], mount["read_only"]) == ("bind", True)


@pytest.mark.parametrize("saved", ["web", FOLDER])
def test_a_folder_whose_data_is_saved_becomes_a_volume(saved: str) -> None:
    copy, told = copy_of(web(volumes=[bind(FOLDER), bind(FILE)]), saved)
    assert [mount["type"] for mount in copy["services"]["web"]["volumes"]] == ["volume", "bind"]
    assert copy["services"]["web"]["volumes"][0]["source"] == volume_of(FOLDER)
    assert f"web lacks {FOLDER}" not in told


def test_a_dollar_sign_in_a_path_is_as_compose_prints_it() -> None:
    assert bound_paths(web(volumes=[bind("/opt/$$x")])) == {"/opt/$x"}


def test_no_proxy_finds_it_and_no_log_leaves_it() -> None:
    body = given(labels={"traefik.enable": "true", "caddy": "x"}, environment={"VIRTUAL_HOST": "shop", "A": "1"})
    assert body["labels"] == LABEL | {"traefik.enable": "false"}
    assert body["environment"] == {"A": "1"}
    assert given(logging={"driver": "syslog"})["logging"] == {"driver": "json-file"}


def test_it_is_one_container_that_nothing_restarts() -> None:
    resources = {"limits": {"memory": "1"}, "reservations": {"devices": [{"count": 1}]}}
    body = given(restart="always", deploy={"replicas": 5, "resources": resources})
    assert body["restart"] == "no"
    assert body["deploy"] == {"replicas": 1, "resources": {"limits": {"memory": "1"}}}
    assert given(scale=0)["deploy"]["replicas"] == 0


def test_it_runs_the_images_that_it_is_told_and_pulls_none_of_them() -> None:
    body = isolate(web(), "shop", {"web": "sha256:1"}, {}, ())[0]["services"]["web"]
    assert (body["image"], body["pull_policy"]) == ("sha256:1", "never")


def test_what_compose_lets_another_program_provide_is_left_out() -> None:
    copy, told = copy_of({"services": {"db": {"provider": {"type": "cloud"}}}})
    assert copy["services"] == {}
    assert told == ["db is no container, and left out"]


def test_one_change_brings_what_it_needs_and_no_other() -> None:
    now = {"name": "c", "services": {"web": {"image": "1"}, "db": {"image": "1"}}}
    needs = {"depends_on": {"cache": {}}}
    new = {"name": "c", "services": {name: {"image": "2"} for name in ("db", "cache", "extra")}}
    new["services"]["web"] = {"image": "2"} | needs
    images = {name: body["image"] for name, body in with_only(now, new, {"web"})["services"].items()}
    assert images == {"web": "2", "db": "1", "cache": "2"}
    assert with_only(now, new, ())["services"].keys() == {"web", "db"}


def test_a_dependency_that_is_nowhere_is_left_out() -> None:
    now = {"name": "c", "services": {"web": {"depends_on": {"gone": {}}}}}
    assert with_only(now, {"name": "c", "services": {}}, ())["services"]["web"]["depends_on"] == {}


def test_those_that_fail_alone_are_to_blame() -> None:
    verdict, culprits = verdict_of("hook failed", {"api": "", "db": "no column", "web": ""}, "")
    assert culprits == ("db",)
    assert verdict == "it would fail. db fails alone: no column. Each alone works: api, web"


def test_no_change_is_to_blame_for_a_hook_that_fails_with_each() -> None:
    verdict = verdict_of("hook failed", {"api": "hook failed", "web": "hook failed"}, "")
    assert verdict == ("it would fail, with whichever change: hook failed", ())
    assert verdict_of("x", {"api": "x", "web": "y"}, "")[1] == ("api", "web")


def test_nobody_is_to_blame_where_they_fail_together_or_without_the_update() -> None:
    together = "it would fail: x. Each change alone works, so they fail only together"
    assert verdict_of("x", {"api": "", "web": ""}, "") == (together, ())
    verdict, culprits = verdict_of("x", {}, "web did not start")
    assert culprits == ()
    assert "the version that runs fails in the copy too: web did not start" in verdict
    assert verdict_of("x", {}, "") == ("it would fail: x", ())


def test_files_are_found_by_key_by_name_and_by_path() -> None:
    volumes = (VolumeDeclaration(key="up", name="shop_up"),)
    application = Application(project="shop", services={}, volumes=volumes)
    assert [volume_of(data, application) for data in ("up", "shop_up")] == ["up", "up"]
    assert volume_of("/srv", application) == volume_of("/srv")
