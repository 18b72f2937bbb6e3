"""What a copy of an application is given, and whom a failed rehearsal blames."""

from __future__ import annotations

from typing import Any

import pytest

from core.deployment.rehearsal import HostPath, bound_paths, isolate, key_of_volume, verdict_of, volume_of, with_only
from models.compose import Application, VolumeDeclaration
from models.snapshots import FilesData

SOCKET = "/var/run/docker.sock"
PATHS = {
    SOCKET: HostPath.WITHHELD,
    "/opt/shop/web.conf": HostPath.FILE,
    "/opt/shop/static": HostPath.FOLDER,
    "/opt/shop/media": HostPath.LARGE,
    "/opt/shop/new": HostPath.MISSING,
}


def web(**fields: Any) -> dict[str, Any]:
    return {"services": {"web": {"image": "web:2", "networks": {"default": None}} | fields}}


def given(**fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = isolate(web(**fields), "shop", {}, PATHS).document["services"]["web"]
    return body


def notes(**fields: Any) -> list[str]:
    return isolate(web(**fields), "shop", {}, PATHS).notes


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
        ("use_api_socket", True),
        ("external_links", ["other_db"]),
        ("runtime", "nvidia"),
        ("gpus", "all"),
        ("userns_mode", "host"),
        ("uts", "host"),
        ("cgroup_parent", "/"),
        ("develop", {}),
        ("a_key_of_tomorrow", "host"),
    ],
)
def test_a_copy_is_not_given(key: str, value: object) -> None:
    assert key not in given(**{key: value})


def test_what_counts_for_the_verdict_is_told() -> None:
    assert notes(privileged=True, devices=["/dev/kmsg"]) == ["web is not given devices, privileged"]
    assert notes(cap_add=["SYS_ADMIN", "CHOWN"]) == ["web is not given capability SYS_ADMIN"]
    assert notes(ports=[{"target": 80}], container_name="web") == []


@pytest.mark.parametrize("mode", ["host", "bridge", "container:other"])
def test_another_network_becomes_one_of_its_own(mode: str) -> None:
    body = {"image": "web:2", "network_mode": mode}
    copy = isolate({"services": {"web": body}}, "shop", {}, PATHS)
    assert copy.document["networks"].keys() == {"default"}
    assert "network_mode" not in copy.document["services"]["web"]
    assert copy.notes == [f"web is not given network_mode {mode}"]


def test_networks_lead_nowhere_and_keep_names_only() -> None:
    document = web(networks={"front": {"aliases": ["www"], "ipv4_address": "10.1.0.2"}}) | {
        "networks": {"front": {"external": True, "name": "proxy", "driver": "macvlan", "ipam": {"config": []}}}
    }
    copy = isolate(document, "shop", {}, PATHS).document
    assert copy["networks"] == {"front": {"internal": True, "labels": {"roas.copy-of": "shop"}}}
    assert copy["services"]["web"]["networks"] == {"front": {"aliases": ["www"]}}


def test_volumes_are_its_own_whatever_they_are() -> None:
    document = web(volumes=[{"type": "volume", "source": "data", "target": "/data", "volume": {"subpath": "a"}}]) | {
        "volumes": {
            "data": {"external": True, "name": "production"},
            "unused": {"driver_opts": {"type": "none", "o": "bind", "device": "/"}},
        }
    }
    copy = isolate(document, "shop", {}, PATHS).document
    assert copy["volumes"] == {"data": {"name": "shop-rehearsal_data", "labels": {"roas.copy-of": "shop"}}}
    assert copy["services"]["web"]["volumes"] == [{"type": "volume", "source": "data", "target": "/data"}]


@pytest.mark.parametrize("read_only", [True, False])
def test_a_socket_is_never_mounted(read_only: bool) -> None:
    copy = isolate(web(volumes=[bind(SOCKET, read_only=read_only)]), "shop", {}, PATHS)
    assert copy.document["services"]["web"]["volumes"][0]["type"] == "volume"
    assert copy.notes == [f"web has an empty folder for {SOCKET}: it may lead to production or the host"]
    secret = web(secrets=[{"source": "engine"}]) | {"secrets": {"engine": {"file": SOCKET}}}
    assert bound_paths(secret) == {SOCKET}
    assert isolate(secret, "shop", {}, PATHS).document["secrets"] == {}


