"""Which mounted files a release keeps, and what is mounted in their place."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from core.deployment.kept_files import (
    KeptEntry,
    copies_by_service,
    copies_in_words,
    copies_of,
    copies_of_document,
    copy_labels,
    remount,
    services_by_mount,
    why_not_configuration,
    why_unfit,
    with_copies,
    with_mounted_copies,
)
from core.deployment.plan import plan
from core.deployment.release import is_there, to_go_back_to
from models.compose import Application, Mount, MountedFile, MountKind, PlannedAction, ServiceDeclaration
from models.containers import COPIES_LABEL, RELEASE_HASH_LABEL, ContainerState
from models.records import Release

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
CONF, COPY = "/srv/shop/nginx.conf", "/data/mounted/shop/0f/nginx.conf"


def bind(source: str, target: str, *, read_only: bool = False) -> Mount:
    return Mount(kind=MountKind.BIND, source=source, target=target, read_only=read_only)


def application(*files: MountedFile, **mounts: tuple[Mount, ...]) -> Application:
    services = {name: ServiceDeclaration(name=name, image="x", mounts=mine) for name, mine in mounts.items()}
    return Application(project="shop", services=services, files=files)


@pytest.mark.parametrize(
    ("path", "target", "read_only", "is_folder", "why"),
    [
        (CONF, "/etc/nginx/nginx.conf", False, False, ""),
        (CONF, "/anywhere/else", True, False, ""),
        ("/srv/shop/app.toml", "/app/app.toml", False, False, ""),
        ("/srv/shop/Caddyfile", "/data/Caddyfile", False, False, ""),
        ("/srv/shop/conf.d", "/etc/nginx/conf.d", True, True, ""),
        ("/srv/shop/conf.d", "/etc/nginx/conf.d", False, True, "web may write to it"),
        ("/srv/shop/app.db", "/app/app.db", False, False, "web may write to it"),
        ("/srv/shop/acme.json", "/etc/traefik/acme.json", False, False, "web may write to it"),
        ("/srv/shop/users.yml", "/config/users.yml", False, False, "web may write to it"),
        ("/etc/localtime", "/etc/localtime", True, False, "it belongs to the host"),
        ("/etc/resolv.conf", "/etc/resolv.conf", True, False, "it belongs to the host"),
        ("/run/state", "/state", True, False, "it belongs to the host"),
        ("/proc/meminfo", "/host/meminfo", True, False, "it belongs to the host"),
        ("/etc/shop/nginx.conf", "/etc/nginx/nginx.conf", True, False, ""),
    ],
)
def test_only_what_no_container_writes_is_configuration(
    path: str, target: str, read_only: bool, is_folder: bool, why: str
) -> None:
    web = application(web=(bind(path, target, read_only=read_only),))
    answer = why_not_configuration(path, web, is_folder=is_folder)
    assert answer.startswith(why)
    assert bool(answer) is bool(why)


@pytest.mark.parametrize("written", [CONF, "/srv/shop"])
def test_what_another_service_may_write_is_no_configuration(written: str) -> None:
    both = application(
        web=(bind(CONF, "/etc/nginx/nginx.conf", read_only=True),), generator=(bind(written, "/generated"),)
    )
    assert why_not_configuration(CONF, both, is_folder=False).startswith("generator may write to it")


def test_a_folder_of_which_a_service_may_write_a_part_is_no_configuration() -> None:
    both = application(
        web=(bind("/srv/conf", "/etc/nginx", read_only=True),), generator=(bind("/srv/conf/sites", "/generated"),)
    )
    assert why_not_configuration("/srv/conf", both, is_folder=True).startswith("generator may write to it")


def entry(data: bytes | None = None, *, path: str = "") -> KeptEntry:
    return KeptEntry(path=path, mode=0o644, uid=0, gid=0, data=data)


def test_certificates_keys_and_what_is_not_text_are_not_kept() -> None:
    folder = entry()
    assert why_unfit([folder, entry("sérvice on;".encode("latin-1"), path="a.conf")]) == ""
    assert "certificate or key" in why_unfit([folder, entry(b"x\n-----BEGIN CERTIFICATE-----\n", path="a.pem")])
    assert why_unfit([entry(b"MZ\0")]) == "it is not text"


def test_an_entry_does_not_show_its_content() -> None:
    assert "s3cret" not in repr(entry(b"s3cret"))


DOCUMENT: dict[str, Any] = {
    "services": {
        "front": {
            "volumes": [
                {"type": "bind", "source": "${CONF}", "target": "/etc/nginx/nginx.conf", "bind": {"selinux": "z"}},
                {"type": "volume", "source": "data", "target": "/data"},
            ],
            "labels": {"a": "b"},
        },
        "job": {"labels": ["a=b"], "configs": [{"source": "rules"}]},
        "other": {"volumes": [{"type": "bind", "source": "/srv/other", "target": "/other"}]},
    },
    "configs": {"rules": {"file": "/srv/rules.yml"}},
}
DECLARED = application(
    MountedFile(kind="config", key="rules", path="/srv/rules.yml", services=("job",)),
    front=(bind(CONF, "/etc/nginx/nginx.conf"),),
    job=(),
    other=(bind("/srv/other", "/other"),),
)


def test_a_release_mounts_copies_where_it_has_them_and_says_so_in_labels() -> None:
    copies = {CONF: "/da$ta/nginx.conf", "/srv/rules.yml": "/data/rules.yml"}

    whole = with_copies(DOCUMENT, DECLARED, copies, {"front": "h1", "job": "h2"})

    front, job = whole["services"]["front"], whole["services"]["job"]
    assert front["volumes"][0] == {
        "type": "bind",
        "source": "/da$$ta/nginx.conf",
        "target": "/etc/nginx/nginx.conf",
        "bind": {"selinux": "z", "create_host_path": False},
    }
    assert front["volumes"][1] == DOCUMENT["services"]["front"]["volumes"][1]
    assert whole["configs"]["rules"]["file"] == "/data/rules.yml"
    assert front["labels"]["a"] == "b"
    assert front["labels"][RELEASE_HASH_LABEL] == "h1"
    assert job["labels"][:2] == ["a=b", f"{RELEASE_HASH_LABEL}=h2"]
    assert whole["services"]["other"] == DOCUMENT["services"]["other"]
    assert copies_of_document(whole) == {"front": (CONF,), "job": ("/srv/rules.yml",)}
    assert DOCUMENT["configs"]["rules"]["file"] == "/srv/rules.yml"


def test_without_copies_a_release_is_as_it_was_kept() -> None:
    assert with_copies(DOCUMENT, DECLARED, {}, {}) == DOCUMENT
    assert copies_of_document(DOCUMENT) == {}


@pytest.mark.parametrize("label", ["", "nonsense", "[]", '{"/a": 1}'])
def test_a_foreign_label_names_no_copies(label: str) -> None:
    assert copies_of({COPIES_LABEL: label}) == {}


def test_a_container_that_is_made_again_mounts_the_copies() -> None:
    reported: dict[str, Any] = {
        "Config": {"Labels": {"com.docker.compose.config-hash": "h1", "a": "b"}},
        "HostConfig": {"Binds": [f"{CONF}:/etc/nginx/nginx.conf:ro", "data:/data"], "Mounts": None},
        "Mounts": [{"Type": "bind", "Source": CONF, "Destination": "/etc/nginx/nginx.conf"}],
    }

    again = with_mounted_copies(reported, {CONF: COPY, "/srv/other": "/x"})

    assert again["HostConfig"]["Binds"] == [f"{COPY}:/etc/nginx/nginx.conf:ro", "data:/data"]
    assert again["Mounts"][0]["Source"] == COPY
    assert again["Config"]["Labels"] == reported["Config"]["Labels"] | copy_labels("h1", {CONF: COPY})
    assert remount(again, {COPY: CONF})["HostConfig"]["Binds"] == reported["HostConfig"]["Binds"]
    assert with_mounted_copies(reported, {"/srv/other": "/x"}) is reported


def seen(*, release_hash: str = "", copies: dict[str, str] | None = None, config_hash: str = "h1") -> ContainerState:
    return ContainerState(
        container_id="1", name="shop-front-1", service="front", project="shop", number=1, image="x", image_id="i1",
        state="running", seen_at=NOW, config_hash=config_hash, release_hash=release_hash, copies=copies or {},
    )  # fmt: skip


WITH_COPY = seen(release_hash="h1", copies={CONF: COPY}, config_hash="h9")


def release(name: str, digest: str, *, image: str = "i1") -> Release:
    return Release(
        release_id=name, environment="shop", deployment_id=name, created_at=NOW, proven=True,
        hashes={"front": "h1"}, images={"front": image}, files={CONF: digest},
    )  # fmt: skip


def test_what_mounts_copies_is_the_release_that_it_stands_for() -> None:
    assert is_there(release("r-1", "p1"), [WITH_COPY])
    assert not is_there(release("r-1", "p1"), [seen(config_hash="h9")])


def test_a_start_mounts_the_files_on_disk_again() -> None:
    declared = Application(
        project="shop", services={"front": ServiceDeclaration(name="front", image="x", config_hash="h1")}
    )
    put_back = seen(release_hash="h1", copies={CONF: COPY})
    for one in (WITH_COPY, put_back):
        line = plan(declared, [one]).service("front")
        assert line.action is PlannedAction.RECREATE
        assert line.because == f"it runs with a release's copy of {CONF}, and a start mounts what is on disk"
    assert plan(declared, [seen()]).service("front").action is PlannedAction.KEEP
    with_copies_declared = Application(
        project="shop", services={"front": ServiceDeclaration(name="front", image="x", config_hash="h9")}
    )
    assert plan(with_copies_declared, [WITH_COPY]).service("front").action is PlannedAction.KEEP


def test_a_release_that_differs_in_a_file_alone_is_gone_back_to_where_there_is_a_copy() -> None:
    releases = [release("r-3", "p2"), release("r-2", "p2"), release("r-1", "p1")]

    assert to_go_back_to(releases, [seen()], copies={"p1"}) is releases[2]
    assert to_go_back_to(releases, [seen()], copies={"p2"}) is None
    assert to_go_back_to(releases, [seen()]) is None
    older = release("r-0", "p1", image="i0")
    assert to_go_back_to([*releases, older], [seen()]) is older


def test_what_runs_with_copies_is_said_in_words() -> None:
    assert copies_in_words(copies_by_service([seen()])) == ""
    assert copies_in_words(copies_by_service([WITH_COPY])) == (
        f"copies that the release kept are mounted: front with that of {CONF}; the next start mounts the files on disk"
    )
    assert services_by_mount(DECLARED)["/srv/rules.yml"] == frozenset({"job"})