def test_files_are_read_only_and_folders_copies() -> None:
    assert given(volumes=[bind("/opt/shop/web.conf")])["volumes"][0]["read_only"] is True
    assert given(volumes=[bind("/opt/shop/media", read_only=True)])["volumes"][0]["type"] == "bind"
    copy = isolate(web(volumes=[bind("/opt/shop/static")]), "shop", {}, PATHS)
    assert copy.folders == {volume_of("/opt/shop/static"): "/opt/shop/static"}
    assert notes(volumes=[bind("/opt/shop/media")]) == [
        "web has an empty folder for /opt/shop/media: it is too large to be copied"
    ]
    assert notes(volumes=[bind("/opt/shop/new")]) == []
    assert isolate(web(volumes=[bind("/opt/shop/static")]), "shop", {}, PATHS, {"web"}).folders == {}


def test_a_path_that_nobody_looked_at_is_not_mounted() -> None:
    assert given(volumes=[bind("/somewhere", read_only=True)])["volumes"][0]["type"] == "volume"


def test_no_proxy_finds_it_and_no_log_leaves_it() -> None:
    body = given(labels={"traefik.enable": "true", "caddy": "x"}, environment={"VIRTUAL_HOST": "shop", "A": "1"})
    assert body["labels"] == {"roas.copy-of": "shop", "traefik.enable": "false"}
    assert body["environment"] == {"A": "1"}
    assert given(logging={"driver": "syslog"})["logging"] == {"driver": "json-file"}


def test_it_is_one_container_that_nothing_restarts() -> None:
    limits = {"limits": {"memory": "1"}, "reservations": {"devices": [{"count": 1}]}}
    body = given(restart="always", deploy={"replicas": 5, "resources": limits})
    assert (body["restart"], body["deploy"]["replicas"]) == ("no", 1)
    assert body["deploy"]["resources"] == {"limits": {"memory": "1"}, "reservations": {}}
    assert given(scale=0)["deploy"]["replicas"] == 0


def test_it_runs_the_images_that_it_is_told_and_pulls_none_of_them() -> None:
    body = isolate(web(), "shop", {"web": "copy:web"}, PATHS).document["services"]["web"]
    assert (body["image"], body["pull_policy"]) == ("copy:web", "never")


def test_what_compose_lets_another_program_provide_is_left_out() -> None:
    copy = isolate({"services": {"db": {"provider": {"type": "cloud"}}}}, "shop", {}, PATHS)
    assert copy.document["services"] == {}
    assert copy.notes == ["db is no container and is left out"]


def test_one_change_brings_what_it_needs_and_no_other() -> None:
    now = {"name": "c", "services": {"web": {"image": "1"}, "db": {"image": "1"}}}
    new = {
        "name": "c",
        "services": {
            "web": {"image": "2", "depends_on": {"cache": {}}},
            "db": {"image": "2"},
            "cache": {"image": "2"},
            "extra": {"image": "2"},
        },
    }
    images = {name: body["image"] for name, body in with_only(now, new, {"web"})["services"].items()}
    assert images == {"web": "2", "db": "1", "cache": "2"}
    assert with_only(now, new, ())["services"].keys() == {"web", "db"}


def test_a_dependency_that_is_nowhere_is_left_out() -> None:
    now = {"name": "c", "services": {"web": {"depends_on": {"gone": {}}}}}
    assert with_only(now, {"name": "c", "services": {}}, ())["services"]["web"]["depends_on"] == {}


def test_those_that_fail_alone_are_to_blame() -> None:
    verdict, culprits = verdict_of("hook failed", {"api": "", "db": "no column", "web": ""}, "")
    assert culprits == ("db",)
    assert verdict == "it would fail. db fails alone: no column. Alone api and web would work"


def test_nobody_is_to_blame_where_they_fail_together_or_without_the_update() -> None:
    assert verdict_of("x", {"api": "", "web": ""}, "") == (
        "it would fail: x. Each change alone works, so they fail only together",
        (),
    )
    verdict, culprits = verdict_of("x", {}, "web did not start")
    assert culprits == ()
    assert "the version that runs fails in the copy too: web did not start" in verdict
    assert verdict_of("x", {}, "") == ("it would fail: x", ())


def test_files_are_found_by_key_by_name_and_by_path() -> None:
    application = Application(
        project="shop", services={}, volumes=(VolumeDeclaration(key="up", name="shop_up"),)
    )  # fmt: skip
    keys = [
        key_of_volume(FilesData(kind="files", volume=volume), application) for volume in ("up", "shop_up", "/srv")
    ]
    assert keys == ["up", "up", volume_of("/srv")]
